// The distinct values of a column that are no plain numbers (texts, null, lists; in a column of codes numbers too), each with a code from 1 on; 0 means missing.
// The first ones come from a file: canonical JSON texts in ascending order of their bytes, found by binary search, so loading builds no map. Later ones are kept in a map behind them.
// Cost: `find` some 20 comparisons; a value is parsed when it is asked for, and kept when the dictionary is small. Limits: 2^31 codes, 4 GiB of text from a file.

import type { FilterValue } from "./filter-values.ts";
import { numberOf } from "./filter-values.ts";

/** Up to so many values of a file are kept parsed. */
const keptMax = 65_536;

/** One text for each value, and the same for equal values only: JSON, but -0 and infinities keep what they are. */
export function canonicalText(value: FilterValue): string {
  if (typeof value === "number") return Object.is(value, -0) ? "-0" : value === Infinity ? "1e999" : value === -Infinity ? "-1e999" : String(value);
  if (typeof value === "string" || value === null) return JSON.stringify(value);
  return `[${value.map(canonicalText).join(",")}]`;
}

/** What a file holds of a dictionary: code c is the text from `offsets[c - 1]` up to `offsets[c]`. */
export interface DictionaryTexts {
  readonly bytes: Uint8Array;
  readonly offsets: Uint32Array;
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();
const noTexts: DictionaryTexts = { bytes: new Uint8Array(0), offsets: new Uint32Array(1) };

export function compareBytes(a: Uint8Array, b: Uint8Array): number {
  const common = Math.min(a.length, b.length);
  for (let i = 0; i < common; i++) if (a[i] !== b[i]) return a[i]! - b[i]!;
  return a.length - b.length;
}

export class ValueDictionary {
  readonly #texts: DictionaryTexts;
  readonly #stored: number;
  readonly #kept: FilterValue[] | undefined;
  readonly #added: FilterValue[] = [];
  readonly #codes = new Map<string, number>();
  #numbers = new Float64Array(16).fill(Number.NaN);
  #numbersKnown = 0;
  #onlyTexts: boolean;

  /** `onlyTexts`: no stored value is anything but a text. */
  constructor(texts: DictionaryTexts = noTexts, onlyTexts = true) {
    this.#texts = texts;
    this.#stored = texts.offsets.length - 1;
    this.#onlyTexts = onlyTexts;
    if (this.#stored <= keptMax) {
      this.#kept = [];
      for (let code = 1; code <= this.#stored; code++) this.#kept.push(this.#parse(code));
    }
  }

  /** Codes 1 to size. */
  get size(): number {
    return this.#stored + this.#added.length;
  }

  /** Of values from a file: those codes ascend with the values' bytes. */
  get stored(): number {
    return this.#stored;
  }

  get onlyTexts(): boolean {
    return this.#onlyTexts;
  }

  valueOf(code: number): FilterValue {
    if (code > this.#stored) return this.#added[code - this.#stored - 1]!;
    return this.#kept === undefined ? this.#parse(code) : this.#kept[code - 1]!;
  }

  /** Numbers that the values count as, by code; [0] is not used. Valid until a value is added. */
  numbers(): Float64Array {
    if (this.#numbers.length < this.size + 1) {
      const wider = new Float64Array(Math.max(this.size + 1, 2 * this.#numbers.length)).fill(Number.NaN);
      wider.set(this.#numbers);
      this.#numbers = wider;
    }
    for (; this.#numbersKnown < this.size; this.#numbersKnown++) this.#numbers[this.#numbersKnown + 1] = numberOf(this.valueOf(this.#numbersKnown + 1));
    return this.#numbers;
  }

  /** 0: no such value. */
  find(value: FilterValue): number {
    const text = canonicalText(value);
    const added = this.#codes.get(text);
    if (added !== undefined) return added;
    const bytes = encoder.encode(text);
    let low = 0;
    let high = this.#stored;
    while (low < high) {
      const middle = (low + high) >>> 1;
      const order = compareBytes(this.#bytesOf(middle + 1), bytes);
      if (order === 0) return middle + 1;
      if (order < 0) low = middle + 1;
      else high = middle;
    }
    return 0;
  }

  /** Its code; a value that is new gets the next one. */
  codeOf(value: FilterValue): number {
    const known = this.find(value);
    if (known !== 0) return known;
    this.#added.push(value);
    this.#codes.set(canonicalText(value), this.size);
    if (typeof value !== "string") this.#onlyTexts = false;
    return this.size;
  }

  #bytesOf(code: number): Uint8Array {
    const { bytes, offsets } = this.#texts;
    return bytes.subarray(offsets[code - 1], offsets[code]);
  }

  #parse(code: number): FilterValue {
    return JSON.parse(decoder.decode(this.#bytesOf(code))) as FilterValue;
  }
}
