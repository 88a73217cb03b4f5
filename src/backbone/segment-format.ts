// Bytes of a log segment: constants, names, encoders and decoders. docs/format/log-segment.md is the document, with a hex dump.
// Why frames: one append is one frame under one checksum, so that a torn append is cut whole. Why a salt: the checksums of a segment begin from
// a number that stands only in its header, so neither record bytes that look like a frame nor a frame of another segment ever passes.
// Invariants: 1. `decodeFrame` never throws and never reads outside `[at, end)`, whatever the bytes  2. a frame that decodes had its records, offset
// and epoch under one intact CRC32C  3. frames lie on multiples of 8, so a search for the next one looks at every eighth byte only.
// Versions: 1 = this one.

import { crc32c } from "#base/crc32c";
import { crc32cOfBytes } from "#kernel/checksum";
import { logLimits } from "./log.ts";

export const segmentMagic = "MILLRLOG";
export const segmentVersion = 1;
export const segmentHeaderBytes = 64;
export const frameMagicU32 = 0x4d41_5246; // "FRAM" read little-endian
export const frameHeaderBytes = 40;
/** Largest frame: header, a length for every record, the records, padding. */
export const frameBytesMax = frameHeaderBytes + 4 * logLimits.recordsPerAppendMax + logLimits.appendBytesMax + 8;

export interface SegmentHeader {
  readonly firstOffset: number;
  readonly epoch: number;
  readonly salt: number;
  readonly createdMs: number;
}

export interface Frame {
  /** Position after the frame, in the buffer it was decoded from. */
  readonly end: number;
  /** 0 = a mark: it only tells how far the segment was synced. */
  readonly recordCount: number;
  readonly firstOffset: number;
  /** Position in the segment up to which everything was synced when this frame was written. */
  readonly syncedBytes: number;
}

/** `short`: the frame goes on beyond `end`, `bytes` tells its whole length; `damaged`: no frame of this segment begins here. */
export type Decoded = Frame | { readonly short: number } | "damaged";

const twoTo32 = 0x1_0000_0000;

function putU64(view: DataView, at: number, value: number): void {
  view.setUint32(at, value % twoTo32, true);
  view.setUint32(at + 4, Math.floor(value / twoTo32), true);
}

/** A value above 2^53 - 1 comes back as -1, which no field may hold. */
function getU64(view: DataView, at: number): number {
  const high = view.getUint32(at + 4, true);
  return high > 0x1f_ffff ? -1 : high * twoTo32 + view.getUint32(at, true);
}

const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
const ascii = new TextEncoder();

export function encodeSegmentHeader(partition: string, header: SegmentHeader): Uint8Array {
  const bytes = new Uint8Array(segmentHeaderBytes);
  const view = viewOf(bytes);
  bytes.set(ascii.encode(segmentMagic), 0);
  view.setUint32(8, segmentVersion, true);
  view.setUint32(12, segmentHeaderBytes, true);
  putU64(view, 16, header.firstOffset);
  view.setUint32(24, header.epoch, true);
  view.setUint32(28, header.salt, true);
  putU64(view, 32, header.createdMs);
  view.setUint32(40, crc32c(ascii.encode(partition)), true);
  view.setUint32(60, crc32c(bytes, 0, 0, 60), true);
  return bytes;
}

/** `undefined` when the bytes are no intact header, `version` when they are one of a later version. */
export function decodeSegmentHeader(partition: string, bytes: Uint8Array): SegmentHeader | "version" | undefined {
  if (bytes.length < segmentHeaderBytes) return undefined;
  const view = viewOf(bytes);
  for (let at = 0; at < segmentMagic.length; at += 1) if (bytes[at] !== segmentMagic.charCodeAt(at)) return undefined;
  if (view.getUint32(60, true) !== crc32c(bytes, 0, 0, 60)) return undefined;
  if (view.getUint32(8, true) !== segmentVersion) return "version";
  if (view.getUint32(12, true) !== segmentHeaderBytes || view.getUint32(40, true) !== crc32c(ascii.encode(partition))) return undefined;
  const firstOffset = getU64(view, 16);
  const createdMs = getU64(view, 32);
  if (firstOffset < 0 || createdMs < 0) return undefined;
  return { firstOffset, epoch: view.getUint32(24, true), salt: view.getUint32(28, true), createdMs };
}

/** Bytes of the frame of `recordCount` records of `recordBytes` together, padding included. */
export function frameBytesOf(recordCount: number, recordBytes: number): number {
  return (frameHeaderBytes + 4 * recordCount + recordBytes + 7) & ~7;
}

/** Writes one frame at `at` (a multiple of 8), every byte of it, and returns the position after it. */
export function encodeFrame(
  bytes: Uint8Array,
  view: DataView,
  at: number,
  records: readonly Uint8Array[],
  recordBytes: number,
  fields: { firstOffset: number; epoch: number; salt: number; syncedBytes: number },
): number {
  const end = at + frameBytesOf(records.length, recordBytes);
  view.setUint32(at, frameMagicU32, true);
  view.setUint32(at + 8, end - at, true);
  view.setUint32(at + 12, records.length, true);
  putU64(view, at + 16, fields.firstOffset);
  putU64(view, at + 24, fields.syncedBytes);
  view.setUint32(at + 32, fields.epoch, true);
  view.setUint32(at + 36, crc32c(bytes, fields.salt, at + 8, at + 36), true);
  let lengthAt = at + frameHeaderBytes;
  let bodyAt = lengthAt + 4 * records.length;
  for (const record of records) {
    view.setUint32(lengthAt, record.length, true);
    bytes.set(record, bodyAt);
    lengthAt += 4;
    bodyAt += record.length;
  }
  bytes.fill(0, bodyAt, end);
  view.setUint32(at + 4, crc32cOfBytes(bytes, fields.salt, at + 8, end), true);
  return end;
}

/** What the 40 bytes at `at` claim, checked by their own checksum; `undefined` when no frame header of this segment stands there. */
export function decodeFrameHeader(
  bytes: Uint8Array,
  view: DataView,
  at: number,
  end: number,
  segment: { epoch: number; salt: number },
): { frameBytes: number; recordCount: number; firstOffset: number; syncedBytes: number } | undefined {
  if (at + frameHeaderBytes > end || view.getUint32(at, true) !== frameMagicU32) return undefined;
  if (view.getUint32(at + 36, true) !== crc32c(bytes, segment.salt, at + 8, at + 36)) return undefined;
  if (view.getUint32(at + 32, true) !== segment.epoch) return undefined;
  const frameBytes = view.getUint32(at + 8, true);
  const recordCount = view.getUint32(at + 12, true);
  const firstOffset = getU64(view, at + 16);
  const syncedBytes = getU64(view, at + 24);
  if (frameBytes > frameBytesMax || (frameBytes & 7) !== 0 || recordCount > logLimits.recordsPerAppendMax) return undefined;
  if (frameBytes < frameHeaderBytes + 4 * recordCount || firstOffset < 0 || syncedBytes < 0) return undefined;
  return { frameBytes, recordCount, firstOffset, syncedBytes };
}

/** Decodes the frame at `at`. Its records come from `frameRecords`. */
export function decodeFrame(bytes: Uint8Array, view: DataView, at: number, end: number, segment: { epoch: number; salt: number }): Decoded {
  if (at + frameHeaderBytes > end) return { short: frameHeaderBytes };
  const header = decodeFrameHeader(bytes, view, at, end, segment);
  if (header === undefined) return "damaged";
  const frameEnd = at + header.frameBytes;
  if (frameEnd > end) return { short: header.frameBytes };
  if (view.getUint32(at + 4, true) !== crc32cOfBytes(bytes, segment.salt, at + 8, frameEnd)) return "damaged";
  let bodyAt = at + frameHeaderBytes + 4 * header.recordCount;
  for (let index = 0; index < header.recordCount; index += 1) bodyAt += view.getUint32(at + frameHeaderBytes + 4 * index, true);
  if (bodyAt > frameEnd || frameEnd - bodyAt > 7) return "damaged";
  return { end: frameEnd, recordCount: header.recordCount, firstOffset: header.firstOffset, syncedBytes: header.syncedBytes };
}

/** Adds the records of a decoded frame, from its `skip`th on, to `into`, as views. */
export function frameRecords(bytes: Uint8Array, view: DataView, at: number, frame: Frame, skip: number, into: Uint8Array[]): void {
  let bodyAt = at + frameHeaderBytes + 4 * frame.recordCount;
  for (let index = 0; index < frame.recordCount; index += 1) {
    const length = view.getUint32(at + frameHeaderBytes + 4 * index, true);
    if (index >= skip) into.push(bytes.subarray(bodyAt, bodyAt + length));
    bodyAt += length;
  }
}

const segmentNamePattern = /^(\d{16})-(\d{10})-(\d{10})\.seg$/;
const claimNamePattern = /^(\d{10})\.claim$/;
const padded = (value: number, digits: number): string => String(value).padStart(digits, "0");

export interface SegmentName {
  readonly firstOffset: number;
  /** Of the writer that made it. */
  readonly epoch: number;
  /** Epoch of the segment whose end this one's first offset decides; 0 when there was none. */
  readonly previousEpoch: number;
}

export function segmentName(name: SegmentName): string {
  return `${padded(name.firstOffset, 16)}-${padded(name.epoch, 10)}-${padded(name.previousEpoch, 10)}.seg`;
}

export const claimName = (epoch: number): string => `${padded(epoch, 10)}.claim`;

export function parseSegmentName(name: string): SegmentName | undefined {
  const match = segmentNamePattern.exec(name);
  return match === null ? undefined : { firstOffset: Number(match[1]), epoch: Number(match[2]), previousEpoch: Number(match[3]) };
}

export function parseClaimName(name: string): number | undefined {
  const match = claimNamePattern.exec(name);
  return match === null ? undefined : Number(match[1]);
}
