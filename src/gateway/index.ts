// The face of the gateway room: `openGateway` rebuilds all state from the log and gives the Gateway that the HTTP server, a replay or a test speaks to.

import { MillraceError } from "#base/errors";
import type { Log, LogWriter } from "#backbone/log";
import type { Clock } from "#platform/clock";
import { ActivityState } from "./activity-state.ts";
import { EventWays } from "./event-ways.ts";
import { type Learning, reached } from "./learning.ts";
import { ModelAnswers } from "./model-answers.ts";
import { ModelFeatures } from "./model-features.ts";
import { aggregationsOf, checkConfig, type GatewayConfig, responseOptionsOf } from "./config.ts";
import type { Gateway, Readiness } from "./gateway.ts";
import { Intake } from "./intake.ts";
import { GatewayMetrics } from "./metrics.ts";
import { rebuild } from "./rebuild.ts";
import { Recommender } from "./recommend.ts";

export { checkConfig, defaultConfig, type GatewayConfig, shopConfig } from "./config.ts";
export type { Gateway, GatewayStatus, Readiness } from "./gateway.ts";
export { GatewayMetrics } from "./metrics.ts";
export type { Learning, TrainerView } from "./learning.ts";
export type { ModelConfig } from "./model-config.ts";

/** The partition of the log that holds the activity records. */
export const activityPartition = "activity";

export interface GatewayOptions {
  readonly log: Log;
  readonly clock: Clock;
  readonly config: GatewayConfig;
  /** Of this build, for status. */
  readonly version: string;
  /** Letters and digits, new for each process: part of recommendation ids. */
  readonly incarnation: string;
  readonly metrics?: GatewayMetrics;
  /** Steps that break a rule throw: for tests. */
  readonly strict?: boolean;
  /** The live model; without it all is ranked by counts, also where the configuration names one. */
  readonly learning?: Learning;
}

export interface OpenGateway extends Gateway {
  /** Resolves when all state is rebuilt; rejects when it cannot be. Requests before that get `unavailable`. */
  readonly opened: Promise<void>;
  /** Waits for what is in flight, syncs and closes the log's writer. */
  close(): Promise<void>;
}

/** What learns, for those who read figures. */
const modelName = "factorisation machine";

/** How long a switch of training waits for the trainer to read it. */
const switchMsMax = 2_000;

/** Begins to open a gateway; the answer is there at once and says by `readiness()` what it waits for. */
export function openGateway(options: GatewayOptions): OpenGateway {
  const { log, clock } = options;
  const config = checkConfig(options.config);
  const metrics = options.metrics ?? new GatewayMetrics();
  const startedAtMs = clock.nowMs();
  const state = new ActivityState({
    eventTypes: Object.keys(config.eventTypes),
    aggregations: aggregationsOf(config),
    freshItems: config.listItems,
    responses: responseOptionsOf(config),
    clickTypes: config.responses.clickTypes,
    facets: config.responses.facets,
    incarnation: options.incarnation,
    ...config.limits,
  });
  const { learning } = options;
  const answers = new ModelAnswers({ learning, state, clock });
  const ways = new EventWays({ clock, probe: answers, learning, metrics });
  let waiting = "opening the log";
  let writer: LogWriter | undefined;
  let intake: Intake<ReturnType<typeof aggregationsOf>> | undefined;
  let rebuilt = 0;
  let closed = false;

  const stores = { catalog: state.catalog, exposures: state.exposures, responses: state.responses, ...state.features.stores };
  // Before records are applied: it follows the catalogue from its first item.
  const learned =
    learning === undefined ? undefined : { features: new ModelFeatures(learning.extractor, stores, learning.model.items), scorer: learning.scorer };
  const recommender = new Recommender({
    config,
    stores,
    clock,
    metrics,
    learned,
    strict: options.strict === true,
    nextId: () => state.served.nextId(),
    appliedOffset: () => intake?.appliedOffset ?? 0,
    waitFor: (offset, timeoutMs) => ready().waitFor(offset, timeoutMs),
    onServed(served, record) {
      state.applyServed(served);
      ready().recordServed(record);
    },
  });

  const opened = (async () => {
    writer = await log.openWriter(activityPartition);
    await rebuild(state, log, activityPartition, clock, ({ done, total }) => {
      waiting = `rebuilding from the log: ${done} of ${total} records`;
    });
    rebuilt = state.events;
    if (learning?.ready !== undefined) waiting = "starting the ranker";
    await learning?.ready;
    intake = new Intake({ state, writer, clock, metrics, ways, onAdvanced: (offset) => learning?.signals.publish("head", offset) });
    learning?.signals.publish("head", intake.appliedOffset);
    waiting = "";
  })();
  opened.catch((thrown: unknown) => {
    waiting = `the start failed: ${(thrown as Error).message}`;
  });

  function ready(): Intake<ReturnType<typeof aggregationsOf>> {
    if (closed) throw new MillraceError("unavailable", "the server is shutting down", { todo: "send again to the next one" });
    if (intake === undefined) throw new MillraceError("unavailable", `not ready, ${waiting}`, { todo: "ask /health/ready and send again" });
    return intake;
  }

  return {
    opened,
    putEvents: async (events) => ready().putEvents(events),
    putItems: async (rows) => ready().putItems(rows),
    patchItem: async (id, body) => ready().patchItem(id, body),
    getItem(id) {
      ready();
      return state.catalog.getItem(id);
    },
    listItems({ after, limit }) {
      ready();
      return state.catalog.listItems(after, limit);
    },
    deleteItem: async (id) => ready().deleteItem(id),
    putUsers: async (rows) => ready().putUsers(rows),
    patchUser: async (id, body) => ready().patchUser(id, body),
    getUser(id) {
      ready();
      return state.catalog.getUser(id);
    },
    deleteUser: async (id) => ready().deleteUser(id),
    async recommend(pipeline, body) {
      ready();
      return recommender.recommend(pipeline, body);
    },
    pipelines: () => recommender.graphs(),
    async similar(body) {
      ready();
      return answers.similar(body);
    },
    score(body) {
      ready();
      return answers.score(body);
    },
    training: () => learning?.trainer.status(),
    ranking: () => learning?.scorer.metrics,
    async switchTraining(on) {
      const taking = ready();
      if (learning === undefined) throw new MillraceError("not-found", "this server has no model", { todo: "name one in the configuration (model)" });
      await taking.switchTraining(on, "asked for over HTTP");
      await reached(learning.signals, "trained", taking.appliedOffset, switchMsMax, clock);
      const { state: now, ...rest } = learning.trainer.status();
      // The trainer has read the switch; its report of it may come a moment later.
      return { ...rest, state: now === "learning" || now === "off" ? (on ? "learning" : "off") : now };
    },
    quality: (minutes) => (learning === undefined ? { everyMs: 1_000, points: [] } : { model: modelName, ...learning.trainer.quality(minutes) }),
    watch: (user, tell) => ways.watch(user, tell),
    readiness(): Readiness {
      return waiting === "" && !closed ? { ready: true, waiting: [] } : { ready: false, waiting: [closed ? "shutting down" : waiting] };
    },
    status() {
      const counts = intake?.counts ?? { accepted: 0, duplicates: 0, rejected: 0, joined: 0 };
      const { answers, fallbacks, degraded } = recommender.counts;
      return {
        version: options.version,
        startedAtMs,
        nowMs: clock.nowMs(),
        durability: writer?.durability ?? "none",
        items: state.catalog.itemCount,
        users: state.catalog.userCount,
        eventsAccepted: counts.accepted,
        eventsRebuilt: rebuilt,
        eventsDuplicate: counts.duplicates,
        eventsRejected: counts.rejected,
        eventsJoined: counts.joined,
        recommendations: answers,
        fallbacks,
        degraded,
        logOffset: intake?.appliedOffset ?? 0,
        recommend: metrics.recommendSummary(),
        eventToFeature: metrics.eventToFeatureSummary(),
        memoryBytes: {
          ...state.bytes(),
          pipeline: recommender.bytes,
          ...(learning === undefined ? {} : { model: learning.model.bytes, modelFeatures: learned!.features.bytes }),
        },
        pipelines: recommender.names,
      };
    },
    async close() {
      if (closed) return;
      closed = true;
      await opened.catch(() => undefined);
      await intake?.quiet();
      await writer?.close();
    },
  };
}
