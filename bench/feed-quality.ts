// feed-quality: how good the default feed's answers are for viewers whose true click probabilities are known.
// Work: the demo world (3,000 open rooms that open, close and change topic; 2,000 viewers whose tastes drift) against the gateway of the default preset in
// this process, 40 page views of 10 rooms a second on the world's own clock, after two hours of past clicks that nobody recommended. Three seeds of
// 12 minutes, the last six judged; then one seed in which every viewer takes a new taste after six minutes.
// Figures: expected clicks a shown room by true probabilities, beside those of random rooms, of the best list that is the same for all, and of the best
// list for each viewer. The two lists know the probabilities; we know events only.

import { defaultConfig } from "#gateway/index";
import { playFeed, ratesOf } from "./feed-quality/play-feed.ts";
import { quantile, type Scenario } from "./harness.ts";

const seeds = [1, 2, 3];

export const scenario: Scenario = {
  name: "feed-quality",
  head: "clicks of the default feed beside those of random, popular and perfect lists, by true probabilities",
  async run({ quick, report, log }) {
    const minutes = quick ? 2 : 12;
    const percent = (rate: number): string => `${(100 * rate).toFixed(1)} %`;
    const play = (seed: number, shiftMinute?: number) =>
      playFeed({
        config: defaultConfig,
        seed,
        minutes,
        viewsPerS: quick ? 5 : 40,
        pipeline: "home",
        judgeEvery: 10,
        ...(shiftMinute === undefined ? {} : { shiftMinute }),
      });
    const sum = { ours: 0, random: 0, popular: 0, oracle: 0 };
    const ratios: number[] = [];
    const requestMs: number[] = [];
    const used = quick ? seeds.slice(0, 1) : seeds;
    for (const seed of used) {
      const played = await play(seed);
      const rates = ratesOf(played.minutes.slice(minutes / 2));
      for (const name of ["ours", "random", "popular", "oracle"] as const) sum[name] += rates[name] / used.length;
      ratios.push(rates.ours / rates.popular);
      requestMs.push(...played.requestMs);
      const first = ratesOf(played.minutes.slice(0, 1));
      log(
        `seed ${seed}: ours ${percent(rates.ours)} (first minute ${percent(first.ours)}), random ${percent(rates.random)}, popular ${percent(rates.popular)}, perfect ${percent(rates.oracle)}`,
      );
    }
    const spread = `seeds ${used.join(", ")}; minutes ${minutes / 2 + 1} to ${minutes}`;
    report({ metric: "click_rate", value: sum.ours, unit: "ratio", better: "higher", peer: `random: ${percent(sum.random)}`, detail: spread });
    report({
      metric: "ratio_to_popular",
      value: sum.ours / sum.popular,
      unit: "ratio",
      better: "higher",
      target: 1.3,
      peer: `best list for all: ${percent(sum.popular)}`,
      detail: `worst seed ${Math.min(...ratios).toFixed(2)}`,
    });
    report({ metric: "ratio_to_oracle", value: sum.ours / sum.oracle, unit: "ratio", better: "higher", peer: `best list for each: ${percent(sum.oracle)}` });
    report({ metric: "request_p50_ms", value: quantile(requestMs, 0.5), unit: "ms", better: "lower", detail: "in process, log at durability none" });
    if (quick) return;

    const shifted = await play(seeds[0]!, minutes / 2);
    const before = ratesOf(shifted.minutes.slice(minutes / 4, minutes / 2));
    const minute = (after: number): number => ratesOf(shifted.minutes.slice(minutes / 2 + after, minutes / 2 + after + 1)).ours;
    const after = Array.from({ length: minutes / 2 }, (_, at) => minute(at));
    log(`every taste new at minute ${minutes / 2}: ours ${percent(before.ours)} before, then by the minute ${after.map(percent).join(", ")}`);

    report({
      metric: "regained_after_shift",
      value: after.at(-1)! / before.ours,
      unit: "ratio",
      better: "higher",
      detail: `click rate in minute ${after.length} after all tastes changed, of that before; in the first minute ${(after[0]! / before.ours).toFixed(2)}`,
    });
  },
};
