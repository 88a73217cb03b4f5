// The commands of `millrace`. Called by bin/millrace.js under the pinned Node, from source or from the built form.
// Each command stands in a file of its own; this one declares options, defaults and help, and turns errors into a line and an exit code:
// 0 done, 1 failed, 2 the command line was wrong, 3 a node refused the version that went live.

import { Command, CommanderError, InvalidArgumentError, Option } from "commander";
import { toMillraceError } from "#base/errors";
import { systemFiles } from "#platform/system-files";
import { printError, setExitCode } from "#platform/system-process";
import type { ImportCommandOptions } from "./import.ts";

/** The package's version: the manifest stands two folders up, in the clone as in dist/. */
async function packageVersion(): Promise<string> {
  const manifest = new URL("../../package.json", import.meta.url);
  const bytes = await systemFiles.readFile(decodeURIComponent(manifest.pathname));
  return (JSON.parse(new TextDecoder().decode(bytes)) as { version: string }).version;
}

function integer(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!Number.isInteger(value) || value < min || value > max) throw new InvalidArgumentError(`give a whole number from ${min} to ${max}`);
    return value;
  };
}

/** Names of `allowed`, separated by commas. */
function someOf<Name extends string>(allowed: readonly Name[]): (text: string) => readonly Name[] {
  return (text) => {
    const names = text.split(",").map((name) => allowed.find((one) => one === name.trim()));
    if (names.includes(undefined)) throw new InvalidArgumentError(`give some of ${allowed.join(", ")}, separated by commas`);
    return names as Name[];
  };
}

/** Commands that have commands. Their files bring half of the server with them (0.7 s of CPU), so one is loaded when its word stands there, or none that is known: for help. */
const groups: readonly { readonly words: readonly string[]; readonly load: () => Promise<(program: Command) => void> }[] = [
  { words: ["snapshots"], load: async () => (await import("./snapshots.ts")).snapshotCommands },
  { words: ["params"], load: async () => (await import("./params.ts")).parameterCommands },
  { words: ["vectors", "builder"], load: async () => (await import("./vectors.ts")).vectorCommands },
];
const otherWords: readonly (string | undefined)[] = ["start", "replay", "import", "build-shard", "samples", "train"];

async function addGroups(program: Command, args: readonly string[]): Promise<void> {
  const word = args.find((one) => !one.startsWith("-"));
  const named = groups.filter(({ words }) => word !== undefined && words.includes(word));
  if (named.length === 0 && otherWords.includes(word)) return;
  for (const { load } of named.length > 0 ? named : groups) (await load())(program);
}

const replayModels = ["counting", "learned", "frozen"] as const;

/** Runs one command. `args` are the words after `millrace`. */
export async function main(args: readonly string[]): Promise<void> {
  const version = await packageVersion();
  const program = new Command("millrace")
    .description("Real-time recommendation infrastructure: what a user did a moment ago changes what is recommended now.")
    .version(version)
    .exitOverride()
    .showHelpAfterError("(--help shows all options)");

  program
    .command("start")
    .description("runs the server on loopback; into an empty data folder it puts a demo world and plays viewers against the API")
    .addOption(new Option("-p, --port <number>", "HTTP port, 0 takes a free one").env("MILLRACE_PORT").default(8080).argParser(integer(0, 65_535)))
    .addOption(
      new Option("--resp-port <number>", "port of the Redis protocol, 0 takes a free one")
        .env("MILLRACE_RESP_PORT")
        .default(6390)
        .argParser(integer(0, 65_535)),
    )
    .addOption(
      new Option("--host <address>", "address to listen on; beyond loopback only with a section access in the configuration")
        .env("MILLRACE_HOST")
        .default("127.0.0.1"),
    )
    .addOption(new Option("-d, --data <folder>", "data folder").env("MILLRACE_DATA").default("./data"))
    .addOption(
      new Option("--durability <policy>", "what an acknowledgement means: synced before, synced every interval, never synced")
        .env("MILLRACE_DURABILITY")
        .choices(["always", "interval", "none"])
        .default("interval"),
    )
    .addOption(new Option("--interval-ms <ms>", "at durability interval: between syncs").default(200).argParser(integer(2, 60_000)))
    .addOption(
      new Option("-c, --config <file>", "configuration (.json, .ts, .js): event types, pipelines, model, tables, access, storage").env("MILLRACE_CONFIG"),
    )
    .addOption(new Option("--preset <name>", "configuration to begin with").choices(["feed", "shop"]).default("feed"))
    .addOption(new Option("--no-demo", "no demo world and no simulated viewers"))
    .addOption(new Option("--seed <number>", "seed of the demo world").default(1).argParser(integer(0, 2 ** 31)))
    .addOption(new Option("--rate <number>", "page views a second of the simulated viewers").default(40).argParser(integer(1, 1_000)))
    .action(async (options: StartCommandOptions) => {
      const { start } = await import("./start.ts");
      await start({ ...options, version });
    });

  program
    .command("replay")
    .description("streams a recorded purchase log through intake, features and pipeline: predicts first, learns after, prints the quality")
    .argument("<file>", "log in the online-retail form, .csv or .csv.gz")
    .addOption(new Option("--refresh <unit>", "how stale the model may be").choices(["live", "hour", "day"]).default("live"))
    .addOption(
      new Option("--models <names>", "what ranks: counts alone, the model learning, the model as it was after the warm-up")
        .default(replayModels, replayModels.join(","))
        .argParser(someOf(replayModels)),
    )
    .addOption(new Option("--json", "the last line of the output is one JSON object"))
    .action(async (file: string, options: { refresh: "live" | "hour" | "day"; models: readonly (typeof replayModels)[number][]; json?: boolean }) => {
      const { replay } = await import("./replay.ts");
      await replay({ file, refresh: options.refresh, models: options.models, json: options.json === true, version });
    });

  program
    .command("import")
    .description("imports files into a feature table as a new version; the server of the data folder may run, and reads do not notice")
    .argument("<table>", "a table of the configuration")
    .argument("[files...]", "Parquet, CSV, JSON lines, or .npy as column=file.npy; patterns are allowed")
    .addOption(new Option("-d, --data <folder>", "data folder").env("MILLRACE_DATA").default("./data"))
    .addOption(new Option("-q, --query <sql>", "a DuckDB query over files, in place of them"))
    .addOption(new Option("--format <name>", "of all files; default: by their names").choices(["parquet", "csv", "json"]))
    // Bounds as importLimits has them, which only the command itself loads.
    .addOption(new Option("--rejects <rows>", "refused rows at which the import gives up").default(10_000).argParser(integer(0, 10_000_000)))
    .addOption(new Option("--memory-mb <MiB>", "resident memory of each process").default(1_024).argParser(integer(192, 3_072)))
    .addOption(new Option("--builders <number>", "builders at once, each takes that memory").default(1).argParser(integer(1, 64)))
    .addOption(new Option("-c, --config <file>", "configuration with the table, when no server has registered it yet").env("MILLRACE_CONFIG"))
    .addOption(new Option("--preset <name>", "configuration to begin with").choices(["feed", "shop"]).default("feed"))
    .addOption(new Option("--no-live", "publish the version, but leave the live one"))
    .addOption(new Option("--json", "the last line of the output is one JSON object"))
    .action(async (table: string, files: string[], options: ImportCommandOptions) => {
      const { importFiles } = await import("./import.ts");
      await importFiles(table, files, options);
    });

  program
    .command("build-shard")
    .description("builds the run file of one shard from staged rows, as a job file says: one step of an import, for a scheduler of your own")
    .argument("<job>", "job file (docs/import.md)")
    .action(async (job: string) => {
      const { buildShardFile } = await import("./import.ts");
      await buildShardFile(job);
    });

  await addGroups(program, args);

  program
    .command("samples")
    .description("writes the joined samples of a data folder to a file: what was shown, with the features of that moment, and whether it was wanted")
    .argument("<data>", "data folder; its server may be running")
    .requiredOption("-o, --out <file>", "new file")
    .addOption(new Option("-c, --config <file>", "configuration with a section model").env("MILLRACE_CONFIG"))
    .addOption(new Option("--preset <name>", "configuration to begin with").choices(["feed", "shop"]).default("feed"))
    .action(async (data: string, options: ModelCommandOptions) => {
      const { samples } = await import("./samples.ts");
      await samples(data, options);
    });

  program
    .command("train")
    .description("trains a new model from sample files, or from a data folder's log, by the code of the server's trainer, and writes its checkpoint")
    .argument("<inputs...>", "sample files in order, or one data folder")
    .requiredOption("-o, --out <folder>", "folder for the checkpoint; DATA/model of a stopped server goes on from it")
    .addOption(new Option("-c, --config <file>", "configuration with a section model").env("MILLRACE_CONFIG"))
    .addOption(new Option("--preset <name>", "configuration to begin with").choices(["feed", "shop"]).default("feed"))
    .action(async (inputs: string[], options: ModelCommandOptions) => {
      const { train } = await import("./samples.ts");
      await train(inputs, options);
    });

  try {
    await program.parseAsync(args, { from: "user" });
  } catch (thrown) {
    if (thrown instanceof CommanderError) {
      setExitCode(thrown.exitCode === 0 ? 0 : 2);
      return;
    }
    printError(`millrace: ${toMillraceError(thrown).message}`);
    setExitCode(1);
  }
}

/** The options of `start` as declared above. */
export interface StartCommandOptions {
  readonly port: number;
  readonly respPort: number;
  readonly host: string;
  readonly data: string;
  readonly durability: "always" | "interval" | "none";
  readonly intervalMs: number;
  readonly config?: string;
  readonly preset: "feed" | "shop";
  readonly demo: boolean;
  readonly seed: number;
  readonly rate: number;
}

/** The options of `samples` and `train` as declared above. */
interface ModelCommandOptions {
  readonly out: string;
  readonly config?: string;
  readonly preset: "feed" | "shop";
}
