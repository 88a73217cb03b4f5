// Guards what docs/parameters.md says of a crash: after kill -9 at any moment, also while a checkpoint is written, each table has the state of one moment at or after its last answered PSAVE,
// and a push is in it whole or not at all.
// The server is the real process. MILLRACE_LONG: 40 kills instead of 2.

import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Prng } from "#base/prng";
import { freshSeed } from "#platform/fresh-seed";
import { ParameterClient } from "#sdk/index";
import { startServerProcess, temporaryFolder } from "../../bench/load/server-process.ts";

const kills = process.env["MILLRACE_LONG"] === undefined ? 2 : 40;
const seed = freshSeed();
const rows = 1_000;
const dim = 4;

test(
  `promise: kill -9 leaves the state of one moment since the last save, pushes whole (SEED=${seed}, ${kills} kills)`,
  { timeout: kills * 30_000 },
  async (t) => {
    const prng = new Prng(seed);
    const folder = temporaryFolder();
    t.after(() => {
      folder.remove();
    });
    const config = join(folder.path, "config.json");
    // Two shards: a batch lies in both, and is cut into pieces in a table this small.
    writeFileSync(config, JSON.stringify({ model: null, parameters: { tables: { step: { dim, memoryMb: 4, shards: 2, checkpoint: { everySeconds: 1 } } } } }));
    const keys = BigUint64Array.from({ length: rows }, (_, i) => BigInt(i) * 0x9e37_79b9_7f4a_7c15n);
    let sent = 0;
    let saved = 0;
    for (let kill = 0; kill <= kills; kill++) {
      const server = await startServerProcess({ data: join(folder.path, "data"), durability: "none", more: ["--config", config] });
      const client = await ParameterClient.connect({ port: server.respPort, retries: 0 });
      try {
        const table = client.table("step");
        const { rows: values } = await table.pull(keys);
        const value = values[0]!;
        assert.ok(
          values.every((one) => one === value),
          "a push is there whole or not at all",
        );
        assert.ok(value >= saved && value <= sent, `${value} is not between the last save (${saved}) and the last push (${sent})`);
        if (kill === kills) break;
        sent = value;
        let killed = false;
        const writing = (async () => {
          while (!killed) {
            sent++;
            await table.assign(keys, new Float32Array(rows * dim).fill(sent));
          }
        })();
        const saving = (async () => {
          while (!killed) {
            const before = sent - 1;
            await table.save();
            saved = Math.max(saved, before);
          }
        })();
        const outcomes = Promise.allSettled([writing, saving]);
        await sleep(200 + prng.below(1_500));
        for (let waits = 0; saved === 0 && waits < 500; waits++) await sleep(20);
        killed = true;
        await server.kill();
        await outcomes;
        assert.ok(saved > 0, "no save was answered within 10 s");
      } finally {
        client.close();
        await server.kill();
      }
    }
  },
);
