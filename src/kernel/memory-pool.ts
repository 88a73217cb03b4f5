// Pool of shared memories: versions come and go, their memories stay and are used again.
// Why: a shared WebAssembly memory is freed only after a garbage collection in every thread that saw it, which in idle threads never comes
// (measured: six dropped versions of 1 GiB stayed resident). So nothing is dropped; a switch to a new version reuses what the last but one used.
//
// Life of a memory:   idle --lease--> held --release--> closing --last reader leaves--> idle
//                                       ^ readers come and go ^         ^ readers only leave ^
// Sizes are classes, four to a doubling (1, 1.25, 1.5, 1.75 x 2^n), so a version that grew a little fits into the memory of an older one, and
// at most a fifth is wasted. A lease takes the smallest idle memory that fits, up to twice the size asked for; then a new one while the cap
// allows; then any idle one that fits; then it throws `overloaded`, naming the owners that hold most.
//
// Invariants: 1. a memory is idle only when its lease was released and no reader is left  2. the sum of all sizes never exceeds capBytes
//             3. the reader count lives in the memory itself (atomic), so a worker that got the memory counts like everyone else
//             4. a reader that comes after the release is refused, and so is one that means an earlier lease (generation).
// A leased memory is dirty: whoever lays out data clears what it needs clear.
// Concurrency: lease, release and statistics belong to the thread that made the pool; `joinReaders` works in any thread.
// Limits: capBytes; classes from classBytesMin to 4 GiB.

import { assert, MillraceError } from "#base/errors";
import { KernelMemory, type KernelMemoryShape, memoryBytesFor, poolWordsFrom } from "./kernel-memory.ts";
import type { Kernels } from "./kernels.ts";
import { createWasmMemory, memoryBytesMax, pageBytes, type WasmMemory } from "./web-assembly.ts";

export const memoryPoolLimits = { classBytesMin: 1 << 20, capBytesDefault: 4 * 2 ** 30 } as const;

const readersWord = poolWordsFrom;
const generationWord = poolWordsFrom + 1;
/** In the readers word: no new readers. */
const closed = 0x8000_0000 | 0;

export interface MemoryPoolOptions {
  /** Most bytes of all memories together, idle ones too. Default 4 GiB; typical: half of the machine. Memories are never given back. */
  readonly capBytes?: number;
  /** Kernels that work in the memories. Default: the live ones. */
  readonly kernels?: Kernels;
}

export interface LeaseRequest extends KernelMemoryShape {
  /** Whom the statistics count it for: a table or collection with its version, say. */
  readonly owner: string;
}

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
    const idle = this.#slots.filter((slot) => slot.state === "idle" && slot.bytes >= needed).sort((a, b) => a.bytes - b.bytes)[0];
    const bytes = classBytesOf(needed);
    const fitsCap = this.#totalBytes + bytes <= this.capBytes;
    if (idle !== undefined && (idle.bytes <= 2 * bytes || !fitsCap)) {
      this.#reused++;
      return idle;
    }
    if (!fitsCap) return undefined;
    const wasm = createWasmMemory(bytes);
    assert(wasm.buffer.byteLength === bytes, "classes are whole pages");
    const slot: Slot = { wasm, words: new Int32Array(wasm.buffer), bytes, state: "idle", owner: "" };
    Atomics.store(slot.words, readersWord, closed);
    this.#slots.push(slot);
    this.#totalBytes += bytes;
    this.#created++;
    return slot;
  }

  #largestOwners(): string {
    const { owners, idleBytes } = this.statistics();
    const largest = [...owners].sort(([, a], [, b]) => b.bytes - a.bytes).slice(0, 3);
    const named = largest.map(([owner, { bytes }]) => `${owner} ${bytes}`);
    // A restart gives these back: memories are made anew, in the sizes that are needed now.
    return [...named, ...(idleBytes > 0 ? [`idle, in memories too small, ${idleBytes}`] : [])].join(", ");
  }
}
