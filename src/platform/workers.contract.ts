// What every `Workers` must do; run against threads, child processes and their simulated twins.

import assert from "node:assert/strict";
import { test } from "node:test";
import { MillraceError } from "#base/errors";
import type { Clock } from "./clock.ts";
import type { Files } from "./files.ts";
import { moduleBeside } from "./module-beside.ts";
import type { BodyTask } from "./test-bodies.worker.ts";
import { messagesWaitingMax, type RunningWorker, type Workers } from "./workers.ts";

export interface WorkersUnderTest {
  /** Threads, or child processes with options of the test's choice. */
  readonly workers: Workers;
  readonly clock: Clock;
  readonly files: Files;
  /** A folder to write in. */
  readonly folder: string;
}

const bodies = moduleBeside("./test-bodies.worker", import.meta.url);

/** `skip`: tests by name that the engine cannot pass, with the reason. */
export function workersContract(
  engine: string,
  within: (body: (under: WorkersUnderTest) => Promise<void>) => Promise<void>,
  skip: Readonly<Record<string, string>> = {},
): void {
  const check = (name: string, body: (under: WorkersUnderTest, start: (task: BodyTask) => RunningWorker) => Promise<void>): void => {
    test(`workers contract, ${engine}: ${name}`, { skip: skip[name] ?? false }, () =>
      within((under) => body(under, (task) => under.workers.start(bodies, task, "test"))),
    );
  };

  check("messages arrive as copies, in order, also those sent before the body runs", async (_, start) => {
    const worker = start({ do: "echo" });
    const sent = { list: [1, 2, 3], bytes: new Uint8Array([7, 8]), nested: new Map([["a", 1n]]) };
    worker.send(sent);
    sent.list.push(4);
    for (let i = 0; i < 500; i++) worker.send(i);
    assert.deepEqual(await worker.receive(), { list: [1, 2, 3], bytes: new Uint8Array([7, 8]), nested: new Map([["a", 1n]]) });
    for (let i = 0; i < 500; i++) assert.equal(await worker.receive(), i);
    await worker.stop();
    assert.equal(await worker.receive(), "last words");
    assert.equal(await worker.receive(), undefined);
    assert.equal(await worker.receive(), undefined);
    assert.equal(await worker.failed, undefined);
  });

  check("messages sent before stop are received before the end", async (_, start) => {
    const worker = start({ do: "echo" });
    for (let i = 0; i < 50; i++) worker.send(i);
    const stopped = worker.stop();
    for (let i = 0; i < 50; i++) assert.equal(await worker.receive(), i);
    assert.equal(await worker.receive(), "last words");
    await stopped;
    worker.send("dropped");
    await worker.stop();
  });

  check("a body that returns ends in order; its messages come first", async (_, start) => {
    const worker = start({ do: "return" });
    assert.equal(await worker.failed, undefined);
    assert.equal(await worker.receive(), "one");
    assert.equal(await worker.receive(), "two");
    assert.equal(await worker.receive(), undefined);
    await worker.stop();
  });

  check("a body that throws is reported, after its messages", async (_, start) => {
    const worker = start({ do: "throw" });
    assert.equal(await worker.receive(), "before");
    assert.equal(await worker.receive(), undefined);
    const failure = await worker.failed;
    assert.ok(failure instanceof MillraceError);
    assert.equal(failure.code, "internal");
    assert.match(failure.message, /worker test failed \(RangeError: out of luck\)/);
    assert.match(String((failure.cause as Error).stack), /test-bodies/);
    await worker.stop();
  });

  check("a MillraceError keeps its code and words", async (_, start) => {
    const failure = await start({ do: "throw-ours" }).failed;
    assert.ok(failure instanceof MillraceError);
    assert.deepEqual([failure.code, failure.what, failure.todo], ["corrupt", "block 7 of the file is damaged", "restore it"]);
  });

  check("a module that is not there is a failure, not a silence", async ({ workers }) => {
    const missing = workers.start(moduleBeside("./no-such.worker", import.meta.url), undefined, "missing");
    assert.equal((await missing.failed)?.code, "internal");
    assert.equal(await missing.receive(), undefined);
    const empty = workers.start(moduleBeside("./workers", import.meta.url), undefined, "empty");
    assert.match((await empty.failed)!.message, /no default export/);
  });

  check("stop aborts the signal; ending by its reason is an orderly end", async ({ clock }, start) => {
    const worker = start({ do: "sleep" });
    assert.equal(await worker.receive(), "ready");
    const asked = clock.monotonicMs();
    await Promise.all([worker.stop(60_000), worker.stop(60_000)]);
    assert.ok(clock.monotonicMs() - asked < 20_000);
    assert.equal(await worker.failed, undefined);
  });

  check("a body that does not stop is ended after the grace", async ({ clock }, start) => {
    const worker = start({ do: "ignore-stop" });
    assert.equal(await worker.receive(), "ready");
    const asked = clock.monotonicMs();
    await worker.stop(100);
    assert.ok(clock.monotonicMs() - asked >= 100);
    assert.equal((await worker.failed)?.code, "timeout");
    assert.equal(await worker.receive(), undefined);
  });

  check("a forgotten timer of a body that returned does not hold the worker", async ({ clock }, start) => {
    const started = clock.monotonicMs();
    const worker = start({ do: "leave-timer" });
    assert.equal(await worker.failed, undefined);
    assert.ok(clock.monotonicMs() - started < 60_000);
  });

  check("shared memory arrives shared", async (_, start) => {
    const memory = new SharedArrayBuffer(4);
    const worker = start({ do: "add", memory });
    for (let i = 1; i <= 4; i++) worker.send(i);
    for (let i = 1; i <= 4; i++) await worker.receive();
    assert.equal(new Int32Array(memory)[0], 10);
    await worker.stop();
  });

  check("what may wait is bounded: a flood fails the worker", async (_, start) => {
    const worker = start({ do: "burst" });
    assert.equal((await worker.failed)?.code, "overloaded");
    for (let i = 0; i < messagesWaitingMax; i++) assert.equal(await worker.receive(), i);
    assert.equal(await worker.receive(), undefined);
  });

  check("the body has files and clock of its machine", async ({ files, folder }, start) => {
    const path = files.join(folder, "made");
    assert.equal(await start({ do: "files", path }).failed, undefined);
    assert.equal(new TextDecoder().decode(await files.readFile(path)), "by the worker");
  });
}
