// Guards what a configuration of parameters may say, and that a refusal names the field; and the places in an answer of PPULL.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Value } from "typebox/value";
import { checkParameters, parameterMemoryMb, ParametersConfig } from "./parameter-config.ts";
import { pullFlags, pullMagic, pullPlaces, readPullHead } from "./parameter-api.ts";

test("promise: a section of parameters that cannot be is refused by the name of its field", () => {
  const user = { dim: 16, memoryMb: 64 };
  const good: ParametersConfig = {
    tables: { user, item: { ...user, seed: 7, initialScale: 0.1, shards: 2, admission: { sightings: 3 }, expireAfterS: 60, checkpoint: { everySeconds: 5 } } },
    models: { home: { tables: ["user", "item"], extractor: "v3", quota: { rows: 1_000 } } },
    sync: { node: 3, port: 7_000, follow: ["127.0.0.1:7001"], token: "long enough" },
  };
  assert.ok(Value.Check(ParametersConfig, good));
  assert.equal(checkParameters(good), good);
  assert.equal(parameterMemoryMb(good), 128 + 1_024);
  for (const bad of [
    { tables: { user: { dim: 0, memoryMb: 1 } } },
    { tables: { user: { dim: 1_025, memoryMb: 1 } } },
    { tables: { user: { dim: 4 } } },
    { tables: { User: user } },
    { tables: { user: { ...user, factors: 3 } } },
    { tables: { user: { ...user, rows: 3 } } },
    { sync: { node: 256, port: 1 } },
    { sync: { node: 1, port: 1, follow: ["nowhere"] } },
    { table: {} },
  ]) {
    assert.ok(!Value.Check(ParametersConfig, bad), JSON.stringify(bad));
  }
  for (const [bad, field] of [
    [{ sync: { node: 1, port: 1, lead: "lease" as const } }, /parameters\.sync\.lead is given without registry/],
    [{ sync: { node: 1, port: 1, registry: "/a" } }, /parameters\.sync\.registry is given without lead/],
    [{ sync: { node: 1, port: 1, lead: "lease" as const, registry: "/a", follow: ["a:1"] } }, /parameters\.sync\.lead and follow/],
    [{ sync: { node: 1, port: 7_000, follow: ["a:7000", "localhost:7000"] } }, /follow names localhost:7000, which is this server/],
    [{ sync: { node: 1, port: 7_000, host: "a", token: "long enough", follow: ["b:7000", "a:7000"] } }, /follow names a:7000, which is this server/],
    [{ sync: { node: 1, port: 1, lead: "lease" as const, registry: "/a", model: true } }, /parameters\.sync\.lead and model/],
    [{ tables: { user: { ...user, factors: 20 } } }, /parameters\.tables\.user\.factors is 20/],
    [{ tables: { user: { dim: 3, memoryMb: 1, initialScale: 1 } } }, /parameters\.tables\.user\.initialScale/],
    [{ tables: { user: { dim: 3, memoryMb: 8_192, shards: 1 } } }, /parameters\.tables\.user\.shards/],
    [{ tables: { user: { dim: 3, memoryMb: 1, shards: 4 } } }, /parameters\.tables\.user\.memoryMb/],
    [{ tables: { user: { ...user, buckets: 48 } } }, /parameters\.tables\.user\.buckets is 48/],
    [{ tables: { user }, memoryMb: 63 }, /parameters\.memoryMb is 63, the tables ask for 64/],
    [{ tables: { user }, models: { home: { tables: ["item"] } } }, /parameters\.models\.home\.tables names item/],
  ] as const) {
    assert.throws(() => checkParameters(bad as unknown as ParametersConfig), { code: "invalid", message: field });
  }
});

test("promise: synchronisation listens beyond loopback only with a token", () => {
  const section = (host: string | undefined, token?: string): ParametersConfig => ({
    sync: { node: 1, port: 7_000, ...(host === undefined ? {} : { host }), ...(token === undefined ? {} : { token }) },
  });
  for (const host of ["0.0.0.0", "::", "10.0.0.1", "127.example.org", "node-1"]) {
    assert.throws(() => checkParameters(section(host)), {
      code: "invalid",
      message: /parameters\.sync\.host is .* without a token: give parameters\.sync\.token/,
    });
    checkParameters(section(host, "long enough"));
  }
  for (const host of [undefined, "127.0.0.1", "127.0.0.9", "localhost", "::1", "[::1]"]) checkParameters(section(host));
  assert.ok(!Value.Check(ParametersConfig, section("0.0.0.0", "")), "an empty token is none");
});

test("the parts of an answer stand where the client looks; a cut or foreign one is refused", () => {
  const places = pullPlaces("INT8", true, 33, 5);
  assert.deepEqual(places, { foundAt: 16, scalesAt: 24, numbersAt: 156, bytes: 156 + 165 });
  const bytes = new Uint8Array(places.bytes);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, pullMagic, true);
  view.setUint8(4, 2);
  view.setUint8(5, pullFlags.found);
  view.setUint16(6, 5, true);
  view.setUint32(8, 33, true);
  view.setUint32(12, 4, true);
  assert.deepEqual(readPullHead(bytes), { ...places, form: "INT8", withFound: true, dim: 5, rows: 33, missing: 4 });
  assert.throws(() => readPullHead(bytes.subarray(0, 15)), { code: "corrupt" });
  assert.throws(() => readPullHead(bytes.subarray(0, 320)), { code: "corrupt" });
  view.setUint8(4, 3);
  assert.throws(() => readPullHead(bytes), { code: "unsupported" });
  view.setUint8(0, 0);
  assert.throws(() => readPullHead(bytes), { code: "corrupt" });
});
