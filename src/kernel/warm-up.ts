// Calls each kernel until the engine has compiled it for speed.
// Why: V8 starts WebAssembly in its baseline tier, 3-10x slower, and recompiles a function after it has done a certain amount of work. A
// process that serves from its first second must not pay for that in its first requests.
// How much: V8 recompiles a function after a budget of work (--wasm-tiering-budget, 13 million units, about a byte of code run each); 400 rounds
// over 256 rows pass it for each kernel. The fast code is compiled on another thread, so the first calls may still meet the slow one.
// What: search of plain rows, keys, entries and runs here, for every process; the calls on parameters and on vectors cost as much again and have files of their own, for those who serve them
// (`warmKernels` of kernels.ts).
// Cost: about 140 ms of CPU here, 90 for parameters, 125 for vectors, once a process and variant; at start, not on a serving loop.

import { writeCrcTables } from "./crc-tables.ts";
import {
  absentBlock,
  blockBytes,
  crcRoomBytes,
  crcTablesAt,
  gatherWords,
  groupBytes,
  indexProbeWords,
  memTableWords,
  probeScratchBytes,
  probeWords,
  runWriterStateBytes,
  runWriterWords,
} from "./entry-layout.ts";
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
    calls.stripeHashes(data, offsets, rows, round, 1, out);
    u32.fill(0, head, head + 4_096);
    u32.set([1, 511, 64, 64 + 4_096, 8_192, 8, 0, 300, round, 7], head);
    calls.keyTableInsert(table, data, offsets, rows, out, scratch);
    calls.keyTableProbe(table, data, offsets, rows, out, scratch);
  }
  warmUpEntries(kernels);
}

const entryRounds = 60;

/** The engine's calls over 256 records of 12 bytes of key and 32 of value: a table, an index and a run of them. */
function warmUpEntries(kernels: Kernels): void {
  const memory = createWasmMemory(6 * pageBytes);
  const calls = kernels.bind(memory);
  const u8 = new Uint8Array(memory.buffer);
  const u32 = new Uint32Array(memory.buffer);
  writeCrcTables(u32, crcTablesAt);
  const crcRoom = pageBytes - crcRoomBytes;
  u32[crcRoom / 4] = crcTablesAt;
  const recordBytes = 47;
  const keyFrom = 3;
  // A page each: CRC tables and arguments, a table, records and lists, a chunk, a writer's lists, answers.
  const scratch = crcTablesAt + 16_384;
  const args = scratch + probeScratchBytes;
  const stack = args + 512;
  const offsets = stack + 2_048;
  const addresses = offsets + 2_048;
  const table = pageBytes;
  const records = 2 * pageBytes;
  const chunk = 3 * pageBytes;
  const lists = 4 * pageBytes;
  const out = 5 * pageBytes;
  const groups = 30;
  for (let i = 0; i < rows; i++) {
    const record = records + i * recordBytes;
    u8.set([1, 12, 32], record);
    u8.set([i >>> 4, i & 15], record + keyFrom);
    u32[addresses / 4 + i] = record;
    u32[offsets / 4 + i] = i * recordBytes + keyFrom;
  }
  u32[offsets / 4 + rows] = rows * recordBytes + keyFrom;
  const groupsFrom = 128;
  const numbersFrom = groupsFrom + groups * groupBytes;
  const recordsFrom = numbersFrom + 4 * rows;
  const setWords = (at: number, words: Record<string, number>, values: Record<string, number>): void => {
    for (const [name, value] of Object.entries(values)) u32[at / 4 + words[name]!] = value;
  };
  const key = records + keyFrom;
  for (let round = 0; round < entryRounds; round++) {
    // Every other round finds the entries of the round before and overwrites them.
    if (round % 2 === 0) {
      u8.fill(0, table, table + numbersFrom);
      setWords(table, memTableWords, { groups, groupsFrom, numbersFrom, recordsFrom, recordsEnd: pageBytes - 64, recordsUsed: recordsFrom, countMax: 288 });
    }
    calls.memTablePut(table, records, rows * recordBytes, rows, scratch);
    // Keys of 12 bytes: the bounds are those of records, so every key is given with the record behind it, but for the first call.
    setWords(args, probeWords, { groupsAt: table + groupsFrom, groups, base: table, limit: pageBytes - 64, keys: records, offsets, count: rows, source: 1 });
    setWords(args, probeWords, {
      outSource: out,
      outAt: out + 1_024,
      outBytes: out + 2_048,
      outKind: out + 4_096,
      outExpiry: out + 8_192,
      outTime: out + 12_288,
      striped: 1,
    });
    u8.fill(255, out, out + rows);
    for (let i = 0; i < rows; i += 2) {
      u32[offsets / 4 + i] = i * recordBytes + keyFrom;
      u32[offsets / 4 + i + 1] = i * recordBytes + keyFrom + 12;
    }
    calls.entryProbe(args, scratch);
    calls.entrySortFill(chunk, addresses, rows);
    calls.entrySortBegin(stack, rows);
    calls.entrySort(chunk, stack, 1 << 20);
    calls.entrySortTake(chunk, rows, 8, addresses);
    calls.memTableItems(table, 0, rows, chunk);
    calls.memTableMerge(table, chunk, 0, out, rows, out + 4_096);
    calls.entriesInOrder(addresses, rows);
    u32.fill(0, lists / 4, (lists + runWriterStateBytes) / 4);
    setWords(lists, runWriterWords, {
      fileAt: blockBytes,
      chunkAt: chunk,
      chunkBytes: pageBytes,
      stageAt: lists + 32_768,
      stageMax: rows,
      crcRoom,
    });
    setWords(lists, runWriterWords, { tableAt: lists + 1_024, checksAt: lists + 2_048, blocksMax: 64, separatorsAt: lists + 4_096, separatorsMax: 4_096 });
    calls.runPack(lists, addresses, rows, 6 * pageBytes - 64);
    calls.runClose(lists);
    calls.runIndexBuild(lists + 32_768, rows, lists + 49_152, groups);
    setWords(args, indexProbeWords, { groupsAt: lists + 49_152, groups, keys: records, offsets, count: rows, table: lists + 1_024, seedLow: 0, seedHigh: 0 });
    setWords(args, indexProbeWords, { blocks: 4, separators: lists + 4_096, separatorsBytes: 4_096, outBlocks: out, striped: 1 });
    u32.fill(absentBlock, out / 4, out / 4 + rows);
    calls.indexProbe(args, scratch);
    calls.crc32cBlocks(crcRoom, chunk, blockBytes, 16, out);
    calls.crc32c(crcRoom, chunk, 4 * blockBytes, round);
    // Rows of four columns of four bytes.
    for (let i = 0; i < rows; i++) {
      u32[out / 4 + 256 + i] = key + i * recordBytes + 12;
      u32[out / 4 + 512 + i] = 32;
    }
    u8.fill(1, out, out + rows);
    setWords(args, gatherWords, {
      count: rows,
      source: 1,
      sources: out,
      ats: out + 1_024,
      lengths: out + 2_048,
      bytesMin: 32,
      mask: 0,
      match: 0,
      touched: out + 3_072,
    });
    setWords(args, gatherWords, {
      fields: lists,
      fieldCount: 4,
      spans: lists + 512,
      spanCount: 2,
      requiredFrom: 0,
      requiredAt: stack,
      requiredBytes: 0,
      memoryEnd: 6 * pageBytes - 64,
    });
    for (let f = 0; f < 4; f++)
      u32.set([8 * f, 4, out + 8_192 + 4 * f, 16, round % 3 === 0 ? f : 0xffffffff, out + 16_384 + 64 * f, stack, 0], lists / 4 + 8 * f);
    u32.set([0, 4, out + 8_192, 16, 8, 12, out + 8_196, 16], (lists + 512) / 4);
    u8[stack] = 1;
    setWords(args, gatherWords, { requiredBytes: round % 3 === 0 ? 1 : 0 });
    calls.gatherFields(args);
  }
}
