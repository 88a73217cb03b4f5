// The learned model's vectors for those who show or search them: rows of items as they move, and the vector of a user, worked out when it is asked for.
// Invariant: nothing here writes. Cost: a user's vector is the user part of model-features.ts and one row of the machine. Concurrency: the serving loop.

import type { Catalog } from "#features/catalog";
import type { LiveVectors } from "#vectors/live-vectors";
import type { Learning } from "./learning.ts";
import type { ModelFeatures, RequestFeatures } from "./model-features.ts";

export interface ModelVectors {
  readonly vectors: LiveVectors;
  /** Id of the item of a row. */
  itemAt(row: number): string | undefined;
  rowOf(item: string): number | undefined;
  /** The user's factors with a 1 behind, `vectors.dims` numbers: its inner product with an item's row is the item's part of the logit. Undefined for a user that was never seen. */
  userVector(user: string): Float32Array<ArrayBuffer> | undefined;
  /** The same of features that are there. */
  vectorOf(features: RequestFeatures): Float32Array<ArrayBuffer>;
}

export interface ModelVectorsParts {
  readonly learning: Learning;
  readonly features: ModelFeatures;
  readonly catalog: Catalog;
  /** What the user part of the features says of where it was asked. */
  readonly pipeline: string;
  readonly nowMs: () => number;
}

export function modelVectors({ learning, features, catalog, pipeline, nowMs }: ModelVectorsParts): ModelVectors {
  const { vectors, machine } = learning.model;
  const vectorOf = ({ slots }: RequestFeatures): Float32Array<ArrayBuffer> => {
    const query = new Float32Array(vectors.stride);
    machine.query(slots, query);
    return query.slice(0, vectors.dims);
  };
  return {
    vectors,
    itemAt: (row) => (row < catalog.items.size ? catalog.items.id(row) : undefined),
    rowOf: (item) => catalog.items.find(item),
    userVector(id) {
      const user = catalog.users.find(id);
      if (user === undefined) return undefined;
      const request = features.begin({ user, id, pipeline, nowMs: nowMs() });
      const vector = vectorOf(request);
      features.release(request);
      return vector;
    },
    vectorOf,
  };
}
