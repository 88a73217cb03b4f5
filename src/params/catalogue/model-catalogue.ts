// The catalogue of models in the registry: registering, going live, rolling back, retiring; and what is live, for whoever answers requests.
//   parameters/catalogue              the state (catalogue-state.ts), moved by compare-and-set
//   parameters/configs/MODEL/VERSION  the config of a version, JSON; put before the version enters the state, removed after it has left
//   parameters/audit/PAGE             changes that no longer fit the state
//   parameters/holders/NODE           under the node's lease: up to which change it has read the state, and which retiring versions it still uses
// Why readers get one object: a request asks `use` once and has version, tables, config and extractor of one moment, whatever goes live meanwhile.
// Invariants: 1. `view` is swapped whole, with its configs read; it is never changed  2. a version is removed when every holder has read that it is retiring and
// uses it no more; a holder announces itself before it reads  3. a node that died uses nothing: its announcement goes with its lease.
// Cost: `use` is a look-up in a map and an addition. A change is one read and one compare-and-set of at most 60 KiB.
// Concurrency: any number of processes over one registry; here one loop. Limits: `catalogueLimits`, `triesMax`.

import type { Entry, Lease, Registry } from "#backbone/registry";
import { MillraceError, toMillraceError } from "#base/errors";
import type { Clock } from "#platform/clock";
import type { RandomSource } from "#platform/system-random";
import { newVersion, versionTimeMs } from "#snapshot/version";
import type { ModelOverview } from "#wire/parameter-models-api";
import {
  type AuditEntry,
  catalogueLimits,
  type CatalogueState,
  checkTablesStand,
  decodeCatalogue,
  emptyCatalogue,
  encodeCatalogue,
  findModel,
  isAuditEntry,
  modelOf,
  type Mover,
  type Registration,
  resolveVersion,
  statesOf,
  withAuditCut,
  withModelLive,
  withModelRolledBack,
  withoutTable,
  withRegistered,
  withRemoved,
  withRetiring,
  withTable,
} from "./catalogue-state.ts";

const catalogueKey = "parameters/catalogue";
const configKey = (model: string, version: string): string => `parameters/configs/${model}/${version}`;
const auditKey = (page: number): string => `parameters/audit/${String(page).padStart(9, "0")}`;
const holdersPrefix = "parameters/holders/";

/** Tries to move a catalogue that others move too. */
const triesMax = 64;
/** How long a node that stands still counts as one that uses what it used. */
const holderLeaseMs = 30_000;
/** After it a config that no version has was left by a process that died while it registered. */
const abandonedMs = 24 * 3_600_000;
const againMs = 1_000;

/** A version that is live, as one request sees it. Frozen. */
export interface LiveModel {
  readonly model: string;
  readonly version: string;
  /** Role -> table. */
  readonly tables: ReadonlyMap<string, string>;
  readonly extractor: string;
  /** As it was registered; `null` when it had none. */
  readonly config: unknown;
  readonly liveAtMs: number;
}

export interface ModelLease {
  readonly live: LiveModel;
  /** Says that the request has ended. Idempotent. */
  release(): void;
}

/** What stood in the registry at one moment. Frozen; a change swaps it. */
export interface CatalogueView {
  readonly changes: number;
  readonly state: CatalogueState;
  readonly live: ReadonlyMap<string, LiveModel>;
}

export interface ModelCatalogueOptions {
  readonly registry: Registry;
  readonly clock: Clock;
  readonly random: RandomSource;
  /** Name of this process among those of the registry, and who it is in the audit when it removes what was retired. */
  readonly node: string;
  /** Tables of the configuration. */
  readonly isDeclared?: (table: string) => boolean;
  /** False for a command that only makes a step: it uses no version, so nobody has to wait for it. Default true. */
  readonly holds?: boolean;
  readonly onAlarm?: (error: MillraceError) => void;
  /** Called after each swap. */
  readonly onChange?: (view: CatalogueView) => void;
}

/** Requests that use one live model, of the view it was in. */
interface Use {
  readonly live: LiveModel;
  count: number;
}

class HeldModel implements ModelLease {
  readonly live: LiveModel;
  readonly #use: Use;
  readonly #onLast: (use: Use) => void;
  #isHeld = true;

  constructor(use: Use, onLast: (use: Use) => void) {
    this.live = use.live;
    this.#use = use;
    this.#onLast = onLast;
    use.count++;
  }

  release(): void {
    if (!this.#isHeld) return;
    this.#isHeld = false;
    if (--this.#use.count === 0) this.#onLast(this.#use);
  }
}

const useKey = (model: string, version: string): string => `${model}@${version}`;

export class ModelCatalogue {
  readonly #options: ModelCatalogueOptions;
  readonly #registry: Registry;
  readonly #isDeclared: (table: string) => boolean;
  readonly #ending = new AbortController();
  /** A version that went and came back has several. */
  readonly #uses = new Map<LiveModel, Use>();
  readonly #onLast = (use: Use): void => {
    const { model, version } = use.live;
    // What is live now is asked for again at once.
    if (this.#view.live.get(model) !== use.live) this.#uses.delete(use.live);
    if (this.#isRetiring(model, version)) void this.#settle();
  };
  /** Configs by model@version: they never change. */
  readonly #configs = new Map<string, unknown>();
  #lease: Lease | undefined;
  #view: CatalogueView = { changes: 0, state: emptyCatalogue, live: new Map() };
  #revision = -1;
  #announced = "";
  #watching: Promise<void> | undefined;
  /** The announcement or removal under way: one at a time. */
  #settling: Promise<void> = Promise.resolve();
  #isSettling = false;
  #settleAgain = false;

  private constructor(options: ModelCatalogueOptions) {
    this.#options = options;
    this.#registry = options.registry;
    this.#isDeclared = options.isDeclared ?? (() => false);
  }

  /** Reads the catalogue and follows it. Throws `corrupt` for one that cannot be read, `conflict` when the configuration lacks a table that is used. */
  static async open(options: ModelCatalogueOptions): Promise<ModelCatalogue> {
    const catalogue = new ModelCatalogue(options);
    try {
      if (options.holds !== false) {
        catalogue.#lease = await options.registry.lease(holderLeaseMs);
        // Before the first read: a version that is retired from now on waits for this node.
        await catalogue.#announce(0, []);
      }
      const entry = await options.registry.get(catalogueKey);
      await catalogue.#take(entry);
      if (options.isDeclared !== undefined) checkTablesStand(catalogue.#view.state, options.isDeclared);
      if (options.holds !== false) {
        catalogue.#watching = catalogue.#watch();
        await catalogue.#settle();
        await catalogue.#removeAbandonedConfigs();
      }
      return catalogue;
    } catch (thrown) {
      await catalogue.close();
      throw thrown;
    }
  }

  /** Stops following; what this node used counts as released. */
  async close(): Promise<void> {
    this.#ending.abort();
    await this.#watching;
    await this.#settling;
    await this.#lease?.end();
  }

  // --- for requests --------------------------------------------------------------------------------------------------------------------

  get view(): CatalogueView {
    return this.#view;
  }

  /** The live version of a model, held until `release`. Throws `not-found` for no such model, `unavailable` when nothing of it is live. */
  use(model: string): ModelLease {
    const live = this.#view.live.get(model);
    if (live === undefined) {
      modelOf(this.#view.state, model);
      throw new MillraceError("unavailable", `nothing of model ${model} is live`, { todo: "put a version live: PMODEL LIVE, or millrace params live" });
    }
    let use = this.#uses.get(live);
    if (use === undefined) this.#uses.set(live, (use = { live, count: 0 }));
    return new HeldModel(use, this.#onLast);
  }

  /** All models by name, as this node sees them. */
  list(): ModelOverview[] {
    return Object.entries(this.#view.state.models)
      .toSorted(([a], [b]) => (a < b ? -1 : 1))
      .map(([name, model]) => ({
        model: name,
        live: model.head.current ?? null,
        liveSinceMs: model.head.current === undefined ? null : model.head.liveAtMs,
        before: model.head.backups[0] ?? null,
        versions: statesOf(model).map(([version, state]) => {
          const { tables, extractor, atMs } = model.versions[version]!;
          return { version, state, tables, extractor, registeredAtMs: atMs, inUse: this.#inUse(name, version) };
        }),
      }));
  }

  #inUse(model: string, version: string): number {
    let count = 0;
    for (const { live, count: one } of this.#uses.values()) if (live.model === model && live.version === version) count += one;
    return count;
  }

  /** Reads the registry now instead of waiting for the watch. */
  async refresh(): Promise<void> {
    await this.#take(await this.#registry.get(catalogueKey));
  }

  // --- changes -------------------------------------------------------------------------------------------------------------------------

  /** A new version; `config` is any JSON. Returns its name. Throws as `withRegistered`. */
  async register(model: string, registration: Registration & { readonly config?: unknown }, who: string): Promise<string> {
    const { config = null, ...parts } = registration;
    const bytes = new TextEncoder().encode(JSON.stringify(config));
    if (bytes.length > catalogueLimits.configBytesMax) {
      throw new MillraceError("invalid", `a config of ${bytes.length} bytes for model ${model}`, {
        todo: `keep it within ${catalogueLimits.configBytesMax} bytes, put more into a file and its name into the config`,
      });
    }
    const known = Object.keys(findModel(this.#view.state, model)?.versions ?? {});
    const version = newVersion(this.#options.clock.nowMs(), this.#options.random, known);
    // Refused before anything is written, where it can be seen already.
    withRegistered(this.#view.state, model, version, parts, this.#isDeclared, this.#by(who));
    await this.#registry.put(configKey(model, version), bytes, { expect: 0 });
    try {
      await this.#move((state) => withRegistered(state, model, version, parts, this.#isDeclared, this.#by(who)));
    } catch (thrown) {
      await this.#registry.delete(configKey(model, version)).catch(() => undefined);
      throw thrown;
    }
    return version;
  }

  /** Puts a version live, named whole or by a beginning. Returns it. */
  async live(model: string, version: string, who: string): Promise<string> {
    let named = "";
    await this.#move((state) => {
      named = resolveVersion(state, model, version);
      return withModelLive(state, model, named, this.#by(who));
    });
    return named;
  }

  /** The version before the live one is live again, or the named one of those before it. Returns it. */
  async rollback(model: string, version: string | undefined, who: string): Promise<string> {
    const state = await this.#move((before) =>
      withModelRolledBack(before, model, version === undefined ? undefined : resolveVersion(before, model, version), this.#by(who)),
    );
    return modelOf(state, model).head.current!;
  }

  /** Retires one version, all but the `keep` latest, or the model. They are removed once no request uses them; returns which, and which are gone already. */
  async retire(
    model: string,
    what: { readonly version: string } | { readonly keep: number } | { readonly wholeModel: true },
    who: string,
  ): Promise<{ readonly retired: readonly string[]; readonly removed: readonly string[] }> {
    let retired: string[] = [];
    await this.#move((state) => {
      const named = "version" in what ? { version: resolveVersion(state, model, what.version) } : what;
      const after = withRetiring(state, model, named, this.#by(who));
      ({ retired } = after);
      return after.state;
    });
    await this.#settle();
    const left = findModel(this.#view.state, model)?.versions ?? {};
    return { retired, removed: retired.filter((version) => !Object.hasOwn(left, version)) };
  }

  /** Writes down a table that a command creates; the caller makes it. */
  async createTable(table: string, who: string): Promise<void> {
    await this.#move((state) => withTable(state, table, this.#isDeclared, this.#by(who)));
  }

  /** Strikes a created table out; the caller frees it. Throws `conflict` while a model uses it. */
  async dropTable(table: string, who: string): Promise<void> {
    await this.#move((state) => withoutTable(state, table, this.#isDeclared, this.#by(who)));
  }

  /** The latest changes, newest first. */
  async audit(max: number): Promise<AuditEntry[]> {
    const { state } = this.#view;
    const found = state.audit.toReversed();
    for (let page = Math.floor((state.changes - state.audit.length) / catalogueLimits.auditPageEntries) - 1; page >= 0 && found.length < max; page--) {
      const entry = await this.#registry.get(auditKey(page));
      if (entry === undefined) break;
      found.push(...auditPageOf(entry).toReversed());
    }
    return found.slice(0, max);
  }

  #by(who: string): Mover {
    return { who, nowMs: this.#options.clock.nowMs() };
  }

  /** Compare-and-set until it succeeds; the new state is read here when the promise resolves. */
  async #move(change: (state: CatalogueState) => CatalogueState): Promise<CatalogueState> {
    for (let tries = 0; tries < triesMax; tries++) {
      const entry = await this.#registry.get(catalogueKey);
      const before = entry === undefined ? emptyCatalogue : decodeCatalogue(entry.value);
      const changed = change(before);
      if (changed === before) {
        await this.#take(entry);
        return before;
      }
      const { state: after, pages } = withAuditCut(changed);
      const bytes = encodeCatalogue(after);
      for (const { number, entries } of pages) await this.#putPage(number, entries);
      const put = await this.#registry.put(catalogueKey, bytes, { expect: entry?.revision ?? 0 });
      if (put === undefined) continue;
      await this.#take(put);
      return after;
    }
    throw new MillraceError("overloaded", "the catalogue of models is changed too often", { todo: "try again in a moment" });
  }

  async #putPage(number: number, entries: readonly AuditEntry[]): Promise<void> {
    await this.#registry.put(auditKey(number), new TextEncoder().encode(JSON.stringify(entries)));
    if (number >= catalogueLimits.auditPagesMax) await this.#registry.delete(auditKey(number - catalogueLimits.auditPagesMax));
  }

  // --- following -----------------------------------------------------------------------------------------------------------------------

  /** Makes a view of an entry and swaps it in. An older one than the last is passed over. */
  async #take(entry: Entry | undefined): Promise<void> {
    const revision = entry?.revision ?? 0;
    if (revision <= this.#revision) return;
    const state = entry === undefined ? emptyCatalogue : decodeCatalogue(entry.value);
    const live = new Map<string, LiveModel>();
    for (const [name, { head, versions }] of Object.entries(state.models)) {
      const version = head.current;
      if (version === undefined) continue;
      // The same object as long as it is live: who holds it and who begins share it.
      const before = this.#view.live.get(name);
      if (before?.version === version && before.liveAtMs === head.liveAtMs) {
        live.set(name, before);
        continue;
      }
      const { tables, extractor } = versions[version]!;
      const config = await this.#configOf(name, version);
      live.set(name, Object.freeze({ model: name, version, tables: new Map(Object.entries(tables)), extractor, config, liveAtMs: head.liveAtMs }));
    }
    // Another take may have come past this one while it read configs.
    if (revision <= this.#revision) return;
    this.#revision = revision;
    this.#view = Object.freeze({ changes: state.changes, state, live });
    for (const [of, { count }] of this.#uses) if (count === 0 && live.get(of.model) !== of) this.#uses.delete(of);
    this.#options.onChange?.(this.#view);
  }

  async #configOf(model: string, version: string): Promise<unknown> {
    const key = useKey(model, version);
    if (this.#configs.has(key)) return this.#configs.get(key);
    const entry = await this.#registry.get(configKey(model, version));
    if (entry === undefined) {
      throw new MillraceError("corrupt", `the config of model ${model}, version ${version}, is not there`, { todo: "put another version live" });
    }
    let config: unknown;
    try {
      config = frozen(JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(entry.value)));
    } catch (cause) {
      throw new MillraceError("corrupt", `the config of model ${model}, version ${version}, is no JSON`, { cause, todo: "put another version live" });
    }
    this.#configs.set(key, config);
    return config;
  }

  async #watch(): Promise<void> {
    const { signal } = this.#ending;
    while (!signal.aborted) {
      try {
        for await (const { key, entry } of this.#registry.watch("parameters/", signal)) {
          if (key === catalogueKey) await this.#take(entry);
          else if (!key.startsWith(holdersPrefix) || key === this.#ownKey) continue;
          // Also when another node let go, or died.
          if (this.#hasRetiring()) await this.#settle();
        }
      } catch (thrown) {
        if (signal.aborted) return;
        this.#options.onAlarm?.(toMillraceError(thrown, "following the catalogue of models"));
      }
      await this.#options.clock.sleep(againMs, signal).catch(() => undefined);
    }
  }

  // --- retiring ------------------------------------------------------------------------------------------------------------------------

  get #ownKey(): string {
    return holdersPrefix + this.#options.node;
  }

  #isRetiring(model: string, version: string): boolean {
    return Object.hasOwn(findModel(this.#view.state, model)?.retiring ?? {}, version);
  }

  #hasRetiring(): boolean {
    return Object.values(this.#view.state.models).some(({ retiring }) => Object.keys(retiring).length > 0);
  }

  /** Says what this node uses of what is retiring, and removes what nobody uses. Calls while it works make it work once more. */
  #settle(): Promise<void> {
    this.#settleAgain = true;
    if (!this.#isSettling) {
      this.#isSettling = true;
      this.#settling = this.#settleAll();
    }
    return this.#settling;
  }

  async #settleAll(): Promise<void> {
    const { clock, onAlarm } = this.#options;
    try {
      while (this.#settleAgain && !this.#ending.signal.aborted) {
        this.#settleAgain = false;
        await this.#settleOnce();
      }
    } catch (thrown) {
      if (this.#ending.signal.aborted) return;
      onAlarm?.(toMillraceError(thrown, "removing retired versions of models"));
      clock.after(againMs, () => !this.#ending.signal.aborted && void this.#settle(), { background: true });
    } finally {
      this.#isSettling = false;
    }
  }

  async #settleOnce(): Promise<void> {
    const { state, changes } = this.#view;
    if (this.#lease !== undefined) {
      const held = [...this.#uses.values()].filter(({ count }) => count > 0).map(({ live }) => live);
      const holds = [...new Set(held.filter((live) => this.#isRetiring(live.model, live.version)).map((live) => useKey(live.model, live.version)))];
      await this.#announce(changes, holds);
    }
    const waiting = Object.entries(state.models).flatMap(([name, { retiring }]) => Object.entries(retiring).map(([version, seq]) => ({ name, version, seq })));
    if (waiting.length === 0) return;
    const holders = (await this.#registry.list(holdersPrefix)).map(holderOf);
    for (const { name, version, seq } of waiting) {
      if (holders.some(({ seen, holds }) => seen < seq || holds.includes(useKey(name, version)))) continue;
      await this.#move((before) => withRemoved(before, name, version, this.#by(this.#options.node)));
      await this.#registry.delete(configKey(name, version));
      this.#configs.delete(useKey(name, version));
    }
  }

  async #announce(seen: number, holds: readonly string[]): Promise<void> {
    // A node that has read a state with nothing retiring in it need not say so: what is retired later has a later number.
    const text = JSON.stringify({ seen, holds });
    if (text === this.#announced && (await this.#lease!.alive())) return;
    // It ends when this process stood still for longer than its time: whatever was removed meanwhile is gone, from now on this node counts again.
    if (!(await this.#lease!.alive())) this.#lease = await this.#registry.lease(holderLeaseMs);
    await this.#registry.put(this.#ownKey, new TextEncoder().encode(text), { lease: this.#lease! });
    this.#announced = text;
  }

  async #removeAbandonedConfigs(): Promise<void> {
    const prefix = configKey("", "").slice(0, -1);
    for (const { key } of await this.#registry.list(prefix)) {
      const [model = "", version = ""] = key.slice(prefix.length).split("/");
      if (Object.hasOwn(findModel(this.#view.state, model)?.versions ?? {}, version)) continue;
      if (this.#options.clock.nowMs() - versionTimeMs(version) > abandonedMs) await this.#registry.delete(key);
    }
  }
}

/** What a node says about itself; one that cannot be read counts as one that has read nothing. */
function holderOf({ value }: Entry): { readonly seen: number; readonly holds: readonly string[] } {
  try {
    const { seen, holds } = JSON.parse(new TextDecoder().decode(value)) as { seen?: unknown; holds?: unknown };
    if (typeof seen === "number" && Array.isArray(holds)) return { seen, holds: holds as readonly string[] };
  } catch {
    // As below.
  }
  return { seen: 0, holds: [] };
}

function auditPageOf({ key, value }: Entry): AuditEntry[] {
  let entries: unknown;
  try {
    entries = JSON.parse(new TextDecoder().decode(value));
  } catch {
    // As below.
  }
  if (Array.isArray(entries) && entries.every(isAuditEntry)) return entries;
  throw new MillraceError("corrupt", `the registry key ${key} is no page of changes`, { todo: "look at the registry: nothing but millrace may write there" });
}

function frozen<T>(value: T): T {
  if (typeof value === "object" && value !== null) {
    for (const part of Object.values(value)) frozen(part);
    Object.freeze(value);
  }
  return value;
}
