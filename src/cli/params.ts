// `millrace params ...`: parameter tables of a running server, and the models of a data folder, whose server may be running.

import { type Command, Option } from "commander";
import { MillraceError } from "#base/errors";
import { absolutePath, printLine } from "#platform/system-process";
import { withModels } from "#roles/parameter-catalogue";
import { exportParameters, importParameters } from "#roles/parameter-exchange";
import { type ServerCall, serverCall } from "#roles/server-call";
import { needOf, type ParameterSaved, type ParameterTableStatus } from "#wire/parameter-api";
import type { ModelOverview, ParametersAnswer } from "#wire/parameter-models-api";

/** Who stands in the list of changes. */
const who = "command line";

interface ServerOptions {
  readonly server: string;
  readonly token?: string;
}

interface DataOption {
  readonly data: string;
}

interface JsonOption {
  readonly json?: boolean;
}

/** Adds the commands. */
export function parameterCommands(program: Command): void {
  const params = program.command("params").description("parameter tables and models: lists them, puts a version live, rolls back, saves, exports and imports");
  const command = (name: string, description: string): Command => params.command(name).description(description);
  const server = (of: Command): Command =>
    of
      .addOption(new Option("-s, --server <address>", "HTTP address of the running server").env("MILLRACE_SERVER").default("http://127.0.0.1:8080"))
      .addOption(new Option("--token <token>", "access token with the scope read, for changes import").env("MILLRACE_TOKEN"));
  const data = (of: Command): Command => of.addOption(new Option("-d, --data <folder>", "data folder").env("MILLRACE_DATA").default("./data"));
  const json = (of: Command): Command => of.addOption(new Option("--json", "one JSON value"));

  json(server(command("list", "tables of the running server: rows, memory, traffic, checkpoints"))).action(async (options: ServerOptions & JsonOption) => {
    const { nowMs, ...status } = await statusOf(callOf(options));
    if (options.json === true) printLine(JSON.stringify(status.tables));
    else if (status.tables.length === 0) printLine("there is no parameter table: declare one in the configuration, or PCREATE one");
    else for (const table of status.tables) printLine(tableLine(table, nowMs));
  });
  json(server(command("info", "all that is known of one table")).argument("<table>")).action(async (name: string, options: ServerOptions & JsonOption) => {
    const { tables, nowMs } = await statusOf(callOf(options));
    const table = tables.find((one) => one.name === name);
    if (table === undefined) throw unknownTable(name, tables);
    if (options.json === true) printLine(JSON.stringify(table));
    else for (const line of infoLines(table, nowMs)) printLine(line);
  });
  json(data(command("models", "models with their versions, and which one is live"))).action(async (options: DataOption & JsonOption) => {
    const found = await withModels(absolutePath(options.data), async (catalogue) => catalogue.list());
    if (options.json === true) printLine(JSON.stringify(found));
    else if (found.length === 0) printLine("no model is registered: PMODEL REGISTER, or name one in the configuration (parameters.models)");
    else for (const model of found) for (const line of modelLines(model)) printLine(line);
  });
  json(data(command("live", "puts a version of a model live")).argument("<model>").argument("<version>", "a version, or the beginning of one")).action(
    async (model: string, version: string, options: DataOption & JsonOption) => {
      const live = await withModels(absolutePath(options.data), (catalogue) => catalogue.live(model, version, who));
      printLine(options.json === true ? JSON.stringify({ model, live }) : `${model}: ${live} is live`);
    },
  );
  json(data(command("rollback", "goes back to the version before, or to a named one")).argument("<model>").argument("[version]")).action(
    async (model: string, version: string | undefined, options: DataOption & JsonOption) => {
      const live = await withModels(absolutePath(options.data), (catalogue) => catalogue.rollback(model, version, who));
      printLine(options.json === true ? JSON.stringify({ model, live }) : `${model}: ${live} is live`);
    },
  );
  json(
    data(command("retire", "retires a version: it goes when no request uses it any more"))
      .argument("<model>")
      .argument("<version>", "a version, or the beginning of one"),
  ).action(async (model: string, version: string, options: DataOption & JsonOption) => {
    const { retired, removed } = await withModels(absolutePath(options.data), (catalogue) => catalogue.retire(model, { version }, who));
    const word = removed.length > 0 ? "is gone" : "goes when no request uses it any more";
    printLine(options.json === true ? JSON.stringify({ model, retired, removed }) : `${model}: ${retired.join(", ")} ${word}`);
  });
  json(server(command("save", "writes a checkpoint of a table now")).argument("<table>")).action(async (name: string, options: ServerOptions & JsonOption) => {
    const saved = await callOf(options)<ParameterSaved | { running: true }>("POST", `/v1/parameters/tables/${encodeURIComponent(name)}/save`);
    if (options.json === true) printLine(JSON.stringify(saved));
    else if ("running" in saved) printLine(`${name}: the checkpoint is being written; millrace params info ${name} says when it is there`);
    else printLine(`${name}: ${saved.rows} ${saved.full ? "" : "changed "}rows, ${megabytes(saved.bytes)} in ${Math.round(saved.ms)} ms`);
  });
  json(
    data(server(command("export", "writes the rows of a table as .npy files with a manifest into a new folder; on the server's machine")))
      .argument("<table>")
      .argument("<folder>"),
  ).action(async (table: string, folder: string, options: ServerOptions & DataOption & JsonOption) => {
    const { rows } = await exportParameters({ call: callOf(options), dataFolder: absolutePath(options.data), table, folder: absolutePath(folder) });
    printLine(options.json === true ? JSON.stringify({ table, folder, rows }) : `${table}: ${rows} rows are in ${folder}`);
  });
  json(
    data(server(command("import", "assigns the rows of an export to a table of the same dim; on the server's machine")))
      .argument("<table>")
      .argument("<folder>"),
  ).action(async (table: string, folder: string, options: ServerOptions & DataOption & JsonOption) => {
    const { rows, refused } = await importParameters({ call: callOf(options), dataFolder: absolutePath(options.data), table, folder: absolutePath(folder) });
    const more = refused === 0 ? "" : `, ${refused} found no room`;
    printLine(options.json === true ? JSON.stringify({ table, folder, rows, refused }) : `${table}: ${rows} rows were read${more}`);
  });
}

const callOf = ({ server, token }: ServerOptions): ServerCall => serverCall(server, token);
const statusOf = (call: ServerCall): Promise<ParametersAnswer> => call<ParametersAnswer>("GET", "/v1/parameters");

function unknownTable(name: string, tables: readonly ParameterTableStatus[]): Error {
  const known = tables.map((table) => table.name).join(", ");
  return new MillraceError("not-found", `there is no parameter table ${JSON.stringify(name.slice(0, 64))}`, {
    todo: known === "" ? "make one with PCREATE" : `use one of: ${known}`,
  });
}

const megabytes = (bytes: number): string => (bytes < 1e6 ? `${bytes} B` : `${(bytes / 1e6).toFixed(1)} MB`);
const seconds = (ms: number): string => `${Math.max(0, Math.round(ms / 1_000))} s`;

function tableLine(
  { name, state, reason, dim, rows, usedBytes, bytes, pulledRows, pushedRows, refused, evicted, checkpoint, sync }: ParameterTableStatus,
  nowMs: number,
): string {
  if (state === "failed" && sync === undefined) return `${name}: not served: ${reason ?? "see the server's log"}`;
  const facts = [
    `${rows} rows of ${dim}`,
    `${megabytes(usedBytes)} of ${megabytes(bytes)}`,
    `pulled ${pulledRows}`,
    `pushed ${pushedRows}`,
    ...(refused === 0 ? [] : [`${refused} found no room`]),
    ...(evicted === 0 ? [] : [`evicted ${evicted}`]),
    checkpoint.atMs === 0 ? "no checkpoint yet" : `checkpoint ${seconds(nowMs - checkpoint.atMs)} old`,
    ...(sync === undefined ? [] : sync.followers.map(({ node, lagMs }) => `node ${node} lags ${lagMs.toFixed(1)} ms`)),
    ...(sync?.leadFault === undefined ? [] : ["takes no writes"]),
    ...(sync?.ready === false ? [needOf(sync) === undefined ? "catches up" : `cannot catch up: ${needOf(sync)!.todo}`] : []),
  ];
  return `${name}: ${facts.join(", ")}`;
}

function infoLines(table: ParameterTableStatus, nowMs: number): string[] {
  const { checkpoint, sync, config, name: _name, state, reason, versions, ...numbers } = table;
  const ago = (atS: number): string => (atS === 0 ? "never" : `${seconds(nowMs - atS * 1_000)} ago`);
  return [
    tableLine(table, nowMs),
    `  configuration: ${JSON.stringify(config)}${numbers.declared ? "" : " (made by PCREATE)"}`,
    ...(reason === undefined ? [] : [`  ${state}: ${reason}`]),
    `  written last ${ago(numbers.hottestS)}, coldest row about ${ago(numbers.coldestS)}`,
    `  missing ${numbers.missedRows}, held back ${numbers.heldBack}, not finite ${numbers.skipped}, expired ${numbers.expired}, tombstones ${numbers.tombstones}`,
    `  shards ${numbers.shards}, writes counted ${versions.reduce((sum, one) => sum + one, 0)}`,
    `  checkpoint ${checkpoint.id}: ${checkpoint.files} files, the last ${megabytes(checkpoint.bytes)} in ${Math.round(checkpoint.ms)} ms; ${checkpoint.unsavedRows} rows written since`,
    ...(checkpoint.error === undefined ? [] : [`  the last checkpoint failed: ${checkpoint.error}`]),
    ...(sync === undefined
      ? []
      : [
          `  leads ${sync.leads} buckets; mismatches ${sync.digestMismatches}, conflicts ${sync.conflicts}, lost writes ${sync.lostWrites}`,
          `  found no room ${sync.tableFull}, followers refused ${sync.followersRefused}, behind its source ${sync.turnedStale} times`,
          ...(sync.leadFault === undefined ? [] : [`  takes no writes: ${sync.leadFault}`]),
          ...sync.sources.map(
            ({ address, connected, ageMs, fault }) =>
              `  takes from ${address}: ${connected ? `heard ${seconds(ageMs)} ago` : "not connected"}${fault === undefined ? "" : ` (${fault})`}`,
          ),
        ]),
  ];
}

function modelLines({ model, live, versions }: ModelOverview): string[] {
  return [
    `${model}: ${live === null ? "nothing is live" : `live ${live}`}`,
    ...versions.map(({ version, state, tables, extractor }) => {
      const names = Object.entries(tables).map(([role, table]) => (role === table ? table : `${role}=${table}`));
      return `  ${version}  ${state.padEnd(8)}  ${names.join(" ")}${extractor === "" ? "" : `; extractor ${extractor}`}`;
    }),
  ];
}
