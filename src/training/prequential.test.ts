// Figures of quality against sums by hand and an AUC by sorting; saved and restored at any point they go on bit for bit.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Prng } from "#base/prng";
import { Prequential } from "./prequential.ts";
import { QualityHistory, qualityWidths } from "./quality-history.ts";
import { logLossOf, QualityStretch, sigmoid } from "./quality-stretch.ts";
import { logitBinWidth, RankedBins } from "./ranked-bins.ts";

const seed = Number(process.env["SEED"] ?? 20_260_301);

/** AUC by sorting: ranks of the positives, ties sharing their middle rank, each sample as often as it weighs. O(n log n). */
function aucBySorting(samples: readonly { logit: number; positive: boolean; weight: number }[]): number {
  const sorted = samples.toSorted((a, b) => a.logit - b.logit);
  let below = 0;
  let pairs = 0;
  let positives = 0;
  for (let from = 0; from < sorted.length;) {
    let to = from;
    let tiedNegatives = 0;
    let tiedPositives = 0;
    for (; to < sorted.length && sorted[to]!.logit === sorted[from]!.logit; to += 1) {
      if (sorted[to]!.positive) tiedPositives += sorted[to]!.weight;
      else tiedNegatives += sorted[to]!.weight;
    }
    pairs += tiedPositives * (below + tiedNegatives / 2);
    below += tiedNegatives;
    positives += tiedPositives;
    from = to;
  }
  return pairs / (positives * below);
}

test("AUC by bins: exact on logits that stand in the middle of bins, near it elsewhere", (t) => {
  const prng = new Prng(seed).fork("auc");
  t.diagnostic(`seed ${seed}`);
  let errorMax = 0;
  for (let round = 0; round < 30; round += 1) {
    const bins = new RankedBins();
    const onGrid = round % 2 === 0;
    const samples = Array.from({ length: prng.between(2, 2_000) }, (_, index) => {
      const drawn = Math.max(-11, Math.min(11, prng.normal(-2, 1 + (round % 5))));
      const logit = onGrid ? (Math.floor(drawn / logitBinWidth) + 0.5) * logitBinWidth : drawn;
      const positive = index === 0 || (index > 1 && prng.chance(sigmoid(logit)));
      return { logit, positive, weight: positive ? 1 : prng.pick([1, 10, 100]) };
    });
    for (const { logit, positive, weight } of samples) bins.add(logit, positive, weight);
    const error = Math.abs(bins.auc() - aucBySorting(samples));
    if (onGrid) assert.ok(error < 1e-12, `round ${round}: off by ${error}`);
    else if (samples.length > 200) errorMax = Math.max(errorMax, error);
  }
  assert.ok(errorMax < 0.01, `off by ${errorMax}`);
  t.diagnostic(`largest error off the grid, 200 samples or more: ${errorMax.toExponential(1)}`);
});

test("AUC is not known while one class is missing, and half for equal logits", () => {
  const bins = new RankedBins();
  assert.ok(Number.isNaN(bins.auc()));
  bins.add(1, true, 1);
  assert.ok(Number.isNaN(bins.auc()));
  bins.add(1, false, 7);
  assert.equal(bins.auc(), 0.5);
  bins.add(-50, false, 7);
  assert.equal(bins.auc(), 0.75);
  bins.clear();
  assert.ok(Number.isNaN(bins.auc()));
});

test("a stretch's figures against sums by hand, weighted by 1 / rate", () => {
  const stretch = new QualityStretch();
  stretch.add(Math.log(0.2 / 0.8), 0, true, 0.1, true);
  stretch.add(Math.log(0.1 / 0.9), NaN, false, 0.1, true);
  const figures = stretch.figures(5);
  const near = (value: number | undefined, wanted: number): void => assert.ok(Math.abs(value! - wanted) < 1e-12, `${value} is not ${wanted}`);
  near(figures.logLoss, (-Math.log(0.2) - 10 * Math.log(0.9)) / 11);
  near(figures.calibration, 0.2 + 10 * 0.1);
  const share = 1 / 11;
  near(figures.normalisedEntropy, figures.logLoss! / -(share * Math.log(share) + (1 - share) * Math.log(1 - share)));
  near(figures.countingLogLoss, Math.log(2));
  near(figures.auc, 1);
  assert.equal(figures.countingAuc, undefined, "the counting model has seen no negative");
  assert.deepEqual([figures.samples, figures.positives, figures.training, figures.atMs], [2, 1, true, 5]);
  stretch.add(0, 0, true, 1, false);
  assert.equal(stretch.figures(5).training, false);
});

test("log loss stays exact and finite at both ends", () => {
  assert.ok(Math.abs(logLossOf(0, true) - Math.log(2)) < 1e-15);
  assert.equal(logLossOf(-800, true), 800);
  assert.equal(logLossOf(800, false), 800);
  assert.ok(logLossOf(40, true) > 0 && logLossOf(40, true) < 1e-17);
});

function feed(into: Prequential, prng: Prng, clock: { ms: number }, count: number): void {
  for (let i = 0; i < count; i += 1) {
    if (prng.chance(0.3)) clock.ms += prng.between(1, prng.chance(0.02) ? 200_000 : 900);
    into.advance(clock.ms);
    const logit = prng.normal(-2, 1.5);
    into.add(logit, prng.chance(0.9) ? logit + prng.normal(0, 0.5) : NaN, prng.chance(sigmoid(logit)), prng.pick([0.01, 0.1, 1]), prng.chance(0.99));
  }
}

test("promise: the prequential figures go on bit for bit from a save at any point", () => {
  const whole = new Prequential();
  const wholeClock = { ms: 1_700_000_000_000 };
  const wholePrng = new Prng(seed).fork("stream");
  const cut = { current: new Prequential(), clock: { ms: 1_700_000_000_000 }, prng: new Prng(seed).fork("stream") };
  const cuts = new Prng(seed).fork("cuts");
  for (let round = 0; round < 40; round += 1) {
    const count = cuts.between(0, 120);
    feed(whole, wholePrng, wholeClock, count);
    feed(cut.current, cut.prng, cut.clock, count);
    const saved = cut.current.save();
    assert.deepEqual(saved, whole.save(), `seed ${seed}, round ${round}`);
    cut.current = new Prequential();
    cut.current.load(saved);
  }
  for (const width of qualityWidths.keys()) assert.deepEqual(cut.current.history.points(width), whole.history.points(width));
  assert.deepEqual(cut.current.total(), whole.total());
  assert.ok(whole.history.points(0).length > 100);
});

test("a damaged state is refused, not believed", () => {
  const whole = new Prequential();
  feed(whole, new Prng(seed), { ms: 1_000 }, 200);
  const saved = whole.save();
  assert.throws(() => new Prequential().load(saved.subarray(0, saved.length - 1)), { code: "corrupt" });
  assert.throws(() => new Prequential().load(new Uint8Array([1])), { code: "corrupt" });
  const longer = new Uint8Array(saved.length + 1);
  longer.set(saved);
  assert.throws(() => new Prequential().load(longer), { code: "corrupt" });
});

test("stretches are cut by the record clock, empty ones leave no point, the clock never goes back", () => {
  const quality = new Prequential();
  quality.advance(10_500);
  quality.add(0, NaN, true, 1, true);
  quality.advance(9_000);
  quality.add(0, NaN, false, 1, true);
  quality.advance(10_999);
  assert.deepEqual(quality.history.points(0), []);
  quality.advance(14_000);
  assert.deepEqual(
    quality.history.points(0).map(({ atMs, samples }) => [atMs, samples]),
    [[10_000, 2]],
  );
  quality.advance(75_000);
  assert.deepEqual(
    qualityWidths.map((_, width) => quality.history.points(width).map(({ atMs }) => atMs)),
    [[10_000], [10_000], [0]],
  );
  assert.equal(quality.recent()!.samples, 2);
});

test("the history is bounded in each width and answers in the finest that is kept for so long", () => {
  const history = new QualityHistory();
  const point = (atMs: number) => ({ atMs, samples: 1, positives: 0, training: true });
  for (let second = 0; second < 3_000; second += 1) history.push(0, point(second * 1_000));
  for (let ten = 0; ten < 4_000; ten += 1) history.push(1, point(ten * 10_000));
  assert.equal(history.points(0).length, 900);
  assert.equal(history.points(0).at(-1)!.atMs, 2_999_000);
  assert.equal(history.points(1).length, 2_160);
  assert.equal(history.answer(1).everyMs, 1_000);
  assert.equal(history.answer(16).everyMs, 10_000);
  assert.equal(history.answer(60).points.length, 360);
  assert.equal(history.answer(1e9).everyMs, 60_000);
  assert.deepEqual(
    history.after(0, 2_996_000).map(({ atMs }) => atMs),
    [2_997_000, 2_998_000, 2_999_000],
  );
  assert.deepEqual(new QualityHistory().answer(5).points, []);
});
