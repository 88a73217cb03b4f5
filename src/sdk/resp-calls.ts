// Commands to one server's Redis port that are repeated after failures that may pass: what the clients of parameters and vectors send through.
// Invariants: 1. every call ends by its deadline  2. what is repeated does no harm: who sends something that counts makes it so (WORKER and SEQ of parameters)
// Concurrency: one event loop.

import { toMillraceError } from "#base/errors";
import type { Clock } from "#platform/clock";
import type { Network } from "#platform/network";
import { systemClock } from "#platform/system-clock";
import { systemNetwork } from "#platform/system-network";
import { type RespArgument, RespClient } from "#wire/resp-client";
import type { RespValue } from "#wire/resp-decoder";

export interface RespCallsOptions {
  /** Default 127.0.0.1. */
  readonly host?: string;
  /** Of the Redis protocol. Default 6390. */
  readonly port?: number;
  readonly user?: string;
  readonly password?: string;
  /** Whole time of a call in milliseconds, repetitions included. Default 5,000. */
  readonly timeoutMs?: number;
  /** How often a command is repeated after a failure that may pass. Default 2; 0 switches it off. */
  readonly retries?: number;
  /** For tests and simulations. */
  readonly network?: Network;
  readonly clock?: Clock;
}

const retryPauseMs = 50;

export class RespCalls {
  readonly clock: Clock;
  readonly #resp: RespClient;
  readonly #timeoutMs: number;
  readonly #retries: number;

  /** Connects; throws `unavailable`, `timeout`, `unauthorized`. */
  static async connect(options: RespCallsOptions): Promise<RespCalls> {
    const { host = "127.0.0.1", port = 6390, timeoutMs = 5_000, retries = 2, network = systemNetwork, clock = systemClock, user, password } = options;
    const resp = await RespClient.connect({
      network,
      clock,
      host,
      port,
      timeoutMs,
      ...(user === undefined ? {} : { user }),
      ...(password === undefined ? {} : { password }),
    });
    return new RespCalls(resp, clock, timeoutMs, retries);
  }

  private constructor(resp: RespClient, clock: Clock, timeoutMs: number, retries: number) {
    this.#resp = resp;
    this.clock = clock;
    this.#timeoutMs = timeoutMs;
    this.#retries = retries;
  }

  /** When a call that begins now must end, monotonic. */
  deadlineMs(): number {
    return this.clock.monotonicMs() + this.#timeoutMs;
  }

  /** One command. `deadlineMs`: monotonic. */
  async command(args: readonly RespArgument[], deadlineMs = this.deadlineMs()): Promise<RespValue> {
    for (let attempt = 0; ; attempt++) {
      try {
        return await this.#resp.commandWithin(Math.max(1, deadlineMs - this.clock.monotonicMs()), args);
      } catch (thrown) {
        const error = toMillraceError(thrown);
        const pauseMs = retryPauseMs * 2 ** attempt;
        if (!error.retryable || attempt >= this.#retries || this.clock.monotonicMs() + pauseMs >= deadlineMs) throw error;
        await this.clock.sleep(pauseMs);
      }
    }
  }

  /** Ends the connection; what is under way is rejected. */
  close(): void {
    this.#resp.close();
  }
}
