// A living, a killed and a foreign process, as the registry asks about them.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { test } from "node:test";
import { systemProcesses } from "./system-processes.ts";

test("this process is not gone, nor is one of another machine or container", () => {
  assert.equal(systemProcesses.isGone(systemProcesses.self), false);
  assert.equal(systemProcesses.isGone("another-machine:1:1"), false);
  assert.equal(systemProcesses.isGone("nonsense"), false);
});

test("a killed process is gone, a stopped one is not, and a pid that was used again is told apart", async () => {
  const script = `import(${JSON.stringify(new URL("./system-processes.ts", import.meta.url).href)}).then((m) => { process.stdout.write(m.systemProcesses.self); setInterval(() => {}, 1000); })`;
  const child = spawn(process.execPath, ["-e", script], { stdio: ["ignore", "pipe", "inherit"] });
  const [chunk] = (await once(child.stdout, "data")) as [Buffer];
  const owner = chunk.toString();
  assert.equal(systemProcesses.isGone(owner), false);
  child.kill("SIGSTOP");
  assert.equal(systemProcesses.isGone(owner), false);
  if (process.platform === "linux") assert.equal(systemProcesses.isGone(owner.replace(/:\d+$/, ":1")), true);
  child.kill("SIGKILL");
  await once(child, "exit");
  assert.equal(systemProcesses.isGone(owner), true);
});
