// Names: kinds, snapshots and versions. A version is named by its time stamp, so that versions sort by time as plain text and a person reads when it was begun.
//   20261122T084107123-k3dq = 2026-11-22T08:41:07.123Z, then four random characters
// Invariants: 1. text order of versions is time order  2. every name is one part of a blob name, one part of a registry key and one folder: no name
// leaves its place.
// Limits: years 1970 to 9999; kinds 32, names 100 characters.

import { MillraceError } from "#base/errors";
import { randomId, type RandomSource } from "#platform/system-random";

const versionPattern = /^(\d{4})(\d{2})(\d{2})T(\d{2})(\d{2})(\d{2})(\d{3})-[0-9a-hjkmnp-tv-z]{2,8}$/;
const randomCharacters = 4;

/** The version of a build that begins now; later than every one in `known`, also when the clock has gone back. */
export function newVersion(nowMs: number, random: RandomSource, known: readonly string[] = []): string {
  const latestMs = known.reduce((latest, version) => Math.max(latest, versionTimeMs(version)), -Infinity);
  const stamp = new Date(Math.max(nowMs, latestMs + 1)).toISOString().replaceAll(/[-:.Z]/g, "");
  return `${stamp}-${randomId(random, randomCharacters)}`;
}

export function isVersion(text: unknown): text is string {
  return typeof text === "string" && versionPattern.test(text) && Number.isFinite(versionTimeMs(text));
}

/** Milliseconds since 1970 of its time stamp; NaN when there is no such time. */
export function versionTimeMs(version: string): number {
  const parts = versionPattern.exec(version);
  if (parts === null) return Number.NaN;
  const [, year, month, day, hour, minute, second, ms] = parts;
  return Date.parse(`${year}-${month}-${day}T${hour}:${minute}:${second}.${ms}Z`);
}

export function checkVersion(version: string): void {
  const good: boolean = isVersion(version);
  if (good) return;
  throw new MillraceError("invalid", `${JSON.stringify(version.slice(0, 40))} is no version`, {
    todo: "versions look like 20261122T084107123-k3dq; list them first",
  });
}

/** A part of a blob name that is also a good folder: no dot in front, and no suffix by which systems or we mean something else. */
function isPart(text: unknown, charactersMax: number): text is string {
  return typeof text === "string" && text.length <= charactersMax && /^[A-Za-z0-9_-][A-Za-z0-9._-]*$/.test(text) && !text.endsWith(".");
}

export const kindCharactersMax = 32;
export const nameCharactersMax = 100;
export const fileNameCharactersMax = 128;

export const isKind = (text: unknown): text is string => isPart(text, kindCharactersMax);
export const isSnapshotName = (text: unknown): text is string => isPart(text, nameCharactersMax);
export const isFileName = (text: unknown): text is string => isPart(text, fileNameCharactersMax);

/** Throws `invalid` when these name no snapshot. */
export function checkSnapshotName(kind: string, name: string): void {
  if (isKind(kind) && isSnapshotName(name)) return;
  throw new MillraceError("invalid", `${JSON.stringify(`${kind}/${name}`.slice(0, 80))} names no snapshot`, {
    todo: `use letters, digits, dot, underscore and -, a kind of at most ${kindCharactersMax} and a name of at most ${nameCharactersMax} characters`,
  });
}

/** Throws `invalid` when a version may not hold a file of this name. */
export function checkFileName(file: string): void {
  const good: boolean = isFileName(file);
  if (good) return;
  throw new MillraceError("invalid", `${JSON.stringify(file.slice(0, 80))} is no name for a file of a snapshot`, {
    todo: `use 1 to ${fileNameCharactersMax} letters, digits, dots, underscores and -, no dot at either end`,
  });
}
