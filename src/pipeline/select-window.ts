// The selector `windowed`: at most `max` rows with the same value of a column in any `window` consecutive places.
// Rule: for each place take the best-scored row that fits all rules; when none of the remaining rows fits, relax the rules in the order in which they were
// declared (the least important first) until one does. So the answer is never shorter because of a rule.
// Why greedy: it keeps the order by score wherever the rules allow, and every decision can be explained by one rule.
// How: rows are visited by rank; a row that does not fit waits in a queue with the rows of the same values, of which only the first can be next.
// Invariants: 1. same result as testing every remaining row at every place (select-window.test.ts)  2. each row is ranked at most twice and waits at most once.
// Cost: O(k * (waiting groups + window)); the ranked prefix is 4k rows and all rows only when those do not suffice.

import { MillraceError } from "#base/errors";
import type { ColumnArray } from "./column.ts";
import { topRows } from "./select-top.ts";
import { type Select, select } from "./step.ts";

export interface WindowRule<By extends string = string> {
  /** Column whose values are to be spread; any type. */
  readonly by: By;
  /** Consecutive places looked at, the place to fill included. 1 or more; `Infinity` for the whole answer. */
  readonly window: number;
  /** Most rows with the same value among them. 1 or more. */
  readonly max: number;
}

interface WaitingGroup {
  readonly key: unknown;
  /** Ranks of the waiting rows, ascending. */
  readonly ranks: number[];
  next: number;
  /** The first rule that made the group wait. */
  readonly rule: string;
}

/** The index of the first rule, from `from` on, that a row would break at place `place`; -1 when it fits. */
function brokenRule(rules: readonly WindowRule[], keys: readonly ColumnArray[], order: Uint32Array, place: number, row: number, from: number): number {
  for (let r = from; r < rules.length; r++) {
    const { window, max } = rules[r]!;
    const key = keys[r]!;
    const value = key[row];
    let same = 0;
    for (let at = Math.max(0, place - window + 1); at < place; at++) if (key[order[at]!] === value) same++;
    if (same >= max) return r;
  }
  return -1;
}

/**
 * Declares the selector. Rules are relaxed in the order given, so name the least important first.
 * Example: `windowed([{ by: "topic", window: 3, max: 1 }, { by: "author", window: 10, max: 2 }])`.
 */
export function windowed<const By extends string>(
  rules: WindowRule<By> | readonly WindowRule<By>[],
  name?: string,
): Select<unknown, { readonly [K in By]: "any" } & { readonly score: "f32" }> {
  const list: readonly WindowRule<By>[] = Array.isArray(rules) ? (rules as readonly WindowRule<By>[]) : [rules as WindowRule<By>];
  for (const rule of list) {
    if (!(rule.window >= 1) || !(rule.max >= 1)) {
      throw new MillraceError("invalid", `window rule by ${rule.by} has window ${rule.window} and max ${rule.max}`, { todo: "give both as 1 or more" });
    }
  }
  const reads = Object.fromEntries([...list.map((rule) => [rule.by, "any"]), ["score", "f32"]]) as { readonly [K in By]: "any" } & { readonly score: "f32" };
  const titles = list.map((rule) => `at most ${rule.max} of a ${rule.by} in ${rule.window === Infinity ? "the answer" : `${rule.window} places`}`);

  return select<unknown>()(name ?? `windowed(${list.map((r) => r.by).join(", ")})`, reads, (ctx, batch, k, order) => {
    const n = batch.n;
    const scores = batch.col("score") as Float32Array;
    const keys = list.map((rule) => batch.col(rule.by) as ColumnArray);
    const wanted = Math.min(k, n);
    const ranked = ctx.scratch(n);
    let prefix = topRows(scores, n, Math.min(n, 4 * wanted), ranked);
    const groups = new Map<unknown, WaitingGroup>();
    let visited = 0;
    let place = 0;

    const bestWaiting = (relaxed: number): WaitingGroup | undefined => {
      let best: WaitingGroup | undefined;
      for (const group of groups.values()) {
        const rank = group.ranks[group.next]!;
        if (best !== undefined && rank > best.ranks[best.next]!) continue;
        if (brokenRule(list, keys, order, place, ranked[rank]!, relaxed) < 0) best = group;
      }
      return best;
    };
    const takeWaiting = (group: WaitingGroup): number => {
      const row = ranked[group.ranks[group.next]!]!;
      group.next++;
      if (group.next === group.ranks.length) groups.delete(group.key);
      return row;
    };
    const wait = (rank: number, rule: number): void => {
      const row = ranked[rank]!;
      const key = keys.length === 1 ? keys[0]![row] : keys.map((column) => column[row]).join("\u0000");
      const group = groups.get(key);
      if (group === undefined) groups.set(key, { key, ranks: [rank], next: 0, rule: titles[rule]! });
      else group.ranks.push(rank);
    };

    while (place < wanted) {
      // Waiting rows rank above all that were not visited, so the best waiting row that fits is the best row that fits.
      let row = -1;
      const waiting = bestWaiting(0);
      if (waiting !== undefined) row = takeWaiting(waiting);
      while (row < 0 && visited < n) {
        if (visited === prefix) prefix = topRows(scores, n, n, ranked);
        const broken = brokenRule(list, keys, order, place, ranked[visited]!, 0);
        if (broken < 0) row = ranked[visited]!;
        else wait(visited, broken);
        visited++;
      }
      for (let relaxed = 1; row < 0 && relaxed <= list.length; relaxed++) {
        const group = bestWaiting(relaxed);
        if (group !== undefined) row = takeWaiting(group);
      }
      order[place++] = row;
    }
    if (ctx.passedOver !== undefined) {
      for (const group of groups.values()) {
        for (let i = group.next; i < group.ranks.length; i++) if (group.ranks[i]! < wanted) ctx.passedOver(ranked[group.ranks[i]!]!, group.rule);
      }
    }
    return place;
  });
}
