// Guards the moves of the catalogue against a naive model, its bytes against everything that is no catalogue, and the tables that models use against being dropped.

import assert from "node:assert/strict";
import { test } from "node:test";
import { MillraceError } from "#base/errors";
import { Prng } from "#base/prng";
import { newVersion } from "#snapshot/version";
import {
  type AuditEntry,
  catalogueLimits,
  type CatalogueState,
  checkTablesStand,
  decodeCatalogue,
  emptyCatalogue,
  encodeCatalogue,
  modelOf,
  resolveVersion,
  statesOf,
  usersOfTable,
  withAuditCut,
  withModelLive,
  withModelRolledBack,
  withoutTable,
  withRegistered,
  withRemoved,
  withRetiring,
  withTable,
} from "./catalogue-state.ts";

const by = { who: "anna", nowMs: 1_700_000_000_000 };
const nothing = (): boolean => false;
const versionAt = (ms: number): string => newVersion(1_700_000_000_000 + ms, new Prng(ms));
const refusal = (code: string, words: RegExp) => (thrown: unknown) => {
  assert.ok(thrown instanceof MillraceError, String(thrown));
  assert.equal(thrown.code, code);
  assert.match(thrown.message, words);
  return true;
};

/** What the naive model knows of a model: versions that were live in order (the last is), those that wait, those that go, and what each names. */
interface Naive {
  history: string[];
  staged: Set<string>;
  retiring: Set<string>;
  tables: Map<string, string[]>;
}

test("model: random moves keep each version in one list, tables that are used stay, and every change is in the audit", () => {
  const seed = Number(process.env["SEED"] ?? 5);
  const random = new Prng(seed);
  const names = ["ctr", "similar", "constructor"];
  const tableNames = ["a", "b", "c", "declared"];
  const isDeclared = (table: string): boolean => table === "declared";
  for (let round = 0; round < 12; round += 1) {
    let state: CatalogueState = emptyCatalogue;
    let made = 0;
    const models = new Map<string, Naive>();
    const tables = new Set<string>();
    const audit: AuditEntry[] = [];
    for (let step = 0; step < 120; step += 1) {
      const name = random.pick(names);
      const naive = models.get(name);
      const kept = naive === undefined ? [] : [...naive.history, ...naive.staged];
      const version = kept.length > 0 && random.chance(0.8) ? random.pick(kept) : versionAt((made += 1));
      const table = random.pick(tableNames);
      const before = state;
      try {
        switch (random.below(8)) {
          case 0:
          case 1: {
            const fresh = versionAt((made += 1));
            const live = random.chance(0.5);
            const used = [table, random.pick(tableNames)];
            const isMissing = used.some((one) => !tables.has(one) && !isDeclared(one));
            try {
              state = withRegistered(state, name, fresh, { tables: { users: used[0]!, items: used[1]! }, extractor: "7", live }, isDeclared, by);
            } catch (thrown) {
              const full = naive !== undefined && naive.tables.size >= catalogueLimits.versionsMax;
              assert.ok(thrown instanceof MillraceError && thrown.code === (isMissing ? "not-found" : "overloaded") && (isMissing || full), String(thrown));
              break;
            }
            assert.equal(isMissing, false);
            const after: Naive = naive ?? { history: [], staged: new Set(), retiring: new Set(), tables: new Map() };
            models.set(name, after);
            after.tables.set(fresh, used);
            if (live) after.history.push(fresh);
            else after.staged.add(fresh);
            break;
          }
          case 2:
            state = withModelLive(state, name, version, by);
            naive!.staged.delete(version);
            naive!.history = [...naive!.history.filter((one) => one !== version), version];
            break;
          case 3: {
            state = withModelRolledBack(state, name, undefined, by);
            naive!.staged.add(naive!.history.pop()!);
            break;
          }
          case 4: {
            const { state: after, retired } = withRetiring(state, name, random.chance(0.05) ? { wholeModel: true } : { version }, by);
            state = after;
            for (const one of retired) {
              naive!.history = naive!.history.filter((other) => other !== one);
              naive!.staged.delete(one);
              naive!.retiring.add(one);
            }
            break;
          }
          case 5: {
            const going = naive === undefined ? [] : [...naive.retiring];
            if (going.length === 0) break;
            const one = random.pick(going);
            state = withRemoved(state, name, one, by);
            assert.equal(withRemoved(state, name, one, by), state, "once");
            naive!.retiring.delete(one);
            naive!.tables.delete(one);
            if (naive!.tables.size === 0) models.delete(name);
            break;
          }
          case 6:
            state = withTable(state, table, isDeclared, by);
            assert.ok(!tables.has(table) && table !== "declared");
            tables.add(table);
            break;
          default:
            state = withoutTable(state, table, isDeclared, by);
            assert.ok(![...models.values()].some((one) => [...one.tables.values()].some((used) => used.includes(table))), `${table} was in use`);
            tables.delete(table);
        }
      } catch (thrown) {
        assert.ok(thrown instanceof MillraceError && ["not-found", "conflict"].includes(thrown.code), `seed ${seed}: ${String(thrown)}`);
      }
      assert.deepEqual(Object.keys(state.models).toSorted(), [...models.keys()].toSorted(), `seed ${seed}`);
      for (const [of, { history, staged, retiring }] of models) {
        const expected = [
          ...history.toReversed().map((one, i) => [one, i === 0 ? "live" : "backup"]),
          ...[...staged].map((one) => [one, "staged"]),
          ...[...retiring].map((one) => [one, "retiring"]),
        ];
        assert.deepEqual(statesOf(modelOf(state, of)).toSorted(), expected.toSorted(), `seed ${seed}, round ${round}, step ${step}`);
      }
      assert.deepEqual(Object.keys(state.tables).toSorted(), [...tables].toSorted());
      for (const entry of state.audit) if (entry.seq > audit.length) audit.push(entry);
      assert.equal(state.changes > before.changes, state !== before, "a change is counted");
      assert.equal(audit.length, state.changes, "every change is in the audit");
      const { state: cut, pages } = withAuditCut(state);
      for (const { number, entries } of pages) {
        assert.deepEqual(entries, audit.slice(number * catalogueLimits.auditPageEntries, (number + 1) * catalogueLimits.auditPageEntries));
        assert.ok(entries.at(-1)!.seq <= before.changes, "a page holds what stood before this change");
      }
      state = cut;
      assert.ok(state.audit.length <= catalogueLimits.auditMax);
      assert.deepEqual(decodeCatalogue(encodeCatalogue(state)), state);
    }
  }
});

test("promise: a table that any kept version names is not dropped, and the error says which", () => {
  const [a, b] = [versionAt(1), versionAt(2)];
  let state = withTable(emptyCatalogue, "users-a", nothing, by);
  state = withTable(state, "users-b", nothing, by);
  state = withRegistered(state, "ctr", a, { tables: { users: "users-a" }, extractor: "", live: true }, nothing, by);
  state = withRegistered(state, "ctr", b, { tables: { users: "users-b" }, extractor: "", live: true }, nothing, by);
  assert.throws(() => withoutTable(state, "users-a", nothing, by), refusal("conflict", new RegExp(`users-a is used by ctr@${a} \\(backup\\): retire`)));
  assert.throws(() => withoutTable(state, "users-b", nothing, by), refusal("conflict", new RegExp(`ctr@${b} \\(live\\)`)));
  ({ state } = withRetiring(state, "ctr", { version: a }, by));
  assert.deepEqual(usersOfTable(state, "users-a"), [`ctr@${a} (retiring)`]);
  assert.throws(() => withoutTable(state, "users-a", nothing, by), refusal("conflict", /retiring/));
  state = withoutTable(withRemoved(state, "ctr", a, by), "users-a", nothing, by);
  assert.deepEqual(Object.keys(state.tables), ["users-b"]);
  assert.throws(() => withoutTable(state, "declared", () => true, by), refusal("conflict", /declared in the configuration/));
  // A restart whose configuration forgot a table.
  checkTablesStand(state, nothing);
  const forgot = withRegistered(state, "ctr", a, { tables: { items: "items" }, extractor: "", live: false }, () => true, by);
  assert.throws(() => checkTablesStand(forgot, nothing), refusal("conflict", /declares no parameter table items, which ctr@/));
});

test("what cannot be is refused, with what to do", () => {
  const a = versionAt(1);
  const parts = { tables: { users: "users" }, extractor: "", live: false };
  const all = (): boolean => true;
  assert.throws(() => withRegistered(emptyCatalogue, "Ctr!", a, parts, all, by), refusal("invalid", /small letters/));
  assert.throws(() => withRegistered(emptyCatalogue, "ctr", a, { ...parts, tables: {} }, all, by), refusal("invalid", /0 tables/));
  assert.throws(() => withRegistered(emptyCatalogue, "ctr", a, { ...parts, tables: { "a b": "users" } }, all, by), refusal("invalid", /role/));
  assert.throws(() => withRegistered(emptyCatalogue, "ctr", a, { ...parts, extractor: "x".repeat(200) }, all, by), refusal("invalid", /extractor/));
  assert.throws(() => withRegistered(emptyCatalogue, "ctr", a, parts, nothing, by), refusal("not-found", /PCREATE/));
  const state = withRegistered(emptyCatalogue, "ctr", a, parts, all, by);
  assert.throws(() => withModelRolledBack(state, "ctr", undefined, by), refusal("not-found", /no version before/));
  assert.throws(() => withModelLive(state, "other", a, by), refusal("not-found", /no model "other"/));
  assert.throws(() => resolveVersion(state, "ctr", "2024"), refusal("not-found", /list its versions/));
  assert.equal(resolveVersion(state, "ctr", a.slice(0, 12)), a);
  const two = withRegistered(state, "ctr", versionAt(2), parts, all, by);
  assert.throws(() => resolveVersion(two, "ctr", a.slice(0, 12)), refusal("invalid", /2 versions/));
  const live = withModelLive(two, "ctr", a, by);
  assert.throws(() => withRetiring(live, "ctr", { version: a }, by), refusal("conflict", /is live/));
  const { state: going } = withRetiring(live, "ctr", { wholeModel: true }, by);
  assert.throws(() => withModelLive(going, "ctr", a, by), refusal("conflict", /being retired/));
  let many = emptyCatalogue;
  const wide = Object.fromEntries(Array.from({ length: 60 }, (_, i) => [`role-${i}`, `${"t".repeat(50)}-${i}`]));
  assert.throws(
    () => {
      for (let i = 0; i < 100; i += 1) {
        many = withRegistered(many, `m${i}`, versionAt(i), { ...parts, tables: wide }, all, by);
        encodeCatalogue(many);
      }
    },
    refusal("overloaded", /retire old versions/),
  );
});

test("what is no catalogue is refused", () => {
  const a = versionAt(1);
  const good = withRegistered(emptyCatalogue, "ctr", a, { tables: { users: "users" }, extractor: "3", live: true }, () => true, by);
  const plain = JSON.parse(new TextDecoder().decode(encodeCatalogue(good))) as { models: { ctr: object }; audit: object[] };
  const text = (change: object): Uint8Array => new TextEncoder().encode(JSON.stringify({ ...plain, ...change }));
  assert.deepEqual(decodeCatalogue(text({})), good);
  const { ctr } = plain.models;
  const wrong = [
    { changes: -1 },
    { models: [] },
    { models: { Ctr: ctr } },
    { models: { ctr: { ...ctr, versions: {} } } },
    { models: { ctr: { ...ctr, retiring: { [a]: 1 } } } },
    { models: { ctr: { ...ctr, versions: { [a]: { tables: { users: 5 }, extractor: "", atMs: 1 } } } } },
    { models: { ctr: { ...ctr, head: {} } } },
    { tables: { users: {} } },
    { audit: plain.audit.slice(0, 1) },
    { audit: [...plain.audit, {}] },
  ];
  for (const change of wrong) assert.throws(() => decodeCatalogue(text(change)), { code: /corrupt|unsupported/ }, JSON.stringify(change));
  assert.throws(() => decodeCatalogue(text({ format: 2 })), { code: "unsupported" });
  for (const odd of ["", "{", "null", "[]"]) assert.throws(() => decodeCatalogue(new TextEncoder().encode(odd)), { code: /corrupt|unsupported/ }, odd);
});
