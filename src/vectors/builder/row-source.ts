// Where the rows of a version come from: one contract for a table's column, a parameter table, files, a model run over a table, and a collection itself (a fold).
// Why an interface of batches: this room knows neither tables nor files; `roles` wires what does. A batch is a few thousand rows, so that a build of millions holds no list of objects.
// Invariants: 1. `vectors` holds `ids.length * dims` numbers, row by row; it and the lists are valid until the next `read`  2. of equal ids the row that came last counts
//             3. a source gives each row of its input once, in any order; after `undefined` it gives nothing more  4. numbers are as they were stored: cosine rows are normalised by the build.
// Cost: an id is one string a row, some 100 to 200 ns; the build packs them into bytes at once.
// Concurrency: one reader, one `read` at a time.

import { MillraceError } from "#base/errors";
import { vectorLimits } from "../vector-service.ts";

export interface VectorRowBatch {
  /** 1 to vectorLimits.elementBytesMax bytes each. */
  readonly ids: readonly string[];
  readonly vectors: Float32Array;
  /** JSON text; left out or undefined: none. */
  readonly attributes?: readonly (string | undefined)[];
}

export interface VectorRowSource {
  readonly dims: number;
  /** How many rows there will be, when that is known: for progress and the first size of buffers. */
  readonly rowsAbout?: number;
  /** Rows that the source itself left out so far, because they have no vector or one that does not fit. */
  readonly refused?: number;
  /** Up to `rowsMax` rows, undefined at the end. */
  read(rowsMax: number, signal: AbortSignal): Promise<VectorRowBatch | undefined>;
  close(): Promise<void>;
}

/** Rows that lie in memory already: tests, benches, a fold of what a thread holds. */
export function rowsInMemory(rows: {
  readonly ids: readonly string[];
  readonly vectors: Float32Array;
  readonly dims: number;
  readonly attributes?: readonly (string | undefined)[];
}): VectorRowSource {
  const { ids, vectors, dims, attributes } = rows;
  if (vectors.length !== ids.length * dims || (attributes !== undefined && attributes.length !== ids.length)) {
    throw new MillraceError("invalid", `${ids.length} ids and ${vectors.length} numbers of ${dims} a row`, { todo: "give every row an id and its numbers" });
  }
  let at = 0;
  return {
    dims,
    rowsAbout: ids.length,
    read(rowsMax, signal) {
      signal.throwIfAborted();
      if (at >= ids.length) return Promise.resolve(undefined);
      const from = at;
      at = Math.min(ids.length, from + Math.max(1, rowsMax));
      return Promise.resolve({
        ids: ids.slice(from, at),
        vectors: vectors.subarray(from * dims, at * dims),
        ...(attributes === undefined ? {} : { attributes: attributes.slice(from, at) }),
      });
    },
    close: () => Promise.resolve(),
  };
}

/** Throws `invalid` when a source gave a batch that its contract forbids: what comes in from outside is checked before it is believed. */
export function checkBatch(batch: VectorRowBatch, dims: number): void {
  const { ids, vectors, attributes } = batch;
  if (ids.length > 0 && vectors.length >= ids.length * dims && (attributes === undefined || attributes.length === ids.length)) return;
  throw new MillraceError("invalid", `a source gave ${ids.length} ids with ${vectors.length} numbers of ${dims} a row`, {
    todo: `give every row an id, ${dims} numbers (at most ${vectorLimits.dimsMax}) and, if at all, its attributes`,
  });
}
