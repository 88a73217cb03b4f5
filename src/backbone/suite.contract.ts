// What the contract suites share: engines, skip lists with reasons, a clock whose owner can be stopped.
// A suite is a function that registers one test a promise of the contract. An engine says which tests it cannot pass and why; the reason is printed.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { Clock } from "#platform/clock";

/** Tests (by their name in the suite) that an engine cannot pass, and why. */
export interface Skip {
  readonly reason: string;
  readonly tests: readonly string[];
}

export interface Engine<World> {
  readonly name: string;
  /** Makes a fresh world, runs the body in it, cleans up. */
  readonly within: (body: (world: World) => Promise<void>) => Promise<void>;
  readonly skip?: readonly Skip[];
}

export interface Suite<World> {
  check(name: string, body: (world: World) => Promise<void>): void;
  /** Call last: a skip list that names a test that is not there is a mistake. */
  end(): void;
}

export function beginSuite<World>(suite: string, engine: Engine<World>): Suite<World> {
  const names = new Set<string>();
  return {
    check(name, body) {
      names.add(name);
      const reason = engine.skip?.find((skip) => skip.tests.includes(name))?.reason;
      test(`${suite} contract, ${engine.name}: ${name}`, { skip: reason ?? false, timeout: 60_000 }, () => engine.within(body));
    },
    end() {
      for (const skip of engine.skip ?? [])
        for (const name of skip.tests) assert.ok(names.has(name), `the skip list of ${engine.name} names an unknown test: ${name}`);
    },
  };
}

/** Matches a MillraceError of this code. */
export const refusal =
  (code: string) =>
  (thrown: unknown): boolean =>
    (thrown as { code?: string }).code === code;

/** A clock whose timers fire no more once it is stopped: what a process sees of itself after SIGSTOP is that nothing happens. */
export class StoppableClock implements Clock {
  readonly #clock: Clock;
  #stopped = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  stop(): void {
    this.#stopped = true;
  }

  nowMs(): number {
    return this.#clock.nowMs();
  }

  monotonicMs(): number {
    return this.#clock.monotonicMs();
  }

  after(delayMs: number, run: () => void, options?: { background?: boolean }): { cancel(): void } {
    return this.#clock.after(delayMs, () => (this.#stopped ? undefined : run()), options);
  }

  sleep(delayMs: number, signal?: AbortSignal): Promise<void> {
    return this.#clock.sleep(delayMs, signal);
  }

  yield(): Promise<void> {
    return this.#clock.yield();
  }
}
