// Choosing the best k rows by score, and the selector `topK`.
// Why a threshold heap: k is small against n, and almost every row fails one comparison with the worst of the best k. Sorting all rows costs 20 to 80 times more.
// Order: higher score first; equal scores by lower row, which is the order in which sources were declared and emitted. So an answer is a function of its input.
// Cost: n comparisons + O(k log k) + rare replacements; no memory besides `order`.

import { assert } from "#base/errors";
import { type Select, select } from "./step.ts";

/** Row numbers a packed key can hold: 32 bits of score and 21 of row make the 53 bits a float64 holds exactly. */
const rowNumbers = 2 ** 21;

/** Lets the row at `at` sink until no child is worse; the worst row is the root. Scores hold no NaN (flight.ts turns them into -Infinity). */
function sink(scores: Float32Array, heap: Uint32Array, at: number, size: number): void {
  const row = heap[at]!;
  const own = scores[row]!;
  for (;;) {
    let child = 2 * at + 1;
    if (child >= size) break;
    let below = heap[child]!;
    let least = scores[below]!;
    if (child + 1 < size) {
      const right = heap[child + 1]!;
      const other = scores[right]!;
      if (other < least || (other === least && right > below)) {
        child++;
        below = right;
        least = other;
      }
    }
    if (own < least || (own === least && row > below)) break;
    heap[at] = below;
    at = child;
  }
  heap[at] = row;
}

/** Writes the best min(k, n) rows of the first n into `order`, best first. Returns how many. `order` must hold as many. */
export function topRows(scores: Float32Array, n: number, k: number, order: Uint32Array): number {
  const size = Math.min(k, n);
  if (size <= 0) return 0;
  for (let row = 0; row < size; row++) order[row] = row;
  for (let at = (size >>> 1) - 1; at >= 0; at--) sink(scores, order, at, size);
  let threshold = scores[order[0]!]!;
  for (let row = size; row < n; row++) {
    // A tie loses: every row in the heap has a lower number.
    if (scores[row]! > threshold) {
      order[0] = row;
      sink(scores, order, 0, size);
      threshold = scores[order[0]]!;
    }
  }
  for (let end = size - 1; end > 0; end--) {
    const worst = order[0]!;
    order[0] = order[end]!;
    order[end] = worst;
    sink(scores, order, 0, end);
  }
  return size;
}

/** All of the first n rows, best first, in the order of `topRows`. Allocates; for whole rankings, where sorting packed keys beats the heap two to three times. */
export function rankRows(scores: Float32Array, n: number): Uint32Array {
  assert(n <= rowNumbers, "more rows than a packed key can number");
  // A key is the score's bits, turned so that larger scores sort first as unsigned numbers, then 21 bits of row number. Adding 0 makes -0 equal to 0.
  const copy = new Float32Array(n);
  for (let row = 0; row < n; row++) copy[row] = scores[row]! + 0;
  const bits = new Uint32Array(copy.buffer);
  const keys = new Float64Array(n);
  for (let row = 0; row < n; row++) {
    const b = bits[row]!;
    keys[row] = ((b & 0x80000000 ? b : ~b & 0x7fffffff) >>> 0) * rowNumbers + row;
  }
  keys.sort();
  const order = new Uint32Array(n);
  for (let rank = 0; rank < n; rank++) order[rank] = keys[rank]! % rowNumbers;
  return order;
}

/** The plain selector: the k best by score. Give a name when a pipeline uses it more than once. */
export function topK(name = "top-k"): Select<unknown, { readonly score: "f32" }> {
  return select<unknown>()(name, { score: "f32" }, (_ctx, batch, k, order) => topRows(batch.col("score"), batch.n, k, order));
}
