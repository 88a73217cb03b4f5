// CRC32C (Castagnoli): the checksum of every file format of millrace.
// Why: it finds every burst of up to 32 bits and is what storage systems share; zlib's `crc32` is another polynomial and must not be mixed up with it.
// Slicing by eight in plain TypeScript: eight tables turn eight bytes into one step without a loop-carried shift chain.
// Invariants: 1. crc32c(b, crc32c(a)) = crc32c(a followed by b), so a checksum can be taken in pieces  2. results are unsigned 32-bit integers
// 3. pure: no state but constant tables.
// Cost: 8 KiB of tables; docs/design/backbone.md has the measured MB/s (crc32c.bench in the same note). No allocation per call.
// Source of the polynomial and of the test values: RFC 3720 appendix B.4.

const polynomialReversed = 0x82f63b78;

/** Eight tables of 256 entries behind one another: entry `t * 256 + b` is the effect of byte `b` followed by `t` zero bytes. */
const table = ((): Int32Array => {
  const made = new Int32Array(8 * 256);
  for (let byte = 0; byte < 256; byte += 1) {
    let crc = byte;
    for (let bit = 0; bit < 8; bit += 1) crc = (crc >>> 1) ^ ((crc & 1) === 1 ? polynomialReversed : 0);
    made[byte] = crc;
  }
  for (let at = 256; at < made.length; at += 1) {
    const before = made[at - 256]!;
    made[at] = (before >>> 8) ^ made[before & 0xff]!;
  }
  return made;
})();

/** CRC32C of `bytes[start, end)`, going on from `seed` (the CRC of what came before; 0 at the beginning). */
export function crc32c(bytes: Uint8Array, seed = 0, start = 0, end = bytes.length): number {
  let crc = ~seed;
  let at = start;
  const wholeEnd = end - 7;
  while (at < wholeEnd) {
    crc ^= bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24);
    crc =
      table[1792 + (crc & 0xff)]! ^
      table[1536 + ((crc >>> 8) & 0xff)]! ^
      table[1280 + ((crc >>> 16) & 0xff)]! ^
      table[1024 + (crc >>> 24)]! ^
      table[768 + bytes[at + 4]!]! ^
      table[512 + bytes[at + 5]!]! ^
      table[256 + bytes[at + 6]!]! ^
      table[bytes[at + 7]!]!;
    at += 8;
  }
  while (at < end) {
    crc = (crc >>> 8) ^ table[(crc ^ bytes[at]!) & 0xff]!;
    at += 1;
  }
  return ~crc >>> 0;
}
