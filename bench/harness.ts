// What every bench scenario stands on: the shape of a scenario and its metrics, and honest meters.
// Why our own: the usual bench libraries time one function in a loop. Here a scenario starts servers, drives load and checks answers, and
// the machine is shared, so wall time alone says little: CPU time stands beside it and A and B are compared in alternating rounds.
// Invariants: 1. one metric name has one value; a second report of it is an error  2. every value is finite
//             3. latency under open load counts from the moment a request was due, not from when it was sent (no coordinated omission).
// Use: a file bench/NAME.ts with `export const scenario: Scenario = ...`; helper processes of a scenario stand in bench/NAME/.

import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { availableParallelism, cpus, loadavg, totalmem } from "node:os";
import { setTimeout as sleep } from "node:timers/promises";

export interface Metric {
  /** Snake case, unit last: `recommend_p99_ms`. */
  readonly metric: string;
  readonly value: number;
  /** As printed: "ms", "1/s", "ratio", "B/key", "count". */
  readonly unit: string;
  readonly better: "lower" | "higher";
  /** The value that must be reached; left out = for information. */
  readonly target?: number;
  /** Who it was compared with in the same run, with figure: "plain JS: 41.2 ms". A peer that is not installed: "usearch: missing". */
  readonly peer?: string;
  /** What a reader must know to judge the value. */
  readonly detail?: string;
}

export interface ScenarioOptions {
  /** A few seconds instead of the full work: proves that the scenario runs, its values are not to be quoted. */
  readonly quick: boolean;
  /** Throws when the metric was reported before or is not finite. */
  report(metric: Metric): void;
  /** One line for a person (standard error). */
  log(line: string): void;
}

export interface Scenario {
  readonly name: string;
  /** One sentence: what is measured, on what work. */
  readonly head: string;
  /** Throws when an answer is wrong: a fast wrong answer is not a figure. */
  run(options: ScenarioOptions): Promise<void>;
}

/** Collects a run's metrics and guards their names and values. */
export class MetricSheet {
  readonly #byName = new Map<string, Metric>();

  add(metric: Metric): void {
    if (!/^[a-z][a-z0-9]*(_[a-z0-9]+)*$/.test(metric.metric)) throw new Error(`metric name "${metric.metric}" must be snake case`);
    if (this.#byName.has(metric.metric)) throw new Error(`metric ${metric.metric} was reported twice: one metric has one value`);
    if (!Number.isFinite(metric.value)) throw new Error(`metric ${metric.metric} is ${metric.value}, not a number`);
    this.#byName.set(metric.metric, metric);
  }

  list(): readonly Metric[] {
    return [...this.#byName.values()];
  }
}

/** Whether the metric reached its target; undefined when it has none. */
export function targetMet(metric: Metric): boolean | undefined {
  if (metric.target === undefined) return undefined;
  return metric.better === "lower" ? metric.value <= metric.target : metric.value >= metric.target;
}

// ---- statistics -------------------------------------------------------------------------------------------------------------------

/** The smallest sample that at least `part` (0..1) of all samples do not exceed. Exact, sorts a copy; NaN for no samples. */
export function quantile(samples: ArrayLike<number>, part: number): number {
  const sorted = Float64Array.from(samples).sort();
  if (sorted.length === 0) return Number.NaN;
  return sorted[Math.max(0, Math.ceil(part * sorted.length) - 1)]!;
}

/** Middle sample, or the mean of the two middle ones. */
export function median(samples: ArrayLike<number>): number {
  const sorted = Float64Array.from(samples).sort();
  if (sorted.length === 0) return Number.NaN;
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

// ---- meters -----------------------------------------------------------------------------------------------------------------------

/** CPU time of this process, all threads, milliseconds (user + system). */
export function ownCpuMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

/** CPU time of the calling thread alone, milliseconds. */
export function threadCpuMs(): number {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1000;
}

/**
 * Begins to measure the processor time that other guests of the machine take away; what it returns says how much since, in milliseconds of all processors, or "unknown" where the system does not
 * say. A round with much of it says little about this program.
 */
export function stolenMeter(): () => string {
  const before = stolenMs();
  return () => (before === undefined ? "unknown" : `${stolenMs()! - before}`);
}

/** Processor time that other guests took from this machine since it started, milliseconds of all processors; undefined where the system does not say. */
function stolenMs(): number | undefined {
  let text: string;
  try {
    text = readFileSync("/proc/stat", "utf8");
  } catch {
    return undefined;
  }
  // cpu user nice system idle iowait irq softirq steal ...
  const steal = Number(/^cpu +(?:\d+ +){7}(\d+)/.exec(text)?.[1]);
  return Number.isFinite(steal) ? (steal * 1000) / ticksPerS : undefined;
}

/** Clock ticks a second in /proc: USER_HZ, 100 on every Linux that Node runs on. */
const ticksPerS = 100;

/** CPU time of another process with all its threads, ended ones too, milliseconds; steps of 10 ms. Throws when there is no such process. */
export function processCpuMs(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  // The second field is the command in parentheses and may hold spaces: count from the last ")". utime and stime are fields 14 and 15.
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return ((Number(fields[11]) + Number(fields[12])) * 1000) / ticksPerS;
}

/**
 * CPU time of the threads that another process has now, milliseconds, exact to the nanosecond while it waits: for spans that 10 ms are too coarse for. Threads that ended
 * are not in it, so a difference holds for a process whose threads stay. Throws when there is no such process; without the scheduler's statistics it is `processCpuMs`.
 */
export function threadsCpuMs(pid: number): number {
  const folder = `/proc/${pid}/task`;
  let sum = 0;
  for (const thread of readdirSync(folder)) {
    try {
      sum += Number(readFileSync(`${folder}/${thread}/schedstat`, "utf8").split(" ")[0]) / 1e6;
    } catch {
      // A thread that has just ended; or a kernel that does not count.
      continue;
    }
  }
  return sum === 0 ? processCpuMs(pid) : sum;
}

export interface Samples {
  /** Wall time of each round, milliseconds. */
  readonly wallMs: number[];
  /** CPU time of this process in each round, milliseconds. */
  readonly cpuMs: number[];
}

/**
 * Runs every variant once a round, in an order that turns by one each round, so that drift of the machine meets all alike.
 * One unmeasured round comes first. A variant that is undefined (a peer that is not there) has no samples. With `node --expose-gc` garbage is collected before each sample.
 */
export async function alternatingRounds<Variants extends Readonly<Record<string, (() => unknown) | undefined>>>(
  rounds: number,
  variants: Variants,
): Promise<{ [Name in keyof Variants]: Samples }> {
  const present = Object.entries(variants).flatMap(([name, run]) => (run === undefined ? [] : [{ name, run }]));
  const result = Object.fromEntries(present.map(({ name }): [string, Samples] => [name, { wallMs: [], cpuMs: [] }]));
  const collect = (globalThis as { gc?: () => void }).gc;
  for (let round = -1; round < rounds; round++) {
    for (let step = 0; step < present.length; step++) {
      const { name, run } = present[(step + round + 1) % present.length]!;
      collect?.();
      const cpuBefore = ownCpuMs();
      const wallBefore = performance.now();
      await run();
      const wall = performance.now() - wallBefore;
      const cpu = ownCpuMs() - cpuBefore;
      if (round < 0) continue;
      result[name]!.wallMs.push(wall);
      result[name]!.cpuMs.push(cpu);
    }
  }
  return result as { [Name in keyof Variants]: Samples };
}

// ---- load -------------------------------------------------------------------------------------------------------------------------

export interface OpenLoad {
  /** Requests a second, evenly spaced. */
  readonly ratePerS: number;
  readonly durationMs: number;
  /** Sends request `index`; resolves when its answer is complete. A rejection counts as a failure. */
  send(index: number): Promise<void>;
  /** A request due while so many are under way is dropped and counted. Default 1,000. */
  readonly inFlightMax?: number;
}

export interface LoadResult {
  /** From the moment a request was due to its complete answer, milliseconds, successes only, in order of completion. */
  readonly latencyMs: number[];
  readonly sent: number;
  readonly failed: number;
  readonly dropped: number;
  /** The first failure, for the log. */
  readonly firstFailure: unknown;
  /** How late the generator itself was at worst, milliseconds: large values mean the load, not the server, was slow. */
  readonly latestSendMs: number;
}

/** Sends at a fixed rate no matter how fast answers come. Resolves when the last answer has come. */
export async function openLoop(load: OpenLoad): Promise<LoadResult> {
  const total = Math.round((load.ratePerS * load.durationMs) / 1000);
  const inFlightMax = load.inFlightMax ?? 1_000;
  const latencyMs: number[] = [];
  const underWay = new Set<Promise<void>>();
  let failed = 0;
  let dropped = 0;
  let firstFailure: unknown;
  let latestSendMs = 0;
  const start = performance.now();
  for (let index = 0; index < total;) {
    const now = performance.now();
    const due = start + (index * 1000) / load.ratePerS;
    if (due > now) {
      await sleep(Math.max(1, due - now));
      continue;
    }
    latestSendMs = Math.max(latestSendMs, now - due);
    index++;
    if (underWay.size >= inFlightMax) {
      dropped++;
      continue;
    }
    const one: Promise<void> = load.send(index - 1).then(
      () => {
        latencyMs.push(performance.now() - due);
        underWay.delete(one);
      },
      (failure: unknown) => {
        failed++;
        firstFailure ??= failure;
        underWay.delete(one);
      },
    );
    underWay.add(one);
  }
  await Promise.all(underWay);
  return { latencyMs, sent: total - dropped, failed, dropped, firstFailure, latestSendMs };
}

// ---- what a reader needs to trust a figure ----------------------------------------------------------------------------------------

/** Checksum of a run's answers: equal inputs must give equal sums on every machine. */
export class Checksum {
  readonly #hash = createHash("sha256");

  add(part: string | number | ArrayBufferView): this {
    this.#hash.update(typeof part === "object" ? new Uint8Array(part.buffer, part.byteOffset, part.byteLength) : `${part};`);
    return this;
  }

  /** 16 hexadecimal digits. Ends the sum. */
  hex(): string {
    return this.#hash.digest("hex").slice(0, 16);
  }
}

/** The lines that stand above every table. */
export function machineFacts(command: string): string[] {
  const load = loadavg()[0]!;
  const cores = availableParallelism();
  const lines = [
    `machine  ${cpus()[0]?.model.trim() ?? "unknown CPU"}, ${cores} cores, ${Math.round(totalmem() / 2 ** 30)} GiB; load ${load.toFixed(2)}`,
    `software Node ${process.versions.node}, commit ${commit()}`,
    `command  ${command}`,
  ];
  if (load > cores) lines.push(`WARNING  ${load.toFixed(1)} busy cores on ${cores}: wall times are worthless now, trust ratios and CPU times only`);
  return lines;
}

function commit(): string {
  try {
    const git = (...args: string[]): string => execFileSync("git", args, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim();
    return git("rev-parse", "--short=10", "HEAD") + (git("status", "--porcelain", "--untracked-files=no") === "" ? "" : " with local changes");
  } catch {
    return "unknown (no git)";
  }
}
