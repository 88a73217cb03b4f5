// The one way to child processes: worker bodies (workers.ts) that run in a process of their own, at low priority and under a memory cap, so that heavy work
// (an import, a build) can neither take the serving process's heap nor its turn on the processor.
// Why processes beside threads: a thread shares heap limits, garbage collections of shared memories and fate with the server; a process that takes too much
// is ended alone, and the system's scheduler knows it as less important.
// Invariants: those of workers.ts, and 1. a message is copied, never shared: a shared memory in a message is refused (`invalid`)  2. a child whose memory
// exceeds `rssBytesMax` is ended and reported with `overloaded`  3. a child whose parent's process is gone, also by kill -9, ends at the next turn of its loop.
// Cost: a start takes 0.1 to 0.5 s and 85 MB resident; a message there and back about 70 us, 25 of them the parent's CPU. Large data belongs into files.
// Limits: memory is looked at every `watchMs`: what takes more within that time is seen late, so leave the machine some room above the cap.
// `messagesWaitingMax` of workers.ts holds for each side.

import { MillraceError } from "#base/errors";
import type { RunningWorker } from "./workers.ts";

/** How often a child's memory is looked at, milliseconds. */
export const childWatchMs = 100;

/** Least cap: a child that does nothing takes some 85 MB. */
export const childRssBytesMin = 128 * 1024 * 1024;

export interface ChildOptions {
  /** For errors and process lists: letters, digits, dot, underscore and -, 1 to 64. */
  readonly name: string;
  /** 0 (as the parent) to 19 (only what nobody else wants). Builders take 10. */
  readonly niceness: number;
  /** Resident memory of the whole process, libraries included, above which it is ended. At least `childRssBytesMin`. */
  readonly rssBytesMax: number;
  /** Of it, the JavaScript heap may take this much; default half, at most 4 GiB. */
  readonly heapBytesMax?: number;
}

export interface ChildUsage {
  /** User and system time of all its threads so far. */
  readonly cpuMs: number;
  /** Resident memory when last looked at. */
  readonly rssBytes: number;
  /** Its highest. */
  readonly rssBytesPeak: number;
}

/** As a RunningWorker: `send`, `receive`, `stop` (asks, then ends it after `graceMs`) and `failed` mean the same. */
export interface RunningChild extends RunningWorker {
  /** As last looked at, at most `childWatchMs` ago; the last figures after its end. */
  usage(): ChildUsage;
}

export interface ChildProcesses {
  /** `module` is the address of a worker body (`moduleBeside`); `data` is copied as a message is. Throws `invalid` for options out of range. */
  start(module: URL, data: unknown, options: ChildOptions): RunningChild;
}

/** The JavaScript heap of a child. */
export function heapBytesOf({ rssBytesMax, heapBytesMax }: ChildOptions): number {
  return heapBytesMax ?? Math.min(rssBytesMax / 2, 4 * 2 ** 30);
}

/** Throws `invalid` for options out of range. */
export function checkChildOptions(options: ChildOptions): void {
  const { name, niceness, rssBytesMax } = options;
  const heapBytes = heapBytesOf(options);
  const good =
    Number.isInteger(niceness) && niceness >= 0 && niceness <= 19 && rssBytesMax >= childRssBytesMin && heapBytes >= 16 * 2 ** 20 && heapBytes <= rssBytesMax;
  if (good && /^[A-Za-z0-9._-]{1,64}$/.test(name)) return;
  throw new MillraceError(
    "invalid",
    `a child process ${JSON.stringify(name.slice(0, 64))} with niceness ${niceness} and ${rssBytesMax} bytes (heap ${heapBytes})`,
    {
      todo: `choose a name of letters, digits, dot, underscore and -, a niceness of 0 to 19, at least ${childRssBytesMin} bytes and a heap of 16 MiB to all of them`,
    },
  );
}
