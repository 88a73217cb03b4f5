// The parts of a build that any thread can do: rows to their lists, rows to codes. One memory is shared by the threads of a build; each has a lane of it.
//
//   centroids, sample      read by all while a part is under way, written by the thread of the build between parts
//   rooms                  a part of the rows each: what went in, the rows as the metric wants them, their codes, lists and figures
//
// Invariants: 1. what a part writes depends on what it was given alone, not on who does it or what was done before: but for the scales of a room, which only rise and of which the
// largest is taken  2. a room is used by one thread at a time.
// Concurrency: an object a thread, made by `WorkPlaces`, which can be sent.

import { codeCount, codePointsBytes, codes4Bytes } from "#kernel/ivf-layout";
import { type CentroidPlaces, Centroids } from "#kernel/k-means";
import { type KernelMemory, roundUp } from "#kernel/kernel-memory";
import { createVectorBlock, rowFloats, slotsFor, slotsUnit, type VectorBlock, vectorBlockBytes, type VectorShape } from "#kernel/vector-layout";
import { quantise, scalesOf, writeRows } from "#kernel/vector-rows";

const blockParts = { codes: true, live: true } as const;
/** Numbers and rows of a room at most: some megabytes, some tens of milliseconds. */
const roomFloatsMax = 1 << 19;
const roomRowsMax = 8_192;

/** Addresses in the memory of a build. */
export interface RoomPlaces {
  /** `slots` vectors as they came, one behind the other. */
  readonly rawAt: number;
  readonly block: Omit<VectorBlock, "memory">;
  /** u32 a row, or a block of 32 slots. */
  readonly listAt: number;
  /** f32 a row. */
  readonly scoreAt: number;
  /** f64 a row: square of its length, as the metric wants it. */
  readonly squareAt: number;
  /** f32 a row: its length as it came. */
  readonly normAt: number;
  readonly codes4At: number;
  /** f32 rows, one a block of 32 slots: its mean. */
  readonly meansAt: number;
  /** f32 a slot. */
  readonly errorAt: number;
}

export interface WorkPlaces {
  readonly shape: VectorShape;
  readonly rooms: readonly RoomPlaces[];
  readonly bookAt: number;
  /** Undefined: no index, one list. */
  readonly centroids: CentroidPlaces | undefined;
  /** As many centroids. */
  readonly lists: number;
  readonly sample: { readonly at: number; readonly listAt: number; readonly scoreAt: number };
}

export type WorkTask =
  /** Rows of the sample to their centroids. */
  | { readonly do: "nearest"; readonly from: number; readonly rows: number }
  /** What went into a room to its centroids (but for `given`: the lists are known): lists, squares, scales. The answer: rows that are not finite. */
  | { readonly do: "assign"; readonly room: number; readonly rows: number; readonly given: boolean }
  /** What went into a room, rows of some lists one behind the other (`listAt`: how many rows of each, then 0), in an order of close blocks inside of each: numbers of rows to `scoreAt`. */
  | { readonly do: "arrange"; readonly room: number; readonly rows: number }
  /** What went into a room to codes by the room's scales; of an index also those of 4 bits, by the lists of its blocks, and the means of blocks, squared differences to these to `scoreAt`. */
  | { readonly do: "encode"; readonly room: number; readonly slots: number };

/** Rows of a room. */
export function roomRows(dims: number): number {
  return Math.min(roomRowsMax, Math.max(slotsUnit, Math.floor(roomFloatsMax / rowFloats(dims) / slotsUnit) * slotsUnit));
}

export function roomBytes(shape: VectorShape): number {
  const slots = roomRows(shape.dims);
  return (
    roundUp(slots * shape.dims * 4, 64) +
    vectorBlockBytes(shape, slots, blockParts) +
    3 * roundUp((slots + 4) * 4, 64) +
    roundUp(slots * 8, 64) +
    roundUp(slots * 4, 64) +
    roundUp(codes4Bytes(slots, shape.dims), 64) +
    roundUp((slots / slotsUnit) * rowFloats(shape.dims) * 4, 64)
  );
}

export function reserveRoom(memory: KernelMemory, shape: VectorShape): RoomPlaces {
  const slots = roomRows(shape.dims);
  const { memory: _, ...block } = createVectorBlock(memory, shape, slots, blockParts);
  return {
    block,
    rawAt: memory.reserve(slots * shape.dims * 4),
    listAt: memory.reserve((slots + 4) * 4),
    scoreAt: memory.reserve((slots + 4) * 4),
    squareAt: memory.reserve(slots * 8),
    normAt: memory.reserve((slots + 4) * 4),
    codes4At: memory.reserve(codes4Bytes(slots, shape.dims)),
    meansAt: memory.reserve((slots / slotsUnit) * rowFloats(shape.dims) * 4),
    errorAt: memory.reserve(slots * 4),
  };
}

export function bookBytes(dims: number): number {
  return codeCount(dims) * codePointsBytes;
}

export class SegmentWork {
  readonly #memory: KernelMemory;
  readonly #places: WorkPlaces;
  readonly #centroids: Centroids | undefined;
  readonly #blocks: readonly VectorBlock[];

  constructor(memory: KernelMemory, places: WorkPlaces) {
    this.#memory = memory;
    this.#places = places;
    this.#centroids = places.centroids === undefined ? undefined : new Centroids(memory, places.shape, places.lists, places.centroids);
    this.#blocks = places.rooms.map(({ block }) => ({ ...block, memory }));
  }

  run(task: WorkTask): number {
    switch (task.do) {
      case "nearest":
        return this.#nearest(task.from, task.rows);
      case "assign":
        return this.#assign(task.room, task.rows, task.given);
      case "arrange":
        return this.#arrange(task.room, task.rows);
      case "encode":
        return this.#encode(task.room, task.slots);
    }
  }

  #nearest(from: number, rows: number): number {
    const { sample, shape } = this.#places;
    this.#centroids?.nearest(sample.at + from * rowFloats(shape.dims) * 4, rows, sample.listAt + from * 4, sample.scoreAt + from * 4);
    return 0;
  }

  #written(room: number, rows: number, withNorms: boolean): { readonly at: RoomPlaces; readonly block: VectorBlock } {
    const { rooms, shape } = this.#places;
    const at = rooms[room]!;
    const block = this.#blocks[room]!;
    const { buffer } = this.#memory.memory;
    writeRows(block, 0, new Float32Array(buffer, at.rawAt, rows * shape.dims), withNorms ? new Float32Array(buffer, at.normAt, rows) : undefined);
    return { at, block };
  }

  #assign(room: number, rows: number, given: boolean): number {
    const { at, block } = this.#written(room, slotsFor(rows), false);
    const { f32, memory } = this.#memory;
    const { dims } = this.#places.shape;
    const floats = rowFloats(dims);
    const bad = scalesOf(block, 0, slotsFor(rows));
    if (!given) this.#centroids?.nearest(block.rowsAt, rows, at.listAt, at.scoreAt);
    const squares = new Float64Array(memory.buffer, at.squareAt, rows);
    for (let i = 0; i < rows; i++) {
      let square = 0;
      for (let j = block.rowsAt / 4 + i * floats, end = j + dims; j < end; j++) square += f32[j]! * f32[j]!;
      squares[i] = square;
    }
    return bad;
  }

  #arrange(room: number, rows: number): number {
    const { at, block } = this.#written(room, slotsFor(rows), false);
    const { u32, lane, calls } = this.#memory;
    const rowBytes = rowFloats(this.#places.shape.dims) * 4;
    lane.reset();
    const scratch = lane.take(5 * rowBytes);
    for (let i = 0; i < rows; i++) u32[at.scoreAt / 4 + i] = i;
    let from = 0;
    for (let list = at.listAt / 4; u32[list] !== 0; list++) {
      calls.blocksOrder(block.rowsAt, rowBytes, at.scoreAt + from * 4, u32[list]!, at.errorAt, scratch);
      from += u32[list]!;
    }
    return 0;
  }

  #encode(room: number, slots: number): number {
    const { at, block } = this.#written(room, slots, this.#places.shape.metric === "cosine");
    const { dims } = this.#places.shape;
    quantise(block, 0, slots);
    if (this.#centroids === undefined) return 0;
    this.#memory.calls.codes4Encode(
      block.rowsAt,
      slots / slotsUnit,
      rowFloats(dims) * 4,
      at.listAt,
      this.#centroids.rowsAt,
      this.#places.bookAt,
      codeCount(dims),
      at.codes4At,
      at.errorAt,
      at.scoreAt,
    );
    this.#memory.calls.blocksMean(block.rowsAt, slots / slotsUnit, rowFloats(dims) * 4, block.liveAt, at.meansAt, at.scoreAt);
    return 0;
  }
}
