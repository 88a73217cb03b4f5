// What runs beside what: sources of one recall, independent hydrators, many requests in one runner. In simulated time.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Prng } from "#base/prng";
import type { Clock } from "#platform/clock";
import { Simulation } from "#platform/simulation";
import { Runner, filter, hydrate, pipeline, score, source, topK } from "./index.ts";

const seed = Number(process.env["SEED"] ?? 1);

interface Home {
  readonly user: number;
}

async function timed(clock: Clock, work: () => Promise<unknown>): Promise<number> {
  const startMs = clock.monotonicMs();
  await work();
  return clock.monotonicMs() - startMs;
}

test("promise: sources of one recall and independent hydrators wait together, dependent ones one after the other", async () => {
  const simulation = new Simulation({ seed });
  await simulation.run(async () => {
    const { clock } = simulation;
    const runner = new Runner({ clock, strict: true });
    const slow = (name: string) =>
      source<Home>()(name, {}, async (_ctx, emit) => {
        await clock.sleep(100);
        emit(1).id[0] = name.length;
      });
    const adding = <const In extends "a" | "b" | "id", const Out extends "a" | "b" | "c">(name: string, read: In, write: Out) =>
      hydrate<Home>()(name, { [read]: "u32" } as { readonly [K in In]: "u32" }, { [write]: "u32" } as { readonly [K in Out]: "u32" }, async () =>
        clock.sleep(100),
      );

    const sources = pipeline<Home>("sources")
      .recall([slow("x"), slow("yy"), slow("zzz")])
      .build();
    assert.ok((await timed(clock, () => runner.run(sources, { user: 1 }))) < 160);

    const together = pipeline<Home>("together")
      .recall([slow("x")])
      .hydrate(adding("ha", "id", "a"))
      .hydrate(adding("hb", "id", "b"))
      .build();
    assert.deepEqual(
      together.graph.nodes.map((n) => [n.id, n.stage, n.group]),
      [
        ["x", 1, undefined],
        ["ha", 2, 2],
        ["hb", 2, 2],
      ],
    );
    assert.ok((await timed(clock, () => runner.run(together, { user: 1 }))) < 260);

    // The third reads what the first writes, the fourth writes what the third reads.
    const chained = pipeline<Home>("chained")
      .recall([slow("x")])
      .hydrate(adding("ha", "id", "a"))
      .hydrate(adding("hb", "a", "b"))
      .hydrate(adding("hc", "id", "a"))
      .build();
    assert.deepEqual(
      chained.graph.nodes.map((n) => n.stage),
      [1, 2, 3, 4],
    );
    assert.ok((await timed(clock, () => runner.run(chained, { user: 1 }))) >= 400);
  });
});

test("a synchronous flow waits for nothing: it is done within one turn of promises", async () => {
  const simulation = new Simulation({ seed });
  await simulation.run(async () => {
    const { clock } = simulation;
    let timers = 0;
    const counting: Clock = {
      nowMs: () => clock.nowMs(),
      monotonicMs: () => clock.monotonicMs(),
      after: (ms, run) => (timers++, clock.after(ms, run)),
      sleep: (ms, signal) => clock.sleep(ms, signal),
      yield: () => clock.yield(),
    };
    const runner = new Runner({ clock: counting, strict: true });
    const now = source<Home>()("now", {}, (_ctx, emit) => void emit(3).id.set([1, 2, 3]));
    const steps = Array.from({ length: 20 }, (_, i) => score<Home>()(`s${i}`, {}, { score: "f32" }, (_c, _b, out) => void out.score.fill(i)));
    const flow = steps.reduce((f, step) => f.score(step, { timeoutMs: 5 }), pipeline<Home>("sync").recall([now]));
    let done = false;
    const running = runner.run(flow.select(2, topK()).build(), { user: 1 }).then((result) => {
      done = true;
      return result;
    });
    // The steps ran already; the few turns left belong to the request's own promises, not to its 22 steps.
    for (let turn = 0; turn < 8; turn++) await Promise.resolve();
    assert.equal(done, true);
    assert.equal(timers, 0);
    assert.equal((await running).n, 2);
  });
});

test("when one of several parallel steps fails the flow, the others are aborted at once", async () => {
  const simulation = new Simulation({ seed });
  await simulation.run(async () => {
    const { clock } = simulation;
    const runner = new Runner({ clock, strict: true });
    const aborted: string[] = [];
    const waiting = source<Home>()("waiting", {}, async (ctx) => {
      await clock.sleep(900, ctx.signal).catch(() => aborted.push("waiting"));
    });
    const failing = source<Home>()("failing", {}, async () => {
      await clock.sleep(20);
      throw new Error("away");
    });
    const built = pipeline<Home>("p").recall([waiting, failing]).build();
    const tookMs = await timed(clock, () => assert.rejects(runner.run(built, { user: 1 }), /away/));
    assert.ok(tookMs < 60);
    await clock.yield();
    assert.deepEqual(aborted, ["waiting"]);
  });
});

test("promise: requests in flight never see each other's rows, also when steps outlive their timeouts and write late", async () => {
  const simulation = new Simulation({ seed });
  console.log(`parallel.test seed ${seed}`);
  await simulation.run(async () => {
    const { clock } = simulation;
    const runner = new Runner({ clock, strict: true });
    const random = new Prng(seed);
    let late = 0;
    // Rows and columns of a request are all multiples of its user number; a foreign value shows at once.
    const own = source<Home>()("own", { mark: "f64" }, async (ctx, emit) => {
      await clock.sleep(random.below(30));
      const n = 50 + random.below(400);
      const out = emit(n);
      for (let i = 0; i < n; i++) {
        out.id[i] = (i + 1) * ctx.req.user;
        out.mark[i] = ctx.req.user;
      }
    });
    const stubborn = hydrate<Home>()(
      "stubborn",
      { mark: "f64" },
      { extra: { type: "f64", default: -1 }, text: { type: "str", default: "-" } },
      async (ctx, batch, out) => {
        // Ignores its signal and writes into whatever arrays it still holds.
        await clock.sleep(random.below(60));
        if (ctx.signal.aborted) late++;
        out.extra.fill(ctx.req.user);
        for (let i = 0; i < out.text.length; i++) out.text[i] = `user ${ctx.req.user}`;
        void batch;
      },
    );
    // Leaves the columns lying there for a while, so that a late write of another request's step would show.
    const pause = hydrate<Home>()("pause", { extra: "f64", text: "str" }, { text: "str" }, async () => clock.sleep(random.below(40)));
    const some = filter<Home>()("some", {}, (_ctx, batch, keep) => {
      for (let i = 0; i < batch.n; i++) keep[i] = i % 3 === 0 ? 0 : 1;
    });
    const rank = score<Home>()("rank", { mark: "f64" }, { score: "f32" }, (_ctx, batch, out) => {
      for (let i = 0; i < batch.n; i++) out.score[i] = -batch.id[i]!;
    });
    const built = pipeline<Home>("p")
      .recall([own])
      .hydrate(stubborn, { timeoutMs: 30, onError: "skip" })
      .hydrate(pause)
      .filter(some)
      .score(rank)
      .select(20, topK())
      .build();
    const check = async (user: number): Promise<void> => {
      await clock.sleep(random.below(200));
      const result = await runner.run(built, { user });
      assert.equal(result.n, 20);
      const skipped = result.degraded.length > 0;
      for (let row = 0; row < 20; row++) {
        assert.equal(result.ids[row]! % user, 0);
        assert.equal(result.col("mark")[row], user);
        assert.equal(result.col("extra")[row], skipped ? -1 : user);
        assert.equal(result.col("text")[row], skipped ? "-" : `user ${user}`);
      }
      // A result owns its memory: it does not change when the arrays are used again.
      const before = [...result.col("mark"), ...result.ids];
      await clock.sleep(random.below(100));
      assert.deepEqual([...result.col("mark"), ...result.ids], before);
    };
    const users = Array.from({ length: 200 }, (_, i) => 1_000 + i * 7);
    await Promise.all(users.map(check));
    assert.ok(late > 20, `only ${late} steps were late: the test would prove nothing`);
    assert.equal(runner.inFlight, 0);
    assert.ok(runner.idleBytes > 0 && runner.idleBytes < 64 * 1024 * 1024);
  });
});

test("a step that was given up cannot reach its batch nor emit any more", async () => {
  const simulation = new Simulation({ seed });
  await simulation.run(async () => {
    const { clock } = simulation;
    const runner = new Runner({ clock, strict: true });
    const refused: string[] = [];
    const note = (error: unknown): void => void refused.push((error as Error).message);
    const emitsLate = source<Home>()("emits-late", {}, async (_ctx, emit) => {
      await clock.sleep(50);
      try {
        emit(1);
      } catch (error) {
        note(error);
      }
    });
    const rows = source<Home>()("rows", {}, (_ctx, emit) => void emit(2).id.set([1, 2]));
    const readsLate = hydrate<Home>()("reads-late", { score: "f32" }, { a: "u8" }, async (_ctx, batch) => {
      await clock.sleep(50);
      try {
        batch.col("score");
      } catch (error) {
        note(error);
      }
    });
    const built = pipeline<Home>("p")
      .recall([rows, emitsLate], { timeoutMs: 20, onError: "skip" })
      .hydrate(readsLate, { timeoutMs: 20, onError: "skip" })
      .build();
    assert.equal((await runner.run(built, { user: 1 })).n, 2);
    await clock.sleep(200);
    assert.equal(refused.length, 2);
    assert.match(refused[0]!, /source emits-late emitted after it was given up/);
    assert.match(refused[1]!, /step reads-late of pipeline p used its batch after it had ended/);
  });
});

test("requests beyond concurrencyMax are refused as overloaded, and the next ones are served", async () => {
  const simulation = new Simulation({ seed });
  await simulation.run(async () => {
    const { clock } = simulation;
    const runner = new Runner({ clock, strict: true, limits: { concurrencyMax: 3 } });
    const slow = source<Home>()("slow", {}, async (_ctx, emit) => {
      await clock.sleep(20);
      emit(1).id[0] = 1;
    });
    const built = pipeline<Home>("p").recall([slow]).build();
    const settled = await Promise.allSettled(Array.from({ length: 5 }, () => runner.run(built, { user: 1 })));
    assert.deepEqual(
      settled.map((s) => (s.status === "fulfilled" ? s.value.n : (s.reason as { code: string }).code)),
      [1, 1, 1, "overloaded", "overloaded"],
    );
    assert.equal((await runner.run(built, { user: 1 })).n, 1);
  });
});

test("idle arrays are bounded, and text columns keep no strings", async () => {
  const simulation = new Simulation({ seed });
  await simulation.run(async () => {
    const runner = new Runner({ clock: simulation.clock, limits: { pooledBytesMax: 20_000 } });
    const many = source<Home>()("many", { a: "f64", b: "str" }, (_ctx, emit) => {
      const out = emit(3_000);
      for (let i = 0; i < 3_000; i++) {
        out.id[i] = i;
        out.b[i] = "secret";
      }
    });
    const built = pipeline<Home>("p").recall([many]).build();
    for (let i = 0; i < 3; i++) await runner.run(built, { user: 1 });
    assert.ok(runner.idleBytes <= 20_000);
    const roomy = new Runner({ clock: simulation.clock });
    await roomy.run(built, { user: 1 });
    const after = roomy.idleBytes;
    for (let i = 0; i < 3; i++) await roomy.run(built, { user: 1 });
    assert.equal(roomy.idleBytes, after, "the same request needs no new arrays");
    const peeking = source<Home>()("peek", { b: "str" }, (_ctx, emit) => {
      const { b } = emit(3_000);
      assert.ok(b.every((text) => text === ""));
    });
    await roomy.run(pipeline<Home>("q").recall([peeking]).build(), { user: 1 });
  });
});

test("promise: the same request gives the same answer", async () => {
  const once = async (): Promise<string> => {
    const simulation = new Simulation({ seed });
    return await simulation.run(async () => {
      const { clock } = simulation;
      const runner = new Runner({ clock, strict: true });
      // Sources end in another order than they were declared; rows keep the declared order.
      const after = (name: string, ms: number, from: number) =>
        source<Home>()(name, { a: "f32" }, async (_ctx, emit) => {
          await clock.sleep(ms);
          const out = emit(30);
          for (let i = 0; i < 30; i++) {
            out.id[i] = from + i;
            out.a[i] = i % 3;
          }
        });
      const byA = score<Home>()("by-a", { a: "f32" }, { score: "f32" }, (_ctx, batch, out) => out.score.set(batch.col("a")));
      const built = pipeline<Home>("p")
        .recall([after("late", 30, 10), after("early", 5, 30)])
        .score(byA)
        .select(25, topK())
        .build();
      const result = await runner.run(built, { user: 1 });
      return JSON.stringify([[...result.ids], [...result.scores], [...result.col("a")]]);
    });
  };
  const first = await once();
  assert.equal(await once(), first);
  assert.deepEqual((JSON.parse(first) as number[][])[0]!.slice(0, 4), [12, 15, 18, 21]);
});
