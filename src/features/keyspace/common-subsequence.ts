// Longest common subsequence of two byte strings, with the matched ranges, in the order in which LCS answers them: last range first.
// Source: the textbook table (Wagner and Fischer, 1974): length[i][j] = length[i-1][j-1] + 1 where the bytes agree, else the larger neighbour;
// walked back from the end, going left in `a` only where that is strictly better, so that ties are broken as Redis breaks them.
// The end that both share is the first range of that walk, so it needs no table: equal strings cost their length.
// Cost: 4 B and some nanoseconds a cell. Limit: cellsMax, which keeps one call to some milliseconds.

/** Pairs whose table, without the end they share, is larger are refused. */
export const cellsMax = 1 << 20;

export interface MatchedRange {
  /** First and last position in each, both included. */
  readonly a: readonly [number, number];
  readonly b: readonly [number, number];
}

export interface CommonSubsequence {
  readonly length: number;
  readonly bytes: Uint8Array;
  readonly ranges: readonly MatchedRange[];
}

/** `undefined` when the table would exceed cellsMax. */
export function longestCommonSubsequence(a: Uint8Array, b: Uint8Array): CommonSubsequence | undefined {
  let endA = a.length;
  let endB = b.length;
  while (endA > 0 && endB > 0 && a[endA - 1] === b[endB - 1]) {
    endA--;
    endB--;
  }
  const width = endB + 1;
  if ((endA + 1) * width > cellsMax) return undefined;
  const table = new Uint32Array((endA + 1) * width);
  for (let i = 1; i <= endA; i++) {
    const byte = a[i - 1]!;
    for (let j = 1; j <= endB; j++) {
      const at = i * width + j;
      if (byte === b[j - 1]) table[at] = table[at - width - 1]! + 1;
      else table[at] = Math.max(table[at - width]!, table[at - 1]!);
    }
  }
  const shared = a.length - endA;
  const length = table[table.length - 1]! + shared;
  const bytes = new Uint8Array(length);
  bytes.set(a.subarray(endA), length - shared);
  const ranges: MatchedRange[] = shared === 0 ? [] : [{ a: [endA, a.length - 1], b: [endB, b.length - 1] }];
  let left = length - shared;
  let i = endA;
  let j = endB;
  while (i > 0 && j > 0) {
    if (a[i - 1] !== b[j - 1]) {
      if (table[(i - 1) * width + j]! > table[i * width + j - 1]!) i--;
      else j--;
      continue;
    }
    const lastA = i - 1;
    const lastB = j - 1;
    do {
      i--;
      j--;
      bytes[--left] = a[i]!;
    } while (i > 0 && j > 0 && a[i - 1] === b[j - 1]);
    ranges.push({ a: [i, lastA], b: [j, lastB] });
  }
  return { length, bytes, ranges };
}
