// The files of a segment: `.npy`, one array a file, named `segment.NAME.npy`. Layout: docs/format/vector-segment.md.
//
// Invariants: 1. a file is what it must be byte for byte in its head, and in its size, or it is refused  2. what the arrays say is checked before a kernel follows it: list bounds
//                rise, live rows stand at the start of their lists, ids are there for rows and for rows alone, no two equal, numbers are finite. Bits that turned without that
//                are the manifest's checksums to find
//             3. an array is read straight to where it stays.
// Cost of loading: the bytes of the files once, 0.1 to 0.2 us an id, one pass over the numbers.

import { MillraceError } from "#base/errors";
import { npyHeader } from "#base/npy-header";
import type { KeySeed } from "#kernel/key-hash";
import { roundUp } from "#kernel/kernel-memory";
import type { MemoryLease, MemoryPool } from "#kernel/memory-pool";
import { bitmapBytes, slotsUnit, vectorRowLimits } from "#kernel/vector-layout";
import { listIndexScratchBytes } from "#kernel/vector-ivf";
import type { Files, OpenFile } from "#platform/files";
import { vectorLimits } from "../vector-service.ts";
import { IdDirectory } from "./id-directory.ts";
import { LoadedSegment } from "./loaded-segment.ts";
import { searchSettingsLimits } from "./search-settings.ts";
import {
  arraysOf,
  bytesOf,
  elementsOf,
  fileOf,
  headWords,
  listGroups,
  metricNumbers,
  paddingSlot,
  segmentFormat,
  segmentFormats,
  type SegmentHead,
  type SegmentParts,
} from "./segment-parts.ts";
import type { VectorSegment } from "./vector-segment.ts";

/** Ids of the input rows: id i = bytes `offsets[i]` to `offsets[i + 1]`, UTF-8, no two equal (or the segment cannot be loaded). */
export interface SegmentIds {
  readonly bytes: Uint8Array;
  readonly offsets: Uint32Array;
}

/** Bytes of a file read at once; ... */
const readBytes = 32 << 20;
/** ... and while a thread serves: a larger piece holds a core for milliseconds, on which something else may wait. */
const readBytesServing = 1 << 20;
/** Numbers checked between two pauses: some tenths of a millisecond. */
const checkedTogether = 1 << 18;

/** Packs texts. */
export function packIds(ids: readonly string[]): SegmentIds {
  const encoder = new TextEncoder();
  const offsets = new Uint32Array(ids.length + 1);
  let bytes = new Uint8Array(Math.max(64, ids.length * 16));
  let at = 0;
  ids.forEach((id, i) => {
    if (at + id.length * 3 > bytes.length) {
      const wider = new Uint8Array(Math.max(bytes.length * 2, at + id.length * 3));
      wider.set(bytes);
      bytes = wider;
    }
    at += encoder.encodeInto(id, bytes.subarray(at)).written;
    offsets[i + 1] = at;
  });
  return { bytes: bytes.subarray(0, at), offsets };
}

/** Writes the files into a folder that exists; returns their names and rows, for the manifest. Throws `invalid` for ids that do not fit the rows. */
export async function writeSegment(
  parts: SegmentParts,
  ids: SegmentIds,
  files: Files,
  folder: string,
): Promise<readonly { readonly name: string; readonly rows: number }[]> {
  const { order, slots, lists, shape, rows } = parts;
  if (ids.offsets.length !== rows + 1 || ids.offsets[rows]! > ids.bytes.length) {
    throw new MillraceError("invalid", `${ids.offsets.length - 1} ids for ${rows} rows`, { todo: "give every row one" });
  }
  const idStarts = new Uint32Array(slots + 1);
  const idBytes = new Uint8Array(ids.offsets[rows]!);
  let at = 0;
  for (let slot = 0; slot < slots; slot++) {
    const row = order[slot]!;
    if (row !== paddingSlot) {
      const from = ids.offsets[row]!;
      const to = ids.offsets[row + 1]!;
      if (to <= from || to - from > vectorLimits.elementBytesMax) {
        throw new MillraceError("invalid", `an id of ${to - from} bytes`, { todo: `use 1 to ${vectorLimits.elementBytesMax}` });
      }
      for (let i = from; i < to; i++) idBytes[at++] = ids.bytes[i]!;
    }
    idStarts[slot + 1] = at;
  }
  const head: SegmentHead = {
    metric: shape.metric,
    dims: shape.dims,
    rows,
    slots,
    lists,
    idBytes: idBytes.length,
    groups: parts.arrays.has("block-codes") ? listGroups(parts.arrays.get("starts") as Uint32Array)[lists]! : 0,
  };
  const written = [{ name: fileOf("head"), rows: headWords }];
  await writeWhole(files, files.join(folder, fileOf("head")), [npyHeader("<u4", [headWords]), bytesIn(headOf(head))]);
  for (const layout of arraysOf(head)) {
    const array = layout.name === "ids" ? idBytes : layout.name === "id-starts" ? idStarts : parts.arrays.get(layout.name);
    if (array?.length !== elementsOf(layout)) throw new MillraceError("internal", `array ${layout.name} of a segment has ${array?.length ?? 0} numbers`);
    await writeWhole(files, files.join(folder, fileOf(layout.name)), [npyHeader(layout.type, layout.shape), bytesIn(array)]);
    written.push({ name: fileOf(layout.name), rows: layout.shape[0]! });
  }
  await files.syncFolder(folder);
  return written;
}

function bytesIn(array: ArrayBufferView): Uint8Array {
  return new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
}

function headOf({ metric, dims, rows, slots, lists, idBytes, groups }: SegmentHead): Uint32Array {
  const words = new Uint32Array(headWords);
  words.set([segmentFormat, metricNumbers.indexOf(metric), dims, rows, slots, lists, idBytes, groups]);
  return words;
}

async function writeWhole(files: Files, path: string, parts: readonly Uint8Array[]): Promise<void> {
  const file = await files.open(path, "write");
  if (file === undefined) throw new MillraceError("unavailable", `${path} cannot be written`);
  try {
    await file.truncate(0);
    let at = 0;
    for (const part of parts)
      for (let from = 0; from < part.length; from += readBytes) {
        const piece = part.subarray(from, from + readBytes);
        await file.write(piece, at);
        at += piece.length;
      }
    await file.sync();
  } finally {
    await file.close();
  }
}

export interface LoadOptions {
  /** Whom the pool's statistics count the memory for. */
  readonly owner: string;
  /** Bytes of data to reserve in the same memory for attribute columns and the like. Default 0. */
  readonly extraBytes?: number;
  /** Of the one lane: arguments and results of a call. Default 1 MiB. */
  readonly laneBytes?: number;
  /** Called after every some tenths of a millisecond of computing: lets other work of the thread in. Default: nobody waits. */
  readonly pause?: () => Promise<void>;
  /** Of the hashes of ids: random where strangers choose them. */
  readonly seed?: KeySeed;
}

const corrupt = (what: string): MillraceError => new MillraceError("corrupt", `a segment ${what}`, { todo: "fetch or build it again" });

/** Loads a segment into a leased memory. Throws `corrupt` when the files are not those of a segment, `overloaded` when the pool has no room. `pathOf`: the path of a file by name. */
export async function loadSegment(files: Files, pathOf: (name: string) => string, pool: MemoryPool, options: LoadOptions): Promise<VectorSegment> {
  const head = await readHead(files, pathOf(fileOf("head")));
  const layouts = arraysOf(head);
  // What the starts say bounds the scratch, so they come first.
  const starts = new Uint32Array(head.lists + 1);
  await readArray(files, pathOf(fileOf("starts")), npyHeader("<u4", [head.lists + 1]), bytesIn(starts));
  let listSlotsMax = 0;
  for (let list = 0; list < head.lists; list++) {
    const size = starts[list + 1]! - starts[list]!;
    if (starts[list]! % slotsUnit !== 0 || size <= 0) throw corrupt("whose lists do not rise in whole blocks");
    listSlotsMax = Math.max(listSlotsMax, size);
  }
  if (starts[0] !== 0 || starts[head.lists] !== head.slots) throw corrupt("whose lists do not end where its slots do");

  const groups = listGroups(starts);
  if (head.groups !== 0 && head.groups !== groups[head.lists]) throw corrupt("whose lists have other groups of blocks than its head says");
  const extraBytes = options.extraBytes ?? 0;
  const sizes = new Float32Array(head.lists);
  const scratchBytes = head.lists > 1 ? listIndexScratchBytes(head.lists, head.slots, listSlotsMax, head.dims) : 0;
  const dataBytes =
    layouts.reduce((sum, layout) => sum + roundUp(bytesOf(layout) + 16, 64), 0) +
    roundUp(bitmapBytes(head.slots), 64) +
    roundUp(IdDirectory.bytes(head.rows), 64) +
    roundUp(sizes.byteLength, 64) +
    roundUp(groups.byteLength, 64) +
    roundUp(scratchBytes, 64) +
    roundUp(extraBytes, 64);
  let lease: MemoryLease;
  try {
    lease = pool.lease({ owner: options.owner, dataBytes, ...(options.laneBytes === undefined ? {} : { laneBytes: options.laneBytes }) });
  } catch (thrown) {
    if (thrown instanceof MillraceError && thrown.code === "invalid") throw corrupt(`of ${dataBytes} bytes, more than a memory holds`);
    throw thrown;
  }
  try {
    const { memory } = lease;
    const at = new Map<string, number>();
    for (const layout of layouts) {
      // Kernels read a little past ids.
      const place = memory.reserve(bytesOf(layout) + 16);
      at.set(layout.name, place);
      await readArray(
        files,
        pathOf(fileOf(layout.name)),
        npyHeader(layout.type, layout.shape),
        memory.bytes.subarray(place, place + bytesOf(layout)),
        options.pause,
      );
    }
    for (const layout of layouts) {
      if (layout.type !== "<f4") continue;
      for (let from = 0, all = elementsOf(layout); from < all; from += checkedTogether) {
        if (memory.calls.floatsFinite(at.get(layout.name)! + from * 4, Math.min(checkedTogether, all - from)) === 0) {
          throw corrupt(`with numbers in ${layout.name} that are not finite`);
        }
        await options.pause?.();
      }
    }
    if (starts.some((start, list) => memory.u32[at.get("starts")! / 4 + list] !== start)) throw corrupt("whose lists changed while it was read");
    checkLive(memory.u32, at.get("live")! / 4, starts, sizes, head.rows);
    await checkIds(memory.u32, at.get("live")! / 4, at.get("id-starts")! / 4, head, options.pause);
    const spreadsAt = at.get("spreads");
    const errorsAt = at.get("code-errors");
    if (spreadsAt !== undefined && errorsAt !== undefined) {
      for (let list = 0; list < head.lists; list++) {
        if (!(memory.f32[spreadsAt / 4 + list]! > 0 && memory.f32[errorsAt / 4 + list]! >= 0)) throw corrupt("with a list without spread");
      }
    }
    const blockSpreadsAt = at.get("block-spreads");
    if (blockSpreadsAt !== undefined) {
      for (let block = 0; block < head.slots / slotsUnit; block++)
        if (!(memory.f32[blockSpreadsAt / 4 + block]! > 0)) throw corrupt("with a block without spread");
      await options.pause?.();
    }
    const ids = new IdDirectory(
      memory,
      { idsAt: at.get("ids")!, startsAt: at.get("id-starts")!, slots: head.slots, rows: head.rows },
      options.seed ?? { low: 0x6d696c6c, high: 0x72616365 },
    );
    await ids.fill(options.pause);
    const sizesAt = memory.reserve(sizes.byteLength);
    memory.f32.set(sizes, sizesAt / 4);
    const groupsAt = memory.reserve(groups.byteLength);
    memory.u32.set(groups, groupsAt / 4);
    const filterRoomAt = memory.reserve(bitmapBytes(head.slots));
    const scratchAt = memory.reserve(scratchBytes);
    const extraAt = memory.reserve(extraBytes);
    return new LoadedSegment(lease, head, { at, sizesAt, groupsAt, filterRoomAt, scratchAt, extraAt, extraBytes }, starts, ids, dataBytes);
  } catch (thrown) {
    lease.release();
    throw thrown;
  }
}

async function readHead(files: Files, path: string): Promise<SegmentHead> {
  const words = new Uint32Array(headWords);
  await readArray(files, path, npyHeader("<u4", [headWords]), bytesIn(words));
  const [format, metricNumber, dims, rows, slots, lists, idBytes, groups] = Array.from(words) as unknown as readonly [
    number,
    number,
    number,
    number,
    number,
    number,
    number,
    number,
  ];
  if (!segmentFormats.includes(format))
    throw new MillraceError("unsupported", `a segment of format ${format}`, { todo: "build it with this version, or update" });
  const metric = metricNumbers[metricNumber];
  if (metric === undefined || dims < 1 || dims > Math.min(vectorLimits.dimsMax, vectorRowLimits.dimsMax)) throw corrupt("of unknown metric or dimensions");
  if (rows < 1 || slots < rows || slots % slotsUnit !== 0 || lists < 1 || lists > Math.min(rows, searchSettingsLimits.listsMax))
    throw corrupt("whose counts do not fit");
  if (slots > rows + lists * (slotsUnit - 1)) throw corrupt("with more slots than its lists fill");
  if (idBytes < rows || idBytes > rows * vectorLimits.elementBytesMax) throw corrupt("whose head does not fit");
  if (groups !== 0 && (format === 1 || lists <= 1)) throw corrupt("whose groups of blocks do not fit its format");
  if (words.subarray(8).some((word) => word !== 0)) throw corrupt("whose head has more than it should");
  return { metric, dims, rows, slots, lists, idBytes, groups };
}

/** Reads a file that must be this header and `into.length` bytes. */
async function readArray(files: Files, path: string, header: Uint8Array, into: Uint8Array, pause?: () => Promise<void>): Promise<void> {
  const file = await files.open(path, "read");
  if (file === undefined) throw corrupt(`without the file ${path}`);
  try {
    if ((await file.size()) !== header.length + into.length) throw corrupt(`whose file ${path} has another size than it must have`);
    const read = new Uint8Array(header.length);
    await readFully(file, read, 0, path);
    if (read.some((byte, i) => byte !== header[i])) throw corrupt(`whose file ${path} does not begin as it must`);
    const piece = pause === undefined ? readBytes : readBytesServing;
    for (let from = 0; from < into.length; from += piece) {
      await readFully(file, into.subarray(from, from + piece), header.length + from, path);
      await pause?.();
    }
  } finally {
    await file.close();
  }
}

async function readFully(file: OpenFile, into: Uint8Array, position: number, path: string): Promise<void> {
  for (let done = 0; done < into.length;) {
    const got = await file.read(into.subarray(done), position + done);
    if (got === 0) throw corrupt(`whose file ${path} ends too soon`);
    done += got;
  }
}

/** Rows must stand at the start of their lists; writes how many each has. */
function checkLive(u32: Uint32Array, live: number, starts: Uint32Array, sizes: Float32Array, rows: number): void {
  let all = 0;
  for (let list = 0; list < sizes.length; list++) {
    let ended = false;
    let size = 0;
    for (let word = starts[list]! / slotsUnit; word < starts[list + 1]! / slotsUnit; word++) {
      const bits = u32[live + word]!;
      if ((ended && bits !== 0) || (bits !== 0xffff_ffff && (bits & (bits + 1)) !== 0)) throw corrupt("whose rows do not stand at the start of their lists");
      const count = bits === 0xffff_ffff ? 32 : 31 - Math.clz32(bits + 1);
      if (count < 32) ended = true;
      size += count;
    }
    if (size === 0) throw corrupt("with a list without rows");
    sizes[list] = size;
    all += size;
  }
  if (all !== rows) throw corrupt("with other rows than its head says");
}

/** Ids must rise, up to the end of their bytes, and be there where a row is and nowhere else. */
async function checkIds(u32: Uint32Array, live: number, starts: number, head: SegmentHead, pause: (() => Promise<void>) | undefined): Promise<void> {
  if (u32[starts] !== 0 || u32[starts + head.slots] !== head.idBytes) throw corrupt("whose ids do not end where their bytes do");
  for (let from = 0; from < head.slots; from += checkedTogether / 8) {
    for (let slot = from, end = Math.min(head.slots, from + checkedTogether / 8); slot < end; slot++) {
      const size = u32[starts + slot + 1]! - u32[starts + slot]!;
      const isRow = ((u32[live + (slot >>> 5)]! >>> (slot & 31)) & 1) === 1;
      if (isRow ? size < 1 || size > vectorLimits.elementBytesMax : size !== 0) throw corrupt("whose ids do not fit its rows");
    }
    await pause?.();
  }
}
