// Addresses and words that the kernels of the engine and their faces share. The layouts themselves are drawn in kernels/*.ts.
// Why words in the memory and not arguments: a look-up takes sixteen numbers, and a writer's state outlives its calls.

/** Words (u32) of a memtable's header, kernels/mem-table.ts. */
export const memTableWords = {
  magic: 0,
  groups: 1,
  groupsFrom: 2,
  numbersFrom: 3,
  recordsFrom: 4,
  recordsEnd: 5,
  recordsUsed: 6,
  count: 7,
  countMax: 8,
  seedLow: 9,
  seedHigh: 10,
  /** 1: a record never changes once it can be found. */
  frozenRecords: 11,
  orderFrom: 12,
  itemsFrom: 13,
  ordered: 14,
  tombstonesEver: 15,
  /** 0 or 1: which of the two orders is valid. */
  orderSide: 16,
} as const;
export const memTableHeaderBytes = 128;

/** Words of the arguments of entryProbe, kernels/entry-probe.ts. */
export const probeWords = {
  groupsAt: 0,
  groups: 1,
  /** References count from here. */
  base: 2,
  /** No record reaches past this distance from base. */
  limit: 3,
  seedLow: 4,
  seedHigh: 5,
  keys: 6,
  offsets: 7,
  count: 8,
  source: 9,
  outSource: 10,
  /** 0: places are not wanted, and no times. */
  outAt: 11,
  outBytes: 12,
  outKind: 13,
  /** 0: times are not wanted. */
  outExpiry: 14,
  outTime: 15,
  /** Answer: 1 when a found entry has an expiry or a time. */
  timed: 16,
  /** 1: no key has a source yet; the kernel fills outSource itself. */
  fresh: 17,
  /** The kernel writes what it read ahead here. */
  seen: 18,
  /** 1: keys are placed by the stripe hash. */
  striped: 19,
} as const;
export const probeArgumentBytes = 80;
/** 64 keys of 32 bytes, and 256 bytes more. */
export const probeScratchBytes = 2_304;

/** Words of the arguments of indexProbe, kernels/entry-probe.ts. */
export const indexProbeWords = {
  groupsAt: 0,
  groups: 1,
  seedLow: 2,
  seedHigh: 3,
  keys: 4,
  offsets: 5,
  count: 6,
  /** u32 a block: where its separator stands behind `separators`. */
  table: 7,
  blocks: 8,
  separators: 9,
  separatorsBytes: 10,
  outBlocks: 11,
  /** 1: keys are placed by the stripe hash. */
  striped: 12,
} as const;

/** Words of a run writer's state, kernels/run-file.ts. */
export const runWriterWords = {
  /** File offset of the chunk's first byte. */
  fileAt: 0,
  chunkAt: 1,
  chunkBytes: 2,
  /** Bytes of the chunk that hold records or padding. */
  chunkUsed: 3,
  /** Bytes of the chunk in closed blocks. */
  chunkClosed: 4,
  stageAt: 5,
  stageMax: 6,
  count: 7,
  tableAt: 8,
  checksAt: 9,
  blocksMax: 10,
  /** Blocks begun. */
  blocks: 11,
  separatorsAt: 12,
  separatorsMax: 13,
  separatorsUsed: 14,
  /** Address and length of the last key. */
  lastKeyAt: 15,
  lastKeyBytes: 16,
  seedLow: 17,
  seedHigh: 18,
  /** KernelMemory.crcAt */
  crcRoom: 19,
  status: 20,
  tombstones: 21,
  expiring: 22,
  /** f64 values begin at word 24. */
  keyBytes: 24,
  valueBytes: 26,
  minTime: 28,
  maxTime: 30,
  minExpiry: 32,
  maxExpiry: 34,
  /** Where in the open block the rests of entries begin whose keys have lines; 0: the block holds whole records. */
  rests: 36,
  /** How many entries in a row could have lines. */
  streak: 37,
} as const;
/** The kernel writes what it read ahead to the word 40. */
export const runWriterStateBytes = 192;
export const runWriterStatus = { going: 0, chunkFull: 1, runFull: 2, malformed: 3, disorder: 4 } as const;
/** Bytes a staged index entry takes: high half of the hash, reference, low half. */
export const stageEntryBytes = 12;

/** Words of the arguments of gatherFields, kernels/gather-fields.ts. */
export const gatherWords = {
  count: 0,
  source: 1,
  sources: 2,
  ats: 3,
  lengths: 4,
  /** A row takes part when its value has at least so many bytes and its first word & mask = match. */
  bytesMin: 5,
  mask: 6,
  match: 7,
  fields: 8,
  fieldCount: 9,
  spans: 10,
  spanCount: 11,
  /** Bytes of the value that hold the bits `required` (u8 each) for the fast way, and how many. */
  requiredFrom: 12,
  requiredAt: 13,
  requiredBytes: 14,
  memoryEnd: 15,
  touched: 16,
  /** Outputs whose rows get defaults when they do not take part. */
  outputs: 17,
  outputCount: 18,
  /** Bits of the first word that `touched` tells of. */
  note: 19,
} as const;
/** 32 rows of 8 bytes of scratch included. */
export const gatherArgumentBytes = 80 + 256;

/** Words of the arguments of packRows, kernels/stage-rows.ts. */
export const packWords = { rows: 0, out: 1, rowBytes: 2, template: 3, columns: 4, columnCount: 5 } as const;
export const packArgumentBytes = 32;
/** Words of a column of packRows. */
export const packColumnWords = { data: 0, width: 1, offset: 2, valid: 3, bitAt: 4, bit: 5 } as const;
export const packColumnBytes = 32;

/** Words of the arguments of stageRows, kernels/stage-rows.ts. */
export const stageWords = {
  keys: 0,
  /** Bounds of the keys behind `keys`, one more than rows. */
  offsets: 1,
  /** u16 a row: 0, or why it is refused. */
  refused: 2,
  /** The next row, and the end of them. */
  row: 3,
  rowsEnd: 4,
  values: 5,
  /** Bounds of the values behind `values`; 0: value i begins at i * valueBytes. */
  valueOffsets: 6,
  valueBytes: 7,
  /** What stands in all records behind the lengths: times, prefix of the key. */
  front: 8,
  /** Bytes of it without the prefix. */
  timesBytes: 9,
  prefixBytes: 10,
  /** Without the prefix. A key that is longer, or empty, is refused with `keyFault`. */
  keyBytesMax: 11,
  keyFault: 12,
  /** Of a record beyond recordBytesMax. */
  recordFault: 13,
  seedLow: 14,
  seedHigh: 15,
  slices: 16,
  slicesAt: 17,
  blockBytes: 18,
  recordBytesMax: 19,
  /** Sums, added to: rows, bytes of keys and values, refused rows. */
  stagedRows: 20,
  stagedBytes: 21,
  refusedRows: 22,
  /** Answer: the slice that needs a block. */
  slice: 23,
  /** First byte of the records without their form: kind, and which times there are. */
  flags: 24,
} as const;
export const stageArgumentBytes = 128;
/** Words of a slice: block in hand (0: none), bytes used of it, rows in it. */
export const sliceWords = { block: 0, used: 1, rows: 2 } as const;
export const sliceBytes = 16;

/** One search group: 12 tags, the overflow bits, 12 references. */
export const groupBytes = 64;
export const groupSlots = 12;
/** Blocks of a run file. */
export const blockBytes = 4_096;
/** Answer of indexProbe for an absent key. */
export const absentBlock = 0xffffffff;

/** Address of the CRC32C tables (16 x 256 words) in every kernel memory. */
export const crcTablesAt = 4_096;
export const crcTablesBytes = 16_384;
/** What a lane's thread sums checksums in, kernels/crc32c.ts. Its first word is crcTablesAt. */
export const crcRoomBytes = 2_048;

/** Bytes of one item of an entry sort, and of its stack. */
export const sortItemBytes = 16;
export const sortStackBytes = 2_048;
/** What sortRecords needs beside its items, kernels/sort-records.ts. */
export const recordSortWorkBytes = 98_304 + sortStackBytes;
