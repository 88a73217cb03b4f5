// Exact search over a block of vectors: every live row is compared, in f32, or first in int8 with the best compared again in f32 inside the kernel.

import { MillraceError } from "#base/errors";
import type { TopK } from "./dot-top-k.ts";
import type { KernelMemory } from "./kernel-memory.ts";
import type { VectorBlock } from "./vector-layout.ts";

export type ScanWay = "f32" | "int8";

export interface ExactOptions {
  /** A bitmap by slot in the block's memory: only slots whose bit is set; 0 or absent = all. */
  readonly filterAt?: number;
  /** Slots to look at, from `from` up to before `to`; default all. */
  readonly from?: number;
  readonly to?: number;
  /** Default int8 where the block has codes. */
  readonly use?: ScanWay;
  /** Of int8: rows compared again in f32; default candidatesFor(k). */
  readonly candidates?: number;
}

/** Slots in ascending order, each at most once: an array, or `count` u32 at an address of the block's memory. */
export type SlotList = Uint32Array | { readonly at: number; readonly count: number };

const unfinished = (): never => {
  throw new MillraceError("unsupported", "exact search over vector blocks", { todo: "wait for its kernels" });
};

/** How many rows int8 passes on to be compared in f32 so that the best k are among them. */
export function candidatesFor(_k: number): number {
  return unfinished();
}

/** The best k rows of a block for one query of `dims` numbers. Scores: the product (ip), the cosine, the squared distance (l2, smaller is nearer), best first. k at most into.rows.length. */
export function exactSearch(_block: VectorBlock, _query: Float32Array, _k: number, _into: TopK, _options: ExactOptions = {}): TopK {
  return unfinished();
}

/** As exactSearch, in f32, over the live ones of the slots given. */
export function exactSearchOf(_block: VectorBlock, _query: Float32Array, _k: number, _into: TopK, _slots: SlotList): TopK {
  return unfinished();
}

/** As exactSearch for row-major queries, one answer each: rows are read once for many queries. */
export function exactSearchBatch(_block: VectorBlock, _queries: Float32Array, _k: number, _into: readonly TopK[], _options: ExactOptions = {}): void {
  unfinished();
}

/** A search in slices: other work, other searches too, may use the same lane between two calls of `scan`. Reusable. */
export class ExactScan {
  readonly block: VectorBlock;

  constructor(block: VectorBlock) {
    this.block = block;
  }

  /** Starts over with row-major queries. */
  begin(_queries: Float32Array, _k: number, _options: Omit<ExactOptions, "from" | "to"> = {}): void {
    unfinished();
  }

  /** Compares the slots from `from` up to before `to`. Each slot once over all calls. */
  scan(_from: number, _to: number): void {
    unfinished();
  }

  /** The answers, one for each query. */
  end(_into: readonly TopK[]): void {
    unfinished();
  }
}

/** Writes row-major vectors to slots from `firstSlot` on as the metric wants them: cosine divided by their length. Codes and live bits are not touched. `norms`: lengths before. */
export function writeRows(_block: VectorBlock, _firstSlot: number, _vectors: Float32Array, _norms?: Float32Array): void {
  unfinished();
}

/** Divides row-major vectors by their length, in place; a vector of zeros stays. For queries, and rows outside a block. */
export function normalise(_vectors: Float32Array, _dims: number, _norms?: Float32Array): void {
  unfinished();
}

/** Raises the scales of a block to what its live rows in [from, to) need. Returns how many live rows are not finite. Codes made before with smaller scales must be made again. */
export function scalesOf(_block: VectorBlock, _from?: number, _to?: number): number {
  return unfinished();
}

/** Writes the codes of slots [from, to) by the block's scales. Numbers beyond a scale are cut to it. */
export function quantise(_block: VectorBlock, _from?: number, _to?: number): void {
  unfinished();
}

/** Live slots of a range that pass a filter. `filterAt` 0: all that are live. */
export function countSlots(_block: VectorBlock, _filterAt?: number, _from?: number, _to?: number): number {
  return unfinished();
}

/** Writes the live slots of a range that pass a filter to `listAt`, ascending, at most `listMax`; returns how many. */
export function listSlots(_block: VectorBlock, _filterAt: number, _listAt: number, _listMax: number, _from?: number, _to?: number): number {
  return unfinished();
}

/** Bits that are set in both bitmaps (an address of 0: all) in [from, to). */
export function countBits(_memory: KernelMemory, _firstAt: number, _secondAt: number, _from: number, _to: number): number {
  return unfinished();
}
