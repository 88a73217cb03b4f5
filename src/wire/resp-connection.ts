// One RESP connection: bytes in, commands run in order, replies out in order.
//
//   chunk -> parser (positions) -> check (known, arity, authenticated, rights) -> run, consecutive calls of one command together -> replies -> one write
//
// Invariants: 1. replies leave in the order of their calls, each once  2. a command runs only after the one before it has returned or resolved; calls of one command that has `begin` may be
// under way together (resp-begun-calls.ts), and what is no such call waits for all of them  3. what waits, for
// durability (`hold`) or for a slow reader, stands in the queue in order; nothing passes it  4. between two events a connection without waiting bytes or an
// incomplete command holds no buffer: input is read into one buffer of the thread, output is written into one of the server.
// Concurrency: the serving loop. Limits: RespLimits; a large answer leaves in slices with a turn of the loop between them, so that others are served meanwhile.

import type { MillraceError } from "#base/errors";
import type { Flow, FlowReceiver } from "#platform/network";
import type { AccessUser } from "./access.ts";
import { RespArgs, textOf } from "./resp-arguments.ts";
import { BegunCalls } from "./resp-begun-calls.ts";
import type { CommandEntry } from "./resp-command-table.ts";
import type { Answer, Args, Call, SessionGate } from "./resp-command.ts";
import { InputBuffers } from "./resp-input-buffers.ts";
import { type ParseLimits, type RespParser } from "./resp-parser.ts";
import { RespReply } from "./resp-reply.ts";
import { type ClientSession, loadingRefusal, type ReplyMode } from "./resp-session.ts";
import type { RespCore } from "./resp-server.ts";

/** Bytes sent to one connection in one turn of the loop: the time of a system call that copies them, some 30 us, is what others wait. */
export const sliceBytes = 131_072;
/** Commands parsed before they are run. */
const parseCommandsMax = 4_096;
/** A kept incomplete command gets at least this room. */
const inputRoomMin = 1_024;

/** A call given to a command; reused for the next one when the command has returned. */
export class RespCall implements Call {
  readonly args = new RespArgs();
  session!: RespConnection;
  reply!: RespReply;

  hold(until: Promise<void>): void {
    this.session.hold(until);
  }
}

interface Gate {
  /** Position in the stream of replies from which on bytes wait. */
  readonly at: number;
  readonly until: Promise<void>;
  open: boolean;
}

export class RespConnection implements ClientSession, FlowReceiver {
  readonly id: number;
  readonly server: RespCore;
  readonly remote: string;
  readonly sinceMs: number;
  user: AccessUser;
  authenticated: boolean;
  name = "";
  database = 0;
  libraryName = "";
  libraryVersion = "";
  replyMode: ReplyMode = "on";
  noEvict = false;
  noTouch = false;
  gate: SessionGate | undefined;
  readonly state = new Map<symbol, unknown>();
  lastCommand: CommandEntry | undefined;
  /** Ticks of the server when something arrived, and when waiting output last moved. */
  activeTick: number;
  movedTick: number;

  readonly #flow: Flow;
  readonly #reply = new RespReply();
  #ends: (() => void)[] = [];

  // Input: an incomplete command, or commands that wait until this connection may go on.
  #input: Uint8Array | undefined;
  #inputBytes = 0;
  #parser: RespParser | undefined;

  // Output.
  /** Bytes of replies handed over to the queue or the transport. */
  #produced = 0;
  #sent = 0;
  #queue: { bytes: Uint8Array; from: number; to: number }[] = [];
  #queuedBytes = 0;
  #gates: Gate[] = [];
  /** The transport has not taken the last send. */
  #waiting = false;
  #inFlightBytes = 0;
  #turnAsked = false;
  /** Where the reply of the call that runs begins, in this event's replies. */
  #mark = 0;

  // Why nothing runs.
  /** A command has returned a promise. */
  #busy = false;
  readonly #begun = new BegunCalls();
  /** The next call may not begin beside those: it goes on when no more than so many are left. */
  #goesOnAt: number | undefined;
  #answersAsked = false;
  /** Too many bytes wait for the reader. */
  #full = false;
  /** CLIENT PAUSE. */
  #held = false;
  #closing = false;
  #ended = false;
  /** The client sends no more. */
  #inputOver = false;
  #inEvent = false;
  #paused = false;

  constructor(server: RespCore, id: number, remote: string, open: (receiver: FlowReceiver) => Flow) {
    this.server = server;
    this.id = id;
    this.remote = remote;
    this.user = server.access.defaultUser;
    this.authenticated = !server.access.required;
    this.sinceMs = server.clock.monotonicMs();
    this.activeTick = server.tick;
    this.movedTick = server.tick;
    this.#flow = open(this);
  }

  get protocol(): 2 | 3 {
    return this.#reply.protocol;
  }
  set protocol(protocol: 2 | 3) {
    this.#reply.protocol = protocol;
  }
  get local(): string {
    return `${this.server.host}:${this.server.port}`;
  }
  get idleSeconds(): number {
    return this.server.tick - this.activeTick;
  }
  get inputBytes(): number {
    return this.#inputBytes;
  }
  get inputRoom(): number {
    return this.#input?.length ?? 0;
  }
  get outputBytes(): number {
    return this.#queuedBytes + this.#inFlightBytes;
  }
  get outputPieces(): number {
    return this.#queue.length + (this.#waiting ? 1 : 0);
  }
  /** Ticks since waiting output has moved; 0 when none waits for the reader. */
  get stalledTicks(): number {
    return this.#waiting ? this.server.tick - this.movedTick : 0;
  }
  /** Nothing of this connection is under way. */
  get quiet(): boolean {
    return (
      !this.#busy && this.#begun.size === 0 && this.#gates.length === 0 && this.outputBytes === 0 && (this.#inputBytes === 0 || this.#parser?.commands === 0)
    );
  }

  onEnd(run: () => void): void {
    this.#ends.push(run);
  }

  /** RESET: what command families keep is given back. */
  forget(): void {
    const ends = this.#ends;
    this.#ends = [];
    for (const run of ends) run();
    this.state.clear();
    this.gate = undefined;
  }

  close(afterReply = true): void {
    if (this.#ended) return;
    this.#closing = true;
    if (!afterReply) {
      // Its end comes by `end`; until then nothing more is done or counted.
      this.#ended = true;
      this.#flow.destroy();
      return;
    }
    if (!this.#inEvent && !this.#busy) this.#pump();
  }

  // --- input

  data(buffer: Uint8Array, bytes: number): void {
    const { server } = this;
    server.metrics.bytesIn += bytes;
    this.activeTick = server.tick;
    if (this.#closing) return;
    if (this.#inputBytes > 0) {
      if (this.#keep(buffer, 0, bytes) && !this.#stopped) this.#runInput();
      return;
    }
    if (this.#stopped) {
      this.#keep(buffer, 0, bytes);
      return;
    }
    const { parser } = server;
    parser.restart(0);
    const from = this.#process(parser, buffer, bytes);
    if (from < bytes && !this.#closing) {
      // The parser knows the incomplete command: it stays with this connection until that is there.
      server.parser = server.takeParser();
      this.#parser = parser;
      if (this.#stopped) parser.restart(0);
      else parser.rebase(from);
      this.#keep(buffer, from, bytes);
    }
    this.#finishEvent();
  }

  get #stopped(): boolean {
    return this.#busy || this.#goesOnAt !== undefined || this.#full || this.#held || this.#closing;
  }

  /** Runs what was kept, until it is used up or the connection must wait. */
  #runInput(): void {
    const parser = (this.#parser ??= this.server.takeParser());
    const input = this.#input!;
    const from = this.#process(parser, input, this.#inputBytes);
    const rest = this.#inputBytes - from;
    if (rest === 0 || this.#closing) this.#dropInput();
    else {
      if (from > 0) input.copyWithin(0, from, this.#inputBytes);
      this.#inputBytes = rest;
      if (this.#stopped) parser.restart(0);
      else parser.rebase(from);
    }
    this.#finishEvent();
  }

  /** Adds bytes to what is kept; false when that is too much. */
  #keep(buffer: Uint8Array, from: number, to: number): boolean {
    const { server } = this;
    const bytes = to - from;
    const need = this.#inputBytes + bytes;
    const room = this.inputRoom;
    if (need > room) {
      // A long argument gets its room early, but doubling: somebody who only announces it holds no memory.
      const wanted = Math.max(need, Math.min(need + (this.#parser?.needed ?? 0), room * 2, server.limits.inputBytesMax));
      const size = InputBuffers.roomFor(Math.max(wanted, inputRoomMin));
      if (need > server.limits.inputBytesMax || server.inputBytes + size - room > server.limits.inputBytesTotalMax) {
        server.metrics.closedForInput += 1;
        this.#dropInput();
        this.close(false);
        return false;
      }
      const larger = server.inputs.take(size);
      if (this.#input !== undefined) {
        larger.set(this.#input.subarray(0, this.#inputBytes));
        server.inputs.give(this.#input);
      }
      server.inputBytes += size - room;
      this.#input = larger;
    }
    this.#input!.set(buffer.subarray(from, to), this.#inputBytes);
    this.#inputBytes = need;
    return true;
  }

  #dropInput(): void {
    this.server.inputBytes -= this.inputRoom;
    // Views of it ended at the first wait of the command that had them.
    if (this.#input !== undefined) this.server.inputs.give(this.#input);
    this.#input = undefined;
    this.#inputBytes = 0;
    if (this.#parser !== undefined) {
      this.server.giveParser(this.#parser);
      this.#parser = undefined;
    }
  }

  /** Parses and runs; from which byte on the input is to be kept. */
  #process(parser: RespParser, buffer: Uint8Array, to: number): number {
    const { server } = this;
    this.#inEvent = true;
    this.#reply.attach(server.scratch);
    this.#mark = 0;
    server.stamp();
    for (;;) {
      const begin = parser.begin;
      const needsAuth = !this.authenticated && server.access.required;
      const limits: ParseLimits = needsAuth ? server.strictLimits : server.parseLimits;
      // One by one before authentication: the limits of the next command depend on this one.
      parser.parse(buffer, to, needsAuth ? 1 : parseCommandsMax, limits);
      const { commands } = parser;
      const ran = commands === 0 ? 0 : this.#run(parser, buffer);
      if (ran < commands || this.#stopped) {
        return ran === 0 ? begin : parser.commandEnd[ran - 1]!;
      }
      if (parser.fault !== undefined && this.#begun.size > 0) {
        // Found again when those before it are answered.
        this.#goesOnAt = 0;
        return commands === 0 ? begin : parser.commandEnd[commands - 1]!;
      }
      if (parser.fault !== undefined) {
        server.metrics.protocolErrors += 1;
        this.#reply.error(`ERR Protocol error: ${parser.fault}`);
        server.countErrors(this.#reply);
        this.#closing = true;
        return to;
      }
      if (commands === 0 || parser.begin >= to || parser.unfinished) return parser.begin;
      parser.rebase(0);
    }
  }

  // --- commands

  /** Runs the parsed commands; how many ran (or were refused) before the connection must wait. */
  #run(parser: RespParser, buffer: Uint8Array): number {
    const { server } = this;
    const { commands, firstArg, starts, ends } = parser;
    const { calls } = server;
    let group: CommandEntry | undefined;
    let used = 0;
    for (let k = 0; k < commands; k++) {
      let call = calls[used];
      if (call === undefined) {
        call = new RespCall();
        calls.push(call);
      }
      const from = firstArg[k]!;
      const { args } = call;
      args.set(buffer, starts, ends, from, firstArg[k + 1]!);
      let entry = server.commands.find(buffer, starts[from]!, ends[from]!);
      const container = entry;
      if (entry?.subcommands !== undefined && args.count > 1) {
        entry = entry.subcommands.find(buffer, args.start(1), args.end(1));
      }
      if (used > 0 && (entry !== group || used >= server.groupMax)) {
        this.#runGroup(group!, used);
        if (this.#stopped) return k;
        // The call that was prepared stands behind the group, which may have kept its calls.
        used = 0;
        call = calls[0]!;
        call.args.set(buffer, starts, ends, from, firstArg[k + 1]!);
      }
      if (this.#begun.size > 0 && (entry === undefined || !this.#begun.takes(entry, bytesOf(call.args)))) {
        this.#goesOnAt = entry === this.#begun.entry ? Math.floor(this.#begun.size / 2) : 0;
        return k;
      }
      const refusal = entry === undefined ? unknownCommand(container, call.args) : this.#refusal(entry, call.args);
      if (refusal !== undefined) {
        if (used > 0) {
          this.#runGroup(group!, used);
          if (this.#stopped) return k;
          used = 0;
        }
        if (refusal === hangUp) {
          this.close(false);
          return k;
        }
        if (this.#begun.size > 0) {
          this.#begun.add(entry!, 0, server.clock.monotonicMs()).refusal = refusal;
          entry!.rejected += 1;
        } else this.#refuse(entry, refusal);
        continue;
      }
      if (server.pausedFor(entry!.spec)) {
        if (used > 0) this.#runGroup(group!, used);
        this.#held = true;
        server.wait(this);
        return k;
      }
      call.session = this;
      call.reply = this.#reply;
      if (this.gate !== undefined && this.#takenByGate(call, entry!)) continue;
      if (entry!.spec.begin !== undefined && this.replyMode === "on" && this.gate === undefined) {
        this.#begin(entry!, call);
        continue;
      }
      if (entry!.spec.runMany !== undefined && this.replyMode === "on") {
        group = entry;
        used += 1;
        continue;
      }
      this.#runOne(entry!, call);
      if (this.#stopped) return k + 1;
    }
    if (used > 0) this.#runGroup(group!, used);
    return commands;
  }

  #takenByGate(call: RespCall, entry: CommandEntry): boolean {
    const mark = this.#reply.length;
    this.#mark = mark;
    const taken = this.gate!.take(call, entry.spec);
    if (taken && this.replyMode !== "on") this.#mute(mark);
    return taken;
  }

  #runOne(entry: CommandEntry, call: RespCall): void {
    const { server } = this;
    const reply = this.#reply;
    const mark = reply.length;
    const errors = reply.errors;
    this.#mark = mark;
    this.lastCommand = entry;
    let result: void | Promise<void> = undefined;
    try {
      result = entry.spec.run(call);
    } catch (thrown) {
      reply.truncate(mark);
      reply.error(server.errorLine(thrown));
    }
    entry.calls += 1;
    server.metrics.commands += 1;
    if (result !== undefined) {
      this.#await(result, entry, mark, 1);
      return;
    }
    if (reply.errors !== errors) {
      entry.failed += 1;
      server.countErrors(reply);
    }
    const microseconds = server.lapUs();
    entry.microseconds += microseconds;
    if (server.slowLog.thresholdUs >= 0 && microseconds > server.slowLog.thresholdUs) server.noteSlow(call.args, microseconds, this);
    if (this.replyMode !== "on") this.#mute(mark);
    this.#checkOutput(reply.length);
  }

  #runGroup(entry: CommandEntry, used: number): void {
    const { server } = this;
    if (used === 1) {
      this.#runOne(entry, server.calls[0]!);
      return;
    }
    const reply = this.#reply;
    const mark = reply.length;
    const errors = reply.errors;
    this.#mark = mark;
    this.lastCommand = entry;
    const { group } = server;
    for (let i = 0; i < used; i++) group[i] = server.calls[i]!;
    group.length = used;
    let result: void | Promise<void> = undefined;
    try {
      result = entry.spec.runMany!(group);
    } catch (thrown) {
      reply.truncate(mark);
      const line = server.errorLine(thrown);
      for (let i = 0; i < used; i++) reply.error(line);
    }
    entry.calls += used;
    server.metrics.commands += used;
    if (result !== undefined) {
      server.group = [];
      this.#await(result, entry, mark, used);
      return;
    }
    if (reply.errors !== errors) {
      entry.failed += reply.errors - errors;
      server.countErrors(reply);
    }
    const microseconds = server.lapUs();
    entry.microseconds += microseconds;
    if (server.slowLog.thresholdUs >= 0 && microseconds > server.slowLog.thresholdUs * used) server.noteSlow(group[0]!.args, microseconds / used, this);
    server.learnGroup(used, reply.length - mark);
    this.#checkOutput(reply.length);
  }

  /** What stands against running it. */
  #refusal(entry: CommandEntry, args: Args): string | undefined {
    const { spec } = entry;
    const { arity } = spec;
    if (arity < 0 ? args.count < -arity : args.count !== arity) return `ERR wrong number of arguments for '${spec.name}' command`;
    const { user, server } = this;
    if (!this.authenticated && server.access.required && !spec.flags.includes("no_auth")) return "NOAUTH Authentication required.";
    const { loading } = server;
    if (loading !== undefined && !spec.flags.includes("loading")) return loadingRefusal(loading);
    if (user.unrestricted) return undefined;
    const denial = user.denial(spec, args);
    if (denial === undefined) return undefined;
    server.metrics.rightsFailures += 1;
    server.access.refused({
      reason: denial.reason,
      object: denial.object,
      user: user.name,
      context: this.gate === undefined ? "toplevel" : "multi",
      client: `id=${this.id} addr=${this.remote} name=${this.name}`,
    });
    return denial.text;
  }

  #refuse(entry: CommandEntry | undefined, text: string): void {
    const reply = this.#reply;
    const mark = reply.length;
    reply.error(text);
    this.server.countErrors(reply);
    if (entry !== undefined) entry.rejected += 1;
    this.gate?.refused();
    if (this.replyMode !== "on") this.#mute(mark);
  }

  /** CLIENT REPLY OFF and SKIP. */
  #mute(mark: number): void {
    this.#reply.truncate(mark);
    if (this.replyMode === "skip") this.replyMode = "on";
    else if (this.replyMode === "skip next") this.replyMode = "skip";
  }

  #checkOutput(length: number): void {
    if (length + this.outputBytes > this.server.limits.outputPauseBytes) this.#full = true;
  }

  /** A command goes on by itself: this connection waits for it, others do not. */
  #await(result: Promise<void>, entry: CommandEntry, mark: number, used: number): void {
    const { server } = this;
    const reply = this.#reply;
    const errors = reply.errors;
    const startedMs = server.clock.monotonicMs();
    this.#busy = true;
    // Calls in use are not reused.
    for (let i = 0; i < used; i++) server.calls[i] = new RespCall();
    // What was answered before may leave; what this call has written goes to a buffer of its own, since the server's serves others meanwhile.
    const written = reply.copyFrom(mark);
    reply.truncate(mark);
    this.#flush();
    reply.attach(new Uint8Array(Math.max(256, written.length)));
    reply.raw(written);
    this.#mark = 0;
    const finish = (thrown: unknown, failed: boolean): void => {
      if (this.#ended) return;
      if (failed) {
        reply.truncate(0);
        const line = server.errorLine(thrown);
        for (let i = 0; i < used; i++) reply.error(line);
      }
      if (reply.errors !== errors) {
        entry.failed += reply.errors - errors;
        server.countErrors(reply);
      }
      entry.microseconds += (server.clock.monotonicMs() - startedMs) * 1_000;
      if (this.replyMode !== "on") this.#mute(0);
      this.#checkOutput(reply.length);
      this.#busy = false;
      this.#flush();
      this.#goOn();
    };
    result.then(
      () => finish(undefined, false),
      (thrown: unknown) => finish(thrown, true),
    );
  }

  /** A call whose answer comes later, and in its turn. */
  #begin(entry: CommandEntry, call: RespCall): void {
    const { server } = this;
    this.lastCommand = entry;
    entry.calls += 1;
    server.metrics.commands += 1;
    const one = this.#begun.add(entry, bytesOf(call.args), server.clock.monotonicMs());
    const over = (answer: Answer): void => {
      one.answer = answer;
      if (this.#ended || this.#answersAsked || !this.#begun.isReady) return;
      this.#answersAsked = true;
      // Behind the others that end in this turn: their answers leave in one write.
      queueMicrotask(() => this.#answerBegun());
    };
    entry.spec.begin!(call).then(over, (thrown: unknown) => {
      const line = server.errorLine(thrown);
      over((reply) => reply.error(line));
    });
  }

  #answerBegun(): void {
    this.#answersAsked = false;
    if (this.#ended) return;
    const { server } = this;
    const begun = this.#begun;
    const reply = this.#reply;
    const entry = begun.entry!;
    const { errors } = reply;
    const nowMs = server.clock.monotonicMs();
    reply.attach(server.scratch);
    this.#mark = 0;
    let refused = 0;
    for (let one = begun.take(); one !== undefined; one = begun.take()) {
      const mark = reply.length;
      if (one.refusal !== undefined) {
        reply.error(one.refusal);
        refused += 1;
        continue;
      }
      try {
        one.answer!(reply);
      } catch (thrown) {
        reply.truncate(mark);
        reply.error(server.errorLine(thrown));
      }
      entry.microseconds += (nowMs - one.sinceMs) * 1_000;
    }
    if (reply.errors !== errors) {
      entry.failed += reply.errors - errors - refused;
      server.countErrors(reply);
    }
    this.#checkOutput(reply.length);
    this.#flush();
    reply.attach(nothing);
    if (this.#goesOnAt !== undefined && begun.size <= this.#goesOnAt) {
      this.#goesOnAt = undefined;
      this.#goOn();
    } else this.#settle();
  }

  hold(until: Promise<void>): void {
    const gates = this.#gates;
    if (gates.length > 0 && gates[gates.length - 1]!.until === until) return;
    const gate: Gate = { at: this.#produced + this.#mark, until, open: false };
    gates.push(gate);
    until.then(
      () => {
        gate.open = true;
        if (gates[0] !== gate) return;
        while (gates.length > 0 && gates[0].open) gates.shift();
        if (!this.#inEvent) this.#pump();
      },
      (thrown: unknown) => this.#holdFailed(gate, thrown),
    );
  }

  /** What waited for `gate` is answered by one error instead, and the connection ends. */
  #holdFailed(gate: Gate, thrown: unknown): void {
    if (this.#ended || this.#closing) return;
    let excess = this.#sent + this.#queuedBytes - gate.at;
    while (excess > 0) {
      const last = this.#queue[this.#queue.length - 1]!;
      const cut = Math.min(excess, last.to - last.from);
      last.to -= cut;
      excess -= cut;
      this.#queuedBytes -= cut;
      this.server.outputBytes -= cut;
      if (last.from === last.to) this.#queue.pop();
    }
    this.#produced = gate.at;
    const { at } = gate;
    this.#gates = this.#gates.filter((one) => one.at < at);
    const reply = this.#reply;
    reply.attach(new Uint8Array(256));
    reply.error(this.server.errorLine(thrown));
    this.server.countErrors(reply);
    this.#busy = false;
    this.#begun.clear();
    this.#closing = true;
    this.#flush();
    reply.attach(nothing);
    this.#dropInput();
    this.#settle();
  }

  // --- output

  #finishEvent(): void {
    this.#inEvent = false;
    if (!this.#busy) {
      this.#flush();
      // Nobody writes outside an event: the buffer is the server's.
      this.#reply.attach(nothing);
    }
    this.server.advanced();
    this.#settle();
  }

  /** Hands this event's replies over. */
  #flush(): void {
    const reply = this.#reply;
    const { length } = reply;
    if (length === 0) return;
    const { server } = this;
    const { buffer, at } = reply;
    this.#produced += length;
    if (this.#queue.length === 0 && this.#gates.length === 0 && !this.#waiting && reply.piecesBytes === 0 && at <= sliceBytes) {
      this.#sent += at;
      server.metrics.bytesOut += at;
      if (this.#flow.send(buffer, 0, at)) server.keepScratch(buffer);
      else {
        if (buffer === server.scratch) server.newScratch();
        this.#waitForReader(at);
      }
      reply.attach(server.scratch);
      return;
    }
    for (const { bytes, from, to } of reply.pieces) this.#enqueue(bytes, from, to);
    if (at > 0) {
      // A few bytes are copied, many take their buffer with them.
      if (at * 4 < buffer.length) this.#enqueue(buffer.slice(0, at), 0, at);
      else {
        if (buffer === server.scratch) server.newScratch();
        this.#enqueue(buffer, 0, at);
      }
    }
    reply.attach(server.scratch);
    this.#pump();
  }

  #enqueue(bytes: Uint8Array, from: number, to: number): void {
    this.#queue.push({ bytes, from, to });
    this.#queuedBytes += to - from;
    this.server.outputBytes += to - from;
  }

  #waitForReader(bytes: number): void {
    this.#waiting = true;
    this.#inFlightBytes = bytes;
    this.server.outputBytes += bytes;
    this.movedTick = this.server.tick;
  }

  /** Sends of the queue what may leave, one slice a turn. */
  #pump(): void {
    if (this.#ended) return;
    const queue = this.#queue;
    let budget = sliceBytes;
    while (queue.length > 0 && !this.#waiting && budget > 0) {
      const piece = queue[0]!;
      const mayBytes = this.#gates.length > 0 ? this.#gates[0]!.at - this.#sent : Number.MAX_SAFE_INTEGER;
      const bytes = Math.min(piece.to - piece.from, budget, mayBytes);
      if (bytes <= 0) break;
      const { from } = piece;
      piece.from += bytes;
      if (piece.from === piece.to) queue.shift();
      budget -= bytes;
      this.#sent += bytes;
      this.#queuedBytes -= bytes;
      this.server.outputBytes -= bytes;
      this.server.metrics.bytesOut += bytes;
      if (!this.#flow.send(piece.bytes, from, from + bytes)) this.#waitForReader(bytes);
    }
    if (queue.length > 0 && !this.#waiting && budget <= 0 && !this.#turnAsked) {
      this.#turnAsked = true;
      void this.server.clock.yield().then(() => {
        this.#turnAsked = false;
        this.#pump();
      });
    }
    if (!this.#inEvent) this.#settle();
  }

  drained(): void {
    this.#waiting = false;
    this.server.outputBytes -= this.#inFlightBytes;
    this.#inFlightBytes = 0;
    this.movedTick = this.server.tick;
    this.#pump();
  }

  /** After output or state has changed: ends, goes on, or stops reading. */
  #settle(): void {
    if (this.#ended) return;
    const { limits } = this.server;
    const waiting = this.outputBytes;
    if (waiting > limits.outputBytesMax || (waiting > limits.outputPauseBytes && this.server.outputBytes > limits.outputBytesTotalMax)) {
      this.server.metrics.closedForOutput += 1;
      this.close(false);
      return;
    }
    if (this.#closing) {
      if (!this.#busy && this.#begun.size === 0 && this.#queue.length === 0 && !this.#waiting) this.#flow.close();
      return;
    }
    if (this.#inputOver && !this.#stopped && !this.#nextAsked && this.#begun.size === 0 && this.#queue.length === 0 && !this.#waiting) {
      // All is answered; what is left of the input is no whole command.
      this.#closing = true;
      this.#flow.close();
      return;
    }
    if (this.#full && waiting <= limits.outputPauseBytes / 2) {
      this.#full = false;
      this.#goOn();
    }
    const pause = this.#stopped;
    if (pause !== this.#paused) {
      this.#paused = pause;
      if (pause) this.#flow.pause();
      else this.#flow.resume();
    }
  }

  /** CLIENT UNPAUSE. */
  release(): void {
    if (!this.#held) return;
    this.#held = false;
    this.#goOn();
  }

  /** Runs kept commands on a later turn, so that a long pipeline leaves others their time. */
  #goOn(): void {
    if (this.#inputBytes > 0 && !this.#nextAsked) {
      this.#nextAsked = true;
      void this.server.clock.yield().then(() => {
        this.#nextAsked = false;
        if (this.#ended || this.#stopped || this.#inputBytes === 0) return;
        this.#runInput();
      });
    } else this.#settle();
  }
  #nextAsked = false;

  inputEnded(): boolean {
    this.#inputOver = true;
    if (!this.#inEvent) this.#settle();
    return true;
  }

  end(broke: MillraceError | undefined): void {
    void broke;
    this.#ended = true;
    this.#closing = true;
    this.server.outputBytes -= this.#queuedBytes + this.#inFlightBytes;
    this.#queuedBytes = 0;
    this.#inFlightBytes = 0;
    this.#waiting = false;
    this.#queue = [];
    this.#begun.clear();
    this.#dropInput();
    this.forget();
    this.server.remove(this);
  }
}

const nothing = new Uint8Array(0);

function bytesOf(args: Args): number {
  return args.end(args.count - 1) - args.start(0);
}

/** Instead of a refusal: a request of another protocol, nothing is answered. */
const hangUp = "";

/**
 * The error for a name that is no command, or no subcommand of `container`. A browser's request (POST, Host:) ends the connection: a web page must not reach
 * this server through its user.
 */
function unknownCommand(container: CommandEntry | undefined, args: Args): string {
  if (container !== undefined) {
    return `ERR unknown subcommand '${cut(args, 1, 128)}'. Try ${container.spec.name.toUpperCase()} HELP.`;
  }
  const name = cut(args, 0, 128);
  if (/^(?:post|host:)$/i.test(name)) return hangUp;
  let begin = "";
  for (let i = 1; i < args.count && begin.length < 128; i++) begin += `'${cut(args, i, 128 - begin.length)}' `;
  return `ERR unknown command '${name}', with args beginning with: ${begin}`;
}

/** At most `bytesMax` bytes of an argument, up to a zero byte. */
function cut(args: Args, i: number, bytesMax: number): string {
  const start = args.start(i);
  const text = textOf(args.buffer, start, Math.min(args.end(i), start + bytesMax));
  const zero = text.indexOf("\0");
  return zero < 0 ? text : text.slice(0, zero);
}
