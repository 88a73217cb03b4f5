// Exact search: the k rows of a block of f32 vectors with the largest inner product with a query.
// Order: higher score first, equal scores by the lower row. A row whose score is NaN or -Infinity is never an answer, so a row is hidden by
// making one of its numbers NaN. Fewer than k answers come when fewer rows have a score.
// Cost: reads every byte of the block once, at 1.0-1.1x of what only adding them up costs (bench/exact-search.ts).
// Concurrency: any number of threads search one block, each through its own lane. Rows written meanwhile may be seen half written.
// Limits: kMax answers; a list of candidates of any length (it goes through the lane in parts); the block lies in one memory.

import { MillraceError } from "#base/errors";
import { type KernelMemory, roundUp } from "./kernel-memory.ts";

export const dotTopKLimits = { kMax: 65_536, dimsMax: 16_384 } as const;

/** Row-major f32 rows in a kernel memory, each padded with zeros to a multiple of four numbers. */
export interface F32Block {
  readonly memory: KernelMemory;
  /** Address of row 0, 16-aligned. */
  readonly at: number;
  readonly dims: number;
  /** Rows that exist: 0 to rowCount - 1. */
  readonly rowCount: number;
}

/** Bytes of one row with its padding. */
export function f32RowBytes(dims: number): number {
  if (!Number.isInteger(dims) || dims < 1 || dims > dotTopKLimits.dimsMax) {
    throw new MillraceError("invalid", `vectors of ${dims} dimensions`, { todo: `use 1 to ${dotTopKLimits.dimsMax}` });
  }
  return roundUp(dims * 4, 16);
}

/** Reserves a block of `rowCount` rows of zeros. */
export function createF32Block(memory: KernelMemory, rowCount: number, dims: number): F32Block {
  const bytes = rowCount * f32RowBytes(dims);
  const at = memory.reserve(bytes);
  memory.bytes.fill(0, at, at + bytes);
  return { memory, at, dims, rowCount };
}

/** Writes whole rows, given row-major without padding, from row `firstRow` on. Throws `invalid` when they do not fit. */
export function writeF32Rows(block: F32Block, firstRow: number, values: Float32Array): void {
  const { memory, dims } = block;
  const count = values.length / dims;
  if (!Number.isInteger(count) || firstRow < 0 || firstRow + count > block.rowCount) {
    throw new MillraceError("invalid", `${values.length} numbers for rows of ${dims} from row ${firstRow} of ${block.rowCount}`, {
      todo: "give whole rows that lie inside the block",
    });
  }
  const step = f32RowBytes(dims) / 4;
  const first = block.at / 4 + firstRow * step;
  if (step === dims) {
    memory.f32.set(values, first);
    return;
  }
  for (let row = 0; row < count; row++) memory.f32.set(values.subarray(row * dims, (row + 1) * dims), first + row * step);
}

/** Answers of a search, best first; entries from `size` on mean nothing. */
export interface TopK {
  size: number;
  readonly rows: Uint32Array;
  readonly scores: Float32Array;
}

export function createTopK(k: number): TopK {
  if (!Number.isInteger(k) || k < 1 || k > dotTopKLimits.kMax) {
    throw new MillraceError("invalid", `a search for ${k} answers`, { todo: `ask for 1 to ${dotTopKLimits.kMax}` });
  }
  return { size: 0, rows: new Uint32Array(k), scores: new Float32Array(k) };
}

/**
 * Finds the best `into.rows.length` rows for `query` (`dims` numbers). With `candidates`, only those rows (each at most once, any order) are
 * looked at, and numbers outside the block are passed over. Returns `into`.
 */
export function searchByDot(block: F32Block, query: Float32Array, into: TopK, candidates?: Uint32Array): TopK {
  const { memory, dims, rowCount, at } = block;
  const { lane, calls } = memory;
  if (query.length !== dims) {
    throw new MillraceError("invalid", `a query of ${query.length} numbers for rows of ${dims}`, { todo: "give as many numbers as the block has dimensions" });
  }
  const k = into.rows.length;
  const rowBytes = f32RowBytes(dims);
  lane.reset();
  const heap = lane.take(16 + 8 * k);
  const queryAt = lane.take(rowBytes);
  memory.f32.set(query, queryAt / 4);
  memory.f32.fill(0, queryAt / 4 + dims, (queryAt + rowBytes) / 4);
  calls.topKReset(heap, k);
  if (candidates === undefined) {
    calls.dotTopK(heap, at, rowCount, rowBytes, rowBytes, queryAt, 0);
  } else {
    const partMax = Math.min(candidates.length, Math.floor(lane.free / 16) * 4);
    const list = lane.take(partMax * 4);
    if (partMax === 0 && candidates.length > 0)
      throw new MillraceError("invalid", "a lane without room for candidates", { todo: "give the memory larger lanes (laneBytes)" });
    for (let from = 0; from < candidates.length; from += partMax) {
      const part = candidates.subarray(from, from + partMax);
      memory.u32.set(part, list / 4);
      calls.dotTopKOf(heap, at, rowCount, rowBytes, rowBytes, queryAt, list, part.length);
    }
  }
  into.size = calls.topKSort(heap) >>> 0;
  const scores = heap / 4 + 4;
  into.scores.set(memory.f32.subarray(scores, scores + into.size));
  into.rows.set(memory.u32.subarray(scores + k, scores + k + into.size));
  return into;
}
