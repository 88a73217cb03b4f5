// The parameter table: u64 keys to rows of f32, in one memory, one writing thread, any number of readers without torn rows.
// Keys are spread by two 32-bit mixes; a hash never stands for a key: the row holds the key and it is compared.
//
// Layout, relative to the table's address (64-byte aligned); written by src/kernel/parameter-layout.ts:
//   +0 u32 "PRT1"   +4 u32 slotMask   +8 u32 indexFrom   +12 u32 rowsFrom   +16 u32 accumulatorsFrom   +20 u32 rowBytes
//   +24 u32 dims   +28 u32 factors (the leading components, a multiple of 4)   +32 u32 count   +36 u32 capacityRows
//   +40 u32 seedLow   +44 u32 seedHigh   +48 f32 initialScale   +52 f32 initialAccumulator   +56 u32 optimizer   +60 u32 accumulatorBytes
//   +64 u32 refused   +68 u32 skipped   +72 u32 unsteady   +76 u32 paddedDims
//   +80 f32 rateFactors   +84 f32 rateLinear   +88 f32 l2Factors   +92 f32 l2Linear
//   +96 u32 epoch (odd while a group of rows is being written)   and of that group: +100 u32 slotsAt   +104 u32 count   +108 u32 restOnly
//   +112 u32 valuesAt (addresses in the writer's lane)   up to +128 zeros
//   index: u64 each = tag (low 32) and row + 1 (high 32), 0 = empty; open addressing, linear probing
//   rows: u32 seq (odd while being written), u32 touches, u64 key, f32[paddedDims] (zeros behind dims)
//   accumulators, which only the writer reads: AdaGrad f32[paddedDims], row-wise AdaGrad f32[2] (factors, the rest), SGD nothing
// Initial value of component i: i < factors: initialScale times a number in [-1, 1) hashed from (seed, key, i); else 0. A missing row reads so.
//
// Invariants: 1. at most 3/4 of the index is taken, so a probe ends  2. an index entry is stored, at once, after its row is complete
//   3. readers: seq before the values, the same even seq after them, or they read again  4. writers: the new values complete and their place in the
//   header, epoch odd, rows odd, values, rows even, epoch even, a fence between each: a reader that meets an odd row takes the new values
//   from there, so it never waits for a writer that lost its core in the middle
//   5. no fused multiply-add and a fixed order of every sum: all variants and the scalar twin give the same bits
//   6. rows leave only by truncation, the youngest first: a probe of an older key never stepped over a younger one.
// Phases: hashes of a group, then all its index lines, then all its row lines, then the values. The loops that fetch lines do nothing else: a core
// looks some 500 instructions ahead, so the shorter the loop, the more misses overlap (measured: docs/design/params.md).

export const rowHead: usize = 16;
/** Scratch: sums at 0, one row at `spareAt` (256 numbers at most), at `slotsAt` 16 bytes a slot: u32 address (0 = none), u32 seq, u32 tag, u32 hash. */
export const spareAt: usize = 512;
export const slotsAt: usize = 2048;
const groupMax: u32 = 32;
const golden: u32 = 0x9e3779b9;
export const epsilon: f32 = 1e-8;
/** Readings of one row before it counts as unsteady: only a writer that died in the middle leaves such a row. */
const readingsMax: u32 = 4096;

export const adagrad: u32 = 1;
export const rowwise: u32 = 2;

/** The finalizer of MurmurHash3 (Appleby), a bijection of 32 bits. */
export function mixWord(h: u32): u32 {
  h = (h ^ (h >> 16)) * 0x85ebca6b;
  h = (h ^ (h >> 13)) * 0xc2b2ae35;
  return h ^ (h >> 16);
}

/**
 * Keeps what is before it before what is after it, for the compiler and the machine. `word`: an aligned scratch word of this thread.
 * A read-modify-write, because the compiler in use refuses its own fence instruction; on x86-64 it is the cheaper of the two as well.
 */
export function fence(word: usize): void {
  atomic.add<u32>(word, 0);
}

/** Four words at once. */
export function mixFour(h: v128): v128 {
  h = i32x4.mul(v128.xor(h, i32x4.shr_u(h, 16)), i32x4.splat(0x85ebca6b));
  h = i32x4.mul(v128.xor(h, i32x4.shr_u(h, 13)), i32x4.splat(0xc2b2ae35));
  return v128.xor(h, i32x4.shr_u(h, 16));
}

/** The two mixes of a key: (tag, hash) is a bijection of (low, high). */
export function tagOf(table: usize, key: u64): u32 {
  return mixWord((<u32>key) ^ load<u32>(table, 40));
}

export function hashOf(table: usize, key: u64, tag: u32): u32 {
  return mixWord(tag + ((<u32>(key >> 32)) ^ load<u32>(table, 44)));
}

/** (a + b) + (c + d) of the four lanes. */
export function sumFour(v: v128): f32 {
  return f32x4.extract_lane(v, 0) + f32x4.extract_lane(v, 1) + (f32x4.extract_lane(v, 2) + f32x4.extract_lane(v, 3));
}

/** Writes the initial values of a key, padding included, to `to`. */
export function initialValues(table: usize, tag: u32, hash: u32, to: usize): void {
  const factors = load<u32>(table, 28);
  const padded = load<u32>(table, 76);
  const scale = f32x4.splat(load<f32>(table, 48));
  let at: u32 = 0;
  let step = i32x4.add(i32x4.splat(tag), i32x4(golden, 2 * golden, 3 * golden, 4 * golden));
  for (; at < factors; at += 4) {
    const bits = i32x4.shr_u(mixFour(i32x4.add(mixFour(step), i32x4.splat(hash))), 8);
    // 24 bits times 2^-23, less 1: exact; one rounding at the scale.
    const unit = f32x4.sub(f32x4.mul(f32x4.convert_i32x4_s(bits), f32x4.splat(1.1920928955078125e-7)), f32x4.splat(1));
    v128.store(to + ((<usize>at) << 2), f32x4.mul(unit, scale));
    step = i32x4.add(step, i32x4.splat(4 * golden));
  }
  for (; at < padded; at += 4) v128.store(to + ((<usize>at) << 2), i32x4.splat(0));
}

export function copyBlocks(to: usize, from: usize, bytes: usize): void {
  for (let at: usize = 0; at < bytes; at += 16) v128.store(to + at, v128.load(from + at));
}

/** Copies `dims` numbers and nothing behind them. */
export function copyNumbers(to: usize, from: usize, dims: u32): void {
  const bytes = (<usize>dims) << 2;
  let at: usize = 0;
  for (; at + 16 <= bytes; at += 16) v128.store(to + at, v128.load(from + at));
  for (; at < bytes; at += 4) store<u32>(to + at, load<u32>(from + at));
}

/** Address of the key's row, or 0. */
export function find(table: usize, key: u64, tag: u32, hash: u32): usize {
  const slotMask = load<u32>(table, 4);
  const index = table + <usize>load<u32>(table, 8);
  const rows = table + <usize>load<u32>(table, 12);
  const rowBytes = <usize>load<u32>(table, 20);
  let slot = hash & slotMask;
  while (true) {
    const entry = atomic.load<u64>(index + ((<usize>slot) << 3));
    const reference = <u32>(entry >> 32);
    if (reference == 0) return 0;
    if (<u32>entry == tag) {
      const row = rows + rowBytes * <usize>(reference - 1);
      if (load<u64>(row, 8) == key) return row;
    }
    slot = (slot + 1) & slotMask;
  }
}

/** Reads one word of each key's index line, so that the lines are on their way: nothing else in the loop, or fewer would be at once. */
function touchIndex(index: usize, slotMask: u32, slots: usize, end: usize): u32 {
  let seen: u32 = 0;
  for (let at = slots; at < end; at += 16) seen |= load<u32>(index + ((<usize>(load<u32>(at, 12) & slotMask)) << 3));
  return seen;
}

/** The same for the lines of each row. Address 0 is memory that nobody uses. */
function touchRows(slots: usize, end: usize, rowBytes: usize): u32 {
  let seen: u32 = 0;
  if (rowBytes <= 128) {
    for (let at = slots; at < end; at += 16) {
      const row = <usize>load<u32>(at);
      seen |= load<u32>(row) | load<u32>(row, 64);
    }
    return seen;
  }
  for (let at = slots; at < end; at += 16) {
    const row = <usize>load<u32>(at);
    seen |= load<u32>(row) | load<u32>(row, 64) | load<u32>(row, 128);
    for (let further: usize = 192; further < rowBytes; further += 64) seen |= load<u32>(row + further);
  }
  return seen;
}

/** The same for the accumulators of each row, whose addresses stand where the seqs will. */
function touchAccumulators(slots: usize, end: usize, accumulatorBytes: usize): u32 {
  let seen: u32 = 0;
  for (let at = slots; at < end; at += 16) {
    const accumulator = <usize>load<u32>(at, 4);
    seen |= load<u32>(accumulator);
    for (let further: usize = 64; further < accumulatorBytes + 48; further += 64) seen |= load<u32>(accumulator + further);
  }
  return seen;
}

/** Where the row of each of `count` keys probably is (0: nowhere), with its lines on their way. The caller compares keys. */
function locate(table: usize, keys: usize, count: u32, slots: usize, forWriting: bool): void {
  const slotMask = load<u32>(table, 4);
  const index = table + <usize>load<u32>(table, 8);
  const rows = table + <usize>load<u32>(table, 12);
  const rowBytes = <usize>load<u32>(table, 20);
  const accumulators = table + <usize>load<u32>(table, 16);
  const accumulatorBytes = <usize>load<u32>(table, 60);
  const seedLow = load<u32>(table, 40);
  const seedHigh = load<u32>(table, 44);
  const end = slots + ((<usize>count) << 4);
  const lowSeeds = i32x4.splat(seedLow);
  const highSeeds = i32x4.splat(seedHigh);
  let from = slots;
  for (; from + 64 <= end; from += 64, keys += 32) {
    const first = v128.load(keys);
    const second = v128.load(keys, 16);
    const tags = mixFour(v128.xor(v128.shuffle<u32>(first, second, 0, 2, 4, 6), lowSeeds));
    const hashes = mixFour(i32x4.add(tags, v128.xor(v128.shuffle<u32>(first, second, 1, 3, 5, 7), highSeeds)));
    const front = v128.shuffle<u32>(tags, hashes, 0, 4, 1, 5);
    const back = v128.shuffle<u32>(tags, hashes, 2, 6, 3, 7);
    v128.store_lane<u64>(from, front, 0, 8);
    v128.store_lane<u64>(from, front, 1, 24);
    v128.store_lane<u64>(from, back, 0, 40);
    v128.store_lane<u64>(from, back, 1, 56);
  }
  for (; from < end; from += 16, keys += 8) {
    const tag = mixWord(load<u32>(keys) ^ seedLow);
    store<u32>(from, tag, 8);
    store<u32>(from, mixWord(tag + (load<u32>(keys, 4) ^ seedHigh)), 12);
  }
  let seen = touchIndex(index, slotMask, slots, end);
  for (let at = slots; at < end; at += 16) {
    const tag = load<u32>(at, 8);
    let slot = load<u32>(at, 12) & slotMask;
    let entry = atomic.load<u64>(index + ((<usize>slot) << 3));
    while (<u32>entry != tag && entry >> 32 != 0) {
      slot = (slot + 1) & slotMask;
      entry = atomic.load<u64>(index + ((<usize>slot) << 3));
    }
    const reference = <u32>(entry >> 32);
    store<u32>(at, reference != 0 ? <u32>(rows + rowBytes * <usize>(reference - 1)) : 0);
    if (forWriting) store<u32>(at, reference != 0 ? <u32>(accumulators + accumulatorBytes * <usize>(reference - 1)) : 0, 4);
  }
  seen |= touchRows(slots, end, rowBytes);
  if (forWriting) seen |= touchAccumulators(slots, end, accumulatorBytes);
  // Stored, or the optimizer would drop the reading.
  store<u32>(slots - 32, seen);
}

/** Finds the rows of `count` keys for reading: address and seq of each. */
export function resolve(table: usize, keys: usize, count: u32, slots: usize): void {
  locate(table, keys, count, slots, false);
  const end = slots + ((<usize>count) << 4);
  for (let at = slots; at < end; at += 16, keys += 8) {
    const row = <usize>load<u32>(at);
    if (row == 0) continue;
    store<u32>(at, atomic.load<u32>(row), 4);
    const key = load<u64>(keys);
    if (load<u64>(row, 8) == key) continue;
    // Another key with the same tag. An odd seq makes the reader look again: here the key was compared before the seq was read.
    store<u32>(at, <u32>find(table, key, load<u32>(at, 8), load<u32>(at, 12)));
    store<u32>(at, 1, 4);
  }
}

/** Whether any of the rows was written since `resolve`. The caller has fenced. */
export function changed(slots: usize, count: u32): bool {
  for (let i: u32 = 0; i < count; i++) {
    const at = slots + ((<usize>i) << 4);
    const row = <usize>load<u32>(at);
    if (row == 0) continue;
    const seq = load<u32>(at, 4);
    if ((seq & 1) != 0 || atomic.load<u32>(row) != seq) return true;
  }
  return false;
}

/** Copies what a row is becoming from the group that is being written; false when no group is, it ended meanwhile, or the row is not in it. */
function copyPending(table: usize, row: usize, to: usize): bool {
  const epoch = atomic.load<u32>(table + 96);
  if ((epoch & 1) == 0) return false;
  const slots = <usize>load<u32>(table, 100);
  const count = load<u32>(table, 104);
  const restOnly = load<u32>(table, 108);
  const bytes = (<usize>load<u32>(table, 76)) << 2;
  let i: u32 = 0;
  while (i < count && <usize>load<u32>(slots + ((<usize>i) << 4)) != row) i += 1;
  if (i == count) return false;
  const values = <usize>load<u32>(table, 112) + bytes * <usize>i;
  const kept = i < restOnly ? (<usize>load<u32>(table, 28)) << 2 : 0;
  copyBlocks(to, row + rowHead, kept);
  copyBlocks(to + kept, values + kept, bytes - kept);
  fence(to - 16);
  return atomic.load<u32>(table + 96) == epoch;
}

/** Copies the whole values of a key, never a mixture, to `to` (with a spare word 16 bytes before it); false when it has no row (initial values then). */
export function copySteady(table: usize, key: u64, to: usize): bool {
  const bytes = (<usize>load<u32>(table, 76)) << 2;
  const tag = tagOf(table, key);
  const hash = hashOf(table, key, tag);
  for (let reading: u32 = 0; reading < readingsMax; reading++) {
    const row = find(table, key, tag, hash);
    if (row == 0) {
      initialValues(table, tag, hash, to);
      return false;
    }
    const seq = atomic.load<u32>(row);
    if (load<u64>(row, 8) != key) continue;
    if ((seq & 1) != 0) {
      if (copyPending(table, row, to)) return true;
      continue;
    }
    copyBlocks(to, row + rowHead, bytes);
    fence(to - 16);
    if (atomic.load<u32>(row) == seq) return true;
  }
  atomic.add<u32>(table + 72, 1);
  initialValues(table, tag, hash, to);
  return false;
}

/** Ends the group of a writer that died in the middle, before its lane is used again. The rows it left odd stay so until they are written. */
function endOrphan(table: usize): void {
  const epoch = load<u32>(table, 96);
  if ((epoch & 1) != 0) atomic.add<u32>(table + 96, 1);
}

/** Address of a new row for a key that has none, or 0 when the table is full. */
function insert(table: usize, key: u64, tag: u32, hash: u32, word: usize): usize {
  const count = load<u32>(table, 32);
  if (count >= load<u32>(table, 36)) {
    store<u32>(table, load<u32>(table, 64) + 1, 64);
    return 0;
  }
  const row = table + <usize>load<u32>(table, 12) + <usize>load<u32>(table, 20) * <usize>count;
  const seq = load<u32>(row) | 1;
  store<u32>(row, seq);
  fence(word);
  store<u32>(row, 0, 4);
  store<u64>(row, key, 8);
  initialValues(table, tag, hash, row + rowHead);
  fence(word);
  store<u32>(row, seq + 1);
  const accumulatorBytes = <usize>load<u32>(table, 60);
  const accumulator = table + <usize>load<u32>(table, 16) + accumulatorBytes * <usize>count;
  const first = load<f32>(table, 52);
  for (let at: usize = 0; at < accumulatorBytes; at += 4) store<f32>(accumulator + at, first);
  const slotMask = load<u32>(table, 4);
  const index = table + <usize>load<u32>(table, 8);
  let slot = hash & slotMask;
  while (load<u64>(index + ((<usize>slot) << 3)) != 0) slot = (slot + 1) & slotMask;
  // The count first: a thread that ends between the two leaves a row that truncation forgets, not an entry without a row.
  atomic.store<u32>(table + 32, count + 1);
  atomic.store<u64>(index + ((<usize>slot) << 3), ((<u64>(count + 1)) << 32) | (<u64>tag));
  return row;
}

/** Finds or inserts the rows of `count` keys; address 0 where the table is full. Returns how many were refused. Writer only. */
export function claim(table: usize, keys: usize, count: u32, slots: usize): u32 {
  let refused: u32 = 0;
  endOrphan(table);
  locate(table, keys, count, slots, true);
  for (let i: u32 = 0; i < count; i++) {
    const at = slots + ((<usize>i) << 4);
    let row = <usize>load<u32>(at);
    const key = load<u64>(keys + ((<usize>i) << 3));
    if (row != 0 && load<u64>(row, 8) == key) continue;
    const tag = load<u32>(at, 8);
    const hash = load<u32>(at, 12);
    // Also what was absent a moment ago: an earlier key of this group may have inserted it.
    row = find(table, key, tag, hash);
    if (row == 0) row = insert(table, key, tag, hash, slots - 16);
    if (row == 0) refused += 1;
    store<u32>(at, <u32>row);
  }
  return refused;
}

/** Address of a row's accumulators. */
export function accumulatorOf(table: usize, row: usize): usize {
  const number = <u32>(row - table - <usize>load<u32>(table, 12)) / load<u32>(table, 20);
  return table + <usize>load<u32>(table, 16) + <usize>load<u32>(table, 60) * <usize>number;
}

/**
 * One step of the optimizer for `bytes` of a row: `weights` are read, `values` hold the gradient and get the new weights.
 * `size`: how many components the part has (row-wise AdaGrad takes their mean).
 */
export function stepPart(optimizer: u32, weights: usize, accumulator: usize, values: usize, bytes: usize, rate: f32, l2: f32, size: f32): void {
  const decay = f32x4.splat(l2);
  const pace = f32x4.splat(rate);
  if (optimizer == adagrad) {
    const small = f32x4.splat(epsilon);
    for (let at: usize = 0; at < bytes; at += 16) {
      const w = v128.load(weights + at);
      const g = f32x4.add(v128.load(values + at), f32x4.mul(decay, w));
      const a = f32x4.add(v128.load(accumulator + at), f32x4.mul(g, g));
      v128.store(accumulator + at, a);
      v128.store(values + at, f32x4.sub(w, f32x4.div(f32x4.mul(pace, g), f32x4.add(f32x4.sqrt(a), small))));
    }
  } else if (optimizer == rowwise) {
    let squares = f32x4.splat(0);
    for (let at: usize = 0; at < bytes; at += 16) {
      const g = f32x4.add(v128.load(values + at), f32x4.mul(decay, v128.load(weights + at)));
      v128.store(values + at, g);
      squares = f32x4.add(squares, f32x4.mul(g, g));
    }
    const a = load<f32>(accumulator) + sumFour(squares) / size;
    store<f32>(accumulator, a);
    const shared = f32x4.splat(rate / (sqrt<f32>(a) + epsilon));
    for (let at: usize = 0; at < bytes; at += 16) {
      v128.store(values + at, f32x4.sub(v128.load(weights + at), f32x4.mul(shared, v128.load(values + at))));
    }
  } else {
    for (let at: usize = 0; at < bytes; at += 16) {
      const w = v128.load(weights + at);
      const g = f32x4.add(v128.load(values + at), f32x4.mul(decay, w));
      v128.store(values + at, f32x4.sub(w, f32x4.mul(pace, g)));
    }
  }
}

/** The step of the leading components: gradient in `values`, new weights there afterwards. */
export function stepFactors(table: usize, row: usize, accumulator: usize, values: usize): void {
  const factors = load<u32>(table, 28);
  if (factors == 0) return;
  stepPart(load<u32>(table, 56), row + rowHead, accumulator, values, (<usize>factors) << 2, load<f32>(table, 80), load<f32>(table, 88), <f32>factors);
}

/** The step of the components behind the factors. */
export function stepRest(table: usize, row: usize, accumulator: usize, values: usize): void {
  const factors = load<u32>(table, 28);
  const rest = load<u32>(table, 24) - factors;
  if (rest == 0) return;
  const optimizer = load<u32>(table, 56);
  const from = (<usize>factors) << 2;
  const bytes = ((<usize>load<u32>(table, 76)) << 2) - from;
  const second: usize = optimizer == rowwise ? 4 : from;
  stepPart(optimizer, row + rowHead + from, accumulator + second, values + from, bytes, load<f32>(table, 84), load<f32>(table, 92), <f32>rest);
}

/**
 * Makes new values visible: slot i of `slots` gets the values at `values + i * paddedDims * 4`, of the first `restOnly` slots only what
 * lies behind the factors. Slots of address 0 are passed over. `touch`: added to the rows' touches.
 */
export function commit(table: usize, slots: usize, count: u32, restOnly: u32, values: usize, touch: u32): void {
  const factorBytes = (<usize>load<u32>(table, 28)) << 2;
  const bytes = (<usize>load<u32>(table, 76)) << 2;
  store<u32>(table, <u32>slots, 100);
  store<u32>(table, count, 104);
  store<u32>(table, restOnly, 108);
  store<u32>(table, <u32>values, 112);
  // From even to odd and back; a fence each.
  atomic.add<u32>(table + 96, 1);
  for (let i: u32 = 0; i < count; i++) {
    const row = <usize>load<u32>(slots + ((<usize>i) << 4));
    if (row != 0) store<u32>(row, load<u32>(row) | 1);
  }
  fence(slots - 16);
  for (let i: u32 = 0; i < count; i++) {
    const row = <usize>load<u32>(slots + ((<usize>i) << 4));
    if (row == 0) continue;
    const from = values + bytes * <usize>i;
    const skip = i < restOnly ? factorBytes : 0;
    copyBlocks(row + rowHead + skip, from + skip, bytes - skip);
    const touches = load<u32>(row, 4);
    if (touches != 0xffffffff) store<u32>(row, touches + touch, 4);
  }
  fence(slots - 16);
  for (let i: u32 = 0; i < count; i++) {
    const row = <usize>load<u32>(slots + ((<usize>i) << 4));
    if (row != 0) store<u32>(row, (load<u32>(row) | 1) + 1);
  }
  atomic.add<u32>(table + 96, 1);
}

/** Copies a row of `dims` numbers to a padded place, zeros behind. */
function copyPadded(table: usize, to: usize, from: usize): void {
  const dims = load<u32>(table, 24);
  const bytes = (<usize>load<u32>(table, 76)) << 2;
  if (bytes == 0) return;
  v128.store(to + bytes - 16, i32x4.splat(0));
  copyNumbers(to, from, dims);
}

/** Whether all of `bytes` (a multiple of 16) are finite: x - x is 0 for those alone. */
export function allFinite(at: usize, bytes: usize): bool {
  let differences = f32x4.splat(0);
  for (let i: usize = 0; i < bytes; i += 16) {
    const x = v128.load(at + i);
    differences = f32x4.add(differences, f32x4.sub(x, x));
  }
  return sumFour(differences) == 0;
}

/**
 * Reads `count` rows of `dims` numbers each to `out`, one behind the other; a missing key reads as its initial values.
 * Returns how many were missing. Any thread. `scratch`: 2,048 + 32 x 16 bytes.
 */
export function parametersPull(table: usize, keys: usize, count: u32, out: usize, scratch: usize): u32 {
  const dims = load<u32>(table, 24);
  const outBytes = (<usize>dims) << 2;
  const slots = scratch + slotsAt;
  const spare = scratch + spareAt;
  let missing: u32 = 0;
  for (let first: u32 = 0; first < count; first += groupMax) {
    const size = count - first < groupMax ? count - first : groupMax;
    const group = keys + ((<usize>first) << 3);
    resolve(table, group, size, slots);
    for (let i: u32 = 0; i < size; i++) {
      const at = slots + ((<usize>i) << 4);
      const row = <usize>load<u32>(at);
      const to = out + outBytes * <usize>(first + i);
      if (row == 0) {
        missing += 1;
        initialValues(table, load<u32>(at, 8), load<u32>(at, 12), spare);
        copyNumbers(to, spare, dims);
      } else {
        copyNumbers(to, row + rowHead, dims);
      }
    }
    fence(slots - 16);
    for (let i: u32 = 0; i < size; i++) {
      if (!changed(slots + ((<usize>i) << 4), 1)) continue;
      if (!copySteady(table, load<u64>(group + ((<usize>i) << 3)), spare)) missing += 1;
      copyNumbers(out + outBytes * <usize>(first + i), spare, dims);
    }
  }
  return missing;
}

/**
 * One step for each of `count` gradients of `dims` numbers; gradients of one key are added up first (in place). Missing keys are inserted.
 * Returns how many keys were refused because the table is full. A gradient that is not finite changes nothing and counts as skipped.
 * `merge`: (mergeMask + 1) + count words, mergeMask + 1 a power of two >= 2 count. `scratch`: 2,048 + 32 x (16 + 4 paddedDims) bytes.
 */
export function parametersPush(table: usize, keys: usize, count: u32, gradients: usize, merge: usize, mergeMask: u32, scratch: usize): u32 {
  const dims = load<u32>(table, 24);
  const gradientBytes = (<usize>dims) << 2;
  const valueBytes = (<usize>load<u32>(table, 76)) << 2;
  const slots = scratch + slotsAt;
  const values = slots + ((<usize>groupMax) << 4);
  const addresses = merge + ((<usize>mergeMask + 1) << 2);
  let refused: u32 = 0;
  memory.fill(merge, 0, (<usize>mergeMask + 1) << 2);
  for (let first: u32 = 0; first < count; first += groupMax) {
    const size = count - first < groupMax ? count - first : groupMax;
    refused += claim(table, keys + ((<usize>first) << 3), size, slots);
    for (let i: u32 = 0; i < size; i++) {
      const own = first + i;
      const row = load<u32>(slots + ((<usize>i) << 4));
      store<u32>(addresses + ((<usize>own) << 2), row);
      if (row == 0) continue;
      let slot = mixWord(row) & mergeMask;
      let earlier = load<u32>(merge + ((<usize>slot) << 2));
      while (earlier != 0 && load<u32>(addresses + ((<usize>(earlier - 1)) << 2)) != row) {
        slot = (slot + 1) & mergeMask;
        earlier = load<u32>(merge + ((<usize>slot) << 2));
      }
      if (earlier == 0) {
        store<u32>(merge + ((<usize>slot) << 2), own + 1);
        continue;
      }
      const to = gradients + gradientBytes * <usize>(earlier - 1);
      const from = gradients + gradientBytes * <usize>own;
      for (let at: usize = 0; at < gradientBytes; at += 4) store<f32>(to + at, load<f32>(to + at) + load<f32>(from + at));
      store<u32>(addresses + ((<usize>own) << 2), 0);
    }
  }
  for (let first: u32 = 0; first < count; first += groupMax) {
    const size = count - first < groupMax ? count - first : groupMax;
    for (let i: u32 = 0; i < size; i++) {
      const at = slots + ((<usize>i) << 4);
      const row = <usize>load<u32>(addresses + ((<usize>(first + i)) << 2));
      store<u32>(at, <u32>row);
      if (row == 0) continue;
      const value = values + valueBytes * <usize>i;
      copyPadded(table, value, gradients + gradientBytes * <usize>(first + i));
      if (!allFinite(value, valueBytes)) {
        store<u32>(table, load<u32>(table, 68) + 1, 68);
        store<u32>(at, 0);
        continue;
      }
      const accumulator = accumulatorOf(table, row);
      stepFactors(table, row, accumulator, value);
      stepRest(table, row, accumulator, value);
    }
    commit(table, slots, size, 0, values, 1);
  }
  return refused;
}

/** Sets `count` rows of `dims` numbers; missing keys are inserted, accumulators stay. Returns how many keys were refused. `scratch` as for push. */
export function parametersAssign(table: usize, keys: usize, count: u32, given: usize, scratch: usize): u32 {
  const givenBytes = (<usize>load<u32>(table, 24)) << 2;
  const valueBytes = (<usize>load<u32>(table, 76)) << 2;
  const slots = scratch + slotsAt;
  const values = slots + ((<usize>groupMax) << 4);
  let refused: u32 = 0;
  for (let first: u32 = 0; first < count; first += groupMax) {
    const size = count - first < groupMax ? count - first : groupMax;
    refused += claim(table, keys + ((<usize>first) << 3), size, slots);
    for (let i: u32 = 0; i < size; i++) copyPadded(table, values + valueBytes * <usize>i, given + givenBytes * <usize>(first + i));
    commit(table, slots, size, 0, values, 0);
  }
  return refused;
}

/** Forgets all rows but the oldest `rows`. Writer only. */
export function parametersTruncate(table: usize, rows: u32): void {
  endOrphan(table);
  const slotMask = load<u32>(table, 4);
  const index = table + <usize>load<u32>(table, 8);
  const rowsAt = table + <usize>load<u32>(table, 12);
  const rowBytes = <usize>load<u32>(table, 20);
  for (let count = load<u32>(table, 32); count > rows; count--) {
    const key = load<u64>(rowsAt + rowBytes * <usize>(count - 1), 8);
    let slot = hashOf(table, key, tagOf(table, key)) & slotMask;
    let reference = <u32>(load<u64>(index + ((<usize>slot) << 3)) >> 32);
    while (reference != count && reference != 0) {
      slot = (slot + 1) & slotMask;
      reference = <u32>(load<u64>(index + ((<usize>slot) << 3)) >> 32);
    }
    atomic.store<u64>(index + ((<usize>slot) << 3), 0);
    atomic.store<u32>(table + 32, count - 1);
  }
}

/** 1 when every value and accumulator of every row is finite, else 0. Writer only. */
export function parametersFinite(table: usize): u32 {
  const count = load<u32>(table, 32);
  const bytes = (<usize>load<u32>(table, 76)) << 2;
  const rowBytes = <usize>load<u32>(table, 20);
  let row = table + <usize>load<u32>(table, 12) + rowHead;
  for (let i: u32 = 0; i < count; i++, row += rowBytes) if (!allFinite(row, bytes)) return 0;
  const end = table + <usize>load<u32>(table, 16) + <usize>load<u32>(table, 60) * <usize>count;
  for (let at = table + <usize>load<u32>(table, 16); at < end; at += 4) {
    const x = load<f32>(at);
    if (x - x != 0) return 0;
  }
  return 1;
}
