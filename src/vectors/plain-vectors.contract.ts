// A VectorService of plain objects: exact search by loops, nothing kept. What tests of the commands, the routes and the SDK run on where the engine is not what is tested, and the
// other side of the engine's own contract (vector-service.contract.ts).
// Filters: a small part of the language, `.field op value` joined by `and`.

import { MillraceError } from "#base/errors";
import type {
  CollectionShape,
  CollectionStatus,
  SearchAnswer,
  SearchRequest,
  VectorLookup,
  VectorRows,
  VectorService,
  VectorsStatus,
} from "./vector-service.ts";

interface Row {
  readonly vector: Float32Array;
  readonly norm: number;
  attributes: string | undefined;
}

class PlainCollection {
  readonly shape: CollectionShape;
  readonly rows = new Map<string, Row>();
  changes = 1;
  upserts = 0;
  removes = 0;
  searches = 0;

  constructor(shape: CollectionShape) {
    this.shape = shape;
  }
}

function lengthOf(vector: Float32Array): number {
  let squares = 0;
  for (const one of vector) squares += one * one;
  return Math.sqrt(squares);
}

function passes(filter: string, attributes: string | undefined): boolean {
  if (attributes === undefined) return false;
  const fields = JSON.parse(attributes) as Record<string, unknown>;
  return filter.split(" and ").every((part) => {
    const [, field, operator, text] = /^\s*\.(\w+)\s*(==|!=|>=|<=|>|<)\s*(.+?)\s*$/.exec(part) ?? [];
    if (field === undefined) throw new MillraceError("invalid", "a filter that cannot be read", { todo: "see docs/vectors.md" });
    const value = fields[field];
    const other = JSON.parse(text!) as string | number;
    if (typeof value !== typeof other) return false;
    const known = value as typeof other;
    switch (operator) {
      case "==":
        return known === other;
      case "!=":
        return known !== other;
      case ">=":
        return known >= other;
      case "<=":
        return known <= other;
      case ">":
        return known > other;
      default:
        return known < other;
    }
  });
}

export class PlainVectors implements VectorService {
  readonly #collections = new Map<string, PlainCollection>();
  #changes = 0;

  async create(name: string, shape: CollectionShape): Promise<boolean> {
    const known = this.#collections.get(name);
    if (known === undefined) {
      const made = new PlainCollection({ ...shape });
      // One that is made anew under a name of before has other changes than that one had.
      made.changes = ++this.#changes;
      this.#collections.set(name, made);
      return true;
    }
    if (known.shape.dims === shape.dims && known.shape.metric === shape.metric) return false;
    throw new MillraceError("conflict", `collection ${name} is there with ${known.shape.dims} numbers and metric ${known.shape.metric}`, {
      todo: "use another name",
    });
  }

  async drop(name: string): Promise<boolean> {
    this.#changes += 1;
    return this.#collections.delete(name);
  }

  async upsert(name: string, { elements, vectors, attributes }: VectorRows): Promise<Uint8Array | undefined> {
    const collection = this.#collections.get(name);
    if (collection === undefined) return undefined;
    const { dims, metric } = collection.shape;
    if (vectors.length !== elements.length * dims) {
      throw new MillraceError("invalid", `${vectors.length} numbers for ${elements.length} elements of ${dims}`, {
        todo: "send as many as the collection has",
      });
    }
    const fresh = new Uint8Array(elements.length);
    for (const [i, element] of elements.entries()) {
      const vector = vectors.slice(i * dims, (i + 1) * dims);
      const norm = metric === "cosine" ? lengthOf(vector) : 1;
      if (norm > 0) for (let j = 0; j < dims; j++) vector[j]! /= norm;
      const before = collection.rows.get(element);
      const given = attributes?.[i];
      fresh[i] = before === undefined ? 1 : 0;
      collection.rows.set(element, { vector, norm, attributes: given === undefined ? before?.attributes : given === "" ? undefined : given });
    }
    collection.upserts += elements.length;
    collection.changes = ++this.#changes;
    return fresh;
  }

  async remove(name: string, elements: readonly string[]): Promise<Uint8Array | undefined> {
    const collection = this.#collections.get(name);
    if (collection === undefined) return undefined;
    const removed = Uint8Array.from(elements, (element) => Number(collection.rows.delete(element)));
    collection.removes += removed.reduce((sum, one) => sum + one, 0);
    collection.changes = ++this.#changes;
    return removed;
  }

  async setAttributes(name: string, elements: readonly string[], attributes: readonly string[]): Promise<Uint8Array | undefined> {
    const collection = this.#collections.get(name);
    if (collection === undefined) return undefined;
    const done = Uint8Array.from(elements, (element, i) => {
      const row = collection.rows.get(element);
      if (row !== undefined) row.attributes = attributes[i] === "" ? undefined : attributes[i];
      return Number(row !== undefined);
    });
    collection.changes = ++this.#changes;
    return done;
  }

  async get(name: string, elements: readonly string[]): Promise<VectorLookup | undefined> {
    const collection = this.#collections.get(name);
    if (collection === undefined) return undefined;
    const { dims } = collection.shape;
    const vectors = new Float32Array(elements.length * dims);
    const rows = elements.map((element) => collection.rows.get(element));
    for (const [i, row] of rows.entries()) if (row !== undefined) vectors.set(row.vector, i * dims);
    return {
      found: Uint8Array.from(rows, (row) => Number(row !== undefined)),
      vectors,
      norms: Float32Array.from(rows, (row) => row?.norm ?? 0),
      attributes: rows.map((row) => row?.attributes),
    };
  }

  async count(name: string): Promise<number | undefined> {
    return this.#collections.get(name)?.rows.size;
  }

  async random(name: string, count: number): Promise<readonly string[] | undefined> {
    const collection = this.#collections.get(name);
    if (collection === undefined) return undefined;
    const elements = [...collection.rows.keys()];
    if (elements.length === 0) return [];
    if (count >= 0) return elements.slice(0, count);
    return Array.from({ length: -count }, (_, i) => elements[(i * 7) % elements.length]!);
  }

  async search(request: SearchRequest): Promise<SearchAnswer | undefined> {
    const collection = this.#collections.get(request.collection);
    if (collection === undefined) return undefined;
    collection.searches += 1;
    const { dims, metric } = collection.shape;
    if (request.version !== undefined && request.version !== "")
      throw new MillraceError("not-found", `no version ${request.version}`, { todo: "leave it out" });
    const queries = request.queries instanceof Float32Array ? request.queries : collection.rows.get(request.queries.element)?.vector;
    if (queries === undefined) throw new MillraceError("not-found", "no such element to search by", { todo: "add it first" });
    if (queries.length % dims !== 0) throw new MillraceError("invalid", `queries of ${queries.length} numbers`, { todo: `send ${dims} each` });
    if (request.filter !== undefined) passes(request.filter, "{}");
    const count = queries.length / dims;
    const from = new Uint32Array(count + 1);
    const elements: string[] = [];
    const scores: number[] = [];
    const attributes: (string | undefined)[] = [];
    for (let q = 0; q < count; q++) {
      const query = queries.subarray(q * dims, (q + 1) * dims);
      const queryLength = metric === "cosine" ? lengthOf(query) : 1;
      const found: { element: string; score: number; attributes: string | undefined }[] = [];
      for (const [element, row] of collection.rows) {
        if (request.filter !== undefined && !passes(request.filter, row.attributes)) continue;
        let score = 0;
        for (let j = 0; j < dims; j++) score += metric === "l2" ? (query[j]! - row.vector[j]!) ** 2 : query[j]! * row.vector[j]!;
        found.push({ element, score: queryLength > 0 ? score / queryLength : 0, attributes: row.attributes });
      }
      found.sort((a, b) => (metric === "l2" ? a.score - b.score : b.score - a.score));
      for (const one of found.slice(0, request.count)) {
        elements.push(one.element);
        scores.push(one.score);
        attributes.push(one.attributes);
      }
      from[q + 1] = elements.length;
    }
    return {
      version: "",
      from,
      elements,
      scores: Float32Array.from(scores),
      ...(request.withAttributes === true ? { attributes } : {}),
      searchMs: 0,
      rowsCompared: count * collection.rows.size,
    };
  }

  shapeOf(name: string): CollectionShape | undefined {
    return this.#collections.get(name)?.shape;
  }

  names(): readonly string[] {
    return [...this.#collections.keys()];
  }

  get namesChanged(): number {
    return this.#changes;
  }

  changesOf(name: string): number {
    return this.#collections.get(name)?.changes ?? 0;
  }

  async statusOf(name: string): Promise<CollectionStatus | undefined> {
    return this.status().collections.find((one) => one.name === name);
  }

  status(): VectorsStatus {
    const collections = [...this.#collections].map(([name, { shape, rows, upserts, removes, searches }]): CollectionStatus => ({
      ...shape,
      name,
      elements: rows.size,
      baseRows: 0,
      tailRows: rows.size,
      deletedRows: 0,
      bytes: 4 * shape.dims * rows.size,
      versions: [],
      settings: { lists: 0, probes: 0 },
      upserts,
      removes,
      searches,
      searchP50Ms: 0,
      searchP99Ms: 0,
      folds: 0,
    }));
    return { collections, memoryBytes: collections.reduce((sum, { bytes }) => sum + bytes, 0), memoryBytesMax: 1 << 30, loopStallMaxMs: 0 };
  }
}
