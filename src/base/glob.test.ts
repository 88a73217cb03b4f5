// Glob patterns over bytes: a table of Redis' meanings and a random comparison with the definition written as recursion.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Prng } from "./prng.ts";
import { globMatches, literalPrefix, matchesAll } from "./glob.ts";

const bytes = (text: string): Uint8Array => Uint8Array.from(text, (letter) => letter.charCodeAt(0));
const seed = Number(process.env["SEED"] ?? process.env["FRESH_SEED"] ?? Date.now() % 1_000_000);

test("what Redis' patterns mean", () => {
  const cases: [pattern: string, text: string, matches: boolean][] = [
    ["a*", "a", true],
    ["*b*c", "abcbc", true],
    ["a?c", "ac", false],
    ["[a-c]x", "bx", true],
    ["[c-a]x", "bx", true],
    ["[^a]x", "bx", true],
    ["[^a]x", "ax", false],
    ["[]x", "x", false],
    ["[ab", "b", true],
    ["[\\]]", "]", true],
    ["\\*", "*", true],
    ["\\*", "a", false],
    ["a\\", "a\\", true],
    ["\xff*", "\xff\x00", true],
    // Redis asks for the pattern `*` alone before it matches, and matches nothing empty.
    ["*", "", false],
    ["", "", true],
  ];
  for (const [pattern, text, matches] of cases) assert.equal(globMatches(bytes(pattern), bytes(text)), matches, `${pattern} on ${text}`);
  assert.ok(matchesAll(bytes("*")) && !matchesAll(bytes("**")));
  assert.deepEqual(literalPrefix(bytes("user:[1]*")), bytes("user:"));
});

/** The definition: without classes, which the table and the comparison with redis-server cover. */
function matches(pattern: string, text: string): boolean {
  if (pattern === "") return text === "";
  if (pattern[0] === "*") return matches(pattern.slice(1), text) || (text !== "" && matches(pattern, text.slice(1)));
  return text !== "" && (pattern[0] === "?" || pattern[0] === text[0]) && matches(pattern.slice(1), text.slice(1));
}

test(`random patterns match as defined (SEED=${seed})`, () => {
  const random = new Prng(seed);
  const draw = (letters: string, most: number, least: number): string =>
    Array.from({ length: random.between(least, most) }, () => letters[random.below(letters.length)]!).join("");
  for (let i = 0; i < 20_000; i++) {
    const pattern = draw("ab*?", 7, 0);
    const text = draw("ab", 8, 1);
    assert.equal(globMatches(bytes(pattern), bytes(text)), matches(pattern, text), `${pattern} on ${text}`);
  }
});

test("a pattern of many stars ends soon", () => {
  // Recursion over each star would take longer than anybody waits.
  assert.equal(globMatches(bytes(`${"a*".repeat(60)}b`), bytes("a".repeat(4_000))), false);
});
