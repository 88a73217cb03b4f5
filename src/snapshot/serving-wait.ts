// Waiting until those who follow a snapshot serve a version: the head moves at once, a server loads for a second or more before it switches. A command that says "is live" and
// ends before that is followed by reads that still see the version before.
// Limits: `waitMsMax`; a look every `lookMs`, two registry reads each.

import type { Clock } from "#platform/clock";
import type { FollowerRecord, SnapshotStore } from "./snapshot-store.ts";

const lookMs = 25;

/** Who follows, by what they do with a version. */
export interface ServedBy {
  readonly serving: readonly string[];
  readonly refused: readonly { readonly node: string; readonly reason: string }[];
  /** Still without it when the time was over, or when another version went live. */
  readonly waiting: readonly string[];
}

/** Resolves when every follower there is serves the version of `name` or has refused it, when another one is live, or after `waitMsMax`. */
export async function untilServed(
  store: SnapshotStore,
  name: string,
  version: string,
  { clock, waitMsMax, signal }: { readonly clock: Clock; readonly waitMsMax: number; readonly signal?: AbortSignal },
): Promise<ServedBy> {
  const untilMs = clock.monotonicMs() + waitMsMax;
  for (;;) {
    const served = servedBy(await store.followers(name), version);
    if (served.waiting.length === 0 || clock.monotonicMs() >= untilMs || (await store.head(name))?.current !== version) return served;
    await clock.sleep(lookMs, signal);
  }
}

export function servedBy(followers: readonly FollowerRecord[], version: string): ServedBy {
  const serving: string[] = [];
  const refused: { node: string; reason: string }[] = [];
  const waiting: string[] = [];
  for (const follower of followers) {
    const refusal = follower.refused.find((one) => one.version === version);
    if (follower.serving === version) serving.push(follower.node);
    // One that tries again, say because the version was made live anew, is waited for.
    else if (refusal === undefined || follower.loading?.version === version) waiting.push(follower.node);
    else refused.push({ node: follower.node, reason: refusal.reason });
  }
  return { serving, refused, waiting };
}

/** For people, behind the name of a version that went live: what became of it. A version that all refuse is not called live. */
export function servedText({ serving, refused, waiting }: ServedBy): string {
  const refusals = refused.map(({ node, reason }) => `refused by ${node} (${reason})`);
  const parts = [
    ...(serving.length > 0 ? [`served by ${serving.join(", ")}`] : []),
    ...(waiting.length > 0 ? [`not yet served by ${waiting.join(", ")}`] : []),
    ...refusals,
  ];
  if (refusals.length > 0 && serving.length === 0) return `is ${parts.toReversed().join(", ")}: what was served before stays`;
  return ["is live", ...parts].join(", ");
}
