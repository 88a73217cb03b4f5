// Guards what keeps a server with parameter tables from being ready: a declared table that does not answer as it should, by name and reason.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { ParametersStatus, ParameterSyncStatus, ParameterTableStatus } from "#wire/parameter-api";
import { tablesWaitedFor } from "./parameter-metrics.ts";

type Told = Pick<ParameterTableStatus, "name" | "state" | "declared"> & { readonly reason?: string; readonly sync?: Partial<ParameterSyncStatus> };

const statusOf = (...tables: Told[]): ParametersStatus => ({ state: "open", tables: tables as ParameterTableStatus[], memoryBytes: 0, memoryBytesMax: 0 });
const source = { address: "10.0.0.1:7400", connected: false, ageMs: 0 };

test("promise: the server is not ready while a table of the configuration does not answer as it should, and says which and why", () => {
  assert.deepEqual(tablesWaitedFor(statusOf({ name: "a", state: "open", declared: true })), []);
  assert.deepEqual(tablesWaitedFor(statusOf({ name: "a", state: "failed", declared: true, reason: "store-7.mrs is damaged" })), [
    "parameter table a is not served: store-7.mrs is damaged",
  ]);
  assert.deepEqual(tablesWaitedFor(statusOf({ name: "a", state: "failed", declared: false })), [], "a table that a command made");
  const following = (ready: boolean, fault?: string): Told => ({
    name: "a",
    state: "open",
    declared: true,
    sync: { ready, sources: [{ ...source, ...(fault === undefined ? {} : { fault }) }] },
  });
  assert.deepEqual(tablesWaitedFor(statusOf(following(true))), [], "a leader that was lost a moment ago");
  assert.deepEqual(tablesWaitedFor(statusOf(following(false))), ["parameter table a is not as new as 10.0.0.1:7400 (not connected)"]);
  assert.deepEqual(tablesWaitedFor(statusOf(following(false, "another token"))), ["parameter table a is not as new as 10.0.0.1:7400 (another token)"]);
});
