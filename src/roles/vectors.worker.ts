// The vectors thread: opens the collections of the data folder and answers until it is asked to stop. Wiring only; src/vectors/host has the work.

import type { Durability } from "#backbone/log";
import type { WorkerBody } from "#platform/workers";
import type { VectorsConfig } from "#wire/vector-config";

/** What the thread is started with. */
export interface VectorsThreadData {
  readonly config: VectorsConfig;
  readonly dataFolder: string;
  readonly durability: Durability;
  readonly intervalMs?: number;
  readonly node: string;
}

const body: WorkerBody = async ({ port }) => {
  await port.receive();
};

export default body;
