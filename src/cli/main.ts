// The commands of `millrace`. Called by bin/millrace.js under the pinned Node, from source or from the built form.

import { Command } from "commander";
import { systemFiles } from "#platform/system-files";

/** The package's version: the manifest stands two folders up, in the clone as in dist/. */
async function packageVersion(): Promise<string> {
  const manifest = new URL("../../package.json", import.meta.url);
  const bytes = await systemFiles.readFile(decodeURIComponent(manifest.pathname));
  return (JSON.parse(new TextDecoder().decode(bytes)) as { version: string }).version;
}

/** Runs one command. `args` are the words after `millrace`. */
export async function main(args: readonly string[]): Promise<void> {
  const program = new Command("millrace")
    .description("Real-time recommendation infrastructure: what a user did a moment ago changes what is recommended now.")
    .version(await packageVersion());
  await program.parseAsync(args, { from: "user" });
}
