// Mailbox: requests of one serving loop to one ranker thread, and their answers, in shared memory.
// Why not messages: a request is 250 KB of slots (copied once into memory that the ranker reads in place, instead of cloned into a message), the ranker sees new
// requests between two pieces of work without returning to its event loop, and a request that timed out is taken back before it costs anything.
//
//   header  64 bytes: u32 magic, slots, slotBytes;  a line of 64 bytes each: i32 requests rung; i32 answers rung and, by the ranker too, pieces of work done
//   slot    64 bytes of head (words below), then the request: user offsets of a row, item offsets, ends, keys, weights; the answer takes the request's place
//
//   free --post--> waiting --take--> taken --answer--> answered --collect--> free
//                     |                |                                      ^
//                     |                '--cancel--> abandoned --answer--------'   (the ranker gives it back, the answer is thrown away)
//                     '--cancel--> free
//
// Invariants: 1. every transition is one compare-and-exchange, so exactly one side has a slot  2. a slot is not used again before the ranker is done with it
// 3. an answer carries the sequence number of its request, and one with another number is thrown away: a late answer never becomes a later request's
// 4. one mailbox serves one life of a ranker: after a death there is a new one, so the dead can write nowhere that matters.
// Cost: 12 bytes a slot to copy (0.05 ms for 400 candidates), 1 us of its own. Memory is used as far as requests reached: the last freed slot is the next.
// Concurrency: post, cancel and collect by the serving loop; take, take back and answer by the ranker.
// Limits: slots (requests under way), slotBytes (a request and its answer).

import { SlotRows } from "#extract/slot-rows";
import { assert, type ErrorCode, errorActors, MillraceError, toMillraceError } from "#base/errors";
import { type RankingRequestKind, rankingRequestKinds } from "./ranking-metrics.ts";

const magic = 0x31_58_42_4d; // "MBX1"
const headerBytes = 192;
const requestBellWord = 16;
const answerBellWord = 32;
const beatWord = 40;
const slotHeadBytes = 64;

const state = { free: 0, waiting: 1, taken: 2, answered: 3, abandoned: 4 } as const;

/** Words of a slot's head. */
const word = {
  state: 0,
  sequence: 1,
  /** Posted as the n-th: older ones have smaller numbers. */
  order: 2,
  kind: 3,
  k: 4,
  item: 5,
  userSlots: 6,
  userLinearEnd: 7,
  itemRows: 8,
  itemSlots: 9,
  answerSequence: 10,
  /** Answers found, or the length of the error's text as -1 - bytes. */
  count: 11,
  computeUs: 12,
  batch: 13,
} as const;

export const mailboxLimits = { slotsMax: 1_024, slotBytesMin: 16 << 10, slotBytesMax: 64 << 20, bytesMax: 1 << 30 } as const;

export interface MailboxShape {
  readonly slots: number;
  readonly slotBytes: number;
}

/** What a caller wants. `user` for score and search, `items` for score. */
export interface RankingRequest {
  readonly kind: RankingRequestKind;
  readonly user?: SlotRows;
  readonly items?: SlotRows;
  readonly k?: number;
  readonly item?: number;
}

/** How the ranker found a request and what it took. */
export interface AnswerReport {
  readonly computeUs: number;
  readonly batch: number;
}

/** Bytes of a request with its head. */
export function requestBytes(request: RankingRequest): number {
  const userSlots = request.user?.slots ?? 0;
  const itemSlots = request.items?.slots ?? 0;
  const rows = request.items?.rows ?? 0;
  return slotHeadBytes + Math.max(8 * (rows + 1) + 12 * (userSlots + itemSlots), 8 * (request.k ?? 0));
}

class SharedSlots {
  readonly buffer: SharedArrayBuffer;
  readonly slots: number;
  readonly slotBytes: number;
  readonly words: Int32Array<SharedArrayBuffer>;
  readonly u32: Uint32Array<SharedArrayBuffer>;
  readonly f32: Float32Array<SharedArrayBuffer>;

  constructor(buffer: SharedArrayBuffer) {
    this.buffer = buffer;
    this.words = new Int32Array(buffer);
    this.u32 = new Uint32Array(buffer);
    this.f32 = new Float32Array(buffer);
    if (this.words[0] !== magic) throw new MillraceError("invalid", "this shared memory is no mailbox", { todo: "pass the buffer of createMailbox" });
    this.slots = this.words[1]!;
    this.slotBytes = this.words[2]!;
  }

  /** Word index of a slot's head. */
  head(slot: number): number {
    return (headerBytes + slot * this.slotBytes) / 4;
  }

  change(slot: number, from: number, to: number): boolean {
    return Atomics.compareExchange(this.words, this.head(slot) + word.state, from, to) === from;
  }
}

/** A mailbox for one life of a ranker. Throws `invalid` for a shape beyond the limits. */
export function createMailbox(shape: MailboxShape): SharedArrayBuffer {
  const { slots } = shape;
  const slotBytes = Math.ceil(shape.slotBytes / 64) * 64;
  const bytes = headerBytes + slots * slotBytes;
  if (!Number.isInteger(slots) || slots < 1 || slots > mailboxLimits.slotsMax) {
    throw new MillraceError("invalid", `a mailbox of ${slots} slots`, { todo: `ask for 1 to ${mailboxLimits.slotsMax}` });
  }
  if (!(slotBytes >= mailboxLimits.slotBytesMin && slotBytes <= mailboxLimits.slotBytesMax) || bytes > mailboxLimits.bytesMax) {
    throw new MillraceError("invalid", `a mailbox of ${slots} slots of ${slotBytes} bytes`, {
      todo: `use slots of ${mailboxLimits.slotBytesMin} to ${mailboxLimits.slotBytesMax} bytes, ${mailboxLimits.bytesMax} in all`,
    });
  }
  const buffer = new SharedArrayBuffer(bytes);
  new Int32Array(buffer).set([magic, slots, slotBytes]);
  return buffer;
}

/** The bells of a mailbox: counters that wake whoever waits for them. */
export function mailboxBells(buffer: SharedArrayBuffer): { words: Int32Array<SharedArrayBuffer>; requests: number; answers: number } {
  return { words: new Int32Array(buffer), requests: requestBellWord, answers: answerBellWord };
}

/** A request that was posted: what the serving loop keeps of it. */
export interface Posted {
  readonly slot: number;
  readonly sequence: number;
}

/** The serving loop's side. */
export class MailboxSender {
  readonly #shared: SharedSlots;
  readonly #free: number[] = [];
  readonly #abandoned = new Set<number>();
  #sequence = 0;

  constructor(buffer: SharedArrayBuffer) {
    this.#shared = new SharedSlots(buffer);
    for (let slot = this.#shared.slots - 1; slot >= 0; slot--) this.#free.push(slot);
  }

  /** Copies the request into a free slot and makes it visible; `undefined` when none is free. Throws `invalid` when it is larger than a slot. Then ring. */
  post(request: RankingRequest): Posted | undefined {
    const shared = this.#shared;
    const bytes = requestBytes(request);
    if (bytes > shared.slotBytes) {
      throw new MillraceError("invalid", `a ranking request of ${bytes} bytes exceeds ${shared.slotBytes}`, {
        todo: "rank fewer candidates at once, or raise the request size of the ranker",
      });
    }
    this.#reclaim();
    const slot = this.#free.pop();
    if (slot === undefined) return undefined;
    const head = shared.head(slot);
    assert(Atomics.load(shared.words, head + word.state) === state.free, "a free slot of the mailbox is in use");
    this.#sequence = (this.#sequence + 1) >>> 0;
    const { u32, f32 } = shared;
    const { user, items } = request;
    const userSlots = user?.slots ?? 0;
    const itemSlots = items?.slots ?? 0;
    const rows = items?.rows ?? 0;
    u32[head + word.sequence] = this.#sequence;
    u32[head + word.order] = this.#sequence;
    u32[head + word.kind] = rankingRequestKinds.indexOf(request.kind);
    u32[head + word.k] = request.k ?? 0;
    u32[head + word.item] = request.item ?? 0;
    u32[head + word.userSlots] = userSlots;
    u32[head + word.userLinearEnd] = user?.linearEnds[0] ?? 0;
    u32[head + word.itemRows] = rows;
    u32[head + word.itemSlots] = itemSlots;
    let at = head + slotHeadBytes / 4;
    if (items !== undefined) {
      u32.set(items.offsets.subarray(0, rows + 1), at);
      u32.set(items.linearEnds.subarray(0, rows), at + rows + 1);
    }
    at += 2 * (rows + 1);
    if (user !== undefined) {
      u32.set(user.keys.subarray(0, 2 * userSlots), at);
      f32.set(user.weights.subarray(0, userSlots), at + 2 * userSlots);
    }
    at += 3 * userSlots;
    if (items !== undefined) {
      u32.set(items.keys.subarray(0, 2 * itemSlots), at);
      f32.set(items.weights.subarray(0, itemSlots), at + 2 * itemSlots);
    }
    Atomics.store(shared.words, head + word.state, state.waiting);
    return { slot, sequence: this.#sequence };
  }

  /** True: the request is given up and will never be answered. False: its answer is there already. */
  cancel(posted: Posted): boolean {
    if (this.#shared.change(posted.slot, state.waiting, state.free)) {
      this.#free.push(posted.slot);
      return true;
    }
    if (this.#shared.change(posted.slot, state.taken, state.abandoned)) {
      this.#abandoned.add(posted.slot);
      return true;
    }
    return false;
  }

  /** Changes while the ranker works. */
  get beats(): number {
    return Atomics.load(this.#shared.words, beatWord);
  }

  answered(posted: Posted): boolean {
    return Atomics.load(this.#shared.words, this.#shared.head(posted.slot) + word.state) === state.answered;
  }

  /** Copies an answer out and frees its slot: logits of a score to `scores`, or items and scores of a search. Returns how many; throws what the ranker met. */
  collect(posted: Posted, scores: Float32Array, items: Uint32Array | undefined, report: (report: AnswerReport) => void): number {
    const shared = this.#shared;
    const head = shared.head(posted.slot);
    assert(this.answered(posted), "an answer was collected before it was there");
    const sequence = shared.u32[head + word.answerSequence]!;
    const count = shared.words[head + word.count]!;
    const at = head + slotHeadBytes / 4;
    let failure: MillraceError | undefined;
    if (sequence !== posted.sequence) {
      failure = new MillraceError("internal", "a ranking answer of another request", { todo: "report this: a slot of the mailbox was used twice" });
    } else if (count < 0) {
      failure = decodeError(new Uint8Array(shared.buffer, at * 4, -1 - count));
    } else {
      report({ computeUs: shared.f32[head + word.computeUs]!, batch: shared.u32[head + word.batch]! });
      scores.set(shared.f32.subarray(at, at + count));
      items?.set(shared.u32.subarray(at + count, at + 2 * count));
    }
    Atomics.store(shared.words, head + word.state, state.free);
    this.#free.push(posted.slot);
    if (failure !== undefined) throw failure;
    return count;
  }

  /** Slots that the ranker gave back after their request was given up. */
  #reclaim(): void {
    for (const slot of this.#abandoned) {
      if (Atomics.load(this.#shared.words, this.#shared.head(slot) + word.state) !== state.free) continue;
      this.#abandoned.delete(slot);
      this.#free.push(slot);
    }
  }
}

/** A request as the ranker reads it: in place, valid until it is answered. */
export interface TakenRequest {
  readonly slot: number;
  readonly sequence: number;
  readonly order: number;
  readonly kind: RankingRequestKind;
  readonly k: number;
  readonly item: number;
  readonly user: SlotRows;
  readonly items: SlotRows;
}

/** The ranker's side. */
export class MailboxReceiver {
  readonly #shared: SharedSlots;

  constructor(buffer: SharedArrayBuffer) {
    this.#shared = new SharedSlots(buffer);
  }

  /** A sign of life: at each piece of work. */
  beat(): void {
    Atomics.add(this.#shared.words, beatWord, 1);
  }

  /** Takes all waiting requests, oldest first. One that cannot be read is answered with its error. */
  take(): TakenRequest[] {
    const shared = this.#shared;
    const taken: TakenRequest[] = [];
    for (let slot = 0; slot < shared.slots; slot++) {
      if (Atomics.load(shared.words, shared.head(slot) + word.state) !== state.waiting || !shared.change(slot, state.waiting, state.taken)) continue;
      try {
        taken.push(this.#read(slot));
      } catch (thrown) {
        this.fail({ slot, sequence: shared.u32[shared.head(slot) + word.sequence]! }, thrown);
      }
    }
    // Numbers wrap after 2^32 requests; those under way are never half of them apart.
    return taken.sort((a, b) => (a.order - b.order) | 0);
  }

  /** True when the caller gave up: the request need not be worked on; `fail` or `answer` gives its slot back. */
  isAbandoned(request: Posted): boolean {
    return Atomics.load(this.#shared.words, this.#shared.head(request.slot) + word.state) === state.abandoned;
  }

  /** Hands the answer over, in place of the request. Then ring. */
  answer(request: Posted, count: number, scores: Float32Array, items: Uint32Array | undefined, report: AnswerReport): void {
    const { f32, u32 } = this.#shared;
    const head = this.#shared.head(request.slot);
    const at = head + slotHeadBytes / 4;
    f32.set(scores.subarray(0, count), at);
    if (items !== undefined) u32.set(items.subarray(0, count), at + count);
    f32[head + word.computeUs] = report.computeUs;
    u32[head + word.batch] = report.batch;
    this.#hand(request, count);
  }

  /** Hands an error over. */
  fail(request: Posted, thrown: unknown): void {
    const head = this.#shared.head(request.slot);
    const bytes = encodeError(thrown);
    new Uint8Array(this.#shared.buffer).set(bytes, head * 4 + slotHeadBytes);
    this.#hand(request, -1 - bytes.length);
  }

  #hand(request: Posted, count: number): void {
    const shared = this.#shared;
    const head = shared.head(request.slot);
    shared.words[head + word.count] = count;
    shared.u32[head + word.answerSequence] = request.sequence;
    if (shared.change(request.slot, state.taken, state.answered)) return;
    assert(shared.change(request.slot, state.abandoned, state.free), "a slot of the mailbox that the ranker has is neither taken nor abandoned");
  }

  #read(slot: number): TakenRequest {
    const shared = this.#shared;
    const head = shared.head(slot);
    const { u32, f32 } = shared;
    const userSlots = u32[head + word.userSlots]!;
    const userLinearEnd = u32[head + word.userLinearEnd]!;
    const rows = u32[head + word.itemRows]!;
    const itemSlots = u32[head + word.itemSlots]!;
    const kind = rankingRequestKinds[u32[head + word.kind]!];
    const k = u32[head + word.k]!;
    const fits = slotHeadBytes + Math.max(8 * (rows + 1) + 12 * (userSlots + itemSlots), 8 * k) <= shared.slotBytes;
    assert(kind !== undefined && fits && userLinearEnd <= userSlots, "a ranking request with a broken head");
    let at = head + slotHeadBytes / 4;
    const items = new SlotRows(0, 0);
    items.rows = rows;
    items.offsets = u32.subarray(at, at + rows + 1);
    items.linearEnds = u32.subarray(at + rows + 1, at + 2 * rows + 1);
    at += 2 * (rows + 1);
    const user = new SlotRows(0, 0);
    user.rows = 1;
    user.offsets = Uint32Array.of(0, userSlots);
    user.linearEnds = Uint32Array.of(userLinearEnd);
    user.keys = u32.subarray(at, at + 2 * userSlots);
    user.weights = f32.subarray(at + 2 * userSlots, at + 3 * userSlots);
    at += 3 * userSlots;
    items.keys = u32.subarray(at, at + 2 * itemSlots);
    items.weights = f32.subarray(at + 2 * itemSlots, at + 3 * itemSlots);
    if (rows > 0) checkRows(items, itemSlots);
    return { slot, sequence: u32[head + word.sequence]!, order: u32[head + word.order]!, kind, k, item: u32[head + word.item]!, user, items };
  }
}

/** Offsets that rise from 0 to the end, and ends between them: what reads a row never leaves the request. */
function checkRows(rows: SlotRows, slots: number): void {
  const { offsets, linearEnds } = rows;
  let sound = offsets[0] === 0 && offsets[rows.rows] === slots;
  for (let row = 0; row < rows.rows; row++) sound &&= offsets[row]! <= linearEnds[row]! && linearEnds[row]! <= offsets[row + 1]!;
  assert(sound, "a ranking request whose rows do not fit its slots");
}

const errorTextMax = 4_000;

function encodeError(thrown: unknown): Uint8Array {
  const error = toMillraceError(thrown, "ranking failed");
  const cause = error.cause instanceof Error ? ` (${error.cause.message})` : "";
  const text = { code: error.code, what: (error.what + cause).slice(0, errorTextMax / 4), todo: error.todo?.slice(0, errorTextMax / 4) };
  return new TextEncoder().encode(JSON.stringify(text));
}

function decodeError(shared: Uint8Array): MillraceError {
  // A TextDecoder takes no shared memory.
  const text = JSON.parse(new TextDecoder().decode(Uint8Array.from(shared))) as { code: ErrorCode; what: string; todo?: string };
  const code = text.code in errorActors ? text.code : "internal";
  return new MillraceError(code, text.what, text.todo === undefined ? {} : { todo: text.todo });
}
