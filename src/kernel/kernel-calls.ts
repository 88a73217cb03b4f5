// What every kernel variant answers to: the exports of the WebAssembly binaries, and their scalar twin, argument for argument.
// Why addresses and not arrays: a kernel sees one memory and takes whole batches; a call costs 0.1-0.2 us, a copied array far more.
// The typed faces (dot-top-k.ts, gather-rows.ts, key-table.ts, hash-keys.ts) check bounds and place arguments; call them, not this, unless
// the data lies in the memory already. Addresses and counts are unsigned 32-bit; results are turned unsigned by the faces (`>>> 0`).
// The layouts that the addresses point to are described in kernels/*.ts, at the kernel.

/** The engine's calls: memtables and run files. Layouts: kernels/entry-probe.ts, mem-table.ts, entry-sort.ts, run-file.ts, gather-fields.ts. */
export interface EngineCalls {
  /** CRC32C of the bytes, going on from `seed`. `room`: KernelMemory.crcAt. */
  crc32c(room: number, at: number, bytes: number, seed: number): number;
  /** CRC32C of `count` blocks of `bytes` (a multiple of 16) one behind the other; a u32 each to `out`. */
  crc32cBlocks(room: number, at: number, bytes: number, count: number, out: number): void;
  /** Looks up keys that no source holds yet. `args`: probeWords. Returns how many were found. */
  entryProbe(args: number, scratch: number): number;
  /** Which block of a run on disk may hold each key. `args`: indexProbeWords. Returns how many have one. */
  indexProbe(args: number, scratch: number): number;
  /** Puts `count` records that lie behind one another; returns how many, writes the bytes taken and (1 = malformed record) to `scratch`. */
  memTablePut(table: number, records: number, recordsBytes: number, count: number, scratch: number): number;
  /** Sort items of the entries with the numbers `first` on. */
  memTableItems(table: number, first: number, count: number, items: number): void;
  /** First place in an order whose key is >= the key at an address. */
  memTableSeek(table: number, order: number, count: number, key: number, keyBytes: number): number;
  /** Merges sorted items into an order of `count`, into another place. */
  memTableMerge(table: number, items: number, fresh: number, from: number, count: number, to: number): void;
  /** How many of the records stand in order of key, then address, from the first on. */
  entriesInOrder(addresses: number, count: number): number;
  /** One item a record, for entrySort. */
  entrySortFill(items: number, addresses: number, count: number): void;
  /** Lays out the stack for a sort of `count` items. */
  entrySortBegin(stack: number, count: number): void;
  /** Sorts on, about `budget` item visits; 1 when all is sorted. */
  entrySort(items: number, stack: number, budget: number): number;
  /** Writes a word of each item: at 8 its address, at 12 its number. */
  entrySortTake(items: number, count: number, word: number, out: number): void;
  /** Appends records, by address, to a run; returns how many, the reason for stopping stands in the state. Records end before `limit`. */
  runPack(writer: number, addresses: number, count: number, limit: number): number;
  /** Pads and checks the last block. */
  runClose(writer: number): void;
  /** Fills search groups from staged entries. */
  runIndexBuild(stage: number, count: number, groupsAt: number, groups: number): void;
  /** Copies fixed-width fields of values to columns. `args`: gatherWords. Returns how many rows took part. */
  gatherFields(args: number): number;
}

/** The calls of bulk loads. Layouts: kernels/stage-rows.ts, sort-records.ts. */
export interface StagingCalls {
  /** Packs rows of one length from columns. `args`: packWords. */
  packRows(args: number): void;
  /** Deals rows to the blocks of their slices; 0 when all are done, 1 when a slice needs a block. `args`: stageWords, which it goes on from and brings up to date. */
  stageRows(args: number): number;
  /** Addresses of records that lie one behind another; how many, or 2^32 - 1 when they are not whole, or more than `most`. `shared`: two words, kernels/sort-records.ts. */
  findRecords(from: number, end: number, addresses: number, most: number, shared: number): number;
  /** Sorts by key, of equal keys the one at the highest address stays; returns how many are left. `shared`: bytes that all keys begin with, `items`, `spare`: 16 bytes a record, `work`: recordSortWorkBytes. */
  sortRecords(addresses: number, count: number, shared: number, items: number, spare: number, work: number): number;
}

/** Vectors by slot: kernels/vector-rows.ts, vector-codes8.ts, vector-bits.ts. `args`: scanWords of vector-layout.ts. */
export interface VectorCalls {
  /** Offers slots by their f32 rows to the heap of one query. */
  vectorScan(args: number): void;
  /** As vectorScan, by their codes first. */
  vectorScan8(args: number): void;
  /** As vectorScan, of a list of slots. */
  vectorScanOf(args: number): void;
  /** As vectorScan and vectorScan8, for several queries. */
  vectorBatch(args: number): void;
  vectorBatch8(args: number): void;
  /** Offers minus the squared distance of each slot of a list. */
  vectorDistances(args: number): void;
  /** Raises scales to the largest absolute numbers of live rows; returns how many live rows are not finite. */
  vectorScales(rowsAt: number, rowBytes: number, live: number, from: number, to: number, scales: number): number;
  /** Writes codes of rows. */
  vectorCodes(rowsAt: number, rowBytes: number, scales: number, codesAt: number, codeBytes: number, from: number, to: number): void;
  /** Bits set in both bitmaps (address 0: all are) in [from, to). */
  bitsCount(first: number, second: number, from: number, to: number): number;
  /** Their slots, ascending, at most `max`; returns how many. */
  bitsList(first: number, second: number, from: number, to: number, out: number, max: number): number;
  /** Appends the slots of the set bits of `words` words, the first of slot `firstSlot`, to the `count` at `out`; more than `max`: there are too many. */
  bitsFew(bits: number, words: number, firstSlot: number, out: number, count: number, max: number, room: number): number;
  /** As vectorScanOf, one query, by codes first and exactly where a code, and `slack` of its error, reaches the k-th best; returns how many rows were compared exactly. `room`: 8 bytes for each of filterScanRows. */
  filterScanOf(args: number, slack: number, room: number): number;
  /** Bits of words of slots whose f64 is in a range, both ends in it. */
  filterNumbers(column: number, low: number, high: number, words: number, out: number): void;
  /** Bits of words of slots whose u32 is `code`. */
  filterCodes(column: number, code: number, words: number, out: number): void;
}

/** An index of lists: kernels/vector-ivf.ts, k-means.ts, vector-codes4.ts. Rows and centroids: f32, `rowBytes` (a multiple of 16) apart. */
export interface IvfCalls {
  /** Offers the rows worth comparing to the heap of one query. `args`: ivfWords of ivf-layout.ts. */
  ivfSearch(args: number): void;
  /** Centroids to blocks of eight: centroidBlocksBytes. */
  centroidsTranspose(rows: number, count: number, rowBytes: number, out: number): void;
  /** For each row (rounded up to four are read and written) the centroid of the largest product plus bias; bias filled up to eight with -Infinity. */
  centroidsNearest(rows: number, count: number, rowBytes: number, blocks: number, centroids: number, bias: number, outList: number, outScore: number): void;
  /** Codes of centroids for centroidsNearest8: centroidCodesBytes. */
  centroidsCodes(rows: number, count: number, rowBytes: number, out: number): void;
  /** As centroidsNearest, bit for bit, faster where codes say enough. `scratch`: nearestScratchBytes. */
  centroidsNearest8(
    rows: number,
    count: number,
    rowBytes: number,
    blocks: number,
    centroids: number,
    bias: number,
    codes: number,
    scratch: number,
    outList: number,
    outScore: number,
  ): void;
  /** Adds rows to the sums of their lists, and counts them. */
  centroidsAdd(rows: number, count: number, rowBytes: number, lists: number, sums: number, counts: number): void;
  /** Puts the numbers of rows (u32, at `order`) in such an order that each 32 lie close together. `keys`: f32 a row; `scratch`: five rows. */
  blocksOrder(rows: number, rowBytes: number, order: number, count: number, keys: number, scratch: number): void;
  /** The mean of the rows of each block of 32 slots (they stand first; `live`: a word a block), and their mean squared difference to it, f32 a block. */
  blocksMean(rows: number, blocks: number, rowBytes: number, live: number, means: number, squares: number): void;
  /** 4-bit codes of whole blocks of 32 slots. `lists`: of each block. `errors`: f32 a slot, squared. `scratch`: 8 bytes. */
  codes4Encode(
    rows: number,
    blocks: number,
    rowBytes: number,
    lists: number,
    centroids: number,
    book: number,
    codes: number,
    out: number,
    errors: number,
    scratch: number,
  ): void;
  /** A round of k-means for the points of the codes; returns the sum of squared differences. `sums`: 48 f64 a code. */
  codes4Learn(differences: number, count: number, rowBytes: number, book: number, sums: number, scratch: number): number;
  /** 1 when all numbers are finite. */
  floatsFinite(at: number, count: number): number;
}

/** Rows by list that come and go: kernels/list-rows.ts. */
export interface ListRowsCalls {
  /** Finds the rows of some lists that may be answers. `args`: listRowsWords of list-rows.ts. */
  listRowsScan(args: number): void;
  /**
   * Numbers of the lists that are seen (u32 each), whose scores come within their reach (f32 each, for a length or, `isL2`, a distance of 1) of the bar, or whose scores plus `more` (f32 each)
   * are within `slack` of the best; returns how many. Scores and `seen` are overwritten; arrays are filled up to four.
   */
  listsNear(
    scores: number,
    seen: number,
    lists: number,
    reaches: number,
    square: number,
    isL2: number,
    bar: number,
    more: number,
    slack: number,
    out: number,
  ): number;
}

/**
 * Shards of parameters: kernels/parameter-shard.ts. Keys: a u64 each. `scratch`: shardScratch of parameter-shard-layout.ts. Columns: room for n entries as keys u64,
 * versions u32 x 2 (high, low), touched u32, flags u32, values f32 x dim.
 */
export interface ShardCalls {
  /** Writes `dim` numbers a key, and a byte a key to `found` (0: nowhere); returns how many were missing. `reader`: its number, or 0xFFFFFFFF in the writer's thread. */
  shardPull(shard: number, keys: number, count: number, out: number, found: number, reader: number, scratch: number): number;
  /** Sets rows; returns how many keys were refused. */
  shardAssign(shard: number, keys: number, count: number, values: number, seconds: number, scratch: number): number;
  /** Adds to rows; returns how many keys were refused. */
  shardAdd(shard: number, keys: number, count: number, deltas: number, seconds: number, scratch: number): number;
  /** Makes rows tombstones; returns how many had a row. */
  shardDelete(shard: number, keys: number, count: number, scratch: number): number;
  /** Joins `count` entries from columns for as many; returns how many were newer, and at scratch + 8 how many it came to before memory was full. */
  shardJoin(shard: number, columns: number, count: number, scratch: number): number;
  /** Entries of a bucket after one version up to another to columns for `max`; returns 2 x count, + 1 when there are no more. */
  shardChanges(shard: number, bucket: number, afterHigh: number, afterLow: number, upToHigh: number, upToLow: number, max: number, columns: number): number;
  /** Removes tombstones (with `everything` = 1: all rows) up to a version; returns how many. */
  shardCollect(shard: number, bucket: number, upToHigh: number, upToLow: number, max: number, everything: number): number;
  /** Evicts what was written longest ago until `liveTarget` rows are left; returns how many. `atOnce` = 1: without tombstones. */
  shardEvict(shard: number, liveTarget: number, max: number, atOnce: number): number;
  /** Expires what was touched before `seconds` in the next buckets; returns how many. */
  shardExpire(shard: number, seconds: number, buckets: number, max: number, atOnce: number): number;
  /** f32 to f16. */
  narrowHalves(from: number, count: number, to: number): void;
  /** Rows of f32 to int8 with a scale each. */
  narrowBytes(from: number, rows: number, width: number, scales: number, to: number): void;
}

/** Optimizers of sparse rows with their state: kernels/optimizers.ts. */
export interface OptimizerStepCalls {
  /**
   * One step a distinct key of a minibatch; returns how many keys stand at `outKeys`, with what the server shall add to (or set) their rows at `out`.
   * `weights`: the rows as pulled, 0: none. `merge`: optimizerMergeWords words. `work`: optimizerWorkBytes (optimizer-layout.ts).
   */
  optimizerStep(
    state: number,
    keys: number,
    count: number,
    gradients: number,
    weights: number,
    outKeys: number,
    out: number,
    merge: number,
    mergeMask: number,
    work: number,
  ): number;
  /** Forgets the state of keys; returns how many had any. */
  optimizerDrop(state: number, keys: number, count: number): number;
  /** Builds the index of rows that were copied in. */
  optimizerIndex(state: number): void;
}

/**
 * Factorisation machines over a shard (kernels/shard-factorisation.ts; a machine: shard-machine-layout.ts). Slots of row r: [offsets[r], linearEnds[r]) linear-only,
 * [linearEnds[r], offsets[r + 1]) full. `reader`: number of the calling thread among the shard's readers. `scratch`: shardMachineScratch.
 */
export interface ShardMachineCalls {
  /** Row by row: the logit, then one step. `touched`: seconds a row, 0: none. Writes over `keys`. Writer only. */
  shardLearn(
    machine: number,
    offsets: number,
    linearEnds: number,
    keys: number,
    weights: number,
    rows: number,
    labels: number,
    importance: number,
    shifts: number,
    logits: number,
    touched: number,
    scratch: number,
  ): void;
  /** Logits of rows, each begun with the sums (factors + 8 numbers) at `start`; 0: with none. */
  shardLogits(
    machine: number,
    start: number,
    offsets: number,
    linearEnds: number,
    keys: number,
    weights: number,
    rows: number,
    logits: number,
    reader: number,
    scratch: number,
  ): void;
  /** Sums of rows, factors + 8 numbers each. */
  shardSums(
    machine: number,
    offsets: number,
    linearEnds: number,
    keys: number,
    weights: number,
    rows: number,
    out: number,
    reader: number,
    scratch: number,
  ): void;
  /** Vectors of rows, factors + 4 numbers each: S, the row's own logit, zeros. */
  shardVectors(
    machine: number,
    offsets: number,
    linearEnds: number,
    keys: number,
    weights: number,
    rows: number,
    out: number,
    reader: number,
    scratch: number,
  ): void;
}

export interface KernelCalls extends EngineCalls, StagingCalls, VectorCalls, IvfCalls, ListRowsCalls, ShardCalls, ShardMachineCalls, OptimizerStepCalls {
  /** Empties the heap at `heap` (16 + 8 k bytes, 16-aligned) and sets how many it keeps. */
  topKReset(heap: number, k: number): void;
  /** Sorts the kept entries best first; returns how many. The heap must be reset before it takes offers again. */
  topKSort(heap: number): number;
  /** Offers rows `firstRow`... of a block to the heap. `rowBytes`: multiple of 16. */
  dotTopK(heap: number, rowsAt: number, rowCount: number, stride: number, rowBytes: number, query: number, firstRow: number): void;
  /** As dotTopK for the listed rows; returns how many numbers were out of range and passed over. */
  dotTopKOf(heap: number, rowsAt: number, rowCount: number, stride: number, rowBytes: number, query: number, list: number, listCount: number): number;
  /** Copies the rows to `out`; returns how many numbers were out of range (rows of zeros). `touched`: a scratch word. */
  gatherRows(rowsAt: number, rowCount: number, rowBytes: number, indices: number, count: number, out: number, touched: number): number;
  /** Key i = bytes `offsets[i]` to `offsets[i + 1]` behind `keys`; reads up to 7 bytes further. Writes a u64 each. */
  hashKeys(keys: number, offsets: number, count: number, seedLow: number, seedHigh: number, out: number): void;
  /** As hashKeys, by the stripe hash. */
  stripeHashes(keys: number, offsets: number, count: number, seedLow: number, seedHigh: number, out: number): void;
  /** Returns how many keys were handled before the table was full. `scratch`: 512 bytes. */
  keyTableInsert(table: number, keys: number, offsets: number, count: number, outRows: number, scratch: number): number;
  /** Returns how many keys were found; absent ones get row 0xFFFFFFFF. `scratch`: 512 bytes. */
  keyTableProbe(table: number, keys: number, offsets: number, count: number, outRows: number, scratch: number): number;
}

/** Names of all calls: a binary that lacks one is refused when it is loaded. */
export const kernelCallNames: readonly (keyof KernelCalls)[] = [
  "topKReset",
  "topKSort",
  "dotTopK",
  "dotTopKOf",
  "gatherRows",
  "hashKeys",
  "stripeHashes",
  "keyTableInsert",
  "keyTableProbe",
  "optimizerStep",
  "optimizerDrop",
  "optimizerIndex",
  "shardPull",
  "shardLearn",
  "shardLogits",
  "shardSums",
  "shardVectors",
  "shardAssign",
  "shardAdd",
  "shardDelete",
  "shardJoin",
  "shardChanges",
  "shardCollect",
  "shardEvict",
  "shardExpire",
  "narrowHalves",
  "narrowBytes",
  "crc32c",
  "crc32cBlocks",
  "entryProbe",
  "indexProbe",
  "memTablePut",
  "memTableItems",
  "memTableSeek",
  "memTableMerge",
  "entriesInOrder",
  "entrySortFill",
  "entrySortBegin",
  "entrySort",
  "entrySortTake",
  "runPack",
  "runClose",
  "runIndexBuild",
  "gatherFields",
  "vectorScan",
  "vectorScan8",
  "vectorScanOf",
  "vectorBatch",
  "vectorBatch8",
  "vectorDistances",
  "vectorScales",
  "vectorCodes",
  "bitsCount",
  "bitsFew",
  "bitsList",
  "filterScanOf",
  "filterNumbers",
  "filterCodes",
  "ivfSearch",
  "centroidsTranspose",
  "centroidsNearest",
  "centroidsCodes",
  "centroidsNearest8",
  "centroidsAdd",
  "blocksOrder",
  "blocksMean",
  "codes4Encode",
  "codes4Learn",
  "floatsFinite",
  "listRowsScan",
  "listsNear",
  "packRows",
  "stageRows",
  "findRecords",
  "sortRecords",
];

/** The row of a key that is not in a table. */
export const absentRow = 0xffffffff;
/** Working space of the two key table calls, bytes. */
export const keyTableScratchBytes = 512;
