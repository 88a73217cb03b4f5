// Waiting for a lock, the same for every engine: try, wait for a change or a little while, try again.
// Why polling: the owner may be another process, or may die without a word. Limits: 1 to 50 ms between two looks.

import type { Clock } from "#platform/clock";
import { type Lease, type Lock, lockTimeout } from "./registry.ts";
import type { Wake } from "./wake.ts";

/** Calls `tryLock` until it succeeds; throws `timeout` after `timeoutMs`. */
export async function waitForLock(
  tryLock: (name: string, lease: Lease) => Promise<Lock | undefined>,
  name: string,
  lease: Lease,
  timeoutMs: number,
  clock: Clock,
  changes: Wake,
): Promise<Lock> {
  const until = clock.monotonicMs() + timeoutMs;
  const never = new AbortController().signal;
  for (let waitMs = 1; ; waitMs = Math.min(50, waitMs * 2)) {
    const { version } = changes;
    const lock = await tryLock(name, lease);
    if (lock !== undefined) return lock;
    const leftMs = until - clock.monotonicMs();
    if (leftMs <= 0) throw lockTimeout(name, timeoutMs);
    await changes.changed(version, never, { clock, delayMs: Math.min(waitMs, leftMs) });
  }
}
