// The parameter server over HTTP, for operators, the console and the CLI: status of tables, models, synchronisation and checkpoints; going live, rolling back, saving;
// export and import of tables. Rows are pulled and pushed on the Redis port alone (docs/parameters.md).
// Invariants: 1. nothing here works on rows: the parameters thread does  2. a request that takes long is answered 202 after `waitMsMax`, goes on, and is answered when
// it is sent again.
// Limits: catalogueLimits; `jobsMax` exports and imports at a time.

import { MillraceError } from "#base/errors";
import type { ParameterModels } from "#params/catalogue/parameter-models";
import { catalogueLimits } from "#params/catalogue/catalogue-state";
import type { Clock } from "#platform/clock";
import Type from "typebox";
import { exchangeNamePattern, type ParameterControl, type ParameterLooking } from "#wire/parameter-api";
import type { ParametersAnswer } from "#wire/parameter-models-api";
import { tableNamePattern } from "#wire/table-config";
import { type Route, StatusedAnswer } from "./http-routes.ts";
import { schemaCheck } from "./schema-check.ts";

export interface ParametersFace {
  readonly control: ParameterControl & ParameterLooking;
  readonly models: ParameterModels;
}

/** Below the server's own limit of an answer. */
const waitMsMax = 10_000;
const jobsMax = 8;
const changesMax = 1_000;

const closed = { additionalProperties: false } as const;
const Version = Type.String({ minLength: 1, maxLength: 64, description: "a version, or the beginning of one" });
const LiveBody = Type.Object({ version: Version }, closed);
const RollbackBody = Type.Object({ version: Type.Optional(Version) }, closed);
const RetireBody = Type.Object(
  {
    version: Type.Optional(Version),
    keep: Type.Optional(Type.Integer({ minimum: 1, maximum: catalogueLimits.versionsMax, description: "all but so many of the latest" })),
    wholeModel: Type.Optional(Type.Literal(true)),
  },
  { ...closed, minProperties: 1, maxProperties: 1 },
);
const RegisterBody = Type.Object(
  {
    tables: Type.Record(Type.String({ pattern: tableNamePattern }), Type.String({ pattern: tableNamePattern }), {
      ...closed,
      minProperties: 1,
      maxProperties: catalogueLimits.tablesOfVersionMax,
      description: "role -> table",
    }),
    extractor: Type.Optional(Type.String({ maxLength: catalogueLimits.extractorCharactersMax })),
    config: Type.Optional(Type.Unknown({ description: "any JSON, kept with the version" })),
    live: Type.Optional(Type.Boolean({ description: "goes live at once" })),
  },
  closed,
);
const ExchangeBody = Type.Object({ name: Type.String({ pattern: exchangeNamePattern, description: "a folder under DATA/exchange" }) }, closed);
const Answer = Type.Unknown();

/** `face`: undefined on a server without parameter tables; the routes say so then. */
export function parameterRoutes(face: ParametersFace | undefined, clock: Clock): Route[] {
  const tag = "parameters";
  const live = schemaCheck(LiveBody).required;
  const rollback = schemaCheck(RollbackBody).required;
  const retire = schemaCheck(RetireBody).required;
  const register = schemaCheck(RegisterBody).required;
  const exchange = schemaCheck(ExchangeBody).required;
  /** Exports and imports under way, by what they do. */
  const jobs = new Map<string, Promise<unknown>>();

  const here = (): ParametersFace => {
    if (face !== undefined) return face;
    throw new MillraceError("not-found", "this server has no parameter tables", {
      todo: "add a section `parameters` to its configuration (docs/parameters.md)",
    });
  };

  /** What `work` answers, or 202 when it takes longer. */
  const soon = (work: Promise<unknown>): Promise<unknown> =>
    new Promise((resolve, reject) => {
      const timer = clock.after(waitMsMax, () => resolve(new StatusedAnswer(202, { running: true })));
      const settle = (use: (value: never) => void) => (value: unknown) => {
        timer.cancel();
        use(value as never);
      };
      work.then(settle(resolve), settle(reject));
    });

  const job = (key: string, begin: () => Promise<unknown>): Promise<unknown> => {
    const running = jobs.get(key);
    if (running !== undefined) return soon(running);
    if (jobs.size >= jobsMax) throw new MillraceError("overloaded", `${jobsMax} exports and imports are under way`, { todo: "wait for one of them" });
    const work = begin();
    jobs.set(key, work);
    const answered = soon(work);
    // One that took longer than its request is kept until it is asked for again, or a while.
    const forget = (): void => void jobs.delete(key);
    void work.catch(() => undefined).then(() => clock.after(6 * waitMsMax, forget, { background: true }));
    void answered.then((answer) => !(answer instanceof StatusedAnswer) && forget(), forget);
    return answered;
  };

  return [
    {
      method: "GET",
      url: "/v1/parameters",
      tag,
      summary: "The parameter server: tables, checkpoints, synchronisation, models, quotas",
      answer: Answer,
      always: true,
      handle(): ParametersAnswer {
        const { control, models } = here();
        return { nowMs: clock.nowMs(), ...control.status(), models: models.catalogue.list(), quotas: models.quotaStates() };
      },
    },
    {
      method: "GET",
      url: "/v1/parameters/changes",
      tag,
      summary: "Who changed which model or table when, newest first",
      query: { limit: `1 to ${changesMax}, default 100` },
      answer: Answer,
      always: true,
      async handle({ query }) {
        const limit = Number(query["limit"] ?? 100);
        if (!Number.isInteger(limit) || limit < 1 || limit > changesMax) {
          throw new MillraceError("invalid", `the query parameter limit is no integer from 1 to ${changesMax}`, { todo: "correct it, or leave it out" });
        }
        return { changes: await here().models.catalogue.audit(limit) };
      },
    },
    {
      method: "GET",
      url: "/v1/parameters/tables/:table/look",
      tag,
      summary: "Where the writes of a table fall among its buckets, and how old its rows are",
      answer: Answer,
      handle: ({ params }) => here().control.look(params["table"] ?? ""),
    },
    {
      method: "POST",
      url: "/v1/parameters/tables/:table/save",
      tag,
      summary: "Write a checkpoint now",
      answer: Answer,
      handle: ({ params }) => soon(here().control.save(params["table"] ?? "")),
    },
    {
      method: "POST",
      url: "/v1/parameters/tables/:table/export",
      tag,
      summary: "Write all rows as .npy files with a manifest into DATA/exchange/NAME",
      body: ExchangeBody,
      answer: Answer,
      handle({ params, body }) {
        const [{ table = "" }, { name }] = [params, exchange(body, "the body")];
        return job(`export ${table} ${name}`, () => here().control.exportTable(table, name));
      },
    },
    {
      method: "POST",
      url: "/v1/parameters/tables/:table/import",
      tag,
      summary: "Assign the rows of the .npy files in DATA/exchange/NAME",
      body: ExchangeBody,
      answer: Answer,
      handle({ params, body }) {
        const [{ table = "" }, { name }] = [params, exchange(body, "the body")];
        return job(`import ${table} ${name}`, () => here().control.importTable(table, name));
      },
    },
    {
      method: "POST",
      url: "/v1/parameters/models/:model/register",
      tag,
      summary: "Register a version of a model: its tables by role, its config, the version of its extractor",
      body: RegisterBody,
      answer: Answer,
      async handle({ params, body, caller }) {
        const { tables, extractor = "", config, live: goesLive = false } = register(body, "the body");
        const model = params["model"] ?? "";
        return { model, version: await here().models.catalogue.register(model, { tables, extractor, config, live: goesLive }, caller), live: goesLive };
      },
    },
    {
      method: "POST",
      url: "/v1/parameters/models/:model/live",
      tag,
      summary: "Put a version of a model live",
      body: LiveBody,
      answer: Answer,
      async handle({ params, body, caller }) {
        const { version } = live(body, "the body");
        const model = params["model"] ?? "";
        return { model, live: await here().models.catalogue.live(model, version, caller) };
      },
    },
    {
      method: "POST",
      url: "/v1/parameters/models/:model/rollback",
      tag,
      summary: "Go back to the version before, or to a named one",
      body: RollbackBody,
      answer: Answer,
      async handle({ params, body, caller }) {
        const { version } = rollback(body, "the body");
        const model = params["model"] ?? "";
        return { model, live: await here().models.catalogue.rollback(model, version, caller) };
      },
    },
    {
      method: "POST",
      url: "/v1/parameters/models/:model/retire",
      tag,
      summary: "Retire one version, all but the latest, or the whole model; each goes when no request uses it",
      body: RetireBody,
      answer: Answer,
      async handle({ params, body, caller }) {
        const { version, keep } = retire(body, "the body");
        const model = params["model"] ?? "";
        const what = version !== undefined ? { version } : keep !== undefined ? { keep } : ({ wholeModel: true } as const);
        return { model, ...(await here().models.catalogue.retire(model, what, caller)) };
      },
    },
  ];
}
