// The trainer: takes the records of the activity log in order and makes the model learn from them:
//   an answer   -> extractor -> the logits of its items, kept with it: what the model thought before anything that followed
//   a sample    -> extractor -> figures by the logit of its answer -> one step
// Why it is an object without thread, clock or files: the server's trainer thread, `millrace train`, replay and tests run the same code over the same records.
//
// Negatives kept at rate r make clicks look 1/r times as likely: odds' = odds / r. Each step is therefore taken at logit - ln r against the label, so that the
// model's own logit is the true one (the log-odds correction of arXiv 2110.13048, applied in training and not in serving), and the figures weigh a kept negative by 1/r.
//
// Invariants: 1. all it does is a function of the records, their offsets and the switch records among them: steps are taken sample by sample, so it does not
// matter how many wait for one call of the kernel  2. `save` at any record and `load` into a new trainer go on bit for bit (parameters, figures, guard, joiner)
// 3. the model is judged all the time, learned only in state `learning`, and neither before the first window is over: until then there are positives and no
// negatives, from which a model learns that everything is clicked  4. the guard's trip takes the parameters back to the last good save and stops learning
// until a switch record says on; which save that is depends on when saves were made: the one exception from 1.
// 5. features that cannot be read cost their sample and are counted, never the trainer.
// Cost: per item of an answer its slots and a prediction, per sample its slots again, one step, 0.3 us of figures; the bytes of one save in memory, to go back to.
// Concurrency: one thread, the writer of the machine; one `take` at a time.

import { ByteReader } from "#base/byte-reader";
import { ByteWriter } from "#base/byte-writer";
import { assert, MillraceError } from "#base/errors";
import type { Extractor } from "#extract/extractor";
import { SlotRows } from "#extract/slot-rows";
import { decodeRecord, recordKind, type TrainingRecord } from "#features/activity-record";
import type { FactorisationMachine } from "#models/factorisation-machine";
import { AnswerRecords, type ReadRecords } from "./answer-records.ts";
import { type Checkpoint, onePart, partsOf, type StatePart } from "./checkpoint.ts";
import { Joiner, joinerDefaults, type JoinerOptions } from "./joiner.ts";
import { readF64s, stateTodo, writeF64s } from "./number-lists.ts";
import { Prequential } from "./prequential.ts";
import { logLossOf } from "./quality-stretch.ts";
import type { JoinedSample } from "./sample-record.ts";
import type { ServedAnswer } from "./served-answer.ts";
import { guardDefaults, type GuardOptions, TrainingGuard } from "./training-guard.ts";

export interface TrainingOptions extends JoinerOptions {
  readonly guard: GuardOptions;
  /** Bytes of records of open answers kept in memory; the others are read from the log again. */
  readonly cacheBytesMax: number;
}

export const trainingDefaults = { ...joinerDefaults, guard: guardDefaults, cacheBytesMax: 32 * 1024 * 1024 } as const satisfies Omit<
  TrainingOptions,
  "positiveTypes"
>;

export type TrainerState = "learning" | "off" | "stopped";

/** Room for the items of one answer. */
const answerRows = 32;

export interface TrainerParts {
  readonly options: TrainingOptions;
  readonly extractor: Extractor;
  /** Untrained, or what `load` is going to replace. */
  readonly machine: FactorisationMachine;
  /** The log, for answers that are no longer in memory. */
  readonly read: ReadRecords;
  /** Told the rows of slots that were just learned, before they are forgotten: their items' vectors have moved. */
  readonly learned?: (samples: SlotRows) => void;
  /** Told when the parameters were taken back: all vectors are wrong. */
  readonly rolledBack?: () => void;
}

/** Samples that wait for one call of the kernel. */
const rowsMax = 256;
const version = 1;

export class Trainer {
  readonly joiner: Joiner;
  readonly quality = new Prequential();
  readonly machine: FactorisationMachine;
  readonly #extractor: Extractor;
  readonly #learned: ((samples: SlotRows) => void) | undefined;
  readonly #rolledBack: (() => void) | undefined;
  readonly #guard: TrainingGuard;
  #offset = 0;
  #state: TrainerState = "learning";
  #reason = "";
  #unreadable = 0;
  /** What `save` of the machine gave when all was well. */
  #good: Uint8Array[];
  readonly #rows = new SlotRows(rowsMax, 48);
  readonly #labels = new Float32Array(rowsMax);
  readonly #importance = new Float32Array(rowsMax).fill(1);
  readonly #shifts = new Float32Array(rowsMax);
  readonly #logits = new Float32Array(rowsMax);
  readonly #rates = new Float64Array(rowsMax);
  readonly #clocks = new Float64Array(rowsMax);
  readonly #seconds = new Uint32Array(rowsMax);
  readonly #counting = new Float32Array(rowsMax);
  /** NaN: judged by the logit of the moment of its step. */
  readonly #predicted = new Float32Array(rowsMax);
  readonly #asked = new SlotRows(answerRows, 48);

  constructor({ options, extractor, machine, read, learned, rolledBack }: TrainerParts) {
    this.#extractor = extractor;
    this.machine = machine;
    this.#learned = learned;
    this.#rolledBack = rolledBack;
    this.#guard = new TrainingGuard(options.guard);
    this.joiner = new Joiner(
      options,
      extractor.id,
      new AnswerRecords(read, options.cacheBytesMax),
      (sample, predicted) => {
        if (this.joiner.settled) this.add(sample, predicted);
      },
      (answer) => this.#predict(answer),
    );
    if (machine.rowCount === 0) {
      const { keys, weights } = extractor.initialWeights();
      machine.assignLinear(keys, weights);
    }
    this.#good = machine.save();
  }

  /** The next record to take. */
  get offset(): number {
    return this.#offset;
  }
  /** The log is needed from here on: by what comes, and by what may still join an open answer. */
  get neededOffset(): number {
    return Math.min(this.#offset, this.joiner.oldestHeld ?? this.#offset);
  }
  get state(): TrainerState {
    return this.#state;
  }
  /** Why it does not learn and what to do; empty while it does. */
  get reason(): string {
    return this.#reason;
  }
  /** Samples whose features could not be read. */
  get unreadable(): number {
    return this.#unreadable;
  }

  /** Takes the record at `offset`, which must be the next one. A promise when old answers must be read from the log first; await it before the next call.
   * Throws `corrupt` and `unsupported` for a record that is damaged or of a newer version. */
  take(bytes: Uint8Array, offset: number): Promise<void> | undefined {
    assert(offset === this.#offset, `record ${offset} given to a trainer at ${this.#offset}`);
    const kind = bytes[0];
    // Items and users are large and say nothing here but the time.
    if (kind !== recordKind.event && kind !== recordKind.served && kind !== recordKind.training && isKnown(kind) && bytes.length >= 10) {
      return this.#after(this.joiner.advance(new DataView(bytes.buffer, bytes.byteOffset).getFloat64(2, true)));
    }
    const record = decodeRecord(bytes);
    const waiting = this.joiner.take(record, bytes, offset);
    if (record.kind !== "training") return this.#after(waiting);
    if (waiting === undefined) this.#switch(record);
    return this.#after(waiting?.then(() => this.#switch(record)));
  }

  /** Passes over records that the log no longer has. */
  skipTo(offset: number): void {
    assert(offset >= this.#offset, `a trainer at ${this.#offset} told to go back to ${offset}`);
    this.#offset = offset;
  }

  #after(waiting: Promise<void> | undefined): Promise<void> | undefined {
    if (waiting === undefined) {
      this.#offset += 1;
      return undefined;
    }
    return waiting.then(() => {
      this.#offset += 1;
    });
  }

  /** Is the first window over? Before that nothing is learned. */
  get settled(): boolean {
    return this.joiner.settled;
  }

  /** What the model thinks of the items of an answer, by all that was learned before it. */
  #predict({ features }: ServedAnswer): Float32Array | undefined {
    this.flush();
    const asked = this.#asked;
    asked.clear();
    try {
      for (const [position, { item, signals }] of features.items.entries()) this.#extractor.sampleSlots(features.user, position, item, signals, asked);
    } catch (thrown) {
      if (!(thrown instanceof MillraceError) || thrown.code !== "corrupt") throw thrown;
      // Its samples are found unreadable too, and counted there.
      return undefined;
    }
    const logits = new Float32Array(features.items.length);
    this.machine.evaluate(asked, logits);
    return logits;
  }

  /** A sample; those of files come this way too, without a prediction: they are judged by the logit of the moment before their step. Its features are read before
   * it returns. */
  add(sample: JoinedSample, predictedLogit = Number.NaN): void {
    const { userBytes, itemBytes, position, signals, label, rate, clockMs, countingLogit, extractorId } = sample;
    if (extractorId !== this.#extractor.id) {
      this.#unreadable += 1;
      return;
    }
    try {
      this.#extractor.sampleSlots(userBytes, position, itemBytes, signals, this.#rows);
    } catch (thrown) {
      if (!(thrown instanceof MillraceError) || thrown.code !== "corrupt") throw thrown;
      this.#unreadable += 1;
      return;
    }
    const row = this.#rows.rows - 1;
    this.#labels[row] = label;
    this.#shifts[row] = rate === 1 ? 0 : -Math.log(rate);
    this.#rates[row] = rate;
    this.#clocks[row] = clockMs;
    this.#seconds[row] = clockMs / 1_000;
    this.#counting[row] = countingLogit;
    this.#predicted[row] = predictedLogit;
    if (row + 1 === rowsMax) this.flush();
  }

  /** Learns what waits. Call it before anything of the machine, the figures or `offset` is shown to others. */
  flush(): void {
    const rows = this.#rows;
    if (rows.rows > 0) {
      const learning = this.#state === "learning";
      if (learning) this.machine.learn(rows, this.#labels, this.#importance, this.#shifts, this.#logits, this.#seconds);
      else this.machine.evaluate(rows, this.#logits);
      this.#judge(learning);
      if (this.#state === "learning") this.#learned?.(rows);
      rows.clear();
    }
    this.quality.advance(this.joiner.clockMs);
  }

  #judge(learning: boolean): void {
    let learns = learning;
    for (let row = 0; row < this.#rows.rows; row += 1) {
      const positive = this.#labels[row] === 1;
      const rate = this.#rates[row]!;
      const logit = this.#logits[row]!;
      if (learns && this.#guard.add(logit, logLossOf(logit, positive), positive ? 1 : 1 / rate)) {
        this.#stop(this.#guard.reason);
        // This sample and those behind it are judged by the parameters that stand now, as if they had come alone.
        this.machine.evaluate(this.#rows, this.#logits);
        learns = false;
      }
      this.quality.advance(this.#clocks[row]!);
      const predicted = this.#predicted[row]!;
      this.quality.add(Number.isNaN(predicted) ? this.#logits[row]! : predicted, this.#counting[row]!, positive, rate, learns);
    }
  }

  /** Back to the last good parameters, and no step any more. */
  #stop(reason: string): void {
    this.machine.load(this.#good);
    this.#state = "stopped";
    this.#reason = `${reason}; the parameters were taken back to the last good checkpoint: look at the events of this time, then switch training on again`;
    this.#guard.reset();
    this.#rolledBack?.();
  }

  #switch({ on, reason }: TrainingRecord): void {
    // What came before the switch is learned, or not, by the state before it.
    this.flush();
    if (on === (this.#state === "learning")) return;
    this.#guard.reset();
    this.#state = on ? "learning" : "off";
    this.#reason = on ? "" : reason === "" ? "switched off; switch training on again" : reason;
  }

  /** All state at `offset`, or `undefined` while something looks wrong: then the save before is the better one to begin from. Copies. */
  save(): readonly StatePart[] | undefined {
    this.flush();
    if (!this.machine.finite()) {
      this.#stop("a parameter is no number");
      return undefined;
    }
    if (this.#state === "learning" && !this.#guard.calm) return undefined;
    this.#good = this.machine.save();
    const own = new ByteWriter();
    own.u8(version);
    own.string(this.#state);
    own.string(this.#reason);
    writeF64s(own, [this.#unreadable]);
    this.#guard.save(own);
    return [
      ...this.#good.map((bytes) => ({ name: "machine", bytes })),
      { name: "joiner", bytes: this.joiner.save() },
      { name: "quality", bytes: this.quality.save() },
      { name: "trainer", bytes: own.since(0) },
    ];
  }

  /** Takes over what `save` gave, into a new trainer. Throws `corrupt`, or what the machine says of parameters of another shape, and leaves the trainer unusable
   * then. */
  load(checkpoint: Checkpoint): void {
    const parts = partsOf(checkpoint, "machine");
    const own = new ByteReader(onePart(checkpoint, "trainer"), "trainer state", stateTodo);
    if (own.u8() !== version) throw own.damaged("another version");
    const state = own.string();
    if (state !== "learning" && state !== "off" && state !== "stopped") throw own.damaged("an unknown state");
    this.#reason = own.string();
    this.#unreadable = readF64s(own)[0] ?? 0;
    this.#guard.load(own);
    own.end();
    this.joiner.load(onePart(checkpoint, "joiner"));
    this.quality.load(onePart(checkpoint, "quality"));
    this.machine.load(parts);
    this.#state = state;
    this.#offset = checkpoint.offset;
    this.#good = this.machine.save();
  }
}

function isKnown(kind: number | undefined): boolean {
  return kind !== undefined && kind > 0 && kind <= recordKind.training;
}
