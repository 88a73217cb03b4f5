// Guards that real Redis clients work unmodified, that errors and limits read as redis-server gives them, and that nobody disturbs anybody.

import assert from "node:assert/strict";
import { type ChildProcess, execFile, spawn, spawnSync } from "node:child_process";
import { connect, createServer, type Socket } from "node:net";
import { test } from "node:test";
import { promisify } from "node:util";
import { Redis as Redis6 } from "ioredis";
import { Redis as Redis5 } from "ioredis5";
import { createClient as createClient6 } from "redis";
import { createClient as createClient4 } from "redis4";
import { createClient as createClient5 } from "redis5";
import { Prng } from "#base/prng";
import { systemClock } from "#platform/system-clock";
import { systemNetwork } from "#platform/system-network";
import { systemRandom } from "#platform/system-random";
import { type AccessConfig, checkAccessConfig } from "#wire/access-config";
import { Access } from "#wire/access-users";
import { RespClient } from "#wire/resp-client";
import { CommandTable } from "#wire/resp-command-table";
import { type RespServer, startRespServer } from "#wire/resp-server";
import type { RespLimits } from "#wire/resp-session";
import { aclCommands } from "./acl.ts";
import { connectionCommands } from "./connection.ts";
import { inMemoryCommands } from "./in-memory.contract.ts";
import { serverCommands } from "./server.ts";

const run = promisify(execFile);
const missing = (program: string): string | false => (spawnSync(program, ["--version"]).error === undefined ? false : `${program} is not installed`);
const defects: unknown[] = [];

async function serve(
  config: AccessConfig | undefined,
  body: (server: RespServer, access: Access) => Promise<void>,
  limits: Partial<RespLimits> = {},
): Promise<void> {
  // The table holds commands that ask the authenticator, which knows commands by the table.
  const late = (): Access => access;
  const commands = new CommandTable(
    inMemoryCommands(),
    connectionCommands(late),
    aclCommands(late, systemRandom),
    serverCommands({ access: late, version: "0", processId: 1, runId: "0".repeat(40), info: () => ({}), memoryUsage: () => undefined, lastSaveMs: () => 0 }),
  );
  const access: Access = new Access({ commands, clock: systemClock, ...(config === undefined ? {} : { config }) });
  const server = await startRespServer({
    network: systemNetwork,
    clock: systemClock,
    port: 0,
    commands,
    access,
    limits,
    onDefect: (thrown) => defects.push(thrown),
  });
  try {
    await body(server, access);
  } finally {
    assert.deepEqual(await server.drain(2_000), { cutOff: 0 });
  }
}

/** Sends raw bytes; everything that is answered until the connection ends or `ms` passes in silence. */
function raw(port: number, bytes: string | Uint8Array | readonly Uint8Array[], ms = 150): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket: Socket = connect(port, "127.0.0.1");
    let answer = "";
    socket.setTimeout(ms, () => socket.destroy());
    socket.on("data", (chunk) => (answer += chunk.toString("latin1")));
    socket.on("close", () => resolve(answer));
    socket.on("error", reject);
    for (const part of typeof bytes === "string" || bytes instanceof Uint8Array ? [bytes] : bytes) socket.write(part);
  });
}

const secured: AccessConfig = checkAccessConfig({
  users: {
    alice: { passwords: ["alice's password"], rules: "~a:* %R~r:* +@all -@admin +acl|whoami" },
    bob: { passwords: ["password of bob"], rules: "+@connection +get ~* " },
  },
});

test("a drain does not wait for a client that has its answers and keeps its side open", async () => {
  await serve(undefined, async (server) => {
    // Half open: the end that the server sends is not answered, as by a client that waits for nothing and does not read.
    const socket = connect({ port: server.port, host: "127.0.0.1", allowHalfOpen: true });
    const answer = await new Promise<string>((resolve, reject) => {
      socket.on("error", reject);
      socket.once("data", (chunk) => resolve(chunk.toString()));
      socket.write("PING\r\n");
    });
    assert.equal(answer, "+PONG\r\n");
    assert.deepEqual(await server.drain(4_000), { cutOff: 0 });
    socket.destroy();
  });
});

interface AnyClient {
  set(key: string, value: string): Promise<unknown>;
  get(key: string): Promise<unknown>;
}

async function useClient(client: AnyClient): Promise<void> {
  assert.equal(await client.set("a:1", "grüße"), "OK");
  const values = await Promise.all(Array.from({ length: 200 }, (_, i) => (i % 2 === 0 ? client.get("a:1") : client.get("a:none"))));
  assert.deepEqual(
    values,
    Array.from({ length: 200 }, (_, i) => (i % 2 === 0 ? "grüße" : null)),
  );
}

for (const [name, Redis] of [
  ["ioredis 6", Redis6],
  ["ioredis 5", Redis5 as unknown as typeof Redis6],
] as const) {
  test(`promise: ${name} works unmodified, with and without user and password`, async () => {
    await serve(undefined, async ({ port }) => {
      const client = new Redis({ host: "127.0.0.1", port });
      await useClient(client);
      assert.match(await client.info(), /redis_version:7/);
      await assert.rejects(client.call("nosuch", "x"), /ERR unknown command 'nosuch', with args beginning with: 'x'/);
      await client.quit();
    });
    await serve(secured, async ({ port }) => {
      const client = new Redis({ host: "127.0.0.1", port, username: "alice", password: "alice's password", connectionName: "n", db: 0 });
      await useClient(client);
      await assert.rejects(client.set("b:1", "x"), /NOPERM this user has no permissions to access one of the keys/);
      assert.equal(await client.client("GETNAME"), "n");
      await client.quit();
    });
  });
}

for (const [name, createClient] of [
  ["node-redis 6", createClient6],
  ["node-redis 5", createClient5],
  ["node-redis 4", createClient4],
] as const) {
  test(`promise: ${name} works unmodified, with and without user and password`, async () => {
    await serve(undefined, async ({ port }) => {
      const client = createClient({ url: `redis://127.0.0.1:${port}` });
      await client.connect();
      await useClient(client);
      await client.quit();
    });
    await serve(secured, async ({ port }) => {
      const client = createClient({ url: `redis://127.0.0.1:${port}/0`, username: "alice", password: "alice's password", name: "n" });
      await client.connect();
      await useClient(client);
      await assert.rejects(async () => client.set("b:1", "x"), /NOPERM/);
      await client.quit();
      const wrong = createClient({ url: `redis://127.0.0.1:${port}`, username: "alice", password: "no", socket: { reconnectStrategy: false } });
      wrong.on("error", () => undefined);
      await assert.rejects(async () => wrong.connect(), /WRONGPASS/);
    });
  });
}

test("promise: redis-cli works, RESP2 and RESP3", { skip: missing("redis-cli") }, async () => {
  await serve(secured, async ({ port }) => {
    const cli = async (...args: string[]): Promise<string> => (await run("redis-cli", ["-p", String(port), "--no-auth-warning", ...args])).stdout.trim();
    const as = ["--user", "alice", "--pass", "alice's password"];
    assert.match(await cli("get", "a:1"), /NOAUTH Authentication required\./);
    assert.equal(await cli(...as, "set", "a:1", "x"), "OK");
    assert.equal(await cli("-3", ...as, "get", "a:1"), "x");
    assert.equal(await cli(...as, "acl", "whoami"), "alice");
    assert.match(await cli(...as, "command", "docs", "get"), /summary/);
  });
});

test("promise: redis-benchmark works", { skip: missing("redis-benchmark") }, async () => {
  await serve(undefined, async ({ port, metrics }) => {
    await run("redis-benchmark", ["-p", String(port), "-c", "10", "-P", "16", "-n", "5000", "-d", "64", "-r", "1000", "-t", "get,set,ping", "-q"]);
    assert.ok(metrics.commands >= 20_000);
  });
});

test("promise: pipelined commands are answered in order, also around ones that wait, hold or fail", async () => {
  await serve(undefined, async ({ port }) => {
    const client = await RespClient.connect({ network: systemNetwork, clock: systemClock, host: "127.0.0.1", port });
    const answers: Promise<unknown>[] = [];
    for (let i = 0; i < 60; i++) {
      answers.push(client.command("SET", `k${i}`, `v${i}`), client.command("T.LATER", `l${i}`), client.command("GET", `k${i}`), client.command("GET", "none"));
      if (i % 7 === 0) answers.push(client.command("T.HOLD", "ok"));
      if (i % 9 === 0) answers.push(client.command("T.FAIL", i % 2 === 0 ? "now" : "later").catch((thrown: Error) => thrown.message));
    }
    const text = (await Promise.all(answers)).map((one) => (one instanceof Uint8Array ? Buffer.from(one).toString() : String(one)));
    const expected: string[] = [];
    for (let i = 0; i < 60; i++) {
      expected.push("OK", `l${i}`, `v${i}`, "null");
      if (i % 7 === 0) expected.push("OK");
      if (i % 9 === 0) expected.push("[invalid] the server answered: ERR internal error, see the server's log");
    }
    assert.deepEqual(text, expected);
    client.close();
  });
  assert.ok(defects.length > 0 && defects.every((thrown) => thrown instanceof Error));
});

test("promise: calls that only begin are under way together, and answered in order; every other call waits for them", async () => {
  defects.length = 0;
  await serve(undefined, async (server) => {
    const client = await RespClient.connect({ network: systemNetwork, clock: systemClock, host: "127.0.0.1", port: server.port });
    const prng = new Prng(process.env["SEED"] ?? "begun");
    const texts = Array.from({ length: 200 }, (_, i) => `text ${i}`);
    const beganMs = performance.now();
    const answers = texts.map((text) => client.command("t.begin", text, 1 + prng.below(20)));
    const counted = client.command("T.BEGIN", "began");
    await client.command("set", "a", "1").then((ok) => assert.equal(ok, "OK"));
    assert.deepEqual(
      (await Promise.all(answers)).map((answer) => new TextDecoder().decode(answer as Uint8Array)),
      texts,
    );
    assert.equal(await counted, texts.length);
    assert.ok(performance.now() - beganMs < 1_000, "one after the other they take two seconds");

    // What comes in several pieces joins those that are under way, and a call of another command sees them answered.
    const slow = client.command("t.begin", "slow", 60);
    await systemClock.sleep(10);
    const order: string[] = [];
    const noted = async (name: string, answer: Promise<unknown>, refusal?: RegExp): Promise<void> => {
      const said = await answer.then(
        () => "",
        (thrown: Error) => thrown.message,
      );
      order.push(name);
      assert.match(said, refusal ?? /^$/);
    };
    await Promise.all([
      noted("slow", slow),
      noted("quick", client.command("t.begin", "quick", 0)),
      noted("wrong arity", client.command("t.begin"), /wrong number of arguments/),
      noted("defect", client.command("t.begin", "defect", 5), /internal error/),
      noted("broken", client.command("t.begin", "broken answer", 1), /internal error/),
      noted("large", client.command("t.begin", "large", 1)),
      noted("unknown", client.command("nothing"), /unknown command/),
      noted("get", client.command("get", "a")),
      noted("last", client.command("t.begin", "last", 1)),
    ]);
    assert.deepEqual(order, ["slow", "quick", "wrong arity", "defect", "broken", "large", "unknown", "get", "last"]);
    client.close();

    // More than may be under way at a time, then what ends the connection.
    const many = "t.begin some 1\r\n".repeat(3_000);
    assert.equal(await raw(server.port, `${many}QUIT\r\n`, 2_000), `${"$4\r\nsome\r\n".repeat(3_000)}+OK\r\n`);
    assert.equal(
      await raw(server.port, "t.begin some 20\r\nt.begin other\r\n*1\r\n!\r\n", 2_000),
      "$4\r\nsome\r\n$5\r\nother\r\n-ERR Protocol error: expected '$', got '!'\r\n",
    );
    assert.equal(await raw(server.port, "CLIENT REPLY OFF\r\nt.begin some 5\r\nCLIENT REPLY ON\r\nPING\r\n", 2_000 / 4), "+OK\r\n+PONG\r\n");
    // Bug: who said that no more comes, and still read, had no answers of calls under way, nor of what stood behind them.
    for (const calls of [1, 300, 5_000]) {
      const half = connect({ port: server.port, host: "127.0.0.1", allowHalfOpen: true });
      let answer = "";
      const closed = new Promise((resolve) => half.on("data", (chunk) => (answer += chunk.toString())).on("end", () => resolve(half.end())));
      half.write(`${"t.begin some 3\r\n".repeat(calls)}PING\r\nt.begin more 3\r\nPING\r\nhalf a comm`);
      half.end();
      await closed;
      assert.equal(answer, `${"$4\r\nsome\r\n".repeat(calls)}+PONG\r\n$4\r\nmore\r\n+PONG\r\n`);
    }
    // Somebody who leaves meanwhile disturbs nobody.
    const left = connect(server.port, "127.0.0.1");
    await new Promise((resolve) => left.write("t.begin some 30\r\n", resolve));
    left.destroy();
    assert.equal(await raw(server.port, "PING\r\n"), "+PONG\r\n");
  });
  assert.equal(defects.length, 2, "each defect is told once");
});

test("the client sends arguments of all sizes whole and in order", async () => {
  await serve(undefined, async ({ port }) => {
    const client = await RespClient.connect({ network: systemNetwork, clock: systemClock, host: "127.0.0.1", port });
    // Around the bounds from which on arguments are sent where they lie and commands before the turn ends.
    const sizes = [0, 1, 16_383, 16_384, 65_535, 65_536, 65_537, 100_000, 262_144, 600_000, 3, ...Array.from({ length: 12 }, (_, i) => 50_000 + i)];
    const values = sizes.map((size, i) => new Uint8Array(size).fill(65 + i));
    for (let round = 0; round < 3; round++) {
      const answers = values.flatMap((value, i) => [client.command("SET", `k${i}`, value), client.command("GET", `k${i}`)]);
      const text = "x".repeat(70_000 + round);
      answers.push(client.command("ECHO", text));
      const got = await Promise.all(answers);
      values.forEach((value, i) => {
        assert.equal(got[2 * i], "OK");
        assert.ok(Buffer.from(value).equals(got[2 * i + 1] as Uint8Array), `${sizes[i]} bytes`);
      });
      assert.equal(Buffer.from(got.at(-1) as Uint8Array).toString(), text);
    }
    client.close();
  });
});

test("promise: a reply that waits for durability never leaves when that fails", async () => {
  await serve(undefined, async ({ port }) => {
    const answer = await raw(port, "*2\r\n$3\r\nGET\r\n$1\r\na\r\n*2\r\n$6\r\nT.HOLD\r\n$4\r\nFAIL\r\n*2\r\n$3\r\nGET\r\n$1\r\na\r\n");
    assert.equal(answer, "$-1\r\n-ERR internal error, see the server's log\r\n");
  });
});

test("protocol errors read as Redis', close the connection and cost nobody else anything", async () => {
  await serve(undefined, async ({ port, metrics }) => {
    const other = await RespClient.connect({ network: systemNetwork, clock: systemClock, host: "127.0.0.1", port });
    const cases: [sent: string, text: string][] = [
      ["*x\r\n", "invalid multibulk length"],
      ["*2147483648\r\n", "invalid multibulk length"],
      ["*01\r\n", "invalid multibulk length"],
      ["*1\r\n$x\r\n", "invalid bulk length"],
      ["*1\r\n$-1\r\n", "invalid bulk length"],
      ["*1\r\n$536870913\r\n", "invalid bulk length"],
      ["*1\r\nfoo\r\n", "expected '$', got 'f'"],
      ['get "a\r\n', "unbalanced quotes in request"],
      ['get "a"b\r\n', "unbalanced quotes in request"],
      ["x".repeat(65_537), "too big inline request"],
      [`*${"1".repeat(65_537)}`, "too big mbulk count string"],
      [`*1\r\n$${"1".repeat(65_537)}`, "too big bulk count string"],
    ];
    for (const [sent, text] of cases) assert.equal(await raw(port, `PING\r\n${sent}`), `+PONG\r\n-ERR Protocol error: ${text}\r\n`, text);
    assert.equal(metrics.protocolErrors, cases.length);
    assert.equal(await raw(port, '*0\r\n*-1\r\n\r\n  \r\nset "k\\x41 1" \'v"\'\nget "kA 1"\r\necho  a\r\n'), '+OK\r\n$2\r\nv"\r\n$1\r\na\r\n');
    assert.equal(await raw(port, "POST / HTTP/1.1\r\nHost: x\r\nPING\r\n\r\n"), "");
    assert.equal(await other.command("PING"), "PONG");
    other.close();
  });
});

test("promise: before authentication only little is read, and nothing is told", async () => {
  await serve(secured, async ({ port }) => {
    assert.equal(await raw(port, "*11\r\n"), "-ERR Protocol error: unauthenticated multibulk length\r\n");
    assert.equal(await raw(port, "*1\r\n$16385\r\n"), "-ERR Protocol error: unauthenticated bulk length\r\n");
    assert.equal(
      await raw(port, "GET a\r\nGET\r\nFOO\r\nHELLO 3\r\nCONFIG GET x\r\nRESET\r\nQUIT\r\n"),
      [
        "-NOAUTH Authentication required.",
        "-ERR wrong number of arguments for 'get' command",
        "-ERR unknown command 'FOO', with args beginning with: ",
        "-NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the same time",
        "-NOAUTH Authentication required.",
        "+RESET",
        "+OK",
        "",
      ].join("\r\n"),
    );
    // The limits end with the AUTH, within one chunk.
    const large = "x".repeat(20_000);
    assert.equal(
      await raw(
        port,
        `*3\r\n$4\r\nAUTH\r\n$5\r\nalice\r\n$16\r\nalice's password\r\n*3\r\n$3\r\nSET\r\n$3\r\na:1\r\n$${large.length}\r\n${large}\r\nGET r:1\r\nSET r:1 x\r\nCONFIG GET *\r\n`,
      ),
      "+OK\r\n+OK\r\n$-1\r\n-NOPERM this user has no permissions to access one of the keys used as arguments\r\n-NOPERM this user has no permissions to run the 'config|get' command\r\n",
    );
    assert.match(await raw(port, "AUTH alice wrong\r\nAUTH nobody x\r\n"), /^(?:-WRONGPASS invalid username-password pair or user is disabled\.\r\n){2}$/);
  });
});

test("promise: changed rules bind open connections at once; a user who is deleted or switched off loses them", async () => {
  await serve(secured, async ({ port }, access) => {
    const open = (): Promise<RespClient> =>
      RespClient.connect({
        network: systemNetwork,
        clock: systemClock,
        host: "127.0.0.1",
        port,
        user: "alice",
        password: "alice's password",
        reconnect: false,
      });
    const client = await open();
    assert.equal(await client.command("SET", "a:1", "x"), "OK");
    assert.equal(access.setUser("alice", ["-set"]), undefined);
    await assert.rejects(client.command("SET", "a:1", "y"), /NOPERM this user has no permissions to run the 'set' command/);
    assert.equal(access.setUser("alice", ["off"]), undefined);
    await assert.rejects(client.command("GET", "a:1"), /closed|broke/);
    await assert.rejects(open(), /WRONGPASS/);
    assert.equal(access.setUser("alice", ["on"]), undefined);
    const again = await open();
    assert.equal(access.deleteUser("alice"), true);
    await assert.rejects(again.command("PING"), /closed|broke/);
    client.close();
    again.close();
  });
});

test("a slow reader is held back, others are served meanwhile, and its replies arrive whole", async () => {
  await serve(undefined, async ({ port, sessions }) => {
    const socket = connect(port, "127.0.0.1");
    const size = 3_000_000;
    const count = 20;
    socket.write(`T.LARGE ${size}\r\n`.repeat(count));
    const other = await RespClient.connect({ network: systemNetwork, clock: systemClock, host: "127.0.0.1", port });
    for (let i = 0; i < 50; i++) assert.equal(await other.command("PING"), "PONG");
    const waiting = Math.max(...[...sessions.values()].map((session) => session.outputBytes));
    assert.ok(waiting < size * 3, `${waiting} bytes wait`);
    let bytes = 0;
    await new Promise<void>((resolve) => {
      socket.on("data", (chunk) => {
        bytes += chunk.length;
        if (bytes === (size + 12) * count) resolve();
      });
    });
    socket.destroy();
    other.close();
  });
});

test("limits: connections, idle time, time to authenticate, input and output of one connection", async () => {
  await serve(
    undefined,
    async ({ port, metrics }) => {
      const first = connect(port, "127.0.0.1");
      const second = connect(port, "127.0.0.1");
      first.write("PING\r\n");
      await new Promise((resolve) => first.once("data", resolve));
      await new Promise((resolve) => setTimeout(resolve, 30));
      assert.equal(await raw(port, ""), "-ERR max number of clients reached\r\n");
      first.write("*2\r\n$3\r\nGET\r\n$3000000\r\n");
      for (let i = 0; i < 40; i++) first.write(Buffer.alloc(65_536));
      first.on("error", () => undefined);
      await new Promise((resolve) => first.once("close", resolve));
      second.resume();
      second.write("T.LARGE 9000000\r\n");
      second.on("error", () => undefined);
      await new Promise((resolve) => second.once("close", resolve));
      assert.deepEqual([metrics.connectionsRefused, metrics.closedForInput, metrics.closedForOutput], [1, 1, 1]);
    },
    { connectionsMax: 2, inputBytesMax: 1_500_000, outputBytesMax: 4_000_000 },
  );
});

test("beyond loopback it listens only with configured access", async () => {
  const commands = new CommandTable(inMemoryCommands());
  const access = new Access({ commands, clock: systemClock });
  await assert.rejects(startRespServer({ network: systemNetwork, clock: systemClock, host: "0.0.0.0", port: 0, commands, access }), /\[unauthorized\]/);
  const configured = new Access({ commands, clock: systemClock, config: secured.users["bob"] === undefined ? secured : { users: {} } });
  const server = await startRespServer({ network: systemNetwork, clock: systemClock, host: "0.0.0.0", port: 0, commands, access: configured });
  await server.drain(100);
});

test("fuzz: random and mutated bytes crash nothing and disturb nobody", async () => {
  const seed = process.env["SEED"] ?? String(Date.now());
  console.log(`SEED=${seed}`);
  const random = new Prng(seed);
  await serve(undefined, async ({ port }) => {
    const other = await RespClient.connect({ network: systemNetwork, clock: systemClock, host: "127.0.0.1", port });
    const valid = Buffer.from(
      '*3\r\n$3\r\nSET\r\n$1\r\na\r\n$5\r\nhello\r\n*2\r\n$3\r\nGET\r\n$1\r\na\r\nping "x y"\r\n*1\r\n$4\r\nINFO\r\n*3\r\n$5\r\nHELLO\r\n$1\r\n3\r\n$4\r\nAUTH\r\n',
    );
    for (let round = 0; round < 40; round++) {
      const parts: Uint8Array[] = [];
      for (let i = 0; i < 5; i++) {
        const bytes = Buffer.from(valid);
        for (let m = random.below(6); m > 0; m--) bytes[random.below(bytes.length)] = random.below(256);
        parts.push(random.chance(0.2) ? random.bytes(new Uint8Array(200)) : bytes.subarray(0, random.below(bytes.length)));
      }
      await raw(port, parts, 10);
      assert.equal(await other.command("PING"), "PONG");
    }
    other.close();
  });
});

/** A redis-server of its own on a free port. */
async function redisServer(): Promise<{ port: number; process: ChildProcess }> {
  const port = await new Promise<number>((resolve) => {
    const probe = createServer().listen(0, "127.0.0.1", () => {
      const { port: free } = probe.address() as { port: number };
      probe.close(() => resolve(free));
    });
  });
  const process = spawn("redis-server", ["--port", String(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", "/tmp"], {
    stdio: "ignore",
  });
  for (let i = 0; i < 100; i++) {
    const answer = await raw(port, "PING\r\nQUIT\r\n").catch(() => "");
    if (answer.startsWith("+PONG")) return { port, process };
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  process.kill();
  throw new Error("redis-server did not start");
}

/** Calls whose answers are compared byte for byte. */
const compared = [
  "PING",
  "PING x",
  "PING a b",
  "ECHO",
  "ECHO grüße",
  "FOO",
  "FOO a b c",
  `FOO ${"x".repeat(200)} y`,
  "GET",
  "GET a b",
  "SELECT 0",
  "SELECT a",
  "SELECT 99",
  "SELECT 99999999999",
  "CLIENT",
  "CLIENT FOO",
  "CLIENT GETNAME",
  "CLIENT SETNAME x",
  "CLIENT SETNAME",
  "CLIENT GETNAME",
  'CLIENT SETNAME "a b"',
  "CLIENT KILL foo",
  "CLIENT KILL ID abc",
  "CLIENT KILL ID 123456",
  "CLIENT KILL TYPE foo",
  "CLIENT KILL USER nobody",
  "CLIENT KILL FOO BAR",
  "CLIENT LIST TYPE foo",
  "CLIENT LIST FOO",
  "CLIENT LIST ID x",
  "CLIENT LIST ID 123456",
  "CLIENT PAUSE x",
  "CLIENT PAUSE 1 FOO",
  "CLIENT PAUSE -1",
  "CLIENT UNPAUSE",
  "CLIENT REPLY FOO",
  "CLIENT NO-EVICT FOO",
  "CLIENT NO-EVICT ON",
  "CLIENT UNBLOCK 3 FOO",
  "CLIENT UNBLOCK x",
  "CLIENT UNBLOCK 123456",
  "HELLO 4",
  "HELLO a",
  "HELLO 2 FOO",
  "HELLO 2 AUTH a b",
  "HELLO 2 AUTH",
  'HELLO 2 SETNAME "a b"',
  "AUTH x",
  "AUTH x y",
  "AUTH x y z",
  "AUTH default x",
  "CONFIG",
  "CONFIG GET",
  "CONFIG GET nosuch",
  "CONFIG GET timeout",
  "CONFIG GET MAXMEMORY",
  "CONFIG SET",
  "CONFIG SET foo bar",
  "CONFIG SET maxclients abc",
  "CONFIG SET timeout 1 timeout 2",
  "CONFIG SET timeout 1 maxclients",
  "CONFIG SET appendonly maybe",
  "CONFIG SET maxmemory x",
  "CONFIG SET databases 3",
  "CONFIG REWRITE",
  "CONFIG RESETSTAT",
  "COMMAND GETKEYS GET",
  "COMMAND GETKEYS GET a",
  "COMMAND GETKEYS PING x",
  "COMMAND GETKEYS FOO x",
  "COMMAND GETKEYS MGET a b c",
  "COMMAND INFO nosuch",
  "COMMAND DOCS nosuch",
  "COMMAND LIST FILTERBY FOO x",
  "COMMAND LIST FILTERBY ACLCAT nosuch",
  "COMMAND LIST FILTERBY PATTERN hell?",
  "COMMAND LIST FOO",
  "ROLE",
  "WAIT 0 0",
  "WAIT a 0",
  "WAIT 0 a",
  "WAIT 0 -1",
  "SLOWLOG FOO",
  "SLOWLOG GET -5",
  "SLOWLOG GET x",
  "SLOWLOG RESET",
  "SLOWLOG LEN",
  "LATENCY LATEST",
  "LATENCY RESET",
  "MODULE LIST",
  "MEMORY FOO",
  "MEMORY USAGE nosuch",
  "MEMORY USAGE a FOO 1",
  "ACL",
  "ACL FOO",
  "ACL WHOAMI",
  "ACL LIST",
  "ACL USERS",
  "ACL CAT",
  "ACL CAT nosuch",
  "ACL GETUSER default",
  "ACL GETUSER nobody",
  "ACL SETUSER al on >pw ~a:* %R~r:* +get (+@read ~x:* %W~y) &c:*",
  "ACL LIST",
  "ACL GETUSER al",
  "ACL DRYRUN al get a:1",
  "ACL DRYRUN al get z",
  "ACL DRYRUN al del z",
  "ACL DRYRUN al foo z",
  "ACL DRYRUN al get",
  "ACL DRYRUN nobody get a",
  "ACL SETUSER al <pw",
  "ACL SETUSER al <pw",
  "ACL SETUSER al nopass off resetkeys resetchannels clearselectors",
  "ACL LIST",
  "ACL SETUSER al %X~s",
  "ACL SETUSER al (~s",
  "ACL SETUSER al ~* ~s",
  "ACL SETUSER al &* &s",
  "ACL SETUSER al +nosuch",
  "ACL SETUSER al +@nosuch",
  "ACL SETUSER al +config|nosuch",
  "ACL SETUSER al -get|x",
  "ACL SETUSER al foo",
  "ACL SETUSER al #12",
  'ACL SETUSER "a b" on',
  "ACL DELUSER default",
  "ACL DELUSER nobody al",
  "ACL GENPASS 0",
  "ACL GENPASS x",
  "ACL LOG RESET",
  "ACL LOG",
  "ACL LOG x",
  "ACL SAVE",
  "ACL LOAD",
  "QUIT",
];

test(
  "promise: errors and answers of connection, server and access commands are those of redis-server, byte for byte",
  { skip: missing("redis-server") },
  async () => {
    const redis = await redisServer();
    try {
      await serve(undefined, async ({ port }) => {
        for (const hello of ["", "HELLO 3\r\n"]) {
          const different: string[] = [];
          // One by one, so that a difference names its call.
          const ours = await answersOf(port, hello, compared);
          const theirs = await answersOf(redis.port, hello, compared);
          for (const [i, line] of compared.entries())
            if (ours[i] !== theirs[i]) different.push(`${line}\n  ours   ${JSON.stringify(ours[i])}\n  theirs ${JSON.stringify(theirs[i])}`);
          assert.equal(different.join("\n"), "");
        }
      });
    } finally {
      redis.process.kill();
    }
  },
);

/** The answer of each line, told apart by a marker that is sent behind each. */
async function answersOf(port: number, hello: string, lines: readonly string[]): Promise<string[]> {
  const marker = "*2\r\n$4\r\nECHO\r\n$8\r\n--mark--\r\n";
  const answer = await raw(port, hello + lines.map((line) => `${line}\r\n${marker}`).join(""), 400);
  const parts = answer.split("$8\r\n--mark--\r\n");
  if (hello !== "") parts[0] = parts[0]!.slice(parts[0]!.indexOf("+PONG"));
  return parts.map((part) => Buffer.from(part, "latin1").toString());
}
