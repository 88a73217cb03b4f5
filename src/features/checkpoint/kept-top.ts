// A list of the best as it stands: which handles are in it decides what it gives, also while it misses some (list-refill.ts), so it is kept whole and not worked out again.
// Bytes: u32 each, little-endian: 1 when some were dropped, place of the refill + 1, then the handles in order.

import type { ListRefill } from "../list-refill.ts";
import type { TopList } from "../top-list.ts";
import { damagedState } from "./state-row.ts";
import type { StateList, StateListCut } from "./stored-state.ts";

export class KeptTop implements StateList {
  readonly name: string;
  readonly #list: TopList;
  readonly #refill: ListRefill | undefined;
  readonly #keyOf: (handle: number) => number;
  readonly #size: () => number;
  #words = new Uint32Array(0);

  /** `keyOf`: of a handle in the list; `size`: handles there are. */
  constructor(name: string, list: TopList, refill: ListRefill | undefined, keyOf: (handle: number) => number, size: () => number) {
    this.name = `top/${name}`;
    this.#list = list;
    this.#refill = refill;
    this.#keyOf = keyOf;
    this.#size = size;
  }

  cut(): StateListCut {
    const { handles, dropped } = this.#list.held();
    const words = new Uint32Array(handles.length + 2);
    words[0] = Number(dropped);
    words[1] = (this.#refill?.next ?? -1) + 1;
    words.set(handles, 2);
    return { pieces: [{ key: this.name, bytes: () => new Uint8Array(words.buffer) }], deleted: [], done: () => undefined, giveUp: () => undefined };
  }

  load(_key: string, bytes: Uint8Array): void {
    if (bytes.length < 8 || bytes.length % 4 !== 0) throw damagedState(`list ${this.name} of ${bytes.length} bytes`);
    this.#words = new Uint32Array(bytes.slice().buffer);
  }

  loaded(): void {
    if (this.#words.length === 0) return;
    const handles = this.#words.subarray(2);
    const size = this.#size();
    if (handles.length > this.#list.capacity || handles.some((handle) => handle >= size)) throw damagedState(`list ${this.name} does not fit its rows`);
    this.#list.restore(handles, this.#words[0] === 1, this.#keyOf);
    if (this.#refill !== undefined) this.#refill.next = this.#words[1]! - 1;
    this.#words = new Uint32Array(0);
  }
}
