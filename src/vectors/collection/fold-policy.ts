// When the tail of a collection becomes part of a new base.
// Why both a number and a share: the tail is searched exactly, so its rows cost every query; a fold costs the whole base, so a small tail of a large base is not worth one.

import type { CollectionFoldConfig } from "#wire/vector-config";

export interface FoldFigures {
  readonly baseRows: number;
  readonly tailRows: number;
  /** Rows of the base that were overwritten or deleted. */
  readonly deletedRows: number;
  readonly elements: number;
  /** Since when something stands in the tail or is deleted; undefined: nothing. */
  readonly waitingMs: number | undefined;
}

/** Why a fold is due, or undefined. */
export function foldReason(limits: Required<CollectionFoldConfig>, figures: FoldFigures): string | undefined {
  const { baseRows, tailRows, deletedRows, elements, waitingMs } = figures;
  // A version without rows is none: the dead rows of the base stay until something is written.
  if (!limits.enabled || elements === 0 || tailRows + deletedRows === 0) return undefined;
  if (tailRows >= limits.tailRows) return `${tailRows} rows in the tail`;
  if (tailRows >= limits.tailRowsMin && tailRows >= limits.tailShare * baseRows) return `${tailRows} rows in the tail of a base of ${baseRows}`;
  if (deletedRows >= limits.tailRowsMin && deletedRows >= limits.deletedShare * baseRows) return `${deletedRows} of ${baseRows} rows of the base are gone`;
  if (limits.everySeconds > 0 && waitingMs !== undefined && waitingMs >= limits.everySeconds * 1_000) return `writes of ${Math.round(waitingMs / 1_000)} s`;
  return undefined;
}

/** A tail so large that it is folded although somebody else builds a version. */
export const overdueFactor = 4;

export function isOverdue(limits: Required<CollectionFoldConfig>, { tailRows }: FoldFigures): boolean {
  return tailRows >= overdueFactor * limits.tailRows;
}
