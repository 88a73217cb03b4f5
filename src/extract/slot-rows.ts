// Rows of slots: what the extractor writes and the models read. A slot is a 64-bit key and a number x.
// Layout: slots of row r stand at [offsets[r], offsets[r + 1]); of these [offsets[r], linearEnds[r]) are linear-only (a weight, no factors), the rest are full.
// Keys take two u32 each, low half first: slot s is keys[2 s], keys[2 s + 1], weights[s].
// Why flat arrays: a batch of 400 candidates is four arrays for the kernels and no object per row; full slots of the open row wait aside until it is closed,
// so that a writer needs no second pass to put the linear ones first.
// Invariants: 1. offsets[0] = 0 and offsets and linearEnds never fall  2. arrays may be longer than used, only `rows` rows are valid
// 3. a writer never puts a key twice into a row: fields differ in their keys, `sum...` merges within a field (two values whose 64-bit hashes agree count as one).
// Cost: 12 bytes a slot, 8 a row; arrays double when full and are kept over `clear`.
// Concurrency: one thread. What another thread is to read is copied out.
// Limits: none of its own; the extractor bounds the slots of a row, callers the rows.

export class SlotRows {
  /** Closed rows. */
  rows = 0;
  /** rows + 1 values. */
  offsets: Uint32Array;
  /** rows values. */
  linearEnds: Uint32Array;
  /** Two a slot: low, high. */
  keys: Uint32Array;
  weights: Float32Array;
  /** Slots of closed rows and linear-only ones of the open row. */
  #end = 0;
  #waitingKeys: Uint32Array;
  #waitingWeights: Float32Array;
  #waiting = 0;

  /** Room to begin with; all of it grows. */
  constructor(rows = 16, slotsPerRow = 32) {
    this.offsets = new Uint32Array(rows + 1);
    this.linearEnds = new Uint32Array(rows);
    this.keys = new Uint32Array(rows * slotsPerRow * 2);
    this.weights = new Float32Array(rows * slotsPerRow);
    this.#waitingKeys = new Uint32Array(slotsPerRow * 2);
    this.#waitingWeights = new Float32Array(slotsPerRow);
  }

  /** Slots of all closed rows. */
  get slots(): number {
    return this.offsets[this.rows]!;
  }

  /** Forgets all rows, the open one too; keeps the arrays. */
  clear(): void {
    this.rows = 0;
    this.#end = 0;
    this.#waiting = 0;
  }

  /** Forgets what was put into the open row. */
  dropRow(): void {
    this.#end = this.offsets[this.rows]!;
    this.#waiting = 0;
  }

  /** Place of the next linear-only slot: the mark that `sumLinear` merges from. */
  get linearMark(): number {
    return this.#end;
  }

  /** Place of the next full slot of the open row: the mark that `sumFull` merges from. */
  get fullMark(): number {
    return this.#waiting;
  }

  /** A linear-only slot of the open row. */
  addLinear(low: number, high: number, weight: number): void {
    const at = this.#end;
    if (at === this.weights.length) this.#growSlots(at + 1);
    this.keys[2 * at] = low;
    this.keys[2 * at + 1] = high;
    this.weights[at] = weight;
    this.#end = at + 1;
  }

  /** A full slot of the open row. */
  addFull(low: number, high: number, weight: number): void {
    const at = this.#waiting;
    if (at === this.#waitingWeights.length) this.#growWaiting(at + 1);
    this.#waitingKeys[2 * at] = low;
    this.#waitingKeys[2 * at + 1] = high;
    this.#waitingWeights[at] = weight;
    this.#waiting = at + 1;
  }

  /** As `addLinear`; when the key stands at or behind `mark` already, its number rises instead. */
  sumLinear(mark: number, low: number, high: number, weight: number): void {
    const { keys } = this;
    for (let at = mark; at < this.#end; at += 1) {
      if (keys[2 * at] === low >>> 0 && keys[2 * at + 1] === high >>> 0) {
        this.weights[at]! += weight;
        return;
      }
    }
    this.addLinear(low, high, weight);
  }

  /** As `addFull`; when the key stands at or behind `mark` already, its number rises instead. */
  sumFull(mark: number, low: number, high: number, weight: number): void {
    const keys = this.#waitingKeys;
    for (let at = mark; at < this.#waiting; at += 1) {
      if (keys[2 * at] === low >>> 0 && keys[2 * at + 1] === high >>> 0) {
        this.#waitingWeights[at]! += weight;
        return;
      }
    }
    this.addFull(low, high, weight);
  }

  /** `count` slots of other arrays into the open row, the first `linear` of them linear-only: keys from word `keysAt` on, numbers from `weightsAt` on. */
  copySlots(keys: Uint32Array, keysAt: number, weights: Float32Array, weightsAt: number, linear: number, count: number): void {
    const at = this.#end;
    const end = at + linear;
    if (end > this.weights.length) this.#growSlots(end);
    for (let slot = 0, into = at; slot < linear; slot += 1, into += 1) {
      this.keys[2 * into] = keys[keysAt + 2 * slot]!;
      this.keys[2 * into + 1] = keys[keysAt + 2 * slot + 1]!;
      this.weights[into] = weights[weightsAt + slot]!;
    }
    this.#end = end;
    const waiting = this.#waiting + count - linear;
    if (waiting > this.#waitingWeights.length) this.#growWaiting(waiting);
    for (let slot = linear, into = this.#waiting; slot < count; slot += 1, into += 1) {
      this.#waitingKeys[2 * into] = keys[keysAt + 2 * slot]!;
      this.#waitingKeys[2 * into + 1] = keys[keysAt + 2 * slot + 1]!;
      this.#waitingWeights[into] = weights[weightsAt + slot]!;
    }
    this.#waiting = waiting;
  }

  /** All slots of a row of `source`, into the open row. */
  copyRow(source: SlotRows, row: number): void {
    const from = source.offsets[row]!;
    this.copySlots(source.keys, 2 * from, source.weights, from, source.linearEnds[row]! - from, source.offsets[row + 1]! - from);
  }

  /** Closes the open row; one without slots is a row too. Returns its number. */
  endRow(): number {
    const row = this.rows;
    if (row === this.linearEnds.length) this.#growRows();
    const linearEnd = this.#end;
    const end = linearEnd + this.#waiting;
    if (end > this.weights.length) this.#growSlots(end);
    const { keys, weights } = this;
    const waitingKeys = this.#waitingKeys;
    const waitingWeights = this.#waitingWeights;
    for (let at = linearEnd, slot = 0; at < end; at += 1, slot += 1) {
      keys[2 * at] = waitingKeys[2 * slot]!;
      keys[2 * at + 1] = waitingKeys[2 * slot + 1]!;
      weights[at] = waitingWeights[slot]!;
    }
    this.#waiting = 0;
    this.#end = end;
    this.linearEnds[row] = linearEnd;
    this.offsets[row + 1] = end;
    this.rows = row + 1;
    return row;
  }

  #growRows(): void {
    const rows = Math.max(16, this.linearEnds.length * 2);
    const offsets = new Uint32Array(rows + 1);
    offsets.set(this.offsets);
    this.offsets = offsets;
    const linearEnds = new Uint32Array(rows);
    linearEnds.set(this.linearEnds);
    this.linearEnds = linearEnds;
  }

  #growSlots(least: number): void {
    const slots = Math.max(32, this.weights.length * 2, least);
    const keys = new Uint32Array(slots * 2);
    keys.set(this.keys);
    this.keys = keys;
    const weights = new Float32Array(slots);
    weights.set(this.weights);
    this.weights = weights;
  }

  #growWaiting(least: number): void {
    const slots = Math.max(16, this.#waitingWeights.length * 2, least);
    const keys = new Uint32Array(slots * 2);
    keys.set(this.#waitingKeys);
    this.#waitingKeys = keys;
    const weights = new Float32Array(slots);
    weights.set(this.#waitingWeights);
    this.#waitingWeights = weights;
  }
}
