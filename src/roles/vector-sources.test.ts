// Guards rows out of a running server's tables: pages, missing vectors, attributes, and a model or a chain over them. The server is played by its answers alone: a table of three pages over HTTP.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import type { VectorRowBatch, VectorRowSource } from "#vectors/builder/row-source";
import type { VectorTaskSource } from "#wire/vector-task-config";
import { openVectorSource } from "./vector-sources.ts";

async function within(body: (open: (source: VectorTaskSource, server?: boolean) => Promise<VectorRowSource>, folder: string) => Promise<void>): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), "millrace-sources-"));
  const rows: [string | number, unknown[] | null][] = [
    ["a", [[1, 2], "red"]],
    ["b", [null, "blue"]],
    ["c", [[3, 4], null]],
    ["gone", null],
    ["d", [[5, 6], ""]],
  ];
  const server = createServer((request, response) => {
    let text = "";
    request.on("data", (chunk: Buffer) => (text += chunk.toString()));
    request.on("end", () => {
      const { cursor } = JSON.parse(text) as { cursor: string };
      const from = Number(cursor === "" ? 0 : cursor);
      const page = rows.slice(from, from + 2);
      const answer = {
        cursor: from + 2 < rows.length ? String(from + 2) : null,
        keys: page.map(([key]) => key),
        columns: ["vector", "colour"],
        rows: page.map(([, row]) => row),
      };
      response.setHeader("content-type", "application/json").end(JSON.stringify(answer));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  try {
    await body(
      (source, known = true) =>
        openVectorSource(source, {
          dataFolder: folder,
          folder,
          memoryBytes: 2 ** 28,
          folders: undefined,
          server: known ? address : undefined,
          token: undefined,
        }),
      folder,
    );
  } finally {
    server.closeAllConnections();
    server.close();
    await rm(folder, { recursive: true, force: true });
  }
}

async function allOf(source: VectorRowSource): Promise<[string, number[], string | undefined][]> {
  const rows: [string, number[], string | undefined][] = [];
  for (let batch: VectorRowBatch | undefined; (batch = await source.read(10, new AbortController().signal)) !== undefined;) {
    const { ids, vectors, attributes } = batch;
    ids.forEach((id, i) => rows.push([id, [...vectors.subarray(i * source.dims, (i + 1) * source.dims)], attributes?.[i]]));
  }
  await source.close();
  return rows;
}

test("a table's column: every row that has a vector, its attributes, pages to the end", () =>
  within(async (open) => {
    const source = await open({ table: "items", column: "vector", attributes: ["colour"] });
    assert.equal(source.dims, 2);
    assert.deepEqual(await allOf(source), [
      ["a", [1, 2], '{"colour":"red"}'],
      ["c", [3, 4], undefined],
      ["d", [5, 6], undefined],
    ]);
    assert.equal(source.refused, 1);
    await assert.rejects(open({ table: "items", column: "vector" }, false), { code: "invalid", message: /--server/ });
  }));

test("a model and a chain over a table's rows give the same vectors; what is neither is refused", () =>
  within(async (open, folder) => {
    const at = (name: string): string => join(folder, name);
    await writeFile(
      at("model.mjs"),
      "export default () => ({ dims: 1, vectors: (ids, rows) => Float32Array.from(rows, ({ vector }) => (vector === null ? NaN : vector[0] + vector[1])) });",
    );
    const chain = new URL("../sdk/vector-chain.ts", import.meta.url).href;
    await writeFile(
      at("chain.mjs"),
      `import { vectorChain } from ${JSON.stringify(chain)};
       export default vectorChain({
         features: (profiles) => profiles.map(({ vector }) => vector ?? undefined),
         model: (features) => ({ dims: 1, vectors: Float32Array.from(features, ([a, b]) => a + b) }),
       });`,
    );
    await writeFile(at("none.mjs"), "export default 5;");
    for (const module of ["model.mjs", "chain.mjs"]) {
      const rows = await allOf(await open({ module: at(module), table: "items" }));
      assert.deepEqual(
        rows.map(([id, [sum]]) => [id, sum]),
        [
          ["a", 3],
          ["b", Number.NaN],
          ["c", 7],
          ["d", 11],
        ],
        module,
      );
    }
    await writeFile(at("throws.mjs"), "export default { dims: 1, vectors() { throw new Error('no weights') } };");
    await assert.rejects(open({ module: at("throws.mjs"), table: "items" }), { code: "invalid", message: /throws\.mjs failed: no weights/ });
    await assert.rejects(open({ module: at("none.mjs"), table: "items" }), { code: "invalid", message: /neither a chain nor a model/ });
    await assert.rejects(open({ module: at("missing.mjs"), table: "items" }), { code: "invalid", message: /cannot be loaded/ });
  }));
