// The way to a local replica. Loaded when it is first called: it needs the engine and a Node.js with SQLite (24 or later), which those who only send requests do not.

import { MillraceError } from "#base/errors";
import type { LocalTable } from "./replica/local-table.ts";
import type { OpenTableOptions } from "./replica/open-table.ts";

/**
 * Opens this process' own copy of a table, from the data folder of a millrace server on this machine (docs/local-replica.md). Resolves when the live version is
 * here, with every write that was logged before the call. Throws `not-found` when there is no such folder or table, `unsupported` where Node.js is too old, `timeout`.
 */
export async function openTable(name: string, options: OpenTableOptions): Promise<LocalTable> {
  let replica: typeof import("./replica/open-table.ts");
  try {
    replica = await import("./replica/open-table.ts");
  } catch (cause) {
    throw new MillraceError("unsupported", "local replicas cannot be loaded in this process", { cause, todo: "run it with Node.js 24 or later" });
  }
  return replica.openTable(name, options);
}
