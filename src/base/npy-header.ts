// The head of a `.npy` file that we write: numpy.load reads what stands behind it. Format: numpy/lib/format.py of NumPy, version 1.0.
// Invariant: the same type and shape give the same bytes, a multiple of 64, so that a reader may compare them with what it expects instead of parsing them.

/** f4, u4: little-endian numbers of four bytes; i1, u1: bytes. */
export type NpyType = "<f4" | "<u4" | "|i1" | "|u1";

/** The bytes before the array, which lies in C order. Shapes of up to some dozen dimensions. */
export function npyHeader(type: NpyType, shape: readonly number[]): Uint8Array {
  const text = `{'descr': '${type}', 'fortran_order': False, 'shape': (${shape.length === 1 ? `${shape[0]},` : shape.join(", ")}), }`;
  const bytes = new Uint8Array(Math.ceil((10 + text.length + 1) / 64) * 64).fill(0x20);
  bytes.set([0x93, 0x4e, 0x55, 0x4d, 0x50, 0x59, 1, 0, (bytes.length - 10) & 255, (bytes.length - 10) >>> 8]);
  for (let i = 0; i < text.length; i++) bytes[10 + i] = text.charCodeAt(i);
  bytes[bytes.length - 1] = 0x0a;
  return bytes;
}
