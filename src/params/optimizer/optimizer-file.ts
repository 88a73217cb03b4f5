// The file of a worker's optimizer state: a head and blocks of rows. Bytes: docs/format/optimizer-state.md.
// Why rows as records: padding, index and Adam's corrections follow from the settings; a table of another capacity can read it.
// Invariants: 1. every byte is under a CRC32C  2. nothing is handed out before all of it is checked
//             3. rows stand in the order of their numbers, with their uses and the hand: a worker that goes on from it evicts as the one that wrote it would have.
// Cost: one copy and one checksum of every row. Concurrency: none of its own.

import { crc32c } from "#base/crc32c";
import { MillraceError } from "#base/errors";
import { damagedFile, fileWords, readBlocks, type RowWords, writeBlocks } from "./record-blocks.ts";

export const optimizerFileVersion = 1;
const headBytes = 128;
/** "MILLROPT" */
const magicLow = 0x4c4c494d;
const magicHigh = 0x54504f52;
/** "OBLK" */
const file = { name: "optimizer state", magic: 0x4b4c424f };
/** Key, t, uses. */
export const optimizerRecordHeadWords = 4;
/** Word of the head that the settings begin at. */
const settingsFrom = 16;
const settingsMax = 12;

export interface OptimizerFileHead {
  readonly kind: number;
  readonly dim: number;
  /** Numbers of state a row. */
  readonly numbers: number;
  readonly rows: number;
  readonly hand: number;
  readonly evicted: number;
  readonly skipped: number;
  readonly unkept: number;
  readonly missed: number;
  /** Bits of the settings, in the order of the header's words `initial` to `beta`. */
  readonly settings: Uint32Array;
}

/** The parts of a file, in order. `fill` writes row `row` at `words[at]`: key low, key high, t, uses, state. */
export function writeOptimizerFile(head: OptimizerFileHead, fill: RowWords): Uint8Array[] {
  const words = new Uint32Array(headBytes / 4);
  const { kind, dim, numbers, rows, hand, evicted, skipped, unkept, missed, settings } = head;
  words.set([magicLow, magicHigh, optimizerFileVersion, headBytes, kind, dim, numbers, rows, hand, evicted, skipped, unkept, missed]);
  words.set(settings.subarray(0, settingsMax), settingsFrom);
  const bytes = new Uint8Array(words.buffer);
  words[headBytes / 4 - 1] = crc32c(bytes, 0, 0, headBytes - 4);
  return [bytes, ...writeBlocks(file, rows, optimizerRecordHeadWords + numbers, fill)];
}

/** Checks a file given as any list of arrays that cut it only between head and blocks. Throws `corrupt` or `unsupported`. */
export function readOptimizerFile(parts: readonly Uint8Array[]): { head: OptimizerFileHead; rows(visit: RowWords): void } {
  const first = parts[0];
  if (first === undefined || first.length < headBytes) throw damagedFile(file, "shorter than its head");
  const words = fileWords(first, 0, headBytes);
  if (words[0] !== magicLow || words[1] !== magicHigh) throw damagedFile(file, "does not begin as one");
  if (words[2] !== optimizerFileVersion) {
    throw new MillraceError("unsupported", `optimizer state of version ${words[2]}`, {
      todo: `read it with the millrace that wrote it; this one knows ${optimizerFileVersion}`,
    });
  }
  if (words[3] !== headBytes || words[headBytes / 4 - 1] !== crc32c(first, 0, 0, headBytes - 4)) throw damagedFile(file, "its head fails its checksum");
  const [kind, dim, numbers, rows, hand, evicted, skipped, unkept, missed] = words.subarray(4) as unknown as number[];
  const head: OptimizerFileHead = {
    kind: kind!,
    dim: dim!,
    numbers: numbers!,
    rows: rows!,
    hand: hand!,
    evicted: evicted!,
    skipped: skipped!,
    unkept: unkept!,
    missed: missed!,
    settings: words.slice(settingsFrom, settingsFrom + settingsMax),
  };
  return { head, rows: readBlocks(file, parts, headBytes, head.rows, optimizerRecordHeadWords + head.numbers) };
}
