// The scalar twin of kernels/stage-rows.ts and sort-records.ts: the same calls over the same bytes. Bytes only: whatever packs and stages, a table is the same.
// Cost: some 5 x the binaries. Concurrency: as the kernels, one thread a set of arguments.

import { packColumnBytes, packColumnWords, packWords, sliceBytes, sliceWords, stageWords } from "./entry-layout.ts";
import { compareBytes, recordEnd, recordHeadBytes, recordKeyAt, recordKeyBytes, writeRecordHead } from "./entry-record.ts";
import type { StagingCalls } from "./kernel-calls.ts";
import { KeyHasher } from "./key-hash.ts";
import type { WasmMemory } from "./web-assembly.ts";

/** Binds the twin to a memory. */
export function bindScalarStaging(memory: WasmMemory): StagingCalls {
  const u8 = new Uint8Array(memory.buffer);
  const u16 = new Uint16Array(memory.buffer);
  const u32 = new Uint32Array(memory.buffer);
  let whole = new Uint8Array(256);
  let wholeView = new DataView(whole.buffer);

  return {
    packRows(args) {
      const word = (index: number): number => u32[args / 4 + index]!;
      const rows = word(packWords.rows);
      const out = word(packWords.out);
      const rowBytes = word(packWords.rowBytes);
      const template = word(packWords.template);
      for (let row = 0; row < rows; row++) u8.copyWithin(out + row * rowBytes, template, template + rowBytes);
      for (let column = 0; column < word(packWords.columnCount); column++) {
        const c = (word(packWords.columns) + column * packColumnBytes) / 4;
        const data = u32[c + packColumnWords.data]!;
        const width = u32[c + packColumnWords.width]!;
        const valid = u32[c + packColumnWords.valid]!;
        for (let row = 0; row < rows; row++) {
          const to = out + row * rowBytes;
          if (valid !== 0) {
            if (((u8[valid + (row >> 3)]! >> (row & 7)) & 1) === 0) continue;
            u8[to + u32[c + packColumnWords.bitAt]!]! |= u32[c + packColumnWords.bit]!;
          }
          u8.copyWithin(to + u32[c + packColumnWords.offset]!, data + row * width, data + (row + 1) * width);
        }
      }
    },

    stageRows(args) {
      const a = args / 4;
      const word = (index: number): number => u32[a + index]!;
      const add = (index: number, more: number): void => void (u32[a + index] = word(index) + more);
      const hasher = new KeyHasher({ low: word(stageWords.seedLow), high: word(stageWords.seedHigh) });
      const front = word(stageWords.front);
      const prefixBytes = word(stageWords.prefixBytes);
      const frontBytes = word(stageWords.timesBytes) + prefixBytes;
      for (; word(stageWords.row) < word(stageWords.rowsEnd); add(stageWords.row, 1)) {
        const row = word(stageWords.row);
        const fault = word(stageWords.refused) / 2 + row;
        const offsets = word(stageWords.offsets) / 4;
        const key = word(stageWords.keys) + u32[offsets + row]!;
        const keyBytes = u32[offsets + row + 1]! - u32[offsets + row]!;
        const valueOffsets = word(stageWords.valueOffsets) / 4;
        const fixed = word(stageWords.valueBytes);
        const valueFrom = valueOffsets === 0 ? row * fixed : u32[valueOffsets + row]!;
        const valueBytes = valueOffsets === 0 ? fixed : u32[valueOffsets + row + 1]! - valueFrom;
        const headBytes = recordHeadBytes(prefixBytes + keyBytes, valueBytes);
        const record = headBytes + frontBytes + keyBytes + valueBytes;
        if (u16[fault] === 0) {
          if (keyBytes === 0 || keyBytes > word(stageWords.keyBytesMax)) u16[fault] = word(stageWords.keyFault);
          else if (record > word(stageWords.recordBytesMax)) u16[fault] = word(stageWords.recordFault);
        }
        if (u16[fault] !== 0) {
          add(stageWords.refusedRows, 1);
          continue;
        }
        if (whole.length < prefixBytes + keyBytes) {
          whole = new Uint8Array(2 * (prefixBytes + keyBytes));
          wholeView = new DataView(whole.buffer);
        }
        whole.set(u8.subarray(front + frontBytes - prefixBytes, front + frontBytes));
        whole.set(u8.subarray(key, key + keyBytes), prefixBytes);
        hasher.hash(wholeView, 0, prefixBytes + keyBytes);
        const number = Math.floor((hasher.high * word(stageWords.slices)) / 2 ** 32);
        const slice = (word(stageWords.slicesAt) + number * sliceBytes) / 4;
        const used = u32[slice + sliceWords.used]!;
        if (u32[slice + sliceWords.block] === 0 || used + record > word(stageWords.blockBytes)) {
          u32[a + stageWords.slice] = number;
          return 1;
        }
        const to = u32[slice + sliceWords.block]! + used;
        // Times of 0: they follow from `front`.
        let at = writeRecordHead(u8, to, word(stageWords.flags), prefixBytes + keyBytes, valueBytes, 0, 0);
        u8.copyWithin(at, front, front + frontBytes);
        at += frontBytes;
        u8.copyWithin(at, key, key + keyBytes);
        // Values may stand before the address that their bounds count from: the sum is one of 32 bits.
        const value = (word(stageWords.values) + valueFrom) >>> 0;
        u8.copyWithin(at + keyBytes, value, value + valueBytes);
        u32[slice + sliceWords.used] = used + record;
        u32[slice + sliceWords.rows]! += 1;
        add(stageWords.stagedRows, 1);
        add(stageWords.stagedBytes, prefixBytes + keyBytes + valueBytes);
      }
      return 0;
    },

    findRecords(from, end, addresses, most, shared) {
      let model = u32[shared / 4]!;
      let same = u32[shared / 4 + 1]!;
      let count = 0;
      for (let at = from; at < end; count++) {
        const next = recordEnd(u8, at, end);
        if (next < 0 || count === most) return 0xffffffff;
        u32[addresses / 4 + count] = at;
        const key = recordKeyAt(u8, at);
        if (model === 0) {
          model = key;
          same = recordKeyBytes(u8, at);
        }
        same = Math.min(same, recordKeyBytes(u8, at));
        for (let i = 0; i < same; i++) if (u8[model + i] !== u8[key + i]) same = i;
        at = next;
      }
      u32[shared / 4] = model;
      u32[shared / 4 + 1] = same;
      return count;
    },

    sortRecords(addresses, count) {
      const list = u32.subarray(addresses / 4, addresses / 4 + count);
      const order = (a: number, b: number): number => {
        const aKey = recordKeyAt(u8, a);
        const bKey = recordKeyAt(u8, b);
        return compareBytes(u8, aKey, aKey + recordKeyBytes(u8, a), u8, bKey, bKey + recordKeyBytes(u8, b));
      };
      list.sort((a, b) => order(a, b) || a - b);
      let kept = 0;
      for (let i = 0; i < count; i++) if (i + 1 === count || order(list[i]!, list[i + 1]!) !== 0) list[kept++] = list[i]!;
      return kept;
    },
  };
}
