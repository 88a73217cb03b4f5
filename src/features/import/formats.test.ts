// Guards that every format becomes the same rows, that what does not fit is refused with a reason and leaves no trace, and that a file that cannot be read stops the import before
// anything is published.

import assert from "node:assert/strict";
import { test } from "node:test";
import { DuckDBInstance } from "@duckdb/node-api";
import { MillraceError } from "#base/errors";
import type { TableConfig } from "#wire/table-config";
import { inWorld, type ImportWorld, type Row, schemaFor } from "./import-world.contract.ts";

const everyType: TableConfig = {
  key: "string",
  columns: {
    count: { type: "i64" },
    ctr: { type: "f32" },
    score: { type: "f64" },
    embedding: { type: "f32", length: 3 },
    seen: { type: "u64", length: 2 },
    title: { type: "string" },
    blob: { type: "bytes" },
    fresh: { type: "bool" },
  },
};

const whole: Row = {
  count: -9_007_199_254_740_993n,
  ctr: 0.5,
  score: 0.1,
  embedding: [1, -2, 0.25],
  seen: [1n, 18_446_744_073_709_551_615n],
  title: "a title that is longer than twelve bytes, 世界",
  blob: "00ff10",
  fresh: true,
};

async function duck(world: ImportWorld, sql: string): Promise<void> {
  const instance = await DuckDBInstance.create(":memory:", { threads: "1" });
  const connection = await instance.connect();
  await connection.run(sql.replaceAll("$", world.folder));
  connection.closeSync();
  instance.closeSync();
}

const refused = (code: string, text: RegExp) => (thrown: unknown) => thrown instanceof MillraceError && thrown.code === code && text.test(thrown.message);

const wholeSql =
  "-9007199254740993::BIGINT AS count, 0.5::FLOAT AS ctr, 0.1::DOUBLE AS score, [1, -2, 0.25]::FLOAT[3] AS embedding, [1, 18446744073709551615]::UBIGINT[2] AS seen, " +
  "'a title that is longer than twelve bytes, 世界' AS title, '\\x00\\xFF\\x10'::BLOB AS blob, true AS fresh";

test("promise: Parquet, CSV, JSON lines and a query give the same rows, nulls are no value", async () => {
  await inWorld(async (world) => {
    const schema = schemaFor(everyType);
    const parquet = world.path("a.parquet");
    await duck(
      world,
      `COPY (SELECT 'one' AS id, ${wholeSql}, 7 AS other UNION ALL BY NAME SELECT 'a key longer than twelve bytes' AS id) TO '${parquet}' (FORMAT parquet)`,
    );
    const csv = await world.write(
      "a.csv",
      `id;count;ctr;score;embedding;seen;title;blob;fresh\none;-9007199254740993;0.5;0.1;[1, -2, 0.25];"[1,18446744073709551615]";"a title that is longer than twelve bytes, 世界";AP8Q;true\n` +
        "a key longer than twelve bytes;;;;;;;;\n",
    );
    const json = await world.write(
      "a.jsonl",
      `{"id":"one","count":-9007199254740993,"ctr":0.5,"score":0.1,"embedding":[1,-2,0.25],"seen":[1,18446744073709551615],"title":"a title that is longer than twelve bytes, 世界","blob":"AP8Q","fresh":true,"other":{}}\n` +
        `{"id":"a key longer than twelve bytes","count":null}\n`,
    );
    const expected = new Map<string, Row>([
      ["one", whole],
      ["a key longer than twelve bytes", {}],
    ]);
    for (const file of [parquet, csv, json]) {
      const result = await world.import(schema, [file]).run();
      assert.deepEqual(await world.rows(schema), expected, file);
      assert.deepEqual([result.rows, result.refused, result.overtaken], [2, 0, 0], file);
    }
    const result = await world.import(schema, [], { request: { files: [], query: `SELECT * FROM '${parquet}' WHERE id = 'one';` } }).run();
    assert.deepEqual(await world.rows(schema), new Map([["one", whole]]));
    assert.deepEqual([result.unused, result.missing], [["other"], []]);
  });
});

test("u64 keys come from whole numbers of every kind and are ordered as numbers", async () => {
  await inWorld(async (world) => {
    const schema = schemaFor({ key: "u64", columns: { ctr: { type: "f32" } } });
    await duck(world, "COPY (SELECT * FROM (VALUES (1::BIGINT, 1.5::DOUBLE), (-1, 2), (256, 3)) t(id, ctr)) TO '$/a.parquet' (FORMAT parquet)");
    const result = await world.import(schema, [world.path("a.parquet")]).run();
    assert.deepEqual([result.rows, result.refused], [2, 1]);
    assert.match(await world.text(result.rejectFile!), /^\{"input":".*a\.parquet","row":2,"reason":"no key, or none that fits its type","value":"-1"\}\n$/);
    const csv = await world.write("a.csv", "id,ctr\n18446744073709551615,1\n18446744073709551616,2\n1.0,3\n");
    assert.equal((await world.import(schema, [csv]).run()).refused, 2);
    const json = await world.write("a.jsonl", '{"id":"18446744073709551615","ctr":1}\n{"id":3,"ctr":2}\n{"id":2.5}\n');
    assert.equal((await world.import(schema, [json], { checks: [] }).run()).refused, 1);
    assert.deepEqual([...(await world.rows(schema)).keys()], ["3", "18446744073709551615"]);
  });
});

test("a bad value refuses its row with a reason, and only that row", async () => {
  await inWorld(async (world) => {
    const schema = schemaFor(everyType);
    const csv = await world.write(
      "bad.csv",
      [
        "id,count,ctr,embedding,seen,fresh,blob",
        'a,1,1,"[1,2,3]","[1,2]",true,AP8Q',
        "b,1.5,,,,,",
        "c,,x,,,,",
        'd,,,"[1,2]",,,',
        'e,,,,"[1,-2]",,',
        'e2,,,"[1,null,2]",,,',
        "f,,,,,maybe,",
        "g,,,,,,!!!",
        ",1,,,,,",
        "h,1",
        "i,1,1,,,,,8,9",
        "j,2,,,,,",
        "",
      ].join("\n"),
    );
    const running = world.import(schema, [csv]);
    const result = await running.run();
    assert.deepEqual(
      running.status.refusedWhy.map((why) => why.replace(/: .*/, "")),
      ["column count", "column ctr", "column embedding", "column seen", "column fresh"],
      "told with its status, each once, no more than five",
    );
    assert.doesNotMatch(running.status.refusedWhy.join(), /maybe|1\.5/, "no values");
    assert.deepEqual([...(await world.rows(schema)).keys()], ["a", "j"]);
    const rejects = (await world.text(result.rejectFile!))
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as Record<string, unknown>);
    assert.deepEqual(
      rejects.map(({ key, column, value, line }) => [key ?? line, column, value]),
      [
        ["b", "count", "1.5"],
        ["c", "ctr", "x"],
        ["d", "embedding", "[1,2]"],
        ["e", "seen", "[1,-2]"],
        ["e2", "embedding", undefined],
        ["f", "fresh", "maybe"],
        ["g", "blob", "!!!"],
        [undefined, undefined, undefined],
        [11, undefined, undefined],
        [12, undefined, undefined],
      ],
    );
    assert.equal(rejects[8]!["reason"], "the line is no row: missing columns");
    const json = await world.write(
      "bad.jsonl",
      [
        '{"id":"a","count":1}',
        "not json",
        '{"id":5}',
        '{"count":2}',
        '{"id":"b","count":"1"}',
        '{"id":"c","count":1.5}',
        '{"id":"d","title":7}',
        '{"id":"e","embedding":[1,2,null]}',
        "",
      ].join("\n"),
    );
    const second = await world.import(schema, [json], { checks: [] }).run();
    assert.deepEqual([second.rows, second.refused], [1, 7]);
  });
});

test("more refused rows than allowed stop the import; nothing is published, and a higher limit goes on", async () => {
  await inWorld(async (world) => {
    const schema = schemaFor({ key: "string", columns: { ctr: { type: "f32" } } });
    const csv = await world.write("a.csv", "id,ctr\na,1\nb,x\nc,y\nd,z\n");
    await assert.rejects(
      world.import(schema, [csv], { rejectsMax: 2 }).run(),
      refused("invalid", /3 rows were refused, at most 2 are allowed \(the first since the start: column ctr: the value is no f32\)/),
    );
    assert.equal(await world.snapshots.head("items"), undefined);
    const again = world.import(schema, [csv], { rejectsMax: 3 });
    assert.deepEqual([(await again.run()).refused, again.status.resumed], [3, true]);
  });
});

test("files that are broken, empty, missing or of the wrong types are refused before anything is read", async () => {
  await inWorld(async (world) => {
    const schema = schemaFor(everyType);
    await duck(
      world,
      "COPY (SELECT 'a' AS id, 1.5::DOUBLE AS count, 'x' AS ctr, [1,2]::FLOAT[2] AS embedding, 1 AS fresh) TO '$/types.parquet' (FORMAT parquet)",
    );
    await duck(world, "COPY (SELECT 1 AS name) TO '$/nokey.parquet' (FORMAT parquet)");
    await duck(world, "COPY (SELECT r::VARCHAR AS id, r AS count FROM range(100000) t(r)) TO '$/cut.parquet' (FORMAT parquet)");
    const { readFile, writeFile } = await import("node:fs/promises");
    const bytes = await readFile(world.path("cut.parquet"));
    await writeFile(world.path("cut.parquet"), bytes.subarray(0, bytes.length / 2));
    bytes.fill(0xa5, 1_000, 90_000);
    await writeFile(world.path("torn.parquet"), bytes);
    const cases: [string, string, RegExp][] = [
      [await world.write("empty.parquet", ""), "invalid", /empty\.parquet cannot be read/],
      [await world.write("empty.csv", ""), "invalid", /header .* is empty/],
      [await world.write("twice.csv", "id,ctr,CTR\n"), "invalid", /names "CTR" twice/],
      [await world.write("nokey.csv", "ctr\n1\n"), "invalid", /no column id \(the key\)/],
      [world.path("nokey.parquet"), "invalid", /no column id \(the key\)/],
      [world.path("cut.parquet"), "invalid", /cut\.parquet cannot be read/],
      [world.path("torn.parquet"), "invalid", /torn\.parquet cannot be read/],
      [world.path("types.parquet"), "invalid", /count is DOUBLE, the table has i64; ctr is VARCHAR, the table has f32; fresh is INTEGER, the table has bool/],
      [world.path("none.parquet"), "not-found", /there is no file/],
      [world.path("none*.csv"), "not-found", /there is no file/],
      [world.path("a.txt"), "not-found", /there is no file/],
      [await world.write("b.txt", "x"), "invalid", /does not say what it is/],
    ];
    for (const [file, code, text] of cases) {
      await assert.rejects(world.import(schema, [file]).run(), refused(code, text), file);
    }
    for (const query of ["SELECT 1; SELECT 2", "SELECT nothing", "DROP TABLE x", "SELECT 1) TO 'x' --"]) {
      await assert.rejects(world.import(schema, [], { request: { files: [], query } }).run(), refused("invalid", /./), query);
    }
    assert.equal(await world.snapshots.head("items"), undefined);
  });
});

test("an empty but whole file makes an empty version only when the checks allow it", async () => {
  await inWorld(async (world) => {
    const schema = schemaFor({ key: "string", columns: { ctr: { type: "f32" } } });
    const csv = await world.write("a.csv", "id,ctr\n");
    await assert.rejects(world.import(schema, [csv]).run(), refused("invalid", /rows/));
    const bad = await world.write("b.csv", "id,ctr\na,x\n");
    const refusing = world.import(schema, [bad]);
    await assert.rejects(refusing.run(), refused("invalid", /was refused: rows is 0/));
    assert.match(await world.text(refusing.status.rejectFile!), /the value is no f32/, "the reject file stays, where the status says");
    const { readdir } = await import("node:fs/promises");
    const work = (await readdir(world.path("import"))).filter((name) => name.startsWith("items-"));
    assert.deepEqual(work, [], "what was staged for a refused version does not stay");
    assert.equal((await world.import(schema, [csv], { checks: [] }).run()).rows, 0);
    assert.deepEqual(await world.rows(schema), new Map());
  });
});

test("a server that imports from its folders alone reads nothing else, by path or by SQL", async () => {
  await inWorld(async (world) => {
    const schema = schemaFor({ key: "string", columns: { ctr: { type: "f32" } } });
    const { mkdir } = await import("node:fs/promises");
    await mkdir(world.path("in"));
    await world.write("in/a.csv", "id,ctr\na,1\n");
    await world.write("secret.csv", "id,ctr\nb,1\n");
    const folders = [world.path("in")];
    assert.equal((await world.import(schema, [world.path("in/a.csv")], { folders }).run()).rows, 1);
    for (const path of [world.path("secret.csv"), world.path("in/../secret.csv"), "secret.csv"]) {
      await assert.rejects(world.import(schema, [path], { folders }).run(), refused("unauthorized", /outside the folders/), path);
    }
    const { symlink } = await import("node:fs/promises");
    await symlink(world.path("secret.csv"), world.path("in/link.csv"));
    for (const path of [world.path("in/link.csv"), world.path("in/l*.csv")]) {
      await assert.rejects(world.import(schema, [path], { folders }).run(), refused("unauthorized", /outside the folders/), path);
    }
    await assert.rejects(world.import(schema, [world.path("in/a.csv")], { folders: [] }).run(), refused("unauthorized", /storage\.importFolders/));
    const query = (sql: string): Promise<unknown> => world.import(schema, [], { folders, request: { files: [], query: sql } }).run();
    await assert.rejects(query(`SELECT * FROM read_csv('${world.path("secret.csv")}')`), refused("invalid", /cannot be read/));
    await assert.rejects(query("SELECT 'a' AS id, getenv('HOME') AS ctr"), refused("invalid", /./));
    await query(`SELECT id, ctr::FLOAT AS ctr FROM read_csv('${world.path("in/a.csv")}')`);
  });
});
