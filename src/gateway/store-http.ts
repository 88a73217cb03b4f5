// The store, its versions and bulk imports over HTTP, for operators and schedulers. Rows of tables stand in tables-http.ts.
// Invariant: nothing here works on data: an import runs in processes of its own, a switch is the followers' work.

import type { ImportJobs } from "#features/import/import-jobs";
import type { MemoryPoolStats } from "#kernel/memory-pool";
import type { StoreState } from "#lsm/store";
import { controlLimits, type SnapshotControl, type SnapshotId } from "#snapshot/snapshot-control";
import Type from "typebox";
import { type Call, type Route, StatusedAnswer } from "./http-routes.ts";
import { schemaCheck } from "./schema-check.ts";

export interface StoreFace {
  state(): StoreState;
  memories(): MemoryPoolStats;
  /** The Redis port, as it goes. */
  redis(): { readonly port: number; readonly connections: number; readonly commands: number; readonly commandsPerSecond: number };
  readonly snapshots: SnapshotControl;
  readonly imports: ImportJobs;
}

const closed = { additionalProperties: false } as const;
const Version = Type.String({ minLength: 1, maxLength: 64, description: "a version, or the beginning of one" });
const LiveBody = Type.Object({ version: Version, refusedToo: Type.Optional(Type.Boolean({ description: "also one that its checks refused" })) }, closed);
const RollbackBody = Type.Object({ version: Type.Optional(Version) }, closed);
const RetireBody = Type.Object({ keep: Type.Optional(Type.Integer({ minimum: 1, maximum: controlLimits.snapshotsMax })) }, closed);
const ImportBody = Type.Object({}, { description: "table, files or query, format, rejectsMax, live: docs/import.md" });
const Answer = Type.Unknown();

export function storeRoutes(face: StoreFace): Route[] {
  const { snapshots, imports } = face;
  const live = schemaCheck(LiveBody).required;
  const rollback = schemaCheck(RollbackBody).required;
  const retire = schemaCheck(RetireBody).required;
  const idOf = ({ params }: Call): SnapshotId => ({ kind: params["kind"] ?? "", name: params["name"] ?? "" });
  const step = (name: string, summary: string, body: typeof LiveBody | typeof RollbackBody | typeof RetireBody, handle: Route["handle"]): Route => ({
    method: "POST",
    url: `/v1/snapshots/:kind/:name/${name}`,
    tag: "store",
    summary,
    body,
    answer: Answer,
    handle,
  });
  return [
    {
      method: "GET",
      url: "/v1/store",
      tag: "store",
      summary: "The store: memtables, runs, log, memory, Redis port",
      answer: Answer,
      always: true,
      handle() {
        const { owners, ...memory } = face.memories();
        return {
          state: plainState(face.state()),
          memory: { ...memory, owners: Array.from(owners, ([owner, held]) => ({ owner, ...held })) },
          redis: face.redis(),
        };
      },
    },
    {
      method: "GET",
      url: "/v1/snapshots",
      tag: "store",
      summary: "Versions of everything built offline, and who serves them",
      answer: Answer,
      always: true,
      handle: () => snapshots.list(),
    },
    step("live", "Make a version the live one", LiveBody, (call) => {
      const { version, refusedToo } = live(call.body, "the body");
      return snapshots.live(idOf(call), version, refusedToo === undefined ? {} : { refusedToo });
    }),
    step("rollback", "Go back to the version before, or to a named one", RollbackBody, (call) =>
      snapshots.rollback(idOf(call), rollback(call.body, "the body").version),
    ),
    step("retire", "Remove old versions that nobody uses", RetireBody, (call) => snapshots.retire(idOf(call), retire(call.body, "the body").keep)),
    {
      method: "POST",
      url: "/v1/imports",
      tag: "store",
      summary: "Begin a bulk import of files that the server can read",
      body: ImportBody,
      answer: Answer,
      handle: async ({ body }) => new StatusedAnswer(202, await imports.start(body)),
    },
    {
      method: "GET",
      url: "/v1/imports",
      tag: "store",
      summary: "Imports of this data folder, newest first",
      answer: Answer,
      always: true,
      handle: () => imports.list(),
    },
    {
      method: "GET",
      url: "/v1/imports/:job",
      tag: "store",
      summary: "How far an import is",
      answer: Answer,
      always: true,
      handle: ({ params }) => imports.status(params["job"] ?? ""),
    },
    {
      method: "DELETE",
      url: "/v1/imports/:job",
      tag: "store",
      summary: "Stop an import; what it has done is kept for the next attempt",
      answer: Answer,
      handle: ({ params }) => imports.stop(params["job"] ?? ""),
    },
  ];
}

/** Errors as JSON has them. */
function plainState(state: StoreState): object {
  const { trouble, refused, ...numbers } = state;
  return {
    ...numbers,
    ...(trouble === undefined ? {} : { trouble: trouble.message }),
    ...(refused === undefined ? {} : { refused: { reason: refused.reason, message: refused.error.message } }),
  };
}
