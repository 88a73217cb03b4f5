// Guards quotas: the mean rate holds whatever the batches are, each refusal says whose quota it is and what to do, and models do not touch each other.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { MillraceError } from "#base/errors";
import { type ModelUsage, ModelQuotas } from "./quota.ts";

function world(): { quotas: ModelQuotas; usage: Map<string, ModelUsage>; clock: { ms: number } } {
  const clock = { ms: 1_000 };
  const usage = new Map<string, ModelUsage>();
  return { clock, usage, quotas: new ModelQuotas({ monotonicMs: () => clock.ms, usageOf: (model) => usage.get(model) ?? { rows: 0, bytes: 0 } }) };
}

function refused(quotas: ModelQuotas, model: string, kind: "pull" | "push" | "delete", rows: number): string | undefined {
  try {
    quotas.admit(model, kind, rows);
    return undefined;
  } catch (thrown) {
    assert.ok(thrown instanceof MillraceError && thrown.code === "overloaded", String(thrown));
    return thrown.message;
  }
}

test("promise: whatever the batches, the rows let in stay at the rate and a second's worth above", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 5_000 }),
      fc.array(fc.record({ waitMs: fc.integer({ min: 0, max: 400 }), rows: fc.integer({ min: 1, max: 16_384 }) }), { minLength: 1, maxLength: 200 }),
      (perS, batches) => {
        const { quotas, clock } = world();
        quotas.set("ctr", { pulledRowsPerS: perS });
        let taken = 0;
        let largest = 0;
        const from = clock.ms;
        for (const { waitMs, rows } of batches) {
          clock.ms += waitMs;
          const message = refused(quotas, "ctr", "pull", rows);
          if (message !== undefined) {
            // What it says is true: then, and not a millisecond sooner, it is let in.
            const inMs = Number(/send again in (\d+) ms/.exec(message)![1]);
            const before = clock.ms;
            clock.ms = before + inMs - 2;
            if (inMs > 2) assert.notEqual(refused(quotas, "ctr", "pull", rows), undefined);
            clock.ms = before + inMs + 1;
            assert.equal(refused(quotas, "ctr", "pull", rows), undefined);
          }
          taken += rows;
          largest = Math.max(largest, rows);
          assert.ok(taken <= perS * (1 + (clock.ms - from) / 1_000) + largest, `${taken} rows in ${clock.ms - from} ms`);
        }
      },
    ),
    { seed: Number(process.env["SEED"] ?? 17), numRuns: 200 },
  );
});

test("a refusal names the model, the quota and what to do; what was refused takes nothing", () => {
  const { quotas, usage } = world();
  quotas.set("ctr", { rows: 100, bytesMb: 2, pulledRowsPerS: 10, pushedRowsPerS: 20, requestsPerS: 4 });
  quotas.admit("ctr", "pull", 15);
  assert.match(
    refused(quotas, "ctr", "pull", 1)!,
    /model ctr is over its quota of 10 rows pulled a second: send again in 500 ms, or raise .*ctr\.quota\.pulledRowsPerS/,
  );
  quotas.admit("ctr", "push", 5);
  usage.set("ctr", { rows: 100, bytes: 10 });
  assert.match(refused(quotas, "ctr", "push", 1)!, /model ctr holds 100 rows, its quota is 100: .*quota\.rows; pulls and deletes go on/);
  usage.set("ctr", { rows: 10, bytes: 2 ** 21 });
  assert.match(refused(quotas, "ctr", "push", 1)!, /holds 2 MiB, its quota is 2.*bytesMb/);
  quotas.admit("ctr", "delete", 1_000);
  usage.delete("ctr");
  quotas.admit("ctr", "push", 15);
  assert.match(refused(quotas, "ctr", "delete", 1)!, /quota of 4 requests a second/);
  assert.deepEqual(quotas.states(), [
    {
      model: "ctr",
      quota: { rows: 100, bytesMb: 2, pulledRowsPerS: 10, pushedRowsPerS: 20, requestsPerS: 4 },
      requests: 4,
      pulledRows: 15,
      pushedRows: 20,
      refused: { rows: 1, bytesMb: 1, pulledRowsPerS: 1, pushedRowsPerS: 0, requestsPerS: 1 },
    },
  ]);
  assert.throws(() => quotas.set("ctr", { rows: 0 }), { code: "invalid" });
});

test("models do not touch each other, and one without quotas is never refused", () => {
  const { quotas } = world();
  quotas.set("greedy", { pulledRowsPerS: 10 });
  quotas.set("calm", { pulledRowsPerS: 10 });
  for (let i = 0; i < 1_000; i += 1) refused(quotas, "greedy", "pull", 100);
  assert.equal(refused(quotas, "calm", "pull", 10), undefined);
  for (let i = 0; i < 1_000; i += 1) assert.equal(refused(quotas, "free", "push", 100), undefined);
});
