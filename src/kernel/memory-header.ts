// How a structure in a kernel memory is known by its address: a magic word at a 64-aligned place, with its header inside the memory.
// Why: an address comes as a number from another thread. One of another structure, of another memory or made up must be refused before any word is believed.
// Concurrency: any thread; the magic word is written before an address is handed on.

import { MillraceError } from "#base/errors";
import type { KernelMemory } from "./kernel-memory.ts";

/** Throws `corrupt` unless `headerBytes` bytes that begin with `magic` lie at `at`. `what` is its name in a sentence, `type` the class whose addresses are right. */
export function checkHeader(memory: KernelMemory, at: number, headerBytes: number, magic: number, what: string, type: string): void {
  if (at % 64 === 0 && at >= 0 && at + headerBytes <= memory.bytes.length && Atomics.load(memory.u32, at / 4) === magic) return;
  throw new MillraceError("corrupt", `no ${what} at address ${at}`, { todo: `attach with the address of ${type}` });
}
