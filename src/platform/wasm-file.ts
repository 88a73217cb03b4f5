// Reads the WebAssembly binaries that come with the program. At start only, hence synchronous; everything else goes through files.ts.

import { readFileSync } from "node:fs";

/** The bytes of a file of ours, or `undefined` when it is not there or cannot be read: a kernel then falls back, it does not fail. */
export function readWasmFile(url: URL): Uint8Array<ArrayBuffer> | undefined {
  try {
    return new Uint8Array(readFileSync(url));
  } catch {
    return undefined;
  }
}
