// All state that the activity log decides: catalogue, aggregations, exposures, answers that can be joined, known event ids.
// One way in: `apply(record)`. The intake applies a record after the log has acknowledged it, the rebuild applies the same records from the log,
// so both give the same state.
// Invariants: 1. records are applied in offset order, each once  2. nothing here reads a clock or writes anything out
// 3. an exposure is applied when its answer is given (the next request must see it) and again only by a rebuild, never twice in a process.
// Concurrency: owned by the serving loop. Memory: bounded by the limits of each part times the number of distinct ids, which nothing bounds yet (a deleted
// item keeps its handle); reported by `bytes()`.

import { Catalog } from "#features/catalog";
import { type ActivityRecord, type EventRecord } from "#features/activity-record";
import { createFeatureSet, type Declarations, type FeatureSet } from "#features/feature-set";
import { RecentListStore } from "#features/recent-list";
import { DecayedCountStore } from "#features/decayed-count";
import { ListRefill } from "#features/list-refill";
import { ActivityTables } from "./activity-tables.ts";
import { EventDedupe } from "./event-dedupe.ts";
import { ItemFacets } from "./item-facets.ts";
import { type ResponseOptions, Responses } from "./responses.ts";
import { type Served, ServedMemory } from "./served-memory.ts";

export interface ActivityStateOptions<D extends Declarations> {
  readonly eventTypes: readonly string[];
  readonly aggregations: D;
  readonly freshItems: number;
  readonly responses: ResponseOptions;
  /** Event types that say that what was shown was wanted. */
  readonly clickTypes: readonly string[];
  /** Properties of items by which likings generalise (item-facets.ts). */
  readonly facets: readonly string[];
  /** Newest exposures remembered per user. */
  readonly exposuresPerUser: number;
  readonly servedAnswers: number;
  readonly eventIdsPerGeneration: number;
  /** New for each process: letters and digits. */
  readonly incarnation: string;
}

/** Handles offered to a list a batch: about 40 us. */
const refillStep = 2_000;

export type JoinOutcome = { readonly result: "joined" | "not-shown" | "unknown"; readonly pipeline: string };

export class ActivityState<D extends Declarations> {
  readonly catalog: Catalog;
  readonly features: FeatureSet<D>;
  /** What was shown to each user; an entry's tag is the item's state version at that time. */
  readonly exposures: RecentListStore;
  /** How what was shown was answered. */
  readonly responses: Responses;
  readonly served: ServedMemory;
  readonly dedupe: EventDedupe;
  /** The same state as tables, for checkpoints. */
  readonly tables: ActivityTables;
  /** Offset of the log behind the last record that is in the state. Whoever applies a record moves it. */
  position = 0;
  /** Answers that are in the state before their record's turn came, by recommendation id. */
  readonly ahead = new Set<string>();
  /** The declarations by which the state is counted. */
  readonly fingerprint: string;
  readonly #clickTypes: ReadonlySet<string>;
  readonly #decayedByItem: readonly DecayedCountStore[];
  readonly #refills: readonly ListRefill[];
  #events = 0;
  #newestMs = 0;

  constructor(options: ActivityStateOptions<D>) {
    this.features = createFeatureSet(options.eventTypes, options.aggregations);
    const stores = Object.values(this.features.stores) as unknown[];
    this.#decayedByItem = stores.filter((store): store is DecayedCountStore => store instanceof DecayedCountStore && store.options.by === "item");
    this.catalog = new Catalog({
      freshItems: options.freshItems,
      onAvailability: (item, available) => {
        for (const store of this.#decayedByItem) {
          if (available) store.show(item);
          else store.hide(item);
        }
      },
    });
    const size = (): number => this.catalog.items.size;
    const refills = new Map([[this.catalog.fresh, new ListRefill(this.catalog.fresh, size, (item) => this.catalog.offerFresh(item))]]);
    for (const store of this.#decayedByItem) {
      if (store.top !== undefined) refills.set(store.top, new ListRefill(store.top, size, (item) => this.catalog.available(item) && store.show(item)));
    }
    this.#refills = [...refills.values()];
    this.exposures = new RecentListStore({ n: options.exposuresPerUser, types: {} }, options.eventTypes);
    this.responses = new Responses(options.responses, new ItemFacets(options.facets));
    this.#clickTypes = new Set(options.clickTypes);
    this.served = new ServedMemory(options.servedAnswers, options.incarnation);
    this.dedupe = new EventDedupe(options.eventIdsPerGeneration);
    this.tables = new ActivityTables({
      catalog: this.catalog,
      stores: this.features.stores,
      exposures: this.exposures,
      responses: this.responses,
      served: this.served,
      dedupe: this.dedupe,
      refills,
      counters: {
        get: () => ({ events: this.#events, newestMs: this.#newestMs }),
        set: ({ events = 0, newestMs = 0 }) => {
          this.#events = events;
          this.#newestMs = newestMs;
        },
      },
    });
    // What decides the state beside the records: rows counted by other declarations do not fit.
    const { eventTypes, freshItems, responses, clickTypes, facets, exposuresPerUser, servedAnswers, eventIdsPerGeneration } = options;
    this.fingerprint = JSON.stringify({
      version: 1,
      eventTypes,
      aggregations: this.features.describe(),
      ...{ freshItems, responses, clickTypes, facets, exposuresPerUser, servedAnswers, eventIdsPerGeneration },
    });
  }

  /** Events counted, live and rebuilt. */
  get events(): number {
    return this.#events;
  }

  /** Newest event time seen, ms; 0 before the first. */
  get newestEventMs(): number {
    return this.#newestMs;
  }

  /** Does the type say that what was shown was wanted? */
  isClick(type: string): boolean {
    return this.#clickTypes.has(type);
  }

  apply(record: ActivityRecord): void {
    switch (record.kind) {
      case "event":
        this.#applyEvent(record);
        break;
      case "itemPut":
        this.#refacet(this.catalog.putItem(record.id, record.body, record.atMs));
        break;
      case "itemPatch":
        this.catalog.patchItem(record.id, record.body, record.atMs);
        this.#refacet(this.catalog.items.find(record.id));
        break;
      case "userPatch":
        this.catalog.patchUser(record.id, record.body);
        break;
      case "itemDelete":
        this.catalog.deleteItem(record.id);
        break;
      case "userPut":
        this.catalog.putUser(record.id, record.body);
        break;
      case "userDelete":
        this.catalog.deleteUser(record.id);
        break;
      case "served": {
        const user = this.catalog.meetUser(record.user);
        const items = Uint32Array.from(record.items, (id) => this.catalog.meetItem(id, record.atMs));
        this.applyServed({ recommendationId: record.recommendationId, pipeline: record.pipeline, user, items, atMs: record.atMs });
        break;
      }
      case "training":
        // The trainer reads it from the log; what is counted here does not depend on it.
        break;
    }
  }

  /** Upkeep after a batch: lists that lost many entries are refilled by a bounded step. */
  maintain(): void {
    for (const refill of this.#refills) refill.step(refillStep);
  }

  /** Remembers an answer: exposure of its items and the id that later events name. */
  applyServed(served: Served): void {
    for (const item of served.items) this.exposures.add(served.user, item, served.atMs, this.catalog.stateVersion.get(item));
    this.responses.shown(served.user, served.items, served.atMs);
    this.served.add(served);
  }

  /** What a recommendation id in an event refers to. */
  join(recommendationId: string, itemId: string): JoinOutcome {
    const served = this.served.find(recommendationId);
    if (served === undefined) return { result: "unknown", pipeline: "other" };
    const item = this.catalog.items.find(itemId);
    return { result: item !== undefined && served.items.includes(item) ? "joined" : "not-shown", pipeline: served.pipeline };
  }

  /** Bytes by owner. */
  bytes(): Record<string, number> {
    return {
      ...this.features.bytes(),
      catalog: this.catalog.bytes,
      exposures: this.exposures.bytes,
      responses: this.responses.bytes,
      served: this.served.bytes,
      eventIds: this.dedupe.bytes,
    };
  }

  #refacet(item: number | undefined): void {
    if (item !== undefined) this.responses.facets.put(item, this.catalog.itemBody(item));
  }

  #applyEvent(record: EventRecord): void {
    if (record.id !== "") this.dedupe.add(record.id);
    const type = this.features.typeIndex(record.type);
    // A type that the configuration no longer declares counts nowhere; the record stays in the log.
    if (type === undefined) return;
    const user = this.catalog.meetUser(record.user);
    const item = this.catalog.meetItem(record.item, record.atMs);
    this.features.fold({ type, user, item, atMs: record.atMs, value: Number.isNaN(record.value) ? 0 : record.value });
    if (this.#clickTypes.has(record.type)) {
      if (record.recommendationId !== "" && this.join(record.recommendationId, record.item).result === "joined")
        this.responses.clicked(user, item, record.atMs);
      else this.responses.found(user, item, record.atMs);
    }
    // Counting put it into the lists; what may not be recommended takes no place there.
    if (!this.catalog.available(item)) for (const store of this.#decayedByItem) store.hide(item);
    this.#events += 1;
    if (record.atMs > this.#newestMs) this.#newestMs = record.atMs;
  }
}
