// The best M handles by a key, kept in order while keys change.
// Why: "popular" and "fresh" are asked on every request; a scan over all items is linear in the catalogue, this is linear in the answer.
// Invariants: 1. entries are ordered by falling key, ties to the smaller handle  2. while keys only rise (decayed counts: all keys of one half-life
// decay alike, so their order changes only by events; creation times: never), the list is exactly the best M of all
// 3. after removals and falls it is exact among what it holds; below half it asks for a refill.
// Cost: an update moves an entry up by its rank gain, 2 array moves a place; M = 2,000 from last to first: about 5 us.

import { chunkBits, chunkMask, u32Column } from "#base/chunked";

export class TopList {
  readonly #handles: Uint32Array;
  readonly #keys: Float64Array;
  /** Place + 1 of a handle, 0 = not in the list. */
  readonly #place = u32Column();
  #length = 0;
  #dropped = false;

  constructor(capacity: number) {
    this.#handles = new Uint32Array(capacity);
    this.#keys = new Float64Array(capacity);
  }

  get length(): number {
    return this.#length;
  }

  get capacity(): number {
    return this.#handles.length;
  }

  get bytes(): number {
    return this.#handles.byteLength + this.#keys.byteLength + this.#place.bytes;
  }

  /** True when so much left the list that handles outside may belong into it: the owner offers all handles again by `update`. */
  get wantsRefill(): boolean {
    return this.#dropped && this.#length < this.capacity / 2;
  }

  /** Call before offering all handles again. */
  beginRefill(): void {
    this.#dropped = false;
  }

  /** Handles in order; valid until the next update. */
  get handles(): Uint32Array {
    return this.#handles.subarray(0, this.#length);
  }

  /** Sets a handle's key, moving it to its place, into the list or out of it. */
  update(handle: number, key: number): void {
    this.#place.ensure(handle + 1);
    const places = this.#place.chunks[handle >>> chunkBits]!;
    let at = places[handle & chunkMask]! - 1;
    if (at < 0) {
      if (this.#length === this.capacity) {
        this.#dropped = true;
        if (!this.#before(handle, key, this.#length - 1)) return;
        at = this.#length - 1;
        this.#setPlace(this.#handles[at]!, 0);
      } else {
        at = this.#length;
        this.#length += 1;
      }
    } else if (at + 1 < this.#length && !this.#before(handle, key, at + 1)) {
      // The key fell: close the gap downwards.
      while (at + 1 < this.#length && !this.#before(handle, key, at + 1)) {
        this.#move(at + 1, at);
        at += 1;
      }
    }
    while (at > 0 && this.#before(handle, key, at - 1)) {
      this.#move(at - 1, at);
      at -= 1;
    }
    this.#handles[at] = handle;
    this.#keys[at] = key;
    places[handle & chunkMask] = at + 1;
  }

  /** What the keys do not say: handles in order, and whether some were dropped for want of room. A copy. */
  held(): { readonly handles: Uint32Array; readonly dropped: boolean } {
    return { handles: this.handles.slice(), dropped: this.#dropped };
  }

  /** Takes over what `held` gave, into an empty list; `keyOf`: of each handle, as then. */
  restore(handles: Uint32Array, dropped: boolean, keyOf: (handle: number) => number): void {
    for (const handle of handles) this.update(handle, keyOf(handle));
    this.#dropped = dropped;
  }

  remove(handle: number): void {
    if (handle >= this.#place.chunks.length << chunkBits) return;
    let at = this.#place.get(handle) - 1;
    if (at < 0) return;
    this.#setPlace(handle, 0);
    for (; at + 1 < this.#length; at += 1) this.#move(at + 1, at);
    this.#length -= 1;
  }

  /** Would (handle, key) stand before the entry at `place`? */
  #before(handle: number, key: number, place: number): boolean {
    const other = this.#keys[place]!;
    return key > other || (key === other && handle < this.#handles[place]!);
  }

  #move(from: number, to: number): void {
    const handle = this.#handles[from]!;
    this.#handles[to] = handle;
    this.#keys[to] = this.#keys[from]!;
    this.#setPlace(handle, to + 1);
  }

  #setPlace(handle: number, value: number): void {
    this.#place.set(handle, value);
  }
}
