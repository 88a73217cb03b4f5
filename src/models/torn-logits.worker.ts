// The reader of the test for logits of rows that are being written: evaluates, scores and makes vectors until it is told to stop, and keeps what
// does not follow from whole rows.

import { SlotRows } from "#extract/slot-rows";
import { KernelMemory } from "#kernel/kernel-memory";
import { type KernelVariant, kernels } from "#kernel/kernels";
import type { WasmMemory } from "#kernel/web-assembly";
import type { WorkerBody } from "#platform/workers";
import { FactorisationMachine } from "./factorisation-machine.ts";

export interface LogitTask {
  readonly memory: WasmMemory;
  readonly at: number;
  readonly variant: KernelVariant;
  /** [0] = 1: stop. [1] = different logits seen so far. */
  readonly progress: Int32Array;
  /** Key of the row that is written (all numbers equal, whole) and of the one that stays (all ones). */
  readonly written: number;
  readonly still: number;
}

export interface LogitReport {
  readonly logits: number;
  readonly wrong: number;
  readonly different: number;
}

const body: WorkerBody = async ({ port, data }) => {
  const { memory, at, variant, progress, written, still } = data as LogitTask;
  const machine = FactorisationMachine.attach(KernelMemory.attach(memory, 1, kernels(variant)), at);
  const { factors, vectorDims } = machine;
  const row = (...keys: number[]): SlotRows => {
    const rows = new SlotRows();
    for (const key of keys) rows.addFull(key, 0, 1);
    rows.endRow();
    return rows;
  };
  const both = row(written, still);
  const one = row(written);
  const other = row(still);
  const logits = new Float32Array(1);
  const vector = new Float32Array(vectorDims);
  const seen = new Set<number>();
  let count = 0;
  let wrong = 0;
  // Rows (c, ..., c) and (1, ..., 1) with weights c and 0: logit = c * factors + c. All whole numbers, so sums are exact.
  const check = (logit: number): void => {
    count++;
    if (!Number.isInteger(logit / (factors + 1))) wrong++;
    if (seen.size < 1_000) seen.add(logit);
  };
  port.send("ready");
  while (Atomics.load(progress, 0) === 0) {
    machine.evaluate(both, logits);
    check(logits[0]!);
    machine.score(other, one, logits);
    check(logits[0]!);
    machine.score(one, other, logits);
    check(logits[0]!);
    machine.vectors(one, vector);
    if (vector.subarray(0, factors + 1).some((value) => value !== vector[0])) wrong++;
    Atomics.store(progress, 1, seen.size);
  }
  port.send({ logits: count, wrong, different: seen.size } satisfies LogitReport);
};

export default body;
