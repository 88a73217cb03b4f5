// A cursor over one partition: turns an offset into the records from there on, out of the writer's memory or out of the segment files.
// Why two ways: beside the writer of this process the visible end is known, so a reader never sees what is not yet durable by policy; in another
// process the folder is all there is, and a frame counts once it is whole and no new writer may still cut it.
// Invariants: 1. records come in offset order without a gap  2. beside a writer nothing at or after its visible end is given out  3. in the last
// segment a frame is given out only when a listing made after reading it shows no claim and no newer segment that begins before it  4. a frame
// that does not decode is `corrupt` unless it may still be under way.
// Cost: at rest in another process one read and one readdir a look; sequential reading decodes each frame once.
// Concurrency: one call at a time a cursor.

import { MillraceError } from "#base/errors";
import type { Clock } from "#platform/clock";
import type { OpenFile } from "#platform/files";
import type { LogRecords } from "./log.ts";
import { damagedSegment, type PartitionFolder, type Segment } from "./partition-folder.ts";
import type { PartitionWriter } from "./partition-writer.ts";
import { decodeFrame, frameHeaderBytes, frameRecords } from "./segment-format.ts";
import { isProvenBeyond } from "./segment-recovery.ts";

const chunkBytesMin = 64 * 1024;
const chunkBytesMax = 1024 * 1024;
const nothing = new Uint8Array(0);

export interface ReaderContext {
  readonly folder: PartitionFolder;
  readonly clock: Clock;
  /** The writer of this process, while it is open. */
  readonly writer: () => PartitionWriter | undefined;
}

export class PartitionCursor {
  readonly #context: ReaderContext;
  #segments: readonly Segment[] = [];
  #segment: Segment | undefined;
  #file: OpenFile | undefined;
  /** A frame boundary in the open segment and the offset of that frame. */
  #position = 0;
  #positionOffset = 0;
  /** Where an undecodable frame was seen before, and how long the file was then. */
  #stuckAt = -1;
  /** A segment that had no header although another one followed. */
  #headerless: Segment | undefined;

  constructor(context: ReaderContext) {
    this.#context = context;
  }

  /** Records from `offset` on, about `bytesMax`, in `room` as far as it goes; `undefined` when there are none yet. Throws `not-found` when trimmed, `corrupt`. */
  async read(offset: number, bytesMax: number, room?: Uint8Array<ArrayBuffer>): Promise<LogRecords | undefined> {
    for (;;) {
      const writer = this.#context.writer();
      if (writer !== undefined) {
        const { first, next } = writer.bounds;
        if (offset >= next) return undefined;
        // Also when its memory still has it: what was trimmed is gone for everybody.
        if (offset < first) throw trimmed(this.#context.folder.partition, offset, first);
        const recent = writer.readRecent(offset, bytesMax);
        if (recent !== undefined) return recent;
        this.#segments = writer.segments;
      } else if (this.#segments !== this.#listed || this.#segments.length === 0) {
        await this.#list();
      }
      const found = await this.#readFiles(offset, bytesMax, writer, room);
      if (found !== "again") return found;
    }
  }

  /** First offset, and the offset after the last whole frame. */
  async bounds(): Promise<{ first: number; next: number }> {
    const writer = this.#context.writer();
    if (writer !== undefined) return writer.bounds;
    await this.#list();
    const last = this.#segments.at(-1);
    if (last === undefined) return { first: 0, next: 0 };
    let next = Math.max(last.firstOffset, this.#segment === last ? this.#positionOffset : 0);
    for (;;) {
      const found = await this.read(next, chunkBytesMax);
      if (found === undefined) return { first: this.#segments[0]?.firstOffset ?? 0, next };
      next = found.firstOffset + found.records.length;
    }
  }

  async close(): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    this.#segment = undefined;
    await file?.close();
  }

  #listed: readonly Segment[] | undefined;

  async #list(): Promise<{ segments: readonly Segment[]; claimed: boolean }> {
    const listing = await this.#context.folder.list();
    this.#segments = listing.segments;
    this.#listed = listing.segments;
    return listing;
  }

  /** Index of the segment that holds `offset`, -1 when none does. */
  #segmentOf(offset: number): number {
    let low = -1;
    let high = this.#segments.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.#segments[middle]!.firstOffset <= offset) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  async #readFiles(
    offset: number,
    bytesMax: number,
    writer: PartitionWriter | undefined,
    room: Uint8Array<ArrayBuffer> | undefined,
  ): Promise<LogRecords | undefined | "again"> {
    const at = this.#segmentOf(offset);
    if (at < 0) {
      if (this.#segments.length === 0) return undefined;
      throw trimmed(this.#context.folder.partition, offset, this.#segments[0]!.firstOffset);
    }
    const segment = this.#segments[at]!;
    const isLast = at === this.#segments.length - 1;
    if (!(await this.#enter(segment, offset))) {
      // Trimmed or removed since the listing, or made a moment ago and still without its header: a new listing tells.
      const { segments } = await this.#list();
      if (segments.at(-1) === segment && writer === undefined) return undefined;
      // One that is followed by another has its header; that one was looked at before it was written is possible once.
      if (segments.includes(segment) && this.#headerless === segment) throw damagedSegment(segment.path, 0, "it is empty but another one follows");
      this.#headerless = segments.includes(segment) ? segment : undefined;
      return "again";
    }
    const end = isLast ? (writer?.bounds.next ?? Infinity) : this.#segments[at + 1]!.firstOffset;
    const found = await this.#decode(segment, offset, end, bytesMax, isLast && writer === undefined, room);
    if (!isLast || writer !== undefined) return found;
    // Another process writes, or nobody: what was read counts only if nobody is taking over.
    const { claimed, segments } = await this.#list();
    if (claimed) return undefined;
    const next = segments[segments.indexOf(segment) + 1];
    if (segments.includes(segment) && next === undefined) return found;
    if (found === undefined || next === undefined || next.firstOffset <= offset) return "again";
    return { firstOffset: found.firstOffset, records: found.records.slice(0, next.firstOffset - offset) };
  }

  /** Opens the segment, unless it is open, and stands on a frame at or before `offset`. */
  async #enter(segment: Segment, offset: number): Promise<boolean> {
    if (this.#segment !== segment) {
      await this.close();
      const file = await this.#context.folder.openSegment(segment);
      if (file === undefined) return false;
      this.#file = file;
      this.#segment = segment;
      this.#position = 0;
    }
    const known = segment.seek(offset);
    if (this.#position === 0 || this.#positionOffset > offset || known.offset > this.#positionOffset) {
      this.#position = known.position;
      this.#positionOffset = known.offset;
    }
    return true;
  }

  /** Decodes frames from where the cursor stands; gives out records in `[offset, end)`. `growing`: a frame may be under way. */
  async #decode(
    segment: Segment,
    offset: number,
    end: number,
    bytesMax: number,
    growing: boolean,
    room: Uint8Array<ArrayBuffer> = nothing,
  ): Promise<LogRecords | undefined> {
    const key = { epoch: segment.epoch, salt: segment.salt! };
    const records: Uint8Array[] = [];
    let given = 0;
    let roomLeft = room;
    let leastBytes = 0;
    while (given < bytesMax && this.#positionOffset < end) {
      const available = (await this.#file!.size()) - this.#position;
      const usualBytes = Math.min(chunkBytesMax, Math.max(chunkBytesMin, bytesMax - given));
      const chunkBytes = Math.max(0, Math.min(available, leastBytes > 0 ? leastBytes : usualBytes));
      const chunk = chunkBytes <= roomLeft.length ? roomLeft.subarray(0, chunkBytes) : new Uint8Array(chunkBytes);
      const got = chunk.length === 0 ? 0 : await this.#file!.read(chunk, this.#position);
      const view = new DataView(chunk.buffer, chunk.byteOffset, chunk.length);
      leastBytes = 0;
      let at = 0;
      let wanted = frameHeaderBytes;
      while (at < got && given < bytesMax && this.#positionOffset < end) {
        const frame = decodeFrame(chunk, view, at, got, key);
        if (typeof frame === "object" && "short" in frame) {
          wanted = frame.short;
          break;
        }
        if (frame === "damaged" || frame.firstOffset !== this.#positionOffset) {
          if (records.length > 0) return { firstOffset: offset, records };
          if (growing && !(await this.#isDamage(segment))) return undefined;
          throw damagedSegment(segment.path, this.#position, `no intact frame of offset ${this.#positionOffset} stands there`);
        }
        segment.noteFrame(this.#positionOffset, this.#position);
        const frameEnd = frame.firstOffset + frame.recordCount;
        if (frameEnd > offset && frame.recordCount > 0) {
          frameRecords(chunk, view, at, frame, Math.max(0, offset - frame.firstOffset), records);
          given += frame.end - at;
        }
        this.#position += frame.end - at;
        this.#positionOffset = frameEnd;
        at = frame.end;
      }
      if (at > 0) {
        if (chunk.buffer === room.buffer) roomLeft = roomLeft.subarray(at);
        continue;
      }
      if (wanted <= available) {
        leastBytes = wanted;
        continue;
      }
      // The end of the file, or a frame of which a part is there.
      if (records.length > 0 || growing) break;
      throw damagedSegment(segment.path, this.#position, `it ends before offset ${end}`);
    }
    if (this.#positionOffset > end && records.length > 0) records.length = Math.max(0, records.length - (this.#positionOffset - end));
    return records.length === 0 ? undefined : { firstOffset: offset, records };
  }

  /** A frame that does not decode in a growing segment: looked at twice, then behind it for proof that it had been synced. */
  async #isDamage(segment: Segment): Promise<boolean> {
    if (this.#stuckAt !== this.#position) {
      this.#stuckAt = this.#position;
      return false;
    }
    return isProvenBeyond(this.#file!, segment, this.#position, this.#positionOffset, this.#context.clock);
  }
}

function trimmed(partition: string, offset: number, first: number): MillraceError {
  return new MillraceError("not-found", `offset ${offset} of partition ${partition} was trimmed`, { todo: `read from offset ${first} on` });
}
