// Staged rows on their way to a file: one block in hand for each slice of the key hash, filled in one kernel memory, written one behind the other into ONE file.
// Why one file of blocks and not a file a slice: one sequential writer, one sync a checkpoint, and an interrupted import is cut back to a length.
//   block: u32 magic "MRSB"   u16 slice   u16 version 2   u32 payload bytes   u32 rows   u32 CRC32C of the payload   u32 CRC32C of the 20 bytes before
//          payload: entry records (docs/format/run-file.md), whole ones
// The kernel fills the blocks in hand (kernels/stage-rows.ts) by a list of slices that lies in the memory, too.
// Invariants: 1. rows of one slice stand in the order in which they were staged  2. bytes that are staged do not move: a full block waits until `flush`
// 3. after `checkpoint` resolves everything staged survives a power cut.
// Limits: slices * blockBytes of memory and as much again for full ones.

import { MillraceError } from "#base/errors";
import { crc32c } from "#base/crc32c";
import { crc32cOf } from "#kernel/checksum";
import { sliceBytes, sliceWords } from "#kernel/entry-layout";
import { KernelMemory } from "#kernel/kernel-memory";
import type { OpenFile } from "#platform/files";

export const stageBlockHeadBytes = 24;
const magic = 0x4253524d;
const version = 2;

export interface StagedBlock {
  readonly slice: number;
  /** Of its head in the file. */
  readonly at: number;
  readonly bytes: number;
  readonly rows: number;
  readonly crc32c: number;
}

export class StageBlocks {
  /** The memory of all blocks. */
  readonly memory: KernelMemory;
  /** Address of the list of slices: block in hand (0 = none), bytes and rows in it (sliceWords). */
  readonly slicesAt: number;
  readonly scratchAt: number;
  readonly blockBytes: number;
  readonly #view: DataView;
  readonly #slices: number;
  readonly #file: OpenFile;
  readonly #free: number[] = [];
  /** Full blocks: slice, address, bytes, rows. */
  #full: { slice: number; at: number; bytes: number; rows: number }[] = [];
  #length: number;
  readonly written: StagedBlock[] = [];

  /** Goes on behind `length` bytes of the file. `scratchBytes` more are reserved at `scratchAt`. */
  constructor(options: { file: OpenFile; length: number; slices: number; blockBytes: number; scratchBytes: number }) {
    const { slices, blockBytes } = options;
    const blocks = 2 * slices + 1;
    this.memory = KernelMemory.create({ dataBytes: blocks * blockBytes + slices * sliceBytes + options.scratchBytes + 192 });
    this.#view = new DataView(this.memory.bytes.buffer);
    this.#slices = slices;
    this.blockBytes = blockBytes;
    const from = this.memory.reserve(blocks * blockBytes);
    this.slicesAt = this.memory.reserve(slices * sliceBytes);
    this.scratchAt = this.memory.reserve(options.scratchBytes);
    for (let block = blocks - 1; block >= 0; block--) this.#free.push(from + block * blockBytes);
    this.#file = options.file;
    this.#length = options.length;
  }

  /** Largest record that fits. */
  get recordBytesMax(): number {
    return this.blockBytes - stageBlockHeadBytes;
  }

  /** Gives the slice an empty block, the one in hand is full; false when full blocks must be flushed first. */
  advance(slice: number): boolean {
    const next = this.#free.pop();
    if (next === undefined) return false;
    this.#putAway(slice);
    const { u32 } = this.memory;
    const s = (this.slicesAt + slice * sliceBytes) / 4;
    u32[s + sliceWords.block] = next;
    u32[s + sliceWords.used] = stageBlockHeadBytes;
    u32[s + sliceWords.rows] = 0;
    return true;
  }

  /** The block in hand of a slice, if there is one, is full. */
  #putAway(slice: number): void {
    const { u32 } = this.memory;
    const s = (this.slicesAt + slice * sliceBytes) / 4;
    const at = u32[s + sliceWords.block]!;
    if (at === 0) return;
    this.#full.push({ slice, at, bytes: u32[s + sliceWords.used]!, rows: u32[s + sliceWords.rows]! });
    u32[s + sliceWords.block] = 0;
  }

  /** Blocks that are full and not yet written. */
  get full(): number {
    return this.#full.length;
  }

  /** Writes the full blocks. */
  async flush(): Promise<void> {
    if (this.#full.length === 0) return;
    const full = this.#full;
    this.#full = [];
    const parts: Uint8Array[] = [];
    let bytesAll = 0;
    for (const { slice, at, bytes, rows } of full) {
      const view = this.#view;
      const payload = bytes - stageBlockHeadBytes;
      const sum = crc32cOf(this.memory, at + stageBlockHeadBytes, payload);
      view.setUint32(at, magic, true);
      view.setUint16(at + 4, slice, true);
      view.setUint16(at + 6, version, true);
      view.setUint32(at + 8, payload, true);
      view.setUint32(at + 12, rows, true);
      view.setUint32(at + 16, sum, true);
      view.setUint32(at + 20, crc32c(this.memory.bytes, 0, at, at + 20), true);
      parts.push(this.memory.bytes.subarray(at, at + bytes));
      this.written.push({ slice, at: this.#length + bytesAll, bytes: payload, rows, crc32c: sum });
      bytesAll += bytes;
    }
    await this.#file.writeAll(parts, this.#length);
    this.#length += bytesAll;
    for (const { at } of full) this.#free.push(at);
  }

  /** Writes everything, syncs, and returns the length of the file. */
  async checkpoint(): Promise<number> {
    for (let slice = 0; slice < this.#slices; slice++) this.#putAway(slice);
    await this.flush();
    await this.#file.sync();
    return this.#length;
  }
}

/** The heads of all blocks before `length`. Throws `corrupt` when one is not whole. */
export async function readStagedBlocks(file: OpenFile, length: number, name: string): Promise<StagedBlock[]> {
  const blocks: StagedBlock[] = [];
  const head = new Uint8Array(stageBlockHeadBytes);
  const view = new DataView(head.buffer);
  for (let at = 0; at < length;) {
    const read = await file.read(head, at);
    const bytes = view.getUint32(8, true);
    const whole = read === stageBlockHeadBytes && view.getUint32(0, true) === magic && view.getUint16(6, true) === version;
    if (!whole || view.getUint32(20, true) !== crc32c(head, 0, 0, 20) || at + stageBlockHeadBytes + bytes > length) {
      throw new MillraceError("corrupt", `the staged rows in ${name} are damaged at byte ${at}`, { todo: "remove the work folder and start the import again" });
    }
    blocks.push({ slice: view.getUint16(4, true), at, bytes, rows: view.getUint32(12, true), crc32c: view.getUint32(16, true) });
    at += stageBlockHeadBytes + bytes;
  }
  return blocks;
}
