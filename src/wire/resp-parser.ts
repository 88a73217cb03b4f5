// Finds the commands in a stream of RESP requests: one pass over the bytes, positions of arguments in typed arrays, nothing copied, nothing allocated.
// Also inline commands (`SET a "b c"\r\n`), as people type them. Sources: redis.io/docs protocol specification; limits and texts as redis-server 7.0.15 gives them.
// Why positions and not views: a view costs more than the command it belongs to, and most arguments go to a batch that copies them.
// Invariants: 1. `parse` goes on exactly where it stopped: the result does not depend on how the stream was cut  2. positions are of the buffer of the last
// `parse`; an unfinished command is kept from its first byte by the caller, who says by `rebase` where it went  3. after a fault nothing more is parsed.
// An inline argument in quotes is decoded in place; so that nobody reads those bytes a second time, such a command is the only one of its `parse`.
// Cost: about 25 ns an argument. Limits: see `ParseLimits`; the sum of bytes is the caller's.

export interface ParseLimits {
  /** Bytes of an argument. */
  readonly bulkBytesMax: number;
  /** Before authentication: at most `unauthenticatedMax`. */
  readonly unauthenticated: boolean;
}

/** Longest line without an end: an inline command, or a length. As Redis' PROTO_INLINE_MAX_SIZE. */
export const lineBytesMax = 65_536;
/** Redis' INT_MAX: more arguments are no number of arguments. Their bytes are bounded by the server's input limit. */
const argumentsMax = 2_147_483_647;
/** What somebody may send who has not authenticated. As Redis. */
export const unauthenticatedMax = { arguments: 10, bulkBytes: 16_384 } as const;

const CR = 13;
const LF = 10;
const SPACE = 32;
const DOLLAR = 36;
const STAR = 42;
const DOUBLE_QUOTE = 34;
const SINGLE_QUOTE = 39;
const BACKSLASH = 92;
/** Longest decimal of a length that can be right, with a sign. */
const lengthDigitsMax = 12;

export class RespParser {
  /** Whole commands found by the last `parse`. */
  commands = 0;
  /** Command i has the arguments `firstArg[i]` to `firstArg[i + 1]`. */
  firstArg = new Int32Array(65);
  /** Where the bytes of command i end. */
  commandEnd = new Int32Array(64);
  /** Argument a is `buffer[starts[a]..ends[a])`. */
  starts = new Int32Array(256);
  ends = new Int32Array(256);
  /** First byte of what is no whole command yet: from here on the caller keeps the bytes. */
  begin = 0;
  /** What is wrong with the stream, the text behind "Protocol error: ". */
  fault: string | undefined;

  // The command that is not complete yet.
  #args = 0;
  /** Arguments it will have; 0: its first byte was not read. */
  #wanted = 0;
  /** Length of the argument that is being read; -1: not known yet. */
  #bulk = -1;
  /** First byte that was not parsed. */
  #at = 0;

  /** A command has begun and is not complete. */
  get unfinished(): boolean {
    return this.#wanted > 0;
  }
  /** Bytes that the unfinished command needs at least, counted from where parsing stopped; a hint for the size of a buffer. */
  get needed(): number {
    return this.#bulk < 0 ? 1 : this.#bulk + 2;
  }

  /** The bytes have moved down by `by` (the consumed ones were dropped): positions of the unfinished command follow, complete ones are forgotten. */
  rebase(by: number): void {
    const first = this.firstArg[this.commands]!;
    const have = this.#args - first;
    for (let a = 0; a < have; a++) {
      this.starts[a] = this.starts[first + a]! - by;
      this.ends[a] = this.ends[first + a]! - by;
    }
    this.commands = 0;
    this.firstArg[0] = 0;
    this.#args = have;
    this.begin -= by;
    this.#at -= by;
  }

  /** Begins at `at` with nothing known: commands that were parsed before and not run are parsed again. */
  restart(at: number): void {
    this.commands = 0;
    this.fault = undefined;
    this.firstArg[0] = 0;
    this.#args = 0;
    this.#wanted = 0;
    this.#bulk = -1;
    this.begin = at;
    this.#at = at;
  }

  /**
   * Parses `buffer[..to)` from where it stopped (`restart` says where first) until `commandsMax` commands are found. Once they were run, the bytes up to
   * `begin` may be dropped, by `rebase`.
   */
  parse(buffer: Uint8Array, to: number, commandsMax: number, limits: ParseLimits): void {
    let at = this.#at;
    let args = this.#args;
    let wanted = this.#wanted;
    let bulk = this.#bulk;
    let { starts, ends } = this;
    let first = this.firstArg[this.commands]!;
    let begin = this.begin;
    scan: while (this.commands < commandsMax) {
      if (wanted === 0) {
        begin = at;
        if (at >= to) break;
        if (buffer[at] !== STAR) {
          this.#at = at;
          this.#args = args;
          const next = this.#inline(buffer, to);
          if (next <= at) break;
          at = next;
          if (this.#args > args) {
            args = this.#args;
            ({ starts, ends } = this);
            this.#command(args, at);
            first = args;
            if (this.#decoded) break;
          }
          continue;
        }
        // The count of arguments.
        let cursor = at + 1;
        let value: number;
        const byte = buffer[cursor]!;
        // Nearly always one digit.
        if (cursor + 2 < to && byte >= 49 && byte <= 57 && buffer[cursor + 1] === CR) {
          value = byte - 48;
          cursor += 3;
        } else {
          cursor = lineEnd(buffer, cursor, to);
          if (cursor < 0) {
            if (to - at > lineBytesMax) this.fault = "too big mbulk count string";
            break;
          }
          value = lengthOf(buffer, at + 1, cursor);
          cursor += 2;
        }
        if (Number.isNaN(value) || value > argumentsMax) {
          this.fault = "invalid multibulk length";
          break;
        }
        if (limits.unauthenticated && value > unauthenticatedMax.arguments) {
          this.fault = "unauthenticated multibulk length";
          break;
        }
        at = cursor;
        // Nothing to do for *0 and *-1.
        if (value <= 0) continue;
        wanted = value;
      }
      while (args - first < wanted) {
        if (bulk < 0) {
          if (at >= to) break scan;
          let cursor = at + 1;
          const byte = buffer[cursor]!;
          // One digit, two digits, or what else.
          if (cursor + 3 < to && buffer[at] === DOLLAR && byte >= 48 && byte <= 57) {
            const second = buffer[cursor + 1]!;
            if (second === CR) {
              bulk = byte - 48;
              cursor += 3;
            } else if (second >= 48 && second <= 57 && byte !== 48 && buffer[cursor + 2] === CR) {
              bulk = (byte - 48) * 10 + second - 48;
              cursor += 4;
            }
          }
          if (bulk < 0) {
            cursor = lineEnd(buffer, cursor - 1, to);
            if (cursor < 0) {
              if (to - at > lineBytesMax) this.fault = "too big bulk count string";
              break scan;
            }
            if (buffer[at] !== DOLLAR) {
              this.fault = `expected '$', got '${printable(buffer[at]!)}'`;
              break scan;
            }
            const value = lengthOf(buffer, at + 1, cursor);
            if (!(value >= 0) || value > limits.bulkBytesMax) {
              this.fault = "invalid bulk length";
              break scan;
            }
            if (limits.unauthenticated && value > unauthenticatedMax.bulkBytes) {
              this.fault = "unauthenticated bulk length";
              break scan;
            }
            bulk = value;
            cursor += 2;
          }
          at = cursor;
        }
        // The two bytes behind an argument are not looked at, as in Redis.
        if (at + bulk + 2 > to) break scan;
        if (args === starts.length) {
          this.#growArgs();
          ({ starts, ends } = this);
        }
        starts[args] = at;
        ends[args] = at + bulk;
        args += 1;
        at += bulk + 2;
        bulk = -1;
      }
      this.#command(args, at);
      first = args;
      wanted = 0;
    }
    this.begin = begin;
    this.#at = at;
    this.#args = args;
    this.#wanted = wanted;
    this.#bulk = bulk;
  }

  #command(args: number, end: number): void {
    const { commands } = this;
    if (commands + 1 >= this.firstArg.length) {
      this.firstArg = grown(this.firstArg, this.firstArg.length * 2);
      this.commandEnd = grown(this.commandEnd, this.firstArg.length);
    }
    this.commandEnd[commands] = end;
    this.commands = commands + 1;
    this.firstArg[commands + 1] = args;
  }

  #growArgs(): void {
    this.starts = grown(this.starts, this.starts.length * 2);
    this.ends = grown(this.ends, this.starts.length);
  }

  #decoded = false;

  /** An inline command at `#at`: where the next one begins, or `#at` when it is not complete, faulty, or must be the first of a `parse`. */
  #inline(buffer: Uint8Array, to: number): number {
    const from = this.#at;
    this.#decoded = false;
    let newline = buffer.subarray(from, to).indexOf(LF);
    if (newline < 0) {
      if (to - from > lineBytesMax) this.fault = "too big inline request";
      return from;
    }
    newline += from;
    const end = newline > from && buffer[newline - 1] === CR ? newline - 1 : newline;
    let quoted = false;
    for (let i = from; i < end; i++) if (buffer[i] === DOUBLE_QUOTE || buffer[i] === SINGLE_QUOTE) quoted = true;
    if (quoted && this.commands > 0) return from;
    const before = this.#args;
    let at = from;
    for (;;) {
      while (at < end && isBlank(buffer[at]!)) at += 1;
      if (at >= end || buffer[at] === 0) break;
      if (this.#args === this.starts.length) this.#growArgs();
      this.starts[this.#args] = at;
      if (quoted) {
        const [next, written] = unquote(buffer, at, end);
        if (next < 0) {
          this.#args = before;
          this.fault = "unbalanced quotes in request";
          return from;
        }
        this.ends[this.#args] = at + written;
        at = next;
      } else {
        while (at < end && !isBlank(buffer[at]!) && buffer[at] !== 0) at += 1;
        this.ends[this.#args] = at;
      }
      this.#args += 1;
    }
    this.#decoded = quoted && this.#args > before;
    return newline + 1;
  }
}

/** The CR of the line that `at` is in, when the byte behind it is there too; else -1. */
function lineEnd(buffer: Uint8Array, at: number, to: number): number {
  for (let i = at; i + 1 < to; i++) if (buffer[i] === CR) return i;
  return -1;
}

/** A length as Redis reads numbers: no plus, no leading zero, no blank. NaN for anything else. */
function lengthOf(buffer: Uint8Array, from: number, to: number): number {
  const length = to - from;
  if (length === 0 || length > lengthDigitsMax) return Number.NaN;
  if (length === 1 && buffer[from] === 48) return 0;
  const negative = buffer[from] === 45;
  let at = negative ? from + 1 : from;
  if (at === to || buffer[at]! < 49 || buffer[at]! > 57) return Number.NaN;
  let value = 0;
  for (; at < to; at++) {
    const digit = buffer[at]! - 48;
    if (digit < 0 || digit > 9) return Number.NaN;
    value = value * 10 + digit;
  }
  return negative ? -value : value;
}

function isBlank(byte: number): boolean {
  return byte === SPACE || (byte >= 9 && byte <= 13);
}

function hexOf(byte: number): number {
  if (byte >= 48 && byte <= 57) return byte - 48;
  const lower = byte | 0x20;
  return lower >= 97 && lower <= 102 ? lower - 87 : -1;
}

const escapes: Readonly<Record<number, number>> = { 110: 10, 114: 13, 116: 9, 98: 8, 97: 7 };

/**
 * Decodes one word with quotes in place, from `from`: [where it ends in the text, how many bytes it has]; -1 when a quote stays open or is followed by
 * anything but a blank.
 */
function unquote(buffer: Uint8Array, from: number, end: number): [next: number, written: number] {
  let at = from;
  let write = from;
  let inside = 0;
  for (;;) {
    if (at >= end) return inside === 0 ? [at, write - from] : [-1, 0];
    const byte = buffer[at]!;
    if (inside === DOUBLE_QUOTE) {
      if (byte === BACKSLASH && at + 3 < end && buffer[at + 1] === 120 && hexOf(buffer[at + 2]!) >= 0 && hexOf(buffer[at + 3]!) >= 0) {
        buffer[write++] = hexOf(buffer[at + 2]!) * 16 + hexOf(buffer[at + 3]!);
        at += 4;
      } else if (byte === BACKSLASH && at + 1 < end) {
        const escaped = buffer[at + 1]!;
        buffer[write++] = escapes[escaped] ?? escaped;
        at += 2;
      } else if (byte === DOUBLE_QUOTE) {
        if (at + 1 < end && !isBlank(buffer[at + 1]!)) return [-1, 0];
        return [at + 1, write - from];
      } else {
        buffer[write++] = byte;
        at += 1;
      }
    } else if (inside === SINGLE_QUOTE) {
      if (byte === BACKSLASH && buffer[at + 1] === SINGLE_QUOTE && at + 1 < end) {
        buffer[write++] = SINGLE_QUOTE;
        at += 2;
      } else if (byte === SINGLE_QUOTE) {
        if (at + 1 < end && !isBlank(buffer[at + 1]!)) return [-1, 0];
        return [at + 1, write - from];
      } else {
        buffer[write++] = byte;
        at += 1;
      }
    } else if (isBlank(byte) || byte === 0) return [at, write - from];
    else if (byte === DOUBLE_QUOTE || byte === SINGLE_QUOTE) {
      inside = byte;
      at += 1;
    } else {
      buffer[write++] = byte;
      at += 1;
    }
  }
}

/** The byte as one character of an error line; what cannot stand there is a dot. */
function printable(byte: number): string {
  return byte >= 32 && byte < 127 ? String.fromCharCode(byte) : ".";
}

function grown(from: Int32Array<ArrayBuffer>, length: number): Int32Array<ArrayBuffer> {
  const to = new Int32Array(Math.max(length, from.length));
  to.set(from);
  return to;
}
