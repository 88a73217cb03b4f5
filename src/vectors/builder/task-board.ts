// Where tasks, asks, builds and builders stand in the registry, for builders and for whoever shows or changes tasks.
//   vector-tasks/task/NAME       what it is told, with its audit (task-state.ts)
//   vector-tasks/ask/NAME        somebody wants it built: deleted when that build has ended, so that a killed builder loses no ask
//   vector-tasks/history/NAME    builds as they ended, latest first; and what was seen of its marker file
//   vector-tasks/running/NAME    under the builder's lease: the build under way
//   vector-tasks/builder/ID      under the builder's lease
//   lock vector-tasks/NAME       who builds it
// Invariants: 1. a task and a history move by compare-and-set  2. what cannot be read is told as `corrupt` of that task and hinders no other one.
// Limits: `boardLimits`.

import { MillraceError, toMillraceError } from "#base/errors";
import type { Entry, Lease, Registry } from "#backbone/registry";
import type { VectorBuilderOverview, VectorBuildRecord, VectorBuildRunning, VectorTaskTrigger } from "#wire/vector-task-api";
import { decodeTask, encodeTask, taskLimits, type TaskState } from "./task-state.ts";

export const boardLimits = { historyKept: 50, historyBytesMax: 60 * 1024, reasonsMax: 5, reasonCharactersMax: 300, triesMax: 64 } as const;

const root = "vector-tasks/";
export const boardPrefix = root;
export const lockOf = (task: string): string => `${root}${task}`;

export interface Ask {
  readonly atMs: number;
  readonly who: string;
  readonly trigger: VectorTaskTrigger;
}

export interface AskEntry extends Ask {
  readonly revision: number;
}

export interface TaskHistory {
  readonly builds: readonly VectorBuildRecord[];
  /** When the last build began, also one that was killed. */
  readonly startedAtMs: number;
  /** Of the marker file when it was last acted on; undefined: it was not there. */
  readonly marker?: string;
  /** Builds that began since one ended: more than `attemptsMax` and the task is what ends builders. */
  readonly attempts: number;
  /** Where the collection's log stood when the first of these attempts began: writes since then are newer than what any of them builds. */
  readonly delta?: TaskDelta;
}

/** A place in the log of a collection; `log` null: there was no such collection. */
export interface TaskDelta {
  readonly log: number | null;
  readonly offset: number;
}

export const noHistory: TaskHistory = { builds: [], startedAtMs: 0, attempts: 0 };

const encoder = new TextEncoder();
const decoder = new TextDecoder();
const jsonOf = (entry: Entry): unknown => JSON.parse(decoder.decode(entry.value));

export class TaskBoard {
  readonly #registry: Registry;

  constructor(registry: Registry) {
    this.#registry = registry;
  }

  get registry(): Registry {
    return this.#registry;
  }

  // --- tasks -----------------------------------------------------------------------------------------------------------------------------

  /** Every task that was not removed, by name. What cannot be read goes to `onFault`. */
  async tasks(onFault: (name: string, fault: MillraceError) => void): Promise<Map<string, TaskState>> {
    const tasks = new Map<string, TaskState>();
    for (const entry of await this.#registry.list(`${root}task/`)) {
      const name = entry.key.slice(`${root}task/`.length);
      try {
        const state = decodeTask(name, entry.value);
        if (!state.removed) tasks.set(name, state);
      } catch (thrown) {
        onFault(name, toMillraceError(thrown));
      }
    }
    return tasks;
  }

  /** Undefined when there is none, or it was removed. */
  async task(name: string): Promise<TaskState | undefined> {
    const entry = await this.#registry.get(`${root}task/${name}`);
    const state = entry === undefined ? undefined : decodeTask(name, entry.value);
    return state?.removed === true ? undefined : state;
  }

  /** Compare-and-set until it succeeds; `change` may throw. The same state, or undefined, writes nothing. */
  async move(name: string, change: (state: TaskState | undefined) => TaskState | undefined): Promise<TaskState | undefined> {
    const key = `${root}task/${name}`;
    for (let tries = 0; tries < boardLimits.triesMax; tries++) {
      const entry = await this.#registry.get(key);
      const before = entry === undefined ? undefined : decodeTask(name, entry.value);
      const after = change(before);
      if (after === before || after === undefined) return after;
      if (entry === undefined && (await this.#registry.list(`${root}task/`)).length >= taskLimits.tasksMax) {
        throw new MillraceError("overloaded", `there are ${taskLimits.tasksMax} vector tasks, removed ones included`, {
          todo: "use the name of a removed one",
        });
      }
      if ((await this.#registry.put(key, encodeTask(after), { expect: entry?.revision ?? 0 })) !== undefined) return after;
    }
    throw new MillraceError("overloaded", `vector task ${name} is changed too often`, { todo: "try again in a moment" });
  }

  // --- asks ------------------------------------------------------------------------------------------------------------------------------

  /** A later ask takes the place of one that nobody has taken up. */
  async ask(name: string, ask: Ask): Promise<void> {
    await this.#registry.put(`${root}ask/${name}`, encoder.encode(JSON.stringify(ask)));
  }

  async asks(): Promise<Map<string, AskEntry>> {
    return new Map(
      (await this.#registry.list(`${root}ask/`)).map((entry) => [
        entry.key.slice(`${root}ask/`.length),
        { ...(jsonOf(entry) as Ask), revision: entry.revision },
      ]),
    );
  }

  /** Nothing happens when somebody asked again meanwhile. */
  async answered(name: string, ask: AskEntry): Promise<void> {
    await this.#registry.delete(`${root}ask/${name}`, { expect: ask.revision });
  }

  // --- builds ----------------------------------------------------------------------------------------------------------------------------

  async histories(): Promise<Map<string, TaskHistory>> {
    return new Map((await this.#registry.list(`${root}history/`)).map((entry) => [entry.key.slice(`${root}history/`.length), historyOf(entry)]));
  }

  async history(name: string): Promise<TaskHistory> {
    const entry = await this.#registry.get(`${root}history/${name}`);
    return entry === undefined ? noHistory : historyOf(entry);
  }

  async moveHistory(name: string, change: (history: TaskHistory) => TaskHistory): Promise<TaskHistory> {
    const key = `${root}history/${name}`;
    for (let tries = 0; tries < boardLimits.triesMax; tries++) {
      const entry = await this.#registry.get(key);
      const after = change(entry === undefined ? noHistory : historyOf(entry));
      if ((await this.#registry.put(key, encodeHistory(after), { expect: entry?.revision ?? 0 })) !== undefined) return after;
    }
    throw new MillraceError("overloaded", `the history of vector task ${name} is written too often`, { todo: "try again in a moment" });
  }

  /** That of the first attempt of those that did not come to an end: `now` when this is the first. */
  async firstDelta(name: string, now: TaskDelta): Promise<TaskDelta> {
    const { delta, attempts } = await this.history(name);
    if (delta !== undefined) return delta;
    // Not where no attempt is counted: nothing would take it away.
    if (attempts === 0) return now;
    return (await this.moveHistory(name, (history) => ({ ...history, delta: history.delta ?? now }))).delta ?? now;
  }

  async running(): Promise<Map<string, VectorBuildRunning>> {
    return new Map(
      (await this.#registry.list(`${root}running/`)).map((entry) => [entry.key.slice(`${root}running/`.length), jsonOf(entry) as VectorBuildRunning]),
    );
  }

  async showRunning(name: string, running: VectorBuildRunning, lease: Lease): Promise<void> {
    await this.#registry.put(`${root}running/${name}`, encoder.encode(JSON.stringify(running)), { lease });
  }

  async endRunning(name: string): Promise<void> {
    await this.#registry.delete(`${root}running/${name}`);
  }

  async builders(): Promise<VectorBuilderOverview[]> {
    return (await this.#registry.list(`${root}builder/`)).map((entry) => jsonOf(entry) as VectorBuilderOverview);
  }

  async showBuilder(builder: VectorBuilderOverview, lease: Lease): Promise<void> {
    await this.#registry.put(`${root}builder/${builder.builder}`, encoder.encode(JSON.stringify(builder)), { lease });
  }
}

/** A history that cannot be read begins anew: it is for people. */
function historyOf(entry: Entry): TaskHistory {
  try {
    const value = jsonOf(entry) as Partial<TaskHistory> | null;
    if (!Array.isArray(value?.builds) || typeof value.startedAtMs !== "number" || typeof value.attempts !== "number") return noHistory;
    return value as TaskHistory;
  } catch {
    return noHistory;
  }
}

/** The latest builds that fit. */
function encodeHistory(history: TaskHistory): Uint8Array {
  const { historyKept, historyBytesMax } = boardLimits;
  for (let kept = Math.min(history.builds.length, historyKept); ; kept--) {
    const bytes = encoder.encode(JSON.stringify({ ...history, builds: history.builds.slice(0, kept) }));
    if (bytes.length <= historyBytesMax || kept <= 1) return bytes;
  }
}

/** Reasons as a record keeps them. */
export function shownReasons(reasons: readonly string[]): string[] {
  const { reasonsMax, reasonCharactersMax } = boardLimits;
  return reasons.slice(0, reasonsMax).map((reason) => reason.slice(0, reasonCharactersMax));
}
