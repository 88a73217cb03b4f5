// Fail-over of the leader of a parameter table: two processes that may lead (leases of a second in a SQLite registry), a third that only reads (this one).
// Rounds: the leader is killed (kill -9) and comes back empty; the next one is stopped (SIGSTOP) and woken. Counted is the time from the signal to the first addition of the next leader
// that the reader sees; additions that were answered and do not count in the end; reads that failed, of a reader that reads all the time.
// An addition is answered when the leader has applied it, not when a follower has it: so some milliseconds of them may be lost with a leader.

import { type ChildProcess, fork } from "node:child_process";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { openSqliteRegistry } from "#backbone/sqlite-registry";
import { Prng } from "#base/prng";
import { systemClock } from "#platform/system-clock";
import { systemNetwork } from "#platform/system-network";
import { systemProcesses } from "#platform/system-processes";
import { LeadKeeper } from "#params/sync/lead-keeper";
import { SyncNode } from "#params/sync/sync-node";
import { type Scenario } from "./harness.ts";
import { temporaryFolder } from "./load/server-process.ts";
import { buckets, dim, newShard } from "./param-sync/work.ts";
import { type CandidateMessage, type CandidateOptions, hotKeys, keyWords } from "./param-failover/work.ts";

const perS = 5_000;

interface Candidate {
  readonly child: ChildProcess;
  readonly number: number;
  added: number;
  state: CandidateMessage["state"];
}

function startCandidate(registryPath: string, node: number): Candidate {
  const options: CandidateOptions = { registryPath, node, perS };
  const child = fork(join(import.meta.dirname, "param-failover", "candidate.ts"), [JSON.stringify(options)], {
    stdio: ["ignore", "inherit", "inherit", "ipc"],
  });
  const candidate: Candidate = { child, number: node, added: 0, state: undefined };
  child.on("message", (message) => {
    const { added, state } = message as CandidateMessage;
    candidate.added += added ?? 0;
    candidate.state = state ?? candidate.state;
  });
  return candidate;
}

async function until(what: string, claim: () => boolean): Promise<number> {
  const started = performance.now();
  while (!claim()) {
    if (performance.now() - started > 60_000) throw new Error(`${what}: not within a minute`);
    await sleep(2);
  }
  return performance.now() - started;
}

export const scenario: Scenario = {
  name: "param-failover",
  head: "fail-over of a parameter table's leader by kill -9 and SIGSTOP: time, lost additions, failed reads",
  async run({ quick, report }) {
    const folder = temporaryFolder();
    const registryPath = join(folder.path, "registry.sqlite");
    const registry = openSqliteRegistry({ path: registryPath, clock: systemClock, processes: systemProcesses });
    const table = newShard();
    const node = new SyncNode({
      table,
      name: "failover",
      node: 9,
      network: systemNetwork,
      clock: systemClock,
      random: new Prng("reader"),
      times: { compareMs: 1_000 },
    });
    const port = await node.listen({ host: "127.0.0.1", port: 0 });
    const keeper = new LeadKeeper({ node, name: "failover", registry, clock: systemClock, address: { host: "127.0.0.1", port }, candidate: false });
    const candidates: Candidate[] = [];
    try {
      let one = startCandidate(registryPath, 1);
      candidates.push(one);
      await until("the first leads all", () => one.state?.ledBuckets === buckets);
      const other = startCandidate(registryPath, 2);
      candidates.push(other);
      keeper.start();
      await node.whenReady(60_000);
      const keys = new Uint32Array(2 * hotKeys);
      for (let key = 0; key < hotKeys; key++) [keys[2 * key], keys[2 * key + 1]] = keyWords(key);
      const rows = new Float32Array(hotKeys * dim);
      await until("every key", () => table.pull(keys, hotKeys, rows) === 0);
      await until("the other is ready", () => other.state?.ready === true);

      let [reads, failed, over] = [0, 0, false];
      const reading = (async (): Promise<void> => {
        while (!over) {
          if (table.pull(keys, hotKeys, rows) !== 0 || !node.ready) failed++;
          reads++;
          await sleep(2);
        }
      })();
      const { vectors } = node.replica;
      const epochs = (): number[] => Array.from({ length: node.groups }, (_, group) => node.knownEpoch(group));
      /** Whether rows have come that a node wrote in a later epoch than was known. */
      const leads = (number: number, known: readonly number[]): boolean => {
        for (let bucket = 0; bucket < buckets; bucket++) {
          const origin = vectors.newestOrigin(bucket);
          if ((origin & 255) === number && origin >>> 8 > known[node.groupOf(bucket)]!) return true;
        }
        return false;
      };
      const failovers: { how: string; ms: number }[] = [];
      const rounds = quick ? 1 : 3;
      for (let round = 0; round < 2 * rounds; round++) {
        const [leader, next] = round % 2 === 0 ? [one, other] : [other, one];
        await until("both are ready, one leads", () => leader.state?.ledBuckets === buckets && next.state?.ready === true);
        await sleep(300);
        const kills = round % 2 === 0;
        leader.child.kill(kills ? "SIGKILL" : "SIGSTOP");
        const known = epochs();
        const ms = await until("additions of the next leader", () => leads(next.number, known));
        failovers.push({ how: kills ? "kill -9" : "SIGSTOP", ms });
        await until("the next leads all", () => next.state?.ledBuckets === buckets);
        if (kills) {
          const again = startCandidate(registryPath, leader.number);
          candidates.push(again);
          one = again;
        } else {
          leader.child.kill("SIGCONT");
          await until("the woken one leads nothing", () => leader.state?.ledBuckets === 0);
        }
      }
      const living = candidates.filter(({ child }) => child.exitCode === null && child.signalCode === null);
      for (const { child } of living) child.send("quiet");
      await sleep(1_000);
      over = true;
      await reading;
      table.pull(keys, hotKeys, rows);
      // Rows begin at initial values of less than a half.
      let counted = 0;
      for (let key = 0; key < hotKeys; key++) counted += Math.round(rows[key * dim]!);
      const added = candidates.reduce((sum, candidate) => sum + candidate.added, 0);
      const worst = Math.max(...failovers.map(({ ms }) => ms));
      report({
        metric: "failover_s",
        value: worst / 1_000,
        unit: "s",
        better: "lower",
        target: 2,
        detail: `lease 1 s; ${failovers.map(({ how, ms }) => `${how} ${(ms / 1_000).toFixed(2)}`).join(", ")}`,
      });
      report({
        metric: "failover_lost_additions",
        value: Math.max(0, added - counted),
        unit: "count",
        better: "lower",
        detail: `of ${added} that were answered, ${perS} a second, over ${failovers.length} fail-overs; living leaders count ${living.reduce((sum, { state }) => sum + (state?.lostWrites ?? 0), 0)}`,
      });
      report({ metric: "failover_failed_reads", value: failed, unit: "count", better: "lower", target: 0, detail: `of ${reads} reads of ${hotKeys} rows` });
    } finally {
      for (const { child } of candidates) child.kill("SIGKILL");
      await keeper.close();
      await node.close();
      await registry.close();
      folder.remove();
    }
  },
};
