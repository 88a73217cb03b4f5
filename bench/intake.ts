// intake: what a core takes in over HTTP, and that a kill -9 costs nothing that was acknowledged.
// Work: a server process at durability `interval` with 4,500 items (3,000 available); a client process sends batches of 100 events with distinct ids over four
// connections in a closed loop. Items by Zipf's law with exponent 1 (the first of 3,000 gets 12 %), users with 0.7 (the first of 100,000 gets 1 %). `events_per_core_s` = acknowledged events / CPU seconds of the whole server process.
// Then: a second load, kill -9 in the middle of it, a start on the same folder, and the whole of the load is sent again with the same ids.
//   lost           acknowledged events that the restarted server did not know (it accepted them as new)
//   counted_wrong  difference between the events that the restarted server counted and the distinct ids sent, plus (user, item) pairs of the audited users
//                  whose counter differs from the number of their events
// Both must be 0: everything is there, and once.

import { setTimeout as sleep } from "node:timers/promises";
import { processCpuMs, quantile, type Scenario } from "./harness.ts";
import type { RecommendAnswer } from "#wire/api";
import { auditItems, auditOf, auditUsers, type BatchResult, type BatchWork } from "./load/batch-load.ts";
import { type Catalogue, putCatalogue } from "./load/catalogue.ts";
import { runChild } from "./load/child.ts";
import { Lane } from "./load/lane.ts";
import { startServerProcess, temporaryFolder } from "./load/server-process.ts";

const batchEvents = 100;
const connections = 4;
/** The server remembers the ids of at least the last 500,000 events: more could not be checked by sending them again. */
const batchesMax = 4_500;

export const scenario: Scenario = {
  name: "intake",
  head: "events per core over HTTP in batches of 100 at durability interval, and what a kill -9 loses",
  async run({ quick, report, log }) {
    const folder = temporaryFolder();
    let server = await startServerProcess({ data: folder.path, durability: "interval" });
    try {
      let lane = new Lane(server.address);
      const catalogue = await putCatalogue(lane, 1);
      const base = { catalogue, connections, batchEvents };
      const load = (work: Pick<BatchWork, "seed" | "from" | "to" | "durationMs">): Promise<BatchResult> =>
        runChild<BatchWork, BatchResult>("batch-load.ts", { ...base, ...work, address: server.address });

      const warm = await load({ seed: 1, from: 0, to: batchesMax, durationMs: quick ? 300 : 3_000 });
      const cpuBeforeMs = processCpuMs(server.pid);
      const measured = await load({ seed: 2, from: 0, to: Number.MAX_SAFE_INTEGER, durationMs: quick ? 2_000 : 20_000 });
      const cpuMs = processCpuMs(server.pid) - cpuBeforeMs;
      if (measured.firstFailure !== undefined) throw new Error(measured.firstFailure);
      const events = measured.acknowledged.reduce((sum, { accepted }) => sum + accepted, 0);
      if (events !== measured.acknowledged.length * batchEvents) throw new Error("distinct ids were taken for duplicates");
      report({
        metric: "events_per_core_s",
        value: events / (cpuMs / 1000),
        unit: "1/s",
        better: "higher",
        target: 20_000,
        detail: `${events} events, ${(cpuMs / 1000).toFixed(1)} s CPU of the server process with all its threads`,
      });
      report({
        metric: "events_per_s",
        value: events / (measured.wallMs / 1000),
        unit: "1/s",
        better: "higher",
        detail: `wall, ${connections} connections, client on the same machine`,
      });
      report({ metric: "batch_p50_ms", value: quantile(measured.latencyMs, 0.5), unit: "ms", better: "lower" });
      report({
        metric: "batch_p99_ms",
        value: quantile(measured.latencyMs, 0.99),
        unit: "ms",
        better: "lower",
        detail: `${measured.latencyMs.length} batches of ${batchEvents}`,
      });

      // From here on every id is accounted for.
      const known = (await server.status()).eventsAccepted;
      const dying = load({ seed: 3, from: 0, to: batchesMax, durationMs: 60_000 });
      const enough = known + (quick ? 2_000 : 100_000);
      while ((await server.status()).eventsAccepted < enough) await sleep(20);
      await server.kill();
      const died = await dying;
      const sentBatches = [...died.acknowledged.map(({ batch }) => batch), ...died.unanswered];
      log(`kill -9 with ${died.acknowledged.length * batchEvents} events of this load acknowledged and ${died.unanswered.length} batches unanswered`);

      server = await startServerProcess({ data: folder.path, durability: "interval" });
      lane = new Lane(server.address);
      const rebuilt = (await server.status()).eventsRebuilt;
      report({
        metric: "restart_ms",
        value: server.readyMs,
        unit: "ms",
        better: "lower",
        detail: `from the start of the process to readiness, ${rebuilt} events counted again`,
      });
      const again = await load({ seed: 3, from: 0, to: Math.max(...sentBatches) + 1, durationMs: 120_000 });
      if (again.firstFailure !== undefined) throw new Error(again.firstFailure);
      const acceptedAgain = new Map(again.acknowledged.map(({ batch, accepted }) => [batch, accepted]));
      const lost = died.acknowledged.reduce((sum, { batch }) => sum + acceptedAgain.get(batch)!, 0);
      report({
        metric: "lost",
        value: lost,
        unit: "count",
        better: "lower",
        target: 0,
        detail: `of ${known} events before and ${died.acknowledged.length * batchEvents} during the load that kill -9 ended`,
      });

      const newly = again.acknowledged.reduce((sum, { accepted }) => sum + accepted, 0);
      const distinct = known + again.acknowledged.length * batchEvents;
      const wrongPairs = await wrongCounters(lane, catalogue, [warm, measured, again]);
      report({
        metric: "counted_wrong",
        value: Math.abs(rebuilt + newly - distinct) + wrongPairs,
        unit: "count",
        better: "lower",
        target: 0,
        detail: `${rebuilt} counted again + ${newly} new = ${distinct} distinct ids; ${auditUsers * auditItems} counters compared`,
      });
      lane.close();
    } finally {
      await server.stop();
      folder.remove();
    }
  },
};

/** How many counters of audited (user, item) pairs differ from the number of events that these loads sent on them. */
async function wrongCounters(lane: Lane, catalogue: Catalogue, loads: readonly BatchResult[]): Promise<number> {
  const expected = new Map<string, number>();
  for (const { acknowledged } of loads) {
    for (const { batch } of acknowledged) {
      for (const index of [0, 1]) {
        const { user, item } = auditOf(catalogue, batch, index);
        expected.set(`${user} ${item}`, (expected.get(`${user} ${item}`) ?? 0) + 1);
      }
    }
  }
  let wrong = 0;
  const items = catalogue.items.slice(0, auditItems);
  for (let number = 0; number < auditUsers; number += 1) {
    const user = `audit-${number}`;
    const body = { user, n: auditItems, explain: true, record: false, filter: { id: items } };
    const answer = await lane.json<RecommendAnswer>("POST", "/v1/recommend/shop", body);
    const counted = new Map(answer.items.map(({ id, parts }) => [id, parts?.["ownCount"] ?? 0]));
    for (const item of items) if ((counted.get(item) ?? 0) !== (expected.get(`${user} ${item}`) ?? 0)) wrong += 1;
  }
  return wrong;
}
