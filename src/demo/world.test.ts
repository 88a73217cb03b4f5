// Guards what every figure on the demo world rests on: the world is a function of its seed and of time, viewers act by the true probabilities, and
// personalisation matters as much as docs/design/demo-world.md says.

import assert from "node:assert/strict";
import test from "node:test";
import { drawBits, Draws } from "./draws.ts";
import { Arrivals } from "./arrivals.ts";
import { worldChecksum } from "./checksum.ts";
import { worldParameters as parameter } from "./parameters.ts";
import { hoursAt, planOf } from "./schedules.ts";
import { createWorld, logistic, type World } from "./world.ts";
import { Yardstick } from "./yardstick.ts";

const startMs = Date.UTC(2026, 0, 1);
const hourMs = 3_600_000;
const small = { seed: 7, startMs, rooms: 120, viewers: 80 };

test("draws: equal keys give equal numbers, different streams and keys do not, and they are spread evenly", () => {
  assert.equal(drawBits(1, 2, 3, 4, 5), drawBits(1, 2, 3, 4, 5));
  const seen = new Set<number>();
  for (let stream = 1; stream < 20; stream += 1) for (let a = 0; a < 20; a += 1) for (let b = 0; b < 5; b += 1) seen.add(drawBits(1, stream, a, b, 0));
  assert.equal(seen.size, 19 * 20 * 5);
  const draws = new Draws(3);
  const buckets = new Float64Array(16);
  let sum = 0;
  let squares = 0;
  const n = 40_000;
  for (let i = 0; i < n; i += 1) {
    buckets[Math.floor(draws.uniform(1, i % 200, Math.floor(i / 200)) * 16)]! += 1;
    const normal = draws.normal(2, i);
    sum += normal;
    squares += normal * normal;
  }
  const chiSquare = buckets.reduce((total, count) => total + (count - n / 16) ** 2 / (n / 16), 0);
  assert.ok(chiSquare < 40, `chi-square of 15 degrees of freedom is ${chiSquare}`);
  assert.ok(Math.abs(sum / n) < 0.02 && Math.abs(squares / n - 1) < 0.03, `mean ${sum / n}, variance ${squares / n}`);
});

test("promise: the demo world of a seed is the same on every machine (golden checksum)", () => {
  const world = createWorld(small);
  assert.equal(worldChecksum(world), "eb92d9b6");
  world.advance(startMs + 5 * hourMs);
  assert.equal(worldChecksum(world), "8b45aa4f");
  assert.notEqual(worldChecksum(createWorld({ ...small, seed: 8 })), worldChecksum(createWorld(small)));
});

test("the way to a moment does not matter: one step or many, with or without questions in between", () => {
  const once = createWorld(small);
  const many = createWorld(small);
  const inOneStep = once.advance(startMs + 3 * hourMs);
  const yardstick = new Yardstick(many);
  const inSteps = [];
  for (let at = startMs; at <= startMs + 3 * hourMs; at += 97_001) {
    inSteps.push(...many.advance(at));
    many.act(3, [{ id: many.rooms.idOf(5), position: 0 }], at);
    yardstick.oracle(1, 5, at);
    yardstick.randomClicks(1, 5, at);
  }
  inSteps.push(...many.advance(startMs + 3 * hourMs));
  assert.ok(inOneStep.length > 1_000);
  assert.deepEqual(inSteps, inOneStep);
  assert.equal(worldChecksum(many), worldChecksum(once));
  assert.deepEqual(many.advance(startMs), [], "the past changes nothing");
  const silent = createWorld(small);
  silent.skipTo(startMs + 3 * hourMs);
  assert.equal(worldChecksum(silent), worldChecksum(once));
});

test("the changes, put and patched into a catalogue, give the rooms as they stand", () => {
  const world = createWorld(small);
  const catalogue = new Map<string, Record<string, unknown>>();
  for (let slot = 0; slot < world.rooms.slots; slot += 1) {
    const { id, ...body } = world.rooms.row(slot);
    catalogue.set(id, body);
  }
  const kinds = new Set<string>();
  for (const { kind, id, patch } of world.advance(startMs + 12 * hourMs)) {
    kinds.add(kind);
    if (kind === "retire") catalogue.delete(id);
    else catalogue.set(id, { ...catalogue.get(id), ...patch });
  }
  assert.deepEqual([...kinds].sort(), ["close", "open", "retire", "topic", "watchers"]);
  let settled = 0;
  for (let slot = 0; slot < world.rooms.slots; slot += 1) {
    const { id, ...body } = world.rooms.row(slot);
    if (world.rooms.live[slot] !== 1 && !catalogue.has(id)) continue; // has made place, the new one was never open yet
    settled += 1;
    const known = catalogue.get(id);
    assert.deepEqual({ ...known, attributes: undefined }, { ...body, attributes: undefined }, id);
  }
  assert.ok(settled > world.rooms.slots * 0.9);
});

test("rooms are in equilibrium from the first moment, and as many are open at any hour of any day", () => {
  const counts: number[] = [];
  for (const hour of [0, 5, 16]) {
    const world = createWorld({ seed: 5, startMs: startMs + 48 * hourMs + hour * hourMs, rooms: 1_000, viewers: 10 });
    for (const later of [0, 7, 31]) {
      world.skipTo(startMs + (48 + hour + later) * hourMs);
      counts.push(world.rooms.live.reduce((sum, live) => sum + live, 0));
    }
  }
  // 3,100 slots, each open with 0.32: standard deviation 26.
  for (const count of counts) assert.ok(Math.abs(count - 1_000) < 130, `open: ${counts.join(", ")}`);
  const mean = counts.reduce((sum, count) => sum + count, 0) / counts.length;
  assert.ok(Math.abs(mean - 1_000) < 60, `mean ${mean}`);
});

test("rooms of a language are open when its viewers are awake", () => {
  // Language 2 lives 7.2 to 12 hours ahead of UTC: 20 o'clock there is about 10:30 UTC, 8 in the morning 22:30.
  const world = createWorld({ seed: 6, startMs, rooms: 1_000, viewers: 1_000 });
  const shares = (hour: number): { open: number; coming: number } => {
    world.skipTo(startMs + hour * hourMs);
    const { rooms, visits, tastes } = world;
    let open = 0;
    let of = 0;
    for (let slot = 0; slot < rooms.slots; slot += 1) {
      if (rooms.live[slot] !== 1) continue;
      open += 1;
      if (rooms.language[slot] === 2) of += 1;
    }
    const table = visits.comingAt(world.nowMs);
    let coming = 0;
    for (let v = 0; v < tastes.viewers; v += 1) if (tastes.language[v] === 2) coming += table[v]! - (v === 0 ? 0 : table[v - 1]!);
    return { open: of / open, coming: coming / table.at(-1)! };
  };
  const evening = shares(10.5);
  const morning = shares(22.5);
  assert.ok(evening.open > 2.5 * morning.open, JSON.stringify({ evening, morning }));
  assert.ok(evening.coming > 2.5 * morning.coming, JSON.stringify({ evening, morning }));
});

test("a streamer keeps its hours: never open outside of them, on weekdays only where the plan says so", () => {
  const draws = new Draws(12);
  const kinds = new Set<number>();
  for (let slot = 0; slot < 60; slot += 1) {
    const plan = planOf(draws, slot, slot % 4);
    kinds.add(plan.kind);
    let atMs = startMs;
    for (let day = 0; day < 14 && plan.kind !== 0; day += 1) {
      const hours = hoursAt(draws, slot, plan, atMs);
      assert.ok(hours.toMs > atMs && hours.toMs - hours.fromMs < 18 * hourMs);
      assert.deepEqual(hoursAt(draws, slot, plan, hours.fromMs), hours, "any moment within gives the same hours");
      const weekday = new Date((hours.fromMs + hours.toMs) / 2 + plan.zoneMs - plan.beginMs - plan.lengthMs / 2 + 12 * hourMs).getUTCDay();
      const weekend = weekday === 0 || weekday === 6;
      if (plan.kind > 1) assert.equal(weekend, plan.kind === 3);
      assert.ok(day === 0 || hours.fromMs > atMs, "hours of two days do not overlap");
      atMs = hours.toMs;
    }
  }
  assert.deepEqual([...kinds].sort(), [0, 1, 2, 3]);
});

test("breaking news: rooms switch, viewers who are reached click more, then it is over; the same whether from the options or triggered", () => {
  const options = { seed: 21, startMs, rooms: 400, viewers: 300 };
  const topic = 17;
  const newsMs = startMs + 600_000;
  const triggered = createWorld({ ...options, news: { scheduled: false } });
  triggered.advance(newsMs);
  const roomsOn = (world: World): number => world.rooms.topic.reduce((sum, t, slot) => sum + (t === topic && world.rooms.live[slot] === 1 ? 1 : 0), 0);
  const before = roomsOn(triggered);
  const quiet = createWorld({ ...options, news: false });
  quiet.advance(newsMs);
  assert.equal(worldChecksum(triggered), worldChecksum(quiet), "nothing happens before");
  assert.deepEqual(triggered.trigger(topic), { atMs: newsMs, topic });
  const given = createWorld({ ...options, news: { scheduled: false, triggered: [{ atMs: newsMs, topic }] } });
  given.advance(newsMs);
  const once = given.advance(newsMs + 5 * 60_000);
  const steps = [];
  for (let at = newsMs; at <= newsMs + 5 * 60_000; at += 7_013) steps.push(...triggered.advance(at));
  steps.push(...triggered.advance(newsMs + 5 * 60_000));
  assert.deepEqual(steps, once);
  assert.equal(worldChecksum(triggered), worldChecksum(given));
  quiet.advance(newsMs + 5 * 60_000);
  assert.ok(roomsOn(given) > before + 20, `${before} rooms on the topic before, ${roomsOn(given)} after five minutes`);
  const slot = given.rooms.topic.findIndex((t, s) => t === topic && given.rooms.live[s] === 1);
  const atPeak = newsMs + parameter.newsRiseMs;
  let reached = 0;
  for (let v = 0; v < 300; v += 1) {
    const more = given.viewerLogit(v, slot, atPeak) - given.viewerLogit(v, slot, newsMs - 1);
    if (more > 0) reached += 1;
    assert.ok(more === 0 || (more >= parameter.newsLogitMin - 1e-6 && more <= parameter.newsLogitMax + 1e-6), `${more}`);
    const faded = given.viewerLogit(v, slot, atPeak + parameter.newsDecayMs) - given.viewerLogit(v, slot, newsMs - 1);
    assert.ok(Math.abs(faded - more / Math.E) < 1e-9);
    assert.equal(given.news.interest(v, topic, newsMs + parameter.newsEndsMs), 0);
  }
  assert.ok(Math.abs(reached / 300 - parameter.newsReach) < 0.12, `${reached} of 300 viewers reached`);
  assert.throws(() => createWorld({ ...options, drift: false }).trigger(), /without drift/);
});

test("the world's own news come minutes after the named moment, then again and again", () => {
  const fromMs = startMs + 2 * hourMs;
  const { news } = createWorld({ ...small, news: { fromMs } });
  const all = news.between(startMs, startMs + 26 * hourMs);
  assert.ok(all[0]!.atMs >= fromMs + parameter.newsFirstMinMs && all[0]!.atMs <= fromMs + parameter.newsFirstMaxMs);
  assert.ok(all.length >= 8 && all.length <= 20, `${all.length} in a day`);
  assert.deepEqual(createWorld({ ...small, drift: false }).news.between(0, startMs + 100 * hourMs), []);
});

test("visits: as many page views as asked for, in the order of time, of viewers who come by their activity; a later start meets the same ones", () => {
  const world = createWorld({ seed: 31, startMs, rooms: 10, viewers: 400 });
  const seconds = 600;
  const looks = new Arrivals(world, 20).until(startMs + seconds * 1_000);
  assert.ok(Math.abs(looks.length / seconds - 20) < 2, `${looks.length / seconds} page views a second`);
  const times = looks.map(({ atMs }) => atMs);
  assert.deepEqual(
    times,
    times.toSorted((a, b) => a - b),
  );
  const early = looks.filter(({ atMs }) => atMs < startMs + 60_000).length;
  assert.ok(Math.abs(early - 1_200) < 300, `${early} in the first minute: visits are under way from the first moment`);
  const first = looks.filter(({ view }) => view === 0).length;
  assert.ok(Math.abs(looks.length / first - parameter.visitViews) < 0.5, `${looks.length / first} page views a visit`);
  assert.ok(Math.abs(looks.filter(({ last }) => last).length / first - 1) < 0.1);
  const later = new Arrivals(world, 20);
  later.jumpTo(startMs + 300_000);
  const known = new Set(looks.map((look) => JSON.stringify(look)));
  const again = later.until(startMs + seconds * 1_000);
  assert.ok(again.every((look) => known.has(JSON.stringify(look))));
  // Visits that began long before are the only difference.
  const rest = looks.filter(({ atMs }) => atMs >= startMs + 300_000).length;
  assert.ok(again.length <= rest && again.length > 0.98 * rest, `${again.length} of ${rest}`);
  const byNext = new Arrivals(world, 20);
  assert.deepEqual(
    looks.slice(0, 50).map(({ viewer }) => viewer),
    Array.from({ length: 50 }, () => byNext.next()),
  );
});

test("viewers click as often as the true probabilities say, and the same view gives the same actions", () => {
  const world = createWorld({ seed: 11, startMs, rooms: 200, viewers: 100 });
  const open = Array.from(world.rooms.live.keys()).filter((slot) => world.rooms.live[slot] === 1);
  let clicks = 0;
  let expected = 0;
  let variance = 0;
  for (let view = 0; view < 4_000; view += 1) {
    const viewer = view % 100;
    const atMs = startMs + view * 1_000;
    const shown = Array.from({ length: 10 }, (_, position) => ({ id: world.rooms.idOf(open[(view * 31 + position * 17) % open.length]!), position }));
    const seen = world.act(viewer, shown, atMs, "r");
    clicks += seen.clicked.length;
    expected += seen.expectedClicks;
    for (const { id, position } of shown) {
      const p = world.clickProbability(viewer, world.rooms.slotOf(id)!, position, atMs);
      variance += p * (1 - p);
    }
    if (view % 400 === 0) assert.deepEqual(world.act(viewer, shown, atMs, "r"), seen);
    const clickedIds = new Set(seen.events.filter(({ type }) => type === "click").map(({ item }) => item));
    assert.equal(clickedIds.size, seen.clicked.length);
    for (const event of seen.events) {
      assert.ok(clickedIds.has(event.item), "only what was clicked is liked and watched");
      assert.ok(event.ts! > atMs && event.ts! < atMs + 700_000);
      assert.equal(event.recommendationId, "r");
    }
  }
  assert.ok(expected > 200, `${expected} expected`);
  assert.ok(Math.abs(clicks - expected) < 4 * Math.sqrt(variance), `${clicks} clicks, ${expected} expected`);
});

test("the click model is the documented sum", () => {
  const world = createWorld(small);
  const slot = world.rooms.live.indexOf(1);
  const at = startMs + 60_000;
  const logit =
    parameter.bias +
    world.rooms.quality[slot]! +
    parameter.tasteWeight * world.affinity(4, slot) +
    world.topics.timeEffect(world.rooms.topic[slot]!, at) +
    world.news.interest(4, world.rooms.topic[slot]!, at) +
    parameter.freshBonus * Math.exp(-(at - world.rooms.freshSinceMs[slot]!) / parameter.freshDecayMs) -
    (world.tastes.speaks(4, world.rooms.language[slot]!) ? 0 : parameter.languageMismatch) -
    parameter.positionSlope * Math.log(4);
  assert.ok(Math.abs(world.clickProbability(4, slot, 3, at) - logistic(logit)) < 1e-12);
  const closed = world.rooms.live.indexOf(0);
  assert.equal(world.clickProbability(4, closed, 0, at), 0);
});

test("personalisation matters: the oracle is several times the best non-personal list, and that several times random", () => {
  const figures: string[] = [];
  for (const seed of [1, 2, 3]) {
    const world = createWorld({ seed, startMs });
    const yardstick = new Yardstick(world);
    const hours = 6;
    const viewersAnHour = 20;
    const n = 10;
    let random = 0;
    let popular = 0;
    let oracle = 0;
    for (let hour = 0; hour < hours; hour += 1) {
      const at = startMs + hour * hourMs;
      world.skipTo(at);
      const shown = hours * viewersAnHour * n;
      for (let i = 0; i < viewersAnHour; i += 1) {
        const viewer = world.draws.weighted(world.visits.comingAt(at), 999, hour, i);
        random += yardstick.randomClicks(viewer, n, at) / shown;
        popular += yardstick.expectedClicks(viewer, yardstick.popular(n, at), at) / shown;
        oracle += yardstick.expectedClicks(viewer, yardstick.oracle(viewer, n, at), at) / shown;
      }
    }
    figures.push(`seed ${seed}: random ${random.toFixed(4)}, popular ${popular.toFixed(4)}, oracle ${oracle.toFixed(4)}`);
    assert.ok(random > 0.008 && random < 0.04, figures.at(-1));
    assert.ok(popular > 2.5 * random && popular < 0.15, figures.at(-1));
    assert.ok(oracle > 2.5 * popular && oracle > 0.25, figures.at(-1));
  }
});

test("the oracle's list is the one with the highest probabilities", () => {
  const world = createWorld(small);
  const oracle = new Yardstick(world).oracle(9, 12, startMs);
  const all = Array.from({ length: world.rooms.slots }, (_, slot) => slot)
    .filter((slot) => world.rooms.live[slot] === 1)
    .sort((a, b) => world.clickProbability(9, b, 0, startMs) - world.clickProbability(9, a, 0, startMs));
  assert.deepEqual(oracle, all.slice(0, 12));
});

test("tastes drift with time, jump at a shift, and stand still without drift", () => {
  const kept = (world: ReturnType<typeof createWorld>, before: Float64Array): number => {
    const { vectors, viewers } = world.tastes;
    let sum = 0;
    for (let i = 0; i < vectors.length; i += 1) sum += vectors[i]! * before[i]!;
    return sum / viewers;
  };
  const drifting = createWorld({ ...small, viewers: 400 });
  const start = drifting.tastes.vectors.slice();
  drifting.advance(startMs + hourMs);
  const afterHour = kept(drifting, start);
  drifting.advance(startMs + 6 * hourMs);
  const afterSix = kept(drifting, start);
  assert.ok(afterHour > 0.6 && afterHour < 0.97, `${afterHour}`);
  assert.ok(afterSix < afterHour - 0.1, `${afterSix} after six hours`);

  const still = createWorld({ ...small, drift: false, churn: false });
  const checksum = worldChecksum(still);
  const p = still.clickProbability(1, 1, 0, startMs);
  assert.deepEqual(still.advance(startMs + 24 * hourMs), []);
  assert.equal(worldChecksum(still), checksum);
  assert.equal(still.clickProbability(1, 1, 0, still.nowMs), p);

  const shifted = createWorld({ ...small, viewers: 400, drift: false, shifts: [{ atMs: startMs + hourMs, share: 0.5 }] });
  const before = shifted.tastes.vectors.slice();
  shifted.advance(startMs + hourMs - 1);
  assert.deepEqual(shifted.tastes.vectors, before);
  shifted.advance(startMs + hourMs);
  const share = kept(shifted, before);
  assert.ok(share > 0.4 && share < 0.85, `${share} after half of the viewers changed`);
});

test("cards: titles in the room's language, varied, and art that a page can draw", () => {
  const { rooms } = createWorld({ seed: 2, startMs, viewers: 5 });
  const titles = new Set<string>();
  let chinese = 0;
  for (let slot = 0; slot < 2_000; slot += 1) {
    const { title, attributes, tags } = rooms.row(slot);
    titles.add(title!);
    assert.ok(title!.length > 2 && !title!.includes("{}") && !title!.includes("undefined"), title);
    assert.equal(/[\u4e00-\u9fff]/.test(title!), attributes!["language"] === "zh", title);
    if (attributes!["language"] === "zh") chinese += 1;
    assert.match(String(attributes!["art"]), /^\d{1,3} \d{1,3} [a-z]+ \d{1,5}$/);
    assert.equal(tags!.length, 3);
  }
  assert.ok(chinese > 200);
  assert.ok(titles.size > 1_200, `${titles.size} titles in 2,000 rooms`);
});

test("bad options are refused with advice", () => {
  assert.throws(() => createWorld({ ...small, topics: 13 }), /\[invalid\] demo world: topics is 13: give a multiple of 12/);
  assert.throws(() => createWorld({ ...small, rooms: 0 }), /rooms is 0/);
  assert.throws(() => createWorld({ ...small, seed: 0.5 }), /seed is 0.5/);
});
