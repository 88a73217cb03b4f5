// The file of a factorisation machine over a shard: a head, its buckets, its rows with the optimizer's state. Bytes: docs/format/machine-checkpoint.md.
// Why not the store's checkpoint: that one is of rows alone, in files that build on one another; a trainer goes on bit for bit only from one moment of everything.
// Invariants: 1. every byte is under a CRC32C  2. nothing is handed out before all of it is checked: lengths, order, checksums
//             3. rows stand by bucket, in each in the order of their versions: the order that eviction goes by.
// Cost: one copy and one checksum of every row: about a second a gigabyte. Concurrency: none of its own.
// Limits: blockBytesMax a block, so that a file may be written piece by piece.

import { crc32c } from "#base/crc32c";
import { MillraceError } from "#base/errors";

export const machineCheckpointVersion = 1;
const headBytes = 96;
const blockHeadBytes = 20;
const blockBytesMax = 4 << 20;
/** "MILLRFMC" */
const magicLow = 0x4c4c494d;
const magicHigh = 0x434d4652;
/** "FBLK" */
const blockMagic = 0x4b4c4246;
/** Of "MILLRPRM": how machines' files began before their rows had versions. */
const olderMagicHigh = 0x4d525052;

const kind = { buckets: 0, rows: 1 } as const;
/** Newest version (high, low), largest collected one (high, low), rows that left, epoch and node of the primary here. */
export const bucketRecordWords = 7;
/** Key (low, high), version (high, low), touched, flags. */
export const rowRecordHeadWords = 6;

/** In the order of the words of the head. */
export interface MachineCheckpointHead {
  readonly dims: number;
  readonly factors: number;
  /** Code of the header word: 0 sgd, 1 adagrad, 2 rowwise-adagrad. */
  readonly optimizer: number;
  readonly stateNumbers: number;
  readonly seedLow: number;
  readonly seedHigh: number;
  readonly initialScaleBits: number;
  readonly buckets: number;
  /** Live rows and tombstones. */
  readonly rows: number;
  readonly skipped: number;
  readonly refused: number;
  readonly evicted: number;
  readonly expired: number;
  readonly evictHand: number;
  readonly expireHand: number;
}

const headFields = [
  "dims",
  "factors",
  "optimizer",
  "stateNumbers",
  "seedLow",
  "seedHigh",
  "initialScaleBits",
  "buckets",
  "rows",
  "skipped",
  "refused",
  "evicted",
  "expired",
  "evictHand",
  "expireHand",
] as const satisfies readonly (keyof MachineCheckpointHead)[];

/** Visits record `number` at `words[at]`. */
export type RecordWords = (words: Uint32Array, at: number, number: number) => void;

/** The parts of a file, in order. `bucket` and `row` write one record after the other. */
export function writeMachineCheckpoint(head: MachineCheckpointHead, bucket: RecordWords, row: RecordWords): Uint8Array[] {
  const words = new Uint32Array(headBytes / 4);
  words.set([magicLow, magicHigh, machineCheckpointVersion, headBytes, ...headFields.map((name) => head[name])]);
  const bytes = new Uint8Array(words.buffer);
  words[headBytes / 4 - 1] = crc32c(bytes, 0, 0, headBytes - 4);
  const parts = [bytes];
  const write = (of: number, count: number, recordWords: number, fill: RecordWords): void => {
    const most = Math.max(1, Math.floor((blockBytesMax - blockHeadBytes) / (4 * recordWords)));
    for (let first = 0; first < count; first += most) {
      const size = Math.min(most, count - first);
      const block = new Uint32Array(blockHeadBytes / 4 + size * recordWords);
      block.set([blockMagic, 0, of, first, size]);
      for (let i = 0; i < size; i++) fill(block, blockHeadBytes / 4 + i * recordWords, first + i);
      const part = new Uint8Array(block.buffer);
      block[1] = crc32c(part, 0, 8);
      parts.push(part);
    }
  };
  write(kind.buckets, head.buckets, bucketRecordWords, bucket);
  write(kind.rows, head.rows, rowRecordHeadWords + head.dims + head.stateNumbers, row);
  return parts;
}

function damaged(what: string): MillraceError {
  return new MillraceError("corrupt", `machine checkpoint: ${what}`, {
    todo: "use an earlier checkpoint, or start without one: training begins anew from the log",
  });
}

/** Words of bytes [from, to), copied only when they do not lie on a multiple of 4. */
function wordsOf(bytes: Uint8Array, from: number, to: number): Uint32Array {
  const at = bytes.byteOffset + from;
  return at % 4 === 0 ? new Uint32Array(bytes.buffer, at, (to - from) / 4) : new Uint32Array(new Uint8Array(bytes.subarray(from, to)).buffer);
}

/**
 * Checks a file given as any list of arrays that cut it only between head and blocks (one array with everything too). `buckets` and `rows` then visit all records in order,
 * as often as wanted. Throws `corrupt` or `unsupported`.
 */
export function readMachineCheckpoint(parts: readonly Uint8Array[]): {
  readonly head: MachineCheckpointHead;
  readonly buckets: (visit: RecordWords) => void;
  readonly rows: (visit: RecordWords) => void;
} {
  const first = parts[0];
  if (first === undefined || first.length < 16) throw damaged("shorter than its head");
  const start = wordsOf(first, 0, 16);
  if (start[0] === magicLow && start[1] === olderMagicHigh) {
    throw new MillraceError("unsupported", "a checkpoint of an older millrace, whose rows had no versions", {
      todo: "nothing: training begins anew from the first record of the log; to keep what was learned, read the folder with the millrace that wrote it",
    });
  }
  if (start[0] !== magicLow || start[1] !== magicHigh) throw damaged("does not begin as one");
  if (start[2] !== machineCheckpointVersion) {
    throw new MillraceError("unsupported", `machine checkpoint of version ${start[2]}`, {
      todo: `read it with the millrace that wrote it; this one knows ${machineCheckpointVersion}`,
    });
  }
  if (first.length < headBytes || start[3] !== headBytes) throw damaged("shorter than its head");
  const words = wordsOf(first, 0, headBytes);
  if (words[headBytes / 4 - 1] !== crc32c(first, 0, 0, headBytes - 4)) throw damaged("its head fails its checksum");
  const head = Object.fromEntries(headFields.map((name, i) => [name, words[4 + i]!])) as unknown as MachineCheckpointHead;
  const sections = [
    { count: head.buckets, recordWords: bucketRecordWords, blocks: [] as Uint32Array[], done: 0 },
    { count: head.rows, recordWords: rowRecordHeadWords + head.dims + head.stateNumbers, blocks: [] as Uint32Array[], done: 0 },
  ];
  for (const [number, part] of parts.entries()) {
    for (let at = number === 0 ? headBytes : 0; at < part.length;) {
      const section = sections[0]!.done < sections[0]!.count ? 0 : 1;
      const { count, recordWords, blocks, done } = sections[section]!;
      const where = `block ${section === kind.buckets ? "of buckets" : "of rows"} at ${done}`;
      if (part.length - at < blockHeadBytes) throw damaged(`ends inside the ${where}`);
      const block = wordsOf(part, at, at + blockHeadBytes);
      if (block[0] !== blockMagic || block[2] !== section || block[3] !== done || block[4] === 0 || block[4]! > count - done) throw damaged(`no ${where}`);
      const end = at + blockHeadBytes + block[4]! * recordWords * 4;
      if (end > part.length) throw damaged(`ends inside the ${where}`);
      if (block[1] !== crc32c(part, 0, at + 8, end)) throw damaged(`the ${where} fails its checksum`);
      blocks.push(wordsOf(part, at, end));
      sections[section]!.done += block[4]!;
      at = end;
    }
  }
  for (const { done, count } of sections) if (done !== count) throw damaged(`holds ${done} of ${count} records`);
  const visitor =
    (section: number) =>
    (visit: RecordWords): void => {
      const { blocks, recordWords } = sections[section]!;
      for (const block of blocks) for (let i = 0; i < block[4]!; i++) visit(block, blockHeadBytes / 4 + i * recordWords, block[3]! + i);
    };
  return { head, buckets: visitor(kind.buckets), rows: visitor(kind.rows) };
}
