// Guards that a worker body behaves the same in a process of its own as in a thread, that such a process is at low priority and within its memory, and that
// none is left behind.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { getPriority, tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { MillraceError } from "#base/errors";
import { childRssBytesMin, type ChildOptions } from "./child-processes.ts";
import { moduleBeside } from "./module-beside.ts";
import { Simulation } from "./simulation.ts";
import { systemChildProcesses } from "./system-child-processes.ts";
import { systemClock } from "./system-clock.ts";
import { systemFiles } from "./system-files.ts";
import { workersContract } from "./workers.contract.ts";

const bodies = moduleBeside("./test-bodies.worker", import.meta.url);
const options: ChildOptions = { name: "test", niceness: 5, rssBytesMax: 2 ** 30 };
const notShared = { "shared memory arrives shared": "processes share no memory: it is refused, see below" };

workersContract(
  "child processes",
  async (body) => {
    const folder = await mkdtemp(join(tmpdir(), "millrace-children-"));
    try {
      const workers = { start: (module: URL, data: unknown, name: string) => systemChildProcesses.start(module, data, { ...options, name }) };
      await body({ workers, clock: systemClock, files: systemFiles, folder });
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  },
  notShared,
);

workersContract(
  "simulated child processes",
  async (body) => {
    const simulation = new Simulation({ seed: process.env["SEED"] ?? 1 });
    await simulation.run(async () => {
      const { childProcesses, clock, files } = simulation.node("a");
      await files.makeFolder("/data");
      const workers = { start: (module: URL, data: unknown, name: string) => childProcesses.start(module, data, { ...options, name }) };
      await body({ workers, clock, files, folder: "/data" });
    });
  },
  notShared,
);

const refused = (code: string) => (thrown: unknown) => thrown instanceof MillraceError && thrown.code === code;

function isThere(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

test("a child runs at low priority in a process of its own; its time and memory are seen", async () => {
  const child = systemChildProcesses.start(bodies, { do: "spin" }, options);
  const [pid, priority] = (await child.receive()) as [number, number];
  assert.notEqual(pid, process.pid);
  assert.equal(priority, Math.min(19, getPriority() + options.niceness));
  for (let tries = 0; child.usage().cpuMs === 0 && tries < 200; tries += 1) await systemClock.sleep(50);
  const { cpuMs, rssBytes, rssBytesPeak } = child.usage();
  assert.ok(cpuMs > 0);
  assert.ok(rssBytes > 10 * 2 ** 20 && rssBytesPeak >= rssBytes, `${rssBytes} bytes`);
  await child.stop(50);
  assert.equal((await child.failed)?.code, "timeout");
  assert.equal(isThere(pid), false);
});

test("promise: a child that takes more memory than its cap is ended, and the parent told so", async () => {
  const child = systemChildProcesses.start(bodies, { do: "take-memory" }, { ...options, rssBytesMax: 160 * 2 ** 20 });
  const failure = await child.failed;
  assert.equal(failure?.code, "overloaded");
  assert.match(failure.message, /child process test was ended: it took \d+ bytes of memory, 167772160 bytes are allowed/);
  assert.ok(child.usage().rssBytesPeak > 160 * 2 ** 20);
});

test("a full JavaScript heap is told as too little memory", async () => {
  const child = systemChildProcesses.start(bodies, { do: "fill-heap" }, { ...options, heapBytesMax: 32 * 2 ** 20 });
  const failure = await child.failed;
  assert.equal(failure?.code, "overloaded");
  assert.match(failure.message, /its JavaScript heap was full/);
});

test("a child that ends without a word is a failure with its exit code; one that is killed, with its signal", async () => {
  const exited = await systemChildProcesses.start(bodies, { do: "exit" }, options).failed;
  assert.equal(exited?.code, "internal");
  assert.match(exited.message, /exit code 3/);
  const child = systemChildProcesses.start(bodies, { do: "spin" }, options);
  const [pid] = (await child.receive()) as [number];
  process.kill(pid, "SIGKILL");
  assert.match((await child.failed)!.message, /signal SIGKILL/);
  assert.equal(await child.receive(), undefined);
});

test("shared memory and functions are refused, and the child goes on", async () => {
  const child = systemChildProcesses.start(bodies, { do: "echo" }, options);
  assert.throws(() => child.send(new SharedArrayBuffer(8)), refused("invalid"));
  assert.throws(() => child.send({ call: () => 1 }), refused("invalid"));
  child.send("still there");
  assert.equal(await child.receive(), "still there");
  await child.stop();
  assert.equal(await child.failed, undefined);
  const simulation = new Simulation({ seed: 1 });
  await simulation.run(async () => {
    const twin = simulation.node("a").childProcesses.start(bodies, { do: "echo" }, options);
    assert.throws(() => twin.send(new SharedArrayBuffer(8)), refused("invalid"));
    assert.throws(() => twin.send({ call: () => 1 }), refused("invalid"));
    await twin.stop();
  });
});

test("options out of range are refused", () => {
  for (const wrong of [{ name: "" }, { name: "a b" }, { niceness: -1 }, { niceness: 20 }, { rssBytesMax: childRssBytesMin - 1 }, { heapBytesMax: 2 ** 31 }]) {
    assert.throws(() => systemChildProcesses.start(bodies, { do: "echo" }, { ...options, ...wrong }), refused("invalid"), JSON.stringify(wrong));
  }
});

test("promise: a child ends when its parent is killed", { skip: process.platform === "win32" ? "signals differ" : false }, async () => {
  const folder = await mkdtemp(join(tmpdir(), "millrace-parent-"));
  try {
    const script = join(folder, "parent.ts");
    const address = (name: string): string => JSON.stringify(moduleBeside(name, import.meta.url).href);
    await writeFile(
      script,
      `import { systemChildProcesses } from ${address("./system-child-processes")};
       const child = systemChildProcesses.start(new URL(${JSON.stringify(bodies.href)}), { do: "spin" }, ${JSON.stringify(options)});
       console.log((await child.receive())[0]);
       await child.failed;`,
    );
    const parent = spawn(process.execPath, [script], { stdio: ["ignore", "pipe", "inherit"] });
    const [line] = (await once(parent.stdout, "data")) as [Buffer];
    const pid = Number(line.toString());
    assert.ok(isThere(pid));
    parent.kill("SIGKILL");
    for (let tries = 0; isThere(pid) && tries < 200; tries += 1) await systemClock.sleep(50);
    assert.equal(isThere(pid), false);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});

test("a simulated child is ended above its cap, and can be killed", async () => {
  const simulation = new Simulation({ seed: 2 });
  await simulation.run(async () => {
    const { childProcesses } = simulation.node("a");
    const child = childProcesses.start(bodies, { do: "ignore-stop" }, options);
    assert.equal(await child.receive(), "ready");
    child.use(options.rssBytesMax + 1, 70);
    assert.equal((await child.failed)?.code, "overloaded");
    assert.deepEqual(child.usage(), { cpuMs: 70, rssBytes: options.rssBytesMax + 1, rssBytesPeak: options.rssBytesMax + 1 });
    const other = childProcesses.start(bodies, { do: "ignore-stop" }, options);
    other.kill();
    assert.match((await other.failed)!.message, /signal SIGKILL/);
  });
});
