// One served answer with its logged features, out of its log record.
// Invariant: items and features belong together place by place, checked before anything is believed.

import { MillraceError } from "#base/errors";
import { type AnswerFeatures, decodeAnswerFeatures } from "#extract/answer-features";
import { decodeRecord, type ServedRecord } from "#features/activity-record";

export interface ServedAnswer {
  readonly record: ServedRecord;
  readonly features: AnswerFeatures;
}

/** The features of an answer; `undefined` when it has none. Throws `corrupt` (also when they are not of these items), `unsupported`. */
export function featuresOf(record: ServedRecord): AnswerFeatures | undefined {
  if (record.features === undefined) return undefined;
  const features = decodeAnswerFeatures(record.features);
  if (features.items.length !== record.items.length) {
    throw new MillraceError("corrupt", `an answer of ${record.items.length} items with features of ${features.items.length}`, {
      todo: "the record passed the log's checksum, so this is a defect to report",
    });
  }
  return features;
}

/** An answer out of the bytes of its record, which has been looked at before: anything but an answer with features is `corrupt`. */
export function openAnswer(bytes: Uint8Array): ServedAnswer {
  const record = decodeRecord(bytes);
  const features = record.kind === "served" ? featuresOf(record) : undefined;
  if (record.kind === "served" && features !== undefined) return { record, features };
  throw new MillraceError("corrupt", "the log's record of an answer is not the one that was read before", { todo: "restore the data folder from a copy" });
}
