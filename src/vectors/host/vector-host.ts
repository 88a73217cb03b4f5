// All collections of a node on one thread: opens them, answers calls, folds, watches the quality of live searches. `src/roles/vectors.worker.ts` wires it, tests run it in simulation.
// Invariants: 1. each call is answered once  2. a collection that cannot be opened harms no other; it is tried again  3. what changed of a collection is told no later than the answer
// to the call that changed it  4. at most one fold at a time in a process: it takes a core and the memory of a version.
// Concurrency: one thread; searches in slices (search-line.ts), writes and replays too (live-collection.ts). Limits: vectorLimits, hostLimits, `vectors.memoryMb`.

import { Histogram } from "#base/histogram";
import { MillraceError, toMillraceError } from "#base/errors";
import { Prng } from "#base/prng";
import type { Log } from "#backbone/log";
import type { Registry } from "#backbone/registry";
import { MemoryPool } from "#kernel/memory-pool";
import type { Clock } from "#platform/clock";
import type { Files } from "#platform/files";
import type { RandomSource } from "#platform/system-random";
import { packFailure } from "#platform/worker-failure";
import type { Workers } from "#platform/workers";
import { LoadSlots } from "#snapshot/load-slots";
import type { SnapshotStore } from "#snapshot/snapshot-store";
import { isSnapshotName } from "#snapshot/version";
import { type EffectiveTuning, tuningOf, vectorDefaults, type VectorsConfig } from "#wire/vector-config";
import { type BuiltVersion, vectorsKind } from "../builder/version-config.ts";
import { versionMetaOf } from "../builder/version-meta.ts";
import {
  type CollectionRecord,
  deltaPartition,
  forgetCollection,
  listCollections,
  newCollectionId,
  putCollection,
  readCollection,
  snapshotNameOf,
  type StoredRecord,
} from "../collection/collection-record.ts";
import type { CollectionView } from "../collection/collection-view.ts";
import type { FoldJob } from "../collection/fold.ts";
import { foldReason, isOverdue } from "../collection/fold-policy.ts";
import { type CollectionWrite, LiveCollection, type ViewLease } from "../collection/live-collection.ts";
import { loadBase } from "../collection/load-base.ts";
import { searchView } from "../collection/view-search.ts";
import { compileFilter } from "../filter/filter.ts";
import type { SearchSettings } from "../segment/search-settings.ts";
import {
  type CollectionShape,
  type CollectionStatus,
  type CollectionVersion,
  type SearchAnswer,
  vectorLimits,
  type VectorLookup,
  type VectorsStatus,
} from "../vector-service.ts";
import { RecallSampler } from "./recall-sampler.ts";
import { SearchLine } from "./search-line.ts";
import type { AnswersMessage, CallAnswer, CallsMessage, CollectionNews, VectorCall } from "./vector-calls.ts";

export const hostLimits = {
  sliceMs: 0.2,
  /** Of searches, while writes of at most so many rows are under way: somebody waits for each of those, and when they are answered the thread gives way to whoever gives the answers out. A flood is not helped by shorter slices, and searches are then slower. */
  hurriedSliceMs: 0.1,
  hurriedRowsMax: 64,
  /** Of loading a version, after which searches that wait are done first, for so long at most: a version is loaded however many there are. */
  loadSliceMs: 0.25,
  loadWaitsMsMax: 4,
  tickMs: 1_000,
  trimMs: 60_000,
  /** Collections opened at once at the start. */
  openingMax: 4,
  /** Pauses before a collection that could not be opened is tried again, and before a fold that failed is. */
  retryMsMin: 2_000,
  retryMsMax: 300_000,
  /** After a fold its version must be served within this. */
  foldServedMs: 120_000,
  /** Queries of a search that counts as quick. */
  quickQueriesMax: 8,
  /** Answers made into texts in one step. */
  answersAStep: 256,
} as const;

export interface VectorHostOptions {
  readonly config: VectorsConfig;
  readonly clock: Clock;
  readonly files: Files;
  readonly registry: Registry;
  readonly log: Log;
  /** Of kind `vectors`, for a collection: how many versions are kept is the collection's. */
  readonly snapshots: (keepVersions: number) => SnapshotStore;
  readonly random: RandomSource;
  /** Checksums of fetched files are taken there. */
  readonly workers?: Workers;
  /**
   * Sleeps for a tenth of a millisecond, so that a thread that waits for this one's core has it now and not after a tick of the scheduler: called between two slices of a load, and where writes were
   * answered and searches go on, since somebody gives those answers out.
   */
  readonly giveWay?: () => void;
  readonly node: string;
  /** DATA/vectors */
  readonly folder: string;
  readonly pool?: MemoryPool;
  /** Runs a fold, in a process of its own where there are any. */
  readonly fold: (job: FoldJob, signal: AbortSignal, onProgress: (share: number) => void) => Promise<BuiltVersion>;
  readonly tell: (message: AnswersMessage) => void;
  /** The longest stall of the thread of the last half minute, milliseconds. */
  readonly stallMs?: () => number;
  /** A thread before this one has served: a collection that is not as configured is told. Else `run` ends with it, before anything is opened. */
  readonly hasServed?: boolean;
  /** Default hostLimits.sliceMs; tests take 0: a slice is one step. */
  readonly sliceMs?: number;
}

interface Opened {
  readonly name: string;
  stored: StoredRecord;
  collection: LiveCollection | undefined;
  failure: MillraceError | undefined;
  dropping: Promise<void> | undefined;
  opening: Promise<void> | undefined;
  retryMs: number;
  retryAtMs: number;
  readonly tuning: EffectiveTuning;
  readonly snapshots: SnapshotStore;
  readonly times: Histogram;
  readonly sampler: RecallSampler;
  searches: number;
  folds: number;
  folding: { readonly sinceMs: number; share: number; readonly abort: AbortController } | undefined;
  foldFailure: string | undefined;
  foldRetryMs: number;
  foldAtMs: number;
  /** Since when a fold is due; undefined: none is. */
  foldDueMs: number | undefined;
  switchesTold: number;
}

export class VectorHost {
  readonly #options: VectorHostOptions;
  readonly #clock: Clock;
  readonly #pool: MemoryPool;
  readonly #memoryBytesMax: number;
  readonly #slots = new LoadSlots();
  readonly #collections = new Map<string, Opened>();
  readonly #line: SearchLine;
  readonly #prng: Prng;
  readonly #stop = new AbortController();
  readonly #creating = new Map<string, Promise<unknown>>();
  #answers: CallAnswer[] = [];
  #news: CollectionNews[] = [];
  #warnings: string[] = [];
  #flushing = false;
  #trimAtMs = 0;
  #stallMs = 0;
  #folding = false;
  /** Of writes that are not answered yet. */
  #rowsUnderWay = 0;
  /** Since this thread slept for others' sake. */
  #hasAnsweredWrites = false;

  constructor(options: VectorHostOptions) {
    this.#options = options;
    this.#clock = options.clock;
    this.#memoryBytesMax = (options.config.memoryMb ?? vectorDefaults.memoryMb) * 2 ** 20;
    this.#pool = options.pool ?? new MemoryPool({ capBytes: this.#memoryBytesMax });
    this.#prng = new Prng(newCollectionId(options.random));
    this.#line = new SearchLine({
      clock: options.clock,
      sliceMs: options.sliceMs ?? hostLimits.sliceMs,
      hurriedSliceMs: hostLimits.hurriedSliceMs,
      hurries: () => this.#rowsUnderWay > 0 && this.#rowsUnderWay <= hostLimits.hurriedRowsMax,
      waitingMax: vectorLimits.callsMax,
      idle: () => this.#tailWork() ?? this.#sample(),
      between: () => {
        const hasAnswered = this.#hasAnsweredWrites;
        this.#hasAnsweredWrites = false;
        if (hasAnswered && this.#line.waiting > 0) options.giveWay?.();
      },
    });
  }

  /**
   * Opens everything, then serves until the signal aborts, then closes everything. Ends early only by throwing: the registry cannot be read, or (`invalid`) a stored collection has other
   * dims or another metric than the configuration says.
   */
  async run(signal: AbortSignal): Promise<void> {
    if (signal.aborted) return;
    signal.addEventListener("abort", () => this.#stop.abort(signal.reason), { once: true });
    try {
      await this.#openAll();
      this.#options.tell({ answers: [], ready: true, status: this.status(), news: this.#takeNews() });
      const watching = this.#watchHeads();
      await this.#tick();
      await watching;
    } finally {
      await this.close();
    }
  }

  async close(): Promise<void> {
    this.#stop.abort(new MillraceError("unavailable", "the server stops", { todo: "connect again" }));
    this.#line.stop();
    await Promise.all(
      [...this.#collections.values()].map(async (opened) => {
        opened.folding?.abort.abort(this.#stop.signal.reason);
        await opened.opening?.catch(() => undefined);
        await opened.collection?.close().catch(() => undefined);
      }),
    );
    this.#flush();
  }

  // --- collections ---------------------------------------------------------------------------------------------------------------------

  async #openAll(): Promise<void> {
    const { registry, config } = this.#options;
    const found = await listCollections(registry);
    if (this.#options.hasServed !== true) for (const stored of found) if ("record" in stored) checkConfigured(config, stored.record);
    const waiting: (() => Promise<unknown>)[] = [];
    for (const stored of found) {
      if (stored instanceof MillraceError) {
        this.#warn(stored.message);
        continue;
      }
      if (stored.record.state === "dropping") waiting.push(() => this.#finishDrop(stored));
      else {
        const opened = this.#added(stored);
        waiting.push(async () => {
          // It may be dropped before its turn comes.
          if (this.#collections.get(opened.name) === opened && opened.dropping === undefined) await this.#open(opened);
        });
      }
    }
    // Before any is opened, which may take long: meanwhile no name may be taken twice.
    this.#options.tell({ answers: [], named: true, news: Array.from(this.#collections.values(), newsOf) });
    const work = async (): Promise<void> => {
      for (let next = waiting.shift(); next !== undefined && !this.#stop.signal.aborted; next = waiting.shift()) await next();
    };
    await Promise.all(Array.from({ length: hostLimits.openingMax }, work));
    for (const [name, { dims, metric = vectorDefaults.metric }] of Object.entries(config.collections ?? {})) {
      try {
        await this.#create(name, { dims, metric });
      } catch (thrown) {
        this.#warn(`collection ${name} of the configuration: ${toMillraceError(thrown).message}`);
      }
    }
  }

  #added(stored: StoredRecord): Opened {
    const { name } = stored.record;
    const tuning = tuningOf(this.#options.config, name);
    const opened: Opened = {
      name,
      stored,
      collection: undefined,
      failure: undefined,
      dropping: undefined,
      opening: undefined,
      retryMs: hostLimits.retryMsMin,
      retryAtMs: 0,
      tuning,
      snapshots: this.#options.snapshots(tuning.keepVersions),
      times: new Histogram(),
      sampler: new RecallSampler(tuning.recallSampleEvery, tuning.recallAt),
      searches: 0,
      folds: 0,
      folding: undefined,
      foldFailure: undefined,
      foldRetryMs: hostLimits.retryMsMin,
      foldAtMs: 0,
      foldDueMs: undefined,
      switchesTold: 0,
    };
    this.#collections.set(name, opened);
    return opened;
  }

  /** A failure is kept, told and tried again. */
  #open(opened: Opened): Promise<void> {
    opened.opening ??= this.#openNow(opened).finally(() => (opened.opening = undefined));
    return opened.opening;
  }

  async #openNow(opened: Opened): Promise<void> {
    const { clock, files, log, workers, node, folder, sliceMs } = this.#options;
    const { record } = opened.stored;
    try {
      const collection = await LiveCollection.open(record, {
        clock,
        files,
        log,
        snapshots: opened.snapshots,
        pool: this.#pool,
        ...(workers === undefined ? {} : { workers }),
        slots: this.#slots,
        node,
        folder: files.join(folder, "versions", deltaPartition(record.id)),
        spareMax: opened.tuning.loadedVersions - 1,
        loadBase: (manifest, fetched, owner, signal) => loadBase({ manifest, fetched, files, pool: this.#pool, owner, pause: this.#slicer(signal) }),
        warn: (message) => this.#warn(message),
        onSwitch: () => this.#told(opened),
        ...(sliceMs === undefined ? {} : { sliceMs }),
      });
      if (this.#collections.get(opened.name) !== opened || this.#stop.signal.aborted) return await collection.close();
      opened.collection = collection;
      opened.failure = undefined;
      opened.retryMs = hostLimits.retryMsMin;
    } catch (thrown) {
      opened.failure = toMillraceError(thrown, `opening collection ${opened.name}`);
      opened.retryAtMs = clock.monotonicMs() + opened.retryMs;
      opened.retryMs = Math.min(2 * opened.retryMs, hostLimits.retryMsMax);
      this.#warn(`collection ${opened.name} cannot be opened: ${opened.failure.message}`);
    }
    this.#told(opened);
  }

  /** For work that nobody waits for: what it awaits is a turn of the thread whenever it has computed for a slice, and the searches that wait then. Rejects when the signal aborts. */
  #slicer(signal: AbortSignal): () => Promise<void> {
    const { clock, sliceMs = hostLimits.loadSliceMs } = this.#options;
    let sinceMs = clock.monotonicMs();
    return async () => {
      signal.throwIfAborted();
      const stoodMs = clock.monotonicMs();
      if (stoodMs - sinceMs < Math.min(sliceMs, hostLimits.loadSliceMs)) return;
      this.#options.giveWay?.();
      do await clock.yield();
      while (this.#line.waiting > 0 && clock.monotonicMs() - stoodMs < hostLimits.loadWaitsMsMax);
      sinceMs = clock.monotonicMs();
    };
  }

  /** Tells the shape and the switches of a collection with the next message. */
  #told(opened: Opened): void {
    if (this.#collections.get(opened.name) !== opened) return;
    opened.switchesTold += 1;
    this.#tellNews(newsOf(opened));
  }

  #tellNews(news: CollectionNews): void {
    this.#news.push(news);
    this.#flushSoon();
  }

  async #create(name: string, shape: CollectionShape): Promise<boolean> {
    // One at a time for a name.
    while (this.#creating.has(name)) await this.#creating.get(name);
    const work = this.#createNow(name, shape);
    this.#creating.set(
      name,
      work.then(
        () => undefined,
        () => undefined,
      ),
    );
    try {
      return await work;
    } finally {
      this.#creating.delete(name);
    }
  }

  async #createNow(name: string, shape: CollectionShape): Promise<boolean> {
    const { registry, clock, random } = this.#options;
    await this.#collections.get(name)?.dropping;
    const known = this.#collections.get(name);
    if (known !== undefined) {
      checkSame(known.stored.record, shape);
      return false;
    }
    if (this.#collections.size >= vectorLimits.collectionsMax) {
      throw new MillraceError("overloaded", `${vectorLimits.collectionsMax} collections, the most`, { todo: "drop one" });
    }
    const record: CollectionRecord = { name, id: newCollectionId(random), ...shape, state: "open", madeMs: clock.nowMs() };
    const before = await readCollection(registry, name);
    if (before?.record.state === "dropping") await this.#finishDrop(before);
    const stored = before === undefined || before.record.state === "dropping" ? await putCollection(registry, record, 0) : before;
    if (stored === undefined) throw new MillraceError("conflict", `collection ${name} was made by somebody else meanwhile`, { todo: "send again" });
    const opened = this.#added(stored);
    await this.#open(opened);
    if (stored === before) checkSame(before.record, shape);
    if (opened.failure !== undefined) throw opened.failure;
    return stored !== before;
  }

  async #drop(name: string): Promise<boolean> {
    await this.#creating.get(name);
    const opened = this.#collections.get(name);
    if (opened === undefined) return false;
    if (opened.dropping !== undefined) {
      await opened.dropping;
      return false;
    }
    const work = this.#dropNow(opened);
    opened.dropping = work.catch(() => undefined);
    try {
      await work;
    } catch (thrown) {
      opened.dropping = undefined;
      throw thrown;
    }
    return true;
  }

  async #dropNow(opened: Opened): Promise<void> {
    const { registry } = this.#options;
    await opened.opening?.catch(() => undefined);
    const { record, revision } = opened.stored;
    const dropping = await putCollection(registry, { ...record, state: "dropping" }, revision);
    if (dropping === undefined) throw new MillraceError("conflict", `collection ${opened.name} was changed by somebody else`, { todo: "send again" });
    // From here on it is gone, whatever happens.
    opened.folding?.abort.abort(new MillraceError("unavailable", `collection ${opened.name} is dropped`));
    await opened.collection?.close().catch((thrown: unknown) => this.#warn(toMillraceError(thrown).message));
    opened.collection = undefined;
    await this.#finishDrop(dropping);
    this.#collections.delete(opened.name);
    this.#tellNews({ collection: opened.name, shape: undefined, switches: opened.switchesTold + 1 });
  }

  /** Versions, then the log, then the record. What fails is done at the next start. */
  async #finishDrop(stored: StoredRecord): Promise<void> {
    const { registry, log, files, folder } = this.#options;
    const { record } = stored;
    try {
      await this.#options.snapshots(1).forget(snapshotNameOf(record.name));
      await LiveCollection.forgetLog(record, log);
      await files.removeFolder(files.join(folder, "versions", deltaPartition(record.id)));
      await forgetCollection(registry, stored);
    } catch (thrown) {
      const error = toMillraceError(thrown);
      throw new MillraceError(error.code, `collection ${record.name} is dropped, but not all of it is removed: ${error.what}`, {
        todo: "it is removed at the next start",
        cause: thrown,
      });
    }
  }

  /** Versions that somebody published for a collection that nobody made make it. */
  async #watchHeads(): Promise<void> {
    const { registry } = this.#options;
    const prefix = `snapshots/${vectorsKind}/`;
    const { signal } = this.#stop;
    while (!signal.aborted) {
      try {
        for await (const { key, entry } of registry.watch(prefix, signal)) {
          const [name, part] = key.slice(prefix.length).split("/");
          if (entry === undefined || part !== "head" || !isSnapshotName(name) || this.#collections.has(name)) continue;
          // Under this name another collection's versions may stand.
          if ([...this.#collections.keys()].some((one) => snapshotNameOf(one) === name)) continue;
          await this.#createFor(name).catch((thrown: unknown) => this.#warn(`versions of ${name}: ${toMillraceError(thrown).message}`));
        }
      } catch (thrown) {
        if (!signal.aborted) this.#warn(`the heads of collections cannot be watched: ${toMillraceError(thrown).message}`);
      }
      await this.#clock.sleep(hostLimits.retryMsMin, signal).catch(() => undefined);
    }
  }

  async #createFor(name: string): Promise<void> {
    const snapshots = this.#options.snapshots(1);
    const current = (await snapshots.head(name))?.current;
    if (current === undefined) return;
    const { dims, metric } = versionMetaOf(await snapshots.manifest(name, current));
    await this.#create(name, { dims, metric });
  }

  // --- calls ---------------------------------------------------------------------------------------------------------------------------

  hear({ calls, numbers }: CallsMessage): void {
    for (const call of calls) {
      try {
        this.#take(call, numbers);
      } catch (thrown) {
        this.#refuse(call.id, toMillraceError(thrown, call.call));
      }
    }
  }

  #take(call: VectorCall, numbers: Float32Array): void {
    if (call.call === "create") return this.#promise(call.id, this.#create(call.collection, call.shape));
    if (call.call === "drop") return this.#promise(call.id, this.#drop(call.collection));
    const opened = this.#collections.get(call.collection);
    if (opened === undefined || opened.dropping !== undefined) return this.#answer(call.id, undefined);
    // Also of one that cannot be opened: it says why.
    if (call.call === "status") return this.#answer(call.id, this.#statusOf(opened));
    const { collection } = opened;
    if (collection === undefined) {
      throw opened.failure ?? new MillraceError("unavailable", `collection ${call.collection} is being opened`, { todo: "send again in a moment" });
    }
    const { dims } = opened.stored.record;
    switch (call.call) {
      case "upsert": {
        const { elements, vectors, attributes } = call;
        if (vectors.count !== elements.length * dims) throw wrongSize(vectors.count, elements.length, dims, call.collection);
        return this.#write(call.id, collection, { kind: "upsert", elements, vectors: numbers, from: vectors.from, attributes });
      }
      case "remove":
        return this.#write(call.id, collection, { kind: "remove", elements: call.elements });
      case "attributes":
        return this.#write(call.id, collection, { kind: "attributes", elements: call.elements, attributes: call.attributes });
      case "get":
        return this.#answer(call.id, lookUp(collection.serving!, call.elements));
      case "count":
        return this.#answer(call.id, collection.serving!.elements);
      case "random":
        return this.#answer(call.id, this.#random(collection.serving!, call.count));
      case "search":
        return this.#search(opened, collection, call, numbers);
    }
  }

  #search(opened: Opened, collection: LiveCollection, call: VectorCall & { call: "search" }, numbers: Float32Array): void {
    const { id, count, exact = false, version } = call;
    const filter = call.filter === undefined ? undefined : compileFilter(call.filter);
    const lease = collection.lease(version);
    if (lease === undefined) {
      throw new MillraceError("not-found", `version ${String(version).slice(0, 40)} of collection ${call.collection} is not loaded`, {
        todo: "leave the version out, or look which are",
      });
    }
    try {
      const { view } = lease;
      const queries = queriesOf(view, call, numbers);
      const many = queries.length / view.shape.dims;
      if (many * count > vectorLimits.answersMax || many > vectorLimits.queriesMax) {
        throw new MillraceError("invalid", `${many} queries for ${count} answers each`, {
          todo: `ask for at most ${vectorLimits.answersMax} answers together`,
        });
      }
      const beganMs = this.#clock.monotonicMs();
      const timeoutMs = call.timeoutMs ?? opened.tuning.searchTimeoutMs;
      opened.searches += many;
      if (!exact && version === undefined) {
        opened.sampler.seen(() => ({ query: queries.slice(0, view.shape.dims), filter }), many);
      }
      const fail = (error: MillraceError): void => {
        lease.release();
        this.#refuse(id, error);
      };
      const host = this;
      this.#line.add({
        quick: !exact && filter === undefined && many <= hostLimits.quickQueriesMax,
        deadlineMs: beganMs + timeoutMs,
        fail,
        *steps() {
          const settings = settingsFor(view, call);
          const found = yield* searchView(view, {
            queries,
            count,
            exact,
            ...(filter === undefined ? {} : { filter }),
            ...(settings === undefined ? {} : { settings }),
          });
          const elements: string[] = [];
          const attributes: (string | undefined)[] | undefined = call.withAttributes === true ? [] : undefined;
          for (const [i, place] of found.places.entries()) {
            elements.push(view.elementAt(place));
            attributes?.push(view.attributesAt(place));
            if (i % hostLimits.answersAStep === hostLimits.answersAStep - 1) yield;
          }
          const searchMs = host.#clock.monotonicMs() - beganMs;
          opened.times.record(searchMs * 1_000);
          const answer: SearchAnswer = {
            version: view.version,
            from: found.from,
            elements,
            scores: found.scores,
            ...(attributes === undefined ? {} : { attributes }),
            searchMs,
            rowsCompared: found.rowsCompared,
          };
          lease.release();
          host.#answer(id, answer);
        },
      });
    } catch (thrown) {
      lease.release();
      throw thrown;
    }
  }

  #random(view: CollectionView, count: number): string[] {
    const { elements } = view;
    if (elements === 0 || count === 0) return [];
    if (count < 0) return Array.from({ length: -count }, () => view.elementAt(this.#randomPlace(view)));
    const chosen = new Set<number>();
    if (count >= elements) for (const place of view.places()) chosen.add(place);
    else {
      const wanted = Math.min(count, elements);
      // Drawing the few that are left out is as quick as drawing the few that are in.
      if (wanted * 2 <= elements) while (chosen.size < wanted) chosen.add(this.#randomPlace(view));
      else {
        const all = [...view.places()];
        for (let i = 0; i < wanted; i++) {
          const other = i + this.#prng.below(all.length - i);
          [all[i], all[other]] = [all[other]!, all[i]!];
          chosen.add(all[i]!);
        }
      }
    }
    return Array.from(chosen, (place) => view.elementAt(place));
  }

  /** Each element as likely as any other. */
  #randomPlace(view: CollectionView): number {
    const slots = view.base?.segment.slots ?? 0;
    const all = slots + view.tail.rows;
    for (let tries = 0; tries < 256; tries++) {
      const at = this.#prng.below(all);
      const place = at < slots ? at : slots - 1 - at;
      if (view.isLiveAt(place)) return place;
    }
    // Nearly all are deleted: count up to one.
    let left = this.#prng.below(view.elements);
    for (const place of view.places()) if (left-- === 0) return place;
    throw new MillraceError("internal", "a collection has fewer elements than it says");
  }

  // --- idle times -----------------------------------------------------------------------------------------------------------------------

  /** Gives rows of the tails their lists. */
  #tailWork(): Generator<void, void, void> | undefined {
    for (const opened of this.#collections.values()) {
      // The view may be another one after each piece.
      const piece = (): boolean => opened.collection?.serving?.tailLists?.work() === true;
      if (piece())
        return (function* more() {
          do yield;
          while (piece());
        })();
    }
    return undefined;
  }

  // --- quality -------------------------------------------------------------------------------------------------------------------------

  /** Compares one live search with exact search, in idle times. */
  #sample(): Generator<void, void, void> | undefined {
    for (const opened of this.#collections.values()) {
      const sample = opened.sampler.next();
      if (sample === undefined) continue;
      const lease = opened.collection?.lease();
      if (lease === undefined) continue;
      return opened.sampler.compare(lease, sample);
    }
    return undefined;
  }

  // --- folds ---------------------------------------------------------------------------------------------------------------------------

  async #tick(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      await this.#clock.sleep(hostLimits.tickMs, signal).catch(() => undefined);
      if (signal.aborted) return;
      const nowMs = this.#clock.monotonicMs();
      this.#stallMs = this.#options.stallMs?.() ?? 0;
      for (const opened of this.#collections.values()) {
        if (opened.failure !== undefined && opened.opening === undefined && opened.dropping === undefined && nowMs >= opened.retryAtMs) void this.#open(opened);
      }
      this.#foldOne(nowMs);
      if (nowMs >= this.#trimAtMs) {
        this.#trimAtMs = nowMs + hostLimits.trimMs;
        this.#pool.dropLongIdle();
        for (const { collection } of this.#collections.values())
          void collection?.trim().catch((thrown: unknown) => this.#warn(toMillraceError(thrown).message));
      }
      this.#line.wake();
      this.#options.tell({ answers: [], status: this.status() });
    }
  }

  /** Begins the fold that has been due the longest: whatever is written to one collection, each gets its turn after at most one fold of every other. */
  #foldOne(nowMs: number): void {
    let next: Opened | undefined;
    for (const opened of this.#collections.values()) {
      if (opened.folding !== undefined) continue;
      const due = opened.dropping === undefined && nowMs >= opened.foldAtMs && this.foldReason(opened.name) !== undefined;
      opened.foldDueMs = due ? (opened.foldDueMs ?? nowMs) : undefined;
      if (opened.foldDueMs !== undefined && opened.foldDueMs < (next?.foldDueMs ?? Infinity)) next = opened;
    }
    if (next === undefined || this.#folding) return;
    next.foldDueMs = undefined;
    this.#folding = true;
    void this.#fold(next).finally(() => (this.#folding = false));
  }

  /** Why a fold of a collection is due; undefined: it is not. */
  foldReason(name: string): string | undefined {
    const opened = this.#collections.get(name);
    const view = opened?.collection?.serving;
    if (opened === undefined || view === undefined) return undefined;
    const since = opened.collection!.tailSinceMs;
    return foldReason(opened.tuning.fold, {
      baseRows: view.base?.segment.rows ?? 0,
      tailRows: view.tail.rows,
      deletedRows: view.deletedRows,
      elements: view.elements,
      waitingMs: since === undefined ? undefined : this.#clock.monotonicMs() - since,
    });
  }

  async #fold(opened: Opened): Promise<void> {
    const { collection, tuning, snapshots, name } = opened;
    const view = collection?.serving;
    if (collection === undefined || view === undefined) return;
    const { snapshotName } = collection;
    const from = view.version;
    const abort = new AbortController();
    const signal = AbortSignal.any([abort.signal, this.#stop.signal]);
    opened.folding = { sinceMs: this.#clock.nowMs(), share: 0, abort };
    try {
      const figures = { baseRows: 0, deletedRows: 0, elements: view.elements, waitingMs: undefined, tailRows: view.tail.rows };
      const others = (await snapshots.versions(snapshotName)).filter(({ state }) => state === "building");
      if (others.length > 0 && !isOverdue(tuning.fold, figures)) {
        // It would be overtaken by a fold that began later, and its work be lost.
        opened.foldAtMs = this.#clock.monotonicMs() + hostLimits.retryMsMin;
        return;
      }
      const toOffset = await collection.syncedUpTo();
      const { record } = opened.stored;
      const { recallTarget, recallAt, exactBelowRows, fold } = tuning;
      const job: FoldJob = { record, version: from, toOffset, recallTarget, recallAt, exactBelowRows, memoryBytes: fold.memoryMb * 2 ** 20 };
      const built = await this.#options.fold(job, signal, (share) => {
        if (opened.folding !== undefined) opened.folding.share = share;
      });
      if (built.outcome === "refused")
        throw new MillraceError("invalid", `the fold was refused: ${built.reasons.join("; ")}`, { todo: "look at the version's figures" });
      signal.throwIfAborted();
      await snapshots.goLive(snapshotName, built.version, { onlyFrom: from });
      for (let waitedMs = 0; collection.serving?.version !== built.version; waitedMs += 50) {
        signal.throwIfAborted();
        if (waitedMs > hostLimits.foldServedMs) throw new MillraceError("timeout", `version ${built.version} is not served`, { todo: "look at its versions" });
        await this.#clock.sleep(50, signal);
      }
      opened.folds += 1;
      opened.foldFailure = undefined;
      opened.foldRetryMs = hostLimits.retryMsMin;
      await collection.trim();
    } catch (thrown) {
      if (signal.aborted) return;
      const error = toMillraceError(thrown, `folding collection ${name}`);
      opened.foldAtMs = this.#clock.monotonicMs() + opened.foldRetryMs;
      opened.foldRetryMs = Math.min(2 * opened.foldRetryMs, hostLimits.retryMsMax);
      // Somebody else put a version live meanwhile: that is no failure, and the next fold is of that one.
      if (error.code === "conflict") return;
      opened.foldFailure = `not folded: ${error.message}`;
      this.#warn(`collection ${name} was not folded: ${error.message}`);
    } finally {
      opened.folding = undefined;
    }
  }

  // --- status --------------------------------------------------------------------------------------------------------------------------

  status(): VectorsStatus {
    const collections = [...this.#collections.values()].filter(({ dropping }) => dropping === undefined).map((opened) => this.#statusOf(opened));
    const { leasedBytes, closingBytes } = this.#pool.statistics();
    return { collections, memoryBytes: leasedBytes + closingBytes, memoryBytesMax: this.#memoryBytesMax, loopStallMaxMs: this.#stallMs };
  }

  #statusOf(opened: Opened): CollectionStatus {
    const { collection, times, folding, sampler } = opened;
    const { name, dims, metric } = opened.stored.record;
    const view = collection?.serving;
    const base = view?.base;
    const failure = opened.failure?.message ?? collection?.failure?.message ?? opened.foldFailure;
    const { recall } = sampler;
    return {
      name,
      dims,
      metric,
      elements: view?.elements ?? 0,
      baseRows: base?.segment.rows ?? 0,
      tailRows: view?.tail.rows ?? 0,
      ...(view?.tailLists === undefined ? {} : { tailUnlisted: view.tailLists.waitingRows + view.tailLists.strayRows }),
      deletedRows: view?.deletedRows ?? 0,
      bytes: collection?.bytes ?? 0,
      versions: collection === undefined ? [] : versionsOf(collection),
      settings: { lists: base?.segment.lists ?? 0, probes: base?.settings.probes ?? 0 },
      upserts: collection?.upserts ?? 0,
      removes: collection?.removes ?? 0,
      searches: opened.searches,
      searchP50Ms: times.count === 0 ? 0 : times.quantile(0.5) / 1_000,
      searchP99Ms: times.count === 0 ? 0 : times.quantile(0.99) / 1_000,
      ...(recall === undefined ? {} : { recall }),
      ...(folding === undefined ? {} : { folding: { sinceMs: folding.sinceMs, share: folding.share } }),
      folds: opened.folds,
      ...(failure === undefined ? {} : { failure }),
    };
  }

  // --- answers -------------------------------------------------------------------------------------------------------------------------

  #promise(id: number, work: Promise<unknown>): void {
    work.then(
      (value) => this.#answer(id, value),
      (thrown: unknown) => this.#refuse(id, toMillraceError(thrown)),
    );
  }

  #write(id: number, collection: LiveCollection, write: CollectionWrite): void {
    const rows = write.elements.length;
    this.#rowsUnderWay += rows;
    collection.write(write).then(
      (flags) => {
        // Not of a flood: then nobody waits for a single one.
        this.#hasAnsweredWrites ||= this.#rowsUnderWay <= hostLimits.hurriedRowsMax;
        this.#rowsUnderWay -= rows;
        this.#answer(id, flags.length === 1 ? flags[0] : flags);
      },
      (thrown: unknown) => {
        this.#rowsUnderWay -= rows;
        this.#refuse(id, toMillraceError(thrown));
      },
    );
  }

  #answer(id: number, value: unknown): void {
    this.#answers.push({ id, value });
    this.#flushSoon();
  }

  #refuse(id: number, error: MillraceError): void {
    this.#answers.push({ id, failure: packFailure(error) });
    this.#flushSoon();
  }

  #warn(message: string): void {
    this.#warnings.push(message);
    this.#flushSoon();
  }

  #flushSoon(): void {
    if (this.#flushing) return;
    this.#flushing = true;
    queueMicrotask(() => this.#flush());
  }

  #takeNews(): CollectionNews[] {
    return this.#news.splice(0);
  }

  #flush(): void {
    this.#flushing = false;
    if (this.#answers.length + this.#news.length + this.#warnings.length === 0) return;
    const [answers, warnings] = [this.#answers, this.#warnings];
    this.#answers = [];
    this.#warnings = [];
    const news = this.#takeNews();
    this.#options.tell({ answers, ...(news.length > 0 ? { news } : {}), ...(warnings.length > 0 ? { warnings } : {}) });
  }
}

function checkSame({ name, dims, metric }: CollectionRecord, shape: CollectionShape): void {
  if (dims === shape.dims && metric === shape.metric) return;
  throw new MillraceError("conflict", `collection ${name} is there with ${dims} numbers compared by ${metric}`, { todo: "use another name, or drop it first" });
}

/** A configuration that was changed where it cannot be. */
function checkConfigured(config: VectorsConfig, { name, dims, metric, state }: CollectionRecord): void {
  const asked = Object.hasOwn(config.collections ?? {}, name) ? config.collections?.[name] : undefined;
  if (asked === undefined || state === "dropping") return;
  const refuse = (field: string, is: string | number, was: string | number): never => {
    throw new MillraceError("invalid", `vectors.collections.${name}.${field} is ${is}, and the stored collection has ${was}: that cannot be changed`, {
      todo: `write ${was} again, or name another collection; to make it anew, start with ${was}, send DEL ${name}, stop, and start with ${is}`,
    });
  };
  if (asked.dims !== dims) refuse("dims", asked.dims, dims);
  const { metric: wanted = vectorDefaults.metric } = asked;
  if (wanted !== metric) refuse("metric", wanted, metric);
}

function wrongSize(numbers: number, elements: number, dims: number, collection: string): MillraceError {
  return new MillraceError("invalid", `${numbers} numbers for ${elements} elements of collection ${collection}`, { todo: `give ${dims} numbers for each` });
}

function queriesOf(view: CollectionView, call: VectorCall & { call: "search" }, numbers: Float32Array): Float32Array {
  const { dims } = view.shape;
  if ("element" in call.queries) {
    const place = view.placeOf(call.queries.element);
    if (place === undefined) {
      throw new MillraceError("not-found", `collection ${call.collection} has no element ${JSON.stringify(call.queries.element.slice(0, 64))}`, {
        todo: "add it first, or search by a vector",
      });
    }
    const query = new Float32Array(dims);
    view.vectorAt(place, query);
    return query;
  }
  const { from, count } = call.queries;
  if (count === 0 || count % dims !== 0) {
    throw new MillraceError("invalid", `queries of ${count} numbers for collection ${call.collection}`, { todo: `give ${dims} numbers a query` });
  }
  return numbers.subarray(from, from + count);
}

/** Those of the version, unless the search says otherwise. */
function settingsFor(view: CollectionView, { probes }: VectorCall & { call: "search" }): SearchSettings | undefined {
  const base = view.base?.settings;
  return base === undefined || probes === undefined ? undefined : { ...base, probes };
}

function newsOf({ name, stored, switchesTold }: Opened): CollectionNews {
  const { dims, metric } = stored.record;
  return { collection: name, shape: { dims, metric }, switches: switchesTold };
}

function lookUp(view: CollectionView, elements: readonly string[]): VectorLookup {
  const { dims } = view.shape;
  const found = new Uint8Array(elements.length);
  const vectors = new Float32Array(elements.length * dims);
  const norms = new Float32Array(elements.length);
  const attributes: (string | undefined)[] = [];
  elements.forEach((element, i) => {
    const place = view.placeOf(element);
    attributes.push(place === undefined ? undefined : view.attributesAt(place));
    if (place === undefined) return;
    found[i] = 1;
    norms[i] = view.normAt(place);
    view.vectorAt(place, vectors.subarray(i * dims, (i + 1) * dims));
  });
  return { found, vectors, norms, attributes };
}

function versionsOf(collection: LiveCollection): CollectionVersion[] {
  const { loaded, loading, refused } = collection.follower;
  const listed = loaded.map(({ version, serving }): CollectionVersion => {
    const lease: ViewLease | undefined = collection.lease(version);
    const view = lease?.view;
    const one: CollectionVersion = { version, state: serving ? "serving" : "spare", rows: view?.base?.segment.rows ?? 0, bytes: view?.bytes ?? 0 };
    lease?.release();
    return one;
  });
  return [
    ...listed,
    ...(loading === undefined ? [] : [{ version: loading.version, state: "loading" as const, rows: 0, bytes: loading.bytesAll }]),
    ...refused.map(({ version, reason }) => ({ version, state: "refused" as const, rows: 0, bytes: 0, reason })),
  ];
}
