// All rows of a build in one place: vectors row by row, ids as packed bytes, attributes, and what the version's statistics say of them.
// Why not a Map of ids: two million strings as keys take 200 MB and a second; here an id is its bytes and 8 more.
// Invariants: 1. no two rows have equal ids: a row that comes again replaces the one before, in its place  2. every number is finite; under cosine no row is all zeros
//             3. a row that breaks 2, or whose id or attributes are empty or too long, is refused and counted, never the whole build.
// Cost: 0.3 to 0.6 us a row of 64 numbers. Limits: `bytesMax` over everything held here; 2^31 rows.

import { MillraceError } from "#base/errors";
import type { VectorMetric } from "#kernel/vector-layout";
import { vectorLimits } from "../vector-service.ts";
import type { SegmentIds } from "../segment/segment-files.ts";
import { checkBatch, type VectorRowBatch } from "./row-source.ts";

export interface NormFigures {
  readonly mean: number;
  readonly deviation: number;
  readonly min: number;
  readonly max: number;
}

const encoder = new TextEncoder();
const rowsFirst = 16_384;

export class GatheredRows {
  readonly dims: number;
  readonly #metric: VectorMetric;
  readonly #bytesMax: number;
  #count = 0;
  #vectors: Float32Array;
  #norms: Float32Array;
  #idBytes = new Uint8Array(rowsFirst * 16);
  /** Id of row i: bytes `#idFrom[i]`, `#idLength[i]` of them. Replaced rows keep their id. */
  #idFrom: Uint32Array;
  #idEnd = 0;
  #hashes: Uint32Array;
  /** Row + 1 by hash, open addressing; at most half full. */
  #table = new Uint32Array(rowsFirst * 4);
  #attributes: (string | undefined)[] | undefined;
  readonly #scratch = new Uint8Array(vectorLimits.elementBytesMax * 3);
  refused = 0;
  replaced = 0;

  constructor(dims: number, metric: VectorMetric, options: { readonly rowsAbout?: number | undefined; readonly bytesMax: number }) {
    if (!Number.isInteger(dims) || dims < 1 || dims > vectorLimits.dimsMax) {
      throw new MillraceError("invalid", `rows of ${dims} numbers`, { todo: `give vectors of 1 to ${vectorLimits.dimsMax}` });
    }
    this.dims = dims;
    this.#metric = metric;
    this.#bytesMax = options.bytesMax;
    const rows = Math.max(1, Math.min(options.rowsAbout ?? rowsFirst, Math.floor(options.bytesMax / (dims * 4 + 28))));
    this.#vectors = new Float32Array(rows * dims);
    this.#norms = new Float32Array(rows);
    this.#idFrom = new Uint32Array(rows + 1);
    this.#hashes = new Uint32Array(rows);
  }

  get count(): number {
    return this.#count;
  }

  /** Row-major; valid until the next `add`. */
  get vectors(): Float32Array {
    return this.#vectors.subarray(0, this.#count * this.dims);
  }

  /** JSON texts by row; undefined when no row has any. */
  get attributes(): readonly (string | undefined)[] | undefined {
    if (this.#attributes !== undefined) this.#attributes.length = this.#count;
    return this.#attributes;
  }

  get ids(): SegmentIds {
    return { bytes: this.#idBytes.subarray(0, this.#idEnd), offsets: this.#idFrom.subarray(0, this.#count + 1) };
  }

  idOf(row: number): string {
    return new TextDecoder().decode(this.#idBytes.subarray(this.#idFrom[row], this.#idFrom[row + 1]));
  }

  /** Lengths of the rows, before anything is normalised. */
  norms(): NormFigures {
    let [sum, squares, min, max] = [0, 0, Infinity, 0];
    for (let row = 0; row < this.#count; row++) {
      const norm = this.#norms[row]!;
      sum += norm;
      squares += norm * norm;
      if (norm < min) min = norm;
      if (norm > max) max = norm;
    }
    if (this.#count === 0) return { mean: 0, deviation: 0, min: 0, max: 0 };
    const mean = sum / this.#count;
    return { mean, deviation: Math.sqrt(Math.max(0, squares / this.#count - mean * mean)), min, max };
  }

  /** Takes a batch. Throws `invalid` for one that breaks the contract of sources, `overloaded` when there is no room for it. */
  add(batch: VectorRowBatch): void {
    const { dims } = this;
    checkBatch(batch, dims);
    const { ids, vectors, attributes } = batch;
    for (let i = 0; i < ids.length; i++) {
      const norm = this.#normOf(vectors, i * dims);
      const text = attributes?.[i];
      const { read, written } = encoder.encodeInto(ids[i]!, this.#scratch);
      const badId = written === 0 || written > vectorLimits.elementBytesMax || read < ids[i]!.length;
      if (badId || !(norm < Infinity) || (norm === 0 && this.#metric === "cosine") || (text !== undefined && text.length > vectorLimits.attributesBytesMax)) {
        this.refused++;
        continue;
      }
      const row = this.#rowOf(written);
      // Element by element: a subarray a row costs more than the copy of a short one.
      const at = row * dims;
      const from = i * dims;
      for (let j = 0; j < dims; j++) this.#vectors[at + j] = vectors[from + j]!;
      this.#norms[row] = norm;
      if (text !== undefined && text !== "") (this.#attributes ??= [])[row] = text;
      else if (this.#attributes !== undefined) this.#attributes[row] = undefined;
    }
  }

  /** Infinity or NaN for a row with a number that is not finite. */
  #normOf(vectors: Float32Array, from: number): number {
    let squares = 0;
    for (let at = from; at < from + this.dims; at++) squares += vectors[at]! * vectors[at]!;
    return Math.sqrt(squares);
  }

  /** The row of the id in `#scratch`, a new one when there is none. */
  #rowOf(length: number): number {
    const scratch = this.#scratch;
    let hash = 0x811c_9dc5 ^ length;
    for (let i = 0; i < length; i++) hash = Math.imul(hash ^ scratch[i]!, 0x0100_0193);
    // FNV alone leaves its low bits poorly mixed.
    hash = Math.imul(hash ^ (hash >>> 15), 0x2c1b_3c6d) >>> 0;
    const mask = this.#table.length - 1;
    let place = hash & mask;
    for (let seen = this.#table[place]!; seen !== 0; place = (place + 1) & mask, seen = this.#table[place]!) {
      const row = seen - 1;
      if (this.#hashes[row] !== hash || this.#idFrom[row + 1]! - this.#idFrom[row]! !== length) continue;
      const from = this.#idFrom[row]!;
      let same = 0;
      while (same < length && this.#idBytes[from + same] === scratch[same]) same++;
      if (same < length) continue;
      this.replaced++;
      return row;
    }
    const row = this.#count;
    this.#reserve(row + 1, length);
    for (let i = 0; i < length; i++) this.#idBytes[this.#idEnd + i] = scratch[i]!;
    this.#idEnd += length;
    this.#idFrom[row + 1] = this.#idEnd;
    this.#hashes[row] = hash;
    this.#table[place] = row + 1;
    this.#count++;
    if (this.#count * 2 > this.#table.length) this.#rehash();
    return row;
  }

  #reserve(rows: number, idBytes: number): void {
    if (rows > this.#norms.length) {
      const wanted = Math.max(rows, Math.ceil(rows * 1.5));
      this.#checkRoom(wanted);
      this.#vectors = grown(this.#vectors, new Float32Array(wanted * this.dims));
      this.#norms = grown(this.#norms, new Float32Array(wanted));
      this.#hashes = grown(this.#hashes, new Uint32Array(wanted));
      this.#idFrom = grown(this.#idFrom, new Uint32Array(wanted + 1));
    }
    if (this.#idEnd + idBytes > this.#idBytes.length) this.#idBytes = grown(this.#idBytes, new Uint8Array(this.#idBytes.length * 2 + idBytes));
  }

  #checkRoom(rows: number): void {
    const bytes = rows * (this.dims * 4 + 20) + this.#idBytes.length;
    if (bytes <= this.#bytesMax && rows < 2 ** 31) return;
    throw new MillraceError(
      "overloaded",
      `${rows} rows of ${this.dims} numbers take ${Math.ceil(bytes / 2 ** 20)} MiB, ${Math.floor(this.#bytesMax / 2 ** 20)} are allowed`,
      {
        todo: "give the task more memory (memoryMb), or fewer rows",
      },
    );
  }

  #rehash(): void {
    const table = new Uint32Array(this.#table.length * 4);
    const mask = table.length - 1;
    for (let row = 0; row < this.#count; row++) {
      let place = this.#hashes[row]! & mask;
      while (table[place] !== 0) place = (place + 1) & mask;
      table[place] = row + 1;
    }
    this.#table = table;
  }
}

function grown<T extends Float32Array | Uint32Array | Uint8Array>(from: T, into: T): T {
  into.set(from);
  return into;
}
