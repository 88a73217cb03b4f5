// `millrace vectors ...`: tasks of the vector builder by command, on the data folder, whose server may be running; and `millrace builder`, a process that builds them.

import { type Command, InvalidArgumentError, Option } from "commander";
import { MillraceError } from "#base/errors";
import { schemaCheck } from "#gateway/schema-check";
import { checkTaskSource } from "#gateway/vector-tasks-http";
import { systemFiles } from "#platform/system-files";
import { absolutePath, onStopSignal, printError, printLine } from "#platform/system-process";
import { runBuilder, withVectorTasks } from "#roles/builder";
import type { TaskControl } from "#vectors/builder/task-control";
import type { VectorBuildRecord, VectorTaskDetail, VectorTaskOverview, VectorTasksAnswer } from "#wire/vector-task-api";
import { VectorTaskConfig } from "#wire/vector-task-config";

/** Who stands in the audit of a task. */
const who = "command line";

interface DataOption {
  readonly data: string;
  readonly json?: boolean;
}

/** Adds the commands. */
export function vectorCommands(program: Command): void {
  const vectors = program.command("vectors").description("vector tasks: lists them, makes and changes them, runs builds, puts versions live, rolls back");
  const dataOption = (): Option => new Option("-d, --data <folder>", "data folder").env("MILLRACE_DATA").default("./data");
  const command = (name: string, description: string): Command =>
    vectors.command(name).description(description).addOption(dataOption()).addOption(new Option("--json", "one JSON value"));
  /** Runs a step, prints its answer as JSON or by `show`. */
  const step = async <T>(options: DataOption, run: (control: TaskControl) => Promise<T>, show: (answer: T) => readonly string[]): Promise<void> => {
    const answer = await withVectorTasks(absolutePath(options.data), run);
    if (options.json === true) printLine(JSON.stringify(answer));
    else for (const line of show(answer)) printLine(line);
  };

  command("tasks", "all tasks: what runs, how the last build ended, what is live").action((options: DataOption) =>
    step(options, (control) => control.list(), tasksLines),
  );
  command("show", "one task with its configuration, versions and changes")
    .argument("<task>")
    .action((task: string, options: DataOption) => step(options, (control) => control.detail(task), detailLines));
  command("history", "builds of a task, latest first")
    .argument("<task>")
    .action((task: string, options: DataOption) =>
      step(
        options,
        (control) => control.detail(task),
        ({ history }) => (history.length === 0 ? ["it was never built"] : history.map(buildLine)),
      ),
    );
  command("create", "makes a task out of a JSON file")
    .argument("<task>")
    .argument("<file>", "a task as docs/vector-tasks.md says")
    .action((task: string, file: string, options: DataOption) =>
      step(
        options,
        async (control) => control.create(task, await configOf(file), who),
        ({ name, edition }) => [`${name}: made, edition ${edition}`],
      ),
    );
  command("change", "gives a task another configuration")
    .argument("<task>")
    .argument("<file>")
    .option("--edition <number>", "the edition that was looked at; default: the one that holds", positive)
    .action((task: string, file: string, options: DataOption & { readonly edition?: number }) =>
      step(
        options,
        async (control) => control.change(task, options.edition ?? (await control.detail(task)).edition, await configOf(file), who),
        ({ name, edition }) => [`${name}: edition ${edition} holds`],
      ),
    );
  command("run", "builds a task now, or as soon as a builder is free")
    .argument("<task>")
    .action((task: string, options: DataOption) =>
      step(
        options,
        (control) => control.run(task, who),
        ({ builders }) => [builders ? `${task}: a builder takes it up` : `${task}: waits for a builder: start the server, or millrace builder`],
      ),
    );
  command("live", "puts a version live")
    .argument("<task>")
    .argument("<version>", "a version, or the beginning of one")
    .option("--refused-too", "although its checks refused it")
    .action((task: string, version: string, options: DataOption & { readonly refusedToo?: boolean }) =>
      step(
        options,
        (control) => control.live(task, version, options.refusedToo === true, who),
        ({ collection, live }) => [`${collection}: ${live} is live`],
      ),
    );
  command("rollback", "goes back to the version before, or to a named one")
    .argument("<task>")
    .argument("[version]")
    .action((task: string, version: string | undefined, options: DataOption) =>
      step(
        options,
        (control) => control.rollback(task, version, who),
        ({ collection, live }) => [`${collection}: ${live} is live`],
      ),
    );
  for (const enabled of [true, false]) {
    command(enabled ? "enable" : "disable", enabled ? "lets a task run by itself again" : "a task no longer runs by itself")
      .argument("<task>")
      .action((task: string, options: DataOption) =>
        step(
          options,
          (control) => control.enable(task, enabled, who),
          ({ name }) => [`${name} is ${enabled ? "enabled" : "disabled"}`],
        ),
      );
  }
  command("remove", "removes a task; its collection and versions stay")
    .argument("<task>")
    .action((task: string, options: DataOption) =>
      step(
        options,
        async (control) => {
          await control.remove(task, who);
          return { removed: task };
        },
        () => [`${task} is removed`],
      ),
    );

  program
    .command("builder")
    .description("builds vector tasks of a data folder until it is stopped; any number of builders share them")
    .addOption(dataOption())
    .addOption(new Option("--slots <number>", "builds at once").default(1).argParser(positive))
    .addOption(new Option("--threads <number>", "threads of a build, 1 to 16 (default: a core each, at most 4)").argParser(threadCount))
    .addOption(
      new Option("-s, --server <address>", "HTTP address of the server whose tables tasks read").env("MILLRACE_SERVER").default("http://127.0.0.1:8080"),
    )
    .addOption(new Option("--token <token>", "access token with the scopes read and import").env("MILLRACE_TOKEN"))
    .option("--folder <folders...>", "where files of tasks that came over HTTP may lie", [])
    .action(
      async (options: {
        readonly data: string;
        readonly slots: number;
        readonly threads?: number;
        readonly server: string;
        readonly token?: string;
        readonly folder: readonly string[];
      }) => {
        const stopping = new AbortController();
        onStopSignal((signal) => stopping.abort(new MillraceError("unavailable", `stopped by ${signal}`)));
        const { token, threads } = options;
        await runBuilder({
          dataFolder: absolutePath(options.data),
          slots: options.slots,
          folders: options.folder.map(absolutePath),
          server: options.server,
          ...(threads === undefined ? {} : { threads }),
          ...(token === undefined ? {} : { token }),
          warn: printError,
          signal: stopping.signal,
          onStart: (name) => printLine(`${name} builds the vector tasks of ${options.data}`),
        });
        printLine("stopped; builds under way begin anew with the next builder");
      },
    );
}

function threadCount(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1 || value > 16) throw new InvalidArgumentError("give a whole number from 1 to 16");
  return value;
}

function positive(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1 || value > 1_000_000) throw new InvalidArgumentError("give a whole number from 1 on");
  return value;
}

const checked = schemaCheck(VectorTaskConfig).required;

async function configOf(file: string): Promise<VectorTaskConfig> {
  const bytes = await systemFiles.readFile(absolutePath(file));
  if (bytes === undefined) throw new MillraceError("not-found", `there is no file ${file}`, { todo: "name a JSON file with the task" });
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder().decode(bytes));
  } catch (cause) {
    throw new MillraceError("invalid", `${file} is no JSON text`, { cause, todo: "write the task as docs/vector-tasks.md says" });
  }
  checkTaskSource(value, "the task: field source");
  return checked(value, "the task", "correct that field, docs/vector-tasks.md says what may stand there");
}

const count = (value: number): string => value.toLocaleString("en-US", { maximumFractionDigits: 0 });
const percent = (share: number): string => `${(share * 100).toFixed(2)} %`;
const time = (atMs: number): string => new Date(atMs).toISOString().slice(0, 19).replace("T", " ");

function tasksLines({ tasks, builders }: VectorTasksAnswer): string[] {
  if (tasks.length === 0) return ["there is no vector task: declare one in the configuration (vectors.tasks), or create one"];
  return [...tasks.map(taskLine), builders.length === 0 ? "no builder runs: start the server, or millrace builder" : `${builders.length} builders`];
}

function taskLine({ name, collection, enabled, asked, running, last, live }: VectorTaskOverview): string {
  const facts = [
    ...(collection === name ? [] : [`builds ${collection}`]),
    ...(enabled ? [] : ["disabled"]),
    live === null ? "nothing is live" : `live ${live}`,
    ...(running === null ? [] : [`${running.stage}${running.share === undefined ? "" : ` ${Math.round(running.share * 100)} %`} by ${running.builder}`]),
    ...(asked && running === null ? ["waits for a builder"] : []),
    ...(last === null ? ["never built"] : [`last ${last.verdict}${last.recall === undefined ? "" : `, recall ${percent(last.recall)}`}`]),
  ];
  return `${name}: ${facts.join(", ")}`;
}

function buildLine({
  startedAtMs,
  tookMs,
  verdict,
  version,
  rows,
  recall,
  searchP99Ms,
  cpuMs,
  settings,
  trigger,
  builder,
  reasons,
}: VectorBuildRecord): string {
  const facts = [
    `${verdict} after ${(tookMs / 1_000).toFixed(1)} s`,
    ...(version === undefined ? [] : [version]),
    ...(rows === undefined ? [] : [`${count(rows)} rows`]),
    ...(recall === undefined ? [] : [`recall ${percent(recall)}`]),
    ...(searchP99Ms === undefined ? [] : [`p99 ${searchP99Ms.toFixed(2)} ms`]),
    ...(cpuMs === undefined ? [] : [`${(cpuMs / 1_000).toFixed(1)} s of CPU`]),
    ...(settings === undefined
      ? []
      : [
          Object.entries(settings)
            .map(([name, value]) => `${name} ${Number(value.toPrecision(3))}`)
            .join(" "),
        ]),
    `${trigger}, ${builder}`,
    ...reasons,
  ];
  return `${time(startedAtMs)}  ${facts.join(", ")}`;
}

function detailLines(detail: VectorTaskDetail): string[] {
  const { config, edition, versions, audit, history } = detail;
  return [
    taskLine(detail),
    `  edition ${edition}: ${JSON.stringify(config)}`,
    ...versions.map(({ version, state, rows, usedBy, reasons }) =>
      [`  ${version}  ${state.padEnd(9)}`, rows === null ? "" : `${count(rows)} rows`, usedBy.length === 0 ? "" : `served by ${usedBy.length}`, ...reasons]
        .filter((part) => part !== "")
        .join("  "),
    ),
    ...history.slice(0, 3).map((build) => `  ${buildLine(build)}`),
    ...audit
      .slice(0, 5)
      .map(
        ({ atMs, who: by, action, version, note }) =>
          `  ${time(atMs)}  ${by}: ${action}${version === undefined ? "" : ` ${version}`}${note === undefined ? "" : ` (${note})`}`,
      ),
  ];
}
