// The reading half of an import: inputs to staged rows. Runs in a process of its own (read-inputs.worker.ts), or in this one.
// Invariants: 1. after each checkpoint the journal says how far it came, and nothing before it is done twice  2. inputs are read in the order given, one after
// another: of equal keys the last one wins, however often the import was interrupted.
// Limits: memory is DuckDB's limit, the stage blocks and some megabytes: together within the plan's memoryBytes.

import { MillraceError } from "#base/errors";
import type { Files, OpenFile } from "#platform/files";
import { schemaOf, type TableSchema } from "../tables/table-schema.ts";
import { DuckDb, DuckDbSource, planRead } from "./duckdb-source.ts";
import { emptyJournal, type ImportJournal, readJournal, writeJournal } from "./import-journal.ts";
import type { ImportPlan } from "./import-plan.ts";
import type { ColumnBatch } from "./column-batch.ts";
import type { ImportInput } from "./inputs.ts";
import { NpySource } from "./npy-source.ts";
import { RejectFile } from "./reject-file.ts";
import { type RowSource, sharedFaults } from "./row-source.ts";
import { RowStager, stagerScratchBytes } from "./row-stager.ts";
import { StageBlocks } from "./stage-blocks.ts";
import { checkWhole } from "./whole-input.ts";

export const stageFileName = "staged.rows";
export const rejectFileName = "rejects.jsonl";

const reportRows = 100_000;

export interface ReadProgress {
  readonly rowsStaged: number;
  readonly rowsRefused: number;
  readonly rowBytes: number;
  readonly input: number;
}

export interface ReadOptions {
  readonly files: Files;
  readonly folder: string;
  readonly plan: ImportPlan;
  readonly onProgress?: (progress: ReadProgress) => void;
  /** Called after each checkpoint: others may have their turn while it waits. */
  readonly onCheckpoint?: () => Promise<void>;
  readonly signal?: AbortSignal;
}

/** How much of a reader's memory goes where. */
export function readerMemory(memoryBytes: number, slices: number): { duckDbBytes: number; blockBytes: number } {
  const forBlocks = Math.min(memoryBytes / 4, 256 << 20);
  const blockBytes = Math.min(1 << 20, Math.max(64 << 10, 2 ** Math.floor(Math.log2(forBlocks / (2 * slices + 1)))));
  return { duckDbBytes: Math.max(64 << 20, memoryBytes / 2), blockBytes };
}

/** Reads what is left of a plan's inputs. Throws what a source throws, `invalid` when too many rows are refused. */
export async function readInputs(options: ReadOptions): Promise<ImportJournal> {
  const { files, folder, plan } = options;
  const { checkpointBytes } = plan;
  const before = await readJournal(files, folder);
  if (before.finished) return before;
  const schema = schemaOf(plan.schema, plan.table);
  const staged = await mustOpen(files, files.join(folder, stageFileName));
  const rejected = await mustOpen(files, files.join(folder, rejectFileName));
  const { duckDbBytes, blockBytes } = readerMemory(plan.memoryBytes, plan.slices);
  const duck = await DuckDb.open({
    memoryBytes: duckDbBytes,
    tempFolder: files.join(folder, "duckdb"),
    ...(plan.folders === undefined ? {} : { folders: plan.folders }),
  });
  try {
    await staged.truncate(before.stagedBytes);
    await rejected.truncate(before.rejectBytes);
    const blocks = new StageBlocks({ file: staged, length: before.stagedBytes, slices: plan.slices, blockBytes, scratchBytes: stagerScratchBytes(schema) });
    const stager = new RowStager({ blocks, schema, slices: plan.slices, seed: plan.seed, timeMs: plan.timeMs });
    stager.rows = before.rowsStaged;
    stager.bytes = before.rowBytes;
    const rejects = new RejectFile(rejected, files.join(folder, rejectFileName), { count: before.rowsRefused, bytes: before.rejectBytes }, plan.rejectsMax);
    let checkpointAt = stager.bytes;
    const checkpoint = async (input: number, row: number, finished: boolean): Promise<ImportJournal> => {
      const stagedBytes = await blocks.checkpoint();
      const rejectBytes = await rejects.checkpoint();
      const journal = {
        ...emptyJournal,
        input,
        row,
        stagedBytes,
        rejectBytes,
        rowsStaged: stager.rows,
        rowBytes: stager.bytes,
        rowsRefused: rejects.count,
        finished,
      };
      await writeJournal(files, folder, journal);
      checkpointAt = stager.bytes;
      if (!finished) await options.onCheckpoint?.();
      return journal;
    };
    for (let at = before.input; at < plan.inputs.length; at++) {
      const { input } = plan.inputs[at]!;
      let row = at === before.input ? before.row : 0;
      let reportAt = row + reportRows;
      // Gone on with in the middle, it was looked at before its first row.
      if (row === 0) await checkWhole(files, input, options.signal);
      const source = await openSource(duck, files, input, schema, row);
      try {
        for (;;) {
          options.signal?.throwIfAborted();
          const batch = await source.next();
          if (batch === undefined) break;
          const refused: { row: number; code: number }[] = [];
          await stager.add(batch, (refusedRow, code) => void refused.push({ row: refusedRow, code }));
          for (const one of refused) await rejects.add(rejectOf(source, batch, one.row, one.code, row));
          row += batch.rows;
          if (row >= reportAt) {
            options.onProgress?.({ rowsStaged: stager.rows, rowsRefused: rejects.count, rowBytes: stager.bytes, input: at });
            reportAt = row + reportRows;
          }
          if (source.ordered && stager.bytes - checkpointAt >= checkpointBytes) await checkpoint(at, row, false);
        }
        const { lines, count } = await source.refusedLines(plan.rejectsMax + 1);
        for (const { line, reason } of lines) await rejects.add({ input: source.name, line, reason });
        if (count > lines.length) await rejects.addCount(count - lines.length);
      } finally {
        source.close();
      }
      // Checkpoints between small files would cost more than reading them again. A query cannot be gone on with in the middle: what stands before it is kept first.
      const next = plan.inputs[at + 1]?.input;
      if (next !== undefined && (stager.bytes - checkpointAt >= checkpointBytes / 4 || next.kind === "query")) await checkpoint(at + 1, 0, false);
    }
    return await checkpoint(plan.inputs.length, 0, true);
  } finally {
    duck.close();
    await staged.close();
    await rejected.close();
  }
}

export async function openSource(duck: DuckDb, files: Files, input: ImportInput, schema: TableSchema, skipRows: number): Promise<RowSource> {
  if (input.kind === "npy") return NpySource.open(files, input, schema, skipRows);
  return DuckDbSource.open(duck, await planRead(duck, files, input, schema), schema, skipRows);
}

function rejectOf(source: RowSource, batch: ColumnBatch, row: number, code: number, rowsBefore: number): Parameters<RejectFile["add"]>[0] {
  const { column, reason } = source.faults[code - 1] ?? { column: undefined, reason: "unknown" };
  const key = code === sharedFaults.noKey ? undefined : keyText(batch, row);
  const value = batch.sampleOf(row);
  return {
    input: source.name,
    row: rowsBefore + row + 1,
    ...(key === undefined ? {} : { key }),
    ...(column === undefined ? {} : { column }),
    reason,
    ...(value === undefined ? {} : { value }),
  };
}

/** Of a u64 key, its bytes as text are no text: only what is readable is shown. */
function keyText(batch: ColumnBatch, row: number): string | undefined {
  const { offsets, bytes } = batch.keys;
  const key = bytes.subarray(offsets[row], Math.min(offsets[row + 1]!, offsets[row]! + 480));
  if (key.length === 0) return undefined;
  const text = new TextDecoder().decode(key);
  return key.length === 8 && !/^[ -~]+$/.test(text) ? String(new DataView(key.buffer, key.byteOffset, 8).getBigUint64(0)) : text;
}

async function mustOpen(files: Files, path: string): Promise<OpenFile> {
  const file = await files.open(path, "write");
  if (file === undefined) throw new MillraceError("unavailable", `${path} cannot be opened`, { todo: "check the data folder" });
  return file;
}
