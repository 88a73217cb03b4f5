// The log against a model, through crashes: a list of the appends in the order of their calls. Whatever happens, the log is the beginning of that list,
// cut between two appends, and not before anything that the policy promised to keep.
// Each case is a seed: SEED=n replays one alone. The last test runs the same checker on a log that skips its syncs: it must be caught.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { Files, OpenFile } from "#platform/files";
import type { InstalledFault } from "#platform/simulated-disk";
import { Simulation, type SimulatedNode } from "#platform/simulation";
import { refusal } from "./suite.contract.ts";
import { openEmbeddedLog } from "./embedded-log.ts";
import type { Durability, Log, LogWriter } from "./log.ts";
import { createMemoryRegistry, type MemoryRegistry } from "./memory-registry.ts";

const intervalMs = 200;
const partition = "events";

interface Issued {
  readonly records: readonly string[];
  /** Simulated time of the acknowledgement. */
  ackedMs: number | undefined;
}

interface CrashCase {
  readonly seed: number;
  readonly durability: Durability;
  readonly how: "kill" | "power";
  readonly rounds: number;
  /** Disk faults between the crashes. */
  readonly faults?: boolean;
  /** A mutant of the file system. */
  readonly files?: (files: Files) => Files;
}

interface CrashReport {
  readonly acked: number;
  readonly kept: number;
  readonly lost: number;
  readonly crashes: number;
}

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const text = (value: Uint8Array): string => new TextDecoder().decode(value);

function openLog(node: SimulatedNode, registry: MemoryRegistry, durability: Durability, files: Files): Log {
  return openEmbeddedLog({
    files,
    clock: node.clock,
    registry: registry.connect({ clock: node.clock, alive: () => node.alive }),
    folder: "/log",
    durability,
    intervalMs,
    segmentBytesMax: 4096,
  });
}

/** Reads everything and compares it with the model; forgets what was not kept. */
async function compare(
  log: Log,
  writer: LogWriter,
  issued: Issued[],
  mustKeep: (append: Issued) => boolean,
  trimmed: number,
): Promise<{ kept: number; lost: number }> {
  const { first, next } = writer.bounds;
  assert.ok(first <= trimmed, `the log begins at ${first}, trimmed was only ${trimmed}`);
  const found: string[] = [];
  for (let at = first; at < next;) {
    const chunk = (await log.read(partition, at, 2_000))!;
    for (const record of chunk.records) found.push(text(record));
    at += chunk.records.length;
  }
  assert.equal(found.length, next - first);
  let offset = 0;
  let kept = 0;
  while (kept < issued.length && offset < next) {
    const { records } = issued[kept]!;
    for (const record of records) {
      if (offset >= first) assert.equal(found[offset - first], record, `record ${offset}`);
      offset += 1;
    }
    kept += 1;
  }
  assert.equal(offset, next, "the log ends between two appends and holds nothing that was never appended");
  const lost = issued.splice(kept);
  for (const append of lost) assert.ok(!mustKeep(append), `an append acknowledged at ${append.ackedMs} ms is gone: ${append.records[0]}`);
  return { kept, lost: lost.filter((append) => append.ackedMs !== undefined).length };
}

/** Appends, reads, trims and fails on a simulated machine that is crashed `rounds` times; throws when the log breaks a promise. */
async function survive(crash: CrashCase): Promise<CrashReport> {
  const simulation = new Simulation({ seed: crash.seed });
  const { random } = simulation;
  const issued: Issued[] = [];
  const report = { acked: 0, kept: 0, lost: 0, crashes: 0 };
  let count = 0;
  let trimmed = 0;
  await simulation.run(async () => {
    const registry = createMemoryRegistry({ clock: simulation.clock });
    let mustKeep: (append: Issued) => boolean = () => true;
    let fault: InstalledFault | undefined;
    for (let round = 0; round <= crash.rounds; round += 1) {
      const node = simulation.node("a");
      const files = crash.files?.(node.files) ?? node.files;
      const ended = node.run(async () => {
        for (;;) {
          const log = openLog(node, registry, crash.durability, files);
          const writer = await log.openWriter(partition);
          const found = await compare(log, writer, issued, mustKeep, trimmed);
          report.kept = found.kept;
          report.lost += found.lost;
          if (round === crash.rounds) return log.close();
          // What is there now is what the promise is about from here on: it was made durable when the writer opened.
          for (const append of issued) append.ackedMs ??= -Infinity;
          mustKeep = (append) => append.ackedMs !== undefined;
          if (crash.faults === true && random.chance(0.5)) {
            fault = node.disk.fail({ operation: random.pick(["write", "sync"]), path: ".seg", after: random.below(20) });
          }
          const seen: string[] = [];
          const abort = new AbortController();
          const following = follow(log, writer.bounds.next, seen, abort.signal);
          const from = issued.length;
          const appender = async (): Promise<void> => {
            for (;;) {
              const records = Array.from({ length: 1 + random.below(5) }, () => `${(count += 1)}:`.padEnd(random.below(300), "x"));
              const append: Issued = { records, ackedMs: undefined };
              issued.push(append);
              await writer.append(records.map(bytes));
              append.ackedMs = simulation.clock.monotonicMs();
              report.acked += 1;
              if (random.chance(crash.durability === "interval" ? 0.9 : 0.3)) await node.clock.sleep(random.below(30));
            }
          };
          const trimmer = async (): Promise<void> => {
            for (;;) {
              await node.clock.sleep(20 + random.below(100));
              trimmed = Math.max(trimmed, random.below(writer.bounds.next + 1));
              await writer.trim(trimmed);
            }
          };
          const ends = await Promise.allSettled([...Array.from({ length: 1 + random.below(4) }, appender), trimmer()]);
          // Only a fault of the disk brings us here.
          for (const end of ends) if (end.status === "rejected" && !refusal("unavailable")(end.reason)) throw end.reason;
          assert.ok(fault !== undefined && fault.hits > 0);
          await assert.rejects(writer.append([bytes("after the fault")]), refusal("unavailable"));
          abort.abort();
          await following;
          const inOrder = issued.slice(from).flatMap((append) => append.records);
          assert.deepEqual(seen, inOrder.slice(0, seen.length));
          fault.remove();
          await log.close().catch(() => undefined);
        }
      });
      if (round === crash.rounds) {
        assert.equal((await ended).crashed, false);
        break;
      }
      await Promise.race([ended, simulation.clock.sleep(random.below(crash.durability === "interval" ? 400 : 150))]);
      const nowMs = simulation.clock.monotonicMs();
      node.crash(crash.how);
      fault?.remove();
      report.crashes += 1;
      await ended;
      if (crash.how === "power" && crash.durability !== "always") {
        const keptUntil = crash.durability === "interval" ? nowMs - intervalMs : -Infinity;
        mustKeep = (append) => append.ackedMs !== undefined && append.ackedMs < keptUntil;
      }
    }
    await registry.close();
  });
  return report;
}

async function follow(log: Log, from: number, into: string[], signal: AbortSignal): Promise<void> {
  for await (const { records } of log.tail(partition, from, signal)) for (const record of records) into.push(text(record));
}

const replay = process.env["SEED"] === undefined ? undefined : Number(process.env["SEED"]);
const long = process.env["MILLRACE_LONG"] !== undefined;

async function surviveAll(cases: number, crash: Omit<CrashCase, "seed">): Promise<CrashReport & { seeds: string }> {
  const seeds = replay === undefined ? Array.from({ length: long ? cases * 10 : cases }, (_, i) => 1 + i) : [replay];
  const total = { acked: 0, kept: 0, lost: 0, crashes: 0, seeds: `seeds ${seeds[0]} to ${seeds.at(-1)}` };
  for (const seed of seeds) {
    const report = await survive({ ...crash, seed });
    total.acked += report.acked;
    total.kept += report.kept;
    total.lost += report.lost;
    total.crashes += report.crashes;
  }
  return total;
}

test("promise: every record acknowledged at always survives 200 power cuts that drop or tear what was not synced", async (t) => {
  const total = await surviveAll(50, { durability: "always", how: "power", rounds: 4 });
  if (replay === undefined) assert.ok(total.crashes >= 200 && total.acked > 2_000);
  assert.equal(total.lost, 0);
  t.diagnostic(`${total.crashes} power cuts, ${total.acked} acknowledged appends, 0 lost, ${total.seeds}`);
});

test("promise: at interval a power cut costs at most what was acknowledged in the last interval, in 200 power cuts", async (t) => {
  const total = await surviveAll(50, { durability: "interval", how: "power", rounds: 4 });
  if (replay === undefined) assert.ok(total.crashes >= 200 && total.lost > 0, "power cuts that cost nothing prove nothing");
  t.diagnostic(`${total.crashes} power cuts, ${total.acked} acknowledged appends, ${total.lost} lost, all within the last ${intervalMs} ms, ${total.seeds}`);
});

test("at none a power cut may cost anything, but leaves whole appends from the beginning", async () => {
  await surviveAll(20, { durability: "none", how: "power", rounds: 3 });
});

test("promise: kill -9 loses nothing acknowledged, at any policy (simulated)", async () => {
  for (const durability of ["always", "interval", "none"] as const) {
    const total = await surviveAll(10, { durability, how: "kill", rounds: 3 });
    assert.equal(total.lost, 0);
  }
});

test("promise: after a write or sync that failed the writer acknowledges nothing, and what it had acknowledged at always survives", async () => {
  await surviveAll(40, { durability: "always", how: "power", rounds: 3, faults: true });
});

test("faults of the disk at interval", async () => {
  await surviveAll(15, { durability: "interval", how: "kill", rounds: 3, faults: true });
});

/** Files whose syncs succeed without doing anything. */
function withoutSync(files: Files): Files {
  const wrap = (file: OpenFile | undefined): OpenFile | undefined =>
    file === undefined
      ? undefined
      : {
          write: (part, position) => file.write(part, position),
          writeAll: (parts, position) => file.writeAll(parts, position),
          read: (into, position) => file.read(into, position),
          size: () => file.size(),
          truncate: (size) => file.truncate(size),
          sync: async () => undefined,
          close: () => file.close(),
        };
  return {
    open: async (path, mode) => wrap(await files.open(path, mode)),
    readFile: (path) => files.readFile(path),
    writeFileAtomic: (path, content) => files.writeFileAtomic(path, content),
    list: (folder) => files.list(folder),
    sizeOf: (path) => files.sizeOf(path),
    rename: (from, to) => files.rename(from, to),
    remove: (path) => files.remove(path),
    removeFolder: (path) => files.removeFolder(path),
    makeFolder: (path) => files.makeFolder(path),
    syncFolder: (path) => files.syncFolder(path),
    join: (...parts) => files.join(...parts),
  };
}

test("promise: a log that skips its syncs is caught by the same test", async (t) => {
  for (const durability of ["always", "interval"] as const) {
    let caught = 0;
    for (let seed = 1; seed <= 10; seed += 1) {
      await survive({ seed, durability, how: "power", rounds: 4, files: withoutSync }).catch(() => (caught += 1));
    }
    assert.ok(caught >= 8, `${caught} of 10 runs caught the mutant at ${durability}`);
    t.diagnostic(`${durability}: caught in ${caught} of 10 runs`);
  }
});
