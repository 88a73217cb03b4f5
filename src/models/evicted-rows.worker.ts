// The reader of the test for rows that leave and whose places are used again: scores rows of slots until it is told to stop. Nothing is ever learned (rates of 0), so each
// logit must be that of an empty machine, whatever rows come and go: any other was made of a row of another key.

import { SlotRows } from "#extract/slot-rows";
import { KernelMemory } from "#kernel/kernel-memory";
import { type KernelVariant, kernels } from "#kernel/kernels";
import type { WasmMemory } from "#kernel/web-assembly";
import type { WorkerBody } from "#platform/workers";
import { FactorisationMachine, type FmOptions } from "./factorisation-machine.ts";

export interface EvictionTask {
  readonly memory: WasmMemory;
  readonly at: number;
  readonly lane: number;
  readonly variant: KernelVariant;
  readonly options: FmOptions;
  readonly keys: number;
  /** [0] = 1: stop. [lane]: logits compared so far. */
  readonly progress: Int32Array;
}

export interface EvictionReport {
  readonly logits: number;
  readonly wrong: number;
}

const body: WorkerBody = async ({ port, data }) => {
  const { memory, at, lane, variant, options, keys, progress } = data as EvictionTask;
  const own = KernelMemory.create({ dataBytes: FactorisationMachine.bytesFor(options) }, kernels(variant));
  const untouched = FactorisationMachine.create(own, options);
  const machine = FactorisationMachine.attach(KernelMemory.attach(memory, lane, kernels(variant)), at);
  const rows = new SlotRows();
  for (let row = 0; row < 64; row++) {
    for (let slot = 0; slot < 12; slot++) rows.addFull((row * 31 + slot * 7_919) % keys, 3, 1 + slot / 8);
    rows.endRow();
  }
  const expected = new Float32Array(rows.rows);
  untouched.evaluate(rows, expected);
  const logits = new Float32Array(rows.rows);
  let count = 0;
  let wrong = 0;
  port.send("ready");
  while (Atomics.load(progress, 0) === 0) {
    machine.evaluate(rows, logits);
    for (let row = 0; row < rows.rows; row++) if (logits[row] !== expected[row]) wrong++;
    count += rows.rows;
    Atomics.store(progress, lane, count);
  }
  port.send({ logits: count, wrong } satisfies EvictionReport);
};

export default body;
