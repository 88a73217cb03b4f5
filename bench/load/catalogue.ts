// What the load is about: the rooms and viewers of a demo world, and who does what in proportion to Zipf's law.

import { type Prng } from "#base/prng";
import { createWorld } from "#demo/world";
import type { Lane } from "./lane.ts";

export interface Catalogue {
  /** The open rooms: what an answer may hold. */
  readonly items: readonly string[];
  readonly users: readonly string[];
}

const rowsPerRequest = 500;

/** Puts the rooms and viewers of the demo world of `seed` into the server. */
export async function putCatalogue(lane: Lane, seed: number): Promise<Catalogue> {
  const { rooms, tastes } = createWorld({ seed, startMs: Date.now() });
  const items = Array.from({ length: rooms.slots }, (_, slot) => rooms.row(slot));
  const users = Array.from({ length: tastes.viewers }, (_, viewer) => tastes.row(viewer));
  for (const [path, rows] of [
    ["/v1/items", items],
    ["/v1/users", users],
  ] as const) {
    for (let from = 0; from < rows.length; from += rowsPerRequest) {
      const answer = await lane.json<{ rejected: unknown[] }>("PUT", path, rows.slice(from, from + rowsPerRequest));
      if (answer.rejected.length > 0) throw new Error(`${path} refused ${answer.rejected.length} rows: ${JSON.stringify(answer.rejected[0])}`);
    }
  }
  return { items: items.filter(({ available }) => available !== false).map(({ id }) => id), users: users.map(({ id }) => id) };
}

/** Draws list elements with probability proportional to rank ^ -exponent (Zipf's law: 1). */
export function zipf<T>(list: readonly T[], prng: Prng, exponent = 1): () => T {
  const sums = new Float64Array(list.length);
  let total = 0;
  for (let i = 0; i < list.length; i += 1) sums[i] = total += (i + 1) ** -exponent;
  return () => {
    const target = prng.float() * total;
    let low = 0;
    let high = list.length - 1;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (sums[middle]! > target) high = middle;
      else low = middle + 1;
    }
    return list[low]!;
  };
}
