// The extractor: one declaration, compiled once, by which raw values become bytes (what is logged) and bytes become slots (what a model reads).
//   raw values --encode--> feature record --slots--> rows of (key, x)
// Why through bytes even in serving: slots are only ever made from the bytes that are logged, so training sees what was served, bit for bit, with no second
// code path that could differ. Format and key arithmetic: docs/format/feature-record.md.
// Keys: hash of the value's bytes as they lie in the record, seeded with the field's number (1.. in order of declaration, then the crosses; 0 is the bias): nothing is
// copied in front of the value. A cross mixes the two keys of its values. Equal keys of different values (2^-64 a pair) share a parameter; that is accepted.
// Invariants: 1. the same bytes give the same slots, in every thread and process  2. user part + candidate part hold the slots of the joined row
// 3. bytes that no `encode` made are `corrupt` or read as some values, never beyond their end and never in more steps than the declaration allows
// 4. a number that is missing (NaN), not finite or 0 gives no slot, others are cut to +-numberMax; an empty text gives no slot.
// Cost: about 60-90 ns a slot with its hash.
// Concurrency: one object a thread (it holds scratch).
// Limits: `featureLimits` of declaration.ts.

import { ByteWriter } from "#base/byte-writer";
import { MillraceError } from "#base/errors";
import { hashKey, KeyHasher, keySeed } from "#kernel/key-hash";
import { CrossValues } from "./cross-values.ts";
import { checkDeclaration, type ExtractorDeclaration, featureLimits, type FieldDeclaration, type FieldPart, partOf, slotsMaxOf } from "./declaration.ts";
import { type SlotRows } from "./slot-rows.ts";

export { type CrossDeclaration, type ExtractorDeclaration, featureLimits, type FieldDeclaration } from "./declaration.ts";

/** Texts with their weights, parallel. */
export interface WeightedList {
  readonly values: readonly string[];
  readonly weights: readonly number[];
}

/** A text, texts of equal weight (1 / sqrt(n) each), texts with weights, a number; `undefined` (or what does not fit the field's kind): missing. */
export type RawValue = string | number | readonly string[] | WeightedList | undefined;

/** Version of the feature record and of the key arithmetic; enters the extractor's id. */
const formatVersion = 1;

interface CompiledField {
  readonly name: string;
  readonly kind: FieldDeclaration["kind"];
  readonly part: FieldPart;
  readonly linearOnly: boolean;
  readonly max: number;
  readonly bounds: Float32Array;
  /** id, ids: hashes of values. */
  readonly hasher: KeyHasher;
  /** linear: its one key; bucket: a key each. Low, high. */
  readonly keys: Uint32Array;
  /** Is it part of a cross? Crossed fields of a side are numbered as they come. */
  readonly crossed: boolean;
  /** signal: column among `signalNames`. */
  readonly signal: number;
}

interface CompiledCross {
  /** Number among the crossed fields of the user's side. */
  readonly user: number;
  /** Number among the crossed fields of the item's document, -1 for a signal. */
  readonly item: number;
  readonly signal: CompiledField | undefined;
  readonly seedLow: number;
  readonly seedHigh: number;
}

const nothing = new Uint8Array(0);

export class Extractor {
  readonly declaration: ExtractorDeclaration;
  /** Of the declaration (without `initial`): says for which extractor bytes were written. u32. */
  readonly id: number;
  /** Fields of the user record, in its order: what `encodeUser` takes values of. */
  readonly userFields: readonly FieldDeclaration[];
  /** Fields of the item record, in its order. */
  readonly itemFields: readonly FieldDeclaration[];
  /** NAMEs of `signal.NAME`, each once, in order of first declaration: the columns of signals. */
  readonly signalNames: readonly string[];
  /** Slots of a user part, of an item's document, and of a candidate (document, signals, crosses) at most. */
  readonly userSlotsMax: number;
  readonly itemSlotsMax: number;
  readonly candidateSlotsMax: number;
  readonly #user: readonly CompiledField[];
  readonly #position: readonly CompiledField[];
  readonly #item: readonly CompiledField[];
  readonly #signal: readonly CompiledField[];
  readonly #crosses: readonly CompiledCross[];
  readonly #bias: Uint32Array;
  readonly #userCross: CrossValues;
  readonly #itemCross: CrossValues;
  readonly #out = new ByteWriter(1_024);
  #view: DataView = new DataView(nothing.buffer);
  /** Place of the next field in `#view`. */
  #at = 0;

  private constructor(declaration: ExtractorDeclaration) {
    const { fields, crosses = [], initialBias } = declaration;
    this.declaration = {
      fields: fields.map((field) => ({ ...field })),
      crosses: crosses.map((cross) => ({ ...cross })),
      ...(initialBias === undefined ? {} : { initialBias }),
    };
    this.id = idOf(this.declaration);
    this.signalNames = [...new Set(fields.filter((field) => partOf(field) === "signal").map(signalName))];
    const crossedNames = new Set(crosses.flatMap(({ cross }) => [...cross]));
    const compiled = fields.map((field, index) => compileField(field, index + 1, crossedNames.has(field.name), this.signalNames));
    const of = (part: FieldPart): CompiledField[] => compiled.filter((field) => field.part === part);
    this.#user = of("user");
    this.#position = of("position");
    this.#item = of("item");
    this.#signal = of("signal");
    this.userFields = fields.filter((field) => partOf(field) === "user");
    this.itemFields = fields.filter((field) => partOf(field) === "item");
    this.#bias = fixedKey(0, nothing);
    const crossedUser = this.#user.filter(({ crossed }) => crossed);
    const crossedItem = this.#item.filter(({ crossed }) => crossed);
    const byName = new Map(fields.map((field) => [field.name, field]));
    this.#crosses = crosses.map(({ cross: [user, item] }, index) => {
      const [seedLow, seedHigh] = fixedKey(fields.length + 1 + index, nothing);
      return {
        user: crossedUser.findIndex(({ name }) => name === user),
        item: crossedItem.findIndex(({ name }) => name === item),
        signal: this.#signal.find(({ name }) => name === item),
        seedLow: seedLow!,
        seedHigh: seedHigh!,
      };
    });
    const slots = (list: readonly CompiledField[]): number => list.reduce((sum, { max }) => sum + max, 0);
    this.#userCross = new CrossValues(crossedUser.length, slots(crossedUser));
    this.#itemCross = new CrossValues(crossedItem.length, slots(crossedItem));
    this.userSlotsMax = 1 + slots(this.#user) + slots(this.#position);
    this.itemSlotsMax = slots(this.#item);
    this.candidateSlotsMax =
      this.itemSlotsMax +
      slots(this.#signal) +
      crosses.reduce((sum, { cross: [user, item] }) => sum + slotsMaxOf(byName.get(user)!) * slotsMaxOf(byName.get(item)!), 0);
  }

  /** Throws `invalid` for a declaration that cannot work, naming the field. */
  static compile(declaration: ExtractorDeclaration): Extractor {
    checkDeclaration(declaration);
    return new Extractor(declaration);
  }

  /** The bytes of a user's record; values parallel to `userFields`. The bytes are the caller's. */
  encodeUser(values: readonly RawValue[]): Uint8Array<ArrayBuffer> {
    return this.#encode(this.#user, values);
  }

  /** The bytes of an item's document; values parallel to `itemFields`. */
  encodeItem(values: readonly RawValue[]): Uint8Array<ArrayBuffer> {
    return this.#encode(this.#item, values);
  }

  /** Keys and weights of the bias and the linear fields that begin with a weight: for the model's `assignLinear`. */
  initialWeights(): { keys: Uint32Array; weights: Float32Array } {
    const { fields, initialBias } = this.declaration;
    const begun = fields.flatMap(({ initial }, index) => (initial === undefined ? [] : [{ number: index + 1, initial }]));
    // The bias is field 0.
    if (initialBias !== undefined) begun.unshift({ number: 0, initial: initialBias });
    return {
      keys: Uint32Array.from(begun.flatMap(({ number }) => [...fixedKey(number, nothing)])),
      weights: Float32Array.from(begun, ({ initial }) => initial),
    };
  }

  /** Room for the crossed values of one user. */
  userCrossValues(): CrossValues {
    return new CrossValues(this.#userCross.ends.length - 1, this.#userCross.weights.length);
  }

  /** Room for the crossed values of one item. */
  itemCrossValues(): CrossValues {
    return new CrossValues(this.#itemCross.ends.length - 1, this.#itemCross.weights.length);
  }

  /** One row: bias, the user's slots and those of the place in the answer (NaN: unknown). Throws `corrupt`, and adds no row then. */
  userSlots(bytes: Uint8Array, position: number, into: SlotRows, cross: CrossValues = this.#userCross): void {
    this.#addUser(bytes, position, into, cross);
    into.endRow();
  }

  /** One row: the slots of an item's document. Throws `corrupt`, and adds no row then. */
  itemSlots(bytes: Uint8Array, into: SlotRows, cross: CrossValues = this.#itemCross): void {
    this.addItem(bytes, into, cross);
    into.endRow();
  }

  /** Slots of an item's document into the open row. Throws `corrupt`, and drops what the open row held then. */
  addItem(bytes: Uint8Array, into: SlotRows, cross: CrossValues = this.#itemCross): void {
    this.#addRecord("item", this.#item, bytes, into, cross);
  }

  /** Slots of signals into the open row; columns of `signalNames` from `at` on. */
  addSignals(signals: Float32Array, at: number, into: SlotRows): void {
    for (const field of this.#signal) this.#addNumber(field, signals[at + field.signal]!, into, undefined);
  }

  /** Slots of all crosses into the open row. The item's values begin at `endsAt` in `itemEnds`, its keys and weights at value `valuesAt`: items lie in blocks there. */
  addCrosses(
    user: CrossValues,
    itemEnds: Uint32Array,
    endsAt: number,
    itemKeys: Uint32Array,
    itemWeights: Float32Array,
    valuesAt: number,
    signals: Float32Array,
    signalsAt: number,
    into: SlotRows,
  ): void {
    for (const cross of this.#crosses) {
      const from = user.ends[cross.user]!;
      const to = user.ends[cross.user + 1]!;
      const { signal } = cross;
      if (signal !== undefined) {
        const bucket = bucketOf(signal.bounds, signals[signalsAt + signal.signal]!);
        if (bucket < 0) continue;
        const low = signal.keys[2 * bucket]!;
        const high = signal.keys[2 * bucket + 1]!;
        for (let at = from; at < to; at += 1) addPair(cross, user.keys[2 * at]!, user.keys[2 * at + 1]!, low, high, user.weights[at]!, into);
        continue;
      }
      const itemFrom = valuesAt + itemEnds[endsAt + cross.item]!;
      const itemTo = valuesAt + itemEnds[endsAt + cross.item + 1]!;
      for (let value = itemFrom; value < itemTo; value += 1) {
        const low = itemKeys[2 * value]!;
        const high = itemKeys[2 * value + 1]!;
        const weight = itemWeights[value]!;
        for (let at = from; at < to; at += 1) addPair(cross, user.keys[2 * at]!, user.keys[2 * at + 1]!, low, high, user.weights[at]! * weight, into);
      }
    }
  }

  /** One full row of a sample: what a user part at `position` and a candidate part hold together. Throws `corrupt`, and adds no row then. */
  sampleSlots(userBytes: Uint8Array, position: number, itemBytes: Uint8Array, signals: Float32Array, into: SlotRows): void {
    if (signals.length < this.signalNames.length) {
      throw damaged("signals", `${signals.length} of ${this.signalNames.length}`);
    }
    this.#addUser(userBytes, position, into, this.#userCross);
    const item = this.#itemCross;
    this.addItem(itemBytes, into, item);
    this.addSignals(signals, 0, into);
    this.addCrosses(this.#userCross, item.ends, 0, item.keys, item.weights, 0, signals, 0, into);
    into.endRow();
  }

  #addUser(bytes: Uint8Array, position: number, into: SlotRows, cross: CrossValues): void {
    into.addLinear(this.#bias[0]!, this.#bias[1]!, 1);
    this.#addRecord("user", this.#user, bytes, into, cross);
    for (const field of this.#position) this.#addNumber(field, Math.fround(position), into, undefined);
  }

  /** Reads a record into the open row; on `corrupt` the open row is dropped. */
  #addRecord(what: string, fields: readonly CompiledField[], bytes: Uint8Array, into: SlotRows, cross: CrossValues): void {
    if (this.#view.buffer !== bytes.buffer) this.#view = new DataView(bytes.buffer);
    const view = this.#view;
    const end = bytes.byteOffset + bytes.length;
    this.#at = bytes.byteOffset;
    cross.begin();
    for (let index = 0; index < fields.length; index += 1) {
      const field = fields[index]!;
      const crossInto = field.crossed ? cross : undefined;
      if (
        field.kind === "id"
          ? !this.#id(field, view, end, into, crossInto)
          : field.kind === "ids"
            ? !this.#ids(field, view, end, into, crossInto)
            : this.#at + 4 > end
      ) {
        into.dropRow();
        throw damaged(what, `field "${field.name}" is cut or too long`);
      }
      if (field.kind === "linear" || field.kind === "bucket") {
        this.#addNumber(field, view.getFloat32(this.#at, true), into, crossInto);
        this.#at += 4;
      }
      if (crossInto !== undefined) crossInto.endField();
    }
    if (this.#at !== end) {
      into.dropRow();
      throw damaged(what, `${end - this.#at} bytes left over`);
    }
  }

  #id(field: CompiledField, view: DataView, end: number, into: SlotRows, cross: CrossValues | undefined): boolean {
    const length = this.#length(view, end, featureLimits.valueBytesMax);
    if (length < 0 || this.#at + length > end) return false;
    if (length === 0) return true;
    const { hasher } = field;
    hasher.hash(view, this.#at, this.#at + length);
    this.#at += length;
    if (field.linearOnly) into.addLinear(hasher.low, hasher.high, 1);
    else into.addFull(hasher.low, hasher.high, 1);
    if (cross !== undefined) cross.add(hasher.low, hasher.high, 1);
    return true;
  }

  #ids(field: CompiledField, view: DataView, end: number, into: SlotRows, cross: CrossValues | undefined): boolean {
    const count = this.#length(view, end, field.max);
    if (count < 0) return false;
    const { hasher, linearOnly } = field;
    const mark = linearOnly ? into.linearMark : into.fullMark;
    for (let value = 0; value < count; value += 1) {
      const length = this.#length(view, end, featureLimits.valueBytesMax);
      if (length < 0 || this.#at + length + 4 > end) return false;
      const from = this.#at;
      this.#at = from + length + 4;
      const weight = bounded(view.getFloat32(from + length, true));
      if (length === 0 || weight === 0) continue;
      hasher.hash(view, from, from + length);
      if (linearOnly) into.sumLinear(mark, hasher.low, hasher.high, weight);
      else into.sumFull(mark, hasher.low, hasher.high, weight);
      if (cross !== undefined) cross.add(hasher.low, hasher.high, weight);
    }
    return true;
  }

  /** The varint at the place, -1 when it is cut or above `most`. */
  #length(view: DataView, end: number, most: number): number {
    let value = 0;
    for (let shift = 0; shift < 21 && this.#at < end; shift += 7) {
      const byte = view.getUint8(this.#at++);
      value |= (byte & 127) << shift;
      if (byte < 128) return value <= most ? value : -1;
    }
    return -1;
  }

  #addNumber(field: CompiledField, value: number, into: SlotRows, cross: CrossValues | undefined): void {
    const { keys } = field;
    if (field.kind === "linear") {
      const x = bounded(value);
      if (x !== 0) into.addLinear(keys[0]!, keys[1]!, x);
      return;
    }
    const bucket = bucketOf(field.bounds, value);
    if (bucket < 0) return;
    const low = keys[2 * bucket]!;
    const high = keys[2 * bucket + 1]!;
    if (field.linearOnly) into.addLinear(low, high, 1);
    else into.addFull(low, high, 1);
    if (cross !== undefined) cross.add(low, high, 1);
  }

  #encode(fields: readonly CompiledField[], values: readonly RawValue[]): Uint8Array<ArrayBuffer> {
    const out = this.#out;
    out.clear();
    for (let index = 0; index < fields.length; index += 1) {
      const value = values[index];
      const field = fields[index]!;
      if (field.kind === "id") out.string(typeof value === "string" && fits(value) ? value : "");
      else if (field.kind === "ids") encodeList(field.max, value, out);
      else out.f32(typeof value === "number" && Number.isFinite(value) ? bounded(value) : Number.NaN);
    }
    return out.since(0).slice();
  }
}

/** A text that takes a slot: longer ones count as missing. */
function fits(text: string): boolean {
  return text.length > 0 && text.length <= featureLimits.valueCharactersMax;
}

function encodeList(max: number, value: RawValue, out: ByteWriter): void {
  const weighted = typeof value === "object" && "weights" in value;
  const texts: readonly string[] = typeof value === "string" ? [value] : typeof value === "object" ? (weighted ? value.values : value) : [];
  const weights = weighted ? value.weights : undefined;
  let count = 0;
  for (let at = 0; at < texts.length && count < max; at += 1) if (fits(texts[at]!) && usable(weights, at)) count += 1;
  out.varint(count);
  const equal = 1 / Math.sqrt(count);
  for (let at = 0; at < texts.length && count > 0; at += 1) {
    if (!fits(texts[at]!) || !usable(weights, at)) continue;
    out.string(texts[at]!);
    out.f32(weights === undefined ? equal : bounded(weights[at]!));
    count -= 1;
  }
}

function usable(weights: readonly number[] | undefined, at: number): boolean {
  return weights === undefined || (Number.isFinite(weights[at]) && weights[at] !== 0);
}

/** Cut to the limit; 0 for what is not finite. */
function bounded(value: number): number {
  const most = featureLimits.numberMax;
  return value > most
    ? value === Number.POSITIVE_INFINITY
      ? 0
      : most
    : value < -most
      ? value === Number.NEGATIVE_INFINITY
        ? 0
        : -most
      : value === value
        ? value
        : 0;
}

/** Number of bounds <= value; -1 for what is not finite. */
function bucketOf(bounds: Float32Array, value: number): number {
  if (!Number.isFinite(value)) return -1;
  let bucket = 0;
  while (bucket < bounds.length && value >= bounds[bucket]!) bucket += 1;
  return bucket;
}

/** The slot of a pair: each half a mix of the halves of both keys, so that a pair costs no hash of its bytes. */
function addPair(cross: CompiledCross, userLow: number, userHigh: number, itemLow: number, itemHigh: number, weight: number, into: SlotRows): void {
  const low = mix32(userLow + Math.imul(itemLow, 0x9e3779b1) + cross.seedLow);
  const high = mix32(userHigh + Math.imul(itemHigh, 0x85ebca77) + cross.seedHigh);
  into.addLinear(low, high, bounded(weight));
}

/** The finisher of MurmurHash3 (Appleby, 2008): a bijection of 32 bits. */
function mix32(value: number): number {
  let z = value | 0;
  z = Math.imul(z ^ (z >>> 16), 0x85ebca6b);
  z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35);
  return (z ^ (z >>> 16)) >>> 0;
}

/** Key of `value` in the field of that number: low, high. */
function fixedKey(fieldNumber: number, value: Uint8Array): Uint32Array {
  const key = hashKey(value, keySeed(BigInt(fieldNumber)));
  return Uint32Array.of(Number(key & 0xffffffffn), Number(key >> 32n));
}

function bucketKeys(fieldNumber: number, buckets: number): Uint32Array {
  const keys = new Uint32Array(buckets * 2);
  const value = new Uint8Array(4);
  for (let bucket = 0; bucket < buckets; bucket += 1) {
    new DataView(value.buffer).setUint32(0, bucket, true);
    keys.set(fixedKey(fieldNumber, value), bucket * 2);
  }
  return keys;
}

function signalName(field: FieldDeclaration): string {
  return field.from.slice("signal.".length);
}

function compileField(field: FieldDeclaration, fieldNumber: number, crossed: boolean, signalNames: readonly string[]): CompiledField {
  const bounds = Float32Array.from(field.bounds ?? []);
  const part = partOf(field);
  return {
    name: field.name,
    kind: field.kind,
    part,
    linearOnly: field.linearOnly === true,
    max: slotsMaxOf(field),
    bounds,
    hasher: new KeyHasher(keySeed(BigInt(fieldNumber))),
    keys: field.kind === "bucket" ? bucketKeys(fieldNumber, bounds.length + 1) : fixedKey(fieldNumber, nothing),
    crossed,
    signal: part === "signal" ? signalNames.indexOf(signalName(field)) : -1,
  };
}

function idOf({ fields, crosses = [] }: ExtractorDeclaration): number {
  const text = JSON.stringify([
    formatVersion,
    fields.map((field) => [field.name, field.from, field.kind, slotsMaxOf(field), [...Float32Array.from(field.bounds ?? [])], field.linearOnly === true]),
    crosses.map(({ name, cross }) => [name, ...cross]),
  ]);
  return fixedKey(formatVersion, new TextEncoder().encode(text))[0]!;
}

function damaged(what: string, how: string): MillraceError {
  return new MillraceError("corrupt", `feature record of the ${what}: ${how}`, {
    todo: "the bytes were made by another declaration or are damaged: compare extractor ids first",
  });
}
