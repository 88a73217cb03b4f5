// What every `Registry` must do. See registry.ts; engines are listed in registry.test.ts.

import assert from "node:assert/strict";
import type { Clock } from "#platform/clock";
import { beginSuite, type Engine, refusal } from "./suite.contract.ts";
import { type Change, type Lease, type Registry, registryLimits } from "./registry.ts";

export interface RegistryWorld {
  readonly clock: Clock;
  /** The registry as another process sees it. */
  open(): Promise<Registry>;
  /** The same, of a process that can stand still: it renews nothing after `stop`. */
  openStoppable(): Promise<{ registry: Registry; stop: () => void }>;
}

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const text = (value: Uint8Array | undefined): string | undefined => (value === undefined ? undefined : new TextDecoder().decode(value));

/** Short enough for a test, long enough for a busy machine. */
const ttlMs = 600;

export function registryContract(engine: Engine<RegistryWorld>): void {
  const { check, end } = beginSuite("registry", engine);

  check("a put is got, by the same and by another process, with its revision", async ({ open }) => {
    const [one, other] = [await open(), await open()];
    assert.equal(await one.get("a"), undefined);
    const put = (await one.put("a", bytes("1")))!;
    assert.equal(put.key, "a");
    assert.equal(text(put.value), "1");
    for (const registry of [one, other]) {
      const got = (await registry.get("a"))!;
      assert.deepEqual([got.key, text(got.value), got.revision], ["a", "1", put.revision]);
    }
    await other.put("a", new Uint8Array(0));
    assert.equal((await one.get("a"))!.value.length, 0);
  });

  check("values are copies", async ({ open }) => {
    const registry = await open();
    const value = bytes("one");
    await registry.put("a", value);
    value[0] = 0;
    (await registry.get("a"))!.value[1] = 0;
    assert.equal(text((await registry.get("a"))!.value), "one");
  });

  check("revisions rise over all keys", async ({ open }) => {
    const registry = await open();
    let last = 0;
    for (const key of ["b", "a", "b", "c/d", "a"]) {
      const { revision } = (await registry.put(key, bytes(key)))!;
      assert.ok(revision > last && Number.isSafeInteger(revision));
      last = revision;
    }
    await registry.delete("a");
    assert.ok((await registry.put("a", bytes("")))!.revision > last);
  });

  check("compare-and-set succeeds at the expected revision only", async ({ open }) => {
    const registry = await open();
    const first = (await registry.put("a", bytes("1"), { expect: 0 }))!;
    assert.equal(await registry.put("a", bytes("2"), { expect: 0 }), undefined);
    const second = (await registry.put("a", bytes("3"), { expect: first.revision }))!;
    assert.equal(await registry.put("a", bytes("4"), { expect: first.revision }), undefined);
    assert.equal(text((await registry.get("a"))!.value), "3");
    assert.equal(await registry.delete("a", { expect: first.revision }), false);
    assert.equal(await registry.delete("a", { expect: second.revision }), true);
    assert.equal(await registry.delete("a"), false);
    assert.equal(await registry.put("a", bytes("5"), { expect: second.revision }), undefined);
    assert.ok(await registry.put("a", bytes("6"), { expect: 0 }));
  });

  check("compare-and-set is linear: concurrent increments by two processes are all counted", async ({ open }) => {
    const registries = [await open(), await open()];
    const increment = async (registry: Registry): Promise<void> => {
      for (;;) {
        const entry = await registry.get("n");
        const next = bytes(String(Number(text(entry?.value) ?? 0) + 1));
        if ((await registry.put("n", next, { expect: entry?.revision ?? 0 })) !== undefined) return;
      }
    };
    await Promise.all(
      registries.flatMap((registry) =>
        Array.from({ length: 4 }, async () => {
          for (let count = 0; count < 5; count += 1) await increment(registry);
        }),
      ),
    );
    assert.equal(text((await registries[0]!.get("n"))!.value), "40");
  });

  check("list gives the keys under a prefix in key order", async ({ open }) => {
    const registry = await open();
    for (const key of ["x/b", "x/a", "x.y", "x", "y", "x/a/c", "X/a"]) await registry.put(key, bytes(key));
    assert.deepEqual(
      (await registry.list("x/")).map((entry) => entry.key),
      ["x/a", "x/a/c", "x/b"],
    );
    assert.deepEqual(
      (await registry.list("")).map((entry) => entry.key),
      ["X/a", "x", "x.y", "x/a", "x/a/c", "x/b", "y"],
    );
    assert.deepEqual(await registry.list("z"), []);
    assert.deepEqual(
      (await registry.list("x/a")).map((entry) => text(entry.value)),
      ["x/a", "x/a/c"],
    );
  });

  check("watch gives what is there, then changes of every process, always the last one", async ({ open, clock }) => {
    const [one, other] = [await open(), await open()];
    await one.put("w/a", bytes("1"));
    await one.put("v", bytes("not ours"));
    const abort = new AbortController();
    const changes: Change[] = [];
    const watching = collect(one.watch("w/", abort.signal), changes);
    await eventually(clock, () => changes.length === 1, "the entry that was there");
    await other.put("w/b", bytes("1"));
    for (let value = 2; value <= 20; value += 1) await (value % 2 === 0 ? one : other).put("w/a", bytes(String(value)));
    await other.delete("w/b");
    await eventually(clock, () => text(last(changes, "w/a")?.entry?.value) === "20" && last(changes, "w/b")?.entry === undefined, "the last changes");
    const values = changes.filter((change) => change.key === "w/a").map((change) => Number(text(change.entry?.value)));
    assert.deepEqual(
      values,
      [...values].sort((a, b) => a - b),
      "changes of a key came in order",
    );
    assert.ok(changes.every((change) => change.key.startsWith("w/")));
    abort.abort();
    await watching;
  });

  check("promise: a watcher misses nothing while it works on a change and others watch beside it", async ({ open, clock }) => {
    const [one, other] = [await open(), await open()];
    const abort = new AbortController();
    const found: string[] = [];
    const release = Promise.withResolvers<void>();
    const slow = (async () => {
      for await (const { key } of one.watch("w/", abort.signal)) {
        found.push(key);
        if (key === "w/a") await release.promise;
      }
    })();
    await other.put("w/a", bytes("1"));
    await eventually(clock, () => found.length === 1, "the first key");
    await other.put("w/b", bytes("1"));
    // A second watcher sees what the first one has not.
    const seen: Change[] = [];
    const beside = collect(one.watch("", abort.signal), seen);
    await eventually(clock, () => last(seen, "w/b") !== undefined, "the second watcher's sight of it");
    release.resolve();
    await eventually(clock, () => found.includes("w/b"), "the key that came meanwhile");
    // One that begins to watch looks before the others do.
    const later: Promise<void>[] = [];
    for (let i = 0; i < 5; i += 1) {
      await other.put(`w/later-${i}`, bytes("1"));
      later.push(collect(one.watch("", abort.signal), []));
      await eventually(clock, () => found.includes(`w/later-${i}`), "a key that a new watcher saw first");
    }
    abort.abort();
    await Promise.all([slow, beside, ...later]);
  });

  check("watch tells a key that was deleted and put again by its last value", async ({ open, clock }) => {
    const registry = await open();
    const abort = new AbortController();
    const changes: Change[] = [];
    const watching = collect(registry.watch("", abort.signal), changes);
    await registry.put("k", bytes("1"));
    await registry.delete("k");
    await registry.put("k", bytes("2"));
    await eventually(clock, () => text(last(changes, "k")?.entry?.value) === "2", "the value after deletion");
    await registry.delete("k");
    await eventually(clock, () => changes.length > 0 && last(changes, "k")!.entry === undefined, "the deletion");
    abort.abort();
    await watching;
  });

  check("what hangs on a lease disappears when the lease is ended, and a watcher hears it", async ({ open, clock }) => {
    const [one, other] = [await open(), await open()];
    const lease = await one.lease(ttlMs);
    assert.equal(await lease.alive(), true);
    await one.put("nodes/a", bytes("here"), { lease });
    await one.put("stays", bytes("here"));
    assert.equal((await other.list("nodes/")).length, 1);
    const abort = new AbortController();
    const changes: Change[] = [];
    const watching = collect(other.watch("nodes/", abort.signal), changes);
    await eventually(clock, () => changes.length === 1, "the entry");
    await lease.end();
    await lease.end();
    assert.equal(await lease.alive(), false);
    await eventually(clock, () => last(changes, "nodes/a")?.entry === undefined, "the end of the lease");
    assert.equal(await other.get("nodes/a"), undefined);
    assert.ok(await other.get("stays"));
    await assert.rejects(one.put("nodes/a", bytes("again"), { lease }), refusal("conflict"));
    abort.abort();
    await watching;
  });

  check("a key put again without its lease stays", async ({ open }) => {
    const registry = await open();
    const lease = await registry.lease(ttlMs);
    await registry.put("a", bytes("1"), { lease });
    await registry.put("a", bytes("2"));
    await lease.end();
    assert.equal(text((await registry.get("a"))?.value), "2");
  });

  check("a lease renews itself, and ends when its process stands still", async ({ open, openStoppable, clock }) => {
    const watcher = await open();
    const { registry, stop } = await openStoppable();
    const lease = await registry.lease(ttlMs);
    await registry.put("nodes/a", bytes("here"), { lease });
    await clock.sleep(ttlMs * 2);
    assert.equal(await lease.alive(), true, "renewed");
    assert.ok(await watcher.get("nodes/a"));
    stop();
    await eventually(clock, async () => (await watcher.get("nodes/a")) === undefined, "the key's end", ttlMs * 4);
    assert.equal(await lease.alive(), false);
  });

  check("a lock has one owner, and its token rises", async ({ open }) => {
    const [one, other] = [await open(), await open()];
    const [oneLease, otherLease] = [await one.lease(10_000), await other.lease(10_000)];
    const first = (await one.tryLock("l", oneLease))!;
    assert.equal(await first.held(), true);
    assert.equal(await other.tryLock("l", otherLease), undefined);
    assert.equal(await one.tryLock("l", oneLease), undefined);
    assert.ok(await other.tryLock("another", otherLease));
    await first.release();
    assert.equal(await first.held(), false);
    const second = (await other.tryLock("l", otherLease))!;
    assert.ok(second.token > first.token);
    await first.release();
    assert.equal(await second.held(), true, "a late release of the former owner changes nothing");
    await otherLease.end();
    assert.equal(await second.held(), false);
    const third = (await one.tryLock("l", oneLease))!;
    assert.ok(third.token > second.token);
    await assert.rejects(other.tryLock("l", otherLease), refusal("conflict"));
  });

  check("a lock is free again when its owner stands still, and the owner can tell", async ({ open, openStoppable }) => {
    const other = await open();
    const { registry, stop } = await openStoppable();
    const lock = (await registry.tryLock("l", await registry.lease(ttlMs)))!;
    stop();
    const taken = await other.lock("l", await other.lease(10_000), ttlMs * 10);
    assert.ok(taken.token > lock.token);
    assert.equal(await lock.held(), false);
    assert.equal(await taken.held(), true);
  });

  check("lock waits for the owner, at most so long", async ({ open, clock }) => {
    const [one, other] = [await open(), await open()];
    const lock = (await one.tryLock("l", await one.lease(10_000)))!;
    const lease = await other.lease(10_000);
    await assert.rejects(other.lock("l", lease, 50), refusal("timeout"));
    const waiting = other.lock("l", lease, 10_000);
    await clock.sleep(30);
    await lock.release();
    assert.equal(await (await waiting).held(), true);
  });

  check("only one of many wins a lock", async ({ open }) => {
    const registries = [await open(), await open()];
    const tries = registries.flatMap((registry) => Array.from({ length: 5 }, async () => registry.tryLock("l", await registry.lease(10_000))));
    assert.equal((await Promise.all(tries)).filter((lock) => lock !== undefined).length, 1);
  });

  check("closing ends the leases of the process and its watches", async ({ open, clock }) => {
    const [one, other] = [await open(), await open()];
    const lease = await one.lease(10_000);
    await one.put("nodes/a", bytes(""), { lease });
    assert.ok(await one.tryLock("l", lease));
    const watching = collect(one.watch("", new AbortController().signal), []);
    await one.close();
    await watching;
    await eventually(clock, async () => (await other.get("nodes/a")) === undefined, "the key's end");
    assert.ok(await other.tryLock("l", await other.lease(10_000)));
    await assert.rejects(one.get("a"), refusal("invalid"));
  });

  check("limits are refused by name", async ({ open }) => {
    const registry = await open();
    const big = new Uint8Array(registryLimits.valueBytesMax);
    assert.ok(await registry.put("k".repeat(registryLimits.keyLengthMax), big));
    assert.equal((await registry.get("k".repeat(registryLimits.keyLengthMax)))!.value.length, big.length);
    await assert.rejects(registry.put("k", new Uint8Array(big.length + 1)), refusal("invalid"));
    for (const key of ["", "k".repeat(registryLimits.keyLengthMax + 1), "a b", "ü", "a*", "a>"])
      await assert.rejects(registry.put(key, big), refusal("invalid"), key);
    for (const time of [0, 99, 3_600_001, NaN]) await assert.rejects(registry.lease(time), refusal("invalid"));
    const lease: Lease = await registry.lease(100);
    await assert.rejects(registry.tryLock("", lease), refusal("invalid"));
  });

  end();
}

async function collect(changes: AsyncIterable<Change>, into: Change[]): Promise<void> {
  for await (const change of changes) into.push(change);
}

function last(changes: readonly Change[], key: string): Change | undefined {
  return changes.findLast((change) => change.key === key);
}

/** Waits until the claim holds; fails after `withinMs` of the world's time. */
export async function eventually(clock: Clock, claim: () => boolean | Promise<boolean>, what: string, withinMs = 5_000): Promise<void> {
  const until = clock.monotonicMs() + withinMs;
  while (!(await claim())) {
    assert.ok(clock.monotonicMs() < until, `${what} did not come within ${withinMs} ms`);
    await clock.sleep(5);
  }
}
