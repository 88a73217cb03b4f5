// A segment: the immutable base of a collection in one kernel memory, searched by probing its lists or, as one list, exactly.
//
// A slot is a row's place in list order. Lists are padded to whole groups of 32 slots, so a word of a bitmap belongs to one list; padding slots are never live. Everything
// that is kept a row is kept by slot: exact rows, codes, ids, bitmaps, attributes.
//
// Invariants: 1. files and arrays never change; what changes are the bits of `live`  2. a dead slot, or one that a filter does not name, is left out before it can take a
//                place among the answers  3. scores as vector-rows.ts gives them: cosine, product, or squared distance; best first, equal ones by the lower slot.
// Concurrency: one thread searches and kills. Limits: 4 GiB of memory together, so some 6 M x 100 with codes; dimsMax of vectorLimits.

import type { TopK } from "#kernel/dot-top-k";
import type { KernelMemory } from "#kernel/kernel-memory";
import type { ListIndex } from "#kernel/vector-ivf";
import type { VectorBlock, VectorShape } from "#kernel/vector-layout";
import type { SearchSettings } from "./search-settings.ts";

/** What a search did: for figures and for tuning. */
export interface SearchWork {
  /** Lists looked into. */
  lists: number;
  /** Slots whose codes were compared. */
  slots: number;
  /** Rows compared exactly. */
  exact: number;
  /** It gave no answers, because the filter names little of what lies near (`leastShare`). */
  gaveUp?: boolean;
  /** Where the index left the scores of its lists and which it looked into (ListWork), good until the next search; 0: every row was compared. */
  scoresAt?: number;
  seenAt?: number;
}

export interface VectorSegment {
  readonly shape: VectorShape;
  /** Rows it was built of. */
  readonly rows: number;
  /** Rows that are live. */
  readonly liveRows: number;
  /** A multiple of 32. */
  readonly slots: number;
  /** 1: no index, every search is exact. */
  readonly lists: number;
  /** Where its parts lie; undefined: none. */
  readonly index: ListIndex | undefined;
  /** Memory it holds. */
  readonly bytes: number;
  readonly memory: KernelMemory;
  /** Exact rows, int8 codes and the live bitmap, for exact search (vector-rows.ts). */
  readonly block: VectorBlock;
  /** Address of a bitmap of `slots` bits that the thread may fill as a filter: `filterAt` of a search. */
  readonly filterRoomAt: number;
  /** Address and size of what `extraBytes` asked for when it was loaded: attribute columns. */
  readonly extraAt: number;
  readonly extraBytes: number;

  /**
   * The nearest live rows that pass, best first: slots and scores to `into`, as many as `into.rows` has room for.
   * `query`: dims numbers of any length (cosine: divided by it). `filterAt`: address of a bitmap of `slots` bits in this memory, left out: all pass.
   * `leastShare`: give up where so much smaller a share of the rows passes in the nearest lists than in all (`work.gaveUp`); default 0, never.
   */
  search(query: Float32Array, settings: SearchSettings, into: TopK, filterAt?: number, leastShare?: number): TopK;
  /** Of the last search. */
  readonly work: Readonly<SearchWork>;
  /** The lists in the order in which a search of this query would look into them, up to `into.length`; returns how many. */
  nearestLists(query: Float32Array, into: Uint32Array): number;
  /** A copy of the means of the lists, rowFloats(dims) numbers each, as a build takes them (SegmentOptions.centroids); undefined: no index. */
  centroids(): Float32Array | undefined;
  /** Slots of list i: `listStarts[i]` to `listStarts[i + 1]`, multiples of 32. */
  readonly listStarts: Uint32Array;

  /** Slot of an id (UTF-8), dead or alive, or undefined. */
  slotOf(id: Uint8Array | string): number | undefined;
  /** Undefined for padding. */
  idOf(slot: number): string | undefined;
  isLive(slot: number): boolean;
  /** Takes a slot out of all searches from now on; false when it was out. */
  kill(slot: number): boolean;
  /** The numbers of a row, as stored (cosine: of length 1). */
  vectorOf(slot: number, into: Float32Array): void;
  /** Length of a row before it was normalised (cosine); else 1. */
  normOf(slot: number): number;
  /** Gives the memory back. Nothing may be called after it. */
  release(): void;
}
