// What commands, HTTP and the pipeline know of the vector engine: collections by name, asked and written through messages to the thread that owns them.
// A collection is a base version (a snapshot) with a live tail and tombstones over it; one answer is of one version and of every write acknowledged before it was asked.
// Invariants: 1. a write is answered when it is durable by the server's policy, and every search asked after that sees it  2. a search never waits for a build, a fold or a switch
//             3. expected misses (no such collection, no such element) are values.
// Concurrency: any number of calls under way, up to `vectorLimits.callsMax`; each ends by its deadline.
// Limits: vectorLimits.

import type { VectorMetric } from "#base/vector-metric";

export type { VectorMetric } from "#base/vector-metric";

export const vectorLimits = {
  dimsMax: 4_096,
  /** Of a vector (2^62), so that products and squared distances of any two stay within f32. */
  lengthMax: 2 ** 62,
  elementBytesMax: 1_024,
  attributesBytesMax: 16_384,
  /** Answers of one query. */
  countMax: 10_000,
  /** Queries of one batch, and answers of a batch together. */
  queriesMax: 1_024,
  answersMax: 1_000_000,
  /** Rows of one write. */
  rowsMax: 10_000,
  collectionsMax: 1_000,
  nameBytesMax: 512,
  callsMax: 10_000,
} as const;

/** How a collection is made. By VADD: metric cosine, dims of the first vector. */
export interface CollectionShape {
  readonly dims: number;
  readonly metric: VectorMetric;
}

/** Rows to write: element i has the numbers `vectors[i * dims ...]`. */
export interface VectorRows {
  readonly elements: readonly string[];
  readonly vectors: Float32Array<ArrayBuffer>;
  /** JSON text; undefined leaves what was there (nothing for a new element), "" takes it away. */
  readonly attributes?: readonly (string | undefined)[];
}

export interface SearchRequest {
  readonly collection: string;
  /** A loaded version by its name; default: the one served. */
  readonly version?: string;
  /** Row-major queries, or an element whose vector is the query. */
  readonly queries: Float32Array<ArrayBuffer> | { readonly element: string };
  readonly count: number;
  /** An expression over attributes (docs/vectors.md); only elements that pass are answers. */
  readonly filter?: string;
  /** Compare with every row. */
  readonly exact?: boolean;
  readonly withAttributes?: boolean;
  /** Instead of the tuned one, for experiments: at most so many lists are looked into. */
  readonly probes?: number;
  /** The answer is worth nothing after so long; default 1,000. */
  readonly timeoutMs?: number;
}

/** Answers of all queries one after the other, best first; those of query q are `from[q] .. from[q + 1] - 1`. */
export interface SearchAnswer {
  /** Served version; "" when the collection has no base yet. */
  readonly version: string;
  readonly from: Uint32Array;
  readonly elements: readonly string[];
  readonly scores: Float32Array;
  readonly attributes?: readonly (string | undefined)[];
  /** Time in the vectors thread, and rows compared. */
  readonly searchMs: number;
  readonly rowsCompared: number;
}

export interface VectorLookup {
  /** 1 where the element is there. */
  readonly found: Uint8Array;
  /** Row-major; zeros where it is not. As stored: of length 1 in a cosine collection. */
  readonly vectors: Float32Array;
  /** Length before normalising, of a cosine collection; else 1. */
  readonly norms: Float32Array;
  readonly attributes: readonly (string | undefined)[];
}

export interface CollectionVersion {
  readonly version: string;
  readonly state: "serving" | "spare" | "loading" | "refused";
  readonly rows: number;
  readonly bytes: number;
  readonly reason?: string;
}

export interface CollectionStatus extends CollectionShape {
  readonly name: string;
  /** Elements that a search can find. */
  readonly elements: number;
  readonly baseRows: number;
  readonly tailRows: number;
  /** Rows of the tail that are in no list of the base, which every search compares; undefined: the base has none. */
  readonly tailUnlisted?: number;
  readonly deletedRows: number;
  readonly bytes: number;
  readonly versions: readonly CollectionVersion[];
  readonly settings: { readonly lists: number; readonly probes: number };
  readonly upserts: number;
  readonly removes: number;
  readonly searches: number;
  readonly searchP50Ms: number;
  readonly searchP99Ms: number;
  /** Of sampled live queries against exact search; undefined before the first sample. */
  readonly recall?: { readonly at: number; readonly value: number; readonly samples: number };
  readonly folding?: { readonly sinceMs: number; readonly share: number };
  readonly folds: number;
  readonly failure?: string;
}

export interface VectorsStatus {
  readonly collections: readonly CollectionStatus[];
  readonly memoryBytes: number;
  readonly memoryBytesMax: number;
  readonly loopStallMaxMs: number;
}

export interface VectorService {
  /** Makes a collection; `conflict` when one of another shape is there, false when the same was there. */
  create(name: string, shape: CollectionShape): Promise<boolean>;
  /** Forgets a collection with its versions and its log; false when there was none. */
  drop(name: string): Promise<boolean>;
  /** Writes rows; 1 in the answer for each that was new. undefined: no such collection. */
  upsert(collection: string, rows: VectorRows): Promise<Uint8Array | undefined>;
  /** 1 for each element that was there. undefined: no such collection. */
  remove(collection: string, elements: readonly string[]): Promise<Uint8Array | undefined>;
  /** Sets or, with "", takes away attributes; 1 for each element that was there. */
  setAttributes(collection: string, elements: readonly string[], attributes: readonly string[]): Promise<Uint8Array | undefined>;
  get(collection: string, elements: readonly string[]): Promise<VectorLookup | undefined>;
  /** Elements that a search can find, with every write acknowledged before. undefined: no such collection. */
  count(collection: string): Promise<number | undefined>;
  /** `count` elements, each at most once; negative: |count| of them, also several times (as SRANDMEMBER). */
  random(collection: string, count: number): Promise<readonly string[] | undefined>;
  /** undefined: no such collection. Throws `not-found` for a version that is not loaded and an element to search by that is not there. */
  search(request: SearchRequest): Promise<SearchAnswer | undefined>;
  /** Shape of a collection, without asking the thread; undefined when there is none. */
  shapeOf(name: string): CollectionShape | undefined;
  /** Of all collections. */
  names(): readonly string[];
  /** Grows when a collection comes or goes. */
  readonly namesChanged: number;
  /** Grows with every write and switch of the collection, before the write is acknowledged: what a cache of results is keyed by. */
  changesOf(name: string): number;
  /** What a collection is at this moment, every figure of the same one. undefined: no such collection. */
  statusOf(collection: string): Promise<CollectionStatus | undefined>;
  /** Names and shapes are those of this moment, as `shapeOf` has them; counts and figures at most about a second old, 0 of a collection that was just made. */
  status(): VectorsStatus;
}
