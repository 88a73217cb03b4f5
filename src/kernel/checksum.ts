// CRC32C by the kernel: of bytes in a kernel memory, and of bytes elsewhere, which go through a small memory of this thread in pieces.
// For a few bytes, and where no kernel may be asked for: src/base/crc32c.ts, the same values.

import { crc32c } from "#base/crc32c";
import { KernelMemory } from "./kernel-memory.ts";

/** CRC32C of `bytes` bytes at an address, going on from `seed` (the CRC of what came before). About 1 ms for 8 MB: check large areas in parts. */
export function crc32cOf(memory: KernelMemory, at: number, bytes: number, seed = 0): number {
  return memory.calls.crc32c(memory.crcAt, at, bytes, seed) >>> 0;
}

/** Below it the copy and the call cost more than they save (512 bytes: 0.66 us in TypeScript, 0.52 by the kernel). */
const kernelFromBytes = 1_024;
const pieceBytes = 64 * 1024;
let room: KernelMemory | undefined;

/** CRC32C of `bytes[start, end)`, wherever they lie, as `crc32c` of base. 0.3 ms a MiB, the copy included, against 1.3 to 1.5 (two processors with other load; kernel.md). */
export function crc32cOfBytes(bytes: Uint8Array, seed = 0, start = 0, end = bytes.length): number {
  if (end - start < kernelFromBytes) return crc32c(bytes, seed, start, end);
  room ??= KernelMemory.create({ dataBytes: pieceBytes, laneBytes: 8 * 1024 });
  let sum = seed;
  for (let at = start; at < end; at += pieceBytes) {
    const to = Math.min(end, at + pieceBytes);
    room.bytes.set(bytes.subarray(at, to), room.dataFrom);
    sum = crc32cOf(room, room.dataFrom, to - at, sum);
  }
  return sum;
}
