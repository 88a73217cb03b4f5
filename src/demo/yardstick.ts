// How good could an answer have been? True expected click rates of the perfect, the best non-personal and a random list for the same page view.
// Perfect ("oracle"): the open rooms with the highest true probability for this viewer. Popular: the open rooms with the highest mean true probability over
// a panel of viewers who come at that hour: no counter of clicks can order them better without looking at the viewer. Random: the mean over open rooms.
// Invariants: 1. none of them knows what was shown before, so the oracle is an upper bound that an answer with dedupe cannot reach for long
// 2. all for the same number of positions.
// Cost: oracle 0.2 ms a view over 3,000 rooms; the panel 40 ms per renewal (every `panelEveryMs` of the world's time); random 50 probabilities a view.

import { streamNumber as stream } from "./stream-number.ts";
import { logistic, type World } from "./world.ts";

const panelViewers = 128;
const panelEveryMs = 30_000;
const randomRooms = 50;

export class Yardstick {
  readonly #world: World;
  readonly #logits: Float64Array;
  #popular: number[] = [];
  #popularAtMs = -Infinity;

  constructor(world: World) {
    this.#world = world;
    this.#logits = new Float64Array(world.rooms.slots);
  }

  /** Slots of the `n` open rooms that this viewer most likely clicks, best first. */
  oracle(viewer: number, n: number, atMs: number): number[] {
    const { rooms } = this.#world;
    const logits = this.#logits;
    for (let slot = 0; slot < rooms.slots; slot += 1) {
      logits[slot] = rooms.live[slot] === 1 ? this.#world.roomLogit(slot, atMs) + this.#world.viewerLogit(viewer, slot, atMs) : -Infinity;
    }
    return best(logits, n);
  }

  /** Slots of the `n` open rooms that the panel most likely clicks, best first. Renewed every half minute of the world's time. */
  popular(n: number, atMs: number): number[] {
    if (atMs - this.#popularAtMs >= panelEveryMs || this.#popular.length < n) {
      const { rooms, visits, draws } = this.#world;
      const coming = visits.comingAt(atMs);
      const panel = Int32Array.from({ length: panelViewers }, (_, i) => draws.weighted(coming, stream.panelViewer, i));
      const mean = this.#logits;
      for (let slot = 0; slot < rooms.slots; slot += 1) {
        if (rooms.live[slot] !== 1) {
          mean[slot] = -Infinity;
          continue;
        }
        const roomLogit = this.#world.roomLogit(slot, atMs);
        let sum = 0;
        for (const viewer of panel) sum += logistic(roomLogit + this.#world.viewerLogit(viewer, slot, atMs));
        mean[slot] = sum;
      }
      this.#popular = best(mean, Math.max(n, 100));
      this.#popularAtMs = atMs;
    }
    return this.#popular.filter((slot) => this.#world.rooms.live[slot] === 1).slice(0, n);
  }

  /** Expected clicks of a list shown from position 0. */
  expectedClicks(viewer: number, slots: readonly number[], atMs: number): number {
    let sum = 0;
    slots.forEach((slot, position) => (sum += this.#world.clickProbability(viewer, slot, position, atMs)));
    return sum;
  }

  /** Expected clicks of `n` random open rooms, estimated from `randomRooms` of them without bias. */
  randomClicks(viewer: number, n: number, atMs: number): number {
    const { rooms, draws } = this.#world;
    let sum = 0;
    let seen = 0;
    for (let i = 0; seen < randomRooms && i < 20 * randomRooms; i += 1) {
      const slot = draws.below(rooms.slots, stream.randomRoom, viewer, i, atMs);
      if (rooms.live[slot] !== 1) continue;
      sum += this.#world.clickProbability(viewer, slot, seen % n, atMs);
      seen += 1;
    }
    return seen === 0 ? 0 : (sum / seen) * n;
  }
}

/** Indices of the `n` largest finite values, largest first; ties by index. */
function best(values: Float64Array, n: number): number[] {
  const kept: number[] = [];
  for (let i = 0; i < values.length; i += 1) {
    const value = values[i]!;
    if (value === -Infinity || (kept.length === n && value <= values[kept[n - 1]!]!)) continue;
    let at = kept.length;
    while (at > 0 && values[kept[at - 1]!]! < value) at -= 1;
    kept.splice(at, 0, i);
    if (kept.length > n) kept.pop();
  }
  return kept;
}
