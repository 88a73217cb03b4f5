// The part of the WebAssembly API that kernels use, typed. TypeScript declares it only together with a browser's whole DOM.

import { MillraceError } from "#base/errors";

export interface WasmMemory {
  /** Always a SharedArrayBuffer here; never grown, so it stays the same object. */
  readonly buffer: SharedArrayBuffer;
}

export interface WasmModule {
  readonly wasmModule: unique symbol;
}

interface WasmApi {
  validate(bytes: Uint8Array): boolean;
  readonly Module: new (bytes: Uint8Array) => WasmModule;
  readonly Instance: new (module: WasmModule, imports: { env: { memory: WasmMemory } }) => { readonly exports: Record<string, unknown> };
  readonly Memory: new (size: { initial: number; maximum: number; shared: true }) => WasmMemory;
}

/** Undefined only where WebAssembly is switched off (`node --jitless`): there the scalar kernels run, over a plain SharedArrayBuffer. */
export const webAssembly: WasmApi | undefined = (globalThis as { WebAssembly?: WasmApi }).WebAssembly;

export const pageBytes = 65_536;
/** 4 GiB: what 32-bit addresses reach. */
export const memoryBytesMax = 65_536 * pageBytes;

/** A zeroed shared memory of at least so many bytes (whole pages). Throws `overloaded` when the machine does not give it. */
export function createWasmMemory(bytes: number): WasmMemory {
  const pages = Math.max(1, Math.ceil(bytes / pageBytes));
  try {
    if (webAssembly === undefined) return { buffer: new SharedArrayBuffer(pages * pageBytes) };
    return new webAssembly.Memory({ initial: pages, maximum: pages, shared: true });
  } catch (cause) {
    throw new MillraceError("overloaded", `no shared memory of ${pages * pageBytes} bytes`, {
      cause,
      todo: "free memory on this machine, or lower the budgets",
    });
  }
}
