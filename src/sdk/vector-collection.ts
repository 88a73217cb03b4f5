// A vector collection as programs see it, whoever holds it: a server over its Redis port (vector-client.ts), or this process (`collectionOf`).
// Scores are those of the metric: the cosine, the inner product, or the squared distance (smaller is nearer).

import { MillraceError } from "#base/errors";
import type { SearchAnswer, VectorMetric, VectorService } from "#vectors/vector-service";

export interface SearchOptions {
  /** Answers of each query. Default 10. */
  readonly count?: number;
  /** An expression over attributes, e.g. `.year >= 1980 and .genre == "action"`. */
  readonly filter?: string;
  /** Compare with every row. */
  readonly exact?: boolean;
  readonly attributes?: boolean;
  /** A loaded version; default: the one that serves. */
  readonly version?: string;
  /** Milliseconds that the search may take in the server. */
  readonly timeoutMs?: number;
}

export interface FoundVectors {
  /** That answered; "" before the first. */
  readonly version: string;
  /** Those of query q are `from[q] .. from[q + 1] - 1`, best first. */
  readonly from: Uint32Array;
  readonly elements: readonly string[];
  readonly scores: Float32Array;
  /** JSON texts; only when they were asked for. */
  readonly attributes?: readonly (string | undefined)[];
}

export interface StoredVectors {
  /** 1 where the element is there. */
  readonly found: Uint8Array;
  /** Row-major, zeros where it is not. Of a cosine collection: of length 1. */
  readonly vectors: Float32Array;
  readonly dims: number;
}

/** Rows of numbers and what is searched by: an element means its vector. */
export type Queries = Float32Array | { readonly element: string };

export interface VectorCollection {
  readonly name: string;
  /** Numbers of a vector. Throws `not-found` for a collection that is not there. */
  dims(): Promise<number>;
  /** Throws `not-found` for a collection, an element to search by or a version that is not there. */
  search(queries: Queries, options?: SearchOptions): Promise<FoundVectors>;
  get(elements: readonly string[]): Promise<StoredVectors>;
  /** Adds or overwrites; how many were new (of a call that was repeated: of the last try). `attributes`: JSON texts; undefined leaves them, "" takes them away. */
  add(elements: readonly string[], vectors: Float32Array, attributes?: readonly (string | undefined)[]): Promise<number>;
  /** How many there were. */
  remove(elements: readonly string[]): Promise<number>;
  count(): Promise<number>;
}

export const searchCountDefault = 10;

/** The collection of a service of this process. */
export function collectionOf(service: VectorService, name: string): VectorCollection {
  const missing = (): MillraceError => new MillraceError("not-found", `no vector collection ${name.slice(0, 64)}`, { todo: "make it first" });
  const dims = (): number => {
    const shape = service.shapeOf(name);
    if (shape === undefined) throw missing();
    return shape.dims;
  };
  const there = <T>(value: T | undefined): T => {
    if (value === undefined) throw missing();
    return value;
  };
  const sum = (flags: Uint8Array): number => flags.reduce((all, one) => all + one, 0);
  return {
    name,
    dims: async () => dims(),
    async search(queries, { count = searchCountDefault, attributes, ...options } = {}) {
      const answer: SearchAnswer = there(
        await service.search({
          collection: name,
          queries: queries instanceof Float32Array ? new Float32Array(queries) : queries,
          count,
          ...options,
          ...(attributes === true ? { withAttributes: true } : {}),
        }),
      );
      const { version, from, elements, scores } = answer;
      return { version, from, elements, scores, ...(attributes === true ? { attributes: answer.attributes ?? elements.map(() => undefined) } : {}) };
    },
    async get(elements) {
      const { found, vectors } = there(await service.get(name, elements));
      return { found, vectors, dims: dims() };
    },
    async add(elements, vectors, attributes) {
      return sum(there(await service.upsert(name, { elements, vectors: new Float32Array(vectors), ...(attributes === undefined ? {} : { attributes }) })));
    },
    async remove(elements) {
      return sum(there(await service.remove(name, elements)));
    },
    async count() {
      return there(await service.count(name));
    },
  };
}

export type { VectorMetric };
