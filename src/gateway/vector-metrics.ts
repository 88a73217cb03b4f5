// Vector collections as gauges of /metrics, and what a server with them waits for. Read when somebody asks; nothing is counted twice.

import type { ServedCollections } from "#vectors/served-collections";
import type { CollectionStatus, VectorsStatus } from "#vectors/vector-service";
import type { GaugeSource } from "./store-metrics.ts";

/** What /health/ready waits for: each collection of the configuration that is not there or failed, with the reason. */
export function collectionsWaitedFor(declared: Iterable<string>, vectors: Pick<ServedCollections, "shapeOf" | "status">): string[] {
  const { collections } = vectors.status();
  return [...declared].flatMap((name) => {
    const failure = collections.find((one) => one.name === name)?.failure;
    if (failure !== undefined) return [`vector collection ${name} is in trouble: ${failure}`];
    return vectors.shapeOf(name) === undefined ? [`vector collection ${name} is not open`] : [];
  });
}

export function vectorGauges(vectors: Pick<ServedCollections, "status" | "cache">): GaugeSource[] {
  const gauge = (name: string, help: string, read: GaugeSource["read"]): GaugeSource => ({ name: `rec_vectors_${name}`, help, read });
  const status = (name: string, help: string, of: (all: VectorsStatus) => number): GaugeSource => gauge(name, help, () => of(vectors.status()));
  const per = (name: string, help: string, of: (collection: CollectionStatus) => number | undefined): GaugeSource => ({
    ...gauge(name, help, () =>
      vectors.status().collections.flatMap((one): (readonly [string, number])[] => {
        const value = of(one);
        return value === undefined ? [] : [[one.name, value]];
      }),
    ),
    label: "collection",
  });
  const cache = (name: string, help: string, of: (counts: ServedCollections["cache"]["counts"]) => number): GaugeSource =>
    gauge(name, help, () => of(vectors.cache.counts));
  return [
    status("memory_bytes", "Memory of all collections with their spare versions", ({ memoryBytes }) => memoryBytes),
    status("memory_limit_bytes", "Beyond it writes and loads are refused", ({ memoryBytesMax }) => memoryBytesMax),
    status(
      "loop_stall_max_ms",
      "Longest time that the vectors thread did not look at its messages, of the last minutes",
      ({ loopStallMaxMs }) => loopStallMaxMs,
    ),
    per("elements", "Elements that a search can find", ({ elements }) => elements),
    per("base_rows", "Rows of the version that serves", ({ baseRows }) => baseRows),
    per("tail_rows", "Rows written since", ({ tailRows }) => tailRows),
    per("tail_unlisted_rows", "Those of them that are in no list of the version, so that every search compares them", ({ tailUnlisted }) => tailUnlisted),
    per("deleted_rows", "Rows of the version that were deleted or overwritten since", ({ deletedRows }) => deletedRows),
    per("bytes", "Memory of the collection", ({ bytes }) => bytes),
    per("versions", "Versions that are loaded", ({ versions }) => versions.length),
    per("upserts", "Rows added or overwritten since the start", ({ upserts }) => upserts),
    per("removes", "Rows removed since the start", ({ removes }) => removes),
    per("searches", "Queries since the start, those that the cache answered not among them", ({ searches }) => searches),
    per("search_p50_seconds", "Median time of a search in the vectors thread", ({ searchP50Ms }) => searchP50Ms / 1_000),
    per("search_p99_seconds", "99th percentile of it", ({ searchP99Ms }) => searchP99Ms / 1_000),
    per("recall", "Share of the exact answers that sampled live queries found; none before the first sample", ({ recall }) => recall?.value),
    per("recall_samples", "Queries behind it", ({ recall }) => recall?.samples),
    per("folding", "1 while a fold is under way", ({ folding }) => Number(folding !== undefined)),
    per("folds", "Folds since the start", ({ folds }) => folds),
    per("in_trouble", "1 while something failed that is not made good: alarm on it", ({ failure }) => Number(failure !== undefined)),
    cache("cache_hits", "Searches answered by the cache of results since the start", ({ hits }) => hits),
    cache("cache_misses", "Searches that it did not know", ({ misses }) => misses),
    cache("cache_hit_ratio", "Hits of all that asked it since the start; 0 before the first", ({ hits, misses }) =>
      hits + misses === 0 ? 0 : hits / (hits + misses),
    ),
    cache("cache_invalidated", "Answers thrown away because their collection changed", ({ invalidated }) => invalidated),
    cache("cache_bytes", "What the cache holds", ({ bytes }) => bytes),
  ];
}
