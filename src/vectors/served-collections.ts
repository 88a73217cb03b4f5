// All collections that a server answers for, as one VectorService: those of the engine, with the cache of results before them, and the ones that show what another part of the process
// holds (live-items.ts), which are read only.
// Invariants: 1. a name of a shown collection never reaches the engine  2. without an engine only the shown ones are there, and making one says what to do.
// Concurrency: the serving loop.

import { MillraceError, toMillraceError } from "#base/errors";
import { ResultCache } from "./result-cache.ts";
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

/** A collection that somebody else writes. */
export interface ShownCollection {
  readonly name: string;
  readonly shape: CollectionShape;
  /** A search of it; undefined never. Throws as VectorService.search. */
  search(request: SearchRequest): Promise<SearchAnswer>;
  get(elements: readonly string[]): VectorLookup;
  count(): number;
  random(count: number): readonly string[];
  status(): CollectionStatus;
}

export interface ServedCollectionsParts {
  readonly engine: VectorService | undefined;
  /** Of the cache of results; 0: none. */
  readonly cacheBytesMax: number;
  /** Names that the configuration gives to others: no collection is made that begins so. */
  readonly reservedPrefix: string;
}

export class ServedCollections implements VectorService {
  readonly cache: ResultCache;
  readonly #engine: VectorService | undefined;
  readonly #reservedPrefix: string;
  readonly #shown = new Map<string, ShownCollection>();

  constructor({ engine, cacheBytesMax, reservedPrefix }: ServedCollectionsParts) {
    this.#engine = engine;
    this.#reservedPrefix = reservedPrefix;
    this.cache = new ResultCache(engine === undefined ? 0 : cacheBytesMax);
  }

  /** From now on this one is there too. */
  show(collection: ShownCollection): void {
    this.#shown.set(collection.name, collection);
  }

  /** Whether the server itself says what is in it. */
  isShown(name: string): boolean {
    return this.#shown.has(name);
  }

  async create(name: string, shape: CollectionShape): Promise<boolean> {
    if (name.startsWith(this.#reservedPrefix)) throw this.#readOnly(name);
    if (this.#engine === undefined) throw noEngine();
    return this.#engine.create(name, shape);
  }

  async drop(name: string): Promise<boolean> {
    this.#writable(name);
    this.cache.forget(name);
    return (await this.#engine?.drop(name)) ?? false;
  }

  // Not async: a promise more a row would be young objects for nothing.
  upsert(collection: string, rows: VectorRows): Promise<Uint8Array | undefined> {
    try {
      this.#writable(collection);
    } catch (thrown) {
      return Promise.reject(toMillraceError(thrown));
    }
    return this.#engine?.upsert(collection, rows) ?? Promise.resolve(undefined);
  }

  async remove(collection: string, elements: readonly string[]): Promise<Uint8Array | undefined> {
    this.#writable(collection);
    return this.#engine?.remove(collection, elements);
  }

  async setAttributes(collection: string, elements: readonly string[], attributes: readonly string[]): Promise<Uint8Array | undefined> {
    this.#writable(collection);
    return this.#engine?.setAttributes(collection, elements, attributes);
  }

  async get(collection: string, elements: readonly string[]): Promise<VectorLookup | undefined> {
    return this.#shown.get(collection)?.get(elements) ?? this.#engine?.get(collection, elements);
  }

  async count(collection: string): Promise<number | undefined> {
    return this.#shown.get(collection)?.count() ?? this.#engine?.count(collection);
  }

  async random(collection: string, count: number): Promise<readonly string[] | undefined> {
    return this.#shown.get(collection)?.random(count) ?? this.#engine?.random(collection, count);
  }

  async search(request: SearchRequest): Promise<SearchAnswer | undefined> {
    const shown = this.#shown.get(request.collection);
    if (shown !== undefined) return shown.search(request);
    const engine = this.#engine;
    if (engine === undefined) return undefined;
    return this.cache.search(
      request,
      (name) => engine.changesOf(name),
      (asked) => engine.search(asked),
    );
  }

  shapeOf(name: string): CollectionShape | undefined {
    return this.#shown.get(name)?.shape ?? this.#engine?.shapeOf(name);
  }

  names(): readonly string[] {
    return [...this.#shown.keys(), ...(this.#engine?.names() ?? [])];
  }

  get namesChanged(): number {
    return this.#shown.size + (this.#engine?.namesChanged ?? 0);
  }

  changesOf(name: string): number {
    return this.#engine?.changesOf(name) ?? 0;
  }

  async statusOf(collection: string): Promise<CollectionStatus | undefined> {
    return this.#shown.get(collection)?.status() ?? this.#engine?.statusOf(collection);
  }

  status(): VectorsStatus {
    const status = this.#engine?.status() ?? { collections: [], memoryBytes: 0, memoryBytesMax: 0, loopStallMaxMs: 0 };
    return this.#shown.size === 0 ? status : { ...status, collections: [...status.collections, ...[...this.#shown.values()].map((one) => one.status())] };
  }

  #writable(name: string): void {
    if (this.#shown.has(name)) throw this.#readOnly(name);
  }

  #readOnly(name: string): MillraceError {
    return new MillraceError("invalid", `collection ${name.slice(0, 64)} is one that the server shows`, {
      todo: `search it, or write to one of another name than ${this.#reservedPrefix}...`,
    });
  }
}

function noEngine(): MillraceError {
  return new MillraceError("unsupported", "this server has no vector collections of its own", {
    todo: "add a section `vectors` to its configuration (docs/vectors.md)",
  });
}
