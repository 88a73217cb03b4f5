// Guards the yardstick: the baselines are those of a plain model that sorts everything anew, ties included. SEED=n replays one run.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Prng } from "#base/prng";
import { freshSeed } from "#platform/fresh-seed";
import { type BaselineName, Baselines, type LearntBasket } from "./baselines.ts";

const dayMs = 86_400_000;

/** The definitions, written down as slowly as possible. */
function expected(baskets: readonly LearntBasket[], name: BaselineName, user: string, n: number, novel: boolean): number[] {
  const popularity = new Map<number, number>();
  const decayed = new Map<number, number>();
  const own = new Map<number, { count: number; last: number }>();
  baskets.forEach((basket, index) => {
    for (const item of basket.itemNumbers) {
      popularity.set(item, (popularity.get(item) ?? 0) + 1);
      decayed.set(item, (decayed.get(item) ?? 0) + 2 ** ((basket.timeMs - baskets[0]!.timeMs) / dayMs / 7));
      if (basket.user === user) own.set(item, { count: (own.get(item)?.count ?? 0) + 1, last: index });
    }
  });
  const byScore = (scores: Map<number, number>): number[] => [...scores].sort((a, b) => b[1] - a[1] || a[0] - b[0]).map(([item]) => item);
  const mine = [...own].sort((a, b) => b[1].count - a[1].count || b[1].last - a[1].last || a[0] - b[0]).map(([item]) => item);
  const start = name === "ownHistory" && !novel ? mine.slice(0, n) : [];
  const rest = byScore(name === "popularity" ? popularity : decayed).filter((item) => !start.includes(item) && !(novel && own.has(item)));
  return [...start, ...rest].slice(0, n);
}

const seed = freshSeed();

test(`lists are those of the definitions, SEED=${seed}`, () => {
  const random = new Prng(seed);
  for (let round = 0; round < 30; round += 1) {
    const items = 1 + random.below(40);
    const baselines = new Baselines();
    const baskets: LearntBasket[] = [];
    let timeMs = Date.UTC(2010, 11, 1);
    for (let index = 0; index < 60; index += 1) {
      // Many baskets share a time, so that ties of decayed counts occur.
      if (random.below(3) === 0) timeMs += random.below(4) * dayMs;
      const itemNumbers = [...new Set(Array.from({ length: 1 + random.below(8) }, () => random.below(items)))];
      const basket = { user: `u${random.below(5)}`, timeMs, itemNumbers };
      baskets.push(basket);
      baselines.learn(basket);
      if (index % 7 !== 0) continue;
      for (const name of ["popularity", "decayedPopularity", "ownHistory"] as const) {
        for (const novel of [false, true]) {
          for (const user of ["u1", "nobody"]) {
            const n = 1 + random.below(25);
            assert.deepEqual(baselines.list(name, user, n, novel), expected(baskets, name, user, n, novel), `${name} ${novel} ${user} ${n}`);
          }
        }
      }
    }
  }
});

test("decayed counts hold over centuries", () => {
  const baselines = new Baselines();
  const year = 365 * dayMs;
  for (let at = 0; at < 300; at += 1) {
    baselines.learn({ user: "a", timeMs: at * year, itemNumbers: [5] });
    baselines.learn({ user: "a", timeMs: at * year + 6 * dayMs, itemNumbers: [7, 9] });
    baselines.learn({ user: "b", timeMs: at * year + 14 * dayMs, itemNumbers: [3] });
  }
  assert.deepEqual(baselines.list("decayedPopularity", "c", 9, false), [3, 7, 9, 5]);
  assert.deepEqual(baselines.list("ownHistory", "a", 9, false), [7, 9, 5, 3]);
});

test("before anything is learnt there is no list", () => {
  assert.deepEqual(new Baselines().list("ownHistory", "a", 20, false), []);
});
