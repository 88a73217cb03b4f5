// Rebuild: after a start all state comes from the activity log, record by record, by the same `apply` as live records.
// Why from the log alone: aggregations are in memory, the log is what was acknowledged; nothing else has to be consistent with it.
// Invariants: 1. every record from the log's first to its next offset is applied once, in order  2. a record that cannot be decoded stops the start
// with `corrupt` or `unsupported` and its offset: nothing is skipped in silence  3. between slices other work runs (health answers, progress).
// Cost: what counting costs, 10-15 us an event, most of it co-occurrence; 1 M events about 14 s.

import { MillraceError } from "#base/errors";
import type { Log } from "#backbone/log";
import { decodeRecord } from "#features/activity-record";
import type { Declarations } from "#features/feature-set";
import type { Clock } from "#platform/clock";
import type { ActivityState } from "./activity-state.ts";

const readBytes = 256 * 1024;
const sliceMs = 2;

export interface RebuildProgress {
  readonly done: number;
  readonly total: number;
}

/** Applies the records of a partition from `state.position` on, but for answers that `state.ahead` has already; returns how many. */
export async function rebuild<D extends Declarations>(
  state: ActivityState<D>,
  log: Log,
  partition: string,
  clock: Clock,
  onProgress: (progress: RebuildProgress) => void,
): Promise<number> {
  const bounds = await log.bounds(partition);
  const first = Math.max(bounds.first, state.position);
  const total = bounds.next - first;
  let offset = first;
  let sliceEndMs = clock.monotonicMs() + sliceMs;
  while (offset < bounds.next) {
    const batch = await log.read(partition, offset, readBytes);
    if (batch === undefined) break;
    for (let index = 0; index < batch.records.length; index += 1) {
      try {
        const record = decodeRecord(batch.records[index]!);
        if (record.kind !== "served" || !state.ahead.delete(record.recommendationId)) state.apply(record);
        state.position = batch.firstOffset + index + 1;
      } catch (thrown) {
        const code = thrown instanceof MillraceError ? thrown.code : "corrupt";
        throw new MillraceError(code, `cannot rebuild from record ${batch.firstOffset + index} of the activity log`, { cause: thrown, todo: "see the cause" });
      }
      if ((index & 63) === 63 && clock.monotonicMs() > sliceEndMs) {
        onProgress({ done: offset + index - first, total });
        await clock.yield();
        sliceEndMs = clock.monotonicMs() + sliceMs;
      }
    }
    offset = batch.firstOffset + batch.records.length;
  }
  // Answers that never came into the log.
  state.ahead.clear();
  state.position = offset;
  onProgress({ done: offset - first, total });
  return offset - first;
}
