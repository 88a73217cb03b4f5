// A real redis-server as a peer: its own process on a free loopback port, stopped with this process.
// Why a folder of its own: `appendfsync everysec` writes a file, as the product's log at durability `interval` does.

import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { freePort } from "../../test/free-port.ts";
import { temporaryFolder } from "./server-process.ts";

export interface RedisProcess {
  readonly port: number;
  readonly pid: number;
  readonly version: string;
  stop(): Promise<void>;
}

const running = new Set<ChildProcess>();
process.on("exit", () => {
  for (const child of running) child.kill("SIGKILL");
});

/** What `command --version` prints, or undefined when it is not installed. */
export function versionOf(command: string): string | undefined {
  try {
    return execFileSync(command, ["--version"], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim();
  } catch {
    return undefined;
  }
}

/** Undefined when redis-server is not installed. `appendOnly`: an append-only file, synced every second; else nothing is written. */
export async function startRedis(options: { appendOnly: boolean }): Promise<RedisProcess | undefined> {
  const version = versionOf("redis-server");
  if (version === undefined) return undefined;
  const folder = temporaryFolder();
  const port = await freePort();
  const args = ["--port", String(port), "--bind", "127.0.0.1", "--dir", folder.path, "--save", "", "--daemonize", "no"];
  args.push(...(options.appendOnly ? ["--appendonly", "yes", "--appendfsync", "everysec"] : ["--appendonly", "no"]));
  const child = spawn("redis-server", args, { stdio: "ignore" });
  running.add(child);
  const exited = new Promise<void>((resolve) => {
    child.on("close", () => {
      running.delete(child);
      resolve();
    });
  });
  for (let tries = 0; !(await answers(port)); tries += 1) {
    if (tries > 100) throw new Error("redis-server did not answer within 10 s");
    await sleep(100);
  }
  return {
    port,
    pid: child.pid!,
    version: /v=(\S+)/.exec(version)?.[1] ?? version,
    async stop() {
      child.kill("SIGTERM");
      await exited;
      folder.remove();
    },
  };
}

async function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1", () => socket.write("PING\r\n"));
    socket.once("data", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", () => resolve(false));
  });
}
