// The registry of one machine: a SQLite file that its processes share. Contract: registry.ts.
// Why SQLite: locking between processes, crash safety and compare-and-set in one file, inside Node, without a server. WAL lets readers go on while one
// process writes. It does its own I/O: this file is the only one that imports it, and simulations use the memory registry.
// Why syncs of our own: SQLite syncs a commit while it holds the file, on the thread that called. Beside an import that writes as fast as the disk takes it, a sync takes
// tens of milliseconds: of the server's loop when it puts, and of everybody who waits for the file. So commits are not synced; `put` and `delete` sync the write-ahead log
// behind it, away from the thread, before they resolve. The log is a chain of checksums, so what survives a power cut is always a beginning of it.
// Invariants: 1. every change is one IMMEDIATE transaction, so compare-and-set is linear over processes  2. what was put without a lease survives a
// power cut once `put` has resolved (others may see it a moment earlier); leases, locks and what hangs on a lease need not and are not synced, but are never half there  3. the token of a lock
// name never falls while the file lives  4. a lease of a process that is gone on this machine ends at the next try for its lock and within `sweepMs`
// elsewhere; any other ends by the wall clock, which the processes of a machine share; a clock set back gives a lease its own time anew, not more.
// Cost: get or held about 15 us on the calling thread, a change 0.1 to 0.3 ms; a put without a lease waits for one disk sync. Every `checkpointPages` pages one change
// copies the write-ahead log into the file: two disk syncs, on the thread of whoever made that change.
// Concurrency: one thread a registry, any number of registries and processes a file. A process that finds the file locked waits up to `busyMs`, blocking; it is held for a
// change, never for a sync.
// Limits: `registryLimits`; deleted keys are remembered for watchers, `tombstonesMax` of them.
// File: `PRAGMA user_version` 1; tables below.

import { DatabaseSync, type StatementSync } from "node:sqlite";
import { MillraceError } from "#base/errors";
import type { Clock, Timer } from "#platform/clock";
import type { Files, OpenFile } from "#platform/files";
import type { Processes } from "#platform/processes";
import { systemFiles } from "#platform/system-files";
import { type Change, checkKey, checkLeaseTime, checkPrefix, checkValue, type Entry, type Lease, leaseEnded, type Lock, type Registry } from "./registry.ts";
import { waitForLock } from "./registry-lock-wait.ts";
import { Wake } from "./wake.ts";

export interface SqliteRegistryOptions {
  /** The database file; its folder must exist, the file is made when missing. */
  readonly path: string;
  readonly clock: Clock;
  /** By which its log is synced; default: the machine's. The rest is SQLite's own I/O. */
  readonly files?: Pick<Files, "open" | "syncFolder" | "join">;
  /** Tells which processes are gone, so that what they held is free at once. Without it their leases end by time alone. */
  readonly processes?: Processes;
  /** How often a watcher looks for changes of other processes. Milliseconds, 1 to 10,000, default 20. Cost: about 15 us a look. */
  readonly watchPollMs?: number;
  /** How many deleted keys are remembered for watchers; one that comes later compares instead. 100 to 1,000,000, default 10,000. */
  readonly tombstonesMax?: number;
  /** Pages of 4 KiB in the write-ahead log at which a change of this registry copies them into the file, blocking for two disk syncs. Default 1,000. A loop that serves takes more,
   * so that processes that come and go do it first. Cost: the log's disk space. */
  readonly checkpointPages?: number;
  /** How long a call waits, blocking its thread, while another process holds the file. Milliseconds, default 1,000. */
  readonly busyMs?: number;
  /** How often `alive` of a lease makes sure that the file at the path is still the open one: whoever comes after it was deleted or replaced would be given the same locks. Once it is
   * not, every call is refused as `corrupt` until the registry is opened again. Milliseconds; default: never. Cost: about 0.2 ms a time, blocking. */
  readonly checkFileMs?: number;
}

const userVersion = 1;
/** After how many changes the number of tombstones is looked at. */
const tombstoneCheckEvery = 64;
/** How often a watcher looks for leases whose process is gone. Chosen. */
const sweepMs = 250;

const schema = `
create table counter (one integer primary key check (one = 1), revision integer not null, pruned integer not null, leases integer not null) strict;
insert into counter values (1, 0, 0, 0);
create table entry (key text primary key, value blob, revision integer not null, lease text) strict, without rowid;
create index entry_revision on entry (revision);
create index entry_deleted on entry (revision) where value is null;
create index entry_lease on entry (lease) where lease is not null;
create table lease (id text primary key, owner text not null, expires integer not null, ttl integer not null) strict, without rowid;
create index lease_expires on lease (expires);
create table lock (name text primary key, token integer not null, lease text) strict, without rowid;
create index lock_lease on lock (lease) where lease is not null;
`;

interface Row {
  readonly key: string;
  /** `null` in a tombstone: the key was deleted at this revision. */
  readonly value: Uint8Array | null;
  readonly revision: number;
}

/** Opens the registry in a SQLite file. Throws `unavailable` when it cannot be opened, `corrupt`, or `unsupported` for a later version. */
export function openSqliteRegistry(options: SqliteRegistryOptions): Registry {
  return new SqliteRegistry(options);
}

class SqliteRegistry implements Registry {
  readonly #path: string;
  readonly #clock: Clock;
  readonly #files: Pick<Files, "open" | "syncFolder" | "join">;
  readonly #processes: Processes | undefined;
  readonly #pollMs: number;
  readonly #tombstonesMax: number;
  readonly #database: DatabaseSync;
  readonly #statements = new Map<string, StatementSync>();
  readonly #changes = new Wake();
  readonly #leases = new Set<Lease>();
  readonly #ending = new AbortController();
  /** Whether the transaction under way has changed anything: who waits must not be woken by his own vain try. */
  #touched = false;
  #watchers = 0;
  #poll: Timer | undefined;
  #seenRevision = 0;
  #sweptMs = 0;
  #folderSynced = false;
  readonly #checkFileMs: number | undefined;
  #fileCheckedMs = 0;
  #replaced: MillraceError | undefined;

  constructor(options: SqliteRegistryOptions) {
    this.#path = options.path;
    this.#clock = options.clock;
    this.#files = options.files ?? systemFiles;
    this.#processes = options.processes;
    this.#pollMs = options.watchPollMs ?? 20;
    this.#tombstonesMax = options.tombstonesMax ?? 10_000;
    this.#checkFileMs = options.checkFileMs;
    this.#fileCheckedMs = options.clock.monotonicMs();
    try {
      this.#database = new DatabaseSync(options.path, { timeout: options.busyMs ?? 1_000 });
    } catch (thrown) {
      throw this.#refused("open", thrown);
    }
    try {
      this.#prepareFile();
      this.#database.exec("pragma synchronous = normal");
      this.#database.exec(`pragma wal_autocheckpoint = ${options.checkpointPages ?? 1_000}`);
    } catch (thrown) {
      this.#database.close();
      throw thrown instanceof MillraceError ? thrown : this.#refused("open", thrown);
    }
  }

  async get(key: string): Promise<Entry | undefined> {
    checkKey(key);
    return this.#read("read", () => {
      const row = this.#one<Row>("select key, value, revision from entry where key = ? and value is not null", key);
      return row === undefined ? undefined : entryOf(row);
    });
  }

  async list(prefix: string): Promise<Entry[]> {
    checkPrefix(prefix);
    return this.#read("list", () => this.#underPrefix(prefix));
  }

  async put(key: string, value: Uint8Array, options: { expect?: number; lease?: Lease } = {}): Promise<Entry | undefined> {
    checkKey(key);
    checkValue(key, value);
    const { expect, lease } = options;
    const put = this.#change("put", () => {
      if (lease !== undefined && !this.#leaseLives(lease.id)) throw leaseEnded(`registry key ${key}`);
      if (expect !== undefined && expect !== (this.#revisionOf(key) ?? 0)) return undefined;
      const revision = this.#nextRevision();
      this.#run("insert or replace into entry values (?, ?, ?, ?)", key, value, revision, lease?.id ?? null);
      return { key, value: value.slice(), revision };
    });
    if (lease === undefined && put !== undefined) await this.#sync();
    return put;
  }

  async delete(key: string, options: { expect?: number } = {}): Promise<boolean> {
    checkKey(key);
    const deleted = this.#change("delete", () => {
      const revision = this.#revisionOf(key);
      if (revision === undefined || (options.expect !== undefined && options.expect !== revision)) return false;
      this.#bury(key);
      return true;
    });
    if (deleted) await this.#sync();
    return deleted;
  }

  async *watch(prefix: string, outer: AbortSignal): AsyncGenerator<Change, void, void> {
    checkPrefix(prefix);
    this.#checkOpen();
    const signal = AbortSignal.any([outer, this.#ending.signal]);
    this.#watchers += 1;
    this.#pollLater();
    try {
      const seen = new Map<string, number>();
      let revision = -1;
      while (!signal.aborted) {
        const { version } = this.#changes;
        const changes = this.#changesSince(prefix, revision, seen);
        // Now: while the caller works on a change, other watchers list further.
        revision = this.#lastListed;
        for (const change of changes) {
          if (signal.aborted) return;
          yield change;
        }
        await this.#changes.changed(version, signal);
      }
    } finally {
      this.#watchers -= 1;
      if (this.#watchers === 0) this.#poll?.cancel();
      if (this.#watchers === 0) this.#poll = undefined;
    }
  }

  async lease(ttlMs: number): Promise<Lease> {
    checkLeaseTime(ttlMs);
    const id = this.#change("lease", () => {
      const count = this.#one<{ leases: number }>("update counter set leases = leases + 1 returning leases")!.leases;
      const made = `lease-${count}`;
      this.#run("insert into lease values (?, ?, ?, ?)", made, this.#processes?.self ?? "", this.#clock.nowMs() + ttlMs, ttlMs);
      return made;
    });
    const lease = new SqliteLease(id, ttlMs, this.#clock, {
      lives: () => {
        this.#checkFile(id);
        return this.#read("look at", () => this.#leaseLives(id));
      },
      renew: () => this.#change("renew", () => this.#leaseLives(id) && this.#renew(id, ttlMs)),
      end: () => {
        this.#leases.delete(lease);
        if (!this.#ending.signal.aborted || this.#closing) this.#change("end", () => this.#endLease(id));
      },
    });
    this.#leases.add(lease);
    return lease;
  }

  async tryLock(name: string, lease: Lease): Promise<Lock | undefined> {
    checkKey(name);
    const token = this.#change("lock", () => {
      if (!this.#leaseLives(lease.id)) throw leaseEnded(`lock ${name}`);
      const row = this.#one<{ token: number; lease: string | null }>("select token, lease from lock where name = ?", name);
      if (row !== undefined && row.lease !== null && this.#leaseLives(row.lease) && !this.#endIfGone(row.lease)) return undefined;
      const next = (row?.token ?? 0) + 1;
      this.#run("insert or replace into lock values (?, ?, ?)", name, next, lease.id);
      return next;
    });
    if (token === undefined) return undefined;
    const held = "select 1 from lock join lease on lease.id = lock.lease where name = ? and token = ? and lease = ? and expires > ?";
    return {
      name,
      token,
      held: async () => this.#read("look at", () => this.#one(held, name, token, lease.id, this.#clock.nowMs()) !== undefined),
      release: async () => {
        if (this.#ending.signal.aborted && !this.#closing) return;
        this.#change("unlock", () => this.#run("update lock set lease = null where name = ? and token = ? and lease = ?", name, token, lease.id));
      },
    };
  }

  lock(name: string, lease: Lease, timeoutMs: number): Promise<Lock> {
    return waitForLock((at, by) => this.tryLock(at, by), name, lease, timeoutMs, this.#clock, this.#changes);
  }

  #closing = false;

  async close(): Promise<void> {
    if (this.#ending.signal.aborted) return;
    this.#closing = true;
    this.#ending.abort();
    this.#poll?.cancel();
    for (const lease of [...this.#leases]) await lease.end().catch(() => undefined);
    this.#closing = false;
    this.#database.close();
  }

  // --- transactions ------------------------------------------------------------------------------------------------------------------

  #checkOpen(): void {
    if (this.#ending.signal.aborted && !this.#closing) throw new MillraceError("invalid", `the registry ${this.#path} is closed`, { todo: "open it again" });
    if (this.#replaced !== undefined && !this.#closing) throw this.#replaced;
  }

  /** Finds this lease in the file at the path: an open database goes on in a file that has no name any more. Throws `corrupt` when it is not there. */
  #checkFile(leaseId: string): void {
    const now = this.#clock.monotonicMs();
    if (this.#checkFileMs === undefined || now - this.#fileCheckedMs < this.#checkFileMs || this.#ending.signal.aborted) return;
    this.#fileCheckedMs = now;
    const sql = "select owner, expires from lease where id = ?";
    let probe: DatabaseSync | undefined;
    try {
      // Another file may have a lease of this number, but not one that ends in the same millisecond.
      const here = this.#one(sql, leaseId);
      if (here === undefined) return;
      probe = new DatabaseSync(this.#path, { readOnly: true, timeout: 0 });
      const there = probe.prepare(sql).get(leaseId);
      if (JSON.stringify(there) === JSON.stringify(here)) return;
      // Another process may have ended it between the two looks.
      if (JSON.stringify(this.#one(sql, leaseId)) !== JSON.stringify(here)) return;
    } catch (thrown) {
      const error = this.#refused("look at", thrown);
      if (error.code === "corrupt") throw error;
      // The next look tells.
      if (isBusy(thrown)) return;
    } finally {
      probe?.close();
    }
    this.#replaced = new MillraceError("corrupt", `the registry ${this.#path} was deleted or replaced while this process used it`, {
      todo: "stop all processes that use it, then start them again: they make a new one",
    });
    throw this.#replaced;
  }

  #read<T>(action: string, look: () => T): T {
    this.#checkOpen();
    try {
      this.#reapOverdue();
      return look();
    } catch (thrown) {
      throw thrown instanceof MillraceError ? thrown : this.#refused(action, thrown);
    }
  }

  /** All changes made before it survive a power cut once it resolves. */
  async #sync(): Promise<void> {
    let log: OpenFile | undefined;
    try {
      // None: the last one to close the file has copied and synced it all.
      log = await this.#files.open(`${this.#path}-wal`, "read");
      await log?.sync();
      if (this.#folderSynced) return;
      await this.#files.syncFolder(this.#files.join(this.#path, ".."));
      this.#folderSynced = true;
    } finally {
      await log?.close();
    }
  }

  /** One transaction; it survives the end of the process, and a power cut after `#sync`. */
  #change<T>(action: string, work: () => T): T {
    this.#checkOpen();
    try {
      this.#database.exec("begin immediate");
      this.#touched = false;
      try {
        this.#expire();
        const result = work();
        this.#database.exec("commit");
        if (this.#touched) this.#changes.notify();
        return result;
      } catch (thrown) {
        if (this.#database.isTransaction) this.#database.exec("rollback");
        throw thrown;
      }
    } catch (thrown) {
      throw thrown instanceof MillraceError ? thrown : this.#refused(action, thrown);
    }
  }

  #statement(sql: string): StatementSync {
    let statement = this.#statements.get(sql);
    if (statement === undefined) {
      statement = this.#database.prepare(sql);
      this.#statements.set(sql, statement);
    }
    return statement;
  }

  #one<T>(sql: string, ...values: (string | number)[]): T | undefined {
    return this.#statement(sql).get(...values) as T | undefined;
  }

  #all<T>(sql: string, ...values: (string | number)[]): T[] {
    return this.#statement(sql).all(...values) as T[];
  }

  #run(sql: string, ...values: (string | number | null | Uint8Array)[]): number {
    const changed = Number(this.#statement(sql).run(...values).changes);
    if (changed > 0) this.#touched = true;
    return changed;
  }

  #prepareFile(): void {
    this.#database.exec("pragma journal_mode = wal");
    const found = this.#one<{ user_version: number }>("pragma user_version")!.user_version;
    if (found === userVersion) return;
    if (found > userVersion) {
      throw new MillraceError("unsupported", `the registry ${this.#path} has version ${found}`, { todo: "start the version that wrote it, or a later one" });
    }
    this.#database.exec("begin immediate");
    // Another process may have made the tables meanwhile.
    if (this.#one<{ user_version: number }>("pragma user_version")!.user_version === 0) {
      this.#database.exec(schema);
      this.#database.exec(`pragma user_version = ${userVersion}`);
    }
    this.#database.exec("commit");
  }

  // --- entries -----------------------------------------------------------------------------------------------------------------------

  #revisionOf(key: string): number | undefined {
    return this.#one<{ revision: number }>("select revision from entry where key = ? and value is not null", key)?.revision;
  }

  #nextRevision(): number {
    return this.#one<{ revision: number }>("update counter set revision = revision + 1 returning revision")!.revision;
  }

  #underPrefix(prefix: string): Entry[] {
    // Keys are ASCII, so everything under a prefix lies before prefix + DEL.
    return this.#all<Row>("select key, value, revision from entry where key >= ? and key < ? and value is not null order by key", prefix, `${prefix}\x7f`).map(
      entryOf,
    );
  }

  /** Leaves a tombstone, and forgets the oldest ones when there are too many. */
  #bury(key: string): void {
    const revision = this.#nextRevision();
    this.#run("update entry set value = null, lease = null, revision = ? where key = ?", revision, key);
    if (revision % tombstoneCheckEvery !== 0) return;
    const count = this.#one<{ n: number }>("select count(*) as n from entry where value is null")!.n;
    if (count <= this.#tombstonesMax) return;
    const last = this.#one<{ revision: number }>(
      "select revision from entry where value is null order by revision limit 1 offset ?",
      Math.floor(this.#tombstonesMax / 2),
    )!.revision;
    this.#run("delete from entry where value is null and revision <= ?", last);
    this.#run("update counter set pruned = ?", last);
  }

  #lastListed = 0;

  /** Changes after `revision`, in revision order; sets `#lastListed`. A watcher that is too late for tombstones compares with what it has seen. */
  #changesSince(prefix: string, revision: number, seen: Map<string, number>): Change[] {
    return this.#read("watch", () => {
      // One transaction: counter and rows must be of one moment.
      this.#database.exec("begin");
      try {
        const counter = this.#one<{ revision: number; pruned: number }>("select revision, pruned from counter")!;
        this.#lastListed = counter.revision;
        // What a watcher sees before the poll does, the others have not seen.
        if (counter.revision > this.#seenRevision) {
          this.#seenRevision = counter.revision;
          this.#changes.notify();
        }
        if (counter.revision === revision) return [];
        const changes: Change[] = [];
        if (revision < counter.pruned || revision < 0) {
          const now = this.#underPrefix(prefix);
          const keys = new Set(now.map((entry) => entry.key));
          for (const key of [...seen.keys()]) if (!keys.has(key)) changes.push({ key, entry: undefined });
          for (const entry of now) if (seen.get(entry.key) !== entry.revision) changes.push({ key: entry.key, entry });
        } else {
          const rows = this.#all<Row>("select key, value, revision from entry where revision > ? order by revision", revision);
          for (const row of rows) {
            if (!row.key.startsWith(prefix) || (row.value === null && !seen.has(row.key))) continue;
            changes.push({ key: row.key, entry: row.value === null ? undefined : entryOf(row) });
          }
        }
        for (const change of changes) {
          if (change.entry === undefined) seen.delete(change.key);
          else seen.set(change.key, change.entry.revision);
        }
        return changes;
      } finally {
        this.#database.exec("commit");
      }
    });
  }

  #pollLater(): void {
    if (this.#poll !== undefined || this.#watchers === 0 || this.#ending.signal.aborted) return;
    this.#poll = this.#clock.after(
      this.#pollMs,
      () => {
        this.#poll = undefined;
        try {
          this.#look();
        } catch {
          // The file is busy or the disk refuses: the next look tries again, and every other call says what is wrong.
        }
        this.#pollLater();
      },
      { background: true },
    );
  }

  #look(): void {
    const now = this.#clock.monotonicMs();
    if (this.#processes !== undefined && now - this.#sweptMs >= sweepMs) {
      this.#sweptMs = now;
      const gone = this.#all<{ id: string; owner: string }>("select id, owner from lease").filter((lease) => this.#processes!.isGone(lease.owner));
      if (gone.length > 0) this.#change("sweep", () => gone.forEach((lease) => this.#endLease(lease.id)));
    }
    const revision = this.#read("watch", () => this.#one<{ revision: number }>("select revision from counter")!.revision);
    if (revision === this.#seenRevision) return;
    this.#seenRevision = revision;
    this.#changes.notify();
  }

  // --- leases ------------------------------------------------------------------------------------------------------------------------

  #leaseLives(id: string): boolean {
    return this.#one("select 1 from lease where id = ? and expires > ?", id, this.#clock.nowMs()) !== undefined;
  }

  #renew(id: string, ttlMs: number): boolean {
    return this.#run("update lease set expires = ? where id = ?", this.#clock.nowMs() + ttlMs, id) === 1;
  }

  #endLease(id: string): void {
    this.#run("delete from lease where id = ?", id);
    this.#run("update lock set lease = null where lease = ?", id);
    for (const { key } of this.#all<{ key: string }>("select key from entry where lease = ?", id)) this.#bury(key);
  }

  #endIfGone(id: string): boolean {
    const owner = this.#one<{ owner: string }>("select owner from lease where id = ?", id)?.owner;
    if (owner === undefined || this.#processes?.isGone(owner) !== true) return false;
    this.#endLease(id);
    return true;
  }

  /** In a transaction: ends what is overdue, and gives a lease its own time when the wall clock was set back. */
  #expire(): void {
    const now = this.#clock.nowMs();
    for (const { id } of this.#all<{ id: string }>("select id from lease where expires <= ?", now)) this.#endLease(id);
    this.#run("update lease set expires = ? + ttl where expires > ? + ttl", now, now);
  }

  /** Before a read: the same, but only writes when there is something to end. */
  #reapOverdue(): void {
    if (this.#one("select 1 from lease where expires <= ? limit 1", this.#clock.nowMs()) === undefined) return;
    this.#change("expire", () => undefined);
  }

  #refused(action: string, thrown: unknown): MillraceError {
    const sqliteCode = (thrown as { errcode?: number }).errcode ?? 0;
    const what = `cannot ${action} in the registry ${this.#path}`;
    // SQLITE_CORRUPT 11, SQLITE_NOTADB 26 (low byte of the extended code).
    const primary = sqliteCode & 0xff;
    if (isBusy(thrown)) return new MillraceError("unavailable", `${what}, another process holds it`, { cause: thrown, todo: "try again" });
    if (primary === 11 || primary === 26) {
      return new MillraceError("corrupt", `${what}, it is no intact SQLite file`, {
        cause: thrown,
        todo:
          this.#checkFileMs === undefined
            ? "keep a copy and restore it from a backup"
            : "stop all processes that use it, delete it and start them again: they make a new one",
      });
    }
    return new MillraceError("unavailable", `${what} (${(thrown as Error).message})`, {
      cause: thrown,
      todo: "check that its folder exists, the rights and the disk",
    });
  }
}

/** SQLITE_BUSY 5, SQLITE_LOCKED 6. */
function isBusy(thrown: unknown): boolean {
  const primary = ((thrown as { errcode?: number }).errcode ?? 0) & 0xff;
  return primary === 5 || primary === 6;
}

class SqliteLease implements Lease {
  readonly id: string;
  readonly #ttlMs: number;
  readonly #clock: Clock;
  readonly #store: { lives(): boolean; renew(): boolean; end(): void };
  #timer: Timer | undefined;
  #ended = false;

  constructor(id: string, ttlMs: number, clock: Clock, store: { lives(): boolean; renew(): boolean; end(): void }) {
    this.id = id;
    this.#ttlMs = ttlMs;
    this.#clock = clock;
    this.#store = store;
    this.#renewLater(ttlMs / 3);
  }

  async alive(): Promise<boolean> {
    return !this.#ended && this.#store.lives();
  }

  async end(): Promise<void> {
    if (this.#ended) return;
    this.#ended = true;
    this.#timer?.cancel();
    this.#store.end();
  }

  #renewLater(delayMs: number): void {
    this.#timer = this.#clock.after(
      delayMs,
      () => {
        if (this.#ended) return;
        try {
          if (this.#store.renew()) this.#renewLater(this.#ttlMs / 3);
        } catch {
          // Busy: try again soon. When it stays so the lease ends by its time, which is what its owner then hears.
          this.#renewLater(this.#ttlMs / 10);
        }
      },
      { background: true },
    );
  }
}

function entryOf(row: Row): Entry {
  return { key: row.key, value: new Uint8Array(row.value!), revision: row.revision };
}
