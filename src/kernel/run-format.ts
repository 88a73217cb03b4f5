// The header of a run file and the sums that follow from it. Byte format: docs/format/run-file.md.
//
//   0       header, one block of 4,096
//   4,096   data blocks of 4,096: records in key order; a block that ends early goes on with bytes 255
//   table   u32 a data block: where its separator stands; then the separators, the least and the greatest key; filled up to a block with zeros
//   index   search groups of 64 bytes; filled up to a block with zeros
//   checks  u32 a block from 4,096 on to here: its CRC32C; filled up to a multiple of 64 with zeros
//
// Invariants: 1. all offsets count from the start of the file, so the bytes mean the same wherever they lie  2. a header that `readRunHeader`
//             returned has parts in this order, inside the file, each large enough for what it says it holds.
// Limits: a file is less than 4 GiB, so that offsets have 32 bits and one memory holds it.

import { crc32c } from "#base/crc32c";
import { MillraceError } from "#base/errors";
import { blockBytes, groupBytes } from "./entry-layout.ts";
import { entryLimits, recordHeadBytesMin } from "./entry-record.ts";
import type { KeySeed } from "./key-hash.ts";

/** 2 placed keys by the other hash and had no key lines; it is read. 1 had longer heads of entry records; no release wrote it. */
export const runFormatVersion = 3;
const oldestVersion = 2;
export const runHeaderBytes = blockBytes;
/** "MILLRRUN". */
const magicLow = 0x4c4c494d;
const magicHigh = 0x4e555252;

export const runLimits = {
  /** A file is smaller. */
  fileBytesMax: 2 ** 32 - 65_536,
  /** Search groups are filled to this part. */
  load: 0.85,
  /** Where key and value have so many bytes on average: to less, 1.9 bytes a key more, since then 1 in 100 keys is not in its first group instead of 6. */
  longEntryBytes: 192,
  longEntryLoad: 0.65,
} as const;

export interface RunStatistics {
  /** Entries, tombstones too. */
  readonly entries: number;
  readonly tombstones: number;
  /** Entries with an expiry. */
  readonly expiring: number;
  readonly keyBytes: number;
  readonly valueBytes: number;
  /** Least and greatest of the times there are; 0 when none. */
  readonly minTimeMs: number;
  readonly maxTimeMs: number;
  readonly minExpiryMs: number;
  readonly maxExpiryMs: number;
}

/** All of a header. Offsets count from the start of the file. */
export interface RunHeader {
  readonly version: number;
  readonly fileBytes: number;
  readonly dataBlocks: number;
  readonly tableFrom: number;
  readonly separatorsFrom: number;
  readonly separatorsBytes: number;
  readonly minKeyFrom: number;
  readonly minKeyBytes: number;
  readonly maxKeyFrom: number;
  readonly maxKeyBytes: number;
  readonly indexFrom: number;
  readonly groups: number;
  readonly checksFrom: number;
  /** Blocks that have a checksum: all from 4,096 to checksFrom. */
  readonly blocks: number;
  readonly checksCrc: number;
  readonly seed: KeySeed;
  readonly statistics: RunStatistics;
}

const words = ["fileBytes", "dataBlocks", "tableFrom", "separatorsFrom", "separatorsBytes", "minKeyFrom", "minKeyBytes"] as const;
const moreWords = ["maxKeyFrom", "maxKeyBytes", "indexFrom", "groups", "checksFrom", "blocks", "checksCrc"] as const;
const numbers = ["entries", "tombstones", "expiring", "keyBytes", "valueBytes", "minTimeMs", "maxTimeMs", "minExpiryMs", "maxExpiryMs"] as const;
const wordsFrom = 16;
const numbersFrom = 80;
const crcFrom = runHeaderBytes - 4;

/** The 4,096 bytes of a header. */
export function writeRunHeader(header: RunHeader): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(runHeaderBytes);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, magicLow, true);
  view.setUint32(4, magicHigh, true);
  view.setUint32(8, header.version, true);
  view.setUint32(12, runHeaderBytes, true);
  let at = wordsFrom;
  for (const name of [...words, ...moreWords] as const) {
    view.setUint32(at, header[name], true);
    at += 4;
  }
  view.setUint32(at, header.seed.low, true);
  view.setUint32(at + 4, header.seed.high, true);
  at = numbersFrom;
  for (const name of numbers) {
    view.setBigUint64(at, BigInt(header.statistics[name]), true);
    at += 8;
  }
  view.setUint32(crcFrom, crc32c(bytes, 0, 0, crcFrom), true);
  return bytes;
}

/**
 * Reads and checks the header that begins at `at`. Throws `corrupt` when it is damaged or says what cannot be, `unsupported` for a version
 * this program does not know. `what` names the file in messages.
 */
export function readRunHeader(bytes: Uint8Array, at = 0, what = "the run"): RunHeader {
  const bad = (reason: string): MillraceError =>
    new MillraceError("corrupt", `${what} ${reason}`, { todo: "take another copy of the file, or build it again" });
  if (!Number.isInteger(at) || at < 0 || at + runHeaderBytes > bytes.length) throw bad("is shorter than a header");
  const view = new DataView(bytes.buffer, bytes.byteOffset + at, runHeaderBytes);
  if (view.getUint32(0, true) !== magicLow || view.getUint32(4, true) !== magicHigh) throw bad("does not begin with MILLRRUN");
  if (view.getUint32(crcFrom, true) !== crc32c(bytes, 0, at, at + crcFrom)) throw bad("has a header with a wrong checksum");
  const version = view.getUint32(8, true);
  if (version < oldestVersion || version > runFormatVersion || view.getUint32(12, true) !== runHeaderBytes) {
    throw new MillraceError("unsupported", `${what} has version ${version} of the run format`, {
      todo: `use a millrace that knows it; this one knows versions ${oldestVersion} to ${runFormatVersion}${version < oldestVersion ? ", and earlier ones cannot be read: import or write the data again" : ""}`,
    });
  }
  const word = (index: number): number => view.getUint32(wordsFrom + 4 * index, true);
  const number = (index: number): number => Number(view.getBigUint64(numbersFrom + 8 * index, true));
  const named = (names: readonly string[], from: number, read: (index: number) => number): Record<string, number> =>
    Object.fromEntries(names.map((name, i) => [name, read(from + i)]));
  const header = {
    version,
    ...named(words, 0, word),
    ...named(moreWords, words.length, word),
    seed: { low: word(14), high: word(15) },
    statistics: named(numbers, 0, number),
  } as unknown as RunHeader;
  const reason = contradiction(header);
  if (reason !== undefined) throw bad(`has a header that cannot be: ${reason}`);
  return header;
}

function contradiction(h: RunHeader): string | undefined {
  const isBlock = (offset: number): boolean => offset % blockBytes === 0;
  const dataEnd = runHeaderBytes + h.dataBlocks * blockBytes;
  const { entries } = h.statistics;
  if (h.tableFrom !== dataEnd) return "the table does not follow the data";
  if (h.separatorsFrom !== h.tableFrom + 4 * h.dataBlocks) return "the separators do not follow the table";
  const separatorsEnd = h.separatorsFrom + h.separatorsBytes;
  if (h.minKeyFrom !== separatorsEnd || h.maxKeyFrom !== h.minKeyFrom + h.minKeyBytes) return "the least and greatest key do not follow the separators";
  if (h.minKeyBytes > entryLimits.keyBytesMax || h.maxKeyBytes > entryLimits.keyBytesMax) return "a key is too long";
  if (h.maxKeyFrom + h.maxKeyBytes > h.indexFrom || !isBlock(h.indexFrom)) return "the index does not follow the keys";
  if (h.groups < 1 || h.indexFrom + h.groups * groupBytes > h.checksFrom || !isBlock(h.checksFrom)) return "the checksums do not follow the index";
  if (h.blocks !== h.checksFrom / blockBytes - 1) return "the number of checksums is wrong";
  if (h.checksFrom + 4 * h.blocks > h.fileBytes || h.fileBytes % 64 !== 0 || h.fileBytes > runLimits.fileBytesMax) return "the end is wrong";
  if (!Number.isSafeInteger(entries) || entries > h.groups * 12 || entries > (h.dataBlocks * blockBytes) / recordHeadBytesMin)
    return "more entries than there is room for";
  if ((entries === 0) !== (h.dataBlocks === 0)) return "entries without data";
  if (h.statistics.tombstones > entries || h.statistics.expiring > entries) return "more tombstones or expiries than entries";
  return undefined;
}
