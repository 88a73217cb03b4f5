// What an operator must see: a version that was refused, or could not be loaded, while the one before goes on serving.
// Why a callback and not a log line: roles log it, count it as a metric and show it on the console, and a test reads it.

export interface SnapshotAlarm {
  /** `refused`: its checks, or the follower's own, found it bad. `damaged`: bytes that do not agree. `not-loaded`: something else, tried again. `not-retired`: old
   * versions could not be removed. */
  readonly what: "refused" | "damaged" | "not-loaded" | "not-retired";
  readonly kind: string;
  readonly name: string;
  readonly version: string | undefined;
  readonly reasons: readonly string[];
  readonly atMs: number;
}

export type AlarmSink = (alarm: SnapshotAlarm) => void;
