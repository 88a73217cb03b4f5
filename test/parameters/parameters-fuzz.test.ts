// Guards the commands on parameters against whatever arrives: every command is answered, by a value or by an error with a code, nothing that was refused changes a row, and the rows are always
// those of a Map that does the same.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Prng } from "#base/prng";
import { MillraceError } from "#base/errors";
import { freshSeed } from "#platform/fresh-seed";
import { systemClock } from "#platform/system-clock";
import { systemNetwork } from "#platform/system-network";
import { readPullHead } from "#wire/parameter-api";
import { type RespArgument, RespClient } from "#wire/resp-client";
import { startWholeServer } from "../whole-server.ts";

const seed = freshSeed();
const dim = 3;
const rounds = 600;
const keysMax = 40;

test(`promise: random commands on parameters are answered, and rows are those of a Map (SEED=${seed})`, { timeout: 60_000 }, async (t) => {
  const prng = new Prng(seed);
  const server = await startWholeServer(t, { parameters: { tables: { user: { dim, memoryMb: 4, shards: 2 } } } });
  const client = await RespClient.connect({ network: systemNetwork, clock: systemClock, host: "127.0.0.1", port: server.respPort, timeoutMs: 20_000 });
  t.after(() => client.close());
  const model = new Map<number, number[]>();
  const bytesOf = (array: BigUint64Array | Float32Array): Uint8Array => new Uint8Array(array.buffer);
  const keysOf = (keys: readonly number[]): Uint8Array => bytesOf(BigUint64Array.from(keys, BigInt));
  const junk = (): RespArgument => {
    switch (prng.below(6)) {
      case 0:
        return prng.bytes(new Uint8Array(prng.below(64)));
      case 1:
        return "user";
      case 2:
        return ["FOUND", "INT8", "WORKER", "SEQ", "MODEL", "F16"][prng.below(6)]!;
      case 3:
        return prng.below(1_000);
      case 4:
        return keysOf([prng.below(keysMax)]);
      default:
        return new Uint8Array(4 * dim);
    }
  };
  const names = ["PPULL", "PADD", "PASSIGN", "PDELETE", "PINFO", "PTABLES"];
  let refused = 0;
  for (let round = 0; round < rounds; round++) {
    const keys = Array.from({ length: prng.below(12) }, () => prng.below(keysMax));
    const rows = Float32Array.from({ length: keys.length * dim }, () => prng.below(100));
    switch (prng.below(5)) {
      case 0: {
        // May do something by chance only to rows that the model follows when it is answered by a number: such a command is made on another table's name.
        const args = Array.from({ length: prng.below(7) }, junk);
        const name = names[prng.below(names.length)]!;
        const reads = name === "PPULL" || name === "PINFO" || name === "PTABLES";
        const given = reads || args.length === 0 ? args : ["nobody", ...args.slice(1)];
        await client.command(name, ...given).catch((thrown: unknown) => {
          assert.ok(thrown instanceof MillraceError && thrown.code !== "internal" && !thrown.message.includes("internal error"), String(thrown));
          refused++;
        });
        break;
      }
      case 1:
        assert.equal(await client.command("PADD", "user", keysOf(keys), bytesOf(rows)), keys.length);
        for (const [i, key] of keys.entries()) {
          const row = model.get(key) ?? new Array<number>(dim).fill(0);
          model.set(
            key,
            row.map((value, j) => value + rows[i * dim + j]!),
          );
        }
        break;
      case 2:
        assert.equal(await client.command("PASSIGN", "user", keysOf(keys), bytesOf(rows)), keys.length);
        for (const [i, key] of keys.entries()) model.set(key, [...rows.subarray(i * dim, (i + 1) * dim)]);
        break;
      case 3:
        assert.equal(await client.command("PDELETE", "user", keysOf(keys)), keys.filter((key) => model.delete(key)).length);
        break;
      default: {
        // A blob that is cut, or rows too few: nothing may change.
        const whole = prng.below(2) === 0;
        const cut = whole ? bytesOf(rows).slice(0, Math.max(0, rows.length * 4 - 1 - prng.below(8))) : bytesOf(rows);
        const part = whole ? keysOf(keys) : keysOf([...keys, 1]).slice(0, 8 * keys.length + 1 + prng.below(7));
        if (keys.length > 0) await assert.rejects(client.command("PADD", "user", part, cut), { code: "invalid" });
      }
    }
    const wanted = Array.from({ length: 10 }, () => prng.below(keysMax));
    const blob = (await client.command("PPULL", "user", keysOf(wanted), "FOUND")) as Uint8Array;
    const { missing, numbersAt, foundAt } = readPullHead(blob);
    const numbers = new Float32Array(blob.slice(numbersAt).buffer);
    const expected = wanted.flatMap((key) => model.get(key) ?? new Array<number>(dim).fill(0));
    assert.deepEqual([...numbers], expected, `round ${round}`);
    assert.equal(missing, wanted.filter((key) => !model.has(key)).length);
    for (const [i, key] of wanted.entries()) assert.equal((blob[foundAt + (i >> 3)]! >> (i & 7)) & 1, model.has(key) ? 1 : 0);
  }
  assert.ok(refused > 0);
  assert.equal(await client.command("PING"), "PONG");
});
