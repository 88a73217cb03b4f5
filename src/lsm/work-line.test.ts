// A line's thread ends where it rests, and only there.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Simulation } from "#platform/simulation";
import type { Workers } from "#platform/workers";
import { WorkLine } from "./work-line.ts";

test("a line that rests ends its thread, works again for the next job, and does not rest while one waits", async () => {
  const simulation = new Simulation({ seed: 1 });
  await simulation.run(async () => {
    const node = simulation.node("a");
    await node.run(async () => {
      let started = 0;
      const workers: Workers = {
        start: (...given) => {
          started += 1;
          return node.workers.start(...given);
        },
      };
      const line = new WorkLine(workers, "line");
      line.rest();
      assert.deepEqual(await line.do({ kind: "collect" }), { files: [] });
      assert.equal(started, 1, "nothing was there to end");
      await line.do({ kind: "collect" });
      assert.equal(started, 1, "it stays between jobs");
      line.rest();
      await line.do({ kind: "collect" });
      assert.equal(started, 1, "one waited");
      line.rest();
      await node.clock.sleep(1_000);
      await line.do({ kind: "collect" });
      assert.equal(started, 2);
      line.rest();
      await line.stop();
      await line.stop();
    });
  });
});
