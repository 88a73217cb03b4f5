// The replay of a purchase log against the real thing, wired: log file -> protocol -> gateways of the shop preset, one for each model.
//   counting   the preset without its model: the weighted score ranks
//   learned    the preset: the model ranks, and learns each basket once it was asked for
//   frozen     the same, training switched off at the end of the warm-up; counts go on
// How a basket teaches the model: the answer that was given before it (a longer one than is scored) is recorded with its features, the basket's events name it, and the
// joiner makes positives of what was bought and, once the window is over, negatives of the rest. A basket that nothing was asked for (the warm-up's, or one that
// is learnt an hour or a day late) is asked for right before its events are put.
// Invariants: 1. nothing is learned but in `learn`, after the events of a basket are in the log and before the next question  2. the model's fields do not see the place in
// the answer, so an answer longer than served teaches what a short one would  3. each model has a gateway, log and counts of its own.

import type { InlineLearning } from "./inline-learning.ts";
import { openReplayGateway, type ReplayGateway } from "./replay-gateway.ts";
import { type GatewayConfig, shopConfig } from "#gateway/index";
import { systemClock } from "#platform/system-clock";
import { systemFiles } from "#platform/system-files";
import { type Recommender, type Refresh, replay, type ReplayProgress, type ReplayResult } from "#replay/index";
import { apiLimits } from "#wire/api";

export const replayModels = ["counting", "learned", "frozen"] as const;
export type ReplayModel = (typeof replayModels)[number];

/** What the preset does: the one whose figures stand first, when it is run. */
export const defaultReplayModel: ReplayModel = shopConfig.pipelines["shop"]?.model === undefined ? "counting" : "learned";

export interface ReplayRoleOptions {
  readonly path: string;
  readonly refresh: Refresh;
  /** At least one; absent: all. */
  readonly models?: readonly ReplayModel[];
  readonly version: string;
  readonly onProgress: (progress: ReplayProgress) => void;
  readonly signal: AbortSignal;
}

/** Items of an answer that a model learns from. More than are scored: what stands behind the twentieth place must be learned of too. */
const taughtItems = 50;
/** A machine with much else to do shall not change the figures. */
const deadlineMs = apiLimits.deadlineMsMax;

/** Runs the protocol; what it learnt is thrown away at the end. */
export async function runReplay(options: ReplayRoleOptions): Promise<ReplayResult> {
  const asked = options.models === undefined || options.models.length === 0 ? replayModels : replayModels.filter((name) => options.models!.includes(name));
  const first = asked.includes(defaultReplayModel) ? defaultReplayModel : asked[0];
  const opened: ReplayGateway[] = [];
  try {
    const open = async (name: ReplayModel): Promise<Recommender> => {
      const gateway = await openReplayGateway(name === "counting" ? withoutModel(shopConfig) : shopConfig, options.version);
      opened.push(gateway);
      return recommenderOf(gateway, name === "frozen");
    };
    const models = [];
    for (const name of [first, ...asked.filter((other) => other !== first)]) models.push({ name, model: await open(name) });
    return await replay({
      files: systemFiles,
      clock: systemClock,
      path: options.path,
      refresh: options.refresh,
      onProgress: options.onProgress,
      signal: options.signal,
      models,
    });
  } finally {
    for (const { close } of opened) await close();
  }
}

/** The same, ranked by counts only. */
export function withoutModel({ model: _model, pipelines, ...config }: GatewayConfig): GatewayConfig {
  return {
    ...config,
    pipelines: Object.fromEntries(
      Object.entries(pipelines).map(
        ([
          name,
          {
            model: _rank,
            quota: { vectors: _vectors, ...quota },
            ...pipeline
          },
        ]) => [name, { ...pipeline, quota }],
      ),
    ),
  };
}

/** A gateway behind the protocol's interface; `frozen`: training is switched off at the first question. */
export function recommenderOf({ gateway, setTime, learning }: ReplayGateway, frozen: boolean): Recommender {
  /** The answer that the next basket is going to name. */
  let given: { readonly user: string; readonly atMs: number; readonly recommendationId: string | undefined } | undefined;
  let training: InlineLearning | undefined = learning;
  const give = async (user: string, atMs: number): Promise<readonly string[]> => {
    const { recommendationId, items } = await gateway.recommend("shop", { user, n: taughtItems, deadlineMs });
    // An empty answer is not recorded; nothing can join it.
    given = { user, atMs, recommendationId: items.length === 0 ? undefined : recommendationId };
    return items.map(({ id }) => id);
  };
  return {
    async recommend(user, n, novel, atMs) {
      setTime(atMs);
      if (frozen && training !== undefined) {
        await switchedOff(gateway, training);
        training = undefined;
      }
      if (!novel && training !== undefined) return (await give(user, atMs)).slice(0, n);
      const { items } = await gateway.recommend(novel ? "discover" : "shop", { user, n, record: false, deadlineMs });
      return items.map(({ id }) => id);
    },
    async learn(events) {
      const { user, atMs } = events[0]!;
      setTime(atMs);
      if (training !== undefined && !(given?.user === user && given.atMs === atMs)) await give(user, atMs);
      const named = given?.recommendationId === undefined ? {} : { recommendationId: given.recommendationId };
      given = undefined;
      for (let from = 0; from < events.length; from += apiLimits.eventsPerRequestMax) {
        const batch = events.slice(from, from + apiLimits.eventsPerRequestMax);
        await gateway.putEvents(batch.map(({ id, item, atMs: ts }) => ({ id, type: "purchase", user, item, ts, ...named })));
      }
      await training?.catchUp({ vectors: false });
    },
  };
}

/** Writes the switch and has it read: the gateway waits for the trainer, which learns only when it is told to. */
async function switchedOff(gateway: ReplayGateway["gateway"], training: InlineLearning): Promise<void> {
  let waiting = true;
  const switched = gateway.switchTraining(false).finally(() => {
    waiting = false;
  });
  while (waiting) {
    await training.catchUp({ vectors: false });
    await Promise.race([switched, systemClock.sleep(1)]);
  }
  await switched;
}
