// Commands called without a connection, for tests on simulated time: arguments in, the reply's bytes out, over the real store.

import assert from "node:assert/strict";
import { Prng } from "#base/prng";
import { Hashes } from "#features/keyspace/hashes";
import { Keyspace } from "#features/keyspace/keyspace";
import type { Store } from "#lsm/store";
import type { Clock } from "#platform/clock";
import { RespArgs } from "#wire/resp-arguments";
import type { Call, Session } from "#wire/resp-command";
import { CommandTable } from "#wire/resp-command-table";
import { RespReply } from "#wire/resp-reply";
import type { ServerFace } from "#wire/resp-session";
import type { DataParts } from "./data-command.ts";
import { keyspaceCommands } from "./index.ts";

export interface Caller {
  /** The reply as text, parts divided by spaces instead of line ends. */
  call(...args: string[]): Promise<string>;
  /** Several calls of one command as a pipeline brings them. */
  callMany(calls: readonly (readonly string[])[]): Promise<string>;
  /** The connection ends. */
  end(): void;
}

export interface CommandWorld {
  readonly parts: DataParts;
  connect(protocol?: 2 | 3): Caller;
}

/** A clock for commands that stands still until it is told to go on; everything else of it is another clock's. */
export class SetClock implements Clock {
  readonly #clock: Clock;
  #nowMs: number;

  constructor(clock: Clock) {
    this.#clock = clock;
    this.#nowMs = clock.nowMs();
  }

  advance(byMs: number): void {
    this.#nowMs += byMs;
  }

  nowMs(): number {
    return this.#nowMs;
  }

  monotonicMs(): number {
    return this.#clock.monotonicMs();
  }

  after(...args: Parameters<Clock["after"]>): ReturnType<Clock["after"]> {
    return this.#clock.after(...args);
  }

  sleep(...args: Parameters<Clock["sleep"]>): Promise<void> {
    return this.#clock.sleep(...args);
  }

  yield(): Promise<void> {
    return this.#clock.yield();
  }
}

export function commandWorld(store: Store, clock: Clock): CommandWorld {
  const keyspace = new Keyspace({ store, clock, random: new Prng(1) });
  const parts = { keyspace, hashes: new Hashes(keyspace) };
  const table = new CommandTable(...keyspaceCommands(parts));
  return {
    parts,
    connect: (protocol = 2) => {
      const ends: (() => void)[] = [];
      const session: Session = {
        id: 1,
        protocol,
        user: { name: "default", unrestricted: true, refusal: () => undefined },
        name: "",
        database: 0,
        remote: "test",
        // No command on keys asks for the server.
        server: undefined as unknown as ServerFace,
        state: new Map(),
        gate: undefined,
        onEnd: (run) => ends.push(run),
        close: () => undefined,
      };
      const callMany = async (lists: readonly (readonly string[])[]): Promise<string> => {
        const reply = new RespReply();
        reply.protocol = protocol;
        reply.attach(new Uint8Array(1 << 16));
        const holds: Promise<void>[] = [];
        const calls: Call[] = lists.map((args) => ({
          args: RespArgs.of(args.map((arg) => Buffer.from(arg, "latin1"))),
          session,
          reply,
          hold: (until) => holds.push(until),
        }));
        const entry = table.byName.get(lists[0]![0]!.toLowerCase());
        assert.ok(entry !== undefined, `command ${lists[0]![0]}`);
        if (calls.length > 1 && entry.spec.runMany !== undefined) await entry.spec.runMany(calls);
        else for (const call of calls) if (session.gate?.take(call, entry.spec) !== true) await entry.spec.run(call);
        await Promise.all(holds);
        const pieces = reply.pieces.map(({ bytes, from, to }) => Buffer.from(bytes.subarray(from, to)).toString("latin1"));
        return (pieces.join("") + Buffer.from(reply.buffer.subarray(0, reply.at)).toString("latin1")).trim().replaceAll("\r\n", " ");
      };
      return {
        call: (...args) => callMany([args]),
        callMany,
        end: () => {
          for (const run of ends) run();
        },
      };
    },
  };
}
