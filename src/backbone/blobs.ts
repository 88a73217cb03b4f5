// Blobs: immutable objects by name. This file is the contract; `folder-blobs.ts` is the embedded engine.
// Invariants: 1. a name is written once: a second put with other bytes is `conflict`, with the same bytes a no-op
// 2. a reader sees the whole object or none  3. after `put` resolves the object survives a power cut.
// Names: `/`-separated parts of `[A-Za-z0-9._-]{1,128}`, none starting with a dot, 512 bytes at most.

export interface BlobInfo {
  readonly name: string;
  readonly size: number;
}

export interface Blobs {
  put(name: string, content: Uint8Array | AsyncIterable<Uint8Array>): Promise<BlobInfo>;
  /** Bytes `[start, end)` of the object, whole without a range; `undefined` when there is no such object. A range beyond the end is cut. */
  get(name: string, range?: { start: number; end: number }): Promise<Uint8Array | undefined>;
  info(name: string): Promise<BlobInfo | undefined>;
  /** Objects whose names begin with `prefix`, in name order, after `after`, at most `limit` (default 1,000). */
  list(prefix: string, page?: { after?: string; limit?: number }): Promise<BlobInfo[]>;
  /** True when it was there. */
  delete(name: string): Promise<boolean>;
}
