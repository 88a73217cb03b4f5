// Reads a purchase log (CSV, packed or not) as a stream of baskets in time order, and counts every row that it could not use, by reason.
// The form: a header line, then InvoiceNo, StockCode, Description, Quantity, InvoiceDate, UnitPrice, CustomerID, Country. A basket is all kept rows of one
// invoice: its user is the first row's customer, its time the first row's date (as written, read as UTC), its items the distinct codes as written.
// Invariants: 1. rows read = rows kept + rows dropped, each dropped row under one reason  2. baskets come in the order of their first rows and their
// times never fall  3. item numbers follow the first appearance in the kept rows, whatever order the baskets are completed in.
// What is assumed and checked: rows come in time order (a row older than the last kept one is `out-of-order`; one date far ahead that the next row takes back
// is `time-leap`, and does not make everything behind it look old); the rows of an invoice stand close together (an invoice is complete once nothing came
// for it for `idleMs` of the log's time; a row that comes later still is `late-for-invoice`). Rows between those of another invoice are fine, and noted.
// Memory: the open baskets, and one entry for each invoice, item and chunk-sized piece of text; nothing grows with the rows.
// Limits: `openInvoicesMax` baskets in the making (the oldest is completed then), `invoicesMax` invoices and `itemsMax` items a file.

import { MillraceError } from "#base/errors";
import type { Files } from "#platform/files";
import { streamFile } from "#platform/file-stream";
import { unpackGzip } from "#platform/gzip-stream";
import { type CsvFault, CsvRecords } from "./csv-records.ts";

export const retailHeader = ["InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID", "Country"] as const;

/** Why a row was dropped, in the order in which a row is checked. */
export const dropReasons = [
  "too-long",
  "empty-line",
  "broken-quotes",
  "field-count",
  "no-invoice",
  "no-customer",
  "cancellation",
  "no-item",
  "bad-quantity",
  "bad-price",
  "bad-date",
  "time-leap",
  "out-of-order",
  "late-for-invoice",
] as const;
export type DropReason = (typeof dropReasons)[number];

export interface RowCounts {
  /** Rows after the header. */
  read: number;
  kept: number;
  readonly dropped: Record<DropReason, number>;
  /** Kept rows that a reader of the figures should know of. */
  readonly noted: {
    /** The basket held the item already. */
    repeatedItem: number;
    /** The row's customer is not its invoice's first; the first counts. */
    otherCustomer: number;
    /** The row before it belonged to another invoice, begun later or earlier. */
    interleaved: number;
  };
}

export interface Basket {
  readonly invoice: string;
  readonly user: string;
  readonly country: string;
  /** Date of the first row as ms since 1970, read as UTC. */
  readonly timeMs: number;
  /** Distinct codes by first appearance in the basket. */
  readonly items: readonly string[];
  /** For each of `items`: how many other codes appeared before it in the kept rows of the file. */
  readonly itemNumbers: readonly number[];
  /** Rows of the file up to and with its first one, the header not counted: how far the log has come. */
  readonly row: number;
}

export const retailLogLimits = { openInvoicesMax: 4_096, invoicesMax: 10_000_000, itemsMax: 10_000_000 } as const;

const dayMs = 86_400_000;
/** An invoice is complete when the log moved on so far without a row for it. The longest pause seen in real logs is some minutes. */
const idleMs = 60 * 60_000;
/** A date so far ahead of the last waits for the next row's opinion ... */
const leapMs = 7 * dayMs;
/** ... which takes it back when it is earlier by more than this. */
const takenBackMs = dayMs;

const quantityForm = /^-?\d{1,15}$/;
const priceForm = /^-?\d+(\.\d+)?([eE][+-]?\d{1,3})?$/;
const dateForm = /^(\d{4})-(\d\d)-(\d\d) (\d\d):(\d\d):(\d\d)$/;

/** `YYYY-MM-DD HH:MM:SS` as ms since 1970, NaN when it is no such date. */
function parseDate(text: string): number {
  const parts = dateForm.exec(text);
  if (parts === null) return Number.NaN;
  const timeMs = Date.parse(`${text.slice(0, 10)}T${text.slice(11)}Z`);
  // Some engines read 30 February as 2 March.
  return Number.isNaN(timeMs) || new Date(timeMs).getUTCDate() !== Number(parts[3]) ? Number.NaN : timeMs;
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();

/** The same text in memory of its own: a slice would keep the whole piece of the file that it came from. */
function ownText(text: string): string {
  return decoder.decode(encoder.encode(text));
}

interface KeptRow {
  readonly invoice: string;
  readonly code: string;
  readonly user: string;
  readonly country: string;
  readonly timeMs: number;
  readonly row: number;
}

class OpenBasket implements Basket {
  readonly invoice: string;
  readonly user: string;
  readonly country: string;
  readonly timeMs: number;
  readonly row: number;
  readonly items: string[] = [];
  readonly itemNumbers: number[] = [];
  readonly held = new Set<number>();
  lastMs: number;

  constructor(row: KeptRow) {
    this.invoice = ownText(row.invoice);
    this.user = ownText(row.user);
    this.country = ownText(row.country);
    this.timeMs = row.timeMs;
    this.row = row.row;
    this.lastMs = row.timeMs;
  }
}

export interface RetailLogOptions {
  readonly files: Files;
  readonly path: string;
  /** Called as the file is read, with the bytes on disk read so far and in all. */
  readonly onBytes?: (bytesRead: number, bytesTotal: number) => void;
}

/** One pass over a purchase log. Iterate `baskets()` once; the counts are complete when it has ended. */
export class RetailLog {
  readonly counts: RowCounts;
  readonly #options: RetailLogOptions;
  #header = false;
  /** Invoice -> its basket while it is open, `undefined` when it is complete. */
  readonly #invoices = new Map<string, OpenBasket | undefined>();
  /** Open baskets in the order of their first rows, from `#openFrom` on. */
  #open: OpenBasket[] = [];
  #openFrom = 0;
  readonly #items = new Map<string, { readonly code: string; readonly number: number }>();
  #complete: Basket[] = [];
  #lastMs = Number.NEGATIVE_INFINITY;
  /** A row whose date is far ahead of those before it. */
  #leap: KeptRow | undefined;
  #lastBasket: OpenBasket | undefined;
  #dateText = "";
  #dateMs = Number.NaN;

  constructor(options: RetailLogOptions) {
    this.#options = options;
    this.counts = {
      read: 0,
      kept: 0,
      dropped: Object.fromEntries(dropReasons.map((reason) => [reason, 0])) as Record<DropReason, number>,
      noted: { repeatedItem: 0, otherCustomer: 0, interleaved: 0 },
    };
  }

  /** Distinct items seen in kept rows so far. */
  get items(): number {
    return this.#items.size;
  }

  /**
   * The baskets in order of their first rows.
   * Throws `not-found` (no file), `invalid` (no such header), `corrupt` (damaged gzip), `unsupported` (beyond the limits).
   */
  async *baskets(): AsyncGenerator<Basket, void, void> {
    const { files, path, onBytes } = this.#options;
    const total = (await files.sizeOf(path)) ?? 0;
    const bytes = streamFile(files, path, onBytes === undefined ? {} : { onBytes: (read) => onBytes(read, total) });
    const text = new TextDecoder();
    const records = new CsvRecords((record) => this.#take(record));
    for await (const chunk of unpackGzip(bytes, path)) {
      records.push(text.decode(chunk, { stream: true }));
      yield* this.#taken();
    }
    records.push(text.decode());
    records.end();
    if (!this.#header) throw this.#badHeader("it is empty");
    if (this.#leap !== undefined) this.#place(this.#leap);
    while (this.#openFrom < this.#open.length) this.#close();
    yield* this.#taken();
  }

  #taken(): Basket[] {
    const taken = this.#complete;
    this.#complete = [];
    return taken;
  }

  #badHeader(found: string): MillraceError {
    return new MillraceError("invalid", `${this.#options.path} is no purchase log: ${found}`, { todo: `its first line must read ${retailHeader.join(",")}` });
  }

  #drop(reason: DropReason): void {
    this.counts.dropped[reason] += 1;
  }

  #take(record: string[] | CsvFault): void {
    if (!this.#header) {
      if (typeof record === "string" || record.length !== retailHeader.length || retailHeader.some((name, column) => record[column] !== name)) {
        throw this.#badHeader("its first line is another");
      }
      this.#header = true;
      return;
    }
    this.counts.read += 1;
    if (typeof record === "string") return this.#drop(record);
    if (record.length !== retailHeader.length) return this.#drop("field-count");
    const [invoice, code, , quantity, date, price, user, country] = record as [string, string, string, string, string, string, string, string];
    if (invoice === "") return this.#drop("no-invoice");
    if (user === "") return this.#drop("no-customer");
    if (invoice.startsWith("C")) return this.#drop("cancellation");
    if (code === "") return this.#drop("no-item");
    if (!quantityForm.test(quantity)) return this.#drop("bad-quantity");
    if (!priceForm.test(price)) return this.#drop("bad-price");
    if (date !== this.#dateText) {
      this.#dateText = date;
      this.#dateMs = parseDate(date);
    }
    const timeMs = this.#dateMs;
    if (Number.isNaN(timeMs)) return this.#drop("bad-date");
    const row: KeptRow = { invoice, code, user, country, timeMs, row: this.counts.read };
    const leap = this.#leap;
    if (leap !== undefined) {
      this.#leap = undefined;
      if (timeMs < leap.timeMs - takenBackMs && timeMs >= this.#lastMs) this.#drop("time-leap");
      else this.#place(leap);
    }
    if (timeMs < this.#lastMs) return this.#drop("out-of-order");
    // The first row of all waits too: nothing stands before it that it could be compared with.
    if (timeMs - this.#lastMs > leapMs) this.#leap = row;
    else this.#place(row);
  }

  /** Puts a row that is kept, or late for its invoice, into its basket. */
  #place(row: KeptRow): void {
    const { invoice, code, timeMs } = row;
    this.#lastMs = timeMs;
    while (this.#openFrom < this.#open.length && timeMs - this.#open[this.#openFrom]!.lastMs > idleMs) this.#close();
    let basket = this.#invoices.get(invoice);
    if (basket === undefined) {
      if (this.#invoices.has(invoice)) return this.#drop("late-for-invoice");
      if (this.#invoices.size >= retailLogLimits.invoicesMax) throw this.#tooMany("invoices", retailLogLimits.invoicesMax);
      if (this.#open.length - this.#openFrom >= retailLogLimits.openInvoicesMax) this.#close();
      basket = new OpenBasket(row);
      this.#invoices.set(basket.invoice, basket);
      this.#open.push(basket);
    } else {
      if (basket !== this.#lastBasket) this.counts.noted.interleaved += 1;
      if (row.user !== basket.user) this.counts.noted.otherCustomer += 1;
    }
    this.counts.kept += 1;
    this.#lastBasket = basket;
    basket.lastMs = timeMs;
    let item = this.#items.get(code);
    if (item === undefined) {
      if (this.#items.size >= retailLogLimits.itemsMax) throw this.#tooMany("items", retailLogLimits.itemsMax);
      item = { code: ownText(code), number: this.#items.size };
      this.#items.set(item.code, item);
    }
    if (basket.held.has(item.number)) {
      this.counts.noted.repeatedItem += 1;
      return;
    }
    basket.held.add(item.number);
    basket.items.push(item.code);
    basket.itemNumbers.push(item.number);
  }

  #tooMany(what: string, most: number): MillraceError {
    return new MillraceError("unsupported", `${this.#options.path} holds more than ${most} ${what}`, { todo: "split the file and replay its parts" });
  }

  /** Completes the oldest open basket. */
  #close(): void {
    const basket = this.#open[this.#openFrom]!;
    this.#openFrom += 1;
    this.#invoices.set(basket.invoice, undefined);
    this.#complete.push(basket);
    if (this.#openFrom > 1_024 && this.#openFrom * 2 > this.#open.length) {
      this.#open = this.#open.slice(this.#openFrom);
      this.#openFrom = 0;
    }
  }
}
