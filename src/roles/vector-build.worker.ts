// One build of a vector task, as a process: its rows, its version. What it tells is its progress, at last what came of it.

import type { WorkerBody } from "#platform/workers";
import type { BuildProgress, BuiltVersion } from "#vectors/builder/version-config";
import { buildVectorTask, type VectorBuildOptions } from "./vector-build.ts";

export type VectorBuildMessage = { readonly progress: BuildProgress } | { readonly built: BuiltVersion };

const body: WorkerBody = async ({ data, port, signal }) => {
  const tell = (message: VectorBuildMessage): void => port.send(message);
  let shownMs = 0;
  const built = await buildVectorTask(data as VectorBuildOptions, {
    signal,
    onProgress(progress, nowMs) {
      // A builder shows twice a second.
      if (nowMs - shownMs < 100) return;
      shownMs = nowMs;
      tell({ progress });
    },
  });
  tell({ built });
};
export default body;
