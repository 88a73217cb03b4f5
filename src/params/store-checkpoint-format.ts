// The bytes of a file of a store's checkpoint: head, blocks of entries, the cut. Bytes: docs/format/store-checkpoint.md.
// Invariants: 1. every byte is under a CRC32C; a block's head under one of its own, so that a reader may go from head to head  2. a file without its cut at the end is
//             no file  3. values of tombstones are not written.

import { crc32c } from "#base/crc32c";
import { MillraceError } from "#base/errors";
import { type EntryBatch, entryFlags } from "./sync-table.ts";

export const storeCheckpointVersion = 1;
export const fileHeadBytes = 64;
export const blockHeadBytes = 32;
export const entryHeadBytes = 24;
/** "MILLRPSC" */
const magicLow = 0x4c4c494d;
const magicHigh = 0x43535052;
/** "PSBK", "PSCT", "PSNT" */
export const entriesMagic = 0x4b42_5350;
export const cutMagic = 0x5443_5350;
export const notesMagic = 0x544e_5350;
/** In a block's flags: earlier files and blocks say nothing of its bucket any more. */
export const wholeFlag = 1;

/** What a file and the store that reads it must agree on. */
export interface StoreShapeWords {
  readonly dim: number;
  readonly factors: number;
  readonly shards: number;
  readonly buckets: number;
  readonly seedLow: number;
  readonly seedHigh: number;
  readonly scaleBits: number;
}

export interface FileHead extends StoreShapeWords {
  /** Of the file in its chain, from 1. */
  readonly number: number;
  /** 1: everything; 0: what changed since the file before. */
  readonly full: number;
}

export interface BlockHead {
  readonly magic: number;
  readonly shard: number;
  readonly bucket: number;
  readonly flags: number;
  readonly count: number;
  readonly bodyBytes: number;
  readonly bodyCrc: number;
}

export function damaged(what: string): MillraceError {
  return new MillraceError("corrupt", `checkpoint of parameters: ${what}`, { todo: "use an earlier checkpoint, or load from another replica" });
}

const bytesOf = (words: Uint32Array<ArrayBuffer>): Uint8Array<ArrayBuffer> => new Uint8Array(words.buffer);

export function encodeFileHead(head: FileHead): Uint8Array<ArrayBuffer> {
  const { dim, factors, shards, buckets, seedLow, seedHigh, scaleBits, number, full } = head;
  const words = new Uint32Array(fileHeadBytes / 4);
  words.set([magicLow, magicHigh, storeCheckpointVersion, fileHeadBytes, dim, factors, shards, buckets, seedLow, seedHigh, scaleBits, number, full]);
  words[15] = crc32c(bytesOf(words), 0, 0, fileHeadBytes - 4);
  return bytesOf(words);
}

/** Throws `corrupt`, or `unsupported` for a later version. */
export function decodeFileHead(bytes: Uint8Array<ArrayBuffer>): FileHead {
  if (bytes.length < fileHeadBytes) throw damaged("shorter than a head");
  const words = new Uint32Array(bytes.slice(0, fileHeadBytes).buffer);
  if (words[0] !== magicLow || words[1] !== magicHigh) throw damaged("does not begin as one");
  if (words[2] !== storeCheckpointVersion) {
    throw new MillraceError("unsupported", `checkpoint of parameters of version ${words[2]}`, {
      todo: `read it with the millrace that wrote it; this one knows ${storeCheckpointVersion}`,
    });
  }
  if (words[3] !== fileHeadBytes || words[15] !== crc32c(bytes, 0, 0, fileHeadBytes - 4)) throw damaged("its head fails its checksum");
  const [dim, factors, shards, buckets, seedLow, seedHigh, scaleBits, number, full] = words.subarray(4, 13) as unknown as number[];
  return {
    dim: dim!,
    factors: factors!,
    shards: shards!,
    buckets: buckets!,
    seedLow: seedLow!,
    seedHigh: seedHigh!,
    scaleBits: scaleBits!,
    number: number!,
    full: full!,
  };
}

/** Head and body of a block. */
export function encodeBlock(magic: number, shard: number, bucket: number, flags: number, count: number, body: Uint8Array): Uint8Array[] {
  const words = new Uint32Array(blockHeadBytes / 4);
  words.set([magic, shard, bucket, flags, count, body.length, crc32c(body)]);
  words[7] = crc32c(bytesOf(words), 0, 0, blockHeadBytes - 4);
  return [bytesOf(words), body];
}

/** Throws `corrupt`. */
export function decodeBlockHead(bytes: Uint8Array<ArrayBuffer>, head: FileHead): BlockHead {
  const words = new Uint32Array(bytes.slice(0, blockHeadBytes).buffer);
  const [magic, shard, bucket, flags, count, bodyBytes, bodyCrc] = words as unknown as number[];
  if (words[7] !== crc32c(bytes, 0, 0, blockHeadBytes - 4) || (magic !== entriesMagic && magic !== cutMagic && magic !== notesMagic))
    throw damaged("the head of a block fails its checksum");
  if (shard! >= head.shards || (magic === entriesMagic && bucket! >= head.buckets)) throw damaged("a block of a bucket that is not there");
  return { magic: magic, shard: shard!, bucket: bucket!, flags: flags!, count: count!, bodyBytes: bodyBytes!, bodyCrc: bodyCrc! };
}

/** Entries as columns: keys, versions (high, low), touched, flags, values of those that are no tombstones. */
export function encodeEntries(entries: EntryBatch): Uint8Array<ArrayBuffer> {
  const { count, dim } = entries;
  let live = 0;
  for (let i = 0; i < count; i++) if (!entries.isTombstone(i)) live++;
  const words = new Uint32Array(6 * count + live * dim);
  words.set(entries.keys.subarray(0, 2 * count));
  words.set(entries.versions.subarray(0, 2 * count), 2 * count);
  words.set(entries.touched.subarray(0, count), 4 * count);
  for (let i = 0; i < count; i++) words[5 * count + i] = entries.flags[i]!;
  const values = new Float32Array(words.buffer);
  if (live === count) values.set(entries.values.subarray(0, count * dim), 6 * count);
  else {
    let to = 6 * count;
    for (let i = 0; i < count; i++) {
      if (entries.isTombstone(i)) continue;
      values.set(entries.values.subarray(i * dim, (i + 1) * dim), to);
      to += dim;
    }
  }
  return bytesOf(words);
}

/** Throws `corrupt`. `into` is emptied first. */
export function decodeEntries(body: Uint8Array<ArrayBuffer>, count: number, into: EntryBatch): void {
  const { dim } = into;
  if (body.length % 4 !== 0 || body.length < entryHeadBytes * count) throw damaged("a block shorter than its entries");
  const words = new Uint32Array(
    body.byteOffset % 4 === 0 ? body.buffer : body.slice().buffer,
    body.byteOffset % 4 === 0 ? body.byteOffset : 0,
    body.length / 4,
  );
  const values = new Float32Array(words.buffer, words.byteOffset, words.length);
  into.clear();
  into.reserve(count);
  into.keys.set(words.subarray(0, 2 * count));
  into.versions.set(words.subarray(2 * count, 4 * count));
  into.touched.set(words.subarray(4 * count, 5 * count));
  let from = 6 * count;
  for (let i = 0; i < count; i++) {
    const flags = words[5 * count + i]!;
    into.flags[i] = flags & entryFlags.tombstone;
    if ((flags & entryFlags.tombstone) !== 0) continue;
    if (from + dim > words.length) throw damaged("a block shorter than its values");
    into.values.set(values.subarray(from, from + dim), i * dim);
    from += dim;
  }
  if (from !== words.length) throw damaged("a block longer than its entries");
  into.count = count;
}
