// The entry of one node among those that lead by lease: where the others reach it. One a number, and whoever has it keeps it.
// Why checked each time: a second process with the same number would take the others away from the first one, and take the entry with it when it goes; nobody would follow the
// first one any more, though it leads, and what it answers would be nowhere else.
// Cost: a read of the registry a call, a write when something changed. Concurrency: any; compare-and-set decides.

import type { Lease, Registry } from "#backbone/registry";
import { MillraceError } from "#base/errors";
import type { Address } from "./sync-node.ts";

/**
 * Puts the entry under the lease when it is not there as it should be. Returns why not while another process has the number; one that died has it until its lease ends. `mine`: this
 * lease has put it before.
 */
export async function keepMemberEntry(
  registry: Registry,
  key: string,
  entry: Address,
  { lease, mine }: { lease: Lease; mine: boolean },
): Promise<MillraceError | undefined> {
  const text = JSON.stringify(entry);
  const there = await registry.get(key);
  if (there !== undefined) {
    const before = new TextDecoder().decode(there.value);
    if (mine && before === text) return undefined;
    const { host, port } = JSON.parse(before) as Address;
    if (host !== entry.host || port !== entry.port) return numberTaken(key, `${host}:${port}`);
  }
  const put = await registry.put(key, new TextEncoder().encode(text), { lease, expect: there?.revision ?? 0 });
  return put === undefined ? numberTaken(key, "another one") : undefined;
}

function numberTaken(key: string, by: string): MillraceError {
  return new MillraceError("unavailable", `the number ${key.slice(key.lastIndexOf("/") + 1)} of this server is taken by ${by}`, {
    todo: "give each server a `node` of its own; after a move it is free when the lease of before has ended",
  });
}
