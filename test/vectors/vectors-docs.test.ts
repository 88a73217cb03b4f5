// promise: what docs/vectors.md says to start and run works as it stands there, and its example prints what it should.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { Redis } from "ioredis";
import { startWholeServer } from "../whole-server.ts";

const root = join(import.meta.dirname, "..", "..");

test(
  "promise: the configuration of docs/vectors.md starts a server that examples/vectors.ts and the commands of the page talk to",
  { timeout: 120_000 },
  async (t) => {
    const page = readFileSync(join(root, "docs", "vectors.md"), "utf8");
    const config = JSON.parse(/```json\n([\s\S]*?)```/.exec(page)![1]!) as object;
    const server = await startWholeServer(t, config);
    const { stdout } = await promisify(execFile)(process.execPath, ["examples/vectors.ts", String(server.respPort)], { cwd: root, timeout: 60_000 });
    assert.equal(stdout, "3 new, 3 in all\nlike Alien: Alien, Dune; cosine 0.89\nnearest of 1984: Dune\nfor ann: Dune, Alien\n");
    const redis = new Redis({ port: server.respPort, maxRetriesPerRequest: 1 });
    redis.on("error", () => undefined);
    t.after(() => {
      redis.disconnect();
    });
    // Filters of the page are read as they stand there.
    const filters = /## Filters[\s\S]*?```\n([\s\S]*?)```/.exec(page)![1]!.trim().split("\n");
    assert.equal(filters.length, 3);
    for (const filter of filters) assert.ok(Array.isArray(await redis.call("VSIM", "films", "ELE", "Alien", "FILTER", filter)), filter);
  },
);
