// How busy this thread is, by the processor time that it used: for work that stops it and can wait for a quiet moment.
// Why not the loop's idle time: on a shared machine a thread that waits for the processor is not idle, and not busy by its own doing either.
// Cost: a system call. Concurrency: speaks of the thread that calls it.

/** A function that says which share of a processor this thread used since its last call, 0 to 1; since now at the first one. */
export function threadLoadMeter(): () => number {
  let [lastUs, lastMs] = [usedUs(), performance.now()];
  return () => {
    const [nowUs, nowMs] = [usedUs(), performance.now()];
    const share = nowMs > lastMs ? (nowUs - lastUs) / 1_000 / (nowMs - lastMs) : 0;
    [lastUs, lastMs] = [nowUs, nowMs];
    return Math.min(1, share);
  };
}

function usedUs(): number {
  const { user, system } = process.threadCpuUsage();
  return user + system;
}
