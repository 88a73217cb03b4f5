// Guards the live rows of a replica: what the log said last is what a look-up gives, through growth, trims and damage.

import assert from "node:assert/strict";
import { test } from "node:test";
import { openEmbeddedLog } from "#backbone/embedded-log";
import type { Log, LogWriter } from "#backbone/log";
import { createMemoryRegistry } from "#backbone/memory-registry";
import type { Registry } from "#backbone/registry";
import type { MillraceError } from "#base/errors";
import { Prng } from "#base/prng";
import { EntryRefs } from "#kernel/entry-refs";
import { KeyBatch } from "#kernel/key-batch";
import { keySeed } from "#kernel/key-hash";
import { MemoryPool } from "#kernel/memory-pool";
import { EffectBatch } from "#lsm/effect-batch";
import { effectHeadBytes, encodeEffectHead } from "#lsm/effect-record";
import { engineKey, isHidden } from "#lsm/store";
import { type SimulatedNode, Simulation } from "#platform/simulation";
import { DeltaFollower, type DeltaFollowerOptions } from "./delta-follower.ts";
import { folderFeed } from "./effect-feed.ts";

const seed = Number(process.env["SEED"] ?? 29);
const partition = "table-log";
const ascii = (text: string): Uint8Array => new TextEncoder().encode(text);

interface World {
  readonly node: SimulatedNode;
  readonly log: Log;
  readonly registry: Registry;
  readonly writer: LogWriter;
  /** Logs a batch as one transaction. */
  write(fill: (effects: EffectBatch) => void): Promise<void>;
  follower(more?: Partial<DeltaFollowerOptions> & { bytesMax?: number }): { follower: DeltaFollower; alarms: MillraceError[] };
}

async function inWorld(body: (world: World) => Promise<void>): Promise<void> {
  const simulation = new Simulation({ seed });
  const kept = createMemoryRegistry({ clock: simulation.clock });
  await simulation.run(async () => {
    const node = simulation.node("a");
    const ran = await node.run(async () => {
      const registry = kept.connect({ clock: simulation.clock, alive: () => node.alive });
      const log = openEmbeddedLog({ files: node.files, clock: node.clock, registry, folder: "/data/log", durability: "always", segmentBytesMax: 16 * 1024 });
      const writer = await log.openWriter(partition);
      const effects = new EffectBatch();
      let sequence = 0;
      await body({
        node,
        log,
        registry,
        writer,
        async write(fill) {
          effects.clear();
          fill(effects);
          const record = new Uint8Array(effectHeadBytes + effects.bytes);
          encodeEffectHead(record, { flags: 0, entries: effects.count, producer: 1, sequence: sequence++ });
          record.set(effects.entries, effectHeadBytes);
          await writer.append([record]);
        },
        follower({ bytesMax = 1 << 26, ...more } = {}) {
          const alarms: MillraceError[] = [];
          const pool = new MemoryPool({ capBytes: 1 << 28 });
          const feed = folderFeed({ files: node.files, clock: node.clock, registry, log, folder: "/data/runs", partition, pool });
          const tables = { pool, owner: "test", seed: keySeed(1n), bytesMax };
          return { follower: new DeltaFollower({ feed, clock: node.clock, namespace: 3, tables, onAlarm: (alarm) => alarms.push(alarm), ...more }), alarms };
        },
      });
      await log.close();
    });
    assert.equal(ran.crashed, false);
  });
}

const refs = new EntryRefs();
function look(follower: DeltaFollower, keys: readonly string[], nowMs = 0): (string | undefined | "hidden")[] {
  follower.getMany(KeyBatch.of(keys.map((key) => engineKey(3, ascii(key)))), refs, nowMs);
  return keys.map((_, i) => (refs.source[i] === 255 ? (isHidden(refs, i) ? "hidden" : undefined) : new TextDecoder().decode(follower.bytesOf(refs, i))));
}

/** Until the follower has read to the end of the log. */
async function caughtUp({ writer, node }: World, follower: DeltaFollower): Promise<void> {
  for (let tries = 0; follower.offset < writer.bounds.next; tries++) {
    assert.ok(tries < 10_000, `it stands at ${follower.offset} of ${writer.bounds.next}`);
    await node.clock.sleep(1);
  }
}

test("promise: a replica's live rows are those of the log, also while they move into a larger table", async () => {
  console.log(`seed ${seed}`);
  await inWorld(async (world) => {
    const random = new Prng(seed);
    const model = new Map<string, string | "hidden">();
    const change = async (): Promise<void> =>
      world.write((effects) => {
        for (let n = 1 + random.below(40); n > 0; n--) {
          const key = `key-${random.below(6_000)}`;
          // Another table's rows come between.
          if (random.chance(0.3)) effects.put(4, ascii(key), 8, ascii("not mine"), 0, 0);
          if (random.chance(0.2)) {
            effects.delete(3, ascii(key), 0);
            model.set(key, "hidden");
          } else {
            const value = `${random.below(1e9)}`.repeat(1 + random.below(60));
            effects.put(3, ascii(key), 8, ascii(value), 0, 0);
            model.set(key, value);
          }
        }
      });
    for (let n = 0; n < 20; n++) await change();
    const { follower, alarms } = world.follower();
    await follower.start();
    assert.equal(follower.offset, world.writer.bounds.next, "everything that was logged before");
    let moves = 0;
    for (let step = 0; step < 400; step++) {
      await change();
      if (step % 10 !== 0) continue;
      await caughtUp(world, follower);
      const bytes = follower.state.bytes;
      const keys = Array.from({ length: 200 }, () => `key-${random.below(6_200)}`);
      assert.deepEqual(
        look(follower, keys),
        keys.map((key) => model.get(key)),
      );
      if (bytes > 1 << 20) moves += 1;
    }
    assert.ok(moves > 0, "more than the first table held");
    await caughtUp(world, follower);
    const all = [...model.keys()];
    assert.deepEqual(look(follower, all), [...model.values()]);
    await follower.stop();
    assert.deepEqual(alarms, []);
  });
});

test("an expired row hides the base and is no row", async () => {
  await inWorld(async (world) => {
    await world.write((effects) => effects.put(3, ascii("k"), 8, ascii("v"), 5_000, 1_000));
    const { follower } = world.follower();
    await follower.start();
    assert.deepEqual(look(follower, ["k", "other"], 4_999), ["v", undefined]);
    assert.deepEqual(look(follower, ["k", "other"], 5_000), ["hidden", undefined]);
    await follower.stop();
  });
});

test("a log that was trimmed under a follower is brought anew", async () => {
  await inWorld(async (world) => {
    const { follower } = world.follower({
      // Stands still in its first wait until the log has moved on.
      feed: slowFeed(world),
    });
    for (let n = 0; n < 200; n++) await world.write((effects) => effects.put(3, ascii(`k${n % 10}`), 8, ascii(`v${n}`.padEnd(400, ".")), 0, 0));
    await follower.start();
    await caughtUp(world, follower);
    assert.equal(look(follower, ["k9"])[0]!.slice(0, 4), "v199");
    assert.ok(follower.state.brought >= 1);
    await follower.stop();
  });

  function slowFeed(world: World): DeltaFollowerOptions["feed"] {
    const feed = folderFeed({
      files: world.node.files,
      clock: world.node.clock,
      registry: world.registry,
      log: world.log,
      folder: "/data/runs",
      partition,
      pool: new MemoryPool(),
    });
    let brought = 0;
    return {
      ...feed,
      async bring(namespace, sink, signal) {
        brought += 1;
        if (brought > 1) return (await world.log.bounds(partition)).first;
        const offset = await feed.bring(namespace, sink, signal);
        await world.writer.trim(world.writer.bounds.next);
        assert.ok((await world.log.bounds(partition)).first > 0);
        return offset;
      },
    };
  }
});

test("promise: damaged effects stop the following, not the reads", async () => {
  await inWorld(async (world) => {
    await world.write((effects) => effects.put(3, ascii("k"), 8, ascii("good"), 0, 0));
    const { follower, alarms } = world.follower();
    await follower.start();
    await world.writer.append([ascii("this is no effect record at all")]);
    while (alarms.length === 0) await world.node.clock.sleep(1);
    assert.equal(alarms[0]!.code, "corrupt");
    assert.deepEqual(look(follower, ["k"]), ["good"]);
    assert.equal(follower.state.failure?.code, "corrupt");
    await follower.stop();
  });
});

test("a replica that takes no more rows says so and keeps what it has", async () => {
  await inWorld(async (world) => {
    const { follower, alarms } = world.follower({ bytesMax: 1 << 20 });
    await follower.start();
    for (let n = 0; n < 40; n++) await world.write((effects) => effects.put(3, ascii(`k${n}`), 8, new Uint8Array(60_000), 0, 0));
    while (alarms.length === 0) await world.node.clock.sleep(1);
    assert.equal(alarms[0]!.code, "overloaded");
    assert.ok(look(follower, ["k0"])[0] !== undefined);
    await follower.stop();
  });
});
