// The receiving side of a worker's port: messages in order, then an end. The same for threads and for simulated workers.
// Invariants: 1. each message is received once, in order  2. after the end, and after every message before it, `receive` gives undefined for ever.
// Limits: `messagesWaitingMax` messages; `push` returns false for one more, and the owner fails the worker.

import { messagesWaitingMax } from "./workers.ts";

export class MessageQueue {
  #waiting: unknown[] = [];
  /** Index of the oldest message in #waiting: shifting a long array for every message would cost its length. */
  #from = 0;
  #receivers: ((message: unknown) => void)[] = [];
  #ended = false;

  push(message: unknown): boolean {
    if (this.#ended) return true;
    const receiver = this.#receivers.shift();
    if (receiver !== undefined) {
      receiver(message);
      return true;
    }
    if (this.#waiting.length - this.#from >= messagesWaitingMax) return false;
    this.#waiting.push(message);
    return true;
  }

  end(): void {
    this.#ended = true;
    for (const receiver of this.#receivers) receiver(undefined);
    this.#receivers = [];
  }

  receive(): Promise<unknown> {
    if (this.#from < this.#waiting.length) {
      const message = this.#waiting[this.#from];
      this.#waiting[this.#from] = undefined;
      this.#from += 1;
      if (this.#from === this.#waiting.length) {
        this.#waiting = [];
        this.#from = 0;
      } else if (this.#from >= 1024 && this.#from * 2 > this.#waiting.length) {
        this.#waiting = this.#waiting.slice(this.#from);
        this.#from = 0;
      }
      return Promise.resolve(message);
    }
    if (this.#ended) return Promise.resolve(undefined);
    return new Promise((resolve) => this.#receivers.push(resolve));
  }
}
