// Counting models: what a learned model must beat. All are fed the records of a played log and give the chance of each served item at its place, before the exposure counts.
//   base x place            one rate for all, falling with the place
//   item                    clicked / expected of each item, shrunk to the base
//   user x facets           clicked / expected of user x topic, shrunk to user x category, to user, to base
//   responses               the product's own (gateway/responses.ts), with the feed's settings and with longer memory and more proof (the best of a search)
//   ... in steps            any of them, corrected by counting how often its predictions of a size came true: calibration by counts
// Why so many: the best one is the peer, and a weak peer proves nothing.
// Invariants: 1. nothing is fitted to labels but by counting  2. a prediction counts nothing that its answer led to.

import type { ActivityRecord, ServedRecord } from "#features/activity-record";
import { HandleTable } from "#features/handle-table";
import { ItemFacets } from "#gateway/item-facets";
import { type ResponseOptions, Responses } from "#gateway/responses";
import type { ItemBody } from "#wire/api";

export interface CountingModel {
  readonly name: string;
  /** Any record but answers. */
  take(record: ActivityRecord): void;
  /** The chances of an answer's items at their places, valid until the next call; then counts it as shown. */
  served(record: ServedRecord): Float64Array;
}

/** Clicks on items of answers, each once; others are not passed on. */
class Clicks {
  readonly #answers = new Map<string, { readonly items: readonly string[]; readonly atMs: number; readonly done: Set<string> }>();
  readonly #types: ReadonlySet<string>;

  constructor(types: readonly string[]) {
    this.#types = new Set(types);
  }

  served({ recommendationId, items, atMs }: ServedRecord): void {
    this.#answers.set(recommendationId, { items, atMs, done: new Set() });
  }

  /** The place of the item, when the record is the first click on it; -1: a click without an answer; undefined: no click, or not the first. */
  placeOf(record: ActivityRecord): number | undefined {
    if (record.kind !== "event" || !this.#types.has(record.type)) return undefined;
    const answer = this.#answers.get(record.recommendationId);
    const place = answer?.items.indexOf(record.item) ?? -1;
    if (place < 0) return -1;
    if (answer!.done.has(record.item)) return undefined;
    answer!.done.add(record.item);
    return place;
  }
}

const clickTypes = ["click"];
const placeFactor = (place: number): number => (1 + place) ** -0.25;

/** A sum that forgets: halves every `halfLifeMs`. */
class Decayed {
  readonly #halfLifeMs: number;
  readonly #sums = new Map<string, { value: number; atMs: number }>();

  constructor(halfLifeMs: number) {
    this.#halfLifeMs = halfLifeMs;
  }

  at(key: string, nowMs: number): number {
    const sum = this.#sums.get(key);
    return sum === undefined ? 0 : sum.value * 2 ** ((sum.atMs - nowMs) / this.#halfLifeMs);
  }

  add(key: string, nowMs: number, value: number): void {
    const sum = { value: this.at(key, nowMs) + value, atMs: nowMs };
    this.#sums.set(key, sum);
  }
}

/**
 * A chain of ever finer keys: the chance of a key is that of the coarser one times (clicked + k) / (expected + k), where `expected` sums the coarser chance over what was shown.
 */
export function chainOfCounts(
  name: string,
  keysOf: (user: string, item: string, body: ItemBody) => readonly string[],
  k: number,
  halfLifeMs: number,
): CountingModel {
  const bodies = new Map<string, ItemBody>();
  const clicks = new Clicks(clickTypes);
  const clicked = new Decayed(halfLifeMs);
  const expected = new Decayed(halfLifeMs);
  const chances = new Float64Array(1_024);
  const walk = (user: string, item: string, place: number, nowMs: number, visit: (key: string, coarser: number) => void): number => {
    let chance = 0.2 * placeFactor(place);
    for (const key of ["", ...keysOf(user, item, bodies.get(item) ?? {})]) {
      visit(key, chance);
      chance = Math.min(0.95, chance * ((clicked.at(key, nowMs) + k) / (expected.at(key, nowMs) + k)));
    }
    return chance;
  };
  return {
    name,
    take(record) {
      if (record.kind === "itemPut") bodies.set(record.id, record.body);
      const place = clicks.placeOf(record);
      if (record.kind !== "event" || place === undefined || place < 0) return;
      walk(record.user, record.item, place, record.atMs, (key) => clicked.add(key, record.atMs, 1));
    },
    served(record) {
      const { user, items, atMs } = record;
      clicks.served(record);
      items.forEach((item, place) => (chances[place] = walk(user, item, place, atMs, () => undefined)));
      items.forEach((item, place) => walk(user, item, place, atMs, (key, coarser) => expected.add(key, atMs, coarser)));
      return chances;
    },
  };
}

/** The product's own responses, with these settings. */
export function responsesModel(name: string, options: ResponseOptions, facetNames: readonly string[]): CountingModel {
  const facets = new ItemFacets(facetNames);
  const responses = new Responses(options, facets);
  const items = new HandleTable();
  const users = new HandleTable();
  const clicks = new Clicks(clickTypes);
  const chances = new Float64Array(1_024);
  const column = (): Float32Array => new Float32Array(1_024);
  const signals = { counting: column(), rate: column(), affinity: column(), again: column(), unproven: column() };
  return {
    name,
    take(record) {
      if (record.kind === "itemPut") facets.put(items.intern(record.id), record.body);
      if (record.kind !== "event") return;
      const place = clicks.placeOf(record);
      if (place === undefined) return;
      const [user, item] = [users.intern(record.user), items.intern(record.item)];
      if (place >= 0) responses.clicked(user, item, record.atMs);
      else responses.found(user, item, record.atMs);
    },
    served(record) {
      clicks.served(record);
      const user = users.intern(record.user);
      const handles = Uint32Array.from(record.items, (item) => items.intern(item));
      responses.begin(user, record.atMs);
      responses.describe(handles, handles.length, signals);
      // The same as everywhere in the product: the chance at the first place, then the place.
      for (let place = 0; place < handles.length; place += 1) {
        const atFirst = 1 / (1 + Math.exp(-signals.counting[place]!));
        chances[place] = atFirst * (1 + place) ** -options.placePower;
      }
      responses.shown(user, handles, record.atMs);
      return chances;
    },
  };
}

/** The same settings with longer memory and more proof before it believes. */
export function patient(options: ResponseOptions, memory: number, proof: number): ResponseOptions {
  const { itemHalfLifeMs, valueHalfLifeMs, userHalfLifeMs, pairHalfLifeMs, itemProof, valueProof, userProof, pairProof } = options;
  return {
    ...options,
    itemHalfLifeMs: itemHalfLifeMs * memory,
    valueHalfLifeMs: valueHalfLifeMs * memory,
    userHalfLifeMs: userHalfLifeMs * memory,
    pairHalfLifeMs: pairHalfLifeMs * memory,
    itemProof: itemProof * proof,
    valueProof,
    userProof: userProof * proof,
    pairProof: pairProof * proof,
  };
}

const steps = 24;
const stepLogit = 0.4;
/** Impressions after which an item that was not clicked is taken for not wanted. */
const settleMs = 30_000;

/** `inner`, corrected by how often its predictions of about the same size came true lately. */
export function inSteps(inner: CountingModel, halfLifeMs: number): CountingModel {
  const clicks = new Clicks(clickTypes);
  const waiting: { readonly atMs: number; readonly id: string; readonly chances: Float64Array; readonly wanted: Set<number> }[] = [];
  const byId = new Map<string, (typeof waiting)[number]>();
  const wanted = new Float64Array(steps + 1);
  const seen = new Float64Array(steps + 1);
  let lastMs = 0;
  let head = 0;
  const chances = new Float64Array(1_024);
  const stepOf = (chance: number): number => Math.min(steps, Math.max(0, Math.log(chance / (1 - chance)) / stepLogit + steps * 0.65));
  const settle = (nowMs: number): void => {
    const keep = 2 ** (-(nowMs - (lastMs === 0 ? nowMs : lastMs)) / halfLifeMs);
    lastMs = nowMs;
    for (let step = 0; step <= steps; step += 1) {
      wanted[step]! *= keep;
      seen[step]! *= keep;
    }
    for (; head < waiting.length && waiting[head]!.atMs + settleMs <= nowMs; head += 1) {
      const answer = waiting[head]!;
      byId.delete(answer.id);
      answer.chances.forEach((chance, place) => {
        const at = stepOf(chance);
        const [low, part] = [Math.floor(at), at - Math.floor(at)];
        for (const [step, share] of [
          [low, 1 - part],
          [Math.min(steps, low + 1), part],
        ] as const) {
          seen[step]! += share;
          if (answer.wanted.has(place)) wanted[step]! += share;
        }
      });
    }
  };
  const corrected = (step: number): number => {
    // Shrunk to the step's own size as by 20 impressions.
    const own = 1 / (1 + Math.exp(-(step - steps * 0.65) * stepLogit));
    return (wanted[step]! + 20 * own) / (seen[step]! + 20);
  };
  return {
    name: `${inner.name}, corrected by steps`,
    take(record) {
      inner.take(record);
      const place = clicks.placeOf(record);
      if (record.kind === "event" && place !== undefined && place >= 0) byId.get(record.recommendationId)?.wanted.add(place);
    },
    served(record) {
      clicks.served(record);
      settle(record.atMs);
      const raw = inner.served(record).slice(0, record.items.length);
      const answer = { atMs: record.atMs, id: record.recommendationId, chances: raw, wanted: new Set<number>() };
      waiting.push(answer);
      byId.set(record.recommendationId, answer);
      raw.forEach((chance, place) => {
        const at = stepOf(chance);
        const [low, part] = [Math.floor(at), at - Math.floor(at)];
        chances[place] = (1 - part) * corrected(low) + part * corrected(Math.min(steps, low + 1));
      });
      return chances;
    },
  };
}
