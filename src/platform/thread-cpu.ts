// Processor time of this thread, exact to microseconds.
// Why the whole process is asked first: Linux adds what a running thread has used to its account at the scheduler's tick, every 1 to 4 ms, and threadCpuUsage reads the account as it
// stands. Work that ended long ago then shows up in one lump of up to 4 ms, wherever the tick falls. Asking for the process brings the account of the asking thread up to date.
// Cost: 2 us, with many threads up to 30, since the system adds up all of them; 0.5 us where `exact` is false. Concurrency: speaks of the thread that calls it.

/** User and system time of this thread so far, microseconds. `exact` false: what was used since this thread last slept, at most a tick of the scheduler, may be missing. */
export function threadCpuUs(exact = true): number {
  if (exact) process.cpuUsage();
  const { user, system } = process.threadCpuUsage();
  return user + system;
}
