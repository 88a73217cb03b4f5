// Calls the kernels of parameter shards and of machines over them until the engine has compiled them for speed: warm-up.ts says why.

import { roundUp } from "./kernel-memory.ts";
import type { Kernels } from "./kernels.ts";
import { bucketWord, formatParameterShard, shardScratch, shardWord } from "./parameter-shard-layout.ts";
import { formatShardMachine, shardMachineBytes, type ShardMachineShape, shardOfMachine } from "./shard-machine-layout.ts";
import { createWasmMemory, pageBytes } from "./web-assembly.ts";

const rows = 256;
const parameterRounds = 40;
/** Slots of a row in the calls of factorisation machines; of these the first are linear-only. */
const slotsPerRow = 16;
const linearOnly = 2;

export function warmUpParameters(kernels: Kernels): void {
  if (kernels.variant === "scalar") return;
  warmUpShard(kernels);
  warmUpMachine(kernels);
}

/** Rows of 16 numbers: half of the keys are written, all are read, some leave. */
function warmUpShard(kernels: Kernels): void {
  const bytes = 6 * pageBytes;
  const memory = createWasmMemory(bytes + 3 * pageBytes);
  const calls = kernels.bind(memory);
  const u32 = new Uint32Array(memory.buffer);
  const shard = pageBytes;
  const scratch = bytes + pageBytes;
  const columns = scratch + shardScratch.writeBytes(16);
  const out = scratch + pageBytes;
  formatParameterShard(u32, shard, { dim: 16, buckets: 4, initial: { seed: 1n, factors: 16, initialScale: 0.1 }, bytes });
  for (let bucket = 0; bucket < 4; bucket++) u32[u32[shard / 4 + shardWord.bucketsAt]! / 4 + 16 * bucket + bucketWord.leadEpoch] = 1;
  for (let i = 0; i < rows; i++) u32.set([i, i], columns / 4 + 2 * i);
  const last = 0xffff_ffff;
  for (let round = 0; round < parameterRounds; round++) {
    calls.shardAssign(shard, columns, rows / 2, out, round, scratch);
    calls.shardAdd(shard, columns, rows / 2, out, round, scratch);
    calls.shardPull(shard, columns, rows, out, 0, 0, scratch);
    calls.narrowHalves(out, 16 * rows, out + 16 * 1_024);
    calls.narrowBytes(out, rows, 16, scratch, out + 16 * 1_024);
    calls.shardChanges(shard, round % 4, 0, 0, last, last, 64, out);
    calls.shardJoin(shard, out, 64, scratch);
    calls.shardDelete(shard, columns, 8, scratch);
    calls.shardCollect(shard, round % 4, last, last, 64, 0);
    calls.shardEvict(shard, rows / 4, 16, round % 2);
    calls.shardExpire(shard, round, 4, 16, 0);
  }
}

/** A machine of the usual shape over a shard: keys are the row numbers, half of the rows leave in each round. */
function warmUpMachine(kernels: Kernels): void {
  const shape: ShardMachineShape = {
    factors: 16,
    capacityRows: rows,
    seed: 1n,
    initialScale: 0.1,
    optimizer: "adagrad",
    rate: { linear: 0.1, factors: 0.1 },
    l2: { linear: 0, factors: 0 },
    initialAccumulator: 0.1,
  };
  const shardShape = shardOfMachine(shape);
  const shard = pageBytes;
  const machine = shard + roundUp(shardShape.bytes, 64);
  const keys = roundUp(machine + shardMachineBytes(shape), pageBytes);
  const weights = keys + rows * 8;
  const offsets = weights + rows * 4;
  const linearEnds = offsets + 1_024;
  const numbers = linearEnds + 1_024;
  const out = keys + pageBytes;
  const scratch = out + pageBytes;
  const memory = createWasmMemory(scratch + pageBytes);
  const calls = kernels.bind(memory);
  const u32 = new Uint32Array(memory.buffer);
  const f32 = new Float32Array(memory.buffer);
  formatParameterShard(u32, shard, shardShape);
  formatShardMachine(u32, machine, shape, shard, true);
  for (let bucket = 0; bucket < shardShape.buckets!; bucket++) u32[u32[shard / 4 + shardWord.bucketsAt]! / 4 + 16 * bucket + bucketWord.leadEpoch] = 1;
  f32.fill(1, weights / 4, offsets / 4);
  f32.fill(1, numbers / 4, numbers / 4 + rows);
  const samples = rows / slotsPerRow;
  for (let row = 0; row <= samples; row++) {
    u32[offsets / 4 + row] = row * slotsPerRow;
    u32[linearEnds / 4 + row] = row * slotsPerRow + linearOnly;
  }
  for (let round = 0; round < parameterRounds; round++) {
    // Learning uses the keys up.
    for (let i = 0; i < rows; i++) u32.set([i, i], keys / 4 + 2 * i);
    calls.shardLogits(machine, 0, offsets, linearEnds, keys, weights, samples, out, 0, scratch);
    calls.shardSums(machine, offsets, linearEnds, keys, weights, samples, out, 0, scratch);
    calls.shardVectors(machine, offsets, linearEnds, keys, weights, samples, out, 0, scratch);
    calls.shardLearn(machine, offsets, linearEnds, keys, weights, samples, numbers, numbers, numbers, out, 0, scratch);
    calls.shardEvict(shard, rows / 2, rows, 1);
  }
}
