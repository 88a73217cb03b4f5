// The tables of the CRC32C kernel: 16 x 256 words, entry `t * 256 + b` is the effect of byte b followed by t zero bytes.
// Why in each memory: a kernel has no data of its own, and a checksum of one block must not begin with the writing of 16 KiB.
// Cost: 16 KiB a memory. Source of the polynomial: RFC 3720 appendix B.4. The definition over arrays: src/base/crc32c.ts.

const polynomialReversed = 0x82f63b78;
const slices = 16;

let made: Uint32Array | undefined;

function tables(): Uint32Array {
  if (made !== undefined) return made;
  const words = new Uint32Array(slices * 256);
  for (let byte = 0; byte < 256; byte++) {
    let crc = byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ ((crc & 1) === 1 ? polynomialReversed : 0);
    words[byte] = crc;
  }
  for (let at = 256; at < words.length; at++) {
    const before = words[at - 256]!;
    words[at] = (before >>> 8) ^ words[before & 0xff]!;
  }
  return (made = words);
}

/** Writes the tables at an address of a memory. */
export function writeCrcTables(u32: Uint32Array, at: number): void {
  u32.set(tables(), at / 4);
}
