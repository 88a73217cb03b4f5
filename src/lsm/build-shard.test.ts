// Guards that a shard's run holds every staged key once, the last of equal ones, in order; that the same input gives the same bytes; and that damage and lack of memory are refused.

import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { crc32c } from "#base/crc32c";
import { MillraceError } from "#base/errors";
import { Prng } from "#base/prng";
import { EntryView, RecordBatch } from "#kernel/entry-record";
import { hashKey } from "#kernel/key-hash";
import { KernelMemory } from "#kernel/kernel-memory";
import { readRunHeader } from "#kernel/run-format";
import { RunImage } from "#kernel/run-image";
import { systemClock as clock } from "#platform/system-clock";
import { systemFiles as files } from "#platform/system-files";
import { ShardBuilder, shardMemoryBytes, type StagedPart } from "./build-shard.ts";

const seed = { low: 1, high: 2 };
const encode = (text: string): Uint8Array => new TextEncoder().encode(text);

async function inFolder(body: (folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "millrace-shard-"));
  try {
    await body(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

/** Stages entries in parts of at most `perPart`; every third has an expiry. */
async function stage(path: string, entries: readonly (readonly [string, string])[], perPart: number): Promise<StagedPart[]> {
  const parts: StagedPart[] = [];
  const pieces: Uint8Array[] = [];
  let at = 0;
  for (let from = 0; from < entries.length; from += perPart) {
    const batch = new RecordBatch();
    const some = entries.slice(from, from + perPart);
    for (const [i, [key, value]] of some.entries()) batch.add(encode(key), 8, encode(value), i % 3 === 0 ? 9_999 : 0, 1_234);
    const bytes = batch.bytes.slice(0, batch.used);
    parts.push({ at, bytes: bytes.length, rows: some.length, crc32c: crc32c(bytes) });
    pieces.push(bytes);
    at += bytes.length;
  }
  await writeFile(path, Buffer.concat(pieces));
  return parts;
}

async function readRun(path: string): Promise<[string, string][]> {
  const bytes = await readFile(path);
  const memory = KernelMemory.create({ dataBytes: bytes.length + 64 });
  const at = memory.reserve(bytes.length);
  memory.bytes.set(bytes, at);
  const image = RunImage.attach(memory, at, bytes.length);
  image.verify();
  const entry = new EntryView();
  const read: [string, string][] = [];
  for (let position = image.first; position < image.end;) {
    position = image.entryAt(position, entry);
    read.push([new TextDecoder().decode(entry.key().slice()), new TextDecoder().decode(entry.value().slice())]);
  }
  return read;
}

test("a model: random keys, equal ones too, long values, several builds by one builder", async () => {
  await inFolder(async (folder) => {
    const given = process.env["SEED"] ?? "build-shard";
    console.log(`SEED=${given}`);
    const prng = new Prng(given);
    const builder = new ShardBuilder({ files, clock, memoryBytesMax: 512 << 20 });
    for (const [round, count] of [0, 1, 5, 3_000, 20_000, 700].entries()) {
      const keys = 1 + prng.below(count * 2 + 1);
      const entries = Array.from({ length: count }, (_, i): [string, string] => {
        const key = `${"k".repeat(prng.below(20))}${prng.below(keys)}`;
        return [`\u0000\u0007${key}`, prng.below(500) === 0 ? `${i}`.padEnd(9_000, "long") : `value ${i}`];
      });
      const path = join(folder, `staged-${round}`);
      const parts = await stage(path, entries, 1 + prng.below(2_000));
      const out = join(folder, `run-${round}`);
      const built = await builder.build({ staged: [{ path, parts }], seed }, out);
      const model = [...new Map(entries)].sort(([a], [b]) => Buffer.compare(encode(a), encode(b)));
      assert.deepEqual(await readRun(out), model);
      assert.equal(built.overtaken, entries.length - model.length);
      assert.equal(built.statistics.entries, model.length);
      const bytes = await readFile(out);
      assert.deepEqual([built.bytes, built.crc32c], [bytes.length, crc32c(bytes)], "the checksum is that of the file");
      await new ShardBuilder({ files, clock, memoryBytesMax: 512 << 20 }).build({ staged: [{ path, parts }], seed }, `${out}-again`);
      assert.ok(bytes.equals(await readFile(`${out}-again`)), "the same staged rows give the same file");
    }
  });
});

test("bug: keys that were dealt to a shard by their hash spread over all groups of its index", async () => {
  await inFolder(async (folder) => {
    const shards = 16;
    const keys = Array.from({ length: 40_000 }, (_, i) => `\u0000\u0007item:${i}`).filter(
      (key) => Number(hashKey(encode(key), seed) >> 32n) < 2 ** 32 / shards,
    );
    const path = join(folder, "staged");
    const parts = await stage(
      path,
      keys.map((key) => [key, "value"]),
      1_000,
    );
    await new ShardBuilder({ files, clock, memoryBytesMax: 512 << 20 }).build({ staged: [{ path, parts }], seed }, join(folder, "run"));
    const bytes = await readFile(join(folder, "run"));
    const header = readRunHeader(bytes);
    let empty = 0;
    for (let group = 0; group < header.groups; group += 1) {
      const at = header.indexFrom + group * 64;
      if (bytes.subarray(at, at + 12).every((tag) => tag === 0)) empty += 1;
    }
    assert.ok(empty < header.groups / 20, `${empty} of ${header.groups} groups hold nothing`);
  });
});

const refused = (code: string) => (thrown: unknown) => thrown instanceof MillraceError && thrown.code === code;

test("damaged, missing or cut staged rows are refused and leave no run", async () => {
  await inFolder(async (folder) => {
    const path = join(folder, "staged");
    const out = join(folder, "run");
    const entries = Array.from({ length: 500 }, (_, i): [string, string] => [`\u0000\u0007key ${i}`, `value ${i}`]);
    const parts = await stage(path, entries, 100);
    const builder = new ShardBuilder({ files, clock, memoryBytesMax: 512 << 20 });
    const build = (given: readonly StagedPart[], from = path): Promise<unknown> => builder.build({ staged: [{ path: from, parts: given }], seed }, out);
    await assert.rejects(build(parts, join(folder, "none")), refused("corrupt"));
    await assert.rejects(build([...parts, { at: parts.at(-1)!.at, bytes: 1 << 20, rows: 1, crc32c: 0 }]), refused("corrupt"));
    await assert.rejects(build(parts.map((part) => ({ ...part, rows: part.rows + 1 }))), refused("corrupt"));
    const bytes = await readFile(path);
    bytes[1_000]! ^= 4;
    await writeFile(path, bytes);
    await assert.rejects(build(parts), refused("corrupt"));
    assert.equal(await files.sizeOf(out), undefined);
  });
});

test("a shard that needs more memory than allowed is refused before anything is read, and says how much it needs", async () => {
  const builder = new ShardBuilder({ files, clock, memoryBytesMax: 64 << 20 });
  const parts = [{ at: 0, bytes: 200 << 20, rows: 2_000_000, crc32c: 0 }];
  assert.ok(shardMemoryBytes(2_000_000, 200 << 20) > 200 << 20);
  await assert.rejects(
    builder.build({ staged: [{ path: "/nowhere", parts }], seed }, "/nowhere/run"),
    (thrown) => refused("overloaded")(thrown) && /needs \d+ MiB/.test((thrown as Error).message),
  );
});
