// What viewers did before the server's first moment: page views of people who find rooms by themselves, so that the first answers are already personal.
// How: in slices of five minutes of the world's time; each view shows ten rooms, most of them of a topic that the viewer likes, the others by how many
// watch them; what follows are the viewer's true actions. There is no recommendation id: nobody recommended.
// Invariants: 1. events come in the order of time and lie before `untilMs`  2. only of rooms that still exist then  3. same world, same history.
// Cost: 2,000 viewers x 7 views over two hours: about 32,000 events, some 500 ms; a generator, so that its caller can let other work run between slices.

import type { EventBody } from "#wire/api";
import { Arrivals } from "./arrivals.ts";
import { cumulate } from "./draws.ts";
import { worldParameters as parameter } from "./parameters.ts";
import { streamNumber as stream } from "./stream-number.ts";
import type { ShownItem, World } from "./world.ts";

const sliceMs = 300_000;
const roomsShown = 10;
const ownTopicChance = 0.7;

/** Moves the world to `untilMs`, yields after every slice, and returns what its viewers did on the way, about `viewsPerViewer` page views each. */
export function* liveThrough(world: World, untilMs: number, viewsPerViewer: number): Generator<void, EventBody[], void> {
  const { rooms, tastes, topics, draws } = world;
  const events: EventBody[] = [];
  const startMs = world.nowMs;
  const viewsPerS = (tastes.viewers * viewsPerViewer * 1_000) / Math.max(1_000, untilMs - startMs);
  const arrivals = new Arrivals(world, viewsPerS);
  let done = 0;
  for (let from = startMs; from < untilMs; from += sliceMs) {
    world.skipTo(from);
    yield;
    if (viewsPerViewer === 0) continue;
    const open: number[] = [];
    const byTopic: number[][] = Array.from({ length: topics.count }, () => []);
    for (let slot = 0; slot < rooms.slots; slot += 1) {
      if (rooms.live[slot] !== 1) continue;
      open.push(slot);
      byTopic[rooms.topic[slot]!]!.push(slot);
    }
    if (open.length === 0) continue;
    const byCrowd = cumulate(open.length, (i) => Math.exp(parameter.watchersPerQuality * rooms.quality[open[i]!]!));
    const to = Math.min(untilMs, from + sliceMs);
    for (const { viewer, atMs } of arrivals.until(to)) {
      done += 1;
      const interests = tastes.interestsOf(viewer);
      const chosen = new Set<number>();
      for (let i = 0; i < roomsShown; i += 1) {
        const own = draws.uniform(stream.historySource, done, i) < ownTopicChance;
        const ofTopic = byTopic[interests[i % interests.length]!]!;
        chosen.add(
          own && ofTopic.length > 0
            ? ofTopic[draws.below(ofTopic.length, stream.historyRoom, done, i)]!
            : open[draws.weighted(byCrowd, stream.historyRoom, done, i)]!,
        );
      }
      const shown: ShownItem[] = Array.from(chosen, (slot, position) => ({ id: rooms.idOf(slot), position }));
      for (const event of world.act(viewer, shown, atMs).events) if (event.ts! < untilMs) events.push(event);
    }
  }
  world.skipTo(untilMs);
  return events.filter(({ item }) => rooms.slotOf(item) !== undefined).sort((a, b) => a.ts! - b.ts!);
}
