// Runs of a version, in memory and on disk, against a Map; damaged files.

import assert from "node:assert/strict";
import { test } from "node:test";
import { crc32c } from "#base/crc32c";
import { MillraceError } from "#base/errors";
import { Prng } from "#base/prng";
import { EntryRefs } from "#kernel/entry-refs";
import { EntryView, writeRecord } from "#kernel/entry-record";
import { KeyBatch } from "#kernel/key-batch";
import { KernelMemory } from "#kernel/kernel-memory";
import { keySeed } from "#kernel/key-hash";
import { Simulation, type SimulatedNode } from "#platform/simulation";
import type { RunToLoad } from "./loaded-run.ts";
import { RunFiles, runFilesBytes } from "./run-files.ts";
import { RunLoader } from "./run-loader.ts";
import { RunSet } from "./run-set.ts";
import { ScanPage } from "./scan-page.ts";
import type { ScanRange } from "./store.ts";
import { testPool } from "./store-world.contract.ts";

const bytesOf = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, "latin1"));
const textOf = (bytes: Uint8Array): string => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("latin1");

interface Row {
  readonly value: string;
  readonly expiryMs: number;
}

/** Two shards by the parity of the last byte. */
async function build(node: SimulatedNode, rows: ReadonlyMap<string, Row>): Promise<RunToLoad[]> {
  await node.files.makeFolder("/base");
  const size = { entriesMax: 20_000, recordBytesMax: 8 << 20 };
  const shards = [0, 1].map((shard) => [...rows].filter(([key]) => key.charCodeAt(key.length - 1) % 2 === shard).sort(([a], [b]) => (a < b ? -1 : 1)));
  const runs: RunToLoad[] = [];
  for (const shard of shards) {
    const memory = KernelMemory.create({ dataBytes: runFilesBytes(size) });
    const out = RunFiles.staged({ files: node.files, folder: "/base", firstNumber: 1, fileBytesTarget: Infinity, seed: keySeed(5n) }, memory, size);
    const record = new Uint8Array(64 * 1024);
    const entry = new EntryView();
    for (const [key, { value, expiryMs }] of shard) {
      const end = writeRecord(record, 0, bytesOf(key), 8, bytesOf(value), expiryMs, 0);
      assert.ok(entry.read(record, 0, end));
      if (out.stage(entry)) await out.flush();
    }
    for (const { name, bytes, headerCrc32c } of await out.finish()) runs.push({ path: `/base/${name}`, bytes, headerCrc32c });
  }
  return runs;
}

/** `lined`: nearly all of them with keys and values of which keys have lines. */
function randomRows(random: Prng, count: number, lined = false): Map<string, Row> {
  const rows = new Map<string, Row>();
  while (rows.size < count) {
    if (lined && !random.chance(0.004)) {
      const key = `\0\x01k${random.below(1_000_000)}`.padEnd(random.pick([47, 56, 61]), "-") + random.below(2);
      rows.set(key, { value: String(rows.size).padEnd(random.between(250, 320), "y"), expiryMs: random.chance(0.1) ? random.between(1, 2_000) : 0 });
      continue;
    }
    const key = `\0\x01${random.chance(0.1) ? "long".repeat(random.below(100)) : "k"}${random.below(100_000)}`;
    const bytes = random.chance(0.02) ? random.below(30_000) : random.below(300);
    rows.set(key, { value: String(rows.size).padEnd(bytes, "x"), expiryMs: random.chance(0.1) ? random.between(1, 2_000) : 0 });
  }
  return rows;
}

async function scanAll(set: RunSet, range: ScanRange): Promise<string[]> {
  const page = new ScanPage();
  const found: string[] = [];
  let rest = range;
  for (;;) {
    const more = await set.scan(rest, page);
    for (let i = 0; i < page.count; i++) found.push(`${textOf(page.keyOf(i))}=${textOf(page.valueOf(i))}`);
    if (!more) return found;
    rest = rest.reverse === true ? { ...rest, to: page.next! } : { ...rest, from: page.next! };
  }
}

for (const [storage, lined] of [
  ["memory", false],
  ["disk", false],
  ["memory", true],
  ["disk", true],
] as const) {
  test(`promise: runs in ${storage} show what a map shows, by key and in order${lined ? ", where keys have lines" : ""}`, async () => {
    const seed = Number(process.env["SEED"] ?? 3);
    const random = new Prng(seed);
    const simulation = new Simulation({ seed });
    await simulation.run(async () => {
      const node = simulation.node("a");
      const rows = randomRows(random, 3_000, lined);
      const runs = await build(node, rows);
      if (lined) {
        const [{ path } = { path: "" }] = runs;
        const file = (await node.files.readFile(path))!;
        const lines = Array.from({ length: file.length / 4_096 }, (_, block) => file[4_096 * block]! >= 0xc0 && file[4_096 * block]! < 0xff).filter(Boolean);
        assert.ok(lines.length > 30, `${lines.length} blocks of key lines`);
      }
      const set = await RunSet.open(runs, { files: node.files, clock: node.clock, pool: testPool, owner: "test", storage });
      assert.equal(set.count, rows.size);
      const present = [...rows.keys()];
      const refs = new EntryRefs();
      for (const count of [1, 16, 700]) {
        const asked = Array.from({ length: count }, () => (random.chance(0.2) ? `\0\x01none${random.below(1_000)}` : random.pick(present)));
        const keys = KeyBatch.of(asked.map(bytesOf));
        refs.reset(count);
        if (count > 1) refs.source[0] = 9; // found before, elsewhere
        await set.getMany(keys, refs, 20);
        for (const [i, key] of asked.entries()) {
          const row = rows.get(key);
          if (i === 0 && count > 1) assert.equal(refs.source[0], 9);
          else if (row === undefined) assert.equal(refs.source[i], 255, key);
          else {
            assert.ok(refs.source[i] === 20 || refs.source[i] === 21, key);
            const at = refs.at[i]!;
            assert.equal(textOf(set.memoryOf(refs.source[i]).bytes.subarray(at, at + refs.bytes[i]!)), row.value);
            assert.deepEqual([refs.kind[i], refs.expiryMs[i]], [8, row.expiryMs]);
          }
        }
      }
      const live = [...rows].filter(([, { expiryMs }]) => expiryMs === 0 || expiryMs > 1_000).sort(([a], [b]) => (a < b ? -1 : 1));
      for (const [from, to] of [
        ["", "\xff"],
        ["\0\x01k3", "\0\x01k7"],
        ["\0\x01long", "\0\x01longz"],
        ["\0\x02", "\xff"],
      ] as const) {
        const expected = live.filter(([key]) => key >= from && key < to).map(([key, { value }]) => `${key}=${value}`);
        for (const reverse of [false, true]) {
          const found = await scanAll(set, { from: bytesOf(from), to: bytesOf(to), reverse, limit: 1 + random.below(200), nowMs: 1_000 });
          assert.deepEqual(found, reverse ? expected.toReversed() : expected, `${from} to ${to}`);
        }
      }
      await set.close();
      assert.throws(() => set.getMany(KeyBatch.of(["a"]), refs, 0), { code: "invalid" });
    });
    assert.equal(testPool.statistics().leasedBytes, 0);
  });
}

test("promise: a row on disk costs one read, an absent key none", async (t) => {
  const random = new Prng(4);
  const simulation = new Simulation({ seed: 4 });
  await simulation.run(async () => {
    const node = simulation.node("a");
    const rows = randomRows(random, 5_000);
    const set = await RunSet.open(await build(node, rows), { files: node.files, clock: node.clock, pool: testPool, owner: "test", storage: "disk" });
    const refs = new EntryRefs();
    const present = random.shuffle([...rows.keys()]).slice(0, 500);
    for (const key of present) {
      refs.reset(1);
      await set.getMany(KeyBatch.of([bytesOf(key)]), refs, 0);
      assert.equal(refs.found, 1);
    }
    const { reads } = set.diskReads;
    for (let i = 0; i < 500; i++) {
      refs.reset(1);
      await set.getMany(KeyBatch.of([bytesOf(`\0\x01none${i}`)]), refs, 0);
    }
    const absent = set.diskReads.reads - reads;
    // A tag of the other shard, which does not hold the key, may lie: one in some hundred.
    assert.ok(reads <= present.length * 1.05 && absent <= 25, `${reads} reads for ${present.length} rows, ${absent} for 500 absent keys`);
    t.diagnostic(`${reads} reads for ${present.length} rows, ${absent} for 500 absent keys`);
    await set.close();
  });
});

test("promise: a damaged, cut or exchanged run file is refused, and nothing of it is served", async () => {
  const random = new Prng(5);
  const simulation = new Simulation({ seed: 5 });
  await simulation.run(async () => {
    const node = simulation.node("a");
    const rows = randomRows(random, 1_500);
    const runs = await build(node, rows);
    const options = { files: node.files, clock: node.clock, pool: testPool, owner: "test" } as const;
    const whole = (await node.files.readFile(runs[0]!.path))!;
    const refs = new EntryRefs();
    const keys = KeyBatch.of([...rows.keys()].map(bytesOf));
    let refusedReads = 0;
    for (let round = 0; round < 60; round++) {
      const bytes = whole.slice();
      const at = round < 10 ? random.below(4_096) : random.below(bytes.length);
      bytes[at] = bytes[at]! ^ (1 << random.below(8));
      await node.files.writeFileAtomic("/base/bent.run", bytes);
      const bent = { ...runs[0]!, path: "/base/bent.run" };
      await assert.rejects(RunSet.open([bent], { ...options, storage: "memory" }), { code: "corrupt" }, `bit of byte ${at}`);
      // On disk the index is checked when it is opened, a data block when it is read.
      try {
        const set = await RunSet.open([bent], { ...options, storage: "disk" });
        refs.reset(keys.count);
        try {
          await assert.rejects(
            async () => set.getMany(keys, refs, 0),
            { code: "corrupt", message: /file \/base\/bent\.run/ },
            `bit of byte ${at}: the file is named`,
          );
          refusedReads++;
        } finally {
          await set.close();
        }
      } catch (thrown) {
        assert.equal((thrown as { code?: string }).code, "corrupt", String(thrown));
      }
    }
    assert.ok(refusedReads > 20);
    for (const bytes of [whole.subarray(0, whole.length - 64), new Uint8Array(0), whole.subarray(64)]) {
      await node.files.writeFileAtomic("/base/bent.run", bytes);
      for (const storage of ["memory", "disk"] as const) {
        await assert.rejects(RunSet.open([{ ...runs[0]!, path: "/base/bent.run" }], { ...options, storage }), { code: "corrupt" });
        await assert.rejects(RunSet.open([{ ...runs[0]!, path: "/base/bent.run", bytes: bytes.length }], { ...options, storage }), { code: "corrupt" });
      }
    }
    await assert.rejects(RunSet.open([{ ...runs[0]!, path: "/base/none.run" }], { ...options, storage: "memory" }), { code: "corrupt" });
    await assert.rejects(RunSet.open([{ ...runs[1]!, path: runs[0]!.path, bytes: whole.length }], { ...options, storage: "memory" }), { code: "corrupt" });
  });
  assert.equal(testPool.statistics().leasedBytes, 0, "what failed holds nothing");
});

test("promise: a loader's runs are those of the calling thread, and bytes that are not what the manifest names are refused by both", async () => {
  const random = new Prng(6);
  const simulation = new Simulation({ seed: 6 });
  await simulation.run(async () => {
    const node = simulation.node("a");
    const rows = randomRows(random, 1_500);
    const runs = await Promise.all((await build(node, rows)).map(async (run) => ({ ...run, crc32c: crc32c((await node.files.readFile(run.path))!) })));
    const loader = new RunLoader({ workers: node.workers, pool: testPool, clock: node.clock });
    const options = { files: node.files, clock: node.clock, pool: testPool, owner: "test", storage: "memory" } as const;
    for (const one of [options, { ...options, loader }]) {
      let read = 0;
      const set = await RunSet.open(runs, { ...one, onRead: (bytes) => (read += bytes) });
      assert.equal(
        read,
        runs.reduce((sum, { bytes }) => sum + bytes, 0),
      );
      assert.equal((await scanAll(set, { from: bytesOf(""), to: bytesOf("\xff"), limit: 1_000, nowMs: 0 })).length, rows.size);
      await set.close();
      // A whole run, but of another version.
      await assert.rejects(RunSet.open([{ ...runs[0]!, crc32c: runs[1]!.crc32c }], one), { code: "corrupt", message: /not the file that was listed/ });
      // Behind the last checksum nothing names the bytes but the manifest.
      const bytes = (await node.files.readFile(runs[0]!.path))!.slice();
      for (const at of [bytes.length - 1, random.below(bytes.length)]) {
        const bent = bytes.slice();
        bent[at] = bent[at]! ^ 1;
        await node.files.writeFileAtomic("/base/bent.run", bent);
        await assert.rejects(RunSet.open([{ ...runs[0]!, path: "/base/bent.run" }], one), { code: "corrupt" }, `byte ${at}`);
      }
      const stop = new AbortController();
      stop.abort(new MillraceError("unavailable", "no longer wanted"));
      await assert.rejects(RunSet.open(runs, { ...one, signal: stop.signal }), { code: "unavailable" });
    }
    await loader.stop();
  });
  assert.equal(testPool.statistics().leasedBytes, 0, "what failed holds nothing");
});
