// CRC32C (Castagnoli) without carry-less multiplication: nearly all bytes are folded by exclusive ors of whole vectors, the rest goes through tables.
// Why it folds: x^266 + x^143 + x^121 + x^88 + x^71 + 1 is a multiple of the polynomial P. So is the same with every exponent times 8 (squaring maps multiples of P to multiples of P),
// hence a byte may be taken away when it is added 123, 145, 178, 195 and 266 bytes further on, and the CRC stays what it was. Written as a recurrence over the bytes:
//   s[i] = in[i] ^ s[i - 123] ^ s[i - 145] ^ s[i - 178] ^ s[i - 195] ^ s[i - 266]
// All distances exceed 64, so 64 bytes are done at a time; the last 272 or more bytes hold the whole and go through the tables.
// Found by search (meet in the middle over pairs of powers): no multiple of four terms below degree 4,000; of six terms those of degree 209 and 210 reach back 65 and 25 bytes only, which stalls on
// vectors just stored.
// The room of a lane (2,048 bytes): 0 address of the tables, 64 last 272 bytes of s, 336 window of 1,024 bytes of s, then zeros (as if nothing came after), 1,696 what is left for the tables.
// The tables (16 x 256 words; entry t * 256 + b = the effect of byte b followed by t zero bytes) stand in the memory, written by the host.

const history: usize = 272;
const historyFrom: usize = 64;
const windowFrom: usize = 336;
const windowTo: usize = 1360;
const zeros: usize = 336;
const restFrom: usize = 1696;
/** Below, tables alone are as fast. */
const foldedMin: usize = 512;

function step(tables: usize, crc: u32, at: usize): u32 {
  const a = load<u32>(at) ^ crc;
  const b = load<u32>(at, 4);
  const c = load<u32>(at, 8);
  const d = load<u32>(at, 12);
  return (
    load<u32>(tables + ((a & 255) << 2), 15360) ^
    load<u32>(tables + ((a >> 6) & 1020), 14336) ^
    load<u32>(tables + ((a >> 14) & 1020), 13312) ^
    load<u32>(tables + ((a >> 22) & 1020), 12288) ^
    load<u32>(tables + ((b & 255) << 2), 11264) ^
    load<u32>(tables + ((b >> 6) & 1020), 10240) ^
    load<u32>(tables + ((b >> 14) & 1020), 9216) ^
    load<u32>(tables + ((b >> 22) & 1020), 8192) ^
    load<u32>(tables + ((c & 255) << 2), 7168) ^
    load<u32>(tables + ((c >> 6) & 1020), 6144) ^
    load<u32>(tables + ((c >> 14) & 1020), 5120) ^
    load<u32>(tables + ((c >> 22) & 1020), 4096) ^
    load<u32>(tables + ((d & 255) << 2), 3072) ^
    load<u32>(tables + ((d >> 6) & 1020), 2048) ^
    load<u32>(tables + ((d >> 14) & 1020), 1024) ^
    load<u32>(tables + ((d >> 22) & 1020))
  );
}

/** The register after `bytes` bytes, by tables. */
function byTables(tables: usize, at: usize, bytes: usize, crc: u32): u32 {
  const end = at + bytes;
  for (; end - at >= 16; at += 16) crc = step(tables, crc, at);
  for (; at < end; at++) crc = (crc >> 8) ^ load<u32>(tables + (((crc ^ (<u32>load<u8>(at))) & 255) << 2));
  return crc;
}

/** What the bytes before add to the sixteen at `s`. */
function folded(s: usize): v128 {
  const near = v128.xor(v128.load(s - 123), v128.load(s - 145));
  const far = v128.xor(v128.load(s - 178), v128.load(s - 195));
  return v128.xor(v128.xor(near, far), v128.load(s - 266));
}

/** CRC32C of `bytes` bytes at `at`, going on from `seed`. `room`: of the calling thread's lane. Reads up to 15 bytes further. */
export function crc32c(room: usize, at: usize, bytes: usize, seed: u32): u32 {
  const tables = <usize>load<u32>(room);
  if (bytes < foldedMin) return ~byTables(tables, at, bytes, ~seed);
  const end = at + bytes;
  const foldedTo = at + ((bytes - history) & ~63);
  const full = room + windowTo;
  let s = room + windowFrom;
  memory.fill(room + historyFrom, 0, history);
  // The register that the bytes begin with is added to the first four.
  let begin = i32x4.replace_lane(i32x4.splat(0), 0, ~seed);
  while (at < foldedTo) {
    if (s == full) {
      memory.copy(room + historyFrom, full - history, history);
      s = room + windowFrom;
    }
    const stop = min<usize>(full, s + (foldedTo - at));
    for (; s < stop; s += 64) {
      v128.store(s, v128.xor(v128.xor(v128.load(at), begin), folded(s)));
      begin = i32x4.splat(0);
      v128.store(s, v128.xor(v128.load(at, 16), folded(s + 16)), 16);
      v128.store(s, v128.xor(v128.load(at, 32), folded(s + 32)), 32);
      v128.store(s, v128.xor(v128.load(at, 48), folded(s + 48)), 48);
      at += 64;
    }
  }
  memory.fill(s, 0, zeros);
  const rest = end - at;
  const out = room + restFrom;
  for (let i: usize = 0; i < rest; i += 16) v128.store(out + i, v128.xor(v128.load(at + i), folded(s + i)));
  return ~byTables(tables, out, rest, 0);
}

/** CRC32C of `count` blocks of `bytes` bytes (a multiple of 16) that lie one behind the other; a u32 each to `out`. */
export function crc32cBlocks(room: usize, at: usize, bytes: usize, count: u32, out: usize): void {
  for (let i: u32 = 0; i < count; i++) {
    store<u32>(out, crc32c(room, at, bytes, 0));
    at += bytes;
    out += 4;
  }
}
