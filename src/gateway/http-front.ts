// The HTTP port while the server opens: bound before the store is read, it says how far the opening is, and then hands its socket to the real server.
// Why: a store of many million keys takes seconds to open. Who starts a server wants to see that it lives, and a load balancer that it is not ready.
// How: a server of its own with every path as one route; `create` makes the real one on the same socket, `handOver` directs requests to it. No connection is lost.
// Invariants: 1. before the hand-over nothing but health is answered with data  2. only loopback names may call while no access is configured, as later.
// Concurrency: one event loop. Limits: those of the real server.

import { type FastifyInstance, type FastifyReply, type FastifyServerFactory, fastify } from "fastify";
import { MillraceError } from "#base/errors";
import { type ErrorReply, errorReply, errorReplyOfSocket, HttpRefusal } from "./http-errors.ts";
import { hostAddress, isLoopbackHeader } from "./http-host.ts";
import type { HttpLimits } from "./http-server.ts";

export interface HttpFrontOptions {
  readonly host: string;
  /** 0 takes a free one. */
  readonly port: number;
  readonly portOption: string;
  /** Whether access is configured: then it may listen beyond loopback. */
  readonly hasAccess: boolean;
  readonly limits: HttpLimits;
  /** What the opening is at, in words. */
  readonly progress: () => string;
}

type Handler = Parameters<FastifyServerFactory>[0];

export class HttpFront {
  readonly port: number;
  readonly #app: FastifyInstance;
  #next: Handler | undefined;

  private constructor(app: FastifyInstance, port: number) {
    this.#app = app;
    this.port = port;
  }

  /** Binds and answers. Throws `conflict` when the port is taken, `unsupported` for a host that others could reach. */
  static async listen(options: HttpFrontOptions): Promise<HttpFront> {
    const { port, portOption, hasAccess, limits, progress } = options;
    const host = hostAddress(options.host, hasAccess);
    const app = fastify(connectionOptions(limits));
    app.server.maxConnections = limits.connectionsMax;
    app.removeAllContentTypeParsers();
    // Bodies are not read: their connection is closed behind the answer.
    app.addContentTypeParser("*", (_request, _payload, done) => done(null));
    app.addHook("onRequest", (request, reply, done) => {
      reply.header("x-content-type-options", "nosniff").header("cache-control", "no-store").header("connection", "close");
      const name = request.raw.headers.host;
      const path = request.raw.url!.split("?", 1)[0]!;
      if (!hasAccess && (name === undefined || !isLoopbackHeader(name))) {
        send(
          reply,
          errorReply(
            new HttpRefusal("invalid", "the Host header names no loopback address; this server answers only to this machine", {
              todo: "call it as 127.0.0.1, localhost or [::1]",
            }),
            "",
            undefined,
          ),
        );
      } else if (path === "/health/live") void reply.type("application/json; charset=utf-8").send(JSON.stringify({ live: true }));
      else {
        const waiting = progress();
        const { status, headers, body } = errorReply(
          new HttpRefusal("unavailable", `not ready: ${waiting}`, { todo: "ask /health/ready and send again" }),
          "",
          undefined,
        );
        send(reply, { status, headers, body: path === "/health/ready" ? { ready: false, waiting: [waiting], ...body } : body });
      }
      done();
    });
    app.setNotFoundHandler((_request, reply) => reply.send());
    return new HttpFront(app, (await bind(app, host, port, portOption)).port);
  }

  /** For `fastify()`: a real server on this socket, which gets requests from `handOver` on. */
  readonly create = (next: Handler): FastifyInstance["server"] => {
    const { server } = this.#app;
    server.removeAllListeners("clientError");
    this.#next = next;
    return server;
  };

  handOver(): void {
    const { server } = this.#app;
    server.removeAllListeners("request");
    server.on("request", this.#next!);
  }

  /** No new connections; resolves when all are closed. */
  async close(): Promise<void> {
    await this.#app.close();
  }
}

/** What every server of the port has of sockets and heads. */
export function connectionOptions(limits: HttpLimits) {
  return {
    logger: false,
    bodyLimit: limits.bodyBytesMax,
    requestTimeout: limits.receiveMsMax,
    keepAliveTimeout: limits.idleMsMax,
    connectionTimeout: limits.receiveMsMax + limits.answerMsMax,
    return503OnClosing: false,
    clientErrorHandler(error: unknown, socket: { readonly writable: boolean; end(text: string): void; destroy(): void }): void {
      if (socket.writable) socket.end(rawAnswer(errorReplyOfSocket(error)));
      else socket.destroy();
    },
    http: {
      maxHeaderSize: limits.headerBytesMax,
      headersTimeout: Math.min(10_000, limits.receiveMsMax),
      connectionsCheckingInterval: 1_000,
      // Ours answers in the one shape of errors.
      requireHostHeader: false,
    },
  } as const;
}

/** Binds a server. Throws `conflict` when the port is taken, `invalid` when it cannot be; then the server is closed. */
export async function bind(app: Pick<FastifyInstance, "listen" | "close" | "server">, host: string, port: number, option: string): Promise<{ port: number }> {
  try {
    await app.listen({ host, port });
  } catch (thrown) {
    await app.close();
    throw notBound(thrown, host, port, option);
  }
  return app.server.address() as { port: number };
}

function send(reply: FastifyReply, { status, headers, body }: Omit<ErrorReply, "body"> & { readonly body: object }): void {
  void reply.code(status).headers(headers).type("application/json; charset=utf-8").send(JSON.stringify(body));
}

function notBound(thrown: unknown, host: string, port: number, option: string): MillraceError {
  const { code } = thrown as { code?: string };
  if (code === "EADDRINUSE") {
    return new MillraceError("conflict", `port ${port} on ${host} is taken by another process`, {
      cause: thrown,
      todo: `stop that one, or choose another port with ${option}`,
    });
  }
  if (code === "EACCES" || code === "EADDRNOTAVAIL" || code === "ERR_SOCKET_BAD_PORT") {
    return new MillraceError("invalid", `cannot listen on ${host}, port ${port} (${code})`, {
      cause: thrown,
      todo: `choose a port from 1024 to 65535 with ${option}`,
    });
  }
  return new MillraceError("unavailable", `cannot listen on ${host}, port ${port}`, { cause: thrown, todo: "see the cause in the log" });
}

/** An answer written straight to a socket that never had a request. */
function rawAnswer({ status, body }: ErrorReply): string {
  const text = JSON.stringify(body);
  const length = new TextEncoder().encode(text).length;
  return `HTTP/1.1 ${status} Refused\r\ncontent-type: application/json; charset=utf-8\r\ncontent-length: ${length}\r\nconnection: close\r\n\r\n${text}`;
}
