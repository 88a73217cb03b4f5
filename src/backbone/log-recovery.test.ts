// What a writer finds when it opens: torn tails, decayed bits, full disks, segments that replaced writers left, takeovers that never ended.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { MillraceError } from "#base/errors";
import type { Files } from "#platform/files";
import { Simulation, type SimulatedNode } from "#platform/simulation";
import { refusal } from "./suite.contract.ts";
import { openEmbeddedLog } from "./embedded-log.ts";
import type { Durability, Log } from "./log.ts";
import { readAll } from "./log.contract.ts";
import { createMemoryRegistry } from "./memory-registry.ts";
import { PartitionFolder } from "./partition-folder.ts";
import { claimName, segmentHeaderBytes, segmentName } from "./segment-format.ts";

const record = (text: string): Uint8Array => new TextEncoder().encode(text);

interface World {
  readonly simulation: Simulation;
  readonly node: SimulatedNode;
  /** A log of a new process on the same disk, with nothing left of the leases of earlier ones. */
  open(durability?: Durability): Log;
  /** Bytes that the last opening cut off. */
  cutBytes(): number;
}

function within(body: (world: World) => Promise<void>, seed: number | string = process.env["SEED"] ?? 1): Promise<void> {
  const simulation = new Simulation({ seed });
  return simulation.run(async () => {
    const node = simulation.node("a");
    let cutBytes = 0;
    const onRecovery = (_partition: string, recovery: { cutBytes: number }): void => void (cutBytes = recovery.cutBytes);
    const open = (durability: Durability = "always"): Log =>
      openEmbeddedLog({
        files: node.files,
        clock: node.clock,
        registry: createMemoryRegistry({ clock: node.clock }),
        folder: "/log",
        durability,
        segmentBytesMax: 2048,
        onRecovery,
      });
    await body({ simulation, node, open, cutBytes: () => cutBytes });
  });
}

const segmentPaths = (node: SimulatedNode): string[] => [...node.disk.contents().keys()].filter((path) => path.endsWith(".seg"));

async function put(files: Files, path: string, bytes: Uint8Array): Promise<void> {
  const file = (await files.open(path, "write"))!;
  await file.truncate(0);
  await file.write(bytes, 0);
  await file.sync();
  await file.close();
}

test("a tail torn anywhere is cut between two appends, said to the operator, and what was there before stays", async () => {
  await within(async ({ node, open, cutBytes }) => {
    const log = open("none");
    const writer = await log.openWriter("p");
    for (let i = 0; i < 4; i += 1) await writer.append([record(`${i}a`), record(`${i}b`.repeat(i * 3))]);
    const [path] = segmentPaths(node);
    const whole = node.disk.contents().get(path!)!;
    const expected = await readAll(log, "p");
    await log.close();
    for (let size = segmentHeaderBytes; size <= whole.length; size += process.env["MILLRACE_LONG"] === undefined && size < whole.length - 120 ? 8 : 1) {
      await node.files.removeFolder("/log");
      await node.files.makeFolder("/log/p");
      await put(node.files, path!, whole.subarray(0, size));
      const again = open();
      const { bounds } = await again.openWriter("p");
      assert.equal(bounds.next % 2, 0);
      assert.deepEqual(await readAll(again, "p"), expected.slice(0, bounds.next));
      if (size === whole.length) assert.equal(bounds.next, 8);
      assert.ok(cutBytes() < 100 && (size === whole.length ? cutBytes() === 0 : true));
      if (size === whole.length - 8) assert.ok(cutBytes() > 0);
      await again.close();
      assert.deepEqual(await readAll(open(), "p"), expected.slice(0, bounds.next), "a reader of another process sees the same");
    }
  });
});

test("promise: a flipped bit anywhere below what was synced is refused by file and position, never read as a record", async () => {
  await within(async ({ node, open }) => {
    const log = open();
    const writer = await log.openWriter("p");
    for (let i = 0; i < 30; i += 1) await writer.append([record(`record ${i}`), record("x".repeat(i * 5))]);
    await writer.append([record("last")]);
    const expected = await readAll(log, "p");
    await log.close();
    const disk = node.disk.contents();
    const paths = segmentPaths(node);
    assert.ok(paths.length >= 3);
    const { random } = node;
    for (let round = 0; round < 150; round += 1) {
      const path = paths[round % paths.length]!;
      const isLast = path === paths.at(-1);
      // The mark at the end of the last segment proves the rest and is itself proved by nothing.
      const bytes = disk.get(path)!.length - (isLast ? 40 : 0);
      const bit = random.below(bytes * 8);
      node.disk.flipBit(path, bit);
      const reopened = open();
      const refused = await (async () => {
        await reopened.openWriter("p");
        return readAll(reopened, "p");
      })().then(
        (all) => {
          assert.deepEqual(all, expected);
          return undefined;
        },
        (thrown: unknown) => thrown as MillraceError,
      );
      assert.equal(refused?.code, "corrupt", `bit ${bit} of ${path}`);
      assert.ok(refused.message.includes(path) && /at byte \d+/.test(refused.message));
      await reopened.close();
      // Everything as it was: also what the refused writer may have begun.
      await node.files.removeFolder("/log");
      await node.files.makeFolder("/log/p");
      for (const [name, content] of disk) await put(node.files, name, content);
    }
  });
});

test("a follower in another process says corrupt when the damage lies before synced records, and waits at a frame under way", async () => {
  await within(async ({ node, open }) => {
    const registry = createMemoryRegistry({ clock: node.clock });
    const options = { files: node.files, clock: node.clock, registry, folder: "/log", durability: "always" } as const;
    const writer = await openEmbeddedLog(options).openWriter("p");
    for (let i = 0; i < 10; i += 1) await writer.append([record(`record ${i}`)]);
    const [path] = segmentPaths(node);
    node.disk.flipBit(path!, (segmentHeaderBytes + 56 * 4 + 44) * 8);
    const follow = async (): Promise<number> => {
      let count = 0;
      for await (const { records } of openEmbeddedLog({ ...options, registry: createMemoryRegistry({ clock: node.clock }) }).tail(
        "p",
        0,
        new AbortController().signal,
      )) {
        count += records.length;
        assert.ok(count <= 4);
      }
      return count;
    };
    await assert.rejects(follow(), refusal("corrupt"));
  });
});

test("a full disk: the writer refuses, and after space was made everything acknowledged is there", async () => {
  await within(async ({ node, open }) => {
    const log = open();
    const writer = await log.openWriter("p");
    await writer.append([record("before")]);
    node.disk.capacityBytes = 1_500;
    let acked = 1;
    await assert.rejects(async () => {
      for (;;) {
        await writer.append([record("y".repeat(300))]);
        acked += 1;
      }
    }, refusal("unavailable"));
    node.disk.capacityBytes = Infinity;
    await assert.rejects(writer.append([record("still refused")]), refusal("unavailable"));
    await assert.rejects(writer.sync(), refusal("unavailable"));
    await assert.rejects(writer.trim(0), refusal("unavailable"));
    assert.equal(writer.bounds.next, acked, "what was not acknowledged is not visible");
    await writer.close();
    const again = await log.openWriter("p");
    assert.ok(again.bounds.next >= acked);
    assert.equal((await again.append([record("after")])).firstOffset, again.bounds.next - 1);
  });
});

test("a sync that failed is not tried again, also not by close", async () => {
  await within(async ({ node, open }) => {
    const log = open("interval");
    const writer = await log.openWriter("p");
    await writer.append([record("a")]);
    node.disk.fail({ operation: "sync", path: ".seg" });
    await assert.rejects(writer.sync(), refusal("unavailable"));
    const { syncs } = node.disk.counts;
    await assert.rejects(writer.append([record("b")]), refusal("unavailable"));
    await writer.close();
    assert.equal(node.disk.counts.syncs, syncs);
  });
});

test("a failed sync in the background is heard by the next append", async () => {
  await within(async ({ node, open }) => {
    const writer = await open("interval").openWriter("p");
    await writer.append([record("a")]);
    node.disk.fail({ operation: "sync", path: ".seg" });
    await node.clock.sleep(400);
    await assert.rejects(writer.append([record("b")]), refusal("unavailable"));
  });
});

test("only the chain of the highest epoch counts", async () => {
  await within(async ({ node }) => {
    const folder = new PartitionFolder(node.files, "/log", "p");
    await node.files.makeFolder(folder.path);
    const make = async (firstOffset: number, epoch: number, previousEpoch: number): Promise<string> => {
      const name = segmentName({ firstOffset, epoch, previousEpoch });
      await put(node.files, folder.pathOf(name), new Uint8Array(100));
      return name;
    };
    const names = async (): Promise<(readonly [number, number])[]> =>
      (await folder.list()).segments.map((segment) => [segment.firstOffset, segment.epoch] as const);
    await make(0, 1, 0);
    await make(10, 1, 1);
    assert.deepEqual(await names(), [
      [0, 1],
      [10, 1],
    ]);
    const late = await make(12, 2, 1);
    await make(15, 3, 1);
    assert.deepEqual(
      await names(),
      [
        [0, 1],
        [10, 1],
        [15, 3],
      ],
      "writer 2 was replaced before it wrote: writer 3 went on from writer 1",
    );
    const rotated = await make(15, 1, 1);
    assert.deepEqual((await folder.list()).leavings.toSorted(), [late, rotated].sort());
    assert.deepEqual(await names(), [
      [0, 1],
      [10, 1],
      [15, 3],
    ]);
    await make(20, 3, 3);
    await make(20, 4, 3);
    assert.deepEqual((await names()).at(-1), [20, 4]);
    assert.deepEqual((await names()).length, 4);
    await node.files.remove(folder.pathOf(segmentName({ firstOffset: 0, epoch: 1, previousEpoch: 0 })));
    assert.deepEqual((await names())[0], [10, 1], "trimmed");
  });
});

test("while a claim stands above every segment, another process reads nothing from the last segment; the next writer settles it", async () => {
  await within(async ({ node, open }) => {
    const log = open();
    const writer = await log.openWriter("p");
    for (let i = 0; i < 40; i += 1) await writer.append([record(`${i}`.padEnd(100, "."))]);
    await log.close();
    const reader = open();
    const before = await readAll(reader, "p");
    assert.equal(before.length, 40);
    await (await node.files.open(`/log/p/${claimName(9)}`, "create"))!.close();
    const sealed = (await readAll(reader, "p")).length;
    assert.ok(sealed > 0 && sealed < 40, `${sealed} records lie in segments that are followed by another`);
    assert.deepEqual(await readAll(open(), "p"), before.slice(0, sealed));
    const next = open();
    assert.equal((await next.openWriter("p")).bounds.next, 40);
    assert.deepEqual(await readAll(reader, "p"), before);
    await next.close();
    assert.ok(!(await node.files.list("/log/p"))!.includes(claimName(9)));
  });
});

test("a segment that never began is passed over", async () => {
  await within(async ({ node, open }) => {
    const log = open();
    const writer = await log.openWriter("p");
    await writer.append([record("a"), record("b")]);
    await log.close();
    for (const [epoch, size] of [
      [5, 0],
      [6, 30],
      [7, 64],
    ] as const) {
      await put(node.files, `/log/p/${segmentName({ firstOffset: 2, epoch, previousEpoch: 1 })}`, new Uint8Array(size));
      const again = open();
      assert.deepEqual(await readAll(again, "p"), ["a", "b"]);
      const reopened = await again.openWriter("p");
      assert.equal(reopened.bounds.next, 2);
      assert.deepEqual(await readAll(again, "p"), ["a", "b"]);
      await again.close();
    }
  });
});

test("a later version is refused as unsupported", async () => {
  await within(async ({ node, open }) => {
    const log = open();
    await (await log.openWriter("p")).append([record("a")]);
    await log.close();
    const [path] = segmentPaths(node);
    const { crc32c } = await import("#base/crc32c");
    const bytes = node.disk.contents().get(path!)!;
    bytes[8] = 2;
    new DataView(bytes.buffer).setUint32(60, crc32c(bytes, 0, 0, 60), true);
    await put(node.files, path!, bytes);
    await assert.rejects(open().openWriter("p"), refusal("unsupported"));
    await assert.rejects(open().read("p", 0, 10), refusal("unsupported"));
  });
});

test("opening is quick and leaves one segment a writer, however often it is opened without a record", async () => {
  await within(async ({ node, open }) => {
    for (let i = 0; i < 5; i += 1) {
      const log = open();
      await log.openWriter("p");
      await log.close();
    }
    assert.equal(segmentPaths(node).length, 1);
  });
});
