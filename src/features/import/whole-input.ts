// Whether a file has its end, looked at before a row of it is staged.
// Why: DuckDB takes what comes before the end of a cut .gz or .zst, and drops the record of a quote that is never closed, which may be most of the file, without an error or a
// reject. A version with a part of the rows would go live.
// What is looked for: CSV: a quote that opens and never closes; .gz, .zst: the packed stream ends where its own format says. A cut between two rows of a text file cannot be seen.
// Cost: one pass over the file: measured in docs/design/import.md.

import { MillraceError } from "#base/errors";
import { streamFile } from "#platform/file-stream";
import type { Files } from "#platform/files";
import { unpackGzip, unpackZstd } from "#platform/gzip-stream";
import { readCsvHeader } from "./csv-header.ts";
import type { ImportInput } from "./inputs.ts";

/** Throws `invalid` for an input that is cut off: it names the file, and the line when a quote of a CSV file stays open. */
export async function checkWhole(files: Files, input: ImportInput, signal?: AbortSignal): Promise<void> {
  if (input.kind !== "file") return;
  const { path, format } = input;
  if (format === "json" && /\.(gz|zst)$/i.test(path)) await checkPacked(files, path, signal);
  if (format === "csv") await checkQuotes(files, path, signal);
}

async function checkPacked(files: Files, path: string, signal?: AbortSignal): Promise<void> {
  const unpack = /\.gz$/i.test(path) ? unpackGzip : unpackZstd;
  try {
    for await (const _ of unpack(streamFile(files, path), path)) signal?.throwIfAborted();
  } catch (thrown) {
    if (!(thrown instanceof MillraceError) || thrown.code !== "corrupt") throw thrown;
    throw new MillraceError("invalid", `${path} is cut off or damaged: its packed data has no good end`, {
      todo: "fetch the file again, compare its size and checksum",
      cause: thrown,
    });
  }
}

async function checkQuotes(files: Files, path: string, signal?: AbortSignal): Promise<void> {
  const quotes = new CsvQuotes((await readCsvHeader(files, path)).delimiter);
  for await (const chunk of streamFile(files, path)) {
    signal?.throwIfAborted();
    quotes.add(chunk);
  }
  const { openAt } = quotes;
  if (openAt === undefined) return;
  const line = await lineAt(files, path, openAt);
  throw new MillraceError("invalid", `${path}: the quote that opens in line ${line} is never closed, the rows behind it cannot be told`, {
    todo: "close the quote, or write it twice inside a quoted field; if the last line is meant, the file may be cut off",
  });
}

/** The line, from 1, in which a byte of a file stands. */
async function lineAt(files: Files, path: string, place: number): Promise<number> {
  let line = 1;
  let position = 0;
  let before = 0;
  for await (const chunk of streamFile(files, path)) {
    for (let at = 0; at < chunk.length && position < place; at++, position++) {
      const byte = chunk[at]!;
      if (byte === carriageReturn || (byte === lineFeed && before !== carriageReturn)) line++;
      before = byte;
    }
    if (position >= place) break;
  }
  return line;
}

const inField = { start: 0, blank: 1, plain: 2, quoted: 3, closed: 4 } as const;
const quote = 0x22;
const space = 0x20;
const lineFeed = 0x0a;
const carriageReturn = 0x0d;

/** Follows the quotes of a CSV file as DuckDB does: one opens a field at its beginning (one blank may stand before it), twice inside it is itself, elsewhere it is a letter. */
export class CsvQuotes {
  readonly #delimiter: number;
  #state: number = inField.start;
  #position = 0;
  #openedAt = 0;

  /** `delimiter`: one ASCII character. */
  constructor(delimiter: string) {
    this.#delimiter = delimiter.charCodeAt(0);
  }

  /** The place in the file, from 0, of the quote that is open where the bytes end. */
  get openAt(): number | undefined {
    return this.#state === inField.quoted ? this.#openedAt : undefined;
  }

  /** The next bytes of the file. */
  add(bytes: Uint8Array): void {
    const delimiter = this.#delimiter;
    const { length } = bytes;
    let state = this.#state;
    let at = 0;
    // The mark of UTF-8 is no part of the first field.
    if (this.#position === 0 && bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf) at = 3;
    if (state !== inField.quoted && state !== inField.closed) {
      // Before a quote only the three bytes before it matter: a separator and a blank. What is before them is stepped over.
      const first = bytes.indexOf(quote, at);
      const walked = (first < 0 ? length : first) - 3;
      if (walked > at) {
        at = walked;
        state = inField.plain;
      }
    }
    for (; at < length; at++) {
      if (state === inField.quoted) {
        while (at < length && bytes[at] !== quote) at++;
        if (at < length) state = inField.closed;
        continue;
      }
      const byte = bytes[at]!;
      if (byte === delimiter || byte === lineFeed || byte === carriageReturn) state = inField.start;
      else if (state === inField.plain) continue;
      else if (byte === quote) {
        if (state !== inField.closed) this.#openedAt = this.#position + at;
        state = inField.quoted;
      } else if (byte !== space) state = inField.plain;
      else if (state !== inField.closed) state = state === inField.start ? inField.blank : inField.plain;
    }
    this.#state = state;
    this.#position += length;
  }
}
