// Two real servers, the second follows the first: how long it takes from a PADD at the leader's Redis port to a PPULL at the follower's that has it.
// A sample counts from before the PADD is sent to when the answer of the PPULL is here; the follower is asked again and again, so a sample is at most one round trip too long. Meanwhile
// other rows are added at the leader, `rowsPerS`.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Redis } from "ioredis";
import { Prng } from "#base/prng";
import { readPullHead } from "#wire/parameter-api";
import { type ServerProcess, startServerProcess, temporaryFolder } from "../load/server-process.ts";
import { freePort } from "../../test/free-port.ts";
import { dim } from "./work.ts";

export interface ServedRun {
  readonly latencyMs: readonly number[];
  /** From the leader's answer on, not from before the push. */
  readonly afterAnswerMs: readonly number[];
  readonly reads: number;
}

const probeKey = 1n << 40n;
const batchRows = 100;

export async function servedRun(rowsPerS: number, pushes: number): Promise<ServedRun> {
  const folder = temporaryFolder();
  const servers: ServerProcess[] = [];
  const clients: Redis[] = [];
  try {
    const ports = [await freePort(), await freePort()];
    for (const [n, port] of ports.entries()) {
      const configPath = join(folder.path, `config-${n}.json`);
      const sync = { node: n + 1, port, ...(n === 0 ? {} : { follow: [`127.0.0.1:${ports[0]}`] }) };
      writeFileSync(configPath, JSON.stringify({ model: null, parameters: { tables: { user: { dim, memoryMb: 64 } }, sync } }));
      const server = await startServerProcess({ data: join(folder.path, `data-${n}`), durability: "none", more: ["--config", configPath] });
      servers.push(server);
      clients.push(new Redis({ port: server.respPort, host: "127.0.0.1" }));
    }
    const [leader, follower] = clients as [Redis, Redis];
    // The probe is asked for while other rows are pushed on a connection of their own: an answer waits for those before it.
    const crowd = new Redis({ port: servers[0]!.respPort, host: "127.0.0.1" });
    clients.push(crowd);
    const probe = Buffer.from(BigUint64Array.of(probeKey).buffer);
    const one = Buffer.from(new Float32Array(dim).fill(1).buffer);
    let reads = 0;
    const seen = async (): Promise<number> => {
      const blob = new Uint8Array((await follower.callBuffer("PPULL", "user", probe)) as Buffer);
      reads++;
      return new Float32Array(blob.buffer, readPullHead(blob).numbersAt, 1)[0]!;
    };
    for (let tries = 0; ; tries++) {
      const ready = await seen().then(
        () => true,
        () => false,
      );
      if (ready) break;
      if (tries > 300) throw new Error("the follower did not become ready");
      await sleep(100);
    }
    const random = new Prng("served");
    const rows = Buffer.from(new Float32Array(batchRows * dim).fill(0.5).buffer);
    let stop = false;
    const pushing = (async (): Promise<void> => {
      const started = performance.now();
      for (let batches = 0; !stop; batches++) {
        const keys = BigUint64Array.from({ length: batchRows }, () => BigInt(1 + random.below(200_000)));
        await crowd.callBuffer("PADD", "user", Buffer.from(keys.buffer), rows);
        const dueMs = started + ((batches + 1) * batchRows * 1_000) / rowsPerS;
        await sleep(Math.max(0, dueMs - performance.now()));
      }
    })();
    const latencyMs: number[] = [];
    const afterAnswerMs: number[] = [];
    const warmUp = Math.min(200, pushes);
    for (let push = 1; push <= warmUp + pushes; push++) {
      const begun = performance.now();
      let answered = Infinity;
      const pushed = leader.callBuffer("PADD", "user", probe, one).then(() => (answered = performance.now()));
      while ((await seen()) < push) if (performance.now() - begun > 10_000) throw new Error("a push was not served within 10 s");
      const now = performance.now();
      await pushed;
      if (push > warmUp) {
        latencyMs.push(now - begun);
        afterAnswerMs.push(Math.max(0, now - answered));
      }
      await sleep(2 + random.below(12));
    }
    stop = true;
    await pushing;
    return { latencyMs, afterAnswerMs, reads };
  } finally {
    for (const client of clients) client.disconnect();
    for (const server of servers) await server.kill();
    folder.remove();
  }
}
