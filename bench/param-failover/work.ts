// The work of the bench param-failover.

import { mixWord } from "#kernel/parameter-key";

export const hotKeys = 5_000;
export const perBatch = 5;

export function keyWords(key: number): [number, number] {
  return [mixWord(key + 1), key];
}

export interface CandidateOptions {
  readonly registryPath: string;
  readonly node: number;
  /** Additions a second while it leads everything. */
  readonly perS: number;
}

/** What a candidate sends. */
export interface CandidateMessage {
  readonly added?: number;
  readonly state?: { readonly ledBuckets: number; readonly lostWrites: number; readonly ready: boolean };
}
