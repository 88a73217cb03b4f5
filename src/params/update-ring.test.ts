// The update ring against a queue, at its edges, and between two threads.

import assert from "node:assert/strict";
import { test } from "node:test";
import { MillraceError } from "#base/errors";
import { Prng } from "#base/prng";
import { moduleBeside } from "#platform/module-beside";
import { systemWorkers } from "#platform/system-workers";
import { ringContent, type RingReport, type RingTask } from "./ring-producer.worker.ts";
import {
  createUpdateRing,
  formatUpdateRing,
  UpdateBell,
  UpdateConsumer,
  updateKinds,
  UpdateProducer,
  updateRingBytes,
  type UpdateRecord,
  updateRingWord,
} from "./update-ring.ts";

const seed = Number(process.env["SEED"] ?? 5);
const shape = { bytes: 4_096, results: 64 };

function newRing(startPlace = 0, startSeq = 0): { producer: UpdateProducer; consumer: UpdateConsumer; words: Int32Array } {
  const ticket = createUpdateRing(shape);
  const words = new Int32Array(ticket.memory);
  words[updateRingWord.head] = startPlace;
  words[updateRingWord.tail] = startPlace;
  words[updateRingWord.applied] = startSeq;
  return { producer: new UpdateProducer(ticket), consumer: new UpdateConsumer(ticket), words };
}

const copied = ({ keys, numbers, ...rest }: UpdateRecord): object => ({ ...rest, keys: [...keys], numbers: [...numbers] });

/** Random offers, drains and takings against a queue, from a place and number given. */
function againstQueue(prng: Prng, startPlace: number, startSeq: number, steps: number): { full: number; wrapped: number } {
  const { producer, consumer, words } = newRing(startPlace, startSeq);
  const waiting: object[] = [];
  const results: object[] = [];
  let seq = startSeq;
  let full = 0;
  const places = new Set<number>();
  for (let step = 0; step < steps; step++) {
    const choice = prng.below(10);
    if (choice < 6) {
      const kind = prng.pick(updateKinds);
      const count = prng.below(prng.chance(0.2) ? 60 : 12);
      const dim = kind === "delete" || count === 0 ? 0 : prng.below(6);
      const keys = Uint32Array.from({ length: 2 * count + prng.below(3) }, () => prng.u32());
      const numbers = Float32Array.from({ length: dim * count }, () => prng.between(-99, 99));
      const table = prng.below(65_536);
      const touchedS = prng.u32();
      const before = words[updateRingWord.head];
      const got = producer.offer(table, kind, keys, count, numbers, touchedS);
      if (got === undefined) {
        full++;
        assert.ok(waiting.length + results.length > 0, "an empty ring refused");
        assert.equal(words[updateRingWord.head], before);
        continue;
      }
      seq = (seq + 1) >>> 0;
      assert.equal(got, seq);
      waiting.push({ seq, table, kind, count, dim, touchedS, keys: [...keys.subarray(0, 2 * count)], numbers: [...numbers] });
      places.add(words[updateRingWord.head]! & 1023);
    } else if (choice < 8) {
      const most = prng.below(6);
      const expected = waiting.length;
      let seen = 0;
      const drained = consumer.drain(most, (record) => {
        seen++;
        assert.deepEqual(copied(record), waiting.shift());
        const answer = prng.chance(0.2)
          ? { refused: 0, removed: 0, errorCode: prng.pick(["overloaded", "not-found"] as const) }
          : { refused: prng.below(99), removed: 0 };
        results.push({ seq: record.seq, errorCode: undefined, ...answer });
        return answer;
      });
      assert.equal(drained, Math.min(most, expected));
      assert.equal(seen, drained);
    } else producer.results((result) => assert.deepEqual(result, results.shift()));
    assert.equal(producer.waiting, waiting.length);
    assert.equal(consumer.isEmpty, waiting.length === 0);
  }
  return { full, wrapped: places.size };
}

test(`the ring against a queue (SEED=${seed})`, () => {
  const prng = new Prng(seed);
  const { full, wrapped } = againstQueue(prng, 0, 0, 6_000);
  assert.ok(full > 50, `the ring was full ${full} times`);
  assert.ok(wrapped > 200, `records ended at ${wrapped} places`);
});

test(`places and numbers go on through 2^32 (SEED=${seed})`, () => {
  againstQueue(new Prng(seed).fork("wrap"), 0xffff_fe00, 0xffff_fff0, 800);
  againstQueue(new Prng(seed).fork("sign"), 0x7fff_fe00, 0x7fff_fff0, 800);
});

test("a record takes at most half the ring, and that much fits wherever the ring stands once it is empty", () => {
  const { producer, consumer } = newRing();
  const keysMax = producer.keysMax(3);
  assert.equal(keysMax, Math.floor((512 - 6) / 5));
  const [keys, numbers] = [new Uint32Array(2 * keysMax + 2), new Float32Array(3 * keysMax)];
  for (let round = 0; round < 300; round++) {
    if (round % 7 !== 0) producer.offer(1, "delete", keys, round % 5, new Float32Array(0), 0);
    consumer.drain(9, () => ({}));
    assert.notEqual(producer.offer(1, "add", keys, keysMax, numbers, 0), undefined, `round ${round}`);
    consumer.drain(9, () => ({}));
    producer.results(() => undefined);
  }
  assert.throws(() => producer.offer(1, "add", keys, keysMax + 1, new Float32Array(3 * keysMax + 3), 0), { code: "invalid" });
});

test("a full ring refuses until a record is applied; results that nobody takes hold the producer back too", () => {
  const { producer, consumer } = newRing();
  const keys = new Uint32Array(100);
  const numbers = new Float32Array(200);
  const offer = (): number | undefined => producer.offer(0, "assign", keys, 50, numbers, 0);
  let offered = 0;
  while (offer() !== undefined) offered++;
  assert.equal(offered, 3);
  assert.equal(offer(), undefined);
  assert.equal(
    consumer.drain(1, () => ({ refused: 4 })),
    1,
  );
  assert.equal(offer(), 4);
  consumer.drain(9, () => ({}));
  for (let i = 5; i <= 64; i++) {
    assert.equal(producer.offer(0, "delete", keys, 1, new Float32Array(0), 0), i);
    consumer.drain(1, () => ({ removed: 1 }));
  }
  assert.equal(producer.offer(0, "delete", keys, 1, new Float32Array(0), 0), undefined);
  const seen: number[] = [];
  assert.equal(
    producer.results(({ seq, refused }) => seen.push(seq, refused), 2),
    2,
  );
  assert.deepEqual(seen, [1, 4, 2, 0]);
  assert.equal(
    producer.results(() => assert.fail("a result came twice"), 1),
    0,
  );
  assert.equal(producer.offer(0, "delete", keys, 1, new Float32Array(0), 0), 65);
  assert.equal(
    producer.results(({ seq, removed }) => assert.equal(removed, seq >= 5 ? 1 : 0)),
    62,
  );
});

test("promise: a producer that dies in the middle of an offer leaves nothing visible", () => {
  const { producer, consumer, words } = newRing();
  producer.offer(3, "delete", Uint32Array.of(1, 2), 1, new Float32Array(0), 0);
  // All that an offer writes before its one store: every word behind the head.
  const recordsFrom = words.length - 1024;
  words.fill(-1, recordsFrom + words[updateRingWord.head]!);
  let records = 0;
  consumer.drain(9, () => {
    records++;
    return {};
  });
  assert.equal(records, 1);
  assert.ok(consumer.isEmpty);
});

test("what apply throws is the record's result, and the next record follows", () => {
  const { producer, consumer } = newRing();
  for (let i = 0; i < 3; i++) producer.offer(i, "delete", Uint32Array.of(1, 2), 1, new Float32Array(0), 0);
  consumer.drain(9, ({ table }) => {
    if (table === 0) throw new MillraceError("not-found", "no such table");
    if (table === 1) throw new TypeError("broken");
    return { removed: 1 };
  });
  const seen: unknown[] = [];
  producer.results(({ errorCode, removed }) => seen.push(errorCode, removed));
  assert.deepEqual(seen, ["not-found", 0, "internal", 0, undefined, 1]);
});

test("a ring that was written over is found out, and so is an address without one", () => {
  for (const [word, value] of [
    [0, 0],
    [0, 5_000],
    [1, 9],
    [2, 7 << 16],
    [3, 4_000_000_000],
    [4, 3],
  ] as const) {
    const { producer, consumer, words } = newRing();
    producer.offer(0, "add", Uint32Array.of(1, 2), 1, new Float32Array(2), 0);
    words[words.length - 1024 + word] = value;
    assert.throws(() => consumer.drain(1, () => assert.fail("a broken record was applied")), { code: "corrupt" }, `word ${word}`);
  }
  const bell = new UpdateBell();
  assert.throws(() => new UpdateConsumer({ memory: new SharedArrayBuffer(8_192), at: 0, bell: bell.memory }), { code: "corrupt" });
  assert.throws(() => new UpdateConsumer({ memory: new SharedArrayBuffer(64), at: 0, bell: bell.memory }), { code: "corrupt" });
  const memory = new SharedArrayBuffer(64 + updateRingBytes(shape));
  const ticket = formatUpdateRing(memory, 64, shape, bell);
  const producer = new UpdateProducer(ticket);
  producer.offer(0, "delete", new Uint32Array(2), 1, new Float32Array(0), 0);
  assert.equal(bell.rung, 1);
  assert.throws(() => new UpdateProducer(ticket), { code: "conflict" });
  assert.throws(() => formatUpdateRing(memory, 128, shape, bell), { code: "invalid" });
  for (const wrong of [{ bytes: 4_097 }, { bytes: 2_048 }, { bytes: 2 ** 29 }, { bytes: 4_096, results: 3 }]) {
    assert.throws(() => createUpdateRing(wrong), { code: "invalid" });
  }
});

test("an offer with columns that do not fit is refused before anything is written", () => {
  const { producer, consumer } = newRing();
  const keys = new Uint32Array(4);
  for (const call of [
    () => producer.offer(0, "add", keys, 3, new Float32Array(3), 0),
    () => producer.offer(0, "add", keys, 2, new Float32Array(3), 0),
    () => producer.offer(0, "delete", keys, 2, new Float32Array(2), 0),
    () => producer.offer(65_536, "add", keys, 2, new Float32Array(2), 0),
    () => producer.offer(0, "push" as "add", keys, 2, new Float32Array(2), 0),
    () => producer.offer(0, "add", keys, -1, new Float32Array(0), 0),
  ]) {
    assert.throws(call, { code: "invalid" });
  }
  assert.ok(consumer.isEmpty);
});

test(
  "promise: between two threads no update is lost, doubled or torn, each result comes back once, and one bell serves two rings",
  { timeout: 60_000 },
  async () => {
    const records = process.env["MILLRACE_LONG"] ? 200_000 : 2_000;
    const bell = new UpdateBell();
    const sides = [0, 1].map((i) => {
      const ticket = createUpdateRing({ bytes: 4_096, results: 32 }, bell);
      const worker = systemWorkers.start(moduleBeside("./ring-producer.worker", import.meta.url), { ticket, records } satisfies RingTask, `producer ${i}`);
      return { worker, consumer: new UpdateConsumer(ticket), applied: 0, refused: 0, errors: 0 };
    });
    while (sides.some(({ applied }) => applied < records)) {
      const seen = bell.rung;
      let drained = 0;
      for (const side of sides) {
        drained += side.consumer.drain(10, ({ seq, table, kind, count, dim, touchedS, keys, numbers }) => {
          assert.equal(seq, ++side.applied);
          assert.equal(table, seq % 65_536);
          assert.equal(kind, ringContent.kind(seq));
          assert.equal(count, ringContent.count(seq));
          assert.equal(dim, count === 0 ? 0 : ringContent.dim(seq));
          assert.equal(touchedS, seq);
          assert.ok(
            keys.every((key, i) => key === ringContent.key(seq, i)),
            `keys of record ${seq}`,
          );
          assert.ok(
            numbers.every((number, i) => number === ringContent.number(seq, i)),
            `numbers of record ${seq}`,
          );
          if (seq % 50 === 0) {
            side.errors++;
            return { errorCode: "overloaded" };
          }
          side.refused += seq % 3;
          return { refused: seq % 3 };
        });
      }
      if (drained === 0) await bell.heard(seen, 1_000);
    }
    for (const { worker, applied, refused, errors } of sides) {
      const report = (await worker.receive()) as RingReport;
      await worker.stop();
      const { full, ...rest } = report;
      assert.deepEqual(rest, { results: records, inOrder: true, refused, errors });
      assert.equal(applied, records);
      assert.ok(full > 0, "the ring was never full");
    }
  },
);
