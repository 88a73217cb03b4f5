// A page of a scan: merges memtables and runs in key order, forwards or backwards, the newest entry of each key.
// Why without a state between pages: the next page is found by its key, so flushes and merges between pages are nobody's concern, and a scan that is
// given up costs nothing.
// Invariants: 1. of equal keys the newest source speaks, and the others are passed over  2. tombstones and expired entries come out as nothing
// 3. a page ends at its limit, at `pageBytesMax`, or when its time is over; then `next` is behind everything it looked at.
// Cost: a seek a source (some us), then about 0.3 us an entry and source level. Limits: `storeLimits.pageEntriesMax`.

import { MillraceError } from "#base/errors";
import { compareBytes, entryKinds, EntryView } from "#kernel/entry-record";
import type { MemTable } from "#kernel/mem-table";
import type { Clock } from "#platform/clock";
import type { RunImage } from "#kernel/run-image";
import { fileBefore, fileFrom } from "./loaded-run.ts";
import type { ScanPage } from "./scan-page.ts";
import { type ScanRange, storeLimits } from "./store.ts";
import type { WriteTable } from "./write-table.ts";

const pageMsMax = 1;
const pageBytesMax = 1 << 20;
/** Entries between two looks at the clock. */
const entriesPerLook = 32;

/** Walks one source in one direction; `entry` is what it stands on while `valid`. */
interface ScanCursor {
  readonly entry: EntryView;
  valid: boolean;
  advance(): void;
}

class TableCursor implements ScanCursor {
  readonly entry = new EntryView();
  valid = false;
  readonly #table: MemTable;
  readonly #step: number;
  #place: number;

  constructor(table: MemTable, range: ScanRange) {
    this.#table = table;
    if (range.reverse === true) {
      this.#step = -1;
      this.#place = range.to === undefined ? table.orderedCount : table.seek(range.to);
    } else {
      this.#step = 1;
      this.#place = table.seek(range.from) - 1;
    }
    this.advance();
  }

  advance(): void {
    this.#place += this.#step;
    this.valid = this.#place >= 0 && this.#place < this.#table.orderedCount;
    if (this.valid) this.#table.entryAt(this.#place, this.entry);
  }
}

class RunAhead implements ScanCursor {
  readonly entry = new EntryView();
  valid = true;
  readonly #files: readonly { readonly image: RunImage }[];
  #file: number;
  #position: number;

  constructor(run: { readonly files: readonly { readonly image: RunImage }[] }, from: Uint8Array) {
    this.#files = run.files;
    this.#file = fileFrom(run.files, from);
    this.#position = this.#files[this.#file]?.image.seek(from) ?? 0;
    this.advance();
  }

  advance(): void {
    for (;;) {
      const image = this.#files[this.#file]?.image;
      if (image === undefined) {
        this.valid = false;
        return;
      }
      if (this.#position < image.end) {
        this.#position = image.entryAt(this.#position, this.entry);
        return;
      }
      this.#file++;
      this.#position = this.#files[this.#file]?.image.first ?? 0;
    }
  }
}

class RunBack implements ScanCursor {
  readonly entry = new EntryView();
  valid = true;
  readonly #files: readonly { readonly image: RunImage }[];
  #file: number;
  /** Entries of one block that are still to come, ascending. */
  readonly #block: number[] = [];
  #left = 0;
  /** The block before is found from here. */
  #before: number;

  constructor(run: { readonly files: readonly { readonly image: RunImage }[] }, to: Uint8Array | undefined) {
    this.#files = run.files;
    this.#file = to === undefined ? run.files.length - 1 : fileBefore(run.files, to);
    const image = this.#files[this.#file]?.image;
    this.#before = image === undefined ? 0 : to === undefined ? image.end : image.seek(to);
    this.advance();
  }

  advance(): void {
    for (;;) {
      const image = this.#files[this.#file]?.image;
      if (image === undefined) {
        this.valid = false;
        return;
      }
      if (this.#left === 0) {
        this.#left = image.positionsBefore(this.#before, this.#block);
        if (this.#left === 0) {
          this.#file--;
          this.#before = this.#files[this.#file]?.image.end ?? 0;
          continue;
        }
        this.#before = this.#block[0]!;
      }
      this.#left--;
      image.entryAt(this.#block[this.#left]!, this.entry);
      return;
    }
  }
}

function compareEntries(a: EntryView, b: EntryView): number {
  return compareBytes(a.bytes, a.keyAt, a.keyAt + a.keyBytes, b.bytes, b.keyAt, b.keyAt + b.keyBytes);
}

/** Checks the range; throws `invalid`. */
function checkRange(range: ScanRange): void {
  if (Number.isInteger(range.limit) && range.limit >= 1 && range.limit <= storeLimits.pageEntriesMax) return;
  throw new MillraceError("invalid", `a page of ${range.limit} entries`, { todo: `ask for 1 to ${storeLimits.pageEntriesMax}` });
}

export class Scanner {
  readonly #clock: Clock;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** `tables` and `runs` newest first. */
  scan(range: ScanRange, into: ScanPage, tables: readonly WriteTable[], runs: readonly { readonly files: readonly { readonly image: RunImage }[] }[]): boolean {
    checkRange(range);
    into.clear();
    const { from, to, limit, reverse = false, values = true, nowMs = this.#clock.nowMs() } = range;
    const endMs = this.#clock.monotonicMs() + pageMsMax;
    const goOn = (next: Uint8Array): true => {
      into.next = next;
      return true;
    };
    for (const table of tables) {
      while (!table.orderStep()) if (this.#clock.monotonicMs() >= endMs || !table.isOwn) return goOn(new Uint8Array((reverse ? to : from) ?? beyondAll));
    }
    const cursors: ScanCursor[] = [];
    for (const { table } of tables) cursors.push(new TableCursor(table, range));
    for (const run of runs) cursors.push(reverse ? new RunBack(run, to) : new RunAhead(run, from));
    const last = new EntryView();
    for (let looked = 1; ; looked++) {
      let best: ScanCursor | undefined;
      for (const cursor of cursors) {
        if (!cursor.valid) continue;
        if (best === undefined) {
          best = cursor;
          continue;
        }
        const order = compareEntries(cursor.entry, best.entry);
        if (reverse ? order > 0 : order < 0) best = cursor;
      }
      if (best === undefined) return false;
      const { entry } = best;
      const { bytes, keyAt, keyBytes, kind, expiryMs } = entry;
      if (
        reverse
          ? compareBytes(bytes, keyAt, keyAt + keyBytes, from, 0, from.length) < 0
          : to !== undefined && compareBytes(bytes, keyAt, keyAt + keyBytes, to, 0, to.length) >= 0
      ) {
        return false;
      }
      if (kind !== entryKinds.tombstone && (expiryMs === 0 || expiryMs > nowMs)) {
        into.add(bytes, keyAt, keyBytes, entry.valueAt, values ? entry.valueBytes : 0, kind, expiryMs, entry.timeMs);
      }
      const isFull = into.count >= limit || into.bytes >= pageBytesMax || (looked % entriesPerLook === 0 && this.#clock.monotonicMs() >= endMs);
      if (isFull) {
        // Forwards the next key is the least one above this: itself with a zero behind it. Backwards the bound is excluded.
        const next = new Uint8Array(reverse ? keyBytes : keyBytes + 1);
        next.set(bytes.subarray(keyAt, keyAt + keyBytes));
        return goOn(next);
      }
      last.set(entry);
      for (const cursor of cursors) if (cursor.valid && compareEntries(cursor.entry, last) === 0) cursor.advance();
    }
  }
}

/** Above every key: longer than any. */
const beyondAll = new Uint8Array(storeLimits.keyBytesMax + 1).fill(255);
