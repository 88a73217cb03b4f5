// Reads run files into memories away from the serving loop, in one thread that stands back behind everything else on the machine.
// Why: a gigabyte is half a second of copies and checksums. Beside a thread of the same priority on its core a read that was due waited up to 6 ms, one in a hundred 3 ms; on the
// serving loop itself it would wait for every slice (docs/design/tables.md).
// Why one thread that stays: starting one costs 30 ms of processor at the priority of the process, at the very time when a version is to be switched.
// Invariants: 1. a file that `load` returned was verified, byte for byte  2. the memory belongs to the thread until `load` settles: release it only then.
// Cost: 12 MB of resident memory from the first load on; two messages a file.
// Concurrency: belongs to the thread of the pool. Files are loaded one after the other, in the order in which they were asked for.

import { collectDropped } from "#kernel/collect-dropped";
import type { MemoryLease, MemoryPool } from "#kernel/memory-pool";
import { RunImage } from "#kernel/run-image";
import type { Clock } from "#platform/clock";
import { standingBack, type Workers } from "#platform/workers";
import type { RunToLoad } from "./loaded-run.ts";
import { WorkLine } from "./work-line.ts";

export class RunLoader {
  readonly #line: WorkLine;
  readonly #collecting: { stop(): void };

  /** `pool`: of the memories that are loaded into. */
  constructor({ workers, pool, clock }: { readonly workers: Workers; readonly pool: MemoryPool; readonly clock: Clock }) {
    this.#line = new WorkLine(standingBack(workers), "run-loader");
    // What the pool drops is freed once this thread has let go of it too.
    this.#collecting = collectDropped(pool, clock, () => this.#line.collectGarbage());
  }

  /** As `readRun`. */
  async load(run: RunToLoad, lease: MemoryLease, at: number): Promise<RunImage> {
    await this.#line.do({ kind: "load", run, into: { ticket: lease.ticket, at } });
    return RunImage.attach(lease.memory, at, run.bytes);
  }

  /** After the loads that were asked for. */
  async stop(): Promise<void> {
    this.#collecting.stop();
    await this.#line.stop();
  }
}
