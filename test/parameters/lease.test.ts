// promise: of two servers that share a registry one takes the writes of the parameter tables; killed, the other one does within two seconds and counts what it knows to be lost; the follower
// names the leader to whoever writes to it, and no read of it fails. Two real servers, started as a user starts them.

import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "ioredis";
import { readPullHead } from "#wire/parameter-api";
import { type ServerProcess, startServerProcess, temporaryFolder } from "../../bench/load/server-process.ts";
import { freePort } from "../free-port.ts";

const dim = 4;
const tables = { user: { dim, memoryMb: 4, shards: 2, checkpoint: { everySeconds: 3_600 } } };
const keys = BigUint64Array.from({ length: 500 }, (_, i) => BigInt(i) + 1n);
const keysBlob = (of: BigUint64Array): Buffer => Buffer.from(of.slice().buffer);
const rowsBlob = (count: number): Buffer => Buffer.from(new Float32Array(count * dim).fill(1).buffer);

class Side {
  server: ServerProcess | undefined;
  #redis: Redis | undefined;
  readonly #start: () => Promise<ServerProcess>;

  constructor(start: () => Promise<ServerProcess>) {
    this.#start = start;
  }

  async start(): Promise<void> {
    this.server = await this.#start();
    this.#redis = new Redis({ port: this.server.respPort, host: "127.0.0.1", retryStrategy: null, maxRetriesPerRequest: 0 });
    this.#redis.on("error", () => undefined);
  }

  async kill(): Promise<void> {
    this.#redis?.disconnect();
    await this.server?.kill();
    this.server = undefined;
  }

  add(of: BigUint64Array): Promise<unknown> {
    return this.#redis!.callBuffer("PADD", "user", keysBlob(of), rowsBlob(of.length));
  }

  /** The first number of each key. */
  async pull(): Promise<Float32Array> {
    const blob = new Uint8Array((await this.#redis!.callBuffer("PPULL", "user", keysBlob(keys))) as Buffer);
    const { rows, numbersAt } = readPullHead(blob);
    const numbers = new Float32Array(blob.buffer, numbersAt, rows * dim);
    return Float32Array.from(keys, (_, i) => numbers[i * dim]!);
  }
}

async function until(what: string, claim: () => Promise<boolean>): Promise<number> {
  const started = performance.now();
  while (!(await claim())) {
    assert.ok(performance.now() - started < 60_000, what);
    await sleep(5);
  }
  return performance.now() - started;
}

const answers = (call: Promise<unknown>): Promise<boolean> =>
  call.then(
    () => true,
    () => false,
  );

test("promise: a killed leader of parameter tables is followed by another server, which has what it had handed out", { timeout: 240_000 }, async (t) => {
  const folder = temporaryFolder();
  t.after(() => folder.remove());
  const ports = [await freePort(), await freePort()];
  const sides = ports.map((port, n) => {
    const path = join(folder.path, `config-${n}.json`);
    const sync = { node: n + 1, port, token: "a token of both", lead: "lease", registry: join(folder.path, "leaders.sqlite") };
    writeFileSync(path, JSON.stringify({ model: null, parameters: { tables, sync } }));
    const side = new Side(() => startServerProcess({ data: join(folder.path, `data-${n}`), durability: "none", more: ["--config", path] }));
    t.after(() => side.kill());
    return side;
  });
  let [leader, follower] = sides as [Side, Side];
  let leaderPort = ports[0]!;
  await leader.start();
  await until("the first leads", () => answers(leader.add(keys)));
  await follower.start();
  let added = 1;
  const failovers: string[] = [];
  for (let round = 0; round < 3; round++) {
    await until("the follower has it", () => follower.pull().then((rows) => rows[0] === added));
    await assert.rejects(follower.add(keys.subarray(0, 1)), { message: new RegExp(`takes no writes here: 127.0.0.1:${leaderPort} leads it`) });
    for (let i = 0; i < 50; i++) {
      await leader.add(keys);
      added++;
    }
    // What its follower does not have when a leader dies is lost; here it has all.
    await until("the follower has all", () => follower.pull().then((rows) => rows.every((row) => row === added)));
    const dead = leader;
    const reading = (async () => {
      for (let reads = 0; ; reads++) {
        const rows = await follower.pull();
        assert.ok(
          rows.every((row) => row >= added),
          "a read of the follower fails",
        );
        if (rows[0]! > added) return reads;
        await sleep(2);
      }
    })();
    await dead.kill();
    const killed = performance.now();
    await until("the other one takes writes", () => answers(follower.add(keys)));
    const tookMs = performance.now() - killed;
    const reads = await reading;
    added++;
    failovers.push(`${tookMs.toFixed(0)} ms, ${reads} reads`);
    assert.deepEqual([...new Set(await follower.pull())], [added]);
    // Two seconds are the promise; a machine with other work gets ten.
    assert.ok(tookMs < 10_000, `the fail-over took ${tookMs} ms`);
    // The dead one comes back, empty since its last checkpoint, and follows.
    await dead.start();
    [leader, follower] = [follower, dead];
    leaderPort = ports.find((port) => port !== leaderPort)!;
  }
  t.diagnostic(`fail-overs: ${failovers.join("; ")}`);
  const metrics = await fetch(`${leader.server!.address}/metrics`).then((answer) => answer.text());
  assert.match(metrics, /rec_ps_sync_lost_writes\{table="user"\} 0\n/);

  // Stopped for longer than its lease, it takes no write when it wakes: another one leads.
  await until("the follower has it", () => follower.pull().then((rows) => rows[0] === added));
  process.kill(leader.server!.pid, "SIGSTOP");
  const stoppedMs = await until("the other one takes writes", () => answers(follower.add(keys)));
  added++;
  process.kill(leader.server!.pid, "SIGCONT");
  await assert.rejects(leader.add(keys), /takes no writes here|changing hands/);
  [leader, follower] = [follower, leader];
  leaderPort = ports.find((port) => port !== leaderPort)!;
  await until("the woken one follows", () => follower.pull().then((rows) => rows[0] === added));
  t.diagnostic(`after SIGSTOP another one led after ${stoppedMs.toFixed(0)} ms`);
  assert.ok(stoppedMs < 10_000);

  // An orderly stop hands over, too.
  await until("the follower has it", () => follower.pull().then((rows) => rows[0] === added));
  const stopped = leader.server!.stop();
  await until("the other one takes writes", () => answers(follower.add(keys)));
  await stopped;
});
