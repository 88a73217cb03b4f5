// Passes a batch of keys through a lane, in as many parts as it takes: what hashing, probing and inserting have in common.

import { MillraceError } from "#base/errors";
import { copyBytes, copyNumbers } from "#platform/copy-bytes";
import type { KeyBatch } from "./key-batch.ts";
import type { KernelMemory } from "./kernel-memory.ts";

/** Kernels read up to 13 bytes past a key. */
const overreadBytes = 16;

/**
 * Calls `part` for consecutive runs of keys that fit into the lane, with the addresses of key bytes and bounds (they may be below the lane:
 * bounds count from the start of the batch), the run, and the address of `resultBytes` for each of its keys. Ends early when `part` returns false.
 * Throws `invalid` when one key and its result exceed the lane.
 */
export function throughLane(
  memory: KernelMemory,
  keys: KeyBatch,
  scratchBytes: number,
  resultBytes: number,
  part: (call: { keysAt: number; offsetsAt: number; first: number; count: number; resultAt: number; scratchAt: number }) => boolean,
): void {
  const { lane } = memory;
  const { bytes, offsets, count } = keys;
  lane.reset();
  const scratchAt = lane.take(scratchBytes);
  const room = lane.free - overreadBytes - 3 * 16 - 4;
  let first = 0;
  while (first < count) {
    const from = offsets[first]!;
    const wholeBytes = offsets[count]! - from + (count - first) * (4 + resultBytes);
    let end = count;
    if (wholeBytes > room) {
      end = first;
      let used = 0;
      while (end < count) {
        used += offsets[end + 1]! - offsets[end]! + 4 + resultBytes;
        if (used > room) break;
        end++;
      }
      if (end === first)
        throw new MillraceError("invalid", `a key of ${offsets[first + 1]! - from} bytes exceeds the lane`, {
          todo: "give the memory larger lanes (laneBytes)",
        });
    }
    lane.reset();
    lane.take(scratchBytes);
    const resultAt = lane.take((end - first) * resultBytes);
    const offsetsAt = lane.take((end - first + 1) * 4);
    const to = offsets[end]!;
    const keysAt = lane.take(to - from + overreadBytes);
    // A view costs more than a few numbers one by one.
    if (end - first > 24) copyNumbers(offsets, first, end + 1, memory.u32, offsetsAt / 4);
    else for (let i = first, word = offsetsAt / 4; i <= end; i++, word++) memory.u32[word] = offsets[i]!;
    copyBytes(bytes, from, to, memory.bytes, keysAt);
    if (!part({ keysAt: keysAt - from, offsetsAt, first, count: end - first, resultAt, scratchAt })) return;
    first = end;
  }
}
