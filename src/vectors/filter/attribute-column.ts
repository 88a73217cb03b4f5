// One field of the attributes of many rows, by slot, in a form that is compared without looking at JSON.
//
//   numbers  f64 a slot: the number. What is no number is a NaN whose low word is a code of the dictionary; low word 0 = missing
//   codes    u32 a slot: a code of the dictionary; 0 = missing
//   order    optional, u32: the slots that have a value, by ascending number (of a column of numbers without others), or by ascending code (of a column whose dictionary is a file's)
//
// Why two kinds: numbers are many and different and are compared by size; texts repeat, and a comparison with a code is one instruction. Either kind holds any value, so a field
// whose type changes from row to row is right, only slower. Why an order: a predicate that few rows pass finds them by two binary searches; it costs 4 bytes a row and column.
// Invariants: 1. a stored NaN has the high word `nanHigh`  2. codes are 0 to dictionary.size  3. `others` counts the slots of a numbers column whose value is in the dictionary.

import type { FilterValue } from "./filter-values.ts";
import { ValueDictionary } from "./value-dictionary.ts";

export const nanHigh = 0x7ff8_0000;

/** Equal bits on every machine that runs this: x86 and ARM in their usual mode. */
export type ColumnKind = "numbers" | "codes";

export interface ColumnArrays {
  readonly numbers?: Float64Array;
  readonly codes?: Uint32Array;
  readonly order?: Uint32Array;
  /** Address of numbers or codes in a kernel memory, 0: elsewhere. */
  readonly at?: number;
}

export class AttributeColumn {
  readonly name: string;
  readonly kind: ColumnKind;
  readonly dictionary: ValueDictionary;
  /** Of kind numbers, else empty; and the same bytes as words, low word first. */
  numbers: Float64Array;
  words: Uint32Array;
  /** Of kind codes, else empty. */
  codes: Uint32Array;
  readonly order: Uint32Array | undefined;
  readonly at: number;
  others: number;

  constructor(name: string, kind: ColumnKind, arrays: ColumnArrays, dictionary = new ValueDictionary(), others = 0) {
    this.name = name;
    this.kind = kind;
    this.dictionary = dictionary;
    this.numbers = arrays.numbers ?? new Float64Array(0);
    this.words = new Uint32Array(this.numbers.buffer, this.numbers.byteOffset, this.numbers.length * 2);
    this.codes = arrays.codes ?? new Uint32Array(0);
    this.order = arrays.order;
    this.at = arrays.at ?? 0;
    this.others = others;
  }

  /** A column without values. */
  static empty(name: string, kind: ColumnKind, capacity: number): AttributeColumn {
    const arrays: ColumnArrays = kind === "numbers" ? { numbers: new Float64Array(capacity).fill(Number.NaN) } : { codes: new Uint32Array(capacity) };
    return new AttributeColumn(name, kind, arrays);
  }

  /** Every value that is there is a number. */
  get onlyNumbers(): boolean {
    return this.kind === "numbers" && this.others === 0;
  }

  valueAt(slot: number): FilterValue | undefined {
    let code: number;
    if (this.kind === "numbers") {
      const number = this.numbers[slot]!;
      if (number === number) return number;
      code = this.words[2 * slot]!;
    } else code = this.codes[slot]!;
    return code === 0 ? undefined : this.dictionary.valueOf(code);
  }

  /** Only of columns that grow: an order does not follow. */
  set(slot: number, value: FilterValue | undefined): void {
    if (this.kind === "codes") {
      this.codes[slot] = value === undefined ? 0 : this.dictionary.codeOf(value);
      return;
    }
    const { words } = this;
    if (words[2 * slot + 1] === nanHigh && words[2 * slot] !== 0) this.others--;
    if (typeof value === "number" && value === value) {
      this.numbers[slot] = value;
      return;
    }
    const code = value === undefined ? 0 : this.dictionary.codeOf(value);
    if (code !== 0) this.others++;
    words[2 * slot] = code;
    words[2 * slot + 1] = nanHigh;
  }

  /** Room for `capacity` slots; what is new is missing. */
  grow(capacity: number): void {
    if (this.kind === "codes") {
      const wider = new Uint32Array(capacity);
      wider.set(this.codes);
      this.codes = wider;
      return;
    }
    // Through words: a copy of numbers might change what a NaN holds.
    const wider = new Float64Array(capacity).fill(Number.NaN);
    const words = new Uint32Array(wider.buffer);
    words.set(this.words);
    this.numbers = wider;
    this.words = words;
  }
}
