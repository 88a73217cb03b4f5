// The replay of a purchase log against the real thing, wired: log file -> protocol -> gateway of the shop preset.

import { openReplayGateway } from "./replay-gateway.ts";
import { shopConfig } from "#gateway/index";
import { systemClock } from "#platform/system-clock";
import { systemFiles } from "#platform/system-files";
import { type Refresh, replay, type ReplayProgress, type ReplayResult } from "#replay/index";
import { apiLimits } from "#wire/api";

export interface ReplayRoleOptions {
  readonly path: string;
  readonly refresh: Refresh;
  readonly version: string;
  readonly onProgress: (progress: ReplayProgress) => void;
  readonly signal: AbortSignal;
}

/** Runs the protocol; what it learnt is thrown away at the end. */
export async function runReplay(options: ReplayRoleOptions): Promise<ReplayResult> {
  const { gateway, setTime, close } = await openReplayGateway(shopConfig, options.version);
  try {
    return await replay({
      files: systemFiles,
      clock: systemClock,
      path: options.path,
      refresh: options.refresh,
      onProgress: options.onProgress,
      signal: options.signal,
      model: {
        async recommend(user, n, novel, atMs) {
          setTime(atMs);
          const { items } = await gateway.recommend(novel ? "discover" : "shop", { user, n, record: false });
          return items.map(({ id }) => id);
        },
        async learn(events) {
          for (let from = 0; from < events.length; from += apiLimits.eventsPerRequestMax) {
            const batch = events.slice(from, from + apiLimits.eventsPerRequestMax);
            setTime(batch.at(-1)!.atMs);
            await gateway.putEvents(batch.map(({ id, user, item, atMs }) => ({ id, type: "purchase", user, item, ts: atMs })));
          }
        },
      },
    });
  } finally {
    await close();
  }
}
