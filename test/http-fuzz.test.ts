// Guards: whatever bytes arrive, the answer is a documented one in time: never a 500, never a hang, and the server works afterwards.
// The model of a right answer: status 200, or an error of 400 to 499 in the one shape, or 504 for an offset that does not come. Seeds are printed; SEED=n replays one.

import assert from "node:assert/strict";
import { once } from "node:events";
import { connect } from "node:net";
import { test } from "node:test";
import fc from "fast-check";
import { schemaCheck } from "#gateway/schema-check";
import { freshSeed } from "#platform/fresh-seed";
import { ErrorAnswer } from "#wire/api";
import { startTestServer } from "./http-server.ts";

const long = process.env["MILLRACE_LONG"] !== undefined;
const runs = long ? 20_000 : 400;
const seed = freshSeed();
const errorAnswer = schemaCheck(ErrorAnswer).required;

const oddStrings = fc.constantFrom(
  "",
  "__proto__",
  "constructor",
  "toString",
  "\0",
  "\n",
  "\ud800",
  "é",
  "😀",
  "x".repeat(300),
  "../..",
  "%",
  "a/b",
  "null",
  "hasOwnProperty",
);
const oddNumbers = fc.constantFrom(0, -0, -1, 1.5, 1e308, -1e308, 2 ** 53, 8.64e15, 8.65e15, 4_294_967_296, 1e-320);
const scalar = fc.oneof(oddStrings, fc.string({ maxLength: 20 }), oddNumbers, fc.double(), fc.boolean(), fc.constant(null));
const anything = fc.letrec((tie) => ({
  value: fc.oneof(
    { depthSize: "small", withCrossShrink: true },
    scalar,
    fc.array(tie("value"), { maxLength: 4 }),
    fc.dictionary(fc.oneof(oddStrings, fc.string({ maxLength: 8 })), tie("value"), { maxKeys: 5 }),
  ),
})).value;
/** Fields with names that exist, sometimes with values that fit. */
const shaped = (fields: Record<string, fc.Arbitrary<unknown>>, always: readonly string[] = []): fc.Arbitrary<unknown> => {
  const either = Object.entries(fields).map(([name, right]) => [name, fc.oneof({ weight: 24, arbitrary: right }, { weight: 1, arbitrary: anything })]);
  const record = Object.fromEntries(either) as Record<string, fc.Arbitrary<unknown>>;
  return fc.oneof(
    { weight: 5, arbitrary: fc.record(record, { requiredKeys: [...always] }) },
    { weight: 1, arbitrary: fc.record(record, { requiredKeys: [] }) },
  );
};
const word = fc.string({ minLength: 1, maxLength: 12 });
const attributes = fc.dictionary(word, fc.oneof(word, fc.integer(), fc.boolean(), fc.array(word, { maxLength: 3 })), { maxKeys: 4 });
const id = fc.oneof({ weight: 16, arbitrary: fc.constantFrom("a", "b", "item-1", "item-2", "ann") }, { weight: 1, arbitrary: oddStrings });
const event = shaped(
  {
    id: word,
    type: fc.constantFrom("click", "like", "purchase", "impression", "click", "nope"),
    user: id,
    item: id,
    ts: fc.integer({ min: 0, max: 1_700_000_000_000 }),
    recommendationId: word,
    position: fc.nat(1_000),
    value: fc.integer(),
    context: fc.dictionary(word, fc.oneof(word, fc.integer()), { maxKeys: 3 }),
  },
  ["type", "user", "item"],
);
const item = shaped({
  title: word,
  category: word,
  tags: fc.array(word, { maxLength: 3 }),
  createdAt: fc.nat(),
  available: fc.boolean(),
  state: word,
  attributes,
});
const user = shaped({ attributes });
const row = fc.tuple(id, item).map(([key, fields]) => ({ ...(fields as object), id: key }));
const predicate = fc.letrec((tie) => ({
  node: fc.oneof(
    { depthSize: "medium", withCrossShrink: true },
    fc.dictionary(
      fc.constantFrom("category", "tags", "id", "createdAt", "viewers", "constructor"),
      fc.oneof(scalar, fc.dictionary(fc.constantFrom("eq", "ne", "in", "nin", "gt", "lte", "exists", "odd"), anything)),
    ),
    fc.record({ and: fc.array(tie("node"), { maxLength: 3 }) }),
    fc.record({ or: fc.array(tie("node"), { maxLength: 3 }) }),
    fc.record({ not: tie("node") }),
  ),
})).node;
const recommend = shaped(
  {
    user: id,
    n: fc.integer({ min: 1, max: 200 }),
    filter: fc.oneof(fc.constantFrom({}, { category: "a" }, { viewers: { gte: 1 } }, { or: [{ id: "a" }, { not: { tags: ["a", "b"] } }] }), predicate),
    exclude: fc.array(id, { maxLength: 5 }),
    explain: fc.boolean(),
    record: fc.boolean(),
    deadlineMs: fc.integer({ min: 1, max: 50 }),
    minOffset: fc.constantFrom(0, 1, 2),
  },
  ["user"],
);
/** JSON as it is, or damaged: cut, doubled, with a byte changed. */
const damaged = (value: fc.Arbitrary<unknown>): fc.Arbitrary<string> =>
  fc
    .tuple(value, fc.nat(200), fc.constantFrom("as it is", "as it is", "as it is", "as it is", "as it is", "as it is", "cut", "twice", "changed"))
    .map(([body, at, damage]) => {
      const text = JSON.stringify(body) ?? "";
      if (damage === "cut") return text.slice(0, at);
      if (damage === "twice") return text + text;
      if (damage === "changed") return `${text.slice(0, at)}\u0007${text.slice(at + 1)}`;
      return text;
    });
const path = (prefix: string): fc.Arbitrary<string> =>
  fc.oneof(
    id.map((text) => `${prefix}/${encodeURIComponent(text.toWellFormed())}`),
    fc.string({ maxLength: 30 }).map((text) => `${prefix}/${text.replace(/[^!-~]/g, "%")}`),
  );

interface Shot {
  readonly method: string;
  readonly path: string;
  readonly body?: string;
  readonly type?: string;
}

const shot = (method: string, at: fc.Arbitrary<string>, body: fc.Arbitrary<string>): fc.Arbitrary<Shot> =>
  fc.record({ method: fc.constant(method), path: at, body });
const shots: fc.Arbitrary<Shot> = fc.oneof(
  {
    weight: 4,
    arbitrary: shot(
      "POST",
      fc.constant("/v1/events"),
      damaged(fc.oneof(event, fc.array(event, { maxLength: 5 }), fc.record({ events: fc.oneof(fc.array(event), anything) }), anything)),
    ),
  },
  {
    weight: 1,
    arbitrary: shot(
      "POST",
      fc.constant("/v1/events"),
      fc.array(damaged(event), { maxLength: 5 }).map((lines) => lines.join("\n")),
    ).map((one) => ({ ...one, type: "application/x-ndjson" })),
  },
  {
    weight: 2,
    arbitrary: shot(
      "PUT",
      fc.constantFrom("/v1/items", "/v1/users"),
      damaged(fc.oneof(fc.array(row, { maxLength: 5 }), fc.array(row, { maxLength: 5 }), anything)),
    ),
  },
  { weight: 2, arbitrary: shot("PUT", path("/v1/items"), damaged(item)) },
  { weight: 1, arbitrary: shot("PUT", path("/v1/users"), damaged(user)) },
  { weight: 1, arbitrary: shot("PATCH", path("/v1/items"), damaged(item)) },
  { weight: 1, arbitrary: shot("PATCH", path("/v1/users"), damaged(user)) },
  {
    weight: 4,
    arbitrary: shot(
      "POST",
      fc.oneof(fc.constantFrom("/v1/recommend/home", "/v1/recommend/shop", "/v1/recommend/popular"), path("/v1/recommend")),
      damaged(recommend),
    ),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      method: fc.constantFrom("GET", "DELETE", "HEAD", "OPTIONS"),
      path: fc.oneof(path("/v1/items"), path("/v1/users"), path("/v1/pipelines"), path("/v1"), path("")),
    }),
  },
  {
    weight: 1,
    arbitrary: fc
      .tuple(fc.constantFrom("after", "limit", "x", "__proto__"), oddStrings)
      .map(([name, text]) => ({ method: "GET", path: `/v1/items?${name}=${encodeURIComponent(text.toWellFormed())}` })),
  },
);

test("promise: no request, however odd, gets a 500 or no answer", async (context) => {
  context.diagnostic(`SEED=${seed}, ${runs} requests${long ? "" : " (MILLRACE_LONG=1: 20,000)"}`);
  const server = await startTestServer(context);
  let good = 0;
  await fc.assert(
    fc.asyncProperty(shots, async ({ method, path: at, body, type }) => {
      const response = await fetch(server.http.address + at, {
        method,
        signal: AbortSignal.timeout(5_000),
        ...(body === undefined ? {} : { body, headers: { "content-type": type ?? "application/json" } }),
      });
      const text = await response.text();
      if (response.status === 200) good += 1;
      else {
        // An offset that the log has not reached is waited for until the deadline.
        const waited = response.status === 504 && body?.includes("minOffset") === true;
        assert.ok(waited || (response.status >= 400 && response.status < 500), `${response.status} ${text}`);
        if (method !== "HEAD") errorAnswer(JSON.parse(text), "the answer");
      }
      assert.deepEqual(server.logged, []);
    }),
    { seed, numRuns: runs, endOnFailure: false },
  );
  context.diagnostic(`${good} of them were good`);
  assert.ok(good > runs / 8, `only ${good} of ${runs} were good requests: the fuzzer shoots beside the target`);
  assert.equal((await server.send("POST", "/v1/events", { type: "click", user: "ann", item: "m-1" })).status, 200);
});

test("raw bytes that are hardly HTTP are answered or cut, and the server works on", async (context) => {
  const rawRuns = long ? 2_000 : 100;
  context.diagnostic(`SEED=${seed}, ${rawRuns} connections${long ? "" : " (MILLRACE_LONG=1: 2,000)"}`);
  const server = await startTestServer(context, { limits: { receiveMsMax: 1_000 } });
  const line = fc.constantFrom(
    "POST /v1/events HTTP/1.1",
    "GET / HTTP/1.1",
    "GET /v1/items HTTP/1.0",
    "PUT /v1/items/x HTTP/1.1",
    "PRI * HTTP/2.0",
    "GET /\u0000 HTTP/1.1",
    "",
  );
  const header = fc.constantFrom(
    "Host: localhost",
    "Host: localhost",
    "Content-Length: 3",
    "Content-Length: -1",
    "Content-Length: 99999999999999999999",
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: gzip, chunked",
    "Content-Type: application/json",
    "Content-Type: ;;;",
    "Connection: close",
    "Connection: upgrade",
    "Upgrade: websocket",
    "Expect: 100-continue",
    "X: \u0001",
    ": x",
    "Content-Encoding: br",
  );
  const bytes = fc
    .tuple(line, fc.array(header, { maxLength: 6 }), fc.constantFrom("", "{}", "[1]", "2\r\n{}\r\n0\r\n\r\n", "zz\r\n"))
    .map(([first, headers, body]) => `${[first, ...headers].join("\r\n")}\r\n\r\n${body}`);
  await fc.assert(
    fc.asyncProperty(bytes, async (text) => {
      const socket = connect(server.http.port, "127.0.0.1");
      socket.on("error", () => undefined);
      let answer = "";
      socket.on("data", (part) => (answer += String(part)));
      await once(socket, "connect");
      const closed = once(socket, "close");
      socket.end(text);
      const timer = setTimeout(() => socket.destroy(new Error("hangs")), 8_000);
      await closed;
      clearTimeout(timer);
      assert.ok(socket.errored?.message !== "hangs", "neither answered nor cut");
      assert.doesNotMatch(answer, /^HTTP\/1\.1 5/m);
    }),
    { seed, numRuns: rawRuns },
  );
  assert.equal((await server.send("GET", "/health/live")).status, 200);
  assert.deepEqual(server.logged, []);
});
