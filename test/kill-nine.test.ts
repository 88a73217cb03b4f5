// Guards the promise that a process may die at any moment: kill -9 under load, a start on the same folder, and every event that was acknowledged is there and
// counted once, also when the client sends what was not answered a second time with the same ids. The server is the real one, started as a user starts it.
// What is compared after each start: (1) the events that the server counted again = distinct ids that it must know, (2) acknowledged batches sent again
// are duplicates to the last event, (3) at the end the exact counters of every (user, item) pair that ranking reads.
// At `interval` the aggregations are kept in tables all the time, so that kills meet checkpoints and starts load them: the sums are the same.
// Killing a process does not lose what the operating system has, so `interval` must lose nothing here either; power cuts are simulated elsewhere
// (test/power-cut.test.ts). 4 kills, with MILLRACE_LONG 20.

import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Prng } from "#base/prng";
import type { EventBody, EventsAnswer, RecommendAnswer } from "#wire/api";
import { Lane } from "../bench/load/lane.ts";
import { type ServerProcess, startServerProcess, temporaryFolder } from "../bench/load/server-process.ts";

const seed = Number(process.env["SEED"] ?? 20_26);
const long = process.env["MILLRACE_LONG"] !== undefined;
const connections = 3;
const users = 8;
const items = 12;

interface Batch {
  readonly events: readonly EventBody[];
  acknowledged: boolean;
}

/** Sends batches of 1 to 20 events on one connection until the server dies; records what was acknowledged. */
async function sendUntilDeath(server: ServerProcess, prng: Prng, name: string, sent: Batch[]): Promise<void> {
  const lane = new Lane(server.address);
  for (let number = 0; ; number += 1) {
    const events = Array.from({ length: prng.between(1, 20) }, (_, index) => ({
      id: `${name}-${number}-${index}`,
      type: prng.pick(["click", "like", "watch", "purchase"]),
      user: `user-${prng.below(users)}`,
      item: `item-${prng.below(items)}`,
    }));
    const batch: Batch = { events, acknowledged: false };
    sent.push(batch);
    try {
      const answer = await lane.json<EventsAnswer>("POST", "/v1/events", events);
      assert.equal(answer.accepted, events.length);
      batch.acknowledged = true;
    } catch (thrown) {
      if (thrown instanceof assert.AssertionError) throw thrown;
      return;
    }
  }
}

/** How a server came to its state, as it prints it a moment after it is ready. */
async function startOf(server: ServerProcess): Promise<{ rowsLoaded: number; recordsCounted: number }> {
  for (let left = 500; left > 0; left -= 1) {
    const line = /(\d+) rows of aggregations loaded, (\d+) records counted again/.exec(server.printed());
    if (line !== null) return { rowsLoaded: Number(line[1]), recordsCounted: Number(line[2]) };
    await sleep(10);
  }
  throw new Error(`the server does not say how it started:\n${server.printed()}`);
}

for (const durability of ["always", "interval"] as const) {
  const rounds = long ? (durability === "always" ? 14 : 6) : 2;
  test(`promise: every event acknowledged at ${durability} survives kill -9 and counts once, sent again or not (${rounds} kills under load)`, async (t) => {
    t.diagnostic(`SEED=${seed}${long ? "" : "; with MILLRACE_LONG 20 kills together"}`);
    const prng = new Prng(seed).fork(durability);
    const folder = temporaryFolder();
    const known: Batch[] = [];
    let acknowledged = 0;
    let unanswered = 0;
    let survivedUnanswered = 0;
    const keeps = durability === "interval";
    const configFolder = temporaryFolder();
    const config = join(configFolder.path, "config.json");
    // The threads of a model are half of what a start costs; one of the two has them.
    writeFileSync(config, JSON.stringify(keeps ? { checkpoint: { everySeconds: 0.1, everyRecords: 1, kibPerSecond: 1_000_000 } } : { model: null }));
    const start = (): Promise<ServerProcess> => startServerProcess({ data: folder.path, durability, more: ["--config", config] });
    let loads = 0;
    let server = await start();
    try {
      const lane = new Lane(server.address);
      const rows = Array.from({ length: items }, (_, item) => ({ id: `item-${item}`, category: `category-${item}` }));
      assert.equal((await lane.json<{ accepted: number }>("PUT", "/v1/items", rows)).accepted, items);
      lane.close();

      for (let round = 0; round < rounds; round += 1) {
        const sent: Batch[] = [];
        const senders = Array.from({ length: connections }, (_, sender) =>
          sendUntilDeath(server, prng.fork(`${round}/${sender}`), `${durability}-${round}-${sender}`, sent),
        );
        // Not before something was acknowledged, then at any moment.
        while (!sent.some((batch) => batch.acknowledged)) await sleep(2);
        await sleep(prng.between(0, keeps ? 900 : 120));
        await server.kill();
        await Promise.all(senders);

        server = await start();
        loads += (await startOf(server)).rowsLoaded > 0 ? 1 : 0;
        const knownBefore = known.reduce((sum, { events }) => sum + events.length, 0);
        const { eventsRebuilt } = await server.status();
        const again = new Lane(server.address);
        let newly = 0;
        for (const batch of sent) {
          const { accepted, duplicates } = await again.json<EventsAnswer>("POST", "/v1/events", batch.events);
          assert.equal(accepted + duplicates, batch.events.length);
          if (batch.acknowledged) assert.equal(accepted, 0, `round ${round}: ${accepted} acknowledged events of a batch were lost`);
          newly += accepted;
          acknowledged += batch.acknowledged ? batch.events.length : 0;
          unanswered += batch.acknowledged ? 0 : batch.events.length;
          survivedUnanswered += batch.acknowledged ? 0 : duplicates;
        }
        const all = knownBefore + sent.reduce((sum, { events }) => sum + events.length, 0);
        assert.equal(
          eventsRebuilt + newly,
          all,
          `round ${round}: events counted after the start plus those new when sent again are all distinct ids, no more and no less`,
        );
        known.push(...sent);
        again.close();
      }

      // One more death without load: what was sent again is there too.
      await server.kill();
      server = await start();
      const all = known.reduce((sum, { events }) => sum + events.length, 0);
      assert.equal((await server.status()).eventsRebuilt, all);
      const expected = new Map<string, number>();
      for (const { events } of known) for (const { user, item } of events) expected.set(`${user} ${item}`, (expected.get(`${user} ${item}`) ?? 0) + 1);
      const last = new Lane(server.address);
      const ids = Array.from({ length: items }, (_, item) => `item-${item}`);
      for (let user = 0; user < users; user += 1) {
        const body = { user: `user-${user}`, n: items, explain: true, record: false, filter: { id: ids } };
        const answer = await last.json<RecommendAnswer>("POST", "/v1/recommend/shop", body);
        const counted = new Map(answer.items.map(({ id, parts }) => [id, parts!["ownCount"]]));
        for (const id of ids) assert.equal(counted.get(id) ?? 0, expected.get(`user-${user} ${id}`) ?? 0, `counter of user-${user} and ${id}`);
      }
      last.close();
      assert.equal(await server.stop(), 0);
      if (keeps) {
        assert.ok(loads > 0, "no start loaded kept aggregations");
        server = await start();
        assert.equal((await startOf(server)).recordsCounted, 0, "a stop leaves nothing to be counted again");
        assert.equal((await server.status()).eventsRebuilt, all);
      }
      t.diagnostic(`${loads} of ${rounds} starts loaded kept aggregations`);
      t.diagnostic(
        `${acknowledged} events acknowledged before a kill, ${unanswered} sent without an answer (${survivedUnanswered} of them were in the log), ${users * items} counters exact`,
      );
    } finally {
      await server.kill();
      folder.remove();
      configFolder.remove();
    }
  });
}
