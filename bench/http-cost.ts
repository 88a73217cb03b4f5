// What HTTP costs: CPU time of the server's process a request, over a gateway that does nothing; the floor of every figure of intake and recommend.
// Sketch: 100 events are about 16 kB of JSON; JSON.parse reads some 150 MB/s, so 0.1 ms; fastify and the socket about 0.15 ms: 2.5 us an event.
// The client runs in this process and its CPU is not counted.

import { deepEqual } from "node:assert/strict";
import { fork } from "node:child_process";
import { Agent, request } from "node:http";
import { fastify } from "fastify";
import { alternatingRounds, median, type Scenario } from "./harness.ts";
import { answer } from "./http-cost/server.ts";
import { schemaCheck } from "#gateway/schema-check";
import { EventsAnswer, RecommendAnswer } from "#wire/api";

interface Answered {
  readonly status: number;
  readonly text: string;
}

const inFlight = 8;

function events(count: number): string {
  return JSON.stringify(
    Array.from({ length: count }, (_, at) => ({
      id: `event-0123456789-${at}`,
      type: at % 3 === 0 ? "like" : "click",
      user: `viewer-${at * 17}`,
      item: `room-${at * 31}`,
      ts: 1_790_000_000_000 + at,
      recommendationId: "r-0123456789abcdef",
      position: at % 20,
    })),
  );
}

export const scenario: Scenario = {
  name: "http-cost",
  head: "CPU of the HTTP server a request, over a gateway that does nothing",
  async run({ quick, report, log }) {
    const child = fork(new URL("./http-cost/server.ts", import.meta.url), { stdio: "inherit" });
    const ask = async <T>(message: string): Promise<T> => {
      const reply = new Promise<T>((resolve) => child.once("message", (value) => resolve(value as T)));
      child.send(message);
      return await reply;
    };
    const { port } = await new Promise<{ port: number }>((resolve) => child.once("message", (value) => resolve(value as { port: number })));
    const agent = new Agent({ keepAlive: true, maxSockets: inFlight });
    const send = (method: string, path: string, body?: string): Promise<Answered> =>
      new Promise((resolve, reject) => {
        const headers = body === undefined ? {} : { "content-type": "application/json", "content-length": Buffer.byteLength(body) };
        const one = request({ host: "127.0.0.1", port, method, path, agent, headers }, (reply) => {
          const parts: Buffer[] = [];
          reply.on("data", (part: Buffer) => parts.push(part));
          reply.on("end", () => resolve({ status: reply.statusCode!, text: Buffer.concat(parts).toString() }));
        });
        one.on("error", reject);
        one.end(body);
      });
    try {
      const measure = async (count: number, one: () => Promise<Answered>, right: (answered: Answered) => boolean): Promise<number> => {
        const run = async (times: number): Promise<void> => {
          let left = times;
          const lane = async (): Promise<void> => {
            while (left > 0) {
              left -= 1;
              const answered = await one();
              if (answered.status !== 200 || !right(answered)) throw new Error(`wrong answer: ${answered.status} ${answered.text.slice(0, 200)}`);
            }
          };
          await Promise.all(Array.from({ length: inFlight }, lane));
        };
        await run(Math.ceil(count / 2));
        const samples: number[] = [];
        for (let round = 0; round < 5; round += 1) {
          const before = await ask<NodeJS.CpuUsage>("cpu");
          await run(count);
          const after = await ask<NodeJS.CpuUsage>("cpu");
          samples.push((after.user + after.system - before.user - before.system) / count);
        }
        log(`rounds, us of CPU a request: ${samples.map((sample) => sample.toFixed(0)).join(" ")}`);
        return median(samples);
      };

      const times = quick ? 50 : 2_000;
      const batch = events(100);
      const eventsAnswer = schemaCheck(EventsAnswer).required;
      const batchMicros = await measure(
        times,
        () => send("POST", "/v1/events", batch),
        ({ text }) => eventsAnswer(JSON.parse(text), "answer").accepted === 100,
      );
      report({
        metric: "http_us_per_event",
        value: batchMicros / 100,
        unit: "us",
        better: "lower",
        target: 5,
        detail: `batches of 100, ${batch.length} bytes`,
      });

      const single = events(1);
      const singleMicros = await measure(
        times,
        () => send("POST", "/v1/events", single),
        ({ text }) => eventsAnswer(JSON.parse(text), "answer").accepted === 1,
      );
      report({ metric: "http_us_per_request", value: singleMicros, unit: "us", better: "lower", detail: "one event a request" });

      const body = JSON.stringify({ user: "viewer-1", n: 20 });
      const recommendAnswer = schemaCheck(RecommendAnswer).required;
      const right = ({ text }: Answered): boolean => recommendAnswer(JSON.parse(text), "answer").items.length === 20;
      const recommendMicros = await measure(times, () => send("POST", "/v1/recommend/home", body), right);
      report({ metric: "http_us_per_recommend", value: recommendMicros, unit: "us", better: "lower", detail: "20 items with reasons" });

      const scrape = await send("GET", "/metrics");
      const lines = scrape.text.split("\n").length;
      const scrapeMicros = await measure(
        quick ? 5 : 40,
        () => send("GET", "/metrics"),
        ({ text }) => text.includes("rec_step_rows_bucket"),
      );
      report({
        metric: "http_us_per_scrape",
        value: scrapeMicros,
        unit: "us",
        better: "lower",
        detail: `${lines} lines; ${inFlight} scrapes at a time share renderings`,
      });
    } finally {
      agent.destroy();
      await new Promise((resolve) => {
        child.once("exit", resolve);
        child.send("stop");
      });
    }

    // Why no generated serialiser: both write the same answer here.
    const app = fastify();
    let generated: ((value: object) => string) | undefined;
    app.get("/", { schema: { response: { 200: RecommendAnswer } } }, (_request, reply) => {
      generated = reply.getSerializationFunction("200") as unknown as (value: object) => string;
      void reply.send(answer);
    });
    await app.inject("/");
    const byFastify = generated!;
    deepEqual(JSON.parse(byFastify(answer)), JSON.parse(JSON.stringify(answer)));
    const repeat = quick ? 100 : 2_000;
    let written = 0;
    const samples = await alternatingRounds(5, {
      generated: () => {
        for (let at = 0; at < repeat; at += 1) written += byFastify(answer).length;
      },
      plain: () => {
        for (let at = 0; at < repeat; at += 1) written += JSON.stringify(answer).length;
      },
    });
    const micros = (of: readonly number[]): number => (Math.min(...of) * 1_000) / repeat;
    report({
      metric: "stringify_us_per_recommend",
      value: micros(samples.plain.cpuMs),
      unit: "us",
      better: "lower",
      peer: `generated serialiser: ${micros(samples.generated.cpuMs).toFixed(1)} us`,
      detail: `${written / repeat / 12} characters`,
    });
  },
};
