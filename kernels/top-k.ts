// A heap that keeps the k best of many scored rows and filters by its threshold: what all scans offer their rows to.
//
// Order: higher score first; equal scores by the lower row. A score that is NaN or -Infinity never enters.
//
// The heap, at an address of the host:
//   +0 u32 k   +4 u32 size   +8 u32 0   +12 u32 0   +16 f32 scores[k]   then u32 rows[k]
// While scanning entry 0 is the worst kept; topKSort turns the entries best first.

const scoresFrom: usize = 16;

function isWorse(score: f32, row: u32, otherScore: f32, otherRow: u32): bool {
  return score < otherScore || (score == otherScore && row > otherRow);
}

/** Lets an entry sink from the root of a heap of `size` entries. */
function sink(scores: usize, rows: usize, size: u32, score: f32, row: u32): void {
  let hole: u32 = 0;
  for (;;) {
    let child: u32 = 2 * hole + 1;
    if (child >= size) break;
    let childScore = load<f32>(scores + ((<usize>child) << 2));
    let childRow = load<u32>(rows + ((<usize>child) << 2));
    if (child + 1 < size) {
      const rightScore = load<f32>(scores + ((<usize>child) << 2), 4);
      const rightRow = load<u32>(rows + ((<usize>child) << 2), 4);
      if (isWorse(rightScore, rightRow, childScore, childRow)) {
        child += 1;
        childScore = rightScore;
        childRow = rightRow;
      }
    }
    if (!isWorse(childScore, childRow, score, row)) break;
    store<f32>(scores + ((<usize>hole) << 2), childScore);
    store<u32>(rows + ((<usize>hole) << 2), childRow);
    hole = child;
  }
  store<f32>(scores + ((<usize>hole) << 2), score);
  store<u32>(rows + ((<usize>hole) << 2), row);
}

/** Offers one scored row to the heap; returns the threshold after it: below it nothing can enter. */
export function offer(heap: usize, score: f32, row: u32): f32 {
  const k = load<u32>(heap);
  const size = load<u32>(heap, 4);
  const scores = heap + scoresFrom;
  const rows = scores + ((<usize>k) << 2);
  if (size < k) {
    if (!(score > -Infinity)) return -Infinity;
    let hole = size;
    while (hole > 0) {
      const parent = (hole - 1) >> 1;
      const parentScore = load<f32>(scores + ((<usize>parent) << 2));
      const parentRow = load<u32>(rows + ((<usize>parent) << 2));
      if (!isWorse(score, row, parentScore, parentRow)) break;
      store<f32>(scores + ((<usize>hole) << 2), parentScore);
      store<u32>(rows + ((<usize>hole) << 2), parentRow);
      hole = parent;
    }
    store<f32>(scores + ((<usize>hole) << 2), score);
    store<u32>(rows + ((<usize>hole) << 2), row);
    store<u32>(heap, size + 1, 4);
    return size + 1 < k ? -Infinity : load<f32>(scores);
  }
  // A score that is no number is worse than nothing and better than nothing: it must not come past this line.
  if (score == score && isWorse(load<f32>(scores), load<u32>(rows), score, row)) sink(scores, rows, k, score, row);
  return load<f32>(scores);
}

/** The worst score kept, once k are: what is below it cannot enter. */
export function thresholdOf(heap: usize): f32 {
  return load<u32>(heap, 4) < load<u32>(heap) ? -Infinity : load<f32>(heap, 16);
}

/** Empties the heap at `heap` and sets how many it keeps (k >= 1). */
export function topKReset(heap: usize, k: u32): void {
  store<u32>(heap, k);
  store<u64>(heap, 0, 4);
  store<u32>(heap, 0, 12);
}

/** Sorts the kept entries best first and returns how many there are. The heap takes no more offers until it is reset. */
export function topKSort(heap: usize): u32 {
  const k = load<u32>(heap);
  const size = load<u32>(heap, 4);
  const scores = heap + scoresFrom;
  const rows = scores + ((<usize>k) << 2);
  for (let last = size; last > 1;) {
    last -= 1;
    const score = load<f32>(scores + ((<usize>last) << 2));
    const row = load<u32>(rows + ((<usize>last) << 2));
    store<f32>(scores + ((<usize>last) << 2), load<f32>(scores));
    store<u32>(rows + ((<usize>last) << 2), load<u32>(rows));
    sink(scores, rows, last, score, row);
  }
  return size;
}
