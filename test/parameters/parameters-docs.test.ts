// promise: what docs/parameters.md says to start and run works as it stands there, and its example prints what it should.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { startWholeServer } from "../whole-server.ts";

const root = join(import.meta.dirname, "..", "..");

test("promise: the configuration of docs/parameters.md starts a server that examples/parameters.ts talks to", { timeout: 60_000 }, async (t) => {
  const page = readFileSync(join(root, "docs", "parameters.md"), "utf8");
  const config = JSON.parse(/```json\n([\s\S]*?)```/.exec(page)![1]!) as object;
  const server = await startWholeServer(t, config);
  const { stdout } = await promisify(execFile)(process.execPath, ["examples/parameters.ts", String(server.respPort)], { cwd: root, timeout: 30_000 });
  const begin = Number(/key 7 begins at (-?[\d.]+)/.exec(stdout)?.[1]);
  const now = Number(/key 7 is now at (-?[\d.]+)/.exec(stdout)?.[1]);
  assert.match(stdout, /^3 of 3 keys have no row/);
  assert.match(stdout, /2 rows written/);
  assert.ok(Math.abs(now - begin - 0.25) < 0.002, stdout);
});
