// The public face of the package: `import { Client } from "millrace"`.
// What is not exported here is private and follows no version.

export { errorActors, type ErrorCode, MillraceError } from "#base/errors";
export { apiLimits } from "#wire/api";
export type {
  Condition,
  EventBody,
  EventsAnswer,
  ItemBody,
  ItemRow,
  ItemsPage,
  PipelineGraph,
  Predicate,
  PutAnswer,
  Reason,
  RecommendAnswer,
  RecommendedItem,
  Rejection,
  StatusAnswer,
  StepTrace,
  UserBody,
  UserRow,
} from "#wire/api";
export { Client, type ClientOptions, Events, Items, type RecommendRequest, Rows } from "./client.ts";
export { EventBuffer, type EventBufferCounts, type EventBufferOptions, type EventSender } from "./event-buffer.ts";
export type { LocalTable, LocalTableState } from "./replica/local-table.ts";
export { openTable } from "./open-table.ts";
export type { OpenTableOptions } from "./replica/open-table.ts";
export type { TableRows, TableTarget, TableTargets, TargetArray } from "./replica/read-targets.ts";
export type { TableKeys } from "./replica/table-keys.ts";
export {
  ParameterClient,
  type ParameterClientOptions,
  type ParameterKeys,
  type ParameterTable,
  type PulledRows,
  type PullOptions,
} from "./parameter-client.ts";
export {
  type ChainInput,
  type ChainOptions,
  type ChainResult,
  type ChainSteps,
  type ChainVectors,
  type VectorChain,
  vectorChain,
  vectorsFrom,
} from "./vector-chain.ts";
export type { TableProfile } from "./table-profiles.ts";
export { VectorClient, type VectorClientOptions } from "./vector-client.ts";
export type { FoundVectors, Queries, SearchOptions, StoredVectors, VectorCollection, VectorMetric } from "./vector-collection.ts";
export { RequestError } from "./request-error.ts";
export type { CallOptions } from "./transport.ts";
