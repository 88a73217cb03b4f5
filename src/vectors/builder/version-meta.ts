// What the manifest of a version of a collection says beyond files and figures: its shape, the settings of its searches, where its writes go on in the log, and probes: queries with the
// answers that the builder got, so that a server can ask them again before it serves the version.
// Why probes beside checksums: a checksum says that the bytes are those that were published; it does not say that this server's code reads them as the builder did, nor that a
// manifest was not made for files that were put together wrongly.
// Invariants: 1. `decode` gives back what is whole and within limits, or throws `corrupt`  2. probe ids and scores are of exact search over the rows of the version.

import { MillraceError } from "#base/errors";
import { createTopK, type TopK } from "#kernel/dot-top-k";
import { slotsUnit } from "#kernel/vector-layout";
import { exactSearch, ExactScan } from "#kernel/vector-rows";
import { isVersion } from "#snapshot/version";
import type { Manifest } from "#snapshot/manifest";
import { parseSearchSettings, type SearchSettings } from "../segment/search-settings.ts";
import type { VectorSegment } from "../segment/vector-segment.ts";
import type { CollectionShape, VectorMetric } from "../vector-service.ts";

export const probeLimits = {
  /** Queries of one version, fewer for long vectors: `numbersMax` numbers together. */
  queriesMax: 32,
  numbersMax: 8_192,
  answersMax: 20,
} as const;

/** Numbers compared between two pauses of a thread that serves. */
const probeNumbersAStep = 1 << 18;

export interface VersionProbes {
  /** Row-major, as a search takes them (cosine: of length 1). */
  readonly queries: Float32Array;
  /** Of each query: ids, best first, and their scores. */
  readonly answers: readonly { readonly ids: readonly string[]; readonly scores: readonly number[] }[];
  /** Share of these that a search by the settings found. */
  readonly recall: number;
}

export interface VectorVersionMeta extends CollectionShape {
  readonly settings: SearchSettings;
  /** Offset in the collection's log of the first write that may be newer than the rows. */
  readonly deltaOffset: number;
  readonly recallTarget: number;
  readonly recallAt: number;
  readonly probes: VersionProbes;
}

/** For `Manifest.meta`. */
export function encodeVersionMeta(meta: VectorVersionMeta): unknown {
  const { queries, answers, recall } = meta.probes;
  return { format: 1, ...meta, probes: { queries: Array.from(queries, nineDigits), answers, recall } };
}

type Fields = Readonly<Record<string, unknown>>;
const isObject = (value: unknown): value is Fields => typeof value === "object" && value !== null && !Array.isArray(value);
const isShare = (value: unknown): value is number => typeof value === "number" && value >= 0 && value <= 1;
const metrics: readonly unknown[] = ["cosine", "ip", "l2"] satisfies VectorMetric[];

/** Reads the meta of a manifest of kind `vectors`. Throws `corrupt`, or `unsupported` for a later format. */
export function versionMetaOf({ name, version, meta }: Pick<Manifest, "name" | "version" | "meta">): VectorVersionMeta {
  const bad = (why: string): MillraceError =>
    new MillraceError("corrupt", `version ${isVersion(version) ? version : "?"} of collection ${name}: ${why}`, { todo: "build it again, or roll back" });
  if (!isObject(meta)) throw bad("its manifest says nothing of vectors");
  if (meta["format"] !== 1)
    throw new MillraceError("unsupported", `version ${version} of collection ${name} has another format`, {
      todo: "use the millrace that built it, or a later one",
    });
  const { dims, metric, deltaOffset, recallTarget, recallAt, probes } = meta;
  if (!Number.isInteger(dims) || (dims as number) < 1 || !metrics.includes(metric)) throw bad("its shape");
  if (!Number.isSafeInteger(deltaOffset) || (deltaOffset as number) < 0) throw bad("its offset in the log");
  if (!isShare(recallTarget) || !Number.isInteger(recallAt)) throw bad("its recall target");
  let settings: SearchSettings;
  try {
    settings = parseSearchSettings(meta["settings"]);
  } catch (cause) {
    throw bad(`its search settings: ${(cause as Error).message}`);
  }
  if (!isObject(probes) || !Array.isArray(probes["queries"]) || !Array.isArray(probes["answers"]) || !isShare(probes["recall"])) throw bad("its probes");
  const queries = floatsOf(probes["queries"]);
  const answers = probes["answers"] as VersionProbes["answers"];
  const good = answers.every(
    (answer) =>
      isObject(answer) &&
      Array.isArray(answer.ids) &&
      Array.isArray(answer.scores) &&
      answer.ids.length === answer.scores.length &&
      answer.ids.length <= probeLimits.answersMax &&
      answer.ids.every((id) => typeof id === "string") &&
      answer.scores.every((score) => typeof score === "number" && Number.isFinite(score)),
  );
  if (!good || queries === undefined || queries.length !== answers.length * (dims as number)) throw bad("its probes");
  return {
    dims: dims as number,
    metric: metric as VectorMetric,
    settings,
    deltaOffset: deltaOffset as number,
    recallTarget,
    recallAt: recallAt as number,
    probes: { queries, answers, recall: probes["recall"] },
  };
}

/** Probes out of queries: what exact search over the loaded version says of them. */
export async function probesOf(segment: VectorSegment, queries: Float32Array, settings: SearchSettings): Promise<VersionProbes> {
  const { dims } = segment.shape;
  const count = Math.min(queries.length / dims, probeLimits.queriesMax, Math.max(1, Math.floor(probeLimits.numbersMax / dims)));
  const k = Math.min(probeLimits.answersMax, segment.liveRows);
  const used = queries.slice(0, count * dims);
  if (k === 0) return { queries: new Float32Array(0), answers: [], recall: 1 };
  const answers = Array.from({ length: count }, (_, q) => {
    const { size, rows, scores } = exactSearch(segment.block, used.subarray(q * dims, (q + 1) * dims), k, createTopK(k));
    return {
      ids: Array.from(rows.subarray(0, size), (slot) => segment.idOf(slot) ?? ""),
      scores: Array.from(scores.subarray(0, size), (score) => Number(score.toPrecision(7))),
    };
  });
  const probes = { queries: used, answers, recall: 1 };
  return { ...probes, recall: await recallOf(segment, probes, settings) };
}

/**
 * Reasons why what was loaded is not the version that was built; empty when it is. Asks every probe exactly and by the settings. Before writes are applied to the segment.
 * Cost: one exact and one usual search a probe; `slice` bounds how many are asked, from the first. `pause`: called after every some tenths of a millisecond, where others wait.
 */
export async function probeFaults(
  segment: VectorSegment,
  meta: VectorVersionMeta,
  slice: number = probeLimits.queriesMax,
  pause?: () => Promise<void>,
): Promise<string[]> {
  const { dims, metric, probes, settings } = meta;
  if (segment.shape.dims !== dims || segment.shape.metric !== metric) {
    return [`its rows are ${segment.shape.dims} numbers compared by ${segment.shape.metric}, the manifest says ${dims} by ${metric}`];
  }
  const reasons: string[] = [];
  const into = createTopK(probeLimits.answersMax);
  const asked = Math.min(slice, probes.answers.length);
  const scan = new ExactScan(segment.block);
  const step = Math.max(slotsUnit, Math.floor(probeNumbersAStep / dims / slotsUnit) * slotsUnit);
  let [wrong, all] = [0, 0];
  for (let q = 0; q < asked; q++) {
    const { ids, scores } = probes.answers[q]!;
    const query = probes.queries.subarray(q * dims, (q + 1) * dims);
    scan.begin(query, Math.max(1, ids.length));
    for (let from = 0; from < segment.slots; from += step) {
      scan.scan(from, Math.min(segment.slots, from + step));
      await pause?.();
    }
    scan.end([into]);
    const found: TopK = into;
    all += ids.length;
    // Scores rank by rank: the order of equal ones is nobody's promise. Ids: those that are clearly above the last score must be there.
    const here = new Map<string, number>();
    for (let i = 0; i < found.size; i++) here.set(segment.idOf(found.rows[i]!) ?? "", found.scores[i]!);
    const last = scores.at(-1) ?? 0;
    const near = 1e-4 * Math.max(1, ...scores.map(Math.abs));
    ids.forEach((id, i) => {
      const score = here.get(id);
      const isTie = Math.abs(scores[i]! - last) <= near;
      if (score === undefined ? !isTie : Math.abs(score - scores[i]!) > near) wrong++;
    });
  }
  if (wrong > 0) reasons.push(`${wrong} of ${all} answers to its probe queries are others than its builder got`);
  if (asked > 0 && reasons.length === 0) {
    const recall = await recallOf(segment, { ...probes, answers: probes.answers.slice(0, asked) }, settings, pause);
    // Another kernel rounds otherwise: a few answers at the edge may differ.
    if (recall < Math.min(meta.recallTarget, probes.recall) - 0.05) {
      reasons.push(`its probe queries find ${(recall * 100).toFixed(1)} % of the nearest rows, its builder found ${(probes.recall * 100).toFixed(1)} %`);
    }
  }
  return reasons;
}

async function recallOf(segment: VectorSegment, { queries, answers }: VersionProbes, settings: SearchSettings, pause?: () => Promise<void>): Promise<number> {
  const { dims } = segment.shape;
  const into = createTopK(probeLimits.answersMax);
  let [hits, all] = [0, 0];
  for (const [q, { ids }] of answers.entries()) {
    const answer = segment.search(queries.subarray(q * dims, (q + 1) * dims), settings, into);
    const found = new Set(Array.from(answer.rows.subarray(0, Math.min(answer.size, ids.length)), (slot) => segment.idOf(slot)));
    all += ids.length;
    for (const id of ids) if (found.has(id)) hits++;
    await pause?.();
  }
  return all === 0 ? 1 : hits / all;
}

/** As few digits as read back as the same f32. */
const nineDigits = (number: number): number => Number(number.toPrecision(9));

function floatsOf(numbers: readonly unknown[]): Float32Array | undefined {
  return numbers.every((number) => typeof number === "number" && Number.isFinite(number)) ? Float32Array.from(numbers) : undefined;
}
