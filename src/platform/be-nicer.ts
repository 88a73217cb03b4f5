// Work that stands back: a process or a thread takes the processor only when nobody more important wants it.
// What it buys (measured, Linux 6.18, one core, 200 short turns a second beside a thread that never stops): at the same priority one turn in a hundred began 4 ms late,
// beside a thread of niceness 19 0.3 ms. Not always: now and then the scheduler lets the nicer one run on to the next tick, 4 ms. `giveWay` between short pieces of work
// bounds that too: whoever waits runs at once when this thread sleeps.
// On Linux a priority belongs to a thread; elsewhere to a process, so there a thread cannot stand back alone. A priority is never raised again: that needs rights.

import { readdirSync } from "node:fs";
import { constants, getPriority, setPriority } from "node:os";

const lowest = constants.priority.PRIORITY_LOW;

/** This process, with every thread there is; later ones inherit it. `by`: 0 to 19. */
export function processStandsBack(by: number): void {
  const priority = Math.min(lowest, getPriority() + by);
  // The threads that are there before us keep theirs otherwise.
  const threads = process.platform === "linux" ? readdirSync("/proc/self/task").map(Number) : [0];
  for (const thread of threads) lower(thread, priority);
}

const never = new Int32Array(new SharedArrayBuffer(4));
/** The system adds some 0.06 ms. */
const waysMs = 0.02;

/** Sleeps for some 0.1 ms, blocking the calling thread: for threads that stand back, about every quarter of a millisecond. */
export function giveWay(): void {
  Atomics.wait(never, 0, 0, waysMs);
}

/** The calling thread alone. */
export function threadStandsBack(by: number): void {
  // On Linux 0 means the calling thread, elsewhere the process.
  if (by > 0 && process.platform === "linux") lower(0, Math.min(lowest, getPriority(0) + by));
}

function lower(thread: number, priority: number): void {
  try {
    setPriority(thread, priority);
  } catch {
    // A thread that ended meanwhile, or a system that does not allow it: the work goes on as it is.
  }
}
