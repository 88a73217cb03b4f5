// The serving loop's side of the vectors thread: a VectorService that sends calls and gives out answers.
// Why here and not in roles: the same object talks to a thread, to a process and, in tests, to a host in the same thread.
// Invariants: 1. what is wrong by the limits is refused here, before anything is sent  2. every call ends by its deadline, when the thread dies, or with its answer
//             3. calls reach the thread in the order in which they were made, so a search made after a write was acknowledged is answered after it was applied
//             4. `changesOf` grows before a write is acknowledged and with every switch.
// Cost: calls made in one turn leave in one message at its end. Concurrency: one thread, any number of calls up to `vectorLimits.callsMax`.
// Limits: vectorLimits; vectorClientLimits.

import { MillraceError, toMillraceError } from "#base/errors";
import type { Clock, Timer } from "#platform/clock";
import { unpackFailure } from "#platform/worker-failure";
import { checkAttributes, checkElements, checkFinite, checkLong, checkName, checkRows, invalid, shown } from "../row-check.ts";
import {
  type CollectionShape,
  type CollectionStatus,
  type SearchAnswer,
  type SearchRequest,
  vectorLimits,
  type VectorLookup,
  type VectorRows,
  type VectorService,
  type VectorsStatus,
} from "../vector-service.ts";
import type { AnswersMessage, CallsMessage, NumbersPart, VectorCall } from "./vector-calls.ts";

export const vectorClientLimits = {
  /** Of a search that says nothing: the longest that a collection may be configured to give one. The thread ends it by the collection's own. */
  searchMs: 60_000,
  /** Of writes and look-ups: a disk that stalls holds acknowledgements back. */
  writeMs: 30_000,
  /** Of making and forgetting a collection. */
  collectionMs: 60_000,
  /** A deadline that passed in the thread is told by it; this side waits so much longer. */
  graceMs: 2_000,
  /** How often deadlines are looked at: a timer for each call would be most of what a call leaves to the garbage collector. */
  sweepMs: 100,
} as const;

export interface VectorClientOptions {
  readonly clock: Clock;
  readonly send: (message: CallsMessage) => void;
  /** What can be asked of before the thread has said anything. */
  readonly memoryBytesMax: number;
  readonly warn: (message: string) => void;
}

type Unsent<T extends VectorCall = VectorCall> = T extends VectorCall ? Omit<T, "id"> : never;

interface Asked {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: MillraceError) => void;
  /** Monotonic milliseconds. */
  readonly deadlineMs: number;
  readonly call: Unsent;
  readonly withinMs: number;
  /** The collection whose changes the answer counts up. */
  readonly writes: string | undefined;
}

/** What a write of one row answers: nobody changes it. */
const flagOf = [Uint8Array.of(0), Uint8Array.of(1)] as const;

export class VectorClient implements VectorService {
  readonly #options: VectorClientOptions;
  readonly #asked = new Map<number, Asked>();
  readonly #shapes = new Map<string, CollectionShape>();
  #namesChanged = 0;
  readonly #changes = new Map<string, number>();
  readonly #switches = new Map<string, number>();
  #status: VectorsStatus;
  #failure: MillraceError | undefined;
  #unsent: VectorCall[] = [];
  #parts: Float32Array[] = [];
  #numbers = 0;
  #nextId = 1;
  #sweep: Timer | undefined;

  constructor(options: VectorClientOptions) {
    this.#options = options;
    this.#status = { collections: [], memoryBytes: 0, memoryBytesMax: options.memoryBytesMax, loopStallMaxMs: 0 };
  }

  /** What the thread sent. True when it is ready. */
  hear(message: AnswersMessage): boolean {
    for (const { collection, shape, switches } of message.news ?? []) {
      if (this.#shapes.has(collection) !== (shape !== undefined)) this.#namesChanged += 1;
      if (shape === undefined) {
        this.#shapes.delete(collection);
        // One that is made again under its name begins with nothing of its figures.
        this.#status = { ...this.#status, collections: this.#status.collections.filter(({ name }) => name !== collection) };
      } else this.#shapes.set(collection, shape);
      if (this.#switches.get(collection) !== switches || shape === undefined) this.#changed(collection);
      this.#switches.set(collection, switches);
    }
    if (message.status !== undefined) this.#status = message.status;
    for (const warning of message.warnings ?? []) this.#options.warn(warning);
    for (const { id, value, failure } of message.answers) {
      const asked = this.#asked.get(id);
      if (asked === undefined) continue;
      this.#asked.delete(id);
      if (asked.writes !== undefined) this.#changed(asked.writes);
      // Of a write of one row: see CallAnswer.
      if (failure === undefined) asked.resolve(asked.writes !== undefined && typeof value === "number" ? flagOf[value] : value);
      else asked.reject(unpackFailure(failure));
    }
    if (message.ready === true) this.#failure = undefined;
    return message.ready === true;
  }

  /** The thread is gone: calls under way and those that come are refused with this until it is ready again. */
  lost(failure: MillraceError): void {
    this.#failure = failure;
    this.#unsent = [];
    this.#parts = [];
    this.#numbers = 0;
    for (const [id, asked] of this.#asked) {
      this.#asked.delete(id);
      if (asked.writes !== undefined) this.#changed(asked.writes);
      asked.reject(failure);
    }
  }

  // --- VectorService -------------------------------------------------------------------------------------------------------------------

  async create(name: string, shape: CollectionShape): Promise<boolean> {
    const { dims, metric } = shape;
    checkName(name);
    if (!Number.isInteger(dims) || dims < 1 || dims > vectorLimits.dimsMax) {
      throw invalid(`collection ${shown(name)} of ${dims} dimensions`, `use 1 to ${vectorLimits.dimsMax}`);
    }
    return (await this.#ask({ call: "create", collection: name, shape: { dims, metric } }, vectorClientLimits.collectionMs)) as boolean;
  }

  async drop(name: string): Promise<boolean> {
    checkName(name);
    return (await this.#ask({ call: "drop", collection: name }, vectorClientLimits.collectionMs, name)) as boolean;
  }

  upsert(collection: string, rows: VectorRows): Promise<Uint8Array | undefined> {
    const { elements, vectors, attributes } = rows;
    try {
      checkName(collection);
      checkRows(collection, rows, this.#shapes.get(collection));
    } catch (thrown) {
      return Promise.reject(toMillraceError(thrown));
    }
    const part = this.#pack(vectors);
    return this.#write(collection, { call: "upsert", collection, elements, vectors: part, ...(attributes === undefined ? {} : { attributes }) });
  }

  async remove(collection: string, elements: readonly string[]): Promise<Uint8Array | undefined> {
    checkName(collection);
    checkElements(elements);
    return this.#write(collection, { call: "remove", collection, elements });
  }

  async setAttributes(collection: string, elements: readonly string[], attributes: readonly string[]): Promise<Uint8Array | undefined> {
    checkName(collection);
    checkElements(elements);
    checkAttributes(attributes, elements.length);
    return this.#write(collection, { call: "attributes", collection, elements, attributes });
  }

  async get(collection: string, elements: readonly string[]): Promise<VectorLookup | undefined> {
    checkName(collection);
    checkElements(elements);
    return (await this.#ask({ call: "get", collection, elements }, vectorClientLimits.writeMs)) as VectorLookup | undefined;
  }

  async count(collection: string): Promise<number | undefined> {
    checkName(collection);
    return (await this.#ask({ call: "count", collection }, vectorClientLimits.writeMs)) as number | undefined;
  }

  async random(collection: string, count: number): Promise<readonly string[] | undefined> {
    checkName(collection);
    if (!Number.isInteger(count) || Math.abs(count) > vectorLimits.rowsMax)
      throw invalid(`${count} random elements`, `ask for at most ${vectorLimits.rowsMax}`);
    return (await this.#ask({ call: "random", collection, count }, vectorClientLimits.writeMs)) as readonly string[] | undefined;
  }

  async search(request: SearchRequest): Promise<SearchAnswer | undefined> {
    const { collection, queries, count, timeoutMs = vectorClientLimits.searchMs } = request;
    checkName(collection);
    if (!Number.isInteger(count) || count < 1 || count > vectorLimits.countMax) throw invalid(`a search for ${count}`, `ask for 1 to ${vectorLimits.countMax}`);
    if (!(timeoutMs > 0)) throw invalid(`a search within ${timeoutMs} ms`, "give more than 0");
    const rest = { ...request };
    if ("element" in queries) {
      checkElements([queries.element]);
      return (await this.#ask({ ...rest, call: "search", queries: { element: queries.element } }, timeoutMs + vectorClientLimits.graceMs)) as
        SearchAnswer | undefined;
    }
    const dims = this.#shapes.get(collection)?.dims;
    const many = dims === undefined ? 1 : queries.length / dims;
    if (!Number.isInteger(many) || queries.length === 0)
      throw invalid(`a query of ${queries.length} numbers for collection ${shown(collection)}`, `give ${dims} numbers a query`);
    if (many > vectorLimits.queriesMax || many * count > vectorLimits.answersMax) {
      throw invalid(
        `${many} queries for ${count} answers each`,
        `send at most ${vectorLimits.queriesMax} queries, and ${vectorLimits.answersMax} answers together`,
      );
    }
    checkFinite(queries, "a query");
    checkLong(queries, queries.length / many, "a query");
    return (await this.#ask({ ...rest, call: "search", queries: this.#pack(queries) }, timeoutMs + vectorClientLimits.graceMs)) as SearchAnswer | undefined;
  }

  shapeOf(name: string): CollectionShape | undefined {
    return this.#shapes.get(name);
  }

  names(): readonly string[] {
    return [...this.#shapes.keys()];
  }

  get namesChanged(): number {
    return this.#namesChanged;
  }

  changesOf(name: string): number {
    return this.#changes.get(name) ?? 0;
  }

  async statusOf(collection: string): Promise<CollectionStatus | undefined> {
    checkName(collection);
    return (await this.#ask({ call: "status", collection }, vectorClientLimits.writeMs)) as CollectionStatus | undefined;
  }

  status(): VectorsStatus {
    const told = new Map(this.#status.collections.map((one) => [one.name, one]));
    return { ...this.#status, collections: Array.from(this.#shapes, ([name, shape]) => ({ ...(told.get(name) ?? nothingOf(name, shape)), ...shape })) };
  }

  // --- inside ----------------------------------------------------------------------------------------------------------------------------

  #changed(collection: string): void {
    this.#changes.set(collection, (this.#changes.get(collection) ?? 0) + 1);
  }

  #write(collection: string, call: Unsent): Promise<Uint8Array | undefined> {
    return this.#ask(call, vectorClientLimits.writeMs, collection) as Promise<Uint8Array | undefined>;
  }

  #pack(vectors: Float32Array): NumbersPart {
    const part = { from: this.#numbers, count: vectors.length };
    this.#parts.push(vectors);
    this.#numbers += vectors.length;
    return part;
  }

  #ask(call: Unsent, withinMs: number, writes?: string): Promise<unknown> {
    const refused =
      this.#failure ??
      (this.#asked.size >= vectorLimits.callsMax
        ? new MillraceError("overloaded", `${vectorLimits.callsMax} calls to the vectors thread are under way, the most`, { todo: "wait for some of them" })
        : undefined);
    if (refused !== undefined) {
      // What was packed for it leaves again, or the next message would carry it.
      if (this.#unsent.length === 0) this.#parts = [];
      if (this.#unsent.length === 0) this.#numbers = 0;
      return Promise.reject(refused);
    }
    const id = this.#nextId++;
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    this.#asked.set(id, { resolve, reject, deadlineMs: this.#options.clock.monotonicMs() + withinMs, call, withinMs, writes });
    if (this.#sweep === undefined) this.#sweepLater();
    this.#unsent.push({ ...call, id });
    if (this.#unsent.length === 1) queueMicrotask(() => this.#flush());
    return promise;
  }

  #sweepLater(): void {
    this.#sweep = this.#options.clock.after(
      vectorClientLimits.sweepMs,
      () => {
        this.#sweep = undefined;
        const nowMs = this.#options.clock.monotonicMs();
        for (const [id, { deadlineMs, call, withinMs, writes, reject }] of this.#asked) {
          if (nowMs < deadlineMs) continue;
          this.#asked.delete(id);
          reject(
            new MillraceError("timeout", `${call.call} of collection ${shown(call.collection)} had no answer within ${withinMs} ms`, {
              todo: writes === undefined ? "ask again, or give it more time" : "it may still be done: writes may be repeated",
            }),
          );
        }
        if (this.#asked.size > 0) this.#sweepLater();
      },
      { background: true },
    );
  }

  #flush(): void {
    if (this.#unsent.length === 0) return;
    const calls = this.#unsent;
    const numbers = new Float32Array(this.#numbers);
    let at = 0;
    for (const part of this.#parts) {
      numbers.set(part, at);
      at += part.length;
    }
    this.#unsent = [];
    this.#parts = [];
    this.#numbers = 0;
    this.#options.send({ calls, numbers });
  }
}

/** A collection of which no figures were told yet. */
function nothingOf(name: string, shape: CollectionShape): CollectionStatus {
  return {
    ...shape,
    name,
    elements: 0,
    baseRows: 0,
    tailRows: 0,
    deletedRows: 0,
    bytes: 0,
    versions: [],
    settings: { lists: 0, probes: 0 },
    upserts: 0,
    removes: 0,
    searches: 0,
    searchP50Ms: 0,
    searchP99Ms: 0,
    folds: 0,
  };
}
