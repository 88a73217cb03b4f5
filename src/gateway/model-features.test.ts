// Guards the feature provider: what is logged with an answer is what was scored, documents reach the live model when they change, and signals are what they say.

import assert from "node:assert/strict";
import { test } from "node:test";
import { MillraceError } from "#base/errors";
import { Prng } from "#base/prng";
import { decodeAnswerFeatures } from "#extract/answer-features";
import { Extractor, type ExtractorDeclaration } from "#extract/extractor";
import { SlotRows } from "#extract/slot-rows";
import { KernelMemory } from "#kernel/kernel-memory";
import { ItemSlots } from "#models/item-slots";
import type { ItemBody } from "#wire/api";
import { ActivityState } from "./activity-state.ts";
import { aggregationsOf, defaultConfig, responseOptionsOf } from "./config.ts";
import { candidateRow, ModelFeatures, signalNames } from "./model-features.ts";
import type { SceneStores } from "./scene.ts";

const startMs = Date.UTC(2026, 0, 5, 13, 30);

const declaration: ExtractorDeclaration = {
  fields: [
    ...signalNames.map((name) => ({ name: `s-${name}`, from: `signal.${name}`, kind: "linear" as const })),
    { name: "age", from: "signal.ageMinutes", kind: "bucket", bounds: [1, 5, 20], linearOnly: true },
    { name: "user", from: "user.id", kind: "id" },
    { name: "country", from: "user.attributes.country", kind: "id" },
    { name: "recent", from: "user.recent", kind: "ids", max: 3 },
    { name: "liked", from: "user.liked", kind: "ids", max: 4 },
    { name: "hour", from: "context.hour", kind: "bucket", bounds: [6, 12, 18] },
    { name: "pipeline", from: "context.pipeline", kind: "id", linearOnly: true },
    { name: "position", from: "context.position", kind: "bucket", bounds: [1, 3, 10], linearOnly: true },
    { name: "item", from: "item.id", kind: "id" },
    { name: "category", from: "item.category", kind: "id" },
    { name: "state", from: "item.state", kind: "id" },
    { name: "tags", from: "item.tags", kind: "ids", max: 3 },
    { name: "language", from: "item.attributes.language", kind: "id" },
    { name: "price", from: "item.attributes.price", kind: "linear" },
  ],
  crosses: [
    { name: "user-category", cross: ["user", "category"] },
    { name: "recent-tags", cross: ["recent", "tags"] },
    { name: "hour-age", cross: ["hour", "age"] },
  ],
};
const extractor = Extractor.compile(declaration);

interface World {
  readonly state: ActivityState<ReturnType<typeof aggregationsOf>>;
  readonly stores: SceneStores;
  readonly slots: ItemSlots;
  readonly features: ModelFeatures;
  put(id: string, body: ItemBody): number;
  click(user: string, item: string, atMs: number): void;
}

function world(itemsMax = 1_000): World {
  const state = new ActivityState({
    eventTypes: Object.keys(defaultConfig.eventTypes),
    aggregations: aggregationsOf(defaultConfig),
    freshItems: 100,
    responses: responseOptionsOf(defaultConfig),
    clickTypes: ["click"],
    facets: defaultConfig.responses.facets,
    incarnation: "t",
    ...defaultConfig.limits,
  });
  const stores = { catalog: state.catalog, exposures: state.exposures, responses: state.responses, ...state.features.stores };
  const shape = { itemsMax, slotsMax: extractor.itemSlotsMax };
  const slots = ItemSlots.create(KernelMemory.create({ dataBytes: ItemSlots.bytesFor(shape) + 64, laneBytes: 8 << 10 }), shape);
  return {
    state,
    stores,
    slots,
    features: new ModelFeatures(extractor, stores, slots),
    put(id, body) {
      state.apply({ kind: "itemPut", atMs: startMs, id, body });
      return state.catalog.items.find(id)!;
    },
    click(user, item, atMs) {
      const event = { kind: "event", receivedMs: atMs, type: "click", id: "", recommendationId: "", position: -1, value: Number.NaN, context: "" } as const;
      state.apply({ ...event, atMs, user, item });
    },
  };
}

function fill({ put, click, state }: World, items: number): void {
  const random = new Prng(4);
  for (let item = 0; item < items; item += 1) {
    put(`i${item}`, {
      category: `c${item % 5}`,
      ...(item % 3 === 0 ? {} : { state: `topic ${item % 7}` }),
      tags: ["a", "b", "c", "d"].slice(item % 4),
      attributes: { language: item % 2 === 0 ? "en" : "de", price: item, live: true },
    });
  }
  state.apply({ kind: "userPut", atMs: startMs, id: "u1", body: { attributes: { country: "UK" } } });
  for (let event = 0; event < 60; event += 1) click(`u${random.below(3)}`, `i${random.below(items)}`, startMs + event * 1_000);
  const served = Array.from({ length: 20 }, (_, place) => `i${place}`);
  state.apply({ kind: "served", atMs: startMs + 60_000, recommendationId: "r", pipeline: "home", user: "u1", items: served });
}

/** Slots of a row bit for bit, in any order. */
function slotsOf(rows: SlotRows, row: number): string[] {
  const bits = new Uint32Array(rows.weights.buffer);
  const slots: string[] = [];
  for (let at = rows.offsets[row]!; at < rows.offsets[row + 1]!; at += 1) {
    slots.push(`${at < rows.linearEnds[row]! ? "linear" : "full"} ${rows.keys[2 * at]} ${rows.keys[2 * at + 1]} ${bits[at]}`);
  }
  return slots;
}

const columns = (n: number): { score: Float32Array; ownDecayed: Float32Array; together: Float32Array } => ({
  score: Float32Array.from({ length: n }, (_, row) => row / 3),
  ownDecayed: Float32Array.from({ length: n }, (_, row) => row % 2),
  together: Float32Array.from({ length: n }, (_, row) => row / 100),
});

test("promise: what was learned from is bit for bit what was served, by the gateway too", () => {
  // Items beyond what the live model holds are extracted each time: the same slots.
  const it = world(20);
  fill(it, 30);
  const { features, state } = it;
  for (const [user, id] of [
    [state.catalog.users.find("u1")!, "u1"],
    [-1, "nobody"],
  ] as const) {
    const request = features.begin({ user, id, pipeline: "home", nowMs: startMs + 90_000 });
    const ids = Uint32Array.from({ length: 30 }, (_, item) => 29 - item);
    const rows = features.candidates(request, ids, 30, columns(30));
    request.logits.forEach((_, row) => (request.logits[row] = row));
    const scored = ids.reduce<string[][]>((all, _, row) => [...all, [...slotsOf(request.slots, 0), ...slotsOf(rows, row)].sort()], []);
    // Between scoring and answer: a document changes, another request comes.
    it.put("i29", { category: "other" });
    const other = features.begin({ user: -1, id: "somebody", pipeline: "shop", nowMs: startMs });
    features.candidates(other, ids, 3, columns(3));

    const chosen = Uint32Array.of(29, 3, 12);
    const answer = decodeAnswerFeatures(features.answer(request, chosen, 3)!);
    assert.equal(answer.extractorId, extractor.id);
    const learned = new SlotRows();
    for (const [place, item] of answer.items.entries()) {
      // The place is known only when it was served: here each is scored as first.
      extractor.sampleSlots(answer.user, 0, item.item, item.signals, learned);
      const row = ids.indexOf(chosen[place]!);
      assert.deepEqual(slotsOf(learned, place).sort(), scored[row]);
      assert.equal(item.servedLogit, row);
      // The counting model's word on it at its place: less likely to be seen further down.
      const first = 1 / (1 + Math.exp(-item.signals[extractor.signalNames.indexOf("counting")]!));
      const there = first * (1 + place) ** -state.responses.options.placePower;
      assert.ok(Math.abs(item.countingLogit - Math.log(there / (1 - there))) < 1e-5);
    }
    features.release(request);
    features.release(other);
    it.put("i29", { category: "c4" });
  }
});

test("promise: a request that reuses another's arrays logs what it would with its own, and a late scorer writes into nobody's", () => {
  const it = world();
  fill(it, 30);
  const { features } = it;
  const ask = (id: string): ReturnType<ModelFeatures["begin"]> => features.begin({ user: -1, id, pipeline: "home", nowMs: startMs + 90_000 });
  const logged = (request: ReturnType<ModelFeatures["begin"]>, ids: Uint32Array): Uint8Array => {
    features.candidates(request, ids, ids.length, columns(ids.length));
    request.logits.fill(0.5, 0, ids.length - 1);
    return features.answer(request, Uint32Array.of(7, 2, 25), 3)!;
  };
  const few = Uint32Array.of(1, 2, 3);
  const fresh = logged(ask("x"), few);
  const large = ask("y");
  logged(
    large,
    Uint32Array.from({ length: 30 }, (_, item) => item),
  );
  features.release(large);
  const again = ask("x");
  assert.equal(again, large, "the arrays are used again");
  assert.deepEqual(logged(again, few), fresh, "item 7 and 25 were candidates of the other request only");
  assert.deepEqual(
    [0, 2, 7, 25].map((item) => candidateRow(again, item)),
    [-1, 1, -1, -1],
  );

  again.scoring = 1;
  const { logits } = again;
  features.candidates(again, few, 3, columns(3));
  assert.notEqual(again.logits, logits, "a second scoring beside the first");
  features.release(again);
  assert.notEqual(ask("z"), again);
});

test("an item that was no candidate is logged with the signals of now and without a logit", () => {
  const it = world();
  fill(it, 30);
  const request = it.features.begin({ user: 0, id: "u1", pipeline: "home", nowMs: startMs + 90_000 });
  const answer = decodeAnswerFeatures(it.features.answer(request, Uint32Array.of(5), 1)!);
  const [item] = answer.items;
  assert.ok(Number.isNaN(item!.servedLogit) && Number.isFinite(item!.countingLogit));
  const signal = (name: string): number => item!.signals[extractor.signalNames.indexOf(name)]!;
  assert.ok(Number.isNaN(signal("weighted")) && Number.isNaN(signal("own")));
  assert.ok(signal("popularity") >= 0 && signal("rate") !== 0);
  extractor.sampleSlots(answer.user, 0, item!.item, item!.signals, new SlotRows());
});

test("a document reaches the live model when it changes, and only then", () => {
  const { put, slots, state, features } = world();
  const seen = new SlotRows();
  const read = (item: number): string[] | undefined => {
    seen.clear();
    return slots.read(item, seen) ? slotsOf(seen, 0) : undefined;
  };
  const item = put("i", { category: "music", attributes: { language: "en" } });
  const first = read(item);
  assert.equal(first?.length, 3);
  const { changes } = slots;
  state.apply({ kind: "itemPatch", atMs: startMs, id: "i", body: { title: "no field of the model", attributes: { viewers: 7 } } });
  assert.equal(slots.changes, changes, "what the model does not see is no change");
  state.apply({ kind: "itemPatch", atMs: startMs, id: "i", body: { state: "dessert" } });
  assert.equal(read(item)?.length, 4);
  state.apply({ kind: "itemPatch", atMs: startMs, id: "i", body: { available: false } });
  assert.equal(read(item), undefined);
  put("i", { category: "music", attributes: { language: "en" } });
  assert.deepEqual(read(item), first);
  state.apply({ kind: "itemDelete", atMs: startMs, id: "i" });
  assert.equal(read(item), undefined);
  put("i", { category: "music", attributes: { language: "en" } });
  assert.deepEqual(read(item), first);
  // An item met in an event.
  state.apply({ kind: "served", atMs: startMs, recommendationId: "r", pipeline: "home", user: "u", items: ["met"] });
  assert.equal(read(state.catalog.items.find("met")!)?.length, 1);
  assert.ok(features.bytes > 0);
});

test("a user is seen with what was touched last, newest first, and with what is liked", () => {
  const it = world();
  fill(it, 30);
  for (const [index, item] of ["i7", "i8", "i9", "i7"].entries()) it.click("ann", item, startMs + 100_000 + index * 1_000);
  const user = it.state.catalog.users.find("ann")!;
  const one = it.features.begin({ user, id: "ann", pipeline: "home", nowMs: startMs + 200_000 });
  const text = new TextDecoder().decode(one.bytes);
  assert.ok(text.indexOf("i7") < text.indexOf("i9") && text.indexOf("i9") < text.indexOf("i8"), "newest first");
  assert.ok(text.includes("category=c2"), "facets liked");
  const rows = new SlotRows();
  const only = Extractor.compile({ fields: [{ name: "recent", from: "user.recent", kind: "ids", max: 3 }] });
  const recent = new ModelFeatures(only, it.stores, it.slots).begin({ user, id: "ann", pipeline: "home", nowMs: startMs + 200_000 });
  only.userSlots(recent.bytes, 0, rows);
  const squares = [...rows.weights.subarray(1, 4)].reduce((sum, x) => sum + x * x, 0);
  assert.ok(Math.abs(squares - 1) < 1e-5, "together of length 1");
  assert.ok(rows.weights[1]! > rows.weights[2]! * 1.5, "touched twice");
});

test("signals say what they are called", () => {
  const it = world();
  fill(it, 30);
  const nowMs = startMs + 120_000;
  const request = it.features.begin({ user: it.state.catalog.users.find("u1")!, id: "u1", pipeline: "home", nowMs });
  const ids = Uint32Array.from({ length: 30 }, (_, item) => item);
  it.features.candidates(request, ids, 30, columns(30));
  const signal = (name: (typeof signalNames)[number], row: number): number => request.signals[row * signalNames.length + extractor.signalNames.indexOf(name)]!;
  const { responses, popularity, trend } = it.stores;
  responses.begin(request.request.user, nowMs);
  for (const item of ids) {
    const near = (name: (typeof signalNames)[number], expected: number): void => {
      assert.ok(Math.abs(signal(name, item) - expected) < 1e-4, `${name} of ${item}: ${signal(name, item)} instead of ${expected}`);
    };
    near("counting", request.counting[item]!);
    near("rate", Math.log(responses.itemLift(item)) + responses.general(item));
    near("affinity", responses.personal(item));
    near("again", Math.log(responses.pairLift(item)));
    near("weighted", item / 3);
    near("ageMinutes", 2);
    near("popularity", Math.log1p(popularity.at(item, nowMs)));
    near("trend", Math.log1p(trend.at(item, nowMs)));
    near("own", Math.log1p(item % 2));
    near("together", Math.log1p(item / 100 / 0.03));
  }
});

test("a signal that there is not is refused by name", () => {
  const { stores, slots } = world();
  const wrong = Extractor.compile({ fields: [{ name: "x", from: "signal.mood", kind: "linear" }] });
  assert.throws(
    () => new ModelFeatures(wrong, stores, slots),
    (thrown) => thrown instanceof MillraceError && thrown.code === "invalid" && /signal\.mood/.test(thrown.message),
  );
});
