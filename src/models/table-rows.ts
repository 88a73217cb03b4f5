// The parameters of a factorisation machine in a parameter table of their own: the kernels of factorisation.ts over a ParameterTable.
// Concurrency, limits: those of the table.

import { parameterScratch } from "#kernel/kernel-calls";
import type { KernelMemory } from "#kernel/kernel-memory";
import { type ParameterShape, ParameterTable } from "#params/parameter-table";
import type { FactorRows, SlotPlaces } from "./factor-rows.ts";

export class TableRows implements FactorRows {
  readonly table: ParameterTable;
  readonly #memory: KernelMemory;

  constructor(memory: KernelMemory, table: ParameterTable) {
    this.#memory = memory;
    this.table = table;
  }

  static bytesFor(shape: ParameterShape): number {
    return ParameterTable.bytesFor(shape);
  }

  static create(memory: KernelMemory, shape: ParameterShape): TableRows {
    return new TableRows(memory, ParameterTable.create(memory, shape));
  }

  get at(): number {
    return this.table.at;
  }
  get factors(): number {
    return this.table.factors;
  }
  get dims(): number {
    return this.table.dims;
  }
  get rowCount(): number {
    return this.table.rowCount;
  }
  get capacityRows(): number {
    return this.table.capacityRows;
  }
  get refused(): number {
    return this.table.refused;
  }
  get skipped(): number {
    return this.table.skipped;
  }

  scratchBytes(longest: number, learns: boolean): number {
    const { baseBytes, slotBytes, groupSlots } = parameterScratch;
    return learns ? baseBytes + (slotBytes + 4 * (this.factors + 4)) * longest : baseBytes + slotBytes * Math.max(longest, groupSlots);
  }

  learn({ offsets, linearEnds, keys, weights, rows, scratch }: SlotPlaces, labels: number, importance: number, shifts: number, logits: number): void {
    this.#memory.calls.fmLearn(this.at, offsets, linearEnds, keys, weights, rows, labels, importance, shifts, logits, scratch);
  }

  logits({ offsets, linearEnds, keys, weights, rows, scratch }: SlotPlaces, start: number, logits: number): void {
    this.#memory.calls.fmLogits(this.at, start, offsets, linearEnds, keys, weights, rows, logits, scratch);
  }

  sums({ offsets, linearEnds, keys, weights, rows, scratch }: SlotPlaces, out: number): void {
    this.#memory.calls.fmSums(this.at, offsets, linearEnds, keys, weights, rows, out, scratch);
  }

  vectors({ offsets, linearEnds, keys, weights, rows, scratch }: SlotPlaces, out: number): void {
    this.#memory.calls.fmVectors(this.at, offsets, linearEnds, keys, weights, rows, out, scratch);
  }

  pull(keys: Uint32Array, count: number, into: Float32Array): number {
    return this.table.pull(keys, count, into);
  }

  assign(keys: Uint32Array, count: number, values: Float32Array): number {
    return this.table.assign(keys, count, values);
  }

  finite(): boolean {
    return this.table.finite();
  }

  save(): Uint8Array[] {
    return this.table.save();
  }

  load(parts: readonly Uint8Array[]): void {
    this.table.load(parts);
  }
}
