// Guards: a short request never waits for the whole of a long one, and a long one is never kept waiting for ever.

import assert from "node:assert/strict";
import { test } from "node:test";
import { WorkList } from "./work-list.ts";

class Pieces {
  left: number;
  readonly urgent: boolean;
  constructor(left: number, urgent = false) {
    this.left = left;
    this.urgent = urgent;
  }
}

/** Pieces done until `until` is finished. */
function piecesUntil(works: WorkList<Pieces>, until: Pieces, each: () => void = () => undefined): number {
  for (let pieces = 1; ; pieces++) {
    each();
    const work = works.next()!;
    work.left -= 1;
    if (work.left === 0) works.drop(work);
    if (until.left === 0) return pieces;
  }
}

test("promise: a request of one piece is done within two, whatever long ones are under way", () => {
  const works = new WorkList<Pieces>();
  for (let i = 0; i < 5; i++) works.add(new Pieces(100));
  for (let round = 0; round < 20; round++) {
    const short = new Pieces(1);
    works.add(short);
    assert.ok(piecesUntil(works, short) <= 2);
  }
});

test("an urgent request of two pieces is done within three, also beside shorter ones that came before", () => {
  const works = new WorkList<Pieces>();
  for (let i = 0; i < 5; i++) works.add(new Pieces(1));
  const urgent = new Pieces(2, true);
  works.add(urgent);
  assert.ok(piecesUntil(works, urgent) <= 3);
});

test("a long request ends although short ones come without end", () => {
  const works = new WorkList<Pieces>();
  const long = new Pieces(10);
  works.add(long);
  const pieces = piecesUntil(works, long, () => works.add(new Pieces(1, true)));
  assert.ok(pieces <= 40, `${pieces} pieces`);
});

test("nothing to do, and equals in the order in which they came", () => {
  const works = new WorkList<Pieces>();
  assert.equal(works.next(), undefined);
  const first = new Pieces(1);
  const second = new Pieces(1);
  works.add(first);
  works.add(second);
  assert.equal(works.next(), first);
  works.drop(first);
  assert.equal(works.next(), second);
  works.drop(second);
  works.drop(second);
  assert.equal(works.size, 0);
});
