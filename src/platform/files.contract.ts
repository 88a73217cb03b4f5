// What every `Files` must do; run against the machine's file system and its simulated twin.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { MillraceError } from "#base/errors";
import type { Files, OpenFile } from "./files.ts";

const text = (value: string): Uint8Array => new TextEncoder().encode(value);

async function contentOf(files: Files, path: string): Promise<string | undefined> {
  const bytes = await files.readFile(path);
  if (bytes !== undefined) assert.equal(bytes.constructor, Uint8Array);
  return bytes === undefined ? undefined : new TextDecoder().decode(bytes);
}

async function opened(files: Files, path: string, mode: "read" | "write" | "create" = "write"): Promise<OpenFile> {
  const file = await files.open(path, mode);
  assert.ok(file !== undefined, `${path} did not open`);
  return file;
}

const refusal = (code: string) => (thrown: unknown) => (thrown as MillraceError).name === "MillraceError" && (thrown as MillraceError).code === code;

/** `within` calls the body with files and an empty folder of its own. */
export function filesContract(engine: string, within: (body: (files: Files, folder: string) => Promise<void>) => Promise<void>): void {
  const check = (name: string, body: (files: Files, folder: string) => Promise<void>): void => {
    test(`files contract, ${engine}: ${name}`, () => within(body));
  };

  check("what is written is read, at any position, with zeros in the holes", async (files, folder) => {
    const file = await opened(files, files.join(folder, "a"));
    await file.write(text("world"), 6);
    await file.write(text("hello"), 0);
    await file.writeAll([text("!"), new Uint8Array(0), text("??")], 11);
    await file.writeAll([], 99);
    await file.write(new Uint8Array(0), 99);
    assert.equal(await file.size(), 14);
    const into = new Uint8Array(20);
    assert.equal(await file.read(into, 0), 14);
    assert.equal(new TextDecoder().decode(into.subarray(0, 14)), "hello\0world!??");
    assert.equal(await file.read(into.subarray(0, 3), 6), 3);
    assert.equal(new TextDecoder().decode(into.subarray(0, 3)), "wor");
    assert.equal(await file.read(into, 14), 0);
    assert.equal(await file.read(into, 1000), 0);
    await file.sync();
    await file.close();
    assert.equal(await contentOf(files, files.join(folder, "a")), "hello\0world!??");
  });

  check("many small buffers are written by one writeAll", async (files, folder) => {
    const path = files.join(folder, "many");
    const file = await opened(files, path);
    await file.writeAll(
      Array.from({ length: 3000 }, (_, i) => text(String(i % 10))),
      0,
    );
    await file.close();
    const found = (await contentOf(files, path))!;
    assert.equal(found.length, 3000);
    assert.equal(found.slice(2990), "0123456789");
  });

  check("truncate cuts and extends with zeros", async (files, folder) => {
    const file = await opened(files, files.join(folder, "a"));
    await file.write(text("abcdef"), 0);
    await file.truncate(2);
    assert.equal(await file.size(), 2);
    await file.truncate(4);
    await file.close();
    assert.equal(await contentOf(files, files.join(folder, "a")), "ab\0\0");
  });

  check("open modes: read misses, write keeps, create refuses what is there", async (files, folder) => {
    const path = files.join(folder, "a");
    assert.equal(await files.open(path, "read"), undefined);
    const made = await opened(files, path, "create");
    await made.write(text("x"), 0);
    await made.close();
    assert.equal(await files.open(path, "create"), undefined);
    const again = await opened(files, path, "write");
    assert.equal(await again.size(), 1);
    await again.close();
    const reader = await opened(files, path, "read");
    await assert.rejects(reader.write(text("y"), 0), refusal("invalid"));
    await reader.close();
    assert.equal(await contentOf(files, path), "x");
    await assert.rejects(files.open(files.join(folder, "no", "a"), "write"), refusal("unavailable"));
    await assert.rejects(files.open(files.join(path, "below-a-file"), "write"), refusal("invalid"));
    await assert.rejects(files.open(`${path}\0b`, "write"), refusal("invalid"));
  });

  check("a closed file refuses; closing twice is harmless", async (files, folder) => {
    const file = await opened(files, files.join(folder, "a"));
    await file.close();
    await file.close();
    await assert.rejects(file.write(text("x"), 0), refusal("invalid"));
    await assert.rejects(file.read(new Uint8Array(1), 0), refusal("invalid"));
    await assert.rejects(file.sync(), refusal("invalid"));
    await assert.rejects(file.size(), refusal("invalid"));
    await assert.rejects(file.truncate(0), refusal("invalid"));
  });

  check("absent files are values", async (files, folder) => {
    const path = files.join(folder, "no");
    assert.equal(await files.readFile(path), undefined);
    assert.equal(await files.sizeOf(path), undefined);
    assert.equal(await files.list(path), undefined);
    assert.equal(await files.remove(path), false);
    await files.removeFolder(path);
    await assert.rejects(files.rename(path, files.join(folder, "other")), refusal("unavailable"));
    await assert.rejects(files.syncFolder(path), refusal("unavailable"));
  });

  check("list is sorted and holds files and folders", async (files, folder) => {
    for (const name of ["b", "a", "10", "9"]) await (await opened(files, files.join(folder, name))).close();
    await files.makeFolder(files.join(folder, "c", "d"));
    await files.makeFolder(files.join(folder, "c", "d"));
    assert.deepEqual(await files.list(folder), ["10", "9", "a", "b", "c"]);
    assert.deepEqual(await files.list(files.join(folder, "c")), ["d"]);
    assert.deepEqual(await files.list(files.join(folder, "c", "d")), []);
    assert.equal(await files.list(files.join(folder, "a")), undefined);
    assert.equal(await files.sizeOf(files.join(folder, "c")), undefined);
    await assert.rejects(files.readFile(files.join(folder, "c")), refusal("invalid"));
    await assert.rejects(files.makeFolder(files.join(folder, "a")), refusal("invalid"));
  });

  check("rename replaces, remove removes, an open file outlives its name", async (files, folder) => {
    const [a, b] = [files.join(folder, "a"), files.join(folder, "b")];
    const file = await opened(files, a);
    await file.write(text("new"), 0);
    await (await opened(files, b)).close();
    await files.rename(a, b);
    await files.syncFolder(folder);
    assert.equal(await contentOf(files, b), "new");
    assert.equal(await contentOf(files, a), undefined);
    assert.equal(await files.remove(b), true);
    assert.equal(await files.remove(b), false);
    await file.write(text("!"), 3);
    const into = new Uint8Array(8);
    assert.equal(await file.read(into, 0), 4);
    await file.close();
    assert.deepEqual(await files.list(folder), []);
  });

  check("writeFileAtomic leaves the new bytes and nothing else", async (files, folder) => {
    const path = files.join(folder, "a");
    await files.writeFileAtomic(path, text("a longer first text"));
    assert.equal(await files.sizeOf(path), 19);
    await files.writeFileAtomic(path, text("second"));
    assert.equal(await contentOf(files, path), "second");
    await Promise.all(Array.from({ length: 8 }, (_, i) => files.writeFileAtomic(path, text(`writer ${i}`))));
    assert.match((await contentOf(files, path))!, /^writer \d$/);
    assert.deepEqual(await files.list(folder), ["a"]);
    await assert.rejects(files.writeFileAtomic(files.join(folder, "no", "a"), text("x")), refusal("unavailable"));
  });

  check("removeFolder takes all it holds; a folder is no file to remove", async (files, folder) => {
    const deep = files.join(folder, "c", "d");
    await files.makeFolder(deep);
    await files.writeFileAtomic(files.join(deep, "x"), text("x"));
    await assert.rejects(files.remove(files.join(folder, "c")), refusal("invalid"));
    await files.removeFolder(files.join(folder, "c"));
    assert.deepEqual(await files.list(folder), []);
  });

  check("two handles on one file see each other's bytes", async (files, folder) => {
    const path = files.join(folder, "a");
    const [writer, reader] = [await opened(files, path), await opened(files, path, "read")];
    const into = new Uint8Array(4);
    assert.equal(await reader.read(into, 0), 0);
    await writer.write(text("tail"), 0);
    assert.equal(await reader.read(into, 0), 4);
    assert.equal(new TextDecoder().decode(into), "tail");
    await writer.close();
    await reader.close();
  });
}
