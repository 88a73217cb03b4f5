// Whose turn it is: imports of a machine (or cluster) work one turn at a time, table by table in a circle.
// Why turns and not one import after another: a large one would hold up a small one for hours. A turn is one stretch of reading (256 MiB of rows) or one run file.
//   import/waiting/TABLE/ID    under the lease of whoever waits: since when
//   import/served/TABLE        a number that rises with every turn: when the table last had one
//   lock import/turn           who has the turn
// Invariants: 1. one turn at a time  2. among those who wait, the table that had its turn longest ago comes first, then whoever waits longest  3. who is killed loses turn and
// place with its lease.
// Cost: a turn is some ten registry calls; who waits asks every `askMs`.

import { MillraceError } from "#base/errors";
import type { Lease, Lock, Registry } from "#backbone/registry";
import type { Clock } from "#platform/clock";
import { importLimits } from "./import-limits.ts";

const askMs = 100;
const leaseMs = 10_000;
const encoder = new TextEncoder();
const decoder = new TextDecoder();

export interface TurnOptions {
  readonly registry: Registry;
  readonly clock: Clock;
  readonly table: string;
  /** Of this import. */
  readonly id: string;
  readonly signal?: AbortSignal;
  /** Default importLimits.turnWaitMsMax. */
  readonly waitMsMax?: number;
}

/** One import's place among the others. */
export class Turns {
  readonly #options: TurnOptions;
  #lease: Lease | undefined;
  #lock: Lock | undefined;
  /** True while others have the turn that this one waits for. */
  waiting = false;

  constructor(options: TurnOptions) {
    this.#options = options;
  }

  /** Waits for the turn. Throws `timeout` after `waitMsMax`. */
  async take(): Promise<void> {
    const { registry, clock, table, id, signal, waitMsMax = importLimits.turnWaitMsMax } = this.#options;
    if (this.#lease === undefined || !(await this.#lease.alive())) this.#lease = await registry.lease(leaseMs);
    const lease = this.#lease;
    const place = `import/waiting/${table}/${id}`;
    const sinceMs = clock.nowMs();
    await registry.put(place, encoder.encode(String(sinceMs)), { lease });
    this.waiting = true;
    try {
      for (const until = clock.monotonicMs() + waitMsMax; ; await clock.sleep(askMs, signal)) {
        signal?.throwIfAborted();
        if ((await this.#first()) === place) {
          this.#lock = await registry.tryLock("import/turn", lease);
          if (this.#lock !== undefined) break;
        }
        if (clock.monotonicMs() > until)
          throw new MillraceError("timeout", `the import of ${table} had no turn within ${waitMsMax} ms`, { todo: "look at the imports before it" });
        if (!(await lease.alive()))
          throw new MillraceError("conflict", `the import of ${table} lost its place: the process stood still`, { todo: "start it again, it goes on" });
      }
      const served = await registry.list("import/served/");
      const last = served.reduce((most, entry) => Math.max(most, Number(decoder.decode(entry.value))), 0);
      await registry.put(`import/served/${table}`, encoder.encode(String(last + 1)));
    } finally {
      this.waiting = false;
      await registry.delete(place);
    }
  }

  /** Gives the turn back. Idempotent. */
  async give(): Promise<void> {
    const lock = this.#lock;
    this.#lock = undefined;
    await lock?.release();
  }

  /** Gives everything back. */
  async end(): Promise<void> {
    await this.give();
    await this.#lease?.end();
    this.#lease = undefined;
  }

  /** Who is next among those who wait. */
  async #first(): Promise<string | undefined> {
    const { registry } = this.#options;
    const waiting = await registry.list("import/waiting/");
    const served = new Map(
      (await registry.list("import/served/")).map((entry) => [entry.key.slice("import/served/".length), Number(decoder.decode(entry.value))]),
    );
    const places = waiting.map((entry) => {
      const table = entry.key.slice("import/waiting/".length).split("/")[0]!;
      return { key: entry.key, turn: served.get(table) ?? 0, since: Number(decoder.decode(entry.value)) };
    });
    places.sort((a, b) => a.turn - b.turn || a.since - b.since || (a.key < b.key ? -1 : 1));
    return places[0]?.key;
  }
}
