// Learns a played log over again and judges it: real joiner, extractor and machine, record by record; every served item is predicted when its record comes, by
// each of several readers of the parameters, before anything behind it is learned.
//   reader = a machine that takes over the trainer's parameters every so often (Monolith's Algorithm 1: serving := training), and in between predicts with what it has
// Judged by the true probabilities: the gap of a prediction q is KL(p || q) = p ln(p/q) + (1-p) ln((1-p)/(1-q)), the expected log loss of q less that of the oracle.
// The expectation over clicks leaves out their luck, which is many times larger than what is measured. Pooled AUC is of the clicks themselves.
// Invariants: 1. predictions are prequential  2. all readers and all counting models are judged on the same impressions  3. times are the world's.

import { type ActivityRecord, decodeRecord, RecordWriter, type ServedRecord } from "#features/activity-record";
import { SlotRows } from "#extract/slot-rows";
import type { ModelConfig } from "#gateway/index";
import type { FactorisationMachine } from "#models/factorisation-machine";
import { createModel, trainingOptionsOf } from "#roles/model-parts";
import { featuresOf } from "#training/served-answer";
import { Trainer } from "#training/trainer";
import type { CountingModel } from "./counting-models.ts";
import type { PlayedLog } from "./play-log.ts";

export interface ReaderPlan {
  readonly name: string;
  /** Takes over the parameters so often, the first time at minute `fromMinute`; 0: reads the trainer's own; Infinity: that once. */
  readonly everyMs: number;
  readonly fromMinute?: number;
}

export interface JudgedOf {
  readonly name: string;
  /** Sum of gaps by minute. */
  readonly gap: Float64Array;
  /** Of every impression, in order. */
  readonly predictions: Float32Array;
}

export interface Relearned {
  /** Impressions by minute. */
  readonly shown: Float64Array;
  readonly minuteOf: Uint16Array;
  readonly clicked: Uint8Array;
  readonly readers: readonly JudgedOf[];
  readonly counting: readonly JudgedOf[];
  readonly samples: number;
  readonly rows: number;
}

interface Reader extends ReaderPlan {
  readonly machine: FactorisationMachine;
  nextMs: number;
}

/** Chances are cut to this and its complement before they are judged. */
const chanceMin = 1e-6;

/** Expected log loss of `q` beyond that of the true probability `p`. */
export function gapOf(p: number, q: number): number {
  const chance = Math.min(1 - chanceMin, Math.max(chanceMin, q));
  return (p > 0 ? p * Math.log(p / chance) : 0) + (p < 1 ? (1 - p) * Math.log((1 - p) / (1 - chance)) : 0);
}

export interface RelearnOptions {
  /** False: as if training had never been switched. Default true. */
  readonly switches?: boolean;
  /** Learns in these minutes only, [from, to). Default: always. */
  readonly learnMinutes?: readonly [from: number, to: number];
}

export async function relearn(
  log: PlayedLog,
  config: ModelConfig,
  plans: readonly ReaderPlan[],
  counting: readonly CountingModel[],
  { switches = true, learnMinutes }: RelearnOptions = {},
): Promise<Relearned> {
  const { extractor, model } = createModel(config);
  const { records, truth, beginMs, minutes } = log;
  const trainer = new Trainer({
    options: trainingOptionsOf(config),
    extractor,
    machine: model.machine,
    read: (offset) => Promise.resolve({ firstOffset: offset, records: [records[offset]!] }),
  });
  const readers: Reader[] = plans.map((plan) => ({
    ...plan,
    machine: plan.everyMs === 0 ? model.machine : createModel(config).model.machine,
    nextMs: beginMs + (plan.fromMinute ?? 0) * 60_000,
  }));
  const impressions = [...truth.values()].reduce((sum, { length }) => sum + length, 0);
  const judged = ({ name }: { readonly name: string }): JudgedOf => ({
    name,
    gap: new Float64Array(minutes),
    predictions: new Float32Array(impressions),
  });
  const ofReaders = readers.map(judged);
  const ofCounting = counting.map(judged);
  const shown = new Float64Array(minutes);
  const minuteOf = new Uint16Array(impressions);
  const clicked = new Uint8Array(impressions);
  const places = new Map<string, { readonly from: number; readonly items: readonly string[] }>();
  const rows = new SlotRows(16, 64);
  const logits = new Float32Array(1_024);
  let at = 0;

  const sync = (nowMs: number): void => {
    for (const reader of readers) {
      if (reader.everyMs === 0 || nowMs < reader.nextMs) continue;
      trainer.flush();
      reader.machine.load(model.machine.save());
      reader.nextMs = reader.everyMs === Infinity ? Infinity : nowMs + reader.everyMs;
    }
  };

  const judge = (record: ServedRecord): void => {
    const chances = truth.get(record.recommendationId);
    const features = featuresOf(record);
    if (chances === undefined || features === undefined) return;
    trainer.flush();
    const minute = Math.min(minutes - 1, Math.floor((record.atMs - beginMs) / 60_000));
    rows.clear();
    features.items.forEach(({ item, signals }, position) => extractor.sampleSlots(features.user, position, item, signals, rows));
    readers.forEach(({ machine }, index) => {
      machine.evaluate(rows, logits);
      put(ofReaders[index]!, chances, minute, (place) => 1 / (1 + Math.exp(-logits[place]!)));
    });
    counting.forEach((one, index) => {
      const predicted = one.served(record);
      put(ofCounting[index]!, chances, minute, (place) => predicted[place]!);
    });
    minuteOf.fill(minute, at, at + chances.length);
    places.set(record.recommendationId, { from: at, items: record.items });
    shown[minute]! += chances.length;
    at += chances.length;
  };
  const put = (into: JudgedOf, chances: Float64Array, minute: number, chanceOf: (place: number) => number): void => {
    for (let place = 0; place < chances.length; place += 1) {
      const chance = chanceOf(place);
      into.predictions[at + place] = chance;
      into.gap[minute]! += gapOf(chances[place]!, chance);
    }
  };

  // A switch that the log does not have takes the place of an event that is no positive, which says nothing to a trainer.
  let on = true;
  const givenFor = (record: ActivityRecord): Uint8Array | undefined => {
    if (record.kind === "training" && !switches) return new RecordWriter(64).encode({ ...record, on: true });
    if (learnMinutes === undefined || record.kind !== "event" || config.samples.positiveTypes.includes(record.type)) return undefined;
    const minute = (record.receivedMs - beginMs) / 60_000;
    const should = minute >= learnMinutes[0] && minute < learnMinutes[1];
    if (should === on) return undefined;
    on = should;
    return new RecordWriter(64).encode({ kind: "training", atMs: record.receivedMs, on, reason: "bench" });
  };

  for (let offset = 0; offset < records.length; offset += 1) {
    const record = decodeRecord(records[offset]!);
    if (record.kind === "served") {
      sync(record.atMs);
      judge(record);
    } else {
      for (const one of counting) one.take(record);
      if (record.kind === "event" && config.samples.positiveTypes.includes(record.type)) {
        const answer = places.get(record.recommendationId);
        const place = answer?.items.indexOf(record.item) ?? -1;
        if (place >= 0) clicked[answer!.from + place] = 1;
      }
    }
    const waiting = trainer.take(givenFor(record) ?? records[offset]!, offset);
    if (waiting !== undefined) await waiting;
  }
  trainer.flush();
  return { shown, minuteOf, clicked, readers: ofReaders, counting: ofCounting, samples: trainer.quality.samples, rows: model.machine.rowCount };
}

/** Mean gap of an impression over minutes [from, to). */
export function meanGap({ shown }: Relearned, { gap }: JudgedOf, from: number, to: number): number {
  let sum = 0;
  let count = 0;
  for (let minute = from; minute < to; minute += 1) {
    sum += gap[minute]!;
    count += shown[minute]!;
  }
  return sum / Math.max(1, count);
}

/** Pooled AUC of the clicks of minutes [from, to), ties by mid-ranks. */
export function pooledAuc({ minuteOf, clicked }: Relearned, { predictions }: JudgedOf, from: number, to: number): number {
  const rows = [...minuteOf.keys()].filter((row) => minuteOf[row]! >= from && minuteOf[row]! < to).sort((a, b) => predictions[a]! - predictions[b]!);
  let positives = 0;
  let ranks = 0;
  for (let first = 0; first < rows.length;) {
    let last = first;
    let wanted = 0;
    while (last < rows.length && predictions[rows[last]!] === predictions[rows[first]!]) wanted += clicked[rows[last++]!]!;
    positives += wanted;
    ranks += wanted * ((first + last + 1) / 2);
    first = last;
  }
  return (ranks - (positives * (positives + 1)) / 2) / (positives * (rows.length - positives));
}

/** Mean log loss of the clicks of minutes [from, to). */
export function pooledLogLoss({ minuteOf, clicked }: Relearned, { predictions }: JudgedOf, from: number, to: number): number {
  let sum = 0;
  let count = 0;
  for (let row = 0; row < minuteOf.length; row += 1) {
    if (minuteOf[row]! < from || minuteOf[row]! >= to) continue;
    const chance = Math.min(1 - chanceMin, Math.max(chanceMin, predictions[row]!));
    sum -= Math.log(clicked[row] === 1 ? chance : 1 - chance);
    count += 1;
  }
  return sum / Math.max(1, count);
}
