// Elements -> numbers, for maps that grow to millions on a thread that must not stop.
// Why parts: a Map doubles by putting everything in anew, 5 ms and more at 100,000 texts; 512 small ones do it one after another, some 50 us each.
// Cost: one hash of at most 16 characters more than a Map. Limits: those of memory; some 100 bytes an entry.

const parts = 512;

export class ElementMap {
  readonly #maps: Map<string, number>[] = Array.from({ length: parts }, () => new Map());

  get(element: string): number | undefined {
    return this.#maps[partOf(element)]!.get(element);
  }

  set(element: string, value: number): void {
    this.#maps[partOf(element)]!.set(element, value);
  }

  delete(element: string): boolean {
    return this.#maps[partOf(element)]!.delete(element);
  }
}

/** The last characters differ most among keys that count up. */
function partOf(element: string): number {
  let hash = element.length;
  for (let i = Math.max(0, element.length - 16); i < element.length; i++) hash = Math.imul(hash ^ element.charCodeAt(i), 0x9e3779b1);
  return (hash ^ (hash >>> 15)) & (parts - 1);
}
