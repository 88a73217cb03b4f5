// The trainer: restarts change nothing, negatives at a rate stay calibrated, a broken stream stops it, the switch works, bad features cost one sample.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Prng } from "#base/prng";
import type { SlotRows } from "#extract/slot-rows";
import { readMachineCheckpoint, rowRecordHeadWords } from "#models/machine-checkpoint";
import { systemClock } from "#platform/system-clock";
import { clickStream, type ClickStream, newMachine, switchRecord } from "./click-stream.fuzz.ts";
import { type Checkpoint, decodeCheckpoint, encodeCheckpoint } from "./checkpoint.ts";
import { Trainer, trainingDefaults, type TrainingOptions } from "./trainer.ts";

const seed = Number(process.env["SEED"] ?? 20_260_303);

const options = (some: Partial<TrainingOptions> = {}): TrainingOptions => ({
  ...trainingDefaults,
  positiveTypes: ["click"],
  windowMs: 1_000,
  latenessMs: 5_000,
  earlyMs: 500,
  ...some,
});

interface Run {
  readonly stream: Pick<ClickStream, "extractor" | "records">;
  readonly options: TrainingOptions;
  readonly learned?: (samples: SlotRows) => void;
}

function start({ stream: { extractor, records }, options: some, learned }: Run): Trainer {
  return new Trainer({
    options: some,
    extractor,
    machine: newMachine(),
    read: async (offset) => {
      await Promise.resolve();
      return offset < records.length ? { firstOffset: offset, records: records.slice(offset, offset + 50) } : undefined;
    },
    ...(learned === undefined ? {} : { learned }),
  });
}

async function takeUntil(trainer: Trainer, { stream: { records } }: Run, end = records.length): Promise<void> {
  while (trainer.offset < end) {
    const waiting = trainer.take(records[trainer.offset]!, trainer.offset);
    if (waiting !== undefined) await waiting;
  }
  trainer.flush();
}

async function saved(trainer: Trainer): Promise<Checkpoint> {
  const parts = trainer.save()!;
  return decodeCheckpoint(await encodeCheckpoint({ extractorId: 1, optionsHash: 2, offset: trainer.offset, writtenMs: 3, parts }, systemClock));
}

/** Everything that a person or a later sample can see. */
function state(trainer: Trainer): unknown {
  return {
    offset: trainer.offset,
    state: trainer.state,
    reason: trainer.reason,
    total: trainer.quality.total(),
    minutes: trainer.quality.history.points(2),
    seconds: trainer.quality.history.points(0),
    counts: trainer.joiner.counts,
    parts: trainer.save(),
  };
}

/** All of a machine's rows with state and versions; what its buckets have counted goes on when it is taken back. */
function rowsOf(parts: readonly Uint8Array[]): number[][] {
  const { head, rows } = readMachineCheckpoint(parts);
  const records: number[][] = [];
  rows((words, at) => records.push([...words.subarray(at, at + rowRecordHeadWords + head.dims + head.stateNumbers)]));
  return records;
}

test("promise: a restart in the middle of training continues with the same prequential figures, bit for bit", async (t) => {
  const cuts = new Prng(seed).fork("cuts");
  for (const [negativeRate, cacheBytesMax] of [
    [1, 1e6],
    [0.2, 0],
  ] as const) {
    const run: Run = { stream: clickStream(2_500, { seed: `${seed} ${negativeRate}` }), options: options({ negativeRate, cacheBytesMax }) };
    const { records } = run.stream;
    const whole = start(run);
    await takeUntil(whole, run);
    let cut = start(run);
    for (const at of Array.from({ length: 8 }, () => cuts.below(records.length)).toSorted((a, b) => a - b)) {
      await takeUntil(cut, run, at);
      const checkpoint = await saved(cut);
      // Further than the checkpoint, and then the process is gone.
      await takeUntil(cut, run, Math.min(records.length, at + cuts.below(200)));
      cut = start(run);
      cut.load(checkpoint);
      assert.equal(cut.offset, at);
    }
    await takeUntil(cut, run);
    assert.deepEqual(state(cut), state(whole), `seed ${seed}`);
    const { samples, logLoss, auc } = whole.quality.total();
    assert.ok(samples > (negativeRate === 1 ? 9_000 : 2_000));
    t.diagnostic(`rate ${negativeRate}: ${samples} samples, 8 restarts, log loss ${logLoss!.toFixed(4)}, AUC ${auc!.toFixed(4)}`);
  }
});

test("how many samples wait for one call of the kernel changes nothing", async () => {
  const run: Run = { stream: clickStream(600, { seed }), options: options() };
  const whole = start(run);
  await takeUntil(whole, run);
  const single = start(run);
  for (const [offset, bytes] of run.stream.records.entries()) {
    await single.take(bytes, offset);
    single.flush();
  }
  assert.deepEqual(state(single), state(whole));
});

test("the model learns better than the counting model; with one negative in a hundred kept the log odds stay calibrated", async (t) => {
  const answers = 10_000;
  const stream = clickStream(answers, { seed });
  assert.ok(Math.abs(stream.clicks / stream.expected - 1) < 0.05, "the stream itself clicks as it says");
  const all: Run = { stream, options: options() };
  const everything = start(all);
  await takeUntil(everything, all);
  const { auc, countingAuc, logLoss, countingLogLoss, calibration } = everything.quality.total();
  assert.ok(auc! > countingAuc! + 0.03 && logLoss! < countingLogLoss!, JSON.stringify(everything.quality.total()));
  assert.ok(Math.abs(calibration! - 1) < 0.1, `calibration ${calibration}`);
  t.diagnostic(
    `${answers * 4} samples: AUC ${countingAuc!.toFixed(3)} -> ${auc!.toFixed(3)}, log loss ${countingLogLoss!.toFixed(4)} -> ${logLoss!.toFixed(4)}`,
  );

  const few: Run = { stream, options: options({ negativeRate: 0.01 }) };
  const kept = start(few);
  await takeUntil(kept, few);
  const figures = kept.quality.total();
  // A kept negative stands for a hundred, so the figure itself is off by about 1 / sqrt(350).
  assert.ok(Math.abs(figures.calibration! - 1) < 0.15, `calibration ${figures.calibration}`);
  // A model that believed its samples would predict their share of positives.
  const believed = figures.positives / figures.samples / (stream.clicks / (4 * answers));
  assert.ok(believed > 4, `believed ${believed}`);
  t.diagnostic(`${figures.samples} of them at rate 0.01: calibration ${figures.calibration!.toFixed(3)}, without the correction ${believed.toFixed(1)}`);
});

test("promise: a poisoned stream stops training, takes the parameters back and says why; switched on again it goes on", async (t) => {
  const answers = 6_000;
  const run: Run = {
    stream: clickStream(answers, { seed, base: -4, poisonFrom: 4_500 }),
    options: options({ guard: { ...trainingDefaults.guard, shortSamples: 500 } }),
  };
  const trainer = start(run);
  await takeUntil(trainer, run, 4_000);
  const parts = trainer.save()!.filter(({ name }) => name === "machine");
  assert.equal(trainer.state, "learning");
  await takeUntil(trainer, run);
  assert.equal(trainer.state, "stopped");
  assert.match(trainer.reason, /log loss .* taken back .* switch training on again/s);
  assert.deepEqual(rowsOf(trainer.machine.save()), rowsOf(parts.map(({ bytes }) => bytes)));
  t.diagnostic(trainer.reason);
  // It is judged on, learns nothing, and a restart remembers.
  const checkpoint = await saved(trainer);
  const again = start(run);
  again.load(checkpoint);
  assert.deepEqual([again.state, again.reason], ["stopped", trainer.reason]);
  await again.take(switchRecord(true, 1.8e12), again.offset);
  assert.deepEqual([again.state, again.reason], ["learning", ""]);
});

test("where the guard trips does not depend on how many samples wait, nor do the figures behind it", async () => {
  const run: Run = {
    stream: clickStream(3_000, { seed, base: -4, poisonFrom: 2_000 }),
    options: options({ guard: { ...trainingDefaults.guard, shortSamples: 500 } }),
  };
  const whole = start(run);
  await takeUntil(whole, run);
  const single = start(run);
  for (const [offset, bytes] of run.stream.records.entries()) {
    await single.take(bytes, offset);
    single.flush();
  }
  assert.equal(whole.state, "stopped");
  assert.deepEqual(state(single), state(whole));
});

test("parameters that are no numbers: no save, parameters taken back, a reason", async () => {
  const run: Run = { stream: clickStream(200, { seed }), options: options() };
  const trainer = start(run);
  await takeUntil(trainer, run, 300);
  const good = trainer.save()!;
  // Rows take no such number: their memory went wrong.
  const values = new Float32Array(trainer.machine.table.dims);
  const key = run.stream.extractor.initialWeights().keys.subarray(0, 2);
  trainer.machine.table.pull(key, 1, values);
  const { table } = trainer.machine;
  const { f32 } = table.shard.memory;
  f32[f32.findIndex((_, i) => i > table.shard.at / 4 && values.every((value, j) => f32[i + j] === value))] = NaN;
  assert.equal(trainer.save(), undefined);
  assert.equal(trainer.state, "stopped");
  assert.match(trainer.reason, /no number/);
  assert.ok(trainer.machine.finite());
  assert.deepEqual(rowsOf(trainer.machine.save()), rowsOf(good.filter(({ name }) => name === "machine").map(({ bytes }) => bytes)));
});

test("switched off it is judged and learns nothing; the figures say so; switched on it learns", async () => {
  const run: Run = { stream: clickStream(800, { seed }), options: options() };
  const records = [...run.stream.records];
  records.splice(400, 0, switchRecord(false, 1_700_000_000_000, "to look at drift"));
  records.splice(1_000, 0, switchRecord(true, 1_700_000_000_000));
  let learned = 0;
  const switched: Run = { stream: { ...run.stream, records }, options: run.options, learned: (rows) => (learned += rows.rows) };
  const trainer = start(switched);
  await takeUntil(trainer, switched, 401);
  assert.deepEqual([trainer.state, trainer.reason], ["off", "to look at drift"]);
  const before = trainer.machine.save();
  const learnedBefore = learned;
  const samplesBefore = trainer.quality.samples;
  await takeUntil(trainer, switched, 1_000);
  assert.deepEqual(trainer.machine.save(), before);
  assert.equal(learned, learnedBefore);
  assert.ok(trainer.quality.samples > samplesBefore + 300);
  assert.ok(trainer.quality.history.points(0).some(({ training }) => !training));
  await takeUntil(trainer, switched);
  assert.equal(trainer.state, "learning");
  assert.ok(learned > learnedBefore);
});

test("a sample whose features cannot be read is counted; one of another extractor too; the trainer goes on", async () => {
  const run: Run = { stream: clickStream(10, { seed }), options: options() };
  const trainer = start(run);
  const sample = {
    recommendationId: "r",
    user: "u",
    item: "i",
    position: 0,
    label: 1,
    rate: 1,
    atMs: 1,
    clockMs: 1,
    servedLogit: NaN,
    countingLogit: NaN,
  } as const;
  const { extractor } = run.stream;
  const [userBytes, itemBytes] = [extractor.encodeUser(["u"]), extractor.encodeItem(["i", "c"])];
  trainer.add({ ...sample, extractorId: extractor.id, userBytes: userBytes.subarray(1), itemBytes, signals: new Float32Array(1) });
  trainer.add({ ...sample, extractorId: extractor.id, userBytes, itemBytes, signals: new Float32Array(0) });
  trainer.add({ ...sample, extractorId: extractor.id + 1, userBytes, itemBytes, signals: new Float32Array(1) });
  trainer.add({ ...sample, extractorId: extractor.id, userBytes, itemBytes, signals: new Float32Array(1) });
  trainer.flush();
  assert.deepEqual([trainer.unreadable, trainer.quality.samples], [3, 1]);
  await takeUntil(trainer, run);
  assert.ok(trainer.quality.samples > 30);
});
