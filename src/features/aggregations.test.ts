// Guards what every aggregation promises: the answer of a plain model, whatever the order in which events arrive.
// SEED=n replays one run.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Prng } from "#base/prng";
import { MillraceError } from "#base/errors";
import type { FoldEvent } from "./aggregation.ts";
import { cooccurrence } from "./cooccurrence.ts";
import { count } from "./count.ts";
import { decayedCount } from "./decayed-count.ts";
import { createFeatureSet } from "./feature-set.ts";
import { historyList } from "./history-list.ts";
import { recentList } from "./recent-list.ts";

const types = { view: 1, buy: 3, seen: 0 };
const typeNames = Object.keys(types);
const weights = Object.values(types);
const hourMs = 3_600_000;
const halfLifeMs = 24 * hourMs;
const windowMs = 2 * hourMs;

function declare(listLength = 4_096, neighbours = 512) {
  return createFeatureSet(typeNames, {
    total: count({ by: "item", types }),
    popular: decayedCount({ by: "item", halfLifeMs, types, top: 5 }),
    active: decayedCount({ by: "user", halfLifeMs, types }),
    together: cooccurrence({ list: "recent", windowMs, halfLifeMs, neighbours, pairsPerEvent: 4_096, norm: "popular", shrinkage: 5 }),
    recent: recentList({ n: listLength, types }),
    history: historyList({ n: listLength, halfLifeMs, types }),
  });
}

function randomEvents(random: Prng, n: number): FoldEvent[] {
  const startMs = 1_700_000_000_000;
  return Array.from({ length: n }, () => ({
    type: random.below(3),
    user: random.below(6),
    item: random.below(15),
    atMs: startMs + random.below(10 * 24) * hourMs + random.below(5) * 60_000,
    value: 0,
  }));
}

function near(actual: number, expected: number, what: string): void {
  assert.ok(Math.abs(actual - expected) <= 1e-4 * Math.max(1, Math.abs(expected)), `${what}: ${actual}, the model says ${expected}`);
}

const decay = (fromMs: number, toMs: number): number => 2 ** ((fromMs - toMs) / halfLifeMs);

test("promise: counts do not depend on the order in which events arrive", () => {
  const seeds = process.env["SEED"] === undefined ? [1, 2, 3, 4, 5, 6] : [Number(process.env["SEED"])];
  for (const seed of seeds) {
    const random = new Prng(seed);
    const events = randomEvents(random, 400);
    const nowMs = Math.max(...events.map(({ atMs }) => atMs)) + hourMs;
    const orders = [events, events.toSorted((a, b) => a.atMs - b.atMs), events.toSorted((a, b) => b.atMs - a.atMs)];
    for (const [index, order] of orders.entries()) {
      const what = `seed ${seed}, order ${index}`;
      const features = declare();
      for (const event of order) features.fold(event);
      const { stores } = features;
      const counted = events.filter(({ type }) => weights[type]! > 0);

      for (let item = 0; item < 15; item += 1) {
        const mine = counted.filter((event) => event.item === item);
        near(
          stores.total.at(item),
          mine.reduce((sum, { type }) => sum + weights[type]!, 0),
          `${what}, count of ${item}`,
        );
        const expected = mine.reduce((sum, { type, atMs }) => sum + weights[type]! * decay(atMs, nowMs), 0);
        near(stores.popular.at(item, nowMs), expected, `${what}, decayed count of ${item}`);
        for (let other = 0; other < 15; other += 1) {
          let pairs = 0;
          for (const a of mine) {
            for (const b of counted) {
              if (b.item !== other || other === item || b.user !== a.user || Math.abs(a.atMs - b.atMs) > windowMs) continue;
              pairs += weights[a.type]! * weights[b.type]! * decay(Math.max(a.atMs, b.atMs), nowMs);
            }
          }
          near(stores.together.weight(item, other, nowMs), pairs, `${what}, ${item} together with ${other}`);
        }
      }
      const gathered = new Float32Array(15);
      stores.popular.gather(
        Uint32Array.from({ length: 15 }, (_, item) => item),
        15,
        nowMs,
        gathered,
      );
      for (let item = 0; item < 15; item += 1) near(gathered[item]!, stores.popular.at(item, nowMs), `${what}, gathered ${item}`);

      for (let user = 0; user < 6; user += 1) {
        const mine = counted.filter((event) => event.user === user);
        near(
          stores.active.at(user, nowMs),
          mine.reduce((sum, { type, atMs }) => sum + weights[type]! * decay(atMs, nowMs), 0),
          `${what}, user ${user}`,
        );
        const view = stores.recent.of(user)!;
        const times = [...view.times.subarray(view.from, view.to)];
        assert.deepEqual(
          times,
          mine.map(({ atMs }) => atMs).sort((a, b) => a - b),
          what,
        );
        const history = stores.history.of(user)!;
        const items = [...history.items.subarray(history.from, history.to)].sort((a, b) => a - b);
        assert.deepEqual(
          items,
          [...new Set(mine.map(({ item }) => item))].sort((a, b) => a - b),
          what,
        );
        for (let at = history.from; at < history.to; at += 1) {
          const same = mine.filter(({ item }) => item === history.items[at]);
          const lastMs = Math.max(...same.map(({ atMs }) => atMs));
          assert.equal(history.counts[at], same.length, what);
          assert.equal(history.times[at], lastMs, what);
          near(
            history.decayed[at]!,
            same.reduce((sum, { type, atMs }) => sum + weights[type]! * decay(atMs, lastMs), 0),
            what,
          );
        }
      }

      const order15 = Array.from({ length: 15 }, (_, item) => item).filter((item) => stores.popular.at(item, nowMs) > 0);
      order15.sort((a, b) => stores.popular.at(b, nowMs) - stores.popular.at(a, nowMs));
      const best = order15.slice(0, 5).map((item) => stores.popular.at(item, nowMs));
      assert.deepEqual(
        [...stores.popular.top!.handles].map((item) => stores.popular.at(item, nowMs)),
        best,
        `${what}, top`,
      );
    }
  }
});

test("a full last-N list keeps the newest by time, a late event older than all is not taken", () => {
  const features = declare(8);
  const { recent, history } = features.stores;
  for (let at = 0; at < 20; at += 1) features.fold({ type: 0, user: 1, item: at, atMs: 1_000 + at, value: 0 });
  features.fold({ type: 0, user: 1, item: 99, atMs: 5, value: 0 });
  features.fold({ type: 0, user: 1, item: 77, atMs: 1_015, value: 0 });
  const view = recent.of(1)!;
  assert.deepEqual([...view.items.subarray(view.from, view.to)], [13, 14, 15, 77, 16, 17, 18, 19]);
  const kept = history.of(1)!;
  assert.equal(kept.to - kept.from, 8);
  assert.ok([...kept.items.subarray(kept.from, kept.to)].every((item) => item >= 13 && item !== 99));
});

test("a full neighbour table is cut to its strongest", () => {
  const features = declare(4, 16);
  const nowMs = 1_700_000_000_000;
  // Item 0 is met with item 1 often, with 200 others once each, by different users.
  for (let user = 0; user < 400; user += 1) {
    features.fold({ type: 0, user, item: 0, atMs: nowMs, value: 0 });
    features.fold({ type: 0, user, item: user % 2 === 0 ? 1 : 2 + user, atMs: nowMs, value: 0 });
  }
  const { together } = features.stores;
  assert.ok(together.evictions > 0);
  assert.equal(together.weight(0, 1, nowMs), 200);
  const view = together.of(0, nowMs)!;
  let held = 0;
  for (let slot = view.from; slot < view.to; slot += 1) if (view.neighbours[slot] !== 0) held += 1;
  assert.ok(held <= 32, `${held} neighbours held`);
});

test("weights stay finite over years, reference times move", () => {
  const features = declare();
  const startMs = 1_700_000_000_000;
  for (let day = 0; day < 2_000; day += 1) {
    features.fold({ type: 0, user: day, item: 0, atMs: startMs + day * halfLifeMs, value: 0 });
    features.fold({ type: 0, user: day, item: 1, atMs: startMs + day * halfLifeMs, value: 0 });
  }
  const nowMs = startMs + 1_999 * halfLifeMs;
  near(features.stores.together.weight(0, 1, nowMs), 2, "pairs decayed over 2,000 half-lives");
  near(features.stores.popular.at(0, nowMs), 2, "count decayed over 2,000 half-lives");
});

test("declarations that cannot work are refused with the name", () => {
  const refused = (run: () => unknown, text: RegExp): void => {
    assert.throws(run, (thrown) => thrown instanceof MillraceError && thrown.code === "invalid" && text.test(thrown.message));
  };
  refused(() => createFeatureSet(["view"], { a: count({ by: "item", types: { buy: 1 } }) }), /"a" counts events of type "buy"/);
  const pair = cooccurrence({ list: "recent", windowMs, halfLifeMs, neighbours: 8, pairsPerEvent: 8, norm: "popular", shrinkage: 1 });
  refused(() => createFeatureSet(["view"], { pair }), /"recent" is not declared/);
  refused(() => createFeatureSet(["view"], { recent: recentList({ n: 8, types: { view: 1 } }), pair }), /folded before it/);
  const recent = recentList({ n: 8, types: { view: 1 } });
  refused(() => createFeatureSet(["view"], { pair, recent: count({ by: "item", types: { view: 1 } }) }), /is no recentList/);
  refused(() => createFeatureSet(["view"], { pair, recent, popular: count({ by: "item", types: { view: 1 } }) }), /is no decayedCount/);
  refused(
    () =>
      createFeatureSet(
        Array.from({ length: 65 }, (_, index) => `t${index}`),
        {},
      ),
    /65 event types/,
  );
});
