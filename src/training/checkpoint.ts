// Checkpoints of training: parameters, optimizer, joiner, figures and the log offset that all of them stand at, in one file. Format: docs/format/checkpoint.md.
// Why one file: parameters of one moment with a joiner of another would learn some samples twice and others never; one atomic rename keeps them together.
// Invariants: 1. a file is whole or refused: every byte lies under a CRC32C, and the length must agree  2. the newest good one of the same extractor and options
// is used; a damaged one is passed over with a warning  3. the last `checkpointsKept` are kept; those of other options go once there are so many of these
// 4. writing works on bytes that nobody changes any more, in slices, so training goes on beside it.
// Cost: the bytes of the tables once more in memory while one is written; checksums about 1 ms a MiB, cut into slices of 1 MiB.

import { ByteReader } from "#base/byte-reader";
import { ByteWriter } from "#base/byte-writer";
import { crc32c } from "#base/crc32c";
import { MillraceError } from "#base/errors";
import type { Clock } from "#platform/clock";
import type { Files } from "#platform/files";
import { readCount, stateTodo } from "./number-lists.ts";

const magic = 0x5043524d; // "MRCP"
const version = 1;
const prefixBytes = 16;
const sliceBytes = 1 << 20;

export const checkpointsKept = 3;
export const checkpointBytesMax = 2 ** 31 - 1;

/** What a checkpoint belongs to: it goes on only with the same. */
export interface CheckpointKind {
  readonly extractorId: number;
  /** `optionsHash` of the model's and the training's options. */
  readonly optionsHash: number;
}

/** Named pieces of state. A name may come several times: its pieces in order. */
export interface StatePart {
  readonly name: string;
  readonly bytes: Uint8Array;
}

export interface Checkpoint extends CheckpointKind {
  /** First record of the log that it has not taken in. */
  readonly offset: number;
  /** Wall time of writing. */
  readonly writtenMs: number;
  readonly parts: readonly StatePart[];
}

/** A number for options: equal options (in any order of keys) give the same, others very likely not. */
export function optionsHash(options: unknown): number {
  return crc32c(new TextEncoder().encode(canonical(options)));
}

function canonical(value: unknown): string {
  if (typeof value !== "object" || value === null) return typeof value === "bigint" ? `${value}n` : (JSON.stringify(value) ?? "undefined");
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  const entries = Object.entries(value).filter(([, field]) => field !== undefined);
  return `{${entries
    .toSorted(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, field]) => `${JSON.stringify(key)}:${canonical(field)}`)
    .join(",")}}`;
}

/** The bytes of a checkpoint. Lets other work of the thread go on between slices. Throws `invalid` beyond `checkpointBytesMax`. */
export async function encodeCheckpoint(checkpoint: Checkpoint, clock: Clock): Promise<Uint8Array<ArrayBuffer>> {
  const { extractorId, optionsHash: hash, offset, writtenMs, parts } = checkpoint;
  const head = new ByteWriter();
  head.u32(extractorId);
  head.u32(hash);
  head.f64(offset);
  head.f64(writtenMs);
  head.varint(parts.length);
  let partBytes = 0;
  for (const { name, bytes } of parts) {
    head.string(name);
    head.varint(bytes.length);
    head.u32(await crcInSlices(bytes, clock));
    partBytes += bytes.length;
  }
  const headBytes = head.since(0);
  const total = prefixBytes + headBytes.length + partBytes;
  if (total > checkpointBytesMax) {
    throw new MillraceError("invalid", `a checkpoint of ${total} bytes`, {
      todo: `lower capacityRows: a checkpoint holds at most ${checkpointBytesMax} bytes`,
    });
  }
  const out = new Uint8Array(total);
  const view = new DataView(out.buffer);
  view.setUint32(0, magic, true);
  view.setUint32(4, version, true);
  view.setUint32(8, headBytes.length, true);
  out.set(headBytes, prefixBytes);
  // Over the prefix too, so that no bit of it can turn unseen.
  view.setUint32(12, crc32c(headBytes, crc32c(out.subarray(0, 12))), true);
  let at = prefixBytes + headBytes.length;
  for (const { bytes } of parts) {
    for (let from = 0; from < bytes.length; from += sliceBytes) {
      out.set(bytes.subarray(from, from + sliceBytes), at + from);
      if (from + sliceBytes < bytes.length) await clock.yield();
    }
    at += bytes.length;
  }
  return out;
}

async function crcInSlices(bytes: Uint8Array, clock: Clock): Promise<number> {
  let crc = 0;
  for (let from = 0; from < bytes.length; from += sliceBytes) {
    const to = Math.min(bytes.length, from + sliceBytes);
    crc = crc32c(bytes, crc, from, to);
    if (to < bytes.length) await clock.yield();
  }
  return crc;
}

/** Reads a checkpoint; its parts are views of `bytes`. Throws `corrupt` for anything that `encodeCheckpoint` did not write, `unsupported` for a newer version. */
export function decodeCheckpoint(bytes: Uint8Array): Checkpoint {
  const damaged = (what: string): MillraceError => new MillraceError("corrupt", `checkpoint: ${what}`, { todo: stateTodo });
  if (bytes.length < prefixBytes) throw damaged(`${bytes.length} bytes are no checkpoint`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (view.getUint32(0, true) !== magic) throw damaged("it does not begin with MRCP");
  const headEnd = prefixBytes + view.getUint32(8, true);
  if (headEnd > bytes.length) throw damaged("it ends inside its head");
  const headBytes = bytes.subarray(prefixBytes, headEnd);
  if (crc32c(headBytes, crc32c(bytes.subarray(0, 12))) !== view.getUint32(12, true)) throw damaged("the checksum of its head does not agree");
  // After the checksum: a turned bit is damage, not a newer version.
  const found = view.getUint32(4, true);
  if (found !== version) throw new MillraceError("unsupported", `checkpoint of version ${found}`, { todo: "use a newer millrace for this data folder" });
  const head = new ByteReader(headBytes, "checkpoint", stateTodo);
  const kind = { extractorId: head.u32(), optionsHash: head.u32(), offset: head.f64(), writtenMs: head.f64() };
  const parts: StatePart[] = [];
  let at = headEnd;
  for (let left = readCount(head, 6); left > 0; left -= 1) {
    const name = head.string();
    const length = head.varint();
    const crc = head.u32();
    if (at + length > bytes.length) throw damaged(`it ends inside its part ${name}`);
    const part = bytes.subarray(at, at + length);
    if (crc32c(part) !== crc) throw damaged(`the checksum of its part ${name} does not agree`);
    parts.push({ name, bytes: part });
    at += length;
  }
  head.end();
  if (at !== bytes.length) throw damaged(`${bytes.length - at} bytes left over`);
  return { ...kind, parts };
}

/** Pieces of that name, in order. */
export function partsOf(checkpoint: Checkpoint, name: string): Uint8Array[] {
  return checkpoint.parts.filter((part) => part.name === name).map(({ bytes }) => bytes);
}

/** The one piece of that name; `corrupt` when there is not exactly one. */
export function onePart(checkpoint: Checkpoint, name: string): Uint8Array {
  const [part, ...more] = partsOf(checkpoint, name);
  if (part !== undefined && more.length === 0) return part;
  throw new MillraceError("corrupt", `checkpoint: it has not one part ${name}`, { todo: stateTodo });
}

function kindText({ extractorId, optionsHash: hash }: CheckpointKind): string {
  return `${extractorId.toString(16).padStart(8, "0")}-${hash.toString(16).padStart(8, "0")}`;
}

function nameOf(kind: CheckpointKind, offset: number): string {
  return `checkpoint-${kindText(kind)}-${String(offset).padStart(16, "0")}.mrcp`;
}

interface NamedCheckpoint {
  readonly name: string;
  readonly kind: string;
  readonly offset: number;
}

/** Checkpoints of a folder, oldest offset first. */
async function listCheckpoints(files: Files, folder: string): Promise<NamedCheckpoint[]> {
  const names = (await files.list(folder)) ?? [];
  const found = names.flatMap((name) => {
    const parts = /^checkpoint-([0-9a-f]{8}-[0-9a-f]{8})-(\d{16})\.mrcp$/.exec(name);
    return parts === null ? [] : [{ name, kind: parts[1]!, offset: Number(parts[2]) }];
  });
  return found.toSorted((a, b) => a.offset - b.offset);
}

/** Writes a checkpoint into the folder and removes those that are no longer kept. Returns its size in bytes. */
export async function writeCheckpoint(files: Files, clock: Clock, folder: string, checkpoint: Checkpoint): Promise<number> {
  const bytes = await encodeCheckpoint(checkpoint, clock);
  await files.makeFolder(folder);
  await files.writeFileAtomic(files.join(folder, nameOf(checkpoint, checkpoint.offset)), bytes);
  const all = await listCheckpoints(files, folder);
  const own = all.filter(({ kind }) => kind === kindText(checkpoint));
  const others = own.length < checkpointsKept ? [] : all.filter(({ kind }) => kind !== kindText(checkpoint));
  for (const { name } of [...own.slice(0, -checkpointsKept), ...others]) await files.remove(files.join(folder, name));
  return bytes.length;
}

/** The newest good checkpoint of that kind, or `undefined`. `usable` may refuse one with `corrupt` too, by throwing (it loads it). Damage is told to `warn` and
 * the one before is tried; other failures are thrown. */
export async function restoreNewest(
  files: Files,
  folder: string,
  kind: CheckpointKind,
  usable: (checkpoint: Checkpoint) => void,
  warn: (message: string) => void,
): Promise<Checkpoint | undefined> {
  const all = await listCheckpoints(files, folder);
  const own = all.filter((one) => one.kind === kindText(kind));
  if (own.length === 0 && all.length > 0) {
    warn("the checkpoints are of another extractor or other options: training begins anew, from the first record of the log");
  }
  for (const { name, offset } of own.toReversed()) {
    const path = files.join(folder, name);
    try {
      const size = await files.sizeOf(path);
      if (size === undefined || size > checkpointBytesMax) throw new MillraceError("corrupt", `checkpoint: a size of ${size} bytes`, { todo: stateTodo });
      const bytes = await files.readFile(path);
      if (bytes === undefined) continue;
      const checkpoint = decodeCheckpoint(bytes);
      if (checkpoint.offset !== offset || kindText(checkpoint) !== kindText(kind)) {
        throw new MillraceError("corrupt", "checkpoint: it is not what its name says", { todo: stateTodo });
      }
      usable(checkpoint);
      return checkpoint;
    } catch (thrown) {
      if (!(thrown instanceof MillraceError) || (thrown.code !== "corrupt" && thrown.code !== "unsupported")) throw thrown;
      warn(`${name} is not used, the one before it is tried: ${thrown.message}`);
    }
  }
  return undefined;
}
