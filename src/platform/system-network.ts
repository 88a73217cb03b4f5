// The machine's TCP sockets. See network.ts for the contract.
// Cost: a small write about 15 us of CPU time, a request and its answer by a flow 8 us. Nagle's algorithm is off: a protocol that wants few packets joins its
// bytes itself.
// The flow reads into one buffer for all connections by the option `onread` of net.Socket. A server's sockets are made by net without that option, so their
// system handle is moved to a socket that has it; where a Node version does not show the handle, the flow takes `data` events and says so by `flowKind`.

import { connect, createServer, type OnReadOpts, type Server, Socket } from "node:net";
import type { MillraceError } from "#base/errors";
import { connectTimeoutMsDefault, type Connection, type Flow, type FlowReceiver, type Listener, type Network } from "./network.ts";
import { connectionBroke, connectionClosed, connectRefused, connectTimedOut, isPort, listenRefused } from "./network-errors.ts";
import { systemClock } from "./system-clock.ts";

/** After `close`: time for the other side to take what was written and to end too. */
const lingerMsMax = 5_000;

function codeOf(thrown: unknown): string {
  return (thrown as NodeJS.ErrnoException).code ?? "unknown";
}

/** Bytes read at once. Chosen: as much as libuv would take, and some 600 requests of 100 bytes. */
const chunkBytes = 65_536;
/** All flows of a thread read into this: a chunk ends with the call that hands it over. */
let chunkBuffer: Uint8Array | undefined;
/** A peer that vanished without a word is found by keep-alive probes after this much silence. As redis-server's tcp-keepalive. */
const keepAliveMs = 300_000;

class SystemConnection implements Connection {
  readonly remote: string;
  readonly #socket: Socket;
  #pulls = false;
  #broke: Error | undefined;
  #told = false;
  #ended = false;
  #closed = false;
  #wake: (() => void) | undefined;
  #flow: SystemFlow | undefined;

  /** `socket` does not read yet. */
  constructor(socket: Socket, remote: string) {
    this.#socket = socket;
    this.remote = remote;
    socket.setNoDelay(true);
    socket.on("error", this.#onError);
    socket.on("close", this.#onEnd);
  }

  readonly #onError = (thrown: Error): void => {
    this.#broke ??= thrown;
    this.#wakeUp();
  };

  readonly #onEnd = (): void => {
    this.#ended = true;
    this.#wakeUp();
  };

  #wakeUp(): void {
    this.#wake?.();
    this.#wake = undefined;
  }

  /** Reading begins with the first `read`, so that a flow can still take the connection. */
  #pull(): void {
    this.#pulls = true;
    this.#socket.on("readable", () => this.#wakeUp());
    this.#socket.on("end", this.#onEnd);
  }

  async read(): Promise<Uint8Array | undefined> {
    if (!this.#pulls && !this.#closed) this.#pull();
    for (;;) {
      if (this.#closed) return undefined;
      const chunk = this.#socket.read() as Buffer | null;
      if (chunk !== null) return new Uint8Array(chunk.buffer, chunk.byteOffset, chunk.length);
      if (this.#broke !== undefined && !this.#told) {
        this.#told = true;
        throw connectionBroke(this.remote, codeOf(this.#broke), this.#broke);
      }
      if (this.#ended || this.#broke !== undefined) return undefined;
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }

  write(bytes: Uint8Array): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.#closed || this.#socket.destroyed || !this.#socket.writable) {
        reject(this.#broke === undefined ? connectionClosed(this.remote) : connectionBroke(this.remote, codeOf(this.#broke), this.#broke));
        return;
      }
      this.#socket.write(bytes, (thrown) => {
        if (thrown === undefined || thrown === null) resolve();
        else reject(connectionBroke(this.remote, codeOf(thrown), thrown));
      });
    });
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#flow !== undefined) {
      this.#flow.close();
      return;
    }
    // Sends what was written, then ends. What the other side still sends is thrown away: a socket that is not read would never close.
    this.#socket.end();
    this.#socket.removeAllListeners("readable");
    this.#socket.resume();
    lingerThenDestroy(this.#socket);
    this.#wakeUp();
  }

  flow(receiver: FlowReceiver): Flow {
    this.#socket.off("error", this.#onError);
    this.#socket.off("close", this.#onEnd);
    this.#flow = new SystemFlow(this.#socket, this.remote, receiver);
    return this.#flow;
  }
}

function lingerThenDestroy(socket: Socket): void {
  const linger = systemClock.after(lingerMsMax, () => socket.destroy(), { background: true });
  socket.once("close", () => linger.cancel());
}

/** How flows of this process get their bytes: see the head. */
export let flowKind: "onread" | "data events" = "onread";

const nothing = new Uint8Array(0);

class SystemFlow implements Flow {
  readonly #socket: Socket;
  readonly #remote: string;
  readonly #receiver: FlowReceiver;
  #broke: MillraceError | undefined;
  #queued = false;
  #closed = false;

  constructor(given: Socket, remote: string, receiver: FlowReceiver) {
    this.#remote = remote;
    this.#receiver = receiver;
    const socket = this.#withOnRead(given);
    this.#socket = socket;
    socket.on("error", (thrown) => (this.#broke ??= connectionBroke(this.#remote, codeOf(thrown), thrown)));
    socket.once("close", () => this.#receiver.end(this.#closed ? undefined : this.#broke));
    // A client may say that it sends no more before it has its answers.
    socket.allowHalfOpen = true;
    socket.on("end", () => {
      if (this.#closed || this.#receiver.inputEnded?.() !== true) socket.end();
    });
    socket.setKeepAlive(true, keepAliveMs);
    socket.resume();
    // With `onread` nothing else starts the reading.
    socket.read(0);
  }

  /** The socket that reads into the shared buffer, with the handle of `given`; or `given` with a listener. */
  #withOnRead(given: Socket): Socket {
    const holder = given as unknown as { _handle: object | null };
    const handle = holder._handle;
    if (handle === null || handle === undefined || given.destroyed || given.readableLength > 0) {
      if (!given.destroyed) flowKind = "data events";
      given.on("data", (chunk: Buffer) => {
        if (!this.#closed) this.#receiver.data(chunk, chunk.length);
      });
      return given;
    }
    chunkBuffer ??= new Uint8Array(chunkBytes);
    const buffer = chunkBuffer;
    const onread: OnReadOpts = {
      buffer,
      callback: (bytes) => {
        if (!this.#closed) this.#receiver.data(buffer, bytes);
        return true;
      },
    };
    holder._handle = null;
    const socket = new Socket({ handle, onread } as unknown as ConstructorParameters<typeof Socket>[0]);
    // The first one stays until the end only because its server counts it.
    socket.once("close", () => given.destroy());
    return socket;
  }

  readonly #written = (): void => {
    if (!this.#queued || this.#socket.writableLength > 0 || this.#socket.destroyed) return;
    this.#queued = false;
    this.#receiver.drained();
  };

  send(bytes: Uint8Array, from: number, to: number): boolean {
    const socket = this.#socket;
    if (this.#closed || from === to || !socket.writable) return true;
    // Without a callback: what is taken at once needs no turn of the tick queue.
    socket.write(new Uint8Array(bytes.buffer as ArrayBuffer, bytes.byteOffset + from, to - from));
    if (socket.writableLength === 0) return true;
    // An empty write behind it tells when it was taken.
    socket.write(nothing, this.#written);
    this.#queued = true;
    return false;
  }

  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#socket.end();
    this.#socket.resume();
    lingerThenDestroy(this.#socket);
  }

  destroy(): void {
    this.#closed = true;
    this.#socket.destroy();
  }
}

export const systemNetwork: Network = {
  listen(address, accept) {
    const name = `${address.host}:${address.port}`;
    return new Promise<Listener>((resolve, reject) => {
      if (!isPort(address.port, 0)) {
        reject(listenRefused(name, "EINVAL"));
        return;
      }
      const server: Server = createServer({ pauseOnConnect: true }, (socket) =>
        accept(new SystemConnection(socket, `${socket.remoteAddress}:${socket.remotePort}`)),
      );
      server.once("error", (thrown) => reject(listenRefused(name, codeOf(thrown), thrown)));
      server.listen(address.port, address.host, () => {
        const bound = server.address();
        resolve({
          port: typeof bound === "object" && bound !== null ? bound.port : address.port,
          // The callback of `close` would wait for all connections; the port itself is free on the next turn.
          close: () => {
            server.close();
            return systemClock.yield();
          },
        });
      });
    });
  },

  connect(address, options) {
    const name = `${address.host}:${address.port}`;
    const timeoutMs = options?.timeoutMs ?? connectTimeoutMsDefault;
    return new Promise<Connection>((resolve, reject) => {
      if (!isPort(address.port, 1)) {
        reject(connectRefused(name, "EINVAL"));
        return;
      }
      const socket = connect({ host: address.host, port: address.port });
      const onError = (thrown: Error): void => {
        timer.cancel();
        reject(connectRefused(name, codeOf(thrown), thrown));
      };
      const timer = systemClock.after(timeoutMs, () => {
        socket.destroy();
        reject(connectTimedOut(name, timeoutMs));
      });
      socket.once("error", onError);
      socket.once("connect", () => {
        timer.cancel();
        socket.off("error", onError);
        // Reading begins with the first `read` or with a flow.
        socket.pause();
        resolve(new SystemConnection(socket, name));
      });
    });
  },
};
