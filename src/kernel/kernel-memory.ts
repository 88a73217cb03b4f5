// A fixed-size shared memory that kernels work in, and its parts.
//
//   0       never used, so that address 0 stays free
//   256     header: u32 magic, u32 laneCount, u32 laneBytes, u32 dataFrom; from 272 on the words of the memory pool
//   4,096   tables of the CRC32C kernel, 16 KiB
//   20,480  a room for checksums for each lane, 2 KiB
//   then    lanes: argument, scratch and result area, one for each thread that calls kernels on this memory
//   dataFrom (64-aligned) to the end: data: rows, tables, whatever lives longer than a call
//
// Why lanes inside: a kernel sees one memory, so arguments lie beside the data. Why several: workers share data but not arguments.
// Invariants: 1. a memory never grows, so views stay valid  2. one thread at a time uses a lane  3. the last 64 bytes stay unused, so a kernel
//             may read a little past the end of an area  4. `reserve` is called by one thread (whoever builds), before others attach.
// Limits: 4 GiB a memory (32-bit addresses), lanesMax lanes.

import { MillraceError } from "#base/errors";
import { writeCrcTables } from "./crc-tables.ts";
import { crcRoomBytes, crcTablesAt, crcTablesBytes } from "./entry-layout.ts";
import type { KernelCalls } from "./kernel-calls.ts";
import { kernels as liveKernels, type Kernels, type KernelVariant } from "./kernels.ts";
import { createWasmMemory, memoryBytesMax, type WasmMemory } from "./web-assembly.ts";

const magic = 0x314c524d; // "MRL1"
const headerFrom = 256;
const roomsFrom = crcTablesAt + crcTablesBytes;
const guardBytes = 64;

/** Index of the first u32 that belongs to the memory pool (16 of them). */
export const poolWordsFrom = 272 / 4;

export const kernelMemoryLimits = {
  lanesMax: 64,
  laneBytesDefault: 1 << 20,
  laneBytesMin: 8 << 10,
  memoryBytesMax,
} as const;

export interface KernelMemoryShape {
  /** Usable bytes for data. */
  readonly dataBytes: number;
  /** Threads that call kernels on this memory at the same time. Default 1. */
  readonly lanes?: number;
  /** Argument, scratch and result area of each thread: bounds how much of a batch one kernel call takes. Default 1 MiB, at least 8 KiB. */
  readonly laneBytes?: number;
}

/** Rounds up to a multiple of `unit`, a power of two. Unlike bit operations good to 2^53. */
export function roundUp(bytes: number, unit: number): number {
  return Math.ceil(bytes / unit) * unit;
}

/** Bytes of a memory of this shape, before rounding up to pages. Throws `invalid` for a shape that cannot be. */
export function memoryBytesFor(shape: KernelMemoryShape): number {
  const lanes = shape.lanes ?? 1;
  const laneBytes = shape.laneBytes ?? kernelMemoryLimits.laneBytesDefault;
  if (!Number.isInteger(lanes) || lanes < 1 || lanes > kernelMemoryLimits.lanesMax) {
    throw new MillraceError("invalid", `a kernel memory with ${lanes} lanes`, { todo: `ask for 1 to ${kernelMemoryLimits.lanesMax}` });
  }
  if (!Number.isInteger(laneBytes) || laneBytes < kernelMemoryLimits.laneBytesMin) {
    throw new MillraceError("invalid", `a kernel memory with lanes of ${laneBytes} bytes`, { todo: `ask for at least ${kernelMemoryLimits.laneBytesMin}` });
  }
  if (!Number.isInteger(shape.dataBytes) || shape.dataBytes < 0) {
    throw new MillraceError("invalid", `a kernel memory for ${shape.dataBytes} bytes of data`, { todo: "ask for a whole number of bytes" });
  }
  const total = roomsFrom + lanes * (crcRoomBytes + roundUp(laneBytes, 64)) + roundUp(shape.dataBytes, 64) + guardBytes;
  if (total > memoryBytesMax) {
    throw new MillraceError("invalid", `a kernel memory of ${total} bytes exceeds ${memoryBytesMax}`, {
      todo: `split the data into ${Math.ceil(total / memoryBytesMax)} memories or more`,
    });
  }
  return total;
}

/** The argument area of one thread: taken piece by piece, given back as a whole before the next call. */
export class Lane {
  readonly #from: number;
  readonly #bytes: number;
  #used = 0;

  constructor(from: number, bytes: number) {
    this.#from = from;
    this.#bytes = bytes;
  }

  /** Forgets all pieces. */
  reset(): void {
    this.#used = 0;
  }

  /** Bytes that can still be taken, as one 16-aligned piece. */
  get free(): number {
    return this.#bytes - this.#used;
  }

  /** Address of a 16-aligned piece. Throws `invalid` when the lane is too small: faces split batches before they ask. */
  take(bytes: number): number {
    const size = roundUp(bytes, 16);
    if (size > this.free) {
      throw new MillraceError("invalid", `kernel arguments of ${this.#used + size} bytes exceed a lane of ${this.#bytes}`, {
        todo: "give the memory larger lanes (laneBytes), or call with less at once",
      });
    }
    const at = this.#from + this.#used;
    this.#used += size;
    return at;
  }
}

export class KernelMemory {
  readonly memory: WasmMemory;
  readonly variant: KernelVariant;
  /** The kernels bound to this memory. Addresses are byte offsets into `bytes`. */
  readonly calls: KernelCalls;
  readonly lane: Lane;
  /** Of this thread's lane: 0 for whoever laid the memory out. */
  readonly laneNumber: number;
  /** Room of this lane's thread for checksums: the first argument of the CRC32C calls. */
  readonly crcAt: number;
  readonly bytes: Uint8Array<SharedArrayBuffer>;
  readonly u32: Uint32Array<SharedArrayBuffer>;
  readonly f32: Float32Array<SharedArrayBuffer>;
  /** First byte and size of the data area. */
  readonly dataFrom: number;
  readonly dataBytes: number;
  #reserved = 0;

  private constructor(memory: WasmMemory, lane: number, kernels: Kernels) {
    this.memory = memory;
    this.variant = kernels.variant;
    this.bytes = new Uint8Array(memory.buffer);
    this.u32 = new Uint32Array(memory.buffer);
    this.f32 = new Float32Array(memory.buffer);
    const head = headerFrom / 4;
    const lanes = this.u32[head + 1]!;
    const laneBytes = this.u32[head + 2]!;
    if (this.u32[head] !== magic) throw new MillraceError("invalid", "this is no kernel memory", { todo: "attach to the memory of a KernelMemory" });
    if (!Number.isInteger(lane) || lane < 0 || lane >= lanes) {
      throw new MillraceError("invalid", `lane ${lane} of a kernel memory with ${lanes}`, { todo: "create the memory with a lane for each thread" });
    }
    this.calls = kernels.bind(memory);
    this.laneNumber = lane;
    this.lane = new Lane(roomsFrom + lanes * crcRoomBytes + lane * laneBytes, laneBytes);
    this.crcAt = roomsFrom + lane * crcRoomBytes;
    this.dataFrom = this.u32[head + 3]!;
    this.dataBytes = this.bytes.length - guardBytes - this.dataFrom;
  }

  /** A new memory, zeroed, outside any pool: for what lives as long as the process. Versions that come and go take theirs from a MemoryPool. */
  static create(shape: KernelMemoryShape, kernels: Kernels = liveKernels()): KernelMemory {
    return KernelMemory.format(createWasmMemory(memoryBytesFor(shape)), shape, kernels);
  }

  /** Lays out a memory that nobody else uses. What lies in its data area stays as it is. */
  static format(memory: WasmMemory, shape: KernelMemoryShape, kernels: Kernels = liveKernels()): KernelMemory {
    const needed = memoryBytesFor(shape);
    if (needed > memory.buffer.byteLength) {
      throw new MillraceError("invalid", `a shape of ${needed} bytes in a memory of ${memory.buffer.byteLength}`, { todo: "take a larger memory" });
    }
    const lanes = shape.lanes ?? 1;
    const laneBytes = roundUp(shape.laneBytes ?? kernelMemoryLimits.laneBytesDefault, 64);
    const u32 = new Uint32Array(memory.buffer);
    writeCrcTables(u32, crcTablesAt);
    for (let lane = 0; lane < lanes; lane++) u32[(roomsFrom + lane * crcRoomBytes) / 4] = crcTablesAt;
    u32.set([magic, lanes, laneBytes, roomsFrom + lanes * (crcRoomBytes + laneBytes)], headerFrom / 4);
    return new KernelMemory(memory, 0, kernels);
  }

  /** Joins a memory that another thread laid out. Each thread takes a lane of its own. */
  static attach(memory: WasmMemory, lane: number, kernels: Kernels = liveKernels()): KernelMemory {
    return new KernelMemory(memory, lane, kernels);
  }

  /** Bytes of the data area not yet reserved through this object. */
  get freeBytes(): number {
    return this.dataBytes - this.#reserved;
  }

  /** Address of the next `bytes` of the data area, 64-aligned. Not zeroed. Throws `overloaded` when the memory is full. */
  reserve(bytes: number): number {
    const size = roundUp(bytes, 64);
    if (size > this.freeBytes) {
      throw new MillraceError("overloaded", `${size} bytes in a kernel memory with ${this.freeBytes} free`, {
        todo: "create it with more dataBytes, or split the data",
      });
    }
    const at = this.dataFrom + this.#reserved;
    this.#reserved += size;
    return at;
  }
}
