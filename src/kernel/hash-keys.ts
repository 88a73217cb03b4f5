// Hashes of a whole batch of keys by the kernel. The hashes themselves: docs/format/key-hash.md; single keys: key-hash.ts.

import { MillraceError } from "#base/errors";
import type { KernelMemory } from "./kernel-memory.ts";
import type { KeyBatch } from "./key-batch.ts";
import type { KeySeed } from "./key-hash.ts";
import { throughLane } from "./key-lane.ts";

/** Writes the key hash of key i as `into[2 i]` (low half) and `into[2 i + 1]` (high half). */
export function hashKeys(memory: KernelMemory, keys: KeyBatch, seed: KeySeed, into: Uint32Array): void {
  hashBy("hashKeys", memory, keys, seed, into);
}

/** Likewise, the stripe hash. */
export function stripeHashes(memory: KernelMemory, keys: KeyBatch, seed: KeySeed, into: Uint32Array): void {
  hashBy("stripeHashes", memory, keys, seed, into);
}

function hashBy(call: "hashKeys" | "stripeHashes", memory: KernelMemory, keys: KeyBatch, seed: KeySeed, into: Uint32Array): void {
  if (into.length < 2 * keys.count) {
    throw new MillraceError("invalid", `${keys.count} hashes into ${into.length} words`, { todo: "give an array of two words a key" });
  }
  throughLane(memory, keys, 0, 8, ({ keysAt, offsetsAt, first, count, resultAt }) => {
    memory.calls[call](keysAt, offsetsAt, count, seed.low, seed.high, resultAt);
    into.set(memory.u32.subarray(resultAt / 4, resultAt / 4 + 2 * count), 2 * first);
    return true;
  });
}
