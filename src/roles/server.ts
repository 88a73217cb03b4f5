// The server of one node, wired: data folder -> model, trainer and ranker in threads of their own -> gateway -> HTTP. No logic of its own.
// Order of a start: folder and port, then the rebuild, during which /health/ready says how far it is; a taken port gives everything back. Order of a stop: no new
// requests, running ones are answered, the log is synced, the trainer writes its checkpoint, the log is closed.

import type { Durability } from "#backbone/log";
import { type GatewayConfig, GatewayMetrics, type OpenGateway, openGateway } from "#gateway/index";
import { createHttpServer, type HttpServer } from "#gateway/http-server";
import type { HttpLogger } from "#gateway/http-errors";
import { liveVariant } from "#kernel/kernels";
import { LoopStallMeter } from "#platform/loop-stall";
import { systemClock } from "#platform/system-clock";
import { systemFiles } from "#platform/system-files";
import { randomId, systemRandom } from "#platform/system-random";
import { type DataFolder, openDataFolder } from "./data-folder.ts";
import { type ModelThreads, startModelThreads } from "./model-threads.ts";

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

/** Starts a server; resolves once it listens. `gateway.opened` resolves when it is ready. */
export async function startServer(options: ServerOptions): Promise<Server> {
  const { host, port, config, version, logger } = options;
  const metrics = new GatewayMetrics();
  const loopStall = new LoopStallMeter();
  loopStall.start();
  let folder: DataFolder | undefined;
  let http: HttpServer | undefined;
  let gateway: OpenGateway | undefined;
  let threads: ModelThreads | undefined;
  try {
    folder = await openDataFolder(options.dataFolder, options.durability, options.intervalMs);
    threads = config.model === undefined ? undefined : startModelThreads(config.model, options.dataFolder, (message) => logger?.warn({}, message));
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
    await threads?.stop();
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
      await threads?.stop();
      await opened.folder.close();
      loopStall.stop();
      return outcome;
    },
  };
}
