// Guards the client's promises against the real server over real sockets: what is repeated is counted once, a call ends by its deadline, no queue
// without a bound, and every failure has the server's code.

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer as createHttp } from "node:http";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { test, type TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { MillraceError } from "#base/errors";
import { Client, EventBuffer, type Rejection, RequestError } from "#sdk/index";
import { startTestServer, type TestServer } from "./http-server.ts";

const click = { type: "click", user: "ann", item: "m-1" };

/** Passes bytes on to the server; cuts the first `cuts` connections when the server's answer begins, so that the caller does not know what happened. */
async function cuttingProxy(context: TestContext, server: TestServer, cuts: number): Promise<string> {
  let left = cuts;
  const proxy = createServer((outside: Socket) => {
    const inside = connect(server.http.port, "127.0.0.1");
    outside.pipe(inside);
    inside.on("data", (part) => {
      if (left > 0) {
        left -= 1;
        outside.destroy();
        inside.destroy();
      } else outside.write(part);
    });
    inside.on("error", () => outside.destroy());
    inside.on("close", () => outside.destroy());
    outside.on("error", () => inside.destroy());
    outside.on("close", () => inside.destroy());
  });
  proxy.listen(0, "127.0.0.1");
  await once(proxy, "listening");
  context.after(() => void proxy.close());
  return `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`;
}

test("the client speaks every route", async (context) => {
  const server = await startTestServer(context);
  const client = new Client(server.http.address);
  await client.ready();
  assert.equal(
    (
      await client.items.put([
        { id: "m-1", title: "Noodle night", category: "cooking" },
        { id: "a/b ?#é", title: "Odd id" },
      ])
    ).accepted,
    2,
  );
  assert.equal((await client.items.put({ id: "m-2", title: "Late jazz" })).accepted, 1);
  assert.equal((await client.items.get("a/b ?#é"))?.title, "Odd id");
  assert.equal(await client.items.get("nobody"), undefined);
  assert.equal((await client.items.patch("m-2", { available: false })).accepted, 1);
  const first = await client.items.list({ limit: 2 });
  assert.deepEqual([first.items.map((item) => item.id), first.next], [["m-1", "a/b ?#é"], "a/b ?#é"]);
  assert.deepEqual(
    (await client.items.list({ limit: 2, after: first.next! })).items.map((item) => item.id),
    ["m-2"],
  );
  assert.equal((await client.users.put({ id: "ann", attributes: { language: "en" } })).accepted, 1);
  assert.deepEqual((await client.users.get("ann"))?.attributes, { language: "en" });
  assert.equal(await client.users.delete("ann"), true);
  assert.equal(await client.users.delete("ann"), false);

  const sent = await client.events.send([click, { ...click, user: "bob" }]);
  assert.equal(sent.accepted, 2);
  const answer = await client.recommend({ pipeline: "popular", user: "ann", n: 5, minOffset: sent.offset });
  assert.deepEqual(answer.items.map((item) => item.id).sort(), ["a/b ?#é", "m-1"], "what is not available does not come");
  const joined = await client.events.send({ ...click, recommendationId: answer.recommendationId, position: 0 });
  assert.equal(joined.accepted, 1);
  assert.ok((await client.pipelines()).some((pipeline) => pipeline.name === "home"));
  const status = await client.status();
  assert.deepEqual([status.items, status.eventsAccepted, status.eventsJoined], [3, 3, 1]);
});

test("every failure is a MillraceError with the server's code", async (context) => {
  const server = await startTestServer(context);
  const client = new Client(server.http.address, { retries: 0 });
  const failure = async (call: Promise<unknown>): Promise<RequestError> => {
    const thrown = await call.then(
      () => assert.fail("did not fail"),
      (error: unknown) => error,
    );
    assert.ok(thrown instanceof RequestError && thrown instanceof MillraceError, String(thrown));
    return thrown;
  };
  const unknown = await failure(client.recommend({ pipeline: "nope", user: "ann" }));
  assert.deepEqual([unknown.code, unknown.status, unknown.retryable], ["not-found", 404, false]);
  assert.ok(unknown.message.startsWith("[not-found] ") && !unknown.message.includes("] [") && unknown.message.endsWith(unknown.todo!), unknown.message);
  const rejected = await failure(client.events.send({ ...click, type: "nope" }));
  assert.deepEqual([rejected.code, rejected.rejected.length, rejected.rejected[0]!.index], ["invalid", 1, 0]);
  assert.equal((await failure(client.items.patch("nobody", { title: "x" }))).code, "not-found");
  for (const id of ["", ".", "..", "x".repeat(257), "\ud800"]) await assert.rejects(client.items.get(id), { code: "invalid" });
  assert.throws(() => new Client("ftp://x"), { code: "invalid" });
  assert.throws(() => new Client("nonsense"), { code: "invalid" });
  await server.http.drain(1_000);
  const gone = await failure(client.status());
  assert.deepEqual([gone.code, gone.status, gone.retryable], ["unavailable", 0, true]);
});

test("something that is not millrace is told from it", async (context) => {
  const other = createHttp((request, response) => {
    response.statusCode = request.url === "/v1/status" ? 200 : 502;
    response.end("<html>hello</html>");
  });
  other.listen(0, "127.0.0.1");
  await once(other, "listening");
  context.after(() => void other.close());
  const client = new Client(`http://127.0.0.1:${(other.address() as AddressInfo).port}`, { retries: 0 });
  await assert.rejects(client.status(), { code: "internal", message: /without JSON/ });
  await assert.rejects(client.pipelines(), { code: "unavailable", status: 502, message: /no error of millrace/ });
});

test("promise: an event whose answer was lost is sent again and counted once", async (context) => {
  const server = await startTestServer(context);
  const client = new Client(await cuttingProxy(context, server, 2));
  const answer = await client.events.send([click, click]);
  assert.deepEqual([answer.accepted, answer.duplicates], [0, 2], "the lost first try was the one that counted");
  assert.equal(server.gateway.status().eventsAccepted, 2);
  assert.equal(server.metrics.httpRequests.with("/v1/events", "POST", "200").value, 3);
});

test("an answer that is remembered as shown is not asked for twice when it is lost, a preview is", async (context) => {
  const server = await startTestServer(context);
  await new Client(server.http.address).items.put({ id: "m-1" });
  const client = new Client(await cuttingProxy(context, server, 1));
  await assert.rejects(client.recommend({ pipeline: "home", user: "ann" }), { code: "unavailable" });
  assert.equal(server.gateway.status().recommendations, 1);
  const preview = new Client(await cuttingProxy(context, server, 1));
  assert.equal((await preview.recommend({ pipeline: "home", user: "ann", record: false })).items.length, 1);
  assert.equal(server.gateway.status().recommendations, 3);
});

test("what the server refused without doing it is sent again, after a pause", async (context) => {
  let refusals = 2;
  const server = await startTestServer(context, {}, (gateway) => ({
    ...gateway,
    recommend: (pipeline, body) =>
      (refusals -= 1) >= 0 ? Promise.reject(new MillraceError("overloaded", "busy", { todo: "wait" })) : gateway.recommend(pipeline, body),
  }));
  const client = new Client(server.http.address);
  await client.items.put({ id: "m-1" });
  const began = performance.now();
  assert.equal((await client.recommend({ pipeline: "home", user: "ann" })).items.length, 1);
  assert.ok(performance.now() - began > 1_900, "the server asked for a second each time");
  refusals = 9;
  await assert.rejects(client.recommend({ pipeline: "home", user: "ann" }, { timeoutMs: 800 }), { code: "overloaded" });
  assert.equal(refusals, 8, "a pause that ends after the deadline is not begun");
});

test("promise: a call ends by its deadline, and by the caller's signal", async (context) => {
  const server = await startTestServer(context, {}, (gateway) => ({ ...gateway, recommend: () => new Promise(() => undefined) }));
  const client = new Client(server.http.address, { timeoutMs: 200 });
  const began = performance.now();
  await assert.rejects(client.recommend({ pipeline: "home", user: "ann" }), { code: "timeout", status: 0 });
  assert.ok(performance.now() - began < 2_000);
  const stop = new AbortController();
  const call = client.recommend({ pipeline: "home", user: "ann" }, { timeoutMs: 10_000, signal: stop.signal });
  setTimeout(() => stop.abort(new Error("enough")), 50);
  await assert.rejects(call, /enough/);
  await assert.rejects(client.status({ signal: AbortSignal.abort(new Error("before")) }), /before/);
});

test("calls beyond inFlightMax are refused at once, and come back", async (context) => {
  const server = await startTestServer(context);
  const client = new Client(server.http.address, { inFlightMax: 3 });
  const outcomes = await Promise.allSettled(Array.from({ length: 5 }, () => client.status()));
  assert.deepEqual(
    outcomes.map((outcome) => (outcome.status === "fulfilled" ? "ok" : (outcome.reason as RequestError).code)),
    ["ok", "ok", "ok", "overloaded", "overloaded"],
  );
  assert.ok(await client.status());
});

test("ready waits, and says for what when it gives up", async (context) => {
  let waiting = ["rebuilding: 3 of 7"];
  const server = await startTestServer(context, {}, (gateway) => ({ ...gateway, readiness: () => ({ ready: waiting.length === 0, waiting }) }));
  const client = new Client(server.http.address);
  await assert.rejects(client.ready({ timeoutMs: 3_000 }), { code: "unavailable", message: /3 of 7/ });
  const ready = client.ready();
  await sleep(300);
  waiting = [];
  await ready;
});

test("an event buffer sends in order and in batches, and tells what was refused", async (context) => {
  const batches: number[] = [];
  const server = await startTestServer(context, {}, (gateway) => ({
    ...gateway,
    putEvents(events) {
      batches.push(events.length);
      return gateway.putEvents(events);
    },
  }));
  const refused: [Rejection, string][] = [];
  const buffer = new EventBuffer(new Client(server.http.address).events, {
    batchMax: 10,
    waitMs: 5,
    onRejected: (rejection, event) => refused.push([rejection, event.user]),
  });
  for (let at = 0; at < 95; at += 1) await buffer.add({ ...click, user: `u-${at}`, ...(at === 42 ? { type: "nope" } : {}) });
  await buffer.flush();
  assert.deepEqual(buffer.counts, { acknowledged: 94, rejected: 1, failed: 0, buffered: 0 });
  assert.deepEqual(
    refused.map(([{ code }, user]) => [code, user]),
    [["invalid", "u-42"]],
  );
  assert.ok(batches.every((size) => size <= 10) && batches.length >= 10 && batches.length < 30, batches.join(" "));
  await buffer.add({ ...click, type: "nope" });
  await sleep(300);
  assert.equal(buffer.counts.rejected, 2, "an event leaves by itself after waitMs; a batch that is refused as a whole is told event by event");
  await buffer.close();
  await assert.rejects(buffer.add(click), { code: "conflict" });
});

test("promise: a full event buffer holds the sender back instead of growing, and nothing is lost", async (context) => {
  const server = await startTestServer(context, {}, (gateway) => ({
    ...gateway,
    async putEvents(events) {
      await sleep(20);
      return gateway.putEvents(events);
    },
  }));
  const buffer = new EventBuffer(new Client(server.http.address).events, { batchMax: 10, bufferedMax: 30, waitingMax: 50 });
  let most = 0;
  const adding = Promise.all(
    Array.from({ length: 80 }, async (_, at) => {
      await buffer.add({ ...click, user: `u-${at}` });
      most = Math.max(most, buffer.counts.buffered);
    }),
  );
  await assert.rejects(buffer.add(click), { code: "overloaded" });
  await adding;
  await buffer.close();
  assert.equal(most, 30);
  assert.equal(buffer.counts.acknowledged, 80);
  assert.equal(server.gateway.status().eventsAccepted, 80);
});

test("an event buffer tells when it could not send, and goes on", async (context) => {
  const server = await startTestServer(context);
  const nowhere = new Client("http://127.0.0.1:9", { retries: 0 });
  const thrown = new EventBuffer(nowhere.events);
  await thrown.add(click);
  await assert.rejects(thrown.flush(), { code: "unavailable" });
  await thrown.flush();
  const told: number[] = [];
  const buffer = new EventBuffer(nowhere.events, { onFailure: (error, events) => told.push(error.retryable ? events.length : -1) });
  await buffer.add(click);
  await buffer.close();
  assert.deepEqual([told, buffer.counts.failed], [[1], 1]);
  assert.throws(() => new EventBuffer(new Client(server.http.address).events, { batchMax: 1_001 }), { code: "invalid" });
});
