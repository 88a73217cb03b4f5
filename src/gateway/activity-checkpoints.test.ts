// Guards that kept aggregations are the same as counted ones: a state that was loaded from tables and went on behind them answers exactly as one that counted every
// record of the log without a stop, whatever crashed when.
// SEED=n replays one seed. MILLRACE_LONG=1 runs ten times as many.

import assert from "node:assert/strict";
import { test } from "node:test";
import type { Durability, Log, LogWriter } from "#backbone/log";
import { createMemoryRegistry, type MemoryRegistry } from "#backbone/memory-registry";
import { MillraceError } from "#base/errors";
import { Prng } from "#base/prng";
import { type ActivityRecord, decodeRecord, RecordWriter, type ServedRecord } from "#features/activity-record";
import { registerSchemas } from "#features/tables/schema-registry";
import { openTables } from "#features/tables/tables";
import { KeyBatch } from "#kernel/key-batch";
import { EffectBatch } from "#lsm/effect-batch";
import { openOn, testPool } from "#lsm/store-world.contract";
import type { Store } from "#lsm/store";
import type { Clock } from "#platform/clock";
import { type SimulatedNode, Simulation } from "#platform/simulation";
import { ActivityCheckpoints } from "./activity-checkpoints.ts";
import { ActivityState, type ActivityStateOptions } from "./activity-state.ts";
import { aggregationsOf, type CheckpointConfig, defaultConfig, type GatewayConfig, responseOptionsOf } from "./config.ts";
import { activityPartition } from "./index.ts";
import { rebuild } from "./rebuild.ts";

// Small limits, so that lists overflow, tables are cut, generations of ids end.
const config: GatewayConfig = {
  ...defaultConfig,
  listItems: 100,
  history: { items: 8, halfLifeDays: 0.1 },
  done: { items: 8 },
  together: { ...defaultConfig.together, neighbours: 8, pairsPerEvent: 8, halfLifeDays: 0.02 },
  responses: { ...defaultConfig.responses, userValues: 8, userItems: 8 },
  limits: { exposuresPerUser: 8, servedAnswers: 16, eventIdsPerGeneration: 60 },
};
type State = ActivityState<ReturnType<typeof aggregationsOf>>;

const startMs = 1_700_000_000_000;
const freshItems = 12;
const itemCount = 60;
const userCount = 7;

function newState(declared = config): State {
  const options: ActivityStateOptions<ReturnType<typeof aggregationsOf>> = {
    eventTypes: Object.keys(declared.eventTypes),
    aggregations: aggregationsOf(declared),
    responses: responseOptionsOf(declared),
    clickTypes: declared.responses.clickTypes,
    facets: declared.responses.facets,
    incarnation: "t",
    ...declared.limits,
    freshItems,
  };
  return new ActivityState(options);
}

/** A record of something that may happen next. */
function randomRecord(random: Prng, sequence: number): ActivityRecord {
  const atMs = startMs + sequence * 20_000 - random.below(600_000);
  const id = `item-${random.below(itemCount)}`;
  const user = `user-${random.below(userCount)}`;
  const body = () => ({
    ...(random.chance(0.8) ? { category: random.pick(["news", "music", "games"]) } : {}),
    ...(random.chance(0.5) ? { state: random.pick(["a", "b"]) } : {}),
    ...(random.chance(0.5) ? { attributes: { language: random.pick(["de", "en"]), n: random.below(5) } } : {}),
    ...(random.chance(0.2) ? { available: false } : {}),
    ...(random.chance(0.3) ? { createdAt: startMs + random.below(1_000_000) } : {}),
    ...(random.chance(0.2) ? { title: "Ein schöner Abend \u{1f389}" } : {}),
  });
  const kind = random.below(100);
  if (kind < 62) {
    return {
      kind: "event",
      atMs,
      receivedMs: atMs,
      type: random.pick(["impression", "click", "click", "watch", "purchase"]),
      user,
      item: id,
      id: random.chance(0.7) ? `e-${sequence}` : "",
      recommendationId: random.chance(0.5) ? `r-t-${Math.max(0, sequence - random.below(30)).toString(36)}` : "",
      position: -1,
      value: Number.NaN,
      context: "",
    };
  }
  if (kind < 78) return servedRecord(random, sequence);
  if (kind < 88) return { kind: "itemPut", atMs, id, body: body() };
  if (kind < 91) return { kind: "itemPatch", atMs, id, body: body() };
  if (kind < 94) return { kind: "itemDelete", atMs, id };
  if (kind < 97) return { kind: "userPut", atMs, id: user, body: { attributes: { age: random.below(90) } } };
  if (kind < 98) return { kind: "userPatch", atMs, id: user, body: { attributes: { town: "Köln" } } };
  return { kind: "userDelete", atMs, id: user };
}

function servedRecord(random: Prng, sequence: number): ServedRecord {
  const items = Array.from({ length: random.between(1, 6) }, () => `item-${random.below(itemCount)}`);
  return {
    kind: "served",
    atMs: startMs + sequence * 20_000,
    recommendationId: `r-t-${sequence.toString(36)}`,
    pipeline: "home",
    user: `user-${random.below(userCount)}`,
    items: [...new Set(items)],
  };
}

/** Everything that can be asked of a state. */
function answersOf(state: State, sequence: number): unknown {
  const { catalog, features, exposures, responses, served, dedupe } = state;
  const { stores } = features;
  const nowMs = startMs + sequence * 20_000 + 1_000;
  const items = Array.from({ length: catalog.items.size }, (_, item) => item);
  const users = Array.from({ length: catalog.users.size }, (_, user) => user);
  const handles = Uint32Array.from(items);
  const recent = (view: ReturnType<typeof exposures.of>): unknown =>
    view === undefined ? undefined : [view.items, view.times, view.tags].map((column) => [...column.subarray(view.from, view.to)]);
  const history = (view: ReturnType<typeof stores.history.of>): unknown =>
    view === undefined ? undefined : [view.items, view.times, view.counts, view.decayed].map((column) => [...column.subarray(view.from, view.to)]);
  return {
    position: state.position,
    counters: [state.events, state.newestEventMs, catalog.itemCount, catalog.availableCount, catalog.userCount, dedupe.size, dedupe.generation],
    items: items.map((item) => {
      const view = stores.together.of(item, nowMs);
      return [
        catalog.items.id(item),
        catalog.itemRow(item),
        catalog.available(item),
        catalog.category.get(item),
        catalog.stateVersion.get(item),
        responses.facets.profile(item),
        stores.popularity.at(item, nowMs),
        stores.trend.at(item, nowMs),
        stores.togetherNorm.at(item, nowMs),
        view === undefined ? undefined : [[...view.neighbours.subarray(view.from, view.to)], held(view), view.factor],
      ];
    }),
    users: users.map((user) => {
      const id = catalog.users.id(user);
      responses.begin(user, nowMs);
      const signals = { counting: column(items), rate: column(items), affinity: column(items), again: column(items), unproven: column(items) };
      responses.describe(handles, items.length, signals);
      const guesses = column(items);
      responses.guess(handles, items.length, 1, 1, guesses);
      const [values, logs] = [new Uint32Array(64), new Float32Array(64)];
      const liked = responses.likings(values, logs);
      return [
        id,
        catalog.getUser(id),
        recent(stores.recent.of(user)),
        recent(exposures.of(user)),
        history(stores.history.of(user)),
        history(stores.done.of(user)),
        signals,
        guesses,
        [...values.subarray(0, liked)].map((value) => responses.facets.valueText(value)),
        logs.subarray(0, liked),
      ];
    }),
    lists: [catalog.fresh, stores.popularity.top!, stores.trend.top!].map((list) => [...list.handles, list.wantsRefill]),
    categories: Array.from({ length: catalog.categories.size }, (_, category) => catalog.categories.id(category)),
    facets: [responses.facets.valueCount, responses.facets.profileCount, responses.facets.itemCount],
    served: Array.from({ length: 40 }, (_, back) => served.find(`r-t-${Math.max(0, sequence - back).toString(36)}`)),
    ids: Array.from({ length: 150 }, (_, back) => dedupe.has(`e-${sequence - back}`)),
  };
}

function column(items: readonly number[]): Float32Array {
  return new Float32Array(items.length);
}

/** Weights of the slots that are taken; others may hold anything. */
function held({ neighbours, weights, from, to }: { neighbours: Uint32Array; weights: Float32Array; from: number; to: number }): number[] {
  const found: number[] = [];
  for (let at = from; at < to; at += 1) if (neighbours[at] !== 0) found.push(weights[at]!);
  return found;
}

interface Opened {
  readonly store: Store;
  readonly log: Log;
  readonly writer: LogWriter;
  readonly state: State;
  readonly checkpoints: ActivityCheckpoints<ReturnType<typeof aggregationsOf>>;
  readonly rows: number;
  readonly replayed: number;
  readonly warnings: readonly string[];
}

interface OpenOptions {
  readonly declared?: GatewayConfig;
  readonly pace?: CheckpointConfig;
  readonly chunkBytes?: number;
}

const often: CheckpointConfig = { everySeconds: 0.1, everyRecords: 1, kibPerSecond: 1_000_000 };

async function open(node: SimulatedNode, registry: MemoryRegistry, durability: Durability, options: OpenOptions = {}): Promise<Opened> {
  const { declared = config, pace = often, chunkBytes } = options;
  const { store, log } = await openOn(node, registry, { durability });
  // First, as the gateway does: where the log ends is for its writer to say, once the one before it has fallen.
  const writer = await log.openWriter(activityPartition);
  const connected = registry.connect({ clock: node.clock, alive: () => node.alive });
  const state = newState(declared);
  const schemas = await registerSchemas(connected, state.tables.config);
  const warnings: string[] = [];
  const warn = (message: string): void => void warnings.push(message);
  const checkpoints = new ActivityCheckpoints({
    place: { store, schemas },
    state,
    clock: hastyClock(node.clock),
    config: pace,
    warn,
    ...(chunkBytes === undefined ? {} : { chunkBytes }),
  });
  const rows = await checkpoints
    .restore(log, activityPartition, () => undefined)
    .catch(async (thrown: unknown) => {
      await writer.close();
      await store.close();
      await log.close();
      throw thrown;
    });
  const replayed = await rebuild(state, log, activityPartition, node.clock, () => undefined);
  return { store, log, writer, state, checkpoints, rows, replayed, warnings };
}

/** In a simulation work takes no time, so no slice would ever end: here each look at the clock takes a tenth of a millisecond. */
function hastyClock(clock: Clock): Clock {
  let looks = 0;
  return {
    nowMs: () => clock.nowMs(),
    monotonicMs: () => clock.monotonicMs() + ++looks / 10,
    after: (delayMs, run, options) => clock.after(delayMs, run, options),
    sleep: (delayMs, signal) => clock.sleep(delayMs, signal),
    yield: () => clock.yield(),
  };
}

async function recordsOf(log: Log): Promise<ActivityRecord[]> {
  const records: ActivityRecord[] = [];
  for (;;) {
    const read = await log.read(activityPartition, records.length, 1 << 20);
    if (read === undefined) return records;
    records.push(...read.records.map((bytes) => decodeRecord(bytes)));
  }
}

interface Counts {
  checkpoints: number;
  loaded: number;
  replayed: number;
  staged: number;
  ahead: number;
  /** Lives that ended while a checkpoint was made, as far as their last turn knew. */
  during: number;
}

/** Several lives of a node, each cut off; after each the state must be that of a model that counted the same records without a stop. */
async function survive(seed: number, how: "kill" | "power", durability: Durability, chunkBytes: number | undefined, counts: Counts): Promise<void> {
  const simulation = new Simulation({ seed });
  const { random } = simulation;
  const lives = 3;
  await simulation.run(async () => {
    const registry = createMemoryRegistry({ clock: simulation.clock });
    /** Answers that went into the state and that the log may have lost, behind which record they did. */
    let unlogged: { readonly record: ServedRecord; readonly position: number }[] = [];
    let sequence = 1;
    for (let life = 0; life <= lives; life += 1) {
      const node = simulation.node("a");
      let ending = false;
      let running = false;
      const ended = node.run(async () => {
        const { log, writer, state, checkpoints, rows, replayed, warnings } = await open(
          node,
          registry,
          durability,
          chunkBytes === undefined ? {} : { chunkBytes },
        );
        // A checkpoint never holds more than the log: else this would say that it had to be counted again.
        assert.deepEqual(warnings, []);
        counts.loaded += rows;
        counts.replayed += replayed;
        const logged = await recordsOf(log);
        const next = logged.length;
        const ids = new Set(logged.map((record) => (record.kind === "served" ? record.recommendationId : "")));
        unlogged = unlogged.filter(({ record }) => !ids.has(record.recommendationId));
        const models = unlogged.length === 0 ? [[]] : [[], unlogged, unlogged.slice(0, -1)];
        const compared = models.map((lost) => {
          const model = newState();
          for (let offset = 0; offset <= next; offset += 1) {
            for (const { record, position } of lost) if (position === offset) model.apply(record);
            if (offset < next) model.apply(logged[offset]!);
          }
          model.position = next;
          return { lost, answers: answersOf(model, sequence) };
        });
        const answers = answersOf(state, sequence);
        const what = `seed ${seed}, life ${life}: ${rows} rows loaded, ${replayed} of ${next} records counted again`;
        // An answer is in the state before it is in the log: a checkpoint may hold one that the log lost.
        const same = compared.find((model) => JSON.stringify(model.answers) === JSON.stringify(answers)) ?? compared[0]!;
        assert.deepEqual(answers, same.answers, what);
        unlogged = same.lost;
        if (life === lives) {
          assert.equal(checkpoints.checkpointer, undefined);
          return;
        }
        checkpoints.start(writer);
        const encode = (record: ActivityRecord): Uint8Array => new RecordWriter().encode(record);
        ending = true;
        for (;;) {
          if (random.chance(0.1)) {
            const record = servedRecord(random, sequence++);
            state.ahead.add(record.recommendationId);
            counts.ahead += 1;
            state.apply(record);
            unlogged.push({ record, position: state.position });
            await node.clock.sleep(random.between(0, 20));
            const { nextOffset } = await writer.append([encode(record)]);
            state.ahead.delete(record.recommendationId);
            state.position = nextOffset;
          }
          const records = Array.from({ length: random.between(1, 12) }, () => randomRecord(random, sequence++));
          const { firstOffset } = await writer.append(records.map(encode));
          for (const [index, record] of records.entries()) {
            state.apply(record);
            state.position = firstOffset + index + 1;
            if (random.chance(0.2)) await node.clock.yield();
          }
          const { checkpointer } = checkpoints;
          if (random.chance(0.3)) void checkpointer!.run().catch(() => undefined);
          if (random.chance(0.3)) await node.clock.sleep(random.between(0, 60));
          const made = checkpointer!.state;
          running = made.running;
          assert.equal(made.trouble, undefined, String(made.trouble?.stack));
          counts.checkpoints = Math.max(counts.checkpoints, made.number);
          if (chunkBytes !== undefined && made.lastBytes > chunkBytes) counts.staged += 1;
        }
      });
      if (life < lives) simulation.clock.after(random.between(20, 1_200), () => node.crash(how));
      const outcome = await ended;
      if (life === lives) assert.equal(outcome.crashed, false);
      else assert.ok(ending || outcome.crashed);
      counts.during += Number(running);
      testPool.releaseAll();
    }
    await registry.close();
  });
}

const seeds = process.env["SEED"] === undefined ? undefined : [Number(process.env["SEED"])];
const runs = process.env["MILLRACE_LONG"] === undefined ? 3 : 40;

for (const [how, durability, chunkBytes] of [
  ["kill", "interval", undefined],
  ["power", "always", 2_048],
  ["power", "interval", 4_096],
] as const) {
  const form = chunkBytes === undefined ? "one transaction" : "by chunks";
  test(`promise: kept aggregations are those of the log, each record counted once (${how}, ${durability}, ${form})`, async (t) => {
    const counts: Counts = { checkpoints: 0, loaded: 0, replayed: 0, staged: 0, ahead: 0, during: 0 };
    for (const seed of seeds ?? Array.from({ length: runs }, (_, at) => 100 + at)) await survive(seed, how, durability, chunkBytes, counts);
    t.diagnostic(JSON.stringify(counts));
    if (seeds !== undefined) return;
    for (const what of ["checkpoints", "loaded", "replayed", "ahead", "during"] as const) assert.ok(counts[what] > 0, `no ${what} in all runs`);
    assert.equal(counts.staged > 0, chunkBytes !== undefined);
  });
}

/** One machine that does not crash; `body` gets it with a log of `records`. */
async function onMachine(records: readonly ActivityRecord[], body: (node: SimulatedNode, registry: MemoryRegistry) => Promise<void>): Promise<void> {
  const simulation = new Simulation({ seed: 5 });
  await simulation.run(async () => {
    const registry = createMemoryRegistry({ clock: simulation.clock });
    const node = simulation.node("a");
    await node.run(async () => {
      const opened = await open(node, registry, "always");
      const { writer } = opened;
      for (const [index, record] of records.entries()) {
        await writer.append([new RecordWriter().encode(record)]);
        opened.state.apply(record);
        opened.state.position = index + 1;
      }
      opened.checkpoints.start(writer);
      await stopped(opened);
      await body(node, registry);
    });
    await registry.close();
  });
  testPool.releaseAll();
}

async function stopped({ checkpoints, store, log, writer }: Opened): Promise<void> {
  await checkpoints.checkpointer?.stop(true);
  await writer.close();
  await store.close();
  await log.close();
}

const fewRecords = ((random: Prng) => Array.from({ length: 80 }, (_, at) => randomRecord(random, at + 1)))(new Prng(3));

test("a stop leaves nothing to be counted again", () =>
  onMachine(fewRecords, async (node, registry) => {
    const opened = await open(node, registry, "always");
    assert.equal(opened.replayed, 0);
    assert.ok(opened.rows > 50);
    assert.deepEqual(answersOf(opened.state, 80), answersOf(counted(fewRecords), 80));
    await stopped(opened);
  }));

test("promise: aggregations that are declared otherwise are counted again from the log, and say so", () =>
  onMachine(fewRecords, async (node, registry) => {
    const declared: GatewayConfig = { ...config, trendHalfLifeHours: 3 };
    const opened = await open(node, registry, "always", { declared });
    assert.match(opened.warnings.join(), /declared otherwise than those that were kept: \d+ rows are cleared, everything is counted again/);
    assert.equal(opened.replayed, 80);
    assert.deepEqual(answersOf(opened.state, 80), answersOf(counted(fewRecords, declared), 80));
    opened.checkpoints.start(opened.writer);
    await stopped(opened);
    const again = await open(node, registry, "always", { declared });
    assert.deepEqual([again.replayed, again.warnings], [0, []]);
    assert.deepEqual(answersOf(again.state, 80), answersOf(counted(fewRecords, declared), 80));
    await stopped(again);
  }));

test("promise: what was trimmed from the log is never lost in silence", async () => {
  const simulation = new Simulation({ seed: 6 });
  await simulation.run(async () => {
    const registry = createMemoryRegistry({ clock: simulation.clock });
    const node = simulation.node("a");
    await node.run(async () => {
      const opened = await open(node, registry, "always");
      const { writer } = opened;
      const many = Array.from({ length: 3_000 }, (_, at) => randomRecord(simulation.random, at + 1));
      for (let at = 0; at < many.length; at += 100) await writer.append(many.slice(at, at + 100).map((record) => new RecordWriter().encode(record)));
      for (const record of many) opened.state.apply(record);
      opened.state.position = many.length;
      opened.checkpoints.start(writer);
      await opened.checkpoints.checkpointer!.run();
      await writer.trim(many.length);
      const { first } = writer.bounds;
      assert.ok(first > 0, "nothing was trimmed, so nothing is tested");
      await stopped(opened);

      const declared: GatewayConfig = { ...config, trendHalfLifeHours: 3 };
      await assert.rejects(open(node, registry, "always", { declared }), (thrown: unknown) => {
        assert.ok(thrown instanceof MillraceError && thrown.code === "invalid");
        assert.match(thrown.message, new RegExp(`declared otherwise .*the first ${first} records of the activity log were trimmed.*acceptLoss`));
        return true;
      });
    });
    const second = simulation.node("a");
    await second.run(async () => {
      // With the old declaration everything is there.
      const opened = await open(second, registry, "always");
      assert.deepEqual([opened.replayed, opened.warnings], [0, []]);
      await stopped(opened);
      const declared: GatewayConfig = { ...config, trendHalfLifeHours: 3 };
      const accepted = await open(second, registry, "always", { declared, pace: { ...often, acceptLoss: true } });
      assert.match(accepted.warnings[0]!, /were trimmed and cannot be counted again/);
      assert.equal(accepted.state.position, 3_000);
      assert.ok(accepted.replayed > 0 && accepted.replayed < 3_000);
      await stopped(accepted);
    });
    await registry.close();
  });
  testPool.releaseAll();
});

test("a damaged checkpoint is cleared, and the next start counts everything again", () =>
  onMachine(fewRecords, async (node, registry) => {
    const { store, log } = await openOn(node, registry, { durability: "always" });
    const schemas = await registerSchemas(registry.connect({ clock: node.clock, alive: () => true }), newState().tables.config);
    const effects = new EffectBatch();
    effects.delete(schemas.get("activity.items")!.namespace, new TextEncoder().encode(counted(fewRecords).catalog.items.id(0)), node.clock.nowMs());
    await store.durable(store.write(effects));
    await store.close();
    await log.close();
    await assert.rejects(open(node, registry, "always"), { code: "corrupt" });
    const opened = await open(node, registry, "always");
    assert.deepEqual([opened.rows, opened.replayed], [0, 80]);
    assert.deepEqual(answersOf(opened.state, 80), answersOf(counted(fewRecords), 80));
    await stopped(opened);
  }));

test("users read the aggregations as tables, and cannot write them", () =>
  onMachine(fewRecords, async (node, registry) => {
    const { store, log } = await openOn(node, registry, { durability: "always" });
    const connected = registry.connect({ clock: node.clock, alive: () => true });
    const ownConfig = newState().tables.config;
    const tables = await openTables({ registry: connected, store, clock: node.clock, config: {}, ownConfig });
    assert.deepEqual(tables.namespaces, [], "no tombstone is kept for them");
    const table = tables.required("activity.items");
    const model = counted(fewRecords);
    const name = model.catalog.items.id(0);
    const keys = KeyBatch.of([]);
    table.addKey(keys, new TextEncoder().encode(name));
    const { rows } = await table.look(keys, table.schema.columns);
    const cells = Object.fromEntries(table.schema.columns.map((column, at) => [column.name, rows[0]!.cells[at]!.value]));
    const { popularity } = model.features.stores;
    const atMs = cells["popularity_at"] as number | undefined;
    assert.equal(cells["popularity"] ?? 0, atMs === undefined ? 0 : popularity.at(0, atMs));
    assert.equal(cells["created_at"], model.catalog.createdAt.get(0));
    assert.equal(cells["handle"], 0, "the first item is told from one without a handle");
    const write = { key: new TextEncoder().encode(name), cells: [{ column: table.schema.required("popularity"), value: 1 }] };
    assert.throws(() => table.write([write]), { code: "invalid", message: /takes no writes/ });
    assert.throws(() => table.delete(keys), { code: "invalid", message: /takes no writes/ });
    tables.close();
    await store.close();
    await log.close();
  }));

function counted(records: readonly ActivityRecord[], declared = config): State {
  const state = newState(declared);
  for (const record of records) state.apply(record);
  state.position = records.length;
  return state;
}
