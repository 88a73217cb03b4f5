// Calls each kernel until the engine has compiled it for speed.
// Why: V8 starts WebAssembly in its baseline tier, 3-10x slower, and recompiles a function after it has done a certain amount of work. A
// process that serves from its first second must not pay for that in its first requests.
// How much: V8 recompiles a function after a budget of work (--wasm-tiering-budget, 13 million units, about a byte of code run each); 400 rounds
// over 256 rows pass it for each kernel. The fast code is compiled on another thread, so the first calls may still meet the slow one.
// Cost: about 30 ms of CPU, once a process and variant (18-23 ms measured before the calls on parameters came, which add a half); call `kernels()` at
// start, not on a serving loop.

import type { KernelCalls } from "./kernel-calls.ts";
import type { Kernels } from "./kernels.ts";
import { formatParameterTable, type ParameterShape } from "./parameter-layout.ts";
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
  const memory = createWasmMemory(5 * pageBytes);
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
  warmUpParameters(calls, u32, f32);
}

/** The usual shape, 16 factors and a weight under AdaGrad; keys are the row numbers, half of them new in each round. */
function warmUpParameters(calls: KernelCalls, u32: Uint32Array, f32: Float32Array): void {
  const shape: ParameterShape = {
    dims: 17,
    factors: 16,
    capacityRows: rows,
    seed: 1n,
    initialScale: 0.1,
    optimizer: "adagrad",
    rate: { linear: 0.1, factors: 0.1 },
    l2: { linear: 0, factors: 0 },
    initialAccumulator: 0.1,
  };
  // A page each for results, scratch, arguments and (the last of five) the table.
  const out = 0;
  const scratch = pageBytes;
  const keys = 2 * pageBytes;
  const weights = keys + rows * 8;
  const offsets = weights + rows * 4;
  const linearEnds = offsets + 1_024;
  const numbers = linearEnds + 1_024;
  const merge = numbers + rows * 4;
  const table = 4 * pageBytes;
  formatParameterTable(u32, table, shape);
  f32.fill(0, out / 4, scratch / 4);
  f32.fill(1, weights / 4, offsets / 4);
  f32.fill(1, numbers / 4, merge / 4);
  const samples = rows / slotsPerRow;
  for (let row = 0; row <= samples; row++) {
    u32[offsets / 4 + row] = row * slotsPerRow;
    u32[linearEnds / 4 + row] = row * slotsPerRow + linearOnly;
  }
  for (let i = 0; i < rows; i++) u32.set([i, i], keys / 4 + 2 * i);
  for (let round = 0; round < parameterRounds; round++) {
    calls.parametersTruncate(table, rows / 2);
    calls.fmLearn(table, offsets, linearEnds, keys, weights, samples, numbers, numbers, numbers, out, scratch);
    calls.fmLogits(table, 0, offsets, linearEnds, keys, weights, samples, out, scratch);
    calls.fmSums(table, offsets, linearEnds, keys, weights, samples, out, scratch);
    calls.fmVectors(table, offsets, linearEnds, keys, weights, samples, out, scratch);
    calls.parametersPull(table, keys, rows, out, scratch);
    calls.parametersAssign(table, keys, rows, out, scratch);
    calls.parametersPush(table, keys, rows, out, merge, 2 * rows - 1, scratch);
  }
  calls.parametersFinite(table);
}
