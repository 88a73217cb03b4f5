// Collects events and sends them in batches: a server takes in an event of a batch of 100 for a tenth of the cost of a single one.
// Invariants: 1. events leave in the order in which they were added, one batch at a time  2. at most `bufferedMax` events are held; who adds more waits for
// room, and at most `waitingMax` wait: beyond that `add` fails with `overloaded`, so that no queue is without a bound  3. every event ends in exactly one of:
// acknowledged, `onRejected`, `onFailure` (or the error that `flush` throws).
// Concurrency: one event loop.

import { type MillraceError, toMillraceError } from "#base/errors";
import type { Clock, Timer } from "#platform/clock";
import { systemClock } from "#platform/system-clock";
import { apiLimits, type EventBody, type EventsAnswer, type Rejection } from "#wire/api";
import { RequestError } from "./request-error.ts";

export interface EventBufferOptions {
  /** Events in a batch at most. Default 100; 1 to 1,000. A full batch leaves at once. */
  readonly batchMax?: number;
  /** The longest an event waits for others to join it, in milliseconds. Default 20; what it costs in freshness. */
  readonly waitMs?: number;
  /** Events held at most, those under way included. Default 10,000. */
  readonly bufferedMax?: number;
  /** Calls of `add` that may wait for room at a time. Default 1,000. */
  readonly waitingMax?: number;
  /** An event that the server refused: a mistake of the sender. */
  readonly onRejected?: (rejection: Rejection, event: EventBody) => void;
  /** A batch that could not be sent, after the client's retries; its events are given up. Without it the next `flush` throws. */
  readonly onFailure?: (error: MillraceError, events: readonly EventBody[]) => void;
  readonly clock?: Clock;
}

/** What a buffer sends through: `client.events`. */
export interface EventSender {
  send(events: readonly EventBody[]): Promise<EventsAnswer>;
}

export interface EventBufferCounts {
  readonly acknowledged: number;
  readonly rejected: number;
  readonly failed: number;
  /** Held now. */
  readonly buffered: number;
}

/**
 *     const buffer = new EventBuffer(client.events);
 *     await buffer.add({ type: "click", user: "ann", item: "m-1" });
 *     await buffer.close();
 */
export class EventBuffer {
  readonly #sender: EventSender;
  readonly #options: Required<Pick<EventBufferOptions, "batchMax" | "waitMs" | "bufferedMax" | "waitingMax">> & EventBufferOptions;
  readonly #clock: Clock;
  #events: EventBody[] = [];
  #underWay = 0;
  #sending: Promise<void> | undefined;
  #timer: Timer | undefined;
  #waiting: (() => void)[] = [];
  #acknowledged = 0;
  #rejected = 0;
  #failed = 0;
  #failure: MillraceError | undefined;
  #closed = false;

  /** Throws `invalid` for a `batchMax` that no request may hold. */
  constructor(sender: EventSender, options: EventBufferOptions = {}) {
    this.#sender = sender;
    this.#options = { batchMax: 100, waitMs: 20, bufferedMax: 10_000, waitingMax: 1_000, ...options };
    this.#clock = options.clock ?? systemClock;
    const { batchMax } = this.#options;
    if (!Number.isInteger(batchMax) || batchMax < 1 || batchMax > apiLimits.eventsPerRequestMax) {
      throw new RequestError("invalid", `batchMax must be an integer from 1 to ${apiLimits.eventsPerRequestMax}`, { todo: "correct it, or leave it out" });
    }
  }

  get counts(): EventBufferCounts {
    return { acknowledged: this.#acknowledged, rejected: this.#rejected, failed: this.#failed, buffered: this.#events.length + this.#underWay };
  }

  /** Resolves when the event is in the buffer (not yet at the server): at once, or when there is room again. Throws `overloaded`, and `conflict` after `close`. */
  async add(event: EventBody): Promise<void> {
    while (this.counts.buffered >= this.#options.bufferedMax) {
      this.#refuseClosed();
      if (this.#waiting.length >= this.#options.waitingMax) {
        throw new RequestError("overloaded", `the event buffer is full and ${this.#options.waitingMax} calls wait for room`, {
          todo: "await each add, or send less",
        });
      }
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
    this.#refuseClosed();
    this.#events.push(event);
    if (this.#events.length >= this.#options.batchMax) this.#send();
    else this.#timer ??= this.#clock.after(this.#options.waitMs, () => this.#send());
  }

  /** Sends what is held and resolves when all of it is answered. Throws the first failure since the last flush, unless `onFailure` took it. */
  async flush(): Promise<void> {
    while (this.#events.length > 0 || this.#sending !== undefined) {
      this.#send();
      await this.#sending;
    }
    const failure = this.#failure;
    this.#failure = undefined;
    if (failure !== undefined) throw failure;
  }

  /** Takes no more events, and flushes. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.flush();
  }

  #refuseClosed(): void {
    if (this.#closed) throw new RequestError("conflict", "the event buffer is closed", { todo: "add events before close()" });
  }

  /** Begins to send, unless a batch is under way: its end sends the next. */
  #send(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    if (this.#sending !== undefined || this.#events.length === 0) return;
    const batch = this.#events.splice(0, this.#options.batchMax);
    this.#underWay = batch.length;
    this.#sending = this.#sendBatch(batch).then(() => {
      this.#sending = undefined;
      this.#underWay = 0;
      const waiting = this.#waiting;
      this.#waiting = [];
      for (const resume of waiting) resume();
      if (this.#events.length >= this.#options.batchMax || this.#closed) this.#send();
      else if (this.#events.length > 0) this.#timer ??= this.#clock.after(this.#options.waitMs, () => this.#send());
    });
  }

  /** Never rejects: what a callback throws is kept for the next flush. */
  async #sendBatch(batch: readonly EventBody[]): Promise<void> {
    try {
      await this.#answer(batch);
    } catch (thrown) {
      this.#failure ??= toMillraceError(thrown, "a callback of the event buffer threw");
    }
  }

  async #answer(batch: readonly EventBody[]): Promise<void> {
    let rejected: readonly Rejection[];
    try {
      const answer = await this.#sender.send(batch);
      this.#acknowledged += answer.accepted + answer.duplicates;
      rejected = answer.rejected;
    } catch (thrown) {
      // All rejected: the batch arrived, its rows are wrong.
      if (thrown instanceof RequestError && thrown.rejected.length === batch.length) rejected = thrown.rejected;
      else {
        const error = toMillraceError(thrown);
        this.#failed += batch.length;
        if (this.#options.onFailure === undefined) this.#failure ??= error;
        else this.#options.onFailure(error, batch);
        return;
      }
    }
    this.#rejected += rejected.length;
    for (const rejection of rejected) this.#options.onRejected?.(rejection, batch[rejection.index]!);
  }
}
