// The kernels: one WebAssembly module over one imported shared memory. Built twice from this source: SIMD128, and with relaxed SIMD.
// Invariants: 1. no static data and no mutable globals: every address comes from the host, because an active data segment would be
//                written again by each instance that joins a shared memory (the build refuses a binary that has one)
//             2. every export takes a whole batch  3. nothing allocates, throws or calls out
//             4. each export has a twin of the same name and arguments in src/kernel/scalar-calls.ts, scalar-parameter-shard.ts, scalar-shard-factorisation.ts, scalar-optimizers.ts, scalar-entries.ts, scalar-staging.ts, scalar-vectors.ts, scalar-ivf.ts or scalar-list-rows.ts, held equal by one suite.
// Addresses are byte offsets into the memory; counts are unsigned. The caller (src/kernel) checks bounds; kernels check only indices that
// come from data. Functions carry no inline mark: at -O3 the optimizer inlines those of the inner loops (checked in the text form).

export { centroidsCodes, centroidsNearest8 } from "./centroid-codes";
export { crc32c, crc32cBlocks } from "./crc32c";
export { dotTopK, dotTopKOf } from "./dot-top-k";
export { entryProbe, indexProbe } from "./entry-probe";
export { entriesInOrder, entrySort, entrySortBegin, entrySortFill, entrySortTake } from "./entry-sort";
export { gatherFields } from "./gather-fields";
export { gatherRows } from "./gather-rows";
export { hashKeys, stripeHashes } from "./key-hash";
export { blocksMean, blocksOrder, centroidsAdd, centroidsNearest, centroidsTranspose } from "./k-means";
export { listRowsScan, listsNear } from "./list-rows";
export { keyTableInsert, keyTableProbe } from "./key-table";
export { memTableItems, memTableMerge, memTablePut, memTableSeek } from "./mem-table";
export { optimizerDrop, optimizerIndex, optimizerStep } from "./optimizers";
export { narrowBytes, narrowHalves } from "./parameter-narrow";
export { shardAdd, shardAssign, shardChanges, shardCollect, shardDelete, shardEvict, shardExpire, shardJoin, shardPull } from "./parameter-shard";
export { runClose, runIndexBuild, runPack } from "./run-file";
export { shardLearn, shardLogits, shardSums, shardVectors } from "./shard-factorisation";
export { findRecords, sortRecords } from "./sort-records";
export { packRows, stageRows } from "./stage-rows";
export { topKReset, topKSort } from "./top-k";
export { bitsCount, bitsFew, bitsList } from "./vector-bits";
export { vectorCodes, vectorScales } from "./vector-codes8";
export { codes4Encode, codes4Learn, floatsFinite } from "./vector-codes4";
export { ivfSearch } from "./vector-ivf";
export { filterCodes, filterNumbers, filterScanOf } from "./vector-filter";
export { vectorBatch, vectorBatch8, vectorDistances, vectorScan, vectorScan8, vectorScanOf } from "./vector-rows";
