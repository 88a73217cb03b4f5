// The thread that reads and checksums files: see verify-files.ts.

import type { WorkerBody } from "#platform/workers";
import { type FileToVerify, verifyHere, type VerifyMessage } from "./verify-files.ts";

/** A word of progress at most so often: each costs the thread that serves some 30 us. */
const progressMs = 100;

const body: WorkerBody = async ({ port, clock, files, data, signal }) => {
  let toldMs = clock.monotonicMs();
  const bad = await verifyHere(data as readonly FileToVerify[], {
    files,
    clock,
    signal,
    onProgress: (bytesDone) => {
      if (clock.monotonicMs() - toldMs < progressMs) return;
      toldMs = clock.monotonicMs();
      port.send(bytesDone satisfies VerifyMessage);
    },
  });
  port.send(bad satisfies VerifyMessage);
};

export default body;
