// What a crash leaves: kill keeps what was handed over, a power cut keeps what was synced and does anything with the rest.

import assert from "node:assert/strict";
import { test } from "node:test";
import { MillraceError } from "#base/errors";
import { Prng } from "#base/prng";
import { type SimulatedNode, Simulation } from "./simulation.ts";

const text = (value: string): Uint8Array => new TextEncoder().encode(value);
const seeds = Array.from({ length: 200 }, (_, i) => (process.env["SEED"] === undefined ? i : Number(process.env["SEED"]) + i));

/** Runs `before` on a machine, ends it as told, and hands the next incarnation to `after`. */
async function overCrash<T>(
  seed: number,
  how: "kill" | "power",
  before: (node: SimulatedNode) => Promise<void>,
  after: (node: SimulatedNode) => Promise<T>,
): Promise<T> {
  const simulation = new Simulation({ seed });
  return simulation.run(async () => {
    const node = simulation.node("a");
    await node.files.makeFolder("/d");
    await before(node);
    node.crash(how);
    assert.equal(node.alive, false);
    const again = simulation.node("a");
    assert.equal(again.incarnation, 2);
    return after(again);
  });
}

async function show(node: SimulatedNode, path = "/d/x"): Promise<string> {
  const bytes = await node.files.readFile(path);
  return bytes === undefined ? "absent" : Buffer.from(bytes).toString("latin1");
}

function tally(values: string[]): Map<string, number> {
  const counts = new Map<string, number>();
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  return counts;
}

async function synced(node: SimulatedNode, path: string, value: string): Promise<void> {
  const file = (await node.files.open(path, "write"))!;
  await file.truncate(0);
  await file.write(text(value), 0);
  await file.sync();
  await file.close();
  await node.files.syncFolder("/d");
}

test("synced bytes survive every power cut, whatever happens to later writes", async () => {
  for (const seed of seeds) {
    const random = new Prng(seed);
    const length = 1 + random.below(3000);
    const first = random.bytes(new Uint8Array(length));
    const found = await overCrash(
      seed,
      "power",
      async (node) => {
        const file = (await node.files.open("/d/x", "create"))!;
        await file.write(first, 0);
        await file.sync();
        await node.files.syncFolder("/d");
        for (let i = 0; i < 5; i++) await file.write(random.bytes(new Uint8Array(1 + random.below(2000))), length + random.below(2000));
      },
      (node) => node.files.readFile("/d/x"),
    );
    assert.ok(found !== undefined && Buffer.compare(found.subarray(0, length), first) === 0, `seed ${seed}`);
  }
});

test("a kill keeps every byte that was handed over, synced or not, and every name", async () => {
  for (const seed of seeds.slice(0, 50)) {
    const found = await overCrash(
      seed,
      "kill",
      async (node) => {
        const file = (await node.files.open("/d/tmp", "create"))!;
        await file.write(text("handed over"), 0);
        await node.files.rename("/d/tmp", "/d/x");
      },
      (node) => show(node),
    );
    assert.equal(found, "handed over", `seed ${seed}`);
  }
});

test("over many seeds an unsynced write is kept, dropped, cut short, torn by sectors, and kept as zeros", async () => {
  const size = 4 * 512;
  const outcomes: string[] = [];
  for (const seed of seeds) {
    const found = await overCrash(
      seed,
      "power",
      async (node) => {
        await synced(node, "/d/x", "head");
        const file = (await node.files.open("/d/x", "write"))!;
        await file.write(new Uint8Array(size).fill(1), 512);
      },
      (node) => node.files.readFile("/d/x"),
    );
    const tail = found!.subarray(512);
    const ones = tail.reduce((sum, byte) => sum + byte, 0);
    const prefix = tail.findIndex((byte) => byte === 0);
    if (tail.length === 0) outcomes.push("dropped");
    else if (ones === size) outcomes.push("kept");
    else if (ones === 0) outcomes.push("zeros");
    else if (prefix === -1 && tail.length % 512 !== 0) outcomes.push("cut short");
    else if (ones % 512 === 0) outcomes.push("sectors");
    else assert.fail(`seed ${seed}: ${ones} of ${tail.length} bytes survived`);
  }
  const counts = tally(outcomes);
  for (const outcome of ["kept", "dropped", "cut short", "sectors", "zeros"])
    assert.ok((counts.get(outcome) ?? 0) > 3, `${outcome}: ${JSON.stringify([...counts])}`);
});

test("a later unsynced write may survive without an earlier one", async () => {
  const found = await Promise.all(
    seeds.map((seed) =>
      overCrash(
        seed,
        "power",
        async (node) => {
          await synced(node, "/d/x", "....");
          const file = (await node.files.open("/d/x", "write"))!;
          for (let i = 0; i < 4; i++) await file.write(text("X"), i);
        },
        (node) => show(node),
      ),
    ),
  );
  const counts = tally(found);
  for (const outcome of ["....", "XXXX", "X...", "...X", ".X.X"]) assert.ok(counts.has(outcome), `${outcome}: ${JSON.stringify([...counts])}`);
});

test("a created name without a folder sync is lost or kept, its synced content with it", async () => {
  const counts = tally(
    await Promise.all(
      seeds.map((seed) =>
        overCrash(
          seed,
          "power",
          async (node) => {
            const file = (await node.files.open("/d/x", "create"))!;
            await file.write(text("content"), 0);
            await file.sync();
          },
          (node) => show(node),
        ),
      ),
    ),
  );
  assert.deepEqual([...counts.keys()].sort(), ["absent", "content"]);
  assert.ok(counts.get("absent")! > 20 && counts.get("content")! > 20, JSON.stringify([...counts]));
});

test("a rename without a folder sync leaves the old or the new, with one it leaves the new; never both or none", async () => {
  for (const folderSync of [false, true]) {
    const counts = tally(
      await Promise.all(
        seeds.map((seed) =>
          overCrash(
            seed,
            "power",
            async (node) => {
              await synced(node, "/d/x", "old");
              await synced(node, "/d/tmp", "new");
              await node.files.rename("/d/tmp", "/d/x");
              if (folderSync) await node.files.syncFolder("/d");
            },
            async (node) => `${await show(node)} ${await show(node, "/d/tmp")}`,
          ),
        ),
      ),
    );
    assert.deepEqual([...counts.keys()].sort(), folderSync ? ["new absent"] : ["new absent", "old new"]);
  }
});

test("a removed file comes back or not, a truncation happens or not", async () => {
  const removed = await Promise.all(
    seeds.map((seed) =>
      overCrash(
        seed,
        "power",
        async (node) => {
          await synced(node, "/d/x", "back");
          await node.files.remove("/d/x");
        },
        (node) => show(node),
      ),
    ),
  );
  assert.deepEqual([...tally(removed).keys()].sort(), ["absent", "back"]);
  const cut = await Promise.all(
    seeds.map((seed) =>
      overCrash(
        seed,
        "power",
        async (node) => {
          await synced(node, "/d/x", "long text");
          await (await node.files.open("/d/x", "write"))!.truncate(4);
        },
        (node) => show(node),
      ),
    ),
  );
  assert.deepEqual([...tally(cut).keys()].sort(), ["long", "long text"]);
});

test("changes of one name survive in order: the target of a lost rename is not overwritten by the next one", async () => {
  // a -> b, then c -> a. Were the second kept without the first, the bytes of a would be gone.
  const found = await Promise.all(
    seeds.map((seed) =>
      overCrash(
        seed,
        "power",
        async (node) => {
          await synced(node, "/d/a", "A");
          await synced(node, "/d/c", "C");
          await node.files.rename("/d/a", "/d/b");
          await node.files.rename("/d/c", "/d/a");
        },
        async (node) => `${await show(node, "/d/a")} ${await show(node, "/d/b")} ${await show(node, "/d/c")}`,
      ),
    ),
  );
  assert.deepEqual([...tally(found).keys()].sort(), ["A absent C", "C A absent", "absent A C"]);
});

test("syncing one folder of a rename between folders saves the rename whole", async () => {
  for (const side of ["/d", "/e"]) {
    for (const seed of seeds.slice(0, 50)) {
      const found = await overCrash(
        seed,
        "power",
        async (node) => {
          await node.files.makeFolder("/e");
          await synced(node, "/d/x", "moved");
          await node.files.rename("/d/x", "/e/x");
          await node.files.syncFolder(side);
        },
        async (node) => `${await show(node)} ${await show(node, "/e/x")}`,
      );
      assert.equal(found, "absent moved", `seed ${seed}, synced ${side}`);
    }
  }
});

test("a name that was made and moved away before any sync does not come back", async () => {
  for (const seed of seeds.slice(0, 50)) {
    const found = await overCrash(
      seed,
      "power",
      async (node) => {
        await node.files.makeFolder("/e");
        const file = (await node.files.open("/e/new", "create"))!;
        await file.write(text("moved"), 0);
        await file.sync();
        await node.files.rename("/e/new", "/d/x");
        await node.files.syncFolder("/d");
      },
      async (node) => `${await show(node)} ${await show(node, "/e/new")}`,
    );
    assert.equal(found, "moved absent", `seed ${seed}`);
  }
});

test("a folder made by makeFolder survives, what a power cut forgets of an unsynced file in it does not hurt it", async () => {
  for (const seed of seeds.slice(0, 50)) {
    const names = await overCrash(
      seed,
      "power",
      (node) => node.files.makeFolder("/d/e/f"),
      (node) => node.files.list("/d/e"),
    );
    assert.deepEqual(names, ["f"]);
  }
});

test("writeFileAtomic: a crash at any moment leaves the old or the new bytes, a resolved one the new", async () => {
  const seen = new Set<string>();
  for (const how of ["kill", "power"] as const) {
    for (const seed of seeds) {
      const simulation = new Simulation({ seed });
      await simulation.run(async () => {
        const node = simulation.node("a");
        await node.files.makeFolder("/d");
        await node.files.writeFileAtomic("/d/x", text("old"));
        let resolved = false;
        simulation.clock.after(1 + simulation.random.below(12), () => node.crash(how));
        const run = await node.run(async () => {
          await node.files.writeFileAtomic("/d/x", text("new"));
          resolved = true;
          await node.clock.sleep(1000);
        });
        assert.equal(run.crashed, true);
        const found = await show(simulation.node("a"));
        seen.add(`${found} ${resolved}`);
        if (resolved) assert.equal(found, "new", `seed ${seed}`);
        else assert.ok(found === "old" || found === "new", `seed ${seed}: ${found}`);
      });
    }
  }
  assert.deepEqual([...seen].sort(), ["new false", "new true", "old false"]);
});

test("what a sync was not asked for is not safe: writes after the call, and everything on a disk that lies", async () => {
  const late = await Promise.all(
    seeds.map((seed) =>
      overCrash(
        seed,
        "power",
        async (node) => {
          await synced(node, "/d/x", ".");
          const file = (await node.files.open("/d/x", "write"))!;
          const syncing = file.sync();
          await file.write(text("X"), 0);
          await syncing;
        },
        (node) => show(node),
      ),
    ),
  );
  assert.deepEqual([...tally(late).keys()].sort(), [".", "X"]);
  assert.ok(tally(late).get(".")! > 30, "the late write is as unsafe as any other");
  const lied = await Promise.all(
    seeds.map((seed) =>
      overCrash(
        seed,
        "power",
        async (node) => {
          await synced(node, "/d/x", ".");
          node.disk.syncsNothing = true;
          await synced(node, "/d/x", "X");
        },
        (node) => show(node),
      ),
    ),
  );
  assert.ok(tally(lied).has("."));
});

test("drop and keep leave exactly the safe and exactly the shown bytes", async () => {
  for (const unsynced of ["drop", "keep"] as const) {
    const simulation = new Simulation({ seed: 3 });
    await simulation.run(async () => {
      const node = simulation.node("a");
      await node.files.makeFolder("/d");
      await synced(node, "/d/x", "safe");
      const file = (await node.files.open("/d/x", "write"))!;
      await file.write(text("shown bytes"), 0);
      await node.files.rename("/d/x", "/d/y");
      const expected = node.disk.contents(unsynced === "drop" ? "safe" : "shown");
      node.crash("power", unsynced);
      assert.deepEqual(node.disk.contents(), expected);
      assert.deepEqual(node.disk.contents("safe"), expected);
      assert.deepEqual([...expected.keys()], [unsynced === "drop" ? "/d/x" : "/d/y"]);
    });
  }
});

test("operations of a dead incarnation never settle and change nothing more; those in flight took effect or not", async () => {
  const found = new Set<string>();
  for (const seed of seeds) {
    const simulation = new Simulation({ seed });
    await simulation.run(async () => {
      const node = simulation.node("a");
      await node.files.makeFolder("/d");
      const file = (await node.files.open("/d/x", "write"))!;
      let settled = 0;
      const count = (): void => void settled++;
      file.write(text("in flight"), 0).then(count, count);
      node.crash("kill");
      file.write(text("too late for this"), 0).then(count, count);
      node.files.remove("/d/x").then(count, count);
      node.clock.sleep(1).then(count, count);
      node.clock.after(1, count);
      await simulation.clock.sleep(1000);
      assert.equal(settled, 0);
      found.add(await show(simulation.node("a")));
    });
  }
  assert.ok(found.has("") && found.has("in flight") && found.has("in fl"), JSON.stringify([...found]));
  for (const value of found) assert.ok("in flight".startsWith(value));
});

test("operations that are not awaited may take effect in either order", async () => {
  const found = await Promise.all(
    seeds.map(async (seed) => {
      const simulation = new Simulation({ seed });
      return simulation.run(async () => {
        const node = simulation.node("a");
        await node.files.makeFolder("/d");
        const file = (await node.files.open("/d/x", "write"))!;
        await Promise.all([file.write(text("1"), 0), file.write(text("2"), 0)]);
        return show(node);
      });
    }),
  );
  assert.deepEqual([...tally(found).keys()].sort(), ["1", "2"]);
});

test("a full disk takes what fits and refuses the rest; removing makes room", async () => {
  const simulation = new Simulation({ seed: 1 });
  await simulation.run(async () => {
    const { files, disk } = simulation.node("a");
    const file = (await files.open("/x", "create"))!;
    disk.capacityBytes = 10;
    await file.write(text("1234567"), 0);
    await assert.rejects(
      file.write(text("89abcdef"), 7),
      (thrown) => thrown instanceof MillraceError && thrown.code === "unavailable" && /disk is full/.test(thrown.message),
    );
    assert.equal(await file.size(), 10);
    await file.write(text("over"), 0);
    assert.equal(await files.remove("/x"), true);
    await (await files.open("/y", "create"))!.write(text("0123456789"), 0);
    await assert.rejects(files.writeFileAtomic("/y", text("ab")), /disk is full/);
    assert.deepEqual(await files.list("/"), ["y"]);
  });
});

test("installed faults hit the nth matching operation", async () => {
  const simulation = new Simulation({ seed: 1 });
  await simulation.run(async () => {
    const { files, disk } = simulation.node("a");
    const [x, y] = [(await files.open("/x", "create"))!, (await files.open("/y", "create"))!];
    const fault = disk.fail({ operation: "write", path: "/x", after: 1, times: 2 });
    await x.write(text("1"), 0);
    await y.write(text("1"), 0);
    await assert.rejects(x.write(text("2"), 1), /EIO/);
    await y.write(text("2"), 1);
    await assert.rejects(x.write(text("2"), 1), /EIO/);
    await x.write(text("2"), 1);
    assert.equal(fault.hits, 2);
    const broken = disk.fail({ operation: "read", times: Infinity });
    await assert.rejects(files.readFile("/y"), /EIO/);
    await assert.rejects(y.read(new Uint8Array(1), 0), /EIO/);
    broken.remove();
    assert.equal((await files.readFile("/y"))!.length, 2);
  });
});

test("after a failed sync, a later good one does not bring back what the system forgot", async () => {
  const found = await Promise.all(
    seeds.map((seed) =>
      overCrash(
        seed,
        "power",
        async (node) => {
          await synced(node, "/d/x", "..");
          const file = (await node.files.open("/d/x", "write"))!;
          await file.write(text("A"), 0);
          node.disk.fail({ operation: "sync" });
          await assert.rejects(file.sync(), /EIO/);
          await file.write(text("B"), 1);
          await file.sync();
        },
        (node) => show(node),
      ),
    ),
  );
  assert.deepEqual([...tally(found).keys()].sort(), [".B", "AB"]);
});

test("a flipped bit is seen at once and after a power cut", async () => {
  const bits = new Set<number>();
  for (const seed of seeds.slice(0, 30)) {
    const found = await overCrash(
      seed,
      "power",
      async (node) => {
        await synced(node, "/d/x", "\0\0\0\0");
        bits.add(node.disk.flipBit("/d/x"));
      },
      (node) => node.files.readFile("/d/x"),
    );
    assert.equal(
      found!.reduce((sum, byte) => sum + byte.toString(2).replaceAll("0", "").length, 0),
      1,
    );
  }
  assert.ok(bits.size > 10);
});
