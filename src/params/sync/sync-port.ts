// One port for the nodes of many tables and shards: reads the greeting of who connects and hands the connection on to the node that it names.
// Why: a follower needs one address of a server, not one a shard; what a firewall and a configuration have to know stays the same when tables come and go.
// A node in another thread has a port of its own on this machine; connections for it are passed on to there, byte by byte.
// Invariants: 1. before its greeting, checked as any frame, a connection reaches no node  2. who does not greet in time is ended  3. a token that is not the port's
//             learns nothing, not even which tables there are.
// Concurrency: one thread. Limits: `syncPortLimits`.

import { MillraceError } from "#base/errors";
import type { Clock } from "#platform/clock";
import type { Connection, Listener, Network } from "#platform/network";
import { frameTypes } from "./sync-frames.ts";
import { PassedOn } from "./passed-on.ts";
import { SyncLink } from "./sync-link.ts";
import { type Address, type SyncNode, syncTimesDefault } from "./sync-node.ts";

export const syncPortLimits = {
  /** Connections that have not greeted. */
  greetingMax: 256,
  /** Connections of nodes in other threads. */
  passedMax: 128,
} as const;

export interface SyncPortOptions {
  readonly network: Network;
  readonly clock: Clock;
  readonly token?: string;
}

export class SyncPort {
  readonly #options: SyncPortOptions;
  readonly #nodes = new Map<string, SyncNode>();
  readonly #elsewhere = new Map<string, Address>();
  readonly #passing = new Set<PassedOn>();
  readonly #greeting = new Set<SyncLink>();
  #listener: Listener | undefined;

  constructor(options: SyncPortOptions) {
    this.#options = options;
  }

  /** Returns the port. */
  async listen(address: Address): Promise<number> {
    this.#listener = await this.#options.network.listen(address, (connection) => this.#accept(connection));
    return this.#listener.port;
  }

  /** From now on connections that greet with the node's name are its own. */
  add(node: SyncNode): void {
    this.#nodes.set(node.name, node);
  }

  /** From now on connections that greet with `name` are passed on to `address`, the port of a node in another thread of this process. */
  passOn(name: string, address: Address): void {
    this.#elsewhere.set(name, address);
  }

  remove(node: SyncNode): void {
    if (this.#nodes.get(node.name) === node) this.#nodes.delete(node.name);
  }

  async close(): Promise<void> {
    for (const link of [...this.#greeting]) link.close();
    for (const passed of [...this.#passing]) passed.end();
    await this.#listener?.close();
  }

  #accept(connection: Connection): void {
    if (this.#greeting.size >= syncPortLimits.greetingMax) return connection.close();
    const link: SyncLink = new SyncLink(connection, 1, {
      frame: (type, reader) => {
        if (type !== frameTypes.hello)
          throw new MillraceError("corrupt", `a frame of type ${type} before a greeting`, { todo: "look what speaks to this port" });
        const hello = reader.hello();
        timer.cancel();
        this.#greeting.delete(link);
        if (hello.token !== (this.#options.token ?? "")) return refuse("another token");
        const node = this.#nodes.get(hello.table);
        if (node !== undefined) return node.take(link, hello);
        const address = this.#elsewhere.get(hello.table);
        if (address === undefined) return refuse(this.#whyNot(hello.table));
        if (this.#passing.size >= syncPortLimits.passedMax) return refuse(`${syncPortLimits.passedMax} connections are passed on, the most`);
        const passed: PassedOn = new PassedOn(link, hello, () => this.#passing.delete(passed));
        this.#passing.add(passed);
        void passed.to(this.#options.network, address);
      },
      writable: () => undefined,
      ended: () => {
        timer.cancel();
        this.#greeting.delete(link);
      },
    });
    const refuse = (why: string): void => {
      link.send((writer) => writer.refuse(why));
      link.close();
    };
    const timer = this.#options.clock.after(syncTimesDefault.greetMs, () => link.end(), { background: true });
    this.#greeting.add(link);
  }

  /** Names begin with the table, then a blank: what is otherwise alike is named. */
  #whyNot(name: string): string {
    const table = name.split(" ", 1)[0]!;
    const like = [...this.#nodes.keys(), ...this.#elsewhere.keys()].find((one) => one.split(" ", 1)[0] === table);
    return like === undefined ? `there is no table ${table} here` : `here it is "${like}"`;
  }
}
