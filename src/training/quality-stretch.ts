// Figures of one stretch of samples, each predicted before it was learned: log loss, AUC, calibration, of the model and of the counting model beside it.
// Weights: a negative that was kept at rate r stands for 1/r of them, a positive for itself.
//   log loss    = sum w loss / sum w             calibration = sum w p / sum w y   (1 is right)
//   normalised entropy = log loss / H(y), H the entropy of the share of positives: 1 = as good as knowing only the mean
//   (He et al., "Practical lessons from predicting clicks on ads", ADKDD 2014)
// Invariants: 1. all sums are taken in the order of the samples, so the same stream gives the same bits  2. what cannot be known is undefined, never 0: AUC
// without both classes, calibration without a positive, the counting model's figures without its logits.
// Cost: 33 KiB; about 40 ns a sample.

import type { ByteReader } from "#base/byte-reader";
import type { ByteWriter } from "#base/byte-writer";
import type { QualityPoint } from "#wire/live-api";
import { readF64s, writeF64s } from "./number-lists.ts";
import { RankedBins } from "./ranked-bins.ts";

/** -log of the probability that a logit gives to what happened: log(1 + e^-z), or log(1 + e^z) for a negative; exact at both ends. */
export function logLossOf(logit: number, positive: boolean): number {
  const z = positive ? -logit : logit;
  return z > 0 ? z + Math.log1p(Math.exp(-z)) : Math.log1p(Math.exp(z));
}

/** 1 / (1 + e^-z). */
export function sigmoid(logit: number): number {
  return 1 / (1 + Math.exp(-logit));
}

/** Sums of one model's predictions. */
class Sums {
  weight = 0;
  loss = 0;
  predicted = 0;
  clicked = 0;
  readonly bins = new RankedBins();

  add(logit: number, positive: boolean, weight: number): void {
    this.weight += weight;
    this.loss += weight * logLossOf(logit, positive);
    this.predicted += weight * sigmoid(logit);
    if (positive) this.clicked += weight;
    this.bins.add(logit, positive, weight);
  }

  clear(): void {
    this.weight = 0;
    this.loss = 0;
    this.predicted = 0;
    this.clicked = 0;
    this.bins.clear();
  }

  get logLoss(): number {
    return this.loss / this.weight;
  }
  get calibration(): number {
    return this.clicked > 0 ? this.predicted / this.clicked : NaN;
  }
  get entropy(): number {
    const share = this.clicked / this.weight;
    return -(share * Math.log(share) + (1 - share) * Math.log1p(-share));
  }

  save(into: ByteWriter): void {
    writeF64s(into, [this.weight, this.loss, this.predicted, this.clicked]);
    writeF64s(into, this.bins.save());
  }

  load(from: ByteReader): void {
    const sums = readF64s(from);
    if (sums.length !== 4 || !this.bins.load(readF64s(from))) throw from.damaged("sums of another shape");
    [this.weight, this.loss, this.predicted, this.clicked] = [sums[0]!, sums[1]!, sums[2]!, sums[3]!];
  }
}

/** A point with what only this room shows. */
export interface QualityFigures extends QualityPoint {
  readonly normalisedEntropy?: number;
  readonly countingNormalisedEntropy?: number;
}

export class QualityStretch {
  #samples = 0;
  #positives = 0;
  /** Samples judged while the model did not learn. */
  #frozen = 0;
  readonly #model = new Sums();
  readonly #counting = new Sums();

  get samples(): number {
    return this.#samples;
  }
  get positives(): number {
    return this.#positives;
  }

  /** One prediction. `countingLogit` NaN: none. `rate`: of kept negatives. */
  add(logit: number, countingLogit: number, positive: boolean, rate: number, learning: boolean): void {
    const weight = positive ? 1 : 1 / rate;
    this.#samples += 1;
    if (positive) this.#positives += 1;
    if (!learning) this.#frozen += 1;
    this.#model.add(logit, positive, weight);
    if (!Number.isNaN(countingLogit)) this.#counting.add(countingLogit, positive, weight);
  }

  clear(): void {
    this.#samples = 0;
    this.#positives = 0;
    this.#frozen = 0;
    this.#model.clear();
    this.#counting.clear();
  }

  figures(atMs: number): QualityFigures {
    const model = this.#model;
    const counting = this.#counting;
    const known = {
      logLoss: model.logLoss,
      auc: model.bins.auc(),
      calibration: model.calibration,
      normalisedEntropy: model.logLoss / model.entropy,
      countingLogLoss: counting.logLoss,
      countingAuc: counting.bins.auc(),
      countingCalibration: counting.calibration,
      countingNormalisedEntropy: counting.logLoss / counting.entropy,
    };
    const finite = Object.entries(known).filter(([, value]) => Number.isFinite(value));
    return { atMs, samples: this.#samples, positives: this.#positives, training: this.#frozen === 0, ...Object.fromEntries(finite) };
  }

  save(into: ByteWriter): void {
    writeF64s(into, [this.#samples, this.#positives, this.#frozen]);
    this.#model.save(into);
    this.#counting.save(into);
  }

  load(from: ByteReader): void {
    const counts = readF64s(from);
    if (counts.length !== 3) throw from.damaged("counts of another shape");
    [this.#samples, this.#positives, this.#frozen] = [counts[0]!, counts[1]!, counts[2]!];
    this.#model.load(from);
    this.#counting.load(from);
  }
}
