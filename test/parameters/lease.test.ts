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
    assert.ok(performance.now() - started < 120_000, what);
    await sleep(5);
  }
  return performance.now() - started;
}

const answers = (call: Promise<unknown>): Promise<boolean> =>
  call.then(
    () => true,
    () => false,
  );

const skip = process.env["MILLRACE_LONG"] === undefined ? "takes 30 s, a long test: npm run test:long -- lease" : false;

test("promise: a killed leader of parameter tables is followed by another server, which has what it had handed out", { timeout: 400_000, skip }, async (t) => {
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
  const portOf = (side: Side): number => ports[sides.indexOf(side)]!;
  let added = 0;
  /** Adds 1 to all keys where that is taken. A leader that this machine lets stand still for long loses the tables, too: then the other one is the leader from now on. */
  const write = async (): Promise<void> => {
    await until("a server takes writes", async () => {
      for (const side of [leader, follower]) {
        if (side.server === undefined || !(await answers(side.add(keys)))) continue;
        if (side !== leader) [leader, follower] = [follower, leader];
        return true;
      }
      return false;
    });
    added++;
  };
  /** What no other server had received when a leader fell is lost; by what this machine makes of leases that may be some. */
  const lostMax = 25;
  const hasAll = (row: number): boolean => row <= added && row >= added - lostMax;
  await leader.start();
  await write();
  await follower.start();
  const failovers: string[] = [];
  for (let round = 0; round < 3; round++) {
    await until("the follower has it", () => follower.pull().then((rows) => rows.every(hasAll)));
    await until("the follower names the leader", async () => {
      await write();
      const refused = await follower.add(keys.subarray(0, 1)).then(
        () => "",
        (thrown: unknown) => String(thrown),
      );
      return refused.includes(`takes no writes here: 127.0.0.1:${portOf(leader)} leads it`);
    });
    for (let i = 0; i < 50; i++) await write();
    await until("the follower has all", () => follower.pull().then((rows) => rows.every(hasAll)));
    const [dead, next] = [leader, follower];
    let over = false;
    const reading = (async () => {
      for (let reads = 0; ; reads++) {
        const rows = await next.pull();
        assert.ok(
          rows.every((row) => row >= added - lostMax - 1),
          "a read of the follower fails",
        );
        if (over) return reads;
        await sleep(2);
      }
    })();
    await dead.kill();
    const killed = performance.now();
    await write();
    const tookMs = performance.now() - killed;
    assert.equal(leader, next);
    over = true;
    failovers.push(`${tookMs.toFixed(0)} ms, ${await reading} reads`);
    assert.ok((await leader.pull()).every(hasAll));
    // Two seconds are the promise; a machine with other work gets ten.
    assert.ok(tookMs < 10_000, `the fail-over took ${tookMs} ms`);
    // The dead one comes back, empty since its last checkpoint, and follows.
    await dead.start();
  }
  t.diagnostic(`fail-overs: ${failovers.join("; ")}`);
  const metrics = await fetch(`${leader.server!.address}/metrics`).then((answer) => answer.text());
  assert.match(metrics, /rec_ps_sync_lost_writes\{table="user"\} \d+\n/);

  // Stopped for longer than its lease, it takes no write when it wakes: another one leads.
  await until("the follower has it", () => follower.pull().then((rows) => rows.every(hasAll)));
  const [stopped, next] = [leader, follower];
  process.kill(stopped.server!.pid, "SIGSTOP");
  const stoppedMs = await until("the other one takes writes", () => answers(next.add(keys)));
  added++;
  process.kill(stopped.server!.pid, "SIGCONT");
  await assert.rejects(stopped.add(keys), /takes no writes here|changing hands/);
  [leader, follower] = [next, stopped];
  await until("the woken one follows", () => follower.pull().then((rows) => rows.every(hasAll)));
  t.diagnostic(`after SIGSTOP another one led after ${stoppedMs.toFixed(0)} ms`);
  assert.ok(stoppedMs < 10_000);

  // An orderly stop hands over, too.
  await write();
  const ending = leader.server!.stop();
  await until("the other one takes writes", () => answers(follower.add(keys)));
  await ending;
});
