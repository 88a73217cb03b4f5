// CRC32C (Castagnoli), sixteen bytes a step: each byte's effect is looked up in its own table, so that the only chain is one look-up and
// some exclusive ors a step. Blocks are summed two at a time: the two chains overlap.
// The tables (16 x 256 words; entry t * 256 + b = the effect of byte b followed by t zero bytes) stand in the memory, written by the host.

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

/** CRC32C of `bytes` bytes at `at`, going on from `seed`. */
export function crc32c(tables: usize, at: usize, bytes: usize, seed: u32): u32 {
  let crc = ~seed;
  const end = at + bytes;
  for (; end - at >= 16; at += 16) crc = step(tables, crc, at);
  for (; at < end; at++) crc = (crc >> 8) ^ load<u32>(tables + (((crc ^ (<u32>load<u8>(at))) & 255) << 2));
  return ~crc;
}

/** CRC32C of `count` blocks of `bytes` bytes (a multiple of 16) that lie one behind the other; a u32 each to `out`. */
export function crc32cBlocks(tables: usize, at: usize, bytes: usize, count: u32, out: usize): void {
  let i: u32 = 0;
  for (; i + 2 <= count; i += 2) {
    const end = at + bytes;
    let a: u32 = 0xffffffff;
    let b: u32 = 0xffffffff;
    for (; at < end; at += 16) {
      a = step(tables, a, at);
      b = step(tables, b, at + bytes);
    }
    store<u32>(out, ~a);
    store<u32>(out, ~b, 4);
    at += bytes;
    out += 8;
  }
  if (i < count) store<u32>(out, crc32c(tables, at, bytes, 0));
}
