// A joined sample: one item of one answer with the features of the moment it was served, and whether it was wanted. Format: docs/format/sample-record.md.
// Why the raw feature bytes and not slots: the extractor of tomorrow may hash, bucket or cross differently; the raw values stay true.
// Invariants: 1. decode(encode(s)) = s bit for bit  2. decode checks every length, refuses bytes left over (`corrupt`) and newer versions (`unsupported`).
// Cost: about 60 bytes beside the features.

import { ByteReader } from "#base/byte-reader";
import type { ByteWriter } from "#base/byte-writer";
import { MillraceError } from "#base/errors";
import { readF32s, writeF32s } from "./number-lists.ts";

export const sampleVersion = 1;

export interface JoinedSample {
  readonly recommendationId: string;
  readonly user: string;
  readonly item: string;
  /** Place in the answer, from 0. */
  readonly position: number;
  readonly label: 0 | 1;
  /** Share of negatives that were kept when this one was joined, in (0, 1]. Stands in positives too: it corrects their logit as well. */
  readonly rate: number;
  /** When the answer was given. */
  readonly atMs: number;
  /** Time of the records at which the sample came to be: when the action was read, or the window closed. Never falls from sample to sample. */
  readonly clockMs: number;
  /** Of the declaration that wrote the feature bytes. */
  readonly extractorId: number;
  /** Feature record of user and context, without the position (docs/format/feature-record.md). */
  readonly userBytes: Uint8Array;
  /** Feature record of the item. */
  readonly itemBytes: Uint8Array;
  /** Numbers of this user and item together. */
  readonly signals: Float32Array;
  /** Logit by which the model ranked it then; NaN when it did not. */
  readonly servedLogit: number;
  /** Logit of the counting model then; NaN when there was none. */
  readonly countingLogit: number;
}

/** Writes one sample. */
export function encodeSample(sample: JoinedSample, into: ByteWriter): void {
  into.u8(sampleVersion);
  into.u8(sample.label);
  into.u32(sample.extractorId);
  into.f64(sample.rate);
  into.f64(sample.atMs);
  into.f64(sample.clockMs);
  into.f32(sample.servedLogit);
  into.f32(sample.countingLogit);
  into.varint(sample.position);
  into.string(sample.recommendationId);
  into.string(sample.user);
  into.string(sample.item);
  into.block(sample.userBytes);
  into.block(sample.itemBytes);
  writeF32s(into, sample.signals);
}

/** Reads one sample; its feature bytes are views of `bytes`. */
export function decodeSample(bytes: Uint8Array): JoinedSample {
  const reader = new ByteReader(bytes, "sample record", "write the sample file again (millrace samples)");
  const version = reader.u8();
  if (version > sampleVersion) throw new MillraceError("unsupported", `sample record of version ${version}`, { todo: "use a newer millrace for this file" });
  if (version === 0) throw reader.damaged("version is 0");
  const label = reader.u8();
  if (label !== 0 && label !== 1) throw reader.damaged(`label ${label}`);
  const extractorId = reader.u32();
  const rate = reader.f64();
  if (!(rate > 0 && rate <= 1)) throw reader.damaged("the rate of kept negatives is not in (0, 1]");
  const sample: JoinedSample = {
    label,
    extractorId,
    rate,
    atMs: reader.f64(),
    clockMs: reader.f64(),
    servedLogit: reader.f32(),
    countingLogit: reader.f32(),
    position: reader.varint(),
    recommendationId: reader.string(),
    user: reader.string(),
    item: reader.string(),
    userBytes: reader.block(),
    itemBytes: reader.block(),
    signals: readF32s(reader),
  };
  reader.end();
  return sample;
}
