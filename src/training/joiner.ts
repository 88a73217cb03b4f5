// Joins answers with what their viewers did later: each item of an answer becomes at most one positive and at most one negative sample.
//
//   answer given            window over             forgotten
//   |---- open: a wanted item is a positive at once ---|---- late actions: positive, counted ----|---- actions join nothing ----|
//                                                      | every other item: a negative, kept with probability `negativeRate`
//
// An action may stand in the log before its answer (the answer is written behind its back): it waits `earlyMs` for it.
// Features are those that were logged with the answer, never looked up again.
// Where `predict` is given, it is asked once for each answer, when its record comes: that is the prediction which is judged later, made before anything that
// followed the answer was learned. A prediction of the moment of the label would be judged too well: an answer's negatives come in a row, and after the first of
// them a model knows that the others are negatives too.
// Invariants: 1. a function of the records and their offsets alone: all times are those in the records (a clock that never goes back), a negative is kept by a
// seeded hash of (recommendation id, item)  2. samples come out in the order of the records that caused them; at one record first the windows that are over,
// oldest answer first, then the record itself  3. save and load at any record give the same samples as going on  4. memory holds ids, offsets and clicked
// places; raw bytes come from `AnswerRecords`.
// 5. an item that was wanted late has been a negative before (with probability `negativeRate`) and is a positive now: both are true of their moment.
// Limits: `openAnswersMax` answers, window and lateness together; beyond, the oldest is closed early (counted). `earlyEventsMax` waiting actions; beyond, the
// oldest is given up (counted as unjoined).
// Cost: about 200 bytes an open answer and 4 an item; an answer of 20 items is decoded once for each action and once at its closing (some 10 us).
// Concurrency: one thread, one `take` at a time.

import { ByteReader } from "#base/byte-reader";
import { ByteWriter } from "#base/byte-writer";
import { MillraceError } from "#base/errors";
import type { ActivityRecord, EventRecord, ServedRecord } from "#features/activity-record";
import { KeyHasher, keySeed } from "#kernel/key-hash";
import type { AnswerRecords } from "./answer-records.ts";
import { readCount, readF32s, readF64s, stateTodo, writeF32s, writeF64s } from "./number-lists.ts";
import type { JoinedSample } from "./sample-record.ts";
import { featuresOf, openAnswer, type ServedAnswer } from "./served-answer.ts";

export interface JoinerOptions {
  /** Event types that say that an item was wanted. */
  readonly positiveTypes: readonly string[];
  /** How long after its answer an action makes a positive before the others become negatives. Milliseconds of record time. */
  readonly windowMs: number;
  /** How long after the window an action is still joined. */
  readonly latenessMs: number;
  /** How long an action waits for an answer that is not in the log yet. */
  readonly earlyMs: number;
  /** What a gap between two records counts at most, in windows and waits. Without a bound all negatives from before a standstill would come at once behind it, and
   * then, for a whole window, clicks alone; a model that learns from that is wrong for a minute. So a standstill stops the windows too. */
  readonly gapMs: number;
  /** Share of negatives that become samples, in (0, 1]. Corrected by weights in the figures and by a shift in the logit, see trainer.ts. */
  readonly negativeRate: number;
  readonly seed: number;
  readonly openAnswersMax: number;
  readonly earlyEventsMax: number;
}

export const joinerDefaults = {
  windowMs: 60_000,
  latenessMs: 600_000,
  earlyMs: 5_000,
  gapMs: 1_000,
  negativeRate: 1,
  seed: 1,
  openAnswersMax: 200_000,
  earlyEventsMax: 20_000,
} as const satisfies Omit<JoinerOptions, "positiveTypes">;

/** Counts since the beginning of the log. */
export interface JoinerCounts {
  /** Answers seen. */
  answers: number;
  /** Of these, without features or with those of another extractor: they make no samples. */
  answersWithoutFeatures: number;
  answersOfOtherExtractor: number;
  /** Of these, with features that could not be read. */
  answersUnreadable: number;
  /** Closed before their window was over, because too many were open. */
  answersClosedEarly: number;
  /** Whose record the log had no more when it was needed. */
  answersLost: number;
  positives: number;
  negatives: number;
  /** Negatives that the rate left out. */
  negativesLeftOut: number;
  /** Actions after their window; they are among `positives`. */
  late: number;
  /** Further actions on an item that was wanted already. */
  repeated: number;
  /** Actions that stood before their answer. */
  early: number;
  /** Actions whose answer was not found, or did not show the item. */
  unjoined: number;
}

interface OpenAnswer {
  readonly id: string;
  readonly offset: number;
  /** When its window is over, in active time. Never falls from answer to answer. */
  readonly deadlineMs: number;
  /** Has features of the extractor in use. */
  readonly usable: boolean;
  closed: boolean;
  /** Places of wanted items. */
  wanted: number[] | undefined;
  /** Logits of its items, in order of places. */
  readonly predicted: Float32Array | undefined;
}

/** A sample, and its logit as predicted when the answer was given; NaN: not asked for. */
export type EmitSample = (sample: JoinedSample, predictedLogit: number) => void;
export type PredictAnswer = (answer: ServedAnswer) => Float32Array | undefined;

interface EarlyAction {
  readonly recommendationId: string;
  readonly item: string;
  readonly user: string;
  /** Active time. */
  readonly atMs: number;
}

/** `take` is done. */
const done = -1;
const version = 1;
const countNames = [
  "answers",
  "answersWithoutFeatures",
  "answersOfOtherExtractor",
  "answersUnreadable",
  "answersClosedEarly",
  "answersLost",
  "positives",
  "negatives",
  "negativesLeftOut",
  "late",
  "repeated",
  "early",
  "unjoined",
] as const satisfies readonly (keyof JoinerCounts)[];

export class Joiner {
  readonly counts: JoinerCounts;
  readonly #options: JoinerOptions;
  readonly #positiveTypes: ReadonlySet<string>;
  readonly #extractorId: number | undefined;
  readonly #answers: AnswerRecords;
  readonly #emit: EmitSample;
  readonly #predict: PredictAnswer | undefined;
  readonly #hasher: KeyHasher;
  #clockMs = -Infinity;
  /** Record time without what gaps are longer than `gapMs`: what windows and waits are counted in. */
  #activeMs = 0;
  #settledFromMs = Infinity;
  /** Oldest first; those before `#head` are forgotten, those before `#closedTo` closed. */
  #queue: OpenAnswer[] = [];
  #head = 0;
  #closedTo = 0;
  readonly #byId = new Map<string, OpenAnswer>();
  /** Oldest first. */
  readonly #early = new Set<EarlyAction>();
  readonly #earlyById = new Map<string, EarlyAction[]>();
  /** The answer decoded last. */
  #opened: { offset: number; answer: ServedAnswer } | undefined;
  #keyBytes = new Uint8Array(1_024);
  #keyView = new DataView(this.#keyBytes.buffer);
  readonly #encoder = new TextEncoder();

  /** `extractorId`: answers with features of another one make no samples; undefined takes all. `emit` gets the samples, during `take`. */
  constructor(options: JoinerOptions, extractorId: number | undefined, answers: AnswerRecords, emit: EmitSample, predict?: PredictAnswer) {
    checkOptions(options);
    this.#predict = predict;
    this.#options = options;
    this.#positiveTypes = new Set(options.positiveTypes);
    this.#extractorId = extractorId;
    this.#answers = answers;
    this.#emit = emit;
    this.#hasher = new KeyHasher(keySeed(BigInt(options.seed)));
    this.counts = Object.fromEntries(countNames.map((name) => [name, 0])) as unknown as JoinerCounts;
  }

  /** Record time: the largest time that the server itself wrote into a record. -Infinity before the first one. */
  get clockMs(): number {
    return this.#clockMs;
  }
  /** True once samples come as often as they are true: before the first window is over there are positives and no negatives. */
  get settled(): boolean {
    return this.#activeMs >= this.#settledFromMs;
  }
  /** True once there was an answer that samples can be made of. */
  get begun(): boolean {
    return this.#settledFromMs < Infinity;
  }
  /** Answers whose window is open. */
  get openAnswers(): number {
    return this.#queue.length - this.#closedTo;
  }
  /** Answers that an action may still join, closed ones too. */
  get heldAnswers(): number {
    return this.#queue.length - this.#head;
  }
  /** Offset of the oldest of them in the log, which an action may ask for again; undefined when there is none. */
  get oldestHeld(): number | undefined {
    return this.#queue[this.#head]?.offset;
  }
  /** Actions that wait for their answer. */
  get earlyActions(): number {
    return this.#early.size;
  }

  /** Only moves the clock; for records that are neither answers nor actions. `take` the same way. */
  advance(atMs: number): Promise<void> | undefined {
    return this.#work(atMs, undefined, undefined, -1);
  }

  /** Takes one record of the log, in order. Returns a promise when old answers must be read from the log first; await it before the next call. */
  take(record: ActivityRecord, bytes: Uint8Array, offset: number): Promise<void> | undefined {
    return this.#work(record.kind === "event" ? record.receivedMs : record.atMs, record, bytes, offset);
  }

  #work(atMs: number, record: ActivityRecord | undefined, bytes: Uint8Array | undefined, offset: number): Promise<void> | undefined {
    if (atMs > this.#clockMs) {
      if (this.#clockMs > -Infinity) this.#activeMs += Math.min(atMs - this.#clockMs, this.#options.gapMs);
      this.#clockMs = atMs;
    }
    const missing = this.#step(record, bytes, offset);
    return missing === done ? undefined : this.#workLater(missing, record, bytes, offset);
  }

  async #workLater(first: number, record: ActivityRecord | undefined, bytes: Uint8Array | undefined, offset: number): Promise<void> {
    for (let missing = first; missing !== done; missing = this.#step(record, bytes, offset)) await this.#answers.load(missing);
  }

  /** Goes as far as it can: `done`, or the offset of an answer that must be loaded before it is called again. What was done is not done twice. */
  #step(record: ActivityRecord | undefined, bytes: Uint8Array | undefined, offset: number): number {
    const missing = this.#closeDue();
    if (missing !== done || record === undefined) return missing;
    if (record.kind === "served") return this.#served(record, bytes!, offset);
    if (record.kind === "event" && record.recommendationId !== "" && this.#positiveTypes.has(record.type)) return this.#action(record);
    return done;
  }

  #closeDue(): number {
    const nowMs = this.#activeMs;
    while (this.#closedTo < this.#queue.length && this.#queue[this.#closedTo]!.deadlineMs <= nowMs) {
      const missing = this.#close(this.#queue[this.#closedTo]!);
      if (missing !== done) return missing;
    }
    const { latenessMs, earlyMs } = this.#options;
    while (this.#head < this.#closedTo && this.#queue[this.#head]!.deadlineMs + latenessMs <= nowMs) this.#forget();
    for (const action of this.#early) {
      if (action.atMs + earlyMs > nowMs) break;
      this.#giveUpEarly(action);
    }
    return done;
  }

  /** Closes the oldest open answer. */
  #close(open: OpenAnswer): number {
    if (open.usable && this.#options.negativeRate > 0) {
      const answer = this.#answerOf(open);
      if (typeof answer === "number") return answer;
      if (answer !== undefined) this.#negatives(open, answer);
      this.#answers.drop(open.offset);
    }
    open.closed = true;
    this.#closedTo += 1;
    return done;
  }

  #negatives(open: OpenAnswer, answer: ServedAnswer): void {
    const { negativeRate } = this.#options;
    const prefix = negativeRate < 1 ? this.#beginKey(open.id) : 0;
    for (const [position, item] of answer.record.items.entries()) {
      if (open.wanted?.includes(position) === true) continue;
      if (negativeRate < 1 && this.#drawOf(prefix, item) >= negativeRate) {
        this.counts.negativesLeftOut += 1;
        continue;
      }
      this.counts.negatives += 1;
      this.#emit(this.#sample(answer, position, 0), open.predicted?.[position] ?? Number.NaN);
    }
  }

  #forget(): void {
    const open = this.#queue[this.#head]!;
    this.#byId.delete(open.id);
    this.#head += 1;
    if (this.#head < 1_024 || this.#head * 2 < this.#queue.length) return;
    this.#queue = this.#queue.slice(this.#head);
    this.#closedTo -= this.#head;
    this.#head = 0;
  }

  #served(record: ServedRecord, bytes: Uint8Array, offset: number): number {
    const { recommendationId: id } = record;
    if (this.#byId.has(id)) return done;
    while (this.heldAnswers >= this.#options.openAnswersMax) {
      const oldest = this.#queue[this.#head]!;
      if (!oldest.closed) {
        const missing = this.#close(oldest);
        if (missing !== done) return missing;
        this.counts.answersClosedEarly += 1;
      }
      this.#forget();
    }
    this.counts.answers += 1;
    const answer = this.#usable(record);
    const deadlineMs = this.#activeMs + this.#options.windowMs;
    if (answer !== undefined && this.#settledFromMs === Infinity) this.#settledFromMs = deadlineMs;
    const predicted = answer === undefined ? undefined : this.#predict?.(answer);
    const open: OpenAnswer = { id, offset, deadlineMs, usable: answer !== undefined, closed: false, wanted: undefined, predicted };
    this.#queue.push(open);
    this.#byId.set(id, open);
    if (answer !== undefined) this.#answers.keep(offset, bytes);
    const waiting = this.#earlyById.get(id);
    if (waiting === undefined) return done;
    this.#earlyById.delete(id);
    for (const action of waiting) {
      this.#early.delete(action);
      if (answer !== undefined) this.#join(open, answer, action.item, action.user);
    }
    return done;
  }

  /** The answer, when samples can be made of it. */
  #usable(record: ServedRecord): ServedAnswer | undefined {
    let features;
    try {
      features = featuresOf(record);
    } catch (thrown) {
      if (!(thrown instanceof MillraceError)) throw thrown;
      this.counts.answersUnreadable += 1;
      return undefined;
    }
    if (features === undefined) this.counts.answersWithoutFeatures += 1;
    else if (this.#extractorId === undefined || features.extractorId === this.#extractorId) return { record, features };
    else this.counts.answersOfOtherExtractor += 1;
    return undefined;
  }

  #action(record: EventRecord): number {
    const open = this.#byId.get(record.recommendationId);
    if (open === undefined) {
      this.#keepEarly(record);
      return done;
    }
    // What makes no samples is not read again for the sake of a count.
    if (!open.usable) return done;
    const answer = this.#answerOf(open);
    if (typeof answer === "number") return answer;
    if (answer === undefined) this.counts.unjoined += 1;
    else this.#join(open, answer, record.item, record.user);
    return done;
  }

  #join(open: OpenAnswer, answer: ServedAnswer, item: string, user: string): void {
    const position = answer.record.items.indexOf(item);
    // What somebody else does with an answer says nothing of the one it was given to.
    if (position < 0 || user !== answer.record.user) {
      this.counts.unjoined += 1;
      return;
    }
    if (open.wanted?.includes(position) === true) {
      this.counts.repeated += 1;
      return;
    }
    if (open.wanted === undefined) open.wanted = [position];
    else open.wanted.push(position);
    if (open.closed) this.counts.late += 1;
    this.counts.positives += 1;
    this.#emit(this.#sample(answer, position, 1), open.predicted?.[position] ?? Number.NaN);
  }

  #keepEarly({ recommendationId, item, user }: EventRecord): void {
    for (const oldest of this.#early) {
      if (this.#early.size < this.#options.earlyEventsMax) break;
      this.#giveUpEarly(oldest);
    }
    this.#addEarly({ recommendationId, item, user, atMs: this.#activeMs });
    this.counts.early += 1;
  }

  #addEarly(action: EarlyAction): void {
    this.#early.add(action);
    const waiting = this.#earlyById.get(action.recommendationId);
    if (waiting === undefined) this.#earlyById.set(action.recommendationId, [action]);
    else waiting.push(action);
  }

  /** The oldest one; it is the first of its answer too. */
  #giveUpEarly(action: EarlyAction): void {
    this.#early.delete(action);
    const waiting = this.#earlyById.get(action.recommendationId)!;
    if (waiting.length === 1) this.#earlyById.delete(action.recommendationId);
    else waiting.shift();
    this.counts.unjoined += 1;
  }

  /** The decoded answer, `undefined` when its record is lost, its offset when it must be loaded. */
  #answerOf(open: OpenAnswer): ServedAnswer | number | undefined {
    if (this.#opened?.offset === open.offset) return this.#opened.answer;
    const bytes = this.#answers.get(open.offset);
    if (bytes === undefined) return open.offset;
    if (bytes === "lost") {
      this.counts.answersLost += 1;
      return undefined;
    }
    const answer = openAnswer(bytes);
    this.#opened = { offset: open.offset, answer };
    return answer;
  }

  #sample({ record, features }: ServedAnswer, position: number, label: 0 | 1): JoinedSample {
    const { item, signals, servedLogit, countingLogit } = features.items[position]!;
    return {
      recommendationId: record.recommendationId,
      user: record.user,
      item: record.items[position]!,
      position,
      label,
      rate: this.#options.negativeRate,
      atMs: record.atMs,
      clockMs: this.#clockMs,
      extractorId: features.extractorId,
      userBytes: features.user,
      itemBytes: item,
      signals,
      servedLogit,
      countingLogit,
    };
  }

  /** Puts the id's bytes into the key buffer; returns their length. */
  #beginKey(id: string): number {
    if (id.length * 3 + 1 > this.#keyBytes.length / 2) this.#growKey(id.length * 6 + 2);
    const { written } = this.#encoder.encodeInto(id, this.#keyBytes);
    // Ends the id, so that ("ab", "c") and ("a", "bc") differ; 0 is in neither.
    this.#keyBytes[written] = 0;
    return written + 1;
  }

  /** Number in [0, 1) by the hash of the begun key with this item. */
  #drawOf(prefix: number, item: string): number {
    if (prefix + item.length * 3 > this.#keyBytes.length) this.#growKey(prefix + item.length * 3);
    const { written } = this.#encoder.encodeInto(item, this.#keyBytes.subarray(prefix));
    this.#hasher.hash(this.#keyView, 0, prefix + written);
    return this.#hasher.high * 2 ** -32;
  }

  #growKey(bytes: number): void {
    const grown = new Uint8Array(bytes);
    grown.set(this.#keyBytes);
    this.#keyBytes = grown;
    this.#keyView = new DataView(grown.buffer);
  }

  /** Everything that later samples depend on. */
  save(): Uint8Array {
    const into = new ByteWriter(64 * 1024);
    into.u8(version);
    into.f64(this.#clockMs);
    into.f64(this.#activeMs);
    into.f64(this.#settledFromMs);
    writeF64s(
      into,
      countNames.map((name) => this.counts[name]),
    );
    into.varint(this.heldAnswers);
    for (let at = this.#head; at < this.#queue.length; at += 1) {
      const { id, offset, deadlineMs, usable, closed, wanted = [], predicted = [] } = this.#queue[at]!;
      into.string(id);
      into.f64(offset);
      into.f64(deadlineMs);
      into.u8((usable ? 1 : 0) + (closed ? 2 : 0));
      into.varint(wanted.length);
      for (const position of wanted) into.varint(position);
      // What is closed may still be wanted late.
      writeF32s(into, predicted);
    }
    into.varint(this.#early.size);
    for (const { recommendationId, item, user, atMs } of this.#early) {
      into.string(recommendationId);
      into.string(item);
      into.string(user);
      into.f64(atMs);
    }
    return into.since(0);
  }

  /** Into a new joiner. Throws `corrupt` for bytes that `save` did not write. */
  load(bytes: Uint8Array): void {
    const from = new ByteReader(bytes, "joiner state", stateTodo);
    if (from.u8() !== version) throw from.damaged("another version");
    this.#clockMs = from.f64();
    this.#activeMs = from.f64();
    this.#settledFromMs = from.f64();
    const counts = readF64s(from);
    if (counts.length !== countNames.length) throw from.damaged("counts of another shape");
    for (const [at, name] of countNames.entries()) this.counts[name] = counts[at]!;
    const held = readCount(from, 20);
    for (let i = 0; i < held; i += 1) {
      const [id, offset, deadlineMs, flags] = [from.string(), from.f64(), from.f64(), from.u8()];
      const wanted = Array.from({ length: readCount(from, 1) }, () => from.varint());
      const logits = readF32s(from);
      const open: OpenAnswer = {
        id,
        offset,
        deadlineMs,
        usable: (flags & 1) !== 0,
        closed: (flags & 2) !== 0,
        wanted: wanted.length > 0 ? wanted : undefined,
        predicted: logits.length > 0 ? logits : undefined,
      };
      this.#queue.push(open);
      this.#byId.set(id, open);
      if (open.closed) this.#closedTo = this.#queue.length;
    }
    const waiting = readCount(from, 11);
    for (let i = 0; i < waiting; i += 1) this.#addEarly({ recommendationId: from.string(), item: from.string(), user: from.string(), atMs: from.f64() });
    from.end();
  }
}

function checkOptions(options: JoinerOptions): void {
  const { windowMs, latenessMs, earlyMs, gapMs, negativeRate, openAnswersMax, earlyEventsMax } = options;
  const bad = (name: string, allowed: string): never => {
    throw new MillraceError("invalid", `training option ${name}`, { todo: `choose ${allowed}` });
  };
  if (!(windowMs >= 0 && Number.isFinite(windowMs))) bad("windowMs", "milliseconds from 0 on");
  if (!(latenessMs >= 0 && Number.isFinite(latenessMs))) bad("latenessMs", "milliseconds from 0 on");
  if (!(earlyMs >= 0 && Number.isFinite(earlyMs))) bad("earlyMs", "milliseconds from 0 on");
  if (!(gapMs > 0)) bad("gapMs", "milliseconds above 0");
  if (!(negativeRate > 0 && negativeRate <= 1)) bad("negativeRate", "a share above 0 up to 1");
  if (!Number.isInteger(openAnswersMax) || openAnswersMax < 1) bad("openAnswersMax", "a whole number from 1 on");
  if (!Number.isInteger(earlyEventsMax) || earlyEventsMax < 1) bad("earlyEventsMax", "a whole number from 1 on");
}
