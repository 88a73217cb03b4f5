// What the audience tells its parent: plain data, one message each, for the role to print or to show.
// Invariant: every number was measured; rates are of the last second, click rates of the last minute.

import type { FurnishProgress, Furnished } from "./furnish.ts";

/** Clicks per shown item over the last minute, and what other lists would have got at the same moments from the same viewers in the same positions. */
export interface ClickRates {
  readonly views: number;
  readonly shown: number;
  /** Counted clicks per shown item. */
  readonly clicked: number;
  /** The mean true probability of what was shown: the same without the luck of the draw. */
  readonly expected: number;
  /** Of random open rooms, of the best list that is the same for all, and of the best list for each viewer. */
  readonly random: number;
  readonly popular: number;
  readonly oracle: number;
}

export interface AudienceSecond {
  readonly kind: "second";
  readonly atMs: number;
  /** Answers and acknowledged events in the last second. */
  readonly requestsPerS: number;
  readonly eventsPerS: number;
  /** From sending a recommend request to its complete answer, over the last ten seconds; 0 when there was none. */
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** `undefined` until the first page view. */
  readonly rates: ClickRates | undefined;
  /** Reason -> how often since the start. */
  readonly errors: Readonly<Record<string, number>>;
  /** Page views left out since the start because too many requests were under way or the server had asked for a pause. */
  readonly skipped: number;
  /** Events that wait for their moment (a viewer still watches). */
  readonly eventsWaiting: number;
  readonly pausing: boolean;
}

/** A topic has become hot. */
export interface AudienceNews {
  readonly kind: "news";
  readonly atMs: number;
  /** Number of the topic, its name and its category's. */
  readonly topic: number;
  readonly name: string;
  readonly category: string;
  /** Share of the viewers whom it interests. */
  readonly reach: number;
  /** By `RunningAudience.breakingNews`; otherwise the world's own. */
  readonly triggered: boolean;
}

export type AudienceReport =
  | {
      readonly kind: "made";
      readonly seed: number;
      readonly rooms: number;
      readonly open: number;
      readonly viewers: number;
      readonly topics: number;
      readonly tookMs: number;
    }
  | ({ readonly kind: "furnishing" } & FurnishProgress)
  | ({ readonly kind: "furnished"; readonly tookMs: number } & Furnished)
  | AudienceNews
  | AudienceSecond;
