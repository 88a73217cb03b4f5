// The scalar twin of the engine's kernels: entry-probe, mem-table, entry-sort, run-file, gather-fields and crc32c over the same bytes.
// Why: it runs where the binaries are missing, it is the readable definition of what they do, and one suite holds both equal.
// Invariants: 1. same arguments, layouts and answers as kernels/*.ts  2. what a damaged image says is checked before it is followed: no
//             reading outside the bounds that the caller gives.
// Layouts are drawn in kernels/*.ts, words in entry-layout.ts. Cost: 5-10 x the binaries.

import { crc32c } from "#base/crc32c";
import {
  absentBlock,
  blockBytes,
  gatherWords,
  groupBytes,
  groupSlots,
  indexProbeWords,
  memTableWords,
  probeWords,
  runWriterStatus,
  runWriterWords,
  sortItemBytes,
  stageEntryBytes,
} from "./entry-layout.ts";
import { compareBytes, endOfBlock, EntryView, keyLine, lineHead, recordEnd } from "./entry-record.ts";
import { absentSource } from "./entry-refs.ts";
import type { EngineCalls } from "./kernel-calls.ts";
import { KeyHasher, StripeHasher } from "./key-hash.ts";
import type { WasmMemory } from "./web-assembly.ts";

const referencesFrom = 16;
const overflowAt = 12;

/** Binds the twin to a memory. */
export function bindScalarEntries(memory: WasmMemory): EngineCalls {
  const u8 = new Uint8Array(memory.buffer);
  const u32 = new Uint32Array(memory.buffer);
  const f64 = new Float64Array(memory.buffer);
  const view = new DataView(memory.buffer);
  const entry = new EntryView();
  const other = new EntryView();

  let hasher: KeyHasher | StripeHasher = new StripeHasher({ low: 0, high: 0 });
  let seedLow = 0;
  let seedHigh = 0;

  /** `isStriped`: by the stripe hash, as memtables and runs are but those of version 2. */
  function useSeed(low: number, high: number, isStriped: boolean): void {
    if (low === seedLow && high === seedHigh && isStriped === hasher instanceof StripeHasher) return;
    hasher = isStriped ? new StripeHasher({ low, high }) : new KeyHasher({ low, high });
    seedLow = low;
    seedHigh = high;
  }

  /** high 32 bits of a product: which group a hash belongs to. */
  const homeOf = (hashHigh: number, groups: number): number => Number((BigInt(hashHigh) * BigInt(groups)) >> 32n);
  const tagOf = (hashLow: number): number => Math.max(1, hashLow & 0xff);
  const overflowBit = (hashLow: number): number => (1 << ((hashLow >>> 8) & 31)) >>> 0;

  function sameKey(found: EntryView, key: number, bytes: number): boolean {
    return found.keyBytes === bytes && compareBytes(u8, found.keyAt, found.keyAt + bytes, u8, key, key + bytes) === 0;
  }

  // ---- search groups ----

  /** Sets `entry` to the record of the hashed key; the answer is the address of its reference, or 0. */
  function find(groupsAt: number, groups: number, base: number, limit: number, key: number, bytes: number): number {
    const tag = tagOf(hasher.low);
    const bit = overflowBit(hasher.low);
    let group = homeOf(hasher.high, groups);
    for (let walked = 0; walked < groups; walked++) {
      const at = groupsAt + group * groupBytes;
      for (let slot = 0; slot < groupSlots; slot++) {
        if (u8[at + slot] !== tag) continue;
        const where = at + referencesFrom + 4 * slot;
        const reference = Atomics.load(u32, where / 4);
        if (reference === 0 || !entry.readIn(u8, base + reference, base + reference - (reference % blockBytes), base + limit)) continue;
        if (sameKey(entry, key, bytes)) return where;
      }
      if ((u32[(at + overflowAt) / 4]! & bit) >>> 0 === 0) return 0;
      group = group + 1 === groups ? 0 : group + 1;
    }
    return 0;
  }

  /** Puts a reference into the first free slot from the home group on. */
  function place(groupsAt: number, groups: number, hashHigh: number, hashLow: number, reference: number): void {
    const tag = tagOf(hashLow);
    let group = homeOf(hashHigh, groups);
    for (;;) {
      const at = groupsAt + group * groupBytes;
      for (let slot = 0; slot < groupSlots; slot++) {
        if (u8[at + slot] !== 0) continue;
        Atomics.store(u32, (at + referencesFrom) / 4 + slot, reference);
        Atomics.store(u8, at + slot, tag);
        return;
      }
      Atomics.or(u32, (at + overflowAt) / 4, overflowBit(hashLow));
      group = group + 1 === groups ? 0 : group + 1;
    }
  }

  // ---- sorting ----

  /** Order of two records by key, then by address. */
  function compareRecords(a: number, b: number): number {
    if (!entry.read(u8, a, u8.length) || !other.read(u8, b, u8.length)) return a - b;
    const difference = compareBytes(u8, entry.keyAt, entry.keyAt + entry.keyBytes, u8, other.keyAt, other.keyAt + other.keyBytes);
    return difference === 0 ? a - b : difference;
  }

  /** First place from `low` on, of `count` in an order, whose key is >= the key. */
  function lowerBound(table: number, order: number, low: number, count: number, key: number, keyBytes: number): number {
    const numbers = (table + u32[table / 4 + memTableWords.numbersFrom]!) / 4;
    let high = count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      entry.read(u8, table + u32[numbers + u32[order / 4 + middle]!]!, u8.length);
      if (compareBytes(u8, entry.keyAt, entry.keyAt + entry.keyBytes, u8, key, key + keyBytes) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Closes the block that ends the used part of the chunk: padding and checksum. */
  function closeBlocks(w: number): void {
    const chunk = u32[w + runWriterWords.chunkAt]!;
    const used = u32[w + runWriterWords.chunkUsed]!;
    const end = Math.ceil(used / blockBytes) * blockBytes;
    const rests = u32[w + runWriterWords.rests]!;
    u8.fill(endOfBlock, chunk + used, chunk + (rests === 0 ? end : end - blockBytes + rests));
    u32[w + runWriterWords.rests] = 0;
    let closed = u32[w + runWriterWords.chunkClosed]!;
    const checks = u32[w + runWriterWords.checksAt]! / 4;
    for (; closed < end; closed += blockBytes) {
      const block = (u32[w + runWriterWords.fileAt]! + closed) / blockBytes - 1;
      u32[checks + block] = crc32c(u8, 0, chunk + closed, chunk + closed + blockBytes);
    }
    u32[w + runWriterWords.chunkUsed] = end;
    u32[w + runWriterWords.chunkClosed] = end;
  }

  return {
    crc32c: (_room, at, bytes, seed) => crc32c(u8, seed >>> 0, at, at + bytes),

    crc32cBlocks(_room, at, bytes, count, out) {
      for (let i = 0; i < count; i++) u32[out / 4 + i] = crc32c(u8, 0, at + i * bytes, at + (i + 1) * bytes);
    },

    entryProbe(args) {
      const a = args / 4;
      const base = u32[a + probeWords.base]!;
      const limit = u32[a + probeWords.limit]!;
      const groupsAt = u32[a + probeWords.groupsAt]!;
      const groups = u32[a + probeWords.groups]!;
      const keys = u32[a + probeWords.keys]!;
      const offsets = u32[a + probeWords.offsets]! / 4;
      const count = u32[a + probeWords.count]!;
      const sources = u32[a + probeWords.outSource]!;
      useSeed(u32[a + probeWords.seedLow]!, u32[a + probeWords.seedHigh]!, u32[a + probeWords.striped] !== 0);
      let found = 0;
      let timed = 0;
      if (u32[a + probeWords.fresh] !== 0) u8.fill(absentSource, sources, sources + count);
      for (let i = 0; i < count; i++) {
        if (u8[sources + i] !== absentSource) continue;
        const key = (keys + u32[offsets + i]!) >>> 0;
        const bytes = u32[offsets + i + 1]! - u32[offsets + i]!;
        hasher.hash(view, key, key + bytes);
        if (find(groupsAt, groups, base, limit, key, bytes) === 0) continue;
        found++;
        u8[sources + i] = u32[a + probeWords.source]!;
        if (u32[a + probeWords.outAt] === 0) continue;
        u32[u32[a + probeWords.outAt]! / 4 + i] = entry.valueAt;
        u32[u32[a + probeWords.outBytes]! / 4 + i] = entry.valueBytes;
        u8[u32[a + probeWords.outKind]! + i] = entry.kind;
        if (u32[a + probeWords.outExpiry] === 0) continue;
        f64[u32[a + probeWords.outExpiry]! / 8 + i] = entry.expiryMs;
        f64[u32[a + probeWords.outTime]! / 8 + i] = entry.timeMs;
        if (entry.expiryMs + entry.timeMs > 0) timed = 1;
      }
      u32[a + probeWords.timed] = timed;
      return found;
    },

    indexProbe(args) {
      const a = args / 4;
      const groupsAt = u32[a + indexProbeWords.groupsAt]!;
      const groups = u32[a + indexProbeWords.groups]!;
      const offsets = u32[a + indexProbeWords.offsets]! / 4;
      const count = u32[a + indexProbeWords.count]!;
      const table = u32[a + indexProbeWords.table]! / 4;
      const blocks = u32[a + indexProbeWords.blocks]!;
      const separators = u32[a + indexProbeWords.separators]!;
      const separatorsBytes = u32[a + indexProbeWords.separatorsBytes]!;
      const out = u32[a + indexProbeWords.outBlocks]! / 4;
      useSeed(u32[a + indexProbeWords.seedLow]!, u32[a + indexProbeWords.seedHigh]!, u32[a + indexProbeWords.striped] !== 0);

      /** Whether the separator of a block is at most the key. One that lies outside is above every key. */
      function begins(block: number, key: number, bytes: number): boolean {
        const from = u32[table + block]!;
        if (from + 2 > separatorsBytes) return false;
        const size = u8[separators + from]! | (u8[separators + from + 1]! << 8);
        if (from + 2 + size > separatorsBytes) return false;
        return compareBytes(u8, separators + from + 2, separators + from + 2 + size, u8, key, key + bytes) <= 0;
      }

      let found = 0;
      for (let i = 0; i < count; i++) {
        const key = (u32[a + indexProbeWords.keys]! + u32[offsets + i]!) >>> 0;
        const bytes = u32[offsets + i + 1]! - u32[offsets + i]!;
        hasher.hash(view, key, key + bytes);
        const tag = tagOf(hasher.low);
        const bit = overflowBit(hasher.low);
        let group = homeOf(hasher.high, groups);
        let answer = absentBlock;
        for (let walked = 0; walked < groups && answer === absentBlock; walked++) {
          const at = groupsAt + group * groupBytes;
          for (let slot = 0; slot < groupSlots && answer === absentBlock; slot++) {
            if (u8[at + slot] !== tag) continue;
            const block = Math.floor(u32[(at + referencesFrom) / 4 + slot]! / blockBytes) - 1;
            if (block < 0 || block >= blocks || !begins(block, key, bytes)) continue;
            // The next block with another separator begins above the key, or there is none.
            let next = block + 1;
            while (next < blocks && u32[table + next] === u32[table + block]) next++;
            if (next === blocks || !begins(next, key, bytes)) answer = block;
          }
          if ((u32[(at + overflowAt) / 4]! & bit) >>> 0 === 0) break;
          group = group + 1 === groups ? 0 : group + 1;
        }
        if (answer !== absentBlock) found++;
        u32[out + i] = answer;
      }
      return found;
    },

    memTablePut(table, records, recordsBytes, count, scratch) {
      const t = table / 4;
      const groups = u32[t + memTableWords.groups]!;
      const groupsAt = table + u32[t + memTableWords.groupsFrom]!;
      const numbers = (table + u32[t + memTableWords.numbersFrom]!) / 4;
      const limit = u32[t + memTableWords.recordsEnd]!;
      useSeed(u32[t + memTableWords.seedLow]!, u32[t + memTableWords.seedHigh]!, true);
      let at = records;
      const out = scratch / 4;
      u32[out + 1] = 0;
      let done = 0;
      for (; done < count; done++) {
        const end = recordEnd(u8, at, records + recordsBytes);
        if (end < 0) {
          u32[out + 1] = 1;
          break;
        }
        other.read(u8, at, end);
        const size = end - at;
        // A word with the entry's number stands before each record.
        const room = Math.ceil((size + 4) / 8) * 8;
        hasher.hash(view, other.keyAt, other.keyEnd);
        const tombstone = other.kind === 0;
        const where = find(groupsAt, groups, table, limit, other.keyAt, other.keyBytes);
        let number = u32[t + memTableWords.count]!;
        if (where !== 0) {
          const known = table + u32[where / 4]!;
          if (u32[t + memTableWords.frozenRecords] === 0 && room <= Math.ceil((entry.end - known + 4) / 8) * 8) {
            u8.copyWithin(known, at, end);
            if (tombstone) u32[t + memTableWords.tombstonesEver]!++;
            at = end;
            continue;
          }
          number = u32[known / 4 - 1]!;
        } else if (number >= u32[t + memTableWords.countMax]!) break;
        const used = u32[t + memTableWords.recordsUsed]!;
        if (used + room > limit) break;
        const reference = used + 4;
        u32[(table + used) / 4] = number;
        u8.copyWithin(table + reference, at, end);
        u32[t + memTableWords.recordsUsed] = used + room;
        if (where !== 0) Atomics.store(u32, where / 4, reference);
        else place(groupsAt, groups, hasher.high, hasher.low, reference);
        u32[numbers + number] = reference;
        if (where === 0) Atomics.store(u32, t + memTableWords.count, number + 1);
        if (tombstone) u32[t + memTableWords.tombstonesEver]!++;
        at = end;
      }
      u32[out] = at - records;
      return done;
    },

    memTableItems(table, first, count, items) {
      const numbers = (table + u32[table / 4 + memTableWords.numbersFrom]!) / 4;
      for (let i = 0; i < count; i++) {
        const item = (items + i * sortItemBytes) / 4;
        u32[item + 2] = table + u32[numbers + first + i]!;
        u32[item + 3] = first + i;
      }
    },

    memTableSeek: (table, order, count, key, keyBytes) => lowerBound(table, order, 0, count, key, keyBytes),

    memTableMerge(table, items, fresh, from, count, to) {
      let done = 0;
      for (let i = 0; i < fresh; i++) {
        const item = (items + i * sortItemBytes) / 4;
        other.read(u8, u32[item + 2]!, u8.length);
        const place = lowerBound(table, from, done, count, other.keyAt, other.keyBytes);
        u32.copyWithin(to / 4 + done + i, from / 4 + done, from / 4 + place);
        u32[to / 4 + place + i] = u32[item + 3]!;
        done = place;
      }
      u32.copyWithin(to / 4 + done + fresh, from / 4 + done, from / 4 + count);
    },

    entriesInOrder(addresses, count) {
      const a = addresses / 4;
      for (let i = 1; i < count; i++) if (compareRecords(u32[a + i - 1]!, u32[a + i]!) >= 0) return i;
      return count;
    },

    entrySortFill(items, addresses, count) {
      for (let i = 0; i < count; i++) u32[(items + i * sortItemBytes) / 4 + 2] = u32[addresses / 4 + i]!;
    },

    entrySortBegin(stack, count) {
      u32[stack / 4] = 0;
      u32[stack / 4 + 1] = count;
    },

    /** All at once: the twin has no steps. */
    entrySort(items, stack) {
      const count = u32[stack / 4 + 1]!;
      const numbers = new Map<number, number>();
      const addresses = new Uint32Array(count);
      for (let i = 0; i < count; i++) {
        const item = (items + i * sortItemBytes) / 4;
        addresses[i] = u32[item + 2]!;
        numbers.set(addresses[i]!, u32[item + 3]!);
      }
      addresses.sort(compareRecords);
      for (let i = 0; i < count; i++) {
        const item = (items + i * sortItemBytes) / 4;
        u32[item + 2] = addresses[i]!;
        u32[item + 3] = numbers.get(addresses[i]!)!;
      }
      u32[stack / 4 + 1] = 0;
      return 1;
    },

    entrySortTake(items, count, word, out) {
      for (let i = 0; i < count; i++) u32[out / 4 + i] = u32[(items + i * sortItemBytes + word) / 4]!;
    },

    runPack(writer, addresses, count, limit) {
      const w = writer / 4;
      const words = runWriterWords;
      const status = (value: number): void => void (u32[w + words.status] = value);
      status(runWriterStatus.going);
      useSeed(u32[w + words.seedLow]!, u32[w + words.seedHigh]!, true);
      const chunk = u32[w + words.chunkAt]!;
      const chunkBytes = u32[w + words.chunkBytes]!;
      for (let i = 0; i < count; i++) {
        if (!entry.read(u8, u32[addresses / 4 + i]!, limit)) {
          status(runWriterStatus.malformed);
          return i;
        }
        const { keyAt, keyBytes, valueBytes } = entry;
        const size = entry.end - entry.at;
        const number = u32[w + words.count]!;
        const lastAt = u32[w + words.lastKeyAt]!;
        const lastBytes = u32[w + words.lastKeyBytes]!;
        if (number > 0 && compareBytes(u8, lastAt, lastAt + lastBytes, u8, keyAt, keyAt + keyBytes) >= 0) {
          status(runWriterStatus.disorder);
          return i;
        }
        // What stands elsewhere in the block when the key has a line.
        const restBytes = Math.ceil((size - keyBytes) / 4) * 4;
        const couldLine =
          keyBytes >= keyLine.keyBytesMin && keyBytes <= keyLine.keyBytesMax && (u8[entry.at]! & 0x80) === 0 && restBytes + keyLine.bytes <= blockBytes;
        const inBlock = u32[w + words.chunkUsed]! % blockBytes;
        const openRests = u32[w + words.rests]!;
        if (openRests !== 0) {
          if (!couldLine || inBlock + keyLine.bytes + restBytes > openRests) closeBlocks(w);
        } else if (inBlock !== 0 && inBlock + size > blockBytes) closeBlocks(w);
        const used = u32[w + words.chunkUsed]!;
        const isNewBlock = used % blockBytes === 0;
        const streak = u32[w + words.streak]!;
        const hasLine = isNewBlock
          ? couldLine && streak >= keyLine.streak && (keyLine.keyBytesMax + 4 - keyBytes) * keyLine.costPart <= keyBytes + valueBytes
          : u32[w + words.rests] !== 0;
        if (used + (hasLine ? (isNewBlock ? blockBytes : 0) : size) > chunkBytes) {
          status(runWriterStatus.chunkFull);
          return i;
        }
        const newBlocks = isNewBlock ? (hasLine ? 1 : Math.ceil(size / blockBytes)) : 0;
        const blocks = u32[w + words.blocks]!;
        const reference = u32[w + words.fileAt]! + used;
        if (number >= u32[w + words.stageMax]! || blocks + newBlocks > u32[w + words.blocksMax]!) {
          status(runWriterStatus.runFull);
          return i;
        }
        if (newBlocks > 0) {
          // The shortest prefix of the key that is above the key before.
          let shared = 0;
          if (number > 0) while (shared < lastBytes && shared < keyBytes && u8[lastAt + shared] === u8[keyAt + shared]) shared++;
          const size = number === 0 ? 0 : shared + 1;
          const to = u32[w + words.separatorsUsed]!;
          if (to + 2 + size > u32[w + words.separatorsMax]!) {
            status(runWriterStatus.runFull);
            return i;
          }
          const separator = u32[w + words.separatorsAt]! + to;
          u8[separator] = size;
          u8[separator + 1] = size >>> 8;
          u8.copyWithin(separator + 2, keyAt, keyAt + size);
          u32[w + words.separatorsUsed] = to + 2 + size;
          for (let block = blocks; block < blocks + newBlocks; block++) u32[u32[w + words.tableAt]! / 4 + block] = to;
          u32[w + words.blocks] = blocks + newBlocks;
        }
        if (hasLine) {
          const rests = (isNewBlock ? blockBytes : u32[w + words.rests]!) - restBytes;
          const rest = chunk + used - (used % blockBytes) + rests;
          u8.fill(0, chunk + used, chunk + used + keyLine.bytes);
          view.setUint16(chunk + used, lineHead(keyBytes, rests), true);
          u8.copyWithin(chunk + used + keyLine.keyFrom, keyAt, keyAt + keyBytes);
          u8.fill(0, rest + restBytes - 4, rest + restBytes);
          u8.copyWithin(rest, entry.at, keyAt);
          u8.copyWithin(rest + keyAt - entry.at, entry.valueAt, entry.end);
          u32[w + words.rests] = rests;
          u32[w + words.chunkUsed] = used + keyLine.bytes;
          u32[w + words.lastKeyAt] = chunk + used + keyLine.keyFrom;
        } else {
          u8.copyWithin(chunk + used, entry.at, entry.end);
          u32[w + words.chunkUsed] = used + size;
          u32[w + words.lastKeyAt] = chunk + used + (keyAt - entry.at);
        }
        u32[w + words.streak] = couldLine ? streak + 1 : 0;
        u32[w + words.lastKeyBytes] = keyBytes;
        hasher.hash(view, keyAt, keyAt + keyBytes);
        const stage = (u32[w + words.stageAt]! + number * stageEntryBytes) / 4;
        u32[stage] = hasher.high;
        u32[stage + 1] = reference;
        u32[stage + 2] = hasher.low;
        u32[w + words.count] = number + 1;
        if (entry.kind === 0) u32[w + words.tombstones]!++;
        f64[(w + words.keyBytes) / 2]! += keyBytes;
        f64[(w + words.valueBytes) / 2]! += valueBytes;
        if (entry.expiryMs > 0) {
          u32[w + words.expiring]!++;
          const least = f64[(w + words.minExpiry) / 2]!;
          f64[(w + words.minExpiry) / 2] = least === 0 ? entry.expiryMs : Math.min(least, entry.expiryMs);
          f64[(w + words.maxExpiry) / 2] = Math.max(f64[(w + words.maxExpiry) / 2]!, entry.expiryMs);
        }
        if (entry.timeMs > 0) {
          const least = f64[(w + words.minTime) / 2]!;
          f64[(w + words.minTime) / 2] = least === 0 ? entry.timeMs : Math.min(least, entry.timeMs);
          f64[(w + words.maxTime) / 2] = Math.max(f64[(w + words.maxTime) / 2]!, entry.timeMs);
        }
        // A record longer than a block has its blocks to itself.
        if (!hasLine && size > blockBytes) closeBlocks(w);
      }
      return count;
    },

    runClose: (writer) => closeBlocks(writer / 4),

    runIndexBuild(stage, count, groupsAt, groups) {
      u8.fill(0, groupsAt, groupsAt + groups * groupBytes);
      for (let i = 0; i < count; i++) {
        const at = (stage + i * stageEntryBytes) / 4;
        place(groupsAt, groups, u32[at]!, u32[at + 2]!, u32[at + 1]!);
      }
    },

    gatherFields(args) {
      const a = args / 4;
      const word = (name: keyof typeof gatherWords): number => u32[a + gatherWords[name]]!;
      const count = word("count");
      const bytesMin = word("bytesMin");
      const memoryEnd = word("memoryEnd");
      const fields = word("fields") / 4;
      /** Whether a row takes part: a value of this source and layout, inside the memory. */
      const takesPart = (i: number): boolean => {
        if (u8[word("sources") + i] !== word("source")) return false;
        const value = u32[word("ats") / 4 + i]!;
        const bytes = u32[word("lengths") / 4 + i]!;
        return bytes >= bytesMin && value + bytes <= memoryEnd && (view.getUint32(value, true) & word("mask")) >>> 0 === word("match");
      };
      let taken = 0;
      for (let i = 0; i < count; i++) {
        if (!takesPart(i)) {
          for (let o = 0; o < word("outputCount"); o++) {
            const output = word("outputs") / 4 + 4 * o;
            const rowBytes = u32[output + 1]!;
            u8.copyWithin(u32[output]! + i * rowBytes, u32[output + 2]!, u32[output + 2]! + rowBytes);
          }
          continue;
        }
        const value = u32[word("ats") / 4 + i]!;
        taken++;
        u8[word("touched") + 16 + i] = (view.getUint32(value, true) & word("note")) === 0 ? 1 : 3;
        for (let f = 0; f < word("fieldCount"); f++) {
          const field = fields + f * 8;
          const validBit = u32[field + 4]!;
          const width = u32[field + 1]!;
          const to = u32[field + 2]! + i * u32[field + 3]!;
          const there = validBit === 0xffffffff || (u8[value + (validBit >>> 3)]! & (1 << (validBit & 7))) !== 0;
          if (there) u8.copyWithin(to, value + u32[field]!, value + u32[field]! + width);
          else u8.copyWithin(to, u32[field + 6]!, u32[field + 6]! + width);
          const validAt = u32[field + 5]!;
          if (validAt !== 0) {
            const bit = 1 << (i & 7);
            u8[validAt + (i >>> 3)] = there ? u8[validAt + (i >>> 3)]! | bit : u8[validAt + (i >>> 3)]! & ~bit;
          }
        }
      }
      return taken;
    },
  };
}
