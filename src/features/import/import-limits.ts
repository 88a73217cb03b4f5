// Bounds of an import. Every one has an error that says what to do.

import { tableLimits } from "#wire/table-limits";

export const importLimits = {
  /** Input files (or queries) of one import. */
  inputsMax: 10_000,
  /** Strings of one column in one chunk of 2,048 rows. */
  chunkStringBytesMax: 256 << 20,
  keyBytesMax: tableLimits.keyBytesMax,
  rowBytesMax: tableLimits.rowBytesMax,
  /** Slices of the key hash in which rows are staged; run files cover whole numbers of them. */
  slicesMax: 1_024,
  /** Refused rows that are written to the reject file before the import gives up, unless the caller says otherwise. */
  rejectsMaxDefault: 10_000,
  rejectsMax: 10_000_000,
  /** Reasons of refusals that an import's status tells. */
  refusedWhyMax: 5,
  /** Characters of a refused value in the reject file. */
  sampleCharactersMax: 120,
  /** Memory of one process of an import: the reader, or the builder of one run file. */
  memoryBytesMin: 192 << 20,
  memoryBytesDefault: 1 << 30,
  memoryBytesMax: 3 * 2 ** 30,
  /** Staged bytes between two checkpoints of the reader: what an interruption costs at most, and how long others wait for their turn. */
  checkpointBytesDefault: 256 << 20,
  queryCharactersMax: 100_000,
  /** How long an import waits for its turn among others. */
  turnWaitMsMax: 24 * 3_600_000,
  /** Header of a CSV or .npy file. */
  headerBytesMax: 1 << 20,
} as const;
