// Calls each kernel until the engine has compiled it for speed.
// Why: V8 starts WebAssembly in its baseline tier, 3-10x slower, and recompiles a function after it has done a certain amount of work. A
// process that serves from its first second must not pay for that in its first requests.
// How much: V8 recompiles a function after a budget of work (--wasm-tiering-budget, 13 million units, about a byte of code run each); 400 rounds
// over 256 rows pass it for each kernel. The fast code is compiled on another thread, so the first calls may still meet the slow one.
// Cost: 18-23 ms of CPU (measured), once a process and variant; call `kernels()` at start, not on a serving loop.

import type { Kernels } from "./kernels.ts";
import { createWasmMemory, pageBytes } from "./web-assembly.ts";

const rows = 256;
const rowBytes = 64;
const rounds = 400;

export function warmUp(kernels: Kernels): void {
  if (kernels.variant === "scalar") return;
  const memory = createWasmMemory(4 * pageBytes);
  const calls = kernels.bind(memory);
  const f32 = new Float32Array(memory.buffer);
  const u32 = new Uint32Array(memory.buffer);
  // A page each for the rows (they count up, so that heaps fill), the table, small things, and results.
  const data = 0;
  const table = pageBytes;
  const heap = 2 * pageBytes;
  const list = heap + 1_024;
  const offsets = list + 2_048;
  const scratch = offsets + 2_048;
  const out = 3 * pageBytes;
  for (let i = 0; i <= rows; i++) {
    u32[offsets / 4 + i] = i * 12;
    if (i === rows) break;
    u32[list / 4 + i] = i;
    f32[(data + i * rowBytes) / 4] = i;
  }
  const head = table / 4;
  for (let round = 0; round < rounds; round++) {
    calls.topKReset(heap, 8);
    calls.dotTopK(heap, data, rows, rowBytes, rowBytes, data + rowBytes, 0);
    calls.dotTopKOf(heap, data, rows, rowBytes, rowBytes, data + rowBytes, list, rows);
    calls.topKSort(heap);
    for (const width of [4, 8, 32, 64, 60]) calls.gatherRows(data, rows, width, list, rows, out, scratch);
    calls.hashKeys(data, offsets, rows, round, 1, out);
    u32.fill(0, head, head + 4_096);
    u32.set([1, 511, 64, 64 + 4_096, 8_192, 8, 0, 300, round, 7], head);
    calls.keyTableInsert(table, data, offsets, rows, out, scratch);
    calls.keyTableProbe(table, data, offsets, rows, out, scratch);
  }
}
