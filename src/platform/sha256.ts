// SHA-256 and a comparison that takes the same time wherever two digests differ: for passwords and tokens, which are kept as digests only.

import { hash, timingSafeEqual } from "node:crypto";

/** 64 lower-case hexadecimal digits. A text is hashed as UTF-8. */
export function sha256Hex(bytes: Uint8Array | string): string {
  return hash("sha256", bytes, "hex");
}

/** True when both are the same; the time depends on their lengths only. */
export function sameDigest(a: string, b: string): boolean {
  const [left, right] = [new TextEncoder().encode(a), new TextEncoder().encode(b)];
  return left.length === right.length && timingSafeEqual(left, right);
}
