// Guards the runner: what must count as failed does, in a tree of its own with one file for each way to fail.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";

const tree = mkdtempSync(join(tmpdir(), "millrace-runner-"));
after(() => rmSync(tree, { recursive: true, force: true }));

const head = `import { test } from "node:test"; import { spawn } from "node:child_process";\n`;
const files: Record<string, string> = {
  "good.test.ts": `test("promise: two is two", () => {}); test("away", { skip: "no engine here" }, () => {}); test("notes", (t) => t.diagnostic("reduced to 3 seeds"));`,
  "fails.test.ts": `test("outer", async (t) => { console.log("SEED=7"); await t.test("promise: inner", () => { throw new Error("boom"); }); });`,
  "hangs.test.ts": `test("waits", async () => { const timer = setInterval(() => {}, 1000); await new Promise(() => timer); });`,
  "spins.test.ts": `test("spins", () => { process.on("SIGTERM", () => {}); for (;;); });`,
  "leaves.test.ts": `test("leaves", () => { spawn("sleep", ["60"], { stdio: "ignore" }).unref(); });`,
  "silent-skip.test.ts": `test.skip("secret", () => {});`,
  "left-to-do.test.ts": `test("later", { todo: true }, () => {});`,
  "hook.test.ts": `import { before, suite } from "node:test"; suite("house", () => { before(() => { throw new Error("no water"); }); test("bath", () => {}); });`,
  "empty.test.ts": ``,
  "dies.test.ts": `test("fine", () => {}); setTimeout(() => process.exit(3), 400);`,
};

mkdirSync(join(tree, "test"));
writeFileSync(join(tree, "package.json"), `{ "type": "module" }`);
for (const [name, text] of Object.entries(files)) writeFileSync(join(tree, "test", name), head + text);

function runner(...args: string[]): { status: number | null; stdout: string; last: string } {
  const { status, stdout } = spawnSync(process.execPath, [join(import.meta.dirname, "test.ts"), "--root", tree, "--timeout-s", "3", ...args], {
    encoding: "utf8",
  });
  return { status, stdout, last: stdout.trimEnd().split("\n").at(-1)! };
}

test("a good file passes; promises, skips with their reason and what was reduced are listed", () => {
  const { status, stdout, last } = runner("good.test");
  assert.equal(last, "2 passed, 0 failed, 1 skipped");
  assert.equal(status, 0);
  assert.match(stdout, /kept +two is two/);
  assert.match(stdout, /because no engine here\n +test\/good.test.ts: away/);
  assert.match(stdout, /good.test.ts: reduced to 3 seeds/);
});

test("every way to fail fails: error, hang, busy loop, leftover process, silent skip, todo, failed hook, no test, early end", () => {
  const { status, stdout, last } = runner(".test");
  assert.equal(status, 1);
  assert.equal(last, "4 passed, 10 failed, 2 skipped", stdout);
  assert.match(stdout, /BROKEN +inner/);
  assert.match(stdout, /SEED=7/);
  assert.match(stdout, /hangs.test.ts: hung: killed after 3 s; the test that began last: waits/);
  assert.match(stdout, /spins.test.ts: hung: killed after 3 s/);
  assert.match(stdout, /leaves.test.ts: left processes running/);
  assert.match(stdout, /silent-skip.test.ts: secret/);
  assert.match(stdout, /left-to-do.test.ts: later/);
  assert.match(stdout, /hook.test.ts: house/);
  assert.match(stdout, /no water/);
  assert.match(stdout, /empty.test.ts: holds no test/);
  assert.match(stdout, /dies.test.ts: ended with exit code 3/);
});

test("what does not fit the budget is named and does not fail", () => {
  const { status, stdout, last } = runner("--budget-s", "4", "--timeout-s", "60", "good.test", "hangs.test");
  assert.equal(last, "2 passed, 0 failed, 1 skipped");
  assert.equal(status, 0);
  assert.match(stdout, /Not finished within the budget of 4 s \(1 of 2\):\n {2}test\/hangs.test.ts \(cut short\)/);
});

test("words that match no file are an error", () => {
  const { status, stdout } = runner("no-such-file");
  assert.equal(status, 1);
  assert.match(stdout, /no test file's path contains no-such-file/);
});
