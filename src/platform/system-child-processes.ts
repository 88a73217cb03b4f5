// The machine's child processes. See child-processes.ts for the contract; worker-host.ts is the parent's side.
// How memory is bounded: V8 gets a heap limit, and the whole process's resident memory is looked at every `childWatchMs` (Linux: /proc, some 60 us a look;
// elsewhere the child tells it, and one that blocks its loop tells nothing). Beyond the cap it gets SIGKILL: nothing it did counts before it is published.
// Concurrency: everything here belongs to one thread, the parent's.

import { type ChildProcess, fork } from "node:child_process";
import { readFileSync } from "node:fs";
import { getCompileCacheDir } from "node:module";
import { MillraceError } from "#base/errors";
import { checkChildOptions, childWatchMs, type ChildOptions, type ChildProcesses, type ChildUsage, heapBytesOf, type RunningChild } from "./child-processes.ts";
import { moduleBeside } from "./module-beside.ts";
import { childTooLarge, workerDied, workerFlooded } from "./worker-failure.ts";
import { WorkerHost } from "./worker-host.ts";
import type { ToChild, ToParent } from "./worker-protocol.ts";
import { messagesWaitingMax } from "./workers.ts";

const mainModule = moduleBeside("./system-child-main", import.meta.url);
const mib = 1024 * 1024;
/** How much of its standard error is kept for the failure. */
const lastWordsMax = 4_096;
/** Linux counts process times in hundredths of a second (USER_HZ). */
const tickMs = 10;

export const systemChildProcesses: ChildProcesses = {
  start(module, data, options) {
    checkChildOptions(options);
    return new SystemChild(module, data, options);
  },
};

class SystemChild extends WorkerHost implements RunningChild {
  readonly #child: ChildProcess;
  readonly #options: ChildOptions;
  #usage = { cpuMs: 0, rssBytes: 0, rssBytesPeak: 0 };
  #lastWords = "";
  #sending = 0;
  #gone = false;

  constructor(module: URL, data: unknown, options: ChildOptions) {
    // What this process keeps compiled code in (bin/millrace.js) serves its children, too: a tenth of a second of CPU and more each.
    const compiled = getCompileCacheDir();
    const child = fork(mainModule, [], {
      serialization: "advanced",
      env: compiled === undefined ? process.env : { ...process.env, NODE_COMPILE_CACHE: compiled },
      // Not the parent's: inspectors and test runners are its own.
      execArgv: [`--max-old-space-size=${Math.floor(heapBytesOf(options) / mib)}`],
      stdio: ["ignore", "ignore", "pipe", "ipc"],
    });
    super(options.name, { tell: (message) => this.#tell(message), terminate: () => void child.kill("SIGKILL") });
    this.#child = child;
    this.#options = options;
    const { name, niceness } = options;
    // Messages may still come after the exit, until the channel is closed.
    let open = 2;
    let how = "never started";
    const over = (): void => {
      open -= 1;
      if (open > 0) return;
      clearInterval(watch);
      this.#gone = true;
      if (/heap out of memory/.test(this.#lastWords)) this.fail(childTooLarge(options, "its JavaScript heap was full"));
      if (this.#lastWords !== "") how += `; its last words: ${this.#lastWords.trim().slice(-300)}`;
      this.gone(how);
    };
    child.on("message", (message: ToParent) => {
      if (message[0] === "usage") this.#used(message[1], message[2]);
      else this.hear(message);
    });
    child.on("disconnect", over);
    child.on("exit", (code, signal) => {
      how = signal === null ? `exit code ${code}` : `signal ${signal}`;
      over();
    });
    child.on("error", (cause) => {
      this.fail(workerDied(name, cause.message, cause));
      // A process that never was has neither exit nor channel.
      if (child.pid === undefined) {
        open = 1;
        over();
      }
    });
    child.stderr!.setEncoding("utf8").on("data", (text: string) => (this.#lastWords = (this.#lastWords + text).slice(-lastWordsMax)));
    const watch = setInterval(() => this.#look(), childWatchMs);
    this.#tell(["start", { module: module.href, name, data, niceness }]);
  }

  usage(): ChildUsage {
    return { ...this.#usage };
  }

  #tell(message: ToChild): void {
    if (!this.#child.connected) return;
    this.#sending += 1;
    if (this.#sending > messagesWaitingMax) return this.end(workerFlooded(this.#options.name));
    try {
      this.#child.send(message, undefined, {}, () => (this.#sending -= 1));
    } catch (cause) {
      this.#sending -= 1;
      throw new MillraceError("invalid", `a message for the child process ${this.#options.name} cannot be copied`, {
        cause,
        todo: "send plain data: no functions and no shared memory",
      });
    }
  }

  /** Reads what the system says about the process. */
  #look(): void {
    const { pid } = this.#child;
    if (process.platform !== "linux" || pid === undefined || this.#gone) return;
    try {
      const status = readFileSync(`/proc/${pid}/status`, "utf8");
      const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
      const resident = /^VmRSS:\s+(\d+) kB/m.exec(status);
      // The second field is the program's name in parentheses and may hold anything.
      const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
      if (resident !== null) this.#used((Number(fields[11]) + Number(fields[12])) * tickMs, Number(resident[1]) * 1024);
    } catch {
      // It has just ended: its exit is told by itself.
    }
  }

  #used(cpuMs: number, rssBytes: number): void {
    this.#usage = { cpuMs, rssBytes, rssBytesPeak: Math.max(rssBytes, this.#usage.rssBytesPeak) };
    const { rssBytesMax } = this.#options;
    if (rssBytes > rssBytesMax) this.end(childTooLarge(this.#options, `it took ${rssBytes} bytes of memory`));
  }
}
