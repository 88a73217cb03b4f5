// The explain log of one run: for every recalled row its columns, its rank after each score step, and where it left.
// Written only when the request asks; then it stays in memory as long as the result does.
// How: each row gets a number when all recalls are done; the number travels with the row in a hidden column, and everything is logged by it in flat arrays.
// Cost: one copy of each written column, one whole ranking per score step and select: 0.5 ms more CPU for 2,000 rows, two score steps and a select
// (measured on a loaded machine). Hence only for requests that ask.
// Limits: as many rows as the batch may hold (`candidatesMax`).

import { type ColumnArray, copyColumn, createColumn, fillColumn } from "./column.ts";
import { type Plan, idColumn, scoreColumn, sourcesColumn } from "./plan.ts";
import { rankRows } from "./select-top.ts";
import type { Table } from "./table.ts";

export interface Why {
  readonly id: number;
  /** Pipeline that knew the row best: the one that chose it, else the one it was asked of. */
  readonly pipeline: string;
  readonly verdict: "chosen" | "not recalled" | "filtered" | "ranked" | "dropped" | "flow failed";
  /** One sentence: `not recalled`, `filtered by unseen`, `ranked 214 of 1724`, `dropped by at most 1 of a author in 5 places`. */
  readonly text: string;
  /** The step that filtered, ranked or dropped it. */
  readonly step?: string;
  readonly rule?: string;
  /** Place in the answer, from 1. */
  readonly place?: number;
  /** Sources that brought it. */
  readonly sources: readonly string[];
  /** Its rank after each score step, from 1, among the rows then left. */
  readonly ranks: readonly { readonly step: string; readonly rank: number; readonly of: number; readonly score: number }[];
  /** Its columns as last seen. */
  readonly columns: Readonly<Record<string, number | string>>;
}

interface Ranking {
  readonly step: string;
  /** Rank by row number, from 1; 0 for rows that had left. */
  readonly ranks: Uint32Array;
  readonly scores: Float32Array;
  readonly of: number;
}

/** A step at which rows left. */
interface Exit {
  readonly step: string;
  readonly kind: "filtered" | "ranked" | "excluded" | "emptied";
  /** Rows before it. */
  readonly of: number;
}

export class ExplainLog {
  readonly #plan: Plan;
  readonly #cut = new Map<number, string>();
  #rows = 0;
  #columns: (ColumnArray | undefined)[] = [];
  readonly #rankings: Ranking[] = [];
  readonly #exits: Exit[] = [];
  /** By row number: the exit it took, from 1; 0 for rows that stayed. */
  #exitOf = new Uint8Array(0);
  /** By row number: its rank at that exit, for selects. */
  #exitRank = new Uint32Array(0);
  readonly #exitRule = new Map<number, string>();
  #ordinals: Map<number, number> | undefined;

  constructor(plan: Plan) {
    this.#plan = plan;
  }

  get pipeline(): string {
    return this.#plan.name;
  }

  /** An id a source brought that was cut before the batch. */
  cut(id: number, reason: string): void {
    this.#cut.set(id, reason);
  }

  /** All recalls are done: numbers the rows. */
  begin(table: Table): void {
    this.#rows = table.n;
    const ordinals = table.raw(table.ordinalSlot) as Uint32Array;
    for (let row = 0; row < table.n; row++) ordinals[row] = row;
    this.#exitOf = new Uint8Array(table.n);
    this.#exitRank = new Uint32Array(table.n);
    for (const { index, type } of this.#plan.columns) {
      if (!table.exists(index)) continue;
      const log = createColumn(type, table.n);
      copyColumn(type, log, 0, table.raw(index), table.n);
      this.#columns[index] = log;
    }
  }

  /** A column has new values. */
  wrote(table: Table, column: number): void {
    if (this.#rows === 0) return;
    const { type, default: value } = this.#plan.columns[column]!;
    let log = this.#columns[column];
    if (log === undefined) {
      log = createColumn(type, this.#rows);
      fillColumn(log, value, 0, this.#rows);
      this.#columns[column] = log;
    }
    const ordinals = table.raw(table.ordinalSlot) as Uint32Array;
    const values = table.raw(column);
    for (let row = 0; row < table.n; row++) (log as (number | string)[])[ordinals[row]!] = values[row]!;
  }

  /** A score step ended: ranks the rows. */
  scored(table: Table, step: string): void {
    const scores = table.raw(scoreColumn) as Float32Array;
    const order = rankRows(scores, table.n);
    const ordinals = table.raw(table.ordinalSlot) as Uint32Array;
    const ranking: Ranking = { step, ranks: new Uint32Array(this.#rows), scores: new Float32Array(this.#rows), of: table.n };
    for (let rank = 0; rank < table.n; rank++) {
      const row = order[rank]!;
      ranking.ranks[ordinals[row]!] = rank + 1;
      ranking.scores[ordinals[row]!] = scores[row]!;
    }
    this.#rankings.push(ranking);
  }

  /** Before a filter's compaction. */
  filtered(table: Table, step: string, keep: Uint8Array, kind: "filtered" | "excluded" = "filtered"): void {
    const exit = this.#exit(step, kind, table.n);
    const ordinals = table.raw(table.ordinalSlot) as Uint32Array;
    for (let row = 0; row < table.n; row++) if (keep[row] === 0) this.#exitOf[ordinals[row]!] = exit;
  }

  /** Before all rows are dropped because a step failed. */
  emptied(table: Table, step: string): void {
    const ordinals = table.raw(table.ordinalSlot) as Uint32Array;
    const exit = this.#exit(step, "emptied", table.n);
    for (let row = 0; row < table.n; row++) this.#exitOf[ordinals[row]!] = exit;
  }

  /** Before a select's reordering. `rules`: the rule that passed a row over, by row. */
  selected(table: Table, step: string, order: Uint32Array, count: number, rules: ReadonlyMap<number, string>): void {
    const chosen = new Uint8Array(table.n);
    for (let i = 0; i < count; i++) chosen[order[i]!] = 1;
    const exit = this.#exit(step, "ranked", table.n);
    const ranked = rankRows(table.raw(scoreColumn) as Float32Array, table.n);
    const ordinals = table.raw(table.ordinalSlot) as Uint32Array;
    for (let rank = 0; rank < table.n; rank++) {
      const row = ranked[rank]!;
      if (chosen[row] === 1) continue;
      const ordinal = ordinals[row]!;
      this.#exitOf[ordinal] = exit;
      this.#exitRank[ordinal] = rank + 1;
      const rule = rules.get(row);
      if (rule !== undefined) this.#exitRule.set(ordinal, rule);
    }
  }

  #exit(step: string, kind: Exit["kind"], of: number): number {
    return this.#exits.push({ step, kind, of });
  }

  /** What became of an id; `place` is its place in the answer, when this run put it there. */
  why(id: number, place: number | undefined): Why {
    const ordinal = this.#ordinalOf(id);
    if (ordinal === undefined) {
      const cut = this.#cut.get(id);
      const text = cut === undefined ? "not recalled" : `not recalled: ${cut}`;
      return { id, pipeline: this.#plan.name, verdict: "not recalled", text, sources: [], ranks: [], columns: {} };
    }
    const columns: Record<string, number | string> = {};
    for (const column of this.#plan.columns) {
      const log = this.#columns[column.index];
      if (log !== undefined && column.index !== idColumn) columns[column.name] = log[ordinal]!;
    }
    const bits = (this.#columns[sourcesColumn] as Uint32Array)[ordinal]!;
    const known = {
      id,
      pipeline: this.#plan.name,
      sources: this.#plan.sources.filter((_, i) => ((bits >>> i) & 1) === 1),
      ranks: this.#rankings.filter((r) => r.ranks[ordinal] !== 0).map((r) => ({ step: r.step, rank: r.ranks[ordinal]!, of: r.of, score: r.scores[ordinal]! })),
      columns,
    };
    const left = this.#exits[this.#exitOf[ordinal]! - 1];
    if (left === undefined) {
      if (place === undefined) return { ...known, verdict: "flow failed", text: "recalled by a flow that failed" };
      return { ...known, verdict: "chosen", text: `chosen for place ${place}`, place };
    }
    const { step } = left;
    const rule = this.#exitRule.get(ordinal);
    if (left.kind === "excluded") return { ...known, verdict: "filtered", text: "already in the answer", step };
    if (left.kind === "emptied") return { ...known, verdict: "filtered", text: `dropped because step ${step} failed`, step };
    if (left.kind === "filtered") return { ...known, verdict: "filtered", text: `filtered by ${step}`, step };
    if (rule !== undefined) return { ...known, verdict: "dropped", text: `dropped by ${rule}`, step, rule };
    return { ...known, verdict: "ranked", text: `ranked ${this.#exitRank[ordinal]} of ${left.of}`, step };
  }

  #ordinalOf(id: number): number | undefined {
    if (this.#ordinals === undefined) {
      this.#ordinals = new Map();
      const ids = this.#columns[idColumn] as Uint32Array | undefined;
      if (ids !== undefined) for (let i = 0; i < this.#rows; i++) this.#ordinals.set(ids[i]!, i);
    }
    return this.#ordinals.get(id);
  }
}
