// Randomness for real use: identifiers and secrets. Whatever must be repeatable takes a seeded `Prng` (src/base/prng.ts) instead.

import { randomFillSync } from "node:crypto";

/** Where random bytes come from; handed in, so that ids in a simulation follow its seed (`Prng` has the same `bytes`). */
export interface RandomSource {
  /** Fills `into` and returns it. */
  bytes(into: Uint8Array): Uint8Array;
}

/** The system's generator for secrets. */
export const systemRandom: RandomSource = {
  bytes: (into) => randomFillSync(into),
};

const digits = "0123456789abcdefghjkmnpqrstvwxyz";

/** A random identifier of `length` characters out of 32 (Crockford's base 32, lower case): 5 bits each, 26 characters = 130 bits. */
export function randomId(random: RandomSource, length = 26): string {
  let id = "";
  for (const byte of random.bytes(new Uint8Array(length))) id += digits[byte & 31];
  return id;
}
