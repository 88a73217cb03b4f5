// The one way to sockets for protocols of our own. Libraries with I/O of their own (fastify, the NATS client, node:sqlite) stand outside.
// The simulated twin loses, delays, reorders whole connections' progress and partitions nodes under one seed.
// Invariants: 1. bytes of one connection arrive in order or the connection fails  2. `write` resolves when the bytes were handed to the
// transport; a slow reader makes it wait (back-pressure)  3. a break is thrown by one `read`; after it, and after `close`, `read` returns undefined
// 4. chunks are a transport's own: one write may arrive in several, several in one.
// Limits: one `read` at a time; writes may be under way together and keep their order. Nothing here times out once connected: deadlines are the
// protocol's, since only it knows what it waits for.
// Two ways to use a connection: `read` and `write`, easy to write a protocol in; or a `Flow` (network-flow.ts), which costs a third of the CPU time.

import type { MillraceError } from "#base/errors";

export interface Connection {
  /** Next chunk, or `undefined` at the end of the stream. Throws `unavailable` when the connection broke. */
  read(): Promise<Uint8Array | undefined>;
  /** The bytes must not change until it has resolved. Throws `unavailable` when the connection broke or was closed by either side. */
  write(bytes: Uint8Array): Promise<void>;
  /** Ends the connection after what was written; a waiting `read` returns undefined. Closing twice is harmless. */
  close(): void;
  /** `host:port` of the other side, for messages. */
  readonly remote: string;
  /** Only transports that have a cheaper way than reads and writes; `flowOf` of network-flow.ts makes one for the others. */
  flow?(receiver: FlowReceiver): Flow;
}

/** Takes what arrives on a flow. None of these may throw. */
export interface FlowReceiver {
  /** The first `bytes` bytes of `buffer` have arrived; they are the transport's again when it returns, and may be written to until then. */
  data(buffer: Uint8Array, bytes: number): void;
  /** All that was sent has been taken by the transport, after a `send` that answered false. */
  drained(): void;
  /** The other side sends no more and still reads. True: what is to be answered will be, then the flow is closed by the receiver; else it ends at once. */
  inputEnded?(): boolean;
  /** Called once and last: the stream ended, or was closed here, or broke (then with what happened). */
  end(broke: MillraceError | undefined): void;
}

/** A connection that pushes. Nothing throws; what happens to a broken connection comes by `end`. */
export interface Flow {
  /**
   * Sends `bytes[from..to)` behind what was sent before. True: taken at once, the caller may write over them. False: they belong to the transport until
   * `drained` (or `end`).
   */
  send(bytes: Uint8Array, from: number, to: number): boolean;
  /** No more `data` until `resume`; at most one chunk may still come. */
  pause(): void;
  resume(): void;
  /** Ends the connection after what was sent; nothing more arrives. */
  close(): void;
  /** Ends it at once: what was sent and not taken is lost. */
  destroy(): void;
}

export interface Listener {
  readonly port: number;
  /** Takes no more connections; those that stand stay. The port is free once it resolves. */
  close(): Promise<void>;
}

/** Milliseconds that `connect` waits for an answer. */
export const connectTimeoutMsDefault = 5_000;

export interface Network {
  /** Port 0 takes a free one. A taken port throws `conflict`, a host or port that cannot be `invalid`. Host 127.0.0.1 is reachable from this machine only. */
  listen(address: { host: string; port: number }, accept: (connection: Connection) => void): Promise<Listener>;
  /** Throws `unavailable` when nobody answers, `timeout` after `timeoutMs` (default 5,000). */
  connect(address: { host: string; port: number }, options?: { timeoutMs?: number }): Promise<Connection>;
}
