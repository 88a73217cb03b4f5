// Versions of snapshots in the backbone: building, publishing, going live, rolling back, retiring. Servers follow with `snapshot-follower.ts`.
//   blobs      snapshots/KIND/NAME/VERSION/files/FILE      immutable
//              snapshots/KIND/NAME/VERSION/manifest        put after every file: a version with a manifest is whole
//   registry   snapshots/KIND/NAME/head                    what is live (head.ts), moved by compare-and-set
//              snapshots/KIND/NAME/building/VERSION        under the builder's lease: who builds what
//              snapshots/KIND/NAME/followers/NODE          under the follower's lease: what it has loaded and loads
//              snapshots/KIND/NAME/serving/NODE            under the same lease, only once it serves: the version
// Why a lease for a build: what a killed builder left can be told from what a living one is making, and is removed when nobody comes back for it.
// Invariants: 1. a version enters the head after its manifest was put, and its manifest after all its files  2. nothing is deleted that stands in the head, that
// somebody builds, or that a follower serves or loads  3. what is deleted is marked `dropped` in the head first, so a publisher that was paused meanwhile cannot
// bring it back (its compare-and-set fails)  4. versions of a name rise with time, also when the clock goes back.
// Cost: a publish is one small blob, two or three registry changes, one look a file. Concurrency: any number of processes; one publisher wins a head at a time.
// Limits: `storeLimits`, `headLimits`, `manifestLimits`; disk is bounded by `keepVersions` for each of live, staged and refused versions.

import { MillraceError, toMillraceError } from "#base/errors";
import type { Blobs } from "#backbone/blobs";
import type { Lease, Registry } from "#backbone/registry";
import type { Clock } from "#platform/clock";
import type { RandomSource } from "#platform/system-random";
import type { AlarmSink } from "./alarm.ts";
import { withDeadline } from "./deadline.ts";
import {
  decodeHead,
  emptyHead,
  encodeHead,
  type Head,
  type HeadState,
  isGone,
  versionsOf,
  withDropped,
  withLive,
  withRefused,
  withRetired,
  withRolledBack,
  withStaged,
} from "./head.ts";
import { decodeManifest, encodeManifest, type Manifest, manifestFormat, manifestLimits, manifestTodo, type SnapshotFile, versionText } from "./manifest.ts";
import { type Build, type PublishOptions, type PublishParts, StoredBuild } from "./snapshot-build.ts";
import { checkDeclarations, defaultChecks, failedChecks } from "./statistic-checks.ts";
import { checkSnapshotName, checkVersion, isVersion, newVersion, versionTimeMs } from "./version.ts";

export type { Build, PublishOptions, PublishParts } from "./snapshot-build.ts";

export const storeLimits = {
  /** Tries to move a head that others move too. */
  headTriesMax: 64,
  /** One look at a blob or the registry. */
  stepMsMax: 30_000,
  /** Names of one kind that are listed. */
  namesMax: 10_000,
  manifestsCached: 64,
} as const;

export interface SnapshotStoreOptions {
  readonly blobs: Blobs;
  readonly registry: Registry;
  readonly clock: Clock;
  readonly random: RandomSource;
  readonly kind: string;
  /** Versions that are or were live to keep, at least 1, default 3; as many staged and refused ones. Each costs its bytes in the blobs. */
  readonly keepVersions?: number;
  /** How long a builder may stand still before its build counts as abandoned. Default 30 s. */
  readonly buildLeaseMs?: number;
  /** How long an abandoned build waits to be resumed before its files are removed. Default 24 h. */
  readonly abandonedMs?: number;
  readonly onAlarm?: AlarmSink;
}

export type VersionState = "live" | "backup" | "staged" | "refused" | "building";

export interface VersionInfo {
  readonly version: string;
  readonly state: VersionState;
  /** `undefined` while it is built, or when its manifest cannot be read: `fault` says why. */
  readonly manifest: Manifest | undefined;
  readonly fault?: string;
  readonly reasons?: readonly string[];
  /** Followers that serve or load it. */
  readonly usedBy: readonly string[];
}

/** What a follower writes about itself. */
export interface FollowerRecord {
  readonly node: string;
  readonly serving: string | undefined;
  readonly loaded: readonly string[];
  readonly loading: { readonly version: string; readonly stage: string; readonly bytesDone: number; readonly bytesAll: number } | undefined;
  readonly refused: readonly { readonly version: string; readonly code: string; readonly reason: string; readonly atMs: number }[];
  readonly atMs: number;
}

export class SnapshotStore {
  readonly kind: string;
  readonly #blobs: Blobs;
  readonly #registry: Registry;
  readonly #clock: Clock;
  readonly #random: RandomSource;
  readonly #keepVersions: number;
  readonly #buildLeaseMs: number;
  readonly #abandonedMs: number;
  readonly #onAlarm: AlarmSink;
  readonly #manifests = new Map<string, Manifest>();

  constructor(options: SnapshotStoreOptions) {
    checkSnapshotName(options.kind, "name");
    this.kind = options.kind;
    this.#blobs = options.blobs;
    this.#registry = options.registry;
    this.#clock = options.clock;
    this.#random = options.random;
    this.#keepVersions = checkKeep(options.keepVersions ?? 3);
    this.#buildLeaseMs = options.buildLeaseMs ?? 30_000;
    this.#abandonedMs = options.abandonedMs ?? 24 * 3_600_000;
    this.#onAlarm = options.onAlarm ?? (() => undefined);
  }

  // --- names and keys --------------------------------------------------------------------------------------------------------------

  /** Where the registry has what belongs to a name; ends with a slash. */
  keyOf(name: string): string {
    checkSnapshotName(this.kind, name);
    return `snapshots/${this.kind}/${name}/`;
  }

  #blobOf(name: string, version: string, file?: string): string {
    return `${this.keyOf(name)}${version}/${file === undefined ? "manifest" : `files/${file}`}`;
  }

  /** Names that have a head, or a build under way. */
  async names(): Promise<string[]> {
    const begin = `snapshots/${this.kind}/`;
    const entries = await this.#step(this.#registry.list(begin), `listing the snapshots of kind ${this.kind}`);
    return [...new Set(entries.map(({ key }) => key.slice(begin.length).split("/")[0]!))].slice(0, storeLimits.namesMax);
  }

  // --- reading -------------------------------------------------------------------------------------------------------------------------

  /** The head, or `undefined` before anything was published. Throws `corrupt` when it cannot be read. */
  async head(name: string): Promise<Head | undefined> {
    const entry = await this.#step(this.#registry.get(`${this.keyOf(name)}head`), `reading the head of ${this.kind}/${name}`);
    return entry === undefined ? undefined : this.#headOf(name, entry);
  }

  #headOf(name: string, entry: { readonly value: Uint8Array; readonly revision: number }): Head {
    return { ...decodeHead(entry.value, `${this.kind}/${name}`), kind: this.kind, name, revision: entry.revision };
  }

  /** The head now and after each change, `undefined` while there is none; a head that cannot be read comes as an error, and the watch goes on. */
  async *watch(name: string, signal: AbortSignal): AsyncGenerator<Head | MillraceError | undefined, void, void> {
    const key = `${this.keyOf(name)}head`;
    // A watch says nothing while there is no key.
    if ((await this.#step(this.#registry.get(key), `reading the head of ${this.kind}/${name}`)) === undefined) yield undefined;
    for await (const change of this.#registry.watch(key, signal)) {
      if (change.key !== key) continue;
      try {
        yield change.entry === undefined ? undefined : this.#headOf(name, change.entry);
      } catch (thrown) {
        yield toMillraceError(thrown);
      }
    }
  }

  /** The manifest of a version, checked. `not-found`, `corrupt`, or `unsupported`. */
  async manifest(name: string, version: string): Promise<Manifest> {
    checkVersion(version);
    const place = { kind: this.kind, name, version };
    const blob = this.#blobOf(name, version);
    const cached = this.#manifests.get(blob);
    if (cached !== undefined) return cached;
    const what = `the manifest of ${versionText(place)}`;
    const bytes = await this.#step(this.#blobs.get(blob, { start: 0, end: manifestLimits.bytesMax + 1 }), `reading ${what}`);
    if (bytes === undefined) throw new MillraceError("not-found", `${what} is not there`, { todo: "list the versions: it may have been retired" });
    const manifest = decodeManifest(bytes, place);
    if (this.#manifests.size >= storeLimits.manifestsCached) this.#manifests.delete(this.#manifests.keys().next().value!);
    this.#manifests.set(blob, manifest);
    return manifest;
  }

  /** Bytes `[start, end)` of a file of a version. `corrupt` when the file is not there, or has another size than its manifest says. */
  async read(manifest: Manifest, file: SnapshotFile, start: number, end: number, signal?: AbortSignal): Promise<Uint8Array> {
    const what = `file ${file.name} of ${versionText(manifest)}`;
    // One byte beyond the last: there must be none.
    const range = { start, end: end === file.bytes ? end + 1 : end };
    const bytes = await this.#step(this.#blobs.get(this.#blobOf(manifest.name, manifest.version, file.name), range), `reading ${what}`, signal);
    if (bytes === undefined) throw new MillraceError("corrupt", `${what} is not there`, { todo: manifestTodo });
    if (bytes.length === end - start) return bytes;
    const how = bytes.length < end - start ? `ends at ${start + bytes.length} of` : "is longer than";
    throw new MillraceError("corrupt", `${what} ${how} ${file.bytes} bytes`, { todo: manifestTodo });
  }

  /** Where a file of a version lies on this machine, if the blobs are files of it. */
  pathOf(manifest: Manifest, file: SnapshotFile): string | undefined {
    return this.#blobs.pathOf?.(this.#blobOf(manifest.name, manifest.version, file.name));
  }

  /** Every version that is there or being built, latest first. */
  async versions(name: string): Promise<VersionInfo[]> {
    const [head, followers, building] = [(await this.head(name)) ?? emptyHead, await this.followers(name), await this.#building(name)];
    const usersOf = (version: string): string[] => followers.filter((follower) => usedBy(follower).includes(version)).map(({ node }) => node);
    const states: [string, VersionState][] = [
      ...(head.current === undefined ? [] : [[head.current, "live"] as [string, VersionState]]),
      ...head.backups.map((version): [string, VersionState] => [version, "backup"]),
      ...head.staged.map((version): [string, VersionState] => [version, "staged"]),
      ...head.refused.map(({ version }): [string, VersionState] => [version, "refused"]),
      ...building.filter((version) => !versionsOf(head).includes(version)).map((version): [string, VersionState] => [version, "building"]),
    ];
    const infos: VersionInfo[] = [];
    for (const [version, state] of states.toSorted(([a], [b]) => (a < b ? 1 : -1))) {
      const reasons = head.refused.find((refused) => refused.version === version)?.reasons;
      const found = state === "building" ? {} : await this.#manifestOrFault(name, version);
      infos.push({ version, state, manifest: undefined, ...found, ...(reasons === undefined ? {} : { reasons }), usedBy: usersOf(version) });
    }
    return infos;
  }

  async #manifestOrFault(name: string, version: string): Promise<{ manifest: Manifest } | { fault: string }> {
    try {
      return { manifest: await this.manifest(name, version) };
    } catch (thrown) {
      return { fault: toMillraceError(thrown).message };
    }
  }

  async #building(name: string): Promise<string[]> {
    const begin = `${this.keyOf(name)}building/`;
    const entries = await this.#step(this.#registry.list(begin), `listing the builds of ${this.kind}/${name}`);
    return entries.map(({ key }) => key.slice(begin.length)).filter(isVersion);
  }

  /** Who follows a name, as they last wrote. */
  async followers(name: string): Promise<FollowerRecord[]> {
    const entries = await this.#step(this.#registry.list(`${this.keyOf(name)}followers/`), `listing the followers of ${this.kind}/${name}`);
    return entries.flatMap(({ value }) => followerRecordOf(value) ?? []);
  }

  /** Writes what a follower says about itself; it disappears with the lease. */
  async putFollower(name: string, record: FollowerRecord, lease: Lease): Promise<void> {
    const value = new TextEncoder().encode(JSON.stringify(record));
    await this.#step(this.#registry.put(`${this.keyOf(name)}followers/${record.node}`, value, { lease }), `announcing ${record.node} for ${this.kind}/${name}`);
  }

  /** Which nodes serve a name, and which version: only those that have loaded it are here. */
  async serving(name: string): Promise<{ readonly node: string; readonly version: string }[]> {
    const begin = `${this.keyOf(name)}serving/`;
    const entries = await this.#step(this.#registry.list(begin), `listing who serves ${this.kind}/${name}`);
    return entries
      .map(({ key, value }) => ({ node: key.slice(begin.length), version: new TextDecoder().decode(value) }))
      .filter(({ version }) => isVersion(version));
  }

  /** Announces a node as one that serves `version`; it disappears with the lease. */
  async putServing(name: string, node: string, version: string, lease: Lease): Promise<void> {
    const value = new TextEncoder().encode(version);
    await this.#step(this.#registry.put(`${this.keyOf(name)}serving/${node}`, value, { lease }), `announcing ${node} for ${this.kind}/${name}`);
  }

  /** A lease for what a follower announces. */
  lease(ttlMs: number): Promise<Lease> {
    return this.#step(this.#registry.lease(ttlMs), `taking a lease for ${this.kind}`);
  }

  // --- building ------------------------------------------------------------------------------------------------------------------------

  /** Begins a version, or goes on with one that an earlier process began (`resume`). `conflict` when that one is being built, published or gone. */
  async begin(name: string, options: { readonly resume?: string } = {}): Promise<Build> {
    const key = this.keyOf(name);
    const lease = await this.lease(this.#buildLeaseMs);
    try {
      for (let tries = 0; tries < storeLimits.headTriesMax; tries += 1) {
        const head = (await this.head(name)) ?? emptyHead;
        const known = [...versionsOf(head), ...head.dropped, ...(head.floor === "" ? [] : [head.floor]), ...(await this.#building(name))];
        if (options.resume !== undefined) checkResumable(head, options.resume);
        const version = options.resume ?? newVersion(this.#clock.nowMs(), this.#random, known);
        const value = new TextEncoder().encode(JSON.stringify({ sinceMs: this.#clock.nowMs() }));
        const entry = await this.#step(
          this.#registry.put(`${key}building/${version}`, value, { expect: 0, lease }),
          `registering the build of ${this.kind}/${name}`,
        );
        if (entry !== undefined)
          return new StoredBuild({
            publisher: this,
            name,
            version,
            lease,
            blobs: this.#blobs,
            place: (file) => this.#blobOf(name, version, file),
          });
        if (options.resume !== undefined) {
          throw new MillraceError("conflict", `version ${version} of ${this.kind}/${name} is being built`, {
            todo: "wait for its builder, or until its lease has ended",
          });
        }
      }
      throw busy(`${this.kind}/${name}`);
    } catch (thrown) {
      await lease.end().catch(() => undefined);
      throw thrown;
    }
  }

  /** For builds: validates, puts the manifest and moves the head. */
  async publish(name: string, version: string, files: readonly SnapshotFile[], lease: Lease, parts: PublishParts, options: PublishOptions): Promise<Manifest> {
    const checks = options.checks ?? defaultChecks;
    checkDeclarations(checks);
    const manifest: Manifest = {
      format: manifestFormat,
      kind: this.kind,
      name,
      version,
      createdAtMs: this.#clock.nowMs(),
      files: files.toSorted((a, b) => (a.name < b.name ? -1 : 1)),
      statistics: parts.statistics,
      meta: parts.meta ?? null,
    };
    const bytes = encodeManifest(manifest);
    const what = versionText(manifest);
    await this.#checkFiles(manifest);
    const live = await this.#liveManifest(name);
    const reasons = [...failedChecks(manifest, live, checks), ...((await options.validate?.(manifest, live)) ?? [])];
    if (!(await lease.alive())) throw abandoned(what);
    await this.#putManifest(this.#blobOf(name, version), bytes, what);
    if (reasons.length > 0) {
      await this.#move(name, (head) => withRefused(head, version, reasons, this.#clock.nowMs()));
      await this.#alarm({ what: "refused", name, version, reasons });
      throw new MillraceError("invalid", `${what} was refused: ${reasons.slice(0, 5).join("; ")}`, {
        todo: "look at the input; if the version is right, put it live by hand, and widen the limit",
      });
    }
    let overtakenBy: string | undefined;
    await this.#move(name, (head) => {
      overtakenBy = options.live !== false && head.current !== undefined && head.current > version ? head.current : undefined;
      return options.live === false || overtakenBy !== undefined ? withStaged(head, version) : withLive(head, version, this.#clock.nowMs());
    });
    await this.#tidy(name);
    if (overtakenBy !== undefined) {
      throw new MillraceError("conflict", `${what} was begun before ${overtakenBy}, which is live`, {
        todo: "it is staged: put it live by hand if it is the better one",
      });
    }
    return manifest;
  }

  /** An attempt before this one may have put a manifest and come no further: nobody knows that one. */
  async #putManifest(blob: string, bytes: Uint8Array, what: string): Promise<void> {
    const before = await this.#step(this.#blobs.get(blob, { start: 0, end: manifestLimits.bytesMax + 1 }), `looking for the manifest of ${what}`);
    if (before !== undefined && !areEqual(before, bytes)) await this.#step(this.#blobs.delete(blob), `removing the manifest of ${what}`);
    await this.#step(this.#blobs.put(blob, bytes), `storing the manifest of ${what}`);
  }

  async #checkFiles(manifest: Manifest): Promise<void> {
    for (const file of manifest.files) {
      const info = await this.#step(
        this.#blobs.info(this.#blobOf(manifest.name, manifest.version, file.name)),
        `looking for ${file.name} of ${versionText(manifest)}`,
      );
      if (info?.size === file.bytes) continue;
      throw new MillraceError("conflict", `file ${file.name} of ${versionText(manifest)} is ${info === undefined ? "gone" : "another"}`, {
        todo: "build it again",
      });
    }
  }

  /** What a new version is compared with. One that cannot be read compares with nothing: it must not hinder its successor. */
  async #liveManifest(name: string): Promise<Manifest | undefined> {
    const current = (await this.head(name))?.current;
    if (current === undefined) return undefined;
    try {
      return await this.manifest(name, current);
    } catch (thrown) {
      const error = toMillraceError(thrown);
      if (error.retryable) throw error;
      await this.#alarm({ what: "damaged", name, version: current, reasons: [error.message] });
      return undefined;
    }
  }

  // --- moving the head -----------------------------------------------------------------------------------------------------------------

  /** Compare-and-set until it succeeds. `change` may throw; when it changes nothing, nothing is written. */
  async #move(name: string, change: (head: HeadState) => HeadState): Promise<Head> {
    const key = `${this.keyOf(name)}head`;
    for (let tries = 0; tries < storeLimits.headTriesMax; tries += 1) {
      const before = await this.head(name);
      const state = before ?? emptyHead;
      const after = change(state);
      if (after === state) return before ?? { ...state, kind: this.kind, name, revision: 0 };
      const entry = await this.#step(this.#registry.put(key, encodeHead(after), { expect: before?.revision ?? 0 }), `moving the head of ${this.kind}/${name}`);
      if (entry !== undefined) return { ...after, kind: this.kind, name, revision: entry.revision };
    }
    throw busy(`${this.kind}/${name}`);
  }

  /** A version that is there becomes live, by hand: staged, rolled back from, or (with `refusedToo`) refused by its checks. */
  /** `onlyFrom`: throws `conflict` unless this is what is live now ("": nothing): for whoever made the version of that one. */
  async goLive(name: string, version: string, options: { readonly refusedToo?: boolean; readonly onlyFrom?: string } = {}): Promise<Head> {
    const manifest = await this.manifest(name, version);
    await this.#checkFiles(manifest);
    return this.#move(name, (head) => {
      if (!versionsOf(head).includes(version)) {
        throw new MillraceError("not-found", `${versionText(manifest)} is not published`, { todo: "list the versions" });
      }
      if (options.onlyFrom !== undefined && (head.current ?? "") !== options.onlyFrom) {
        throw new MillraceError(
          "conflict",
          `${versionText(manifest)} was to follow ${options.onlyFrom || "nothing"}, and ${head.current ?? "nothing"} is live`,
          {
            todo: "put it live by hand if it is the better one",
          },
        );
      }
      const refused = head.refused.find((one) => one.version === version);
      if (refused !== undefined && options.refusedToo !== true) {
        throw new MillraceError("conflict", `${versionText(manifest)} was refused: ${refused.reasons.join("; ")}`, {
          todo: "say that it shall go live although it was refused",
        });
      }
      return withLive(head, version, this.#clock.nowMs());
    });
  }

  /** The version before the live one becomes live again, or `toVersion` of those that were live. The rolled-back one is staged. */
  async rollback(name: string, toVersion?: string): Promise<Head> {
    const target = toVersion ?? (await this.head(name))?.backups[0];
    if (target !== undefined) await this.#checkFiles(await this.manifest(name, target));
    return this.#move(name, (head) => withRolledBack(head, target, this.#clock.nowMs()));
  }

  // --- retiring --------------------------------------------------------------------------------------------------------------------------

  /** Removes what is older than the `keep` latest versions and used by nobody, and what killed builders left. Returns the versions removed. Safe to repeat: what a
   * crash left over goes the next time. */
  async retire(name: string, keep: number = this.#keepVersions): Promise<string[]> {
    checkKeep(keep);
    const stored = await this.#storedVersions(name);
    // Builds are looked at after the blobs and the head after the builds: whoever publishes meanwhile stands in one of them.
    const building = await this.#building(name);
    const used = new Set((await this.followers(name)).flatMap(usedBy));
    let doomed: string[] = [];
    await this.#move(name, (state) => {
      const { head: left, retired } = withRetired(state, keep, used);
      const listed = new Set(versionsOf(left));
      const stale = (version: string): boolean => this.#clock.nowMs() - versionTimeMs(version) > this.#abandonedMs;
      const leftOver = stored.filter((version) => !listed.has(version) && !building.includes(version) && (isGone(left, version) || stale(version)));
      doomed = [...new Set([...retired, ...leftOver])].toSorted();
      const fresh = doomed.filter((version) => !isGone(left, version));
      return fresh.length === 0 && retired.length === 0 ? state : withDropped(left, fresh);
    });
    for (const version of doomed) await this.#deleteVersion(name, version);
    return doomed;
  }

  /** Removes every version of a name, the live one too: for what is dropped as a whole. What is being built now cannot be published any more. Followers that serve a version
   * go on until they stop. Safe to repeat. */
  async forget(name: string): Promise<void> {
    const stored = await this.#storedVersions(name);
    const building = await this.#building(name);
    const known = [...new Set([...stored, ...building])];
    await this.#move(name, (head) => {
      const fresh = [...new Set([...versionsOf(head), ...known])].filter((version) => !isGone(head, version));
      if (fresh.length === 0) return head;
      return withDropped({ ...head, current: undefined, backups: [], staged: [], refused: [], switches: head.switches + 1 }, fresh);
    });
    for (const version of stored) if (!building.includes(version)) await this.#deleteVersion(name, version);
  }

  async #tidy(name: string): Promise<void> {
    try {
      await this.retire(name);
    } catch (thrown) {
      await this.#alarm({ what: "not-retired", name, version: undefined, reasons: [toMillraceError(thrown).message] });
    }
  }

  /** Versions that have at least one blob. */
  async #storedVersions(name: string): Promise<string[]> {
    const prefix = this.keyOf(name);
    const found: string[] = [];
    for (let after = ""; ;) {
      const [next] = await this.#step(this.#blobs.list(prefix, { after, limit: 1 }), `listing the versions of ${this.kind}/${name}`);
      if (next === undefined) return found;
      const version = next.name.slice(prefix.length).split("/")[0]!;
      if (isVersion(version)) found.push(version);
      // Behind everything under this version: no name has a tilde.
      after = `${prefix}${version}/~`;
    }
  }

  /** Manifest first, so that nobody begins to load what is going. */
  async #deleteVersion(name: string, version: string): Promise<void> {
    const manifest = this.#blobOf(name, version);
    this.#manifests.delete(manifest);
    await this.#step(this.#blobs.delete(manifest), `removing ${this.kind}/${name} ${version}`);
    const prefix = `${this.keyOf(name)}${version}/`;
    for (;;) {
      const page = await this.#step(this.#blobs.list(prefix), `removing ${this.kind}/${name} ${version}`);
      if (page.length === 0) return;
      for (const { name: blob } of page) await this.#step(this.#blobs.delete(blob), `removing ${blob}`);
    }
  }

  /** For builds that give up. */
  async discard(name: string, version: string): Promise<void> {
    await this.#move(name, (head) => (versionsOf(head).includes(version) ? head : withDropped(head, [version])));
    if (!versionsOf((await this.head(name)) ?? emptyHead).includes(version)) await this.#deleteVersion(name, version);
  }

  // --- inside ----------------------------------------------------------------------------------------------------------------------------

  #step<T>(work: Promise<T>, what: string, signal?: AbortSignal): Promise<T> {
    const todo = "look at the disk or the network of blobs and registry; it is tried again";
    return withDeadline(work, { clock: this.#clock, ms: storeLimits.stepMsMax, what, todo, ...(signal === undefined ? {} : { signal }) });
  }

  async #alarm(alarm: { what: "refused" | "damaged" | "not-retired"; name: string; version: string | undefined; reasons: readonly string[] }): Promise<void> {
    this.#onAlarm({ ...alarm, kind: this.kind, atMs: this.#clock.nowMs() });
  }
}

function areEqual(one: Uint8Array, other: Uint8Array): boolean {
  return one.length === other.length && one.every((byte, at) => byte === other[at]);
}

function checkKeep(keep: number): number {
  if (Number.isSafeInteger(keep) && keep >= 1 && keep <= 50) return keep;
  throw new MillraceError("invalid", `${keep} versions to keep`, { todo: "choose 1 to 50" });
}

function checkResumable(head: HeadState, version: string): void {
  checkVersion(version);
  if (versionsOf(head).includes(version) || isGone(head, version)) {
    throw new MillraceError("conflict", `version ${version} cannot be resumed: it is published or removed`, { todo: "begin a new one" });
  }
}

function busy(what: string): MillraceError {
  return new MillraceError("overloaded", `the head of ${what} was moved by others ${storeLimits.headTriesMax} times meanwhile`, { todo: "try again" });
}

function abandoned(what: string): MillraceError {
  return new MillraceError("conflict", `the build of ${what} has lost its lease`, { todo: "the process stood still for too long: resume or begin anew" });
}

function usedBy(follower: FollowerRecord): string[] {
  return [...follower.loaded, ...(follower.loading === undefined ? [] : [follower.loading.version])];
}

/** What a follower wrote, or nothing when it cannot be read: it is for people and for retiring, which then keeps less than it might. */
function followerRecordOf(value: Uint8Array): FollowerRecord | undefined {
  try {
    const record = JSON.parse(new TextDecoder().decode(value)) as FollowerRecord;
    const good = typeof record.node === "string" && Array.isArray(record.loaded) && record.loaded.every(isVersion) && Array.isArray(record.refused);
    return good && (record.loading === undefined || isVersion(record.loading.version)) ? record : undefined;
  } catch {
    return undefined;
  }
}
