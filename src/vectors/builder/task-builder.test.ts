// Guards tasks among several builders: each build once, nothing asked for is lost when a builder is killed, what is told and changed is checked and kept, going live and back.
// Builds themselves are played here: what they make is guarded by build-version.test.ts.

import assert from "node:assert/strict";
import { test } from "node:test";
import { createMemoryRegistry, type MemoryRegistry } from "#backbone/memory-registry";
import { openFolderBlobs } from "#backbone/folder-blobs";
import { MillraceError } from "#base/errors";
import { Prng } from "#base/prng";
import type { Clock } from "#platform/clock";
import type { Files } from "#platform/files";
import { Simulation } from "#platform/simulation";
import { SnapshotStore } from "#snapshot/snapshot-store";
import type { VectorTaskConfig } from "#wire/vector-task-config";
import { TaskBoard } from "./task-board.ts";
import { type TaskAlarm, TaskBuilder, type TaskBuilt, type TaskToBuild } from "./task-builder.ts";
import { TaskControl } from "./task-control.ts";
import { decodeTask, encodeTask, largestTaskBytes, type TaskState, withChanged, withCreated } from "./task-state.ts";
import { putCollection } from "../collection/collection-record.ts";
import { exhaustiveSettings } from "../segment/search-settings.ts";

const config = (more: Partial<VectorTaskConfig> = {}): VectorTaskConfig => ({ source: { npy: "/data/items.npy" }, ...more });

interface World {
  readonly files: Files;
  readonly clock: Clock;
  readonly registry: MemoryRegistry;
  readonly control: TaskControl;
  readonly snapshots: SnapshotStore;
  readonly alarms: TaskAlarm[];
  /** Builds that began, in order. */
  readonly begun: { builder: string; task: TaskToBuild }[];
  /** How long a build takes, and what it throws. */
  play: { ms: number; fails?: MillraceError; refused?: readonly string[] };
  start(name: string, more?: { slots?: number; leaseMs?: number }): TaskBuilder;
  /** Takes a builder's lease away and lets it do nothing any more, as kill -9 does. */
  kill(builder: TaskBuilder): void;
  sleep(ms: number): Promise<void>;
}

async function within(body: (world: World) => Promise<void>): Promise<void> {
  const simulation = new Simulation({ seed: Number(process.env["SEED"] ?? 7) });
  await simulation.run(async () => {
    const { clock, files } = simulation.node("home");
    const registry = createMemoryRegistry({ clock });
    const blobs = openFolderBlobs({ files, folder: "/blobs", processes: { self: "one", isGone: () => false } });
    const snapshots = new SnapshotStore({ blobs, registry, clock, random: new Prng(3), kind: "vectors" });
    const control = new TaskControl({ registry, snapshots, clock });
    const alarms: TaskAlarm[] = [];
    const begun: World["begun"] = [];
    const running: { builder: TaskBuilder; done: Promise<void>; killed: boolean }[] = [];
    const world: World = {
      files,
      clock,
      registry,
      control,
      snapshots,
      alarms,
      begun,
      play: { ms: 1_000 },
      start(name, more = {}) {
        const one = { killed: false };
        // Its leases end with it, and whatever it still does is heard by nobody.
        const face = registry.connect({ clock, alive: () => !one.killed });
        const hung = new Proxy(face, {
          get: (target, key: keyof MemoryRegistry) => {
            const value = target[key];
            return typeof value !== "function"
              ? value
              : (...args: unknown[]) => (one.killed ? new Promise(() => undefined) : (value as (...given: unknown[]) => unknown).apply(target, args));
          },
        });
        const builder = new TaskBuilder({
          board: new TaskBoard(hung),
          clock,
          files,
          builder: name,
          ...more,
          onAlarm: (alarm) => alarms.push(alarm),
          async build(task, onProgress, signal): Promise<TaskBuilt> {
            begun.push({ builder: name, task });
            const { ms, fails, refused } = world.play;
            onProgress({ stage: "index", rows: 100, share: 0.5 });
            await clock.sleep(ms, signal);
            if (fails !== undefined) throw fails;
            const build = await snapshots.begin(task.config.collection ?? task.task);
            await build.put("rows", new Uint8Array(10));
            const statistics = { rows: 100, recall: 0.995, latencyP50Ms: 0.2, latencyP99Ms: 0.5, lists: 7 };
            await build.publish({ statistics, meta: null }, { live: task.config.live ?? true, validate: () => refused ?? [] }).catch(() => undefined);
            return {
              version: build.version,
              outcome: refused === undefined ? (task.config.live === false ? "staged" : "live") : "refused",
              reasons: refused ?? [],
              settings: exhaustiveSettings,
              rows: 100,
              bytes: 10,
              refused: 0,
              replaced: 0,
              statistics,
              stages: {
                read: { ms: 1, cpuMs: 1 },
                index: { ms: 1, cpuMs: 1 },
                tune: { ms: 1, cpuMs: 1 },
                validate: { ms: 1, cpuMs: 1 },
                publish: { ms: 1, cpuMs: 1 },
              },
              cpuMs: 5,
              rssBytesPeak: 1,
            };
          },
        });
        running.push(Object.assign(one, { builder, done: builder.run() }));
        return builder;
      },
      kill(builder) {
        running.find((one) => one.builder === builder)!.killed = true;
      },
      sleep: (ms) => clock.sleep(ms),
    };
    await body(world);
    for (const { builder, done, killed } of running) {
      builder.stop();
      if (!killed) await done;
    }
    await registry.close();
  });
}

const refusal = (code: string, words: RegExp) => (thrown: unknown) => {
  assert.ok(thrown instanceof MillraceError, String(thrown));
  assert.equal(thrown.code, code);
  assert.match(thrown.message, words);
  return true;
};

test("promise: the place in the log is that of the first attempt until the build has ended", () =>
  within(async (world) => {
    const { board } = world.control;
    await world.control.create("items", config(), "anna");
    const first = world.start("first");
    await world.control.run("items", "anna");
    await world.sleep(500);
    assert.deepEqual(await board.firstDelta("items", { log: 1, offset: 5 }), { log: 1, offset: 5 });
    world.kill(first);
    world.start("second");
    for (let waited = 0; world.begun.length < 2 && waited < 60_000; waited += 100) await world.sleep(100);
    assert.deepEqual(await board.firstDelta("items", { log: 1, offset: 9 }), { log: 1, offset: 5 }, "the second attempt");
    for (let waited = 0; (await board.history("items")).builds.length === 0 && waited < 60_000; waited += 100) await world.sleep(100);
    assert.equal((await board.history("items")).delta, undefined);
    // Where no attempt is counted nothing is kept.
    await board.firstDelta("items", { log: 1, offset: 11 });
    assert.equal((await board.history("items")).delta, undefined);
  }));

test("promise: several builders share the tasks, each asked build runs once, and its figures stand in the history", () =>
  within(async (world) => {
    const { control } = world;
    for (let i = 0; i < 12; i++) await control.create(`task-${i}`, config(), "anna");
    for (const name of ["b1", "b2", "b3"]) world.start(name);
    for (let i = 0; i < 12; i++) await control.run(`task-${i}`, "anna");
    await world.sleep(800);
    const during = await control.list();
    assert.equal(during.builders.length, 3);
    assert.equal(during.tasks.filter(({ running }) => running !== null).length, 3);
    assert.deepEqual(during.tasks.find(({ running }) => running !== null)?.running?.stage, "index");
    await world.sleep(8_000);
    assert.equal(world.begun.length, 12);
    assert.equal(new Set(world.begun.map(({ task }) => task.task)).size, 12);
    assert.equal(new Set(world.begun.map(({ builder }) => builder)).size, 3, "every builder had some");
    for (const { name, last, live, asked, running } of (await control.list()).tasks) {
      assert.equal(last?.verdict, "live", `${name}: ${JSON.stringify(last)}`);
      assert.deepEqual([last.rows, last.recall, last.settings?.["lists"], asked, running], [100, 0.995, 7, false, null]);
      assert.equal(live, last.version);
    }
  }));

test("promise: what a killed builder was asked for is built by another one", () =>
  within(async (world) => {
    await world.control.create("items", config(), "anna");
    world.play = { ms: 30_000 };
    const first = world.start("first", { leaseMs: 2_000 });
    await world.control.run("items", "anna");
    await world.sleep(1_000);
    assert.deepEqual(
      world.begun.map(({ builder }) => builder),
      ["first"],
    );
    world.kill(first);
    world.play = { ms: 500 };
    world.start("second", { leaseMs: 2_000 });
    await world.sleep(60_000);
    const detail = await world.control.detail("items");
    assert.equal(detail.history.length, 1);
    assert.deepEqual([detail.history[0]?.builder, detail.history[0]?.verdict, detail.asked], ["second", "live", false]);
  }));

test("a schedule, a webhook and a marker file begin builds; a disabled task is built only by hand", () =>
  within(async (world) => {
    const { control, files } = world;
    await control.create("timed", config({ schedule: { everySeconds: 60 } }), "anna");
    await control.create("hooked", config({ schedule: { webhook: true } }), "anna");
    await control.create("marked", config({ schedule: { markerFile: "/jobs/_SUCCESS" } }), "anna");
    await control.create("plain", config(), "anna");
    world.start("b");
    const count = (name: string): number => world.begun.filter(({ task }) => task.task === name).length;
    await world.sleep(10_000);
    assert.deepEqual([count("timed"), count("hooked"), count("marked"), count("plain")], [1, 0, 0, 0]);
    await assert.rejects(control.finished("plain", "job"), refusal("conflict", /webhook/));
    await control.finished("hooked", "job");
    await files.makeFolder("/jobs");
    await files.writeFileAtomic("/jobs/_SUCCESS", new TextEncoder().encode("day 1"));
    await world.sleep(10_000);
    assert.deepEqual([count("timed"), count("hooked"), count("marked")], [1, 1, 1]);
    await world.sleep(60_000);
    assert.deepEqual([count("timed"), count("marked")], [2, 1], "a marker that did not change begins nothing");
    await files.writeFileAtomic("/jobs/_SUCCESS", new TextEncoder().encode("day 2"));
    await world.sleep(5_000);
    assert.equal(count("marked"), 2);
    await control.enable("timed", false, "anna");
    await world.sleep(130_000);
    const timed = count("timed");
    await control.run("timed", "anna");
    await world.sleep(5_000);
    assert.equal(count("timed"), timed + 1);
    assert.deepEqual((await control.detail("timed")).audit.map(({ action }) => action).slice(0, 3), ["run", "disable", "create"]);
  }));

test("failed and refused builds stand in history, audit and alarm, and are not tried without pause", () =>
  within(async (world) => {
    const { control } = world;
    await control.create("items", config(), "anna");
    world.start("b");
    world.play = { ms: 10, fails: new MillraceError("not-found", "there is no file items.npy") };
    await control.run("items", "anna");
    await world.sleep(30_000);
    assert.equal(world.begun.length, 1);
    world.play = { ms: 10, refused: ["recall is 0.2, at least 0.985 is wanted"] };
    await control.run("items", "anna");
    await world.sleep(30_000);
    const { history, audit, versions, live } = await control.detail("items");
    assert.deepEqual(
      history.map(({ verdict }) => verdict),
      ["refused", "failed"],
    );
    assert.match(history[1]!.reasons[0]!, /items\.npy/);
    assert.deepEqual(
      audit.filter(({ who }) => who === "b").map(({ action }) => action),
      ["refused", "failed"],
    );
    assert.deepEqual(
      world.alarms.map(({ verdict }) => verdict),
      ["failed", "refused"],
    );
    assert.deepEqual([versions[0]?.state, versions[0]?.reasons, live], ["refused", ["recall is 0.2, at least 0.985 is wanted"], null]);
    await assert.rejects(control.live("items", versions[0]!.version, false, "anna"), refusal("conflict", /refused/));
    assert.equal((await control.live("items", versions[0]!.version, true, "anna")).live, versions[0]!.version);
  }));

test("promise: versions go live and back by hand, each change an edition or an audit entry, and a change of another edition is a conflict", () =>
  within(async (world) => {
    const { control } = world;
    world.start("b");
    await control.create("items", config(), "anna");
    for (let i = 0; i < 2; i++) {
      await control.run("items", "anna");
      await world.sleep(3_000);
    }
    const [newer, older] = (await control.detail("items")).versions;
    assert.deepEqual([newer?.state, older?.state], ["live", "backup"]);
    assert.deepEqual(await control.rollback("items", undefined, "bert"), { collection: "items", live: older!.version, before: newer!.version });
    const states = (await control.detail("items")).versions.map(({ state }) => state);
    assert.deepEqual(states, ["withdrawn", "live"], "what was rolled back from does not look like one that waits to go live for the first time");
    assert.equal((await control.live("items", newer!.version, false, "anna")).before, older!.version);
    await assert.rejects(control.live("items", "1999", false, "anna"), refusal("not-found", /1999/));
    await control.change("items", 1, config({ recallTarget: 0.95 }), "bert");
    await assert.rejects(control.change("items", 1, config({ recallTarget: 0.9 }), "anna"), refusal("conflict", /edition 2 holds/));
    await assert.rejects(control.change("items", 2, config({ checks: [{ statistic: "rows" }] }), "anna"), refusal("invalid", /no limit/));
    await assert.rejects(control.create("items", config(), "anna"), refusal("conflict", /there is a vector task/));
    const { audit, editions, edition, config: now } = await control.detail("items");
    assert.deepEqual([edition, now.recallTarget, editions.length, editions[0]?.config.recallTarget], [2, 0.95, 1, undefined]);
    assert.deepEqual(
      audit.map(({ action, who }) => `${who} ${action}`),
      ["bert change", "anna live", "bert rollback", "anna run", "anna run", "anna create"],
    );
    await control.remove("items", "anna");
    await assert.rejects(control.detail("items"), refusal("not-found", /no vector task/));
    await control.create("items", config(), "anna");
    assert.equal((await control.detail("items")).edition, 3, "its editions go on");
  }));

test("promise: a task that does not fit its folders, table or collection is refused when it is made or changed; one of the configuration is told", () =>
  within(async ({ registry, snapshots, clock }) => {
    const columns = [{ name: "embedding", type: "f32[]", elements: 8 }];
    const world = { folders: ["/data"], columnsOf: (table: string) => (table === "items" ? columns : null), parameterDimsOf: () => null };
    const control = new TaskControl({ registry, snapshots, clock, world });
    const overHttp = new TaskControl({ registry, snapshots, clock, world, restricted: true });
    await putCollection(registry, { name: "items", id: 7, dims: 8, metric: "ip", state: "open", madeMs: 1 }, 0);
    await assert.rejects(control.create("items", config(), "anna"), refusal("conflict", /metric is left out, so cosine/));
    await assert.rejects(control.create("tab", { source: { table: "item", column: "embedding" } }, "anna"), refusal("invalid", /source\.table is item/));
    await assert.rejects(control.create("par", { source: { parameters: "p" } }, "anna"), refusal("invalid", /source\.parameters is p/));
    await assert.rejects(overHttp.create("far", config({ source: { npy: "/etc/v.npy" } }), "anna"), refusal("unauthorized", /source\.npy lies outside/));
    await assert.rejects(overHttp.create("back", config({ source: { npy: "/data/../v.npy" } }), "anna"), refusal("unauthorized", /steps back/));
    await control.create("far", config({ source: { npy: "/etc/v.npy" } }), "anna");
    await assert.rejects(overHttp.change("far", 1, config({ source: { npy: "/etc/w.npy" } }), "bert"), refusal("unauthorized", /source\.npy/));
    await assert.rejects(control.change("far", 1, config({ collection: "items" }), "bert"), refusal("conflict", /collection items compares by ip/));
    assert.equal((await control.detail("far")).edition, 1);
    const told: string[] = [];
    await control.declare({ items: config(), far: config() }, (name, { message }) => told.push(`${name}: ${message}`));
    assert.equal(told.length, 1);
    assert.match(told[0]!, /^items: .*compares by ip/);
    assert.equal((await control.detail("items")).origin, "config", "it is taken over all the same");
  }));

test("what the configuration file says holds when its words change; a change by hand stays until then", () =>
  within(async (world) => {
    const { control } = world;
    assert.deepEqual(await control.declare({ items: config(), users: config() }), ["items", "users"]);
    assert.deepEqual(await control.declare({ items: config(), users: config() }), []);
    await control.change("items", 1, config({ recallAt: 10 }), "anna");
    assert.deepEqual(await control.declare({ items: config(), users: config() }), []);
    assert.equal((await control.detail("items")).config.recallAt, 10);
    assert.deepEqual(await control.declare({ items: config({ recallAt: 5 }) }), ["items", "users"]);
    const { tasks } = await control.list();
    assert.deepEqual(
      tasks.map(({ name, enabled, config: { recallAt } }) => [name, enabled, recallAt]),
      [
        ["items", true, 5],
        ["users", false, undefined],
      ],
    );
  }));

test("a builder that ends whoever builds it is given up after three attempts", () =>
  within(async (world) => {
    await world.control.create("items", config(), "anna");
    await world.control.run("items", "anna");
    await world.control.board.moveHistory("items", (history) => ({ ...history, attempts: 3 }));
    world.start("b");
    await world.sleep(5_000);
    assert.equal(world.begun.length, 0);
    const { history, asked } = await world.control.detail("items");
    assert.deepEqual([history[0]?.verdict, asked], ["failed", false]);
    assert.match(history[0]!.reasons[0]!, /builders ended/);
  }));

test("a task's bytes: what is no task is refused, and the largest fits the registry", () => {
  const by = { who: "w".repeat(200), nowMs: 1 };
  let state: TaskState = withCreated(undefined, "items", config(), by);
  const source = { files: Array.from({ length: 9 }, (_, i) => `/${i}${"x".repeat(400)}.parquet`) };
  for (let i = 1; i < 30; i++) state = withChanged(state, "items", i, config({ source, recallAt: i }), by);
  const bytes = encodeTask(state);
  assert.ok(bytes.length <= 63 * 1024 && largestTaskBytes < 64 * 1024, `${bytes.length} and ${largestTaskBytes}`);
  assert.deepEqual(decodeTask("items", bytes), state);
  for (const odd of ["", "{", "null", "[]", '{"format":1}', JSON.stringify({ ...state, editions: [] }), JSON.stringify({ ...state, audit: [{}] })]) {
    assert.throws(() => decodeTask("items", new TextEncoder().encode(odd)), { code: /corrupt|unsupported/ }, odd);
  }
  assert.throws(() => withCreated(undefined, "items", config({ source: { npy: `/${"x".repeat(5_000)}` } }), by), refusal("invalid", /bytes/));
});
