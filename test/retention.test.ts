// Guards the promise that a trimmed activity log loses nothing: the real server counts events, keeps its aggregations, trims what is behind them, dies by kill -9, and
// the next one gives the same answers from the tables and the rest of the log.

import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Prng } from "#base/prng";
import type { RecommendAnswer } from "#wire/api";
import { Lane } from "../bench/load/lane.ts";
import { type ServerProcess, startServerProcess, temporaryFolder } from "../bench/load/server-process.ts";

const users = 8;
const items = 12;
const eventsPerStart = 400;
const seed = Number(process.env["SEED"] ?? 20_26);

/** A gauge of /metrics. */
async function gauge(lane: Lane, name: string): Promise<number> {
  const { body } = await lane.request("GET", "/metrics");
  return Number(new RegExp(`^${name} (\\S+)`, "m").exec(body)?.[1]);
}

async function until(what: string, there: () => Promise<boolean>): Promise<void> {
  for (const deadline = performance.now() + 60_000; !(await there()); await sleep(100)) assert.ok(performance.now() < deadline, `${what} did not come`);
}

/** What ranking reads of every user and item. */
async function countsOf(lane: Lane): Promise<unknown[]> {
  const ids = Array.from({ length: items }, (_, item) => `item-${item}`);
  const counts: unknown[] = [];
  for (let user = 0; user < users; user += 1) {
    const body = { user: `user-${user}`, n: items, explain: true, record: false, filter: { id: ids } };
    const answer = await lane.json<RecommendAnswer>("POST", "/v1/recommend/shop", body);
    counts.push(answer.items.map(({ id, parts }) => `${id} ${parts!["ownCount"]}`).toSorted());
  }
  return counts;
}

const skip = process.env["MILLRACE_LONG"] === undefined ? "takes 15 s, a long test: npm run test:long -- retention" : false;
test("promise: a server whose activity log was trimmed starts again after kill -9 with the same counts", { skip }, async (t) => {
  t.diagnostic(`SEED=${seed}`);
  const prng = new Prng(seed);
  const folder = temporaryFolder();
  const configFolder = temporaryFolder();
  const config = join(configFolder.path, "config.json");
  writeFileSync(
    config,
    JSON.stringify({
      log: { retentionHours: 0 },
      checkpoint: { everySeconds: 0.2, everyRecords: 1, kibPerSecond: 1_000_000 },
      model: { checkpointSeconds: 1 },
    }),
  );
  const start = (): Promise<ServerProcess> => startServerProcess({ data: join(folder.path, "data"), durability: "always", more: ["--config", config] });
  let server = await start();
  try {
    let lane = new Lane(server.address);
    await lane.json(
      "PUT",
      "/v1/items",
      Array.from({ length: items }, (_, item) => ({ id: `item-${item}`, category: `category-${item % 3}` })),
    );
    let sent = 0;
    const send = async (): Promise<void> => {
      for (let batch = 0; batch < eventsPerStart / 20; batch += 1) {
        const events = Array.from({ length: 20 }, () => ({
          id: `event-${sent++}`,
          type: prng.pick(["click", "like"]),
          user: `user-${prng.below(users)}`,
          item: `item-${prng.below(items)}`,
        }));
        await lane.json("POST", "/v1/events", events);
      }
    };
    const kept = async (): Promise<void> => {
      const { logOffset } = await server.status();
      await until("a checkpoint", async () => (await gauge(lane, "rec_checkpoint_offset")) >= logOffset);
      await until("a checkpoint of the model", async () => ((await lane.json<{ checkpointOffset?: number }>("GET", "/v1/training")).checkpointOffset ?? 0) > 0);
    };
    await send();
    await kept();
    assert.equal(await gauge(lane, "rec_log_first_offset"), 0, "the segment that is written stays");
    lane.close();
    await server.kill();

    // Each start begins a segment: the one before it can go.
    server = await start();
    lane = new Lane(server.address);
    await send();
    await kept();
    await until("a trimmed log", async () => (await gauge(lane, "rec_log_first_offset")) > 0);
    const first = await gauge(lane, "rec_log_first_offset");
    assert.ok(first >= eventsPerStart && first <= (await gauge(lane, "rec_log_needed_offset")));
    const counts = await countsOf(lane);
    const { items: before } = await server.status();
    lane.close();
    await server.kill();

    server = await start();
    lane = new Lane(server.address);
    assert.ok((await gauge(lane, "rec_log_first_offset")) >= first);
    assert.deepEqual(await countsOf(lane), counts);
    const status = await server.status();
    assert.equal(status.eventsRebuilt, sent);
    assert.equal(status.items, before);
    const training = await lane.json<{ state: string; trainedOffset: number }>("GET", "/v1/training");
    assert.notEqual(training.state, "failed");
    lane.close();
    assert.equal(await server.stop(), 0);
  } finally {
    await server.kill();
    folder.remove();
    configFolder.remove();
  }
});
