// Feature provider: what the model sees of a request and its candidates, as bytes (logged with the answer) and as slots (scored now).
//   user part       once a request: who, what was touched lately, what is liked, when, which pipeline
//   item's document encoded when the catalogue's row changes; its slots lie in the live model, where the trainer reads them too
//   signals         numbers worked out for each candidate, among them the counting model's own opinion
// Invariants: 1. slots are made from the bytes that are logged; bytes never change once made, and a request holds those by which it was scored, also when a
// document changes before the answer leaves  2. an item's slots in the live model are those of its document as of the last record applied
// 3. nothing here reads a clock.
// Cost: a user part about 20 us, a candidate 0.5 us (no allocation a row), a changed document 3 us. Memory: 100-200 bytes an item beside the live model's.
// Concurrency: serving loop. `candidates` gives out one SlotRows that the next call overwrites: hand it to the scorer at once, which copies it before it waits.
// Limits: those of the live model: an item that does not fit there is extracted from its bytes each time (some us), and has no vector.

import { MillraceError } from "#base/errors";
import { encodeAnswerFeatures } from "#extract/answer-features";
import type { CrossValues } from "#extract/cross-values";
import { type Extractor, featureLimits, type FieldDeclaration, type RawValue } from "#extract/extractor";
import { SlotRows } from "#extract/slot-rows";
import type { ItemSlots } from "#models/item-slots";
import type { ItemBody, UserBody } from "#wire/api";
import type { ResponseSignals } from "./responses.ts";
import type { SceneStores } from "./scene.ts";

/** Signals that can be declared; see docs/design/extract.md for what each says. */
export const signalNames = ["counting", "rate", "affinity", "again", "unproven", "weighted", "ageMinutes", "popularity", "trend", "own", "together"] as const;
export type SignalName = (typeof signalNames)[number];

/** Columns of a pipeline that signals are read from; those that a pipeline does not have make their signals missing (popularity and trend: looked up). */
export interface SignalColumns {
  readonly score?: Float32Array;
  readonly popularity?: Float32Array;
  readonly trend?: Float32Array;
  readonly ownDecayed?: Float32Array;
  readonly together?: Float32Array;
}

/** Who asks, where and when. */
export interface ModelRequest {
  /** Handle, -1 for a user that was never seen. */
  readonly user: number;
  readonly id: string;
  readonly pipeline: string;
  readonly nowMs: number;
}

/** What the model saw of one request; kept until its answer has left, then reused for another. */
export interface RequestFeatures {
  request: ModelRequest;
  /** The user's feature record. */
  bytes: Uint8Array;
  /** One row: the user at the first place. */
  readonly slots: SlotRows;
  readonly cross: CrossValues;
  /** Candidates of the last `candidates`: handles, documents, signals (a row each), the counting model's logits. Arrays may be longer, what lies behind is old. */
  rows: number;
  ids: Uint32Array;
  readonly items: Uint8Array[];
  signals: Float32Array;
  counting: Float32Array;
  /** For the scorer to write; NaN until then. */
  logits: Float32Array;
  /** Scorings that may still write `logits`: while there are any, a release keeps nothing. */
  scoring: number;
}

/** The row of a candidate of the last `candidates`, -1 when it was none. */
export function candidateRow({ ids, rows }: RequestFeatures, item: number): number {
  const row = ids.indexOf(item);
  return row < rows ? row : -1;
}

/** A taste of this size is worth ln 2: as in the weights of the shop. */
const togetherUnit = 0.03;
const msPerMinute = 60_000;
const msPerHour = 3_600_000;
/** Released features kept for the next requests, and how many candidates one of them may have room for. */
const idleMax = 64;
const idleRowsMax = 4_096;
/** Items whose crossed values lie in one block. */
const blockItems = 1_024;

interface CrossBlock {
  readonly ends: Uint32Array;
  readonly keys: Uint32Array;
  readonly weights: Float32Array;
}

/** Throws `invalid` when the declaration names a signal that there is not. */
export function checkSignals(extractor: Extractor): void {
  const unknown = extractor.signalNames.find((name) => !(signalNames as readonly string[]).includes(name));
  if (unknown === undefined) return;
  throw new MillraceError("invalid", `the model's fields name signal.${unknown}, which there is not`, {
    todo: `use one of ${signalNames.map((name) => `signal.${name}`).join(", ")}`,
  });
}

export class ModelFeatures {
  readonly extractor: Extractor;
  readonly #stores: SceneStores;
  readonly #slots: ItemSlots;
  readonly #userValues: readonly ((request: ModelRequest, body: UserBody | undefined) => RawValue)[];
  readonly #itemValues: readonly ((item: number, body: ItemBody) => RawValue)[];
  readonly #signals: readonly SignalName[];
  /** Documents by handle: the body that was encoded and its bytes. */
  readonly #bodies: (ItemBody | undefined)[] = [];
  readonly #bytes: (Uint8Array | undefined)[] = [];
  #bytesSum = 0;
  /** Crossed values of items, `blockItems` a block. */
  readonly #blocks: (CrossBlock | undefined)[] = [];
  readonly #itemCross: CrossValues;
  readonly #oneItem: SlotRows;
  readonly #rows = new SlotRows(512, 32);
  readonly #values: RawValue[] = [];
  readonly #idle: RequestFeatures[] = [];
  #responses: ResponseSignals = responseSignals(512);
  #counts = new Float32Array(512);
  /** Columns of the answer that is being encoded. */
  #servedSignals = new Float32Array(0);
  #servedLogits = new Float32Array(0);
  #servedCounting = new Float32Array(0);
  readonly #servedItems: Uint8Array[] = [];
  readonly #likedValues = new Uint32Array(featureLimits.valuesMax);
  readonly #likedLogs = new Float32Array(featureLimits.valuesMax);
  readonly #recentItems = new Uint32Array(featureLimits.valuesMax);
  readonly #recentTimes = new Float64Array(featureLimits.valuesMax);
  readonly #recentWeights = new Float64Array(featureLimits.valuesMax);

  /** Throws `invalid` for a signal that there is not. Follows the catalogue from now on: to be made before records are applied. */
  constructor(extractor: Extractor, stores: SceneStores, slots: ItemSlots) {
    checkSignals(extractor);
    this.extractor = extractor;
    this.#stores = stores;
    this.#slots = slots;
    this.#signals = extractor.signalNames as readonly SignalName[];
    this.#userValues = extractor.userFields.map((field) => this.#userValue(field));
    this.#itemValues = extractor.itemFields.map((field) => this.#itemValue(field));
    this.#itemCross = extractor.itemCrossValues();
    this.#oneItem = new SlotRows(1, Math.max(1, extractor.itemSlotsMax));
    stores.catalog.follow((item) => this.itemChanged(item));
    for (let item = 0; item < stores.catalog.items.size; item += 1) this.itemChanged(item);
  }

  /** Takes over an item's document and availability; cheap when neither changed. */
  itemChanged(item: number): void {
    const { catalog } = this.#stores;
    const body = catalog.itemBody(item);
    const available = catalog.available(item);
    this.#bodies[item] = body;
    const bytes = this.extractor.encodeItem(this.#collect(this.#itemValues, item, body));
    const before = this.#bytes[item];
    if (before !== undefined && sameBytes(before, bytes)) {
      this.#slots.setAvailable(item, available);
      return;
    }
    this.#bytes[item] = bytes;
    this.#bytesSum += bytes.length - (before?.length ?? 0);
    const one = this.#oneItem;
    one.clear();
    this.extractor.itemSlots(bytes, one, this.#itemCross);
    this.#slots.put(item, one, 0, available);
    this.#keepCross(item);
  }

  /** The user part of a request. */
  begin(request: ModelRequest): RequestFeatures {
    const { extractor } = this;
    const body = this.#stores.catalog.getUser(request.id);
    const bytes = extractor.encodeUser(this.#collect(this.#userValues, request, body));
    const features = this.#idle.pop() ?? this.#newFeatures(request, bytes);
    features.request = request;
    features.bytes = bytes;
    features.slots.clear();
    extractor.userSlots(bytes, 0, features.slots, features.cross);
    return features;
  }

  /** Takes back the features of a request whose answer has left; the caller looks at them no more. Saves allocations; what is not given back is garbage. */
  release(features: RequestFeatures): void {
    features.rows = 0;
    features.items.length = 0;
    // A scorer that is late would write into the logits of the next request.
    if (features.scoring > 0 || features.ids.length > idleRowsMax || this.#idle.length >= idleMax) return;
    this.#idle.push(features);
  }

  #newFeatures(request: ModelRequest, bytes: Uint8Array): RequestFeatures {
    const { extractor } = this;
    const none = new Float32Array(0);
    return {
      request,
      bytes,
      slots: new SlotRows(1, extractor.userSlotsMax),
      cross: extractor.userCrossValues(),
      rows: 0,
      ids: new Uint32Array(0),
      items: [],
      signals: none,
      counting: none,
      logits: none,
      scoring: 0,
    };
  }

  /** The slots of `n` candidates of a request, a row each; `features` then says what they came from. The rows are overwritten by the next call. */
  candidates(features: RequestFeatures, ids: Uint32Array, n: number, columns: SignalColumns): SlotRows {
    const width = this.#signals.length;
    const { items } = features;
    items.length = n;
    for (let row = 0; row < n; row += 1) items[row] = this.#current(ids[row]!);
    features.rows = n;
    if (features.ids.length < n) {
      const room = Math.ceil(n * 1.25);
      features.ids = new Uint32Array(room);
      features.signals = new Float32Array(room * width);
      features.counting = new Float32Array(room);
      features.logits = new Float32Array(room);
    } else if (features.scoring > 0) features.logits = new Float32Array(features.logits.length);
    for (let row = 0; row < n; row += 1) features.ids[row] = ids[row]!;
    features.logits.fill(Number.NaN, 0, n);
    this.#fill(features.request, features.ids, n, columns, features.signals, features.counting);
    const rows = this.#rows;
    rows.clear();
    const { extractor } = this;
    const own = this.#itemCross;
    for (let row = 0; row < n; row += 1) {
      const item = ids[row]!;
      const block = this.#blocks[Math.floor(item / blockItems)];
      if (block !== undefined && this.#slots.copy(item, rows)) {
        extractor.addSignals(features.signals, row * width, rows);
        const at = item % blockItems;
        const endsAt = at * own.ends.length;
        const valuesAt = at * own.weights.length;
        extractor.addCrosses(features.cross, block.ends, endsAt, block.keys, block.weights, valuesAt, features.signals, row * width, rows);
      } else {
        extractor.addItem(items[row]!, rows, own);
        extractor.addSignals(features.signals, row * width, rows);
        extractor.addCrosses(features.cross, own.ends, 0, own.keys, own.weights, 0, features.signals, row * width, rows);
      }
      rows.endRow();
    }
    return rows;
  }

  /** What the `served` record carries of an answer; `undefined` when it would be too large. Items that were no candidates have the signals of now. */
  answer(features: RequestFeatures, ids: Uint32Array, n: number): Uint8Array | undefined {
    const width = this.#signals.length;
    if (this.#servedLogits.length < n) {
      this.#servedSignals = new Float32Array(n * width);
      this.#servedLogits = new Float32Array(n);
      this.#servedCounting = new Float32Array(n);
    }
    const signals = this.#servedSignals;
    const served = this.#servedLogits.fill(Number.NaN, 0, n);
    const counting = this.#servedCounting;
    const items = this.#servedItems;
    items.length = n;
    this.#fill(features.request, ids, n, {}, signals, counting);
    for (let place = 0; place < n; place += 1) {
      const row = candidateRow(features, ids[place]!);
      items[place] = row < 0 ? this.#current(ids[place]!) : features.items[row]!;
      if (row < 0) continue;
      for (let column = 0; column < width; column += 1) signals[place * width + column] = features.signals[row * width + column]!;
      counting[place] = features.counting[row]!;
      served[place] = features.logits[row]!;
    }
    // The counting model's word on this item at this place, so that it is judged by what it said.
    const { placePower } = this.#stores.responses.options;
    for (let place = 1; place < n; place += 1) {
      const chance = (1 + place) ** -placePower / (1 + Math.exp(-counting[place]!));
      counting[place] = Math.log(chance / (1 - chance));
    }
    const { id } = this.extractor;
    return encodeAnswerFeatures({ extractorId: id, user: features.bytes, items, signalCount: width, signals, servedLogits: served, countingLogits: counting });
  }

  /** Estimate, without the live model. */
  get bytes(): number {
    const block = blockItems * 4 * (this.#itemCross.ends.length + 3 * this.#itemCross.weights.length);
    return this.#bytesSum + this.#bytes.length * 80 + this.#blocks.filter((one) => one !== undefined).length * block;
  }

  /** The item's bytes; made anew when its document changed without a word. */
  #current(item: number): Uint8Array {
    const bytes = this.#bytes[item];
    if (bytes !== undefined && this.#bodies[item] === this.#stores.catalog.itemBody(item)) return bytes;
    this.itemChanged(item);
    return this.#bytes[item]!;
  }

  #keepCross(item: number): void {
    const cross = this.#itemCross;
    const index = Math.floor(item / blockItems);
    const fields = cross.ends.length;
    const room = cross.weights.length;
    const block = (this.#blocks[index] ??= {
      ends: new Uint32Array(blockItems * fields),
      keys: new Uint32Array(blockItems * room * 2),
      weights: new Float32Array(blockItems * room),
    });
    const at = item % blockItems;
    block.ends.set(cross.ends, at * fields);
    block.keys.set(cross.keys, at * room * 2);
    block.weights.set(cross.weights, at * room);
  }

  #collect<A, B>(sources: readonly ((a: A, b: B) => RawValue)[], a: A, b: B): RawValue[] {
    const values = this.#values;
    values.length = sources.length;
    for (let index = 0; index < sources.length; index += 1) values[index] = sources[index]!(a, b);
    return values;
  }

  /** Signals of `n` items, a row of columns each, and the counting model's logits. */
  #fill(request: ModelRequest, ids: Uint32Array, n: number, columns: SignalColumns, signals: Float32Array, counting: Float32Array): void {
    const { responses, popularity, trend, catalog } = this.#stores;
    const { nowMs } = request;
    if (this.#counts.length < n) {
      this.#responses = responseSignals(n * 2);
      this.#counts = new Float32Array(n * 2);
    }
    const known = this.#responses;
    responses.begin(request.user, nowMs);
    responses.describe(ids, n, known);
    counting.set(known.counting.subarray(0, n));
    const width = this.#signals.length;
    for (let column = 0; column < width; column += 1) {
      switch (this.#signals[column]!) {
        case "weighted":
          spread(columns.score, n, signals, column, width);
          break;
        case "popularity":
        case "trend": {
          const name = this.#signals[column] as "popularity" | "trend";
          let counts = columns[name];
          if (counts === undefined) {
            counts = this.#counts;
            (name === "trend" ? trend : popularity).gather(ids, n, nowMs, counts);
          }
          spreadLog(counts, n, 1, signals, column, width);
          break;
        }
        case "own":
          spreadLog(columns.ownDecayed, n, 1, signals, column, width);
          break;
        case "together":
          spreadLog(columns.together, n, togetherUnit, signals, column, width);
          break;
        case "ageMinutes":
          for (let row = 0; row < n; row += 1) signals[row * width + column] = Math.max(0, nowMs - catalog.createdAt.get(ids[row]!)) / msPerMinute;
          break;
        default:
          spread(known[this.#signals[column] as keyof ResponseSignals], n, signals, column, width);
      }
    }
  }

  #userValue(field: FieldDeclaration): (request: ModelRequest, body: UserBody | undefined) => RawValue {
    const { from, kind } = field;
    switch (from) {
      case "user.id":
        return ({ id }) => id;
      case "user.recent":
        return (request) => this.#recent(request, field.max ?? featureLimits.valuesDefault);
      case "user.liked":
        return (request) => this.#liked(request, field.max ?? featureLimits.valuesDefault);
      case "context.hour":
        return ({ nowMs }) => {
          const hour = Math.floor(nowMs / msPerHour) % 24;
          return kind === "id" ? String(hour) : hour;
        };
      case "context.pipeline":
        return ({ pipeline }) => pipeline;
      default: {
        const name = from.slice("user.attributes.".length);
        return (_, body) => attribute(kind, body?.attributes?.[name]);
      }
    }
  }

  #itemValue({ from, kind }: FieldDeclaration): (item: number, body: ItemBody) => RawValue {
    const { catalog } = this.#stores;
    switch (from) {
      case "item.id":
        return (item) => catalog.items.id(item);
      case "item.category":
        return (_, body) => body.category;
      case "item.state":
        return (_, body) => body.state;
      case "item.tags":
        return (_, body) => body.tags;
      default: {
        const name = from.slice("item.attributes.".length);
        return (_, body) => attribute(kind, body.attributes?.[name]);
      }
    }
  }

  /** The items that the user touched last, newest first; weights are decayed counts, together of length 1. */
  #recent({ user, nowMs }: ModelRequest, most: number): RawValue {
    const { history, catalog } = this.#stores;
    const view = user < 0 ? undefined : history.of(user);
    if (view === undefined) return undefined;
    const { halfLifeMs } = history.options;
    const [items, times, weights] = [this.#recentItems, this.#recentTimes, this.#recentWeights];
    let count = 0;
    // From behind: entries are roughly in the order of first touch, so the newest come first and few have to make room.
    for (let at = view.to - 1; at >= view.from; at -= 1) {
      const time = view.times[at]!;
      if (count === most && time <= times[count - 1]!) continue;
      let place = count < most ? count++ : count - 1;
      for (; place > 0 && times[place - 1]! < time; place -= 1) {
        times[place] = times[place - 1]!;
        items[place] = items[place - 1]!;
        weights[place] = weights[place - 1]!;
      }
      times[place] = time;
      items[place] = view.items[at]!;
      weights[place] = view.decayed[at]! * 2 ** ((time - nowMs) / halfLifeMs);
    }
    let squares = 0;
    for (let at = 0; at < count; at += 1) squares += weights[at]! * weights[at]!;
    if (!(squares > 0)) return undefined;
    const scale = 1 / Math.sqrt(squares);
    return {
      values: Array.from({ length: count }, (_, at) => catalog.items.id(items[at]!)),
      weights: Array.from({ length: count }, (_, at) => weights[at]! * scale),
    };
  }

  /** Values of facets that the user likes or passes over, strongest first; weights are ln L(user, value). */
  #liked({ user, nowMs }: ModelRequest, most: number): RawValue {
    if (user < 0) return undefined;
    const { responses } = this.#stores;
    responses.begin(user, nowMs);
    const [values, logs] = [this.#likedValues.subarray(0, most), this.#likedLogs.subarray(0, most)];
    const count = responses.likings(values, logs);
    return {
      values: Array.from({ length: count }, (_, at) => responses.facets.valueText(values[at]!)),
      weights: Array.from({ length: count }, (_, at) => logs[at]!),
    };
  }
}

function responseSignals(rows: number): ResponseSignals {
  const column = (): Float32Array => new Float32Array(rows);
  return { counting: column(), rate: column(), affinity: column(), again: column(), unproven: column() };
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  for (let at = 0; at < a.length; at += 1) if (a[at] !== b[at]) return false;
  return true;
}

/** A column into one of the columns of `signals`; missing where there is none. */
function spread(values: Float32Array | undefined, n: number, signals: Float32Array, column: number, width: number): void {
  for (let row = 0, at = column; row < n; row += 1, at += width) signals[at] = values === undefined ? Number.NaN : values[row]!;
}

/** The same of ln(1 + value / unit). */
function spreadLog(values: Float32Array | undefined, n: number, unit: number, signals: Float32Array, column: number, width: number): void {
  for (let row = 0, at = column; row < n; row += 1, at += width) signals[at] = values === undefined ? Number.NaN : Math.log1p(values[row]! / unit);
}

/** An attribute as a value of the field's kind. */
function attribute(kind: FieldDeclaration["kind"], value: string | number | boolean | readonly string[] | undefined): RawValue {
  if (value === undefined) return undefined;
  if (kind === "linear" || kind === "bucket") return typeof value === "boolean" ? Number(value) : typeof value === "number" ? value : undefined;
  if (typeof value === "object") return kind === "ids" ? value : undefined;
  return String(value);
}
