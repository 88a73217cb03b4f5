// A fold: the rows of a version and of the log after it, as a new version. In a process of its own: it reads the files of the version and the log, as any server does, and asks the server for
// nothing; so a fold that dies is begun again, and no search or write knows of it.
//   version (files) -> view -> log up to `toOffset` -> rows -> buildVersion -> staged; the server puts it live if what it served is still live
// Why staged first: an operator who rolled back meanwhile must not find the version he left live again under another name.
// Invariants: 1. what the version holds is the version of before and the records below `toOffset`, and its `deltaOffset` is that  2. `toOffset` was synced before: no version holds a write
// that a power cut can take from the log  3. search settings of before are kept where they still meet the target; so are its lists, while at most half of the rows are new to them and searches
// cost about what they did when the lists were found.
// Cost: the base, the rows and the new base in memory at once: bounded by `memoryBytes`.

import { MillraceError } from "#base/errors";
import type { Log } from "#backbone/log";
import { MemoryPool } from "#kernel/memory-pool";
import type { Clock } from "#platform/clock";
import type { Files } from "#platform/files";
import { fetchVersion, type FetchedFile } from "#snapshot/fetch-version";
import type { Manifest } from "#snapshot/manifest";
import type { SnapshotStore } from "#snapshot/snapshot-store";
import { buildVersion } from "../builder/build-version.ts";
import type { VectorRowBatch, VectorRowSource } from "../builder/row-source.ts";
import type { BuiltVersion, TrainedLists } from "../builder/version-config.ts";
import type { BaseVersion } from "./base-version.ts";
import { type CollectionRecord, deltaPartition, snapshotNameOf } from "./collection-record.ts";
import { CollectionView } from "./collection-view.ts";
import { replayLog } from "./live-collection.ts";

export interface FoldJob {
  readonly record: CollectionRecord;
  /** The version that is folded; "": only the log. */
  readonly version: string;
  /** Up to before which the log is taken in. */
  readonly toOffset: number;
  readonly recallTarget: number;
  readonly recallAt: number;
  /** Below so many rows the version has no lists. */
  readonly exactBelowRows: number;
  /** Of the process: what is read and what is built take at most `foldShare` of it each. */
  readonly memoryBytes: number;
}

const foldShare = 0.42;

export interface FoldParts {
  readonly snapshots: SnapshotStore;
  readonly log: Log;
  readonly files: Files;
  readonly clock: Clock;
  /** Of this fold alone. */
  readonly folder: string;
  readonly cpuMs: () => number;
  readonly loadBase: (manifest: Manifest, files: readonly FetchedFile[], pool: MemoryPool, owner: string, signal: AbortSignal) => Promise<BaseVersion>;
  readonly onProgress?: (share: number) => void;
  readonly signal?: AbortSignal;
}

/** Builds the version and leaves it staged (or refused, with reasons). */
export async function foldVersion(job: FoldJob, parts: FoldParts): Promise<BuiltVersion> {
  const { record, version, toOffset } = job;
  const memoryBytes = Math.floor(job.memoryBytes * foldShare);
  const { snapshots, files, clock, folder, log, loadBase, onProgress, signal = new AbortController().signal } = parts;
  const name = snapshotNameOf(record.name);
  const pool = new MemoryPool({ capBytes: memoryBytes });
  const owner = `fold of ${record.name}`;
  let base: BaseVersion | undefined;
  let statistics: Manifest["statistics"] = {};
  if (version !== "") {
    const manifest = await snapshots.manifest(name, version);
    const fetched = await fetchVersion({
      files,
      clock,
      folder: files.join(folder, "base"),
      manifest,
      wants: () => true,
      signal,
      read: (file, start, end) => snapshots.read(manifest, file, start, end, signal),
      pathOf: (file) => snapshots.pathOf(manifest, file),
      loadVerifies: false,
      onProgress: () => undefined,
    });
    base = await loadBase(manifest, fetched, pool, owner, signal);
    ({ statistics } = manifest);
  }
  const view = new CollectionView({ shape: record, pool, owner, ...(base === undefined ? {} : { base }) });
  try {
    await replayLog({ log, partition: deltaPartition(record.id), view, upTo: () => toOffset, clock, signal, sliceMs: 50 });
    if (view.elements === 0)
      throw new MillraceError("invalid", `collection ${record.name} is empty, there is nothing to fold`, { todo: "nothing: it is folded when it has rows" });
    const source = rowsOf(view);
    const settings = base === undefined ? undefined : base.settings;
    const trained = trainedOf(view, statistics);
    return await buildVersion(
      source,
      {
        collection: name,
        metric: record.metric,
        recallTarget: job.recallTarget,
        recallAt: job.recallAt,
        deltaOffset: toOffset,
        deltaLog: record.id,
        live: false,
        memoryBytes,
        ...(settings === undefined ? {} : { settings }),
        ...(trained === undefined ? {} : { trained }),
        ...(view.elements < job.exactBelowRows ? { lists: 1 } : {}),
        // What was written and deleted on purpose may halve a collection: every row must be there, no more is asked of their number.
        checks: [
          { statistic: "rows", min: view.elements, max: view.elements },
          { statistic: "norm.mean", min: 0, optional: true },
          { statistic: "norm.max", min: 0, optional: true },
        ],
      },
      {
        snapshots,
        files,
        clock,
        folder: files.join(folder, "build"),
        cpuMs: parts.cpuMs,
        signal,
        onProgress: ({ share = 0, stage }) =>
          onProgress?.(stage === "read" ? share * 0.2 : stage === "index" ? 0.2 + share * 0.5 : stage === "tune" ? 0.7 + share * 0.2 : 0.9),
      },
    );
  } finally {
    view.release();
    await files.removeFolder(folder).catch(() => undefined);
  }
}

/** The lists of the base, and how many rows are new to them by now: those of folds before, and of this one. Undefined for a version that does not say what they were found for. */
function trainedOf(view: CollectionView, statistics: Readonly<Record<string, number>>): TrainedLists | undefined {
  const centroids = view.base?.segment.centroids();
  const { "trained.rows": rows, "trained.changed": changed, "trained.costNs": costNs } = statistics;
  if (centroids === undefined || rows === undefined || changed === undefined || costNs === undefined) return undefined;
  return { centroids, rows, changed: changed + Math.max(view.tail.liveRows, view.deletedRows), costNs };
}

/** The rows of a view as they were written. It must not change meanwhile. */
export function rowsOf(view: CollectionView): VectorRowSource {
  const { dims, metric } = view.shape;
  const places = view.places();
  return {
    dims,
    rowsAbout: view.elements,
    read(rowsMax, signal): Promise<VectorRowBatch | undefined> {
      signal.throwIfAborted();
      const ids: string[] = [];
      const attributes: (string | undefined)[] = [];
      const vectors = new Float32Array(rowsMax * dims);
      const row = new Float32Array(dims);
      while (ids.length < rowsMax) {
        const next = places.next();
        if (next.done === true) break;
        const place = next.value;
        view.vectorAt(place, row);
        const norm = metric === "cosine" ? view.normAt(place) : 1;
        const at = ids.length * dims;
        for (let j = 0; j < dims; j++) vectors[at + j] = row[j]! * norm;
        ids.push(view.elementAt(place));
        attributes.push(view.attributesAt(place));
      }
      return Promise.resolve(ids.length === 0 ? undefined : { ids, vectors: vectors.subarray(0, ids.length * dims), attributes });
    },
    close: () => Promise.resolve(),
  };
}
