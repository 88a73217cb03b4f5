// What an aggregation is: a declaration (data), and a store that folds events of the log one by one.
// Invariants every store keeps: 1. folding the same events in any order gives the same answer, up to rounding and as long as no list has
// overflowed (late events count at their own time)  2. a store never reads a clock: time comes with the event or the question
// 3. each event is folded once (the intake's duty: it drops known ids and folds by log offset)  4. memory is bounded by the declared limits
// and the number of handles.

import type { StoredColumns } from "./checkpoint/stored-state.ts";
import type { TopList } from "./top-list.ts";

/** An event as the stores see it: ids are handles, the type is its index in the declared event types. */
export interface FoldEvent {
  readonly type: number;
  readonly user: number;
  readonly item: number;
  /** When it happened, ms since 1970. */
  readonly atMs: number;
  /** The caller's value (seconds, money), 0 when there is none. */
  readonly value: number;
}

/** Weight per event type name; types left out do not count. All weights >= 0. */
export type TypeWeights = Readonly<Record<string, number>>;

/** How a store is kept in tables (src/features/checkpoint): as columns beside others of the same items or users, or in a table of its own. */
export interface KeptStore {
  readonly by: "item" | "user";
  readonly place: "beside others" | "own table";
  readonly part: StoredColumns;
  /** A number that stands in no row. */
  readonly number?: { get(): number; set(value: number): void };
  /** The list of the best, which is kept as it is. */
  readonly top?: TopList;
  readonly topKey?: (handle: number) => number;
}

export interface AggregationStore {
  fold(event: FoldEvent): void;
  /** `name`: of the declaration. */
  kept(name: string): KeptStore;
  /** Bytes held, an estimate where native maps are involved. */
  readonly bytes: number;
}

/** What a store is built with: the names of the event types (index = FoldEvent.type) and its sister stores by name. */
export interface StoreContext {
  readonly eventTypes: readonly string[];
  /** `folded-after`: refuses a sister that takes an event before this store does. */
  sister(name: string, order?: "folded-after"): AggregationStore;
}

export interface Aggregation<S extends AggregationStore> {
  readonly kind: string;
  /** The declaration as data, for status pages and documents. */
  readonly options: Readonly<Record<string, unknown>>;
  create(context: StoreContext): S;
}

/** Weights by type index; types that are not named weigh 0. */
export function weightTable(eventTypes: readonly string[], weights: TypeWeights): Float64Array {
  return Float64Array.from(eventTypes, (type) => weights[type] ?? 0);
}
