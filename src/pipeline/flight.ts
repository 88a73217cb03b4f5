// One run of one plan: calls the steps in order, waits where a step is asynchronous, applies policies, keeps the trace.
// The story stands in `execute`; the rest is one step at a time. Synchronous steps run inline: no promise, no timer, no signal is made for them.
// Invariants: 1. every wait has a deadline: the step's timeout or the end of the flight's time  2. a step's columns become visible only when it succeeded
//             3. a step that ended cannot reach the batch any more  4. every call leaves one trace record, whatever its end
//             5. a deadline ends waits, it never discards rows that are there: synchronous steps still run after it.
// Concurrency: flights share nothing but the pool.

import { MillraceError, toMillraceError } from "#base/errors";
import type { Clock, Timer } from "#platform/clock";
import type { ColumnArray, ColumnPool } from "./column.ts";
import { ExplainLog } from "./explain.ts";
import type { PipelineLimits } from "./limits.ts";
import { type SourceRows, mergeSources } from "./merge.ts";
import { type Plan, type PlanStage, type PlanStep, idColumn, scoreColumn } from "./plan.ts";
import { topRows } from "./select-top.ts";
import type { SelectContext, SourceContext } from "./step.ts";
import { Table } from "./table.ts";
import type { Degraded, Outcome, StepTrace } from "./trace.ts";

/** What all flights of a runner share. */
export interface FlightTools {
  readonly clock: Clock;
  readonly pool: ColumnPool;
  readonly limits: PipelineLimits;
  /** Defects throw instead of being counted. */
  readonly strict: boolean;
}

/** What the flights of one request share. */
export interface RequestInfo {
  readonly req: unknown;
  readonly nowMs: number;
  readonly explain: boolean;
  readonly signal: AbortSignal | undefined;
}

/** A step broke the rules of the framework. Thrown to the caller in strict mode. */
export class Defect extends MillraceError {
  constructor(step: PlanStep, what: string, todo: string, cause?: unknown) {
    super("internal", `step ${step.name} of pipeline ${step.pipeline} ${what}`, { todo, cause });
  }
}

/** Ends a flight whose step failed under the policy `fail`. Never leaves the room. */
export class FlowFailure extends Error {
  readonly step: string;
  readonly outcome: Degraded["reason"];
  readonly error: MillraceError;

  constructor(step: string, outcome: Degraded["reason"], error: MillraceError) {
    super(error.message, { cause: error });
    this.step = step;
    this.outcome = outcome;
    this.error = error;
  }
}

const defectTodo = "correct the step";

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof value === "object" && value !== null && typeof (value as { then?: unknown }).then === "function";
}

function outcomeOf(thrown: unknown): "error" | "timeout" | "defect" {
  // Writing past the end of a column is a RangeError, a forgotten name a ReferenceError; neither comes from a remote part.
  if (thrown instanceof Defect || thrown instanceof RangeError || thrown instanceof ReferenceError) return "defect";
  return thrown instanceof MillraceError && thrown.code === "timeout" ? "timeout" : "error";
}

function errorOf(call: StepCall, thrown: unknown): MillraceError {
  if (thrown instanceof MillraceError) return thrown;
  const reason = thrown instanceof Error ? thrown.message : String(thrown);
  return new MillraceError("internal", `step ${call.step.name} of pipeline ${call.step.pipeline} failed: ${reason}`, { cause: thrown, todo: defectTodo });
}

/** One call of one step, and the context the step sees. */
class StepCall implements SourceContext<unknown>, SelectContext<unknown> {
  readonly step: PlanStep;
  readonly req: unknown;
  readonly nowMs: number;
  readonly rows: number;
  readonly limit: number;
  readonly startedMs: number;
  readonly endsMs: number;
  readonly passedOver?: (row: number, rule: string) => void;
  readonly #flight: Flight;
  #controller: AbortController | undefined;

  outcome: Outcome | undefined;
  thrown: unknown;
  returned: unknown;
  finishedMs = 0;
  /** Set while a promise of the step is awaited. */
  waiting: Promise<void> | undefined;
  wake: (() => void) | undefined;
  timer: Timer | undefined;

  /** Arrays the step writes, by column number. */
  drafts: Map<number, ColumnArray> | undefined;
  out: Record<string, ColumnArray> | undefined;
  chunks: { readonly ids: Uint32Array<ArrayBuffer>; readonly arrays: Map<number, ColumnArray>; readonly n: number }[] | undefined;
  keep: Uint8Array<ArrayBuffer> | undefined;
  keepView: Uint8Array | undefined;
  order: Uint32Array<ArrayBuffer> | undefined;
  scratches: Uint32Array<ArrayBuffer>[] | undefined;
  rules: Map<number, string> | undefined;
  /** Sources: rows filled, and rows kept of them. */
  emitted = 0;
  kept = 0;
  /** Called when the flight gives the call up while its promise is pending. */
  giveUp: (() => void) | undefined;

  constructor(flight: Flight, step: PlanStep, limit: number) {
    this.#flight = flight;
    this.step = step;
    this.req = flight.request.req;
    this.nowMs = flight.request.nowMs;
    this.rows = flight.table.n;
    this.limit = limit;
    this.startedMs = flight.tools.clock.monotonicMs();
    this.endsMs = step.timeoutMs === undefined ? flight.deadlineMs : Math.min(flight.deadlineMs, this.startedMs + step.timeoutMs);
    if (flight.explain !== undefined && step.kind === "select") {
      this.passedOver = (row, rule) => void (this.rules ??= new Map<number, string>()).set(row, rule);
    }
  }

  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      this.#controller = new AbortController();
      if (this.outcome !== undefined && this.outcome !== "ok") this.#controller.abort(this.thrown);
    }
    return this.#controller.signal;
  }

  abort(reason: unknown): void {
    this.#controller?.abort(reason);
  }

  remainingMs(): number {
    return this.endsMs - this.#flight.tools.clock.monotonicMs();
  }

  scratch(length: number): Uint32Array {
    const array = this.#flight.table.pool.take("u32", length);
    (this.scratches ??= []).push(array);
    return array;
  }
}

/** The rows as one call of a step sees them. */
class StepBatch {
  readonly n: number;
  readonly #table: Table;
  readonly #call: StepCall;

  constructor(table: Table, call: StepCall) {
    this.n = table.n;
    this.#table = table;
    this.#call = call;
  }

  get id(): Uint32Array {
    this.#checkOpen();
    return this.#table.view(idColumn) as Uint32Array;
  }

  col(name: string): ColumnArray {
    this.#checkOpen();
    const column = this.#call.step.reads.get(name);
    if (column === undefined)
      throw new Defect(this.#call.step, `reads column ${name}, which it did not declare`, "declare it among the columns the step reads");
    return this.#table.view(column);
  }

  #checkOpen(): void {
    if (this.#call.outcome !== undefined)
      throw new Defect(this.#call.step, "used its batch after it had ended", "keep no batch beyond the call, and stop at ctx.signal");
  }
}

export class Flight {
  readonly plan: Plan;
  readonly tools: FlightTools;
  readonly request: RequestInfo;
  readonly deadlineMs: number;
  readonly table: Table;
  readonly trace: StepTrace[] = [];
  readonly degraded: Degraded[] = [];
  readonly explain: ExplainLog | undefined;
  /** Rows asked for: the k of the last select. Undefined without a select. */
  wanted: number | undefined;
  readonly #exclude: ReadonlySet<number>;
  #group: StepCall[] = [];
  #logged = false;

  constructor(plan: Plan, tools: FlightTools, request: RequestInfo, deadlineMs: number, exclude: ReadonlySet<number>, wanted: number | undefined) {
    this.plan = plan;
    this.tools = tools;
    this.request = request;
    this.deadlineMs = deadlineMs;
    this.table = new Table(tools.pool, plan.columns);
    this.explain = request.explain ? new ExplainLog(plan) : undefined;
    this.#exclude = exclude;
    this.wanted = wanted;
  }

  /** Runs all stages. Throws FlowFailure when a step fails under `fail`, Defect in strict mode, and the abort reason when the caller gave up. */
  async execute(): Promise<void> {
    const { plan } = this;
    this.#settleWanted();
    for (const stage of plan.stages) {
      this.#throwIfAborted();
      if (stage.kind !== "recall" && !this.#logged) this.#endRecalls(stage.number);
      const calls = this.#startAll(stage);
      for (const call of calls) if (call.waiting !== undefined) await call.waiting;
      this.#throwIfAborted();
      this.#endAll(stage, calls);
      if (stage.kind === "recall") this.#merge(stage, calls);
    }
    if (!this.#logged) this.#endRecalls(plan.stages.length + 1);
  }

  /** The caller gave up: ends all waits now. */
  abort(reason: unknown): void {
    for (const call of this.#group) if (call.outcome === undefined) this.#finish(call, "cancelled", reason);
  }

  #throwIfAborted(): void {
    const { signal } = this.request;
    if (signal?.aborted !== true) return;
    const { reason } = signal as { reason: unknown };
    throw reason instanceof MillraceError ? reason : new MillraceError("unavailable", `the caller of pipeline ${this.plan.name} gave up`, { cause: reason });
  }

  /** The k of the last select is known from the start, so that the fallback knows what is missing even when the flow ends early. */
  #settleWanted(): void {
    const { lastSelect, stages } = this.plan;
    if (lastSelect === undefined || this.wanted !== undefined) return;
    this.wanted = this.#countOf(stages[lastSelect - 1]!.steps[0]!);
  }

  #countOf(step: PlanStep): number {
    let k: number;
    try {
      k = typeof step.k === "function" ? step.k(new StepCall(this, step, 0)) : step.k!;
    } catch (thrown) {
      throw toMillraceError(thrown, `the k of select ${step.name} of pipeline ${step.pipeline} cannot be computed`);
    }
    if (!(k >= 0)) throw new MillraceError("invalid", `the k of select ${step.name} of pipeline ${step.pipeline} is ${k}`, { todo: "ask for 0 or more rows" });
    return Math.min(Math.floor(k), this.tools.limits.candidatesMax);
  }

  #startAll(stage: PlanStage): StepCall[] {
    const calls: StepCall[] = [];
    this.#group = calls;
    for (const step of stage.steps) {
      const call = new StepCall(this, step, Math.min(step.quota ?? Infinity, this.tools.limits.candidatesMax));
      calls.push(call);
      this.#start(call);
      if (this.#ends(call)) break;
    }
    return calls;
  }

  /** Whether the end of this call ends the flow. */
  #ends(call: StepCall): boolean {
    if (call.outcome === undefined || call.outcome === "ok" || call.outcome === "off") return false;
    return call.step.onError === "fail" || (call.outcome === "defect" && this.tools.strict);
  }

  #start(call: StepCall): void {
    const { step } = call;
    try {
      if (step.when !== undefined && !step.when(call)) return this.#finish(call, "off");
      const returned = this.#invoke(call);
      if (!isThenable(returned)) {
        call.returned = returned;
        return this.#finish(call, "ok");
      }
      if (step.kind === "select") throw new Defect(step, "returned a promise", "make the selector synchronous");
      this.#wait(call, returned);
    } catch (thrown) {
      this.#finish(call, outcomeOf(thrown), thrown);
    }
  }

  #invoke(call: StepCall): unknown {
    const { step } = call;
    const { table } = this;
    const run = step.run as (...args: unknown[]) => unknown;
    switch (step.kind) {
      case "source":
        call.chunks = [];
        return run(call, (rows: number) => this.#emit(call, rows));
      case "hydrate":
      case "score": {
        call.drafts = new Map();
        const out: Record<string, ColumnArray> = {};
        for (const [name, column] of step.writes) {
          const draft = table.draft(column);
          call.drafts.set(column, draft);
          out[name] = Array.isArray(draft) ? draft : draft.subarray(0, table.n);
        }
        call.out = out;
        return run(call, new StepBatch(table, call), this.tools.strict ? strictOut(step, out) : out);
      }
      case "filter":
        call.keep = table.pool.take("u8", table.n);
        call.keep.fill(1, 0, table.n);
        call.keepView = call.keep.subarray(0, table.n);
        return run(call, new StepBatch(table, call), call.keepView);
      case "select":
        call.order = table.pool.take("u32", table.n);
        return run(call, new StepBatch(table, call), this.#k(step), call.order.subarray(0, table.n));
    }
  }

  #k(step: PlanStep): number {
    return step.stage === this.plan.lastSelect ? this.wanted! : this.#countOf(step);
  }

  #emit(call: StepCall, rows: number): Record<string, ColumnArray> {
    const { step } = call;
    if (call.outcome !== undefined) throw new MillraceError("timeout", `source ${step.name} emitted after it was given up`, { todo: "stop at ctx.signal" });
    const { pool } = this.table;
    if (!Number.isInteger(rows) || rows < 0) throw new Defect(step, `emitted ${rows} rows`, "emit a whole number of rows");
    const before = call.chunks!.reduce((sum, chunk) => sum + chunk.n, 0);
    const { sourceRowsMax } = this.tools.limits;
    if (before + rows > sourceRowsMax) {
      throw new MillraceError("invalid", `source ${step.name} emitted more than ${sourceRowsMax} rows`, {
        todo: "emit about ctx.limit rows, or raise sourceRowsMax",
      });
    }
    const ids = pool.take("u32", rows);
    ids.fill(0, 0, rows);
    const out: Record<string, ColumnArray> = { id: ids.subarray(0, rows) };
    const arrays = new Map<number, ColumnArray>();
    for (const [name, column] of step.writes) {
      const { type, default: value } = this.plan.columns[column]!;
      const array = pool.take(type, rows);
      (array as { fill(value: number | string, from: number, to: number): unknown }).fill(value, 0, rows);
      arrays.set(column, array);
      out[name] = Array.isArray(array) ? array : array.subarray(0, rows);
    }
    call.chunks!.push({ ids, arrays, n: rows });
    return this.tools.strict ? strictOut(step, out) : out;
  }

  #wait(call: StepCall, promise: PromiseLike<unknown>): void {
    let settled = false;
    call.waiting = new Promise((resolve) => (call.wake = resolve));
    // At least one turn of the timers, so that a promise that is settled already wins against a deadline that has passed.
    call.timer = this.tools.clock.after(Math.max(call.remainingMs(), 0), () => {
      const { step } = call;
      this.#finish(
        call,
        "timeout",
        new MillraceError("timeout", `step ${step.name} of pipeline ${step.pipeline} took longer than allowed`, { todo: "retry, or raise its timeoutMs" }),
      );
    });
    const settle = (outcome: Outcome, value: unknown): void => {
      settled = true;
      // Given up before: its arrays are free to be reused from now on.
      if (call.outcome !== undefined) this.table.stragglers--;
      else if (outcome === "ok") {
        call.returned = value;
        this.#finish(call, "ok");
      } else this.#finish(call, outcome, value);
    };
    promise.then(
      (value) => settle("ok", value),
      (thrown: unknown) => settle(outcomeOf(thrown), thrown),
    );
    call.giveUp = () => {
      if (!settled) this.table.stragglers++;
    };
  }

  #finish(call: StepCall, outcome: Outcome, thrown?: unknown): void {
    call.outcome = outcome;
    call.thrown = thrown;
    call.finishedMs = this.tools.clock.monotonicMs();
    call.timer?.cancel();
    if (outcome === "timeout" || outcome === "cancelled") {
      call.giveUp?.();
      call.abort(thrown);
    }
    call.wake?.();
    if (this.#ends(call)) for (const other of this.#group) if (other.outcome === undefined && other !== call) this.#finish(other, "cancelled", thrown);
  }

  #endAll(stage: PlanStage, calls: readonly StepCall[]): void {
    let failure: StepCall | undefined;
    let emptied: string | undefined;
    for (const call of calls) {
      const startMs = this.tools.clock.monotonicMs();
      const rowsIn = this.table.n;
      if (call.outcome === "ok") {
        try {
          this.#apply(call);
        } catch (thrown) {
          call.outcome = outcomeOf(thrown);
          call.thrown = thrown;
        }
      }
      const { outcome } = call;
      if (outcome === "error" || outcome === "timeout" || outcome === "defect") {
        if (this.#ends(call)) failure ??= call;
        else {
          this.#degrade(call, outcome);
          if (call.step.onError === "empty" && call.step.kind !== "source") emptied ??= call.step.name;
          if (call.step.onError === "skip" && call.step.kind === "select") this.#selectPlainly(call);
        }
      } else if (outcome === "off" && call.step.kind === "select") this.#selectPlainly(call);
      this.#giveBack(call);
      const isSource = call.step.kind === "source";
      const micros = (call.finishedMs - call.startedMs + this.tools.clock.monotonicMs() - startMs) * 1000;
      const rowsLeft = emptied === call.step.name ? 0 : this.table.n;
      this.#record(call, stage, isSource ? call.emitted : rowsIn, isSource ? call.kept : rowsLeft, micros);
    }
    // After all calls of the stage, since their arrays have as many rows as the batch had.
    if (emptied !== undefined) this.#empty(emptied);
    if (failure === undefined) return;
    for (const call of calls) this.#dropChunks(call);
    const error = errorOf(failure, failure.thrown);
    if (failure.outcome === "defect" && this.tools.strict)
      throw error instanceof Defect ? error : new Defect(failure.step, `failed: ${error.what}`, defectTodo, failure.thrown);
    throw new FlowFailure(failure.step.name, failure.outcome as Degraded["reason"], error);
  }

  #record(call: StepCall, stage: PlanStage, rowsIn: number, rowsOut: number, micros: number): void {
    const { step, outcome, thrown } = call;
    this.trace.push({
      pipeline: this.plan.name,
      step: step.name,
      kind: step.kind,
      stage: stage.number,
      rowsIn,
      rowsOut,
      micros,
      outcome: outcome!,
      ...(step.kind === "source" ? { quota: call.limit } : {}),
      ...(thrown === undefined ? {} : { error: errorOf(call, thrown).message }),
      ...(step.note === undefined ? {} : { note: step.note }),
    });
  }

  #degrade(call: StepCall, reason: Degraded["reason"]): void {
    const action = call.step.onError === "skip" ? "skip" : "empty";
    this.degraded.push({ pipeline: this.plan.name, step: call.step.name, reason, action, message: errorOf(call, call.thrown).message });
  }

  /** Makes the work of a step that ended well part of the batch. Throws Defect when it broke a rule. */
  #apply(call: StepCall): void {
    switch (call.step.kind) {
      case "source":
        return this.#applySource(call);
      case "hydrate":
      case "score":
        return this.#applyWriter(call);
      case "filter":
        this.explain?.filtered(this.table, call.step.name, call.keep!);
        this.table.compact(call.keep!);
        return;
      case "select":
        return this.#applySelect(call);
    }
  }

  #applySource(call: StepCall): void {
    const chunks = call.chunks!;
    let emitted = 0;
    for (const chunk of chunks) emitted += chunk.n;
    const used = call.returned === undefined ? emitted : (call.returned as number);
    if (!Number.isInteger(used) || used < 0 || used > emitted) {
      throw new Defect(
        call.step,
        `says it used ${String(call.returned)} of ${emitted} emitted rows`,
        "return nothing, or how many of the emitted rows are filled",
      );
    }
    call.emitted = used;
    call.kept = Math.min(used, call.limit);
  }

  #applyWriter(call: StepCall): void {
    const { step } = call;
    const out = call.out!;
    let columns = 0;
    for (const name in out) {
      columns++;
      const column = step.writes.get(name);
      if (column === undefined) throw new Defect(step, `writes column ${name}, which it did not declare`, "declare it among the columns the step writes");
      const draft = call.drafts!.get(column)!;
      const given = out[name]!;
      if (
        Array.isArray(draft) ? given !== draft || draft.length < this.table.n : (given as Uint32Array).buffer !== draft.buffer || given.length !== this.table.n
      ) {
        throw new Defect(step, `replaced the array of column ${name}, or changed its length`, "write into the array that is given");
      }
    }
    if (columns !== step.writes.size) throw new Defect(step, "removed a column it declared", "write into the arrays that are given");
    const scores = call.drafts!.get(scoreColumn);
    if (scores !== undefined && this.table.n > 0 && replaceNaN(scores as Float32Array, this.table.n) === this.table.n) {
      throw new Defect(step, `gave NaN for all ${this.table.n} rows`, "look at the columns it reads: a model without parameters, or a division by 0");
    }
    for (const [column, draft] of call.drafts!) {
      this.table.commit(column, draft);
      this.explain?.wrote(this.table, column);
    }
    call.drafts = undefined;
    if (step.kind === "score") this.explain?.scored(this.table, step.name);
  }

  #applySelect(call: StepCall): void {
    const { step } = call;
    const { table } = this;
    const order = call.order!;
    const count = call.returned as number;
    const k = this.#k(step);
    if (!Number.isInteger(count) || count < 0 || count > Math.min(k, table.n)) {
      throw new Defect(
        step,
        `chose ${String(count)} rows of ${table.n} where at most ${Math.min(k, table.n)} were asked for`,
        "return how many rows of order are filled",
      );
    }
    const seen = table.pool.take("u8", table.n);
    seen.fill(0, 0, table.n);
    let problem = -1;
    for (let i = 0; i < count; i++) {
      const row = order[i]!;
      if (row >= table.n || seen[row] === 1) problem = i;
      else seen[row] = 1;
    }
    table.pool.give("u8", seen);
    if (problem >= 0) throw new Defect(step, `chose row ${order[problem]} twice or beyond the batch`, "write each row number at most once");
    this.explain?.selected(table, step.name, order, count, call.rules ?? new Map());
    table.reorder(order, count);
  }

  /** What a selector's `skip` means: the plain top k. */
  #selectPlainly(call: StepCall): void {
    const { table } = this;
    const order = table.pool.take("u32", table.n);
    const count = topRows(table.raw(scoreColumn) as Float32Array, table.n, this.#k(call.step), order);
    this.explain?.selected(table, call.step.name, order, count, new Map());
    table.reorder(order, count);
    table.pool.give("u32", order);
  }

  #empty(step: string): void {
    this.explain?.emptied(this.table, step);
    this.table.clear();
  }

  #giveBack(call: StepCall): void {
    const { table } = this;
    if (call.drafts !== undefined) for (const [column, draft] of call.drafts) table.giveBack(table.typeOf(column), draft);
    if (call.keep !== undefined) table.giveBack("u8", call.keep);
    if (call.order !== undefined) table.giveBack("u32", call.order);
    if (call.scratches !== undefined) for (const scratch of call.scratches) table.giveBack("u32", scratch);
    call.drafts = call.keep = call.order = call.scratches = undefined;
  }

  #merge(stage: PlanStage, calls: readonly StepCall[]): void {
    const startMs = this.tools.clock.monotonicMs();
    const brought: SourceRows[] = [];
    let rows = 0;
    for (const call of calls) {
      if (call.outcome !== "ok") continue;
      let left = call.kept;
      for (const chunk of call.chunks!) {
        const n = Math.min(chunk.n, left);
        left -= n;
        rows += n;
        if (n > 0) brought.push({ step: call.step, ids: chunk.ids, arrays: chunk.arrays, n });
      }
    }
    const before = this.table.n;
    const { candidatesMax } = this.tools.limits;
    const log = this.explain;
    if (log !== undefined) for (const call of calls) if (call.outcome === "ok") logQuota(log, call);
    const cut = mergeSources(this.plan, this.table, brought, candidatesMax, log && ((id) => log.cut(id, `the batch was full at ${candidatesMax} rows`)));
    for (const call of calls) this.#dropChunks(call);
    const micros = (this.tools.clock.monotonicMs() - startMs) * 1000;
    const name = stage.steps.length === 1 ? `merge ${stage.steps[0]!.name}` : `merge ${stage.number}`;
    this.trace.push({
      pipeline: this.plan.name,
      step: name,
      kind: "merge",
      stage: stage.number,
      rowsIn: before + rows,
      rowsOut: this.table.n,
      micros,
      outcome: "ok",
      cut,
    });
  }

  #dropChunks(call: StepCall): void {
    if (call.chunks === undefined) return;
    for (const { ids, arrays } of call.chunks) {
      this.table.giveBack("u32", ids);
      for (const [column, array] of arrays) this.table.giveBack(this.table.typeOf(column), array);
    }
    call.chunks = undefined;
  }

  /** After the last recall: scores without NaN, rows numbered for the explain log, and what is in the answer already left out. */
  #endRecalls(stage: number): void {
    this.#logged = true;
    const { table } = this;
    if (table.exists(scoreColumn)) replaceNaN(table.raw(scoreColumn) as Float32Array, table.n);
    if (table.n === 0) return;
    this.explain?.begin(table);
    if (this.#exclude.size === 0) return;
    const startMs = this.tools.clock.monotonicMs();
    const rowsIn = table.n;
    const ids = table.raw(idColumn) as Uint32Array;
    const keep = table.pool.take("u8", rowsIn);
    for (let row = 0; row < rowsIn; row++) keep[row] = this.#exclude.has(ids[row]!) ? 0 : 1;
    this.explain?.filtered(table, "exclude", keep, "excluded");
    table.compact(keep);
    table.pool.give("u8", keep);
    const micros = (this.tools.clock.monotonicMs() - startMs) * 1000;
    this.trace.push({ pipeline: this.plan.name, step: "exclude", kind: "exclude", stage, rowsIn, rowsOut: table.n, micros, outcome: "ok" });
  }
}

function logQuota(log: ExplainLog, call: StepCall): void {
  let at = 0;
  for (const chunk of call.chunks!) {
    for (let i = 0; i < chunk.n && at < call.emitted; i++, at++) if (at >= call.kept) log.cut(chunk.ids[i]!, `beyond the quota of ${call.step.name}`);
  }
}

/** NaN ranks last: -Infinity. Returns how many there were. */
function replaceNaN(scores: Float32Array, n: number): number {
  let count = 0;
  for (let i = 0; i < n; i++) {
    const score = scores[i]!;
    if (score !== score) {
      scores[i] = -Infinity;
      count++;
    }
  }
  return count;
}

/** `out` that refuses columns the step did not declare. Strict mode only: a proxy costs more than the loop around it. */
function strictOut(step: PlanStep, out: Record<string, ColumnArray>): Record<string, ColumnArray> {
  const refuse = (name: string | symbol): never => {
    throw new Defect(step, `writes column ${String(name)}, which it did not declare`, "declare it among the columns the step writes");
  };
  return new Proxy(out, {
    get: (target, name) => (typeof name === "string" && Object.hasOwn(target, name) ? target[name] : refuse(name)),
    set: (_target, name) => refuse(name),
  });
}
