// Pool of shared memories: versions come and go, their memories stay and are used again.
// Why: a shared WebAssembly memory is freed only after a full garbage collection in every thread that saw it, which by itself does not come
// (measured: six dropped versions of 1 GiB stayed resident). So memories are kept; a switch to a new version reuses what the last but one used.
//
// Life of a memory:   idle --lease--> held --release--> closing --last reader leaves--> idle --room is needed--> dropped --collected--> gone
//                                       ^ readers come and go ^         ^ readers only leave ^            (or it was idle for long)
// Sizes are classes, four to a doubling (1, 1.25, 1.5, 1.75 x 2^n), so a version that grew a little fits into the memory of an older one, and
// at most a fifth is wasted. A lease takes the smallest idle memory that fits, up to one and a half times the size that it would make; then a new one while the cap
// allows; then a new one for which idle ones of other sizes are dropped; then any idle one; then it throws `overloaded`, naming the owners that hold most. Who owns threads
// that see memories listens by `onDropped` and has them collect their garbage soon, or the machine holds dropped memories on. What a merge of everything or a version of
// before left is not held for ever either: `dropLongIdle`, called now and then, drops what nobody wanted since the last call.
//
// Invariants: 1. a memory is idle only when its lease was released and no reader is left  2. the sum of all sizes never exceeds capBytes, nor, with those that
//                were dropped and not yet collected, twice that: beyond it nothing is dropped or made until they are
//             3. the reader count lives in the memory itself (atomic), so a worker that got the memory counts like everyone else
//             4. a reader that comes after the release is refused, and so is one that means an earlier lease (generation).
// A leased memory is dirty: whoever lays out data clears what it needs clear.
// Concurrency: lease, release and statistics belong to the thread that made the pool; `joinReaders` works in any thread.
// Limits: capBytes; classes from classBytesMin to 4 GiB. That a memory is collected is known of the pool's own thread only (FinalizationRegistry).

import { assert, MillraceError } from "#base/errors";
import { KernelMemory, type KernelMemoryShape, memoryBytesFor, poolWordsFrom } from "./kernel-memory.ts";
import type { Kernels } from "./kernels.ts";
import { createWasmMemory, memoryBytesMax, pageBytes, type WasmMemory } from "./web-assembly.ts";

export const memoryPoolLimits = {
  classBytesMin: 1 << 20,
  capBytesDefault: 4 * 2 ** 30,
  /** An idle memory is taken up to so many times the size that would be made; a larger one waits for those who need it, or makes room. */
  reuseRatioMax: 1.5,
  /** Of capBytes: all memories and those that were dropped and are not yet collected. Twice, so that all that is idle can be given up for one that takes its place. */
  withDroppedShareMax: 2,
  /** So many idle bytes, of the smallest memories, stay however long they are idle: memtables come and go, and one of the usual size takes 40 MiB. */
  keptIdleBytes: 48 << 20,
} as const;

const readersWord = poolWordsFrom;
const generationWord = poolWordsFrom + 1;
/** In the readers word: no new readers. */
const closed = 0x8000_0000 | 0;

export interface MemoryPoolOptions {
  /** Most bytes of all memories together, idle ones too. Default 4 GiB; typical: half of the machine. Idle memories are given back when others need room, or by `dropLongIdle`. */
  readonly capBytes?: number;
  /** Kernels that work in the memories. Default: the live ones. */
  readonly kernels?: Kernels;
}

export interface LeaseRequest extends KernelMemoryShape {
  /** Whom the statistics count it for: a table or collection with its version, say. */
  readonly owner: string;
}

/** Why memories were dropped: a lease needs their room now, or nobody wanted them for long. */
export type DropReason = "room" | "idle";

/** One who reads a leased memory. `release` once, after the last access. */
export interface MemoryReader {
  release(): void;
}

/** What another thread needs to join: send it with the memory. */
export interface LeaseTicket {
  readonly memory: WasmMemory;
  readonly generation: number;
}

export interface MemoryLease {
  readonly memory: KernelMemory;
  readonly owner: string;
  readonly ticket: LeaseTicket;
  /** A new reader, or undefined once the lease was released. */
  read(): MemoryReader | undefined;
  /** Ends the lease; the memory becomes idle when the last reader leaves. A second call does nothing. */
  release(): void;
}

export interface MemoryPoolStats {
  readonly capBytes: number;
  /** All memories, idle ones too. */
  readonly totalBytes: number;
  readonly memories: number;
  readonly idleBytes: number;
  /** Held by leases. */
  readonly leasedBytes: number;
  /** Released, but still read. */
  readonly closingBytes: number;
  /** Given up to make room, and not yet collected by this thread: on top of `totalBytes`. */
  readonly droppedBytes: number;
  /** Memories given up since the start. */
  readonly dropped: number;
  /** Leases served by a memory that was there, and by a new one. */
  readonly reused: number;
  readonly created: number;
  readonly refused: number;
  /** By owner: bytes of its leased and closing memories, how many they are, and readers now. */
  readonly owners: ReadonlyMap<string, { readonly bytes: number; readonly memories: number; readonly readers: number }>;
}

/** The smallest class that holds `bytes`. */
export function classBytesOf(bytes: number): number {
  let base = memoryPoolLimits.classBytesMin;
  while (base * 2 <= bytes) base *= 2;
  const quarter = base / 4;
  const size = Math.max(base, Math.ceil(bytes / quarter) * quarter);
  return Math.min(Math.ceil(size / pageBytes) * pageBytes, memoryBytesMax);
}

/**
 * Joins the readers of a lease, in any thread. Undefined when the lease was released meanwhile (even when the memory serves another by now):
 * ask for the current version again.
 */
export function joinReaders(ticket: LeaseTicket): MemoryReader | undefined {
  const words = new Int32Array(ticket.memory.buffer);
  for (let seen = Atomics.load(words, readersWord); ;) {
    if ((seen & closed) !== 0) return undefined;
    const before = Atomics.compareExchange(words, readersWord, seen, seen + 1);
    if (before === seen) break;
    seen = before;
  }
  let inside = true;
  const reader: MemoryReader = {
    release() {
      if (!inside) return;
      inside = false;
      Atomics.sub(words, readersWord, 1);
    },
  };
  // While we are counted the memory cannot change hands, so this comparison stays true.
  if (Atomics.load(words, generationWord) === ticket.generation) return reader;
  reader.release();
  return undefined;
}

interface Slot {
  readonly wasm: WasmMemory;
  readonly words: Int32Array;
  readonly bytes: number;
  state: "idle" | "held" | "closing";
  /** Idle at the last `dropLongIdle` too. */
  stale: boolean;
  owner: string;
}

export class MemoryPool {
  readonly capBytes: number;
  readonly #kernels: Kernels | undefined;
  readonly #slots: Slot[] = [];
  #totalBytes = 0;
  #reused = 0;
  #created = 0;
  #refused = 0;
  #dropped = 0;
  #droppedBytes = 0;
  readonly #listeners = new Set<(why: DropReason) => void>();
  readonly #collected = new FinalizationRegistry<number>((bytes) => (this.#droppedBytes -= bytes));

  constructor(options: MemoryPoolOptions = {}) {
    this.capBytes = options.capBytes ?? memoryPoolLimits.capBytesDefault;
    this.#kernels = options.kernels;
  }

  /**
   * A memory of this shape, laid out and dirty. Throws `overloaded` when the cap does not allow it (release something, or raise the cap),
   * `invalid` when no memory can have this shape.
   */
  lease(request: LeaseRequest): MemoryLease {
    const needed = memoryBytesFor(request);
    const slot = this.#take(needed);
    if (slot === undefined) {
      this.#refused++;
      throw new MillraceError(
        "overloaded",
        `${needed} bytes of memory for ${request.owner}: ${this.#totalBytes} of ${this.capBytes} are taken (${this.#largestOwners()})`,
        {
          todo: "retry when an old version was released, or raise the memory cap",
        },
      );
    }
    // A new generation first, then the door opens: a late reader of the last lease finds itself out.
    const generation = Atomics.add(slot.words, generationWord, 1) + 1;
    const memory = KernelMemory.format(slot.wasm, request, this.#kernels);
    slot.state = "held";
    slot.stale = false;
    slot.owner = request.owner;
    Atomics.store(slot.words, readersWord, 0);
    const ticket: LeaseTicket = { memory: slot.wasm, generation };
    let held = true;
    return {
      memory,
      owner: request.owner,
      ticket,
      read: () => joinReaders(ticket),
      release: () => {
        if (!held) return;
        held = false;
        slot.state = "closing";
        Atomics.or(slot.words, readersWord, closed);
        this.#sweep();
      },
    };
  }

  /**
   * Calls `listener` in the turn in which memories were dropped, or stood in the way of a lease, before that lease returns: soon after it, all threads that saw memories of
   * this pool should collect their garbage. Returns how to stop listening.
   */
  onDropped(listener: (why: DropReason) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Drops the memories that were idle at the call before and are still, all but `keptIdleBytes` of the smallest. Returns their bytes. */
  dropLongIdle(): number {
    this.#sweep();
    const idle = this.#slots.filter(({ state }) => state === "idle").sort((a, b) => a.bytes - b.bytes);
    const chosen: Slot[] = [];
    let keptBytes = 0;
    for (const slot of idle) {
      if (keptBytes + slot.bytes <= memoryPoolLimits.keptIdleBytes) keptBytes += slot.bytes;
      else if (slot.stale) chosen.push(slot);
      slot.stale = true;
    }
    if (chosen.length === 0) return 0;
    this.#drop(chosen, "idle");
    return chosen.reduce((sum, { bytes }) => sum + bytes, 0);
  }

  statistics(): MemoryPoolStats {
    this.#sweep();
    const owners = new Map<string, { bytes: number; memories: number; readers: number }>();
    let idleBytes = 0;
    let closingBytes = 0;
    for (const slot of this.#slots) {
      if (slot.state === "idle") {
        idleBytes += slot.bytes;
        continue;
      }
      if (slot.state === "closing") closingBytes += slot.bytes;
      const entry = owners.get(slot.owner) ?? { bytes: 0, memories: 0, readers: 0 };
      entry.bytes += slot.bytes;
      entry.memories++;
      entry.readers += Atomics.load(slot.words, readersWord) & ~closed;
      owners.set(slot.owner, entry);
    }
    return {
      capBytes: this.capBytes,
      totalBytes: this.#totalBytes,
      memories: this.#slots.length,
      idleBytes,
      leasedBytes: this.#totalBytes - idleBytes - closingBytes,
      closingBytes,
      droppedBytes: this.#droppedBytes,
      dropped: this.#dropped,
      reused: this.#reused,
      created: this.#created,
      refused: this.#refused,
      owners,
    };
  }

  /** Readers leave in other threads without telling us: look for closing memories that nobody reads any more. */
  #sweep(): void {
    for (const slot of this.#slots) {
      if (slot.state !== "closing" || Atomics.load(slot.words, readersWord) !== closed) continue;
      slot.state = "idle";
      slot.owner = "";
    }
  }

  #take(needed: number): Slot | undefined {
    this.#sweep();
    const bytes = classBytesOf(needed);
    const idle = this.#slots.filter(({ state }) => state === "idle").sort((a, b) => a.bytes - b.bytes);
    const fitting = idle.find((slot) => slot.bytes >= needed);
    if (fitting !== undefined && (fitting.bytes <= memoryPoolLimits.reuseRatioMax * bytes || !this.#makeRoom(bytes, idle))) {
      this.#reused++;
      return fitting;
    }
    if (fitting === undefined && !this.#makeRoom(bytes, idle)) return undefined;
    const wasm = createWasmMemory(bytes);
    assert(wasm.buffer.byteLength === bytes, "classes are whole pages");
    const slot: Slot = { wasm, words: new Int32Array(wasm.buffer), bytes, state: "idle", stale: false, owner: "" };
    Atomics.store(slot.words, readersWord, closed);
    this.#slots.push(slot);
    this.#totalBytes += bytes;
    this.#created++;
    return slot;
  }

  /** Drops idle memories (given in the order of their sizes) until one of `bytes` has room: the smallest that suffices alone, else the largest first. */
  #makeRoom(bytes: number, idle: readonly Slot[]): boolean {
    const { capBytes } = this;
    if (this.#totalBytes + bytes + this.#droppedBytes > capBytes * memoryPoolLimits.withDroppedShareMax) {
      // What was dropped before stands in the way: whoever waits for a quiet moment to collect it waits no more.
      if (this.#droppedBytes > 0) for (const listener of this.#listeners) listener("room");
      return false;
    }
    let lacking = this.#totalBytes + bytes - capBytes;
    if (lacking <= 0) return true;
    const left = [...idle];
    const chosen: Slot[] = [];
    while (lacking > 0) {
      const enough = left.findIndex((slot) => slot.bytes >= lacking);
      const [slot] = left.splice(enough, 1);
      if (slot === undefined) return false;
      chosen.push(slot);
      lacking -= slot.bytes;
    }
    this.#drop(chosen, "room");
    return true;
  }

  #drop(chosen: readonly Slot[], why: DropReason): void {
    const chosenBytes = chosen.reduce((sum, slot) => sum + slot.bytes, 0);
    for (const slot of chosen) {
      this.#slots.splice(this.#slots.indexOf(slot), 1);
      this.#collected.register(slot.wasm, slot.bytes);
    }
    this.#totalBytes -= chosenBytes;
    this.#droppedBytes += chosenBytes;
    this.#dropped += chosen.length;
    for (const listener of this.#listeners) listener(why);
  }

  #largestOwners(): string {
    const { owners, idleBytes, droppedBytes } = this.statistics();
    const largest = [...owners].sort(([, a], [, b]) => b.bytes - a.bytes).slice(0, 3);
    const named = largest.map(([owner, { bytes }]) => `${owner} ${bytes}`);
    if (idleBytes > 0) named.push(`idle ${idleBytes}`);
    if (droppedBytes > 0) named.push(`dropped and not yet collected, beyond the cap, ${droppedBytes}`);
    return named.join(", ");
  }
}
