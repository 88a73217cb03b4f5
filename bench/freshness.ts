// freshness: how soon an event changes an answer, beside a steady load.
// Work: a server process with 4,500 items (3,000 available) and 2,000 users; from a second process 500 events/s (one a request) and 50 recommend/s of 20 items, open loop; from a
// third a probe viewer, 5 a second: sends an event and asks again as soon as each answer comes. Five rounds of 20 s on one server.
// Figures: event_to_feature = from the send of the event to the receipt of the first answer in which a counter that ranking reads has risen.
// recommend = from the moment a request was due to its complete answer. loop_stall_max = the most CPU time the serving thread used between two ticks
// of a 1 ms timer (/v1/status keeps the maxima of the last 60 seconds), median of the rounds' maxima.

import { median, quantile, type Scenario } from "./harness.ts";
import type { BackgroundResult, BackgroundWork } from "./load/background-load.ts";
import { putCatalogue } from "./load/catalogue.ts";
import { runChild } from "./load/child.ts";
import { Lane } from "./load/lane.ts";
import type { ProbeResult, ProbeWork } from "./load/probe.ts";
import { startServerProcess, temporaryFolder } from "./load/server-process.ts";
import type { StatusAnswer } from "#wire/api";

const eventsPerS = 500;
const recommendsPerS = 50;
const probesPerS = 5;
const probeItems = 40;

export const scenario: Scenario = {
  name: "freshness",
  head: "from an event to the first answer that counts it, beside 500 events/s and 50 requests/s",
  async run({ quick, report, log }) {
    const rounds = quick ? 1 : 5;
    const durationMs = quick ? 2_000 : 20_000;
    const folder = temporaryFolder();
    const server = await startServerProcess({ data: folder.path, durability: "interval" });
    try {
      const lane = new Lane(server.address);
      const catalogue = await putCatalogue(lane, 1);
      const eventMs: number[] = [];
      const recommendMs: number[] = [];
      const stallsMs: number[] = [];
      let events = 0;
      let asked = 0;
      let latestSendMs = 0;
      const failures: string[] = [];
      const round = async (name: string, ms: number): Promise<[BackgroundResult, ProbeResult]> =>
        Promise.all([
          runChild<BackgroundWork, BackgroundResult>("background-load.ts", {
            address: server.address,
            catalogue,
            seed: name.length * 1_000 + name.charCodeAt(name.length - 1),
            durationMs: ms,
            eventsPerS,
            recommendsPerS,
          }),
          runChild<ProbeWork, ProbeResult>("probe.ts", {
            address: server.address,
            // The least popular ones: their other counters hardly move, and the probe reads only its viewer's own.
            items: catalogue.items.slice(-probeItems),
            name: `probe-${name}`,
            durationMs: ms,
            perS: probesPerS,
          }),
        ]);
      // Compilers and caches settle in a short round that is not counted.
      await round("warm", quick ? 500 : 5_000);
      for (let index = 0; index < rounds; index += 1) {
        const [background, probe] = await round(`r${index}`, durationMs);
        const stall = await longestStallMs(lane, Math.ceil(durationMs / 1000));
        stallsMs.push(stall);
        eventMs.push(...probe.latencyMs);
        recommendMs.push(...background.recommends.latencyMs);
        events += background.events.latencyMs.length;
        asked += probe.asked;
        latestSendMs = Math.max(latestSendMs, background.events.latestSendMs, background.recommends.latestSendMs);
        failures.push(...probe.failures);
        for (const { failed, dropped, firstFailure } of [background.events, background.recommends]) {
          for (let i = 0; i < failed + dropped; i += 1) failures.push(String(firstFailure ?? "dropped: 1,000 requests under way"));
        }
        log(
          `round ${index + 1}: event to feature p99 ${quantile(probe.latencyMs, 0.99).toFixed(1)} ms, recommend p99 ${quantile(background.recommends.latencyMs, 0.99).toFixed(1)} ms, loop stall ${stall.toFixed(1)} ms`,
        );
      }
      lane.close();
      const beside = `beside ${eventsPerS} events/s and ${recommendsPerS} requests/s`;
      const probes = `${eventMs.length} probes, ${(asked / Math.max(1, eventMs.length)).toFixed(1)} answers each`;
      report({ metric: "event_to_feature_p50_ms", value: quantile(eventMs, 0.5), unit: "ms", better: "lower", detail: probes });
      report({ metric: "event_to_feature_p99_ms", value: quantile(eventMs, 0.99), unit: "ms", better: "lower", target: 30, detail: beside });
      report({
        metric: "recommend_p50_ms",
        value: quantile(recommendMs, 0.5),
        unit: "ms",
        better: "lower",
        detail: `${recommendMs.length} requests of 20 items`,
      });
      report({
        metric: "recommend_p99_ms",
        value: quantile(recommendMs, 0.99),
        unit: "ms",
        better: "lower",
        target: 30,
        detail: "from the moment a request was due",
      });
      report({
        metric: "loop_stall_max_ms",
        value: median(stallsMs),
        unit: "ms",
        better: "lower",
        target: 10,
        detail: `median of ${rounds} rounds' maxima: ${stallsMs.map((ms) => ms.toFixed(1)).join(", ")}`,
      });
      report({
        metric: "errors",
        value: failures.length,
        unit: "count",
        better: "lower",
        target: 0,
        ...(failures.length === 0 ? {} : { detail: failures[0]! }),
      });
      report({
        metric: "background_events",
        value: events,
        unit: "count",
        better: "higher",
        detail: `acknowledged; the generator was late by at most ${latestSendMs.toFixed(1)} ms`,
      });
    } finally {
      await server.stop();
      folder.remove();
    }
  },
};

/** The longest stall of the server's serving loop in the last `seconds`, CPU milliseconds. */
async function longestStallMs(lane: Lane, seconds: number): Promise<number> {
  const { status, body } = await lane.request("GET", "/v1/status");
  const maxima = status === 200 ? (JSON.parse(body) as StatusAnswer).loopStallSecondsMs : undefined;
  if (maxima === undefined) throw new Error(`GET /v1/status answered ${status} without loopStallSecondsMs`);
  return Math.max(...maxima.slice(-seconds));
}
