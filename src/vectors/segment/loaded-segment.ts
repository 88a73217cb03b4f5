// A segment in its memory: what VectorSegment promises, over the addresses that loading found.

import { MillraceError } from "#base/errors";
import { createTopK, type TopK } from "#kernel/dot-top-k";
import type { KernelMemory } from "#kernel/kernel-memory";
import type { MemoryLease } from "#kernel/memory-pool";
import { hasSlot, rowFloats, setSlot, type VectorBlock, type VectorShape } from "#kernel/vector-layout";
import { type ListIndex, searchLists } from "#kernel/vector-ivf";
import { countSlots, exactSearch, normalise } from "#kernel/vector-rows";
import type { IdDirectory } from "./id-directory.ts";
import { averageMargin, type SearchSettings, searchSettingsLimits } from "./search-settings.ts";
import type { SegmentHead } from "./segment-parts.ts";
import type { SearchWork, VectorSegment } from "./vector-segment.ts";

export interface SegmentPlaces {
  /** Address of each array by its name. */
  readonly at: ReadonlyMap<string, number>;
  readonly sizesAt: number;
  /** u32 a list; 0: it has no blocks. */
  readonly groupsAt: number;
  readonly filterRoomAt: number;
  readonly scratchAt: number;
  readonly extraAt: number;
  readonly extraBytes: number;
}

export class LoadedSegment implements VectorSegment {
  readonly shape: VectorShape;
  readonly rows: number;
  readonly slots: number;
  readonly lists: number;
  readonly bytes: number;
  readonly memory: KernelMemory;
  readonly block: VectorBlock;
  readonly filterRoomAt: number;
  readonly extraAt: number;
  readonly extraBytes: number;
  readonly listStarts: Uint32Array;
  readonly work: SearchWork = { lists: 0, slots: 0, exact: 0, gaveUp: false, scoresAt: 0, seenAt: 0 };
  readonly #lease: MemoryLease;
  readonly #ids: IdDirectory;
  readonly index: ListIndex | undefined;
  readonly #normsAt: number;
  readonly #query: Float32Array;
  #liveRows: number;

  constructor(lease: MemoryLease, head: SegmentHead, places: SegmentPlaces, listStarts: Uint32Array, ids: IdDirectory, bytes: number) {
    const { at } = places;
    const place = (name: string): number => at.get(name) ?? 0;
    this.shape = { dims: head.dims, metric: head.metric };
    this.rows = head.rows;
    this.slots = head.slots;
    this.lists = head.lists;
    this.bytes = bytes;
    this.memory = lease.memory;
    this.filterRoomAt = places.filterRoomAt;
    this.extraAt = places.extraAt;
    this.extraBytes = places.extraBytes;
    this.listStarts = listStarts;
    this.#lease = lease;
    this.#ids = ids;
    this.#normsAt = place("norms");
    this.#query = new Float32Array(head.dims);
    this.#liveRows = head.rows;
    this.block = {
      memory: lease.memory,
      shape: this.shape,
      slots: head.slots,
      rowsAt: place("rows"),
      codesAt: place("codes8"),
      scalesAt: place("scales"),
      biasAt: place("bias"),
      liveAt: place("live"),
    };
    if (head.lists > 1) {
      this.index = {
        block: this.block,
        lists: head.lists,
        centroidsAt: place("centroids"),
        listBiasAt: place("list-bias"),
        spreadsAt: place("spreads"),
        startsAt: place("starts"),
        sizesAt: places.sizesAt,
        codes4At: place("codes4"),
        bookAt: place("points"),
        codeErrorsAt: place("code-errors"),
        blockCodesAt: place("block-codes"),
        groupsAt: places.groupsAt,
        blockSpreadsAt: place("block-spreads"),
        blockBiasAt: place("block-bias"),
        scratchAt: places.scratchAt,
      };
    }
  }

  get liveRows(): number {
    return this.#liveRows;
  }

  search(query: Float32Array, settings: SearchSettings, into: TopK, filterAt = 0, leastShare = 0): TopK {
    const ready = this.#ready(query);
    const { probes, margin, slack } = settings;
    const { marginMax } = searchSettingsLimits;
    if (this.index === undefined || (probes >= this.lists && margin >= marginMax && slack >= marginMax)) {
      exactSearch(this.block, ready, into.rows.length, into, { filterAt, use: this.index === undefined ? "int8" : "f32" });
      this.work.lists = this.lists;
      this.work.slots = this.slots;
      this.work.exact = filterAt === 0 ? this.#liveRows : countSlots(this.block, filterAt);
      this.work.gaveUp = false;
      this.work.scoresAt = 0;
      this.work.seenAt = 0;
      return into;
    }
    return searchLists(
      this.index,
      ready,
      { probes, margin: margin >= marginMax ? Infinity : margin - averageMargin, slack: slack >= marginMax ? Infinity : slack, filterAt, leastShare },
      into,
      this.work,
    );
  }

  nearestLists(query: Float32Array, into: Uint32Array): number {
    const index = this.index;
    if (index === undefined) {
      into[0] = 0;
      return Math.min(1, into.length);
    }
    const wanted = Math.min(into.length, this.lists);
    if (wanted === 0) return 0;
    const centroids: VectorBlock = {
      memory: this.memory,
      shape: { dims: this.shape.dims, metric: "ip" },
      slots: this.lists,
      rowsAt: index.centroidsAt,
      codesAt: 0,
      scalesAt: 0,
      biasAt: index.listBiasAt,
      liveAt: 0,
    };
    const top = exactSearch(centroids, this.#ready(query), wanted, createTopK(wanted), { use: "f32" });
    into.set(top.rows.subarray(0, top.size));
    return top.size;
  }

  centroids(): Float32Array | undefined {
    if (this.index === undefined) return undefined;
    const from = this.index.centroidsAt / 4;
    return Float32Array.from(this.memory.f32.subarray(from, from + this.lists * rowFloats(this.shape.dims)));
  }

  /** As the metric wants it. */
  #ready(query: Float32Array): Float32Array {
    if (query.length !== this.shape.dims) {
      throw new MillraceError("invalid", `a query of ${query.length} numbers for rows of ${this.shape.dims}`, {
        todo: "give as many numbers as the collection has dimensions",
      });
    }
    if (this.shape.metric !== "cosine") return query;
    this.#query.set(query);
    normalise(this.#query, this.shape.dims);
    return this.#query;
  }

  slotOf(id: Uint8Array | string): number | undefined {
    return this.#ids.slotOf(id);
  }

  idOf(slot: number): string | undefined {
    return this.#ids.idOf(slot);
  }

  isLive(slot: number): boolean {
    return slot >= 0 && slot < this.slots && hasSlot(this.memory, this.block.liveAt, slot);
  }

  kill(slot: number): boolean {
    if (!this.isLive(slot)) return false;
    setSlot(this.memory, this.block.liveAt, slot, false);
    this.#liveRows--;
    return true;
  }

  vectorOf(slot: number, into: Float32Array): void {
    const from = this.block.rowsAt / 4 + slot * rowFloats(this.shape.dims);
    for (let i = 0; i < this.shape.dims; i++) into[i] = this.memory.f32[from + i]!;
  }

  normOf(slot: number): number {
    return this.#normsAt === 0 ? 1 : this.memory.f32[this.#normsAt / 4 + slot]!;
  }

  release(): void {
    this.#lease.release();
  }
}
