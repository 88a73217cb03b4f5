// Which of several servers with the same tables takes their writes, by a lease of a registry that they share: one leads all tables, the others follow it, and when it is gone the next one takes over.
// Registry keys, under each server's lease: params-servers/members/NODE {host, port, ready}, params-servers/leader {node, host, port}; lock params-servers/lead, whose token is the epoch.
//
// Why one lock for all tables, where LeadKeeper has one a group: a push to a server goes to any rows, so whoever leads only some of them would have to pass writes on.
// Invariants: 1. a server takes over only when it is caught up with all others it knows  2. writes are taken only while the lease was seen alive less than half its time ago, and not before the
//                others had a moment to hand in what they hold  3. an epoch is above all that were heard of, also when the registry lost its own.
// Cost: a few registry calls every `checkMs`. Concurrency: the parameters thread. Limits: 65,535 changes of hands.

import { MillraceError } from "#base/errors";
import type { Lease, Lock, Registry } from "#backbone/registry";
import type { Clock } from "#platform/clock";
import { versionLimits } from "../sync-table.ts";
import { keepMemberEntry } from "../sync/member-entry.ts";
import type { Address, SyncNode } from "../sync/sync-node.ts";

export interface HostLeadOptions {
  /** Of all shards of all tables, at this moment. */
  readonly nodes: () => readonly SyncNode[];
  /** Its number among the servers. */
  readonly node: number;
  /** Where the others reach it. */
  readonly address: Address;
  readonly registry: Registry;
  readonly clock: Clock;
  /** Who takes the writes from now on. */
  readonly onChanged: (leader: Leader) => void;
  /** How long a leader that is gone keeps the tables at most. Default 1,000. */
  readonly leaseMs?: number;
  /** Default 100. */
  readonly checkMs?: number;
}

/** `here`: this server; `nobody`: not known right now; else the address of the one that does. */
export type Leader = "here" | "nobody" | { readonly address: string };

interface Member extends Address {
  readonly node: number;
}

const prefix = "params-servers";
/** A fault that stood for so long does not pass with somebody's lease: another server has this one's number, or the registry does not answer. */
const standingFaultMs = 5_000;
/** Times in a row that an epoch is taken anew because a higher one is known. */
const epochTriesMax = 256;

export class HostLead {
  readonly #options: HostLeadOptions;
  readonly #leaseMs: number;
  readonly #checkMs: number;
  readonly #ending = new AbortController();
  #running: Promise<void> | undefined;
  #lease: Lease | undefined;
  #leaseUntilMs = 0;
  #lock: Lock | undefined;
  #announced = false;
  #members: readonly Member[] = [];
  /** Sources that each node was given, by the number of the server. */
  readonly #sources = new Map<SyncNode, Map<number, Address>>();
  #told: string | undefined;
  #fault: MillraceError | undefined;
  #faultSinceMs = 0;

  constructor(options: HostLeadOptions) {
    this.#options = options;
    this.#leaseMs = options.leaseMs ?? 1_000;
    this.#checkMs = options.checkMs ?? 100;
  }

  /** What went wrong with the registry last, while it does: then the lease runs out and writes are refused. */
  get fault(): MillraceError | undefined {
    return this.#fault;
  }

  /** The fault that waiting alone does not end: a registry that says nothing any more, and any that has stood for 5 s. */
  get standingFault(): MillraceError | undefined {
    const fault = this.#fault;
    if (fault === undefined || fault.code === "corrupt") return fault;
    return this.#options.clock.monotonicMs() - this.#faultSinceMs >= standingFaultMs ? fault : undefined;
  }

  start(): void {
    this.#running ??= this.#run();
  }

  /** Gives the tables and its membership back. */
  async close(): Promise<void> {
    this.#ending.abort();
    await this.#running;
    this.#unlead();
    await this.#lease?.end().catch(() => undefined);
  }

  async #run(): Promise<void> {
    const { signal } = this.#ending;
    const { clock } = this.#options;
    while (!signal.aborted) {
      try {
        await this.#check();
        this.#fault = undefined;
      } catch (thrown) {
        if (!(thrown instanceof MillraceError)) throw thrown;
        if (this.#fault === undefined) this.#faultSinceMs = this.#options.clock.monotonicMs();
        this.#fault = thrown;
        // Damaged or deleted it says nothing any more of who leads.
        if (thrown.code === "conflict" || thrown.code === "corrupt") this.#lose();
      }
      await clock.sleep(this.#checkMs, signal).catch(() => undefined);
    }
  }

  /** The lease is gone, and with it everything that hung on it. */
  #lose(): void {
    this.#unlead();
    this.#lease = undefined;
    this.#announced = false;
  }

  #unlead(): void {
    this.#leaseUntilMs = 0;
    this.#lock = undefined;
    for (const node of this.#options.nodes()) {
      node.leaseUntilMs = 0;
      node.unlead(groupsOf(node));
    }
    this.#tell("nobody");
  }

  #tell(leader: Leader): void {
    const text = JSON.stringify(leader);
    if (text === this.#told) return;
    this.#told = text;
    this.#options.onChanged(leader);
  }

  async #check(): Promise<void> {
    const { registry, clock, nodes } = this.#options;
    const askedMs = clock.monotonicMs();
    if (this.#lease === undefined) this.#lease = await registry.lease(this.#leaseMs);
    else if (!(await this.#lease.alive())) return this.#lose();
    this.#leaseUntilMs = askedMs + this.#leaseMs / 2;
    await this.#announce();
    this.#members = await this.#listed();
    for (const node of nodes()) this.#follow(node);
    await this.#lead();
    for (const node of nodes()) node.leaseUntilMs = this.#lock === undefined ? 0 : this.#leaseUntilMs;
    await this.#tellLeader();
  }

  get #ready(): boolean {
    return this.#options.nodes().every((node) => node.caughtUp);
  }

  async #announce(): Promise<void> {
    const { address, node, registry } = this.#options;
    const entry = { host: address.host, port: address.port, ready: this.#ready };
    const taken = await keepMemberEntry(registry, `${prefix}/members/${node}`, entry, { lease: this.#lease!, mine: this.#announced });
    this.#announced = taken === undefined;
    if (taken === undefined) return;
    // Nobody follows this server: it must not lead.
    const lock = this.#lock;
    this.#unlead();
    await lock?.release();
    throw taken;
  }

  async #listed(): Promise<Member[]> {
    const members: Member[] = [];
    for (const { key, value } of await this.#options.registry.list(`${prefix}/members/`)) {
      const { host, port } = JSON.parse(new TextDecoder().decode(value)) as Member;
      members.push({ host, port, node: Number(key.slice(key.lastIndexOf("/") + 1)) });
    }
    return members;
  }

  /** All others, and each hands out what it leads: so nothing has to be changed when the leader does. */
  #follow(node: SyncNode): void {
    const sources = this.#sources.get(node) ?? new Map<number, Address>();
    this.#sources.set(node, sources);
    for (const { node: number, host, port } of this.#members) {
      const known = sources.get(number);
      if (number === this.#options.node || (known !== undefined && known.host === host && known.port === port)) continue;
      if (known !== undefined) node.removeSource([known]);
      sources.set(number, { host, port });
      node.addSource([{ host, port }], "led");
    }
    for (const [number, address] of sources) {
      if (this.#members.some((member) => member.node === number)) continue;
      sources.delete(number);
      node.removeSource([address]);
    }
    node.start();
  }

  async #lead(): Promise<void> {
    const { nodes, registry, address, node } = this.#options;
    if (this.#lock === undefined) {
      if (!this.#ready) return;
      this.#lock = await registry.tryLock(`${prefix}/lead`, this.#lease!);
      if (this.#lock === undefined) return;
    }
    // Overtaken, or a table came from where later epochs were: the lock is taken anew for a higher one.
    const known = (): number => nodes().reduce((highest, one) => Math.max(highest, leadsAll(one) ? 0 : one.highestEpoch), 0);
    for (let tries = 0; this.#lock.token <= known(); tries++) {
      await this.#lock.release();
      this.#lock = tries < epochTriesMax ? await registry.tryLock(`${prefix}/lead`, this.#lease!) : undefined;
      if (this.#lock === undefined) return this.#unleadNodes();
    }
    const { token } = this.#lock;
    if (token > versionLimits.epochMax) {
      throw new MillraceError("unavailable", `the parameter tables have changed hands ${token} times`, {
        todo: "export them, and import them into tables of another name: epochs have 16 bits",
      });
    }
    const text = JSON.stringify({ node, host: address.host, port: address.port });
    await registry.put(`${prefix}/leader`, new TextEncoder().encode(text), { lease: this.#lease! });
    for (const one of nodes()) if (!leadsAll(one) && one.highestEpoch < token) one.lead(groupsOf(one), token);
  }

  #unleadNodes(): void {
    for (const node of this.#options.nodes()) node.unlead(groupsOf(node));
  }

  async #tellLeader(): Promise<void> {
    if (this.#lock !== undefined) return this.#tell("here");
    const entry = await this.#options.registry.get(`${prefix}/leader`);
    if (entry === undefined) return this.#tell("nobody");
    const { node, host, port } = JSON.parse(new TextDecoder().decode(entry.value)) as Member;
    // What it wrote itself before its lease was lost says nothing.
    this.#tell(node === this.#options.node ? "nobody" : { address: `${host}:${port}` });
  }
}

function groupsOf({ groups }: SyncNode): number[] {
  return Array.from({ length: groups }, (_, group) => group);
}

function leadsAll(node: SyncNode): boolean {
  for (let group = 0; group < node.groups; group++) if (!node.leads(group)) return false;
  return true;
}
