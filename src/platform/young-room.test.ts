// Guards that the room of young objects stays small under a load that would grow it: the engine reads the factor at run time, which its documentation does not promise.

import assert from "node:assert/strict";
import { getHeapSpaceStatistics } from "node:v8";
import { test } from "node:test";
import { keepYoungRoom } from "./young-room.ts";

test("promise: the room of young objects does not grow under load", () => {
  const room = keepYoungRoom();
  // It may have been larger before: it is not made smaller.
  assert.ok(room >= 4 << 20, `${room} bytes`);
  const kept: object[][] = [];
  for (let round = 0; round < 2_000; round++) {
    kept.push(Array.from({ length: 1_000 }, (_, i) => ({ i, round })));
    if (kept.length > 50) kept.shift();
  }
  const { space_size } = getHeapSpaceStatistics().find(({ space_name }) => space_name === "new_space")!;
  assert.ok(space_size <= room, `${space_size} of ${room} bytes`);
});
