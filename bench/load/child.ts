// A load generator in a process of its own: gets one message with its work, sends back one with its result.
// Why a process: load from the measuring process or from a thread of it would share its loop or its garbage collector.

import { fork } from "node:child_process";
import { join } from "node:path";

/** Runs bench/load/`file` with `work`; resolves with its result, rejects when it fails or dies. */
export function runChild<Work, Result>(file: string, work: Work): Promise<Result> {
  return new Promise((resolve, reject) => {
    const child = fork(join(import.meta.dirname, file), { stdio: ["ignore", "inherit", "inherit", "ipc"], serialization: "advanced" });
    let result: { value: Result } | undefined;
    child.on("message", (message: { value: Result }) => (result = message));
    child.on("error", reject);
    child.on("close", (code) => (result === undefined ? reject(new Error(`${file} ended with code ${code} and no result`)) : resolve(result.value)));
    child.send({ work });
  });
}

/** In the child: runs `body` on the work that arrives, sends its result, ends the process. */
export function childMain<Work, Result>(body: (work: Work) => Promise<Result>): void {
  process.once("message", (message: { work: Work }) => {
    body(message.work).then(
      (value) => process.send!({ value }, () => process.exit(0)),
      (failure: unknown) => {
        console.error(failure);
        process.exit(1);
      },
    );
  });
}
