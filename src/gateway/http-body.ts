// From the bytes of a body to a value: UTF-8, JSON or JSON lines, and the traps of JSON.
// Why not the framework's parser: it says only that the body is wrong; a caller wants the place. And it lets half characters and any depth through.
// Invariants of what comes out: 1. no object has an own key `__proto__`  2. nesting <= `nestingMax`, so that whoever walks the value cannot overflow the
// stack  3. all strings are well-formed Unicode, so that an id is the same in every encoding.
// Cost: JSON.parse + one walk over the value; measured in bench/http-cost.ts.

import { HttpRefusal } from "./http-errors.ts";
import { jsonFaultOf } from "./json-fault.ts";

/** Deepest nesting of a body; a predicate of the deepest allowed form needs less. */
export const nestingMax = 32;

const utf8 = new TextDecoder("utf-8", { fatal: true });

function textOf(bytes: Uint8Array): string {
  try {
    return utf8.decode(bytes);
  } catch {
    throw new HttpRefusal("invalid", "the body is not valid UTF-8", { todo: "encode it as UTF-8" });
  }
}

/** The value of a JSON body. Throws `invalid` with the place of the fault. */
export function readJson(bytes: Uint8Array): unknown {
  if (bytes.length === 0) throw new HttpRefusal("invalid", "the body is empty", { todo: "send JSON" });
  return parse(textOf(bytes), 1);
}

/** As readJson, but an integer beyond 2^53 comes out as a bigint instead of rounded. */
export function readExactJson(bytes: Uint8Array): unknown {
  if (bytes.length === 0) throw new HttpRefusal("invalid", "the body is empty", { todo: "send JSON" });
  const text = textOf(bytes);
  const value = parse(text, 1);
  // Most bodies have no such number, and a reviver costs ten times the parsing.
  if (!/\d{16}/.test(text)) return value;
  return (JSON.parse as ExactParse)(text, (_key, part, { source }) =>
    typeof part === "number" && !Number.isSafeInteger(part) && source !== undefined && /^-?\d{1,40}$/.test(source) ? BigInt(source) : part,
  );
}

/** JSON.parse with the source of each number: ECMAScript's JSON.parse source text access. */
type ExactParse = (text: string, reviver: (key: string, value: unknown, context: { readonly source?: string }) => unknown) => unknown;

/** JSON text in which a bigint is a bare number with all its digits. */
export function exactJson(value: unknown): string {
  return JSON.stringify(value, (_key, part: unknown) => (typeof part === "bigint" ? rawNumber(part) : part));
}

function rawNumber(value: bigint): unknown {
  return (JSON as unknown as { rawJSON(text: string): unknown }).rawJSON(value.toString());
}

/** The values of a body of JSON lines; empty lines are passed over. A broken line fails the request, its number is in the message. */
export function readJsonLines(bytes: Uint8Array): unknown[] {
  const lines = textOf(bytes).split("\n");
  const values: unknown[] = [];
  for (let at = 0; at < lines.length; at += 1) {
    const line = lines[at]!.trim();
    if (line !== "") values.push(parse(line, at + 1));
  }
  return values;
}

function parse(text: string, firstLine: number): unknown {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    const fault = jsonFaultOf(text);
    const place = `line ${firstLine + fault.line - 1}, column ${fault.column}`;
    throw new HttpRefusal("invalid", `the body is not JSON: ${fault.expected} at ${place}`, { todo: "correct it there" });
  }
  // Half a surrogate pair can only come from an escape: UTF-8 has none.
  guard(value, 1, text.includes("\\u"));
  return value;
}

function guard(value: unknown, depth: number, escapes: boolean): void {
  if (typeof value === "string") {
    if (escapes && !value.isWellFormed()) throw halfCharacter();
    return;
  }
  if (typeof value !== "object" || value === null) return;
  if (depth > nestingMax) throw new HttpRefusal("invalid", `the body is nested deeper than ${nestingMax}`, { todo: "flatten it" });
  if (Array.isArray(value)) {
    for (const part of value) if (typeof part === "object" || escapes) guard(part, depth + 1, escapes);
    return;
  }
  // JSON.parse makes plain objects, so for-in sees own keys only, `__proto__` among them.
  for (const key in value) {
    if (key === "__proto__") throw new HttpRefusal("invalid", "the body has a key `__proto__`", { todo: "rename that key" });
    const part = (value as Record<string, unknown>)[key];
    if (typeof part === "object" || escapes) guard(part, depth + 1, escapes);
    if (escapes && !key.isWellFormed()) throw halfCharacter();
  }
}

function halfCharacter(): HttpRefusal {
  return new HttpRefusal("invalid", "a string of the body holds half of a surrogate pair", { todo: "escape characters above U+FFFF as both halves" });
}
