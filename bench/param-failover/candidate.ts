// A process of the bench param-failover: a node that may lead, and a writer that adds 1 to keys of the buckets that it leads. Each batch is told to the parent as soon as it is applied: what
// was told stays told when this process is killed.

import { openSqliteRegistry } from "#backbone/sqlite-registry";
import { Prng } from "#base/prng";
import { systemClock } from "#platform/system-clock";
import { systemNetwork } from "#platform/system-network";
import { systemProcesses } from "#platform/system-processes";
import { LeadKeeper } from "#params/sync/lead-keeper";
import { SyncNode } from "#params/sync/sync-node";
import { dim, newShard } from "../param-sync/work.ts";
import { type CandidateOptions, hotKeys, keyWords, perBatch } from "./work.ts";

const { registryPath, node: number, perS } = JSON.parse(process.argv[2]!) as CandidateOptions;
const registry = openSqliteRegistry({ path: registryPath, clock: systemClock, processes: systemProcesses });
const table = newShard();
const node = new SyncNode({
  table,
  name: "failover",
  node: number,
  network: systemNetwork,
  clock: systemClock,
  random: new Prng(process.pid),
  times: { compareMs: 1_000 },
});
const port = await node.listen({ host: "127.0.0.1", port: 0 });
new LeadKeeper({ node, name: "failover", registry, clock: systemClock, address: { host: "127.0.0.1", port }, candidate: true }).start();

const random = new Prng(`writer ${process.pid}`);
const keys = new Uint32Array(2 * perBatch);
const ones = new Float32Array(perBatch * dim).fill(1);
let quiet = false;
let dueMs = performance.now();
const write = (): void => {
  if (quiet) return;
  // After a stop nothing is made up for.
  dueMs = Math.max(dueMs, performance.now() - 20);
  for (; dueMs < performance.now(); dueMs += (1_000 * perBatch) / perS) {
    let count = 0;
    for (let i = 0; i < perBatch; i++) {
      const [low, high] = keyWords(random.below(hotKeys));
      if (!node.takesWrites(table.bucketOf(low, high))) continue;
      keys[2 * count] = low;
      keys[2 * count++ + 1] = high;
    }
    if (count === 0) continue;
    const refused = node.add(keys, count, ones);
    process.send!({ added: count - refused });
  }
  setTimeout(write, 1);
};
write();
const tell = (): void => {
  const { ledBuckets, lostWrites } = node.metrics;
  process.send!({ state: { ledBuckets, lostWrites, ready: node.ready } });
  setTimeout(tell, 20);
};
tell();
process.on("message", () => (quiet = true));
process.on("disconnect", () => process.exit(0));
