// A gateway for a replay: the same intake, features and pipelines as the server's, on the log's clock instead of the machine's, over a data folder of its own
// that is removed at the end. Durability is `none`: what a replay writes can be replayed again. Where the configuration has a model, it learns when it is told to.

import { type GatewayConfig, openGateway, type OpenGateway } from "#gateway/index";
import type { Clock } from "#platform/clock";
import { systemClock } from "#platform/system-clock";
import { makeTemporaryFolder, systemFiles } from "#platform/system-files";
import { openDataFolder } from "./data-folder.ts";
import { type InlineLearning, inlineLearning } from "./inline-learning.ts";

export interface ReplayGateway {
  readonly gateway: OpenGateway;
  /** Absent without a model. */
  readonly learning: InlineLearning | undefined;
  /** Moves the log's clock; it never goes back. */
  setTime(atMs: number): void;
  /** Closes and removes the folder. */
  close(): Promise<void>;
}

export async function openReplayGateway(config: GatewayConfig, version: string): Promise<ReplayGateway> {
  let nowMs = 0;
  const clock: Clock = { ...systemClock, nowMs: () => nowMs };
  const path = await makeTemporaryFolder("millrace-replay-");
  const folder = await openDataFolder(path, "none");
  const learning = config.model === undefined ? undefined : inlineLearning(config.model, folder.log, clock);
  const gateway = openGateway({
    log: folder.log,
    clock,
    config,
    version,
    incarnation: "replay",
    ...(learning === undefined ? {} : { learning: learning.learning }),
  });
  await gateway.opened;
  return {
    gateway,
    learning,
    setTime(atMs) {
      nowMs = Math.max(nowMs, atMs);
    },
    async close() {
      await gateway.close();
      await folder.close();
      await systemFiles.removeFolder(path);
    },
  };
}
