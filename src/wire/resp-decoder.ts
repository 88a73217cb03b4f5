// Reads replies of RESP2 and RESP3 from chunks of any size.
// Invariants: 1. a bulk is written once, into memory of its own: what a caller gets is never overwritten  2. the result does not depend on how the stream was cut
// 3. a stream that is no RESP throws `corrupt` and is not read further.
// Limits: `depthMax` levels (a hostile server must not overflow a stack), `bulkBytesMax` a bulk, `lineBytesMax` a line, `itemsMax` an aggregate.
// Source: redis.io/docs, RESP2 and RESP3 specification.

import { errorActors, type ErrorCode, MillraceError } from "#base/errors";
import { textOf } from "./resp-arguments.ts";

/** A code that our own servers write behind ERR, unless it stands for trying again, which has words of its own. */
function namedCode(line: string): ErrorCode | undefined {
  const name = /^ERR \[([a-z-]+)\]/.exec(line)?.[1] ?? "";
  if (!Object.hasOwn(errorActors, name)) return undefined;
  const code = name as ErrorCode;
  return errorActors[code] === "retry" ? undefined : code;
}

/** An error that the server answered. `line` is its text, as "WRONGTYPE Operation against...". */
export class RespError extends MillraceError {
  readonly line: string;

  constructor(line: string) {
    const word = line.split(" ", 1)[0]!;
    super(
      word === "NOAUTH" || word === "WRONGPASS" || word === "NOPERM"
        ? "unauthorized"
        : word === "OOM" || word === "BUSY"
          ? "overloaded"
          : word === "MISCONF" || word === "LOADING"
            ? "unavailable"
            : (namedCode(line) ?? "invalid"),
      `the server answered: ${line}`,
    );
    this.line = line;
  }
}

/** A bulk is bytes, a simple or verbatim text a string, nil is null, a RESP3 map a Map, a set an array. Errors inside an array stand there as values. */
export type RespValue = string | number | bigint | boolean | null | Uint8Array | RespError | RespValue[] | Map<RespValue, RespValue>;

export const decoderLimits = { depthMax: 64, bulkBytesMax: 1_073_741_824, lineBytesMax: 65_536, itemsMax: 16_777_216 } as const;

interface Frame {
  readonly kind: "list" | "map" | "attribute" | "push";
  left: number;
  readonly items: RespValue[];
}

function broken(what: string): MillraceError {
  return new MillraceError("corrupt", `the server's answer is no RESP: ${what}`, { todo: "look whether host and port are those of a Redis protocol server" });
}

export class RespDecoder {
  readonly #frames: Frame[] = [];
  /** Beginning of a line whose end has not come. */
  #rest: Uint8Array = new Uint8Array(0);
  /** A bulk that is being filled; its two last bytes are the line's end. */
  #bulk: { readonly target: Uint8Array; filled: number; tail: number; readonly verbatim: boolean } | undefined;

  /** Reads `buffer[..bytes)`; `onReply` for each whole reply, `onPush` for what comes out of turn. Throws `corrupt`. */
  push(buffer: Uint8Array, bytes: number, onReply: (value: RespValue) => void, onPush?: (items: readonly RespValue[]) => void): void {
    let data = buffer;
    let end = bytes;
    let at = 0;
    if (this.#rest.length > 0) {
      data = new Uint8Array(this.#rest.length + bytes);
      data.set(this.#rest);
      data.set(buffer.subarray(0, bytes), this.#rest.length);
      end = data.length;
      this.#rest = new Uint8Array(0);
    }
    for (;;) {
      const bulk = this.#bulk;
      if (bulk !== undefined) {
        const size = Math.min(bulk.target.length - bulk.filled, end - at);
        bulk.target.set(data.subarray(at, at + size), bulk.filled);
        bulk.filled += size;
        at += size;
        const tail = Math.min(bulk.filled === bulk.target.length ? bulk.tail : 0, end - at);
        bulk.tail -= tail;
        at += tail;
        if (bulk.filled < bulk.target.length || bulk.tail > 0) return;
        this.#bulk = undefined;
        this.#value(bulk.verbatim ? textOf(bulk.target, 4, bulk.target.length) : bulk.target, onReply, onPush);
        continue;
      }
      if (at >= end) return;
      let line = at;
      while (line + 1 < end && !(data[line] === 13 && data[line + 1] === 10)) line += 1;
      if (line + 1 >= end) {
        if (end - at > decoderLimits.lineBytesMax) throw broken("a line without an end");
        this.#rest = data.slice(at, end);
        return;
      }
      const type = data[at]!;
      const from = at + 1;
      at = line + 2;
      this.#line(type, data, from, line, onReply, onPush);
    }
  }

  #line(type: number, data: Uint8Array, from: number, to: number, onReply: (value: RespValue) => void, onPush?: (items: readonly RespValue[]) => void): void {
    const done = (value: RespValue): void => this.#value(value, onReply, onPush);
    switch (type) {
      case 43:
        return done(textOf(data, from, to));
      case 45:
        return done(new RespError(textOf(data, from, to)));
      case 58: {
        const text = textOf(data, from, to);
        const number = Number(text);
        if (!/^-?\d+$/.test(text)) throw broken("an integer that is none");
        return done(Number.isSafeInteger(number) ? number : BigInt(text));
      }
      case 36:
      case 61:
      case 33: {
        const size = this.#size(data, from, to, decoderLimits.bulkBytesMax);
        if (size < 0) return done(null);
        this.#bulk = { target: new Uint8Array(size), filled: 0, tail: 2, verbatim: type === 61 };
        return;
      }
      case 42:
      case 126:
      case 62:
      case 37:
      case 124: {
        const size = this.#size(data, from, to, decoderLimits.itemsMax);
        if (size < 0) return done(null);
        if (this.#frames.length >= decoderLimits.depthMax) throw broken(`more than ${decoderLimits.depthMax} levels`);
        const kind = type === 37 ? "map" : type === 124 ? "attribute" : type === 62 ? "push" : "list";
        const left = kind === "map" || kind === "attribute" ? size * 2 : size;
        this.#frames.push({ kind, left, items: [] });
        if (left === 0) this.#closeFrame(onReply, onPush);
        return;
      }
      case 95:
        return done(null);
      case 35:
        return done(data[from] === 116);
      case 44: {
        const text = textOf(data, from, to);
        return done(text === "inf" ? Infinity : text === "-inf" ? -Infinity : Number(text));
      }
      case 40:
        return done(BigInt(textOf(data, from, to)));
      default:
        throw broken("an unknown type of answer");
    }
  }

  #size(data: Uint8Array, from: number, to: number, most: number): number {
    const text = textOf(data, from, to);
    const size = Number(text);
    if (!/^(?:-1|\d{1,12})$/.test(text) || size > most) throw broken("a length that cannot be");
    return size;
  }

  #value(value: RespValue, onReply: (value: RespValue) => void, onPush?: (items: readonly RespValue[]) => void): void {
    const frame = this.#frames.at(-1);
    if (frame === undefined) {
      onReply(value);
      return;
    }
    frame.items.push(value);
    frame.left -= 1;
    if (frame.left === 0) this.#closeFrame(onReply, onPush);
  }

  #closeFrame(onReply: (value: RespValue) => void, onPush?: (items: readonly RespValue[]) => void): void {
    const { kind, items } = this.#frames.pop()!;
    // An attribute belongs to the value that follows; nobody here reads them.
    if (kind === "attribute") return;
    if (kind === "push" && this.#frames.length === 0) {
      onPush?.(items);
      return;
    }
    if (kind !== "map") {
      this.#value(items, onReply, onPush);
      return;
    }
    const map = new Map<RespValue, RespValue>();
    for (let i = 0; i < items.length; i += 2) {
      const key = items[i]!;
      map.set(key instanceof Uint8Array ? textOf(key, 0, key.length) : key, items[i + 1]!);
    }
    this.#value(map, onReply, onPush);
  }
}
