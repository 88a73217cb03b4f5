// Guards that every failure found in simulation can be repeated by its seed, and that a stuck run says so.

import assert from "node:assert/strict";
import { test } from "node:test";
import { MillraceError } from "#base/errors";
import { Simulation } from "./simulation.ts";

/** A body with timers, files, crashes and choices of its own; returns what it saw. */
async function busyWorld(seed: number): Promise<{ hash: string; events: number; trace: string[]; saw: string }> {
  const simulation = new Simulation({ seed, clockSkewMsMax: 50 });
  const trace: string[] = [];
  simulation.onEvent = (atUs, label) => trace.push(`${atUs} ${label}`);
  const saw = await simulation.run(async () => {
    const parts: string[] = [];
    const work = async (name: string): Promise<void> => {
      const node = simulation.node(name);
      await node.run(async () => {
        await node.files.makeFolder("/d");
        const file = (await node.files.open("/d/log", "write"))!;
        for (let i = 0; i < 20; i++) {
          await Promise.all([file.write(node.random.bytes(new Uint8Array(700)), i * 700), node.clock.sleep(node.random.below(5)), node.clock.yield()]);
          if (i % 4 === 0) await file.sync();
        }
      });
    };
    for (const name of ["a", "b"])
      simulation.clock.after(simulation.random.between(5, 80), () => simulation.node(name).crash(simulation.random.chance(0.5) ? "kill" : "power"));
    await Promise.all([work("a"), work("b")]);
    await Promise.all([work("a"), work("b")]);
    for (const name of ["a", "b"]) {
      const bytes = (await simulation.node(name).files.readFile("/d/log")) ?? new Uint8Array(0);
      parts.push(`${name} ${bytes.length} ${bytes.reduce((sum, byte) => (sum * 31 + byte) | 0, 0)} ${simulation.node(name).clock.nowMs()}`);
    }
    return parts.join(", ");
  });
  return { hash: simulation.traceHash, events: simulation.eventCount, trace, saw };
}

test("promise: a simulation is repeated exactly by its seed", async () => {
  for (const seed of [1, 2, 3]) {
    const [first, second] = [await busyWorld(seed), await busyWorld(seed)];
    assert.deepEqual(first, second);
    assert.ok(first.events > 100 && first.trace.length === first.events);
    assert.notEqual((await busyWorld(seed + 100)).hash, first.hash);
  }
});

test("running simulations beside one another does not change them", async () => {
  const alone = await busyWorld(5);
  const [one, , two] = await Promise.all([busyWorld(5), busyWorld(6), busyWorld(5)]);
  assert.deepEqual([one, two], [alone, alone]);
});

test("the trace hash covers what happened, not only how much", async () => {
  const hashOf = async (first: number, second: number): Promise<string> => {
    const simulation = new Simulation({ seed: 1 });
    await simulation.run(async () => {
      await simulation.clock.sleep(first);
      await simulation.clock.sleep(second);
    });
    return simulation.traceHash;
  };
  assert.equal(await hashOf(10, 20), await hashOf(10, 20));
  assert.notEqual(await hashOf(10, 20), await hashOf(20, 10));
});

test("a body that waits for nothing is reported with its seed", async () => {
  const simulation = new Simulation({ seed: 4711 });
  await assert.rejects(
    simulation.run(() => new Promise(() => {})),
    (thrown) => thrown instanceof MillraceError && /seed 4711 is stuck/.test(thrown.message),
  );
});

test("a body that awaits a dead node is reported, a node.run that a crash cuts off is not", async () => {
  const simulation = new Simulation({ seed: 8 });
  await assert.rejects(
    simulation.run(async () => {
      const node = simulation.node("a");
      node.crash("kill");
      await node.clock.sleep(1);
    }),
    /seed 8 is stuck/,
  );
  const ended = await simulation.run(async () => {
    const node = simulation.node("a");
    simulation.clock.after(50, () => node.crash("kill"));
    return node.run(() => node.clock.sleep(100));
  });
  assert.deepEqual(ended, { crashed: true });
  assert.deepEqual(await simulation.run(() => simulation.node("a").run(async () => 5)), { crashed: false, value: 5 });
});

test("a body that goes on for ever is ended by the limits", async () => {
  const forEver = (simulation: Simulation) => async () => {
    for (;;) await simulation.clock.sleep(1000);
  };
  const events = new Simulation({ seed: 1, eventsMax: 100 });
  await assert.rejects(events.run(forEver(events)), /seed 1 does not end/);
  const time = new Simulation({ seed: 2, virtualMsMax: 10_000 });
  await assert.rejects(time.run(forEver(time)), /seed 2 does not end/);
  assert.ok(time.eventCount <= 10);
});

test("an error of the body comes out as it was, with the seed in its message", async () => {
  const simulation = new Simulation({ seed: 99 });
  const failure = new RangeError("wrong sum");
  await assert.rejects(
    simulation.run(async () => {
      await simulation.clock.sleep(5);
      throw failure;
    }),
    (thrown) => thrown === failure && /wrong sum\n\(simulation seed 99, virtual time 5\.\d+ ms, 1 events\)/.test(failure.message),
  );
  await assert.rejects(
    simulation.run(() => {
      throw failure;
    }),
    RangeError,
  );
});

test("virtual days take no time, and work of the real world holds them still", async () => {
  const simulation = new Simulation({ seed: 1 });
  const started = performance.now();
  await simulation.run(async () => {
    const before = simulation.clock.nowMs();
    assert.equal(new Date(before).toISOString(), "2024-01-01T00:00:00.000Z");
    await simulation.clock.sleep(86_400_000);
    assert.ok(simulation.clock.nowMs() - before >= 86_400_000);
    let ticks = 0;
    const tick = (): void => void (ticks++, simulation.clock.after(1, tick));
    tick();
    await simulation.outside(new Promise((resolve) => setTimeout(resolve, 30)));
    assert.equal(ticks, 1);
  });
  assert.ok(performance.now() - started < 5000);
});

test("only one run at a time", async () => {
  const simulation = new Simulation({ seed: 1 });
  const first = simulation.run(() => simulation.clock.sleep(10));
  assert.throws(() => simulation.run(async () => {}), /already running/);
  await first;
});

test("machines differ in wall time by at most the skew, jumps move it, monotonic time goes on", async () => {
  const offsets = new Set<number>();
  for (let seed = 0; seed < 20; seed++) {
    const simulation = new Simulation({ seed, clockSkewMsMax: 100 });
    await simulation.run(async () => {
      const node = simulation.node("a");
      const offset = node.clock.nowMs() - simulation.clock.nowMs();
      assert.ok(Math.abs(offset) <= 100);
      offsets.add(offset);
      const [wall, steady] = [node.clock.nowMs(), node.clock.monotonicMs()];
      node.jumpWallTime(-60_000);
      await node.clock.sleep(10);
      assert.ok(node.clock.nowMs() < wall - 59_000);
      assert.ok(node.clock.monotonicMs() - steady >= 10);
      node.crash("power");
      assert.ok(simulation.node("a").clock.nowMs() < wall - 59_000, "the machine keeps its wall time");
    });
  }
  assert.ok(offsets.size > 10);
});
