// What every `Blobs` must do. See blobs.ts; engines are listed in blobs.test.ts.

import assert from "node:assert/strict";
import type { Blobs } from "./blobs.ts";
import { beginSuite, type Engine, refusal } from "./suite.contract.ts";

export interface BlobsWorld {
  /** The blobs as another process sees them. */
  open(): Promise<Blobs>;
}

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const text = (value: Uint8Array | undefined): string | undefined => (value === undefined ? undefined : new TextDecoder().decode(value));

async function* pieces(...parts: string[]): AsyncGenerator<Uint8Array> {
  for (const part of parts) yield bytes(part);
}

export function blobsContract(engine: Engine<BlobsWorld>): void {
  const { check, end } = beginSuite("blobs", engine);

  check("what was put is got, by every process", async ({ open }) => {
    const [one, other] = [await open(), await open()];
    assert.equal(await one.get("a/b.bin"), undefined);
    assert.equal(await one.info("a/b.bin"), undefined);
    assert.deepEqual(await one.put("a/b.bin", bytes("hello")), { name: "a/b.bin", size: 5 });
    for (const blobs of [one, other]) {
      assert.equal(text(await blobs.get("a/b.bin")), "hello");
      assert.deepEqual(await blobs.info("a/b.bin"), { name: "a/b.bin", size: 5 });
    }
    await other.put("empty", new Uint8Array(0));
    assert.equal((await one.get("empty"))!.length, 0);
  });

  check("a name is written once: the same bytes are a no-op, others a conflict", async ({ open }) => {
    const [one, other] = [await open(), await open()];
    await one.put("a", bytes("same"));
    assert.deepEqual(await other.put("a", bytes("same")), { name: "a", size: 4 });
    assert.deepEqual(await other.put("a", pieces("sa", "", "me")), { name: "a", size: 4 });
    for (const content of ["diff", "sam", "same and more", ""]) {
      await assert.rejects(other.put("a", bytes(content)), refusal("conflict"));
      await assert.rejects(one.put("a", pieces(content)), refusal("conflict"));
    }
    assert.equal(text(await other.get("a")), "same");
  });

  check("of many who put different bytes at once exactly one wins", async ({ open }) => {
    const stores = [await open(), await open(), await open()];
    for (let round = 0; round < 5; round += 1) {
      const results = await Promise.allSettled(stores.map((store, index) => store.put(`r/${round}`, bytes(`version ${index}`))));
      const won = results.flatMap((result, index) => (result.status === "fulfilled" ? [index] : []));
      assert.equal(won.length, 1);
      for (const result of results) if (result.status === "rejected") assert.ok(refusal("conflict")(result.reason));
      assert.equal(text(await stores[0]!.get(`r/${round}`)), `version ${won[0]}`);
    }
  });

  check("of many who put the same bytes at once all win", async ({ open }) => {
    const stores = [await open(), await open(), await open()];
    await Promise.all(stores.flatMap((store) => [store.put("x/y", bytes("same")), store.put("x/y", bytes("same"))]));
    assert.equal(text(await stores[2]!.get("x/y")), "same");
    assert.deepEqual(await stores[1]!.list(""), [{ name: "x/y", size: 4 }]);
  });

  check("ranges", async ({ open }) => {
    const blobs = await open();
    await blobs.put("r", bytes("0123456789"));
    const ranges = [
      [0, 10, "0123456789"],
      [2, 5, "234"],
      [8, 100, "89"],
      [10, 12, ""],
      [50, 60, ""],
      [3, 3, ""],
    ] as const;
    for (const [start, until, expected] of ranges) assert.equal(text(await blobs.get("r", { start, end: until })), expected);
    await assert.rejects(blobs.get("r", { start: -1, end: 3 }), refusal("invalid"));
    await assert.rejects(blobs.get("r", { start: 4, end: 3 }), refusal("invalid"));
    assert.equal(await blobs.get("nothing", { start: 0, end: 1 }), undefined);
  });

  check("list gives names in order, by prefix and by page", async ({ open }) => {
    const blobs = await open();
    const names = ["a", "a-b", "a.b", "a/b", "a/b/c", "a/c", "a0", "b/x/y/z", "B", "a/b-c"];
    for (const name of names) await blobs.put(name, bytes(name));
    const sorted = [...names].sort();
    const listed = async (prefix: string, page?: { after?: string; limit?: number }): Promise<string[]> =>
      (await blobs.list(prefix, page)).map((info) => info.name);
    assert.deepEqual(await listed(""), sorted);
    for (const prefix of ["a", "a/", "a/b", "a/b/", "b/x/y", "b", "zz", "a-b"]) {
      assert.deepEqual(
        await listed(prefix),
        sorted.filter((name) => name.startsWith(prefix)),
        prefix,
      );
    }
    for (let limit = 1; limit <= 4; limit += 1) {
      const paged: string[] = [];
      for (let after = ""; ;) {
        const page = await listed("a", { after, limit });
        assert.ok(page.length <= limit);
        if (page.length === 0) break;
        paged.push(...page);
        after = page.at(-1)!;
      }
      assert.deepEqual(
        paged,
        sorted.filter((name) => name.startsWith("a")),
      );
    }
    assert.deepEqual(await blobs.list("a/c"), [{ name: "a/c", size: 3 }]);
  });

  check("a deleted object is gone, and its name is free", async ({ open }) => {
    const blobs = await open();
    await blobs.put("d/a", bytes("1"));
    await blobs.put("d/a/b", bytes("under it"));
    assert.equal(await blobs.delete("d/a"), true);
    assert.equal(await blobs.delete("d/a"), false);
    assert.equal(await blobs.get("d/a"), undefined);
    assert.equal(text(await blobs.get("d/a/b")), "under it");
    await blobs.put("d/a", bytes("2"));
    assert.equal(text(await blobs.get("d/a")), "2");
    assert.equal(await blobs.delete("never"), false);
  });

  check("a put whose source fails leaves nothing", async ({ open }) => {
    const blobs = await open();
    const failing = (async function* () {
      yield bytes("half");
      throw new Error("the source broke");
    })();
    await assert.rejects(blobs.put("half", failing), /the source broke/);
    assert.equal(await blobs.get("half"), undefined);
    assert.deepEqual(await blobs.list(""), []);
    await blobs.put("half", bytes("whole"));
  });

  check("a large object by pieces", async ({ open }) => {
    const blobs = await open();
    const piece = Uint8Array.from({ length: 300_000 }, (_, i) => i * 7);
    const content = (async function* () {
      for (let i = 0; i < 10; i += 1) yield piece;
    })();
    assert.equal((await blobs.put("large", content)).size, 3_000_000);
    assert.deepEqual(await blobs.get("large", { start: 299_999, end: 300_003 }), Uint8Array.of(piece[299_999]!, piece[0]!, piece[1]!, piece[2]!));
  });

  check("names that are none are refused", async ({ open }) => {
    const blobs = await open();
    const bad = [
      "",
      "/",
      "a/",
      "/a",
      "a//b",
      ".",
      "..",
      "a/../b",
      ".hidden",
      "a/.b",
      "a b",
      "a@",
      "ü",
      "a".repeat(129),
      `${"a".repeat(100)}/`.repeat(5) + "b".repeat(10),
    ];
    for (const name of bad) {
      await assert.rejects(blobs.put(name, bytes("")), refusal("invalid"), name);
      await assert.rejects(blobs.get(name), refusal("invalid"), name);
      await assert.rejects(blobs.delete(name), refusal("invalid"), name);
    }
    const longest = `${"a".repeat(127)}/`.repeat(4).slice(0, 512).replace(/\/$/, "b");
    await blobs.put(longest, bytes("x"));
    assert.equal(text(await blobs.get(longest)), "x");
  });

  end();
}
