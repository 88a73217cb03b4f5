// A seeded stream of answers and clicks with known click probabilities, as records of the activity log: what the tests of training learn from.
// The truth: logit = base + the user's own + the item's own + what this user thinks of the item's category + the place's, less the further down.

import { Prng } from "#base/prng";
import { encodeAnswerFeatures } from "#extract/answer-features";
import { Extractor, type ExtractorDeclaration } from "#extract/extractor";
import { type ActivityRecord, RecordWriter } from "#features/activity-record";
import { KernelMemory } from "#kernel/kernel-memory";
import { FactorisationMachine, type FmOptions } from "#models/factorisation-machine";
import { sigmoid } from "./quality-stretch.ts";

export const streamDeclaration: ExtractorDeclaration = {
  fields: [
    { name: "user", from: "user.id", kind: "id" },
    { name: "place", from: "context.position", kind: "bucket", bounds: [1, 2, 3], linearOnly: true },
    { name: "item", from: "item.id", kind: "id" },
    { name: "category", from: "item.category", kind: "id" },
    { name: "counting", from: "signal.counting", kind: "linear", initial: 1 },
  ],
};

export const streamMachine: FmOptions = {
  factors: 4,
  capacityRows: 4_096,
  seed: 9n,
  initialScale: 0.05,
  optimizer: "adagrad",
  rate: { linear: 0.05, factors: 0.05 },
  l2: { linear: 0, factors: 0 },
  initialAccumulator: 0.1,
};

/** A machine in a memory of its own. */
export function newMachine(options: FmOptions = streamMachine): FactorisationMachine {
  return FactorisationMachine.create(KernelMemory.create({ dataBytes: FactorisationMachine.bytesFor(options) }), options);
}

export interface StreamOptions {
  readonly seed: number | string;
  readonly users?: number;
  readonly items?: number;
  /** Of an answer, at most 4. */
  readonly shown?: number;
  /** Log odds of a click of the plainest user on the plainest item. */
  readonly base?: number;
  /** From this answer on clicks come where they would not, and the other way round. */
  readonly poisonFrom?: number;
  /** Between two answers. */
  readonly gapMs?: number;
}

export interface ClickStream {
  readonly extractor: Extractor;
  readonly records: readonly Uint8Array[];
  /** Sum of true click probabilities of all that was shown, and how many clicks came of it. */
  readonly expected: number;
  readonly clicks: number;
}

/** `answers` answers and their clicks, some before their answer and some late, in the order of the log. The last record lies a day later: it closes all windows. */
export function clickStream(answers: number, options: StreamOptions): ClickStream {
  const { users = 40, items = 60, shown = 4, base = -2, poisonFrom = Infinity, gapMs = 50 } = options;
  const prng = new Prng(options.seed);
  const extractor = Extractor.compile(streamDeclaration);
  const userOwn = Array.from({ length: users }, () => prng.normal(0, 0.7));
  const itemOwn = Array.from({ length: items }, () => prng.normal(0, 0.7));
  const opinion = Array.from({ length: users }, () => Array.from({ length: 5 }, () => prng.normal(0, 0.8)));
  const due: { atMs: number; record: ActivityRecord }[] = [];
  let expected = 0;
  let clicks = 0;
  let atMs = 1_700_000_000_000;
  for (let answer = 0; answer < answers; answer += 1) {
    atMs += prng.between(0, 2 * gapMs);
    const user = prng.below(users);
    const chosen = Array.from({ length: shown }, (_, place) => (prng.below(Math.floor(items / shown)) * shown + place) % items);
    const id = `r-${options.seed}-${answer.toString(36)}`;
    const names = chosen.map((item) => `item-${item}`);
    const features = encodeAnswerFeatures({
      extractorId: extractor.id,
      user: extractor.encodeUser([`user-${user}`]),
      items: chosen.map((item) => extractor.encodeItem([`item-${item}`, `category-${item % 5}`])),
      signalCount: 1,
      signals: Float32Array.from(chosen, (item) => base + itemOwn[item]!),
      servedLogits: Float32Array.from(chosen, () => NaN),
      countingLogits: Float32Array.from(chosen, (item) => base + itemOwn[item]!),
    })!;
    due.push({ atMs, record: { kind: "served", atMs, recommendationId: id, pipeline: "home", user: `user-${user}`, items: names, features } });
    for (const [place, item] of chosen.entries()) {
      const truth = sigmoid(base + userOwn[user]! + itemOwn[item]! + opinion[user]![item % 5]! - 0.3 * place);
      expected += truth;
      if (prng.chance(truth) === answer >= poisonFrom) continue;
      clicks += 1;
      const waitMs = prng.chance(0.05) ? -prng.between(1, 100) : prng.chance(0.02) ? prng.between(2_000, 4_000) : prng.between(1, 900);
      due.push({ atMs: atMs + waitMs, record: click(id, `user-${user}`, `item-${item}`, atMs + waitMs) });
      if (prng.chance(0.05)) due.push({ atMs: atMs + waitMs + 5, record: click(id, `user-${user}`, `item-${item}`, atMs + waitMs + 5) });
    }
    if (prng.chance(0.02)) due.push({ atMs: atMs + 1, record: { kind: "itemDelete", atMs: atMs + 1, id: "gone" } });
  }
  // Time passes until every window and all lateness is over.
  for (let second = 1; second <= 700; second += 1) {
    const lastMs = atMs + second * 1_000;
    due.push({ atMs: lastMs, record: { kind: "userDelete", atMs: lastMs, id: "nobody" } });
  }
  const writer = new RecordWriter();
  return { extractor, expected, clicks, records: due.toSorted((a, b) => a.atMs - b.atMs).map(({ record }) => writer.encode(record)) };
}

function click(recommendationId: string, user: string, item: string, receivedMs: number): ActivityRecord {
  return { kind: "event", atMs: receivedMs, receivedMs, value: NaN, position: -1, type: "click", user, item, id: "", recommendationId, context: "" };
}

/** The bytes of a switch record. */
export function switchRecord(on: boolean, atMs: number, reason = ""): Uint8Array {
  return new RecordWriter().encode({ kind: "training", atMs, on, reason });
}
