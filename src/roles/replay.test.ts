// Guards what the figures of a replay rest on: an answer is given before its basket, or anything later, is learned; the frozen model learns nothing after
// the warm-up; without the model the preset is the counting pipeline. A small log made from a seed (SEED=n).

import assert from "node:assert/strict";
import { after, test } from "node:test";
import { Prng } from "#base/prng";
import { shopConfig } from "#gateway/index";
import { makeTemporaryFolder, systemFiles } from "#platform/system-files";
import { openReplayGateway } from "./replay-gateway.ts";
import { recommenderOf, replayModels, runReplay, withoutModel } from "./replay.ts";

const folder = await makeTemporaryFolder("millrace-replay-role-");
after(() => systemFiles.removeFolder(folder));
const seed = Number(process.env["SEED"] ?? 11);
const startMs = Date.UTC(2010, 11, 1, 8);
const hourMs = 3_600_000;

interface MadeBasket {
  readonly user: string;
  readonly atMs: number;
  readonly items: readonly string[];
}

/** Users have things that they buy again, and all buy of the same 120. */
function madeBaskets(count: number): MadeBasket[] {
  const random = new Prng(seed);
  let atMs = startMs;
  return Array.from({ length: count }, () => {
    atMs += random.below(4) * hourMs;
    const user = random.below(12);
    const items = new Set(Array.from({ length: 3 + random.below(8) }, () => `I${random.below(2) === 0 ? user * 10 + random.below(10) : random.below(120)}`));
    return { user: `U${user}`, atMs, items: [...items] };
  });
}

const eventsOf = ({ user, atMs, items }: MadeBasket, index: number) => items.map((item) => ({ id: `${index}:${item}`, user, item, atMs }));

test(`promise: a basket is learned once it was asked for, not before, SEED=${seed}`, async () => {
  const opened = await openReplayGateway(shopConfig, "test");
  const { trainer } = opened.learning!;
  try {
    const model = recommenderOf(opened, false);
    const baskets = madeBaskets(60);
    let taught = 0;
    for (const [index, basket] of baskets.entries()) {
      const before = { ...trainer.joiner.counts };
      const offset = trainer.offset;
      const list = await model.recommend(basket.user, 20, false, basket.atMs);
      const novel = await model.recommend(basket.user, 20, true, basket.atMs);
      assert.ok(list.length <= 20 && novel.length <= 20);
      assert.equal(trainer.offset, offset, "asking teaches nothing");
      assert.deepEqual(trainer.joiner.counts, before);
      await model.learn(eventsOf(basket, index));
      const { positives, unjoined } = trainer.joiner.counts;
      assert.ok(trainer.offset > offset);
      assert.equal(positives + unjoined - before.positives - before.unjoined, index === 0 ? 0 : basket.items.length, "all events of this basket, no other");
      taught += basket.items.length;
    }
    assert.equal(trainer.state, "learning");
    const { positives, negatives, unjoined } = trainer.joiner.counts;
    assert.ok(positives > taught / 4 && negatives > positives, JSON.stringify(trainer.joiner.counts));
    // The first basket of all has no answer to name: nothing is known yet.
    assert.equal(positives + unjoined, taught - baskets[0]!.items.length);
  } finally {
    await opened.close();
  }
});

test("the frozen model learns in the warm-up and nothing after it, and no answer of it is recorded then", async () => {
  const opened = await openReplayGateway(shopConfig, "test");
  const { trainer } = opened.learning!;
  try {
    const model = recommenderOf(opened, true);
    const baskets = madeBaskets(60);
    for (const [index, basket] of baskets.slice(0, 40).entries()) await model.learn(eventsOf(basket, index));
    const before = { ...trainer.joiner.counts };
    assert.ok(before.positives > 50 && before.negatives > 50, JSON.stringify(before));
    await model.recommend("U1", 20, false, baskets[40]!.atMs);
    assert.equal(trainer.state, "off");
    const saved = trainer.machine.save();
    for (const [index, basket] of baskets.slice(40).entries()) {
      assert.ok((await model.recommend(basket.user, 20, false, basket.atMs)).length > 0);
      await model.learn(eventsOf(basket, 40 + index));
    }
    await opened.learning!.catchUp();
    assert.deepEqual(trainer.machine.save(), saved);
    assert.equal(trainer.joiner.counts.answers, before.answers);
  } finally {
    await opened.close();
  }
});

test("an untrained shop model ranks as counting does", async () => {
  const lists = [];
  for (const config of [shopConfig, withoutModel(shopConfig)]) {
    // Vectors of almost nothing: the initial ones are noise of a tenth.
    const quiet = config.model === undefined ? config : { ...config, model: { ...config.model, initialScale: 1e-6 } };
    const opened = await openReplayGateway(quiet, "test");
    try {
      for (const [index, basket] of madeBaskets(60).entries()) {
        opened.setTime(basket.atMs);
        await opened.gateway.putEvents(eventsOf(basket, index).map(({ id, user, item, atMs: ts }) => ({ id, type: "purchase", user, item, ts })));
      }
      const answers = [];
      for (const user of ["U1", "U2", "nobody"])
        answers.push(...(await opened.gateway.recommend("shop", { user, n: 20, record: false })).items.map(({ id }) => id));
      lists.push(answers);
    } finally {
      await opened.close();
    }
  }
  assert.ok(lists[0]!.length >= 60);
  assert.deepEqual(lists[0], lists[1]);
});

test("a replay of all models says whose figures stand first; the same run gives the same figures", async () => {
  const path = systemFiles.join(folder, "log.csv");
  const dateText = (atMs: number): string => new Date(atMs).toISOString().slice(0, 19).replace("T", " ");
  const rows = madeBaskets(80).flatMap(({ user, atMs, items }, index) => items.map((item) => `${index},${item},THING,1,${dateText(atMs)},1.25,${user},UK`));
  const header = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country";
  await systemFiles.writeFileAtomic(path, new TextEncoder().encode(`${[header, ...rows].join("\n")}\n`));
  const run = (models?: readonly (typeof replayModels)[number][]) =>
    runReplay({
      path,
      refresh: "live",
      version: "test",
      onProgress: () => undefined,
      signal: new AbortController().signal,
      ...(models === undefined ? {} : { models }),
    });
  const whole = await run();
  assert.deepEqual(whole.models.map(({ name }) => name).sort(), [...replayModels].sort());
  assert.equal(whole.total.recall, whole.models[0]!.recall);
  for (const name of ["learned", "frozen"] as const) {
    const alone = await run([name]);
    assert.deepEqual(
      alone.models.map(({ name: of }) => of),
      [name],
    );
    const together = whole.models.find((model) => model.name === name)!;
    assert.deepEqual([alone.total.recall, alone.total.novelRecall], [together.recall, together.novelRecall]);
  }
});
