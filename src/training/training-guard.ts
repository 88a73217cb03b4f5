// The guard of training: stops the model before a broken stream ruins it, and says why.
// It looks at what prequential evaluation gives anyway: a prediction that is not a number, or a mean log loss of the last samples that stands far above the mean
// of the many before. Both means fade by the sample (weight 1 - 1/n a step), so they need no window of values and follow slow change.
// Invariants: 1. a function of the samples alone  2. quiet until `samplesMin` were seen  3. once tripped it says so until `reset`.
// Cost: some additions a sample. Why a factor and not a bound: what a good log loss is depends on the share of positives.

import type { ByteReader } from "#base/byte-reader";
import type { ByteWriter } from "#base/byte-writer";
import { readF64s, writeF64s } from "./number-lists.ts";

export interface GuardOptions {
  /** Trips when the short mean exceeds this many times the long one. Default 4: a breaking event doubles it, flipped labels make it tenfold. */
  readonly lossFactorMax: number;
  /** Samples that the short mean remembers. Default 2,000. */
  readonly shortSamples: number;
  /** Samples that the long mean remembers. Default 100,000. */
  readonly longSamples: number;
  /** Samples before a jump is believed. Default 5,000. */
  readonly samplesMin: number;
}

export const guardDefaults: GuardOptions = { lossFactorMax: 4, shortSamples: 2_000, longSamples: 100_000, samplesMin: 5_000 };

export class TrainingGuard {
  readonly #options: GuardOptions;
  #samples = 0;
  #short = 0;
  #shortWeight = 0;
  #long = 0;
  #longWeight = 0;
  #reason = "";

  constructor(options: GuardOptions = guardDefaults) {
    this.#options = options;
  }

  /** Empty while all is well. */
  get reason(): string {
    return this.#reason;
  }

  /** Is the loss well below the bound? What is saved while it is not is no place to roll back to. */
  get calm(): boolean {
    return this.#reason === "" && (this.#samples < this.#options.samplesMin || this.#ratio() <= Math.sqrt(this.#options.lossFactorMax));
  }

  /** One sample's log loss and weight. True when the guard trips (or had tripped). */
  add(logit: number, loss: number, weight: number): boolean {
    if (this.#reason !== "") return true;
    if (!Number.isFinite(logit)) {
      this.#reason = `the model predicted ${logit}, which is no number to rank by`;
      return true;
    }
    this.#samples += 1;
    const short = 1 / Math.min(this.#samples, this.#options.shortSamples);
    const long = 1 / Math.min(this.#samples, this.#options.longSamples);
    this.#short += short * (weight * loss - this.#short);
    this.#shortWeight += short * (weight - this.#shortWeight);
    this.#long += long * (weight * loss - this.#long);
    this.#longWeight += long * (weight - this.#longWeight);
    if (this.#samples < this.#options.samplesMin || this.#ratio() <= this.#options.lossFactorMax) return false;
    const mean = (this.#short / this.#shortWeight).toFixed(3);
    this.#reason = `the log loss of the last ${this.#options.shortSamples} samples is ${mean}, ${this.#ratio().toFixed(1)} times its long mean`;
    return true;
  }

  /** Something else found the model broken. */
  trip(reason: string): void {
    if (this.#reason === "") this.#reason = reason;
  }

  /** Forgets everything: after training was switched on again. */
  reset(): void {
    this.#samples = 0;
    this.#short = 0;
    this.#shortWeight = 0;
    this.#long = 0;
    this.#longWeight = 0;
    this.#reason = "";
  }

  save(into: ByteWriter): void {
    writeF64s(into, [this.#samples, this.#short, this.#shortWeight, this.#long, this.#longWeight]);
    into.string(this.#reason);
  }

  load(from: ByteReader): void {
    const numbers = readF64s(from);
    if (numbers.length !== 5) throw from.damaged("a guard of another shape");
    this.#samples = numbers[0]!;
    this.#short = numbers[1]!;
    this.#shortWeight = numbers[2]!;
    this.#long = numbers[3]!;
    this.#longWeight = numbers[4]!;
    this.#reason = from.string();
  }

  #ratio(): number {
    return (this.#short * this.#longWeight) / (this.#shortWeight * this.#long);
  }
}
