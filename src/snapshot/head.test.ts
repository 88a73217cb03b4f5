// Guards the moves of a head against a naive model, and its bytes against everything that is no head.

import assert from "node:assert/strict";
import { test } from "node:test";
import { MillraceError } from "#base/errors";
import { Prng } from "#base/prng";
import {
  decodeHead,
  emptyHead,
  encodeHead,
  type HeadState,
  headLimits,
  isGone,
  servable,
  versionsOf,
  withDropped,
  withLive,
  withRefused,
  withRetired,
  withRolledBack,
  withStaged,
} from "./head.ts";
import { newVersion } from "./version.ts";

const versionAt = (ms: number): string => newVersion(1_700_000_000_000 + ms, new Prng(ms));

test("model: random moves keep every version in one list, and a gone one never comes back", () => {
  const seed = Number(process.env["SEED"] ?? 11);
  const random = new Prng(seed);
  for (let round = 0; round < 60; round += 1) {
    let head: HeadState = emptyHead;
    let made = 0;
    const gone = new Set<string>();
    /** What was live, in order; the model of backups is what precedes the last. */
    let history: string[] = [];
    for (let step = 0; step < 60; step += 1) {
      const known = versionsOf(head);
      const version = known.length > 0 && random.chance(0.4) ? random.pick(known) : versionAt((made += 1));
      const before = head;
      try {
        switch (random.below(6)) {
          case 0:
            head = withLive(head, version, step);
            if (before.current !== version) history = [...history.filter((one) => one !== version), version];
            break;
          case 1:
            head = withStaged(head, version);
            break;
          case 2:
            if (!known.includes(version)) head = withRefused(head, version, ["too few rows"], step);
            break;
          case 3: {
            head = withRolledBack(head, random.chance(0.5) ? undefined : version, step);
            history = history.slice(0, history.indexOf(head.current!) + 1);
            break;
          }
          case 4: {
            const keep = 1 + random.below(4);
            const used = new Set(random.chance(0.5) && known.length > 0 ? [random.pick(known)] : []);
            const result = withRetired(head, keep, used);
            head = result.head;
            for (const one of result.retired) {
              assert.ok(!used.has(one) && one !== before.current);
              gone.add(one);
            }
            assert.ok(head.staged.length <= keep + used.size && head.backups.length <= keep - 1 + used.size && head.refused.length <= keep + used.size);
            history = history.filter((one) => !gone.has(one));
            break;
          }
          default:
            if (gone.size > 0) {
              const back = random.pick([...gone]);
              assert.throws(() => withLive(head, back, step), { code: "conflict" });
              assert.throws(() => withStaged(head, back), { code: "conflict" });
            }
        }
      } catch (thrown) {
        assert.ok(thrown instanceof MillraceError && thrown.code === "not-found", `seed ${seed}: ${String(thrown)}`);
      }
      const listed = versionsOf(head);
      assert.equal(new Set(listed).size, listed.length, `seed ${seed}`);
      assert.deepEqual(servable(head), history.toReversed(), `seed ${seed}, round ${round}, step ${step}`);
      assert.equal(head.switches > before.switches, head.current !== before.current, `seed ${seed}`);
      for (const one of gone) assert.ok(isGone(head, one) && !listed.includes(one));
      assert.deepEqual(decodeHead(encodeHead(head), "test"), head);
    }
  }
});

test("a head stays small: refused versions, reasons and the memory of what is gone are bounded", () => {
  let head: HeadState = emptyHead;
  const reasons = Array.from({ length: 50 }, (_, i) => `reason ${i} ${"ü".repeat(500)}`);
  for (let i = 0; i < 100; i += 1) head = withRefused(head, versionAt(i), reasons, i);
  assert.equal(head.refused.length, headLimits.refusedMax);
  assert.equal(head.refused[0]!.reasons.at(-1), "and 46 more");
  for (let i = 100; i < 1_000; i += 1) head = withDropped(head, [versionAt(i)]);
  assert.equal(head.dropped.length, headLimits.droppedMax);
  for (let i = 110; i < 1_000; i += 1) assert.ok(isGone(head, versionAt(i)));
  for (let i = 1_000; i < 1_000 + headLimits.versionsMax - headLimits.refusedMax; i += 1) head = withStaged(head, versionAt(i));
  assert.throws(() => withStaged(head, versionAt(5_000)), { code: "overloaded" });
  assert.ok(encodeHead(head).length < 64 * 1024, `${encodeHead(head).length} bytes`);
});

test("what is no head is refused", () => {
  const [a, b] = [versionAt(1), versionAt(2)];
  const good = withLive(withLive(emptyHead, a, 1), b, 2);
  const text = (change: object): Uint8Array =>
    new TextEncoder().encode(JSON.stringify({ ...JSON.parse(new TextDecoder().decode(encodeHead(good))), ...change }));
  assert.deepEqual(decodeHead(text({}), "test"), good);
  const wrong = [
    { current: "latest" },
    { backups: "none" },
    { backups: [b] },
    { staged: [a] },
    { refused: [{ version: a }] },
    { dropped: [1] },
    { floor: null },
    { switches: "2" },
  ];
  for (const change of wrong) assert.throws(() => decodeHead(text(change), "test"), { code: "corrupt" }, JSON.stringify(change));
  assert.throws(() => decodeHead(text({ format: 2 }), "test"), { code: "unsupported" });
  for (const odd of ["", "{", "null", "[]"]) assert.throws(() => decodeHead(new TextEncoder().encode(odd), "test"), { code: /corrupt|unsupported/ }, odd);
  assert.throws(() => decodeHead(new Uint8Array([0xff]), "test"), { code: "corrupt" });
});
