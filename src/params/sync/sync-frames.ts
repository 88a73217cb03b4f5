// The frames of parameter synchronisation as bytes. Layout and golden bytes: docs/format/parameter-sync.md.
// A frame: lengthU32 (of what follows the first 8 bytes), crc32cU32 of that, typeU8, body. Little-endian.
// Why columns in a push: keys and values go in and out by one copy each, and counters relative to one another take a byte or two instead of eight.
// Invariants: 1. a frame has at most `frameBytesMax` bytes  2. nothing that was read is believed: lengths, orders and ranges are checked, and what does
//             not hold is `corrupt`  3. encoding writes into one buffer that is used again; decoding copies out of the buffer it was given.
// Cost (measured in the bench param-sync): see docs/design/param-sync.md. Concurrency: none of its own.

import { crc32c } from "#base/crc32c";
import { MillraceError } from "#base/errors";
import { counterOf, type EntryBatch, entryFlags, type Version, versionLimits } from "../sync-table.ts";
import { type Stretch, stretchesMax } from "./version-vectors.ts";

export const protocolVersion = 1;
export const frameBytesMax = 65_536;
export const frameHeadBytes = 8;
export const nameBytesMax = 200;
/** Upper bounds of what a section and an entry without its values take. */
export const sectionBytesMax = 24;
export const entryBytesMax = 20;
/** Of a push without sections and entries. */
export const pushHeadBytesMax = 64 + 5 * 64;
export const originsMax = 64;
const magic = 0x5953504d;

export const frameTypes = { hello: 1, refuse: 2, vector: 3, push: 4, bounds: 5, pull: 6, summary: 7, lead: 8, beat: 9 } as const;

/** What a node asks of the one it connects to. */
export const wants = { nothing: 0, led: 1, all: 2 } as const;
export type Want = (typeof wants)[keyof typeof wants];

export interface Hello {
  readonly dim: number;
  readonly buckets: number;
  readonly node: number;
  readonly want: Want;
  /** Drawn at random by each process: two lives of a node are two. */
  readonly life: number;
  readonly table: string;
  readonly token: string;
}

export interface BucketVector {
  readonly bucket: number;
  readonly stretches: readonly Stretch[];
}

export interface VectorFrame {
  /** The push that this answers, 0: none. */
  readonly push: number;
  /** Forget what was known: buckets that do not come now are empty. */
  readonly all: boolean;
  /** More frames of the same vectors follow. */
  readonly more: boolean;
  /** A frame of the push was missing: none of it counts as held. */
  readonly torn: boolean;
  readonly vectors: readonly BucketVector[];
}

export interface Bounds {
  readonly bucket: number;
  /** Tombstones up to it may be gone. */
  readonly collected: Version;
  /** Nothing up to it exists any more. */
  readonly expired: Version;
}

export interface Pull {
  /** 0: one sum for all, 1: one a group, 2: buckets. */
  readonly level: 0 | 1 | 2;
  /** One bit a group; without meaning at level 0. */
  readonly groups: Uint8Array;
}

export interface Sums {
  readonly digest: Version;
  /** Over vectors and bounds. */
  readonly places: Version;
}

export interface BucketSummary extends Bounds {
  readonly digest: Version;
  /** False when entries beyond the vector are held: then digests differ rightly. */
  readonly steady: boolean;
  readonly stretches: readonly Stretch[];
}

export interface Summary {
  readonly level: 0 | 1 | 2;
  /** The groups that it speaks of. */
  readonly groups: Uint8Array;
  /** Nothing of a load is left to be sent to the one who asked. */
  readonly loaded: boolean;
  /** Level 0: one. Level 1: one a bit of `groups`. */
  readonly sums: readonly Sums[];
  /** Level 2. */
  readonly buckets: readonly BucketSummary[];
}

export interface Lead {
  readonly node: number;
  readonly groups: readonly { readonly group: number; readonly epoch: number }[];
  /** Of buckets that the reader once led: what was held of them when they were taken over. */
  readonly taken: readonly BucketVector[];
}

export interface Beat {
  /** Nothing of a load is left to be sent. */
  readonly loaded: boolean;
  /** Age of the oldest change that is not acknowledged by the reader, microseconds. */
  readonly ageUs: number;
}

export const sectionFlags = {
  /** The sender leads the bucket in the epoch of the origin. */
  leading: 1,
  /** Forget the bucket first: its tombstones were collected beyond what the reader holds. */
  anew: 2,
} as const;

/** A push: sections of (bucket, origin, from, to] and their entries, ascending within a section. Columns that are used again. */
export class Push {
  id = 0;
  /** Number of the frame within its push, from 0. */
  part = 0;
  /** The last frame of this push: to be answered. */
  last = true;
  loaded = false;
  ageUs = 0;
  sections = 0;
  readonly bucket = new Uint32Array(4096);
  readonly origin = new Uint32Array(4096);
  readonly flags = new Uint8Array(4096);
  readonly from = new Float64Array(4096);
  readonly to = new Float64Array(4096);
  readonly count = new Uint32Array(4096);
  readonly entries: EntryBatch;

  constructor(entries: EntryBatch) {
    this.entries = entries;
  }

  clear(): void {
    this.sections = 0;
    this.ageUs = 0;
    this.entries.clear();
  }
}

export const pushSectionsMax = 4096;
/** Frames of one push. */
export const pushPartsMax = 16;

const corrupt = (what: string): MillraceError =>
  new MillraceError("corrupt", `a frame of parameter synchronisation: ${what}`, {
    todo: "the connection is ended and made anew; when it happens again, look whether both sides run the same version",
  });

// ---- writing ------------------------------------------------------------------------------------------------------------------------

/** One frame at a time in a buffer that is used again. */
export class FrameWriter {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly #view: DataView;
  #at = 0;
  /** Of the push that is written: its origins, and of each section the place of its origin there. */
  readonly #origins = new Float64Array(originsMax);
  readonly #places = new Uint8Array(pushSectionsMax);

  constructor() {
    this.bytes = new Uint8Array(frameBytesMax);
    this.#view = new DataView(this.bytes.buffer);
  }

  hello(hello: Hello): number {
    this.#begin(frameTypes.hello);
    this.#u32(magic);
    this.#varint(protocolVersion);
    this.#varint(hello.dim);
    this.#varint(hello.buckets);
    this.#u8(hello.node);
    this.#u8(hello.want);
    this.#u32(hello.life);
    this.#text(hello.table);
    this.#text(hello.token);
    return this.#end();
  }

  refuse(why: string): number {
    this.#begin(frameTypes.refuse);
    this.#text(why);
    return this.#end();
  }

  vector(frame: VectorFrame): number {
    this.#begin(frameTypes.vector);
    this.#u32(frame.push);
    this.#u8((frame.all ? 1 : 0) | (frame.more ? 2 : 0) | (frame.torn ? 4 : 0));
    this.#vectors(frame.vectors);
    return this.#end();
  }

  bounds(bounds: readonly Bounds[]): number {
    this.#begin(frameTypes.bounds);
    this.#varint(bounds.length);
    for (const bound of bounds) this.#bounds(bound);
    return this.#end();
  }

  pull(pull: Pull): number {
    this.#begin(frameTypes.pull);
    this.#u8(pull.level);
    this.#block(pull.groups);
    return this.#end();
  }

  summary(summary: Summary): number {
    this.#begin(frameTypes.summary);
    this.#u8(summary.level);
    this.#u8(summary.loaded ? 1 : 0);
    this.#block(summary.groups);
    this.#varint(summary.sums.length);
    for (const { digest, places } of summary.sums) {
      this.#version(digest);
      this.#version(places);
    }
    this.#varint(summary.buckets.length);
    for (const bucket of summary.buckets) {
      this.#bounds(bucket);
      this.#version(bucket.digest);
      this.#u8(bucket.steady ? 1 : 0);
      this.#stretches(bucket.stretches);
    }
    return this.#end();
  }

  lead(lead: Lead): number {
    this.#begin(frameTypes.lead);
    this.#u8(lead.node);
    this.#varint(lead.groups.length);
    for (const { group, epoch } of lead.groups) {
      this.#varint(group);
      this.#varint(epoch);
    }
    this.#vectors(lead.taken);
    return this.#end();
  }

  beat(beat: Beat): number {
    this.#begin(frameTypes.beat);
    this.#u8(beat.loaded ? 1 : 0);
    this.#varint(beat.ageUs);
    return this.#end();
  }

  push(push: Push): number {
    const { entries } = push;
    const { count } = entries;
    const origins = this.#origins;
    const places = this.#places;
    let originCount = 0;
    for (let s = 0; s < push.sections; s++) {
      const origin = push.origin[s]!;
      let place = 0;
      while (place < originCount && origins[place] !== origin) place++;
      if (place === originCount) origins[originCount++] = origin;
      places[s] = place;
    }
    const base = count > 0 ? entries.touched[0]! : 0;
    this.#begin(frameTypes.push);
    this.#u32(push.id);
    this.#u8((push.last ? 1 : 0) | (push.loaded ? 2 : 0));
    this.#u8(push.part);
    this.#varint(Math.min(push.ageUs, 0xffff_ffff));
    this.#u32(base);
    this.#varint(originCount);
    for (let i = 0; i < originCount; i++) this.#varint(origins[i]!);
    this.#varint(push.sections);
    this.#varint(count);
    for (let s = 0; s < push.sections; s++) {
      this.#varint(push.bucket[s]!);
      this.#varint(places[s]! * 4 + push.flags[s]!);
      this.#varint(push.from[s]!);
      this.#varint(push.to[s]! - push.from[s]!);
      this.#varint(push.count[s]!);
    }
    this.#copy(new Uint8Array(entries.keys.buffer, 0, 8 * count));
    let i = 0;
    for (let s = 0; s < push.sections; s++) {
      let before = push.from[s]!;
      for (const end = i + push.count[s]!; i < end; i++) {
        const counter = entries.counterAt(i);
        this.#varint(counter - before);
        before = counter;
      }
    }
    let tombstones = 0;
    for (let e = 0; e < count; e++) {
      const dead = entries.flags[e]! & entryFlags.tombstone;
      tombstones += dead;
      // Zigzag: mostly 0, may be negative; the lowest bit says whether it is a tombstone.
      const later = entries.touched[e]! - base;
      this.#varint((later < 0 ? -2 * later - 1 : 2 * later) * 2 + dead);
    }
    const rowBytes = 4 * entries.dim;
    const values = new Uint8Array(entries.values.buffer, 0, rowBytes * count);
    if (tombstones === 0) this.#copy(values);
    else for (let e = 0; e < count; e++) if (!entries.isTombstone(e)) this.#copy(values.subarray(e * rowBytes, (e + 1) * rowBytes));
    return this.#end();
  }

  #begin(type: number): void {
    this.#at = frameHeadBytes;
    this.bytes[this.#at++] = type;
  }

  #end(): number {
    this.#view.setUint32(0, this.#at - frameHeadBytes, true);
    this.#view.setUint32(4, crc32c(this.bytes, 0, frameHeadBytes, this.#at), true);
    return this.#at;
  }

  #u8(value: number): void {
    this.bytes[this.#at++] = value;
  }

  #u32(value: number): void {
    this.#view.setUint32(this.#at, value, true);
    this.#at += 4;
  }

  /** LEB128, 0 to 2^53 - 1. */
  #varint(value: number): void {
    const { bytes } = this;
    let rest = value;
    while (rest > 0x7fff_ffff) {
      bytes[this.#at++] = (rest % 128) | 128;
      rest = Math.floor(rest / 128);
    }
    while (rest > 127) {
      bytes[this.#at++] = (rest & 127) | 128;
      rest >>>= 7;
    }
    bytes[this.#at++] = rest;
  }

  #version(version: Version): void {
    this.#u32(version.low);
    this.#u32(version.high);
  }

  #bounds(bounds: Bounds): void {
    this.#varint(bounds.bucket);
    this.#version(bounds.collected);
    this.#version(bounds.expired);
  }

  #stretches(stretches: readonly Stretch[]): void {
    this.#varint(stretches.length);
    for (const { origin, counter } of stretches) {
      this.#varint(origin);
      this.#varint(counter);
    }
  }

  #vectors(vectors: readonly BucketVector[]): void {
    this.#varint(vectors.length);
    for (const { bucket, stretches } of vectors) {
      this.#varint(bucket);
      this.#stretches(stretches);
    }
  }

  #block(bytes: Uint8Array): void {
    this.#varint(bytes.length);
    this.#copy(bytes);
  }

  #copy(bytes: Uint8Array): void {
    this.bytes.set(bytes, this.#at);
    this.#at += bytes.length;
  }

  #text(text: string): void {
    this.#block(new TextEncoder().encode(text).subarray(0, nameBytesMax));
  }
}

// ---- reading ------------------------------------------------------------------------------------------------------------------------

/**
 * Bytes of the frame that begins at `at`, 0 when its length has not come yet. Throws `corrupt` when there can be no such frame: what comes after that
 * cannot be believed either.
 */
export function frameLengthAt(bytes: Uint8Array, at: number, end: number): number {
  if (end - at < 4) return 0;
  const length = (bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24)) >>> 0;
  if (length < 1 || length > frameBytesMax - frameHeadBytes) throw corrupt(`a length of ${length} bytes`);
  return frameHeadBytes + length;
}

const decoder = new TextDecoder("utf-8", { fatal: true });

/** Reads one frame at a time; used again. */
export class FrameReader {
  #bytes = new Uint8Array(0);
  #at = 0;
  #end = 0;
  readonly #buckets: number;
  readonly #origins = new Float64Array(originsMax);

  constructor(buckets: number) {
    this.#buckets = buckets;
  }

  /** Begins with the whole frame `bytes[at, end)`: checks its sum and returns its type. */
  begin(bytes: Uint8Array, at: number, end: number): number {
    this.#bytes = bytes as Uint8Array<ArrayBuffer>;
    this.#at = at + 4;
    this.#end = end;
    const sum = this.#u32();
    if (crc32c(bytes, 0, at + frameHeadBytes, end) !== sum) throw corrupt("its checksum does not hold");
    return this.#u8();
  }

  hello(): Hello {
    if (this.#u32() !== magic) throw corrupt("this is no parameter synchronisation");
    const version = this.#varint();
    if (version !== protocolVersion) throw corrupt(`protocol version ${version}, this side speaks ${protocolVersion}`);
    const [dim, buckets, node, want, life] = [this.#varint(), this.#varint(), this.#u8(), this.#u8(), this.#u32()];
    if (want > wants.all) throw corrupt(`a want of ${want}`);
    const hello: Hello = { dim, buckets, node, want: want as Want, life, table: this.#text(), token: this.#text() };
    this.#done();
    return hello;
  }

  refuse(): string {
    const why = this.#text();
    this.#done();
    return why;
  }

  vector(): VectorFrame {
    const push = this.#u32();
    const flags = this.#u8();
    const frame: VectorFrame = { push, all: (flags & 1) !== 0, more: (flags & 2) !== 0, torn: (flags & 4) !== 0, vectors: this.#vectors() };
    this.#done();
    return frame;
  }

  bounds(): Bounds[] {
    const count = this.#varintMax(this.#buckets, "bounds");
    const bounds: Bounds[] = [];
    for (let i = 0; i < count; i++) bounds.push(this.#bounds());
    this.#done();
    return bounds;
  }

  pull(groups: number): Pull {
    const pull: Pull = { level: this.#level(), groups: this.#groups(groups) };
    this.#done();
    return pull;
  }

  summary(groups: number): Summary {
    const level = this.#level();
    const loaded = (this.#u8() & 1) !== 0;
    const bits = this.#groups(groups);
    const sumCount = this.#varintMax(groups, "sums");
    const sums: Sums[] = [];
    for (let i = 0; i < sumCount; i++) sums.push({ digest: this.#version(), places: this.#version() });
    let spokenOf = 0;
    for (const byte of bits) for (let bit = byte; bit > 0; bit &= bit - 1) spokenOf++;
    if (sumCount !== (level === 0 ? 1 : level === 1 ? spokenOf : 0)) throw corrupt(`${sumCount} sums`);
    const bucketCount = this.#varintMax(level === 2 ? this.#buckets : 0, "buckets");
    const buckets: BucketSummary[] = [];
    for (let i = 0; i < bucketCount; i++) {
      const bounds = this.#bounds();
      buckets.push({ ...bounds, digest: this.#version(), steady: (this.#u8() & 1) !== 0, stretches: this.#stretches() });
    }
    this.#done();
    return { level, groups: bits, loaded, sums, buckets };
  }

  lead(groups: number): Lead {
    const node = this.#u8();
    const count = this.#varintMax(groups, "groups");
    const led: { group: number; epoch: number }[] = [];
    for (let i = 0; i < count; i++) led.push({ group: this.#varintMax(groups - 1, "a group"), epoch: this.#varintMax(versionLimits.epochMax, "an epoch") });
    const lead: Lead = { node, groups: led, taken: this.#vectors() };
    this.#done();
    return lead;
  }

  beat(): Beat {
    const beat: Beat = { loaded: (this.#u8() & 1) !== 0, ageUs: this.#varintMax(0xffff_ffff, "an age") };
    this.#done();
    return beat;
  }

  /** Into a push that is used again. */
  push(into: Push): void {
    const { entries } = into;
    into.clear();
    into.id = this.#u32();
    const flags = this.#u8();
    into.last = (flags & 1) !== 0;
    into.loaded = (flags & 2) !== 0;
    into.part = this.#u8();
    if (into.part >= pushPartsMax) throw corrupt(`part ${into.part} of a push`);
    into.ageUs = this.#varintMax(0xffff_ffff, "an age");
    const base = this.#u32();
    const originCount = this.#varintMax(originsMax, "origins");
    const origins = this.#origins;
    for (let i = 0; i < originCount; i++) origins[i] = this.#origin();
    const sections = this.#varintMax(pushSectionsMax, "sections");
    const count = this.#varintMax(frameBytesMax, "entries");
    let listed = 0;
    for (let s = 0; s < sections; s++) {
      into.bucket[s] = this.#varintMax(this.#buckets - 1, "a bucket");
      const coded = this.#varint();
      const place = Math.floor(coded / 4);
      if (place >= originCount) throw corrupt("an origin that is not listed");
      into.origin[s] = origins[place]!;
      into.flags[s] = coded & 3;
      const from = this.#varintMax(versionLimits.counterMax, "a counter");
      const to = from + this.#varint();
      if (to > versionLimits.counterMax) throw corrupt("a counter beyond its range");
      into.from[s] = from;
      into.to[s] = to;
      const of = this.#varint();
      into.count[s] = of;
      listed += of;
    }
    into.sections = sections;
    if (listed !== count) throw corrupt(`${count} entries, its sections say ${listed}`);
    // Eight bytes of key and at least a byte of counter and of touch each: no room is made for what cannot be there.
    if (10 * count > this.#end - this.#at) throw corrupt("more entries than bytes");
    entries.reserve(count);
    entries.count = count;
    new Uint8Array(entries.keys.buffer, 0, 8 * count).set(this.#take(8 * count));
    let i = 0;
    for (let s = 0; s < sections; s++) {
      const origin = into.origin[s]!;
      const [epoch, node] = [origin >>> 8, origin & 255];
      let counter = into.from[s]!;
      for (const end = i + into.count[s]!; i < end; i++) {
        const step = this.#varint();
        counter += step;
        if (step === 0 || counter > into.to[s]!) throw corrupt("entries of a section out of order");
        // versionOf, without an object an entry.
        entries.versions[2 * i] = ((epoch << 16) | Math.floor(counter / 2 ** 24)) >>> 0;
        entries.versions[2 * i + 1] = (((counter % 2 ** 24) << 8) | node) >>> 0;
      }
    }
    let live = 0;
    for (let e = 0; e < count; e++) {
      const coded = this.#varint();
      const dead = coded % 2;
      const zigzag = Math.floor(coded / 2);
      const touched = base + (zigzag % 2 === 1 ? -(zigzag + 1) / 2 : zigzag / 2);
      if (touched < 0 || touched > 0xffff_ffff) throw corrupt("a touch beyond its range");
      entries.touched[e] = touched;
      entries.flags[e] = dead === 1 ? entryFlags.tombstone : 0;
      live += 1 - dead;
    }
    const rowBytes = 4 * entries.dim;
    if (live * rowBytes !== this.#end - this.#at) throw corrupt(`${this.#end - this.#at} bytes of values for ${live} rows`);
    const values = new Uint8Array(entries.values.buffer, 0, rowBytes * count);
    if (live === count) values.set(this.#take(rowBytes * count));
    else for (let e = 0; e < count; e++) if (!entries.isTombstone(e)) values.set(this.#take(rowBytes), e * rowBytes);
    this.#done();
  }

  #done(): void {
    if (this.#at !== this.#end) throw corrupt(`${this.#end - this.#at} bytes too many`);
  }

  #take(length: number): Uint8Array {
    const from = this.#at;
    if (length > this.#end - from) throw corrupt("it ends too early");
    this.#at = from + length;
    return this.#bytes.subarray(from, this.#at);
  }

  #u8(): number {
    if (this.#at >= this.#end) throw corrupt("it ends too early");
    return this.#bytes[this.#at++]!;
  }

  #u32(): number {
    const bytes = this.#bytes;
    const at = this.#at;
    if (this.#end - at < 4) throw corrupt("it ends too early");
    this.#at = at + 4;
    return (bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24)) >>> 0;
  }

  #varint(): number {
    const bytes = this.#bytes;
    let value = 0;
    let scale = 1;
    for (let i = 0; i < 8; i++) {
      if (this.#at >= this.#end) throw corrupt("it ends too early");
      const byte = bytes[this.#at++]!;
      value += (byte & 127) * scale;
      if (byte < 128) {
        if (value > Number.MAX_SAFE_INTEGER) break;
        return value;
      }
      scale *= 128;
    }
    throw corrupt("a number of more than 53 bits");
  }

  #varintMax(max: number, what: string): number {
    const value = this.#varint();
    if (value > max) throw corrupt(`${what}: ${value}, at most ${max}`);
    return value;
  }

  #version(): Version {
    const low = this.#u32();
    return { low, high: this.#u32() };
  }

  #origin(): number {
    const origin = this.#varintMax(versionLimits.epochMax * 256 + versionLimits.nodeMax, "an origin");
    if (origin < 256) throw corrupt("an origin without an epoch");
    return origin;
  }

  #bounds(): Bounds {
    return { bucket: this.#varintMax(this.#buckets - 1, "a bucket"), collected: this.#version(), expired: this.#version() };
  }

  #stretches(): Stretch[] {
    const count = this.#varintMax(stretchesMax, "origins of a bucket");
    const stretches: Stretch[] = [];
    for (let i = 0; i < count; i++) {
      const stretch = { origin: this.#origin(), counter: this.#varintMax(versionLimits.counterMax, "a counter") };
      if (i > 0 && stretch.origin <= stretches[i - 1]!.origin) throw corrupt("origins of a bucket out of order");
      stretches.push(stretch);
    }
    return stretches;
  }

  #vectors(): BucketVector[] {
    const count = this.#varintMax(this.#buckets, "vectors");
    const vectors: BucketVector[] = [];
    for (let i = 0; i < count; i++) vectors.push({ bucket: this.#varintMax(this.#buckets - 1, "a bucket"), stretches: this.#stretches() });
    return vectors;
  }

  #level(): 0 | 1 | 2 {
    return this.#varintMax(2, "a level") as 0 | 1 | 2;
  }

  #groups(groups: number): Uint8Array {
    const bytes = this.#take(this.#varintMax(frameBytesMax, "groups")).slice();
    if (bytes.length !== Math.ceil(groups / 8)) throw corrupt(`${bytes.length} bytes of groups`);
    return bytes;
  }

  #text(): string {
    const length = this.#varintMax(nameBytesMax, "a text");
    try {
      return decoder.decode(this.#take(length));
    } catch (cause) {
      throw cause instanceof MillraceError ? cause : corrupt("a text that is no UTF-8");
    }
  }
}

/** Of a version: as an origin and a counter. */
export function placeOfVersion(version: Version): Stretch {
  return { origin: (version.high >>> 16) * 256 + (version.low & 255), counter: counterOf(version) };
}
