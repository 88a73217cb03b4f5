// Synchronisation of a parameter host's tables with those of other processes: one port for all, a node for each shard of each table, sources by the configuration.
// Who leads: a host without `follow` leads all its tables, in an epoch of its own each start; a host with `follow` takes them from the first address that answers, and never writes; with
// `lead: "lease"` it is one of several, by a lock in a registry that they share (host-lead.ts).
//
// A leader's loss: rows that it had not saved when it was killed are at its followers, who hand them in when they connect; writes wait for that (hostSyncLimits), reads too.
//
// Invariants: 1. a table that is followed is opened for readers once it is as new as its source, and stays open from then on  2. tables meet only when name, shards, seed and initial
//                values are equal: these are the name of their nodes  3. what a checkpoint says of places is restored before the first connection.
// Cost: a connection a shard and follower; a call without changes some 100 ns a shard. Concurrency: the parameters thread. Limits: syncLimits of each node.

import type { Registry } from "#backbone/registry";
import { MillraceError } from "#base/errors";
import type { Prng } from "#base/prng";
import type { Clock } from "#platform/clock";
import type { Network } from "#platform/network";
import type { ParameterSyncStatus } from "#wire/parameter-api";
import type { ParameterSyncConfig } from "#wire/parameter-config";
import { encodePlaces, restorePlaces } from "../sync/places.ts";
import { addressOf } from "../sync/sync-address.ts";
import { type Address, SyncNode, type SyncTimes } from "../sync/sync-node.ts";
import { SyncPort } from "../sync/sync-port.ts";
import { syncStatusOf } from "../sync/sync-status.ts";
import { noVersion, type Version } from "../sync-table.ts";
import { HostLead, type Leader } from "./host-lead.ts";
import type { HostTable, TableSync } from "./host-table.ts";

export const hostSyncLimits = {
  /** Followers may have to hand in what a leader lost by a crash, before it writes old rows anew. */
  renewAfterMs: 60_000,
  /** Buckets of each shard that one sweep looks at. */
  renewBuckets: 8,
  /** Between two looks at what keeps sources from being followed, for the log. */
  lookMs: 5_000,
  /**
   * A leader that did not end orderly and had followers waits for them before it takes a write: what it had not saved is there, and an addition to an old row would win over it. So
   * long for the first of them (they try again every second or so), and then until for `quietMs` nothing more has been handed in.
   */
  followerWaitMs: 2_500,
  quietMs: 500,
  handInMsMax: 60_000,
} as const;

export interface HostSyncOptions {
  readonly config: ParameterSyncConfig;
  readonly network: Network;
  readonly clock: Clock;
  readonly random: Prng;
  /** For the operator's log. */
  readonly warn: (message: string) => void;
  readonly times?: Partial<SyncTimes>;
  /** With `lead: "lease"`: shared by the servers that may lead. The host closes it. */
  readonly registry?: Registry;
  /** With it too: told who takes the writes, whenever that changes. */
  readonly onLeader?: (leader: Leader) => void;
  /** Default 1,000. */
  readonly leaseMs?: number;
}

export class HostSync {
  readonly leads: boolean;
  /** Where followed tables come from, for messages; undefined: nothing is followed. */
  readonly follows: string | undefined;
  readonly #options: HostSyncOptions;
  readonly #port: SyncPort;
  readonly #sources: readonly Address[];
  readonly #byLease: boolean;
  readonly #tables = new Set<SynchronisedTable>();
  #leader: Leader = "nobody";
  #lead: HostLead | undefined;
  #listening: number | undefined;
  #toldFault: string | undefined;

  /** Nothing is listened to before `listen`. Throws `invalid` for an address that cannot be. */
  constructor(options: HostSyncOptions) {
    const { config, network, clock } = options;
    this.#options = options;
    this.#sources = (config.follow ?? []).map(addressOf);
    this.#byLease = config.lead === "lease";
    this.leads = this.#sources.length === 0 && !this.#byLease;
    this.follows = config.follow?.join(", ");
    this.#port = new SyncPort({ network, clock, ...(config.token === undefined ? {} : { token: config.token }) });
  }

  /** Takes followers; tables may come before or after. Throws `conflict` for a port that is taken. */
  async listen(): Promise<void> {
    const { host = "127.0.0.1", port } = this.#options.config;
    this.#listening = await this.#port.listen({ host, port });
    const { registry, clock, onLeader, leaseMs, config } = this.#options;
    if (!this.#byLease || registry === undefined) return;
    this.#lead = new HostLead({
      nodes: () => [...this.#tables].flatMap(({ nodes }) => nodes),
      node: config.node,
      address: { host, port: this.#listening },
      registry,
      clock,
      ...(leaseMs === undefined ? {} : { leaseMs }),
      onChanged: (leader) => {
        this.#leader = leader;
        onLeader?.(leader);
      },
    });
    this.#lead.start();
  }

  /** The port that is listened to. */
  get port(): number | undefined {
    return this.#listening;
  }

  /**
   * Synchronises a table from now on. Undefined: it may be used at once. Else resolves once it may be: a led one when its followers of before have handed in what it lost, a followed one when
   * it is as new as its source; with false when it was closed before.
   */
  attach(table: HostTable): Promise<boolean> | undefined {
    const how = this.#byLease ? () => this.#leader : this.leads;
    const gone = (): void => void this.#tables.delete(sync);
    const sync = new SynchronisedTable(table, how, this.#options, this.#port, this.#sources, {
      gone,
      look: () => this.#tellLeadFault(),
      leadFault: () => this.#lead?.standingFault,
    });
    this.#tables.add(sync);
    table.sync = sync;
    return sync.usable;
  }

  /** Connections for a node in another thread of this process are passed on to its own port on this machine. */
  passOn(name: string, port: number): void {
    this.#port.passOn(name, { host: "127.0.0.1", port });
  }

  /** Before the tables are closed: whoever takes over gets what they hold. */
  async handOver(): Promise<void> {
    await this.#lead?.close();
  }

  /** Once for each: what keeps this server from leading or following by lease. */
  #tellLeadFault(): void {
    const fault = this.#lead?.fault?.message;
    if (fault === this.#toldFault) return;
    this.#toldFault = fault;
    if (fault !== undefined) this.#options.warn(`this server has no part in leading the parameter tables: ${fault}`);
  }

  async close(): Promise<void> {
    await this.handOver();
    await this.#port.close();
    await this.#options.registry?.close();
  }
}

/** What a table tells those who keep it. */
interface Told {
  /** It was closed. */
  gone(): void;
  /** Every `lookMs`. */
  look(): void;
  /** What keeps this server from leading and from knowing who does, until somebody acts. */
  leadFault(): MillraceError | undefined;
}

class SynchronisedTable implements TableSync {
  readonly usable: Promise<boolean> | undefined;
  /** Whether this server leads, for ever; or who does, by lease. */
  readonly #how: boolean | (() => Leader);
  readonly #name: string;
  readonly #told: Told;
  readonly #nodes: readonly SyncNode[];
  readonly #port: SyncPort;
  readonly #clock: Clock;
  readonly #renewAtMs: number;
  readonly #warn: (what: string) => void;
  /** What stood against each source when it was looked at last. */
  readonly #faults = new Map<string, string>();
  #lookAtMs: number;
  #renewNext = 0;
  #closed = false;

  constructor(table: HostTable, how: boolean | (() => Leader), options: HostSyncOptions, port: SyncPort, sources: readonly Address[], told: Told) {
    const { name, store, notes, epoch } = table;
    const { config, network, clock, random, times } = options;
    const { token, node } = config;
    const { seed, factors, initialScale } = store.initial;
    this.#how = how;
    this.#name = name;
    this.#told = told;
    this.#port = port;
    this.#clock = clock;
    this.#warn = (what) => options.warn(`parameter table ${name} follows ${what}`);
    this.#lookAtMs = clock.monotonicMs() + hostSyncLimits.lookMs;
    this.#renewAtMs = clock.monotonicMs() + hostSyncLimits.renewAfterMs;
    let followersWere = false;
    this.#nodes = store.shards.map((shard, s) => {
      const one = new SyncNode({
        table: shard,
        // What must be equal for rows to mean the same on both sides.
        name: `${name} ${s}/${store.shards.length} seed ${seed} initial ${factors} x ${initialScale}`,
        node,
        network,
        clock,
        random,
        ...(token === undefined ? {} : { token }),
        // Whoever writes to the table says so: `written`.
        times: { ...times, pollMs: 0 },
      });
      const note = notes[s];
      if (note !== undefined && note.length > noteHeadBytes) {
        if (note[0] === hadFollowers) followersWere = true;
        restorePlaces(one.replica, note.subarray(noteHeadBytes));
      }
      for (let bucket = 0; bucket < shard.buckets; bucket++) one.replica.adoptRows(bucket);
      return one;
    });
    for (const one of this.#nodes) {
      port.add(one);
      // By lease it is started once it knows whom to follow.
      if (typeof how !== "boolean") continue;
      if (how) {
        const groups = Array.from({ length: one.groups }, (_, group) => group);
        one.lead(groups, Math.max(epoch, ...groups.map((group) => one.knownEpoch(group) + 1)));
      } else one.addSource(sources, "all");
      one.start();
    }
    this.usable = how !== true ? this.#caughtUp() : followersWere ? this.#handedIn() : undefined;
  }

  get nodes(): readonly SyncNode[] {
    return this.#nodes;
  }

  get leads(): boolean {
    return typeof this.#how === "boolean" ? this.#how : this.#nodes.every((node) => node.takesAllWrites);
  }

  refusal(): MillraceError | undefined {
    if (typeof this.#how === "boolean" || this.leads) return undefined;
    const leader = this.#how();
    if (typeof leader === "object") {
      return new MillraceError("conflict", `parameter table ${this.#name} takes no writes here: ${leader.address} leads it`, { todo: "write to that server" });
    }
    const fault = this.#told.leadFault();
    if (fault !== undefined) {
      return new MillraceError(fault.code, `parameter table ${this.#name} takes no writes, ${fault.what}`, {
        cause: fault,
        ...(fault.todo === undefined ? {} : { todo: fault.todo }),
      });
    }
    return new MillraceError("unavailable", `parameter table ${this.#name} is changing hands`, { todo: "send again within two seconds" });
  }

  async #handedIn(): Promise<boolean> {
    const clock = this.#clock;
    const { followerWaitMs, quietMs, handInMsMax } = hostSyncLimits;
    const beganMs = clock.monotonicMs();
    let quietSinceMs = beganMs;
    let handedIn = 0;
    let followed = false;
    for (let nowMs = beganMs; !this.#closed && nowMs - beganMs < handInMsMax; nowMs = clock.monotonicMs()) {
      const metrics = this.#nodes.map((node) => node.metrics);
      const newer = metrics.reduce((sum, { entriesNewer }) => sum + entriesNewer, 0);
      const all = metrics.every(({ followers }) => followers.length > 0);
      if (newer !== handedIn || all !== followed) quietSinceMs = nowMs;
      handedIn = newer;
      followed = all;
      if (all ? nowMs - quietSinceMs >= quietMs : nowMs - beganMs >= followerWaitMs) break;
      await clock.sleep(readyLookMs);
    }
    return !this.#closed;
  }

  async #caughtUp(): Promise<boolean> {
    for (const node of this.#nodes) {
      while (!node.caughtUp && !this.#closed) await this.#clock.sleep(readyLookMs);
    }
    return !this.#closed;
  }

  /** Tombstones are collected by the nodes themselves, who know what followers hold. */
  collectUpTo(): Version {
    return noVersion;
  }

  collectHeld(shard: number, bucket: number, whoeverHolds?: boolean): void {
    this.#nodes[shard]!.collectHeld(bucket, whoeverHolds);
  }

  notes(shard: number): Uint8Array {
    const node = this.#nodes[shard]!;
    const places = encodePlaces(node.replica);
    const note = new Uint8Array(noteHeadBytes + places.length);
    // The last checkpoint of an orderly end has everything.
    note[0] = !this.#closed && node.metrics.followers.length > 0 ? hadFollowers : 0;
    note.set(places, noteHeadBytes);
    return note;
  }

  written(): void {
    for (const node of this.#nodes) node.kick();
  }

  swept(): void {
    this.written();
    const nowMs = this.#clock.monotonicMs();
    if (nowMs >= this.#lookAtMs) {
      this.#lookAtMs = nowMs + hostSyncLimits.lookMs;
      this.#tellFaults();
      this.#told.look();
    }
    if (!this.leads || nowMs < this.#renewAtMs) return;
    for (const node of this.#nodes) {
      const { buckets } = node.replica.vectors;
      for (let i = 0; i < hostSyncLimits.renewBuckets; i++) node.renewOldest((this.#renewNext + i) % buckets);
    }
    this.#renewNext += hostSyncLimits.renewBuckets;
  }

  /** Once for each: what keeps a source from being followed, and that it is again. */
  #tellFaults(): void {
    for (const { address, fault } of this.status().sources) {
      const before = this.#faults.get(address);
      if (fault === before) continue;
      if (fault === undefined) {
        this.#faults.delete(address);
        this.#warn(`${address} again`);
      } else {
        this.#faults.set(address, fault);
        this.#warn(`${address}, which does not go: ${fault}`);
      }
    }
  }

  status(): ParameterSyncStatus {
    const fault = this.#told.leadFault();
    if (fault === undefined) return syncStatusOf(this.#nodes);
    return { ...syncStatusOf(this.#nodes), leadFault: fault.message, leadNeeds: { code: fault.code, todo: fault.todo ?? "see the server's log" } };
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#told.gone();
    for (const node of this.#nodes) {
      this.#port.remove(node);
      await node.close();
    }
  }
}

/** Before the places in a checkpoint's note. */
const noteHeadBytes = 1;
const hadFollowers = 1;
const readyLookMs = 10;
