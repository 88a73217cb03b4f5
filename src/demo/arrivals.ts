// Who looks at a page next, and when: the world's visits (visits.ts) in the order of time.
// Invariants: 1. the plan follows from the world's seed, the moment and the rate alone  2. page views come in the order of time  3. at the first moment, and after a
// jump, visits that began before are under way already.
// Limits: visits that began more than `lookbackS` before the first moment or a jump are not seen; a page view is held from its visit's begin until it is due.

import type { Look } from "./visits.ts";
import type { World } from "./world.ts";

const lookbackS = 180;
/** `next` goes to the world's moment when that is so far ahead of the plan. */
const behindMsMax = 60_000;
/** A plan of very few page views may have empty seconds for a while, not for ever. */
const emptySecondsMax = 10_000_000;

export class Arrivals {
  readonly #world: World;
  readonly #viewsPerS: number;
  /** Second -> page views due in it. */
  readonly #waiting = new Map<number, Look[]>();
  #second: number;
  /** Of `#second`, by time. */
  #due: Look[] = [];
  #taken = 0;

  /** `viewsPerS`: page views of the whole audience a second, on average. Default 40. The plan begins at the world's moment. */
  constructor(world: World, viewsPerS = 40) {
    this.#world = world;
    this.#viewsPerS = viewsPerS;
    this.#second = 0;
    this.jumpTo(world.nowMs);
  }

  /** Leaves out everything before `atMs`, and goes back to it when the plan is ahead. */
  jumpTo(atMs: number): void {
    this.#waiting.clear();
    const second = Math.floor(atMs / 1_000);
    for (let begun = second - lookbackS; begun < second; begun += 1) this.#begin(begun, second);
    this.#enter(second);
    while (this.#taken < this.#due.length && this.#due[this.#taken]!.atMs < atMs) this.#taken += 1;
  }

  /** Number of the viewer who looks next. Follows the world's moment: a caller may have a pace of its own. */
  next(): number {
    if (this.#world.nowMs - this.#second * 1_000 > behindMsMax) this.jumpTo(this.#world.nowMs);
    return this.look().viewer;
  }

  /** The next page view. */
  look(): Look {
    const look = this.peek();
    this.#taken += 1;
    return look;
  }

  /** The next page view, left in the plan. */
  peek(): Look {
    for (let empty = 0; this.#taken >= this.#due.length && empty < emptySecondsMax; empty += 1) this.#enter(this.#second + 1);
    return this.#due[this.#taken]!;
  }

  /** The page views before `toMs`. */
  until(toMs: number): Look[] {
    const looks: Look[] = [];
    while (this.#second * 1_000 < toMs) {
      if (this.#taken >= this.#due.length) {
        if ((this.#second + 1) * 1_000 >= toMs) break;
        this.#enter(this.#second + 1);
      } else if (this.#due[this.#taken]!.atMs < toMs) looks.push(this.look());
      else break;
    }
    return looks;
  }

  #begin(second: number, fromSecond: number): void {
    for (const look of this.#world.visits.begunIn(second, this.#viewsPerS)) {
      const at = Math.floor(look.atMs / 1_000);
      if (at < fromSecond) continue;
      const there = this.#waiting.get(at);
      if (there === undefined) this.#waiting.set(at, [look]);
      else there.push(look);
    }
  }

  #enter(second: number): void {
    this.#second = second;
    this.#begin(second, second);
    this.#due = (this.#waiting.get(second) ?? []).sort((a, b) => a.atMs - b.atMs);
    this.#waiting.delete(second);
    this.#taken = 0;
  }
}
