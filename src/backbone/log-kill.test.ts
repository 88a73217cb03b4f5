// kill -9 on a real process with real files: what it had acknowledged is there, and the next writer does not wait for its lease.
// The big one, over HTTP and under load, stands with the end-to-end tests.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { systemClock } from "#platform/system-clock";
import { systemFiles } from "#platform/system-files";
import { systemProcesses } from "#platform/system-processes";
import { openEmbeddedLog } from "./embedded-log.ts";
import { readAll } from "./log.contract.ts";
import { openSqliteRegistry } from "./sqlite-registry.ts";

const rounds = 3;

/** Appends for ever and prints the next offset after each acknowledgement. */
const child = (folder: string): string => `
  const at = (name) => import(new URL(name, ${JSON.stringify(import.meta.url)}).href);
  const [{ openEmbeddedLog }, { openSqliteRegistry }, { systemClock }, { systemFiles }, { systemProcesses }] = await Promise.all([
    at("./embedded-log.ts"), at("./sqlite-registry.ts"), at("../platform/system-clock.ts"), at("../platform/system-files.ts"), at("../platform/system-processes.ts")]);
  const registry = openSqliteRegistry({ path: ${JSON.stringify(join(folder, "registry.sqlite"))}, clock: systemClock, processes: systemProcesses });
  const log = openEmbeddedLog({ files: systemFiles, clock: systemClock, registry, folder: ${JSON.stringify(join(folder, "log"))}, durability: "interval", segmentBytesMax: 20_000, leaseMs: 60_000 });
  const writer = await log.openWriter("p");
  let count = writer.bounds.next;
  const work = async () => {
    for (;;) {
      const mine = [count, count + 1];
      count += 2;
      const result = await writer.append(mine.map((n) => new TextEncoder().encode(String(n).padEnd(50 + (n % 200), "."))));
      process.stdout.write(result.nextOffset + "\\n");
    }
  };
  await Promise.all([work(), work(), work()]);`;

test("promise: kill -9 of the writing process loses nothing acknowledged, and the next one opens at once", async (t) => {
  const folder = await mkdtemp(join(tmpdir(), "millrace-kill-"));
  try {
    let openMsMax = 0;
    let acknowledged = 0;
    for (let round = 0; round < rounds; round += 1) {
      const process_ = spawn(process.execPath, ["--input-type=module", "-e", child(folder)], { stdio: ["ignore", "pipe", "inherit"] });
      let output = "";
      process_.stdout.on("data", (chunk: Buffer) => (output += chunk.toString()));
      while (output.length < 500) await systemClock.sleep(10);
      await systemClock.sleep(50 + round * 70);
      process_.kill("SIGKILL");
      await once(process_, "close");
      const lines = output.slice(0, output.lastIndexOf("\n")).split("\n");
      acknowledged = Math.max(...lines.map(Number));

      const registry = openSqliteRegistry({ path: join(folder, "registry.sqlite"), clock: systemClock, processes: systemProcesses });
      const log = openEmbeddedLog({ files: systemFiles, clock: systemClock, registry, folder: join(folder, "log"), durability: "interval" });
      const before = systemClock.monotonicMs();
      const writer = await log.openWriter("p");
      openMsMax = Math.max(openMsMax, systemClock.monotonicMs() - before);
      const all = await readAll(log, "p");
      assert.ok(all.length >= acknowledged, `${acknowledged} acknowledged, ${all.length} there`);
      assert.equal(all.length, writer.bounds.next);
      // Offsets are given in the order of the calls, and the numbers were taken in that order too.
      for (const [offset, one] of all.entries()) assert.equal(Number.parseInt(one, 10), offset);
      await log.close();
      await registry.close();
    }
    assert.ok(openMsMax < 5_000, `opening took ${openMsMax} ms`);
    t.diagnostic(`${rounds} kills, ${acknowledged} records acknowledged in the end, slowest opening ${openMsMax.toFixed(0)} ms (lease 60,000 ms)`);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});
