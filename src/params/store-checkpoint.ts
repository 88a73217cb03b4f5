// Checkpoints of a parameter store on disk: a full file and then what changed, bucket by bucket, taken while writing goes on.
//
// Consistent: the content of a checkpoint is that of the store at one moment, the cut. The buckets are copied in rounds, each what changed since the round before;
// rounds get shorter, and the last, short enough for one step of the thread, is taken without letting go: that moment is the cut. (As virtual machines are moved.)
// Rejected: a snapshot of all versions first and then a scan: a row that is written again before it is scanned has lost its old value. Rejected: copy on
// write, which costs every write.
// Incremental: the recency list of a bucket gives exactly what came after the last cut. Where rows left for good since then (tombstones collected, or evicted at once),
// their bucket is written whole, and reading forgets what earlier files say of it; so a restored store revives nothing.
//
// Invariants: 1. a manifest names only files that are complete and synced; it is replaced at once, so a crash leaves the last checkpoint or the new one
//             2. files that no manifest names are removed by the next save  3. everything read is checked before it is joined
//             4. no step between two waits handles more than stepEntries entries, but for the last round, whose size is reported.
// Cost: entries x (24 + 4 dim) bytes; copying and checksum about 1 us for 16 numbers. Concurrency: the store's writing thread; it writes on between steps.
// Limits: chainFilesMax files a chain, then a full one; blocks of at most stepEntries entries.

import { crc32c } from "#base/crc32c";
import { MillraceError } from "#base/errors";
import type { Files, OpenFile } from "#platform/files";
import type { ParameterStore } from "./parameter-store.ts";
import {
  type BlockHead,
  blockHeadBytes,
  cutMagic,
  damaged,
  decodeBlockHead,
  decodeEntries,
  decodeFileHead,
  encodeBlock,
  encodeEntries,
  encodeFileHead,
  entriesMagic,
  type FileHead,
  fileHeadBytes,
  type StoreShapeWords,
  wholeFlag,
} from "./store-checkpoint-format.ts";
import { compareVersions, counterOf, EntryBatch, epochOf, noVersion, type Version } from "./sync-table.ts";

export const storeCheckpointLimits = {
  stepEntries: 2_000,
  /** Numbers of a step: wide rows make small steps. */
  stepNumbers: 64_000,
  /** Most entries that the last round may have, by count of writes; after roundsMax it is taken as it is. */
  lastRoundEntries: 2_000,
  roundsMax: 8,
  chainFilesMax: 64,
  /** A chain of parts larger than this share of its full file begins anew. */
  chainShareMax: 1,
  blockBytesMax: 1 << 28,
  manifestBytesMax: 1 << 20,
} as const;

const manifestName = "manifest.json";
const cutBytesABucket = 24;

interface ManifestFile {
  readonly name: string;
  readonly bytes: number;
  readonly entries: number;
}

interface Manifest {
  readonly version: 1;
  readonly files: readonly ManifestFile[];
}

export interface CheckpointReport {
  readonly full: boolean;
  readonly bytes: number;
  readonly entries: number;
  readonly rounds: number;
  /** Entries of the last round, which is one step. */
  readonly lastRoundEntries: number;
  /** Files that a restore reads. */
  readonly files: number;
}

function shapeOf(store: ParameterStore): StoreShapeWords {
  const { seed, factors, initialScale } = store.initial;
  return {
    dim: store.dim,
    factors,
    shards: store.shards.length,
    buckets: store.shards[0]!.buckets,
    seedLow: Number(seed & 0xffff_ffffn),
    seedHigh: Number(seed >> 32n),
    scaleBits: new Uint32Array(Float32Array.of(initialScale).buffer)[0]!,
  };
}

/** How far all buckets of all shards were written: their newest version, and how many rows had left them without a tombstone. */
class Cursors {
  readonly #versions: Version[][];
  readonly #left: Uint32Array[];

  constructor(store: ParameterStore) {
    this.#versions = store.shards.map(({ buckets }) => Array.from({ length: buckets }, () => noVersion));
    this.#left = store.shards.map(({ buckets }) => new Uint32Array(buckets));
  }

  at(shard: number, bucket: number): Version {
    return this.#versions[shard]![bucket]!;
  }

  left(shard: number, bucket: number): number {
    return this.#left[shard]![bucket]!;
  }

  set(shard: number, bucket: number, version: Version, left: number): void {
    this.#versions[shard]![bucket] = version;
    this.#left[shard]![bucket] = left;
  }

  copyFrom(other: Cursors): void {
    for (const [s, versions] of other.#versions.entries()) {
      this.#versions[s] = [...versions];
      this.#left[s]!.set(other.#left[s]!);
    }
  }
}

async function readManifest(files: Files, folder: string): Promise<Manifest | undefined> {
  const path = files.join(folder, manifestName);
  const size = await files.sizeOf(path);
  if (size === undefined) return undefined;
  if (size > storeCheckpointLimits.manifestBytesMax) throw damaged("a manifest that is too long");
  const bytes = await files.readFile(path);
  if (bytes === undefined) return undefined;
  let read: unknown;
  try {
    read = JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    throw damaged("a manifest that is no JSON");
  }
  const manifest = read as Partial<Manifest> | null;
  if (manifest === null || manifest.version !== 1 || !Array.isArray(manifest.files) || manifest.files.length > storeCheckpointLimits.chainFilesMax) {
    throw damaged("a manifest of another kind");
  }
  for (const file of manifest.files as Partial<ManifestFile>[]) {
    if (typeof file.name !== "string" || !/^\d{6}\.(full|part)$/.test(file.name) || !Number.isSafeInteger(file.bytes) || !Number.isSafeInteger(file.entries)) {
      throw damaged("a manifest that names no file");
    }
  }
  return manifest as Manifest;
}

/** Appends blocks to a file and counts. */
class CheckpointFile {
  readonly #file: OpenFile;
  bytes = 0;
  entries = 0;

  constructor(file: OpenFile) {
    this.#file = file;
  }

  async append(parts: readonly Uint8Array[]): Promise<void> {
    await this.#file.writeAll(parts, this.bytes);
    for (const { length } of parts) this.bytes += length;
  }

  async close(): Promise<void> {
    await this.#file.sync();
    await this.#file.close();
  }
}

/** Writes checkpoints of one store to one folder. One save at a time. */
export class StoreCheckpointer {
  readonly #store: ParameterStore;
  readonly #files: Files;
  readonly #folder: string;
  #cursors: Cursors;
  #manifest: Manifest;
  #saving = false;

  private constructor(store: ParameterStore, files: Files, folder: string, manifest: Manifest, cursors: Cursors) {
    this.#store = store;
    this.#files = files;
    this.#folder = folder;
    this.#manifest = manifest;
    this.#cursors = cursors;
  }

  /**
   * Opens the folder. When it holds a checkpoint, the (empty) store gets its content and `restored` its number of rows; saves go on from there. Throws `corrupt`, `conflict`
   * (of another shape), `overloaded` (the store has too little memory): the store is to be thrown away then.
   */
  static async open(store: ParameterStore, files: Files, folder: string): Promise<{ checkpointer: StoreCheckpointer; restored: number | undefined }> {
    await files.makeFolder(folder);
    const manifest = await readManifest(files, folder);
    const cursors = new Cursors(store);
    if (manifest !== undefined) await restore(store, files, folder, manifest, cursors);
    return {
      checkpointer: new StoreCheckpointer(store, files, folder, manifest ?? { version: 1, files: [] }, cursors),
      restored: manifest === undefined ? undefined : store.live,
    };
  }

  /** Writes a checkpoint; writes to the store may go on meanwhile. `full`: not only what changed. Throws `conflict` when one is being written. */
  async save(options: { readonly full?: boolean } = {}): Promise<CheckpointReport> {
    if (this.#saving) throw new MillraceError("conflict", "a checkpoint while one is being written", { todo: "wait for it" });
    this.#saving = true;
    try {
      return await this.#save(options.full ?? false);
    } finally {
      this.#saving = false;
    }
  }

  async #save(askedFull: boolean): Promise<CheckpointReport> {
    const limits = storeCheckpointLimits;
    const before = this.#manifest.files;
    const [first, ...parts] = before;
    const partBytes = parts.reduce((sum, { bytes }) => sum + bytes, 0);
    const full = askedFull || first === undefined || before.length >= limits.chainFilesMax || partBytes > first.bytes * limits.chainShareMax;
    const number = 1 + Math.max(0, ...before.map(({ name }) => Number.parseInt(name, 10)));
    await this.#removeOthers();
    const name = `${String(number).padStart(6, "0")}.${full ? "full" : "part"}`;
    const path = this.#files.join(this.#folder, name);
    await this.#files.remove(path);
    const opened = await this.#files.open(path, "create");
    if (opened === undefined) throw new MillraceError("conflict", `${path} is written by another process`, { todo: "give each store a folder of its own" });
    const file = new CheckpointFile(opened);
    const store = this.#store;
    const cursors = new Cursors(store);
    let rounds = 0;
    let lastRoundEntries = 0;
    try {
      await file.append([encodeFileHead({ ...shapeOf(store), number, full: full ? 1 : 0 })]);
      if (!full) cursors.copyFrom(this.#cursors);
      while (rounds < limits.roundsMax && (rounds === 0 || this.#writesSince(cursors) > limits.lastRoundEntries)) {
        for (const [s, shard] of store.shards.entries()) {
          for (let b = 0; b < shard.buckets; b++) {
            for (const part of this.#bucket(cursors, s, b, full && rounds === 0, file)) await file.append(part);
          }
        }
        rounds++;
      }
      // From here to the end of the loop nothing is waited for: this is the cut.
      const last: Uint8Array[] = [];
      const entriesBefore = file.entries;
      for (const [s, shard] of store.shards.entries())
        for (let b = 0; b < shard.buckets; b++) for (const part of this.#bucket(cursors, s, b, false, file)) last.push(...part);
      const cuts = store.shards.map((_, s) => this.#cut(s));
      lastRoundEntries = file.entries - entriesBefore;
      await file.append([...last, ...cuts.flat()]);
      await file.close();
    } catch (error) {
      await opened.close().catch(() => undefined);
      await this.#files.remove(path).catch(() => false);
      throw error;
    }
    await this.#files.syncFolder(this.#folder);
    const files = [...(full ? [] : before), { name, bytes: file.bytes, entries: file.entries }];
    const manifest: Manifest = { version: 1, files };
    await this.#files.writeFileAtomic(this.#files.join(this.#folder, manifestName), new TextEncoder().encode(JSON.stringify(manifest, undefined, 2)));
    this.#manifest = manifest;
    this.#cursors = cursors;
    await this.#removeOthers();
    return { full, bytes: file.bytes, entries: file.entries, rounds: rounds + 1, lastRoundEntries, files: files.length };
  }

  /** Upper bound of the entries that changed since the cursors. */
  #writesSince(cursors: Cursors): number {
    let writes = 0;
    for (const [s, shard] of this.#store.shards.entries()) {
      for (let b = 0; b < shard.buckets; b++) {
        const newest = shard.newest(b);
        const cursor = cursors.at(s, b);
        if (compareVersions(newest, cursor) <= 0) continue;
        if (epochOf(newest) === epochOf(cursor)) writes += counterOf(newest) - counterOf(cursor);
        else writes += shard.counts(b).live + shard.counts(b).tombstones;
      }
    }
    return writes;
  }

  /** Blocks of what a bucket has beyond its cursor, which moves on. Each is made when it is asked for; with `whole` the bucket from its beginning. */
  *#bucket(cursors: Cursors, s: number, b: number, whole: boolean, file: CheckpointFile): Generator<Uint8Array[]> {
    const shard = this.#store.shards[s]!;
    const known = cursors.at(s, b);
    const upTo = shard.newest(b);
    const left = shard.left(b);
    // A tombstone that was never written is gone, or rows left without one: only the whole bucket says so.
    const all = whole || compareVersions(shard.collected(b), known) > 0 || left !== cursors.left(s, b);
    if (!all && compareVersions(upTo, known) <= 0) return;
    const { stepEntries, stepNumbers } = storeCheckpointLimits;
    const step = Math.max(1, Math.min(stepEntries, Math.floor(stepNumbers / shard.dim)));
    const batch = new EntryBatch(shard.dim);
    let after = all ? noVersion : known;
    let first = true;
    for (let complete = false; !complete;) {
      batch.clear();
      complete = shard.changes(b, after, upTo, step, batch);
      if (batch.count > 0) after = batch.versionAt(batch.count - 1);
      if (batch.count === 0 && !(first && all)) break;
      file.entries += batch.count;
      yield encodeBlock(entriesMagic, s, b, first && all ? wholeFlag : 0, batch.count, encodeEntries(batch));
      first = false;
    }
    cursors.set(s, b, upTo, left);
  }

  /** What each bucket of a shard has counted at this moment. */
  #cut(s: number): Uint8Array[] {
    const shard = this.#store.shards[s]!;
    const words = new Uint32Array((shard.buckets * cutBytesABucket) / 4);
    for (let b = 0; b < shard.buckets; b++) {
      const [newest, collected] = [shard.newest(b), shard.collected(b)];
      words.set([newest.high, newest.low, collected.high, collected.low, shard.left(b)], 6 * b);
    }
    return encodeBlock(cutMagic, s, 0, 0, shard.buckets, new Uint8Array(words.buffer));
  }

  /** Removes files that the manifest does not name. */
  async #removeOthers(): Promise<void> {
    const named = new Set(this.#manifest.files.map(({ name }) => name));
    for (const name of (await this.#files.list(this.#folder)) ?? []) {
      if (/^\d{6}\.(full|part)$/.test(name) && !named.has(name)) await this.#files.remove(this.#files.join(this.#folder, name));
    }
  }
}

/** Visits the blocks of a file: heads alone, or with their checked bodies. */
async function eachBlock(
  file: OpenFile,
  bytes: number,
  head: FileHead,
  bodies: boolean,
  visit: (block: BlockHead, number: number, body: Uint8Array<ArrayBuffer>) => void,
): Promise<void> {
  const headBytes = new Uint8Array(blockHeadBytes);
  let number = 0;
  for (let at = fileHeadBytes; at < bytes; number++) {
    if ((await file.read(headBytes, at)) < blockHeadBytes) throw damaged("ends inside the head of a block");
    const block = decodeBlockHead(headBytes, head);
    at += blockHeadBytes;
    if (block.bodyBytes > storeCheckpointLimits.blockBytesMax || block.bodyBytes > bytes - at) throw damaged("ends inside a block");
    let body = new Uint8Array(0);
    if (bodies) {
      body = new Uint8Array(block.bodyBytes);
      if ((await file.read(body, at)) < block.bodyBytes || crc32c(body) !== block.bodyCrc) throw damaged("a block fails its checksum");
    }
    at += block.bodyBytes;
    visit(block, number, body);
  }
}

async function restore(store: ParameterStore, files: Files, folder: string, manifest: Manifest, cursors: Cursors): Promise<void> {
  if (store.live > 0) throw new MillraceError("invalid", "a checkpoint for a store that holds rows", { todo: "restore into a new store" });
  const shape = shapeOf(store);
  const { buckets } = shape;
  /** By bucket: the last place (file, block) that holds it whole; what stands before says nothing. */
  const wholeFrom = new Float64Array(shape.shards * buckets).fill(-1);
  const placeOf = (f: number, block: number): number => f * 2 ** 32 + block;
  for (const bodies of [false, true]) {
    for (const [f, { name, bytes }] of manifest.files.entries()) {
      const file = await files.open(files.join(folder, name), "read");
      if (file === undefined) throw damaged(`${name} is missing`);
      try {
        if ((await file.size()) !== bytes) throw damaged(`${name} has another size than its manifest says`);
        const headBytes = new Uint8Array(fileHeadBytes);
        await file.read(headBytes, 0);
        const head = decodeFileHead(headBytes);
        for (const [key, value] of Object.entries(shape)) {
          if (head[key as keyof StoreShapeWords] === value) continue;
          throw new MillraceError("conflict", `a checkpoint of parameters whose ${key} differs from the store's`, {
            todo: "start with the configuration that wrote it",
          });
        }
        if (head.number !== Number.parseInt(name, 10) || (head.full === 1) !== (f === 0)) throw damaged(`${name} does not belong where it stands`);
        const batch = new EntryBatch(store.dim);
        const cuts = new Set<number>();
        await eachBlock(file, bytes, head, bodies, (block, number, body) => {
          const bucket = block.shard * buckets + block.bucket;
          if (block.magic === cutMagic) {
            cuts.add(block.shard);
            if (bodies && f === manifest.files.length - 1) resumeShard(store, cursors, block, body);
            return;
          }
          if ((block.flags & wholeFlag) !== 0) wholeFrom[bucket] = Math.max(wholeFrom[bucket]!, placeOf(f, number));
          if (!bodies || placeOf(f, number) < wholeFrom[bucket]!) return;
          decodeEntries(body, block.count, batch);
          const shard = store.shards[block.shard]!;
          for (let i = 0; i < batch.count; i++) {
            if (shard.bucketOf(batch.keys[2 * i]!, batch.keys[2 * i + 1]!) !== block.bucket) throw damaged("an entry in another key's bucket");
          }
          shard.join(batch, 0, batch.count);
        });
        if (cuts.size !== shape.shards) throw damaged(`${name} ends before its cut`);
      } finally {
        await file.close();
      }
    }
  }
}

function resumeShard(store: ParameterStore, cursors: Cursors, { shard: s, count, bodyBytes }: BlockHead, body: Uint8Array<ArrayBuffer>): void {
  const shard = store.shards[s]!;
  if (count !== shard.buckets || bodyBytes !== count * cutBytesABucket) throw damaged("a cut of another length");
  const words = new Uint32Array(body.buffer, 0, body.length / 4);
  for (let b = 0; b < count; b++) {
    const newest = { high: words[6 * b]!, low: words[6 * b + 1]! };
    const collected = { high: words[6 * b + 2]!, low: words[6 * b + 3]! };
    shard.resume(b, newest, collected, words[6 * b + 4]!);
    // Tombstones that an earlier file holds and that were collected since.
    shard.collect(b, collected);
    cursors.set(s, b, newest, words[6 * b + 4]!);
  }
}
