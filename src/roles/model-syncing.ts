// What a thread that holds a synchronised model needs beside it. One place, so that leader and follower name the same model alike.

import { Prng } from "#base/prng";
import type { Extractor } from "#extract/extractor";
import type { ModelConfig } from "#gateway/index";
import type { LiveModel } from "#models/live-model";
import { modelNodeName, type ModelSyncOptions } from "#models/model-sync";
import type { Clock } from "#platform/clock";
import { systemNetwork } from "#platform/system-network";
import { systemRandom } from "#platform/system-random";
import type { ModelSyncing } from "./training.ts";

export function modelSyncOptionsOf(
  config: ModelConfig,
  { node, token }: ModelSyncing,
  { machine }: LiveModel,
  { id }: Extractor,
  clock: Clock,
): ModelSyncOptions {
  return {
    machine,
    name: modelNodeName(id, config),
    node,
    network: systemNetwork,
    clock,
    random: new Prng(new DataView(systemRandom.bytes(new Uint8Array(8)).buffer).getBigUint64(0)),
    ...(token === undefined ? {} : { token }),
  };
}
