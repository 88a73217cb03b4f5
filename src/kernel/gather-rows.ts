// Row gather: numbered rows of one width, copied one after another into the caller's array.
// A number outside the block (an absent key's 0xFFFFFFFF, say) gives a row of zeros and is counted, so that a batch never fails for one row.
// Cost: cache misses of a group of 16 rows overlap; see bench in docs/design/kernel.md. Batches larger than the lane go in parts.
// Limits: rowBytesMax; the block lies in one memory.

import { MillraceError } from "#base/errors";
import type { KernelMemory } from "./kernel-memory.ts";

export const gatherLimits = { rowBytesMax: 65_536 } as const;

/** Rows of `rowBytes` bytes each, one after another. */
export interface RowBlock {
  readonly memory: KernelMemory;
  /** Address of row 0; 16-aligned, or reading slows down. */
  readonly at: number;
  readonly rowBytes: number;
  readonly rowCount: number;
}

/** Copies the rows to `into` (at least `indices.length * rowBytes` bytes). Returns how many numbers were outside the block. */
export function gatherRows(block: RowBlock, indices: Uint32Array, into: Uint8Array): number {
  const { memory, rowBytes } = block;
  const { lane, calls } = memory;
  if (!Number.isInteger(rowBytes) || rowBytes < 1 || rowBytes > gatherLimits.rowBytesMax) {
    throw new MillraceError("invalid", `rows of ${rowBytes} bytes`, { todo: `use rows of 1 to ${gatherLimits.rowBytesMax} bytes` });
  }
  if (into.length < indices.length * rowBytes) {
    throw new MillraceError("invalid", `${indices.length} rows of ${rowBytes} bytes into ${into.length}`, { todo: "give a large enough array" });
  }
  lane.reset();
  const touched = lane.take(16);
  const partMax = Math.min(indices.length, Math.floor((lane.free - 32) / (rowBytes + 4)));
  if (partMax <= 0 && indices.length > 0) {
    throw new MillraceError("invalid", `rows of ${rowBytes} bytes through a lane of less`, { todo: "give the memory larger lanes (laneBytes)" });
  }
  const list = lane.take(Math.max(0, partMax) * 4);
  const out = lane.take(Math.max(0, partMax) * rowBytes);
  let absent = 0;
  for (let from = 0; from < indices.length; from += partMax) {
    const part = indices.subarray(from, from + partMax);
    memory.u32.set(part, list / 4);
    absent += calls.gatherRows(block.at, block.rowCount, rowBytes, list, part.length, out, touched) >>> 0;
    into.set(memory.bytes.subarray(out, out + part.length * rowBytes), from * rowBytes);
  }
  return absent;
}
