// Vector Set helpers of the clients that people use, against a whole server: node-redis (releases 5 and 6, both protocols), ioredis (5 and 6) and redis-cli.
// What each sends and how it reads the answer is the client's own; what is held here is that it gets what its types promise.

import assert from "node:assert/strict";
import { execFile, execFileSync } from "node:child_process";
import { test } from "node:test";
import { promisify } from "node:util";
import { Redis } from "ioredis";
import { Redis as Redis5 } from "ioredis5";
import { createClient } from "redis";
import { createClient as createClient5 } from "redis5";
import { startWholeServer } from "../whole-server.ts";

const config = { vectors: { memoryMb: 128 } };
const f32 = (...numbers: number[]): Buffer => Buffer.from(Float32Array.from(numbers).buffer);

/** The part of node-redis that is used: its own types differ by release. */
interface NodeRedis {
  connect(): Promise<unknown>;
  readonly isOpen: boolean;
  destroy(): void;
  on(event: "error", listener: () => void): unknown;
  vAdd(key: string, vector: number[], element: string, options?: object): Promise<unknown>;
  vSim(key: string, query: number[] | string, options?: object): Promise<unknown>;
  vSimWithScores(key: string, query: number[] | string, options?: object): Promise<Record<string, number>>;
  vEmb(key: string, element: string): Promise<number[]>;
  vEmbRaw(key: string, element: string): Promise<{ quantization: string; raw: unknown; l2Norm: number }>;
  vInfo(key: string): Promise<Record<string, unknown>>;
  vCard(key: string): Promise<unknown>;
  vDim(key: string): Promise<unknown>;
  vGetAttr(key: string, element: string): Promise<unknown>;
  vSetAttr(key: string, element: string, attributes: object): Promise<unknown>;
  vRandMember(key: string, count?: number): Promise<unknown>;
  vRem(key: string, element: string): Promise<unknown>;
  del(key: string): Promise<unknown>;
  type(key: string): Promise<unknown>;
}

const modern = { "node-redis 6": createClient, "node-redis 5": createClient5 };
for (const [name, create] of Object.entries(modern)) {
  for (const protocol of [2, 3] as const) {
    test(`promise: the vector helpers of ${name} work in RESP${protocol}`, async (t) => {
      const server = await startWholeServer(t, config);
      const client = (create as (options: object) => unknown)({ RESP: protocol, socket: { port: server.respPort, reconnectStrategy: false } }) as NodeRedis;
      client.on("error", () => undefined);
      t.after(() => {
        // The server may be gone before its client, which then is closed.
        if (client.isOpen) client.destroy();
      });
      await client.connect();
      assert.equal(await client.vAdd("films", [0.9, 0.1], "Alien", { SETATTR: { year: 1979 }, CAS: true, QUANT: "NOQUANT", EF: 100, M: 16 }), true);
      assert.equal(await client.vAdd("films", [3, 4], "Dune"), true);
      assert.equal(await client.vAdd("films", [3, 4], "Dune", { SETATTR: { year: 1984 } }), false);
      assert.deepEqual(await client.vSim("films", [1, 0]), ["Alien", "Dune"]);
      assert.deepEqual(await client.vSim("films", "Dune", { COUNT: 1, FILTER: ".year > 1980", "FILTER-EF": 100, EF: 50, TRUTH: true, NOTHREAD: true }), [
        "Dune",
      ]);
      const scores = await client.vSimWithScores("films", "Dune", { COUNT: 2, EPSILON: 0.5 });
      assert.deepEqual(Object.keys(scores), ["Dune", "Alien"]);
      assert.ok(Math.abs(scores["Dune"]! - 1) < 1e-6 && scores["Alien"]! > 0.8 && scores["Alien"]! < 0.9, JSON.stringify(scores));
      const [x, y] = await client.vEmb("films", "Dune");
      assert.ok(Math.abs(x! - 3) < 1e-5 && Math.abs(y! - 4) < 1e-5);
      const raw = await client.vEmbRaw("films", "Dune");
      assert.equal(raw.quantization, "fp32");
      assert.ok(Math.abs(raw.l2Norm - 5) < 1e-5);
      const info = await client.vInfo("films");
      assert.deepEqual([info["vector-dim"], info["size"]], [2, 2]);
      assert.deepEqual([await client.vCard("films"), await client.vDim("films")], [2, 2]);
      assert.deepEqual(await client.vGetAttr("films", "Dune"), { year: 1984 });
      assert.equal(await client.vSetAttr("films", "Dune", { year: 2021 }), true);
      assert.deepEqual(await client.vGetAttr("films", "Dune"), { year: 2021 });
      assert.equal(await client.vGetAttr("films", "none"), null);
      assert.deepEqual([...((await client.vRandMember("films", 5)) as string[])].sort(), ["Alien", "Dune"]);
      assert.equal(await client.vRem("films", "Dune"), true);
      assert.equal(await client.type("films"), "vectorset");
      assert.equal(await client.del("films"), 1);
      assert.deepEqual(await client.vSim("films", [1, 0]), []);
    });
  }
}

for (const [name, Client] of Object.entries({ "ioredis 6": Redis, "ioredis 5": Redis5 })) {
  test(`promise: vector commands by ${name}, with binary vectors and in a pipeline`, async (t) => {
    const server = await startWholeServer(t, config);
    const redis = new (Client as typeof Redis)({ port: server.respPort, maxRetriesPerRequest: 1 });
    redis.on("error", () => undefined);
    t.after(() => {
      redis.disconnect();
    });
    assert.equal(Number(await redis.call("VADD", "films", "FP32", f32(0.9, 0.1), "Alien", "SETATTR", '{"year":1979}')), 1);
    const added = await redis
      .pipeline()
      .call("VADD", "films", "FP32", f32(3, 4), "Dune")
      .call("VADD", "films", "VALUES", 2, 0.1, 0.2, "Solaris")
      .call("VCARD", "films")
      .exec();
    assert.deepEqual(
      added!.map(([, reply]) => Number(reply)),
      [1, 1, 3],
    );
    assert.deepEqual(await redis.call("VSIM", "films", "FP32", f32(1, 0), "COUNT", 1), ["Alien"]);
    assert.deepEqual(await redis.call("VSIM", "films", "ELE", "Alien", "FILTER", ".year < 1980"), ["Alien"]);
    const blob = ((await redis.callBuffer("VEMB", "films", "Dune", "RAW")) as Buffer[])[1]!;
    assert.deepEqual([...new Float32Array(Uint8Array.from(blob).buffer)], [Math.fround(0.6), Math.fround(0.8)]);
    await assert.rejects(redis.set("films", "x"), /WRONGTYPE/);
    assert.equal(await redis.del("films"), 1);
  });
}

const cli = ((): string | undefined => {
  try {
    execFileSync("redis-cli", ["--version"]);
    return undefined;
  } catch {
    return "redis-cli is not installed here";
  }
})();
test("promise: the lines of docs/vectors.md by redis-cli", { skip: cli ?? false }, async (t) => {
  const server = await startWholeServer(t, config);
  const run = async (...args: string[]): Promise<string> => {
    const { stdout } = await promisify(execFile)("redis-cli", ["-p", String(server.respPort), ...args], { timeout: 30_000 });
    return stdout.trim();
  };
  assert.equal(await run("VADD", "films", "VALUES", "4", "0.9", "0.1", "0", "0.2", "Alien", "SETATTR", '{"year":1979}'), "1");
  assert.equal(await run("VSIM", "films", "ELE", "Alien", "WITHSCORES", "COUNT", "5"), "Alien\n1");
  assert.match(await run("-3", "VINFO", "films"), /vector-dim[^0-9]+4/);
  assert.equal(
    await run("VADD", "other", "VALUES", "2", "0", "0", "a").catch(String),
    'ERR [invalid] a vector of length 0 for collection "other", which compares by cosine: leave the element out',
  );
  assert.equal(await run("EXISTS", "other"), "0");
});
