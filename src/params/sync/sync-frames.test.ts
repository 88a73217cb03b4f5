// Guards the bytes of parameter synchronisation: golden frames of version 1, everything comes out as it went in, and nothing that was read is believed.

import assert from "node:assert/strict";
import { test } from "node:test";
import { MillraceError } from "#base/errors";
import { crc32c } from "#base/crc32c";
import { Prng } from "#base/prng";
import { EntryBatch, entryFlags, noVersion, versionOf } from "../sync-table.ts";
import { frameBytesMax, frameHeadBytes, frameLengthAt, FrameReader, frameTypes, FrameWriter, Push, type Summary, wants } from "./sync-frames.ts";
import { VersionVectors } from "./version-vectors.ts";

const buckets = 4096;
const groups = 64;

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

function written(write: (writer: FrameWriter) => number): Uint8Array {
  const writer = new FrameWriter();
  return writer.bytes.slice(0, write(writer));
}

function readerOf(frame: Uint8Array, type: number): FrameReader {
  const reader = new FrameReader(buckets);
  assert.equal(frameLengthAt(frame, 0, frame.length), frame.length);
  assert.equal(reader.begin(frame, 0, frame.length), type);
  return reader;
}

/** Two sections: one live row and a tombstone of one bucket, one row of another, led one. */
function examplePush(): Push {
  const push = new Push(new EntryBatch(2));
  push.id = 7;
  push.part = 1;
  push.loaded = true;
  push.ageUs = 300;
  const section = (bucket: number, epoch: number, node: number, flags: number, from: number, to: number, count: number): void => {
    const s = push.sections++;
    push.bucket[s] = bucket;
    push.origin[s] = epoch * 256 + node;
    push.flags[s] = flags;
    push.from[s] = from;
    push.to[s] = to;
    push.count[s] = count;
  };
  const { entries } = push;
  section(300, 2, 1, 1, 1_000, 1_005, 2);
  entries.reserve(3);
  entries.values.set([1, -2], 2 * entries.push(5, 0, versionOf(2, 1_002, 1), 0, 1_700_000_000));
  entries.push(6, 9, versionOf(2, 1_005, 1), entryFlags.tombstone, 1_699_999_999);
  section(4_095, 1, 3, 0, 0, 2 ** 40 - 1, 1);
  const i = entries.push(0xffff_ffff, 0x8000_0000, versionOf(1, 2 ** 40 - 1, 3), 0, 1_700_000_002);
  entries.values.set([0.5, 3], 2 * i);
  return push;
}

test("golden: frames of protocol version 1", () => {
  const frames = {
    hello: written((writer) => writer.hello({ dim: 16, buckets, node: 3, want: wants.all, life: 0x01020304, table: "items.0", token: "t" })),
    vector: written((writer) =>
      writer.vector({
        push: 7,
        all: false,
        more: false,
        torn: false,
        vectors: [
          {
            bucket: 300,
            stretches: [
              { origin: 257, counter: 5 },
              { origin: 513, counter: 70_000 },
            ],
          },
        ],
      }),
    ),
    push: written((writer) => writer.push(examplePush())),
    bounds: written((writer) => writer.bounds([{ bucket: 1, collected: versionOf(2, 9, 1), expired: noVersion }])),
    pull: written((writer) => writer.pull({ level: 2, groups: Uint8Array.of(0, 128, 0, 0, 0, 0, 0, 1) })),
    lead: written((writer) =>
      writer.lead({ node: 2, groups: [{ group: 63, epoch: 300 }], taken: [{ bucket: 4_032, stretches: [{ origin: 257, counter: 8 }] }] }),
    ),
    beat: written((writer) => writer.beat({ loaded: true, ageUs: 1_500 })),
    refuse: written((writer) => writer.refuse("no")),
  };
  assert.deepEqual(Object.fromEntries(Object.entries(frames).map(([name, bytes]) => [name, hex(bytes)])), {
    beat: "04000000c4d421b70901dc0b",
    bounds: "13000000ef21918705010101090000000002000000000000000000",
    hello: "19000000087c3209014d50535901108020030204030201076974656d732e300174",
    lead: "0d000000364c1f1a0802013fac0201c01f01810208",
    pull: "0b000000b6e3f7fb0602080080000000000001",
    push: "59000000af151cda04070000000301ac0200f1536502810483020203ac0201e8070502ff1f0400ffffffffff1f0105000000000000000600000009000000ffffffff000000800203ffffffffff1f0003080000803f000000c00000003f00004040",
    refuse: "040000008122fdf302026e6f",
    vector: "120000003da66dcf03070000000001ac02028102058104f0a204",
  });
});

test("everything that is written is read again", () => {
  const hello = { dim: 1024, buckets: 16_384, node: 255, want: wants.led, life: 0xffff_ffff, table: "tabelle-ä", token: "" };
  assert.deepEqual(
    readerOf(
      written((writer) => writer.hello(hello)),
      frameTypes.hello,
    ).hello(),
    hello,
  );
  const push = new Push(new EntryBatch(2));
  readerOf(
    written((writer) => writer.push(examplePush())),
    frameTypes.push,
  ).push(push);
  const sent = examplePush();
  assert.deepEqual([push.id, push.part, push.last, push.loaded, push.ageUs, push.sections], [7, 1, true, true, 300, 2]);
  for (const column of ["bucket", "origin", "flags", "from", "to", "count"] as const)
    assert.deepEqual([...push[column].subarray(0, 2)], [...sent[column].subarray(0, 2)]);
  const { entries } = push;
  assert.equal(entries.count, 3);
  assert.deepEqual([...entries.keys.subarray(0, 6)], [...sent.entries.keys.subarray(0, 6)]);
  assert.deepEqual([...entries.versions.subarray(0, 6)], [...sent.entries.versions.subarray(0, 6)]);
  assert.deepEqual([...entries.flags.subarray(0, 3)], [0, entryFlags.tombstone, 0]);
  assert.deepEqual([...entries.touched.subarray(0, 3)], [1_700_000_000, 1_699_999_999, 1_700_000_002]);
  assert.deepEqual([...entries.values.subarray(0, 2), ...entries.values.subarray(4, 6)], [1, -2, 0.5, 3]);
  const summary: Summary = {
    level: 2,
    groups: Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0),
    loaded: true,
    sums: [],
    buckets: [
      { bucket: 3, collected: versionOf(1, 2, 3), expired: noVersion, digest: { high: 5, low: 6 }, steady: true, stretches: [{ origin: 256, counter: 1 }] },
    ],
  };
  assert.deepEqual(
    readerOf(
      written((writer) => writer.summary(summary)),
      frameTypes.summary,
    ).summary(groups),
    summary,
  );
  const sums: Summary = {
    level: 0,
    groups: new Uint8Array(8),
    loaded: false,
    sums: [{ digest: { high: 1, low: 2 }, places: { high: 3, low: 4 } }],
    buckets: [],
  };
  assert.deepEqual(
    readerOf(
      written((writer) => writer.summary(sums)),
      frameTypes.summary,
    ).summary(groups),
    sums,
  );
});

/** A frame with other bytes after its head, and a sum that holds. */
function forged(bytes: Uint8Array): Uint8Array {
  const frame = new Uint8Array(frameHeadBytes + bytes.length);
  frame.set(bytes, frameHeadBytes);
  const view = new DataView(frame.buffer);
  view.setUint32(0, bytes.length, true);
  view.setUint32(4, crc32c(frame, 0, frameHeadBytes), true);
  return frame;
}

function readAny(frame: Uint8Array, into: Push): void {
  const reader = new FrameReader(buckets);
  const type = reader.begin(frame, 0, frame.length);
  if (type === frameTypes.hello) reader.hello();
  else if (type === frameTypes.refuse) reader.refuse();
  else if (type === frameTypes.vector) reader.vector();
  else if (type === frameTypes.push) reader.push(into);
  else if (type === frameTypes.bounds) reader.bounds();
  else if (type === frameTypes.pull) reader.pull(groups);
  else if (type === frameTypes.summary) reader.summary(groups);
  else if (type === frameTypes.lead) reader.lead(groups);
  else if (type === frameTypes.beat) reader.beat();
}

const isCorrupt = (thrown: unknown): boolean => thrown instanceof MillraceError && thrown.code === "corrupt";

test("fuzz: a damaged frame is corrupt or something else that is whole, never a crash and never room for what is not there", () => {
  const seed = Number(process.env["SEED"] ?? 3);
  const random = new Prng(seed);
  const into = new Push(new EntryBatch(2));
  const frames = [
    written((writer) => writer.push(examplePush())),
    written((writer) => writer.hello({ dim: 16, buckets, node: 3, want: wants.all, life: 1, table: "items.0", token: "t" })),
    written((writer) => writer.vector({ push: 7, all: true, more: false, torn: false, vectors: [{ bucket: 300, stretches: [{ origin: 257, counter: 5 }] }] })),
    written((writer) => writer.bounds([{ bucket: 1, collected: versionOf(2, 9, 1), expired: noVersion }])),
    written((writer) => writer.pull({ level: 1, groups: new Uint8Array(8).fill(255) })),
    written((writer) => writer.lead({ node: 2, groups: [{ group: 63, epoch: 300 }], taken: [{ bucket: 40, stretches: [{ origin: 257, counter: 8 }] }] })),
    written((writer) => writer.beat({ loaded: true, ageUs: 1_500 })),
  ];
  let refused = 0;
  for (let round = 0; round < 20_000; round++) {
    const whole = random.pick(frames);
    // Any change is found by the checksum.
    if (round % 4 === 0) {
      const bent = whole.slice();
      bent[4 + random.below(bent.length - 4)]! ^= 1 << random.below(8);
      assert.throws(() => readAny(bent, into), isCorrupt, `seed ${seed}, round ${round}`);
      continue;
    }
    // One who makes the checksum hold is not believed either.
    let body = whole.slice(frameHeadBytes);
    for (let i = random.below(4); i >= 0; i--) body[random.below(body.length)] = random.below(256);
    if (random.chance(0.3)) body = body.slice(0, 1 + random.below(body.length));
    if (random.chance(0.1)) body = Uint8Array.from([...body, ...random.bytes(new Uint8Array(1 + random.below(9)))]);
    try {
      readAny(forged(body), into);
    } catch (thrown) {
      assert.ok(isCorrupt(thrown), `seed ${seed}, round ${round}: ${String(thrown)}`);
      refused++;
    }
    assert.ok(into.entries.flags.length < 100_000, "room for entries that are not there");
  }
  assert.ok(refused > 5_000, `${refused} refused`);
});

test("lengths: none yet, none at all, one too long", () => {
  assert.equal(frameLengthAt(Uint8Array.of(1, 0, 0), 0, 3), 0);
  assert.equal(frameLengthAt(Uint8Array.of(1, 0, 0, 0), 0, 4), frameHeadBytes + 1);
  assert.throws(() => frameLengthAt(Uint8Array.of(0, 0, 0, 0), 0, 4), isCorrupt);
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, frameBytesMax - frameHeadBytes, true);
  assert.equal(frameLengthAt(bytes, 0, 4), frameBytesMax);
  new DataView(bytes.buffer).setUint32(0, frameBytesMax - frameHeadBytes + 1, true);
  assert.throws(() => frameLengthAt(bytes, 0, 4), isCorrupt);
});

test("vectors: origins ascend, counters only rise, the oldest of too many is left out and counts as held", () => {
  const vectors = new VersionVectors(4);
  assert.equal(vectors.raise(1, 600, 5), true);
  assert.equal(vectors.raise(1, 600, 5), false);
  assert.equal(vectors.raise(1, 300, 9), true);
  assert.equal(vectors.raise(1, 300, 8), false);
  assert.deepEqual(vectors.stretches(1), [
    { origin: 300, counter: 9 },
    { origin: 600, counter: 5 },
  ]);
  assert.deepEqual([vectors.counterOf(1, 600), vectors.counterOf(1, 300), vectors.counterOf(1, 400), vectors.counterOf(0, 300)], [5, 9, 0, 0]);
  const other = new VersionVectors(4);
  other.raise(1, 600, 5);
  assert.deepEqual([vectors.coversOther(1, other), other.coversOther(1, vectors)], [true, false]);
  const [a, b] = [new Uint32Array(2), new Uint32Array(2)];
  vectors.term(1, a);
  other.term(1, b);
  assert.notDeepEqual(a, b);
  other.raise(1, 300, 9);
  other.term(1, b);
  assert.deepEqual(a, b);
  for (let origin = 700; origin < 706; origin++) vectors.raise(1, origin, 1);
  assert.equal(vectors.stretches(1).length, 8);
  vectors.raise(1, 800, 1);
  assert.deepEqual([vectors.stretches(1).length, vectors.stretches(1)[0]!.origin, vectors.counterOf(1, 300), vectors.counterOf(1, 650)], [8, 600, Infinity, 0]);
  assert.equal(vectors.raise(1, 300, 77), false);
  vectors.forget(1);
  assert.deepEqual([vectors.isEmpty(1), vectors.stretches(1)], [true, []]);
});
