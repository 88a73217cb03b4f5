// Rows by list that come and go, coded: the typed face of kernels/list-rows.ts, where layout and bounds are told.
//
// One bank is one memory: a chain of blocks a list. A row is found by its place (block and slot); taking it out moves the last row of its list into the hole, and says so.
// Invariants: 1. all blocks of a list but the first are full  2. a search names every row of the lists whose score reaches the bar, and some that do not: codes are bounded, not guessed
// 3. what lies in a block beyond its list's rows is never read.
// Cost: a search 3 to 5 ns a row of 64 numbers that is in the cache; a put 0.4 us. Memory: codeBytes + 16 bytes a row, and half a block a list.
// Concurrency: one thread. Limits: listRowsLimits; `blocks` of a bank.

import type { KernelMemory } from "./kernel-memory.ts";
import { listBlockBytes, listBlocksTogether, listRowsPerBlock, listRowsWords } from "./list-rows-layout.ts";
import { codeBytes, heapBytes, rowFloats } from "./vector-layout.ts";

export const listRowsLimits = {
  /** Answers of a query: of a search for more, too many rows would be candidates. */
  kMax: 512,
  /** Rows that a search of a bank may name. */
  candidatesMax: 4_096,
} as const;

export interface ListRowsShape {
  readonly lists: number;
  readonly dims: number;
  /** Of eight rows each. */
  readonly blocks: number;
}

const perBlock = listRowsPerBlock;

/** A query as codes; fits every bank of the same number of dimensions. */
export class CodedQuery {
  readonly codes: Int16Array;
  unit = 0;
  length = 0;
  readonly #most: number;

  constructor(dims: number) {
    this.codes = new Int16Array(codeBytes(dims));
    this.#most = queryCodeMax(dims);
  }

  set(query: Float32Array): this {
    let [most, square] = [0, 0];
    for (let j = 0; j < query.length; j++) {
      const value = query[j]!;
      if (Math.abs(value) > most) most = Math.abs(value);
      square += value * value;
    }
    this.length = Math.sqrt(square);
    this.unit = most / this.#most;
    const factor = most > 0 ? this.#most / most : 0;
    for (let j = 0; j < query.length; j++) this.codes[j] = Math.round(query[j]! * factor);
    return this;
  }
}

/** Products with codes of 127 stay below 2^31. */
function queryCodeMax(dims: number): number {
  return Math.min(32_767, Math.floor((2 ** 31 - 1) / (127 * codeBytes(dims))));
}

export class ListRows {
  readonly memory: KernelMemory;
  readonly shape: ListRowsShape;
  rows = 0;
  readonly #headsAt: number;
  readonly #countsAt: number;
  readonly #nextAt: number;
  readonly #blocksAt: number;
  readonly #codeBytes: number;
  readonly #blockBytes: number;
  readonly #i8: Int8Array;
  readonly #i16: Int16Array;
  readonly #listOf: Uint32Array;
  /** What f32 and the codes of a query may be off by, a length of query and row. */
  readonly #rounding: number;
  /** Blocks that were used and are not, chained; then those from `#fresh` on. */
  #free = -1;
  #fresh = 0;

  /** Takes `ListRows.bytes(shape)` of a memory whose lane has `laneBytes`. */
  constructor(memory: KernelMemory, shape: ListRowsShape) {
    const { lists, dims, blocks } = shape;
    this.memory = memory;
    this.shape = shape;
    this.#codeBytes = codeBytes(dims);
    this.#blockBytes = listBlockBytes(this.#codeBytes);
    this.#headsAt = memory.reserve(lists * 4);
    this.#countsAt = memory.reserve(lists * 4);
    this.#nextAt = memory.reserve(blocks * 4);
    this.#blocksAt = memory.reserve(blocks * this.#blockBytes);
    memory.u32.fill(0, this.#countsAt / 4, this.#countsAt / 4 + lists);
    this.#i8 = new Int8Array(memory.memory.buffer);
    this.#i16 = new Int16Array(memory.memory.buffer);
    this.#listOf = new Uint32Array(blocks);
    this.#rounding = Math.sqrt(dims) / (2 * queryCodeMax(dims)) + 4 * (rowFloats(dims) / 4 + 16) * 6e-8;
  }

  static bytes({ lists, dims, blocks }: ListRowsShape): number {
    return 2 * lists * 4 + blocks * (4 + listBlockBytes(codeBytes(dims))) + 4 * 64;
  }

  static laneBytes({ lists, dims }: ListRowsShape): number {
    return (
      listRowsWords.count * 4 +
      lists * 4 +
      codeBytes(dims) * 2 +
      heapBytes(listRowsLimits.kMax) +
      (listRowsLimits.candidatesMax + 8) * 8 +
      listBlocksTogether * 8 +
      256
    );
  }

  rowsOf(list: number): number {
    return this.memory.u32[this.#countsAt / 4 + list]!;
  }

  hasRoom(list: number): boolean {
    return this.memory.u32[this.#countsAt / 4 + list]! % perBlock !== 0 || this.#free >= 0 || this.#fresh < this.shape.blocks;
  }

  /** Adds a row of `numbers` from word `at` on, as the metric wants it; `bias` 0 where there is none. Returns its place. There must be room. */
  put(list: number, row: number, numbers: Float32Array, at: number, bias: number): number {
    const { u32, f32 } = this.memory;
    const counts = this.#countsAt / 4 + list;
    const slot = u32[counts]! % perBlock;
    if (slot === 0) this.#begin(list);
    const block = u32[this.#headsAt / 4 + list]!;
    u32[counts]! += 1;
    this.rows += 1;
    const { dims } = this.shape;
    const codes = this.#blocksAt + block * this.#blockBytes + slot * this.#codeBytes;
    const i8 = this.#i8;
    let most = 0;
    for (let j = 0; j < dims; j++) {
      const size = Math.abs(numbers[at + j]!);
      if (size > most) most = size;
    }
    const scale = Math.fround(most / 127);
    const factor = scale > 0 ? 1 / scale : 0;
    let [missed, square] = [0, 0];
    for (let j = 0; j < dims; j++) {
      const value = numbers[at + j]!;
      const code = Math.max(-127, Math.min(127, Math.round(value * factor)));
      i8[codes + j] = code;
      missed += (value - code * scale) ** 2;
      square += value * value;
    }
    i8.fill(0, codes + dims, codes + this.#codeBytes);
    const meta = this.#metaOf(block) + slot;
    f32[meta] = scale;
    f32[meta + perBlock] = (Math.sqrt(missed) + Math.sqrt(square) * this.#rounding) * 1.001;
    f32[meta + 2 * perBlock] = bias;
    u32[meta + 3 * perBlock] = row;
    return block * perBlock + slot;
  }

  /** Takes the row at a place out. Returns the row that stands there now, undefined when none does. */
  remove(place: number): number | undefined {
    const { u32, bytes } = this.memory;
    const block = Math.floor(place / perBlock);
    const slot = place % perBlock;
    const list = this.#listOf[block]!;
    const counts = this.#countsAt / 4 + list;
    const head = u32[this.#headsAt / 4 + list]!;
    const last = (u32[counts]! - 1) % perBlock;
    u32[counts]! -= 1;
    this.rows -= 1;
    let moved: number | undefined;
    if (block !== head || slot !== last) {
      const from = this.#blocksAt + head * this.#blockBytes + last * this.#codeBytes;
      bytes.copyWithin(this.#blocksAt + block * this.#blockBytes + slot * this.#codeBytes, from, from + this.#codeBytes);
      const [hole, filler] = [this.#metaOf(block) + slot, this.#metaOf(head) + last];
      for (let i = 0; i < 4; i++) u32[hole + i * perBlock] = u32[filler + i * perBlock]!;
      moved = u32[hole + 3 * perBlock]!;
    }
    if (last === 0) {
      u32[this.#headsAt / 4 + list] = u32[this.#nextAt / 4 + head]!;
      u32[this.#nextAt / 4 + head] = this.#free >>> 0;
      this.#free = head;
    }
    return moved;
  }

  /**
   * Adds the rows of the lists (`lists[0]` to `lists[count - 1]`) that may be among the k best to `into`, and raises its bar. False: they are too many, or were before.
   */
  search(lists: Uint32Array, count: number, query: CodedQuery, k: number, into: ListCandidates): boolean {
    const { lane, u32, f32, calls } = this.memory;
    lane.reset();
    const a = lane.take(listRowsWords.count * 4) / 4;
    const listsAt = lane.take(count * 4);
    const queryAt = lane.take(this.#codeBytes * 2);
    const heap = lane.take(heapBytes(k));
    const room = listRowsLimits.candidatesMax;
    const rowsAt = lane.take(room * 4);
    const mostAt = lane.take((room + 8) * 4);
    const scratch = lane.take(listBlocksTogether * 8);
    for (let i = 0; i < count; i++) u32[listsAt / 4 + i] = lists[i]!;
    this.#i16.set(query.codes, queryAt / 2);
    calls.topKReset(heap, k);
    u32[a + listRowsWords.lists] = listsAt;
    u32[a + listRowsWords.listCount] = count;
    u32[a + listRowsWords.heads] = this.#headsAt;
    u32[a + listRowsWords.counts] = this.#countsAt;
    u32[a + listRowsWords.next] = this.#nextAt;
    u32[a + listRowsWords.blocks] = this.#blocksAt;
    u32[a + listRowsWords.codeBytes] = this.#codeBytes;
    u32[a + listRowsWords.query] = queryAt;
    f32[a + listRowsWords.unit] = query.unit;
    f32[a + listRowsWords.length] = query.length;
    u32[a + listRowsWords.heap] = heap;
    f32[a + listRowsWords.bar] = into.bar;
    u32[a + listRowsWords.rows] = rowsAt;
    u32[a + listRowsWords.most] = mostAt;
    u32[a + listRowsWords.room] = room;
    u32[a + listRowsWords.found] = 0;
    u32[a + listRowsWords.scratch] = scratch;
    calls.listRowsScan(a * 4);
    const found = u32[a + listRowsWords.found]!;
    if (found > room || into.size + found > room) return false;
    into.bar = f32[a + listRowsWords.bar]!;
    into.compared += u32[a + listRowsWords.compared]!;
    for (let i = 0; i < found; i++) {
      into.rows[into.size] = u32[rowsAt / 4 + i]!;
      into.most[into.size++] = f32[mostAt / 4 + i]!;
    }
    return true;
  }

  /** Words of the scales of a block. */
  #metaOf(block: number): number {
    return (this.#blocksAt + block * this.#blockBytes + perBlock * this.#codeBytes) / 4;
  }

  /** Puts an empty block before the others of a list. */
  #begin(list: number): void {
    const { u32 } = this.memory;
    let block = this.#free;
    if (block >= 0) this.#free = u32[this.#nextAt / 4 + block]! | 0;
    else block = this.#fresh++;
    u32[this.#nextAt / 4 + block] = u32[this.#headsAt / 4 + list]!;
    u32[this.#headsAt / 4 + list] = block;
    this.#listOf[block] = list;
  }
}

/** What searches of banks found so far: rows whose scores can be at most `most`, of which those below the bar are none. */
export class ListCandidates {
  readonly rows = new Uint32Array(listRowsLimits.candidatesMax);
  readonly most = new Float32Array(listRowsLimits.candidatesMax);
  size = 0;
  compared = 0;
  /** What a score, as scans see it, must reach. */
  bar = -Infinity;

  reset(bar: number): void {
    this.size = 0;
    this.compared = 0;
    this.bar = bar;
  }

  /** The rows that reach the bar, ascending; returns how many are kept. */
  keep(): number {
    let kept = 0;
    // What is no number is kept.
    for (let i = 0; i < this.size; i++) if (!(this.most[i]! < this.bar)) this.rows[kept++] = this.rows[i]!;
    this.rows.subarray(0, kept).sort();
    this.size = kept;
    return kept;
  }
}
