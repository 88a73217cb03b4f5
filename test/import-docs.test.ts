// Guards docs/import.md and docs/local-replica.md: their examples work as they stand, in a shell, with the program as it is started from a clone.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { type TestContext, test } from "node:test";
import { readConfig } from "#cli/config-file";
import { startServer } from "#roles/server";

const root = fileURLToPath(new URL("../", import.meta.url));

function folderOf(context: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), "millrace-import-docs-"));
  context.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

/** The first code block behind the heading, or of the document. */
function block(document: string, heading = ""): string {
  const text = readFileSync(join(root, "docs", document), "utf8");
  const found = /^```\n([^]*?)^```$/m.exec(text.slice(text.indexOf(heading)));
  assert.ok(found, `${document} has a block`);
  return found[1]!;
}

async function shell(cwd: string, script: string): Promise<{ code: number | null; out: string; err: string }> {
  const start = `set -eu\nmillrace() { "${process.execPath}" "${root}bin/millrace.js" "$@"; }\n`;
  const child = spawn("sh", ["-c", start + script], { cwd, stdio: ["ignore", "pipe", "pipe"] });
  let out = "";
  let err = "";
  child.stdout.on("data", (part: Buffer) => void (out += part.toString()));
  child.stderr.on("data", (part: Buffer) => void (err += part.toString()));
  const code = await new Promise<number | null>((resolve) => child.on("close", resolve));
  return { code, out, err };
}

test("the import of docs/import.md works as it stands, and so do the commands on its versions", async (t) => {
  const folder = folderOf(t);
  const example = block("import.md");
  assert.match(example, /^millrace import items/m);
  const first = await shell(folder, example);
  assert.equal(first.code, 0, first.err);
  assert.match(first.out, /^2 rows, 0 MiB, in [\d.]+ s: version \d{8}T\d{9}-\w{4} of items is live\n$/);
  const steps = await shell(
    folder,
    `millrace import items items.csv --data ./data --json 2>/dev/null
millrace snapshots rollback table/items --data ./data
millrace snapshots list --data ./data
millrace snapshots retire table/items --keep 1 --data ./data
! millrace snapshots retire table/items --keep x --data ./data 2>&1
! millrace import items items.csv --data ./data --memory-mb 191 2>&1
! millrace import items items.csv --data ./data --memory-mb 3073 2>&1
! millrace import items --query ' ' --data ./data 2>&1`,
  );
  assert.equal(steps.code, 0, steps.err + steps.out);
  const version = /version (\S+) of/.exec(first.out)![1]!;
  assert.match(steps.out, new RegExp(`^table/items: ${version} is live$`, "m"));
  assert.match(steps.out, new RegExp(`^table/items: live ${version}$`, "m"));
  assert.match(steps.out, /from 1 to 1000/);
  assert.match(steps.out, /from 192 to 3072[^]*from 192 to 3072/);
  assert.match(steps.out, /an import of nothing/);
});

test("promise: examples/local-replica.ts reads what the server of docs/local-replica.md has", async (t) => {
  const folder = folderOf(t);
  const [tables, , write, run] = block("local-replica.md", "## Try it").split("\n");
  assert.equal((await shell(folder, tables!)).code, 0);
  const config = await readConfig(join(folder, "tables.json"), "feed");
  const { model: _model, ...withoutModel } = (await readConfig(undefined, "feed")).gateway;
  assert.match(write!, /redis-cli -p 6390 TSET items m-1 ctr 0\.25/);
  assert.match(run!, /^node examples\/local-replica\.ts \.\/data m-1 m-2$/);
  const pipelines = Object.fromEntries(
    Object.entries(withoutModel.pipelines).map(([name, { model: _rank, quota, ...rest }]) => [name, { ...rest, quota: { ...quota, vectors: 0 } }]),
  );
  const data = join(folder, "data");
  const server = await startServer({
    host: "127.0.0.1",
    port: 0,
    respPort: 0,
    dataFolder: data,
    durability: "none",
    version: "0.0.0-test",
    config: { ...config, gateway: { ...withoutModel, pipelines } },
  });
  t.after(() => server.stop(1_000));
  await server.gateway.opened;
  const written = await fetch(`${server.address}/v1/tables/items/write`, { method: "POST", body: '{"rows":[{"key":"m-1","values":{"ctr":0.25}}]}' });
  assert.equal(written.status, 200);
  const { code, out, err } = await shell(root, `"${process.execPath}" examples/local-replica.ts "${data}" m-1 m-2`);
  assert.equal(code, 0, err);
  assert.equal(out, "version none: 0 rows, 0 bytes; 1 live rows up to offset 1\n0: found, ctr 0.25\n1: absent, ctr 0 (the default)\n");
});
