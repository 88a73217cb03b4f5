// The catalogue of models as data: which versions each has, which one is live, which tables commands have created, and the latest changes. One JSON value in the
// registry, moved only by compare-and-set; model-catalogue.ts does that.
//   a version = its tables by role (`users` -> `users-b`), the version of its extractor, and a config that stands under a key of its own
//   its state = live | backup | staged (the lists of src/snapshot/head.ts) or retiring: nobody may begin with it, and it goes when the last one has ended
// Why one value for all models: that a table is dropped and that a model takes it up are then two moves of the same value, and one of them loses.
// Why pure functions: a move is tried again when somebody else moved the catalogue meanwhile, and it can be tested alone.
// Invariants: 1. a version stands in exactly one list of its model  2. a table that commands created stays as long as any kept version names it, a retiring one too
// 3. every move appends one entry to the audit, in the same write; `changes` counts them  4. a version that went does not come back: each registration has a name of its own.
// Limits: `catalogueLimits`; encoded below `bytesMax`, so that it fits a registry value.

import { MillraceError } from "#base/errors";
import { decodeHead, emptyHead, type HeadState, versionsOf, withLive, withRetired, withRolledBack, withStaged } from "#snapshot/head";
import { isVersion } from "#snapshot/version";
import { parameterLimits } from "#wire/parameter-limits";
import type { AuditAction, AuditEntry, ModelVersionState } from "#wire/parameter-models-api";

export type { AuditEntry } from "#wire/parameter-models-api";

export const catalogueLimits = {
  modelsMax: parameterLimits.modelsMax,
  versionsMax: 24,
  tablesOfVersionMax: parameterLimits.modelTablesMax,
  createdTablesMax: parameterLimits.tablesMax,
  extractorCharactersMax: 128,
  whoCharactersMax: 64,
  /** Latest changes that stand in the value itself; the ones before lie in pages. */
  auditMax: 64,
  auditPageEntries: 32,
  /** Pages that are kept: 6,400 changes. */
  auditPagesMax: 200,
  configBytesMax: 48 * 1024,
  /** Below the 64 KiB of a registry value. */
  bytesMax: 60 * 1024,
} as const;

/** Names of models, of roles within them and of tables: one part of a registry key, a folder and a path. */
export const catalogueNamePattern = /^[a-z][a-z0-9_-]{0,63}$/;

const actions: readonly AuditAction[] = ["register", "live", "rollback", "retire", "removed", "create-table", "drop-table"];

export interface VersionRecord {
  /** Role -> table. */
  readonly tables: Readonly<Record<string, string>>;
  /** "" = none. */
  readonly extractor: string;
  readonly atMs: number;
}

export interface ModelState {
  readonly head: HeadState;
  readonly versions: Readonly<Record<string, VersionRecord>>;
  /** Version -> `changes` of the catalogue when it was retired. */
  readonly retiring: Readonly<Record<string, number>>;
}

export interface CatalogueState {
  readonly format: 1;
  readonly changes: number;
  readonly models: Readonly<Record<string, ModelState>>;
  /** Tables that commands created, and when: the parameter server keeps what they are. */
  readonly tables: Readonly<Record<string, number>>;
  /** Oldest first, the last ones. */
  readonly audit: readonly AuditEntry[];
}

export const emptyCatalogue: CatalogueState = { format: 1, changes: 0, models: {}, tables: {}, audit: [] };

/** Who makes a move, and when. */
export interface Mover {
  readonly who: string;
  readonly nowMs: number;
}

// --- asking ------------------------------------------------------------------------------------------------------------------------------

/** Throws `invalid` when `name` names no model, role or table. */
export function checkCatalogueName(name: string, what: string): void {
  if (catalogueNamePattern.test(name)) return;
  throw new MillraceError("invalid", `${JSON.stringify(name.slice(0, 80))} is no name of a ${what}`, {
    todo: "use 1 to 64 characters: small letters, digits, _ and -, a letter first",
  });
}

/** Names come from outside: `constructor` is one, too. */
const own = <T>(record: Readonly<Record<string, T>>, name: string): T | undefined => (Object.hasOwn(record, name) ? record[name] : undefined);

export const findModel = (state: CatalogueState, name: string): ModelState | undefined => own(state.models, name);

/** Throws `not-found`. */
export function modelOf(state: CatalogueState, name: string): ModelState {
  const model = findModel(state, name);
  if (model !== undefined) return model;
  throw new MillraceError("not-found", `there is no model ${JSON.stringify(name.slice(0, 64))}`, { todo: "list the models, or register a version of it" });
}

/** Every version that is kept, the live one first, then those before it, staged and retiring ones. */
export function statesOf({ head, retiring }: ModelState): [version: string, state: ModelVersionState][] {
  return [
    ...(head.current === undefined ? [] : [[head.current, "live"] as [string, ModelVersionState]]),
    ...head.backups.map((version): [string, ModelVersionState] => [version, "backup"]),
    ...head.staged.map((version): [string, ModelVersionState] => [version, "staged"]),
    ...Object.keys(retiring).map((version): [string, ModelVersionState] => [version, "retiring"]),
  ];
}

/** The version that `text` is, or the only one that begins with it. Throws `not-found`, or `invalid` when several begin so. */
export function resolveVersion(state: CatalogueState, name: string, text: string): string {
  const known = Object.keys(modelOf(state, name).versions);
  if (known.includes(text)) return text;
  const found = text === "" ? [] : known.filter((version) => version.startsWith(text));
  if (found.length === 1) return found[0]!;
  if (found.length === 0) {
    throw new MillraceError("not-found", `model ${name} has no version ${JSON.stringify(text.slice(0, 40))}`, { todo: "list its versions" });
  }
  throw new MillraceError("invalid", `${found.length} versions of model ${name} begin with ${JSON.stringify(text)}`, { todo: "give more of its name" });
}

/** Kept versions that name the table, as MODEL@VERSION with what they are. */
export function usersOfTable(state: CatalogueState, table: string): string[] {
  return Object.entries(state.models).flatMap(([name, model]) =>
    statesOf(model)
      .filter(([version]) => Object.values(model.versions[version]!.tables).includes(table))
      .map(([version, is]) => `${name}@${version} (${is})`),
  );
}

// --- moving ------------------------------------------------------------------------------------------------------------------------------

function moved(state: CatalogueState, by: Mover, entry: Omit<AuditEntry, "seq" | "atMs" | "who">): CatalogueState {
  const seq = state.changes + 1;
  const who = by.who.slice(0, catalogueLimits.whoCharactersMax).replaceAll(/[^ -~]/g, "?");
  return { ...state, changes: seq, audit: [...state.audit, { seq, atMs: by.nowMs, who, ...entry }] };
}

const withModel = (state: CatalogueState, name: string, model: ModelState): CatalogueState => ({ ...state, models: { ...state.models, [name]: model } });

/** The head without its memory of what is gone: here a version that has no record enters no list. */
const forgetful = (head: HeadState): HeadState => ({ ...head, dropped: [], floor: "" });

const versionOn = (name: string, version: string, before: string | undefined): Omit<AuditEntry, "seq" | "atMs" | "who" | "action"> => ({
  name,
  version,
  ...(before === undefined ? {} : { before }),
});

export interface Registration {
  readonly tables: Readonly<Record<string, string>>;
  readonly extractor: string;
  /** Goes live at once. */
  readonly live: boolean;
}

/**
 * Adds `version` to the model, which comes to be with its first. `isDeclared`: tables of the configuration. Throws `invalid`, `not-found` for a
 * table that does not stand, `overloaded` at a limit.
 */
export function withRegistered(
  state: CatalogueState,
  name: string,
  version: string,
  { tables, extractor, live }: Registration,
  isDeclared: (table: string) => boolean,
  by: Mover,
): CatalogueState {
  checkCatalogueName(name, "model");
  const roles = Object.entries(tables);
  const { modelsMax, versionsMax, tablesOfVersionMax, extractorCharactersMax } = catalogueLimits;
  if (roles.length === 0 || roles.length > tablesOfVersionMax) {
    throw new MillraceError("invalid", `a version of model ${name} with ${roles.length} tables`, { todo: `name 1 to ${tablesOfVersionMax}` });
  }
  if (extractor.length > extractorCharactersMax || !/^[ -~]*$/.test(extractor)) {
    throw new MillraceError("invalid", `the extractor version of model ${name} is no short text`, {
      todo: `use at most ${extractorCharactersMax} printable characters`,
    });
  }
  for (const [role, table] of roles) {
    checkCatalogueName(role, "role of a table");
    if (own(state.tables, table) !== undefined || isDeclared(table)) continue;
    throw new MillraceError("not-found", `model ${name} names the parameter table ${JSON.stringify(table.slice(0, 64))}, which does not stand`, {
      todo: "create it with PCREATE, or declare it in the configuration",
    });
  }
  const before = own(state.models, name);
  if (before === undefined && Object.keys(state.models).length >= modelsMax) {
    throw new MillraceError("overloaded", `${modelsMax} models are kept`, { todo: "retire one with all its versions" });
  }
  const model = before ?? { head: emptyHead, versions: {}, retiring: {} };
  if (Object.keys(model.versions).length >= versionsMax) {
    throw new MillraceError("overloaded", `model ${name} has ${versionsMax} versions`, { todo: "retire some" });
  }
  if (own(model.versions, version) !== undefined) throw new MillraceError("conflict", `model ${name} has a version ${version}`, { todo: "register again" });
  const head = live ? withLive(model.head, version, by.nowMs) : withStaged(model.head, version);
  const after = withModel(state, name, { ...model, head, versions: { ...model.versions, [version]: { tables: { ...tables }, extractor, atMs: by.nowMs } } });
  const registered = moved(after, by, { action: "register", ...versionOn(name, version, undefined) });
  return live ? moved(registered, by, { action: "live", ...versionOn(name, version, model.head.current) }) : registered;
}

/** `version` becomes live; what was live may be rolled back to. The same state when it is live already. */
export function withModelLive(state: CatalogueState, name: string, version: string, by: Mover): CatalogueState {
  const model = modelOf(state, name);
  checkKept(model, name, version);
  const head = withLive(model.head, version, by.nowMs);
  if (head === model.head) return state;
  return moved(withModel(state, name, { ...model, head }), by, { action: "live", ...versionOn(name, version, model.head.current) });
}

/** The version before is live again, or `toVersion` of those that were. Throws `not-found` when there is none. */
export function withModelRolledBack(state: CatalogueState, name: string, toVersion: string | undefined, by: Mover): CatalogueState {
  const model = modelOf(state, name);
  const head = withRolledBack(model.head, toVersion, by.nowMs);
  return moved(withModel(state, name, { ...model, head }), by, { action: "rollback", ...versionOn(name, head.current!, model.head.current) });
}

/**
 * One version, or all but those that `keep` says (as `millrace snapshots retire`), may not be begun with any more. With `wholeModel` the live one too: nothing is
 * left of the model once the last of them is removed. Returns the versions; none: nothing changed.
 */
export function withRetiring(
  state: CatalogueState,
  name: string,
  what: { readonly version: string } | { readonly keep: number } | { readonly wholeModel: true },
  by: Mover,
): { state: CatalogueState; retired: string[] } {
  const model = modelOf(state, name);
  const kept = versionsOf(model.head);
  let head: HeadState;
  let retired: string[];
  if ("wholeModel" in what) [head, retired] = [{ ...emptyHead, switches: model.head.switches + 1 }, kept];
  else if ("keep" in what) ({ head, retired } = withRetired(model.head, what.keep, new Set()));
  else {
    checkKept(model, name, what.version);
    if (what.version === model.head.current) {
      throw new MillraceError("conflict", `version ${what.version} of model ${name} is live`, {
        todo: "put another version live first, or retire the whole model",
      });
    }
    ({ head, retired } = withRetired(model.head, 0, new Set(kept.filter((version) => version !== what.version))));
  }
  if (retired.length === 0) return { state, retired };
  const retiring: Record<string, number> = { ...model.retiring };
  let after = withModel(state, name, { ...model, head: forgetful(head), retiring });
  for (const version of retired) {
    after = moved(after, by, { action: "retire", ...versionOn(name, version, undefined) });
    retiring[version] = after.changes;
  }
  return { state: after, retired };
}

/** Takes out a version that nobody uses any more; with the last one the model goes. The same state when it is not retiring (any more). */
export function withRemoved(state: CatalogueState, name: string, version: string, by: Mover): CatalogueState {
  const model = own(state.models, name);
  if (model === undefined || own(model.retiring, version) === undefined) return state;
  const { [version]: _record, ...versions } = model.versions;
  const { [version]: _seq, ...retiring } = model.retiring;
  const { [name]: _model, ...others } = state.models;
  const models = Object.keys(versions).length === 0 ? others : { ...others, [name]: { ...model, versions, retiring } };
  return moved({ ...state, models }, by, { action: "removed", ...versionOn(name, version, undefined) });
}

/** Throws `conflict` when a table of that name stands, `overloaded` at a limit. */
export function withTable(state: CatalogueState, table: string, isDeclared: (table: string) => boolean, by: Mover): CatalogueState {
  checkCatalogueName(table, "parameter table");
  if (own(state.tables, table) !== undefined || isDeclared(table)) {
    throw new MillraceError("conflict", `there is a parameter table ${table}`, { todo: "use it, drop it first, or choose another name" });
  }
  const { createdTablesMax } = catalogueLimits;
  if (Object.keys(state.tables).length >= createdTablesMax) {
    throw new MillraceError("overloaded", `${createdTablesMax} parameter tables were created by commands`, { todo: "drop one that no model uses" });
  }
  return moved({ ...state, tables: { ...state.tables, [table]: by.nowMs } }, by, { action: "create-table", name: table });
}

/** Throws `conflict` while a kept version of a model names the table, or when the configuration declares it. The same state when it is struck out already. */
export function withoutTable(state: CatalogueState, table: string, isDeclared: (table: string) => boolean, by: Mover): CatalogueState {
  const users = usersOfTable(state, table);
  if (users.length > 0) {
    const shown = users.slice(0, 3).join(", ") + (users.length > 3 ? ` and ${users.length - 3} more` : "");
    throw new MillraceError("conflict", `table ${table} is used by ${shown}`, { todo: "retire these versions first" });
  }
  if (isDeclared(table)) {
    throw new MillraceError("conflict", `table ${table} is declared in the configuration`, { todo: "take it out of the configuration and start again" });
  }
  if (own(state.tables, table) === undefined) return state;
  const { [table]: _atMs, ...tables } = state.tables;
  return moved({ ...state, tables }, by, { action: "drop-table", name: table });
}

/** Throws `conflict` when the configuration no longer declares a table that a kept version names: a restart must not lose it by accident. */
export function checkTablesStand(state: CatalogueState, isDeclared: (table: string) => boolean): void {
  for (const model of Object.values(state.models)) {
    for (const { tables } of Object.values(model.versions)) {
      for (const table of Object.values(tables)) {
        if (isDeclared(table) || own(state.tables, table) !== undefined) continue;
        throw new MillraceError("conflict", `the configuration declares no parameter table ${table}, which ${usersOfTable(state, table).join(", ")} uses`, {
          todo: "declare it again, start, retire these versions, and take it out then",
        });
      }
    }
  }
}

function checkKept(model: ModelState, name: string, version: string): void {
  if (own(model.retiring, version) !== undefined) {
    throw new MillraceError("conflict", `version ${version} of model ${name} is being retired`, { todo: "register it anew" });
  }
  if (versionsOf(model.head).includes(version)) return;
  throw new MillraceError("not-found", `model ${name} has no version ${JSON.stringify(version.slice(0, 40))}`, { todo: "list its versions" });
}

// --- the audit's pages -------------------------------------------------------------------------------------------------------------------

/**
 * The entries that no longer fit the value, page by page. One change appends fewer than `auditMax - auditPageEntries`, so a page holds entries of states that
 * stand: whoever writes it writes the same, and it can be written before the state that is returned.
 */
export function withAuditCut(state: CatalogueState): { state: CatalogueState; pages: { readonly number: number; readonly entries: readonly AuditEntry[] }[] } {
  const { auditMax, auditPageEntries } = catalogueLimits;
  const pages: { number: number; entries: readonly AuditEntry[] }[] = [];
  let { audit } = state;
  while (audit.length > auditMax) {
    pages.push({ number: (audit[0]!.seq - 1) / auditPageEntries, entries: audit.slice(0, auditPageEntries) });
    audit = audit.slice(auditPageEntries);
  }
  return { state: pages.length === 0 ? state : { ...state, audit }, pages };
}

// --- bytes -------------------------------------------------------------------------------------------------------------------------------

const todo = "look at the registry: nothing but millrace may write under parameters/";

/** Throws `overloaded` when there is too much of it. */
export function encodeCatalogue(state: CatalogueState): Uint8Array {
  const models = Object.entries(state.models).map(
    ([name, model]) => [name, { ...model, head: { ...model.head, current: model.head.current ?? null } }] as const,
  );
  const bytes = new TextEncoder().encode(JSON.stringify({ ...state, models: Object.fromEntries(models) }));
  if (bytes.length <= catalogueLimits.bytesMax) return bytes;
  throw new MillraceError("overloaded", `the catalogue of models would take ${bytes.length} bytes of ${catalogueLimits.bytesMax}`, {
    todo: "retire old versions, drop tables that nobody uses, or use shorter names",
  });
}

type Fields = Readonly<Record<string, unknown>>;
const isObject = (value: unknown): value is Fields => typeof value === "object" && value !== null && !Array.isArray(value);
const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;
const isName = (text: string): boolean => catalogueNamePattern.test(text);

/** Reads a catalogue; throws `corrupt` or, for a later format, `unsupported`. */
export function decodeCatalogue(bytes: Uint8Array): CatalogueState {
  const damaged = (why: string, cause?: unknown): MillraceError => new MillraceError("corrupt", `the catalogue of models: ${why}`, { todo, cause });
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (cause) {
    throw damaged("it is no JSON text", cause);
  }
  if (!isObject(value)) throw damaged("it is no object");
  if (value["format"] !== 1) {
    throw new MillraceError("unsupported", "the catalogue of models has another format", { todo: "use the millrace that wrote it, or a later one" });
  }
  const { changes, models, tables, audit } = value;
  if (!isCount(changes) || !isObject(models) || !isObject(tables) || !Array.isArray(audit)) throw damaged("a field is missing or wrong");
  if (!Object.entries(tables).every(([name, atMs]) => isName(name) && isCount(atMs))) throw damaged("a table that is none");
  if (!audit.every((entry, i) => isAuditEntry(entry) && entry.seq === changes - audit.length + 1 + i)) throw damaged("an audit that has gaps");
  const read = Object.entries(models).map(([name, model]): [string, ModelState] => {
    if (!isName(name) || !isObject(model)) throw damaged("a model that is none");
    const { versions, retiring } = model;
    if (!isObject(versions) || !isObject(retiring) || !Object.values(retiring).every(isCount)) throw damaged(`model ${name}`);
    const head = decodeHead(new TextEncoder().encode(JSON.stringify(model["head"])), `model ${name}`);
    const listed = [...versionsOf(head), ...Object.keys(retiring)].toSorted();
    const recorded = Object.keys(versions).toSorted();
    if (listed.length === 0 || head.refused.length > 0 || listed.join() !== recorded.join()) throw damaged(`model ${name}: its lists do not fit its versions`);
    for (const [version, record] of Object.entries(versions)) {
      const { tables: byRole, extractor, atMs } = isObject(record) ? record : ({} as Fields);
      const good =
        isVersion(version) &&
        isObject(byRole) &&
        Object.entries(byRole).every(([role, table]) => isName(role) && typeof table === "string" && isName(table)) &&
        typeof extractor === "string" &&
        isCount(atMs);
      if (!good) throw damaged(`version ${version} of model ${name}`);
    }
    return [name, { head, versions, retiring } as unknown as ModelState];
  });
  return { format: 1, changes, models: Object.fromEntries(read), tables: tables as CatalogueState["tables"], audit };
}

export function isAuditEntry(value: unknown): value is AuditEntry {
  if (!isObject(value)) return false;
  const { seq, atMs, who, action, name, version, before } = value;
  const isText = (text: unknown): boolean => text === undefined || typeof text === "string";
  return (
    isCount(seq) &&
    isCount(atMs) &&
    typeof who === "string" &&
    typeof name === "string" &&
    isText(version) &&
    isText(before) &&
    actions.includes(action as AuditAction)
  );
}
