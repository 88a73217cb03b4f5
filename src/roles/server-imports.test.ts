// Guards what a server loads: the importer's library is large and belongs to builder processes.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { test } from "node:test";
import { promisify } from "node:util";

const libraries = "process.report.getReport().sharedObjects.join(' ')";

async function loadedBy(module: string): Promise<string> {
  const script = `await import(${JSON.stringify(new URL(module, import.meta.url).href)}); console.log(${libraries});`;
  return (await promisify(execFile)(process.execPath, ["--input-type=module", "-e", script])).stdout;
}

test("promise: a server does not load DuckDB, the importer does", async () => {
  assert.doesNotMatch(await loadedBy("./server.ts"), /duckdb/);
  assert.match(await loadedBy("./importer.ts"), /duckdb/);
});
