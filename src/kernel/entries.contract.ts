// What every kernel variant must do for the engine: memtables, runs, sorting, gathering, checksums. One suite, run for relaxed SIMD, SIMD128 and
// the scalar twin (entries.test.ts). The models are a Map and a sorted array.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { crc32c } from "#base/crc32c";
import { MillraceError } from "#base/errors";
import { Prng } from "#base/prng";
import { crc32cOf, crc32cOfBytes } from "./checksum.ts";
import { absentBlock, blockBytes } from "./entry-layout.ts";
import { EntryView, RecordBatch, recordBytes, recordHeadBytes } from "./entry-record.ts";
import { absentSource, EntryRefs } from "./entry-refs.ts";
import { FieldGather, type GatherField } from "./gather-fields.ts";
import { KernelMemory } from "./kernel-memory.ts";
import { kernels, type KernelVariant } from "./kernels.ts";
import { KeyBatch } from "./key-batch.ts";
import { keySeed, stripeHash } from "./key-hash.ts";
import { MemTable, memTableBytes, memRecordBytes } from "./mem-table.ts";
import { RunImage } from "./run-image.ts";
import { findInUnit, RunIndex, runIndexBytes } from "./run-index.ts";
import { RunWriter, runWriterBytes, type RunWriterSize } from "./run-writer.ts";
import { sortEntries, EntrySort, sortScratchBytes } from "./sort-entries.ts";

export interface ModelEntry {
  readonly key: Uint8Array;
  readonly kind: number;
  readonly value: Uint8Array;
  readonly expiryMs: number;
  readonly timeMs: number;
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
const text = (value: string): Uint8Array => new TextEncoder().encode(value);
const ascending = (entries: Iterable<ModelEntry>): ModelEntry[] => [...entries].sort((a, b) => Buffer.compare(a.key, b.key));

/** Keys and values of every length there is, short ones more often, many sharing long beginnings. */
function randomKey(prng: Prng): Uint8Array {
  const style = prng.below(10);
  if (style === 0) return prng.bytes(new Uint8Array(prng.below(4_097)));
  if (style < 4) return text(`shared/beginning/of/many/${"x".repeat(prng.below(4))}${prng.below(500)}`);
  if (style < 6) return new Uint8Array(prng.below(20));
  return prng.bytes(new Uint8Array(prng.below(24))).map((byte) => byte & 3);
}

function randomEntry(prng: Prng, key = randomKey(prng), longest = 100): ModelEntry {
  const kind = prng.pick([0, 1, 1, 2, 8, 15]);
  const value = prng.bytes(new Uint8Array(prng.chance(0.02) ? prng.below(longest * 100) : prng.below(longest)));
  return {
    key,
    kind,
    value: kind === 0 ? new Uint8Array(0) : value,
    expiryMs: prng.chance(0.3) ? prng.pick([1, 2 ** 32 - 1, 2 ** 48 - 1, 1_700_000_000_000]) : 0,
    timeMs: prng.chance(0.3) ? 1 + prng.below(1_000_000) : 0,
  };
}

function distinctEntries(prng: Prng, count: number, longest?: number): ModelEntry[] {
  const entries = new Map<string, ModelEntry>();
  for (let i = 0; i < count; i++) {
    const entry = randomEntry(prng, undefined, longest);
    entries.set(hex(entry.key), entry);
  }
  return ascending(entries.values());
}

/** Entries that come in stretches of keys that may have lines, some of them the shortest and the longest, and here and there one that may not. */
function linedEntries(prng: Prng, count: number): ModelEntry[] {
  const entries = new Map<string, ModelEntry>();
  for (let i = 0; i < count; i++) {
    const stretch = Math.floor(i / 150);
    const bytes = stretch % 3 === 2 && prng.chance(0.2) ? prng.pick([3, 47, 63, 64, 300]) : prng.pick([48, 49, 55, 60, 62, 62]);
    const key = prng.bytes(new Uint8Array(bytes));
    key.set([stretch, prng.below(256)]);
    const entry = randomEntry(prng, key, prng.pick([300, 300, 300, 40]));
    entries.set(hex(key), entry);
  }
  return ascending(entries.values());
}

/** How many keys of a run have lines. */
function lineCount(run: RunImage): number {
  const view = new EntryView();
  let lines = 0;
  for (let position = run.first; position !== run.end;) {
    position = run.entryAt(position, view);
    if (view.headAt !== view.at) lines++;
  }
  return lines;
}

function assertEntry(view: EntryView, expected: ModelEntry): void {
  assert.equal(hex(view.key()), hex(expected.key));
  assert.equal(hex(view.value()), hex(expected.value));
  assert.deepEqual([view.kind, view.expiryMs, view.timeMs], [expected.kind, expected.expiryMs, expected.timeMs]);
}

/** Looks up all keys in a source and compares with the model, also those that are absent. */
function assertProbe(
  source: { memory: KernelMemory; probe(keys: KeyBatch, refs: EntryRefs, source: number): number },
  model: ReadonlyMap<string, ModelEntry>,
  keys: readonly Uint8Array[],
  refs = new EntryRefs(),
): void {
  refs.reset(keys.length);
  const found = source.probe(KeyBatch.of(keys), refs, 7);
  let expectedFound = 0;
  for (const [i, key] of keys.entries()) {
    const expected = model.get(hex(key));
    assert.equal(refs.source[i], expected === undefined ? absentSource : 7, `key ${hex(key).slice(0, 40)}`);
    if (expected === undefined) continue;
    expectedFound++;
    assert.equal(hex(source.memory.bytes.subarray(refs.at[i], refs.at[i]! + refs.bytes[i]!)), hex(expected.value));
    assert.deepEqual([refs.kind[i], refs.expiryMs[i], refs.timeMs[i]], [expected.kind, expected.expiryMs, expected.timeMs]);
  }
  assert.equal(found, expectedFound);
  assert.equal(refs.found, expectedFound);
  // Less of the answer is the same answer.
  for (const parts of ["presence", "places"] as const) {
    const less = new EntryRefs();
    less.reset(keys.length, parts);
    assert.equal(source.probe(KeyBatch.of(keys), less, 7), expectedFound);
    assert.deepEqual(less.source.subarray(0, keys.length), refs.source.subarray(0, keys.length));
    for (let i = 0; i < keys.length && parts === "places"; i++) {
      if (less.source[i] !== absentSource) assert.deepEqual([less.at[i], less.bytes[i], less.kind[i]], [refs.at[i], refs.bytes[i], refs.kind[i]]);
    }
  }
}

const codeIs = (code: string) => (error: unknown) => error instanceof MillraceError && error.code === code;

export function entriesContract(variant: KernelVariant): void {
  const seed = process.env["SEED"] ?? "entries";
  const under = (name: string): string => `${variant}: ${name}`;
  const live = kernels(variant);
  const newMemory = (dataBytes: number, laneBytes = 1 << 20): KernelMemory => KernelMemory.create({ dataBytes, laneBytes }, live);
  const newTable = (size: Parameters<typeof memTableBytes>[0], laneBytes?: number, tableSeed = keySeed(3n)): MemTable =>
    MemTable.create(newMemory(memTableBytes(size), laneBytes), size, tableSeed);

  /** Builds the file of a run. `chunk` small: many drains. */
  function buildRun(entries: readonly ModelEntry[], options: Partial<RunWriterSize> & { own?: boolean; seed?: bigint } = {}): Uint8Array {
    const bytes = entries.reduce((sum, { key, value, expiryMs, timeMs }) => sum + recordBytes(key.length, value.length, expiryMs, timeMs), 0);
    const longest = entries.reduce((most, { key, value }) => Math.max(most, 20 + key.length + value.length), 64);
    const size: RunWriterSize = {
      entriesMax: Math.max(1, entries.length),
      recordBytesMax: bytes,
      longestRecordBytes: longest,
      separatorBytes: 5_000,
      ...options,
    };
    const table = { entriesMax: size.entriesMax, recordBytesMax: bytes + 16 * size.entriesMax };
    const memory = newMemory(memTableBytes(table) + runWriterBytes(size) + 128);
    const mem = MemTable.create(memory, table, keySeed(9n));
    for (const { key, kind, value, expiryMs, timeMs } of entries) assert.ok(mem.putOne(key, kind, value, expiryMs, timeMs));
    mem.order();
    const addresses = new Uint32Array(entries.length);
    assert.equal(mem.addresses(0, entries.length, addresses), entries.length);
    const writer = RunWriter.create(options.own === false ? newMemory(runWriterBytes(size)) : memory, size, keySeed(options.seed ?? 5n));
    const parts: Uint8Array[] = [];
    for (let taken = 0; taken < entries.length;) {
      taken += writer.addSorted(memory, addresses, taken, entries.length);
      assert.equal(writer.isFull, false);
      if (taken < entries.length) parts.push(writer.drain().slice());
    }
    for (const part of writer.finish()) parts.push(part.slice());
    return Buffer.concat([writer.headerBytes, ...parts]);
  }

  function load(file: Uint8Array): RunImage {
    const memory = newMemory(file.length + 128);
    const at = memory.reserve(file.length);
    memory.bytes.set(file, at);
    return RunImage.attach(memory, at, file.length);
  }

  function loadIndex(file: Uint8Array, header = load(file).header): RunIndex {
    const memory = newMemory(runIndexBytes(header) + 64);
    const at = memory.reserve(runIndexBytes(header));
    memory.bytes.set(file.subarray(0, blockBytes), at);
    memory.bytes.set(file.subarray(header.tableFrom), at + blockBytes);
    return RunIndex.attach(memory, at);
  }

  test(under(`CRC32C equals its definition, of every length, in pieces, and by blocks (SEED=${seed})`), () => {
    const prng = new Prng(seed).fork("crc");
    const memory = newMemory(32_768 + 256);
    const at = memory.reserve(32_768);
    const out = memory.reserve(64);
    prng.bytes(memory.bytes.subarray(at, at + 32_768));
    assert.equal(crc32cOf(memory, at, 0), 0);
    memory.bytes.set(text("123456789"), out);
    assert.equal(crc32cOf(memory, out, 9), 0xe3069283, "RFC 3720");
    for (let bytes = 0; bytes < 2_000; bytes++)
      assert.equal(crc32cOf(memory, at + bytes, bytes, bytes), crc32c(memory.bytes, bytes, at + bytes, at + 2 * bytes));
    // Of bytes elsewhere: below the length from which the kernel does it, and over its pieces.
    const elsewhere = prng.bytes(new Uint8Array(200_000));
    for (const [from, to] of [
      [0, 0],
      [3, 1_026],
      [3, 1_027],
      [1, 65_537],
      [1, 65_538],
      [7, 200_000],
    ] as const)
      assert.equal(crc32cOfBytes(elsewhere, from, from, to), crc32c(elsewhere, from, from, to), `${from} to ${to}`);
    for (let count = 0; count <= 8; count++) {
      memory.calls.crc32cBlocks(memory.crcAt, at, 4_096, count, out);
      for (let i = 0; i < count; i++) assert.equal(memory.u32[out / 4 + i], crc32c(memory.bytes, 0, at + i * 4_096, at + (i + 1) * 4_096));
    }
  });

  for (const threads of [false, true]) {
    test(under(`memtable against a Map: puts, overwritings, probes, order (threads ${threads}, SEED=${seed})`), () => {
      const prng = new Prng(seed).fork(`table ${threads}`);
      for (const laneBytes of threads ? [64 * 1024] : [64 * 1024, 1 << 20]) {
        const table = newTable({ entriesMax: 3_000, recordBytesMax: 6_000_000, threads }, laneBytes, keySeed(BigInt(prng.u32())));
        const model = new Map<string, ModelEntry>();
        const view = new EntryView();
        const batch = new RecordBatch();
        for (let round = 0; round < 8; round++) {
          batch.clear();
          const known = [...model.values()];
          for (let i = prng.pick([1, 5, 40, 300]); i > 0; i--) {
            const key = known.length > 0 && prng.chance(0.4) ? prng.pick(known).key : randomKey(prng);
            const entry = randomEntry(prng, key);
            batch.add(entry.key, entry.kind, entry.value, entry.expiryMs, entry.timeMs);
            model.set(hex(key), entry);
          }
          assert.equal(table.put(batch), batch.count);
          assert.equal(table.count, model.size);
          const asked = [...[...model.values()].map(({ key }) => key), ...Array.from({ length: 60 }, () => randomKey(prng))];
          assertProbe(table, model, prng.shuffle(asked));
          if (prng.chance(0.3)) continue;
          if (prng.chance(0.5)) table.order();
          else while (!table.orderStep());
          const sorted = ascending(model.values());
          assert.equal(table.orderedCount, sorted.length);
          for (const [i, entry] of sorted.entries()) assertEntry(table.entryAt(i, view), entry);
          for (let i = 0; i < 30; i++) {
            const key = prng.chance(0.5) ? prng.pick(sorted).key : randomKey(prng);
            assert.equal(table.seek(key), sorted.filter((entry) => Buffer.compare(entry.key, key) < 0).length);
          }
        }
        table.clear(keySeed(77n));
        assert.equal(table.count, 0);
        assertProbe(
          table,
          new Map(),
          [...model.values()].slice(0, 50).map(({ key }) => key),
        );
        assert.ok(table.putOne(text("again"), 1, text("value")));
      }
    });
  }

  test(under("a full memtable takes no more new keys, keeps what it has, and still overwrites in place"), () => {
    const table = newTable({ entriesMax: 100, recordBytesMax: 100_000 });
    const batch = new RecordBatch();
    for (let i = 0; i < 120; i++) batch.add(text(`key ${i}`), 1, text(`value ${i}`));
    assert.equal(table.put(batch), 100);
    assert.equal(table.putOne(text("key 100"), 1, text("no")), false);
    assert.equal(table.putOne(text("key 3"), 1, text("new")), true);
    const refs = new EntryRefs();
    refs.reset(2);
    assert.equal(table.probe(KeyBatch.of(["key 3", "key 100"]), refs, 0), 1);
    assert.equal(Buffer.from(table.memory.bytes.subarray(refs.at[0], refs.at[0]! + refs.bytes[0]!)).toString(), "new");

    const bytes = 3 * memRecordBytes(1, 10, 0, 0);
    const small = newTable({ entriesMax: 100, recordBytesMax: bytes });
    const room = small.recordBytes.max;
    let taken = 0;
    while (small.putOne(Uint8Array.of(taken), 1, new Uint8Array(10))) taken++;
    assert.equal(taken, Math.floor(room / memRecordBytes(1, 10, 0, 0)));
    assert.equal(small.putOne(Uint8Array.of(0), 1, new Uint8Array(40)), false, "a longer value has no room");
    assert.equal(small.putOne(Uint8Array.of(0), 1, new Uint8Array(9)), true);
  });

  test(under("records that lie behind one another: malformed ones are refused, those before are in; ones longer than the lane say so"), () => {
    const table = newTable({ entriesMax: 5_000, recordBytesMax: 2_000_000 }, 16 * 1024);
    const batch = new RecordBatch();
    for (let i = 0; i < 3_000; i++) batch.add(text(`key ${i}`), 1, text("v".repeat(i % 50)));
    const { bytes, used } = batch;
    assert.deepEqual(table.putRecords(bytes, 0, used, 3_000), { taken: 3_000, next: used });
    assert.throws(() => table.putRecords(bytes, 0, used - 1, 3_000), codeIs("corrupt"));
    const broken = bytes.slice(0, used);
    broken[0] = 0xc1;
    assert.throws(() => table.putRecords(broken, 0, used, 3_000), codeIs("corrupt"));
    assert.throws(() => table.putRecords(bytes, 0, used, 3_001), codeIs("corrupt"));
    batch.clear();
    batch.add(text("first"), 1, text("value"));
    batch.add(text("long"), 1, new Uint8Array(20_000));
    assert.throws(() => table.put(batch), codeIs("invalid"));
    assert.throws(() => table.putOne(text("long"), 1, new Uint8Array(20_000)), codeIs("invalid"));
    assert.throws(() => new RecordBatch().add(new Uint8Array(4_097), 1, text("")), codeIs("invalid"));
    assert.throws(() => new RecordBatch().add(text("k"), 16, text("")), codeIs("invalid"));
    assert.throws(() => new RecordBatch().add(text("k"), 1, text(""), 2 ** 48), codeIs("invalid"));
  });

  test(under("promise: the full key is compared: keys of one group and one tag, more than a group holds, are told apart"), () => {
    const tableSeed = keySeed(21n);
    const size = { entriesMax: 400, recordBytesMax: 100_000 };
    const groups = Math.ceil(400 / (12 * 0.8)) + 1;
    // All of home group 3, and of few tags: every search walks over overflowing groups full of equal tags.
    const keys: Uint8Array[] = [];
    for (let i = 0; keys.length < 40; i++) {
      const key = text(`collision ${i}`);
      const hash = stripeHash(key, tableSeed);
      if (((hash >> 32n) * BigInt(groups)) >> 32n === 3n && (hash & 0xffn) < 64n) keys.push(key);
    }
    const entries = keys.slice(0, 30).map((key, i) => ({ key, kind: 1, value: text(`value ${i}`), expiryMs: 0, timeMs: 0 }));
    const table = newTable(size, undefined, tableSeed);
    const model = new Map(entries.map((entry) => [hex(entry.key), entry]));
    for (const { key, kind, value } of entries) table.putOne(key, kind, value);
    assertProbe(table, model, keys);
    const run = load(buildRun(ascending(entries), { seed: 21n }));
    assertProbe(run, model, keys);
  });

  test(under(`keys that all have lines: all lengths, one byte apart, of one group and one tag, asked alone and among others (SEED=${seed})`), () => {
    const prng = new Prng(seed).fork("all lines");
    const of = (key: Uint8Array): ModelEntry => ({ key, kind: 8, value: prng.bytes(new Uint8Array(250)), expiryMs: 0, timeMs: prng.pick([0, 5]) });
    const seedOfRun = keySeed(5n);
    const colliding: Uint8Array[] = [];
    // A run of 400 entries of so many bytes has 52 groups.
    for (let i = 0; colliding.length < 60; i++) {
      const key = text(`z collision ${i}`.padEnd(48 + (i % 15), "."));
      const hash = stripeHash(key, seedOfRun);
      if (((hash >> 32n) * 52n) >> 32n === 7n && (hash & 0xffn) < 40n) colliding.push(key);
    }
    const others = Array.from({ length: 360 }, (_, i) => text(`k${String(i).padStart(4, "0")} `.padEnd(48 + (i % 15), "abcdefg")));
    const entries = ascending([...others, ...colliding.slice(0, 40)].map(of));
    const run = load(buildRun(entries));
    assert.equal(run.header.groups, 52);
    const model = new Map(entries.map((entry) => [hex(entry.key), entry]));
    const lined: Uint8Array[] = [];
    const view = new EntryView();
    for (let position = run.first; position !== run.end;) {
      position = run.entryAt(position, view);
      if (view.headAt !== view.at) lined.push(view.key().slice());
    }
    assert.ok(lined.length > 300, `${lined.length} lines`);
    const apart = lined.flatMap((key, i) => [
      key.map((byte, at) => (at === i % key.length ? byte ^ 0x80 : byte)),
      key.subarray(0, -1),
      Uint8Array.of(...key, 46),
    ]);
    const asked = prng.shuffle([...lined, ...apart.filter(({ length }) => length >= 48), ...colliding.slice(40)]);
    assertProbe(run, model, asked);
    assertProbe(run, model, lined);
    assertProbe(run, model, prng.shuffle([...asked, ...entries.map(({ key }) => key), ...apart]));
    for (const key of [...lined.slice(0, 3), ...apart.slice(0, 9)]) assertProbe(run, model, [key]);
  });

  test(under(`sources one after the other: the first that holds a key keeps it, tombstones too, and answers before stay (SEED=${seed})`), () => {
    const prng = new Prng(seed).fork("sources");
    const newer = newTable({ entriesMax: 100, recordBytesMax: 10_000 });
    const older = newTable({ entriesMax: 200, recordBytesMax: 20_000 });
    for (let i = 0; i < 200; i++) older.putOne(text(`k${i}`), 1, text(`old ${i}`), i % 2 === 0 ? 5 : 0, 3);
    for (let i = 0; i < 100; i += 2) newer.putOne(text(`k${i}`), i % 4 === 0 ? 0 : 2, text(i % 4 === 0 ? "" : `new ${i}`));
    const asked = prng.shuffle(Array.from({ length: 250 }, (_, i) => i));
    const keys = KeyBatch.of(asked.map((i) => `k${i}`));
    const refs = new EntryRefs();
    refs.reset(keys.count);
    // A source that the caller filled in stays as well.
    [refs.source[0], refs.at[0], refs.bytes[0], refs.kind[0]] = [9, 123, 45, 6];
    newer.probe(keys, refs, 1);
    older.probe(keys, refs, 0);
    assert.deepEqual([refs.source[0], refs.at[0], refs.bytes[0], refs.kind[0]], [9, 123, 45, 6]);
    refs.reset(keys.count);
    assert.equal(newer.probe(keys, refs, 1), 50);
    assert.equal(older.probe(keys, refs, 0), 150);
    for (const [at, i] of asked.entries()) {
      const inNewer = i < 100 && i % 2 === 0;
      assert.equal(refs.source[at], inNewer ? 1 : i < 200 ? 0 : absentSource);
      if (i >= 200) continue;
      const { bytes } = (inNewer ? newer : older).memory;
      const value = Buffer.from(bytes.subarray(refs.at[at], refs.at[at]! + refs.bytes[at]!)).toString();
      assert.equal(value, inNewer ? (i % 4 === 0 ? "" : `new ${i}`) : `old ${i}`);
      assert.equal(refs.kind[at], inNewer ? (i % 4 === 0 ? 0 : 2) : 1);
      assert.deepEqual([refs.expiryMs[at], refs.timeMs[at]], inNewer ? [0, 0] : [i % 2 === 0 ? 5 : 0, 3]);
    }
  });

  test(under("every form of an entry's head, at its bounds, with and without times: table and run; a longer form than needed is read too"), () => {
    const entries: ModelEntry[] = [];
    let number = 0;
    for (const keyBytes of [2, 255, 256, 4_096]) {
      for (const valueBytes of [0, 255, 256, 65_535, 65_536]) {
        for (const [expiryMs, timeMs] of [[0, 0] as const, [7, 0] as const, [0, 2 ** 48 - 1] as const, [1, 2] as const]) {
          const key = new Uint8Array(keyBytes).fill(9);
          key.set([++number >>> 8, number], keyBytes - 2);
          entries.push({ key, kind: 1 + (number % 15), value: new Uint8Array(valueBytes).fill(number), expiryMs, timeMs });
          const head = recordHeadBytes(keyBytes, valueBytes);
          assert.equal(head, keyBytes > 255 || valueBytes > 65_535 ? 8 : valueBytes > 255 ? 4 : 3);
          assert.equal(recordBytes(keyBytes, valueBytes, expiryMs, timeMs), head + (expiryMs > 0 ? 6 : 0) + (timeMs > 0 ? 6 : 0) + keyBytes + valueBytes);
        }
      }
    }
    entries.push({ key: new Uint8Array(0), kind: 0, value: new Uint8Array(0), expiryMs: 0, timeMs: 0 });
    const model = new Map(entries.map((entry) => [hex(entry.key), entry]));
    const keys = entries.map(({ key }) => key);
    const table = newTable({ entriesMax: 200, recordBytesMax: 4_000_000 });
    for (const { key, kind, value, expiryMs, timeMs } of entries) assert.ok(table.putOne(key, kind, value, expiryMs, timeMs));
    assertProbe(table, model, keys);
    const run = load(buildRun(ascending(entries)));
    run.verify();
    assertProbe(run, model, keys);
    const view = new EntryView();
    let position = run.first;
    for (const entry of ascending(entries)) {
      position = run.entryAt(position, view);
      assertEntry(view, entry);
    }

    const longForms = [0x41, 3, 2, 0, 97, 98, 99, 1, 2, 0x81, 3, 0, 0, 2, 0, 0, 0, 100, 101, 102, 3, 4];
    table.clear(keySeed(4n));
    assert.equal(table.putRecords(Uint8Array.from(longForms), 0, longForms.length, 2).taken, 2);
    const longer = ["abc", "def"].map((key, i) => ({ key: text(key), kind: 1, value: Uint8Array.of(2 * i + 1, 2 * i + 2), expiryMs: 0, timeMs: 0 }));
    assertProbe(
      table,
      new Map(longer.map((entry) => [hex(entry.key), entry])),
      longer.map(({ key }) => key),
    );
    for (const first of [0xc1, 0xff]) {
      assert.equal(view.read(Uint8Array.of(first, 1, 1, 0, 0, 0, 0, 0, 0, 0), 0, 10), false);
      assert.throws(() => table.putRecords(new Uint8Array(16).fill(first), 0, 16, 1), codeIs("corrupt"));
    }
  });

  test(under(`sorting against the order of byte strings, equal keys by address, in steps (SEED=${seed})`), () => {
    const prng = new Prng(seed).fork("sort");
    for (const count of [0, 1, 2, 13, 200, 5_000]) {
      const keys = Array.from({ length: count }, () =>
        prng.chance(0.2) ? text(`same${prng.below(5)}`) : randomKey(prng).subarray(0, prng.pick([3, 8, 9, 16, 200])),
      );
      const batch = new RecordBatch();
      const starts: number[] = [];
      for (const key of keys) {
        starts.push(batch.used);
        batch.add(key, 1, text("v"), prng.chance(0.2) ? 9 : 0);
      }
      const memory = newMemory(batch.used + 4 * count + sortScratchBytes(count) + 512);
      const recordsAt = memory.reserve(batch.used);
      memory.bytes.set(batch.bytes.subarray(0, batch.used), recordsAt);
      const listAt = memory.reserve(4 * count);
      const scratchAt = memory.reserve(sortScratchBytes(count));
      const order = prng.shuffle(starts.map((_, i) => i));
      memory.u32.set(
        order.map((i) => recordsAt + starts[i]!),
        listAt / 4,
      );
      const sort = new EntrySort(memory, listAt, count, scratchAt);
      while (!sort.step(100));
      const expected = [...order].sort((a, b) => Buffer.compare(keys[a]!, keys[b]!) || a - b).map((i) => recordsAt + starts[i]!);
      assert.deepEqual([...memory.u32.subarray(listAt / 4, listAt / 4 + count)], expected);
      sortEntries(memory, listAt, count, scratchAt);
      assert.deepEqual([...memory.u32.subarray(listAt / 4, listAt / 4 + count)], expected);
    }
  });

  test(under(`run against a sorted array: probe, walk both ways, seek, statistics; from its own memory or another (SEED=${seed})`), () => {
    const prng = new Prng(seed).fork("run");
    for (const [count, longest, own] of [
      [0, 10, true],
      [1, 10, true],
      [90, 3_000, true],
      [800, 100, true],
      [800, 100, false],
      [200, 1_000, false],
      [900, "lines", true],
      [900, "lines", false],
    ] as const) {
      const entries = longest === "lines" ? linedEntries(prng, count) : distinctEntries(prng, count, longest);
      const file = buildRun(entries, { own, chunkBytes: 8_192 });
      const run = load(file);
      run.verify();
      if (longest === "lines") assert.ok(lineCount(run) > 100 && lineCount(run) < count, `${lineCount(run)} lines`);
      const model = new Map(entries.map((entry) => [hex(entry.key), entry]));
      const close = entries.slice(0, 100).map(({ key }) => key.map((byte, i) => (i === key.length - 1 ? byte ^ 1 : byte)));
      const asked = prng.shuffle([...entries.map(({ key }) => key), ...close, ...Array.from({ length: 200 }, () => randomKey(prng))]);
      assertProbe(run, model, asked);
      const view = new EntryView();
      const positions: number[] = [];
      for (let position = run.first; position !== run.end;) {
        positions.push(position);
        const next = run.entryAt(position, view);
        assertEntry(view, entries[positions.length - 1]!);
        position = next;
      }
      assert.equal(positions.length, entries.length);
      const back: number[] = [];
      for (let position = run.before(run.end); position >= 0; position = run.before(position)) back.push(position);
      assert.deepEqual(back.reverse(), positions);
      for (const key of asked.slice(0, 100)) {
        const place = entries.findIndex((entry) => Buffer.compare(entry.key, key) >= 0);
        assert.equal(run.seek(key), place === -1 ? run.end : positions[place]);
      }
      const sum = (of: (entry: ModelEntry) => number): number => entries.reduce((total, entry) => total + of(entry), 0);
      const times = entries.map(({ timeMs }) => timeMs).filter((ms) => ms > 0);
      const expiries = entries.map(({ expiryMs }) => expiryMs).filter((ms) => ms > 0);
      assert.deepEqual(run.statistics, {
        entries: entries.length,
        tombstones: sum(({ kind }) => (kind === 0 ? 1 : 0)),
        expiring: expiries.length,
        keyBytes: sum(({ key }) => key.length),
        valueBytes: sum(({ value }) => value.length),
        minTimeMs: times.length === 0 ? 0 : Math.min(...times),
        maxTimeMs: Math.max(0, ...times),
        minExpiryMs: expiries.length === 0 ? 0 : Math.min(...expiries),
        maxExpiryMs: Math.max(0, ...expiries),
      });
      assert.equal(hex(run.minKey), hex(entries[0]?.key ?? new Uint8Array(0)));
      assert.equal(hex(run.maxKey), hex(entries.at(-1)?.key ?? new Uint8Array(0)));

      // The same run with its data on disk: at most one unit a key, and it is the right one.
      const index = loadIndex(file);
      index.verify();
      const blocks = new Uint32Array(asked.length);
      index.probe(KeyBatch.of(asked), blocks);
      let needless = 0;
      for (const [i, key] of asked.entries()) {
        const expected = model.get(hex(key));
        if (blocks[i] === absentBlock) assert.equal(expected, undefined);
        else {
          const block = blocks[i]!;
          const unit = file.subarray((block + 1) * blockBytes, (block + 1 + index.unitBlocks(block)) * blockBytes);
          index.check(block, unit, "run");
          const isThere = findInUnit(unit, key, view);
          assert.equal(isThere, expected !== undefined);
          if (expected === undefined) needless++;
          else assertEntry(view, expected);
        }
      }
      assert.ok(needless <= 30, `${needless} units read for absent keys`);
      if (count === 0) continue;
      for (const key of asked.slice(0, 50)) {
        const unit = index.seek(key);
        const first = entries.findIndex((entry) => Buffer.compare(entry.key, key) >= 0);
        const at = first === -1 ? entries.length - 1 : first;
        const block = positions[at]! / blockBytes - 1;
        // The first entry >= key begins in this unit or directly behind it.
        assert.ok(index.unitStart(Math.floor(block)) === unit || index.unitStart(Math.floor(block)) === unit + index.unitBlocks(unit) || first === -1);
      }
    }
  });

  test(under("a run writer refuses what is not in order, says when it is full, and begins again"), () => {
    const size = { entriesMax: 3, recordBytesMax: 10_000, longestRecordBytes: 5_000 };
    const memory = newMemory(runWriterBytes(size));
    const writer = RunWriter.create(memory, size, keySeed(1n));
    const view = new EntryView();
    const add = (key: string, bytes = 5): boolean => {
      const batch = new RecordBatch();
      batch.add(text(key), 1, new Uint8Array(bytes));
      assert.ok(view.read(batch.bytes, 0, batch.used));
      return writer.add(view);
    };
    assert.ok(add("b"));
    assert.throws(() => add("b"), codeIs("invalid"));
    assert.throws(() => add("a"), codeIs("invalid"));
    assert.ok(add("bb"));
    assert.ok(add("c"));
    assert.equal(add("d"), false);
    assert.equal(writer.isFull, true);
    const parts: Uint8Array[] = [];
    for (const part of writer.finish()) parts.push(part.slice());
    const run = load(Buffer.concat([writer.headerBytes, ...parts]));
    run.verify();
    assert.equal(run.count, 3);
    writer.reset(keySeed(2n));
    assert.ok(add("a"));
    writer.drain();
    assert.throws(() => add("a"), codeIs("invalid"), "also after the chunk was given out");
    assert.throws(() => {
      for (let i = 0; i < 3; i++) {
        add("z", 20_000);
        writer.drain();
      }
    }, codeIs("invalid"));
    const zeros = newMemory(256);
    zeros.bytes.fill(0xff, zeros.dataFrom, zeros.dataFrom + 64);
    assert.throws(() => writer.addSorted(zeros, Uint32Array.of(zeros.dataFrom), 0, 1), codeIs("corrupt"));
  });

  test(under(`promise: a damaged run is refused: flipped bits, cut ends (SEED=${seed})`), () => {
    const prng = new Prng(seed).fork("damage");
    const entries = distinctEntries(prng, 300);
    const file = buildRun(entries);
    const memory = newMemory(file.length + 128);
    const at = memory.reserve(file.length);
    const used = { start: 0, end: load(file).header };
    const attachAndVerify = (bytes: number): void => RunImage.attach(memory, at, bytes).verify();
    memory.bytes.set(file, at);
    attachAndVerify(file.length);
    const checksEnd = used.end.checksFrom + 4 * used.end.blocks;
    for (let i = 0; i < 200; i++) {
      const bit = prng.below(8 * checksEnd);
      memory.bytes[at + (bit >>> 3)]! ^= 1 << (bit & 7);
      assert.throws(() => attachAndVerify(file.length), codeIs("corrupt"), `bit ${bit} of ${8 * file.length}`);
      memory.bytes[at + (bit >>> 3)]! ^= 1 << (bit & 7);
    }
    for (let i = 0; i < 30; i++) assert.throws(() => attachAndVerify(prng.below(file.length)), codeIs("corrupt"));
    attachAndVerify(file.length);
    assert.throws(() => RunImage.attach(newMemory(100), 20_480 + (1 << 20)), codeIs("corrupt"));
    const index = loadIndex(file);
    index.verify();
    const unit = file.slice(blockBytes, 2 * blockBytes);
    index.check(0, unit, "run");
    unit[77]! ^= 4;
    assert.throws(() => index.check(0, unit, "run"), codeIs("corrupt"));
    assert.throws(() => index.check(0, unit.subarray(0, 100), "run"), codeIs("corrupt"));
    assert.throws(() => index.check(index.dataBlocks, unit, "run"), codeIs("corrupt"));
    for (let i = 0; i < 100; i++) {
      const damaged = loadIndex(file);
      const byte = prng.between(blockBytes, runIndexBytes(damaged.header) - 1);
      if (byte - blockBytes + damaged.header.tableFrom >= checksEnd) continue;
      damaged.memory.bytes[damaged.at + byte]! ^= 1 << prng.below(8);
      assert.throws(() => damaged.verify(), codeIs("corrupt"));
    }
  });

  test(under(`a damaged run that nobody verified: answers or \`corrupt\`, never anything outside the run (SEED=${seed})`), () => {
    const prng = new Prng(seed).fork("unverified");
    const entries = ascending([...distinctEntries(prng, 300), ...linedEntries(prng, 300)]);
    const file = buildRun(entries);
    assert.ok(lineCount(load(file)) > 0);
    const keys = KeyBatch.of(entries.map(({ key }) => key));
    const refs = new EntryRefs();
    const view = new EntryView();
    for (let round = 0; round < 25; round++) {
      const run = load(file);
      const index = loadIndex(file);
      const { bytes } = run.memory;
      for (let i = prng.pick([1, 30, 3_000]); i > 0; i--) {
        const offset = prng.between(blockBytes, file.length - 1);
        const value = prng.pick([0, 0xff, prng.below(256)]);
        bytes[run.at + offset] = value;
        if (offset >= run.header.tableFrom) index.memory.bytes[index.at + blockBytes + offset - run.header.tableFrom] = value;
      }
      const tolerated = (work: () => void): void => {
        try {
          work();
        } catch (error) {
          if (!codeIs("corrupt")(error)) throw error;
        }
      };
      refs.reset(keys.count);
      run.probe(keys, refs, 0);
      for (let i = 0; i < keys.count; i++) {
        if (refs.source[i] === 0) assert.ok(refs.at[i]! >= run.at && refs.at[i]! + refs.bytes[i]! <= run.at + run.end);
      }
      tolerated(() => {
        for (let position = run.first; position < run.end; position = run.entryAt(position, view));
      });
      tolerated(() => {
        for (let position = run.before(run.end); position >= 0; position = run.before(position));
      });
      for (const { key } of entries.slice(0, 20)) tolerated(() => void run.seek(key));
      const blocks = new Uint32Array(keys.count);
      index.probe(keys, blocks);
      for (const block of blocks) assert.ok(block === absentBlock || block < index.dataBlocks);
      for (const { key } of entries.slice(0, 20)) tolerated(() => void index.seek(key));
    }
  });

  test(under(`an index of nothing but lies ends every search: equal tags, all groups going on, references anywhere (SEED=${seed})`), () => {
    const prng = new Prng(seed).fork("lies");
    const entries = ascending(
      Array.from({ length: 90 }, (_, i) => ({ key: text(`a key of some length ${i}`), kind: 1, value: text("v"), expiryMs: 0, timeMs: 0 })),
    );
    const run = load(buildRun(entries, { seed: 4n }));
    const { memory, at, header } = run;
    const { indexFrom, groups, tableFrom } = header;
    for (let group = 0; group < groups; group++) {
      const from = at + indexFrom + 64 * group;
      for (let slot = 0; slot < 12; slot++) {
        memory.bytes[from + slot] = prng.between(1, 3);
        memory.u32[from / 4 + 4 + slot] = prng.pick([0, 1, tableFrom - 1, tableFrom, tableFrom + 1, 0xffff_ffff, prng.u32(), prng.below(tableFrom)]);
      }
      memory.u32[from / 4 + 3] = 0xffff_ffff;
    }
    const refs = new EntryRefs();
    for (const long of [0, 70, 3_000]) {
      const keys = KeyBatch.of(Array.from({ length: 300 }, (_, i) => `${"x".repeat(long)}${i}`));
      refs.reset(keys.count);
      assert.equal(run.probe(keys, refs, 1), 0);
    }
  });

  test(under(`gather against row by row: columns, rows, defaults, bits, other layouts and sources left alone, small lanes (SEED=${seed})`), () => {
    const prng = new Prng(seed).fork("gather fields");
    for (let round = 0; round < 25; round++) {
      const count = prng.pick([0, 1, 31, 32, 33, 300]);
      const widths = Array.from({ length: prng.between(1, 12) }, () => prng.pick([1, 4, 4, 4, 8, 12, 24, 200]));
      const headBytes = 8;
      const bitsFrom = 4 * 8;
      let offset = headBytes;
      const rowMajor = prng.chance(0.5);
      const picked: GatherField[] = [];
      let at = 0;
      for (const [f, bytes] of widths.entries()) {
        if (prng.chance(0.8)) {
          picked.push({
            offset,
            bytes,
            output: rowMajor ? 0 : picked.length,
            at: rowMajor ? at : 0,
            ...(prng.chance(0.7) ? { validBit: bitsFrom + f } : {}),
            ...(prng.chance(0.5) ? { defaults: prng.bytes(new Uint8Array(bytes)) } : {}),
          });
          at += bytes;
        }
        offset += bytes;
      }
      if (picked.length === 0) continue;
      const bytesMin = offset;
      const rowBytes = rowMajor ? [at] : picked.map(({ bytes }) => bytes);
      const memory = newMemory(count * (bytesMin + 40) + 64, 64 * 1024);
      const refs = new EntryRefs();
      refs.reset(count);
      let next = memory.dataFrom + 3;
      for (let i = 0; i < count; i++) {
        const size = prng.chance(0.05) ? bytesMin - 1 : bytesMin + prng.below(30);
        prng.bytes(memory.bytes.subarray(next, next + size));
        memory.bytes[next] = prng.chance(0.1) ? 9 : 1;
        if (prng.chance(0.5)) memory.bytes.fill(0xff, next + 4, next + 8);
        refs.source[i] = prng.pick([0, 0, 0, 1, absentSource]);
        refs.at[i] = next;
        refs.bytes[i] = size;
        next += size;
      }
      const fields = picked;
      const expectedOutputs = rowBytes.map((bytes) => new Uint8Array(count * bytes));
      const expectedValid = fields.map(() => new Uint8Array(Math.ceil(count / 8)));
      const expectedTaken = new Uint8Array(count);
      const note = prng.pick([0, 4, 0x81]);
      let expectedSum = 0;
      for (let i = 0; i < count; i++) {
        const value = memory.bytes.subarray(refs.at[i], refs.at[i]! + refs.bytes[i]!);
        const takes = refs.source[i] === 0 && value.length >= bytesMin && value[0] === 1;
        if (takes) {
          expectedSum++;
          expectedTaken[i] = (value[2]! & note) === 0 ? 1 : 3;
        }
        for (const [f, { offset: from, bytes, output, at: to, validBit, defaults }] of fields.entries()) {
          const there = takes && (validBit === undefined || ((value[validBit >>> 3]! >>> (validBit & 7)) & 1) === 1);
          const out = expectedOutputs[output]!.subarray(i * rowBytes[output]! + to, i * rowBytes[output]! + to + bytes);
          out.set(there ? value.subarray(from, from + bytes) : (defaults ?? new Uint8Array(bytes)));
          if (there) expectedValid[f]![i >>> 3]! |= 1 << (i & 7);
        }
      }
      const gather = new FieldGather({ bytesMin, mask: 0xff, match: 1, ...(note === 0 ? {} : { note: note << 16 }) }, fields, rowBytes);
      const wanted = fields.map(() => prng.chance(0.8));
      const targets = {
        outputs: expectedOutputs.map(({ length }) => new Uint8Array(length).fill(0xaa)),
        valid: expectedValid.map(({ length }, f) => (wanted[f]! ? new Uint8Array(length).fill(0x55) : undefined)),
        taken: new Uint8Array(count).fill(3),
      };
      for (const way of ["begin and gather", "gatherAll"]) {
        if (way === "gatherAll") {
          for (const out of targets.outputs) out.fill(0x77);
          for (const bits of targets.valid) bits?.fill(0x33);
          targets.taken.fill(5);
          assert.equal(gather.gatherAll(memory, refs, 0, targets), expectedSum);
        } else {
          gather.begin(count, targets);
          assert.equal(gather.gather(memory, refs, 0, targets), expectedSum);
        }
        assert.deepEqual(targets.outputs, expectedOutputs, way);
        for (const [f, bits] of targets.valid.entries()) if (bits !== undefined) assert.deepEqual(bits, expectedValid[f], way);
        assert.deepEqual(targets.taken, expectedTaken, way);
      }
    }
  });

  test(under("promise: the golden runs of version 3 are written byte by byte, and read; that of version 2 is read"), () => {
    const goldenOf = (name: string): Buffer => readFileSync(new URL(`../../test/golden/run/${name}`, import.meta.url));
    const golden = goldenOf("v3/three-entries.run");
    const entries: ModelEntry[] = [
      { key: text("\0\0item:1"), kind: 1, value: text("first"), expiryMs: 0, timeMs: 0 },
      { key: text("\0\0item:2"), kind: 0, value: text(""), expiryMs: 0, timeMs: 1_700_000_000_000 },
      { key: text("\0\x01user:1"), kind: 8, value: text("a row"), expiryMs: 1_800_000_000_000, timeMs: 1_700_000_000_001 },
    ];
    assert.equal(hex(buildRun(entries, { seed: 0x0123_4567_89ab_cdefn })), hex(golden));
    const assertHolds = (file: Uint8Array, held: readonly ModelEntry[]): void => {
      const run = load(file);
      run.verify();
      assertProbe(run, new Map(held.map((entry) => [hex(entry.key), entry])), [...held.map(({ key }) => key), text("\0\0item:3")]);
      const view = new EntryView();
      let position = run.first;
      for (const entry of held) {
        position = run.entryAt(position, view);
        assertEntry(view, entry);
      }
      assert.equal(position, run.end);
      const index = loadIndex(file);
      index.verify();
      const blocks = new Uint32Array(held.length);
      assert.equal(index.probe(KeyBatch.of(held.map(({ key }) => key)), blocks), held.length);
    };
    assertHolds(golden, entries);
    assertHolds(goldenOf("v2/three-entries.run"), entries);
    const lined = Array.from({ length: 60 }, (_, i) => ({
      key: text(`\0\x02track:${String(i).padStart(4, "0")}:a name that is rather long`.padEnd(62 - (i % 15), "-")),
      kind: 8,
      value: new Uint8Array(204 + (i % 7)).fill(i),
      expiryMs: i % 10 === 5 ? 1_800_000_000_000 : 0,
      timeMs: 1_700_000_000_000 + i,
    }));
    assert.equal(hex(buildRun(lined, { seed: 0x0123_4567_89ab_cdefn })), hex(goldenOf("v3/key-lines.run")));
    assertHolds(goldenOf("v3/key-lines.run"), lined);
    assert.equal(lineCount(load(goldenOf("v3/key-lines.run"))), 14);
    const old = Uint8Array.from(golden);
    old[8] = 1;
    new DataView(old.buffer).setUint32(blockBytes - 4, crc32c(old, 0, 0, blockBytes - 4), true);
    assert.throws(() => load(old), codeIs("unsupported"));
    // The bytes that docs/format/run-file.md shows.
    const page = readFileSync(new URL("../../docs/format/run-file.md", import.meta.url), "utf8");
    const lines = [...page.matchAll(/^([0-9a-f]{4}) {2}((?:[0-9a-f]{2} ?){16})/gmu)];
    assert.ok(lines.length >= 18);
    for (const [, offset, bytes] of lines) {
      const from = Number.parseInt(offset!, 16);
      assert.equal(hex(golden.subarray(from, from + 16)), bytes!.replaceAll(" ", ""), `the page at ${offset}`);
    }
  });
}
