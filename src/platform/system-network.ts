// The machine's TCP sockets. See network.ts for the contract.
// Cost: a small write about 15 us of CPU time. Nagle's algorithm is off: a protocol that wants few packets joins its bytes itself.

import { connect, createServer, type Server, type Socket } from "node:net";
import { connectTimeoutMsDefault, type Connection, type Listener, type Network } from "./network.ts";
import { connectionBroke, connectionClosed, connectRefused, connectTimedOut, isPort, listenRefused } from "./network-errors.ts";
import { systemClock } from "./system-clock.ts";

/** After `close`: time for the other side to take what was written and to end too. */
const lingerMsMax = 5_000;

function codeOf(thrown: unknown): string {
  return (thrown as NodeJS.ErrnoException).code ?? "unknown";
}

class SystemConnection implements Connection {
  readonly remote: string;
  readonly #socket: Socket;
  #broke: Error | undefined;
  #told = false;
  #ended = false;
  #closed = false;
  #wake: (() => void) | undefined;

  constructor(socket: Socket, remote: string) {
    this.#socket = socket;
    this.remote = remote;
    socket.setNoDelay(true);
    const wake = (): void => {
      this.#wake?.();
      this.#wake = undefined;
    };
    socket.on("readable", wake);
    socket.on("end", () => {
      this.#ended = true;
      wake();
    });
    socket.on("error", (thrown) => {
      this.#broke ??= thrown;
      wake();
    });
    socket.on("close", () => {
      this.#ended = true;
      wake();
    });
  }

  async read(): Promise<Uint8Array | undefined> {
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
    // Sends what was written, then ends. What the other side still sends is thrown away: a socket that is not read would never close.
    this.#socket.end();
    this.#socket.removeAllListeners("readable");
    this.#socket.resume();
    const linger = systemClock.after(lingerMsMax, () => this.#socket.destroy(), { background: true });
    this.#socket.once("close", () => linger.cancel());
    this.#wake?.();
    this.#wake = undefined;
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
      const server: Server = createServer((socket) => accept(new SystemConnection(socket, `${socket.remoteAddress}:${socket.remotePort}`)));
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
        resolve(new SystemConnection(socket, name));
      });
    });
  },
};
