// Rows that come and go by list: codes of bytes in blocks of eight, a chain of blocks a list; the rows of some lists that may be answers are found in one call.
//
// Why blocks and not an array a list: lists grow one row at a time, and nothing is copied for it. Only the first block of a chain has room. Why eight: one row of each is compared at a time,
// so that eight lines are on their way at once, and a list wastes half a block.
// A row's code has a scale of its own (codes of 127 steps) and an error, which bounds by how much q.x may differ from the score by codes for a query of length 1 (Cauchy and Schwarz: the
// length of what the code misses, the query's own rounding and that of f32). So a row whose score and error stay below the bar is no answer, whatever the query is.
//
//   a block: eight codes, each codeBytes; f32[8] scales  f32[8] errors  f32[8] bias  u32[8] rows
//   heads  u32 a list: its first block, where it has rows   counts  u32 a list: its rows; those of the first block are what eights leave, or eight   next  u32 a block
//
// `args`, u32 or f32 words (src/kernel/list-rows.ts names them):
//   0 lists, u32 each  1 how many  2 heads  3 counts  4 next  5 blocks  6 bytes of a code (a multiple of 16)
//   7 i16 codes of the query  8 f32 their unit  9 f32 length of the query  10 heap of lower bounds, kept by the caller
//   11 f32 bar: what a score must reach; the call raises it to the k-th best lower bound
//   12 out: rows that may be answers, u32 each  13 out: f32 what their scores can be at most  14 room for so many  15 how many there are, the call appends; room + 1: there were more
//   16 out: rows compared  17 scratch: 8 bytes for each of touchMost blocks  18 out: nothing that means anything

import { offer, thresholdOf } from "./top-k";
import { dotCodes, sumEachWhole } from "./vector-rows";

/** Blocks, and bytes of them, whose lines are fetched together before they are looked at: so many misses overlap, and they stay in the inner cache. */
const touchMost: u32 = 32;
const touchBytes: u32 = 24 << 10;

function word(args: usize, index: usize): u32 {
  return load<u32>(args + (index << 2));
}

function real(args: usize, index: usize): f32 {
  return load<f32>(args + (index << 2));
}

export function listRowsScan(args: usize): void {
  const lists = <usize>word(args, 0);
  const count = word(args, 1);
  const heads = <usize>word(args, 2);
  const counts = <usize>word(args, 3);
  const next = <usize>word(args, 4);
  const blocks = <usize>word(args, 5);
  const codeBytes = <usize>word(args, 6);
  const query = <usize>word(args, 7);
  const unit = f32x4.splat(real(args, 8));
  const length = real(args, 9);
  const lengths = f32x4.splat(length);
  const heap = <usize>word(args, 10);
  const outRows = <usize>word(args, 12);
  const outMost = <usize>word(args, 13);
  const room = word(args, 14);
  const touch = <usize>word(args, 17);
  let found = word(args, 15);
  let bar = max<f32>(real(args, 11), thresholdOf(heap));
  let bars = f32x4.splat(bar);
  let compared: u32 = 0;
  const metaFrom = codeBytes << 3;
  const blockBytes = metaFrom + 128;
  const together = (<usize>max<u32>(1, min<u32>(touchMost, touchBytes / <u32>blockBytes))) << 3;
  let i: u32 = 0;
  let left: u32 = 0;
  let number: u32 = 0;
  let touched: u32 = 0;
  for (;;) {
    // The next blocks, and a byte of each of their lines.
    let end = touch;
    while (end < touch + together) {
      let here: u32 = 8;
      if (left == 0) {
        if (i == count) break;
        const list = (<usize>load<u32>(lists + ((<usize>i) << 2))) << 2;
        i++;
        left = load<u32>(counts + list);
        if (left == 0) continue;
        compared += left;
        number = load<u32>(heads + list);
        here = ((left - 1) & 7) + 1;
      }
      const block = blocks + blockBytes * <usize>number;
      for (let at: usize = 0; at < blockBytes; at += 64) touched |= load<u8>(block + at);
      store<u32>(end, <u32>block);
      store<u32>(end, here, 4);
      end += 8;
      left -= here;
      number = load<u32>(next + ((<usize>number) << 2));
    }
    if (end == touch) break;
    for (let entry = touch; entry < end; entry += 8) {
      const block = <usize>load<u32>(entry);
      const here = load<u32>(entry, 4);
      const r1 = block + codeBytes;
      const r2 = r1 + codeBytes;
      const r3 = r2 + codeBytes;
      const r4 = r3 + codeBytes;
      const r5 = r4 + codeBytes;
      const r6 = r5 + codeBytes;
      const r7 = r6 + codeBytes;
      let a0 = i32x4.splat(0);
      let a1 = a0;
      let a2 = a0;
      let a3 = a0;
      let a4 = a0;
      let a5 = a0;
      let a6 = a0;
      let a7 = a0;
      for (let at: usize = 0; at < codeBytes; at += 16) {
        const x = v128.load(query + (at << 1));
        const y = v128.load(query + (at << 1), 16);
        a0 = dotCodes(block + at, x, y, a0);
        a1 = dotCodes(r1 + at, x, y, a1);
        a2 = dotCodes(r2 + at, x, y, a2);
        a3 = dotCodes(r3 + at, x, y, a3);
        a4 = dotCodes(r4 + at, x, y, a4);
        a5 = dotCodes(r5 + at, x, y, a5);
        a6 = dotCodes(r6 + at, x, y, a6);
        a7 = dotCodes(r7 + at, x, y, a7);
      }
      const meta = block + metaFrom;
      const s = f32x4.add(f32x4.mul(f32x4.mul(f32x4.convert_i32x4_s(sumEachWhole(a0, a1, a2, a3)), unit), v128.load(meta)), v128.load(meta, 64));
      const t = f32x4.add(f32x4.mul(f32x4.mul(f32x4.convert_i32x4_s(sumEachWhole(a4, a5, a6, a7)), unit), v128.load(meta, 16)), v128.load(meta, 80));
      const sMost = f32x4.add(s, f32x4.mul(v128.load(meta, 32), lengths));
      const tMost = f32x4.add(t, f32x4.mul(v128.load(meta, 48), lengths));
      // What is no number is not below the bar.
      let bits = ~((<u32>i32x4.bitmask(f32x4.lt(sMost, bars))) | ((<u32>i32x4.bitmask(f32x4.lt(tMost, bars))) << 4)) & ((1 << here) - 1);
      if (bits != 0) {
        // Room for eight is behind the arrays.
        v128.store(outMost + ((<usize>room) << 2), sMost);
        v128.store(outMost + ((<usize>room) << 2), tMost, 16);
        do {
          const lane = (<usize>ctz(bits)) << 2;
          bits &= bits - 1;
          const most = load<f32>(outMost + ((<usize>room) << 2) + lane);
          if (most < bar) continue;
          if (found >= room) {
            store<u32>(args, room + 1, 15 << 2);
            return;
          }
          const row = load<u32>(meta + lane, 96);
          store<u32>(outRows + ((<usize>found) << 2), row);
          store<f32>(outMost + ((<usize>found) << 2), most);
          found++;
          bar = max<f32>(bar, offer(heap, most - 2 * load<f32>(meta + lane, 32) * length, row));
        } while (bits != 0);
        bars = f32x4.splat(bar);
      }
    }
  }
  store<u32>(args, touched, 18 << 2);
  store<f32>(args, bar, 11 << 2);
  store<u32>(args, found, 15 << 2);
  store<u32>(args, compared, 16 << 2);
}

/**
 * The lists that a search looked into (`seen`, u32 each); those whose scores come within `reaches` (f32 each, for a distance or length of 1) of `bar`; and those whose scores plus `more`
 * (f32 each) are at most `slack` below the best of all. Their numbers go to `out`. `square`: the query's squared length. `isL2`: a score moves with the distance to the query, else with its
 * length. All arrays have room for a multiple of four, filled up with scores of -Infinity and zeros; scores and `seen` are overwritten. Returns how many.
 */
export function listsNear(scores: usize, seen: usize, lists: u32, reaches: usize, square: f32, isL2: u32, bar: f32, more: usize, slack: f32, out: usize): u32 {
  const bytes = ((<usize>lists + 3) & ~3) << 2;
  const squares = f32x4.splat(square);
  const bars = f32x4.splat(bar);
  let lengths = f32x4.sqrt(squares);
  let best4 = f32x4.splat(-Infinity);
  for (let at: usize = 0; at < bytes; at += 16) {
    const score = v128.load(scores + at);
    if (isL2) lengths = f32x4.sqrt(f32x4.max(f32x4.sub(squares, f32x4.add(score, score)), f32x4.splat(0)));
    const most = f32x4.add(score, f32x4.mul(v128.load(reaches + at), lengths));
    v128.store(seen + at, v128.or(v128.load(seen + at), f32x4.ge(most, bars)));
    const sum = f32x4.add(score, v128.load(more + at));
    v128.store(scores + at, sum);
    best4 = f32x4.pmax(best4, sum);
  }
  const best = max<f32>(
    max<f32>(f32x4.extract_lane(best4, 0), f32x4.extract_lane(best4, 1)),
    max<f32>(f32x4.extract_lane(best4, 2), f32x4.extract_lane(best4, 3)),
  );
  const near = f32x4.splat(best - slack);
  const none = i32x4.splat(0);
  let end = out;
  for (let at: usize = 0; at < bytes; at += 16) {
    let bits = i32x4.bitmask(v128.or(f32x4.ge(v128.load(scores + at), near), i32x4.ne(v128.load(seen + at), none)));
    while (bits != 0) {
      const list = <u32>(at >> 2) + <u32>ctz(bits);
      bits &= bits - 1;
      if (list >= lists) break;
      store<u32>(end, list);
      end += 4;
    }
  }
  return <u32>((end - out) >> 2);
}
