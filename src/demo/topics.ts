// The fixed part of the demo world: categories and topics as directions in taste space, how much each is liked at large, and their time effects.
// Invariants: 1. vectors have length 1  2. everything here is a function of the seed and the options alone, never of time.

import { type Draws, cumulate } from "./draws.ts";
import { categoryWords } from "./names.ts";
import { worldParameters as parameter } from "./parameters.ts";
import { streamNumber as stream } from "./stream-number.ts";

const dayMs = 86_400_000;

/** Scales `length` numbers from `from` to length 1. */
export function normalise(vectors: Float64Array, from: number, length: number): void {
  let sum = 0;
  for (let i = 0; i < length; i += 1) sum += vectors[from + i]! * vectors[from + i]!;
  const scale = 1 / Math.sqrt(sum);
  for (let i = 0; i < length; i += 1) vectors[from + i]! *= scale;
}

export class Topics {
  readonly count: number;
  readonly perCategory: number;
  readonly dimensions: number;
  /** Row-major unit vectors. */
  readonly vectors: Float64Array;
  /** Cumulative liking at large, over all topics and within each category. */
  readonly #all: Float64Array;
  readonly #within: readonly Float64Array[];
  readonly #tidePhase: Float64Array;
  readonly #tidePeriodMs: Float64Array;
  readonly #dayPeakMs: Float64Array;
  readonly #moving: boolean;

  /** `moving` false stops tide and daily effect. */
  constructor(draws: Draws, count: number, dimensions: number, moving: boolean) {
    this.count = count;
    this.dimensions = dimensions;
    this.perCategory = count / categoryWords.length;
    this.#moving = moving;
    const categories = new Float64Array(categoryWords.length * dimensions);
    for (let c = 0; c < categoryWords.length; c += 1) {
      for (let i = 0; i < dimensions; i += 1) categories[c * dimensions + i] = draws.normal(stream.categoryVector, c, i);
      normalise(categories, c * dimensions, dimensions);
    }
    this.vectors = new Float64Array(count * dimensions);
    const share = parameter.topicCategoryShare;
    const rest = Math.sqrt(1 - share * share);
    const own = new Float64Array(dimensions);
    for (let t = 0; t < count; t += 1) {
      for (let i = 0; i < dimensions; i += 1) own[i] = draws.normal(stream.topicVector, t, i);
      normalise(own, 0, dimensions);
      for (let i = 0; i < dimensions; i += 1) this.vectors[t * dimensions + i] = share * categories[this.categoryOf(t) * dimensions + i]! + rest * own[i]!;
      normalise(this.vectors, t * dimensions, dimensions);
    }
    const byRank = Array.from({ length: count }, (_, t) => t).sort((a, b) => draws.uniform(stream.topicRank, a) - draws.uniform(stream.topicRank, b));
    const weight = new Float64Array(count);
    byRank.forEach((topic, rank) => (weight[topic] = (rank + 1) ** -parameter.topicExponent));
    this.#all = cumulate(count, (t) => weight[t]!);
    this.#within = categoryWords.map((_, c) => cumulate(this.perCategory, (i) => weight[c * this.perCategory + i]!));
    this.#tidePhase = Float64Array.from({ length: count }, (_, t) => draws.uniform(stream.tidePhase, t));
    const span = parameter.tidePeriodMaxMs - parameter.tidePeriodMinMs;
    this.#tidePeriodMs = Float64Array.from({ length: count }, (_, t) => parameter.tidePeriodMinMs + span * draws.uniform(stream.tidePeriod, t));
    this.#dayPeakMs = Float64Array.from(categoryWords, (_, c) => dayMs * draws.uniform(stream.dayPeak, c));
  }

  categoryOf(topic: number): number {
    return Math.floor(topic / this.perCategory);
  }

  nameOf(topic: number): string {
    return categoryWords[this.categoryOf(topic)]!.topics[topic % this.perCategory]!;
  }

  /** A topic by liking at large. */
  pick(draws: Draws, kind: number, a: number, b: number, c = 0): number {
    return draws.weighted(this.#all, kind, a, b, c);
  }

  /** A topic of one category by liking at large. */
  pickWithin(category: number, draws: Draws, kind: number, a: number, b: number, c = 0): number {
    return category * this.perCategory + draws.weighted(this.#within[category]!, kind, a, b, c);
  }

  /** Tide and hour of day: what the moment adds to the logit of every room of this topic. */
  timeEffect(topic: number, atMs: number): number {
    if (!this.#moving) return 0;
    const tide = parameter.tideAmplitude * Math.sin(2 * Math.PI * (atMs / this.#tidePeriodMs[topic]! + this.#tidePhase[topic]!));
    const day = parameter.dayAmplitude * Math.cos((2 * Math.PI * (atMs - this.#dayPeakMs[this.categoryOf(topic)]!)) / dayMs);
    return tide + day;
  }
}
