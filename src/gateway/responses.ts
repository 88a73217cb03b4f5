// Responses: how often what was shown is clicked, compared with how often it should have been. Clicks alone say what was shown a lot; a rate says what is liked.
// A click is expected with   p = base x place x L(item) x L(all) x L(user) x L(user, item) x product over the item's values v of  L(v) x L(user, v)
// and each L is  (clicked + k) / (expected + k)  in decayed counts, where `expected` sums, over what was shown, the p without that L itself. So an item that
// was shown only to those who love its topic is not taken for better than it is, and a user who clicks everything is not taken for a lover of everything.
// L = 1 means "as expected", 3 "three times as often"; k is how many clicks of proof it takes to move half the way.
// Clicks without an answer behind them (imported, or found by search) have no exposures. They are expected to be spread over the values as everybody's
// are: expected(user, v) += found(user) x found(v) / found(all).
// This is iterative proportional fitting of a log-linear model (Deming and Stephan, 1940), an event at a time and with forgetting: counts, nothing is trained.
// Invariants: 1. no exposures and no clicks: every L is 1, so that all terms are 0  2. state follows from the log; `served` records stand behind their answers, so a
// rebuild may meet an answer and an event of the same moment in the other order, and what it expects differs by that event's weight
// 3. nothing here reads a clock.
// Cost: an answer of 10 items about 10 us; `begin` 3 us; then 10 ns an item of a profile already met. Memory: 40 B a user and value, at most `userValues` each;
// 36 B an item.
// Concurrency: `begin` holds until the next one; a step calls it and asks without waiting in between.

import { chunkBits, chunkMask, f32Column } from "#base/chunked";
import type { RowMarks } from "#features/checkpoint/row-marks";
import type { StoredColumns } from "#features/checkpoint/stored-state";
import { DecayedCountStore } from "#features/decayed-count";
import { HistoryListStore } from "#features/history-list";
import type { ItemFacets } from "./item-facets.ts";

export interface ResponseOptions {
  /** A click on something unknown at the first place. Only a start: L(all) corrects it. */
  readonly baseRate: number;
  /** Being seen falls with (1 + place) to this power. */
  readonly placePower: number;
  readonly itemHalfLifeMs: number;
  readonly valueHalfLifeMs: number;
  readonly userHalfLifeMs: number;
  readonly pairHalfLifeMs: number;
  /** Clicks of proof: `k` of items, of values, of a user's values and items. */
  readonly itemProof: number;
  readonly valueProof: number;
  readonly userProof: number;
  readonly pairProof: number;
  /** Values remembered of a user at most. */
  readonly userValues: number;
  /** Items remembered of a user at most. */
  readonly userItems: number;
}

/** What is known of a batch of items after `begin`, an array of numbers each. */
export interface ResponseSignals {
  /** Logit of a click at the first place: ln(p / (1 - p)) of the product above. */
  readonly counting: Float32Array;
  /** Logarithms, as the pipeline's columns of these names: L(item) and everybody's, the user's, the pair's. */
  readonly rate: Float32Array;
  readonly affinity: Float32Array;
  readonly again: Float32Array;
  /** From 1 (never shown) towards 0. */
  readonly unproven: Float32Array;
}

/** Stands for "all" among the values: what is common to everything. Values of facets follow it. */
const all = 0;
/** Likings below it, as logarithms, say next to nothing: 2 % more or less than others. */
const likingMin = 0.02;
/** Chances are never taken to be higher. */
const chanceMax = 0.9;

export class Responses {
  readonly options: ResponseOptions;
  readonly facets: ItemFacets;
  readonly #itemClicked: DecayedCountStore;
  readonly #itemExpected: DecayedCountStore;
  /** Logarithm of an item's L at its last event. */
  readonly #itemLast = f32Column();
  #items = 0;
  // By value + 1, `all` first.
  readonly #valueClicked: DecayedCountStore;
  readonly #valueExpected: DecayedCountStore;
  readonly #valueFound: DecayedCountStore;
  readonly #userClicked: HistoryListStore;
  readonly #userExpected: HistoryListStore;
  readonly #userFound: DecayedCountStore;
  readonly #pairClicked: HistoryListStore;
  readonly #pairExpected: HistoryListStore;
  /** Events counted. */
  #changes = 0;
  /** What the last `begin` was about. */
  #asked = { user: Number.NaN, nowMs: 0, changes: 0, values: 0, profiles: 0, items: 0 };
  #nowMs = 0;
  #begun = 0;
  #found = 0;
  #foundAll = 0;
  readonly #listed: number[] = [];
  readonly #listedItems: number[] = [];
  #itemClicks = new Float32Array(1_024);
  #itemExpects = new Float32Array(1_024);
  #clicked = new Float32Array(64);
  #expected = new Float32Array(64);
  /** Logarithms of L by value + 1 and summed by profile; known where the stamp is that of the `begin`. */
  #valueGeneral = new Float32Array(64);
  #valuePersonal = new Float32Array(64);
  #valueStamp = new Float64Array(64);
  /** Number of the last question for likings that met the value. */
  #likingStamp = new Float64Array(64);
  #likingsAsked = 0;
  #general = new Float32Array(64);
  #personal = new Float32Array(64);
  #stamp = new Float64Array(64);

  constructor(options: ResponseOptions, facets: ItemFacets) {
    this.options = options;
    this.facets = facets;
    const counts = (halfLifeMs: number): DecayedCountStore => new DecayedCountStore({ by: "item", halfLifeMs, types: {} }, withoutSisters);
    const lists = (n: number, halfLifeMs: number): HistoryListStore => new HistoryListStore({ n, halfLifeMs, types: {} }, []);
    this.#itemClicked = counts(options.itemHalfLifeMs);
    this.#itemExpected = counts(options.itemHalfLifeMs);
    this.#valueClicked = counts(options.valueHalfLifeMs);
    this.#valueExpected = counts(options.valueHalfLifeMs);
    this.#valueFound = counts(options.userHalfLifeMs);
    this.#userFound = counts(options.userHalfLifeMs);
    this.#userClicked = lists(options.userValues, options.userHalfLifeMs);
    this.#userExpected = lists(options.userValues, options.userHalfLifeMs);
    this.#pairClicked = lists(options.userItems, options.pairHalfLifeMs);
    this.#pairExpected = lists(options.userItems, options.pairHalfLifeMs);
  }

  /** Counts an answer as shown, its items in the order of their places. */
  shown(user: number, items: Uint32Array, atMs: number): void {
    const { baseRate, placePower } = this.options;
    this.begin(user, atMs);
    this.#changes += 1;
    this.#workOut(all);
    // All before the first is counted: the same whether a request has worked them out before or not.
    for (const item of items) this.#known(item);
    const level = this.#valueGeneral[all]! + this.#valuePersonal[all]!;
    for (let place = 0; place < items.length; place += 1) {
      const item = items[place]!;
      const lift = this.itemLift(item);
      const pairLift = this.pairLift(item);
      const log = Math.log(baseRate * lift * pairLift * (1 + place) ** -placePower) + level + this.general(item) + this.personal(item);
      const chance = Math.min(chanceMax, Math.exp(log));
      this.#itemExpected.add(item, atMs, chance / lift);
      this.#pairExpected.add(user, item, atMs, chance / pairLift);
      this.#keepLast(item, atMs);
      this.#each(item, (value) => {
        this.#valueExpected.add(value, atMs, chance * Math.exp(-this.#valueGeneral[value]!));
        this.#userExpected.add(user, value, atMs, chance * Math.exp(-this.#valuePersonal[value]!));
      });
    }
  }

  /** Counts a click on something that an answer showed. */
  clicked(user: number, item: number, atMs: number): void {
    this.#changes += 1;
    this.#itemClicked.add(item, atMs, 1);
    this.#pairClicked.add(user, item, atMs, 1);
    this.#keepLast(item, atMs);
    this.#each(item, (value) => {
      this.#valueClicked.add(value, atMs, 1);
      this.#userClicked.add(user, value, atMs, 1);
    });
  }

  /** Counts a click with no answer behind it. */
  found(user: number, item: number, atMs: number): void {
    this.#changes += 1;
    this.#userFound.add(user, atMs, 1);
    this.#each(item, (value) => {
      this.#valueFound.add(value, atMs, 1);
      this.#userClicked.add(user, value, atMs, 1);
    });
  }

  /** Makes the questions below be about a user (-1: unknown) and a moment, until the next `begin`. */
  begin(user: number, nowMs: number): void {
    const { valueCount, profileCount, itemCount } = this.facets;
    const asked = this.#asked;
    if (
      asked.user === user &&
      asked.nowMs === nowMs &&
      asked.changes === this.#changes &&
      asked.values === valueCount &&
      asked.profiles === profileCount &&
      asked.items === itemCount
    ) {
      // Several steps of a request ask the same: the answers still hold.
      return;
    }
    this.#asked = { user, nowMs, changes: this.#changes, values: valueCount, profiles: profileCount, items: itemCount };
    for (const value of this.#listed) {
      this.#clicked[value] = 0;
      this.#expected[value] = 0;
    }
    this.#listed.length = 0;
    for (const item of this.#listedItems) {
      this.#itemClicks[item] = 0;
      this.#itemExpects[item] = 0;
    }
    this.#listedItems.length = 0;
    this.#grow();
    this.#begun += 1;
    this.#nowMs = nowMs;
    this.#foundAll = this.#valueFound.at(all, nowMs);
    this.#found = user < 0 ? 0 : this.#userFound.at(user, nowMs);
    if (user >= 0) {
      this.#load(this.#userClicked, user, this.#clicked, this.#listed);
      this.#load(this.#userExpected, user, this.#expected, this.#listed);
      this.#load(this.#pairClicked, user, this.#itemClicks, this.#listedItems);
      this.#load(this.#pairExpected, user, this.#itemExpects, this.#listedItems);
    }
  }

  /** L(item): how much better it does than expected. */
  itemLift(item: number): number {
    const k = this.options.itemProof;
    return (this.#itemClicked.at(item, this.#nowMs) + k) / (this.#itemExpected.at(item, this.#nowMs) + k);
  }

  /** L(user, item): how much more the user makes of the item than of its like. What was passed over sinks, what was clicked rises. */
  pairLift(item: number): number {
    if (item >= this.#itemClicks.length) return 1;
    const k = this.options.pairProof;
    return (this.#itemClicks[item]! + k) / (this.#itemExpects[item]! + k);
  }

  /** Clicks expected of an item: how much is known of it. */
  itemExpected(item: number): number {
    return this.#itemExpected.at(item, this.#nowMs);
  }

  /** Logarithm of what everybody makes of the item's values. */
  general(item: number): number {
    return this.#general[this.#known(item)]!;
  }

  /** Logarithm of what the user makes of the item's values beyond everybody. */
  personal(item: number): number {
    return this.#personal[this.#known(item)]!;
  }

  /** For choosing among thousands, into `out`:  rate x (L(item) and everybody's) + affinity x (the user's),  the item's own part as of its last event. */
  guess(items: Uint32Array, n: number, rate: number, affinity: number, out: Float32Array): void {
    const { facets } = this;
    const stamps = this.#stamp;
    const begun = this.#begun;
    const known = this.#items;
    const chunks = this.#itemLast.chunks;
    for (let row = 0; row < n; row += 1) {
      const item = items[row]!;
      const profile = facets.profile(item);
      if (stamps[profile] !== begun) this.#workOutProfile(profile);
      const last = item < known ? chunks[item >>> chunkBits]![item & chunkMask]! : 0;
      out[row] = rate * (this.#general[profile]! + last) + affinity * this.#personal[profile]!;
    }
  }

  /** The counting model's opinion of `n` items, and what it consists of. After `begin`. */
  describe(items: Uint32Array, n: number, out: ResponseSignals): void {
    const { baseRate, itemProof } = this.options;
    this.#workOut(all);
    const level = Math.log(baseRate) + this.#valueGeneral[all]! + this.#valuePersonal[all]!;
    for (let row = 0; row < n; row += 1) {
      const item = items[row]!;
      const expected = this.#itemExpected.at(item, this.#nowMs);
      const profile = this.#known(item);
      const rate = Math.log((this.#itemClicked.at(item, this.#nowMs) + itemProof) / (expected + itemProof)) + this.#general[profile]!;
      const affinity = this.#personal[profile]!;
      const again = Math.log(this.pairLift(item));
      const chance = Math.min(chanceMax, Math.exp(level + rate + affinity + again));
      out.counting[row] = Math.log(chance / (1 - chance));
      out.rate[row] = rate;
      out.affinity[row] = affinity;
      out.again[row] = again;
      out.unproven[row] = itemProof / (itemProof + expected);
    }
  }

  /**
   * Values that the user of `begin` was shown or clicked, with ln L(user, value): the strongest, either way, first, as many as the arrays hold. Returns how many;
   * what says next to nothing is left out. Values are those of the facets.
   */
  likings(values: Uint32Array, logs: Float32Array): number {
    const most = Math.min(values.length, logs.length);
    let count = 0;
    this.#likingsAsked += 1;
    for (const value of this.#listed) {
      // A value is listed by clicks and by exposures.
      if (value === all || this.#likingStamp[value] === this.#likingsAsked) continue;
      this.#likingStamp[value] = this.#likingsAsked;
      this.#workOut(value);
      const log = this.#valuePersonal[value]!;
      const strength = Math.abs(log);
      if (strength < likingMin || (count === most && strength <= Math.abs(logs[count - 1]!))) continue;
      let place = count < most ? count++ : count - 1;
      for (; place > 0 && Math.abs(logs[place - 1]!) < strength; place -= 1) {
        logs[place] = logs[place - 1]!;
        values[place] = values[place - 1]!;
      }
      logs[place] = log;
      values[place] = value - 1;
    }
    return count;
  }

  /** Its stores as columns of tables: by item, by value + 1, and by user, in the table of users and in one of its own. */
  get stored(): Readonly<Record<"items" | "values" | "users" | "lists", readonly StoredColumns[]>> {
    return {
      items: [this.#itemClicked.stored("clicked"), this.#itemExpected.stored("expected"), this.#storedLast],
      values: [this.#valueClicked.stored("clicked"), this.#valueExpected.stored("expected"), this.#valueFound.stored("found")],
      users: [this.#userFound.stored("found")],
      lists: [
        this.#userClicked.stored("clicked_"),
        this.#userExpected.stored("expected_"),
        this.#pairClicked.stored("item_clicked_"),
        this.#pairExpected.stored("item_expected_"),
      ],
    };
  }

  get #storedLast(): StoredColumns {
    return {
      columns: { last_lift: { type: "f32" } },
      // It changes only beside the counts by item.
      follow: (_marks: RowMarks) => undefined,
      save: (item, row) => {
        if (item < this.#items) row.f32("last_lift", this.#itemLast.get(item));
      },
      load: (item, row) => {
        const last = row.f32("last_lift");
        if (last === 0) return;
        this.#ensureItems(item + 1);
        this.#itemLast.set(item, last);
      },
    };
  }

  get bytes(): number {
    const stores = [
      this.#itemClicked,
      this.#itemExpected,
      this.#itemLast,
      this.#valueClicked,
      this.#valueExpected,
      this.#valueFound,
      this.#userClicked,
      this.#userExpected,
      this.#userFound,
      this.#pairClicked,
      this.#pairExpected,
      this.facets,
    ];
    return stores.reduce((sum, { bytes }) => sum + bytes, 0);
  }

  #each(item: number, run: (value: number) => void): void {
    run(all);
    for (const value of this.facets.valuesOf(this.facets.profile(item))) run(value + 1);
  }

  #keepLast(item: number, atMs: number): void {
    this.#ensureItems(item + 1);
    const k = this.options.itemProof;
    this.#itemLast.set(item, Math.log((this.#itemClicked.at(item, atMs) + k) / (this.#itemExpected.at(item, atMs) + k)));
  }

  #ensureItems(count: number): void {
    if (count <= this.#items) return;
    this.#items = count;
    this.#itemLast.ensure(count);
  }

  #load(lists: HistoryListStore, user: number, into: Float32Array, listed: number[]): void {
    const view = lists.of(user);
    if (view === undefined) return;
    const { halfLifeMs } = lists.options;
    for (let at = view.from; at < view.to; at += 1) {
      const value = view.items[at]!;
      into[value] = view.decayed[at]! * 2 ** ((view.times[at]! - this.#nowMs) / halfLifeMs);
      listed.push(value);
    }
  }

  /** The item's profile, its sums worked out. */
  #known(item: number): number {
    const profile = this.facets.profile(item);
    if (this.#stamp[profile] !== this.#begun) this.#workOutProfile(profile);
    return profile;
  }

  #workOutProfile(profile: number): void {
    this.#stamp[profile] = this.#begun;
    let general = 0;
    let personal = 0;
    for (const value of this.facets.valuesOf(profile)) {
      this.#workOut(value + 1);
      general += this.#valueGeneral[value + 1]!;
      personal += this.#valuePersonal[value + 1]!;
    }
    this.#general[profile] = general;
    this.#personal[profile] = personal;
  }

  #workOut(value: number): void {
    if (this.#valueStamp[value] === this.#begun) return;
    this.#valueStamp[value] = this.#begun;
    const { valueProof, userProof } = this.options;
    const nowMs = this.#nowMs;
    const spread = this.#foundAll === 0 ? 0 : (this.#found * this.#valueFound.at(value, nowMs)) / this.#foundAll;
    this.#valueGeneral[value] = Math.log((this.#valueClicked.at(value, nowMs) + valueProof) / (this.#valueExpected.at(value, nowMs) + valueProof));
    this.#valuePersonal[value] = Math.log((this.#clicked[value]! + userProof) / (this.#expected[value]! + spread + userProof));
  }

  #grow(): void {
    const { valueCount, profileCount } = this.facets;
    if (valueCount + 1 > this.#valueStamp.length) {
      const length = 2 ** Math.ceil(Math.log2(valueCount + 1));
      this.#clicked = new Float32Array(length);
      this.#expected = new Float32Array(length);
      this.#valueGeneral = new Float32Array(length);
      this.#valuePersonal = new Float32Array(length);
      this.#valueStamp = new Float64Array(length);
      this.#likingStamp = new Float64Array(length);
    }
    if (this.facets.itemCount > this.#itemClicks.length) {
      const length = 2 ** Math.ceil(Math.log2(this.facets.itemCount));
      this.#itemClicks = new Float32Array(length);
      this.#itemExpects = new Float32Array(length);
    }
    if (profileCount > this.#stamp.length) {
      const length = 2 ** Math.ceil(Math.log2(profileCount));
      this.#general = new Float32Array(length);
      this.#personal = new Float32Array(length);
      this.#stamp = new Float64Array(length);
    }
  }
}

const withoutSisters = {
  eventTypes: [],
  sister: (): never => {
    throw new TypeError("a decayed count has no sister");
  },
};
