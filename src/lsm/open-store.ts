// Opens a store: takes the partition, reads the manifest, reads and verifies the runs, replays the log from where the runs end.
// Why runs are read and not mapped: the same bytes are probed by kernels in shared memories; reading them at some GB/s is all there is to opening.
// Invariants: 1. the log's writer is taken first: from then on no other process moves the manifest  2. nothing is served before every block of every run and
// every record of the log was found intact; else opening fails and nothing was changed, but for files that no manifest names: those are removed.
// Cost: 10 M entries of 90 bytes some 1 to 2 s (docs/design/lsm.md). Concurrency: one thread, which gets a turn at least every two milliseconds.

import { MillraceError } from "#base/errors";
import type { Log, LogWriter } from "#backbone/log";
import type { Registry } from "#backbone/registry";
import { type KeySeed, keySeed } from "#kernel/key-hash";
import type { MemoryLease, MemoryPool } from "#kernel/memory-pool";
import type { Clock } from "#platform/clock";
import type { Files } from "#platform/files";
import type { Workers } from "#platform/workers";
import { decodeEffectHead, EffectReader } from "./effect-record.ts";
import { Engine, type Recovered } from "./engine.ts";
import { leaseForRun, type LoadedFile, readRun } from "./loaded-run.ts";
import { ManifestHead, runFileNumber } from "./manifest.ts";
import { SourceNumbers } from "./source-numbers.ts";
import { type Store, storeLimits } from "./store.ts";
import { WriteTable } from "./write-table.ts";

export interface StoreOptions {
  readonly files: Files;
  readonly clock: Clock;
  readonly log: Log;
  readonly registry: Registry;
  readonly workers: Workers;
  /** Memtables and runs take their memories here. */
  readonly pool: MemoryPool;
  /** Folder of the run files, for this store alone. Made when missing. */
  readonly folder: string;
  /** Partition of the log, and name of the manifest. */
  readonly partition: string;
  /** Records of one memtable, bytes: 256 KiB to 512 MiB, default 32 MiB. A restart replays about so much, a look-up meets the fewer runs the larger it is. */
  readonly memtableBytes?: number;
  /** Merges begin so long after the opening: whoever waits for the store comes first, and what else the process starts. Default 2,000. */
  readonly mergeAfterMs?: number;
  /** All memory of memtables and runs; above it writes are `overloaded`. Default 2 GiB. */
  readonly memoryBytesMax?: number;
  /** Largest run file, bytes: 256 KiB to 3 GiB, default 248 MiB. A merge holds about so much twice. */
  readonly fileBytesMax?: number;
  /** Seed of the key hash in memtables and runs: random where strangers choose keys. Default 0. */
  readonly seed?: KeySeed;
  /** Namespaces whose tombstones must stay, since an older tree (base versions of a table) may hold what they hide. Asked at each merge. Default: none. */
  readonly keepTombstones?: () => Iterable<number>;
  /** The log is kept from this offset on, for those who follow it. Asked at each trim. Default: no need. */
  readonly keepLogFrom?: () => number;
  /** Told of failures that an operator should see: flush, merge, log, memory. */
  readonly onAlarm?: (alarm: MillraceError) => void;
}

/** The options with their defaults. */
export type StoreSettings = StoreOptions & Required<Pick<StoreOptions, "memtableBytes" | "memoryBytesMax" | "fileBytesMax" | "seed">>;

export interface StoreProgress {
  readonly stage: "log" | "runs" | "replay" | "ready" | "failed";
  /** Of the run files. */
  readonly bytesLoaded: number;
  readonly bytesTotal: number;
  /** Of the log. */
  readonly recordsReplayed: number;
  readonly recordsTotal: number;
}

export interface StoreOpening {
  readonly opened: Promise<Store>;
  progress(): StoreProgress;
}

const filesAtOnce = 3;
const replayBytes = 1 << 20;
/** For the frame in which a read ends. */
const replayRoomMore = 256 << 10;
const sliceMs = 1;

/**
 * Opens the store of a partition. `opened` rejects with `corrupt` when a file or record is damaged (nothing was changed), `conflict` when another process
 * has it, `invalid` for options.
 */
export function openStore(options: StoreOptions): StoreOpening {
  const opening = new Opening(options);
  // Who asks for the progress later holds this object alone: the opening has seen every memory of the store, and what sees a memory keeps it from being freed.
  const { progress } = opening;
  return { opened: opening.open(), progress: () => ({ ...progress }) };
}

function checkBytes(name: string, value: number, min: number, max: number): number {
  if (Number.isSafeInteger(value) && value >= min && value <= max) return value;
  throw new MillraceError("invalid", `${name} = ${value}`, { todo: `choose ${min} to ${max} bytes` });
}

class Opening {
  readonly #options: StoreOptions;
  readonly #numbers = new SourceNumbers();
  readonly #leases: { release(): void }[] = [];
  readonly progress: { -readonly [K in keyof StoreProgress]: StoreProgress[K] } = {
    stage: "log",
    bytesLoaded: 0,
    bytesTotal: 0,
    recordsReplayed: 0,
    recordsTotal: 0,
  };

  constructor(options: StoreOptions) {
    this.#options = options;
  }

  async open(): Promise<Store> {
    const { memtableBytes = 32 << 20, memoryBytesMax = 2 ** 31, fileBytesMax = 248 << 20, seed = keySeed(0n) } = this.#options;
    let writer: LogWriter | undefined;
    try {
      const settings: StoreSettings = {
        ...this.#options,
        memtableBytes: checkBytes("memtableBytes", memtableBytes, 256 << 10, 512 << 20),
        memoryBytesMax: checkBytes("memoryBytesMax", memoryBytesMax, 1 << 20, Number.MAX_SAFE_INTEGER),
        fileBytesMax: checkBytes("fileBytesMax", fileBytesMax, 256 << 10, 3 * 2 ** 30),
        seed,
      };
      const { log, registry, partition } = settings;
      writer = await log.openWriter(partition);
      const head = await ManifestHead.load(registry, partition);
      this.#checkLog(head, writer);
      await this.#removeStrays(head);
      this.progress.stage = "runs";
      const runs = await this.#loadRuns(head);
      this.progress.stage = "replay";
      const { tables, producer } = await this.#replay(settings, head, writer);
      const recovered: Recovered = { writer, head, runs, tables, numbers: this.#numbers, producer: Math.max(settings.clock.nowMs(), producer + 1) };
      const engine = new Engine(settings, recovered);
      // The engine's from here on.
      this.#leases.length = 0;
      this.progress.stage = "ready";
      return engine;
    } catch (thrown) {
      this.progress.stage = "failed";
      for (const lease of this.#leases) lease.release();
      await writer?.close().catch(() => undefined);
      throw thrown;
    }
  }

  #checkLog(head: ManifestHead, writer: LogWriter): void {
    const { logOffset } = head.current;
    const { first, next } = writer.bounds;
    if (first <= logOffset && logOffset <= next) return;
    throw new MillraceError("corrupt", `store ${this.#options.partition} goes on at offset ${logOffset} of its log, which holds ${first} to ${next}`, {
      todo: "restore log, registry and run files of the same time; nothing was changed",
    });
  }

  /** Files of flushes and merges that did not come to their end, or were replaced. */
  async #removeStrays(head: ManifestHead): Promise<void> {
    const { files, folder } = this.#options;
    await files.makeFolder(folder);
    const listed = new Set(head.current.runs.flatMap((run) => run.files.map((file) => file.name)));
    for (const name of (await files.list(folder)) ?? []) {
      if (runFileNumber(name) !== undefined && !listed.has(name)) await files.remove(files.join(folder, name));
    }
  }

  async #loadRuns(head: ManifestHead): Promise<LoadedFile[][]> {
    const { pool, partition, folder, files, clock } = this.#options;
    const runs = head.current.runs.map((run) => new Array<LoadedFile>(run.files.length));
    const wanted = head.current.runs.flatMap((run, r) => run.files.map((listed, f) => ({ listed, r, f })));
    for (const { listed } of wanted) this.progress.bytesTotal += listed.bytes;
    let next = 0;
    const loader = async (): Promise<void> => {
      for (;;) {
        const one = wanted[next++];
        if (one === undefined) return;
        const { listed, r, f } = one;
        const source = this.#takeNumber();
        const { lease, at } = this.#keep(leaseForRun(pool, `${partition} runs`, listed.bytes));
        const run = { path: files.join(folder, listed.name), bytes: listed.bytes, headerCrc32c: listed.headerCrc32c };
        const image = await readRun(files, clock, run, lease.memory, at, (bytes) => (this.progress.bytesLoaded += bytes));
        if (image.count !== listed.entries) throw new MillraceError("corrupt", `run file ${run.path} has ${image.count} entries instead of ${listed.entries}`);
        runs[r]![f] = { listed, source, lease, image };
      }
    };
    const ends = await Promise.allSettled(Array.from({ length: filesAtOnce }, loader));
    for (const end of ends) if (end.status === "rejected") throw end.reason;
    return runs;
  }

  async #replay(settings: StoreSettings, head: ManifestHead, writer: LogWriter): Promise<{ tables: WriteTable[]; producer: number }> {
    const { log, partition, clock } = settings;
    let offset = head.current.logOffset;
    const end = writer.bounds.next;
    this.progress.recordsTotal = end - offset;
    const tables = [this.#newTable(settings, offset)];
    const reader = new EffectReader();
    let producer = head.current.producer;
    let turnMs = clock.monotonicMs();
    const room = new Uint8Array(replayBytes + replayRoomMore);
    while (offset < end) {
      const found = await log.read(partition, offset, replayBytes, room);
      if (found === undefined)
        throw new MillraceError("corrupt", `partition ${partition} ends at offset ${offset} instead of ${end}`, { todo: "check the disk" });
      for (const record of found.records) {
        const read = reader.read(record);
        if (typeof read === "string") {
          throw new MillraceError(
            decodeEffectHead(record) === "version" ? "unsupported" : "corrupt",
            `record ${offset} of partition ${partition} holds no effects: ${read}`,
            {
              todo: "restore the log from a backup, or start the version that wrote it; nothing was changed",
            },
          );
        }
        producer = Math.max(producer, reader.producer);
        offset++;
        if (read !== undefined && read.count > 0) {
          let table = tables.at(-1)!;
          if (!table.fits(read.count, read.bytes.length)) {
            table = this.#newTable(settings, table.endOffset);
            tables.push(table);
          }
          table.apply(read.bytes, read.count, offset, clock.monotonicMs());
        }
        if (clock.monotonicMs() - turnMs > sliceMs) {
          this.progress.recordsReplayed = offset - head.current.logOffset;
          await clock.yield();
          turnMs = clock.monotonicMs();
        }
      }
    }
    if (reader.isInside) throw new MillraceError("corrupt", `partition ${partition} ends inside a transaction`, { todo: "restore the log from a backup" });
    this.progress.recordsReplayed = offset - head.current.logOffset;
    return { tables, producer };
  }

  #newTable(settings: StoreSettings, offset: number): WriteTable {
    const { pool, partition, memtableBytes, seed } = settings;
    const table = WriteTable.create(pool, `${partition} memtable`, memtableBytes, seed, this.#takeNumber(), offset);
    this.#leases.push(table);
    return table;
  }

  #takeNumber(): number {
    const number = this.#numbers.take();
    if (number !== undefined) return number;
    throw new MillraceError("overloaded", `store ${this.#options.partition} has more than ${storeLimits.sourcesMax} files and memtables`, {
      todo: "open it with larger memtables and files",
    });
  }

  #keep<T extends { lease: MemoryLease }>(leased: T): T {
    this.#leases.push(leased.lease);
    return leased;
  }
}
