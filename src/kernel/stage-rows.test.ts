// Guards the calls of bulk loads, every variant against a plain model: rows packed from columns, and records dealt to the blocks of their slices byte for byte.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Prng } from "#base/prng";
import { packColumnBytes, packColumnWords, packWords, sliceBytes, sliceWords, stageWords } from "./entry-layout.ts";
import { writeRecord } from "./entry-record.ts";
import { KernelMemory } from "./kernel-memory.ts";
import { kernels, kernelVariants } from "./kernels.ts";
import { hashKey } from "./key-hash.ts";

const seed = process.env["SEED"] ?? "stage-rows";

for (const variant of kernelVariants) {
  const live = kernels(variant);

  test(`${variant}: rows are packed from columns of any width, with bits for what is there (SEED=${seed})`, () => {
    const prng = new Prng(seed).fork("pack");
    for (let round = 0; round < 60; round++) {
      const memory = KernelMemory.create({ dataBytes: 1 << 18 }, live);
      const { u32, bytes } = memory;
      const rows = prng.pick([0, 1, 7, 8, 9, 100]);
      const widths = Array.from({ length: prng.below(6) }, () => prng.pick([1, 4, 4, 8, 12, 20, 64]));
      const rowBytes = 4 + widths.reduce((sum, width) => sum + width, 0);
      const template = prng.bytes(new Uint8Array(rowBytes));
      template[0] = 0;
      const templateAt = memory.reserve(rowBytes);
      bytes.set(template, templateAt);
      const model = Array.from({ length: rows }, () => Uint8Array.from(template));
      const columnsAt = memory.reserve(widths.length * packColumnBytes);
      let offset = 4;
      for (const [i, width] of widths.entries()) {
        const data = prng.bytes(new Uint8Array(rows * width));
        const valid = prng.chance(0.5) ? prng.bytes(new Uint8Array((rows >> 3) + 1)) : undefined;
        const dataAt = memory.reserve(data.length + 64) + prng.below(4);
        const validAt = memory.reserve(64);
        bytes.set(data, dataAt);
        if (valid !== undefined) bytes.set(valid, validAt);
        const c = (columnsAt + i * packColumnBytes) / 4;
        for (const [name, value] of Object.entries({ data: dataAt, width, offset, valid: valid === undefined ? 0 : validAt, bitAt: 0, bit: 1 << i }))
          u32[c + packColumnWords[name as keyof typeof packColumnWords]] = value;
        for (const [row, packed] of model.entries()) {
          if (valid !== undefined && ((valid[row >> 3]! >> (row & 7)) & 1) === 0) continue;
          packed.set(data.subarray(row * width, (row + 1) * width), offset);
          if (valid !== undefined) packed[0]! |= 1 << i;
        }
        offset += width;
      }
      const out = memory.reserve(rows * rowBytes + 64) + 4;
      const args = memory.reserve(64);
      for (const [name, value] of Object.entries({ rows, out, rowBytes, template: templateAt, columns: columnsAt, columnCount: widths.length }))
        u32[args / 4 + packWords[name as keyof typeof packWords]] = value;
      memory.calls.packRows(args);
      assert.deepEqual(Buffer.from(bytes.subarray(out, out + rows * rowBytes)), Buffer.concat(model));
      assert.equal(bytes[out + rows * rowBytes], 0, "nothing is written behind the rows");
    }
  });

  test(`${variant}: records go to the blocks of their slices as the model puts them; what does not fit is refused, and a full block stops the call (SEED=${seed})`, () => {
    const prng = new Prng(seed).fork("stage");
    for (let round = 0; round < 40; round++) {
      const memory = KernelMemory.create({ dataBytes: 4 << 20 }, live);
      const { u32, bytes } = memory;
      const rows = prng.below(300);
      const prefix = prng.bytes(new Uint8Array(prng.pick([0, 2, 7])));
      const keyMax = prng.pick([9, 40, 400]);
      const keys = Array.from({ length: rows }, () => prng.bytes(new Uint8Array(prng.below(keyMax + 2))));
      const fixed = prng.pick([undefined, 0, 40, 300]);
      const longest = prng.pick([20, 600, 70_000]);
      const values = Array.from({ length: rows }, () => prng.bytes(new Uint8Array(fixed ?? (prng.chance(0.05) ? longest : prng.below(60)))));
      const [expiryMs, timeMs] = prng.pick<readonly [number, number]>([
        [0, 0],
        [0, 1_700_000_000_123],
        [1_800_000_000_000, 1_700_000_000_123],
      ]);
      const kind = 8;
      const slices = prng.pick([1, 2, 5, 64]);
      const blockBytes = 4_096;
      const recordBytesMax = 3_000;
      const keySeed = { low: prng.u32(), high: prng.u32() };
      const put = (what: readonly Uint8Array[]): { at: number; bounds: number } => {
        const all = Buffer.concat(what);
        const at = memory.reserve(all.length + 64) + prng.below(3);
        bytes.set(all, at);
        const bounds = memory.reserve(4 * (what.length + 1));
        let sum = 0;
        for (const [i, one] of what.entries()) u32[bounds / 4 + i + 1] = sum += one.length;
        return { at, bounds };
      };
      const keyRoom = put(keys);
      const valueRoom = put(values);
      const front = new Uint8Array(12 + prefix.length);
      const timesBytes = (expiryMs > 0 ? 6 : 0) + (timeMs > 0 ? 6 : 0);
      const sample = new Uint8Array(64);
      writeRecord(sample, 0, prefix, kind, new Uint8Array(0), expiryMs, timeMs);
      front.set(sample.subarray(3, 3 + timesBytes + prefix.length));
      const frontAt = memory.reserve(64);
      bytes.set(front, frontAt);
      const refusedAt = memory.reserve(2 * rows + 64);
      const refused = new Uint16Array(bytes.buffer, refusedAt, rows);
      const slicesAt = memory.reserve(slices * sliceBytes);
      const args = memory.reserve(128);
      const words = {
        keys: keyRoom.at,
        offsets: keyRoom.bounds,
        refused: refusedAt,
        row: 0,
        rowsEnd: rows,
        values: valueRoom.at,
        valueOffsets: fixed === undefined ? valueRoom.bounds : 0,
        valueBytes: fixed ?? 0,
        front: frontAt,
        timesBytes,
        prefixBytes: prefix.length,
        keyBytesMax: keyMax,
        keyFault: 2,
        recordFault: 3,
        seedLow: keySeed.low,
        seedHigh: keySeed.high,
        slices,
        slicesAt,
        blockBytes,
        recordBytesMax,
        flags: kind | (expiryMs > 0 ? 0x10 : 0) | (timeMs > 0 ? 0x20 : 0),
      };
      for (const [name, value] of Object.entries(words)) u32[args / 4 + stageWords[name as keyof typeof stageWords]] = value;

      const expected = Array.from({ length: slices }, () => [] as Buffer[]);
      const faults = new Uint16Array(rows);
      let sum = 0;
      for (let row = 0; row < rows; row++) {
        const key = keys[row]!;
        const value = values[row]!;
        if (prng.chance(0.05)) refused[row] = faults[row] = 9;
        else if (key.length === 0 || key.length > keyMax) faults[row] = 2;
        else {
          const whole = Uint8Array.from([...prefix, ...key]);
          const record = Buffer.alloc(8 + 12 + whole.length + value.length);
          const end = writeRecord(record, 0, whole, kind, value, expiryMs, timeMs);
          if (end > recordBytesMax) {
            faults[row] = 3;
            continue;
          }
          const slice = Math.floor((Number(hashKey(whole, keySeed) >> 32n) * slices) / 2 ** 32);
          expected[slice]!.push(record.subarray(0, end));
          sum += whole.length + value.length;
        }
      }

      const got = Array.from({ length: slices }, () => [] as Buffer[]);
      const counts = new Uint32Array(slices);
      const room = memory.reserve(slices * blockBytes + 64);
      const drain = (slice: number): void => {
        const s = (slicesAt + slice * sliceBytes) / 4;
        const at = u32[s + sliceWords.block]!;
        if (at === 0) return;
        got[slice]!.push(Buffer.from(bytes.subarray(at, at + u32[s + sliceWords.used]!)));
        counts[slice]! += u32[s + sliceWords.rows]!;
      };
      while (memory.calls.stageRows(args) !== 0) {
        const slice = u32[args / 4 + stageWords.slice]!;
        drain(slice);
        const s = (slicesAt + slice * sliceBytes) / 4;
        u32[s + sliceWords.block] = room + slice * blockBytes;
        u32[s + sliceWords.used] = 0;
        u32[s + sliceWords.rows] = 0;
      }
      for (let slice = 0; slice < slices; slice++) {
        drain(slice);
        assert.ok(Buffer.concat(got[slice]!).equals(Buffer.concat(expected[slice]!)), `round ${round} slice ${slice}`);
        assert.equal(counts[slice], expected[slice]!.length);
      }
      assert.deepEqual([...refused], [...faults]);
      const count = (word: keyof typeof stageWords): number => u32[args / 4 + stageWords[word]]!;
      assert.equal(count("stagedRows"), expected.flat().length);
      assert.equal(count("stagedBytes"), sum);
      assert.equal(count("refusedRows"), faults.filter((fault) => fault !== 0).length);
      assert.equal(count("row"), rows);
    }
  });
}
