// The audience: makes the world, furnishes the server, then plays viewers against the public API at a steady rate, as any application would.
// One page view: POST /v1/recommend -> the viewer looks at the positions and clicks by the true probabilities -> click, like and watch events are sent when
// their moment comes (seconds watched are known only at the end). What was served is exposed by the server itself, so no impression is sent. Beside it
// rooms open, close and change: once a second the changed ones are put.
// Some lists are looked at minutes after they were served and some events are sent late (delays.ts). News that break are told, and can be triggered by a message.
// Invariants: 1. open loop: a page view is due at the moment of the world's visits however slow answers are; what cannot be sent is skipped and counted  2. at most
// `requestsMax` requests under way, `eventsWaitingMax` events and `lateLooksMax` lists waiting  3. a passing failure pauses all requests, twice as long each time up to
// `pauseMaxMs`; events of a failed batch are sent again with the same ids, `sendsMax` times  4. after the signal no new request is begun and those
// under way are cut off.
// Cost: about 1 ms of CPU a page view, two thirds of it for the yardstick, which judges at most `judgedPerSecond` views.

import { toMillraceError } from "#base/errors";
import type { Clock } from "#platform/clock";
import type { WorkerBody } from "#platform/workers";
import { Client } from "#sdk/index";
import type { EventBody } from "#wire/api";
import { Arrivals } from "./arrivals.ts";
import type { AudienceReport } from "./audience-report.ts";
import type { AudienceOptions } from "./audience.ts";
import type { BreakingNews } from "./breaking.ts";
import { ClickMeter, type JudgedView } from "./click-meter.ts";
import { lookDelayMs, sendDelayMs } from "./delays.ts";
import { furnish } from "./furnish.ts";
import { liveThrough } from "./history.ts";
import { categoryWords } from "./names.ts";
import { createWorld, type ShownItem, type World } from "./world.ts";
import { Yardstick } from "./yardstick.ts";

export const audienceLimits = {
  requestsMax: 64,
  eventsWaitingMax: 50_000,
  lateLooksMax: 1_000,
  eventsPerBatchMax: 500,
  roomsPerBatchMax: 500,
  sendsMax: 5,
  pauseFirstMs: 200,
  pauseMaxMs: 5_000,
  judgedPerSecond: 20,
  /** Different reasons of errors that are told apart; further ones are summed as `other`. */
  reasonsMax: 20,
} as const;

/** Events become due in steps of this length. */
const eventStepMs = 100;
/** How long the server may rebuild before the audience gives up. */
const readyMsMax = 600_000;
/** A page view that is late by more is left out; a plan that is behind by more is not caught up with one by one. */
const lateMsMax = 1_000;
const behindMsMax = 60_000;

/** What the parent may ask for. */
export interface AudienceCommand {
  readonly kind: "news";
  /** Number of the topic; left out: one of the world's choice. */
  readonly topic?: number;
}

interface LateLook {
  readonly viewer: number;
  readonly shown: readonly ShownItem[];
  readonly recommendationId: string;
}

class Audience {
  readonly #options: AudienceOptions;
  readonly #world: World;
  readonly #client: Client;
  readonly #clock: Clock;
  readonly #signal: AbortSignal;
  readonly #tell: (report: AudienceReport) => void;
  readonly #arrivals: Arrivals;
  readonly #yardstick: Yardstick;
  readonly #meter = new ClickMeter();
  readonly #underWay = new Set<Promise<void>>();
  /** Step number -> events due in it. */
  readonly #waiting = new Map<number, { event: EventBody; sends: number }[]>();
  #waitingCount = 0;
  /** Step number -> lists that are looked at in it. */
  readonly #lateLooks = new Map<number, LateLook[]>();
  #lateLooksCount = 0;
  #toldToMs: number;
  #nextStep: number;
  readonly #changed = new Set<number>();
  readonly #retired = new Set<string>();
  readonly #errors: Record<string, number> = {};
  #putting = false;
  #answers = 0;
  #acknowledged = 0;
  #skipped = 0;
  #judged = 0;
  #pauseMs = 0;
  #pauseUntilMs = -Infinity;

  constructor(options: AudienceOptions, world: World, client: Client, clock: Clock, signal: AbortSignal, tell: (report: AudienceReport) => void) {
    this.#options = options;
    this.#world = world;
    this.#client = client;
    this.#clock = clock;
    this.#signal = signal;
    this.#tell = tell;
    this.#arrivals = new Arrivals(world, options.requestsPerS);
    this.#yardstick = new Yardstick(world);
    this.#toldToMs = world.nowMs;
    this.#nextStep = Math.ceil(clock.nowMs() / eventStepMs);
  }

  async play(): Promise<void> {
    const { requestsPerS } = this.#options;
    const startMs = this.#clock.monotonicMs();
    const wallMs = this.#clock.nowMs();
    this.#arrivals.jumpTo(wallMs);
    let secondMs = startMs + 1_000;
    while (!this.#signal.aborted) {
      const nowMs = this.#clock.monotonicMs();
      if (nowMs >= secondMs) {
        this.#second();
        // After a long stop of the machine the missed seconds are not made up for.
        secondMs = Math.max(secondMs + 1_000, nowMs);
      }
      // The plan goes by the monotonic clock: a corrected wall clock neither stops the viewers nor doubles them.
      const planMs = wallMs + (nowMs - startMs);
      const behindMs = planMs - this.#arrivals.peek().atMs;
      if (behindMs > behindMsMax) {
        this.#skipped += Math.floor((behindMs * requestsPerS) / 1_000);
        this.#arrivals.jumpTo(planMs);
      }
      for (const { viewer, atMs } of this.#arrivals.until(planMs)) {
        if (planMs - atMs > lateMsMax) this.#skipped += 1;
        else this.#begin(viewer);
      }
      this.#sendDue();
      const waitMs = Math.min(nowMs + this.#arrivals.peek().atMs - planMs, secondMs, nowMs + eventStepMs) - this.#clock.monotonicMs();
      await this.#clock.sleep(Math.max(1, waitMs), this.#signal).catch(() => undefined);
    }
    await Promise.all(this.#underWay);
  }

  get #pausing(): boolean {
    return this.#clock.monotonicMs() < this.#pauseUntilMs;
  }

  #track(work: Promise<void>): void {
    const tracked = work.finally(() => this.#underWay.delete(tracked));
    this.#underWay.add(tracked);
  }

  /** Counts a failure by its reason; a passing one makes everything pause. */
  #failed(thrown: unknown, what: string): boolean {
    if (this.#signal.aborted) return false;
    const error = toMillraceError(thrown, "the audience failed");
    const reason = `${what}: ${error.code}`;
    const known = reason in this.#errors || Object.keys(this.#errors).length < audienceLimits.reasonsMax ? reason : "other";
    this.#errors[known] = (this.#errors[known] ?? 0) + 1;
    if (!error.retryable) return false;
    if (!this.#pausing) {
      this.#pauseMs = Math.min(audienceLimits.pauseMaxMs, Math.max(audienceLimits.pauseFirstMs, 2 * this.#pauseMs));
      this.#pauseUntilMs = this.#clock.monotonicMs() + this.#pauseMs;
    }
    return true;
  }

  /** Does what the parent asks for. */
  obey({ topic }: AudienceCommand): void {
    try {
      const piece = this.#world.trigger(topic);
      this.#tellNews(piece, true);
    } catch (thrown) {
      this.#failed(thrown, "news");
    }
  }

  #tellNews(piece: BreakingNews, triggered: boolean): void {
    const { topics, news } = this.#world;
    const category = categoryWords[topics.categoryOf(piece.topic)]!.name;
    this.#tell({ kind: "news", atMs: piece.atMs, topic: piece.topic, name: topics.nameOf(piece.topic), category, reach: news.reachOf(piece), triggered });
  }

  #begin(viewer: number): void {
    if (this.#pausing || this.#underWay.size >= audienceLimits.requestsMax) this.#skipped += 1;
    else this.#track(this.#view(viewer));
  }

  async #view(viewer: number): Promise<void> {
    const sentMs = this.#clock.monotonicMs();
    try {
      const answer = await this.#client.recommend(
        { pipeline: this.#options.pipeline, user: this.#world.tastes.idOf(viewer), n: this.#options.items },
        { signal: this.#signal },
      );
      this.#meter.latency(this.#clock.monotonicMs() - sentMs);
      this.#answers += 1;
      this.#pauseMs = 0;
      const atMs = this.#clock.nowMs();
      const shown = answer.items.map(({ id }, position) => ({ id, position }));
      const { recommendationId } = answer;
      const seen = this.#world.act(viewer, shown, atMs, recommendationId);
      const judged = this.#judge(viewer, shown.length, seen.expectedClicks, atMs);
      const delayMs = this.#lateLooksCount < audienceLimits.lateLooksMax ? lookDelayMs(this.#world.draws, viewer, atMs) : 0;
      if (delayMs === 0) {
        this.#meter.view(shown.length, seen.clicked.length, judged);
        this.#keepAll(seen.events, viewer, atMs);
        return;
      }
      this.#meter.view(shown.length, 0, judged);
      const step = Math.ceil((atMs + delayMs) / eventStepMs);
      const there = this.#lateLooks.get(step);
      if (there === undefined) this.#lateLooks.set(step, [{ viewer, shown, recommendationId }]);
      else there.push({ viewer, shown, recommendationId });
      this.#lateLooksCount += 1;
    } catch (thrown) {
      this.#failed(thrown, "recommend");
    }
  }

  #judge(viewer: number, n: number, expected: number, atMs: number): JudgedView | undefined {
    if (n === 0 || this.#judged >= audienceLimits.judgedPerSecond) return undefined;
    this.#judged += 1;
    const yardstick = this.#yardstick;
    return {
      expected,
      random: yardstick.randomClicks(viewer, n, atMs),
      popular: yardstick.expectedClicks(viewer, yardstick.popular(n, atMs), atMs),
      oracle: yardstick.expectedClicks(viewer, yardstick.oracle(viewer, n, atMs), atMs),
    };
  }

  /** The lists of this step are looked at now. */
  #lookLate(step: number, atMs: number): void {
    const looks = this.#lateLooks.get(step);
    if (looks === undefined) return;
    this.#lateLooks.delete(step);
    this.#lateLooksCount -= looks.length;
    for (const { viewer, shown, recommendationId } of looks) {
      const seen = this.#world.act(viewer, shown, atMs, recommendationId);
      this.#meter.lateClicks(seen.clicked.length);
      this.#keepAll(seen.events, viewer, atMs);
    }
  }

  #keepAll(events: readonly EventBody[], viewer: number, atMs: number): void {
    events.forEach((event, index) => this.#keep(event, 0, event.ts! + sendDelayMs(this.#world.draws, viewer, atMs, index)));
  }

  #keep(event: EventBody, sends: number, atMs: number): void {
    if (this.#waitingCount >= audienceLimits.eventsWaitingMax) {
      this.#errors["events: dropped, too many wait"] = (this.#errors["events: dropped, too many wait"] ?? 0) + 1;
      return;
    }
    const step = Math.max(this.#nextStep, Math.ceil(atMs / eventStepMs));
    const due = this.#waiting.get(step);
    if (due === undefined) this.#waiting.set(step, [{ event, sends }]);
    else due.push({ event, sends });
    this.#waitingCount += 1;
  }

  #sendDue(): void {
    if (this.#pausing) return;
    const nowMs = this.#clock.nowMs();
    const last = Math.floor(nowMs / eventStepMs);
    let batch: { event: EventBody; sends: number }[] = [];
    for (; this.#nextStep <= last; this.#nextStep += 1) {
      this.#lookLate(this.#nextStep, nowMs);
      const due = this.#waiting.get(this.#nextStep);
      if (due === undefined) continue;
      this.#waiting.delete(this.#nextStep);
      for (const one of due) {
        batch.push(one);
        if (batch.length < audienceLimits.eventsPerBatchMax) continue;
        this.#track(this.#send(batch));
        batch = [];
      }
    }
    if (batch.length > 0) this.#track(this.#send(batch));
  }

  async #send(batch: readonly { event: EventBody; sends: number }[]): Promise<void> {
    this.#waitingCount -= batch.length;
    try {
      const { accepted, duplicates, rejected } = await this.#client.events.send(
        batch.map(({ event }) => event),
        { signal: this.#signal },
      );
      this.#acknowledged += accepted + duplicates;
      if (rejected.length > 0) this.#errors["events: refused"] = (this.#errors["events: refused"] ?? 0) + rejected.length;
    } catch (thrown) {
      if (!this.#failed(thrown, "events")) return;
      for (const { event, sends } of batch) {
        if (sends + 1 < audienceLimits.sendsMax) this.#keep(event, sends + 1, event.ts!);
        else this.#errors["events: given up"] = (this.#errors["events: given up"] ?? 0) + 1;
      }
    }
  }

  /** Once a second: the world moves on, changed rooms are put, numbers are told. */
  #second(): void {
    for (const { kind, slot, id } of this.#world.advance(this.#clock.nowMs())) {
      if (kind === "retire") this.#retired.add(id);
      else this.#changed.add(slot);
    }
    for (const piece of this.#world.news.between(this.#toldToMs, this.#world.nowMs)) {
      if (!this.#world.news.triggered.includes(piece)) this.#tellNews(piece, false);
    }
    this.#toldToMs = this.#world.nowMs;
    if (!this.#putting && !this.#pausing) this.#track(this.#putRooms());
    this.#tell({
      kind: "second",
      atMs: this.#clock.nowMs(),
      requestsPerS: this.#answers,
      eventsPerS: this.#acknowledged,
      p50Ms: this.#meter.quantileMs(0.5),
      p99Ms: this.#meter.quantileMs(0.99),
      rates: this.#meter.rates(),
      errors: { ...this.#errors },
      skipped: this.#skipped,
      eventsWaiting: this.#waitingCount,
      pausing: this.#pausing,
    });
    this.#meter.turn();
    this.#answers = 0;
    this.#acknowledged = 0;
    this.#judged = 0;
  }

  async #putRooms(): Promise<void> {
    this.#putting = true;
    const slots = [...this.#changed].slice(0, audienceLimits.roomsPerBatchMax);
    try {
      for (const id of this.#retired) {
        await this.#client.items.delete(id, { signal: this.#signal });
        this.#retired.delete(id);
      }
      if (slots.length === 0) return;
      for (const slot of slots) this.#changed.delete(slot);
      const { rejected } = await this.#client.items.put(
        slots.map((slot) => this.#world.rooms.row(slot)),
        { signal: this.#signal },
      );
      if (rejected.length > 0) this.#errors["rooms: refused"] = (this.#errors["rooms: refused"] ?? 0) + rejected.length;
    } catch (thrown) {
      for (const slot of slots) this.#changed.add(slot);
      this.#failed(thrown, "rooms");
    } finally {
      this.#putting = false;
    }
  }
}

const body: WorkerBody = async ({ port, clock, data, signal }) => {
  const options = data as AudienceOptions;
  const tell = (report: AudienceReport): void => port.send(report);
  const madeMs = clock.monotonicMs();
  const world = createWorld(options.world);
  const nowMs = clock.nowMs();
  const past = liveThrough(world, nowMs, options.viewsBefore);
  let lived = past.next();
  for (; lived.done !== true; lived = past.next()) {
    await clock.yield();
    if (signal.aborted) return;
  }
  const history = lived.value;
  tell({
    kind: "made",
    seed: options.world.seed,
    rooms: world.rooms.slots,
    open: world.rooms.live.reduce((sum, live) => sum + live, 0),
    viewers: world.tastes.viewers,
    topics: world.topics.count,
    tookMs: clock.monotonicMs() - madeMs,
  });
  // Furnishing is patient; a viewer is not: what the page view met is what is counted.
  const patient = new Client(options.baseUrl, { clock, retries: 8, timeoutMs: 60_000 });
  const client = new Client(options.baseUrl, { clock, retries: 0, timeoutMs: 10_000, inFlightMax: 4 * audienceLimits.requestsMax });
  try {
    await patient.ready({ signal, timeoutMs: readyMsMax });
    const furnishMs = clock.monotonicMs();
    const furnished = await furnish({ client: patient, world, history, signal, onProgress: (progress) => tell({ kind: "furnishing", ...progress }) });
    tell({ kind: "furnished", tookMs: clock.monotonicMs() - furnishMs, ...furnished });
  } catch (thrown) {
    if (signal.aborted) return;
    throw thrown;
  }
  const audience = new Audience(options, world, client, clock, signal, tell);
  void (async () => {
    for (let command = await port.receive(); command !== undefined; command = await port.receive()) audience.obey(command as AudienceCommand);
  })();
  await audience.play();
};

export default body;
