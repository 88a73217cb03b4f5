// The server as a newcomer starts it, `millrace start` on an empty folder: demo world, viewers, model. In a process of its own, on a free port.

import type { Browser } from "playwright-core";
import { launchBrowser } from "./browser.ts";
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const command = join(import.meta.dirname, "..", "..", "bin", "millrace.js");
const stopMsMax = 10_000;

export interface DemoServer {
  readonly address: string;
  printed(): string;
  /** In order; by force when that takes too long. */
  stop(): Promise<void>;
}

/** Resolves once it listens: the world is made while one looks on. Throws with what the process printed. */
export async function startDemoServer(more: readonly string[] = []): Promise<DemoServer> {
  const folder = mkdtempSync(join(tmpdir(), "millrace-console-"));
  const child = spawn(process.execPath, [command, "start", "--port", "0", "--resp-port", "0", "--data", folder, "--durability", "none", ...more], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  let printed = "";
  const ended = new Promise<void>((resolve) => child.once("close", () => resolve()));
  const killNow = (): void => void child.kill("SIGKILL");
  process.once("exit", killNow);
  const address = await new Promise<string>((resolve, reject) => {
    const hear = (chunk: Buffer): void => {
      printed += chunk.toString();
      const found = /listens on (http:\S+?),/.exec(printed);
      if (found !== null) resolve(found[1]!);
    };
    child.stdout.on("data", hear);
    child.stderr.on("data", hear);
    child.once("error", reject);
    void ended.then(() => reject(new Error(`the server ended before it listened:\n${printed}`)));
  });
  return {
    address,
    printed: () => printed,
    async stop() {
      child.kill("SIGTERM");
      const forced = setTimeout(killNow, stopMsMax);
      await ended;
      clearTimeout(forced);
      process.removeListener("exit", killNow);
      rmSync(folder, { recursive: true, force: true, maxRetries: 3 });
    },
  };
}

/** A server and a browser, started side by side. Both have ended when one failed, so that the other is stopped. */
export async function startServerAndBrowser(more: readonly string[]): Promise<{ server: DemoServer; browser: Browser; stop: () => Promise<void> }> {
  const starts = [startDemoServer(more), launchBrowser()] as const;
  const [server, browser] = await Promise.allSettled(starts);
  const stop = async (): Promise<void> => {
    await Promise.all([server.status === "fulfilled" && server.value.stop(), browser.status === "fulfilled" && browser.value.close()]);
  };
  if (server.status === "fulfilled" && browser.status === "fulfilled") return { server: server.value, browser: browser.value, stop };
  await stop();
  throw (server.status === "rejected" ? server.reason : (browser as PromiseRejectedResult).reason) as Error;
}
