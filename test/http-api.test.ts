// Guards the API's promises to callers, over real sockets: each route works, whatever goes wrong has the one shape of errors and says what to do, limits
// refuse instead of breaking the server, and a stop loses nothing that was being answered.

import assert from "node:assert/strict";
import { once } from "node:events";
import { connect } from "node:net";
import { test, type TestContext } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { httpStatusOf, MillraceError } from "#base/errors";
import { schemaCheck } from "#gateway/schema-check";
import { createHttpServer } from "#gateway/http-server";
import { GatewayMetrics, type OpenGateway } from "#gateway/index";
import { systemClock } from "#platform/system-clock";
import { systemFiles } from "#platform/system-files";
import { apiLimits, ErrorAnswer, EventsAnswer, ItemsPage, PipelinesAnswer, PutAnswer, RecommendAnswer, StatusAnswer } from "#wire/api";
import { type Answered, startTestServer, type TestServer } from "./http-server.ts";

const errorAnswer = schemaCheck(ErrorAnswer).required;

/** An answer must be an error of that status and code, in the one shape; gives it. */
function refused(answered: Answered, status: number, code: keyof typeof httpStatusOf): ErrorAnswer["error"] {
  assert.equal(answered.status, status, answered.text);
  assert.match(answered.headers.get("content-type") ?? "", /^application\/json/);
  const { error } = errorAnswer(answered.json, "the answer");
  assert.equal(error.code, code);
  assert.ok(error.message.startsWith(`[${code}] `), error.message);
  assert.equal(error.retryable, ["overloaded", "timeout", "unavailable"].includes(code));
  assert.ok((error.todo ?? "").length > 0, `says what to do: ${error.message}`);
  return error;
}

/** Writes bytes to the server and reads until it closes. */
async function raw(server: { readonly http: { readonly port: number } }, text: string | Uint8Array, closeAfterMs = 3_000): Promise<string> {
  const socket = connect(server.http.port, "127.0.0.1");
  let answer = "";
  socket.setEncoding("utf8");
  socket.on("data", (part: string) => (answer += part));
  socket.on("error", () => undefined);
  await once(socket, "connect");
  socket.write(text);
  const closed = once(socket, "close");
  const timer = setTimeout(() => socket.destroy(), closeAfterMs);
  await closed;
  clearTimeout(timer);
  return answer;
}

function rawError(answer: string, status: number): ErrorAnswer["error"] {
  assert.match(answer, new RegExp(`^HTTP/1\\.1 ${status} `));
  return errorAnswer(JSON.parse(answer.slice(answer.indexOf("\r\n\r\n") + 4)), "the answer").error;
}

async function withItems(server: TestServer, count: number): Promise<void> {
  const rows = Array.from({ length: count }, (_, at) => ({ id: `item-${at}`, title: `Item ${at}`, category: at % 2 === 0 ? "even" : "odd" }));
  assert.equal((await server.send("PUT", "/v1/items", rows)).status, 200);
}

test("promise: what is put, sent and asked over HTTP does what the API document says", async (context) => {
  const server = await startTestServer(context);
  const { send } = server;

  const put = schemaCheck(PutAnswer).required(
    (await send("PUT", "/v1/items/room%2F1", { title: "Noodle night", category: "cooking", tags: ["soup"] })).json,
    "answer",
  );
  assert.equal(put.accepted, 1);
  await withItems(server, 30);
  const { createdAt } = (await send("GET", "/v1/items/room%2F1")).json as { createdAt: number };
  assert.ok(Math.abs(createdAt - Date.now()) < 60_000, "an item without a time of creation is as old as its first appearance");
  assert.deepEqual((await send("GET", "/v1/items/room%2F1")).json, { id: "room/1", createdAt, title: "Noodle night", category: "cooking", tags: ["soup"] });
  assert.equal((await send("PATCH", "/v1/items/room%2F1", { title: "Ramen night" })).status, 200);
  assert.deepEqual((await send("GET", "/v1/items/room%2F1")).json, { id: "room/1", createdAt, title: "Ramen night", category: "cooking", tags: ["soup"] });

  const seen: string[] = [];
  for (let after = ""; ;) {
    const page = schemaCheck(ItemsPage).required((await send("GET", `/v1/items?limit=7${after}`)).json, "answer");
    seen.push(...page.items.map((item) => item.id));
    if (page.next === undefined) break;
    after = `&after=${encodeURIComponent(page.next)}`;
  }
  assert.deepEqual(seen, ["room/1", ...Array.from({ length: 30 }, (_, at) => `item-${at}`)]);

  assert.equal((await send("PUT", "/v1/users/ann", { attributes: { language: "en" } })).status, 200);
  assert.equal((await send("PATCH", "/v1/users/ann", { attributes: { age: 30 } })).status, 200);
  assert.equal((await send("GET", "/v1/users/ann")).status, 200);
  assert.deepEqual((await send("DELETE", "/v1/users/ann")).json, { deleted: true });
  refused(await send("DELETE", "/v1/users/ann"), 404, "not-found");
  refused(await send("GET", "/v1/users/ann"), 404, "not-found");

  const event = { type: "click", user: "bob", item: "item-3" };
  const eventsAnswer = schemaCheck(EventsAnswer).required;
  for (const body of [event, [event], { events: [event] }]) {
    assert.equal(eventsAnswer((await send("POST", "/v1/events", body)).json, "answer").accepted, 1);
  }
  const lines = `${JSON.stringify(event)}\n\n${JSON.stringify(event)}\n`;
  assert.equal(eventsAnswer((await send("POST", "/v1/events", lines, { "content-type": "application/x-ndjson" })).json, "answer").accepted, 2);
  const twice = { ...event, id: "e-1" };
  assert.deepEqual(
    (({ accepted, duplicates }) => ({ accepted, duplicates }))(eventsAnswer((await send("POST", "/v1/events", [twice, twice])).json, "answer")),
    {
      accepted: 1,
      duplicates: 1,
    },
  );
  // A repeated request is a success too: nothing was accepted, but nothing was rejected either.
  assert.equal(eventsAnswer((await send("POST", "/v1/events", twice)).json, "answer").duplicates, 1);

  const answer = schemaCheck(RecommendAnswer).required(
    (await send("POST", "/v1/recommend/home", { user: "bob", n: 5, filter: { category: "odd" }, explain: true })).json,
    "answer",
  );
  assert.equal(answer.items.length, 5);
  assert.ok(answer.items.every((item) => item.category === "odd" && item.reasons.length > 0));
  assert.ok(answer.trace !== undefined && answer.trace.length > 0);

  const { pipelines } = schemaCheck(PipelinesAnswer).required((await send("GET", "/v1/pipelines")).json, "answer");
  assert.ok(pipelines.some((pipeline) => pipeline.name === "home" && pipeline.nodes.length > 0));
  assert.match((await send("GET", "/v1/pipelines/home?format=mermaid")).text, /^(graph|flowchart) /);
  refused(await send("GET", "/v1/pipelines/nope"), 404, "not-found");
  refused(await send("GET", "/v1/pipelines/home?format=xml"), 400, "invalid");
  refused(await send("POST", "/v1/recommend/nope", { user: "bob" }), 404, "not-found");

  const status = schemaCheck(StatusAnswer).required((await send("GET", "/v1/status")).json, "answer");
  assert.equal(status.items, 31);
  assert.equal(status.eventsAccepted, 6);
  assert.equal(status.recommendations, 1);
  assert.ok(status.work.some((work) => work.pipeline === "home" && work.requests.count === 1 && work.steps.length > 0));
  assert.ok(status.http.requests > 20 && status.http.refused >= 5);
  assert.deepEqual((await send("GET", "/health/live")).json, { live: true });
  assert.deepEqual((await send("GET", "/health/ready")).json, { ready: true, waiting: [] });
  assert.deepEqual((await send("DELETE", "/v1/items/item-3")).json, { deleted: true });
  assert.equal((await send("HEAD", "/v1/items/item-4")).text, "");
});

test("partly rejected events are a success with reasons, all rejected an error with reasons", async (context) => {
  const { send } = await startTestServer(context);
  const good = { type: "click", user: "a", item: "b" };
  const some = await send("POST", "/v1/events", [good, { ...good, typ: "x" }, 7, { ...good, type: "nope" }]);
  assert.equal(some.status, 200);
  assert.deepEqual(
    (some.json as EventsAnswer).rejected.map(({ index, code }) => [index, code]),
    [
      [1, "invalid"],
      [2, "invalid"],
      [3, "invalid"],
    ],
  );
  const all = refused(await send("POST", "/v1/events", [{ ...good, type: "nope" }, 7]), 400, "invalid");
  assert.equal(all.rejected?.length, 2);
  assert.match(all.message, /all 2 events were rejected, the first because: /);
  assert.equal(refused(await send("POST", "/v1/events", { user: "a" }), 400, "invalid").rejected?.length, 1);
  assert.equal(refused(await send("PUT", "/v1/items", [{ id: "x", titel: "y" }]), 400, "invalid").rejected?.length, 1);
  refused(await send("PUT", "/v1/items/x", { titel: "y" }), 400, "invalid");
  refused(await send("PATCH", "/v1/items/missing", { title: "y" }), 404, "not-found");
});

test("promise: every mistake of a caller gets the one shape of errors, with what to do", async (context) => {
  const server = await startTestServer(context);
  const { send } = server;
  await withItems(server, 3);
  const cases: [string, string, unknown, Record<string, string> | undefined, number, keyof typeof httpStatusOf, RegExp][] = [
    ["GET", "/nope", undefined, undefined, 404, "not-found", /no such route/],
    ["POST", "/nope", "{", undefined, 404, "not-found", /no such route/],
    ["GET", "/v1/items/", undefined, undefined, 400, "invalid", /id in the path is empty/],
    ["DELETE", "/v1/events", undefined, undefined, 405, "unsupported", /use POST/],
    ["OPTIONS", "/v1/items/x", undefined, undefined, 405, "unsupported", /use PUT, PATCH, GET, HEAD, DELETE/],
    ["POST", "/v1/events", "{}", { "content-type": "text/plain" }, 415, "unsupported", /application\/json/],
    ["POST", "/v1/events", "{}", { "content-type": "application/xml; charset=x" }, 415, "unsupported", /application\/json/],
    ["PUT", "/v1/items", "{}", { "content-type": "application/x-ndjson" }, 415, "unsupported", /application\/json/],
    ["POST", "/v1/events", "{}", { "content-encoding": "gzip" }, 415, "unsupported", /compressed/],
    ["POST", "/v1/events", '{"type": "click",\n "user": oops}', undefined, 400, "invalid", /no value at line 2, column 10/],
    ["POST", "/v1/events", "{}\n{oops}\n", { "content-type": "application/x-ndjson" }, 400, "invalid", /line 2, column 2/],
    ["POST", "/v1/events", "", undefined, 400, "invalid", /empty/],
    ["POST", "/v1/events", [], undefined, 400, "invalid", /list of events is empty/],
    ["POST", "/v1/events", "null", undefined, 400, "invalid", /no list of events/],
    ["POST", "/v1/events", { events: [], more: 1 }, undefined, 400, "invalid", /fields beside "events"/],
    [
      "POST",
      "/v1/events",
      Array.from({ length: apiLimits.eventsPerRequestMax + 1 }, () => 1),
      undefined,
      400,
      "invalid",
      /1001 events in one request, 1000 are the most/,
    ],
    ["POST", "/v1/events", '{"context": {"__proto__": 1}}', undefined, 400, "invalid", /__proto__/],
    ["POST", "/v1/events", '{"context": {"__pr\\u006fto__": 1}}', undefined, 400, "invalid", /__proto__/],
    ["POST", "/v1/events", '{"user": "\\ud800"}', undefined, 400, "invalid", /surrogate/],
    ["POST", "/v1/events", Uint8Array.of(0x22, 0xff, 0x22), undefined, 400, "invalid", /UTF-8/],
    ["POST", "/v1/events", `${"[".repeat(100_000)}${"]".repeat(100_000)}`, undefined, 400, "invalid", /nested deeper than 32/],
    ["POST", "/v1/events?x=1", {}, undefined, 400, "invalid", /query parameters/],
    ["GET", "/v1/items?limit=0", undefined, undefined, 400, "invalid", /limit is no integer from 1 to 1000/],
    ["GET", "/v1/items?limit=1e2", undefined, undefined, 400, "invalid", /limit is no integer/],
    ["GET", "/v1/items?limit=1&limit=2", undefined, undefined, 400, "invalid", /more than once/],
    ["GET", "/v1/items?limt=1", undefined, undefined, 400, "invalid", /send only after, limit/],
    ["GET", "/v1/items/%ff", undefined, undefined, 400, "invalid", /percent-encoded/],
    ["GET", "/v1/items/%2", undefined, undefined, 400, "invalid", /percent-encoded/],
    ["GET", `/v1/items/${"x".repeat(257)}`, undefined, undefined, 400, "invalid", /longer than 256/],
    ["GET", `/v1/items/${"x".repeat(5_000)}`, undefined, undefined, 400, "invalid", /longer than 256/],
    ["PUT", "/v1/items/a", { id: "b" }, undefined, 400, "invalid", /not the id of the path/],
    ["PUT", "/v1/items/a", [], undefined, 400, "invalid", /no object/],
    ["POST", "/v1/recommend/home", {}, undefined, 400, "invalid", /lacks "user"/],
    ["POST", "/v1/recommend/home", { user: "a", n: 201 }, undefined, 400, "invalid", /field n must be <= 200/],
    ["POST", "/v1/recommend/home", { user: "a", nn: 1 }, undefined, 400, "invalid", /has no field "nn"/],
    ["POST", "/v1/recommend/home", { user: "a", filter: { category: { like: "x" } } }, undefined, 400, "invalid", /filter/],
    [
      "POST",
      "/v1/recommend/home",
      { user: "a", filter: { not: { not: { not: { not: { not: { not: { not: { not: { not: {} } } } } } } } } } },
      undefined,
      400,
      "invalid",
      /deeper than 8/,
    ],
  ];
  for (const [method, path, body, headers, status, code, message] of cases) {
    const error = refused(await send(method, path, body, headers), status, code);
    assert.match(error.message, message, `${method} ${path.slice(0, 60)}`);
  }
  assert.deepEqual(server.logged, [], "a caller's mistake is nothing for the log");
  assert.equal((await send("DELETE", "/v1/events")).headers.get("allow"), "POST");
  const long = `/v1/items/${encodeURIComponent("é".repeat(apiLimits.idCharactersMax))}`;
  assert.equal((await send("PUT", long, { title: "the longest id" })).status, 200);
  assert.equal((await send("GET", long)).status, 200);
});

test("the errors of every code and status agree with the table", async (context) => {
  const server = await startTestServer(context, {}, (gateway) => ({ ...gateway, recommend: () => Promise.reject(new Error("a secret of the stack")) }));
  const error = refused(await server.send("POST", "/v1/recommend/home", { user: "a" }), httpStatusOf.internal, "internal");
  assert.ok(!JSON.stringify(error).includes("secret"));
  assert.match(error.requestId ?? "", /^req-/);
  assert.equal(server.logged.length, 1);
});

test("broken bytes get the one shape of errors too", async (context) => {
  const server = await startTestServer(context, { limits: { headerBytesMax: 4_096 } });
  const host = "Host: 127.0.0.1\r\n";
  assert.equal(rawError(await raw(server, "NONSENSE\r\n\r\n"), 400).code, "invalid");
  assert.equal(rawError(await raw(server, `GET / HTTP/1.1\r\n${host}X: ${"x".repeat(10_000)}\r\n\r\n`), 431).code, "invalid");
  assert.equal(rawError(await raw(server, `POST /v1/events HTTP/1.1\r\n${host}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n`), 400).code, "invalid");
  assert.equal(rawError(await raw(server, `GET /v1/status HTTP/1.1\r\n${host}Expect: magic\r\nConnection: close\r\n\r\n`), 417).code, "unsupported");
  assert.equal(rawError(await raw(server, `GET http://elsewhere/v1/status HTTP/1.1\r\n${host}Connection: close\r\n\r\n`), 404).code, "not-found");
  assert.equal(rawError(await raw(server, `OPTIONS * HTTP/1.1\r\n${host}Connection: close\r\n\r\n`), 404).code, "not-found");
});

test("promise: only loopback names may call, and only loopback addresses are bound", async (context) => {
  const server = await startTestServer(context);
  const ask = (head: string): Promise<string> => raw(server, `GET /health/live HTTP/1.1\r\n${head}Connection: close\r\n\r\n`);
  for (const name of ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.1", "[::2]", ""]) {
    assert.match(rawError(await ask(`Host: ${name}\r\n`), 400).message, /Host header/, name);
  }
  assert.match(rawError(await ask(""), 400).message, /Host header/);
  for (const name of ["localhost", "LOCALHOST:1", "demo.localhost:8080", "127.0.0.1:8080", "127.1.2.3", "[::1]", "[::1]:8080"]) {
    assert.match(await ask(`Host: ${name}\r\n`), /^HTTP\/1\.1 200 /, name);
  }
  for (const host of ["0.0.0.0", "::", "10.0.0.1", "example.com", ""]) {
    assert.throws(() => createHttpServer({ gateway: server.gateway, metrics: server.metrics, clock: systemClock, files: systemFiles, host }), {
      code: "unsupported",
    });
  }
});

test("a taken port is a conflict that names the port and the option", async (context) => {
  const server = await startTestServer(context);
  const second = createHttpServer({ gateway: server.gateway, metrics: new GatewayMetrics(), clock: systemClock, files: systemFiles, port: server.http.port });
  await assert.rejects(second.listen(), { code: "conflict", message: new RegExp(`port ${server.http.port} .*--port`) });
});

test("too large a body is refused, with and without a declared length", async (context) => {
  const server = await startTestServer(context, { limits: { bodyBytesMax: 10_000 } });
  refused(await server.send("POST", "/v1/events", `"${"x".repeat(20_000)}"`), 413, "invalid");
  const head = "POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
  assert.equal(rawError(await raw(server, `${head}Transfer-Encoding: chunked\r\n\r\n4e20\r\n${"x".repeat(20_000)}\r\n0\r\n\r\n`), 413).code, "invalid");
  assert.equal(rawError(await raw(server, `${head}Content-Length: 999999999999\r\n\r\n`), 413).code, "invalid");
});

/** A gateway whose recommendations wait until `release` is called. */
function heldBack(): { wrap: (gateway: OpenGateway) => OpenGateway; release: () => void; waiting: () => number } {
  const held: (() => void)[] = [];
  return {
    wrap: (gateway) => ({
      ...gateway,
      async recommend(pipeline, body) {
        await new Promise<void>((resolve) => held.push(resolve));
        return gateway.recommend(pipeline, body);
      },
    }),
    release: () => held.splice(0).forEach((resume) => resume()),
    waiting: () => held.length,
  };
}

async function until(claim: () => boolean): Promise<void> {
  for (let at = 0; at < 500; at += 1) {
    if (claim()) return;
    await sleep(10);
  }
  throw new Error("did not happen within 5 s");
}

test("more requests at a time than the limit are overloaded, and slots come back, also from callers that hang up", async (context) => {
  const held = heldBack();
  const server = await startTestServer(context, { limits: { requestsMax: 4 } }, held.wrap);
  await withItems(server, 3);
  const recommend = (signal?: AbortSignal): Promise<Response> =>
    fetch(`${server.http.address}/v1/recommend/home`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: '{"user":"a"}',
      ...(signal === undefined ? {} : { signal }),
    });
  const gone = new AbortController();
  const abandoned = Array.from({ length: 4 }, () => recommend(gone.signal).catch(() => undefined));
  await until(() => held.waiting() === 4);
  const over = await server.send("POST", "/v1/events", { type: "click", user: "a", item: "b" });
  refused(over, 429, "overloaded");
  assert.equal(over.headers.get("retry-after"), "1");
  assert.equal((await server.send("GET", "/health/live")).status, 200, "health is answered also then");
  gone.abort();
  await Promise.all(abandoned);
  await until(() => server.metrics.httpRequests.with("/v1/recommend/:pipeline", "POST", "aborted").value === 4);
  assert.equal((await server.send("POST", "/v1/events", { type: "click", user: "a", item: "b" })).status, 200);
  held.release();
});

test("a request that is not answered in time gets a timeout, and a late answer does no harm", async (context) => {
  const held = heldBack();
  const server = await startTestServer(context, { limits: { answerMsMax: 100 } }, held.wrap);
  await withItems(server, 1);
  refused(await server.send("POST", "/v1/recommend/home", { user: "a" }), 504, "timeout");
  held.release();
  await sleep(50);
  assert.equal((await server.send("GET", "/health/live")).status, 200);
  assert.deepEqual(server.logged, []);
});

test("a client that sends too slowly is cut off", async (context) => {
  const server = await startTestServer(context, { limits: { receiveMsMax: 300 } });
  const slow = await raw(server, "POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 10\r\n\r\n{", 6_000);
  assert.equal(rawError(slow, 408).code, "timeout");
});

test("promise: a stop answers what is running, refuses what is new, and ends in time", async (context) => {
  const held = heldBack();
  const server = await startTestServer(context, {}, held.wrap);
  await withItems(server, 3);
  // A connection that stays open and idle must not hold up the stop.
  const running = server.send("POST", "/v1/recommend/home", { user: "a" });
  await until(() => held.waiting() === 1);
  const second = connect(server.http.port, "127.0.0.1");
  await once(second, "connect");
  let late = "";
  second.on("data", (part) => (late += String(part)));
  second.write("GET /health/ready HTTP/1.1\r\nHost: localhost\r\n");
  await sleep(20);
  const began = performance.now();
  const drained = server.http.drain(5_000);
  await sleep(20);
  second.write("\r\n");
  await once(second, "close");
  assert.match(late, /^HTTP\/1\.1 503 /);
  assert.match(late, /the server is stopping/);
  await assert.rejects(fetch(`${server.http.address}/health/live`), "no new connections");
  held.release();
  assert.equal((await running).status, 200);
  assert.deepEqual(await drained, { cutOff: 0 });
  assert.ok(performance.now() - began < 4_000, "did not wait for its deadline");
});

test("a stop cuts off what does not end in time", async (context) => {
  const held = heldBack();
  const server = await startTestServer(context, {}, held.wrap);
  const running = server.send("POST", "/v1/recommend/home", { user: "a" }).catch(() => "cut off");
  await until(() => held.waiting() === 1);
  assert.deepEqual(await server.http.drain(100), { cutOff: 1 });
  assert.equal(await running, "cut off");
  held.release();
});

test("not ready is said with what it waits for", async (context) => {
  const server = await startTestServer(context, {}, (gateway) => ({ ...gateway, readiness: () => ({ ready: false, waiting: ["rebuilding: 3 of 7"] }) }));
  const answered = await server.send("GET", "/health/ready");
  const error = refused(answered, 503, "unavailable");
  assert.match(error.message, /rebuilding: 3 of 7/);
  assert.deepEqual((answered.json as { waiting: string[] }).waiting, ["rebuilding: 3 of 7"]);
});

test("the OpenAPI document names every route and the shared error", async (context) => {
  const { send } = await startTestServer(context);
  const document = (await send("GET", "/openapi.json")).json as {
    openapi: string;
    paths: Record<string, Record<string, unknown>>;
    components: { schemas: object };
  };
  assert.equal(document.openapi, "3.1.0");
  const routes = Object.entries(document.paths).flatMap(([path, methods]) => Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`));
  for (const route of [
    "POST /v1/events",
    "PUT /v1/items",
    "PATCH /v1/users/{id}",
    "POST /v1/recommend/{pipeline}",
    "GET /v1/pipelines/{pipeline}",
    "GET /health/ready",
    "GET /metrics",
  ]) {
    assert.ok(routes.includes(route), `${route} in ${routes.join(", ")}`);
  }
  assert.ok("Error" in document.components.schemas);
  // Every reference leads somewhere.
  for (const [, name] of JSON.stringify(document).matchAll(/"#\/components\/schemas\/([^"]+)"/g)) assert.ok(name! in document.components.schemas, name);
});

test("metrics are text that Prometheus reads, with the names that are documented", async (context: TestContext) => {
  const server = await startTestServer(context);
  await withItems(server, 5);
  await server.send("POST", "/v1/events", [{ type: "click", user: "a", item: "item-1" }, { type: "nope" }]);
  await server.send("POST", "/v1/recommend/home", { user: "a" });
  const { text, headers } = await server.send("GET", "/metrics");
  assert.match(headers.get("content-type") ?? "", /^text\/plain; version=0\.0\.4/);
  const value = (name: string, ...labels: string[]): number => {
    const line = text.split("\n").find((one) => one.startsWith(name) && labels.every((label) => one.includes(label)) && /[ {]/.test(one[name.length]!));
    assert.ok(line !== undefined, `${name} ${labels.join(" ")}`);
    return Number(line.slice(line.lastIndexOf(" ") + 1));
  };
  assert.equal(value("rec_events_total", 'type="click"', 'result="accepted"'), 1);
  assert.equal(value("rec_events_total", 'type="other"', 'result="rejected"'), 1);
  assert.equal(value("rec_request_seconds_count", 'pipeline="home"'), 1);
  assert.equal(value("rec_request_seconds_bucket", 'pipeline="home"', 'le="+Inf"'), 1);
  assert.ok(value("rec_step_seconds_count", 'pipeline="home"') > 0);
  assert.equal(value("rec_items"), 5);
  assert.ok(value("rec_memory_bytes", "owner=") > 0);
  assert.ok(value("rec_log_offset") >= 6);
  assert.ok(value("rec_loop_stall_seconds_count") > 0);
  assert.equal(value("rec_build_info", 'version="0.0.0-test"'), 1);
  assert.equal(value("rec_http_requests_total", 'route="/v1/events"', 'status="200"'), 1);
  assert.ok(value("process_cpu_seconds_total") > 0);
  // The format: each line is a comment, a sample, or empty; one head a name, before its samples; buckets never fall.
  const heads = new Set<string>();
  let bucket: { series: string; value: number } | undefined;
  for (const line of text.split("\n")) {
    if (line === "" || line.startsWith("# HELP ")) continue;
    const type = /^# TYPE (\S+) (counter|gauge|histogram|summary)$/.exec(line);
    if (type !== null) {
      assert.ok(!heads.has(type[1]!), `one head: ${type[1]}`);
      heads.add(type[1]!);
      continue;
    }
    const sample = /^([a-z_:][a-z0-9_:]*)(\{[^}]*\})? (-?[0-9.e+-]+|NaN|\+Inf)$/i.exec(line);
    assert.ok(sample !== null, line);
    assert.ok(heads.has(sample[1]!) || heads.has(sample[1]!.replace(/_(bucket|sum|count)$/, "")), line);
    if (!sample[1]!.endsWith("_bucket")) continue;
    const series = `${sample[1]}${sample[2]!.replace(/,?le="[^"]*"/, "")}`;
    if (bucket?.series === series) assert.ok(Number(sample[3]) >= bucket.value, line);
    bucket = { series, value: Number(sample[3]) };
  }
  const { text: documented } = { text: await (await import("node:fs/promises")).readFile(new URL("../docs/metrics.md", import.meta.url), "utf8") };
  for (const name of heads) if (name.startsWith("rec_")) assert.ok(documented.includes(`\`${name}`), `docs/metrics.md lacks ${name}`);
});

test("promise: a feature store that can write no more makes the server not ready, with the reason and what to do; reads go on", async (t) => {
  const disk: { failed?: MillraceError } = {};
  const server = await startTestServer(t, { writesFailed: () => disk.failed });
  assert.equal((await server.send("GET", "/health/ready")).status, 200);
  disk.failed = new MillraceError("unavailable", "partition store takes no more records, disk is full", { todo: "free the disk, then start the server again" });
  const { status, json } = await server.send("GET", "/health/ready");
  assert.equal(status, 503);
  const { waiting, error } = json as { waiting: string[]; error: { todo: string } };
  assert.deepEqual(waiting, ["writes are refused, partition store takes no more records, disk is full"]);
  assert.equal(error.todo, "free the disk, then start the server again");
  assert.equal((await server.send("GET", "/v1/status")).status, 200);
});
