// The registry: small keys with compare-and-set, watch, leases and locks. This file is the contract; engines: `sqlite-registry.ts` (one file
// shared by the processes of a machine) and `memory-registry.ts` (one process: tests and simulation).
// Invariants: 1. revisions of the whole registry rise by each change; a key carries the revision of its last change
// 2. compare-and-set is linear  3. a watcher sees, for each key, the changes in order and always the last one (those between may be merged)
// 4. a key put under a lease disappears when the lease ends  5. a lock has one owner at a time; its fencing token only rises.
// Limits (`registryLimits`): keys `[A-Za-z0-9._/-]{1,256}`, values 64 KiB, leases 100 ms to 1 h.

import { MillraceError } from "#base/errors";

/** Bounds of every engine. */
export const registryLimits = {
  keyLengthMax: 256,
  valueBytesMax: 64 * 1024,
  leaseMsMin: 100,
  leaseMsMax: 3_600_000,
} as const;

/** Throws `invalid` when `key` is no key (or name of a lock). */
export function checkKey(key: string): void {
  if (/^[A-Za-z0-9._/-]{1,256}$/.test(key)) return;
  throw new MillraceError("invalid", `the registry key ${JSON.stringify(key.slice(0, 80))} is not allowed`, {
    todo: "use 1 to 256 of the characters A-Z, a-z, 0-9, dot, underscore, slash and -",
  });
}

/** Throws `invalid` when `prefix` cannot begin a key; the empty one begins all. */
export function checkPrefix(prefix: string): void {
  if (prefix !== "") checkKey(prefix);
}

/** Throws `invalid` when the value is too long. */
export function checkValue(key: string, value: Uint8Array): void {
  if (value.length <= registryLimits.valueBytesMax) return;
  throw new MillraceError("invalid", `a value of ${value.length} bytes for registry key ${key}`, {
    todo: `keep values within ${registryLimits.valueBytesMax} bytes, put more into a blob and its name into the registry`,
  });
}

/** Throws `invalid` when a lease of this time is not given. */
export function checkLeaseTime(ttlMs: number): void {
  if (ttlMs >= registryLimits.leaseMsMin && ttlMs <= registryLimits.leaseMsMax) return;
  throw new MillraceError("invalid", `a lease of ${ttlMs} ms`, { todo: `choose ${registryLimits.leaseMsMin} to ${registryLimits.leaseMsMax} ms` });
}

export const lockTimeout = (name: string, timeoutMs: number): MillraceError =>
  new MillraceError("timeout", `the lock ${name} was not free within ${timeoutMs} ms`, { todo: "wait for its owner, or find out who holds it" });

export const leaseEnded = (what: string): MillraceError =>
  new MillraceError("conflict", `the lease for ${what} has ended`, { todo: "take a new lease; this process may have stood still for longer than its time" });

export interface Entry {
  readonly key: string;
  readonly value: Uint8Array;
  readonly revision: number;
}

export interface Change {
  readonly key: string;
  /** `undefined` when the key was deleted or its lease ended. */
  readonly entry: Entry | undefined;
}

export interface Lease {
  readonly id: string;
  /** False once it has ended, by its time or by `end`. Checked against the registry, not against memory alone. */
  alive(): Promise<boolean>;
  /** Ends it now: keys put under it disappear, locks are free. Idempotent. */
  end(): Promise<void>;
}

export interface Lock {
  readonly name: string;
  /** Rises with every acquisition of this name. */
  readonly token: number;
  /** True while the lease behind it lives and nobody has taken the lock since. */
  held(): Promise<boolean>;
  release(): Promise<void>;
}

export interface Registry {
  get(key: string): Promise<Entry | undefined>;
  /** Entries whose keys begin with `prefix`, in key order. */
  list(prefix: string): Promise<Entry[]>;
  /** `expect`: a revision = only when the key is at it; `0` = only when the key is absent; left out = always. Returns the new entry, or
   * `undefined` when the expectation failed. */
  put(key: string, value: Uint8Array, options?: { expect?: number; lease?: Lease }): Promise<Entry | undefined>;
  /** False when the key is absent or not at `expect`. */
  delete(key: string, options?: { expect?: number }): Promise<boolean>;
  /** Current entries under the prefix first, then every change, until the signal aborts. */
  watch(prefix: string, signal: AbortSignal): AsyncIterable<Change>;
  /** A lease of `ttlMs` that is renewed by itself (every third of its time) while this process lives. */
  lease(ttlMs: number): Promise<Lease>;
  /** Takes the lock, or `undefined` when somebody has it. */
  tryLock(name: string, lease: Lease): Promise<Lock | undefined>;
  /** Waits for the lock at most `timeoutMs`, else throws `timeout`. */
  lock(name: string, lease: Lease, timeoutMs: number): Promise<Lock>;
  close(): Promise<void>;
}
