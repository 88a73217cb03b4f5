// The RESP server: listens, keeps the sessions, their shared buffers and limits, sweeps the idle ones, drains at the end.
// Invariants: 1. beyond loopback it listens only with configured access  2. one connection's malformed bytes, slow reading or slow command costs no other one
// anything but memory within the named limits  3. nothing is logged for calls that went well.
// Cost: bench/resp.ts, docs/design/wire.md. Concurrency: one event loop.

import { MillraceError, RateError } from "#base/errors";
import type { Clock, Timer } from "#platform/clock";
import type { Connection, Listener, Network } from "#platform/network";
import { flowOf } from "#platform/network-flow";
import type { Authenticator } from "./access.ts";
import { isLoopbackHost } from "./loopback-host.ts";
import type { CommandEntry, CommandTable } from "./resp-command-table.ts";
import type { Call, Args, CommandSpec } from "./resp-command.ts";
import { RespCall, RespConnection } from "./resp-connection.ts";
import { InputBuffers } from "./resp-input-buffers.ts";
import { type ParseLimits, RespParser } from "./resp-parser.ts";
import type { RespReply } from "./resp-reply.ts";
import { loadingRefusal, type Pause, type RespLimits, respLimitsDefault, type RespMetrics, type ServerFace } from "./resp-session.ts";
import { SlowLog } from "./resp-slow-log.ts";

/** The buffer that all replies are written into first. */
const scratchBytes = 65_536;
/** A grown one is kept up to this size. */
const scratchBytesMax = 1_048_576;
const sweepMs = 1_000;
/** In a drain a connection on which nothing is under way has so long to end by itself. */
const idleDrainMs = 200;
/** Batches of one command shrink so that their answers stay about this large. */
const groupReplyBytes = 4_194_304;
const parsersKept = 64;
/** Distinct code words of errors that are counted. */
const errorCodesMax = 128;

export interface RespServerOptions {
  readonly network: Network;
  readonly clock: Clock;
  /** Default 127.0.0.1. */
  readonly host?: string;
  /** Default 6390; 0 takes a free one. */
  readonly port?: number;
  readonly commands: CommandTable;
  readonly access: Authenticator;
  readonly limits?: Partial<RespLimits>;
  /** What is still being opened, in words: commands without the flag `loading` are refused with it, until it is undefined. */
  readonly loading?: () => string | undefined;
  /** Called after each read event whose commands have run. */
  readonly onAdvance?: () => void;
  /** A command threw what no command should throw. */
  readonly onDefect?: (thrown: unknown) => void;
}

export interface RespServer extends ServerFace {
  /**
   * No new connections and no further commands; what runs is answered, what was answered is sent. Resolves when all connections are closed, at the latest
   * after `timeoutMs`: what is left then is cut off and counted. A client that has its answers and does not close its side is not waited for.
   */
  drain(timeoutMs: number): Promise<{ cutOff: number }>;
}

/**
 * Listens and serves. Throws `unauthorized` for a host that others can reach when no access is configured, `conflict` when the port is taken, `invalid` when
 * host or port cannot be.
 */
export async function startRespServer(options: RespServerOptions): Promise<RespServer> {
  const host = options.host === "localhost" ? "127.0.0.1" : (options.host ?? "127.0.0.1").replace(/^\[(.*)\]$/, "$1");
  if (!isLoopbackHost(host) && !options.access.configured) {
    throw new MillraceError("unauthorized", `cannot listen on host "${host}": others could reach it and nobody is named who may`, {
      todo: "name users in the section `access` of the configuration (docs/access.md), or listen on 127.0.0.1",
    });
  }
  const core = new RespCore(options, host);
  await core.listen(options.port ?? 6390);
  return core;
}

/** What the connections of a server share. */
export class RespCore implements RespServer {
  readonly commands: CommandTable;
  readonly access: Authenticator;
  readonly clock: Clock;
  readonly host: string;
  readonly startedMs: number;
  readonly sessions = new Map<number, RespConnection>();
  readonly slowLog = new SlowLog();
  readonly limits: RespLimits;
  readonly metrics: RespMetrics = {
    connections: 0,
    connectionsRefused: 0,
    commands: 0,
    commandsPerSecond: 0,
    bytesIn: 0,
    bytesOut: 0,
    protocolErrors: 0,
    authFailures: 0,
    rightsFailures: 0,
    closedForOutput: 0,
    closedForInput: 0,
    closedIdle: 0,
    errorReplies: 0,
    errorsByCode: new Map(),
  };
  /** Seconds since the start, counted by the sweep. */
  tick = 0;
  /** Bytes held for incomplete commands, and for replies that wait. */
  inputBytes = 0;
  outputBytes = 0;
  readonly inputs = new InputBuffers();
  parser = new RespParser();
  scratch: Uint8Array = new Uint8Array(scratchBytes);
  /** Reused calls; `group` is the array given to `runMany`. */
  readonly calls: RespCall[] = [new RespCall()];
  group: Call[] = [];
  groupMax: number;
  readonly strictLimits: ParseLimits;
  readonly parseLimits: ParseLimits;

  readonly #options: RespServerOptions;
  readonly #parsers: RespParser[] = [];
  #listener: Listener | undefined;
  #sweepTimer: Timer | undefined;
  #nextId = 1;
  #lapMs = 0;
  #commandsAtSweep = 0;
  #pause: Pause | undefined;
  #pauseTimer: Timer | undefined;
  #paused: RespConnection[] = [];
  #draining = false;
  #loaded = false;
  readonly #stopRevoking: () => void;

  constructor(options: RespServerOptions, host: string) {
    this.#options = options;
    this.commands = options.commands;
    this.access = options.access;
    this.clock = options.clock;
    this.host = host;
    this.startedMs = options.clock.nowMs();
    this.limits = { ...respLimitsDefault, ...options.limits };
    this.groupMax = Math.min(64, this.limits.batchCallsMax);
    const { limits } = this;
    const parse = (unauthenticated: boolean): ParseLimits => ({
      unauthenticated,
      get bulkBytesMax() {
        return limits.bulkBytesMax;
      },
    });
    this.strictLimits = parse(true);
    this.parseLimits = parse(false);
    this.#stopRevoking = options.access.onRevoked((user) => {
      for (const session of this.sessions.values()) if (session.user === user) session.close();
    });
  }

  get port(): number {
    return this.#listener?.port ?? 0;
  }

  async listen(port: number): Promise<void> {
    this.#listener = await this.#options.network.listen({ host: this.host, port }, (connection) => this.#accept(connection));
    this.#sweepLater();
  }

  #accept(connection: Connection): void {
    if (this.#draining) {
      connection.close();
      return;
    }
    if (this.sessions.size >= this.limits.connectionsMax) {
      this.metrics.connectionsRefused += 1;
      connection.write(new TextEncoder().encode("-ERR max number of clients reached\r\n")).catch(() => undefined);
      connection.close();
      return;
    }
    this.metrics.connections += 1;
    const id = this.#nextId++;
    const session = new RespConnection(this, id, connection.remote, (receiver) => flowOf(connection, receiver));
    this.sessions.set(id, session);
  }

  remove(session: RespConnection): void {
    this.sessions.delete(session.id);
  }

  // --- shared by the connections

  takeParser(): RespParser {
    return this.#parsers.pop() ?? new RespParser();
  }

  giveParser(parser: RespParser): void {
    parser.restart(0);
    // One that has grown for a large command is not kept.
    if (this.#parsers.length < parsersKept && parser.starts.length <= 4_096) this.#parsers.push(parser);
  }

  newScratch(): void {
    this.scratch = new Uint8Array(scratchBytes);
  }

  /** A buffer whose content was sent: the next event writes into it. */
  keepScratch(buffer: Uint8Array): void {
    if (buffer !== this.scratch && buffer.length <= scratchBytesMax && buffer.length > this.scratch.length) this.scratch = buffer;
  }

  /** Starts measuring. */
  stamp(): void {
    this.#lapMs = this.clock.monotonicMs();
  }

  /** Microseconds since the last lap. */
  lapUs(): number {
    const nowMs = this.clock.monotonicMs();
    const microseconds = (nowMs - this.#lapMs) * 1_000;
    this.#lapMs = nowMs;
    return microseconds;
  }

  noteSlow(args: Args, microseconds: number, session: RespConnection): void {
    this.slowLog.add(args, microseconds, this.clock.nowMs(), session.remote, session.name);
  }

  /** The last error of a reply, by its code word. */
  countErrors(reply: RespReply): void {
    this.metrics.errorReplies += 1;
    const word = reply.lastError.split(" ", 1)[0]!;
    const { errorsByCode } = this.metrics;
    const before = errorsByCode.get(word);
    if (before !== undefined) errorsByCode.set(word, before + 1);
    else if (errorsByCode.size < errorCodesMax) errorsByCode.set(word, 1);
  }

  /** A large answer a call makes batches smaller. */
  learnGroup(calls: number, replyBytes: number): void {
    const fits = Math.floor((groupReplyBytes * calls) / (replyBytes + 1));
    this.groupMax = Math.max(1, Math.min(this.limits.batchCallsMax, fits, this.groupMax * 2));
  }

  /** What was thrown as the line of an error reply. Only MillraceErrors are for the caller. */
  errorLine(thrown: unknown): string {
    if (thrown instanceof MillraceError && thrown.code !== "internal") {
      // WATCH may be called while the data is loaded, as in Redis, but needs it here.
      if (thrown.code === "unavailable" && this.loading !== undefined) return loadingRefusal(this.loading);
      return errorLineOf(thrown);
    }
    this.#options.onDefect?.(thrown);
    return "ERR internal error, see the server's log";
  }

  /** What is still being opened. */
  get loading(): string | undefined {
    if (this.#loaded) return undefined;
    const what = this.#options.loading?.();
    this.#loaded = what === undefined;
    return what;
  }

  advanced(): void {
    this.#options.onAdvance?.();
  }

  // --- CLIENT PAUSE

  pausedFor(spec: CommandSpec): boolean {
    const pause = this.#pause;
    if (pause === undefined) return false;
    if (spec.name.startsWith("client")) return false;
    return pause.all || spec.flags.includes("write");
  }

  wait(session: RespConnection): void {
    this.#paused.push(session);
  }

  pause(pause: Pause): void {
    // A second pause never shortens the first.
    const untilMs = Math.max(pause.untilMs, this.#pause?.untilMs ?? 0);
    this.#pause = { untilMs, all: pause.all || this.#pause?.all === true };
    this.#pauseTimer?.cancel();
    this.#pauseTimer = this.clock.after(Math.max(0, untilMs - this.clock.monotonicMs()), () => this.unpause(), { background: true });
  }

  unpause(): void {
    this.#pause = undefined;
    this.#pauseTimer?.cancel();
    const paused = this.#paused;
    this.#paused = [];
    for (const session of paused) session.release();
  }

  resetStatistics(): void {
    const { metrics } = this;
    for (const name of Object.keys(metrics) as (keyof RespMetrics)[]) if (name !== "errorsByCode") metrics[name] = 0;
    metrics.errorsByCode.clear();
    this.#commandsAtSweep = 0;
    for (const entry of this.commands.entries) resetEntry(entry);
  }

  // --- time

  #sweepLater(): void {
    this.#sweepTimer = this.clock.after(
      sweepMs,
      () => {
        this.#sweep();
        this.#sweepLater();
      },
      { background: true },
    );
  }

  #sweep(): void {
    this.tick += 1;
    const { limits, metrics } = this;
    metrics.commandsPerSecond = Math.max(0, metrics.commands - this.#commandsAtSweep);
    this.#commandsAtSweep = metrics.commands;
    for (const session of this.sessions.values()) {
      if (session.stalledTicks > limits.stalledSecondsMax) {
        metrics.closedForOutput += 1;
        session.close(false);
      } else if (
        (limits.idleSecondsMax > 0 && session.idleSeconds > limits.idleSecondsMax && session.quiet) ||
        (this.access.required && !session.authenticated && this.clock.monotonicMs() - session.sinceMs > limits.unauthenticatedSecondsMax * 1_000)
      ) {
        metrics.closedIdle += 1;
        session.close(false);
      }
    }
  }

  async drain(timeoutMs: number): Promise<{ cutOff: number }> {
    this.#draining = true;
    const deadline = this.clock.monotonicMs() + timeoutMs;
    await this.#listener?.close();
    this.unpause();
    for (const session of this.sessions.values()) session.close();
    while (this.sessions.size > 0 && this.clock.monotonicMs() < deadline) {
      await this.clock.sleep(Math.max(1, Math.min(20, deadline - this.clock.monotonicMs())));
      if (this.clock.monotonicMs() - deadline + timeoutMs >= idleDrainMs) for (const session of this.sessions.values()) if (session.quiet) session.close(false);
    }
    const cutOff = this.sessions.size;
    for (const session of this.sessions.values()) session.close(false);
    this.#sweepTimer?.cancel();
    this.#pauseTimer?.cancel();
    this.#stopRevoking();
    return { cutOff };
  }
}

/** An error as the line of a reply, with the code word by which clients of Redis know what to do. */
export function errorLineOf(error: MillraceError): string {
  const { code, message } = error;
  const word = code === "unavailable" ? "MISCONF" : error instanceof RateError ? "BUSY" : code === "overloaded" ? "OOM" : "ERR";
  return `${word} ${message}`;
}

function resetEntry(entry: CommandEntry): void {
  entry.calls = 0;
  entry.microseconds = 0;
  entry.rejected = 0;
  entry.failed = 0;
}
