// The factorisation machine over a parameter shard: the rows are the shard's (versions, lists, digests, tombstones), the optimizer's state lies apart.
// Arithmetic and order of every sum: factors.ts. Rows, index, protocols of writing and reading: parameter-shard.ts, shard-index.ts, shard-lists.ts.
//
// A machine (128 bytes, 64-aligned; written by src/kernel/shard-machine-layout.ts): +0 u32 "FMS1"   +4 u32 address of its shard   +8 u32 address of the states
//   +12 u32 bytes of a state   +16 u32 optimizer   +20 f32 first accumulator   +24 f32 rate of the factors   +28 of the rest   +32 f32 l2 of the factors
//   +36 of the rest   +40 u32 live rows at most   +44 u32 1: evicted rows leave at once, without a tombstone   +48 u32 skipped   +52 u32 pace (below)
// Rows have dim = factors + 1 numbers: factors v, then w.
// Rows of slots: slots of row r = [offsets[r], linearEnds[r]) linear-only, [linearEnds[r], offsets[r + 1]) full; keys u64, weights f32.
// State of a row: AdaGrad f32[dim], row-wise AdaGrad f32[2] (factors, w), SGD nothing. It lies at the row's place: (address - shard) x pace >> 37
// with pace = ceil(2^37 / rowBytes), so rows that do not overlap have different places. A flag of the row says that its state stands; whatever makes the row a
// tombstone or gives its place away takes the flag, so a row that comes again begins with a first accumulator, wherever it lies.
//
// Learning goes by samples: all slots are found, summed, judged; then every row gets its new values in the lane; then all rows are marked, copied and unmarked together.
// Each write counts a version of its bucket at once; into rows, lists and digests they come once a call, the last of each row: nobody else looks at them meanwhile. A key that comes twice in a sample makes two steps from the same weights, of which the last stays, and one version.
// A sample that makes no step makes no row. When more rows live than the machine may have, those written longest ago leave after the sample that made them too
// many, down to 63 of 64: what a machine knows is a function of the samples alone, however they are cut into calls.
// Scratch: sums at 0, one row at `spareAt` (256 numbers at most), at `slotsAt` 32 bytes a slot (shard-index.ts; at +24 where its values stand, 0: none), behind them the new values of a sample.

import { adagrad, addLinear, addSlot, asLogits, asSums, asVectors, begin, epsilon, finish, gradientMax, put, rowwise, sigmoid, stepPart } from "./factors";
import { fence } from "./fence";
import { commit, copySteady, countWrite, initialValues, makeRow, raise, shardEvict, valueBytesOf } from "./parameter-shard";
import { copyNumbers } from "./row-numbers";
import {
  bucketMaskAt,
  bucketsAt,
  dimAt,
  enter,
  factorsAt,
  find,
  hashKeysTo,
  leave,
  liveAt,
  locate,
  mayLieFurther,
  nextAt,
  notLedAt,
  previousAt,
  reclaim,
  refusedAt,
  slotShift,
  tagWord,
  hashWord,
  valuesAt,
  writerPart,
} from "./shard-index";
import {
  bucketOf,
  countLive,
  countVersion,
  isTombstone,
  nextVersion,
  stampRows,
  stateFlag,
  tailAt,
  tombstoneFlag,
  unbury,
  versionGiven,
  waitFlag,
} from "./shard-lists";
import { mixFour } from "./word-mix";

export const shardWordAt: usize = 4;
const statesAt: usize = 8;
const stateBytesAt: usize = 12;
const optimizerAt: usize = 16;
const accumulatorAt: usize = 20;
const rateFactorsAt: usize = 24;
const rateRestAt: usize = 28;
const l2FactorsAt: usize = 32;
const l2RestAt: usize = 36;
const liveMaxAt: usize = 40;
const atOnceAt: usize = 44;
const skippedAt: usize = 48;
const paceAt: usize = 52;

const spareAt: usize = 512;
const slotsAt: usize = 2048;
/** Slots that reading handles at a time, or those of one longer row. */
const groupSlots: u32 = 128;
/** Rows that get their versions at a time; their keys lie behind the slots. */
const stampGroup: u32 = 64;
const stampKeysAt: usize = slotsAt + 64 * 32;
const valuesOfSlot: usize = 24;
const stateOfSlot: usize = 28;

/** The key's slot names its row, tombstones included, or 0. */
function settle(shard: usize, slot: usize, key: u64): usize {
  let row = <usize>load<u32>(slot);
  if (row != 0 ? load<u64>(row, 8) == key : !mayLieFurther(slot)) return row;
  row = find(shard, key, load<u32>(slot, 8), load<u32>(slot, 12));
  store<u32>(slot, <u32>row);
  return row;
}

/** Finds the rows of `count` keys for reading: address, seq and place of the values of each. */
function resolve(shard: usize, keys: usize, count: u32, slots: usize): void {
  hashKeysTo(shard, keys, count, slots);
  locate(shard, count, slots, false);
  const end = slots + ((<usize>count) << slotShift);
  for (let at = slots; at < end; at += 32, keys += 8) {
    const row = settle(shard, at, load<u64>(keys));
    if (row == 0) {
      store<u32>(at, 0, valuesOfSlot);
      continue;
    }
    store<u32>(at, atomic.load<u32>(row), 4);
    store<u32>(at, isTombstone(row) ? 0 : <u32>(row + valuesAt), valuesOfSlot);
  }
}

/** Whether any of the rows was written since `resolve`. The caller has fenced. */
function changed(slots: usize, count: u32): bool {
  const end = slots + ((<usize>count) << slotShift);
  for (let at = slots; at < end; at += 32) {
    const row = <usize>load<u32>(at);
    if (row == 0) continue;
    const seq = load<u32>(at, 4);
    if ((seq & 1) != 0 || atomic.load<u32>(row) != seq) return true;
  }
  return false;
}

/** Adds the slots of one row of slots. `weights`: of its first slot. */
function addRow(shard: usize, slots: usize, weights: usize, linearOnly: u32, count: u32, factors: u32, sums: usize, spare: usize): void {
  let i: u32 = 0;
  for (; i < linearOnly; i++) {
    const values = <usize>load<u32>(slots + ((<usize>i) << slotShift), valuesOfSlot);
    if (values != 0) addLinear(sums, factors, values, load<f32>(weights + ((<usize>i) << 2)));
  }
  if (factors != 16) {
    for (; i < count; i++) {
      const at = slots + ((<usize>i) << slotShift);
      let values = <usize>load<u32>(at, valuesOfSlot);
      if (values == 0) {
        initialValues(shard, load<u32>(at, 8), load<u32>(at, 12), spare);
        values = spare;
      }
      addSlot(sums, factors, values, load<f32>(weights + ((<usize>i) << 2)));
    }
    return;
  }
  // The same in registers for the usual width.
  let s0 = v128.load(sums);
  let s1 = v128.load(sums, 16);
  let s2 = v128.load(sums, 32);
  let s3 = v128.load(sums, 48);
  let q = v128.load(sums, 64);
  let linear = load<f32>(sums, 80);
  for (; i < count; i++) {
    const at = slots + ((<usize>i) << slotShift);
    let values = <usize>load<u32>(at, valuesOfSlot);
    if (values == 0) {
      initialValues(shard, load<u32>(at, 8), load<u32>(at, 12), spare);
      values = spare;
    }
    const x = load<f32>(weights + ((<usize>i) << 2));
    const scale = f32x4.splat(x);
    const y0 = f32x4.mul(v128.load(values), scale);
    const y1 = f32x4.mul(v128.load(values, 16), scale);
    const y2 = f32x4.mul(v128.load(values, 32), scale);
    const y3 = f32x4.mul(v128.load(values, 48), scale);
    s0 = f32x4.add(s0, y0);
    s1 = f32x4.add(s1, y1);
    s2 = f32x4.add(s2, y2);
    s3 = f32x4.add(s3, y3);
    q = f32x4.add(q, f32x4.mul(y0, y0));
    q = f32x4.add(q, f32x4.mul(y1, y1));
    q = f32x4.add(q, f32x4.mul(y2, y2));
    q = f32x4.add(q, f32x4.mul(y3, y3));
    linear += x * load<f32>(values, 64);
  }
  v128.store(sums, s0);
  v128.store(sums, s1, 16);
  v128.store(sums, s2, 32);
  v128.store(sums, s3, 48);
  v128.store(sums, q, 64);
  store<f32>(sums, linear, 80);
}

/** As addRow, each row read by itself until it is whole: for what was written meanwhile. */
function addSteadyRow(shard: usize, slots: usize, keys: usize, weights: usize, linearOnly: u32, count: u32, factors: u32, sums: usize, spare: usize): void {
  for (let i: u32 = 0; i < count; i++) {
    const at = slots + ((<usize>i) << slotShift);
    const tag = load<u32>(at, 8);
    const hash = load<u32>(at, 12);
    const x = load<f32>(weights + ((<usize>i) << 2));
    const row = find(shard, load<u64>(keys + ((<usize>i) << 3)), tag, hash);
    const there = row != 0 && copySteady(shard, row, spare, spare - 16);
    if (!there) initialValues(shard, tag, hash, spare);
    if (i >= linearOnly) addSlot(sums, factors, spare, x);
    else if (there) addLinear(sums, factors, spare, x);
  }
}

function readRows(
  machine: usize,
  start: usize,
  offsets: usize,
  linearEnds: usize,
  keys: usize,
  weights: usize,
  rows: u32,
  out: usize,
  form: u32,
  reader: u32,
  scratch: usize,
): void {
  const shard = <usize>load<u32>(machine, shardWordAt);
  const factors = load<u32>(shard, factorsAt);
  const sums = scratch;
  const spare = scratch + spareAt;
  const slots = scratch + slotsAt;
  for (let r: u32 = 0; r < rows;) {
    const first = load<u32>(offsets + ((<usize>r) << 2));
    let last = r + 1;
    while (last < rows && load<u32>(offsets + ((<usize>last) << 2), 4) - first <= groupSlots) last += 1;
    const end = load<u32>(offsets + ((<usize>last) << 2));
    enter(shard, reader);
    resolve(shard, keys + ((<usize>first) << 3), end - first, slots);
    for (let i = r; i < last; i++) {
      const from = load<u32>(offsets + ((<usize>i) << 2));
      const to = load<u32>(offsets + ((<usize>i) << 2), 4);
      const linearOnly = load<u32>(linearEnds + ((<usize>i) << 2)) - from;
      begin(sums, start, factors);
      addRow(shard, slots + ((<usize>(from - first)) << slotShift), weights + ((<usize>from) << 2), linearOnly, to - from, factors, sums, spare);
      put(sums, factors, out, i, form);
    }
    fence(slots - 16);
    for (let i = r; i < last; i++) {
      const from = load<u32>(offsets + ((<usize>i) << 2));
      const to = load<u32>(offsets + ((<usize>i) << 2), 4);
      const own = slots + ((<usize>(from - first)) << slotShift);
      if (!changed(own, to - from)) continue;
      const linearOnly = load<u32>(linearEnds + ((<usize>i) << 2)) - from;
      begin(sums, start, factors);
      addSteadyRow(shard, own, keys + ((<usize>from) << 3), weights + ((<usize>from) << 2), linearOnly, to - from, factors, sums, spare);
      put(sums, factors, out, i, form);
    }
    leave(shard, reader);
    r = last;
  }
}

/** Logits of `rows` rows, each begun with the sums at `start` (0: none). Any thread. `reader`: its number. */
export function shardLogits(
  machine: usize,
  start: usize,
  offsets: usize,
  linearEnds: usize,
  keys: usize,
  weights: usize,
  rows: u32,
  logits: usize,
  reader: u32,
  scratch: usize,
): void {
  readRows(machine, start, offsets, linearEnds, keys, weights, rows, logits, asLogits, reader, scratch);
}

/** Sums of `rows` rows, factors + 8 numbers each. Any thread. */
export function shardSums(
  machine: usize,
  offsets: usize,
  linearEnds: usize,
  keys: usize,
  weights: usize,
  rows: u32,
  out: usize,
  reader: u32,
  scratch: usize,
): void {
  readRows(machine, 0, offsets, linearEnds, keys, weights, rows, out, asSums, reader, scratch);
}

/** Vectors of `rows` rows: S, then the row's own logit, then three zeros. Any thread. */
export function shardVectors(
  machine: usize,
  offsets: usize,
  linearEnds: usize,
  keys: usize,
  weights: usize,
  rows: u32,
  out: usize,
  reader: u32,
  scratch: usize,
): void {
  readRows(machine, 0, offsets, linearEnds, keys, weights, rows, out, asVectors, reader, scratch);
}

// ---- learning ----

function stateOf(machine: usize, shard: usize, row: usize): usize {
  const place = <u32>((<u64>(row - writerPart - shard) * <u64>load<u32>(machine, paceAt)) >> 37);
  return <usize>load<u32>(machine, statesAt) + <usize>load<u32>(machine, stateBytesAt) * <usize>place;
}

/** Addresses of the buckets of `count` keys to their slots. */
function bucketsTo(shard: usize, keys: usize, count: u32, slots: usize): void {
  const buckets = <usize>load<u32>(shard, bucketsAt);
  const mask = load<u32>(shard, bucketMaskAt);
  const end = slots + ((<usize>count) << slotShift);
  let at = slots;
  for (; at + 128 <= end; at += 128, keys += 32) {
    const first = v128.load(keys);
    const second = v128.load(keys, 16);
    const highs = mixFour(v128.xor(v128.shuffle<u32>(first, second, 1, 3, 5, 7), i32x4.splat(0x2545f491)));
    const places = mixFour(i32x4.add(highs, v128.shuffle<u32>(first, second, 0, 2, 4, 6)));
    const found = i32x4.add(i32x4.splat(<u32>buckets), i32x4.shl(v128.and(places, i32x4.splat(mask)), 6));
    v128.store_lane<u32>(at, found, 0, 20);
    v128.store_lane<u32>(at, found, 1, 52);
    v128.store_lane<u32>(at, found, 2, 84);
    v128.store_lane<u32>(at, found, 3, 116);
  }
  for (; at < end; at += 32, keys += 8) store<u32>(at, <u32>bucketOf(shard, load<u64>(keys)), 20);
}

/** Finds the rows of a sample: row, place of the values, state and bucket of each slot, with all that a write changes on its way. */
function claim(machine: usize, shard: usize, keys: usize, count: u32, slots: usize): void {
  // As many places come back as this sample may take.
  for (let taken: u32 = 0; taken <= count; taken += 64) reclaim(shard);
  hashKeysTo(shard, keys, count, slots);
  bucketsTo(shard, keys, count, slots);
  locate(shard, count, slots, false);
  const end = slots + ((<usize>count) << slotShift);
  const stateEnd = (<usize>load<u32>(machine, stateBytesAt)) & ~63;
  for (let at = slots; at < end; at += 32, keys += 8) {
    const row = settle(shard, at, load<u64>(keys));
    store<u32>(at, row == 0 || isTombstone(row) ? 0 : <u32>(row + valuesAt), valuesOfSlot);
    store<u32>(at, row == 0 ? 0 : <u32>stateOf(machine, shard, row), stateOfSlot);
  }
  let seen: u32 = 0;
  for (let at = slots; at < end; at += 32) {
    const state = <usize>load<u32>(at, stateOfSlot);
    seen |= load<u32>(state) | load<u32>(state + stateEnd);
  }
  // Stored, or the optimizer would drop the reading.
  store<u32>(slots - 32, seen);
}

/**
 * Puts the versions of all that was written since the last time into the rows, lists and digests: `written` holds for each of `count` writes the row and the low half of its counter.
 * Of a row that was written several times only the last write counts: one that half of all samples write (a bias, a language) is moved once here.
 */
function stampWritten(shard: usize, written: usize, count: u32, scratch: usize): void {
  const slots = scratch + slotsAt;
  const keys = scratch + stampKeysAt;
  // From the back, where a row is met first it was written last; those writes gather at the end, in order.
  const end = written + ((<usize>count) << 3);
  let to = end;
  for (let at = end - 8; at >= written; at -= 8) {
    const row = <usize>load<u32>(at);
    const flags = load<u32>(row, 4);
    if ((flags & waitFlag) == 0) continue;
    store<u32>(row, flags & ~waitFlag, 4);
    to -= 8;
    store<u64>(to, load<u64>(at));
  }
  while (to < end) {
    const size = min<u32>((<u32>(end - to)) >> 3, stampGroup);
    const slotsEnd = slots + ((<usize>size) << slotShift);
    for (let at = slots, key = keys; at < slotsEnd; at += 32, key += 8, to += 8) {
      const row = <usize>load<u32>(to);
      store<u32>(at, <u32>row);
      store<u32>(at, load<u32>(to, 4), 8);
      store<u64>(key, load<u64>(row, 8));
    }
    bucketsTo(shard, keys, size, slots);
    let seen: u32 = 0;
    for (let at = slots; at < slotsEnd; at += 32) {
      const row = <usize>load<u32>(at);
      const bucket = <usize>load<u32>(at, 20);
      // A link of 0 would lie in front of address 0: taken from 64 instead. The row will stand behind the last of its bucket.
      const next = max<usize>(<usize>load<u32>(row - nextAt), 64);
      const previous = max<usize>(<usize>load<u32>(row - previousAt), 64);
      const tail = max<usize>(<usize>load<u32>(bucket, tailAt), 64);
      seen |= load<u32>(next - nextAt) | load<u32>(previous - nextAt) | load<u32>(tail - nextAt);
      store<u64>(at, versionGiven(bucket, load<u32>(at, 8)), 8);
    }
    // Stored, or the optimizer would drop the reading.
    store<u32>(slots - 32, seen);
    stampRows(shard, keys, slots, size);
  }
}

/** One step for the single number behind the factors: the lanes of stepPart, one by one the same bits. */
function stepOne(optimizer: u32, w: f32, accumulator: usize, gradient: f32, rate: f32, l2: f32): f32 {
  const g = gradient + l2 * w;
  if (optimizer == adagrad) {
    const a = load<f32>(accumulator) + g * g;
    store<f32>(accumulator, a);
    return w - (rate * g) / (sqrt<f32>(a) + epsilon);
  }
  if (optimizer == rowwise) {
    const a = load<f32>(accumulator) + g * g;
    store<f32>(accumulator, a);
    return w - (rate / (sqrt<f32>(a) + epsilon)) * g;
  }
  return w - rate * g;
}

/** New values of one slot's row, and its state. `x`: of the slot; `g`: the slope of the loss. What stampWritten takes: the row and the low half of its write's counter, or 0. */
function stepSlot(
  machine: usize,
  shard: usize,
  slots: usize,
  i: u32,
  key: u64,
  x: f32,
  g: f32,
  linear: bool,
  sums: usize,
  values: usize,
  seconds: u32,
  scratch: usize,
): u64 {
  const slot = slots + ((<usize>i) << slotShift);
  const bucket = <usize>load<u32>(slot, 20);
  const factors = load<u32>(shard, factorsAt);
  const factorBytes = (<usize>factors) << 2;
  const valueBytes = valueBytesOf(load<u32>(shard, dimAt));
  const spare = scratch + spareAt;
  let row = <usize>load<u32>(slot);
  // An earlier slot of the sample may have made it.
  if (row == 0) row = find(shard, key, load<u32>(slot, 8), load<u32>(slot, 12));
  // Only a slot whose values are to be written names a row.
  store<u32>(slot, 0);
  const version = nextVersion(bucket);
  if (version == 0) {
    raise(shard, notLedAt);
    return 0;
  }
  let fresh = false;
  if (row == 0) {
    row = makeRow(shard, slot, key, scratch);
    if (row == 0) {
      raise(shard, refusedAt);
      return 0;
    }
    fresh = true;
    // Read before they are set: stampWritten has the lines of neighbours on their way.
    store<u32>(row - nextAt, 0);
    store<u32>(row - previousAt, 0);
    countLive(shard, bucket, 1);
  }
  const flags = load<u32>(row, 4);
  let base = row + valuesAt;
  // A tombstone, also one that this sample makes: to readers until its values stand.
  if ((flags & tombstoneFlag) != 0) {
    initialValues(shard, load<u32>(slot, 8), load<u32>(slot, 12), spare);
    base = spare;
  }
  let state = <usize>load<u32>(slot, stateOfSlot);
  if (state == 0) state = stateOf(machine, shard, row);
  if ((flags & stateFlag) == 0) {
    const first = load<f32>(machine, accumulatorAt);
    const stateBytes = <usize>load<u32>(machine, stateBytesAt);
    for (let at: usize = 0; at < stateBytes; at += 4) store<f32>(state + at, first);
  }
  let value = values + valueBytes * <usize>i;
  const again = (flags & 0xff00) != 0;
  if (again) {
    let earlier: u32 = 0;
    while (<usize>load<u32>(slots + ((<usize>earlier) << slotShift)) != row) earlier += 1;
    value = values + valueBytes * <usize>earlier;
  } else {
    if (!fresh && (flags & tombstoneFlag) != 0) unbury(shard, bucket, row);
    store<u32>(row, flags | stateFlag | waitFlag | 0x100, 4);
    store<u32>(slot, <u32>row);
  }
  const optimizer = load<u32>(machine, optimizerAt);
  const slope = g * x;
  if (linear) {
    for (let at: usize = 0; at < factorBytes; at += 16) v128.store(value + at, v128.load(base + at));
  } else {
    const top = f32x4.splat(gradientMax);
    const bottom = f32x4.splat(-gradientMax);
    const scale = f32x4.splat(x);
    const slopes = f32x4.splat(slope);
    for (let at: usize = 0; at < factorBytes; at += 16) {
      const rest = f32x4.sub(v128.load(sums + at), f32x4.mul(v128.load(base + at), scale));
      v128.store(value + at, f32x4.pmax(bottom, f32x4.pmin(top, f32x4.mul(slopes, rest))));
    }
    stepPart(optimizer, base, state, value, factorBytes, load<f32>(machine, rateFactorsAt), load<f32>(machine, l2FactorsAt), <f32>factors);
  }
  // As the lanes above take it: what is no number becomes the upper bound.
  const low = slope < gradientMax ? slope : gradientMax;
  const bounded = -gradientMax < low ? low : -gradientMax;
  const second: usize = optimizer == rowwise ? 4 : factorBytes;
  const w = stepOne(optimizer, load<f32>(base + factorBytes), state + second, bounded, load<f32>(machine, rateRestAt), load<f32>(machine, l2RestAt));
  store<f32>(value + factorBytes, w);
  if (again) return 0;
  countWrite(row, seconds);
  countVersion(bucket, version);
  return ((<u64>(<u32>(version >> 8))) << 32) | (<u64>(<u32>row));
}

/**
 * Row by row: the logit, then one step on importance x log loss of sigmoid(logit + shift); rows that are missing are made. A sample whose logit or gradient is not
 * finite makes no step and counts as skipped. `touched`: seconds a row of slots, what touched of its rows becomes; 0: none. Writer only.
 */
export function shardLearn(
  machine: usize,
  offsets: usize,
  linearEnds: usize,
  keys: usize,
  weights: usize,
  rows: u32,
  labels: usize,
  importance: usize,
  shifts: usize,
  logits: usize,
  touched: usize,
  scratch: usize,
): void {
  const shard = <usize>load<u32>(machine, shardWordAt);
  const factors = load<u32>(shard, factorsAt);
  const sums = scratch;
  const spare = scratch + spareAt;
  const slots = scratch + slotsAt;
  const liveMax = load<u32>(machine, liveMaxAt);
  // Writes, over keys that are done with.
  let written: u32 = 0;
  for (let r: u32 = 0; r < rows; r++) {
    const sample = (<usize>r) << 2;
    const first = load<u32>(offsets + sample);
    const count = load<u32>(offsets + sample, 4) - first;
    const linearOnly = load<u32>(linearEnds + sample) - first;
    const x0 = weights + ((<usize>first) << 2);
    const k0 = keys + ((<usize>first) << 3);
    // stampRows goes by four slots.
    const values = slots + ((<usize>((count + 3) & ~3)) << slotShift);
    claim(machine, shard, k0, count, slots);
    begin(sums, 0, factors);
    addRow(shard, slots, x0, linearOnly, count, factors, sums, spare);
    const logit = finish(sums, factors);
    store<f32>(logits + sample, logit);
    const z = <f64>logit + <f64>load<f32>(shifts + sample);
    // Zero when z is not finite, which counts as skipped below: the series takes no NaN.
    const p = z - z == 0 ? sigmoid(z) : 0;
    const g = <f32>((p - <f64>load<f32>(labels + sample)) * <f64>load<f32>(importance + sample));
    if (z - z != 0 || g - g != 0) {
      raise(machine, skippedAt);
      continue;
    }
    const seconds = touched == 0 ? 0 : load<u32>(touched + sample);
    for (let i: u32 = 0; i < count; i++) {
      const x = load<f32>(x0 + ((<usize>i) << 2));
      const write = stepSlot(machine, shard, slots, i, load<u64>(k0 + ((<usize>i) << 3)), x, g, i < linearOnly, sums, values, seconds, scratch);
      if (write == 0) continue;
      store<u64>(keys + ((<usize>written) << 3), write);
      written += 1;
    }
    commit(shard, slots, count, values);
    if (load<u32>(shard, liveAt) <= liveMax) continue;
    stampWritten(shard, keys, written, scratch);
    written = 0;
    const target = liveMax - (liveMax >> 6);
    shardEvict(shard, target, load<u32>(shard, liveAt) - target, load<u32>(machine, atOnceAt));
  }
  stampWritten(shard, keys, written, scratch);
}
