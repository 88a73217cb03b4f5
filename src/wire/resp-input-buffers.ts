// Buffers of incomplete commands, used again: a command of 72 kB comes in two reads, and two new buffers for each such command were a full garbage collection every few hundred of them
// (400 us a command, in V8's threads alone).
// Invariants: 1. what is given back is not used by the giver any more  2. content of a taken buffer is anything.
// Cost: a look-up. Concurrency: the serving loop. Limits: sizes from bytesMin to bytesMax are kept, totalMax in all; others are new ones.

const limits = { bytesMin: 16_384, bytesMax: 1_048_576, totalMax: 8_388_608 } as const;

export class InputBuffers {
  /** By size. */
  readonly #kept = new Map<number, Uint8Array[]>();
  #keptBytes = 0;

  /** Room for at least so many bytes: of few sizes. */
  static roomFor(bytes: number): number {
    return bytes < limits.bytesMin || bytes > limits.bytesMax ? bytes : 2 ** Math.ceil(Math.log2(bytes));
  }

  /** A buffer of exactly `room` bytes, which comes from `roomFor`. */
  take(room: number): Uint8Array {
    const kept = this.#kept.get(room)?.pop();
    if (kept === undefined) return new Uint8Array(room);
    this.#keptBytes -= room;
    return kept;
  }

  give(buffer: Uint8Array): void {
    const { length } = buffer;
    if (length < limits.bytesMin || length > limits.bytesMax || this.#keptBytes + length > limits.totalMax) return;
    const kept = this.#kept.get(length);
    if (kept === undefined) this.#kept.set(length, [buffer]);
    else kept.push(buffer);
    this.#keptBytes += length;
  }
}
