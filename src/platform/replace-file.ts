// Atomic replacement of a whole file by the steps that every `Files` offers: shared by the machine's files and the simulated twin, so that the
// twin tests the very order of steps that runs in production.

import { dirname } from "node:path";
import type { Files } from "./files.ts";

/** Writes `bytes` to `beside` (a new name in the same folder), syncs it, renames it over `path` and syncs the folder. A crash may leave `beside`. */
export async function replaceFile(files: Files, path: string, beside: string, bytes: Uint8Array): Promise<void> {
  const file = (await files.open(beside, "write"))!;
  try {
    try {
      await file.truncate(0);
      await file.write(bytes, 0);
      await file.sync();
    } finally {
      await file.close();
    }
    await files.rename(beside, path);
  } catch (thrown) {
    // The first failure is what the caller must hear of.
    await files.remove(beside).catch(() => false);
    throw thrown;
  }
  await files.syncFolder(dirname(path));
}
