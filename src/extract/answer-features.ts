// What a model saw of one answer: the bytes that the `served` record carries, from which samples are made later.
// Format: docs/format/feature-record.md. Little-endian.
// Why with the answer and not worked out again at training time: what was known of a user has changed by then, and a model trained on features that were not
// there when the item was chosen learns from the future.
// Invariants: 1. decode checks every length before it believes it, throws `corrupt` and never reads beyond  2. what is decoded are views of the given bytes,
// nothing is copied but signals when they are asked for.
// Cost: about 1 us to decode an answer of 20 items.
// Limits: `featureLimits.answerItemsMax` items, `answerBytesMax` bytes; an answer beyond them has no features.

import { ByteReader } from "#base/byte-reader";
import { ByteWriter } from "#base/byte-writer";
import { MillraceError } from "#base/errors";
import { featureLimits } from "./declaration.ts";

const version = 1;

/** One item of an answer, in the order of places. */
export interface ItemFeatures {
  /** The item's document as a feature record. */
  readonly item: Uint8Array;
  /** One number for each of the extractor's signals; a copy of the reader's own. */
  readonly signals: Float32Array;
  /** The model's logit when it was served, at the first place; NaN: the model did not rank it. */
  readonly servedLogit: number;
  /** The counting model's logit of a click at the place it was shown at; NaN: unknown. */
  readonly countingLogit: number;
}

export interface AnswerFeatures {
  /** Of the extractor that wrote the records. */
  readonly extractorId: number;
  /** The user's feature record. */
  readonly user: Uint8Array;
  readonly items: readonly ItemFeatures[];
}

/** What `encodeAnswerFeatures` takes: arrays parallel to the items. */
export interface AnswerFeatureColumns {
  readonly extractorId: number;
  readonly user: Uint8Array;
  readonly items: readonly Uint8Array[];
  /** Numbers an item. */
  readonly signalCount: number;
  /** items x signalCount. */
  readonly signals: Float32Array;
  readonly servedLogits: Float32Array;
  readonly countingLogits: Float32Array;
}

/** The bytes, or `undefined` when they would pass the limits. */
export function encodeAnswerFeatures(answer: AnswerFeatureColumns): Uint8Array<ArrayBuffer> | undefined {
  const { items, signalCount } = answer;
  if (items.length > featureLimits.answerItemsMax) return undefined;
  const bytes = items.reduce((sum, item) => sum + item.length + 13 + signalCount * 4, answer.user.length + 20);
  if (bytes > featureLimits.answerBytesMax) return undefined;
  const out = new ByteWriter(bytes);
  out.u8(version);
  out.u32(answer.extractorId);
  out.block(answer.user);
  out.varint(signalCount);
  out.varint(items.length);
  for (let at = 0; at < items.length; at += 1) {
    out.block(items[at]!);
    out.f32(answer.servedLogits[at]!);
    out.f32(answer.countingLogits[at]!);
    for (let signal = 0; signal < signalCount; signal += 1) out.f32(answer.signals[at * signalCount + signal]!);
  }
  return out.since(0);
}

/** Reads the features of an answer. Throws `corrupt` for bytes that no writer made, `unsupported` for those of a newer version. */
export function decodeAnswerFeatures(bytes: Uint8Array): AnswerFeatures {
  const reader = new ByteReader(bytes, "features of an answer", "the record passed the log's checksum, so this is a defect to report");
  const found = reader.u8();
  if (found === 0) throw reader.damaged("version 0");
  if (found > version) {
    throw new MillraceError("unsupported", `features of an answer, version ${found}`, { todo: "use a newer millrace for this data folder" });
  }
  const extractorId = reader.u32();
  const user = reader.block();
  const signalCount = reader.varint();
  const count = reader.varint();
  if (signalCount > featureLimits.fieldsMax) throw reader.damaged("more signals than fields");
  if (count > featureLimits.answerItemsMax) throw reader.damaged("more items than an answer has");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const items: ItemFeatures[] = [];
  for (let at = 0; at < count; at += 1) {
    const item = reader.block();
    items.push(new StoredItem(view, item, reader.skip(8 + signalCount * 4), signalCount));
  }
  reader.end();
  return { extractorId, user, items };
}

class StoredItem implements ItemFeatures {
  readonly item: Uint8Array;
  readonly #view: DataView;
  readonly #at: number;
  readonly #signals: number;

  constructor(view: DataView, item: Uint8Array, at: number, signals: number) {
    this.#view = view;
    this.item = item;
    this.#at = at;
    this.#signals = signals;
  }

  get servedLogit(): number {
    return this.#view.getFloat32(this.#at, true);
  }

  get countingLogit(): number {
    return this.#view.getFloat32(this.#at + 4, true);
  }

  get signals(): Float32Array {
    const signals = new Float32Array(this.#signals);
    for (let signal = 0; signal < signals.length; signal += 1) signals[signal] = this.#view.getFloat32(this.#at + 8 + signal * 4, true);
    return signals;
  }
}
