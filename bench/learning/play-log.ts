// Plays the demo world against a gateway in this process, on the world's own clock, and keeps what learning is made of: the activity log, record by record, and beside
// it the true click probability of everything that was served.
// Why the log: all that the trainer does follows from it, so one play serves any number of learners (other table syncs, training on and off), each judged on
// the same impressions.
// Invariants: 1. the log is the product's own, features and all, read at the writer  2. probabilities are those of the moment and place at which an item was served
// 3. a served record's offset says what was known: everything before it  4. viewers act by the true probabilities (src/demo/).
// Memory: about 3 KB a page view of 10 rooms.

import { setImmediate as nextTurn } from "node:timers/promises";
import type { Log, LogWriter } from "#backbone/log";
import { MillraceError } from "#base/errors";
import { Arrivals } from "#demo/arrivals";
import { createWorld, liveThrough, type WorldOptions } from "#demo/index";
import { activityPartition, type GatewayConfig, type Learning, openGateway } from "#gateway/index";
import type { Clock } from "#platform/clock";
import { systemClock } from "#platform/system-clock";
import { makeTemporaryFolder, systemFiles } from "#platform/system-files";
import { RankingMetrics } from "#ranking/ranking-metrics";
import { openDataFolder } from "#roles/data-folder";
import { inlineLearning } from "#roles/inline-learning";
import type { EventBody } from "#wire/api";

export interface LogPlay {
  readonly config: GatewayConfig;
  readonly pipeline: string;
  readonly minutes: number;
  /** Page views of ten rooms a second, of all viewers together. */
  readonly viewsPerS: number;
  readonly world: Omit<WorldOptions, "startMs" | "news" | "shifts"> & {
    /** Every viewer takes a whole new taste at the begin of this minute. */
    readonly shiftMinute?: number;
    /** News break at the begin of this minute. */
    readonly newsMinute?: number;
  };
  /** `counts`: the weighted score ranks, as when the ranker is late, and the model only watches. */
  readonly rankedBy: "model" | "counts";
  /** Minutes at whose begin training is switched. */
  readonly switches?: readonly { readonly minute: number; readonly on: boolean }[];
}

export interface PlayedLog {
  readonly seed: number;
  readonly minutes: number;
  /** The world's time at minute 0. */
  readonly beginMs: number;
  /** By offset. */
  readonly records: readonly Uint8Array[];
  /** Recommendation id -> true probabilities of its items, in order of places. */
  readonly truth: ReadonlyMap<string, Float64Array>;
  readonly views: number;
}

const itemsPerView = 10;
const historyMs = 2 * 3_600_000;
const historyViews = 10;
const stepMs = 100;
const rowsPerPut = 500;
/** The day means nothing; the hour is part of the world. */
const startMs = Date.UTC(2026, 0, 15, 12);
const newsTopic = 7;

export async function playLog(play: LogPlay): Promise<PlayedLog> {
  const beginMs = startMs + historyMs;
  const { shiftMinute, newsMinute, ...options } = play.world;
  const shifts = shiftMinute === undefined ? [] : [{ atMs: beginMs + shiftMinute * 60_000, share: 1 }];
  const triggered = newsMinute === undefined ? [] : [{ atMs: beginMs + newsMinute * 60_000, topic: newsTopic }];
  const world = createWorld({ ...options, startMs, shifts, news: { scheduled: false, triggered } });
  const past = liveThrough(world, beginMs, historyViews);
  let lived = past.next();
  while (lived.done !== true) lived = past.next();

  let nowMs = beginMs;
  const clock: Clock = { ...systemClock, nowMs: () => nowMs };
  const path = await makeTemporaryFolder("millrace-learning-");
  const folder = await openDataFolder(path, "none");
  const records: Uint8Array[] = [];
  const log = keeping(folder.log, records);
  const { model } = play.config;
  const learning = model === undefined ? undefined : inlineLearning(model, log, clock);
  const gateway = openGateway({
    log,
    clock,
    config: play.config,
    version: "bench",
    incarnation: "bench",
    ...(learning === undefined ? {} : { learning: play.rankedBy === "model" ? learning.learning : { ...learning.learning, scorer: lateScorer } }),
  });
  await gateway.opened;
  const truth = new Map<string, Float64Array>();
  let views = 0;
  try {
    const put = async <Row>(rows: readonly Row[], send: (batch: readonly Row[]) => Promise<unknown>): Promise<void> => {
      for (let from = 0; from < rows.length; from += rowsPerPut) await send(rows.slice(from, from + rowsPerPut));
    };
    await put(
      Array.from({ length: world.rooms.slots }, (_, slot) => world.rooms.row(slot)),
      (rows) => gateway.putItems(rows),
    );
    await put(
      Array.from({ length: world.tastes.viewers }, (_, viewer) => world.tastes.row(viewer)),
      (rows) => gateway.putUsers(rows),
    );
    await put(lived.value, (rows) => gateway.putEvents(rows));
    const switchTraining = async (on: boolean): Promise<void> => {
      // It resolves when the trainer has read the switch, so somebody must read.
      let done = false;
      const switched = gateway.switchTraining(on).finally(() => (done = true));
      while (!done) {
        await learning?.catchUp();
        await nextTurn();
      }
      await switched;
    };
    const arrivals = new Arrivals(world, play.viewsPerS);
    const waiting = new Map<number, EventBody[]>();
    for (let step = 0; step < play.minutes * (60_000 / stepMs); step += 1) {
      nowMs = beginMs + step * stepMs;
      for (const { minute, on } of play.switches ?? []) if (minute * 60_000 === step * stepMs) await switchTraining(on);
      if (step % (1_000 / stepMs) === 0) {
        const changed = new Set<number>();
        for (const { kind, slot, id } of world.advance(nowMs)) {
          if (kind === "retire") await gateway.deleteItem(id);
          else changed.add(slot);
        }
        if (changed.size > 0) await gateway.putItems([...changed].map((slot) => world.rooms.row(slot)));
      }
      const arrived = waiting.get(step);
      waiting.delete(step);
      if (arrived !== undefined) await put(arrived, (events) => gateway.putEvents(events));
      // The trainer's thread learns within milliseconds; here a step late.
      await learning?.catchUp();
      for (const { viewer } of arrivals.until(nowMs + stepMs)) {
        const answer = await gateway.recommend(play.pipeline, { user: world.tastes.idOf(viewer), n: itemsPerView });
        views += 1;
        const shown = answer.items.map(({ id }, position) => ({ id, position }));
        truth.set(
          answer.recommendationId,
          Float64Array.from(shown, ({ id, position }) => {
            const slot = world.rooms.slotOf(id);
            return slot === undefined ? 0 : world.clickProbability(viewer, slot, position, nowMs);
          }),
        );
        for (const event of world.act(viewer, shown, nowMs, answer.recommendationId).events) {
          const place = Math.max(step + 1, Math.ceil((event.ts! - beginMs) / stepMs));
          const there = waiting.get(place);
          if (there === undefined) waiting.set(place, [event]);
          else there.push(event);
        }
      }
    }
    await gateway.close();
    return { seed: options.seed, minutes: play.minutes, beginMs, records, truth, views };
  } finally {
    await gateway.close();
    await folder.close();
    await systemFiles.removeFolder(path);
  }
}

/** Never in time: the weighted score stands. */
const late = (): Promise<never> => Promise.reject(new MillraceError("timeout", "a ranker that only watches", { todo: "nothing" }));
const lateScorer: Learning["scorer"] = {
  score: late,
  search: late,
  similar: late,
  close: () => Promise.resolve(),
  metrics: new RankingMetrics(),
};

/** The log, each record of the activity partition kept at its offset. */
function keeping(log: Log, records: Uint8Array[]): Log {
  return {
    openWriter: async (partition) => {
      const writer = await log.openWriter(partition);
      if (partition !== activityPartition) return writer;
      const kept: LogWriter = {
        partition: writer.partition,
        durability: writer.durability,
        get bounds() {
          return writer.bounds;
        },
        get failed() {
          return writer.failed;
        },
        oldUpTo: (age) => writer.oldUpTo(age),
        append: async (batch) => {
          const copies = batch.map((record) => record.slice());
          const result = await writer.append(batch);
          copies.forEach((record, index) => (records[result.firstOffset + index] = record));
          return result;
        },
        trim: (offset) => writer.trim(offset),
        sync: () => writer.sync(),
        close: () => writer.close(),
      };
      return kept;
    },
    read: (partition, offset, bytesMax) => log.read(partition, offset, bytesMax),
    tail: (partition, offset, signal) => log.tail(partition, offset, signal),
    bounds: (partition) => log.bounds(partition),
    close: () => log.close(),
  };
}
