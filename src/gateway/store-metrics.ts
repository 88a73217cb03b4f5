// The store, the Redis port and the tables as gauges of /metrics. Read when somebody asks; nothing is counted twice.

import type { Tables } from "#features/tables/tables";
import type { RespMetrics } from "#wire/resp-session";
import type { StoreFace } from "./store-http.ts";

/** A gauge that is handed to the exposition. With `label`, a value for each of its values. */
export interface GaugeSource {
  readonly name: string;
  readonly help: string;
  readonly label?: string;
  read(): number | Iterable<readonly [string, number]>;
}

export function storeGauges(face: StoreFace, tables: Tables, redis: RespMetrics): GaugeSource[] {
  const gauge = (name: string, help: string, read: GaugeSource["read"]): GaugeSource => ({ name, help, read });
  const perTable = (name: string, help: string, of: (state: ReturnType<Tables["required"]>["state"]) => number): GaugeSource => ({
    name,
    help,
    label: "table",
    read: () => tables.list.map(({ state }): readonly [string, number] => [state.name, of(state)]),
  });
  return [
    gauge("rec_store_memory_bytes", "Memory of memtables and runs", () => face.state().memoryBytes),
    gauge("rec_store_memory_limit_bytes", "Above it writes are refused", () => face.state().memoryBytesMax),
    gauge("rec_store_memtable_bytes", "Records of the live memtable", () => face.state().memtable.bytes),
    gauge("rec_store_frozen_memtables", "Full memtables that wait for their flush", () => face.state().frozen.count),
    gauge("rec_store_run_bytes", "Run files of live writes", () => face.state().runs.reduce((sum, { bytes }) => sum + bytes, 0)),
    gauge("rec_store_runs", "Runs that a look-up may meet", () => face.state().runs.length),
    gauge("rec_store_replay_bytes", "Effects that a restart would replay", () => face.state().replayBytes),
    gauge("rec_store_refuses_writes", "1 while writes are refused: alarm on it", () => (face.state().refused === undefined ? 0 : 1)),
    gauge("rec_store_in_trouble", "1 while a flush or merge failed and was not made good", () => (face.state().trouble === undefined ? 0 : 1)),
    gauge("rec_store_flushes", "Memtables flushed since the start", () => face.state().counts.flushes),
    gauge("rec_store_merges", "Merges since the start", () => face.state().counts.compactions),
    gauge(
      "rec_store_run_bytes_written",
      "Bytes written by them; over the bytes logged it is the write amplification",
      () => face.state().counts.runBytesWritten,
    ),
    gauge("rec_store_logged_bytes", "Bytes of effects logged since the start", () => face.state().counts.loggedBytes),
    gauge("rec_pool_bytes", "Memories of the pool, idle ones too", () => face.memories().totalBytes),
    gauge("rec_pool_idle_bytes", "Memories that wait to be used again", () => face.memories().idleBytes),
    gauge("rec_pool_dropped_bytes", "Memories given up for others and not yet collected, on top of rec_pool_bytes", () => face.memories().droppedBytes),
    gauge("rec_redis_connections", "Connections of the Redis port", () => face.redis().connections),
    gauge("rec_redis_commands", "Commands since the start", () => redis.commands),
    gauge("rec_redis_error_replies", "Error replies since the start", () => redis.errorReplies),
    gauge("rec_redis_protocol_errors", "Connections closed for malformed input", () => redis.protocolErrors),
    gauge("rec_redis_auth_failures", "Refused passwords", () => redis.authFailures),
    perTable("rec_table_base_rows", "Rows of the imported version", ({ baseRows }) => baseRows),
    perTable(
      "rec_table_loaded",
      "1 when the live version is the one that is read: 0 while it loads, and when it was refused here",
      ({ loaded, live, version }) => Number(loaded && live === version),
    ),
    perTable("rec_table_keys_read", "Keys read since the start", ({ counts }) => counts.keysRead),
    perTable("rec_table_keys_absent", "Of them without a row", ({ counts }) => counts.keysAbsent),
    perTable(
      "rec_table_disk_reads",
      "Reads of the disk by the imported version that serves, with storage disk, since it was loaded",
      ({ diskReads }) => diskReads.reads,
    ),
    perTable("rec_table_disk_read_bytes", "Bytes of these", ({ diskReads }) => diskReads.bytes),
    perTable("rec_table_rows_written", "Rows written live since the start", ({ counts }) => counts.rowsWritten),
  ];
}
