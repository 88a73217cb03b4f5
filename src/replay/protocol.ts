// The prequential replay of a purchase log: for each basket in time order predict, score, then learn; and the baselines beside it on the same baskets.
//   pass 1  counts the baskets, so that the warm-up share, the tenths and the remaining time are known
//   pass 2  the first floor(0.2 x baskets) are only learnt; for each later one: learn what the refresh allows -> ask for both lists -> score -> keep for learning
// Why two passes: the log is never held in memory, whatever its size; reading is a small part of a replay.
// Invariants: 1. a list is asked for before its basket, or any later one, is learnt  2. model and baselines have learnt exactly the same baskets at every
// question  3. "new to the user" means: in no learnt basket of the user  4. recall of a basket = |list and wanted| / |wanted|; figures are means over
// scored baskets; a basket with nothing new counts in the plain figure only  5. the clock measures, it decides nothing.
// Refresh: live = every earlier basket is learnt; hour, day = only baskets of earlier clock hours, calendar days (as written in the log).
// Several models may be run at once: the same baskets, questions and lessons.
// Cost: the models', plus the baselines' 0.3 ms a basket. Memory: baskets that wait for their hour or day, and the baselines' exact counts.
// Limits: `waitingBasketsMax` baskets that wait to be learnt.

import { assert, MillraceError } from "#base/errors";
import type { Clock } from "#platform/clock";
import type { Files } from "#platform/files";
import { baselineNames, type BaselineName, Baselines, novelBaselineNames } from "./baselines.ts";
import { type Basket, RetailLog, type RowCounts } from "./retail-log.ts";

export type Refresh = "live" | "hour" | "day";
export const refreshes: readonly Refresh[] = ["live", "hour", "day"];

/** One item of one basket. All events of a basket share one time. */
export interface ReplayEvent {
  /** Unique in the log. */
  readonly id: string;
  readonly user: string;
  readonly item: string;
  readonly atMs: number;
}

/** The model under test. */
export interface Recommender {
  /** Up to `n` distinct item ids, best first; `novel`: none that the user bought in what was learnt. `atMs` never falls. */
  recommend(user: string, n: number, novel: boolean, atMs: number): Promise<readonly string[]>;
  /** Learns the events of one basket; once it resolves, the next answer knows them. */
  learn(events: readonly ReplayEvent[]): Promise<void>;
}

export interface NamedModel {
  readonly name: string;
  readonly model: Recommender;
}

export interface ReplayProgress {
  readonly phase: "counting" | "learning" | "scoring";
  readonly bytesRead: number;
  readonly bytesTotal: number;
  /** Rows of this pass so far, of those in all (unknown while counting). */
  readonly rows: number;
  readonly rowsTotal: number | undefined;
  readonly rowsPerSecond: number;
  /** Seconds to the end of the replay, by the rate of the last seconds; unknown while counting. */
  readonly secondsLeft: number | undefined;
  readonly baskets: number;
  readonly basketsTotal: number | undefined;
  /** So far, undefined before the first scored basket. */
  readonly recall: number | undefined;
  readonly novelRecall: number | undefined;
}

export interface ReplayOptions {
  readonly files: Files;
  readonly clock: Clock;
  readonly path: string;
  /** At least one. The figures of the parts and the progress are the first one's; all are asked and taught the same at the same moments. */
  readonly models: readonly NamedModel[];
  readonly refresh: Refresh;
  /** Called a few times a second. */
  readonly onProgress?: (progress: ReplayProgress) => void;
  /** Ends the replay between two baskets with the signal's reason. */
  readonly signal?: AbortSignal;
}

/** Means over the baskets of one part of the log; undefined where nothing was scored. */
export interface PartFigures {
  /** Time of the part's first scored basket, ms since 1970. */
  readonly fromMs: number | undefined;
  readonly baskets: number;
  readonly novelBaskets: number;
  readonly recall: number | undefined;
  readonly novelRecall: number | undefined;
  readonly baselines: Readonly<Record<BaselineName, number | undefined>>;
  readonly novelBaselines: Readonly<Partial<Record<BaselineName, number | undefined>>>;
}

export interface ReplayResult {
  readonly path: string;
  readonly refresh: Refresh;
  readonly baskets: number;
  readonly warmUpBaskets: number;
  readonly users: number;
  readonly items: number;
  readonly events: number;
  readonly rows: RowCounts;
  readonly total: PartFigures;
  /** Ten parts of the scored baskets, by number; fewer when there are fewer baskets. */
  readonly tenths: readonly PartFigures[];
  /** In the order given. */
  readonly models: readonly ModelFigures[];
  /** `recommend` and `learn` of all models. */
  readonly seconds: {
    readonly counting: number;
    readonly total: number;
    readonly recommend: number;
    readonly learn: number;
    readonly baselines: number;
  };
}

/** What one model reached over all scored baskets. */
export interface ModelFigures {
  readonly name: string;
  readonly recall: number | undefined;
  readonly novelRecall: number | undefined;
  /** What it did that costs it recall: lists shorter than asked for, and items in novel lists that the user had bought. */
  readonly shortLists: number;
  readonly boughtInNovelLists: number;
  /** Of asking and teaching. */
  readonly seconds: number;
}

/** Items a list has, and the share of the baskets that is only learnt: the protocol's. */
export const listLength = 20;
const warmUpShare = 0.2;

export const waitingBasketsMax = 1_000_000;

const hourMs = 3_600_000;
const unitMs: Record<Refresh, number> = { live: 0, hour: hourMs, day: 24 * hourMs };
const progressMs = 250;
/** Progress is looked at once in so many baskets. */
const progressBaskets = 16;

/** Sums of one part. */
class Part {
  fromMs: number | undefined;
  baskets = 0;
  novelBaskets = 0;
  recall = 0;
  novelRecall = 0;
  readonly baselines: Record<BaselineName, number> = { popularity: 0, decayedPopularity: 0, ownHistory: 0 };
  readonly novelBaselines: Record<BaselineName, number> = { popularity: 0, decayedPopularity: 0, ownHistory: 0 };

  mean(sum: number): number | undefined {
    return this.baskets === 0 ? undefined : sum / this.baskets;
  }

  novelMean(sum: number): number | undefined {
    return this.novelBaskets === 0 ? undefined : sum / this.novelBaskets;
  }

  figures(): PartFigures {
    return {
      fromMs: this.fromMs,
      baskets: this.baskets,
      novelBaskets: this.novelBaskets,
      recall: this.mean(this.recall),
      novelRecall: this.novelMean(this.novelRecall),
      baselines: Object.fromEntries(baselineNames.map((name) => [name, this.mean(this.baselines[name])])) as Record<BaselineName, number | undefined>,
      novelBaselines: Object.fromEntries(novelBaselineNames.map((name) => [name, this.novelMean(this.novelBaselines[name])])),
    };
  }
}

function share<T>(list: readonly T[], wanted: ReadonlySet<T>): number {
  let hits = 0;
  for (const item of list) if (wanted.has(item)) hits += 1;
  return hits / wanted.size;
}

/** Refuses a list that no protocol could score. */
function checkList(list: readonly string[]): void {
  if (list.length > listLength || new Set(list).size !== list.length) {
    throw new MillraceError(
      "internal",
      `the model gave a list of ${list.length} items, ${new Set(list).size} distinct, where up to ${listLength} distinct were asked for`,
    );
  }
}

function eventsOf(basket: Basket): ReplayEvent[] {
  return basket.items.map((item) => ({ id: `${basket.invoice}:${item}`, user: basket.user, item, atMs: basket.timeMs }));
}

/** Rate over the last seconds, so that the learning rate of the warm-up does not promise an end that scoring cannot keep. */
class Rate {
  readonly #marks: { atMs: number; rows: number }[] = [];

  perSecond(atMs: number, rows: number): number {
    this.#marks.push({ atMs, rows });
    if (this.#marks.length > 20) this.#marks.shift();
    const oldest = this.#marks[0]!;
    return atMs > oldest.atMs ? ((rows - oldest.rows) * 1_000) / (atMs - oldest.atMs) : 0;
  }

  reset(): void {
    this.#marks.length = 0;
  }
}

/** What one model scored. */
class Scores {
  recall = 0;
  novelRecall = 0;
  shortLists = 0;
  boughtInNovelLists = 0;
  ms = 0;
}

/** One replay. */
class Replay {
  readonly #options: ReplayOptions;
  readonly #baselines = new Baselines();
  /** Codes to item numbers, of learnt baskets. */
  readonly #numbers = new Map<string, number>();
  #waiting: Basket[] = [];
  readonly #whole = new Part();
  readonly #tenths = Array.from({ length: 10 }, () => new Part());
  readonly #models: readonly (NamedModel & { readonly scores: Scores })[];
  #recommendMs = 0;
  #learnMs = 0;
  #baselineMs = 0;
  #events = 0;
  readonly #rate = new Rate();
  #toldMs = Number.NEGATIVE_INFINITY;
  #phase: ReplayProgress["phase"] = "counting";
  #bytesRead = 0;
  #bytesTotal = 0;
  #rowsTotal: number | undefined;
  #basketsTotal: number | undefined;

  constructor(options: ReplayOptions) {
    this.#options = options;
    this.#models = options.models.map((model) => ({ ...model, scores: new Scores() }));
    assert(this.#models.length > 0, "a replay without a model");
  }

  async run(): Promise<ReplayResult> {
    const { clock, path, refresh } = this.#options;
    const startMs = clock.monotonicMs();
    const counted = this.#open();
    let baskets = 0;
    for await (const basket of counted.baskets()) {
      baskets += 1;
      this.#tell(basket, baskets);
    }
    const countingMs = clock.monotonicMs() - startMs;
    this.#rowsTotal = counted.counts.read;
    this.#basketsTotal = baskets;
    this.#phase = "learning";
    this.#rate.reset();

    const warmUp = Math.floor(warmUpShare * baskets);
    const log = this.#open();
    let index = 0;
    for await (const basket of log.baskets()) {
      // A file that grew in between has baskets that no tenth knows.
      if (index === baskets) break;
      await this.#learnEarlier(basket.timeMs);
      if (index === warmUp) {
        this.#phase = "scoring";
        this.#rate.reset();
      }
      if (index >= warmUp) await this.#score(basket, this.#tenths[Math.floor(((index - warmUp) * 10) / (baskets - warmUp))]!);
      if (this.#waiting.length >= waitingBasketsMax) {
        throw new MillraceError("unsupported", `more than ${waitingBasketsMax} baskets of one ${refresh} wait to be learnt`, {
          todo: "replay with --refresh live",
        });
      }
      this.#waiting.push(basket);
      index += 1;
      this.#tell(basket, index);
    }
    await this.#learnEarlier(Number.POSITIVE_INFINITY);
    if (log.counts.read !== counted.counts.read || log.counts.kept !== counted.counts.kept || index !== baskets) {
      throw new MillraceError("conflict", `${path} changed while it was replayed`, { todo: "replay a file that nobody writes" });
    }
    const seconds = (ms: number): number => ms / 1_000;
    return {
      path,
      refresh,
      baskets,
      warmUpBaskets: warmUp,
      users: this.#baselines.users,
      items: log.items,
      events: this.#events,
      rows: log.counts,
      total: this.#whole.figures(),
      tenths: this.#tenths.filter((part) => part.baskets > 0).map((part) => part.figures()),
      models: this.#models.map(({ name, scores: { recall, novelRecall, shortLists, boughtInNovelLists, ms } }) => ({
        name,
        recall: this.#whole.mean(recall),
        novelRecall: this.#whole.novelMean(novelRecall),
        shortLists,
        boughtInNovelLists,
        seconds: seconds(ms),
      })),
      seconds: {
        counting: seconds(countingMs),
        total: seconds(clock.monotonicMs() - startMs),
        recommend: seconds(this.#recommendMs),
        learn: seconds(this.#learnMs),
        baselines: seconds(this.#baselineMs),
      },
    };
  }

  #open(): RetailLog {
    const { files, path } = this.#options;
    return new RetailLog({
      files,
      path,
      onBytes: (read, total) => {
        this.#bytesRead = read;
        this.#bytesTotal = total;
      },
    });
  }

  /** Learns the waiting baskets that a model of this refresh may know at `timeMs`. */
  async #learnEarlier(timeMs: number): Promise<void> {
    const unit = unitMs[this.#options.refresh];
    const first = this.#waiting[0];
    // Waiting baskets are of one unit: all are learnt when the next begins.
    if (first === undefined || (unit > 0 && Math.floor(first.timeMs / unit) >= Math.floor(timeMs / unit))) return;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const basket of waiting) await this.#learn(basket);
  }

  async #learn(basket: Basket): Promise<void> {
    this.#options.signal?.throwIfAborted();
    const { clock } = this.#options;
    const events = eventsOf(basket);
    const startMs = clock.monotonicMs();
    let learntMs = startMs;
    for (const { model, scores } of this.#models) {
      const beganMs = learntMs;
      await model.learn(events);
      learntMs = clock.monotonicMs();
      scores.ms += learntMs - beganMs;
    }
    this.#baselines.learn(basket);
    basket.items.forEach((item, at) => this.#numbers.set(item, basket.itemNumbers[at]!));
    this.#baselineMs += clock.monotonicMs() - learntMs;
    this.#learnMs += learntMs - startMs;
    this.#events += events.length;
  }

  async #score(basket: Basket, tenth: Part): Promise<void> {
    this.#options.signal?.throwIfAborted();
    const { clock } = this.#options;
    const { user, timeMs, items, itemNumbers } = basket;
    const wanted = new Set(items);
    const novel = new Set(items.filter((_, at) => !this.#baselines.owns(user, itemNumbers[at]!)));

    const startMs = clock.monotonicMs();
    let recall = 0;
    let novelRecall = 0;
    let answeredMs = startMs;
    for (const [at, { model, scores }] of this.#models.entries()) {
      const beganMs = answeredMs;
      const asked = await this.#ask(model, scores, basket, wanted, novel);
      if (at === 0) ({ recall, novelRecall } = asked);
      answeredMs = clock.monotonicMs();
      scores.ms += answeredMs - beganMs;
    }
    this.#recommendMs += answeredMs - startMs;

    const wantedNumbers = new Set(itemNumbers);
    const novelNumbers = new Set(itemNumbers.filter((number) => !this.#baselines.owns(user, number)));
    const beside = baselineNames.map((name) => ({ name, recall: share(this.#baselines.list(name, user, listLength, false), wantedNumbers) }));
    const novelBeside =
      novel.size === 0 ? [] : novelBaselineNames.map((name) => ({ name, recall: share(this.#baselines.list(name, user, listLength, true), novelNumbers) }));
    for (const part of [this.#whole, tenth]) {
      part.fromMs ??= timeMs;
      part.baskets += 1;
      part.recall += recall;
      for (const each of beside) part.baselines[each.name] += each.recall;
      if (novel.size === 0) continue;
      part.novelBaskets += 1;
      part.novelRecall += novelRecall;
      for (const each of novelBeside) part.novelBaselines[each.name] += each.recall;
    }
    this.#baselineMs += clock.monotonicMs() - answeredMs;
  }

  /** Asks a model for both lists and scores them. */
  async #ask(
    model: Recommender,
    scores: Scores,
    { user, timeMs }: Basket,
    wanted: ReadonlySet<string>,
    novel: ReadonlySet<string>,
  ): Promise<{ recall: number; novelRecall: number }> {
    const list = await model.recommend(user, listLength, false, timeMs);
    const novelList = novel.size === 0 ? undefined : await model.recommend(user, listLength, true, timeMs);
    for (const answer of novelList === undefined ? [list] : [list, novelList]) {
      checkList(answer);
      if (answer.length < listLength) scores.shortLists += 1;
    }
    for (const item of novelList ?? []) {
      const number = this.#numbers.get(item);
      if (number !== undefined && this.#baselines.owns(user, number)) scores.boughtInNovelLists += 1;
    }
    const recall = share(list, wanted);
    const novelRecall = novelList === undefined ? 0 : share(novelList, novel);
    scores.recall += recall;
    scores.novelRecall += novelRecall;
    return { recall, novelRecall };
  }

  #tell({ row: rows }: Basket, baskets: number): void {
    const { onProgress, clock } = this.#options;
    if (onProgress === undefined || baskets % progressBaskets !== 0) return;
    const nowMs = clock.monotonicMs();
    if (nowMs - this.#toldMs < progressMs) return;
    this.#toldMs = nowMs;
    const rowsPerSecond = this.#rate.perSecond(nowMs, rows);
    const { recall, novelRecall } = this.#whole.figures();
    onProgress({
      phase: this.#phase,
      bytesRead: this.#bytesRead,
      bytesTotal: this.#bytesTotal,
      rows,
      rowsTotal: this.#rowsTotal,
      rowsPerSecond,
      secondsLeft: this.#rowsTotal === undefined || rowsPerSecond === 0 ? undefined : (this.#rowsTotal - rows) / rowsPerSecond,
      baskets,
      basketsTotal: this.#basketsTotal,
      recall,
      novelRecall,
    });
  }
}

/**
 * Replays the log at `path` through `models`.
 * Throws what the reader throws (see RetailLog), `conflict` when the file changes meanwhile, `unsupported` beyond the limits, and what the model throws.
 */
export function replay(options: ReplayOptions): Promise<ReplayResult> {
  return new Replay(options).run();
}
