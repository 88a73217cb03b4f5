// Scans of a table in key order, page by page, pinned to the imported version that the first page met.
// How: the keys of both trees are merged up to where both pages reach, then the rows behind them are read as any read does. So deletions, times and owners mean the same here.
// Why the cursor holds the whole state: a server forgets nothing it never kept. All it keeps is the lease of a version that some scan still reads.
// Invariants: 1. a key that has a row from the first page to the last comes exactly once  2. all pages are of one imported version; live writes show as of each page
// 3. a version is held at most `idleMs` after the last page of it was asked for.
// Limits: tableScanLimits.

import { MillraceError } from "#base/errors";
import { KeyBatch } from "#kernel/key-batch";
import { compareBytes } from "#kernel/entry-record";
import { ScanPage } from "#lsm/scan-page";
import { keyAfterPrefix } from "#lsm/store";
import type { Clock, Timer } from "#platform/clock";
import { tableLimits } from "#wire/table-limits";
import { rowStatus } from "./column-block.ts";
import type { BaseLease } from "./table-base.ts";
import type { Table } from "./table.ts";

export const tableScanLimits = {
  /** A version is let go when no page of it was asked for so long. */
  idleMs: 60_000,
  /** Versions held for scans, of all tables. */
  versionsMax: 32,
} as const;

export interface ScanRequest {
  /** Of the page before; "0" or "" begins. */
  readonly cursor: string;
  /** Most rows of the page. */
  readonly limit: number;
  /** User keys that begin with these bytes. */
  readonly prefix?: Uint8Array;
}

export interface TablePage {
  /** Engine keys of rows that exist, in order. */
  readonly keys: KeyBatch;
  /** "0" at the end. */
  readonly cursor: string;
  readonly version: string;
  readonly logOffset: number;
  /** Of that version: hand it to `Table.read`, so that the rows are of it too. It is given back here, not by the caller. */
  readonly lease: BaseLease | undefined;
}

interface Pin {
  readonly lease: BaseLease;
  lastMs: number;
}

const compareKeys = (a: Uint8Array, b: Uint8Array): number => compareBytes(a, 0, a.length, b, 0, b.length);
const hexOf = (bytes: Uint8Array): string => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

export class TableScans {
  readonly #clock: Clock;
  readonly #pins = new Map<string, Pin>();
  #timer: Timer | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** The next page of keys. Throws `invalid` for a cursor that is none, `conflict` when its version is gone. */
  async page(table: Table, request: ScanRequest): Promise<TablePage> {
    const { limit } = request;
    if (!Number.isInteger(limit) || limit < 1 || limit > tableLimits.scanRowsMax) {
      throw new MillraceError("invalid", `a page of ${limit} rows`, { todo: `ask for 1 to ${tableLimits.scanRowsMax}` });
    }
    const { schema } = table;
    const { store } = table.parts;
    const begin = new Uint8Array(2 + (request.prefix?.length ?? 0));
    begin[0] = schema.namespace >>> 8;
    begin[1] = schema.namespace;
    if (request.prefix !== undefined) begin.set(request.prefix, 2);
    const end = keyAfterPrefix(begin)!;
    const place = parseCursor(request.cursor, begin, end);
    const lease = this.#leaseOf(table, place.version);
    const version = lease?.value.version ?? "";
    let from = place.from;
    const keys = new KeyBatch();
    const live = new ScanPage();
    const old = new ScanPage();
    let more = true;
    while (more && keys.count < limit) {
      const part = Math.min(limit - keys.count, 2_000);
      const range = { from, to: end, limit: part, values: false };
      old.clear();
      const oldMore = lease === undefined ? false : await lease.value.runs.scan(range, old);
      live.clear();
      const liveMore = store.scan(range, live);
      // Beyond where one of the pages ends, the other cannot be trusted to be whole.
      const liveEnd = liveMore ? live.next! : end;
      const oldEnd = oldMore ? old.next! : end;
      const bound = compareKeys(liveEnd, oldEnd) <= 0 ? liveEnd : oldEnd;
      const candidates = new KeyBatch();
      let a = 0;
      let b = 0;
      let next = bound;
      for (;;) {
        const left = a < live.count ? live.keyOf(a) : undefined;
        const right = b < old.count ? old.keyOf(b) : undefined;
        const order = left === undefined ? 1 : right === undefined ? -1 : compareKeys(left, right);
        const key = order <= 0 ? left : right;
        if (key === undefined || compareKeys(key, bound) >= 0) break;
        if (candidates.count === part) {
          next = key.slice();
          break;
        }
        if (order <= 0) a += 1;
        if (order >= 0) b += 1;
        candidates.add(key);
      }
      const statuses = await table.statuses(candidates, lease);
      const { bytes, offsets } = candidates;
      for (let i = 0; i < candidates.count; i += 1) if (statuses[i] === rowStatus.found) keys.add(bytes.subarray(offsets[i], offsets[i + 1]));
      from = next;
      more = compareKeys(from, end) < 0;
    }
    return { keys, cursor: more ? `${hexOf(from)}.${version}` : "0", version, logOffset: store.offset, lease };
  }

  close(): void {
    this.#timer?.cancel();
    for (const { lease } of this.#pins.values()) lease.release();
    this.#pins.clear();
  }

  #leaseOf(table: Table, version: string | undefined): BaseLease | undefined {
    const { base } = table.parts;
    const nowMs = this.#clock.monotonicMs();
    this.#letGo(nowMs);
    const gone = (): MillraceError =>
      new MillraceError("conflict", `the version that a scan of table ${table.schema.name} reads is gone`, { todo: "begin the scan again" });
    if (base === undefined) {
      if (version !== undefined && version !== "") throw gone();
      return undefined;
    }
    if (version !== undefined && version !== "") {
      const pin = this.#pins.get(`${table.schema.name}@${version}`);
      if (pin !== undefined) {
        pin.lastMs = nowMs;
        return pin.lease;
      }
    }
    const lease = base.lease();
    if (lease === undefined) {
      if (base.awaited) throw new MillraceError("unavailable", `table ${table.schema.name} is not loaded yet`, { todo: "send again in a moment" });
      if (version !== undefined && version !== "") throw gone();
      return undefined;
    }
    const key = `${table.schema.name}@${lease.value.version}`;
    const known = this.#pins.get(key);
    if (known !== undefined || (version !== undefined && version !== lease.value.version)) {
      lease.release();
      if (version !== undefined && version !== lease.value.version) throw gone();
      known!.lastMs = nowMs;
      return known!.lease;
    }
    if (this.#pins.size >= tableScanLimits.versionsMax) {
      lease.release();
      throw new MillraceError("overloaded", `scans hold ${tableScanLimits.versionsMax} versions`, { todo: "finish the scans under way, or wait a minute" });
    }
    this.#pins.set(key, { lease, lastMs: nowMs });
    this.#timer ??= this.#clock.after(tableScanLimits.idleMs, () => this.#sweep(), { background: true });
    return lease;
  }

  #sweep(): void {
    this.#letGo(this.#clock.monotonicMs());
    this.#timer = this.#pins.size === 0 ? undefined : this.#clock.after(tableScanLimits.idleMs, () => this.#sweep(), { background: true });
  }

  #letGo(nowMs: number): void {
    for (const [key, { lease, lastMs }] of this.#pins) {
      if (nowMs - lastMs < tableScanLimits.idleMs) continue;
      lease.release();
      this.#pins.delete(key);
    }
  }
}

function parseCursor(cursor: string, begin: Uint8Array, end: Uint8Array): { readonly from: Uint8Array; readonly version: string | undefined } {
  if (cursor === "" || cursor === "0") return { from: begin, version: undefined };
  const parts = /^((?:[0-9a-f]{2}){2,4096})\.([A-Za-z0-9._-]{0,128})$/.exec(cursor);
  const from = parts === null ? undefined : Uint8Array.from(parts[1]!.match(/../g)!, (hex) => Number.parseInt(hex, 16));
  if (from === undefined || compareKeys(from, begin) < 0 || compareKeys(from, end) >= 0) {
    throw new MillraceError("invalid", "a cursor that no page gave", { todo: "begin with 0, then send the cursor of the page before" });
  }
  return { from, version: parts![2]! };
}
