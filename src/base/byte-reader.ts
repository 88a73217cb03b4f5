// Reads what ByteWriter wrote, and believes none of it: every length is checked against the bytes that are there.
// Invariants: 1. nothing beyond the given bytes is read; what does not fit is `corrupt`  2. every call moves on or throws, so a loop over fields ends.
// Limits: a varint has at most 5 bytes and stands for at most 2^32 - 1.

import { MillraceError } from "./errors.ts";

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

export class ByteReader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #what: string;
  readonly #todo: string;
  #at = 0;

  /** `what` names the record in errors, `todo` says what an operator does about a damaged one. */
  constructor(bytes: Uint8Array, what: string, todo: string) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#what = what;
    this.#todo = todo;
  }

  /** Place of the next field. */
  get at(): number {
    return this.#at;
  }

  get left(): number {
    return this.#bytes.length - this.#at;
  }

  u8(): number {
    return this.#view.getUint8(this.#take(1));
  }

  u32(): number {
    return this.#view.getUint32(this.#take(4), true);
  }

  i32(): number {
    return this.#view.getInt32(this.#take(4), true);
  }

  f32(): number {
    return this.#view.getFloat32(this.#take(4), true);
  }

  f64(): number {
    return this.#view.getFloat64(this.#take(8), true);
  }

  varint(): number {
    let value = 0;
    for (let shift = 0; shift < 35; shift += 7) {
      const byte = this.u8();
      value += (byte & 127) * 2 ** shift;
      if (byte < 128) {
        if (value > 0xffffffff) break;
        return value;
      }
    }
    throw this.damaged("a length of more than 32 bits");
  }

  /** A view of the next bytes, their number before them. */
  block(): Uint8Array {
    const length = this.varint();
    const start = this.#take(length);
    return this.#bytes.subarray(start, start + length);
  }

  /** Steps over `count` bytes and says where they began. */
  skip(count: number): number {
    return this.#take(count);
  }

  string(): string {
    const length = this.varint();
    const start = this.#take(length);
    const bytes = this.#bytes;
    if (length < 32) {
      // Short ASCII without the decoder's fixed cost.
      let text = "";
      let at = start;
      for (; at < start + length; at += 1) {
        const code = bytes[at]!;
        if (code > 127) break;
        text += String.fromCharCode(code);
      }
      if (at === start + length) return text;
    }
    try {
      return decoder.decode(bytes.subarray(start, start + length));
    } catch (cause) {
      throw new MillraceError("corrupt", `${this.#what}: text is not UTF-8`, { cause, todo: this.#todo });
    }
  }

  /** JSON text of an object. */
  object(): unknown {
    const text = this.string();
    try {
      const value: unknown = JSON.parse(text);
      if (typeof value === "object" && value !== null && !Array.isArray(value)) return value;
    } catch (cause) {
      throw new MillraceError("corrupt", `${this.#what}: body is not JSON`, { cause, todo: this.#todo });
    }
    throw this.damaged("body is not an object");
  }

  /** Refuses bytes left over. */
  end(): void {
    if (this.left !== 0) throw this.damaged(`${this.left} bytes left over`);
  }

  damaged(what: string): MillraceError {
    return new MillraceError("corrupt", `${this.#what}: ${what}`, { todo: this.#todo });
  }

  #take(count: number): number {
    if (count > this.left) throw this.damaged(`${count} bytes needed where ${this.left} are left`);
    const at = this.#at;
    this.#at += count;
    return at;
  }
}
