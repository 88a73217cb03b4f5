// Vector collections of a server over its Redis port: searches of many queries and writes of many rows as one blob each way, batches of any length.
// Invariants: 1. batches beyond the server's limits go as several commands, pipelined; answers stand in the order of the queries  2. every call ends by its deadline
//             3. a write that is repeated after a broken connection writes the same rows again.
// Concurrency: one event loop; vectors must not be changed until the call ends.
// Limits: vectorLimits and vectorCommandLimits a command.

import { MillraceError } from "#base/errors";
import { vectorLimits } from "#vectors/vector-service";
import type { RespArgument } from "#wire/resp-client";
import type { RespValue } from "#wire/resp-decoder";
import { decodeAnswer, type DecodedAnswer, encodeTexts, vectorCommandLimits } from "#wire/vector-api";
import { RespCalls, type RespCallsOptions } from "./resp-calls.ts";
import { type TableProfile, tableProfiles } from "./table-profiles.ts";
import {
  type FoundVectors,
  type Queries,
  searchCountDefault,
  type SearchOptions,
  type StoredVectors,
  type VectorCollection,
  type VectorMetric,
} from "./vector-collection.ts";

export type VectorClientOptions = RespCallsOptions;

/** VEMBs of one `get` under way at a time. */
const getsAtATime = 1_000;

/**
 * A client of the vector collections of one millrace server.
 *
 *     const vectors = await VectorClient.connect({ port: 6390 });
 *     await vectors.create("films", 64);
 *     const films = vectors.collection("films");
 *     await films.add(["alien", "dune"], twoTimes64Numbers);
 *     const { elements, scores } = await films.search({ element: "alien" }, { count: 5 });
 *     vectors.close();
 */
export class VectorClient {
  readonly #calls: RespCalls;

  /** Connects; throws `unavailable`, `timeout`, `unauthorized`. */
  static async connect(options: VectorClientOptions = {}): Promise<VectorClient> {
    return new VectorClient(await RespCalls.connect(options));
  }

  private constructor(calls: RespCalls) {
    this.#calls = calls;
  }

  collection(name: string): VectorCollection {
    return new RemoteCollection(this.#calls, name);
  }

  /** Makes a collection; false when it was there. Throws `conflict` when one of another shape is. */
  async create(name: string, dims: number, metric: VectorMetric = "cosine"): Promise<boolean> {
    return truth(await this.#calls.command(["VCREATE", name, "DIM", dims, "METRIC", metric]));
  }

  /** Drops a collection with everything in it; false when there was none. */
  async drop(name: string): Promise<boolean> {
    return (await this.#calls.command(["DEL", name])) === 1;
  }

  /** A step of a chain: profiles of ids from a feature table of the same server (tables with text keys). `columns`: all when left out. */
  profiles(table: string, columns?: readonly string[]): (ids: readonly string[]) => Promise<(TableProfile | undefined)[]> {
    return tableProfiles(this.#calls, table, columns);
  }

  /** Names of the collections. */
  async collections(): Promise<readonly string[]> {
    const decoder = new TextDecoder();
    return ((await this.#calls.command(["VLIST"])) as Uint8Array[]).map((name) => decoder.decode(name));
  }

  /** Ends the connection; what is under way is rejected. */
  close(): void {
    this.#calls.close();
  }
}

/** A reply that is a boolean in RESP3 and a number in RESP2. */
function truth(value: RespValue): boolean {
  return value === true || value === 1;
}

/** Of a view that may lie anywhere in its buffer. */
function bytesOf(numbers: Float32Array, from: number, count: number): Uint8Array {
  return new Uint8Array(numbers.buffer, numbers.byteOffset + 4 * from, 4 * count);
}

class RemoteCollection implements VectorCollection {
  readonly name: string;
  readonly #calls: RespCalls;
  #dims: number | undefined;

  constructor(calls: RespCalls, name: string) {
    this.#calls = calls;
    this.name = name;
  }

  async dims(deadlineMs?: number): Promise<number> {
    this.#dims ??= (await this.#calls.command(["VDIM", this.name], deadlineMs)) as number;
    return this.#dims;
  }

  async search(queries: Queries, options: SearchOptions = {}): Promise<FoundVectors> {
    const { count = searchCountDefault } = options;
    const deadlineMs = this.#calls.deadlineMs();
    const asked = searchArguments(options, count);
    const ask = async (what: readonly RespArgument[]): Promise<DecodedAnswer> =>
      decodeAnswer((await this.#calls.command(["VSEARCH", this.name, ...what, ...asked], deadlineMs)) as Uint8Array);
    if (!(queries instanceof Float32Array)) return foundOf([await ask(["ELE", queries.element])]);
    const dims = await this.dims(deadlineMs);
    const total = queries.length / dims;
    if (!Number.isInteger(total)) {
      throw new MillraceError("invalid", `${queries.length} numbers as queries of ${dims}`, { todo: "give whole queries" });
    }
    const { queriesMax, answersMax } = vectorLimits;
    const most = Math.max(1, Math.min(queriesMax, Math.floor(answersMax / count), Math.floor(vectorCommandLimits.numbersMax / dims)));
    if (total === 0) return { version: "", from: Uint32Array.of(0), elements: [], scores: new Float32Array(0) };
    const parts: Promise<DecodedAnswer>[] = [];
    for (let first = 0; first < total; first += most) parts.push(ask([bytesOf(queries, first * dims, Math.min(most, total - first) * dims)]));
    return foundOf(await Promise.all(parts));
  }

  async get(elements: readonly string[]): Promise<StoredVectors> {
    const deadlineMs = this.#calls.deadlineMs();
    const dims = await this.dims(deadlineMs);
    const found = new Uint8Array(elements.length);
    const vectors = new Float32Array(elements.length * dims);
    for (let first = 0; first < elements.length; first += getsAtATime) {
      const replies = await Promise.all(
        elements.slice(first, first + getsAtATime).map((element) => this.#calls.command(["VEMB", this.name, element, "RAW"], deadlineMs)),
      );
      for (const [i, reply] of replies.entries()) {
        if (!Array.isArray(reply)) continue;
        const blob = reply[1] as Uint8Array;
        if (blob.length !== 4 * dims) throw new MillraceError("corrupt", `a vector of ${blob.length} bytes where ${4 * dims} are one`, { todo: "ask again" });
        found[first + i] = 1;
        new Uint8Array(vectors.buffer).set(blob, 4 * dims * (first + i));
      }
    }
    return { found, vectors, dims };
  }

  async add(elements: readonly string[], vectors: Float32Array, attributes?: readonly (string | undefined)[]): Promise<number> {
    const total = elements.length;
    if (total === 0) return 0;
    const deadlineMs = this.#calls.deadlineMs();
    const dims = vectors.length / total;
    if (!Number.isInteger(dims) || dims === 0) {
      throw new MillraceError("invalid", `${vectors.length} numbers for ${total} elements`, { todo: "give the same whole number of numbers to each" });
    }
    const most = Math.max(1, Math.min(vectorLimits.rowsMax, Math.floor(vectorCommandLimits.numbersMax / dims)));
    // The bytes have no word for "leave it": rows with such an attribute go by themselves.
    const groups = attributes === undefined ? [elements.map((_, i) => i)] : apart(attributes);
    const parts: Promise<RespValue>[] = [];
    for (const [g, rows] of groups.entries()) {
      const isWhole = rows.length === total;
      for (let first = 0; first < rows.length; first += most) {
        const its = rows.slice(first, first + most);
        const numbers = isWhole ? bytesOf(vectors, first * dims, its.length * dims) : gathered(vectors, its, dims);
        const says = attributes !== undefined && g === 1 ? ["ATTRIBS", encodeTexts(its.map((i) => attributes[i]!))] : [];
        parts.push(this.#calls.command(["VADDS", this.name, numbers, encodeTexts(its.map((i) => elements[i]!)), ...says], deadlineMs));
      }
    }
    let added = 0;
    for (const outcome of await Promise.allSettled(parts)) {
      if (outcome.status === "rejected") throw outcome.reason;
      added += outcome.value as number;
    }
    return added;
  }

  async remove(elements: readonly string[]): Promise<number> {
    const deadlineMs = this.#calls.deadlineMs();
    let removed = 0;
    for (let first = 0; first < elements.length; first += getsAtATime) {
      const part = elements.slice(first, first + getsAtATime);
      for (const reply of await Promise.all(part.map((element) => this.#calls.command(["VREM", this.name, element], deadlineMs))))
        removed += Number(truth(reply));
    }
    return removed;
  }

  async count(): Promise<number> {
    return (await this.#calls.command(["VCARD", this.name])) as number;
  }
}

function searchArguments({ filter, exact, attributes, version, timeoutMs }: SearchOptions, count: number): RespArgument[] {
  return [
    "COUNT",
    count,
    ...(filter === undefined ? [] : ["FILTER", filter]),
    ...(exact === true ? ["TRUTH"] : []),
    ...(attributes === true ? ["WITHATTRIBS"] : []),
    ...(version === undefined ? [] : ["VERSION", version]),
    ...(timeoutMs === undefined ? [] : ["TIMEOUT", timeoutMs]),
  ];
}

/** Rows whose attributes stay, and rows that say theirs. */
function apart(attributes: readonly (string | undefined)[]): number[][] {
  const groups: [number[], number[]] = [[], []];
  for (const [i, one] of attributes.entries()) groups[one === undefined ? 0 : 1].push(i);
  return groups;
}

function gathered(vectors: Float32Array, rows: readonly number[], dims: number): Uint8Array {
  const numbers = new Float32Array(rows.length * dims);
  for (const [at, row] of rows.entries()) numbers.set(vectors.subarray(row * dims, (row + 1) * dims), at * dims);
  return bytesOf(numbers, 0, numbers.length);
}

/** Answers of the parts of a batch as one. */
function foundOf(parts: readonly DecodedAnswer[]): FoundVectors {
  const [first] = parts;
  if (parts.length === 1) {
    const { version, from, elements, scores, attributes } = first!;
    return { version, from, elements, scores, ...(attributes === undefined ? {} : { attributes }) };
  }
  const from = new Uint32Array(parts.reduce((sum, part) => sum + part.from.length - 1, 1));
  const scores = new Float32Array(parts.reduce((sum, part) => sum + part.elements.length, 0));
  let [query, answer] = [0, 0];
  for (const part of parts) {
    for (let q = 1; q < part.from.length; q++) from[++query] = answer + part.from[q]!;
    scores.set(part.scores, answer);
    answer += part.elements.length;
  }
  return {
    version: first!.version,
    from,
    elements: parts.flatMap(({ elements }) => elements),
    scores,
    ...(first!.attributes === undefined ? {} : { attributes: parts.flatMap(({ attributes }) => attributes ?? []) }),
  };
}
