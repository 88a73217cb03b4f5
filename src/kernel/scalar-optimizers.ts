// The scalar twin of kernels/optimizers.ts: the same calls over the same bytes. Formulae, layout and invariants stand there.
// Invariant: the same bits as the binaries: every product, sum, quotient and root is rounded to f32 where theirs is, in the same order.
// Cost: some 5x the SIMD kernels. Concurrency: as theirs: one thread a table.

import type { KernelCalls } from "./kernel-calls.ts";
import { optimizerKinds, optimizerRowHead, optimizerWord as word } from "./optimizer-layout.ts";
import { mixWord } from "./parameter-key.ts";
import type { WasmMemory } from "./web-assembly.ts";

export type OptimizerCalls = Pick<KernelCalls, "optimizerStep" | "optimizerDrop" | "optimizerIndex">;

const { fround, sqrt } = Math;
const gradientMax = 1e6;
const usesMax = 3;
const inBatch = 128;
const spareAt = 64;

const hashOf = (low: number, high: number): number => mixWord((mixWord(low ^ 0x51ed270b) + ((high ^ 0x2127599b) >>> 0)) | 0);

export function bindScalarOptimizers(memory: WasmMemory): OptimizerCalls {
  const { buffer } = memory;
  const u8 = new Uint8Array(buffer);
  const u32 = new Uint32Array(buffer);
  const f32 = new Float32Array(buffer);
  const u64 = new BigUint64Array(buffer);

  // ---- the table opened last: its header in plain variables ----

  let head = 0;
  let kind: (typeof optimizerKinds)[number] = "sgd";
  let dim = 0;
  let padded = 0;
  let capacity = 0;
  let rowBytes = 0;
  let places = 0;
  let index = 0;
  let uses = 0;
  let rowsAt = 0;

  function open(state: number): void {
    head = state / 4;
    kind = optimizerKinds[u32[head + word.kind]!]!;
    dim = u32[head + word.dim]!;
    padded = u32[head + word.paddedDim]!;
    capacity = u32[head + word.capacityRows]!;
    rowBytes = u32[head + word.rowBytes]!;
    places = u32[head + word.places]!;
    index = (state + u32[head + word.indexFrom]!) / 4;
    uses = state + u32[head + word.usesFrom]!;
    rowsAt = state + u32[head + word.rowsFrom]!;
  }

  const setting = (at: number): number => f32[head + at]!;
  /** Word of a row. */
  const rowAt = (row: number): number => (rowsAt + rowBytes * row) / 4;
  /** hash * places / 2^32, which needs 64 bits: the high half first. */
  const homeOf = (hash: number): number => Math.floor(((hash >>> 16) * places + Math.floor(((hash & 0xffff) * places) / 65_536)) / 65_536);
  const next = (place: number): number => (place + 1 === places ? 0 : place + 1);
  const count = (counter: number): void => void u32[head + counter]!++;

  function find(low: number, high: number, hash: number): number {
    for (let place = homeOf(hash); ; place = next(place)) {
      const row = u32[index + 2 * place + 1]!;
      if (row === 0) return 0;
      if (u32[index + 2 * place] !== hash) continue;
      const at = rowAt(row - 1);
      if (u32[at] === low && u32[at + 1] === high) return row;
    }
  }

  function insert(hash: number, row: number): void {
    let place = homeOf(hash);
    while (u32[index + 2 * place + 1] !== 0) place = next(place);
    u32[index + 2 * place] = hash;
    u32[index + 2 * place + 1] = row + 1;
  }

  function remove(hash: number, row: number): void {
    let hole = homeOf(hash);
    while (u32[index + 2 * hole + 1] !== row + 1) hole = next(hole);
    for (let place = next(hole); u32[index + 2 * place + 1] !== 0; place = next(place)) {
      const home = homeOf(u32[index + 2 * place]!);
      if (hole <= place ? hole < home && home <= place : hole < home || home <= place) continue;
      u32.copyWithin(index + 2 * hole, index + 2 * place, index + 2 * place + 2);
      hole = place;
    }
    u32.fill(0, index + 2 * hole, index + 2 * hole + 2);
  }

  function begin(row: number, low: number, high: number): void {
    const initial = setting(word.initial);
    const state = row + optimizerRowHead / 4;
    u32[row] = low;
    u32[row + 1] = high;
    u32[row + 2] = 0;
    f32[row + 3] = kind === "rowwise-adagrad" ? initial : 0;
    f32.fill(0, state, row + rowBytes / 4);
    if (kind === "adagrad") f32.fill(initial, state, state + padded);
    if (kind === "ftrl" || kind === "group-ftrl") f32.fill(initial, state + padded, state + 2 * padded);
  }

  function claim(low: number, high: number, hash: number, pinned: number): number {
    let row = u32[head + word.rows]!;
    if (row < capacity) u32[head + word.rows] = row + 1;
    else {
      if (pinned >= capacity) return 0;
      row = u32[head + word.hand]!;
      for (;;) {
        const used = u8[uses + row]!;
        if (used === 0) break;
        if (used < inBatch) u8[uses + row] = used - 1;
        row = row + 1 === capacity ? 0 : row + 1;
      }
      u32[head + word.hand] = row + 1 === capacity ? 0 : row + 1;
      count(word.evicted);
      const leaving = rowAt(row);
      remove(hashOf(u32[leaving]!, u32[leaving + 1]!), row);
    }
    begin(rowAt(row), low, high);
    insert(hash, row);
    u8[uses + row] = inBatch;
    return row + 1;
  }

  // ---- sums of four lanes, as the binaries make them ----

  const lanes = new Float32Array(4);
  const sumFour = (): number => fround(fround(lanes[0]! + lanes[1]!) + fround(lanes[2]! + lanes[3]!));

  function sumOfSquares(from: number): number {
    lanes.fill(0);
    for (let i = 0; i < padded; i++) lanes[i & 3] = lanes[i & 3]! + fround(f32[from + i]! * f32[from + i]!);
    return sumFour();
  }

  function allFinite(from: number, numbers: number): boolean {
    for (let i = 0; i < numbers; i++) if (!Number.isFinite(f32[from + i])) return false;
    return true;
  }

  function prepare(g: number, w: number): boolean {
    const decay = setting(word.coupled);
    for (let i = 0; i < padded; i++) f32[g + i] = f32[g + i]! + fround(decay * f32[w + i]!);
    if (!allFinite(g, padded) || !allFinite(w, padded)) return false;
    for (let i = 0; i < padded; i++) f32[g + i] = Math.max(-gradientMax, Math.min(gradientMax, f32[g + i]!));
    return true;
  }

  /** (beta + sqrt n) / alpha + l2, given the root. */
  const divisorOf = (root: number): number => fround(fround(fround(setting(word.beta) + root) / setting(word.rate)) + setting(word.l2));

  function beginFtrl(w: number, z: number, n: number): void {
    const l1 = setting(word.l1);
    for (let i = 0; i < padded; i++) {
      const weight = f32[w + i]!;
      const pull = -fround(weight * divisorOf(fround(sqrt(f32[n + i]!))));
      f32[z + i] = weight === 0 ? 0 : kind === "group-ftrl" ? pull : pull - (weight < 0 ? -l1 : l1);
    }
    if (kind === "ftrl") return;
    const length = fround(sqrt(sumOfSquares(z)));
    if (length === 0) return;
    const scale = fround(fround(length + l1) / length);
    for (let i = 0; i < padded; i++) f32[z + i] = f32[z + i]! * scale;
  }

  function stepFtrl(row: number, g: number, w: number): void {
    const z = row + optimizerRowHead / 4;
    const n = z + padded;
    if (u32[row + 2] === 0) beginFtrl(w, z, n);
    const alpha = setting(word.rate);
    const l1 = setting(word.l1);
    for (let i = 0; i < padded; i++) {
      const gradient = f32[g + i]!;
      const before = f32[n + i]!;
      const after = fround(before + fround(gradient * gradient));
      const root = fround(sqrt(after));
      const sigma = fround(fround(root - fround(sqrt(before))) / alpha);
      const moved = fround(f32[z + i]! + fround(gradient - fround(sigma * f32[w + i]!)));
      f32[n + i] = after;
      f32[z + i] = moved;
      const divisor = divisorOf(root);
      if (kind === "group-ftrl") f32[g + i] = divisor;
      else f32[g + i] = Math.abs(moved) > l1 ? -fround(fround(moved - (moved < 0 ? -l1 : l1)) / divisor) : 0;
    }
    if (kind === "ftrl") return;
    const length = fround(sqrt(sumOfSquares(z)));
    if (length <= l1) f32.fill(0, g, g + padded);
    else {
      const scale = fround(fround(l1 - length) / length);
      for (let i = 0; i < padded; i++) f32[g + i] = fround(f32[z + i]! * scale) / f32[g + i]!;
    }
  }

  function step(row: number, g: number, w: number): void {
    if (kind === "ftrl" || kind === "group-ftrl") {
      stepFtrl(row, g, w);
      return;
    }
    const decay = setting(word.decoupled);
    const epsilon = setting(word.epsilon);
    const first = row + optimizerRowHead / 4;
    const move = (i: number, numerator: number, divisor: number): void => {
      f32[g + i] = fround(-fround(numerator / divisor)) - fround(decay * f32[w + i]!);
    };
    const rate = setting(word.rate);
    if (kind === "adagrad") {
      for (let i = 0; i < padded; i++) {
        const gradient = f32[g + i]!;
        const a = fround(f32[first + i]! + fround(gradient * gradient));
        f32[first + i] = a;
        move(i, fround(rate * gradient), fround(fround(sqrt(a)) + epsilon));
      }
      return;
    }
    if (kind === "adam") {
      const last = u32[head + word.corrections]! - 1;
      const correction = f32[head + u32[head + word.correctionsFrom]! / 4 + Math.min(u32[row + 2]!, last)]!;
      const second = first + padded;
      for (let i = 0; i < padded; i++) {
        const gradient = f32[g + i]!;
        const m = fround(fround(setting(word.beta1) * f32[first + i]!) + fround(setting(word.rest1) * gradient));
        const v = fround(fround(setting(word.beta2) * f32[second + i]!) + fround(setting(word.rest2) * fround(gradient * gradient)));
        f32[first + i] = m;
        f32[second + i] = v;
        move(i, fround(correction * m), fround(fround(sqrt(v)) + epsilon));
      }
      return;
    }
    let divisor = 1;
    if (kind === "rowwise-adagrad") {
      f32[row + 3] = f32[row + 3]! + fround(sumOfSquares(g) / dim);
      divisor = fround(fround(sqrt(f32[row + 3]!)) + epsilon);
    }
    for (let i = 0; i < padded; i++) move(i, fround(rate * f32[g + i]!), divisor);
  }

  return {
    optimizerStep(state, keys, given, gradients, weights, outKeys, out, mergeTable, mergeMask, work) {
      open(state);
      const spare = (work + spareAt) / 4;
      const weight = spare + optimizerRowHead / 4 + 2 * padded;
      const slots = weight + padded;
      const sums = slots + 4 * given;
      const table = mergeTable / 4;
      const keysAt = keys / 8;
      const outAt = outKeys / 8;
      const outWords = outKeys / 4;
      let distinct = 0;
      u32.fill(0, table, table + mergeMask + 1);
      for (let i = 0; i < given; i++) {
        const key = u64[keysAt + i]!;
        const hash = hashOf(u32[2 * (keysAt + i)]!, u32[2 * (keysAt + i) + 1]!);
        let place = (hash & mergeMask) >>> 0;
        while (u32[table + place] !== 0 && u64[outAt + u32[table + place]! - 1] !== key) place = ((place + 1) & mergeMask) >>> 0;
        const from = gradients / 4 + i * dim;
        const earlier = u32[table + place]!;
        if (earlier !== 0) {
          const to = sums + (earlier - 1) * padded;
          for (let j = 0; j < dim; j++) f32[to + j] = f32[to + j]! + f32[from + j]!;
          continue;
        }
        u64[outAt + distinct] = key;
        u32.set([0, hash, i, 0], slots + 4 * distinct);
        f32.copyWithin(sums + distinct * padded, from, from + dim);
        f32.fill(0, sums + distinct * padded + dim, sums + (distinct + 1) * padded);
        u32[table + place] = ++distinct;
      }
      if (capacity > 0) {
        let pinned = 0;
        for (let i = 0; i < distinct; i++) {
          const row = find(u32[outWords + 2 * i]!, u32[outWords + 2 * i + 1]!, u32[slots + 4 * i + 1]!);
          if (row === 0) continue;
          u32[slots + 4 * i] = row;
          u32[slots + 4 * i + 3] = 1;
          u8[uses + row - 1]! |= inBatch;
          pinned++;
        }
        u32[head + word.missed]! += distinct - pinned;
        for (let i = 0; i < distinct; i++) {
          if (u32[slots + 4 * i] !== 0) continue;
          const row = claim(u32[outWords + 2 * i]!, u32[outWords + 2 * i + 1]!, u32[slots + 4 * i + 1]!, pinned);
          u32[slots + 4 * i] = row;
          if (row !== 0) pinned++;
        }
      }
      f32.fill(0, weight, weight + padded);
      let done = 0;
      for (let i = 0; i < distinct; i++) {
        const [found, , first, wasThere] = u32.subarray(slots + 4 * i, slots + 4 * i + 4) as unknown as [number, number, number, number];
        const low = u32[outWords + 2 * i]!;
        const high = u32[outWords + 2 * i + 1]!;
        const g = sums + i * padded;
        const row = found !== 0 ? rowAt(found - 1) : spare;
        if (found !== 0) {
          const used = u8[uses + found - 1]! & (inBatch - 1);
          u8[uses + found - 1] = used < usesMax ? used + wasThere : used;
        } else if (capacity > 0) {
          begin(spare, low, high);
          count(word.unkept);
        }
        if (weights !== 0) f32.copyWithin(weight, weights / 4 + first * dim, weights / 4 + (first + 1) * dim);
        if (!prepare(g, weight)) {
          count(word.skipped);
          continue;
        }
        step(row, g, weight);
        if (!allFinite(g, padded)) {
          count(word.skipped);
          if (capacity > 0) begin(row, low, high);
          continue;
        }
        if (capacity > 0 && u32[row + 2]! !== 0xffff_ffff) u32[row + 2]!++;
        u64[outAt + done] = u64[outAt + i]!;
        f32.copyWithin(out / 4 + done * dim, g, g + dim);
        done++;
      }
      return done;
    },

    optimizerDrop(state, keys, given) {
      open(state);
      let dropped = 0;
      for (let i = 0; i < given; i++) {
        const low = u32[keys / 4 + 2 * i]!;
        const high = u32[keys / 4 + 2 * i + 1]!;
        const hash = hashOf(low, high);
        const found = find(low, high, hash);
        if (found === 0) continue;
        dropped++;
        remove(hash, found - 1);
        const last = u32[head + word.rows]! - 1;
        u32[head + word.rows] = last;
        if (last === found - 1) continue;
        const from = rowAt(last);
        let place = homeOf(hashOf(u32[from]!, u32[from + 1]!));
        while (u32[index + 2 * place + 1] !== last + 1) place = next(place);
        u32[index + 2 * place + 1] = found;
        u32.copyWithin(rowAt(found - 1), from, from + rowBytes / 4);
        u8[uses + found - 1] = u8[uses + last]!;
      }
      return dropped;
    },

    optimizerIndex(state) {
      open(state);
      u32.fill(0, index, index + 2 * places);
      const rows = u32[head + word.rows]!;
      for (let row = 0; row < rows; row++) insert(hashOf(u32[rowAt(row)]!, u32[rowAt(row) + 1]!), row);
    },
  };
}
