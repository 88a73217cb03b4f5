// Builds a segment out of rows: clusters them, puts them in the order of their lists, makes their codes. Pure: the same rows, options and seed give the same bytes.

import { MillraceError } from "#base/errors";
import type { VectorMetric } from "#kernel/vector-layout";
import type { SegmentParts, SegmentRows } from "./segment-parts.ts";

export interface SegmentOptions {
  readonly metric: VectorMetric;
  /** Default: listsFor(rows). 1: no index. */
  readonly lists?: number;
  readonly seed?: number | string;
  /** 0 to 1; called some hundred times. May be slow: the build waits. */
  readonly onProgress?: (share: number) => void;
  readonly signal?: AbortSignal;
}

/** Lists that suit so many rows: 1 up to some ten thousand, where exact search is as fast. */
export function listsFor(_rows: number): number {
  return 1;
}

/** Bytes that a build of this size takes beside its input, and that a loaded segment takes. */
export function segmentBytes(_rows: number, _dims: number, _lists?: number): { readonly build: number; readonly loaded: number } {
  throw new MillraceError("unsupported", "segments", { todo: "wait for them" });
}

/** Rows must be finite (and not of length 0 for cosine): throws `invalid`. */
export function buildSegment(_rows: SegmentRows, _options: SegmentOptions): Promise<SegmentParts> {
  throw new MillraceError("unsupported", "segments", { todo: "wait for them" });
}
