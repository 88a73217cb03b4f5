// Guards the arithmetic of responses: what is shown and passed over sinks, what is clicked rises, nobody is credited for whom it was shown to.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Prng } from "#base/prng";
import { ItemFacets } from "./item-facets.ts";
import { type ResponseOptions, Responses } from "./responses.ts";

const hourMs = 3_600_000;
const startMs = 1_700_000_000_000;
const options: ResponseOptions = {
  baseRate: 0.1,
  placePower: 0,
  itemHalfLifeMs: hourMs,
  valueHalfLifeMs: hourMs,
  userHalfLifeMs: hourMs,
  pairHalfLifeMs: hourMs,
  itemProof: 2,
  valueProof: 2,
  userProof: 2,
  pairProof: 2,
  userValues: 32,
  userItems: 32,
};

/** Items 0..n-1, even ones of category "a", odd ones of "b". */
function declare(items = 10): Responses {
  const facets = new ItemFacets(["category", "attributes.language"]);
  for (let item = 0; item < items; item += 1) facets.put(item, { category: item % 2 === 0 ? "a" : "b", attributes: { language: "xy", price: item } });
  return new Responses(options, facets);
}

function guess(responses: Responses, item: number, rate: number, affinity: number): number {
  const out = new Float32Array(1);
  responses.guess(Uint32Array.of(item), 1, rate, affinity, out);
  return out[0]!;
}

test("nothing shown, nothing clicked: everything is as expected", () => {
  const responses = declare();
  for (const user of [-1, 0, 7]) {
    responses.begin(user, startMs);
    for (const item of [0, 1, 9, 500]) {
      assert.equal(responses.itemLift(item), 1);
      assert.equal(responses.pairLift(item), 1);
      assert.equal(responses.general(item), 0);
      assert.equal(responses.personal(item), 0);
      assert.equal(guess(responses, item, 1, 1), 0);
    }
  }
});

test("one exposure and one click move each part by (clicked + k) / (expected + k)", () => {
  const responses = declare();
  responses.shown(3, Uint32Array.of(0), startMs);
  responses.clicked(3, 0, startMs);
  responses.begin(3, startMs);
  const lift = (1 + 2) / (0.1 + 2);
  const near = (actual: number, expected: number): void => assert.ok(Math.abs(actual - expected) < 1e-5, `${actual} instead of ${expected}`);
  near(responses.itemLift(0), lift);
  near(responses.pairLift(0), lift);
  // Two values each: the category, the language.
  near(responses.general(0), 2 * Math.log(lift));
  near(responses.personal(0), 2 * Math.log(lift));
  near(responses.general(1), Math.log(lift));
  near(guess(responses, 0, 1, 0), 3 * Math.log(lift));
  responses.begin(4, startMs);
  near(responses.personal(0), 0);
  near(responses.pairLift(0), 1);
  // An hour later half of it counts.
  responses.begin(3, startMs + hourMs);
  near(responses.itemLift(0), (0.5 + 2) / (0.05 + 2));
});

test("what is shown and passed over sinks, for the user most", () => {
  const responses = declare();
  for (let at = 0; at < 40; at += 1) responses.shown(1, Uint32Array.of(0, 1), startMs + at);
  responses.begin(1, startMs + 40);
  const own = Math.log(responses.pairLift(0) * responses.itemLift(0)) + responses.personal(0) + responses.general(0);
  responses.begin(2, startMs + 40);
  const other = Math.log(responses.pairLift(0) * responses.itemLift(0)) + responses.personal(0) + responses.general(0);
  assert.ok(own < other && other < 0, `${own}, ${other}`);
});

test("promise: an item is measured against whom it was shown to", () => {
  // Lovers of "a" click it at 0.4, all others at 0.05; item 0 is shown to lovers only, item 2 to all others only, both are equally good.
  const responses = declare();
  const random = new Prng(3);
  let atMs = startMs;
  const clicks = [0, 0];
  const act = (user: number, item: number): void => {
    const lover = user < 10;
    responses.shown(user, Uint32Array.of(item), (atMs += 10));
    if (random.float() >= (item % 2 === 1 ? 0.05 : lover ? 0.4 : 0.05)) return;
    responses.clicked(user, item, atMs);
    if (item === 0 || item === 2) clicks[item / 2]! += 1;
  };
  for (let round = 0; round < 100; round += 1) {
    for (let user = 0; user < 20; user += 1) {
      act(user, 4);
      act(user, 1);
      act(user, user < 10 ? 0 : 2);
    }
  }
  responses.begin(0, atMs);
  assert.ok(clicks[0]! > 5 * clicks[1]!, `${clicks.join(" and ")} clicks`);
  const unfair = responses.itemLift(0) / responses.itemLift(2);
  assert.ok(unfair > 0.5 && unfair < 2, `the item shown to lovers counts ${unfair} times as good`);
  // A lover takes "a" 8 times as often as "b", the others as often; a part of that is credited to the items shown.
  const ratio = (): number => Math.exp(responses.general(6) + responses.personal(6) - responses.general(1) - responses.personal(1));
  assert.ok(ratio() > 2.5 && ratio() < 16, `a lover: ${ratio()}`);
  responses.begin(15, atMs);
  assert.ok(ratio() > 0.5 && ratio() < 2, `another: ${ratio()}`);
});

test("clicks with no answer behind them count by what the user took more of than others", () => {
  const responses = declare();
  for (let at = 0; at < 20; at += 1) {
    responses.found(1, (at % 5) * 2, startMs + at);
    responses.found(2, (at % 5) * 2 + 1, startMs + at);
  }
  responses.begin(1, startMs + 20);
  assert.ok(responses.personal(0) > 0 && responses.personal(1) < 0);
  assert.equal(responses.general(0), 0, "they say nothing of rates");
  assert.equal(responses.itemLift(0), 1);
});

test("lists of a user are bounded, and values beyond a list's end are as expected", () => {
  const facets = new ItemFacets(["category"]);
  for (let item = 0; item < 500; item += 1) facets.put(item, { category: `c${item}` });
  const responses = new Responses(options, facets);
  for (let item = 0; item < 500; item += 1) {
    responses.shown(0, Uint32Array.of(item), startMs + item);
    responses.clicked(0, item, startMs + item);
  }
  responses.begin(0, startMs + 500);
  const known = Array.from({ length: 500 }, (_, item) => responses.pairLift(item)).filter((lift) => lift !== 1);
  assert.equal(known.length, options.userItems);
});

test("a batch is described as its parts say, and the counting model's chance is their product", () => {
  const responses = declare(200);
  const random = new Prng(3);
  for (let answer = 0; answer < 60; answer += 1) {
    const user = random.below(3);
    const items = Uint32Array.from({ length: 8 }, () => random.below(200));
    responses.shown(user, items, startMs + answer * 1_000);
    if (random.chance(0.5)) responses.clicked(user, items[0]!, startMs + answer * 1_000);
  }
  const items = Uint32Array.from({ length: 203 }, (_, item) => item);
  const column = (): Float32Array => new Float32Array(items.length);
  const out = { counting: column(), rate: column(), affinity: column(), again: column(), unproven: column() };
  for (const user of [-1, 0, 2]) {
    responses.begin(user, startMs + 100_000);
    responses.describe(items, items.length, out);
    // What all have in common: the same for every item, so the first gives it.
    const level = (row: number): number => -Math.log1p(Math.exp(-out.counting[row]!)) - out.rate[row]! - out.affinity[row]! - out.again[row]!;
    for (const item of items) {
      assert.equal(out.rate[item], Math.fround(Math.log(responses.itemLift(item)) + responses.general(item)));
      assert.equal(out.affinity[item], Math.fround(responses.personal(item)));
      assert.equal(out.again[item], Math.fround(Math.log(responses.pairLift(item))));
      assert.equal(out.unproven[item], Math.fround(options.itemProof / (options.itemProof + responses.itemExpected(item))));
      assert.ok(Math.abs(level(item) - level(0)) < 1e-4, `item ${item}`);
    }
  }
  const quiet = declare();
  quiet.begin(-1, startMs);
  quiet.describe(items, 1, out);
  assert.ok(Math.abs(out.counting[0]! - Math.log(0.1 / 0.9)) < 1e-6, "nothing known: the base rate");
});

test("likings are told strongest first, each value once, whichever way they go", () => {
  const responses = declare();
  for (let round = 0; round < 5; round += 1) {
    responses.shown(1, Uint32Array.of(0, 1), startMs);
    responses.clicked(1, 1, startMs);
  }
  responses.begin(1, startMs);
  const values = new Uint32Array(4);
  const logs = new Float32Array(4);
  const count = responses.likings(values, logs);
  const told = Array.from({ length: count }, (_, at) => responses.facets.valueText(values[at]!));
  assert.deepEqual(told.slice(0, 1), ["category=b"]);
  assert.equal(new Set(told).size, count);
  assert.ok(logs[0]! > 0 && Math.abs(logs[0]! - responses.personal(1) + (logs[told.indexOf("attributes.language=xy")] ?? 0)) < 1e-5);
  const passed = told.indexOf("category=a");
  assert.ok(passed > 0 && logs[passed]! < 0);
  for (let at = 1; at < count; at += 1) assert.ok(Math.abs(logs[at - 1]!) >= Math.abs(logs[at]!));
  assert.equal(responses.likings(values.subarray(0, 1), logs), 1);
  assert.equal(responses.facets.valueText(values[0]!), "category=b");
  responses.begin(-1, startMs);
  assert.equal(responses.likings(values, logs), 0);
});
