// The CRC32C of two pieces joined, from their own: for files whose beginning is known last.
// How: appending n bytes multiplies a CRC by x^(8 n) modulo the polynomial; powers by repeated squaring, so the cost is some 30 products of 32 steps.
// Invariants: combineCrc32c(crc32c(a), crc32c(b), b.length) = crc32c(a followed by b).
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

/** CRC32C of two pieces one after the other; `secondBytes`: length of the second, a whole number up to 2^53. */
export function combineCrc32c(first: number, second: number, secondBytes: number): number {
  // x^8, then squared for each bit of the length.
  let power = 0x0080_0000;
  let shifted = first;
  for (let left = secondBytes; left > 0; left = Math.floor(left / 2)) {
    if (left % 2 === 1) shifted = product(shifted, power);
    power = product(power, power);
  }
  return (shifted ^ second) >>> 0;
}
