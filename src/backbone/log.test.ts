// The log contract on the embedded engine: on the machine with the SQLite registry, and simulated with the memory registry. And what this engine alone promises.

import assert from "node:assert/strict";
import { test } from "node:test";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Simulation } from "#platform/simulation";
import { systemClock } from "#platform/system-clock";
import { systemFiles } from "#platform/system-files";
import { systemProcesses } from "#platform/system-processes";
import { StoppableClock } from "./suite.contract.ts";
import { openEmbeddedLog } from "./embedded-log.ts";
import type { Durability, Log } from "./log.ts";
import { logContract, readAll } from "./log.contract.ts";
import { createMemoryRegistry } from "./memory-registry.ts";
import type { Registry } from "./registry.ts";
import { openSqliteRegistry } from "./sqlite-registry.ts";

/** Short enough to be waited for, long enough for a busy machine. */
const leaseMs = 600;

for (const durability of ["always", "interval", "none"] satisfies Durability[]) {
  // Small segments in one of them, so that the whole contract also runs over rotation.
  const segmentBytesMax = durability === "interval" ? 4096 : 64 * 1024 * 1024;

  // At `none` the machine shows nothing that the simulation does not.
  if (durability !== "none") {
    logContract({
      name: `files, ${durability}`,
      within: async (body) => {
        const folder = await mkdtemp(join(tmpdir(), "millrace-log-"));
        const logs: Log[] = [];
        const registries: Registry[] = [];
        const open = (clock: StoppableClock): Log => {
          const registry = openSqliteRegistry({ path: join(folder, "registry.sqlite"), clock, processes: systemProcesses });
          const log = openEmbeddedLog({ files: systemFiles, clock: systemClock, registry, folder: join(folder, "log"), durability, segmentBytesMax, leaseMs });
          registries.push(registry);
          logs.push(log);
          return log;
        };
        try {
          await body({
            clock: systemClock,
            open: async () => open(new StoppableClock(systemClock)),
            openStoppable: async () => {
              const clock = new StoppableClock(systemClock);
              return { log: open(clock), stop: () => clock.stop() };
            },
          });
        } finally {
          for (const log of logs) await log.close().catch(() => undefined);
          for (const registry of registries) await registry.close();
          await rm(folder, { recursive: true, force: true });
        }
      },
    });
  }

  logContract({
    name: `simulated, ${durability}`,
    within: async (body) => {
      const simulation = new Simulation({ seed: process.env["SEED"] ?? 1 });
      await simulation.run(async () => {
        const { files, clock } = simulation.node("a");
        const registry = createMemoryRegistry({ clock });
        const logs: Log[] = [];
        const open = (registryClock: StoppableClock): Log => {
          const log = openEmbeddedLog({
            files,
            clock,
            registry: registry.connect({ clock: registryClock }),
            folder: "/log",
            durability,
            segmentBytesMax,
            leaseMs,
          });
          logs.push(log);
          return log;
        };
        await body({
          clock,
          open: async () => open(new StoppableClock(clock)),
          openStoppable: async () => {
            const stoppable = new StoppableClock(clock);
            return { log: open(stoppable), stop: () => stoppable.stop() };
          },
        });
        for (const log of logs) await log.close().catch(() => undefined);
        await registry.close();
      });
    },
  });
}

test("what a reader was given stays as it is while the writer's buffer is used again, read just now or long ago", async () => {
  const simulation = new Simulation({ seed: process.env["SEED"] ?? 1 });
  await simulation.run(async () => {
    const { files, clock } = simulation.node("a");
    const registry = createMemoryRegistry({ clock });
    const log = openEmbeddedLog({ files, clock, registry: registry.connect({ clock }), folder: "/log", durability: "interval" });
    const writer = await log.openWriter("p");
    // Of sizes that make the buffer grow, up to groups that get one of their own.
    const sizes = [10, 70_000, 3, 20_000, 600_000, 500];
    const expected: string[] = [];
    const held: { bytes: Uint8Array; text: string }[] = [];
    for (let round = 0; round < 30; round += 1) {
      const text = String.fromCharCode(97 + (round % 26)).repeat(sizes[round % sizes.length]!);
      expected.push(text);
      const { firstOffset } = await writer.append([new TextEncoder().encode(text)]);
      // Stretches with a reader, which are served out of memory, and stretches of half a minute without one.
      if (round % 10 < 5) {
        const found = await log.read("p", firstOffset, 1);
        held.push({ bytes: found!.records[0]!, text });
      } else {
        await clock.sleep(5_000);
      }
      if (round % 10 === 9) assert.deepEqual(await readAll(log, "p"), expected, `round ${round}`);
    }
    for (const { bytes, text } of held) assert.equal(new TextDecoder().decode(bytes), text);
    await log.close();
    await registry.close();
  });
});

test("segments are old once the next one was begun before that time, also those that another process wrote", async () => {
  const simulation = new Simulation({ seed: process.env["SEED"] ?? 1 });
  await simulation.run(async () => {
    const { files, clock } = simulation.node("a");
    const registry = createMemoryRegistry({ clock });
    const open = (): Log =>
      openEmbeddedLog({ files, clock, registry: registry.connect({ clock }), folder: "/log", durability: "interval", segmentBytesMax: 4096 });
    let log = open();
    let writer = await log.openWriter("p");
    const appendedMs: number[] = [];
    const append = async (count: number): Promise<void> => {
      for (let i = 0; i < count; i += 1) {
        await writer.append([new Uint8Array(1_000)]);
        appendedMs.push(clock.nowMs());
        await clock.sleep(60_000);
      }
    };
    await append(20);
    await log.close();
    log = open();
    writer = await log.openWriter("p");
    await append(20);
    for (const minutes of [0, 3, 10, 25, 39]) {
      const beforeMs = appendedMs[minutes]!;
      const upTo = await writer.oldUpTo({ beforeMs });
      assert.ok(
        appendedMs.slice(0, upTo).every((ms) => ms < beforeMs),
        `${upTo} records are old at minute ${minutes}`,
      );
      // Three records a segment; one that began at that minute is not older than it.
      assert.ok(upTo >= minutes - 5, `${upTo} at minute ${minutes}`);
    }
    const upTo = await writer.oldUpTo({ bytesMax: 10_000 });
    assert.ok(upTo >= 28 && upTo <= 33, `${upTo}`);
    await log.close();
    await registry.close();
  });
});
