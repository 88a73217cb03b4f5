// Checkpoints: what was written comes back, anything else is refused, and the newest good one of the same options is used.

import assert from "node:assert/strict";
import { test } from "node:test";
import { MillraceError } from "#base/errors";
import { Prng } from "#base/prng";
import { systemClock } from "#platform/system-clock";
import { makeTemporaryFolder, systemFiles } from "#platform/system-files";
import {
  type Checkpoint,
  checkpointsKept,
  decodeCheckpoint,
  encodeCheckpoint,
  onePart,
  optionsHash,
  partsOf,
  restoreNewest,
  writeCheckpoint,
} from "./checkpoint.ts";

const seed = Number(process.env["SEED"] ?? 20_260_304);

const sample = (offset: number, some: Partial<Checkpoint> = {}): Checkpoint => ({
  extractorId: 0xdead_beef,
  optionsHash: 7,
  offset,
  writtenMs: 1_700_000_000_000,
  parts: [
    { name: "machine", bytes: new Uint8Array([1, 2, 3, offset & 255]) },
    { name: "machine", bytes: new Uint8Array(0) },
    { name: "joiner", bytes: new TextEncoder().encode("state") },
  ],
  ...some,
});

test("a checkpoint comes back as it was", async () => {
  const checkpoint = sample(2 ** 40);
  const bytes = await encodeCheckpoint(checkpoint, systemClock);
  assert.deepEqual(decodeCheckpoint(bytes), checkpoint);
  assert.deepEqual(partsOf(checkpoint, "machine").length, 2);
  assert.throws(() => onePart(checkpoint, "machine"), { code: "corrupt" });
  assert.throws(() => onePart(checkpoint, "none"), { code: "corrupt" });
  const large = sample(1, { parts: [{ name: "x", bytes: new Prng(seed).bytes(new Uint8Array(2_500_001)) }] });
  assert.deepEqual(decodeCheckpoint(await encodeCheckpoint(large, systemClock)), large);
});

test("promise: a checkpoint with any bit turned, cut or lengthened anywhere is refused", async (t) => {
  t.diagnostic(`seed ${seed}`);
  const prng = new Prng(seed).fork("damage");
  const parts = [
    { name: "machine", bytes: prng.bytes(new Uint8Array(400)) },
    { name: "quality", bytes: prng.bytes(new Uint8Array(90)) },
  ];
  const bytes = await encodeCheckpoint(sample(12, { parts }), systemClock);
  const refused = (damaged: Uint8Array, how: string): void => {
    assert.throws(
      () => decodeCheckpoint(damaged),
      (thrown) => thrown instanceof MillraceError && thrown.code === "corrupt",
      how,
    );
  };
  for (let bit = 0; bit < bytes.length * 8; bit += 1) {
    const turned = bytes.slice();
    turned[bit >> 3]! ^= 1 << (bit & 7);
    refused(turned, `bit ${bit}`);
  }
  for (let length = 0; length < bytes.length; length += 1) refused(bytes.slice(0, length), `cut to ${length}`);
  for (let round = 0; round < 300; round += 1) {
    const damaged = bytes.slice();
    for (let count = prng.between(1, 40); count > 0; count -= 1) damaged[prng.below(damaged.length)] = prng.u32();
    if (damaged.every((byte, at) => byte === bytes[at])) continue;
    refused(damaged, `seed ${seed}, round ${round}`);
  }
  const longer = new Uint8Array(bytes.length + 1);
  longer.set(bytes);
  refused(longer, "one byte more");
});

test("the newest good one is used; a damaged one is passed over with a warning; the last ones are kept", async () => {
  const folder = await makeTemporaryFolder("millrace-checkpoint-");
  const kind = { extractorId: 0xdead_beef, optionsHash: 7 };
  const warnings: string[] = [];
  const restore = (usable: (checkpoint: Checkpoint) => void = () => undefined, of = kind): Promise<Checkpoint | undefined> =>
    restoreNewest(systemFiles, folder, of, usable, (message) => warnings.push(message));
  try {
    assert.equal(await restore(), undefined);
    assert.deepEqual(warnings, []);
    for (const offset of [5, 40, 300, 2_000]) await writeCheckpoint(systemFiles, systemClock, folder, sample(offset));
    const names = (await systemFiles.list(folder))!;
    assert.equal(names.length, checkpointsKept);
    assert.equal((await restore())!.offset, 2_000);

    const newest = systemFiles.join(folder, names.at(-1)!);
    const bytes = (await systemFiles.readFile(newest))!;
    await systemFiles.writeFileAtomic(newest, bytes.subarray(0, bytes.length - 3));
    assert.equal((await restore())!.offset, 300);
    assert.equal(warnings.length, 1);
    assert.match(warnings[0]!, /not used, the one before/);

    // One whose content is whole and still cannot be loaded.
    let asked = 0;
    const found = await restore(({ offset }) => {
      asked += 1;
      if (offset === 300) throw new MillraceError("corrupt", "joiner state: another version");
    });
    assert.deepEqual([found!.offset, asked, warnings.length], [40, 2, 3]);

    // Under a name that is not its own.
    await systemFiles.rename(systemFiles.join(folder, names[0]!), newest);
    assert.equal((await restore())!.offset, 300);

    // Of other options: said, and not used; gone once there are enough of the new ones.
    warnings.length = 0;
    const other = { ...kind, optionsHash: 8 };
    assert.equal(await restore(undefined, other), undefined);
    assert.match(warnings[0]!, /another extractor or other options.*anew/);
    for (const offset of [1, 2]) await writeCheckpoint(systemFiles, systemClock, folder, sample(offset, other));
    assert.equal((await restore())!.offset, 300, "the old ones are still there to go back to");
    await writeCheckpoint(systemFiles, systemClock, folder, sample(3, other));
    assert.equal((await systemFiles.list(folder))!.length, checkpointsKept);
  } finally {
    await systemFiles.removeFolder(folder);
  }
});

test("equal options have equal numbers, whatever the order of their names", () => {
  assert.equal(optionsHash({ a: 1, b: { c: [1, 2n], d: undefined } }), optionsHash({ b: { c: [1, 2n] }, a: 1 }));
  assert.notEqual(optionsHash({ a: 1 }), optionsHash({ a: 2 }));
  assert.notEqual(optionsHash({ a: [1, 2] }), optionsHash({ a: [2, 1] }));
});
