// The CRC32C of two pieces joined, from their own: for files whose beginning is known last.
// How: appending n bytes multiplies a CRC by x^(8 n) modulo the polynomial; powers by repeated squaring, so the cost is some 30 products of 32 steps.
// Invariant: combineCrc32c(crc32c(a), crc32c(b), b.length) = crc32c(a followed by b).
// Source: the combination of CRCs in zlib (crc32_combine), M. Adler; here for the polynomial of crc32c.ts, bits reflected: the highest bit is x^0.

const polynomialReversed = 0x82f63b78;

/** a * b modulo the polynomial. */
function product(a: number, b: number): number {
  let sum = 0;
  let factor = b;
  for (let bit = 31; bit >= 0; bit -= 1) {
    if (((a >>> bit) & 1) === 1) sum ^= factor;
    factor = (factor & 1) === 1 ? (factor >>> 1) ^ polynomialReversed : factor >>> 1;
  }
  return sum >>> 0;
}

/** What a checksum is multiplied by when `bytes` bytes come behind; a whole number up to 2^53. */
function shiftOf(bytes: number): number {
  // x^8, then squared for each bit of the length; 1 is the highest bit.
  let power = 0x0080_0000;
  let shift = 0x8000_0000;
  for (let left = bytes; left > 0; left = Math.floor(left / 2)) {
    if (left % 2 === 1) shift = product(shift, power);
    power = product(power, power);
  }
  return shift;
}

/** CRC32C of two pieces one after the other; `secondBytes`: length of the second, a whole number up to 2^53. */
export function combineCrc32c(first: number, second: number, secondBytes: number): number {
  return (product(first, shiftOf(secondBytes)) ^ second) >>> 0;
}

/** The same for a first piece and many of one length behind it: `sums[from, to)` in order. 60 ns a piece. */
export function combineEqualCrc32c(first: number, sums: Uint32Array, from: number, to: number, pieceBytes: number): number {
  const shift = shiftOf(pieceBytes);
  let sum = first;
  for (let i = from; i < to; i++) sum = product(sum, shift) ^ sums[i]!;
  return sum >>> 0;
}
