// Facets: the few properties of an item by which likings generalise (category, state, an attribute such as the language), as dense numbers.
// Why: what a user clicked says little of an item that opened a minute ago; what the user thinks of its topic and language says most.
// Items with the same value in every facet share a profile. A live feed has thousands of items and a few hundred profiles, so what a request thinks
// of values is worked out once a profile.
// Invariants: 1. a profile is a list of values, one a facet that the item has; values of different facets differ  2. numbers follow from the records of the
// log in order, so a rebuild gives the same  3. at most `facetLimits.values` values and `profiles` profiles are told apart, what comes later has the empty
// profile, 0.
// Cost: an item row a few string look-ups; reading a profile is one load.

import { u32Column } from "#base/chunked";
import { HandleList } from "#features/checkpoint/handle-list";
import type { RowMarks } from "#features/checkpoint/row-marks";
import type { StateList, StateTable, StoredColumns } from "#features/checkpoint/stored-state";
import { damagedState } from "#features/checkpoint/state-row";
import { HandleTable } from "#features/handle-table";
import type { ItemBody } from "#wire/api";

export const facetLimits = { facets: 8, values: 65_536, profiles: 1_000_000 } as const;

export class ItemFacets {
  readonly #names: readonly string[];
  readonly #values = new HandleTable();
  readonly #profiles = new HandleTable();
  readonly #valuesOf: Uint32Array[] = [];
  readonly #profile = u32Column();
  #items = 0;
  #itemMarks: RowMarks | undefined;
  #valueMarks: RowMarks | undefined;

  /** Names: `category`, `state`, or `attributes.NAME` of a text attribute. */
  constructor(names: readonly string[]) {
    this.#names = names;
    this.#profiles.intern("");
    this.#valuesOf.push(new Uint32Array(0));
  }

  /** Values seen so far: all are below. */
  get valueCount(): number {
    return this.#values.size;
  }

  /** Items put so far: all are below. */
  get itemCount(): number {
    return this.#items;
  }

  /** Profiles seen so far: all are below. */
  get profileCount(): number {
    return this.#profiles.size;
  }

  /** Takes over what a document says of an item. */
  put(item: number, body: ItemBody): void {
    this.#itemMarks?.touch(item);
    this.#ensureItems(item + 1);
    const known = this.#values.size;
    const values: number[] = [];
    for (const name of this.#names) {
      const text = name === "category" ? body.category : name === "state" ? body.state : body.attributes?.[name.slice("attributes.".length)];
      if (typeof text !== "string" || text === "") continue;
      const value = take(this.#values, `${name}=${text}`, facetLimits.values);
      if (value !== undefined) values.push(value);
    }
    for (let value = known; value < this.#values.size; value += 1) this.#valueMarks?.touch(value + 1);
    const profile = take(this.#profiles, values.join(" "), facetLimits.profiles) ?? 0;
    if (profile === this.#valuesOf.length) this.#valuesOf.push(Uint32Array.from(values));
    this.#profile.set(item, profile);
  }

  profile(item: number): number {
    return item < this.#items ? this.#profile.get(item) : 0;
  }

  valuesOf(profile: number): Uint32Array {
    return this.#valuesOf[profile]!;
  }

  /** A value as text: `category=music`. */
  valueText(value: number): string {
    return this.#values.id(value);
  }

  /** Items' profiles as a column of a table. */
  get storedItems(): StoredColumns {
    return {
      columns: { profile: { type: "i64" } },
      follow: (marks) => {
        this.#itemMarks = marks;
      },
      save: (item, row) => row.whole("profile", this.profile(item)),
      load: (item, row) => {
        const profile = row.whole("profile");
        if (profile === 0) return;
        if (!(profile > 0 && profile < this.#valuesOf.length)) throw row.damaged(`profile ${profile} of ${this.#valuesOf.length}`);
        this.#ensureItems(item + 1);
        this.#profile.set(item, profile);
      },
    };
  }

  /** The table of values: handle 0 stands for all, value v is handle v + 1. */
  get storedValues(): Omit<StateTable, "name" | "parts" | "marks"> & { follow(marks: RowMarks): void } {
    const values = this.#values;
    return {
      handles: () => values.size + 1,
      keyOf: (handle) => (handle === 0 ? "(all)" : values.id(handle - 1)),
      reserve: (handles) => values.reserve(handles - 1),
      meet: (handle, key) => {
        if (handle > 0 && !values.restore(handle - 1, key)) throw damagedState("a value of the facets stands twice");
      },
      missing: () => values.missing,
      follow: (marks) => {
        this.#valueMarks = marks;
      },
    };
  }

  /** The profiles: they only become more. */
  get storedProfiles(): StateList {
    return new HandleList("profiles", this.#profiles, (profile, text) => {
      // The first is there from the beginning.
      if (profile > 0) this.#valuesOf.push(Uint32Array.from(text.split(" "), Number));
    });
  }

  /** Items put so far: a restart takes it over, since what lies beyond counts as unknown. */
  set itemCount(count: number) {
    this.#ensureItems(count);
  }

  #ensureItems(count: number): void {
    if (count <= this.#items) return;
    this.#items = count;
    this.#profile.ensure(count);
  }

  get bytes(): number {
    return this.#values.bytes + this.#profiles.bytes + this.#valuesOf.length * 120 + this.#profile.bytes;
  }
}

/** The handle of a key, a new one while there are fewer than `most`. */
function take(table: HandleTable, key: string, most: number): number | undefined {
  return table.find(key) ?? (table.size < most ? table.intern(key) : undefined);
}
