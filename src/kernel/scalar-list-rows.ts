// The scalar twin of kernels/list-rows.ts: the same call over the same bytes, and the readable definition of what it does.
// Invariant: rows are those of the kernels but where two sums differ in their last bits. Cost: 5-20x the binaries. Concurrency: as the kernels.

import type { ListRowsCalls } from "./kernel-calls.ts";
import { listRowsPerBlock, listRowsWords } from "./list-rows-layout.ts";
import type { ScalarHeap } from "./scalar-vectors.ts";
import type { WasmMemory } from "./web-assembly.ts";

const fround = Math.fround;

/** Binds the twin to a memory. */
export function bindScalarListRows(memory: WasmMemory, { offer, thresholdOf }: ScalarHeap): ListRowsCalls {
  const i8 = new Int8Array(memory.buffer);
  const i16 = new Int16Array(memory.buffer);
  const u32 = new Uint32Array(memory.buffer);
  const f32 = new Float32Array(memory.buffer);
  return {
    listsNear(scores, seen, lists, reaches, square, isL2, bar, more, slack, out) {
      let best = -Infinity;
      for (let i = 0; i < lists; i++) {
        const score = f32[scores / 4 + i]!;
        const length = fround(Math.sqrt(isL2 === 0 ? fround(square) : Math.max(0, fround(fround(square) - fround(2 * score)))));
        if (fround(score + fround(f32[reaches / 4 + i]! * length)) >= fround(bar)) u32[seen / 4 + i] = 1;
        best = Math.max(best, (f32[scores / 4 + i] = score + f32[more / 4 + i]!));
      }
      const near = fround(fround(best) - fround(slack));
      let count = 0;
      for (let i = 0; i < lists; i++) if (f32[scores / 4 + i]! >= near || u32[seen / 4 + i] !== 0) u32[out / 4 + count++] = i;
      return count;
    },

    listRowsScan(args) {
      const a = args / 4;
      const word = (name: keyof typeof listRowsWords): number => u32[a + listRowsWords[name]]!;
      const codeBytes = word("codeBytes");
      const query = word("query") / 2;
      const unit = f32[a + listRowsWords.unit]!;
      const length = f32[a + listRowsWords.length]!;
      const room = word("room");
      let found = word("found");
      let bar = Math.max(f32[a + listRowsWords.bar]!, thresholdOf(word("heap")));
      let compared = 0;
      for (let i = 0; i < word("listCount"); i++) {
        const list = u32[word("lists") / 4 + i]!;
        let left = u32[word("counts") / 4 + list]!;
        compared += left;
        let block = u32[word("heads") / 4 + list]!;
        let here = left % listRowsPerBlock || listRowsPerBlock;
        while (left > 0) {
          const at = word("blocks") + block * listRowsPerBlock * (codeBytes + 16);
          const meta = (at + listRowsPerBlock * codeBytes) / 4;
          for (let slot = 0; slot < here; slot++) {
            let sum = 0;
            for (let j = 0; j < codeBytes; j++) sum += i8[at + slot * codeBytes + j]! * i16[query + j]!;
            const error = f32[meta + listRowsPerBlock + slot]!;
            const score = fround(fround(fround(fround(sum) * unit) * f32[meta + slot]!) + f32[meta + 2 * listRowsPerBlock + slot]!);
            const most = fround(score + fround(error * length));
            if (most < bar) continue;
            if (found >= room) {
              u32[a + listRowsWords.found] = room + 1;
              return;
            }
            const row = u32[meta + 3 * listRowsPerBlock + slot]!;
            u32[word("rows") / 4 + found] = row;
            f32[word("most") / 4 + found] = most;
            found++;
            bar = Math.max(bar, offer(word("heap"), fround(most - fround(fround(2 * error) * length)), row));
          }
          left -= here;
          here = listRowsPerBlock;
          block = u32[word("next") / 4 + block]!;
        }
      }
      f32[a + listRowsWords.bar] = bar;
      u32[a + listRowsWords.found] = found;
      u32[a + listRowsWords.compared] = compared;
    },
  };
}
