// Rows as records in blocks, each under a CRC32C: how the file of optimizer state is cut. Bytes: docs/format/optimizer-state.md, "Block".
// Invariants: 1. rows are numbered without a gap from the first on  2. nothing is handed out before lengths, order and checksums of all blocks are checked.
// Cost: one copy and one checksum of every record. Concurrency: none of its own. Limits: blockBytesMax a block, so that a file may be written piece by piece.

import { crc32c } from "#base/crc32c";
import { MillraceError } from "#base/errors";

const blockHeadBytes = 16;
const blockBytesMax = 4 << 20;

/** A kind of file: its name in a sentence and the magic of its blocks. */
export interface BlockKind {
  readonly name: string;
  readonly magic: number;
}

/** Writes or reads the record of row `row` at `words[at]`. */
export type RowWords = (row: number, words: Uint32Array, at: number) => void;

export function damagedFile(kind: BlockKind, what: string): MillraceError {
  return new MillraceError("corrupt", `${kind.name}: ${what}`, { todo: "use an earlier checkpoint" });
}

/** Words of `bytes[from, to)`, copied when they are not aligned. */
export function fileWords(bytes: Uint8Array, from: number, to: number): Uint32Array {
  const at = bytes.byteOffset + from;
  return at % 4 === 0 ? new Uint32Array(bytes.buffer, at, (to - from) / 4) : new Uint32Array(new Uint8Array(bytes.subarray(from, to)).buffer);
}

/** The blocks of `rowCount` records of `recordWords` words, in order. */
export function writeBlocks(kind: BlockKind, rowCount: number, recordWords: number, fill: RowWords): Uint8Array[] {
  const parts: Uint8Array[] = [];
  const blockRows = Math.max(1, Math.floor((blockBytesMax - blockHeadBytes) / (4 * recordWords)));
  for (let first = 0; first < rowCount; first += blockRows) {
    const rows = Math.min(blockRows, rowCount - first);
    const block = new Uint32Array(blockHeadBytes / 4 + rows * recordWords);
    block[0] = kind.magic;
    block[2] = first;
    block[3] = rows;
    for (let row = 0; row < rows; row++) fill(first + row, block, blockHeadBytes / 4 + row * recordWords);
    const blockBytes = new Uint8Array(block.buffer);
    block[1] = crc32c(blockBytes, 0, 8);
    parts.push(blockBytes);
  }
  return parts;
}

/** Checks the blocks of a file whose head took `headBytes` of its first part. What it returns visits all rows in order, as often as wanted. Throws `corrupt`. */
export function readBlocks(kind: BlockKind, parts: readonly Uint8Array[], headBytes: number, rowCount: number, recordWords: number): (visit: RowWords) => void {
  const blocks: Uint32Array[] = [];
  let row = 0;
  for (const [number, part] of parts.entries()) {
    for (let at = number === 0 ? headBytes : 0; at < part.length;) {
      if (part.length - at < blockHeadBytes) throw damagedFile(kind, `ends inside the block of row ${row}`);
      const block = fileWords(part, at, at + blockHeadBytes);
      if (block[0] !== kind.magic || block[2] !== row || block[3] === 0 || block[3]! > rowCount - row) throw damagedFile(kind, `no block of row ${row}`);
      const end = at + blockHeadBytes + block[3]! * recordWords * 4;
      if (end > part.length) throw damagedFile(kind, `ends inside the block of row ${row}`);
      if (block[1] !== crc32c(part, 0, at + 8, end)) throw damagedFile(kind, `the block of row ${row} fails its checksum`);
      blocks.push(fileWords(part, at, end));
      row += block[3]!;
      at = end;
    }
  }
  if (row !== rowCount) throw damagedFile(kind, `holds ${row} of ${rowCount} rows`);
  return (visit) => {
    for (const block of blocks) for (let i = 0; i < block[3]!; i++) visit(block[2]! + i, block, blockHeadBytes / 4 + i * recordWords);
  };
}
