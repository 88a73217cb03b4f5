// What stands in the folder of one partition: which segments are its history, and whether a new writer is just taking over.
// Why the names: they carry first offset, epoch and the epoch before, so one listing gives the chain from the newest writer back. A file that a
// fenced writer made late is not in the chain of a higher epoch, whatever it holds.
// Invariants: 1. the history is the chain that the segment of the highest epoch begins  2. a segment ends where the next one begins; bytes of it
// beyond that are of a fenced writer or were cut, nobody parses them and nobody removes them (a writer that was paused in its recovery could
// otherwise cut what a later one kept)  3. while a claim stands above every segment, nobody but its owner may say where the last segment
// ends  4. Segment objects live on between listings, with their sparse index.
// Cost: a listing is one readdir; the sparse index holds 16 B for every 64 KiB of frames that were passed.

import { MillraceError } from "#base/errors";
import type { Files, OpenFile } from "#platform/files";
import {
  decodeSegmentHeader,
  encodeSegmentHeader,
  parseClaimName,
  parseSegmentName,
  segmentHeaderBytes,
  segmentName,
  type SegmentName,
} from "./segment-format.ts";

const indexEveryBytes = 64 * 1024;

export class Segment {
  readonly path: string;
  readonly firstOffset: number;
  readonly epoch: number;
  /** Known once the header was read. */
  salt: number | undefined;
  /** Wall time at which its writer began it; known with the salt. */
  createdMs: number | undefined;
  readonly #offsets: number[];
  readonly #positions: number[];

  constructor(path: string, firstOffset: number, epoch: number) {
    this.path = path;
    this.firstOffset = firstOffset;
    this.epoch = epoch;
    this.#offsets = [firstOffset];
    this.#positions = [segmentHeaderBytes];
  }

  /** Tells the index that the frame of `offset` begins at `position`. */
  noteFrame(offset: number, position: number): void {
    if (position < this.#positions[this.#positions.length - 1]! + indexEveryBytes) return;
    this.#offsets.push(offset);
    this.#positions.push(position);
  }

  /** The last known frame at or before `offset`. */
  seek(offset: number): { offset: number; position: number } {
    let low = 0;
    let high = this.#offsets.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if (this.#offsets[middle]! <= offset) low = middle;
      else high = middle - 1;
    }
    return { offset: this.#offsets[low]!, position: this.#positions[low]! };
  }
}

export interface FolderListing {
  /** The history: in offset order, each ending where the next one begins. */
  readonly segments: readonly Segment[];
  /** Names of files that count no more: segments of fenced writers, claims that were served. The next writer removes them. */
  readonly leavings: readonly string[];
  /** Highest epoch of any segment or claim, 0 when there is none. */
  readonly epochMax: number;
  /** A claim stands above every segment: a new writer is deciding where the last segment ends. */
  readonly claimed: boolean;
}

export class PartitionFolder {
  readonly partition: string;
  readonly path: string;
  readonly #files: Files;
  #known = new Map<string, Segment>();

  constructor(files: Files, folder: string, partition: string) {
    this.#files = files;
    this.partition = partition;
    this.path = files.join(folder, partition);
  }

  async list(): Promise<FolderListing> {
    const named: (SegmentName & { name: string })[] = [];
    const leavings: string[] = [];
    let claimEpochMax = 0;
    for (const name of (await this.#files.list(this.path)) ?? []) {
      const parsed = parseSegmentName(name);
      const claim = parseClaimName(name);
      if (parsed !== undefined) named.push({ ...parsed, name });
      if (claim !== undefined) {
        claimEpochMax = Math.max(claimEpochMax, claim);
        leavings.push(name);
      }
    }
    named.sort((a, b) => b.epoch - a.epoch || b.firstOffset - a.firstOffset);
    const chain: (SegmentName & { name: string })[] = [];
    // From the newest segment of the newest writer back: the predecessor is the last segment of the epoch that it names.
    for (let at = named[0]; at !== undefined;) {
      const from = at;
      if (chain.at(-1)?.firstOffset !== from.firstOffset) chain.push(from);
      at = named.find((other) => other.epoch === from.previousEpoch && other.firstOffset <= from.firstOffset && isBefore(other, from));
    }
    const known = new Map<string, Segment>();
    const segments = chain.reverse().map((found) => {
      const segment = this.#known.get(found.name) ?? new Segment(this.pathOf(found.name), found.firstOffset, found.epoch);
      known.set(found.name, segment);
      return segment;
    });
    this.#known = known;
    const first = segments[0]?.firstOffset ?? 0;
    for (const other of named) if (!known.has(other.name) && other.firstOffset >= first) leavings.push(other.name);
    const segmentEpochMax = named[0]?.epoch ?? 0;
    return { segments, leavings, epochMax: Math.max(segmentEpochMax, claimEpochMax), claimed: claimEpochMax > segmentEpochMax };
  }

  /** Creates a segment with a synced header; `undefined` when the name is taken. The index of its Segment is kept by later listings. */
  async create(name: SegmentName, salt: number, createdMs: number): Promise<{ file: OpenFile; segment: Segment } | undefined> {
    const fileName = segmentName(name);
    const segment = new Segment(this.pathOf(fileName), name.firstOffset, name.epoch);
    const file = await this.#files.open(segment.path, "create");
    if (file === undefined) return undefined;
    try {
      await file.write(encodeSegmentHeader(this.partition, { ...name, salt, createdMs }), 0);
      await file.sync();
      await this.#files.syncFolder(this.path);
    } catch (thrown) {
      await file.close();
      throw thrown;
    }
    segment.salt = salt;
    segment.createdMs = createdMs;
    this.#known.set(fileName, segment);
    return { file, segment };
  }

  pathOf(name: string): string {
    return this.#files.join(this.path, name);
  }

  /** Opens a segment and reads its salt; `undefined` when it was trimmed meanwhile or its writer has not begun. Throws `corrupt`. */
  async openSegment(segment: Segment): Promise<OpenFile | undefined> {
    const file = await this.#files.open(segment.path, "read");
    if (file === undefined || segment.salt !== undefined) return file;
    try {
      const header = await readSegmentHeader(file, this.partition, segment);
      segment.salt = header?.salt;
      segment.createdMs = header?.createdMs;
    } catch (thrown) {
      await file.close();
      throw thrown;
    }
    if (segment.salt !== undefined) return file;
    await file.close();
    return undefined;
  }
}

function isBefore(other: SegmentName, than: SegmentName): boolean {
  return other.epoch < than.epoch || (other.epoch === than.epoch && other.firstOffset < than.firstOffset);
}

/** Reads and checks the header of an open segment; `undefined` when it is not there and nothing follows it, as in a segment whose writer was cut off
 * before it began. Throws `corrupt`, or `unsupported` for a later version. */
export async function readSegmentHeader(file: OpenFile, partition: string, segment: Segment): Promise<{ salt: number; createdMs: number } | undefined> {
  // The size first: a writer may begin between the two.
  const isBegun = (await file.size()) > segmentHeaderBytes;
  const bytes = new Uint8Array(segmentHeaderBytes);
  const got = await file.read(bytes, 0);
  const header = decodeSegmentHeader(partition, bytes.subarray(0, got));
  if (header === "version") {
    throw new MillraceError("unsupported", `log segment ${segment.path} was written by a later version`, {
      todo: "start the version that wrote it, or a later one",
    });
  }
  if (header === undefined && !isBegun) return undefined;
  if (header === undefined || header.firstOffset !== segment.firstOffset || header.epoch !== segment.epoch) {
    throw damagedSegment(segment.path, 0, "its header is damaged or belongs to another name");
  }
  return { salt: header.salt, createdMs: header.createdMs };
}

/** The one way to say that a segment is damaged. `position` is in bytes from the start of the file. */
export function damagedSegment(path: string, position: number, why: string): MillraceError {
  return new MillraceError("corrupt", `log segment ${path} is damaged at byte ${position}, ${why}`, {
    todo: "keep a copy of the folder, check the disk, and restore this file from a backup; nothing was changed",
  });
}
