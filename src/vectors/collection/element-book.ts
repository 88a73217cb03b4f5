// The elements of a tail by row, and the row of an element: UTF-8 bytes, one element behind the other, and tables of row numbers.
// Why not strings in a Map: every collection of the old objects of the thread walks over them, 5 to 10 ms of standing still at 180,000 elements, and an entry takes some 130 bytes.
// Why 512 tables: one that doubles puts everything in anew, milliseconds at 100,000 elements; these do it one after another, some 20 us each.
// Invariants: 1. an element that is there has one row; a row is never given to another element, and its text stays when it is taken out  2. at most half of a table is taken, by rows and by
// what was taken out  3. texts that are the same in UTF-8 are the same element, as in the log and in a base.
// Cost: a look-up encodes and hashes the element and compares about one, 0.2 us; 18 to 26 bytes an element and its text.
// Concurrency: one thread. Limits: elementsMax, textBytesMax.

import { assert } from "#base/errors";

export const elementBookLimits = {
  elementsMax: 2 ** 31 - 2,
  textBytesMax: 2 ** 32 - 1,
} as const;

const tables = 512;
const tableEntriesMin = 8;
/** Texts lie in blocks of so many bytes; a longer text has a block of its own. */
const blockBytes = 1 << 18;
const blockShift = 18;
/** Rows of one piece of what is kept by row. */
const pieceRows = 1 << 12;
const pieceShift = 12;

/** An entry of a table: row + 1, 0 where there is none, `gone` where one was taken out. */
const gone = 0xffff_ffff;

const encoder = new TextEncoder();
const decoder = new TextDecoder();

interface Table {
  entries: Uint32Array;
  /** Entries that are not 0. */
  taken: number;
  there: number;
}

/** Rows `i << pieceShift` and on: where the text begins, its bytes, its hash. */
interface Piece {
  readonly starts: Uint32Array;
  readonly sizes: Uint32Array;
  readonly hashes: Uint32Array;
}

export class ElementBook {
  readonly #tables: Table[] = Array.from({ length: tables }, () => ({ entries: new Uint32Array(tableEntriesMin), taken: 0, there: 0 }));
  readonly #pieces: Piece[] = [];
  /** By the upper bits of a start. A long text takes the numbers of several blocks, the later ones are empty. */
  readonly #blocks: Uint8Array[] = [];
  #end = 0;
  #rows = 0;
  #scratch = new Uint8Array(1_024);
  /** Of the text in the scratch. */
  #size = 0;
  #hash = 0;

  /** Rows that were given out, taken out ones too. */
  get rows(): number {
    return this.#rows;
  }

  /** The row of an element that is there. */
  rowOf(element: string): number | undefined {
    this.#read(element);
    return this.#find();
  }

  /** A new row for an element that is not there. */
  add(element: string): number {
    this.#read(element);
    assert(this.#rows < elementBookLimits.elementsMax, "a tail has less elements than a table can name");
    const row = this.#rows;
    const piece = (this.#pieces[row >>> pieceShift] ??= newPiece());
    const at = row & (pieceRows - 1);
    piece.starts[at] = this.#keep();
    piece.sizes[at] = this.#size;
    piece.hashes[at] = this.#hash;
    const table = this.#tables[this.#hash & (tables - 1)]!;
    if (2 * (table.taken + 1) > table.entries.length) this.#makeRoom(table);
    place(table.entries, this.#hash, row + 1);
    table.taken += 1;
    table.there += 1;
    this.#rows += 1;
    return row;
  }

  /** Takes an element out; false when it was not there. */
  remove(element: string): boolean {
    this.#read(element);
    const row = this.#find();
    if (row === undefined) return false;
    const table = this.#tables[this.#hash & (tables - 1)]!;
    table.entries[this.#entryAt] = gone;
    table.there -= 1;
    return true;
  }

  /** Of a row that was given out. */
  elementOf(row: number): string {
    const { starts, sizes } = this.#pieces[row >>> pieceShift]!;
    const at = row & (pieceRows - 1);
    const block = this.#blocks[starts[at]! >>> blockShift]!;
    const from = starts[at]! & (blockBytes - 1);
    return decoder.decode(block.subarray(from, from + sizes[at]!));
  }

  /** The element's bytes to the scratch, and their hash. */
  #read(element: string): void {
    if (this.#scratch.length < 3 * element.length) this.#scratch = new Uint8Array(3 * element.length);
    const size = encoder.encodeInto(element, this.#scratch).written;
    let hash = size;
    for (let i = 0; i < size; i++) hash = Math.imul(hash ^ this.#scratch[i]!, 0x9e37_79b1);
    hash = Math.imul(hash ^ (hash >>> 15), 0x85eb_ca6b);
    this.#size = size;
    this.#hash = (hash ^ (hash >>> 13)) >>> 0;
  }

  /** Where `#find` found it. */
  #entryAt = 0;

  #find(): number | undefined {
    const { entries } = this.#tables[this.#hash & (tables - 1)]!;
    const mask = entries.length - 1;
    for (let at = (this.#hash >>> 9) & mask; ; at = (at + 1) & mask) {
      const entry = entries[at]!;
      if (entry === 0) return undefined;
      if (entry !== gone && this.#isThat(entry - 1)) {
        this.#entryAt = at;
        return entry - 1;
      }
    }
  }

  /** Whether the text of a row is the one in the scratch. */
  #isThat(row: number): boolean {
    const { starts, sizes, hashes } = this.#pieces[row >>> pieceShift]!;
    const at = row & (pieceRows - 1);
    if (hashes[at] !== this.#hash || sizes[at] !== this.#size) return false;
    const block = this.#blocks[starts[at]! >>> blockShift]!;
    const from = starts[at]! & (blockBytes - 1);
    let i = 0;
    while (i < this.#size && block[from + i] === this.#scratch[i]) i++;
    return i === this.#size;
  }

  /** Keeps what is in the scratch; returns where. */
  #keep(): number {
    const size = this.#size;
    const room = blockBytes - (this.#end & (blockBytes - 1));
    // The end of a block is the beginning of the next, which is not there yet.
    if (room < size || (this.#end & (blockBytes - 1)) === 0) {
      const block = new Uint8Array(Math.max(blockBytes, size));
      this.#end = this.#blocks.length * blockBytes;
      for (let part = 0; part < block.length; part += blockBytes) this.#blocks.push(part === 0 ? block : empty);
    }
    const start = this.#end;
    assert(start + size <= elementBookLimits.textBytesMax, "the texts of a tail have less than 4 GiB");
    this.#blocks[Math.floor(start / blockBytes)]!.set(this.#scratch.subarray(0, size), start & (blockBytes - 1));
    this.#end = size > blockBytes ? this.#blocks.length * blockBytes : start + size;
    return start;
  }

  #makeRoom(table: Table): void {
    let length = tableEntriesMin;
    while (length < 4 * (table.there + 1)) length *= 2;
    const entries = new Uint32Array(length);
    for (const entry of table.entries) {
      if (entry === 0 || entry === gone) continue;
      const row = entry - 1;
      place(entries, this.#pieces[row >>> pieceShift]!.hashes[row & (pieceRows - 1)]!, entry);
    }
    table.entries = entries;
    table.taken = table.there;
  }
}

const empty = new Uint8Array(0);

function newPiece(): Piece {
  return { starts: new Uint32Array(pieceRows), sizes: new Uint32Array(pieceRows), hashes: new Uint32Array(pieceRows) };
}

/** Into the first free place; the element is not there, and what was taken out leaves its place. */
function place(entries: Uint32Array, hash: number, entry: number): void {
  const mask = entries.length - 1;
  let at = (hash >>> 9) & mask;
  while (entries[at] !== 0) at = (at + 1) & mask;
  entries[at] = entry;
}
