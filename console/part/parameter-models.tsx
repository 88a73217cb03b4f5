// Models on the parameter server: which version is live with which tables, what it may take, going live, rolling back, retiring. Every change is asked for first.

import type { ModelOverview, ModelVersionOverview, QuotaName, QuotaState } from "#wire/parameter-models-api";
import { changeModel } from "../live/parameter-server.ts";
import type { Question } from "./ask-first.tsx";
import { duration, whole } from "./figures.ts";
import { Mark, type MarkKind } from "./mark.tsx";
import { ScrollTable } from "./scroll-table.tsx";

const words: Readonly<Record<ModelVersionOverview["state"], readonly [MarkKind, string]>> = {
  live: ["good", "live"],
  backup: ["plain", "backup"],
  staged: ["plain", "not live"],
  retiring: ["wait", "being retired"],
};

const quotaWords: Readonly<Record<QuotaName, string>> = {
  rows: "rows",
  bytesMb: "MiB",
  pulledRowsPerS: "rows pulled a second",
  pushedRowsPerS: "rows pushed a second",
  requestsPerS: "requests a second",
};

interface ParameterModelsProps {
  readonly models: readonly ModelOverview[];
  readonly quotas: readonly QuotaState[];
  readonly askFirst: (question: Question) => void;
  /** Something was changed: what to tell. */
  readonly onDone: (said: string) => void;
}

export function ParameterModels({ models, quotas, askFirst, onDone }: ParameterModelsProps) {
  return (
    <section class="panel" aria-labelledby="models">
      <header>
        <h2 id="models">Models</h2>
        <p class="muted">A model is its tables, config and extractor version; it goes live, and back, as a whole.</p>
      </header>
      {models.length === 0 ? (
        <p class="muted">
          None is registered. Name one in the configuration (<code>parameters.models</code>), or with any Redis client:{" "}
          <code>PMODEL REGISTER ctr TABLES 1 users LIVE</code>
        </p>
      ) : (
        models.map((model) => (
          <Model key={model.model} model={model} quota={quotas.find((one) => one.model === model.model)} askFirst={askFirst} onDone={onDone} />
        ))
      )}
    </section>
  );
}

interface ModelProps extends Pick<ParameterModelsProps, "askFirst" | "onDone"> {
  readonly model: ModelOverview;
  readonly quota: QuotaState | undefined;
}

function Model({ model: { model, live, liveSinceMs, before, versions }, quota, askFirst, onDone }: ModelProps) {
  const stays = "Requests that run end with the version they began with. Rows are not changed: each version keeps its tables as they are now.";
  const rollBack = (): void =>
    askFirst({
      title: `Roll ${model} back?`,
      text: (
        <p>
          {before} is live again instead of {live}. {stays}
        </p>
      ),
      does: "Roll back",
      async act() {
        onDone(`${model} is back at ${(await changeModel<{ live: string }>(model, "rollback", {})).live}.`);
      },
    });
  const putLive = (version: string): void =>
    askFirst({
      title: `Put ${version} live?`,
      text: (
        <p>
          Requests of {model} get it instead of {live ?? "nothing"}. {stays}
        </p>
      ),
      does: "Put live",
      async act() {
        onDone(`${(await changeModel<{ live: string }>(model, "live", { version })).live} of ${model} is live.`);
      },
    });
  const retire = (version: string): void =>
    askFirst({
      title: `Retire ${version}?`,
      text: <p>Nobody can begin with it any more, and it goes when the last request that uses it has ended. Its tables may be dropped then.</p>,
      does: "Retire",
      async act() {
        const { removed } = await changeModel<{ removed: string[] }>(model, "retire", { version });
        onDone(removed.length > 0 ? `${version} of ${model} is gone.` : `${version} of ${model} goes when nobody uses it any more.`);
      },
    });
  return (
    <article class="model" data-model={model} aria-label={`Model ${model}`}>
      <header class="model-head">
        <h3>{model}</h3>
        <p class="muted">{live === null ? "nothing is live" : liveSinceMs === null ? "" : `live for ${duration(Date.now() - liveSinceMs)}`}</p>
        <button type="button" disabled={before === null} onClick={rollBack}>
          Roll back<span class="unseen"> {model}</span>
        </button>
      </header>
      {quota !== undefined && <Quota state={quota} />}
      <ScrollTable
        about={`the versions of ${model}`}
        titles={["Version", "State", "Tables", "Extractor", "Registered", "Requests now", "What to do"]}
        unseen={["What to do"]}
        tall
      >
        {versions.map(({ version, state, tables, extractor, registeredAtMs, inUse }) => (
          <tr key={version} data-version={version} data-state={state}>
            <th scope="row">
              <code>{version}</code>
            </th>
            <td>
              <Mark kind={words[state][0]} text={words[state][1]} />
            </td>
            <td>
              {Object.entries(tables)
                .map(([role, table]) => (role === table ? table : `${role} = ${table}`))
                .join(", ")}
            </td>
            <td>{extractor === "" ? "–" : extractor}</td>
            <td>{duration(Date.now() - registeredAtMs)} ago</td>
            <td>{whole(inUse)}</td>
            <td>
              {state !== "live" && state !== "retiring" && (
                <span class="tools">
                  <button type="button" onClick={() => putLive(version)}>
                    Put live<span class="unseen">: {version}</span>
                  </button>
                  <button type="button" class="quiet" onClick={() => retire(version)}>
                    Retire<span class="unseen">: {version}</span>
                  </button>
                </span>
              )}
            </td>
          </tr>
        ))}
      </ScrollTable>
    </article>
  );
}

function Quota({ state: { quota, refused } }: { state: QuotaState }) {
  const names = (Object.keys(quotaWords) as QuotaName[]).filter((name) => quota[name] !== undefined);
  const over = names.filter((name) => refused[name] > 0);
  return (
    <p class="model-quota">
      May take {names.map((name) => `${whole(quota[name]!)} ${quotaWords[name]}`).join(", ")}.{" "}
      {over.length > 0 && (
        <span class="why-refused">
          Refused since the start: {over.map((name) => `${whole(refused[name])} over ${quotaWords[name]}`).join(", ")}. Ask for less, or raise it in the
          configuration.
        </span>
      )}
    </p>
  );
}
