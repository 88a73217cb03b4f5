// When viewers come, how long they stay and how often: each has an activity, an hour of the own day at which visits are most frequent, and a usual length.
// A visit (a session) is a few page views, some seconds apart. How many page views the whole audience makes a second is the caller's to say: the world says whose
// they are and how they hang together.
// Invariants: 1. the visits that begin in a second are a function of (seed, second, rate) alone: an audience that starts later, or again, meets the same ones
// 2. a visit has at most `visitViewsMax` page views.
// Cost: a table of who comes, renewed every ten minutes of the world's time: 0.1 ms for 2,000 viewers; 1 us a page view.

import { cumulate, type Draws, searchCumulative } from "./draws.ts";
import { worldParameters as parameter } from "./parameters.ts";
import { dayMs, zoneOf } from "./schedules.ts";
import { streamNumber as stream } from "./stream-number.ts";
import type { Tastes } from "./tastes.ts";

/** One page view of the plan. */
export interface Look {
  readonly atMs: number;
  readonly viewer: number;
  /** Page views of this visit before it. */
  readonly view: number;
  /** True for the last one of its visit. */
  readonly last: boolean;
}

const tableMs = 600_000;
const hourMs = 3_600_000;

export class Visits {
  readonly #draws: Draws;
  readonly #activity: Float64Array;
  /** Moment of the UTC day at which a viewer most likely comes. */
  readonly #peakMs: Float64Array;
  /** Chance that a page view is not the last one of its visit. */
  readonly #continues: Float64Array;
  #table: Float64Array | undefined;
  #tableNumber = -1;

  constructor(draws: Draws, tastes: Tastes) {
    const n = tastes.viewers;
    this.#draws = draws;
    this.#activity = Float64Array.from({ length: n }, (_, v) => Math.exp(parameter.activityLogSd * draws.normal(stream.viewerActivity, v)));
    this.#peakMs = Float64Array.from({ length: n }, (_, v) => {
      const localHour = parameter.visitPeakHour + parameter.visitPeakSdHours * draws.normal(stream.viewerPeak, v);
      return localHour * hourMs - zoneOf(tastes.language[v]!, draws.uniform(stream.viewerZone, v));
    });
    const sd = parameter.visitViewsLogSd;
    this.#continues = Float64Array.from({ length: n }, (_, v) => {
      const mean = 1 + (parameter.visitViews - 1) * Math.exp(sd * draws.normal(stream.viewerViews, v) - (sd * sd) / 2);
      return 1 - 1 / mean;
    });
  }

  /** Who begins a visit at this moment: cumulative weights of the viewers. Valid until the next call. */
  comingAt(atMs: number): Float64Array {
    const number = Math.floor(atMs / tableMs);
    if (number !== this.#tableNumber || this.#table === undefined) {
      const middleMs = (number + 0.5) * tableMs;
      const activity = this.#activity;
      const peak = this.#peakMs;
      this.#table = cumulate(
        activity.length,
        (v) => activity[v]! * Math.exp(parameter.visitContrast * Math.cos((2 * Math.PI * (middleMs - peak[v]!)) / dayMs)),
      );
      this.#tableNumber = number;
    }
    return this.#table;
  }

  /** All page views of the visits that begin in second `second` (since 1970), of an audience of `viewsPerS` page views a second. */
  begunIn(second: number, viewsPerS: number): Look[] {
    const draws = this.#draws;
    const table = this.comingAt(second * 1_000);
    const count = Math.floor(viewsPerS / parameter.visitViews + draws.uniform(stream.visitsBegun, second));
    const looks: Look[] = [];
    for (let i = 0; i < count; i += 1) {
      const viewer = searchCumulative(table, draws.uniform(stream.visitViewer, second, i));
      const stays = this.#continues[viewer]!;
      let atMs = second * 1_000 + draws.below(1_000, stream.visitBegin, second, i);
      for (let view = 0; ; view += 1) {
        const last = view + 1 >= parameter.visitViewsMax || draws.uniform(stream.visitContinues, second, i, view) >= stays;
        looks.push({ atMs, viewer, view, last });
        if (last) break;
        atMs += parameter.visitGapMinMs + Math.ceil(draws.exponential(parameter.visitGapMeanMs, stream.visitGap, second, i, view));
      }
    }
    return looks;
  }
}
