// Tasks of the vector builder: what runs, how builds ended, versions to put live or roll back to, what was changed by whom. Everything that others notice is asked for first.

import { useEffect, useState } from "preact/hooks";
import type { VectorBuildRecord, VectorTaskDetail, VectorTaskOverview, VectorTasksAnswer, VectorTaskVersion } from "#wire/vector-task-api";
import { type Refused, refusedOf } from "../live/ask.ts";
import { moveTask, putLive, rollBack, runTask, taskOf } from "../live/vector-engine.ts";
import type { Question } from "./ask-first.tsx";
import { bytes, duration, ms, percent, whole } from "./figures.ts";
import { Mark, type MarkKind } from "./mark.tsx";
import { RefusedNotice } from "./notice.tsx";
import { ScrollTable } from "./scroll-table.tsx";
import { VectorTaskForm } from "./vector-task-form.tsx";

interface VectorTasksProps {
  readonly known: VectorTasksAnswer;
  /** Of the page: the chosen task is asked for again with each. */
  readonly rounds: number;
  readonly askFirst: (question: Question) => void;
  /** Something was changed: what to tell. */
  readonly onDone: (said: string) => void;
}

export function VectorTasks({ known: { tasks, builders, nowMs }, rounds, askFirst, onDone }: VectorTasksProps) {
  const [chosen, setChosen] = useState("");
  const [refused, setRefused] = useState<Refused | undefined>(undefined);
  const task = tasks.find(({ name }) => name === chosen) ?? tasks[0];
  const run = async (name: string): Promise<void> => {
    setRefused(undefined);
    try {
      const asked = await runTask(name);
      onDone(asked.builders ? `${name} is built as soon as a builder is free.` : `${name} waits: no builder runs. Start one with millrace builder.`);
    } catch (thrown) {
      setRefused(refusedOf(thrown));
    }
  };
  return (
    <>
      <section class="panel" aria-labelledby="vector-tasks">
        <header>
          <h2 id="vector-tasks">Tasks</h2>
          <p class="muted">
            {builders.length === 0
              ? "No builder runs: nothing will be built until one is started with millrace builder."
              : `${whole(builders.length)} ${builders.length === 1 ? "builder shares" : "builders share"} them: ${builders.map(({ builder, running }) => `${builder}${running.length > 0 ? ` (builds ${running.join(", ")})` : ""}`).join(", ")}.`}
          </p>
        </header>
        {tasks.length === 0 ? (
          <p class="muted">There is none. Declare one in the configuration (vectors.tasks), or make one here.</p>
        ) : (
          <ScrollTable
            about="the tasks"
            titles={["Task", "State", "Collection", "Live version", "Last build", "Recall", "p99 ms", "Next", "What to do"]}
            unseen={["What to do"]}
            tall
          >
            {tasks.map((one) => (
              <TaskRow key={one.name} task={one} nowMs={nowMs} isChosen={one.name === task?.name} onChoose={setChosen} onRun={(name) => void run(name)} />
            ))}
          </ScrollTable>
        )}
        {refused !== undefined && <RefusedNotice refused={refused} />}
        <details>
          <summary>Make a task</summary>
          <VectorTaskForm onDone={onDone} />
        </details>
      </section>
      {task !== undefined && <Task key={task.name} task={task} rounds={rounds} askFirst={askFirst} onDone={onDone} />}
    </>
  );
}

function stateOf({ running, asked, enabled, last }: VectorTaskOverview): readonly [MarkKind, string] {
  if (running !== null) return ["wait", `${running.stage}${running.share === undefined ? "" : ` ${percent(running.share)}`}`];
  if (asked) return ["wait", "waits for a builder"];
  if (last?.verdict === "refused") return ["bad", "last one refused"];
  if (last?.verdict === "failed") return ["bad", "last one failed"];
  return enabled ? ["good", "ready"] : ["plain", "disabled"];
}

interface TaskRowProps {
  readonly task: VectorTaskOverview;
  readonly nowMs: number;
  readonly isChosen: boolean;
  readonly onChoose: (name: string) => void;
  readonly onRun: (name: string) => void;
}

function TaskRow({ task, nowMs, isChosen, onChoose, onRun }: TaskRowProps) {
  const { name, collection, live, last, nextAtMs, running, asked } = task;
  const [kind, word] = stateOf(task);
  return (
    <tr data-task={name}>
      <th scope="row">
        <button type="button" class="choose" aria-pressed={isChosen} onClick={() => onChoose(name)}>
          {name}
        </button>
      </th>
      <td>
        <Mark kind={kind} text={word} />
      </td>
      <td>{collection}</td>
      <td>{live === null ? "none yet" : <code>{live}</code>}</td>
      <td>{last === null ? "–" : `${duration(nowMs - last.startedAtMs - last.tookMs)} ago, took ${duration(last.tookMs)}`}</td>
      <td>{last?.recall === undefined ? "–" : last.recall.toFixed(4)}</td>
      <td>{last?.searchP99Ms === undefined ? "–" : ms(last.searchP99Ms)}</td>
      <td>{nextAtMs === null ? "when asked" : nextAtMs <= nowMs ? "now" : `in ${duration(nextAtMs - nowMs)}`}</td>
      <td>
        <button type="button" disabled={running !== null || asked} onClick={() => onRun(name)}>
          Run now<span class="unseen">: {name}</span>
        </button>
      </td>
    </tr>
  );
}

function Task({ task, rounds, askFirst, onDone }: { task: VectorTaskOverview } & Omit<VectorTasksProps, "known">) {
  const { name, collection, enabled } = task;
  const [detail, setDetail] = useState<VectorTaskDetail | undefined>(undefined);
  const [refused, setRefused] = useState<Refused | undefined>(undefined);
  useEffect(() => {
    let left = false;
    taskOf(name).then(
      (found) => {
        if (left) return;
        setDetail(found);
        setRefused(undefined);
      },
      (thrown: unknown) => !left && setRefused(refusedOf(thrown)),
    );
    return () => {
      left = true;
    };
  }, [name, rounds]);
  const move = (step: "enable" | "disable" | "remove", title: string, text: string, does: string, said: string): void =>
    askFirst({
      title,
      text: <p>{text}</p>,
      does,
      async act() {
        await moveTask(name, step);
        onDone(said);
      },
    });
  const live = ({ version, state }: VectorTaskVersion): void =>
    askFirst({
      title: `Put ${version} live?`,
      text: (
        <p>
          Every server that has {collection} loads it beside the one that serves, and switches. {state === "refused" && "Its checks refused it. "}What was
          written live meanwhile stays.
        </p>
      ),
      does: state === "refused" ? "Put live all the same" : "Put live",
      async act() {
        const answer = await putLive(name, version, state === "refused");
        onDone(`${answer.live} of ${answer.collection} is live.`);
      },
    });
  const back = (before: string): void =>
    askFirst({
      title: `Roll ${collection} back?`,
      text: <p>{before} is live again; what was written live since then is put on top of it.</p>,
      does: "Roll back",
      async act() {
        const answer = await rollBack(name);
        onDone(`${answer.collection} is back at ${answer.live}.`);
      },
    });
  const before = detail?.versions.find(({ state }) => state === "backup")?.version;
  return (
    <section class="panel" aria-labelledby="vector-task" data-detail={name}>
      <header>
        <h2 id="vector-task">Task {name}</h2>
        <p class="muted">
          Edition {task.edition}, {task.origin === "config" ? "of the configuration file" : "made over HTTP or by command"}.
        </p>
        <span class="tools">
          <button type="button" disabled={before === undefined} onClick={() => back(before!)}>
            Roll back<span class="unseen"> {collection}</span>
          </button>
          {enabled ? (
            <button
              type="button"
              class="quiet"
              onClick={() => move("disable", `Disable ${name}?`, "It no longer runs by itself. What is live stays live.", "Disable", `${name} is disabled.`)}
            >
              Disable
            </button>
          ) : (
            <button
              type="button"
              class="quiet"
              onClick={() => move("enable", `Enable ${name}?`, "It runs by its schedule again.", "Enable", `${name} is enabled.`)}
            >
              Enable
            </button>
          )}
          <button
            type="button"
            class="quiet"
            onClick={() =>
              move(
                "remove",
                `Remove ${name}?`,
                `Its history goes with it. The collection ${collection} and its versions stay.`,
                "Remove",
                `${name} is removed.`,
              )
            }
          >
            Remove
          </button>
        </span>
      </header>
      {refused !== undefined && <RefusedNotice refused={refused} />}
      {detail !== undefined && (
        <>
          <TaskVersions detail={detail} onLive={live} />
          <Builds detail={detail} />
          <details>
            <summary>Change what it does</summary>
            <VectorTaskForm key={detail.edition} task={detail} onDone={onDone} />
          </details>
          <details class="changes">
            <summary>Its latest changes</summary>
            <ul class="lines">
              {detail.audit.map(({ seq, atMs, who, action, version, note }) => (
                <li key={seq}>
                  <b>{who}</b>, {duration(detail.nowMs - atMs)} ago: {action} {version !== undefined && <code>{version}</code>} {note}
                </li>
              ))}
            </ul>
          </details>
        </>
      )}
    </section>
  );
}

const versionWords: Readonly<Record<VectorTaskVersion["state"], readonly [MarkKind, string]>> = {
  live: ["good", "live"],
  backup: ["plain", "backup"],
  staged: ["plain", "not live"],
  withdrawn: ["plain", "rolled back"],
  refused: ["bad", "refused"],
  building: ["wait", "is built"],
};

function TaskVersions({ detail: { collection, versions, nowMs }, onLive }: { detail: VectorTaskDetail; onLive: (version: VectorTaskVersion) => void }) {
  if (versions.length === 0) return <p class="muted">No version of {collection} was built yet.</p>;
  return (
    <ScrollTable
      about={`the versions of ${collection}`}
      titles={["Version", "State", "Made", "Rows", "Size", "Loaded by", "What to do"]}
      unseen={["What to do"]}
      tall
    >
      {versions.map((one) => {
        const [kind, word] = versionWords[one.state];
        return (
          <tr key={one.version} data-version={one.version} data-state={one.state}>
            <th scope="row">
              <code>{one.version}</code>
            </th>
            <td>
              <Mark kind={kind} text={word} />
              {one.reasons.length > 0 && <p class="why-refused">{one.reasons.join("; ")}</p>}
            </td>
            <td>{one.createdAtMs === null ? "–" : `${duration(nowMs - one.createdAtMs)} ago`}</td>
            <td>{one.rows === null ? "–" : whole(one.rows)}</td>
            <td>{one.bytes === null ? "–" : bytes(one.bytes)}</td>
            <td>{one.usedBy.length === 0 ? "nobody" : one.usedBy.join(", ")}</td>
            <td>
              {one.state !== "live" && one.state !== "building" && (
                <button type="button" onClick={() => onLive(one)}>
                  Put live<span class="unseen">: {one.version}</span>
                </button>
              )}
            </td>
          </tr>
        );
      })}
    </ScrollTable>
  );
}

const verdictWords: Readonly<Record<VectorBuildRecord["verdict"], readonly [MarkKind, string]>> = {
  live: ["good", "went live"],
  staged: ["plain", "published"],
  refused: ["bad", "refused"],
  failed: ["bad", "failed"],
};

function Builds({ detail: { name, history, nowMs } }: { detail: VectorTaskDetail }) {
  if (history.length === 0) return <p class="muted">It was not built yet.</p>;
  return (
    <ScrollTable
      about={`the builds of ${name}`}
      titles={["Began", "Ended as", "Rows", "Took", "CPU", "Memory", "Recall", "p50 ms", "p99 ms", "Compared", "Lists", "looked into", "Builder", "Because"]}
      tall
    >
      {history.map((build) => {
        const [kind, word] = verdictWords[build.verdict];
        const { settings } = build;
        return (
          <tr key={build.startedAtMs} data-verdict={build.verdict}>
            <th scope="row">{duration(nowMs - build.startedAtMs)} ago</th>
            <td>
              <Mark kind={kind} text={word} />
              {build.reasons.length > 0 && <p class="why-refused">{build.reasons.join("; ")}</p>}
            </td>
            <td>{build.rows === undefined ? "–" : whole(build.rows)}</td>
            <td title={stagesText(build)}>{duration(build.tookMs)}</td>
            <td>{build.cpuMs === undefined ? "–" : duration(build.cpuMs)}</td>
            <td>{build.rssBytesPeak === undefined ? "–" : bytes(build.rssBytesPeak)}</td>
            <td>{build.recall === undefined ? "–" : build.recall.toFixed(4)}</td>
            <td>{build.searchP50Ms === undefined ? "–" : ms(build.searchP50Ms)}</td>
            <td>{build.searchP99Ms === undefined ? "–" : ms(build.searchP99Ms)}</td>
            <td>{build.comparedShare === undefined ? "–" : percent(build.comparedShare)}</td>
            <td>{settings?.["lists"] === undefined ? "–" : whole(settings["lists"])}</td>
            <td>{settings?.["probes"] === undefined ? "–" : whole(settings["probes"])}</td>
            <td>{build.builder}</td>
            <td>{build.trigger}</td>
          </tr>
        );
      })}
    </ScrollTable>
  );
}

const stagesText = ({ stages = {} }: VectorBuildRecord): string =>
  Object.entries(stages)
    .map(([stage, { ms: took }]) => `${stage} ${duration(took)}`)
    .join(", ");
