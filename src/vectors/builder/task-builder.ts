// A builder: looks which tasks are due, takes one after another by lease, has each built by a process of its own, and writes down what became of it. Any number of builders share the tasks.
//   look -> due tasks, longest wait first -> lock of a task -> due still? -> attempt counted -> build (begun by `build`, elsewhere) -> history, audit, ask answered -> lock given back
// Invariants: 1. a task is built by one builder at a time: the lock is held, and looked at, while it is built  2. a builder that is killed loses its locks with its lease, and what it
// was asked for stays asked for: another one begins anew; what the killed one left of a version is nobody's and is removed by the snapshots' own tidying
// 3. a task whose builds do not come to an end `attemptsMax` times running is given up with that as its verdict: it must not end one builder after another
// 4. whatever a build throws ends in its history; the builder goes on.
// Concurrency: `slots` builds at once. Limits: `builderLimits`.

import { MillraceError, toMillraceError } from "#base/errors";
import type { Lease, Lock } from "#backbone/registry";
import { crc32c } from "#base/crc32c";
import type { Clock } from "#platform/clock";
import type { Files } from "#platform/files";
import type { VectorBuildRecord, VectorTaskTrigger } from "#wire/vector-task-api";
import { type VectorTaskConfig, vectorTaskDefaults } from "#wire/vector-task-config";
import { isBelow } from "#wire/vector-task-fit";
import { settingFigures } from "../segment/search-settings.ts";
import { type AskEntry, boardPrefix, lockOf, noHistory, shownReasons, type TaskBoard, type TaskHistory } from "./task-board.ts";
import { type Due, dueOf, isBefore } from "./task-due.ts";
import { editionOf, type TaskState, withAudit } from "./task-state.ts";
import type { BuildProgress, BuiltVersion } from "./version-config.ts";

export const builderLimits = {
  /** Between two looks when nothing is asked for. */
  lookMs: 1_000,
  /** How long a builder may stand still before others take its tasks. */
  leaseMs: 10_000,
  /** Between two words about a build under way. */
  showMs: 500,
  attemptsMax: 3,
  markerBytesMax: 1 << 20,
} as const;

export interface TaskToBuild {
  readonly task: string;
  readonly edition: number;
  readonly config: VectorTaskConfig;
  readonly trigger: VectorTaskTrigger;
  /** It reads allowed folders alone (VectorTaskEdition). */
  readonly restricted: boolean;
}

export interface TaskBuilt extends BuiltVersion {
  /** Of the process that built. */
  readonly cpuMs: number;
  readonly rssBytesPeak: number;
}

export interface TaskAlarm {
  readonly task: string;
  readonly verdict: "refused" | "failed";
  readonly reasons: readonly string[];
}

export interface TaskBuilderOptions {
  readonly board: TaskBoard;
  readonly clock: Clock;
  /** For marker files. */
  readonly files: Files;
  /** Its name: letters, digits, dot, underscore, -. */
  readonly builder: string;
  /** Where marker files of tasks that came over HTTP may lie; default nowhere. */
  readonly folders?: readonly string[];
  /** Builds at once. Default 1: a build takes every core it gets. */
  readonly slots?: number;
  /** Builds one; aborted by `signal` when the builder stops, has lost the task, or the time is over. */
  readonly build: (task: TaskToBuild, onProgress: (progress: BuildProgress) => void, signal: AbortSignal) => Promise<TaskBuilt>;
  readonly onAlarm?: (alarm: TaskAlarm) => void;
  readonly lookMs?: number;
  readonly leaseMs?: number;
}

interface Candidate {
  readonly name: string;
  readonly due: Due;
}

export class TaskBuilder {
  readonly #options: TaskBuilderOptions;
  readonly #board: TaskBoard;
  readonly #clock: Clock;
  readonly #slots: number;
  readonly #stop = new AbortController();
  /** What is being built here, and its end. */
  readonly #running = new Map<string, Promise<void>>();
  #lease: Lease | undefined;
  #shown = "";
  #sinceMs = 0;
  #woken: AbortController | undefined;
  /** Something was asked while a look was under way: the next one follows at once. */
  #again = false;
  /** Why the registry could not be read or written at the last look. */
  failure: MillraceError | undefined;

  constructor(options: TaskBuilderOptions) {
    this.#options = options;
    this.#board = options.board;
    this.#clock = options.clock;
    this.#slots = options.slots ?? 1;
  }

  get running(): readonly string[] {
    return [...this.#running.keys()];
  }

  /** Works until `stop`. Never throws: what hinders it is tried again, and told by `failure`. */
  async run(): Promise<void> {
    const { signal } = this.#stop;
    this.#sinceMs = this.#clock.nowMs();
    const watching = this.#watchAsks(signal);
    while (!signal.aborted) {
      this.#again = false;
      try {
        await this.#look();
        this.failure = undefined;
      } catch (thrown) {
        this.failure = toMillraceError(thrown);
      }
      await this.#pause();
    }
    await watching;
    await Promise.all(this.#running.values());
    await this.#lease?.end().catch(() => undefined);
  }

  /** Ends builds under way; they stay asked for, and others take them. `run` resolves when they have. */
  stop(): void {
    this.#stop.abort(new MillraceError("unavailable", `builder ${this.#options.builder} was stopped`, { todo: "start it again: the build begins anew" }));
    this.#wake();
  }

  #wake(): void {
    this.#again = true;
    this.#woken?.abort();
  }

  async #pause(): Promise<void> {
    if (this.#again || this.#stop.signal.aborted) return;
    const done = (this.#woken = new AbortController());
    await this.#clock.sleep(this.#options.lookMs ?? builderLimits.lookMs, done.signal).catch(() => undefined);
    this.#woken = undefined;
  }

  /** An ask is taken up at once, not at the next look. */
  async #watchAsks(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        for await (const { entry } of this.#board.registry.watch(`${boardPrefix}ask/`, signal)) if (entry !== undefined) this.#wake();
      } catch (thrown) {
        this.failure = toMillraceError(thrown);
      }
      if (!signal.aborted) await this.#clock.sleep(builderLimits.lookMs, signal).catch(() => undefined);
    }
  }

  async #look(): Promise<void> {
    const lease = await this.#leaseAlive();
    await this.#showBuilder(lease);
    if (this.#running.size >= this.#slots) return;
    for (const { name } of await this.#due()) {
      if (this.#running.size >= this.#slots || this.#stop.signal.aborted) return;
      if (this.#running.has(name)) continue;
      const lock = await this.#board.registry.tryLock(lockOf(name), lease);
      if (lock === undefined) continue;
      const building = this.#buildTask(name, lock, lease)
        .catch((thrown: unknown) => {
          this.failure = toMillraceError(thrown);
        })
        .finally(async () => {
          await lock.release().catch(() => undefined);
          this.#running.delete(name);
          this.#wake();
        });
      this.#running.set(name, building);
      await this.#showBuilder(lease);
    }
  }

  async #leaseAlive(): Promise<Lease> {
    if (this.#lease === undefined || !(await this.#lease.alive())) {
      this.#lease = await this.#board.registry.lease(this.#options.leaseMs ?? builderLimits.leaseMs);
      this.#shown = "";
    }
    return this.#lease;
  }

  async #showBuilder(lease: Lease): Promise<void> {
    const overview = { builder: this.#options.builder, sinceMs: this.#sinceMs, slots: this.#slots, running: this.running };
    const text = JSON.stringify(overview);
    if (text === this.#shown) return;
    await this.#board.showBuilder(overview, lease);
    this.#shown = text;
  }

  /** Every task that is due now, in the order in which they should be built. */
  async #due(): Promise<Candidate[]> {
    const [asks, histories] = [await this.#board.asks(), await this.#board.histories()];
    const found: Candidate[] = [];
    for (const [name, state] of await this.#board.tasks((task, { message }) => this.#options.onAlarm?.({ task, verdict: "failed", reasons: [message] }))) {
      const due = await this.#dueOf(state, asks.get(name), histories.get(name) ?? noHistory);
      if (due !== undefined) found.push({ name, due });
    }
    return found.sort((a, b) => (isBefore(a.due, b.due) ? -1 : isBefore(b.due, a.due) ? 1 : 0));
  }

  async #dueOf(state: TaskState, ask: AskEntry | undefined, history: TaskHistory): Promise<Due | undefined> {
    return dueOf(state, ask, history, await this.#markerOf(state), this.#clock.nowMs());
  }

  /** What tells one content of the marker file from another; undefined when it is not there. One that is too large counts by its size. */
  async #markerOf(state: TaskState): Promise<string | undefined> {
    const { config, restricted } = editionOf(state);
    const path = config.schedule?.markerFile;
    if (path === undefined || !state.enabled || (restricted === true && !isBelow(path, this.#options.folders ?? []))) return undefined;
    const size = await this.#options.files.sizeOf(path).catch(() => undefined);
    if (size === undefined) return undefined;
    if (size > builderLimits.markerBytesMax) return `${size}`;
    const bytes = await this.#options.files.readFile(path).catch(() => undefined);
    return bytes === undefined ? undefined : `${size}-${crc32c(bytes).toString(16)}`;
  }

  async #buildTask(name: string, lock: Lock, lease: Lease): Promise<void> {
    // Another builder may have built it between the look and the lock.
    const [state, asks, history] = [await this.#board.task(name), await this.#board.asks(), await this.#board.history(name)];
    if (state === undefined) return;
    const ask = asks.get(name);
    const due = await this.#dueOf(state, ask, history);
    if (due === undefined) return;
    const { edition, config, restricted } = editionOf(state);
    const marker = await this.#markerOf(state);
    const startedAtMs = this.#clock.nowMs();
    const { attempts } = await this.#board.moveHistory(name, (before) => ({ ...before, startedAtMs, attempts: before.attempts + 1 }));
    const common = { startedAtMs, trigger: due.trigger, builder: this.#options.builder, edition };
    const startedMs = this.#clock.monotonicMs();
    let record: VectorBuildRecord;
    if (attempts > builderLimits.attemptsMax) {
      record = {
        ...common,
        tookMs: 0,
        verdict: "failed",
        reasons: [`${attempts - 1} builders ended while they built it: look at their logs, and give it less to do or more memory`],
      };
    } else {
      const outcome = await this.#attempt({ task: name, edition, config, trigger: due.trigger, restricted: restricted === true }, lock, lease, startedAtMs);
      // Nothing is written about a build whose task was lost: whoever has the task now does. One that was stopped in order was no attempt.
      if (outcome === "lost") return;
      if (outcome === "stopped") {
        await this.#board.moveHistory(name, (before) => ({ ...before, startedAtMs: history.startedAtMs, attempts: Math.max(0, before.attempts - 1) }));
        return;
      }
      record = { ...common, tookMs: Math.round(this.#clock.monotonicMs() - startedMs), ...outcome };
    }
    await this.#board.moveHistory(name, (before) => ({
      builds: [record, ...before.builds],
      startedAtMs,
      attempts: 0,
      ...(marker === undefined ? {} : { marker }),
    }));
    if (ask !== undefined) await this.#board.answered(name, ask);
    if (record.verdict !== "refused" && record.verdict !== "failed") return;
    const { verdict, version, reasons } = record;
    this.#options.onAlarm?.({ task: name, verdict, reasons });
    const by = { who: this.#options.builder, nowMs: this.#clock.nowMs() };
    await this.#board.move(name, (task) =>
      task === undefined ? undefined : withAudit(task, by, verdict, { ...(version === undefined ? {} : { version }), note: reasons.join("; ") }),
    );
  }

  /** One build, watched. "stopped": this builder stops; "lost": the task is not its own any more. */
  async #attempt(
    task: TaskToBuild,
    lock: Lock,
    lease: Lease,
    sinceMs: number,
  ): Promise<Omit<VectorBuildRecord, "startedAtMs" | "tookMs" | "trigger" | "builder" | "edition"> | "stopped" | "lost"> {
    const { clock, builder, leaseMs = builderLimits.leaseMs } = this.#options;
    const ending = new AbortController();
    const stopped = (): void => ending.abort(this.#stop.signal.reason);
    this.#stop.signal.addEventListener("abort", stopped, { once: true });
    const { timeoutSeconds = vectorTaskDefaults.timeoutSeconds } = task.config;
    const timer = clock.after(
      timeoutSeconds * 1_000,
      () =>
        ending.abort(
          new MillraceError("timeout", `it was not built within ${timeoutSeconds} s`, { todo: "give it more time (timeoutSeconds), or less to do" }),
        ),
      { background: true },
    );
    // Until the build says otherwise: from `read` on writes to the collection are newer than what is built, before that they are not.
    let progress: Omit<BuildProgress, "stage"> & { readonly stage: string } = { stage: "start", rows: 0 };
    let lost = false;
    const watched = new AbortController();
    const show = async (): Promise<void> => {
      for (let round = 0; !watched.signal.aborted; round++) {
        const { stage, rows, share } = progress;
        await this.#board
          .showRunning(task.task, { builder, trigger: task.trigger, sinceMs, stage, rows, ...(share === undefined ? {} : { share }) }, lease)
          .catch(() => undefined);
        if (round % Math.max(1, Math.floor(leaseMs / 3 / builderLimits.showMs)) === 0 && !(await lock.held().catch(() => true))) {
          lost = true;
          ending.abort(
            new MillraceError("conflict", `vector task ${task.task} was taken by another builder`, { todo: "this process stood still for too long" }),
          );
          return;
        }
        await clock.sleep(builderLimits.showMs, watched.signal).catch(() => undefined);
      }
    };
    const showing = show();
    try {
      ending.signal.throwIfAborted();
      const { version, outcome, reasons, rows, bytes, refused, replaced, statistics, stages, settings, cpuMs, rssBytesPeak } = await this.#options.build(
        task,
        (next) => (progress = next),
        ending.signal,
      );
      const figure = (name: string, key: string): object => (statistics[name] === undefined ? {} : { [key]: statistics[name] });
      return {
        verdict: outcome,
        reasons: shownReasons(reasons),
        version,
        rows,
        bytes,
        refusedRows: refused,
        replacedRows: replaced,
        cpuMs: Math.round(cpuMs),
        rssBytesPeak,
        stages,
        settings: { lists: statistics["lists"] ?? 1, ...settingFigures(settings) },
        ...figure("recall", "recall"),
        ...figure("latencyP50Ms", "searchP50Ms"),
        ...figure("latencyP99Ms", "searchP99Ms"),
        ...figure("comparedShare", "comparedShare"),
      };
    } catch (thrown) {
      if (lost) return "lost";
      if (this.#stop.signal.aborted) return "stopped";
      const error = ending.signal.aborted ? toMillraceError(ending.signal.reason) : toMillraceError(thrown);
      return { verdict: "failed", reasons: shownReasons([error.message]) };
    } finally {
      timer.cancel();
      this.#stop.signal.removeEventListener("abort", stopped);
      watched.abort();
      await showing;
      if (!lost) await this.#board.endRunning(task.task).catch(() => undefined);
    }
  }
}
