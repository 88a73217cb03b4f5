// Exports and imports of parameter tables for commands: the server reads and writes DATA/exchange alone, so that no request names a path of the machine; what lies there is
// moved or copied by the command, as the user who calls it.
// Limits: files of an export only (npy-exchange.ts); `waitMsMax`.

import { MillraceError } from "#base/errors";
import { streamFile } from "#platform/file-stream";
import { systemClock } from "#platform/system-clock";
import { systemFiles } from "#platform/system-files";
import { randomId, systemRandom } from "#platform/system-random";
import type { ParameterExchange } from "#wire/parameter-api";
import { requireDataFolder } from "./data-folder.ts";
import type { ServerCall } from "./server-call.ts";

/** How long a command waits for a table. */
const waitMsMax = 3_600_000;
const askAgainMs = 200;
const names = ["keys.npy", "values.npy", "versions.npy", "touched.npy", "manifest.json"] as const;

export interface ExchangeOptions {
  readonly call: ServerCall;
  readonly dataFolder: string;
  readonly table: string;
  /** Absolute. */
  readonly folder: string;
}

/** Has the server write a table's rows, and puts the files into `folder`, which must not hold an export. Throws `conflict`, what the server throws, `timeout`. */
export async function exportParameters({ call, dataFolder, table, folder }: ExchangeOptions): Promise<ParameterExchange> {
  await requireDataFolder(dataFolder);
  const { join } = systemFiles;
  for (const name of names) {
    if ((await systemFiles.sizeOf(join(folder, name))) === undefined) continue;
    throw new MillraceError("conflict", `${folder} holds an export`, { todo: "give each export a folder of its own" });
  }
  const exchange = newExchange();
  const from = join(dataFolder, "exchange", exchange);
  try {
    const done = await untilDone(call, table, "export", exchange);
    await systemFiles.makeFolder(folder);
    for (const name of names) {
      if ((await systemFiles.sizeOf(join(from, name))) === undefined) throw elsewhere(from);
      // Another disk: copied.
      await systemFiles.rename(join(from, name), join(folder, name)).catch(() => copy(join(from, name), join(folder, name)));
    }
    await systemFiles.syncFolder(folder);
    return done;
  } finally {
    await systemFiles.removeFolder(from);
  }
}

/** Hands the files of an export to the server, which assigns their rows. Throws `not-found`, what the server throws, `timeout`. */
export async function importParameters({ call, dataFolder, table, folder }: ExchangeOptions): Promise<ParameterExchange> {
  await requireDataFolder(dataFolder);
  const { join } = systemFiles;
  if ((await systemFiles.sizeOf(join(folder, "manifest.json"))) === undefined) {
    throw new MillraceError("not-found", `${folder} holds no export: it has no manifest.json`, { todo: "name the folder of a complete export" });
  }
  const exchange = newExchange();
  const into = join(dataFolder, "exchange", exchange);
  try {
    await systemFiles.makeFolder(into);
    for (const name of names) await copy(join(folder, name), join(into, name));
    return await untilDone(call, table, "import", exchange);
  } finally {
    await systemFiles.removeFolder(into);
  }
}

const newExchange = (): string => `command-${randomId(systemRandom, 12)}`;

function elsewhere(from: string): MillraceError {
  return new MillraceError("not-found", `the server wrote nothing into ${from}`, { todo: "name the data folder of that server with --data" });
}

/** A request that takes long is answered 202 and asked again. */
async function untilDone(call: ServerCall, table: string, what: "export" | "import", name: string): Promise<ParameterExchange> {
  const until = systemClock.monotonicMs() + waitMsMax;
  for (;;) {
    const answer = await call<ParameterExchange | { running: true }>("POST", `/v1/parameters/tables/${encodeURIComponent(table)}/${what}`, { name });
    if (!("running" in answer)) return answer;
    if (systemClock.monotonicMs() > until) {
      throw new MillraceError("timeout", `the ${what} of ${table} took longer than ${waitMsMax / 60_000} minutes`, { todo: "look at the server's log" });
    }
    await systemClock.sleep(askAgainMs);
  }
}

async function copy(from: string, to: string): Promise<void> {
  const file = await systemFiles.open(to, "create");
  if (file === undefined) throw new MillraceError("conflict", `${to} is there already`, { todo: "remove it, or name another folder" });
  try {
    let at = 0;
    for await (const chunk of streamFile(systemFiles, from, { chunkBytes: 1 << 20 })) {
      await file.write(chunk, at);
      at += chunk.length;
    }
    await file.sync();
  } finally {
    await file.close();
  }
}
