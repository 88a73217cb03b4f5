// Ids as dense numbers: each id string has one u32 handle for the life of the process.
// Why: columns, lists and pipelines are typed arrays over handles; strings are resolved once at the edge.
// Invariants: 1. handles are dense from 0 in the order of first interning, so a rebuild from the log gives the same handles
// 2. a handle is never reused.
// Cost: about 100 bytes an id. The map is cut into 256 parts by the id's last characters, because a native Map doubles itself in
// one go: 10 ms and more at 200 k entries, which no serving loop may spend; a part stays 256 times smaller.

import { partCount, partOf } from "#base/part-of";

export class HandleTable {
  readonly #parts: Map<string, number>[] = Array.from({ length: partCount }, () => new Map<string, number>());
  readonly #ids: string[] = [];
  #idCharacters = 0;
  #missing = 0;

  get size(): number {
    return this.#ids.length;
  }

  /** The handle of an id, `undefined` when it was never interned. */
  find(id: string): number | undefined {
    return this.#parts[partOf(id)]!.get(id);
  }

  /** The handle of an id, a new one when it is seen first. */
  intern(id: string): number {
    const part = this.#parts[partOf(id)]!;
    let handle = part.get(id);
    if (handle === undefined) {
      handle = this.#ids.length;
      this.#ids.push(id);
      part.set(id, handle);
      this.#idCharacters += id.length;
    }
    return handle;
  }

  /** Makes room for `size` handles, to be given by `restore`; into an empty table. */
  reserve(size: number): void {
    for (let handle = this.#ids.length; handle < size; handle += 1) this.#ids.push("");
    this.#missing = size;
  }

  /** Gives a reserved handle its id; false when one of the two is taken. */
  restore(handle: number, id: string): boolean {
    const part = this.#parts[partOf(id)]!;
    if (this.#ids[handle] !== "" || part.has(id)) return false;
    this.#ids[handle] = id;
    part.set(id, handle);
    this.#idCharacters += id.length;
    this.#missing -= 1;
    return true;
  }

  /** Reserved handles that have no id yet. */
  get missing(): number {
    return this.#missing;
  }

  /** The id of a handle that this table gave. */
  id(handle: number): string {
    return this.#ids[handle]!;
  }

  /** Estimate: string header, map entry, array slot. */
  get bytes(): number {
    return this.#ids.length * 72 + this.#idCharacters;
  }
}
