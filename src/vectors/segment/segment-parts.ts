// What a build makes and files hold: the arrays of a segment by name, and what the rest of a version needs to know to lay its own arrays beside them.

import type { VectorShape } from "#kernel/vector-layout";

export type SegmentArray = Float32Array | Int8Array | Uint8Array | Uint32Array;

export interface SegmentParts {
  readonly shape: VectorShape;
  readonly rows: number;
  /** A multiple of 32. */
  readonly slots: number;
  readonly lists: number;
  /** Slot -> row of the input, `paddingSlot` where there is none. */
  readonly order: Uint32Array;
  /** docs/format/vector-segment.md */
  readonly arrays: ReadonlyMap<string, SegmentArray>;
  /** CPU is the caller's to measure; this is what it went for. */
  readonly statistics: Readonly<Record<string, number>>;
}

export const paddingSlot = 0xffff_ffff;

export interface SegmentRows {
  /** Row-major, `count * dims`, finite. Not changed. */
  readonly vectors: Float32Array;
  readonly count: number;
  readonly dims: number;
}
