// The server of one node, wired: data folder -> model, trainer and ranker in threads of their own -> gateway -> HTTP. No logic of its own.
// Order of a start: folder and port, then the rebuild, during which /health/ready says how far it is; a taken port gives everything back. Order of a stop: no new
// requests, running ones are answered, the log is synced, the trainer writes its checkpoint, the log is closed.

import type { Durability } from "#backbone/log";
import { type GatewayConfig, GatewayMetrics, type Learning, type ModelConfig, type OpenGateway, openGateway } from "#gateway/index";
import { createHttpServer, type HttpServer } from "#gateway/http-server";
import type { HttpLogger } from "#gateway/http-errors";
import { liveVariant } from "#kernel/kernels";
import { LoopStallMeter } from "#platform/loop-stall";
import { systemClock } from "#platform/system-clock";
import { systemFiles } from "#platform/system-files";
import { randomId, systemRandom } from "#platform/system-random";
import { systemWorkers } from "#platform/system-workers";
import { type WorkerScorer, workerScorer } from "#ranking/worker-scorer";
import { type DataFolder, openDataFolder } from "./data-folder.ts";
import { createModel } from "./model-parts.ts";
import { startTraining, type TrainingThread } from "./training.ts";

export interface ServerOptions {
  readonly host: string;
  /** 0 takes a free one. */
  readonly port: number;
  readonly dataFolder: string;
  readonly durability: Durability;
  /** At durability `interval`: milliseconds between syncs, default 200. */
  readonly intervalMs?: number;
  readonly config: GatewayConfig;
  readonly version: string;
  readonly logger?: HttpLogger;
}

export interface Server {
  /** For example `http://127.0.0.1:8080`. */
  readonly address: string;
  readonly gateway: OpenGateway;
  /** Stops in order, at the latest after `timeoutMs`; says how many requests were cut off. */
  stop(timeoutMs: number): Promise<{ cutOff: number }>;
}

interface Threads {
  readonly learning: Learning;
  readonly training: TrainingThread;
  readonly scorer: WorkerScorer;
}

/** How long the start waits for the ranker; without it the weighted score ranks. */
const rankerMsMax = 10_000;

function startThreads(config: ModelConfig, dataFolder: string, logger: HttpLogger | undefined): Threads {
  const { extractor, model } = createModel(config);
  const warn = (message: string): void => logger?.warn({}, message);
  const training = startTraining({ workers: systemWorkers, config, dataFolder, ticket: model.ticket, warn });
  const scorer = workerScorer(systemWorkers, systemClock, model.ticket, {
    onLost: ({ message }, pauseMs) => warn(`the ranker's thread ended, a new one starts in ${pauseMs} ms: ${message}`),
  });
  const ready = scorer.whenReady(rankerMsMax).then((answers) => {
    if (!answers) warn(`the ranker does not answer after ${rankerMsMax} ms; until it does, counts rank`);
  });
  return { training, scorer, learning: { extractor, model, scorer, signals: training.signals, trainer: training, ready } };
}

async function stopThreads(threads: Threads | undefined): Promise<void> {
  await threads?.training.stop();
  await threads?.scorer.close();
}

/** Starts a server; resolves once it listens. `gateway.opened` resolves when it is ready. */
export async function startServer(options: ServerOptions): Promise<Server> {
  const { host, port, config, version, logger } = options;
  const metrics = new GatewayMetrics();
  const loopStall = new LoopStallMeter();
  loopStall.start();
  let folder: DataFolder | undefined;
  let http: HttpServer | undefined;
  let gateway: OpenGateway | undefined;
  let threads: Threads | undefined;
  try {
    folder = await openDataFolder(options.dataFolder, options.durability, options.intervalMs);
    threads = config.model === undefined ? undefined : startThreads(config.model, options.dataFolder, logger);
    gateway = openGateway({
      log: folder.log,
      clock: systemClock,
      config,
      version,
      incarnation: randomId(systemRandom, 6),
      metrics,
      ...(threads === undefined ? {} : { learning: threads.learning }),
    });
    http = createHttpServer({
      gateway,
      metrics,
      clock: systemClock,
      files: systemFiles,
      host,
      port,
      build: { version, kernel: liveVariant() },
      loopStall,
      ...(logger === undefined ? {} : { logger }),
    });
    await http.listen();
  } catch (thrown) {
    loopStall.stop();
    await gateway?.close().catch(() => undefined);
    await stopThreads(threads);
    await folder?.close();
    throw thrown;
  }
  const opened = { folder, http, gateway };
  return {
    address: http.address,
    gateway,
    async stop(timeoutMs) {
      const outcome = await opened.http.drain(timeoutMs);
      await opened.gateway.close();
      await stopThreads(threads);
      await opened.folder.close();
      loopStall.stop();
      return outcome;
    },
  };
}
