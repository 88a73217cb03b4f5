// The server of one node, wired: data folder -> model, trainer and ranker in threads of their own -> gateway -> HTTP, and beside it the feature store with its
// Redis port, and the parameter server in a thread of its own when it is configured. No logic of its own.
// Order of a start: both ports, folder and store, then the rebuild; /health/ready says how far it is; a taken port gives everything back. Order of a stop: no new
// requests, running ones are answered, the log is synced, the trainer writes its checkpoint, the log is closed.

import type { Durability } from "#backbone/log";
import { parameterModelCommands } from "#commands/parameter-models";
import { parameterCommands } from "#commands/parameters";
import { activityTablesOf, type GatewayConfig, GatewayMetrics, type OpenGateway, openGateway } from "#gateway/index";
import { checkpointGauges, retentionGauges } from "#gateway/checkpoint-metrics";
import { feastRoutes } from "#gateway/feast-http";
import { HttpFront } from "#gateway/http-front";
import { createHttpServer, httpLimitsDefault, type HttpServer } from "#gateway/http-server";
import type { HttpLogger } from "#gateway/http-errors";
import { parameterGauges, tablesWaitedFor } from "#gateway/parameter-metrics";
import { parameterRoutes } from "#gateway/parameters-http";
import { type StoreFace, storeRoutes } from "#gateway/store-http";
import { storeGauges } from "#gateway/store-metrics";
import { tableRoutes } from "#gateway/tables-http";
import { collectionsWaitedFor, vectorGauges } from "#gateway/vector-metrics";
import { vectorTaskRoutes } from "#gateway/vector-tasks-http";
import { vectorRoutes } from "#gateway/vectors-http";
import { Prng } from "#base/prng";
import { liveVariant } from "#kernel/kernels";
import type { ParameterModels } from "#params/catalogue/parameter-models";
import { LoopStallMeter } from "#platform/loop-stall";
import { systemClock } from "#platform/system-clock";
import { systemFiles } from "#platform/system-files";
import { environment, machineMemoryBytes } from "#platform/system-process";
import { randomId, systemRandom } from "#platform/system-random";
import { systemWorkers } from "#platform/system-workers";
import type { TaskWorld } from "#vectors/builder/task-control";
import { liveItems, workedOutVectors } from "#vectors/live-items";
import { ServedCollections } from "#vectors/served-collections";
import type { AccessConfig } from "#wire/access-config";
import { type ParametersConfig, parameterMemoryMb, type ParameterSyncConfig } from "#wire/parameter-config";
import type { CommandSpec } from "#wire/resp-command";
import type { StorageConfig } from "#wire/storage-config";
import type { FeastConfig, TablesConfig } from "#wire/table-config";
import { vectorDefaults, type VectorsConfig } from "#wire/vector-config";
import { reservedCollectionPrefix, shownCollections } from "#wire/vector-limits";
import { type Builder, startBuilder, vectorTaskControl } from "./builder.ts";
import { type DataFolder, openDataFolder, servingCheckpointPages } from "./data-folder.ts";
import { type FeatureStore, openFeatureStore } from "./feature-store.ts";
import { type ModelThreads, startModelThreads } from "./model-threads.ts";
import { openParameterModels } from "./parameter-catalogue.ts";
import { type Parameters, startParameters } from "./parameters.ts";
import { startVectors, type Vectors } from "./vectors.ts";
import type { ModelSyncing } from "./training.ts";

export interface ServerOptions {
  readonly host: string;
  /** 0 takes a free one. */
  readonly port: number;
  readonly dataFolder: string;
  readonly durability: Durability;
  /** At durability `interval`: milliseconds between syncs, default 200. */
  readonly intervalMs?: number;
  readonly config: ServerConfig;
  /** Of the Redis protocol; 0 takes a free one. */
  readonly respPort: number;
  readonly version: string;
  readonly logger?: HttpLogger;
  /** Aborted by who wants the server stopped: a start under way gives everything back in order, then rejects with the signal's reason. */
  readonly stopping?: AbortSignal;
}

/** How long a stop waits for running requests. */
export const drainMs = 5_000;

/** What the configuration file says, section by section. */
export interface ServerConfig {
  readonly gateway: GatewayConfig;
  readonly tables: TablesConfig;
  readonly feast: FeastConfig;
  /** Undefined: only this machine is served, and everybody on it may do everything. */
  readonly access: AccessConfig | undefined;
  readonly storage: StorageConfig;
  /** Undefined: no parameter server. */
  readonly parameters?: ParametersConfig;
  /** Undefined: no vector collections but that of the model's items. */
  readonly vectors?: VectorsConfig;
}

export interface Server {
  /** For example `http://127.0.0.1:8080`. */
  readonly address: string;
  /** Of the Redis protocol. */
  readonly respPort: number;
  readonly gateway: OpenGateway;
  /** How many there are, whether they serve or not. */
  parameterTables(): number;
  /** Stops in order, at the latest after `timeoutMs`; says how many requests were cut off. */
  stop(timeoutMs: number): Promise<{ cutOff: number }>;
}

/** Starts a server; resolves once it listens. `gateway.opened` resolves when it is ready. */
export async function startServer(options: ServerOptions): Promise<Server> {
  const { host, port, config, version, logger, stopping } = options;
  const metrics = new GatewayMetrics();
  const loopStall = new LoopStallMeter();
  loopStall.start();
  let folder: DataFolder | undefined;
  let http: HttpServer | undefined;
  let gateway: OpenGateway | undefined;
  let threads: ModelThreads | undefined;
  let features: FeatureStore | undefined;
  let parameters: Parameters | undefined;
  let models: ParameterModels | undefined;
  let vectors: Vectors | undefined;
  let builder: Builder | undefined;
  let front: HttpFront | undefined;
  let progress = (): string => "opening the data folder";
  const warn = (message: string): void => logger?.warn({}, message);
  try {
    // Listens first: a store of many million keys takes seconds to open.
    front = await HttpFront.listen({
      host,
      port,
      portOption: "--port",
      hasAccess: config.access !== undefined,
      limits: httpLimitsDefault,
      progress: () => progress(),
    });
    folder = await openDataFolder(options.dataFolder, options.durability, options.intervalMs, servingCheckpointPages);
    if (config.parameters !== undefined) {
      const [askedMb, machineMb] = [parameterMemoryMb(config.parameters), Math.floor(machineMemoryBytes() / 2 ** 20)];
      if (askedMb > machineMb) {
        warn(`parameters.memoryMb is ${askedMb} and this machine has ${machineMb} MiB: a table that fills ends the server; give the tables less`);
      }
      parameters = startParameters({ workers: systemWorkers, clock: systemClock, config: config.parameters, dataFolder: options.dataFolder, warn });
      models = await openParameterModels({ registry: folder.registry, parameters, config: config.parameters, warn });
    }
    if (config.vectors !== undefined) {
      vectors = startVectors({
        workers: systemWorkers,
        clock: systemClock,
        config: config.vectors,
        dataFolder: options.dataFolder,
        durability: options.durability,
        ...(options.intervalMs === undefined ? {} : { intervalMs: options.intervalMs }),
        node: "server",
        warn,
      });
    }
    const collections = new ServedCollections({
      engine: vectors?.service,
      cacheBytesMax: (config.vectors?.cacheMb ?? vectorDefaults.cacheMb) * 2 ** 20,
      reservedPrefix: reservedCollectionPrefix,
    });
    // A store that is being read has acknowledged nothing yet, and ends by itself, or with the process.
    const opening = openFeatureStore({
      dataFolder: options.dataFolder,
      folder,
      tables: config.tables,
      ownTables: activityTablesOf(config.gateway),
      access: config.access,
      host,
      respPort: options.respPort,
      version,
      memoryBytesMax: storeMemoryBytes(config.storage),
      importFolders: config.storage.importFolders ?? [],
      vectors: collections,
      // A key may be a collection's name.
      loading: () => (vectors?.isNamed() === false ? "reading the names of the vector collections" : undefined),
      ...(parameters === undefined || models === undefined ? {} : { commands: parameterCommandsOf(parameters, models) }),
      warn,
      onProgress: (of) => (progress = of),
    });
    features = await unlessStopped(opening, stopping, drainMs);
    progress = () => "reading the checkpoints of parameter tables";
    // From here on the Redis port serves: what it acknowledges is kept, also when the start ends here.
    await unlessStopped(parameters?.opened, stopping);
    progress = () => "reading the vector collections";
    await unlessStopped(vectors?.opened, stopping);
    progress = () => "rebuilding from the log";
    const { model } = config.gateway;
    const served = parameters;
    const syncing = modelSyncingOf(config.parameters?.sync);
    threads =
      model === undefined
        ? undefined
        : startModelThreads({
            config: model,
            dataFolder: options.dataFolder,
            ...(syncing === undefined ? {} : { sync: syncing, passOn: (name, port) => served?.passOn(name, port) }),
            warn,
          });
    const { tables, store } = features;
    const taskWorld: TaskWorld = {
      folders: config.storage.importFolders ?? [],
      columnsOf: (name) => tables.get(name)?.schema.columns ?? null,
      parameterDimsOf: (name) => served?.status().tables.find((table) => table.name === name)?.dim ?? null,
    };
    gateway = openGateway({
      log: folder.log,
      clock: systemClock,
      config: config.gateway,
      version,
      incarnation: randomId(systemRandom, 6),
      metrics,
      ...(threads === undefined ? {} : { learning: threads.learning }),
      collections,
      checkpoints: { store, schemas: new Map(tables.list.map(({ schema }) => [schema.name, schema])) },
      warn,
    });
    showModel(collections, gateway);
    const parametersFace = parameters === undefined || models === undefined ? undefined : { control: parameters, models };
    http = createHttpServer({
      gateway,
      metrics,
      clock: systemClock,
      files: systemFiles,
      host,
      front,
      build: { version, kernel: liveVariant() },
      loopStall,
      writesFailed: () => (features?.store.state.refused?.reason === "log-failed" ? features.store.state.refused.error : parameters?.writesFailed()),
      waitedFor: () => [
        ...collectionsWaitedFor(Object.keys(config.vectors?.collections ?? {}), collections),
        ...(parameters === undefined ? [] : tablesWaitedFor(parameters.status())),
        ...(threads?.waitedFor() ?? []),
      ],
      access: features.access,
      routes: [
        ...tableRoutes(features.tables, systemClock),
        ...feastRoutes(features.tables, systemClock, config.feast),
        ...storeRoutes(faceOf(features)),
        ...parameterRoutes(parametersFace, systemClock),
        ...vectorRoutes(collections, systemClock),
        ...vectorTaskRoutes(config.vectors === undefined ? undefined : vectorTaskControl(folder.registry, options.dataFolder, true, taskWorld)),
      ],
      gauges: [
        ...storeGauges(faceOf(features), features.tables, features.resp.metrics),
        ...checkpointGauges(() => gateway?.checkpoint(), systemClock),
        ...retentionGauges(() => gateway?.retention()),
        ...(parametersFace === undefined ? [] : parameterGauges(parametersFace, systemClock)),
        ...vectorGauges(collections),
      ],
      ...(logger === undefined ? {} : { logger }),
    });
    await http.listen();
    stopping?.throwIfAborted();
    if (config.vectors !== undefined) {
      const tasks = vectorTaskControl(folder.registry, options.dataFolder, false, taskWorld);
      await tasks.declare(config.vectors.tasks ?? {}, (_name, { message }) => warn(message));
      const { address } = http;
      const token = environment("MILLRACE_TOKEN");
      const { builders = vectorDefaults.builders, buildThreads } = config.vectors;
      if (builders > 0)
        builder = startBuilder({
          registry: folder.registry,
          dataFolder: options.dataFolder,
          slots: builders,
          ...(buildThreads === undefined ? {} : { threads: buildThreads }),
          folders: config.storage.importFolders ?? [],
          server: () => address,
          ...(token === undefined ? {} : { token }),
          warn,
        });
    }
  } catch (thrown) {
    loopStall.stop();
    await gateway?.close().catch(() => undefined);
    await threads?.stop();
    await features?.stop(stopping?.aborted === true ? drainMs : 0);
    await models?.catalogue.close();
    await parameters?.stop();
    await builder?.stop();
    await vectors?.stop();
    await folder?.close();
    await front?.close();
    throw thrown;
  }
  const opened = { folder, http, gateway, features };
  return {
    address: http.address,
    respPort: features.resp.port,
    gateway,
    parameterTables: () => parameters?.status().tables.length ?? 0,
    async stop(timeoutMs) {
      // Builds under way end, and begin anew with the next builder.
      const built = builder?.stop();
      const drained = opened.http.drain(timeoutMs);
      // The gateway writes its last checkpoint into the store.
      const closed = drained.then(() => opened.gateway.close());
      const [outcome, ofRedis] = await Promise.all([drained, opened.features.stop(timeoutMs, closed)]);
      await closed;
      await threads?.stop();
      await models?.catalogue.close();
      await parameters?.stop();
      await built;
      await vectors?.stop();
      await opened.folder.close();
      loopStall.stop();
      return { cutOff: outcome.cutOff + ofRedis.cutOff };
    },
  };
}

/** `work`, or the reason of `stopping` when it is still under way `graceMs` after that. */
async function unlessStopped<T>(work: Promise<T> | T, stopping: AbortSignal | undefined, graceMs = 0): Promise<T> {
  if (stopping === undefined) return work;
  const stopped = Promise.withResolvers<never>();
  const done = new AbortController();
  const stop = (): void => {
    if (graceMs === 0) stopped.reject(stopping.reason);
    else
      void systemClock.sleep(graceMs, done.signal).then(
        () => stopped.reject(stopping.reason),
        () => undefined,
      );
  };
  if (stopping.aborted) stop();
  else stopping.addEventListener("abort", stop, { once: true, signal: done.signal });
  try {
    const value = await Promise.race([work, stopped.promise]);
    if (graceMs === 0) stopping.throwIfAborted();
    return value;
  } finally {
    done.abort();
  }
}

/** Undefined: the model is this server's alone. */
function modelSyncingOf(sync: ParameterSyncConfig | undefined): ModelSyncing | undefined {
  if (sync?.model !== true) return undefined;
  const { node, token, follow } = sync;
  return { node, ...(token === undefined ? {} : { token }), ...(follow === undefined ? {} : { follow }) };
}

/** The learned model's items and users as collections that are read only. */
function showModel(collections: ServedCollections, { modelVectors }: OpenGateway): void {
  if (modelVectors === undefined) return;
  const { vectors, itemAt, rowOf, userVector } = modelVectors;
  const random = new Prng(new DataView(systemRandom.bytes(new Uint8Array(4)).buffer).getUint32(0));
  const parts = { vectors, clock: systemClock, random, elementAt: itemAt, rowOf };
  collections.show(liveItems(shownCollections.items, "cosine", parts));
  collections.show(liveItems(shownCollections.scores, "dot", parts));
  collections.show(workedOutVectors(shownCollections.users, vectors.dims, userVector));
}

/** Pulls and pushes, by tables and by models, and what changes these. */
function parameterCommandsOf(parameters: Parameters, models: ParameterModels): CommandSpec[] {
  return [
    ...parameterCommands({
      served: parameters.served,
      control: parameters,
      use: (name) => models.use(name),
      admit: (request) => models.admit(request),
    }),
    ...parameterModelCommands(() => ({ models, control: parameters })),
  ];
}

/** Half of the machine, at most 16 GiB, when nothing is configured. */
function storeMemoryBytes({ memoryMiB }: StorageConfig): number {
  return memoryMiB === undefined ? Math.min(16 * 2 ** 30, Math.floor(machineMemoryBytes() / 2)) : memoryMiB * 2 ** 20;
}

function faceOf({ store, resp, memories, snapshots, imports }: FeatureStore): StoreFace {
  return {
    state: () => store.state,
    memories,
    redis: () => ({
      port: resp.port,
      connections: resp.sessions.size,
      commands: resp.metrics.commands,
      commandsPerSecond: resp.metrics.commandsPerSecond,
    }),
    snapshots,
    imports,
  };
}
