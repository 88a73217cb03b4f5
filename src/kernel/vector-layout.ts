// How vectors lie in a kernel memory, so that a scan reads them at the speed of memory: by slot, in f32 and, for the first look, in int8.
//
//   rows    f32[rowFloats(dims)] a slot: the vector, zeros up to a multiple of 16 bytes. Metric cosine: divided by its length
//   codes   i8[codeBytes(dims)] a slot: round(x_j / scale_j * 127), zeros up to a multiple of 16 bytes
//   scales  f32[codeBytes(dims)]: the largest |x_j| of dimension j over all rows that were scaled, then zeros
//   bias    f32 a slot, metric l2 only: -|x|^2 / 2
//   live    u32 words, bit i of word w = slot 32 w + i: 1 = can be an answer. Padding and deleted slots are 0
//
// Slots: rows of a segment in the order of its lists, each list padded to a multiple of slotsUnit, so that bitmaps of lists begin at whole words.
// Scores inside: larger is nearer. ip and cosine q.x; l2 q.x - |x|^2 / 2, which orders as -|q - x|^2 does. Ties: the lower slot. NaN and -Infinity are no scores.
// Concurrency: written by one thread; bits of `live` may be cleared by it while others scan. Limits: vectorRowLimits.

import { MillraceError } from "#base/errors";
import type { VectorMetric } from "#base/vector-metric";
import { type KernelMemory, roundUp } from "./kernel-memory.ts";

export const vectorRowLimits = {
  /** 127 x 2,047 a dimension must stay below 2^31. */
  dimsMax: 8_192,
  /** Answers, and candidates, of one query. */
  kMax: 65_536,
  /** Queries scanned together. */
  queriesMax: 1_024,
} as const;

/** Lists are padded to a multiple of so many slots. */
export const slotsUnit = 32;

export type { VectorMetric } from "#base/vector-metric";

export interface VectorShape {
  readonly dims: number;
  readonly metric: VectorMetric;
}

/** What the scans read. An address of 0: there is none. */
export interface VectorBlock {
  readonly memory: KernelMemory;
  readonly shape: VectorShape;
  /** Slots 0 to slots - 1, a multiple of slotsUnit. */
  readonly slots: number;
  readonly rowsAt: number;
  readonly codesAt: number;
  readonly scalesAt: number;
  readonly biasAt: number;
  /** 0: every slot is live. */
  readonly liveAt: number;
}

/** Words of the arguments of the scans: kernels/vector-rows.ts says what each holds. */
export const scanWords = {
  from: 0,
  to: 1,
  rows: 2,
  rowBytes: 3,
  codes: 4,
  codeBytes: 5,
  scales: 6,
  bias: 7,
  live: 8,
  filter: 9,
  queries: 10,
  queryCount: 11,
  heaps: 12,
  heapBytes: 13,
  candidates: 14,
  scratch: 16,
  list: 17,
  listCount: 18,
  slots: 19,
  count: 20,
} as const;

/** Rows that filterScanOf scores by codes before it compares the best of them exactly; its room has 8 bytes for each (kernels/vector-filter.ts). */
export const filterScanRows = 2_048;

/** Words whose set bits bitsFew lists together, and bytes of its room: kernels/vector-bits.ts. */
export const fewBits = { wordsTogether: 2_048, roomBytes: (2_048 / 64) * 12 + 2_048 * 4 + 16 } as const;

/** Bytes of a heap of k answers: kernels/top-k.ts. */
export function heapBytes(k: number): number {
  return roundUp(16 + 8 * k, 16);
}

function checkDims(dims: number): void {
  if (!Number.isInteger(dims) || dims < 1 || dims > vectorRowLimits.dimsMax) {
    throw new MillraceError("invalid", `vectors of ${dims} dimensions`, { todo: `use 1 to ${vectorRowLimits.dimsMax}` });
  }
}

/** Floats from one row to the next. */
export function rowFloats(dims: number): number {
  checkDims(dims);
  return roundUp(dims, 4);
}

/** Bytes from one row's code to the next; floats of the scales. */
export function codeBytes(dims: number): number {
  checkDims(dims);
  return roundUp(dims, 16);
}

/** Slots of a list of `rows` rows. */
export function slotsFor(rows: number): number {
  return roundUp(rows, slotsUnit);
}

/** Bytes of a bitmap over `slots` slots. */
export function bitmapBytes(slots: number): number {
  return Math.ceil(slots / 32) * 4;
}

/** Which parts of a block are laid out. */
export interface VectorParts {
  readonly codes: boolean;
  readonly live: boolean;
  /** Rows and codes stay as the memory has them: who goes on to the next unit of slots clears it (`clearSlots`). For blocks that fill up row by row, on a thread that must not stop. */
  readonly dirty?: boolean;
}

/** Bytes that `createVectorBlock` reserves. */
export function vectorBlockBytes(shape: VectorShape, slots: number, parts: VectorParts): number {
  const { dims, metric } = shape;
  const whole = slotsFor(slots);
  let bytes = roundUp(whole * rowFloats(dims) * 4, 64);
  if (parts.codes) bytes += roundUp(whole * codeBytes(dims), 64) + roundUp(codeBytes(dims) * 4, 64);
  if (metric === "l2") bytes += roundUp(whole * 4, 64);
  if (parts.live) bytes += roundUp(bitmapBytes(whole), 64);
  return bytes;
}

/** Reserves a block of `slots` slots (rounded up to whole units), none live, all zeros unless `parts` says otherwise. */
export function createVectorBlock(memory: KernelMemory, shape: VectorShape, slots: number, parts: VectorParts): VectorBlock {
  const { dims, metric } = shape;
  const whole = slotsFor(slots);
  const room = (bytes: number, dirty = false): number => {
    const at = memory.reserve(bytes);
    if (!dirty) memory.bytes.fill(0, at, at + bytes);
    return at;
  };
  return {
    memory,
    shape,
    slots: whole,
    rowsAt: room(whole * rowFloats(dims) * 4, parts.dirty),
    codesAt: parts.codes ? room(whole * codeBytes(dims), parts.dirty) : 0,
    scalesAt: parts.codes ? room(codeBytes(dims) * 4) : 0,
    biasAt: metric === "l2" ? room(whole * 4) : 0,
    liveAt: parts.live ? room(bitmapBytes(whole)) : 0,
  };
}

/** Zeros the rows and codes of slots [from, to). */
export function clearSlots({ memory, shape, rowsAt, codesAt }: VectorBlock, from: number, to: number): void {
  const rowBytes = rowFloats(shape.dims) * 4;
  memory.bytes.fill(0, rowsAt + from * rowBytes, rowsAt + to * rowBytes);
  if (codesAt === 0) return;
  const width = codeBytes(shape.dims);
  memory.bytes.fill(0, codesAt + from * width, codesAt + to * width);
}

/** Sets or clears the bit of a slot. */
export function setSlot(memory: KernelMemory, bitmapAt: number, slot: number, on: boolean): void {
  const word = bitmapAt / 4 + (slot >>> 5);
  const bit = 1 << (slot & 31);
  memory.u32[word] = on ? memory.u32[word]! | bit : memory.u32[word]! & ~bit;
}

/** Whether the bit of a slot is set. */
export function hasSlot(memory: KernelMemory, bitmapAt: number, slot: number): boolean {
  return ((memory.u32[bitmapAt / 4 + (slot >>> 5)]! >>> (slot & 31)) & 1) === 1;
}
