// Guards: a slot of the mailbox is never used by two requests at once, whatever the order of posting, giving up and answering; an answer never reaches another
// request; a request is read as it was written.

import assert from "node:assert/strict";
import { test } from "node:test";
import { MillraceError } from "#base/errors";
import { Prng } from "#base/prng";
import { SlotRows } from "#extract/slot-rows";
import { createMailbox, mailboxLimits, MailboxReceiver, MailboxSender, type Posted, requestBytes, type TakenRequest } from "./mailbox.ts";

const seed = Number(process.env["SEED"] ?? 5);

function randomRows(random: Prng, rows: number, slotsMax: number): SlotRows {
  const made = new SlotRows(1, 1);
  for (let row = 0; row < rows; row++) {
    for (let slots = random.below(slotsMax + 1); slots > 0; slots--) {
      if (random.chance(0.3)) made.addLinear(random.below(2 ** 31), slots, random.normal());
      else made.addFull(random.below(2 ** 31), slots, random.normal());
    }
    made.endRow();
  }
  return made;
}

/** What a reader sees of rows. */
function seen(rows: SlotRows): unknown {
  const slots = rows.rows === 0 ? 0 : rows.slots;
  return [
    rows.rows,
    [...rows.offsets.subarray(0, rows.rows + 1)],
    [...rows.linearEnds.subarray(0, rows.rows)],
    [...rows.keys.subarray(0, 2 * slots)],
    [...rows.weights.subarray(0, slots)],
  ];
}

test("a request is read as it was written, the oldest first", () => {
  console.log(`seed ${seed}`);
  const random = new Prng(seed);
  const buffer = createMailbox({ slots: 4, slotBytes: 64 << 10 });
  const sender = new MailboxSender(buffer);
  const receiver = new MailboxReceiver(buffer);
  for (let round = 0; round < 100; round++) {
    const user = randomRows(random, 1, 30);
    const items = randomRows(random, random.below(60), 20);
    const score = sender.post({ kind: "score", user, items })!;
    const search = sender.post({ kind: "search", user, k: 7 })!;
    const similar = sender.post({ kind: "similar", item: 4_000_000_000, k: 1_000 })!;
    const [first, second, third, ...more] = receiver.take();
    assert.equal(more.length, 0);
    assert.deepEqual([first!.slot, second!.slot, third!.slot], [score.slot, search.slot, similar.slot]);
    assert.deepEqual([first!.kind, second!.kind, third!.kind], ["score", "search", "similar"]);
    assert.deepEqual(seen(first!.user), seen(user));
    assert.deepEqual(seen(first!.items), seen(items));
    assert.deepEqual(seen(second!.user), seen(user));
    assert.deepEqual([second!.k, third!.k, third!.item], [7, 1_000, 4_000_000_000]);
    const logits = Float32Array.from({ length: items.rows }, () => random.normal());
    const handles = Uint32Array.of(9, 8, 4_294_967_295);
    receiver.answer(third!, 3, Float32Array.of(3, 2, 1), handles, { computeUs: 5, batch: 3 });
    receiver.answer(first!, logits.length, logits, undefined, { computeUs: 5, batch: 3 });
    receiver.fail(second!, new MillraceError("invalid", "a query", { todo: "ask otherwise" }));
    const scores = new Float32Array(items.rows);
    assert.equal(
      sender.collect(score, scores, undefined, (report) => assert.deepEqual(report, { computeUs: 5, batch: 3 })),
      items.rows,
    );
    assert.deepEqual(scores, logits);
    assert.throws(() => sender.collect(search, scores, handles, () => undefined), { code: "invalid", message: "[invalid] a query: ask otherwise" });
    const found = new Uint32Array(1_000);
    assert.equal(
      sender.collect(similar, new Float32Array(1_000), found, () => undefined),
      3,
    );
    assert.deepEqual(found.subarray(0, 3), handles);
  }
});

test("promise: whatever is given up or answered late, every answer is that of its own request and no slot is lost", () => {
  console.log(`seed ${seed}`);
  const random = new Prng(seed);
  const slots = 5;
  const buffer = createMailbox({ slots, slotBytes: mailboxLimits.slotBytesMin });
  const sender = new MailboxSender(buffer);
  const receiver = new MailboxReceiver(buffer);
  const user = randomRows(random, 1, 3);
  const underWay: { posted: Posted; item: number }[] = [];
  const working: TakenRequest[] = [];
  let item = 0;
  let full = 0;
  let collected = 0;
  let givenUp = 0;
  const report = { computeUs: 1, batch: 1 };
  const scores = new Float32Array(1);
  for (let step = 0; step < 20_000; step++) {
    const draw = random.below(10);
    if (draw < 4) {
      item += 1;
      const posted = sender.post({ kind: "search", user, item, k: 1 });
      if (posted === undefined) full += 1;
      else underWay.push({ posted, item });
    } else if (draw < 6) {
      working.push(...receiver.take());
      assert.equal(new Set(working.map((request) => request.slot)).size, working.length, "the ranker has a slot once");
      assert.ok(working.length <= slots);
    } else if (draw < 8 && working.length > 0) {
      const [request] = working.splice(random.below(working.length), 1);
      if (random.chance(0.1)) receiver.fail(request!, new Error("broken"));
      else receiver.answer(request!, 1, Float32Array.of(request!.item), Uint32Array.of(request!.item), report);
    } else if (underWay.length > 0) {
      const at = random.below(underWay.length);
      const { posted, item: own } = underWay[at]!;
      if (draw === 8 && sender.cancel(posted)) {
        underWay.splice(at, 1);
        givenUp += 1;
        assert.throws(() => sender.collect(posted, scores, undefined, () => undefined), "what was given up has no answer");
      } else if (sender.answered(posted)) {
        underWay.splice(at, 1);
        const found = new Uint32Array(1);
        try {
          assert.equal(
            sender.collect(posted, scores, found, () => undefined),
            1,
          );
          assert.equal(found[0], own);
        } catch (thrown) {
          assert.match((thrown as Error).message, /ranking failed \(broken\)/);
        }
        collected += 1;
      }
    }
  }
  console.log(`${collected} collected, ${givenUp} given up, ${full} refused`);
  assert.ok(collected > 500 && givenUp > 500 && full > 500);
  // All slots come back.
  working.push(...receiver.take());
  for (const request of working) receiver.answer(request, 0, scores, undefined, report);
  for (const { posted } of underWay) sender.collect(posted, scores, undefined, () => undefined);
  for (let slot = 0; slot < slots; slot++) assert.notEqual(sender.post({ kind: "similar", item: 1, k: 1 }), undefined);
  assert.equal(sender.post({ kind: "similar", item: 1, k: 1 }), undefined);
});

test("a request at the limit fits, one beyond is refused; so are shapes beyond the limits and foreign memory", () => {
  const random = new Prng(1);
  const slotBytes = mailboxLimits.slotBytesMin;
  const sender = new MailboxSender(createMailbox({ slots: 1, slotBytes }));
  const user = randomRows(random, 1, 0);
  const items = new SlotRows();
  while (requestBytes({ kind: "score", user, items }) + 8 + 12 <= slotBytes) {
    items.addFull(1, items.rows, 1);
    items.endRow();
  }
  assert.notEqual(sender.post({ kind: "score", user, items }), undefined);
  items.addFull(1, 1, 1);
  items.addFull(2, 1, 1);
  items.endRow();
  assert.throws(() => sender.post({ kind: "score", user, items }), { code: "invalid" });
  assert.throws(() => createMailbox({ slots: 0, slotBytes }), { code: "invalid" });
  assert.throws(() => createMailbox({ slots: 1, slotBytes: slotBytes - 64 }), { code: "invalid" });
  assert.throws(() => createMailbox({ slots: 1_024, slotBytes: 2 << 20 }), { code: "invalid" });
  assert.throws(() => new MailboxSender(new SharedArrayBuffer(1_024)), { code: "invalid" });
});

test("a request whose head or rows were damaged is answered with an error and read nowhere else", () => {
  const buffer = createMailbox({ slots: 1, slotBytes: mailboxLimits.slotBytesMin });
  const sender = new MailboxSender(buffer);
  const receiver = new MailboxReceiver(buffer);
  const rows = randomRows(new Prng(2), 4, 5);
  const words = new Uint32Array(buffer);
  const head = 192 / 4;
  for (const damage of [
    () => (words[head + 3] = 9),
    () => (words[head + 8] = 1 << 30),
    () => (words[head + 9] = 1 << 30),
    () => (words[head + 7] = 1_000),
    () => (words[head + 4] = 1 << 20),
    () => (words[head + 16] = 1),
    () => (words[head + 17] = 1_000),
  ]) {
    const posted = sender.post({ kind: "score", user: randomRows(new Prng(3), 1, 5), items: rows })!;
    damage();
    assert.equal(receiver.take().length, 0);
    assert.throws(() => sender.collect(posted, new Float32Array(4), undefined, () => undefined), { code: "internal" });
  }
});
