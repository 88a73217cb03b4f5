// Guards that a start that is refused ends: the process says why, exits, and its ports are free for the next one.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { temporaryFolder } from "../bench/load/server-process.ts";
import { freePort } from "./free-port.ts";
import { startWholeServer } from "./whole-server.ts";

const command = join(import.meta.dirname, "..", "bin", "millrace.js");
const exitMsMax = 30_000;

/** Runs `millrace start` until it exits, which it must. */
async function runRefused(t: TestContext, options: readonly string[]): Promise<{ code: number | null; printed: string }> {
  const child = spawn(process.execPath, [command, "start", "--no-demo", ...options], { stdio: ["ignore", "pipe", "pipe"] });
  t.after(() => child.kill("SIGKILL"));
  let printed = "";
  const hear = (chunk: Buffer): void => void (printed += chunk.toString());
  child.stdout.on("data", hear);
  child.stderr.on("data", hear);
  const timer = setTimeout(() => child.kill("SIGKILL"), exitMsMax);
  const [code, signal] = (await once(child, "close")) as [number | null, string | null];
  clearTimeout(timer);
  assert.equal(signal, null, `the process did not end by itself within ${exitMsMax} ms:\n${printed}`);
  return { code, printed };
}

async function assertFree(port: number): Promise<void> {
  const server = createServer().listen(port, "127.0.0.1");
  await once(server, "listening");
  server.close();
  await once(server, "close");
}

test("promise: a start that is refused says why, exits with a code, and gives its ports and its data folder back", async (t) => {
  const { path, remove } = temporaryFolder();
  t.after(() => {
    remove();
  });
  const [dataFolder, configPath] = [join(path, "data"), join(path, "config.json")];
  const tables = (key: string, price: string, place: number): object => ({
    shops: { key, columns: { price: { type: price }, place: { type: "f32", length: place } } },
  });
  const first = await startWholeServer(t, { tables: tables("string", "i64", 2) }, { dataFolder });
  await first.stop(500);

  const [port, respPort] = [await freePort(), await freePort()];
  const options = ["--port", String(port), "--resp-port", String(respPort), "--data", dataFolder, "--config", configPath];
  const changes = { price: tables("string", "f64", 2), place: tables("string", "i64", 3), shops: tables("u64", "i64", 2) };
  for (const [what, changed] of Object.entries(changes)) {
    writeFileSync(configPath, JSON.stringify({ model: null, tables: changed }));
    const { code, printed } = await runRefused(t, options);
    assert.equal(code, 1, printed);
    assert.match(printed, new RegExp(`\\[invalid\\].*${what}`), "it names what was changed");
    await assertFree(port);
    await assertFree(respPort);
  }

  writeFileSync(configPath, JSON.stringify({ model: null, tables: tables("string", "i64", 2) }));
  const other = createServer().listen(respPort, "127.0.0.1");
  await once(other, "listening");
  const { code, printed } = await runRefused(t, options);
  other.close();
  assert.equal(code, 1, printed);
  assert.match(printed, new RegExp(`port ${respPort} .*--resp-port`));
  await assertFree(port);

  const again = await startWholeServer(t, { tables: tables("string", "i64", 2) }, { dataFolder });
  assert.deepEqual(again.gateway.status().items, 0, "the data folder is nobody's, and serves as it was declared");
});
