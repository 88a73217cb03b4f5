// Who looks at a page next: sessions of several page views, begun by viewers in proportion to their activity.
// Invariants: 1. the sequence follows from the world's seed alone  2. at most `sessionsOpenMax` sessions are open; a new one takes the place of one of them.

import { worldParameters as parameter } from "./parameters.ts";
import { streamNumber as stream } from "./stream-number.ts";
import type { World } from "./world.ts";

export class Arrivals {
  readonly #world: World;
  readonly #sessions: number[] = [];
  #count = 0;

  constructor(world: World) {
    this.#world = world;
  }

  /** Number of the viewer who looks next. */
  next(): number {
    const { draws, tastes } = this.#world;
    const n = (this.#count += 1);
    if (this.#sessions.length > 0 && draws.uniform(stream.arrivalContinues, n) < parameter.sessionContinues) {
      return this.#sessions[draws.below(this.#sessions.length, stream.arrivalSession, n)]!;
    }
    const viewer = draws.weighted(tastes.activity, stream.arrivalViewer, n);
    if (this.#sessions.length < parameter.sessionsOpenMax) this.#sessions.push(viewer);
    else this.#sessions[draws.below(parameter.sessionsOpenMax, stream.arrivalReplace, n)] = viewer;
    return viewer;
  }
}
