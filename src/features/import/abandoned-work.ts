// Work folders of imports that nobody came back for: an import that was killed leaves its staged rows, as large as the table, for the next attempt of the same request.
// Invariants: 1. no work is removed while an import works on it (its lock)  2. a plan that cannot be read for a failure of the disk is left alone.
// Cost: one small file read a folder. Versions that such an import had begun are removed by the snapshot store (`abandonedMs` there).

import { MillraceError } from "#base/errors";
import type { Lease, Registry } from "#backbone/registry";
import type { Clock } from "#platform/clock";
import type { Files } from "#platform/files";
import { isWorkName, readPlan, workLockOf } from "./import-plan.ts";

/** A week after it began: long enough for somebody who comes back after a holiday to mend an input, short enough for a disk. */
export const abandonedWorkMs = 7 * 24 * 3_600_000;
const lockLeaseMs = 10_000;

export interface AbandonedWorkOptions {
  readonly files: Files;
  readonly clock: Clock;
  readonly registry: Registry;
  /** Of all work folders: DATA/import. */
  readonly folder: string;
  /** Id of an import that was just tried: its work stays. */
  readonly except?: string | undefined;
}

/** Removes the work of imports that began longer than `abandonedWorkMs` ago and do not run, and what has no plan. Returns their ids. */
export async function removeAbandonedWork({ files, clock, registry, folder, except }: AbandonedWorkOptions): Promise<string[]> {
  const removed: string[] = [];
  let lease: Lease | undefined;
  const isAbandoned = async (work: string): Promise<boolean> => {
    try {
      const plan = await readPlan(files, work);
      return plan === undefined || clock.nowMs() - plan.timeMs > abandonedWorkMs;
    } catch (thrown) {
      // A plan that is none helps no next attempt.
      return thrown instanceof MillraceError && thrown.code === "corrupt";
    }
  };
  try {
    for (const id of (await files.list(folder)) ?? []) {
      const work = files.join(folder, id);
      if (!isWorkName(id) || id === except || !(await isAbandoned(work))) continue;
      lease ??= await registry.lease(lockLeaseMs);
      const lock = await registry.tryLock(workLockOf(id), lease);
      if (lock === undefined) continue;
      try {
        // It may have begun anew before we had the lock.
        if (!(await isAbandoned(work))) continue;
        await files.removeFolder(work);
        removed.push(id);
      } finally {
        await lock.release();
      }
    }
  } finally {
    await lease?.end();
  }
  return removed;
}
