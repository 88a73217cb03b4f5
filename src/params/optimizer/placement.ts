// Where the optimizer's state of a key lives among several workers.
//   by example   a worker keeps state of every key that its examples touch; no extra hop, a key may have state at each of them. Every worker sees its own gradients only.
//   by owner     a key's gradients all go to one worker, chosen by the key's hash: the same steps as with one worker, bit for bit, for the same order.
// Why FTRL needs an owner: it sets rows rather than adding to them, from the weights it knows. Two workers that set one row undo each other's steps; a row that only its
// owner writes is exact. (Sending what was set with the version it was computed from, and refusing it on mismatch, would need a conditional write of the tables, which they do not have.)
// Concurrency: none of its own. Limits: 256 workers by owner.

import { MillraceError } from "#base/errors";
import type { OptimizerKind } from "#kernel/optimizer-layout";
import { shardOf } from "#kernel/parameter-key";

export type Placement = { readonly by: "example" } | { readonly by: "owner"; readonly worker: number; readonly workers: number };

export const placementLimits = { workersMax: 256 } as const;

/** Throws `unsupported` for an optimizer that cannot be placed so, `invalid` for a placement that cannot be. */
export function checkPlacement(placement: Placement, kind: OptimizerKind): void {
  if (placement.by === "example") {
    if (kind !== "ftrl" && kind !== "group-ftrl") return;
    throw new MillraceError("unsupported", `the optimizer ${kind} on workers that share keys`, {
      todo: 'place it by key owner ({ by: "owner", worker, workers }, one worker too), or use adagrad, rowwise-adagrad, adam or sgd',
    });
  }
  const { worker, workers } = placement;
  if (Number.isInteger(workers) && workers >= 1 && workers <= placementLimits.workersMax && Number.isInteger(worker) && worker >= 0 && worker < workers) return;
  throw new MillraceError("invalid", `worker ${worker} of ${workers} key owners`, { todo: `number 1 to ${placementLimits.workersMax} workers from 0` });
}

/** The worker that owns a key: that of the shard it has in a table of as many shards. */
export function ownerOf(keyLow: number, keyHigh: number, workers: number): number {
  return shardOf(keyLow, keyHigh, workers);
}

/** A part of a batch that goes to one owner; arrays may be longer. */
export interface OwnedPart {
  count: number;
  keys: Uint32Array;
  /** As many numbers a key as were given: gradients, or gradients and weights. */
  rows: Float32Array;
}

/** Cuts batches of (key, row of `width` numbers) into a part an owner, in the order of the batch: what keeps the owners' sums those of one worker. */
export class OwnerRouter {
  readonly width: number;
  readonly #parts: readonly OwnedPart[];

  constructor(workers: number, width: number) {
    checkPlacement({ by: "owner", worker: 0, workers }, "sgd");
    this.width = width;
    this.#parts = Array.from({ length: workers }, () => ({ count: 0, keys: new Uint32Array(0), rows: new Float32Array(0) }));
  }

  /** A part for each owner, overwritten by the next call. */
  split(keys: Uint32Array, count: number, rows: Float32Array): readonly OwnedPart[] {
    const { width } = this;
    if (keys.length < 2 * count || rows.length < width * count) {
      throw new MillraceError("invalid", `${count} keys in ${keys.length} words with ${rows.length} numbers`, {
        todo: `give two words and ${width} numbers a key`,
      });
    }
    const parts = this.#parts;
    for (const part of parts) {
      part.count = 0;
      if (part.keys.length >= 2 * count) continue;
      part.keys = new Uint32Array(2 * count);
      part.rows = new Float32Array(width * count);
    }
    for (let i = 0; i < count; i++) {
      const low = keys[2 * i]!;
      const high = keys[2 * i + 1]!;
      const part = parts[ownerOf(low, high, parts.length)]!;
      const at = part.count++;
      part.keys[2 * at] = low;
      part.keys[2 * at + 1] = high;
      for (let j = 0; j < width; j++) part.rows[at * width + j] = rows[i * width + j]!;
    }
    return parts;
  }
}
