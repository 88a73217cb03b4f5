// Vectors for benches that look like items: many clusters of uneven size, seeded, unit length. One file for `go-live`, `filtered` and whoever wants the same rows.
// Model: 400 topics are random directions; a cluster is a topic's direction plus noise of length topicSpread, made unit length, with a weight exp(N(0, 1)) (the largest some fifty times
// the median) and a spread: a row is the cluster's direction plus noise of length about its spread (0.4 to 0.8), made unit length. Rows come in random order of clusters; queries are
// further rows of the same model, which no collection holds. Why topics: directions drawn one by one are all equally far from each other, so that what lies just beyond a small
// cluster lies everywhere, and no index can tell where (measured with 1 M rows: 80 % of the lists for a recall of 0.99; with topics 2 %, with a topicSpread of 0.7 half a per cent).
// Cost: 1 to 4 us a row of 64 numbers: one random word a number (the sum of its four bytes is near enough to normal). The same seed gives the same rows on every machine.

import { Prng } from "#base/prng";

export interface ClusteredShape {
  /** Default 64. */
  readonly dims?: number;
  /** Default 20,000. */
  readonly clusters?: number;
  /** Default 1. */
  readonly seed?: number;
}

const topics = 400;
const topicSpread = 1.2;
/** Standard deviation of the sum of four bytes. */
const byteSumDeviation = Math.sqrt((4 * (256 * 256 - 1)) / 12);

export class ClusteredVectors {
  readonly dims: number;
  readonly clusters: number;
  /** Unit directions, row-major. */
  readonly centres: Float32Array<ArrayBuffer>;
  readonly #spread: Float32Array;
  /** Running sums of the weights, the last one 1: where a number in [0, 1) falls is its cluster. */
  readonly #sums: Float64Array;
  /** First cluster of each of 65,536 equal parts of [0, 1). */
  readonly #guide = new Uint32Array(65_537);
  readonly #prng: Prng;

  constructor(shape: ClusteredShape = {}) {
    this.dims = shape.dims ?? 64;
    this.clusters = shape.clusters ?? 20_000;
    this.#prng = new Prng(shape.seed ?? 1);
    const { dims, clusters } = this;
    const prng = this.#prng.fork("clusters");
    this.centres = new Float32Array(clusters * dims);
    this.#spread = new Float32Array(clusters);
    this.#sums = new Float64Array(clusters);
    const directions = new Float32Array(topics * dims);
    for (let topic = 0; topic < topics; topic++) {
      for (let j = 0; j < dims; j++) directions[topic * dims + j] = nearNormal(prng);
      toUnit(directions, topic * dims, dims);
    }
    let sum = 0;
    for (let cluster = 0; cluster < clusters; cluster++) {
      const topic = prng.below(topics) * dims;
      for (let j = 0; j < dims; j++) this.centres[cluster * dims + j] = directions[topic + j]! + (topicSpread / Math.sqrt(dims)) * nearNormal(prng);
      toUnit(this.centres, cluster * dims, dims);
      this.#spread[cluster] = 0.4 + 0.4 * prng.float();
      sum += Math.exp(prng.normal());
      this.#sums[cluster] = sum;
    }
    for (let cluster = 0; cluster < clusters; cluster++) this.#sums[cluster]! /= sum;
    for (let part = 0, cluster = 0; part <= 65_536; part++) {
      while (cluster < clusters - 1 && this.#sums[cluster]! <= part / 65_536) cluster++;
      this.#guide[part] = cluster;
    }
  }

  /**
   * `count` rows of one stream, row-major: the same name gives the same rows, other names give others ("rows", "queries"). Goes on where the last call for the same
   * `state` ended, so that millions can be taken in parts. `clusterOf`: where to write each row's cluster.
   */
  fill(state: Prng, into: Float32Array, clusterOf?: Uint32Array): void {
    const { dims, centres } = this;
    const count = into.length / dims;
    for (let row = 0; row < count; row++) {
      const cluster = this.#draw(state.float());
      if (clusterOf !== undefined) clusterOf[row] = cluster;
      const noise = this.#spread[cluster]! / Math.sqrt(dims);
      const from = cluster * dims;
      const to = row * dims;
      for (let j = 0; j < dims; j++) into[to + j] = centres[from + j]! + noise * nearNormal(state);
      toUnit(into, to, dims);
    }
  }

  /** Where a stream begins. */
  stream(name: string): Prng {
    return this.#prng.fork(name);
  }

  /** `count` rows of the stream `name` from its beginning. */
  rows(name: string, count: number, clusterOf?: Uint32Array): Float32Array<ArrayBuffer> {
    const into = new Float32Array(count * this.dims);
    this.fill(this.stream(name), into, clusterOf);
    return into;
  }

  #draw(at: number): number {
    let cluster = this.#guide[Math.floor(at * 65_536)]!;
    while (cluster < this.clusters - 1 && this.#sums[cluster]! <= at) cluster++;
    return cluster;
  }
}

function nearNormal(prng: Prng): number {
  const word = prng.u32();
  return ((word & 255) + ((word >>> 8) & 255) + ((word >>> 16) & 255) + (word >>> 24) - 510) / byteSumDeviation;
}

function toUnit(rows: Float32Array, from: number, dims: number): void {
  let square = 0;
  for (let i = from; i < from + dims; i++) square += rows[i]! * rows[i]!;
  const scale = square > 0 ? 1 / Math.sqrt(square) : 0;
  for (let i = from; i < from + dims; i++) rows[i]! *= scale;
}
