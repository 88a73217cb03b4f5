// The loop over a real data folder: it follows the log while another process' writer appends, stops and goes on, and survives kill -9 at random moments with the
// figures of a run that nobody disturbed.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { test } from "node:test";
import type { LogWriter } from "#backbone/log";
import { Prng } from "#base/prng";
import { systemClock } from "#platform/system-clock";
import { makeTemporaryFolder, systemFiles } from "#platform/system-files";
import { type Checkpoint, restoreNewest } from "./checkpoint.ts";
import { clickStream } from "./click-stream.fuzz.ts";
import { openLog, partition, run, runKind } from "./loop-run.fuzz.ts";
import type { TrainingSignals } from "./training-signals.ts";

const seed = Number(process.env["SEED"] ?? 20_260_306);
const long = process.env["MILLRACE_LONG"] !== undefined;
async function append(writer: LogWriter, records: readonly Uint8Array[]): Promise<void> {
  for (let from = 0; from < records.length; from += 500) await writer.append(records.slice(from, from + 500));
}

async function reach(signals: TrainingSignals, offset: number): Promise<void> {
  const deadline = systemClock.monotonicMs() + 60_000;
  while (signals.get("trained") < offset) {
    assert.ok(systemClock.monotonicMs() < deadline, `trained ${signals.get("trained")} of ${offset}`);
    await signals.changed("trained", signals.get("trained"), 1_000);
  }
}

/** The newest checkpoint, without when it was written. */
async function newest(folder: string, model: string): Promise<Checkpoint> {
  const found = await restoreNewest(systemFiles, systemFiles.join(folder, model), runKind, () => undefined, assert.fail);
  return { ...found!, writtenMs: 0 };
}

test("the loop follows a growing log, reports, stops with a checkpoint and goes on from it", async () => {
  const folder = await makeTemporaryFolder("millrace-loop-");
  try {
    const { records } = clickStream(800, { seed });
    const half = records.length >> 1;
    const log = openLog(folder);
    const writer = await log.openWriter(partition);
    const first = run(folder, "model", 1_000);
    await append(writer, records.slice(0, half));
    first.signals.publish("head", half);
    await reach(first.signals, half);
    assert.equal(first.signals.get("vectors"), half);
    await first.stop();
    const status = first.reports.findLast((report) => report.kind === "status")!.status;
    assert.deepEqual([status.state, status.trainedOffset, status.behind, status.checkpointOffset], ["learning", half, 0, half]);
    assert.ok(status.samples > 500 && status.rows > 50 && status.recent !== undefined);
    const points = first.reports.flatMap((report) => (report.kind === "quality" && report.width === 0 ? report.points : []));
    assert.ok(points.length > 10);

    const second = run(folder, "model", 1_000);
    await append(writer, records.slice(half));
    // Nobody tells it: it looks by itself.
    await reach(second.signals, records.length);
    await second.stop();
    // After a start everything is told again, for a server that has just started too.
    const again = second.reports.flatMap((report) => (report.kind === "quality" && report.width === 0 ? report.points : []));
    assert.deepEqual(again.slice(0, points.length), points);
    await log.close();

    const whole = run(folder, "whole", 1_000);
    await reach(whole.signals, records.length);
    await whole.stop();
    assert.deepEqual(await newest(folder, "model"), await newest(folder, "whole"));
  } finally {
    await systemFiles.removeFolder(folder);
  }
});

/** The loop in a process of its own. */
const child = (folder: string): string => `
  const { runForKill } = await import(${JSON.stringify(new URL("./loop-run.fuzz.ts", import.meta.url).href)});
  await runForKill(${JSON.stringify(folder)}, (line) => process.stdout.write(line));`;

test("promise: kill -9 of a training process at any moment, and it goes on with the same prequential figures", async (t) => {
  const folder = await makeTemporaryFolder("millrace-loop-kill-");
  try {
    const { records } = clickStream(long ? 60_000 : 8_000, { seed: seed + 1 });
    const log = openLog(folder);
    const writer = await log.openWriter(partition);
    await append(writer, records);
    await log.close();
    const prng = new Prng(seed).fork("kills");
    const wanted = long ? 12 : 3;
    const killedAt: number[] = [];
    while (killedAt.length < wanted) {
      const process_ = spawn(process.execPath, ["--input-type=module", "-e", child(folder)], { stdio: ["ignore", "pipe", "inherit"] });
      let output = "";
      process_.stdout.on("data", (chunk: Buffer) => (output += chunk.toString()));
      const from = killedAt.at(-1) ?? 0;
      const until = from + prng.below(Math.max(1, Math.floor((records.length - from) / 2)));
      const reached = (): number => Number(output.slice(0, output.lastIndexOf("\n")).split("\n").at(-1));
      const deadline = systemClock.monotonicMs() + 60_000;
      while (!(reached() > until)) {
        assert.ok(systemClock.monotonicMs() < deadline && process_.exitCode === null, `the child stands at ${reached()} of ${until}`);
        await systemClock.sleep(2);
      }
      process_.kill("SIGKILL");
      await once(process_, "close");
      killedAt.push(reached());
    }
    const rest = run(folder, "model", 1_000);
    await reach(rest.signals, records.length);
    await rest.stop();
    const started = rest.reports.find((report) => report.kind === "status")!.status.trainedOffset;
    const whole = run(folder, "whole", 1_000);
    await reach(whole.signals, records.length);
    await whole.stop();
    assert.deepEqual(await newest(folder, "model"), await newest(folder, "whole"), `seed ${seed}`);
    assert.ok(started > 0, "the last start went on from a checkpoint, not from the first record");
    t.diagnostic(`${records.length} records, killed at ${killedAt.join(", ")}, then from ${started}${long ? "" : " (3 kills; MILLRACE_LONG: 12)"}`);
  } finally {
    await systemFiles.removeFolder(folder);
  }
});

test("a damaged newest checkpoint: warned, the one before is used, and the end is the same", async () => {
  const folder = await makeTemporaryFolder("millrace-loop-damage-");
  try {
    const { records } = clickStream(500, { seed: seed + 2 });
    const log = openLog(folder);
    const writer = await log.openWriter(partition);
    const third = Math.floor(records.length / 3);
    for (const to of [third, 2 * third]) {
      await append(writer, records.slice(to - third, to));
      const one = run(folder, "model", 1_000);
      await reach(one.signals, to);
      await one.stop();
    }
    await append(writer, records.slice(2 * third));
    await log.close();
    const names = (await systemFiles.list(systemFiles.join(folder, "model")))!;
    const path = systemFiles.join(folder, "model", names.at(-1)!);
    const bytes = (await systemFiles.readFile(path))!;
    bytes[bytes.length >> 1]! ^= 1;
    await systemFiles.writeFileAtomic(path, bytes);
    const last = run(folder, "model", 1_000);
    await reach(last.signals, records.length);
    await last.stop();
    assert.equal(last.reports.filter((report) => report.kind === "warning").length, 1);
    assert.equal(last.reports.find((report) => report.kind === "status")!.status.checkpointOffset, third);
    const whole = run(folder, "whole", 1_000);
    await reach(whole.signals, records.length);
    await whole.stop();
    assert.deepEqual(await newest(folder, "model"), await newest(folder, "whole"));
  } finally {
    await systemFiles.removeFolder(folder);
  }
});

test("promise: a log that is trimmed below what the loop said it needs changes nothing; where more is gone it says so and learns the rest", async () => {
  const folder = await makeTemporaryFolder("millrace-loop-trim-");
  try {
    const { records } = clickStream(3_000, { seed: seed + 3 });
    const log = openLog(folder);
    const writer = await log.openWriter(partition);
    const half = records.length >> 1;
    await append(writer, records.slice(0, half));
    const first = run(folder, "model", 1_000);
    await reach(first.signals, half);
    await first.stop();
    // The checkpoint of the beginning is one that a start may go back to.
    assert.equal(first.reports.findLast((report) => report.kind === "needs")!.offset, 0);
    const resumed = run(folder, "model", 1_000);
    await reach(resumed.signals, half);
    await resumed.stop();
    const needed = resumed.reports.findLast((report) => report.kind === "needs")!.offset;
    assert.ok(needed > 0 && needed <= half, `${needed} of ${half}`);
    await append(writer, records.slice(half));
    const whole = run(folder, "whole", 1_000);
    await reach(whole.signals, records.length);
    await whole.stop();

    await writer.trim(needed);
    const gone = writer.bounds.first;
    assert.ok(gone > 0, `nothing was trimmed, so nothing is proved: ${needed} of ${half}`);
    const second = run(folder, "model", 1_000);
    await reach(second.signals, records.length);
    await second.stop();
    assert.deepEqual(await newest(folder, "model"), await newest(folder, "whole"));
    assert.equal(second.reports.filter((report) => report.kind === "warning").length, 0);

    const anew = run(folder, "anew", 1_000);
    await reach(anew.signals, records.length);
    await anew.stop();
    const [warning] = anew.reports.filter((report) => report.kind === "warning");
    assert.match(warning!.message, new RegExp(`records 0 to ${gone} of the log were trimmed`));
    assert.ok(anew.reports.findLast((report) => report.kind === "status")!.status.samples > 0);
    await log.close();
  } finally {
    await systemFiles.removeFolder(folder);
  }
});
