// Rows of a live tail by the lists of the base, so that a search compares only those of the lists that the base's search looked into.
//   a row that is written waits -> a piece of work gives it the list of its nearest mean, and keeps its code there -> or it is no kin of any list, and stays out
// Rows that wait are in the `always` bits of their chunk: every search compares them. Rows that are no kin (strays) have a list of their own, into which every search looks, or beyond
// `codedStraysMax` a bit too. So nobody pays at the write, and a shift of the data costs time, not recall.
// Which list: the nearest mean by distance, under every metric: what a row differs from its list's mean by is then least, and with it how far its score may be from what the search judges the
// list by. A stray differs by more than `strayFactor` times what the rows of the base do there (root mean square, which the list's spread tells), or, under inner products, is longer
// by `strayLength` than they are: few queries would look where it is.
// A query looks, besides the lists of the base's search, into those that could hold a row of its score (`reachOf`: nothing more for rows like the base's), and into the lists that a row equal to
// it would be given: what was written is found by its own vector.
// Invariants: 1. a live row is waiting, a stray without a code, or in one list of one bank by its present vector; the first two have their bit  2. a search that looks into lists and then at all `always` bits
// in one turn misses no row of those lists; `moves` tells that rows went to lists in between, and that it must look again  3. a row is in the list of its nearest mean, or next to it
// by rounding.
// Cost: a piece of work 16 rows, some 0.1 ms with 64 numbers and 2,048 lists (centroid-codes.ts); a search 3 to 5 ns a row of its lists and the exact rows of candidates. Memory a row: its
// code, 16 bytes, and 4; half a block of eight a list and bank; the means in three forms.
// Concurrency: one thread. Limits: tailListsLimits; what the pool gives: without memory, rows wait.

import { MillraceError } from "#base/errors";
import { createTopK, type TopK } from "#kernel/dot-top-k";
import { centroidBlocksBytes, centroidCodesBytes } from "#kernel/ivf-layout";
import { Centroids } from "#kernel/k-means";
import { CodedQuery, ListCandidates, ListRows, listRowsLimits } from "#kernel/list-rows";
import { listBlockBytes, listRowsPerBlock } from "#kernel/list-rows-layout";
import type { KernelMemory } from "#kernel/kernel-memory";
import type { MemoryLease, MemoryPool } from "#kernel/memory-pool";
import { codeBytes, createVectorBlock, rowFloats, setSlot, type VectorBlock, vectorBlockBytes, type VectorShape } from "#kernel/vector-layout";
import type { ListIndex } from "#kernel/vector-ivf";
import { exactSearchOf } from "#kernel/vector-rows";
import { copyBytes } from "#platform/copy-bytes";
import type { VectorSegment } from "../segment/vector-segment.ts";
import type { LiveTail, TailChunk, TailFollower } from "./live-tail.ts";

export const tailListsLimits = {
  /** Below so many rows a tail is read as it is. */
  rowsMin: 4_096,
  /** Rows that get a list in one piece of work. */
  together: 16,
  /** Means that are made ready in one piece. */
  meansTogether: 128,
  /** A search does a piece of work only when more wait: else idle times are enough. */
  waitingMax: 256,
  /** The first bank holds so many rows beside half a block a list; each later one as many as all before. */
  firstBankRows: 16_384,
  bankBytesMax: 64 << 20,
  banksMax: 62,
  /** After the pool had no memory: so many writes until it is asked again. */
  retryWrites: 16_384,
  /** Candidates compared exactly in one call. */
  comparedTogether: 64,
  /** Strays that have codes, which every search reads: some 0.2 ms. Further ones have none, and are read chunk by chunk. */
  codedStraysMax: 32_768,
  /** Rows in no list, up to which they are compared by their numbers and not chunk by chunk. */
  othersMax: 256,
} as const;

/** Of the root mean square of what the rows of the base differ from their list's mean by. */
const strayFactor = 1.5;
/** Of the root mean square length of a list's rows; inner products only. */
const strayLength = 1.25;

/** Places of rows: bank times `bankPlaces` plus the place in it; from `waitingFrom` and `straysFrom` on, the place in the bag of those; absent. */
const bankPlaces = 2 ** 26;
const waitingFrom = 62 * bankPlaces;
const straysFrom = 63 * bankPlaces;
const absent = 0xffff_ffff;

/** Numbers of rows without an order. */
class RowBag {
  size = 0;
  rows = new Uint32Array(1_024);

  /** Returns its place. */
  add(row: number): number {
    if (this.size === this.rows.length) {
      const more = new Uint32Array(2 * this.size);
      more.set(this.rows);
      this.rows = more;
    }
    this.rows[this.size] = row;
    return this.size++;
  }

  /** Returns the row that stands at the place then, undefined when none does. */
  remove(place: number): number | undefined {
    this.size -= 1;
    if (place === this.size) return undefined;
    return (this.rows[place] = this.rows[this.size]!);
  }
}

/**
 * How many spreads of a list its best row may lie beyond its mean, for a search to look there: of rows of the base answers lie nearer, and lists farther away are not looked into by the base's
 * search either; rows of another kind differ from the mean in the same direction as the queries for them. Measured (docs/design/vectors.md); inner products need more.
 */
function reachOf({ dims, metric }: VectorShape): number {
  return metric === "ip" ? 0.8 * Math.sqrt(dims) : Math.min(5, 0.85 * Math.sqrt(dims));
}

interface Bank {
  readonly rows: ListRows;
  readonly lease: MemoryLease;
}

/** The means, ready for finding the nearest, and room to work in. */
interface Ready {
  readonly lease: MemoryLease;
  readonly centroids: Centroids;
  readonly rowsAt: number;
  readonly listAt: number;
  readonly scoreAt: number;
  /** Candidates are compared there. */
  readonly block: VectorBlock;
  readonly pieceAt: number;
  /** f32 a list: a list's score by distance is the search's score of it plus this. */
  readonly toDistanceAt: number;
  /** f32 a list: how far beyond its mean's score a row may be, for a query of length 1. */
  readonly reachesAt: number;
  /** A word a list each. */
  readonly scoresAt: number;
  readonly seenAt: number;
  readonly foundAt: number;
  /** Means that are ready. */
  means: number;
}

export interface TailListsParts {
  readonly tail: LiveTail;
  readonly segment: VectorSegment;
  readonly index: ListIndex;
  readonly pool: MemoryPool;
  readonly owner: string;
  /** Defaults are those of tailListsLimits; tests take others. */
  readonly limits?: TailListsTuning;
}

export interface TailListsTuning {
  readonly rowsMin?: number;
  readonly codedStraysMax?: number;
}

export class TailLists implements TailFollower {
  /** Rows that were given a list so far. */
  moves = 0;
  readonly #tail: LiveTail;
  readonly #segment: VectorSegment;
  readonly #index: ListIndex;
  readonly #pool: MemoryPool;
  readonly #owner: string;
  readonly #rowsMin: number;
  readonly #codedStraysMax: number;
  /** Of the rows of each chunk. */
  readonly #places: Uint32Array[] = [];
  readonly #waiting = new RowBag();
  /** Without codes. */
  readonly #strays = new RowBag();
  readonly #banks: Bank[] = [];
  readonly #rows = new Uint32Array(tailListsLimits.together);
  /** Squared distances from the mean, and squared lengths, beyond which a row is a stray. */
  readonly #farthest: Float64Array;
  readonly #longest: Float64Array;
  readonly #query: CodedQuery;
  readonly #candidates = new ListCandidates();
  readonly #others = new Uint32Array(tailListsLimits.othersMax);
  readonly #numbers = Uint32Array.from({ length: tailListsLimits.comparedTogether }, (_, i) => i);
  #longestMean = 0;
  #ready: Ready | undefined;
  #writes = 0;
  #askAgainAt = 0;

  constructor({ tail, segment, index, pool, owner, limits = {} }: TailListsParts) {
    this.#tail = tail;
    this.#segment = segment;
    this.#index = index;
    this.#pool = pool;
    this.#owner = owner;
    this.#rowsMin = limits.rowsMin ?? tailListsLimits.rowsMin;
    this.#codedStraysMax = limits.codedStraysMax ?? tailListsLimits.codedStraysMax;
    this.#farthest = new Float64Array(index.lists);
    this.#longest = new Float64Array(index.lists);
    this.#query = new CodedQuery(segment.shape.dims);
  }

  /** Rows in lists, that of the strays too. */
  get listedRows(): number {
    return this.#banks.reduce((sum, { rows }) => sum + rows.rows, 0);
  }

  /** Of kernel memories. */
  get bytes(): number {
    return this.#banks.reduce((sum, { lease }) => sum + lease.memory.bytes.length, this.#ready?.lease.memory.bytes.length ?? 0);
  }

  /** Rows that have no list yet. */
  get waitingRows(): number {
    return this.#waiting.size;
  }

  /** Rows that are no kin of any list. */
  get strayRows(): number {
    return this.#strays.size + this.#codedStrays;
  }

  /** Those of them that have codes. */
  get #codedStrays(): number {
    return this.#banks.reduce((sum, { rows }) => sum + rows.rowsOf(this.#index.lists), 0);
  }

  // --- writes --------------------------------------------------------------------------------------------------------------------------

  written(chunk: TailChunk, slot: number): void {
    this.#writes += 1;
    const places = (this.#places[chunk.number] ??= new Uint32Array(chunk.block.slots).fill(absent));
    const place = places[slot]!;
    if (place >= waitingFrom && place < straysFrom) return;
    if (place !== absent) this.#takeOut(place);
    places[slot] = waitingFrom + this.#waiting.add(chunk.first + slot);
    if (place !== absent && place >= straysFrom) return;
    setSlot(chunk.block.memory, chunk.alwaysAt, slot, true);
    chunk.always += 1;
  }

  removed(chunk: TailChunk, slot: number): void {
    const places = this.#places[chunk.number]!;
    const place = places[slot]!;
    this.#takeOut(place);
    places[slot] = absent;
    if (place < waitingFrom) return;
    setSlot(chunk.block.memory, chunk.alwaysAt, slot, false);
    chunk.always -= 1;
  }

  /** Out of its bank or bag. */
  #takeOut(place: number): void {
    let moved: number | undefined;
    if (place >= straysFrom) moved = this.#strays.remove(place - straysFrom);
    else if (place >= waitingFrom) moved = this.#waiting.remove(place - waitingFrom);
    else moved = this.#banks[Math.floor(place / bankPlaces)]!.rows.remove(place % bankPlaces);
    if (moved === undefined) return;
    const { number, first } = this.#tail.chunkOf(moved);
    this.#places[number]![moved - first] = place;
  }

  // --- work ----------------------------------------------------------------------------------------------------------------------------

  /** A piece of what is to be done, some 0.1 ms; false when there is nothing. */
  work(): boolean {
    if (this.waitingRows === 0 || this.#tail.rows < this.#rowsMin || this.#writes < this.#askAgainAt) return false;
    try {
      const ready = (this.#ready ??= this.#makeReady());
      if (ready.means < this.#index.lists) this.#addMeans(ready);
      else this.#giveLists(ready);
      return true;
    } catch (thrown) {
      if (!(thrown instanceof MillraceError) || thrown.code !== "overloaded") throw thrown;
      this.#askAgainAt = this.#writes + tailListsLimits.retryWrites;
      return false;
    }
  }

  #makeReady(): Ready {
    const { shape } = this.#segment;
    const { lists } = this.#index;
    const { together, meansTogether, comparedTogether } = tailListsLimits;
    const rowBytes = rowFloats(shape.dims) * 4;
    const blockParts = { codes: false, live: false };
    const lease = this.#pool.lease({
      owner: this.#owner,
      dataBytes:
        centroidBlocksBytes(lists, shape.dims) +
        centroidCodesBytes(lists, shape.dims) +
        (lists + 8) * 4 +
        meansTogether * rowBytes +
        centroidCodesBytes(meansTogether, shape.dims) +
        together * (rowBytes + 8) +
        vectorBlockBytes(shape, comparedTogether, blockParts) +
        5 * (lists + 4) * 4 +
        17 * 64,
      laneBytes: Math.max(64 << 10, Centroids.laneBytes(shape, lists) + 4_096),
    });
    const { memory } = lease;
    const biasAt = memory.reserve((lists + 8) * 4);
    memory.f32.fill(-Infinity, biasAt / 4, biasAt / 4 + lists + 8);
    const codesAt = memory.reserve(centroidCodesBytes(lists, shape.dims));
    memory.bytes.fill(0, codesAt, codesAt + 64);
    const meansAt = memory.reserve(meansTogether * rowBytes);
    const places = { rowsAt: meansAt, blocksAt: memory.reserve(centroidBlocksBytes(lists, shape.dims)), biasAt, codesAt, sumsAt: 0, countsAt: 0 };
    const rowsAt = memory.reserve(together * rowBytes);
    memory.bytes.fill(0, rowsAt, rowsAt + together * rowBytes);
    const words = (fill: number): number => {
      const at = memory.reserve((lists + 4) * 4);
      memory.f32.fill(fill, at / 4, at / 4 + lists + 4);
      return at;
    };
    return {
      lease,
      toDistanceAt: words(0),
      reachesAt: words(0),
      scoresAt: words(-Infinity),
      seenAt: words(0),
      foundAt: words(0),
      // By distance, whatever the metric is.
      centroids: new Centroids(memory, { dims: shape.dims, metric: "l2" }, lists, places),
      rowsAt,
      listAt: memory.reserve(together * 4),
      scoreAt: memory.reserve(together * 4),
      block: createVectorBlock(memory, shape, comparedTogether, blockParts),
      pieceAt: memory.reserve(centroidCodesBytes(meansTogether, shape.dims)),
      means: 0,
    };
  }

  /** Some means more as finding the nearest wants them; and what is known of their lists. */
  #addMeans(ready: Ready): void {
    const { dims, metric } = this.#segment.shape;
    const { lists, centroidsAt, listBiasAt, spreadsAt } = this.#index;
    const base = this.#segment.memory;
    const { memory } = ready.lease;
    const floats = rowFloats(dims);
    const { rowsAt, blocksAt, biasAt, codesAt } = ready.centroids.places;
    const from = ready.means;
    const count = Math.min(tailListsLimits.meansTogether, lists - from);
    const words = centroidsAt / 4 + from * floats;
    memory.f32.set(base.f32.subarray(words, words + count * floats), rowsAt / 4);
    for (let i = 0; i < count; i++) {
      const list = from + i;
      let square = 0;
      for (let j = 0; j < dims; j++) square += memory.f32[rowsAt / 4 + i * floats + j]! ** 2;
      memory.f32[biasAt / 4 + list] = -square / 2;
      const spread = base.f32[spreadsAt / 4 + list]! ** 2 * dims;
      memory.f32[ready.reachesAt / 4 + list] = reachOf(this.#segment.shape) * base.f32[spreadsAt / 4 + list]!;
      memory.f32[ready.toDistanceAt / 4 + list] = -square / 2 - (listBiasAt === 0 ? 0 : base.f32[listBiasAt / 4 + list]!);
      this.#farthest[list] = strayFactor ** 2 * spread;
      this.#longest[list] = metric === "ip" ? strayLength ** 2 * (square + spread) : Infinity;
      this.#longestMean = Math.max(this.#longestMean, Math.sqrt(square));
    }
    memory.calls.centroidsTranspose(rowsAt, count, floats * 4, blocksAt + from * floats * 4);
    // Codes of a part have figures of their own, of which the largest hold for all.
    memory.calls.centroidsCodes(rowsAt, count, floats * 4, ready.pieceAt);
    const head = 64;
    const blockBytes = (centroidCodesBytes(8, dims) - head) / 8;
    for (let i = 0; i < 2; i++) memory.f32[codesAt / 4 + i] = Math.max(memory.f32[codesAt / 4 + i]!, memory.f32[ready.pieceAt / 4 + i]!);
    memory.bytes.copyWithin(codesAt + head + from * blockBytes, ready.pieceAt + head, ready.pieceAt + centroidCodesBytes(count, dims));
    ready.means += count;
  }

  /** Gives some of the rows that wait their lists. */
  #giveLists(ready: Ready): void {
    const { dims, metric } = this.#segment.shape;
    const floats = rowFloats(dims);
    const { memory } = ready.lease;
    const { f32, u32 } = memory;
    const rows = this.#rows;
    const count = Math.min(rows.length, this.#waiting.size);
    // The last ones first: nothing moves in the bag.
    for (let i = 0; i < count; i++) this.#lay(memory, ready.rowsAt, i, (rows[i] = this.#waiting.rows[this.#waiting.size - 1 - i]!));
    ready.centroids.nearest(ready.rowsAt, count, ready.listAt, ready.scoreAt);
    for (let i = 0; i < count; i++) {
      const row = rows[i]!;
      const from = ready.rowsAt / 4 + i * floats;
      let square = 0;
      for (let j = 0; j < dims; j++) square += f32[from + j]! ** 2;
      const list = u32[ready.listAt / 4 + i]!;
      const isKin = square - 2 * f32[ready.scoreAt / 4 + i]! <= this.#farthest[list]! && square <= this.#longest[list]!;
      // Strays have a list of their own, into which every search looks.
      const to = isKin ? list : this.#index.lists;
      const isListed = isKin || this.#codedStrays < this.#codedStraysMax;
      // Before anything changes: it may have no memory.
      const bank = isListed ? this.#bankFor(to) : -1;
      const chunk = this.#tail.chunkOf(row);
      const slot = row - chunk.first;
      const places = this.#places[chunk.number]!;
      this.#takeOut(places[slot]!);
      if (isListed) {
        places[slot] = bank * bankPlaces + this.#banks[bank]!.rows.put(to, row, f32, from, metric === "l2" ? -square / 2 : 0);
        setSlot(chunk.block.memory, chunk.alwaysAt, slot, false);
        chunk.always -= 1;
        this.moves += 1;
      } else places[slot] = straysFrom + this.#strays.add(row);
    }
  }

  /** Copies a row of the tail to place `i` of rows at `at`. */
  #lay({ bytes }: KernelMemory, at: number, i: number, row: number): void {
    const { block, first } = this.#tail.chunkOf(row);
    const rowBytes = rowFloats(this.#segment.shape.dims) * 4;
    const from = block.rowsAt + (row - first) * rowBytes;
    copyBytes(block.memory.bytes, from, from + rowBytes, bytes, at + i * rowBytes);
  }

  /** A bank that has room for a row of the list. Throws `overloaded`. */
  #bankFor(list: number): number {
    const known = this.#banks.findIndex(({ rows }) => rows.hasRoom(list));
    if (known >= 0) return known;
    const { firstBankRows, bankBytesMax, banksMax } = tailListsLimits;
    if (this.#banks.length >= banksMax) throw new MillraceError("overloaded", `${banksMax} banks of rows by list`, { todo: "fold the collection sooner" });
    const { dims } = this.#segment.shape;
    const { lists } = this.#index;
    const most = Math.max(firstBankRows, Math.floor(bankBytesMax / listBlockBytes(codeBytes(dims))) * listRowsPerBlock);
    const rows = Math.min(most, Math.max(firstBankRows, this.listedRows));
    const shape = { lists: lists + 1, dims, blocks: Math.min(bankPlaces / listRowsPerBlock, lists + 1 + Math.ceil(rows / listRowsPerBlock)) };
    const lease = this.#pool.lease({ owner: this.#owner, dataBytes: ListRows.bytes(shape), laneBytes: ListRows.laneBytes(shape) });
    return this.#banks.push({ lease, rows: new ListRows(lease.memory, shape) }) - 1;
  }

  // --- searches ------------------------------------------------------------------------------------------------------------------------

  /** Whether a search for so many answers may go by lists. */
  canSearch(count: number): boolean {
    return count <= listRowsLimits.kMax && this.#ready?.means === this.#index.lists && this.listedRows > 0;
  }

  /**
   * The lists to look into for the query that the segment just searched for, in a copy; `least`: the score that an answer must reach, as the metric reports it, undefined: any is one. Undefined:
   * the search did not go by lists.
   */
  listsOf(query: Float32Array, least: number | undefined): Uint32Array | undefined {
    const { scoresAt = 0, seenAt = 0 } = this.#segment.work;
    const ready = this.#ready;
    if (seenAt === 0 || ready === undefined) return undefined;
    const { memory } = ready.lease;
    const { lists } = this.#index;
    const from = this.#segment.memory.bytes;
    copyBytes(from, scoresAt, scoresAt + lists * 4, memory.bytes, ready.scoresAt);
    copyBytes(from, seenAt, seenAt + lists * 4, memory.bytes, ready.seenAt);
    let square = 0;
    for (let j = 0; j < query.length; j++) square += query[j]! * query[j]!;
    // Sums of f32, in another order than those by which rows were given their lists.
    const slack = (1e-6 + 2e-7 * query.length) * (Math.sqrt(square) + this.#longestMean) * this.#longestMean;
    const isL2 = this.#segment.shape.metric === "l2";
    const count =
      memory.calls.listsNear(
        ready.scoresAt,
        ready.seenAt,
        lists,
        ready.reachesAt,
        square,
        isL2 ? 1 : 0,
        least === undefined ? -Infinity : barOf(isL2, least, Math.sqrt(square)),
        ready.toDistanceAt,
        slack,
        ready.foundAt,
      ) >>> 0;
    memory.u32[ready.foundAt / 4 + count] = lists;
    return memory.u32.slice(ready.foundAt / 4, ready.foundAt / 4 + count + 1);
  }

  /**
   * Offers the rows of the lists that score at least `least` (as the metric reports scores; undefined: any), compared exactly. `offer` gets a sorted list of answers and the row of each.
   * Returns how many rows were compared, undefined when too many could be answers and none was offered.
   */
  look(lists: Uint32Array, query: Float32Array, count: number, least: number | undefined, offer: (top: TopK, rows: Uint32Array) => void): number | undefined {
    const { metric } = this.#segment.shape;
    const candidates = this.#candidates;
    const coded = this.#query.set(query);
    candidates.reset(least === undefined ? -Infinity : barOf(metric === "l2", least, coded.length));
    for (const { rows } of this.#banks) if (rows.rows > 0 && !rows.search(lists, lists.length, coded, count, candidates)) return undefined;
    this.#compare(candidates.rows, candidates.keep(), query, count, offer);
    return candidates.compared;
  }

  /** Whether the rows that are in no list are so few that `lookAtOthers` is better than a look at the bits of every chunk. */
  get othersAreFew(): boolean {
    return this.#waiting.size + this.#strays.size <= tailListsLimits.othersMax;
  }

  /** Offers the rows that are in no list. Returns how many. */
  lookAtOthers(query: Float32Array, count: number, offer: (top: TopK, rows: Uint32Array) => void): number {
    const rows = this.#others;
    let size = 0;
    for (const bag of [this.#waiting, this.#strays]) for (let i = 0; i < bag.size; i++) rows[size++] = bag.rows[i]!;
    rows.subarray(0, size).sort();
    this.#compare(rows, size, query, count, offer);
    return size;
  }

  /** Compares rows exactly, which ascend. */
  #compare(rows: Uint32Array, size: number, query: Float32Array, count: number, offer: (top: TopK, rows: Uint32Array) => void): void {
    const { block } = this.#ready!;
    const { memory } = block;
    for (let from = 0; from < size; from += block.slots) {
      const together = Math.min(block.slots, size - from);
      for (let i = 0; i < together; i++) {
        const row = rows[from + i]!;
        this.#lay(memory, block.rowsAt, i, row);
        if (block.biasAt === 0) continue;
        const { block: own, first } = this.#tail.chunkOf(row);
        memory.f32[block.biasAt / 4 + i] = own.memory.f32[own.biasAt / 4 + row - first]!;
      }
      const k = Math.min(count, together);
      offer(exactSearchOf(block, query, k, createTopK(k), this.#numbers.subarray(0, together)), rows.subarray(from, from + together));
    }
  }

  /** Gives the memories back. Nothing may be called after it. */
  release(): void {
    for (const { lease } of this.#banks.splice(0)) lease.release();
    this.#ready?.lease.release();
    this.#ready = undefined;
  }
}

/** A reported score as scans see it, a little less. */
function barOf(isL2: boolean, score: number, length: number): number {
  const inside = isL2 ? (length * length - score) / 2 : score;
  return inside - 4e-6 * (isL2 ? length * length + score : Math.abs(score));
}
