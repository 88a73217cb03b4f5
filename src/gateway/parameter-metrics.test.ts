// Guards what keeps a server with parameter tables from being ready: a declared table that does not answer as it should, by name and reason.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { Need, ParameterSourceStatus, ParametersStatus, ParameterSyncStatus, ParameterTableStatus } from "#wire/parameter-api";
import { withMore } from "./http-server.ts";
import { tablesWaitedFor } from "./parameter-metrics.ts";

type Told = Pick<ParameterTableStatus, "name" | "state" | "declared"> & {
  readonly reason?: string;
  readonly needs?: Need;
  readonly sync?: Partial<ParameterSyncStatus>;
};

const statusOf = (...tables: Told[]): ParametersStatus => ({ state: "open", tables: tables as ParameterTableStatus[], memoryBytes: 0, memoryBytesMax: 0 });
const source = { address: "10.0.0.1:7400", connected: false, ageMs: 0 };

test("promise: the server is not ready while a table of the configuration does not answer as it should, and says which, why and what to do", () => {
  const needs: Need = { code: "corrupt", todo: "restore a copy" };
  assert.deepEqual(tablesWaitedFor(statusOf({ name: "a", state: "open", declared: true })), []);
  assert.deepEqual(tablesWaitedFor(statusOf({ name: "a", state: "failed", declared: true, reason: "store-7.mrs is damaged", needs })), [
    { what: "parameter table a is not served: store-7.mrs is damaged", needs },
  ]);
  assert.deepEqual(tablesWaitedFor(statusOf({ name: "a", state: "failed", declared: false })), [], "a table that a command made");
  const following = (ready: boolean, ...sources: Partial<ParameterSourceStatus>[]): Told => ({
    name: "a",
    state: "open",
    declared: true,
    sync: { ready, sources: sources.map((one) => ({ ...source, ...one })) },
  });
  assert.deepEqual(tablesWaitedFor(statusOf(following(true, {}))), [], "a leader that was lost a moment ago");
  assert.deepEqual(tablesWaitedFor(statusOf(following(false, {}))), ["parameter table a is not as new as 10.0.0.1:7400 (not connected)"]);
  const mismatch = { fault: "another token", needs: { code: "conflict", todo: "give both the same token" } } as const;
  const lasting = [{ what: "parameter table a is not as new as 10.0.0.1:7400 (another token)", needs: mismatch.needs }];
  assert.deepEqual(tablesWaitedFor(statusOf(following(false, mismatch))), lasting);
  const oneMayCome = tablesWaitedFor(statusOf(following(false, mismatch, { address: "10.0.0.2:7400" })));
  assert.deepEqual(oneMayCome, ["parameter table a is not as new as 10.0.0.1:7400 (another token), 10.0.0.2:7400 (not connected)"]);
  const noLeader = { ready: false, sources: [], leadFault: "the registry is gone", leadNeeds: needs };
  const taken = [{ what: "parameter table a takes no writes: the registry is gone", needs }];
  assert.deepEqual(tablesWaitedFor(statusOf({ name: "a", state: "open", declared: true, sync: noLeader })), taken);

  assert.deepEqual(withMore({ ready: true, waiting: [] }, ["x is not open", ...lasting]), {
    ready: false,
    waiting: ["x is not open", lasting[0]!.what],
    ...mismatch.needs,
  });
  assert.deepEqual(withMore({ ready: true, waiting: [] }, ["x is not open"]), { ready: false, waiting: ["x is not open"] });
  const own = { ready: false, waiting: ["events are refused"], code: "internal", todo: "look at the disk" } as const;
  assert.deepEqual(withMore(own, lasting), { ...own, waiting: ["events are refused", lasting[0]!.what] }, "the gateway's own word comes first");
});
