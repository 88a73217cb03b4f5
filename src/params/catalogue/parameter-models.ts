// Tables, models and quotas of one parameter server, for whoever answers commands and requests: what a name means, whose quota it counts for, and changes of tables
// and models in the order in which nothing is lost.
// A name of a table is the table, or `model:NAME/ROLE` = the table that the live version of the model has in that role (`model:NAME` when it has only one). Asked by
// its own name and for no model, a table counts for every model that has it in a version that is kept: else there would be a way around quotas.
// Invariants: 1. a table is written into the catalogue before it is made, and struck out before it is dropped: what a model names was never dropped meanwhile
// 2. either order of failure is made good by the same command sent again.
// Cost: a name without `model:` is one look-up. Concurrency: the serving loop.

import { MillraceError } from "#base/errors";
import type { ParameterControl } from "#wire/parameter-api";
import type { ParameterModelConfig, ParameterTableConfig } from "#wire/parameter-config";
import type { ModelOverview, QuotaState } from "#wire/parameter-models-api";
import { type ModelUsage, ModelQuotas, type RequestKind } from "../quota.ts";
import type { CatalogueView, ModelCatalogue } from "./model-catalogue.ts";

const modelPrefix = "model:";
/** Who a version is registered by that stands in the configuration. */
const configWho = "config";

/** A table as one request uses it. */
export interface TableUse {
  readonly table: string;
  /** Whose version it was found by. */
  readonly model: string | undefined;
  /** Says that the request has ended. */
  release(): void;
}

/** What a request is about to do. */
export interface ModelRequest {
  /** As the caller named it, or by `use`. */
  readonly model: string | undefined;
  readonly table: string;
  readonly kind: RequestKind;
  readonly rows: number;
}

export interface ParameterModelsOptions {
  readonly catalogue: ModelCatalogue;
  readonly control: Pick<ParameterControl, "create" | "drop">;
  readonly monotonicMs: () => number;
  /** What a table holds now. Default: as the status says. */
  readonly usageOf: (table: string) => ModelUsage;
  /** Quotas stand in the configuration. */
  readonly models: Readonly<Record<string, ParameterModelConfig>>;
}

export class ParameterModels {
  readonly catalogue: ModelCatalogue;
  readonly #control: ParameterModelsOptions["control"];
  readonly #quotas: ModelQuotas;
  readonly #models: ParameterModelsOptions["models"];
  /** Table -> models that have it, of the view that it was made of. */
  #owners: ReadonlyMap<string, readonly string[]> = new Map();
  #ownersOf: CatalogueView | undefined;

  constructor({ catalogue, control, monotonicMs, usageOf, models }: ParameterModelsOptions) {
    this.catalogue = catalogue;
    this.#control = control;
    this.#models = models;
    this.#quotas = new ModelQuotas({
      monotonicMs,
      usageOf: (model) => {
        let rows = 0;
        let bytes = 0;
        for (const [table, models] of this.#ownersNow()) {
          if (!models.includes(model)) continue;
          const held = usageOf(table);
          rows += held.rows;
          bytes += held.bytes;
        }
        return { rows, bytes };
      },
    });
    for (const [name, { quota }] of Object.entries(models)) if (quota !== undefined) this.#quotas.set(name, quota);
  }

  /**
   * Registers the models of the configuration that have no version yet, and puts them live. One whose tables or extractor the configuration has changed gets a
   * version that waits: nothing goes live by a restart. Returns what should be said of that.
   */
  async declareModels(): Promise<string[]> {
    const said: string[] = [];
    for (const [name, { tables, extractor = "" }] of Object.entries(this.#models)) {
      if (tables.length === 0) continue;
      const wanted = Object.fromEntries(tables.map((table) => [table, table]));
      const known = this.catalogue.list().find(({ model }) => model === name);
      const isSame = (one: ModelOverview["versions"][number]): boolean =>
        one.extractor === extractor && Object.keys(one.tables).length === tables.length && tables.every((table) => one.tables[table] === table);
      if (known?.versions.some((one) => one.state !== "retiring" && isSame(one)) === true) continue;
      const live = known === undefined;
      const version = await this.catalogue.register(name, { tables: wanted, extractor, live }, configWho);
      if (!live) said.push(`model ${name}: the configuration has changed, version ${version} waits for \`millrace params live ${name} ${version}\``);
    }
    return said;
  }

  /** What `text` means for one request; to be released. Throws `not-found`, `unavailable`. Whether the table stands is the caller's to ask. */
  use(text: string): TableUse {
    if (!text.startsWith(modelPrefix)) return { table: text, model: undefined, release: nothing };
    const slash = text.indexOf("/");
    const name = text.slice(modelPrefix.length, slash === -1 ? undefined : slash);
    const role = slash === -1 ? undefined : text.slice(slash + 1);
    const lease = this.catalogue.use(name);
    const { tables } = lease.live;
    const table = role === undefined ? onlyOne(tables) : tables.get(role);
    if (table === undefined) {
      lease.release();
      throw new MillraceError("not-found", `the live version of model ${name} has no table ${role === undefined ? "of its own alone" : "in that role"}`, {
        todo: `name one of its roles: ${[...tables.keys()].slice(0, 8).join(", ")}`,
      });
    }
    return { table, model: name, release: () => lease.release() };
  }

  /**
   * Counts a request for its model, or without one for every model that has the table. Throws `overloaded` when one is over a quota, `not-found` for a model that
   * has no such table.
   */
  admit({ model, table, kind, rows }: ModelRequest): void {
    const owners = this.#ownersNow().get(table);
    if (model !== undefined && owners?.includes(model) !== true) {
      throw new MillraceError("not-found", `model ${JSON.stringify(model.slice(0, 64))} has no table ${JSON.stringify(table.slice(0, 64))}`, {
        todo: "name a model that has it, or none",
      });
    }
    if (model !== undefined) this.#quotas.admit(model, kind, rows);
    else if (owners !== undefined) for (const one of owners) this.#quotas.admit(one, kind, rows);
  }

  /** Makes a table that models may name. Throws `conflict`, `invalid`, `overloaded`. */
  async createTable(name: string, config: ParameterTableConfig, stands: boolean, who: string): Promise<void> {
    // Written down, but not there: the command before failed between the two.
    const isHalfMade = Object.hasOwn(this.catalogue.view.state.tables, name) && !stands;
    if (!isHalfMade) await this.catalogue.createTable(name, who);
    try {
      await this.#control.create(name, config);
    } catch (thrown) {
      await this.catalogue.dropTable(name, who).catch(() => undefined);
      throw thrown;
    }
  }

  /** Drops a table. Throws `conflict` while a kept version of a model names it (and says which), `not-found`. */
  async dropTable(name: string, who: string): Promise<void> {
    const wasListed = Object.hasOwn(this.catalogue.view.state.tables, name);
    await this.catalogue.dropTable(name, who);
    try {
      await this.#control.drop(name);
    } catch (thrown) {
      if (wasListed && thrown instanceof MillraceError && thrown.code === "not-found") return;
      throw thrown;
    }
  }

  quotaStates(): QuotaState[] {
    return this.#quotas.states();
  }

  #ownersNow(): ReadonlyMap<string, readonly string[]> {
    const { view } = this.catalogue;
    if (view === this.#ownersOf) return this.#owners;
    const owners = new Map<string, string[]>();
    for (const [name, { versions }] of Object.entries(view.state.models)) {
      for (const { tables } of Object.values(versions)) {
        for (const table of Object.values(tables)) {
          const of = owners.get(table) ?? [];
          if (!of.includes(name)) of.push(name);
          owners.set(table, of);
        }
      }
    }
    this.#owners = owners;
    this.#ownersOf = view;
    return owners;
  }
}

function nothing(): void {
  // A table's own name holds no version.
}

function onlyOne(tables: ReadonlyMap<string, string>): string | undefined {
  return tables.size === 1 ? tables.values().next().value : undefined;
}
