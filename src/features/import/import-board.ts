// The statuses of all imports of a data folder, wherever they run (a terminal, a server's child): one registry value each, for HTTP and the console.
//   import/status/JOB    JSON of ImportStatus, the last `keptMax` finished ones stay
// Why the registry: whoever imports and whoever looks are different processes.
// Invariants: 1. an unfinished status stands under the lease of the process that imports: when that is killed, the status disappears with it
// 2. a status that cannot be read is left out.
// Cost: a registry change every `everyMs`.

import type { Lease, Registry } from "#backbone/registry";
import type { Clock } from "#platform/clock";
import type { ImportStatus } from "./import-status.ts";

const everyMs = 500;
const leaseMs = 10_000;
const keptMax = 20;
const prefix = "import/status/";

export interface BoardEntry extends ImportStatus {
  readonly job: string;
  readonly atMs: number;
}

/** Puts the statuses of one import on the board. */
export class BoardWriter {
  readonly #registry: Registry;
  readonly #clock: Clock;
  readonly #key: string;
  #lease: Lease | undefined;
  #last: ImportStatus | undefined;
  #due = 0;
  #writing: Promise<void> = Promise.resolve();
  #busy = false;

  constructor(registry: Registry, clock: Clock, job: string) {
    this.#registry = registry;
    this.#clock = clock;
    this.#key = `${prefix}${job}`;
  }

  /** As often as it likes: only every half second is written. */
  show(status: ImportStatus): void {
    const changed = status.stage !== this.#last?.stage;
    this.#last = status;
    if (this.#busy || (!changed && this.#clock.monotonicMs() < this.#due)) return;
    this.#due = this.#clock.monotonicMs() + everyMs;
    this.#busy = true;
    // A board that cannot be written must not stop the import.
    this.#writing = this.#write(false)
      .catch(() => undefined)
      .finally(() => (this.#busy = false));
  }

  /** The last status stays. */
  async end(): Promise<void> {
    await this.#writing;
    await this.#write(true);
    await this.#lease?.end();
    const entries = await this.#registry.list(prefix);
    const finished = entries.flatMap((entry) => {
      const status = readStatus(entry.value);
      return status === undefined || status.stage === "done" || status.stage === "failed" ? [{ key: entry.key, atMs: status?.atMs ?? 0 }] : [];
    });
    for (const { key } of finished.toSorted((a, b) => b.atMs - a.atMs).slice(keptMax)) await this.#registry.delete(key);
  }

  async #write(last: boolean): Promise<void> {
    if (this.#last === undefined) return;
    this.#lease ??= last ? undefined : await this.#registry.lease(leaseMs);
    const value = new TextEncoder().encode(JSON.stringify({ ...this.#last, job: this.#key.slice(prefix.length), atMs: this.#clock.nowMs() }));
    await this.#registry.put(this.#key, value, last || this.#lease === undefined ? {} : { lease: this.#lease });
  }
}

function readStatus(value: Uint8Array): BoardEntry | undefined {
  try {
    const status = JSON.parse(new TextDecoder().decode(value)) as BoardEntry;
    return typeof status.job === "string" && typeof status.table === "string" && typeof status.stage === "string" && Number.isFinite(status.atMs)
      ? status
      : undefined;
  } catch {
    return undefined;
  }
}

/** All imports that run or ran lately, the latest first. */
export async function listImports(registry: Registry): Promise<BoardEntry[]> {
  const entries = await registry.list(prefix);
  return entries.flatMap((entry) => readStatus(entry.value) ?? []).toSorted((a, b) => b.startedAtMs - a.startedAtMs);
}
