// Guards going live as a whole: several processes over one registry move the catalogue at once and lose nothing, a request sees one version to its end, and what is
// retired goes when the last request that uses it has ended, here or elsewhere.

import assert from "node:assert/strict";
import { test } from "node:test";
import { createMemoryRegistry, type MemoryRegistry } from "#backbone/memory-registry";
import { MillraceError } from "#base/errors";
import { Prng } from "#base/prng";
import { Simulation } from "#platform/simulation";
import { newVersion } from "#snapshot/version";
import { catalogueLimits } from "./catalogue-state.ts";
import { ModelCatalogue, type ModelCatalogueOptions } from "./model-catalogue.ts";

interface World {
  readonly simulation: Simulation;
  readonly registry: MemoryRegistry;
  readonly alarms: string[];
  open(node: string, more?: Partial<ModelCatalogueOptions>): Promise<ModelCatalogue>;
  /** Lets watches and timers run. */
  settle(ms?: number): Promise<void>;
}

const declared = new Set(["users-a", "users-b", "items"]);

async function within(body: (world: World) => Promise<void>): Promise<void> {
  const simulation = new Simulation({ seed: Number(process.env["SEED"] ?? 3) });
  await simulation.run(async () => {
    const registry = createMemoryRegistry({ clock: simulation.clock });
    const opened: ModelCatalogue[] = [];
    const alarms: string[] = [];
    let seed = 0;
    await body({
      simulation,
      registry,
      alarms,
      async open(node, more = {}) {
        const catalogue = await ModelCatalogue.open({
          registry,
          clock: simulation.clock,
          random: new Prng((seed += 1)),
          node,
          isDeclared: (table) => declared.has(table),
          onAlarm: ({ message }) => alarms.push(message),
          ...more,
        });
        opened.push(catalogue);
        return catalogue;
      },
      settle: (ms = 100) => simulation.clock.sleep(ms),
    });
    for (const one of opened) await one.close();
    await registry.close();
    assert.deepEqual(alarms, []);
  });
}

const withUsers = (table: string, live = true) => ({ tables: { users: table, items: "items" }, extractor: "7", live, config: { rate: 0.1, of: table } });
const refusal = (code: string, words: RegExp) => (thrown: unknown) => {
  assert.ok(thrown instanceof MillraceError, String(thrown));
  assert.equal(thrown.code, code);
  assert.match(thrown.message, words);
  return true;
};

test("promise: a model goes live and back as a whole, and a request sees one version to its end", () =>
  within(async ({ open, settle }) => {
    const server = await open("server");
    assert.throws(() => server.use("ctr"), refusal("not-found", /no model "ctr"/));
    const staged = await server.register("ctr", withUsers("users-a", false), "anna");
    assert.throws(() => server.use("ctr"), refusal("unavailable", /PMODEL LIVE/));
    assert.equal(await server.live("ctr", staged.slice(0, -2), "anna"), staged);
    const request = server.use("ctr");
    assert.deepEqual(
      [request.live.version, [...request.live.tables], request.live.config],
      [
        staged,
        [
          ["users", "users-a"],
          ["items", "items"],
        ],
        { rate: 0.1, of: "users-a" },
      ],
    );
    const other = await open("other");
    const second = await other.register("ctr", withUsers("users-b"), "bert");
    await settle();
    const later = server.use("ctr");
    assert.deepEqual([later.live.version, later.live.tables.get("users"), later.live.extractor], [second, "users-b", "7"]);
    assert.deepEqual([request.live.version, request.live.tables.get("users")], [staged, "users-a"], "the request that had begun");
    assert.throws(() => ((request.live.config as { rate: number }).rate = 1), TypeError);
    later.release();
    assert.equal(await other.rollback("ctr", undefined, "bert"), staged);
    assert.equal(other.use("ctr").live.version, staged, "who changed it sees it at once");
    await settle();
    assert.equal(server.use("ctr").live.version, staged);
    assert.deepEqual(
      (await server.audit(10)).map(({ who, action, version, before }) => [who, action, version, before]),
      [
        ["bert", "rollback", staged, second],
        ["bert", "live", second, staged],
        ["bert", "register", second, undefined],
        ["anna", "live", staged, undefined],
        ["anna", "register", staged, undefined],
      ],
    );
  }));

test("promise: a retired version goes only when the last request that uses it has ended, in every process", () =>
  within(async ({ open, registry, settle }) => {
    const [server, worker] = [await open("server"), await open("worker")];
    const first = await server.register("ctr", withUsers("users-a"), "anna");
    await settle();
    const [one, two, theirs] = [server.use("ctr"), server.use("ctr"), worker.use("ctr")];
    await server.register("ctr", withUsers("users-b"), "anna");
    // A command of the console's kind: it holds nothing, and does not wait.
    const command = await open("command", { holds: false });
    assert.deepEqual(await command.retire("ctr", { version: first }, "anna"), { retired: [first], removed: [] });
    const stateOf = (of: ModelCatalogue): string | undefined => of.list()[0]!.versions.find(({ version }) => version === first)?.state;
    await settle();
    assert.equal(stateOf(server), "retiring");
    assert.equal(server.list()[0]!.versions.find(({ version }) => version === first)!.inUse, 2);
    await assert.rejects(server.live("ctr", first, "anna"), refusal("conflict", /being retired/));
    one.release();
    one.release();
    two.release();
    await settle();
    assert.equal(stateOf(server), "retiring", "the other process uses it");
    theirs.release();
    await settle();
    assert.deepEqual([stateOf(server), stateOf(worker)], [undefined, undefined]);
    assert.equal((await registry.list("parameters/configs/")).length, 1);
    assert.deepEqual(
      (await server.audit(2)).map(({ action }) => action),
      ["removed", "retire"],
    );
  }));

test("a process that died holds nothing back, one that has not read on does", () =>
  within(async ({ open, registry, settle, simulation }) => {
    const server = await open("server");
    let isAlive = true;
    const mortal = await open("mortal", { registry: registry.connect({ clock: simulation.clock, alive: () => isAlive }), onAlarm: () => undefined });
    const first = await server.register("ctr", withUsers("users-a"), "anna");
    await settle();
    mortal.use("ctr");
    await server.register("ctr", withUsers("users-b"), "anna");
    assert.deepEqual(await server.retire("ctr", { keep: 1 }, "anna"), { retired: [first], removed: [] });
    await settle(5_000);
    assert.equal(server.list()[0]!.versions.length, 2);
    isAlive = false;
    await settle(60_000);
    assert.equal(server.list()[0]!.versions.length, 1);
    // The whole model, nobody there but this one.
    const { retired, removed } = await server.retire("ctr", { wholeModel: true }, "anna");
    assert.deepEqual([retired.length, removed], [1, retired]);
    assert.deepEqual(server.list(), []);
  }));

test("race: processes that move the catalogue at once lose no move, and every change stands once in the audit", () =>
  within(async ({ open, settle, simulation }) => {
    const seed = Number(process.env["SEED"] ?? 3);
    const writers = await Promise.all(["north", "south", "east"].map((node) => open(node)));
    const done: string[] = [];
    const moves = async (writer: ModelCatalogue, who: string, random: Prng): Promise<void> => {
      for (let i = 0; i < 50; i += 1) {
        await simulation.clock.sleep(random.below(3));
        const model = random.pick(["ctr", "similar"]);
        const versions = writer.list().find((one) => one.model === model)?.versions ?? [];
        try {
          if (versions.length < 3 || random.chance(0.3)) {
            await writer.register(model, withUsers(random.pick(["users-a", "users-b"]), random.chance(0.5)), who);
            done.push("register");
          } else if (random.chance(0.4)) {
            await writer.live(model, random.pick(versions).version, who);
          } else if (random.chance(0.5)) {
            await writer.rollback(model, undefined, who);
            done.push("rollback");
          } else {
            const { retired } = await writer.retire(model, { keep: 1 + random.below(3) }, who);
            done.push(...retired.map(() => "retire"));
          }
        } catch (thrown) {
          assert.ok(thrown instanceof MillraceError && ["not-found", "conflict", "overloaded"].includes(thrown.code), `seed ${seed}: ${String(thrown)}`);
        }
      }
    };
    await Promise.all(writers.map((writer, i) => moves(writer, ["anna", "bert", "cora"][i]!, new Prng(seed + i))));
    await settle(2_000);
    const [first, ...others] = writers.map((writer) => writer.view);
    for (const other of others) assert.deepEqual(other.state, first!.state);
    const audit = (await writers[0]!.audit(100_000)).toReversed();
    assert.ok(audit.length > catalogueLimits.auditMax, `only ${audit.length} changes: no page was written`);
    assert.deepEqual(
      audit.map(({ seq }) => seq),
      Array.from({ length: first!.changes }, (_, i) => i + 1),
    );
    const of = (wanted: string): number => audit.filter(({ action }) => action === wanted).length;
    for (const action of ["register", "rollback", "retire"]) assert.equal(of(action), done.filter((one) => one === action).length, `${action}, seed ${seed}`);
    assert.equal(of("removed"), of("retire"), "nobody uses anything, so all that was retired went");
  }));

test("race: of a table's drop and a version that takes it up one wins", () =>
  within(async ({ open }) => {
    const [north, south] = [await open("north"), await open("south")];
    for (let round = 0; round < 20; round += 1) {
      const table = `made-${round}`;
      await north.createTable(table, "anna");
      await south.refresh();
      const [dropped, taken] = await Promise.allSettled([
        north.dropTable(table, "anna"),
        south.register("ctr", { tables: { users: table }, extractor: "", live: true }, "bert"),
      ]);
      assert.notEqual(dropped.status, taken.status, `round ${round}: ${dropped.status}`);
      if (taken.status === "fulfilled") assert.ok(refusal("conflict", new RegExp(`used by ctr@${taken.value}`))((dropped as PromiseRejectedResult).reason));
      else assert.ok(refusal("not-found", /PCREATE/)(taken.reason));
      if (taken.status === "fulfilled") await south.retire("ctr", { keep: 1 }, "bert");
    }
  }));

test("a catalogue that was damaged is refused, and a config that is too long or missing is told", () =>
  within(async ({ open, registry, settle, alarms }) => {
    const server = await open("server");
    await assert.rejects(server.register("ctr", { ...withUsers("users-a"), config: "x".repeat(50_000) }, "anna"), refusal("invalid", /config of 50002 bytes/));
    const version = await server.register("ctr", withUsers("users-a"), "anna");
    const kept = (await registry.get(`parameters/configs/ctr/${version}`))!.value;
    await registry.delete(`parameters/configs/ctr/${version}`);
    await assert.rejects(open("second"), refusal("corrupt", /config of model ctr/));
    await registry.put(`parameters/configs/ctr/${version}`, kept);
    await open("third");
    await registry.put("parameters/catalogue", new Uint8Array([1, 2, 3]));
    await assert.rejects(open("fourth"), refusal("corrupt", /no JSON/));
    await settle();
    // Those that are open go on with what they have, and say so.
    assert.equal(server.use("ctr").live.version, version);
    assert.match(alarms.splice(0).join(), /no JSON text/);
  }));

test("configs that a killed registration left are removed after a day, no others", () =>
  within(async ({ open, registry, simulation, settle }) => {
    const server = await open("server");
    const version = await server.register("ctr", withUsers("users-a"), "anna");
    const orphan = newVersion(simulation.clock.nowMs(), new Prng(99));
    await registry.put(`parameters/configs/ctr/${orphan}`, new TextEncoder().encode("{}"));
    const kept = async (): Promise<string[]> => (await registry.list("parameters/configs/")).map(({ key }) => key.split("/")[3]!);
    await (await open("second")).close();
    assert.deepEqual((await kept()).toSorted(), [version, orphan].toSorted());
    await settle(25 * 3_600_000);
    await open("third");
    assert.deepEqual(await kept(), [version]);
  }));
