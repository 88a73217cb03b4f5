// The models that a recommender must beat, computed beside it on the same baskets: popularity, decayed popularity, and own history filled up with
// decayed popularity. Exact on purpose (every count, every tie), since they are the yardstick.
//   popularity           1 for each basket that holds the item
//   decayed popularity   2^(days since the first basket / 7) for each basket that holds it: ranks like halving every count each 7 days
//   own history          the user's items by number of baskets, ties by the later basket, then by item number; then decayed popularity
// Every other tie goes to the smaller item number. An item that no learnt basket holds is in no list.
// Invariants: 1. a list depends on the learnt baskets alone  2. nothing is random, nothing depends on hashing.
// Cost: learning moves each item of the basket up its two rankings, some hundred steps each; a list walks its ranking from the top.
// Memory: exact counts need all of it: about 40 bytes for each pair of a user and an item, 40 bytes an item.

const halfLifeMs = 7 * 86_400_000;
/** Powers of two up to here are added before all scores are scaled down together. */
const exponentMax = 500;

/** Items in order of falling score, ties to the smaller number; kept in order as scores rise. */
class Ranking {
  #scores = new Float64Array(1_024);
  #places = new Int32Array(1_024).fill(-1);
  #order = new Int32Array(1_024);
  #size = 0;

  get size(): number {
    return this.#size;
  }

  /** The item in place `place`, 0 the best. */
  at(place: number): number {
    return this.#order[place]!;
  }

  raise(item: number, by: number): void {
    if (item >= this.#scores.length) this.#grow(item + 1);
    const scores = this.#scores;
    const order = this.#order;
    const places = this.#places;
    scores[item]! += by;
    const score = scores[item]!;
    let place = places[item]!;
    if (place < 0) {
      place = this.#size;
      this.#size += 1;
    }
    while (place > 0) {
      const above = order[place - 1]!;
      if (scores[above]! > score || (scores[above] === score && above < item)) break;
      order[place] = above;
      places[above] = place;
      place -= 1;
    }
    order[place] = item;
    places[item] = place;
  }

  /** Multiplies all scores by 2^`exponent`, an integer: exact but for scores that vanish, so the order stays. */
  scale(exponent: number): void {
    const factor = 2 ** exponent;
    for (let item = 0; item < this.#scores.length; item += 1) this.#scores[item]! *= factor;
  }

  #grow(least: number): void {
    const length = 2 ** Math.ceil(Math.log2(least));
    const scores = new Float64Array(length);
    scores.set(this.#scores);
    this.#scores = scores;
    const places = new Int32Array(length).fill(-1);
    places.set(this.#places);
    this.#places = places;
    const order = new Int32Array(length);
    order.set(this.#order);
    this.#order = order;
  }
}

interface OwnItem {
  readonly item: number;
  baskets: number;
  last: number;
}

/** A learnt basket, as far as the baselines care. Item numbers are distinct. */
export interface LearntBasket {
  readonly user: string;
  readonly timeMs: number;
  readonly itemNumbers: readonly number[];
}

export type BaselineName = "popularity" | "decayedPopularity" | "ownHistory";
export const baselineNames: readonly BaselineName[] = ["popularity", "decayedPopularity", "ownHistory"];
/** Own history says nothing about what is new to the user. */
export const novelBaselineNames: readonly BaselineName[] = ["popularity", "decayedPopularity"];

export class Baselines {
  readonly #popularity = new Ranking();
  readonly #decayed = new Ranking();
  readonly #owned = new Map<string, Map<number, OwnItem>>();
  #baskets = 0;
  #originMs = 0;

  learn(basket: LearntBasket): void {
    if (this.#baskets === 0) this.#originMs = basket.timeMs;
    const halvings = Math.floor((basket.timeMs - this.#originMs) / halfLifeMs);
    if (halvings > exponentMax) {
      this.#decayed.scale(-halvings);
      this.#originMs += halvings * halfLifeMs;
    }
    const weight = 2 ** ((basket.timeMs - this.#originMs) / halfLifeMs);
    let owned = this.#owned.get(basket.user);
    if (owned === undefined) this.#owned.set(basket.user, (owned = new Map()));
    for (const item of basket.itemNumbers) {
      this.#popularity.raise(item, 1);
      this.#decayed.raise(item, weight);
      const own = owned.get(item);
      if (own === undefined) owned.set(item, { item, baskets: 1, last: this.#baskets });
      else {
        own.baskets += 1;
        own.last = this.#baskets;
      }
    }
    this.#baskets += 1;
  }

  /** Users that were learnt. */
  get users(): number {
    return this.#owned.size;
  }

  /** True when a learnt basket of the user held the item. */
  owns(user: string, item: number): boolean {
    return this.#owned.get(user)?.has(item) === true;
  }

  /** Up to `n` distinct item numbers, best first; `novel` leaves out what the user owns. */
  list(name: BaselineName, user: string, n: number, novel: boolean): number[] {
    const owned = this.#owned.get(user);
    const list: number[] = [];
    if (name === "ownHistory" && owned !== undefined && !novel) {
      const own = [...owned.values()].sort((a, b) => b.baskets - a.baskets || b.last - a.last || a.item - b.item);
      for (const { item } of own.slice(0, n)) list.push(item);
    }
    const ranking = name === "popularity" ? this.#popularity : this.#decayed;
    const first = list.length;
    for (let place = 0; place < ranking.size && list.length < n; place += 1) {
      const item = ranking.at(place);
      if (novel && owned?.has(item) === true) continue;
      if (first > 0 && list.includes(item)) continue;
      list.push(item);
    }
    return list;
  }
}
