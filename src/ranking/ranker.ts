// Ranker: the computation behind every scorer, as tasks that are done in pieces of about half a millisecond.
// Why pieces: a search over a million vectors takes ten milliseconds; a ranking request that comes meanwhile must not wait for it (work-list.ts chooses).
// Invariants: 1. pieces of one task may be interleaved with those of others: nothing of a task lives in the memory's lane between two pieces
// 2. the answer of a task is the same however it is cut, up to the changes that the model makes meanwhile.
// Cost: `score` 0.3-2 us a candidate; `search` reads the whole block (live-vectors.ts).
// Concurrency: one thread, its own lane of the model's memory.

import { SlotRows } from "#extract/slot-rows";
import type { TopK } from "#kernel/dot-top-k";
import type { LiveVectors, VectorScan } from "#vectors/live-vectors";

/** What of a live model ranks. */
export interface RankingModel {
  readonly machine: {
    score(user: SlotRows, items: SlotRows, logits: Float32Array): void;
    /** Writes the query of a user for the vectors, at least `vectors.dims` numbers; returns what the logit has besides. */
    query(user: SlotRows, into: Float32Array): number;
  };
  readonly vectors: LiveVectors;
}

export interface RankingTask {
  /** Pieces left, about. */
  readonly left: number;
  /** Does the next piece; true when the task is done. */
  advance(): boolean;
}

/** Candidates of one piece: some 0.1 to 0.5 ms. */
const pieceRows = 256;
/** Bytes of vectors of one piece: 0.3 to 0.6 ms at 8 to 15 GB/s. */
const pieceBytes = 4 << 20;

/** Logits of candidates, a part of them in each piece. */
export class ScoreTask implements RankingTask {
  readonly #model: RankingModel;
  readonly #user: SlotRows;
  readonly #items: SlotRows;
  readonly #logits: Float32Array;
  readonly #part = new SlotRows(0, 0);
  #next = 0;

  constructor(model: RankingModel, user: SlotRows, items: SlotRows, logits: Float32Array) {
    this.#model = model;
    this.#user = user;
    this.#items = items;
    this.#logits = logits;
  }

  get left(): number {
    return Math.ceil((this.#items.rows - this.#next) / pieceRows);
  }

  advance(): boolean {
    const items = this.#items;
    const from = this.#next;
    const to = Math.min(items.rows, from + pieceRows);
    if (from === 0 && to === items.rows) {
      if (to > 0) this.#model.machine.score(this.#user, items, this.#logits);
    } else {
      const part = this.#part;
      const first = items.offsets[from]!;
      const end = items.offsets[to]!;
      part.rows = to - from;
      part.offsets = items.offsets.slice(from, to + 1);
      part.linearEnds = items.linearEnds.slice(from, to);
      for (let row = 0; row <= part.rows; row++) part.offsets[row]! -= first;
      for (let row = 0; row < part.rows; row++) part.linearEnds[row]! -= first;
      part.keys = items.keys.subarray(2 * first, 2 * end);
      part.weights = items.weights.subarray(first, end);
      this.#model.machine.score(this.#user, part, this.#logits.subarray(from, to));
    }
    this.#next = to;
    return to === items.rows;
  }
}

/** The items of the largest logits, or of the largest cosines, a part of the vectors in each piece. */
export class SearchTask implements RankingTask {
  readonly #vectors: LiveVectors;
  readonly #scan: VectorScan | undefined;
  readonly #pieceRows: number;
  readonly #shift: number;
  #next = 0;

  private constructor(vectors: LiveVectors, scan: VectorScan | undefined, shift: number) {
    this.#vectors = vectors;
    this.#scan = scan;
    this.#pieceRows = Math.max(1, Math.floor(pieceBytes / (vectors.stride * 4)));
    this.#shift = shift;
  }

  /** The largest logits for a user. */
  static forUser(model: RankingModel, user: SlotRows, k: number): SearchTask {
    const { vectors } = model;
    const query = new Float32Array(vectors.stride);
    const shift = model.machine.query(user, query);
    return new SearchTask(vectors, vectors.scan("dot", query.subarray(0, vectors.dims), k), shift);
  }

  /** The largest cosines to an item, itself left out; none for an item without a vector. */
  static like(model: RankingModel, item: number, k: number): SearchTask {
    const { vectors } = model;
    const row = new Float32Array(vectors.dims);
    if (!vectors.read(item, row)) return new SearchTask(vectors, undefined, 0);
    return new SearchTask(vectors, vectors.scan("cosine", row.subarray(0, vectors.cosineDims), k, item), 0);
  }

  get left(): number {
    return this.#scan === undefined ? 1 : Math.ceil((this.#vectors.rowCount - this.#next) / this.#pieceRows);
  }

  advance(): boolean {
    this.#next += this.#pieceRows;
    return this.#scan?.advance(this.#pieceRows) ?? true;
  }

  /** Writes the answers to `into`; returns it. */
  answers(into: TopK): TopK {
    into.size = 0;
    this.#scan?.answers(into);
    for (let i = 0; i < into.size; i++) into.scores[i]! += this.#shift;
    return into;
  }
}
