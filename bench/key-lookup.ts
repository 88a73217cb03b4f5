// Batches of byte-string keys to rows: hash, probe with the full key compared, gather of the rows; held against a JavaScript Map.
// Arithmetic: 1,000,000 keys of 56 bytes: 16.8 MB of slots and 72 MB of records, so a random key costs two cache misses (about 90 ns each one
// after another); a batch overlaps them. The Map's peer work is the least that JavaScript can do with keys that arrive as bytes: make the
// string, look it up.
// Aggregation: as exact-search: alternating rounds, ratios between minima.

import { Prng } from "#base/prng";
import { gatherRows } from "#kernel/gather-rows";
import { hashKeys } from "#kernel/hash-keys";
import { absentRow } from "#kernel/kernel-calls";
import { KernelMemory } from "#kernel/kernel-memory";
import { kernelReport, kernels } from "#kernel/kernels";
import { KeyBatch } from "#kernel/key-batch";
import { keySeed } from "#kernel/key-hash";
import { KeyTable, keyTableBytes } from "#kernel/key-table";
import { MemoryPool } from "#kernel/memory-pool";
import { alternatingRounds, Checksum, type Scenario } from "./harness.ts";

const batchKeys = 1_000;
const rowBytes = 200;

function keyOf(i: number): string {
  // 56 bytes, of which few differ: the shape of real keys.
  return `shop-europe-west:item:${String(Math.imul(i, 0x9e3779b1) >>> 0).padStart(10, "0")}:profile:v2:${String(i).padStart(8, "0")}`.padEnd(56, "-");
}

export const scenario: Scenario = {
  name: "key-lookup",
  head:
    "batches of 1,000 random keys of 56 bytes among 1,000,000 (every 10th absent), warm, one core, wall time: probe with the full key " +
    "compared, gather of 200-byte rows, hash alone; nothing durable",
  async run({ quick, report, log }) {
    const count = quick ? 50_000 : 1_000_000;
    const batches = quick ? 20 : 100;
    const rounds = quick ? 6 : 20;
    const prng = new Prng("key-lookup");
    const pool = new MemoryPool({ capBytes: 2 ** 30 });
    const size = { keysMax: count, keyBytesMax: count * 56 };
    const { memory, release } = pool.lease({ dataBytes: keyTableBytes(size) + count * rowBytes + 64, owner: "key-lookup" });
    const table = KeyTable.create(memory, size, keySeed(2026n));

    const started = performance.now();
    const rows = new Uint32Array(batchKeys);
    const batch = new KeyBatch();
    let insertMs = 0;
    for (let first = 0; first < count; first += batchKeys) {
      batch.clear();
      for (let i = 0; i < batchKeys; i++) batch.add(keyOf(first + i));
      const before = performance.now();
      if (table.insert(batch, rows) !== batchKeys) throw new Error("the table is full before its size");
      insertMs += performance.now() - before;
    }
    const rowsAt = memory.reserve(count * rowBytes);
    for (let row = 0; row < count; row++) memory.u32.fill(Math.imul(row, 0x85ebca6b), (rowsAt + row * rowBytes) / 4, (rowsAt + (row + 1) * rowBytes) / 4);
    const block = { memory, at: rowsAt, rowBytes, rowCount: count };
    const map = new Map<string, number>();
    for (let i = 0; i < count; i++) map.set(keyOf(i), i);

    const asked = Array.from({ length: batches }, () => Array.from({ length: batchKeys }, (_, i) => keyOf(prng.below(count) + (i % 10 === 9 ? count : 0))));
    const keyBatches = asked.map((keys) => KeyBatch.of(keys));
    const wire = keyBatches.map((keys) => Array.from({ length: keys.count }, (_, i) => Buffer.from(keys.bytes.subarray(keys.offsets[i], keys.offsets[i + 1]))));
    const expected = asked.map((keys) => Uint32Array.from(keys, (key) => map.get(key) ?? absentRow));

    const scalarMemory = KernelMemory.attach(memory.memory, 0, kernels("scalar"));
    const scalarTable = KeyTable.attach(scalarMemory, table.at);
    const out = new Uint8Array(batchKeys * rowBytes);
    const outWords = new Uint32Array(out.buffer);
    const checksum = new Checksum();
    for (const [n, keys] of keyBatches.entries()) {
      const found = table.probe(keys, rows);
      const absent = gatherRows(block, rows, out);
      if (found + absent !== batchKeys || !expected[n]!.every((row, i) => row === rows[i])) throw new Error("the probe answers wrongly");
      if (!rows.every((row, i) => outWords[(i * rowBytes) / 4 + 7] === (row === absentRow ? 0 : Math.imul(row, 0x85ebca6b) >>> 0)))
        throw new Error("the gather answers wrongly");
      scalarTable.probe(keys, rows);
      if (!expected[n]!.every((row, i) => row === rows[i])) throw new Error("the scalar probe answers wrongly");
      checksum.add(rows);
    }
    log(`checked  ${batches} batches against a Map; checksum of the rows ${checksum.hex()}; set up in ${((performance.now() - started) / 1000).toFixed(1)} s`);

    const hashes = new Uint32Array(2 * batchKeys);
    const each = (run: (n: number) => void) => (): void => {
      for (let n = 0; n < batches; n++) run(n);
    };
    const samples = await alternatingRounds(rounds, {
      hash: each((n) => hashKeys(memory, keyBatches[n]!, keySeed(2026n), hashes)),
      probe: each((n) => table.probe(keyBatches[n]!, rows)),
      probeAndGather: each((n) => {
        table.probe(keyBatches[n]!, rows);
        gatherRows(block, rows, out);
      }),
      scalar: each((n) => scalarTable.probe(keyBatches[n]!, rows)),
      map: each((n) => {
        const keys = wire[n]!;
        for (let i = 0; i < batchKeys; i++) rows[i] = map.get(keys[i]!.toString("latin1")) ?? absentRow;
      }),
      mapLive: each((n) => {
        const keys = asked[n]!;
        for (let i = 0; i < batchKeys; i++) rows[i] = map.get(keys[i]!) ?? absentRow;
      }),
    });
    const nsPerKey = (name: keyof typeof samples): number => (Math.min(...samples[name].wallMs) * 1e6) / (batches * batchKeys);
    const probeNs = nsPerKey("probe");
    const { recordBytes } = table;
    release();
    report({
      metric: "probe_ns_per_key",
      value: probeNs,
      unit: "ns",
      better: "lower",
      peer: `Map, key made from bytes: ${nsPerKey("map").toFixed(0)} ns`,
      detail: `live variant ${kernelReport().live}; ${(1e3 / probeNs).toFixed(1)} M keys/s; minimum of ${rounds} rounds of ${batches} batches`,
    });
    report({ metric: "probe_speedup_vs_map", value: nsPerKey("map") / probeNs, unit: "ratio", better: "higher" });
    report({
      metric: "probe_speedup_vs_live_map",
      value: nsPerKey("mapLive") / probeNs,
      unit: "ratio",
      better: "higher",
      detail: "the Map is asked with the string objects that are at hand",
    });
    report({
      metric: "probe_speedup_vs_scalar",
      value: nsPerKey("scalar") / probeNs,
      unit: "ratio",
      better: "higher",
      peer: `scalar twin: ${nsPerKey("scalar").toFixed(0)} ns`,
    });
    report({ metric: "probe_and_gather_ns_per_key", value: nsPerKey("probeAndGather"), unit: "ns", better: "lower", detail: `rows of ${rowBytes} bytes` });
    report({ metric: "hash_ns_per_key", value: nsPerKey("hash"), unit: "ns", better: "lower" });
    report({
      metric: "insert_ns_per_key",
      value: (insertMs * 1e6) / count,
      unit: "ns",
      better: "lower",
      detail: "one pass, first touch of the memory included",
    });
    report({
      metric: "table_bytes_per_key",
      value: (keyTableBytes(size) - recordBytes.max + recordBytes.used) / count,
      unit: "B/key",
      better: "lower",
      detail: "slots, and records in use with the 56 bytes of the key",
    });
  },
};
