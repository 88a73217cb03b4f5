// `npm test`: the house rules, the type check and every test, each file in a process of its own; ends with the promises checked.
// The linter is not part of it: it takes longer than all other checks together (27 s CPU against 17 for types, loaded). `.ci/run` runs it.
//   npm test                        everything that is fast
//   npm run test:long               the same with MILLRACE_LONG=1: more seeds, more crashes, more time
//   npm test -- --timeout-s 300     more time for each file, on a slow machine
//   npm test -- --jobs 2            so many files at a time; without it twice the cores, at most two more than them, and in a long run as many
//   npm test -- --budget-s 600      no longer than that: what did not fit is named at the end, and is no failure
//   npm test -- backbone wal.test   only test files whose path contains one of the words (no house rules, no type check)
// Why not `node --test` alone: it waits for ever on a file whose children hold its output, has no list of promises, and hides why a test was
// skipped.
// Invariants: 1. the last line is `N passed, N failed, N skipped`, the exit code is 0 only when nothing failed
//             2. a file that hangs is killed after its time, with everything it started, and counts as failed
//             3. a file that leaves processes running, tests nothing, or skips without a reason counts as failed.
// Limits: fileTimeoutMs a file, outputBytesMax of captured output a file (the end is kept).

import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { existsSync, globSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";
import type { TestLine } from "./test-reporter.ts";

/** Several times what a file takes alone: more files run at a time than there are cores. */
const fileTimeoutMs = { fast: 240_000, long: 900_000 };
/** House rules and type checks look at all files together. */
const checkTimeoutMsMin = 300_000;
const outputBytesMax = 256 * 1024;
/** A child that was told to stop may take this long to vanish after its file has ended. */
const leftoverGraceMs = 1_000;

/** Folders in which test files stand; the slow ones first, so that none of them starts last. */
const testGlobs = ["test", "src/vectors", "src/params", "src/demo", "bench", "tools", "src"].map((folder) => `${folder}/**/*.test.ts`);

interface Job {
  readonly name: string;
  readonly command: readonly string[];
  /** False for a check by exit code alone (house rules, type check). */
  readonly reports: boolean;
}

interface Outcome {
  readonly job: Job;
  readonly ms: number;
  readonly results: Extract<TestLine, { kind: "result" }>[];
  readonly passed: number;
  readonly skipped: number;
  /** Whole texts, one a failure. */
  readonly failures: string[];
  /** Lines that say what a fast run left out. */
  readonly reduced: string[];
  /** The budget ended before the file did. */
  readonly cutShort: boolean;
  readonly output: string;
}

const { values: flags, positionals: words } = parseArgs({
  allowPositionals: true,
  options: {
    long: { type: "boolean", default: false },
    /** For a slow machine. */
    "timeout-s": { type: "string" },
    /** How many files at a time. */
    jobs: { type: "string" },
    /** Files that have not ended by then are left out and named; they do not count as failed. */
    "budget-s": { type: "string" },
    /** Another tree: for the runner's own test. */
    root: { type: "string", default: join(import.meta.dirname, "..") },
  },
});
const root = resolve(flags.root);
const timeoutMs = flags["timeout-s"] !== undefined ? Number(flags["timeout-s"]) * 1000 : flags.long ? fileTimeoutMs.long : fileTimeoutMs.fast;
/** performance.now() counts from the start of this process. */
const endMs = flags["budget-s"] === undefined ? Number.POSITIVE_INFINITY : Number(flags["budget-s"]) * 1000;
const running = new Set<ChildProcess>();
const scratch = mkdtempSync(join(tmpdir(), "millrace-test-"));

function killGroup(child: ChildProcess): boolean {
  try {
    return process.kill(-child.pid!, "SIGKILL");
  } catch {
    return false; // nobody of the group is left
  }
}

/** Whether a process of the group still runs. A dead one that nobody has waited for (a container without init) does not count. */
function groupRuns(leader: number): boolean {
  try {
    process.kill(-leader, 0);
  } catch {
    return false;
  }
  if (!existsSync("/proc/self/stat")) return true;
  return readdirSync("/proc").some((name) => {
    if (!/^\d+$/.test(name)) return false;
    try {
      const stat = readFileSync(join("/proc", name, "stat"), "utf8");
      // After the command in parentheses: state, parent, group.
      const [state, , group] = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
      return Number(group) === leader && state !== "Z" && state !== "X";
    } catch {
      return false; // ended while we looked
    }
  });
}

/** True when processes of the child's group outlive it by more than the grace; they are killed. */
async function leavesProcesses(child: ChildProcess): Promise<boolean> {
  const leader = child.pid;
  if (leader === undefined) return false;
  for (let waited = 0; waited < leftoverGraceMs; waited += 50) {
    if (!groupRuns(leader)) return false;
    await sleep(50);
  }
  return killGroup(child);
}

async function run(job: Job, index: number): Promise<Outcome> {
  const linesPath = join(scratch, `${index}.jsonl`);
  const reporter = ["--test-reporter", join(import.meta.dirname, "test-reporter.ts"), "--test-reporter-destination", linesPath];
  const args = job.reports ? [...reporter, ...job.command] : job.command;
  const started = performance.now();
  const env: NodeJS.ProcessEnv = {
    ...process.env,
    NODE_COMPILE_CACHE: join(root, "node_modules", ".cache", "compile"),
    ...(flags.long ? { MILLRACE_LONG: "1" } : { MILLRACE_COLD_KERNELS: "1" }),
  };
  delete env["NODE_TEST_CONTEXT"];
  // A process group of its own, so that a hanging file takes its children with it.
  const child = spawn(process.execPath, args, { cwd: root, env, detached: true, stdio: ["ignore", "pipe", "pipe"] });
  running.add(child);
  let output = "";
  const keep = (chunk: string): void => {
    output = (output + chunk).slice(-outputBytesMax);
  };
  child.stdout.setEncoding("utf8").on("data", keep);
  child.stderr.setEncoding("utf8").on("data", keep);
  const killed: { by?: "timeout" | "budget" } = {};
  const leftMs = endMs - performance.now();
  const ownMs = job.reports ? timeoutMs : Math.max(timeoutMs, checkTimeoutMsMin);
  const timer = setTimeout(
    () => {
      killed.by = leftMs < ownMs ? "budget" : "timeout";
      killGroup(child);
    },
    Math.min(ownMs, leftMs),
  );
  const closed = new Promise((resolve) => child.once("close", resolve));
  const exit = await new Promise<string>((resolve) => {
    child.on("error", (error) => resolve(`could not start: ${error.message}`));
    child.on("exit", (code, signal) => resolve(signal === null ? `exit code ${code}` : `killed by ${signal}`));
  });
  clearTimeout(timer);
  // The pipes usually close with the process; a leftover child may hold them open, and is dealt with next.
  await Promise.race([closed, sleep(leftoverGraceMs)]);
  const left = await leavesProcesses(child);
  running.delete(child);
  const lines = existsSync(linesPath) ? readFileSync(linesPath, "utf8").split("\n").filter(Boolean).map(parseLine) : [];
  const results = lines.filter((line) => line?.kind === "result");
  const notes = lines.flatMap((line) => (line?.kind === "note" ? [line.text] : []));

  const failures: string[] = [];
  let passed = 0;
  let skipped = 0;
  for (const result of results.filter(({ counts }) => counts)) {
    if (result.skipped !== undefined) {
      skipped++;
      if (typeof result.skipped !== "string" || result.skipped === "") failures.push(`${result.name}\nskipped without a reason: write { skip: "why" }`);
    } else if (result.todo !== undefined) failures.push(`${result.name}\nmarked as left to do: finish or remove it`);
    else if (result.passed) passed++;
    else failures.push(`${result.name}\n${result.error ?? "failed without an error"}`);
  }
  const cutShort = killed.by === "budget";
  if (killed.by === "timeout") {
    const last = lines.findLast((line) => line?.kind === "running");
    failures.push(`hung: killed after ${ownMs / 1000} s${last === undefined ? "" : `; the test that began last: ${last.name}`}`);
  } else if (cutShort) {
    // What it found until then counts; that it did not end does not.
  } else if (exit !== "exit code 0" && failures.length === 0) failures.push(job.reports ? `ended with ${exit} outside its tests` : exit);
  else if (job.reports && results.length === 0 && failures.length === 0) failures.push("holds no test");
  if (left) failures.push("left processes running after its end (killed now): stop what a test starts, also when it fails");
  if (!job.reports && failures.length === 0) passed = 1;
  const reduced = [...notes, ...output.split("\n")].filter((line) => /MILLRACE_LONG|test:long|\breduced\b/i.test(line)).map((line) => line.trim());
  return { job, ms: performance.now() - started, results, passed, skipped, failures, reduced, output, cutShort };
}

/** A line cut by a kill is no line. */
function parseLine(text: string): TestLine | undefined {
  try {
    return JSON.parse(text) as TestLine;
  } catch {
    return undefined;
  }
}

/** Indented; of a long text the beginning (what failed) and the end (where it stopped). */
function indent(text: string, linesMax: number): string {
  const lines = text.trimEnd().split("\n");
  const half = linesMax >> 1;
  const shown = lines.length > linesMax ? [...lines.slice(0, half), `... ${lines.length - 2 * half} lines ...`, ...lines.slice(-half)] : lines;
  return shown.map((line) => `        ${line}`).join("\n");
}

function printOutcome({ job, ms, results, passed, skipped, failures, output }: Outcome, done: number, total: number): void {
  const counts = job.reports ? `${passed} passed${failures.length > 0 ? `, ${failures.length} failed` : ""}${skipped > 0 ? `, ${skipped} skipped` : ""}, ` : "";
  console.log(
    `  ${failures.length === 0 ? "ok  " : "FAIL"} [${String(done).padStart(String(total).length)}/${total}] ${job.name}  ${counts}${(ms / 1000).toFixed(1)} s`,
  );
  if (failures.length === 0) return;
  for (const failure of failures) console.log(`\n      x ${indent(failure, 60).trimStart()}`);
  if (output.trim() !== "") console.log(`\n      output${results.length > 0 ? " of the file" : ""}:\n${indent(output, 80)}\n`);
}

function printPromises(outcomes: readonly Outcome[]): void {
  const states = new Map<string, { kept: number; broken: number; reasons: Set<string> }>();
  for (const result of outcomes.flatMap(({ results }) => results)) {
    if (!result.name.startsWith("promise: ")) continue;
    const state = states.get(result.name) ?? { kept: 0, broken: 0, reasons: new Set() };
    states.set(result.name, state);
    if (result.skipped !== undefined) state.reasons.add(String(result.skipped));
    else if (result.passed) state.kept++;
    else state.broken++;
  }
  if (states.size === 0) return;
  console.log(`\nPromises checked (${states.size}):`);
  for (const [name, { kept, broken, reasons }] of [...states].sort()) {
    const word = broken > 0 ? "BROKEN " : kept > 0 ? "kept   " : "skipped";
    const notes = [...(kept + broken > 1 ? [`${kept} of ${kept + broken} ways`] : []), ...[...reasons].map((reason) => `skipped: ${reason}`)];
    console.log(`  ${word} ${name.slice("promise: ".length)}${notes.length > 0 ? `  (${notes.join("; ")})` : ""}`);
  }
}

function printSkipped(outcomes: readonly Outcome[]): void {
  const byReason = new Map<string, string[]>();
  for (const { job, results } of outcomes) {
    for (const { skipped, counts, name } of results) {
      if (skipped === undefined || !counts) continue;
      const key = typeof skipped === "string" && skipped !== "" ? skipped : "(no reason given)";
      byReason.set(key, [...(byReason.get(key) ?? []), `${job.name}: ${name}`]);
    }
  }
  if (byReason.size === 0) return;
  console.log("\nSkipped:");
  for (const [reason, names] of byReason) {
    console.log(`  because ${reason}`);
    for (const name of names) console.log(`    ${name}`);
  }
}

/** `npm install` builds kernels and console; a clone that was pulled since may have old ones. A few milliseconds when they are current. */
function build(): void {
  for (const script of ["build-kernels.mjs", "build-console.mjs"]) execFileSync(process.execPath, [join(import.meta.dirname, script)], { stdio: "inherit" });
}

/**
 * A test file waits about half of its time, for a process, a timer or a disk: with one a core the cores would stand still in between. Measured on two cores, files of backbone, platform and
 * ranking: two at a time 32 to 35 s, four 24 s. Those that a long run makes longer compute.
 */
function jobsFor(cores: number): number {
  return flags.long ? cores : cores + Math.min(cores, 2);
}

function jobs(): Job[] {
  const files = [...new Set(testGlobs.flatMap((glob) => globSync(glob, { cwd: root }).sort()))];
  const chosen = words.length === 0 ? files : files.filter((file) => words.some((word) => file.includes(word)));
  // In a long run what gets longer comes first: the rest has just passed in a fast one, and a budget may end before it.
  const grows = (file: string): number => (flags.long && readFileSync(join(root, file), "utf8").includes("MILLRACE_LONG") ? 0 : 1);
  chosen.sort((a, b) => grows(a) - grows(b));
  const tests = chosen.map((file) => ({ name: file, command: [file], reports: true }));
  if (words.length > 0) return tests;
  const tool = (...path: string[]): string => join("node_modules", ...path);
  return [
    { name: "house rules", command: [join("tools", "tidy.ts")], reports: false },
    { name: "type check", command: [tool("typescript", "bin", "tsc"), "-p", "tsconfig.json"], reports: false },
    { name: "type check of the console", command: [tool("typescript", "bin", "tsc"), "-p", join("console", "tsconfig.json")], reports: false },
    ...tests,
  ];
}

async function main(): Promise<void> {
  const started = performance.now();
  build();
  const queue = jobs();
  if (queue.length === 0) {
    console.log(`no test file's path contains ${words.join(" or ")}`);
    process.exitCode = 1;
    return;
  }
  const workers = flags.jobs === undefined ? jobsFor(availableParallelism()) : Number(flags.jobs);
  console.log(`millrace tests${flags.long ? ", long" : ""}: ${queue.length} files and checks, ${workers} at a time, Node ${process.versions.node}`);
  const outcomes: Outcome[] = [];
  const notRun: string[] = [];
  const waiting = queue.entries();
  const work = async (): Promise<void> => {
    for (const [index, job] of waiting) {
      if (performance.now() >= endMs) {
        notRun.push(job.name);
        continue;
      }
      const outcome = await run(job, index);
      if (outcome.cutShort) notRun.push(`${job.name} (cut short)`);
      outcomes.push(outcome);
      printOutcome(outcome, outcomes.length, queue.length);
    }
  };
  await Promise.all(Array.from({ length: workers }, work));

  const total = (count: (outcome: Outcome) => number): number => outcomes.reduce((sum, outcome) => sum + count(outcome), 0);
  const reduced = outcomes.flatMap((outcome) => outcome.reduced.map((line) => `${outcome.job.name}: ${line}`));
  if (reduced.length > 0 && !flags.long) console.log(["\nReduced in this run (npm run test:long does all):", ...reduced].join("\n  "));
  printSkipped(outcomes);
  if (notRun.length > 0)
    console.log([`\nNot finished within the budget of ${flags["budget-s"]} s (${notRun.length} of ${queue.length}):`, ...notRun].join("\n  "));
  console.log("\nSlowest:");
  for (const { job, ms } of outcomes.toSorted((a, b) => b.ms - a.ms).slice(0, 5)) console.log(`  ${(ms / 1000).toFixed(1).padStart(6)} s  ${job.name}`);
  printPromises(outcomes);
  const failed = outcomes.filter(({ failures }) => failures.length > 0);
  if (failed.length > 0) console.log("\nFailed:");
  for (const { job, failures } of failed) for (const failure of failures) console.log(`  ${job.name}: ${failure.split("\n")[0]}`);
  console.log(`\n${((performance.now() - started) / 1000).toFixed(1)} s`);
  const failures = total(({ failures: texts }) => texts.length);
  console.log(`${total(({ passed }) => passed)} passed, ${failures} failed, ${total(({ skipped }) => skipped)} skipped`);
  process.exitCode = failures === 0 ? 0 : 1;
}

process.on("exit", () => rmSync(scratch, { recursive: true, force: true }));
for (const [signal, number] of [
  ["SIGINT", 2],
  ["SIGTERM", 15],
  ["SIGHUP", 1],
] as const) {
  process.on(signal, () => {
    for (const child of running) killGroup(child);
    process.exit(128 + number);
  });
}
await main();
