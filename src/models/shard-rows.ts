// The parameters of a factorisation machine in a shard of the parameter server: rows with versions that a SyncNode can hand on, the optimizer's state apart and here alone.
// Kernels and layout: kernels/shard-factorisation.ts.
// Invariants: 1. those of ParameterShard for the rows  2. what it knows is a function of its samples: when more rows live than it may have, those written longest ago leave
//             right after the sample that made them too many  3. state goes with its row: a row that left and comes again begins anew.
// Concurrency: one thread writes (the trainer); any thread reads, each with the number of its lane.
// Limits: shardMachineLimits.

import { MillraceError } from "#base/errors";
import type { KernelMemory } from "#kernel/kernel-memory";
import { checkHeader } from "#kernel/memory-header";
import { bucketBytes, bucketWord, shardRowWord, shardWord } from "#kernel/parameter-shard-layout";
import {
  formatShardMachine,
  machineWord,
  shardMachineBytes,
  shardMachineHeaderBytes,
  shardMachineMagic,
  shardMachineScratch,
  type ShardMachineShape,
  shardOfMachine,
  stateAt,
} from "#kernel/shard-machine-layout";
import { ParameterShard, ShardReader } from "#params/parameter-shard";
import { EntryBatch } from "#params/sync-table";
import { type MachineCheckpointHead, readMachineCheckpoint, type RecordWords, rowRecordHeadWords, writeMachineCheckpoint } from "./machine-checkpoint.ts";

const rowFlag = { tombstone: 1, state: 2 } as const;
/** Words of a bucket that a checkpoint keeps. */
const bucketRecord = [
  bucketWord.newestHigh,
  bucketWord.newestLow,
  bucketWord.collectedHigh,
  bucketWord.collectedLow,
  bucketWord.left,
  bucketWord.leadEpoch,
  bucketWord.leadNode,
] as const;
/** Rows joined at a time. */
const joinRows = 1_024;

/** Rows of slots in the lane, by address. Slots as in kernel-calls.ts. */
export interface SlotPlaces {
  readonly offsets: number;
  readonly linearEnds: number;
  readonly keys: number;
  readonly weights: number;
  readonly rows: number;
  /** `scratchBytes` bytes, 16-aligned. */
  readonly scratch: number;
}

export class ShardRows {
  /** Other threads attach with it. */
  readonly at: number;
  readonly factors: number;
  /** Numbers of a row: factors v, then w. */
  readonly dims: number;
  readonly capacityRows: number;
  /** For whoever hands its changes on. The trainer's thread only. */
  readonly shard: ParameterShard;
  readonly #memory: KernelMemory;
  readonly #reader: ShardReader;

  private constructor(memory: KernelMemory, at: number) {
    this.#memory = memory;
    this.at = at;
    const shardAt = this.#word(machineWord.shard);
    this.shard = ParameterShard.takeOver(memory, shardAt);
    this.#reader = ShardReader.attach(memory, shardAt, memory.laneNumber);
    this.dims = this.shard.dim;
    this.factors = this.dims - 1;
    this.capacityRows = this.#word(machineWord.liveMax);
  }

  static bytesFor(shape: ShardMachineShape): number {
    return shardOfMachine(shape).bytes + shardMachineBytes(shape);
  }

  /** An untrained machine's rows. `followed`: evicted rows leave as tombstones, for others that follow. Throws `invalid` for its shape, `overloaded` when the memory is full. */
  static create(memory: KernelMemory, shape: ShardMachineShape, followed = false): ShardRows {
    const shard = ParameterShard.create(memory, shardOfMachine(shape));
    for (let bucket = 0; bucket < shard.buckets; bucket++) shard.lead(bucket, 1, 0);
    const at = memory.reserve(shardMachineBytes(shape));
    formatShardMachine(memory.u32, at, shape, shard.at, !followed);
    return new ShardRows(memory, at);
  }

  /** Those that another thread made at `at`. Throws `corrupt` when there are none. */
  static attach(memory: KernelMemory, at: number): ShardRows {
    checkHeader(memory, at, shardMachineHeaderBytes, shardMachineMagic, "factorisation machine", "a FactorisationMachine");
    return new ShardRows(memory, at);
  }

  #word(index: number): number {
    return Atomics.load(this.#memory.u32, this.at / 4 + index);
  }

  #shardWord(index: number): number {
    return Atomics.load(this.#memory.u32, this.shard.at / 4 + index);
  }

  /** Keys that have a row. */
  get rowCount(): number {
    return this.#shardWord(shardWord.live);
  }

  /** How often a key found no room, modulo 2^32. */
  get refused(): number {
    return this.#shardWord(shardWord.refused);
  }

  /** Steps that were not made because something was not finite. */
  get skipped(): number {
    return this.#word(machineWord.skipped);
  }

  /** Working space for rows of at most `longest` slots. */
  scratchBytes(longest: number, learns: boolean): number {
    const { baseBytes, groupSlots, readSlotBytes, learnSlotBytes, stampBytes } = shardMachineScratch;
    if (!learns) return baseBytes + readSlotBytes * Math.max(longest, groupSlots);
    return Math.max(stampBytes, baseBytes + longest * learnSlotBytes(this.factors));
  }

  /** Row by row the logit, then one step. `touched`: u32 seconds since 1970 a row. Writes over the keys. */
  learn(slots: SlotPlaces, labels: number, importance: number, shifts: number, logits: number, touched: number): void {
    const { offsets, linearEnds, keys, weights, rows, scratch } = slots;
    this.#memory.calls.shardLearn(this.at, offsets, linearEnds, keys, weights, rows, labels, importance, shifts, logits, touched, scratch);
  }

  /** Each begun with the sums at `start`; 0: with none. */
  logits({ offsets, linearEnds, keys, weights, rows, scratch }: SlotPlaces, start: number, logits: number): void {
    this.#memory.calls.shardLogits(this.at, start, offsets, linearEnds, keys, weights, rows, logits, this.#memory.laneNumber, scratch);
  }

  /** factors + 8 numbers a row. */
  sums({ offsets, linearEnds, keys, weights, rows, scratch }: SlotPlaces, out: number): void {
    this.#memory.calls.shardSums(this.at, offsets, linearEnds, keys, weights, rows, out, this.#memory.laneNumber, scratch);
  }

  /** factors + 4 numbers a row. */
  vectors({ offsets, linearEnds, keys, weights, rows, scratch }: SlotPlaces, out: number): void {
    this.#memory.calls.shardVectors(this.at, offsets, linearEnds, keys, weights, rows, out, this.#memory.laneNumber, scratch);
  }

  /** `dims` numbers a key; missing keys read as their initial values. Returns how many were missing. */
  pull(keys: Uint32Array, count: number, into: Float32Array): number {
    return this.#reader.pull(keys, count, into);
  }

  /** Sets rows, the optimizer's state stays. Returns how many keys were refused. */
  assign(keys: Uint32Array, count: number, values: Float32Array, touchedS = 0): number {
    return this.shard.assign(keys, count, values, touchedS);
  }

  /** Visits all rows, tombstones too, bucket by bucket in the order of their versions: the word of each row's seq. */
  #eachRow(visit: (row: number) => void): void {
    const { u32 } = this.#memory;
    let bucket = this.#shardWord(shardWord.bucketsAt) / 4;
    for (let left = this.shard.buckets; left > 0; left--, bucket += bucketBytes / 4) {
      for (let row = u32[bucket + bucketWord.head]! >>> 2; row !== 0; row = u32[row + shardRowWord.next]! >>> 2) visit(row);
    }
  }

  get #stateNumbers(): number {
    return this.#word(machineWord.stateBytes) / 4;
  }

  /** Word of a row's optimizer state. */
  #stateOf(row: number): number {
    return stateAt(this.#memory.u32, this.at, 4 * row) / 4;
  }

  /** Whether every number and accumulator is finite; reads everything. */
  finite(): boolean {
    const { u32, f32 } = this.#memory;
    const { dims } = this;
    const stateNumbers = this.#stateNumbers;
    // x - x is 0 for finite numbers alone, and so is the sum of such differences.
    let differences = 0;
    this.#eachRow((row) => {
      const flags = u32[row + shardRowWord.flags]!;
      if ((flags & rowFlag.tombstone) !== 0) return;
      for (let i = row + shardRowWord.values; i < row + shardRowWord.values + dims; i++) differences += f32[i]! - f32[i]!;
      if ((flags & rowFlag.state) === 0) return;
      const state = this.#stateOf(row);
      for (let i = state; i < state + stateNumbers; i++) differences += f32[i]! - f32[i]!;
    });
    return differences === 0;
  }

  /** What a checkpoint must agree on with the machine that reads it. */
  #shape(): Pick<MachineCheckpointHead, "dims" | "factors" | "optimizer" | "stateNumbers" | "seedLow" | "seedHigh" | "initialScaleBits" | "buckets"> {
    return {
      dims: this.dims,
      factors: this.factors,
      optimizer: this.#word(machineWord.optimizer),
      stateNumbers: this.#stateNumbers,
      seedLow: this.#shardWord(shardWord.seedLow),
      seedHigh: this.#shardWord(shardWord.seedHigh),
      initialScaleBits: this.#shardWord(shardWord.scale),
      buckets: this.shard.buckets,
    };
  }

  /** Everything with the optimizer's state, copied. */
  save(): Uint8Array[] {
    const { u32 } = this.#memory;
    const { dims } = this;
    const stateNumbers = this.#stateNumbers;
    const word = (index: number): number => this.#shardWord(index);
    const rows: number[] = [];
    this.#eachRow((row) => rows.push(row));
    const head = {
      ...this.#shape(),
      rows: rows.length,
      skipped: this.skipped,
      refused: word(shardWord.refused),
      evicted: word(shardWord.evicted),
      expired: word(shardWord.expired),
      evictHand: word(shardWord.evictHand),
      expireHand: word(shardWord.expireHand),
    };
    const buckets = word(shardWord.bucketsAt) / 4;
    return writeMachineCheckpoint(
      head,
      (record, at, bucket) => {
        const from = buckets + (bucketBytes / 4) * bucket;
        for (const [i, index] of bucketRecord.entries()) record[at + i] = u32[from + index]!;
      },
      (record, at, number) => {
        const row = rows[number]!;
        const flags = u32[row + shardRowWord.flags]!;
        record[at] = u32[row + shardRowWord.keyLow]!;
        record[at + 1] = u32[row + shardRowWord.keyHigh]!;
        record[at + 2] = u32[row + shardRowWord.versionHigh]!;
        record[at + 3] = u32[row + shardRowWord.versionLow]!;
        record[at + 4] = u32[row + shardRowWord.touched]!;
        record[at + 5] = flags;
        if ((flags & rowFlag.tombstone) !== 0) return;
        let to = at + rowRecordHeadWords;
        for (let i = 0; i < dims; i++) record[to++] = u32[row + shardRowWord.values + i]!;
        if ((flags & rowFlag.state) === 0) return;
        const state = this.#stateOf(row);
        for (let i = 0; i < stateNumbers; i++) record[to++] = u32[state + i]!;
      },
    );
  }

  /**
   * Rates, l2 and capacity stay this machine's own. Throws `corrupt` (damaged), `unsupported` (another version), `conflict` (of another shape), `overloaded` (more rows than this
   * machine keeps). Readers may go on; rows read as missing until they are back. Versions go on from the larger of both.
   */
  load(parts: readonly Uint8Array[]): void {
    const { head, buckets, rows } = readMachineCheckpoint(parts);
    for (const [name, value] of Object.entries(this.#shape())) {
      if (head[name as keyof typeof head] === value) continue;
      throw new MillraceError("conflict", `a machine checkpoint whose ${name} differs from the machine's`, {
        todo: "start with the configuration that wrote it, or without the checkpoint",
      });
    }
    let live = 0;
    let before = 0;
    let broken = false;
    const bucketAt = (words: Uint32Array, at: number): number => this.shard.bucketOf(words[at]!, words[at + 1]!);
    rows((words, at) => {
      if ((words[at + 5]! & rowFlag.tombstone) === 0) live++;
      const bucket = bucketAt(words, at);
      if (bucket < before) broken = true;
      before = bucket;
    });
    if (broken)
      throw new MillraceError("corrupt", "a machine checkpoint whose rows are not in the order of their buckets", { todo: "use an earlier checkpoint" });
    if (live > this.capacityRows) {
      throw new MillraceError("overloaded", `a checkpoint of ${live} rows for a machine of ${this.capacityRows}`, { todo: "raise capacityRows" });
    }
    this.#clear();
    this.#joinAll(head, rows);
    const { u32 } = this.#memory;
    const first = this.#shardWord(shardWord.bucketsAt) / 4;
    buckets((words, at, bucket) => {
      this.shard.resume(bucket, { high: words[at]!, low: words[at + 1]! }, { high: words[at + 2]!, low: words[at + 3]! }, words[at + 4]!);
      const to = first + (bucketBytes / 4) * bucket;
      // A machine that was given a later epoch since keeps it.
      if (u32[to + bucketWord.leadEpoch]! < words[at + 5]!) this.shard.lead(bucket, words[at + 5]!, words[at + 6]!);
    });
    const put = (index: number, value: number): void => {
      u32[this.shard.at / 4 + index] = value;
    };
    put(shardWord.refused, head.refused);
    put(shardWord.evicted, head.evicted);
    put(shardWord.expired, head.expired);
    put(shardWord.evictHand, head.evictHand);
    put(shardWord.expireHand, head.expireHand);
    u32[this.at / 4 + machineWord.skipped] = head.skipped;
  }

  /** No rows any more. */
  #clear(): void {
    const all = { high: 0xffff_ffff, low: 0xffff_ffff };
    for (let bucket = 0; bucket < this.shard.buckets; bucket++) this.shard.expire(bucket, all);
  }

  /** Joins the records and gives the rows what a join does not carry. */
  #joinAll(head: MachineCheckpointHead, rows: (visit: RecordWords) => void): void {
    const { dims } = this;
    const batch = new EntryBatch(dims);
    const bits = (): Uint32Array => new Uint32Array(batch.values.buffer, batch.values.byteOffset);
    batch.reserve(joinRows);
    const flush = (): void => {
      this.shard.join(batch, 0, batch.count);
      batch.count = 0;
    };
    rows((words, at) => {
      const to = batch.count++;
      batch.keys.set(words.subarray(at, at + 2), 2 * to);
      batch.versions.set(words.subarray(at + 2, at + 4), 2 * to);
      batch.touched[to] = words[at + 4]!;
      batch.flags[to] = words[at + 5]! & rowFlag.tombstone;
      bits().set(words.subarray(at + rowRecordHeadWords, at + rowRecordHeadWords + dims), to * dims);
      if (batch.count === joinRows) flush();
    });
    flush();
    const places: number[] = [];
    this.#eachRow((row) => places.push(row));
    const { u32 } = this.#memory;
    let wrong = places.length !== head.rows;
    rows((words, at, number) => {
      const row = places[number]!;
      if (wrong || u32[row + shardRowWord.keyLow] !== words[at] || u32[row + shardRowWord.keyHigh] !== words[at + 1]) {
        wrong = true;
        return;
      }
      const flags = words[at + 5]!;
      u32[row + shardRowWord.flags] = (flags & 0xffff_0000) | (flags & (rowFlag.tombstone | rowFlag.state));
      if ((flags & rowFlag.state) === 0) return;
      const state = this.#stateOf(row);
      const from = at + rowRecordHeadWords + dims;
      for (let i = 0; i < head.stateNumbers; i++) u32[state + i] = words[from + i]!;
    });
    if (!wrong) return;
    this.#clear();
    throw new MillraceError("corrupt", "a machine checkpoint that names a key twice, or not in the order of versions", { todo: "use an earlier checkpoint" });
  }
}
