// Guards that a push of a worker is applied once, and which repetitions are refused.

import assert from "node:assert/strict";
import { test } from "node:test";
import { MillraceError } from "#base/errors";
import { parameterLimits } from "#wire/parameter-limits";
import { PushWindows } from "./push-windows.ts";

test("promise: a number of a worker is applied once, answered alike again, and refused when it is too old to know", async () => {
  const windows = new PushWindows();
  let applied = 0;
  const push = (): Promise<number> => Promise.resolve(++applied);
  assert.deepEqual(await Promise.all([windows.once(1, "a", 1, push), windows.once(1, "a", 1, push)]), [1, 1]);
  // Another table, another worker, a later number.
  assert.equal(await windows.once(2, "a", 1, push), 2);
  assert.equal(await windows.once(1, "b", 1, push), 3);
  const { pushWindow } = parameterLimits;
  assert.equal(await windows.once(1, "a", pushWindow + 1, push), 4);
  await assert.rejects(windows.once(1, "a", 1, push), { code: "conflict", message: /SEQ 1, where this worker has sent 1025/ });
  // Out of order within the window.
  assert.equal(await windows.once(1, "a", 2, push), 5);
  assert.equal(await windows.once(1, "a", 2, push), 5);
  assert.equal(applied, 5);
});

test("what failed may come again, but not what may still be applied", async () => {
  const windows = new PushWindows();
  const failing = (code: "unavailable" | "timeout") => (): Promise<number> => Promise.reject(new MillraceError(code, "no"));
  await assert.rejects(windows.once(1, "a", 1, failing("unavailable")), { code: "unavailable" });
  assert.equal(await windows.once(1, "a", 1, () => Promise.resolve(7)), 7);
  await assert.rejects(windows.once(1, "a", 2, failing("timeout")), { code: "timeout" });
  await assert.rejects(
    windows.once(1, "a", 2, () => Promise.resolve(7)),
    { code: "timeout" },
  );
});

test("workers that were silent longest are forgotten, no others", async () => {
  const windows = new PushWindows();
  const { pushWorkersMax } = parameterLimits;
  for (let worker = 0; worker <= pushWorkersMax; worker++) await windows.once(1, `w-${worker}`, 1, () => Promise.resolve(1));
  assert.equal(await windows.once(1, "w-1", 1, () => Promise.resolve(2)), 1);
  assert.equal(await windows.once(1, "w-0", 1, () => Promise.resolve(2)), 2);
});
