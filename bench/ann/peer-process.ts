// A peer in a process of its own: asked a line of JSON, answers one. One at a time.

import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";

export interface PeerRun {
  /** CPU time of the process, seconds. */
  readonly cpuS: number;
  /** Answers whose score reaches that of the true k-th best. */
  readonly hits: number;
}

export class PeerProcess {
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  constructor(command: string, args: readonly string[], environment: Readonly<Record<string, string>> = {}) {
    this.#child = spawn(command, args, { stdio: ["pipe", "pipe", "inherit"], env: { ...process.env, ...environment } });
    this.#lines = createInterface({ input: this.#child.stdout! })[Symbol.asyncIterator]();
    process.on("exit", () => this.#child.kill("SIGKILL"));
  }

  async ask<Answer>(question: object): Promise<Answer> {
    this.#child.stdin!.write(`${JSON.stringify(question)}\n`);
    const { value, done } = await this.#lines.next();
    if (done === true) throw new Error(`a peer ended instead of answering ${JSON.stringify(question)}`);
    return JSON.parse(value) as Answer;
  }

  end(): void {
    this.#child.stdin!.end();
  }
}
