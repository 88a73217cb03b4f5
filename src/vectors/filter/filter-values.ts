// What the operators of a filter mean, for single values: the truth that evaluation over columns is held to.
//
// A value is a number (booleans are 1 and 0), a text, null, or a list of values. The rules are those of the FILTER option of Redis' VSIM:
// - arithmetic and < <= > >= take numbers: a text counts as the number that it spells as a whole (as C's strtod reads it), else as 0; null and lists count as 0
// - == and != compare texts as texts; null only equals null; everything else as numbers, so "5" == 5 and [1] == 0
// - `x in list` is == with any of the list; `text in text` is "part of"; any other `in` is false
// - true is every number but 0, every text but "", every list; null is false
// Every result of an operator is a number; a comparison gives 1 or 0. Nothing throws.

export type FilterValue = number | string | null | readonly FilterValue[];

/** Longer texts count as 0. */
const numberTextMax = 255;
const decimal = /^[ \t\n\v\f\r]*[+-]?(?:\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)$/;
const word = /^[ \t\n\v\f\r]*([+-]?)(inf(?:inity)?|nan(?:\(\w*\))?|0x[\da-f]+)$/i;

function numberOfText(text: string): number {
  // The usual word begins with a letter that no number begins with.
  if (text.length > numberTextMax || text.length === 0) return 0;
  if (decimal.test(text)) return Number(text);
  const parts = word.exec(text);
  if (parts === null) return 0;
  const [, sign, rest = ""] = parts;
  const size = /^n/i.test(rest) ? Number.NaN : /^i/i.test(rest) ? Infinity : Number(rest);
  return sign === "-" ? -size : size;
}

export function numberOf(value: FilterValue): number {
  if (typeof value === "number") return value;
  return typeof value === "string" ? numberOfText(value) : 0;
}

export function isTrue(value: FilterValue): boolean {
  if (typeof value === "number") return value !== 0;
  return value !== null && value !== "";
}

export function areEqual(a: FilterValue, b: FilterValue): boolean {
  if (typeof a === "number" && typeof b === "number") return a === b;
  if (typeof a === "string" && typeof b === "string") return a === b;
  if (a === null || b === null) return a === b;
  return numberOf(a) === numberOf(b);
}

export function isIn(a: FilterValue, b: FilterValue): boolean {
  if (typeof b === "string") return typeof a === "string" && b.includes(a);
  if (typeof b === "number" || b === null) return false;
  return b.some((one) => areEqual(a, one));
}

/** C's pow, which knows two results that JavaScript has as NaN. */
function power(base: number, exponent: number): number {
  if (base === 1 || (base === -1 && Math.abs(exponent) === Infinity)) return 1;
  return base ** exponent;
}

export type ArithmeticOperator = "+" | "-" | "*" | "/" | "%" | "**";
export type OrderOperator = "<" | "<=" | ">" | ">=";
export type EqualityOperator = "==" | "!=";
export type BinaryOperator = ArithmeticOperator | OrderOperator | EqualityOperator | "in" | "and" | "or";

export function calculate(operator: ArithmeticOperator, a: number, b: number): number {
  switch (operator) {
    case "+":
      return a + b;
    case "-":
      return a - b;
    case "*":
      return a * b;
    case "/":
      return a / b;
    case "%":
      return a % b;
    case "**":
      return power(a, b);
  }
}

export function isInOrder(operator: OrderOperator, a: number, b: number): boolean {
  switch (operator) {
    case "<":
      return a < b;
    case "<=":
      return a <= b;
    case ">":
      return a > b;
    case ">=":
      return a >= b;
  }
}

export function applyOperator(operator: BinaryOperator, a: FilterValue, b: FilterValue): number {
  switch (operator) {
    case "and":
      return isTrue(a) && isTrue(b) ? 1 : 0;
    case "or":
      return isTrue(a) || isTrue(b) ? 1 : 0;
    case "==":
      return areEqual(a, b) ? 1 : 0;
    case "!=":
      return areEqual(a, b) ? 0 : 1;
    case "in":
      return isIn(a, b) ? 1 : 0;
    case "<":
    case "<=":
    case ">":
    case ">=":
      return isInOrder(operator, numberOf(a), numberOf(b)) ? 1 : 0;
    default:
      return calculate(operator, numberOf(a), numberOf(b));
  }
}

/** The value of a field as filters see it; undefined where it holds, at any depth of a list, an object. */
export function valueOfJson(json: unknown): FilterValue | undefined {
  if (typeof json === "number" || typeof json === "string" || json === null) return json;
  if (typeof json === "boolean") return json ? 1 : 0;
  if (!Array.isArray(json)) return undefined;
  const list: FilterValue[] = [];
  for (const one of json) {
    const value = valueOfJson(one);
    if (value === undefined) return undefined;
    list.push(value);
  }
  return list;
}

/** The fields of an element's attributes, or undefined for what is no JSON object. */
export function fieldsOfText(text: string): ReadonlyMap<string, FilterValue> | undefined {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch {
    return undefined;
  }
  if (typeof json !== "object" || json === null || Array.isArray(json)) return undefined;
  const fields = new Map<string, FilterValue>();
  for (const [name, one] of Object.entries(json)) {
    const value = valueOfJson(one);
    if (value !== undefined) fields.set(name, value);
  }
  return fields;
}
