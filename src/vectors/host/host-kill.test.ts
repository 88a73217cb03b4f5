// kill -9 on a real process with real files: every write that was acknowledged is there, and is found.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { openSync, readFileSync, writeSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { openEmbeddedLog } from "#backbone/embedded-log";
import { openFolderBlobs } from "#backbone/folder-blobs";
import { openSqliteRegistry } from "#backbone/sqlite-registry";
import { systemClock } from "#platform/system-clock";
import { systemFiles } from "#platform/system-files";
import { systemProcesses } from "#platform/system-processes";
import { systemRandom } from "#platform/system-random";
import { SnapshotStore } from "#snapshot/snapshot-store";
import { vectorsKind } from "../builder/version-config.ts";
import { VectorClient } from "./vector-client.ts";
import { VectorHost } from "./vector-host.ts";

const dims = 8;
const rounds = 2;

/** Of element n in round r: another one each time it is written. */
const vectorOf = (n: number, version: number): Float32Array<ArrayBuffer> =>
  Float32Array.from({ length: dims }, (_, j) => Math.sin(n * 7 + version * 13 + j) + (j === n % dims ? 2 : 0));

async function open(folder: string): Promise<{ client: VectorClient; close(): Promise<void> }> {
  const registry = openSqliteRegistry({ path: join(folder, "registry.sqlite"), clock: systemClock, processes: systemProcesses });
  const log = openEmbeddedLog({ files: systemFiles, clock: systemClock, registry, folder: join(folder, "log"), durability: "interval", leaseMs: 60_000 });
  const blobs = openFolderBlobs({ files: systemFiles, folder: join(folder, "blobs"), processes: systemProcesses });
  const ready = Promise.withResolvers<void>();
  const abort = new AbortController();
  const client: VectorClient = new VectorClient({ clock: systemClock, memoryBytesMax: 1 << 30, warn: console.error, send: (message) => host.hear(message) });
  const host: VectorHost = new VectorHost({
    config: { collections: { things: { dims, metric: "ip" } } },
    clock: systemClock,
    files: systemFiles,
    registry,
    log,
    snapshots: (keepVersions) => new SnapshotStore({ blobs, registry, clock: systemClock, random: systemRandom, kind: vectorsKind, keepVersions }),
    random: systemRandom,
    node: "a",
    folder: join(folder, "vectors"),
    fold: () => Promise.reject(new Error("no fold is due")),
    tell: (message) => {
      if (client.hear(message)) ready.resolve();
    },
  });
  const running = host.run(abort.signal);
  running.catch(ready.reject);
  await ready.promise;
  return {
    client,
    async close() {
      abort.abort();
      await running;
      await log.close();
      await registry.close();
    },
  };
}

/** Where the writing process notes what was acknowledged: in a file, since what waits in a stream of its own dies with it. */
const notesOf = (folder: string, round: number): string => join(folder, `acknowledged-${round}`);

/** The writing process: three writers at once, each with its own elements; notes `element version` of every acknowledged row. */
async function writeForEver(folder: string, round: number): Promise<void> {
  const { client } = await open(folder);
  const notes = openSync(notesOf(folder, round), "a");
  const work = async (worker: number): Promise<void> => {
    for (let version = 1; ; version++) {
      for (let n = 0; n < 40; n++) {
        const element = worker * 40 + n;
        if (version % 5 === 0 && n % 4 === 0) {
          await client.remove("things", [`e${element}`]);
          writeSync(notes, `${element} 0\n`);
        } else {
          await client.upsert("things", { elements: [`e${element}`], vectors: vectorOf(element, version), attributes: [JSON.stringify({ version })] });
          writeSync(notes, `${element} ${version}\n`);
        }
      }
    }
  };
  await Promise.all([work(0), work(1), work(2)]);
}

if (process.env["MILLRACE_KILLED_FOLDER"] !== undefined) {
  await writeForEver(process.env["MILLRACE_KILLED_FOLDER"], Number(process.env["MILLRACE_KILLED_ROUND"]));
} else {
  test("promise: kill -9 of the writing process loses no acknowledged vector, and the next one finds them", async (t) => {
    const folder = await mkdtemp(join(tmpdir(), "millrace-vectors-kill-"));
    let acknowledged = 0;
    try {
      for (let round = 0; round < rounds; round++) {
        const child = spawn(process.execPath, [import.meta.filename], {
          stdio: ["ignore", "inherit", "inherit"],
          env: { ...process.env, MILLRACE_KILLED_FOLDER: folder, MILLRACE_KILLED_ROUND: String(round) },
        });
        const noted = (): string => readFileSync(notesOf(folder, round), { encoding: "utf8", flag: "a+" });
        while (noted().length < 2_000) {
          assert.equal(child.exitCode, null, "the writing process ended by itself");
          await systemClock.sleep(10);
        }
        await systemClock.sleep(round * 90);
        child.kill("SIGKILL");
        await once(child, "close");
        const output = noted();
        // The last acknowledged version of each element; a later one, not acknowledged, may be there.
        const last = new Map<number, number>();
        for (const line of output.slice(0, output.lastIndexOf("\n")).split("\n")) {
          const [element, version] = line.split(" ").map(Number);
          last.set(element!, version!);
        }
        acknowledged += last.size;
        const { client, close } = await open(folder);
        const elements = [...last.keys()];
        const found = await client.get(
          "things",
          elements.map((n) => `e${n}`),
        );
        let later = 0;
        for (const [i, n] of elements.entries()) {
          const version = last.get(n)!;
          const attributes = found!.attributes[i];
          const there = attributes === undefined ? 0 : (JSON.parse(attributes) as { version: number }).version;
          if (there === version) continue;
          // One write of each of three writers may have been under way.
          later += 1;
          assert.ok(there === 0 || version === 0 || there === version + 1 || there === 1, `e${n} is at ${there}, ${version} was acknowledged`);
        }
        assert.ok(later <= 3, `${later} elements are not as they were acknowledged`);
        for (const [i, n] of elements.entries()) {
          if (found!.found[i] === 0 || i % 10 !== 0) continue;
          const answer = await client.search({ collection: "things", queries: found!.vectors.slice(i * dims, (i + 1) * dims), count: 120 });
          assert.ok(answer!.elements.includes(`e${n}`));
        }
        await close();
      }
      t.diagnostic(`${rounds} kills, ${acknowledged} elements looked at`);
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  });
}
