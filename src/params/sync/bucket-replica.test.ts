// Guards the rules of vectors, fences and bounds, one by one.

import assert from "node:assert/strict";
import { test } from "node:test";
import { MapTable } from "../map-table.ts";
import { MillraceError } from "#base/errors";
import { contentOf, keysOf } from "../sync-table.contract.ts";
import { EntryBatch, noVersion, versionOf } from "../sync-table.ts";
import { BucketReplica, Outcome } from "./bucket-replica.ts";
import { encodePlaces, restorePlaces } from "./places.ts";
import { frameBytesMin, PushCursor } from "./push-cursor.ts";
import { Push, sectionFlags } from "./sync-frames.ts";

const dim = 2;
const shape = { dim, buckets: 4, initial: { seed: 1n, factors: 2, initialScale: 0.1 } };

interface Side {
  readonly table: MapTable;
  readonly replica: BucketReplica;
  readonly write: (key: number, value: number) => void;
  readonly remove: (key: number) => void;
}

function side(node: number): Side {
  const table = new MapTable(shape);
  const replica = new BucketReplica(table, node);
  const keys = keysOf(table, 40, 0);
  const at = (key: number): Uint32Array => keys.subarray(2 * key, 2 * key + 2);
  return {
    table,
    replica,
    write(key, value) {
      table.assign(at(key), 1, new Float32Array(dim).fill(value), 1);
      replica.stamped(0);
    },
    remove(key) {
      table.delete(at(key), 1);
      replica.stamped(0);
    },
  };
}

/** What `from` would push of bucket 0 to somebody who holds up to `acked` of the origin. */
function pushOf(from: Side, epoch: number, node: number, acked = 0, upTo = 2 ** 40 - 1): Push {
  const push = new Push(new EntryBatch(dim));
  from.table.changes(0, versionOf(epoch, acked, 255), versionOf(epoch, upTo, 255), 1_000, push.entries);
  push.sections = 1;
  push.bucket[0] = 0;
  push.origin[0] = epoch * 256 + node;
  push.flags[0] = from.replica.ledEpoch[0] === epoch && from.replica.node === node ? sectionFlags.leading : 0;
  push.from[0] = acked;
  push.to[0] = Math.min(upTo, from.replica.vectors.counterOf(0, epoch * 256 + node));
  push.count[0] = push.entries.count;
  return push;
}

const outcome = new Outcome();

test("an interval with a gap is joined and does not move the vector; the missing one closes it; twice changes nothing", () => {
  const [leader, follower] = [side(1), side(2)];
  leader.replica.lead(0, 1);
  for (let key = 0; key < 5; key++) leader.write(key, key);
  const [early, late] = [pushOf(leader, 1, 1, 0, 2), pushOf(leader, 1, 1, 2)];
  follower.replica.apply(late, outcome);
  assert.deepEqual([outcome.behind, follower.replica.vectors.counterOf(0, 257), follower.replica.isSteady(0)], [[0], 0, false]);
  assert.equal(follower.table.counts(0).live, 3);
  follower.replica.apply(early, outcome);
  // What was joined early counts when it comes again: an interval is told whole or not at all.
  assert.deepEqual([outcome.behind, follower.replica.vectors.counterOf(0, 257)], [[], 2]);
  for (let i = 0; i < 2; i++) follower.replica.apply(late, outcome);
  assert.deepEqual([outcome.behind, follower.replica.vectors.counterOf(0, 257), follower.replica.isSteady(0)], [[], 5, true]);
  assert.deepEqual(contentOf(follower.table), contentOf(leader.table));
  assert.equal(follower.replica.counters.gaps, 1);
});

test("promise: a leader that was overtaken is fenced, what it alone held is counted and still comes by comparison", () => {
  const [old, next, third] = [side(1), side(2), side(3)];
  old.replica.lead(0, 1);
  old.write(0, 1);
  old.write(1, 1);
  for (const one of [next, third]) one.replica.apply(pushOf(old, 1, 1), outcome);
  // Two writes that nobody gets; then the second leads.
  old.write(2, 7);
  old.write(3, 7);
  const taken = next.replica.vectors.stretches(0);
  assert.equal(next.replica.lead(0, 1), false);
  assert.equal(next.replica.lead(0, 2), true);
  next.write(0, 9);
  third.replica.apply(pushOf(next, 2, 2), outcome);
  // The old one still pushes: refused, and told so.
  third.replica.apply(pushOf(old, 1, 1, 2), outcome);
  assert.deepEqual([outcome.behind, third.replica.counters.fenced, third.table.counts(0).live], [[0], 1, 2]);
  assert.deepEqual([old.replica.noteEpoch(0, 2), old.replica.ledEpoch[0]], [true, 0]);
  for (let i = 0; i < 2; i++) old.replica.takenOver(0, taken);
  assert.equal(old.replica.counters.lostWrites, 2);
  // By comparison its stretch comes after all, and everybody comes to the same.
  for (const one of [next, third]) {
    one.replica.apply(pushOf(old, 1, 1, 2), outcome);
    assert.deepEqual([outcome.behind, one.replica.vectors.counterOf(0, 257)], [[], 4]);
  }
  old.replica.apply(pushOf(next, 2, 2), outcome);
  assert.deepEqual(contentOf(old.table), contentOf(next.table));
  assert.deepEqual(contentOf(third.table), contentOf(next.table));
});

test("promise: after tombstones were collected, and after expiry, an old push brings no dead key back", () => {
  const [leader, follower, stale] = [side(1), side(2), side(3)];
  leader.replica.lead(0, 1);
  for (let key = 0; key < 4; key++) leader.write(key, 1);
  const old = pushOf(leader, 1, 1);
  stale.replica.apply(old, outcome);
  leader.remove(0);
  leader.write(1, 2);
  const bound = leader.table.newest(0);
  assert.equal(leader.replica.takeBounds({ bucket: 0, collected: bound, expired: noVersion }), true);
  // The bound comes before what it covers: it waits.
  assert.equal(follower.replica.takeBounds({ bucket: 0, collected: bound, expired: noVersion }), false);
  assert.equal(follower.replica.isSteady(0), false);
  follower.replica.apply(pushOf(leader, 1, 1), outcome);
  assert.deepEqual([outcome.bounded, follower.replica.isSteady(0)], [[0], true]);
  follower.replica.apply(old, outcome);
  assert.deepEqual(contentOf(follower.table), contentOf(leader.table));
  assert.deepEqual([follower.replica.counters.refusedOld, follower.table.counts(0)], [1, { live: 3, tombstones: 0 }]);
  // One who was away longer is told to begin anew.
  assert.equal(leader.replica.knowsCollected(0, stale.replica.vectors), false);
  const cursor = new PushCursor(leader.replica);
  cursor.take([{ bucket: 0, stretches: stale.replica.vectors.stretches(0) }], false, 1);
  const push = new Push(new EntryBatch(dim));
  cursor.start(1);
  cursor.build(push, 0);
  assert.deepEqual([push.sections, push.flags[0], push.from[0]], [1, sectionFlags.leading | sectionFlags.anew, 0]);
  stale.replica.apply(push, outcome);
  assert.deepEqual([outcome.anew, contentOf(stale.table)], [[0], contentOf(leader.table)]);
  // Expiry: nothing up to the bound exists, here or in what comes.
  const expired = versionOf(1, 4, 1);
  for (const one of [leader, follower]) one.replica.takeBounds({ bucket: 0, collected: noVersion, expired });
  assert.equal(follower.table.counts(0).live, 1);
  follower.replica.apply(old, outcome);
  assert.deepEqual(contentOf(follower.table), contentOf(leader.table));
});

test("a torn push counts for nothing, an answer to another push neither", () => {
  const leader = side(1);
  leader.replica.lead(0, 1);
  leader.write(0, 1);
  const cursor = new PushCursor(leader.replica);
  cursor.mark(0, 5);
  const push = new Push(new EntryBatch(dim));
  cursor.start(1);
  cursor.build(push, 0);
  assert.equal(cursor.ageMs(25), 20);
  assert.equal(cursor.answered(9, false, [], 6), false);
  assert.equal(cursor.answered(1, true, [], 6), true);
  assert.deepEqual([cursor.acked.counterOf(0, 257), cursor.liveBuckets, cursor.ageMs(25)], [0, 1, 20]);
  cursor.start(2);
  cursor.build(push, 0);
  // Written again while it is out: goes with the next.
  leader.write(0, 2);
  cursor.mark(0, 30);
  assert.equal(cursor.answered(2, false, [], 31), true);
  assert.deepEqual([cursor.acked.counterOf(0, 257), cursor.liveBuckets, cursor.ageMs(35)], [1, 1, 5]);
  cursor.start(3);
  cursor.build(push, 0);
  assert.deepEqual([push.from[0], push.to[0], push.entries.count], [1, 2, 1]);
  // The follower says that it holds less than was believed.
  assert.equal(cursor.answered(3, false, [{ bucket: 0, stretches: [] }], 36), true);
  assert.deepEqual([cursor.acked.isEmpty(0), cursor.liveBuckets], [true, 1]);
});

test("promise: a follower that must begin anew is told so again when that frame was lost or refused, so no dead key stays there", () => {
  for (const torn of [true, false]) {
    const [leader, stale] = [side(1), side(2)];
    leader.replica.lead(0, 1);
    for (let key = 0; key < 4; key++) leader.write(key, 1);
    stale.replica.apply(pushOf(leader, 1, 1), outcome);
    leader.remove(0);
    leader.write(1, 2);
    leader.replica.takeBounds({ bucket: 0, collected: leader.table.newest(0), expired: noVersion });
    const held = [{ bucket: 0, stretches: stale.replica.vectors.stretches(0) }];
    const cursor = new PushCursor(leader.replica);
    cursor.take(held, false, 1);
    const push = new Push(new EntryBatch(dim));
    cursor.start(1);
    cursor.build(push, 0);
    assert.equal(push.flags[0], sectionFlags.leading | sectionFlags.anew);
    // It never comes, or it is refused and the answer says what is held.
    cursor.answered(1, torn, torn ? [] : held, 2);
    cursor.start(2);
    cursor.build(push, 0);
    assert.deepEqual([push.sections, push.flags[0], push.from[0]], [1, sectionFlags.leading | sectionFlags.anew, 0]);
    stale.replica.apply(push, outcome);
    assert.deepEqual([outcome.anew, contentOf(stale.table)], [[0], contentOf(leader.table)]);
    // Once is enough.
    cursor.answered(2, false, [], 3);
    leader.write(2, 5);
    cursor.mark(0, 4);
    cursor.start(3);
    cursor.build(push, 0);
    assert.deepEqual([push.flags[0], push.from[0]], [sectionFlags.leading, 6]);
  }
});

test("places come back as they were, damaged ones are refused and change nothing; golden bytes", () => {
  const [one, other] = [side(1), side(2)];
  one.replica.restore(0, [{ origin: 257, counter: 2 ** 40 - 1 }], { bucket: 0, collected: noVersion, expired: noVersion });
  one.replica.restore(
    2,
    [
      { origin: 257, counter: 5 },
      { origin: 515, counter: 300 },
    ],
    { bucket: 2, collected: versionOf(1, 4, 1), expired: versionOf(1, 2, 1) },
  );
  const bytes = encodePlaces(one.replica);
  assert.equal(Buffer.from(bytes).toString("hex"), "0104048102ffffffff0fff01000b810205008304ac02000104000000000100010200000000010000");
  restorePlaces(other.replica, bytes);
  for (let bucket = 0; bucket < 4; bucket++) {
    assert.deepEqual(other.replica.vectors.stretches(bucket), one.replica.vectors.stretches(bucket));
    assert.deepEqual(other.replica.bounds(bucket), one.replica.bounds(bucket));
  }
  // An epoch that was seen is not led again.
  assert.deepEqual([other.replica.lead(2, 2), other.replica.lead(2, 3)], [false, true]);
  const fresh = side(3);
  for (let length = 0; length < bytes.length; length++) {
    assert.throws(
      () => restorePlaces(fresh.replica, bytes.subarray(0, length)),
      (thrown) => thrown instanceof MillraceError && thrown.code === "corrupt",
    );
  }
  assert.throws(() => restorePlaces(fresh.replica, Uint8Array.from([...bytes, 0])), /bytes too many/);
  assert.throws(() => restorePlaces(fresh.replica, Uint8Array.of(2, 4)), /unsupported/);
  assert.throws(() => restorePlaces(fresh.replica, Uint8Array.of(1, 8)), /8 buckets/);
  assert.ok(fresh.replica.vectors.isEmpty(0));
});

test("a bucket of many pushes is begun anew once, though its follower knows less than the bound until its end", () => {
  const [leader, stale] = [side(1), side(2)];
  leader.replica.lead(0, 1);
  leader.write(0, 1);
  stale.replica.apply(pushOf(leader, 1, 1), outcome);
  for (let key = 1; key < 40; key++) leader.write(key, key);
  leader.remove(0);
  leader.write(1, 2);
  leader.replica.takeBounds({ bucket: 0, collected: leader.table.newest(0), expired: noVersion });
  const cursor = new PushCursor(leader.replica, frameBytesMin(dim));
  cursor.take([{ bucket: 0, stretches: stale.replica.vectors.stretches(0) }], false, 1);
  const push = new Push(new EntryBatch(dim));
  let pushes = 0;
  for (; !cursor.idle; pushes++) {
    assert.ok(pushes < 30, "it comes to an end");
    cursor.start(pushes + 1);
    cursor.build(push, 1 << 20);
    stale.replica.apply(push, outcome);
    assert.equal(cursor.answered(pushes + 1, false, [], pushes), true);
  }
  assert.ok(pushes > 3, `${pushes} pushes`);
  assert.deepEqual([stale.replica.counters.anew, contentOf(stale.table)], [1, contentOf(leader.table)]);
});
