// Who a process is, and whether another one of the same machine is gone: so that what a killed process held is free at once, not after a time-out.
// Why more than a pid: pids are used again, and a process in another container has another numbering. The owner string carries machine boot,
// numbering space, pid and start time; whoever differs in the first two cannot be judged and counts as living.
// Invariant: `isGone` is true only when the process cannot run any more (a stopped process is not gone).

export interface Processes {
  /** This process, for `isGone` of others. At most 200 characters. */
  readonly self: string;
  /** True when the process that wrote `owner` as its `self` has certainly ended. */
  isGone(owner: string): boolean;
}
