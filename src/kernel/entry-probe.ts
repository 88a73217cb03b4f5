// Passes a batch of keys to a kernel that searches groups: what memtables and run images have in common.
// Cost: keys are copied into the lane of the source's memory, answers out of it; some 10 ns a key.

import { copyBytes, copyNumbers } from "#platform/copy-bytes";
import { probeArgumentBytes, probeScratchBytes, probeWords } from "./entry-layout.ts";
import type { EntryRefs } from "./entry-refs.ts";
import { type KernelMemory, roundUp } from "./kernel-memory.ts";
import type { KeyBatch } from "./key-batch.ts";
import { throughLane } from "./key-lane.ts";

/** Search groups in a memory and the records they refer to. */
export interface SearchedEntries {
  readonly groupsAt: number;
  readonly groups: number;
  /** References count from here, and no record reaches `limit` bytes beyond. */
  readonly base: number;
  readonly limit: number;
  readonly seedLow: number;
  readonly seedHigh: number;
  /** Placed by the stripe hash; else by the key hash, as runs of version 2. */
  readonly isStriped: boolean;
}

/** Bytes of answers a key, by what is wanted, and rounding of six arrays. */
const answerBytes = { presence: 1, places: 10, all: 26 } as const;
const roundingBytes = 6 * 8;
/** Up to so many keys answers are copied one by one. */
const fewKeys = 24;

/** Looks up the keys of which `refs.source` is still 255 and fills in those found under the number `source`. Returns how many. */
export function probeEntries(memory: KernelMemory, where: SearchedEntries, keys: KeyBatch, refs: EntryRefs, source: number): number {
  const { u32, bytes } = memory;
  const { parts } = refs;
  let found = 0;
  throughLane(
    memory,
    keys,
    probeScratchBytes + probeArgumentBytes + roundingBytes,
    answerBytes[parts],
    ({ keysAt, offsetsAt, first, count, resultAt, scratchAt }) => {
      const sourceAt = resultAt;
      const atAt = sourceAt + roundUp(count, 8);
      const bytesAt = atAt + roundUp(4 * count, 8);
      const kindAt = bytesAt + roundUp(4 * count, 8);
      const expiryAt = kindAt + roundUp(count, 8);
      const timeAt = expiryAt + 8 * count;
      const end = first + count;
      const argumentsAt = scratchAt + probeScratchBytes;
      const a = argumentsAt / 4;
      u32[a + probeWords.groupsAt] = where.groupsAt;
      u32[a + probeWords.groups] = where.groups;
      u32[a + probeWords.base] = where.base;
      u32[a + probeWords.limit] = where.limit;
      u32[a + probeWords.seedLow] = where.seedLow;
      u32[a + probeWords.seedHigh] = where.seedHigh;
      u32[a + probeWords.keys] = keysAt;
      u32[a + probeWords.offsets] = offsetsAt;
      u32[a + probeWords.count] = count;
      u32[a + probeWords.striped] = where.isStriped ? 1 : 0;
      u32[a + probeWords.source] = source;
      u32[a + probeWords.outSource] = sourceAt;
      u32[a + probeWords.outAt] = parts === "presence" ? 0 : atAt;
      u32[a + probeWords.outBytes] = bytesAt;
      u32[a + probeWords.outKind] = kindAt;
      u32[a + probeWords.outExpiry] = parts === "all" ? expiryAt : 0;
      u32[a + probeWords.outTime] = timeAt;
      // Not by `refs.found`: who fills in a source by hand need not count.
      const fresh = refs.noneFound(first, end);
      u32[a + probeWords.fresh] = fresh ? 1 : 0;
      if (!fresh) {
        copyBytes(refs.source, first, end, bytes, sourceAt);
        if (parts !== "presence") {
          copyNumbers(refs.at, first, end, u32, atAt / 4);
          copyNumbers(refs.bytes, first, end, u32, bytesAt / 4);
          copyBytes(refs.kind, first, end, bytes, kindAt);
        }
      }
      const here = memory.calls.entryProbe(argumentsAt, scratchAt) >>> 0;
      if (here === 0) return true;
      found += here;
      if (count <= fewKeys) {
        // A view and a copy cost more than a few numbers one by one.
        for (let i = 0; i < count; i++) {
          if (bytes[sourceAt + i] !== source) continue;
          refs.source[first + i] = source;
          if (parts === "presence") continue;
          refs.at[first + i] = u32[atAt / 4 + i]!;
          refs.bytes[first + i] = u32[bytesAt / 4 + i]!;
          refs.kind[first + i] = bytes[kindAt + i]!;
        }
        if (parts === "presence") return true;
      } else {
        copyBytes(bytes, sourceAt, sourceAt + count, refs.source, first);
        if (parts === "presence") return true;
        copyNumbers(u32, atAt / 4, atAt / 4 + count, refs.at, first);
        copyNumbers(u32, bytesAt / 4, bytesAt / 4 + count, refs.bytes, first);
        copyBytes(bytes, kindAt, kindAt + count, refs.kind, first);
      }
      if (parts === "all" && u32[a + probeWords.timed] !== 0) {
        refs.timed = true;
        const expiries = new Float64Array(u32.buffer, expiryAt, count);
        const times = new Float64Array(u32.buffer, timeAt, count);
        if (fresh) {
          // Nobody else's answers stand there: keys that were not found have zeros here and there.
          copyNumbers(expiries, 0, count, refs.expiryMs, first);
          copyNumbers(times, 0, count, refs.timeMs, first);
          return true;
        }
        for (let i = 0; i < count; i++) {
          if (bytes[sourceAt + i] !== source) continue;
          refs.expiryMs[first + i] = expiries[i]!;
          refs.timeMs[first + i] = times[i]!;
        }
      }
      return true;
    },
  );
  refs.found += found;
  return found;
}
