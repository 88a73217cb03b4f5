// Unpacks a stream of bytes when it is gzip, and passes it on unchanged when it is not.
// Why by the first two bytes and not by the name: a renamed file is still what it is (RFC 1952 section 2.3.1: 1f 8b).
// Cost: zlib in libuv's thread pool; memory is one chunk on each side, however far the input unpacks.

import { pipeline, Readable } from "node:stream";
import { createGunzip } from "node:zlib";
import { MillraceError, toMillraceError } from "#base/errors";

const magic = [0x1f, 0x8b] as const;

/** The bytes behind `source`, unpacked if packed; `name` stands in errors. Throws `corrupt` when the gzip data is damaged or cut off. */
export async function* unpackGzip(source: AsyncIterable<Uint8Array>, name: string): AsyncGenerator<Uint8Array, void, void> {
  const chunks = source[Symbol.asyncIterator]();
  // Short chunks are joined until the first two bytes are known.
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
  if (head[0] !== magic[0] || head[1] !== magic[1]) {
    yield* whole();
    return;
  }
  const gunzip = createGunzip();
  // A failure of either side destroys both, and comes out of the loop below.
  pipeline(Readable.from(whole()), gunzip, () => {});
  try {
    for await (const chunk of gunzip) yield chunk as Uint8Array;
  } catch (thrown) {
    if (thrown instanceof MillraceError) throw thrown;
    const code = (thrown as NodeJS.ErrnoException).code ?? "";
    if (!code.startsWith("Z_")) throw toMillraceError(thrown, `cannot unpack ${name}`);
    throw new MillraceError("corrupt", `${name} is not whole gzip data (${code})`, { cause: thrown, todo: "fetch the file again and compare its checksum" });
  }
}
