// Guards the promise to users of the Redis port: the server may die at any moment (kill -9 under pipelined writes), and after the next start what each connection had
// written is the effect of a prefix of its commands that reaches at least to its last acknowledged one. So nothing acknowledged is lost, nothing is applied
// twice (most commands are increments), nothing out of order, no transaction by half.
// The server is the real process, started as a user starts it; a further connection asks for flushes and deletes, so that some deaths fall into them.
// Killing a process does not lose what the operating system has, so `interval` must lose nothing here either; power cuts are simulated (src/lsm/store-crash.test.ts).
// MILLRACE_LONG: 50 kills at each policy, the 100 of the promise.

import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Prng } from "#base/prng";
import { startServerProcess, temporaryFolder } from "../../bench/load/server-process.ts";
import { RawClient, type Tree } from "./raw-client.ts";

const long = process.env["MILLRACE_LONG"] !== undefined;
const seed = Number(process.env["SEED"] ?? 20_26);
const kills = long ? 50 : 3;
const connections = 3;
const counters = 40;
const batchCommandsMax = 120;

type State = Map<string, string>;
interface Sent {
  readonly command: readonly string[];
  /** What it changes once its reply came; the commands inside MULTI change something with EXEC. */
  readonly apply?: (state: State) => void;
}

const add = (state: State, key: string, by: number): void => void state.set(key, String(Number(state.get(key) ?? 0) + by));

/** A few commands of one connection on its own keys: one, or a transaction. */
function draw(prng: Prng, own: string, serial: number): Sent[] {
  const key = `${own}:counter:${prng.below(counters)}`;
  const field = `field-${prng.below(counters)}`;
  switch (prng.below(7)) {
    case 0:
      return [{ command: ["HINCRBY", `${own}:hash`, field, "3"], apply: (state) => add(state, `${own}:hash ${field}`, 3) }];
    case 1: {
      const value = `${serial}-${"x".repeat(prng.below(300))}`;
      return [{ command: ["SET", `${own}:text`, value, "EX", "100000"], apply: (state) => void state.set(`${own}:text`, value) }];
    }
    case 2:
      return [{ command: ["APPEND", `${own}:long`, "."], apply: (state) => void state.set(`${own}:long`, `${state.get(`${own}:long`) ?? ""}.`) }];
    case 3: {
      const both = (state: State): void => {
        add(state, key, 1);
        add(state, `${own}:transactions`, 1);
        state.delete(`${own}:text`);
      };
      return [{ command: ["MULTI"] }, { command: ["INCR", key] }, { command: ["INCR", `${own}:transactions`] }, { command: ["DEL", `${own}:text`] }].concat([
        { command: ["EXEC"], apply: both } as Sent & { command: string[] },
      ]);
    }
    default:
      return [{ command: ["INCR", key], apply: (state) => add(state, key, 1) }];
  }
}

/** All that stands under the connection's keys, hash fields as `key field`. */
async function readState(client: RawClient, own: string): Promise<State> {
  const keys = [...Array.from({ length: counters }, (_, index) => `${own}:counter:${index}`), `${own}:transactions`, `${own}:text`, `${own}:long`];
  const [values, hash] = await client.send([
    ["MGET", ...keys],
    ["HGETALL", `${own}:hash`],
  ]);
  const state: State = new Map();
  const plain = ([type, content]: Tree): string => {
    assert.equal(type, "$");
    return (content as string).slice(1, -1);
  };
  for (const [index, value] of (values![1] as readonly Tree[]).entries()) if (value[1] !== "nil") state.set(keys[index]!, plain(value));
  const flat = hash![1] as readonly Tree[];
  for (let index = 0; index < flat.length; index += 2) state.set(`${own}:hash ${plain(flat[index]!)}`, plain(flat[index + 1]!));
  return state;
}

const same = (one: State, other: State): boolean => one.size === other.size && [...one].every(([key, value]) => other.get(key) === value);

/** One connection: what it sent since the last start, and the state from which it went out. */
class Writer {
  readonly own: string;
  readonly #prng: Prng;
  #state: State = new Map();
  #sent: Sent[] = [];
  #client: RawClient | undefined;
  #serial = 0;

  constructor(own: string, prng: Prng) {
    this.own = own;
    this.#prng = prng;
  }

  get acknowledged(): number {
    return this.#client?.received ?? 0;
  }

  /** Sends batches until the server dies. */
  async writeUntilDeath(port: number): Promise<void> {
    this.#sent = [];
    const client = (this.#client = await RawClient.open(port));
    for (;;) {
      const batch: Sent[] = [];
      const size = this.#prng.between(1, batchCommandsMax);
      while (batch.length < size) batch.push(...draw(this.#prng, this.own, (this.#serial += 1)));
      this.#sent.push(...batch);
      let replies: Tree[];
      try {
        replies = await client.send(batch.map(({ command }) => command));
      } catch {
        return;
      }
      for (const [type, content] of replies) assert.notEqual(type, "-", String(content));
    }
  }

  /** Judges what the next server has, and goes on from there. Returns how many unacknowledged commands had been applied. */
  async check(client: RawClient, place: string): Promise<{ readonly acknowledged: number; readonly beyond: number }> {
    const found = await readState(client, this.own);
    const { acknowledged } = this;
    const expected = new Map(this.#state);
    for (let count = 0; count <= this.#sent.length; count += 1) {
      if (count >= acknowledged && same(expected, found)) {
        this.#state = found;
        return { acknowledged, beyond: count - acknowledged };
      }
      this.#sent[count]?.apply?.(expected);
    }
    const least = new Map(this.#state);
    for (const { apply } of this.#sent.slice(0, acknowledged)) apply?.(least);
    const differs = [...new Set([...least.keys(), ...found.keys()])].filter((key) => least.get(key) !== found.get(key));
    const shown = differs.slice(0, 10).map((key) => `${key}: at least ${least.get(key)?.slice(0, 20)}, found ${found.get(key)?.slice(0, 20)}`);
    return assert.fail(`${place}: no prefix of the ${this.#sent.length} commands, ${acknowledged} of them answered, has this effect:\n${shown.join("\n")}`);
  }
}

/** Lets flushes and deletions happen until the server dies. */
async function disturb(port: number, prng: Prng): Promise<void> {
  const client = await RawClient.open(port);
  try {
    for (;;) {
      await client.send([["BGSAVE"], ["MSET", "other:1", "1", "other:2", "2"], ["DEL", "other:1"]]);
      await sleep(prng.between(5, 60));
    }
  } catch {
    client.close();
  }
}

for (const durability of ["always", "interval"] as const) {
  test(`promise: no write over the Redis port acknowledged at ${durability} is lost by kill -9, none is applied twice (${kills} kills under load)`, async (t) => {
    t.diagnostic(`SEED=${seed}`);
    if (!long) t.diagnostic(`reduced: ${kills} kills, MILLRACE_LONG=1 makes 50`);
    const prng = new Prng(seed).fork(durability);
    const folder = temporaryFolder();
    const config = join(folder.path, "config.json");
    writeFileSync(config, JSON.stringify({ model: null }));
    const start = (): ReturnType<typeof startServerProcess> => startServerProcess({ data: join(folder.path, "data"), durability, more: ["--config", config] });
    const writers = Array.from({ length: connections }, (_, index) => new Writer(`w${index}`, prng.fork(`writer-${index}`)));
    let answered = 0;
    let beyond = 0;
    let server = await start();
    try {
      for (let kill = 0; kill < kills; kill += 1) {
        const writing = [...writers.map((writer) => writer.writeUntilDeath(server.respPort)), disturb(server.respPort, prng.fork(`disturb-${kill}`))];
        const gone = Promise.all(writing);
        // Not before something was acknowledged, then at any moment.
        const before = Date.now();
        while (!writers.every(({ acknowledged }) => acknowledged > 0)) {
          assert.ok(Date.now() - before < 20_000, "no write was acknowledged within 20 s");
          await Promise.race([sleep(2), gone]);
        }
        await Promise.race([sleep(prng.between(0, 400)), gone]);
        await server.kill();
        await gone;

        server = await start();
        const client = await RawClient.open(server.respPort);
        for (const writer of writers) {
          const one = await writer.check(client, `kill ${kill + 1}, connection ${writer.own}`);
          answered += one.acknowledged;
          beyond += one.beyond;
        }
        client.close();
      }
      assert.equal(await server.stop(), 0);
      t.diagnostic(`${answered} commands answered before a kill, ${beyond} that were not answered had been applied`);
    } finally {
      await server.kill();
      folder.remove();
    }
  });
}
