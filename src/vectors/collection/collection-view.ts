// One version of a collection as searches see it: a base, the live tail of everything written since, and the dead slots of the base.
// Every loaded version has a view of its own, and each write is applied to all of them, so a search that names a version, a switch and a roll-back find every write in it.
// Where an element is: a place, 0 and up a slot of the base, below 0 the row -1 - place of the tail.
// Invariants: 1. an element is in one place: a slot that is overwritten or deleted is dead before its element is in the tail  2. `nextOffset` is the first record that is not applied, and
// records are applied in the order of their offsets, so two views that reached the same offset from the same state answer the same
// 3. a change of attributes moves an element of the base to the tail, so what is kept beside the slots of a base never changes.
// Concurrency: one thread. Limits: those of the tail.

import type { MemoryPool } from "#kernel/memory-pool";
import type { CollectionShape } from "../vector-service.ts";
import type { BaseVersion } from "./base-version.ts";
import type { DeltaRecord } from "./delta-record.ts";
import { LiveTail } from "./live-tail.ts";
import { TailLists, type TailListsTuning } from "./tail-lists.ts";

export interface ViewOptions {
  readonly shape: CollectionShape;
  readonly base?: BaseVersion;
  readonly pool: MemoryPool;
  readonly owner: string;
  /** Without a base: where the log begins. */
  readonly nextOffset?: number;
  /** For tests. */
  readonly tailLists?: TailListsTuning;
}

export class CollectionView {
  readonly shape: CollectionShape;
  readonly base: BaseVersion | undefined;
  readonly tail: LiveTail;
  /** Of its rows; undefined: the base has no index. */
  readonly tailLists: TailLists | undefined;
  /** Grows with every write that did something. */
  changes = 0;
  nextOffset: number;
  readonly #scratch: Float32Array;

  constructor({ shape, base, pool, owner, nextOffset = 0, tailLists = {} }: ViewOptions) {
    this.shape = { dims: shape.dims, metric: shape.metric };
    this.base = base;
    this.tail = new LiveTail({ shape, pool, owner: `${owner} tail` });
    const index = base?.segment.index;
    if (base !== undefined && index !== undefined) {
      this.tailLists = new TailLists({ tail: this.tail, segment: base.segment, index, pool, owner: `${owner} tail`, limits: tailLists });
      this.tail.follow(this.tailLists);
    }
    this.nextOffset = base?.deltaOffset ?? nextOffset;
    this.#scratch = new Float32Array(shape.dims);
  }

  /** "" without a base. */
  get version(): string {
    return this.base?.version ?? "";
  }

  get elements(): number {
    return (this.base?.segment.liveRows ?? 0) + this.tail.liveRows;
  }

  /** Slots of the base that were overwritten or deleted. */
  get deletedRows(): number {
    const segment = this.base?.segment;
    return segment === undefined ? 0 : segment.rows - segment.liveRows;
  }

  get bytes(): number {
    return (this.base?.bytes ?? 0) + this.tail.bytes + (this.tailLists?.bytes ?? 0);
  }

  placeOf(element: string): number | undefined {
    const row = this.tail.rowOf(element);
    if (row !== undefined) return -1 - row;
    const slot = this.base?.segment.slotOf(element);
    return slot !== undefined && this.base!.segment.isLive(slot) ? slot : undefined;
  }

  elementAt(place: number): string {
    return place < 0 ? this.tail.elementOf(-1 - place) : this.base!.segment.idOf(place)!;
  }

  attributesAt(place: number): string | undefined {
    return place < 0 ? this.tail.attributesOf(-1 - place) : this.base!.attributes?.textOf(place);
  }

  normAt(place: number): number {
    if (this.shape.metric !== "cosine") return 1;
    return place < 0 ? this.tail.normOf(-1 - place) : this.base!.normOf(place);
  }

  /** The numbers as they are stored. */
  vectorAt(place: number, into: Float32Array): void {
    if (place < 0) this.tail.vectorOf(-1 - place, into);
    else this.base!.segment.vectorOf(place, into);
  }

  isLiveAt(place: number): boolean {
    return place < 0 ? this.tail.isLive(-1 - place) : this.base!.segment.isLive(place);
  }

  /** Makes room for so many elements that the tail may not know. Throws `overloaded`. */
  reserve(rows: number): void {
    this.tail.reserve(rows);
  }

  /** True when the element is new. `attributes`: undefined leaves those of before, "" takes them away. */
  upsert(element: string, vectors: Float32Array, from: number, attributes: string | undefined): boolean {
    const place = this.placeOf(element);
    const kept = attributes ?? (place === undefined ? undefined : this.attributesAt(place));
    this.tail.put(element, vectors, from, kept === "" ? undefined : kept);
    if (place !== undefined && place >= 0) this.base!.segment.kill(place);
    this.changes += 1;
    return place === undefined;
  }

  /** False when it was not there. */
  remove(element: string): boolean {
    const place = this.placeOf(element);
    if (place === undefined) return false;
    if (place < 0) this.tail.remove(element);
    else this.base!.segment.kill(place);
    this.changes += 1;
    return true;
  }

  /** False when it is not there. */
  setAttributes(element: string, attributes: string): boolean {
    const place = this.placeOf(element);
    if (place === undefined) return false;
    const text = attributes === "" ? undefined : attributes;
    if (place < 0) this.tail.setAttributes(-1 - place, text);
    else {
      this.vectorAt(place, this.#scratch);
      this.tail.put(element, this.#scratch, 0, text, this.normAt(place));
      this.base!.segment.kill(place);
    }
    this.changes += 1;
    return true;
  }

  /** Applies the record of offset `nextOffset`. */
  apply(record: DeltaRecord): void {
    if (record.kind === "upsert") this.upsert(record.element, record.vector, 0, record.attributes);
    else if (record.kind === "remove") this.remove(record.element);
    else if (record.kind === "attributes") this.setAttributes(record.element, record.attributes);
    this.nextOffset += 1;
  }

  /** Places of all elements, base first. */
  *places(): Generator<number, void, void> {
    const segment = this.base?.segment;
    if (segment !== undefined) for (let slot = 0; slot < segment.slots; slot++) if (segment.isLive(slot)) yield slot;
    for (let row = 0; row < this.tail.rows; row++) if (this.tail.isLive(row)) yield -1 - row;
  }

  release(): void {
    this.tail.release();
    this.tailLists?.release();
    this.base?.release();
  }
}
