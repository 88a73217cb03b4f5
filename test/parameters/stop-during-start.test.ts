// Guards that a signal during the start stops in order: what the Redis port acknowledged in the meantime is there at the next start.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { ParameterClient } from "#sdk/index";
import { temporaryFolder } from "../../bench/load/server-process.ts";
import { freePort } from "../free-port.ts";

const command = join(import.meta.dirname, "..", "..", "bin", "millrace.js");
const waitMsMax = 60_000;
const keys = BigUint64Array.of(5n);

/** Starts the server, adds 1 to the row as soon as it is taken, and ends the process in that moment. What the row was before, the exit code, what was printed. */
async function pushAndStop(t: TestContext, options: readonly string[], respPort: number): Promise<{ before: number; code: number | null; printed: string }> {
  const child = spawn(process.execPath, [command, "start", "--no-demo", ...options], { stdio: ["ignore", "pipe", "pipe"] });
  t.after(() => child.kill("SIGKILL"));
  let printed = "";
  const hear = (chunk: Buffer): void => void (printed += chunk.toString());
  child.stdout.on("data", hear);
  child.stderr.on("data", hear);
  const closed = once(child, "close") as Promise<[number | null, string | null]>;
  const deadline = Date.now() + waitMsMax;
  let before: number | undefined;
  while (before === undefined) {
    assert.ok(Date.now() < deadline && child.exitCode === null, `no push was taken:\n${printed}`);
    try {
      const client = await ParameterClient.connect({ port: respPort, retries: 0 });
      try {
        const table = client.table("users");
        const { rows } = await table.pull(keys);
        assert.equal(await table.add(keys, new Float32Array(4).fill(1)), 1);
        before = rows[0]!;
      } finally {
        client.close();
      }
    } catch (thrown) {
      if (thrown instanceof assert.AssertionError) throw thrown;
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
  }
  child.kill("SIGTERM");
  const timer = setTimeout(() => child.kill("SIGKILL"), waitMsMax);
  const [code] = await closed;
  clearTimeout(timer);
  return { before, code, printed };
}

test("promise: a signal during the start stops in order, and no acknowledged push is lost", async (t) => {
  const { path, remove } = temporaryFolder();
  t.after(() => {
    remove();
  });
  const config = join(path, "config.json");
  writeFileSync(config, JSON.stringify({ parameters: { tables: { users: { dim: 4, memoryMb: 4 } } } }));
  const [port, respPort] = [await freePort(), await freePort()];
  const options = ["--port", String(port), "--resp-port", String(respPort), "--data", join(path, "data"), "--config", config];
  for (let round = 0; round < 2; round++) {
    const { before, code, printed } = await pushAndStop(t, options, respPort);
    assert.deepEqual({ before, code }, { before: round, code: 0 }, printed);
  }
});
