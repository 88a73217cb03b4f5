// A registry over NATS KV, for the contract suite only: it shows that registry.ts promises nothing that NATS cannot give.
// How: entries, leases and locks are three buckets. Revision = sequence number of the bucket's stream; compare-and-set = publish with the expected last
// sequence of the subject. The token of a lock is the revision of the write that took it.
// NATS 2.9 has no time-out per key, so a lease is a key that its owner writes again; whoever sees no new revision for its whole time removes the
// key by compare-and-set, which the owner's next renewal then notices. A lease may so live for up to twice its time for those who came late.
// Keys are hexadecimal in NATS, since its tokens allow neither leading nor doubled dots; prefixes are filtered by the client.

import { type KV, Kvm, type KvEntry } from "@nats-io/kv";
import { connect, type NatsConnection } from "@nats-io/transport-node";
import { MillraceError } from "#base/errors";
import {
  type Change,
  checkKey,
  checkLeaseTime,
  checkPrefix,
  checkValue,
  type Entry,
  type Lease,
  leaseEnded,
  type Lock,
  type Registry,
} from "#backbone/registry";
import { waitForLock } from "#backbone/registry-lock-wait";
import { Wake } from "#backbone/wake";
import type { Clock } from "#platform/clock";

const encode = (key: string): string => `k${Buffer.from(key).toString("hex")}`;
const decode = (key: string): string => Buffer.from(key.slice(1), "hex").toString();
const sweepMs = 50;

/** A value with the lease that it hangs on: one byte of length, the lease's name, the value. */
function wrap(value: Uint8Array, lease: string): Uint8Array {
  return Buffer.concat([Buffer.of(lease.length), Buffer.from(lease), value]);
}

function unwrap(bytes: Uint8Array): { lease: string; value: Uint8Array } {
  const length = bytes[0]!;
  return { lease: Buffer.from(bytes.subarray(1, 1 + length)).toString(), value: new Uint8Array(bytes.subarray(1 + length)) };
}

const isConflict = (thrown: unknown): boolean => /wrong last sequence|key exists/i.test((thrown as Error).message);

/** Tries a write that expects a revision; `undefined` when it was not there. */
async function tryWrite(write: () => Promise<number>): Promise<number | undefined> {
  try {
    return await write();
  } catch (thrown) {
    if (isConflict(thrown)) return undefined;
    throw thrown;
  }
}

function present(entry: KvEntry | null): KvEntry | undefined {
  return entry === null || entry.operation !== "PUT" ? undefined : entry;
}

export async function openNatsRegistry(options: { port: number; clock: Clock; name: string }): Promise<Registry> {
  const connection = await connect({ servers: `127.0.0.1:${options.port}` });
  const buckets = new Kvm(connection);
  const open = (kind: string): Promise<KV> => buckets.create(`${options.name}-${kind}`, { history: 1 });
  const registry = new NatsRegistry(connection, await open("entries"), await open("leases"), await open("locks"), options.clock);
  await registry.begin();
  return registry;
}

class NatsRegistry implements Registry {
  readonly #connection: NatsConnection;
  readonly #entries: KV;
  readonly #leases: KV;
  readonly #locks: KV;
  readonly #clock: Clock;
  readonly #changes = new Wake();
  readonly #own = new Set<Lease>();
  /** What is known of every lease: its time, and when its last revision was seen. */
  readonly #seen = new Map<string, { revision: number; ttlMs: number; atMs: number }>();
  readonly #ending = new AbortController();
  #stopWatching: () => void = () => undefined;
  #leaseCount = 0;

  constructor(connection: NatsConnection, entries: KV, leases: KV, locks: KV, clock: Clock) {
    this.#connection = connection;
    this.#entries = entries;
    this.#leases = leases;
    this.#locks = locks;
    this.#clock = clock;
  }

  async begin(): Promise<void> {
    const watch = await this.#leases.watch();
    this.#stopWatching = () => watch.stop();
    void (async () => {
      for await (const entry of watch) {
        if (entry.operation === "PUT") this.#seen.set(entry.key, { revision: entry.revision, ttlMs: Number(entry.string()), atMs: this.#clock.monotonicMs() });
        else this.#seen.delete(entry.key);
        this.#changes.notify();
      }
    })();
    this.#sweepLater();
  }

  async get(key: string): Promise<Entry | undefined> {
    checkKey(key);
    this.#checkOpen();
    return (await this.#living(key))?.entry;
  }

  async list(prefix: string): Promise<Entry[]> {
    checkPrefix(prefix);
    this.#checkOpen();
    const keys: string[] = [];
    for await (const key of await this.#entries.keys()) if (decode(key).startsWith(prefix)) keys.push(decode(key));
    const found = await Promise.all(keys.sort().map((key) => this.get(key)));
    return found.filter((entry) => entry !== undefined);
  }

  async put(key: string, value: Uint8Array, { expect, lease }: { expect?: number; lease?: Lease } = {}): Promise<Entry | undefined> {
    checkKey(key);
    checkValue(key, value);
    this.#checkOpen();
    if (lease !== undefined && !(await lease.alive())) throw leaseEnded(`registry key ${key}`);
    const bytes = wrap(value, lease?.id ?? "");
    let revision: number | undefined;
    if (expect === undefined) revision = await this.#entries.put(encode(key), bytes);
    else {
      // A key whose lease has ended counts as absent although NATS still has it.
      const raw = present(await this.#entries.get(encode(key)));
      const living = await this.#living(key);
      if ((living?.entry.revision ?? 0) !== expect) return undefined;
      revision = await tryWrite(() => (raw === undefined ? this.#entries.create(encode(key), bytes) : this.#entries.update(encode(key), bytes, raw.revision)));
    }
    return revision === undefined ? undefined : { key, value: value.slice(), revision };
  }

  async delete(key: string, options: { expect?: number } = {}): Promise<boolean> {
    checkKey(key);
    this.#checkOpen();
    for (;;) {
      const living = await this.#living(key);
      if (living === undefined || (options.expect !== undefined && living.entry.revision !== options.expect)) return false;
      const done = await tryWrite(async () => {
        await this.#entries.delete(encode(key), { previousSeq: living.entry.revision });
        return 1;
      });
      if (done !== undefined) return true;
    }
  }

  async *watch(prefix: string, outer: AbortSignal): AsyncGenerator<Change, void, void> {
    checkPrefix(prefix);
    this.#checkOpen();
    const signal = AbortSignal.any([outer, this.#ending.signal]);
    if (signal.aborted) return;
    const updates = await this.#entries.watch();
    signal.addEventListener("abort", () => updates.stop());
    const given = new Set<string>();
    for await (const update of updates) {
      if (signal.aborted) return;
      const key = decode(update.key);
      if (!key.startsWith(prefix)) continue;
      if (update.operation === "PUT") {
        given.add(key);
        yield { key, entry: { key, value: unwrap(update.value).value, revision: update.revision } };
      } else if (given.delete(key)) yield { key, entry: undefined };
    }
  }

  async lease(ttlMs: number): Promise<Lease> {
    checkLeaseTime(ttlMs);
    this.#checkOpen();
    this.#leaseCount += 1;
    const id = `${this.#connection.info!.client_id}-${this.#leaseCount}`;
    let revision = await this.#leases.create(id, String(ttlMs));
    this.#seen.set(id, { revision, ttlMs, atMs: this.#clock.monotonicMs() });
    let ended = false;
    const renewLater = (): void => {
      this.#clock.after(
        ttlMs / 3,
        () => {
          if (ended || this.#connection.isClosed()) return;
          tryWrite(() => this.#leases.update(id, String(ttlMs), revision)).then(
            (renewed) => {
              if (renewed === undefined) return;
              revision = renewed;
              renewLater();
            },
            () => renewLater(),
          );
        },
        { background: true },
      );
    };
    renewLater();
    const lease: Lease = {
      id,
      alive: async () => !ended && (await this.#leaseLives(id)),
      end: async () => {
        if (ended) return;
        ended = true;
        this.#own.delete(lease);
        await this.#leases.delete(id);
        await this.#bury(id);
      },
    };
    this.#own.add(lease);
    return lease;
  }

  async tryLock(name: string, lease: Lease): Promise<Lock | undefined> {
    checkKey(name);
    this.#checkOpen();
    if (!(await lease.alive())) throw leaseEnded(`lock ${name}`);
    const key = encode(name);
    const raw = present(await this.#locks.get(key));
    if (raw !== undefined && raw.value.length > 0 && (await this.#leaseLives(raw.string()))) return undefined;
    const token = await tryWrite(() => (raw === undefined ? this.#locks.create(key, lease.id) : this.#locks.update(key, lease.id, raw.revision)));
    if (token === undefined) return undefined;
    return {
      name,
      token,
      held: async () => (await this.#locks.get(key))?.revision === token && (await lease.alive()),
      release: async () => {
        if (!this.#connection.isClosed()) await tryWrite(() => this.#locks.update(key, new Uint8Array(0), token));
      },
    };
  }

  lock(name: string, lease: Lease, timeoutMs: number): Promise<Lock> {
    return waitForLock((at, by) => this.tryLock(at, by), name, lease, timeoutMs, this.#clock, this.#changes);
  }

  async close(): Promise<void> {
    if (this.#ending.signal.aborted) return;
    for (const lease of [...this.#own]) await lease.end();
    this.#ending.abort();
    this.#stopWatching();
    await this.#connection.close();
  }

  #checkOpen(): void {
    if (this.#ending.signal.aborted) throw new MillraceError("invalid", "the registry is closed", { todo: "open it again" });
  }

  async #living(key: string): Promise<{ entry: Entry } | undefined> {
    const raw = present(await this.#entries.get(encode(key)));
    if (raw === undefined) return undefined;
    const { lease, value } = unwrap(raw.value);
    if (lease !== "" && !(await this.#leaseLives(lease))) return undefined;
    return { entry: { key, value, revision: raw.revision } };
  }

  async #leaseLives(id: string): Promise<boolean> {
    return present(await this.#leases.get(id)) !== undefined;
  }

  /** Removes the entries of a lease that has ended. */
  async #bury(lease: string): Promise<void> {
    for await (const key of await this.#entries.keys()) {
      const raw = present(await this.#entries.get(key));
      if (raw === undefined || unwrap(raw.value).lease !== lease) continue;
      await tryWrite(async () => {
        await this.#entries.delete(key, { previousSeq: raw.revision });
        return 1;
      });
    }
  }

  #sweepLater(): void {
    this.#clock.after(
      sweepMs,
      () => {
        if (this.#ending.signal.aborted) return;
        this.#sweep().then(
          () => this.#sweepLater(),
          () => this.#sweepLater(),
        );
      },
      { background: true },
    );
  }

  async #sweep(): Promise<void> {
    const now = this.#clock.monotonicMs();
    for (const [id, { revision, ttlMs, atMs }] of [...this.#seen]) {
      if (now - atMs < ttlMs) continue;
      const reaped = await tryWrite(async () => {
        await this.#leases.delete(id, { previousSeq: revision });
        return 1;
      });
      if (reaped === undefined) continue;
      this.#seen.delete(id);
      await this.#bury(id);
    }
  }
}
