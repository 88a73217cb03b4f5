// The first module of every child process: takes its place at low priority, then runs its body (worker-body-run.ts). Nothing else starts it.
// Invariants: 1. priority is lowered before the body is loaded, for every thread there is; later ones inherit it  2. when the parent is gone the process
// ends at its next turn.

import { readdirSync } from "node:fs";
import { getPriority, setPriority } from "node:os";
import { childWatchMs } from "./child-processes.ts";
import type { ChildStart, ToChild, ToParent } from "./worker-protocol.ts";
import { runBody } from "./worker-body-run.ts";

/** Nicer by so much, in every thread: on Linux a priority belongs to a thread, and some are there before us. */
function beNicer(by: number): void {
  const priority = Math.min(19, getPriority() + by);
  const threads = process.platform === "linux" ? readdirSync("/proc/self/task").map(Number) : [0];
  for (const thread of threads) {
    try {
      setPriority(thread, priority);
    } catch {
      // A thread that ended meanwhile, or a system that does not allow it: the work goes on as it is.
    }
  }
}

function main(start: ChildStart, listen: (hear: (message: ToChild) => void) => void): Promise<void> {
  process.title = `millrace ${start.name}`;
  beNicer(start.niceness);
  const tell = (message: ToParent, done?: () => void): void => void process.send!(message, undefined, {}, () => done?.());
  if (process.platform !== "linux") {
    // Where the parent cannot look, we tell.
    const report = (): void => tell(["usage", (process.cpuUsage().user + process.cpuUsage().system) / 1000, process.memoryUsage.rss()]);
    setInterval(report, childWatchMs).unref();
  }
  let last: ToParent | undefined;
  return runBody(
    {
      listen: (hear) =>
        listen((message) => {
          if (message[0] !== "start") hear(message);
        }),
      // The last words are sent by `close`, which ends the process once they are out.
      tell: (message) => {
        if (message[0] === "message") tell(message);
        else last ??= message;
      },
      close: () => tell(last!, () => process.exit(0)),
    },
    start,
  );
}

process.on("disconnect", () => process.exit(1));
let hear: ((message: ToChild) => void) | undefined;
const early: ToChild[] = [];
process.on("message", (message: ToChild) => {
  if (message[0] === "start") {
    void main(message[1], (listener) => {
      hear = listener;
      for (const one of early.splice(0)) listener(one);
    });
  } else if (hear === undefined) early.push(message);
  else hear(message);
});
