// The registry of one process, for tests and simulation. Contract: registry.ts.
// `connect` gives further faces to the same state, one a simulated process: leases taken through a face are renewed on its clock, so they end
// when that process stops, and at once when `alive` says that it is gone.
// Invariants: those of registry.ts; every call takes effect at once, so order of calls is order of effects.
// Cost: a list or watch walks all keys. Limits: memory; meant for thousands of keys.

import { MillraceError } from "#base/errors";
import type { Clock, Timer } from "#platform/clock";
import { type Change, checkKey, checkLeaseTime, checkPrefix, checkValue, type Entry, type Lease, leaseEnded, type Lock, type Registry } from "./registry.ts";
import { waitForLock } from "./registry-lock-wait.ts";
import { Wake } from "./wake.ts";

export interface MemoryRegistryOptions {
  readonly clock: Clock;
  /** False once the process behind this face is gone: its leases end at once. Default: always alive. */
  readonly alive?: () => boolean;
}

export interface MemoryRegistry extends Registry {
  /** Another process' face of the same registry. */
  connect(options: MemoryRegistryOptions): MemoryRegistry;
}

interface StoredLease {
  readonly id: string;
  /** On the monotonic clock of the state. */
  expiresMs: number;
  readonly alive: () => boolean;
}

interface Stored extends Entry {
  readonly leaseId: string | undefined;
}

class State {
  readonly clock: Clock;
  readonly entries = new Map<string, Stored>();
  readonly leases = new Map<string, StoredLease>();
  readonly locks = new Map<string, { token: number; leaseId: string | undefined }>();
  readonly changes = new Wake();
  revision = 0;
  leaseCount = 0;
  #timer: Timer | undefined;

  constructor(clock: Clock) {
    this.clock = clock;
  }

  /** Ends the leases whose time is over or whose process is gone, and looks again when the next one may end. */
  reap(): void {
    const now = this.clock.monotonicMs();
    for (const lease of this.leases.values()) if (lease.expiresMs <= now || !lease.alive()) this.endLease(lease.id);
    this.#timer?.cancel();
    this.#timer = undefined;
    if (this.leases.size === 0) return;
    const next = Math.min(...[...this.leases.values()].map((lease) => lease.expiresMs));
    this.#timer = this.clock.after(next - now, () => this.reap(), { background: true });
  }

  endLease(id: string): void {
    if (!this.leases.delete(id)) return;
    for (const lock of this.locks.values()) if (lock.leaseId === id) lock.leaseId = undefined;
    for (const entry of this.entries.values()) {
      if (entry.leaseId !== id) continue;
      this.entries.delete(entry.key);
      this.revision += 1;
    }
    this.changes.notify();
  }
}

class MemoryLease implements Lease {
  readonly id: string;
  readonly #state: State;
  readonly #renewal: () => void;

  constructor(id: string, state: State, renewal: () => void) {
    this.id = id;
    this.#state = state;
    this.#renewal = renewal;
  }

  async alive(): Promise<boolean> {
    this.#state.reap();
    return this.#state.leases.has(this.id);
  }

  async end(): Promise<void> {
    this.#renewal();
    this.#state.endLease(this.id);
  }
}

class Face implements MemoryRegistry {
  readonly #state: State;
  readonly #clock: Clock;
  readonly #alive: () => boolean;
  readonly #leases = new Set<MemoryLease>();
  readonly #ending = new AbortController();

  constructor(state: State, options: MemoryRegistryOptions) {
    this.#state = state;
    this.#clock = options.clock;
    this.#alive = options.alive ?? (() => true);
  }

  connect(options: MemoryRegistryOptions): MemoryRegistry {
    return new Face(this.#state, options);
  }

  async get(key: string): Promise<Entry | undefined> {
    checkKey(key);
    this.#enter();
    return copied(this.#state.entries.get(key));
  }

  async list(prefix: string): Promise<Entry[]> {
    checkPrefix(prefix);
    this.#enter();
    return [...this.#state.entries.values()]
      .filter((entry) => entry.key.startsWith(prefix))
      .sort((a, b) => (a.key < b.key ? -1 : 1))
      .map((entry) => copied(entry)!);
  }

  async put(key: string, value: Uint8Array, options: { expect?: number; lease?: Lease } = {}): Promise<Entry | undefined> {
    checkKey(key);
    checkValue(key, value);
    this.#enter();
    const { entries, leases } = this.#state;
    if (options.lease !== undefined && !leases.has(options.lease.id)) throw leaseEnded(`registry key ${key}`);
    if (options.expect !== undefined && (entries.get(key)?.revision ?? 0) !== options.expect) return undefined;
    this.#state.revision += 1;
    const entry = { key, value: value.slice(), revision: this.#state.revision, leaseId: options.lease?.id };
    entries.set(key, entry);
    this.#state.changes.notify();
    return copied(entry);
  }

  async delete(key: string, options: { expect?: number } = {}): Promise<boolean> {
    checkKey(key);
    this.#enter();
    const entry = this.#state.entries.get(key);
    if (entry === undefined || (options.expect !== undefined && entry.revision !== options.expect)) return false;
    this.#state.entries.delete(key);
    this.#state.revision += 1;
    this.#state.changes.notify();
    return true;
  }

  async *watch(prefix: string, outer: AbortSignal): AsyncGenerator<Change, void, void> {
    checkPrefix(prefix);
    this.#enter();
    const signal = AbortSignal.any([outer, this.#ending.signal]);
    const seen = new Map<string, number>();
    while (!signal.aborted) {
      const { version } = this.#state.changes;
      const now = await this.list(prefix);
      const keys = new Set(now.map((entry) => entry.key));
      for (const key of [...seen.keys()]) {
        if (keys.has(key)) continue;
        seen.delete(key);
        yield { key, entry: undefined };
      }
      for (const entry of now) {
        if (seen.get(entry.key) === entry.revision) continue;
        seen.set(entry.key, entry.revision);
        yield { key: entry.key, entry };
      }
      await this.#state.changes.changed(version, signal);
    }
  }

  async lease(ttlMs: number): Promise<Lease> {
    checkLeaseTime(ttlMs);
    this.#enter();
    const state = this.#state;
    state.leaseCount += 1;
    const stored: StoredLease = { id: `memory-${state.leaseCount}`, expiresMs: state.clock.monotonicMs() + ttlMs, alive: this.#alive };
    state.leases.set(stored.id, stored);
    state.reap();
    let timer: Timer | undefined;
    const renew = (): void => {
      timer = this.#clock.after(
        ttlMs / 3,
        () => {
          state.reap();
          if (!state.leases.has(stored.id)) return;
          stored.expiresMs = state.clock.monotonicMs() + ttlMs;
          renew();
        },
        { background: true },
      );
    };
    renew();
    const lease: MemoryLease = new MemoryLease(stored.id, state, () => {
      timer?.cancel();
      this.#leases.delete(lease);
    });
    this.#leases.add(lease);
    return lease;
  }

  async tryLock(name: string, lease: Lease): Promise<Lock | undefined> {
    checkKey(name);
    this.#enter();
    const { locks, leases } = this.#state;
    if (!leases.has(lease.id)) throw leaseEnded(`lock ${name}`);
    const stored = locks.get(name) ?? { token: 0, leaseId: undefined };
    locks.set(name, stored);
    if (stored.leaseId !== undefined) return undefined;
    stored.token += 1;
    stored.leaseId = lease.id;
    const { token } = stored;
    const isOurs = (): boolean => stored.token === token && stored.leaseId === lease.id;
    return {
      name,
      token,
      held: async () => {
        this.#state.reap();
        return isOurs();
      },
      release: async () => {
        if (!isOurs()) return;
        stored.leaseId = undefined;
        this.#state.changes.notify();
      },
    };
  }

  lock(name: string, lease: Lease, timeoutMs: number): Promise<Lock> {
    return waitForLock((at, by) => this.tryLock(at, by), name, lease, timeoutMs, this.#clock, this.#state.changes);
  }

  async close(): Promise<void> {
    this.#ending.abort();
    for (const lease of [...this.#leases]) await lease.end();
  }

  #enter(): void {
    if (this.#ending.signal.aborted) throw new MillraceError("invalid", "the registry is closed", { todo: "open it again" });
    this.#state.reap();
  }
}

function copied(entry: Stored | undefined): Entry | undefined {
  return entry === undefined ? undefined : { key: entry.key, value: entry.value.slice(), revision: entry.revision };
}

/** A registry in the memory of this process. `clock` decides when leases end. */
export function createMemoryRegistry(options: MemoryRegistryOptions): MemoryRegistry {
  return new Face(new State(options.clock), options);
}
