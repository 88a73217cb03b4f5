// The two seeded 64-bit key hashes in TypeScript: the twin of kernels/key-hash.ts, bit for bit. Definitions and vectors: docs/format/key-hash.md.
// Why two 32-bit halves: BigInt allocates for every step. An exact 32 x 32 -> 64 product comes from Math.imul (low half) and the rounded
// double product: (a * b - low) / 2^32 is an integer, and the double is wrong by less than 2^-20 of it, so rounding gives the high half.
// Cost: about 15-20 ns and no allocation for a key of 16 bytes, 60 for 60 bytes; the kernels hash batches 5x faster.
// Invariant: part of file formats; a constant here never changes.
// Limits: not for secrets; a key is at most 2^32 - 1 bytes.

/** A 64-bit seed as its two halves, each an unsigned 32-bit number. */
export interface KeySeed {
  readonly low: number;
  readonly high: number;
}

const goldenLow = 0x7f4a7c15;
const goldenHigh = 0x9e3779b9;

/** The halves of `seed` modulo 2^64. */
export function keySeed(seed: bigint): KeySeed {
  return { low: Number(seed & 0xffffffffn), high: Number((seed >> 32n) & 0xffffffffn) };
}

/** High half of the exact product of two unsigned 32-bit numbers whose low half is `low`. */
function productHigh(a: number, b: number, low: number): number {
  return Math.round((a * b - low) * 2 ** -32);
}

/** Hashes keys of one seed. One hasher a thread: `low` and `high` hold the last result. */
export class KeyHasher {
  readonly #startLow: number;
  readonly #startHigh: number;
  /** Halves of the last hash, unsigned. */
  low = 0;
  high = 0;

  constructor(seed: KeySeed) {
    this.low = seed.low;
    this.high = seed.high;
    addGolden(this, 1);
    mix(this);
    this.#startLow = this.low;
    this.#startHigh = this.high;
  }

  /** Hashes the bytes `from` to `to` of the view; the result stands in `low` and `high`. */
  hash(view: DataView, from: number, to: number): void {
    const bytes = to - from;
    this.low = this.#startLow;
    this.high = this.#startHigh;
    addGolden(this, bytes);
    let { low, high } = this;
    for (let at = from; at < to; at += 8) {
      let wordLow: number;
      let wordHigh: number;
      if (to - at >= 8) {
        wordLow = view.getUint32(at, true);
        wordHigh = view.getUint32(at + 4, true);
      } else {
        wordLow = 0;
        wordHigh = 0;
        for (let i = to - 1; i >= at; i--) {
          wordHigh = (wordHigh << 8) | (wordLow >>> 24);
          wordLow = (wordLow << 8) | view.getUint8(i);
        }
      }
      // x = h ^ word; h = low(x) * high(x) + rotl(x, 23)
      const xLow = (low ^ wordLow) >>> 0;
      const xHigh = (high ^ wordHigh) >>> 0;
      const partLow = Math.imul(xLow, xHigh) >>> 0;
      const turnedLow = ((xLow << 23) | (xHigh >>> 9)) >>> 0;
      const turnedHigh = ((xHigh << 23) | (xLow >>> 9)) >>> 0;
      low = (partLow + turnedLow) >>> 0;
      high = (productHigh(xLow, xHigh, partLow) + turnedHigh + (low < partLow ? 1 : 0)) >>> 0;
    }
    this.low = low;
    this.high = high;
    mix(this);
  }
}

interface Halves {
  low: number;
  high: number;
}

/** h = (h + times * golden) modulo 2^64; `times` below 2^32. */
function addGolden(h: Halves, times: number): void {
  const partLow = Math.imul(times, goldenLow) >>> 0;
  const partHigh = (productHigh(times >>> 0, goldenLow, partLow) + Math.imul(times, goldenHigh)) >>> 0;
  h.low = (h.low + partLow) >>> 0;
  h.high = (h.high + partHigh + (h.low < partLow ? 1 : 0)) >>> 0;
}

/** mix64 of the definition. */
function mix(h: Halves): void {
  mixStep(h, 30, 0x1ce4e5b9, 0xbf58476d);
  mixStep(h, 27, 0x133111eb, 0x94d049bb);
  const { low, high } = h;
  h.low = (low ^ ((low >>> 31) | (high << 1))) >>> 0;
  h.high = (high ^ (high >>> 31)) >>> 0;
}

/** h = (h ^ (h >> shift)) * factor, 0 < shift < 32. */
function mixStep(h: Halves, shift: number, factorLow: number, factorHigh: number): void {
  const low = (h.low ^ ((h.low >>> shift) | (h.high << (32 - shift)))) >>> 0;
  const high = (h.high ^ (h.high >>> shift)) >>> 0;
  const productLow = Math.imul(low, factorLow) >>> 0;
  h.low = productLow;
  h.high = (productHigh(low, factorLow, productLow) + Math.imul(low, factorHigh) + Math.imul(high, factorLow)) >>> 0;
}

const stripeBytes = 64;
const pieceBytes = 16;

/** Hashes keys of one seed by the stripe hash. One hasher a thread: `low` and `high` hold the last result. */
export class StripeHasher {
  readonly #startLow: number;
  readonly #startHigh: number;
  /** A word of 32 bits for each word of a stripe. */
  readonly #secret = new Uint32Array(stripeBytes / 4);
  readonly #short = new DataView(new ArrayBuffer(pieceBytes));
  /** Halves of the last hash, unsigned. */
  low = 0;
  high = 0;

  constructor(seed: KeySeed) {
    this.low = seed.low;
    this.high = seed.high;
    addGolden(this, 1);
    mix(this);
    this.#startLow = this.low;
    this.#startHigh = this.high;
    for (let i = 0; i < this.#secret.length; i += 2) {
      this.low = this.#startLow;
      this.high = this.#startHigh;
      addGolden(this, i / 2 + 1);
      mix(this);
      this.#secret[i] = this.low;
      this.#secret[i + 1] = this.high;
    }
  }

  /** Hashes the bytes `from` to `to` of the view; the result stands in `low` and `high`. */
  hash(view: DataView, from: number, to: number): void {
    const bytes = to - from;
    this.low = this.#startLow;
    this.high = this.#startHigh;
    addGolden(this, bytes);
    if (bytes < pieceBytes) {
      // Eight bytes and more: the first eight and the last eight. Fewer: they end an eight-byte word that begins with zeros.
      const short = this.#short;
      short.setFloat64(0, 0);
      short.setFloat64(8, 0);
      if (bytes < 8) for (let i = 0; i < bytes; i++) short.setUint8(8 - bytes + i, view.getUint8(from + i));
      else {
        for (let i = 0; i < 8; i++) {
          short.setUint8(i, view.getUint8(from + i));
          short.setUint8(8 + i, view.getUint8(to - 8 + i));
        }
      }
      this.#stripe(short, 0, 0, 0, 0);
      return;
    }
    if (bytes <= stripeBytes) {
      const last = to - pieceBytes;
      this.#stripe(view, from, Math.min(from + 16, last), Math.min(from + 32, last), last);
      return;
    }
    const last = to - stripeBytes;
    for (let at = from; ; at = Math.min(at + stripeBytes, last)) {
      this.#stripe(view, at, at + 16, at + 32, at + 48);
      if (at === last) return;
    }
  }

  /** h = mix64(h + sum of the products of the words of the first and the second piece, and of the third and the fourth, each added to its secret). */
  #stripe(view: DataView, first: number, second: number, third: number, fourth: number): void {
    const secret = this.#secret;
    let lows = this.low;
    let highs = this.high;
    for (let word = 0; word < 8; word++) {
      const inPiece = 4 * (word & 3);
      const isFirst = word < 4;
      const x = (view.getUint32((isFirst ? first : third) + inPiece, true) + secret[isFirst ? word : word + 4]!) >>> 0;
      const y = (view.getUint32((isFirst ? second : fourth) + inPiece, true) + secret[isFirst ? word + 4 : word + 8]!) >>> 0;
      const low = Math.imul(x, y) >>> 0;
      lows += low;
      highs += productHigh(x, y, low);
    }
    // Sums of nine numbers below 2^32 are exact.
    this.low = lows >>> 0;
    this.high = (highs + Math.floor(lows / 2 ** 32)) >>> 0;
    mix(this);
  }
}

/** The hash of one key. For single keys off the hot path; batches go through `hashKeys` of hash-keys.ts. */
export function hashKey(key: Uint8Array, seed: KeySeed): bigint {
  const hasher = new KeyHasher(seed);
  hasher.hash(new DataView(key.buffer, key.byteOffset, key.byteLength), 0, key.byteLength);
  return (BigInt(hasher.high) << 32n) | BigInt(hasher.low);
}

/** The stripe hash of one key. For single keys off the hot path. */
export function stripeHash(key: Uint8Array, seed: KeySeed): bigint {
  const hasher = new StripeHasher(seed);
  hasher.hash(new DataView(key.buffer, key.byteOffset, key.byteLength), 0, key.byteLength);
  return (BigInt(hasher.high) << 32n) | BigInt(hasher.low);
}
