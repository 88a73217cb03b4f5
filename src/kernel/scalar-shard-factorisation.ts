// The scalar twin of kernels/shard-factorisation.ts: the same calls over the same bytes.
// Invariants: 1. the same bits and the same places as the binaries  2. rows are written and read by the same protocols, so threads of different variants work on one machine.
// Cost: some 8x the SIMD kernels. Concurrency: as theirs: one writing thread, any number of readers.

import type { ShardMachineCalls } from "./kernel-calls.ts";
import { shardWord } from "./parameter-shard-layout.ts";
import { bounded, ScalarSums, slopeOf, type StepPart, stepNumbers } from "./scalar-factors.ts";
import { scalarShard, stateFlag } from "./scalar-parameter-shard.ts";
import { machineWord as word, stateAt } from "./shard-machine-layout.ts";
import type { WasmMemory } from "./web-assembly.ts";

const { fround } = Math;
const rowwise = 2;
const slotsFrom = 2_048;
const slotWords = 8;
/** Words of a row, from its seq. */
const flagsOfRow = 1;
const valuesOfRow = 4;

export function bindScalarShardMachine(memory: WasmMemory): ShardMachineCalls {
  const { buffer } = memory;
  const u32 = new Uint32Array(buffer);
  const f32 = new Float32Array(buffer);
  const shard = scalarShard(memory);
  const { calls } = shard;
  const sums = new ScalarSums();
  const words = new Uint32Array(2);
  const spare = new Float32Array(256);

  // ---- the machine opened last ----

  let head = 0;
  let shardHead = 0;
  let factors = 0;
  let width = 0;

  function open(machine: number): void {
    head = machine / 4;
    const at = u32[head + word.shard]!;
    shard.open(at);
    shardHead = at / 4;
    factors = u32[shardHead + shardWord.factors]!;
    width = 4 * Math.ceil((factors + 1) / 4);
  }

  /** Words of a key and its row (0: none). */
  function rowOf(key: number): number {
    shard.wordsOf(key, words);
    return shard.find(u32[key]!, u32[key + 1]!, words[0]!, words[1]!);
  }

  /** Sums each row of slots and hands it over. */
  function readRows(
    machine: number,
    start: number,
    offsets: number,
    linearEnds: number,
    keys: number,
    weights: number,
    rows: number,
    reader: number,
    scratch: number,
    put: (row: number) => void,
  ): void {
    open(machine);
    const place = scratch / 4 + 4;
    for (let r = 0; r < rows; r++) {
      sums.begin(factors, start === 0 ? undefined : f32.subarray(start / 4, start / 4 + factors + 8));
      const linearEnd = u32[linearEnds / 4 + r]!;
      const end = u32[offsets / 4 + r + 1]!;
      shard.enter(reader >>> 0);
      for (let i = u32[offsets / 4 + r]!; i < end; i++) {
        const row = rowOf(keys / 4 + 2 * i);
        const there = row !== 0 && shard.copySteady(row, place, scratch / 4);
        if (!there) shard.initial(words[0]!, words[1]!, f32, place);
        const x = f32[weights / 4 + i]!;
        if (i >= linearEnd) sums.addSlot(f32, place, x);
        else if (there) sums.addLinear(x, f32[place + factors]!);
      }
      shard.leave(reader >>> 0);
      put(r);
    }
  }

  /** New values of one slot's row, its version and state, to the values of slot `i` of the sample. */
  function stepSlot(key: number, slots: number, i: number, values: number, x: number, g: number, linear: boolean, seconds: number, scratchWord: number): void {
    const low = u32[key]!;
    const high = u32[key + 1]!;
    const slot = slots + slotWords * i;
    const bucket = shard.bucketFor(low, high);
    let row = rowOf(key);
    u32[slot] = 0;
    if (!shard.nextVersion(bucket)) {
      shard.raise(shardWord.notLed);
      return;
    }
    let fresh = false;
    if (row === 0) {
      row = shard.makeRow(words[0]!, words[1]!, low, high, scratchWord);
      if (row === 0) {
        shard.raise(shardWord.refused);
        return;
      }
      fresh = true;
      shard.countLive(bucket, 1);
    }
    const flags = u32[row + flagsOfRow]!;
    let weights: Float32Array = f32;
    let base = row + valuesOfRow;
    const buried = shard.isTombstone(row);
    if (buried) {
      shard.initial(words[0]!, words[1]!, spare, 0);
      weights = spare;
      base = 0;
    }
    const state = stateAt(u32, 4 * head, 4 * row) / 4;
    if ((flags & stateFlag) === 0) f32.fill(f32[head + word.initialAccumulator]!, state, state + u32[head + word.stateBytes]! / 4);
    let value = values + width * i;
    const again = (flags & 0xff00) !== 0;
    if (again) {
      let earlier = 0;
      while (u32[slots + slotWords * earlier] !== 4 * row) earlier++;
      value = values + width * earlier;
    } else {
      if (!fresh && buried) shard.unbury(bucket, row);
      u32[row + flagsOfRow] = flags | stateFlag | 0x100;
      u32[slot] = 4 * row;
    }
    const optimizer = u32[head + word.optimizer]!;
    const slope = fround(g * x);
    if (linear) for (let j = 0; j < factors; j++) f32[value + j] = weights[base + j]!;
    else {
      sums.gradient(weights, base, x, slope, f32, value);
      stepNumbers(part(optimizer, word.rateFactors, word.l2Factors, factors), factors, weights, base, state, f32, value);
    }
    f32[value + factors] = bounded(slope);
    const second = state + (optimizer === rowwise ? 1 : factors);
    stepNumbers(part(optimizer, word.rateLinear, word.l2Linear, 1), 1, weights, base + factors, second, f32, value + factors);
    if (again) return;
    shard.countWrite(row, seconds);
    shard.stamp(bucket, row);
  }

  const part = (optimizer: number, rate: number, l2: number, size: number): StepPart => ({ optimizer, rate: f32[head + rate]!, l2: f32[head + l2]!, size });

  return {
    shardLearn(machine, offsets, linearEnds, keys, weights, rows, labels, importance, shifts, logits, touched, scratch) {
      open(machine);
      const liveMax = u32[head + word.liveMax]!;
      const slots = (scratch + slotsFrom) / 4;
      for (let r = 0; r < rows; r++) {
        const first = u32[offsets / 4 + r]!;
        const linearEnd = u32[linearEnds / 4 + r]!;
        const end = u32[offsets / 4 + r + 1]!;
        for (let taken = 0; taken <= end - first; taken += 64) shard.reclaim();
        sums.begin(factors);
        for (let i = first; i < end; i++) {
          const row = rowOf(keys / 4 + 2 * i);
          const there = row !== 0 && !shard.isTombstone(row);
          const x = f32[weights / 4 + i]!;
          if (i < linearEnd) {
            if (there) sums.addLinear(x, f32[row + valuesOfRow + factors]!);
          } else if (there) sums.addSlot(f32, row + valuesOfRow, x);
          else {
            shard.initial(words[0]!, words[1]!, spare, 0);
            sums.addSlot(spare, 0, x);
          }
        }
        const logit = sums.finish();
        f32[logits / 4 + r] = logit;
        const g = slopeOf(logit, f32[shifts / 4 + r]!, f32[labels / 4 + r]!, f32[importance / 4 + r]!);
        if (g === undefined) {
          u32[head + word.skipped]!++;
          continue;
        }
        const seconds = touched === 0 ? 0 : u32[touched / 4 + r]!;
        const values = slots + slotWords * 4 * Math.ceil((end - first) / 4);
        for (let i = first; i < end; i++) {
          stepSlot(keys / 4 + 2 * i, slots, i - first, values, f32[weights / 4 + i]!, g, i < linearEnd, seconds, scratch / 4);
        }
        shard.commit(slots, end - first, values);
        if (u32[shardHead + shardWord.live]! <= liveMax) continue;
        const target = liveMax - (liveMax >>> 6);
        calls.shardEvict(4 * shardHead, target, u32[shardHead + shardWord.live]! - target, u32[head + word.atOnce]!);
      }
    },

    shardLogits(machine, start, offsets, linearEnds, keys, weights, rows, logits, reader, scratch) {
      readRows(machine, start, offsets, linearEnds, keys, weights, rows, reader, scratch, (row) => {
        f32[logits / 4 + row] = sums.finish();
      });
    },

    shardSums(machine, offsets, linearEnds, keys, weights, rows, out, reader, scratch) {
      readRows(machine, 0, offsets, linearEnds, keys, weights, rows, reader, scratch, (row) => {
        f32.set(sums.sums.subarray(0, factors + 8), out / 4 + row * (factors + 8));
      });
    },

    shardVectors(machine, offsets, linearEnds, keys, weights, rows, out, reader, scratch) {
      readRows(machine, 0, offsets, linearEnds, keys, weights, rows, reader, scratch, (row) => {
        const at = out / 4 + row * (factors + 4);
        f32.set(sums.sums.subarray(0, factors), at);
        f32.fill(0, at + factors, at + factors + 4);
        f32[at + factors] = sums.finish();
      });
    },
  };
}
