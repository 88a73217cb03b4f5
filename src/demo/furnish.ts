// Brings the world's rooms, viewers and past events into a server, by its public API.
// Invariants: 1. a row that the server refuses is counted with its reason, never lost in silence  2. a try that failed for a passing reason is repeated:
// rows replace themselves and event ids make events idempotent  3. returns or throws promptly after the signal.
// Limits: `batchRows` a request, one request at a time, `triesMax` tries of each with a growing pause.

import { toMillraceError } from "#base/errors";
import type { Clock } from "#platform/clock";
import type { EventBody, Rejection } from "#wire/api";
import type { DemoClient } from "./demo-client.ts";
import type { World } from "./world.ts";

export const furnishLimits = { batchRows: 500, triesMax: 8, pauseFirstMs: 100 } as const;

export interface FurnishProgress {
  readonly stage: "items" | "users" | "history";
  readonly done: number;
  readonly total: number;
}

export interface Furnished {
  readonly items: number;
  readonly users: number;
  readonly events: number;
  /** Reason -> rows that the server refused. */
  readonly refused: Readonly<Record<string, number>>;
}

export interface FurnishOptions {
  readonly client: DemoClient;
  readonly world: World;
  readonly clock: Clock;
  /** Past events, may be empty. */
  readonly history: readonly EventBody[];
  readonly signal: AbortSignal;
  readonly onProgress: (progress: FurnishProgress) => void;
}

/** Puts everything as the world stands now. Throws what the server answers when it is not passing, and the signal's reason. */
export async function furnish(options: FurnishOptions): Promise<Furnished> {
  const { client, world, clock, signal } = options;
  const refused: Record<string, number> = {};
  const bring = async <Row>(
    stage: FurnishProgress["stage"],
    rows: readonly Row[],
    send: (batch: readonly Row[]) => Promise<{ rejected: readonly Rejection[] }>,
  ): Promise<number> => {
    let taken = 0;
    for (let from = 0; from < rows.length; from += furnishLimits.batchRows) {
      const batch = rows.slice(from, from + furnishLimits.batchRows);
      const { rejected } = await persistently(clock, signal, () => send(batch));
      for (const { message } of rejected) refused[message] = (refused[message] ?? 0) + 1;
      taken += batch.length - rejected.length;
      options.onProgress({ stage, done: from + batch.length, total: rows.length });
    }
    return taken;
  };
  const roomRows = Array.from({ length: world.rooms.slots }, (_, slot) => world.rooms.row(slot));
  const viewerRows = Array.from({ length: world.tastes.viewers }, (_, viewer) => world.tastes.row(viewer));
  return {
    items: await bring("items", roomRows, (rows) => client.putItems(rows, signal)),
    users: await bring("users", viewerRows, (rows) => client.putUsers(rows, signal)),
    events: await bring("history", options.history, (events) => client.sendEvents(events, signal)),
    refused,
  };
}

/** Repeats `attempt` while its failure is worth another try. */
async function persistently<T>(clock: Clock, signal: AbortSignal, attempt: () => Promise<T>): Promise<T> {
  for (let tried = 1; ; tried += 1) {
    signal.throwIfAborted();
    try {
      return await attempt();
    } catch (thrown) {
      const error = toMillraceError(thrown, "the demo could not reach the server");
      if (signal.aborted || !error.retryable || tried === furnishLimits.triesMax) throw error;
      await clock.sleep(furnishLimits.pauseFirstMs * 2 ** (tried - 1), signal);
    }
  }
}
