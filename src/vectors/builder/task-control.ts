// What HTTP, the console and commands do with tasks: list, make, change, run, put live, roll back, disable, remove; each change checked, an edition of its own, and in the audit.
// Invariants: 1. nothing is built here: a run is an ask that a builder takes up  2. what goes live or back is the head of the collection's snapshots; the audit entry follows it
// 3. a task whose value cannot be read is told, and hinders no other one.
// Concurrency: any number of processes. Cost: some registry reads a call; a list of 50 tasks reads some 150 small values.

import { MillraceError, toMillraceError } from "#base/errors";
import type { Registry } from "#backbone/registry";
import type { Clock } from "#platform/clock";
import { bytesOf } from "#snapshot/manifest";
import type { SnapshotStore, VersionInfo } from "#snapshot/snapshot-store";
import { isVersion } from "#snapshot/version";
import type {
  VectorBuildRunning,
  VectorTaskAsked,
  VectorTaskDetail,
  VectorTaskLiveAnswer,
  VectorTaskOverview,
  VectorTasksAnswer,
  VectorTaskTrigger,
  VectorTaskVersion,
} from "#wire/vector-task-api";
import { checkVectorTask, collectionOf, type VectorTaskConfig } from "#wire/vector-task-config";
import { checkTaskFit, type TaskColumn } from "#wire/vector-task-fit";
import { readCollection, snapshotNameOf } from "../collection/collection-record.ts";
import { type Ask, noHistory, TaskBoard, type TaskHistory } from "./task-board.ts";
import { nextOf } from "./task-due.ts";
import { editionOf, type TaskMover, type TaskState, withAudit, withChanged, withCreated, withDeclared, withEnabled, withRemoved } from "./task-state.ts";

/** What is around the tasks of a data folder, asked when one is made or changed. What is left out is not known here, and no reason to refuse. */
export interface TaskWorld {
  /** Where tasks that come over the network may read. */
  readonly folders?: readonly string[];
  /** Columns of a table; null: there is none. */
  readonly columnsOf?: (table: string) => Promise<readonly TaskColumn[] | null> | readonly TaskColumn[] | null;
  /** Numbers of a row of a parameter table; null: there is none. */
  readonly parameterDimsOf?: (table: string) => number | null;
}

export interface TaskControlOptions {
  readonly registry: Registry;
  /** Of kind `vectors`. */
  readonly snapshots: SnapshotStore;
  readonly clock: Clock;
  /** What is told to tasks here comes over the network (TaskMover). Default false. */
  readonly restricted?: boolean;
  readonly world?: TaskWorld;
}

export class TaskControl {
  readonly board: TaskBoard;
  readonly #snapshots: SnapshotStore;
  readonly #clock: Clock;
  readonly #restricted: boolean;
  readonly #world: TaskWorld;

  constructor(options: TaskControlOptions) {
    this.board = new TaskBoard(options.registry);
    this.#snapshots = options.snapshots;
    this.#clock = options.clock;
    this.#restricted = options.restricted === true;
    this.#world = options.world ?? {};
  }

  // --- looking ---------------------------------------------------------------------------------------------------------------------------

  async list(): Promise<VectorTasksAnswer> {
    const tasks = await this.board.tasks(() => undefined);
    const [asks, histories, running, builders] = [
      await this.board.asks(),
      await this.board.histories(),
      await this.board.running(),
      await this.board.builders(),
    ];
    const overviews: VectorTaskOverview[] = [];
    for (const [name, state] of tasks) overviews.push(await this.#overview(name, state, asks.get(name), histories.get(name) ?? noHistory, running.get(name)));
    return { nowMs: this.#clock.nowMs(), tasks: overviews, builders };
  }

  /** Throws `not-found`. */
  async detail(name: string): Promise<VectorTaskDetail> {
    const state = await this.#required(name);
    const [asks, history, running] = [await this.board.asks(), await this.board.history(name), await this.board.running()];
    const overview = await this.#overview(name, state, asks.get(name), history, running.get(name));
    const versions = await this.#snapshots.versions(snapshotNameOf(overview.collection));
    return {
      ...overview,
      nowMs: this.#clock.nowMs(),
      versions: versions.map((version) => versionShown(version, wereLive(state, history))),
      history: history.builds,
      audit: state.audit.toReversed(),
      editions: state.editions.slice(1),
    };
  }

  async #overview(
    name: string,
    state: TaskState,
    ask: Ask | undefined,
    history: TaskHistory,
    running: VectorBuildRunning | undefined,
  ): Promise<VectorTaskOverview> {
    const { edition, config } = editionOf(state);
    const collection = collectionOf(name, config);
    const head = await this.#snapshots.head(snapshotNameOf(collection)).catch(() => undefined);
    return {
      name,
      collection,
      origin: state.origin,
      enabled: state.enabled,
      edition,
      config,
      asked: ask !== undefined,
      running: running ?? null,
      last: history.builds[0] ?? null,
      live: head?.current ?? null,
      nextAtMs: nextOf(state, history) ?? null,
    };
  }

  // --- changing --------------------------------------------------------------------------------------------------------------------------

  /** Throws `conflict` when there is one of that name, or its collection has another shape; `invalid`, `unauthorized` for what it is told. */
  async create(name: string, config: VectorTaskConfig, who: string): Promise<VectorTaskDetail> {
    await this.#fits(name, config, this.#restricted);
    await this.board.move(name, (state) => withCreated(state, name, config, this.#by(who)));
    return this.detail(name);
  }

  /** Throws `conflict` when another edition than `edition` holds, and what `create` throws. */
  async change(name: string, edition: number, config: VectorTaskConfig, who: string): Promise<VectorTaskDetail> {
    await this.#required(name);
    await this.#fits(name, config, this.#restricted);
    await this.#move(name, (state) => withChanged(state, name, edition, config, this.#by(who)));
    return this.detail(name);
  }

  async enable(name: string, enabled: boolean, who: string): Promise<VectorTaskDetail> {
    await this.#move(name, (state) => withEnabled(state, enabled, this.#by(who)));
    return this.detail(name);
  }

  /** The task goes; the collection and its versions stay. */
  async remove(name: string, who: string): Promise<void> {
    await this.#move(name, (state) => withRemoved(state, this.#by(who)));
  }

  /**
   * Takes over what the configuration file says; tasks that it does not name any more are disabled. Returns the names that changed. One that does not fit what is around it is told
   * (`onFault`) and taken over all the same: its builds will say so too, until the file or what is around it changes.
   */
  async declare(tasks: Readonly<Record<string, VectorTaskConfig>>, onFault: (name: string, fault: MillraceError) => void = () => undefined): Promise<string[]> {
    const changed: string[] = [];
    const known = await this.board.tasks(() => undefined);
    const by = { who: "config", nowMs: this.#clock.nowMs() };
    for (const name of new Set([...Object.keys(tasks), ...known.keys()])) {
      const config = Object.hasOwn(tasks, name) ? tasks[name] : undefined;
      let before: TaskState | undefined;
      const after = await this.board.move(name, (state) => withDeclared((before = state), name, config, by));
      if (after !== before) changed.push(name);
      if (config !== undefined) await this.#fits(name, config, false).catch((thrown: unknown) => onFault(name, toMillraceError(thrown)));
    }
    return changed;
  }

  // --- running ---------------------------------------------------------------------------------------------------------------------------

  /** A build begins as soon as a builder is free, also of a disabled task. */
  async run(name: string, who: string): Promise<VectorTaskAsked> {
    return this.#ask(name, who, "asked");
  }

  /** An outside job has ended. Throws `conflict` for a task that is not built by it, or is disabled. */
  async finished(name: string, who: string): Promise<VectorTaskAsked> {
    const state = await this.#required(name);
    const { schedule } = editionOf(state).config;
    if (schedule?.webhook !== true)
      throw new MillraceError("conflict", `vector task ${name} is not built when outside jobs end`, { todo: "give it schedule.webhook: true, or run it" });
    if (!state.enabled) throw new MillraceError("conflict", `vector task ${name} is disabled`, { todo: "enable it" });
    return this.#ask(name, who, "webhook");
  }

  async #ask(name: string, who: string, trigger: VectorTaskTrigger): Promise<VectorTaskAsked> {
    const atMs = this.#clock.nowMs();
    await this.#move(name, (state) => withAudit(state, this.#by(who), "run", trigger === "asked" ? {} : { note: trigger }));
    await this.board.ask(name, { atMs, who, trigger });
    return { task: name, atMs, builders: (await this.board.builders()).length > 0 };
  }

  // --- going live ------------------------------------------------------------------------------------------------------------------------

  /** `version`: one, or the beginning of one. Throws `not-found`, `invalid` (several begin so), `conflict` for a refused one without `refusedToo`. */
  async live(name: string, version: string, refusedToo: boolean, who: string): Promise<VectorTaskLiveAnswer> {
    const collection = collectionOf(name, editionOf(await this.#required(name)).config);
    const whole = await this.#resolve(collection, version);
    const before = (await this.#snapshots.head(snapshotNameOf(collection)))?.current ?? null;
    await this.#snapshots.goLive(snapshotNameOf(collection), whole, { refusedToo });
    await this.#move(name, (state) =>
      withAudit(state, this.#by(who), "live", { version: whole, ...(before === null ? {} : { note: `${beforeNote}${before}` }) }),
    );
    return { collection, live: whole, before };
  }

  /** The version before the live one, or the one named, is live again. Throws `not-found` when there is none. */
  async rollback(name: string, version: string | undefined, who: string): Promise<VectorTaskLiveAnswer> {
    const collection = collectionOf(name, editionOf(await this.#required(name)).config);
    const before = (await this.#snapshots.head(snapshotNameOf(collection)))?.current ?? null;
    const target = version === undefined ? undefined : await this.#resolve(collection, version);
    const { current } = await this.#snapshots.rollback(snapshotNameOf(collection), target);
    await this.#move(name, (state) =>
      withAudit(state, this.#by(who), "rollback", { version: current!, ...(before === null ? {} : { note: `${beforeNote}${before}` }) }),
    );
    return { collection, live: current!, before };
  }

  async #resolve(collection: string, version: string): Promise<string> {
    const isWhole: boolean = isVersion(version);
    if (isWhole) return version;
    const versions = (await this.#snapshots.versions(snapshotNameOf(collection))).filter(
      (one) => one.state !== "building" && version !== "" && one.version.startsWith(version),
    );
    if (versions.length === 1) return versions[0]!.version;
    const shown = JSON.stringify(version.slice(0, 40));
    if (versions.length === 0) throw new MillraceError("not-found", `collection ${collection} has no version ${shown}`, { todo: "list its versions" });
    throw new MillraceError("invalid", `${versions.length} versions of collection ${collection} begin with ${shown}`, { todo: "give more of it" });
  }

  /** Throws what checkVectorTask and checkTaskFit throw. */
  async #fits(name: string, config: VectorTaskConfig, restricted: boolean): Promise<void> {
    checkVectorTask(name, config);
    const { source } = config;
    const { folders = [], columnsOf, parameterDimsOf } = this.#world;
    const stored = await readCollection(this.board.registry, collectionOf(name, config));
    checkTaskFit(name, config, {
      folders: restricted ? folders : undefined,
      columns: "table" in source ? await columnsOf?.(source.table) : undefined,
      parameterDims: "parameters" in source ? parameterDimsOf?.(source.parameters) : undefined,
      collection: stored?.record.state === "open" ? stored.record : null,
    });
  }

  // --- common ----------------------------------------------------------------------------------------------------------------------------

  #by(who: string): TaskMover {
    return { who, nowMs: this.#clock.nowMs(), restricted: this.#restricted };
  }

  async #required(name: string): Promise<TaskState> {
    const state = /^[a-z][a-z0-9_-]{0,63}$/.test(name) ? await this.board.task(name) : undefined;
    if (state !== undefined) return state;
    throw new MillraceError("not-found", `there is no vector task ${JSON.stringify(name.slice(0, 64))}`, { todo: "list them, or create it" });
  }

  async #move(name: string, change: (state: TaskState) => TaskState): Promise<void> {
    await this.#required(name);
    await this.board.move(name, (state) => {
      if (state === undefined || state.removed) throw new MillraceError("not-found", `vector task ${name} was removed meanwhile`, { todo: "create it anew" });
      return change(state);
    });
  }
}

/** Versions that were live once, as far as builds and changes that are kept tell. */
function wereLive({ audit }: TaskState, { builds }: TaskHistory): ReadonlySet<string> {
  const versions = builds.flatMap(({ verdict, version }) => (verdict === "live" && version !== undefined ? [version] : []));
  for (const { action, version, note } of audit) {
    if (action !== "live" && action !== "rollback") continue;
    if (version !== undefined) versions.push(version);
    if (note?.startsWith(beforeNote) === true) versions.push(note.slice(beforeNote.length));
  }
  return new Set(versions);
}

/** How the audit says what was live before. */
const beforeNote = "before: ";

function versionShown({ version, state, manifest, fault, reasons, usedBy }: VersionInfo, live: ReadonlySet<string>): VectorTaskVersion {
  return {
    version,
    // The head keeps those that were rolled back from with those that wait.
    state: state === "staged" && live.has(version) ? "withdrawn" : state,
    createdAtMs: manifest?.createdAtMs ?? null,
    rows: manifest?.statistics["rows"] ?? null,
    bytes: manifest === undefined ? null : bytesOf(manifest.files),
    statistics: manifest?.statistics ?? {},
    reasons: reasons ?? (fault === undefined ? [] : [fault]),
    usedBy,
  };
}
