// Evaluates a filter over columns, a block of slots at a time: each operator is one loop over typed arrays.
//
// How a part of the expression is evaluated, the first that fits:
//   1. a comparison of a column of texts with texts: by code, found once in the dictionary
//   2. a part that names one field, of few different values: once a value, kept by code (Redis' conversions included, whatever they are)
//   3. numbers: columns of numbers, arithmetic, comparisons of numbers: over f64
//   4. everything else: value by value by the interpreter (filter.ts). Right for all types, some 100 ns a slot and operator.
// Invariant: what is written equals `Filter.passes` of the slot's JSON text (property test: filter-plan.test.ts).
// Cost: making a plan some microseconds; 1 to 3 ns a slot and operator by the first three ways. Concurrency: one thread; scratch arrays are shared by all plans, none runs inside another.
// Limits: blockSlots a call.

import type { AttributeColumn } from "./attribute-column.ts";
import { evaluate, type Filter } from "./filter.ts";
import type { FilterNode } from "./filter-language.ts";
import { calculate, type ArithmeticOperator, type FilterValue, isTrue, numberOf, type OrderOperator } from "./filter-values.ts";

export const blockSlots = 1_024;
/** Up to so many values of a dictionary are tried once each. */
const valuesTriedMax = 65_536;

/** Writes 1 for each slot of the list that passes, else 0. */
type Test = (slots: Uint32Array, count: number, out: Uint8Array) => void;
/** Writes a number for each slot. */
type Fill = (slots: Uint32Array, count: number, out: Float64Array) => void;

const numberScratch: Float64Array[] = [];
const byteScratch: Uint8Array[] = [];
const numbersAt = (depth: number): Float64Array => (numberScratch[depth] ??= new Float64Array(blockSlots));
const bytesAt = (depth: number): Uint8Array => (byteScratch[depth] ??= new Uint8Array(blockSlots));

export interface FilterPlan {
  /** Writes 1 to `out` for each of the first `count` (at most blockSlots) slots that passes, else 0. */
  run(slots: Uint32Array, count: number, out: Uint8Array): void;
}

/** `columns`: of the filter's fields, by number. */
export function planFilter(filter: Filter, columns: readonly AttributeColumn[]): FilterPlan {
  const test = new Planner(columns).test(filter.root, 0);
  return {
    run(slots, count, out) {
      test(slots, count, out);
      for (const column of columns) dropMissing(column, slots, count, out);
    },
  };
}

function dropMissing(column: AttributeColumn, slots: Uint32Array, count: number, out: Uint8Array): void {
  const { numbers, words, codes } = column;
  if (column.kind === "codes") {
    for (let i = 0; i < count; i++) if (codes[slots[i]!] === 0) out[i] = 0;
  } else if (column.others === 0) {
    for (let i = 0; i < count; i++) {
      const number = numbers[slots[i]!]!;
      if (number !== number) out[i] = 0;
    }
  } else {
    for (let i = 0; i < count; i++) {
      const slot = slots[i]!;
      const number = numbers[slot]!;
      if (number !== number && words[2 * slot] === 0) out[i] = 0;
    }
  }
}

/** The only field of a part, -1 for none, -2 for several. */
function onlyField(node: FilterNode): number {
  switch (node.kind) {
    case "constant":
      return -1;
    case "field":
      return node.field;
    case "not":
      return onlyField(node.of);
    case "binary": {
      const left = onlyField(node.left);
      const right = onlyField(node.right);
      return left === right || right === -1 ? left : left === -1 ? right : -2;
    }
  }
}

const arithmetic: Readonly<Partial<Record<string, true>>> = { "+": true, "-": true, "*": true, "/": true, "%": true, "**": true };
const flipped: Readonly<Record<OrderOperator, OrderOperator>> = { "<": ">", "<=": ">=", ">": "<", ">=": "<=" };

class Planner {
  readonly #columns: readonly AttributeColumn[];

  constructor(columns: readonly AttributeColumn[]) {
    this.#columns = columns;
  }

  test(node: FilterNode, depth: number): Test {
    return (
      this.#byCode(node) ??
      this.#oncePerValue(node) ??
      this.#logic(node, depth) ??
      this.#comparison(node, depth) ??
      this.#truth(node, depth) ??
      this.#plain(node)
    );
  }

  // ---- 1. texts by code ----

  #byCode(node: FilterNode): Test | undefined {
    if (node.kind !== "binary" || (node.operator !== "==" && node.operator !== "!=" && node.operator !== "in")) return undefined;
    const field = node.left.kind === "field" ? node.left : node.operator !== "in" && node.right.kind === "field" ? node.right : undefined;
    const other = field === node.left ? node.right : node.left;
    if (field === undefined || other.kind !== "constant") return undefined;
    const column = this.#columns[field.field]!;
    if (column.kind !== "codes" || !column.dictionary.onlyTexts) return undefined;
    const wanted = typeof other.value === "object" && node.operator === "in" ? other.value : node.operator === "in" ? undefined : [other.value];
    if (wanted === undefined || wanted === null || !wanted.every((value) => typeof value === "string")) return undefined;
    const codes = wanted.map((value) => column.dictionary.find(value)).filter((code) => code !== 0);
    return codeTest(column.codes, codes, node.operator !== "!=");
  }

  // ---- 2. once a value ----

  #oncePerValue(node: FilterNode): Test | undefined {
    const field = onlyField(node);
    const column = this.#columns[field];
    if (column?.kind !== "codes" || column.dictionary.size > valuesTriedMax) return undefined;
    const { dictionary, codes } = column;
    /** 0: not tried. */
    const answers = new Uint8Array(dictionary.size + 1);
    const values: FilterValue[] = [];
    answers[0] = 1;
    return (slots, count, out) => {
      for (let i = 0; i < count; i++) {
        const code = codes[slots[i]!]!;
        let answer = answers[code]!;
        if (answer === 0) {
          values[field] = dictionary.valueOf(code);
          answers[code] = answer = isTrue(evaluate(node, values)) ? 2 : 1;
        }
        out[i] = answer >> 1;
      }
    };
  }

  // ---- and, or, not ----

  #logic(node: FilterNode, depth: number): Test | undefined {
    if (node.kind === "not") {
      const of = this.test(node.of, depth);
      return (slots, count, out) => {
        of(slots, count, out);
        for (let i = 0; i < count; i++) out[i] = out[i]! ^ 1;
      };
    }
    if (node.kind !== "binary" || (node.operator !== "and" && node.operator !== "or")) return undefined;
    const left = this.test(node.left, depth);
    const right = this.test(node.right, depth + 1);
    const room = bytesAt(depth);
    return node.operator === "and"
      ? (slots, count, out) => {
          left(slots, count, out);
          right(slots, count, room);
          for (let i = 0; i < count; i++) out[i] = out[i]! & room[i]!;
        }
      : (slots, count, out) => {
          left(slots, count, out);
          right(slots, count, room);
          for (let i = 0; i < count; i++) out[i] = out[i]! | room[i]!;
        };
  }

  // ---- 3. numbers ----

  /** Its value is a number whatever the slot: comparisons of two such are comparisons of numbers. */
  #isNumber(node: FilterNode): boolean {
    if (node.kind === "constant") return typeof node.value === "number";
    return node.kind !== "field" || this.#columns[node.field]!.onlyNumbers;
  }

  #comparison(node: FilterNode, depth: number): Test | undefined {
    if (node.kind !== "binary") return undefined;
    const { left, right, operator } = node;
    switch (operator) {
      case "<":
      case "<=":
      case ">":
      case ">=":
        return this.#ordered(operator, left, right, depth);
      case "==":
      case "!=": {
        const constant = left.kind === "constant" ? left : right.kind === "constant" ? right : undefined;
        const other = constant === left ? right : left;
        if (!this.#isNumber(other)) return undefined;
        const wanted = operator === "==" ? 1 : 0;
        const fill = this.#fill(other, depth);
        const room = numbersAt(depth);
        if (constant !== undefined) {
          // A number equals no null, and everything else as a number.
          const value = constant.value === null ? Number.NaN : numberOf(constant.value);
          return (
            fill &&
            ((slots, count, out) => {
              fill(slots, count, room);
              for (let i = 0; i < count; i++) out[i] = room[i] === value ? wanted : wanted ^ 1;
            })
          );
        }
        if (!this.#isNumber(right)) return undefined;
        const second = this.#fill(right, depth + 1);
        const more = numbersAt(depth + 1);
        return (
          fill &&
          second &&
          ((slots, count, out) => {
            fill(slots, count, room);
            second(slots, count, more);
            for (let i = 0; i < count; i++) out[i] = room[i] === more[i] ? wanted : wanted ^ 1;
          })
        );
      }
      case "in": {
        if (!this.#isNumber(left) || right.kind !== "constant") return undefined;
        const list = right.value;
        const values = typeof list === "object" && list !== null ? list.filter((one) => one !== null).map(numberOf) : [];
        const fill = this.#fill(left, depth);
        const room = numbersAt(depth);
        return (
          fill &&
          ((slots, count, out) => {
            fill(slots, count, room);
            for (let i = 0; i < count; i++) {
              const number = room[i]!;
              let found = 0;
              for (let j = 0; j < values.length; j++) if (values[j] === number) found = 1;
              out[i] = found;
            }
          })
        );
      }
      default:
        return undefined;
    }
  }

  #ordered(operator: OrderOperator, left: FilterNode, right: FilterNode, depth: number): Test | undefined {
    if (left.kind === "constant" && right.kind !== "constant") return this.#ordered(flipped[operator], right, left, depth);
    const fill = this.#fill(left, depth);
    if (fill === undefined) return undefined;
    const room = numbersAt(depth);
    if (right.kind === "constant") {
      const value = numberOf(right.value);
      if (left.kind === "field" && this.#columns[left.field]!.onlyNumbers) return columnTest(operator, this.#columns[left.field]!.numbers, value);
      return orderTest(operator, fill, room, (_slots, count, out) => void out.fill(value, 0, count), numbersAt(depth + 1));
    }
    const second = this.#fill(right, depth + 1);
    return second && orderTest(operator, fill, room, second, numbersAt(depth + 1));
  }

  /** A number or arithmetic where a truth is asked for. */
  #truth(node: FilterNode, depth: number): Test | undefined {
    if (node.kind === "constant") {
      const value = isTrue(node.value) ? 1 : 0;
      return (_slots, count, out) => void out.fill(value, 0, count);
    }
    // Comparisons that came this far are known to no loop: their number is what `plain` finds.
    const isArithmetic = node.kind === "binary" && node.operator in arithmetic;
    if (!isArithmetic && !(node.kind === "field" && this.#isNumber(node))) return undefined;
    const fill = this.#fill(node, depth);
    const room = numbersAt(depth);
    return (
      fill &&
      ((slots, count, out) => {
        fill(slots, count, room);
        for (let i = 0; i < count; i++) out[i] = room[i] === 0 ? 0 : 1;
      })
    );
  }

  /** The number that a part counts as; undefined when that is not known by loops. */
  #fill(node: FilterNode, depth: number): Fill | undefined {
    switch (node.kind) {
      case "constant": {
        const value = numberOf(node.value);
        return (_slots, count, out) => void out.fill(value, 0, count);
      }
      case "field":
        return fieldFill(this.#columns[node.field]!);
      case "not":
        return this.#bytesFill(node, depth);
      case "binary": {
        switch (node.operator) {
          case "+":
          case "-":
          case "*":
          case "/":
          case "%":
          case "**": {
            const left = this.#fill(node.left, depth);
            const right = this.#fill(node.right, depth + 1);
            return left && right && arithmeticFill(node.operator, left, right, numbersAt(depth + 1));
          }
          default:
            return this.#bytesFill(node, depth);
        }
      }
    }
  }

  #bytesFill(node: FilterNode, depth: number): Fill {
    // One deeper: the test's own rooms must not be the room that takes its result.
    const test = this.test(node, depth + 1);
    const room = bytesAt(depth);
    return (slots, count, out) => {
      test(slots, count, room);
      for (let i = 0; i < count; i++) out[i] = room[i]!;
    };
  }

  // ---- 4. value by value ----

  #plain(node: FilterNode): Test {
    const columns = this.#columns;
    const values: FilterValue[] = columns.map(() => 0);
    return (slots, count, out) => {
      for (let i = 0; i < count; i++) {
        let whole = true;
        for (let field = 0; field < columns.length; field++) {
          const value = columns[field]!.valueAt(slots[i]!);
          if (value === undefined) whole = false;
          else values[field] = value;
        }
        out[i] = whole && isTrue(evaluate(node, values)) ? 1 : 0;
      }
    };
  }
}

function codeTest(codes: Uint32Array, wanted: readonly number[], is: boolean): Test {
  const hit = is ? 1 : 0;
  if (wanted.length <= 1) {
    const code = wanted[0] ?? 0;
    if (code === 0) return (_slots, count, out) => void out.fill(hit ^ 1, 0, count);
    return (slots, count, out) => {
      for (let i = 0; i < count; i++) out[i] = codes[slots[i]!] === code ? hit : hit ^ 1;
    };
  }
  const set = new Set(wanted);
  return (slots, count, out) => {
    for (let i = 0; i < count; i++) out[i] = set.has(codes[slots[i]!]!) ? hit : hit ^ 1;
  };
}

function columnTest(operator: OrderOperator, numbers: Float64Array, value: number): Test {
  switch (operator) {
    case "<":
      return (slots, count, out) => {
        for (let i = 0; i < count; i++) out[i] = numbers[slots[i]!]! < value ? 1 : 0;
      };
    case "<=":
      return (slots, count, out) => {
        for (let i = 0; i < count; i++) out[i] = numbers[slots[i]!]! <= value ? 1 : 0;
      };
    case ">":
      return (slots, count, out) => {
        for (let i = 0; i < count; i++) out[i] = numbers[slots[i]!]! > value ? 1 : 0;
      };
    case ">=":
      return (slots, count, out) => {
        for (let i = 0; i < count; i++) out[i] = numbers[slots[i]!]! >= value ? 1 : 0;
      };
  }
}

function orderTest(operator: OrderOperator, left: Fill, a: Float64Array, right: Fill, b: Float64Array): Test {
  const compare = (count: number, out: Uint8Array): void => {
    switch (operator) {
      case "<":
        for (let i = 0; i < count; i++) out[i] = a[i]! < b[i]! ? 1 : 0;
        return;
      case "<=":
        for (let i = 0; i < count; i++) out[i] = a[i]! <= b[i]! ? 1 : 0;
        return;
      case ">":
        for (let i = 0; i < count; i++) out[i] = a[i]! > b[i]! ? 1 : 0;
        return;
      case ">=":
        for (let i = 0; i < count; i++) out[i] = a[i]! >= b[i]! ? 1 : 0;
        return;
    }
  };
  return (slots, count, out) => {
    left(slots, count, a);
    right(slots, count, b);
    compare(count, out);
  };
}

function arithmeticFill(operator: ArithmeticOperator, left: Fill, right: Fill, room: Float64Array): Fill {
  return (slots, count, out) => {
    left(slots, count, out);
    right(slots, count, room);
    for (let i = 0; i < count; i++) out[i] = calculate(operator, out[i]!, room[i]!);
  };
}

function fieldFill(column: AttributeColumn): Fill | undefined {
  const { numbers, words, codes, dictionary } = column;
  if (column.onlyNumbers) {
    return (slots, count, out) => {
      for (let i = 0; i < count; i++) out[i] = numbers[slots[i]!]!;
    };
  }
  if (dictionary.size > valuesTriedMax) return undefined;
  const byCode = dictionary.numbers();
  if (column.kind === "codes") {
    return (slots, count, out) => {
      for (let i = 0; i < count; i++) out[i] = byCode[codes[slots[i]!]!]!;
    };
  }
  return (slots, count, out) => {
    for (let i = 0; i < count; i++) {
      const slot = slots[i]!;
      const number = numbers[slot]!;
      out[i] = number === number ? number : byCode[words[2 * slot]!]!;
    }
  };
}
