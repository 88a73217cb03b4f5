// Feature tables and Feast's shapes over a real socket: what is sent is what is read, digit by digit.

import assert from "node:assert/strict";
import { test } from "node:test";
import { openTableWorld } from "#features/tables/table-world.contract";
import { feastRoutes } from "#gateway/feast-http";
import { tableRoutes } from "#gateway/tables-http";
import { systemClock } from "#platform/system-clock";
import type { TablesConfig } from "#wire/table-config";
import { startTestServer } from "./http-server.ts";

const config: TablesConfig = {
  items: {
    key: "string",
    columns: {
      ctr: { type: "f32" },
      views: { type: "i64" },
      title: { type: "string" },
      raw: { type: "bytes" },
      embedding: { type: "f32", length: 2 },
      tags: { type: "u64", length: 1 },
    },
  },
  driver_stats: {
    key: "u64",
    entity: "driver_id",
    columns: {
      conv_rate: { type: "f32" },
      trips: { type: "i64" },
      note: { type: "string" },
      photo: { type: "bytes" },
      fresh: { type: "f64", ttlHours: 1 },
    },
  },
};

test("rows are written, read, looked at, scanned and deleted", async (t) => {
  const world = await openTableWorld(config);
  t.after(() => world.close());
  const server = await startTestServer(t, { routes: tableRoutes(world.tables, systemClock) });
  const json = { "content-type": "application/json" };
  const written = await server.send(
    "POST",
    "/v1/tables/items/write",
    '{"rows":[{"key":"a","values":{"ctr":0.1,"views":9007199254740993,"title":"Nüdel","raw":"AQI=","embedding":[1,2.5],"tags":[18446744073709551615]}},{"key":"b","values":{"views":-9223372036854775808,"title":null}}]}',
    json,
  );
  assert.equal(written.status, 200, written.text);
  assert.deepEqual((written.json as { outcomes: string[] }).outcomes, ["written", "written"]);
  const read = await server.send("POST", "/v1/tables/items/read", { keys: ["b", "none", "a"] });
  assert.equal(
    read.text.replace(/"logOffset":\d+/, '"logOffset":0'),
    '{"version":"","logOffset":0,"columns":["ctr","views","title","raw","embedding","tags"],"statuses":["found","absent","found"],' +
      '"rows":[[null,-9223372036854775808,null,null,null,null],null,[0.1,9007199254740993,"Nüdel","AQI=",[1,2.5],[18446744073709551615]]]}',
  );
  const some = await server.send("POST", "/v1/tables/items/read", { keys: ["a"], columns: ["title", "ctr"] });
  assert.deepEqual((some.json as { rows: unknown[] }).rows, [["Nüdel", 0.1]]);

  const failed = await server.send("POST", "/v1/tables/items/write", { rows: [{ key: "a", values: { views: 1 }, if: { title: "other" } }] });
  assert.deepEqual((failed.json as { outcomes: string[] }).outcomes, ["condition-failed"]);
  const wrong = await server.send("POST", "/v1/tables/items/write", {
    rows: [
      { key: "c", values: { views: 1 } },
      { key: "d", values: { views: "one" } },
    ],
  });
  assert.equal(wrong.status, 400);
  assert.match(wrong.text, /column views of table items does not fit/);
  const none = await server.send("POST", "/v1/tables/items/read", { keys: ["c"] });
  assert.deepEqual((none.json as { statuses: string[] }).statuses, ["absent"], "all rows of a write or none");
  assert.equal((await server.send("GET", "/v1/tables/nope")).status, 404);

  const looked = await server.send("GET", "/v1/tables/items/rows/a");
  const { columns } = looked.json as { columns: Record<string, { state: string; owner: string; from: string; ageMs: number }> };
  assert.equal(columns["ctr"]!.owner, "newest");
  assert.equal(columns["ctr"]!.from, "delta");
  assert.ok(columns["ctr"]!.ageMs >= 0 && columns["ctr"]!.ageMs < 60_000);

  const first = await server.send("POST", "/v1/tables/items/scan", { limit: 1, columns: ["views"] });
  const page = first.json as { keys: string[]; cursor: string };
  assert.deepEqual(page.keys, ["a"]);
  const second = await server.send("POST", "/v1/tables/items/scan", { limit: 5, columns: ["views"], cursor: page.cursor });
  assert.deepEqual((second.json as { keys: string[] }).keys, ["b"]);
  assert.equal((second.json as { cursor: unknown }).cursor, null);

  const deleted = await server.send("POST", "/v1/tables/items/delete", { keys: ["a", "none"] });
  assert.deepEqual(deleted.json, { deleted: 1 });
  const list = await server.send("GET", "/v1/tables");
  assert.deepEqual(
    (list.json as { tables: { name: string; loaded: boolean }[] }).tables.map(({ name, loaded }) => [name, loaded]),
    [
      ["items", true],
      ["driver_stats", true],
    ],
  );
});

test("promise: Feast's online serving, push and write, byte for byte", async (t) => {
  const world = await openTableWorld(config);
  t.after(() => world.close());
  const server = await startTestServer(t, {
    routes: feastRoutes(world.tables, systemClock, { services: { activity: ["driver_stats:trips"] }, pushSources: { stats_push: "driver_stats" } }),
  });
  // Feast's clients name no content-type that says JSON, or any.
  const text = { "content-type": "text/plain" };
  assert.equal((await server.send("GET", "/health")).status, 200);
  const pushed = await server.send(
    "POST",
    "/push",
    '{"push_source_name":"stats_push","df":{"driver_id":[1001,9007199254740993],"event_timestamp":["2022-05-13 10:59:42+00:00","2022-05-13T10:59:42.250000"],' +
      '"created":[null,null],"conv_rate":[0.1,null],"trips":[9223372036854775807,2],"photo":["AQI=","AA=="],"fresh":[1.5,2.5]},"to":"online","allow_registry_cache":true}',
    text,
  );
  assert.equal(pushed.status, 200, pushed.text);
  assert.equal(pushed.text, "");
  const golden = await server.send(
    "POST",
    "/get-online-features",
    '{"features":["driver_stats:conv_rate","driver_stats:trips","driver_stats:note","driver_stats:photo","driver_stats:fresh"],"entities":{"driver_id":[1001,9007199254740993,7]}}',
    text,
  );
  const t1 = "2022-05-13T10:59:42Z";
  const t2 = "2022-05-13T10:59:42.250Z";
  const t0 = "1970-01-01T00:00:00Z";
  assert.equal(
    golden.text,
    '{"results":[' +
      `{"values":[1001,9007199254740993,7],"statuses":["PRESENT","PRESENT","PRESENT"],"event_timestamps":["${t0}","${t0}","${t0}"]},` +
      `{"values":[0.10000000149011612,null,null],"statuses":["PRESENT","NULL_VALUE","NOT_FOUND"],"event_timestamps":["${t1}","${t2}","${t0}"]},` +
      `{"values":[9223372036854775807,2,null],"statuses":["PRESENT","PRESENT","NOT_FOUND"],"event_timestamps":["${t1}","${t2}","${t0}"]},` +
      `{"values":[null,null,null],"statuses":["NULL_VALUE","NULL_VALUE","NOT_FOUND"],"event_timestamps":["${t0}","${t0}","${t0}"]},` +
      `{"values":["AQI=","AA==",null],"statuses":["PRESENT","PRESENT","NOT_FOUND"],"event_timestamps":["${t1}","${t2}","${t0}"]},` +
      `{"values":[1.5,2.5,null],"statuses":["OUTSIDE_MAX_AGE","OUTSIDE_MAX_AGE","NOT_FOUND"],"event_timestamps":["${t1}","${t2}","${t0}"]}` +
      '],"metadata":{"feature_names":["driver_id","conv_rate","trips","note","photo","fresh"]}}',
  );
  assert.equal(golden.status, 200);
  const wrote = await server.send("POST", "/write-to-online-store", {
    feature_view_name: "driver_stats",
    df: { driver_id: [7], event_timestamp: ["2026-01-01T00:00:00"], created: [null], trips: [5] },
  });
  assert.deepEqual([wrote.status, wrote.text], [200, "null"]);
  const byService = await server.send("POST", "/get-online-features", { feature_service: "activity", entities: { driver_id: [7] }, full_feature_names: true });
  assert.deepEqual((byService.json as { metadata: object }).metadata, { feature_names: ["driver_id", "driver_stats__trips"] });
  assert.deepEqual((byService.json as { results: { values: unknown[] }[] }).results[1]!.values, [5]);

  // An older value does not overtake.
  await server.send("POST", "/push", { push_source_name: "driver_stats", df: { driver_id: [7], event_timestamp: "2020-01-01 00:00:00", trips: 1 } });
  const still = await server.send("POST", "/get-online-features", { features: ["driver_stats:trips"], entities: { driver_id: [7] } });
  assert.deepEqual((still.json as { results: { values: unknown[] }[] }).results[1]!.values, [5]);

  const view = await server.send("POST", "/get-online-features", { features: ["nope:x"], entities: { driver_id: [7] } });
  assert.equal(view.status, 404);
  assert.equal(
    view.text,
    '"{\\"module\\": \\"feast.errors\\", \\"class\\": \\"FeatureViewNotFoundException\\", \\"message\\": \\"Feature view nope does not exist\\"}"',
  );
  const source = await server.send("POST", "/push", { push_source_name: "nope", df: { driver_id: [1] } });
  assert.equal(source.status, 422);
  assert.match(source.text, /PushSourceNotFoundException/);
  const body = await server.send("POST", "/get-online-features", { features: ["driver_stats:trips"] });
  assert.equal(body.status, 422);
  assert.deepEqual(body.json, { detail: [{ type: "missing", loc: ["body", "entities"], msg: "Field required" }] });
  const twice = await server.send("POST", "/get-online-features", { features: ["driver_stats:trips", "driver_stats:driver_id"], entities: { driver_id: [7] } });
  assert.equal(twice.status, 404);
  const offline = await server.send("POST", "/push", { push_source_name: "driver_stats", to: "offline", df: { driver_id: [1] } });
  assert.equal(offline.status, 500);
});
