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
  notesMagic,
  type StoreShapeWords,
  wholeFlag,
} from "./store-checkpoint-format.ts";
import { compareVersions, counterOf, EntryBatch, epochOf, noVersion } from "./sync-table.ts";

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
  /** Of one shard. */
  notesBytesMax: 1 << 24,
} as const;

export interface SaveOptions {
  /** Everything, not only what changed. */
  readonly full?: boolean;
  /** What else belongs to a shard at the moment of the checkpoint, such as the places of its replica (sync/places.ts); called in that very step. */
  readonly notes?: (shard: number) => Uint8Array;
}

export interface OpenedCheckpoints {
  readonly checkpointer: StoreCheckpointer;
  /** Rows that were restored; undefined when there was no checkpoint. */
  readonly restored: number | undefined;
  /** Of each shard, when the last checkpoint had any. */
  readonly notes: readonly (Uint8Array | undefined)[];
}

const manifestName = "manifest.json";
const cutBytesABucket = 20;
/** Of one write. */
const writeBytes = 256 << 10;

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
  /** Of the file, one more than that of the last. */
  readonly number: number;
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

/** How far the buckets of each shard were written: newest version (high, low) and rows that had left, three words a bucket. */
type Cursors = readonly Uint32Array[];

const newCursors = (store: ParameterStore): Cursors => store.shards.map(({ buckets }) => new Uint32Array(3 * buckets));

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

/** Appends blocks to a file, several small ones in one write, and counts. */
class CheckpointFile {
  readonly #file: OpenFile;
  #waiting: Uint8Array[] = [];
  #waitingBytes = 0;
  /** With those that wait. */
  bytes = 0;
  entries = 0;

  constructor(file: OpenFile) {
    this.#file = file;
  }

  add(parts: readonly Uint8Array[]): void {
    this.#waiting.push(...parts);
    for (const { length } of parts) {
      this.bytes += length;
      this.#waitingBytes += length;
    }
  }

  /** Whether enough waits for a write. */
  get isDue(): boolean {
    return this.#waitingBytes >= writeBytes;
  }

  async flush(): Promise<void> {
    const parts = this.#waiting;
    const at = this.bytes - this.#waitingBytes;
    this.#waiting = [];
    this.#waitingBytes = 0;
    if (parts.length > 0) await this.#file.writeAll(parts, at);
  }

  async close(): Promise<void> {
    await this.flush();
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
  readonly #batch: EntryBatch;
  readonly #changed: Uint32Array;

  private constructor(store: ParameterStore, files: Files, folder: string, manifest: Manifest, cursors: Cursors) {
    this.#store = store;
    this.#files = files;
    this.#folder = folder;
    this.#manifest = manifest;
    this.#cursors = cursors;
    this.#batch = new EntryBatch(store.dim);
    this.#changed = new Uint32Array(store.shards[0]!.buckets);
  }

  /**
   * Opens the folder. When it holds a checkpoint, the (empty) store gets its content and `restored` its number of rows; saves go on from there. Throws `corrupt`, `conflict`
   * (of another shape), `overloaded` (the store has too little memory): the store is to be thrown away then.
   */
  static async open(store: ParameterStore, files: Files, folder: string): Promise<OpenedCheckpoints> {
    await files.makeFolder(folder);
    const manifest = await readManifest(files, folder);
    const cursors = newCursors(store);
    const notes: (Uint8Array | undefined)[] = store.shards.map(() => undefined);
    if (manifest !== undefined) await restore(store, files, folder, manifest, cursors, notes);
    return {
      checkpointer: new StoreCheckpointer(store, files, folder, manifest ?? { version: 1, files: [] }, cursors),
      restored: manifest === undefined ? undefined : store.live,
      notes,
    };
  }

  /** Files that a restore reads, their bytes, and the number of the newest (0: there is none). */
  get chain(): { readonly files: number; readonly bytes: number; readonly newest: number } {
    const { files } = this.#manifest;
    return {
      files: files.length,
      bytes: files.reduce((sum, { bytes }) => sum + bytes, 0),
      newest: Math.max(0, ...files.map(({ name }) => Number.parseInt(name, 10))),
    };
  }

  /** Writes a checkpoint; writes to the store may go on meanwhile. Throws `conflict` when one is being written. */
  async save(options: SaveOptions = {}): Promise<CheckpointReport> {
    if (this.#saving) throw new MillraceError("conflict", "a checkpoint while one is being written", { todo: "wait for it" });
    this.#saving = true;
    try {
      return await this.#save(options.full ?? false, options.notes);
    } finally {
      this.#saving = false;
    }
  }

  async #save(askedFull: boolean, notes: SaveOptions["notes"]): Promise<CheckpointReport> {
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
    const cursors = newCursors(store);
    let rounds = 0;
    let lastRoundEntries: number;
    try {
      file.add([encodeFileHead({ ...shapeOf(store), number, full: full ? 1 : 0 })]);
      if (!full) for (const [s, known] of cursors.entries()) known.set(this.#cursors[s]!);
      while (rounds < limits.roundsMax && (rounds === 0 || this.#writesSince(cursors) > limits.lastRoundEntries)) {
        const since = file.entries;
        let stepFrom = since;
        for (const s of store.shards.keys()) {
          for (const parts of this.#round(cursors, s, full && rounds === 0, file)) {
            file.add(parts);
            if (!file.isDue && file.entries - stepFrom < limits.stepEntries) continue;
            await file.flush();
            stepFrom = file.entries;
          }
        }
        rounds++;
        await file.flush();
      }
      // From here to the cuts nothing is waited for: this is the moment of the checkpoint.
      const entriesBefore = file.entries;
      for (const s of store.shards.keys()) for (const parts of this.#round(cursors, s, false, file)) file.add(parts);
      for (const [s, shard] of store.shards.entries()) {
        const words = new Uint32Array(5 * shard.buckets);
        shard.cut(words);
        file.add(encodeBlock(cutMagic, s, 0, 0, shard.buckets, new Uint8Array(words.buffer)));
        if (notes === undefined) continue;
        const body = notes(s);
        if (body.length > limits.notesBytesMax) {
          throw new MillraceError("invalid", `notes of ${body.length} bytes for a checkpoint`, { todo: `give at most ${limits.notesBytesMax} a shard` });
        }
        file.add(encodeBlock(notesMagic, s, 0, 0, 1, body.slice()));
      }
      lastRoundEntries = file.entries - entriesBefore;
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
    return { number, full, bytes: file.bytes, entries: file.entries, rounds: rounds + 1, lastRoundEntries, files: files.length };
  }

  /** Upper bound of the entries that changed since the cursors. */
  #writesSince(cursors: Cursors): number {
    let writes = 0;
    for (const [s, shard] of this.#store.shards.entries()) {
      const known = cursors[s]!;
      const count = shard.bucketsSince(known, this.#changed);
      for (let i = 0; i < count; i++) {
        const b = this.#changed[i]!;
        const newest = shard.newest(b);
        const cursor = { high: known[3 * b]!, low: known[3 * b + 1]! };
        const { live, tombstones } = shard.counts(b);
        const all = live + tombstones;
        writes += epochOf(newest) === epochOf(cursor) && shard.left(b) === known[3 * b + 2] ? Math.min(all, counterOf(newest) - counterOf(cursor)) : all;
      }
    }
    return writes;
  }

  /** Blocks of what the buckets of a shard have beyond their cursors, which move on; with `whole` of all they have. A block is made when it is asked for. */
  *#round(cursors: Cursors, s: number, whole: boolean, file: CheckpointFile): Generator<Uint8Array[]> {
    const shard = this.#store.shards[s]!;
    const known = cursors[s]!;
    const buckets = new Uint32Array(shard.buckets);
    const count = shard.bucketsSince(known, buckets, whole);
    for (let i = 0; i < count; i++) yield* this.#bucket(known, s, buckets[i]!, whole, file);
  }

  *#bucket(known: Uint32Array, s: number, b: number, whole: boolean, file: CheckpointFile): Generator<Uint8Array[]> {
    const shard = this.#store.shards[s]!;
    const cursor = { high: known[3 * b]!, low: known[3 * b + 1]! };
    const upTo = shard.newest(b);
    const left = shard.left(b);
    const collected = shard.collected(b);
    // A tombstone that was never written is gone, or rows left without one: only the whole bucket says so.
    const all = whole || compareVersions(collected, cursor) > 0 || left !== known[3 * b + 2];
    const { stepEntries, stepNumbers } = storeCheckpointLimits;
    const step = Math.max(1, Math.min(stepEntries, Math.floor(stepNumbers / shard.dim)));
    const batch = this.#batch;
    let after = all ? noVersion : cursor;
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
    // Tombstones collected between two pieces may be among those that were not reached: the next round writes the bucket again, whole.
    if (compareVersions(shard.collected(b), collected) === 0) known.set([upTo.high, upTo.low, left], 3 * b);
  }

  /** Removes files that the manifest does not name. */
  async #removeOthers(): Promise<void> {
    const named = new Set(this.#manifest.files.map(({ name }) => name));
    for (const name of (await this.#files.list(this.#folder)) ?? []) {
      if (/^\d{6}\.(full|part)$/.test(name) && !named.has(name)) await this.#files.remove(this.#files.join(this.#folder, name));
    }
  }
}

/** Reads a file from front to back through a window, so that small pieces do not cost a call each. */
class FileWindow {
  readonly #file: OpenFile;
  readonly #size: number;
  #bytes = new Uint8Array(0);
  #from = 0;

  constructor(file: OpenFile, size: number) {
    this.#file = file;
    this.#size = size;
  }

  /** `count` bytes at a place; valid until the next call. Throws `corrupt` when the file ends before. */
  async read(at: number, count: number): Promise<Uint8Array<ArrayBuffer>> {
    if (at < this.#from || at + count > this.#from + this.#bytes.length) {
      const into = new Uint8Array(Math.max(count, this.#size));
      const read = await this.#file.read(into, at);
      this.#bytes = into.subarray(0, read);
      this.#from = at;
      if (read < count) throw damaged("ends too early");
    }
    return this.#bytes.subarray(at - this.#from, at - this.#from + count);
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
  const window = new FileWindow(file, bodies ? 1 << 20 : 64 << 10);
  const nothing = new Uint8Array(0);
  let number = 0;
  for (let at = fileHeadBytes; at < bytes; number++) {
    const block = decodeBlockHead(await window.read(at, blockHeadBytes), head);
    at += blockHeadBytes;
    if (block.bodyBytes > storeCheckpointLimits.blockBytesMax || block.bodyBytes > bytes - at) throw damaged("ends inside a block");
    const body = bodies ? await window.read(at, block.bodyBytes) : nothing;
    if (bodies && crc32c(body) !== block.bodyCrc) throw damaged("a block fails its checksum");
    at += block.bodyBytes;
    visit(block, number, body);
  }
}

async function restore(
  store: ParameterStore,
  files: Files,
  folder: string,
  manifest: Manifest,
  cursors: Cursors,
  notes: (Uint8Array | undefined)[],
): Promise<void> {
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
          if (block.magic === notesMagic) {
            if (bodies && f === manifest.files.length - 1) notes[block.shard] = body.slice();
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
  const words = new Uint32Array(body.slice().buffer);
  for (let b = 0; b < count; b++) {
    const newest = { high: words[5 * b]!, low: words[5 * b + 1]! };
    const collected = { high: words[5 * b + 2]!, low: words[5 * b + 3]! };
    shard.resume(b, newest, collected, words[5 * b + 4]!);
    // Tombstones that an earlier file holds and that were collected since.
    shard.collect(b, collected);
    cursors[s]!.set([newest.high, newest.low, words[5 * b + 4]!], 3 * b);
  }
}
