// CRC32C over bytes in a kernel memory, by the kernel. For bytes elsewhere and small things: src/base/crc32c.ts, the same values.

import type { KernelMemory } from "./kernel-memory.ts";

/** CRC32C of `bytes` bytes at an address, going on from `seed` (the CRC of what came before). About 1 ms for 8 MB: check large areas in parts. */
export function crc32cOf(memory: KernelMemory, at: number, bytes: number, seed = 0): number {
  return memory.calls.crc32c(memory.crcAt, at, bytes, seed) >>> 0;
}
