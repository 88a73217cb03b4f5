// Calls the kernels of vector blocks and of their index until the engine has compiled them for speed: warm-up.ts says why.

import { codeCount, codePointsBytes, ivfWords } from "./ivf-layout.ts";
import type { Kernels } from "./kernels.ts";
import { codeBytes, heapBytes, rowFloats, scanWords } from "./vector-layout.ts";
import { createWasmMemory, pageBytes } from "./web-assembly.ts";

const slots = 256;
const dims = 20;
const k = 8;
const queries = 4;
const rounds = 120;

export function warmUpVectors(kernels: Kernels): void {
  if (kernels.variant === "scalar") return;
  warmUpBlocks(kernels);
  warmUpIndex(kernels);
}

/** Every form of search over 256 rows. */
function warmUpBlocks(kernels: Kernels): void {
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

const indexRounds = 150;

/** An index of 16 lists of 32 rows of 32 numbers: found, coded and searched, of either form. */
function warmUpIndex(kernels: Kernels): void {
  const dims = 32;
  const lists = 16;
  const slots = 512;
  const bytes = dims * 4;
  const rowsAt = pageBytes;
  const memory = createWasmMemory(rowsAt + 3 * pageBytes);
  const calls = kernels.bind(memory);
  const f32 = new Float32Array(memory.buffer);
  const u32 = new Uint32Array(memory.buffer);
  const centroids = rowsAt + slots * bytes;
  const blocks = centroids + lists * bytes;
  const book = blocks + lists * bytes;
  const codes = book + codeCount(dims) * codePointsBytes;
  const bias = codes + slots * (dims / 4);
  const scratch = bias + slots * 4;
  // The first page: arguments and small things of a list or row each.
  const args = 64;
  const small = 512;
  const starts = small + 1_024;
  const listOf = starts + 1_024;
  const scores = listOf + 4_096;
  const heap = scores + 4_096;
  const sums = heap + 1_024;
  // Of blocks: a group for each list.
  const groups = sums + 8_192;
  const order = groups + 64;
  for (let list = 0; list < lists; list++) u32[groups / 4 + list] = list;
  for (let i = 0; i < (slots + lists) * dims; i++) f32[rowsAt / 4 + i] = Math.sin(i * i);
  for (let i = 0; i < (codeCount(dims) * codePointsBytes) / 4; i++) f32[book / 4 + i] = Math.sin(i);
  for (let list = 0; list <= lists; list++) u32[starts / 4 + list] = 32 * list;
  f32.fill(32, small / 4, small / 4 + lists);
  f32.fill(0.1, small / 4 + lists, small / 4 + 2 * lists);
  f32.fill(0, small / 4 + 2 * lists, small / 4 + 4 * lists);
  // One row of 32 passes: lists are looked into by their int8 codes, which are any bytes.
  const filter = small + 768;
  u32.fill(2, filter / 4, filter / 4 + slots / 32);
  for (let round = 0; round < indexRounds; round++) {
    calls.centroidsTranspose(centroids, lists, bytes, blocks);
    calls.centroidsNearest(rowsAt, slots / 2, bytes, blocks, lists, small + 8 * lists, listOf, scores);
    calls.centroidsAdd(rowsAt, lists, bytes, listOf, scratch, scores);
    calls.floatsFinite(rowsAt, slots * dims);
    if (round % 10 === 0) {
      for (let block = 0; block < slots / 32; block++) u32[listOf / 4 + block] = block;
      calls.codes4Learn(rowsAt, slots / 16, bytes, book, sums, heap);
      calls.codes4Encode(rowsAt, slots / 32, bytes, listOf, centroids, book, codeCount(dims), codes, bias, heap);
      for (let i = 0; i < slots / 2; i++) u32[order / 4 + i] = i;
      calls.blocksOrder(rowsAt, bytes, order, slots / 2, scores, scratch);
      calls.blocksMean(rowsAt, lists, bytes, filter, centroids, scores);
    }
    const isL2 = round % 3 === 0;
    u32.fill(0, args / 4, args / 4 + ivfWords.count);
    const words: Partial<Record<keyof typeof ivfWords, number>> = {
      lists,
      rowBytes: bytes,
      centroids,
      listBias: isL2 ? small + 8 * lists : 0,
      spreads: small + 4 * lists,
      starts,
      sizes: small,
      rows: rowsAt,
      bias: isL2 ? bias : 0,
      codes,
      codeCount: codeCount(dims),
      book,
      query: rowsAt + (round % slots) * bytes,
      heap,
      probes: lists,
      scratch,
      slots,
      firstLists: 2,
      codeErrors: small + 4 * lists,
      filter: round % 2 === 0 ? 0 : filter,
      codes8: rowsAt,
      codeBytes: dims,
      scales: rowsAt,
      blockCodes: round % 4 < 2 ? codes : 0,
      groups,
      blockSpreads: small + 4 * lists,
      blockBias: isL2 ? small + 8 * lists : 0,
    };
    for (const [name, value] of Object.entries(words)) u32[args / 4 + ivfWords[name as keyof typeof ivfWords]] = value;
    f32[args / 4 + ivfWords.queryLength] = 4;
    f32[args / 4 + ivfWords.margin] = 4;
    f32[args / 4 + ivfWords.slack] = 0.5;
    f32[args / 4 + ivfWords.fall] = 2;
    f32[args / 4 + ivfWords.byteShare] = round % 2 === 0 ? 0 : 0.25;
    f32[args / 4 + ivfWords.byteSlack] = 0.5;
    f32[args / 4 + ivfWords.bend] = 0.25;
    f32[args / 4 + ivfWords.gate] = 1;
    calls.topKReset(heap, 8);
    calls.ivfSearch(args);
    calls.topKSort(heap);
  }
}
