// Attributes of a version: which fields get a column, in which form, with which order; as arrays for files. Layout: docs/format/vector-attributes.md.
// Choice: the columnsMax fields that most rows have. A field is a column of numbers when most of its values are, else of codes. An order where it can find few rows: always, but where
// a column of numbers holds other values too, or one value is in all rows.
// Cost: a JSON text some 2 us, a column some 50 ns a slot. Concurrency: pure.

import { MillraceError } from "#base/errors";
import type { AttributeColumn } from "./attribute-column.ts";
import { nanHigh } from "./attribute-column.ts";
import { AttributeColumns, attributeLimits } from "./attribute-columns.ts";
import { canonicalText, compareBytes } from "./value-dictionary.ts";

/** Fields that are counted before the columns are chosen. */
const fieldsCountedMax = 4 * attributeLimits.columnsMax;
const noSlot = 0xffff_ffff;

/** What the head says of a column; the places follow from the order of the columns. */
export interface ColumnHead {
  readonly name: string;
  readonly kind: "numbers" | "codes";
  /** Slots of a numbers column whose value is in the dictionary. */
  readonly others: number;
  /** Every value of the dictionary is a text. */
  readonly onlyTexts: boolean;
  /** Values of the dictionary. */
  readonly values: number;
  /** Slots in the order; 0: none. */
  readonly ordered: number;
}

export interface AttributeHead {
  readonly version: 1;
  readonly slots: number;
  /** Every field of every text has a column. */
  readonly complete: boolean;
  readonly columns: readonly ColumnHead[];
}

export interface AttributeArrays {
  readonly head: AttributeHead;
  /** One column after the other, `slots` each, those of kind numbers and those of kind codes. */
  readonly numbers: Float64Array;
  readonly codes: Uint32Array;
  /** One column after the other, `ordered` each. */
  readonly order: Uint32Array;
  /** Values of all dictionaries, JSON, one after the other; value i = bytes `dictionaryOffsets[i]` to `[i + 1]`. */
  readonly dictionary: Uint8Array;
  readonly dictionaryOffsets: Uint32Array;
  /** UTF-8; of slot i the bytes `textOffsets[i]` to `[i + 1]`, none: no attributes. */
  readonly texts: Uint8Array;
  readonly textOffsets: Uint32Array;
}

/** `rowOf`: slot -> input row, 0xFFFFFFFF for padding; `texts` by input row. Throws `invalid` for more than 4 GiB of text. */
export function buildAttributes(rowOf: Uint32Array, texts: readonly (string | undefined)[]): AttributeArrays {
  const slots = rowOf.length;
  const all = new AttributeColumns(fieldsCountedMax);
  const textAt = (slot: number): string | undefined => {
    const row = rowOf[slot]!;
    const text = row === noSlot ? undefined : texts[row];
    return text === "" ? undefined : text;
  };
  // The last one first, so that columns have their size at once.
  if (slots > 0) all.set(slots - 1, undefined);
  for (let slot = 0; slot < slots; slot++) {
    const text = textAt(slot);
    if (text !== undefined) all.set(slot, text);
  }
  const counted = [...all.columns].map((column) => ({ column, present: countPresent(column, slots) })).filter(({ present }) => present.all > 0);
  counted.sort((a, b) => b.present.all - a.present.all || (a.column.name < b.column.name ? -1 : 1));
  const chosen = counted.slice(0, attributeLimits.columnsMax);
  const built = chosen.map(({ column, present }) => buildColumn(column, slots, present));
  const { bytes, offsets } = packTexts(slots, textAt);
  return {
    head: { version: 1, slots, complete: all.complete && chosen.length === counted.length, columns: built.map(({ head }) => head) },
    numbers: joined(
      Float64Array,
      built.map(({ numbers }) => numbers),
    ),
    codes: joined(
      Uint32Array,
      built.map(({ codes }) => codes),
    ),
    order: joined(
      Uint32Array,
      built.map(({ order }) => order),
    ),
    ...packDictionaries(built.map(({ values }) => values)),
    texts: bytes,
    textOffsets: offsets,
  };
}

interface BuiltColumn {
  readonly head: ColumnHead;
  readonly numbers: Float64Array;
  readonly codes: Uint32Array;
  readonly order: Uint32Array;
  readonly values: readonly Uint8Array[];
}

function countPresent(column: AttributeColumn, slots: number): { readonly all: number; readonly numbers: number } {
  let all = 0;
  let numbers = 0;
  for (let slot = 0; slot < slots; slot++) {
    const value = column.valueAt(slot);
    if (value === undefined) continue;
    all++;
    if (typeof value === "number") numbers++;
  }
  return { all, numbers };
}

function buildColumn(column: AttributeColumn, slots: number, present: { readonly all: number; readonly numbers: number }): BuiltColumn {
  const { name } = column;
  const asNumbers = present.numbers * 2 > present.all;
  // Values of the dictionary by their bytes, then their codes by slot.
  const seen = new Map<string, number>();
  const codeAt = new Uint32Array(slots);
  const numbers = new Float64Array(asNumbers ? slots : 0).fill(Number.NaN);
  let onlyTexts = true;
  let others = 0;
  for (let slot = 0; slot < slots; slot++) {
    const value = column.valueAt(slot);
    if (value === undefined) continue;
    if (asNumbers && typeof value === "number") {
      numbers[slot] = value;
      continue;
    }
    others++;
    if (typeof value !== "string") onlyTexts = false;
    const text = canonicalText(value);
    let code = seen.get(text);
    if (code === undefined) seen.set(text, (code = seen.size + 1));
    codeAt[slot] = code;
  }
  const encoder = new TextEncoder();
  const values = [...seen].map(([text, code]) => ({ bytes: encoder.encode(text), code })).sort((a, b) => compareBytes(a.bytes, b.bytes));
  const rank = new Uint32Array(values.length + 1);
  values.forEach(({ code }, i) => (rank[code] = i + 1));
  for (let slot = 0; slot < slots; slot++) codeAt[slot] = rank[codeAt[slot]!]!;
  if (asNumbers && others > 0) {
    const words = new Uint32Array(numbers.buffer);
    for (let slot = 0; slot < slots; slot++) {
      if (codeAt[slot] === 0) continue;
      words[2 * slot] = codeAt[slot]!;
      words[2 * slot + 1] = nanHigh;
    }
  }
  const order = asNumbers ? (others === 0 ? orderOfNumbers(numbers) : new Uint32Array(0)) : orderOfCodes(codeAt, values.length);
  return {
    head: { name, kind: asNumbers ? "numbers" : "codes", others: asNumbers ? others : 0, onlyTexts, values: values.length, ordered: order.length },
    numbers,
    codes: asNumbers ? new Uint32Array(0) : codeAt,
    order,
    values: values.map(({ bytes }) => bytes),
  };
}

/** Slots that have a value by ascending code, equal ones by slot; empty where one value is everywhere. */
function orderOfCodes(codes: Uint32Array, values: number): Uint32Array {
  const starts = new Uint32Array(values + 2);
  for (const code of codes) starts[code + 1]!++;
  const missing = starts[1]!;
  if (values === 1 && missing === 0) return new Uint32Array(0);
  starts[1] = 0;
  for (let code = 1; code <= values; code++) starts[code + 1]! += starts[code]!;
  const order = new Uint32Array(codes.length - missing);
  codes.forEach((code, slot) => {
    if (code !== 0) order[starts[code]!++] = slot;
  });
  return order;
}

/** Slots that have a number by ascending number, equal ones by slot: a sort by four digits of 16 bits. */
function orderOfNumbers(numbers: Float64Array): Uint32Array {
  let slots = new Uint32Array(numbers.length);
  let count = 0;
  for (let slot = 0; slot < numbers.length; slot++) if (numbers[slot] === numbers[slot]) slots[count++] = slot;
  slots = slots.slice(0, count);
  const words = new Uint32Array(numbers.buffer, numbers.byteOffset, numbers.length * 2);
  let from = slots;
  let to = new Uint32Array(count);
  const counts = new Uint32Array(65_536);
  for (let digit = 0; digit < 4; digit++) {
    const wordAt = digit >> 1;
    const shift = (digit & 1) * 16;
    // Bits that ascend as numbers do: a negative one turned over, of any other the sign.
    const digitOf = (slot: number): number => {
      const high = words[2 * slot + 1]!;
      const word = words[2 * slot + wordAt]!;
      const turned = high >>> 31 === 1 ? ~word : wordAt === 1 ? word ^ 0x8000_0000 : word;
      return (turned >>> shift) & 0xffff;
    };
    counts.fill(0);
    for (const slot of from) counts[digitOf(slot)]!++;
    if (count > 0 && counts[digitOf(from[0]!)] === count) continue;
    let sum = 0;
    for (let value = 0; value < 65_536; value++) {
      const here = counts[value]!;
      counts[value] = sum;
      sum += here;
    }
    for (const slot of from) to[counts[digitOf(slot)]!++] = slot;
    [from, to] = [to, from];
  }
  if (count === numbers.length && count > 0 && numbers[from[0]!] === numbers[from[count - 1]!]) return new Uint32Array(0);
  return from;
}

function joined<T extends Float64Array | Uint32Array>(make: new (length: number) => T, parts: readonly T[]): T {
  const whole = new make(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    // Bytes, so that what a NaN holds stays.
    new Uint8Array(whole.buffer).set(new Uint8Array(part.buffer, part.byteOffset, part.byteLength), at * whole.BYTES_PER_ELEMENT);
    at += part.length;
  }
  return whole;
}

function packDictionaries(columns: readonly (readonly Uint8Array[])[]): { readonly dictionary: Uint8Array; readonly dictionaryOffsets: Uint32Array } {
  const values = columns.flat();
  const offsets = new Uint32Array(values.length + 1);
  let sum = 0;
  values.forEach((value, i) => (offsets[i + 1] = sum += value.length));
  if (sum > 0xffff_ffff) throw tooMuch(sum);
  const dictionary = new Uint8Array(sum);
  values.forEach((value, i) => dictionary.set(value, offsets[i]));
  return { dictionary, dictionaryOffsets: offsets };
}

function packTexts(slots: number, textAt: (slot: number) => string | undefined): { readonly bytes: Uint8Array; readonly offsets: Uint32Array } {
  const encoder = new TextEncoder();
  const offsets = new Uint32Array(slots + 1);
  let bytes = new Uint8Array(1 << 16);
  let at = 0;
  for (let slot = 0; slot < slots; slot++) {
    const text = textAt(slot);
    if (text !== undefined) {
      const most = 3 * text.length;
      if (at + most > bytes.length) {
        const wider = new Uint8Array(Math.max(2 * bytes.length, at + most));
        wider.set(bytes);
        bytes = wider;
      }
      at += encoder.encodeInto(text, bytes.subarray(at)).written;
      if (at > 0xffff_ffff) throw tooMuch(at);
    }
    offsets[slot + 1] = at;
  }
  return { bytes: bytes.slice(0, at), offsets };
}

function tooMuch(bytes: number): MillraceError {
  return new MillraceError("invalid", `attributes of ${bytes} bytes in one version`, { todo: "give shorter attributes: 4 GiB are the most" });
}
