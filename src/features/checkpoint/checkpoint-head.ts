// The head of a checkpoint: which offset of the log its rows are of, what they must add up to, and the few numbers that stand in no row. JSON, so that a person can read
// it (`TGET activity.checkpoint head`).
// Invariant: nothing of it is believed before it was checked; a head of a newer format is `unsupported`.

import { MillraceError } from "#base/errors";
import { damagedState } from "./state-row.ts";

export const headFormat = 1;

export interface CheckpointHead {
  readonly format: typeof headFormat;
  /** Counts checkpoints. */
  readonly number: number;
  /** The rows hold every record of the log before it, and none from it on but those of `ahead`. */
  readonly offset: number;
  readonly atMs: number;
  /** Text that says by which declarations the rows were counted; others do not fit. */
  readonly fingerprint: string;
  /** Chunks that wait to be written to their rows; 0: the rows are complete. */
  readonly staged: number;
  /** Rows by table. */
  readonly rows: Readonly<Record<string, number>>;
  /** Handles by table: those of its rows are below. */
  readonly handles: Readonly<Record<string, number>>;
  /** Numbers that stand in no row, by name. */
  readonly numbers: Readonly<Record<string, number>>;
  /** Records from `offset` on that are counted already, by the ids that they carry. */
  readonly ahead: readonly string[];
}

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true });

export function encodeHead(head: CheckpointHead): Uint8Array {
  return encoder.encode(JSON.stringify(head));
}

/** Throws `corrupt`, or `unsupported` for a newer format. */
export function decodeHead(bytes: Uint8Array): CheckpointHead {
  let value: unknown;
  try {
    value = JSON.parse(decoder.decode(bytes));
  } catch {
    throw damagedState("its head is no JSON");
  }
  if (typeof value !== "object" || value === null) throw damagedState("its head is no object");
  const head = value as Partial<Record<keyof CheckpointHead, unknown>>;
  if (isCount(head.format) && head.format > headFormat) {
    throw new MillraceError("unsupported", `a checkpoint of the aggregations of format ${head.format}`, { todo: "use a newer millrace for this data folder" });
  }
  const { format, number, offset, atMs, fingerprint, staged, rows, handles, numbers, ahead } = head;
  const sound =
    format === headFormat &&
    isCount(number) &&
    isCount(offset) &&
    isCount(atMs) &&
    typeof fingerprint === "string" &&
    isCount(staged) &&
    isNumbers(rows) &&
    Object.values(rows).every(isCount) &&
    isNumbers(handles) &&
    Object.values(handles).every(isCount) &&
    isNumbers(numbers) &&
    Array.isArray(ahead) &&
    ahead.every((id) => typeof id === "string");
  if (!sound) throw damagedState("its head is not whole");
  return { format, number, offset, atMs, fingerprint, staged, rows, handles, numbers, ahead: ahead };
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function isNumbers(value: unknown): value is Readonly<Record<string, number>> {
  return typeof value === "object" && value !== null && Object.values(value).every((one) => typeof one === "number");
}
