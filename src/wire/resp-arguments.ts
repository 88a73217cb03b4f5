// The arguments of one call, over the bytes that were read (see Args in resp-command.ts).
// Cost: `integer` some 10 ns, a short ASCII `text` 30 ns, `bytes` 40 ns (a view); nothing else allocates.

import type { Args } from "./resp-command.ts";

const decoder = new TextDecoder();
/** Below so many bytes a loop is faster than the decoder. */
const shortText = 32;
/** Digits of an integer that is surely exact as a number. */
const exactDigits = 15;
const int64Max = 9_223_372_036_854_775_807n;
const noPositions = new Int32Array(0);
const floatPattern = /^[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|inf|infinity)$/i;

/** UTF-8 to text. */
export function textOf(buffer: Uint8Array, start: number, end: number): string {
  if (end - start < shortText) {
    let text = "";
    let at = start;
    for (; at < end; at++) {
      const byte = buffer[at]!;
      if (byte > 127) break;
      text += String.fromCharCode(byte);
    }
    if (at === end) return text;
  }
  return decoder.decode(buffer.subarray(start, end));
}

export class RespArgs implements Args {
  buffer: Uint8Array;
  count: number;
  #starts: Int32Array;
  #ends: Int32Array;
  #base: number;

  constructor() {
    this.buffer = new Uint8Array(0);
    this.count = 0;
    this.#starts = noPositions;
    this.#ends = noPositions;
    this.#base = 0;
  }

  /** Arguments `from` to `to` of the positions given. */
  set(buffer: Uint8Array, starts: Int32Array, ends: Int32Array, from: number, to: number): void {
    this.buffer = buffer;
    this.#starts = starts;
    this.#ends = ends;
    this.#base = from;
    this.count = to - from;
  }

  /** Arguments of their own memory. */
  static of(given: readonly (string | Uint8Array)[]): RespArgs {
    const encoder = new TextEncoder();
    const parts = given.map((one) => (typeof one === "string" ? encoder.encode(one) : one));
    const buffer = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
    const starts = new Int32Array(parts.length);
    const ends = new Int32Array(parts.length);
    let at = 0;
    for (const [i, part] of parts.entries()) {
      buffer.set(part, at);
      starts[i] = at;
      at += part.length;
      ends[i] = at;
    }
    const args = new RespArgs();
    args.set(buffer, starts, ends, 0, parts.length);
    return args;
  }

  start(i: number): number {
    return this.#starts[this.#base + i]!;
  }

  end(i: number): number {
    return this.#ends[this.#base + i]!;
  }

  bytes(i: number): Uint8Array {
    return this.buffer.subarray(this.start(i), this.end(i));
  }

  text(i: number): string {
    return textOf(this.buffer, this.start(i), this.end(i));
  }

  is(i: number, upper: string): boolean {
    const start = this.start(i);
    if (this.end(i) - start !== upper.length) return false;
    for (let at = 0; at < upper.length; at++) {
      let byte = this.buffer[start + at]!;
      if (byte >= 97 && byte <= 122) byte -= 32;
      if (byte !== upper.charCodeAt(at)) return false;
    }
    return true;
  }

  integer(i: number): bigint | number | undefined {
    const { buffer } = this;
    const start = this.start(i);
    const end = this.end(i);
    const length = end - start;
    if (length === 0 || length > 20) return undefined;
    if (length === 1 && buffer[start] === 48) return 0;
    const negative = buffer[start] === 45;
    let at = negative ? start + 1 : start;
    if (at === end || buffer[at]! < 49 || buffer[at]! > 57) return undefined;
    const digits = end - at;
    let value = 0;
    for (; at < end; at++) {
      const digit = buffer[at]! - 48;
      if (digit < 0 || digit > 9) return undefined;
      value = value * 10 + digit;
    }
    if (digits <= exactDigits) return negative ? -value : value;
    const exact = BigInt(textOf(buffer, start, end));
    if (exact > int64Max || exact < -int64Max - 1n) return undefined;
    const number = Number(exact);
    return Number.isSafeInteger(number) ? number : exact;
  }

  float(i: number): number | undefined {
    const length = this.end(i) - this.start(i);
    if (length === 0 || length > 512) return undefined;
    const text = this.text(i);
    if (!floatPattern.test(text)) return undefined;
    const sign = text.startsWith("-") ? -1 : 1;
    return /inf/i.test(text) ? sign * Infinity : Number(text);
  }

  kept(): RespArgs {
    const { count } = this;
    if (count === 0) return RespArgs.of([]);
    const from = this.start(0);
    const to = this.end(count - 1);
    const starts = new Int32Array(count);
    const ends = new Int32Array(count);
    for (let i = 0; i < count; i++) {
      starts[i] = this.start(i) - from;
      ends[i] = this.end(i) - from;
    }
    const args = new RespArgs();
    args.set(this.buffer.slice(from, to), starts, ends, 0, count);
    return args;
  }
}
