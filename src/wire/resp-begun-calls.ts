// Calls of one connection that have begun and are not answered yet: the next call of the same command begins meanwhile, answers leave in the order of the calls.
// Why: a call that another thread answers takes a turn of that thread, and one after the other a client that pipelines, or sends the next call before it has the answer, waits for two.
// Why only calls of one command: what another command would find, after them, is known when they are answered.
// Invariants: 1. all are of one command  2. an answer is taken when those of all calls before it were  3. at most `callsMax` calls, `bytesMax` bytes of arguments but for one call that is larger.
// Concurrency: the serving loop.

import type { CommandEntry } from "./resp-command-table.ts";
import type { Answer } from "./resp-command.ts";

export const begunLimits = {
  callsMax: 1_024,
  bytesMax: 4_194_304,
} as const;

export interface BegunCall {
  readonly bytes: number;
  readonly sinceMs: number;
  /** There when it is over. */
  answer: Answer | undefined;
  /** It was refused before it began. */
  refusal: string | undefined;
}

export class BegunCalls {
  entry: CommandEntry | undefined;
  #calls: BegunCall[] = [];
  #from = 0;
  #bytes = 0;

  get size(): number {
    return this.#calls.length - this.#from;
  }

  /** Whether a call of this command with so many bytes may begin beside those that are under way. */
  takes(entry: CommandEntry, bytes: number): boolean {
    const { size } = this;
    return size === 0 || (entry === this.entry && size < begunLimits.callsMax && this.#bytes + bytes <= begunLimits.bytesMax);
  }

  add(entry: CommandEntry, bytes: number, nowMs: number): BegunCall {
    const call: BegunCall = { bytes, sinceMs: nowMs, answer: undefined, refusal: undefined };
    this.entry = entry;
    this.#bytes += bytes;
    this.#calls.push(call);
    return call;
  }

  /** Whether there is an answer that may leave. */
  get isReady(): boolean {
    return isOver(this.#calls[this.#from]);
  }

  /** The oldest call, if it is over. */
  take(): BegunCall | undefined {
    const call = this.#calls[this.#from];
    if (call === undefined || !isOver(call)) return undefined;
    this.#from += 1;
    this.#bytes -= call.bytes;
    if (this.#from === this.#calls.length) {
      this.#calls = [];
      this.#from = 0;
      this.entry = undefined;
    } else if (this.#from >= 64 && this.#from * 2 >= this.#calls.length) {
      this.#calls.splice(0, this.#from);
      this.#from = 0;
    }
    return call;
  }

  /** Nobody waits for their answers any more. */
  clear(): void {
    this.#calls = [];
    this.#from = 0;
    this.#bytes = 0;
    this.entry = undefined;
  }
}

function isOver(call: BegunCall | undefined): boolean {
  return call?.answer !== undefined || call?.refusal !== undefined;
}
