// The container of slots: whatever is put into it comes out in rows, linear-only slots first, nothing lost when arrays grow.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { SlotRows } from "./slot-rows.ts";

type Slot = readonly [low: number, high: number, weight: number];

function slotsOf(rows: SlotRows, row: number): { linear: Slot[]; full: Slot[] } {
  const linear: Slot[] = [];
  const full: Slot[] = [];
  for (let at = rows.offsets[row]!; at < rows.offsets[row + 1]!; at += 1) {
    (at < rows.linearEnds[row]! ? linear : full).push([rows.keys[2 * at]!, rows.keys[2 * at + 1]!, rows.weights[at]!]);
  }
  return { linear, full };
}

const u32 = fc.integer({ min: 0, max: 0xffffffff });
const slot = fc.tuple(fc.boolean(), u32, u32, fc.float({ noNaN: true, noDefaultInfinity: true }));

test("rows hold what was put into them, linear-only slots first, in order", () => {
  fc.assert(
    fc.property(fc.array(fc.array(slot, { maxLength: 40 }), { maxLength: 40 }), fc.boolean(), (given, reuse) => {
      const rows = new SlotRows(1, 1);
      if (reuse) {
        rows.addFull(1, 2, 3);
        rows.endRow();
        rows.addLinear(1, 2, 3);
        rows.clear();
      }
      for (const row of given) {
        for (const [linear, low, high, weight] of row) {
          if (linear) rows.addLinear(low, high, weight);
          else rows.addFull(low, high, weight);
        }
        rows.endRow();
      }
      const copied = new SlotRows(0, 0);
      for (let row = 0; row < rows.rows; row += 1) {
        copied.copyRow(rows, row);
        copied.endRow();
      }
      for (const source of [rows, copied]) {
        assert.equal(source.rows, given.length);
        given.forEach((row, index) => {
          const expected = (linear: boolean): Slot[] => row.filter((one) => one[0] === linear).map(([, low, high, weight]) => [low, high, weight]);
          assert.deepEqual(slotsOf(source, index), { linear: expected(true), full: expected(false) });
        });
      }
      assert.equal(rows.slots, given.flat().length);
    }),
  );
});

test("a key that comes again within its field is summed, in front of the mark it is not", () => {
  const rows = new SlotRows(1, 1);
  rows.addLinear(7, 8, 1);
  const linear = rows.linearMark;
  rows.sumLinear(linear, 7, 8, 2);
  rows.sumLinear(linear, 0xffffffff, 9, 0.5);
  rows.sumLinear(linear, 0xffffffff, 9, 0.25);
  rows.addFull(1, 1, 1);
  const full = rows.fullMark;
  rows.sumFull(full, 1, 1, 4);
  rows.sumFull(full, 1, 1, 5);
  rows.endRow();
  assert.deepEqual(slotsOf(rows, 0), {
    linear: [
      [7, 8, 1],
      [7, 8, 2],
      [0xffffffff, 9, 0.75],
    ],
    full: [
      [1, 1, 1],
      [1, 1, 9],
    ],
  });
});

test("a dropped row leaves no trace", () => {
  const rows = new SlotRows();
  rows.addLinear(1, 1, 1);
  rows.endRow();
  rows.addLinear(2, 2, 2);
  rows.addFull(3, 3, 3);
  rows.dropRow();
  rows.addFull(4, 4, 4);
  rows.endRow();
  assert.deepEqual(slotsOf(rows, 1), { linear: [], full: [[4, 4, 4]] });
});
