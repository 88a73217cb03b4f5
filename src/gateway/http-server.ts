// The HTTP side of the gateway: one fastify server on loopback with the API, the page, OpenAPI, metrics and health.
// Why fastify: routing, limits and the OpenAPI document are not what millrace is about. Why its validators and serialisers are switched off: the gateway
// checks each row itself and names the field (checking twice costs more than parsing), and JSON.stringify writes an answer of 20 items in half the
// time of the generated serialiser (28 against 63 us, bench/http-cost.ts); schemas serve the document only.
// Invariants: 1. every answer of an error has the one shape of http-errors.ts, also for what Node's parser refuses  2. a request takes a slot when its head is
// there and gives it back when its answer is closed, whatever happened to the connection  3. nothing is logged for a request that went well
// 4. without configured access only loopback names may call; with it, each request needs a token whose scopes cover the route.
// Concurrency: one event loop. Limits: `HttpLimits`; above `requestsMax` or `bodyBytesRunningMax` the answer is `overloaded`.

import swagger from "@fastify/swagger";
import { type FastifyReply, type FastifyRequest, fastify } from "fastify";
import { MillraceError } from "#base/errors";
import type { Clock, Timer } from "#platform/clock";
import type { Files } from "#platform/files";
import { LoopTurns } from "#platform/loop-turns";
import type { Authenticator } from "#wire/access";
import { apiLimits, type StatusAnswer } from "#wire/api";
import type { Gateway, Readiness, Waited } from "./gateway.ts";
import { bind, connectionOptions, type HttpFront } from "./http-front.ts";
import { readJson, readJsonLines } from "./http-body.ts";
import { type ErrorReply, errorReply, type HttpLogger, HttpRefusal, wrongContentType } from "./http-errors.ts";
import { anonymous, callerOf, missingRight } from "./http-access.ts";
import type { GaugeSource } from "./store-metrics.ts";
import { hostAddress, isLoopbackHeader } from "./http-host.ts";
import { openApiOf, openApiOptions, sharedSchemas } from "./http-openapi.ts";
import { pageRoutes } from "./http-page.ts";
import { gatewayRoutes, type Route, StatusedAnswer, TextAnswer } from "./http-routes.ts";
import { StreamAnswer, Streams } from "./http-stream.ts";
import { LiveSeconds } from "./live-seconds.ts";
import { createExposition, type LoopStall } from "./metrics-exposition.ts";
import type { GatewayMetrics } from "./metrics.ts";

export interface HttpLimits {
  /** Largest body of a request. Default 1 MiB; sensible 64 KiB to 16 MiB; it is parsed in one go, which holds the loop for about 10 ms a MiB. */
  readonly bodyBytesMax: number;
  /** Most requests at a time; the next one is refused with `overloaded`. Default 256, sensible 16 to 4,096. */
  readonly requestsMax: number;
  /** Most bytes of bodies in memory at a time, by their declared length. Default 64 MiB. */
  readonly bodyBytesRunningMax: number;
  /** Most open connections; further ones are closed at once. Default 1,024. */
  readonly connectionsMax: number;
  /** Largest head of a request. Default 16 KiB; beyond it 431. */
  readonly headerBytesMax: number;
  /** Time to receive a request completely, against slow clients. Default 20,000 ms. */
  readonly receiveMsMax: number;
  /** Time to answer once the request is there; then `timeout`. Default 15,000 ms (a recommendation's own deadline is at most 10,000). */
  readonly answerMsMax: number;
  /** An idle connection is closed after this. Default 30,000 ms. */
  readonly idleMsMax: number;
}

export const httpLimitsDefault: HttpLimits = {
  bodyBytesMax: apiLimits.bodyBytesMax,
  requestsMax: 256,
  bodyBytesRunningMax: 64 * 1024 * 1024,
  connectionsMax: 1_024,
  headerBytesMax: 16 * 1024,
  receiveMsMax: 20_000,
  answerMsMax: 15_000,
  idleMsMax: 30_000,
};

export interface HttpServerOptions {
  readonly gateway: Gateway;
  readonly metrics: GatewayMetrics;
  readonly clock: Clock;
  /** Reads the page's files. */
  readonly files: Files;
  /** Default `127.0.0.1`. Without configured access loopback only: `127.0.0.1`, `::1` or `localhost`. */
  readonly host?: string;
  /** Who may call; absent or not configured: everybody on this machine. */
  readonly access?: Authenticator;
  /** Default 8080; 0 takes a free one. */
  readonly port?: number;
  /** The port, bound already while the store was opened; `host` and `port` are its own then. */
  readonly front?: HttpFront;
  /** How the user sets the port, for the message when it is taken. Default `--port`. */
  readonly portOption?: string;
  readonly logger?: HttpLogger;
  /** Labels of `rec_build_info`; `version` also stands in the OpenAPI document. */
  readonly build?: Readonly<{ version: string } & Record<string, string>>;
  /** A started meter of the serving loop. */
  readonly loopStall?: LoopStall;
  /** Beside those of the gateway: tables, imports. */
  readonly routes?: readonly Route[];
  /** Further gauges of /metrics. */
  readonly gauges?: readonly GaugeSource[];
  /** Why the feature store can write no more, once its log failed: then the server is not ready, though reads go on. */
  readonly writesFailed?: () => MillraceError | undefined;
  /** What else the server waits for before it is ready. */
  readonly waitedFor?: () => readonly Waited[];
  readonly limits?: Partial<HttpLimits>;
}

export interface HttpServer {
  /** Binds and serves. Throws `conflict` when the port is taken. */
  listen(): Promise<void>;
  /** For example `http://127.0.0.1:8080`; only after `listen`. */
  readonly address: string;
  readonly port: number;
  /**
   * Readiness false, no new connections, new requests refused with `unavailable`; resolves when the running ones are answered and all connections
   * closed, at the latest after `timeoutMs`: then what still runs is cut off and counted in the answer.
   */
  drain(timeoutMs: number): Promise<{ cutOff: number }>;
}

interface Running {
  readonly sinceMs: number;
  readonly reply: FastifyReply;
}

/** How often unanswered requests are looked through. */
const sweepMs = 500;

/** Makes the server; nothing is bound before `listen`. Throws `unsupported` for a host that others could reach. */
export function createHttpServer(options: HttpServerOptions): HttpServer {
  const { gateway, metrics, clock, logger, front } = options;
  const limits: HttpLimits = { ...httpLimitsDefault, ...options.limits };
  const access = options.access?.configured === true ? options.access : undefined;
  const host = hostAddress(options.host ?? "127.0.0.1", access !== undefined);
  const build = options.build ?? { version: gateway.status().version };
  const running = new Set<Running>();
  const turns = new LoopTurns(clock);
  let bodyBytesRunning = 0;
  let requests = 0;
  let refused = 0;
  let draining = false;
  let bound: { readonly port: number } | undefined;
  let sweep: Timer | undefined;
  const streams = new Streams(clock);
  const live = new LiveSeconds({ clock, latencies: metrics.second, status, training: () => gateway.training() });

  const shared = connectionOptions(limits);
  const app = fastify({
    ...shared,
    ...(front === undefined ? {} : { serverFactory: front.create }),
    // An id of 256 characters takes at most 9 characters each when percent-encoded.
    routerOptions: { maxParamLength: apiLimits.idCharactersMax * 9 },
    frameworkErrors: (error, request, reply) => send(reply, errorReply(error, request.id, logger)),
    clientErrorHandler(error, socket) {
      refused += 1;
      shared.clientErrorHandler(error, socket);
    },
  });
  app.server.maxConnections = limits.connectionsMax;
  app.server.on("checkExpectation", (_request, response) => {
    const { body } = errorReply(
      new HttpRefusal("unsupported", "the header `expect` asks for what this server does not do", { todo: "leave it out" }),
      "",
      logger,
    );
    const text = JSON.stringify(body);
    response.writeHead(417, { "content-type": "application/json; charset=utf-8", "content-length": text.length, connection: "close" }).end(text);
  });
  app.setValidatorCompiler(() => () => true);
  app.setSerializerCompiler(() => (value) => JSON.stringify(value));
  app.setErrorHandler((error, request, reply) => send(reply, errorReply(error, request.id, logger)));
  app.removeAllContentTypeParsers();
  app.addContentTypeParser("application/json", { parseAs: "buffer" }, (request, bytes, done) => {
    // A DELETE has no body; some clients name a type all the same.
    read(() => (isRaw(request) ? bytes : request.method === "DELETE" ? undefined : readJson(bytes as Buffer)), done);
  });
  app.addContentTypeParser("*", { parseAs: "buffer" }, (request, bytes, done) => {
    read(() => {
      if (!isRaw(request)) throw wrongContentType();
      return bytes;
    }, done);
  });
  app.addContentTypeParser("application/x-ndjson", { parseAs: "buffer" }, (request, bytes, done) => {
    read(() => {
      if (request.raw.url !== "/v1/events") throw wrongContentType();
      return readJsonLines(bytes as Buffer);
    }, done);
  });

  function send(reply: FastifyReply, { status, headers, body }: ErrorReply): void {
    refused += 1;
    void reply.code(status).headers(headers).type("application/json; charset=utf-8").send(JSON.stringify(body));
  }

  function readiness(): Readiness {
    if (draining) return { ready: false, waiting: ["the server is stopping"] };
    const gatewayOwn = gateway.readiness();
    const more = options.waitedFor?.() ?? [];
    const own = more.length === 0 ? gatewayOwn : withMore(gatewayOwn, more);
    const failed = options.writesFailed?.();
    if (failed === undefined) return own;
    return { ready: false, waiting: [...own.waiting, `writes are refused, ${failed.what}`], todo: failed.todo ?? own.todo ?? "start the server again" };
  }

  function status(): StatusAnswer {
    const { pipelines, memoryBytes, ...numbers } = gateway.status();
    const work = metrics.pipelineSummaries().map((one) => ({ ...one, fallbacks: { ...one.fallbacks }, steps: [...one.steps] }));
    const { ready, waiting } = readiness();
    const http = { running: running.size, requests, refused };
    const stall = options.loopStall === undefined ? {} : { loopStallMaxMs: options.loopStall.maxMs, loopStallSecondsMs: options.loopStall.lastSecondsMs(60) };
    return { ...numbers, ...stall, ready, waiting: [...waiting], pipelines: [...pipelines], memoryBytes: { ...memoryBytes }, work, http };
  }

  /** What is checked of every request before its body is read. Throws. */
  function admit(request: FastifyRequest, route: Route | undefined, bodyBytes: number): void {
    const { headers } = request.raw;
    // A web page that makes its name resolve to this machine has no token: the check is for those who need none.
    if (access === undefined && (headers.host === undefined || !isLoopbackHeader(headers.host))) {
      throw new HttpRefusal("invalid", "the Host header names no loopback address; this server answers only to this machine", {
        todo: "call it as 127.0.0.1, localhost or [::1]",
      });
    }
    // A target with a host of its own (`GET http://...`) is for proxies; the Host header would not be the one that counts.
    if (route === undefined || !request.raw.url!.startsWith("/")) throw noRoute(request);
    const refusal = access === undefined ? undefined : missingRight(access, headers.authorization, route);
    if (refusal !== undefined) throw refusal;
    if (draining && route.always !== true) throw new HttpRefusal("unavailable", "the server is stopping", { todo: "send the request again to the next one" });
    if (route.always !== true && running.size > limits.requestsMax) {
      throw new HttpRefusal("overloaded", `${limits.requestsMax} requests are being answered, the most at a time`, {
        todo: "send again after a pause, with fewer at a time",
      });
    }
    if (bodyBytes > 0 && bodyBytesRunning > limits.bodyBytesRunningMax) {
      throw new HttpRefusal("overloaded", `the bodies of running requests hold ${limits.bodyBytesRunningMax} bytes, the most`, {
        todo: "send again after a pause, or smaller bodies",
      });
    }
    const encoding = headers["content-encoding"];
    if (encoding !== undefined && encoding !== "identity") {
      throw new HttpRefusal("unsupported", "the body is compressed", { status: 415, todo: "send it without content-encoding" });
    }
    if (route.body !== undefined && route.raw !== true && headers["content-type"] === undefined) throw wrongContentType();
    for (const name in request.query as object) {
      if (route.query === undefined || !Object.hasOwn(route.query, name)) {
        const known = Object.keys(route.query ?? {});
        throw new HttpRefusal("invalid", "the route does not know one of the query parameters", {
          todo: known.length === 0 ? "send none" : `send only ${known.join(", ")}`,
        });
      }
      if (typeof (request.query as Record<string, unknown>)[name] !== "string") {
        throw new HttpRefusal("invalid", `the query parameter ${name} is given more than once`, { todo: "give it once" });
      }
    }
  }

  /** Takes the slot and gives it back, whatever happens between. */
  function onRequestOf(route: Route | undefined): (request: FastifyRequest, reply: FastifyReply, done: (error?: Error) => void) => void {
    const label = route === undefined ? "other" : route.url;
    const seconds = metrics.httpSeconds.with(label);
    return (request, reply, done) => {
      requests += 1;
      const one: Running = { sinceMs: clock.monotonicMs(), reply };
      const { headers } = request.raw;
      const bodyBytes =
        headers["content-length"] === undefined
          ? headers["transfer-encoding"] === undefined
            ? 0
            : limits.bodyBytesMax
          : Math.min(Number(headers["content-length"]) || 0, limits.bodyBytesMax);
      running.add(one);
      bodyBytesRunning += bodyBytes;
      reply.raw.once("close", () => {
        running.delete(one);
        bodyBytesRunning -= bodyBytes;
        seconds.record((clock.monotonicMs() - one.sinceMs) * 1_000);
        const code = reply.raw.writableFinished ? String(reply.raw.statusCode) : "aborted";
        metrics.httpRequests.with(label, route === undefined ? "other" : request.raw.method!, code).add();
      });
      reply.header("x-content-type-options", "nosniff");
      reply.header("cache-control", "no-store");
      if (draining) reply.header("connection", "close");
      try {
        admit(request, route, bodyBytes);
        done();
      } catch (thrown) {
        // The rest of a refused body is not waited for.
        if (bodyBytes > 0) reply.header("connection", "close");
        done(thrown as Error);
      }
    };
  }

  const known: { readonly pattern: RegExp; readonly route: Route }[] = [];

  function noRoute(request: FastifyRequest): HttpRefusal {
    const path = request.raw.url!.split("?", 1)[0]!;
    const methods = known.filter(({ pattern }) => pattern.test(path)).map(({ route }) => route.method);
    if (methods.length === 0) {
      return new HttpRefusal("not-found", "there is no such route", { todo: "see /openapi.json for all routes; ids in a path are percent-encoded" });
    }
    const allow = [...new Set(methods.flatMap((method) => (method === "GET" ? ["GET", "HEAD"] : [method])))].join(", ");
    return new HttpRefusal("unsupported", `this route does not know the method ${request.raw.method}`, {
      status: 405,
      todo: `use ${allow}`,
      headers: { allow },
    });
  }

  function add(route: Route): void {
    known.push({ pattern: new RegExp(`^${route.url.replace(/:[a-z]+/g, "[^/]+")}$`), route });
    const { handle } = route;
    app.route({
      method: route.method,
      url: route.url,
      schema: openApiOf(route),
      config: { raw: route.raw === true } as object,
      onRequest: onRequestOf(route),
      handler(request, reply) {
        const body = route.raw === true ? (request.body ?? new Uint8Array(0)) : request.body;
        const call = {
          params: request.params as Record<string, string>,
          query: request.query as Record<string, string>,
          body,
          // Looked up when a route asks: a token costs a digest.
          get caller() {
            return access === undefined ? anonymous : callerOf(access, request.headers.authorization);
          },
        };
        // A poll of the loop may bring many requests at once: each beyond the first few has a turn of its own.
        turns.run(() => {
          // Told meanwhile that it took too long.
          if (reply.sent) return;
          try {
            const result = handle(call);
            if (result instanceof Promise)
              result.then(
                (value) => answer(reply, value),
                (thrown: unknown) => fail(request, reply, thrown),
              );
            else answer(reply, result);
          } catch (thrown) {
            fail(request, reply, thrown);
          }
        });
      },
    });
  }

  function answer(reply: FastifyReply, value: unknown): void {
    // The answer may have been given: too late, or the caller is gone.
    if (reply.sent) return;
    if (value instanceof StreamAnswer) {
      streams.serve(reply.raw, value, { "x-content-type-options": "nosniff" });
      reply.hijack();
      // An open stream is no request that is being answered.
      for (const one of running) if (one.reply === reply) running.delete(one);
    } else if (value instanceof TextAnswer) {
      const { etag } = value.headers;
      if (etag !== undefined && reply.request.headers["if-none-match"] === etag) void reply.headers(value.headers).code(304).send();
      else void reply.code(value.status).headers(value.headers).type(value.contentType).send(value.text);
    } else if (value instanceof StatusedAnswer) void reply.code(value.status).type("application/json; charset=utf-8").send(JSON.stringify(value.body));
    else void reply.type("application/json; charset=utf-8").send(JSON.stringify(value));
  }

  function fail(request: FastifyRequest, reply: FastifyReply, thrown: unknown): void {
    const error = errorReply(thrown, request.id, logger);
    if (!reply.sent) send(reply, error);
  }

  function sweepUnanswered(): void {
    const before = clock.monotonicMs() - limits.answerMsMax;
    for (const { sinceMs, reply } of running) {
      // Requests stand in the order of their arrival.
      if (sinceMs > before) break;
      if (reply.sent) continue;
      const what = `no answer within ${limits.answerMsMax} ms`;
      send(
        reply,
        errorReply(new HttpRefusal("timeout", what, { todo: "send again after a pause; events with ids are counted once" }), reply.request.id, logger),
      );
    }
    sweep = clock.after(sweepMs, sweepUnanswered, { background: true });
  }

  async function prepare(): Promise<void> {
    await app.register(swagger, openApiOptions(build.version));
    for (const schema of sharedSchemas) app.addSchema(schema);
    for (const route of gatewayRoutes(gateway, status, readiness, live)) add(route);
    for (const route of options.routes ?? []) add(route);
    const exposition = createExposition({
      metrics,
      status: () => gateway.status(),
      training: () => gateway.training(),
      ranking: gateway.ranking(),
      clock,
      build,
      running: () => running.size,
      loopStall: options.loopStall,
      ...(options.gauges === undefined ? {} : { gauges: options.gauges }),
    });
    add({
      method: "GET",
      url: "/metrics",
      tag: "server",
      summary: "Metrics in the text format of Prometheus",
      always: true,
      handle: async () => new TextAnswer(await exposition.text(), exposition.contentType),
    });
    let document: TextAnswer | undefined;
    add({
      method: "GET",
      url: "/openapi.json",
      tag: "server",
      summary: "This API as an OpenAPI document",
      always: true,
      handle: () => (document ??= new TextAnswer(JSON.stringify(app.swagger()), "application/json; charset=utf-8")),
    });
    for (const route of await pageRoutes(options.files, options.files.join(import.meta.dirname, "..", "..", "console", "build"))) add(route);
    app.setNotFoundHandler((request, reply) => send(reply, errorReply(noRoute(request), request.id, logger)));
    const unknown = onRequestOf(undefined);
    app.addHook("onRequest", (request, reply, done) => {
      if (request.is404) unknown(request, reply, done);
      else done();
    });
  }

  return {
    async listen() {
      await prepare();
      if (front === undefined) bound = await bind(app, host, options.port ?? 8080, options.portOption ?? "--port");
      else {
        await app.ready();
        front.handOver();
        bound = front;
      }
      sweepUnanswered();
      live.start();
    },
    get address() {
      return `http://${host === "::1" ? "[::1]" : host}:${this.port}`;
    },
    get port() {
      if (bound === undefined) throw new MillraceError("unavailable", "the server does not listen yet", { todo: "wait for listen()" });
      return bound.port;
    },
    async drain(timeoutMs) {
      draining = true;
      live.stop();
      streams.end();
      const deadline = clock.monotonicMs() + timeoutMs;
      let closed = false;
      const closing = Promise.all([app.close(), front?.close()]).then(() => {
        closed = true;
      });
      while (!closed && clock.monotonicMs() < deadline) {
        app.server.closeIdleConnections();
        await clock.sleep(Math.max(1, Math.min(20, deadline - clock.monotonicMs())));
      }
      const cutOff = running.size;
      app.server.closeAllConnections();
      await closing;
      sweep?.cancel();
      return { cutOff };
    },
  };
}

/** What the gateway says of itself with the rest. The code and the advice are those of what waiting alone does not end; the gateway's own come first. */
export function withMore(own: Readiness, more: readonly Waited[]): Readiness {
  const needs = more.find((one) => typeof one !== "string")?.needs;
  return { ...needs, ...own, ready: false, waiting: [...own.waiting, ...more.map((one) => (typeof one === "string" ? one : one.what))] };
}

function isRaw(request: FastifyRequest): boolean {
  return (request.routeOptions.config as { raw?: boolean }).raw === true;
}

function read(parse: () => unknown, done: (error: Error | null, body?: unknown) => void): void {
  let body: unknown;
  try {
    body = parse();
  } catch (thrown) {
    done(thrown as Error);
    return;
  }
  done(null, body);
}
