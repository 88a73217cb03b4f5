// Breaking news: a topic becomes hot at once. Many viewers want it, many streamers switch to it, and after minutes it is over.
// Why: it is the change that separates a feed that learns within seconds from one that learns by the hour, and the truth knows it: the heat is a term of the
// click probability.
// Invariants: 1. the news of a world are a function of its seed, of `fromMs` and of what was triggered; a piece that is triggered while the world stands at a
// moment is the same as one that was among the options from the start  2. whom and which rooms a piece of news moves depends on (its moment, viewer or slot) alone
// 3. asking changes nothing but caches.
// Cost: `interest` is one comparison while nothing is hot; 4 bytes a viewer for each of the last `reachesMax` pieces.

import { type Draws } from "./draws.ts";
import { worldParameters as parameter } from "./parameters.ts";
import { streamNumber as stream } from "./stream-number.ts";
import type { Topics } from "./topics.ts";

export interface BreakingNews {
  readonly atMs: number;
  readonly topic: number;
}

const reachesMax = 8;
const none: readonly BreakingNews[] = [];

interface Active {
  readonly news: BreakingNews;
  readonly reach: Float32Array;
}

export class Breaking {
  readonly #draws: Draws;
  readonly #topics: Topics;
  readonly #viewers: number;
  readonly #triggered: BreakingNews[];
  /** All news up to `#knownToMs`, by time. */
  #news: BreakingNews[] = [];
  #made = 0;
  #nextMs: number;
  readonly #reaches = new Map<BreakingNews, Float32Array>();
  #active: readonly Active[] = [];
  /** `#active` holds in [from, to). */
  #activeFromMs = 0;
  #activeToMs = -1;

  /** `scheduled` false: only what is triggered happens. */
  constructor(draws: Draws, topics: Topics, viewers: number, scheduled: boolean, fromMs: number, triggered: readonly BreakingNews[]) {
    this.#draws = draws;
    this.#topics = topics;
    this.#viewers = viewers;
    this.#triggered = [...triggered];
    this.#news = [...triggered].sort((a, b) => a.atMs - b.atMs);
    const span = parameter.newsFirstMaxMs - parameter.newsFirstMinMs;
    this.#nextMs = scheduled ? Math.ceil(fromMs + parameter.newsFirstMinMs + span * draws.uniform(stream.newsGap)) : Infinity;
  }

  /** News with `fromMs` < moment <= `toMs`, by time. */
  between(fromMs: number, toMs: number): readonly BreakingNews[] {
    this.#know(toMs);
    return this.#news.filter(({ atMs }) => atMs > fromMs && atMs <= toMs);
  }

  /** Pieces that were triggered, to make the same world again. */
  get triggered(): readonly BreakingNews[] {
    return this.#triggered;
  }

  /** Adds a piece of news. */
  add(news: BreakingNews): void {
    this.#triggered.push(news);
    this.#insert(news);
    this.#activeToMs = -1;
  }

  /** How hot a topic is, 0..1. */
  heat(topic: number, atMs: number): number {
    let most = 0;
    for (let i = this.#firstActive(atMs); i < this.#news.length && this.#news[i]!.atMs <= atMs; i += 1) {
      if (this.#news[i]!.topic === topic) most = Math.max(most, heatAfter(atMs - this.#news[i]!.atMs));
    }
    return most;
  }

  /** What the news add to the logit of this viewer for rooms of this topic. */
  interest(viewer: number, topic: number, atMs: number): number {
    let sum = 0;
    for (const { news, reach } of this.#activeAt(atMs)) if (news.topic === topic) sum += reach[viewer]! * heatAfter(atMs - news.atMs);
    return sum;
  }

  /** Share of the viewers whom a piece of news interests. */
  reachOf(news: BreakingNews): number {
    return this.#reach(news).reduce((sum, strength) => sum + (strength > 0 ? 1 : 0), 0) / this.#viewers;
  }

  /** The moments in (`afterMs`, `toMs`] at which one of these `news` makes this slot switch, by time. */
  joinsOf(slot: number, news: readonly BreakingNews[], afterMs: number, toMs: number): readonly BreakingNews[] {
    let joins: BreakingNews[] | undefined;
    for (const piece of news) {
      const key = keyOf(piece);
      if (this.#draws.uniform(stream.newsJoins, slot, key) >= parameter.newsRoomShare) continue;
      const delay = Math.min(parameter.newsJoinMaxMs, this.#draws.exponential(parameter.newsJoinMeanMs, stream.newsJoinDelay, slot, key));
      const atMs = piece.atMs + Math.ceil(delay);
      if (atMs > afterMs && atMs <= toMs) (joins ??= []).push({ atMs, topic: piece.topic });
    }
    return joins === undefined ? none : joins.sort((a, b) => a.atMs - b.atMs);
  }

  /** The topic that a streamer who chooses one now takes because of the news; -1 when it does not care. */
  topicFor(slot: number, event: number, atMs: number): number {
    for (let i = this.#firstActive(atMs); i < this.#news.length && this.#news[i]!.atMs <= atMs; i += 1) {
      const news = this.#news[i]!;
      const chance = parameter.newsRoomShare * heatAfter(atMs - news.atMs);
      if (this.#draws.uniform(stream.newsOpening, slot, event, keyOf(news)) < chance) return news.topic;
    }
    return -1;
  }

  #activeAt(atMs: number): readonly Active[] {
    if (atMs >= this.#activeFromMs && atMs < this.#activeToMs) return this.#active;
    // Beyond the next begin or end of a piece of news another list holds.
    this.#know(atMs + parameter.newsEndsMs);
    let from = -Infinity;
    let to = atMs + parameter.newsEndsMs;
    const active: Active[] = [];
    for (const news of this.#news) {
      const endsMs = news.atMs + parameter.newsEndsMs;
      if (news.atMs <= atMs && atMs < endsMs) active.push({ news, reach: this.#reach(news) });
      for (const edge of [news.atMs, endsMs]) {
        if (edge <= atMs) from = Math.max(from, edge);
        else to = Math.min(to, edge);
      }
    }
    this.#active = active;
    this.#activeFromMs = from;
    this.#activeToMs = to;
    return active;
  }

  /** Index of the first piece that may still be hot; rooms ask for many moments of a day in turn, so this is a search and not a cache. */
  #firstActive(atMs: number): number {
    this.#know(atMs);
    let low = 0;
    let high = this.#news.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#news[middle]!.atMs > atMs - parameter.newsEndsMs) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  #reach(news: BreakingNews): Float32Array {
    let reach = this.#reaches.get(news);
    if (reach === undefined) {
      const key = keyOf(news);
      const span = parameter.newsLogitMax - parameter.newsLogitMin;
      reach = Float32Array.from({ length: this.#viewers }, (_, viewer) =>
        this.#draws.uniform(stream.newsReached, viewer, key) < parameter.newsReach
          ? parameter.newsLogitMin + span * this.#draws.uniform(stream.newsStrength, viewer, key)
          : 0,
      );
      if (this.#reaches.size >= reachesMax) this.#reaches.delete(this.#reaches.keys().next().value!);
      this.#reaches.set(news, reach);
    }
    return reach;
  }

  #know(toMs: number): void {
    while (this.#nextMs <= toMs) {
      this.#made += 1;
      const number = this.#made;
      this.#insert({ atMs: this.#nextMs, topic: this.#topics.pick(this.#draws, stream.newsTopic, number, 0) });
      const gap = parameter.newsGapMinMs + (parameter.newsGapMaxMs - parameter.newsGapMinMs) * this.#draws.uniform(stream.newsGap, number);
      this.#nextMs += Math.ceil(gap);
    }
  }

  #insert(news: BreakingNews): void {
    let at = this.#news.length;
    while (at > 0 && this.#news[at - 1]!.atMs > news.atMs) at -= 1;
    this.#news.splice(at, 0, news);
  }
}

/** Draws of a piece of news are keyed by its second, whichever way it came to be. */
function keyOf(news: BreakingNews): number {
  return Math.floor(news.atMs / 1_000);
}

/** Heat, 0..1, this long after the begin. */
export function heatAfter(ms: number): number {
  if (ms < 0 || ms >= parameter.newsEndsMs) return 0;
  if (ms < parameter.newsRiseMs) return ms / parameter.newsRiseMs;
  return Math.exp(-(ms - parameter.newsRiseMs) / parameter.newsDecayMs);
}
