// The first module of every child process: takes its place at low priority, then runs its body (worker-body-run.ts). Nothing else starts it.
// Invariants: 1. priority is lowered before the body is loaded, for every thread there is; later ones inherit it  2. when the parent is gone the process
// ends at its next turn.

import { processStandsBack } from "./be-nicer.ts";
import { childWatchMs } from "./child-processes.ts";
import type { WorkerStart, ToChild, ToParent } from "./worker-protocol.ts";
import { runBody } from "./worker-body-run.ts";

function main(start: WorkerStart, listen: (hear: (message: ToChild) => void) => void): Promise<void> {
  process.title = `millrace ${start.name}`;
  processStandsBack(start.niceness);
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
