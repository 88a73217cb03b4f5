// Glob patterns over bytes, with the meaning that Redis gives them: `*`, `?`, `[abc]`, `[a-z]`, `[^...]`, `\` before any of them.
// Why our own: the pattern works on bytes, not on characters, and an unclosed class, a reversed range or a closing backslash have a meaning
// that clients rely on and that no glob library shares.
// Cost: O(pattern x text) at worst, since only the last `*` is ever tried again; no allocation.

const star = 0x2a;
const question = 0x3f;
const open = 0x5b;
const close = 0x5d;
const caret = 0x5e;
const backslash = 0x5c;
const dash = 0x2d;

/** True for the pattern `*` alone, which every text matches, the empty one too. */
export function matchesAll(pattern: Uint8Array): boolean {
  return pattern.length === 1 && pattern[0] === star;
}

/** The bytes that every match begins with: what stands before the first special byte. For scans that can start and end there. */
export function literalPrefix(pattern: Uint8Array): Uint8Array {
  let end = 0;
  while (end < pattern.length) {
    const byte = pattern[end]!;
    if (byte === star || byte === question || byte === open || byte === backslash) break;
    end++;
  }
  return pattern.subarray(0, end);
}

/**
 * Whether the whole text matches. As with Redis an empty text matches only an empty pattern here; callers ask `matchesAll` first.
 * A class that is not closed ends with the pattern; a backslash at the end stands for itself.
 */
export function globMatches(pattern: Uint8Array, text: Uint8Array): boolean {
  const patternEnd = pattern.length;
  const textEnd = text.length;
  if (textEnd === 0) return patternEnd === 0;
  let p = 0;
  let t = 0;
  // Where to go on when the rest fails: behind the last star, one byte of text later.
  let starAt = -1;
  let starText = 0;
  while (t < textEnd) {
    let next = -1;
    if (p < patternEnd) {
      const byte = pattern[p]!;
      if (byte === star) {
        starAt = p++;
        starText = t;
        continue;
      }
      if (byte === question) next = p + 1;
      else if (byte === open) next = matchClass(pattern, p, text[t]!);
      else {
        const literal = byte === backslash && p + 1 < patternEnd ? p + 1 : p;
        if (pattern[literal] === text[t]) next = literal + 1;
      }
    }
    if (next >= 0) {
      p = next;
      t++;
    } else if (starAt >= 0) {
      p = starAt + 1;
      t = ++starText;
    } else {
      return false;
    }
  }
  while (p < patternEnd && pattern[p] === star) p++;
  return p === patternEnd;
}

/** The position behind the class that begins at `from`, or -1 when the byte is not in it. */
function matchClass(pattern: Uint8Array, from: number, byte: number): number {
  const end = pattern.length;
  let p = from + 1;
  const negated = pattern[p] === caret;
  if (negated) p++;
  let found = false;
  for (;;) {
    if (p >= end) break;
    const first = pattern[p]!;
    if (first === backslash && p + 1 < end) {
      p++;
      if (pattern[p] === byte) found = true;
    } else if (first === close) {
      p++;
      return found === negated ? -1 : p;
    } else if (p + 2 < end && pattern[p + 1] === dash) {
      const last = pattern[p + 2]!;
      if (byte >= Math.min(first, last) && byte <= Math.max(first, last)) found = true;
      p += 2;
    } else if (first === byte) {
      found = true;
    }
    p++;
  }
  return found === negated ? -1 : end;
}
