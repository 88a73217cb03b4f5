// Remembers the last answers by their recommendation id, so that later events can be joined to the answer that showed the item.
// Ids read `r-INCARNATION-SEQUENCE`: the sequence (base 36) is the place in a ring, the whole id is compared, so nothing is hashed and the bound is
// exact. A new process has a new incarnation, since answers are not acknowledged to be in the log before they are given.
// Invariants: 1. at most `capacity` answers  2. an id that is not remembered is `undefined`, never a wrong answer.
// The features by which a model ranked an answer are kept for the newest `featuresMax` answers: that is what `POST /v1/score` and the way of an event read.
// Cost: about 200 bytes an answer of 20 items, and some kilobytes for one whose features are kept.

import type { RowMarks } from "#features/checkpoint/row-marks";
import type { StateTable } from "#features/checkpoint/stored-state";

export interface Served {
  readonly recommendationId: string;
  readonly pipeline: string;
  readonly user: number;
  readonly items: Uint32Array;
  readonly atMs: number;
  /** As in the log (src/extract/answer-features.ts). */
  readonly features?: Uint8Array;
}

/** Answers whose features are kept. */
export const featuresMax = 2_048;

export class ServedMemory {
  readonly #ring: (Served | undefined)[];
  readonly #incarnation: string;
  #next = 0;
  #held = 0;
  /** In the order of their answers: a Map keeps it. */
  readonly #features = new Map<string, Uint8Array>();
  #featuresBytes = 0;
  #marks: RowMarks | undefined;

  /** `incarnation`: letters and digits, new for each process. */
  constructor(capacity: number, incarnation: string) {
    this.#ring = Array.from({ length: capacity }, () => undefined);
    this.#incarnation = incarnation;
  }

  nextId(): string {
    return `r-${this.#incarnation}-${(this.#next++).toString(36)}`;
  }

  add(served: Served): void {
    const place = this.#placeOf(served.recommendationId);
    if (place === undefined) return;
    this.#marks?.touch(place);
    if (this.#ring[place] === undefined) this.#held += 1;
    const { features, ...answer } = served;
    this.#ring[place] = answer;
    if (features !== undefined) this.#keep(served.recommendationId, features);
  }

  /** The features of one of the newest answers. */
  featuresOf(recommendationId: string): Uint8Array | undefined {
    return this.#features.get(recommendationId);
  }

  find(recommendationId: string): Served | undefined {
    const place = this.#placeOf(recommendationId);
    const served = place === undefined ? undefined : this.#ring[place];
    return served?.recommendationId === recommendationId ? served : undefined;
  }

  /** As a table: a row for each place of the ring. The features are not kept. */
  get stored(): Omit<StateTable, "name" | "marks"> {
    return {
      handles: () => this.#ring.length,
      keyOf: (place) => String(place),
      parts: [
        {
          columns: { answer: { type: "string" }, pipeline: { type: "string" }, user: { type: "i64" }, items: { type: "bytes" }, at: { type: "f64" } },
          follow: (marks) => {
            this.#marks = marks;
          },
          save: (place, row) => {
            const { recommendationId, pipeline, user, items, atMs } = this.#ring[place]!;
            row.text("answer", recommendationId);
            row.text("pipeline", pipeline);
            row.whole("user", user);
            row.list("items", items, 0, items.length);
            row.f64("at", atMs);
          },
          load: (place, row) => {
            const recommendationId = row.text("answer");
            if (this.#placeOf(recommendationId) !== place) throw row.damaged("an answer in the place of another");
            const served = { recommendationId, pipeline: row.text("pipeline"), user: row.whole("user"), items: row.u32s("items").slice(), atMs: row.f64("at") };
            if (this.#ring[place] === undefined) this.#held += 1;
            this.#ring[place] = served;
          },
        },
      ],
    };
  }

  get bytes(): number {
    return this.#ring.length * 8 + this.#held * 200 + this.#featuresBytes;
  }

  #keep(recommendationId: string, features: Uint8Array): void {
    this.#features.set(recommendationId, features);
    this.#featuresBytes += features.length;
    if (this.#features.size <= featuresMax) return;
    const [oldest, bytes] = this.#features.entries().next().value!;
    this.#features.delete(oldest);
    this.#featuresBytes -= bytes.length;
  }

  #placeOf(recommendationId: string): number | undefined {
    const dash = recommendationId.lastIndexOf("-");
    const sequence = Number.parseInt(recommendationId.slice(dash + 1), 36);
    return dash < 0 || !Number.isSafeInteger(sequence) || sequence < 0 ? undefined : sequence % this.#ring.length;
  }
}
