// Guards the bytes of a checkpoint: rows of every store come back bit by bit, damaged bytes are refused and never believed, and golden bytes are read for ever.
// SEED=n replays one run.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { MillraceError } from "#base/errors";
import { Prng } from "#base/prng";
import { schemaOf, type TableSchema } from "../tables/table-schema.ts";
import { evolve } from "../tables/schema-evolution.ts";
import { cooccurrence } from "../cooccurrence.ts";
import { count } from "../count.ts";
import { decayedCount } from "../decayed-count.ts";
import { createFeatureSet } from "../feature-set.ts";
import { HandleTable } from "../handle-table.ts";
import { historyList } from "../history-list.ts";
import { recentList } from "../recent-list.ts";
import { TopList } from "../top-list.ts";
import { type CheckpointHead, decodeHead, encodeHead } from "./checkpoint-head.ts";
import { EffectChunks, readChunk } from "./effect-chunks.ts";
import { decodeTexts, encodeTexts, HandleList } from "./handle-list.ts";
import { KeptTop } from "./kept-top.ts";
import { RowMarks } from "./row-marks.ts";
import { StateRowReader, StateRowWriter } from "./state-row.ts";
import { type StoredColumns, tableConfigOf } from "./stored-state.ts";

const seed = Number(process.env["SEED"] ?? 11);
const isCorrupt = (thrown: unknown): boolean => thrown instanceof MillraceError && thrown.code === "corrupt";

function schemaFor(parts: readonly StoredColumns[]): TableSchema {
  return schemaOf(evolve("activity.test", tableConfigOf({ parts }), undefined, 7).document, "test");
}

const types = { view: 1, buy: 3 };
const dayMs = 86_400_000;

function newSet() {
  return createFeatureSet(Object.keys(types), {
    total: count({ by: "item", types }),
    popular: decayedCount({ by: "item", halfLifeMs: dayMs, types, top: 5 }),
    active: decayedCount({ by: "user", halfLifeMs: dayMs, types }),
    together: cooccurrence({ list: "recent", windowMs: dayMs, halfLifeMs: dayMs / 50, neighbours: 8, pairsPerEvent: 16, norm: "popular", shrinkage: 1 }),
    recent: recentList({ n: 16, types }),
    history: historyList({ n: 8, halfLifeMs: dayMs, types }),
  });
}

test("rows of every aggregation come back bit by bit, and go on as if nothing had been", () => {
  const random = new Prng(seed);
  const handles = 50;
  const first = newSet();
  const second = newSet();
  const fold = (set: typeof first, events: number, prng: Prng): void => {
    for (let at = 0; at < events; at += 1) {
      const atMs = 1_700_000_000_000 + at * 600_000 - prng.below(3_600_000);
      set.fold({ type: prng.below(2), user: prng.below(handles), item: prng.below(handles), atMs, value: 0 });
    }
  };
  fold(first, 4_000, random.fork("a"));
  const rowsOf = (set: typeof first): Record<string, string[]> => {
    const rows: Record<string, string[]> = {};
    for (const [name, store] of Object.entries(set.stores)) {
      const { part } = store.kept(name);
      const row = new StateRowWriter(schemaFor([part]));
      rows[name] = Array.from({ length: handles }, (_, handle) => {
        row.begin(1);
        part.save(handle, row);
        return Buffer.from(row.encode()).toString("base64");
      });
    }
    return rows;
  };
  for (const [name, store] of Object.entries(second.stores)) {
    const { part, top, topKey, number } = store.kept(name);
    const reader = new StateRowReader(schemaFor([part]));
    for (const [handle, row] of rowsOf(first)[name]!.entries()) {
      reader.load(Buffer.from(row, "base64"));
      part.load(handle, reader);
    }
    const from = first.stores[name as keyof typeof first.stores].kept(name);
    if (number !== undefined) number.set(from.number!.get());
    if (top === undefined) continue;
    const { handles: held, dropped } = from.top!.held();
    top.restore(held, dropped, topKey!);
  }
  assert.deepEqual(rowsOf(second), rowsOf(first));
  assert.ok(first.stores.together.evictions > 0, "no table was cut, so nothing was proved of it");
  for (const set of [first, second]) fold(set, 1_000, new Prng(seed + 1));
  assert.deepEqual(rowsOf(second), rowsOf(first));
  assert.deepEqual([...second.stores.popular.top!.handles], [...first.stores.popular.top!.handles]);
  assert.equal(second.stores.total.total, first.stores.total.total);
});

test("fuzz: damaged rows of the aggregations are refused or read as something, never beyond their bytes", (t) => {
  t.diagnostic(`SEED=${seed}`);
  const random = new Prng(seed);
  const set = newSet();
  for (let at = 0; at < 2_000; at += 1) set.fold({ type: at % 2, user: random.below(9), item: random.below(30), atMs: 1e12 + at * 1_000, value: 0 });
  let refused = 0;
  for (const [name, store] of Object.entries(set.stores)) {
    const { part } = store.kept(name);
    const schema = schemaFor([part]);
    const writer = new StateRowWriter(schema);
    for (let run = 0; run < 300; run += 1) {
      writer.begin(1);
      part.save(random.below(30), writer);
      const row = writer.encode().slice();
      for (let flips = random.between(1, 4); flips > 0; flips -= 1) row[random.below(row.length)] = random.below(256);
      const damaged = random.chance(0.3) ? row.subarray(0, random.below(row.length)) : row;
      const into = newSet().stores[name as keyof typeof set.stores].kept(name).part;
      const reader = new StateRowReader(schema);
      try {
        reader.load(damaged);
        into.load(3, reader);
      } catch (thrown) {
        assert.ok(isCorrupt(thrown), String(thrown));
        refused += 1;
      }
    }
  }
  assert.ok(refused > 100, `only ${refused} refused`);
});

test("chunks give back what was put into them, also larger effects than a chunk; damaged ones are refused", () => {
  fc.assert(
    fc.property(
      fc.array(
        fc.record({
          namespace: fc.integer({ min: 1, max: 65_534 }),
          key: fc.string({ minLength: 1, maxLength: 40 }).map((text) => (text.length > 20 ? `ü${text}\u{1f389}` : text)),
          value: fc.option(fc.uint8Array({ maxLength: 300 })),
        }),
        { maxLength: 40 },
      ),
      fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 4 }),
      (effects, flips) => {
        const chunks = new EffectChunks(256);
        for (const { namespace, key, value } of effects) {
          if (value === null) chunks.delete(namespace, key);
          else chunks.put(namespace, key, value);
        }
        assert.equal(chunks.effects, effects.length);
        chunks.close();
        const read: { namespace: number; key: Uint8Array; value: Uint8Array | null }[] = [];
        const sink = {
          put: (namespace: number, bytes: Uint8Array, keyAt: number, valueAt: number, end: number) =>
            void read.push({ namespace, key: bytes.slice(keyAt, valueAt), value: bytes.slice(valueAt, end) }),
          delete: (namespace: number, key: Uint8Array) => void read.push({ namespace, key: key.slice(), value: null }),
        };
        const taken: Uint8Array[] = [];
        for (let chunk = chunks.takeFull(); chunk !== undefined; chunk = chunks.takeFull()) taken.push(chunk);
        for (const chunk of taken) for (let at = 0; at < chunk.length;) at = readChunk(chunk, at, sink, () => read.length % 3 === 2 && at > 0);
        assert.deepEqual(
          read.map(({ key, ...rest }) => ({ ...rest, key: [...key], value: rest.value && [...rest.value] })),
          effects.map(({ key, ...rest }) => ({ ...rest, key: [...Buffer.from(key)], value: rest.value && [...rest.value] })),
        );
        for (const chunk of taken) {
          for (const [at, byte] of flips) chunk[at % chunk.length] = byte;
          try {
            readChunk(chunk, 0, { put: () => undefined, delete: () => undefined });
          } catch (thrown) {
            assert.ok(isCorrupt(thrown), String(thrown));
          }
        }
      },
    ),
    { seed, numRuns: 100 },
  );
});

const golden: CheckpointHead = {
  format: 1,
  number: 7,
  offset: 123_456,
  atMs: 1_760_000_000_000,
  fingerprint: '{"version":1}',
  staged: 2,
  rows: { "activity.items": 3 },
  handles: { "activity.items": 3 },
  numbers: { events: 12, newestMs: 1_759_999_999_999.5 },
  ahead: ["r-a-1"],
};

test("golden bytes of a chunk, a list of texts and a head", () => {
  const chunks = new EffectChunks();
  chunks.put(0x0102, "i1", Buffer.from("abc"));
  chunks.delete(0x0103, "k");
  chunks.close();
  assert.equal(Buffer.from(chunks.takeFull()!).toString("hex"), "0100020102000000030000006931616263" + "020003010100000000000000" + "6b");
  assert.equal(Buffer.from(encodeTexts(["news", "ü"])).toString("hex"), "02046e65777302c3bc");
  assert.deepEqual(decodeTexts(encodeTexts(["news", "ü", ""])), ["news", "ü", ""]);
  assert.deepEqual(decodeHead(encodeHead(golden)), golden);
});

test("a head that is not whole is refused, one of a newer format as unsupported", () => {
  for (const field of Object.keys(golden)) {
    const { [field as keyof CheckpointHead]: _left, ...rest } = golden;
    assert.throws(() => decodeHead(encodeHead(rest as CheckpointHead)), isCorrupt, field);
    assert.throws(() => decodeHead(encodeHead({ ...golden, [field]: { a: "x" } })), isCorrupt, field);
  }
  assert.throws(() => decodeHead(Buffer.from("{")), isCorrupt);
  assert.throws(() => decodeHead(encodeHead({ ...golden, format: 2 } as unknown as CheckpointHead)), { code: "unsupported" });
});

test("lists of handles and of the best come back; a piece that lacks or stands twice is refused", () => {
  const table = new HandleTable();
  const list = new HandleList("categories", table);
  for (let at = 0; at < 2_500; at += 1) table.intern(`c${at}`);
  const cut = list.cut();
  table.intern("later");
  assert.deepEqual(
    cut.pieces.map(({ key }) => key),
    ["categories/000000000000", "categories/000000001000", "categories/000000002000"],
  );
  cut.giveUp();
  const pieces = list.cut().pieces.map(({ key, bytes }) => ({ key, bytes: bytes() }));
  const again = new HandleTable();
  const loading = new HandleList("categories", again);
  assert.throws(() => loading.load(pieces[1]!.key, pieces[1]!.bytes), isCorrupt);
  for (const { key, bytes } of pieces) loading.load(key, bytes);
  assert.equal(again.size, 2_501);
  assert.equal(again.find("later"), 2_500);
  assert.deepEqual(loading.cut().pieces, []);

  const top = new TopList(4);
  for (const handle of [5, 1, 9, 3, 7]) top.update(handle, handle * 10);
  const kept = new KeptTop(
    "x",
    top,
    undefined,
    (handle) => handle * 10,
    () => 10,
  );
  const bytes = kept.cut().pieces[0]!.bytes();
  const back = new TopList(4);
  const loaded = new KeptTop(
    "x",
    back,
    undefined,
    (handle) => handle * 10,
    () => 10,
  );
  loaded.load("top/x", bytes);
  loaded.loaded();
  assert.deepEqual([[...back.handles], back.held().dropped], [[9, 7, 5, 3], true]);
  const small = new KeptTop(
    "x",
    new TopList(4),
    undefined,
    () => 0,
    () => 9,
  );
  small.load("top/x", bytes);
  assert.throws(() => small.loaded(), isCorrupt);
});

test("marks: each row that changed before the cut is saved once as it was, also when it changes first or the checkpoint is given up", () => {
  const random = new Prng(seed);
  const marks = new RowMarks();
  const rows = 200;
  const values = new Array<number>(rows).fill(0);
  const kept = new Array<number>(rows).fill(0);
  const change = (): void => {
    const row = random.below(rows);
    marks.touch(row);
    values[row] = random.below(1_000_000);
  };
  for (let round = 0; round < 60; round += 1) {
    for (let at = 0; at < 40; at += 1) change();
    const atCut = values.slice();
    const saved = new Map<number, number>();
    marks.cut((row) => {
      assert.ok(!saved.has(row), `row ${row} is saved twice`);
      saved.set(row, values[row]!);
    });
    const givenUp = random.chance(0.3);
    let left = random.below(40);
    while ((!givenUp || left-- > 0) && marks.saveNext()) if (random.chance(0.7)) change();
    if (givenUp) {
      marks.giveUp();
      while (marks.giveBack(7)) change();
      continue;
    }
    marks.done();
    for (const [row, value] of saved) kept[row] = value;
    assert.deepEqual(kept, atCut, `round ${round}`);
  }
  assert.ok(marks.rows > 190 && marks.rows <= rows);
});
