// The live tail of a collection: elements written since its base, by row, searched exactly.
//   rows in the order in which their elements came, in chunks, each a kernel memory of its own: nothing is copied when the tail grows
// An element that is written again keeps its row; a row is never given to another element, so what a search cut into pieces has found stays what it was. Room of deleted rows comes back
// with the next fold.
// Why int8 only for full chunks: their scales are those of their own rows, exact to the last one, so nothing is cut off; the chunk that fills up is small and read as it is.
// Why in pieces: coding a chunk at once takes 1 to 2.5 ms, and clearing a new one 4 to 7 (each of its pages is met for the first time). So a search of a full chunk that has no right
// codes makes a piece of them and reads it in f32, and a unit of slots is cleared when its first row comes.
// Invariants: 1. a live row has an element, that element's row is it, and no other row has it  2. the first `codedSlots` codes of a full chunk are those of its rows by its scales, no row of
// its first `scaledSlots` is beyond them, and int8 is used when both are all  3. what lies in units of slots that were begun is rows, or zeros  4. a chunk is at most `chunkBytesMax`, so
// that searching one takes some tenths of a millisecond.
// Cost: a write about 2 us with 64 numbers; memory 4 + 1 bytes a number, some 26 bytes an element and its text.
// Concurrency: one thread. Limits: tailLimits; what the pool gives.

import type { TopK } from "#kernel/dot-top-k";
import type { MemoryLease, MemoryPool } from "#kernel/memory-pool";
import {
  bitmapBytes,
  clearSlots,
  codeBytes,
  createVectorBlock,
  hasSlot,
  rowFloats,
  setSlot,
  slotsFor,
  slotsUnit,
  type VectorBlock,
  vectorBlockBytes,
  type VectorShape,
} from "#kernel/vector-layout";
import { candidatesFor, exactSearch, quantise, scalesOf, writeRows } from "#kernel/vector-rows";
import { AttributeColumns, SourceFilter } from "../filter/attribute-columns.ts";
import type { Filter } from "../filter/filter.ts";
import { ElementBook } from "./element-book.ts";

export const tailLimits = {
  /** Of the data of one chunk: what is scanned in one piece. */
  chunkBytesMax: 4 << 20,
  /** Numbers that are scaled or coded in one piece: some 0.2 ms. */
  pieceNumbers: 1 << 17,
  /** The first chunk; each later one is as large as all before it together. */
  firstRows: 1_024,
  /** Below so many dimensions a code is no shorter than a row is, or coarser than the gain is worth. */
  codedDimsMin: 16,
  /** Arguments of a call: a heap of the answers, and the candidates of int8. */
  laneBytesMin: 64 << 10,
} as const;

export interface TailOptions {
  readonly shape: VectorShape;
  readonly pool: MemoryPool;
  /** Whom the pool's statistics count it for. */
  readonly owner: string;
}

/** Who keeps something of every row. */
export interface TailFollower {
  /** A row has its vector, its first or another one. */
  written(chunk: TailChunk, slot: number): void;
  /** A row was taken out. */
  removed(chunk: TailChunk, slot: number): void;
}

/** Rows `first` to `first + block.slots - 1` of a tail. */
export interface TailChunk {
  /** Its place among the chunks. */
  readonly number: number;
  readonly first: number;
  readonly block: VectorBlock;
  readonly lease: MemoryLease;
  /** Room for a bitmap of a filter. */
  readonly filterAt: number;
  /** A bitmap that the follower keeps, and how many of its bits are set: rows that every search compares (tail-lists.ts). */
  readonly alwaysAt: number;
  always: number;
  /** Rows that were given out. */
  used: number;
  /** Slots whose rows the scales hold, and then those whose codes are right; 0 until it is full. */
  scaledSlots: number;
  codedSlots: number;
  /** Lengths before normalising; empty but for cosine. */
  readonly norms: Float32Array;
}

export class LiveTail {
  readonly shape: VectorShape;
  readonly chunks: TailChunk[] = [];
  readonly #pool: MemoryPool;
  readonly #owner: string;
  readonly #elements = new ElementBook();
  /** Made with the first text: most collections have none. */
  #attributes: AttributeColumns | undefined;
  readonly #norm = new Float32Array(1);
  #follower: TailFollower | undefined;
  #room = 0;
  #live = 0;
  #bytes = 0;

  constructor({ shape, pool, owner }: TailOptions) {
    this.shape = { dims: shape.dims, metric: shape.metric };
    this.#pool = pool;
    this.#owner = owner;
  }

  /** Rows that were given out, deleted ones too. */
  get rows(): number {
    return this.#elements.rows;
  }

  get liveRows(): number {
    return this.#live;
  }

  /** Of kernel memories. */
  get bytes(): number {
    return this.#bytes;
  }

  /** From the first row on. */
  follow(follower: TailFollower): void {
    this.#follower = follower;
  }

  /** The row of an element that is there. */
  rowOf(element: string): number | undefined {
    return this.#elements.rowOf(element);
  }

  elementOf(row: number): string {
    return this.#elements.elementOf(row);
  }

  attributesOf(row: number): string | undefined {
    return this.#attributes?.textOf(row);
  }

  normOf(row: number): number {
    const chunk = this.chunkOf(row);
    return chunk.norms.length === 0 ? 1 : chunk.norms[row - chunk.first]!;
  }

  isLive(row: number): boolean {
    const { block, first } = this.chunkOf(row);
    return hasSlot(block.memory, block.liveAt, row - first);
  }

  /** The numbers of a row as they are stored. */
  vectorOf(row: number, into: Float32Array): void {
    const { block, first } = this.chunkOf(row);
    const { dims } = this.shape;
    const at = block.rowsAt / 4 + (row - first) * rowFloats(dims);
    into.set(block.memory.f32.subarray(at, at + dims));
  }

  /** Makes room for so many new rows. Throws `overloaded` when the pool has none: before anything is written. */
  reserve(rows: number): void {
    while (this.#room - this.rows < rows) this.#grow();
  }

  /**
   * Writes an element's vector, `vectors[from ...]` as it was given, and its attributes; true when it is new to the tail. `norm`: of a vector that was normalised before.
   * Throws `overloaded` when a new row has no room.
   */
  put(element: string, vectors: Float32Array, from: number, attributes: string | undefined, norm?: number): boolean {
    const known = this.#elements.rowOf(element);
    if (known === undefined) this.reserve(1);
    const row = known ?? this.rows;
    const chunk = this.chunkOf(row);
    const slot = row - chunk.first;
    if (known === undefined && slot % slotsUnit === 0) clearSlots(chunk.block, slot, slot + slotsUnit);
    writeRows(chunk.block, slot, vectors.subarray(from, from + this.shape.dims), this.#norm);
    if (chunk.norms.length > 0) chunk.norms[slot] = norm ?? this.#norm[0]!;
    this.setAttributes(row, attributes);
    if (known === undefined) {
      this.#elements.add(element);
      this.#live += 1;
      chunk.used += 1;
      setSlot(chunk.block.memory, chunk.block.liveAt, slot, true);
    } else if (slot < chunk.scaledSlots) {
      if (!isWithin(chunk.block, slot)) {
        scalesOf(chunk.block, slot, slot + 1);
        chunk.codedSlots = 0;
      } else if (slot < chunk.codedSlots) quantise(chunk.block, slot, slot + 1);
    }
    this.#follower?.written(chunk, slot);
    return known === undefined;
  }

  setAttributes(row: number, attributes: string | undefined): void {
    if (attributes === undefined && this.#attributes === undefined) return;
    (this.#attributes ??= new AttributeColumns()).set(row, attributes);
  }

  /** Bits of those rows of a chunk whose attributes pass; false when there are none. */
  filterInto(filter: Filter, chunk: TailChunk, into: Uint32Array): boolean {
    if (this.#attributes === undefined) return false;
    const source = new SourceFilter(this.#attributes, filter);
    return !source.isEmpty && source.bitmap(chunk.first, chunk.first + chunk.block.slots, into) > 0;
  }

  /** Takes an element out; false when it was not there. */
  remove(element: string): boolean {
    const row = this.#elements.rowOf(element);
    if (row === undefined) return false;
    const chunk = this.chunkOf(row);
    const { block, first } = chunk;
    setSlot(block.memory, block.liveAt, row - first, false);
    this.#follower?.removed(chunk, row - first);
    this.#elements.remove(element);
    this.setAttributes(row, undefined);
    this.#live -= 1;
    return true;
  }

  /** The best rows of a chunk, numbered within it. `filterAt`: only those of the bitmap there; 0: all. `exact`: every row in f32. */
  searchChunk(chunk: TailChunk, query: Float32Array, into: TopK, exact: boolean, filterAt = 0): TopK {
    const k = Math.min(into.rows.length, chunk.used);
    const isCoded = !exact && candidatesFor(k) < chunk.used && this.#isCoded(chunk);
    return exactSearch(chunk.block, query, k, into, {
      to: slotsFor(chunk.used),
      use: isCoded ? "int8" : "f32",
      filterAt,
    });
  }

  /** Gives the memories back. Nothing may be called after it. */
  release(): void {
    for (const { lease } of this.chunks.splice(0)) lease.release();
  }

  chunkOf(row: number): TailChunk {
    const { chunks } = this;
    let [low, high] = [0, chunks.length - 1];
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if (chunks[middle]!.first <= row) low = middle;
      else high = middle - 1;
    }
    return chunks[low]!;
  }

  #grow(): void {
    const { dims, metric } = this.shape;
    const parts = { codes: dims >= tailLimits.codedDimsMin, live: true, dirty: true };
    const rowBytes = vectorBlockBytes(this.shape, slotsUnit, parts) / slotsUnit;
    const most = Math.max(slotsUnit, Math.floor(tailLimits.chunkBytesMax / rowBytes / slotsUnit) * slotsUnit);
    const slots = slotsFor(Math.min(most, Math.max(tailLimits.firstRows, this.#room)));
    const lease = this.#pool.lease({
      owner: this.#owner,
      dataBytes: vectorBlockBytes(this.shape, slots, parts) + 2 * bitmapBytes(slots) + 1_024,
      laneBytes: Math.max(tailLimits.laneBytesMin, slots * 24 + codeBytes(dims) * 16),
    });
    const block = createVectorBlock(lease.memory, this.shape, slots, parts);
    const filterAt = lease.memory.reserve(bitmapBytes(slots));
    const alwaysAt = lease.memory.reserve(bitmapBytes(slots));
    lease.memory.bytes.fill(0, alwaysAt, alwaysAt + bitmapBytes(slots));
    const norms = new Float32Array(metric === "cosine" ? slots : 0);
    this.chunks.push({
      number: this.chunks.length,
      first: this.#room,
      block,
      lease,
      filterAt,
      alwaysAt,
      always: 0,
      used: 0,
      scaledSlots: 0,
      codedSlots: 0,
      norms,
    });
    this.#room += slots;
    this.#bytes += lease.memory.bytes.length;
  }

  /** Whether all its codes are right; if not, a piece of what is missing is made. */
  #isCoded(chunk: TailChunk): boolean {
    const { block } = chunk;
    if (block.codesAt === 0 || chunk.used < block.slots) return false;
    if (chunk.codedSlots === block.slots) return true;
    const piece = Math.max(1, Math.floor(tailLimits.pieceNumbers / this.shape.dims));
    if (chunk.scaledSlots < block.slots) {
      const to = Math.min(block.slots, chunk.scaledSlots + piece);
      scalesOf(block, chunk.scaledSlots, to);
      chunk.scaledSlots = to;
    } else {
      const to = Math.min(block.slots, chunk.codedSlots + piece);
      quantise(block, chunk.codedSlots, to);
      chunk.codedSlots = to;
    }
    return chunk.codedSlots === block.slots;
  }
}

function isWithin(block: VectorBlock, slot: number): boolean {
  const { memory, rowsAt, scalesAt, shape } = block;
  const { f32 } = memory;
  const row = rowsAt / 4 + slot * rowFloats(shape.dims);
  const scales = scalesAt / 4;
  for (let j = 0; j < shape.dims; j++) if (Math.abs(f32[row + j]!) > f32[scales + j]!) return false;
  return true;
}
