// A process of the bench param-sync: the primary with its generator, or a follower that notes when an update can be read.

import { Prng } from "#base/prng";
import { systemClock } from "#platform/system-clock";
import { systemNetwork } from "#platform/system-network";
import { SyncNode } from "#params/sync/sync-node";
import { ownCpuMs } from "../harness.ts";
import { dim, keyCount, keyTo, newShard, type NodeOptions, type NodeReport, type Order, stampsPerTurn, stampUs, zipfRanks } from "./work.ts";

const options = JSON.parse(process.argv[2]!) as NodeOptions;
const base = BigInt(options.base);
const table = newShard();
const latencyMs: number[] = [];

const node = new SyncNode({
  table,
  name: "bench",
  node: options.node,
  network: systemNetwork,
  clock: systemClock,
  random: new Prng(options.node),
  times: { pollMs: 0 },
  onJoined({ entries }) {
    // The rows can be read from here on.
    const now = stampUs(base);
    for (let i = 0; i < entries.count; i++) latencyMs.push(((now - entries.values[i * dim]! + stampsPerTurn) % stampsPerTurn) / 1000);
  },
});

let updates = 0;
let lateMsMax = 0;
let since = { cpuMs: 0, updates: 0, entries: 0, pushes: 0, bytes: 0 };
let timer: NodeJS.Timeout | undefined;

function counts(): typeof since {
  const { entriesOut, entriesIn, pushesOut, pushesIn, bytesOut, bytesIn } = node.metrics;
  const bytes = bytesOut + bytesIn;
  return { cpuMs: ownCpuMs(), updates, entries: entriesOut + entriesIn, pushes: pushesOut + pushesIn, bytes };
}

function fill(): void {
  const batch = 1_024;
  const keys = new Uint32Array(2 * batch);
  const values = new Float32Array(batch * dim).fill(0.5);
  for (let rank = 0; rank < keyCount; rank += batch) {
    for (let i = 0; i < batch; i++) keyTo(rank + i, keys, i);
    node.assign(keys, batch, values);
  }
}

/** Every millisecond what is due: a worker that hands in its steps. Stamped with the time at which it was due. */
function write(perS: number): void {
  const ranks = zipfRanks(`writes ${perS}`, 1 << 20);
  const perBatch = Math.round(perS / 1000);
  const keys = new Uint32Array(2 * perBatch);
  const values = new Float32Array(perBatch * dim);
  const started = process.hrtime.bigint();
  let batches = 0;
  const tick = (): void => {
    const passedMs = Number((process.hrtime.bigint() - started) / 1000n) / 1000;
    while (batches < passedMs) {
      lateMsMax = Math.max(lateMsMax, passedMs - batches);
      const stamp = Number((started + BigInt(batches) * 1_000_000n - base) / 1000n) % stampsPerTurn;
      for (let i = 0; i < perBatch; i++) {
        keyTo(ranks[updates++ & (ranks.length - 1)]!, keys, i);
        values[i * dim] = stamp;
        values[i * dim + 1] = updates;
      }
      node.assign(keys, perBatch, values);
      batches++;
    }
    timer = setTimeout(tick, 1);
  };
  tick();
}

function digest(): string {
  let sum = 0n;
  for (let bucket = 0; bucket < table.buckets; bucket++) {
    const { high, low } = table.digest(bucket);
    sum += (BigInt(high) << 32n) + BigInt(low);
  }
  return (sum & 0xffff_ffff_ffff_ffffn).toString(16);
}

process.on("message", (message) => {
  const order = message as Order;
  if (order.order === "write") write(order.perS);
  else if (order.order === "stop") clearTimeout(timer);
  else if (order.order === "mark") {
    since = counts();
    latencyMs.length = 0;
    lateMsMax = 0;
  } else {
    const now = counts();
    const report: NodeReport = {
      updates: now.updates - since.updates,
      entries: now.entries - since.entries,
      pushes: now.pushes - since.pushes,
      bytes: now.bytes - since.bytes,
      cpuMs: now.cpuMs - since.cpuMs,
      digest: digest(),
      latencyMs,
      lateMsMax,
    };
    process.send!({ report });
  }
});
process.on("disconnect", () => process.exit(0));

const port = await node.listen({ host: "127.0.0.1", port: 0 });
if (options.sources.length === 0) {
  node.start();
  node.lead(
    Array.from({ length: node.groups }, (_, group) => group),
    1,
  );
  fill();
} else {
  for (const source of options.sources) node.addSource([{ host: "127.0.0.1", port: source }], "all");
  node.start();
  await node.whenReady(60_000);
}
process.send!({ port });
