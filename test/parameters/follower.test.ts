// promise: a server that follows another one's parameter tables answers with their rows some milliseconds later; killed, stopped or restarted under load it catches up by itself, and once it
// is ready no read of it fails. A leader that is killed gets back from its follower what it had not saved.
// Two real servers, started as a user starts them.

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
const keyCount = 2_000;
const tables = { user: { dim, memoryMb: 8, shards: 2, seed: 7, initialScale: 0.1, checkpoint: { everySeconds: 3_600 } } };
const allKeys = BigUint64Array.from({ length: keyCount }, (_, i) => BigInt(i) + 1n);
const keysBlob = (keys: BigUint64Array): Buffer => Buffer.from(keys.slice().buffer);
const rowsBlob = (count: number, value: number): Buffer => Buffer.from(new Float32Array(count * dim).fill(value).buffer);

interface Pulled {
  readonly missing: number;
  readonly numbers: Float32Array;
}

class Side {
  server: ServerProcess | undefined;
  redis: Redis | undefined;
  readonly #start: () => Promise<ServerProcess>;

  constructor(start: () => Promise<ServerProcess>) {
    this.#start = start;
  }

  async start(): Promise<void> {
    this.server = await this.#start();
    this.redis = new Redis({ port: this.server.respPort, host: "127.0.0.1", retryStrategy: null, maxRetriesPerRequest: 0 });
    this.redis.on("error", () => undefined);
  }

  async kill(): Promise<void> {
    this.redis?.disconnect();
    await this.server?.kill();
  }

  call(name: string, ...args: (string | Buffer)[]): Promise<unknown> {
    return this.redis!.callBuffer(name, ...args);
  }

  async pull(keys = allKeys): Promise<Pulled> {
    const blob = new Uint8Array((await this.call("PPULL", "user", keysBlob(keys))) as Buffer);
    const { rows, missing, numbersAt } = readPullHead(blob);
    return { missing, numbers: new Float32Array(blob.buffer, numbersAt, rows * dim) };
  }

  /** How often a pull was refused before the first that was answered; only with what a table that is not ready says. */
  async ready(): Promise<number> {
    for (let refused = 0; ; refused++) {
      try {
        await this.pull();
        return refused;
      } catch (thrown) {
        assert.match((thrown as Error).message, /being opened|is not ready: it is being loaded from 127\.0\.0\.1|no parameter table "user"/);
        assert.ok(refused < 3_000, (thrown as Error).message);
        await sleep(10);
      }
    }
  }
}

async function until(what: string, claim: () => Promise<boolean>): Promise<number> {
  const started = performance.now();
  while (!(await claim())) {
    assert.ok(performance.now() - started < 30_000, what);
    await sleep(5);
  }
  return performance.now() - started;
}

test(
  "promise: a follower catches up by itself after anything, no read of it fails once it is ready, and a leader that died gets its rows back",
  { timeout: 180_000 },
  async (t) => {
    const folder = temporaryFolder();
    t.after(() => folder.remove());
    const ports = [await freePort(), await freePort()] as const;
    const sideOf = (n: 0 | 1): Side => {
      const configPath = join(folder.path, `config-${n}.json`);
      const sync = { node: n + 1, port: ports[n], token: "a token of both", ...(n === 0 ? {} : { follow: [`127.0.0.1:${ports[0]}`] }) };
      writeFileSync(configPath, JSON.stringify({ model: null, parameters: { tables, sync } }));
      const side = new Side(() => startServerProcess({ data: join(folder.path, `data-${n}`), durability: "none", more: ["--config", configPath] }));
      t.after(() => side.kill());
      return side;
    };
    const [leader, follower] = [sideOf(0), sideOf(1)];
    await leader.start();
    await leader.call("PASSIGN", "user", keysBlob(allKeys), rowsBlob(keyCount, 1));
    await follower.start();
    await follower.ready();
    const first = await follower.pull();
    assert.deepEqual([first.missing, first.numbers.every((value) => value === 1)], [0, true]);
    await assert.rejects(follower.call("PADD", "user", keysBlob(allKeys.subarray(0, 1)), rowsBlob(1, 1)), {
      message: new RegExp(`takes no writes here: it follows 127.0.0.1:${ports[0]}`),
    });

    // From now on: additions of 1 to ten keys in turn, and a reader at the follower.
    let [writing, reading, added, reads, failed] = [true, true, 0, 0, 0];
    const writer = (async () => {
      for (let round = 0; writing; round++) {
        const at = (round * 10) % keyCount;
        try {
          await leader.call("PADD", "user", keysBlob(allKeys.subarray(at, at + 10)), rowsBlob(10, 1));
          added += 10;
        } catch {
          // The leader is away.
        }
        await sleep(2);
      }
    })();
    const reader = (async () => {
      for (;;) {
        while (reading === false && writing) await sleep(5);
        if (!writing) return;
        try {
          const { missing } = await follower.pull();
          reads++;
          if (missing > 0) failed++;
        } catch {
          if (reading) failed++;
        }
        await sleep(2);
      }
    })();
    const probe = allKeys.subarray(keyCount - 1);
    const visible = async (value: number): Promise<number> => {
      await leader.call("PASSIGN", "user", keysBlob(probe), rowsBlob(1, value));
      return until(`${value} at the follower`, async () => (await follower.pull(probe)).numbers[0]! >= value);
    };
    const visibleMs = await visible(1e5);

    // Stopped for longer than silence is borne.
    process.kill(follower.server!.pid, "SIGSTOP");
    await sleep(2_000);
    process.kill(follower.server!.pid, "SIGCONT");
    const wokenMs = await visible(2e5);

    // Killed; it comes back without a row of its own.
    reading = false;
    await follower.kill();
    await sleep(200);
    await follower.start();
    const refused = await follower.ready();
    reading = true;
    await visible(3e5);

    // The leader dies with everything that it never saved. Its follower serves on, and hands in what it holds.
    await until("the follower holds what was written", async () => {
      const [one, other] = await Promise.all([leader.pull(probe), follower.pull(probe)]);
      return one.numbers[0] === other.numbers[0];
    });
    // A checkpoint of an old state: it knows that there was a follower.
    await leader.call("PSAVE", "user");
    const saved = added;
    await until("the checkpoint is old", () => Promise.resolve(added > saved + 4_000));
    await leader.kill();
    const addedBefore = added;
    await sleep(300);
    await leader.start();
    const restoredMs = await until("the leader has its rows back", async () => (await leader.pull().catch(() => undefined))?.missing === 0);
    await visible(4e5);
    await until("writes go on", () => Promise.resolve(added > addedBefore + 100));
    writing = false;
    await Promise.all([writer, reader]);
    await until("both hold the same", async () => {
      const [one, other] = await Promise.all([leader.pull(), follower.pull()]);
      return one.missing === 0 && other.missing === 0 && one.numbers.every((value, i) => value === other.numbers[i]);
    });
    const sum = (await leader.pull()).numbers.reduce((all, value, i) => (i % dim === 0 && i < (keyCount - 1) * dim ? all + value - 1 : all), 0);
    const info = (await follower.call("PINFO", "user")) as unknown[];
    const sync = String(info);
    t.diagnostic(
      `visible after ${visibleMs.toFixed(1)} ms, ${wokenMs.toFixed(0)} ms after a stop of 2 s; ${refused} pulls refused before the restarted follower was ready; ` +
        `${reads} reads, ${failed} failed; the leader's rows were back ${restoredMs.toFixed(0)} ms after it listened; ${added} additions answered, ${sum} of them count`,
    );
    // Without the follower all would be lost that came after the checkpoint; a write to an old row would win over what the follower holds.
    assert.ok(sum >= added - 1_000, `${added} additions answered, ${sum} of them count`);
    assert.equal(failed, 0);
    assert.ok(reads > 50);
    assert.ok(sync.includes("digestMismatches"));
  },
);
