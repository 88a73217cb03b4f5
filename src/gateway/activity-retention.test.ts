// Guards that trimming by age never takes what a restart needs, and takes what is old.

import assert from "node:assert/strict";
import { test } from "node:test";
import { openEmbeddedLog } from "#backbone/embedded-log";
import type { Durability, LogWriter } from "#backbone/log";
import { createMemoryRegistry } from "#backbone/memory-registry";
import { Prng } from "#base/prng";
import type { Clock } from "#platform/clock";
import { freshSeed } from "#platform/fresh-seed";
import { Simulation } from "#platform/simulation";
import { ActivityRetention, type LogNeed, provenAfterMs } from "./activity-retention.ts";
import type { LogConfig } from "./config.ts";

const minuteMs = 60_000;

interface World {
  readonly clock: Clock;
  readonly writer: LogWriter;
  readonly needs: LogNeed[];
  readonly warnings: string[];
  begin(config: LogConfig): ActivityRetention;
}

async function within(seed: number, body: (world: World) => Promise<void>): Promise<void> {
  const simulation = new Simulation({ seed });
  await simulation.run(async () => {
    const { files, clock } = simulation.node("a");
    const registry = createMemoryRegistry({ clock });
    const log = openEmbeddedLog({ files, clock, registry: registry.connect({ clock }), folder: "/log", durability: "always", segmentBytesMax: 4_096 });
    const writer = await log.openWriter("activity");
    const needs: LogNeed[] = [];
    const warnings: string[] = [];
    const begun: ActivityRetention[] = [];
    await body({
      clock,
      writer,
      needs,
      warnings,
      begin(config) {
        const retention = new ActivityRetention({ writer, clock, config, needs: () => needs, warn: (message) => warnings.push(message) });
        begun.push(retention);
        retention.start();
        return retention;
      },
    });
    for (const retention of begun) await retention.stop();
    await log.close();
    await registry.close();
  });
}

const seed = freshSeed();

test(`promise: nothing that somebody needs is trimmed, whatever its age, and what is old and needed by nobody goes (SEED=${seed})`, async () => {
  await within(seed, async ({ clock, writer, needs, begin }) => {
    const random = new Prng(seed);
    const retentionHours = random.pick([0, 0.5, 3]);
    needs.push({ who: "a", offset: 0 }, { who: "b", offset: 0 });
    const retention = begin({ retentionHours });
    const appendedMs: number[] = [];
    let trimmed = 0;
    for (let round = 0; round < 300; round += 1) {
      const before = writer.bounds;
      // A need rises, at times up to the end; it is at its new offset before anything else is appended.
      const at = random.below(2);
      if (random.chance(0.3)) needs[at] = { ...needs[at]!, offset: random.between(needs[at]!.offset, before.next) };
      const lowest = Math.min(...needs.map(({ offset }) => offset));
      await writer.append([new Uint8Array(random.between(1, 1_500))]);
      appendedMs.push(clock.nowMs());
      await clock.sleep(random.below(2 * minuteMs) + 6_000);
      const { first } = writer.bounds;
      assert.ok(first <= lowest, `round ${round}: records up to ${first} are gone, ${lowest} is needed`);
      const youngMs = clock.nowMs() - retentionHours * 3_600_000;
      for (let gone = before.first; gone < first; gone += 1) assert.ok(appendedMs[gone]! <= youngMs, `record ${gone} went too young`);
      trimmed += first - before.first;
      assert.deepEqual([retention.state.first, retention.state.neededFrom], [first, lowest]);
    }
    assert.equal(retention.state.trimmed, trimmed);
    // Nobody needs anything, and all is old.
    const { next } = writer.bounds;
    for (const [at, need] of needs.entries()) needs[at] = { ...need, offset: next };
    await clock.sleep((retentionHours + 1) * 3_600_000);
    assert.ok(writer.bounds.first > next - 10, `${next - writer.bounds.first} records are left`);
  });
});

test("a size is kept to, needs before size, and who holds the log is named", async () => {
  await within(3, async ({ clock, writer, needs, begin }) => {
    needs.push({ who: "the kept aggregations", offset: 0 }, { who: "the model", offset: 0 });
    const retention = begin({ retentionGb: 20_000 / 1e9 });
    const append = async (): Promise<void> => {
      for (let i = 0; i < 100; i += 1) await writer.append([new Uint8Array(1_000)]);
      await clock.sleep(minuteMs);
    };
    await append();
    assert.equal(writer.bounds.first, 0);
    needs[0] = { who: "the kept aggregations", offset: 100 };
    await append();
    assert.equal(writer.bounds.first, 0);
    assert.equal(retention.state.neededBy, "the model");
    needs[1] = { who: "the model", offset: 100 };
    await append();
    assert.ok(writer.bounds.first <= 100 && writer.bounds.first > 95);
    for (const [at, need] of needs.entries()) needs[at] = { ...need, offset: 300 };
    await append();
    const left = writer.bounds.next - writer.bounds.first;
    assert.ok(left * 1_000 <= 400 * 1_000 - 300 * 1_000 + 5_000 && left >= 100, `${left} records are left, 100 are needed`);
  });
});

test("where a power cut may take writes of the store back, a checkpoint counts only after a while", async () => {
  for (const durability of ["always", "interval", "none"] satisfies Durability[]) {
    await within(4, async ({ clock, writer, needs, begin }) => {
      const waitMs = provenAfterMs[durability];
      for (let i = 0; i < 100; i += 1) await writer.append([new Uint8Array(1_000)]);
      begin({ retentionHours: 0 });
      needs.push({ who: "the kept aggregations", offset: 50, provenAfterMs: waitMs });
      await clock.sleep(Math.max(6_000, waitMs - 6_000));
      assert.equal(writer.bounds.first > 0, durability === "always", durability);
      // A newer one does not make the older one younger.
      needs[0] = { ...needs[0]!, offset: 90 };
      await clock.sleep(12_000);
      const { first } = writer.bounds;
      assert.ok(durability === "always" ? first > 80 : first > 40 && first <= 50, `${durability}: ${first}`);
      await clock.sleep(waitMs + 6_000);
      assert.ok(writer.bounds.first > 80 && writer.bounds.first <= 90);
    });
  }
});

test("a log that cannot be trimmed is told once, and tried again", async () => {
  await within(5, async ({ clock, writer, needs, warnings, begin }) => {
    for (let i = 0; i < 100; i += 1) await writer.append([new Uint8Array(1_000)]);
    needs.push({ who: "the kept aggregations", offset: 100 });
    const retention = begin({ retentionHours: 0 });
    await writer.close();
    await clock.sleep(minuteMs);
    assert.equal(warnings.length, 1);
    assert.match(warnings[0]!, /grows beyond its retention: .*closed/);
    assert.ok(retention.state.trouble !== undefined);
  });
});
