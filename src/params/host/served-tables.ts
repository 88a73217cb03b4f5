// The tables as a thread beside the parameters thread has them: it pulls straight from their memory, and hands writes over a ring.
// Invariants: 1. a write resolves once it is applied, so whoever waited for it reads it  2. writes are applied in the order in which they were given  3. every write ends by its deadline; one
//                that ended so may have been applied  4. when the parameters thread dies, pulls go on from the memory as it is and writes are refused until `serve` begins a new life.
// Cost: a copy of a batch into the ring; some 15 us until it is applied. Concurrency: one thread, with a lane of its own. Limits: servedTablesLimits.

import { type ErrorCode, MillraceError, toMillraceError } from "#base/errors";
import type { Clock } from "#platform/clock";
import { ParameterReader } from "../parameter-reader.ts";
import { createUpdateRing, type UpdateBell, type UpdateKind, UpdateProducer, type UpdateResult, type UpdateRingTicket } from "../update-ring.ts";
import type { ParameterTableTicket } from "./parameter-host.ts";

export const servedTablesLimits = {
  /** Of the ring: a batch takes at most half. */
  ringBytes: 16 << 20,
  /** Of batches that wait for room in the ring. */
  waitingBytesMax: 64 << 20,
  writeMsMax: 30_000,
  /** How often deadlines are looked at while something is under way. */
  lookMs: 500,
} as const;

/** Commands since the start. */
export interface ServedCounts {
  pulls: number;
  pulledRows: number;
  missedRows: number;
  pushes: number;
  pushedRows: number;
}

export interface ServedTable {
  readonly id: number;
  readonly name: string;
  readonly dim: number;
  /** Rows of any batch; see ShardedPulls. */
  readonly reader: ParameterReader;
  readonly counts: ServedCounts;
  /** Addresses of the nodes that it is taken from: it takes no writes here. */
  readonly follows?: string;
}

export interface WriteOutcome {
  /** Keys without room, held back by admission, or with rows that are not finite. */
  readonly refused: number;
  /** Rows that a delete found. */
  readonly removed: number;
}

interface Pending {
  readonly table: ServedTable;
  readonly kind: UpdateKind;
  readonly count: number;
  readonly deadlineMs: number;
  settled: boolean;
  readonly resolve: (outcome: WriteOutcome) => void;
  readonly reject: (error: MillraceError) => void;
}

interface Waiting extends Pending {
  readonly keys: Uint32Array;
  readonly numbers: Float32Array;
  readonly touchedS: number;
}

const noCounts = (): ServedCounts => ({ pulls: 0, pulledRows: 0, missedRows: 0, pushes: 0, pushedRows: 0 });

export class ServedTables {
  readonly #clock: Clock;
  readonly #lane: number;
  readonly #tables = new Map<string, ServedTable>();
  #ring: UpdateProducer | undefined;
  /** By lease: the address of the server that takes the writes. */
  #ledBy: string | undefined;
  #refusal: MillraceError = new MillraceError("unavailable", "the parameter tables are being opened", { todo: "send again in a moment" });
  /** Offered, in order. */
  #pending: Pending[] = [];
  #pendingFrom = 0;
  /** Not offered: the ring was full. */
  #waiting: Waiting[] = [];
  #waitingBytes = 0;
  /** The ring whose results are waited for. */
  #listening: UpdateProducer | undefined;

  /** `lane`: of this thread, in every table. */
  constructor(clock: Clock, lane: number) {
    this.#clock = clock;
    this.#lane = lane;
  }

  /** Begins a life of the parameters thread: makes the ring whose ticket that thread is to drain. */
  serve(bell: UpdateBell): UpdateRingTicket {
    const ticket = createUpdateRing({ bytes: servedTablesLimits.ringBytes }, bell);
    this.#ring = new UpdateProducer(ticket);
    return ticket;
  }

  /**
   * A table can be read and written; one of the same name before it is let go. The thread that tells it goes on meanwhile: a table whose memory was given back before this was heard counts
   * as dropped, and false is returned. Throws `corrupt` for a memory without a table.
   */
  opened({ id, name, dim, shards, follows }: ParameterTableTicket): boolean {
    const before = this.#tables.get(name);
    let reader: ParameterReader;
    try {
      reader = ParameterReader.attach(shards, this.#lane);
    } catch (thrown) {
      // Whatever was there before it is not that table any more.
      if (before !== undefined) this.dropped(before.id);
      if (toMillraceError(thrown).code === "unavailable") return false;
      throw thrown;
    }
    const table: ServedTable = { id, name, dim, reader, counts: before?.counts ?? noCounts(), ...(follows === undefined ? {} : { follows }) };
    this.#tables.set(name, table);
    before?.reader.release();
    return true;
  }

  dropped(id: number): void {
    for (const table of this.#tables.values()) {
      if (table.id !== id) continue;
      this.#tables.delete(table.name);
      table.reader.release();
    }
  }

  /** The parameters thread is gone: what is under way ends with this error, and so does every write until `serve`. */
  lost(error: MillraceError): void {
    this.#refusal = error;
    this.#ring = undefined;
    const all = [...this.#pending.slice(this.#pendingFrom), ...this.#waiting];
    this.#pending = [];
    this.#pendingFrom = 0;
    this.#waiting = [];
    this.#waitingBytes = 0;
    for (const one of all) settle(one, error);
  }

  /** Another server takes the writes from now on; undefined: this one, or nobody, which the parameters thread knows. */
  ledBy(address: string | undefined): void {
    this.#ledBy = address;
  }

  /** Lets all memories go. */
  close(): void {
    this.lost(new MillraceError("unavailable", "the server stops", { todo: "connect again" }));
    for (const { reader } of this.#tables.values()) reader.release();
    this.#tables.clear();
  }

  get list(): readonly ServedTable[] {
    return [...this.#tables.values()];
  }

  find(name: string): ServedTable | undefined {
    return this.#tables.get(name);
  }

  /**
   * Hands over `count` keys (low and high word) with `dim` numbers each, none for a delete; both are copied at once. Rejects with `invalid` for rows of another width, `not-found` for a table
   * that was dropped, `conflict` for one that is taken from another node, `overloaded` when too much waits, `unavailable` without a parameters thread, `timeout`.
   */
  write(
    table: ServedTable,
    kind: UpdateKind,
    keys: Uint32Array,
    count: number,
    numbers: Float32Array,
    touchedS = Math.floor(this.#clock.nowMs() / 1_000),
  ): Promise<WriteOutcome> {
    const ring = this.#ring;
    if (table.follows !== undefined || this.#ledBy !== undefined) {
      const why = table.follows === undefined ? `${this.#ledBy} leads it` : `it follows ${table.follows}`;
      return Promise.reject(
        new MillraceError("conflict", `parameter table ${table.name} takes no writes here: ${why}`, { todo: "write to the server that leads it" }),
      );
    }
    if (ring === undefined) return Promise.reject(this.#refusal);
    const wanted = kind === "delete" ? 0 : count * table.dim;
    if (numbers.length !== wanted || keys.length < 2 * count) {
      return Promise.reject(
        new MillraceError("invalid", `${numbers.length} numbers for ${count} keys of table ${table.name}`, {
          todo: `send ${kind === "delete" ? "none" : `${table.dim} a key`}`,
        }),
      );
    }
    table.counts.pushes += 1;
    table.counts.pushedRows += count;
    const { promise, resolve, reject } = Promise.withResolvers<WriteOutcome>();
    const pending: Pending = { table, kind, count, deadlineMs: this.#clock.monotonicMs() + servedTablesLimits.writeMsMax, settled: false, resolve, reject };
    const seq = this.#waiting.length > 0 ? undefined : ring.offer(table.id, kind, keys, count, numbers, touchedS);
    if (seq === undefined) {
      const bytes = 8 * count + 4 * numbers.length;
      if (this.#waitingBytes + bytes > servedTablesLimits.waitingBytesMax) {
        return Promise.reject(
          new MillraceError("overloaded", "parameter writes come faster than they are applied", { todo: "wait for answers before you send more" }),
        );
      }
      this.#waitingBytes += bytes;
      // Each has its own copy: the caller's columns are used again.
      this.#waiting.push(Object.assign(pending, { keys: keys.slice(0, 2 * count), numbers: numbers.slice(), touchedS }));
    } else this.#pending.push(pending);
    if (this.#listening !== ring) void this.#listen(ring);
    return promise;
  }

  /** Settles what was applied and offers what waited, as long as anything is under way. Ends with its ring: what was under way then was settled by `lost`. */
  async #listen(ring: UpdateProducer): Promise<void> {
    this.#listening = ring;
    try {
      while (ring === this.#ring) {
        const seen = ring.applied;
        ring.results((result) => this.#settle(result));
        this.#offerWaiting(ring);
        if (this.#pendingFrom === this.#pending.length && this.#waiting.length === 0) break;
        this.#expire();
        await ring.appliedPast(seen, servedTablesLimits.lookMs);
      }
    } catch (thrown) {
      if (ring === this.#ring) this.lost(new MillraceError("internal", "the ring of parameter writes is damaged", { cause: thrown, todo: "report this" }));
    }
    if (this.#listening === ring) this.#listening = undefined;
  }

  #settle({ refused, removed, errorCode }: UpdateResult): void {
    const one = this.#pending[this.#pendingFrom++]!;
    if (this.#pendingFrom === this.#pending.length) {
      this.#pending.length = 0;
      this.#pendingFrom = 0;
    }
    if (one.settled) return;
    one.settled = true;
    if (errorCode === undefined) one.resolve({ refused, removed });
    else one.reject(refusalOf(errorCode, one));
  }

  #offerWaiting(ring: UpdateProducer): void {
    let taken = 0;
    for (const one of this.#waiting) {
      if (!one.settled && ring.offer(one.table.id, one.kind, one.keys, one.count, one.numbers, one.touchedS) === undefined) break;
      if (!one.settled) this.#pending.push(one);
      this.#waitingBytes -= 8 * one.count + 4 * one.numbers.length;
      taken++;
    }
    if (taken > 0) this.#waiting.splice(0, taken);
  }

  #expire(): void {
    const nowMs = this.#clock.monotonicMs();
    const late = (one: Pending): boolean => one.deadlineMs <= nowMs;
    // In order of their coming: the first that is not late ends it.
    for (let i = this.#pendingFrom; i < this.#pending.length && late(this.#pending[i]!); i++) settle(this.#pending[i]!, tooLate(this.#pending[i]!));
    for (let i = 0; i < this.#waiting.length && late(this.#waiting[i]!); i++) settle(this.#waiting[i]!, tooLate(this.#waiting[i]!));
  }
}

function settle(one: Pending, error: MillraceError): void {
  if (one.settled) return;
  one.settled = true;
  one.reject(error);
}

function tooLate({ table }: Pending): MillraceError {
  return new MillraceError("timeout", `a write to parameter table ${table.name} was not applied within ${servedTablesLimits.writeMsMax} ms`, {
    todo: "send it again with WORKER and SEQ, it may still be applied",
  });
}

function refusalOf(code: ErrorCode, { table, kind }: Pending): MillraceError {
  switch (code) {
    case "not-found":
      return new MillraceError(code, `parameter table ${table.name} was dropped`, { todo: "PTABLES names those there are" });
    case "conflict":
      return new MillraceError(code, `parameter table ${table.name} is led by another node`, { todo: "write to that one" });
    case "unavailable":
      return new MillraceError(code, `parameter table ${table.name} is changing hands`, { todo: "send again within two seconds" });
    case "overloaded":
      return new MillraceError(code, `parameter table ${table.name} has no room`, { todo: "give it more memoryMb" });
    default:
      return new MillraceError(code, `a ${kind} to parameter table ${table.name} failed`, { todo: "see the server's log" });
  }
}
