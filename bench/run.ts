// `npm run bench -- NAME... [--json] [--quick]`: runs scenarios and prints what they measured; without a name it lists them, `all` runs all.
// Output: a table for people on standard error and standard output; with --json standard output holds one JSON object a line and nothing else:
//   {"bench","metric","value","unit","better","target","peer","detail"}   (the last three are null when not given)
// Invariant: several scenarios run one after another, each in a fresh process, so that none warms or burdens the next.
// Exit code: 0 even when a target is missed (a busy machine is no defect), 1 when a scenario fails or gives a wrong answer.

import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { machineFacts, MetricSheet, type Metric, type Scenario, targetMet } from "./harness.ts";

const folder = import.meta.dirname;

/** Names of the scenario files. Told by their text: importing a helper script to look at it would run it. */
export function scenarioNames(): string[] {
  return readdirSync(folder)
    .filter((file) => file.endsWith(".ts") && !file.endsWith(".test.ts") && /^export const scenario\b/m.test(readFileSync(join(folder, file), "utf8")))
    .map((file) => file.slice(0, -".ts".length))
    .sort();
}

async function load(name: string): Promise<Scenario> {
  const loaded = (await import(pathToFileURL(join(folder, `${name}.ts`)).href)) as { scenario: Scenario };
  if (loaded.scenario.name !== name) throw new Error(`bench/${name}.ts calls its scenario "${loaded.scenario.name}"`);
  return loaded.scenario;
}

function jsonLine(bench: string, { metric, value, unit, better, target, peer, detail }: Metric): string {
  return JSON.stringify({ bench, metric, value, unit, better, target: target ?? null, peer: peer ?? null, detail: detail ?? null });
}

function table(metrics: readonly Metric[], quick: boolean): string[] {
  const verdict = (metric: Metric): string => {
    const met = targetMet(metric);
    if (met === undefined) return "";
    const bound = `${metric.better === "lower" ? "<=" : ">="} ${metric.target}`;
    return quick ? `(target ${bound}, not judged in a quick run)` : `${met ? "met" : "MISSED"} (${bound})`;
  };
  const rows = metrics.map((metric) => [metric.metric, number(metric.value), metric.unit, verdict(metric), metric.peer ?? "", metric.detail ?? ""]);
  const widths = [0, 1, 2, 3, 4].map((column) => Math.max(0, ...rows.map((row) => row[column]!.length)));
  return rows.map((row) =>
    row
      .map((cell, column) => (column === 1 ? cell.padStart(widths[1]!) : cell.padEnd(widths[column] ?? 0)))
      .join("  ")
      .trimEnd(),
  );
}

function number(value: number): string {
  if (Number.isInteger(value)) return value.toLocaleString("en-US");
  return value.toLocaleString("en-US", Math.abs(value) >= 1 ? { maximumFractionDigits: 2 } : { maximumSignificantDigits: 3 });
}

async function runOne(name: string, options: { json: boolean; quick: boolean }): Promise<void> {
  const scenario = await load(name);
  const log = (line: string): void => console.error(line);
  const sheet = new MetricSheet();
  log(`${scenario.name}: ${scenario.head}`);
  for (const fact of machineFacts(`npm run bench -- ${name}${options.quick ? " --quick" : ""}${options.json ? " --json" : ""}`)) log(fact);
  const started = performance.now();
  await scenario.run({ quick: options.quick, report: (metric) => sheet.add(metric), log });
  const metrics = sheet.list();
  if (metrics.length === 0) throw new Error(`bench ${name} reported nothing`);
  log(`took     ${((performance.now() - started) / 1000).toFixed(1)} s${options.quick ? "; QUICK RUN: do not quote these values" : ""}`);
  for (const line of table(metrics, options.quick)) (options.json ? console.error : console.log)(line);
  if (options.json) for (const metric of metrics) console.log(jsonLine(name, metric));
}

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { json: { type: "boolean", default: false }, quick: { type: "boolean", default: false } },
  });
  const known = scenarioNames();
  const names = positionals.includes("all") ? known : positionals;
  const unknown = names.filter((name) => !known.includes(name));
  if (unknown.length > 0) {
    console.error(`no bench named ${unknown.join(", ")}; there are: ${known.join(", ")}`);
    process.exitCode = 1;
    return;
  }
  if (names.length === 0) {
    console.log("npm run bench -- NAME... [--json] [--quick]     (all = every scenario)");
    for (const name of known) console.log(`  ${name.padEnd(16)} ${(await load(name)).head}`);
    return;
  }
  if (names.length === 1) {
    await runOne(names[0]!, values);
    // A scenario that leaves a socket or thread open must not hang the run: its figures are out.
    process.exit(0);
  }
  const flags = [...(values.json ? ["--json"] : []), ...(values.quick ? ["--quick"] : [])];
  for (const name of names) {
    const { status } = spawnSync(process.execPath, [import.meta.filename, name, ...flags], { stdio: "inherit" });
    if (status !== 0) process.exitCode = 1;
  }
}

if (import.meta.main) await main();
