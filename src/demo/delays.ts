// Late looks and late messages: a viewer puts the phone away and looks at the list minutes later; an event waits for a net. So clicks come from lists that were
// served a while ago, and events reach the server out of their order, as in life.
// Invariants: 1. pure functions of the seed and the key: asked again they answer the same  2. bounded: a look by `lateLookMaxMs`, a message by `lateEventMaxMs`
// 3. a list is looked at once, now or later, so clicks keep their true probabilities.

import type { Draws } from "./draws.ts";
import { worldParameters as parameter } from "./parameters.ts";
import { streamNumber as stream } from "./stream-number.ts";

/** Milliseconds from the answer to the look at it; 0 for most. */
export function lookDelayMs(draws: Draws, viewer: number, atMs: number): number {
  if (draws.uniform(stream.lateLook, viewer, atMs) >= parameter.lateLookChance) return 0;
  return Math.min(parameter.lateLookMaxMs, Math.ceil(draws.exponential(parameter.lateLookMeanMs, stream.lateLookDelay, viewer, atMs)));
}

/** Milliseconds by which the event number `index` of the look of this viewer at `atMs` is sent late; 0 for most. */
export function sendDelayMs(draws: Draws, viewer: number, atMs: number, index: number): number {
  if (draws.uniform(stream.lateEvent, viewer, atMs, index) >= parameter.lateEventChance) return 0;
  return Math.min(parameter.lateEventMaxMs, Math.ceil(draws.exponential(parameter.lateEventMeanMs, stream.lateEventDelay, viewer, atMs, index)));
}
