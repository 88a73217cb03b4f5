// Numbers of 16 bits (IEEE 754 binary16) as f32, by a table.
// Why a table: Node 20 has no Float16Array. Cost: 256 KiB, made at the first use; a load a number.

let table: Float32Array | undefined;

/** The value of each of the 65,536 halves, by its bits. */
export function floatOfHalf(): Float32Array {
  if (table !== undefined) return table;
  const made = new Float32Array(65_536);
  for (let bits = 0; bits < made.length; bits++) {
    const sign = bits >= 0x8000 ? -1 : 1;
    const exponent = (bits >> 10) & 31;
    const fraction = bits & 1_023;
    if (exponent === 31) made[bits] = fraction === 0 ? sign * Infinity : Number.NaN;
    else if (exponent === 0) made[bits] = sign * fraction * 2 ** -24;
    else made[bits] = sign * (1_024 + fraction) * 2 ** (exponent - 25);
  }
  return (table = made);
}
