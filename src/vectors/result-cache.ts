// Answers of searches that are given again while their collection has not changed: popular queries (the item page that everybody opens) then cost a look-up instead of a search.
// Keyed by collection, version, the bytes of the query and every option; valid for one value of `changesOf`, which grows with every write and switch of the collection.
// Invariants: 1. an answer is given only while the collection's changes are those at which its search was asked, and it was stored only if they still were when it came: it is one that
//             the engine could give now  2. at most `bytesMax` of answers and keys are kept, the least recently used go first  3. answers are shared: nobody writes into them.
// Cost: a hit 3.5 us with a query of 64 numbers, a miss 10 us beside its search (CPU time, of which most is the key). Concurrency: one thread.
// Limits: bytesMax; queries of more than `queryBytesMax` and answers beyond a sixteenth of the room are not kept.

import type { SearchAnswer, SearchRequest } from "./vector-service.ts";

export const resultCacheLimits = { queryBytesMax: 16_384, shareOfOne: 16 } as const;

/** Bytes of an entry beside its text and numbers: objects, map, links, about. */
const entryBytes = 400;

interface Entry {
  readonly answer: SearchAnswer;
  readonly bytes: number;
  /** Of the collection when the search was asked. */
  readonly changes: number;
  readonly collection: string;
}

/** What one collection has in the cache: thrown away as a whole when the collection changes. */
interface Part {
  changes: number;
  readonly keys: Set<string>;
}

export interface ResultCacheCounts {
  readonly hits: number;
  readonly misses: number;
  /** Answers that a change of their collection made worthless. */
  readonly invalidated: number;
  readonly entries: number;
  readonly bytes: number;
  readonly bytesMax: number;
}

export class ResultCache {
  readonly #bytesMax: number;
  /** In order of use, the latest last. */
  readonly #entries = new Map<string, Entry>();
  readonly #parts = new Map<string, Part>();
  #bytes = 0;
  #hits = 0;
  #misses = 0;
  #invalidated = 0;

  /** `bytesMax` 0: nothing is kept. */
  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  get counts(): ResultCacheCounts {
    return {
      hits: this.#hits,
      misses: this.#misses,
      invalidated: this.#invalidated,
      entries: this.#entries.size,
      bytes: this.#bytes,
      bytesMax: this.#bytesMax,
    };
  }

  /** The answer, or by `search` with what it finds kept. `changesOf` is asked before the search and after it. */
  async search(
    request: SearchRequest,
    changesOf: (collection: string) => number,
    search: (request: SearchRequest) => Promise<SearchAnswer | undefined>,
  ): Promise<SearchAnswer | undefined> {
    const key = this.#bytesMax === 0 ? undefined : keyOf(request);
    if (key === undefined) return search(request);
    const { collection } = request;
    const changes = changesOf(collection);
    const known = this.#find(key, collection, changes);
    if (known !== undefined) return known;
    const answer = await search(request);
    if (answer !== undefined && changesOf(collection) === changes) this.#keep(key, { answer, bytes: bytesOf(key, answer), changes, collection });
    return answer;
  }

  /** Forgets what is known of a collection. */
  forget(collection: string): void {
    const part = this.#parts.get(collection);
    if (part === undefined) return;
    this.#parts.delete(collection);
    this.#invalidated += part.keys.size;
    for (const key of part.keys) {
      this.#bytes -= this.#entries.get(key)!.bytes;
      this.#entries.delete(key);
    }
  }

  #find(key: string, collection: string, changes: number): SearchAnswer | undefined {
    const part = this.#parts.get(collection);
    if (part !== undefined && part.changes !== changes) this.forget(collection);
    const entry = this.#entries.get(key);
    if (entry === undefined) {
      this.#misses += 1;
      return undefined;
    }
    this.#hits += 1;
    this.#entries.delete(key);
    this.#entries.set(key, entry);
    return entry.answer;
  }

  #keep(key: string, entry: Entry): void {
    if (entry.bytes > this.#bytesMax / resultCacheLimits.shareOfOne) return;
    let part = this.#parts.get(entry.collection);
    if (part !== undefined && part.changes !== entry.changes) {
      this.forget(entry.collection);
      part = undefined;
    }
    if (part === undefined) {
      part = { changes: entry.changes, keys: new Set() };
      this.#parts.set(entry.collection, part);
    }
    // Asked twice at the same time: the first answer stays.
    if (part.keys.has(key)) return;
    part.keys.add(key);
    this.#entries.set(key, entry);
    this.#bytes += entry.bytes;
    for (const [oldKey, old] of this.#entries) {
      if (this.#bytes <= this.#bytesMax) break;
      this.#entries.delete(oldKey);
      this.#bytes -= old.bytes;
      const its = this.#parts.get(old.collection)!;
      its.keys.delete(oldKey);
      if (its.keys.size === 0) this.#parts.delete(old.collection);
    }
  }
}

/** Everything that decides the answer, as one text; undefined for a query that is too long to keep. */
function keyOf(request: SearchRequest): string | undefined {
  const { collection, version = "", queries, count, filter, exact = false, withAttributes = false, probes = 0 } = request;
  // JSON divides the parts: no name or filter can be taken for another field. The deadline does not change an answer.
  const head = JSON.stringify([collection, version, count, filter ?? null, exact, withAttributes, probes]);
  if (!(queries instanceof Float32Array)) return `${head}e${queries.element}`;
  if (queries.byteLength > resultCacheLimits.queryBytesMax) return undefined;
  return `${head}q${textOfNumbers(queries)}`;
}

/** The bytes of the numbers as a text of half as many characters: equal texts, equal bytes. */
function textOfNumbers(numbers: Float32Array): string {
  const units = new Uint16Array(numbers.buffer, numbers.byteOffset, numbers.length * 2);
  return String.fromCharCode.apply(undefined, units as unknown as number[]);
}

function bytesOf(key: string, { elements, scores, from, attributes }: SearchAnswer): number {
  let characters = key.length;
  for (const element of elements) characters += element.length;
  for (const one of attributes ?? []) characters += one?.length ?? 0;
  return entryBytes + 2 * characters + 24 * elements.length + scores.byteLength + from.byteLength;
}
