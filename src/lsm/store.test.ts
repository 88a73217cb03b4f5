// The store on the simulated platform: what one store promises while it runs. Crashes stand in store-crash.test.ts, random operations in store-model.test.ts.

import assert from "node:assert/strict";
import { test } from "node:test";
import { EntryRefs } from "#kernel/entry-refs";
import { KeyBatch } from "#kernel/key-batch";
import { EffectBatch } from "./effect-batch.ts";
import { ScanPage } from "./scan-page.ts";
import { engineKey, isHidden } from "./store.ts";
import { inSimulation } from "./store-world.contract.ts";

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const text = (value: Uint8Array): string => new TextDecoder().decode(value);

test("what is written is read at once, from runs after a flush, and after opening again", async () => {
  await inSimulation(1, async ({ open, clock }) => {
    let store = await open();
    const batch = new EffectBatch();
    for (let i = 0; i < 2_000; i++) batch.put(0, bytes(`key ${i}`), 1, bytes(`value ${i}`), 0, 0);
    const ticket = store.write(batch);
    await store.durable(ticket);
    batch.clear();
    batch.delete(0, bytes("key 7"), 0);
    batch.put(0, bytes("key 8"), 1, bytes("soon gone"), clock.nowMs() + 1_000_000, 0);
    store.write(batch);
    const refs = new EntryRefs();
    const check = (later: number): void => {
      const keys = KeyBatch.of(["key 1", "key 7", "key 8", "none"].map((key) => engineKey(0, bytes(key))));
      store.getMany(keys, refs, clock.nowMs() + later);
      assert.equal(text(store.bytesOf(refs, 0)), "value 1");
      assert.equal(refs.source[1], 255);
      assert.equal(isHidden(refs, 1), true);
      if (later === 0) assert.equal(text(store.bytesOf(refs, 2)), "soon gone");
      else assert.equal(isHidden(refs, 2), true);
      assert.equal(refs.source[3], 255);
      assert.equal(isHidden(refs, 3), false);
    };
    check(0);
    check(2_000_000);
    await store.flush();
    assert.equal(store.state.runs.length, 1);
    assert.equal(store.state.replayBytes, 0);
    check(0);
    check(2_000_000);
    await store.close();
    store = await open();
    check(0);
    const page = new ScanPage();
    assert.equal(store.scan({ from: engineKey(0, bytes("key 1")), limit: 3 }, page), true);
    assert.deepEqual(
      [0, 1, 2].map((i) => text(page.keyOf(i).subarray(2))),
      ["key 1", "key 10", "key 100"],
    );
    await store.close();
  });
});
