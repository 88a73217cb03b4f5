// Words shared between the serving loop and the trainer: how far the log is applied, how far the parameters and the vectors have learned.
// One SharedArrayBuffer of i64 words, each written by one thread:
//   0 head     offset after the last record that the serving loop has applied        (serving loop)
//   1 trained  offset after the last record whose samples the parameters have learned (trainer)
//   2 vectors  offset up to which the item vectors follow                             (trainer)
// Why shared words and not messages: a waiter wakes in some 15 us against 40 of a message, nobody allocates, and a reader sees the newest state, not a queue.
// Invariants: 1. words never fall while a trainer lives  2. every wait has a deadline: a lost wake-up costs `withinMs`, not for ever.
// Concurrency: as above; `wait...` may be called by any thread that has a loop to return to.

import { MillraceError } from "#base/errors";

const words = { head: 0, trained: 1, vectors: 2 } as const;

export type TrainingWord = keyof typeof words;

export class TrainingSignals {
  /** To hand to another thread. */
  readonly memory: SharedArrayBuffer;
  readonly #words: BigInt64Array<SharedArrayBuffer>;

  /** Over the memory of another thread's signals, or new ones. Throws `invalid` for a memory of another size. */
  constructor(memory: SharedArrayBuffer = new SharedArrayBuffer(64)) {
    if (memory.byteLength !== 64)
      throw new MillraceError("invalid", `training signals in ${memory.byteLength} bytes`, { todo: "pass the memory of the other side" });
    this.memory = memory;
    this.#words = new BigInt64Array(memory);
  }

  get(word: TrainingWord): number {
    return Number(Atomics.load(this.#words, words[word]));
  }

  /** Sets a word and wakes all who wait for it. */
  publish(word: TrainingWord, offset: number): void {
    Atomics.store(this.#words, words[word], BigInt(offset));
    Atomics.notify(this.#words, words[word]);
  }

  /** Wakes all who wait for a word, without a change: they look again, also at their stop signal. */
  wake(word: TrainingWord): void {
    Atomics.notify(this.#words, words[word]);
  }

  /** Resolves when the word has passed `offset`, was woken, or after `withinMs`; look at the word again. At once when it has passed already. */
  async changed(word: TrainingWord, offset: number, withinMs: number): Promise<void> {
    const seen = Atomics.load(this.#words, words[word]);
    if (seen > BigInt(offset)) return;
    const waiting = Atomics.waitAsync(this.#words, words[word], seen, withinMs);
    if (waiting.async) await waiting.value;
  }
}
