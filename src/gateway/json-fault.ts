// Where and why a text is not JSON. Used only after JSON.parse has refused it, to say the place to the caller.
// Why: V8's message names no position for some faults, and quotes the text (which may be a user's data).
// Invariants: 1. no recursion: depth cannot overflow the stack  2. linear in the text.
// The grammar is RFC 8259.

export interface JsonFault {
  /** What stands where something else was expected, without quoting it. */
  readonly expected: string;
  /** Both from 1; the column counts UTF-16 units. */
  readonly line: number;
  readonly column: number;
}

const number = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
const space = /[ \t\r\n]*/y;
// eslint-disable-next-line no-control-regex -- JSON forbids them inside strings
const stringPart = /(?:[^"\\\u0000-\u001f]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*/y;

class Fault extends Error {
  readonly at: number;
  readonly expected: string;

  constructor(at: number, expected: string) {
    super(expected);
    this.at = at;
    this.expected = expected;
  }
}

/** The first fault of `text`. For a text that is JSON: its end. */
export function jsonFaultOf(text: string): JsonFault {
  let at = text.length;
  let expected = "nothing is wrong";
  try {
    walk(text);
  } catch (thrown) {
    if (!(thrown instanceof Fault)) throw thrown;
    at = thrown.at;
    expected = thrown.expected;
  }
  const before = text.lastIndexOf("\n", at - 1);
  let line = 1;
  for (let from = text.indexOf("\n"); from !== -1 && from < at; from = text.indexOf("\n", from + 1)) line += 1;
  return { expected, line, column: at - before };
}

function walk(text: string): void {
  let at = 0;
  const open: ("[" | "{")[] = [];
  const skip = (pattern: RegExp): number => {
    pattern.lastIndex = at;
    const length = pattern.exec(text)?.[0].length ?? 0;
    at += length;
    return length;
  };
  const string = (): void => {
    at += 1;
    skip(stringPart);
    if (at >= text.length) throw new Fault(at, "the text ends inside a string");
    if (text[at] === "\\") throw new Fault(at, "no valid escape");
    if (text[at] !== '"') throw new Fault(at, "a control character stands in a string");
    at += 1;
  };
  const key = (): void => {
    if (text[at] !== '"') throw new Fault(at, at >= text.length ? "the text ends where a key in double quotes should stand" : "no key in double quotes");
    string();
    skip(space);
    if (text[at] !== ":") throw new Fault(at, "no colon after a key");
    at += 1;
  };

  for (;;) {
    // A value begins here.
    skip(space);
    const first = text[at];
    if (first === undefined) throw new Fault(at, "the text ends where a value should stand");
    if (first === "{" || first === "[") {
      at += 1;
      skip(space);
      if (text[at] !== (first === "{" ? "}" : "]")) {
        open.push(first);
        if (first === "{") key();
        continue;
      }
      at += 1;
    } else if (first === '"') string();
    else if (text.startsWith("true", at) || text.startsWith("null", at)) at += 4;
    else if (text.startsWith("false", at)) at += 5;
    else if (skip(number) === 0) throw new Fault(at, "no value");
    // A value ended here: close what closes, then a comma leads to the next value.
    for (;;) {
      skip(space);
      const inside = open.at(-1);
      const next = text[at];
      if (inside === undefined) {
        if (next !== undefined) throw new Fault(at, "more text after the value");
        return;
      }
      if (next === (inside === "{" ? "}" : "]")) {
        at += 1;
        open.pop();
        continue;
      }
      if (next !== ",")
        throw new Fault(
          at,
          `${next === undefined ? "the text ends where" : "no"} comma or ${inside === "{" ? "closing brace" : "closing bracket"}${next === undefined ? " should stand" : ""}`,
        );
      at += 1;
      if (inside === "{") {
        skip(space);
        key();
      }
      break;
    }
  }
}
