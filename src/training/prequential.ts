// Prequential quality of the model that learns: each sample is predicted first and learned after, so every figure is of unseen data.
// Source: Dawid, "Statistical theory: the prequential approach", J. R. Statist. Soc. A 147 (1984).
// Invariants: 1. a function of the samples and the record clock alone  2. save and load give back every bit, also of stretches that are still open
// 3. stretches are cut by the record clock at whole multiples of their width; one without samples leaves no point  4. the clock never goes back.
// Cost: four open stretches a sample, about 0.2 us; 130 KiB and the history (quality-history.ts). A checkpoint of a full history takes 1.5 MB.
// Concurrency: one thread.

import { ByteReader } from "#base/byte-reader";
import { ByteWriter } from "#base/byte-writer";
import type { QualityPoint } from "#wire/live-api";
import { readCount, stateTodo } from "./number-lists.ts";
import { QualityHistory, qualityWidths } from "./quality-history.ts";
import { type QualityFigures, QualityStretch } from "./quality-stretch.ts";

const version = 1;

export class Prequential {
  readonly history = new QualityHistory();
  readonly #total = new QualityStretch();
  readonly #open = qualityWidths.map(() => ({ stretch: new QualityStretch(), beginMs: -Infinity, endMs: -Infinity }));
  #clockMs = -Infinity;
  #nextEndMs = -Infinity;

  get samples(): number {
    return this.#total.samples;
  }
  get positives(): number {
    return this.#total.positives;
  }

  /** Moves the record clock; closes the stretches that are over. */
  advance(clockMs: number): void {
    if (clockMs <= this.#clockMs) return;
    this.#clockMs = clockMs;
    if (clockMs < this.#nextEndMs) return;
    this.#nextEndMs = Infinity;
    for (const [width, open] of this.#open.entries()) {
      if (clockMs >= open.endMs) {
        this.#close(width);
        const { everyMs } = qualityWidths[width]!;
        open.beginMs = Math.floor(clockMs / everyMs) * everyMs;
        open.endMs = open.beginMs + everyMs;
      }
      this.#nextEndMs = Math.min(this.#nextEndMs, open.endMs);
    }
  }

  /** One sample with the logit that stood before it was learned. Belongs to the stretch of the clock. */
  add(logit: number, countingLogit: number, positive: boolean, rate: number, learning: boolean): void {
    for (const { stretch } of this.#open) stretch.add(logit, countingLogit, positive, rate, learning);
    this.#total.add(logit, countingLogit, positive, rate, learning);
  }

  /** Of everything since the model began. */
  total(): QualityFigures {
    return this.#total.figures(this.#clockMs);
  }

  /** The newest closed minute; before there is one, what the open one holds so far; `undefined` without samples. */
  recent(): QualityPoint | undefined {
    const minute = this.#open.at(-1)!;
    return this.history.newest(qualityWidths.length - 1) ?? (minute.stretch.samples === 0 ? undefined : minute.stretch.figures(minute.beginMs));
  }

  save(): Uint8Array {
    const into = new ByteWriter(64 * 1024);
    into.u8(version);
    into.f64(this.#clockMs);
    into.f64(this.#nextEndMs);
    this.#total.save(into);
    for (const [width, { stretch, beginMs, endMs }] of this.#open.entries()) {
      into.f64(beginMs);
      into.f64(endMs);
      stretch.save(into);
      const points = this.history.points(width);
      into.varint(points.length);
      for (const point of points) savePoint(point, into);
    }
    return into.since(0);
  }

  /** Throws `corrupt` for bytes that `save` did not write. */
  load(bytes: Uint8Array): void {
    const from = new ByteReader(bytes, "prequential figures", stateTodo);
    if (from.u8() !== version) throw from.damaged("another version");
    this.#clockMs = from.f64();
    this.#nextEndMs = from.f64();
    this.#total.load(from);
    for (const [width, open] of this.#open.entries()) {
      open.beginMs = from.f64();
      open.endMs = from.f64();
      open.stretch.load(from);
      const count = readCount(from, 8 * pointFields.length);
      for (let i = 0; i < count; i += 1) this.history.push(width, loadPoint(from));
    }
    from.end();
  }

  #close(width: number): void {
    const { stretch, beginMs } = this.#open[width]!;
    if (stretch.samples === 0) return;
    const point = stretch.figures(beginMs);
    stretch.clear();
    this.history.push(width, point);
  }
}

/** Numbers of a point in the order in which they are saved; NaN = absent. */
const pointFields = [
  "logLoss",
  "auc",
  "calibration",
  "normalisedEntropy",
  "countingLogLoss",
  "countingAuc",
  "countingCalibration",
  "countingNormalisedEntropy",
] as const satisfies readonly (keyof QualityFigures)[];

function savePoint(point: QualityFigures, into: ByteWriter): void {
  into.f64(point.atMs);
  into.f64(point.samples);
  into.f64(point.positives);
  into.u8(point.training ? 1 : 0);
  for (const field of pointFields) into.f64(point[field] ?? NaN);
}

function loadPoint(from: ByteReader): QualityFigures {
  const [atMs, samples, positives] = [from.f64(), from.f64(), from.f64()];
  const training = from.u8() === 1;
  const known = pointFields.map((field) => [field, from.f64()] as const).filter(([, value]) => !Number.isNaN(value));
  return { atMs, samples, positives, training, ...Object.fromEntries(known) };
}
