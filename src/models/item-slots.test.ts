// Guards the slots of items in shared memory: a Map beside them agrees, a reader in another thread gets whole versions only, changes are told in order.

import assert from "node:assert/strict";
import { test } from "node:test";
import { MillraceError } from "#base/errors";
import { Prng } from "#base/prng";
import { SlotRows } from "#extract/slot-rows";
import { KernelMemory } from "#kernel/kernel-memory";
import { startWriting } from "#kernel/writing-thread.fuzz";
import { moduleBeside } from "#platform/module-beside";
import { ItemSlots, type ItemSlotsShape } from "./item-slots.ts";
import { tornSlotsMax } from "./test-slots.worker.ts";

const seed = Number(process.env["SEED"] ?? 5);

function create(shape: ItemSlotsShape): { memory: KernelMemory; items: ItemSlots } {
  const memory = KernelMemory.create({ dataBytes: ItemSlots.bytesFor(shape) + 64, lanes: 2, laneBytes: 8 << 10 });
  return { memory, items: ItemSlots.create(memory, shape) };
}

function rowOf(random: Prng, slots: number): SlotRows {
  const rows = new SlotRows(1, 4);
  for (let at = 0; at < slots; at += 1) {
    if (random.chance(0.5)) rows.addLinear(random.below(2 ** 32), random.below(2 ** 32), random.normal());
    else rows.addFull(random.below(2 ** 32), random.below(2 ** 32), random.normal());
  }
  rows.endRow();
  return rows;
}

function textOf(rows: SlotRows, row: number): string {
  const [from, to] = [rows.offsets[row]!, rows.offsets[row + 1]!];
  return JSON.stringify([rows.linearEnds[row]! - from, [...rows.keys.subarray(2 * from, 2 * to)], [...rows.weights.subarray(from, to)]]);
}

test("random puts, hides and reads agree with a Map, also through another view", () => {
  console.log(`seed ${seed}`);
  const random = new Prng(seed);
  const { memory, items } = create({ itemsMax: 300, slotsMax: 6 });
  const other = ItemSlots.attach(memory, items.at);
  const model = new Map<number, { text: string; available: boolean }>();
  const into = new SlotRows(1, 1);
  for (let step = 0; step < 4_000; step += 1) {
    const item = random.below(random.chance(0.5) ? 20 : 310);
    if (random.chance(0.4)) {
      const row = rowOf(random, random.below(8));
      const available = random.chance(0.8);
      const fits = item < 300 && row.slots <= 6;
      assert.equal(items.put(item, row, 0, available), fits);
      if (fits) model.set(item, { text: textOf(row, 0), available });
      else model.delete(item);
    } else if (random.chance(0.3)) {
      const available = random.chance(0.5);
      items.setAvailable(item, available);
      const known = model.get(item);
      if (known !== undefined) known.available = available;
    } else {
      into.clear();
      const known = model.get(item);
      assert.equal(other.read(item, into), known?.available === true, `item ${item} at step ${step}`);
      assert.equal(into.rows, known?.available === true ? 1 : 0);
      if (known?.available === true) assert.equal(textOf(into, 0), known.text);
      assert.equal(other.available(item), known?.available === true);
      into.clear();
      assert.equal(items.copy(item, into), known !== undefined);
      into.endRow();
      if (known !== undefined) assert.equal(textOf(into, 0), known.text);
    }
  }
});

test("a zeroed memory is not assumed: rows of a used one are laid out before they are read", () => {
  const shape = { itemsMax: 50, slotsMax: 3 };
  const memory = KernelMemory.create({ dataBytes: ItemSlots.bytesFor(shape) + 64, laneBytes: 8 << 10 });
  memory.bytes.fill(0xff, memory.dataFrom, memory.dataFrom + memory.dataBytes);
  const items = ItemSlots.create(memory, shape);
  const into = new SlotRows();
  items.put(30, rowOf(new Prng(1), 2), 0, true);
  for (let item = 0; item < 50; item += 1) assert.equal(items.read(item, into), item === 30);
});

test("changes are told in order, and that some are forgotten is told too", () => {
  const { items } = create({ itemsMax: 100, slotsMax: 2 });
  const into = new Uint32Array(8);
  const row = rowOf(new Prng(2), 1);
  for (const item of [7, 3, 7]) items.put(item, row, 0, true);
  items.setAvailable(3, false);
  items.setAvailable(3, false);
  assert.equal(items.changes, 4, "what changes nothing is no change");
  assert.equal(items.changedSince(0, into), 4);
  assert.deepEqual([...into.subarray(0, 4)], [7, 3, 7, 3]);
  assert.equal(items.changedSince(2, into.subarray(0, 1)), 1);
  assert.equal(into[0], 7);
  assert.equal(items.changedSince(4, into), 0);
  for (let change = 0; change < 70_000; change += 1) items.put(change % 100, row, 0, true);
  assert.equal(items.changedSince(4, into), -1);
  const { changes } = items;
  items.put(42, row, 0, true);
  assert.equal(items.changedSince(changes, into), 1);
  assert.equal(into[0], 42);
});

test("shapes that cannot be, and addresses with nothing there, are refused", () => {
  for (const shape of [
    { itemsMax: 0, slotsMax: 1 },
    { itemsMax: 1.5, slotsMax: 1 },
    { itemsMax: 1, slotsMax: 0 },
    { itemsMax: 1, slotsMax: 2_000 },
  ]) {
    assert.throws(
      () => ItemSlots.bytesFor(shape),
      (thrown) => thrown instanceof MillraceError && thrown.code === "invalid",
    );
  }
  const { memory, items } = create({ itemsMax: 1, slotsMax: 1 });
  for (const at of [items.at + 64, items.at + 4, -64, memory.bytes.length, Number.NaN]) {
    assert.throws(
      () => ItemSlots.attach(memory, at),
      (thrown) => thrown instanceof MillraceError && thrown.code === "corrupt",
    );
  }
});

test("promise: a thread that reads items while they change gets whole versions only", async () => {
  const { memory, items } = create({ itemsMax: 4, slotsMax: tornSlotsMax });
  const writer = await startWriting(moduleBeside("./test-slots.worker", import.meta.url), { memory: memory.memory, at: items.at });
  const into = new SlotRows();
  let read = 0;
  let torn = 0;
  const before = performance.now();
  for (let round = 0; performance.now() - before < 600 || (read < 1_000 && performance.now() - before < 10_000); round += 1) {
    into.clear();
    if (!items.read(round % 4, into)) continue;
    read += 1;
    const version = into.weights[0]!;
    const count = (version % tornSlotsMax) + 1;
    let whole = into.slots === count && into.linearEnds[0] === Math.ceil(count / 2);
    for (let slot = 0; whole && slot < count; slot += 1) {
      whole = into.keys[2 * slot] === version && into.keys[2 * slot + 1] === (version ^ slot) >>> 0 && into.weights[slot] === version;
    }
    if (!whole) torn += 1;
    if (round % 1_000 === 0) await new Promise((resolve) => setImmediate(resolve));
  }
  const writes = await writer.stop();
  console.log(`${read} reads against ${writes} writes`);
  assert.ok(writes > 1_000, "the writer wrote meanwhile");
  assert.ok(read >= 1_000);
  assert.equal(torn, 0, "rows of two versions");
});
