// The state that the activity log decides, as tables: which part stands in which table, and the numbers beside them.
//   activity.items      what is known of an item, counts by item, how it is answered      activity.users   the same of users
//   activity.AGGREGATION   a table for each list by user and for pairs by item (recent, history, done, together)
//   activity.exposures  what was shown to each user      activity.responses  how each user answers      activity.values  how values of facets are answered
//   activity.served     the last answers                 activity.checkpoint  the head, ids of events, categories, lists of the best
// Invariant: everything that `ActivityState.apply` changes is in one of them, or follows from them; activity-tables.test.ts compares a state that was kept with one that
// never stopped.

import { CheckpointRows, checkpointTable, checkpointTableConfig } from "#features/checkpoint/checkpoint-rows";
import { HandleList } from "#features/checkpoint/handle-list";
import { KeptTop } from "#features/checkpoint/kept-top";
import { RowMarks } from "#features/checkpoint/row-marks";
import { damagedState } from "#features/checkpoint/state-row";
import { type StateList, type StateTable, type StoredColumns, tableConfigOf } from "#features/checkpoint/stored-state";
import type { AggregationStore } from "#features/aggregation";
import type { Catalog } from "#features/catalog";
import type { HandleTable } from "#features/handle-table";
import type { ListRefill } from "#features/list-refill";
import type { RecentListStore } from "#features/recent-list";
import type { TableSchema } from "#features/tables/table-schema";
import type { Store } from "#lsm/store";
import type { Clock } from "#platform/clock";
import type { TablesConfig } from "#wire/table-config";
import type { EventDedupe } from "./event-dedupe.ts";
import type { Responses } from "./responses.ts";
import type { ServedMemory } from "./served-memory.ts";

/** All tables of the state begin so; a configured table cannot have a dot in its name. */
export const activityPrefix = "activity.";

/** What the tables are made of. */
export interface ActivityParts {
  readonly catalog: Catalog;
  readonly stores: Readonly<Record<string, AggregationStore>>;
  readonly exposures: RecentListStore;
  readonly responses: Responses;
  readonly served: ServedMemory;
  readonly dedupe: EventDedupe;
  /** Refills of the lists of the best, by list. */
  readonly refills: ReadonlyMap<unknown, ListRefill>;
  /** Counters of the state itself. */
  readonly counters: { get(): Readonly<Record<string, number>>; set(numbers: Readonly<Record<string, number>>): void };
}

export class ActivityTables {
  readonly tables: readonly StateTable[];
  readonly lists: readonly StateList[];
  readonly #parts: ActivityParts;
  readonly #follow: (() => void)[] = [];
  readonly #numbers = new Map<string, { get(): number; set(value: number): void }>();

  constructor(parts: ActivityParts) {
    this.#parts = parts;
    const { catalog, responses, exposures, served, dedupe, refills } = parts;
    const { items, users, categories } = catalog;
    const { facets } = responses;
    const beside: Record<"item" | "user", StoredColumns[]> = { item: [], user: [] };
    const own: StateTable[] = [];
    const tops: StateList[] = [
      new KeptTop(
        "fresh",
        catalog.fresh,
        refills.get(catalog.fresh),
        (item) => catalog.createdAt.get(item),
        () => items.size,
      ),
    ];
    for (const [name, store] of Object.entries(parts.stores)) {
      const kept = store.kept(name);
      const handles = kept.by === "item" ? items : users;
      if (kept.place === "beside others") beside[kept.by].push(kept.part);
      else own.push(this.#table(name, handles, [kept.part]));
      if (kept.number !== undefined) this.#numbers.set(`${name}.total`, kept.number);
      const { top, topKey } = kept;
      if (top !== undefined && topKey !== undefined) tops.push(new KeptTop(name, top, refills.get(top), topKey, () => handles.size));
    }
    const answered = responses.stored;
    const values = facets.storedValues;
    const valueTable: StateTable = { name: `${activityPrefix}values`, marks: new RowMarks(), parts: answered.values, ...values };
    this.#follow.push(
      () => values.follow(valueTable.marks),
      () => dedupe.follow(),
    );
    this.tables = [
      { ...this.#table("items", items, [catalog.storedItems, ...beside.item, ...answered.items, facets.storedItems]), ...restoring(items) },
      { ...this.#table("users", users, [catalog.storedUsers, ...beside.user, ...answered.users]), ...restoring(users) },
      ...own,
      this.#table("exposures", users, [exposures.stored()]),
      this.#table("responses", users, answered.lists),
      valueTable,
      { name: `${activityPrefix}served`, marks: new RowMarks(), ...served.stored },
    ];
    this.lists = [new HandleList("categories", categories), facets.storedProfiles, dedupe.stored, ...tops];
    this.#numbers.set("facets.items", {
      get: () => facets.itemCount,
      set: (count) => {
        facets.itemCount = count;
      },
    });
    this.#numbers.set("ids.generation", {
      get: () => dedupe.generation,
      set: (generation) => {
        dedupe.generation = generation;
      },
    });
  }

  /** Schemas in which the tables are registered. */
  get config(): TablesConfig {
    return { [checkpointTable]: checkpointTableConfig, ...Object.fromEntries(this.tables.map((table) => [table.name, tableConfigOf(table)])) };
  }

  /** The tables over a store. */
  rows(store: Store, clock: Clock, schemas: ReadonlyMap<string, TableSchema>): CheckpointRows {
    return new CheckpointRows({ store, clock, schemas, tables: this.tables, lists: this.lists });
  }

  /** What stands in no row, as it is now. */
  get numbers(): Readonly<Record<string, number>> {
    const numbers: Record<string, number> = { ...this.#parts.counters.get() };
    for (const [name, { get }] of this.#numbers) numbers[name] = get();
    return numbers;
  }

  /** Takes over the numbers of a head, before its rows are loaded. */
  set numbers(numbers: Readonly<Record<string, number>>) {
    this.#parts.counters.set(numbers);
    for (const [name, { set }] of this.#numbers) set(numbers[name] ?? 0);
  }

  /** From now on changes are noted: after a checkpoint was loaded, or before the first record. */
  follow(): void {
    for (const { parts, marks } of this.tables) for (const part of parts) part.follow(marks);
    for (const follow of this.#follow) follow();
  }

  #table(name: string, handles: HandleTable, parts: readonly StoredColumns[]): StateTable {
    return { name: activityPrefix + name, marks: new RowMarks(), parts, handles: () => handles.size, keyOf: (handle) => handles.id(handle) };
  }
}

/** What brings the ids of a handle table back. */
function restoring(handles: HandleTable): Pick<StateTable, "reserve" | "meet" | "missing"> {
  return {
    reserve: (count) => handles.reserve(count),
    meet: (handle, id) => {
      if (!handles.restore(handle, id)) throw damagedState("an item or user stands twice");
    },
    missing: () => handles.missing,
  };
}
