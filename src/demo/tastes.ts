// The viewers: languages and a taste that drifts (a slow walk plus jumps, and shifts of many viewers at a named moment).
// Invariants: 1. tastes have length 1  2. drift happens on a fixed grid of steps from the world's start, so it does not depend on how `advance` was cut
// 3. without drift a taste never changes.
// Cost: one step moves all viewers: 2,000 x 16 normal draws, about 3 ms; a week of the world's time is 2,016 steps.

import type { UserRow } from "#wire/api";
import { type Draws, cumulate } from "./draws.ts";
import { languageWords } from "./names.ts";
import { worldParameters as parameter } from "./parameters.ts";
import { streamNumber as stream } from "./stream-number.ts";
import { normalise, type Topics } from "./topics.ts";

/** At `atMs` every viewer of a share of them takes a whole new taste. */
export interface TasteShift {
  readonly atMs: number;
  /** 0..1 */
  readonly share: number;
}

export class Tastes {
  readonly viewers: number;
  /** Row-major unit vectors. */
  readonly vectors: Float64Array;
  /** First language of each viewer. */
  readonly language: Uint8Array;
  readonly #draws: Draws;
  readonly #topics: Topics;
  readonly #startMs: number;
  readonly #drift: boolean;
  readonly #shifts: readonly TasteShift[];
  readonly #languages: Uint8Array;
  readonly #interests: Int32Array;
  readonly #walk: Float64Array;
  #step = 0;
  #shiftsDone = 0;

  constructor(draws: Draws, topics: Topics, viewers: number, startMs: number, drift: boolean, shifts: readonly TasteShift[]) {
    const dimensions = topics.dimensions;
    const interests = parameter.interestWeights.length;
    this.viewers = viewers;
    this.#draws = draws;
    this.#topics = topics;
    this.#startMs = startMs;
    this.#drift = drift;
    this.#shifts = [...shifts].sort((a, b) => a.atMs - b.atMs);
    this.vectors = new Float64Array(viewers * dimensions);
    this.#languages = new Uint8Array(viewers);
    this.#interests = new Int32Array(viewers * interests);
    this.#walk = new Float64Array(viewers * dimensions);
    this.language = new Uint8Array(viewers);
    const byShare = cumulate(languageWords.length, (i) => parameter.languageShares[i]!);
    const componentSd = parameter.walkSd / Math.sqrt(dimensions);
    for (let v = 0; v < viewers; v += 1) {
      this.language[v] = draws.weighted(byShare, stream.viewerLanguage, v);
      let spoken = 1 << this.language[v]!;
      if (draws.uniform(stream.viewerSecondLanguage, v) < parameter.secondLanguageChance)
        spoken |= 1 << draws.weighted(byShare, stream.viewerSecondLanguagePick, v);
      this.#languages[v] = spoken;
      const first = topics.pick(draws, stream.viewerInterest, v, 0);
      for (let j = 0; j < interests; j += 1) {
        const near = j > 0 && draws.uniform(stream.viewerInterestNear, v, j) < parameter.interestSameCategory;
        this.#interests[v * interests + j] =
          j === 0
            ? first
            : near
              ? topics.pickWithin(topics.categoryOf(first), draws, stream.viewerInterest, v, j)
              : topics.pick(draws, stream.viewerInterest, v, j);
      }
      for (let i = 0; i < dimensions; i += 1) this.#walk[v * dimensions + i] = componentSd * draws.normal(stream.walkStart, v, i);
      this.#compose(v);
    }
  }

  idOf(viewer: number): string {
    return `viewer-${viewer}`;
  }

  /** The number of a viewer's id; `undefined` for a foreign one. */
  numberOf(id: string): number | undefined {
    const parts = /^viewer-(\d+)$/.exec(id);
    const viewer = parts === null ? this.viewers : Number(parts[1]);
    return viewer < this.viewers ? viewer : undefined;
  }

  speaks(viewer: number, language: number): boolean {
    return (this.#languages[viewer]! & (1 << language)) !== 0;
  }

  /** Topic numbers of the viewer's interests, the strongest first. */
  interestsOf(viewer: number): number[] {
    const interests = parameter.interestWeights.length;
    return Array.from(this.#interests.subarray(viewer * interests, (viewer + 1) * interests));
  }

  row(viewer: number): UserRow {
    return { id: this.idOf(viewer), attributes: { languages: languageWords.filter((_, language) => this.speaks(viewer, language)) } };
  }

  /** Takes all drift steps and shifts that lie at or before `toMs`. */
  advance(toMs: number): void {
    for (;;) {
      const stepAt = this.#drift ? this.#startMs + (this.#step + 1) * parameter.driftStepMs : Infinity;
      const shift = this.#shifts[this.#shiftsDone];
      const shiftAt = shift?.atMs ?? Infinity;
      if (Math.min(stepAt, shiftAt) > toMs) return;
      if (shift !== undefined && shiftAt <= stepAt) this.#shift(shift);
      else this.#drifted();
    }
  }

  #drifted(): void {
    this.#step += 1;
    const step = this.#step;
    const { dimensions } = this.#topics;
    const keep = Math.exp(-parameter.driftStepMs / parameter.walkReturnMs);
    const kick = (parameter.walkSd / Math.sqrt(dimensions)) * Math.sqrt(1 - keep * keep);
    const jumpChance = 1 - Math.exp(-parameter.driftStepMs / parameter.jumpMeanMs);
    const interests = parameter.interestWeights.length;
    const kicks = new Float64Array(dimensions);
    for (let v = 0; v < this.viewers; v += 1) {
      this.#draws.normals(kicks, stream.walkStep, v, step);
      for (let i = 0; i < dimensions; i += 1) {
        const at = v * dimensions + i;
        this.#walk[at] = keep * this.#walk[at]! + kick * kicks[i]!;
      }
      if (this.#draws.uniform(stream.jump, v, step) < jumpChance) {
        this.#interests[v * interests + this.#draws.below(interests, stream.jumpSlot, v, step)] = this.#topics.pick(this.#draws, stream.jumpTopic, v, step);
      }
      this.#compose(v);
    }
  }

  #shift(shift: TasteShift): void {
    const number = (this.#shiftsDone += 1);
    const interests = parameter.interestWeights.length;
    for (let v = 0; v < this.viewers; v += 1) {
      if (this.#draws.uniform(stream.shiftViewer, v, number) >= shift.share) continue;
      for (let j = 0; j < interests; j += 1) this.#interests[v * interests + j] = this.#topics.pick(this.#draws, stream.shiftTopic, v, number, j);
      this.#compose(v);
    }
  }

  #compose(viewer: number): void {
    const { dimensions, vectors } = this.#topics;
    const from = viewer * dimensions;
    const interests = parameter.interestWeights.length;
    for (let i = 0; i < dimensions; i += 1) this.vectors[from + i] = this.#walk[from + i]!;
    for (let j = 0; j < interests; j += 1) {
      const topic = this.#interests[viewer * interests + j]! * dimensions;
      for (let i = 0; i < dimensions; i += 1) this.vectors[from + i]! += parameter.interestWeights[j]! * vectors[topic + i]!;
    }
    normalise(this.vectors, from, dimensions);
  }
}
