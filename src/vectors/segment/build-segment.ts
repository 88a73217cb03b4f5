// Builds a segment out of rows: clusters them, puts them in the order of their lists, makes their codes.
//
//   sample -> centroids (k-means) -> each row to its list; scales, means -> order of slots, rows of a list in blocks that lie close -> codebook on a sample of differences -> rows, codes by slot, means of blocks
//
// A list's centroid is the mean of its rows, and its spread the deviation of a row's score from the centroid's: what a search judges lists by (kernels/vector-ivf.ts).
// Invariants: 1. pure: the same rows, options and kernel variant give the same bytes  2. each row has one slot; no list is empty  3. the input is only read.
// Cost: rows x lists x dims multiplications, and 0.4 of that for at most 40 rows a list (docs/design/vectors.md). Memory: segmentBytes.
// Concurrency: computes in its thread, in parts of some ten milliseconds (segment-crew.ts), and lets others in between them: builds run in a process of their own. With `threads` others
// do parts too; the bytes of the segment are the same with any number of them.

import { MillraceError } from "#base/errors";
import { Prng } from "#base/prng";
import { codeCount, codePointsBytes, codes4Bytes, groupBlocks } from "#kernel/ivf-layout";
import { Centroids, codebookScratchBytes, findCentroids, findCodebook, sampleRows } from "#kernel/k-means";
import { KernelMemory, kernelMemoryLimits, roundUp } from "#kernel/kernel-memory";
import { bitmapBytes, codeBytes, rowFloats, slotsFor, slotsUnit, type VectorBlock, type VectorMetric, type VectorShape } from "#kernel/vector-layout";
import { writeRows } from "#kernel/vector-rows";
import { copyBytes } from "#platform/copy-bytes";
import { bandedLists } from "./length-bands.ts";
import { type BuildThreads, buildThreadsMax, roomsFor, SegmentCrew, worthThreads } from "./segment-crew.ts";
import { listGroups, paddingSlot, type SegmentArray, type SegmentParts, type SegmentRows } from "./segment-parts.ts";
import { bookBytes, reserveRoom, roomBytes, roomRows, type WorkPlaces } from "./segment-work.ts";

export interface SegmentOptions {
  readonly metric: VectorMetric;
  /** Default: listsFor(rows). 1: no index. */
  readonly lists?: number;
  readonly seed?: number | string;
  /** Rows of rowFloats(dims), `lists` of them: clusters that were found before; none are looked for. Not used where lists go by length (length-bands.ts). */
  readonly centroids?: Float32Array;
  /** Who does parts of it; default: the caller alone. A small build starts none. */
  readonly threads?: BuildThreads;
  /** 0 to 1; called every some ten milliseconds. The build waits for what it returns. */
  readonly onProgress?: (share: number) => void | Promise<void>;
  readonly signal?: AbortSignal;
}

/** What a thread takes of the process. */
const threadBytes = 10 << 20;
/** Differences that the codebook is found on. */
const bookRows = 20_000;
/**
 * What is left of the spread of lists inside of their blocks, codes and all, up to which blocks are worth their memory and a look at their means. Clusters that are smaller than lists leave 0.6
 * to 0.7; vectors of words leave 0.96, and a search by blocks costs a quarter more there than one by whole lists.
 */
const blocksWorth = 0.8;
/** Up to so many rows exact search is as fast as looking for the right ones. */
const rowsWithoutIndex = 20_000;

/** Lists that suit so many rows. 1: no index. */
export function listsFor(rows: number): number {
  if (rows < rowsWithoutIndex) return 1;
  return Math.min(2_048, 2 ** Math.round(Math.log2(3.5 * Math.sqrt(rows))));
}

/** Bytes that a build of this size takes beside its input (its working memory and the arrays it returns), and about what a loaded segment takes, without ids. */
export function segmentBytes(rows: number, dims: number, lists = listsFor(rows), threads = 1): { readonly build: number; readonly loaded: number } {
  const slots = slotsFor(rows + (lists > 1 ? (lists * slotsUnit) / 2 : 0));
  // Codes and spreads of blocks; a list's last group is half full on the average.
  const blocks = lists > 1 ? codes4Bytes(slots / slotsUnit + (lists * groupBlocks) / 2, dims) + slots / 4 : 0;
  const arrays = slots * (rowFloats(dims) * 4 + codeBytes(dims) + 8) + codes4Bytes(lists > 1 ? slots : 0, dims) + blocks + lists * (rowFloats(dims) * 4 + 16);
  const means = lists > 1 ? (slots / slotsUnit) * (rowFloats(dims) * 4 + 4) : 0;
  const working = lists > 1 ? sampleRows(lists, rows) * (rowFloats(dims) * 4 + 8) + 4 * lists * rowFloats(dims) * 4 + means : 0;
  const rooms = roomsFor(threads) * roomBytes({ dims, metric: "l2" }) + bookRows * rowFloats(dims) * 4 + (threads - 1) * threadBytes;
  // Lists by length (length-bands.ts) take 20 bytes a row beside that.
  return { build: arrays + working + rooms + rows * 28, loaded: arrays + slots * 12 + slots / 4 };
}

function copyOf(memory: KernelMemory, at: number, bytes: number): ArrayBuffer {
  const copy = new ArrayBuffer(bytes);
  new Uint8Array(copy).set(memory.bytes.subarray(at, at + bytes));
  return copy;
}

/** Throws `invalid` for rows that are not finite (cosine: or of length 0), and for options that cannot be. */
export async function buildSegment(rows: SegmentRows, options: SegmentOptions): Promise<SegmentParts> {
  const { vectors, count, dims } = rows;
  const shape: VectorShape = { dims, metric: options.metric };
  if (!Number.isInteger(count) || count < 1 || vectors.length < count * dims) {
    throw new MillraceError("invalid", `a segment of ${count} rows out of ${vectors.length} numbers of ${dims} a row`, { todo: "give at least one whole row" });
  }
  const asked = options.lists ?? listsFor(count);
  if (!Number.isInteger(asked) || asked < 1 || asked > 65_536)
    throw new MillraceError("invalid", `a segment of ${asked} lists`, { todo: "ask for 1 to 65,536" });
  const lists = Math.min(asked, count);
  const { centroids, threads } = options;
  if (centroids !== undefined && centroids.length !== lists * rowFloats(dims))
    throw new MillraceError("invalid", `${centroids.length} numbers of centroids for ${lists} lists`, { todo: "give a row for each list" });
  if (threads !== undefined && !(Number.isInteger(threads.count) && threads.count >= 1 && threads.count <= buildThreadsMax))
    throw new MillraceError("invalid", `a build on ${threads.count} threads`, { todo: `give it 1 to ${buildThreadsMax}` });
  // Inner products over rows of uneven length: lists by length and direction.
  const isBanded = options.metric === "ip" && lists > 1;
  const progress = async (share: number): Promise<void> => {
    options.signal?.throwIfAborted();
    await options.onProgress?.(0.35 * share);
  };
  const banded = isBanded ? await bandedLists(rows, lists, new Prng(options.seed ?? "segment").fork("bands"), progress) : undefined;
  const build = new Build(rows, shape, banded?.lists ?? lists, options, banded?.listOf);
  return build.run();
}

class Build {
  readonly #rows: SegmentRows;
  /** The vectors of it. */
  readonly #input: Uint8Array;
  readonly #shape: VectorShape;
  readonly #options: SegmentOptions;
  /** Lists that were found before. */
  readonly #given: Uint32Array | undefined;
  readonly #floats: number;
  readonly #roomRows: number;
  readonly #memory: KernelMemory;
  readonly #prng: Prng;
  readonly #centroids: Centroids | undefined;
  readonly #places: WorkPlaces;
  readonly #threads: BuildThreads | undefined;
  readonly #crew: SegmentCrew;

  constructor(rows: SegmentRows, shape: VectorShape, lists: number, options: SegmentOptions, given?: Uint32Array) {
    const { threads } = options;
    this.#rows = rows;
    this.#input = new Uint8Array(rows.vectors.buffer, rows.vectors.byteOffset, rows.count * shape.dims * 4);
    this.#shape = shape;
    this.#options = options;
    this.#given = given;
    this.#floats = rowFloats(shape.dims);
    this.#roomRows = roomRows(shape.dims);
    this.#prng = new Prng(options.seed ?? "segment");
    this.#threads = threads !== undefined && rows.count * lists * this.#floats >= (threads.workMin ?? worthThreads) && lists > 1 ? threads : undefined;
    const count = this.#threads?.count ?? 1;
    const rooms = roomsFor(count);
    const sample = lists > 1 ? sampleRows(lists, rows.count) : 0;
    const wide = Math.max(sample, lists > 1 ? Math.min(bookRows, rows.count) : 0) + 4;
    this.#memory = KernelMemory.create({
      dataBytes:
        rooms * roomBytes(shape) +
        (lists > 1 ? Centroids.bytes(shape, lists) : 0) +
        2 * roundUp((wide + 4) * 4, 64) +
        roundUp(wide * this.#floats * 4, 64) +
        roundUp(bookBytes(shape.dims), 64) +
        roundUp(codebookScratchBytes(shape.dims), 64),
      lanes: count,
      laneBytes: Math.max(kernelMemoryLimits.laneBytesDefault, lists > 1 ? Centroids.laneBytes(shape, lists) : 0),
    });
    const memory = this.#memory;
    this.#centroids = lists > 1 ? new Centroids(memory, shape, lists) : undefined;
    const places: WorkPlaces = {
      shape,
      rooms: Array.from({ length: rooms }, () => reserveRoom(memory, shape)),
      bookAt: memory.reserve(bookBytes(shape.dims)),
      centroids: this.#centroids?.places,
      lists,
      sample: { at: memory.reserve(wide * this.#floats * 4), listAt: memory.reserve((wide + 4) * 4), scoreAt: memory.reserve((wide + 4) * 4) },
    };
    this.#places = places;
    this.#crew = new SegmentCrew(memory, places, this.#threads);
  }

  async #progress(share: number): Promise<void> {
    this.#options.signal?.throwIfAborted();
    await this.#options.onProgress?.(Math.min(1, share));
  }

  /** Lays `count` rows of the input out in a room, zeros up to whole blocks. Slots of `paddingSlot` are zeros and not live. */
  #lay(room: number, count: number, rowAt: (i: number) => number): void {
    const size = this.#shape.dims * 4;
    const { rawAt, block } = this.#places.rooms[room]!;
    const { bytes, u32 } = this.#memory;
    const live = block.liveAt / 4;
    bytes.fill(0, block.liveAt, block.liveAt + bitmapBytes(block.slots));
    for (let i = 0; i < slotsFor(count); i++) {
      const row = i < count ? rowAt(i) : paddingSlot;
      const to = rawAt + i * size;
      if (row === paddingSlot) bytes.fill(0, to, to + size);
      else {
        copyBytes(this.#input, row * size, (row + 1) * size, bytes, to);
        u32[live + (i >>> 5)]! |= 1 << (i & 31);
      }
    }
  }

  /** The same as the metric wants them, in the room's block. */
  #write(room: number, count: number, rowAt: (i: number) => number): VectorBlock {
    this.#lay(room, count, rowAt);
    const { rawAt, block } = this.#places.rooms[room]!;
    const whole = { ...block, memory: this.#memory };
    writeRows(whole, 0, new Float32Array(this.#memory.memory.buffer, rawAt, count * this.#shape.dims));
    return whole;
  }

  async run(): Promise<SegmentParts> {
    try {
      return await this.#run();
    } finally {
      await this.#crew.stop();
    }
  }

  async #run(): Promise<SegmentParts> {
    const { count } = this.#rows;
    const listOf = new Uint32Array(count);
    if (this.#centroids !== undefined && this.#given === undefined) await this.#cluster(this.#centroids);
    const assigned = await this.#assign(listOf);
    const order = this.#order(listOf, assigned.sizes);
    const lists = assigned.sizes.length;
    const starts = new Uint32Array(lists + 1);
    for (let list = 0; list < lists; list++) starts[list + 1] = starts[list]! + slotsFor(assigned.sizes[list]!);
    const slots = order.length;
    const arrays = new Map<string, SegmentArray>([["starts", starts]]);
    let codeError = 0;
    const isCoded = this.#centroids !== undefined && lists > 1;
    if (isCoded) await this.#arrange(order, starts, assigned.sizes);
    if (this.#centroids !== undefined) {
      const centroidsAt = this.#centroids.rowsAt;
      // Lists without rows are left out: what stays moves up.
      const f32 = this.#memory.f32;
      assigned.kept.forEach((from, to) =>
        f32.copyWithin(centroidsAt / 4 + to * this.#floats, centroidsAt / 4 + from * this.#floats, centroidsAt / 4 + (from + 1) * this.#floats),
      );
      if (isCoded) {
        arrays.set("centroids", new Float32Array(copyOf(this.#memory, centroidsAt, lists * this.#floats * 4)));
        arrays.set("spreads", assigned.spreads);
        if (this.#shape.metric === "l2") arrays.set("list-bias", assigned.biases);
        codeError = await this.#codebook(order, starts, centroidsAt);
        arrays.set("points", new Float32Array(copyOf(this.#memory, this.#places.bookAt, codeCount(this.#shape.dims) * codePointsBytes)));
      }
    }
    await this.#encode(order, starts, assigned, arrays, isCoded);
    await this.#progress(1);
    return {
      shape: this.#shape,
      rows: count,
      slots,
      lists,
      order,
      arrays,
      statistics: { codeError, listRowsMax: assigned.sizes.reduce((a, b) => Math.max(a, b), 0), paddingShare: 1 - count / slots },
    };
  }

  async #cluster(centroids: Centroids): Promise<void> {
    const { centroids: given } = this.#options;
    const { f32 } = this.#memory;
    if (given !== undefined) {
      f32.set(given.subarray(0, centroids.count * this.#floats), centroids.rowsAt / 4);
      if (this.#shape.metric === "cosine") centroids.toUnitLength();
      return;
    }
    const { count } = this.#rows;
    const rows = sampleRows(centroids.count, count);
    const picked = pick(count, rows, this.#prng.fork("sample"));
    const { sample } = this.#places;
    for (let from = 0; from < rows; from += this.#roomRows) {
      const part = Math.min(this.#roomRows, rows - from);
      const { rowsAt } = this.#write(0, part, (i) => picked[from + i]!);
      f32.copyWithin(sample.at / 4 + from * this.#floats, rowsAt / 4, rowsAt / 4 + part * this.#floats);
    }
    await findCentroids(
      this.#memory,
      centroids,
      this.#shape,
      { ...sample, rows },
      this.#prng.fork("centroids"),
      (share) => this.#progress(0.35 * share),
      (all, part, done) =>
        this.#crew.run({
          parts: Math.ceil(all / part),
          task: (i) => ({ do: "nearest", from: i * part, rows: Math.min(part, all - i * part) }),
          after: async (i) => void (await done(Math.min(all, (i + 1) * part))),
        }),
    );
  }

  /** Gives each row its list, finds means and spreads; scales of the int8 codes are those of all rows after it. */
  async #assign(listOf: Uint32Array): Promise<{ sizes: Uint32Array; kept: number[]; spreads: Float32Array; biases: Float32Array }> {
    const { count } = this.#rows;
    const { dims } = this.#shape;
    const { f32, u32, memory } = this.#memory;
    const { rooms } = this.#places;
    const centroids = this.#centroids;
    const total = centroids?.count ?? 1;
    const squares = new Float64Array(total);
    const counts = new Uint32Array(total);
    const roomRows = this.#roomRows;
    const given = this.#given;
    const partOf = (part: number): number => Math.min(roomRows, count - part * roomRows);
    centroids?.prepare();
    centroids?.clearSums();
    await this.#crew.run({
      parts: Math.ceil(count / roomRows),
      task: (part, room) => {
        this.#lay(room, partOf(part), (i) => part * roomRows + i);
        return { do: "assign", room, rows: partOf(part), given: given !== undefined };
      },
      after: async (part, room, bad) => {
        if (bad > 0) throw new MillraceError("invalid", `${bad} rows of a segment are not finite`, { todo: "leave them out" });
        const { block, listAt, squareAt } = rooms[room]!;
        const rows = partOf(part);
        if (given !== undefined) u32.set(given.subarray(part * roomRows, part * roomRows + rows), listAt / 4);
        centroids?.add(block.rowsAt, rows, listAt);
        const squareOf = new Float64Array(memory.buffer, squareAt, rows);
        for (let i = 0; i < rows; i++) {
          const list = centroids === undefined ? 0 : u32[listAt / 4 + i]!;
          const square = squareOf[i]!;
          if (this.#shape.metric === "cosine" && square < 0.5) throw new MillraceError("invalid", "a row of length 0 has no cosine", { todo: "leave it out" });
          squares[list]! += square;
          counts[list]!++;
          listOf[part * roomRows + i] = list;
        }
        await this.#progress(0.35 + (0.45 * (part * roomRows + rows)) / count);
      },
    });
    this.#shareScales();
    centroids?.useMeans(false);
    const kept: number[] = [];
    const numberOf = new Uint32Array(total);
    counts.forEach((size, list) => {
      if (size > 0) numberOf[list] = kept.push(list) - 1;
    });
    for (let i = 0; i < count; i++) listOf[i] = numberOf[listOf[i]!]!;
    const spreads = new Float32Array(kept.length);
    const biases = new Float32Array(kept.length);
    kept.forEach((list, at) => {
      let mean = 0;
      if (centroids !== undefined) for (let j = centroids.rowsAt / 4 + list * this.#floats, end = j + dims; j < end; j++) mean += f32[j]! * f32[j]!;
      const square = squares[list]! / counts[list]!;
      // Of a list of one row, or of equal ones, nothing is known but that it is not sure.
      spreads[at] = Math.sqrt(Math.max(square - mean, 1e-4 * square, 1e-30) / dims);
      biases[at] = -square / 2;
    });
    return { sizes: Uint32Array.from(kept, (list) => counts[list]!), kept, spreads, biases };
  }

  /** The largest of all rooms, in every one. */
  #shareScales(): void {
    const { f32 } = this.#memory;
    const { rooms } = this.#places;
    for (let j = 0; j < codeBytes(this.#shape.dims); j++) {
      let most = 0;
      for (const { block } of rooms) most = Math.max(most, f32[block.scalesAt / 4 + j]!);
      for (const { block } of rooms) f32[block.scalesAt / 4 + j] = most;
    }
  }

  /** Slots of the lists one after another, rows in the order of the input. */
  #order(listOf: Uint32Array, sizes: Uint32Array): Uint32Array {
    const next = new Uint32Array(sizes.length);
    let slots = 0;
    sizes.forEach((size, list) => {
      next[list] = slots;
      slots += slotsFor(size);
    });
    const order = new Uint32Array(slots).fill(paddingSlot);
    for (let row = 0; row < listOf.length; row++) order[next[listOf[row]!]!++] = row;
    return order;
  }

  /** Puts the rows of each list in such an order that blocks of 32 slots lie close. A list beyond a room is cut into pieces, each in an order of its own. */
  async #arrange(order: Uint32Array, starts: Uint32Array, sizes: Uint32Array): Promise<void> {
    const { u32 } = this.#memory;
    const { rooms } = this.#places;
    // Pieces of lists, as many together as a room holds.
    const pieces: { readonly slot: number; readonly rows: number }[] = [];
    const parts: { readonly from: number; readonly to: number; readonly rows: number }[] = [];
    let [first, rows] = [0, 0];
    sizes.forEach((size, list) => {
      if (size <= slotsUnit) return;
      for (let from = 0; from < size; from += this.#roomRows) {
        const piece = { slot: starts[list]! + from, rows: Math.min(this.#roomRows, size - from) };
        if (rows + piece.rows > this.#roomRows) {
          parts.push({ from: first, to: pieces.length, rows });
          [first, rows] = [pieces.length, 0];
        }
        pieces.push(piece);
        rows += piece.rows;
      }
    });
    if (rows > 0) parts.push({ from: first, to: pieces.length, rows });
    const slotsOf = new Uint32Array(this.#roomRows);
    const laid = (part: number): Uint32Array => {
      let at = 0;
      for (let i = parts[part]!.from; i < parts[part]!.to; i++) for (let row = 0; row < pieces[i]!.rows; row++) slotsOf[at++] = pieces[i]!.slot + row;
      return slotsOf;
    };
    await this.#crew.run({
      parts: parts.length,
      task: (part, room) => {
        const { from, to, rows: count } = parts[part]!;
        const slots = laid(part);
        this.#lay(room, count, (i) => order[slots[i]!]!);
        const list = rooms[room]!.listAt / 4;
        for (let i = from; i < to; i++) u32[list + i - from] = pieces[i]!.rows;
        u32[list + to - from] = 0;
        return { do: "arrange", room, rows: count };
      },
      after: async (part, room) => {
        const { rows: count } = parts[part]!;
        const slots = laid(part);
        const before = Uint32Array.from({ length: count }, (_, i) => order[slots[i]!]!);
        const at = rooms[room]!.scoreAt / 4;
        for (let i = 0; i < count; i++) order[slots[i]!] = before[u32[at + i]!]!;
        await this.#progress(0.8);
      },
    });
  }

  async #codebook(order: Uint32Array, starts: Uint32Array, centroidsAt: number): Promise<number> {
    const prng = this.#prng.fork("codes");
    const rows = Math.min(bookRows, this.#rows.count);
    const slots: number[] = [];
    while (slots.length < rows) {
      const slot = prng.below(order.length);
      if (order[slot] !== paddingSlot) slots.push(slot);
    }
    slots.sort((a, b) => a - b);
    const { f32 } = this.#memory;
    const { sample, bookAt } = this.#places;
    const floats = this.#floats;
    let list = 0;
    for (let from = 0; from < rows; from += this.#roomRows) {
      const part = Math.min(this.#roomRows, rows - from);
      const { rowsAt } = this.#write(0, part, (i) => order[slots[from + i]!]!);
      for (let i = 0; i < part; i++) {
        while (starts[list + 1]! <= slots[from + i]!) list++;
        const to = sample.at / 4 + (from + i) * floats;
        const row = rowsAt / 4 + i * floats;
        const centroid = centroidsAt / 4 + list * floats;
        for (let j = 0; j < floats; j++) f32[to + j] = f32[row + j]! - f32[centroid + j]!;
      }
    }
    const scratchAt = this.#memory.reserve(codebookScratchBytes(this.#shape.dims));
    const left = findCodebook(this.#memory, this.#shape.dims, sample.at, rows, bookAt, scratchAt, prng);
    await this.#progress(0.85);
    return Math.sqrt(left / this.#shape.dims);
  }

  async #encode(
    order: Uint32Array,
    starts: Uint32Array,
    assigned: { readonly sizes: Uint32Array; readonly spreads: Float32Array },
    arrays: Map<string, SegmentArray>,
    isCoded: boolean,
  ): Promise<void> {
    const { dims, metric } = this.#shape;
    const { f32, u32, bytes } = this.#memory;
    const slots = order.length;
    const rows = new Float32Array(slots * this.#floats);
    const codes8 = new Int8Array(slots * codeBytes(dims));
    const live = new Uint32Array(slots / slotsUnit);
    const norms = metric === "cosine" ? new Float32Array(slots) : undefined;
    const bias = metric === "l2" ? new Float32Array(slots) : undefined;
    const codes4 = isCoded ? new Uint8Array(codes4Bytes(slots, dims)) : undefined;
    const errors = new Float64Array(starts.length - 1);
    const means = new Float32Array(isCoded ? (slots / slotsUnit) * this.#floats : 0);
    const within = new Float32Array(isCoded ? slots / slotsUnit : 0);
    const { rooms } = this.#places;
    const roomRows = this.#roomRows;
    const partOf = (part: number): number => Math.min(roomRows, slots - part * roomRows);
    let list = 0;
    await this.#crew.run({
      parts: Math.ceil(slots / roomRows),
      task: (part, room) => {
        const from = part * roomRows;
        this.#lay(room, partOf(part), (i) => order[from + i]!);
        for (let block = 0; block < partOf(part) / slotsUnit; block++) {
          while (starts[list + 1]! <= from + block * slotsUnit) list++;
          u32[rooms[room]!.listAt / 4 + block] = list;
        }
        return { do: "encode", room, slots: partOf(part) };
      },
      after: async (part, room) => {
        const from = part * roomRows;
        const count = partOf(part);
        const { block, listAt, normAt, codes4At, errorAt, meansAt, scoreAt } = rooms[room]!;
        copyBytes(bytes, block.rowsAt, block.rowsAt + count * this.#floats * 4, new Uint8Array(rows.buffer), from * this.#floats * 4);
        copyBytes(bytes, block.codesAt, block.codesAt + count * codeBytes(dims), new Uint8Array(codes8.buffer), from * codeBytes(dims));
        live.set(u32.subarray(block.liveAt / 4, block.liveAt / 4 + count / slotsUnit), from / slotsUnit);
        norms?.set(f32.subarray(normAt / 4, normAt / 4 + count), from);
        if (bias !== undefined) for (let i = 0; i < count; i++) bias[from + i] = order[from + i] === paddingSlot ? 0 : f32[block.biasAt / 4 + i]!;
        if (codes4 !== undefined) {
          const blocks = count / slotsUnit;
          means.set(f32.subarray(meansAt / 4, meansAt / 4 + blocks * this.#floats), (from / slotsUnit) * this.#floats);
          within.set(f32.subarray(scoreAt / 4, scoreAt / 4 + blocks), from / slotsUnit);
          copyBytes(bytes, codes4At, codes4At + codes4Bytes(count, dims), codes4, codes4Bytes(from, dims));
          for (let i = 0; i < count; i++) if (order[from + i] !== paddingSlot) errors[u32[listAt / 4 + (i >>> 5)]!]! += f32[errorAt / 4 + i]!;
        }
        await this.#progress(0.85 + (0.15 * (from + count)) / slots);
      },
    });
    arrays.set("live", live).set("rows", rows).set("codes8", codes8);
    arrays.set("scales", new Float32Array(copyOf(this.#memory, rooms[0]!.block.scalesAt, codeBytes(dims) * 4)));
    if (norms !== undefined) arrays.set("norms", norms);
    if (bias !== undefined) arrays.set("bias", bias);
    if (codes4 !== undefined) {
      await this.#encodeBlocks(starts, means, within, live, bias, arrays, assigned);
      arrays.set("codes4", codes4);
      arrays.set(
        "code-errors",
        Float32Array.from(errors, (square, at) => Math.sqrt(square / assigned.sizes[at]! / dims)),
      );
    }
  }

  /** Codes of the means of blocks, in groups of 32 of one list; spreads around what the codes say; mean bias. Nothing where blocks say little. */
  async #encodeBlocks(
    starts: Uint32Array,
    means: Float32Array,
    within: Float32Array,
    live: Uint32Array,
    bias: Float32Array | undefined,
    arrays: Map<string, SegmentArray>,
    lists: { readonly sizes: Uint32Array; readonly spreads: Float32Array },
  ): Promise<void> {
    const { dims } = this.#shape;
    const { f32, u32, bytes, calls } = this.#memory;
    const { block, listAt, codes4At, errorAt, scoreAt } = this.#places.rooms[0]!;
    const floats = this.#floats;
    const first = listGroups(starts);
    const groups = first.at(-1)!;
    const codes = new Uint8Array(codes4Bytes(groups * groupBlocks, dims));
    const spreads = new Float32Array(within.length);
    const together = this.#roomRows / groupBlocks;
    let list = 0;
    let [inBlocks, inLists] = [0, 0];
    lists.sizes.forEach((size, at) => (inLists += size * dims * lists.spreads[at]! ** 2));
    for (let from = 0; from < groups; from += together) {
      const part = Math.min(together, groups - from);
      // First block of each group, and how many it has.
      const laid = Array.from({ length: part }, (_, i) => {
        while (first[list + 1]! <= from + i) list++;
        const start = starts[list]! / slotsUnit + (from + i - first[list]!) * groupBlocks;
        return { list, start, count: Math.min(groupBlocks, starts[list + 1]! / slotsUnit - start) };
      });
      laid.forEach((group, i) => {
        const to = block.rowsAt / 4 + i * groupBlocks * floats;
        f32.fill(0, to, to + groupBlocks * floats);
        f32.set(means.subarray(group.start * floats, (group.start + group.count) * floats), to);
        u32[listAt / 4 + i] = group.list;
      });
      calls.codes4Encode(block.rowsAt, part, floats * 4, listAt, this.#centroids!.rowsAt, this.#places.bookAt, codeCount(dims), codes4At, errorAt, scoreAt);
      copyBytes(bytes, codes4At, codes4At + codes4Bytes(part * groupBlocks, dims), codes, codes4Bytes(from * groupBlocks, dims));
      laid.forEach((group, i) => {
        for (let j = 0; j < group.count; j++) {
          const at = group.start + j;
          let square = 0;
          for (let x = at * floats; x < (at + 1) * floats; x++) square += means[x]! * means[x]!;
          // Of one row, or of equal ones, nothing is known but that it is not sure.
          const left = Math.max(within[at]! + f32[errorAt / 4 + i * groupBlocks + j]!, 1e-4 * square, 1e-30);
          inBlocks += left * rowsIn(live[at]!);
          spreads[at] = Math.sqrt(left / dims);
        }
      });
      await this.#progress(0.99);
    }
    if (inBlocks > blocksWorth * inLists) return;
    arrays.set("block-codes", codes).set("block-spreads", spreads);
    if (bias === undefined) return;
    const biases = new Float32Array(within.length);
    for (let at = 0; at < biases.length; at++) {
      const count = rowsIn(live[at]!);
      for (let i = 0; i < count; i++) biases[at]! += bias[at * slotsUnit + i]! / count;
    }
    arrays.set("block-bias", biases);
  }
}

/** Rows of a block, which stand first. */
function rowsIn(live: number): number {
  return live === 0xffff_ffff ? slotsUnit : 31 - Math.clz32(live + 1);
}

/** `some` of the numbers below `count`, in random order. */
function pick(count: number, some: number, prng: Prng): Uint32Array {
  const all = new Uint32Array(count);
  for (let i = 0; i < count; i++) all[i] = i;
  for (let i = 0; i < some; i++) {
    const j = i + prng.below(count - i);
    const kept = all[i]!;
    all[i] = all[j]!;
    all[j] = kept;
  }
  return all.subarray(0, some);
}
