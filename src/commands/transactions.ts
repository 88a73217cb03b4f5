// MULTI, EXEC, DISCARD, WATCH, UNWATCH: calls are queued while MULTI is open and run by EXEC one after another with nothing in between; what they wrote is
// one write of the store, so a crash leaves all of it or nothing.
// How watching works: a watcher hears of every change of its keys (keyspace `touch`); a key that expires meanwhile is found at EXEC, by its expiry.
// Invariants: 1. a call that was refused while queueing makes EXEC refuse all  2. an error of a call that runs stops no other and undoes nothing, as in
// Redis  3. a session that ends leaves no watch behind.
// Limits: queuedCallsMax calls and queuedBytesMax bytes a transaction; keyspaceLimits.watchedKeysMax watched keys in the server. A command that waits
// (none on strings and hashes does) ends the write of what ran before it.

import type { Keyspace, Watcher } from "#features/keyspace/keyspace";
import type { Args, Call, CommandFlag, CommandSpec, Session, SessionGate } from "#wire/resp-command";
import { hold, type DataParts } from "./data-command.ts";

export const transactionLimits = { queuedCallsMax: 65_536, queuedBytesMax: 64 << 20 } as const;

const watchState = Symbol("watch");
const passing: ReadonlySet<string> = new Set(["exec", "discard", "multi", "watch", "quit", "reset"]);

interface Watched {
  readonly key: Uint8Array;
  /** 0: none, or the key was not there. */
  readonly expiryMs: number;
}

class Watches implements Watcher {
  changed = false;
  readonly keys: Watched[] = [];
  #keyspace: Keyspace;

  constructor(keyspace: Keyspace) {
    this.#keyspace = keyspace;
  }

  add(key: Uint8Array, expiryMs: number): boolean {
    if (this.keys.some((watched) => equal(watched.key, key))) return true;
    if (!this.#keyspace.watch(key, this)) return false;
    this.keys.push({ key, expiryMs });
    return true;
  }

  /** Whether a watched key has expired since. */
  expired(nowMs: number): boolean {
    return this.keys.some(({ expiryMs }) => expiryMs !== 0 && expiryMs <= nowMs);
  }

  clear(): void {
    for (const { key } of this.keys) this.#keyspace.unwatch(key, this);
    this.keys.length = 0;
    this.changed = false;
  }
}

function equal(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, i) => byte === b[i]);
}

interface Queued {
  readonly spec: CommandSpec;
  readonly args: Args;
}

class Transaction implements SessionGate {
  readonly queue: Queued[] = [];
  #bytes = 0;
  broken = false;

  take(call: Call, spec: CommandSpec): boolean {
    if (passing.has(spec.name)) return false;
    if (spec.flags.includes("no_multi")) {
      this.broken = true;
      call.reply.error("ERR Command not allowed inside a transaction");
      return true;
    }
    const { args } = call;
    this.#bytes += args.end(args.count - 1) - args.start(0);
    if (this.queue.length >= transactionLimits.queuedCallsMax || this.#bytes > transactionLimits.queuedBytesMax) {
      this.broken = true;
      call.reply.error(`ERR transaction exceeds ${transactionLimits.queuedCallsMax} commands or ${transactionLimits.queuedBytesMax} bytes`);
      return true;
    }
    this.queue.push({ spec, args: args.kept() });
    call.reply.simple("QUEUED");
    return true;
  }

  refused(): void {
    this.broken = true;
  }
}

export function transactionCommands({ keyspace }: DataParts): CommandSpec[] {
  const watchesOf = (session: Session): Watches | undefined => session.state.get(watchState) as Watches | undefined;
  const unwatch = (session: Session): void => {
    watchesOf(session)?.clear();
  };

  const multi = ({ session, reply }: Call): void => {
    if (session.gate !== undefined) {
      reply.error("ERR MULTI calls can not be nested");
      return;
    }
    session.gate = new Transaction();
    reply.ok();
  };

  const discard = ({ session, reply }: Call): void => {
    if (session.gate === undefined) {
      reply.error("ERR DISCARD without MULTI");
      return;
    }
    session.gate = undefined;
    unwatch(session);
    reply.ok();
  };

  const watch = ({ args, session, reply }: Call): void => {
    if (session.gate !== undefined) {
      reply.error("ERR WATCH inside MULTI is not allowed");
      return;
    }
    let watches = watchesOf(session);
    if (watches === undefined) {
      const made = new Watches(keyspace);
      watches = made;
      session.state.set(watchState, made);
      session.onEnd(() => {
        made.clear();
      });
    }
    keyspace.begin();
    for (let i = 1; i < args.count; i++) {
      const key = args.bytes(i).slice();
      if (watches.add(key, keyspace.find(key)?.expiryMs ?? 0)) continue;
      reply.error("ERR too many watched keys in the server, UNWATCH some or try later");
      return;
    }
    reply.ok();
  };

  const exec = (call: Call): void | Promise<void> => {
    const { session, reply } = call;
    const transaction = session.gate;
    if (call.args.count !== 1) {
      session.gate = undefined;
      unwatch(session);
      reply.error("EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command");
      return undefined;
    }
    if (!(transaction instanceof Transaction)) {
      reply.error("ERR EXEC without MULTI");
      return undefined;
    }
    session.gate = undefined;
    const watches = watchesOf(session);
    keyspace.begin(true);
    const changed = watches !== undefined && (watches.changed || watches.expired(keyspace.nowMs));
    unwatch(session);
    if (transaction.broken) reply.error("EXECABORT Transaction discarded because of previous errors.");
    else if (changed) reply.nilArray();
    if (transaction.broken || changed) {
      keyspace.rollback();
      return undefined;
    }
    reply.array(transaction.queue.length);
    return runFrom(call, transaction.queue, 0);
  };

  const runFrom = (call: Call, queue: readonly Queued[], first: number): void | Promise<void> => {
    const { session, reply } = call;
    try {
      for (let i = first; i < queue.length; i++) {
        const { spec, args } = queue[i]!;
        // Rights may have changed since it was queued.
        const refusal = session.user.unrestricted ? undefined : session.user.refusal(spec, args);
        if (refusal !== undefined) {
          reply.error(refusal);
          continue;
        }
        const wait = spec.run({
          args,
          session,
          reply,
          hold: (until) => {
            call.hold(until);
          },
        });
        if (wait === undefined) continue;
        // Others run while it waits, so the write of what was done until here cannot be kept open.
        hold(keyspace, call, keyspace.commit());
        return wait.then(() => {
          keyspace.begin(true);
          return runFrom(call, queue, i + 1);
        });
      }
      hold(keyspace, call, keyspace.commit());
    } catch (thrown) {
      keyspace.rollback();
      throw thrown;
    }
    return undefined;
  };

  const spec = (
    name: string,
    arity: number,
    more: readonly CommandFlag[],
    summary: string,
    since: string,
    run: CommandSpec["run"],
    keys?: CommandSpec["keys"],
  ): CommandSpec => ({
    name,
    arity,
    flags: ["noscript", "loading", "stale", ...more],
    categories: ["transaction"],
    group: "transactions",
    keys,
    keyAccess: "",
    summary,
    since,
    run,
  });
  const quick: readonly CommandFlag[] = ["fast", "allow_busy"];
  return [
    spec("multi", 1, quick, "Mark the start of a transaction block", "1.2.0", multi),
    // Its arity is checked above: a wrong one ends the transaction and has a text of its own.
    spec("exec", -1, [], "Execute all commands issued after MULTI", "1.2.0", exec),
    spec("discard", 1, quick, "Discard all commands issued after MULTI", "2.0.0", discard),
    spec("watch", -2, quick, "Watch the given keys to determine execution of the MULTI/EXEC block", "2.2.0", watch, { first: 1, last: -1, step: 1 }),
    spec("unwatch", 1, quick, "Forget about all watched keys", "2.2.0", ({ session, reply }) => {
      unwatch(session);
      reply.ok();
    }),
  ];
}
