// The parameter server as gauges of /metrics. Read when somebody asks; nothing is counted twice.

import type { Clock } from "#platform/clock";
import { type Need, needOf, type ParametersStatus, type ParameterTableStatus, sourcesInWords } from "#wire/parameter-api";
import type { Waited } from "./gateway.ts";
import type { ParametersFace } from "./parameters-http.ts";
import type { GaugeSource } from "./store-metrics.ts";

/** Synchronised or not: a table that answers pulls as it should. */
export function isTableReady({ state, sync }: ParameterTableStatus): boolean {
  return state === "open" && sync?.ready !== false && sync?.leadFault === undefined;
}

export function isReady({ state, tables }: ParametersStatus): boolean {
  return state === "open" && tables.every(isTableReady);
}

/** What /health/ready waits for: each table of the configuration that does not answer as it should, with the reason. A table that a command made keeps nobody waiting. */
export function tablesWaitedFor({ tables }: ParametersStatus): Waited[] {
  return tables
    .filter((table) => table.declared && !isTableReady(table))
    .map(({ name, reason, needs, sync }) => {
      if (sync === undefined) return waited(`parameter table ${name} is not served: ${reason ?? "see the server's log"}`, needs);
      if (sync.leadFault !== undefined) return waited(`parameter table ${name} takes no writes: ${sync.leadFault}`, sync.leadNeeds);
      return waited(`parameter table ${name} is not as new as ${sourcesInWords(sync) || "its followers"}`, needOf(sync));
    });
}

function waited(what: string, needs: Need | undefined): Waited {
  return needs === undefined ? what : { what, needs };
}

/** Seconds by which each follower lags behind: the largest of the tables. */
export function lagByReplica({ tables }: ParametersStatus): Map<string, number> {
  const lags = new Map<string, number>();
  for (const { sync } of tables) {
    for (const { node, lagMs } of sync?.followers ?? []) lags.set(String(node), Math.max(lags.get(String(node)) ?? 0, lagMs / 1_000));
  }
  return lags;
}

export function parameterGauges({ control, models }: ParametersFace, clock: Clock): GaugeSource[] {
  const gauge = (name: string, help: string, read: GaugeSource["read"]): GaugeSource => ({ name: `rec_ps_${name}`, help, read });
  const perTable = (name: string, help: string, of: (table: ParameterTableStatus) => number): GaugeSource => ({
    ...gauge(name, help, () => control.status().tables.map((table): readonly [string, number] => [table.name, of(table)])),
    label: "table",
  });
  const quota = (name: string, help: string, of: (state: ReturnType<typeof models.quotaStates>[number]) => number): GaugeSource => ({
    ...gauge(name, help, () => models.quotaStates().map((state): readonly [string, number] => [state.model, of(state)])),
    label: "model",
  });
  return [
    gauge("ready", "1 while all parameter tables are open and, where they follow, caught up: alarm on it", () => Number(isReady(control.status()))),
    gauge("memory_bytes", "Sizes of all parameter tables", () => control.status().memoryBytes),
    gauge("memory_limit_bytes", "Beyond it no table is made", () => control.status().memoryBytesMax),
    perTable("table_ready", "1 while the table is open and, where it follows, caught up", (table) => Number(isTableReady(table))),
    perTable("rows", "Rows of the table", ({ rows }) => rows),
    perTable("tombstones", "Deleted rows whose deletion has not gone everywhere yet", ({ tombstones }) => tombstones),
    perTable("used_bytes", "Taken of the table's memory by rows and index", ({ usedBytes }) => usedBytes),
    perTable("bytes", "The table's memory", ({ bytes }) => bytes),
    perTable("pulls", "Pulls since the start", ({ pulls }) => pulls),
    perTable("pulled_rows", "Rows pulled since the start", ({ pulledRows }) => pulledRows),
    perTable("missed_rows", "Of them without a row: they read as initial values", ({ missedRows }) => missedRows),
    perTable("pushes", "Pushes and deletes since the start", ({ pushes }) => pushes),
    perTable("pushed_rows", "Rows pushed since the start", ({ pushedRows }) => pushedRows),
    perTable("refused_rows", "Rows that found no room since the start: alarm on a rise", ({ refused }) => refused),
    perTable("held_back_rows", "Additions that admission held back since the start", ({ heldBack }) => heldBack),
    perTable("skipped_rows", "Rows with numbers that are not finite, since the start", ({ skipped }) => skipped),
    perTable("evicted", "Rows evicted since the start", ({ evicted }) => evicted),
    perTable("expired", "Rows expired since the start", ({ expired }) => expired),
    perTable("checkpoint_age_seconds", "Since the last checkpoint; 0 without one", ({ checkpoint: { atMs } }) =>
      atMs === 0 ? 0 : Math.max(0, (clock.nowMs() - atMs) / 1_000),
    ),
    perTable("checkpoint_seconds", "How long the last checkpoint took", ({ checkpoint }) => checkpoint.ms / 1_000),
    perTable("checkpoint_bytes", "Bytes of its file", ({ checkpoint }) => checkpoint.bytes),
    perTable("checkpoint_in_trouble", "1 while the last one failed: alarm on it", ({ checkpoint }) => Number(checkpoint.error !== undefined)),
    perTable("unsaved_rows", "Writes since the last checkpoint, which a crash would lose", ({ checkpoint }) => checkpoint.unsavedRows),
    perTable("sync_digest_mismatches", "Buckets that differed where they should not, since the start: alarm on any", ({ sync }) => sync?.digestMismatches ?? 0),
    perTable("sync_conflicts", "Entries of one version and other bytes, since the start: alarm on any", ({ sync }) => sync?.conflicts ?? 0),
    perTable("sync_lost_writes", "Writes that fail-overs lost, since the start", ({ sync }) => sync?.lostWrites ?? 0),
    perTable("sync_table_full", "Times that what a source sent found no room, since the start: alarm on a rise", ({ sync }) => sync?.tableFull ?? 0),
    perTable("sync_followers_refused", "Followers that were refused since there are too many, since the start", ({ sync }) => sync?.followersRefused ?? 0),
    perTable("sync_turned_stale", "Times that the copy was found to be behind its source, since the start", ({ sync }) => sync?.turnedStale ?? 0),
    { ...gauge("sync_lag_seconds", "Age of the oldest write that a follower has not acknowledged", () => lagByReplica(control.status())), label: "replica" },
    {
      ...gauge("model_live", "1 while a version of the model is live", () =>
        models.catalogue.list().map(({ model, live }): readonly [string, number] => [model, Number(live !== null)]),
      ),
      label: "model",
    },
    {
      ...gauge("model_versions", "Versions of the model that are kept", () =>
        models.catalogue.list().map(({ model, versions }): readonly [string, number] => [model, versions.length]),
      ),
      label: "model",
    },
    quota("model_requests", "Requests of a model with quotas since the start", ({ requests }) => requests),
    quota("model_refused", "Of such a model refused by a quota since the start", ({ refused }) => Object.values(refused).reduce((sum, one) => sum + one, 0)),
  ];
}
