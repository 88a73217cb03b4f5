// The room of young objects of this process, kept small: a collection of them stops its thread for as long as what is still in use takes to be copied, and that grows with the room.
// Why: with the engine's own growth, to 16 MiB, a loop that serves 2,000 writes and 200 searches a second stood still for 6 to 11 ms of CPU every 1.8 s; with 2 MiB for some 1 ms, eight times as
// often. What is in use at a time, requests under way, is a few hundred KiB whatever the room.
// What it costs: twice to five times the CPU time of such collections, 2 % of a core at 10 MB of young objects a second.
// Concurrency: the whole process, threads that start later too: those whose room is smaller keep it. Called once, when a start has ended.

import { getHeapSpaceStatistics, setFlagsFromString } from "node:v8";
import { collectYoung } from "./garbage.ts";

/** Two halves of 2 MiB: objects live in one, and are copied to the other. */
const roomBytes = 4 << 20;
/** Each round can double the room. */
const roundsMax = 8;

const youngRoomBytes = (): number => getHeapSpaceStatistics().find(({ space_name }) => space_name === "new_space")?.space_size ?? 0;

/** From now on young objects have 2 MiB in the calling thread, and at most what they have now elsewhere. Some 5 ms. Returns the bytes of room of the calling thread, both halves. */
export function keepYoungRoom(): number {
  for (let round = 0; youngRoomBytes() < roomBytes && round < roundsMax; round++) {
    // The room grows when what survived is more than it.
    const kept = Array.from({ length: 4_096 }, () => new Array<number>(32).fill(round));
    collectYoung();
    kept.length = 0;
  }
  // The factor is read whenever the room might grow.
  setFlagsFromString("--semi-space-growth-factor=1");
  return youngRoomBytes();
}
