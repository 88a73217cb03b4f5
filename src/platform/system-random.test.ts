// Guards that ids do not collide and can be repeated from a seed where they must.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Prng } from "#base/prng";
import { randomId, systemRandom } from "./system-random.ts";

test("ids are long, in the alphabet and never the same", () => {
  const ids = new Set(Array.from({ length: 10_000 }, () => randomId(systemRandom)));
  assert.equal(ids.size, 10_000);
  for (const id of ids) assert.match(id, /^[0-9a-hjkmnp-tv-z]{26}$/);
  assert.equal(randomId(systemRandom, 8).length, 8);
  assert.equal(new Set([...ids].join("")).size, 32);
});

test("ids of a seeded source are repeated", () => {
  assert.equal(randomId(new Prng(1)), randomId(new Prng(1)));
  assert.notEqual(randomId(new Prng(1)), randomId(new Prng(2)));
});
