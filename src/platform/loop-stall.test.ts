// Guards the metric `loop_stall_max_ms`: work on the loop is seen in full, waiting and other threads are not.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { LoopStallMeter } from "./loop-stall.ts";

function threadCpuMs(): number {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1000;
}

/** Keeps this thread computing for so much of its own CPU time. */
function burn(cpuMs: number): void {
  const until = threadCpuMs() + cpuMs;
  while (threadCpuMs() < until);
}

test("a block of the loop is measured in CPU time", async () => {
  const meter = new LoopStallMeter();
  meter.start();
  meter.start();
  await sleep(20);
  meter.takeMaxMs();
  burn(40);
  await sleep(20);
  assert.ok(meter.maxMs >= 40 && meter.maxMs < 60, `told ${meter.maxMs}`);
  assert.ok(meter.histogram.max >= 40_000);
  assert.ok(meter.takeMaxMs() >= 40);
  await sleep(20);
  assert.ok(meter.maxMs < 30, `after the reset ${meter.maxMs}`);
  meter.stop();
  const told = meter.histogram.count;
  await sleep(20);
  assert.equal(meter.histogram.count, told);
});

test("each second has its own maximum, and reading takes nothing away", async () => {
  const meter = new LoopStallMeter();
  meter.start();
  burn(30);
  await sleep(1_100);
  const [first, second] = [meter.lastSecondsMs(3), meter.lastSecondsMs(3)];
  meter.stop();
  assert.equal(first.length, 3);
  assert.ok(Math.max(...first) >= 30, `told ${first.join(" ")}`);
  assert.ok(first.at(-1)! < 30 && second.at(-1)! < 30, `the newest second had no such work: ${first.join(" ")}`);
  assert.deepEqual(first.slice(0, 2), second.slice(0, 2));
});

test("many short pieces of work are not one stall", async () => {
  const meter = new LoopStallMeter();
  meter.start();
  for (let i = 0; i < 40; i++) {
    burn(1);
    await sleep(2);
  }
  meter.stop();
  assert.ok(meter.histogram.quantile(0.9) < 5000, `p90 ${meter.histogram.quantile(0.9)} us`);
  assert.ok(meter.histogram.sum >= 40_000, `sum ${meter.histogram.sum} us`);
});

test("being descheduled does not count: a loop stopped by a signal for 100 ms", async () => {
  const child = spawn(
    process.execPath,
    [
      "--input-type=module",
      "-e",
      `const { LoopStallMeter } = await import(${JSON.stringify(new URL("./loop-stall.ts", import.meta.url).href)});
       const meter = new LoopStallMeter(); meter.start();
       let last = performance.now(), gap = 0;
       setInterval(() => { const now = performance.now(); gap = Math.max(gap, now - last); last = now; }, 1).unref();
       setTimeout(() => { meter.takeMaxMs(); gap = 0; console.log("ready"); }, 200);
       setTimeout(() => console.log(JSON.stringify({ gap, stall: meter.maxMs })), 600);`,
    ],
    { stdio: ["ignore", "pipe", "inherit"] },
  );
  let output = "";
  child.stdout.setEncoding("utf8");
  for await (const chunk of child.stdout) {
    output += chunk as string;
    if (output === "ready\n") {
      child.kill("SIGSTOP");
      await sleep(100);
      child.kill("SIGCONT");
      output += "resumed\n";
    }
  }
  const { gap, stall } = JSON.parse(output.split("\n").at(-2)!) as { gap: number; stall: number };
  assert.ok(gap >= 90, `the loop stood still for only ${gap} ms`);
  assert.ok(stall < 50, `stall ${stall} ms although it did not run`);
});

test("the meter costs no more than the 1 ms timer that it needs", async (context) => {
  const shareOf = async (begin: () => () => void): Promise<number> => {
    const end = begin();
    const [before, start] = [threadCpuMs(), performance.now()];
    await sleep(400);
    const share = (threadCpuMs() - before) / (performance.now() - start);
    end();
    return share;
  };
  const timer = (): (() => void) => {
    const interval = setInterval(() => undefined, 1);
    return () => clearInterval(interval);
  };
  const metered = (): (() => void) => {
    const meter = new LoopStallMeter();
    meter.start();
    return () => meter.stop();
  };
  await shareOf(metered);
  const shares = { nothing: await shareOf(() => () => undefined), timer: await shareOf(timer), meter: await shareOf(metered) };
  context.diagnostic(
    `share of a core in %: ${JSON.stringify(shares, (_, value: unknown) => (typeof value === "number" ? Math.round(value * 10_000) / 100 : value))}`,
  );
  assert.ok(shares.meter - shares.timer < 0.03);
});
