// The worker body of the contract suite: does what its data says.

import { MillraceError } from "#base/errors";
import type { WorkerBody } from "./workers.ts";

export interface BodyTask {
  readonly do: "echo" | "throw" | "throw-ours" | "return" | "ignore-stop" | "sleep" | "add" | "burst" | "files" | "leave-timer";
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
    case "leave-timer":
      clock.after(1_000_000, () => undefined);
      return;
  }
};

export default body;
