// One import from request to published version: plan, read and stage, build the run files, publish. The heavy halves run in processes of their own; this one only says who
// does what next, and may itself be ended at any point: what is finished stays, and the same request goes on behind it.
//   plan.json written -> rows staged, journal by journal -> run-N.json, file by file -> version published -> work folder removed
// Invariants: 1. nothing is published but by `Build.publish`, after every file is stored: readers see a whole version or the old one  2. one process works on an import
// (a lock by its id)  3. the offset of the log is taken before the first row is read: what is written from then on is newer and survives switch and roll-back
// 4. other imports have their turn between any two steps.
// Limits: importLimits; disk: the staged rows and the version beside each other.

import { MillraceError, toMillraceError } from "#base/errors";
import type { Lease, Registry } from "#backbone/registry";
import { shardMemoryBytes } from "#lsm/build-shard";
import { storeLimits } from "#lsm/store";
import type { Clock } from "#platform/clock";
import type { Files } from "#platform/files";
import { moduleBeside } from "#platform/module-beside";
import type { RunningWorker } from "#platform/workers";
import type { SnapshotFile } from "#snapshot/manifest";
import type { Build, PublishOptions } from "#snapshot/snapshot-build";
import type { SnapshotStore } from "#snapshot/snapshot-store";
import type { StatisticCheck } from "#snapshot/statistic-checks";
import { type TableSchema } from "../tables/table-schema.ts";
import { DuckDb, planRead, unreadable } from "./duckdb-source.ts";
import { importLimits } from "./import-limits.ts";
import { type ImportJournal, readJournal } from "./import-journal.ts";
import { type ImportStage, type ImportStatus, noStatus } from "./import-status.ts";
import { importId, type ImportPlan, type PlannedInput, readJson, readPlan, workLockOf, writeJson } from "./import-plan.ts";
import { type ImportInput, inputName, type ImportRequest, inputsOf } from "./inputs.ts";
import { NpySource } from "./npy-source.ts";
import { readInputs, rejectFileName, stageFileName } from "./read-inputs.ts";
import { refusalReasons } from "./reject-file.ts";
import type { ReaderMessage } from "./read-inputs.worker.ts";
import { runShardJob, type ShardDone, type ShardJob } from "./shard-job.ts";
import { readStagedBlocks, stageBlockHeadBytes, type StagedBlock } from "./stage-blocks.ts";
import { runFileName, type TableVersionMeta } from "./table-version.ts";
import { Turns } from "./turns.ts";

export type { ImportStage, ImportStatus } from "./import-status.ts";

/** Starts a worker body in a process (or thread) of its own. */
export type StartProcess = (module: URL, data: unknown, name: string) => RunningWorker;

export interface ImportOptions {
  readonly files: Files;
  readonly clock: Clock;
  readonly registry: Registry;
  /** Of kind "table". */
  readonly snapshots: SnapshotStore;
  readonly schema: TableSchema;
  readonly request: ImportRequest;
  /** Work folders and reject files lie here. */
  readonly folder: string;
  /** Undefined: everything runs in this process (tests, simulation). */
  readonly start: StartProcess | undefined;
  /** Offsets of the log's end, by partition, now. */
  readonly logOffsets: () => Promise<Readonly<Record<string, number>>>;
  /** Resident memory of each process; default importLimits.memoryBytesDefault. */
  readonly memoryBytes?: number;
  /** Builders at once, default 1. Each takes `memoryBytes`. */
  readonly builders?: number;
  /** Refused rows at which the import gives up; default importLimits.rejectsMaxDefault. */
  readonly rejectsMax?: number;
  /** Default importLimits.checkpointBytesDefault. */
  readonly checkpointBytes?: number;
  /** SQL and files only from these folders; undefined: any. */
  readonly folders?: readonly string[];
  /** Of the new version against the live one; default those of the snapshot store. */
  readonly checks?: readonly StatisticCheck[];
  /** False: publish, but do not go live. */
  readonly live?: boolean;
  readonly onStatus?: (status: ImportStatus) => void;
  readonly signal?: AbortSignal;
}

export interface ImportResult {
  readonly version: string;
  readonly rows: number;
  /** Rows whose key came again later: the last one counts. */
  readonly overtaken: number;
  readonly refused: number;
  readonly rejectFile: string | undefined;
  /** Columns of the inputs that the table does not have, and of the table that no input has. */
  readonly unused: readonly string[];
  readonly missing: readonly string[];
  readonly bytes: number;
}

/** What a process of Node takes before it does anything. */
const processBytes = 100 << 20;
const workLeaseMs = 10_000;
/** Share of the whole that reading takes, for the guess of the end. Measured: docs/design/import.md. */
const readingShare = 0.45;
const bytesPerRowUnknown = 64;

export class TableImport {
  readonly #options: ImportOptions;
  readonly #memoryBytes: number;
  #status: ImportStatus;
  #stageSinceMs: number;
  #stageRows = 0;

  /** Throws `invalid` for options out of range. */
  constructor(options: ImportOptions) {
    this.#options = options;
    const { clock, schema, memoryBytes = importLimits.memoryBytesDefault, builders = 1, rejectsMax = importLimits.rejectsMaxDefault } = options;
    const within = (value: number, min: number, max: number, what: string): void => {
      if (!Number.isInteger(value) || value < min || value > max)
        throw new MillraceError("invalid", `an import with ${value} ${what}`, { todo: `choose ${min} to ${max}` });
    };
    within(memoryBytes, importLimits.memoryBytesMin, importLimits.memoryBytesMax, "bytes of memory");
    within(builders, 1, 64, "builders");
    within(rejectsMax, 0, importLimits.rejectsMax, "refused rows");
    this.#memoryBytes = memoryBytes;
    this.#stageSinceMs = clock.monotonicMs();
    this.#status = noStatus(schema.name, clock.nowMs());
  }

  get status(): ImportStatus {
    return this.#status;
  }

  /** Does the import. Throws `invalid` (inputs or rows that do not fit), `conflict` (the same import runs elsewhere, or a later version is live), and what the disk says. After any
   * of them the same request goes on where this one stood, or begins anew when its files have changed. */
  async run(): Promise<ImportResult> {
    const { files, registry, folder } = this.#options;
    let lease: Lease | undefined;
    try {
      await files.makeFolder(folder);
      const planned = await this.#plan();
      const { plan } = planned;
      const work = files.join(folder, plan.id);
      lease = await registry.lease(workLeaseMs);
      const lock = await registry.tryLock(workLockOf(plan.id), lease);
      if (lock === undefined) throw new MillraceError("conflict", `the import ${plan.id} is already running`, { todo: "wait for it, or stop it first" });
      const kept = await this.#keepPlan(work, plan);
      const result = await this.#work(work, kept, planned);
      this.#set({ stage: "done", version: result.version, rejectFile: result.rejectFile, etaMs: 0 });
      return result;
    } catch (thrown) {
      const failure = toMillraceError(thrown, "the import failed");
      this.#set({ stage: "failed", error: failure.message, etaMs: undefined });
      throw failure;
    } finally {
      await lease?.end().catch(() => undefined);
    }
  }

  // ---- planning ---------------------------------------------------------------------------------------------------------------------

  async #plan(): Promise<{ plan: ImportPlan; unused: readonly string[]; missing: readonly string[] }> {
    const { files, clock, schema, request, folder, folders, rejectsMax = importLimits.rejectsMaxDefault } = this.#options;
    const tempFolder = files.join(folder, "planning");
    const duck = await DuckDb.open({ memoryBytes: 256 << 20, tempFolder, ...(folders === undefined ? {} : { folders }) });
    try {
      const paths = await resolvePaths(duck, files, request.files, folders);
      const inputs: PlannedInput[] = [];
      let rowsTotal: number | undefined = 0;
      let bytesEstimate = 0;
      const unused = new Set<string>();
      const missing = new Set(schema.columns.map(({ name }) => name));
      const rowBytes = schema.layout.fixedTo + (schema.columns.some(({ laid }) => laid.variable) ? 2 * bytesPerRowUnknown : 0) + bytesPerRowUnknown;
      for (const input of inputsOf(request, paths, schema.entity)) {
        this.#options.signal?.throwIfAborted();
        const { bytes, fingerprint } = await fingerprintOf(duck, input, folders);
        inputs.push({ input, bytes, fingerprint });
        const look = await lookAt(duck, files, input, schema);
        for (const name of look.unused) unused.add(name);
        for (const { name } of schema.columns) if (!look.missing.includes(name)) missing.delete(name);
        rowsTotal = rowsTotal === undefined || look.rows === undefined ? undefined : rowsTotal + look.rows;
        bytesEstimate += look.rows === undefined ? (bytes === 0 ? 1 << 30 : bytes * (/\.(gz|zst)$/i.test(inputName(input)) ? 6 : 1.5)) : look.rows * rowBytes;
      }
      const shards = schema.document.shards;
      const slicesMax = Math.max(shards, Math.min(importLimits.slicesMax, Math.floor(this.#memoryBytes / (512 << 10))));
      // A quarter of what a builder could take: room for a wrong guess and for uneven slices.
      const sliceBytes = (this.#memoryBytes - processBytes) / 3 / 4;
      let slices = shards;
      while (slices * sliceBytes < bytesEstimate && slices * 2 <= slicesMax) slices *= 2;
      const plan: ImportPlan = {
        format: 1,
        id: importId(schema.name, schema.document, inputs),
        table: schema.name,
        schema: schema.document,
        inputs,
        slices,
        seed: { low: 0x6d696c6c, high: 0x72616365 },
        timeMs: clock.nowMs(),
        logOffsets: await this.#options.logOffsets(),
        memoryBytes: this.#memoryBytes,
        rejectsMax,
        checkpointBytes: this.#options.checkpointBytes ?? importLimits.checkpointBytesDefault,
        ...(folders === undefined ? {} : { folders }),
      };
      this.#set({ id: plan.id, inputs: inputs.length, rowsTotal });
      return { plan, unused: [...unused], missing: [...missing] };
    } finally {
      duck.close();
      await files.removeFolder(tempFolder);
    }
  }

  /** The plan of an earlier attempt, with the limits of this one; else this one, in a new folder. */
  async #keepPlan(work: string, plan: ImportPlan): Promise<ImportPlan> {
    const { files } = this.#options;
    const before = await readPlan(files, work).catch(() => undefined);
    const kept = before === undefined ? plan : { ...before, memoryBytes: plan.memoryBytes, rejectsMax: plan.rejectsMax, checkpointBytes: plan.checkpointBytes };
    if (before === undefined) await files.removeFolder(work);
    await files.makeFolder(work);
    await writeJson(files, files.join(work, "plan.json"), kept);
    this.#set({ resumed: before !== undefined });
    return kept;
  }

  // ---- working ----------------------------------------------------------------------------------------------------------------------

  async #work(work: string, plan: ImportPlan, planned: { unused: readonly string[]; missing: readonly string[] }): Promise<ImportResult> {
    const { files, registry, clock, schema, live, checks, signal } = this.#options;
    const turns = new Turns({ registry, clock, table: plan.table, id: plan.id, ...(signal === undefined ? {} : { signal }) });
    try {
      const journal = await this.#read(work, plan, turns);
      if (journal.rowsRefused > 0) this.#set({ refusedWhy: await refusalReasons(files, files.join(work, rejectFileName)) });
      const groups = await this.#groups(work, plan, journal);
      const build = await this.#beginBuild(work, plan);
      const done = await this.#build(work, plan, groups, build, turns);
      this.#enter("publishing");
      signal?.throwIfAborted();
      const runs = groups.length;
      const rows = done.reduce((sum, one) => sum + one.statistics.entries, 0);
      const overtaken = done.reduce((sum, one) => sum + one.overtaken, 0);
      const bytes = done.reduce((sum, one) => sum + one.bytes, 0);
      const meta: TableVersionMeta = {
        format: 1,
        schema: plan.schema,
        runs,
        shards: schema.document.shards,
        seed: plan.seed,
        timeMs: plan.timeMs,
        logOffsets: plan.logOffsets,
      };
      const statistics = { rows, overtaken, refused: journal.rowsRefused, rowBytes: journal.rowBytes };
      const publish: PublishOptions = { ...(checks === undefined ? {} : { checks }), ...(live === undefined ? {} : { live }) };
      try {
        await build.publish({ statistics, meta }, publish);
      } catch (thrown) {
        // Refused by its checks: the same files would be refused again, so nothing is kept for another attempt but why rows were refused.
        if (thrown instanceof MillraceError && thrown.code === "invalid") {
          this.#set({ rejectFile: await this.#keepRejects(work, plan, journal, build.version) });
          await files.removeFolder(work);
        }
        throw thrown;
      }
      const rejectFile = await this.#keepRejects(work, plan, journal, build.version);
      await files.removeFolder(work);
      return { version: build.version, rows, overtaken, refused: journal.rowsRefused, rejectFile, unused: planned.unused, missing: planned.missing, bytes };
    } finally {
      await turns.end();
    }
  }

  async #read(work: string, plan: ImportPlan, turns: Turns): Promise<ImportJournal> {
    const { files, start, signal } = this.#options;
    const before = await readJournal(files, work);
    const { rowsStaged, rowsRefused, rowBytes } = before;
    this.#set({ rowsStaged, rowsRefused, rowBytes, rejectFile: files.join(work, rejectFileName) });
    if (before.finished) return before;
    await this.#turn(turns, "reading");
    try {
      const onProgress = (progress: { rowsStaged: number; rowsRefused: number; rowBytes: number; input: number }): void => {
        this.#set({ rowsStaged: progress.rowsStaged, rowsRefused: progress.rowsRefused, rowBytes: progress.rowBytes, inputsDone: progress.input });
      };
      const onCheckpoint = async (): Promise<void> => {
        await turns.give();
        await this.#turn(turns, "reading");
      };
      let journal: ImportJournal;
      if (start === undefined) {
        journal = await readInputs({ files, folder: work, plan, onProgress, onCheckpoint, ...(signal === undefined ? {} : { signal }) });
      } else {
        journal = await this.#converse(
          start(moduleBeside("./read-inputs.worker", import.meta.url), { folder: work }, `import-reader-${plan.table}`.slice(0, 64)),
          async (reader) => {
            for (;;) {
              const message = (await reader.receive()) as ReaderMessage | undefined;
              if (message === undefined) return undefined;
              if (message.kind === "done") return message.journal;
              if (message.kind === "progress") onProgress(message);
              else {
                await onCheckpoint();
                reader.send("go on");
              }
            }
          },
        );
      }
      this.#set({ rowsStaged: journal.rowsStaged, rowsRefused: journal.rowsRefused, rowBytes: journal.rowBytes, inputsDone: plan.inputs.length });
      return journal;
    } finally {
      await turns.give();
    }
  }

  /** Slices of one run file each, as few as the builder's memory allows. */
  async #groups(work: string, plan: ImportPlan, journal: ImportJournal): Promise<StagedBlock[][]> {
    const { files } = this.#options;
    const path = files.join(work, stageFileName);
    const file = await files.open(path, "read");
    if (file === undefined) throw new MillraceError("corrupt", `${path} is missing`, { todo: "remove the work folder and start the import again" });
    let blocks: StagedBlock[];
    try {
      blocks = await readStagedBlocks(file, journal.stagedBytes, path);
    } finally {
      await file.close();
    }
    const budget = this.#memoryBytes - processBytes;
    for (let runs = this.#options.schema.document.shards; ; runs *= 2) {
      const groups = Array.from({ length: runs }, (): StagedBlock[] => []);
      for (const block of blocks) groups[Math.floor((block.slice * runs) / plan.slices)]!.push(block);
      const sum = (group: readonly StagedBlock[], of: "rows" | "bytes"): number => group.reduce((all, block) => all + block[of], 0);
      const needed = Math.max(...groups.map((group) => shardMemoryBytes(sum(group, "rows"), sum(group, "bytes"))));
      if (needed <= budget) return groups;
      if (runs * 2 > Math.min(plan.slices, storeLimits.sourcesMax)) {
        throw new MillraceError(
          "overloaded",
          `a run file of table ${plan.table} needs ${Math.ceil(needed / 2 ** 20)} MiB to be built, ${Math.floor(budget / 2 ** 20)} are allowed`,
          {
            todo: "allow more memory (--memory), or give the table more shards",
          },
        );
      }
    }
  }

  /** The version of an earlier attempt, or a new one: then no run file is stored yet. */
  async #beginBuild(work: string, plan: ImportPlan): Promise<Build> {
    const { files, snapshots } = this.#options;
    const path = files.join(work, "version.json");
    const before = (await readJson(files, path)) as { version?: unknown } | undefined;
    if (typeof before?.version === "string") {
      try {
        const build = await snapshots.begin(plan.table, { resume: before.version });
        this.#set({ version: build.version });
        return build;
      } catch (thrown) {
        if (!(thrown instanceof MillraceError && thrown.code === "conflict")) throw thrown;
      }
    }
    for (const name of (await files.list(work)) ?? []) if (/^run-\d+\.json$/.test(name)) await files.remove(files.join(work, name));
    const build = await snapshots.begin(plan.table);
    await writeJson(files, path, { version: build.version });
    this.#set({ version: build.version });
    return build;
  }

  async #build(work: string, plan: ImportPlan, groups: readonly (readonly StagedBlock[])[], build: Build, turns: Turns): Promise<ShardDone[]> {
    const { files, clock, start, builders = 1, signal } = this.#options;
    const done = new Map<number, ShardDone>();
    this.#set({ runs: groups.length, runsBuilt: 0 });
    const donePath = (run: number): string => files.join(work, `run-${run}.json`);
    const fileOf = (one: ShardDone): SnapshotFile => ({ name: runFileName(one.run), bytes: one.bytes, crc32c: one.crc32c, rows: one.statistics.entries });
    const add = (one: ShardDone): void => {
      done.set(one.run, one);
      this.#stageRows += one.statistics.entries;
      this.#set({ runsBuilt: done.size });
    };
    for (let run = 0; run < groups.length; run++) {
      const before = (await readJson(files, donePath(run))) as ShardDone | undefined;
      if (before?.run === run && (await build.keep(fileOf(before)))) add(before);
    }
    const waiting = groups.map((_, run) => run).filter((run) => !done.has(run));
    const jobOf = (run: number): ShardJob => ({
      format: 1,
      run,
      memoryBytes: plan.memoryBytes - processBytes,
      seed: plan.seed,
      staged: [
        {
          path: files.join(work, stageFileName),
          parts: groups[run]!.map(({ at, bytes, rows, crc32c }) => ({ at: at + stageBlockHeadBytes, bytes, rows, crc32c })),
        },
      ],
      path: files.join(work, runFileName(run)),
    });
    const finish = async (one: ShardDone): Promise<void> => {
      await build.putFile(fileOf(one), files, files.join(work, runFileName(one.run)));
      await writeJson(files, donePath(one.run), one);
      add(one);
    };
    if (waiting.length === 0) return [...done.values()];
    await this.#turn(turns, "building");
    try {
      let at = 0;
      const worker = async (): Promise<void> => {
        if (start === undefined) {
          for (let run = waiting[at++]; run !== undefined; run = waiting[at++]) {
            signal?.throwIfAborted();
            await finish(await runShardJob(jobOf(run), { files, clock }));
          }
          return;
        }
        const name = `import-builder-${plan.table}`.slice(0, 64);
        await this.#converse(
          start(moduleBeside("./build-runs.worker", import.meta.url), { memoryBytes: plan.memoryBytes - processBytes }, name),
          async (builder) => {
            for (let run = waiting[at++]; run !== undefined; run = waiting[at++]) {
              signal?.throwIfAborted();
              builder.send(jobOf(run));
              const one = (await builder.receive()) as ShardDone | undefined;
              if (one === undefined) return undefined;
              await finish(one);
              // With one builder a turn is a file; several share a turn until all are built.
              if (builders === 1 && at < waiting.length) {
                await turns.give();
                await this.#turn(turns, "building");
              }
            }
            return true;
          },
        );
      };
      await Promise.all(Array.from({ length: Math.min(builders, waiting.length) }, worker));
    } finally {
      await turns.give();
    }
    return [...done.values()].toSorted((a, b) => a.run - b.run);
  }

  /** Talks with a process until `talk` has what it wants (not undefined), then ends it. */
  async #converse<T>(process: RunningWorker, talk: (process: RunningWorker) => Promise<T | undefined>): Promise<T> {
    const { signal } = this.#options;
    const stop = (): void => void process.stop();
    signal?.addEventListener("abort", stop);
    try {
      const result = await talk(process);
      if (result !== undefined) return result;
      const failure = await process.failed;
      signal?.throwIfAborted();
      throw failure ?? new MillraceError("internal", "a process of the import ended without an answer", { todo: "start the import again, it goes on" });
    } finally {
      signal?.removeEventListener("abort", stop);
      await process.stop();
    }
  }

  async #keepRejects(work: string, plan: ImportPlan, journal: ImportJournal, version: string): Promise<string | undefined> {
    const { files, folder } = this.#options;
    if (journal.rowsRefused === 0) return undefined;
    const kept = files.join(folder, "rejects");
    await files.makeFolder(kept);
    const path = files.join(kept, `${plan.table}-${version}.jsonl`);
    await files.rename(files.join(work, rejectFileName), path);
    await files.syncFolder(kept);
    return path;
  }

  // ---- status -------------------------------------------------------------------------------------------------------------------------

  async #turn(turns: Turns, stage: "reading" | "building"): Promise<void> {
    const before = this.#status.stage;
    this.#set({ stage: "waiting" });
    await turns.take();
    if (before === "waiting" || before === stage) this.#set({ stage });
    else this.#enter(stage);
  }

  #enter(stage: ImportStage): void {
    this.#stageSinceMs = this.#options.clock.monotonicMs();
    this.#stageRows = stage === "reading" ? -this.#status.rowsStaged : 0;
    this.#set({ stage });
  }

  #set(change: Partial<ImportStatus>): void {
    const next = { ...this.#status, ...change };
    const seconds = (this.#options.clock.monotonicMs() - this.#stageSinceMs) / 1_000;
    const rows = this.#stageRows + (next.stage === "reading" ? next.rowsStaged : 0);
    const rowsPerS = seconds > 0 && rows > 0 ? rows / seconds : 0;
    let etaMs = change.etaMs;
    if (etaMs === undefined && rowsPerS > 0 && next.rowsTotal !== undefined) {
      const left = next.rowsTotal - (next.stage === "reading" ? next.rowsStaged + next.rowsRefused : this.#stageRows);
      const stageMs = (Math.max(0, left) / rowsPerS) * 1_000;
      etaMs =
        next.stage === "reading" ? stageMs + (next.rowsTotal / rowsPerS) * 1_000 * (1 / readingShare - 1) : next.stage === "building" ? stageMs : undefined;
    }
    this.#status = { ...next, rowsPerS, etaMs };
    this.#options.onStatus?.(this.#status);
  }
}

/** Paths and patterns to paths, in the order given, those of a pattern by name. `column=path.npy` stays as it is. */
async function resolvePaths(duck: DuckDb, files: Files, given: readonly string[], folders: readonly string[] | undefined): Promise<string[]> {
  const paths: string[] = [];
  for (const one of given) {
    const path = /^[A-Za-z_][A-Za-z0-9_]{0,63}=(.+\.npy)$/i.exec(one)?.[1] ?? one;
    if (folders !== undefined && !folders.some((folder) => isInside(path, folder))) {
      throw outside(folders);
    }
    if ((await files.sizeOf(path)) !== undefined) {
      paths.push(one);
      continue;
    }
    const found = /[*?[]/.test(path)
      ? (await duck.rows(`SELECT file FROM glob('${path.replaceAll("'", "''")}') ORDER BY file`)).map(([file]) => String(file))
      : [];
    if (found.length === 0)
      throw new MillraceError("not-found", `there is no file ${JSON.stringify(path.slice(-200))}`, {
        todo: "check the path; a pattern must match at least one file",
      });
    paths.push(...found);
  }
  return paths;
}

function outside(folders: readonly string[], cause?: unknown): MillraceError {
  return new MillraceError("unauthorized", "a file outside the folders from which this server imports", {
    todo:
      folders.length === 0
        ? "name the folders in the server's configuration (storage.importFolders): it has none"
        : `put it into one of: ${folders.join(", ")}`,
    ...(cause === undefined ? {} : { cause }),
  });
}

/** By the text of the path: an absolute one under the folder, without steps back. */
function isInside(path: string, folder: string): boolean {
  const base = folder.endsWith("/") ? folder : `${folder}/`;
  return path.startsWith(base) && !path.split("/").includes("..");
}

async function fingerprintOf(duck: DuckDb, input: ImportInput, folders: readonly string[] | undefined): Promise<{ bytes: number; fingerprint: string }> {
  if (input.kind === "query") return { bytes: 0, fingerprint: "" };
  const paths = input.kind === "file" ? [input.path] : [...(input.keyPath === undefined ? [] : [input.keyPath]), ...input.values.map(({ path }) => path)];
  let bytes = 0;
  const marks: string[] = [];
  for (const path of paths) {
    const literal = path.replaceAll(/[*?[]/g, "[$&]").replaceAll("'", "''");
    let found: unknown[][];
    try {
      found = await duck.rows(`SELECT size, last_modified FROM read_blob('${literal}')`);
    } catch (cause) {
      // Its path is inside, by its text: a link leads out of the folders, which only DuckDB sees.
      if (folders !== undefined && cause instanceof Error && cause.message.startsWith("Permission Error")) throw outside(folders, cause);
      throw unreadable(path, cause);
    }
    const [[size, modified] = [0, ""]] = found;
    bytes += Number(size);
    marks.push(`${String(size)}@${String(modified)}`);
  }
  return { bytes, fingerprint: marks.join(" ") };
}

async function lookAt(
  duck: DuckDb,
  files: Files,
  input: ImportInput,
  schema: TableSchema,
): Promise<{ unused: readonly string[]; missing: readonly string[]; rows: number | undefined }> {
  if (input.kind !== "npy") return planRead(duck, files, input, schema);
  const source = await NpySource.open(files, input, schema);
  source.close();
  return source;
}
