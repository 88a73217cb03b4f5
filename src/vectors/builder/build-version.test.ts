// Guards that a version is what went in, is tuned to its target, goes live as a whole or not at all, and that a bad one is refused: at the build, and by a server that loads it.
// Real files, kernels and snapshots; what is damaged is damaged on its way to the disk, or there.

import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { createMemoryRegistry } from "#backbone/memory-registry";
import { openFolderBlobs } from "#backbone/folder-blobs";
import { Prng } from "#base/prng";
import { MemoryPool } from "#kernel/memory-pool";
import { ownCpuMs } from "#platform/own-cpu";
import type { Files } from "#platform/files";
import { systemClock } from "#platform/system-clock";
import { systemFiles } from "#platform/system-files";
import { systemProcesses } from "#platform/system-processes";
import { systemRandom } from "#platform/system-random";
import type { SnapshotAlarm } from "#snapshot/alarm";
import { SnapshotStore } from "#snapshot/snapshot-store";
import { vectorStatistics } from "#wire/vector-task-config";
import { loadSegment } from "../segment/segment-files.ts";
import type { VectorSegment } from "../segment/vector-segment.ts";
import { buildVersion } from "./build-version.ts";
import { rowsInMemory, type VectorRowSource } from "./row-source.ts";
import { type BuildParts, type BuiltVersion, vectorsKind, type VersionConfig } from "./version-config.ts";
import { probeFaults, type VectorVersionMeta, versionMetaOf } from "./version-meta.ts";

interface Rows {
  readonly ids: string[];
  readonly vectors: Float32Array;
  readonly dims: number;
  readonly attributes?: (string | undefined)[];
}

const seed = Number(process.env["SEED"] ?? 11);

/** Rows about 200 centres. */
function clustered(count: number, dims: number, name = "rows"): Rows {
  const random = new Prng(seed).fork(name);
  const centres = Float32Array.from({ length: 200 * dims }, () => random.normal());
  const vectors = new Float32Array(count * dims);
  for (let row = 0; row < count; row++) {
    const centre = random.below(200) * dims;
    for (let j = 0; j < dims; j++) vectors[row * dims + j] = centres[centre + j]! + 0.5 * random.normal();
  }
  return { ids: Array.from({ length: count }, (_, i) => `item-${i}`), vectors, dims };
}

interface World {
  readonly folder: string;
  readonly snapshots: SnapshotStore;
  readonly alarms: SnapshotAlarm[];
  build(rows: Rows, config?: Partial<VersionConfig>, parts?: Partial<BuildParts>): Promise<BuiltVersion>;
  /** As a server does it: the manifest, the files, the segment. */
  load(version: string): Promise<{ segment: VectorSegment; meta: VectorVersionMeta }>;
  /** Where the files of a version lie, by name. */
  filesOf(version: string): Promise<Map<string, string>>;
}

async function within(body: (world: World) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "millrace-build-"));
  const registry = createMemoryRegistry({ clock: systemClock });
  const alarms: SnapshotAlarm[] = [];
  const blobs = openFolderBlobs({ files: systemFiles, folder: join(folder, "blobs"), processes: systemProcesses });
  const snapshots = new SnapshotStore({ blobs, registry, clock: systemClock, random: systemRandom, kind: vectorsKind, onAlarm: (alarm) => alarms.push(alarm) });
  const pool = new MemoryPool();
  const loaded: VectorSegment[] = [];
  const world: World = {
    folder,
    snapshots,
    alarms,
    build: (rows, config = {}, parts = {}) =>
      buildVersion(
        rowsInMemory(rows),
        { collection: "items", metric: "cosine", deltaOffset: 42, ...config },
        { snapshots, files: systemFiles, clock: systemClock, folder: join(folder, "work"), cpuMs: ownCpuMs, ...parts },
      ),
    async filesOf(version) {
      const manifest = await snapshots.manifest("items", version);
      return new Map(manifest.files.map((file) => [file.name, snapshots.pathOf(manifest, file)!]));
    },
    async load(version) {
      const manifest = await snapshots.manifest("items", version);
      const at = await world.filesOf(version);
      const segment = await loadSegment(systemFiles, (name) => at.get(name) ?? join(folder, "nothing"), pool, { owner: version });
      loaded.push(segment);
      return { segment, meta: versionMetaOf(manifest) };
    },
  };
  try {
    await body(world);
  } finally {
    for (const segment of loaded) segment.release();
    await registry.close();
    await rm(folder, { recursive: true, force: true });
  }
}

for (const metric of ["cosine", "ip", "l2"] as const) {
  test(`promise: a version holds the rows that went in, and its searches reach the target (${metric})`, () =>
    within(async (world) => {
      const rows = clustered(8_000, 16);
      const attributes = rows.ids.map((_, i) => (i % 3 === 0 ? JSON.stringify({ price: i }) : undefined));
      const built = await world.build({ ...rows, attributes }, { metric, recallTarget: 0.97, lists: 64 });
      assert.equal(built.outcome, "live", built.reasons.join("; "));
      assert.equal(built.rows, 8_000);
      assert.ok(built.statistics["recall"]! >= 0.97, `recall ${built.statistics["recall"]}`);
      assert.ok(built.statistics["comparedShare"]! < 0.9, `it compares ${built.statistics["comparedShare"]} of the rows: an index is of use`);
      assert.ok(built.stages.index.ms > 0 && built.stages.tune.ms > 0);
      const { segment, meta } = await world.load(built.version);
      assert.deepEqual([segment.rows, segment.liveRows, meta.metric, meta.dims, meta.deltaOffset], [8_000, 8_000, metric, 16, 42]);
      assert.deepEqual(meta.settings, built.settings);
      assert.deepEqual(await probeFaults(segment, meta), []);
      assert.ok([...(await world.filesOf(built.version)).keys()].some((name) => name.startsWith("attributes.")));
      assert.deepEqual(await systemFiles.list(join(world.folder, "work")), undefined, "nothing is left of the work");
    }));
}

test("few rows, equal ids and bad rows: what remains is served exactly", () =>
  within(async (world) => {
    const built = await world.build({ ids: ["a", "b", "a", "bad", "zero"], vectors: Float32Array.of(1, 0, 0, 1, 3, 4, Number.NaN, 1, 0, 0), dims: 2 });
    assert.deepEqual([built.outcome, built.rows, built.refused, built.replaced], ["live", 2, 2, 1], built.reasons.join("; "));
    const { segment } = await world.load(built.version);
    const stored = new Float32Array(2);
    segment.vectorOf(segment.slotOf("a")!, stored);
    assert.ok(Math.abs(stored[0]! - 0.6) < 1e-6 && Math.abs(stored[1]! - 0.8) < 1e-6, "the later row of an id counts");
    await assert.rejects(world.build({ ids: ["bad"], vectors: Float32Array.of(Number.NaN, 1), dims: 2 }), { code: "invalid", message: /no rows/ });
    await assert.rejects(world.build(clustered(5_000, 16), { memoryBytes: 200_000 }), { code: "overloaded", message: /memoryMb/ });
    const head = await world.snapshots.head("items");
    assert.deepEqual([head?.current, (await world.snapshots.versions("items")).length], [built.version, 1], "what failed left nothing");
  }));

test("promise: a version that shrank, or whose vectors grew, is refused, kept with its reasons, and the live one stays", () =>
  within(async (world) => {
    const rows = clustered(4_000, 8);
    const good = await world.build(rows, { metric: "ip" });
    const shrunk = await world.build({ ...rows, ids: rows.ids.slice(0, 1_000), vectors: rows.vectors.slice(0, 8_000) }, { metric: "ip" });
    assert.equal(shrunk.outcome, "refused");
    assert.match(shrunk.reasons.join(), /rows fell from 4000 to 1000/);
    const grown = await world.build({ ...rows, vectors: rows.vectors.map((number) => number * 3) }, { metric: "ip" });
    assert.match(grown.reasons.join(), /norm\.mean rose/);
    const own = await world.build(rows, { metric: "ip", checks: [{ statistic: "latencyP99Ms", max: 0.000_001 }] });
    assert.match(own.reasons.join(), /latencyP99Ms is/);
    // A task may allow it.
    const meant = await world.build(
      { ...rows, ids: rows.ids.slice(0, 1_000), vectors: rows.vectors.slice(0, 8_000) },
      { metric: "ip", checks: [{ statistic: "rows", min: 10 }], live: false },
    );
    assert.equal(meant.outcome, "staged");
    const states = (await world.snapshots.versions("items")).map(({ version, state }) => [version, state]);
    assert.deepEqual(states, [
      [meant.version, "staged"],
      [own.version, "refused"],
      [grown.version, "refused"],
      [shrunk.version, "refused"],
      [good.version, "live"],
    ]);
    assert.equal(world.alarms.length, 3);
  }));

test("promise: rows that are all equal are refused, unless the task says what it takes; a build measures what checks may name", () =>
  within(async (world) => {
    const rows = clustered(400, 8);
    const equal = { ...rows, vectors: rows.vectors.map((_, i) => 1 + (i % 8)) };
    const refused = await world.build(equal);
    assert.deepEqual([refused.outcome, refused.statistics["distinctShare"]], ["refused", 1 / 400]);
    assert.match(refused.reasons.join(), /all 400 rows are equal/);
    const meant = await world.build(equal, { checks: [{ statistic: "distinctShare", min: 0 }] });
    assert.equal(meant.outcome, "live", meant.reasons.join());
    const wanted = await world.build(equal, { checks: [{ statistic: "distinctShare", min: 0.5 }] });
    assert.match(wanted.reasons.join(), /distinctShare is 0\.0025, at least 0\.5 is wanted/);
    const good = await world.build(rows, { collection: "good" });
    assert.deepEqual([good.outcome, good.statistics["distinctShare"]], ["live", 1]);
    const few = await world.build({ ids: ["a", "b"], vectors: Float32Array.of(1, 2, 1, 2), dims: 2 }, { collection: "few" });
    assert.equal(few.outcome, "live", "two equal rows are no broken source");
    const measured = new Set([...Object.keys(good.statistics), "files", "bytes"]);
    assert.deepEqual(
      vectorStatistics.filter((name) => !measured.has(name)),
      [],
    );
  }));

test("rows that the source left out by itself are counted, and too many of them refuse the version", () =>
  within(async (world) => {
    const { ids, vectors, dims } = clustered(100, 8);
    const source = (refused: number): VectorRowSource => ({ ...rowsInMemory({ ids, vectors, dims }), refused });
    const parts = { snapshots: world.snapshots, files: systemFiles, clock: systemClock, folder: join(world.folder, "work"), cpuMs: ownCpuMs };
    const config = { collection: "items", metric: "cosine", deltaOffset: 0 } as const;
    const good = await buildVersion(source(90), config, parts);
    assert.deepEqual([good.outcome, good.refused, good.statistics["read"]], ["live", 90, 190], good.reasons.join());
    const bad = await buildVersion(source(110), config, parts);
    assert.equal(bad.outcome, "refused");
    assert.match(bad.reasons.join(), /refused per read is 0\.52381, at most 0\.5 is allowed/);
  }));

test("promise: settings that unseen queries find a little short are widened to the target; where they fall far short the version is refused", () =>
  within(async (world) => {
    const rows = clustered(3_000, 16);
    const random = new Prng("queries of two kinds");
    /** Rows tune; every third query, which validates, is a row moved by so much. */
    const queriesOf = (moved: number): Float32Array => {
      const queries = new Float32Array(600 * 16);
      for (let q = 0; q < 600; q++) {
        const row = random.below(3_000) * 16;
        for (let j = 0; j < 16; j++) queries[q * 16 + j] = rows.vectors[row + j]! + (q % 3 === 2 ? moved * random.normal() : 0);
      }
      return queries;
    };
    const config = { recallTarget: 0.95, lists: 32, live: false };
    // How far rows must be moved for a little hangs on the rows.
    let widened = false;
    for (const moved of [0.3, 0.4, 0.45, 0.5, 0.6]) {
      const { outcome, statistics, settings } = await world.build(rows, { ...config, queries: queriesOf(moved) });
      const recall = statistics["recall"]!;
      assert.ok(outcome === "staged" ? recall >= 0.95 : recall < 0.925, `${outcome} with recall ${recall}`);
      // Slacks that tuning tries have one decimal.
      widened = outcome === "staged" && settings.slack !== Math.round(settings.slack * 10) / 10;
      if (widened) break;
    }
    assert.ok(widened);
    const far = await world.build(rows, { ...config, queries: queriesOf(30) });
    assert.equal(far.outcome, "refused");
    assert.match(far.reasons.join(), /recall is 0\.[0-9]+, at least 0\.925 is wanted/);
    assert.ok(far.statistics["recallTuned"]! >= 0.95);
  }));

/** Files that spoil one file of a segment on its way to the disk. */
function spoiling(spoils: (name: string, bytes: Uint8Array) => Uint8Array | undefined): Files {
  return {
    ...systemFiles,
    async syncFolder(folder) {
      for (const name of (await systemFiles.list(folder)) ?? []) {
        if (!name.startsWith("segment.")) continue;
        const path = join(folder, name);
        const spoiled = spoils(name, await readFile(path));
        if (spoiled !== undefined) await writeFile(path, spoiled);
      }
      await systemFiles.syncFolder(folder);
    },
  };
}

/** Where the numbers of a .npy file begin. */
const headBytes = (bytes: Uint8Array): number => 10 + bytes[8]! + bytes[9]! * 256;

/** Exchanges rows of `width` bytes, the first with the last and so on, at most `rowsMax` of them. */
function turned(bytes: Uint8Array, width: number, rowsMax = Infinity): Uint8Array {
  // Not slice: a buffer's shares its bytes.
  const result = Uint8Array.from(bytes);
  const from = headBytes(bytes);
  const rows = Math.min(rowsMax, Math.floor((bytes.length - from) / width));
  for (let row = 0; row < rows; row++) result.set(bytes.subarray(from + (rows - 1 - row) * width, from + (rows - row) * width), from + row * width);
  return result;
}

test("promise: an index that was corrupted, cut or shuffled between building and disk is refused at the build", () =>
  within(async (world) => {
    const rows = clustered(6_000, 16);
    const good = await world.build(rows, { lists: 24 });
    assert.equal(good.outcome, "live", good.reasons.join("; "));
    const damages: [string, (name: string, bytes: Uint8Array) => Uint8Array | undefined, RegExp][] = [
      ["rows shuffled", (name, bytes) => (name === "segment.rows.npy" ? turned(bytes, 64, 500) : undefined), /other numbers|cannot be loaded/],
      ["rows cut", (name, bytes) => (name === "segment.rows.npy" ? bytes.subarray(0, bytes.length - 640) : undefined), /cannot be loaded/],
      [
        "rows that are no numbers",
        (name, bytes) => (name === "segment.rows.npy" ? bytes.with(headBytes(bytes) + 3, 0x7f).with(headBytes(bytes) + 2, 0xff) : undefined),
        /cannot be loaded|other numbers/,
      ],
      ["ids shrunk", (name, bytes) => (name === "segment.ids.npy" ? bytes.subarray(0, bytes.length / 2) : undefined), /cannot be loaded/],
      ["a file of another kind", (name) => (name === "segment.starts.npy" ? new Uint8Array(200) : undefined), /cannot be loaded/],
      ["centroids shuffled", (name, bytes) => (name === "segment.centroids.npy" ? turned(bytes, 64) : undefined), /recall is|cannot be loaded|success is/],
      ["codes of other rows", (name, bytes) => (name === "segment.codes4.npy" ? turned(bytes, 128) : undefined), /recall is|cannot be loaded|success is/],
    ];
    for (const [what, spoils, words] of damages) {
      const bad = await world.build(rows, { lists: 24 }, { files: spoiling(spoils) });
      // A tuner makes up for much: then searches are slow, and it says so.
      if (what.startsWith("centroids") || what.startsWith("codes")) {
        if (bad.outcome === "refused") assert.match(bad.reasons.join("; "), words, what);
        else {
          const work = ({ statistics }: BuiltVersion): number => statistics["comparedShare"]! + statistics["exactShare"]! * 10;
          assert.ok(work(bad) > 1.2 * work(good), `${what} went unnoticed: ${work(bad)} and ${work(good)}`);
        }
        continue;
      }
      assert.equal(bad.outcome, "refused", what);
      assert.match(bad.reasons.join("; "), words, what);
      assert.equal((await world.snapshots.head("items"))?.current, good.version, what);
    }
  }));

test("promise: a server that asks a version's probes notices files that are not those that were built", () =>
  within(async (world) => {
    const rows = clustered(6_000, 16);
    const built = await world.build(rows, { lists: 24 });
    const at = await world.filesOf(built.version);
    const kept = new Map<string, Uint8Array>();
    for (const [name, path] of at) kept.set(name, await readFile(path));
    const { meta } = await world.load(built.version);
    const faultsWith = async (name: string, spoil: (bytes: Uint8Array) => Uint8Array): Promise<string[]> => {
      await writeFile(at.get(name)!, spoil(kept.get(name)!));
      try {
        return await probeFaults((await world.load(built.version)).segment, meta);
      } catch (thrown) {
        return [(thrown as Error).message];
      } finally {
        await writeFile(at.get(name)!, kept.get(name)!);
      }
    };
    assert.match((await faultsWith("segment.rows.npy", (bytes) => turned(bytes, 64))).join(), /probe queries|corrupt/);
    assert.match((await faultsWith("segment.rows.npy", (bytes) => bytes.subarray(0, 4_000))).join(), /corrupt/);
    assert.match(
      (await faultsWith("segment.live.npy", (bytes) => bytes.map((byte, i) => (i < headBytes(bytes) + 300 && i >= headBytes(bytes) ? 0 : byte)))).join(),
      /probe queries|corrupt/,
    );
    // Another version's rows under this one's manifest.
    const other = await world.build(clustered(6_000, 16, "others"), { lists: 24 });
    assert.match((await probeFaults((await world.load(other.version)).segment, meta)).join(), /probe queries/);
    assert.deepEqual(await probeFaults((await world.load(built.version)).segment, meta), []);
  }));

test("a fold keeps the settings of before while they reach the target; a build that was overtaken is staged", () =>
  within(async (world) => {
    const rows = clustered(8_000, 16);
    const first = await world.build(rows, { recallTarget: 0.97, lists: 64 });
    const second = await world.build(rows, { recallTarget: 0.97, lists: 64, settings: first.settings });
    assert.deepEqual(second.settings, first.settings);
    assert.ok(second.statistics["lists"] === first.statistics["lists"] || first.statistics["lists"] !== undefined);
    // Begun first, ended last.
    const begun = Promise.withResolvers<void>();
    const goOn = Promise.withResolvers<void>();
    const source = rowsInMemory(clustered(2_000, 16));
    const slow = buildVersion(
      {
        ...source,
        dims: 16,
        async read(rowsMax, signal) {
          begun.resolve();
          await goOn.promise;
          return source.read(rowsMax, signal);
        },
      },
      { collection: "items", metric: "cosine", deltaOffset: 0, checks: [{ statistic: "rows", min: 1 }] },
      { snapshots: world.snapshots, files: systemFiles, clock: systemClock, folder: join(world.folder, "slow"), cpuMs: ownCpuMs },
    );
    await begun.promise;
    const third = await world.build(rows, { settings: first.settings, recallTarget: 0.97, lists: 64 });
    goOn.resolve();
    assert.equal((await slow).outcome, "staged");
    assert.equal((await world.snapshots.head("items"))?.current, third.version);
  }));

test("promise: lists of before are kept while they do as well, and found anew when too much is new to them or searches got dearer", () =>
  within(async (world) => {
    const rows = clustered(8_000, 16);
    const config = { recallTarget: 0.97, lists: 64, metric: "cosine" } as const;
    const first = await world.build(rows, config);
    const { segment } = await world.load(first.version);
    const found = { rows: first.statistics["trained.rows"]!, changed: first.statistics["trained.changed"]!, costNs: first.statistics["trained.costNs"]! };
    assert.deepEqual([found.rows, found.changed], [8_000, 0]);
    const centroids = segment.centroids()!;
    assert.equal(centroids.length, segment.lists * 16);
    // A tenth is new.
    const next = { ...rows, vectors: Float32Array.from(rows.vectors) };
    next.vectors.set(rows.vectors.subarray(0, 800 * 16), 7_200 * 16);
    const kept = await world.build(next, { ...config, settings: first.settings, trained: { ...found, centroids, changed: 800 } });
    assert.equal(kept.outcome, "live", kept.reasons.join("; "));
    assert.deepEqual([kept.statistics["trained.rows"], kept.statistics["trained.changed"]], [8_000, 800]);
    assert.ok(kept.statistics["recall"]! >= 0.97);
    // Too much is new.
    const half = await world.build(next, { ...config, settings: kept.settings, trained: { ...found, centroids, changed: 4_001 } });
    assert.equal(half.statistics["trained.changed"], 0);
    // Searches cost more than they did.
    const dearer = await world.build(next, { ...config, settings: kept.settings, trained: { ...found, centroids, changed: 10, costNs: found.costNs / 2 } });
    assert.equal(dearer.statistics["trained.changed"], 0);
    assert.ok(dearer.statistics["trained.costNs"]! > found.costNs / 2);
  }));

test("promise: a build keeps its lease however long its index takes: the loop turns between its steps", () =>
  within(async (world) => {
    let [turns, steps, standing] = [0, 0, 0];
    let seen = -1;
    let watching = true;
    const turn = (): void => {
      turns++;
      if (watching) setImmediate(turn);
    };
    turn();
    try {
      await world.build(
        clustered(20_000, 8),
        { lists: 16, recallTarget: 0.9 },
        {
          onProgress({ stage, share }) {
            if (stage !== "index" || share === undefined) return;
            steps++;
            if (turns === seen) standing++;
            seen = turns;
          },
        },
      );
    } finally {
      watching = false;
    }
    assert.ok(steps > 8, `${steps} steps`);
    assert.equal(standing, 0);
  }));

test("a build that is stopped leaves nothing", () =>
  within(async (world) => {
    const stopping = new AbortController();
    const building = world.build(
      clustered(8_000, 16),
      {},
      { signal: stopping.signal, onProgress: ({ stage }) => stage === "index" && stopping.abort(new Error("stopped")) },
    );
    await assert.rejects(building, /stopped/);
    assert.deepEqual(await world.snapshots.versions("items"), []);
    assert.deepEqual(await systemFiles.list(join(world.folder, "work")), undefined);
  }));

test("the manifest's words: what is no meta of a version is refused", () => {
  const place = { name: "items", version: "20260101T000000000-abcd" };
  const meta = {
    format: 1,
    dims: 2,
    metric: "ip",
    settings: { probes: 1, margin: 1, slack: 1 },
    deltaOffset: 0,
    recallTarget: 0.9,
    recallAt: 20,
    probes: { queries: [1, 2], answers: [{ ids: ["a"], scores: [1] }], recall: 1 },
  };
  assert.equal(versionMetaOf({ ...place, meta }).probes.answers.length, 1);
  for (const change of [
    { dims: 0 },
    { metric: "other" },
    { settings: {} },
    { deltaOffset: -1 },
    { probes: undefined },
    { probes: { ...meta.probes, queries: [1] } },
    { probes: { ...meta.probes, queries: [1, Number.NaN] } },
    { probes: { ...meta.probes, answers: [{ ids: ["a"], scores: [] }] } },
  ]) {
    assert.throws(() => versionMetaOf({ ...place, meta: { ...meta, ...change } }), { code: "corrupt" }, JSON.stringify(change));
  }
  assert.throws(() => versionMetaOf({ ...place, meta: { ...meta, format: 2 } }), { code: "unsupported" });
  assert.throws(() => versionMetaOf({ ...place, meta: null }), { code: "corrupt" });
});
