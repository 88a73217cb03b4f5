// The worker body of the contract suite: does what its data says.

import { getPriority } from "node:os";
import { MillraceError } from "#base/errors";
import type { WorkerBody } from "./workers.ts";

export interface BodyTask {
  readonly do:
    | "echo"
    | "throw"
    | "throw-ours"
    | "return"
    | "ignore-stop"
    | "sleep"
    | "add"
    | "burst"
    | "files"
    | "leave-timer"
    | "spin"
    | "take-memory"
    | "fill-heap"
    | "exit";
  readonly memory?: SharedArrayBuffer;
  readonly path?: string;
}

const body: WorkerBody = async ({ port, clock, files, data, signal }) => {
  const task = data as BodyTask;
  switch (task.do) {
    case "echo":
      for (let message = await port.receive(); message !== undefined; message = await port.receive()) port.send(message);
      port.send("last words");
      return;
    case "throw":
      port.send("before");
      throw new RangeError("out of luck");
    case "throw-ours":
      throw new MillraceError("corrupt", "block 7 of the file is damaged", { todo: "restore it" });
    case "return":
      port.send("one");
      port.send("two");
      return;
    case "ignore-stop":
      port.send("ready");
      for (;;) await clock.sleep(20);
    case "sleep":
      port.send("ready");
      return clock.sleep(1_000_000, signal);
    case "add": {
      const cells = new Int32Array(task.memory!);
      for (let message = await port.receive(); message !== undefined; message = await port.receive()) {
        Atomics.add(cells, 0, message as number);
        port.send("added");
      }
      return;
    }
    case "burst":
      for (let i = 0; i < 66_000; i++) port.send(i);
      return clock.sleep(1_000_000, signal);
    case "files":
      await files.writeFileAtomic(task.path!, new TextEncoder().encode("by the worker"));
      return;
    case "spin":
      port.send([process.pid, getPriority()]);
      for (;;) {
        for (let i = 0; i < 1e6; i++) Math.sqrt(i);
        await clock.yield();
      }
    case "take-memory": {
      // Outside the heap, touched so that it is resident.
      const taken: Uint8Array[] = [];
      for (;;) {
        taken.push(new Uint8Array(8 * 2 ** 20).fill(1));
        await clock.sleep(5);
      }
    }
    case "fill-heap": {
      const kept: string[][] = [];
      for (;;) kept.push(Array.from({ length: 1000 }, (_, i) => `string ${i} ${kept.length}`));
    }
    case "exit":
      return process.exit(3);
    case "leave-timer":
      clock.after(1_000_000, () => undefined);
      return;
  }
};

export default body;
