// Guards that a batch whose keys repeat is never taken for one of distinct keys: then a command would not see what another one of the batch wrote.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Prng } from "#base/prng";
import { DistinctKeys } from "./distinct-keys.ts";

test(`promise: a key that comes twice is never taken for distinct; different keys nearly always are (SEED=${process.env["SEED"] ?? "distinct"})`, () => {
  const random = new Prng(process.env["SEED"] ?? "distinct");
  const distinct = new DistinctKeys();
  let wrong = 0;
  for (let batch = 0; batch < 2_000; batch++) {
    distinct.begin();
    const seen = new Set<string>();
    for (let i = 0; i < 64; i++) {
      const name = `key:${random.below(5_000)}`;
      const bytes = Buffer.from(`..${name}..`);
      const isNew = distinct.add(bytes, 2, bytes.length - 2);
      if (seen.has(name)) assert.equal(isNew, false);
      else if (!isNew) wrong++;
      seen.add(name);
    }
  }
  assert.ok(wrong <= 2, `${wrong} of 128,000 keys were taken for others`);
  distinct.begin();
  for (let i = 0; i < 600; i++) assert.equal(distinct.add(Buffer.from(String(i)), 0, String(i).length), i < 512);
});
