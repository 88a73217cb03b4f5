// The one way to sockets for protocols of our own. Libraries with I/O of their own (fastify, the NATS client, node:sqlite) stand outside.
// The simulated twin loses, delays, reorders whole connections' progress and partitions nodes under one seed.
// Invariants: 1. bytes of one connection arrive in order or the connection fails  2. `write` resolves when the bytes were handed to the
// transport; a slow reader makes it wait (back-pressure)  3. after `close` or a failure `read` returns undefined.

export interface Connection {
  /** Next chunk, or `undefined` at the end of the stream. Throws `unavailable` when the connection broke. */
  read(): Promise<Uint8Array | undefined>;
  write(bytes: Uint8Array): Promise<void>;
  close(): void;
  readonly remote: string;
}

export interface Listener {
  readonly port: number;
  close(): Promise<void>;
}

export interface Network {
  /** Port 0 takes a free one. A taken port throws `conflict`. */
  listen(address: { host: string; port: number }, accept: (connection: Connection) => void): Promise<Listener>;
  /** Throws `unavailable` when nobody answers, `timeout` after `timeoutMs` (default 5,000). */
  connect(address: { host: string; port: number }, options?: { timeoutMs?: number }): Promise<Connection>;
}
