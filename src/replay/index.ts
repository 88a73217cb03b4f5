// The face of the replay: the protocol, what it asks of a model, and what it prints.

export {
  type Recommender,
  refreshes,
  replay,
  type Refresh,
  type ReplayEvent,
  type ReplayOptions,
  type ReplayProgress,
  type ReplayResult,
  type NamedModel,
} from "./protocol.ts";
export { progressLine, replayJson, replayTable } from "./report.ts";
