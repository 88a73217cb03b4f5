// A run that stays on disk: its index in memory, one read for a row.
// Why one read: the index says the only unit of blocks that may hold a key, and tags refuse nearly every absent one (run-index.ts). Rows of one batch that lie in the
// same unit share its read.
// Invariants: 1. a block is used only after its checksum agreed  2. the file is opened once and read by position, so any number of look-ups may be under way.
// Cost: index, separators and checksums in memory, some 7 bytes a key; a read of 4 KiB a row. Limits: `readsAtOnce` reads of one look-up.

import { MillraceError } from "#base/errors";
import { blockBytes } from "#kernel/entry-layout";
import { compareBytes, endOfBlock, EntryView } from "#kernel/entry-record";
import type { KeyBatch } from "#kernel/key-batch";
import type { MemoryLease, MemoryPool } from "#kernel/memory-pool";
import { readRunHeader, runHeaderBytes } from "#kernel/run-format";
import { absentBlock, findInUnit, RunIndex, runIndexBytes } from "#kernel/run-index";
import type { Files, OpenFile } from "#platform/files";
import type { RunToLoad } from "./loaded-run.ts";
import { leaseForRun } from "./loaded-run.ts";

const readsAtOnce = 32;
/** Blocks read at once by a scan that goes on. */
const scanBlocks = 16;

/** What a look-up found: the unit's bytes and the record in them. */
export interface DiskFound {
  readonly entry: EntryView;
}

export interface DiskCounts {
  reads: number;
  readBytes: number;
}

export class DiskRun {
  readonly path: string;
  readonly index: RunIndex;
  readonly #file: OpenFile;
  readonly #lease: MemoryLease;
  readonly counts: DiskCounts = { reads: 0, readBytes: 0 };

  private constructor(path: string, file: OpenFile, lease: MemoryLease, index: RunIndex) {
    this.path = path;
    this.#file = file;
    this.#lease = lease;
    this.index = index;
  }

  /** Opens the file, reads and verifies its index. Throws `corrupt` when it is missing, of another size or damaged. */
  static async open(files: Files, pool: MemoryPool, owner: string, run: RunToLoad): Promise<DiskRun> {
    const bad = (why: string, cause?: unknown): MillraceError =>
      new MillraceError("corrupt", `run file ${run.path} ${why}`, { cause, todo: "take another copy of the file, or build it again" });
    const file = await files.open(run.path, "read");
    if (file === undefined) throw bad("is missing");
    let lease: MemoryLease | undefined;
    try {
      const size = await file.size();
      if (size !== run.bytes) throw bad(`has ${size} bytes instead of ${run.bytes}`);
      const head = new Uint8Array(runHeaderBytes);
      if ((await file.read(head, 0)) !== head.length) throw bad("is shorter than a header");
      const header = readRunHeader(head, 0, `run file ${run.path}`);
      if (header.fileBytes !== size) throw bad(`has ${size} bytes, its header says ${header.fileBytes}`);
      const leased = leaseForRun(pool, owner, runIndexBytes(header));
      lease = leased.lease;
      const { memory } = lease;
      memory.bytes.set(head, leased.at);
      const tail = memory.bytes.subarray(leased.at + runHeaderBytes, leased.at + runIndexBytes(header));
      if ((await file.read(tail, header.tableFrom)) !== tail.length) throw bad("ends inside its index");
      const index = RunIndex.attach(memory, leased.at);
      index.verify();
      return new DiskRun(run.path, file, lease, index);
    } catch (thrown) {
      lease?.release();
      await file.close();
      throw thrown;
    }
  }

  /**
   * Looks up the keys for which `wanted(i)`; calls `found(i, entry)` for each present one. The entry is a view that is set again for the next.
   * Throws `corrupt` for a damaged block, `unavailable` when the disk fails.
   */
  async lookUp(keys: KeyBatch, wanted: (i: number) => boolean, found: (i: number, entry: EntryView) => void): Promise<void> {
    const { index } = this;
    const blocks = new Uint32Array(keys.count);
    index.probe(keys, blocks);
    const byUnit = new Map<number, number[]>();
    for (let i = 0; i < keys.count; i++) {
      const block = blocks[i]!;
      if (block === absentBlock || !wanted(i)) continue;
      const others = byUnit.get(block);
      if (others === undefined) byUnit.set(block, [i]);
      else others.push(i);
    }
    // In the order of the file.
    const units = [...byUnit.keys()].sort((a, b) => a - b);
    // The batch may be filled again while reads are under way.
    const { offsets } = keys;
    const copies = units.map((unit) => byUnit.get(unit)!.map((i) => keys.bytes.slice(offsets[i], offsets[i + 1])));
    const entry = new EntryView();
    let next = 0;
    const reader = async (): Promise<void> => {
      while (next < units.length) {
        const at = next++;
        const unit = units[at]!;
        const bytes = await this.readUnits(unit, index.unitBlocks(unit));
        for (const [n, i] of byUnit.get(unit)!.entries()) if (findInUnit(bytes, copies[at]![n]!, entry)) found(i, entry);
      }
    };
    await Promise.all(Array.from({ length: Math.min(readsAtOnce, units.length) }, reader));
  }

  /** Blocks from `block` on, checked. */
  async readUnits(block: number, count: number): Promise<Uint8Array> {
    const bytes = new Uint8Array(count * blockBytes);
    this.counts.reads++;
    this.counts.readBytes += bytes.length;
    const got = await this.#file.read(bytes, (block + 1) * blockBytes);
    if (got !== bytes.length) throw new MillraceError("corrupt", `run file ${this.path} ends inside block ${block}`, { todo: "take another copy of the file" });
    this.index.check(block, bytes, `run file ${this.path}`);
    return bytes;
  }

  /** A walk in key order over the entries from `from` on, or backwards over those before `to`. */
  walk(from: Uint8Array, to: Uint8Array | undefined, reverse: boolean): DiskWalk {
    return new DiskWalk(this, from, to, reverse);
  }

  async close(): Promise<void> {
    this.#lease.release();
    await this.#file.close();
  }
}

/** Stands on one entry after another; `entry` is valid until the next `advance`. */
export class DiskWalk {
  readonly entry = new EntryView();
  valid = false;
  readonly #run: DiskRun;
  readonly #reverse: boolean;
  readonly #from: Uint8Array;
  readonly #to: Uint8Array | undefined;
  #bytes = new Uint8Array(0);
  /** Records of the blocks at hand, ascending. */
  #places: number[] = [];
  #place = 0;
  /** Forwards: the next block to read. Backwards: the end of the next blocks. */
  #block: number;

  constructor(run: DiskRun, from: Uint8Array, to: Uint8Array | undefined, reverse: boolean) {
    const { dataBlocks } = run.index;
    this.#run = run;
    this.#reverse = reverse;
    this.#from = from;
    this.#to = to;
    if (dataBlocks === 0) this.#block = 0;
    else if (!reverse) this.#block = run.index.seek(from);
    else {
      // The unit that holds `to` may begin with smaller keys.
      const unit = to === undefined ? dataBlocks : run.index.seek(to);
      this.#block = to === undefined ? dataBlocks : unit + run.index.unitBlocks(unit);
    }
  }

  /** To the next entry in the walk's direction; `valid` is false behind the last. */
  async advance(): Promise<void> {
    for (;;) {
      if (this.#reverse ? this.#place > 0 : this.#place < this.#places.length) {
        const at = this.#reverse ? this.#places[--this.#place]! : this.#places[this.#place++]!;
        this.entry.readIn(this.#bytes, at, at - (at % blockBytes), this.#bytes.length);
        const { keyAt, keyEnd } = this.entry;
        const isBefore = compareBytes(this.#bytes, keyAt, keyEnd, this.#from, 0, this.#from.length) < 0;
        const isBehind = this.#to !== undefined && compareBytes(this.#bytes, keyAt, keyEnd, this.#to, 0, this.#to.length) >= 0;
        if (this.#reverse ? isBehind : isBefore) continue;
        this.valid = !isBefore && !isBehind;
        return;
      }
      if (!(await this.#fill())) {
        this.valid = false;
        return;
      }
    }
  }

  async #fill(): Promise<boolean> {
    const { index } = this.#run;
    const { dataBlocks } = index;
    let first: number;
    let end: number;
    if (this.#reverse) {
      if (this.#block <= 0) return false;
      end = this.#block;
      first = index.unitStart(Math.max(0, end - scanBlocks));
      this.#block = first;
    } else {
      first = this.#block;
      if (first >= dataBlocks) return false;
      end = Math.min(dataBlocks, first + scanBlocks);
      // Whole units.
      if (end < dataBlocks) {
        const last = index.unitStart(end - 1);
        end = last + index.unitBlocks(last);
      }
      this.#block = end;
    }
    this.#bytes = new Uint8Array(await this.#run.readUnits(first, end - first));
    this.#places = [];
    const view = new EntryView();
    for (let at = 0; at < this.#bytes.length;) {
      if (this.#bytes[at] === endOfBlock) {
        at = Math.ceil((at + 1) / blockBytes) * blockBytes;
        continue;
      }
      if (!view.readIn(this.#bytes, at, at - (at % blockBytes), this.#bytes.length)) {
        throw new MillraceError("corrupt", `run file ${this.#run.path} holds no record at byte ${at} of block ${first}`, { todo: "build it again" });
      }
      this.#places.push(at);
      at = view.next;
    }
    this.#place = this.#reverse ? this.#places.length : 0;
    return true;
  }
}
