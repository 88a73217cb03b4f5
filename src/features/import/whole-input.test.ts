// Guards that a file without its end never becomes a version with a part of the rows, and that the quotes are followed as DuckDB follows them.

import assert from "node:assert/strict";
import { test } from "node:test";
import { gzipSync, zstdCompressSync } from "node:zlib";
import { DuckDBInstance } from "@duckdb/node-api";
import { MillraceError } from "#base/errors";
import { freshSeed } from "#platform/fresh-seed";
import { inWorld, schemaFor } from "./import-world.contract.ts";
import { CsvQuotes } from "./whole-input.ts";

const schema = schemaFor({ key: "string", columns: { v: { type: "i64" }, t: { type: "string" } } });
const refused = (text: RegExp) => (thrown: unknown) => thrown instanceof MillraceError && thrown.code === "invalid" && text.test(thrown.message);
const lines = (from: number, to: number): string => Array.from({ length: to - from }, (_, i) => `k${from + i},${i},t${i}\n`).join("");

function openAt(text: string, chunkBytes = text.length): number | undefined {
  const quotes = new CsvQuotes(",");
  const bytes = new TextEncoder().encode(text);
  for (let at = 0; at < bytes.length; at += chunkBytes) quotes.add(bytes.subarray(at, at + chunkBytes));
  return quotes.openAt;
}

test("promise: a CSV file with a quote that is never closed stops the import and names the line", async () => {
  await inWorld(async (world) => {
    const middle = await world.write("middle.csv", `id,v,t\n${lines(0, 200)}bad,1,"oops\n${lines(200, 20_000)}`);
    await assert.rejects(world.import(schema, [middle]).run(), refused(/middle\.csv: the quote that opens in line 202 is never closed/));
    const last = await world.write("last.csv", 'id,v,t\r\na,1,x\rb,2,y\nc,3,"cut o');
    await assert.rejects(world.import(schema, [last]).run(), refused(/last\.csv: the quote that opens in line 4 is never closed/));
    assert.equal(await world.snapshots.head("items"), undefined, "nothing was published");
    const good = await world.write("good.csv", 'id,v,t\na,1,"a ""b"" c"\nb,2,5" disk\nc,3,"two\nlines"\nd,4, "blank before"\n');
    assert.equal((await world.import(schema, [good]).run()).rows, 4);
  });
});

test("promise: packed JSON lines that are cut off stop the import", async () => {
  await inWorld(async (world) => {
    const text = Array.from({ length: 20_000 }, (_, i) => `{"id":"k${i}","v":${(i * 7_919) % 20_011},"t":"${((i * 31) % 997).toString(36)}"}\n`).join("");
    const forms = { gz: gzipSync(text), "two.gz": Buffer.concat([gzipSync(text), gzipSync(text)]), zst: zstdCompressSync(text) };
    for (const [suffix, packed] of Object.entries(forms)) {
      for (const bytes of [packed.length - 4, Math.floor(packed.length * 0.7)]) {
        const cut = await world.write(`cut-${bytes}.jsonl.${suffix.replace("two.", "")}`, packed.subarray(0, bytes));
        await assert.rejects(world.import(schema, [cut]).run(), refused(/is cut off or damaged/), `${suffix} to ${bytes}`);
      }
    }
    assert.equal(await world.snapshots.head("items"), undefined, "nothing was published");
    for (const [suffix, packed] of Object.entries(forms)) {
      const whole = await world.write(`whole.jsonl.${suffix.replace("two.", "")}`, packed);
      assert.equal((await world.import(schema, [whole]).run()).rows, 20_000, suffix);
    }
  });
});

test("quotes are followed as DuckDB follows them, by pieces of any length", async () => {
  const seed = freshSeed();
  console.log(`SEED=${seed}`);
  let state = seed >>> 0;
  const below = (count: number): number => ((state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0) >>> 8) % count;
  await inWorld(async (world) => {
    const instance = await DuckDBInstance.create(":memory:", { threads: "1" });
    const connection = await instance.connect();
    try {
      for (let round = 0; round < 150; round++) {
        const body = Array.from({ length: 1 + below(14) }, () => '""",,x \n'[below(8)]).join("");
        const text = `a,b,c\nx,x,x\n${body}`;
        // A line behind it is read as a row unless a quote before it is open.
        const path = await world.write("a.csv", `${text}\nlast,last,last\n`);
        await connection.run("DROP TABLE IF EXISTS reject_errors; DROP TABLE IF EXISTS reject_scans");
        const rows = await connection.runAndReadAll(
          `SELECT a FROM read_csv('${path}', auto_detect = false, header = true, delim = ',', quote = '"', escape = '"', ` +
            `columns = {a: 'VARCHAR', b: 'VARCHAR', c: 'VARCHAR'}, store_rejects = true, parallel = false)`,
        );
        const found = rows.getRows().some(([a]) => a === "last");
        assert.equal(openAt(text) === undefined, found, JSON.stringify(text));
        assert.equal(openAt(text, 1 + below(3)), openAt(text), "by pieces");
      }
    } finally {
      connection.closeSync();
      instance.closeSync();
    }
  });
  assert.equal(openAt('\ufeff"a,b\n'), 3, "the mark of UTF-8 is no part of the field");
});
