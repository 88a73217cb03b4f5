// The runner: runs pipelines for requests, one flight for the flow and one for each fallback it needs, and joins their rows into one result.
// Why apart from the pipeline: a pipeline is declared once, as a constant, and knows no clock, no pool and no metrics; those belong to the process.
// Invariants: 1. a result owns its memory  2. ids are unique in a result  3. rows of the flow come first, then those of the fallback, each in its own order
//             4. a result is never empty while the fallback has rows that pass the flow's non-optional filters.
// Limits: `concurrencyMax` requests in flight, then `overloaded`; see limits.ts for the others.

import { MillraceError } from "#base/errors";
import type { Clock } from "#platform/clock";
import { type ArrayOf, type ColumnArray, ColumnPool, type ColumnTypes, createColumn, fillColumn, ownColumn } from "./column.ts";
import type { ExplainLog, Why } from "./explain.ts";
import { Defect, Flight, type FlightTools, FlowFailure, type RequestInfo } from "./flight.ts";
import type { Built } from "./flow.ts";
import { type PipelineLimits, limitCeilings, pipelineLimits } from "./limits.ts";
import { type Plan, idColumn, sourcesColumn } from "./plan.ts";
import type { Degraded, Observer, StepTrace } from "./trace.ts";

export interface RunnerOptions {
  readonly clock: Clock;
  /** Gets one call a step and one a request. */
  readonly observer?: Observer;
  /** Defects of steps throw instead of following the step's policy. For tests and development; slower. Default false. */
  readonly strict?: boolean;
  readonly limits?: Partial<PipelineLimits>;
}

export interface RunOptions {
  /** Milliseconds for the whole request, fallback included. Default `timeoutMs` of the limits. */
  readonly timeoutMs?: number;
  /** Ends the request early: steps are aborted and `run` rejects. */
  readonly signal?: AbortSignal;
  /** Keeps what `why` needs. Default false. */
  readonly explain?: boolean;
}

export interface Result<C extends ColumnTypes = ColumnTypes> {
  readonly pipeline: string;
  readonly n: number;
  /** Rows asked for: the k of the last select. Undefined when the pipeline has no select. */
  readonly wanted: number | undefined;
  /** Item handles, best first. */
  readonly ids: Uint32Array;
  readonly scores: Float32Array;
  /** A column of the chosen rows. Rows of a fallback have its default where the fallback has no such column. Throws `not-found` for one not in `output`. */
  col<K extends keyof C & string>(name: K): ArrayOf<C[K]>;
  /** Names of the sources that brought a row. */
  sourcesOf(row: number): readonly string[];
  /** The pipeline that chose a row: this one, or a fallback. */
  pipelineOf(row: number): string;
  /** What the answer lacks; empty when all went well. */
  readonly degraded: readonly Degraded[];
  readonly trace: readonly StepTrace[];
  readonly micros: number;
  /** What became of an id. Undefined when the request did not ask to explain. */
  why(id: number): Why | undefined;
}

/** What one flight contributed. */
interface Part {
  readonly plan: Plan;
  readonly n: number;
  readonly columns: readonly (ColumnArray | undefined)[];
  readonly log: ExplainLog | undefined;
}

/** The share of a request's time kept for the fallback when its policy names none. Chosen. */
const fallbackShare = 0.2;

export class Runner {
  readonly #tools: FlightTools;
  readonly #observer: Observer | undefined;
  #inFlight = 0;

  constructor(options: RunnerOptions) {
    const limits = { ...pipelineLimits, ...options.limits };
    for (const [name, value] of Object.entries(limits)) {
      if (!(value > 0 && value <= limitCeilings[name as keyof PipelineLimits])) {
        throw new MillraceError("invalid", `limit ${name} is ${value}`, {
          todo: `give a number above 0 and up to ${limitCeilings[name as keyof PipelineLimits]}`,
        });
      }
    }
    this.#tools = { clock: options.clock, limits, strict: options.strict === true, pool: new ColumnPool(limits.pooledBytesMax) };
    this.#observer = options.observer;
  }

  /** Bytes of column arrays kept for reuse. */
  get idleBytes(): number {
    return this.#tools.pool.idleBytes;
  }

  get inFlight(): number {
    return this.#inFlight;
  }

  /**
   * Runs a pipeline for one request. Rejects with `overloaded` beyond `concurrencyMax`; with the step's error when a step failed under `fail` and no fallback
   * answered; with `internal` in strict mode when a step broke a rule. Everything else is a result, with what is missing in `degraded`.
   */
  async run<R, C extends ColumnTypes>(built: Built<R, C>, req: R, options: RunOptions = {}): Promise<Result<C>> {
    const { clock, limits } = this.#tools;
    if (this.#inFlight >= limits.concurrencyMax) {
      throw new MillraceError("overloaded", `pipeline ${built.name}: ${limits.concurrencyMax} requests are in flight`, {
        todo: "retry later, or raise concurrencyMax",
      });
    }
    const startMs = clock.monotonicMs();
    const request: RequestInfo = { req, nowMs: clock.nowMs(), explain: options.explain === true, signal: options.signal };
    const journey = new Journey(this.#tools, request, startMs, options.timeoutMs ?? limits.timeoutMs);
    let rows = 0;
    this.#inFlight++;
    try {
      await journey.fly(built.plan, undefined);
      const result = joinParts<C>(built.plan, journey, (clock.monotonicMs() - startMs) * 1000);
      rows = result.n;
      return result;
    } finally {
      this.#inFlight--;
      const observer = this.#observer;
      if (observer !== undefined) {
        for (const t of journey.trace) observer.step(t.pipeline, t.step, t.micros, t.rowsIn, t.rowsOut, t.outcome);
        observer.request?.(built.name, (clock.monotonicMs() - startMs) * 1000, rows, journey.degraded);
      }
    }
  }
}

/** One request on its way through a flow and its fallbacks. */
class Journey {
  readonly parts: Part[] = [];
  readonly trace: StepTrace[] = [];
  readonly degraded: Degraded[] = [];
  wanted: number | undefined;
  readonly #tools: FlightTools;
  readonly #request: RequestInfo;
  readonly #timeoutMs: number;
  readonly #chosen = new Set<number>();
  #deadlineMs: number;

  constructor(tools: FlightTools, request: RequestInfo, startMs: number, timeoutMs: number) {
    if (!(timeoutMs > 0)) throw new MillraceError("invalid", `timeoutMs is ${timeoutMs}`, { todo: "give milliseconds above 0" });
    this.#tools = tools;
    this.#request = request;
    this.#timeoutMs = timeoutMs;
    this.#deadlineMs = startMs + timeoutMs;
  }

  /** Runs a plan, then its fallback for what is missing. `missing`: rows still wanted, undefined for the first plan. */
  async fly(plan: Plan, missing: number | undefined): Promise<void> {
    const { fallback } = plan;
    const reserveMs = fallback === undefined ? 0 : (fallback.policy.reserveMs ?? this.#timeoutMs * fallbackShare);
    const flight = new Flight(plan, this.#tools, this.#request, this.#deadlineMs - reserveMs, this.#chosen, missing);
    const failure = await this.#complete(flight, missing);
    if (this.parts.length === 1) this.wanted = flight.wanted;
    const found = failure === undefined ? this.parts.at(-1)!.n : 0;
    const wanted = missing ?? flight.wanted ?? (found === 0 ? 1 : found);
    if (failure === undefined && found >= wanted) return;
    if (fallback === undefined) {
      if (failure !== undefined) throw failure.error;
      return;
    }
    this.degraded.push({
      pipeline: plan.name,
      step: failure?.step ?? plan.name,
      reason: failure?.outcome ?? "short",
      action: "fallback",
      message: failure?.error.message ?? `${found} of ${wanted} rows; the rest is asked of ${fallback.plan.name}`,
    });
    this.#deadlineMs = Math.max(this.#deadlineMs, this.#tools.clock.monotonicMs() + reserveMs);
    try {
      // Without a select nobody said how many rows to answer with, and the fallback's own k decides.
      await this.fly(fallback.plan, flight.wanted === undefined ? undefined : wanted - found);
    } catch (thrown) {
      if (thrown instanceof Defect && this.#tools.strict) throw thrown;
      if (this.#request.signal?.aborted === true) throw thrown;
      if (failure !== undefined && this.#chosen.size === 0) throw failure.error;
      const error = thrown instanceof Error ? thrown.message : String(thrown);
      this.degraded.push({ pipeline: fallback.plan.name, step: fallback.plan.name, reason: "error", action: "none", message: error });
    }
  }

  async #complete(flight: Flight, missing: number | undefined): Promise<FlowFailure | undefined> {
    const { signal } = this.#request;
    const onAbort = (): void => flight.abort(signal!.reason);
    signal?.addEventListener("abort", onAbort, { once: true });
    try {
      await flight.execute();
      this.parts.push(this.#partOf(flight, Math.min(flight.table.n, missing ?? Infinity)));
      return undefined;
    } catch (thrown) {
      if (!(thrown instanceof FlowFailure)) throw thrown;
      // A flow that failed answers nothing, but its log still explains.
      this.parts.push({ plan: flight.plan, n: 0, columns: [], log: flight.explain });
      return thrown;
    } finally {
      signal?.removeEventListener("abort", onAbort);
      this.trace.push(...flight.trace);
      this.degraded.push(...flight.degraded);
      flight.table.release();
    }
  }

  #partOf(flight: Flight, n: number): Part {
    const { table, plan } = flight;
    const columns = plan.columns.map((column) => (table.exists(column.index) ? ownColumn(table.raw(column.index), n) : undefined));
    const ids = (columns[idColumn] ?? new Uint32Array(0)) as Uint32Array;
    for (const id of ids) this.#chosen.add(id);
    return { plan, n, columns, log: flight.explain };
  }
}

/** Joins one column of all parts. */
function joinColumn(plan: Plan, parts: readonly Part[], n: number, name: string): ColumnArray {
  const column = plan.byName.get(name)!;
  const own = parts[0]!.columns[column.index];
  if (own !== undefined && own.length === n) return own;
  const joined = createColumn(column.type, n);
  let at = 0;
  for (const part of parts) {
    const source = part.plan.byName.get(name);
    const values = source?.type === column.type ? part.columns[source.index] : undefined;
    if (values === undefined) fillColumn(joined, column.default, at, at + part.n);
    else for (let i = 0; i < part.n; i++) (joined as (number | string)[])[at + i] = values[i]!;
    at += part.n;
  }
  return joined;
}

function joinParts<C extends ColumnTypes>(plan: Plan, journey: Journey, micros: number): Result<C> {
  const { parts } = journey;
  let n = 0;
  for (const part of parts) n += part.n;
  const partOf = (row: number): { readonly part: Part; readonly at: number } => {
    let at = row;
    for (const part of parts) {
      if (at < part.n) return { part, at };
      at -= part.n;
    }
    throw new MillraceError("not-found", `row ${row} of a result of ${n} rows`, { todo: "ask for rows from 0 to n - 1" });
  };
  const ids = joinColumn(plan, parts, n, "id") as Uint32Array<ArrayBuffer>;
  const columns = new Map<string, ColumnArray>([["id", ids]]);
  return {
    pipeline: plan.name,
    n,
    wanted: journey.wanted,
    ids,
    scores: joinColumn(plan, parts, n, "score") as Float32Array,
    col<K extends keyof C & string>(name: K): ArrayOf<C[K]> {
      let column = columns.get(name);
      if (column === undefined) {
        const isKnown = plan.output.includes(name) || name === "score" || name === "sources";
        if (!isKnown)
          throw new MillraceError("not-found", `the result of pipeline ${plan.name} has no column ${name}`, { todo: "name it in build({ output })" });
        column = joinColumn(plan, parts, n, name);
        columns.set(name, column);
      }
      return column as ArrayOf<C[K]>;
    },
    sourcesOf(row) {
      const { part, at } = partOf(row);
      const bits = (part.columns[sourcesColumn] as Uint32Array)[at]!;
      return part.plan.sources.filter((_, i) => ((bits >>> i) & 1) === 1);
    },
    pipelineOf: (row) => partOf(row).part.plan.name,
    degraded: journey.degraded,
    trace: journey.trace,
    micros,
    why(id) {
      let first: Why | undefined;
      let at = 0;
      for (const part of parts) {
        const place = ((part.columns[idColumn] ?? new Uint32Array(0)) as Uint32Array).indexOf(id);
        const why = part.log?.why(id, place < 0 ? undefined : at + place + 1);
        at += part.n;
        if (why === undefined) continue;
        if (why.verdict === "chosen") return why;
        // A later part's word counts only when no earlier part knew the row.
        if (first === undefined || first.verdict === "not recalled") first = why.verdict === "not recalled" && first !== undefined ? first : why;
      }
      return first;
    },
  };
}
