// Remembers event ids, so that a retried event is counted once.
// Why two generations: forgetting must be bounded in memory and cheap; when the young generation is full it becomes the old one and the old one is
// dropped, so the last `idsPerGeneration` to twice as many ids are known.
// Invariants: 1. ids are compared whole  2. an id that is on its way into the log is `pending`: a second sender waits for the same outcome and is
// answered `duplicate` only when the first is in the log.
// Cost: about 100 bytes an id. Cut into 256 parts by the id's last characters: a native Set doubles itself in one go, small parts stay below 0.3 ms.

import { partCount, partOf } from "#base/part-of";
import { decodeTexts, encodeTexts, keyNumber, pieceTexts } from "#features/checkpoint/handle-list";
import type { StateList } from "#features/checkpoint/stored-state";
import { damagedState } from "#features/checkpoint/state-row";

/** Ids that no checkpoint has yet, in the order in which they came. */
interface Unsaved {
  readonly generation: number;
  /** Place of the first one in its generation. */
  readonly from: number;
  readonly ids: string[];
}

function parts(): Set<string>[] {
  return Array.from({ length: partCount }, () => new Set<string>());
}

export class EventDedupe {
  readonly #idsPerGeneration: number;
  #young = parts();
  #old = parts();
  #youngCount = 0;
  #oldCount = 0;
  #generation = 0;
  /** Undefined: nobody keeps them. */
  #unsaved: Unsaved[] | undefined;
  /** Keys of pieces by generation. */
  readonly #pieces = new Map<number, string[]>();
  readonly #pending = new Map<string, Promise<unknown>>();

  constructor(idsPerGeneration: number) {
    this.#idsPerGeneration = idsPerGeneration;
  }

  /** Counted before? */
  has(id: string): boolean {
    const part = partOf(id);
    return this.#young[part]!.has(id) || this.#old[part]!.has(id);
  }

  /** The outcome of an id that is on its way, `undefined` when none is. */
  pending(id: string): Promise<unknown> | undefined {
    return this.#pending.get(id);
  }

  begin(ids: readonly string[], outcome: Promise<unknown>): void {
    for (const id of ids) this.#pending.set(id, outcome);
  }

  /** The ids are no longer on their way, in the log or not. */
  end(ids: readonly string[]): void {
    for (const id of ids) this.#pending.delete(id);
  }

  /** Remembers an id that is in the log. */
  add(id: string): void {
    const part = this.#young[partOf(id)]!;
    if (part.has(id)) return;
    part.add(id);
    if (this.#unsaved !== undefined) this.#note(this.#unsaved, id);
    this.#youngCount += 1;
    if (this.#youngCount < this.#idsPerGeneration) return;
    this.#generation += 1;
    this.#old = this.#young;
    this.#oldCount = this.#youngCount;
    this.#young = parts();
    this.#youngCount = 0;
  }

  get size(): number {
    return this.#youngCount + this.#oldCount;
  }

  /** Estimate. */
  get bytes(): number {
    return this.size * 100;
  }

  /** Which generation is the young one: stands in no list. */
  get generation(): number {
    return this.#generation;
  }
  set generation(generation: number) {
    this.#generation = generation;
  }

  /** From now on ids are kept for checkpoints. Ids added before are not: call it before the first, or after a checkpoint was loaded. */
  follow(): void {
    this.#unsaved ??= [];
  }

  /** The ids as lists, a piece or more for each checkpoint; pieces of a generation go with it. `generation` must be loaded before. */
  get stored(): StateList {
    return {
      name: "ids",
      cut: () => {
        const taken = this.#unsaved ?? [];
        if (this.#unsaved !== undefined) this.#unsaved = [];
        const oldest = this.#generation - 1;
        const pieces: { key: string; bytes: () => Uint8Array; generation: number }[] = [];
        for (const { generation, from, ids } of taken) {
          if (generation < oldest) continue;
          for (let at = 0; at < ids.length; at += pieceTexts) {
            const key = `ids/${keyNumber(generation)}/${keyNumber(from + at)}`;
            pieces.push({ key, generation, bytes: () => encodeTexts(ids.slice(at, at + pieceTexts)) });
          }
        }
        const gone = [...this.#pieces.keys()].filter((generation) => generation < oldest);
        return {
          pieces,
          deleted: gone.flatMap((generation) => this.#pieces.get(generation)!),
          done: () => {
            for (const { key, generation } of pieces) this.#notePiece(generation, key);
            for (const generation of gone) this.#pieces.delete(generation);
          },
          giveUp: () => {
            if (this.#unsaved !== undefined) this.#unsaved = [...taken, ...this.#unsaved];
          },
        };
      },
      load: (key, bytes) => {
        const generation = Number(key.split("/")[1]);
        if (!Number.isSafeInteger(generation) || generation > this.#generation) throw damagedState(`ids of generation ${key.slice(0, 64)}`);
        this.#notePiece(generation, key);
        if (generation < this.#generation - 1) return;
        const isYoung = generation === this.#generation;
        const into = isYoung ? this.#young : this.#old;
        const ids = decodeTexts(bytes);
        for (const id of ids) into[partOf(id)]!.add(id);
        if (isYoung) this.#youngCount += ids.length;
        else this.#oldCount += ids.length;
      },
    };
  }

  #note(unsaved: Unsaved[], id: string): void {
    const last = unsaved.at(-1);
    // What follows a checkpoint stands in lists of its own, so that those taken by it never change.
    if (last?.generation === this.#generation) last.ids.push(id);
    else unsaved.push({ generation: this.#generation, from: this.#youngCount, ids: [id] });
  }

  #notePiece(generation: number, key: string): void {
    const keys = this.#pieces.get(generation);
    if (keys === undefined) this.#pieces.set(generation, [key]);
    else keys.push(key);
  }
}
