// The head of a snapshot: which version is live, which may be rolled back to, which wait. One small JSON value in the registry, moved only by compare-and-set.
//   current   the live one, if any            staged   published without going live, and those that were rolled back from
//   backups   live before it, latest first    refused  failed their checks; kept to be looked at
//   dropped   no longer there: their files may be gone, so they never come back into any of the lists above
// Why the moves are pure functions: they are tried again when somebody else moved the head meanwhile, and they can be tested alone.
// Invariants: 1. a version stands in at most one list  2. `switches` rises with every change of what is live, so going live again counts as new
// 3. a version in `dropped`, or not later than `floor`, enters no list.
// Limits: `headLimits`; together below the 64 KiB of a registry value.

import { MillraceError } from "#base/errors";
import { checkVersion, isVersion } from "./version.ts";

export const headLimits = { versionsMax: 200, refusedMax: 10, reasonsMax: 5, reasonCharactersMax: 200, droppedMax: 400 } as const;

export interface RefusedVersion {
  readonly version: string;
  readonly atMs: number;
  readonly reasons: readonly string[];
}

/** What stands in the registry. */
export interface HeadState {
  readonly format: 1;
  readonly current: string | undefined;
  readonly backups: readonly string[];
  readonly staged: readonly string[];
  readonly refused: readonly RefusedVersion[];
  readonly dropped: readonly string[];
  /** Versions up to this one that stand in no list are gone. */
  readonly floor: string;
  readonly switches: number;
  /** When `current` became live. */
  readonly liveAtMs: number;
}

export interface Head extends HeadState {
  readonly kind: string;
  readonly name: string;
  /** Of the registry entry. */
  readonly revision: number;
}

export const emptyHead: HeadState = { format: 1, current: undefined, backups: [], staged: [], refused: [], dropped: [], floor: "", switches: 0, liveAtMs: 0 };

export function encodeHead(head: HeadState): Uint8Array {
  const { format, current, backups, staged, refused, dropped, floor, switches, liveAtMs } = head;
  return new TextEncoder().encode(JSON.stringify({ format, current: current ?? null, backups, staged, refused, dropped, floor, switches, liveAtMs }));
}

const todo = "look at the registry: nothing but millrace may write under snapshots/";

/** Reads a head; throws `corrupt` or, for a later format, `unsupported`. */
export function decodeHead(bytes: Uint8Array, what: string): HeadState {
  const damaged = (why: string, cause?: unknown): MillraceError => new MillraceError("corrupt", `the head of ${what}: ${why}`, { todo, cause });
  let value: Record<string, unknown>;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes)) as Record<string, unknown>;
  } catch (cause) {
    throw damaged("it is no JSON text", cause);
  }
  if (typeof value !== "object" || value === null) throw damaged("it is no object");
  if (value["format"] !== 1)
    throw new MillraceError("unsupported", `the head of ${what} has another format`, { todo: "use the millrace that wrote it, or a later one" });
  const { current, backups, staged, refused, dropped, floor, switches, liveAtMs } = value;
  const lists = [backups, staged, dropped].every((list) => Array.isArray(list) && list.every(isVersion)) && Array.isArray(refused) && refused.every(isRefused);
  const rest =
    (current === null || isVersion(current)) && (floor === "" || isVersion(floor)) && Number.isSafeInteger(switches) && Number.isSafeInteger(liveAtMs);
  if (!lists || !rest) throw damaged("a field is missing or wrong");
  const head = { ...value, current: current ?? undefined } as unknown as HeadState;
  const listed = versionsOf(head);
  if (new Set(listed).size !== listed.length) throw damaged("a version stands in it twice");
  return head;
}

function isRefused(value: unknown): value is RefusedVersion {
  if (typeof value !== "object" || value === null) return false;
  const { version, atMs, reasons } = value as Partial<RefusedVersion>;
  return isVersion(version) && Number.isSafeInteger(atMs) && Array.isArray(reasons) && reasons.every((reason) => typeof reason === "string");
}

/** Every version that is there, the live one first. */
export function versionsOf(head: HeadState): string[] {
  return [...(head.current === undefined ? [] : [head.current]), ...head.backups, ...head.staged, ...head.refused.map(({ version }) => version)];
}

/** What a server may show, best first: the live version, then those before it. */
export function servable(head: HeadState): string[] {
  return [...(head.current === undefined ? [] : [head.current]), ...head.backups];
}

export function isGone(head: HeadState, version: string): boolean {
  return head.dropped.includes(version) || (version <= head.floor && !versionsOf(head).includes(version));
}

function without(head: HeadState, version: string): HeadState {
  return {
    ...head,
    backups: head.backups.filter((one) => one !== version),
    staged: head.staged.filter((one) => one !== version),
    refused: head.refused.filter((one) => one.version !== version),
  };
}

function checkThere(head: HeadState, version: string): void {
  checkVersion(version);
  if (isGone(head, version)) {
    throw new MillraceError("conflict", `version ${version} was removed meanwhile`, { todo: "build it again: it was left unpublished for too long" });
  }
  const listed = versionsOf(head);
  if (listed.length >= headLimits.versionsMax && !listed.includes(version)) {
    throw new MillraceError("overloaded", `${listed.length} versions are kept`, { todo: "retire some" });
  }
}

/** `version` becomes live; what was live becomes the first backup. */
export function withLive(head: HeadState, version: string, nowMs: number): HeadState {
  checkThere(head, version);
  if (head.current === version) return head;
  const rest = without(head, version);
  const backups = head.current === undefined ? rest.backups : [head.current, ...rest.backups];
  return { ...rest, current: version, backups, switches: head.switches + 1, liveAtMs: nowMs };
}

/** `version` is published and waits to go live. */
export function withStaged(head: HeadState, version: string): HeadState {
  checkThere(head, version);
  if (versionsOf(head).includes(version)) return head;
  return { ...head, staged: [version, ...head.staged] };
}

/** `version` failed its checks. */
export function withRefused(head: HeadState, version: string, reasons: readonly string[], nowMs: number): HeadState {
  checkThere(head, version);
  const { reasonsMax, reasonCharactersMax } = headLimits;
  const shown = reasons.slice(0, reasonsMax).map((reason) => reason.slice(0, reasonCharactersMax).replaceAll(/[^ -~]/g, "?"));
  if (reasons.length > reasonsMax) shown[reasonsMax - 1] = `and ${reasons.length - reasonsMax + 1} more`;
  const rest = without(head, version);
  const refused = [{ version, atMs: nowMs, reasons: shown }, ...rest.refused];
  const over = refused.slice(headLimits.refusedMax).map((one) => one.version);
  return withDropped({ ...rest, refused: refused.slice(0, headLimits.refusedMax) }, over);
}

/** The one before is live again (or `toVersion`); what was live waits among the staged. `not-found` when there is nothing to go back to. */
export function withRolledBack(head: HeadState, toVersion: string | undefined, nowMs: number): HeadState {
  const target = toVersion ?? head.backups[0];
  if (target === undefined || !head.backups.includes(target)) {
    throw new MillraceError(
      "not-found",
      toVersion === undefined ? "there is no version before the live one" : `version ${toVersion} was not live before this one`,
      {
        todo: "list the versions: a staged one goes live with `live`",
      },
    );
  }
  const at = head.backups.indexOf(target);
  // Those between were live after the target: they wait too, or a second roll-back would go forward.
  const staged = [...(head.current === undefined ? [] : [head.current]), ...head.backups.slice(0, at), ...head.staged];
  return { ...head, current: target, backups: head.backups.slice(at + 1), staged, switches: head.switches + 1, liveAtMs: nowMs };
}

/** Leaves `keep` versions that are or were live, the latest `keep` staged and `keep` refused ones; what is in `used` stays too. */
export function withRetired(head: HeadState, keep: number, used: ReadonlySet<string>): { head: HeadState; retired: string[] } {
  const latest = (list: readonly string[], count: number): ReadonlySet<string> => new Set(list.toSorted().toReversed().slice(0, count));
  const keptBackups = new Set(head.backups.slice(0, Math.max(0, keep - 1)));
  const keptStaged = latest(head.staged, keep);
  const keptRefused = latest(
    head.refused.map(({ version }) => version),
    keep,
  );
  const stays = (version: string): boolean =>
    version === head.current || keptBackups.has(version) || keptStaged.has(version) || keptRefused.has(version) || used.has(version);
  const retired = versionsOf(head).filter((version) => !stays(version));
  const left = retired.reduce(without, head);
  return { head: withDropped(left, retired), retired };
}

/** Remembers that these are gone. The oldest of a long list become the floor. */
export function withDropped(head: HeadState, versions: readonly string[]): HeadState {
  if (versions.length === 0) return head;
  const dropped = [...new Set([...head.dropped, ...versions])].toSorted();
  const over = dropped.slice(0, Math.max(0, dropped.length - headLimits.droppedMax));
  return { ...head, dropped: dropped.slice(over.length), floor: over.at(-1) ?? head.floor };
}
