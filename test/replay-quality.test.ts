// Guards the quality that the replay promises, through the real intake, features and pipelines. Needs the purchase log beside the project
// (../shared/data/online-retail, or MILLRACE_DATA); takes some minutes, so it runs whole only with MILLRACE_LONG=1.

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { runReplay } from "#roles/replay";

const folder = process.env["MILLRACE_DATA"] ?? fileURLToPath(new URL("../../shared/data/online-retail", import.meta.url));
const path = `${folder}/online-retail.csv.gz`;
const skip = !existsSync(path)
  ? `no purchase log at ${path}: set MILLRACE_DATA to its folder`
  : process.env["MILLRACE_LONG"] === undefined
    ? "takes minutes: set MILLRACE_LONG=1"
    : false;

test("promise: live recall@20 is at least 1.07 times the strongest baseline, of new things 1.15 times", { skip }, async () => {
  const { total, shortLists, boughtInNovelLists } = await runReplay({
    path,
    refresh: "live",
    version: "test",
    onProgress: () => undefined,
    signal: new AbortController().signal,
  });
  assert.ok(total.recall! >= 1.07 * total.baselines.ownHistory!, `recall@20 ${total.recall}, own history + decayed popularity ${total.baselines.ownHistory}`);
  assert.ok(
    total.novelRecall! >= 1.15 * total.novelBaselines.decayedPopularity!,
    `novel ${total.novelRecall}, decayed popularity ${total.novelBaselines.decayedPopularity}`,
  );
  assert.equal(shortLists, 0);
  assert.equal(boughtInNovelLists, 0);
});
