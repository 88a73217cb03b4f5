// Bell: a counter in shared memory that wakes the one who waits for it to change.
// Two ways to wake: `atomics` (Atomics.notify and waitAsync) between threads, and `messages` through the worker's port, which simulated workers need: there
// all bodies share one thread, and a wake-up that the scheduler does not carry would come after its virtual deadline. Both count in shared memory, so a busy
// ranker sees that it was rung without waiting.
// Why waitAsync and not wait: the event loop goes on (signals, messages, timers). It does not keep a process alive: who has to stay alive has timers or servers.
// Measured, 3,000 round trips between two busy threads: 14 us at best and 26 us at the median, a bare MessagePort 13 and 20; what decides for `atomics` is that
// nothing is cloned, that one ring serves many requests, and that nothing piles up.
// Invariant: no ring is lost: `heard` resolves at once when the counter is no longer what it was when the caller last looked.

import type { RunningWorker, WorkerPort } from "#platform/workers";

export const bellKinds = ["atomics", "messages"] as const;
export type BellKind = (typeof bellKinds)[number];

export class Bell {
  readonly #words: Int32Array;
  readonly #word: number;

  /** Over word `word` of `words`; both sides make one over the same memory. */
  constructor(words: Int32Array, word: number) {
    this.#words = words;
    this.#word = word;
  }

  /** How often it was rung, modulo 2^32: look at it before looking for work. */
  get rung(): number {
    return Atomics.load(this.#words, this.#word);
  }

  /** Wakes the other side. `port`: for `messages`. */
  ring(port?: Pick<WorkerPort, "send">): void {
    Atomics.add(this.#words, this.#word, 1);
    if (port === undefined) Atomics.notify(this.#words, this.#word);
    else port.send("ring");
  }

  /** Resolves when it has been rung since `rung` was `seen`. With a `port`: by its next message, false when the other side has ended. */
  async heard(seen: number, port?: Pick<WorkerPort | RunningWorker, "receive">): Promise<boolean> {
    if (this.rung !== seen) return true;
    if (port !== undefined) return (await port.receive()) !== undefined;
    const wait = Atomics.waitAsync(this.#words, this.#word, seen);
    if (wait.async) await wait.value;
    return true;
  }
}
