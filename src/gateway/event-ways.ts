// The way of an event, told to those who watch a user: logged -> counted -> learned -> vector moved, each with its milliseconds since the receipt.
// Why: a person who clicks wants to see what the click did; and the same figures are the histograms event_to_parameter and event_to_vector.
// Invariants: 1. nobody watching, nothing is worked out for an event, but for one event in `sampleEvery` whose times go into the histograms  2. a stage that does
// not come within `stageMsMax` is not told  3. a watcher that throws is dropped.
// Limits: `watchersMax` watchers; `underWayMax` events followed at a time, further ones are not.

import { MillraceError } from "#base/errors";
import type { Clock } from "#platform/clock";
import type { WayStep } from "#wire/live-api";
import type { EventRecord } from "#features/activity-record";
import { type Learning, reached } from "./learning.ts";
import type { GatewayMetrics } from "./metrics.ts";

export const wayLimits = { watchersMax: 64, underWayMax: 256, stageMsMax: 2_000, sampleEvery: 16 } as const;

/** What can be asked about a user and an item before and after an event; a number that is not known is undefined. */
export interface WayProbe {
  /** How much more the user takes of the item's kind than everybody; 1 = as everybody. */
  liking(user: string, item: string): number | undefined;
  /** The model's chance of a click by the features as served. */
  chance(recommendationId: string, item: string): number | undefined;
  /** A copy of the item's live vector. */
  vector(item: string): Float32Array | undefined;
}

export interface EventWaysOptions {
  readonly clock: Clock;
  readonly probe: WayProbe;
  readonly learning: Learning | undefined;
  readonly metrics: GatewayMetrics;
}

/** What was asked before the event counted. */
interface Before {
  readonly liking: number | undefined;
  readonly chance: number | undefined;
  readonly vector: Float32Array | undefined;
}

/** An event on its way; the intake tells its stages. */
export interface Way {
  logged(): void;
  /** Counted; `nextOffset` is the log offset behind its batch. */
  counted(nextOffset: number): void;
}

type Tell = (step: WayStep) => void;

export class EventWays {
  readonly #options: EventWaysOptions;
  readonly #watchers = new Map<string, Set<Tell>>();
  #watching = 0;
  #underWay = 0;
  #events = 0;

  constructor(options: EventWaysOptions) {
    this.#options = options;
  }

  /** Tells every stage of the user's events from now on; the answer ends it. */
  watch(user: string, tell: Tell): () => void {
    if (this.#watching >= wayLimits.watchersMax) {
      throw new MillraceError("overloaded", `${wayLimits.watchersMax} watchers of users, the most`, { todo: "close pages that nobody looks at" });
    }
    this.#watching += 1;
    const tells = this.#watchers.get(user) ?? new Set<Tell>();
    this.#watchers.set(user, tells.add(tell));
    return () => {
      if (!tells.delete(tell)) return;
      this.#watching -= 1;
      if (tells.size === 0 && this.#watchers.get(user) === tells) this.#watchers.delete(user);
    };
  }

  /** Begins to follow an event before it is logged; undefined for one that nobody follows. */
  begin(record: EventRecord, receivedMs: number): Way | undefined {
    this.#events += 1;
    const tells = this.#watchers.get(record.user);
    const sampled =
      this.#options.learning?.positiveTypes.includes(record.type) === true && record.recommendationId !== "" && this.#events % wayLimits.sampleEvery === 0;
    if ((tells === undefined && !sampled) || this.#underWay >= wayLimits.underWayMax) return undefined;
    const { probe } = this.#options;
    const before: Before | undefined =
      tells === undefined
        ? undefined
        : {
            liking: probe.liking(record.user, record.item),
            chance: probe.chance(record.recommendationId, record.item),
            vector: probe.vector(record.item),
          };
    const sinceMs = (): number => this.#options.clock.monotonicMs() - receivedMs;
    const tell = (stage: WayStep["stage"], ms: number, detail: string, was?: number, is?: number): void => {
      if (tells === undefined) return;
      const step: WayStep = {
        event: record.id === "" ? `${record.type} ${record.atMs}` : record.id,
        type: record.type,
        item: record.item,
        stage,
        ms: Math.round(ms * 100) / 100,
        detail,
        ...(was === undefined ? {} : { before: was }),
        ...(is === undefined ? {} : { after: is }),
      };
      for (const one of tells) {
        try {
          one(step);
        } catch {
          tells.delete(one);
          this.#watching -= 1;
        }
      }
    };
    return {
      logged: () => tell("logged", sinceMs(), "acknowledged by the log"),
      counted: (nextOffset) => {
        const liking = before === undefined ? undefined : probe.liking(record.user, record.item);
        const moved = liking === undefined ? "counted" : `your liking of its kind is ${times(before?.liking)}, now ${times(liking)}`;
        tell("feature", sinceMs(), moved, before?.liking, liking);
        void this.#learned(record, nextOffset, sinceMs, before, tell);
      },
    };
  }

  /** Waits for the stages behind counting. Never throws. */
  async #learned(
    record: EventRecord,
    nextOffset: number,
    sinceMs: () => number,
    before: Before | undefined,
    tell: (stage: WayStep["stage"], ms: number, detail: string, was?: number, is?: number) => void,
  ): Promise<void> {
    const { learning, probe, metrics, clock } = this.#options;
    if (learning === undefined || record.recommendationId === "" || !learning.positiveTypes.includes(record.type)) return;
    this.#underWay += 1;
    try {
      if (learning.trainer.status().state !== "learning") return;
      if (!(await reached(learning.signals, "trained", nextOffset, wayLimits.stageMsMax, clock))) return;
      const parameterMs = sinceMs();
      metrics.eventToParameter(parameterMs);
      if (before !== undefined) {
        const was = before.chance;
        const is = was === undefined ? undefined : probe.chance(record.recommendationId, record.item);
        tell(
          "parameter",
          parameterMs,
          is === undefined ? "read by the trainer; no answer in memory showed you this item" : `the model gave it ${percent(was)}, now ${percent(is)}`,
          was,
          is,
        );
      }
      if (!(await reached(learning.signals, "vectors", nextOffset, wayLimits.stageMsMax, clock))) return;
      const vectorMs = sinceMs();
      metrics.eventToVector(vectorMs);
      if (before === undefined) return;
      const now = probe.vector(record.item);
      const angle = before.vector === undefined || now === undefined ? undefined : degreesBetween(before.vector, now);
      tell("vector", vectorMs, angle === undefined ? "the item has no vector yet" : `the item's vector turned by ${angle.toFixed(2)}°`, 0, angle);
    } catch {
      // Telling the way must never cost an event anything.
    } finally {
      this.#underWay -= 1;
    }
  }
}

function times(lift: number | undefined): string {
  return lift === undefined ? "not known" : `×${lift.toFixed(2)}`;
}

function percent(chance: number | undefined): string {
  return chance === undefined ? "no chance known" : `${(100 * chance).toFixed(1)} %`;
}

/** The angle between two vectors of equal length, degrees; 0 where one has no length. */
function degreesBetween(a: Float32Array, b: Float32Array): number {
  let dot = 0;
  let aa = 0;
  let bb = 0;
  for (let i = 0; i < a.length; i += 1) {
    dot += a[i]! * b[i]!;
    aa += a[i]! * a[i]!;
    bb += b[i]! * b[i]!;
  }
  return aa === 0 || bb === 0 ? 0 : (Math.acos(Math.min(1, Math.max(-1, dot / Math.sqrt(aa * bb)))) * 180) / Math.PI;
}
