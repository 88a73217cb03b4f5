// A gradient pushed at the primary until it changes a score at a follower: a process that trains a factorisation machine and hands its rows out, another one that follows it and ranks by them, as the
// threads of two servers do (LedModel, FollowedModel), over loopback.
// A push is one step on the rows of a sample, some of its own and a bias that all samples share; it counts from before the step until the follower's machine, asked again and again, has computed a
// logit of that sample that is exactly the trainer's own. Meanwhile the trainer makes steps on other rows, `rowsPerS`, which move the bias too: so the logit is of the sample's own rows.

import { type ChildProcess, fork } from "node:child_process";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Prng } from "#base/prng";
import type { ScoredMessage, ScoredOptions, ScoredOrder } from "./model-node.ts";

export interface ScoredRun {
  /** From before the step to the score. */
  readonly latencyMs: readonly number[];
  /** Scores that were computed at the follower. */
  readonly scores: number;
  /** Rows of other steps. */
  readonly otherRows: number;
}

const base = process.hrtime.bigint();

class ModelProcess {
  readonly child: ChildProcess;
  #wanted: ((message: ScoredMessage) => void) | undefined;
  #failed: ((error: Error) => void) | undefined;

  constructor(options: Omit<ScoredOptions, "base">) {
    const all: ScoredOptions = { ...options, base: String(base) };
    this.child = fork(join(import.meta.dirname, "model-node.ts"), [JSON.stringify(all)], { stdio: ["ignore", "inherit", "inherit", "ipc"] });
    this.child.on("message", (message) => this.#wanted?.(message as ScoredMessage));
    this.child.on("exit", (code) => this.#failed?.(new Error(`a process of a model ended with ${code}`)));
  }

  next(order?: ScoredOrder): Promise<ScoredMessage> {
    const message = new Promise<ScoredMessage>((resolve, reject) => {
      this.#wanted = resolve;
      this.#failed = reject;
    });
    if (order !== undefined) this.child.send(order);
    return message;
  }
}

export async function scoredRun(rowsPerS: number, pushes: number): Promise<ScoredRun> {
  const processes: ModelProcess[] = [];
  try {
    const trainer = new ModelProcess({ rowsPerS });
    processes.push(trainer);
    const { port } = await trainer.next();
    const follower = new ModelProcess({ source: port! });
    processes.push(follower);
    await follower.next();
    const random = new Prng("scored");
    const latencyMs: number[] = [];
    let scores = 0;
    let otherRows = 0;
    const warmUp = Math.min(300, pushes);
    for (let push = 0; push < warmUp + pushes; push++) {
      const [told, seen] = await Promise.all([trainer.next({ push }), follower.next({ push })]);
      if (told.logit !== seen.logit) throw new Error(`the follower computed ${seen.logit} where the trainer has ${told.logit}`);
      scores = seen.scores!;
      otherRows = told.otherRows!;
      if (push >= warmUp) latencyMs.push(seen.atMs! - told.atMs!);
      await sleep(2 + random.below(8));
    }
    return { latencyMs, scores, otherRows };
  } finally {
    for (const { child } of processes) child.kill("SIGKILL");
  }
}
