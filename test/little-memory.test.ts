// Guards what a server with little memory promises: room that was made is used, whatever sizes it was made of. A real server on real files.

import assert from "node:assert/strict";
import { rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import type { Server } from "#roles/server";
import { RawClient, type Tree } from "./redis/raw-client.ts";
import { newDataFolder, startWholeServer } from "./whole-server.ts";

const said = ([type, content]: Tree): string => `${type}${String(content)}`;

/** Writes `SET name:N value` until one is refused; how many were taken. */
async function fill(client: RawClient, name: string, value: string): Promise<number> {
  for (let written = 0; written < 20_000;) {
    const replies = (await client.send(Array.from({ length: 20 }, (_one, index) => ["SET", `${name}:${written + index}`, value]))).map(said);
    const refused = replies.findIndex((reply) => reply !== "+OK");
    if (refused < 0) {
      written += replies.length;
      continue;
    }
    assert.match(replies[refused]!, /^-OOM /);
    return written + refused;
  }
  throw new Error("never refused");
}

interface StoreSaid {
  readonly state: { readonly runs: readonly { readonly bytes: number }[] };
  readonly memory: Readonly<Record<string, number>>;
}

async function storeOf({ address }: Server): Promise<StoreSaid> {
  return (await (await fetch(`${address}/v1/store`)).json()) as StoreSaid;
}

const skip = process.env["MILLRACE_LONG"] === undefined ? "takes 30 s, a long test: npm run test:long -- little-memory" : false;

test("promise: a store that was full takes as much again after deletes and a merge, with values of another size", { skip }, async (t) => {
  const server = await startWholeServer(t, { storage: { memoryMiB: 64 } });
  const client = await RawClient.open(server.respPort);
  const fitted: string[] = [];
  for (const [round, bytes] of [100_000, 3_000, 400_000].entries()) {
    const value = "v".repeat(bytes);
    const written = await fill(client, `round${round}`, value);
    fitted.push(`${((written * bytes) / 2 ** 20).toFixed(1)} MiB of ${bytes} bytes`);
    assert.ok(written * bytes > 6e6, `round ${round}: ${fitted.join(", ")}`);
    // What was deleted makes room once it is flushed, which SAVE does not leave to time.
    await client.send([["FLUSHALL"], ["SAVE"]]);
    for (let waitedMs = 0; ; waitedMs += 100) {
      const [again] = await client.send([["SET", "probe", value]]);
      const { state, memory } = await storeOf(server);
      if (said(again!) === "+OK" && state.runs.reduce((sum, run) => sum + run.bytes, 0) < 4e6) break;
      assert.match(said(again!), /^(?:.OK$|-OOM )/);
      assert.ok(
        waitedMs < 30_000,
        `round ${round}: not merged 30 s after all keys were deleted: ${said(again!)} ${JSON.stringify(state)} ${JSON.stringify(memory)}`,
      );
      await sleep(100);
    }
  }
  const { memory } = await storeOf(server);
  t.diagnostic(`fitted: ${fitted.join(", ")}; ${memory["dropped"]} memories dropped, ${memory["droppedBytes"]} bytes not yet collected`);
  client.close();
});

test("promise: a table that grows from version to version is loaded each time while two versions have room", { skip }, async (t) => {
  const dataFolder = newDataFolder(t);
  const inputs = dirname(dataFolder);
  const tables = { items: { key: "string", columns: { text: { type: "string", owner: "batch" } } } };
  const server = await startWholeServer(t, { tables, storage: { memoryMiB: 64, importFolders: [inputs] } }, { dataFolder });
  const file = join(inputs, "rows.jsonl");
  t.after(() => {
    rmSync(file, { force: true });
  });
  const text = "t".repeat(1_000);
  for (const rows of [13_000, 16_000, 18_000]) {
    writeFileSync(file, Array.from({ length: rows }, (_one, id) => `{"id":"row:${id}","text":"${rows} ${text}"}\n`).join(""));
    const begun = await fetch(`${server.address}/v1/imports`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify({ table: "items", files: [file] }),
    });
    const { job } = (await begun.json()) as { job: string };
    for (let waitedMs = 0; ; waitedMs += 50) {
      const { stage, error } = (await (await fetch(`${server.address}/v1/imports/${job}`)).json()) as { stage: string; error?: string };
      assert.notEqual(stage, "failed", error);
      if (stage === "done") break;
      assert.ok(waitedMs < 60_000, `import of ${rows} rows: ${stage}`);
      await sleep(50);
    }
    for (let waitedMs = 0; ; waitedMs += 50) {
      const read = await fetch(`${server.address}/v1/tables/items/read`, {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ keys: [`row:${rows - 1}`], columns: ["text"] }),
      });
      const { rows: found = [] } = (await read.json()) as { rows?: (unknown[] | null)[] };
      if (found[0]?.[0] === `${rows} ${text}`) break;
      assert.ok(waitedMs < 10_000, `the version of ${rows} rows was not loaded: ${JSON.stringify((await storeOf(server)).memory)}`);
      await sleep(50);
    }
  }
  const { dropped, droppedBytes, totalBytes, capBytes } = (await storeOf(server)).memory;
  assert.ok(dropped! > 0, "the test means versions for which others must go");
  assert.ok(totalBytes! <= capBytes!);
  t.diagnostic(`${dropped} memories dropped, ${droppedBytes} bytes of them not yet collected`);
});
