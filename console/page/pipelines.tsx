// *Pipelines*: what happens in a request? The graph of each pipeline with the rows that flow through it and what each step costs.

import { useEffect, useRef, useState } from "preact/hooks";
import type { PipelinesAnswer, StatusAnswer } from "#wire/api";
import { ask, type Refused, refusedOf } from "../live/ask.ts";
import { status } from "../live/server.ts";
import { useStore } from "../live/store.ts";
import { Flow } from "../part/flow.tsx";
import { type Step, stepsOf, type Graph } from "../part/flow-steps.ts";
import { ms, rate, whole } from "../part/figures.ts";
import { Notice, RefusedNotice } from "../part/notice.tsx";
import { ScrollTable } from "../part/scroll-table.tsx";

/** Rows and rates are means over about this long. */
const stretchMs = 15_000;

/** The status of some seconds ago, of the same process, to take differences from. */
function useBefore(now: StatusAnswer | undefined): StatusAnswer | undefined {
  const past = useRef<StatusAnswer[]>([]);
  if (now !== undefined && past.current.at(-1) !== now) {
    const kept = past.current.filter((one) => one.startedAtMs === now.startedAtMs && now.nowMs - one.nowMs <= stretchMs);
    past.current = [...kept, now];
  }
  return past.current.length > 1 ? past.current[0] : undefined;
}

export function Pipelines() {
  const now = useStore(status);
  const before = useBefore(now);
  const [graphs, setGraphs] = useState<readonly Graph[] | undefined>(undefined);
  const [refused, setRefused] = useState<Refused | undefined>(undefined);
  const [chosen, setChosen] = useState("");
  const [asked, setAsked] = useState(0);

  // Again after a restart of the server: its configuration may be another.
  useEffect(() => {
    ask<PipelinesAnswer>("GET", "/v1/pipelines").then(
      ({ pipelines }) => {
        setGraphs(pipelines as unknown as Graph[]);
        setRefused(undefined);
      },
      (thrown: unknown) => setRefused(refusedOf(thrown)),
    );
  }, [asked, now?.startedAtMs]);

  const busiest = now?.work.toSorted((a, b) => b.requests.count - a.requests.count)[0]?.pipeline;
  const graph = graphs?.find(({ name }) => name === chosen) ?? graphs?.find(({ name }) => name === busiest) ?? graphs?.[0];
  const work = now?.work.find(({ pipeline }) => pipeline === graph?.name);
  const workBefore = before?.work.find(({ pipeline }) => pipeline === graph?.name);
  const seconds = now === undefined || before === undefined ? undefined : (now.nowMs - before.nowMs) / 1_000;
  const steps = graph === undefined ? [] : stepsOf(graph, work, workBefore);

  return (
    <>
      <header class="page-head">
        <div>
          <h1>Pipelines</h1>
          <p class="muted">What happens in a request? The band is as wide as the rows that are left.</p>
        </div>
        <div class="tools">
          {graph !== undefined && graphs !== undefined && (
            <label>
              Pipeline
              <select value={graph.name} onChange={(event) => setChosen(event.currentTarget.value)}>
                {graphs.map(({ name }) => (
                  <option key={name} value={name}>
                    {name}
                  </option>
                ))}
              </select>
            </label>
          )}
        </div>
      </header>
      {refused !== undefined && <RefusedNotice refused={refused} again={() => setAsked(asked + 1)} />}
      {graphs?.length === 0 && (
        <Notice kind="empty" title="No pipeline is configured.">
          <p>Give the configuration a section pipelines; the default has five.</p>
        </Notice>
      )}
      {graph !== undefined && (
        <>
          <p class="flow-sum" data-testid="flow-sum">
            {work === undefined ? (
              <>
                Not asked since the start. Ask it:{" "}
                <code>{`curl -X POST ${location.origin}/v1/recommend/${graph.name} -H 'content-type: application/json' -d '{"user":"ann"}'`}</code>
              </>
            ) : (
              <>
                <b>{seconds === undefined || workBefore === undefined ? "–" : rate((work.requests.count - workBefore.requests.count) / seconds)}</b> answers a
                second, p50 <b>{ms(work.requests.p50Ms)} ms</b>, p99 <b>{ms(work.requests.p99Ms)} ms</b>; {whole(work.requests.count)} since the start,
                fallbacks:{" "}
                {Object.entries(work.fallbacks)
                  .map(([reason, count]) => `${whole(count)} ${reason}`)
                  .join(", ") || "none"}
                .
              </>
            )}
          </p>
          <section class="panel" aria-label={`Graph of ${graph.name}`}>
            <Flow name={graph.name} steps={steps} />
          </section>
          <Steps name={graph.name} steps={steps} />
        </>
      )}
    </>
  );
}

/** The same for those who read rather than look, and what has no place in the graph. */
function Steps({ name, steps }: { name: string; steps: readonly Step[] }) {
  return (
    <section class="panel" aria-labelledby="steps">
      <header>
        <h2 id="steps">Steps of {name}</h2>
        <p class="muted">Rows: means of the last {stretchMs / 1_000} s. Times: since the start of the process.</p>
      </header>
      <ScrollTable about="the steps" titles={["Step", "Kind", "Rows in", "Rows out", "p50 ms", "p99 ms", "Errors", "Reads", "Writes"]}>
        {steps.map((step) => (
          <tr key={step.id}>
            <th scope="row">{step.id}</th>
            <td>{step.kind}</td>
            <td>{step.figures === undefined ? "–" : whole(step.figures.rowsIn)}</td>
            <td>{step.figures === undefined ? "–" : whole(step.figures.rowsOut)}</td>
            <td>{step.figures === undefined ? "–" : ms(step.figures.p50Ms)}</td>
            <td>{step.figures === undefined ? "–" : ms(step.figures.p99Ms)}</td>
            <td>{step.figures === undefined ? "–" : whole(step.figures.errors)}</td>
            <td class="names">{step.reads.join(", ")}</td>
            <td class="names">{step.writes.join(", ")}</td>
          </tr>
        ))}
      </ScrollTable>
    </section>
  );
}
