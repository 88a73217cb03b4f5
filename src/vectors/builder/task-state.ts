// A task of the builder as data: what it is told, what it was told before, and the latest changes. One JSON value a task in the registry, moved only by compare-and-set; task-board.ts does that.
// Why one value a task: builders, servers and commands of any number of processes change tasks without a common lock, and a change and its audit entry are one write.
// Invariants: 1. editions rise by one with each change of what the task is told; those before stay, `editionsKept` of them  2. every move appends one audit entry, in the same write
//             3. a change names the edition that it was made from, and another one now is a `conflict`  4. what the configuration file says is taken over when the file's words
//             change, and a change by hand stays until then  5. a removed task stays as a name with its audit, and may be created again.
// Limits: `taskLimits`; encoded below the 64 KiB of a registry value.

import { MillraceError } from "#base/errors";
import type { VectorTaskAction, VectorTaskAudit, VectorTaskEdition, VectorTaskOrigin } from "#wire/vector-task-api";
import { checkVectorTask, type VectorTaskConfig, vectorTaskLimits } from "#wire/vector-task-config";

export const taskLimits = { tasksMax: 1_000, editionsKept: 8, auditKept: 40, noteCharactersMax: 300, whoCharactersMax: 64 } as const;

export interface TaskState {
  readonly format: 1;
  readonly origin: VectorTaskOrigin;
  readonly enabled: boolean;
  readonly removed: boolean;
  /** Latest first; the first one holds. */
  readonly editions: readonly VectorTaskEdition[];
  /** Latest last. */
  readonly audit: readonly VectorTaskAudit[];
  /** What the configuration file said when it was last read, as JSON; "" for a task made by hand. */
  readonly declared: string;
}

export interface TaskMover {
  readonly who: string;
  readonly nowMs: number;
  /** It comes over the network: what it tells a task may read allowed folders alone, and run no code (checkTaskFit says so, and the build keeps it). */
  readonly restricted?: boolean;
}

export function editionOf(state: TaskState): VectorTaskEdition {
  return state.editions[0]!;
}

/** Appends an audit entry alone: for what is not a change of the task (a run asked for, a version put live). */
export function withAudit(
  state: TaskState,
  by: TaskMover,
  action: VectorTaskAction,
  more: { readonly version?: string; readonly note?: string } = {},
): TaskState {
  const { auditKept, noteCharactersMax, whoCharactersMax } = taskLimits;
  const entry: VectorTaskAudit = {
    seq: (state.audit.at(-1)?.seq ?? 0) + 1,
    atMs: by.nowMs,
    who: by.who.slice(0, whoCharactersMax),
    action,
    ...(more.version === undefined ? {} : { version: more.version }),
    ...(more.note === undefined ? {} : { note: more.note.slice(0, noteCharactersMax) }),
  };
  return { ...state, audit: [...state.audit, entry].slice(-auditKept) };
}

function withEdition(state: TaskState, config: VectorTaskConfig, by: TaskMover, action: "create" | "change"): TaskState {
  const edition = (state.editions[0]?.edition ?? 0) + 1;
  const editions = [
    { edition, atMs: by.nowMs, who: by.who.slice(0, taskLimits.whoCharactersMax), config, ...(by.restricted === true ? { restricted: true as const } : {}) },
    ...state.editions,
  ].slice(0, taskLimits.editionsKept + 1);
  return withAudit({ ...state, editions }, by, action, { version: String(edition) });
}

const nothing: TaskState = { format: 1, origin: "made", enabled: true, removed: false, editions: [], audit: [], declared: "" };

/** A new task, or a removed one again. Throws `conflict` when it is there, `invalid` for what it is told. */
export function withCreated(state: TaskState | undefined, name: string, config: VectorTaskConfig, by: TaskMover): TaskState {
  checkVectorTask(name, config);
  if (state !== undefined && !state.removed)
    throw new MillraceError("conflict", `there is a vector task ${name}`, { todo: "change it, or choose another name" });
  return withEdition({ ...(state ?? nothing), origin: "made", enabled: true, removed: false, declared: "" }, config, by, "create");
}

/** Throws `conflict` when `edition` does not hold any more. The same state when nothing changes. */
export function withChanged(state: TaskState, name: string, edition: number, config: VectorTaskConfig, by: TaskMover): TaskState {
  checkVectorTask(name, config);
  const now = editionOf(state);
  if (now.edition !== edition) {
    throw new MillraceError("conflict", `vector task ${name} was changed by ${now.who}: edition ${now.edition} holds, not ${edition}`, {
      todo: "look at it again, and change that one",
    });
  }
  return canonical(now.config) === canonical(config) ? state : withEdition(state, config, by, "change");
}

/** The same state when it is so already. */
export function withEnabled(state: TaskState, enabled: boolean, by: TaskMover): TaskState {
  return state.enabled === enabled ? state : withAudit({ ...state, enabled }, by, enabled ? "enable" : "disable");
}

export function withRemoved(state: TaskState, by: TaskMover): TaskState {
  return state.removed ? state : withAudit({ ...state, removed: true, enabled: false }, by, "remove");
}

/** What the configuration file says of a task now; undefined: nothing any more. The same state when the file says what it said. */
export function withDeclared(state: TaskState | undefined, name: string, config: VectorTaskConfig | undefined, by: TaskMover): TaskState | undefined {
  if (config === undefined) {
    if (state === undefined || state.declared === "" || state.removed) return state;
    return withAudit({ ...state, declared: "", enabled: false }, by, "disable", { note: "the configuration does not name it any more" });
  }
  checkVectorTask(name, config);
  const said = canonical(config);
  if (state !== undefined && !state.removed && state.declared === said) return state;
  const before: TaskState = {
    ...(state ?? nothing),
    origin: "config",
    removed: false,
    declared: said,
    enabled: state === undefined || state.removed || state.declared === "" ? true : state.enabled,
  };
  if (before.editions.length > 0 && canonical(editionOf(before).config) === said && state?.removed === false) return before;
  return withEdition(before, config, by, state === undefined ? "create" : "change");
}

/** JSON with sorted keys, so that two configurations can be compared. */
function canonical(value: unknown): string {
  return JSON.stringify(value, (_key, inner: unknown) =>
    typeof inner === "object" && inner !== null && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).toSorted(([a], [b]) => (a < b ? -1 : 1)))
      : inner,
  );
}

// --- bytes -------------------------------------------------------------------------------------------------------------------------------

const bytesMax = 63 * 1024;

/** Older editions give way when the value would become too large: eight of the largest fit. */
export function encodeTask(state: TaskState): Uint8Array {
  for (let kept = state.editions.length; ; kept--) {
    const bytes = new TextEncoder().encode(JSON.stringify({ ...state, editions: state.editions.slice(0, kept) }));
    if (bytes.length <= bytesMax || kept === 1) return bytes;
  }
}

type Fields = Readonly<Record<string, unknown>>;
const isObject = (value: unknown): value is Fields => typeof value === "object" && value !== null && !Array.isArray(value);
const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;

/** Reads a task; throws `corrupt` or, for a later format, `unsupported`. */
export function decodeTask(name: string, bytes: Uint8Array): TaskState {
  const damaged = (why: string, cause?: unknown): MillraceError =>
    new MillraceError("corrupt", `vector task ${name}: ${why}`, { cause, todo: "look at the registry: nothing but millrace may write under vector-tasks/" });
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (cause) {
    throw damaged("it is no JSON text", cause);
  }
  if (!isObject(value)) throw damaged("it is no object");
  if (value["format"] !== 1)
    throw new MillraceError("unsupported", `vector task ${name} has another format`, { todo: "use the millrace that wrote it, or a later one" });
  const { origin, enabled, removed, editions, audit, declared } = value;
  const good =
    (origin === "config" || origin === "made") &&
    typeof enabled === "boolean" &&
    typeof removed === "boolean" &&
    typeof declared === "string" &&
    Array.isArray(editions) &&
    editions.length > 0 &&
    Array.isArray(audit);
  if (!good) throw damaged("a field is missing or wrong");
  let edition = Infinity;
  for (const one of editions as unknown[]) {
    const fits =
      isObject(one) && isCount(one["edition"]) && one["edition"] < edition && isCount(one["atMs"]) && typeof one["who"] === "string" && isObject(one["config"]);
    if (!fits || !isObject((one["config"] as Fields)["source"])) throw damaged("an edition that is none");
    edition = one["edition"] as number;
  }
  let seq: number | undefined;
  for (const entry of audit as unknown[]) {
    if (!isObject(entry) || !isCount(entry["seq"]) || !isCount(entry["atMs"]) || typeof entry["who"] !== "string" || typeof entry["action"] !== "string")
      throw damaged("an audit entry that is none");
    if (seq !== undefined && entry["seq"] !== seq + 1) throw damaged("an audit that has gaps");
    seq = entry["seq"];
  }
  return value as unknown as TaskState;
}

/** Whether a value of this size can hold eight editions of the largest configuration; checked by a test. */
export const largestTaskBytes =
  (taskLimits.editionsKept + 1) * (vectorTaskLimits.configBytesMax + 200) + taskLimits.auditKept * (taskLimits.noteCharactersMax + 200);
