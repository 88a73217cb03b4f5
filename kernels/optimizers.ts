// Optimizer steps of sparse rows, with their state in a bounded table: SGD, AdaGrad, row-wise AdaGrad, lazy Adam, FTRL-proximal, group FTRL.
// A step takes the gradients of one minibatch, adds up those of one key, and gives what the server shall do with each row: add so much, or (FTRL) set it to that.
//
// Layout, relative to the table's address (64-byte aligned); written by src/kernel/optimizer-layout.ts:
//   +0 u32 "OPS1"   +4 u32 kind   +8 u32 dim   +12 u32 paddedDim   +16 u32 capacityRows (0: SGD, which has no state)   +20 u32 rows   +24 u32 hand
//   +28 u32 rowBytes   +32 u32 places of the index   +36 u32 indexFrom   +40 u32 usesFrom   +44 u32 rowsFrom   +48 u32 correctionsFrom   +52 u32 corrections
//   +56 f32 initial (AdaGrad's a0, FTRL's n0)   +60 f32 rate (FTRL: alpha)   +64 f32 beta1   +68 f32 1 - beta1   +72 f32 beta2   +76 f32 1 - beta2   +80 f32 epsilon
//   +84 f32 coupled decay   +88 f32 decoupled decay times rate   +92 f32 l1   +96 f32 l2   +100 f32 beta (FTRL)
//   +104 u32 evicted   +108 u32 skipped   +112 u32 unkept   +116 u32 missed   up to +128 zeros
//   corrections (Adam): f32 each, rate sqrt(1 - beta2^t) / (1 - beta1^t) for t = 1, 2, ... until it is the rate
//   uses: u8 a row: 0 to 3, + 128 while the row is part of the batch under way
//   index: u64 a place = hash (low 32) and row + 1 (high 32), 0 = empty; open addressing from place hash * places >> 32 on
//   rows: u64 key, u32 steps t, f32 a (row-wise AdaGrad), then f32[paddedDim]: AdaGrad a; Adam m, v; FTRL z, n. Zeros (of AdaGrad and FTRL's n: initial) behind dim.
// Eviction: a hand goes round; a row that it finds unused leaves, the others lose one use. A row has one use more after each step on it, three at most.
//
// Formulae, a coordinate each, g the sum of the key's gradients + coupled decay * w, bounded to +-1e6 (McMahan et al., KDD 2013; Duchi et al., JMLR 2011;
// Kingma and Ba, ICLR 2015; Ni et al., arXiv 2107.14432, without its scaling of l1 by the root of dim):
//   SGD                 - rate g
//   AdaGrad             a += g^2; - rate g / (sqrt(a) + eps)
//   row-wise AdaGrad    a += mean of g^2; - rate g / (sqrt(a) + eps)
//   lazy Adam           t += 1; m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2; - correction(t) m / (sqrt(v) + eps); t is the row's own
//   FTRL                n' = n + g^2; z += g - (sqrt(n') - sqrt(n)) / alpha w; w' = 0 where |z| <= l1, else - (z - sign(z) l1) / D, D = (beta + sqrt(n')) / alpha + l2
//   group FTRL          the same with Z = |z|: w' = 0 for the whole row where Z <= l1, else z (l1 - Z) / Z / D
//   - decoupled decay: rate * decay * w on top of the first four
// A row of FTRL that has no state begins with the z that gives its w: z = - w D - sign(w) l1, group FTRL z = - w D (|w D| + l1) / |w D|. Else its first step would forget w.
//
// Invariants: 1. no fused multiply-add and a fixed order of every sum: all variants and the scalar twin give the same bits
//             2. no row of the batch under way is evicted by it; keys beyond the capacity step with new state that is not kept (`unkept`)
//             3. a key with a gradient or a weight that is not finite makes no step; a result that is not finite is not handed out and its state begins anew (both: `skipped`)
//             4. index places are 1.4 times the rows, so a probe ends.

import { allFinite, copyNumbers, sumFour } from "./row-numbers";
import { mixWord } from "./word-mix";

const adagrad: u32 = 1;
const rowwise: u32 = 2;
const adam: u32 = 3;
const ftrl: u32 = 4;
const groupFtrl: u32 = 5;

const rowHead: usize = 16;
const spareAt: usize = 64;
const gradientMax: f32 = 1e6;
const usesMax: u32 = 3;
const inBatch: u32 = 128;

function hashOf(key: u64): u32 {
  return mixWord(mixWord((<u32>key) ^ 0x51ed270b) + ((<u32>(key >> 32)) ^ 0x2127599b));
}

function rowAt(state: usize, row: u32): usize {
  return state + <usize>load<u32>(state, 44) + <usize>load<u32>(state, 28) * <usize>row;
}

function homeOf(hash: u32, places: u32): u32 {
  return <u32>((<u64>hash * <u64>places) >> 32);
}

/** Row + 1 of a key, or 0. */
function find(state: usize, key: u64, hash: u32): u32 {
  const places = load<u32>(state, 32);
  const index = state + <usize>load<u32>(state, 36);
  let place = homeOf(hash, places);
  while (true) {
    const entry = load<u64>(index + ((<usize>place) << 3));
    if (entry == 0) return 0;
    const row = <u32>(entry >> 32);
    if (<u32>entry == hash && load<u64>(rowAt(state, row - 1)) == key) return row;
    if (++place == places) place = 0;
  }
}

function insert(state: usize, hash: u32, row: u32): void {
  const places = load<u32>(state, 32);
  const index = state + <usize>load<u32>(state, 36);
  let place = homeOf(hash, places);
  while (load<u64>(index + ((<usize>place) << 3)) != 0) if (++place == places) place = 0;
  store<u64>(index + ((<usize>place) << 3), ((<u64>(row + 1)) << 32) | (<u64>hash));
}

/** Takes a row out of the index and closes the gap: later entries of the probe move up (Knuth, TAOCP 3, 6.4, algorithm R). */
function remove(state: usize, hash: u32, row: u32): void {
  const places = load<u32>(state, 32);
  const index = state + <usize>load<u32>(state, 36);
  let hole = homeOf(hash, places);
  while (<u32>(load<u64>(index + ((<usize>hole) << 3)) >> 32) != row + 1) if (++hole == places) hole = 0;
  let place = hole;
  while (true) {
    if (++place == places) place = 0;
    const entry = load<u64>(index + ((<usize>place) << 3));
    if (entry == 0) break;
    const home = homeOf(<u32>entry, places);
    // It may stay when its home lies cyclically behind the hole.
    if (hole <= place ? hole < home && home <= place : hole < home || home <= place) continue;
    store<u64>(index + ((<usize>hole) << 3), entry);
    hole = place;
  }
  store<u64>(index + ((<usize>hole) << 3), 0);
}

/** State of a key that has none. */
function begin(state: usize, row: usize, key: u64): void {
  const kind = load<u32>(state, 4);
  const bytes = (<usize>load<u32>(state, 12)) << 2;
  const initial = load<f32>(state, 56);
  store<u64>(row, key);
  store<u32>(row, 0, 8);
  store<f32>(row, kind == rowwise ? initial : 0, 12);
  memory.fill(row + rowHead, 0, <usize>load<u32>(state, 28) - rowHead);
  if (kind != adagrad && kind != ftrl && kind != groupFtrl) return;
  const from = kind == adagrad ? row + rowHead : row + rowHead + bytes;
  for (let at: usize = 0; at < bytes; at += 16) v128.store(from + at, f32x4.splat(initial));
}

/** A row to begin, free or taken from the coldest; all rows of the batch, `pinned`, stay. Returns row + 1, 0 when there is none. */
function claim(state: usize, key: u64, hash: u32, pinned: u32): u32 {
  const capacity = load<u32>(state, 16);
  const uses = state + <usize>load<u32>(state, 40);
  let row = load<u32>(state, 20);
  if (row < capacity) store<u32>(state, row + 1, 20);
  else {
    if (pinned >= capacity) return 0;
    row = load<u32>(state, 24);
    while (true) {
      const used = <u32>load<u8>(uses + <usize>row);
      if (used == 0) break;
      if (used < inBatch) store<u8>(uses + <usize>row, <u8>(used - 1));
      if (++row == capacity) row = 0;
    }
    store<u32>(state, row + 1 == capacity ? 0 : row + 1, 24);
    store<u32>(state, load<u32>(state, 104) + 1, 104);
    remove(state, hashOf(load<u64>(rowAt(state, row))), row);
  }
  begin(state, rowAt(state, row), key);
  insert(state, hash, row);
  store<u8>(uses + <usize>row, <u8>inBatch);
  return row + 1;
}

/** Copies a row of `dim` numbers to a padded place, zeros behind. */
function copyPadded(to: usize, from: usize, dim: u32, bytes: usize): void {
  v128.store(to + bytes - 16, i32x4.splat(0));
  copyNumbers(to, from, dim);
}

function addNumbers(to: usize, from: usize, dim: u32): void {
  const bytes = (<usize>dim) << 2;
  let at: usize = 0;
  for (; at + 16 <= bytes; at += 16) v128.store(to + at, f32x4.add(v128.load(to + at), v128.load(from + at)));
  for (; at < bytes; at += 4) store<f32>(to + at, load<f32>(to + at) + load<f32>(from + at));
}

/** Distinct keys to `outKeys` in order of first appearance, the sums of their gradients, and 16 bytes a key to `slots`: u32 0, hash, first appearance, 0. */
function merge(keys: usize, count: u32, gradients: usize, dim: u32, sumBytes: usize, outKeys: usize, slots: usize, sums: usize, table: usize, mask: u32): u32 {
  const gradientBytes = (<usize>dim) << 2;
  let distinct: u32 = 0;
  memory.fill(table, 0, (<usize>mask + 1) << 2);
  for (let i: u32 = 0; i < count; i++) {
    const key = load<u64>(keys + ((<usize>i) << 3));
    const hash = hashOf(key);
    let place = hash & mask;
    let entry = load<u32>(table + ((<usize>place) << 2));
    while (entry != 0 && load<u64>(outKeys + ((<usize>(entry - 1)) << 3)) != key) {
      place = (place + 1) & mask;
      entry = load<u32>(table + ((<usize>place) << 2));
    }
    const from = gradients + gradientBytes * <usize>i;
    if (entry != 0) {
      addNumbers(sums + sumBytes * <usize>(entry - 1), from, dim);
      continue;
    }
    const slot = slots + ((<usize>distinct) << 4);
    store<u64>(outKeys + ((<usize>distinct) << 3), key);
    store<u32>(slot, 0);
    store<u32>(slot, hash, 4);
    store<u32>(slot, i, 8);
    store<u32>(slot, 0, 12);
    copyPadded(sums + sumBytes * <usize>distinct, from, dim, sumBytes);
    distinct += 1;
    store<u32>(table + ((<usize>place) << 2), distinct);
  }
  return distinct;
}

/** Reads one word of each key's line of the index, so that the lines are on their way; nothing else in the loop. */
function touchIndex(index: usize, places: u32, slots: usize, end: usize): u32 {
  let seen: u32 = 0;
  for (let at = slots; at < end; at += 16) seen |= load<u32>(index + ((<usize>homeOf(load<u32>(at, 4), places)) << 3));
  return seen;
}

/** The same for all lines of the rows found. */
function touchRows(state: usize, rowBytes: usize, slots: usize, end: usize): u32 {
  let seen: u32 = 0;
  for (let at = slots; at < end; at += 16) {
    const found = load<u32>(at);
    if (found == 0) continue;
    const row = rowAt(state, found - 1);
    for (let further: usize = 0; further < rowBytes; further += 64) seen |= load<u32>(row + further);
  }
  return seen;
}

/** Finds or begins the row of each key: row + 1 to the slot's first word, 1 to its last when it was there. */
function locate(state: usize, keys: usize, distinct: u32, slots: usize, work: usize): void {
  const places = load<u32>(state, 32);
  const index = state + <usize>load<u32>(state, 36);
  const uses = state + <usize>load<u32>(state, 40);
  const end = slots + ((<usize>distinct) << 4);
  let seen = touchIndex(index, places, slots, end);
  for (let at = slots; at < end; at += 16) {
    const hash = load<u32>(at, 4);
    let place = homeOf(hash, places);
    let entry = load<u64>(index + ((<usize>place) << 3));
    while (entry != 0 && <u32>entry != hash) {
      if (++place == places) place = 0;
      entry = load<u64>(index + ((<usize>place) << 3));
    }
    store<u32>(at, <u32>(entry >> 32));
  }
  seen |= touchRows(state, <usize>load<u32>(state, 28), slots, end);
  // Stored, or the optimizer would drop the reading.
  store<u32>(work, seen);
  let pinned: u32 = 0;
  for (let i: u32 = 0; i < distinct; i++) {
    const at = slots + ((<usize>i) << 4);
    let found = load<u32>(at);
    if (found == 0) continue;
    const key = load<u64>(keys + ((<usize>i) << 3));
    if (load<u64>(rowAt(state, found - 1)) != key) {
      found = find(state, key, load<u32>(at, 4));
      store<u32>(at, found);
      if (found == 0) continue;
    }
    store<u32>(at, 1, 12);
    store<u8>(uses + <usize>(found - 1), <u8>((<u32>load<u8>(uses + <usize>(found - 1))) | inBatch));
    pinned += 1;
  }
  store<u32>(state, load<u32>(state, 116) + (distinct - pinned), 116);
  // Only now: an eviction for one key of the batch must not take the row of another.
  for (let i: u32 = 0; i < distinct; i++) {
    const at = slots + ((<usize>i) << 4);
    if (load<u32>(at) != 0) continue;
    const row = claim(state, load<u64>(keys + ((<usize>i) << 3)), load<u32>(at, 4), pinned);
    store<u32>(at, row);
    if (row != 0) pinned += 1;
  }
}

/** Adds the coupled decay and bounds; false when a gradient or a weight is not finite. */
function prepare(state: usize, g: usize, w: usize, bytes: usize): bool {
  const decay = f32x4.splat(load<f32>(state, 84));
  const most = f32x4.splat(gradientMax);
  const least = f32x4.splat(-gradientMax);
  let differences = f32x4.splat(0);
  for (let at: usize = 0; at < bytes; at += 16) {
    const weight = v128.load(w + at);
    const sum = f32x4.add(v128.load(g + at), f32x4.mul(decay, weight));
    // x - x is 0 for finite numbers alone.
    differences = f32x4.add(differences, f32x4.add(f32x4.sub(sum, sum), f32x4.sub(weight, weight)));
    v128.store(g + at, f32x4.max(f32x4.min(sum, most), least));
  }
  return sumFour(differences) == 0;
}

function sumOfSquares(from: usize, bytes: usize): f32 {
  let squares = f32x4.splat(0);
  for (let at: usize = 0; at < bytes; at += 16) {
    const x = v128.load(from + at);
    squares = f32x4.add(squares, f32x4.mul(x, x));
  }
  return sumFour(squares);
}

/** The z that gives the weights of a row without state. */
function beginFtrl(state: usize, w: usize, z: usize, n: usize, bytes: usize, grouped: bool): void {
  const alpha = f32x4.splat(load<f32>(state, 60));
  const beta = f32x4.splat(load<f32>(state, 100));
  const l1 = load<f32>(state, 92);
  const l2 = f32x4.splat(load<f32>(state, 96));
  const sign = i32x4.splat(0x80000000);
  const zero = f32x4.splat(0);
  for (let at: usize = 0; at < bytes; at += 16) {
    const weight = v128.load(w + at);
    const divisor = f32x4.add(f32x4.div(f32x4.add(beta, f32x4.sqrt(v128.load(n + at))), alpha), l2);
    const pull = f32x4.neg(f32x4.mul(weight, divisor));
    const all = grouped ? pull : f32x4.sub(pull, v128.or(f32x4.splat(l1), v128.and(weight, sign)));
    v128.store(z + at, v128.and(all, f32x4.ne(weight, zero)));
  }
  if (!grouped) return;
  const length = sqrt<f32>(sumOfSquares(z, bytes));
  if (length == 0) return;
  const scale = f32x4.splat((length + l1) / length);
  for (let at: usize = 0; at < bytes; at += 16) v128.store(z + at, f32x4.mul(v128.load(z + at), scale));
}

function stepFtrl(state: usize, row: usize, g: usize, w: usize, bytes: usize, grouped: bool): void {
  const z = row + rowHead;
  const n = z + bytes;
  if (load<u32>(row, 8) == 0) beginFtrl(state, w, z, n, bytes, grouped);
  const alpha = f32x4.splat(load<f32>(state, 60));
  const beta = f32x4.splat(load<f32>(state, 100));
  const l1 = load<f32>(state, 92);
  const l2 = f32x4.splat(load<f32>(state, 96));
  const sign = i32x4.splat(0x80000000);
  for (let at: usize = 0; at < bytes; at += 16) {
    const gradient = v128.load(g + at);
    const before = v128.load(n + at);
    const after = f32x4.add(before, f32x4.mul(gradient, gradient));
    const root = f32x4.sqrt(after);
    const sigma = f32x4.div(f32x4.sub(root, f32x4.sqrt(before)), alpha);
    const moved = f32x4.add(v128.load(z + at), f32x4.sub(gradient, f32x4.mul(sigma, v128.load(w + at))));
    v128.store(n + at, after);
    v128.store(z + at, moved);
    const divisor = f32x4.add(f32x4.div(f32x4.add(beta, root), alpha), l2);
    if (grouped) {
      v128.store(g + at, divisor);
      continue;
    }
    const beyond = f32x4.sub(moved, v128.or(f32x4.splat(l1), v128.and(moved, sign)));
    v128.store(g + at, v128.and(f32x4.neg(f32x4.div(beyond, divisor)), f32x4.gt(f32x4.abs(moved), f32x4.splat(l1))));
  }
  if (!grouped) return;
  const length = sqrt<f32>(sumOfSquares(z, bytes));
  const keep = !(length <= l1);
  const scale = f32x4.splat(keep ? (l1 - length) / length : 0);
  for (let at: usize = 0; at < bytes; at += 16) {
    v128.store(g + at, keep ? f32x4.div(f32x4.mul(v128.load(z + at), scale), v128.load(g + at)) : f32x4.splat(0));
  }
}

/** Replaces the gradient at `g` by what the server shall do: add it, or set it (FTRL). */
function step(state: usize, kind: u32, row: usize, g: usize, w: usize, bytes: usize): void {
  if (kind >= ftrl) {
    stepFtrl(state, row, g, w, bytes, kind == groupFtrl);
    return;
  }
  const decay = f32x4.splat(load<f32>(state, 88));
  const epsilon = f32x4.splat(load<f32>(state, 80));
  const rate = f32x4.splat(load<f32>(state, 60));
  const first = row + rowHead;
  if (kind == adagrad) {
    for (let at: usize = 0; at < bytes; at += 16) {
      const gradient = v128.load(g + at);
      const a = f32x4.add(v128.load(first + at), f32x4.mul(gradient, gradient));
      v128.store(first + at, a);
      const move = f32x4.neg(f32x4.div(f32x4.mul(rate, gradient), f32x4.add(f32x4.sqrt(a), epsilon)));
      v128.store(g + at, f32x4.sub(move, f32x4.mul(decay, v128.load(w + at))));
    }
    return;
  }
  if (kind == adam) {
    const beta1 = f32x4.splat(load<f32>(state, 64));
    const rest1 = f32x4.splat(load<f32>(state, 68));
    const beta2 = f32x4.splat(load<f32>(state, 72));
    const rest2 = f32x4.splat(load<f32>(state, 76));
    const last = load<u32>(state, 52) - 1;
    const t = load<u32>(row, 8);
    const correction = v128.load32_splat(state + <usize>load<u32>(state, 48) + ((<usize>(t < last ? t : last)) << 2));
    for (let at: usize = 0; at < bytes; at += 16) {
      const gradient = v128.load(g + at);
      const m = f32x4.add(f32x4.mul(beta1, v128.load(first + at)), f32x4.mul(rest1, gradient));
      const v = f32x4.add(f32x4.mul(beta2, v128.load(first + bytes + at)), f32x4.mul(rest2, f32x4.mul(gradient, gradient)));
      v128.store(first + at, m);
      v128.store(first + bytes + at, v);
      const move = f32x4.neg(f32x4.div(f32x4.mul(correction, m), f32x4.add(f32x4.sqrt(v), epsilon)));
      v128.store(g + at, f32x4.sub(move, f32x4.mul(decay, v128.load(w + at))));
    }
    return;
  }
  let divisor: f32 = 1;
  if (kind == rowwise) {
    const a = load<f32>(row, 12) + sumOfSquares(g, bytes) / <f32>load<u32>(state, 8);
    store<f32>(row, a, 12);
    divisor = sqrt<f32>(a) + load<f32>(state, 80);
  }
  const divisors = f32x4.splat(divisor);
  for (let at: usize = 0; at < bytes; at += 16) {
    const move = f32x4.neg(f32x4.div(f32x4.mul(rate, v128.load(g + at)), divisors));
    v128.store(g + at, f32x4.sub(move, f32x4.mul(decay, v128.load(w + at))));
  }
}

/**
 * One step a distinct key of a minibatch. `keys`: u64 each; `gradients` and `weights` (the rows as pulled, 0: none, only without decay and FTRL): dim f32 a key; of
 * equal keys the first's weights count. `outKeys`, `out`: room for as many; returns how many keys stand there, in order of first appearance, those that made no
 * step left out. `merge`: mergeMask + 1 words, a power of two >= 2 count. `work`: optimizerWorkBytes (src/kernel/optimizer-layout.ts).
 */
export function optimizerStep(
  state: usize,
  keys: usize,
  count: u32,
  gradients: usize,
  weights: usize,
  outKeys: usize,
  out: usize,
  mergeTable: usize,
  mergeMask: u32,
  work: usize,
): u32 {
  const kind = load<u32>(state, 4);
  const dim = load<u32>(state, 8);
  const bytes = (<usize>load<u32>(state, 12)) << 2;
  const gradientBytes = (<usize>dim) << 2;
  const isKept = load<u32>(state, 16) != 0;
  const uses = state + <usize>load<u32>(state, 40);
  const spare = work + spareAt;
  const weight = spare + rowHead + 2 * bytes;
  const slots = weight + bytes;
  const sums = slots + ((<usize>count) << 4);
  const distinct = merge(keys, count, gradients, dim, bytes, outKeys, slots, sums, mergeTable, mergeMask);
  if (isKept) locate(state, outKeys, distinct, slots, work);
  memory.fill(weight, 0, bytes);
  let done: u32 = 0;
  for (let i: u32 = 0; i < distinct; i++) {
    const slot = slots + ((<usize>i) << 4);
    const key = load<u64>(outKeys + ((<usize>i) << 3));
    const g = sums + bytes * <usize>i;
    const found = load<u32>(slot);
    const row = found != 0 ? rowAt(state, found - 1) : spare;
    if (found != 0) {
      const used = (<u32>load<u8>(uses + <usize>(found - 1))) & (inBatch - 1);
      store<u8>(uses + <usize>(found - 1), <u8>(used < usesMax ? used + load<u32>(slot, 12) : used));
    } else if (isKept) {
      begin(state, spare, key);
      store<u32>(state, load<u32>(state, 112) + 1, 112);
    }
    if (weights != 0) copyPadded(weight, weights + gradientBytes * <usize>load<u32>(slot, 8), dim, bytes);
    if (!prepare(state, g, weight, bytes)) {
      store<u32>(state, load<u32>(state, 108) + 1, 108);
      continue;
    }
    step(state, kind, row, g, weight, bytes);
    if (!allFinite(g, bytes)) {
      store<u32>(state, load<u32>(state, 108) + 1, 108);
      if (isKept) begin(state, row, key);
      continue;
    }
    if (isKept) {
      const t = load<u32>(row, 8);
      if (t != 0xffffffff) store<u32>(row, t + 1, 8);
    }
    store<u64>(outKeys + ((<usize>done) << 3), key);
    copyNumbers(out + gradientBytes * <usize>done, g, dim);
    done += 1;
  }
  return done;
}

/** Builds the index of rows that were copied in. */
export function optimizerIndex(state: usize): void {
  const rows = load<u32>(state, 20);
  memory.fill(state + <usize>load<u32>(state, 36), 0, (<usize>load<u32>(state, 32)) << 3);
  for (let row: u32 = 0; row < rows; row++) insert(state, hashOf(load<u64>(rowAt(state, row))), row);
}

/** Forgets the state of keys, as of rows that the server deleted; returns how many had any. The last row takes the place of one that leaves. */
export function optimizerDrop(state: usize, keys: usize, count: u32): u32 {
  const places = load<u32>(state, 32);
  const index = state + <usize>load<u32>(state, 36);
  const uses = state + <usize>load<u32>(state, 40);
  const rowBytes = <usize>load<u32>(state, 28);
  let dropped: u32 = 0;
  for (let i: u32 = 0; i < count; i++) {
    const key = load<u64>(keys + ((<usize>i) << 3));
    const hash = hashOf(key);
    const found = find(state, key, hash);
    if (found == 0) continue;
    dropped += 1;
    remove(state, hash, found - 1);
    const last = load<u32>(state, 20) - 1;
    store<u32>(state, last, 20);
    if (last == found - 1) continue;
    const from = rowAt(state, last);
    const moved = hashOf(load<u64>(from));
    let place = homeOf(moved, places);
    while (<u32>(load<u64>(index + ((<usize>place) << 3)) >> 32) != last + 1) if (++place == places) place = 0;
    store<u64>(index + ((<usize>place) << 3), ((<u64>found) << 32) | (<u64>moved));
    memory.copy(rowAt(state, found - 1), from, rowBytes);
    store<u8>(uses + <usize>(found - 1), load<u8>(uses + <usize>last));
  }
  return dropped;
}
