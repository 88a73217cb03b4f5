// Guards that simulated time keeps what the machine's clock keeps, and the reverse.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";
import { clockContract } from "./clock.contract.ts";
import { Simulation } from "./simulation.ts";
import { systemClock } from "./system-clock.ts";

clockContract("the machine", (body) => body(systemClock));

clockContract("simulated", async (body) => {
  const simulation = new Simulation({ seed: process.env["SEED"] ?? 1 });
  await simulation.run(() => body(simulation.node("a").clock));
});

test("a background timer does not keep the process alive, another one does", () => {
  const run = (options: string): string =>
    execFileSync(
      process.execPath,
      [
        "--input-type=module",
        "-e",
        `const { systemClock } = await import(${JSON.stringify(new URL("./system-clock.ts", import.meta.url).href)}); systemClock.after(50, () => console.log("fired"), ${options});`,
      ],
      { encoding: "utf8" },
    );
  assert.equal(run("{ background: true }"), "");
  assert.equal(run("{}"), "fired\n");
});
