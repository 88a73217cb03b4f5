// The optimizer of a worker: gradients of a minibatch in, what the server shall do with each row out. Its state lives here, not on the server, which keeps weights, versions
// and touches alone: a third of the floats of Adam beside the weights (docs/design/optimizers.md). Kernel, layout and formulae: kernels/optimizers.ts.
// Invariants: 1. one step a distinct key of a batch, of the sum of its gradients  2. state that was dropped (eviction, restart) is as state that never was: t = 0, zeros;
//             FTRL goes on from the weights it is given  3. equal calls in equal order give equal bits, on every kernel variant and across save and load
//             4. by owner, a batch with a key of another worker is refused before anything is changed
//             5. what is not finite makes no step and no state (`skipped`): nothing poisons a row
//             6. a key whose row the server did not have when it was pulled begins with new state, whatever is held of it.
// Cost: bytes in src/kernel/optimizer-layout.ts; times in docs/design/optimizers.md. No allocation a row.
// Concurrency: one thread, its own memory. Limits: optimizerLimits; `stepKeysMax` keys a batch (they are added up within one call); a batch with more distinct keys than
// rows of state steps those beyond with new state that is not kept (`unkept`).

import { MillraceError } from "#base/errors";
import type { KernelMemory } from "#kernel/kernel-memory";
import {
  formatOptimizerTable,
  type OptimizerKind,
  optimizerKinds,
  optimizerMergeWords,
  optimizerRowHead,
  type OptimizerSettings,
  type OptimizerShape,
  optimizerTableBytes,
  optimizerWord as word,
  optimizerWorkBytes,
} from "#kernel/optimizer-layout";
import { optimizerRecordHeadWords, readOptimizerFile, writeOptimizerFile } from "./optimizer-file.ts";
import { checkPlacement, ownerOf, type Placement } from "./placement.ts";

export type { OptimizerKind, OptimizerSettings, OptimizerShape, Placement };

/** What the server is to do; its arrays are the optimizer's own, valid until its next step, and exactly as long as `count` says. */
export interface OptimizerUpdate {
  readonly count: number;
  /** Low and high word a key, in order of first appearance in the batch; keys that made no step are left out. */
  readonly keys: Uint32Array;
  /** `dim` numbers a key: to be added to the row, or (`update` is "assign") the row. */
  readonly values: Float32Array;
}

export interface OptimizerStatistics {
  readonly rows: number;
  readonly capacityRows: number;
  /** Of the table, index and Adam's corrections included, when full; and of the rows so far. */
  readonly bytes: number;
  readonly usedBytes: number;
  /** Rows whose state gave way; steps not made because something was not finite; steps whose state found no place; keys that had no state. All modulo 2^32. */
  readonly evicted: number;
  readonly skipped: number;
  readonly unkept: number;
  readonly missed: number;
}

function invalid(what: string, todo: string): MillraceError {
  return new MillraceError("invalid", what, { todo });
}

/** What the 16-byte pieces of a lane may cost on top. */
const alignmentBytes = 8 * 16;

export class WorkerOptimizer {
  readonly kind: OptimizerKind;
  readonly dim: number;
  readonly placement: Placement;
  /** How the server takes `values`. */
  readonly update: "add" | "assign";
  /** Whether `step` must be given the rows as pulled: for weight decay and FTRL. */
  readonly needsWeights: boolean;
  readonly #memory: KernelMemory;
  readonly #at: number;
  readonly #shape: OptimizerShape;
  readonly #paddedDim: number;
  #keys = new Uint32Array(0);
  #values = new Float32Array(0);

  private constructor(memory: KernelMemory, at: number, shape: OptimizerShape, placement: Placement) {
    const { settings } = shape;
    this.kind = settings.kind;
    this.dim = shape.dim;
    this.placement = placement;
    this.update = settings.kind === "ftrl" || settings.kind === "group-ftrl" ? "assign" : "add";
    this.needsWeights = this.update === "assign" || ("decay" in settings && settings.decay !== undefined && settings.decay.rate > 0);
    this.#memory = memory;
    this.#at = at;
    this.#shape = shape;
    this.#paddedDim = this.#word(word.paddedDim);
  }

  /** Bytes that the state takes of a memory's data. Throws `invalid`. */
  static bytesFor(shape: OptimizerShape): number {
    return optimizerTableBytes(shape);
  }

  /**
   * An optimizer without state yet, in the data area of `memory`, whose lane bounds a batch. Throws `invalid` for its shape, `unsupported` for FTRL on workers that share
   * keys, `overloaded` when the memory is full.
   */
  static create(memory: KernelMemory, shape: OptimizerShape, placement: Placement): WorkerOptimizer {
    const bytes = optimizerTableBytes(shape);
    checkPlacement(placement, shape.settings.kind);
    const at = memory.reserve(bytes);
    formatOptimizerTable(memory.u32, at, shape);
    return new WorkerOptimizer(memory, at, shape, placement);
  }

  #word(index: number): number {
    return this.#memory.u32[this.#at / 4 + index]!;
  }

  /** Keys that one `step` takes. */
  get stepKeysMax(): number {
    const { lane } = this.#memory;
    lane.reset();
    const each = optimizerWorkBytes(this.dim, 1) - optimizerWorkBytes(this.dim, 0);
    // Key twice, gradient, weights and result, up to four words of the merge table.
    return Math.max(0, Math.floor((lane.free - optimizerWorkBytes(this.dim, 0) - alignmentBytes) / (16 + 12 * this.dim + 16 + each)));
  }

  /**
   * One step of each distinct key: `gradients` of a key that comes several times are added up first. `weights`: the rows as pulled, `dim` numbers a key (of equal keys
   * the first's count); needed when `needsWeights`, else passed over. `found`: 0 for a key that had no row when it was pulled, as pulls answer it: its row is new, or was deleted, evicted or
   * expired since, so what is held of it goes first; without it the moments of a row that left meet the one that comes after it. Throws `invalid` for arrays too short, more than `stepKeysMax`
   * keys, or another owner's key.
   */
  step(keys: Uint32Array, count: number, gradients: Float32Array, weights?: Float32Array, found?: Uint8Array): OptimizerUpdate {
    const { dim } = this;
    if (found !== undefined && found.length < count) throw invalid(`${count} keys with found of ${found.length}`, "give a byte a key, as pulled");
    if (!Number.isInteger(count) || count < 0 || keys.length < 2 * count || gradients.length < count * dim) {
      throw invalid(`${count} keys in ${keys.length} words with ${gradients.length} numbers of rows of ${dim}`, "give two words and a whole row a key");
    }
    if (this.needsWeights && (weights === undefined || weights.length < count * dim)) {
      throw invalid(
        `a step of ${this.kind} on ${count} rows with weights of ${weights === undefined ? "none" : weights.length / dim}`,
        "pass the rows as pulled",
      );
    }
    if (count > this.stepKeysMax)
      throw invalid(`a step on ${count} keys exceeds ${this.stepKeysMax}`, "step on less at once, or give the memory larger lanes (laneBytes)");
    if (this.placement.by === "owner") this.#checkOwner(keys, count, this.placement.worker, this.placement.workers);
    if (found !== undefined) this.#dropMissing(keys, count, found);
    const { lane, u32, f32, calls } = this.#memory;
    const mergeWords = optimizerMergeWords(count);
    lane.reset();
    const workAt = lane.take(optimizerWorkBytes(dim, count));
    const mergeAt = lane.take(4 * mergeWords);
    const keysAt = lane.take(8 * count);
    const outKeysAt = lane.take(8 * count);
    const gradientsAt = lane.take(4 * dim * count);
    const weightsAt = this.needsWeights ? lane.take(4 * dim * count) : 0;
    const outAt = lane.take(4 * dim * count);
    u32.set(keys.subarray(0, 2 * count), keysAt / 4);
    f32.set(gradients.subarray(0, count * dim), gradientsAt / 4);
    if (this.needsWeights) f32.set(weights!.subarray(0, count * dim), weightsAt / 4);
    const done = calls.optimizerStep(this.#at, keysAt, count, gradientsAt, weightsAt, outKeysAt, outAt, mergeAt, mergeWords - 1, workAt) >>> 0;
    if (this.#keys.length < 2 * done) {
      this.#keys = new Uint32Array(2 * count);
      this.#values = new Float32Array(dim * count);
    }
    this.#keys.set(u32.subarray(outKeysAt / 4, outKeysAt / 4 + 2 * done));
    this.#values.set(f32.subarray(outAt / 4, outAt / 4 + dim * done));
    return { count: done, keys: this.#keys.subarray(0, 2 * done), values: this.#values.subarray(0, dim * done) };
  }

  #dropMissing(keys: Uint32Array, count: number, found: Uint8Array): void {
    let missing = 0;
    for (let i = 0; i < count; i++) if (found[i] === 0) missing++;
    if (missing === 0) return;
    const gone = new Uint32Array(2 * missing);
    let to = 0;
    for (let i = 0; i < count; i++) {
      if (found[i] !== 0) continue;
      gone[to++] = keys[2 * i]!;
      gone[to++] = keys[2 * i + 1]!;
    }
    this.drop(gone, missing);
  }

  #checkOwner(keys: Uint32Array, count: number, worker: number, workers: number): void {
    for (let i = 0; i < count; i++) {
      const owner = ownerOf(keys[2 * i]!, keys[2 * i + 1]!, workers);
      if (owner !== worker) throw invalid(`a key of worker ${owner} given to worker ${worker}`, "route gradients by owner (OwnerRouter)");
    }
  }

  statistics(): OptimizerStatistics {
    const rows = this.#word(word.rows);
    return {
      rows,
      capacityRows: this.#shape.capacityRows,
      bytes: optimizerTableBytes(this.#shape),
      usedBytes: this.#word(word.rowsFrom) + rows * this.#word(word.rowBytes),
      evicted: this.#word(word.evicted),
      skipped: this.#word(word.skipped),
      unkept: this.#word(word.unkept),
      missed: this.#word(word.missed),
    };
  }

  /** How many steps the key's state has seen; undefined when it has none. For tests and tools: one key at a time, slow. */
  steps(low: number, high: number): number | undefined {
    const { u32 } = this.#memory;
    for (let row = 0; row < this.#word(word.rows); row++) {
      const at = this.#rowAt(row);
      if (u32[at] === low >>> 0 && u32[at + 1] === high >>> 0) return u32[at + 2];
    }
    return undefined;
  }

  /** Forgets the state of keys, as of rows that the server deleted or evicted: one that comes back begins anew. Returns how many had any. */
  drop(keys: Uint32Array, count: number): number {
    if (!Number.isInteger(count) || count < 0 || keys.length < 2 * count) throw invalid(`${count} keys in ${keys.length} words`, "give two words a key");
    const { lane, u32, calls } = this.#memory;
    let dropped = 0;
    for (let first = 0; first < count && this.#shape.capacityRows > 0;) {
      lane.reset();
      const size = Math.min(count - first, Math.floor(lane.free / 8));
      const keysAt = lane.take(8 * size);
      u32.set(keys.subarray(2 * first, 2 * (first + size)), keysAt / 4);
      dropped += calls.optimizerDrop(this.#at, keysAt, size) >>> 0;
      first += size;
    }
    return dropped;
  }

  /** Forgets all state, as a restart does. */
  clear(): void {
    formatOptimizerTable(this.#memory.u32, this.#at, this.#shape);
  }

  /** Word of a row. */
  #rowAt(row: number): number {
    return (this.#at + this.#word(word.rowsFrom) + row * this.#word(word.rowBytes)) / 4;
  }

  /** Vectors of a row's state. */
  get #vectors(): number {
    return (this.#word(word.rowBytes) - optimizerRowHead) / (4 * this.#paddedDim);
  }

  /** Numbers of a row's state that a file keeps. */
  get #numbers(): number {
    return this.kind === "rowwise-adagrad" ? 1 : this.#vectors * this.dim;
  }

  /** Bits of the settings as a file keeps them. */
  get #settings(): Uint32Array {
    const { u32 } = this.#memory;
    return u32.slice(this.#at / 4 + word.initial, this.#at / 4 + word.beta + 1);
  }

  /** Visits the state of a row word by word: where it lies here, and its number in a record. */
  #eachNumber(row: number, visit: (here: number, number: number) => void): void {
    const at = this.#rowAt(row);
    if (this.kind === "rowwise-adagrad") visit(at + 3, 0);
    for (let vector = 0; vector < this.#vectors; vector++) {
      for (let i = 0; i < this.dim; i++) visit(at + optimizerRowHead / 4 + vector * this.#paddedDim + i, vector * this.dim + i);
    }
  }

  /** All state, as one file's parts (docs/format/optimizer-state.md). Copies: stepping may go on at once. */
  save(): Uint8Array[] {
    const { u32, bytes } = this.#memory;
    const usesAt = this.#at + this.#word(word.usesFrom);
    const head = {
      kind: this.#word(word.kind),
      dim: this.dim,
      numbers: this.#numbers,
      rows: this.#word(word.rows),
      hand: this.#word(word.hand),
      evicted: this.#word(word.evicted),
      skipped: this.#word(word.skipped),
      unkept: this.#word(word.unkept),
      missed: this.#word(word.missed),
      settings: this.#settings,
    };
    return writeOptimizerFile(head, (row, words, at) => {
      const from = this.#rowAt(row);
      words[at] = u32[from]!;
      words[at + 1] = u32[from + 1]!;
      words[at + 2] = u32[from + 2]!;
      words[at + 3] = bytes[usesAt + row]!;
      this.#eachNumber(row, (here, number) => (words[at + optimizerRecordHeadWords + number] = u32[here]!));
    });
  }

  /**
   * Takes over the state of a file in place of its own: all is checked before anything is changed. Rates, decay and Adam's betas are its own. Throws `corrupt`,
   * `unsupported`, and `conflict` when the file is of another kind or width, of FTRL with other settings (its z holds them), or of more rows than fit.
   */
  load(parts: readonly Uint8Array[]): void {
    const { head, rows } = readOptimizerFile(parts);
    const refuse = (what: string, todo: string): never => {
      throw new MillraceError("conflict", `optimizer state of ${what}`, { todo });
    };
    if (head.kind !== this.#word(word.kind) || head.dim !== this.dim || head.numbers !== this.#numbers) {
      refuse(
        `${optimizerKinds[head.kind] ?? "an unknown kind"} on rows of ${head.dim}`,
        `load it with that, not with ${this.kind} on rows of ${this.dim}; or begin without state`,
      );
    }
    if (this.update === "assign" && this.#settings.some((bits, i) => bits !== head.settings[i])) {
      refuse("FTRL with other settings", "load it with the settings it was made with, or begin without state: it goes on from the weights");
    }
    const { capacityRows } = this.#shape;
    if (head.rows > capacityRows) refuse(`${head.rows} rows where ${capacityRows} fit`, "give it the capacity it had");
    this.#checkUses(rows);
    this.clear();
    const { u32, bytes, calls } = this.#memory;
    const usesAt = this.#at + this.#word(word.usesFrom);
    rows((row, words, at) => {
      const to = this.#rowAt(row);
      u32.fill(0, to, to + this.#word(word.rowBytes) / 4);
      for (let i = 0; i < 3; i++) u32[to + i] = words[at + i]!;
      bytes[usesAt + row] = words[at + 3]!;
      // What pads a row is as in a row just begun.
      if (this.kind === "adagrad") u32.fill(this.#word(word.initial), to + optimizerRowHead / 4, to + optimizerRowHead / 4 + this.#paddedDim);
      if (this.#vectors === 2) u32.fill(this.#word(word.initial), to + optimizerRowHead / 4 + this.#paddedDim, to + optimizerRowHead / 4 + 2 * this.#paddedDim);
      this.#eachNumber(row, (here, number) => (u32[here] = words[at + optimizerRecordHeadWords + number]!));
    });
    const first = this.#at / 4;
    u32[first + word.rows] = head.rows;
    u32[first + word.hand] = head.hand < capacityRows ? head.hand : 0;
    u32[first + word.evicted] = head.evicted;
    u32[first + word.skipped] = head.skipped;
    u32[first + word.unkept] = head.unkept;
    u32[first + word.missed] = head.missed;
    calls.optimizerIndex(this.#at);
  }

  /** Uses within bounds: a row that none evicts would have the kernel's hand go round for ever. */
  #checkUses(rows: (visit: (row: number, words: Uint32Array, at: number) => void) => void): void {
    let sound = true;
    rows((_, words, at) => (sound &&= words[at + 3]! <= 3));
    if (!sound) throw new MillraceError("corrupt", "optimizer state: a row with uses that no writer leaves", { todo: "use an earlier checkpoint" });
  }
}
