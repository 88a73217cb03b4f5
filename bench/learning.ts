// learning: how close the learned model's probabilities come to the true ones, beside counting models, and what fresh parameters are worth.
// Work: the demo world played against the gateway of the default preset in this process, pages ranked by the model while it learns; the log of the play is then learned
// again by the real joiner, extractor and machine, and every served item predicted before anything behind it is learned (bench/learning/relearn.ts).
//   gap        mean over served items of KL(true probability || prediction): the expected log loss beyond the oracle's. Expected over clicks, since their luck is many
//              times larger than what is measured.
//   peer       the best of several counting models (bench/learning/counting-models.ts), tuned and corrected by counting; the product's own stands beside it
//   worlds     half the demo world (1,000 viewers, 1,500 rooms, 20 page views a second: as many views a viewer and a room as by default), smaller ones for long runs
//   drift      every viewer takes a new taste at once while training is off. `recovered`: within `recoverMinutes` of switching it on again, the gap is back at
//              `recoverWithin` times that of a twin which never stopped, on the same impressions
//   table sync Algorithm 1 of Monolith (arXiv 2209.07663): serving := training every second, minute, hour, or never after the first minutes. Beside it the same in a world
//              where nothing changes. There too a table that is never synced is worse, because it has seen fewer samples; so freshness alone is judged by two models of equally
//              many samples, one of them of 40 minutes before (`older_gap_ratio`): without drift that must be 1
// All times are the world's.

import { defaultConfig, type GatewayConfig } from "#gateway/index";
import { responseOptionsOf } from "#gateway/config";
import { type CountingModel, chainOfCounts, inSteps, patient, responsesModel } from "./learning/counting-models.ts";
import { type LogPlay, playLog } from "./learning/play-log.ts";
import { type JudgedOf, meanGap, pooledAuc, pooledLogLoss, type ReaderPlan, type Relearned, relearn } from "./learning/relearn.ts";
import type { Scenario } from "./harness.ts";

const seeds = [1, 2, 3];
const half = { viewers: 1_000, rooms: 1_500 };
const eighth = { viewers: 250, rooms: 375 };
const tenth = { viewers: 200, rooms: 300 };
/** Of the comparison of old and young parameters. */
const learnedMinutes = 20;
const judgedMinutes = 10;
const fresh: readonly ReaderPlan[] = [{ name: "as it learns", everyMs: 0 }];
/** Minutes before anything is judged. */
const warmMinutes = 5;
const off = { offMinute: 9, driftMinute: 10, onMinute: 13, minutes: 20 };
const recoverMinutes = 5;
const recoverWithin = 1.1;
const minuteMs = 60_000;

export const scenario: Scenario = {
  name: "learning",
  head: "the learned model's gap to the true probabilities beside counting models, with training off and on, and by how often tables are synced",
  async run({ quick, report, log }) {
    const model = defaultConfig.model!;
    const config: GatewayConfig = defaultConfig;
    const play = (minutes: number, viewsPerS: number, world: LogPlay["world"], more: Partial<LogPlay> = {}) =>
      playLog({ config, pipeline: "home", minutes, viewsPerS, world, rankedBy: "model", ...more });

    // ---- against counting ----
    const minutes = quick ? 2 : 12;
    const from = quick ? 1 : warmMinutes;
    const against = async (seed: number, rankedBy: LogPlay["rankedBy"]) => {
      const played = await play(minutes, quick ? 4 : 20, { seed, ...(quick ? eighth : half) }, { rankedBy });
      const judged = await relearn(played, model, fresh, countingModels());
      const mean = (one: JudgedOf): number => meanGap(judged, one, from, minutes);
      const reader = judged.readers[0]!;
      const gap = mean(reader);
      const ranked = judged.counting
        .map((one) => ({ name: one.name, gap: mean(one), auc: pooledAuc(judged, one, from, minutes) }))
        .sort((a, b) => a.gap - b.gap);
      const own = ranked.find(({ name }) => name === ownCounting)!;
      const best = ranked[0]!;
      log(
        `seed ${seed}, pages ranked by ${rankedBy}: model ${gap.toFixed(4)} (AUC ${pooledAuc(judged, reader, from, minutes).toFixed(4)}), ${judged.samples} samples, ${judged.rows} rows`,
      );
      for (const one of ranked) log(`  ${one.name}: ${one.gap.toFixed(4)} (AUC ${one.auc.toFixed(4)})`);
      return { seed, best: gap / best.gap, own: gap / own.gap, gap, peer: best.name, peerGap: best.gap, ownGap: own.gap };
    };
    const ratios: Awaited<ReturnType<typeof against>>[] = [];
    for (const seed of quick ? seeds.slice(0, 1) : seeds) ratios.push(await against(seed, "model"));
    const worst = ratios.reduce((a, b) => (b.best > a.best ? b : a));
    const worstOwn = ratios.reduce((a, b) => (b.own > a.own ? b : a));
    report({
      metric: "logloss_gap_ratio",
      value: worst.best,
      unit: "ratio",
      better: "lower",
      target: 0.5,
      peer: `${worst.peer}: gap ${worst.peerGap.toFixed(4)}`,
      detail: `worst of seeds ${ratios.map(({ seed }) => seed).join(", ")}; model's gap ${worst.gap.toFixed(4)}; all: ${ratios.map(({ best }) => best.toFixed(2)).join(", ")}`,
    });
    report({
      metric: "logloss_gap_ratio_to_own_counting",
      value: worstOwn.own,
      unit: "ratio",
      better: "lower",
      peer: `the product's own counts, as logged: gap ${worstOwn.ownGap.toFixed(4)}`,
      detail: `worst seed ${worstOwn.seed}; all: ${ratios.map(({ own }) => own.toFixed(2)).join(", ")}`,
    });
    report({ metric: "model_gap_nats", value: worst.gap, unit: "nats", better: "lower", detail: `seed ${worst.seed}, minutes ${from + 1} to ${minutes}` });
    if (quick) return;
    const watched = await against(seeds[0]!, "counts");
    report({
      metric: "logloss_gap_ratio_watching",
      value: watched.best,
      unit: "ratio",
      better: "lower",
      peer: `${watched.peer}: gap ${watched.peerGap.toFixed(4)}`,
      detail: `seed ${watched.seed}, pages ranked by counts: what the model overrates is not what is shown; to the product's own counts ${watched.own.toFixed(2)}`,
    });

    // ---- training off, drift, training on ----
    const { offMinute, driftMinute, onMinute } = off;
    const drifted = await play(
      off.minutes,
      10,
      { seed: 1, viewers: 500, rooms: 750, shiftMinute: driftMinute },
      {
        switches: [
          { minute: offMinute, on: false },
          { minute: onMinute, on: true },
        ],
      },
    );
    const stopped = await relearn(drifted, model, fresh, [responsesModel(ownCounting, responseOptionsOf(config), config.responses.facets)]);
    const twin = await relearn(drifted, model, fresh, [], { switches: false });
    const ratioOf = (a: number, b: number): number => meanGap(stopped, stopped.readers[0]!, a, b) / meanGap(twin, twin.readers[0]!, a, b);
    const toCounting = (a: number, b: number): number => meanGap(stopped, stopped.readers[0]!, a, b) / meanGap(stopped, stopped.counting[0]!, a, b);
    const byMinute = (of: (a: number, b: number) => number): string =>
      Array.from({ length: off.minutes - warmMinutes }, (_, at) => of(at + warmMinutes, at + warmMinutes + 1).toFixed(2)).join(" ");
    log(`training off at minute ${offMinute}, every taste new at ${driftMinute}, on at ${onMinute}; by the minute from ${warmMinutes}`);
    log(`  gap / gap of the product's counts: ${byMinute(toCounting)}`);
    log(`  gap / gap of a twin that never stopped: ${byMinute(ratioOf)}`);
    const before = toCounting(warmMinutes, offMinute);
    report({
      metric: "off_gap_rise",
      value: ratioOf(driftMinute, driftMinute + 1),
      unit: "ratio",
      better: "higher",
      detail: `gap of the model that does not learn in the minute after the drift, of a twin's that does; at the end of being off ${ratioOf(onMinute - 1, onMinute).toFixed(2)}; gap ratio to own counting before ${before.toFixed(2)}, in that minute ${toCounting(driftMinute, driftMinute + 1).toFixed(2)}`,
    });
    const backMinute = Array.from({ length: recoverMinutes }, (_, at) => onMinute + at).find((minute) => ratioOf(minute, minute + 1) <= recoverWithin);
    report({
      metric: "recovered",
      value: backMinute === undefined ? 0 : 1,
      unit: "count",
      better: "higher",
      target: 1,
      detail: `1: within ${recoverMinutes} minutes of training on, the gap is at most ${recoverWithin} times the twin's; ${backMinute === undefined ? "it was not" : `in minute ${backMinute - onMinute + 1}`}`,
    });

    // ---- table sync ----
    const long = 70;
    const first = 5;
    const every = [
      { name: "second", everyMs: 1_000 },
      { name: "minute", everyMs: minuteMs },
      { name: "hour", everyMs: 60 * minuteMs },
      { name: "never", everyMs: Infinity },
    ].map((plan) => ({ ...plan, fromMinute: first }));
    const synced = async (title: string, world: { drift?: boolean; churn?: boolean }): Promise<{ judged: Relearned; olderRatio: number }> => {
      const played = await play(long, 4, { seed: 1, ...tenth, ...world });
      const judged = await relearn(played, model, every, []);
      log(`table sync, ${title}, minutes ${first + 1} to ${long}:   gap   log loss   pooled AUC`);
      for (const one of judged.readers) {
        log(
          `  ${one.name.padEnd(8)} ${meanGap(judged, one, first, long).toFixed(4)}   ${pooledLogLoss(judged, one, first, long).toFixed(4)}   ${pooledAuc(judged, one, first, long).toFixed(4)}`,
        );
      }
      // Equally many samples, only older: what freshness alone is worth.
      const gapOfLearned = async (learnMinutes: readonly [number, number]): Promise<number> => {
        const one = await relearn(played, model, fresh, [], { learnMinutes });
        return meanGap(one, one.readers[0]!, long - judgedMinutes, long);
      };
      const old = await gapOfLearned([0, learnedMinutes]);
      const young = await gapOfLearned([long - judgedMinutes - learnedMinutes, long - judgedMinutes]);
      log(
        `  learned in minutes 1 to ${learnedMinutes}: ${old.toFixed(4)}, in the ${learnedMinutes} before the last ${judgedMinutes}: ${young.toFixed(4)}, judged in those`,
      );
      return { judged, olderRatio: old / young };
    };
    const moving = await synced("the world as it is", {});
    const still = await synced("nothing changes", { drift: false, churn: false });
    const gapsOf = (judged: Relearned): number[] => judged.readers.map((one) => meanGap(judged, one, first, long));
    report({
      metric: "older_gap_ratio",
      value: moving.olderRatio,
      unit: "ratio",
      better: "higher",
      peer: `nothing changes: ${still.olderRatio.toFixed(3)}`,
      detail: `gap of what was learned ${long - judgedMinutes - learnedMinutes} minutes earlier, of what was learned just before; ${learnedMinutes} minutes of samples each`,
    });
    report({
      metric: "older_gap_ratio_when_nothing_changes",
      value: still.olderRatio,
      unit: "ratio",
      better: "lower",
      target: 1.05,
      detail: "at most 1 but for noise: without drift fresher samples are no better (older ones may be: early pages show more kinds of rooms)",
    });
    const gaps = gapsOf(moving.judged);
    const other = gapsOf(still.judged);
    const all = every.map(({ name }, at) => `${name} ${gaps[at]!.toFixed(4)} (${other[at]!.toFixed(4)})`).join(", ");
    for (const [at, { name }] of every.entries()) {
      if (at === 0) continue;
      report({
        metric: `sync_${name}_to_second_gap_ratio`,
        value: gaps[at]! / gaps[0]!,
        unit: "ratio",
        better: "higher",
        peer: `nothing changes: ${(other[at]! / other[0]!).toFixed(3)}`,
        detail: `gaps, in brackets where nothing changes: ${all}`,
      });
    }
  },
};

const ownCounting = "responses";

function countingModels(): CountingModel[] {
  const options = responseOptionsOf(defaultConfig);
  const { facets } = defaultConfig.responses;
  const halfHourMs = 30 * minuteMs;
  const own = (memory: number, proof: number): CountingModel =>
    memory === 1
      ? responsesModel(ownCounting, options, facets)
      : responsesModel(`responses, memory x${memory}, proof x${proof}`, patient(options, memory, proof), facets);
  return [
    chainOfCounts("base x place", () => [], 20, halfHourMs),
    chainOfCounts("item x place", (_, item) => [`i${item}`], 5, halfHourMs),
    chainOfCounts(
      "item, user x language, category, topic",
      (user, item, { category, state, attributes }) => [
        `i${item}`,
        `u${user}`,
        `l${user} ${String(attributes?.["language"])}`,
        `c${user} ${category}`,
        `t${user} ${state}`,
      ],
      3,
      3 * halfHourMs,
    ),
    own(1, 1),
    own(3, 3),
    own(6, 4),
    inSteps(own(1, 1), 10 * minuteMs),
    inSteps(own(3, 3), 10 * minuteMs),
    inSteps(own(6, 4), 10 * minuteMs),
  ];
}
