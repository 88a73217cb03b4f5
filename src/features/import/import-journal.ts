// How far the reader of an import has come: written after what it speaks of is synced, so that whoever goes on cuts the files back to it and reads on behind it.
// Invariants: 1. everything before `stagedBytes` and `rejectBytes` is on disk  2. the rows staged there are exactly the rows before (`input`, `row`).

import { MillraceError } from "#base/errors";
import type { Files } from "#platform/files";
import { readJson, writeJson } from "./import-plan.ts";

export interface ImportJournal {
  readonly format: 1;
  /** Next input, and rows of it that are done. */
  readonly input: number;
  readonly row: number;
  readonly stagedBytes: number;
  readonly rejectBytes: number;
  readonly rowsStaged: number;
  /** Key and value bytes of the staged rows. */
  readonly rowBytes: number;
  readonly rowsRefused: number;
  readonly finished: boolean;
}

export const emptyJournal: ImportJournal = {
  format: 1,
  input: 0,
  row: 0,
  stagedBytes: 0,
  rejectBytes: 0,
  rowsStaged: 0,
  rowBytes: 0,
  rowsRefused: 0,
  finished: false,
};

const counts = ["input", "row", "stagedBytes", "rejectBytes", "rowsStaged", "rowBytes", "rowsRefused"] as const;

export async function readJournal(files: Files, folder: string): Promise<ImportJournal> {
  const path = files.join(folder, "progress.json");
  const value = (await readJson(files, path)) as ImportJournal | undefined;
  if (value === undefined) return emptyJournal;
  if (value.format !== 1 || typeof value.finished !== "boolean" || !counts.every((name) => Number.isSafeInteger(value[name]) && value[name] >= 0)) {
    throw new MillraceError("corrupt", `${path} is no journal of an import`, { todo: "remove the work folder and start the import again" });
  }
  return value;
}

export function writeJournal(files: Files, folder: string, journal: ImportJournal): Promise<void> {
  return writeJson(files, files.join(folder, "progress.json"), journal);
}
