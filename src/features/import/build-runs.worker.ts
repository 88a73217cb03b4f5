// Builds run files, one job a message, in a process (or thread) of its own; its memory is used again from job to job.
// Messages in: ShardJob; the end of messages ends it. Out: ShardDone.

import { ShardBuilder } from "#lsm/build-shard";
import type { WorkerBody } from "#platform/workers";
import { checkShardJob, runShardJob } from "./shard-job.ts";

const body: WorkerBody = async ({ port, files, clock, data, signal }) => {
  const { memoryBytes } = data as { memoryBytes: number };
  const builder = new ShardBuilder({ files, clock, memoryBytesMax: memoryBytes, signal });
  for (let message = await port.receive(); message !== undefined; message = await port.receive()) {
    port.send(await runShardJob(checkShardJob(message), { files, clock }, builder));
  }
};
export default body;
