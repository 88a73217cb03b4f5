// Reads one segment from its start to find where its good frames end, and judges whether what follows is a torn tail or damage.
// Why evidence: a power cut may lose any page that was not synced, also one before a page that reached the disk, so "an intact frame follows the
// damage" alone does not mean that the disk lost something it had promised. Every frame tells how far the segment was synced when it was written:
// damage below the highest such position is `corrupt`, damage above it is what a power cut may do, and is cut there.
// Invariants: 1. never throws for content  2. `end` is a frame boundary; every frame before it is intact and their offsets have no gap
// 3. the bytes below `provenBytes` were on disk.
// Cost: one pass at the speed of CRC32C; after damage a look at every eighth byte. Reads 1 MiB at a time and yields in between.

import type { Clock } from "#platform/clock";
import type { OpenFile } from "#platform/files";
import type { Segment } from "./partition-folder.ts";
import { decodeFrame, decodeFrameHeader, frameHeaderBytes, segmentHeaderBytes } from "./segment-format.ts";

const readBytes = 1024 * 1024;

export interface SegmentScan {
  /** Position after the last good frame. */
  readonly end: number;
  readonly nextOffset: number;
  readonly fileBytes: number;
  /** Everything below this position was synced once, by what the frames say. */
  readonly provenBytes: number;
  /** Bytes follow `end` that are no frame. */
  readonly torn: boolean;
  /** They lie below `provenBytes`: the disk lost what it had promised. */
  readonly corrupt: boolean;
}

/** Reads ahead in a file; `need` makes a range available in `bytes`. */
class Window {
  bytes = new Uint8Array(0);
  view = new DataView(this.bytes.buffer);
  /** Position in the file of `bytes[0]`. */
  start = 0;
  readonly #file: OpenFile;
  readonly #clock: Clock;
  /** What is read into, again and again: a long segment would else leave its length to the garbage collector. */
  #room = new Uint8Array(0);

  constructor(file: OpenFile, clock: Clock) {
    this.#file = file;
    this.#clock = clock;
  }

  /** Index in `bytes` of `position`, after making sure that `length` bytes from there are read (fewer at the end of the file). */
  async need(position: number, length: number): Promise<number> {
    if (position >= this.start && position + length <= this.start + this.bytes.length) return position - this.start;
    if (this.#room.length < Math.max(length, readBytes)) this.#room = new Uint8Array(Math.max(length, readBytes));
    const got = await this.#file.read(this.#room, position);
    await this.#clock.yield();
    this.bytes = this.#room.subarray(0, got);
    this.view = new DataView(this.#room.buffer, 0, got);
    this.start = position;
    return 0;
  }
}

/** Scans an open segment whose header was read. */
export async function scanSegment(file: OpenFile, segment: Segment, clock: Clock): Promise<SegmentScan> {
  const fileBytes = await file.size();
  const key = { epoch: segment.epoch, salt: segment.salt! };
  const window = new Window(file, clock);
  let position = segmentHeaderBytes;
  let nextOffset = segment.firstOffset;
  let provenBytes = segmentHeaderBytes;
  while (position < fileBytes) {
    let length = frameHeaderBytes;
    let at = await window.need(position, Math.min(length, fileBytes - position));
    let frame = decodeFrame(window.bytes, window.view, at, window.bytes.length, key);
    if (typeof frame === "object" && "short" in frame && position + frame.short <= fileBytes) {
      length = frame.short;
      at = await window.need(position, length);
      frame = decodeFrame(window.bytes, window.view, at, window.bytes.length, key);
    }
    if (frame === "damaged" || "short" in frame || frame.firstOffset !== nextOffset) break;
    segment.noteFrame(nextOffset, position);
    provenBytes = Math.max(provenBytes, frame.syncedBytes);
    position += frame.end - at;
    nextOffset += frame.recordCount;
  }
  const torn = position < fileBytes;
  if (torn) provenBytes = Math.max(provenBytes, await findEvidence(window, position, fileBytes, nextOffset, key));
  return { end: position, nextOffset, fileBytes, provenBytes, torn, corrupt: torn && provenBytes > position };
}

/** True when a frame behind `from` proves that the bytes at `from` had been synced: then what stands there is damage, not a write under way. */
export async function isProvenBeyond(file: OpenFile, segment: Segment, from: number, offset: number, clock: Clock): Promise<boolean> {
  const key = { epoch: segment.epoch, salt: segment.salt! };
  return (await findEvidence(new Window(file, clock), from, await file.size(), offset, key)) > from;
}

/** Highest position that any intact frame header at or after `from` calls synced. A header has a checksum of its own, so the look at a byte is cheap. */
async function findEvidence(window: Window, from: number, fileBytes: number, offsetMin: number, key: { epoch: number; salt: number }): Promise<number> {
  let proven = 0;
  for (let position = from; position + frameHeaderBytes <= fileBytes;) {
    let at = await window.need(position, frameHeaderBytes);
    const stop = window.bytes.length - frameHeaderBytes;
    if (stop < at) break;
    for (; at <= stop; at += 8) {
      const header = decodeFrameHeader(window.bytes, window.view, at, window.bytes.length, key);
      if (header !== undefined && header.firstOffset >= offsetMin && header.syncedBytes <= window.start + at) proven = Math.max(proven, header.syncedBytes);
    }
    position = window.start + at;
  }
  return proven;
}
