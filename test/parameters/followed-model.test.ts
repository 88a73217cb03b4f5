// promise: a second server that follows the model of the first ranks and scores by its rows: what a click teaches there changes a score here. Two real servers, started as a user starts them;
// the trainer's is killed and comes back.

import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { RecommendAnswer } from "#wire/api";
import type { ScoreAnswer, SimilarAnswer, TrainingStatus } from "#wire/live-api";
import { Lane } from "../../bench/load/lane.ts";
import { type ServerProcess, startServerProcess, temporaryFolder } from "../../bench/load/server-process.ts";
import { freePort } from "../free-port.ts";

const items = Array.from({ length: 40 }, (_, i) => `item-${i}`);

async function until(what: string, claim: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 120_000;
  while (!(await claim())) {
    assert.ok(performance.now() < deadline, what);
    await sleep(20);
  }
}

class Side {
  server: ServerProcess | undefined;
  #lane: Lane | undefined;
  readonly #start: () => Promise<ServerProcess>;

  constructor(start: () => Promise<ServerProcess>) {
    this.#start = start;
  }

  async start(): Promise<void> {
    this.server = await this.#start();
    this.#lane = new Lane(this.server.address);
  }

  async kill(): Promise<void> {
    this.#lane?.close();
    await this.server?.kill();
    this.server = undefined;
  }

  ask<T>(method: "GET" | "POST" | "PUT", path: string, body?: unknown): Promise<T> {
    return this.#lane!.json<T>(method, path, body);
  }

  request(method: "GET" | "POST" | "PUT", path: string, body?: unknown): Promise<{ status: number; body: string }> {
    return this.#lane!.request(method, path, body === undefined ? undefined : JSON.stringify(body));
  }

  training(): Promise<TrainingStatus> {
    return this.ask("GET", "/v1/training");
  }

  recommend(user: string): Promise<RecommendAnswer> {
    return this.ask("POST", "/v1/recommend/home", { user, n: 10 });
  }

  /** By the features of an answer that this side gave. */
  async score(recommendationId: string, item: string): Promise<number> {
    return (await this.ask<ScoreAnswer>("POST", "/v1/score", { recommendationId, item })).score;
  }
}

const skip = process.env["MILLRACE_LONG"] === undefined ? "takes 30 s, a long test: npm run test:long -- followed-model" : false;

test("promise: a score at a follower follows an event", { timeout: 400_000, skip }, async (t) => {
  const folder = temporaryFolder();
  t.after(() => folder.remove());
  const ports = [await freePort(), await freePort()] as const;
  const sideOf = (n: 0 | 1): Side => {
    const path = join(folder.path, `config-${n}.json`);
    const sync = { node: n + 1, port: ports[n], token: "a token of both", model: true, ...(n === 0 ? {} : { follow: [`127.0.0.1:${ports[0]}`] }) };
    writeFileSync(path, JSON.stringify({ model: { samples: { windowSeconds: 1 }, checkpointSeconds: 3_600 }, parameters: { sync } }));
    const side = new Side(() => startServerProcess({ data: join(folder.path, `data-${n}`), durability: "interval", more: ["--config", path] }));
    t.after(() => side.kill());
    return side;
  };
  const [leader, follower] = [sideOf(0), sideOf(1)];
  await leader.start();
  const rows = items.map((id, i) => ({ id, title: id, category: `category-${i % 5}`, createdAt: Date.now() - i * 60_000 }));
  await leader.ask("PUT", "/v1/items", rows);
  let events = 0;
  /** A user of the leader clicks the item: answers whose windows close teach negatives, too. */
  const click = async (user: string, item?: string): Promise<void> => {
    const { recommendationId, items: shown } = await leader.recommend(user);
    const wanted = shown.find(({ id }) => id === item) ?? shown[0]!;
    const event = { id: `e${events++}`, type: "click", user, item: wanted.id, ts: Date.now(), recommendationId, position: shown.indexOf(wanted) };
    await leader.ask("POST", "/v1/events", event);
  };
  let told: TrainingStatus | undefined;
  await until("the leader learns", async () => {
    await click(`user-${events}`);
    told = await leader.training();
    return told.state === "learning" && told.samples > 100;
  }).catch((thrown: unknown) => assert.fail(`${(thrown as Error).message}: ${JSON.stringify(told)}\n${leader.server!.printed()}`));

  await follower.start();
  const status = await follower.training();
  assert.deepEqual([status.state, status.sync?.ready, status.sync?.sources[0]?.connected], ["following", true, true]);
  assert.ok(status.rows > 50, `${status.rows} rows`);
  await follower.ask("PUT", "/v1/items", rows);
  const refused = await follower.request("POST", "/v1/training", { on: false });
  assert.equal(refused.status, 409);
  assert.ok(refused.body.includes(`127.0.0.1:${ports[0]}`), refused.body);
  assert.match((await follower.request("GET", "/metrics")).body, /rec_model_sync_ready 1\n/);
  await until("the leader knows its follower", async () => (await leader.training()).sync?.followers.length === 1);

  /** Clicks on `item` at the leader raise its score at the follower over that of another item of the same answer. */
  const follows = async (name: string): Promise<void> => {
    const { recommendationId, items: shown } = await follower.recommend(`asker-${name}`);
    const [own, other] = [shown[0]!.id, shown.at(-1)!.id];
    const over = async (): Promise<number> => (await follower.score(recommendationId, own)) - (await follower.score(recommendationId, other));
    const before = await over();
    const taught = performance.now();
    await until(`clicks on ${own} show at the follower`, async () => {
      await click(`${name}-${events}`, own);
      return (await over()) > before + 0.01;
    });
    t.diagnostic(`${name}: seen after ${(performance.now() - taught).toFixed(0)} ms`);
  };
  await follows("first");
  // The model finds and ranks here too.
  const similar = await follower.ask<SimilarAnswer>("POST", "/v1/similar", { item: items[0], n: 5 });
  assert.equal(similar.items.length, 5);

  // The trainer dies with what it learned since its last checkpoint, learns it again from its log, and the follower has no more than it.
  const rowsBefore = (await leader.training()).rows;
  const { recommendationId, items: shown } = await follower.recommend("while it is away");
  await leader.kill();
  assert.ok(Number.isFinite(await follower.score(recommendationId, shown[0]!.id)), "a follower goes on without its source");
  await leader.start();
  await until("all is learned again", async () => (await leader.training()).behind === 0);
  await until("the follower has it", async () => {
    const [one, two] = await Promise.all([leader.training(), follower.training()]);
    return one.rows >= rowsBefore && two.rows === one.rows && two.sync?.ready === true;
  });
  await follows("second");
  const { sync } = await follower.training();
  assert.deepEqual([sync?.digestMismatches, sync?.conflicts, sync?.tableFull], [0, 0, 0]);
});
