// The files of a segment: `.npy`, one array a file, named `segment.NAME.npy`. Layout: docs/format/vector-segment.md. Sizes and checksums of whole files are the manifest's to check; what is checked here is what they say.

import { MillraceError } from "#base/errors";
import type { MemoryPool } from "#kernel/memory-pool";
import type { Files } from "#platform/files";
import type { SegmentParts } from "./segment-parts.ts";
import type { VectorSegment } from "./vector-segment.ts";

/** Ids of the input rows: id i = bytes `offsets[i]` to `offsets[i + 1]`, UTF-8, no two equal. */
export interface SegmentIds {
  readonly bytes: Uint8Array;
  readonly offsets: Uint32Array;
}

/** Packs texts. */
export function packIds(ids: readonly string[]): SegmentIds {
  const encoder = new TextEncoder();
  const offsets = new Uint32Array(ids.length + 1);
  let bytes = new Uint8Array(Math.max(64, ids.length * 16));
  let at = 0;
  ids.forEach((id, i) => {
    if (at + id.length * 3 > bytes.length) {
      const wider = new Uint8Array(Math.max(bytes.length * 2, at + id.length * 3));
      wider.set(bytes);
      bytes = wider;
    }
    at += encoder.encodeInto(id, bytes.subarray(at)).written;
    offsets[i + 1] = at;
  });
  return { bytes: bytes.subarray(0, at), offsets };
}

/** Writes the files into a folder that exists; returns their names and rows, for the manifest. Throws `invalid` for ids that are not unique. */
export function writeSegment(
  _parts: SegmentParts,
  _ids: SegmentIds,
  _files: Files,
  _folder: string,
): Promise<readonly { readonly name: string; readonly rows: number }[]> {
  throw new MillraceError("unsupported", "segments", { todo: "wait for them" });
}

export interface LoadOptions {
  /** Whom the pool's statistics count the memory for. */
  readonly owner: string;
  /** Bytes of data to reserve in the same memory for attribute columns and the like. Default 0. */
  readonly extraBytes?: number;
  /** Of the one lane: arguments and results of a call. Default 1 MiB. */
  readonly laneBytes?: number;
}

/** Loads a segment into a leased memory. Throws `corrupt` when the files are not those of a segment, `overloaded` when the pool has no room. `pathOf`: the path of a file by name. */
export function loadSegment(_files: Files, _pathOf: (name: string) => string, _pool: MemoryPool, _options: LoadOptions): Promise<VectorSegment> {
  throw new MillraceError("unsupported", "segments", { todo: "wait for them" });
}
