// Makes the base of a view out of the files of a version: the segment, the attributes beside it, and what its manifest says. Asked again the probes of its builder, before any write is applied.

import { MillraceError } from "#base/errors";
import type { MemoryPool } from "#kernel/memory-pool";
import type { Files } from "#platform/files";
import type { Manifest } from "#snapshot/manifest";
import type { FetchedFile } from "#snapshot/snapshot-follower";
import { probeFaults, versionMetaOf } from "../builder/version-meta.ts";
import { attributeFile, attributeRoom, loadAttributes } from "../filter/attribute-files.ts";
import { loadSegment } from "../segment/segment-files.ts";
import type { BaseVersion } from "./base-version.ts";

export interface LoadBase {
  readonly manifest: Manifest;
  readonly fetched: readonly FetchedFile[];
  readonly files: Files;
  readonly pool: MemoryPool;
  readonly owner: string;
  /** Probes that are asked: each an exact search of some milliseconds. Default: as many as a thread that serves can take. */
  readonly probes?: number;
  /** For a thread that serves: lets its other work in, asked after every some tenths of a millisecond of computing. */
  readonly pause?: () => Promise<void>;
}

const probesAsked = 4;

/** Throws `corrupt` for files that are not those of a version, `invalid` for one that does not answer as its builder said, `overloaded` when the pool has no room. */
export async function loadBase({ manifest, fetched, files, pool, owner, probes = probesAsked, pause }: LoadBase): Promise<BaseVersion> {
  const meta = versionMetaOf(manifest);
  const paths = new Map(fetched.map(({ name, path }) => [name, path]));
  const pathOf = (name: string): string => {
    const path = paths.get(name);
    if (path === undefined)
      throw new MillraceError("corrupt", `version ${manifest.version} of collection ${manifest.name} has no file ${name}`, {
        todo: "build it again, or roll back",
      });
    return path;
  };
  const hasAttributes = paths.has(attributeFile("head"));
  const room = hasAttributes ? await attributeRoom(files, pathOf) : 0;
  const segment = await loadSegment(files, pathOf, pool, { owner, extraBytes: room, ...(pause === undefined ? {} : { pause }) });
  try {
    const attributes = hasAttributes
      ? await loadAttributes(files, pathOf, { memory: segment.memory, at: segment.extraAt, room: segment.extraBytes, slots: segment.slots })
      : undefined;
    const faults = await probeFaults(segment, meta, probes, pause);
    if (faults.length > 0) {
      throw new MillraceError("invalid", `version ${manifest.version} of collection ${manifest.name}: ${faults.join("; ")}`, {
        todo: "build it again, or roll back",
      });
    }
    return {
      version: manifest.version,
      segment,
      settings: meta.settings,
      deltaOffset: meta.deltaOffset,
      attributes,
      normOf: (slot) => segment.normOf(slot),
      bytes: segment.bytes,
      release: () => segment.release(),
    };
  } catch (thrown) {
    segment.release();
    throw thrown;
  }
}
