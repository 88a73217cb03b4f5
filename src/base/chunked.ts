// Columns of numbers that grow without copying, and blocks of power-of-two length inside them.
// Why: doubling one big typed array copies it, 100 MB cost some 50 ms, which no serving loop may spend at once. A chunk is allocated once
// and never moves. Native arrays of arrays would cost an object a row.
// Layout: entry `a` lies in `chunks[a >>> chunkBits]` at `a & chunkMask`. A block never crosses a chunk, so a hot loop takes the chunk once
// and then runs over a plain typed array.
// Cost: one chunk (65,536 entries) of slack per column; freed blocks are reused for blocks of the same size only.

export const chunkBits = 16;
export const chunkLength = 1 << chunkBits;
export const chunkMask = chunkLength - 1;

type Numbers = Uint8Array | Uint32Array | Float32Array | Float64Array;

/** A growing column. Hot loops take `chunks[i >>> chunkBits]` themselves; `get` and `set` are for single entries. */
export class ChunkedColumn<A extends Numbers> {
  readonly chunks: A[] = [];
  readonly #make: (length: number) => A;

  constructor(make: (length: number) => A) {
    this.#make = make;
  }

  /** Makes entries `[0, length)` exist; new ones are 0. */
  ensure(length: number): void {
    while (this.chunks.length << chunkBits < length) this.chunks.push(this.#make(chunkLength));
  }

  get(index: number): number {
    return this.chunks[index >>> chunkBits]![index & chunkMask]!;
  }

  set(index: number, value: number): void {
    this.chunks[index >>> chunkBits]![index & chunkMask] = value;
  }

  get bytes(): number {
    return this.chunks.reduce((sum, chunk) => sum + chunk.byteLength, 0);
  }
}

export const u8Column = (): ChunkedColumn<Uint8Array> => new ChunkedColumn((length) => new Uint8Array(length));
export const u32Column = (): ChunkedColumn<Uint32Array> => new ChunkedColumn((length) => new Uint32Array(length));
export const f32Column = (): ChunkedColumn<Float32Array> => new ChunkedColumn((length) => new Float32Array(length));
export const f64Column = (): ChunkedColumn<Float64Array> => new ChunkedColumn((length) => new Float64Array(length));

/** Hands out addresses of blocks of `1 << bits` entries, `bits` 0..16. The owner of the columns calls `ensure(allocator.end)` after `take`. */
export class BlockAllocator {
  readonly #free: number[][] = Array.from({ length: chunkBits + 1 }, () => []);
  #next = 0;

  /** Entries that the columns must have. */
  get end(): number {
    return this.#next;
  }

  take(bits: number): number {
    const reused = this.#free[bits]!.pop();
    if (reused !== undefined) return reused;
    const length = 1 << bits;
    const inChunk = this.#next & chunkMask;
    if (inChunk + length > chunkLength) this.#giveRest(inChunk);
    const address = this.#next;
    this.#next += length;
    return address;
  }

  give(address: number, bits: number): void {
    this.#free[bits]!.push(address);
  }

  /** What is left of a chunk that the next block does not fit into becomes free blocks of the largest sizes that fit. */
  #giveRest(inChunk: number): void {
    let at = inChunk;
    while (at < chunkLength) {
      let bits = 0;
      while (bits < chunkBits && at + (2 << bits) <= chunkLength) bits += 1;
      this.#free[bits]!.push(this.#next - inChunk + at);
      at += 1 << bits;
    }
    this.#next += chunkLength - inChunk;
  }
}
