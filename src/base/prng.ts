// Seeded random numbers: xoshiro128** with named, independent streams.
// Why: a failure in a simulation, a fuzz test or the demo world must be a number that can be replayed. 32-bit state words run at full speed in
// JavaScript; a 64-bit generator would need BigInt.
// Source: Blackman and Vigna, "Scrambled linear pseudorandom number generators", ACM TOMS 47(4), 2021 (xoshiro128**); seeding by SplitMix64,
// Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014, as the former's authors advise.
// Invariants: 1. the same seed gives the same numbers on every machine  2. `fork(name)` depends on the seed and the name alone, never on how many
// numbers were drawn before, so one part that draws more does not shift the others  3. the state is never all zero.
// Cost: about 5 ns a number; making or forking one costs some microseconds (BigInt).
// Limits: not for secrets. Period 2^128 - 1.

const mask64 = (1n << 64n) - 1n;

/** FNV-1a over the UTF-16 units of a text, 64 bits. Only for turning names and text seeds into numbers. */
function textSeed(text: string): bigint {
  let hash = 0xcbf29ce484222325n;
  for (let i = 0; i < text.length; i++) hash = ((hash ^ BigInt(text.charCodeAt(i))) * 0x100000001b3n) & mask64;
  return hash;
}

function splitMix64(state: bigint): bigint {
  let z = state;
  z = ((z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n) & mask64;
  z = ((z ^ (z >> 27n)) * 0x94d049bb133111ebn) & mask64;
  return z ^ (z >> 31n);
}

export class Prng {
  readonly #seed: bigint;
  #a: number;
  #b: number;
  #c: number;
  #d: number;

  /** `seed`: an integer up to 2^53, a text, or 64 bits. */
  constructor(seed: number | string | bigint) {
    const start = typeof seed === "string" ? textSeed(seed) : BigInt(seed) & mask64;
    this.#seed = start;
    const first = splitMix64((start + 0x9e3779b97f4a7c15n) & mask64);
    const second = splitMix64((start + 0x3c6ef372fe94f82an) & mask64);
    this.#a = Number(first & 0xffffffffn);
    this.#b = Number(first >> 32n);
    this.#c = Number(second & 0xffffffffn);
    this.#d = Number(second >> 32n);
    if ((this.#a | this.#b | this.#c | this.#d) === 0) this.#a = 1;
  }

  /** A generator with the four state words given; for checking against published sequences. */
  static fromState(a: number, b: number, c: number, d: number): Prng {
    const prng = new Prng(0);
    prng.#a = a;
    prng.#b = b;
    prng.#c = c;
    prng.#d = d;
    return prng;
  }

  /** An independent stream, the same for the same seed and name however often and whenever it is asked for. */
  fork(name: string): Prng {
    return new Prng(splitMix64((this.#seed + 0x9e3779b97f4a7c15n) & mask64) ^ splitMix64(textSeed(name)));
  }

  /** Integer in [0, 2^32). */
  u32(): number {
    const times5 = Math.imul(this.#b, 5);
    const result = Math.imul((times5 << 7) | (times5 >>> 25), 9) >>> 0;
    const shifted = this.#b << 9;
    this.#c ^= this.#a;
    this.#d ^= this.#b;
    this.#b ^= this.#c;
    this.#a ^= this.#d;
    this.#c ^= shifted;
    this.#d = (this.#d << 11) | (this.#d >>> 21);
    return result;
  }

  /** Number in [0, 1) with 53 random bits. */
  float(): number {
    const high = this.u32() >>> 5;
    return (high * 67_108_864 + (this.u32() >>> 6)) / 9_007_199_254_740_992;
  }

  /** Integer in [0, n), without bias, 1 <= n <= 2^53. */
  below(n: number): number {
    if (n <= 4_294_967_296) {
      const limit = 4_294_967_296 - (4_294_967_296 % n);
      let drawn = this.u32();
      while (drawn >= limit) drawn = this.u32();
      return drawn % n;
    }
    const limit = 9_007_199_254_740_992 - (9_007_199_254_740_992 % n);
    let drawn = this.float() * 9_007_199_254_740_992;
    while (drawn >= limit) drawn = this.float() * 9_007_199_254_740_992;
    return drawn % n;
  }

  /** Integer in [low, high], both included. */
  between(low: number, high: number): number {
    return low + this.below(high - low + 1);
  }

  /** True with the given probability. */
  chance(probability: number): boolean {
    return this.float() < probability;
  }

  /** Normal deviate (Box and Muller, 1958); one of the pair is thrown away so that a draw has no hidden state. */
  normal(mean = 0, deviation = 1): number {
    const radius = Math.sqrt(-2 * Math.log(1 - this.float()));
    return mean + deviation * radius * Math.cos(2 * Math.PI * this.float());
  }

  /** Exponential deviate with the given mean, by inversion. */
  exponential(mean = 1): number {
    return -mean * Math.log(1 - this.float());
  }

  /** One element; the list must not be empty. */
  pick<T>(list: readonly T[]): T {
    if (list.length === 0) throw new RangeError("pick from an empty list");
    return list[this.below(list.length)] as T;
  }

  /** Shuffles in place (Fisher and Yates) and returns the same list. */
  shuffle<T>(list: T[]): T[] {
    for (let i = list.length - 1; i > 0; i--) {
      const j = this.below(i + 1);
      const kept = list[i] as T;
      list[i] = list[j] as T;
      list[j] = kept;
    }
    return list;
  }

  /** Fills `into` with random bytes and returns it. */
  bytes(into: Uint8Array): Uint8Array {
    for (let i = 0; i < into.length; i += 4) {
      const word = this.u32();
      into[i] = word;
      if (i + 1 < into.length) into[i + 1] = word >>> 8;
      if (i + 2 < into.length) into[i + 2] = word >>> 16;
      if (i + 3 < into.length) into[i + 3] = word >>> 24;
    }
    return into;
  }
}
