// What the connection and server families of commands see of the server: all sessions with their figures, limits, statistics. Other families need Session only.

import type { Clock } from "#platform/clock";
import type { AccessUser, Authenticator } from "./access.ts";
import type { CommandEntry, CommandTable } from "./resp-command-table.ts";
import type { Session } from "./resp-command.ts";
import type { SlowLog } from "./resp-slow-log.ts";

/** By CLIENT REPLY: `skip` drops the next reply, `skip next` (what SKIP sets) its own and then the next. */
export type ReplyMode = "on" | "off" | "skip" | "skip next";

export interface ClientSession extends Session {
  user: AccessUser;
  /** By AUTH, HELLO, or because the default user needs no password. */
  authenticated: boolean;
  /** The server's `host:port`. */
  readonly local: string;
  /** Monotonic time of the connect. */
  readonly sinceMs: number;
  /** Whole seconds since something arrived. */
  readonly idleSeconds: number;
  /** The command that ran last. */
  readonly lastCommand: CommandEntry | undefined;
  /** By CLIENT SETINFO. */
  libraryName: string;
  libraryVersion: string;
  replyMode: ReplyMode;
  noEvict: boolean;
  noTouch: boolean;
  /** Bytes of an incomplete command, and room held for it. */
  readonly inputBytes: number;
  readonly inputRoom: number;
  /** Reply bytes that wait for a slow reader or for durability, and the pieces they stand in. */
  readonly outputBytes: number;
  readonly outputPieces: number;
  /** RESET: gives back what command families keep of this session. */
  forget(): void;
}

export interface RespLimits {
  /** Open connections; one more is refused with an error. Default 10,000, as Redis. CONFIG: maxclients. */
  connectionsMax: number;
  /** Largest argument. Default 512 MiB, as Redis. CONFIG: proto-max-bulk-len. */
  bulkBytesMax: number;
  /** Bytes of one connection's incomplete command; beyond it the connection is closed. Default 1 GiB. CONFIG: client-query-buffer-limit. */
  inputBytesMax: number;
  /** The same over all connections. Default 2 GiB. */
  inputBytesTotalMax: number;
  /** A connection whose replies wait for so many bytes runs no further command until half of them are gone. Default 1 MiB. */
  outputPauseBytes: number;
  /** Waiting replies of one connection; beyond it the connection is closed. Default 256 MiB. CONFIG: client-output-buffer-limit (normal, hard). */
  outputBytesMax: number;
  /** The same over all connections. Default 2 GiB. */
  outputBytesTotalMax: number;
  /** A reader that takes nothing for so long is closed. Default 60 s. */
  stalledSecondsMax: number;
  /** A connection that says nothing for so long is closed; 0 (default, as Redis): never. CONFIG: timeout. */
  idleSecondsMax: number;
  /** Where a password is needed: time to give it. Default 30 s. */
  unauthenticatedSecondsMax: number;
  /** Pipelined calls given to one `runMany`. Default 1,024. */
  batchCallsMax: number;
}

export const respLimitsDefault: RespLimits = {
  connectionsMax: 10_000,
  bulkBytesMax: 536_870_912,
  inputBytesMax: 1_073_741_824,
  inputBytesTotalMax: 2_147_483_648,
  outputPauseBytes: 1_048_576,
  outputBytesMax: 268_435_456,
  outputBytesTotalMax: 2_147_483_648,
  stalledSecondsMax: 60,
  idleSecondsMax: 0,
  unauthenticatedSecondsMax: 30,
  batchCallsMax: 1_024,
};

/** Counters since the start or CONFIG RESETSTAT. */
export interface RespMetrics {
  connections: number;
  connectionsRefused: number;
  commands: number;
  commandsPerSecond: number;
  bytesIn: number;
  bytesOut: number;
  protocolErrors: number;
  authFailures: number;
  rightsFailures: number;
  /** Closed because replies or incomplete commands passed a limit, or a reader stood still. */
  closedForOutput: number;
  closedForInput: number;
  closedIdle: number;
  errorReplies: number;
  /** Error replies by their code word. */
  readonly errorsByCode: Map<string, number>;
}

/** By CLIENT PAUSE: which calls wait, until when (monotonic ms). */
export interface Pause {
  readonly untilMs: number;
  readonly all: boolean;
}

/** What commands may ask of the server they run in. */
export interface ServerFace {
  readonly commands: CommandTable;
  readonly access: Authenticator;
  /** By id, as CLIENT LIST shows them. */
  readonly sessions: ReadonlyMap<number, ClientSession>;
  readonly clock: Clock;
  readonly host: string;
  readonly port: number;
  /** Wall time of the start. */
  readonly startedMs: number;
  readonly metrics: RespMetrics;
  readonly limits: RespLimits;
  readonly slowLog: SlowLog;
  resetStatistics(): void;
  pause(pause: Pause): void;
  unpause(): void;
}

/** The error line of a command that needs the data, while it is loaded. */
export function loadingRefusal(loading: string): string {
  return `LOADING millrace is loading its data: ${loading}`;
}
