// Attributes of a version in files, and loaded: `attributes.NAME.npy`, one array a file. Layout: docs/format/vector-attributes.md. A version without attributes has none of them.
// Why numbers, codes and orders lie in the segment's memory: kernels see one memory, and it is leased and given back as one. Texts and dictionaries, which no kernel reads, lie outside.
// Invariants: 1. whatever the files hold, loading ends with columns that are what the format says, or throws `corrupt`: codes, orders and offsets are all checked
//             2. what is loaded never changes.
// Cost: a pass over each array: some 2 ns a number. Concurrency: one thread; lets go between files.

import { MillraceError } from "#base/errors";
import { type KernelMemory, roundUp } from "#kernel/kernel-memory";
import { npyHead } from "#params/npy-exchange";
import type { Files } from "#platform/files";
import { AttributeColumn, nanHigh } from "./attribute-column.ts";
import { type AttributeArrays, type AttributeHead, buildAttributes, type ColumnHead } from "./attribute-build.ts";
import { attributeLimits, type AttributeSource } from "./attribute-columns.ts";
import { valueOfJson } from "./filter-values.ts";
import { compareBytes, ValueDictionary } from "./value-dictionary.ts";

const headBytes = 128;
const pieceBytes = 1 << 20;
const headJsonBytesMax = 1 << 16;

const arrays = {
  head: { kind: "|u1", bytes: 1 },
  numbers: { kind: "<f8", bytes: 8 },
  codes: { kind: "<u4", bytes: 4 },
  order: { kind: "<u4", bytes: 4 },
  dictionary: { kind: "|u1", bytes: 1 },
  "dictionary-offsets": { kind: "<u4", bytes: 4 },
  texts: { kind: "|u1", bytes: 1 },
  "text-offsets": { kind: "<u4", bytes: 4 },
} as const;
type ArrayName = keyof typeof arrays;

/** Name of the file of an array. */
export function attributeFile(name: ArrayName): string {
  return `attributes.${name}.npy`;
}

/**
 * Writes the attributes of a version into a folder that exists; returns the files and how many elements each has, nothing when no row has attributes.
 * `rowOf`: slot -> row of `texts`, 0xFFFFFFFF for padding.
 */
export async function writeAttributes(
  rowOf: Uint32Array,
  texts: readonly (string | undefined)[] | undefined,
  files: Files,
  folder: string,
): Promise<readonly { readonly name: string; readonly rows: number }[]> {
  if (texts?.some((text) => text !== undefined && text !== "") !== true) return [];
  return writeAttributeArrays(buildAttributes(rowOf, texts), files, folder);
}

/** As writeAttributes, of arrays that were built. */
export async function writeAttributeArrays(
  built: AttributeArrays,
  files: Files,
  folder: string,
): Promise<readonly { readonly name: string; readonly rows: number }[]> {
  const written: { name: string; rows: number }[] = [];
  const parts: Record<ArrayName, Uint8Array | Uint32Array | Float64Array> = {
    head: new TextEncoder().encode(JSON.stringify(built.head)),
    numbers: built.numbers,
    codes: built.codes,
    order: built.order,
    dictionary: built.dictionary,
    "dictionary-offsets": built.dictionaryOffsets,
    texts: built.texts,
    "text-offsets": built.textOffsets,
  };
  for (const [name, array] of Object.entries(parts) as [ArrayName, Uint8Array | Uint32Array | Float64Array][]) {
    const path = files.join(folder, attributeFile(name));
    await files.remove(path);
    const file = await files.open(path, "create");
    if (file === undefined) throw new MillraceError("unavailable", `${path} cannot be made`, { todo: "look at the folder of builds" });
    try {
      await file.write(npyHead(arrays[name].kind, [array.length]), 0);
      const bytes = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
      for (let at = 0; at < bytes.length; at += pieceBytes) await file.write(bytes.subarray(at, at + pieceBytes), headBytes + at);
      await file.sync();
    } finally {
      await file.close();
    }
    written.push({ name: attributeFile(name), rows: array.length });
  }
  await files.syncFolder(folder);
  return written;
}

function corrupt(name: ArrayName, why: string): MillraceError {
  return new MillraceError("corrupt", `${attributeFile(name)} ${why}`, { todo: "fetch or build the version again" });
}

/** Elements of an array's file, which is whole; undefined where there is none. */
async function lengthOf(files: Files, path: string, name: ArrayName): Promise<number | undefined> {
  const size = await files.sizeOf(path);
  if (size === undefined) return undefined;
  const length = (size - headBytes) / arrays[name].bytes;
  if (!Number.isInteger(length) || length < 0) throw corrupt(name, `has ${size} bytes`);
  return length;
}

/** Reads an array whose length is known into `into`, bytes. */
async function readInto(files: Files, path: string, name: ArrayName, into: Uint8Array): Promise<void> {
  const file = await files.open(path, "read");
  if (file === undefined) throw corrupt(name, "is missing");
  try {
    const head = new Uint8Array(headBytes);
    const length = into.length / arrays[name].bytes;
    if ((await file.read(head, 0)) !== headBytes || compareBytes(head, npyHead(arrays[name].kind, [length])) !== 0) {
      throw corrupt(name, `does not begin as ${length} values of ${arrays[name].kind} do`);
    }
    const piece = new Uint8Array(Math.min(pieceBytes, into.length));
    for (let at = 0; at < into.length;) {
      const read = await file.read(piece.subarray(0, Math.min(piece.length, into.length - at)), headBytes + at);
      if (read === 0) throw corrupt(name, "is cut short");
      into.set(piece.subarray(0, read), at);
      at += read;
    }
  } finally {
    await file.close();
  }
}

type PathOf = (name: string) => string;

async function readHead(files: Files, pathOf: PathOf): Promise<AttributeHead | undefined> {
  const path = pathOf(attributeFile("head"));
  const length = await lengthOf(files, path, "head");
  if (length === undefined) return undefined;
  if (length > headJsonBytesMax) throw corrupt("head", `holds ${length} bytes`);
  const bytes = new Uint8Array(length);
  await readInto(files, path, "head", bytes);
  let json: unknown;
  try {
    json = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (cause) {
    throw new MillraceError("corrupt", `${attributeFile("head")} holds no JSON`, { todo: "fetch or build the version again", cause });
  }
  return checkHead(json);
}

function checkHead(json: unknown): AttributeHead {
  const whole = (value: unknown): value is number => typeof value === "number" && Number.isInteger(value) && value >= 0 && value <= 0xffff_ffff;
  const record = (value: unknown): value is Record<string, unknown> => typeof value === "object" && value !== null;
  if (!record(json) || json["version"] !== 1) throw corrupt("head", "is of a version that is not known");
  const { slots, complete, columns } = json;
  if (!whole(slots) || slots > attributeLimits.slotsMax || typeof complete !== "boolean" || !Array.isArray(columns)) throw corrupt("head", "lacks its fields");
  if (columns.length > attributeLimits.columnsMax) throw corrupt("head", `names ${columns.length} columns`);
  const names = new Set<string>();
  for (const column of columns as unknown[]) {
    if (!record(column)) throw corrupt("head", "names a column that is none");
    const { name, kind, others, onlyTexts, values, ordered } = column;
    const known = typeof name === "string" && !names.has(name) && (kind === "numbers" || kind === "codes") && typeof onlyTexts === "boolean";
    if (!known || !whole(others) || !whole(values) || !whole(ordered) || ordered > slots || others > slots || values > slots) {
      throw corrupt("head", "names a column that cannot be");
    }
    names.add(name);
  }
  return json as unknown as AttributeHead;
}

/** Bytes of the segment's memory that the attributes of a version take: `extraBytes` of loadSegment. 0: it has none. */
export async function attributeRoom(files: Files, pathOf: PathOf): Promise<number> {
  const head = await readHead(files, pathOf);
  if (head === undefined) return 0;
  const { numbers, codes, order } = lengthsOf(head);
  return roundUp(numbers * 8, 64) + roundUp(codes * 4, 64) + roundUp(order * 4, 64);
}

function lengthsOf({ slots, columns }: AttributeHead): { readonly numbers: number; readonly codes: number; readonly order: number; readonly values: number } {
  const ofKind = (kind: ColumnHead["kind"]): number => columns.reduce((sum, column) => sum + (column.kind === kind ? slots : 0), 0);
  const sum = (count: (column: ColumnHead) => number): number => columns.reduce((total, column) => total + count(column), 0);
  return { numbers: ofKind("numbers"), codes: ofKind("codes"), order: sum(({ ordered }) => ordered), values: sum(({ values }) => values) };
}

/** Loads the attributes of a version into the room at `at` (64-aligned) of a memory, `room` bytes. Undefined: the version has none. */
export async function loadAttributes(
  files: Files,
  pathOf: PathOf,
  place: { readonly memory: KernelMemory; readonly at: number; readonly room: number; readonly slots: number },
): Promise<StoredAttributes | undefined> {
  const head = await readHead(files, pathOf);
  if (head === undefined) return undefined;
  const lengths = lengthsOf(head);
  if (head.slots !== place.slots) throw corrupt("head", `is of ${head.slots} slots, the segment has ${place.slots}`);
  if ((await attributeRoom(files, pathOf)) > place.room) {
    throw new MillraceError("internal", `attributes in a room of ${place.room} bytes`, { todo: "reserve attributeRoom bytes" });
  }
  const { buffer } = place.memory.memory;
  const read = async (name: ArrayName, length: number | undefined, at?: number): Promise<Uint8Array> => {
    const path = pathOf(attributeFile(name));
    const found = await lengthOf(files, path, name);
    if (found === undefined) throw corrupt(name, "is missing");
    if (length !== undefined && found !== length) throw corrupt(name, `holds ${found} values, ${length} are named`);
    const bytes = at === undefined ? new Uint8Array(found * arrays[name].bytes) : new Uint8Array(buffer, at, found * arrays[name].bytes);
    await readInto(files, path, name, bytes);
    return bytes;
  };
  const numbersAt = place.at;
  const codesAt = numbersAt + roundUp(lengths.numbers * 8, 64);
  const orderAt = codesAt + roundUp(lengths.codes * 4, 64);
  await read("numbers", lengths.numbers, numbersAt);
  await read("codes", lengths.codes, codesAt);
  await read("order", lengths.order, orderAt);
  const dictionary = await read("dictionary", undefined);
  const dictionaryOffsets = new Uint32Array((await read("dictionary-offsets", lengths.values + 1)).buffer);
  const texts = await read("texts", undefined);
  const textOffsets = new Uint32Array((await read("text-offsets", head.slots + 1)).buffer);
  checkOffsets("dictionary-offsets", dictionaryOffsets, dictionary.length);
  checkOffsets("text-offsets", textOffsets, texts.length);

  const columns: AttributeColumn[] = [];
  const next = { numbers: numbersAt, codes: codesAt, order: orderAt, value: 0 };
  for (const column of head.columns) {
    const { slots } = head;
    const values = { bytes: dictionary, offsets: dictionaryOffsets.subarray(next.value, next.value + column.values + 1) };
    next.value += column.values;
    checkDictionary(values, column);
    const order = column.ordered === 0 ? undefined : new Uint32Array(buffer, next.order, column.ordered);
    next.order += 4 * column.ordered;
    const at = column.kind === "numbers" ? next.numbers : next.codes;
    if (column.kind === "numbers") next.numbers += 8 * slots;
    else next.codes += 4 * slots;
    const own = column.kind === "numbers" ? { numbers: new Float64Array(buffer, at, slots) } : { codes: new Uint32Array(buffer, at, slots) };
    const loaded = new AttributeColumn(
      column.name,
      column.kind,
      { ...own, at, ...(order === undefined ? {} : { order }) },
      new ValueDictionary(values, column.onlyTexts),
      column.others,
    );
    checkColumn(loaded, column);
    columns.push(loaded);
  }
  return new StoredAttributes(head, columns, texts, textOffsets);
}

function checkOffsets(name: ArrayName, offsets: Uint32Array, bytes: number): void {
  let before = 0;
  for (const offset of offsets) {
    if (offset < before) throw corrupt(name, "does not ascend");
    before = offset;
  }
  if (offsets[0] !== 0 || before !== bytes) throw corrupt(name, `ends at ${before} of ${bytes} bytes`);
}

function checkDictionary({ bytes, offsets }: { readonly bytes: Uint8Array; readonly offsets: Uint32Array }, { onlyTexts }: ColumnHead): void {
  const decoder = new TextDecoder("utf-8", { fatal: true });
  let before: Uint8Array | undefined;
  for (let i = 0; i + 1 < offsets.length; i++) {
    const own = bytes.subarray(offsets[i], offsets[i + 1]);
    if (before !== undefined && compareBytes(before, own) >= 0) throw corrupt("dictionary", "is not in order");
    before = own;
    let value: unknown;
    try {
      value = JSON.parse(decoder.decode(own));
    } catch {
      throw corrupt("dictionary", "holds what is no JSON");
    }
    if (valueOfJson(value) === undefined || typeof value === "boolean" || (onlyTexts && typeof value !== "string")) {
      throw corrupt("dictionary", "holds a value that none can be");
    }
  }
}

function checkColumn(column: AttributeColumn, { values, others, ordered }: ColumnHead): void {
  const { numbers, words, codes, order, kind } = column;
  let [boxed, present] = [0, 0];
  if (kind === "codes") {
    for (const code of codes) {
      if (code > values) throw corrupt("codes", "holds a code that no value has");
      if (code !== 0) present++;
    }
  } else {
    for (let slot = 0; slot < numbers.length; slot++) {
      const number = numbers[slot]!;
      if (number === number) {
        present++;
        continue;
      }
      if (words[2 * slot + 1] !== nanHigh || words[2 * slot]! > values) throw corrupt("numbers", "holds a NaN that stands for no value");
      if (words[2 * slot] !== 0) boxed++;
    }
  }
  if (boxed !== others) throw corrupt("head", `says that ${others} values of a column are no numbers, ${boxed} are none`);
  if (order === undefined) return;
  if (ordered !== present || boxed > 0) throw corrupt("order", `of ${ordered} slots for a column with ${present} values`);
  // Ascending by value, then by slot: so each slot stands in it once, and, as many as there are, all do.
  let before = -1;
  for (const slot of order) {
    const ascends = slot < (kind === "codes" ? codes.length : numbers.length) && (before < 0 || comesAfter(column, before, slot));
    const isThere = kind === "codes" ? codes[slot] !== 0 : numbers[slot] === numbers[slot];
    if (!ascends || !isThere) throw corrupt("order", "is none of its column");
    before = slot;
  }
}

function comesAfter({ kind, codes, numbers }: AttributeColumn, before: number, slot: number): boolean {
  const [a, b] = kind === "codes" ? [codes[before]!, codes[slot]!] : [numbers[before]!, numbers[slot]!];
  return a < b || (a === b && (before < slot || (a === 0 && Object.is(a, -0) && !Object.is(b, -0))));
}

/** Attributes that files held. They never change. */
export class StoredAttributes implements AttributeSource {
  readonly slots: number;
  readonly complete: boolean;
  readonly #columns: ReadonlyMap<string, AttributeColumn>;
  readonly #texts: Uint8Array;
  readonly #offsets: Uint32Array;
  readonly #decoder = new TextDecoder("utf-8", { ignoreBOM: true });

  constructor(head: AttributeHead, columns: readonly AttributeColumn[], texts: Uint8Array, offsets: Uint32Array) {
    this.slots = head.slots;
    this.complete = head.complete;
    this.#columns = new Map(columns.map((column) => [column.name, column]));
    this.#texts = texts;
    this.#offsets = offsets;
  }

  /** Outside the segment's memory, about. */
  get bytes(): number {
    return this.#texts.length + 4 * this.#offsets.length;
  }

  column(name: string): AttributeColumn | undefined {
    return this.#columns.get(name);
  }

  hasText(slot: number): boolean {
    return this.#offsets[slot + 1]! > this.#offsets[slot]!;
  }

  textOf(slot: number): string | undefined {
    return this.hasText(slot) ? this.#decoder.decode(this.#texts.subarray(this.#offsets[slot], this.#offsets[slot + 1])) : undefined;
  }
}
