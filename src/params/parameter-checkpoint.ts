// The file of a parameter table: a head and blocks of rows. Bytes: docs/format/parameter-checkpoint.md.
// Why rows as records and not the memory as it lies: padding, index and seq words are the process's own, and a table of another capacity can read it.
// Invariants: 1. every byte is under a CRC32C  2. nothing is handed out before all of it is checked: lengths, order, checksums
//             3. rows stand in the order in which they were inserted, which the table needs to go on exactly as before.
// Cost: one copy and one checksum of every row: about a second a gigabyte. Concurrency: none of its own.
// Limits: a table holds at most 2^26 rows.

import { crc32c } from "#base/crc32c";
import { MillraceError } from "#base/errors";
import { damagedFile, fileWords, readBlocks, type RowWords, writeBlocks } from "./record-blocks.ts";

export const checkpointVersion = 1;
const headBytes = 64;
/** "MILLRPRM" */
const magicLow = 0x4c4c494d;
const magicHigh = 0x4d525052;
/** "PBLK" */
const file = { name: "parameter checkpoint", magic: 0x4b4c4250 };
/** Key, touches. */
const recordHeadWords = 3;

export interface CheckpointHead {
  readonly dims: number;
  readonly factors: number;
  /** Code of the header word: 0 sgd, 1 adagrad, 2 rowwise-adagrad. */
  readonly optimizer: number;
  readonly seedLow: number;
  readonly seedHigh: number;
  readonly initialScaleBits: number;
  readonly accumulatorNumbers: number;
  readonly rowCount: number;
  readonly refused: number;
  readonly skipped: number;
}

function headWords(head: CheckpointHead): Uint32Array {
  const { dims, factors, optimizer, seedLow, seedHigh, initialScaleBits, accumulatorNumbers, rowCount, refused, skipped } = head;
  const words = new Uint32Array(headBytes / 4);
  words.set([
    magicLow,
    magicHigh,
    checkpointVersion,
    headBytes,
    dims,
    factors,
    optimizer,
    accumulatorNumbers,
    seedLow,
    seedHigh,
    initialScaleBits,
    rowCount,
    refused,
    skipped,
  ]);
  return words;
}

/** The parts of a file, in order. `fill` writes row `row` at `words[at]`: key low, key high, touches, values, accumulators. */
export function writeCheckpoint(head: CheckpointHead, fill: RowWords): Uint8Array[] {
  const words = headWords(head);
  const bytes = new Uint8Array(words.buffer);
  words[headBytes / 4 - 1] = crc32c(bytes, 0, 0, headBytes - 4);
  return [bytes, ...writeBlocks(file, head.rowCount, recordHeadWords + head.dims + head.accumulatorNumbers, fill)];
}

/**
 * Checks a file given as any list of arrays that cut it only between head and blocks (one array with everything too). `rows` then visits all
 * rows in order, as often as wanted. Throws `corrupt` or `unsupported`.
 */
export function readCheckpoint(parts: readonly Uint8Array[]): { head: CheckpointHead; rows(visit: RowWords): void } {
  const first = parts[0];
  if (first === undefined || first.length < headBytes) throw damagedFile(file, "shorter than its head");
  const words = fileWords(first, 0, headBytes);
  if (words[0] !== magicLow || words[1] !== magicHigh) throw damagedFile(file, "does not begin as one");
  if (words[2] !== checkpointVersion) {
    throw new MillraceError("unsupported", `parameter checkpoint of version ${words[2]}`, {
      todo: `read it with the millrace that wrote it; this one knows ${checkpointVersion}`,
    });
  }
  if (words[3] !== headBytes || words[headBytes / 4 - 1] !== crc32c(first, 0, 0, headBytes - 4)) throw damagedFile(file, "its head fails its checksum");
  const [, , , , dims, factors, optimizer, accumulatorNumbers, seedLow, seedHigh, initialScaleBits, rowCount, refused, skipped] = words as unknown as number[];
  const head: CheckpointHead = {
    dims: dims!,
    factors: factors!,
    optimizer: optimizer!,
    seedLow: seedLow!,
    seedHigh: seedHigh!,
    initialScaleBits: initialScaleBits!,
    accumulatorNumbers: accumulatorNumbers!,
    rowCount: rowCount!,
    refused: refused!,
    skipped: skipped!,
  };
  return { head, rows: readBlocks(file, parts, headBytes, head.rowCount, recordHeadWords + head.dims + head.accumulatorNumbers) };
}
