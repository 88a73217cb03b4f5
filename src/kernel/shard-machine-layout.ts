// The shape of a factorisation machine over a parameter shard and its bytes in a kernel memory. Layout: kernels/shard-factorisation.ts.
// Why here and not with the machine's face: the kernels' warm-up makes one too, and it stands below src/models.
// Cost: beside the shard 4 (factors + 1) bytes a row of it (adagrad), 8 (rowwise) or 0, and 128 bytes. Memory is touched as rows come.
// Limits: those of parameter-shard-layout.ts.

import { MillraceError } from "#base/errors";
import { roundUp } from "./kernel-memory.ts";
import { type ParameterShardShape, rowBytesOf, shardHeaderBytes } from "./parameter-shard-layout.ts";

/** In the order of their codes in the header. */
const optimizers = ["sgd", "adagrad", "rowwise-adagrad"] as const;
type Optimizer = (typeof optimizers)[number];

export interface ShardMachineShape {
  /** A multiple of 4, 4 to 64. A row is so many numbers v, then w. */
  readonly factors: number;
  /** Live rows that it keeps; those written longest ago leave for new ones. */
  readonly capacityRows: number;
  /** Of the initial values and of the index; 64 bits. */
  readonly seed: bigint;
  /** Factors begin uniformly in [-initialScale, initialScale). */
  readonly initialScale: number;
  readonly optimizer: Optimizer;
  /** Step size. */
  readonly rate: { readonly linear: number; readonly factors: number };
  /** Weight decay, added to the gradient before the accumulator (coupled), on the rows of a step only. */
  readonly l2: { readonly linear: number; readonly factors: number };
  /** First value of every accumulator. */
  readonly initialAccumulator: number;
}

export const shardMachineLimits = { factorsMin: 4, factorsMax: 64, rowSlotsMax: 1_024, capacityRowsMax: 2 ** 25, numberMax: 1e6 } as const;

/** "FMS1" */
export const shardMachineMagic = 0x3153_4d46;
export const shardMachineHeaderBytes = 128;

/** Which u32 of the header holds what. */
export const machineWord = {
  shard: 1,
  states: 2,
  stateBytes: 3,
  optimizer: 4,
  initialAccumulator: 5,
  rateFactors: 6,
  rateLinear: 7,
  l2Factors: 8,
  l2Linear: 9,
  liveMax: 10,
  atOnce: 11,
  skipped: 12,
  pace: 13,
} as const;

/** Working space of the calls, bytes. */
export const shardMachineScratch = {
  /** What all take, three slots beyond the last among it. */
  baseBytes: 2_048 + 3 * 32,
  /** Slots that the reading calls handle at a time, or those of one longer row. */
  groupSlots: 128,
  /** Reading: of a slot. */
  readSlotBytes: 32,
  /** Learning: of a slot of the longest row. */
  learnSlotBytes: (factors: number): number => 32 + 4 * factors + 16,
  /** Learning takes at least so much: 64 rows that get their versions at a time, their keys. */
  stampBytes: 2_048 + 64 * (32 + 8),
} as const;

/** Bits of the place of a row's state that stand behind the point. */
const paceBits = 37;
/** Kernels read a little past the end of a state. */
const tailBytes = 128;

/** Of the optimizer for one row. */
export function stateBytesOf(optimizer: Optimizer, factors: number): number {
  return optimizer === "adagrad" ? 4 * (factors + 1) : optimizer === "rowwise-adagrad" ? 8 : 0;
}

function refuse(what: string, todo: string): never {
  throw new MillraceError("invalid", `a factorisation machine of ${what}`, { todo });
}

function check(shape: ShardMachineShape): void {
  const { factors, capacityRows, optimizer, initialScale, initialAccumulator, rate, l2, seed } = shape;
  const { factorsMin, factorsMax, capacityRowsMax, numberMax } = shardMachineLimits;
  if (!Number.isInteger(factors) || factors < factorsMin || factors > factorsMax || factors % 4 !== 0) {
    refuse(`${factors} factors`, `use a multiple of 4 from ${factorsMin} to ${factorsMax}`);
  }
  if (!Number.isInteger(capacityRows) || capacityRows < 1 || capacityRows > capacityRowsMax) refuse(`${capacityRows} rows`, `use 1 to ${capacityRowsMax}`);
  if (seed < 0n || seed >= 1n << 64n) refuse("a seed outside 64 bits", "use 0 to 2^64 - 1");
  if (!optimizers.includes(optimizer)) refuse(`the optimizer ${String(optimizer)}`, `use one of ${optimizers.join(", ")}`);
  for (const [name, value] of Object.entries({
    initialScale,
    initialAccumulator,
    rateLinear: rate.linear,
    rateFactors: rate.factors,
    l2Linear: l2.linear,
    l2Factors: l2.factors,
  })) {
    if (!(value >= 0 && value <= numberMax)) refuse(`${name} ${value}`, `use a number from 0 to ${numberMax}`);
  }
}

/** Buckets that versions are counted in and that eviction takes its share from: the same for every capacity, so that a checkpoint fits a machine of another one. */
const buckets = 1_024;

/**
 * The shard that has room for all rows that may live, those of the sample that makes them too many, and those that wait until readers have left. Throws `invalid` for a
 * shape that cannot be.
 */
export function shardOfMachine(shape: ShardMachineShape): ParameterShardShape {
  check(shape);
  const { factors, capacityRows, seed, initialScale } = shape;
  const dim = factors + 1;
  const rows = capacityRows + Math.ceil(capacityRows / 64) + 2 * shardMachineLimits.rowSlotsMax;
  // 8 bytes a row of index; a partition that is built anew needs its old place and its new one.
  const index = Math.ceil(rows * 8 * 1.25) + 64 * 1_024;
  const bytes = roundUp(shardHeaderBytes + 16 * 1_024 + 64 * buckets + 32 * 1_024 + index + Math.ceil(rows * rowBytesOf(dim) * 1.01), 64);
  const most = 2 ** 32 - 2 ** 16;
  if (bytes > most) refuse(`${capacityRows} rows, ${bytes} bytes`, `use fewer rows: at most ${most} bytes`);
  return { dim, buckets, initial: { seed, factors, initialScale }, bytes };
}

function statesBytes(shape: ShardMachineShape, shard: ParameterShardShape): number {
  const places = Math.ceil((shard.bytes * paceOf(shard.dim)) / 2 ** paceBits) + 1;
  return roundUp(places * stateBytesOf(shape.optimizer, shape.factors) + tailBytes, 64);
}

function paceOf(dim: number): number {
  return Math.ceil(2 ** paceBits / rowBytesOf(dim));
}

/** Bytes of the header and the states: what a machine takes beside its shard. */
export function shardMachineBytes(shape: ShardMachineShape): number {
  return shardMachineHeaderBytes + statesBytes(shape, shardOfMachine(shape));
}

/** Makes `shardMachineBytes` bytes at `at` (64-aligned) a machine over the empty shard at `shardAt`. `atOnce`: evicted rows leave without a tombstone. */
export function formatShardMachine(words: Uint32Array, at: number, shape: ShardMachineShape, shardAt: number, atOnce: boolean): void {
  const head = at / 4;
  const { dim } = shardOfMachine(shape);
  const real = new Float32Array(1);
  const bits = new Uint32Array(real.buffer);
  const bitsOf = (value: number): number => {
    real[0] = value;
    return bits[0]!;
  };
  words.fill(0, head, head + shardMachineHeaderBytes / 4);
  const word = machineWord;
  words[head + word.shard] = shardAt;
  words[head + word.states] = at + shardMachineHeaderBytes;
  words[head + word.stateBytes] = stateBytesOf(shape.optimizer, shape.factors);
  words[head + word.optimizer] = optimizers.indexOf(shape.optimizer);
  words[head + word.initialAccumulator] = bitsOf(shape.initialAccumulator);
  words[head + word.rateFactors] = bitsOf(shape.rate.factors);
  words[head + word.rateLinear] = bitsOf(shape.rate.linear);
  words[head + word.l2Factors] = bitsOf(shape.l2.factors);
  words[head + word.l2Linear] = bitsOf(shape.l2.linear);
  words[head + word.liveMax] = shape.capacityRows;
  words[head + word.atOnce] = atOnce ? 1 : 0;
  words[head + word.pace] = paceOf(dim);
  // Last: whoever attaches looks for it.
  Atomics.store(words, head, shardMachineMagic);
}

/** Address of the state of the row at address `row`, as the kernels find it. */
export function stateAt(words: Uint32Array, machine: number, row: number): number {
  const head = machine / 4;
  const from = row - 20 - words[head + machineWord.shard]!;
  const pace = words[head + machineWord.pace]!;
  // from x pace / 2^37 in two halves, each exact.
  const place = Math.floor(((from >>> 16) * pace + Math.floor(((from & 0xffff) * pace) / 2 ** 16)) / 2 ** (paceBits - 16));
  return words[head + machineWord.states]! + place * words[head + machineWord.stateBytes]!;
}
