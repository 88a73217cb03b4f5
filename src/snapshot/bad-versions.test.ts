// Guards the promise on which everything else stands: a version that is bad, however it became so, is never served; the one before it is, an alarm says why, and
// a version that is made good goes live.

import assert from "node:assert/strict";
import { test } from "node:test";
import { MillraceError } from "#base/errors";
import { Prng } from "#base/prng";
import type { Blobs } from "#backbone/blobs";
import { encodeHead, emptyHead } from "./head.ts";
import { encodeManifest } from "./manifest.ts";
import { bytes, remote, within, type World } from "./snapshot-world.fuzz.ts";

/** Overwrites a blob: what a decayed disk, a wrong tool or a bad hand does. Ours never do. */
async function spoil(blobs: Blobs, name: string, change: (content: Uint8Array) => Uint8Array | undefined): Promise<void> {
  const content = (await blobs.get(name))!;
  const changed = change(content.slice());
  await blobs.delete(name);
  if (changed !== undefined) await blobs.put(name, changed);
}

const seed = Number(process.env["SEED"] ?? 7);
const random = new Prng(seed);
const flip = (content: Uint8Array): Uint8Array => {
  content[random.below(content.length)]! ^= 1 << random.below(8);
  return content;
};

/** What happens to version two between publishing and loading. */
const damages: Record<string, (world: World, version: string) => Promise<void>> = {
  "a flipped bit in a file": ({ blobs }, version) => spoil(blobs, `snapshots/table/items/${version}/files/a.run`, flip),
  "a file cut short": ({ blobs }, version) =>
    spoil(blobs, `snapshots/table/items/${version}/files/b.run`, (content) => content.subarray(0, random.below(1000))),
  "a file that grew": ({ blobs }, version) => spoil(blobs, `snapshots/table/items/${version}/files/b.run`, (content) => new Uint8Array([...content, 98])),
  "an empty file": ({ blobs }, version) => spoil(blobs, `snapshots/table/items/${version}/files/b.run`, () => new Uint8Array(0)),
  "a missing file": ({ blobs }, version) => spoil(blobs, `snapshots/table/items/${version}/files/a.run`, () => undefined),
  "two files exchanged": async ({ blobs }, version) => {
    const [a, b] = [`snapshots/table/items/${version}/files/a.run`, `snapshots/table/items/${version}/files/b.run`];
    const [contentA, contentB] = [(await blobs.get(a))!, (await blobs.get(b))!];
    await spoil(blobs, a, () => contentB);
    await spoil(blobs, b, () => contentA);
  },
  "the file of another version": async ({ blobs, store }, version) => {
    const [before] = (await store.head("items"))!.backups;
    const other = (await blobs.get(`snapshots/table/items/${before!}/files/a.run`))!;
    await spoil(blobs, `snapshots/table/items/${version}/files/a.run`, () => other);
  },
  "a flipped bit in the manifest": ({ blobs }, version) => spoil(blobs, `snapshots/table/items/${version}/manifest`, flip),
  "a manifest cut short": ({ blobs }, version) =>
    spoil(blobs, `snapshots/table/items/${version}/manifest`, (content) => content.subarray(0, random.below(content.length))),
  "no manifest": ({ blobs }, version) => spoil(blobs, `snapshots/table/items/${version}/manifest`, () => undefined),
  "the manifest of another version": async ({ blobs, store }, version) => {
    const [before] = (await store.head("items"))!.backups;
    const other = (await blobs.get(`snapshots/table/items/${before!}/manifest`))!;
    await spoil(blobs, `snapshots/table/items/${version}/manifest`, () => other);
  },
  "a manifest that names a file outside": async ({ blobs, store }, version) => {
    const manifest = await store.manifest("items", version);
    const text = new TextDecoder().decode(encodeManifest(manifest)).replace('"a.run"', '"../a"');
    await spoil(blobs, `snapshots/table/items/${version}/manifest`, () => bytes(text));
  },
};

for (const [place, openBlobs] of [
  ["fetched", remote],
  ["in place", (blobs: Blobs) => blobs],
] as const) {
  for (const [what, damage] of Object.entries(damages)) {
    test(`promise: ${what} is refused and the version before is served, ${place}`, () =>
      within(
        async (world) => {
          const { store, publish, follower, alarms, until, storeWith } = world;
          const good = await publish(10);
          const items = follower({ store: storeWith({}) });
          items.start();
          await items.settled;
          // Damage while the follower runs: it goes on with what it has.
          const bad = await publish(11, { live: false });
          await damage(world, bad.version);
          await store.goLive("items", bad.version).catch(async () => {
            // A damage that going live by hand already sees: then the head is moved as an older tool would.
            const head = (await store.head("items"))!;
            const moved = { ...emptyHead, current: bad.version, backups: [good.version], switches: head.switches + 1 };
            await world.registry.put("snapshots/table/items/head", encodeHead(moved));
          });
          await until(() => items.state.refused.length > 0 && items.state.loading === undefined);
          assert.equal(items.version, good.version);
          const [refused] = items.state.refused;
          assert.equal(refused!.version, bad.version);
          assert.equal(refused!.passing, false);
          assert.match(refused!.code, /^(corrupt|not-found)$/);
          assert.ok(alarms.some(({ what: kind, version }) => (kind === "damaged" || kind === "refused") && version === bad.version));
          // One that starts now takes the backup too.
          const late = follower({ store: storeWith({}), node: "late", folder: "/late" });
          late.start();
          await late.settled;
          assert.equal(late.version, good.version, "a follower that starts while the head is bad serves the version before");
          assert.deepEqual(late.lease()!.value.texts, items.lease()!.value.texts);
          // It is not tried again and again, and the next good one goes live.
          const told = alarms.length;
          await world.simulation.clock.sleep(600_000);
          assert.equal(alarms.length, told, "told once");
          const next = await publish(12);
          await until(() => items.version === next.version && late.version === next.version);
          assert.deepEqual(await world.node.files.list("/local"), [good.version, next.version], "the bad one takes no room");
          await Promise.all([items.stop(), late.stop()]);
        },
        seed,
        openBlobs,
      ));
  }
}

test("promise: a version that the follower's own check or loader refuses is not served", () =>
  within(async ({ publish, follower, until, alarms }) => {
    const one = await publish(10);
    let closed = 0;
    const items = follower({
      load: async (manifest, { files }) => {
        if (manifest.statistics["rows"] === 13) throw new MillraceError("corrupt", "a block is torn", { todo: "build it again" });
        return { value: { version: manifest.version, texts: [files[0]!.path], closed: false }, close: () => void (closed += 1) };
      },
      check: (_, manifest) => (manifest.statistics["rows"] === 11 ? ["a probe found nothing"] : []),
      warm: (_, manifest) => {
        if (manifest.statistics["rows"] === 12) throw new MillraceError("invalid", "a warm-up read failed");
      },
    });
    items.start();
    await items.settled;
    for (const rows of [11, 12, 13]) {
      const bad = await publish(rows);
      await until(() => items.state.refused.some(({ version }) => version === bad.version));
      assert.equal(items.version, one.version);
    }
    assert.deepEqual(
      items.state.refused.map(({ stage }) => stage),
      ["checking", "warming", "loading"],
    );
    assert.equal(closed, 2, "what was loaded and refused is let go");
    assert.equal(alarms.length, 3);
    const good = await publish(14);
    await until(() => items.version === good.version);
    await items.stop();
  }));

test("a local file that decays is fetched again; what a killed process left is gone on with", () =>
  within(async ({ publish, follower, until, node, blobs, store, storeWith }) => {
    const big = new Uint8Array(5 * 1024 * 1024).map((_, at) => at % 251);
    const build = await store.begin("items");
    await build.put("a.run", big);
    await build.publish({ statistics: { rows: 1 }, meta: null });
    const first = follower();
    first.start();
    await first.settled;
    await first.stop();
    // A bit of the local copy turns while nobody looks.
    node.disk.flipBit(`/local/${build.version}/files/a.run`);
    const second = follower();
    second.start();
    await second.settled;
    assert.equal(second.version, build.version);
    assert.equal(second.lease()!.value.texts[0]!.length, big.length);
    await second.stop();
    // A fetch that is cut off in the middle goes on where it was.
    const again = await publish(3, { text: "x".repeat(3 * 1024 * 1024) });
    let reads = 0;
    const counted: Blobs = { ...remote(blobs), get: (name, range) => ((reads += name.endsWith("a.run") ? 1 : 0), blobs.get(name, range)) };
    const cut = follower({ bytesPerSecondMax: 1024 * 1024 });
    cut.start();
    await until(() => (cut.state.loading?.bytesDone ?? 0) >= 2 * 1024 * 1024);
    await cut.stop();
    const rest = follower({ store: storeWith({ blobs: counted }) });
    rest.start();
    await until(() => rest.version === again.version);
    assert.ok(reads >= 1 && reads <= 2, `${reads} chunks of 4 were read again`);
    await rest.stop();
  }));
