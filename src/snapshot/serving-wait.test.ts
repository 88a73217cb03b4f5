// A command that says "is live" says it when reads see the version, and never waits for ever.

import assert from "node:assert/strict";
import { test } from "node:test";
import { servedText, untilServed } from "./serving-wait.ts";
import { within } from "./snapshot-world.fuzz.ts";

test("promise: waiting ends when every follower serves the version, and not before", () =>
  within(async ({ node, store, publish, follower }) => {
    const { clock } = node;
    const first = await publish(1_000);
    assert.deepEqual(
      await untilServed(store, "items", first.version, { clock, waitMsMax: 60_000 }),
      { serving: [], refused: [], waiting: [] },
      "nobody follows",
    );
    let slowMs = 0;
    const slow = follower({
      node: "slow",
      folder: "/slow",
      load: async ({ version }) => {
        await clock.sleep(slowMs);
        return { value: { version, texts: [], closed: false }, close: () => undefined };
      },
    });
    const fast = follower();
    for (const one of [slow, fast]) one.start();
    for (const one of [slow, fast]) await one.settled;
    assert.deepEqual((await untilServed(store, "items", first.version, { clock, waitMsMax: 60_000 })).serving.toSorted(), ["a", "slow"]);

    slowMs = 3_000;
    const second = await publish(1_001);
    const beganMs = clock.monotonicMs();
    const served = await untilServed(store, "items", second.version, { clock, waitMsMax: 60_000 });
    assert.deepEqual([served.waiting, slow.version, fast.version], [[], second.version, second.version]);
    assert.ok(clock.monotonicMs() - beganMs < 4_000, "soon after the last one");
    assert.equal(servedText(served), `is live, served by ${served.serving.join(", ")}`);

    const third = await publish(1_002);
    const early = await untilServed(store, "items", third.version, { clock, waitMsMax: 500 });
    assert.deepEqual([early.serving, early.waiting], [["a"], ["slow"]], "bounded");
    assert.equal(servedText(early), "is live, served by a, not yet served by slow");
    // Another version goes live meanwhile: this one will not be served any more.
    const waiting = untilServed(store, "items", third.version, { clock, waitMsMax: 600_000 });
    await store.rollback("items");
    await waiting;
    assert.ok(clock.monotonicMs() - beganMs < 30_000);
    for (const one of [slow, fast]) await one.stop();
  }));

test("promise: who refuses a version is not waited for, and told", () =>
  within(async ({ node, store, publish, follower, until }) => {
    const { clock } = node;
    const strict = follower({ check: (_, { statistics }) => (statistics["rows"] === 7_000 ? ["too many"] : []) });
    strict.start();
    await publish(6_000);
    await until(() => strict.version !== undefined);
    const bad = await publish(7_000);
    const { serving, refused, waiting } = await untilServed(store, "items", bad.version, { clock, waitMsMax: 60_000 });
    assert.deepEqual([serving, waiting, refused.map((one) => one.node)], [[], [], ["a"]]);
    assert.match(servedText({ serving, refused, waiting }), /^is refused by a \(.*too many.*\): what was served before stays$/);
    assert.match(servedText({ serving: ["b"], refused, waiting }), /^is live, served by b, refused by a \(.*too many.*\)$/);
    assert.equal(servedText({ serving: [], refused: [], waiting: [] }), "is live");
    await strict.stop();
  }));
