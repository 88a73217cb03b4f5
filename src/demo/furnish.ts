// Brings the world's rooms, viewers and past events into a server, by its public API.
// Invariants: 1. a row that the server refuses is counted with its reason, never lost in silence  2. what failed for a passing reason is sent again by the
// client: rows replace themselves and event ids make events idempotent  3. returns or throws promptly after the signal.
// Limits: `batchRows` a request, one request at a time.

import type { Client } from "#sdk/index";
import type { EventBody, Rejection } from "#wire/api";
import type { World } from "./world.ts";

const batchRows = 500;

export interface FurnishProgress {
  readonly stage: "items" | "users" | "history";
  readonly done: number;
  readonly total: number;
}

export interface Furnished {
  readonly items: number;
  readonly users: number;
  readonly events: number;
  /** Rooms of the same world that the server still held and that are gone since (a restart after a long time). */
  readonly removed: number;
  /** Reason -> rows that the server refused. */
  readonly refused: Readonly<Record<string, number>>;
}

export interface FurnishOptions {
  /** A patient one: it repeats what fails for a passing reason. */
  readonly client: Client;
  readonly world: World;
  /** Past events, may be empty. */
  readonly history: readonly EventBody[];
  readonly signal: AbortSignal;
  readonly onProgress: (progress: FurnishProgress) => void;
}

/** Puts everything as the world stands now. Throws what the server answers when it is not passing, and the signal's reason. */
export async function furnish(options: FurnishOptions): Promise<Furnished> {
  const { client, world, signal } = options;
  const refused: Record<string, number> = {};
  const bring = async <Row>(
    stage: FurnishProgress["stage"],
    rows: readonly Row[],
    send: (batch: readonly Row[]) => Promise<{ rejected: readonly Rejection[] }>,
  ): Promise<number> => {
    let taken = 0;
    for (let from = 0; from < rows.length; from += batchRows) {
      const batch = rows.slice(from, from + batchRows);
      const { rejected } = await send(batch);
      for (const { message } of rejected) refused[message] = (refused[message] ?? 0) + 1;
      taken += batch.length - rejected.length;
      options.onProgress({ stage, done: from + batch.length, total: rows.length });
    }
    return taken;
  };
  const removed = await removeGone(client, world, signal);
  const roomRows = Array.from({ length: world.rooms.slots }, (_, slot) => world.rooms.row(slot));
  const viewerRows = Array.from({ length: world.tastes.viewers }, (_, viewer) => world.tastes.row(viewer));
  return {
    items: await bring("items", roomRows, (rows) => client.items.put(rows, { signal })),
    users: await bring("users", viewerRows, (rows) => client.users.put(rows, { signal })),
    events: await bring("history", options.history, (events) => client.events.send(events, { signal })),
    removed,
    refused,
  };
}

/** Deletes the rooms that made place for others while nobody told the server: they would stand there open for ever. */
async function removeGone(client: Client, world: World, signal: AbortSignal): Promise<number> {
  const gone: string[] = [];
  for (let after: string | undefined; ;) {
    const page = await client.items.list({ limit: batchRows, ...(after === undefined ? {} : { after }) }, { signal });
    for (const { id } of page.items) if (world.rooms.isGone(id)) gone.push(id);
    if (page.next === undefined) break;
    after = page.next;
  }
  for (const id of gone) await client.items.delete(id, { signal });
  return gone.length;
}
