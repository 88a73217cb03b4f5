// Writers that stand still at the worst moment. Three processes share one disk; the gate of a process holds back its file operations, as a stopped
// process or a machine without memory does, while its lease runs out and another process takes the partition over. Then the gate opens.
// Promise: what either acknowledged is there at its offset, in every process; the one that was replaced acknowledges nothing after that.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { Clock } from "#platform/clock";
import type { Files, OpenFile } from "#platform/files";
import { Simulation } from "#platform/simulation";
import { refusal, StoppableClock } from "./suite.contract.ts";
import { openEmbeddedLog } from "./embedded-log.ts";
import type { Log, LogWriter } from "./log.ts";
import { readAll } from "./log.contract.ts";
import { createMemoryRegistry } from "./memory-registry.ts";
import { eventually } from "./registry.contract.ts";

/** Holds back operations while closed; what waits goes on in order once it opens. */
class Gate {
  #open = Promise.resolve();
  #release: (() => void) | undefined;

  close(): void {
    if (this.#release !== undefined) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#open = promise;
    this.#release = resolve;
  }

  open(): void {
    this.#release?.();
    this.#release = undefined;
  }

  async through<T>(work: () => Promise<T>): Promise<T> {
    await this.#open;
    const result = await work();
    await this.#open;
    return result;
  }
}

function gated(files: Files, gate: Gate): Files {
  const wrap = (file: OpenFile | undefined): OpenFile | undefined =>
    file === undefined
      ? undefined
      : {
          write: (part, position) => gate.through(() => file.write(part, position)),
          writeAll: (parts, position) => gate.through(() => file.writeAll(parts, position)),
          read: (into, position) => gate.through(() => file.read(into, position)),
          size: () => gate.through(() => file.size()),
          truncate: (size) => gate.through(() => file.truncate(size)),
          sync: () => gate.through(() => file.sync()),
          close: () => file.close(),
        };
  return {
    open: async (path, mode) => wrap(await gate.through(() => files.open(path, mode))),
    readFile: (path) => gate.through(() => files.readFile(path)),
    writeFileAtomic: (path, content) => gate.through(() => files.writeFileAtomic(path, content)),
    list: (folder) => gate.through(() => files.list(folder)),
    sizeOf: (path) => gate.through(() => files.sizeOf(path)),
    rename: (from, to) => gate.through(() => files.rename(from, to)),
    remove: (path) => gate.through(() => files.remove(path)),
    removeFolder: (path) => gate.through(() => files.removeFolder(path)),
    makeFolder: (path) => gate.through(() => files.makeFolder(path)),
    syncFolder: (path) => gate.through(() => files.syncFolder(path)),
    join: (...parts) => files.join(...parts),
  };
}

interface Process {
  readonly log: Log;
  readonly gate: Gate;
  readonly clock: StoppableClock;
}

/** Tries until the partition is free; a process that was stopped meanwhile does not try again. */
async function openSoon(log: Log, clock: Clock, isStopped = (): boolean => false): Promise<LogWriter> {
  for (;;) {
    try {
      return await log.openWriter("p");
    } catch (thrown) {
      if (!refusal("conflict")(thrown) || isStopped()) throw thrown;
      await clock.sleep(20);
    }
  }
}

async function run(seed: number): Promise<{ takeovers: number; late: number }> {
  const simulation = new Simulation({ seed, virtualMsMax: 60_000 });
  const { random } = simulation;
  let takeovers = 0;
  let late = 0;
  await simulation.run(async () => {
    const { files, clock } = simulation.node("a");
    const registry = createMemoryRegistry({ clock });
    const start = (): Process => {
      const gate = new Gate();
      const registryClock = new StoppableClock(clock);
      const log = openEmbeddedLog({
        files: gated(files, gate),
        clock,
        registry: registry.connect({ clock: registryClock }),
        folder: "/log",
        durability: random.pick(["always", "interval"]),
        segmentBytesMax: 2048,
        leaseMs: 200,
      });
      return { log, gate, clock: registryClock };
    };

    const acked = new Map<number, string>();
    let count = 0;
    const seen: string[] = [];
    const stopFollowing = new AbortController();
    const following = (async () => {
      const { log } = start();
      for await (const { records } of log.tail("p", 0, stopFollowing.signal)) for (const record of records) seen.push(new TextDecoder().decode(record));
    })();

    const work = async (writer: LogWriter, until: () => boolean): Promise<void> => {
      while (!until()) {
        const records = Array.from({ length: 1 + random.below(4) }, () => `${(count += 1)}`.padEnd(random.below(200), "."));
        const result = await writer.append(records.map((one) => new TextEncoder().encode(one)));
        for (const [index, record] of records.entries()) {
          assert.ok(!acked.has(result.firstOffset + index), `offset ${result.firstOffset + index} was acknowledged twice`);
          acked.set(result.firstOffset + index, record);
        }
        if (random.chance(0.2)) await clock.sleep(random.below(10));
      }
    };

    const stopped: { process: Process; ends: Promise<PromiseSettledResult<void>[]> }[] = [];
    for (let turn = 0; turn < 4; turn += 1) {
      const process = start();
      // Some are stopped in the middle of taking over, some while they write.
      const gateAt = random.chance(0.4) ? random.below(8) : 20 + random.below(60);
      let isStopped = false;
      void clock.sleep(gateAt).then(() => {
        isStopped = turn < 3;
        if (!isStopped) return;
        process.gate.close();
        process.clock.stop();
      });
      const appender = async (writer: LogWriter): Promise<void> => work(writer, () => turn === 3 && clock.monotonicMs() > lastUntil);
      const lastUntil = clock.monotonicMs() + 400;
      const ends = openSoon(process.log, clock, () => isStopped).then((writer) => Promise.allSettled([appender(writer), appender(writer)]));
      if (turn === 3) {
        for (const end of await ends) if (end.status === "rejected") throw end.reason;
        await process.log.close();
        break;
      }
      const settled = ends.catch((thrown: unknown) => [{ status: "rejected", reason: thrown } satisfies PromiseRejectedResult]);
      await clock.sleep(gateAt + 250 + random.below(100));
      assert.ok(isStopped);
      takeovers += 1;
      stopped.push({ process, ends: settled });
      // The gate opens while the next ones are at work.
      void clock.sleep(random.below(500)).then(() => process.gate.open());
    }
    for (const { process, ends } of stopped) {
      process.gate.open();
      for (const end of await ends) {
        assert.ok(end.status === "rejected", "a replaced writer goes on");
        if (!refusal("conflict")(end.reason)) throw end.reason;
        late += 1;
      }
      await process.log.close().catch(() => undefined);
    }

    const reader = start();
    const all = await readAll(reader.log, "p");
    for (const [offset, record] of acked) assert.equal(all[offset], record, `acknowledged record ${offset}`);
    await eventually(clock, () => seen.length === all.length, "the follower");
    assert.deepEqual(seen, all, "a follower in another process saw the same history");
    stopFollowing.abort();
    await following;
    const again = await openSoon(start().log, clock);
    assert.equal(again.bounds.next, all.length);
    await again.close();
    assert.deepEqual(await readAll(reader.log, "p"), all, "and so it stays");
    await registry.close();
  });
  return { takeovers, late };
}

test("promise: a writer that stood still acknowledges nothing after it was replaced, and loses nothing of the one that replaced it", async (t) => {
  const replay = process.env["SEED"];
  const seeds = replay === undefined ? Array.from({ length: process.env["MILLRACE_LONG"] === undefined ? 15 : 1_000 }, (_, i) => i + 1) : [Number(replay)];
  let takeovers = 0;
  let late = 0;
  for (const seed of seeds) {
    const found = await run(seed);
    takeovers += found.takeovers;
    late += found.late;
  }
  t.diagnostic(`${takeovers} takeovers, ${late} replaced appenders were refused, seeds ${seeds[0]} to ${seeds.at(-1)}`);
});

test("promise: a writer that stood still while nobody took its partition goes on by itself, idle or in the middle of a write; one that was replaced knows it before it is asked", async () => {
  const simulation = new Simulation({ seed: 3, virtualMsMax: 60_000 });
  await simulation.run(async () => {
    const { files, clock } = simulation.node("a");
    const registry = createMemoryRegistry({ clock });
    const start = (): Process => {
      const gate = new Gate();
      const registryClock = new StoppableClock(clock);
      const log = openEmbeddedLog({
        files: gated(files, gate),
        clock,
        registry: registry.connect({ clock: registryClock }),
        folder: "/log",
        durability: "always",
        leaseMs: 200,
      });
      return { log, gate, clock: registryClock };
    };
    const bytes = (text: string): Uint8Array[] => [new TextEncoder().encode(text)];
    const one = start();
    const writer = await one.log.openWriter("p");
    await writer.append(bytes("before"));

    // Its renewals never come again, as after a lease that ended: from here on every lease lasts 200 ms.
    one.clock.stop();
    one.gate.close();
    const during = writer.append(bytes("during"));
    await clock.sleep(1_000);
    one.gate.open();
    assert.equal((await during).firstOffset, 1, "what was under way is acknowledged: nobody decided otherwise");
    await clock.sleep(1_000);
    assert.equal((await writer.append(bytes("after"))).firstOffset, 2);
    assert.equal(writer.failed, undefined);
    await assert.rejects(start().log.openWriter("p"), refusal("conflict"), "it is the one writer again");

    // The same once more, but somebody takes the partition, and is gone before the first one wakes.
    one.gate.close();
    await clock.sleep(1_000);
    const two = start();
    const next = await two.log.openWriter("p");
    assert.equal((await next.append(bytes("theirs"))).firstOffset, 3);
    await next.close();
    one.gate.open();
    await eventually(clock, () => writer.failed !== undefined, "the first one finds out by itself");
    assert.match(writer.failed!.message, /^\[conflict\].*another process took over.*restart this server/);
    assert.equal(writer.failed!.retryable, false);
    await assert.rejects(writer.append(bytes("lost")), refusal("conflict"));
    await one.log.close().catch(() => undefined);

    // Somebody tried and failed half-way: his claim is gone, but what he decided about the end is not known.
    const third = start();
    const halted = await third.log.openWriter("p");
    third.clock.stop();
    third.gate.close();
    await clock.sleep(1_000);
    const lease = await registry.lease(1_000);
    await (await registry.tryLock("log/p", lease))!.release();
    third.gate.open();
    await assert.rejects(halted.append(bytes("lost")), refusal("conflict"));
    await third.log.close().catch(() => undefined);
    assert.deepEqual((await readAll(start().log, "p")).slice(0, 4), ["before", "during", "after", "theirs"]);
    await registry.close();
  });
});
