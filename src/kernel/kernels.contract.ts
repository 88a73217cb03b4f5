// What every kernel variant must do: one suite, run for relaxed SIMD, SIMD128 and the scalar twin (kernels.test.ts).
// Vectors of small whole numbers make every sum exact, so that answers, ties included, must be equal to the naive ones number for number.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Prng } from "#base/prng";
import { createF32Block, createTopK, f32RowBytes, type F32Block, searchByDot, writeF32Rows } from "./dot-top-k.ts";
import { gatherRows } from "./gather-rows.ts";
import { hashKeys } from "./hash-keys.ts";
import { absentRow } from "./kernel-calls.ts";
import { KernelMemory } from "./kernel-memory.ts";
import { kernels, type KernelVariant } from "./kernels.ts";
import { KeyBatch } from "./key-batch.ts";
import { hashKey, keySeed } from "./key-hash.ts";
import { KeyTable, keyTableBytes } from "./key-table.ts";

interface Scored {
  readonly row: number;
  readonly score: number;
}

/** The definition of the order: higher score, then lower row; NaN and -Infinity are no answers. */
function naiveTopK(rows: Float32Array, dims: number, query: Float32Array, k: number, candidates?: Uint32Array): Scored[] {
  const scored: Scored[] = [];
  const count = rows.length / dims;
  for (const row of candidates ?? Uint32Array.from({ length: count }, (_, i) => i)) {
    if (row >= count) continue;
    let score = 0;
    for (let i = 0; i < dims; i++) score += rows[row * dims + i]! * query[i]!;
    if (score > -Infinity) scored.push({ row, score: Math.fround(score) });
  }
  return scored.sort((a, b) => b.score - a.score || a.row - b.row).slice(0, k);
}

function answers(block: F32Block, query: Float32Array, k: number, candidates?: Uint32Array): Scored[] {
  const top = searchByDot(block, query, createTopK(k), candidates);
  return Array.from({ length: top.size }, (_, i) => ({ row: top.rows[i]!, score: top.scores[i]! }));
}

function wholeNumbers(prng: Prng, count: number, largest: number): Float32Array {
  return Float32Array.from({ length: count }, () => prng.between(-largest, largest));
}

function randomKey(prng: Prng, longest: number): Uint8Array {
  return prng.bytes(new Uint8Array(prng.below(longest + 1)));
}

export function kernelContract(variant: KernelVariant): void {
  const seed = process.env["SEED"] ?? "kernel";
  const under = (name: string): string => `${variant}: ${name}`;
  const live = kernels(variant);
  const newMemory = (dataBytes: number, laneBytes?: number): KernelMemory =>
    KernelMemory.create(laneBytes === undefined ? { dataBytes } : { dataBytes, laneBytes }, live);
  const newBlock = (rows: Float32Array, dims: number, laneBytes?: number): F32Block => {
    const count = rows.length / dims;
    const block = createF32Block(newMemory(count * f32RowBytes(dims), laneBytes), count, dims);
    writeF32Rows(block, 0, rows);
    return block;
  };

  test(under("the forced variant is the one that runs"), () => {
    assert.equal(live.variant, variant);
    const memory = newMemory(0);
    assert.equal(memory.variant, variant);
    const isNative = /\[native code\]/.test(Function.prototype.toString.call(memory.calls.dotTopK));
    assert.equal(isNative, variant !== "scalar");
  });

  test(under(`top k equals the naive order on random blocks, ties and all (SEED=${seed})`), () => {
    const prng = new Prng(seed).fork("top-k");
    for (let dims = 1; dims <= 130; dims++) {
      const count = prng.pick([1, 2, 7, 8, 9, 31, 64, 100, 257]);
      // Few distinct numbers in low dimensions: most scores are ties.
      const rows = wholeNumbers(prng, count * dims, 3);
      const query = wholeNumbers(prng, dims, 3);
      const block = newBlock(rows, dims, 16 * 1024);
      for (const k of [1, prng.between(1, 20), count, count + 5])
        assert.deepEqual(answers(block, query, k), naiveTopK(rows, dims, query, k), `dims ${dims} rows ${count} k ${k}`);
    }
  });

  test(under("equal scores go to the lower row, however many there are"), () => {
    const block = newBlock(new Float32Array(1_003 * 4).fill(1), 4);
    assert.deepEqual(
      answers(block, Float32Array.of(1, 1, 1, 1), 10).map(({ row }) => row),
      [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
    );
    assert.equal(answers(block, new Float32Array(4), 2_000).length, 1_003);
  });

  test(under(`real numbers: the same rows as the exact order, but for scores that are equal to seven digits (SEED=${seed})`), () => {
    const prng = new Prng(seed).fork("reals");
    const dims = 100;
    const count = 5_000;
    const rows = Float32Array.from({ length: count * dims }, () => prng.normal());
    const query = Float32Array.from({ length: dims }, () => prng.normal());
    const got = answers(newBlock(rows, dims), query, 50);
    const exact = naiveTopK(rows, dims, query, count);
    const exactScore = new Map(exact.map(({ row, score }) => [row, score]));
    const worst = exact[49]!.score;
    assert.equal(got.length, 50);
    assert.equal(new Set(got.map(({ row }) => row)).size, 50);
    for (const [i, { row, score }] of got.entries()) {
      assert.ok(Math.abs(score - exactScore.get(row)!) < 1e-4, `score of row ${row}`);
      assert.ok(exactScore.get(row)! > worst - 1e-4, `row ${row} does not belong to the best`);
      if (i > 0) assert.ok(score <= got[i - 1]!.score, "not sorted");
    }
  });

  test(under("NaN and -Infinity are never answers, +Infinity is"), () => {
    for (const count of [5, 8, 40]) {
      const rows = new Float32Array(count).fill(2);
      rows[1] = NaN;
      rows[2] = Infinity;
      rows[count - 1] = -Infinity;
      const block = newBlock(rows, 1);
      const got = answers(block, Float32Array.of(1), count);
      assert.deepEqual(got[0], { row: 2, score: Infinity });
      assert.equal(got.length, count - 2);
      assert.ok(got.every(({ row }) => row !== 1 && row !== count - 1));
      // A full heap refuses them too, and a heap of one is full at once.
      assert.deepEqual(answers(block, Float32Array.of(1), 1), [{ row: 2, score: Infinity }]);
      assert.deepEqual(answers(block, Float32Array.of(NaN), 3), []);
      assert.deepEqual(
        answers(
          block,
          Float32Array.of(NaN),
          3,
          Uint32Array.from({ length: count }, (_, i) => i),
        ),
        [],
      );
      assert.ok(answers(block, Float32Array.of(-1), count).every(({ row }) => row !== 1 && row !== 2));
    }
  });

  test(under("an empty block has no answers"), () => {
    const block = createF32Block(newMemory(0), 0, 8);
    assert.deepEqual(answers(block, new Float32Array(8), 5), []);
    assert.deepEqual(answers(block, new Float32Array(8), 5, Uint32Array.of(0, 1)), []);
  });

  test(under(`candidates: only listed rows, in any order, numbers outside passed over, lists longer than the lane (SEED=${seed})`), () => {
    const prng = new Prng(seed).fork("candidates");
    for (const dims of [3, 16, 64]) {
      const count = 6_000;
      const rows = wholeNumbers(prng, count * dims, 4);
      const block = newBlock(rows, dims, 8 * 1024);
      for (const size of [0, 1, 7, 8, 9, 100, 5_000]) {
        const listed = prng.shuffle(Array.from({ length: count }, (_, i) => i)).slice(0, size);
        for (let i = 0; i < size; i += 13) listed[i] = prng.pick([count, count + 1, absentRow, 0x8000_0000]);
        const candidates = Uint32Array.from(listed);
        const query = wholeNumbers(prng, dims, 4);
        assert.deepEqual(answers(block, query, 20, candidates), naiveTopK(rows, dims, query, 20, candidates), `dims ${dims} size ${size}`);
      }
    }
  });

  test(under("one heap over several blocks: rows are counted from firstRow, and earlier answers stay in the running"), () => {
    const memory = newMemory(1 << 16);
    const { calls, f32, u32 } = memory;
    const first = memory.reserve(16 * 16);
    const second = memory.reserve(16 * 16);
    const query = memory.reserve(16);
    const heap = memory.reserve(16 + 8 * 3);
    f32.set([1, 0, 0, 0], query / 4);
    for (let row = 0; row < 16; row++) {
      f32[first / 4 + row * 4] = row;
      f32[second / 4 + row * 4] = row + 0.5;
    }
    calls.topKReset(heap, 3);
    calls.dotTopK(heap, second, 16, 16, 16, query, 1_000);
    calls.dotTopK(heap, first, 16, 16, 16, query, 0);
    assert.equal(calls.topKSort(heap), 3);
    assert.deepEqual([...f32.subarray(heap / 4 + 4, heap / 4 + 7)], [15.5, 15, 14.5]);
    assert.deepEqual([...u32.subarray(heap / 4 + 7, heap / 4 + 10)], [1_015, 15, 1_014]);
  });

  test(under("data above 2 GiB is reached: addresses are unsigned"), () => {
    // Untouched pages cost nothing.
    const memory = newMemory(3 * 2 ** 30);
    memory.reserve(2.5 * 2 ** 30);
    const block = createF32Block(memory, 100, 4);
    assert.ok(block.at > 2 ** 31);
    writeF32Rows(block, 40, Float32Array.of(0, 0, 7, 0));
    assert.deepEqual(answers(block, Float32Array.of(0, 0, 1, 0), 1), [{ row: 40, score: 7 }]);
    assert.deepEqual(answers(block, Float32Array.of(0, 0, 1, 0), 1, Uint32Array.of(3, 40, 100)), [{ row: 40, score: 7 }]);
    const row = new Float32Array(4);
    assert.equal(gatherRows({ memory, at: block.at, rowBytes: 16, rowCount: 100 }, Uint32Array.of(40), new Uint8Array(row.buffer)), 0);
    assert.equal(row[2], 7);
    const size = { keysMax: 20, keyBytesMax: 400 };
    const table = KeyTable.create(memory, size, keySeed(4n));
    assert.ok(table.at > 2 ** 31);
    const keys = KeyBatch.of(["one", "two", "a key of more than sixteen bytes"]);
    const rows = new Uint32Array(3);
    assert.equal(table.insert(keys, rows), 3);
    assert.equal(table.probe(keys, rows.fill(9)), 3);
    assert.deepEqual([...rows], [0, 1, 2]);
  });

  test(under(`gather: rows of every width, absent ones zero and counted, batches longer than the lane (SEED=${seed})`), () => {
    const prng = new Prng(seed).fork("gather");
    for (let rowBytes = 1; rowBytes <= 300; rowBytes += rowBytes < 70 ? 1 : 13) {
      const rowCount = 97;
      const memory = newMemory(rowCount * rowBytes, 8 * 1024);
      const at = memory.reserve(rowCount * rowBytes);
      prng.bytes(memory.bytes.subarray(at, at + rowCount * rowBytes));
      const block = { memory, at, rowBytes, rowCount };
      for (const count of [0, 1, 15, 16, 17, 400]) {
        const indices = Uint32Array.from({ length: count }, () => (prng.chance(0.1) ? prng.pick([rowCount, absentRow]) : prng.below(rowCount)));
        const expected = new Uint8Array(count * rowBytes);
        let absent = 0;
        indices.forEach((index, i) => {
          if (index >= rowCount) absent++;
          else expected.set(memory.bytes.subarray(at + index * rowBytes, at + (index + 1) * rowBytes), i * rowBytes);
        });
        const into = new Uint8Array(count * rowBytes).fill(0xee);
        assert.equal(gatherRows(block, indices, into), absent, `width ${rowBytes} count ${count}`);
        assert.deepEqual(into, expected, `width ${rowBytes} count ${count}`);
      }
    }
  });

  test(under("gather from a block without rows gives zeros"), () => {
    const memory = newMemory(64);
    const into = new Uint8Array(24).fill(1);
    assert.equal(gatherRows({ memory, at: memory.reserve(0), rowBytes: 8, rowCount: 0 }, Uint32Array.of(0, 1, absentRow), into), 3);
    assert.deepEqual(into, new Uint8Array(24));
  });

  test(under(`hashes of a batch equal the hash of each key, 0 to 1,000 bytes (SEED=${seed})`), () => {
    const prng = new Prng(seed).fork("hash");
    const keys: Uint8Array[] = [];
    for (let size = 0; size <= 1_000; size++) keys.push(prng.bytes(new Uint8Array(size)));
    const batch = KeyBatch.of(keys);
    const into = new Uint32Array(2 * keys.length);
    for (const seedBits of [0n, 1n, 0xffff_ffff_ffff_ffffn, 0x8000_0000_0000_0000n, 0x0123_4567_89ab_cdefn]) {
      const hashSeed = keySeed(seedBits);
      hashKeys(newMemory(0, 64 * 1024), batch, hashSeed, into);
      for (const [i, key] of keys.entries())
        assert.equal((BigInt(into[2 * i + 1]!) << 32n) | BigInt(into[2 * i]!), hashKey(key, hashSeed), `length ${key.length}`);
    }
  });

  test(under(`key table against a Map: random inserts and probes, keys of 0 to 1,000 bytes, also longer than the lane (SEED=${seed})`), () => {
    const prng = new Prng(seed).fork("table");
    for (const longest of [0, 2, 8, 17, 70, 1_000]) {
      const size = { keysMax: 1_500, keyBytesMax: 1_500 * longest };
      const table = KeyTable.create(newMemory(keyTableBytes(size), 8 * 1024), size, keySeed(BigInt(prng.u32())));
      const model = new Map<string, number>();
      for (let round = 0; round < 12; round++) {
        const keys = Array.from({ length: prng.below(100) }, () => randomKey(prng, longest));
        // A key twice in one batch, and keys of earlier rounds.
        if (keys.length > 0) keys.push(keys[0]!);
        for (const known of [...model.keys()].slice(0, 5)) keys.push(Buffer.from(known, "latin1"));
        const rows = new Uint32Array(keys.length);
        assert.equal(table.insert(KeyBatch.of(keys), rows), keys.length);
        for (const [i, key] of keys.entries()) {
          const text = Buffer.from(key).toString("latin1");
          if (!model.has(text)) model.set(text, model.size);
          assert.equal(rows[i], model.get(text));
        }
        assert.equal(table.count, model.size);
        const asked = Array.from({ length: prng.below(200) }, () =>
          prng.chance(0.5) ? randomKey(prng, longest) : Buffer.from(prng.pick([...model.keys(), ""]), "latin1"),
        );
        const answered = new Uint32Array(asked.length).fill(7);
        const found = table.probe(KeyBatch.of(asked), answered);
        let expectedFound = 0;
        for (const [i, key] of asked.entries()) {
          const expected = model.get(Buffer.from(key).toString("latin1"));
          if (expected !== undefined) expectedFound++;
          assert.equal(answered[i], expected ?? absentRow);
        }
        assert.equal(found, expectedFound);
      }
    }
  });

  test(under("keys that differ in their last byte, in their length or in trailing zeros are different keys"), () => {
    const size = { keysMax: 4_000, keyBytesMax: 400_000 };
    const table = KeyTable.create(newMemory(keyTableBytes(size)), size, keySeed(9n));
    const keys: Uint8Array[] = [];
    for (let length = 0; length < 70; length++) {
      keys.push(new Uint8Array(length));
      for (const at of [0, length >> 1, length - 1]) {
        const key = new Uint8Array(length);
        if (at < 0 || length === 0) continue;
        key[at] = 1 + at;
        keys.push(key);
      }
    }
    const distinct = new Set(keys.map((key) => Buffer.from(key).toString("hex"))).size;
    const rows = new Uint32Array(keys.length);
    table.insert(KeyBatch.of(keys), rows);
    assert.equal(table.count, distinct);
    assert.equal(new Set(rows).size, distinct);
  });

  test(under("a full table says how far it came, and goes on answering: full by keys, full by bytes"), () => {
    const rows = new Uint32Array(100);
    const many = KeyBatch.of(Array.from({ length: 100 }, (_, i) => `key-${i}`));
    const byCount = { keysMax: 40, keyBytesMax: 10_000 };
    const small = KeyTable.create(newMemory(keyTableBytes(byCount)), byCount, keySeed(1n));
    assert.equal(small.insert(many, rows), 40);
    assert.equal(small.count, 40);
    assert.equal(small.insert(many, rows), 40, "keys that are there need no room");
    assert.equal(small.probe(many, rows), 40);
    assert.equal(rows[39], 39);
    assert.equal(rows[40], absentRow);

    const byBytes = { keysMax: 40, keyBytesMax: 0 };
    const narrow = KeyTable.create(newMemory(keyTableBytes(byBytes)), byBytes, keySeed(1n));
    const long = KeyBatch.of([new Uint8Array(300), new Uint8Array(301), new Uint8Array(1)]);
    assert.equal(narrow.insert(long, rows), 1);
    assert.ok(narrow.recordBytes.used <= narrow.recordBytes.max);
    assert.equal(narrow.probe(long, rows), 1);
  });

  test(under("promise: a hash never stands for a key (forged equal tags and slots are told apart by the full key)"), () => {
    const size = { keysMax: 12, keyBytesMax: 2_500 };
    const seedOfTable = keySeed(77n);
    for (const [there, asked] of [
      ["user:1", "user:2"],
      ["a", "b"],
      ["", "x"],
      ["0123456789abcdef-tail-1", "0123456789abcdef-tail-2"],
      [`${"k".repeat(999)}1`, `${"k".repeat(999)}2`],
    ] as const) {
      const memory = newMemory(keyTableBytes(size));
      const table = KeyTable.create(memory, size, seedOfTable);
      const rows = new Uint32Array(2);
      table.insert(KeyBatch.of([there]), rows);
      // Move the entry to the other key's home slot and give it that key's tag: to everything but the key bytes it now looks like the other.
      const words = memory.u32;
      const slots = (table.at + words[table.at / 4 + 2]!) / 4;
      const mask = words[table.at / 4 + 1]!;
      let reference = 0;
      for (let slot = 0; slot <= mask; slot++) {
        reference ||= words[slots + 2 * slot + 1]!;
        words.fill(0, slots + 2 * slot, slots + 2 * slot + 2);
      }
      const hash = hashKey(Buffer.from(asked), seedOfTable);
      const home = Number(hash & 0xffffffffn & BigInt(mask));
      words.set([Number(hash >> 32n), reference], slots + 2 * home);
      const one = KeyBatch.of([asked]);
      assert.equal(table.probe(one, rows), 0, `${asked.length} bytes`);
      assert.equal(rows[0], absentRow);
      assert.equal(table.insert(one, rows), 1);
      assert.equal(rows[0], 1, "a new key gets a new row");
      assert.equal(table.probe(one, rows), 1);
      assert.equal(rows[0], 1);
    }
  });

  test(under("two keys whose hashes truly agree in slot and tag are two keys"), () => {
    // Found by hashing "collide-0", "collide-1", ... under seed 1 until two agreed in the high 32 and the low 4 bits.
    const one = "collide-324272";
    const other = "collide-417755";
    const seedOfTable = keySeed(1n);
    const hashes = [one, other].map((key) => hashKey(Buffer.from(key), seedOfTable));
    assert.equal(hashes[0]! >> 32n, hashes[1]! >> 32n, "tags");
    const size = { keysMax: 12, keyBytesMax: 100 };
    const table = KeyTable.create(newMemory(keyTableBytes(size)), size, seedOfTable);
    assert.equal(hashes[0]! & 15n, hashes[1]! & 15n, "slots of a table of 16");
    const rows = new Uint32Array(2);
    assert.equal(table.insert(KeyBatch.of([one]), rows), 1);
    assert.equal(table.probe(KeyBatch.of([other]), rows), 0);
    assert.equal(table.insert(KeyBatch.of([other, one]), rows), 2);
    assert.deepEqual([...rows], [1, 0]);
    assert.equal(table.probe(KeyBatch.of([one, other]), rows), 2);
    assert.deepEqual([...rows], [0, 1]);
  });

  test(under("a nearly full table of clustered slots ends every probe"), () => {
    const size = { keysMax: 12, keyBytesMax: 200 };
    const table = KeyTable.create(newMemory(keyTableBytes(size)), size, keySeed(3n));
    const keys = Array.from({ length: 12 }, (_, i) => `k${i}`);
    const rows = new Uint32Array(1_000);
    assert.equal(table.insert(KeyBatch.of(keys), rows), 12);
    const absent = Array.from({ length: 1_000 }, (_, i) => `absent-${i}`);
    assert.equal(table.probe(KeyBatch.of(absent), rows), 0);
    assert.ok(rows.every((row) => row === absentRow));
  });
}
