// Trims the activity log: what is older than configured goes, whole segments at a time, but nothing that a restart needs.
//   trimmed below = min(what the kept aggregations need, what the model's checkpoints and open answers need, what is old by time or size)
// Why the needs win: a log that does not reach back to a checkpoint cannot be counted on from it; a start would be refused (activity-checkpoints.ts) and training would
// pass over what is gone. So a checkpoint that stands still makes the log grow: `state.neededBy` says whose it is.
// Why a checkpoint of the aggregations counts only after a while: at `interval` and `none` a power cut may take back the newest writes of the store; what comes back
// then is an older head, and the log must still reach it.
// Invariants: 1. nothing at or behind a need is trimmed  2. without kept aggregations nothing is trimmed: every start counts from the first record
// 3. a failure trims nothing, is told once, and the next look tries again.
// Cost: a look of some comparisons every few seconds; a segment that goes is a file removed and a folder synced.

import { type MillraceError, toMillraceError } from "#base/errors";
import type { Durability, LogWriter } from "#backbone/log";
import type { Clock, Timer } from "#platform/clock";
import type { LogConfig } from "./config.ts";

export const retentionDefaults = { retentionHours: 7 * 24 } as const;

/** Somebody who will ask for the log again, and from where on. */
export interface LogNeed {
  /** In words, for an operator. */
  readonly who: string;
  readonly offset: number;
  /** How long the offset has to stand before the log below it may go, for those whose own writes a power cut may take back. */
  readonly provenAfterMs?: number;
}

/** After these a write of the store has been synced: at `interval` the longest interval that can be configured, twice; at `none` a memtable is flushed every half minute, and flushes are synced. */
export const provenAfterMs: Readonly<Record<Durability, number>> = { always: 0, interval: 120_000, none: 300_000 };

export interface RetentionState {
  /** Oldest record that the log holds. */
  readonly first: number;
  /** Nothing from here on may be trimmed, whatever its age. */
  readonly neededFrom: number;
  readonly neededBy: string;
  /** Records that were trimmed since the start. */
  readonly trimmed: number;
  readonly trouble: MillraceError | undefined;
}

export interface ActivityRetentionOptions {
  readonly writer: LogWriter;
  readonly clock: Clock;
  readonly config: LogConfig;
  /** Asked at each look. */
  readonly needs: () => readonly LogNeed[];
  /** Told what an operator should know, a sentence each. */
  readonly warn: (message: string) => void;
}

const lookEveryMs = 5_000;
const hourMs = 3_600_000;

/** An offset that somebody named, and since when. */
interface Named {
  readonly offset: number;
  readonly sinceMs: number;
}

export class ActivityRetention {
  readonly #options: ActivityRetentionOptions;
  /** By who: what was named and is not proven yet, oldest first, behind the newest that is. */
  readonly #named = new Map<string, Named[]>();
  #timer: Timer | undefined;
  #stopped = false;
  #looking: Promise<void> = Promise.resolve();
  #neededFrom = 0;
  #neededBy = "";
  #trimmed = 0;
  #trouble: MillraceError | undefined;

  constructor(options: ActivityRetentionOptions) {
    this.#options = options;
  }

  get state(): RetentionState {
    return {
      first: this.#options.writer.bounds.first,
      neededFrom: this.#neededFrom,
      neededBy: this.#neededBy,
      trimmed: this.#trimmed,
      trouble: this.#trouble,
    };
  }

  /** Looks now and then from now on. */
  start(): void {
    if (this.#stopped) return;
    this.#timer = this.#options.clock.after(
      lookEveryMs,
      () => {
        this.#looking = this.#look().then(() => this.start());
      },
      { background: true },
    );
  }

  /** Resolves when no look is under way; there is none after it. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#timer?.cancel();
    await this.#looking;
  }

  async #look(): Promise<void> {
    const { writer, clock, config, warn } = this.#options;
    try {
      const { offset, who } = this.#needed();
      this.#neededFrom = offset;
      this.#neededBy = who;
      const { first, next } = writer.bounds;
      const { retentionHours = retentionDefaults.retentionHours, retentionGb = Infinity } = config;
      const needed = Math.min(offset, next);
      if (needed > first) {
        const old = await writer.oldUpTo({ beforeMs: clock.nowMs() - retentionHours * hourMs, bytesMax: retentionGb * 1e9 });
        const upTo = Math.min(old, needed);
        if (upTo > first && !this.#stopped) await writer.trim(upTo);
        this.#trimmed += writer.bounds.first - first;
      }
      this.#trouble = undefined;
    } catch (thrown) {
      const error = toMillraceError(thrown, "trimming the activity log failed");
      if (this.#trouble === undefined && !this.#stopped) warn(`the activity log grows beyond its retention: ${error.message}`);
      this.#trouble = error;
    }
  }

  /** The lowest of what the needs have proven. */
  #needed(): { offset: number; who: string } {
    const nowMs = this.#options.clock.monotonicMs();
    let lowest = { offset: Infinity, who: "" };
    for (const { who, offset, provenAfterMs: waitMs = 0 } of this.#options.needs()) {
      const named = this.#named.get(who) ?? [];
      this.#named.set(who, named);
      // One that went back (it should not) counts at once.
      while (named.length > 0 && named.at(-1)!.offset > offset) named.pop();
      if (named.at(-1)?.offset !== offset) named.push({ offset, sinceMs: nowMs });
      while (named.length > 1 && nowMs - named[1]!.sinceMs >= waitMs) named.shift();
      const oldest = named[0]!;
      const proven = nowMs - oldest.sinceMs >= waitMs ? oldest.offset : 0;
      if (proven < lowest.offset) lowest = { offset: proven, who };
    }
    return lowest.offset === Infinity ? { offset: 0, who: "" } : lowest;
  }
}
