// The parameter server's engine: opens the declared tables and those that commands made, applies the writes of its rings, keeps the tables within their bounds, takes checkpoints.
//   DATA/params/TABLE/    table.json and the checkpoints of one table
// Everything is handed in, so that it runs in a thread (src/roles/parameters.worker.ts) and in a test without one.
//
// Invariants: 1. a table's number is never given to another one in a life of the host  2. a write is answered once readers see it  3. a table whose checkpoint is damaged is `failed`: the
//                others serve, its files stay as they are  4. after `stop` everything written is in a checkpoint.
// Concurrency: one thread. Between two turns of the loop it applies at most `turnRecords` records and does one slice of each table's work.
// Limits: parameterLimits.tablesMax; memoryBytesMax, of the tables' own sizes.

import { MillraceError, toMillraceError } from "#base/errors";
import type { MemoryPool } from "#kernel/memory-pool";
import type { Clock } from "#platform/clock";
import type { Files } from "#platform/files";
import {
  exchangeNamePattern,
  type ParameterControl,
  type ParameterExchange,
  type ParameterLooking,
  type ParameterSaved,
  type ParametersStatus,
  type ParameterTableLook,
  type ParameterTableStatus,
} from "#wire/parameter-api";
import { checkParameterTable, type ParameterTableConfig } from "#wire/parameter-config";
import { parameterLimits } from "#wire/parameter-limits";
import { exportNpy, importNpy } from "../npy-exchange.ts";
import type { ShardTicket } from "../parameter-store.ts";
import { type UpdateAnswer, UpdateBell, UpdateConsumer, type UpdateRecord, type UpdateRingTicket } from "../update-ring.ts";
import type { HostSync } from "./host-sync.ts";
import { HostTable } from "./host-table.ts";
import { lookAt } from "./table-look.ts";
import { readTableRecord, shapeOf } from "./table-record.ts";

export const parameterHostLimits = {
  /** Records of each ring that are applied before the loop turns. */
  turnRecords: 32,
  /** Between two slices of a table's work. */
  sweepMs: 20,
  /** So long writes wait for followers to hold the tombstones that take their room; then these are collected, and such followers load the buckets anew. */
  roomWaitMs: 500,
  /** At the end, for producers that do not stop writing. */
  lastTurns: 100_000,
} as const;

export interface ParameterHostOptions {
  readonly pool: MemoryPool;
  readonly clock: Clock;
  readonly files: Files;
  /** DATA/params. */
  readonly folder: string;
  /** By the configuration file. */
  readonly tables: Readonly<Record<string, ParameterTableConfig>>;
  /** Of this node, in versions. Default 0. */
  readonly node?: number;
  /** With other processes. Absent: these tables are alone. The host closes it. */
  readonly sync?: HostSync;
  /** Of the sizes of all tables. */
  readonly memoryBytesMax: number;
  /** DATA/exchange: exports and imports. */
  readonly exchangeFolder?: string;
  /** Rung by the producers of all rings. Default: a new one. */
  readonly bell?: UpdateBell;
  /** For the operator's log. */
  readonly warn: (message: string) => void;
  /** A table can be read from now on, and written when it is led here; for tables made later, too. One that is followed may take its time. */
  readonly onOpened?: (table: HostTable) => void;
  /** A table is being dropped: let its memory go. */
  readonly onDropped?: (table: HostTable) => void;
}

/** What another thread needs to read a table, and to write it through a ring. */
export interface ParameterTableTicket {
  /** In records of a ring. */
  readonly id: number;
  readonly name: string;
  readonly dim: number;
  readonly shards: readonly ShardTicket[];
  /** Addresses of the nodes that the table is taken from: it takes no writes here. */
  readonly follows?: string;
}

const sizeOf = ({ memoryMb }: ParameterTableConfig): number => memoryMb * 2 ** 20;

export class ParameterHost implements Omit<ParameterControl, "status">, ParameterLooking {
  readonly #options: ParameterHostOptions;
  readonly #tables = new Map<string, HostTable>();
  readonly #byId: (HostTable | undefined)[] = [];
  readonly #failed = new Map<string, ParameterTableStatus>();
  /** Made or dropped right now. */
  readonly #busy = new Set<string>();
  readonly #rings = new Set<UpdateConsumer>();
  /** Calls that read or write a table over several turns; it is not dropped meanwhile. */
  readonly #users = new Map<string, number>();
  /** Rung by the producers of all rings. */
  readonly bell: UpdateBell;
  #sweptMs = 0;
  /** Since when writes wait for followers. */
  #shortSinceMs: number | undefined;
  #stopping = false;

  private constructor(options: ParameterHostOptions) {
    this.#options = options;
    this.bell = options.bell ?? new UpdateBell();
  }

  /** Opens all tables. Throws `conflict` when a table on disk has another shape than is asked for, `overloaded`, `invalid`; a damaged table is told in `status`. */
  static async open(options: ParameterHostOptions): Promise<ParameterHost> {
    const host = new ParameterHost(options);
    try {
      await options.files.makeFolder(options.folder);
      for (const [name, config] of Object.entries(options.tables)) await host.#openAtStart(name, config, true);
      for (const name of (await options.files.list(options.folder)) ?? []) {
        if (Object.hasOwn(options.tables, name)) continue;
        const record = await readTableRecord(options.files, host.#folderOf(name)).catch((thrown: unknown) => {
          options.warn(`parameter table ${name}: ${toMillraceError(thrown).message}`);
        });
        if (record === undefined) continue;
        if (record.created) await host.#openAtStart(name, record.config, false);
        else options.warn(`parameter table ${name} is no longer in the configuration; its rows stay in ${host.#folderOf(name)}`);
      }
      // A follower that came before its table would be turned away, and come again only some seconds later.
      await options.sync?.listen();
    } catch (thrown) {
      for (const table of host.#tables.values()) await table.discard();
      await options.sync?.close();
      throw thrown;
    }
    return host;
  }

  #folderOf(name: string): string {
    return this.#options.files.join(this.#options.folder, name);
  }

  async #openAtStart(name: string, config: ParameterTableConfig, declared: boolean): Promise<void> {
    try {
      await this.#open(name, config, declared);
    } catch (thrown) {
      const error = toMillraceError(thrown);
      if (error.code !== "corrupt") throw error;
      this.#options.warn(`parameter table ${name} neither reads nor writes, the others do: ${error.message}`);
      this.#failed.set(name, failedStatus(name, config, declared, error));
    }
  }

  async #open(name: string, config: ParameterTableConfig, declared: boolean): Promise<HostTable> {
    const { pool, files, clock, node = 0, sync, memoryBytesMax, onOpened } = this.#options;
    checkParameterTable(name, config);
    const bytes = this.#bytes() + sizeOf(config);
    if (bytes > memoryBytesMax) {
      throw new MillraceError(
        "overloaded",
        `parameter table ${name} of ${config.memoryMb} MiB: all tables have ${memoryBytesMax / 2 ** 20} MiB, ${this.#bytes() / 2 ** 20} are taken`,
        {
          todo: "raise parameters.memoryMb, or drop a table",
        },
      );
    }
    if (this.#byId.length > 0xffff) throw new MillraceError("overloaded", "65,536 parameter tables since the start", { todo: "restart the server" });
    const id = this.#byId.length;
    // Its number is taken even when opening fails.
    this.#byId.push(undefined);
    const table = await HostTable.open({ id, name, config, declared, node, leads: sync?.leads ?? true, pool, files, clock, folder: this.#folderOf(name) });
    this.#byId[id] = table;
    this.#tables.set(name, table);
    const usable = sync?.attach(table);
    if (usable === undefined) onOpened?.(table);
    else
      void usable.then((open) => {
        if (open) onOpened?.(table);
      });
    return table;
  }

  #bytes(): number {
    let sum = 0;
    for (const { config } of this.#tables.values()) sum += sizeOf(config);
    return sum;
  }

  get tables(): readonly HostTable[] {
    return [...this.#tables.values()];
  }

  /** Throws `not-found`, `corrupt` for a table that failed. */
  required(name: string): HostTable {
    const table = this.#tables.get(name);
    if (table !== undefined) return table;
    const failed = this.#failed.get(name);
    if (failed !== undefined)
      throw new MillraceError("corrupt", `parameter table ${name} is not served: ${failed.reason ?? ""}`, { todo: "see the server's log" });
    throw new MillraceError("not-found", `no parameter table ${name}`, { todo: "PTABLES names those there are" });
  }

  ticketOf({ id, name, store }: HostTable): ParameterTableTicket {
    const follows = this.#options.sync?.follows;
    return { id, name, dim: store.dim, shards: store.tickets(), ...(follows === undefined ? {} : { follows }) };
  }

  /** Makes a table, which a restart finds again. With equal shape an existing one is left as it is. Throws `conflict`, `invalid`, `overloaded`. */
  async create(name: string, config: ParameterTableConfig): Promise<void> {
    const existing = this.#tables.get(name);
    if (existing !== undefined) {
      const [kept, asked] = [shapeOf(existing.config), shapeOf(config)];
      if (JSON.stringify(kept) === JSON.stringify(asked) && existing.config.memoryMb === config.memoryMb) return;
      throw new MillraceError("conflict", `parameter table ${name} exists with another shape or size`, { todo: "use another name, or drop it first" });
    }
    if (this.#failed.has(name)) this.required(name);
    const { tablesMax } = parameterLimits;
    if (this.#tables.size >= tablesMax) throw new MillraceError("overloaded", `${tablesMax} parameter tables, the most`, { todo: "drop one" });
    await this.#alone(name, () => this.#open(name, config, false));
  }

  /** Removes a table with its rows and checkpoints. Throws `not-found`, `conflict` for one that the configuration names. */
  async drop(name: string): Promise<void> {
    const declared = this.#tables.get(name)?.declared ?? this.#failed.get(name)?.declared;
    if (declared === undefined) this.required(name);
    if (declared === true) {
      throw new MillraceError("conflict", `parameter table ${name} is named by the configuration`, {
        todo: "take it out of the configuration file; its folder may be removed then",
      });
    }
    if ((this.#users.get(name) ?? 0) > 0) {
      throw new MillraceError("conflict", `parameter table ${name} is being exported, imported or looked at`, { todo: "wait for that" });
    }
    await this.#alone(name, async () => {
      const table = this.#tables.get(name);
      this.#failed.delete(name);
      if (table !== undefined) {
        this.#tables.delete(name);
        this.#byId[table.id] = undefined;
        this.#options.onDropped?.(table);
        await table.discard();
      }
      await this.#options.files.removeFolder(this.#folderOf(name));
    });
  }

  async #alone<T>(name: string, run: () => Promise<T>): Promise<T> {
    if (this.#busy.has(name)) throw new MillraceError("conflict", `parameter table ${name} is being made or dropped`, { todo: "try again in a moment" });
    this.#busy.add(name);
    try {
      return await run();
    } finally {
      this.#busy.delete(name);
    }
  }

  async #use<T>(name: string, run: (table: HostTable) => Promise<T>): Promise<T> {
    const table = this.required(name);
    this.#users.set(name, (this.#users.get(name) ?? 0) + 1);
    try {
      return await run(table);
    } finally {
      const left = this.#users.get(name)! - 1;
      if (left > 0) this.#users.set(name, left);
      else this.#users.delete(name);
    }
  }

  /** A checkpoint of everything written before the call. */
  save(name: string): Promise<ParameterSaved> {
    return this.#use(name, (table) => table.save());
  }

  look(name: string): Promise<ParameterTableLook> {
    const { clock } = this.#options;
    return this.#use(name, ({ store }) => lookAt(store, Math.floor(clock.nowMs() / 1_000), () => clock.yield()));
  }

  #exchange(exchange: string): string {
    const { files, exchangeFolder } = this.#options;
    if (exchangeFolder === undefined || !new RegExp(exchangeNamePattern).test(exchange)) {
      throw new MillraceError("invalid", "an exchange of parameters under a name that cannot be", {
        todo: "use letters, digits, - _ and dots, no dot in front",
      });
    }
    return files.join(exchangeFolder, exchange);
  }

  exportTable(name: string, exchange: string): Promise<ParameterExchange> {
    return this.#use(name, async ({ store }) => {
      const { rows } = await exportNpy(store, this.#options.files, this.#exchange(exchange));
      return { rows, refused: 0 };
    });
  }

  importTable(name: string, exchange: string): Promise<ParameterExchange> {
    return this.#use(name, (table) => {
      const into = {
        dim: table.store.dim,
        assign: (keys: Uint32Array, count: number, values: Float32Array, touchedS: number) =>
          table.apply("assign", keys, count, values.subarray(0, count * table.store.dim), touchedS).refused ?? 0,
      };
      return importNpy(into, this.#options.files, this.#exchange(exchange));
    });
  }

  /** Applies one record: what a ring of another producer, or this thread itself, hands in. Throws `not-found` for a table that is gone. */
  apply(record: Pick<UpdateRecord, "table" | "kind" | "keys" | "count" | "numbers" | "touchedS">): UpdateAnswer {
    const table = this.#byId[record.table];
    if (table === undefined) throw new MillraceError("not-found", `parameter table number ${record.table}`, { todo: "ask for the table again" });
    return table.apply(record.kind, record.keys, record.count, record.numbers, record.touchedS);
  }

  /** Takes the writes of a producer whose ring rings `bell`. Returns how to take no more. */
  attach(ticket: UpdateRingTicket): () => void {
    const ring = new UpdateConsumer(ticket);
    this.#rings.add(ring);
    return () => this.#rings.delete(ring);
  }

  /** Applies what waits, at most `turnRecords` of each ring, and does what is due. Returns how many records it applied. */
  turn(): number {
    const { clock, warn } = this.#options;
    let applied = 0;
    for (const ring of this.#rings) {
      try {
        // One by one: each may be the last that has room.
        for (let left: number = parameterHostLimits.turnRecords; left > 0 && !this.#mustWait(); left--) {
          if (ring.drain(1, (record) => this.apply(record)) === 0) break;
          applied++;
        }
      } catch (thrown) {
        this.#rings.delete(ring);
        warn(`a ring of parameter writes is given up: ${toMillraceError(thrown).message}`);
      }
    }
    const nowMs = clock.monotonicMs();
    if (nowMs - this.#sweptMs >= parameterHostLimits.sweepMs) {
      this.#sweptMs = nowMs;
      const nowS = Math.floor(clock.nowMs() / 1_000);
      for (const table of this.#tables.values()) table.sweep(nowS);
    }
    return applied;
  }

  #mustWait(): boolean {
    if (this.#stopping) return false;
    let short = false;
    for (const table of this.#tables.values()) if (table.shortOfRoom) short = true;
    if (!short) {
      this.#shortSinceMs = undefined;
      return false;
    }
    const nowMs = this.#options.clock.monotonicMs();
    this.#shortSinceMs ??= nowMs;
    return nowMs - this.#shortSinceMs < parameterHostLimits.roomWaitMs;
  }

  /** Serves until the signal is aborted; then applies what waits, writes the last checkpoints and gives the memories back. */
  async run(signal: AbortSignal): Promise<void> {
    const { clock } = this.#options;
    const wake = (): void => this.bell.ring();
    signal.addEventListener("abort", wake, { once: true });
    try {
      while (!signal.aborted) {
        const seen = this.bell.rung;
        if (this.turn() > 0) await clock.yield();
        else await this.bell.heard(seen, parameterHostLimits.sweepMs);
      }
    } finally {
      signal.removeEventListener("abort", wake);
    }
    await this.stop();
  }

  /** Applies what waits, writes the last checkpoints and gives the memories back. Throws what the first table threw, after all were closed. */
  async stop(): Promise<void> {
    this.#stopping = true;
    for (let turns = 0; turns < parameterHostLimits.lastTurns && this.turn() > 0; turns++);
    const failures: unknown[] = [];
    await this.#options.sync?.handOver();
    for (const table of this.#tables.values()) await table.close().catch((thrown: unknown) => void failures.push(thrown));
    await this.#options.sync?.close();
    this.#tables.clear();
    if (failures.length > 0) throw failures[0];
  }

  status(): ParametersStatus {
    return {
      state: "open",
      tables: [...Array.from(this.#tables.values(), (table) => table.status()), ...this.#failed.values()],
      memoryBytes: this.#bytes(),
      memoryBytesMax: this.#options.memoryBytesMax,
    };
  }
}

function failedStatus(name: string, config: ParameterTableConfig, declared: boolean, { message, code, todo }: MillraceError): ParameterTableStatus {
  const { dim, shards } = shapeOf(config);
  return {
    name,
    state: "failed",
    reason: message,
    needs: { code, todo: todo ?? "see the server's log" },
    config,
    declared,
    dim,
    shards,
    rows: 0,
    tombstones: 0,
    usedBytes: 0,
    bytes: sizeOf(config),
    pulls: 0,
    pulledRows: 0,
    missedRows: 0,
    pushes: 0,
    pushedRows: 0,
    refused: 0,
    heldBack: 0,
    skipped: 0,
    evicted: 0,
    expired: 0,
    checkpoint: { id: 0, atMs: 0, bytes: 0, ms: 0, files: 0, unsavedRows: 0 },
    versions: [],
    hottestS: 0,
    coldestS: 0,
  };
}
