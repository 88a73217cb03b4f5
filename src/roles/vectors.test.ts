// The vector engine in its real thread, over real files.

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "#platform/system-clock";
import { systemWorkers } from "#platform/system-workers";
import { vectorServiceContract } from "#vectors/vector-service.contract";
import { startVectors } from "./vectors.ts";

vectorServiceContract("engine in its thread", async () => {
  const dataFolder = await mkdtemp(join(tmpdir(), "millrace-vectors-"));
  const warnings: string[] = [];
  const vectors = startVectors({
    workers: systemWorkers,
    clock: systemClock,
    config: {},
    dataFolder,
    durability: "interval",
    node: "test",
    warn: (message) => warnings.push(message),
  });
  await vectors.opened;
  return {
    service: vectors.service,
    async close() {
      await vectors.stop();
      await rm(dataFolder, { recursive: true, force: true });
      if (warnings.length > 0) throw new Error(warnings.join("\n"));
    },
  };
});
