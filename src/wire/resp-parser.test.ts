// Guards that the parser's result does not depend on how the stream was cut, and that no bytes make it fail.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Prng } from "#base/prng";
import { type ParseLimits, RespParser } from "./resp-parser.ts";

const open: ParseLimits = { bulkBytesMax: 536_870_912, unauthenticated: false };

/** Feeds pieces as a connection does: what is no whole command is kept, and the parser goes on where it stopped. */
function parseAll(pieces: readonly Uint8Array[], commandsMax = 4_096): { commands: string[][]; fault: string | undefined } {
  const parser = new RespParser();
  const commands: string[][] = [];
  let kept = new Uint8Array(0);
  parser.restart(0);
  for (const piece of pieces) {
    const buffer = new Uint8Array(kept.length + piece.length);
    buffer.set(kept);
    buffer.set(piece, kept.length);
    for (;;) {
      parser.parse(buffer, buffer.length, commandsMax, open);
      for (let k = 0; k < parser.commands; k++) {
        const args: string[] = [];
        for (let a = parser.firstArg[k]!; a < parser.firstArg[k + 1]!; a++)
          args.push(Buffer.from(buffer.subarray(parser.starts[a], parser.ends[a])).toString("latin1"));
        commands.push(args);
      }
      if (parser.fault !== undefined) return { commands, fault: parser.fault };
      if (parser.commands === 0) break;
      parser.rebase(0);
    }
    kept = buffer.slice(parser.begin);
    parser.rebase(parser.begin);
  }
  return { commands, fault: undefined };
}

const stream = Buffer.from(
  `*3\r\n$3\r\nSET\r\n$1\r\na\r\n$12\r\nhello\r\nworld\r\n*0\r\n*2\r\n$3\r\nGET\r\n$0\r\n\r\nping "x\\x41 \\"y" 'it\\'s'\r\n\r\n   \r\n*1\r\n$100\r\n${"z".repeat(100)}\r\nget  plain\n*-1\r\n*2\r\n$4\r\nLAST\r\n$1\r\n1\r\n`,
);
const expected = [["SET", "a", "hello\r\nworld"], ["GET", ""], ["ping", 'xA "y', "it's"], ["z".repeat(100)], ["get", "plain"], ["LAST", "1"]];

test("promise: a stream cut anywhere, or into single bytes, gives the same commands", () => {
  assert.deepEqual(parseAll([stream]), { commands: expected, fault: undefined });
  assert.deepEqual(parseAll([stream], 1), { commands: expected, fault: undefined });
  assert.deepEqual(parseAll(Array.from(stream, (byte) => Uint8Array.of(byte))), { commands: expected, fault: undefined });
  for (let i = 0; i <= stream.length; i++) assert.deepEqual(parseAll([stream.subarray(0, i), stream.subarray(i)]).commands, expected, `cut at ${i}`);
});

test("a command of many arguments over many chunks is parsed once", () => {
  const count = 20_000;
  const bytes = Buffer.from(`*${count}\r\n${"$3\r\nabc\r\n".repeat(count)}`);
  const pieces: Uint8Array[] = [];
  for (let at = 0; at < bytes.length; at += 997) pieces.push(bytes.subarray(at, at + 997));
  const { commands } = parseAll(pieces);
  assert.equal(commands.length, 1);
  assert.equal(commands[0]!.length, count);
});

test("fuzz: mutated streams give the same whole and cut in pieces, and never throw", () => {
  const seed = process.env["SEED"] ?? String(Date.now());
  console.log(`SEED=${seed}`);
  const random = new Prng(seed);
  for (let round = 0; round < 2_000; round++) {
    const bytes = Buffer.from(stream);
    for (let m = 1 + random.below(5); m > 0; m--)
      bytes[random.below(bytes.length)] = random.chance(0.5) ? random.below(256) : "*$\r\n0123456789-\"' "[random.below(18)]!.charCodeAt(0);
    const pieces: Uint8Array[] = [];
    for (let at = 0; at < bytes.length;) {
      const size = 1 + random.below(60);
      pieces.push(bytes.subarray(at, at + size));
      at += size;
    }
    assert.deepEqual(parseAll(pieces), parseAll([bytes]), `round ${round}`);
  }
});
