// The bytes of a file in order, chunk by chunk, through the file system that was handed in.
// Why not a stream of the machine's: so that readers of big files also run on the simulated one.
// Cost: one read at a time of `chunkBytes`; the consumer's pace is the pace of reading.

import { MillraceError } from "#base/errors";
import type { Files } from "./files.ts";

export interface FileStreamOptions {
  /** Size of one read, default 256 KiB. */
  readonly chunkBytes?: number;
  /** Called after each read with the bytes read so far. */
  readonly onBytes?: (bytesRead: number) => void;
}

/** Streams the file at `path`. Each chunk is a buffer of its own. Throws `not-found` when there is no such file. */
export async function* streamFile(files: Files, path: string, options: FileStreamOptions = {}): AsyncGenerator<Uint8Array, void, void> {
  const chunkBytes = options.chunkBytes ?? 256 * 1_024;
  const file = await files.open(path, "read");
  if (file === undefined) throw new MillraceError("not-found", `there is no file ${path}`, { todo: "check the path" });
  try {
    for (let position = 0; ;) {
      const chunk = new Uint8Array(chunkBytes);
      const read = await file.read(chunk, position);
      if (read === 0) return;
      position += read;
      options.onBytes?.(position);
      yield chunk.subarray(0, read);
    }
  } finally {
    await file.close();
  }
}
