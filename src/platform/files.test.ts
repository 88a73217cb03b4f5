// Guards that what is tested on simulated files holds on the machine's.

import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { filesContract } from "./files.contract.ts";
import { Simulation } from "./simulation.ts";
import { promptFiles, systemFiles, threadFiles } from "./system-files.ts";

const engines = {
  "the machine": systemFiles,
  "the machine, read in the calling thread": threadFiles,
  "the machine, little written in the calling thread": promptFiles(),
};
for (const [engine, files] of Object.entries(engines)) {
  filesContract(engine, async (body) => {
    const folder = await mkdtemp(join(tmpdir(), "millrace-files-"));
    try {
      await body(files, folder);
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  });
}

filesContract("simulated", async (body) => {
  const simulation = new Simulation({ seed: process.env["SEED"] ?? 1 });
  await simulation.run(async () => {
    const { files } = simulation.node("a");
    await files.makeFolder("/data");
    await body(files, "/data");
  });
});
