// Guards that a command which reads or changes what a server made leaves a folder that is none as it was, and says so.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { exportParameters, importParameters } from "#roles/parameter-exchange";

const program = fileURLToPath(new URL("../../bin/millrace.js", import.meta.url));

test("promise: a data folder that is not there is not found, and not made", async () => {
  const folder = await mkdtemp(join(tmpdir(), "millrace-none-"));
  const data = join(folder, "none");
  try {
    for (const args of [
      ["params", "models"],
      ["params", "rollback", "ctr"],
      ["snapshots", "list"],
    ]) {
      const { code, said } = await new Promise<{ code: number; said: string }>((resolve) => {
        execFile(process.execPath, [program, ...args, "--data", data], (failure, out, error) =>
          resolve({ code: failure === null ? 0 : Number(failure.code), said: out + error }),
        );
      });
      assert.equal(code, 1, args.join(" "));
      assert.match(said, /\[not-found\] there is no data folder .*none: name the one of a server/, args.join(" "));
    }
    for (const step of [exportParameters, importParameters]) {
      const call = (): Promise<never> => assert.fail("nothing is asked of the server");
      await assert.rejects(step({ call, dataFolder: data, table: "users", folder: join(folder, "export") }), { code: "not-found", message: /no data folder/ });
    }
    assert.equal(existsSync(data), false);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});
