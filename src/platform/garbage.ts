// A full collection of garbage in the calling thread, asked for.
// Why: shared memories that were let go of are freed by a full collection in every thread that saw them, and the engine does not count them as a reason for
// one: a thread with a small heap keeps gigabytes (measured: 400 MB, after 3 s of load and 15 s of rest). And once at the end of a start: what compiling and reading left, 25 to
// 40 MiB, the engine else keeps as room for as much garbage again. Not for anything else.
// Cost: it stops the thread: 11 ms at a heap of 20 MB, 20 ms in a worker the first time. Concurrency: any thread; others are not touched.

import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

let collect: ((options?: object) => void) | undefined;

function collector(): (options?: object) => void {
  if (collect === undefined) {
    setFlagsFromString("--expose-gc");
    collect = runInNewContext("gc") as (options?: object) => void;
  }
  return collect;
}

/** Collects now. What finalization registries then say comes in later turns of the loop. */
export function collectGarbage(): void {
  collector()();
}

/** Collects young objects alone. */
export function collectYoung(): void {
  collector()({ type: "minor" });
}

/** Collects and gives empty room back to the system, that of young objects too, which grows again as it is needed. Stops the thread for some 50 ms: before anybody is served, or in a thread that serves nobody. */
export function giveRoomBack(): void {
  collector()({ type: "major", execution: "sync", flavor: "last-resort" });
}
