// What every `Clock` must do; run against the machine's clock and its simulated twin.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { Clock } from "./clock.ts";

export function clockContract(engine: string, within: (body: (clock: Clock) => Promise<void>) => Promise<void>): void {
  const check = (name: string, body: (clock: Clock) => Promise<void>): void => {
    test(`clock contract, ${engine}: ${name}`, () => within(body));
  };

  check("wall time is an integer and moves with monotonic time, which never goes back", async (clock) => {
    const [wall, steady] = [clock.nowMs(), clock.monotonicMs()];
    assert.ok(Number.isInteger(wall) && wall > 1_600_000_000_000);
    let last = steady;
    for (let i = 0; i < 20; i++) {
      await clock.yield();
      assert.ok(clock.monotonicMs() >= last);
      last = clock.monotonicMs();
    }
    await clock.sleep(30);
    const [wallPassed, steadyPassed] = [clock.nowMs() - wall, clock.monotonicMs() - steady];
    assert.ok(steadyPassed >= 30 && Math.abs(wallPassed - steadyPassed) < 20, `${wallPassed} ${steadyPassed}`);
  });

  check("a timer never fires early, whatever the delay, on an idle loop and on a busy one", async (clock) => {
    for (const busy of [false, true]) {
      let waiting = true;
      const all = Promise.all(
        [0, 0.3, 1, 1.5, 2, 3, 5, 7.9, 20, -5, NaN].map(async (delay) => {
          const start = clock.monotonicMs();
          await new Promise<void>((resolve) => clock.after(delay, resolve));
          assert.ok(!(clock.monotonicMs() - start < delay), `${delay} ms fired after ${clock.monotonicMs() - start}`);
        }),
      ).finally(() => (waiting = false));
      // A loop that never sleeps looks at its timers all the time, by a clock of whole milliseconds.
      while (busy && waiting) await clock.yield();
      await all;
    }
  });

  check("shorter delays fire first; a callback may start the next timer", async (clock) => {
    const order: string[] = [];
    await new Promise<void>((resolve) => {
      clock.after(600, () => {
        order.push("600");
        resolve();
      });
      clock.after(1, () => {
        order.push("1");
        clock.after(1, () => order.push("1 + 1"));
      });
    });
    assert.deepEqual(order, ["1", "1 + 1", "600"]);
  });

  check("a cancelled timer does not fire; cancelling again, or late, is harmless", async (clock) => {
    let fired = 0;
    const cancelled = clock.after(5, () => fired++);
    cancelled.cancel();
    cancelled.cancel();
    const late = clock.after(1, () => (fired += 10));
    await clock.sleep(60);
    late.cancel();
    assert.equal(fired, 10);
  });

  check("a delay of months does not fire now", async (clock) => {
    let fired = false;
    const timer = clock.after(90 * 86_400_000, () => (fired = true));
    await clock.sleep(30);
    timer.cancel();
    assert.equal(fired, false);
  });

  check("sleep rejects with the reason of its signal", async (clock) => {
    const reason = new Error("enough");
    await assert.rejects(clock.sleep(1, AbortSignal.abort(reason)), reason);
    const controller = new AbortController();
    const sleeping = clock.sleep(60_000, controller.signal);
    clock.after(2, () => controller.abort(reason));
    const start = clock.monotonicMs();
    await assert.rejects(sleeping, reason);
    assert.ok(clock.monotonicMs() - start < 30_000);
    await clock.sleep(1, new AbortController().signal);
  });

  check("yield lets promises that are ready go first", async (clock) => {
    const order: string[] = [];
    const yielded = clock.yield().then(() => order.push("yield"));
    let chain = Promise.resolve();
    for (let i = 0; i < 5; i++) chain = chain.then(() => void order.push("promise"));
    await yielded;
    assert.deepEqual(order, ["promise", "promise", "promise", "promise", "promise", "yield"]);
  });
}
