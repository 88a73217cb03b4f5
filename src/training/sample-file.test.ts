// Samples and their files come back bit for bit; golden bytes are read for ever; damage is said behind all whole samples.

import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { ByteWriter } from "#base/byte-writer";
import { MillraceError } from "#base/errors";
import { makeTemporaryFolder, systemFiles } from "#platform/system-files";
import { readSampleFile, SampleFileWriter } from "./sample-file.ts";
import { decodeSample, encodeSample, type JoinedSample } from "./sample-record.ts";

const seed = Number(process.env["SEED"] ?? 20_260_305);

const golden: JoinedSample = {
  recommendationId: "r-a-1",
  user: "ann",
  item: "röom-7",
  position: 300,
  label: 1,
  rate: 0.1,
  atMs: 1_700_000_000_123,
  clockMs: 1_700_000_000_456,
  extractorId: 0xdead_beef,
  userBytes: new Uint8Array([3, 97, 110, 110]),
  itemBytes: new Uint8Array(),
  signals: Float32Array.of(0.5, NaN),
  servedLogit: -1.5,
  countingLogit: NaN,
};

function encode(sample: JoinedSample): Uint8Array {
  const out = new ByteWriter();
  encodeSample(sample, out);
  return out.since(0);
}

/** As docs/format/sample-record.md shows it. */
const goldenHex =
  "0101efbeadde9a9999999999b93f00b08756febc784200809c56febc78420000c0bf0000c07fac0205722d612d3103616e6e0772c3b66f6d2d370403616e6e00020000003f0000c07f";

test("the golden sample: these bytes are read for ever", () => {
  assert.equal(Buffer.from(encode(golden)).toString("hex"), goldenHex);
  assert.deepEqual(decodeSample(Buffer.from(goldenHex, "hex")), {
    ...golden,
    userBytes: Buffer.from(golden.userBytes),
    itemBytes: Buffer.from(golden.itemBytes),
  });
});

const anySample = fc.record<JoinedSample>({
  recommendationId: fc.string(),
  user: fc.string({ unit: "binary" }),
  item: fc.string(),
  position: fc.nat(),
  label: fc.constantFrom(0, 1),
  rate: fc.constantFrom(1, 0.01, 1e-9),
  atMs: fc.double(),
  clockMs: fc.double(),
  extractorId: fc.nat(),
  userBytes: fc.uint8Array(),
  itemBytes: fc.uint8Array(),
  signals: fc.float32Array(),
  servedLogit: fc.float(),
  countingLogit: fc.float(),
});

test("any sample comes back bit for bit; cut anywhere it is refused", () => {
  fc.assert(
    fc.property(anySample, fc.nat(), (sample, cut) => {
      const bytes = encode(sample);
      assert.deepEqual(encode(decodeSample(bytes)), bytes);
      assert.throws(() => decodeSample(bytes.subarray(0, cut % bytes.length)), { code: "corrupt" });
    }),
    { seed, numRuns: 300 },
  );
});

test("a newer version, a label that is none and a rate outside (0, 1] are refused", () => {
  const changed = (at: number, ...to: number[]): Uint8Array => {
    const bytes = encode(golden).slice();
    bytes.set(to, at);
    return bytes;
  };
  assert.throws(() => decodeSample(changed(0, 2)), { code: "unsupported" });
  assert.throws(() => decodeSample(changed(0, 0)), { code: "corrupt" });
  assert.throws(() => decodeSample(changed(1, 2)), { code: "corrupt" });
  assert.throws(() => decodeSample(changed(6, 0, 0, 0, 0, 0, 0, 0, 0)), { code: "corrupt" });
});

test("a file gives back its samples in order; cut or turned it says so behind all whole ones", async () => {
  const folder = await makeTemporaryFolder("millrace-samples-");
  const path = systemFiles.join(folder, "a.samples");
  const readAll = async (): Promise<string[]> => {
    const found: string[] = [];
    for await (const samples of readSampleFile(systemFiles, path)) found.push(...samples.map(({ item }) => item));
    return found;
  };
  try {
    const writer = await SampleFileWriter.create(systemFiles, path);
    const count = 3_000;
    const large = { ...golden, userBytes: new Uint8Array(2_000) };
    for (let i = 0; i < count; i += 1) {
      writer.add({ ...large, item: `i${i}` });
      if (writer.full) await writer.drain();
    }
    await writer.close();
    await assert.rejects(SampleFileWriter.create(systemFiles, path), { code: "conflict" });
    const items = Array.from({ length: count }, (_, i) => `i${i}`);
    assert.deepEqual(await readAll(), items);

    const bytes = (await systemFiles.readFile(path))!;
    assert.ok(bytes.length > 6_000_000, "several chunks");
    const partly = async (damaged: Uint8Array): Promise<number> => {
      await systemFiles.writeFileAtomic(path, damaged);
      const found: string[] = [];
      await assert.rejects(
        async () => {
          for await (const samples of readSampleFile(systemFiles, path)) found.push(...samples.map(({ item }) => item));
        },
        (thrown) => thrown instanceof MillraceError && thrown.code === "corrupt",
      );
      assert.deepEqual(found, items.slice(0, found.length));
      return found.length;
    };
    assert.equal(await partly(bytes.subarray(0, bytes.length - 1)), count - 1);
    const turned = bytes.slice();
    turned[bytes.length >> 1]! ^= 4;
    assert.ok((await partly(turned)) >= 500);
    assert.equal(await partly(bytes.subarray(0, 5)), 0);
  } finally {
    await systemFiles.removeFolder(folder);
  }
  await assert.rejects(readAll(), { code: "not-found" });
});
