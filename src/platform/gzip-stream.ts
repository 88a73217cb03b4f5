// Unpacks a stream of bytes when it is gzip (or zstd), and passes it on unchanged when it is not.
// Why by the first bytes and not by the name: a renamed file is still what it is (RFC 1952 section 2.3.1: 1f 8b; RFC 8878 section 3.1.1: 28 b5 2f fd).
// Cost: zlib in libuv's thread pool; memory is one chunk on each side, however far the input unpacks.

import { pipeline, Readable, type Transform } from "node:stream";
import { createGunzip, createZstdDecompress } from "node:zlib";
import { MillraceError, toMillraceError } from "#base/errors";

interface Packing {
  readonly name: string;
  readonly magic: readonly number[];
  readonly unpack: () => Transform;
}

const gzip: Packing = { name: "gzip", magic: [0x1f, 0x8b], unpack: () => createGunzip() };
const zstd: Packing = { name: "zstd", magic: [0x28, 0xb5, 0x2f, 0xfd], unpack: () => createZstdDecompress() };

/** The bytes behind `source`, unpacked if packed; `name` stands in errors. Throws `corrupt` when the gzip data is damaged or cut off. */
export function unpackGzip(source: AsyncIterable<Uint8Array>, name: string): AsyncGenerator<Uint8Array, void, void> {
  return unpack(source, name, gzip);
}

/** As `unpackGzip`, for zstd. */
export function unpackZstd(source: AsyncIterable<Uint8Array>, name: string): AsyncGenerator<Uint8Array, void, void> {
  return unpack(source, name, zstd);
}

async function* unpack(source: AsyncIterable<Uint8Array>, name: string, packing: Packing): AsyncGenerator<Uint8Array, void, void> {
  const { magic } = packing;
  const chunks = source[Symbol.asyncIterator]();
  // Short chunks are joined until the first bytes are known.
  let head: Uint8Array = new Uint8Array(0);
  let ended = false;
  while (head.length < magic.length && !ended) {
    const next = await chunks.next();
    if (next.done === true) ended = true;
    else head = head.length === 0 ? next.value : Uint8Array.of(...head, ...next.value);
  }
  const whole = async function* (): AsyncGenerator<Uint8Array, void, void> {
    try {
      if (head.length > 0) yield head;
      while (!ended) {
        const next = await chunks.next();
        if (next.done === true) ended = true;
        else yield next.value;
      }
    } finally {
      if (!ended) await chunks.return?.();
    }
  };
  if (magic.some((byte, at) => head[at] !== byte)) {
    yield* whole();
    return;
  }
  const unpacking = packing.unpack();
  // A failure of either side destroys both, and comes out of the loop below.
  pipeline(Readable.from(whole()), unpacking, () => {});
  try {
    for await (const chunk of unpacking) yield chunk as Uint8Array;
  } catch (thrown) {
    if (thrown instanceof MillraceError) throw thrown;
    const code = (thrown as NodeJS.ErrnoException).code ?? "";
    if (!/^(Z_|ZSTD_)/.test(code)) throw toMillraceError(thrown, `cannot unpack ${name}`);
    throw new MillraceError("corrupt", `${name} is not whole ${packing.name} data (${code})`, {
      cause: thrown,
      todo: "fetch the file again and compare its checksum",
    });
  }
}
