// Calls each kernel until the engine has compiled it for speed.
// Why: V8 starts WebAssembly in its baseline tier, 3-10x slower, and recompiles a function after it has done a certain amount of work. A
// process that serves from its first second must not pay for that in its first requests.
// How much: V8 recompiles a function after a budget of work (--wasm-tiering-budget, 13 million units, about a byte of code run each); 400 rounds
// over 256 rows pass it for each kernel. The fast code is compiled on another thread, so the first calls may still meet the slow one.
// Cost: about 90 ms of CPU, once a process and variant (18-23 ms measured before the calls on parameters and entries came); call `kernels()` at
// start, not on a serving loop.

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
import { codeCount, codePointsBytes, ivfWords } from "./ivf-layout.ts";
import { roundUp } from "./kernel-memory.ts";
import type { Kernels } from "./kernels.ts";
import { bucketWord, formatParameterShard, shardScratch, shardWord } from "./parameter-shard-layout.ts";
import { formatShardMachine, shardMachineBytes, type ShardMachineShape, shardOfMachine } from "./shard-machine-layout.ts";
import { warmUpVectors } from "./warm-up-vectors.ts";
import { createWasmMemory, pageBytes } from "./web-assembly.ts";

const rows = 256;
const rowBytes = 64;
const rounds = 400;
/** The calls on parameters run more code a row: every tenth round is enough for them. */
const parameterRounds = rounds / 10;
/** Slots of a row in the calls of factorisation machines; of these the first are linear-only. */
const slotsPerRow = 16;
const linearOnly = 2;

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
  warmUpShard(kernels);
  warmUpMachine(kernels);
  warmUpEntries(kernels);
  warmUpVectors(kernels);
  warmUpIndex(kernels);
}

/** Rows of 16 numbers: half of the keys are written, all are read, some leave. */
function warmUpShard(kernels: Kernels): void {
  const bytes = 6 * pageBytes;
  const memory = createWasmMemory(bytes + 3 * pageBytes);
  const calls = kernels.bind(memory);
  const u32 = new Uint32Array(memory.buffer);
  const shard = pageBytes;
  const scratch = bytes + pageBytes;
  const columns = scratch + shardScratch.writeBytes(16);
  const out = scratch + pageBytes;
  formatParameterShard(u32, shard, { dim: 16, buckets: 4, initial: { seed: 1n, factors: 16, initialScale: 0.1 }, bytes });
  for (let bucket = 0; bucket < 4; bucket++) u32[u32[shard / 4 + shardWord.bucketsAt]! / 4 + 16 * bucket + bucketWord.leadEpoch] = 1;
  for (let i = 0; i < rows; i++) u32.set([i, i], columns / 4 + 2 * i);
  const last = 0xffff_ffff;
  for (let round = 0; round < parameterRounds; round++) {
    calls.shardAssign(shard, columns, rows / 2, out, round, scratch);
    calls.shardAdd(shard, columns, rows / 2, out, round, scratch);
    calls.shardPull(shard, columns, rows, out, 0, 0, scratch);
    calls.narrowHalves(out, 16 * rows, out + 16 * 1_024);
    calls.narrowBytes(out, rows, 16, scratch, out + 16 * 1_024);
    calls.shardChanges(shard, round % 4, 0, 0, last, last, 64, out);
    calls.shardJoin(shard, out, 64, scratch);
    calls.shardDelete(shard, columns, 8, scratch);
    calls.shardCollect(shard, round % 4, last, last, 64, 0);
    calls.shardEvict(shard, rows / 4, 16, round % 2);
    calls.shardExpire(shard, round, 4, 16, 0);
  }
}

/** A machine of the usual shape over a shard: keys are the row numbers, half of the rows leave in each round. */
function warmUpMachine(kernels: Kernels): void {
  const shape: ShardMachineShape = {
    factors: 16,
    capacityRows: rows,
    seed: 1n,
    initialScale: 0.1,
    optimizer: "adagrad",
    rate: { linear: 0.1, factors: 0.1 },
    l2: { linear: 0, factors: 0 },
    initialAccumulator: 0.1,
  };
  const shardShape = shardOfMachine(shape);
  const shard = pageBytes;
  const machine = shard + roundUp(shardShape.bytes, 64);
  const keys = roundUp(machine + shardMachineBytes(shape), pageBytes);
  const weights = keys + rows * 8;
  const offsets = weights + rows * 4;
  const linearEnds = offsets + 1_024;
  const numbers = linearEnds + 1_024;
  const out = keys + pageBytes;
  const scratch = out + pageBytes;
  const memory = createWasmMemory(scratch + pageBytes);
  const calls = kernels.bind(memory);
  const u32 = new Uint32Array(memory.buffer);
  const f32 = new Float32Array(memory.buffer);
  formatParameterShard(u32, shard, shardShape);
  formatShardMachine(u32, machine, shape, shard, true);
  for (let bucket = 0; bucket < shardShape.buckets!; bucket++) u32[u32[shard / 4 + shardWord.bucketsAt]! / 4 + 16 * bucket + bucketWord.leadEpoch] = 1;
  f32.fill(1, weights / 4, offsets / 4);
  f32.fill(1, numbers / 4, numbers / 4 + rows);
  const samples = rows / slotsPerRow;
  for (let row = 0; row <= samples; row++) {
    u32[offsets / 4 + row] = row * slotsPerRow;
    u32[linearEnds / 4 + row] = row * slotsPerRow + linearOnly;
  }
  for (let round = 0; round < parameterRounds; round++) {
    // Learning uses the keys up.
    for (let i = 0; i < rows; i++) u32.set([i, i], keys / 4 + 2 * i);
    calls.shardLogits(machine, 0, offsets, linearEnds, keys, weights, samples, out, 0, scratch);
    calls.shardSums(machine, offsets, linearEnds, keys, weights, samples, out, 0, scratch);
    calls.shardVectors(machine, offsets, linearEnds, keys, weights, samples, out, 0, scratch);
    calls.shardLearn(machine, offsets, linearEnds, keys, weights, samples, numbers, numbers, numbers, out, 0, scratch);
    calls.shardEvict(shard, rows / 2, rows, 1);
  }
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

const indexRounds = 150;

/** An index of 16 lists of 32 rows of 32 numbers: found, coded and searched, of either form. */
function warmUpIndex(kernels: Kernels): void {
  const dims = 32;
  const lists = 16;
  const slots = 2 * rows;
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
  for (let i = 0; i < (slots + lists) * dims; i++) f32[rowsAt / 4 + i] = Math.sin(i * i);
  for (let i = 0; i < (codeCount(dims) * codePointsBytes) / 4; i++) f32[book / 4 + i] = Math.sin(i);
  for (let list = 0; list <= lists; list++) u32[starts / 4 + list] = 32 * list;
  f32.fill(32, small / 4, small / 4 + lists);
  f32.fill(0.1, small / 4 + lists, small / 4 + 2 * lists);
  f32.fill(0, small / 4 + 2 * lists, small / 4 + 4 * lists);
  for (let round = 0; round < indexRounds; round++) {
    calls.centroidsTranspose(centroids, lists, bytes, blocks);
    calls.centroidsNearest(rowsAt, rows, bytes, blocks, lists, small + 8 * lists, listOf, scores);
    calls.centroidsAdd(rowsAt, lists, bytes, listOf, scratch, scores);
    calls.floatsFinite(rowsAt, slots * dims);
    if (round % 10 === 0) {
      for (let block = 0; block < slots / 32; block++) u32[listOf / 4 + block] = block;
      calls.codes4Learn(rowsAt, rows / 8, bytes, book, sums, heap);
      calls.codes4Encode(rowsAt, slots / 32, bytes, listOf, centroids, book, codeCount(dims), codes, bias, heap);
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
    };
    for (const [name, value] of Object.entries(words)) u32[args / 4 + ivfWords[name as keyof typeof ivfWords]] = value;
    f32[args / 4 + ivfWords.queryLength] = 4;
    f32[args / 4 + ivfWords.margin] = 4;
    f32[args / 4 + ivfWords.slack] = 0.5;
    f32[args / 4 + ivfWords.fall] = 2;
    calls.topKReset(heap, 8);
    calls.ivfSearch(args);
    calls.topKSort(heap);
  }
}
