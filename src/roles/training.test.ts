// The trainer's thread over a real data folder, and the same training without a server.

import assert from "node:assert/strict";
import { test } from "node:test";
import { openEmbeddedLog } from "#backbone/embedded-log";
import { createMemoryRegistry } from "#backbone/memory-registry";
import { activityPartition, type ModelConfig } from "#gateway/index";
import { systemClock } from "#platform/system-clock";
import { makeTemporaryFolder, systemFiles } from "#platform/system-files";
import { systemWorkers } from "#platform/system-workers";
import { type Checkpoint, restoreNewest } from "#training/checkpoint";
import { clickStream, streamDeclaration, streamMachine } from "#training/click-stream.fuzz";
import { modelFolder, checkpointKindOf } from "./model-folder.ts";
import { createModel } from "./model-parts.ts";
import { trainOffline, writeSamples } from "./train-offline.ts";
import { startTraining } from "./training.ts";

const { factors, capacityRows, initialScale, optimizer, rate, l2, initialAccumulator } = streamMachine;
const config: ModelConfig = {
  fields: streamDeclaration.fields as ModelConfig["fields"],
  ...{ factors, capacityRows, initialScale, optimizer, rate, l2, initialAccumulator },
  itemsMax: 1_000,
  slotsPerItemMax: 8,
  seed: 5,
  samples: { positiveTypes: ["click"], windowSeconds: 1, latenessSeconds: 5, negativeRate: 0.5, openAnswersMax: 10_000 },
  checkpointSeconds: 3_600,
};
const kind = checkpointKindOf(config, createModel(config).extractor);

async function newest(folder: string): Promise<Checkpoint> {
  return { ...(await restoreNewest(systemFiles, folder, kind, () => undefined, assert.fail))!, writtenMs: 0 };
}

const partOf = (checkpoint: Checkpoint, name: string): unknown => checkpoint.parts.filter((part) => part.name === name);

test("promise: the thread, the command over the data folder and the command over its samples learn the same", async () => {
  const folder = await makeTemporaryFolder("millrace-training-");
  const at = (name: string): string => systemFiles.join(folder, name);
  const signal = new AbortController().signal;
  const warnings: string[] = [];
  try {
    const { records } = clickStream(500, { seed: "thread" });
    const registry = createMemoryRegistry({ clock: systemClock });
    const log = openEmbeddedLog({ files: systemFiles, clock: systemClock, registry, folder: at("log"), durability: "none" });
    const writer = await log.openWriter(activityPartition);
    const start = (): ReturnType<typeof startTraining> => {
      const { model } = createModel(config);
      return startTraining({ workers: systemWorkers, config, dataFolder: folder, ticket: model.ticket, warn: (message) => warnings.push(message) });
    };
    const half = records.length >> 1;
    for (const [from, to] of [
      [0, half],
      [half, records.length],
    ] as const) {
      const thread = start();
      assert.equal(thread.status().state, "starting");
      await thread.ready;
      await writer.append(records.slice(from, to));
      thread.signals.publish("head", to);
      const deadline = systemClock.monotonicMs() + 30_000;
      while (thread.signals.get("vectors") < to && systemClock.monotonicMs() < deadline) {
        await thread.signals.changed("vectors", thread.signals.get("vectors"), 1_000);
      }
      assert.equal(thread.status().trainedOffset, to);
      await thread.stop();
      assert.equal(await thread.failed, undefined);
      const status = thread.status();
      assert.deepEqual([status.state, status.behind, status.checkpointOffset], ["learning", 0, to]);
      assert.ok(status.samples > 300 && thread.quality(15).points.length > 10);
    }
    await log.close();

    const live = await newest(modelFolder(systemFiles, folder));
    const fromLog = await trainOffline([folder], config, at("from-log"), signal);
    assert.deepEqual(await newest(at("from-log")), live);

    const written = await writeSamples(folder, config, at("a.samples"), signal);
    assert.equal(written.samples, fromLog.quality.samples);
    await assert.rejects(writeSamples(folder, config, at("a.samples"), signal), { code: "conflict" });
    const fromFile = await trainOffline([at("a.samples")], config, at("from-file"), signal);
    // The figures differ: a sample in a file does not know what the model thought when its answer was given.
    assert.equal(fromFile.quality.positives, fromLog.quality.positives);
    const learned = await newest(at("from-file"));
    assert.deepEqual([learned.offset, partOf(learned, "machine")], [0, partOf(live, "machine")]);
    assert.deepEqual(warnings, []);

    await assert.rejects(trainOffline([folder, at("a.samples")], config, at("x"), signal), { code: "invalid" });
    await assert.rejects(trainOffline([at("none")], config, at("x"), signal), { code: "not-found" });
    await assert.rejects(writeSamples(at("from-log"), config, at("b.samples"), signal), { code: "not-found" });
  } finally {
    await systemFiles.removeFolder(folder);
  }
});

test("a log that cannot be read ends the thread: status says failed, why and what to do; the caller goes on", async () => {
  const folder = await makeTemporaryFolder("millrace-training-");
  const warnings: string[] = [];
  try {
    const registry = createMemoryRegistry({ clock: systemClock });
    const log = openEmbeddedLog({
      files: systemFiles,
      clock: systemClock,
      registry,
      folder: systemFiles.join(folder, "log"),
      durability: "none",
    });
    const writer = await log.openWriter(activityPartition);
    await writer.append([new Uint8Array([200, 1, 0, 0, 0, 0, 0, 0, 0, 0])]);
    const { model } = createModel(config);
    const thread = startTraining({ workers: systemWorkers, config, dataFolder: folder, ticket: model.ticket, warn: (message) => warnings.push(message) });
    const error = await thread.failed;
    assert.equal(error?.code, "unsupported");
    const { state, reason } = thread.status();
    assert.equal(state, "failed");
    assert.match(reason!, /activity record of kind 200.*restart the server/s);
    assert.equal(warnings.length, 1);
    await thread.stop();
    await log.close();
  } finally {
    await systemFiles.removeFolder(folder);
  }
});
