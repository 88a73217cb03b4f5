// A collection as a Map with exact search by loops: what the real one is compared with.

import assert from "node:assert/strict";
import type { Filter } from "../filter/filter.ts";
import type { CollectionShape } from "../vector-service.ts";

export interface PlainRow {
  /** As stored: of length 1 under cosine. */
  readonly vector: Float32Array;
  readonly norm: number;
  attributes: string | undefined;
}

export class PlainCollection {
  readonly rows = new Map<string, PlainRow>();
  readonly shape: CollectionShape;

  constructor(shape: CollectionShape) {
    this.shape = shape;
  }

  get size(): number {
    return this.rows.size;
  }

  copy(): PlainCollection {
    const other = new PlainCollection(this.shape);
    for (const [element, row] of this.rows) other.rows.set(element, { ...row });
    return other;
  }

  upsert(element: string, given: Float32Array, attributes: string | undefined): boolean {
    const before = this.rows.get(element);
    const norm = this.shape.metric === "cosine" ? Math.hypot(...given) : 1;
    const vector = given.map((value) => value / norm);
    const kept = attributes ?? before?.attributes;
    this.rows.set(element, { vector, norm, attributes: kept === "" ? undefined : kept });
    return before === undefined;
  }

  remove(element: string): boolean {
    return this.rows.delete(element);
  }

  setAttributes(element: string, attributes: string): boolean {
    const row = this.rows.get(element);
    if (row === undefined) return false;
    row.attributes = attributes === "" ? undefined : attributes;
    return true;
  }

  scoreOf(element: string, query: Float32Array): number {
    const { vector } = this.rows.get(element)!;
    let [product, distance, squares] = [0, 0, 0];
    for (let j = 0; j < vector.length; j++) {
      product += query[j]! * vector[j]!;
      distance += (query[j]! - vector[j]!) ** 2;
      squares += query[j]! * query[j]!;
    }
    const { metric } = this.shape;
    return metric === "l2" ? distance : metric === "ip" ? product : product / Math.sqrt(squares);
  }

  /** Best scores, best first. */
  bestScores(query: Float32Array, count: number, filter?: Filter): number[] {
    const scores: number[] = [];
    for (const [element, { attributes }] of this.rows) if (filter === undefined || filter.passes(attributes)) scores.push(this.scoreOf(element, query));
    scores.sort((a, b) => (this.shape.metric === "l2" ? a - b : b - a));
    return scores.slice(0, count);
  }

  /** Throws when the answers are not those of exact search, but for rounding. */
  check(query: Float32Array, count: number, elements: readonly string[], scores: Float32Array, filter?: Filter): void {
    const best = this.bestScores(query, count, filter);
    assert.equal(elements.length, best.length, "number of answers");
    assert.equal(new Set(elements).size, elements.length, "an element is answered twice");
    elements.forEach((element, i) => {
      const row = this.rows.get(element);
      assert.ok(row !== undefined, `${element} is not there`);
      assert.ok(filter === undefined || filter.passes(row.attributes), `${element} does not pass`);
      const near = 1e-5 * Math.max(1, Math.abs(best[i]!), ...[0, -1].map((at) => Math.abs(best.at(at)!)));
      assert.ok(Math.abs(scores[i]! - best[i]!) <= near, `answer ${i}: ${scores[i]} where exact search says ${best[i]}`);
      assert.ok(Math.abs(this.scoreOf(element, query) - scores[i]!) <= near, `${element} has another score`);
    });
  }
}
