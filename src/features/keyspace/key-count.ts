// How many keys there are, for INFO: counted in slices when somebody asks, so that no write pays for a counter that expiry and replay would have to keep right.
// What is answered is the last finished count. A keyspace that is counted within one slice (a millisecond, thousands of keys) is exact; a larger one is counted
// behind the answer, at most a tenth of the time.
// Concurrency: the serving loop, between commands.

import type { Hashes } from "./hashes.ts";
import type { Keyspace } from "./keyspace.ts";

/** The next count begins at the earliest after so many times the last one's duration. */
const pauseTimes = 10;
const nothing = new Uint8Array(0);

export interface KeyCounts {
  readonly keys: number;
  /** Keys with an expiry. */
  readonly expires: number;
}

export class KeyCount {
  readonly #keyspace: Keyspace;
  readonly #hashes: Hashes;
  #counts: KeyCounts = { keys: 0, expires: 0 };
  #counting = false;
  #notBeforeMs = 0;

  constructor(keyspace: Keyspace, hashes: Hashes) {
    this.#keyspace = keyspace;
    this.#hashes = hashes;
  }

  /** The last count; begins another when it is time. */
  read(): KeyCounts {
    const { clock, inTransaction } = this.#keyspace;
    const startMs = clock.monotonicMs();
    if (this.#counting || inTransaction || startMs < this.#notBeforeMs) return this.#counts;
    this.#counting = true;
    this.#keyspace.begin();
    let keys = 0;
    let expires = 0;
    const done = (): void => {
      this.#counting = false;
      this.#counts = { keys, expires };
    };
    const rest = this.#keyspace.walkKeys(nothing, undefined, (_key, entry) => {
      keys++;
      if (this.#hashes.keyExpiry(entry) !== 0) expires++;
      return true;
    });
    if (rest === undefined) done();
    else {
      rest
        .then(done, () => (this.#counting = false))
        .finally(() => {
          const endMs = clock.monotonicMs();
          this.#notBeforeMs = endMs + (endMs - startMs) * pauseTimes;
        });
    }
    return this.#counts;
  }
}
