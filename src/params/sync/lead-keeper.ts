// Who leads which group of buckets, by leases of the registry: finds the other nodes, follows them, takes groups that nobody leads.
// Registry keys, all under the node's lease: params/NAME/members/NODE {host, port, ready, candidate}, params/NAME/leaders/GROUP {node, epoch}; locks
// params/NAME/groups/GROUP, whose token is the epoch.
//
// Why a lock's token: it rises with every acquisition and is given out once, which is all that an epoch has to be. Why groups: a lock a bucket would be
// 4,096 rows in the registry that change hands one by one.
// Invariants: 1. a group is taken only by a node that is ready, so what it goes on from is what the others held  2. writes are taken only while the lease was seen
//             alive less than half its time ago  3. an epoch is above all that were heard of, also when the registry lost its own.
// Choice: of the ready candidates the one with the largest hash of (group, node) tries at once, the next ones later (rendezvous); a leader keeps its groups
// until its lease ends or it is closed.
// Cost: two lists of the registry every `checkMs`. Limits: 65,535 acquisitions of a group.

import { MillraceError } from "#base/errors";
import type { Lease, Lock, Registry } from "#backbone/registry";
import { mixWord } from "#kernel/parameter-key";
import type { Clock } from "#platform/clock";
import { versionLimits } from "../sync-table.ts";
import { keepMemberEntry } from "./member-entry.ts";
import type { Address, SyncNode } from "./sync-node.ts";

export interface LeadKeeperOptions {
  readonly node: SyncNode;
  readonly name: string;
  readonly registry: Registry;
  readonly clock: Clock;
  /** Where the others reach this node. */
  readonly address: Address;
  /** Whether it may lead. */
  readonly candidate: boolean;
  /** How long a leader that is gone keeps its groups at most. Default 1,000. */
  readonly leaseMs?: number;
  /** Default 100. */
  readonly checkMs?: number;
}

interface Member extends Address {
  readonly node: number;
  readonly ready: boolean;
  readonly candidate: boolean;
}

/** Times in a row that an epoch is taken anew because a higher one is known. */
const epochTriesMax = 256;

export class LeadKeeper {
  readonly #node: SyncNode;
  readonly #options: LeadKeeperOptions;
  readonly #registry: Registry;
  readonly #clock: Clock;
  readonly #prefix: string;
  readonly #leaseMs: number;
  readonly #checkMs: number;
  readonly #ending = new AbortController();
  #running: Promise<void> | undefined;
  #lease: Lease | undefined;
  #announced = false;
  readonly #locks = new Map<number, Lock>();
  /** Since when a group has had no leader. */
  readonly #freeMs = new Map<number, number>();
  readonly #sources = new Map<number, Address>();
  #failovers = 0;
  #lastFault: MillraceError | undefined;

  constructor(options: LeadKeeperOptions) {
    this.#options = options;
    this.#node = options.node;
    this.#registry = options.registry;
    this.#clock = options.clock;
    this.#prefix = `params/${options.name}`;
    this.#leaseMs = options.leaseMs ?? 1_000;
    this.#checkMs = options.checkMs ?? 100;
  }

  /** Groups that this node took from another leader. */
  get failovers(): number {
    return this.#failovers;
  }

  /** What went wrong with the registry last; while it does, the lease runs out and writes are refused. */
  get lastFault(): MillraceError | undefined {
    return this.#lastFault;
  }

  start(): void {
    this.#running ??= this.#run();
  }

  /** Gives its groups and its membership back. */
  async close(): Promise<void> {
    this.#ending.abort();
    await this.#running;
    this.#node.unlead([...this.#locks.keys()]);
    await this.#lease?.end();
  }

  async #run(): Promise<void> {
    const { signal } = this.#ending;
    this.#node.leaseUntilMs = 0;
    while (!signal.aborted) {
      try {
        await this.#check();
      } catch (thrown) {
        if (!(thrown instanceof MillraceError)) throw thrown;
        this.#lastFault = thrown;
        if (thrown.code === "conflict") this.#lose();
      }
      await this.#clock.sleep(this.#checkMs, signal).catch(() => undefined);
    }
  }

  /** The lease is gone, and with it everything that hung on it. */
  #lose(): void {
    this.#node.leaseUntilMs = 0;
    this.#node.unlead([...this.#locks.keys()]);
    this.#locks.clear();
    this.#lease = undefined;
    this.#announced = false;
  }

  async #check(): Promise<void> {
    const askedMs = this.#clock.monotonicMs();
    if (this.#lease === undefined) this.#lease = await this.#registry.lease(this.#leaseMs);
    else if (!(await this.#lease.alive())) return this.#lose();
    await this.#announce();
    // Not while another process has its number: nobody would follow it.
    this.#node.leaseUntilMs = askedMs + this.#leaseMs / 2;
    const members = await this.#members();
    this.#follow(members);
    this.#node.start();
    await this.#announce();
    await this.#lead(members);
  }

  async #announce(): Promise<void> {
    const { address, candidate } = this.#options;
    const entry = { host: address.host, port: address.port, ready: this.#node.caughtUp, candidate };
    const taken = await keepMemberEntry(this.#registry, `${this.#prefix}/members/${this.#node.node}`, entry, { lease: this.#lease!, mine: this.#announced });
    this.#announced = taken === undefined;
    if (taken !== undefined) throw taken;
  }

  async #members(): Promise<Member[]> {
    const members: Member[] = [];
    for (const { key, value } of await this.#registry.list(`${this.#prefix}/members/`)) {
      const { host, port, ready, candidate } = JSON.parse(new TextDecoder().decode(value)) as Member;
      members.push({ host, port, ready, candidate, node: Number(key.slice(key.lastIndexOf("/") + 1)) });
    }
    return members;
  }

  #follow(members: readonly Member[]): void {
    const own = this.#node.node;
    for (const { node, host, port } of members) {
      const known = this.#sources.get(node);
      if (node === own || (known !== undefined && known.host === host && known.port === port)) continue;
      if (known !== undefined) this.#node.removeSource([known]);
      this.#sources.set(node, { host, port });
      this.#node.addSource([{ host, port }], "led");
    }
    for (const [node, address] of this.#sources) {
      if (members.some((member) => member.node === node)) continue;
      this.#sources.delete(node);
      this.#node.removeSource([address]);
    }
  }

  async #lead(members: readonly Member[]): Promise<void> {
    for (const [group, lock] of this.#locks) {
      // Overtaken: the lock is worth nothing.
      if (this.#node.leads(group)) continue;
      this.#locks.delete(group);
      await this.#registry.delete(`${this.#prefix}/leaders/${group}`);
      await lock.release();
    }
    if (!this.#options.candidate || !this.#node.caughtUp) return;
    const led = new Set<number>();
    for (const { key } of await this.#registry.list(`${this.#prefix}/leaders/`)) led.add(Number(key.slice(key.lastIndexOf("/") + 1)));
    const now = this.#clock.monotonicMs();
    for (let group = 0; group < this.#node.groups; group++) {
      if (led.has(group)) {
        this.#freeMs.delete(group);
        continue;
      }
      const freeMs = this.#freeMs.get(group) ?? now;
      this.#freeMs.set(group, freeMs);
      if (this.#locks.has(group) || now - freeMs < this.#rank(group, members) * 2 * this.#checkMs) continue;
      await this.#take(group);
    }
  }

  /** How many ready candidates come before this node in the order of the group. */
  #rank(group: number, members: readonly Member[]): number {
    const weight = (node: number): number => mixWord((mixWord(group + 1) + node) | 0);
    const own = weight(this.#node.node);
    return members.filter(({ node, ready, candidate }) => ready && candidate && weight(node) > own).length;
  }

  async #take(group: number): Promise<void> {
    const lease = this.#lease!;
    const name = `${this.#prefix}/groups/${group}`;
    let lock = await this.#registry.tryLock(name, lease);
    for (let tries = 0; lock !== undefined && lock.token <= this.#node.knownEpoch(group) && tries < epochTriesMax; tries++) {
      await lock.release();
      lock = await this.#registry.tryLock(name, lease);
    }
    if (lock === undefined) return;
    if (lock.token <= this.#node.knownEpoch(group)) return lock.release();
    if (lock.token > versionLimits.epochMax) {
      await lock.release();
      throw new MillraceError("unavailable", `group ${group} of parameter table ${this.#options.name} has changed hands ${lock.token} times`, {
        todo: "write the table anew under another name: epochs have 16 bits",
      });
    }
    const before = this.#node.knownEpoch(group);
    const text = JSON.stringify({ node: this.#node.node, epoch: lock.token });
    await this.#registry.put(`${this.#prefix}/leaders/${group}`, new TextEncoder().encode(text), { lease });
    // Not a word between the last look at what is known and taking it.
    if (lock.token <= this.#node.knownEpoch(group)) {
      await this.#registry.delete(`${this.#prefix}/leaders/${group}`);
      return lock.release();
    }
    this.#node.lead([group], lock.token);
    this.#locks.set(group, lock);
    this.#freeMs.delete(group);
    if (before > 0) this.#failovers++;
  }
}
