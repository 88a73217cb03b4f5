// The face of the gateway room: `openGateway` rebuilds all state from the log and gives the Gateway that the HTTP server, a replay or a test speaks to.

import { MillraceError } from "#base/errors";
import type { Durability, Log, LogWriter } from "#backbone/log";
import type { Clock } from "#platform/clock";
import type { VectorService } from "#vectors/vector-service";
import type { TablesConfig } from "#wire/table-config";
import type { CheckpointState } from "#features/checkpoint/checkpointer";
import { ActivityCheckpoints, type CheckpointPlace } from "./activity-checkpoints.ts";
import { ActivityRetention, type LogNeed, provenAfterMs, type RetentionState } from "./activity-retention.ts";
import { ActivityState, type ActivityStateOptions } from "./activity-state.ts";
import { EventWays } from "./event-ways.ts";
import { type Learning, reached } from "./learning.ts";
import { ModelAnswers } from "./model-answers.ts";
import { ModelFeatures } from "./model-features.ts";
import { type ModelVectors, modelVectors } from "./model-vectors.ts";
import { aggregationsOf, checkConfig, type GatewayConfig, responseOptionsOf } from "./config.ts";
import type { Gateway, Readiness } from "./gateway.ts";
import { Intake } from "./intake.ts";
import { GatewayMetrics } from "./metrics.ts";
import { rebuild } from "./rebuild.ts";
import { Recommender } from "./recommend.ts";

export { checkConfig, defaultConfig, type GatewayConfig, shopConfig } from "./config.ts";
export type { Gateway, GatewayStatus, Readiness, Waited } from "./gateway.ts";
export { GatewayMetrics } from "./metrics.ts";
export { activityPrefix } from "./activity-tables.ts";
export type { CheckpointPlace } from "./activity-checkpoints.ts";
export type { Learning, TrainerView } from "./learning.ts";
export type { ModelVectors } from "./model-vectors.ts";
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
  /** Where pipelines recall from vector collections; without it those sources are left out. */
  readonly collections?: Pick<VectorService, "search" | "get">;
  /** Where the aggregations are kept; without it a start counts the whole log. */
  readonly checkpoints?: CheckpointPlace;
  /** Told what an operator should know, a sentence each. */
  readonly warn?: (message: string) => void;
}

export interface OpenGateway extends Gateway {
  /** How the start came to its state: rows of kept aggregations, up to which offset they hold the log, and the records behind it that were counted again. */
  started(): { readonly rowsLoaded: number; readonly offset: number; readonly recordsReplayed: number };
  /** Vectors of the learned model; undefined without one. */
  readonly modelVectors: ModelVectors | undefined;
  /** Of the aggregations; undefined where they are not kept, or not yet. */
  checkpoint(): CheckpointState | undefined;
  /** Of the activity log; undefined where nothing is trimmed, since every start counts all of it, or not yet. */
  retention(): RetentionState | undefined;
  /** Resolves when all state is rebuilt; rejects when it cannot be. Requests before that get `unavailable`. */
  readonly opened: Promise<void>;
  /** Waits for what is in flight, syncs and closes the log's writer. */
  close(): Promise<void>;
}

function stateOptionsOf(config: GatewayConfig, incarnation: string): ActivityStateOptions<ReturnType<typeof aggregationsOf>> {
  return {
    eventTypes: Object.keys(config.eventTypes),
    aggregations: aggregationsOf(config),
    freshItems: config.listItems,
    responses: responseOptionsOf(config),
    clickTypes: config.responses.clickTypes,
    facets: config.responses.facets,
    incarnation,
    ...config.limits,
  };
}

/** The tables in which the aggregations of a configuration are kept: to be registered before `openGateway` gets their schemas. */
export function activityTablesOf(config: GatewayConfig): TablesConfig {
  return new ActivityState(stateOptionsOf(checkConfig(config), "none")).tables.config;
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
  const state = new ActivityState(stateOptionsOf(config, options.incarnation));
  const checkpoints =
    options.checkpoints === undefined
      ? undefined
      : new ActivityCheckpoints({ place: options.checkpoints, state, clock, config: config.checkpoint ?? {}, warn: options.warn ?? (() => undefined) });
  const { learning } = options;
  const answers = new ModelAnswers({ learning, state, clock });
  const ways = new EventWays({ clock, probe: answers, learning, metrics });
  let waiting = "opening the log";
  let writer: LogWriter | undefined;
  let intake: Intake<ReturnType<typeof aggregationsOf>> | undefined;
  let rebuilt = 0;
  let rowsLoaded = 0;
  let restored = 0;
  let replayed = 0;
  let closed = false;
  let retention: ActivityRetention | undefined;

  /** Who reads the activity log again after a restart, and from where on. */
  function needsOfLog(durability: Durability): LogNeed[] {
    const aggregations = checkpoints?.checkpointer?.state.offset ?? 0;
    return [
      { who: "the kept aggregations", offset: aggregations, provenAfterMs: provenAfterMs[durability] },
      ...(learning === undefined ? [] : [{ who: "the model", offset: learning.trainer.logNeededFrom() }]),
    ];
  }

  const stores = { catalog: state.catalog, exposures: state.exposures, responses: state.responses, ...state.features.stores };
  // Before records are applied: it follows the catalogue from its first item.
  const learned =
    learning === undefined ? undefined : { features: new ModelFeatures(learning.extractor, stores, learning.model.items), scorer: learning.scorer };
  const shownVectors =
    learning === undefined
      ? undefined
      : modelVectors({
          learning,
          features: learned!.features,
          catalog: state.catalog,
          pipeline: Object.entries(config.pipelines).find(([, { model }]) => model !== undefined)?.[0] ?? Object.keys(config.pipelines)[0]!,
          nowMs: () => clock.nowMs(),
        });
  const recommender = new Recommender({
    config,
    stores,
    clock,
    metrics,
    learned,
    collections:
      options.collections === undefined
        ? undefined
        : {
            vectors: options.collections,
            userVector: ({ model }) => (model === undefined ? undefined : shownVectors?.vectorOf(model)),
          },
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
    const loaded = await checkpoints?.restore(log, activityPartition, (rows) => {
      waiting = `loading the aggregations: ${rows} rows`;
    });
    rowsLoaded = loaded ?? 0;
    restored = state.position;
    replayed = await rebuild(state, log, activityPartition, clock, ({ done, total }) => {
      waiting = `rebuilding from the log: ${done} of ${total} records, from offset ${restored}`;
    });
    rebuilt = state.events;
    if (learning?.ready !== undefined) waiting = "starting the ranker";
    await learning?.ready;
    checkpoints?.start(writer);
    if (checkpoints !== undefined) {
      const { durability } = writer;
      retention = new ActivityRetention({
        writer,
        clock,
        config: config.log ?? {},
        needs: () => needsOfLog(durability),
        warn: options.warn ?? (() => undefined),
      });
      retention.start();
    }
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
    modelVectors: shownVectors,
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
      const { state: is, sync } = learning.trainer.status();
      if (is === "following") {
        throw new MillraceError("conflict", "this server's model is trained by another one", {
          todo: `switch training there: it follows ${sync?.sources.map(({ address }) => address).join(", ") ?? "another server"}`,
        });
      }
      await taking.switchTraining(on, "asked for over HTTP");
      await reached(learning.signals, "trained", taking.appliedOffset, switchMsMax, clock);
      const { state: now, ...rest } = learning.trainer.status();
      // The trainer has read the switch; its report of it may come a moment later.
      return { ...rest, state: now === "learning" || now === "off" ? (on ? "learning" : "off") : now };
    },
    quality: (minutes) => (learning === undefined ? { everyMs: 1_000, points: [] } : { model: modelName, ...learning.trainer.quality(minutes) }),
    watch: (user, tell) => ways.watch(user, tell),
    checkpoint: () => checkpoints?.checkpointer?.state,
    retention: () => retention?.state,
    started: () => ({ rowsLoaded, offset: restored, recordsReplayed: replayed }),
    readiness(): Readiness {
      const failed = closed ? undefined : intake?.failed;
      if (failed !== undefined)
        return {
          ready: false,
          waiting: [`events are refused, ${failed.what}`],
          code: failed.code,
          ...(failed.todo === undefined ? {} : { todo: failed.todo }),
        };
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
      await retention?.stop();
      await checkpoints?.checkpointer?.stop(true);
      await writer?.close();
    },
  };
}
