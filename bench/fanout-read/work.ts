// What is read in the scenario fanout-read: the same keys and values on all sides.

export const columnCount = 50;

export function keyOf(row: number): string {
  return `item:${String(row).padStart(12, "0")}`;
}

export function valueOf(row: number, column: number): number {
  return Math.fround(((row * 31 + column * 7) % 10_007) / 97);
}
