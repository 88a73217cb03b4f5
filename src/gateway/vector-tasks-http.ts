// Tasks of the vector builder over HTTP, for operators, the console and outside jobs. Shapes: src/wire/vector-task-api.ts. Use: docs/vector-tasks.md.
// Invariants: 1. nothing is built by the serving process: a run is an ask that a builder takes up  2. a change names the edition it was made from.
// Limits: vectorTaskLimits.

import { MillraceError } from "#base/errors";
import type { TaskControl } from "#vectors/builder/task-control";
import Type from "typebox";
import type { VectorTaskDetail } from "#wire/vector-task-api";
import { FilesSource, ModelSource, NpyRowsSource, ParameterSource, TableSource, VectorTaskConfig, vectorTaskNamePattern } from "#wire/vector-task-config";
import { readJson } from "./http-body.ts";
import { HttpRefusal } from "./http-errors.ts";
import type { Route } from "./http-routes.ts";
import { schemaCheck } from "./schema-check.ts";

const closed = { additionalProperties: false } as const;
const CreateBody = Type.Object({ name: Type.String({ pattern: vectorTaskNamePattern }), config: VectorTaskConfig }, closed);
const ChangeBody = Type.Object({ edition: Type.Integer({ minimum: 1, description: "the edition that was looked at" }), config: VectorTaskConfig }, closed);
const Version = Type.String({ minLength: 1, maxLength: 64, description: "a version, or the beginning of one" });
const LiveBody = Type.Object({ version: Version, refusedToo: Type.Optional(Type.Boolean({ description: "although its checks refused it" })) }, closed);
const RollbackBody = Type.Object({ version: Type.Optional(Version) }, closed);
const Answer = Type.Unknown();

/** What came as a body where one may be left out. */
function bodyOf(bytes: unknown): unknown {
  return bytes instanceof Uint8Array && bytes.length > 0 ? readJson(bytes) : {};
}

const sources = [
  ["npy", NpyRowsSource],
  ["files", FilesSource],
  ["query", FilesSource],
  ["module", ModelSource],
  ["parameters", ParameterSource],
  ["table", TableSource],
] as const;
const sourceChecks = sources.map(([key, schema]) => [key, schemaCheck(schema)] as const);

/** Of a source that fits no kind the schema says only that: this says what is wrong with the kind that was meant. Throws `invalid`. */
export function checkTaskSource(config: unknown, what: string, todo = "docs/vector-tasks.md says what may stand there"): void {
  const source = (config as { source?: unknown } | null | undefined)?.source;
  if (typeof source !== "object" || source === null || Array.isArray(source)) return;
  const meant = sourceChecks.find(([key]) => Object.hasOwn(source, key));
  if (meant === undefined) {
    throw new MillraceError("invalid", `${what} names no rows`, { todo: "give it npy, files, query, module with table, parameters, or table with column" });
  }
  meant[1].required(source, what, todo);
}

/** A file or a module that no task over HTTP may name: not a token is missing (401), it may not be (403). */
async function told(work: Promise<VectorTaskDetail>): Promise<VectorTaskDetail> {
  try {
    return await work;
  } catch (thrown) {
    if (!(thrown instanceof MillraceError) || thrown.code !== "unauthorized") throw thrown;
    throw new HttpRefusal("unauthorized", thrown.what, { status: 403, ...(thrown.todo === undefined ? {} : { todo: thrown.todo }), cause: thrown });
  }
}

/** `control`: undefined on a server without vector collections; the routes say so then. */
export function vectorTaskRoutes(control: TaskControl | undefined): Route[] {
  const tag = "vectors" as const;
  const create = schemaCheck(CreateBody).required;
  const change = schemaCheck(ChangeBody).required;
  const live = schemaCheck(LiveBody).required;
  const rollback = schemaCheck(RollbackBody).required;
  const none = schemaCheck(Type.Object({}, closed)).required;

  const here = (): TaskControl => {
    if (control !== undefined) return control;
    throw new MillraceError("not-found", "this server has no vector tasks", { todo: "add a section `vectors` to its configuration (docs/vector-tasks.md)" });
  };
  const nameOf = (params: Readonly<Record<string, string>>): string => params["task"] ?? "";
  const step = (name: string, summary: string, handle: (task: string, caller: string) => unknown): Route => ({
    method: "POST",
    url: `/v1/vector-tasks/:task/${name}`,
    tag,
    summary,
    // There is no body to read: an empty one, or `{}`, under whatever content type a client or an outside job names.
    raw: true,
    answer: Answer,
    handle({ params, body, caller }) {
      // What jobs send when they are done is theirs.
      if (name !== "finished") none(bodyOf(body), "the body");
      return handle(nameOf(params), caller);
    },
  });

  return [
    {
      method: "GET",
      url: "/v1/vector-tasks",
      tag,
      summary: "Tasks of the vector builder: what runs, how the last builds ended, which builders there are",
      answer: Answer,
      always: true,
      handle: () => here().list(),
    },
    {
      method: "POST",
      url: "/v1/vector-tasks",
      tag,
      summary: "Make a task",
      body: CreateBody,
      answer: Answer,
      handle({ body, caller }): Promise<VectorTaskDetail> {
        checkTaskSource((body as { config?: unknown } | null)?.config, "the body: field config.source");
        const { name, config } = create(body, "the body");
        return told(here().create(name, config, caller));
      },
    },
    {
      method: "GET",
      url: "/v1/vector-tasks/:task",
      tag,
      summary: "One task: configuration, versions of its collection, builds, changes",
      answer: Answer,
      always: true,
      handle: ({ params }) => here().detail(nameOf(params)),
    },
    {
      method: "POST",
      url: "/v1/vector-tasks/:task/change",
      tag,
      summary: "Change what a task is told; it names the edition that was looked at",
      body: ChangeBody,
      answer: Answer,
      handle({ params, body, caller }): Promise<VectorTaskDetail> {
        checkTaskSource((body as { config?: unknown } | null)?.config, "the body: field config.source");
        const { edition, config } = change(body, "the body");
        return told(here().change(nameOf(params), edition, config, caller));
      },
    },
    step("run", "Build now, or as soon as a builder is free", (task, caller) => here().run(task, caller)),
    step("finished", "An outside job has ended: build, if the task is built by it (schedule.webhook)", (task, caller) => here().finished(task, caller)),
    step("enable", "Let a task run by itself again", (task, caller) => here().enable(task, true, caller)),
    step("disable", "A task no longer runs by itself", (task, caller) => here().enable(task, false, caller)),
    step("remove", "Remove a task; its collection and versions stay", async (task, caller) => {
      await here().remove(task, caller);
      return { removed: task };
    }),
    {
      method: "POST",
      url: "/v1/vector-tasks/:task/live",
      tag,
      summary: "Put a version of the task's collection live",
      body: LiveBody,
      answer: Answer,
      handle({ params, body, caller }) {
        const { version, refusedToo = false } = live(body, "the body");
        return here().live(nameOf(params), version, refusedToo, caller);
      },
    },
    {
      method: "POST",
      url: "/v1/vector-tasks/:task/rollback",
      tag,
      summary: "Go back to the version before, or to a named one",
      body: RollbackBody,
      raw: true,
      answer: Answer,
      handle({ params, body, caller }) {
        const { version } = rollback(bodyOf(body), "the body");
        return here().rollback(nameOf(params), version, caller);
      },
    },
  ];
}
