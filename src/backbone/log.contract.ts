// What every `Log` must do. See log.ts; engines are listed in log.test.ts.

import assert from "node:assert/strict";
import type { Clock } from "#platform/clock";
import { beginSuite, type Engine, refusal } from "./suite.contract.ts";
import { type Log, logLimits } from "./log.ts";
import { eventually } from "./registry.contract.ts";

export interface LogWorld {
  readonly clock: Clock;
  /** The log as another process sees it. */
  open(): Promise<Log>;
  /** The same, of a process that can stand still: it renews no lease after `stop`. Its leases are short. */
  openStoppable(): Promise<{ log: Log; stop: () => void }>;
}

const record = (text: string): Uint8Array => new TextEncoder().encode(text);
const text = (value: Uint8Array): string => new TextDecoder().decode(value);

/** All records from `offset` on that are there now. */
export async function readAll(log: Log, partition: string, offset = 0, bytesMax = 64 * 1024, room?: Uint8Array<ArrayBuffer>): Promise<string[]> {
  const all: string[] = [];
  for (let at = offset; ;) {
    const found = await log.read(partition, at, bytesMax, room);
    if (found === undefined) return all;
    assert.equal(found.firstOffset, at);
    assert.ok(found.records.length > 0);
    for (const one of found.records) all.push(text(one));
    at += found.records.length;
  }
}

export function logContract(engine: Engine<LogWorld>): void {
  const { check, end } = beginSuite("log", engine);

  check("offsets begin at 0, are dense, and the answer names the policy", async ({ open }) => {
    const log = await open();
    const writer = await log.openWriter("p");
    assert.deepEqual(writer.bounds, { first: 0, next: 0 });
    const one = await writer.append([record("a"), record("b")]);
    const two = await writer.append([record("c")]);
    assert.deepEqual([one.firstOffset, one.nextOffset, two.firstOffset, two.nextOffset], [0, 2, 2, 3]);
    assert.equal(one.durability, writer.durability);
    assert.deepEqual(writer.bounds, { first: 0, next: 3 });
    assert.deepEqual(await log.bounds("p"), { first: 0, next: 3 });
    assert.deepEqual(await readAll(log, "p"), ["a", "b", "c"]);
  });

  check("records are the same whether a read is given room, little, much or none", async ({ open }) => {
    const log = await open();
    const writer = await log.openWriter("p");
    const written: string[] = [];
    for (let i = 0; i < 60; i++) {
      const append = Array.from({ length: 1 + (i % 4) }, (_, j) => `${i}.${j} ${"x".repeat(i % 7 === 0 ? 9_000 : i * 11)}`);
      written.push(...append);
      await writer.append(append.map(record));
    }
    await writer.close();
    const again = await open();
    for (const bytesMax of [1, 5_000, 70_000, 1 << 20]) {
      for (const roomBytes of [0, 100, 70_000, 1 << 20]) {
        assert.deepEqual(await readAll(again, "p", 0, bytesMax, new Uint8Array(roomBytes)), written);
      }
    }
  });

  check("concurrent appends are all acknowledged, in order of the calls, each one's records adjacent", async ({ open }) => {
    const log = await open();
    const writer = await log.openWriter("p");
    const results = await Promise.all(
      Array.from({ length: 200 }, (_, i) => writer.append(Array.from({ length: 1 + (i % 3) }, (_unused, j) => record(`${i}.${j}`)))),
    );
    let next = 0;
    for (const [i, result] of results.entries()) {
      assert.equal(result.firstOffset, next);
      next += 1 + (i % 3);
      assert.equal(result.nextOffset, next);
    }
    const all = await readAll(log, "p");
    assert.equal(all.length, next);
    for (const [i, result] of results.entries()) assert.equal(all[result.firstOffset], `${i}.0`);
  });

  check("reading begins at any offset, also inside an append, and keeps about to the size", async ({ open }) => {
    const log = await open();
    const writer = await log.openWriter("p");
    for (let i = 0; i < 20; i += 1) await writer.append(Array.from({ length: 10 }, (_, j) => record(`${i * 10 + j}`.padStart(100, "."))));
    for (const log2 of [log, await open()]) {
      for (const offset of [0, 1, 9, 10, 15, 99, 100, 198, 199]) {
        const found = (await log2.read("p", offset, 1))!;
        assert.equal(found.firstOffset, offset);
        assert.ok(Number(text(found.records[0]!).replaceAll(".", "")) === offset);
        assert.ok(found.records.length <= 20, `${found.records.length} records for 1 byte`);
      }
      assert.equal(await log2.read("p", 200, 1000), undefined);
      assert.equal(await log2.read("p", 5_000, 1000), undefined);
      assert.equal((await readAll(log2, "p", 17, 500)).length, 183);
    }
  });

  check("a partition that nobody wrote is empty, and partitions are apart", async ({ open }) => {
    const log = await open();
    assert.deepEqual(await log.bounds("nothing"), { first: 0, next: 0 });
    assert.equal(await log.read("nothing", 0, 1000), undefined);
    const [a, b] = [await log.openWriter("a"), await log.openWriter("b")];
    await a.append([record("in a")]);
    await b.append([record("in b")]);
    assert.deepEqual(await readAll(log, "a"), ["in a"]);
    assert.deepEqual(await readAll(log, "b"), ["in b"]);
  });

  check("another process reads and follows", async ({ open, clock }) => {
    const [one, other] = [await open(), await open()];
    const early: string[] = [];
    const late: string[] = [];
    const abort = new AbortController();
    const follow = async (log: Log, from: number, into: string[]): Promise<void> => {
      for await (const { firstOffset, records } of log.tail("p", from, abort.signal)) {
        assert.equal(firstOffset, from + into.length);
        for (const one of records) into.push(text(one));
      }
    };
    const following = [follow(other, 0, early)];
    const writer = await one.openWriter("p");
    const expected: string[] = [];
    for (let i = 0; i < 60; i += 1) {
      expected.push(`${i}a`, `${i}b`);
      await writer.append([record(`${i}a`), record(`${i}b`)]);
      if (i === 30) following.push(follow(other, 13, late), follow(one, 13, []));
    }
    await eventually(clock, () => early.length === 120 && late.length === 107, "everything");
    assert.deepEqual(early, expected);
    assert.deepEqual(late, expected.slice(13));
    assert.deepEqual(await other.bounds("p"), { first: 0, next: 120 });
    abort.abort();
    await Promise.all(following);
  });

  check("a follower in the writer's process sees nothing before it is acknowledged, then at once", async ({ open }) => {
    const log = await open();
    const writer = await log.openWriter("p");
    const abort = new AbortController();
    let acknowledged = 0;
    let seen = 0;
    const following = (async () => {
      for await (const { records } of log.tail("p", 0, abort.signal)) {
        seen += records.length;
        // Both happen in one turn of the loop, the acknowledgement first.
        assert.ok(seen <= acknowledged, `${seen} seen, ${acknowledged} acknowledged`);
        if (seen >= 300) return;
      }
    })();
    for (let round = 0; round < 10; round += 1) {
      await Promise.all(
        Array.from({ length: 10 }, () =>
          writer.append([record("x"), record("y"), record("z")]).then((result) => {
            acknowledged = Math.max(acknowledged, result.nextOffset);
          }),
        ),
      );
    }
    await following;
    abort.abort();
  });

  check("a tail ends when its signal aborts, also while it waits", async ({ open, clock }) => {
    const log = await open();
    const writer = await log.openWriter("p");
    await writer.append([record("a")]);
    for (const from of [log, await open()]) {
      const abort = new AbortController();
      let count = 0;
      const following = (async () => {
        for await (const { records } of from.tail("p", 0, abort.signal)) count += records.length;
      })();
      for (let tries = 0; tries < 1_000 && count === 0; tries++) await clock.sleep(10);
      await clock.sleep(50);
      abort.abort();
      await following;
      assert.equal(count, 1);
      assert.equal((await from.tail("p", 0, abort.signal)[Symbol.asyncIterator]().next()).done, true);
    }
  });

  check("everything is there after closing and opening, and offsets go on", async ({ open }) => {
    const expected: string[] = [];
    for (let round = 0; round < 4; round += 1) {
      const log = await open();
      const writer = await log.openWriter("p");
      assert.deepEqual(writer.bounds, { first: 0, next: expected.length });
      for (let i = 0; i < 5; i += 1) {
        const result = await writer.append([record(`${round}.${i}`)]);
        assert.equal(result.firstOffset, expected.length);
        expected.push(`${round}.${i}`);
      }
      if (round % 2 === 0) await writer.sync();
      await log.close();
    }
    assert.deepEqual(await readAll(await open(), "p"), expected);
  });

  check("one writer a partition, until it closes", async ({ open }) => {
    const [one, other] = [await open(), await open()];
    const writer = await one.openWriter("p");
    await assert.rejects(other.openWriter("p"), refusal("conflict"));
    await assert.rejects(one.openWriter("p"), refusal("conflict"));
    await writer.append([record("a")]);
    await writer.close();
    await writer.close();
    await assert.rejects(writer.append([record("b")]), refusal("invalid"));
    const next = await other.openWriter("p");
    assert.equal((await next.append([record("c")])).firstOffset, 1);
    assert.deepEqual(await readAll(one, "p"), ["a", "c"]);
  });

  check("a writer that stood still and lost its lease acknowledges nothing more", async ({ open, openStoppable, clock }) => {
    const { log, stop } = await openStoppable();
    const old = await log.openWriter("p");
    await old.append([record("old 0")]);
    stop();
    const other = await open();
    const deadline = clock.monotonicMs() + 20_000;
    const takeOver = async (): Promise<Awaited<ReturnType<Log["openWriter"]>>> => {
      for (;;) {
        try {
          return await other.openWriter("p");
        } catch (thrown) {
          if (!refusal("conflict")(thrown) || clock.monotonicMs() > deadline) throw thrown;
          await clock.sleep(20);
        }
      }
    };
    const fresh = await takeOver();
    assert.equal((await fresh.append([record("new 1")])).firstOffset, 1);
    for (let i = 0; i < 3; i += 1) await assert.rejects(old.append([record("lost")]), refusal("conflict"));
    assert.equal((await fresh.append([record("new 2")])).firstOffset, 2);
    await old.close().catch(() => undefined);
    assert.deepEqual(await readAll(other, "p"), ["old 0", "new 1", "new 2"]);
    assert.deepEqual(await readAll(await open(), "p"), ["old 0", "new 1", "new 2"]);
  });

  check("trim forgets nothing at or after the offset", async ({ open }) => {
    const [log, other] = [await open(), await open()];
    const writer = await log.openWriter("p");
    for (let i = 0; i < 50; i += 1) await writer.append([record(`${i}`.padStart(500, "."))]);
    await writer.trim(20);
    for (const one of [log, other]) {
      const { first, next } = await one.bounds("p");
      assert.ok(first <= 20 && next === 50);
      assert.equal((await readAll(one, "p", 20)).length, 30);
      if (first > 0) await assert.rejects(one.read("p", first - 1, 1000), refusal("not-found"));
    }
    await writer.trim(20);
    await writer.trim(0);
    await assert.rejects(writer.trim(51), refusal("invalid"));
    await log.close();
    const again = await other.openWriter("p");
    assert.equal(again.bounds.next, 50);
    assert.equal((await again.append([record("50")])).firstOffset, 50);
  });

  check("what is old by time or size may be trimmed, and is never more than was asked", async ({ open, clock }) => {
    const log = await open();
    const writer = await log.openWriter("p");
    assert.equal(await writer.oldUpTo({ beforeMs: Infinity, bytesMax: 0 }), 0, "nothing is there");
    const beganMs = clock.nowMs();
    for (let i = 0; i < 60; i += 1) await writer.append([record(`${i}`.padStart(500, "."))]);
    const oldest = await writer.oldUpTo({ beforeMs: clock.nowMs() + 1_000 });
    assert.ok(oldest >= 0 && oldest <= 60);
    assert.equal(await writer.oldUpTo({}), 0);
    assert.equal(await writer.oldUpTo({ beforeMs: beganMs - 1, bytesMax: 10 * 1024 * 1024 }), 0);
    assert.equal(await writer.oldUpTo({ bytesMax: 0 }), oldest, "by size as far as by time");
    const half = await writer.oldUpTo({ bytesMax: 30 * 500 });
    assert.ok(half === oldest || (60 - half <= 30 && 60 - half > 15), `${60 - half} of 60 records stay, of 15,000 bytes at most`);
    await writer.trim(half);
    assert.equal(await writer.oldUpTo({}), half);
    assert.equal((await readAll(log, "p", half)).length, 60 - half);
    await writer.trim(oldest);
    assert.equal(await writer.oldUpTo({ beforeMs: Infinity }), writer.bounds.first);
  });

  check("records of every size, also empty ones, come back as they were", async ({ open }) => {
    const [log, other] = [await open(), await open()];
    const writer = await log.openWriter("p");
    const sizes = [0, 1, 7, 8, 9, 255, 4096, 65_535, logLimits.recordBytesMax];
    const records = sizes.map((size) => Uint8Array.from({ length: size }, (_, i) => (i * 31 + size) & 0xff));
    await writer.append(records);
    await writer.append([new Uint8Array(0)]);
    await writer.append(Array.from({ length: logLimits.recordsPerAppendMax }, () => record("n")));
    await writer.append(Array.from({ length: 8 }, (_, i) => new Uint8Array(logLimits.recordBytesMax).fill(i)));
    const next = sizes.length + 1 + logLimits.recordsPerAppendMax + 8;
    assert.equal(writer.bounds.next, next);
    for (const one of [log, other]) {
      let at = 0;
      while (at < next) {
        const found = (await one.read("p", at, 100_000))!;
        for (const value of found.records) {
          if (at < sizes.length) assert.ok(Buffer.from(records[at]!).equals(value), `record ${at}`);
          else if (at >= next - 8) assert.ok(value.length === logLimits.recordBytesMax && value[77] === at - (next - 8));
          at += 1;
        }
      }
    }
  });

  check("what a caller does with its buffer after the acknowledgement changes nothing", async ({ open }) => {
    const log = await open();
    const writer = await log.openWriter("p");
    const buffer = record("before");
    await writer.append([buffer]);
    buffer.fill(0);
    assert.deepEqual(await readAll(log, "p"), ["before"]);
  });

  check("limits are refused by name and cost nothing", async ({ open }) => {
    const log = await open();
    const writer = await log.openWriter("p");
    await assert.rejects(writer.append([]), refusal("invalid"));
    await assert.rejects(writer.append(Array.from({ length: logLimits.recordsPerAppendMax + 1 }, () => record(""))), refusal("invalid"));
    await assert.rejects(writer.append([new Uint8Array(logLimits.recordBytesMax + 1)]), refusal("invalid"));
    const megabyte = new Uint8Array(logLimits.recordBytesMax);
    await assert.rejects(writer.append([...Array.from({ length: 8 }, () => megabyte), record("x")]), refusal("invalid"));
    for (const name of ["", "UPPER", "a/b", "..", "a.b", "a".repeat(65)]) {
      await assert.rejects(log.openWriter(name), refusal("invalid"), name);
      await assert.rejects(log.read(name, 0, 1), refusal("invalid"), name);
    }
    for (const offset of [-1, 0.5, NaN]) await assert.rejects(log.read("p", offset, 1), refusal("invalid"));
    assert.equal((await writer.append([record("first")])).firstOffset, 0);
  });

  check("a writer that falls behind says so, and goes on", async ({ open }) => {
    const log = await open();
    const writer = await log.openWriter("p");
    const batch = Array.from({ length: 8 }, () => new Uint8Array(logLimits.recordBytesMax - 100));
    const all = await Promise.allSettled(Array.from({ length: 12 }, () => writer.append(batch)));
    const refused = all.filter((one) => one.status === "rejected");
    assert.ok(refused.length >= 4 && refused.every((one) => refusal("overloaded")(one.reason)));
    const last = await writer.append([record("later")]);
    assert.equal(last.firstOffset, (12 - refused.length) * 8);
  });

  end();
}
