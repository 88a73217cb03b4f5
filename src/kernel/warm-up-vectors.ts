// Calls the kernels of vector blocks until the engine has compiled them for speed: warm-up.ts says why.

import type { Kernels } from "./kernels.ts";
import { codeBytes, heapBytes, rowFloats, scanWords } from "./vector-layout.ts";
import { createWasmMemory, pageBytes } from "./web-assembly.ts";

const slots = 256;
const dims = 20;
const k = 8;
const queries = 4;
const rounds = 120;

/** Every form of search over 256 rows. */
export function warmUpVectors(kernels: Kernels): void {
  const memory = createWasmMemory(2 * pageBytes);
  const calls = kernels.bind(memory);
  const u32 = new Uint32Array(memory.buffer);
  const f32 = new Float32Array(memory.buffer);
  const rowBytes = rowFloats(dims) * 4;
  let free = 64;
  const room = (bytes: number): number => {
    const at = free;
    free += Math.ceil(bytes / 64) * 64;
    return at;
  };
  const args = room(scanWords.count * 4);
  const rows = room(slots * rowBytes);
  const codes = room(slots * codeBytes(dims));
  const scales = room(codeBytes(dims) * 4);
  const bias = room(slots * 4);
  const live = room(slots / 8);
  const list = room(slots * 4);
  const heaps = room(queries * heapBytes(k));
  const scratch = room(queries * (176 + 2 * codeBytes(dims)));
  // Rows count up, so that heaps fill.
  for (let i = 0; i < slots; i++) f32.fill(i + 1, (rows + i * rowBytes) / 4, (rows + (i + 1) * rowBytes) / 4);
  u32.fill(0xffff_ffff, live / 4, (live + slots / 8) / 4);
  const words = {
    to: slots,
    rows,
    rowBytes,
    codes,
    codeBytes: codeBytes(dims),
    scales,
    live,
    queries: rows,
    heaps,
    heapBytes: heapBytes(k),
    scratch,
    list,
    slots,
  };
  for (const [name, value] of Object.entries(words)) u32[args / 4 + scanWords[name as keyof typeof words]] = value;
  const a = args / 4;
  const scan = (call: (args: number) => void, queryCount: number): void => {
    u32[a + scanWords.queryCount] = queryCount;
    for (let query = 0; query < queryCount; query++) calls.topKReset(heaps + query * heapBytes(k), k);
    call(args);
  };
  for (let round = 0; round < rounds; round++) {
    u32[a + scanWords.bias] = round % 2 === 0 ? 0 : bias;
    u32[a + scanWords.filter] = round % 3 === 0 ? live : 0;
    calls.vectorScales(rows, rowBytes, live, 0, slots, scales);
    calls.vectorCodes(rows, rowBytes, scales, codes, codeBytes(dims), 0, slots);
    u32[a + scanWords.listCount] = calls.bitsList(live, live, 0, slots, list, slots);
    for (let more = 0; more < 8; more++) calls.bitsCount(live, live, more, slots);
    scan(calls.vectorScan, 1);
    scan(calls.vectorScan8, 1);
    scan(calls.vectorScanOf, 1);
    scan(calls.vectorDistances, 1);
    scan(calls.vectorBatch, queries);
    scan(calls.vectorBatch8, queries);
  }
}
