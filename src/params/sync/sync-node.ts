// One node of a synchronised table: takes the writes of the buckets that it leads, follows the nodes it was told to, and passes on to those that follow it.
// Protocol and reasons: docs/design/param-sync.md; bytes: docs/format/parameter-sync.md; rules of vectors: bucket-replica.ts; cursors: push-cursor.ts.
//
// Invariants: 1. a push leaves as soon as something changed and no push to that follower is unanswered, small ones `paceMs` apart; what changes meanwhile waits in
//                its cursor, each key once
//             2. a node is ready when every source has sent its load and a comparison with each came out well; a load begun anew takes that back
//             3. writes are taken only for led buckets, and only while the lease that was handed in holds
//             4. every connection has deadlines: of its greeting, of silence, of an unanswered push.
// Cost: docs/design/param-sync.md. Concurrency: one thread, the table's. Limits: `syncLimits`.

import { MillraceError, toMillraceError } from "#base/errors";
import type { Prng } from "#base/prng";
import type { Clock, Timer } from "#platform/clock";
import type { Connection, Listener, Network } from "#platform/network";
import {
  compareVersions,
  counterOf,
  EntryBatch,
  epochOf,
  lastVersion,
  noVersion,
  type SyncTable,
  type Version,
  versionLimits,
  versionOf,
} from "../sync-table.ts";
import { BucketReplica, Outcome, type ReplicaCounters } from "./bucket-replica.ts";
import { frameBytesMin, PushCursor } from "./push-cursor.ts";
import {
  type Bounds,
  type BucketSummary,
  type BucketVector,
  frameBytesMax,
  type FrameReader,
  frameTypes,
  type Hello,
  type Lead,
  placeOfVersion,
  type Pull,
  Push,
  type Summary,
  type Sums,
  type VectorFrame,
  type Want,
  wants,
} from "./sync-frames.ts";
import { type LinkEvents, SyncLink } from "./sync-link.ts";
import { stretchesMax } from "./version-vectors.ts";

export const syncLimits = {
  bucketsMax: 16_384,
  /** Connections of followers. */
  followersMax: 64,
  sourcesMax: 64,
  /** Frames of one push: 256 KiB are under way to a follower at most. */
  pushFramesMax: 4,
  /** Groups of buckets that one comparison looks into at once. */
  groupsComparedMax: 8,
} as const;

export interface Address {
  readonly host: string;
  readonly port: number;
}

export interface SyncTimes {
  /** Upper bound between a write that told nobody (straight to the table) and its push; 0: such writes are followed by `kick`. Default 2. */
  readonly pollMs: number;
  /** Between a push of few rows and the next one to that follower; 0: none. Default 1. */
  readonly paceMs: number;
  /** Default 500; a peer silent for three of them is given up. */
  readonly beatMs: number;
  /** A comparison with each source between half and one and a half of it. Default 4,000. */
  readonly compareMs: number;
  /** Of connecting and greeting. Default 1,000. */
  readonly greetMs: number;
  /** An unanswered push ends the connection. Default 5,000. */
  readonly answerMs: number;
  /** First wait before connecting again; doubles up to 20 times that. Default 50. */
  readonly retryMs: number;
  /** From taking a bucket over to its first write: time for the others to hand in what they hold. Default 100. */
  readonly takeOverMs: number;
  /** A tombstone that every follower holds is collected after it. Default 5,000. */
  readonly collectMs: number;
  /** A tombstone is collected after it, whoever holds it; who was away longer loads anew. Default 600,000. */
  readonly graceMs: number;
  /** A source that is behind by more does not make ready. Default 1,000. */
  readonly readyAgeMs: number;
  /** A source that is behind, or not heard, for longer takes `ready` back until it is below `readyAgeMs` again. Default 10,000. */
  readonly staleMs: number;
  /** From falling back to a second address to trying the first one again, and between tries. Default 10,000. */
  readonly returnMs: number;
  /** First wait before following again after a refusal (doubles up to 4 times that), or after this table was found full (up to 32 times). Default 1,000. */
  readonly slowRetryMs: number;
}

export const syncTimesDefault: SyncTimes = {
  pollMs: 2,
  paceMs: 1,
  beatMs: 500,
  compareMs: 4_000,
  greetMs: 1_000,
  answerMs: 5_000,
  retryMs: 50,
  takeOverMs: 100,
  collectMs: 5_000,
  graceMs: 600_000,
  readyAgeMs: 1_000,
  staleMs: 10_000,
  returnMs: 10_000,
  slowRetryMs: 1_000,
};

export interface SyncNodeOptions {
  /** Whose rows may be read by anybody at any time; written only through this node, or followed by `kick`. */
  readonly table: SyncTable;
  /** Of the table and shard; must be the same at all nodes. */
  readonly name: string;
  /** 0 to 255, its own at each node. */
  readonly node: number;
  readonly network: Network;
  readonly clock: Clock;
  readonly random: Prng;
  readonly token?: string;
  readonly times?: Partial<SyncTimes>;
  /** Bytes a second of first copies, all followers together. Default 64 MiB. */
  readonly loadBytesPerS?: number;
  /** Of a frame at most, up to 65,536 (default); must hold some rows. Smaller ones let a slow connection answer earlier. */
  readonly frameBytes?: number;
  /** After a push was joined. Must not throw. */
  readonly onJoined?: (push: Push) => void;
  /** Somebody leads buckets of this node in a higher epoch, and this node has stopped to. May lead anew at once. Must not throw. */
  readonly onOvertaken?: () => void;
}

export interface SyncMetrics extends ReplicaCounters {
  readonly ready: boolean;
  pushesOut: number;
  pushesIn: number;
  entriesOut: number;
  bytesOut: number;
  bytesIn: number;
  comparisons: number;
  /** Buckets with equal vectors and different digests: a defect, damaged memory, or what a fail-over in the middle of a push leaves. */
  digestMismatches: number;
  /** Entries of equal version and different bytes. */
  readonly conflicts: number;
  readonly ledBuckets: number;
  readonly followers: readonly FollowerMetrics[];
  readonly sources: readonly SourceMetrics[];
  /** Connections that ended for frames that could not be believed. */
  corruptFrames: number;
  /** Times that this table had no room for what a source sent. */
  tableFull: number;
  /** Connections that were refused for `followersMax`. */
  followersRefused: number;
  /** Times that `ready` was taken back since a source was behind. */
  turnedStale: number;
}

export interface FollowerMetrics {
  readonly node: number;
  /** Age of the oldest change that it has not acknowledged. */
  readonly lagMs: number;
  readonly waitingBuckets: number;
  readonly loadBuckets: number;
}

export interface SourceMetrics {
  readonly address: string;
  readonly connected: boolean;
  readonly compared: boolean;
  /** What the source last said about the oldest change it had not passed on to this node. */
  readonly ageMs: number;
  /** Since the source was heard last: this copy may be behind by so much and `ageMs`. */
  readonly silentMs: number;
  /** Why the connection before ended or could not be made, and what to do; undefined once the source has been compared with. */
  readonly fault: MillraceError | undefined;
}

interface Peer {
  readonly link: SyncLink;
  readonly source: Source | undefined;
  greeted: boolean;
  readonly sinceMs: number;
  hello: Hello | undefined;
  /** What the other side wants pushed. */
  want: Want;
  cursor: PushCursor | undefined;
  /** Its vectors have come whole. */
  begun: boolean;
  heardMs: number;
  saidMs: number;
  pushMs: number;
  /** The last push carried few rows. */
  small: boolean;
  /** Why a push from there could not be joined. */
  full: MillraceError | undefined;
  readonly boundsDue: Set<number>;
  /** Groups taken over of which its vectors have not come. */
  readonly awaited: Set<number>;
  /** Groups that the other side leads. */
  readonly leads: Set<number>;
  // As a source of this node:
  loaded: boolean;
  ageMs: number;
  /** It has said how old what it sent is. Before, a connection says nothing: a process that stands still accepts them, too. */
  aged: boolean;
  compared: boolean;
  compareAtMs: number;
  comparedMs: number;
  /** Frames of a comparison that have not come; groups to be looked into after them. */
  outstanding: number;
  groupsLeft: number[];
  passClean: boolean;
  passAfterLoad: boolean;
  passAll: boolean;
  comparisons: number;
  /** The push that is coming in, and one bit for each of its frames that has come. */
  pushId: number;
  parts: number;
  /** Buckets of the push that is coming in that are to be told in its answer. */
  readonly problems: Set<number>;
}

interface Source {
  readonly addresses: readonly Address[];
  readonly want: Want;
  at: number;
  peer: Peer | undefined;
  /** Of the last connection that said its age, and when it was heard last. */
  ageMs: number;
  heardMs: number;
  /** Connections in a row that ended before a comparison came out well, and those of them after which trying soon does not help: this table is full, or it was refused. */
  tries: number;
  slowTries: number;
  fault: MillraceError | undefined;
  timer: Timer | undefined;
  /** A second connection, to the first address, while another one is followed: it takes over once it has been compared with. */
  trial: Peer | undefined;
  /** When to try the first address again. */
  returnAtMs: number;
  removed: boolean;
}

const refusedTriesMax = 3;
const noVectors: readonly BucketVector[] = [];
const dirtyChunk = 512;
/** A push of fewer rows is small: its system calls and its answer cost more than its rows. */
const smallPushRows = 32;
/** Timers go in whole milliseconds: a push may leave so much before its time, rather than one later. */
const paceSlackMs = 0.5;
/** Rows that one tick walks to collect tombstones: about a millisecond. */
const collectRowsMax = 4_096;
/** Between comparisons of a node that is not ready. */
const comparePauseMs = 100;
/** A fail-over takes some beats; after more of them without a leader it is told. */
const leaderlessBeats = 4;
/** Among the sources, where no server stands for it. */
const leaderAddress = "whoever leads";
const noLeader = new MillraceError("unavailable", "no server that leads is followed here", {
  todo: "look whether the servers reach the registry and each other, and have each a number (`node`) of its own",
});
const itself = "it follows itself";

export class SyncNode {
  readonly replica: BucketReplica;
  readonly node: number;
  readonly name: string;
  /** Buckets go into so many groups, `bucketsPerGroup` neighbours each: what is led and compared together. */
  readonly groups: number;
  readonly bucketsPerGroup: number;
  readonly #table: SyncTable;
  readonly #clock: Clock;
  readonly #network: Network;
  readonly #random: Prng;
  readonly #token: string;
  readonly #times: SyncTimes;
  readonly #loadBytesPerS: number;
  readonly #frameBytes: number;
  readonly #onJoined: ((push: Push) => void) | undefined;
  readonly #onOvertaken: (() => void) | undefined;
  readonly #life: number;
  readonly #peers = new Set<Peer>();
  readonly #sources = new Map<string, Source>();
  readonly #pushOut: Push;
  readonly #pushIn: Push;
  readonly #outcome = new Outcome();
  readonly #dirty = new Uint32Array(dirtyChunk);
  readonly #term = new Uint32Array(2);
  readonly #ledSinceMs: Float64Array;
  /** From when on writes of a group are taken, Infinity: not led. */
  readonly #ledFromMs: Float64Array;
  /** The last epoch in which this node led a group. */
  readonly #ownEpoch: Uint16Array;
  /** Since when no source leads what others lead, undefined: every group is led here, or by a source. */
  #leaderlessMs: number | undefined;
  /** Some source was added for what it leads. */
  #followsLeaders = false;
  /** What was held of buckets when this node took them. */
  readonly #taken = new Map<number, BucketVector>();
  readonly #strikes = new Set<number>();
  /** Buckets with tombstones of led groups: what was their newest version, and since when. */
  readonly #collectable = new Map<number, { upTo: Version; sinceMs: number }>();
  /** Followers that went: when, by node. */
  readonly #goneMs = new Map<number, number>();
  #listener: Listener | undefined;
  #ticks: Timer | undefined;
  #pace: Timer | undefined;
  #polls: Timer | undefined;
  #closed = false;
  #ready = false;
  #stale = false;
  #readyWaiters: (() => void)[] = [];
  #loadBudget: number;
  #loadAtMs: number;
  #pushNumber = 0;
  #collectNext = 0;
  /** The last bucket that began anew for want of room. */
  #roomNext = 0;
  #leaseUntilMs = Infinity;
  readonly #counts = {
    pushesOut: 0,
    pushesIn: 0,
    entriesOut: 0,
    bytesOut: 0,
    bytesIn: 0,
    comparisons: 0,
    digestMismatches: 0,
    corruptFrames: 0,
    tableFull: 0,
    followersRefused: 0,
    turnedStale: 0,
  };

  constructor(options: SyncNodeOptions) {
    const { table } = options;
    if (table.buckets > syncLimits.bucketsMax || (table.buckets & (table.buckets - 1)) !== 0) {
      throw new MillraceError("invalid", `table ${options.name} has ${table.buckets} buckets`, { todo: `take a power of two up to ${syncLimits.bucketsMax}` });
    }
    if (!(Number.isInteger(options.node) && options.node >= 0 && options.node <= 255)) {
      throw new MillraceError("invalid", `node number ${options.node}`, { todo: "take 0 to 255, another one at each node" });
    }
    this.#table = table;
    this.node = options.node;
    this.replica = new BucketReplica(table, options.node);
    this.groups = Math.min(64, table.buckets);
    this.bucketsPerGroup = table.buckets / this.groups;
    this.#ledSinceMs = new Float64Array(this.groups);
    this.#ledFromMs = new Float64Array(this.groups).fill(Infinity);
    this.#ownEpoch = new Uint16Array(this.groups);
    this.name = options.name;
    this.#clock = options.clock;
    this.#network = options.network;
    this.#random = options.random;
    this.#token = options.token ?? "";
    this.#times = { ...syncTimesDefault, ...options.times };
    this.#loadBytesPerS = options.loadBytesPerS ?? 64 * 2 ** 20;
    this.#frameBytes = Math.min(frameBytesMax, options.frameBytes ?? frameBytesMax);
    if (this.#frameBytes < frameBytesMin(table.dim)) {
      throw new MillraceError("invalid", `frames of ${this.#frameBytes} bytes for rows of ${table.dim} numbers`, { todo: `allow ${frameBytesMin(table.dim)}` });
    }
    this.#loadBudget = this.#loadBytesPerS / 10;
    this.#loadAtMs = this.#clock.monotonicMs();
    this.#onJoined = options.onJoined;
    this.#onOvertaken = options.onOvertaken;
    this.#life = this.#random.u32();
    this.#pushOut = new Push(new EntryBatch(table.dim));
    this.#pushIn = new Push(new EntryBatch(table.dim));
  }

  // ---- life -----------------------------------------------------------------------------------------------------------------------

  /** Takes followers. Returns the port. */
  async listen(address: Address): Promise<number> {
    this.#listener = await this.#network.listen(address, (connection) => this.#accept(connection));
    return this.#listener.port;
  }

  /**
   * Follows the node at the first of the addresses that answers; when it falls silent, the next. `led`: only what it leads (nodes that all follow each other);
   * `all`: everything it holds (a tree).
   */
  addSource(addresses: readonly Address[], want: "led" | "all"): void {
    const name = nameOf(addresses);
    if (this.#sources.has(name) || this.#closed) return;
    if (this.#sources.size >= syncLimits.sourcesMax) {
      throw new MillraceError("invalid", `more than ${syncLimits.sourcesMax} sources`, { todo: "follow fewer nodes, or one that passes on" });
    }
    const source: Source = {
      addresses,
      want: wants[want],
      at: 0,
      peer: undefined,
      ageMs: 0,
      heardMs: this.#clock.monotonicMs(),
      tries: 0,
      slowTries: 0,
      fault: undefined,
      timer: undefined,
      trial: undefined,
      returnAtMs: Infinity,
      removed: false,
    };
    this.#sources.set(name, source);
    if (want === "led") this.#followsLeaders = true;
    void this.#connect(source);
  }

  /** After the first sources were added: from now on this node is kept in time, and becomes ready (without sources at once). */
  start(): void {
    if (this.#ticks !== undefined || this.#closed) return;
    this.#tick();
    this.#poll();
    this.#judgeReady();
  }

  removeSource(addresses: readonly Address[]): void {
    const source = this.#sources.get(nameOf(addresses));
    if (source === undefined) return;
    this.#sources.delete(nameOf(addresses));
    source.removed = true;
    source.timer?.cancel();
    source.peer?.link.close();
    source.trial?.link.close();
    this.#judgeReady();
  }

  /**
   * Whether every source that it was started with has been loaded from and compared with (sources that are added later change nothing), and none of them has been
   * behind or silent for `staleMs` since.
   */
  get ready(): boolean {
    return this.#ready && !this.#stale;
  }

  /** As `ready`, however old what is held may be by now: what a node has to be that takes a bucket over. */
  get caughtUp(): boolean {
    return this.#ready;
  }

  /** Resolves when ready; rejects with `timeout`. */
  async whenReady(timeoutMs: number): Promise<void> {
    if (this.ready) return;
    await new Promise<void>((resolve, reject) => {
      const timer = this.#clock.after(timeoutMs, () =>
        reject(
          new MillraceError("timeout", `table ${this.name} was not caught up within ${timeoutMs} ms`, {
            todo: "look at the metrics of its sources: connected, compared, age",
          }),
        ),
      );
      this.#readyWaiters.push(() => {
        timer.cancel();
        resolve();
      });
    });
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#ticks?.cancel();
    this.#polls?.cancel();
    this.#pace?.cancel();
    for (const source of this.#sources.values()) source.timer?.cancel();
    for (const peer of [...this.#peers]) peer.link.close();
    await this.#listener?.close();
  }

  get metrics(): SyncMetrics {
    const now = this.#clock.monotonicMs();
    const bytes = { out: this.#counts.bytesOut, in: this.#counts.bytesIn };
    const followers: FollowerMetrics[] = [];
    for (const peer of this.#peers) {
      bytes.out += peer.link.bytesOut;
      bytes.in += peer.link.bytesIn;
      if (peer.want === wants.nothing || peer.cursor === undefined || !peer.begun) continue;
      const { cursor } = peer;
      followers.push({ node: peer.hello!.node, lagMs: cursor.ageMs(now), waitingBuckets: cursor.liveBuckets, loadBuckets: cursor.loadBuckets });
    }
    const sources = [...this.#sources.values()].map((source): SourceMetrics => {
      const { host, port } = source.addresses[source.at]!;
      const { peer } = source;
      const { ageMs, heardMs } = peer?.aged === true ? peer : source;
      return {
        address: `${host}:${port}`,
        connected: peer?.greeted === true,
        compared: peer?.compared === true,
        ageMs,
        silentMs: now - heardMs,
        fault: source.fault,
      };
    });
    if (this.#leaderlessMs !== undefined && now - this.#leaderlessMs > leaderlessBeats * this.#times.beatMs) {
      sources.push({ address: leaderAddress, connected: false, compared: false, ageMs: 0, silentMs: now - this.#leaderlessMs, fault: noLeader });
    }
    let ledBuckets = 0;
    for (const epoch of this.replica.ledEpoch) if (epoch !== 0) ledBuckets++;
    return {
      ...this.replica.counters,
      ...this.#counts,
      bytesOut: bytes.out,
      bytesIn: bytes.in,
      conflicts: this.#table.conflicts,
      ready: this.ready,
      ledBuckets,
      followers,
      sources,
    };
  }

  // ---- leading --------------------------------------------------------------------------------------------------------------------

  groupOf(bucket: number): number {
    return Math.floor(bucket / this.bucketsPerGroup);
  }

  leads(group: number): boolean {
    return this.replica.ledEpoch[group * this.bucketsPerGroup] !== 0;
  }

  /** The highest epoch heard of in a group: who takes it must come with a higher one. */
  knownEpoch(group: number): number {
    let known = 0;
    const first = group * this.bucketsPerGroup;
    for (let bucket = first; bucket < first + this.bucketsPerGroup; bucket++) known = Math.max(known, this.replica.knownEpoch[bucket]!);
    return known;
  }

  /** Takes the writes of groups in an epoch that a lock or an operator gave out once. Throws `conflict` when a higher one, or the same, is known. */
  lead(groups: readonly number[], epoch: number): void {
    for (const group of groups) {
      if (this.knownEpoch(group) >= epoch) {
        throw new MillraceError("conflict", `epoch ${epoch} of group ${group} of table ${this.name}: epoch ${this.knownEpoch(group)} is known`, {
          todo: "take a higher epoch",
        });
      }
    }
    const alone = this.#peers.size === 0;
    const fromMs = this.#clock.monotonicMs() + (alone ? 0 : this.#times.takeOverMs);
    for (const group of groups) {
      const first = group * this.bucketsPerGroup;
      for (let bucket = first; bucket < first + this.bucketsPerGroup; bucket++) {
        this.#taken.set(bucket, { bucket, stretches: this.replica.vectors.stretches(bucket) });
        this.replica.lead(bucket, epoch);
      }
      this.#ownEpoch[group] = epoch;
      this.#ledFromMs[group] = fromMs;
      this.#ledSinceMs[group] = this.#clock.monotonicMs();
    }
    for (const peer of this.#peers) {
      this.#tellLead(peer, groups);
      // Whoever holds more than this node, hands it in before the first write.
      if (peer.source !== undefined && peer.greeted) this.#lookInto(peer, groups);
    }
  }

  /** Takes no more writes of these groups. */
  unlead(groups: readonly number[]): void {
    for (const group of groups) {
      const first = group * this.bucketsPerGroup;
      for (let bucket = first; bucket < first + this.bucketsPerGroup; bucket++) this.replica.unlead(bucket);
      this.#ledFromMs[group] = Infinity;
    }
  }

  /** Writes are refused from then on (monotonic time): what the lease behind the leadership is known to hold until. */
  set leaseUntilMs(untilMs: number) {
    this.#leaseUntilMs = untilMs;
  }

  /** Whether a write of the bucket would be taken now. */
  takesWrites(bucket: number): boolean {
    const now = this.#clock.monotonicMs();
    return this.replica.ledEpoch[bucket] !== 0 && now < this.#leaseUntilMs && now >= this.#ledFromMs[this.groupOf(bucket)]!;
  }

  /** Whether writes of every bucket would be taken now. */
  get takesAllWrites(): boolean {
    const now = this.#clock.monotonicMs();
    if (now >= this.#leaseUntilMs) return false;
    // Of a group that is not led it is Infinity.
    for (let group = 0; group < this.groups; group++) if (now < this.#ledFromMs[group]!) return false;
    return true;
  }

  /** What was held of a bucket when this node took it over. */
  takenFrom(bucket: number): BucketVector | undefined {
    return this.#taken.get(bucket);
  }

  // ---- writing --------------------------------------------------------------------------------------------------------------------

  /** Sets rows; returns how many were refused. Throws `unavailable` when this node does not take the writes of one of them; then none is written. */
  assign(keys: Uint32Array, count: number, values: Float32Array): number {
    const now = this.#checkLed(keys, count);
    const refused = this.#table.assign(keys, count, values, this.#nowS());
    this.#kick(now);
    return refused;
  }

  /** Adds to rows, as `assign`. */
  add(keys: Uint32Array, count: number, deltas: Float32Array): number {
    const now = this.#checkLed(keys, count);
    const refused = this.#table.add(keys, count, deltas, this.#nowS());
    this.#kick(now);
    return refused;
  }

  /** Deletes rows, as `assign`; returns how many there were. */
  delete(keys: Uint32Array, count: number): number {
    const now = this.#checkLed(keys, count);
    const deleted = this.#table.delete(keys, count);
    this.#kick(now);
    return deleted;
  }

  /** Removes rows of a led bucket that were last touched before `beforeS`, here and at every follower, without tombstones. Looks only at the oldest writes. */
  expireUntouched(bucket: number, beforeS: number): number {
    if (!this.takesWrites(bucket)) return 0;
    const batch = new EntryBatch(this.#table.dim);
    let upTo = noVersion;
    let whole = false;
    let more = true;
    while (more && !whole) {
      batch.clear();
      whole = this.#table.changes(bucket, upTo, this.#table.newest(bucket), 64, batch);
      for (let i = 0; i < batch.count && more; i++) {
        if (batch.touched[i]! >= beforeS) more = false;
        else upTo = batch.versionAt(i);
      }
      if (batch.count === 0) break;
    }
    if (compareVersions(upTo, this.replica.expiredTo(bucket)) <= 0) return 0;
    const before = this.replica.counters.expired;
    this.#bounded({ bucket, collected: noVersion, expired: upTo });
    this.#pumpAll(this.#clock.monotonicMs());
    return this.replica.counters.expired - before;
  }

  /**
   * A vector holds eight origins, and each start of a leader is one: what a led bucket still has of its oldest ones is written anew, before they fall out of vectors and a new
   * follower would not be sent it. For all buckets in turn, a minute after the start (others may have to hand in what this node lost). Returns how many rows that were.
   */
  renewOldest(bucket: number): number {
    const { vectors } = this.replica;
    if (vectors.olderOf(bucket).length < stretchesMax - 2 || !this.takesWrites(bucket)) return 0;
    const kept = vectors.stretches(bucket).at(-3)!.origin >>> 8;
    const upTo = versionOf(kept, 0, 0);
    const { renewed, dead } = this.#restamp(bucket, upTo);
    if (compareVersions(dead, this.replica.collectedTo(bucket)) > 0) this.#bounded({ bucket, collected: dead, expired: noVersion });
    if (renewed > 0) this.kick();
    return renewed;
  }

  /** The highest epoch heard of in any group. */
  get highestEpoch(): number {
    return this.replica.knownEpoch.reduce((highest, epoch) => Math.max(highest, epoch), 0);
  }

  /**
   * Of a table that this node alone ever writes: leads all of it in `epoch`, and what stands in it now is all there is. Every row gets a new version, in the order of the old ones; whatever
   * followers hold of earlier epochs is not taken, also what this node has lost or taken back: they begin each bucket anew, one after the other, each in one step. Calls it when it starts, or
   * when rows were set back. Throws as `lead`. About a microsecond a row.
   */
  startOver(epoch: number): void {
    this.lead(
      Array.from({ length: this.groups }, (_, group) => group),
      epoch,
    );
    const { counterMax } = versionLimits;
    // Everything of the epochs before counts as held here: nobody has more to offer.
    const behind = Array.from({ length: Math.min(stretchesMax, epoch - 1) }, (_, i) => ({ origin: (epoch - 1 - i) * 256 + this.node, counter: counterMax }));
    const collected = versionOf(epoch - 1, counterMax, this.node);
    const origin = epoch * 256 + this.node;
    for (let bucket = 0; bucket < this.#table.buckets; bucket++) {
      this.#restamp(bucket, versionOf(epoch, 0, 0));
      const newest = placeOfVersion(this.#table.newest(bucket));
      this.replica.vectors.replace(bucket, newest.origin === origin ? [...behind, newest] : behind);
      if (epoch > 1) this.#bounded({ bucket, collected, expired: noVersion });
    }
    const now = this.#clock.monotonicMs();
    for (let bucket = 0; bucket < this.#table.buckets; bucket++) this.#changed(bucket, now);
    this.#kick(now);
  }

  /** Writes the rows of a led bucket up to a version anew, in their order. Returns how many, and the last of the tombstones among them. */
  #restamp(bucket: number, upTo: Version): { renewed: number; dead: Version } {
    const batch = new EntryBatch(this.#table.dim);
    const { dim } = batch;
    let after = noVersion;
    let dead = noVersion;
    let renewed = 0;
    for (let whole = false; !whole;) {
      batch.clear();
      whole = this.#table.changes(bucket, after, upTo, 256, batch);
      for (let i = 0; i < batch.count; i++) {
        after = batch.versionAt(i);
        if (batch.isTombstone(i)) {
          dead = after;
          continue;
        }
        this.#table.assign(batch.keys.subarray(2 * i, 2 * i + 2), 1, batch.values.subarray(i * dim, (i + 1) * dim), batch.touched[i]!);
        renewed++;
      }
    }
    return { renewed, dead };
  }

  /** Rows of a led bucket left the table without a tombstone, those written longest ago: they leave every follower too. Pushed with the next `kick`. */
  rowsLeft(bucket: number): void {
    const batch = new EntryBatch(this.#table.dim);
    this.#table.changes(bucket, noVersion, lastVersion, 1, batch);
    const oldest = batch.count === 0 ? undefined : batch.versionAt(0);
    const expired = oldest === undefined ? this.#table.newest(bucket) : versionOf(epochOf(oldest), counterOf(oldest) - 1, versionLimits.nodeMax);
    this.#bounded({ bucket, collected: noVersion, expired });
  }

  /** After writes straight to the table: pushes what changed. */
  kick(): void {
    this.#kick(this.#clock.monotonicMs());
  }

  #kick(now: number): void {
    for (;;) {
      const taken = this.#table.takeDirty(this.#dirty);
      for (let i = 0; i < taken; i++) {
        const bucket = this.#dirty[i]!;
        if (this.replica.stamped(bucket)) this.#changed(bucket, now);
      }
      if (taken < dirtyChunk) break;
    }
    this.#pumpAll(now);
  }

  #nowS(): number {
    return Math.floor(this.#clock.nowMs() / 1000);
  }

  /** Returns the time. */
  #checkLed(keys: Uint32Array, count: number): number {
    const now = this.#clock.monotonicMs();
    const { ledEpoch } = this.replica;
    const inLease = now < this.#leaseUntilMs;
    for (let i = 0; i < count; i++) {
      const bucket = this.#table.bucketOf(keys[2 * i]!, keys[2 * i + 1]!);
      if (inLease && ledEpoch[bucket] !== 0 && now >= this.#ledFromMs[this.groupOf(bucket)]!) continue;
      throw new MillraceError("unavailable", `node ${this.node} does not take writes of bucket ${bucket} of table ${this.name}`, {
        todo: "send them to the node that leads it; after a fail-over try again within two seconds",
      });
    }
    return now;
  }

  /** A bucket's vector rose: every follower that wants it is due a push. */
  #changed(bucket: number, nowMs: number): void {
    for (const peer of this.#peers) if (peer.begun && this.#wantedBy(peer, bucket)) peer.cursor!.mark(bucket, nowMs);
  }

  #wantedBy(peer: Peer, bucket: number): boolean {
    if (peer.want === wants.all) return true;
    if (peer.want !== wants.led || this.replica.ledEpoch[bucket] === 0) return false;
    return peer.awaited.size === 0 || !peer.awaited.has(this.groupOf(bucket));
  }

  #bounded(bounds: Bounds): void {
    if (!this.replica.takeBounds(bounds)) return;
    for (const peer of this.#peers) if (peer.begun) peer.boundsDue.add(bounds.bucket);
  }

  // ---- pushing --------------------------------------------------------------------------------------------------------------------

  #pumpAll(now: number): void {
    for (const peer of this.#peers) this.#pump(peer, now);
  }

  #pump(peer: Peer, now: number): void {
    const { link, cursor } = peer;
    if (cursor === undefined || !link.writable) return;
    if (peer.boundsDue.size > 0) this.#tellBounds(peer);
    if (cursor.underWay !== 0 || (cursor.liveBuckets === 0 && cursor.loadBuckets === 0)) return;
    if (this.#paced(peer, now)) return;
    let budget = cursor.loadBuckets === 0 ? 0 : this.#loadBudgetAt(now);
    if (cursor.liveBuckets === 0 && budget <= 0) return;
    this.#pushNumber = (this.#pushNumber % 0xffff_ffff) + 1;
    cursor.start(this.#pushNumber);
    const push = this.#pushOut;
    let entries = 0;
    for (let frame = 1; ; frame++) {
      const loads = cursor.liveBuckets === 0;
      const bytes = cursor.build(push, budget);
      if (loads) {
        budget -= bytes;
        this.#loadBudget -= bytes;
      }
      if (push.sections === 0 && frame === 1) return cursor.abandon();
      push.id = cursor.underWay;
      push.part = frame - 1;
      push.last = frame === syncLimits.pushFramesMax || (cursor.liveBuckets === 0 && (cursor.loadBuckets === 0 || budget <= 0));
      push.loaded = this.#wholeFor(peer);
      push.ageUs = this.#ageUsFor(peer, now);
      link.send((writer) => writer.push(push));
      entries += push.entries.count;
      if (push.last) break;
    }
    this.#counts.entriesOut += entries;
    peer.small = entries < smallPushRows;
    this.#counts.pushesOut++;
    peer.pushMs = peer.saidMs = now;
  }

  /** True when the push before was small and so young that this one would be, too: it leaves a moment later and carries more. Never after a pause. */
  #paced(peer: Peer, now: number): boolean {
    const { paceMs } = this.#times;
    if (!peer.small || now - peer.pushMs >= paceMs - paceSlackMs) return false;
    this.#pace ??= this.#clock.after(
      paceMs - (now - peer.pushMs),
      () => {
        this.#pace = undefined;
        this.#pumpAll(this.#clock.monotonicMs());
      },
      { background: true },
    );
    return true;
  }

  #loadBudgetAt(now: number): number {
    this.#loadBudget = Math.min(this.#loadBytesPerS / 10, this.#loadBudget + ((now - this.#loadAtMs) * this.#loadBytesPerS) / 1000);
    this.#loadAtMs = now;
    return this.#loadBudget;
  }

  #tellBounds(peer: Peer): void {
    const due = [...peer.boundsDue];
    peer.boundsDue.clear();
    for (let at = 0; at < due.length; at += 2_000) {
      const bounds = due.slice(at, at + 2_000).map((bucket) => this.replica.bounds(bucket));
      peer.link.send((writer) => writer.bounds(bounds));
    }
  }

  #tellLead(peer: Peer, groups: readonly number[]): void {
    if (!peer.greeted || groups.length === 0) return;
    const taken: BucketVector[] = [];
    const led = groups.map((group) => {
      const first = group * this.bucketsPerGroup;
      for (let bucket = first; bucket < first + this.bucketsPerGroup; bucket++) {
        const before = this.#taken.get(bucket);
        const reader = peer.hello!.node;
        // Only who led it before has something to learn from it.
        if (before !== undefined && before.stretches.at(-1) !== undefined && (before.stretches.at(-1)!.origin & 255) === reader) taken.push(before);
        else if (before !== undefined && before.stretches.length === 0) taken.push(before);
      }
      if (peer.want === wants.led && peer.begun) peer.awaited.add(group);
      return { group, epoch: this.replica.ledEpoch[first]! };
    });
    // A thousand vectors fit a frame.
    for (let at = 0; at === 0 || at < taken.length; at += 1_000) {
      const part: Lead = { node: this.node, groups: at === 0 ? led : [], taken: taken.slice(at, at + 1_000) };
      peer.link.send((writer) => writer.lead(part));
    }
  }

  /** All vectors of this node, in as many frames as they take. */
  #tellVectors(peer: Peer, buckets: Iterable<number>, all: boolean): void {
    const { vectors } = this.replica;
    let part: BucketVector[] = [];
    let first = true;
    const send = (more: boolean): void => {
      const frame: VectorFrame = { push: 0, all: all && first, more, torn: false, vectors: part };
      first = false;
      part = [];
      peer.link.send((writer) => writer.vector(frame));
    };
    for (const bucket of buckets) {
      if (all && vectors.isEmpty(bucket)) continue;
      if (part.length === 600) send(true);
      part.push({ bucket, stretches: vectors.stretches(bucket) });
    }
    if (all || part.length > 0) send(false);
  }

  // ---- connections ----------------------------------------------------------------------------------------------------------------

  async #connect(source: Source): Promise<void> {
    if (source.removed || this.#closed) return;
    const address = source.addresses[source.at]!;
    try {
      const connection = await this.#network.connect(address, { timeoutMs: this.#times.greetMs });
      if (source.removed || this.#closed) return connection.close();
      const peer = this.#peer(connection, source);
      source.peer = peer;
      source.returnAtMs = source.at === 0 ? Infinity : this.#returnAt();
      this.#greet(peer, source.want);
    } catch (thrown) {
      source.fault = toMillraceError(thrown);
      this.#retry(source);
    }
  }

  #retry(source: Source): void {
    source.peer = undefined;
    if (source.removed || this.#closed) return;
    source.at = (source.at + 1) % source.addresses.length;
    source.tries++;
    const { retryMs, slowRetryMs } = this.#times;
    const baseMs = source.slowTries > 0 ? slowRetryMs * 2 ** Math.min(5, source.slowTries - 1) : retryMs * Math.min(20, 2 ** Math.min(5, source.tries - 1));
    source.timer = this.#clock.after(baseMs * (0.5 + this.#random.float()), () => void this.#connect(source), { background: true });
  }

  #returnAt(): number {
    return this.#clock.monotonicMs() + this.#times.returnMs * (0.5 + this.#random.float());
  }

  /** Follows the first address beside the one that is followed; what both send is joined. */
  async #tryFirst(source: Source): Promise<void> {
    source.returnAtMs = this.#returnAt();
    try {
      const connection = await this.#network.connect(source.addresses[0]!, { timeoutMs: this.#times.greetMs });
      if (source.removed || this.#closed || source.at === 0 || source.trial !== undefined) return connection.close();
      source.trial = this.#peer(connection, source);
      this.#greet(source.trial, source.want);
    } catch (thrown) {
      // It is tried again.
      toMillraceError(thrown);
    }
  }

  /** The first address has been compared with: it is the source again. */
  #returned(source: Source): void {
    const before = source.peer;
    if (before?.aged === true) {
      source.ageMs = before.ageMs;
      source.heardMs = before.heardMs;
    }
    source.timer?.cancel();
    source.peer = source.trial;
    source.trial = undefined;
    source.at = 0;
    source.returnAtMs = Infinity;
    before?.link.close();
  }

  #accept(connection: Connection): void {
    const peer = this.#peer(connection, undefined);
    if (this.#noPlaceFor(peer)) this.#turnAway(peer.link);
  }

  /** A connection that a port has taken for this node, and its greeting. May throw; then the link is to be ended with that. */
  take(link: SyncLink, hello: Hello): void {
    const peer = this.#peer(link, undefined);
    if (this.#noPlaceFor(peer)) this.#turnAway(link);
    else this.#onHello(peer, hello);
  }

  #noPlaceFor(peer: Peer): boolean {
    let others = 0;
    for (const one of this.#peers) if (one !== peer && one.source === undefined) others++;
    return this.#closed || others >= syncLimits.followersMax;
  }

  #turnAway(link: SyncLink): void {
    if (!this.#closed) this.#counts.followersRefused++;
    link.send((writer) => writer.refuse(this.#closed ? "this node stops" : `${syncLimits.followersMax} follow this node, the most: follow one of them`));
    link.close();
  }

  #peer(to: Connection | SyncLink, source: Source | undefined): Peer {
    const now = this.#clock.monotonicMs();
    const { buckets } = this.#table;
    const events: LinkEvents = {
      frame: (type, reader) => this.#frame(peer, type, reader),
      writable: () => this.#pump(peer, this.#clock.monotonicMs()),
      ended: (why) => this.#ended(peer, why),
    };
    let link: SyncLink;
    if (to instanceof SyncLink) {
      link = to;
      link.handTo(events, buckets);
    } else link = new SyncLink(to, buckets, events);
    const peer: Peer = {
      link,
      source,
      greeted: false,
      sinceMs: now,
      hello: undefined,
      want: wants.nothing,
      cursor: undefined,
      begun: false,
      heardMs: now,
      saidMs: now,
      pushMs: now,
      small: false,
      full: undefined,
      boundsDue: new Set(),
      awaited: new Set(),
      leads: new Set(),
      loaded: false,
      ageMs: 0,
      aged: false,
      compared: false,
      compareAtMs: Infinity,
      comparedMs: -Infinity,
      outstanding: 0,
      groupsLeft: [],
      passClean: true,
      passAfterLoad: false,
      passAll: false,
      comparisons: 0,
      pushId: 0,
      parts: 0,
      problems: new Set(),
    };
    this.#peers.add(peer);
    return peer;
  }

  #greet(peer: Peer, want: Want): void {
    const { dim, buckets } = this.#table;
    peer.link.send((writer) => writer.hello({ dim, buckets, node: this.node, want, life: this.#life, table: this.name, token: this.#token }));
  }

  #ended(peer: Peer, why: MillraceError | undefined): void {
    if (!this.#peers.delete(peer)) return;
    if (why?.code === "corrupt") this.#counts.corruptFrames++;
    this.#counts.bytesOut += peer.link.bytesOut;
    this.#counts.bytesIn += peer.link.bytesIn;
    if (peer.begun && peer.want !== wants.nothing) this.#goneMs.set(peer.hello!.node, this.#clock.monotonicMs());
    const { source } = peer;
    if (source?.trial === peer) source.trial = undefined;
    if (source?.peer !== peer) return;
    if (peer.aged) {
      source.ageMs = peer.ageMs;
      source.heardMs = peer.heardMs;
    }
    source.fault = why;
    if (why?.code === "overloaded" && why === peer.full) {
      this.#counts.tableFull++;
      source.slowTries++;
    } else if (why?.code === "conflict") source.slowTries = Math.min(refusedTriesMax, source.slowTries + 1);
    this.#retry(source);
  }

  #refuse(peer: Peer, why: string): never {
    peer.link.send((writer) => writer.refuse(why));
    throw new MillraceError("conflict", `${peer.link.remote} does not fit table ${this.name} of node ${this.node}: ${why}`, { todo: todoOf(why) });
  }

  // ---- what comes -----------------------------------------------------------------------------------------------------------------

  #frame(peer: Peer, type: number, reader: FrameReader): void {
    peer.heardMs = this.#clock.monotonicMs();
    if (!peer.greeted) {
      if (type === frameTypes.refuse) {
        const why = reader.refuse();
        throw new MillraceError("conflict", `${peer.link.remote} refuses to synchronise table ${this.name}: ${why}`, { todo: todoOf(why) });
      }
      if (type !== frameTypes.hello) throw new MillraceError("corrupt", `a frame of type ${type} before a greeting`, { todo: "look what speaks to this port" });
      return this.#onHello(peer, reader.hello());
    }
    switch (type) {
      case frameTypes.vector:
        return this.#onVector(peer, reader.vector());
      case frameTypes.push:
        return this.#onPush(peer, reader);
      case frameTypes.bounds:
        for (const bounds of reader.bounds()) this.#bounded(bounds);
        return;
      case frameTypes.pull:
        return this.#onPull(peer, reader.pull(this.groups));
      case frameTypes.summary:
        return this.#onSummary(peer, reader.summary(this.groups));
      case frameTypes.lead:
        return this.#onLead(peer, reader.lead(this.groups));
      case frameTypes.beat: {
        const { loaded, ageUs } = reader.beat();
        return this.#heardAge(peer, loaded, ageUs);
      }
      case frameTypes.refuse:
        return peer.link.close();
      default:
        throw new MillraceError("corrupt", `a frame of type ${type}`, { todo: "run the same version on both sides" });
    }
  }

  #onHello(peer: Peer, hello: Hello): void {
    const { dim, buckets } = this.#table;
    if (hello.token !== this.#token) this.#refuse(peer, "another token");
    if (hello.table !== this.name || hello.dim !== dim || hello.buckets !== buckets) {
      this.#refuse(peer, `here it is ${this.name} with ${dim} numbers a row and ${buckets} buckets`);
    }
    if (hello.node === this.node) this.#refuse(peer, hello.life === this.#life ? itself : `both sides are node ${this.node}`);
    peer.hello = hello;
    peer.greeted = true;
    if (peer.source === undefined) {
      for (const other of [...this.#peers]) {
        if (other === peer || other.source !== undefined || other.hello?.node !== hello.node) continue;
        // The same process again: its connection before is over, whether it noticed or not.
        if (other.hello.life === hello.life) other.link.end();
        else if (peer.heardMs - other.heardMs < 2 * this.#times.beatMs) this.#refuse(peer, `another process is node ${hello.node}`);
      }
      peer.want = hello.want;
      this.#greet(peer, wants.nothing);
    } else {
      this.#tellVectors(peer, bucketsTo(this.#table.buckets), true);
      peer.compareAtMs = peer.heardMs + this.#times.compareMs * (0.5 + this.#random.float());
    }
    this.#tellLead(peer, this.#ledGroups());
  }

  #ledGroups(): number[] {
    const led: number[] = [];
    for (let group = 0; group < this.groups; group++) if (this.leads(group)) led.push(group);
    return led;
  }

  #cursorOf(peer: Peer): PushCursor {
    return (peer.cursor ??= new PushCursor(this.replica, this.#frameBytes));
  }

  #onVector(peer: Peer, frame: VectorFrame): void {
    const now = peer.heardMs;
    const cursor = this.#cursorOf(peer);
    let overtaken = false;
    for (const { bucket, stretches } of frame.vectors) {
      const last = stretches.at(-1);
      if (last !== undefined && this.replica.noteEpoch(bucket, last.origin >>> 8)) overtaken = true;
    }
    if (overtaken) this.#overtaken(frame.vectors.map(({ bucket }) => bucket));
    if (frame.push !== 0) {
      cursor.answered(frame.push, frame.torn, frame.vectors, now);
    } else {
      cursor.take(frame.vectors, frame.all && !peer.begun, now);
      if (peer.awaited.size > 0) for (const { bucket } of frame.vectors) peer.awaited.delete(this.groupOf(bucket));
    }
    // The first vectors are whole when no more follow.
    if (!peer.begun && !frame.more && frame.push === 0) {
      peer.begun = true;
      for (const bucket of this.replica.bounded()) peer.boundsDue.add(bucket);
      cursor.begin((bucket) => this.#wantedBy(peer, bucket));
      this.#beat(peer, now);
    }
    this.#pump(peer, now);
  }

  /**
   * This table was found full again, a try later: what it has too much (rows and tombstones that have left at the source, of buckets whose news found no room) would keep it so for good. An
   * eighth of the rows begins anew, at the next try a quarter, a half, at last all: what the source has then finds the room that it has there.
   */
  #makeRoom(tries: number): void {
    const table = this.#table;
    const counted = (bucket: number): number => {
      const { live, tombstones } = table.counts(bucket);
      return this.replica.ledEpoch[bucket] === 0 ? live + tombstones : 0;
    };
    let all = 0;
    for (let bucket = 0; bucket < table.buckets; bucket++) all += counted(bucket);
    let wanted = Math.min(1, 2 ** (tries - 4)) * all;
    for (let looked = 0; looked < table.buckets && wanted > 0; looked++) {
      this.#roomNext = (this.#roomNext + 1) % table.buckets;
      const rows = counted(this.#roomNext);
      if (rows === 0) continue;
      wanted -= rows;
      this.replica.forget(this.#roomNext);
      this.#renewed(this.#roomNext);
    }
    this.#notReady();
  }

  #onPush(peer: Peer, reader: FrameReader): void {
    const push = this.#pushIn;
    reader.push(push);
    const { replica } = this;
    const now = peer.heardMs;
    const outcome = this.#outcome;
    try {
      replica.apply(push, outcome);
    } catch (thrown) {
      peer.full = toMillraceError(thrown);
      const tries = peer.source?.slowTries ?? 0;
      if (peer.full.code === "overloaded" && tries > 0) this.#makeRoom(tries);
      throw peer.full;
    }
    if (peer.pushId !== push.id) {
      peer.pushId = push.id;
      peer.parts = 0;
      peer.problems.clear();
    }
    peer.parts |= 1 << push.part;
    for (const bucket of outcome.behind) peer.problems.add(bucket);
    if (outcome.overtaken.length > 0) this.#overtaken(outcome.overtaken);
    if (outcome.anew.length > 0) this.#notReady();
    for (const bucket of outcome.anew) this.#renewed(bucket);
    for (const bucket of outcome.bounded) for (const other of this.#peers) if (other.begun) other.boundsDue.add(bucket);
    if (push.last) {
      const problems =
        peer.problems.size === 0
          ? noVectors
          : [...peer.problems].map((bucket): BucketVector => {
              const stretches = replica.vectors.stretches(bucket);
              const known = replica.knownEpoch[bucket]!;
              // Says which epoch is known, though nothing of it may have come yet.
              if ((stretches.at(-1)?.origin ?? 0) >>> 8 < known) stretches.push({ origin: known * 256, counter: 0 });
              return { bucket, stretches: stretches.slice(-8) };
            });
      peer.problems.clear();
      const id = push.id;
      const torn = peer.parts !== 2 ** (push.part + 1) - 1;
      peer.link.send((writer) => writer.vector({ push: id, all: false, more: false, torn, vectors: problems }));
      peer.saidMs = now;
      this.#counts.pushesIn++;
    }
    this.#heardAge(peer, push.loaded, push.ageUs);
    if (push.entries.count > 0) this.#onJoined?.(push);
    // What was joined here goes on to whoever follows this node.
    for (let s = 0; s < push.sections; s++) this.#changed(push.bucket[s]!, now);
    this.#kick(now);
  }

  #heardAge(peer: Peer, loaded: boolean, ageUs: number): void {
    peer.ageMs = ageUs / 1000;
    peer.aged = true;
    peer.loaded = loaded;
    if (loaded && !peer.compared && peer.outstanding === 0 && peer.heardMs >= peer.comparedMs + comparePauseMs) this.#compare(peer);
  }

  #onLead(peer: Peer, lead: Lead): void {
    const groups: number[] = [];
    for (const { group, epoch } of lead.groups) {
      const first = group * this.bucketsPerGroup;
      peer.leads.add(group);
      groups.push(group);
      const overtaken: number[] = [];
      for (let bucket = first; bucket < first + this.bucketsPerGroup; bucket++) if (this.replica.noteEpoch(bucket, epoch)) overtaken.push(bucket);
      if (overtaken.length > 0) this.#overtaken(overtaken);
      // Two nodes that follow each other have two connections, and this may be either.
      for (const other of this.#peers) if (other.hello?.node !== peer.hello!.node) other.leads.delete(group);
    }
    for (const { bucket, stretches } of lead.taken) this.replica.takenOver(bucket, stretches);
    if (peer.source === undefined || groups.length === 0) return;
    // The new leader learns what this node holds, and this node looks whether it holds more.
    const buckets: number[] = [];
    for (const group of groups) for (let i = 0; i < this.bucketsPerGroup; i++) buckets.push(group * this.bucketsPerGroup + i);
    this.#tellVectors(peer, buckets, false);
    this.#lookInto(peer, groups);
  }

  /** Compares these groups bucket by bucket, after what is being compared already. */
  #lookInto(peer: Peer, groups: readonly number[]): void {
    peer.groupsLeft.push(...groups);
    if (peer.outstanding === 0) this.#compareNext(peer);
  }

  /** Somebody leads these buckets in a higher epoch: this node takes no more writes of their groups. */
  #overtaken(buckets: readonly number[]): void {
    for (const group of new Set(buckets.map((bucket) => this.groupOf(bucket)))) {
      const first = group * this.bucketsPerGroup;
      let led = 0;
      for (let bucket = first; bucket < first + this.bucketsPerGroup; bucket++) if (this.replica.ledEpoch[bucket] !== 0) led++;
      if (led < this.bucketsPerGroup) this.unlead([group]);
    }
    this.#onOvertaken?.();
  }

  // ---- comparing ------------------------------------------------------------------------------------------------------------------

  #compare(peer: Peer): void {
    const now = this.#clock.monotonicMs();
    peer.compareAtMs = now + this.#times.compareMs * (0.5 + this.#random.float());
    peer.comparedMs = now;
    peer.passClean = true;
    peer.passAfterLoad = peer.loaded;
    // Once in a while everything, whoever leads it; before this node is ready always.
    peer.passAll = !peer.compared || peer.source?.want === wants.all || peer.comparisons % 4 === 3;
    peer.comparisons++;
    peer.outstanding = 1;
    peer.groupsLeft = [];
    this.#counts.comparisons++;
    const bits = new Uint8Array(Math.ceil(this.groups / 8));
    for (let group = 0; group < this.groups; group++) if (peer.passAll || peer.leads.has(group)) bits[group >> 3]! |= 1 << (group & 7);
    peer.link.send((writer) => writer.pull({ level: 0, groups: bits }));
  }

  #onPull(peer: Peer, pull: Pull): void {
    const groups = groupsOf(pull.groups, this.groups);
    const loaded = this.#wholeFor(peer);
    if (pull.level === 2) {
      for (const group of groups.slice(0, syncLimits.groupsComparedMax)) {
        const buckets: BucketSummary[] = [];
        const first = group * this.bucketsPerGroup;
        for (let bucket = first; bucket < first + this.bucketsPerGroup; bucket++) {
          buckets.push({
            bucket,
            collected: this.replica.collectedOrWanted(bucket),
            expired: this.replica.expiredTo(bucket),
            digest: this.#table.digest(bucket),
            steady: this.replica.isSteady(bucket),
            stretches: this.replica.vectors.stretches(bucket),
          });
        }
        const answer: Summary = { level: 2, groups: bitsOf([group], this.groups), loaded, sums: [], buckets };
        peer.link.send((writer) => writer.summary(answer));
      }
      return;
    }
    const sums = pull.level === 0 ? [this.#sums(groups)] : groups.map((group) => this.#sums([group]));
    peer.link.send((writer) => writer.summary({ level: pull.level, groups: pull.groups, loaded, sums, buckets: [] }));
  }

  #onSummary(peer: Peer, summary: Summary): void {
    if (peer.outstanding === 0) return;
    peer.outstanding--;
    const groups = groupsOf(summary.groups, this.groups);
    if (summary.level === 2) {
      this.#compareBuckets(peer, summary.buckets);
      if (peer.outstanding === 0) this.#compareNext(peer);
      return;
    }
    const own = summary.level === 0 ? [this.#sums(groups)] : groups.map((group) => this.#sums([group]));
    const differs = (i: number): boolean =>
      compareVersions(own[i]!.digest, summary.sums[i]!.digest) !== 0 || compareVersions(own[i]!.places, summary.sums[i]!.places) !== 0;
    if (summary.level === 0) {
      if (!differs(0)) {
        this.#strikes.clear();
        return this.#compareNext(peer);
      }
      peer.outstanding = 1;
      peer.link.send((writer) => writer.pull({ level: 1, groups: summary.groups }));
      return;
    }
    peer.groupsLeft.push(...groups.filter((_, i) => differs(i)));
    this.#compareNext(peer);
  }

  /** The next groups of a comparison, or its end. */
  #compareNext(peer: Peer): void {
    if (peer.groupsLeft.length > 0) {
      const groups = peer.groupsLeft.splice(0, syncLimits.groupsComparedMax);
      peer.outstanding = groups.length;
      const bits = bitsOf(groups, this.groups);
      peer.outstanding = groupsOf(bits, this.groups).length;
      peer.link.send((writer) => writer.pull({ level: 2, groups: bits }));
      return;
    }
    if (peer.passClean && peer.passAfterLoad && peer.passAll) {
      peer.compared = true;
      const { source } = peer;
      if (source !== undefined) {
        if (source.trial === peer && peer.ageMs <= this.#times.readyAgeMs) this.#returned(source);
        if (source.peer === peer) {
          source.tries = source.slowTries = 0;
          source.fault = undefined;
        }
      }
      this.#judgeReady();
    }
  }

  #compareBuckets(peer: Peer, buckets: readonly BucketSummary[]): void {
    const { replica } = this;
    const now = peer.heardMs;
    const lacking: number[] = [];
    const again: BucketVector[] = [];
    for (const other of buckets) {
      const { bucket } = other;
      this.#bounded(other);
      const own = replica.vectors.stretches(bucket);
      const behind = !replica.vectors.covers(bucket, other.stretches);
      const ahead = own.some(({ origin, counter }) => counter > heldOf(other, origin));
      if (behind) {
        lacking.push(bucket);
        this.#waitBeforeWrites(this.groupOf(bucket), now);
      }
      if (ahead && this.#mayOffer(other)) this.#cursorOf(peer).take([other], false, now);
      if (behind || ahead || !other.steady || !replica.isSteady(bucket)) continue;
      const bounds = replica.bounds(bucket);
      if (compareVersions(bounds.collected, other.collected) !== 0 || compareVersions(bounds.expired, other.expired) !== 0) continue;
      if (compareVersions(this.#table.digest(bucket), other.digest) === 0) continue;
      this.#counts.digestMismatches++;
      // Whoever leads the bucket, or is followed in all, is right: once everything is sent again, the second time this copy is thrown away first.
      if (replica.ledEpoch[bucket] !== 0 || !(peer.source?.want === wants.all || peer.leads.has(this.groupOf(bucket)))) continue;
      peer.passClean = false;
      if (this.#strikes.has(bucket)) {
        replica.forget(bucket);
        this.#renewed(bucket);
        this.#notReady();
      }
      this.#strikes.add(bucket);
      again.push({ bucket, stretches: [] });
    }
    // A bucket that is only behind because its push is on the way is asked for in vain; that costs its vector.
    if (lacking.length > 0) this.#tellVectors(peer, lacking, false);
    if (again.length > 0) peer.link.send((writer) => writer.vector({ push: 0, all: false, more: false, torn: false, vectors: again }));
    this.#pump(peer, now);
  }

  /** A group that was just taken over, and somebody holds more of it: the first write waits for that, but not for long. */
  #waitBeforeWrites(group: number, now: number): void {
    const { takeOverMs } = this.#times;
    const fromMs = this.#ledFromMs[group]!;
    if (fromMs === Infinity || now >= fromMs) return;
    this.#ledFromMs[group] = Math.min(now + takeOverMs, this.#ledSinceMs[group]! + 5 * takeOverMs);
  }

  /** Not while the other side has collected tombstones that are still missing here: some of these keys may be dead. */
  #mayOffer({ bucket, collected }: Bounds): boolean {
    return compareVersions(this.replica.collectedTo(bucket), collected) >= 0;
  }

  #sums(groups: readonly number[]): Sums {
    const digest = new Uint32Array(2);
    let [placesLow, placesHigh] = [0, 0];
    for (const group of groups) {
      const first = group * this.bucketsPerGroup;
      this.#table.addDigests(first, this.bucketsPerGroup, digest);
      for (let bucket = first; bucket < first + this.bucketsPerGroup; bucket++) {
        this.replica.placesTerm(bucket, this.#term);
        placesLow = (placesLow + this.#term[0]!) >>> 0;
        placesHigh = (placesHigh + this.#term[1]!) >>> 0;
      }
    }
    return { digest: { high: digest[0]!, low: digest[1]! }, places: { high: placesHigh, low: placesLow } };
  }

  /** This copy of a bucket was thrown away: whoever follows this node in all begins it anew, too, as soon as it is here again. */
  #renewed(bucket: number): void {
    for (const other of this.#peers) if (other.want === wants.all) other.cursor?.renew(bucket);
  }

  // ---- time -----------------------------------------------------------------------------------------------------------------------

  #poll(): void {
    const { pollMs } = this.#times;
    if (pollMs === 0 || this.#closed) return;
    this.#polls = this.#clock.after(
      pollMs,
      () => {
        this.kick();
        this.#poll();
      },
      { background: true },
    );
  }

  #tick(): void {
    if (this.#closed) return;
    this.#ticks = this.#clock.after(
      this.#times.beatMs / 5,
      () => {
        this.#tick();
        this.#onTick();
      },
      { background: true },
    );
  }

  #onTick(): void {
    const now = this.#clock.monotonicMs();
    const { beatMs, greetMs, answerMs } = this.#times;
    for (const peer of [...this.#peers]) {
      const late =
        (!peer.greeted && now - peer.sinceMs > greetMs && "its greeting") ||
        (now - peer.heardMs > 3 * beatMs && "a sign of life") ||
        (peer.cursor !== undefined && peer.cursor.underWay !== 0 && now - peer.pushMs > answerMs && "an answer to a push");
      if (late !== false) {
        peer.link.end(
          new MillraceError("timeout", `${late} of ${peer.link.remote} did not come in time`, { todo: "it is connected again; look at that process" }),
        );
        continue;
      }
      if (!peer.greeted) continue;
      if (now - peer.saidMs >= beatMs * 0.9) this.#beat(peer, now);
      if (peer.source !== undefined && now >= peer.compareAtMs) this.#compare(peer);
      this.#pump(peer, now);
    }
    for (const source of this.#sources.values()) {
      if (source.peer?.greeted !== true || now < source.returnAtMs) continue;
      // A trial that did not come to a comparison all this time makes room for the next.
      source.trial?.link.close();
      void this.#tryFirst(source);
    }
    if (!this.#isLeaderless()) this.#leaderlessMs = undefined;
    else this.#leaderlessMs ??= now;
    this.#collect(now);
    this.#judgeReady();
  }

  /** By how much what is held of a source may be behind: what it said, and how long it has said nothing though it should. */
  #behindMs({ peer, want, ageMs, heardMs }: Source, now: number): number {
    // One that leads nothing sends nothing; of one that did and is gone `#leaderlessMs` tells.
    if (want === wants.led && (peer?.aged !== true || peer.leads.size === 0)) return 0;
    if (peer?.aged !== true) return ageMs + now - heardMs;
    const silentMs = now - peer.heardMs;
    return peer.ageMs + (silentMs > 2 * this.#times.beatMs ? silentMs : 0);
  }

  /** Whether some group is led by nobody that is heard here, though others have led it since this node did: what they wrote may be missing. */
  #isLeaderless(): boolean {
    if (!this.#followsLeaders) return false;
    const followed = [...this.#peers].filter(({ source, aged }) => source !== undefined && aged);
    for (let group = 0; group < this.groups; group++) {
      if (this.leads(group) || followed.some(({ leads }) => leads.has(group))) continue;
      if (this.knownEpoch(group) > this.#ownEpoch[group]!) return true;
    }
    return false;
  }

  #beat(peer: Peer, now: number): void {
    peer.saidMs = now;
    const loaded = peer.begun && this.#wholeFor(peer);
    const ageUs = this.#ageUsFor(peer, now);
    peer.link.send((writer) => writer.beat({ loaded, ageUs }));
  }

  /** Nothing of a load is left to be sent, and to one who wants everything: nothing of it is missing here either. */
  #wholeFor({ cursor, want }: Peer): boolean {
    return (cursor === undefined || cursor.loadBuckets === 0) && (want !== wants.all || this.#ready);
  }

  /** Age of the oldest change that the follower has not acknowledged; to one who wants everything also what this node itself is behind. */
  #ageUsFor({ cursor, want }: Peer, now: number): number {
    let ageMs = cursor === undefined ? 0 : cursor.ageMs(now);
    if (want === wants.all) {
      for (const source of this.#sources.values()) ageMs = Math.max(ageMs, this.#behindMs(source, now));
      if (this.#leaderlessMs !== undefined) ageMs = Math.max(ageMs, now - this.#leaderlessMs);
    }
    return Math.round(Math.min(ageMs * 1000, 0xffff_ffff));
  }

  #notReady(): void {
    this.#ready = false;
    for (const peer of this.#peers) peer.compared = false;
  }

  #judgeReady(): void {
    if (this.ready) {
      const now = this.#clock.monotonicMs();
      for (const source of this.#sources.values()) if (this.#behindMs(source, now) > this.#times.staleMs) this.#stale = true;
      if (this.#leaderlessMs !== undefined && now - this.#leaderlessMs > this.#times.staleMs) this.#stale = true;
      if (this.#stale) this.#counts.turnedStale++;
      return;
    }
    if (this.#ticks === undefined) return;
    if (this.#stale && this.#leaderlessMs !== undefined) return;
    for (const { peer, want } of this.#sources.values()) {
      // What is led elsewhere has come again; who leads nothing may be away.
      if (this.#ready && want === wants.led && (peer === undefined || peer.leads.size === 0)) continue;
      if (peer === undefined || !peer.compared || !peer.loaded || !peer.aged || peer.ageMs > this.#times.readyAgeMs) return;
    }
    this.#ready = true;
    this.#stale = false;
    const waiters = this.#readyWaiters;
    this.#readyWaiters = [];
    for (const resolve of waiters) resolve();
  }

  /** Some buckets a tick: tombstones of led buckets that are old enough go. */
  #collect(now: number): void {
    const { graceMs } = this.#times;
    for (const [node, atMs] of this.#goneMs) if (now - atMs > graceMs) this.#goneMs.delete(node);
    const followers = [...this.#peers].filter((peer) => peer.want !== wants.nothing);
    for (const { hello, begun } of followers) if (begun) this.#goneMs.delete(hello!.node);
    const { buckets } = this.#table;
    let walked = 0;
    for (let looked = 0; looked < Math.max(16, buckets / 64) && walked < collectRowsMax; looked++) {
      this.#collectNext = (this.#collectNext + 1) % buckets;
      if (this.replica.ledEpoch[this.#collectNext] !== 0 && this.#collectBucket(this.#collectNext, now, followers)) {
        const { live, tombstones } = this.#table.counts(this.#collectNext);
        walked += live + tombstones;
      }
    }
    for (const peer of this.#peers) if (peer.boundsDue.size > 0) this.#pump(peer, now);
  }

  /**
   * Memory is short: collects the tombstones of a led bucket that every follower holds that is connected; who is away may have to load the bucket anew. `whoeverHolds`: all of them, and
   * followers that are behind load it anew, too.
   */
  collectHeld(bucket: number, whoeverHolds = false): void {
    if (this.replica.ledEpoch[bucket] === 0) return;
    const { origin, counter } = placeOfVersion(this.#table.newest(bucket));
    let held = counter;
    for (const { want, begun, cursor } of this.#peers) {
      if (want === wants.nothing || whoeverHolds) continue;
      if (!begun) return;
      held = Math.min(held, cursor!.acked.counterOf(bucket, origin));
    }
    if (held === 0) return;
    this.#bounded({ bucket, collected: versionOf(origin >>> 8, held, origin & 255), expired: noVersion });
  }

  /** True when the bucket was walked. */
  #collectBucket(bucket: number, now: number, followers: readonly Peer[]): boolean {
    const { collectMs, graceMs } = this.#times;
    const waiting = this.#collectable.get(bucket);
    if (waiting === undefined) {
      if (this.#table.counts(bucket).tombstones > 0) this.#collectable.set(bucket, { upTo: this.#table.newest(bucket), sinceMs: now });
      return false;
    }
    const ageMs = now - waiting.sinceMs;
    if (ageMs < collectMs) return false;
    const { origin, counter } = placeOfVersion(waiting.upTo);
    const allHold = this.#goneMs.size === 0 && followers.every(({ begun, cursor }) => begun && cursor!.acked.counterOf(bucket, origin) >= counter);
    if (!allHold && ageMs < graceMs) return false;
    this.#collectable.delete(bucket);
    this.#bounded({ bucket, collected: waiting.upTo, expired: noVersion });
    return true;
  }
}

function heldOf({ stretches }: BucketVector, origin: number): number {
  for (const stretch of stretches) if (stretch.origin === origin) return stretch.counter;
  return stretches.length === 8 && origin < stretches[0]!.origin ? Infinity : 0;
}

function todoOf(refusal: string): string {
  return refusal === itself ? "follow another server" : "give both sides the same table, shape and token, and numbers of their own";
}

function nameOf(addresses: readonly Address[]): string {
  return addresses.map(({ host, port }) => `${host}:${port}`).join(" ");
}

function* bucketsTo(end: number): Generator<number> {
  for (let bucket = 0; bucket < end; bucket++) yield bucket;
}

function groupsOf(bits: Uint8Array, groups: number): number[] {
  const found: number[] = [];
  for (let group = 0; group < groups; group++) if ((bits[group >> 3]! & (1 << (group & 7))) !== 0) found.push(group);
  return found;
}

function bitsOf(groups: readonly number[], of: number): Uint8Array {
  const bits = new Uint8Array(Math.ceil(of / 8));
  for (const group of groups) bits[group >> 3]! |= 1 << (group & 7);
  return bits;
}
