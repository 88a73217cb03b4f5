// Decimal texts as x86 long doubles: parsed, added, printed; what INCRBYFLOAT computes with.
// Why: 0.1 + 0.2 is 0.3 in Redis, since it adds with a 64-bit mantissa and prints 17 digits behind the point. With doubles it would be
// 0.30000000000000004, and two clients of the same key would see different numbers.
// How: a finite number is sign x mantissa x 2^exponent with a BigInt mantissa of at most 64 bits; rounding is half to even, as the
// hardware's (IEEE 754, extended precision). Printing is exact: a binary fraction is a decimal one.
// Cost: some microseconds; more for exponents in the thousands. Limits: texts of textBytesMax.

const mantissaBits = 64;
/** Exponents of the lowest mantissa bit: largest finite, smallest subnormal. */
const exponentMax = 16_383 - 63;
const exponentMin = -16_382 - 63;

/** Longest text that is read as a number. Source: the room that Redis gives to one. */
export const textBytesMax = 5_120;
const digitsAfterPoint = 17;

export interface LongDouble {
  /** `undefined` when finite. */
  readonly infinite: boolean;
  readonly negative: boolean;
  readonly mantissa: bigint;
  readonly exponent: number;
}

/** Number as C's strtold reads it: spaces in front are refused, decimal, hexadecimal (0x1.8p3), `inf`, `infinity`. NaN, overflow and junk: `undefined`. */
export function parseLongDouble(text: string): LongDouble | undefined {
  if (text.length === 0 || text.length > textBytesMax) return undefined;
  const words = /^([+-]?)(?:(inf(?:inity)?)|0x([0-9a-f]*)(?:\.([0-9a-f]*))?(?:p([+-]?\d+))?|(\d*)(?:\.(\d*))?(?:e([+-]?\d+))?)$/i.exec(text);
  if (words === null) return undefined;
  const negative = words[1] === "-";
  if (words[2] !== undefined) return { infinite: true, negative, mantissa: 0n, exponent: 0 };
  const hexadecimal = words[3] !== undefined;
  const whole = words[hexadecimal ? 3 : 6] ?? "";
  const fraction = words[hexadecimal ? 4 : 7] ?? "";
  if (whole.length + fraction.length === 0) return undefined;
  // Powers beyond any long double are cut, so that nobody makes us compute them.
  const power = Math.max(-40_000, Math.min(40_000, Number(words[hexadecimal ? 5 : 8] ?? "0")));
  const digits = BigInt(hexadecimal ? `0x${whole}${fraction}` : `${whole}${fraction}`);
  if (digits === 0n) return { infinite: false, negative, mantissa: 0n, exponent: 0 };
  const shift = power - fraction.length * (hexadecimal ? 4 : 1);
  let rounded: LongDouble;
  if (hexadecimal) rounded = round(negative, digits, 1n, shift);
  else rounded = shift >= 0 ? round(negative, digits * 10n ** BigInt(shift), 1n, 0) : round(negative, digits, 10n ** BigInt(-shift), 0);
  // Too large or too small to be told from infinity or zero: C reports a range error.
  return rounded.infinite || rounded.mantissa === 0n ? undefined : rounded;
}

export function addLongDouble(a: LongDouble, b: LongDouble): LongDouble | undefined {
  if (a.infinite || b.infinite) {
    if (a.infinite && b.infinite && a.negative !== b.negative) return undefined;
    return a.infinite ? a : b;
  }
  const exponent = Math.min(a.exponent, b.exponent);
  const sum = signed(a) * 2n ** BigInt(a.exponent - exponent) + signed(b) * 2n ** BigInt(b.exponent - exponent);
  if (sum === 0n) return { infinite: false, negative: false, mantissa: 0n, exponent: 0 };
  return round(sum < 0n, sum < 0n ? -sum : sum, 1n, exponent);
}

/** Fixed-point text with at most 17 digits behind the point and no zeros at its end; `-0` is `0`. */
export function formatLongDouble(value: LongDouble): string {
  if (value.infinite) return value.negative ? "-inf" : "inf";
  const scale = 10n ** BigInt(digitsAfterPoint);
  let scaled: bigint;
  if (value.exponent >= 0) scaled = value.mantissa * 2n ** BigInt(value.exponent) * scale;
  else scaled = divideHalfEven(value.mantissa * scale, 2n ** BigInt(-value.exponent));
  if (scaled === 0n) return "0";
  const text = scaled.toString().padStart(digitsAfterPoint + 1, "0");
  const fraction = text.slice(-digitsAfterPoint).replace(/0+$/, "");
  return `${value.negative ? "-" : ""}${text.slice(0, -digitsAfterPoint)}${fraction === "" ? "" : `.${fraction}`}`;
}

function signed(value: LongDouble): bigint {
  return value.negative ? -value.mantissa : value.mantissa;
}

function bitLength(value: bigint): number {
  const hexadecimal = value.toString(16);
  return hexadecimal.length * 4 - Math.clz32(Number.parseInt(hexadecimal[0]!, 16)) + 28;
}

function divideHalfEven(numerator: bigint, denominator: bigint): bigint {
  const quotient = numerator / denominator;
  const twice = (numerator % denominator) * 2n;
  if (twice > denominator || (twice === denominator && (quotient & 1n) === 1n)) return quotient + 1n;
  return quotient;
}

/** numerator / denominator x 2^exponent, rounded to what a long double holds. */
function round(negative: boolean, numerator: bigint, denominator: bigint, exponent: number): LongDouble {
  // The lowest bit's exponent so that the quotient has 64 bits, or 65 at times: then it is taken one higher.
  let low = Math.max(exponent + bitLength(numerator) - bitLength(denominator) - mantissaBits, exponentMin);
  let mantissa = scaledQuotient(numerator, denominator, exponent - low);
  if (bitLength(mantissa) > mantissaBits) {
    low++;
    mantissa = scaledQuotient(numerator, denominator, exponent - low);
    if (bitLength(mantissa) > mantissaBits) {
      // Rounding carried into a 65th bit: a power of two.
      mantissa >>= 1n;
      low++;
    }
  }
  if (low > exponentMax && mantissa !== 0n) return { infinite: true, negative, mantissa: 0n, exponent: 0 };
  return { infinite: false, negative, mantissa, exponent: low };
}

function scaledQuotient(numerator: bigint, denominator: bigint, shift: number): bigint {
  return shift >= 0 ? divideHalfEven(numerator << BigInt(shift), denominator) : divideHalfEven(numerator, denominator << BigInt(-shift));
}
