import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { systemClock } from "#platform/system-clock";
import { systemFiles } from "#platform/system-files";
import { systemProcesses } from "#platform/system-processes";
import { openEmbeddedLog } from "./embedded-log.ts";
import { openSqliteRegistry } from "./sqlite-registry.ts";

test("smoke", async () => {
  const folder = await mkdtemp(join(tmpdir(), "millrace-log-"));
  const registry = openSqliteRegistry({ path: join(folder, "registry.sqlite"), clock: systemClock, processes: systemProcesses });
  const open = () => openEmbeddedLog({ files: systemFiles, clock: systemClock, registry, folder: join(folder, "log"), durability: "always" });
  const log = open();
  const writer = await log.openWriter("events");
  const results = await Promise.all(Array.from({ length: 100 }, (_, i) => writer.append([new Uint8Array([i]), new Uint8Array([i, i])])));
  assert.equal(results.at(-1)!.nextOffset, 200);
  const other = open();
  await assert.rejects(other.openWriter("events"), { code: "conflict" });
  const abort = new AbortController();
  let count = 0;
  const tail = (async () => {
    for await (const { records } of other.tail("events", 5, abort.signal)) {
      count += records.length;
      if (count >= 196) abort.abort();
    }
  })();
  await writer.append([new Uint8Array(3)]);
  await tail;
  assert.deepEqual(await other.bounds("events"), { first: 0, next: 201 });
  await log.close();
  const again = await other.openWriter("events");
  assert.deepEqual(again.bounds, { first: 0, next: 201 });
  await again.append([new Uint8Array(4)]);
  assert.equal((await other.read("events", 199, 1e6))!.records.length, 2);
  assert.equal((await other.read("events", 201, 1e6))!.records.length, 1);
  await other.close();
  await registry.close();
  await rm(folder, { recursive: true });
});
