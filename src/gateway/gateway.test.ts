// Guards what the gateway promises to its callers, over the real log on the simulated platform: time and disk are the test's, the rest is what the server runs.

import assert from "node:assert/strict";
import { test } from "node:test";
import { openEmbeddedLog } from "#backbone/embedded-log";
import { createMemoryRegistry } from "#backbone/memory-registry";
import { Prng } from "#base/prng";
import { MillraceError } from "#base/errors";
import { type SimulatedNode, Simulation } from "#platform/simulation";
import type { RecommendAnswer } from "#wire/api";
import { defaultConfig, type GatewayConfig, openGateway, type OpenGateway } from "./index.ts";

const hourMs = 3_600_000;

/** Runs a body with a gateway on an empty data folder; `reopen` ends the process by a kill and gives a new one over the same folder. */
async function withGateway(
  body: (gateway: OpenGateway, world: { node: SimulatedNode; simulation: Simulation; reopen: () => Promise<OpenGateway> }) => Promise<void>,
  config: GatewayConfig = defaultConfig,
): Promise<void> {
  const simulation = new Simulation({ seed: 11 });
  const registry = createMemoryRegistry({ clock: simulation.clock });
  const open = async (): Promise<OpenGateway> => {
    const node = simulation.node("a");
    const log = openEmbeddedLog({
      files: node.files,
      clock: node.clock,
      registry: registry.connect({ clock: simulation.clock, alive: () => node.alive }),
      folder: "/data/log",
      durability: "always",
    });
    const gateway = openGateway({ log, clock: node.clock, config, version: "test", incarnation: `n${node.incarnation}`, strict: true });
    await gateway.opened;
    return gateway;
  };
  await simulation.run(async () => {
    await body(await open(), {
      node: simulation.node("a"),
      simulation,
      async reopen() {
        simulation.node("a").crash("kill");
        return open();
      },
    });
  });
}

const idsOf = (answer: RecommendAnswer): string[] => answer.items.map(({ id }) => id);
const click = (user: string, item: string, more: object = {}): object => ({ type: "click", user, item, ...more });

function refusedAs(code: string, text: RegExp): (thrown: unknown) => boolean {
  return (thrown) => {
    assert.ok(thrown instanceof MillraceError, String(thrown));
    assert.equal(thrown.code, code);
    assert.match(thrown.message, text);
    return true;
  };
}

test("promise: the next answer counts what the user did a moment ago", async () => {
  await withGateway(async (gateway) => {
    await gateway.putItems(["a", "b", "c", "d"].map((id) => ({ id, title: id.toUpperCase(), category: id })));
    // Somebody else touched a and c together.
    await gateway.putEvents([click("bob", "a"), click("bob", "c")]);
    const before = await gateway.recommend("shop", { user: "ann", n: 4, explain: true, record: false });
    assert.equal(before.items.find(({ id }) => id === "c")!.parts!["together"], 0);
    await gateway.putEvents([click("ann", "a")]);
    const after = await gateway.recommend("shop", { user: "ann", n: 4, explain: true, record: false });
    const c = after.items.find(({ id }) => id === "c")!;
    assert.ok(c.parts!["together"]! > 0);
    assert.ok(c.reasons.some(({ code, item, text }) => code === "together" && item === "a" && text.includes("A")));
    assert.equal(after.items.find(({ id }) => id === "a")!.parts!["ownCount"], 1);
  });
});

test("each bad event of a batch is refused with its place and what to do, the others count", async () => {
  await withGateway(async (gateway, { node }) => {
    const future = node.clock.nowMs() + 10 * 60_000;
    const answer = await gateway.putEvents([
      click("ann", "a"),
      { type: "click", user: "ann" },
      { type: "nonsense", user: "ann", item: "a" },
      click("ann", "a", { ts: future }),
      click("ann", "a", { ts: "yesterday" }),
      click("ann", "a", { unknown: 1 }),
      click("", "a"),
      null,
      7,
      click("ann", "b"),
    ]);
    assert.equal(answer.accepted, 2);
    assert.deepEqual(
      answer.rejected.map(({ index }) => index),
      [1, 2, 3, 4, 5, 6, 7, 8],
    );
    const messages = answer.rejected.map(({ message }) => message);
    assert.match(messages[0]!, /lacks "item"/);
    assert.match(messages[1]!, /not declared.*click/s);
    assert.match(messages[2]!, /600 s in the future/);
    assert.match(messages[3]!, /ts /);
    assert.match(messages[4]!, /unknown/);
    for (const { code, message } of answer.rejected) {
      assert.equal(code, "invalid");
      assert.ok(!message.includes("yesterday") && !message.includes("nonsense"), "a message repeats a value of the caller");
    }
    await assert.rejects(gateway.putEvents(Array.from({ length: 1_001 }, () => click("ann", "a"))), refusedAs("invalid", /1001 events.*1000|1,000/s));
  });
});

test("promise: an event id is counted once, in one batch, at the same time, and over a restart", async () => {
  await withGateway(async (gateway, { reopen }) => {
    const event = click("ann", "a", { id: "e-1" });
    const answers = await Promise.all([gateway.putEvents([event, event]), gateway.putEvents([event]), gateway.putEvents([event])]);
    assert.deepEqual(
      answers.map(({ accepted }) => accepted),
      [1, 0, 0],
    );
    assert.deepEqual(
      answers.map(({ duplicates }) => duplicates),
      [1, 1, 1],
    );
    const again = await reopen();
    assert.equal((await again.putEvents([event])).duplicates, 1);
    const { items } = await again.recommend("shop", { user: "ann", explain: true, record: false });
    assert.equal(items[0]!.parts!["ownCount"], 1);
  });
});

test("promise: after a kill everything is rebuilt from the log, the same answers included", async () => {
  await withGateway(async (gateway, { node, reopen }) => {
    const random = new Prng(5);
    await gateway.putItems(
      Array.from({ length: 60 }, (_, index) => ({ id: `i${index}`, category: `c${index % 4}`, title: `Item ${index}`, attributes: { price: index } })),
    );
    await gateway.putUsers([{ id: "u1", attributes: { country: "UK" } }]);
    for (let batch = 0; batch < 20; batch += 1) {
      const ts = node.clock.nowMs() - random.below(24) * hourMs;
      await gateway.putEvents(Array.from({ length: 20 }, () => click(`u${random.below(8)}`, `i${random.below(60)}`, { ts, value: random.float() })));
      if (batch % 5 === 0) await gateway.recommend("home", { user: `u${random.below(8)}`, n: 5 });
    }
    await gateway.patchItem("i3", { state: "live", attributes: { price: 99 } });
    await gateway.deleteItem("i4");
    await gateway.putItems([{ id: "i5", available: false }]);
    await node.clock.sleep(10);
    const ask = async (from: OpenGateway): Promise<unknown> => {
      const answers = [];
      for (let user = 0; user < 8; user += 1) {
        for (const pipeline of ["home", "shop", "discover", "popular"]) {
          const { items, degraded } = await from.recommend(pipeline, { user: `u${user}`, n: 10, record: false });
          // Scores decay in the microseconds that a restart takes: to three digits they are the same.
          answers.push({ pipeline, degraded, items: items.map(({ id, score, sources }) => ({ id, sources, score: score.toFixed(3) })) });
        }
      }
      return { answers, rows: from.listItems({ limit: 100 }), user: from.getUser("u1"), offset: from.status().logOffset };
    };
    const before = await ask(gateway);
    const again = await reopen();
    assert.deepEqual(await ask(again), before);
    assert.equal(again.status().eventsRebuilt, 400);
    assert.equal(again.getItem("i3")!.attributes!["price"], 99);
    assert.equal(again.getItem("i4"), undefined);
  });
});

test("what was shown stays away for the window, unless its state changed", async () => {
  await withGateway(async (gateway, { node }) => {
    await gateway.putItems(Array.from({ length: 12 }, (_, index) => ({ id: `i${index}`, category: `c${index}`, state: "one" })));
    const first = await gateway.recommend("more", { user: "ann", n: 4 });
    const second = await gateway.recommend("more", { user: "ann", n: 4 });
    assert.equal(new Set([...idsOf(first), ...idsOf(second)]).size, 8, "shown twice within the window");
    const changed = idsOf(first)[0]!;
    await gateway.patchItem(changed, { state: "two" });
    assert.ok(idsOf(await gateway.recommend("more", { user: "ann", n: 5 })).includes(changed), "a changed item is new again");
    assert.equal(new Set(idsOf(await gateway.recommend("more", { user: "bob", n: 12 }))).size, 12, "another user has seen nothing");
    // All is seen: rather something seen than a short answer, and the answer says so.
    const third = await gateway.recommend("more", { user: "ann", n: 6 });
    assert.equal(third.items.length, 6);
    assert.ok(third.degraded.length > 0);
    await node.clock.sleep(11 * 60_000);
    const later = await gateway.recommend("more", { user: "ann", n: 12 });
    assert.deepEqual(later.degraded, []);
    assert.equal(later.items.length, 12);
  });
});

test("promise: a feed learns from what was shown, clicked and passed over, and knows it after a restart", async () => {
  await withGateway(async (gateway, { node, reopen }) => {
    const item = (id: string, category: string): object => ({ id, category, title: id });
    await gateway.putItems([...Array.from({ length: 5 }, (_, index) => [item(`m${index}`, "music"), item(`c${index}`, "chat")]).flat()]);
    for (let view = 0; view < 10; view += 1) {
      for (const user of ["ann", "bob"]) {
        const { recommendationId, items } = await gateway.recommend("home", { user, n: 6 });
        const liked = items.filter(({ category }) => (category === "music") === (user === "ann"));
        await gateway.putEvents(liked.slice(0, 2).map(({ id }) => click(user, id, { recommendationId })));
      }
    }
    // What nobody was shown yet.
    await gateway.putItems([item("new-music", "music"), item("new-chat", "chat")]);
    const ask = async (from: OpenGateway, user: string): Promise<RecommendAnswer["items"]> =>
      (await from.recommend("home", { user, n: 12, record: false, explain: true })).items;
    const check = async (from: OpenGateway): Promise<void> => {
      for (const [user, liked, other] of [
        ["ann", "new-music", "new-chat"],
        ["bob", "new-chat", "new-music"],
      ] as const) {
        const items = await ask(from, user);
        const places = [liked, other].map((id) => items.findIndex((row) => row.id === id));
        assert.ok(places[0]! < places[1]!, `${user}: ${items.map(({ id }) => id).join(" ")}`);
        const first = items[places[0]!]!;
        assert.ok(first.parts!["affinity"]! > 0 && items[places[1]!]!.parts!["affinity"]! < 0);
        assert.ok(first.reasons.some(({ code }) => code === "affinity"));
      }
      assert.ok((await ask(from, "stranger")).every(({ parts }) => parts!["affinity"] === 0 && parts!["again"] === 0));
    };
    await check(gateway);
    const before = await ask(gateway, "ann");
    await node.clock.sleep(10);
    const again = await reopen();
    await check(again);
    const shape = (items: RecommendAnswer["items"]): unknown =>
      items.map(({ id, parts }) => ({ id, rate: parts!["rate"]!.toFixed(3), affinity: parts!["affinity"]!.toFixed(3), again: parts!["again"]!.toFixed(3) }));
    assert.deepEqual(shape(await ask(again, "ann")), shape(before));
  });
});

test("a preview is not remembered as shown", async () => {
  await withGateway(async (gateway) => {
    await gateway.putItems([{ id: "a" }, { id: "b" }]);
    const preview = await gateway.recommend("home", { user: "ann", n: 1, record: false });
    assert.deepEqual(idsOf(await gateway.recommend("home", { user: "ann", n: 1 })), idsOf(preview));
  });
});

test("what was bought does not come back where the scene says so", async () => {
  await withGateway(async (gateway) => {
    await gateway.putItems(["a", "b", "c"].map((id) => ({ id })));
    await gateway.putEvents([{ type: "purchase", user: "ann", item: "a" }, click("ann", "b")]);
    assert.deepEqual(idsOf(await gateway.recommend("discover", { user: "ann", n: 3 })).sort(), ["b", "c"]);
    assert.deepEqual(idsOf(await gateway.recommend("shop", { user: "ann", n: 3 })).sort(), ["a", "b", "c"]);
  });
});

test("promise: an answer is never empty while an item is available and passes the filter", async () => {
  await withGateway(async (gateway) => {
    await assert.rejects(gateway.recommend("nowhere", { user: "ann" }), refusedAs("not-found", /home, shop/));
    assert.deepEqual((await gateway.recommend("home", { user: "ann" })).items, []);
    await gateway.putItems(
      Array.from({ length: 5_000 }, (_, index) => ({ id: `i${index}`, category: "music", createdAt: index + 1, attributes: { rank: index } })).slice(0, 1_000),
    );
    for (let page = 1; page < 5; page += 1) {
      await gateway.putItems(
        Array.from({ length: 1_000 }, (_, index) => ({
          id: `i${page * 1_000 + index}`,
          createdAt: page * 1_000 + index + 1,
          attributes: { rank: page * 1_000 + index },
        })),
      );
    }
    // The oldest item of 5,000 that nobody touched: no list reaches it.
    for (const pipeline of ["home", "shop", "discover", "popular"]) {
      assert.deepEqual(idsOf(await gateway.recommend(pipeline, { user: "new", filter: { rank: { lte: 0 } } })), ["i0"], pipeline);
      assert.deepEqual(idsOf(await gateway.recommend(pipeline, { user: "new", filter: { id: "i1" }, record: false })), ["i1"], pipeline);
    }
    // Everything that passes is bought.
    await gateway.putEvents([{ type: "purchase", user: "ann", item: "i7" }]);
    const answer = await gateway.recommend("discover", { user: "ann", filter: { id: ["i7"] } });
    assert.deepEqual(idsOf(answer), ["i7"]);
    assert.ok(answer.degraded.some((step) => step.startsWith("last-resort")));
    assert.deepEqual(idsOf(await gateway.recommend("home", { user: "ann", filter: { id: "gone" } })), []);
  });
});

test("hidden, deleted and excluded items are never answered", async () => {
  await withGateway(async (gateway) => {
    await gateway.putItems(["a", "b", "c", "d"].map((id) => ({ id })));
    await gateway.putEvents(["a", "b", "c", "d"].map((item) => click("ann", item)));
    await gateway.putItems([{ id: "a", available: false }]);
    await gateway.deleteItem("b");
    // Events that still name them do not bring them back.
    await gateway.putEvents([click("ann", "a"), click("ann", "b")]);
    for (const pipeline of ["home", "shop", "popular"]) {
      assert.deepEqual(idsOf(await gateway.recommend(pipeline, { user: "ann", exclude: ["c"], record: false })), ["d"], pipeline);
    }
    await gateway.putItems([{ id: "b" }]);
    assert.deepEqual(idsOf(await gateway.recommend("shop", { user: "ann", record: false })).sort(), ["b", "c", "d"]);
  });
});

test("at most so many of a category in a window", async () => {
  await withGateway(async (gateway) => {
    await gateway.putItems([
      ...Array.from({ length: 30 }, (_, index) => ({ id: `m${index}`, category: "music" })),
      ...Array.from({ length: 6 }, (_, index) => ({ id: `c${index}`, category: "chat" })),
      ...Array.from({ length: 6 }, (_, index) => ({ id: `g${index}`, category: "games" })),
    ]);
    await gateway.putEvents(Array.from({ length: 30 }, (_, index) => click("bob", `m${index}`)));
    const { items } = await gateway.recommend("more", { user: "ann", n: 10 });
    const categories = items.map(({ category }) => category);
    for (let at = 0; at + 5 <= categories.length; at += 1) {
      const music = categories.slice(at, at + 5).filter((category) => category === "music").length;
      assert.ok(music <= 2, categories.join(" "));
    }
  });
});

test("events join the answer that showed the item, also after a restart", async () => {
  await withGateway(async (gateway, { node, reopen }) => {
    await gateway.putItems([{ id: "a" }, { id: "b" }]);
    const { recommendationId } = await gateway.recommend("home", { user: "ann", n: 1, filter: { id: "a" } });
    await gateway.putEvents([
      click("ann", "a", { recommendationId, position: 0 }),
      click("ann", "b", { recommendationId }),
      click("ann", "a", { recommendationId: "r-x-1" }),
    ]);
    assert.equal(gateway.status().eventsJoined, 1);
    await node.clock.sleep(100);
    const again = await reopen();
    await again.putEvents([click("ann", "a", { recommendationId })]);
    assert.equal(again.status().eventsJoined, 1);
  });
});

test("two patches at once both count", async () => {
  await withGateway(async (gateway) => {
    await gateway.putItems([{ id: "a", title: "A", attributes: { x: 1, y: 1 } }]);
    await Promise.all([
      gateway.patchItem("a", { attributes: { x: 2 } }),
      gateway.patchItem("a", { attributes: { y: 2 } }),
      gateway.patchItem("a", { category: "c" }),
    ]);
    assert.deepEqual(gateway.getItem("a")!.attributes, { x: 2, y: 2 });
    assert.equal(gateway.getItem("a")!.category, "c");
    assert.equal(gateway.getItem("a")!.title, "A");
    await assert.rejects(gateway.patchItem("zz", {}), refusedAs("not-found", /PUT it first/));
    await assert.rejects(gateway.patchItem("a", { colour: 1 } as never), refusedAs("invalid", /colour/));
    assert.equal(await gateway.deleteItem("zz"), false);
  });
});

/** An item of about 1.05 MB whose every field is within its limit. */
const giant = {
  id: "giant",
  attributes: Object.fromEntries(Array.from({ length: 64 }, (_, at) => [`a${at}`, Array.from({ length: 64 }, () => "x".repeat(256))])),
};

test("issue: a row too large for the log is refused by its place and costs its neighbours nothing", async () => {
  await withGateway(async (gateway) => {
    const answer = await gateway.putItems([{ id: "a" }, giant, { id: "b" }]);
    assert.equal(answer.accepted, 2);
    assert.deepEqual(
      answer.rejected.map(({ index, code }) => [index, code]),
      [[1, "invalid"]],
    );
    assert.match(answer.rejected[0]!.message, /item takes \d+ bytes: keep it within 262144/);
    await assert.rejects(gateway.patchItem("a", { attributes: giant.attributes }), refusedAs("invalid", /keep it within/));
  });
});

test("promise: a log that takes no more events makes the server not ready, with the reason and what to do", async () => {
  await withGateway(async (gateway, { node, reopen }) => {
    await gateway.putItems([{ id: "a" }]);
    assert.equal(gateway.readiness().ready, true);
    node.disk.capacityBytes = 0;
    await assert.rejects(gateway.putEvents([click("ann", "a")]), refusedAs("unavailable", /takes no more records/));
    const { ready, waiting, todo } = gateway.readiness();
    assert.equal(ready, false);
    assert.match(waiting.join(), /events are refused, .*takes no more records.*disk/);
    assert.match(todo ?? "", /free or repair the disk.*start the server again/);
    assert.equal((await gateway.recommend("shop", { user: "ann", n: 1 })).items[0]!.id, "a", "reads go on");
    node.disk.capacityBytes = Infinity;
    assert.equal((await reopen()).readiness().ready, true);
  });
});

test("issue: an append that the log refuses lets no later batch overtake an earlier one", async () => {
  await withGateway(async (gateway, { node, reopen }) => {
    for (let round = 0; round < 10; round += 1) {
      const old = gateway.putItems([...Array.from({ length: 900 }, (_, at) => ({ id: `r${round}-${at}` })), { id: `ord${round}`, title: "OLD" }]);
      // Beyond the log's limit of one append, though every row is within its own.
      const refused = gateway.putItems(
        Array.from({ length: 60 }, (_, at) => ({ ...giant, id: `big${at}`, attributes: Object.fromEntries(Object.entries(giant.attributes).slice(0, 12)) })),
      );
      await node.clock.yield();
      const fresh = gateway.putItems([{ id: `ord${round}`, title: "NEW" }]);
      await Promise.allSettled([refused]);
      await Promise.all([old, fresh]);
      assert.equal(gateway.getItem(`ord${round}`)!.title, "NEW");
    }
    const live = Array.from({ length: 10 }, (_, round) => gateway.getItem(`ord${round}`)!.title);
    const again = await reopen();
    assert.deepEqual(
      live,
      Array.from({ length: 10 }, (_, round) => again.getItem(`ord${round}`)!.title),
    );
  });
});

test("issue: patches one after another cannot grow a document beyond its limits", async () => {
  await withGateway(async (gateway) => {
    await gateway.putItems([{ id: "a" }]);
    const attributes = (from: number): Record<string, number> => Object.fromEntries(Array.from({ length: 40 }, (_, at) => [`k${from + at}`, 1]));
    await gateway.patchItem("a", { attributes: attributes(0) });
    await assert.rejects(gateway.patchItem("a", { attributes: attributes(40) }), refusedAs("invalid", /the item with this patch/));
    await gateway.putUsers([{ id: "u", attributes: attributes(0) }]);
    await assert.rejects(gateway.patchUser("u", { attributes: attributes(40) }), refusedAs("invalid", /the user with this patch/));
  });
});

test("issue: a duplicate is answered with an offset behind the event that it repeats", async () => {
  await withGateway(async (gateway) => {
    for (let round = 0; round < 20; round += 1) {
      const event = click("ann", "a", { id: `e${round}` });
      const [first, second] = await Promise.all([gateway.putEvents([event]), gateway.putEvents([event])]);
      assert.equal(first.accepted + second.accepted, 1);
      assert.equal(second.offset, first.offset);
    }
  });
});

test("issue: reads are refused, not answered with nothing, while state is rebuilt", async () => {
  await withGateway(async (gateway, { simulation }) => {
    await gateway.putItems([{ id: "a" }]);
    await gateway.close();
    for (const read of [() => gateway.getItem("a"), () => gateway.listItems({ limit: 1 }), () => gateway.getUser("u")]) {
      assert.throws(read, refusedAs("unavailable", /shutting down/));
    }
    assert.ok(simulation.eventCount > 0);
  });
});

test("issue: a filter on `available` takes items for available that do not say so", async () => {
  await withGateway(async (gateway) => {
    await gateway.putItems([{ id: "a" }, { id: "b", available: false }]);
    assert.deepEqual(idsOf(await gateway.recommend("popular", { user: "ann", filter: { available: true } })), ["a"]);
  });
});

test("minOffset waits for the offset, or says that it took too long", async () => {
  await withGateway(async (gateway) => {
    await gateway.putItems([{ id: "a" }]);
    const sending = gateway.putEvents([click("ann", "a")]);
    const answer = await gateway.recommend("shop", { user: "ann", minOffset: 2, record: false, explain: true });
    assert.equal(answer.items[0]!.parts!["ownCount"], 1);
    await sending;
    await assert.rejects(gateway.recommend("shop", { user: "ann", minOffset: 1_000, deadlineMs: 20 }), refusedAs("timeout", /offset 1000/));
  });
});

test("before it is open and after it is closed the gateway is unavailable", async () => {
  await withGateway(async (gateway) => {
    assert.deepEqual(gateway.readiness(), { ready: true, waiting: [] });
    await gateway.close();
    await assert.rejects(gateway.putEvents([click("ann", "a")]), refusedAs("unavailable", /shutting down/));
    assert.equal(gateway.readiness().ready, false);
  });
});

test("lists that lost their entries are filled again from the whole catalogue", async () => {
  await withGateway(
    async (gateway) => {
      for (let page = 0; page < 4; page += 1) {
        await gateway.putItems(Array.from({ length: 100 }, (_, index) => ({ id: `i${page * 100 + index}`, createdAt: 1_000 + page * 100 + index })));
      }
      for (let index = 399; index >= 300; index -= 1) await gateway.deleteItem(`i${index}`);
      const { items } = await gateway.recommend("popular", { user: "ann", n: 5 });
      assert.deepEqual(items.map(({ id }) => id).sort(), ["i295", "i296", "i297", "i298", "i299"]);
      assert.ok(items.every(({ sources }) => sources.includes("fresh")));
    },
    { ...defaultConfig, listItems: 100 },
  );
});

test("a configuration that cannot work is refused with the field", () => {
  const open = (change: object): unknown =>
    openGateway({
      log: undefined as never,
      clock: undefined as never,
      config: { ...defaultConfig, ...change },
      version: "t",
      incarnation: "x",
    });
  assert.throws(() => open({ popularityHalfLifeHours: -1 }), refusedAs("invalid", /popularityHalfLifeHours/));
  assert.throws(() => open({ doneTypes: ["sold"] }), refusedAs("invalid", /doneTypes.*sold/));
  assert.throws(() => open({ responses: { ...defaultConfig.responses, clickTypes: ["sold"] } }), refusedAs("invalid", /responses.clickTypes.*sold/));
  assert.throws(() => open({ surprise: 1 }), refusedAs("invalid", /surprise/));
});
