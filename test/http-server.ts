// A real server for tests of the HTTP API and of the client: the real gateway over the embedded log in a temporary folder, on a free port.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { createHttpServer, type HttpServer, type HttpServerOptions } from "#gateway/http-server";
import { defaultConfig, type GatewayConfig, GatewayMetrics, type Learning, type OpenGateway, openGateway } from "#gateway/index";
import { LoopStallMeter } from "#platform/loop-stall";
import { systemClock } from "#platform/system-clock";
import { systemFiles } from "#platform/system-files";
import { openDataFolder } from "#roles/data-folder";
import { startModelThreads } from "#roles/model-threads";

export interface TestServer {
  readonly http: HttpServer;
  readonly gateway: OpenGateway;
  readonly metrics: GatewayMetrics;
  /** With `model: true`. */
  readonly model: Learning | undefined;
  /** What was logged as an error. */
  readonly logged: string[];
  /** One request; a body that is no string is sent as JSON. */
  send(method: string, path: string, body?: unknown, headers?: Record<string, string>): Promise<Answered>;
}

export interface Answered {
  readonly status: number;
  readonly headers: Headers;
  readonly text: string;
  /** The parsed text, `undefined` where it is no JSON. */
  readonly json: unknown;
}

/** Starts a server and stops it after the test; `model: true` starts the threads of the configuration's model too. `wrap` may put something between HTTP and the gateway: a delay, a failure. */
export async function startTestServer(
  context: TestContext,
  { model, config = defaultConfig, ...options }: Partial<HttpServerOptions> & { readonly model?: boolean; readonly config?: GatewayConfig } = {},
  wrap: (gateway: OpenGateway) => OpenGateway = (gateway) => gateway,
): Promise<TestServer> {
  const folder = mkdtempSync(join(tmpdir(), "millrace-http-"));
  const data = await openDataFolder(folder, "none");
  const metrics = new GatewayMetrics();
  const logged: string[] = [];
  const threads = model === true ? startModelThreads({ config: config.model!, dataFolder: folder, warn: (message) => logged.push(message) }) : undefined;
  const gateway = openGateway({
    log: data.log,
    clock: systemClock,
    config,
    version: "0.0.0-test",
    incarnation: "t1",
    metrics,
    ...(threads === undefined ? {} : { learning: threads.learning }),
  });
  const loopStall = new LoopStallMeter();
  loopStall.start();
  const http = createHttpServer({
    gateway: wrap(gateway),
    metrics,
    clock: systemClock,
    files: systemFiles,
    port: 0,
    logger: { error: (_detail, message) => logged.push(message), warn: () => undefined },
    loopStall,
    ...options,
  });
  await http.listen();
  await gateway.opened;
  context.after(async () => {
    loopStall.stop();
    await http.drain(500);
    await gateway.close();
    await threads?.stop();
    await data.close();
    rmSync(folder, { recursive: true });
  });
  return {
    http,
    gateway,
    metrics,
    model: threads?.learning,
    logged,
    async send(method, path, body, headers = {}) {
      const init: RequestInit = { method, headers };
      if (body !== undefined) {
        init.body = typeof body === "string" || body instanceof Uint8Array ? (body as string) : JSON.stringify(body);
        init.headers = { "content-type": "application/json", ...headers };
      }
      const response = await fetch(http.address + path, init);
      const text = await response.text();
      let json: unknown;
      try {
        json = JSON.parse(text);
      } catch {
        json = undefined;
      }
      return { status: response.status, headers: response.headers, text, json };
    },
  };
}
