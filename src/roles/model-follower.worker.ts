// The thread of a followed model: joins the live model, takes its rows from where they are trained, keeps the item vectors. Wiring only.

import { warmKernels } from "#kernel/kernels";
import { LiveModel, modelLane } from "#models/live-model";
import { FollowedModel } from "#models/model-sync";
import type { WorkerBody } from "#platform/workers";
import { runFollowerLoop } from "#training/follower-loop";
import { ItemVectors } from "#training/item-vectors";
import { extractorOf } from "./model-parts.ts";
import { modelSyncOptionsOf } from "./model-syncing.ts";
import type { TrainerThreadData } from "./training.ts";

const body: WorkerBody = async ({ port, clock, data, signal }) => {
  const { config, ticket, sync } = data as TrainerThreadData;
  const live = LiveModel.attach(ticket, modelLane.trainer);
  warmKernels("parameters");
  const vectors = new ItemVectors(live);
  const options = modelSyncOptionsOf(config, sync!, live, extractorOf(config), clock);
  const model = new FollowedModel(options, sync!.follow!, (keys, count) => vectors.moved(keys, count));
  await runFollowerLoop({ model, machine: live.machine, vectors, clock, report: (report) => port.send(report), signal });
};

export default body;
