// Guards segments: what is built, written and loaded finds what exact search finds, knows its ids, and takes nothing for a segment that is none.

import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { MillraceError } from "#base/errors";
import { Prng } from "#base/prng";
import { crc32cOfBytes } from "#kernel/checksum";
import { createTopK, type TopK } from "#kernel/dot-top-k";
import { MemoryPool } from "#kernel/memory-pool";
import { searchLists } from "#kernel/vector-ivf";
import { bitmapBytes, setSlot, type VectorMetric } from "#kernel/vector-layout";
import { exactSearch } from "#kernel/vector-rows";
import { freshSeed } from "#platform/fresh-seed";
import { systemClock } from "#platform/system-clock";
import { systemFiles } from "#platform/system-files";
import { systemWorkers } from "#platform/system-workers";
import type { RunningWorker, Workers } from "#platform/workers";
import { buildSegment, listsFor, segmentBytes } from "./build-segment.ts";
import { averageMargin, exhaustiveSettings, parseSearchSettings, type SearchSettings } from "./search-settings.ts";
import { loadSegment, packIds, writeSegment } from "./segment-files.ts";
import { paddingSlot, type SegmentParts, type SegmentRows } from "./segment-parts.ts";
import type { VectorSegment } from "./vector-segment.ts";

const seed = Number(process.env["SEED"] ?? freshSeed());
const root = mkdtempSync(join(tmpdir(), "millrace-segment-"));
after(() => rmSync(root, { recursive: true, force: true }));
let folders = 0;
const pool = new MemoryPool({ capBytes: 1 << 28 });
const metrics = ["cosine", "ip", "l2"] as const;

/** Rows around `clusters` middles, of uneven size, with lengths that differ. */
function clustered(prng: Prng, count: number, dims: number, clusters = 50, spread = 0.6): SegmentRows {
  const middles = Float32Array.from({ length: clusters * dims }, () => prng.normal());
  const vectors = new Float32Array(count * dims);
  for (let row = 0; row < count; row++) {
    const cluster = Math.floor(clusters * prng.float() ** 2);
    const length = Math.exp(prng.normal(0, 0.3));
    for (let j = 0; j < dims; j++) vectors[row * dims + j] = length * (middles[cluster * dims + j]! + prng.normal(0, spread));
  }
  return { vectors, count, dims };
}

interface Stored {
  readonly folder: string;
  readonly ids: readonly string[];
  readonly rows: SegmentRows;
  readonly order: Uint32Array;
  load(): Promise<VectorSegment>;
}

async function stored(
  rows: SegmentRows,
  metric: VectorMetric,
  lists: number,
  ids = Array.from({ length: rows.count }, (_, i) => `item ${i} é`),
): Promise<Stored> {
  const folder = join(root, String(folders++));
  await systemFiles.makeFolder(folder);
  const parts = await buildSegment(rows, { metric, lists, seed: 1 });
  await writeSegment(parts, packIds(ids), systemFiles, folder);
  return { folder, ids, rows, order: parts.order, load: () => loadSegment(systemFiles, (name) => join(folder, name), pool, { owner: "test" }) };
}

const refused = (promise: Promise<unknown>): Promise<void> => assert.rejects(promise, (thrown) => thrown instanceof MillraceError && thrown.code === "invalid");
const answersOf = ({ size, rows, scores }: TopK): readonly (readonly [number, number])[] => Array.from({ length: size }, (_, i) => [rows[i]!, scores[i]!]);
const good: SearchSettings = { probes: 1_000, margin: averageMargin + 4, slack: 6 };

test(`promise: a loaded segment has each row once, under its id, with its numbers (SEED=${seed})`, async () => {
  const prng = new Prng(seed);
  for (const metric of metrics)
    for (const lists of [1, 24]) {
      const rows = clustered(prng, 1_500, 10);
      const { ids, order, load } = await stored(rows, metric, lists);
      const segment = await load();
      assert.equal(segment.rows, 1_500);
      assert.equal(segment.liveRows, 1_500);
      assert.equal(segment.slots % 32, 0);
      assert.equal(order.length, segment.slots);
      assert.deepEqual(
        order.filter((row) => row !== paddingSlot).toSorted(),
        Uint32Array.from({ length: 1_500 }, (_, i) => i),
      );
      const vector = new Float32Array(10);
      order.forEach((row, slot) => {
        assert.equal(segment.idOf(slot), row === paddingSlot ? undefined : ids[row]);
        assert.equal(segment.isLive(slot), row !== paddingSlot);
        if (row === paddingSlot) return;
        assert.equal(segment.slotOf(ids[row]!), slot);
        segment.vectorOf(slot, vector);
        const given = rows.vectors.subarray(row * 10, row * 10 + 10);
        const norm = metric === "cosine" ? Math.hypot(...given) : 1;
        assert.ok(Math.abs(segment.normOf(slot) - norm) < 1e-4);
        given.forEach((value, j) => assert.ok(Math.abs(vector[j]! * norm - value) < 1e-4));
      });
      assert.equal(segment.slotOf("item"), undefined);
      assert.equal(segment.slotOf(""), undefined);
      assert.equal(segment.idOf(segment.slots), undefined);
      segment.release();
    }
});

test(`promise: everything looked into gives the answers of exact search; little less gives nearly all (SEED=${seed})`, async () => {
  const prng = new Prng(seed).fork("search");
  for (const metric of metrics) {
    const dims = 24;
    const rows = clustered(prng, 6_000, dims);
    const { load } = await stored(rows, metric, 64);
    const segment = await load();
    const filterAt = segment.filterRoomAt;
    segment.memory.bytes.fill(0, filterAt, filterAt + bitmapBytes(segment.slots));
    for (let slot = 0; slot < segment.slots; slot++) setSlot(segment.memory, filterAt, slot, prng.chance(0.05));
    for (let dead = 0; dead < 500; dead++) segment.kill(prng.below(segment.slots));
    const top = createTopK(20);
    let hits = 0;
    let all = 0;
    let slots = 0;
    for (let i = 0; i < 40; i++) {
      const query = rows.vectors.slice(i * dims, (i + 1) * dims);
      for (const filter of [0, filterAt]) {
        const near = metric === "cosine" ? query.map((x) => x / Math.hypot(...query)) : query;
        const exact = exactSearch(segment.block, near, 20, createTopK(20), { use: "f32", filterAt: filter });
        assert.deepEqual(answersOf(segment.search(query, exhaustiveSettings, top, filter)), answersOf(exact));
        const worst = exact.scores[exact.size - 1]!;
        segment.search(query, good, top, filter);
        all += exact.size;
        slots += segment.work.slots / 80;
        for (let at = 0; at < top.size; at++) {
          assert.ok(segment.isLive(top.rows[at]!));
          if (metric === "l2" ? top.scores[at]! <= worst + 1e-4 : top.scores[at]! >= worst - 1e-5) hits++;
        }
      }
    }
    assert.ok(hits / all > 0.97, `${metric}: recall ${hits / all}`);
    assert.ok(slots < 0.9 * segment.slots, `${metric}: ${slots} of ${segment.slots} slots`);
    const order = new Uint32Array(5);
    assert.equal(segment.nearestLists(rows.vectors.slice(0, dims), order), 5);
    assert.equal(new Set(order).size, 5);
    segment.release();
  }
});

test("a row that was killed is found no more, by no way", async () => {
  const rows = clustered(new Prng(3), 400, 8);
  const { ids, load } = await stored(rows, "ip", 4);
  const segment = await load();
  const top = createTopK(400);
  const slot = segment.slotOf(ids[17]!)!;
  assert.equal(segment.kill(slot), true);
  assert.equal(segment.kill(slot), false);
  assert.equal(segment.liveRows, 399);
  assert.equal(segment.slotOf(ids[17]!), slot);
  for (const settings of [exhaustiveSettings, { probes: 4, margin: 15.9, slack: 15.9 }]) {
    segment.search(rows.vectors.slice(0, 8), settings, top);
    assert.equal(top.size, 399);
    assert.ok(!top.rows.subarray(0, 399).includes(slot));
  }
  segment.release();
});

test("the same rows and seed make the same files; the memory is given back", async () => {
  const rows = clustered(new Prng(4), 900, 12);
  const first = await stored(rows, "cosine", 8);
  const second = await stored(rows, "cosine", 8);
  for (const name of readdirSync(first.folder)) assert.deepEqual(readFileSync(join(first.folder, name)), readFileSync(join(second.folder, name)), name);
  const before = pool.statistics().leasedBytes;
  const segment = await first.load();
  assert.ok(pool.statistics().leasedBytes > before);
  segment.release();
  assert.equal(pool.statistics().leasedBytes, before);
});

test(`promise: a segment has the same bytes however many threads built it (SEED=${seed})`, async () => {
  for (const metric of metrics) {
    const rows = clustered(new Prng(seed).fork(`threads ${metric}`), 20_011, 18);
    const sumsOf = async (count: number): Promise<unknown> => {
      const threads = { workers: systemWorkers, clock: systemClock, count, workMin: 0 };
      const { arrays, order } = await buildSegment(rows, { metric, lists: 40, seed: 1, ...(count === 0 ? {} : { threads }) });
      return [...arrays, ["order", order] as const].map(([name, array]) => [
        name,
        array.length,
        crc32cOfBytes(new Uint8Array(array.buffer, array.byteOffset, array.byteLength)),
      ]);
    };
    const alone = await sumsOf(0);
    for (const count of metric === "l2" ? [3] : [2]) assert.deepEqual(await sumsOf(count), alone, `${metric}, ${count} threads`);
  }
});

test("a build whose thread dies, or that is stopped, ends with that, and its threads with it", async () => {
  const rows = clustered(new Prng(seed).fork("ended"), 20_000, 8);
  const running = new Set<RunningWorker>();
  const workersThat = (then: (worker: RunningWorker) => void): Workers => ({
    start(module, data, name) {
      const worker = systemWorkers.start(module, data, name);
      running.add(worker);
      void worker.failed.then(() => running.delete(worker));
      then(worker);
      return worker;
    },
  });
  const build = (workers: Workers, signal?: AbortSignal): Promise<unknown> =>
    buildSegment(rows, {
      metric: "ip",
      lists: 30,
      threads: { workers, clock: systemClock, count: 3, workMin: 0 },
      ...(signal === undefined ? {} : { signal }),
    });
  // What it cannot do.
  await assert.rejects(
    build(workersThat((worker) => worker.send([0, { do: "encode", room: 1_000, slots: 32 }]))),
    (thrown) => thrown instanceof MillraceError && thrown.code === "internal",
  );
  assert.equal(running.size, 0);
  await assert.rejects(
    build(
      workersThat(() => undefined),
      AbortSignal.abort(new Error("stopped")),
    ),
    /stopped/,
  );
  assert.equal(running.size, 0);
  await refused(buildSegment(rows, { metric: "ip", threads: { workers: systemWorkers, clock: systemClock, count: 0 } }));
});

test("clusters that were found before are taken, and the rows are given to them anew", async () => {
  for (const metric of metrics) {
    const dims = 12;
    const rows = clustered(new Prng(seed).fork(`given ${metric}`), 4_000, dims);
    const first = await buildSegment(rows, { metric, lists: 32, seed: 1 });
    const again = await buildSegment(rows, { metric, lists: first.lists, seed: 2, centroids: first.arrays.get("centroids") as Float32Array });
    // A round more of k-means: rows lie no further from their means, but for what the rows that it draws happen to be (1.053 was seen).
    const looseness = ({ arrays }: SegmentParts): number => {
      const starts = arrays.get("starts") as Uint32Array;
      return (arrays.get("spreads") as Float32Array).reduce((sum, spread, list) => sum + spread ** 2 * (starts[list + 1]! - starts[list]!), 0);
    };
    assert.ok(looseness(again) < 1.15 * looseness(first), `${metric}: ${looseness(again)} after ${looseness(first)}`);
    await refused(buildSegment(rows, { metric, lists: 32, centroids: new Float32Array(31 * dims) }));
  }
});

test("few rows, equal rows and lists without rows make a segment too", async () => {
  for (const metric of metrics)
    for (const [count, lists] of [
      [1, 1],
      [1, 5],
      [40, 40],
      [300, 16],
    ] as const) {
      const vectors = new Float32Array(count * 5).fill(1);
      const { load } = await stored({ vectors, count, dims: 5 }, metric, lists);
      const segment = await load();
      const top = createTopK(10);
      segment.search(Float32Array.of(1, 2, 3, 4, 5), good, top);
      assert.equal(top.size, Math.min(10, count), `${metric} ${count} ${lists}`);
      assert.deepEqual(
        [...top.rows.subarray(0, top.size)],
        Array.from({ length: top.size }, (_, i) => i),
      );
      segment.release();
    }
});

test("what cannot be built is refused", async () => {
  const invalid = (promise: Promise<unknown>): Promise<void> =>
    assert.rejects(promise, (error: unknown) => error instanceof MillraceError && error.code === "invalid");
  const vectors = Float32Array.of(1, 2, Number.NaN, 4);
  await invalid(buildSegment({ vectors, count: 2, dims: 2 }, { metric: "ip" }));
  await invalid(buildSegment({ vectors: new Float32Array(4), count: 2, dims: 2 }, { metric: "cosine" }));
  await invalid(buildSegment({ vectors, count: 3, dims: 2 }, { metric: "ip" }));
  await invalid(buildSegment({ vectors, count: 0, dims: 2 }, { metric: "ip" }));
  await invalid(buildSegment({ vectors: new Float32Array(4).fill(1), count: 2, dims: 2 }, { metric: "ip", lists: 0 }));
  const parts = await buildSegment({ vectors: new Float32Array(4).fill(1), count: 2, dims: 2 }, { metric: "ip" });
  const folder = join(root, "refused");
  await systemFiles.makeFolder(folder);
  await invalid(writeSegment(parts, packIds(["a"]), systemFiles, folder));
  await invalid(writeSegment(parts, packIds(["a", ""]), systemFiles, folder));
  await writeSegment(parts, packIds(["a", "a"]), systemFiles, folder);
  await assert.rejects(
    loadSegment(systemFiles, (name) => join(folder, name), pool, { owner: "test" }),
    { code: "corrupt" },
  );
  assert.equal(listsFor(100), 1);
  assert.equal(listsFor(331_479), 2_048);
  assert.ok(segmentBytes(331_479, 100).loaded > 331_479 * 537);
  for (const bad of [null, {}, { probes: 0, margin: 1, slack: 1 }, { probes: 1, margin: 17, slack: 1 }, { probes: 1, margin: 1, slack: "1" }])
    assert.throws(() => parseSearchSettings(bad), { code: "invalid" });
  assert.deepEqual(parseSearchSettings({ ...good }), good);
});

test(`promise: clusters smaller than lists are searched by blocks, which costs less and finds as much; rows without clusters have no blocks (SEED=${seed})`, async () => {
  const prng = new Prng(seed).fork("blocks");
  for (const metric of metrics) {
    const dims = 16;
    const usual: SearchSettings = { ...good, margin: averageMargin };
    // Some 40 clusters of 30 rows in a list.
    const rows = clustered(prng, 24_000, dims, 800, 0.15);
    const { folder, load } = await stored(rows, metric, 20);
    assert.ok(existsSync(join(folder, "segment.block-codes.npy")));
    const segment = await load();
    const { index } = segment;
    assert.ok(index !== undefined && index.blockCodesAt !== 0);
    const filterAt = segment.filterRoomAt;
    for (let word = 0; word < segment.slots / 32; word++) segment.memory.u32[filterAt / 4 + word] = prng.u32() | prng.u32();
    for (const filter of [0, filterAt]) {
      const sums = { hits: 0, all: 0, slots: 0, whole: 0 };
      for (let i = 0; i < 40; i++) {
        const query = rows.vectors.slice(i * dims, (i + 1) * dims);
        const whole = { lists: 0, slots: 0, exact: 0 };
        const truth = new Set(segment.search(query, exhaustiveSettings, createTopK(10), filter).rows);
        const top = segment.search(query, usual, createTopK(10), filter);
        sums.slots += segment.work.slots;
        sums.all += truth.size;
        for (const row of top.rows) if (truth.has(row)) sums.hits++;
        searchLists(
          { ...index, blockCodesAt: 0 },
          metric === "cosine" ? query.map((x) => x / Math.hypot(...query)) : query,
          { probes: usual.probes, margin: usual.margin - averageMargin, slack: usual.slack, filterAt: filter },
          createTopK(10),
          whole,
        );
        sums.whole += whole.slots;
      }
      assert.ok(sums.hits >= 0.9 * sums.all, `${metric} ${sums.hits} of ${sums.all}`);
      assert.ok(sums.slots < sums.whole / 2, `${metric} ${sums.slots} slots, ${sums.whole} by whole lists`);
    }
    segment.release();
    const none = await stored({ vectors: Float32Array.from({ length: 4_000 * dims }, () => prng.normal()), count: 4_000, dims }, metric, 16);
    assert.ok(!existsSync(join(none.folder, "segment.block-codes.npy")), metric);
    (await none.load()).release();
  }
});

test(`fuzz: files that are cut, longer, missing, exchanged or changed where it matters are refused as corrupt (SEED=${seed})`, async () => {
  const prng = new Prng(seed).fork("fuzz");
  // One metric a run, another each time: together they take seconds.
  for (const metric of [prng.pick([...metrics])]) {
    const { folder, load } = await stored(clustered(prng, 1_400, 6, 60, 0.05), metric, 10);
    assert.ok(existsSync(join(folder, "segment.block-codes.npy")), "a segment with blocks");
    const names = readdirSync(folder);
    const whole = new Map(names.map((name) => [name, readFileSync(join(folder, name))]));
    const restore = (): void => whole.forEach((bytes, name) => writeFileSync(join(folder, name), bytes));
    const refused = async (what: string): Promise<void> => {
      await assert.rejects(load(), (error: unknown) => error instanceof MillraceError && (error.code === "corrupt" || error.code === "unsupported"), what);
      restore();
    };
    for (const name of names) {
      const bytes = whole.get(name)!;
      writeFileSync(join(folder, name), bytes.subarray(0, prng.below(bytes.length)));
      await refused(`${name} cut`);
      writeFileSync(join(folder, name), Buffer.concat([bytes, Buffer.of(0)]));
      await refused(`${name} longer`);
      rmSync(join(folder, name));
      await refused(`${name} missing`);
      const header = Buffer.from(bytes);
      header[prng.below(64)]! ^= 1 << prng.below(8);
      writeFileSync(join(folder, name), header);
      await refused(`${name} with another header`);
    }
    /** Changes one word of an array. */
    const change = async (name: string, word: number, value: number, isFloat = false): Promise<void> => {
      const bytes = Buffer.from(whole.get(`segment.${name}.npy`)!);
      const from = 10 + bytes.readUInt16LE(8);
      if (isFloat) bytes.writeFloatLE(value, from + 4 * word);
      else bytes.writeUInt32LE(value, from + 4 * word);
      writeFileSync(join(folder, `segment.${name}.npy`), bytes);
      await refused(`${name} word ${word} = ${value}`);
    };
    // Bands of length may make other numbers of lists than were asked for.
    const head = whole.get("segment.head.npy")!;
    const lists = head.readUInt32LE(10 + head.readUInt16LE(8) + 4 * 5);
    for (const [word, value] of [
      [0, 1],
      [0, 3],
      [1, 3],
      [2, 9],
      [3, 1_401],
      [4, 32],
      [5, lists - 1],
      [6, 1],
      [7, 1],
      [8, 1],
      [9, 1],
    ] as const)
      await change("head", word, value);
    for (const [word, value] of [
      [0, 32],
      [3, 33],
      [5, 0],
      [lists, 0],
    ] as const)
      await change("starts", word, value);
    await change("live", 0, 0xfffffffd);
    await change("live", 3, 0);
    for (const name of ["rows", "scales", "centroids", "spreads", "points", "block-spreads"])
      await change(name, 1, prng.pick([Number.NaN, Infinity, -Infinity]), true);
    await change("spreads", 2, 0, true);
    await change("spreads", 2, -1, true);
    await change("code-errors", 2, -1, true);
    await change("block-spreads", 2, 0, true);
    await change("block-spreads", 3, -1, true);
    await change("id-starts", 0, 1);
    await change("id-starts", 5, 0xffffff);
    const ids = Buffer.from(whole.get("segment.ids.npy")!);
    // The second id becomes the first (of the same length or not, it is another's).
    const starts = Buffer.from(whole.get("segment.id-starts.npy")!);
    const wordAt = (i: number): number => starts.readUInt32LE(10 + starts.readUInt16LE(8) + 4 * i);
    const from = 10 + ids.readUInt16LE(8);
    const first = ids.subarray(from + wordAt(0), from + wordAt(1));
    const twin = Array.from({ length: 600 }, (_, i) => i + 1).find((i) => wordAt(i + 1) - wordAt(i) === first.length);
    assert.ok(twin !== undefined);
    first.copy(ids, from + wordAt(twin));
    writeFileSync(join(folder, "segment.ids.npy"), ids);
    await refused("two equal ids");
    (await load()).release();
  }
});
