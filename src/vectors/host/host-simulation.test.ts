// Random writes, searches, folds, switches, roll-backs and crashes, torn writes among them, against a plain map with exact search.

import assert from "node:assert/strict";
import { test } from "node:test";
import { MillraceError } from "#base/errors";
import type { Durability } from "#backbone/log";
import { freshSeed } from "#platform/fresh-seed";
import type { SimulatedNode } from "#platform/simulation";
import { compileFilter } from "../filter/filter.ts";
import type { VectorMetric } from "../vector-service.ts";
import { differences, History, type HistoryRow, type HostLife, HostWorld } from "./host-world.fuzz.ts";

const seed = freshSeed();
const long = process.env["MILLRACE_LONG"] !== undefined;
const name = "things";
const elementsMax = 400;
const names = Array.from({ length: elementsMax }, (_, i) => `e${i}`);
const intervalMs = 200;

interface Report {
  crashes: number;
  writes: number;
  searches: number;
  folds: number;
  rollbacks: number;
  switches: number;
}

async function liveRun(world: HostWorld, history: History, life: HostLife, steps: number, report: Report): Promise<void> {
  const { random } = world.simulation;
  const { client, node } = life;
  const { dims } = history.shape;
  const vectorOf = (): Float32Array => Float32Array.from({ length: dims }, () => random.float() - 0.5);
  const waiting: Promise<unknown>[] = [];
  const write = (rows: HistoryRow[], call: Promise<Uint8Array | undefined>): void => {
    history.rows.push(...rows);
    const upTo = history.rows.length;
    report.writes += rows.length;
    waiting.push(call.then(() => history.acknowledged.push({ upTo, atMs: world.simulation.clock.monotonicMs() })));
  };
  for (let step = 0; step < steps; step++) {
    const what = random.below(20);
    if (what < 8) {
      const rows = Array.from({ length: 1 + random.below(random.chance(0.1) ? 120 : 6) }, () => ({
        kind: "upsert" as const,
        element: names[random.below(elementsMax)]!,
        vector: vectorOf(),
        attributes: random.chance(0.6) ? undefined : random.chance(0.2) ? "" : JSON.stringify({ x: random.below(4) }),
      }));
      const vectors = new Float32Array(rows.length * dims);
      rows.forEach(({ vector }, i) => vectors.set(vector, i * dims));
      write(rows, client.upsert(name, { elements: rows.map(({ element }) => element), vectors, attributes: rows.map(({ attributes }) => attributes) }));
    } else if (what < 11) {
      const elements = Array.from({ length: 1 + random.below(4) }, () => names[random.below(elementsMax)]!);
      write(
        elements.map((element) => ({ kind: "remove", element })),
        client.remove(name, elements),
      );
    } else if (what < 13) {
      const element = names[random.below(elementsMax)]!;
      const attributes = random.chance(0.2) ? "" : JSON.stringify({ x: random.below(4) });
      write([{ kind: "attributes", element, attributes }], client.setAttributes(name, [element], [attributes]));
    } else if (what < 18) {
      // Everything written is acknowledged first: then the answer is that of the map.
      await Promise.all(waiting.splice(0));
      const plain = history.now;
      const count = 1 + random.below(20);
      const query = vectorOf();
      const filter = random.chance(0.3) ? ".x >= 2" : undefined;
      const answer = await client.search({
        collection: name,
        queries: query.slice(),
        count,
        exact: true,
        ...(filter === undefined ? {} : { filter }),
        timeoutMs: 60_000,
      });
      assert.ok(answer !== undefined);
      report.searches += 1;
      plain.check(query, count, answer.elements, answer.scores, filter === undefined ? undefined : compileFilter(filter));
      if (random.chance(0.3)) {
        const usual = await client.search({ collection: name, queries: query.slice(), count: 5, timeoutMs: 60_000 });
        for (const element of usual!.elements) assert.ok(plain.rows.has(element), `${element} is answered and gone`);
      }
    } else if (what === 18) {
      await Promise.all(waiting.splice(0));
      assert.equal(await differences(client, name, history.now, names), undefined);
    } else if (random.chance(0.4)) {
      const rolled = await life.snapshots.rollback(name).catch((thrown: unknown) => {
        if (thrown instanceof MillraceError && ["not-found", "conflict"].includes(thrown.code)) return undefined;
        throw thrown;
      });
      if (rolled !== undefined) report.rollbacks += 1;
    }
    if (random.chance(0.5)) await node.clock.sleep(random.below(random.chance(0.1) ? 3_000 : 60));
  }
  await Promise.all(waiting.splice(0));
  assert.equal(await differences(client, name, history.now, names), undefined);
  const status = life.host.status().collections.find((one) => one.name === name)!;
  report.switches += status.folds;
  if (process.env["SHOW"] !== undefined) console.log(status, life.warnings.slice(0, 5));
}

/** The state after a restart is that of the log: some first rows, all that must be there among them. */
async function recovered(history: History, life: HostLife, surely: number): Promise<void> {
  const reasons: string[] = [];
  // From the end: rows that were never acknowledged are mostly there.
  for (let upTo = history.rows.length; upTo >= surely; upTo--) {
    const reason = await differences(life.client, name, history.plainAt(upTo), names);
    if (reason === undefined) return history.cut(upTo);
    if (reasons.length < 3) reasons.push(`${upTo}: ${reason}`);
  }
  assert.fail(`no state between ${surely} and ${history.rows.length} rows is that of the collection: ${reasons.join("; ")}`);
}

async function oneRun(runSeed: string, metric: VectorMetric, durability: Durability, lives: number): Promise<Report> {
  const shape = { dims: 5, metric };
  const world = new HostWorld(
    runSeed,
    {
      collections: {
        [name]: {
          ...shape,
          recallSampleEvery: 3,
          exactBelowRows: 20,
          fold: { tailRows: 150, tailRowsMin: 40, tailShare: 0.2, deletedShare: 0.2, memoryMb: 256 },
        },
      },
    },
    durability,
  );
  const history = new History(shape);
  const report: Report = { crashes: 0, writes: 0, searches: 0, folds: 0, rollbacks: 0, switches: 0 };
  await world.simulation.run(async () => {
    const { random, clock } = world.simulation;
    let surely = 0;
    for (let round = 0; round < lives; round++) {
      const node: SimulatedNode = world.simulation.node("a");
      const crashes = round < lives - 1;
      const how = random.chance(0.5) ? "kill" : "power";
      if (crashes) {
        clock.after(500 + random.below(12_000), () => {
          if (!node.alive) return;
          // What an interval may cost.
          const slackMs = how === "power" && durability === "interval" ? intervalMs + 20 : 0;
          surely = history.surely(clock.monotonicMs() - slackMs + (slackMs === 0 ? 1 : 0));
          report.crashes += 1;
          node.crash(how);
        });
      }
      await node.run(async () => {
        const life = await world.begin(node);
        for (
          let tries = 0;
          life.client.status().collections.find((one) => one.name === name)?.failure !== undefined || life.client.shapeOf(name) === undefined;
          tries++
        ) {
          assert.ok(tries < 600, `the collection is not opened: ${life.warnings.join("; ")}`);
          await node.clock.sleep(100);
        }
        await recovered(history, life, surely);
        surely = 0;
        await liveRun(world, history, life, crashes ? 100_000 : 150, report);
        await life.stop();
      });
    }
  });
  report.folds = world.folds;
  return report;
}

const runs: readonly (readonly [VectorMetric, Durability])[] = [
  ["cosine", "interval"],
  ["ip", "always"],
  ["l2", "interval"],
];
for (const [metric, durability] of runs) {
  test(`promise: nothing acknowledged is lost or wrong over folds, roll-backs and crashes (${metric}, ${durability}), seed ${seed}`, async (t) => {
    const rounds = long ? 40 : 1;
    if (!long) t.diagnostic("one run of 4 lives; MILLRACE_LONG makes 40");
    for (let round = 0; round < rounds; round++) {
      const report = await oneRun(`${seed} ${round} ${metric}`, metric, durability, long ? 6 : 4);
      t.diagnostic(JSON.stringify(report));
      assert.ok(report.searches > 0);
    }
  });
}
