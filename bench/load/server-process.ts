// The real server as its own process, started as a user starts it (`millrace start`), for benches and crash tests.
// Invariants: 1. `startServerProcess` resolves when /health/ready says so, or throws with what the process printed  2. `kill` is kill -9 and resolves when
// the process is gone  3. a server that nobody stopped dies with this process.

import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { StatusAnswer } from "#wire/api";
import { Lane } from "./lane.ts";

const command = join(import.meta.dirname, "..", "..", "bin", "millrace.js");
const readyMsMax = 60_000;

export interface ServerProcess {
  readonly address: string;
  /** Of the Redis protocol. */
  readonly respPort: number;
  readonly pid: number;
  /** From the start of the process to readiness, milliseconds. */
  readonly readyMs: number;
  status(): Promise<StatusAnswer>;
  /** SIGTERM; resolves with the exit code. */
  stop(): Promise<number | null>;
  /** kill -9. */
  kill(): Promise<void>;
  /** What it printed so far. */
  printed(): string;
}

const running = new Set<ChildProcess>();
const folders = new Set<string>();
process.on("exit", () => {
  for (const child of running) child.kill("SIGKILL");
  for (const path of folders) removeFolder(path);
});

export async function startServerProcess(options: {
  data: string;
  durability: "always" | "interval" | "none";
  more?: readonly string[];
}): Promise<ServerProcess> {
  const started = performance.now();
  const args = [
    command,
    "start",
    "--port",
    "0",
    "--resp-port",
    "0",
    "--data",
    options.data,
    "--durability",
    options.durability,
    "--no-demo",
    ...(options.more ?? []),
  ];
  const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "pipe"] });
  running.add(child);
  let printed = "";
  const exited = new Promise<number | null>((resolve) => {
    child.on("close", (code) => {
      running.delete(child);
      resolve(code);
    });
  });
  const listening = new Promise<string>((resolve, reject) => {
    const hear = (chunk: Buffer): void => {
      printed += chunk.toString();
      const address = /http:\/\/127\.0\.0\.1:\d+/.exec(printed);
      if (address !== null) resolve(address[0]);
    };
    child.stdout.on("data", hear);
    child.stderr.on("data", hear);
    child.on("error", reject);
    void exited.then((code) => reject(new Error(`the server ended with code ${code} before it listened:\n${printed}`)));
  });
  const address = await listening;
  const lane = new Lane(address);
  let respPort: string | undefined;
  for (let pauseMs = 5; ; pauseMs = Math.min(200, pauseMs * 1.5)) {
    const { status } = await lane.request("GET", "/health/ready").catch(() => ({ status: 0 }));
    // The port of the Redis protocol is printed a moment after the readiness.
    respPort = /redis\s+\S+:(\d+)/.exec(printed)?.[1];
    if (status === 200 && respPort !== undefined) break;
    if (child.exitCode !== null || performance.now() - started > readyMsMax) {
      child.kill("SIGKILL");
      throw new Error(`the server did not become ready within ${readyMsMax} ms:\n${printed}`);
    }
    // A long rebuild must not be slowed by questions.
    await sleep(pauseMs);
  }
  return {
    address,
    respPort: Number(respPort),
    pid: child.pid!,
    readyMs: performance.now() - started,
    status: () => lane.json("GET", "/v1/status"),
    async stop() {
      lane.close();
      child.kill("SIGTERM");
      return exited;
    },
    async kill() {
      child.kill("SIGKILL");
      lane.close();
      await exited;
    },
    printed: () => printed,
  };
}

/** A new empty folder; `remove` deletes it with all it holds, at the latest at the end of this process. */
export function temporaryFolder(): { path: string; remove(): void } {
  const path = mkdtempSync(join(tmpdir(), "millrace-"));
  folders.add(path);
  return {
    path,
    remove() {
      folders.delete(path);
      removeFolder(path);
    },
  };
}

function removeFolder(path: string): void {
  rmSync(path, { recursive: true, force: true, maxRetries: 3 });
}
