// The attributes of many rows by slot: the JSON texts as they were given, and a column for each of the fields that most rows have, for filters.
// Two forms: one that grows (the live tail; what was changed of a base), here, and one that files hold (attribute-files.ts), whose columns lie in the segment's memory and never change.
// Invariants: 1. an answer of `bitmap` and `keep` is that of `Filter.passes` for the slot's text, whatever the types  2. a slot that was never set has no attributes.
// Cost: `set` parses the text, some microseconds; `bitmap` 1 to 5 ns a slot and comparison. A filter by a field without a column (columnsMax) parses each text: a microsecond a slot.
// Concurrency: one thread. Limits: attributeLimits; the bytes of a text are the caller's to bound (vectorLimits.attributesBytesMax).

import { MillraceError } from "#base/errors";
import type { KernelMemory } from "#kernel/kernel-memory";
import { AttributeColumn } from "./attribute-column.ts";
import type { Filter } from "./filter.ts";
import { blockSlots, type FilterPlan, planFilter } from "./filter-plan.ts";
import { fieldsOfText } from "./filter-values.ts";
import { fewSlots } from "./filter-order.ts";
import { planWords, type WordPlan } from "./filter-words.ts";

export const attributeLimits = {
  /** Fields with a column. */
  columnsMax: 32,
  /** Of a field's name; longer ones have no column. */
  nameCharsMax: 256,
  slotsMax: 2 ** 31,
} as const;

/** What filters are asked of: texts and columns. */
export interface AttributeSource {
  /** Slots 0 to slots - 1. */
  readonly slots: number;
  /** Whether every field of every text has a column: a field without one is then nowhere. */
  readonly complete: boolean;
  column(name: string): AttributeColumn | undefined;
  hasText(slot: number): boolean;
  /** Undefined: no attributes. */
  textOf(slot: number): string | undefined;
}

const blockList = new Uint32Array(blockSlots);
const passed = new Uint8Array(blockSlots);

/** Evaluates one filter over a source, blocks at a time. Made for one query: values and columns must not change meanwhile. */
export class SourceFilter {
  readonly #source: AttributeSource;
  readonly #filter: Filter;
  /** Undefined where texts must be read; "none": nothing can pass. */
  readonly #plan: FilterPlan | "none" | undefined;
  readonly #words: WordPlan | undefined;
  readonly #columns: readonly AttributeColumn[];

  constructor(source: AttributeSource, filter: Filter) {
    this.#source = source;
    this.#filter = filter;
    const columns: AttributeColumn[] = [];
    for (const name of filter.fields) {
      const column = source.column(name);
      if (column !== undefined) columns.push(column);
    }
    if (columns.length === filter.fields.length) this.#plan = filter.fields.length === 0 ? undefined : planFilter(filter, columns);
    else this.#plan = source.complete ? "none" : undefined;
    this.#columns = columns;
    this.#words = typeof this.#plan === "object" ? planWords(filter, columns) : undefined;
  }

  /**
   * Where the orders of columns tell that at most `most` rows can pass, writes the bits of all slots to `into` by looking at those alone, and returns true; else does nothing.
   */
  fillFew(into: Uint32Array, most: number): boolean {
    if (typeof this.#plan !== "object") return false;
    const few = fewSlots(this.#filter.root, this.#columns);
    if (few === undefined || few.count > most) return false;
    into.fill(0);
    for (const { order, from, to } of few.parts) {
      for (let start = from; start < to; start += blockSlots) {
        const count = Math.min(blockSlots, to - start);
        for (let i = 0; i < count; i++) blockList[i] = order[start + i]!;
        this.#run(blockList, count, passed);
        for (let i = 0; i < count; i++) if (passed[i] !== 0) into[blockList[i]! >>> 5]! |= 1 << (blockList[i]! & 31);
      }
    }
    return true;
  }

  /**
   * Where one stretch of a column's order holds all that can pass, and no more than `most`, writes the slots that pass to `into` in the order's order and returns how many; else undefined.
   */
  listFew(into: Uint32Array, most: number): number | undefined {
    const few = typeof this.#plan === "object" ? fewSlots(this.#filter.root, this.#columns) : undefined;
    // Several stretches may name a slot twice.
    if (few === undefined || few.count > most || few.parts.length > 1) return undefined;
    let passing = 0;
    for (const { order, from, to } of few.parts) {
      for (let start = from; start < to; start += blockSlots) {
        const count = Math.min(blockSlots, to - start);
        for (let i = 0; i < count; i++) blockList[i] = order[start + i]!;
        this.#run(blockList, count, passed);
        for (let i = 0; i < count; i++) if (passed[i] !== 0) into[passing++] = blockList[i]!;
      }
    }
    return passing;
  }

  /** Nothing passes: a field that no row has. */
  get isEmpty(): boolean {
    return this.#plan === "none";
  }

  /**
   * Bits of the slots from `from` (a multiple of 32) up to before `to`, to `into` from its first word on; returns how many are set. Slots beyond the source's do not pass.
   * `place`: where `into` lies in a kernel memory, when it does; columns in the same memory are then compared by kernels where they can be.
   */
  bitmap(from: number, to: number, into: Uint32Array, place?: { readonly memory: KernelMemory; readonly at: number }): number {
    if (place !== undefined && this.#words !== undefined && to <= this.#source.slots && (to - from) % 32 === 0) {
      this.#words(from, into, place);
      return place.memory.calls.bitsCount(place.at, 0, 0, to - from) >>> 0;
    }
    let passing = 0;
    into.fill(0, 0, Math.ceil((to - from) / 32));
    const end = Math.min(to, this.#source.slots);
    for (let start = from; start < end; start += blockSlots) {
      const count = Math.min(blockSlots, end - start);
      for (let i = 0; i < count; i++) blockList[i] = start + i;
      this.#run(blockList, count, passed);
      const word = (start - from) >>> 5;
      for (let i = 0; i < count; i++) {
        if (passed[i] === 0) continue;
        into[word + (i >>> 5)]! |= 1 << (i & 31);
        passing++;
      }
    }
    return passing;
  }

  /** Moves those of the first `count` slots of a list that pass to its front, in their order; returns how many. All below the source's `slots`. */
  keep(list: Uint32Array, count: number): number {
    let kept = 0;
    for (let start = 0; start < count; start += blockSlots) {
      const block = list.subarray(start, Math.min(count, start + blockSlots));
      this.#run(block, block.length, passed);
      for (let i = 0; i < block.length; i++) if (passed[i] !== 0) list[kept++] = block[i]!;
    }
    return kept;
  }

  passes(slot: number): boolean {
    blockList[0] = slot;
    this.#run(blockList, 1, passed);
    return passed[0] !== 0;
  }

  #run(slots: Uint32Array, count: number, out: Uint8Array): void {
    const source = this.#source;
    if (this.#plan === "none") out.fill(0, 0, count);
    else if (this.#plan !== undefined) this.#plan.run(slots, count, out);
    else if (this.#filter.fields.length === 0) {
      // The same for all that have attributes.
      const answer = this.#filter.passes("{}") ? 1 : 0;
      for (let i = 0; i < count; i++) out[i] = source.hasText(slots[i]!) ? answer : 0;
    } else {
      for (let i = 0; i < count; i++) out[i] = this.#filter.passes(source.textOf(slots[i]!)) ? 1 : 0;
    }
  }
}

/** Attributes that are set one by one. */
export class AttributeColumns implements AttributeSource {
  readonly #texts: (string | undefined)[] = [];
  readonly #columns = new Map<string, AttributeColumn>();
  readonly #columnsMax: number;
  #capacity = 0;
  #complete = true;
  #textChars = 0;

  constructor(columnsMax: number = attributeLimits.columnsMax) {
    this.#columnsMax = columnsMax;
  }

  get slots(): number {
    return this.#texts.length;
  }

  get complete(): boolean {
    return this.#complete;
  }

  /** About. */
  get bytes(): number {
    let bytes = 2 * this.#textChars;
    for (const column of this.#columns.values()) bytes += this.#capacity * (column.kind === "numbers" ? 8 : 4);
    return bytes;
  }

  get columns(): Iterable<AttributeColumn> {
    return this.#columns.values();
  }

  column(name: string): AttributeColumn | undefined {
    return this.#columns.get(name);
  }

  hasText(slot: number): boolean {
    return this.#texts[slot] !== undefined;
  }

  textOf(slot: number): string | undefined {
    return this.#texts[slot];
  }

  /** undefined or "" takes the attributes away. Slots in between come into being without attributes. */
  set(slot: number, text: string | undefined): void {
    if (slot >= attributeLimits.slotsMax)
      throw new MillraceError("invalid", `attributes of slot ${slot}`, { todo: `use slots below ${attributeLimits.slotsMax}` });
    while (this.#texts.length <= slot) this.#texts.push(undefined);
    if (this.#texts.length > this.#capacity) {
      this.#capacity = Math.max(64, this.#texts.length, 2 * this.#capacity);
      for (const column of this.#columns.values()) column.grow(this.#capacity);
    }
    const before = this.#texts[slot];
    const after = text === "" ? undefined : text;
    this.#texts[slot] = after;
    this.#textChars += (after?.length ?? 0) - (before?.length ?? 0);
    if (before !== undefined) for (const column of this.#columns.values()) column.set(slot, undefined);
    const fields = after === undefined ? undefined : fieldsOfText(after);
    if (fields === undefined) return;
    for (const [name, value] of fields) {
      let column = this.#columns.get(name);
      if (column === undefined) {
        if (this.#columns.size >= this.#columnsMax || name.length > attributeLimits.nameCharsMax) {
          this.#complete = false;
          continue;
        }
        column = AttributeColumn.empty(name, typeof value === "number" ? "numbers" : "codes", this.#capacity);
        this.#columns.set(name, column);
      }
      column.set(slot, value);
    }
  }

  /** As SourceFilter.bitmap, for one look. */
  bitmap(filter: Filter, from: number, to: number, into: Uint32Array): number {
    return new SourceFilter(this, filter).bitmap(from, to, into);
  }
}
