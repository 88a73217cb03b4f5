// `millrace start`: the server, and beside it the demo while the data folder is its own.

import { pino } from "pino";
import { MillraceError, toMillraceError } from "#base/errors";
import { systemClock } from "#platform/system-clock";
import { absolutePath, exitNow, onStopSignal, printError, printLine, setExitCode } from "#platform/system-process";
import { readDemoWorld, type RunningAudience, startDemo } from "#roles/demo";
import { drainMs, type Server, startServer } from "#roles/server";
import { readConfig } from "./config-file.ts";
import { demoLines } from "./demo-lines.ts";
import type { StartCommandOptions } from "./main.ts";

export async function start(options: StartCommandOptions & { readonly version: string }): Promise<void> {
  const config = await readConfig(options.config, options.preset);
  const dataFolder = absolutePath(options.data);
  const logger = pino({ level: "warn" }, pino.destination(2));
  // Before the ports open: what they acknowledge must not be lost to a signal's default, which ends the process.
  const stopping = new AbortController();
  const running: { server?: Server; audience?: RunningAudience } = {};
  const ended = (line: string): void => {
    printLine(line);
    setExitCode(0);
    // Whatever else still runs (a timer of a library) must not keep a stopped server alive.
    systemClock.after(500, () => exitNow(0), { background: true });
  };
  onStopSignal((signal) => {
    const { server, audience } = running;
    printLine(server === undefined ? `${signal} during the start: giving everything back` : `${signal}: finishing running requests`);
    stopping.abort(new MillraceError("unavailable", `stopped by ${signal} during the start`));
    // A start under way ends by itself.
    if (server === undefined) return;
    void (async () => {
      try {
        await audience?.stop();
        const { cutOff } = await server.stop(drainMs);
        ended(cutOff === 0 ? "stopped; everything acknowledged is in the log" : `stopped; ${cutOff} requests were cut off after ${drainMs} ms`);
      } catch (thrown) {
        printError(`millrace: ${toMillraceError(thrown).message}`);
        exitNow(1);
      }
    })();
  });
  const starting = startServer({
    host: options.host,
    port: options.port,
    respPort: options.respPort,
    dataFolder,
    durability: options.durability,
    intervalMs: options.intervalMs,
    config,
    version: options.version,
    logger,
    stopping: stopping.signal,
  });
  try {
    running.server = await starting;
  } catch (thrown) {
    if (!stopping.signal.aborted || thrown !== stopping.signal.reason) throw thrown;
    ended("stopped during the start; everything acknowledged is kept");
    return;
  }
  const { server } = running;
  printLine(`millrace ${options.version} listens on ${server.address}, data in ${options.data}, durability ${options.durability}`);

  const startMs = systemClock.monotonicMs();
  try {
    await server.gateway.opened;
  } catch (thrown) {
    // Closed while it was rebuilt: the stop says how it ends.
    if (stopping.signal.aborted) return;
    await server.stop(0).catch(() => undefined);
    if (thrown instanceof MillraceError && thrown.code === "conflict") {
      throw new MillraceError("conflict", `another server writes the data folder ${options.data}`, {
        cause: thrown,
        todo: "stop it, or name another folder with --data",
      });
    }
    throw thrown;
  }
  const { eventsRebuilt, items, users } = server.gateway.status();
  const { rowsLoaded, offset, recordsReplayed } = server.gateway.started();
  const tookMs = (systemClock.monotonicMs() - startMs).toFixed(0);
  printLine(`ready after ${tookMs} ms: ${eventsRebuilt} events, ${items} items, ${users} users`);
  printLine(`  ${rowsLoaded} rows of aggregations loaded, ${recordsReplayed} records counted again from offset ${offset} of the log`);
  printLine(`  page     ${server.address}/`);
  printLine(`  API      ${server.address}/openapi.json`);
  printLine(`  metrics  ${server.address}/metrics`);
  const parameterTables = server.parameterTables();
  const andParameters = parameterTables === 0 ? "" : `, ${parameterTables} of parameters`;
  printLine(`  redis    ${options.host}:${server.respPort}, ${Object.keys(config.tables).length} tables${andParameters}`);

  const world = await readDemoWorld(dataFolder);
  if (!options.demo || (world === undefined && items > 0)) return;
  const audience = await startDemo({
    baseUrl: server.address,
    dataFolder,
    seed: options.seed,
    requestsPerS: options.rate,
    world,
    onReport: demoLines(server, printLine),
  });
  running.audience = audience;
  const failure = await audience.failed;
  if (failure !== undefined && !stopping.signal.aborted) printError(`millrace: the demo audience ended, the server goes on: ${failure.message}`);
}
