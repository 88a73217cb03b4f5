// A nats-server with JetStream for contract tests, on loopback, in a temporary folder.

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { delimiter, join } from "node:path";
import { tmpdir } from "node:os";
import { freePort } from "../free-port.ts";

export interface NatsServer {
  readonly port: number;
  stop(): Promise<void>;
}

/** Where the program is, or `undefined`: then the tests are skipped. Debian and Ubuntu have it as package `nats-server`. */
export function findNatsServer(): string | undefined {
  const folders = [...(process.env["PATH"] ?? "").split(delimiter), "/usr/sbin", "/usr/local/bin"];
  return folders.map((folder) => join(folder, "nats-server")).find((path) => existsSync(path));
}

/** Starts a server. A message may be 16 MiB: an append of the largest size is one message. */
export async function startNatsServer(program: string): Promise<NatsServer> {
  const folder = await mkdtemp(join(tmpdir(), "millrace-nats-"));
  const port = await freePort();
  const config = join(folder, "nats.conf");
  await writeFile(config, `host: 127.0.0.1\nport: ${port}\nmax_payload: 16777216\njetstream { store_dir: "${folder}" }\n`);
  const child: ChildProcess = spawn(program, ["-c", config], { stdio: ["ignore", "ignore", "pipe"] });
  let output = "";
  child.stderr!.on("data", (chunk: Buffer) => (output += chunk.toString()));
  const deadline = Date.now() + 10_000;
  while (!output.includes("Server is ready")) {
    if (child.exitCode !== null || Date.now() > deadline) throw new Error(`nats-server did not start:\n${output}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return {
    port,
    async stop() {
      child.kill("SIGTERM");
      if (child.exitCode === null) await once(child, "exit");
      await rm(folder, { recursive: true, force: true });
    },
  };
}
