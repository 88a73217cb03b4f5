// Guards staging: whatever a batch holds, each slice's blocks hold the records of its rows in their order, and refused rows are told with their reason.

import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { Prng } from "#base/prng";
import { EntryView } from "#kernel/entry-record";
import { hashKey } from "#kernel/key-hash";
import { systemFiles } from "#platform/system-files";
import type { TableConfig } from "#wire/table-config";
import { RowPacker } from "../tables/row-packer.ts";
import type { BatchColumn, ColumnBatch } from "./column-batch.ts";
import { importLimits } from "./import-limits.ts";
import { schemaFor } from "./import-world.contract.ts";
import { sharedFaults } from "./row-source.ts";
import { RowStager, stagerScratchBytes } from "./row-stager.ts";
import { readStagedBlocks, stageBlockHeadBytes, StageBlocks } from "./stage-blocks.ts";

const seed = process.env["SEED"] ?? "row-stager";
const keySeed = { low: 11, high: 12 };
const timeMs = 1_700_000_000_000;
const slices = 4;

const tables: Readonly<Record<string, TableConfig>> = {
  "numbers, packed by the kernel": { key: "string", columns: { a: { type: "f32" }, b: { type: "i64" } } },
  "texts, packed here": { key: "string", columns: { a: { type: "f32" }, t: { type: "string" } }, ttlDays: 3 },
  "long rows": { key: "string", columns: { v: { type: "f32", length: 2_000 } } },
};

for (const [name, config] of Object.entries(tables)) {
  test(`staged rows of ${name}, batch by batch (SEED=${seed})`, async () => {
    const folder = await mkdtemp(join(tmpdir(), "millrace-stager-"));
    try {
      const prng = new Prng(seed).fork(name);
      const schema = schemaFor(config, 0x0107);
      const path = join(folder, "staged.rows");
      const file = (await systemFiles.open(path, "write"))!;
      const blocks = new StageBlocks({ file, length: 0, slices, blockBytes: 64 << 10, scratchBytes: stagerScratchBytes(schema) });
      const stager = new RowStager({ blocks, schema, slices, seed: keySeed, timeMs });
      const packer = new RowPacker(schema);
      const expected = Array.from({ length: slices }, (): { key: Buffer; value: Buffer }[] => []);
      // In the last batch one key alone is longer than the keys of a batch may be together.
      for (const [round, rows] of [1, 2_048, prng.below(2_048), 300].entries()) {
        const keys = Array.from({ length: rows }, (_, row) => {
          if (round === 3 && row === 7) return Buffer.alloc(9 << 20, "k");
          if (prng.chance(0.01)) return Buffer.alloc(prng.pick([0, importLimits.keyBytesMax, importLimits.keyBytesMax + 1]), "k");
          return Buffer.from(prng.bytes(new Uint8Array(1 + prng.below(30))));
        });
        const joined = (parts: readonly Uint8Array[]): { offsets: Uint32Array; bytes: Uint8Array } => {
          const offsets = new Uint32Array(parts.length + 1);
          for (const [i, part] of parts.entries()) offsets[i + 1] = offsets[i]! + part.length;
          return { offsets, bytes: Buffer.concat(parts) };
        };
        const columns = schema.columns.map(({ laid }): BatchColumn | undefined => {
          const valid = prng.chance(0.5) ? undefined : prng.bytes(new Uint8Array(Math.ceil(rows / 8)));
          if (!laid.variable) return { kind: "fixed", width: laid.bytes, data: prng.bytes(new Uint8Array(rows * laid.bytes)), valid };
          // Some longer than a block, some than any row.
          const texts = Array.from({ length: rows }, () => new Uint8Array(prng.chance(0.003) ? prng.pick([70_000, 600_000]) : prng.below(3_000)));
          return { kind: "bytes", ...joined(texts), valid };
        });
        const faults = new Uint16Array(rows);
        for (let row = 0; row < rows; row++) if (prng.chance(0.02)) faults[row] = sharedFaults.noKey;
        const batch: ColumnBatch = {
          rows,
          keys: joined(keys),
          columns,
          faults: faults.some((fault) => fault !== 0) ? faults : undefined,
          sampleOf: () => undefined,
        };

        packer.pack(rows, columns, timeMs);
        const refusedModel: [number, number][] = [];
        for (const [row, key] of keys.entries()) {
          const value = Buffer.from(packer.bytes.subarray(packer.offsets[row], packer.offsets[row + 1]));
          const whole = Buffer.concat([Uint8Array.of(1, 7), key]);
          const head = whole.length > 255 || value.length > 65_535 ? 8 : value.length > 255 ? 4 : 3;
          const record = head + (packer.expiryOf(timeMs) > 0 ? 12 : 6) + whole.length + value.length;
          const fault =
            faults[row] !== 0
              ? faults[row]!
              : value.length > importLimits.rowBytesMax
                ? sharedFaults.rowBytes
                : key.length === 0 || key.length > importLimits.keyBytesMax
                  ? sharedFaults.keyBytes
                  : record > blocks.recordBytesMax
                    ? sharedFaults.rowBytes
                    : 0;
          if (fault !== 0) refusedModel.push([row, fault]);
          else expected[Math.floor((Number(hashKey(whole, keySeed) >> 32n) * slices) / 2 ** 32)]!.push({ key: whole, value });
        }
        const refused: [number, number][] = [];
        await stager.add(batch, (row, code) => void refused.push([row, code]));
        assert.deepEqual(refused, refusedModel);
      }
      const length = await blocks.checkpoint();
      assert.equal(stager.rows, expected.flat().length);
      assert.equal(
        stager.bytes,
        expected.flat().reduce((sum, { key, value }) => sum + key.length + value.length, 0),
      );
      const got = Array.from({ length: slices }, (): { key: Buffer; value: Buffer }[] => []);
      const entry = new EntryView();
      for (const block of await readStagedBlocks(file, length, path)) {
        const bytes = new Uint8Array(block.bytes);
        await file.read(bytes, block.at + stageBlockHeadBytes);
        let rows = 0;
        for (let at = 0; at < bytes.length; at = entry.end, rows++) {
          assert.ok(entry.read(bytes, at, bytes.length));
          assert.deepEqual([entry.kind, entry.timeMs, entry.expiryMs], [8, timeMs, packer.expiryOf(timeMs)]);
          got[block.slice]!.push({ key: Buffer.from(entry.key()), value: Buffer.from(entry.value()) });
        }
        assert.equal(rows, block.rows);
      }
      for (let slice = 0; slice < slices; slice++) {
        assert.equal(got[slice]!.length, expected[slice]!.length);
        for (const [i, one] of got[slice]!.entries())
          assert.ok(one.key.equals(expected[slice]![i]!.key) && one.value.equals(expected[slice]![i]!.value), `slice ${slice} row ${i}`);
      }
      await file.close();
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  });
}
