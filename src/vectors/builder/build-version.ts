// Makes a version of a collection out of rows, from the first row to the head of its snapshots. Tasks call it in a process of their own, folds of a collection too.
//   read -> index -> (files, loaded again as a server does) -> tune -> validate -> publish
// Why what was written is loaded again before it is judged: what a server will read is the files, so settings are tuned and recall is measured on them.
// Invariants: 1. the version is begun before the first row is read, so a version that was begun later wins  2. everything is published in one step, or nothing is: whoever ends
// this process anywhere leaves a build that nobody knows, which is removed  3. memory: rows, arrays of the build and the loaded segment together stay below `memoryBytes`, or the
// build fails with `overloaded` before it takes them  4. a version whose checks fail is kept as refused, and the answer says so.
// Cost: docs/design/vectors.md, "Builder". Concurrency: one build a folder. Limits: VersionConfig.

import { MillraceError, toMillraceError } from "#base/errors";
import { crc32cOfBytes } from "#kernel/checksum";
import { MemoryPool } from "#kernel/memory-pool";
import { rowFloats } from "#kernel/vector-layout";
import { normalise } from "#kernel/vector-rows";
import { streamFile } from "#platform/file-stream";
import type { Files } from "#platform/files";
import type { SnapshotFile } from "#snapshot/manifest";
import type { Build, PublishOptions } from "#snapshot/snapshot-build";
import { attributeRoom, loadAttributes, writeAttributes } from "../filter/attribute-files.ts";
import { buildSegment, listsFor, segmentBytes } from "../segment/build-segment.ts";
import { defaultSearchSettings, exhaustiveSettings, searchSettingsLimits, type SearchSettings, settingFigures } from "../segment/search-settings.ts";
import { loadSegment, writeSegment } from "../segment/segment-files.ts";
import type { VectorSegment } from "../segment/vector-segment.ts";
import { GatheredRows } from "./gathered-rows.ts";
import { heldOutCount, splitQueries, takeHeldOut, truthOf } from "./held-out.ts";
import type { VectorRowSource } from "./row-source.ts";
import { tuneFilters } from "./filter-tuner.ts";
import { tune, type Tuned } from "./tuner.ts";
import { checksOf, distinctShare, recallLeast, rowFaults, sameRowFaults, searchFigures, type SearchFigures } from "./validation.ts";
import { type BuildParts, type BuildStage, buildStages, type BuiltVersion, type TrainedLists, type VersionConfig } from "./version-config.ts";
import { encodeVersionMeta, probesOf, type VersionProbes } from "./version-meta.ts";

export const buildVersionLimits = {
  memoryBytesDefault: 2 * 2 ** 30,
  /** Rows asked of a source at once. */
  batchRows: 8_192,
  /** Up to so many rows the number of lists is tried around its rule; of more, only when the target is missed with that: an index of 300,000 rows takes ten seconds. */
  listsTriedRowsMax: 100_000,
  /** CPU time after which no further number of lists is tried. */
  listsTriedCpuMs: 60_000,
  /** Lists of before are kept while at most this share of the rows is new to them, ... */
  changedShareMax: 0.5,
  /** ... and a search costs at most so much of what it did when they were found, for each row. */
  keptCostMax: 1.3,
} as const;

const { listsMax, marginMax } = searchSettingsLimits;
const recallTargetDefault = 0.99;
/** So many times settings that validation finds too narrow are widened before every list is searched. */
const widerSteps = 6;

/** One index over the rows, as files, with what searches of it cost. */
interface Candidate {
  readonly lists: number;
  readonly folder: string;
  readonly files: readonly { readonly name: string; readonly rows: number }[];
  readonly bytesLoaded: number;
  readonly reasons: readonly string[];
  readonly tuned: Tuned | undefined;
  readonly figures: SearchFigures | undefined;
  /** It has the lists of before. */
  readonly kept: boolean;
  readonly probes: VersionProbes;
}

/**
 * Builds and publishes. Throws what the source throws, `invalid` for rows of other dimensions or none at all that fit, `overloaded` for too little memory, the signal's reason.
 * A version that its checks refuse, and one that a later one has overtaken, is no throw: `outcome` says it.
 */
export async function buildVersion(source: VectorRowSource, config: VersionConfig, parts: BuildParts): Promise<BuiltVersion> {
  const { snapshots, files, folder } = parts;
  const watch = new StageWatch(parts);
  await files.removeFolder(folder);
  await files.makeFolder(folder);
  const build = await snapshots.begin(config.collection);
  try {
    watch.enter("read");
    const rows = await readRows(source, config, parts, watch);
    const best = await bestCandidate(rows, config, parts, watch);
    watch.enter("publish");
    return await publishVersion(build, rows, best, config, parts, watch);
  } catch (thrown) {
    await build.abandon().catch(() => undefined);
    throw thrown;
  } finally {
    await files.removeFolder(folder).catch(() => undefined);
  }
}

class StageWatch {
  readonly #parts: BuildParts;
  readonly #spent = Object.fromEntries(buildStages.map((stage) => [stage, { ms: 0, cpuMs: 0 }])) as Record<BuildStage, { ms: number; cpuMs: number }>;
  #stage: BuildStage | undefined;
  #sinceMs = 0;
  #sinceCpuMs = 0;
  rows = 0;

  constructor(parts: BuildParts) {
    this.#parts = parts;
  }

  enter(stage: BuildStage): void {
    this.#leave();
    this.#stage = stage;
    this.show();
  }

  show(share?: number): void {
    if (this.#stage === undefined) return;
    this.#parts.onProgress?.({ stage: this.#stage, rows: this.rows, ...(share === undefined ? {} : { share }) });
  }

  #leave(): void {
    const [ms, cpuMs] = [this.#parts.clock.monotonicMs(), this.#parts.cpuMs()];
    if (this.#stage !== undefined) {
      this.#spent[this.#stage].ms += ms - this.#sinceMs;
      this.#spent[this.#stage].cpuMs += cpuMs - this.#sinceCpuMs;
    }
    [this.#sinceMs, this.#sinceCpuMs] = [ms, cpuMs];
  }

  end(): BuiltVersion["stages"] {
    this.#leave();
    this.#stage = undefined;
    return Object.fromEntries(
      Object.entries(this.#spent).map(([stage, { ms, cpuMs }]) => [stage, { ms: Math.round(ms), cpuMs: Math.round(cpuMs) }]),
    ) as BuiltVersion["stages"];
  }

  get cpuMs(): number {
    return Object.values(this.#spent).reduce((sum, { cpuMs }) => sum + cpuMs, 0) + this.#parts.cpuMs() - this.#sinceCpuMs;
  }
}

async function readRows(source: VectorRowSource, config: VersionConfig, parts: BuildParts, watch: StageWatch): Promise<GatheredRows> {
  const { memoryBytes = buildVersionLimits.memoryBytesDefault, metric } = config;
  const signal = parts.signal ?? new AbortController().signal;
  const rows = new GatheredRows(source.dims, metric, { rowsAbout: source.rowsAbout, bytesMax: Math.floor(memoryBytes / 2) });
  for (;;) {
    signal.throwIfAborted();
    const batch = await source.read(buildVersionLimits.batchRows, signal);
    if (batch === undefined) break;
    rows.add(batch);
    watch.rows = rows.count;
    watch.show(source.rowsAbout === undefined || source.rowsAbout === 0 ? undefined : Math.min(1, rows.count / source.rowsAbout));
  }
  // What the source left out by itself: no vector, or one of another length.
  rows.refused += source.refused ?? 0;
  if (rows.count === 0) {
    const all = rows.refused;
    throw new MillraceError("invalid", `no rows for ${config.collection}${all === 0 ? "" : `: all ${all} were refused (not finite, all zeros, or no id)`}`, {
      todo: "look at the source: an empty version would empty the collection",
    });
  }
  return rows;
}

/** The numbers of lists to try, the rule first. */
function listsToTry(rows: number, config: VersionConfig): number[] {
  if (config.lists !== undefined) return [config.lists];
  const rule = listsFor(rows);
  if (rule <= 1 || config.settings !== undefined) return [rule];
  return [rule, Math.round(rule * 1.6), Math.max(2, Math.round(rule / 1.6))];
}

/** The lists of before, where they may still do. */
function listsOfBefore(rows: GatheredRows, { trained, lists, metric }: VersionConfig): TrainedLists | undefined {
  // Of inner products lists go by length (length-bands.ts) and are found by every build.
  if (trained === undefined || metric === "ip" || trained.changed > buildVersionLimits.changedShareMax * rows.count) return undefined;
  const had = trained.centroids.length / rowFloats(rows.dims);
  const rule = lists ?? listsFor(rows.count);
  // The rule goes by doublings, and few lists may have come out empty.
  return rule > 1 && had >= rule / 1.7 && had <= rule * 1.7 ? trained : undefined;
}

async function bestCandidate(rows: GatheredRows, config: VersionConfig, parts: BuildParts, watch: StageWatch): Promise<Candidate> {
  const before = listsOfBefore(rows, config);
  if (before !== undefined) {
    const candidate = await buildCandidate(rows, before.centroids.length / rowFloats(rows.dims), config, parts, watch, before.centroids);
    const { tuned, figures, reasons } = candidate;
    const costMax = buildVersionLimits.keptCostMax * before.costNs * Math.max(1, rows.count / before.rows);
    const does =
      tuned !== undefined && tuned.met && figures !== undefined && figures.recall >= (config.recallTarget ?? recallTargetDefault) && tuned.cost <= costMax;
    // Rows that cannot be found have nothing to do with the lists: another index would have the same fault.
    if (does || reasons.length > 0) return candidate;
    await parts.files.removeFolder(candidate.folder);
  }
  let best: Candidate | undefined;
  const startedCpuMs = watch.cpuMs;
  for (const lists of listsToTry(rows.count, config)) {
    if (best !== undefined && watch.cpuMs - startedCpuMs > buildVersionLimits.listsTriedCpuMs) break;
    if (best?.tuned?.met === true && rows.count > buildVersionLimits.listsTriedRowsMax) break;
    const candidate = await buildCandidate(rows, lists, config, parts, watch);
    const better =
      best?.tuned === undefined || (candidate.tuned !== undefined && candidate.tuned.met && (!best.tuned.met || candidate.tuned.cost < best.tuned.cost * 0.97));
    if (best === undefined || better) {
      if (best !== undefined) await parts.files.removeFolder(best.folder);
      best = candidate;
    } else {
      await parts.files.removeFolder(candidate.folder);
      // Worse in one direction: the other is tried once, not further.
    }
    if (candidate.reasons.length > 0) break;
  }
  return best!;
}

async function buildCandidate(
  rows: GatheredRows,
  lists: number,
  config: VersionConfig,
  parts: BuildParts,
  watch: StageWatch,
  centroids?: Float32Array,
): Promise<Candidate> {
  const { files, signal, clock } = parts;
  const threads = parts.threads === undefined ? undefined : { ...parts.threads, clock };
  const { memoryBytes = buildVersionLimits.memoryBytesDefault, metric, seed = 1, recallTarget = recallTargetDefault, recallAt = 20 } = config;
  watch.enter("index");
  const { build: buildBytes, loaded } = segmentBytes(rows.count, rows.dims, lists, threads?.count);
  const rowBytes = rows.vectors.byteLength + rows.ids.bytes.length + rows.count * 20;
  const needed = rowBytes + Math.max(buildBytes, loaded);
  if (needed > memoryBytes) {
    throw new MillraceError(
      "overloaded",
      `a version of ${rows.count} rows of ${rows.dims} numbers takes ${Math.ceil(needed / 2 ** 20)} MiB to build, ${Math.floor(memoryBytes / 2 ** 20)} are allowed`,
      {
        todo: "give the task more memory (memoryMb)",
      },
    );
  }
  const folder = files.join(parts.folder, `lists-${lists}`);
  await files.makeFolder(folder);
  let segmentFiles: Candidate["files"];
  {
    // In a block of its own: the arrays of the build are garbage before the segment is loaded.
    const segment = await buildSegment(
      { vectors: rows.vectors, count: rows.count, dims: rows.dims },
      {
        metric,
        lists,
        seed,
        // The lease of the build is renewed between two steps: without a turn of the loop an index of more than its time would cost the build.
        onProgress: (share) => {
          watch.show(share);
          return clock.yield();
        },
        ...(signal === undefined ? {} : { signal }),
        ...(threads === undefined ? {} : { threads }),
        ...(centroids === undefined ? {} : { centroids }),
      },
    );
    segmentFiles = [...(await writeSegment(segment, rows.ids, files, folder)), ...(await writeAttributes(segment.order, rows.attributes, files, folder))];
  }
  watch.enter("tune");
  const pool = new MemoryPool({ capBytes: memoryBytes });
  const failed = {
    lists,
    folder,
    files: segmentFiles,
    bytesLoaded: 0,
    tuned: undefined,
    figures: undefined,
    kept: centroids !== undefined,
    probes: { queries: new Float32Array(0), answers: [], recall: 1 },
  };
  const pathOf = (name: string): string => files.join(folder, name);
  /** As a server does it, attributes too. */
  const load = async (): Promise<VectorSegment> => {
    const loading = await loadSegment(files, pathOf, pool, { owner: `build of ${config.collection}`, extraBytes: await attributeRoom(files, pathOf) });
    try {
      await loadAttributes(files, pathOf, { memory: loading.memory, at: loading.extraAt, room: loading.extraBytes, slots: loading.slots });
      return loading;
    } catch (thrown) {
      loading.release();
      throw thrown;
    }
  };
  let segment: VectorSegment;
  try {
    segment = await load();
  } catch (thrown) {
    const error = toMillraceError(thrown);
    if (error.retryable) throw error;
    return { ...failed, reasons: [`it cannot be loaded: ${error.message}`] };
  }
  try {
    const faults = rowFaults(segment, rows);
    // What it cannot find again is no ground for tuning.
    if (faults.length > 0) return { ...failed, reasons: faults };
    const settingsFirst: SearchSettings = segment.lists > 1 ? defaultSearchSettings : { ...exhaustiveSettings, probes: 1 };
    const outside = config.queries === undefined ? undefined : outsideQueries(config.queries, rows.dims, metric === "cosine", heldOutCount(rows.count * 10));
    // Before queries are taken out: probes are of the version as it is served.
    const probeQueries = outside ?? probeRows(rows, metric === "cosine");
    const queries = outside ?? takeHeldOut(segment, rows, seed);
    const all = await truthOf(segment, queries, recallAt, async (share) => {
      signal?.throwIfAborted();
      watch.show(share * 0.5);
      await clock.yield();
    });
    const { tuning, validation } = splitQueries(all);
    let tuned = tune(segment, tuning, recallTarget, config.settings);
    watch.show(0.8);
    const pause = async (): Promise<void> => {
      signal?.throwIfAborted();
      await clock.yield();
    };
    await pause();
    const filterMargins = tuned.met && segment.lists > 1 ? await tuneFilters(segment, tuning, tuned.settings, recallTarget, pause) : undefined;
    watch.show(1);
    watch.enter("validate");
    const settings = tuned.met ? tuned.settings : settingsFirst;
    let figures = searchFigures(segment, validation, settings, clock);
    // By other queries it is a little below: wider until they are satisfied too, at last every list. Far below: a broken index, and no ground for searching it whole.
    for (let step = 0; tuned.met && figures.recall < recallTarget && figures.recall >= recallLeast(recallTarget) && step <= widerSteps; step++) {
      const { probes, margin, slack } = figures.settings;
      const wider = {
        probes: Math.min(listsMax, Math.ceil(probes * 1.25)),
        margin: Math.min(marginMax, margin + 0.2),
        slack: Math.min(marginMax, slack * 1.2),
      };
      figures = searchFigures(segment, validation, step === widerSteps ? exhaustiveSettings : wider, clock);
      tuned = { ...tuned, settings: figures.settings, cost: figures.cost };
      signal?.throwIfAborted();
      await clock.yield();
    }
    if (filterMargins !== undefined) {
      // Queries that were too easy to tune by were so for filters too.
      const wider = tuned.settings.margin - settings.margin;
      // Settings that were kept keep theirs too, where those are no less.
      const kept = settings.filterMargins ?? [];
      tuned = {
        ...tuned,
        settings: { ...tuned.settings, filterMargins: filterMargins.map((margin, i) => Math.min(marginMax, Math.max(margin, kept[i] ?? 0) + wider)) },
      };
    }
    segment.release();
    segment = await load();
    return { ...failed, bytesLoaded: segment.bytes, reasons: [], tuned, figures, probes: await probesOf(segment, probeQueries, tuned.settings) };
  } finally {
    segment.release();
  }
}

/** Given queries as searches take them, evenly thinned to `max`. */
function outsideQueries(given: Float32Array, dims: number, normalised: boolean, max: number): Float32Array {
  const count = Math.floor(given.length / dims);
  const kept = Math.min(count, max);
  const queries = new Float32Array(kept * dims);
  for (let i = 0; i < kept; i++) {
    const row = Math.floor((i * count) / kept);
    queries.set(given.subarray(row * dims, (row + 1) * dims), i * dims);
  }
  if (normalised) normalise(queries, dims);
  return queries;
}

/** Rows spread over the version: each must find itself. */
function probeRows(rows: GatheredRows, normalised: boolean): Float32Array {
  const { dims, count, vectors } = rows;
  const kept = Math.min(32, count);
  const queries = new Float32Array(kept * dims);
  for (let i = 0; i < kept; i++) {
    const row = Math.floor((i * count) / kept);
    queries.set(vectors.subarray(row * dims, (row + 1) * dims), i * dims);
  }
  if (normalised) normalise(queries, dims);
  return queries;
}

async function publishVersion(
  build: Build,
  rows: GatheredRows,
  best: Candidate,
  config: VersionConfig,
  parts: BuildParts,
  watch: StageWatch,
): Promise<BuiltVersion> {
  const { files, snapshots } = parts;
  const { collection, metric, recallTarget = recallTargetDefault, recallAt = 20, deltaOffset, live = true, checks } = config;
  const { tuned, figures, probes } = best;
  const settings = tuned?.settings ?? exhaustiveSettings;
  const norm = rows.norms();
  const statistics: Record<string, number> = {
    rows: rows.count,
    read: rows.count + rows.refused + rows.replaced,
    refused: rows.refused,
    replaced: rows.replaced,
    distinctShare: distinctShare(rows),
    dims: rows.dims,
    lists: best.lists,
    ...trainedStatistics(rows, best, config),
    deltaOffset,
    ...(config.deltaLog === undefined ? {} : { deltaLog: config.deltaLog }),
    memoryBytes: best.bytesLoaded,
    "norm.mean": norm.mean,
    "norm.deviation": norm.deviation,
    "norm.min": norm.min,
    "norm.max": norm.max,
    ...(tuned === undefined || figures === undefined
      ? {}
      : {
          recall: figures.recall,
          recallTuned: tuned.recall,
          success: figures.success,
          latencyP50Ms: figures.p50Ms,
          latencyP99Ms: figures.p99Ms,
          comparedShare: figures.work.slots / rows.count,
          exactShare: figures.work.exact / rows.count,
          ...Object.fromEntries(Object.entries(settingFigures(settings)).map(([name, value]) => [`settings.${name}`, value])),
        }),
  };
  for (const { name, rows: count } of best.files) {
    parts.signal?.throwIfAborted();
    const path = files.join(best.folder, name);
    await build.putFile({ ...(await sumOf(files, path, name)), rows: count }, files, path);
  }
  const meta = encodeVersionMeta({ dims: rows.dims, metric, settings, deltaOffset, recallTarget, recallAt, probes });
  const options: PublishOptions = {
    checks: best.reasons.length > 0 ? [] : checksOf(recallTarget, checks),
    validate: () => [...best.reasons, ...sameRowFaults(rows, checks)],
    live,
  };
  const bytes = build.files.reduce((sum, file) => sum + file.bytes, 0);
  let outcome: BuiltVersion["outcome"] = live ? "live" : "staged";
  let reasons: readonly string[] = [];
  try {
    await build.publish({ statistics, meta }, options);
  } catch (thrown) {
    // Whatever was thrown: the head says what became of the version.
    const head = await snapshots.head(collection);
    const refused = head?.refused.find(({ version }) => version === build.version);
    if (refused !== undefined) [outcome, reasons] = ["refused", refused.reasons];
    else if (head?.staged.includes(build.version) === true) [outcome, reasons] = ["staged", [toMillraceError(thrown).message]];
    else if (head?.current !== build.version) throw thrown;
  }
  return {
    version: build.version,
    outcome,
    reasons,
    settings,
    rows: rows.count,
    bytes,
    refused: rows.refused,
    replaced: rows.replaced,
    statistics,
    stages: watch.end(),
  };
}

/** What a fold of this version must know of its lists: for which rows they were found, how many are others now, and what a search cost then. */
function trainedStatistics(rows: GatheredRows, { kept, tuned, lists }: Candidate, { trained }: VersionConfig): Record<string, number> {
  if (lists <= 1 || tuned === undefined) return {};
  if (kept && trained !== undefined) return { "trained.rows": trained.rows, "trained.changed": trained.changed, "trained.costNs": trained.costNs };
  return { "trained.rows": rows.count, "trained.changed": 0, "trained.costNs": tuned.cost };
}

const pieceBytes = 1 << 20;

/** Size and checksum of a finished file. */
async function sumOf(files: Files, path: string, name: string): Promise<SnapshotFile> {
  let [bytes, crc] = [0, 0];
  for await (const piece of streamFile(files, path, { chunkBytes: pieceBytes })) {
    crc = crc32cOfBytes(piece, crc);
    bytes += piece.length;
  }
  return { name, bytes, crc32c: crc };
}
