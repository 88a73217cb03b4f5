// Plays the demo world's viewers against a gateway in this process, on the world's own clock: half an hour of page views in a minute of CPU.
// Why not the server: quality does not depend on HTTP, and a clock that need not wait makes a figure of a long run cheap and, given the seed, repeatable
// up to the order of log writes.
// Invariants: 1. the viewers act by the world's true probabilities; the answers are judged by those, not by the luck of clicks  2. events reach the
// gateway when their moment comes, rooms once a second, as the audience of `npm start` does it (src/demo/audience.worker.ts).

import { performance } from "node:perf_hooks";
import { Arrivals } from "#demo/arrivals";
import { createWorld, liveThrough, type World, Yardstick } from "#demo/index";
import type { GatewayConfig } from "#gateway/index";
import { openReplayGateway } from "#roles/replay-gateway";
import type { EventBody } from "#wire/api";

export interface FeedPlay {
  readonly config: GatewayConfig;
  readonly seed: number;
  readonly minutes: number;
  /** Page views a second of the world's clock. */
  readonly viewsPerS: number;
  /** Of each request. */
  readonly pipeline: string;
  /** Every so many page views one is judged. */
  readonly judgeEvery: number;
  /** At its begin every viewer takes a whole new taste. */
  readonly shiftMinute?: number;
  /** At its begin a topic becomes hot. Left out: no news at all, so that seeds and hours compare. */
  readonly newsMinute?: number;
}

/** Expected clicks by true probabilities, a share of what was shown, in one minute of the world's time. */
export interface FeedMinute {
  ours: number;
  random: number;
  popular: number;
  oracle: number;
  shown: number;
}

export interface FeedResult {
  readonly minutes: readonly FeedMinute[];
  /** Wall time of each request after the first minute, ms. Nothing is waited for in it. */
  readonly requestMs: Float64Array;
  readonly views: number;
  readonly events: number;
  readonly memoryBytes: Readonly<Record<string, number>>;
}

const itemsPerView = 10;
const historyMs = 2 * 3_600_000;
const historyViews = 10;
/** Any would do. */
const newsTopic = 7;
/** The day means nothing; the hour is part of the world. */
const startMs = Date.UTC(2026, 0, 15, 12);

async function furnish(world: World, put: (rows: readonly unknown[], what: "items" | "users" | "events") => Promise<unknown>, history: readonly EventBody[]) {
  const items = Array.from({ length: world.rooms.slots }, (_, slot) => world.rooms.row(slot));
  const users = Array.from({ length: world.tastes.viewers }, (_, viewer) => world.tastes.row(viewer));
  const stages = [
    { rows: items, what: "items" },
    { rows: users, what: "users" },
    { rows: history, what: "events" },
  ] as const;
  for (const { rows, what } of stages) for (let from = 0; from < rows.length; from += 500) await put(rows.slice(from, from + 500), what);
}

/** Plays `minutes` of the world's time. */
export async function playFeed(play: FeedPlay): Promise<FeedResult> {
  const beginMs = startMs + historyMs;
  const shifts = play.shiftMinute === undefined ? [] : [{ atMs: beginMs + play.shiftMinute * 60_000, share: 1 }];
  const triggered = play.newsMinute === undefined ? [] : [{ atMs: beginMs + play.newsMinute * 60_000, topic: newsTopic }];
  const world = createWorld({ seed: play.seed, startMs, shifts, news: { scheduled: false, triggered } });
  const past = liveThrough(world, beginMs, historyViews);
  let lived = past.next();
  while (lived.done !== true) lived = past.next();
  const { gateway, learning, setTime, close } = await openReplayGateway(play.config, "bench");
  const minutes: FeedMinute[] = Array.from({ length: play.minutes }, () => ({ ours: 0, random: 0, popular: 0, oracle: 0, shown: 0 }));
  const requestMs: number[] = [];
  let views = 0;
  let events = 0;
  try {
    setTime(beginMs);
    await furnish(
      world,
      (rows, what) => (what === "items" ? gateway.putItems(rows) : what === "users" ? gateway.putUsers(rows) : gateway.putEvents(rows)),
      lived.value,
    );
    const arrivals = new Arrivals(world, play.viewsPerS);
    const yardstick = new Yardstick(world);
    const stepMs = 100;
    const steps = (play.minutes * 60_000) / stepMs;
    const waiting = new Map<number, EventBody[]>();
    for (let step = 0; step < steps; step += 1) {
      const atMs = beginMs + step * stepMs;
      setTime(atMs);
      if (step % 10 === 0) {
        const changed = new Set<number>();
        for (const { kind, slot, id } of world.advance(atMs)) {
          if (kind === "retire") await gateway.deleteItem(id);
          else changed.add(slot);
        }
        if (changed.size > 0) await gateway.putItems([...changed].map((slot) => world.rooms.row(slot)));
      }
      const arrived = waiting.get(step);
      if (arrived !== undefined) {
        waiting.delete(step);
        for (let from = 0; from < arrived.length; from += 500) {
          const { rejected } = await gateway.putEvents(arrived.slice(from, from + 500));
          if (rejected.length > 0) throw new Error(rejected[0]!.message);
        }
        events += arrived.length;
      }
      // The trainer's thread learns within milliseconds; here a step late.
      await learning?.catchUp();
      const minute = minutes[Math.floor((step * stepMs) / 60_000)]!;
      for (const { viewer } of arrivals.until(atMs + stepMs)) {
        const began = performance.now();
        const answer = await gateway.recommend(play.pipeline, { user: world.tastes.idOf(viewer), n: itemsPerView });
        if (step * stepMs >= 60_000) requestMs.push(performance.now() - began);
        views += 1;
        const shown = answer.items.map(({ id }, position) => ({ id, position }));
        const seen = world.act(viewer, shown, atMs, answer.recommendationId);
        for (const event of seen.events) {
          const place = Math.max(step + 1, Math.ceil((event.ts! - beginMs) / stepMs));
          const there = waiting.get(place);
          if (there === undefined) waiting.set(place, [event]);
          else there.push(event);
        }
        if (views % play.judgeEvery !== 0) continue;
        const n = shown.length;
        minute.shown += n;
        minute.ours += seen.expectedClicks;
        minute.random += yardstick.randomClicks(viewer, n, atMs);
        minute.popular += yardstick.expectedClicks(viewer, yardstick.popular(n, atMs), atMs);
        minute.oracle += yardstick.expectedClicks(viewer, yardstick.oracle(viewer, n, atMs), atMs);
      }
    }
    const { memoryBytes } = gateway.status();
    return { minutes, requestMs: Float64Array.from(requestMs), views, events, memoryBytes };
  } finally {
    await close();
  }
}

/** Click rates over a range of minutes. */
export function ratesOf(minutes: readonly FeedMinute[]): { ours: number; random: number; popular: number; oracle: number } {
  const sum = { ours: 0, random: 0, popular: 0, oracle: 0, shown: 0 };
  for (const minute of minutes) for (const field of ["ours", "random", "popular", "oracle", "shown"] as const) sum[field] += minute[field];
  const per = (clicks: number): number => clicks / Math.max(1, sum.shown);
  return { ours: per(sum.ours), random: per(sum.random), popular: per(sum.popular), oracle: per(sum.oracle) };
}
