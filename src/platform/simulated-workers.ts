// Workers of one life on a simulated machine: each body is a task of the scheduler, in the same thread. See workers.ts for the contract.
// Invariants: 1. a worker has a life of its own that ends with its body, with `stop`, or with its parent; what it began then never settles
// 2. messages are copied when sent and delivered in order, each after a seeded delay  3. the body is loaded while virtual time stands still.
// Limits: bodies share one thread and one module state: a variable of a module is shared by all workers that load it, unlike in threads. A simulated child
// process takes no memory and no processor time: what it uses is what the test says (`use`), and its cap is checked against that.

import { deserialize, serialize } from "node:v8";
import { MillraceError } from "#base/errors";
import type { Prng } from "#base/prng";
import { checkChildOptions, type ChildOptions, type ChildProcesses, type ChildUsage, type RunningChild } from "./child-processes.ts";
import type { Clock } from "./clock.ts";
import type { Files } from "./files.ts";
import { MessageQueue } from "./message-queue.ts";
import type { Life, SimulatedScheduler } from "./simulated-scheduler.ts";
import { childTooLarge, workerDied, workerEnded, workerFailure, workerFlooded } from "./worker-failure.ts";
import { type RunningWorker, stopGraceMsDefault, type WorkerBody, type Workers } from "./workers.ts";

/** Makes what a worker gets handed in, for its own life. */
export type WorkerPlatform = (life: Life, name: string) => { clock: Clock; files: Files };

export class SimulatedWorkers implements Workers {
  readonly #scheduler: SimulatedScheduler;
  readonly #life: Life;
  readonly #name: string;
  readonly #platform: WorkerPlatform;
  #count = 0;

  constructor(scheduler: SimulatedScheduler, life: Life, name: string, platform: WorkerPlatform) {
    this.#scheduler = scheduler;
    this.#life = life;
    this.#name = name;
    this.#platform = platform;
  }

  start(module: URL, data: unknown, name: string): RunningWorker {
    this.#count += 1;
    return new SimulatedWorker(this.#scheduler, this.#life, this.#platform, `${this.#name}/${name}-${this.#count}`, name, module, data, structuredClone);
  }
}

/** Child processes of one life: tasks like the workers, but what they are sent is copied as between processes, without shared memories. */
export class SimulatedChildProcesses implements ChildProcesses {
  readonly #start: (module: URL, data: unknown, options: ChildOptions) => SimulatedChild;

  constructor(scheduler: SimulatedScheduler, life: Life, name: string, platform: WorkerPlatform) {
    let count = 0;
    this.#start = (module, data, options) => {
      checkChildOptions(options);
      count += 1;
      return new SimulatedChild(scheduler, life, platform, `${name}/child-${options.name}-${count}`, options, module, data);
    };
  }

  start(module: URL, data: unknown, options: ChildOptions): SimulatedChild {
    return this.#start(module, data, options);
  }
}

function copyBetweenProcesses(message: unknown): unknown {
  try {
    return deserialize(serialize(message));
  } catch (cause) {
    throw new MillraceError("invalid", "a message for a child process cannot be copied", { cause, todo: "send plain data: no functions and no shared memory" });
  }
}

/** One direction between worker and parent: in order, each delivery an event of the receiver's life. */
class Channel {
  readonly #scheduler: SimulatedScheduler;
  readonly #random: Prng;
  readonly #receiver: Life;
  readonly #label: string;
  #lastUs = 0;

  constructor(scheduler: SimulatedScheduler, random: Prng, receiver: Life, label: string) {
    this.#scheduler = scheduler;
    this.#random = random;
    this.#receiver = receiver;
    this.#label = label;
  }

  /** Calls `deliver` at the other side, after all earlier ones: times never fall, and events of one time fire as they were scheduled. */
  carry(what: string, deliver: () => void): void {
    // 10 to 60 us, one message in 200 up to 10 ms when the receiving thread is descheduled. Chosen.
    const delayUs = this.#random.chance(0.005) ? this.#random.below(10_000) : 10 + this.#random.below(50);
    this.#lastUs = Math.max(this.#lastUs, this.#scheduler.nowUs + delayUs);
    this.#scheduler.schedule(this.#lastUs - this.#scheduler.nowUs, `${this.#label} ${what}`, this.#receiver, deliver);
  }
}

class SimulatedWorker implements RunningWorker {
  readonly failed: Promise<MillraceError | undefined>;
  readonly #scheduler: SimulatedScheduler;
  readonly #name: string;
  readonly #parent: Life;
  readonly #life: Life;
  readonly #toParent: Channel;
  readonly #toWorker: Channel;
  readonly #parentQueue = new MessageQueue();
  readonly #workerQueue = new MessageQueue();
  readonly #stopSignal = new AbortController();
  readonly #copy: (message: unknown) => unknown;
  #settle: (failure: MillraceError | undefined) => void = () => undefined;
  #stopping: Promise<void> | undefined;

  constructor(
    scheduler: SimulatedScheduler,
    parent: Life,
    platform: WorkerPlatform,
    path: string,
    name: string,
    module: URL,
    given: unknown,
    copy: (message: unknown) => unknown,
  ) {
    const data = copy(given);
    this.#copy = copy;
    this.#scheduler = scheduler;
    this.#name = name;
    this.#parent = parent;
    this.#life = parent.child();
    const random = scheduler.random.fork(`worker ${path}`);
    this.#toParent = new Channel(scheduler, random.fork("up"), parent, `${path} to parent`);
    this.#toWorker = new Channel(scheduler, random.fork("down"), this.#life, `${path} from parent`);
    this.failed = new Promise((resolve) => (this.#settle = resolve));
    const { clock, files } = platform(this.#life, path);
    scheduler.schedule(1000 + random.below(50_000), `${path} starts`, this.#life, () => void this.#run(module, data, clock, files));
  }

  send(message: unknown): void {
    const copy = this.#copy(message);
    if (!this.#life.alive) return;
    this.#toWorker.carry("message", () => {
      if (!this.#workerQueue.push(copy)) this.#end(workerFlooded(this.#name));
    });
  }

  receive(): Promise<unknown> {
    return this.#parentQueue.receive();
  }

  stop(graceMs = stopGraceMsDefault): Promise<void> {
    this.#stopping ??= this.#stop(graceMs);
    return this.#stopping;
  }

  async #stop(graceMs: number): Promise<void> {
    if (this.#life.alive) {
      this.#toWorker.carry("stop", () => {
        this.#workerQueue.end();
        // Made now: an error holds the frames that awaited it, and one made at the start would hold the first job for the life of the worker.
        this.#stopSignal.abort(new MillraceError("unavailable", `worker ${this.#name} was asked to stop`));
      });
      this.#scheduler.schedule(graceMs * 1000, `${this.#name} grace is over`, this.#parent, () => this.#end(workerEnded(this.#name, graceMs)));
    }
    await this.failed;
  }

  async #run(module: URL, data: unknown, clock: Clock, files: Files): Promise<void> {
    try {
      const loaded = await this.#scheduler.outside(import(module.href) as Promise<{ default?: WorkerBody }>);
      if (typeof loaded.default !== "function") throw new MillraceError("internal", `worker ${this.#name}: ${module.href} has no default export to run`);
      await loaded.default({
        port: { send: (message) => this.#sendUp(message), receive: () => this.#workerQueue.receive() },
        clock,
        files,
        data,
        signal: this.#stopSignal.signal,
      });
      this.#end(undefined);
    } catch (thrown) {
      const { aborted, reason } = this.#stopSignal.signal;
      this.#end(aborted && thrown === reason ? undefined : workerFailure(this.#name, thrown));
    }
  }

  #sendUp(message: unknown): void {
    const copy = this.#copy(message);
    if (!this.#life.alive) return;
    this.#toParent.carry("message", () => {
      if (!this.#parentQueue.push(copy)) this.#end(workerFlooded(this.#name));
    });
  }

  /** As `kill -9`: the parent hears only that it is gone. */
  protected end(failure: MillraceError): void {
    this.#end(failure);
  }

  /** Ends the worker's life once; the parent hears of it after every message that was sent before. */
  #end(failure: MillraceError | undefined): void {
    if (!this.#life.alive) return;
    this.#life.end();
    this.#toParent.carry("end", () => {
      this.#parentQueue.end();
      this.#settle(failure);
    });
  }
}

export class SimulatedChild extends SimulatedWorker implements RunningChild {
  readonly #options: ChildOptions;
  #usage: ChildUsage = { cpuMs: 0, rssBytes: 0, rssBytesPeak: 0 };

  constructor(scheduler: SimulatedScheduler, parent: Life, platform: WorkerPlatform, path: string, options: ChildOptions, module: URL, data: unknown) {
    super(scheduler, parent, platform, path, options.name, module, data, copyBetweenProcesses);
    this.#options = options;
  }

  usage(): ChildUsage {
    return this.#usage;
  }

  // --- what tests do to it -----------------------------------------------------------------------------------------------------------

  /** Says what the child uses from now on; above its cap it is ended. */
  use(rssBytes: number, cpuMs = this.#usage.cpuMs): void {
    this.#usage = { cpuMs, rssBytes, rssBytesPeak: Math.max(rssBytes, this.#usage.rssBytesPeak) };
    if (rssBytes > this.#options.rssBytesMax) this.end(childTooLarge(this.#options, `it took ${rssBytes} bytes of memory`));
  }

  kill(): void {
    this.end(workerDied(this.#options.name, "signal SIGKILL"));
  }
}
