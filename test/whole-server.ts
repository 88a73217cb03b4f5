// A whole server in the test's process, as `millrace start --no-demo` makes it of a configuration file, on free ports.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { readConfig } from "#cli/config-file";
import { type Server, startServer } from "#roles/server";
import { temporaryFolder } from "../bench/load/server-process.ts";

/** A data folder that is not there yet and goes with the test. */
export function newDataFolder(t: TestContext): string {
  const folder = temporaryFolder();
  t.after(() => {
    folder.remove();
  });
  return join(folder.path, "data");
}

/** Starts a server without a model and stops it after the test. `config` is what the file says beside that. */
export async function startWholeServer(
  t: TestContext,
  config: object = {},
  {
    host = "127.0.0.1",
    port = 0,
    respPort = 0,
    dataFolder = newDataFolder(t),
  }: { readonly host?: string; readonly port?: number; readonly respPort?: number; readonly dataFolder?: string } = {},
): Promise<Server> {
  const folder = temporaryFolder();
  const path = join(folder.path, "config.json");
  writeFileSync(path, JSON.stringify({ model: null, ...config }));
  const read = await readConfig(path, "feed").finally(() => {
    folder.remove();
  });
  const server = await startServer({ host, port, respPort, dataFolder, durability: "none", config: read, version: "0.0.0-test" });
  t.after(async () => {
    await server.stop(500);
  });
  await server.gateway.opened;
  return server;
}
