// Processor time of this process: for what a long work cost, beside the time that it took.

/** User and system time of all threads of this process so far, milliseconds. */
export function ownCpuMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1_000;
}
