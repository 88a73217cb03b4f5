// The keys of a fan-out read as one argument (KEYSBLOB, docs/tables.md): u32 count, count + 1 bounds (u32, little-endian, from the first key's byte on), the bytes of the keys.
// Why one argument: a command of 1,000 arguments is 1,000 headers to write and to parse; a blob is one.
// Why the texts are joined first: a call into the encoder costs some 0.2 us, whatever the text; 1,000 keys in one call are encoded in 30 us instead of 200. A text that is not
// ASCII throughout gives more bytes than characters: then the bounds are not known from the lengths, and each key is encoded by itself.
// Invariant: bytes handed out are the writer's own until the next `fill`: what was sent and answered may be overwritten.
// Concurrency: a writer has one request under way. Limits: tableLimits.readKeysMax keys of keyBytesMax, as the server.

import { MillraceError } from "#base/errors";
import { tableLimits } from "./table-limits.ts";

const encoder = new TextEncoder();

/** Writes blobs of keys into one buffer that is reused. */
export class KeyBlobWriter {
  #bytes = new Uint8Array(4_096);
  #words = new Uint32Array(this.#bytes.buffer);

  /** The blob of these keys: a view until the next call. Throws `invalid` beyond tableLimits.readKeysMax keys, and for a key that no table takes. */
  fill(keys: readonly string[]): Uint8Array {
    const count = keys.length;
    if (count > tableLimits.readKeysMax) {
      throw new MillraceError("invalid", `${count} keys in one read`, { todo: `send at most ${tableLimits.readKeysMax}, in several reads` });
    }
    const headBytes = 4 * (count + 2);
    this.#room(headBytes);
    const words = this.#words;
    words[0] = count;
    words[1] = 0;
    // Added up, not `join`: one way over the keys for texts and bounds is a fifth less.
    let all = "";
    for (let i = 0; i < count; i += 1) {
      const key = keys[i]!;
      if (key.length > tableLimits.keyBytesMax) {
        throw new MillraceError("invalid", `a key of ${key.length} characters`, { todo: `use at most ${tableLimits.keyBytesMax} bytes` });
      }
      all += key;
      words[i + 2] = all.length;
    }
    // A UTF-16 unit takes at most three bytes of UTF-8; where all is ASCII one is enough, and most keys are.
    this.#room(headBytes + all.length);
    const { read, written } = encoder.encodeInto(all, this.#bytes.subarray(headBytes));
    if (read !== all.length || written !== all.length) return this.#fillEach(keys, headBytes, all.length);
    return this.#bytes.subarray(0, headBytes + written);
  }

  #fillEach(keys: readonly string[], headBytes: number, characters: number): Uint8Array {
    this.#room(headBytes + 3 * characters);
    const bytes = this.#bytes;
    const words = this.#words;
    let bound = 0;
    for (let i = 0; i < keys.length; i += 1) {
      bound += encoder.encodeInto(keys[i]!, bytes.subarray(headBytes + bound)).written;
      words[i + 2] = bound;
    }
    return bytes.subarray(0, headBytes + bound);
  }

  #room(bytes: number): void {
    if (bytes <= this.#bytes.length) return;
    const larger = new Uint8Array(Math.ceil(Math.max(bytes, this.#bytes.length * 2) / 4) * 4);
    larger.set(this.#bytes);
    this.#bytes = larger;
    this.#words = new Uint32Array(larger.buffer);
  }
}
