// The vectors of a live model's items as collections (served-collections.ts): `VSIM model:items ELE item` finds by vectors that moved milliseconds ago, since searches read the rows that the
// trainer writes. And the vectors of its users, which are worked out when they are asked for.
// Why here and not in the vectors thread: the rows lie in the model's memory, in which this thread has a lane; a search reads 80 bytes an item, a millisecond for 100,000.
// Invariants: 1. exact: every row is compared  2. nothing of the loop's time is taken in one piece beyond `pieceBytes` (about half a millisecond).
// Cost: that of live-vectors.ts. Concurrency: the serving loop. Limits: liveVectorLimits; no filters; one version.

import { MillraceError } from "#base/errors";
import type { Prng } from "#base/prng";
import type { TopK } from "#kernel/dot-top-k";
import type { Clock } from "#platform/clock";
import type { LiveVectors, VectorMeasure } from "./live-vectors.ts";
import type { ShownCollection } from "./served-collections.ts";
import { type CollectionStatus, type SearchAnswer, type SearchRequest, vectorLimits, type VectorLookup } from "./vector-service.ts";

/** Of one piece of a scan: 0.3 to 0.6 ms at 8 to 15 GB/s. */
const pieceBytes = 4 << 20;
const timeoutMsDefault = 1_000;

export interface LiveItemsParts {
  readonly vectors: LiveVectors;
  readonly clock: Clock;
  readonly random: Prng;
  readonly elementAt: (row: number) => string | undefined;
  readonly rowOf: (element: string) => number | undefined;
}

/** The items of a model: by `cosine` their factors, by `dot` the whole rows. */
export function liveItems(name: string, measure: VectorMeasure, parts: LiveItemsParts): ShownCollection {
  const { vectors, clock, random, elementAt, rowOf } = parts;
  const dims = measure === "cosine" ? vectors.cosineDims : vectors.dims;
  const shape = { dims, metric: measure === "cosine" ? "cosine" : "ip" } as const;
  const pieceRows = Math.max(1, Math.floor(pieceBytes / (vectors.stride * 4)));
  let searches = 0;

  /** The vector of an element; undefined when it has none now. */
  const vectorOf = (element: string): Float32Array<ArrayBuffer> | undefined => {
    const row = rowOf(element);
    const whole = new Float32Array(vectors.dims);
    return row !== undefined && vectors.read(row, whole) ? whole.slice(0, dims) : undefined;
  };

  async function searchOne(query: Float32Array, k: number, deadlineMs: number, into: TopK): Promise<void> {
    const scan = vectors.scan(measure, query, k);
    while (!scan.advance(pieceRows)) {
      await clock.yield();
      if (clock.monotonicMs() > deadlineMs) {
        throw new MillraceError("timeout", `a search of ${name} that took longer than it may`, { todo: "allow more time, or ask for fewer" });
      }
    }
    scan.answers(into);
  }

  return {
    name,
    shape,
    async search({ queries: asked, count, version, filter, withAttributes = false, timeoutMs = timeoutMsDefault }: SearchRequest): Promise<SearchAnswer> {
      if (version !== undefined) throw noVersion(name, version);
      if (filter !== undefined) throw new MillraceError("unsupported", `a filter over ${name}`, { todo: "search without, its elements have no attributes" });
      if (!Number.isInteger(count) || count < 1 || count > vectorLimits.countMax) {
        throw new MillraceError("invalid", `a search for ${count} elements`, { todo: `ask for 1 to ${vectorLimits.countMax}` });
      }
      const queries = asked instanceof Float32Array ? asked : vectorOf(asked.element);
      if (queries === undefined) throw new MillraceError("not-found", `no such element in ${name}`, { todo: "search by one that is there" });
      const number = queries.length / dims;
      if (!Number.isInteger(number) || number > vectorLimits.queriesMax || number * count > vectorLimits.answersMax) {
        throw new MillraceError("invalid", `${queries.length} numbers as queries of ${dims} for ${count} answers each`, {
          todo: `send whole queries, at most ${vectorLimits.queriesMax}, for at most ${vectorLimits.answersMax} answers`,
        });
      }
      const beganMs = clock.monotonicMs();
      searches += number;
      const k = Math.min(count, Math.max(1, vectors.rowCount));
      const top: TopK = { rows: new Uint32Array(k), scores: new Float32Array(k), size: 0 };
      const from = new Uint32Array(number + 1);
      const elements: string[] = [];
      const scores: number[] = [];
      for (let q = 0; q < number; q++) {
        await searchOne(queries.subarray(q * dims, (q + 1) * dims), k, beganMs + timeoutMs, top);
        for (let i = 0; i < top.size; i++) {
          const element = elementAt(top.rows[i]!);
          if (element === undefined) continue;
          elements.push(element);
          scores.push(top.scores[i]!);
        }
        from[q + 1] = elements.length;
      }
      return {
        version: "",
        from,
        elements,
        scores: Float32Array.from(scores),
        ...(withAttributes ? { attributes: elements.map(() => undefined) } : {}),
        searchMs: clock.monotonicMs() - beganMs,
        rowsCompared: number * vectors.rowCount,
      };
    },
    get: (elements) => lookup(elements, dims, measure === "cosine", vectorOf),
    count: () => vectors.rowCount,
    random: (count) => randomElements(count, random, vectors.rowCount, elementAt),
    status: () => statusOf(name, shape, vectors.rowCount, 4 * vectors.stride * vectors.rowCount, searches),
  };
}

/** Vectors that are worked out: they are read, not searched. */
export function workedOutVectors(name: string, dims: number, vectorOf: (element: string) => Float32Array<ArrayBuffer> | undefined): ShownCollection {
  const shape = { dims, metric: "ip" } as const;
  return {
    name,
    shape,
    search: () =>
      Promise.reject(
        new MillraceError("unsupported", `a search of ${name}`, {
          todo: "its vectors are worked out when they are asked for: read one with VEMB and search another collection by it",
        }),
      ),
    get: (elements) => lookup(elements, dims, false, vectorOf),
    count: () => 0,
    random: () => [],
    status: () => statusOf(name, shape, 0, 0, 0),
  };
}

function lookup(elements: readonly string[], dims: number, unit: boolean, vectorOf: (element: string) => Float32Array | undefined): VectorLookup {
  const found = new Uint8Array(elements.length);
  const vectors = new Float32Array(elements.length * dims);
  const norms = new Float32Array(elements.length);
  for (const [i, element] of elements.entries()) {
    const vector = vectorOf(element);
    if (vector === undefined) continue;
    let squares = 0;
    for (const number of vector) squares += number * number;
    const norm = unit ? Math.sqrt(squares) : 1;
    found[i] = 1;
    norms[i] = norm;
    for (let j = 0; j < dims; j++) vectors[i * dims + j] = norm > 0 ? vector[j]! / norm : 0;
  }
  return { found, vectors, norms, attributes: elements.map(() => undefined) };
}

function randomElements(count: number, random: Prng, rows: number, elementAt: (row: number) => string | undefined): string[] {
  if (rows === 0) return [];
  if (count < 0) return Array.from({ length: -count }, () => elementAt(random.below(rows))).filter((one) => one !== undefined);
  // Floyd's choice of distinct numbers: as many draws as answers.
  const chosen = new Set<number>();
  for (let j = Math.max(0, rows - count); j < rows; j++) {
    const drawn = random.below(j + 1);
    chosen.add(chosen.has(drawn) ? j : drawn);
  }
  return [...chosen].map(elementAt).filter((one) => one !== undefined);
}

function noVersion(name: string, version: string): MillraceError {
  return new MillraceError("not-found", `no version ${version.slice(0, 64)} of ${name}`, { todo: "leave it out: there is the one of this moment" });
}

function statusOf(name: string, shape: ShownCollection["shape"], rows: number, bytes: number, searches: number): CollectionStatus {
  return {
    ...shape,
    name,
    elements: rows,
    baseRows: 0,
    tailRows: rows,
    deletedRows: 0,
    bytes,
    versions: [],
    settings: { lists: 0, probes: 0 },
    upserts: 0,
    removes: 0,
    searches,
    searchP50Ms: 0,
    searchP99Ms: 0,
    folds: 0,
  };
}
