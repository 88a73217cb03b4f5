// Blobs: immutable objects by name. This file is the contract; `folder-blobs.ts` is the embedded engine.
// Invariants: 1. a name is written once: a second put with other bytes is `conflict`, with the same bytes a no-op
// 2. a reader sees the whole object or none  3. after `put` resolves the object survives a power cut.
// Names: `/`-separated parts of `[A-Za-z0-9._-]{1,128}`, none starting with a dot, 512 bytes at most. A name may also be the beginning of others
// (`a` and `a/b`). Limits: `blobLimits`.

import { MillraceError } from "#base/errors";

/** Bounds of every engine. */
export const blobLimits = {
  nameBytesMax: 512,
  partBytesMax: 128,
  /** One object; larger things are several objects and a manifest. */
  objectBytesMax: 64 * 1024 * 1024 * 1024,
  /** One `get`; ask for ranges of what is larger. */
  getBytesMax: 1024 * 1024 * 1024,
  listMax: 1_000,
} as const;

/** Throws `invalid` when `name` is no name of an object. */
export function checkBlobName(name: string): void {
  if (name.length <= blobLimits.nameBytesMax && /^[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}(\/[A-Za-z0-9_-][A-Za-z0-9._-]{0,127})*$/.test(name)) return;
  throw new MillraceError("invalid", `the blob name ${JSON.stringify(name.slice(0, 80))} is not allowed`, {
    todo: "use parts of 1 to 128 of the characters A-Z, a-z, 0-9, dot, underscore and -, not beginning with a dot, with / between them",
  });
}

export interface BlobInfo {
  readonly name: string;
  readonly size: number;
}

export interface Blobs {
  /** Stores an object. `conflict` when the name holds other bytes; nothing is changed then. */
  put(name: string, content: Uint8Array | AsyncIterable<Uint8Array>): Promise<BlobInfo>;
  /** Bytes `[start, end)` of the object, whole without a range; `undefined` when there is no such object. A range beyond the end is cut.
   * `invalid` when more than `getBytesMax` would come. */
  get(name: string, range?: { start: number; end: number }): Promise<Uint8Array | undefined>;
  info(name: string): Promise<BlobInfo | undefined>;
  /** Objects whose names begin with `prefix`, in name order, after `after`, at most `limit` (default 1,000). */
  list(prefix: string, page?: { after?: string; limit?: number }): Promise<BlobInfo[]>;
  /** True when it was there. */
  delete(name: string): Promise<boolean>;
  /** Engines whose objects are files of this machine: where the object lies (or would lie), to be read in place and never written. */
  pathOf?(name: string): string;
  /** Engines whose objects are files of this machine: stores a finished file by moving it, so that no byte is copied; `put` in everything else. The file is gone
   * afterwards, also after `conflict`. */
  putFile?(name: string, path: string): Promise<BlobInfo>;
}
