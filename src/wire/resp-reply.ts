// Writes replies of RESP2 or RESP3 into a buffer that grows: the answer of a whole read event becomes one write (see Reply in resp-command.ts).
// Why one buffer borrowed for an event and not one a connection: ten thousand idle connections then hold no buffers.
// Invariants: 1. positions count from the last `attach`  2. given bytes are never written to and never copied  3. an error or simple reply is one line.
// Cost: a bulk of 64 bytes some 60 ns.
// Source: redis.io/docs, RESP2 and RESP3 specification.

import type { Reply } from "./resp-command.ts";

const encoder = new TextEncoder();
const CR = 13;
const LF = 10;
/** Given bytes below this are copied: a write of their own would cost more. */
const givenBytesMin = 16_384;
/** Copied byte by byte below this: `set` needs a view. */
const loopBytesMax = 64;
const nothing = new Uint8Array(0);

/** A piece of output: `bytes[from..to)`. */
export interface Piece {
  readonly bytes: Uint8Array;
  readonly from: number;
  readonly to: number;
}

export class RespReply implements Reply {
  protocol: 2 | 3 = 2;
  /** The buffer that is written, `buffer[..at)` is used; it changes when it grows. */
  buffer: Uint8Array = nothing;
  at = 0;
  /** What stands before the buffer's content, since `attach`. */
  pieces: Piece[] = [];
  /** Bytes of the pieces. */
  piecesBytes = 0;
  /** Errors written so far; the last one's text. */
  errors = 0;
  lastError = "";

  /** Writes from now on into this buffer. */
  attach(buffer: Uint8Array): void {
    this.buffer = buffer;
    this.at = 0;
    if (this.piecesBytes > 0) {
      this.pieces = [];
      this.piecesBytes = 0;
    }
  }

  /** Bytes written since `attach`. */
  get length(): number {
    return this.piecesBytes + this.at;
  }

  /** Takes back everything from position `length` on. */
  truncate(length: number): void {
    while (length < this.piecesBytes) {
      const last = this.pieces.pop()!;
      this.piecesBytes -= last.to - last.from;
      this.at = 0;
      if (length > this.piecesBytes) {
        this.pieces.push({ bytes: last.bytes, from: last.from, to: last.from + length - this.piecesBytes });
        this.piecesBytes = length;
        return;
      }
    }
    this.at = length - this.piecesBytes;
  }

  /** A copy of everything from position `length` on. */
  copyFrom(length: number): Uint8Array {
    const copy = new Uint8Array(this.length - length);
    let position = 0;
    for (const { bytes, from, to } of [...this.pieces, { bytes: this.buffer, from: 0, to: this.at }]) {
      const skip = Math.max(0, length - position);
      if (skip < to - from) copy.set(bytes.subarray(from + skip, to), position + skip - length);
      position += to - from;
    }
    return copy;
  }

  ok(): void {
    const at = this.#room(5);
    const { buffer } = this;
    buffer[at] = 43;
    buffer[at + 1] = 79;
    buffer[at + 2] = 75;
    buffer[at + 3] = CR;
    buffer[at + 4] = LF;
    this.at = at + 5;
  }

  simple(text: string): void {
    this.#line(43, text);
  }

  error(text: string): void {
    this.errors += 1;
    this.lastError = text;
    this.#line(45, text);
  }

  integer(n: number | bigint): void {
    if (typeof n === "number" && n >= 0 && n <= 0x7fffffff) this.#header(58, n);
    else this.#line(58, String(n));
  }

  bulk(bytes: Uint8Array | string): void {
    if (typeof bytes === "string") this.#text(36, bytes, "");
    else this.bulkOf(bytes, 0, bytes.length);
  }

  bulkOf(memory: Uint8Array, from: number, bytes: number): void {
    this.#room(bytes + 16);
    this.#header(36, bytes);
    const { buffer } = this;
    let { at } = this;
    if (bytes <= loopBytesMax) for (let i = 0; i < bytes; i++) buffer[at + i] = memory[from + i]!;
    else buffer.set(memory.subarray(from, from + bytes), at);
    at += bytes;
    buffer[at] = CR;
    buffer[at + 1] = LF;
    this.at = at + 2;
  }

  bulkRoom(bytes: number): Uint8Array {
    this.#room(bytes + 16);
    this.#header(36, bytes);
    const { at, buffer } = this;
    buffer[at + bytes] = CR;
    buffer[at + bytes + 1] = LF;
    this.at = at + bytes + 2;
    return buffer.subarray(at, at + bytes);
  }

  bulkGiven(bytes: Uint8Array): void {
    if (bytes.length < givenBytesMin) {
      this.bulk(bytes);
      return;
    }
    this.#room(16);
    this.#header(36, bytes.length);
    this.pieces.push({ bytes: this.buffer.slice(0, this.at), from: 0, to: this.at }, { bytes, from: 0, to: bytes.length });
    this.piecesBytes += this.at + bytes.length;
    this.at = 0;
    this.#room(2);
    this.buffer[0] = CR;
    this.buffer[1] = LF;
    this.at = 2;
  }

  nil(): void {
    if (this.protocol === 3) this.#line(95, "");
    else this.#line(36, "-1");
  }

  nilArray(): void {
    if (this.protocol === 3) this.#line(95, "");
    else this.#line(42, "-1");
  }

  array(n: number): void {
    this.#header(42, n);
  }

  map(n: number): void {
    if (this.protocol === 3) this.#header(37, n);
    else this.#header(42, n * 2);
  }

  set(n: number): void {
    this.#header(this.protocol === 3 ? 126 : 42, n);
  }

  double(n: number): void {
    const text = n === Infinity ? "inf" : n === -Infinity ? "-inf" : Number.isNaN(n) ? "nan" : Object.is(n, -0) ? "-0" : String(n);
    if (this.protocol === 3) this.#line(44, text);
    else this.bulk(text);
  }

  bool(value: boolean): void {
    if (this.protocol === 3) this.#line(35, value ? "t" : "f");
    else this.#header(58, value ? 1 : 0);
  }

  verbatim(format: string, text: string): void {
    if (this.protocol === 3) this.#text(61, text, `${format}:`);
    else this.bulk(text);
  }

  /** Already encoded replies. */
  raw(bytes: Uint8Array): void {
    const at = this.#room(bytes.length);
    this.buffer.set(bytes, at);
    this.at = at + bytes.length;
  }

  /** The type's byte, a number of at least 0, the end of the line. */
  #header(type: number, n: number): void {
    let at = this.#room(24);
    const { buffer } = this;
    buffer[at++] = type;
    if (n < 10) buffer[at++] = 48 + n;
    else if (n < 100) {
      const tens = (n / 10) | 0;
      buffer[at++] = 48 + tens;
      buffer[at++] = 48 + n - tens * 10;
    } else {
      let digits = 3;
      for (let limit = 1000; limit <= n; limit *= 10) digits += 1;
      let rest = n;
      for (let i = digits - 1; i >= 0; i--) {
        const next = Math.floor(rest / 10);
        buffer[at + i] = 48 + rest - next * 10;
        rest = next;
      }
      at += digits;
    }
    buffer[at] = CR;
    buffer[at + 1] = LF;
    this.at = at + 2;
  }

  /** One line of text; what would end it becomes a space. */
  #line(type: number, text: string): void {
    let at = this.#room(text.length * 3 + 3);
    const { buffer } = this;
    buffer[at++] = type;
    for (let i = 0; i < text.length; i++) {
      const code = text.charCodeAt(i);
      if (code > 127) {
        const { written } = encoder.encodeInto(text.slice(i).replace(/[\r\n]/g, " "), buffer.subarray(at));
        at += written;
        break;
      }
      buffer[at++] = code === CR || code === LF ? 32 : code;
    }
    buffer[at] = CR;
    buffer[at + 1] = LF;
    this.at = at + 2;
  }

  /** A bulk of text with a prefix of ASCII. */
  #text(type: number, text: string, prefix: string): void {
    if (text.length <= loopBytesMax) {
      let ascii = true;
      for (let i = 0; i < text.length && ascii; i++) ascii = text.charCodeAt(i) < 128;
      if (ascii) {
        const all = prefix + text;
        this.#room(all.length + 26);
        this.#header(type, all.length);
        const { buffer } = this;
        let { at } = this;
        for (let i = 0; i < all.length; i++) buffer[at++] = all.charCodeAt(i);
        buffer[at] = CR;
        buffer[at + 1] = LF;
        this.at = at + 2;
        return;
      }
    }
    const bytes = encoder.encode(prefix + text);
    this.#room(bytes.length + 26);
    this.#header(type, bytes.length);
    const { buffer, at } = this;
    buffer.set(bytes, at);
    buffer[at + bytes.length] = CR;
    buffer[at + bytes.length + 1] = LF;
    this.at = at + bytes.length + 2;
  }

  /** Makes sure that `bytes` more fit; where they begin. */
  #room(bytes: number): number {
    const { at } = this;
    if (at + bytes > this.buffer.length) this.#grow(at + bytes);
    return at;
  }

  #grow(bytes: number): void {
    const larger = new Uint8Array(Math.max(bytes, Math.min(this.buffer.length * 2, this.buffer.length + (64 << 20)), 1_024));
    larger.set(this.buffer.subarray(0, this.at));
    this.buffer = larger;
  }
}
