// The joiner against one that looks through the whole log for each answer, over random orders, restarts and memories; then each count by itself.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { LogRecords } from "#backbone/log";
import { MillraceError } from "#base/errors";
import { encodeAnswerFeatures } from "#extract/answer-features";
import { type ActivityRecord, decodeRecord, RecordWriter } from "#features/activity-record";
import { KeyHasher, keySeed } from "#kernel/key-hash";
import { AnswerRecords } from "./answer-records.ts";
import { Joiner, joinerDefaults, type JoinerOptions } from "./joiner.ts";
import type { JoinedSample } from "./sample-record.ts";

const runs = process.env["MILLRACE_LONG"] === undefined ? 150 : 3_000;
const seed = Number(process.env["SEED"] ?? 20_260_302);
const extractorId = 77;

/** Features whose bytes say which item and answer they are of, so that a mix-up shows. */
function featuresFor(id: string, items: readonly string[], of = extractorId): Uint8Array {
  const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
  return encodeAnswerFeatures({
    extractorId: of,
    user: bytes(`user of ${id}`),
    items: items.map((item) => bytes(`${item} in ${id}`)),
    signalCount: 2,
    signals: Float32Array.from(items.flatMap((_, at) => [at, at / 2])),
    servedLogits: Float32Array.from(items, (_, at) => -at),
    countingLogits: Float32Array.from(items, () => NaN),
  })!;
}

function served(id: string, items: readonly string[], atMs: number, features: Uint8Array | undefined = featuresFor(id, items)): ActivityRecord {
  return { kind: "served", atMs, recommendationId: id, pipeline: "home", user: `u-${id}`, items, ...(features === undefined ? {} : { features }) };
}

function action(recommendationId: string, item: string, receivedMs: number, type = "click"): ActivityRecord {
  // The client's clock is wrong on purpose: nothing may depend on it.
  return {
    kind: "event",
    atMs: receivedMs + 1e9,
    receivedMs,
    value: NaN,
    position: -1,
    type,
    user: `u-${recommendationId}`,
    item,
    id: "",
    recommendationId,
    context: "",
  };
}

const options = (some: Partial<JoinerOptions> = {}): JoinerOptions => ({
  ...joinerDefaults,
  positiveTypes: ["click", "like"],
  windowMs: 100,
  latenessMs: 300,
  earlyMs: 50,
  gapMs: Infinity,
  ...some,
});

/** A log in memory that gives pieces of a few records, so that the joiner has to ask again. */
function logOf(records: readonly ActivityRecord[]): { bytes: Uint8Array[]; read: (offset: number) => Promise<LogRecords | undefined> } {
  const writer = new RecordWriter();
  const bytes = records.map((record) => writer.encode(record).slice());
  return {
    bytes,
    read: async (offset) => {
      await Promise.resolve();
      return offset < bytes.length ? { firstOffset: offset, records: bytes.slice(offset, offset + 3) } : undefined;
    },
  };
}

interface Caused {
  /** Offset of the record during which it came. */
  readonly at: number;
  readonly sample: JoinedSample;
}

/** Runs records through joiners that are saved and restored at the given offsets; `cacheBytes` bounds the memory of records. */
async function join(
  records: readonly ActivityRecord[],
  some: JoinerOptions,
  restarts: ReadonlySet<number> = new Set(),
  cacheBytes = 1e6,
): Promise<{ caused: Caused[]; joiner: Joiner; reads: number; state: Uint8Array }> {
  const { bytes, read } = logOf(records);
  const caused: Caused[] = [];
  let now = 0;
  let reads = 0;
  const start = (): { joiner: Joiner; answers: AnswerRecords } => {
    const answers = new AnswerRecords(read, cacheBytes);
    return { answers, joiner: new Joiner(some, extractorId, answers, (sample) => caused.push({ at: now, sample: structuredClone(sample) })) };
  };
  let current = start();
  for (now = 0; now < bytes.length; now += 1) {
    if (restarts.has(now)) {
      const saved = current.joiner.save();
      reads += current.answers.reads;
      current = start();
      current.joiner.load(saved);
    }
    await current.joiner.take(decodeRecord(bytes[now]!), bytes[now]!, now);
    assert.ok(current.answers.bytes <= cacheBytes);
    assert.ok(current.joiner.heldAnswers <= some.openAnswersMax);
  }
  return { caused, joiner: current.joiner, reads: reads + current.answers.reads, state: current.joiner.save() };
}

/** What should come out, worked out answer by answer with the whole log at hand: `offset of the causing record, id, position, label, late`. */
function naive(records: readonly ActivityRecord[], some: JoinerOptions): string[] {
  // Active time: a gap counts `gapMs` at most.
  const clocks: number[] = [];
  let newestMs = -Infinity;
  for (const record of records) {
    const atMs = record.kind === "event" ? record.receivedMs : record.atMs;
    clocks.push((clocks.at(-1) ?? 0) + (newestMs === -Infinity ? 0 : Math.min(Math.max(0, atMs - newestMs), some.gapMs)));
    newestMs = Math.max(newestMs, atMs);
  }
  const firstAt = (atMs: number): number => {
    const found = clocks.findIndex((clock) => clock >= atMs);
    return found < 0 ? Infinity : found;
  };
  const out: { at: number; order: number; text: string }[] = [];
  const open = new Map<string, number>();
  for (const [index, record] of records.entries()) {
    if (record.kind !== "served") continue;
    const { recommendationId: id, items, features } = record;
    const before = open.get(id);
    if (before !== undefined && before > index) continue;
    const closedAt = firstAt(clocks[index]! + some.windowMs);
    const forgottenAt = firstAt(clocks[index]! + some.windowMs + some.latenessMs);
    open.set(id, forgottenAt);
    if (features === undefined) continue;
    const wantedAt = new Map<number, number>();
    // An answer of the same id before this one, if any, has taken the actions before it was forgotten.
    const since = before ?? 0;
    for (const [at, event] of records.entries()) {
      if (event.kind !== "event" || event.recommendationId !== id || !some.positiveTypes.includes(event.type)) continue;
      const position = items.indexOf(event.item);
      if (position < 0 || wantedAt.has(position) || at < since) continue;
      const early = at < index && clocks[index]! < clocks[at]! + some.earlyMs;
      if (!early && !(at > index && at < forgottenAt)) continue;
      const joinedAt = Math.max(at, index);
      wantedAt.set(position, joinedAt);
      out.push({ at: joinedAt, order: 1e9 + at, text: `${joinedAt} ${id} ${position} 1` });
    }
    if (closedAt === Infinity) continue;
    for (const [position, item] of items.entries()) {
      if ((wantedAt.get(position) ?? Infinity) < closedAt) continue;
      const key = new TextEncoder().encode(`${id}\0${item}`);
      const hasher = new KeyHasher(keySeed(BigInt(some.seed)));
      hasher.hash(new DataView(key.buffer), 0, key.length);
      if (hasher.high / 2 ** 32 < some.negativeRate) out.push({ at: closedAt, order: index * 1_000 + position, text: `${closedAt} ${id} ${position} 0` });
    }
  }
  return out.toSorted((a, b) => a.at - b.at || a.order - b.order).map(({ text }) => text);
}

const texts = (caused: readonly Caused[]): string[] => caused.map(({ at, sample }) => `${at} ${sample.recommendationId} ${sample.position} ${sample.label}`);

/** Logs of few answers and items, so that repeats, strangers, early and late actions are frequent; steps of time reach over window and lateness. */
const step = fc.record({
  what: fc.constantFrom("served", "served", "click", "click", "click", "like", "view", "put", "bare"),
  id: fc.integer({ min: 0, max: 5 }),
  item: fc.integer({ min: 0, max: 4 }),
  count: fc.integer({ min: 1, max: 4 }),
  waitMs: fc.constantFrom(0, 0, 1, 10, 30, 60, 120, 450, -40),
});

const logs = fc.array(step, { minLength: 1, maxLength: 60 }).map((steps) => {
  let nowMs = 1_000;
  return steps.map(({ what, id, item, count, waitMs }): ActivityRecord => {
    nowMs += waitMs;
    const items = Array.from({ length: count }, (_, at) => `i${(item + at) % 5}`);
    switch (what) {
      case "served":
        return served(`r${id}`, items, nowMs);
      case "bare":
        return { kind: "served", atMs: nowMs, recommendationId: `r${id}`, pipeline: "home", user: `u-r${id}`, items };
      case "put":
        return { kind: "itemDelete", atMs: nowMs, id: "x" };
      default:
        return action(`r${id}`, `i${item}`, nowMs, what);
    }
  });
});

test("the joiner against one that looks through the whole log for each answer", async (t) => {
  t.diagnostic(`seed ${seed}, ${runs} runs`);
  await fc.assert(
    fc.asyncProperty(logs, fc.constantFrom(1, 0.5, 0.1), fc.constantFrom(Infinity, 60), async (records, negativeRate, gapMs) => {
      const some = options({ negativeRate, gapMs });
      const { caused, joiner } = await join(records, some);
      assert.deepEqual(texts(caused), naive(records, some));
      for (const { sample } of caused) {
        // The features are those of this item in this answer.
        assert.equal(new TextDecoder().decode(sample.itemBytes), `${sample.item} in ${sample.recommendationId}`);
        assert.equal(new TextDecoder().decode(sample.userBytes), `user of ${sample.recommendationId}`);
        assert.deepEqual([...sample.signals, sample.servedLogit], [sample.position, sample.position / 2, sample.position === 0 ? -0 : -sample.position]);
        assert.equal(sample.rate, negativeRate);
      }
      const labels = [0, 0];
      for (const { sample } of caused) labels[sample.label]! += 1;
      assert.deepEqual(labels, [joiner.counts.negatives, joiner.counts.positives]);
    }),
    { numRuns: runs, seed },
  );
});

test("promise: restarts at any records and a memory of any size give the same samples in the same order", async () => {
  await fc.assert(
    fc.asyncProperty(
      logs,
      fc.array(fc.integer({ min: 0, max: 59 }), { maxLength: 6 }),
      fc.constantFrom(0, 300, 1e6),
      fc.constantFrom(2, 1e3),
      async (records, cuts, cacheBytes, openAnswersMax) => {
        const some = options({ negativeRate: 0.5, openAnswersMax, earlyEventsMax: openAnswersMax });
        const whole = await join(records, some);
        const cut = await join(records, some, new Set(cuts), cacheBytes);
        assert.deepEqual(cut.caused, whole.caused);
        assert.deepEqual(cut.joiner.counts, whole.joiner.counts);
        assert.deepEqual(cut.state, whole.state);
      },
    ),
    { numRuns: runs, seed },
  );
});

test("early, late, repeated and stray actions are counted by what became of them", async () => {
  const { caused, joiner } = await join(
    [
      action("a", "x", 1_000), // before its answer
      action("b", "x", 1_000), // its answer never comes
      served("a", ["x", "y", "z"], 1_010),
      action("a", "x", 1_020, "like"), // wanted already
      action("a", "w", 1_020), // not shown
      action("a", "y", 1_020, "view"), // says nothing
      action("", "y", 1_020), // of no answer
      served("c", ["x"], 1_110), // closes a: y and z are negatives
      action("a", "y", 1_200), // late
      action("a", "z", 1_600), // beyond lateness
      served("d", ["x"], 1_700),
    ],
    options(),
  );
  assert.deepEqual(texts(caused), ["2 a 0 1", "7 a 1 0", "7 a 2 0", "8 a 1 1", "9 c 0 0"]);
  const { early, late, repeated, unjoined, answers, positives, negatives } = joiner.counts;
  assert.deepEqual(
    { early, late, repeated, unjoined, answers, positives, negatives },
    { early: 3, late: 1, repeated: 1, unjoined: 3, answers: 3, positives: 2, negatives: 3 },
  );
  assert.deepEqual([joiner.openAnswers, joiner.heldAnswers, joiner.earlyActions], [1, 1, 0]);
});

test("answers without features, with those of another extractor or with damaged ones make no samples and are counted apart", async () => {
  const { caused, joiner } = await join(
    [
      served("a", ["x"], 1_000, featuresFor("a", ["x"], extractorId + 1)),
      { kind: "served", atMs: 1_000, recommendationId: "b", pipeline: "home", user: "u", items: ["x"] },
      served("c", ["x"], 1_000, featuresFor("c", ["x"]).subarray(3)),
      served("d", ["x", "y"], 1_000, featuresFor("d", ["x"])),
      action("a", "x", 1_010),
      action("b", "x", 1_010),
      served("e", ["x"], 2_000),
      served("f", ["x"], 3_000),
    ],
    options(),
  );
  assert.deepEqual(texts(caused), ["7 e 0 0"]);
  const { answers, answersWithoutFeatures, answersOfOtherExtractor, answersUnreadable, unjoined } = joiner.counts;
  assert.deepEqual([answers, answersWithoutFeatures, answersOfOtherExtractor, answersUnreadable, unjoined], [6, 1, 1, 2, 0]);
});

test("more open answers than allowed: the oldest is closed early and counted; its late actions join nothing", async () => {
  const records = [
    ...Array.from({ length: 10 }, (_, at) => served(`r${at}`, ["x", "y"], 1_000 + at)),
    action("r0", "x", 1_020),
    action("r8", "x", 1_020),
    served("end", ["x"], 5_000),
  ];
  const { caused, joiner } = await join(records, options({ openAnswersMax: 3 }));
  assert.equal(joiner.counts.answersClosedEarly, 7);
  assert.deepEqual(texts(caused).slice(0, 2), ["3 r0 0 0", "3 r0 1 0"]);
  assert.ok(texts(caused).includes("11 r8 0 1"));
  assert.equal(joiner.counts.positives, 1);
  assert.equal(joiner.counts.early, 1, "the action on the forgotten answer waits, as if early");
});

test("negatives are kept at their rate, by a draw that a restart or another order does not change", async (t) => {
  const count = 4_000;
  const records = Array.from({ length: count }, (_, at) => served(`r-${at}`, ["x", "y", "z", "w", "v"], 1_000 + at));
  records.push(served("end", ["x"], 1e6));
  const some = options({ negativeRate: 0.1, openAnswersMax: 10_000 });
  const { joiner, caused } = await join(records, some, new Set([1_500]), 0);
  const kept = joiner.counts.negatives;
  // Five standard deviations of a binomial.
  const deviation = Math.sqrt(5 * count * 0.1 * 0.9);
  assert.ok(Math.abs(kept - 5 * count * 0.1) < 5 * deviation, `${kept} kept`);
  assert.equal(kept + joiner.counts.negativesLeftOut, 5 * count);
  const other = await join(records, { ...some, seed: 2 });
  assert.notDeepEqual(texts(other.caused), texts(caused));
  t.diagnostic(`${kept} of ${5 * count} kept at 0.1`);
});

test("windows that close long after: one read of the log serves many answers", async () => {
  const records = Array.from({ length: 300 }, (_, at) => served(`r${at}`, ["x"], 1_000));
  records.push(served("end", ["x"], 9_000));
  const { caused, reads } = await join(records, options(), new Set(), 0);
  assert.equal(caused.length, 300);
  assert.equal(reads, 100, "the log of this test gives three records a read");
});

test("a log that was trimmed under an open answer: counted, and training goes on", async () => {
  const { bytes } = logOf([served("a", ["x"], 1_000), served("b", ["x"], 5_000), served("c", ["x"], 9_000)]);
  const samples: JoinedSample[] = [];
  const answers = new AnswerRecords(async (offset) => {
    await Promise.resolve();
    if (offset < 1) throw new MillraceError("not-found", "trimmed");
    return { firstOffset: offset, records: bytes.slice(offset) };
  }, 0);
  const joiner = new Joiner(options(), extractorId, answers, (sample) => samples.push(sample));
  for (const [offset, one] of bytes.entries()) await joiner.take(decodeRecord(one), one, offset);
  assert.equal(joiner.counts.answersLost, 1);
  assert.deepEqual(
    samples.map(({ recommendationId }) => recommendationId),
    ["b"],
  );
});

test("a state cut anywhere is refused; options that cannot work are refused by name", async () => {
  const { state } = await join([served("a", ["x", "y"], 1_000), action("a", "x", 1_001), action("z", "x", 1_002)], options());
  const fresh = (): Joiner => new Joiner(options(), extractorId, new AnswerRecords(() => Promise.resolve(undefined), 0), () => undefined);
  for (let length = 0; length < state.length; length += 1) assert.throws(() => fresh().load(state.slice(0, length)), { code: "corrupt" }, `${length} bytes`);
  fresh().load(state);
  for (const bad of [{ negativeRate: 0 }, { negativeRate: 1.1 }, { windowMs: -1 }, { windowMs: NaN }, { openAnswersMax: 0 }, { earlyEventsMax: 0 }]) {
    const name = Object.keys(bad)[0]!;
    const make = (): Joiner => new Joiner(options(bad), extractorId, new AnswerRecords(() => Promise.resolve(undefined), 0), () => undefined);
    assert.throws(make, (thrown) => thrown instanceof MillraceError && thrown.code === "invalid" && thrown.message.includes(name));
  }
});

test("a standstill stops the windows too: what was open before it closes bit by bit behind it, not at once", async () => {
  const records: ActivityRecord[] = [];
  for (let at = 0; at < 10; at += 1) records.push(served(`a${at}`, ["x"], 1_000 + at * 10));
  // An hour later it goes on as before.
  for (let at = 0; at < 20; at += 1) records.push(served(`b${at}`, ["x"], 3_600_000 + at * 10));
  const closed = async (gapMs: number): Promise<number[]> =>
    (await join(records, options({ gapMs }))).caused.filter(({ sample }) => sample.recommendationId.startsWith("a")).map(({ at }) => at);
  assert.deepEqual(
    await closed(Infinity),
    Array.from({ length: 10 }, () => 10),
  );
  assert.deepEqual(
    await closed(10),
    Array.from({ length: 10 }, (_, at) => 10 + at),
  );
});

test("what somebody else does with an answer is no action of the one it was given to", async () => {
  const stranger = { ...action("a", "x", 1_010), user: "somebody else" } as ActivityRecord;
  const { caused, joiner } = await join([served("a", ["x", "y"], 1_000), stranger, action("a", "y", 1_020), served("b", ["x"], 2_000)], options());
  assert.deepEqual(texts(caused), ["2 a 1 1", "3 a 0 0"]);
  assert.equal(joiner.counts.unjoined, 1);
});
