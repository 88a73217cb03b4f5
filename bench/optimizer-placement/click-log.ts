// A click log of the demo world as samples of slots: who saw which room, and whether it was clicked by the world's true probability.
// How: viewers come as the world has them come; each view shows ten rooms, most of a topic the viewer likes, the others drawn from all that are open. Fields are those of the demo's
// model without its counting signals, made by the real extractor through the bytes that would be logged.
// Invariants: 1. same options, same log  2. samples in the order of time.
// Memory: some 25 slots a sample, 12 bytes each.

import { Prng } from "#base/prng";
import { Arrivals } from "#demo/arrivals";
import { createWorld } from "#demo/index";
import { Extractor } from "#extract/extractor";
import { SlotRows } from "#extract/slot-rows";
import { defaultConfig } from "#gateway/index";

export interface ClickLogOptions {
  readonly seed: number;
  readonly viewers: number;
  readonly rooms: number;
  readonly views: number;
  readonly viewsPerS: number;
}

export interface ClickLog {
  readonly samples: number;
  readonly clicked: Uint8Array;
  /** Number of the viewer. */
  readonly viewer: Uint32Array;
  /** Slots of sample s: [offsets[s], offsets[s + 1]), of these those before linearEnds[s] have a weight and no factors. */
  readonly offsets: Uint32Array;
  readonly linearEnds: Uint32Array;
  /** Number of each slot's key, in order of first appearance, and its x. */
  readonly ids: Uint32Array;
  readonly x: Float32Array;
  /** Low and high word by number. */
  readonly keys: Uint32Array;
}

const itemsPerView = 10;
const ownTopicChance = 0.7;
const recentMax = 8;
const refreshMs = 10_000;

export function makeClickLog({ seed, viewers, rooms: roomCount, views, viewsPerS }: ClickLogOptions): ClickLog {
  const world = createWorld({ seed, viewers, rooms: roomCount, startMs: Date.UTC(2026, 0, 15, 14), news: false });
  const { rooms, tastes, topics } = world;
  const prng = new Prng(seed).fork("click log");
  const model = defaultConfig.model!;
  const fields = model.fields.filter(({ from }) => !from.startsWith("signal."));
  const extractor = Extractor.compile({ fields, crosses: model.crosses ?? [] });
  const arrivals = new Arrivals(world, viewsPerS);
  const rows = new SlotRows(views * itemsPerView, 24);
  const clicked = new Uint8Array(views * itemsPerView);
  const viewer = new Uint32Array(views * itemsPerView);
  const noSignals = new Float32Array(0);
  const recent: string[][] = Array.from({ length: viewers }, () => []);
  let documents: (Uint8Array | undefined)[] = [];
  let byTopic: number[][] = [];
  let open: number[] = [];
  let refreshAtMs = 0;
  const document = (slot: number): Uint8Array =>
    (documents[slot] ??= ((): Uint8Array => {
      const { id, category, state, attributes } = rooms.row(slot);
      const values = { id, category, state, ...attributes } as Record<string, string>;
      return extractor.encodeItem(extractor.itemFields.map(({ from }) => values[from.split(".").at(-1)!]));
    })());
  for (let view = 0; view < views; view++) {
    const { viewer: who, atMs } = arrivals.look();
    if (atMs >= refreshAtMs) {
      world.advance(atMs);
      refreshAtMs = atMs + refreshMs;
      documents = [];
      byTopic = Array.from({ length: topics.count }, () => []);
      open = [];
      for (let slot = 0; slot < rooms.slots; slot++) {
        if (rooms.live[slot] !== 1) continue;
        open.push(slot);
        byTopic[rooms.topic[slot]!]!.push(slot);
      }
    }
    const languages = tastes.row(who).attributes!["languages"] as readonly string[];
    const of: Record<string, string | number | readonly string[]> = {
      "user.id": tastes.idOf(who),
      "user.recent": recent[who]!,
      "context.hour": new Date(atMs).getUTCHours(),
      "user.attributes.languages": languages,
    };
    const user = extractor.encodeUser(extractor.userFields.map(({ from }) => of[from]));
    const interests = tastes.interestsOf(who);
    for (let position = 0; position < itemsPerView; position++) {
      const ofTopic = byTopic[interests[position % interests.length]!]!;
      const slot = prng.chance(ownTopicChance) && ofTopic.length > 0 ? prng.pick(ofTopic) : prng.pick(open);
      const at = rows.rows;
      extractor.sampleSlots(user, position, document(slot), noSignals, rows);
      viewer[at] = who;
      if (!prng.chance(world.clickProbability(who, slot, position, atMs))) continue;
      clicked[at] = 1;
      recent[who] = [rooms.idOf(slot), ...recent[who]!].slice(0, recentMax);
    }
  }
  const ids = new Uint32Array(rows.slots);
  const numbers = new Map<number, number>();
  const keys: number[] = [];
  for (let i = 0; i < rows.slots; i++) {
    const [low, high] = [rows.keys[2 * i]!, rows.keys[2 * i + 1]!];
    // 53 bits of the key tell it from the others here; a clash would only make two keys one.
    const name = low + (high & 0x1f_ffff) * 2 ** 32;
    let id = numbers.get(name);
    if (id === undefined) {
      id = numbers.size;
      numbers.set(name, id);
      keys.push(low, high);
    }
    ids[i] = id;
  }
  return {
    samples: rows.rows,
    clicked,
    viewer,
    offsets: rows.offsets.slice(0, rows.rows + 1),
    linearEnds: rows.linearEnds.slice(0, rows.rows),
    ids,
    x: rows.weights.slice(0, rows.slots),
    keys: Uint32Array.from(keys),
  };
}
