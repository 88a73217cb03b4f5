// Hashes of both forms against a Map, on the real store on a simulated machine: fields with and without expiry, the key's own expiry, growth into the large
// form, RENAME and COPY, a machine that is restarted, the sweep of what is left over.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Prng } from "#base/prng";
import { entryKinds } from "#kernel/entry-record";
import { inSimulation } from "#lsm/store-world.contract";
import type { Store } from "#lsm/store";
import type { Clock } from "#platform/clock";
import { freshSeed } from "#platform/fresh-seed";
import { HashSweep } from "./hash-sweep.ts";
import { Hashes } from "./hashes.ts";
import { fieldNamespace, Keyspace } from "./keyspace.ts";

const seed = freshSeed();
const steps = process.env["MILLRACE_LONG"] === undefined ? 700 : 8_000;
const text = new TextEncoder();
const bytes = (name: string): Uint8Array => text.encode(name);
const word = (part: Uint8Array): string => Buffer.from(part).toString();

function opened(store: Store, clock: Clock): { keyspace: Keyspace; hashes: Hashes } {
  const keyspace = new Keyspace({ store, clock, random: new Prng(1) });
  return { keyspace, hashes: new Hashes(keyspace) };
}

interface ModelHash {
  keyExpiryMs: number;
  readonly fields: Map<string, { value: string; expiryMs: number }>;
}

/** What lives at a time. */
function living(model: ModelHash | undefined, nowMs: number): Map<string, { value: string; expiryMs: number }> | undefined {
  if (model === undefined || (model.keyExpiryMs !== 0 && model.keyExpiryMs <= nowMs)) return undefined;
  const live = new Map([...model.fields].filter(([, { expiryMs }]) => expiryMs === 0 || expiryMs > nowMs));
  return live.size === 0 ? undefined : live;
}

function check(keyspace: Keyspace, hashes: Hashes, key: string, model: ModelHash | undefined): void {
  keyspace.begin();
  const live = living(model, keyspace.nowMs);
  const entry = keyspace.find(bytes(key));
  assert.equal(entry !== undefined, live !== undefined, `${key} is there`);
  if (entry === undefined || live === undefined) return;
  assert.equal(hashes.keyExpiry(entry), model!.keyExpiryMs, `expiry of ${key}`);
  const hash = hashes.open(bytes(key), entry);
  assert.equal(hash.count(), live.size, `count of ${key}`);
  const found = new Map<string, { value: string; expiryMs: number }>();
  hash.each(({ name, value, expiryMs }) => found.set(word(name), { value: word(value), expiryMs }));
  assert.deepEqual([...found].sort(), [...live].sort(), `fields of ${key}`);
}

test(`promise: hashes hold what was written, in both forms, over expiry and restarts (SEED=${seed}, ${steps} steps)`, async () => {
  await inSimulation(seed, async ({ clock, open }) => {
    const random = new Prng(seed);
    let store = await open();
    let { keyspace, hashes } = opened(store, clock);
    const keys = ["a", "b", "c"];
    const model = new Map<string, ModelHash>();
    const live = (key: string): ModelHash | undefined => {
      const found = model.get(key);
      const fields = living(found, keyspace.nowMs);
      return fields === undefined ? undefined : { keyExpiryMs: found!.keyExpiryMs, fields };
    };
    let large = 0;
    for (let step = 0; step < steps; step++) {
      const key = random.pick(keys);
      const other = random.pick(keys);
      keyspace.begin();
      const entry = keyspace.find(bytes(key));
      if (entry?.kind === entryKinds.hashMeta) large++;
      const hash = entry === undefined ? hashes.create(bytes(key)) : hashes.open(bytes(key), entry);
      const before = live(key) ?? { keyExpiryMs: 0, fields: new Map() };
      const way = random.below(100);
      if (way < 45) {
        // Now and then so much that the small form ends.
        const count = random.chance(0.03) ? random.between(300, 600) : random.between(1, 5);
        for (let i = 0; i < count; i++) {
          const name = `f${count > 5 ? i : random.below(12)}`;
          const value = "v".repeat(random.chance(0.02) ? 6_000 : random.below(20));
          const expiryMs = random.chance(0.3) ? keyspace.nowMs + random.between(1, 3_000) : 0;
          hash.set(bytes(name), bytes(value), expiryMs);
          before.fields.set(name, { value, expiryMs });
        }
        hash.save();
        model.set(key, before);
      } else if (way < 65) {
        let gone = false;
        for (let i = random.chance(0.05) ? 600 : 4; i >= 0; i--) {
          const name = `f${i > 12 ? i : random.below(12)}`;
          const there = before.fields.delete(name);
          assert.equal(hash.delete(bytes(name)), there, `delete ${name}`);
          gone ||= there;
        }
        if (gone) hash.save();
        if (gone) model.set(key, before);
      } else if (way < 72 && entry !== undefined) {
        const expiryMs = random.pick([0, keyspace.nowMs + random.between(1, 5_000)]);
        hashes.setKeyExpiry(bytes(key), entry, expiryMs);
        model.set(key, { ...before, keyExpiryMs: expiryMs });
      } else if (way < 75 && entry !== undefined) {
        hashes.remove(bytes(key), entry);
        model.delete(key);
      } else if (way < 82 && entry !== undefined && key !== other) {
        const move = random.chance(0.5);
        hashes.transfer(entry, bytes(key), bytes(other), move);
        model.set(other, { keyExpiryMs: before.keyExpiryMs, fields: new Map([...before.fields].map(([name, field]) => [name, { ...field }])) });
        if (move) model.delete(key);
      } else if (way < 90) {
        await clock.sleep(random.between(1, 1_500));
      } else if (way < 92) {
        await store.close();
        store = await open();
        ({ keyspace, hashes } = opened(store, clock));
      } else if (way < 94) {
        await new HashSweep(keyspace).round();
      }
      keyspace.commit();
      for (const each of new Set([key, other])) check(keyspace, hashes, each, model.get(each));
    }
    assert.ok(large > 10, `large hashes were met (${large})`);

    // What is left when all keys are gone is taken by one sweep.
    for (const key of keys) {
      keyspace.begin();
      const entry = keyspace.find(bytes(key));
      if (entry !== undefined) hashes.remove(bytes(key), entry);
      keyspace.commit();
    }
    await new HashSweep(keyspace).round();
    keyspace.begin();
    assert.equal(keyspace.hasAny(fieldNamespace, new Uint8Array(0), undefined), false, "fields without an owner are swept");
    await store.close();
  });
});

test("promise: a transaction reads what it has written, and is there as a whole or not at all", async () => {
  await inSimulation(7, async ({ clock, open }) => {
    const store = await open();
    const { keyspace, hashes } = opened(store, clock);
    keyspace.begin(true);
    const hash = hashes.create(bytes("h"));
    for (let i = 0; i < 700; i++) hash.set(bytes(`f${i}`), bytes("v"), 0);
    hash.save();
    keyspace.put(bytes("s"), entryKinds.string, bytes("text"), 0);
    assert.equal(hashes.open(bytes("h"), keyspace.find(bytes("h"))!).count(), 700);
    assert.equal(word(keyspace.find(bytes("s"))!.value), "text");
    const seen: string[] = [];
    void keyspace.walkKeys(new Uint8Array(0), undefined, (key) => {
      seen.push(word(key));
      return true;
    });
    assert.deepEqual(seen, ["h", "s"]);
    keyspace.rollback();
    keyspace.begin();
    assert.equal(keyspace.find(bytes("h")), undefined);
    assert.equal(keyspace.hasAny(fieldNamespace, new Uint8Array(0), undefined), false);
    await store.close();
  });
});
