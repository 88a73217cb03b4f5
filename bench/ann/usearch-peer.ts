// usearch in its own process: HNSW over f32, one thread. Lines: {"build"} -> {cpuS, bytes}; {"run", ef, from, count} -> {cpuS, hits}.
// Arguments: folder of the data (data.ts), dims, k.

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { ownCpuMs } from "../harness.ts";
import { requirePeer } from "../load/peers.ts";

interface Index {
  add(keys: BigUint64Array, vectors: Float32Array, threads: number): void;
  search(query: Float32Array, k: number, threads: number): { readonly distances: Float32Array };
  save(path: string): void;
}
type IndexOptions = Readonly<Record<string, unknown>>;

const [folder, dimsText, kText] = process.argv.slice(2);
const dims = Number(dimsText);
const k = Number(kText);
const numbers = (name: string): Float32Array => new Float32Array(new Uint8Array(readFileSync(join(folder!, name))).buffer);
const rows = numbers("rows.f32");
const queries = numbers("queries.f32");
const bars = numbers("bars.f32");
const { Index } = requirePeer<{ Index: new (options: IndexOptions) => Index }>("usearch");

/** The search's breadth is set when an index is made: one that is loaded again searches with another. */
function open(ef: number): Index {
  return new Index({ metric: "ip", dimensions: dims, connectivity: 16, expansion_add: 128, expansion_search: ef, quantization: "f32" });
}

const file = join(folder!, "usearch.index");
const opened = new Map<number, Index>();

for await (const line of createInterface({ input: process.stdin })) {
  const question = JSON.parse(line) as { build?: true; ef: number; from: number; count: number };
  const before = ownCpuMs();
  if (question.build === true) {
    const index = open(64);
    const count = rows.length / dims;
    for (let from = 0; from < count; from += 10_000) {
      const part = rows.subarray(from * dims, Math.min(count, from + 10_000) * dims);
      index.add(
        BigUint64Array.from({ length: part.length / dims }, (_, i) => BigInt(from + i)),
        part,
        1,
      );
    }
    const cpuS = (ownCpuMs() - before) / 1000;
    index.save(file);
    console.log(JSON.stringify({ cpuS, bytes: readFileSync(file).length }));
    continue;
  }
  let index = opened.get(question.ef);
  if (index === undefined) {
    index = open(question.ef);
    (index as unknown as { load(path: string): void }).load(file);
    opened.clear();
    opened.set(question.ef, index);
  }
  const started = ownCpuMs();
  let hits = 0;
  for (let i = question.from; i < question.from + question.count; i++) {
    const { distances } = index.search(queries.subarray(i * dims, (i + 1) * dims), k, 1);
    for (const distance of distances) if (1 - distance >= bars[i]! - 1e-5) hits++;
  }
  console.log(JSON.stringify({ cpuS: (ownCpuMs() - started) / 1000, hits }));
}
