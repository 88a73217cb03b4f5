// What *Be a user* knows and does: the feed of now, the acts of this visitor, and the way of the last ones through the server.
// The two clocks: `browserMs` runs from the click to the moment at which this page heard of the stage; `serverMs` is the server's own figure.
// Why the next answer waits for the vector (at most `vectorWaitMs`): asked at once it would count the event but not yet what the model learned from it. Where
// nothing learns it is asked at once.
// Invariants: 1. one act at a time; a further one is ignored until the next feed is there  2. what fails is said where the feed is, the feed of before stays.

import type { EventsAnswer, RecommendAnswer } from "#wire/api";
import type { WayStep } from "#wire/live-api";
import { ask, type Refused, refusedOf } from "../live/ask.ts";
import { keep, kept } from "../live/keep.ts";
import { onWay, streaming, training } from "../live/server.ts";
import { store } from "../live/store.ts";
import { user } from "../live/user.ts";

export const cardsWanted = 12;
const vectorWaitMs = 400;
const waysKept = 4;

export const stages = ["event", "feature", "parameter", "vector", "answer"] as const;
export type Stage = (typeof stages)[number];

export interface StageSeen {
  readonly browserMs: number;
  readonly serverMs?: number;
  readonly detail: string;
}

/** One act on its way. */
export interface Way {
  readonly id: string;
  readonly type: string;
  readonly title: string;
  readonly begunMs: number;
  readonly seen: Readonly<Partial<Record<Stage, StageSeen>>>;
  /** Nothing more will come. */
  readonly ended: boolean;
  readonly failed?: Refused;
}

export type Change = { readonly kind: "new" | "up" | "down" | "same"; readonly places: number };

export interface Feed {
  readonly answer: RecommendAnswer;
  /** By item, against the feed before; empty for the first. */
  readonly changes: ReadonlyMap<string, Change>;
  /** From asking to having it. */
  readonly tookMs: number;
}

export const pipeline = store(kept("pipeline") ?? "home");
export const feed = store<Feed | undefined>(undefined);
export const busy = store(false);
export const refused = store<Refused | undefined>(undefined);
/** Newest first. */
export const ways = store<readonly Way[]>([]);
/** What this visitor did to an item. */
export const done = store<ReadonlyMap<string, string>>(new Map());

function change(id: string, more: (way: Way) => Partial<Way>): void {
  ways.set(ways.get().map((way) => (way.id === id ? { ...way, ...more(way) } : way)));
}

function see(id: string, stage: Stage, seen: StageSeen): void {
  change(id, ({ seen: before }) => ({ seen: { ...before, [stage]: seen } }));
}

onWay((step: WayStep, atMs) => {
  const way = ways.get().find(({ id }) => id === step.event);
  if (way === undefined) return;
  see(way.id, step.stage === "logged" ? "event" : step.stage, { browserMs: atMs - way.begunMs, serverMs: step.ms, detail: step.detail });
});

/** True when the way of the event has reached its vector, false when that takes too long. */
function vectorMoved(id: string): Promise<boolean> {
  return new Promise((resolve) => {
    const end = (moved: boolean): void => {
      clearTimeout(timer);
      stop();
      resolve(moved);
    };
    const look = (): void => {
      const seen = ways.get().find((way) => way.id === id)?.seen;
      if (seen === undefined || seen.vector !== undefined) end(seen !== undefined);
    };
    const timer = setTimeout(() => end(false), vectorWaitMs);
    const stop = ways.watch(look);
    look();
  });
}

function changesOf(before: Feed | undefined, answer: RecommendAnswer): Map<string, Change> {
  if (before === undefined) return new Map();
  const places = new Map(before.answer.items.map(({ id }, at) => [id, at]));
  return new Map(
    answer.items.map(({ id }, at): [string, Change] => {
      const was = places.get(id);
      if (was === undefined) return [id, { kind: "new", places: 0 }];
      return [id, { kind: was > at ? "up" : was < at ? "down" : "same", places: Math.abs(was - at) }];
    }),
  );
}

async function askFeed(minOffset?: number): Promise<Feed> {
  const asked = performance.now();
  const before = feed.get();
  const answer = await ask<RecommendAnswer>("POST", `/v1/recommend/${encodeURIComponent(pipeline.get())}`, {
    user: user.get(),
    n: cardsWanted,
    explain: true,
    ...(minOffset === undefined ? {} : { minOffset }),
  });
  return { answer, changes: changesOf(before, answer), tookMs: performance.now() - asked };
}

async function exclusively(work: () => Promise<void>): Promise<void> {
  if (busy.get()) return;
  busy.set(true);
  try {
    await work();
    refused.set(undefined);
  } catch (thrown) {
    refused.set(refusedOf(thrown));
  } finally {
    busy.set(false);
  }
}

/** Asks for a feed; `fresh`: not compared with the one before. */
export function recommend(fresh = false): Promise<void> {
  return exclusively(async () => {
    if (fresh) feed.set(undefined);
    feed.set(await askFeed());
  });
}

export function choosePipeline(name: string): void {
  pipeline.set(keep("pipeline", name));
  void recommend(true);
}

/** For a visitor who begins anew. */
export function forget(): void {
  ways.set([]);
  done.set(new Map());
  void recommend(true);
}

/** The visitor does something to the item at `position` of the feed. */
export function act(type: "click" | "like", position: number): Promise<void> {
  return exclusively(async () => {
    const shown = feed.get();
    const item = shown?.answer.items[position];
    if (shown === undefined || item === undefined) return;
    const begunMs = performance.now();
    const id = crypto.randomUUID();
    ways.set([{ id, type, title: item.title ?? item.id, begunMs, seen: {}, ended: false }, ...ways.get()].slice(0, waysKept));
    done.set(new Map(done.get()).set(item.id, type));
    try {
      const event = { id, type, user: user.get(), item: item.id, recommendationId: shown.answer.recommendationId, position };
      const { offset, durability } = await ask<EventsAnswer>("POST", "/v1/events", event);
      const browserMs = performance.now() - begunMs;
      if (!streaming.get()) {
        // Without the stream the acknowledgement is what is known of the first two.
        see(id, "event", { browserMs, detail: `in the log (${durability})` });
        see(id, "feature", { browserMs, detail: "counted, so the acknowledgement says" });
      }
      const now = training.get();
      if (streaming.get() && now !== undefined && now !== "none" && now.state === "learning") await vectorMoved(id);
      const next = await askFeed(offset);
      const changed = next.answer.items.length - [...next.changes.values()].filter(({ kind }) => kind === "same").length;
      see(id, "answer", {
        browserMs: performance.now() - begunMs,
        serverMs: next.answer.tookMs,
        detail: `${changed} of ${next.answer.items.length} cards are others or elsewhere${next.answer.degraded.length === 0 ? "" : `; left out: ${next.answer.degraded.map((what) => what.split(":", 1)[0]).join(", ")}`}`,
      });
      feed.set(next);
      change(id, () => ({ ended: true }));
    } catch (thrown) {
      change(id, () => ({ ended: true, failed: refusedOf(thrown) }));
      throw thrown;
    }
  });
}
