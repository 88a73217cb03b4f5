// Guards the quality that the replay promises, through the real intake, features, pipelines and model. Needs the purchase log beside the project
// (../shared/data/online-retail, or MILLRACE_DATA); takes some minutes, so it runs whole only with MILLRACE_LONG=1.

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { defaultReplayModel, runReplay } from "#roles/replay";

const folder = process.env["MILLRACE_DATA"] ?? fileURLToPath(new URL("../../shared/data/online-retail", import.meta.url));
const path = `${folder}/online-retail.csv.gz`;
const skip = !existsSync(path)
  ? `no purchase log at ${path}: set MILLRACE_DATA to its folder`
  : process.env["MILLRACE_LONG"] === undefined
    ? "takes minutes: set MILLRACE_LONG=1"
    : false;

test(
  "promise: live recall@20 is at least 1.08 times the strongest baseline, of new things 1.18 times, and the preset is the best of the models",
  { skip },
  async () => {
    const { total, models } = await runReplay({
      path,
      refresh: "live",
      version: "test",
      onProgress: () => undefined,
      signal: new AbortController().signal,
    });
    assert.ok(total.recall! >= 1.08 * total.baselines.ownHistory!, `recall@20 ${total.recall}, own history + decayed popularity ${total.baselines.ownHistory}`);
    assert.ok(
      total.novelRecall! >= 1.18 * total.novelBaselines.decayedPopularity!,
      `novel ${total.novelRecall}, decayed popularity ${total.novelBaselines.decayedPopularity}`,
    );
    const worth = ({ recall, novelRecall }: (typeof models)[number]): number =>
      recall! / total.baselines.ownHistory! + novelRecall! / total.novelBaselines.decayedPopularity!;
    assert.equal(models[0]!.name, defaultReplayModel);
    for (const model of models) {
      // Pauses of a busy machine and the order of log writes move a figure by some thousandths.
      assert.ok(worth(model) <= 1.01 * worth(models[0]!), `${model.name} is better than what the preset does: ${worth(model)} and ${worth(models[0]!)}`);
      assert.equal(model.shortLists, 0, model.name);
      assert.equal(model.boughtInNovelLists, 0, model.name);
    }
  },
);
