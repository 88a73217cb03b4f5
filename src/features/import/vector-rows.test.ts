// Guards that every format gives the same ids, vectors and attributes, that bad rows are left out and counted, and that nothing outside the allowed folders is read.

import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { systemFiles } from "#platform/system-files";
import { DuckDb } from "./duckdb-source.ts";
import { openVectorNpy } from "./vector-npy.ts";
import type { VectorRowReader, VectorRowsRead } from "./vector-row-reader.ts";
import { openVectorFiles } from "./vector-rows.ts";

const memoryBytes = 256 << 20;

async function within(body: (folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "millrace-vectors-"));
  try {
    await mkdir(join(folder, "in"));
    await body(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function allOf(reader: VectorRowReader): Promise<{ rows: [string, number[], unknown][]; refused: number; dims: number }> {
  const rows: [string, number[], unknown][] = [];
  const { dims } = reader;
  for (let batch: VectorRowsRead | undefined; (batch = await reader.read(3, new AbortController().signal)) !== undefined;) {
    const { ids, vectors, attributes } = batch;
    ids.forEach((id, i) =>
      rows.push([id, [...vectors.subarray(i * dims, (i + 1) * dims)], attributes?.[i] === undefined ? undefined : JSON.parse(attributes[i])]),
    );
  }
  await reader.close();
  return { rows, refused: reader.refused, dims };
}

const wanted = [
  ["a", [1, 2.5, -3], { price: 7, tag: "red" }],
  ["käse", [0, 0.25, 1], { price: 8 }],
] as const;
const json = [
  { id: "a", vector: [1, 2.5, -3], price: 7, tag: "red" },
  { id: "käse", vector: [0, 0.25, 1], price: 8, tag: null },
  { id: "short", vector: [1, 2], price: 1, tag: "x" },
  { id: "hole", vector: [1, null, 2], price: 1, tag: "x" },
  { id: null, vector: [1, 2, 3], price: 1, tag: "x" },
  { id: "none", vector: null, price: 1, tag: "x" },
];

test("JSON lines, Parquet, CSV and a query give the same rows", () =>
  within(async (folder) => {
    const lines = join(folder, "in/rows.jsonl");
    await writeFile(lines, json.map((row) => JSON.stringify(row)).join("\n"));
    const duck = await DuckDb.open({ memoryBytes, tempFolder: folder });
    await duck.rows(`COPY (SELECT * FROM read_json('${lines}')) TO '${join(folder, "in/rows.parquet")}' (FORMAT parquet)`);
    duck.close();
    await writeFile(
      join(folder, "in/rows.csv"),
      ["id,vector,price,tag", 'a,"[1, 2.5, -3]",7,red', 'käse,"[0, 0.25, 1]",8,', 'short,"[1, 2]",1,x', "none,,1,x", ',"[1, 2, 3]",1,x', "odd,hello,1,x"].join(
        "\n",
      ),
    );
    const options = { id: "id", vector: "vector", attributes: ["price", "tag"], memoryBytes, tempFolder: folder };
    for (const files of [["in/rows.jsonl"], ["in/rows.parquet"], ["in/*.parquet"]]) {
      const { rows, refused, dims } = await allOf(await openVectorFiles({ ...options, files: files.map((file) => join(folder, file)) }));
      assert.equal(dims, 3);
      assert.deepEqual(rows, wanted, String(files));
      assert.equal(refused, 4);
    }
    const csv = await allOf(await openVectorFiles({ ...options, files: [join(folder, "in/rows.csv")] }));
    assert.deepEqual(
      csv.rows.map(([id, vector]) => [id, vector]),
      wanted.map(([id, vector]) => [id, vector]),
    );
    assert.equal(csv.refused, 4);
    const query = await allOf(
      await openVectorFiles({
        ...options,
        files: [],
        query: `SELECT id, vector, price, tag FROM read_parquet('${join(folder, "in/rows.parquet")}') WHERE id = 'a'`,
      }),
    );
    assert.deepEqual(query.rows, [wanted[0]]);
    await assert.rejects(openVectorFiles({ ...options, files: [join(folder, "in/nothing.parquet")] }), { code: /invalid|not-found/ });
    await assert.rejects(openVectorFiles({ ...options, files: [join(folder, "in/rows.jsonl"), join(folder, "in/rows.csv")] }), { code: "invalid" });
    await assert.rejects(openVectorFiles({ ...options, vector: "price", files: [join(folder, "in/rows.parquet")] }), { code: "invalid" });
  }));

test("a column that is not there is told with those that are", () =>
  within(async (folder) => {
    const path = join(folder, "in/rows.csv");
    await writeFile(path, 'key,vector,year\na,"[1, 2]",1979\n');
    const options = { files: [path], id: "key", vector: "vector", attributes: ["year"], memoryBytes, tempFolder: folder };
    for (const [wrong, message] of [
      [{ id: "id" }, /has no column id: name one that it has \(source\.id\): key, vector, year/],
      [{ vector: "embedding" }, /has no column embedding: .*source\.vector/],
      [{ attributes: ["year", "colour"] }, /has no column colour: .*source\.attributes/],
    ] as const) {
      await assert.rejects(openVectorFiles({ ...options, ...wrong }), { code: "invalid", message });
    }
    assert.equal((await allOf(await openVectorFiles({ ...options, vector: "Vector" }))).rows.length, 1, "SQL does not look at capitals");
  }));

test("promise: ids and texts of JSON lines and CSV are read as they stand, whatever they look like", () =>
  within(async (folder) => {
    const texts = [
      ...[
        "a",
        "007",
        "1e3",
        "true",
        "null",
        "NaN",
        "käse",
        " b ",
        '"q"',
        "6F9619FF-8B86-D011-B42D-00CF4FC964FF",
        "2024-01-01T10:00:00Z",
        "2024-01-02 11:00:00",
      ],
      ...["01/02/2024", "10:00", "12345678901234567890123", "{}", "[1]"],
    ];
    const options = { id: "id", vector: "vector", attributes: ["text"], memoryBytes, tempFolder: folder };
    const read = async (name: string, lines: readonly string[]): Promise<Awaited<ReturnType<typeof allOf>>> => {
      await writeFile(join(folder, name), lines.join("\n"));
      return allOf(await openVectorFiles({ ...options, files: [join(folder, name)] }));
    };
    const wantedRows = texts.map((text) => [text, [1, 2], { text }]);
    const line = (id: unknown, text: unknown = "x"): string => JSON.stringify({ id, vector: [1, 2], text });
    // Alone too: found types depend on what stands beside.
    for (const some of [texts, ...texts.map((text) => [text])]) {
      const rows = wantedRows.filter(([text]) => some.includes(text as string));
      const fromJson = await read(
        "rows.jsonl",
        some.map((text) => line(text, text)),
      );
      assert.deepEqual(fromJson.rows, rows, `JSON ${some.join()}`);
      const field = (text: string): string => `"${text.replaceAll('"', '""')}"`;
      const fromCsv = await read("rows.csv", ["id,vector,text", ...some.map((text) => `${field(text)},"[1, 2]",${field(text)}`)]);
      assert.deepEqual(fromCsv.rows, rows, `CSV ${some.join()}`);
    }
    // Numbers among texts: by their digits; an empty id, none, a list and an object are no ids.
    const mixed = await read("mixed.jsonl", [
      ...[line("a"), line(7), '{"id": 12345678901234567890123, "vector": [1, 2]}', '{"id": -9007199254740993, "vector": "[1, 2]", "text": 7}'],
      ...[line(""), line(null), line([1]), line({ a: 1 }), '{"vector": [1, 2]}', '{"id": "text", "vector": "no"}', '{"id": "number", "vector": 5}'],
    ]);
    assert.deepEqual(mixed.rows, [
      ["a", [1, 2], { text: "x" }],
      ["7", [1, 2], { text: "x" }],
      ["12345678901234567890123", [1, 2], undefined],
      ["-9007199254740993", [1, 2], { text: 7 }],
    ]);
    assert.equal(mixed.refused, 7);
    const csv = await read("mixed.csv", ["id,vector,text", 'a,"[1,2]",2024-01-01', '7,"[1,2]",', '"","[1,2]",x', ',"[1,2]",x', '0x1,"[1,2]",x']);
    assert.deepEqual(csv.rows, [
      ["a", [1, 2], { text: "2024-01-01" }],
      ["7", [1, 2], undefined],
      ["0x1", [1, 2], { text: "x" }],
    ]);
    // A query says its types itself; what it leaves as JSON is read so too.
    const sql = `SELECT id, vector, text FROM read_json('${join(folder, "mixed.jsonl")}', format = 'newline_delimited', columns = {id: 'JSON', vector: 'JSON', text: 'JSON'})`;
    assert.deepEqual((await allOf(await openVectorFiles({ ...options, files: [], query: sql }))).rows, mixed.rows);
  }));

test("promise: a task that may read some folders alone reads nothing else, by path or by SQL", () =>
  within(async (folder) => {
    await writeFile(join(folder, "secret.csv"), 'id,vector\na,"[1,2]"');
    await writeFile(join(folder, "in/good.csv"), 'id,vector\na,"[1,2]"');
    await mkdir(join(folder, "temp"));
    const options = { id: "id", vector: "vector", attributes: [], memoryBytes, tempFolder: join(folder, "temp"), folders: [join(folder, "in")] };
    assert.equal((await allOf(await openVectorFiles({ ...options, files: [join(folder, "in/good.csv")] }))).rows.length, 1);
    for (const path of ["secret.csv", "in/../secret.csv"]) {
      await assert.rejects(openVectorFiles({ ...options, files: [`${folder}/${path}`] }), { code: "unauthorized" }, path);
    }
    await assert.rejects(openVectorFiles({ ...options, files: [], query: `SELECT * FROM read_csv('${join(folder, "secret.csv")}')` }), {
      code: /invalid|unauthorized/,
    });
    await assert.rejects(openVectorNpy(systemFiles, join(folder, "secret.npy"), undefined, [join(folder, "in")]), { code: "unauthorized" });
  }));

/** A .npy file, version 1.0. */
function npy(descr: string, shape: readonly number[], data: Uint8Array): Uint8Array {
  const text = `{'descr': '${descr}', 'fortran_order': False, 'shape': (${shape.join(", ")}${shape.length === 1 ? "," : ""}), }`;
  const head = new TextEncoder().encode(`${text.padEnd(117)}\n`);
  return Uint8Array.from([0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 1, 0, head.length & 255, head.length >> 8, ...head, ...data]);
}

const bytesOf = (array: Float32Array | Float64Array | BigInt64Array | Uint32Array): Uint8Array => new Uint8Array(array.buffer);

test(".npy: f32 and f64, ids of texts, of numbers, of none; and what does not fit is refused", () =>
  within(async (folder) => {
    const at = (file: string): string => join(folder, file);
    const numbers = [1, 2.5, -3, 0, 0.25, 1];
    await writeFile(at("f32.npy"), npy("<f4", [2, 3], bytesOf(Float32Array.from(numbers))));
    await writeFile(at("f64.npy"), npy("<f8", [2, 3], bytesOf(Float64Array.from(numbers))));
    await writeFile(at("u.npy"), npy("<U4", [2], bytesOf(Uint32Array.from([97, 0, 0, 0, 107, 0xe4, 115, 101]))));
    await writeFile(at("s.npy"), npy("|S4", [2], Uint8Array.of(97, 0, 0, 0, 98, 99, 100, 101)));
    await writeFile(at("i.npy"), npy("<i8", [2], bytesOf(BigInt64Array.of(-5n, 9_007_199_254_740_993n))));
    await writeFile(at("three.npy"), npy("<i8", [3], bytesOf(BigInt64Array.of(1n, 2n, 3n))));
    const ids = async (vectors: string, of?: string): Promise<string[]> => {
      const { rows } = await allOf(await openVectorNpy(systemFiles, at(vectors), of === undefined ? undefined : at(of)));
      assert.deepEqual(
        rows.map(([, vector]) => vector),
        [numbers.slice(0, 3), numbers.slice(3)],
      );
      return rows.map(([id]) => id);
    };
    assert.deepEqual(await ids("f32.npy"), ["0", "1"]);
    assert.deepEqual(await ids("f64.npy", "u.npy"), ["a", "käse"]);
    assert.deepEqual(await ids("f32.npy", "s.npy"), ["a", "bcde"]);
    assert.deepEqual(await ids("f32.npy", "i.npy"), ["-5", "9007199254740993"]);
    await assert.rejects(openVectorNpy(systemFiles, at("f32.npy"), at("three.npy")), { code: "invalid", message: /3 rows/ });
    await assert.rejects(openVectorNpy(systemFiles, at("i.npy"), undefined), { code: "invalid", message: /no floats/ });
    await assert.rejects(openVectorNpy(systemFiles, at("none.npy"), undefined), { code: "not-found" });
    await writeFile(at("cut.npy"), npy("<f4", [9, 3], bytesOf(Float32Array.from(numbers))));
    await assert.rejects(openVectorNpy(systemFiles, at("cut.npy"), undefined), { code: "invalid", message: /fewer/ });
  }));
