// What kernels/list-rows.ts reads and writes, and where a bank of rows by list keeps it.

/** Words of the arguments of listRowsScan. */
export const listRowsWords = {
  lists: 0,
  listCount: 1,
  heads: 2,
  counts: 3,
  next: 4,
  blocks: 5,
  codeBytes: 6,
  query: 7,
  unit: 8,
  length: 9,
  heap: 10,
  bar: 11,
  rows: 12,
  most: 13,
  room: 14,
  found: 15,
  compared: 16,
  scratch: 17,
  spare: 18,
  count: 19,
} as const;

/** Blocks that are fetched together. */
export const listBlocksTogether = 32;

/** Rows of a block. */
export const listRowsPerBlock = 8;

/** Bytes of a block: codes, then scale, error, bias and number of each row. */
export function listBlockBytes(codeBytes: number): number {
  return listRowsPerBlock * (codeBytes + 16);
}
