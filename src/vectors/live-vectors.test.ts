// Guards: what is written is found by the next search, what is hidden never, and a reported score is that of one whole version of its row.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Prng } from "#base/prng";
import { createTopK } from "#kernel/dot-top-k";
import { KernelMemory } from "#kernel/kernel-memory";
import { kernels, kernelVariants } from "#kernel/kernels";
import { startWriting } from "#kernel/writing-thread.fuzz";
import { moduleBeside } from "#platform/module-beside";
import { LiveVectors, type LiveVectorsShape, type VectorMeasure } from "./live-vectors.ts";

const seed = Number(process.env["SEED"] ?? 11);

function create(shape: LiveVectorsShape, variant = kernels().variant): LiveVectors {
  return LiveVectors.create(KernelMemory.create({ dataBytes: LiveVectors.bytesFor(shape) + 64, lanes: 2 }, kernels(variant)), shape);
}

function randomRow(random: Prng, dims: number): Float32Array {
  return Float32Array.from({ length: dims }, () => random.normal());
}

function scoreOf(measure: VectorMeasure, query: Float32Array, row: Float32Array): number {
  let product = 0;
  let squares = 0;
  let querySquares = 0;
  for (let i = 0; i < query.length; i++) {
    product += query[i]! * row[i]!;
    squares += row[i]! ** 2;
    querySquares += query[i]! ** 2;
  }
  return measure === "dot" ? product : product / Math.sqrt(squares * querySquares);
}

/** Best first, by a plain walk over a Map. */
function expected(model: Map<number, Float32Array>, measure: VectorMeasure, query: Float32Array, k: number, except: number): [number, number][] {
  return [...model]
    .filter(([row]) => row !== except)
    .map(([row, values]): [number, number] => [row, scoreOf(measure, query, values)])
    .filter(([, score]) => score > -Infinity)
    .sort((a, b) => b[1] - a[1] || a[0] - b[0])
    .slice(0, k);
}

for (const variant of kernelVariants) {
  test(`${variant}: rows written, hidden and searched are those of a Map, whatever the pieces`, () => {
    console.log(`seed ${seed}`);
    const random = new Prng(seed);
    for (const [dims, cosineDims] of [
      [17, 16],
      [5, 4],
      [4, 4],
      [9, 3],
    ] as const) {
      const vectors = create({ rowsMax: 400, dims, cosineDims }, variant);
      const model = new Map<number, Float32Array>();
      const read = new Float32Array(dims);
      for (let step = 0; step < 1_500; step++) {
        const row = random.below(random.chance(0.5) ? 40 : 400);
        if (random.chance(0.7)) {
          const values = randomRow(random, dims + 3);
          vectors.write(row, values, 3);
          model.set(row, values.slice(3));
        } else {
          vectors.hide(row);
          model.delete(row);
        }
        const probe = random.below(410);
        assert.equal(vectors.read(probe, read), model.has(probe));
        if (model.has(probe)) assert.deepEqual(read, model.get(probe));
        if (step % 30 !== 0) continue;
        const measure = random.chance(0.5) ? "dot" : "cosine";
        const query = randomRow(random, measure === "dot" ? dims : cosineDims);
        const except = random.chance(0.5) ? row : -1;
        const k = 1 + random.below(random.chance(0.2) ? 500 : 20);
        const scan = vectors.scan(measure, query, k, except);
        const piece = 1 + random.below(200);
        while (!scan.advance(piece)) {
          // The lane is anybody's between the pieces.
          vectors.memory.lane.reset();
          vectors.memory.bytes.fill(0xff, vectors.memory.lane.take(1024), vectors.memory.lane.take(16));
        }
        const found = scan.answers(createTopK(k));
        const wanted = expected(model, measure, query, k, except);
        assert.equal(found.size, wanted.length);
        for (let i = 0; i < found.size; i++) {
          assert.ok(Math.abs(found.scores[i]! - wanted[i]![1]) < 1e-4, `score ${i}: ${found.scores[i]} instead of ${wanted[i]![1]}`);
          const own = scoreOf(measure, query, model.get(found.rows[i]!)!);
          assert.ok(Math.abs(found.scores[i]! - own) < 1e-4, "a score belongs to its row");
        }
      }
    }
  });
}

test("promise: a row that is hidden, never written or not finite is no answer, also while its numbers are still there", () => {
  const vectors = create({ rowsMax: 20, dims: 5, cosineDims: 4 });
  const query = Float32Array.of(1, 1, 1, 1, 1);
  vectors.write(3, Float32Array.of(1, 1, 1, 1, 1));
  vectors.write(9, Float32Array.of(9, 9, 9, 9, 9));
  assert.equal(vectors.rowCount, 10);
  const into = createTopK(20);
  assert.deepEqual([...vectors.search("dot", query, into).rows.subarray(0, into.size)], [9, 3]);
  vectors.hide(9);
  vectors.write(4, Float32Array.of(NaN, 1, 1, 1, 1));
  vectors.write(5, Float32Array.of(1, Infinity, 1, 1, 1));
  vectors.write(6, Float32Array.of(1, 1, 1, 1, -Infinity));
  assert.deepEqual([...vectors.search("dot", query, into).rows.subarray(0, into.size)], [3]);
  assert.equal(into.scores[0], 5);
  vectors.write(9, Float32Array.of(0, 0, 0, 0, 2));
  assert.deepEqual([...vectors.search("dot", query, into).rows.subarray(0, into.size)], [3, 9]);
  assert.deepEqual([...vectors.search("cosine", query.subarray(0, 4), into).rows.subarray(0, into.size)], [3], "a row without length has no cosine");
  vectors.hide(3);
  vectors.hide(9);
  assert.equal(vectors.search("dot", query, into).size, 0);
});

test("a row hidden after it was scanned is left out of the answers", () => {
  const vectors = create({ rowsMax: 8, dims: 4, cosineDims: 4 });
  for (let row = 0; row < 8; row++) vectors.write(row, Float32Array.of(row, 1, 1, 1));
  const scan = vectors.scan("dot", Float32Array.of(1, 0, 0, 0), 3);
  assert.equal(scan.advance(4), false);
  assert.equal(scan.advance(4), true);
  vectors.hide(7);
  vectors.write(5, Float32Array.of(6.5, 1, 1, 1));
  const found = scan.answers(createTopK(3));
  assert.deepEqual([...found.rows.subarray(0, found.size)], [5, 6], "scored and ordered by what stands there now");
  assert.equal(found.scores[0], 6.5);
});

test("another thread's view, dirty memory, and what is refused", () => {
  const shape = { rowsMax: 10, dims: 17, cosineDims: 16 };
  const memory = KernelMemory.create({ dataBytes: LiveVectors.bytesFor(shape), lanes: 2 });
  memory.bytes.fill(0x7f, memory.dataFrom, memory.dataFrom + memory.dataBytes);
  const vectors = LiveVectors.create(memory, shape);
  const other = LiveVectors.attach(KernelMemory.attach(memory.memory, 1), vectors.at);
  assert.equal(other.rowCount, 0);
  assert.equal(other.stride, 20);
  vectors.write(2, new Float32Array(17).fill(1));
  const found = other.search("dot", new Float32Array(17).fill(1), createTopK(5));
  assert.deepEqual([found.size, found.rows[0], found.scores[0]], [1, 2, 17]);
  assert.equal(other.read(1, new Float32Array(17)), false);
  for (const at of [vectors.at + 64, vectors.at + 4, -64, memory.bytes.length, Number.NaN]) {
    assert.throws(() => LiveVectors.attach(memory, at), { code: "corrupt" });
  }
  assert.throws(() => vectors.write(10, new Float32Array(17)), { code: "invalid" });
  assert.throws(() => vectors.scan("dot", new Float32Array(16), 1), { code: "invalid" });
  assert.throws(() => vectors.scan("cosine", new Float32Array(16), 0), { code: "invalid" });
  assert.throws(() => LiveVectors.bytesFor({ rowsMax: 0, dims: 4, cosineDims: 0 }), { code: "invalid" });
  assert.throws(() => LiveVectors.bytesFor({ rowsMax: 1, dims: 4, cosineDims: 5 }), { code: "invalid" });
});

test("a row that its dead writer left half written is hidden until it is written again", () => {
  const vectors = create({ rowsMax: 4, dims: 4, cosineDims: 0 });
  vectors.write(1, Float32Array.of(1, 2, 3, 4));
  const words = new Int32Array(vectors.memory.memory.buffer);
  // The state word is the last float of a row: find it by its bits.
  const state = words.findIndex((word, i) => i > vectors.at / 4 + 16 + vectors.stride && (word & 0x7f80_0000) === 0x3f80_0000 && (i + 1) % 4 === 0);
  words[state]! |= 1;
  assert.equal(vectors.read(1, new Float32Array(4)), false);
  assert.equal(vectors.search("dot", new Float32Array(4).fill(1), createTopK(1)).size, 0);
  vectors.write(1, Float32Array.of(4, 3, 2, 1));
  assert.equal(vectors.read(1, new Float32Array(4)), true);
});

test("promise: while another thread rewrites rows, a search reports only scores of whole versions", { timeout: 20_000 }, async () => {
  // All numbers of version v are v, so the score of a whole version is a multiple of dims, and that of nearly every mix of two is not.
  const dims = 17;
  const shape = { rowsMax: 64, dims, cosineDims: 16 };
  const memory = KernelMemory.create({ dataBytes: LiveVectors.bytesFor(shape), lanes: 2 });
  const vectors = LiveVectors.create(memory, shape);
  const row = new Float32Array(dims).fill(1);
  for (let r = 0; r < 64; r++) vectors.write(r, row);
  const writer = await startWriting(moduleBeside("./test-vectors.worker", import.meta.url), { memory: memory.memory, at: vectors.at });
  const query = new Float32Array(dims).fill(1);
  const into = createTopK(40);
  let answers = 0;
  let torn = 0;
  const before = performance.now();
  for (let round = 0; performance.now() - before < 700 || (answers === 0 && performance.now() - before < 10_000); round++) {
    vectors.search("dot", query, into);
    for (let i = 0; i < into.size; i++) {
      answers++;
      if (into.scores[i]! % dims !== 0 || into.scores[i]! < 0) torn++;
      if (i > 0) assert.ok(into.scores[i]! <= into.scores[i - 1]!);
    }
    if (round % 50 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  const writes = await writer.stop();
  console.log(`${answers} answers against ${writes} writes`);
  assert.ok(writes > 1_000, "the writer wrote meanwhile");
  assert.ok(answers > 1_000);
  assert.equal(torn, 0, "a score that no whole version has");
});
