// Which runs are merged next: pure.
// Runs stand newest first. Four runs of one level become one of the next; when what is newer than the oldest run has grown as large as that one, all become
// one. So each entry is written about 1 + log4(oldest / memtable) + 2 times, at most half of all bytes are overtaken, and a look-up meets at most three runs
// a level. When nothing was written for a while, the newer runs become one, so that reads meet two. A tombstone counts as what it hides: a store from which much was
// deleted is merged although its tombstones are small.
// Rejected: ten-fold levels (five times the writing) and tiers alone (an overwritten set of keys would be held several times).

export interface PlannedRun {
  readonly level: number;
  readonly bytes: number;
  readonly entries: number;
  readonly tombstones: number;
}

export const mergePlanLimits = {
  /** Runs of one level that are merged. */
  runsPerLevelMax: 4,
  /** All newer runs together over the oldest one. */
  newerBytesRatioMax: 1,
  /** The same when the store is idle. */
  newerBytesRatioIdle: 0.1,
} as const;

/** A merge of the runs `first` to `last` (both included) into one of `level`. */
export interface MergePlan {
  readonly first: number;
  readonly last: number;
  readonly level: number;
}

export function planMerge(runs: readonly PlannedRun[], idle: boolean): MergePlan | undefined {
  const last = runs.length - 1;
  if (last < 1) return undefined;
  const oldest = runs[last]!;
  const entryBytes = oldest.bytes / Math.max(1, oldest.entries);
  let newerBytes = 0;
  for (let i = 0; i < last; i++) newerBytes += runs[i]!.bytes + runs[i]!.tombstones * entryBytes;
  const ratio = idle ? mergePlanLimits.newerBytesRatioIdle : mergePlanLimits.newerBytesRatioMax;
  if (newerBytes >= ratio * oldest.bytes && (idle || last + 1 >= mergePlanLimits.runsPerLevelMax || oldest.level > runs[0]!.level)) {
    return { first: 0, last, level: Math.max(1, oldest.level) };
  }
  if (idle && last > 1) return { first: 0, last: last - 1, level: Math.max(1, runs[last - 1]!.level) };
  // The newest level that is full; a level that becomes full by it comes along, and so on. The oldest run only by its size.
  for (let from = 0; from < last;) {
    const { level } = runs[from]!;
    let to = from;
    while (to + 1 < last && runs[to + 1]!.level <= level) to++;
    if (to - from + 1 < mergePlanLimits.runsPerLevelMax) {
      from = to + 1;
      continue;
    }
    let target = level + 1;
    for (;;) {
      let next = to;
      while (next + 1 < last && runs[next + 1]!.level <= target) next++;
      // With the run that this merge makes.
      if (next - to + 1 < mergePlanLimits.runsPerLevelMax) break;
      to = next;
      target++;
    }
    return { first: from, last: to, level: target };
  }
  return undefined;
}
