// Inside a thread or a child process: loads a body, hands it its context, and tells the parent how it ended. What differs (the wire) stands in
// system-worker-main.ts and system-child-main.ts.
// Invariant: exactly one of `ended` and `failed` is told, after every message that the body sent; then the side is closed.

import { MillraceError } from "#base/errors";
import { MessageQueue } from "./message-queue.ts";
import type { Clock } from "./clock.ts";
import { systemClock } from "./system-clock.ts";
import type { Files } from "./files.ts";
import { systemFiles } from "./system-files.ts";
import { packFailure, workerFailure, workerFlooded } from "./worker-failure.ts";
import type { ToParent, ToWorker, WorkerStart } from "./worker-protocol.ts";
import type { WorkerBody } from "./workers.ts";

/** The body's end of the wire. */
export interface BodySide {
  /** Must be called before anything can be told. */
  listen(hear: (message: ToWorker) => void): void;
  tell(message: ToParent): void;
  /** Nothing comes after this. */
  close(): void;
}

export async function runBody(
  side: BodySide,
  start: WorkerStart,
  { clock, files }: { readonly clock: Clock; readonly files: Files } = { clock: systemClock, files: systemFiles },
): Promise<void> {
  const queue = new MessageQueue();
  const stop = new AbortController();
  const reason = new MillraceError("unavailable", `worker ${start.name} was asked to stop`);
  const end = (message: ToParent): void => {
    side.tell(message);
    side.close();
  };
  const fail = (thrown: unknown): void => end(["failed", packFailure(workerFailure(start.name, thrown))]);
  side.listen((message) => {
    if (message[0] === "message") {
      if (!queue.push(message[1])) fail(workerFlooded(start.name));
    } else {
      queue.end();
      stop.abort(reason);
    }
  });
  try {
    const loaded = (await import(start.module)) as { default?: WorkerBody };
    if (typeof loaded.default !== "function") throw new MillraceError("internal", `worker ${start.name}: ${start.module} has no default export to run`);
    await loaded.default({
      port: { send: (message) => side.tell(["message", message]), receive: () => queue.receive() },
      clock,
      files,
      data: start.data,
      signal: stop.signal,
    });
    end(["ended"]);
  } catch (thrown) {
    // A body that ends by the signal's own reason has done as it was told.
    if (thrown === reason) end(["ended"]);
    else fail(thrown);
  }
}
