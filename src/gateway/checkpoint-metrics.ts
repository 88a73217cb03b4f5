// The kept aggregations, and what is kept of the activity log, as gauges of /metrics.

import type { CheckpointState } from "#features/checkpoint/checkpointer";
import type { Clock } from "#platform/clock";
import type { RetentionState } from "./activity-retention.ts";
import type { GaugeSource } from "./store-metrics.ts";

/** `state`: undefined until checkpoints are made; then the gauges are 0. */
export function checkpointGauges(state: () => CheckpointState | undefined, clock: Clock): GaugeSource[] {
  const gauge = (name: string, help: string, of: (now: CheckpointState) => number): GaugeSource => ({
    name,
    help,
    read: () => {
      const now = state();
      return now === undefined ? 0 : of(now);
    },
  });
  return [
    gauge("rec_checkpoint_age_seconds", "Since the last checkpoint of the aggregations; 0 without one", ({ atMs }) =>
      atMs === 0 ? 0 : Math.max(0, (clock.nowMs() - atMs) / 1_000),
    ),
    gauge("rec_checkpoint_offset", "A restart counts the activity log again from here on", ({ offset }) => offset),
    gauge("rec_checkpoint_lag_records", "Records of the activity log that no checkpoint holds", ({ records }) => records),
    gauge("rec_checkpoint_rows", "Rows of the aggregations", ({ rows }) => rows),
    gauge("rec_checkpoint_rows_changed", "Of them changed since the last checkpoint", ({ rowsChanged }) => rowsChanged),
    gauge("rec_checkpoint_last_rows", "Rows that the last checkpoint wrote", ({ lastRows }) => lastRows),
    gauge("rec_checkpoint_last_seconds", "How long it took, most of it waiting", ({ lastMs }) => lastMs / 1_000),
    gauge("rec_checkpoint_made", "Checkpoints since the start", ({ made }) => made),
    gauge("rec_checkpoint_failed", "Checkpoints that failed since the start", ({ failed }) => failed),
    gauge("rec_checkpoint_bytes_written", "Bytes given to the store since the start", ({ bytesWritten }) => bytesWritten),
    gauge("rec_checkpoint_in_trouble", "1 while the last one failed: alarm on it", ({ trouble }) => Number(trouble !== undefined)),
  ];
}

/** `state`: undefined until the log is looked at, or where nothing of it is trimmed; then the gauges are 0. */
export function retentionGauges(state: () => RetentionState | undefined): GaugeSource[] {
  const gauge = (name: string, help: string, of: (now: RetentionState) => number): GaugeSource => ({
    name,
    help,
    read: () => {
      const now = state();
      return now === undefined ? 0 : of(now);
    },
  });
  return [
    gauge("rec_log_first_offset", "Oldest record of the activity log", ({ first }) => first),
    gauge("rec_log_needed_offset", "Nothing of the activity log is trimmed from here on: a restart needs it", ({ neededFrom }) => neededFrom),
    gauge("rec_log_trimmed_records", "Records trimmed since the start", ({ trimmed }) => trimmed),
    gauge("rec_log_retention_in_trouble", "1 while the activity log cannot be trimmed: alarm on it", ({ trouble }) => Number(trouble !== undefined)),
  ];
}
