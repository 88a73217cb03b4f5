// What reads ids and vectors out of files: the shape of its batches (that of VectorRowBatch in src/vectors, which this room does not know), and which files it may read.

import { MillraceError } from "#base/errors";

export interface VectorRowsRead {
  readonly ids: string[];
  readonly vectors: Float32Array;
  readonly attributes?: (string | undefined)[];
}

export interface VectorRowReader {
  readonly dims: number;
  readonly rowsAbout?: number;
  readonly refused: number;
  read(rowsMax: number, signal: AbortSignal): Promise<VectorRowsRead | undefined>;
  close(): Promise<void>;
}

/** Throws `unauthorized` for a path outside the folders: by its text, an absolute one under one of them without steps back. */
export function checkInside(paths: readonly string[], folders: readonly string[] | undefined): void {
  if (folders === undefined) return;
  const isInside = (path: string): boolean =>
    folders.some((folder) => path.startsWith(folder.endsWith("/") ? folder : `${folder}/`)) && !path.split("/").includes("..");
  if (paths.every(isInside)) return;
  throw new MillraceError("unauthorized", "a file outside the folders from which this server imports", {
    todo:
      folders.length === 0
        ? "name the folders in the server's configuration (storage.importFolders): it has none"
        : `put it into one of: ${folders.join(", ")}`,
  });
}
