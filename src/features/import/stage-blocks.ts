// Staged rows on their way to a file: one block in hand for each slice of the key hash, filled in one kernel memory, written one behind the other into ONE file.
// Why one file of blocks and not a file a slice: one sequential writer, one sync a checkpoint, and an interrupted import is cut back to a length.
//   block: u32 magic "MRSB"   u16 slice   u16 version 2   u32 payload bytes   u32 rows   u32 CRC32C of the payload   u32 CRC32C of the 20 bytes before
//          payload: entry records (docs/format/run-file.md), whole ones
// Invariants: 1. rows of one slice stand in the order in which they were staged  2. `take` moves no bytes that are staged: a full block waits until `flush`
// 3. after `checkpoint` resolves everything staged survives a power cut.
// Limits: slices * blockBytes of memory and as much again for full ones.

import { MillraceError } from "#base/errors";
import { crc32c } from "#base/crc32c";
import { crc32cOf } from "#kernel/checksum";
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
  /** The memory of all blocks; addresses of `take` count in it. */
  readonly memory: KernelMemory;
  readonly view: DataView;
  readonly #slices: number;
  readonly #blockBytes: number;
  readonly #from: number;
  readonly #file: OpenFile;
  /** Address of the block in hand of each slice, 0 = none; bytes and rows in it. */
  readonly #at: Float64Array;
  readonly #used: Uint32Array;
  readonly #rows: Uint32Array;
  readonly #free: number[] = [];
  /** Full blocks: slice, address, bytes, rows. */
  #full: { slice: number; at: number; bytes: number; rows: number }[] = [];
  #length: number;
  readonly written: StagedBlock[] = [];

  /** Goes on behind `length` bytes of the file. `scratchBytes` more are reserved at `scratchAt`. */
  constructor(options: { file: OpenFile; length: number; slices: number; blockBytes: number; scratchBytes: number }) {
    const { slices, blockBytes } = options;
    const blocks = 2 * slices + 1;
    this.memory = KernelMemory.create({ dataBytes: blocks * blockBytes + options.scratchBytes + 128 });
    this.view = new DataView(this.memory.bytes.buffer);
    this.#slices = slices;
    this.#blockBytes = blockBytes;
    this.#from = this.memory.reserve(blocks * blockBytes);
    this.scratchAt = this.memory.reserve(options.scratchBytes);
    for (let block = blocks - 1; block >= 0; block--) this.#free.push(this.#from + block * blockBytes);
    this.#file = options.file;
    this.#length = options.length;
    this.#at = new Float64Array(slices);
    this.#used = new Uint32Array(slices);
    this.#rows = new Uint32Array(slices);
  }

  readonly scratchAt: number;

  /** Largest record that fits. */
  get recordBytesMax(): number {
    return this.#blockBytes - stageBlockHeadBytes;
  }

  /** Address for a record of `bytes` in the slice; 0 when full blocks must be flushed first. */
  take(slice: number, bytes: number): number {
    let at = this.#at[slice]!;
    let used = this.#used[slice]!;
    if (at === 0 || used + bytes > this.#blockBytes) {
      const next = this.#free.pop();
      if (next === undefined) return 0;
      if (at !== 0) this.#full.push({ slice, at, bytes: used, rows: this.#rows[slice]! });
      at = next;
      used = stageBlockHeadBytes;
      this.#at[slice] = at;
      this.#rows[slice] = 0;
    }
    this.#used[slice] = used + bytes;
    this.#rows[slice] = this.#rows[slice]! + 1;
    return at + used;
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
      const { view } = this;
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
    for (let slice = 0; slice < this.#slices; slice++) {
      const at = this.#at[slice]!;
      if (at === 0) continue;
      this.#full.push({ slice, at, bytes: this.#used[slice]!, rows: this.#rows[slice]! });
      this.#at[slice] = 0;
      this.#used[slice] = 0;
    }
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
