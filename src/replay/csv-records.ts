// Splits CSV text that arrives in pieces into records of fields (RFC 4180), and finds its way back after a broken record.
// Why our own: a log is replayed row by row, so the splitter is on the hot path, and it must say how many rows were lost where a quote was never
// closed. A general parser took 7 times the CPU on the same 48 MB and swallowed all that stood behind such a quote (docs/design/replay.md).
// Invariants: 1. every physical line ends up in exactly one record or fault, blank lines too  2. a record with broken quotes costs one physical line:
// reading resumes at the line after the one in which it began  3. the same text gives the same records however it is cut into pieces.
// Accepted: LF and CRLF, a byte order mark, no newline at the end, quotes doubled inside quotes, newlines inside quotes, and a quote inside an
// unquoted field as itself. Not accepted: bare CR as line end.
// Cost: a line without quotes is one indexOf and one split, about 0.6 us. Memory: one record.
// Limits: `recordCharsMax` (65,536): a quoted field that does not close within it is a broken quote, a longer line is too long.

export const recordCharsMax = 65_536;

/** What a record can be besides its fields. */
export type CsvFault = "broken-quotes" | "too-long" | "empty-line";

export type CsvSink = (record: string[] | CsvFault) => void;

const quote = 34;
const comma = 44;
const newline = 10;
const carriageReturn = 13;

export class CsvRecords {
  readonly #sink: CsvSink;
  /** What has not become a record yet. */
  #rest = "";
  /** Inside a line that was reported as too long. */
  #skipping = false;
  #begun = false;
  /** End of the record that `#quoted` found: index behind its newline. */
  #next = 0;

  constructor(sink: CsvSink) {
    this.#sink = sink;
  }

  /** Takes the next piece of text; calls the sink for each record that it completes. */
  push(text: string): void {
    if (!this.#begun && text.length > 0) {
      this.#begun = true;
      if (text.charCodeAt(0) === 0xfeff) text = text.slice(1);
    }
    this.#split(this.#rest + text, false);
  }

  /** The text is complete. */
  end(): void {
    this.#split(this.#rest, true);
    this.#rest = "";
  }

  #split(text: string, last: boolean): void {
    let at = 0;
    while (at < text.length) {
      const end = text.indexOf("\n", at);
      if (end < 0 && !last) {
        if (this.#skipping) at = text.length;
        else if (text.length - at > recordCharsMax) {
          this.#skipping = true;
          this.#sink("too-long");
          at = text.length;
        }
        break;
      }
      const lineEnd = end < 0 ? text.length : end;
      if (this.#skipping) {
        this.#skipping = false;
        at = lineEnd + 1;
        continue;
      }
      if (lineEnd - at > recordCharsMax) {
        this.#sink("too-long");
        at = lineEnd + 1;
        continue;
      }
      const line = text.slice(at, lineEnd > at && text.charCodeAt(lineEnd - 1) === carriageReturn ? lineEnd - 1 : lineEnd);
      if (line.length === 0) {
        this.#sink("empty-line");
        at = lineEnd + 1;
      } else if (!line.includes('"')) {
        this.#sink(line.split(","));
        at = lineEnd + 1;
      } else {
        const record = this.#quoted(text, at, last);
        if (record === undefined) break;
        this.#sink(record);
        at = record === "broken-quotes" ? lineEnd + 1 : this.#next;
      }
    }
    this.#rest = at >= text.length ? "" : text.slice(at);
  }

  /** The record at `from`, which holds a quote somewhere; `undefined` when more text is needed to tell. */
  #quoted(text: string, from: number, last: boolean): string[] | "broken-quotes" | undefined {
    const fields: string[] = [];
    const unfinished = last || text.length - from > recordCharsMax ? "broken-quotes" : undefined;
    for (let at = from; ; at += 1) {
      if (text.charCodeAt(at) !== quote) {
        const start = at;
        let code = text.charCodeAt(at);
        while (at < text.length && code !== comma && code !== newline) {
          at += 1;
          code = text.charCodeAt(at);
        }
        if (at === text.length && !last) return unfinished;
        const crlf = code !== comma && at > start && text.charCodeAt(at - 1) === carriageReturn;
        fields.push(text.slice(start, crlf ? at - 1 : at));
      } else {
        let value = "";
        for (at += 1; ; at += 2) {
          const close = text.indexOf('"', at);
          if (close < 0 || close - from > recordCharsMax) return close < 0 ? unfinished : "broken-quotes";
          value += text.slice(at, close);
          at = close;
          if (at + 1 === text.length && !last) return undefined;
          if (text.charCodeAt(at + 1) !== quote) break;
          value += '"';
        }
        at += 1;
        if (text.charCodeAt(at) === carriageReturn) {
          if (at + 1 === text.length && !last) return undefined;
          if (at + 1 === text.length || text.charCodeAt(at + 1) === newline) at += 1;
        }
        if (at < text.length && text.charCodeAt(at) !== comma && text.charCodeAt(at) !== newline) return "broken-quotes";
        fields.push(value);
      }
      if (at >= text.length || text.charCodeAt(at) === newline) {
        this.#next = at + 1;
        return at - from > recordCharsMax ? "broken-quotes" : fields;
      }
    }
  }
}
