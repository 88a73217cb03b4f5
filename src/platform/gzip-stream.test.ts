// Guards reading of packed and plain files: the bytes are those that were packed, however they arrive, and damage is told.

import assert from "node:assert/strict";
import { after, test } from "node:test";
import { gzipSync } from "node:zlib";
import { MillraceError } from "#base/errors";
import { streamFile } from "./file-stream.ts";
import { unpackGzip } from "./gzip-stream.ts";
import { makeTemporaryFolder, systemFiles } from "./system-files.ts";

const folder = await makeTemporaryFolder("millrace-gzip-");
after(() => systemFiles.removeFolder(folder));

const plain = new TextEncoder().encode(Array.from({ length: 20_000 }, (_, line) => `line ${line * 7919}\n`).join(""));
const packed = new Uint8Array(gzipSync(plain));

async function* pieces(bytes: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

async function collect(chunks: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const all: Uint8Array[] = [];
  for await (const chunk of chunks) all.push(Uint8Array.from(chunk));
  return Buffer.concat(all);
}

function failure(code: string) {
  return (thrown: unknown): boolean => thrown instanceof MillraceError && thrown.code === code;
}

test("packed and plain bytes come out the same, in pieces of any size", async () => {
  for (const size of [1_000_000, 4_096, 1]) {
    const part = plain.subarray(0, size === 1 ? 300 : plain.length);
    assert.ok((await collect(unpackGzip(pieces(part, size), "plain"))).equals(part), `plain by ${size}`);
    assert.ok((await collect(unpackGzip(pieces(gzipSync(part), size), "packed"))).equals(part), `packed by ${size}`);
  }
});

test("several packed members after one another are one stream", async () => {
  const both = Buffer.concat([packed, packed]);
  assert.ok((await collect(unpackGzip(pieces(both, 777), "two"))).equals(Buffer.concat([plain, plain])));
});

test("nothing, and less than a header, pass as they are", async () => {
  for (const bytes of [[], [0x1f], [0x41, 0x42]]) {
    assert.deepEqual([...(await collect(unpackGzip(pieces(Uint8Array.from(bytes), 1), "short")))], bytes);
  }
});

test("cut or damaged gzip is corrupt", async () => {
  await assert.rejects(collect(unpackGzip(pieces(packed.subarray(0, packed.length - 20), 4_096), "cut")), failure("corrupt"));
  const damaged = Uint8Array.from(packed);
  damaged[packed.length >> 1]! ^= 0xff;
  await assert.rejects(collect(unpackGzip(pieces(damaged, 4_096), "damaged")), failure("corrupt"));
});

test("a failure of the source comes out unchanged", async () => {
  async function* breaks(): AsyncGenerator<Uint8Array> {
    yield packed.subarray(0, 2_000);
    throw new MillraceError("unavailable", "the disk is gone");
  }
  await assert.rejects(collect(unpackGzip(breaks(), "gone")), failure("unavailable"));
});

test("a consumer that stops early closes the source", async () => {
  for (const bytes of [plain, packed]) {
    let closed = false;
    const source = async function* (): AsyncGenerator<Uint8Array> {
      try {
        for (;;) yield* pieces(bytes, 1_000);
      } finally {
        closed = true;
      }
    };
    for await (const _ of unpackGzip(source(), "early")) break;
    await new Promise((resolve) => setTimeout(resolve, 50));
    assert.equal(closed, true);
  }
});

test("a file is read in order to its end, and its progress is told", async () => {
  const path = systemFiles.join(folder, "lines.gz");
  await systemFiles.writeFileAtomic(path, packed);
  const told: number[] = [];
  const chunks = streamFile(systemFiles, path, { chunkBytes: 10_000, onBytes: (bytes) => told.push(bytes) });
  assert.ok((await collect(unpackGzip(chunks, path))).equals(plain));
  assert.equal(told.at(-1), packed.length);
  assert.deepEqual(
    told,
    [...told].sort((a, b) => a - b),
  );
  await assert.rejects(collect(streamFile(systemFiles, `${path}.missing`)), failure("not-found"));
});
