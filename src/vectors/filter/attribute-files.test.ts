// Attributes in files: what is loaded answers as the JSON texts do, whichever way a filter takes; the bytes are those of docs/format/vector-attributes.md; damaged files are refused.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { Prng } from "#base/prng";
import { MillraceError } from "#base/errors";
import { KernelMemory } from "#kernel/kernel-memory";
import { kernels, kernelVariants, type KernelVariant } from "#kernel/kernels";
import { freshSeed } from "#platform/fresh-seed";
import { systemFiles } from "#platform/system-files";
import type { Files } from "#platform/files";
import { SourceFilter } from "./attribute-columns.ts";
import { attributeFile, attributeRoom, loadAttributes, type StoredAttributes, writeAttributes } from "./attribute-files.ts";
import { compileFilter } from "./filter.ts";

const seed = process.env["SEED"] ?? freshSeed();

async function inFolder(run: (files: Files, folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "attributes-"));
  try {
    await run(systemFiles, folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function load(
  files: Files,
  folder: string,
  slots: number,
  variant?: KernelVariant,
): Promise<{ stored: StoredAttributes; memory: KernelMemory; bitsAt: number }> {
  const room = await attributeRoom(files, (name) => files.join(folder, name));
  const memory = KernelMemory.create({ dataBytes: room + slots / 8 + 128 }, kernels(variant));
  const bitsAt = memory.reserve(slots / 8);
  const at = memory.reserve(room);
  const stored = await loadAttributes(files, (name) => files.join(folder, name), { memory, at, room, slots });
  assert.ok(stored !== undefined);
  return { stored, memory, bitsAt };
}

function drawText(prng: Prng): string | undefined {
  if (prng.chance(0.05)) return prng.pick([undefined, "", "no json", "[]"]);
  const fields: Record<string, unknown> = { year: prng.between(1950, 2020), price: prng.below(1_000) / 10 - 20 };
  if (prng.chance(0.9)) fields["genre"] = prng.pick(["action", "drama", "comedy", "ü", ""]);
  if (prng.chance(0.7)) fields["mixed"] = prng.pick([1, "1", "x", null, [1, "a"], true]);
  if (prng.chance(0.3)) fields["odd"] = prng.chance(0.01) ? "text" : prng.pick([-0, 0, 1e300, -5]);
  fields["id"] = `row ${prng.below(100_000)}`;
  fields["same"] = 7;
  return JSON.stringify(fields);
}

const filters = [
  ".year >= 1980 and .genre == 'action'",
  ".year < 1951",
  ".year == 1999 or .genre == 'ü'",
  "not (.year > 1990) and .price != 3",
  ".price > -0.05 and .price <= 0.05",
  ".genre in ['action', 'none']",
  ".genre != 'drama'",
  ".mixed == 1",
  "'a' in .mixed",
  ".odd >= 0",
  ".odd == 'text'",
  ".id == 'row 5'",
  "'row 77' in .id",
  ".same == 7 and .year in [1955, '1956', null]",
  ".year * 2 > 4000",
  ".missing > 1",
  "1 == 1",
  ".year > null",
  "1960 > .year",
  "5 < .price and .price < 5.2",
  ".genre == 'nowhere' or .year == 1950",
];

for (const variant of kernelVariants) {
  void test(`${variant}: promise: attributes of files answer filters as their JSON texts do (SEED=${seed})`, () =>
    inFolder(async (files, folder) => {
      const prng = new Prng(seed);
      const rows = variant === "scalar" ? 500 : 1_200;
      const slots = Math.ceil((rows * 1.1) / 32) * 32;
      const texts = Array.from({ length: rows }, () => drawText(prng));
      const rowOf = new Uint32Array(slots).fill(0xffff_ffff);
      prng
        .shuffle(Array.from({ length: slots }, (_, i) => i))
        .slice(0, rows)
        .forEach((slot, row) => (rowOf[slot] = row));
      const written = await writeAttributes(rowOf, texts, files, folder);
      assert.equal(written.length, 8);
      const { stored, memory, bitsAt } = await load(files, folder, slots, variant);
      assert.ok(stored.complete);
      const words = memory.u32.subarray(bitsAt / 4, bitsAt / 4 + slots / 32);
      let few = 0;
      for (const text of filters) {
        const filter = compileFilter(text);
        const source = new SourceFilter(stored, filter);
        const jsonOf = (slot: number): string | undefined => (rowOf[slot] === 0xffff_ffff ? undefined : texts[rowOf[slot]!]);
        const truth = Array.from({ length: slots }, (_, slot) => Number(filter.passes(jsonOf(slot))));
        const check = (how: string): void => {
          for (let slot = 0; slot < slots; slot++) {
            if (((words[slot >>> 5]! >>> (slot & 31)) & 1) !== truth[slot]) assert.fail(`${how}: ${text} of ${jsonOf(slot)} is ${truth[slot]}`);
          }
        };
        for (let slot = 0; slot < slots; slot++) if (rowOf[slot] !== 0xffff_ffff) assert.equal(stored.textOf(slot) ?? "", texts[rowOf[slot]!] ?? "");
        words.fill(0xffff_ffff);
        source.bitmap(0, slots, words);
        check("by values");
        words.fill(0xffff_ffff);
        source.bitmap(0, slots, words, { memory, at: bitsAt });
        check("by kernels");
        words.fill(0xffff_ffff);
        if (!source.fillFew(words, slots)) continue;
        few++;
        check("by orders");
      }
      assert.ok(few >= 8, `only ${few} filters were answered by orders`);
    }));
}

const goldenTexts = ['{"n":2,"t":"b"}', undefined, '{"n":1,"t":"a","m":[1]}', '{"n":1}'];

void test("the bytes are those of the format page", () =>
  inFolder(async (files, folder) => {
    const rowOf = new Uint32Array(32).fill(0xffff_ffff);
    rowOf.set([0, 1, 2, 3]);
    await writeAttributes(rowOf, goldenTexts, files, folder);
    const sums: Record<string, string> = {};
    for (const name of ["head", "numbers", "codes", "order", "dictionary", "dictionary-offsets", "texts", "text-offsets"] as const) {
      const bytes = (await files.readFile(files.join(folder, attributeFile(name))))!;
      sums[name] = `${bytes.length} ${createHash("sha256").update(bytes).digest("hex").slice(0, 16)}`;
      if (name === "order") assert.deepEqual([...new Uint32Array(bytes.slice(128).buffer)], [2, 3, 0, 2, 0, 2]);
      if (name === "dictionary") assert.equal(new TextDecoder().decode(bytes.subarray(128)), '"a""b"[1]');
    }
    assert.deepEqual(sums, golden);
  }));

/** Bytes, and the first 16 digits of SHA-256. */
const golden = {
  head: "420 367031d64eac4ed3",
  numbers: "384 92f84b3d17c6dd22",
  codes: "384 5f82ba0b8dd6a737",
  order: "152 0d9ac3ec864556b5",
  dictionary: "137 21974faed5b4b3d9",
  "dictionary-offsets": "144 9390d62a7b4c1d03",
  texts: "173 88e4b888b46b444a",
  "text-offsets": "260 6aa290c46990e61f",
};

void test(`a damaged file is refused, or holds the same (SEED=${seed})`, () =>
  inFolder(async (files, folder) => {
    const prng = new Prng(seed).fork("damage");
    const slots = 128;
    const rowOf = Uint32Array.from({ length: slots }, (_, i) => i);
    await writeAttributes(
      rowOf,
      Array.from({ length: slots }, () => drawText(prng)),
      files,
      folder,
    );
    let refused = 0;
    for (let round = 0; round < 150; round++) {
      const name = prng.pick(["head", "numbers", "codes", "order", "dictionary", "dictionary-offsets", "texts", "text-offsets"] as const);
      const path = files.join(folder, attributeFile(name));
      const whole = (await files.readFile(path))!;
      const damaged = prng.chance(0.2) ? whole.slice(0, prng.below(whole.length)) : whole.slice();
      if (damaged.length === whole.length) for (let i = 0; i < 1 + prng.below(3); i++) damaged[prng.below(damaged.length)]! ^= 1 << prng.below(8);
      await files.writeFileAtomic(path, damaged);
      try {
        const { stored } = await load(files, folder, slots);
        // What was let in must be usable, whatever it says.
        for (const text of filters) new SourceFilter(stored, compileFilter(text)).bitmap(0, slots, new Uint32Array(slots / 32));
        for (let slot = 0; slot < slots; slot++) stored.textOf(slot);
      } catch (thrown) {
        assert.ok(thrown instanceof MillraceError && thrown.code === "corrupt", String(thrown));
        refused++;
      }
      await files.writeFileAtomic(path, whole);
    }
    assert.ok(refused > 75, `only ${refused} of 150 were refused`);
  }));
