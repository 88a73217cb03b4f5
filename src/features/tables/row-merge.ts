// Which of two rows says what holds in a column: the imported version's (base) or the live one (delta).
// The rule is total, so that every reader, the server's, a replica's or a builder's, comes to the same answer:
//   batch   the base's value; the delta's where the base has none
//   stream  the delta's; the base's where the delta says nothing
//   newest  whichever is later; at equal times the delta's
// A deletion of the row at a time hides what the base says from then or before, whoever owns the column; later values of the base live.
// A cell that has expired is as if it were not there, but it still stands before an older one of the other row: that has expired too, or is overtaken.

import { cellState, type RowCells } from "./row-cells.ts";
import type { Owner } from "./table-schema.ts";

export const fromNone = 0;
export const fromBase = 1;
export const fromDelta = 2;

/** Which row's cell at `place` holds: `fromNone`, `fromBase` or `fromDelta`. `deletedMs`: time of a deletion that the live row does not say itself, 0 = none. */
export function winnerOf(owner: Owner, place: number, base: RowCells | undefined, delta: RowCells | undefined, deletedMs: number): number {
  const live = delta !== undefined && delta.state[place] !== cellState.unsaid;
  let old = base !== undefined && base.state[place] !== cellState.unsaid;
  if (old) {
    const floorMs = delta === undefined ? deletedMs : delta.floorMs;
    if (floorMs > 0 && base!.timeMs[place]! <= floorMs) old = false;
  }
  if (!old) return live ? fromDelta : fromNone;
  if (!live) return fromBase;
  if (owner === "batch") return fromBase;
  if (owner === "stream") return fromDelta;
  return base!.timeMs[place]! > delta.timeMs[place]! ? fromBase : fromDelta;
}

/** Whether the cell has a value that has not expired. */
export function isLive(cells: RowCells, place: number, nowMs: number): boolean {
  if (cells.state[place] !== cellState.value) return false;
  const expiryMs = cells.expiryMs[place]!;
  return expiryMs === 0 || expiryMs > nowMs;
}
