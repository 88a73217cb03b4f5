// The catalogue: what is known of each item and user, by handle.
// Items come by PUT (documents) or are met first in an event (then they are available, of no category, created at that event's time).
// Invariants: 1. a row changes only by a record of the log, with the record's time, so a rebuild gives the same rows  2. `state version` of an
// item rises when its `state` text changes: dedupe takes the item for new then  3. an unavailable or deleted item is in no list and passes no filter.
// Cost: documents as objects, about 200-500 bytes an item; the columns that every request reads are typed arrays.

import { f64Column, u32Column, u8Column } from "#base/chunked";
import type { ItemBody, ItemRow, UserBody, UserRow } from "#wire/api";
import type { RowMarks } from "./checkpoint/row-marks.ts";
import type { StateRowReader, StateRowWriter } from "./checkpoint/state-row.ts";
import type { StoredColumns } from "./checkpoint/stored-state.ts";
import { HandleTable } from "./handle-table.ts";
import { TopList } from "./top-list.ts";

/** `absent`: never seen or deleted; `hidden`: known, but not to be recommended. */
const presence = { absent: 0, available: 1, hidden: 2 } as const;

export interface CatalogOptions {
  /** Newest items kept in order for recall. */
  readonly freshItems: number;
  /** Called when an item becomes available or stops being so. */
  readonly onAvailability?: (item: number, available: boolean) => void;
}

export class Catalog {
  readonly items = new HandleTable();
  readonly users = new HandleTable();
  readonly categories = new HandleTable();
  /** Available items, newest creation first. */
  readonly fresh: TopList;
  readonly createdAt = f64Column();
  /** Category handle + 1; 0 = none. */
  readonly category = u32Column();
  readonly stateVersion = u32Column();
  readonly #presence = u8Column();
  readonly #itemBodies: (ItemBody | undefined)[] = [];
  readonly #userBodies: (UserBody | undefined)[] = [];
  readonly #onAvailability: (item: number, available: boolean) => void;
  #itemCount = 0;
  #availableCount = 0;
  #userCount = 0;
  #columns = 0;
  #itemMarks: RowMarks | undefined;
  #userMarks: RowMarks | undefined;
  #follower: ((item: number) => void) | undefined;

  constructor(options: CatalogOptions) {
    this.fresh = new TopList(options.freshItems);
    this.#onAvailability = options.onAvailability ?? (() => undefined);
  }

  /** `changed` is called from now on, at once, with each item whose document or availability may have changed. One follower. */
  follow(changed: (item: number) => void): void {
    this.#follower = changed;
  }

  get itemCount(): number {
    return this.#itemCount;
  }

  get availableCount(): number {
    return this.#availableCount;
  }

  get userCount(): number {
    return this.#userCount;
  }

  /** Handle of an item named by an event; makes it known when it is not. */
  meetItem(id: string, atMs: number): number {
    const item = this.#internItem(id);
    if (this.#presence.get(item) === presence.absent && this.#itemBodies[item] === undefined) {
      this.#itemMarks?.touch(item);
      this.#itemBodies[item] = {};
      this.createdAt.set(item, atMs);
      this.#setPresence(item, presence.available);
    }
    return item;
  }

  /** Handle of a user named by an event. */
  meetUser(id: string): number {
    const user = this.users.intern(id);
    if (this.#userBodies[user] === undefined) {
      this.#userMarks?.touch(user);
      this.#userBodies[user] = {};
      this.#userCount += 1;
    }
    return user;
  }

  /** Replaces an item's document. `atMs` is the creation time where the document has none and the item is new. */
  putItem(id: string, body: ItemBody, atMs: number): number {
    const item = this.#internItem(id);
    this.#itemMarks?.touch(item);
    const before = this.#itemBodies[item];
    const known = this.#presence.get(item) !== presence.absent;
    if (known && before?.state !== body.state) this.stateVersion.set(item, this.stateVersion.get(item) + 1);
    this.#itemBodies[item] = body;
    if (body.createdAt !== undefined) this.createdAt.set(item, body.createdAt);
    else if (!known) this.createdAt.set(item, atMs);
    this.category.set(item, body.category === undefined ? 0 : this.categories.intern(body.category) + 1);
    this.#setPresence(item, body.available === false ? presence.hidden : presence.available);
    return item;
  }

  /** Merges into an item's document: named fields replace, attributes merge by name. A deleted item stays deleted. */
  patchItem(id: string, body: ItemBody, atMs: number): void {
    const item = this.items.find(id);
    if (item === undefined || this.#presence.get(item) === presence.absent) return;
    const before = this.#itemBodies[item] ?? {};
    const attributes = body.attributes === undefined ? before.attributes : { ...before.attributes, ...body.attributes };
    this.putItem(id, { ...before, ...body, ...(attributes === undefined ? {} : { attributes }) }, atMs);
  }

  /** Merges attributes by name into what is known of a user. */
  patchUser(id: string, body: UserBody): void {
    const before = this.getUser(id);
    if (before !== undefined) this.putUser(id, { attributes: { ...before.attributes, ...body.attributes } });
  }

  /** Forgets an item's document; events that name it later do not bring it back, a PUT does. */
  deleteItem(id: string): boolean {
    const item = this.items.find(id);
    if (item === undefined || this.#presence.get(item) === presence.absent) return false;
    this.#itemMarks?.touch(item);
    this.#itemBodies[item] = {};
    this.category.set(item, 0);
    this.#setPresence(item, presence.absent);
    return true;
  }

  getItem(id: string): ItemRow | undefined {
    const item = this.items.find(id);
    return item === undefined ? undefined : this.itemRow(item);
  }

  /** The stored document with its id, `undefined` for an unknown or deleted item. */
  itemRow(item: number): ItemRow | undefined {
    if (item >= this.#columns || this.#presence.get(item) === presence.absent) return undefined;
    return { id: this.items.id(item), ...this.#itemBodies[item], createdAt: this.createdAt.get(item) };
  }

  /** The document as it was put; `{}` when there is none. */
  itemBody(item: number): ItemBody {
    return this.#itemBodies[item] ?? {};
  }

  /** Known items in handle order after `after`. */
  listItems(after: string | undefined, limit: number): ItemRow[] {
    const rows: ItemRow[] = [];
    const from = after === undefined ? 0 : (this.items.find(after) ?? this.items.size) + 1;
    for (let item = from; item < this.items.size && rows.length < limit; item += 1) {
      const row = this.itemRow(item);
      if (row !== undefined) rows.push(row);
    }
    return rows;
  }

  available(item: number): boolean {
    return item < this.#columns && this.#presence.get(item) === presence.available;
  }

  putUser(id: string, body: UserBody): number {
    const user = this.meetUser(id);
    this.#userMarks?.touch(user);
    this.#userBodies[user] = body;
    return user;
  }

  /** Forgets what was put about a user; what the user did stays counted. */
  deleteUser(id: string): boolean {
    const user = this.users.find(id);
    if (user === undefined || this.#userBodies[user] === undefined) return false;
    this.#userMarks?.touch(user);
    this.#userBodies[user] = undefined;
    this.#userCount -= 1;
    return true;
  }

  getUser(id: string): UserRow | undefined {
    const user = this.users.find(id);
    const body = user === undefined ? undefined : this.#userBodies[user];
    return body === undefined ? undefined : { id, ...body };
  }

  /** What is known of an item, as columns of a table. Handles are restored beside it; `categories` must be there before. `fresh` is restored by itself. */
  get storedItems(): StoredColumns {
    return {
      columns: { document: { type: "string" }, created_at: { type: "f64" }, presence: { type: "i64" }, state_version: { type: "i64" } },
      follow: (marks) => {
        this.#itemMarks = marks;
      },
      save: (item, row) => {
        saveDocument(this.#itemBodies[item], row);
        row.f64("created_at", this.createdAt.get(item));
        row.whole("presence", this.#presence.get(item));
        row.whole("state_version", this.stateVersion.get(item));
      },
      load: (item, row) => {
        this.#ensureItems(item + 1);
        const body = loadDocument(row) as ItemBody;
        const is = row.whole("presence");
        if (is > presence.hidden) throw row.damaged(`presence ${is}`);
        this.#itemBodies[item] = body;
        this.createdAt.set(item, row.f64("created_at"));
        this.category.set(item, is === presence.absent || body.category === undefined ? 0 : this.categories.intern(body.category) + 1);
        this.stateVersion.set(item, row.whole("state_version"));
        this.#presence.set(item, is);
        this.#itemCount += Number(is !== presence.absent);
        this.#availableCount += Number(is === presence.available);
        this.#follower?.(item);
      },
    };
  }

  get storedUsers(): StoredColumns {
    return {
      columns: { document: { type: "string" }, known: { type: "i64" } },
      follow: (marks) => {
        this.#userMarks = marks;
      },
      save: (user, row) => {
        const body = this.#userBodies[user];
        saveDocument(body, row);
        row.whole("known", body === undefined ? 0 : 1);
      },
      load: (user, row) => {
        if (row.whole("known") === 0) return;
        this.#userBodies[user] = loadDocument(row);
        this.#userCount += 1;
      },
    };
  }

  /** Offers an item to `fresh` when it is available: for refilling. */
  offerFresh(item: number): void {
    if (this.available(item)) this.fresh.update(item, this.createdAt.get(item));
  }

  /** Estimate: 300 bytes a document. */
  get bytes(): number {
    const columns = this.createdAt.bytes + this.category.bytes + this.stateVersion.bytes + this.#presence.bytes;
    return this.items.bytes + this.users.bytes + columns + this.fresh.bytes + this.#itemCount * 300 + this.#userCount * 100;
  }

  #internItem(id: string): number {
    const item = this.items.intern(id);
    this.#ensureItems(item + 1);
    return item;
  }

  #ensureItems(count: number): void {
    if (count <= this.#columns) return;
    this.#columns = count;
    this.createdAt.ensure(count);
    this.category.ensure(count);
    this.stateVersion.ensure(count);
    this.#presence.ensure(count);
  }

  #setPresence(item: number, next: number): void {
    const before = this.#presence.get(item);
    this.#presence.set(item, next);
    this.#itemCount += Number(next !== presence.absent) - Number(before !== presence.absent);
    this.#availableCount += Number(next === presence.available) - Number(before === presence.available);
    if (next === presence.available) this.fresh.update(item, this.createdAt.get(item));
    else this.fresh.remove(item);
    if ((next === presence.available) !== (before === presence.available)) this.#onAvailability(item, next === presence.available);
    this.#follower?.(item);
  }
}

/** As JSON; nothing for one that says nothing. */
function saveDocument(body: ItemBody | UserBody | undefined, row: StateRowWriter): void {
  if (body === undefined) return;
  const text = JSON.stringify(body);
  if (text !== "{}") row.text("document", text);
}

function loadDocument(row: StateRowReader): object {
  const text = row.text("document");
  if (text === "") return {};
  try {
    return JSON.parse(text) as object;
  } catch {
    throw row.damaged("a document that is no JSON");
  }
}
