// promise: whoever knows Redis 7.0 knows millrace: the same commands, right and wrong ones, get the same replies, byte for byte.
// Seeded random commands go to millrace and to a real redis-server, by RESP2 and RESP3, pipelined, over two connections, with MULTI and WATCH between them.
// A difference is shrunk to the shortest list that still shows it.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Prng } from "#base/prng";
import { freshSeed } from "#platform/fresh-seed";
import { startMillrace, type MillraceServer } from "./millrace-server.ts";
import { RawClient, type Tree } from "./raw-client.ts";
import { randomSteps, sameReply, type Step } from "./random-commands.ts";
import { findRedisServer, type RedisServer, startRedisServer } from "./redis-server.ts";

const program = findRedisServer();
const long = process.env["MILLRACE_LONG"] !== undefined;
const seeds = [freshSeed()];
const rounds = long ? 200 : 12;
const stepsPerRound = 150;

let redis: RedisServer;
let millrace: MillraceServer;

before(async () => {
  if (program === undefined) return;
  redis = await startRedisServer(program);
  millrace = await startMillrace();
});
after(async () => {
  await millrace?.stop();
  await redis?.stop();
});

/** Replies of all steps, in order. */
async function replies(port: number, protocol: 2 | 3, steps: readonly Step[]): Promise<Tree[]> {
  const clients = [await RawClient.open(port), await RawClient.open(port)] as const;
  try {
    await clients[0].send([["FLUSHALL"]]);
    if (protocol === 3) for (const client of clients) await client.send([["HELLO", "3"]]);
    const found: Tree[] = [];
    for (let i = 0; i < steps.length;) {
      const { connection } = steps[i]!;
      const run: (readonly string[])[] = [];
      for (; i < steps.length && steps[i]!.connection === connection; i++) run.push(steps[i]!.args);
      found.push(...(await clients[connection].send(run)));
    }
    return found;
  } finally {
    for (const client of clients) client.close();
  }
}

interface Difference {
  readonly at: number;
  readonly text: string;
}

async function difference(protocol: 2 | 3, steps: readonly Step[]): Promise<Difference | undefined> {
  const [ours, theirs] = [await replies(millrace.port, protocol, steps), await replies(redis.port, protocol, steps)];
  const queues: (readonly string[])[][] = [[], []];
  for (const [i, { connection, args }] of steps.entries()) {
    const queue = queues[connection]!;
    const name = args[0]!.toUpperCase();
    const shown = (tree: Tree): string => JSON.stringify(tree).slice(0, 2_000);
    if (!sameReply(args, ours[i]!, theirs[i]!, queue)) return { at: i, text: `millrace ${shown(ours[i]!)}\nredis    ${shown(theirs[i]!)}` };
    if (theirs[i]![1] === "QUEUED") queue.push(args);
    else if (name === "EXEC" || name === "DISCARD" || (name === "MULTI" && theirs[i]![1] === "OK")) queue.length = 0;
  }
  return undefined;
}

/** Leaves out what is not needed to show a difference. */
async function shrink(protocol: 2 | 3, steps: readonly Step[]): Promise<Step[]> {
  let kept = [...steps];
  for (let piece = Math.ceil(kept.length / 2); piece >= 1; piece = piece === 1 ? 0 : Math.ceil(piece / 2)) {
    for (let at = 0; at < kept.length;) {
      const without = [...kept.slice(0, at), ...kept.slice(at + piece)];
      if (without.length > 0 && (await difference(protocol, without)) !== undefined) kept = without;
      else at += piece;
    }
  }
  return kept;
}

function lines(steps: readonly Step[]): string {
  return steps
    .map(
      ({ connection, args }) =>
        `  ${connection}: ${args
          .slice(0, 12)
          .map((arg) => JSON.stringify(arg.slice(0, 80)))
          .join(" ")}${args.length > 12 ? ` ... (${args.length})` : ""}`,
    )
    .join("\n");
}

test(
  "promise: random commands get Redis' replies, byte for byte, by RESP2 and RESP3",
  { skip: program === undefined ? "no redis-server in PATH (Debian: apt-get install redis-server)" : false, timeout: 600_000 },
  async (context) => {
    context.diagnostic(
      `redis-server ${redis.version}; seeds ${seeds.join(", ")}; ${rounds} rounds of ${stepsPerRound} commands${long ? "" : ", 200 with MILLRACE_LONG"}`,
    );
    for (const seed of seeds) {
      for (let round = 0; round < rounds; round++) {
        const random = new Prng(seed).fork(`round ${round}`);
        const protocol = round % 2 === 0 ? 2 : 3;
        const steps = randomSteps(random, stepsPerRound);
        const found = await difference(protocol, steps);
        if (found === undefined) continue;
        const short = await shrink(protocol, steps.slice(0, found.at + 1));
        const last = await difference(protocol, short);
        assert.fail(`SEED=${seed}, round ${round}, RESP${protocol}${last === undefined ? ", not seen again" : ""}:\n${(last ?? found).text}\n${lines(short)}`);
      }
    }
  },
);

/** Runs of one command that follow each other in a pipeline: distinct keys go another way than repeated ones. */
function runSteps(random: Prng): Step[] {
  const steps: Step[] = [];
  const number = (): string => random.pick(["1", "-3", "7", "x", "9223372036854775807"]);
  const field = (): string => `f${random.below(4)}`;
  const templates: (() => string[])[] = [
    () => ["INCR"],
    () => ["INCRBY", number()],
    () => ["APPEND", random.pick(["", "1", "abc"])],
    () => ["SET", number(), "GET"],
    () => ["SET", number(), "XX"],
    () => ["SETNX", number()],
    () => ["GETSET", number()],
    () => ["GETDEL"],
    () => ["SETRANGE", String(random.below(4)), "z"],
    () => ["INCRBYFLOAT", random.pick(["1.5", "x", "-0.25"])],
    () => ["HSET", field(), number(), field(), number()],
    () => ["HSETNX", field(), number()],
    () => ["HINCRBY", field(), number()],
    () => ["HDEL", field(), field()],
    () => ["EXPIRE", random.pick(["100", "-1", "x"])],
    () => ["PERSIST"],
    () => ["STRLEN"],
    () => ["GET"],
    () => ["TYPE"],
  ];
  for (let run = 0; run < 40; run++) {
    const [name, ...template] = random.pick(templates)();
    const keys = random.pick([5, 40, 2_000]);
    for (let call = 1 + random.below(40); call > 0; call--) {
      const again = random.chance(0.5) ? template : random.pick(templates.map((of) => of()).filter((one) => one[0] === name)).slice(1);
      steps.push({ connection: 0, args: [name!, `run:${random.below(keys)}`, ...again] });
    }
  }
  for (let key = 0; key < 40; key++) {
    steps.push({ connection: 0, args: ["GET", `run:${key}`] }, { connection: 0, args: ["HGETALL", `run:${key}`] });
    steps.push({ connection: 0, args: ["PERSIST", `run:${key}`] });
  }
  return steps;
}

test(
  "promise: pipelined runs of one command, on distinct and on repeated keys, get Redis' replies",
  { skip: program === undefined ? "no redis-server in PATH (Debian: apt-get install redis-server)" : false, timeout: 600_000 },
  async () => {
    for (const seed of seeds) {
      for (let round = 0; round < rounds; round++) {
        const steps = runSteps(new Prng(seed).fork(`runs ${round}`));
        const found = await difference(2, steps);
        if (found === undefined) continue;
        const short = await shrink(2, steps.slice(0, found.at + 1));
        const last = await difference(2, short);
        assert.fail(`SEED=${seed}, round ${round}${last === undefined ? ", not seen again" : ""}:\n${(last ?? found).text}\n${lines(short)}`);
      }
    }
  },
);
