// Exact search over a block of vectors: every live row is compared, in f32, or first in int8 with the best compared again in f32 inside the kernel.
//
// Order: nearer first, equal ones by the lower slot. A row whose score is NaN or -Infinity is no answer. Fewer than k answers come when fewer rows are live.
// int8 gives the answers of f32: a row's score by its codes is off by no more than follows from the query and the scales, so whatever comes that near to the k-th best is scored
// again in f32 inside the kernel, 1,200 of 200,000 rows for the best 100 (kernels/vector-rows.ts). Rows of a block with codes must be finite and within its scales, or dead:
// codes cannot say more (`scalesOf` counts those that are not finite). Where a filter leaves a list, its margin is a statistical one (kernels/vector-filter.ts).
// A filter that lets few rows pass is turned into a list of slots, and only their rows are read.
//
// Cost: bench/exact-search.ts. A call computes until it is done; a thread that must not stand still cuts it by ExactScan.
// Concurrency: any number of threads search one block, each through its own lane. Bits cleared meanwhile count from some moment of the search on; rows written
// meanwhile may be seen half written, so their bit is set after they are whole.
// Limits: vectorRowLimits, and the lane holds a query with its heap and candidates: laneBytes.

import { MillraceError } from "#base/errors";
import { copyNumbers } from "#platform/copy-bytes";
import type { TopK } from "./dot-top-k.ts";
import type { KernelMemory } from "./kernel-memory.ts";
import { codeBytes, filterScanRows, heapBytes, rowFloats, scanWords, setSlot, type VectorBlock, vectorRowLimits } from "./vector-layout.ts";

export type ScanWay = "f32" | "int8";

export interface ExactOptions {
  /** A bitmap by slot in the block's memory: only slots whose bit is set; 0 or absent = all. */
  readonly filterAt?: number;
  /** Slots to look at, from `from` up to before `to`; default all. */
  readonly from?: number;
  readonly to?: number;
  /** Default int8 where the block has codes. */
  readonly use?: ScanWay;
}

/** Slots in ascending order, each at most once: an array, or `count` u32 at an address of the block's memory. Slots beyond the block are passed over. */
export type SlotList = Uint32Array | { readonly at: number; readonly count: number };

/** Where fewer than one slot in so many passes a filter, its rows are read by a list: a row in between costs less than the miss it saves. */
const listShare = 3;
/** Slots that are listed to see how many pass: counting all costs as much as a tenth of a sparse search. */
const sampleSlots = 4_096;
/** Standard deviations of a code's error: one row in three million is off by more. */
const codeSlack = 5;
const argsBytes = scanWords.count * 4;

/** Rows that int8 compares in f32 at the least, about: a block that has not many more is as fast in f32. */
export function candidatesFor(k: number): number {
  return Math.max(Math.ceil(1.5 * k), k + 64);
}

// ---- one call: what lies in the lane ----

interface Plan {
  readonly block: VectorBlock;
  readonly way: ScanWay;
  readonly k: number;
  readonly filterAt: number;
  /** Slots may come as a list. */
  readonly lists: boolean;
}

function planOf(block: VectorBlock, k: number, query: ArrayLike<number>, options: ExactOptions, lists = false): Plan {
  if (!Number.isInteger(k) || k < 1 || k > vectorRowLimits.kMax) {
    throw new MillraceError("invalid", `a search for ${k} answers`, { todo: `ask for 1 to ${vectorRowLimits.kMax}` });
  }
  const { dims } = block.shape;
  if (query.length === 0 || query.length % dims !== 0) {
    throw new MillraceError("invalid", `queries of ${query.length} numbers for rows of ${dims}`, { todo: "give as many numbers as the block has dimensions" });
  }
  let way = options.use ?? (block.codesAt === 0 ? "f32" : "int8");
  if (way === "int8" && block.codesAt === 0) throw new MillraceError("invalid", "a search by codes in a block without", { todo: 'use "f32"' });
  // What is not finite has no code.
  if (way === "int8") for (let i = 0; i < query.length; i++) if (!Number.isFinite(query[i])) way = "f32";
  const filterAt = options.filterAt ?? 0;
  return { block, way, k, filterAt, lists: lists || filterAt !== 0 };
}

function rangeOf(block: VectorBlock, from = 0, to = block.slots): readonly [number, number] {
  if (!Number.isInteger(from) || !Number.isInteger(to) || from < 0 || to > block.slots) {
    throw new MillraceError("invalid", `slots ${from} to ${to} of ${block.slots}`, { todo: "name slots of the block" });
  }
  return [from, Math.max(from, to)];
}

/** Bytes of scratch for each query: kernels/vector-rows.ts. */
function scratchBytes({ block: { shape }, way }: Plan): number {
  return way === "int8" ? 176 + 2 * codeBytes(shape.dims) : 4;
}

/** Bytes of the lane for each query: its numbers, its heap, scratch. */
function bytesPerQuery(plan: Plan): number {
  return 4 * rowFloats(plan.block.shape.dims) + heapBytes(plan.k) + scratchBytes(plan);
}

/** Heaps for one query at a time: of distances, of a list's scores by codes. */
function spareHeaps({ block: { shape }, way, lists }: Plan): { readonly distances: boolean; readonly codes: boolean } {
  return { distances: shape.metric === "l2", codes: way === "int8" && lists };
}

/** Queries, a multiple of four or less than four, that a lane takes at once; spare heaps and roundings come on top. */
function queriesAtOnce(plan: Plan): number {
  const { lane } = plan.block.memory;
  lane.reset();
  const { distances, codes } = spareHeaps(plan);
  const top = argsBytes + 8 * 16 + 3 * scratchBytes(plan) + (distances ? heapBytes(plan.k) : 0) + (codes ? heapBytes(plan.k) : 0);
  const fitting = Math.min(vectorRowLimits.queriesMax, Math.floor((lane.free - top) / bytesPerQuery(plan)));
  return fitting < 4 ? Math.max(1, fitting) : fitting - (fitting % 4);
}

/** Where the parts of one call lie. */
interface Placed {
  readonly args: number;
  readonly heapAt: number;
  readonly queriesAt: number;
  readonly spareAt: number;
}

/** Lays out the lane for `count` queries and writes the arguments; heaps are the caller's to fill. */
function place(plan: Plan, queries: Float32Array, first: number, count: number): Placed {
  const { block, k, filterAt } = plan;
  const { memory, shape } = block;
  const { lane, u32, f32 } = memory;
  const { dims } = shape;
  const floats = rowFloats(dims);
  lane.reset();
  const args = lane.take(argsBytes);
  const heapAt = lane.take(count * heapBytes(k));
  const queriesAt = lane.take(count * floats * 4);
  const fours = (count + 3) & ~3;
  const bytes8 = codeBytes(dims);
  const scratch = lane.take(fours * scratchBytes(plan));
  const spare = spareHeaps(plan);
  const spareAt = spare.distances ? lane.take(heapBytes(k)) : 0;
  const candidatesAt = spare.codes ? lane.take(heapBytes(k)) : 0;
  for (let query = 0; query < count; query++) {
    const from = (first + query) * dims;
    const to = queriesAt / 4 + query * floats;
    for (let i = 0; i < dims; i++) f32[to + i] = queries[from + i]!;
    f32.fill(0, to + dims, to + floats);
  }
  const a = args / 4;
  u32[a + scanWords.rows] = block.rowsAt;
  u32[a + scanWords.rowBytes] = floats * 4;
  u32[a + scanWords.codes] = block.codesAt;
  u32[a + scanWords.codeBytes] = bytes8;
  u32[a + scanWords.scales] = block.scalesAt;
  u32[a + scanWords.bias] = block.biasAt;
  u32[a + scanWords.live] = block.liveAt;
  u32[a + scanWords.filter] = filterAt;
  u32[a + scanWords.queries] = queriesAt;
  u32[a + scanWords.queryCount] = count;
  u32[a + scanWords.heaps] = heapAt;
  u32[a + scanWords.heapBytes] = heapBytes(k);
  u32[a + scanWords.candidates] = candidatesAt;
  u32[a + scanWords.scratch] = scratch;
  u32[a + scanWords.slots] = block.slots;
  return { args, heapAt, queriesAt, spareAt };
}

/** Room for the scores of a part of a list by codes; 0 where all of a list is compared exactly: in f32, or in a lane too small for the room. */
function takeScores({ block, way }: Plan): number {
  const { lane } = block.memory;
  return way === "int8" && lane.free >= filterScanRows * 12 ? lane.take(filterScanRows * 8) : 0;
}

/** Offers the slots of a list to the queries placed. `scores`: of takeScores. */
function scanOf({ block, k }: Plan, { args, heapAt, queriesAt }: Placed, count: number, listAt: number, listed: number, scores: number): void {
  if (listed === 0) return;
  const { calls, u32 } = block.memory;
  const a = args / 4;
  u32[a + scanWords.list] = listAt;
  u32[a + scanWords.listCount] = listed;
  for (let query = 0; query < count; query++) {
    u32[a + scanWords.queries] = queriesAt + query * 4 * rowFloats(block.shape.dims);
    u32[a + scanWords.heaps] = heapAt + query * heapBytes(k);
    if (scores !== 0) calls.filterScanOf(args, codeSlack, scores);
    else calls.vectorScanOf(args);
  }
}

/** Offers the slots given to the queries placed. */
function scanSlots(plan: Plan, placed: Placed, count: number, slots: SlotList): void {
  const { u32, lane } = plan.block.memory;
  const scores = takeScores(plan);
  if (!(slots instanceof Uint32Array)) {
    scanOf(plan, placed, count, slots.at, slots.count, scores);
    return;
  }
  const room = Math.max(1, Math.min(slots.length, Math.floor((lane.free - 16) / 4)));
  const list = lane.take(room * 4);
  for (let first = 0; first < slots.length; first += room) {
    const end = Math.min(slots.length, first + room);
    copyNumbers(slots, first, end, u32, list / 4);
    scanOf(plan, placed, count, list, end - first, scores);
  }
}

/** Scans [from, to) for the queries placed, by rows one after another or, where a filter lets few pass, by a list. */
function scanPlaced(plan: Plan, placed: Placed, count: number, from: number, to: number): void {
  const { block, way, filterAt } = plan;
  const { calls, u32, lane } = block.memory;
  const a = placed.args / 4;
  if (from >= to) return;
  if (filterAt !== 0) {
    const scores = takeScores(plan);
    const room = Math.max(1, Math.min(to - from, Math.floor((lane.free - 16) / 4)));
    const list = lane.take(room * 4);
    const sample = Math.min(room, sampleSlots);
    // Dead ones are listed too: whose score could be an answer is looked up then. The live bits of all would be as many misses as rows.
    let listed = calls.bitsList(0, filterAt, from, to, list, sample);
    let isWhole = listed < sample;
    let last = listed === 0 ? from : u32[list / 4 + listed - 1]!;
    if (isWhole || listed * listShare <= last + 1 - from) {
      for (;;) {
        scanOf(plan, placed, count, list, listed, scores);
        if (isWhole) return;
        listed = calls.bitsList(0, filterAt, last + 1, to, list, room);
        isWhole = listed < room;
        if (listed > 0) last = u32[list / 4 + listed - 1]!;
      }
    }
  }
  u32[a + scanWords.from] = from;
  u32[a + scanWords.to] = to;
  if (way === "int8") {
    if (count === 1) calls.vectorScan8(placed.args);
    else calls.vectorBatch8(placed.args);
  } else if (count === 1) calls.vectorScan(placed.args);
  else calls.vectorBatch(placed.args);
}

/** Sorts one heap and copies its answers. */
function take(plan: Plan, { args, heapAt, queriesAt, spareAt }: Placed, query: number, into: TopK): void {
  const { block, k } = plan;
  const { metric } = block.shape;
  const { calls, u32, f32 } = block.memory;
  const a = args / 4;
  let heap = heapAt + query * heapBytes(k);
  if (metric === "l2") {
    calls.topKReset(spareAt, k);
    u32[a + scanWords.queries] = queriesAt + query * 4 * rowFloats(block.shape.dims);
    u32[a + scanWords.heaps] = spareAt;
    u32[a + scanWords.list] = heap + 16 + 4 * k;
    u32[a + scanWords.listCount] = u32[heap / 4 + 1]!;
    calls.vectorDistances(args);
    heap = spareAt;
  }
  const size = calls.topKSort(heap) >>> 0;
  const scores = heap / 4 + 4;
  into.size = size;
  if (size > 24) copyNumbers(u32, scores + k, scores + k + size, into.rows, 0);
  else for (let i = 0; i < size; i++) into.rows[i] = u32[scores + k + i]!;
  if (metric === "ip") for (let i = 0; i < size; i++) into.scores[i] = f32[scores + i]!;
  // -0 is no distance, and a cosine does not leave [-1, 1] by rounding.
  else if (metric === "l2") for (let i = 0; i < size; i++) into.scores[i] = 0 - f32[scores + i]!;
  else for (let i = 0; i < size; i++) into.scores[i] = Math.max(-1, Math.min(1, f32[scores + i]!));
}

function checkInto(into: readonly TopK[], queries: number, k: number): void {
  if (into.length !== queries || into.some((top) => top.rows.length < k)) {
    throw new MillraceError("invalid", `${into.length} places for ${queries} answers of ${k}`, { todo: "give one TopK a query, of k rows or more" });
  }
}

// ---- searches ----

/**
 * The best k rows of a block for one query of `dims` numbers (cosine: any length but 1 gives products, not cosines: `normalise`). Scores: the product (ip), the cosine, the
 * squared distance (l2, smaller is nearer), best first; k at most into.rows.length. Returns `into`. Throws `invalid` for what does not fit.
 */
export function exactSearch(block: VectorBlock, query: Float32Array, k: number, into: TopK, options: ExactOptions = {}): TopK {
  if (query.length !== block.shape.dims) {
    throw new MillraceError("invalid", `a query of ${query.length} numbers for rows of ${block.shape.dims}`, {
      todo: "give as many numbers as the block has dimensions",
    });
  }
  exactSearchBatch(block, query, k, [into], options);
  return into;
}

/** As exactSearch, over the live ones of the slots given; in f32, or by codes first (`use`). */
export function exactSearchOf(block: VectorBlock, query: Float32Array, k: number, into: TopK, slots: SlotList, use: ScanWay = "f32"): TopK {
  const plan = planOf(block, k, query, { use }, true);
  checkInto([into], query.length / block.shape.dims, k);
  const placed = place(plan, query, 0, 1);
  block.memory.calls.topKReset(placed.heapAt, k);
  scanSlots(plan, placed, 1, slots);
  take(plan, placed, 0, into);
  return into;
}

/** As exactSearch for row-major queries, one answer each: rows are read once for many queries. */
export function exactSearchBatch(block: VectorBlock, queries: Float32Array, k: number, into: readonly TopK[], options: ExactOptions = {}): void {
  const plan = planOf(block, k, queries, options);
  const all = queries.length / block.shape.dims;
  checkInto(into, all, k);
  const [from, to] = rangeOf(block, options.from, options.to);
  const { calls } = block.memory;
  const group = queriesAtOnce(plan);
  for (let first = 0; first < all; first += group) {
    const count = Math.min(group, all - first);
    const placed = place(plan, queries, first, count);
    for (let query = 0; query < count; query++) calls.topKReset(placed.heapAt + query * heapBytes(k), k);
    scanPlaced(plan, placed, count, from, to);
    for (let query = 0; query < count; query++) take(plan, placed, query, into[first + query]!);
  }
}

/** A search in slices: other work, other searches too, may use the same lane between two calls of `scan`. Reusable. */
export class ExactScan {
  readonly block: VectorBlock;
  #plan: Plan | undefined;
  #queries = new Float32Array(0);
  /** Heaps as they stand between two slices. */
  #heaps = new Uint32Array(0);

  constructor(block: VectorBlock) {
    this.block = block;
  }

  /** Starts over with row-major queries, which are copied. */
  begin(queries: Float32Array, k: number, options: Omit<ExactOptions, "from" | "to"> = {}): void {
    const plan = planOf(this.block, k, queries, options, true);
    this.#plan = plan;
    this.#queries = queries.slice();
    const words = heapBytes(k) / 4;
    const needed = (queries.length / this.block.shape.dims) * words;
    if (this.#heaps.length < needed) this.#heaps = new Uint32Array(needed);
    for (let heap = 0; heap < needed; heap += words) {
      this.#heaps[heap] = k;
      this.#heaps.fill(0, heap + 1, heap + 4);
    }
  }

  /** Compares the slots from `from` up to before `to`. Each slot once over all calls, in any order. */
  scan(from: number, to: number): void {
    const plan = this.#begun();
    rangeOf(this.block, from, to);
    this.#each(plan, (placed, _first, count) => {
      scanPlaced(plan, placed, count, from, to);
    });
  }

  /** Compares the live ones of the slots given. Each slot once over all calls of this and `scan`. */
  scanOf(slots: SlotList): void {
    const plan = this.#begun();
    this.#each(plan, (placed, _first, count) => {
      scanSlots(plan, placed, count, slots);
    });
  }

  /** The answers of what was scanned, one for each query. Nothing more can be scanned after it but by `begin`. */
  end(into: readonly TopK[]): void {
    const plan = this.#begun();
    checkInto(into, this.#queries.length / this.block.shape.dims, plan.k);
    this.#each(plan, (placed, first, count) => {
      for (let query = 0; query < count; query++) take(plan, placed, query, into[first + query]!);
    });
    this.#plan = undefined;
  }

  #begun(): Plan {
    if (this.#plan === undefined) throw new MillraceError("internal", "a search in slices was not begun");
    return this.#plan;
  }

  /** Puts as many queries as fit, with their heaps, into the lane, and takes the heaps out again. */
  #each(plan: Plan, call: (placed: Placed, first: number, count: number) => void): void {
    const all = this.#queries.length / this.block.shape.dims;
    const group = queriesAtOnce(plan);
    const words = heapBytes(plan.k) / 4;
    for (let first = 0; first < all; first += group) {
      const count = Math.min(group, all - first);
      const placed = place(plan, this.#queries, first, count);
      const { u32 } = this.block.memory;
      copyNumbers(this.#heaps, first * words, (first + count) * words, u32, placed.heapAt / 4);
      call(placed, first, count);
      copyNumbers(u32, placed.heapAt / 4, placed.heapAt / 4 + count * words, this.#heaps, first * words);
    }
  }
}

// ---- writing ----

/** Length of one row-major vector, in f64: the squares of f32 cannot leave it. */
function lengthOf(vectors: Float32Array, from: number, dims: number): number {
  let squares = 0;
  for (let i = from; i < from + dims; i++) squares += vectors[i]! * vectors[i]!;
  return Math.sqrt(squares);
}

/**
 * Writes row-major vectors to slots from `firstSlot` on as the metric wants them: cosine divided by their length, l2 with their bias. `norms`: lengths before.
 * Codes and live bits are not touched. Throws `invalid` when they do not fit.
 */
export function writeRows(block: VectorBlock, firstSlot: number, vectors: Float32Array, norms?: Float32Array): void {
  const { memory, shape, slots } = block;
  const { dims, metric } = shape;
  const count = vectors.length / dims;
  if (!Number.isInteger(count) || !Number.isInteger(firstSlot) || firstSlot < 0 || firstSlot + count > slots) {
    throw new MillraceError("invalid", `${vectors.length} numbers for rows of ${dims} from slot ${firstSlot} of ${slots}`, {
      todo: "give whole rows that lie inside the block",
    });
  }
  const { f32 } = memory;
  const floats = rowFloats(dims);
  for (let row = 0; row < count; row++) {
    const from = row * dims;
    const to = block.rowsAt / 4 + (firstSlot + row) * floats;
    const length = metric === "cosine" || norms !== undefined ? lengthOf(vectors, from, dims) : 1;
    const factor = metric === "cosine" && length > 0 ? 1 / length : 1;
    for (let i = 0; i < dims; i++) f32[to + i] = vectors[from + i]! * factor;
    f32.fill(0, to + dims, to + floats);
    if (norms !== undefined) norms[row] = length;
  }
  biases(block, firstSlot, firstSlot + count);
}

/** Computes the biases of slots [from, to) from their rows: -|x|^2 / 2. Does nothing for other metrics than l2. */
export function biases(block: VectorBlock, from = 0, to = block.slots): void {
  const { memory, shape, biasAt, rowsAt } = block;
  if (biasAt === 0) return;
  rangeOf(block, from, to);
  const { f32 } = memory;
  const floats = rowFloats(shape.dims);
  for (let slot = from; slot < to; slot++) {
    let squares = 0;
    const at = rowsAt / 4 + slot * floats;
    for (let i = at; i < at + shape.dims; i++) squares += f32[i]! * f32[i]!;
    f32[biasAt / 4 + slot] = -squares / 2;
  }
}

/** Divides row-major vectors by their length, in place; a vector of zeros stays. For queries, and rows outside a block. `norms`: lengths before. */
export function normalise(vectors: Float32Array, dims: number, norms?: Float32Array): void {
  for (let from = 0, row = 0; from < vectors.length; from += dims, row++) {
    const length = lengthOf(vectors, from, dims);
    if (norms !== undefined) norms[row] = length;
    const factor = length > 0 ? 1 / length : 1;
    for (let i = from; i < from + dims; i++) vectors[i]! *= factor;
  }
}

function checkCodes(block: VectorBlock): void {
  if (block.codesAt === 0) throw new MillraceError("invalid", "scales of a block without codes", { todo: "lay it out with codes" });
}

/**
 * Raises the scales of a block to what its live rows in [from, to) need. Returns how many live rows are not finite (they are left out, and must not stay live).
 * Where a scale grew, codes made before must be made again.
 */
export function scalesOf(block: VectorBlock, from = 0, to = block.slots): number {
  checkCodes(block);
  rangeOf(block, from, to);
  return block.memory.calls.vectorScales(block.rowsAt, 4 * rowFloats(block.shape.dims), block.liveAt, from, to, block.scalesAt) >>> 0;
}

/** Writes the codes of slots [from, to) by the block's scales. Numbers beyond a scale are cut to it, so that their row may be missed by int8. */
export function quantise(block: VectorBlock, from = 0, to = block.slots): void {
  checkCodes(block);
  rangeOf(block, from, to);
  const { dims } = block.shape;
  block.memory.calls.vectorCodes(block.rowsAt, 4 * rowFloats(dims), block.scalesAt, block.codesAt, codeBytes(dims), from, to);
}

/** Clears the live bits of slots in [from, to) whose rows are not finite; returns how many. */
export function killNotFinite(block: VectorBlock, from = 0, to = block.slots): number {
  rangeOf(block, from, to);
  const { memory, shape, rowsAt, liveAt } = block;
  if (liveAt === 0) return 0;
  const floats = rowFloats(shape.dims);
  let killed = 0;
  for (let slot = from; slot < to; slot++) {
    let rest = 0;
    const at = rowsAt / 4 + slot * floats;
    for (let i = at; i < at + shape.dims; i++) rest += memory.f32[i]! - memory.f32[i]!;
    if (rest === 0) continue;
    if (((memory.u32[liveAt / 4 + (slot >>> 5)]! >>> (slot & 31)) & 1) === 1) killed++;
    setSlot(memory, liveAt, slot, false);
  }
  return killed;
}

// ---- bitmaps ----

/** Bits that are set in both bitmaps (an address of 0: all are) in [from, to). */
export function countBits(memory: KernelMemory, firstAt: number, secondAt: number, from: number, to: number): number {
  return memory.calls.bitsCount(firstAt, secondAt, from, to) >>> 0;
}

/** Live slots of [from, to) that pass a filter; `filterAt` 0: all that are live. */
export function countSlots(block: VectorBlock, filterAt = 0, from = 0, to = block.slots): number {
  rangeOf(block, from, to);
  return countBits(block.memory, block.liveAt, filterAt, from, to);
}

/** Writes the live slots of [from, to) that pass a filter to `listAt`, u32 each, ascending, at most `listMax`; returns how many. Go on from the last one + 1. */
export function listSlots(block: VectorBlock, filterAt: number, listAt: number, listMax: number, from = 0, to = block.slots): number {
  rangeOf(block, from, to);
  return block.memory.calls.bitsList(block.liveAt, filterAt, from, to, listAt, listMax) >>> 0;
}
