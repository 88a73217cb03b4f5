// Quotas of models on one parameter server: rows, bytes and requests a second, so that one model cannot starve another.
// Why at the door and not by queues: a request over its quota is refused in a microsecond and costs the others nothing; a queue would hold their loop's memory.
// Rates are token buckets with a second's worth of room: a request is let in while its bucket is not empty, and may take it below zero by its own size, so that a
// batch larger than the rate gets through at times and the mean holds all the same.
// Rows and bytes are those of the model's tables together; a push over them is refused as a whole, since nobody knows beforehand which of its keys are new. A model
// can stand above its quota by what was pushed at once, or after the quota was lowered: then deletes and pulls go on.
// Invariants: 1. what one model does changes no other model's buckets  2. a refused request takes nothing  3. a model without quotas is never refused here.
// Cost: a look-up and a few additions a request. Concurrency: one loop. Limits: quotasMax models.

import { MillraceError, RateError } from "#base/errors";
import { parameterLimits } from "#wire/parameter-limits";
import type { ModelQuota, QuotaName, QuotaState } from "#wire/parameter-models-api";

export type RequestKind = "pull" | "push" | "delete";

/** What a model's tables hold now. */
export interface ModelUsage {
  readonly rows: number;
  readonly bytes: number;
}

const bytesOfMb = 2 ** 20;

/** Tokens that come by the clock, at most a second's worth. */
class Bucket {
  readonly perS: number;
  #tokens: number;
  #atMs: number;

  constructor(perS: number, nowMs: number) {
    this.perS = perS;
    this.#tokens = perS;
    this.#atMs = nowMs;
  }

  /** 0: it may be taken from. Else milliseconds until then. */
  waitMs(nowMs: number): number {
    this.#tokens = Math.min(this.perS, this.#tokens + ((nowMs - this.#atMs) / 1_000) * this.perS);
    this.#atMs = nowMs;
    return this.#tokens > 0 ? 0 : Math.max(1, Math.ceil((-this.#tokens / this.perS) * 1_000));
  }

  take(tokens: number): void {
    this.#tokens -= tokens;
  }
}

interface Kept {
  readonly quota: ModelQuota;
  readonly pulled: Bucket | undefined;
  readonly pushed: Bucket | undefined;
  readonly asked: Bucket | undefined;
  requests: number;
  pulledRows: number;
  pushedRows: number;
  readonly refused: Record<QuotaName, number>;
}

export interface ModelQuotasOptions {
  /** Of the clock that is handed in. */
  readonly monotonicMs: () => number;
  readonly usageOf: (model: string) => ModelUsage;
}

export class ModelQuotas {
  readonly #options: ModelQuotasOptions;
  readonly #kept = new Map<string, Kept>();

  constructor(options: ModelQuotasOptions) {
    this.#options = options;
  }

  /** Sets a model's quotas; its buckets begin full. Throws `invalid` for a quota that is none. */
  set(model: string, quota: ModelQuota): void {
    for (const [name, value] of Object.entries(quota) as [QuotaName, number | undefined][]) {
      if (value === undefined || (Number.isFinite(value) && value > 0)) continue;
      throw new MillraceError("invalid", `the quota ${name} of model ${model} is ${value}`, { todo: "give a number above 0, or leave it out" });
    }
    if (!this.#kept.has(model) && this.#kept.size >= parameterLimits.modelsMax) {
      throw new MillraceError("overloaded", `${parameterLimits.modelsMax} models have quotas`, { todo: "take one away" });
    }
    const nowMs = this.#options.monotonicMs();
    const bucket = (perS: number | undefined): Bucket | undefined => (perS === undefined ? undefined : new Bucket(perS, nowMs));
    this.#kept.set(model, {
      quota,
      pulled: bucket(quota.pulledRowsPerS),
      pushed: bucket(quota.pushedRowsPerS),
      asked: bucket(quota.requestsPerS),
      requests: 0,
      pulledRows: 0,
      pushedRows: 0,
      refused: { rows: 0, bytesMb: 0, pulledRowsPerS: 0, pushedRowsPerS: 0, requestsPerS: 0 },
    });
  }

  /** Lets a request of `rows` rows in and counts it. Throws `overloaded` when the model is over one of its quotas; the message says which, and what to do. */
  admit(model: string, kind: RequestKind, rows: number): void {
    const kept = this.#kept.get(model);
    if (kept === undefined) return;
    const nowMs = this.#options.monotonicMs();
    const { asked, pulled, pushed } = kept;
    this.#checkRate(model, kept, "requestsPerS", asked, "requests", nowMs);
    if (kind === "pull") this.#checkRate(model, kept, "pulledRowsPerS", pulled, "rows pulled", nowMs);
    if (kind === "push") {
      this.#checkHeld(model, kept);
      this.#checkRate(model, kept, "pushedRowsPerS", pushed, "rows pushed", nowMs);
    }
    asked?.take(1);
    kept.requests++;
    if (kind === "pull") {
      pulled?.take(rows);
      kept.pulledRows += rows;
    } else if (kind === "push") {
      pushed?.take(rows);
      kept.pushedRows += rows;
    }
  }

  /** Of all models with quotas, by name. */
  states(): QuotaState[] {
    return Array.from(this.#kept, ([model, { quota, requests, pulledRows, pushedRows, refused }]) => ({
      model,
      quota,
      requests,
      pulledRows,
      pushedRows,
      refused: { ...refused },
    })).toSorted((a, b) => (a.model < b.model ? -1 : 1));
  }

  #checkHeld(model: string, kept: Kept): void {
    const { rows, bytesMb } = kept.quota;
    if (rows === undefined && bytesMb === undefined) return;
    const held = this.#options.usageOf(model);
    if (rows !== undefined && held.rows >= rows) {
      kept.refused.rows++;
      throw new MillraceError("overloaded", `model ${model} holds ${held.rows} rows, its quota is ${rows}`, {
        todo: `delete rows of it, let them expire, or raise parameters.models.${model}.quota.rows; pulls and deletes go on`,
      });
    }
    if (bytesMb !== undefined && held.bytes >= bytesMb * bytesOfMb) {
      kept.refused.bytesMb++;
      throw new MillraceError("overloaded", `model ${model} holds ${Math.floor(held.bytes / bytesOfMb)} MiB, its quota is ${bytesMb}`, {
        todo: `delete rows of it, let them expire, or raise parameters.models.${model}.quota.bytesMb; pulls and deletes go on`,
      });
    }
  }

  #checkRate(model: string, kept: Kept, name: QuotaName, bucket: Bucket | undefined, what: string, nowMs: number): void {
    const waitMs = bucket?.waitMs(nowMs) ?? 0;
    if (waitMs === 0) return;
    kept.refused[name]++;
    throw new RateError(
      `model ${model} is over its quota of ${bucket!.perS} ${what} a second`,
      `send again in ${waitMs} ms, or raise parameters.models.${model}.quota.${name}`,
    );
  }
}
