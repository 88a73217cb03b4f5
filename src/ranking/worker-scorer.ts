// Scorer in a thread of its own: the serving loop copies a request into the mailbox, rings, and waits with a deadline. See scorer.ts for the contract.
//
// A ranker that dies takes nothing with it: what is under way is rejected with `unavailable`, and another one is started after a pause that doubles from
// `restartPauseFirstMs` to `restartPauseMsMax` and begins anew once a ranker has lived for `healthyMs`. One that hangs (it was rung and did not work for `hungMs`) is
// ended and counts as dead. Each life has a mailbox of its own.
// Invariants: 1. a call settles at its deadline at the latest, by a timer of its own  2. a life's answers end with it.
// Cost on the serving loop: copying (12 bytes a slot) and about 10 us a call. Memory: requestsMax x requestBytesMax of address space, used as far as requests reach.
// Concurrency: belongs to the serving loop. Limits: scorerLimits, and those of the options.

import { MillraceError } from "#base/errors";
import type { SlotRows } from "#extract/slot-rows";
import type { LiveModelTicket } from "#models/live-model";
import type { Clock, Timer } from "#platform/clock";
import { moduleBeside } from "#platform/module-beside";
import type { RunningWorker, Workers } from "#platform/workers";
import { Bell, type BellKind } from "./bell.ts";
import { createMailbox, mailboxBells, MailboxSender, type Posted, type RankingRequest } from "./mailbox.ts";
import { rankerReady, type RankerStart } from "./ranker-start.ts";
import { RankingMetrics } from "./ranking-metrics.ts";
import { checkAnswers, checkScore, deadlinePassed, rankerClosed, type Scorer, scorerLimits } from "./scorer.ts";

const module = moduleBeside("./ranker.worker", import.meta.url);

export interface WorkerScorerOptions {
  /** Lane of the model's memory for the ranker. Default 2. */
  readonly lane?: number;
  /** Requests under way. Default scorerLimits.requestsMaxDefault. */
  readonly requestsMax?: number;
  /** Bytes of one request. Default scorerLimits.requestBytesMaxDefault. */
  readonly requestBytesMax?: number;
  /** How threads wake each other. Default `atomics`; simulated workers need `messages`. */
  readonly bell?: BellKind;
  readonly restartPauseFirstMs?: number;
  readonly restartPauseMsMax?: number;
  readonly healthyMs?: number;
  readonly hungMs?: number;
  /** Milliseconds from a ranker's start until it answers. */
  readonly startMsMax?: number;
  /** Told when a ranker died, with the pause until the next. */
  readonly onLost?: (failure: MillraceError, pauseMs: number) => void;
}

export const workerScorerDefaults = {
  lane: 2,
  restartPauseFirstMs: 100,
  restartPauseMsMax: 10_000,
  healthyMs: 30_000,
  hungMs: 5_000,
  startMsMax: 60_000,
} as const;

export interface WorkerScorer extends Scorer {
  /** Resolves true once the ranker answers, false when it does not within `deadlineMs`. */
  whenReady(deadlineMs: number): Promise<boolean>;
}

/** A caller who waits. */
interface Call {
  readonly request: RankingRequest;
  readonly posted: Posted;
  readonly beganMs: number;
  readonly timer: Timer;
  readonly scores: Float32Array;
  readonly items: Uint32Array | undefined;
  readonly resolve: (count: number) => void;
  readonly reject: (error: MillraceError) => void;
}

/** One ranker from its start to its end. */
interface Life {
  readonly worker: RunningWorker;
  readonly sender: MailboxSender;
  readonly requests: Bell;
  readonly answers: Bell;
  readonly calls: Set<Call>;
  ready: boolean;
  /** When it became ready. */
  readyMs: number;
  ended: boolean;
  /** Since when its beats did not change although it was rung, and what they are. */
  silentSinceMs: number;
  beats: number;
  /** Ends it when it does not become ready. */
  starting: Timer | undefined;
}

/** Starts a ranker over the model's memory. It answers after some 200 ms; until then calls are rejected with `unavailable`. */
export function workerScorer(workers: Workers, clock: Clock, model: LiveModelTicket, options: WorkerScorerOptions = {}): WorkerScorer {
  return new RankerScorer(workers, clock, model, options);
}

class RankerScorer implements WorkerScorer {
  readonly metrics = new RankingMetrics();
  readonly #workers: Workers;
  readonly #clock: Clock;
  readonly #model: LiveModelTicket;
  readonly #options: WorkerScorerOptions & typeof workerScorerDefaults;
  readonly #waiting = new Set<() => void>();
  #life: Life | undefined;
  #pauseMs: number;
  #restart: Timer | undefined;
  #closed = false;

  constructor(workers: Workers, clock: Clock, model: LiveModelTicket, options: WorkerScorerOptions) {
    this.#workers = workers;
    this.#clock = clock;
    this.#model = model;
    this.#options = { ...workerScorerDefaults, ...options } as WorkerScorerOptions & typeof workerScorerDefaults;
    this.#pauseMs = this.#options.restartPauseFirstMs;
    this.#start();
  }

  async score(user: SlotRows, items: SlotRows, logits: Float32Array, deadlineMs: number): Promise<void> {
    checkScore(user, items, logits);
    this.metrics.rows.record(items.rows);
    await this.#call({ kind: "score", user, items }, logits, undefined, deadlineMs);
  }

  async search(user: SlotRows, k: number, items: Uint32Array, scores: Float32Array, deadlineMs: number): Promise<number> {
    checkAnswers(k, items, scores);
    return this.#call({ kind: "search", user, k }, scores, items, deadlineMs);
  }

  async similar(item: number, k: number, items: Uint32Array, scores: Float32Array, deadlineMs: number): Promise<number> {
    checkAnswers(k, items, scores);
    return this.#call({ kind: "similar", item, k }, scores, items, deadlineMs);
  }

  async whenReady(deadlineMs: number): Promise<boolean> {
    if (this.metrics.ready || this.#closed) return this.metrics.ready;
    return new Promise((resolve) => {
      const settle = (): void => {
        timer.cancel();
        this.#waiting.delete(settle);
        resolve(this.metrics.ready);
      };
      const timer = this.#clock.after(deadlineMs, settle);
      this.#waiting.add(settle);
    });
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#restart?.cancel();
    const life = this.#life;
    if (life !== undefined) {
      this.#end(life, rankerClosed());
      await life.worker.stop();
    }
    for (const settle of this.#waiting) settle();
  }

  /** Invariant 3 of scorer.ts: everything of the request is copied before this returns. */
  #call(request: RankingRequest, scores: Float32Array, items: Uint32Array | undefined, deadlineMs: number): Promise<number> {
    const { metrics } = this;
    metrics.requests[request.kind] += 1;
    const life = this.#life;
    if (life?.ready !== true) {
      metrics.unavailable += 1;
      throw this.#closed
        ? rankerClosed()
        : new MillraceError("unavailable", "the ranker is not ready", { todo: "go on without the model; it is being started" });
    }
    if (!(deadlineMs > 0)) {
      metrics.timeouts += 1;
      throw deadlinePassed(request.kind, deadlineMs);
    }
    const beganMs = this.#clock.monotonicMs();
    this.#hear(life, beganMs);
    const posted = life.sender.post(request);
    if (posted === undefined) {
      metrics.overloads += 1;
      this.#endIfHung(life);
      throw new MillraceError("overloaded", `${this.#options.requestsMax ?? scorerLimits.requestsMaxDefault} ranking requests are under way`, {
        todo: "go on without the model; if it lasts, rank fewer candidates or allow more requests",
      });
    }
    life.requests.ring(this.#through(life));
    return new Promise((resolve, reject) => {
      const timer = this.#clock.after(Math.min(deadlineMs, scorerLimits.deadlineMsMax), () => this.#giveUp(life, call, deadlineMs));
      const call: Call = { request, posted, beganMs, timer, scores, items, resolve, reject };
      life.calls.add(call);
      metrics.underWay = life.calls.size;
    });
  }

  #start(): void {
    const { lane, requestsMax = scorerLimits.requestsMaxDefault, requestBytesMax = scorerLimits.requestBytesMaxDefault, bell = "atomics" } = this.#options;
    const mailbox = createMailbox({ slots: requestsMax, slotBytes: requestBytesMax });
    const start: RankerStart = { mailbox, model: this.#model, lane, bell };
    const { words, requests, answers } = mailboxBells(mailbox);
    const life: Life = {
      worker: this.#workers.start(module, start, "ranker"),
      sender: new MailboxSender(mailbox),
      requests: new Bell(words, requests),
      answers: new Bell(words, answers),
      calls: new Set(),
      ready: false,
      readyMs: Infinity,
      ended: false,
      silentSinceMs: 0,
      beats: -1,
      starting: undefined,
    };
    this.#life = life;
    const { startMsMax } = this.#options;
    life.starting = this.#clock.after(startMsMax, () => this.#endLife(life, `the ranker was not ready within ${startMsMax} ms`), { background: true });
    void life.worker.failed.then((failure) => this.#lost(life, failure));
    void this.#listen(life);
  }

  async #listen(life: Life): Promise<void> {
    if ((await life.worker.receive()) !== rankerReady || life.ended) return;
    life.starting?.cancel();
    life.ready = true;
    life.readyMs = this.#clock.monotonicMs();
    this.metrics.ready = true;
    for (const settle of this.#waiting) settle();
    for (;;) {
      const seen = life.answers.rung;
      let collected = 0;
      for (const call of [...life.calls]) {
        if (!life.sender.answered(call.posted)) continue;
        // What a caller does with its answer may take a millisecond or two: one a turn of the loop.
        if (collected > 0) await this.#clock.yield();
        collected += 1;
        // Its deadline may have passed meanwhile.
        if (life.calls.has(call)) this.#collect(life, call);
      }
      if (life.ended || !(await life.answers.heard(seen, this.#through(life)))) return;
    }
  }

  #collect(life: Life, call: Call): void {
    const { metrics } = this;
    this.#settled(life, call);
    const nowMs = this.#clock.monotonicMs();
    try {
      const count = life.sender.collect(call.posted, call.scores, call.items, ({ computeUs, batch }) => {
        const roundTripUs = (nowMs - call.beganMs) * 1_000;
        metrics.roundTripUs.record(roundTripUs);
        metrics.computeUs.record(computeUs);
        metrics.waitUs.record(roundTripUs - computeUs);
        metrics.batch.record(batch);
      });
      call.resolve(count);
    } catch (thrown) {
      call.reject(thrown as MillraceError);
    }
  }

  /** At a call's deadline. */
  #giveUp(life: Life, call: Call, deadlineMs: number): void {
    if (!life.calls.has(call)) return;
    if (!life.sender.cancel(call.posted)) return this.#collect(life, call);
    this.#settled(life, call);
    this.metrics.timeouts += 1;
    call.reject(deadlinePassed(call.request.kind, deadlineMs));
    this.#endIfHung(life);
  }

  #settled(life: Life, call: Call): void {
    call.timer.cancel();
    life.calls.delete(call);
    this.metrics.underWay = life.calls.size;
  }

  /** True when the ranker worked since the last look; its silence counts from here. */
  #hear(life: Life, nowMs: number): boolean {
    const { beats } = life.sender;
    if (beats === life.beats) return false;
    life.beats = beats;
    life.silentSinceMs = nowMs;
    return true;
  }

  /** After a call that got no answer. */
  #endIfHung(life: Life): void {
    const nowMs = this.#clock.monotonicMs();
    const { hungMs } = this.#options;
    if (!this.#hear(life, nowMs) && nowMs - life.silentSinceMs >= hungMs) this.#endLife(life, `the ranker did nothing for ${hungMs} ms`);
  }

  #endLife(life: Life, what: string): void {
    if (life.ended) return;
    this.#end(life, new MillraceError("unavailable", what, { todo: "go on without the model; the ranker is started again" }));
    void life.worker.stop(0);
  }

  /** The thread has ended. */
  #lost(life: Life, failure: MillraceError | undefined): void {
    const cause = failure ?? new MillraceError("internal", "the ranker returned without being asked to");
    this.#end(life, new MillraceError("unavailable", "the ranker died", { cause, todo: "go on without the model; it is started again" }));
    if (this.#closed || this.#life !== life) return;
    this.#life = undefined;
    this.metrics.restarts += 1;
    const { restartPauseFirstMs, restartPauseMsMax, healthyMs } = this.#options;
    if (this.#clock.monotonicMs() - life.readyMs >= healthyMs) this.#pauseMs = restartPauseFirstMs;
    const pauseMs = this.#pauseMs;
    this.#pauseMs = Math.min(restartPauseMsMax, pauseMs * 2);
    this.#options.onLost?.(cause, pauseMs);
    this.#restart = this.#clock.after(pauseMs, () => this.#start(), { background: true });
  }

  /** No more answers of this life. */
  #end(life: Life, error: MillraceError): void {
    if (life.ended) return;
    life.ended = true;
    life.starting?.cancel();
    if (this.#life === life) this.metrics.ready = false;
    for (const call of life.calls) {
      this.#settled(life, call);
      this.metrics.unavailable += 1;
      call.reject(error);
    }
    life.ready = false;
    // Lets the listening end, which waits for its bell.
    life.answers.ring();
  }

  #through(life: Life): RunningWorker | undefined {
    return this.#options.bell === "messages" ? life.worker : undefined;
  }
}
