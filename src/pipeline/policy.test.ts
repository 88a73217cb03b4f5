// What a step's failure does to the answer: timeouts, errors, conditions, defects. In simulated time, strict unless the test is about live behaviour.

import assert from "node:assert/strict";
import { test } from "node:test";
import { MillraceError } from "#base/errors";
import type { Clock } from "#platform/clock";
import { Simulation } from "#platform/simulation";
import { systemClock } from "#platform/system-clock";
import { Defect, type Policy, Runner, type RunnerOptions, filter, hydrate, pipeline, score, select, source, topK } from "./index.ts";

interface Home {
  readonly user: number;
}

/** `n` rows with ids 0..n-1 and score n - id. */
const rows = (n: number, name = "rows") =>
  source<Home>()(name, { score: "f32" }, (_ctx, emit) => {
    const out = emit(n);
    for (let i = 0; i < n; i++) {
      out.id[i] = i;
      out.score[i] = n - i;
    }
  });

async function inSimulation<T>(run: (runner: Runner, clock: Clock) => Promise<T>, options: Partial<RunnerOptions> = {}): Promise<T> {
  const simulation = new Simulation({ seed: Number(process.env["SEED"] ?? 1) });
  return await simulation.run(() => run(new Runner({ clock: simulation.clock, strict: true, ...options }), simulation.clock));
}

/** A source that brings ids 100.. after `delayMs`, and gives up when aborted. */
const slow = (clock: Clock, delayMs: number, name = "slow") =>
  source<Home>()(name, {}, async (ctx, emit) => {
    await clock.sleep(delayMs, ctx.signal);
    emit(2).id.set([100, 101]);
  });

test("promise: a source that times out costs its rows and nothing else", async () => {
  await inSimulation(async (runner, clock) => {
    const built = pipeline<Home>("p")
      .recall([rows(3), slow(clock, 500)], { timeoutMs: 30, onError: "empty" })
      .select(10, topK())
      .build();
    const startMs = clock.monotonicMs();
    const result = await runner.run(built, { user: 1 });
    assert.ok(clock.monotonicMs() - startMs < 60);
    assert.deepEqual([...result.ids], [0, 1, 2]);
    assert.deepEqual(
      result.degraded.map(({ step, reason, action }) => ({ step, reason, action })),
      [{ step: "slow", reason: "timeout", action: "empty" }],
    );
    const traced = result.trace.find((t) => t.step === "slow")!;
    assert.equal(traced.outcome, "timeout");
    assert.ok(traced.micros >= 30_000);
    assert.match(traced.error!, /^\[timeout\] step slow of pipeline p took longer/);
  });
});

test("a failure under `fail` without a fallback is the request's error, with its code", async () => {
  await inSimulation(async (runner, clock) => {
    const late = pipeline<Home>("late")
      .recall([slow(clock, 500)], { timeoutMs: 5 })
      .build();
    await assert.rejects(runner.run(late, { user: 1 }), { code: "timeout" });
    const refused = new MillraceError("unavailable", "store is away");
    const failing = pipeline<Home>("failing")
      .recall([
        source<Home>()("s", {}, () => {
          throw refused;
        }),
      ])
      .build();
    await assert.rejects(runner.run(failing, { user: 1 }), (error) => error === refused);
    const foreign = pipeline<Home>("foreign")
      .recall([source<Home>()("s", {}, () => Promise.reject(new Error("socket hang up")))])
      .build();
    await assert.rejects(runner.run(foreign, { user: 1 }), { code: "internal", message: /step s of pipeline foreign failed: socket hang up/ });
  });
});

test("a skipped hydrator leaves declared defaults, also in what it wrote before it failed", async () => {
  await inSimulation(async (runner) => {
    const half = hydrate<Home>()("half", {}, { price: { type: "f32", default: 7 }, title: { type: "str", default: "?" } }, (_ctx, batch, out) => {
      out.price.fill(1, 0, 2);
      out.title[0] = "half";
      throw new Error(`row ${batch.n} is away`);
    });
    const built = pipeline<Home>("p")
      .recall([rows(4)])
      .hydrate(half, { onError: "skip" })
      .select(4, topK())
      .build();
    const result = await runner.run(built, { user: 1 });
    assert.deepEqual([...result.col("price")], [7, 7, 7, 7]);
    assert.deepEqual(result.col("title"), ["?", "?", "?", "?"]);
    assert.deepEqual(
      result.degraded.map((d) => [d.step, d.reason, d.action]),
      [["half", "error", "skip"]],
    );
  });
});

test("a skipped scorer keeps the scores written before it", async () => {
  await inSimulation(async (runner) => {
    const model = score<Home>()("model", {}, { score: "f32", pctr: "f32" }, (_ctx, _batch, out) => {
      out.score.fill(-1);
      throw new Error("no parameters");
    });
    const built = pipeline<Home>("p")
      .recall([rows(3)])
      .score(model, { onError: "skip" })
      .select(3, topK())
      .build();
    assert.deepEqual([...(await runner.run(built, { user: 1 })).scores], [3, 2, 1]);
  });
});

test("a skipped filter keeps all rows; an emptied one leaves none; a skipped selector is the plain top k", async () => {
  await inSimulation(async (runner) => {
    const broken = filter<Home>()("broken", {}, (_ctx, _batch, keep) => {
      keep.fill(0);
      throw new Error("away");
    });
    const noSelect = select<Home>()("no-select", {}, () => {
      throw new Error("away");
    });
    const flow = pipeline<Home>("p").recall([rows(5)]);
    assert.equal((await runner.run(flow.filter(broken, { onError: "skip" }).build(), { user: 1 })).n, 5);
    const emptied = await runner.run(flow.filter(broken, { onError: "empty" }).build(), { user: 1 });
    assert.equal(emptied.n, 0);
    assert.equal(emptied.degraded[0]?.action, "empty");
    assert.equal(emptied.trace.find((t) => t.step === "broken")!.rowsOut, 0);
    assert.deepEqual([...(await runner.run(flow.select(2, noSelect, { onError: "skip" }).build(), { user: 1 })).ids], [0, 1]);
  });
});

test("a condition leaves a step out without counting it as degraded", async () => {
  await inSimulation(async (runner) => {
    let asked = 0;
    const more = source<Home>()("more", {}, (_ctx, emit) => {
      asked++;
      emit(1).id[0] = 99;
    });
    const built = pipeline<Home>("p")
      .recall([rows(3)])
      .recall([more], { when: (ctx) => ctx.rows < ctx.req.user, note: "only for small answers" })
      .hydrate(
        hydrate<Home>()("bonus", {}, { bonus: { type: "u8", default: 4 } }, (_c, _b, out) => void out.bonus.fill(9)),
        { when: () => false },
      )
      .build();
    const without = await runner.run(built, { user: 3 });
    assert.deepEqual([without.n, asked, without.degraded.length], [3, 0, 0]);
    assert.deepEqual([...without.col("bonus")], [4, 4, 4]);
    assert.deepEqual(
      without.trace.filter((t) => t.outcome === "off").map((t) => [t.step, t.note]),
      [
        ["more", "only for small answers"],
        ["bonus", undefined],
      ],
    );
    assert.equal((await runner.run(built, { user: 4 })).n, 4);
  });
});

test("the end of the request's time ends asynchronous steps; what is there is still answered", async () => {
  await inSimulation(async (runner, clock) => {
    const enrich = hydrate<Home>()("enrich", {}, { price: "f32" }, async (ctx) => clock.sleep(1_000, ctx.signal));
    const built = pipeline<Home>("p")
      .recall([rows(5)])
      .hydrate(enrich, { onError: "skip" })
      .filter(filter<Home>()("even", {}, (_ctx, batch, keep) => void batch.id.forEach((id, i) => (keep[i] = id % 2 === 0 ? 1 : 0))))
      .select(2, topK())
      .build();
    const startMs = clock.monotonicMs();
    const result = await runner.run(built, { user: 1 }, { timeoutMs: 40 });
    assert.ok(clock.monotonicMs() - startMs < 80);
    assert.deepEqual([...result.ids], [0, 2]);
    assert.equal(result.degraded[0]?.reason, "timeout");
  });
});

test("a step sees its time, its signal and its limit", async () => {
  await inSimulation(async (runner, clock) => {
    const seen: unknown[] = [];
    const probe = source<Home>()("probe", {}, async (ctx, emit) => {
      seen.push(ctx.limit, ctx.nowMs === clock.nowMs(), ctx.remainingMs() <= 25 && ctx.remainingMs() > 20, ctx.signal.aborted);
      await clock.sleep(10, ctx.signal);
      seen.push(ctx.remainingMs() <= 15);
      emit(0);
    });
    const late = source<Home>()("late", {}, async (ctx) => {
      const { promise, resolve } = Promise.withResolvers<void>();
      ctx.signal.addEventListener("abort", () => {
        seen.push((ctx.signal.reason as MillraceError).code);
        resolve();
      });
      await promise;
    });
    const built = pipeline<Home>("p")
      .recall([probe, late], { timeoutMs: 25, onError: "empty", quota: { probe: 12 }, each: { late: { timeoutMs: 30 } } })
      .build();
    const result = await runner.run(built, { user: 1 });
    assert.deepEqual(seen, [12, true, true, false, true, "timeout"]);
    assert.equal(result.trace.find((t) => t.step === "late")!.outcome, "timeout");
  });
});

test("a caller that gives up ends the request and its steps", async () => {
  await inSimulation(async (runner, clock) => {
    const controller = new AbortController();
    clock.after(20, () => controller.abort(new Error("client left")));
    const steps: string[] = [];
    const watching = source<Home>()("watching", {}, async (ctx) => {
      await clock.sleep(900, ctx.signal).catch((reason: unknown) => steps.push((reason as Error).message));
    });
    const built = pipeline<Home>("p")
      .recall([watching])
      .fallback(
        pipeline<Home>("f")
          .recall([rows(3)])
          .build(),
      )
      .build();
    const startMs = clock.monotonicMs();
    await assert.rejects(runner.run(built, { user: 1 }, { signal: controller.signal }), { code: "unavailable" });
    assert.ok(clock.monotonicMs() - startMs < 60);
    await clock.yield();
    assert.deepEqual(steps, ["client left"]);
    await assert.rejects(runner.run(built, { user: 1 }, { signal: controller.signal }), { code: "unavailable" });
    assert.equal(runner.inFlight, 0);
  });
});

// Programmer errors. Each breaks one rule; strict throws whatever the policy says, live follows the policy and counts.
const defects: readonly { name: string; says: RegExp; build: (policy: Policy<Home>) => ReturnType<typeof broken> }[] = [
  { name: "only NaN", says: /gave NaN for all 3 rows/, build: (p) => broken((out) => out.score.fill(NaN), p) },
  { name: "writing past the end", says: /offset is out of bounds/, build: (p) => broken((out) => out.score.set(new Float32Array(9)), p) },
  {
    name: "replacing an array",
    says: /replaced the array of column score|writes column score/,
    build: (p) => broken((out) => Object.assign(out, { score: new Float32Array(1) }), p),
  },
  {
    name: "an undeclared column",
    says: /writes column price, which it did not declare/,
    build: (p) => broken((out) => Object.assign(out, { price: new Float32Array(3) }), p),
  },
  {
    name: "reading an undeclared column",
    says: /reads column secret, which it did not declare/,
    build: (p) => broken((_out, batch) => void (batch.col as (name: string) => unknown)("secret"), p),
  },
];
function broken(work: (out: { readonly score: Float32Array }, batch: { col: (name: never) => unknown }) => unknown, policy: Policy<Home>) {
  const step = score<Home>()("broken", {}, { score: "f32" }, (_ctx, batch, out) => void work(out, batch));
  return pipeline<Home>("p")
    .recall([rows(3)])
    .score(step, policy)
    .select(3, topK())
    .build();
}
for (const { name, says, build } of defects) {
  test(`a defect of a step throws in strict mode and is counted live: ${name}`, async () => {
    await assert.rejects(new Runner({ clock: systemClock, strict: true }).run(build({ onError: "skip" }), { user: 1 }), (error) => {
      assert.ok(error instanceof Defect);
      assert.match(error.message, says);
      return true;
    });
    const outcomes: string[] = [];
    const live = new Runner({ clock: systemClock, observer: { step: (_p, step, _m, _i, _o, outcome) => step === "broken" && outcomes.push(outcome) } });
    const result = await live.run(build({ onError: "skip" }), { user: 1 });
    assert.deepEqual([...result.ids], [0, 1, 2]);
    assert.deepEqual([...result.scores], [3, 2, 1]);
    assert.deepEqual([result.degraded[0]?.reason, outcomes.join()], ["defect", "defect"]);
    await assert.rejects(live.run(build({}), { user: 1 }), { code: "internal", message: says });
  });
}

test("selectors are checked: too many rows, rows twice, rows beyond the batch, promises", async () => {
  const strict = new Runner({ clock: systemClock, strict: true });
  const flow = pipeline<Home>("p").recall([rows(3)]);
  const cases: [RegExp, (order: Uint32Array) => unknown][] = [
    [/chose 5 rows of 3/, () => 5],
    [/chose -1 rows/, () => -1],
    [/chose NaN rows/, () => NaN],
    [/chose row 1 twice/, (order) => (order.set([1, 1]), 2)],
    [/chose row 77 twice or beyond/, (order) => (order.set([0, 77]), 2)],
    [/returned a promise/, () => Promise.resolve(1)],
  ];
  for (const [says, choose] of cases) {
    const step = select<Home>()("odd", {}, (_ctx, _batch, _k, order) => choose(order) as number);
    await assert.rejects(strict.run(flow.select(3, step).build(), { user: 1 }), says);
    const live = new Runner({ clock: systemClock });
    assert.deepEqual([...(await live.run(flow.select(2, step, { onError: "skip" }).build(), { user: 1 })).ids], [0, 1]);
  }
});

test("sources are checked: rows emitted, rows used", async () => {
  const strict = new Runner({ clock: systemClock, strict: true, limits: { sourceRowsMax: 100 } });
  const run = (work: (emit: (n: number) => unknown) => number | void) =>
    strict.run(
      pipeline<Home>("p")
        .recall([source<Home>()("s", {}, (_ctx, emit) => work(emit))])
        .build(),
      { user: 1 },
    );
  await assert.rejects(
    run((emit) => void emit(1.5)),
    /emitted 1.5 rows/,
  );
  await assert.rejects(
    run((emit) => (emit(3), 4)),
    /used 4 of 3/,
  );
  await assert.rejects(
    run((emit) => void (emit(60), emit(41))),
    { code: "invalid", message: /more than 100 rows/ },
  );
  assert.equal((await run((emit) => void (emit(60), emit(40)))).trace[0]?.rowsIn, 100);
});

test("NaN scores rank last, wherever they came from", async () => {
  const runner = new Runner({ clock: systemClock, strict: true });
  const values = [1, NaN, 5, NaN, 3];
  const bySource = source<Home>()("s", { score: "f32" }, (_ctx, emit) => {
    const out = emit(5);
    out.id.set([0, 1, 2, 3, 4]);
    out.score.set(values);
  });
  const byStep = score<Home>()("n", {}, { score: "f32" }, (_ctx, _batch, out) => out.score.set(values));
  const byHydrate = hydrate<Home>()("h", {}, { score: "f32" }, (_ctx, _batch, out) => out.score.set(values));
  const flows = [
    pipeline<Home>("a").recall([bySource]),
    pipeline<Home>("b")
      .recall([rows(5)])
      .score(byStep),
    pipeline<Home>("c")
      .recall([rows(5)])
      .hydrate(byHydrate),
  ];
  for (const flow of flows) {
    const result = await runner.run(flow.select(5, topK()).build(), { user: 1 });
    assert.deepEqual([...result.ids], [2, 4, 0, 1, 3]);
    assert.deepEqual([...result.scores], [5, 3, 1, -Infinity, -Infinity]);
  }
});

test("a count that is none is refused; a count that cannot be computed is an error", async () => {
  const runner = new Runner({ clock: systemClock });
  const flow = pipeline<Home>("p").recall([rows(9)]);
  for (const bad of [-1, NaN]) await assert.rejects(runner.run(flow.select((ctx) => ctx.req.user, topK()).build(), { user: bad }), { code: "invalid" });
  const throwing = flow.select(() => {
    throw new Error("no page size");
  }, topK());
  await assert.rejects(runner.run(throwing.build(), { user: 1 }), { code: "internal" });
  assert.equal((await runner.run(flow.select((ctx) => ctx.req.user, topK()).build(), { user: 2.7 })).n, 2);
  assert.equal((await runner.run(flow.select((ctx) => ctx.req.user, topK()).build(), { user: Infinity })).n, 9);
  await assert.rejects(runner.run(flow.build(), { user: 1 }, { timeoutMs: 0 }), { code: "invalid" });
  assert.equal(runner.inFlight, 0);
});

test("limits out of range are refused", () => {
  for (const limits of [{ candidatesMax: 0 }, { candidatesMax: 1_000_001 }, { timeoutMs: NaN }, { pooledBytesMax: -1 }]) {
    assert.throws(() => new Runner({ clock: systemClock, limits }), { code: "invalid" });
  }
});
