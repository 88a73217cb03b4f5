// A RESP client: one connection, pipelined, with deadlines, that connects again by itself.
//
//   const client = await RespClient.connect({ network, clock, host, port });
//   const [a, b] = await Promise.all([client.command("GET", "a"), client.command("GET", "b")]);      // one write, one packet
//
// Invariants: 1. answers go to their commands in order  2. a command ends by its deadline  3. after a break nothing is sent twice: what was under way is rejected with
// `unavailable` (it may have run), what was not sent waits for the next connection  4. bytes of an answer are the caller's own.
// Limits: `pendingMax` commands under way or waiting; then `overloaded` at once.

import { MillraceError, toMillraceError } from "#base/errors";
import type { Clock, Timer } from "#platform/clock";
import type { Flow, Network } from "#platform/network";
import { flowOf } from "#platform/network-flow";
import { RespDecoder, RespError, type RespValue } from "./resp-decoder.ts";

export type RespArgument = string | number | bigint | Uint8Array;

export interface RespClientOptions {
  readonly network: Network;
  readonly clock: Clock;
  readonly host: string;
  readonly port: number;
  /** Default 3: HELLO 3 is sent first. 2 sends AUTH only, or nothing. */
  readonly protocol?: 2 | 3;
  readonly user?: string;
  readonly password?: string;
  /** Whole time of a command, waiting for a connection included. Default 5,000 ms. */
  readonly timeoutMs?: number;
  /** Default 100,000. */
  readonly pendingMax?: number;
  /** Default true: after a break it connects again, with pauses of 50 ms to 2 s. */
  readonly reconnect?: boolean;
}

interface Pending {
  readonly deadlineMs: number;
  settled: boolean;
  readonly resolve: (value: RespValue) => void;
  readonly reject: (thrown: MillraceError) => void;
}

interface Waiting extends Pending {
  readonly args: readonly RespArgument[];
}

const outBytes = 16_384;
/** Arguments from here on are sent from where they lie, the caller must not change them until the answer. Below, a copy of 4 us costs less than three writes and three reads. */
const largeBytes = 65_536;
/** So many bytes of commands leave before the turn ends, and a buffer that has grown larger than that is not kept. */
const flushBytes = 262_144;
const pauseMs = { first: 50, most: 2_000 } as const;
const sweepMs = 100;
const encoder = new TextEncoder();

export class RespClient {
  readonly #options: Required<Omit<RespClientOptions, "user" | "password">> & Pick<RespClientOptions, "user" | "password">;
  #flow: Flow | undefined;
  /** Sent, in order of the answers. */
  #pending: Pending[] = [];
  #pendingFrom = 0;
  /** Not sent: there is no connection. */
  #waiting: Waiting[] = [];
  #out: Uint8Array = new Uint8Array(outBytes);
  #at = 0;
  #flushAsked = false;
  #closed = false;
  #heardMs = 0;
  #sweep: Timer | undefined;
  #broke: MillraceError | undefined;

  /** Resolves when connected and authenticated. Throws `unavailable`, `timeout`, or `unauthorized` as a RespError. */
  static async connect(options: RespClientOptions): Promise<RespClient> {
    const client = new RespClient(options);
    try {
      await client.#open();
    } catch (thrown) {
      client.close();
      throw thrown;
    }
    return client;
  }

  private constructor(options: RespClientOptions) {
    this.#options = { protocol: 3, timeoutMs: 5_000, pendingMax: 100_000, reconnect: true, ...options };
    this.#sweepLater();
  }

  /** Commands without an answer yet. */
  get pending(): number {
    return this.#pending.length - this.#pendingFrom + this.#waiting.length;
  }

  get connected(): boolean {
    return this.#flow !== undefined;
  }

  /** Sends one command; rejects with a RespError when the server answers an error. Commands of one turn leave in one write. */
  command(...args: readonly RespArgument[]): Promise<RespValue> {
    return this.commandWithin(this.#options.timeoutMs, args);
  }

  /** The same with a deadline of its own. */
  commandWithin(timeoutMs: number, args: readonly RespArgument[]): Promise<RespValue> {
    if (this.#closed) return Promise.reject(this.#gone("is closed"));
    if (this.pending >= this.#options.pendingMax) {
      return Promise.reject(
        new MillraceError("overloaded", `${this.#options.pendingMax} commands wait for answers, the most at a time`, { todo: "wait for some of them" }),
      );
    }
    return new Promise((resolve, reject) => {
      const one = { deadlineMs: this.#options.clock.monotonicMs() + timeoutMs, settled: false, resolve, reject };
      if (this.#flow === undefined) {
        if (this.#options.reconnect) this.#waiting.push({ ...one, args });
        else reject(this.#broke ?? this.#gone("broke"));
        return;
      }
      this.#pending.push(one);
      this.#write(args);
    });
  }

  /** Ends the connection; what is under way is rejected. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#sweep?.cancel();
    this.#flow?.close();
    this.#flow = undefined;
    this.#rejectAll(this.#gone("was closed"));
  }

  #gone(how: string): MillraceError {
    return new MillraceError("unavailable", `the connection to ${this.#options.host}:${this.#options.port} ${how}`, { todo: "connect again" });
  }

  async #open(): Promise<void> {
    const { network, host, port, timeoutMs, protocol, user, password } = this.#options;
    const connection = await network.connect({ host, port }, { timeoutMs });
    if (this.#closed) {
      connection.close();
      return;
    }
    const decoder = new RespDecoder();
    const flow: Flow = flowOf(connection, {
      data: (buffer, bytes) => {
        this.#heardMs = this.#options.clock.monotonicMs();
        try {
          decoder.push(buffer, bytes, (value) => this.#answer(value));
        } catch (thrown) {
          this.#broke = toMillraceError(thrown);
          flow.destroy();
        }
      },
      drained: () => undefined,
      end: (broke) => {
        if (this.#flow === flow) this.#lost(broke);
      },
    });
    this.#flow = flow;
    this.#at = 0;
    this.#heardMs = this.#options.clock.monotonicMs();
    const named = user !== undefined || password !== undefined ? [user ?? "default", password ?? ""] : undefined;
    if (protocol === 3) await this.command("HELLO", "3", ...(named === undefined ? [] : ["AUTH", ...named]));
    else if (named !== undefined) await this.command("AUTH", ...named);
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const one of waiting) {
      if (one.settled) continue;
      this.#pending.push(one);
      this.#write(one.args);
    }
  }

  #lost(broke: MillraceError | undefined): void {
    this.#flow = undefined;
    const thrown = broke ?? this.#broke ?? this.#gone("was closed by the server");
    this.#broke = thrown;
    const pending = this.#pending.slice(this.#pendingFrom);
    this.#pending = [];
    this.#pendingFrom = 0;
    for (const one of pending) {
      if (one.settled) continue;
      one.settled = true;
      one.reject(thrown);
    }
    if (this.#closed || !this.#options.reconnect) {
      this.#rejectAll(thrown);
      return;
    }
    void this.#connectAgain();
  }

  async #connectAgain(): Promise<void> {
    for (let pause: number = pauseMs.first; !this.#closed; pause = Math.min(pause * 2, pauseMs.most)) {
      await this.#options.clock.sleep(pause);
      if (this.#closed || this.#flow !== undefined) return;
      try {
        await this.#open();
        return;
      } catch (thrown) {
        this.#broke = toMillraceError(thrown);
        // The handshake was refused on a connection that stands: its end begins the next attempt.
        const flow = this.#flow as Flow | undefined;
        this.#flow = undefined;
        flow?.destroy();
      }
    }
  }

  #rejectAll(thrown: MillraceError): void {
    const all = [...this.#pending.slice(this.#pendingFrom), ...this.#waiting];
    this.#pending = [];
    this.#pendingFrom = 0;
    this.#waiting = [];
    for (const one of all) {
      if (one.settled) continue;
      one.settled = true;
      one.reject(thrown);
    }
  }

  #answer(value: RespValue): void {
    const one = this.#pending[this.#pendingFrom];
    if (one === undefined) return;
    this.#pendingFrom += 1;
    if (this.#pendingFrom > 1_024 && this.#pendingFrom * 2 > this.#pending.length) {
      this.#pending.splice(0, this.#pendingFrom);
      this.#pendingFrom = 0;
    }
    // Too late: its place was kept so that the next answer finds its command.
    if (one.settled) return;
    one.settled = true;
    if (value instanceof RespError) one.reject(value);
    else one.resolve(value);
  }

  // --- sending

  #write(args: readonly RespArgument[]): void {
    this.#head(42, args.length);
    for (const arg of args) {
      if (arg instanceof Uint8Array) {
        this.#head(36, arg.length);
        if (arg.length >= largeBytes) {
          this.#flush();
          this.#flow?.send(arg, 0, arg.length);
        } else {
          this.#room(arg.length);
          this.#out.set(arg, this.#at);
          this.#at += arg.length;
        }
      } else {
        const text = typeof arg === "string" ? arg : String(arg);
        if (text.length * 3 <= 1_024) {
          // The length stands before the text, so it is written behind the room for its digits.
          const bytes = utf8Length(text);
          this.#head(36, bytes);
          this.#room(bytes);
          if (bytes === text.length) for (let i = 0; i < bytes; i++) this.#out[this.#at + i] = text.charCodeAt(i);
          else encoder.encodeInto(text, this.#out.subarray(this.#at));
          this.#at += bytes;
        } else {
          const bytes = encoder.encode(text);
          this.#head(36, bytes.length);
          this.#room(bytes.length);
          this.#out.set(bytes, this.#at);
          this.#at += bytes.length;
        }
      }
      this.#room(2);
      this.#out[this.#at++] = 13;
      this.#out[this.#at++] = 10;
    }
    if (this.#flushAsked) return;
    this.#flushAsked = true;
    queueMicrotask(() => {
      this.#flushAsked = false;
      this.#flush();
    });
  }

  #flush(): void {
    const at = this.#at;
    if (at === 0) return;
    this.#at = 0;
    // Without a connection the commands were rejected.
    if (this.#flow?.send(this.#out, 0, at) === false || this.#out.length > flushBytes) this.#out = new Uint8Array(outBytes);
  }

  #head(type: number, n: number): void {
    this.#room(24);
    this.#out[this.#at++] = type;
    const digits = String(n);
    for (let i = 0; i < digits.length; i++) this.#out[this.#at++] = digits.charCodeAt(i);
    this.#out[this.#at++] = 13;
    this.#out[this.#at++] = 10;
  }

  #room(bytes: number): void {
    if (this.#at + bytes <= this.#out.length) return;
    if (this.#at + bytes > flushBytes) this.#flush();
    if (this.#at + bytes <= this.#out.length) return;
    const larger = new Uint8Array(Math.max(this.#out.length * 2, this.#at + bytes));
    larger.set(this.#out.subarray(0, this.#at));
    this.#out = larger;
  }

  // --- deadlines

  #sweepLater(): void {
    this.#sweep = this.#options.clock.after(
      sweepMs,
      () => {
        this.#expire();
        if (!this.#closed) this.#sweepLater();
      },
      { background: true },
    );
  }

  #expire(): void {
    const nowMs = this.#options.clock.monotonicMs();
    let late = false;
    for (const list of [this.#pending, this.#waiting]) {
      for (let i = list === this.#pending ? this.#pendingFrom : 0; i < list.length; i++) {
        const one = list[i]!;
        if (one.settled || one.deadlineMs > nowMs) continue;
        one.settled = true;
        late ||= list === this.#pending;
        one.reject(
          new MillraceError("timeout", `no answer from ${this.#options.host}:${this.#options.port} in time`, {
            cause: this.#broke,
            todo: "look whether it runs; a write may have happened all the same",
          }),
        );
      }
    }
    this.#waiting = this.#waiting.filter(({ settled }) => !settled);
    // Nothing was heard for a whole deadline: the connection is dead.
    if (late && nowMs - this.#heardMs >= this.#options.timeoutMs) this.#flow?.destroy();
  }
}

function utf8Length(text: string): number {
  const bytes = text.length;
  for (let i = 0; i < text.length; i++) {
    if (text.charCodeAt(i) > 127) return encoder.encode(text).length;
  }
  return bytes;
}
