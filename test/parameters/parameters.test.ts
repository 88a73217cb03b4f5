// promise: parameters over the Redis port: what is pushed is read back at once, by ordinary Redis clients with blobs and by the SDK; PSAVE outlives kill -9; wrong blobs change nothing.
// The server is the real process, started as a user starts it.

import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { Redis } from "ioredis";
import { ParameterClient } from "#sdk/index";
import { initialValues } from "#kernel/parameter-key";
import { pullPlaces, readPullHead } from "#wire/parameter-api";
import { type ServerProcess, startServerProcess, temporaryFolder } from "../../bench/load/server-process.ts";
import { startWholeServer } from "../whole-server.ts";

const tables = { user: { dim: 16, memoryMb: 16, seed: 7, initialScale: 0.1, checkpoint: { everySeconds: 3_600 } }, item: { dim: 3, memoryMb: 4, shards: 2 } };
const keysBlob = (...keys: readonly number[]): Buffer => Buffer.from(BigUint64Array.from(keys, BigInt).buffer);
const rowsBlob = (count: number, value: number, dim = 16): Buffer => Buffer.from(new Float32Array(count * dim).fill(value).buffer);

/** Rows of an answer of PPULL, the first number of each. */
function firsts(answer: unknown): number[] {
  const blob = new Uint8Array(answer as Buffer);
  const { rows, dim, numbersAt } = readPullHead(blob);
  const numbers = new Float32Array(blob.buffer, numbersAt, rows * dim);
  return Array.from({ length: rows }, (_, i) => numbers[i * dim]!);
}

test(
  "promise: pushed parameters are read at once by ioredis and the SDK, saved ones outlive kill -9, wrong blobs change nothing",
  { timeout: 90_000 },
  async (t) => {
    const folder = temporaryFolder();
    t.after(() => folder.remove());
    const configPath = join(folder.path, "config.json");
    writeFileSync(configPath, JSON.stringify({ model: null, parameters: { tables } }));
    const dataFolder = join(folder.path, "data");
    const start = (): Promise<ServerProcess> => startServerProcess({ data: dataFolder, durability: "none", more: ["--config", configPath] });
    let server = await start();
    t.after(() => server.kill());
    const redis = new Redis({ port: server.respPort, host: "127.0.0.1", lazyConnect: true, retryStrategy: () => null });
    t.after(() => redis.disconnect());
    const call = (name: string, ...args: (string | Buffer)[]): Promise<unknown> => redis.callBuffer(name, ...args);
    await redis.connect();

    // Initial values are those that every node computes.
    const expected = new Float32Array(16);
    initialValues({ seed: 7n, factors: 16, initialScale: 0.1 }, 16, 5, 0, expected, 0);
    assert.deepEqual(firsts(await call("PPULL", "user", keysBlob(5, 5))), [expected[0], expected[0]]);
    assert.equal(await call("PADD", "user", keysBlob(5), rowsBlob(1, 1)), 1);
    const sum = Math.fround(expected[0]! + 1);
    assert.deepEqual(firsts(await call("PPULL", "user", keysBlob(5))), [sum]);
    assert.equal(await call("PASSIGN", "user", keysBlob(1, 2, 3), rowsBlob(3, 4)), 3);
    assert.equal(await call("PDELETE", "user", keysBlob(2, 99)), 1);
    const mixed = new Uint8Array((await call("PPULL", "user", keysBlob(1, 2, 3), "FOUND", "F16")) as Buffer);
    const head = readPullHead(mixed);
    assert.deepEqual([head.form, head.missing, mixed[head.foundAt]], ["F16", 1, 0b101]);
    assert.deepEqual([...new Uint16Array(mixed.buffer, head.numbersAt, 1)], [0x4400]);

    // Nothing of a refused command is applied.
    for (const [args, complaint] of [
      [["PPULL", "nobody", keysBlob(1)], /no parameter table "nobody"/],
      [["PPULL", "user", Buffer.alloc(12)], /keys of 12 bytes/],
      [["PPULL", "user", keysBlob(1), "F64"], /does not know/],
      [["PPULL", "user", keysBlob(1), "F16", "INT8"], /PPULL in two forms, F16 and INT8: name one/],
      [["PADD", "user", keysBlob(1), rowsBlob(1, 1), "WORKER", "w", "SEQ", "1", "SEQ", "2"], /PADD with "SEQ", which it does not know, or twice/],
      [["PPULL", "user", Buffer.alloc(8 * 8_193)], /8193 keys.*send at most 8192/],
      [["PADD", "user", keysBlob(1), rowsBlob(1, 1, 15)], /rows of 60 bytes for 1 keys of table user.*64 bytes/],
      [["PADD", "user", keysBlob(1), rowsBlob(2, 1)], /rows of 128 bytes/],
      [["PADD", "user", keysBlob(1), rowsBlob(1, 1), "WORKER", "w"], /one of WORKER and SEQ/],
      [["PADD", "user", keysBlob(1), rowsBlob(1, 1), "SEQ"], /does not know/],
      [["PDELETE", "user", keysBlob(1), rowsBlob(1, 1)], /does not know/],
      [["PSAVE", "nobody"], /no parameter table/],
      [["PINFO", "nobody"], /no parameter table/],
    ] as const) {
      const [name, ...rest] = args;
      await assert.rejects(call(name, ...rest), (thrown: Error) => complaint.test(thrown.message), name);
    }
    assert.deepEqual(firsts(await call("PPULL", "user", keysBlob(1))), [4]);
    assert.equal(await call("PADD", "user", keysBlob(1, 2), Buffer.from(Float32Array.from({ length: 32 }, (_, i) => (i === 0 ? NaN : 1)).buffer)), 1);

    // A push of a worker is counted once, also when both are under way.
    const twice = await Promise.all([1, 1, 2].map((seq) => call("PADD", "item", keysBlob(1), rowsBlob(1, 1, 3), "WORKER", "w-1", "SEQ", String(seq))));
    assert.deepEqual(twice, [1, 1, 1]);
    assert.equal(await call("PADD", "item", keysBlob(1), rowsBlob(1, 1, 3), "WORKER", "w-1", "SEQ", "5000"), 1);
    await assert.rejects(call("PADD", "item", keysBlob(1), rowsBlob(1, 1, 3), "WORKER", "w-1", "SEQ", "3"), /may have been applied/);
    assert.deepEqual(firsts(await call("PPULL", "item", keysBlob(1, 2))), [3, 0]);
    assert.deepEqual(((await call("PTABLES")) as Buffer[]).map(String), ["item", "user"]);

    // Two connections, pipelined: each reads its own writes.
    const others = [0, 1].map(() => new Redis({ port: server.respPort, host: "127.0.0.1", retryStrategy: () => null }));
    t.after(() => {
      for (const other of others) other.disconnect();
    });
    await Promise.all(
      others.map(async (other, n) => {
        const pipeline = other.pipeline();
        for (let i = 1; i <= 50; i++)
          pipeline.callBuffer("PADD", "item", keysBlob(100 + n, 200), rowsBlob(2, 1, 3)).callBuffer("PPULL", "item", keysBlob(100 + n));
        const replies = (await pipeline.exec())!;
        for (let i = 1; i <= 50; i++) assert.deepEqual(firsts(replies[2 * i - 1]![1]), [i]);
      }),
    );
    assert.deepEqual(firsts(await call("PPULL", "item", keysBlob(200))), [100]);

    // The SDK, in all forms, with batches beyond one command.
    const client = await ParameterClient.connect({ port: server.respPort });
    t.after(() => client.close());
    assert.deepEqual(await client.tables(), ["item", "user"]);
    const users = client.table("user");
    const count = 40_000;
    const many = BigUint64Array.from({ length: count }, (_, i) => (BigInt(i) << 33n) + 1_000n);
    const values = Float32Array.from({ length: 16 * count }, (_, i) => (i % 16 === 15 ? 1 : (i % 256) / 256));
    assert.equal(await users.assign(many, values), count);
    const exact = await users.pull(many, { found: true });
    assert.deepEqual([exact.dim, exact.missing, exact.found!.every((one) => one === 1)], [16, 0, true]);
    assert.ok(Buffer.from(exact.rows.buffer, exact.rows.byteOffset, exact.rows.byteLength).equals(Buffer.from(values.buffer)));
    for (const [form, most] of [
      ["F16", 0],
      ["INT8", 0.5 / 127 + 1e-6],
    ] as const) {
      const { rows } = await users.pull(many.subarray(0, 300), { form });
      assert.ok(
        rows.every((value, i) => Math.abs(value - values[i]!) <= most),
        form,
      );
    }
    await assert.rejects(users.add([1, 2], new Float32Array(33)), { code: "invalid" });
    await assert.rejects(client.table("nobody").pull([1]), { code: "not-found", message: /no parameter table/ });
    for (const key of [-1, 1.5, 2 ** 53, 1n << 64n, -1n]) await assert.rejects(users.pull([key]), { code: "invalid", message: /no whole number from 0/ });
    assert.equal(await users.delete([1_000n]), 1);

    await users.save();
    const info = await users.info();
    const checkpoint = info.get("checkpoint") as Map<string, unknown>;
    assert.deepEqual([checkpoint.get("id"), checkpoint.get("unsavedRows")], [1, 0]);
    await users.assign([77], new Float32Array(16).fill(7));
    await call("PSAVE", "item");

    for (const one of [redis, ...others]) one.disconnect();
    client.close();
    await server.kill();
    server = await start();
    const again = await ParameterClient.connect({ port: server.respPort });
    t.after(() => again.close());
    const back = await again.table("user").pull([5, 1, 2, 3, 77, Number(many[1]!)], { found: true });
    assert.deepEqual([...back.found!], [1, 1, 1, 1, 0, 1], "what came after the last checkpoint is lost, the rest is back");
    assert.equal(back.rows[0], sum);
    assert.equal((await again.table("item").pull([200])).rows[0], 100);
    await again.table("user").assign([78], new Float32Array(16).fill(8));

    // An orderly stop saves by itself.
    await server.stop();
    server = await start();
    const third = await ParameterClient.connect({ port: server.respPort });
    t.after(() => third.close());
    assert.equal((await third.table("user").pull([78])).rows[0], 8);
  },
);

test("a user may do with parameter tables what its rules say, by table", { timeout: 60_000 }, async (t) => {
  const server = await startWholeServer(t, {
    parameters: { tables },
    access: {
      users: {
        default: { rules: "+@all ~*" },
        trainer: { rules: "+ppull +padd ~user", passwords: ["a password"] },
        reader: { rules: "+ppull +pinfo +ptables %R~*", passwords: ["a password"] },
      },
    },
  });
  const as = (user: string): Redis => {
    const redis = new Redis({ port: server.respPort, host: "127.0.0.1", username: user, password: "a password", enableReadyCheck: false });
    t.after(() => redis.disconnect());
    return redis;
  };
  const trainer = as("trainer");
  assert.equal(await trainer.callBuffer("PADD", "user", keysBlob(1), rowsBlob(1, 1)), 1);
  await assert.rejects(trainer.callBuffer("PADD", "item", keysBlob(1), rowsBlob(1, 1, 3)), /NOPERM/);
  await assert.rejects(trainer.callBuffer("PSAVE", "user"), /NOPERM/);
  const reader = as("reader");
  assert.equal(firsts(await reader.callBuffer("PPULL", "item", keysBlob(1)))[0], 0);
  await assert.rejects(reader.callBuffer("PADD", "item", keysBlob(1), rowsBlob(1, 1, 3)), /NOPERM/);
  assert.equal(pullPlaces("F32", false, 1, 3).bytes, ((await reader.callBuffer("PPULL", "item", keysBlob(1))) as Buffer).length);
});

test("promise: a push whose answer was lost is sent again by the SDK and counted once", { timeout: 60_000 }, async (t) => {
  const server = await startWholeServer(t, { parameters: { tables } });
  // Stands between both and cuts the connection when the answer of a push comes.
  let cuts = 0;
  let cutting = false;
  const sockets = new Set<Socket>();
  const proxy = createServer((near) => {
    const far = connect(server.respPort, "127.0.0.1");
    for (const socket of [near, far]) {
      sockets.add(socket);
      socket.on("error", () => undefined);
    }
    near.on("data", (bytes) => far.write(bytes));
    near.on("close", () => far.destroy());
    far.on("close", () => near.destroy());
    far.on("data", (bytes) => {
      if (!cutting) near.write(bytes);
      else {
        cutting = false;
        cuts++;
        near.destroy();
      }
    });
  });
  await new Promise<void>((resolve) => proxy.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    for (const socket of sockets) socket.destroy();
    proxy.close();
  });
  const client = await ParameterClient.connect({ port: (proxy.address() as AddressInfo).port, timeoutMs: 20_000, retries: 5 });
  t.after(() => client.close());
  const items = client.table("item");
  for (let i = 1; i <= 5; i++) {
    cutting = true;
    assert.equal(await items.add([7], new Float32Array(3).fill(1)), 1);
    assert.deepEqual([(await items.pull([7])).rows[0], cuts], [i, i]);
  }
  cutting = true;
  assert.equal(await items.delete([7]), 1, "the outcome of the first time, not that of the second");
});
