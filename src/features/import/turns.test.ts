// Guards that imports take turns one at a time, and that a table which just had its turn comes after one that waits.

import assert from "node:assert/strict";
import { test } from "node:test";
import { MillraceError } from "#base/errors";
import { createMemoryRegistry } from "#backbone/memory-registry";
import { Simulation } from "#platform/simulation";
import { Turns } from "./turns.ts";

test("one turn at a time; the table whose turn is longest ago is next, within a table who waits longest", async () => {
  const simulation = new Simulation({ seed: process.env["SEED"] ?? 1 });
  await simulation.run(async () => {
    const { clock } = simulation.node("a");
    const registry = createMemoryRegistry({ clock });
    const order: string[] = [];
    let active = 0;
    const work = async (table: string, id: string, turns: number): Promise<void> => {
      const place = new Turns({ registry, clock, table, id });
      for (let turn = 0; turn < turns; turn++) {
        await place.take();
        active += 1;
        assert.equal(active, 1, "one at a time");
        order.push(table);
        await clock.sleep(1_000);
        active -= 1;
        await place.give();
      }
      await place.end();
    };
    const large = [work("large", "1", 6), work("large", "2", 6)];
    await clock.sleep(2_500);
    await Promise.all([...large, work("small", "1", 2)]);
    assert.equal(order.length, 14);
    const first = order.indexOf("small");
    assert.ok(first <= 4, `small waits for at most the turn under way: ${order.join(" ")}`);
    assert.ok(order.indexOf("small", first + 1) - first <= 2, `then it alternates: ${order.join(" ")}`);
    await registry.close();
  });
});

test("a wait for a turn has an end", async () => {
  const simulation = new Simulation({ seed: 1 });
  await simulation.run(async () => {
    const { clock } = simulation.node("a");
    const registry = createMemoryRegistry({ clock });
    const holder = new Turns({ registry, clock, table: "a", id: "1" });
    await holder.take();
    const waiter = new Turns({ registry, clock, table: "b", id: "1", waitMsMax: 5_000 });
    await assert.rejects(waiter.take(), (thrown) => thrown instanceof MillraceError && thrown.code === "timeout");
    await holder.end();
    await waiter.take();
    await waiter.end();
    await registry.close();
  });
});
