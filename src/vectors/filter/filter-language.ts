// Reads a filter: text to tree. The language is that of the FILTER option of Redis' VSIM, so filters written for it mean the same here.
//
//   operators, the tightest first:  ! not | ** (from the right) | * / % | + - | < <= > >= == != in | and && | or ||
//   values: numbers (a minus belongs to the number at the start and behind an operator or an opening parenthesis), texts in '...' or "...", null,
//           lists [1, "a"] of those, fields .name (letters, digits, _ and -, so `.a-1` is the field "a-1")
//   Kept with it: `not .a == 1` is `(not .a) == 1`; `1 < 2 < 3` is `(1 < 2) < 3`; a word operator needs no space around it (`1and2`).
// Said more generously: `not not x`, true and false (1 and 0), 1e-5, \" \' \\ \n \r \t in a text (Redis keeps the backslash and so finds nothing). Refused where Redis takes it: operators
// behind their operands (`1 2 +`), which its parser lets through.
// Limits: filterLimits; a filter beyond them is `invalid`, as is one that cannot be read, with the place of the first thing wrong and what to write.

import { MillraceError } from "#base/errors";
import type { BinaryOperator, FilterValue } from "./filter-values.ts";

export const filterLimits = {
  /** UTF-16 units of an expression. */
  textMax: 4_096,
  /** Nested parentheses and operators. */
  depthMax: 64,
  /** Values and operators together. */
  nodesMax: 1_024,
  /** Different fields of one filter. */
  fieldsMax: 32,
} as const;

export type FilterNode =
  | { readonly kind: "constant"; readonly value: FilterValue }
  /** `field`: its number in the list of fields. */
  | { readonly kind: "field"; readonly field: number }
  | { readonly kind: "not"; readonly of: FilterNode }
  | { readonly kind: "binary"; readonly operator: BinaryOperator; readonly left: FilterNode; readonly right: FilterNode };

export interface ParsedFilter {
  readonly root: FilterNode;
  /** Names of the fields, each once, in order of their first use. */
  readonly fields: readonly string[];
}

const levelOf: Readonly<Record<BinaryOperator, number>> = {
  or: 0,
  and: 1,
  "<": 2,
  "<=": 2,
  ">": 2,
  ">=": 2,
  "==": 2,
  "!=": 2,
  in: 2,
  "+": 3,
  "-": 3,
  "*": 4,
  "/": 4,
  "%": 4,
  "**": 5,
};
/** Longest first. */
const signs: readonly (readonly [string, BinaryOperator])[] = [
  ["and", "and"],
  ["**", "**"],
  ["<=", "<="],
  [">=", ">="],
  ["==", "=="],
  ["!=", "!="],
  ["&&", "and"],
  ["||", "or"],
  ["or", "or"],
  ["in", "in"],
  ["*", "*"],
  ["/", "/"],
  ["%", "%"],
  ["+", "+"],
  ["-", "-"],
  ["<", "<"],
  [">", ">"],
];
const spaces = /[ \t\n\v\f\r]*/y;
const numberText = /-?\d+\.?\d*(?:[eE][+-]?\d+)?/y;
const fieldText = /\.([A-Za-z0-9_-]+)/y;
const escapes: Readonly<Record<string, string>> = { n: "\n", r: "\r", t: "\t" };

class FilterReader {
  readonly #text: string;
  readonly #fields: string[] = [];
  #at = 0;
  #nodes = 0;

  constructor(text: string) {
    this.#text = text;
  }

  read(): ParsedFilter {
    const root = this.#expression(0, 0);
    this.#skip();
    if (this.#at < this.#text.length) {
      if (this.#text[this.#at] === ")") throw this.#wrong("a ) without its (", "take it away, or open it before");
      throw this.#wrong("an operator was expected", "join values by one of + - * / % ** == != > < >= <= in and or");
    }
    return { root, fields: this.#fields };
  }

  /** Operators of `level` and tighter. */
  #expression(level: number, depth: number): FilterNode {
    let left = this.#operand(depth);
    for (;;) {
      const sign = this.#peekOperator();
      if (sign === undefined) return left;
      const [written, operator] = sign;
      const own = levelOf[operator];
      if (own < level) return left;
      this.#at += written.length;
      const right = this.#expression(operator === "**" ? own : own + 1, depth + 1);
      left = this.#node({ kind: "binary", operator, left, right });
    }
  }

  #operand(depth: number): FilterNode {
    if (depth > filterLimits.depthMax) throw this.#wrong(`nested deeper than ${filterLimits.depthMax}`, "split the filter, or use `in` with a list");
    this.#skip();
    const text = this.#text;
    const first = text[this.#at];
    if (first === "!" || text.startsWith("not", this.#at)) {
      this.#at += first === "!" ? 1 : 3;
      return this.#node({ kind: "not", of: this.#operand(depth + 1) });
    }
    if (first === "(") {
      const from = this.#at++;
      const inner = this.#expression(0, depth + 1);
      this.#skip();
      if (text[this.#at] !== ")") throw this.#wrong(`the ( at ${from + 1} is not closed here`, "write a ) or an operator");
      this.#at++;
      return inner;
    }
    if (first === ".") {
      const name = this.#match(fieldText)?.[1];
      if (name === undefined) throw this.#wrong("a field without a name", "write . and letters, digits, _ or -");
      let field = this.#fields.indexOf(name);
      if (field < 0) {
        field = this.#fields.push(name) - 1;
        if (field >= filterLimits.fieldsMax) throw this.#wrong(`more than ${filterLimits.fieldsMax} fields`, "filter by fewer");
      }
      return this.#node({ kind: "field", field });
    }
    if (first === "[") return this.#node({ kind: "constant", value: this.#list() });
    const value = this.#scalar();
    if (value !== undefined) return this.#node({ kind: "constant", value });
    if (first === undefined) throw this.#wrong("the end where a value was expected", "write a number, a text, a list or a .field");
    if (first === "-") throw this.#wrong("a minus before what is no number", "write 0 - x");
    throw this.#wrong("no value", "write a number, a text in quotes, a list in [ ] or a .field");
  }

  #list(): readonly FilterValue[] {
    const from = this.#at++;
    const list: FilterValue[] = [];
    for (;;) {
      this.#skip();
      if (this.#text[this.#at] === "]") break;
      const value = this.#scalar();
      if (value === undefined) throw this.#wrong("no value of a list", "a list holds numbers and texts, with commas between");
      list.push(value);
      if (++this.#nodes > filterLimits.nodesMax) throw this.#tooLong();
      this.#skip();
      if (this.#text[this.#at] === ",") this.#at++;
      else if (this.#text[this.#at] !== "]") throw this.#wrong(`the [ at ${from + 1} is not closed here`, "write a , or a ]");
    }
    this.#at++;
    return list;
  }

  /** A number, a text, null, true or false; undefined when there is none here. */
  #scalar(): number | string | null | undefined {
    const first = this.#text[this.#at];
    if (first === '"' || first === "'") return this.#quoted(first);
    const number = this.#match(numberText)?.[0];
    if (number !== undefined) return Number(number);
    for (const [written, value] of [
      ["null", null],
      ["true", 1],
      ["false", 0],
    ] as const) {
      if (!this.#text.startsWith(written, this.#at)) continue;
      this.#at += written.length;
      return value;
    }
    return undefined;
  }

  #quoted(quote: string): string {
    const from = this.#at++;
    let value = "";
    for (;;) {
      const one = this.#text[this.#at];
      if (one === undefined) {
        this.#at = from;
        throw this.#wrong("a text without its end", `write ${quote} behind it`);
      }
      this.#at++;
      if (one === quote) return value;
      const escaped = one === "\\" ? this.#text[this.#at] : undefined;
      if (escaped === undefined) {
        value += one;
        continue;
      }
      this.#at++;
      value += escapes[escaped] ?? escaped;
    }
  }

  #peekOperator(): readonly [string, BinaryOperator] | undefined {
    this.#skip();
    return signs.find(([written]) => this.#text.startsWith(written, this.#at));
  }

  #match(pattern: RegExp): RegExpExecArray | null {
    pattern.lastIndex = this.#at;
    const found = pattern.exec(this.#text);
    if (found !== null) this.#at = pattern.lastIndex;
    return found;
  }

  #skip(): void {
    this.#match(spaces);
  }

  #node(node: FilterNode): FilterNode {
    if (++this.#nodes > filterLimits.nodesMax) throw this.#tooLong();
    return node;
  }

  #tooLong(): MillraceError {
    return this.#wrong(`more than ${filterLimits.nodesMax} values and operators`, "write a shorter filter");
  }

  #wrong(what: string, todo: string): MillraceError {
    return new MillraceError("invalid", `filter, character ${this.#at + 1} of ${this.#text.length}: ${what}`, { todo });
  }
}

/** Throws `invalid` with the place. */
export function parseFilter(text: string): ParsedFilter {
  if (text.length > filterLimits.textMax) {
    throw new MillraceError("invalid", `a filter of ${text.length} characters`, { todo: `write at most ${filterLimits.textMax}` });
  }
  return new FilterReader(text).read();
}
