// What a replay prints: a table of each tenth and the whole beside the baselines, the rows by reason, and one JSON line for programs.
// Names in JSON are stable; a figure that nothing was scored for is null there and "-" in the table.

import type { BaselineName } from "./baselines.ts";
import { listLength, type PartFigures, type ReplayProgress, type ReplayResult } from "./protocol.ts";
import { dropReasons } from "./retail-log.ts";

const jsonNames: Record<BaselineName, string> = {
  popularity: "popularity",
  decayedPopularity: "decayed_popularity",
  ownHistory: "own_history_decayed_popularity",
};

const titles: Record<BaselineName, string> = {
  popularity: "popularity",
  decayedPopularity: "decayed popularity",
  ownHistory: "own history + decayed popularity",
};

function figure(value: number | undefined): string {
  return value === undefined ? "-" : value.toFixed(4);
}

/** How many times the baseline, undefined where there is nothing to compare with. */
function ratio(value: number | undefined, baseline: number | undefined): number | undefined {
  return value === undefined || baseline === undefined || baseline === 0 ? undefined : value / baseline;
}

function times(value: number | undefined): string {
  return value === undefined ? "-" : `${value.toFixed(3)}x`;
}

function count(value: number): string {
  return value.toLocaleString("en-US");
}

/** Columns as wide as their widest cell, the first to the left, the others to the right. */
function table(rows: readonly (readonly string[])[]): string[] {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows.map((row) =>
    row
      .map((cell, column) => (column === 0 ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!)))
      .join("  ")
      .trimEnd(),
  );
}

function partRow(name: string, part: PartFigures): string[] {
  const { recall, novelRecall, baselines, novelBaselines } = part;
  return [
    name,
    part.fromMs === undefined ? "-" : new Date(part.fromMs).toISOString().slice(0, 10),
    count(part.baskets),
    figure(recall),
    figure(baselines.ownHistory),
    times(ratio(recall, baselines.ownHistory)),
    count(part.novelBaskets),
    figure(novelRecall),
    figure(novelBaselines.decayedPopularity),
    times(ratio(novelRecall, novelBaselines.decayedPopularity)),
  ];
}

/** The table a person reads, lines without a newline at the end of the last. */
export function replayTable(result: ReplayResult): string {
  const { rows, total, seconds } = result;
  const at = `@${listLength}`;
  const scored = result.baskets - result.warmUpBaskets;
  const lines = [
    `${result.path}, refresh ${result.refresh}: ${count(result.baskets)} baskets of ${count(result.users)} users and ${count(result.items)} items, the first ${count(result.warmUpBaskets)} only learnt`,
    "",
    ...table([
      ["part", "from", "baskets", `recall${at}`, "own+decayed", "ratio", "novel baskets", `novel recall${at}`, "decayed", "ratio"],
      ...result.tenths.map((part, index) => partRow(`${index + 1}`, part)),
      partRow("total", total),
    ]),
    "",
    ...table([
      ["models and baselines, total", `recall${at}`, "ratio", `novel recall${at}`, "ratio"],
      ...result.models.map(({ name, recall, novelRecall }, index) => [
        index === 0 ? `${name} (above)` : name,
        figure(recall),
        times(ratio(recall, total.baselines.ownHistory)),
        figure(novelRecall),
        times(ratio(novelRecall, total.novelBaselines.decayedPopularity)),
      ]),
      ...(["ownHistory", "decayedPopularity", "popularity"] as const).map((name) => [
        titles[name],
        figure(total.baselines[name]),
        times(ratio(total.baselines[name], total.baselines.ownHistory)),
        figure(total.novelBaselines[name]),
        times(ratio(total.novelBaselines[name], total.novelBaselines.decayedPopularity)),
      ]),
    ]),
    "",
    `rows: ${count(rows.read)} read, ${count(rows.kept)} kept, ${count(rows.read - rows.kept)} dropped`,
    ...dropReasons.filter((reason) => rows.dropped[reason] > 0).map((reason) => `  dropped, ${reason}: ${count(rows.dropped[reason])}`),
    ...(rows.noted.repeatedItem > 0 ? [`  kept, item already in the basket: ${count(rows.noted.repeatedItem)}`] : []),
    ...(rows.noted.otherCustomer > 0 ? [`  kept, another customer than the invoice's first row: ${count(rows.noted.otherCustomer)}`] : []),
    ...(rows.noted.interleaved > 0 ? [`  kept, between rows of another invoice: ${count(rows.noted.interleaved)}`] : []),
    ...result.models.flatMap(({ name, shortLists, boughtInNovelLists }) => [
      ...(shortLists > 0 ? [`${name}, lists shorter than ${listLength}: ${count(shortLists)}`] : []),
      ...(boughtInNovelLists > 0 ? [`${name}, bought items in novel lists: ${count(boughtInNovelLists)}`] : []),
    ]),
    `${seconds.total.toFixed(1)} s: reading twice and counting ${(seconds.total - seconds.recommend - seconds.learn - seconds.baselines).toFixed(1)}, ` +
      `asking ${seconds.recommend.toFixed(1)}${scored === 0 ? "" : ` (${((seconds.recommend * 1_000) / scored).toFixed(2)} ms a scored basket)`}, ` +
      `learning ${count(result.events)} events ${seconds.learn.toFixed(1)}, baselines ${seconds.baselines.toFixed(1)}` +
      (result.models.length < 2 ? "" : `; of asking and learning ${result.models.map((model) => `${model.name} ${model.seconds.toFixed(1)}`).join(", ")}`),
  ];
  return lines.join("\n");
}

function rounded(value: number | undefined, digits = 6): number | null {
  return value === undefined ? null : Number(value.toFixed(digits));
}

function baselineFigures(figures: Readonly<Partial<Record<BaselineName, number | undefined>>>): Record<string, number | null> {
  return Object.fromEntries((Object.keys(figures) as BaselineName[]).map((name) => [jsonNames[name], rounded(figures[name])]));
}

function partFigures(part: PartFigures): Record<string, unknown> {
  return {
    [`recall_at_${listLength}`]: rounded(part.recall),
    [`novel_recall_at_${listLength}`]: rounded(part.novelRecall),
    baselines: baselineFigures(part.baselines),
    novel_baselines: baselineFigures(part.novelBaselines),
    baskets_scored: part.baskets,
    novel_baskets_scored: part.novelBaskets,
  };
}

/** The line a program reads. */
export function replayJson(result: ReplayResult): string {
  const { rows, total, seconds, models } = result;
  return JSON.stringify({
    model: models[0]!.name,
    ...partFigures(total),
    recall_ratio: rounded(ratio(total.recall, total.baselines.ownHistory)),
    novel_recall_ratio: rounded(ratio(total.novelRecall, total.novelBaselines.decayedPopularity)),
    refresh: result.refresh,
    baskets: result.baskets,
    warm_up_baskets: result.warmUpBaskets,
    users: result.users,
    items: result.items,
    events: result.events,
    rows: {
      read: rows.read,
      kept: rows.kept,
      dropped: rows.dropped,
      noted: { repeated_item: rows.noted.repeatedItem, other_customer: rows.noted.otherCustomer, interleaved: rows.noted.interleaved },
    },
    models: Object.fromEntries(
      models.map((model) => [
        model.name,
        {
          [`recall_at_${listLength}`]: rounded(model.recall),
          [`novel_recall_at_${listLength}`]: rounded(model.novelRecall),
          recall_ratio: rounded(ratio(model.recall, total.baselines.ownHistory)),
          novel_recall_ratio: rounded(ratio(model.novelRecall, total.novelBaselines.decayedPopularity)),
          short_lists: model.shortLists,
          bought_in_novel_lists: model.boughtInNovelLists,
          seconds: rounded(model.seconds, 3),
        },
      ]),
    ),
    short_lists: models[0]!.shortLists,
    bought_in_novel_lists: models[0]!.boughtInNovelLists,
    seconds: Object.fromEntries(Object.entries(seconds).map(([name, value]) => [name, rounded(value, 3)])),
    tenths: result.tenths.map(partFigures),
  });
}

/** One line of progress, such as `scoring 55 % of 541,909 rows, 4,210 rows/s, 58 s left, recall@20 0.2493, novel 0.1336`. */
export function progressLine(progress: ReplayProgress): string {
  const { phase, rows, rowsTotal, bytesRead, bytesTotal, rowsPerSecond, secondsLeft, recall, novelRecall } = progress;
  const done = rowsTotal === undefined ? (bytesTotal === 0 ? 0 : bytesRead / bytesTotal) : rows / Math.max(1, rowsTotal);
  return [
    `${phase} ${Math.floor(100 * done)} % of ${rowsTotal === undefined ? `${count(bytesTotal)} bytes` : `${count(rowsTotal)} rows`}`,
    `${count(Math.round(rowsPerSecond))} rows/s`,
    ...(secondsLeft === undefined ? [] : [`${Math.ceil(secondsLeft)} s left`]),
    ...(recall === undefined ? [] : [`recall@${listLength} ${recall.toFixed(4)}`]),
    ...(novelRecall === undefined ? [] : [`novel ${novelRecall.toFixed(4)}`]),
  ].join(", ");
}
