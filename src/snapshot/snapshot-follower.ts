// A server's side of a snapshot: follows the head, and serves the newest version that is good.
//   head moves -> fetch -> verify -> load beside what is served -> check -> warm -> switch -> announce -> the version before leaves with its last reader
// Why one loop a name: a version is never fetched or loaded twice at once, and what is served is decided in one place.
// Which version: the live one; when it is bad, the one before it (`servable` of head.ts), down to the one that is served. A bad one is told (alarm, state, registry)
// and not tried again until it is made live anew; what may pass (disk, memory, network) is tried again with growing pauses.
// Invariants: 1. what `lease` gives is a whole version whose every byte was checked; reads never fail or wait for a switch  2. nothing is announced before it is
// served, and nothing is closed while it is read  3. a failure of any step leaves what is served as it was  4. disk: at most the versions that are loaded, one
// that is loading, and `keepLocal` more.
// Cost: `lease` is one small object, `value` nothing. A switch holds two versions in memory at once (`spareMax` adds more).
// Concurrency: one thread; `slots` bounds the loads of a process. The folder belongs to one follower.
// Limits: `followerLimits` and the options; every wait has a deadline.

import { MillraceError, toMillraceError } from "#base/errors";
import type { Lease as RegistryLease } from "#backbone/registry";
import { Wake } from "#backbone/wake";
import type { Clock } from "#platform/clock";
import type { Files } from "#platform/files";
import type { Workers } from "#platform/workers";
import type { AlarmSink, SnapshotAlarm } from "./alarm.ts";
import { withDeadline } from "./deadline.ts";
import { type FetchedFile, fetchVersion } from "./fetch-version.ts";
import { type Head, servable } from "./head.ts";
import { LoadSlots } from "./load-slots.ts";
import { type Lease, type Loaded, LoadedVersions, type LoadedVersion } from "./loaded-versions.ts";
import { bytesOf, type Manifest, type SnapshotFile, versionText } from "./manifest.ts";
import type { FollowerRecord, SnapshotStore } from "./snapshot-store.ts";
import { isVersion } from "./version.ts";

export type { FetchedFile } from "./fetch-version.ts";
export type { Lease, Loaded } from "./loaded-versions.ts";

export const followerLimits = {
  /** Pauses before something that may pass is tried again: doubled from the first to the last. */
  retryMsMin: 500,
  retryMsMax: 60_000,
  /** How often the follower's own words in the registry are renewed while a load goes on. */
  recordMsMin: 500,
  refusedShownMax: 20,
  nodeCharactersMax: 100,
} as const;

export interface LoadContext {
  readonly files: readonly FetchedFile[];
  /** Aborted when the version is no longer wanted, or its time is over: leave off and give back what was taken. The files may then be gone. */
  readonly signal: AbortSignal;
  /** For the state: bytes loaded so far. */
  readonly onProgress: (bytesDone: number) => void;
}

export interface SnapshotFollowerOptions<T> {
  readonly store: SnapshotStore;
  readonly name: string;
  /** Who follows: letters, digits, dot, underscore and -. One follower a name and node. */
  readonly node: string;
  readonly files: Files;
  readonly clock: Clock;
  /** Checksums are taken in a thread of their own; without it on this one, in pieces of 0.3 ms. */
  readonly workers?: Workers;
  /** Local place of this follower alone; made when missing. */
  readonly folder: string;
  /** Which files of a version are fetched and loaded here, say those of some shards. Default: all. */
  readonly wants?: (file: SnapshotFile) => boolean;
  /** Makes a version of its files, beside the one that is served. Throws `corrupt` or `invalid` for a bad one, `overloaded` when there is no memory now. */
  readonly load: (manifest: Manifest, context: LoadContext) => Promise<Loaded<T>>;
  /** Reasons why what was loaded is bad; empty when it is good. */
  readonly check?: (value: T, manifest: Manifest) => Promise<readonly string[]> | readonly string[];
  /** Touches what the first reads will need, before anyone reads. A failure refuses the version. */
  readonly warm?: (value: T, manifest: Manifest) => Promise<void> | void;
  /** Called right after the switch, in the same turn: for what must move with it. Must not throw. */
  readonly onSwitch?: (value: T | undefined, manifest: Manifest | undefined) => void;
  readonly onAlarm?: AlarmSink;
  /** Shared by the followers of a process. Default: slots of its own. */
  readonly slots?: LoadSlots;
  /** `load` compares every byte with the manifest (`crc32c` of each file): files in place, and those that an earlier fetch has finished, are then not read a second time
   * before it. Default false. */
  readonly loadVerifies?: boolean;
  /** Versions besides the serving one that stay in memory for a roll-back without loading. Default 0. */
  readonly spareMax?: number;
  /** Whole versions besides the loaded ones that stay on the local disk. Default 1. */
  readonly keepLocal?: number;
  /** A version of more bytes is refused with `overloaded`. Default: no limit. */
  readonly localBytesMax?: number;
  readonly bytesPerSecondMax?: number;
  /** Deadlines. Defaults: an hour to fetch, ten minutes to load, check and warm, each. */
  readonly fetchMsMax?: number;
  readonly loadMsMax?: number;
  /** How long the announcement of a process that stands still lives on. Default 10 s. */
  readonly announceMs?: number;
}

export type LoadStage = "waiting" | "fetching" | "verifying" | "loading" | "checking" | "warming";

export interface LoadingState {
  readonly version: string;
  readonly stage: LoadStage;
  readonly bytesDone: number;
  readonly bytesAll: number;
  readonly sinceMs: number;
}

export interface RefusedState {
  readonly version: string;
  readonly stage: LoadStage;
  readonly code: string;
  readonly reason: string;
  readonly atMs: number;
  /** Whether it is tried again by itself. */
  readonly passing: boolean;
}

export interface FollowerState {
  readonly kind: string;
  readonly name: string;
  readonly node: string;
  /** What the head says, as last heard. */
  readonly live: string | undefined;
  readonly serving: string | undefined;
  readonly servingSinceMs: number | undefined;
  readonly loaded: readonly LoadedVersion[];
  readonly loading: LoadingState | undefined;
  readonly refused: readonly RefusedState[];
  readonly switches: number;
  /** Why the registry could not be read or written at the last try. */
  readonly backbone: string | undefined;
}

interface Refusal extends RefusedState {
  /** `switches` of the head under which it was found bad: made live anew, it is tried anew. */
  readonly headSwitches: number;
}

export class SnapshotFollower<T> {
  readonly #options: SnapshotFollowerOptions<T>;
  readonly #clock: Clock;
  readonly #store: SnapshotStore;
  readonly #what: string;
  readonly #slots: LoadSlots;
  readonly #versions: LoadedVersions<T>;
  readonly #stop = new AbortController();
  readonly #wake = new Wake();
  readonly #refused = new Map<string, Refusal>();
  readonly #settled = Promise.withResolvers<void>();
  #head: Head | undefined;
  #heard = false;
  /** Whether something was live when the head was first heard. */
  #beganLive = false;
  #loading: { -readonly [K in keyof LoadingState]: LoadingState[K] } | undefined;
  /** Aborted when what is loading is no longer wanted. */
  #loadAbort: AbortController | undefined;
  #servingSinceMs: number | undefined;
  #switches = 0;
  #backbone: string | undefined;
  #lease: RegistryLease | undefined;
  #recorded = "";
  #recordedMs = -Infinity;
  #running: Promise<void> | undefined;

  constructor(options: SnapshotFollowerOptions<T>) {
    if (!/^[A-Za-z0-9._-]+$/.test(options.node) || options.node.length > followerLimits.nodeCharactersMax) {
      throw new MillraceError("invalid", `the node name ${JSON.stringify(options.node.slice(0, 40))}`, {
        todo: `use 1 to ${followerLimits.nodeCharactersMax} letters, digits, dots, underscores and -`,
      });
    }
    this.#options = options;
    this.#clock = options.clock;
    this.#store = options.store;
    this.#what = options.store.keyOf(options.name).slice("snapshots/".length, -1);
    this.#slots = options.slots ?? new LoadSlots();
    this.#versions = new LoadedVersions(options.spareMax ?? 0, (version, failure) => this.#closed(version, failure));
  }

  // --- reading -------------------------------------------------------------------------------------------------------------------------

  /** A reader of what is served now, or of `version` while that is loaded; `undefined` when there is none. Synchronous: never waits, never fails for a switch. */
  lease(version?: string): Lease<T> | undefined {
    return this.#versions.lease(version);
  }

  /** What is served, without a lease: only for reads that end before the next await. */
  get value(): T | undefined {
    return this.#versions.value;
  }

  get version(): string | undefined {
    return this.#versions.servingVersion;
  }

  /** True while nothing is served although something was live when following began: what readers see is not whole. The first version of all is not awaited: what stood
   * before it stands on until it is loaded, as with every later one. */
  get awaited(): boolean {
    return this.#beganLive && this.#versions.servingVersion === undefined;
  }

  get state(): FollowerState {
    return {
      kind: this.#store.kind,
      name: this.#options.name,
      node: this.#options.node,
      live: this.#head?.current,
      serving: this.#versions.servingVersion,
      servingSinceMs: this.#servingSinceMs,
      loaded: this.#versions.versions,
      loading: this.#loading === undefined ? undefined : { ...this.#loading },
      refused: [...this.#refused.values()].map(({ headSwitches: _, ...refused }) => refused),
      switches: this.#switches,
      backbone: this.#backbone,
    };
  }

  // --- life ----------------------------------------------------------------------------------------------------------------------------

  /** Begins to follow. A second call does nothing. */
  start(): void {
    if (this.#running !== undefined || this.#stop.signal.aborted) return;
    this.#running = Promise.all([this.#follow(), this.#run(), this.#keepAnnounced()]).then(() => undefined);
  }

  /** Resolves when what the head said first has been dealt with: a version is served, or there is none, or none that is good. */
  get settled(): Promise<void> {
    return this.#settled.promise;
  }

  /** Takes the announcement back, stops following, lets go what is loaded. Versions that are still read are closed when their last lease ends. */
  async stop(): Promise<void> {
    if (this.#stop.signal.aborted) {
      await this.#running;
      return;
    }
    this.#stop.abort(stopped(this.#what));
    this.#loadAbort?.abort(stopped(this.#what));
    await this.#lease?.end().catch(() => undefined);
    await this.#running;
    this.#versions.serve(undefined);
    this.#options.onSwitch?.(undefined, undefined);
    this.#settled.resolve();
  }

  // --- following the head ----------------------------------------------------------------------------------------------------------------

  /** Hears every change of the head, for as long as it takes. */
  async #follow(): Promise<void> {
    const { signal } = this.#stop;
    for (let pauseMs: number = followerLimits.retryMsMin; !signal.aborted; pauseMs = Math.min(pauseMs * 2, followerLimits.retryMsMax)) {
      try {
        for await (const head of this.#store.watch(this.#options.name, signal)) {
          if (head instanceof MillraceError) {
            this.#backbone = head.message;
            this.#alarm("damaged", undefined, [head.message]);
            this.#settled.resolve();
            continue;
          }
          pauseMs = followerLimits.retryMsMin;
          this.#backbone = undefined;
          this.#hear(head);
        }
      } catch (thrown) {
        this.#backbone = toMillraceError(thrown).message;
      }
      if (!signal.aborted) await this.#clock.sleep(pauseMs, signal).catch(() => undefined);
    }
  }

  #hear(head: Head | undefined): void {
    if (!this.#heard) this.#beganLive = head !== undefined;
    this.#head = head;
    this.#heard = true;
    const loading = this.#loading?.version;
    if (loading !== undefined && (head === undefined || !servable(head).includes(loading))) {
      this.#loadAbort?.abort(new MillraceError("unavailable", `${this.#what} ${loading} is no longer wanted`));
    }
    this.#wake.notify();
  }

  /** The one loop that loads. */
  async #run(): Promise<void> {
    const { signal } = this.#stop;
    let pauseMs: number = followerLimits.retryMsMin;
    while (!signal.aborted) {
      const { version } = this.#wake;
      let again = false;
      if (this.#heard) {
        again = await this.#reach(this.#head);
        await this.#tidyFolder();
        this.#settled.resolve();
      }
      if (!again) pauseMs = followerLimits.retryMsMin;
      await this.#wake.changed(version, signal, again ? { clock: this.#clock, delayMs: pauseMs } : undefined);
      if (again) pauseMs = Math.min(pauseMs * 2, followerLimits.retryMsMax);
    }
  }

  /** Goes for the best version that the head names. True when something is to be tried again. */
  async #reach(head: Head | undefined): Promise<boolean> {
    if (head === undefined) return false;
    const wanted = servable(head);
    for (const version of this.#refused.keys()) if (!wanted.includes(version)) this.#refused.delete(version);
    let again = false;
    for (const version of wanted) {
      if (this.#stop.signal.aborted) return false;
      // An earlier one that is served stays: what may pass is tried again, and nothing goes back in between.
      if (version === this.#versions.servingVersion) return again;
      const refused = this.#refused.get(version);
      if (refused !== undefined && !refused.passing && (version !== head.current || refused.headSwitches === head.switches)) continue;
      const outcome = await this.#load(version, head);
      if (outcome === "served" || outcome === "left") return again;
      if (outcome === "passing") {
        again = true;
        if (this.#versions.servingVersion !== undefined) return true;
      }
    }
    return again;
  }

  // --- one version -------------------------------------------------------------------------------------------------------------------------

  async #load(version: string, head: Head): Promise<"served" | "bad" | "passing" | "left"> {
    // Loaded from before, as a spare or still read by somebody: no second time.
    await this.#versions.gone(version).catch(() => undefined);
    if (this.#versions.has(version)) {
      await this.#switch(version, head);
      return "served";
    }
    const abort = new AbortController();
    this.#loadAbort = abort;
    const loading = { version, stage: "waiting" as LoadStage, bytesDone: 0, bytesAll: 0, sinceMs: this.#clock.nowMs() };
    this.#loading = loading;
    const { fetchMsMax = 3_600_000, loadMsMax = 600_000 } = this.#options;
    let release: (() => void) | undefined;
    try {
      release = await this.#slots.take(this.#clock, fetchMsMax, abort.signal);
      const { manifest, files } = await this.#within(fetchMsMax, `fetching ${this.#what} ${version}`, abort, (signal) => this.#fetch(version, loading, signal));
      loading.stage = "loading";
      loading.bytesDone = 0;
      this.#touch();
      const { store, name, load, check, warm } = this.#options;
      const loaded = await this.#within(
        loadMsMax,
        `loading ${this.#what} ${version}`,
        abort,
        (signal) => load(manifest, { files, signal, onProgress: (bytes) => (loading.bytesDone = bytes) }),
        (late) => void Promise.resolve(late.close()).catch(() => undefined),
      );
      this.#versions.add(manifest, loaded);
      try {
        loading.stage = "checking";
        const reasons = await this.#within(loadMsMax, `checking ${this.#what} ${version}`, abort, async () => (await check?.(loaded.value, manifest)) ?? []);
        if (reasons.length > 0)
          throw new MillraceError("invalid", `${versionText(manifest)} is refused here: ${reasons.join("; ")}`, { todo: "roll back, or build it again" });
        loading.stage = "warming";
        await this.#within(loadMsMax, `warming ${this.#what} ${version}`, abort, async () => warm?.(loaded.value, manifest));
        // The head may have moved while we were busy, to where this version is not wanted.
        const now = await store.head(name);
        if (now === undefined || !servable(now).includes(version))
          abort.abort(new MillraceError("unavailable", `${this.#what} ${version} is no longer wanted`));
        abort.signal.throwIfAborted();
        this.#refused.delete(version);
        await this.#switch(version, now!);
        return "served";
      } finally {
        this.#versions.drop(version);
      }
    } catch (thrown) {
      if (this.#stop.signal.aborted || abort.signal.aborted) return "left";
      return this.#failed(version, loading.stage, head, toMillraceError(thrown, `loading ${this.#what} ${version}`));
    } finally {
      release?.();
      this.#loading = undefined;
      this.#loadAbort = undefined;
      void this.#announce();
    }
  }

  async #fetch(
    version: string,
    loading: { stage: LoadStage; bytesDone: number; bytesAll: number },
    signal: AbortSignal,
  ): Promise<{ manifest: Manifest; files: FetchedFile[] }> {
    const { store, name, folder, files, workers, localBytesMax = Infinity, bytesPerSecondMax, wants = () => true } = this.#options;
    loading.stage = "fetching";
    this.#touch();
    const manifest = await store.manifest(name, version);
    const bytes = bytesOf(manifest.files.filter(wants));
    loading.bytesAll = bytes;
    if (bytes > localBytesMax) {
      throw new MillraceError("overloaded", `${bytes} bytes of ${versionText(manifest)}, ${localBytesMax} are allowed here`, {
        todo: "raise the limit, or make it smaller",
      });
    }
    const fetched = await fetchVersion({
      files,
      clock: this.#clock,
      folder,
      manifest,
      wants,
      signal,
      read: (file, start, end) => store.read(manifest, file, start, end, signal),
      pathOf: (file) => store.pathOf(manifest, file),
      loadVerifies: this.#options.loadVerifies === true,
      onProgress: (stage, bytesDone) => {
        loading.stage = stage;
        loading.bytesDone = bytesDone;
        this.#touch();
      },
      ...(workers === undefined ? {} : { workers }),
      ...(bytesPerSecondMax === undefined ? {} : { bytesPerSecondMax }),
    });
    return { manifest, files: fetched };
  }

  #within<R>(ms: number, what: string, abort: AbortController, work: (signal: AbortSignal) => Promise<R>, late?: (result: R) => void): Promise<R> {
    // The work hears of the end of its time too, so that it does not go on beside the next attempt.
    const own = new AbortController();
    const signal = AbortSignal.any([abort.signal, own.signal]);
    const deadline = {
      clock: this.#clock,
      ms,
      what,
      todo: "look at the machine; it is tried again",
      signal: abort.signal,
      ...(late === undefined ? {} : { late }),
    };
    return withDeadline(work(signal), deadline).catch((thrown: unknown) => {
      own.abort(thrown);
      throw thrown;
    });
  }

  #failed(version: string, stage: LoadStage, head: Head, error: MillraceError): "bad" | "passing" {
    // A version that the blobs do not have (any more) is bad for us: only another head can help.
    const passing = error.retryable || error.code === "internal";
    const known = this.#refused.get(version);
    const refusal: Refusal = { version, stage, code: error.code, reason: error.message, atMs: this.#clock.nowMs(), passing, headSwitches: head.switches };
    if (this.#refused.size >= followerLimits.refusedShownMax) this.#refused.delete(this.#refused.keys().next().value!);
    this.#refused.set(version, refusal);
    // Told once for each cause, not with every try.
    if (known === undefined || known.code !== error.code || (version === head.current && known.headSwitches !== head.switches)) {
      this.#alarm(passing ? "not-loaded" : error.code === "corrupt" ? "damaged" : "refused", version, [error.message]);
    }
    return passing ? "passing" : "bad";
  }

  /** Serves a version that is loaded, then says so. */
  async #switch(version: string, head: Head): Promise<void> {
    this.#versions.serve(version);
    this.#switches += 1;
    this.#servingSinceMs = this.#clock.nowMs();
    this.#head = head.revision >= (this.#head?.revision ?? 0) ? head : this.#head;
    const current = this.#versions.current!;
    this.#options.onSwitch?.(current.value, current.manifest);
    await this.#announce();
  }

  #closed(version: string, failure: unknown): void {
    if (failure !== undefined) this.#alarm("not-loaded", version, [`closing failed: ${toMillraceError(failure).message}`]);
    this.#wake.notify();
  }

  #alarm(what: SnapshotAlarm["what"], version: string | undefined, reasons: readonly string[]): void {
    this.#options.onAlarm?.({ what, kind: this.#store.kind, name: this.#options.name, version, reasons, atMs: this.#clock.nowMs() });
  }

  // --- what others see -----------------------------------------------------------------------------------------------------------------

  /** Renews the announcement now and then, and takes a new lease when this process stood still for too long. */
  async #keepAnnounced(): Promise<void> {
    const { signal } = this.#stop;
    const everyMs = (this.#options.announceMs ?? 10_000) / 2;
    const never = new Wake();
    while (!signal.aborted) {
      await this.#announce();
      await never.changed(never.version, signal, { clock: this.#clock, delayMs: everyMs });
    }
  }

  /** After a change: told soon, but not more often than others want to know. */
  #touch(): void {
    if (this.#clock.monotonicMs() - this.#recordedMs >= followerLimits.recordMsMin) void this.#announce();
  }

  #announcing: Promise<void> = Promise.resolve();

  /** Writes the follower's record. Failures are shown in the state: serving does not depend on it. One at a time. */
  #announce(): Promise<void> {
    this.#announcing = this.#announcing.then(() => this.#announceNow());
    return this.#announcing;
  }

  async #announceNow(): Promise<void> {
    if (this.#stop.signal.aborted) return;
    this.#recordedMs = this.#clock.monotonicMs();
    try {
      const alive = this.#lease !== undefined && (await this.#lease.alive());
      const record = this.#record();
      const text = JSON.stringify({ ...record, atMs: 0 });
      if (alive && text === this.#recorded) return;
      if (!alive) this.#lease = await this.#store.lease(this.#options.announceMs ?? 10_000);
      // Stopped meanwhile: nothing may be announced any more.
      if (this.#stop.signal.aborted) return await this.#lease!.end();
      await this.#store.putFollower(this.#options.name, record, this.#lease!);
      if (record.serving !== undefined) await this.#store.putServing(this.#options.name, record.node, record.serving, this.#lease!);
      this.#recorded = text;
      this.#backbone = undefined;
    } catch (thrown) {
      if (!this.#stop.signal.aborted) this.#backbone = toMillraceError(thrown).message;
    }
  }

  #record(): FollowerRecord {
    const { serving, loaded, loading, refused } = this.state;
    return {
      node: this.#options.node,
      serving,
      loaded: loaded.map(({ version }) => version),
      loading: loading === undefined ? undefined : { version: loading.version, stage: loading.stage, bytesDone: loading.bytesDone, bytesAll: loading.bytesAll },
      refused: refused.map(({ version, code, reason, atMs }) => ({ version, code, reason: reason.slice(0, 300), atMs })),
      atMs: this.#clock.nowMs(),
    };
  }

  // --- the local disk ------------------------------------------------------------------------------------------------------------------

  /** Removes local versions that are neither loaded, nor wanted soon. A failure is told and tried again with the next change. */
  async #tidyFolder(): Promise<void> {
    const { files, folder, keepLocal = 1 } = this.#options;
    if (this.#head === undefined) return;
    try {
      const loaded = new Set(this.#versions.versions.map(({ version }) => version));
      const spare = servable(this.#head).filter((version) => !loaded.has(version) && this.#refused.get(version)?.passing !== false);
      const kept = new Set([...loaded, ...spare.slice(0, keepLocal)]);
      for (const name of (await files.list(folder)) ?? []) {
        if (!isVersion(name) || kept.has(name)) continue;
        // The manifest first: what is half removed is not taken for whole.
        await files.remove(files.join(folder, name, "manifest"));
        await files.removeFolder(files.join(folder, name));
      }
    } catch (thrown) {
      this.#alarm("not-retired", undefined, [toMillraceError(thrown).message]);
    }
  }
}

function stopped(what: string): MillraceError {
  return new MillraceError("unavailable", `${what} is no longer followed`, { todo: "nothing: it was stopped" });
}
