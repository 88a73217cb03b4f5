// The numbers that a search of a segment is tuned by: they decide how much is compared, and so recall and cost. They stand in the version's manifest.
// Invariant: recall and cost rise with each of them, so a tuner may search them one by one.

import { MillraceError } from "#base/errors";

export interface SearchSettings {
  /** Most lists looked into, 1 to listsMax. A cap: usually `margin` stops before. */
  readonly probes: number;
  /**
   * When to pass a list over: with `averageMargin` when it may expect less than the average share of the answers for each of its rows, with each 1 more e times less. 0 to
   * marginMax; marginMax: never. 6 to 10 for a recall of 0.99.
   */
  readonly margin: number;
  /**
   * When a row is compared exactly: its score by 4-bit codes and so many of those codes' errors (standard deviations) reach the k-th best score found so far.
   * 0 to marginMax; marginMax: always. About 1.5 to 3 for a recall of 0.99.
   */
  readonly slack: number;
  /** The margins of searches among rows that pass a filter, one for each of `filterShares`; left out: they follow from `margin` by a rule (filtered-search.ts). */
  readonly filterMargins?: readonly number[];
}

export const searchSettingsLimits = { marginMax: 16, listsMax: 65_536 } as const;

/** Shares of the rows that pass for which margins are tuned; between them they follow the logarithm. Fewer are compared one by one. */
export const filterShares = [0.5, 0.1, 0.025] as const;

/** The margin at which lists of average promise are just looked into. */
export const averageMargin = 8;

/** Everything is compared: answers are those of exact search. */
export const exhaustiveSettings: SearchSettings = {
  probes: searchSettingsLimits.listsMax,
  margin: searchSettingsLimits.marginMax,
  slack: searchSettingsLimits.marginMax,
};

/** A start for a tuner, and what serves when nothing was tuned: high recall before low cost. */
export const defaultSearchSettings: SearchSettings = { probes: searchSettingsLimits.listsMax, margin: 10, slack: 3 };

/** Reads settings out of a manifest or a request. Throws `invalid` for what they cannot be. */
export function parseSearchSettings(value: unknown): SearchSettings {
  const bad = (why: string): MillraceError => new MillraceError("invalid", `search settings ${why}`, { todo: "give probes, margin and slack" });
  if (typeof value !== "object" || value === null) throw bad("that are no object");
  const { probes, margin, slack, filterMargins } = value as Record<string, unknown>;
  const { marginMax, listsMax } = searchSettingsLimits;
  if (typeof probes !== "number" || !Number.isInteger(probes) || probes < 1 || probes > listsMax) throw bad(`whose probes are not 1 to ${listsMax}`);
  for (const [name, number] of Object.entries({ margin, slack }))
    if (typeof number !== "number" || !(number >= 0 && number <= marginMax)) throw bad(`whose ${name} is not 0 to ${marginMax}`);
  const settings: SearchSettings = { probes, margin: margin as number, slack: slack as number };
  if (filterMargins === undefined) return settings;
  if (!Array.isArray(filterMargins) || filterMargins.length !== filterShares.length) throw bad(`whose filterMargins are not ${filterShares.length} numbers`);
  const margins: readonly unknown[] = filterMargins;
  if (!margins.every((one): one is number => typeof one === "number" && one >= 0 && one <= marginMax))
    throw bad(`whose filterMargins are not 0 to ${marginMax}`);
  return { ...settings, filterMargins: [...margins] };
}

/** Each of them as one number, for statistics and histories of builds. */
export function settingFigures({ filterMargins = [], ...others }: SearchSettings): Record<string, number> {
  return { ...others, ...Object.fromEntries(filterMargins.map((margin, i) => [`filterMargin.${filterShares[i]!}`, margin])) };
}
