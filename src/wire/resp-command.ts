// What a RESP command is to the server: its declaration, its arguments, its reply and its session. The families of src/commands are lists of these.
// Why declarations and not methods: arity, rights, keys, COMMAND INFO and statistics are then one piece of code for all commands.
// Invariants: 1. a command writes exactly one reply for each call, in the order of the calls  2. `args` of a call are views of bytes just read: they end at
// the first await (`args.kept()` copies)  3. a command never sees a call that its arity, its user's rights or a limit forbids.
// Concurrency: everything on the serving loop. Calls of one connection run one after another, but those that only begin (`begin`); a call that returned a promise holds back only its own
// connection.

import type { ServerFace } from "./resp-session.ts";

/** As COMMAND INFO of Redis names them. `allow_busy` and `no_async_loading` say nothing here, where no script runs and no replica loads. */
export type CommandFlag =
  | "write"
  | "readonly"
  | "fast"
  | "noscript"
  | "loading"
  | "stale"
  | "no_auth"
  | "admin"
  | "denyoom"
  | "blocking"
  | "no_multi"
  | "allow_busy"
  | "no_async_loading";

/** What a command does with the content of a key, for ACL patterns `%R~` and `%W~`: reads it, writes it, both, or neither (EXISTS, TYPE). */
export type KeyAccess = "R" | "W" | "RW" | "";

export interface CommandSpec {
  /** Lower case; a subcommand is "config|get". The container "config" is made by the table when no spec has its name. */
  readonly name: string;
  /** As in Redis: the count of arguments with the name itself (and the subcommand), negative = at least. */
  readonly arity: number;
  readonly flags: readonly CommandFlag[];
  /** ACL categories without "@". The table adds `read` or `write` by the flags `readonly` and `write`, and `fast` or `slow`. */
  readonly categories: readonly string[];
  /** Where the keys stand among the arguments (`last` -1 = the last one), or a function that finds them; `undefined`: no keys. */
  readonly keys: KeySpec | ((args: Args) => number[]) | undefined;
  /** Default: "R" for `readonly`, "RW" for `write`, else "". A function answers for the key at argument `i`. */
  readonly keyAccess?: KeyAccess | ((args: Args, i: number) => KeyAccess);
  /** One line for COMMAND DOCS. */
  readonly summary?: string;
  /** Version of Redis that has it, for COMMAND DOCS. Default "1.0.0". */
  readonly since?: string;
  /** Group of COMMAND DOCS: "string", "hash", "generic", "connection", "server" ... Default "generic". */
  readonly group?: string;
  /** Throws only for a defect or as a MillraceError (answered as `-ERR ...`). A promise holds only this connection's later calls. */
  run(call: Call): void | Promise<void>;
  /**
   * Consecutive pipelined calls of this command (of one connection) in one go, for one kernel probe. Replies in the order of the calls, one each; the array and
   * its calls are reused after the return (or after the promise has resolved). One call alone goes to `run`.
   */
  runMany?(calls: readonly Call[]): void | Promise<void>;
  /**
   * Begins a call that others of the same command and connection may overtake in beginning, not in answering (resp-begun-calls.ts); resolves to what writes its answer. For commands that
   * wait for another thread which keeps the order of what it is asked. Where it is there, a connection outside of MULTI uses it instead of `run` and `runMany`. The call and its arguments
   * are not looked at after the first await. A rejection is a defect, or a MillraceError.
   */
  begin?(call: Call): Promise<Answer>;
}

/** Writes one reply. */
export type Answer = (reply: Reply) => void;

export interface KeySpec {
  readonly first: number;
  readonly last: number;
  readonly step: number;
}

/** The arguments of one call; 0 is the command's name as it was written. Wrong indices are a defect of the caller. */
export interface Args {
  readonly count: number;
  /** A view, valid until the first await. */
  bytes(i: number): Uint8Array;
  /** UTF-8, with U+FFFD for what is none. */
  text(i: number): string;
  /** Equal to the word, whatever the case; `upper` in upper case ASCII. */
  is(i: number, upper: string): boolean;
  /**
   * A decimal integer of 64 bits, written as Redis reads it (no plus, no leading zero, no space): a number when it is exact as one, else a bigint;
   * `undefined` for anything else.
   */
  integer(i: number): bigint | number | undefined;
  /** A decimal number, or inf, +inf, -inf, infinity; `undefined` for anything else, also NaN. */
  float(i: number): number | undefined;
  /** A copy that stays (MULTI, commands that await). */
  kept(): Args;
  // The way without a view each, for batches: argument i is `buffer[start(i)..end(i))`.
  readonly buffer: Uint8Array;
  start(i: number): number;
  end(i: number): number;
}

/** The reply of one call, by the session's protocol. Text is written as UTF-8. */
export interface Reply {
  ok(): void;
  /** `+text`; no line breaks. */
  simple(text: string): void;
  /** `-text` with its code word, as "ERR syntax error"; line breaks become spaces. */
  error(text: string): void;
  integer(n: number | bigint): void;
  /** Copied at once. */
  bulk(bytes: Uint8Array | string): void;
  /** `bytes` bytes of `memory` from `at`, copied at once: without a view each. */
  bulkOf(memory: Uint8Array, at: number, bytes: number): void;
  /** A bulk of `bytes` bytes whose content the caller writes into the answer, at once and completely, before the next call of this reply. */
  bulkRoom(bytes: number): Uint8Array;
  /** A bulk that is not copied: the caller gives the bytes away and never changes them. For large answers. */
  bulkGiven(bytes: Uint8Array): void;
  nil(): void;
  /** The nil of commands that else answer an array (RESP2 `*-1`). */
  nilArray(): void;
  /** `n` replies follow. */
  array(n: number): void;
  /** `n` pairs follow; an array of 2n in RESP2. */
  map(n: number): void;
  /** An array in RESP2. */
  set(n: number): void;
  /** A bulk in RESP2; written with the shortest digits that read back, inf and -inf. */
  double(n: number): void;
  /** 1 or 0 in RESP2. */
  bool(value: boolean): void;
  /** A bulk in RESP2; `format` has three letters ("txt"). */
  verbatim(format: string, text: string): void;
}

export interface Call {
  readonly args: Args;
  readonly session: Session;
  readonly reply: Reply;
  /**
   * The replies from this call on leave only when it has resolved; later calls run meanwhile. A rejection answers this call with its error instead and closes
   * the connection. The same promise given again costs nothing: hand out one for a group commit. In `runMany` it holds the whole batch.
   */
  hold(until: Promise<void>): void;
}

/** Who speaks on a connection. */
export interface SessionUser {
  readonly name: string;
  /** No rule can refuse this user anything: the check is skipped. */
  readonly unrestricted: boolean;
  /** The refusal ("NOPERM ...") or `undefined`. */
  refusal(spec: CommandSpec, args: Args): string | undefined;
}

/** Between MULTI and EXEC every call goes here first. */
export interface SessionGate {
  /** A call that passed all checks. True: taken (and answered, "QUEUED"); false: it runs. */
  take(call: Call, spec: CommandSpec): boolean;
  /** A call was refused before it ran (unknown, arity, rights): the transaction will abort. */
  refused(): void;
}

export interface Session {
  readonly id: number;
  /** By HELLO. */
  protocol: 2 | 3;
  user: SessionUser;
  /** By CLIENT SETNAME, "" without. */
  name: string;
  /** By SELECT; always 0 today. */
  database: number;
  /** `host:port` of the other side. */
  readonly remote: string;
  readonly server: ServerFace;
  /** State of command families (WATCH, cursors), cleared by RESET and with the connection. */
  readonly state: Map<symbol, unknown>;
  /** Set by MULTI, unset by EXEC and DISCARD. */
  gate: SessionGate | undefined;
  /** Called once when the connection ends or RESET is called, to give back what `state` holds. */
  onEnd(run: () => void): void;
  /** `afterReply` (default true): what was answered until now is sent first. */
  close(afterReply?: boolean): void;
}
