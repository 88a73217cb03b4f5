// What a ranker thread is started with.

import type { LiveModelTicket } from "#models/live-model";
import type { BellKind } from "./bell.ts";

export interface RankerStart {
  readonly mailbox: SharedArrayBuffer;
  readonly model: LiveModelTicket;
  /** The ranker's lane of the model's memory: its own. */
  readonly lane: number;
  readonly bell: BellKind;
}

/** Sent once, when the ranker has warmed up and takes requests. */
export const rankerReady = "ready";
