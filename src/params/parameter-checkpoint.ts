// The file of a parameter table: a head and blocks of rows. Bytes: docs/format/parameter-checkpoint.md.
// Why rows as records and not the memory as it lies: padding, index and seq words are the process's own, and a table of another capacity can read it.
// Invariants: 1. every byte is under a CRC32C  2. nothing is handed out before all of it is checked: lengths, order, checksums
//             3. rows stand in the order in which they were inserted, which the table needs to go on exactly as before.
// Cost: one copy and one checksum of every row: about a second a gigabyte. Concurrency: none of its own.
// Limits: blockBytesMax a block, so that a file may be written piece by piece; a table holds at most 2^26 rows.

import { crc32c } from "#base/crc32c";
import { MillraceError } from "#base/errors";

export const checkpointVersion = 1;
const headBytes = 64;
const blockHeadBytes = 16;
const blockBytesMax = 4 << 20;
/** "MILLRPRM" */
const magicLow = 0x4c4c494d;
const magicHigh = 0x4d525052;
/** "PBLK" */
const blockMagic = 0x4b4c4250;
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

/** `words[at]` on: key low, key high, touches, values, accumulators. */
export type RowWords = (row: number, words: Uint32Array, at: number) => void;

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

/** The parts of a file, in order. `fill` writes row `row` at `words[at]`. */
export function writeCheckpoint(head: CheckpointHead, fill: RowWords): Uint8Array[] {
  const words = headWords(head);
  const bytes = new Uint8Array(words.buffer);
  words[headBytes / 4 - 1] = crc32c(bytes, 0, 0, headBytes - 4);
  const parts = [bytes];
  const recordWords = recordHeadWords + head.dims + head.accumulatorNumbers;
  const blockRows = Math.max(1, Math.floor((blockBytesMax - blockHeadBytes) / (4 * recordWords)));
  for (let first = 0; first < head.rowCount; first += blockRows) {
    const rows = Math.min(blockRows, head.rowCount - first);
    const block = new Uint32Array(blockHeadBytes / 4 + rows * recordWords);
    block[0] = blockMagic;
    block[2] = first;
    block[3] = rows;
    for (let row = 0; row < rows; row++) fill(first + row, block, blockHeadBytes / 4 + row * recordWords);
    const blockBytes = new Uint8Array(block.buffer);
    block[1] = crc32c(blockBytes, 0, 8);
    parts.push(blockBytes);
  }
  return parts;
}

function damaged(what: string): MillraceError {
  return new MillraceError("corrupt", `parameter checkpoint: ${what}`, { todo: "use an earlier checkpoint" });
}

/** Words of `bytes[from, to)`, copied when they are not aligned. */
function wordsOf(bytes: Uint8Array, from: number, to: number): Uint32Array {
  const at = bytes.byteOffset + from;
  return at % 4 === 0 ? new Uint32Array(bytes.buffer, at, (to - from) / 4) : new Uint32Array(new Uint8Array(bytes.subarray(from, to)).buffer);
}

/**
 * Checks a file given as any list of arrays that cut it only between head and blocks (one array with everything too). `rows` then visits all
 * rows in order, as often as wanted. Throws `corrupt` or `unsupported`.
 */
export function readCheckpoint(parts: readonly Uint8Array[]): { head: CheckpointHead; rows(visit: RowWords): void } {
  const first = parts[0];
  if (first === undefined || first.length < headBytes) throw damaged("shorter than its head");
  const words = wordsOf(first, 0, headBytes);
  if (words[0] !== magicLow || words[1] !== magicHigh) throw damaged("does not begin as one");
  if (words[2] !== checkpointVersion) {
    throw new MillraceError("unsupported", `parameter checkpoint of version ${words[2]}`, {
      todo: `read it with the millrace that wrote it; this one knows ${checkpointVersion}`,
    });
  }
  if (words[3] !== headBytes || words[headBytes / 4 - 1] !== crc32c(first, 0, 0, headBytes - 4)) throw damaged("its head fails its checksum");
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
  const recordWords = recordHeadWords + head.dims + head.accumulatorNumbers;
  const blocks: Uint32Array[] = [];
  let row = 0;
  for (const [number, part] of parts.entries()) {
    for (let at = number === 0 ? headBytes : 0; at < part.length;) {
      if (part.length - at < blockHeadBytes) throw damaged(`ends inside the block of row ${row}`);
      const block = wordsOf(part, at, at + blockHeadBytes);
      if (block[0] !== blockMagic || block[2] !== row || block[3] === 0 || block[3]! > head.rowCount - row) throw damaged(`no block of row ${row}`);
      const end = at + blockHeadBytes + block[3]! * recordWords * 4;
      if (end > part.length) throw damaged(`ends inside the block of row ${row}`);
      if (block[1] !== crc32c(part, 0, at + 8, end)) throw damaged(`the block of row ${row} fails its checksum`);
      blocks.push(wordsOf(part, at, end));
      row += block[3]!;
      at = end;
    }
  }
  if (row !== head.rowCount) throw damaged(`holds ${row} of ${head.rowCount} rows`);
  return {
    head,
    rows(visit) {
      for (const block of blocks) for (let i = 0; i < block[3]!; i++) visit(block[2]! + i, block, blockHeadBytes / 4 + i * recordWords);
    },
  };
}
