// What the nodes of one table say of themselves, as one: for status, metrics and the console.

import type { MillraceError } from "#base/errors";
import type { ParameterSyncStatus } from "#wire/parameter-api";
import type { SyncNode } from "./sync-node.ts";

/** Silence is age too, once it is longer than the time between two words. */
const silenceMs = 1_000;

/** Sums and worst of all shards. */
export function syncStatusOf(nodes: readonly SyncNode[]): ParameterSyncStatus {
  let [ready, leads] = [true, 0];
  const sums = { digestMismatches: 0, conflicts: 0, lostWrites: 0, tableFull: 0, followersRefused: 0, turnedStale: 0 };
  const followers = new Map<number, { node: number; lagMs: number; waitingBuckets: number }>();
  const sources = new Map<string, { address: string; connected: boolean; ageMs: number; why: MillraceError | undefined }>();
  for (const { metrics } of nodes) {
    ready &&= metrics.ready;
    leads += metrics.ledBuckets;
    for (const name of Object.keys(sums) as (keyof typeof sums)[]) sums[name] += metrics[name];
    for (const { node, lagMs, waitingBuckets, loadBuckets } of metrics.followers) {
      const known = followers.get(node);
      followers.set(node, {
        node,
        lagMs: Math.max(lagMs, known?.lagMs ?? 0),
        waitingBuckets: waitingBuckets + loadBuckets + (known?.waitingBuckets ?? 0),
      });
    }
    for (const { address, connected, ageMs, silentMs, fault } of metrics.sources) {
      const known = sources.get(address);
      // Of several shards' the one that waiting does not end.
      const why = known?.why !== undefined && (fault === undefined || !known.why.retryable) ? known.why : fault;
      sources.set(address, {
        address,
        connected: connected && (known?.connected ?? true),
        ageMs: Math.max(connected && silentMs < silenceMs ? ageMs : ageMs + silentMs, known?.ageMs ?? 0),
        why,
      });
    }
  }
  return {
    ready,
    leads,
    followers: [...followers.values()],
    sources: [...sources.values()].map(({ why, ...source }) => ({
      ...source,
      ...(why === undefined ? {} : { fault: why.message }),
      ...(why === undefined || why.retryable ? {} : { needs: { code: why.code, todo: why.todo ?? "look at the servers' logs" } }),
    })),
    ...sums,
  };
}
