// Lists of numbers in records: count as varint, then each number little-endian. What the saved states of this room are made of.
// Invariant: a count is checked against the bytes that are left before anything is made of it.

import type { ByteReader } from "#base/byte-reader";
import type { ByteWriter } from "#base/byte-writer";

/** What an operator does about a saved state that is damaged. */
export const stateTodo = "remove the checkpoint it stands in: the one before it is used, the log has the rest";

/** A varint that says how many things follow, each of at least `bytesEach`; `corrupt` when so many cannot follow. */
export function readCount(from: ByteReader, bytesEach: number): number {
  const count = from.varint();
  if (count * bytesEach > from.left) throw from.damaged("it counts more than it holds");
  return count;
}

export function writeF64s(into: ByteWriter, values: ArrayLike<number>): void {
  into.varint(values.length);
  for (let i = 0; i < values.length; i += 1) into.f64(values[i]!);
}

export function readF64s(from: ByteReader): Float64Array<ArrayBuffer> {
  const values = new Float64Array(readCount(from, 8));
  for (let i = 0; i < values.length; i += 1) values[i] = from.f64();
  return values;
}

export function writeF32s(into: ByteWriter, values: ArrayLike<number>): void {
  into.varint(values.length);
  for (let i = 0; i < values.length; i += 1) into.f32(values[i]!);
}

export function readF32s(from: ByteReader): Float32Array<ArrayBuffer> {
  const values = new Float32Array(readCount(from, 4));
  for (let i = 0; i < values.length; i += 1) values[i] = from.f32();
  return values;
}
