// Which slots a filter can pass at most, by the orders of its columns: a few binary searches instead of a look at every slot.
// Used for: a comparison of a field with a constant (numbers: < <= > >= == in; texts: == in), `and` (the side with fewer), `or` (both sides). Anything else: not known.
// What it names is a superset: the filter is still asked of each. Cost: some 20 steps a comparison. Rejected: bitmaps a value, 125 KB each for 1 M rows, where an order
// is 4 bytes a row for all values of a column and serves ranges too.

import type { AttributeColumn } from "./attribute-column.ts";
import type { FilterNode } from "./filter-language.ts";
import { type FilterValue, numberOf } from "./filter-values.ts";

export interface FewSlots {
  /** How many they are at most: a slot may be named more than once. */
  readonly count: number;
  readonly parts: readonly { readonly order: Uint32Array; readonly from: number; readonly to: number }[];
}

const none: FewSlots = { count: 0, parts: [] };

export function fewSlots(node: FilterNode, columns: readonly AttributeColumn[]): FewSlots | undefined {
  if (node.kind !== "binary") return undefined;
  const { operator, left, right } = node;
  if (operator === "and" || operator === "or") {
    const a = fewSlots(left, columns);
    const b = fewSlots(right, columns);
    if (operator === "or") return a && b && { count: a.count + b.count, parts: [...a.parts, ...b.parts] };
    if (a === undefined || b === undefined) return a ?? b;
    const [one, other] = [a.parts[0], b.parts[0]];
    if (a.parts.length === 1 && b.parts.length === 1 && one!.order === other!.order) {
      // Both ends of a range.
      const [from, to] = [Math.max(one!.from, other!.from), Math.min(one!.to, other!.to)];
      return to <= from ? none : { count: to - from, parts: [{ order: one!.order, from, to }] };
    }
    return b.count < a.count ? b : a;
  }
  if (left.kind === "field" && right.kind === "constant") return comparison(columns[left.field]!, operator, right.value);
  const turned = ({ "<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==" } as Readonly<Partial<Record<string, string>>>)[operator];
  if (left.kind === "constant" && right.kind === "field" && turned !== undefined) return comparison(columns[right.field]!, turned, left.value);
  return undefined;
}

function comparison(column: AttributeColumn, operator: string, value: FilterValue): FewSlots | undefined {
  const { order, numbers, codes, dictionary } = column;
  if (order === undefined) return undefined;
  const values = operator === "in" ? (typeof value === "object" && value !== null ? value : undefined) : [value];
  if (values === undefined) return undefined;
  const part = (from: number, to: number): FewSlots => (to <= from ? none : { count: to - from, parts: [{ order, from, to }] });
  const all = (parts: readonly FewSlots[]): FewSlots => ({ count: parts.reduce((sum, { count }) => sum + count, 0), parts: parts.flatMap((one) => one.parts) });
  if (column.kind === "codes") {
    if ((operator !== "==" && operator !== "in") || !dictionary.onlyTexts || !values.every((one) => typeof one === "string")) return undefined;
    return all(
      values.map((one) => {
        const code = dictionary.find(one);
        return code === 0
          ? none
          : part(
              firstFrom(order, (slot) => codes[slot]! >= code),
              firstFrom(order, (slot) => codes[slot]! > code),
            );
      }),
    );
  }
  if (!column.onlyNumbers) return undefined;
  const at = (value: number): number => firstFrom(order, (slot) => numbers[slot]! >= value);
  const beyond = (value: number): number => firstFrom(order, (slot) => numbers[slot]! > value);
  switch (operator) {
    case "==":
    case "in":
      // Null equals no number, NaN nothing.
      return all(
        values.map((one) => {
          const number = numberOf(one);
          return one === null || Number.isNaN(number) ? none : part(at(number), beyond(number));
        }),
      );
    case "<":
    case "<=":
    case ">":
    case ">=": {
      const number = numberOf(value);
      if (Number.isNaN(number)) return none;
      return operator === "<"
        ? part(0, at(number))
        : operator === "<="
          ? part(0, beyond(number))
          : part(operator === ">" ? beyond(number) : at(number), order.length);
    }
    default:
      return undefined;
  }
}

/** First place of an order where `reached` holds; it holds from there on. */
function firstFrom(order: Uint32Array, reached: (slot: number) => boolean): number {
  let low = 0;
  let high = order.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (reached(order[middle]!)) high = middle;
    else low = middle + 1;
  }
  return low;
}
