// A scene: what the operators of a recommend pipeline know of one request, and the stores that they read.
// Why one object: sources, filters and scores are plain functions over columns; everything else they need stands here, resolved once at the edge.

import type { CooccurrenceStore } from "#features/cooccurrence";
import type { DecayedCountStore } from "#features/decayed-count";
import type { HistoryListStore } from "#features/history-list";
import type { RecentListStore } from "#features/recent-list";
import type { Catalog } from "#features/catalog";
import type { Responses } from "./responses.ts";
import type { RequestFeatures } from "./model-features.ts";
import type { Predicate } from "./predicate.ts";
import type { Taste } from "./taste.ts";

/** The aggregations that recommend reads; declared in config.ts. */
export interface SceneStores {
  readonly catalog: Catalog;
  readonly exposures: RecentListStore;
  /** Decayed count of all events by item, long half-life: what is popular. */
  readonly popularity: DecayedCountStore;
  /** The same with a short half-life: what is rising now. */
  readonly trend: DecayedCountStore;
  /** Distinct items of a user. */
  readonly history: HistoryListStore;
  /** Distinct items that a user is done with (bought, finished). */
  readonly done: HistoryListStore;
  readonly together: CooccurrenceStore;
  /** Weight of the events that `together` saw, by item, same half-life: the norm of a neighbour's weight. */
  readonly togetherNorm: DecayedCountStore;
  /** How what was shown was answered. */
  readonly responses: Responses;
}

export interface SceneRequest {
  /** Handle, -1 for a user that was never seen. */
  readonly user: number;
  readonly nowMs: number;
  readonly n: number;
  readonly predicate: Predicate | undefined;
  readonly exclude: ReadonlySet<number>;
  /** Versions of vector collections that the request names, by collection. */
  readonly versions: Readonly<Record<string, string>> | undefined;
  /** Set by the together source, read by the hydrate behind it, given back when the request ends. */
  taste: Taste | undefined;
  /** What the model sees of this request; undefined where no model ranks. */
  readonly model: RequestFeatures | undefined;
}

/** A request for a candidate's row in the scene: available, and passing the filter. Sources that walk long lists ask before they emit. */
export function eligible(stores: SceneStores, request: SceneRequest, item: number): boolean {
  return stores.catalog.available(item) && (request.predicate === undefined || request.predicate.test(stores.catalog, item));
}
