// Building a run file: packing records into blocks, and filling the search groups. Byte format: docs/format/run-file.md.
//
// State of a writer, words of 4 bytes: 0 fileAt (file offset of the chunk's first byte), 1 chunkAt, 2 chunkBytes, 3 chunkUsed, 4 chunkClosed, 5 stageAt,
// 6 stageMax, 7 count, 8 tableAt, 9 checksAt, 10 blocksMax, 11 blocks, 12 separatorsAt, 13 separatorsMax, 14 separatorsUsed, 15 lastKeyAt,
// 16 lastKeyBytes, 17 seedLow, 18 seedHigh, 19 room for checksums, 20 status, 21 tombstones, 22 expiring; f64: 24 key bytes, 26 value bytes, 28 least time,
// 30 greatest, 32 least expiry, 34 greatest; 36 where in the open block the rests of entries begin whose keys have lines, 0 = it holds whole records, 37 how many
// entries in a row could have lines.
// Status: 0 going on, 1 chunk full, 2 run full, 3 malformed record, 4 not in order.
// A staged entry: u32 high half of the hash, u32 reference, u32 low half.
// Why the stage: how many groups there are follows from how many entries there were.

import { crc32cBlocks } from "./crc32c";
import { homeOf, place } from "./entry-probe";
import {
  compareBytes,
  copyBytes,
  headBytes,
  keyBytesOf,
  lineBytes,
  lineHead,
  lineKeyBytesMax,
  lineKeyBytesMin,
  lineKeyFrom,
  recordSize,
  timeAt,
  timesFrom,
} from "./entry-record";
import { secretOf, startOf, stripeHash } from "./key-hash";

const blockBytes: u32 = 4096;
const endOfBlock: u8 = 255;
/** Records (or groups of the index) whose memory is asked for together. Of 16, 32 and 64 on 272 MB of records 32 takes a fifth less than 16, 64 no less than 32. */
const ahead: u32 = 32;

/** So many entries in a row that could have lines let the next block have them: a block that one entry without would cut off stays rare. */
const lineStreak: u32 = 32;
/** A line may cost this part of key and value. */
const lineCost: u32 = 16;

const chunkFull: u32 = 1;
const runFull: u32 = 2;
const malformed: u32 = 3;
const disorder: u32 = 4;

function word(writer: usize, index: usize): u32 {
  return load<u32>(writer + (index << 2));
}

function setWord(writer: usize, index: usize, value: u32): void {
  store<u32>(writer + (index << 2), value);
}

/** Closes the block that ends the used part of the chunk: padding and checksum. */
export function runClose(writer: usize): void {
  const chunk = <usize>word(writer, 1);
  const used = word(writer, 3);
  const closed = word(writer, 4);
  const end = (used + blockBytes - 1) & ~(blockBytes - 1);
  const rests = word(writer, 36);
  memory.fill(chunk + <usize>used, endOfBlock, <usize>((rests == 0 ? end : end - blockBytes + rests) - used));
  setWord(writer, 36, 0);
  const block = ((word(writer, 0) + closed) >> 12) - 1;
  crc32cBlocks(<usize>word(writer, 19), chunk + <usize>closed, blockBytes, (end - closed) >> 12, <usize>word(writer, 9) + ((<usize>block) << 2));
  setWord(writer, 3, end);
  setWord(writer, 4, end);
}

function widen(writer: usize, index: usize, value: f64): void {
  const least = load<f64>(writer + (index << 2));
  if (least == 0 || value < least) store<f64>(writer + (index << 2), value);
  if (value > load<f64>(writer + (index << 2), 8)) store<f64>(writer + (index << 2), value, 8);
}

/** The separator of a new unit: the shortest prefix of the key that is above the key before. False when there is no room. */
function separate(writer: usize, key: usize, keyBytes: u32, newBlocks: u32): bool {
  let size: u32 = 0;
  if (word(writer, 7) > 0) {
    const last = <usize>word(writer, 15);
    const most = min<u32>(word(writer, 16), keyBytes);
    while (size < most && load<u8>(last + <usize>size) == load<u8>(key + <usize>size)) size += 1;
    size += 1;
  }
  const to = word(writer, 14);
  if (<u64>to + 2 + <u64>size > <u64>word(writer, 13)) return false;
  const separator = <usize>word(writer, 12) + <usize>to;
  store<u16>(separator, <u16>size);
  copyBytes(separator + 2, key, size);
  setWord(writer, 14, to + 2 + size);
  const blocks = word(writer, 11);
  const table = <usize>word(writer, 8);
  for (let block = blocks; block < blocks + newBlocks; block++) store<u32>(table + ((<usize>block) << 2), to);
  setWord(writer, 11, blocks + newBlocks);
  return true;
}

/** Appends records, by address, in key order; returns how many. Why it stopped is the status. */
export function runPack(writer: usize, addresses: usize, count: u32, limit: usize): u32 {
  const chunk = <usize>word(writer, 1);
  const chunkBytes = word(writer, 2);
  const fileAt = word(writer, 0);
  const start = startOf(word(writer, 17), word(writer, 18));
  const s0 = secretOf(start, 0);
  const s1 = secretOf(start, 1);
  const s2 = secretOf(start, 2);
  const s3 = secretOf(start, 3);
  const stage = <usize>word(writer, 5);
  const stageMax = word(writer, 6);
  let keySum = load<f64>(writer, 96);
  let valueSum = load<f64>(writer, 104);
  let status: u32 = 0;
  let done: u32 = 0;
  let touched: u32 = 0;
  for (; done < count; done++) {
    if (done % ahead == 0) {
      const to = min<u32>(count, done + ahead);
      for (let i = done; i < to; i++) {
        const record = <usize>load<u32>(addresses + ((<usize>i) << 2));
        if (record <= limit) touched ^= (<u32>load<u8>(record)) ^ (<u32>load<u8>(record, 63));
      }
    }
    const record = <usize>load<u32>(addresses + ((<usize>done) << 2));
    const size = recordSize(record, limit);
    if (size == 0) {
      status = malformed;
      break;
    }
    const head = load<u64>(record);
    const key = record + <usize>headBytes(head);
    const keyBytes = keyBytesOf(head);
    const number = word(writer, 7);
    if (number > 0 && compareBytes(<usize>word(writer, 15), word(writer, 16), key, keyBytes) >= 0) {
      status = disorder;
      break;
    }
    const skip = <u32>(key - record);
    const value = size - skip - keyBytes;
    // What stands elsewhere when the key has a line of its own.
    const restBytes = (skip + value + 3) & ~3;
    const couldLine =
      ((<u32>(keyBytes - lineKeyBytesMin <= lineKeyBytesMax - lineKeyBytesMin)) &
        (<u32>(((<u32>head) & 0x80) == 0)) &
        (<u32>(restBytes + lineBytes <= blockBytes))) !=
      0;
    const open = word(writer, 3) & (blockBytes - 1);
    if (word(writer, 36) != 0) {
      if (!couldLine || open + lineBytes + restBytes > word(writer, 36)) runClose(writer);
    } else if (open != 0 && open + size > blockBytes) runClose(writer);
    const used = word(writer, 3);
    const isNewBlock = (used & (blockBytes - 1)) == 0;
    const hasLine = isNewBlock
      ? couldLine && word(writer, 37) >= lineStreak && (lineKeyBytesMax + 4 - keyBytes) * lineCost <= keyBytes + value
      : word(writer, 36) != 0;
    if (<u64>used + <u64>(hasLine ? (isNewBlock ? blockBytes : 0) : size) > <u64>chunkBytes) {
      status = chunkFull;
      break;
    }
    const newBlocks = isNewBlock ? (hasLine ? 1 : (size + blockBytes - 1) >> 12) : 0;
    if (number >= stageMax || word(writer, 11) + newBlocks > word(writer, 10)) {
      status = runFull;
      break;
    }
    if (newBlocks > 0 && !separate(writer, key, keyBytes, newBlocks)) {
      status = runFull;
      break;
    }
    const to = chunk + <usize>used;
    if (hasLine) {
      const rests = (isNewBlock ? blockBytes : word(writer, 36)) - restBytes;
      const rest = chunk + <usize>((used & ~(blockBytes - 1)) + rests);
      v128.store(to, i64x2.splat(0));
      v128.store(to, i64x2.splat(0), 48);
      store<u16>(to, <u16>lineHead(keyBytes, rests));
      copyBytes(to + <usize>lineKeyFrom, key, keyBytes);
      store<u32>(rest + <usize>restBytes - 4, 0);
      copyBytes(rest, record, skip);
      copyBytes(rest + <usize>skip, key + <usize>keyBytes, value);
      setWord(writer, 36, rests);
      setWord(writer, 3, used + lineBytes);
      setWord(writer, 15, <u32>to + lineKeyFrom);
    } else {
      copyBytes(to, record, size);
      setWord(writer, 3, used + size);
      setWord(writer, 15, <u32>to + skip);
    }
    setWord(writer, 37, couldLine ? word(writer, 37) + 1 : 0);
    setWord(writer, 16, keyBytes);
    const hash = stripeHash(key, keyBytes, start, s0, s1, s2, s3);
    const entry = stage + 12 * <usize>number;
    store<u32>(entry, <u32>(hash >> 32));
    store<u32>(entry, fileAt + used, 4);
    store<u32>(entry, <u32>hash, 8);
    setWord(writer, 7, number + 1);
    const flags = <u32>head;
    if ((flags & 15) == 0) setWord(writer, 21, word(writer, 21) + 1);
    keySum += <f64>keyBytes;
    valueSum += <f64>value;
    if ((flags & 0x30) != 0) {
      let field = record + <usize>timesFrom(head);
      if ((flags & 0x10) != 0) {
        setWord(writer, 22, word(writer, 22) + 1);
        widen(writer, 32, timeAt(field));
        field += 6;
      }
      if ((flags & 0x20) != 0) widen(writer, 28, timeAt(field));
    }
    // A record longer than a block has its blocks to itself.
    if (!hasLine && size > blockBytes) runClose(writer);
  }
  store<f64>(writer, keySum, 96);
  store<f64>(writer, valueSum, 104);
  setWord(writer, 20, status);
  setWord(writer, 40, touched);
  return done;
}

/** Fills `groups` search groups from `count` staged entries. */
export function runIndexBuild(stage: usize, count: u32, groupsAt: usize, groups: u32): void {
  memory.fill(groupsAt, 0, (<usize>groups) << 6);
  let touched: u32 = 0;
  for (let i: u32 = 0; i < count; i++) {
    const entry = stage + 12 * <usize>i;
    // The group of an entry further on, on its way.
    if (i + ahead < count) touched |= load<u32>(groupsAt + ((<usize>homeOf((<u64>load<u32>(entry + 12 * ahead)) << 32, groups)) << 6), 12);
    const hash = ((<u64>load<u32>(entry)) << 32) | (<u64>load<u32>(entry, 8));
    place(groupsAt, groups, hash, load<u32>(entry, 4));
  }
  if (touched == 0x80000001) store<u32>(groupsAt, load<u32>(groupsAt, 12), 12);
}
