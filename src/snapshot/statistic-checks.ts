// Declared checks of a version before it is published: its statistics against limits and against the version that is live.
// Why data and not code: a limit can stand in a configuration file, be shown, and be named in the refusal.
// Invariants: 1. a check whose statistic is missing fails: what is not measured is not good  2. comparisons with the version before pass when there is none
// 3. every reason names the statistic, its value and the limit.
// Source of the rule "rows shrank": what every bulk load is feared for, an empty or half-made input.

import { MillraceError } from "#base/errors";
import { bytesOf, type Manifest } from "./manifest.ts";

export interface StatisticCheck {
  /** Name in `Manifest.statistics`; also `files` (how many) and `bytes` (of all files). */
  readonly statistic: string;
  /** Divide by this one first: { statistic: "nulls.ctr", per: "rows", max: 0.2 } is a null rate of at most 20 %. */
  readonly per?: string;
  readonly min?: number;
  readonly max?: number;
  /** May be lower than in the live version by at most this part of it: 0.2 = 20 %. */
  readonly fallMax?: number;
  /** May be higher than in the live version by at most this part of it. */
  readonly riseMax?: number;
  /** Missing is good too. */
  readonly optional?: boolean;
}

/** At most so many checks of one version. */
export const checksMax = 10_000;

/** What a version must at least satisfy when its owner declares nothing: the rows may not fall by more than a half, nor be none. Chosen. */
export const defaultChecks: readonly StatisticCheck[] = [{ statistic: "rows", min: 1, fallMax: 0.5, optional: true }];

/** Throws `invalid` for checks that cannot be meant. */
export function checkDeclarations(checks: readonly StatisticCheck[]): void {
  if (checks.length > checksMax) throw new MillraceError("invalid", `${checks.length} checks of a version`, { todo: `declare at most ${checksMax}` });
  for (const { statistic, per, min, max, fallMax, riseMax } of checks) {
    const limits = [min, max, fallMax, riseMax].filter((limit) => limit !== undefined);
    const asParts = [fallMax, riseMax].every((limit) => limit === undefined || limit >= 0);
    if (statistic !== "" && per !== "" && limits.length > 0 && limits.every(Number.isFinite) && asParts && (fallMax ?? 0) <= 1) continue;
    throw new MillraceError("invalid", `the check of the statistic ${JSON.stringify(statistic)} cannot be meant`, {
      todo: "give min, max, fallMax (0 to 1) or riseMax (from 0) as numbers",
    });
  }
}

function valueOf(manifest: Manifest, { statistic, per }: StatisticCheck): number | undefined {
  const value = named(manifest, statistic);
  if (per === undefined || value === undefined) return value;
  const divisor = named(manifest, per);
  if (divisor === undefined) return undefined;
  // Nothing of nothing is nothing: the rate of an empty version is judged by its rows.
  return divisor === 0 && value === 0 ? 0 : value / divisor;
}

function named(manifest: Manifest, statistic: string): number | undefined {
  if (Object.hasOwn(manifest.statistics, statistic)) return manifest.statistics[statistic];
  if (statistic === "files") return manifest.files.length;
  return statistic === "bytes" ? bytesOf(manifest.files) : undefined;
}

const shown = (value: number): string => String(Number(value.toPrecision(6)));
const percent = (part: number): string => `${shown(part * 100)} %`;

/** Why the version is bad; empty when it is good. `live`: the version it is compared with. */
export function failedChecks(manifest: Manifest, live: Manifest | undefined, checks: readonly StatisticCheck[]): string[] {
  return checks.flatMap((check) => {
    const name = check.per === undefined ? check.statistic : `${check.statistic} per ${check.per}`;
    const value = valueOf(manifest, check);
    if (value === undefined) return check.optional === true ? [] : [`${name} was not measured`];
    const reasons: string[] = [];
    if (!(value >= (check.min ?? -Infinity))) reasons.push(`${name} is ${shown(value)}, at least ${shown(check.min!)} is wanted`);
    if (!(value <= (check.max ?? Infinity))) reasons.push(`${name} is ${shown(value)}, at most ${shown(check.max!)} is allowed`);
    const before = live === undefined ? undefined : valueOf(live, check);
    if (before === undefined || before === 0) return reasons;
    const change = (value - before) / Math.abs(before);
    if (check.fallMax !== undefined && !(change >= -check.fallMax)) {
      reasons.push(`${name} fell from ${shown(before)} to ${shown(value)} (by ${percent(-change)}), at most ${percent(check.fallMax)} is allowed`);
    }
    if (check.riseMax !== undefined && !(change <= check.riseMax)) {
      reasons.push(`${name} rose from ${shown(before)} to ${shown(value)} (by ${percent(change)}), at most ${percent(check.riseMax)} is allowed`);
    }
    return reasons;
  });
}
