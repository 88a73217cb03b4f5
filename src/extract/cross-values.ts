// The values of one side that crosses multiply: keys and numbers of its crossed fields, field by field.
// Values of field f stand at [ends[f], ends[f + 1]).
// Invariant: a field's values have different keys, as its slots have.
// Limits: room for the most that the declaration allows, never more.

export class CrossValues {
  readonly ends: Uint32Array;
  /** Two a value: low, high. */
  readonly keys: Uint32Array;
  readonly weights: Float32Array;
  #field = 0;
  #count = 0;

  constructor(fields: number, valuesMax: number) {
    this.ends = new Uint32Array(fields + 1);
    this.keys = new Uint32Array(valuesMax * 2);
    this.weights = new Float32Array(valuesMax);
  }

  begin(): void {
    this.#field = 0;
    this.#count = 0;
  }

  /** A value of the current field. */
  add(low: number, high: number, weight: number): void {
    const { keys } = this;
    for (let at = this.ends[this.#field]!; at < this.#count; at += 1) {
      if (keys[2 * at] === low && keys[2 * at + 1] === high) {
        this.weights[at]! += weight;
        return;
      }
    }
    const at = this.#count;
    keys[2 * at] = low;
    keys[2 * at + 1] = high;
    this.weights[at] = weight;
    this.#count = at + 1;
  }

  endField(): void {
    this.#field += 1;
    this.ends[this.#field] = this.#count;
  }
}
