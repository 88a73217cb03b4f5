// *Overview*: are we healthy? What the last second was like against its objectives, and how it came to that.

import { useMemo, useState } from "preact/hooks";
import type { LiveSecond } from "#wire/live-api";
import { gone, seconds, status, streaming, training } from "../live/server.ts";
import { useStore } from "../live/store.ts";
import { Chart, type Line } from "../part/chart.tsx";
import { bytes, ms, percent, rate, whole } from "../part/figures.ts";
import { LastMinutes } from "../part/last-minutes.tsx";
import { Notice, RefusedNotice } from "../part/notice.tsx";
import { Tile } from "../part/tile.tsx";

/** What millrace promises on an ordinary machine; the benches measure the same. */
export const objectives = { answerMs: 50, freshMs: 50, stallMs: 10 } as const;

type Latency = LiveSecond["recommend"];
const msUnit = (value: number): string => `${ms(value)} ms`;
/** Nothing measured is no 0. */
const p99 = (latency: Latency | undefined): number | null => (latency === undefined || latency.count === 0 ? null : latency.p99Ms);
const p50 = (latency: Latency | undefined): number | null => (latency === undefined || latency.count === 0 ? null : latency.p50Ms);
/** Of a logarithmic axis, which has no 0. */
const positive = (value: number | null): number | null => (value === null ? null : Math.max(value, 0.01));

export function Overview() {
  const server = useStore(status);
  const lost = useStore(gone);
  const all = useStore(seconds);
  const open = useStore(streaming);
  const [minutes, setMinutes] = useState(5);
  const shown = useMemo(() => {
    const from = (all.at(-1)?.atMs ?? 0) - minutes * 60_000;
    return all.filter(({ atMs }) => atMs >= from);
  }, [all, minutes]);
  const times = useMemo(() => shown.map(({ atMs }) => atMs / 1_000), [shown]);
  const line = (name: string, colour: string, value: (second: LiveSecond) => number | null | undefined): Line => ({
    name,
    colour,
    values: shown.map((second) => value(second) ?? null),
  });
  const learned = shown.some(({ eventToParameter }) => eventToParameter !== undefined);

  return (
    <>
      <header class="page-head">
        <div>
          <h1>Overview</h1>
          <p class="muted">Are we healthy? Each second as it was; dashed lines are the objectives.</p>
        </div>
        <div class="tools">
          <LastMinutes value={minutes} choices={[1, 5, 15]} onChoose={setMinutes} />
        </div>
      </header>
      {lost !== undefined && <RefusedNotice refused={lost} />}
      {server?.ready === false && (
        <Notice kind="wait" title="The server is not ready yet.">
          <p>It waits for: {server.waiting.join("; ")}.</p>
        </Notice>
      )}
      {lost === undefined && !open && (
        <Notice kind="wait" title="The live stream is not connected.">
          <p>
            The page tries again every two seconds. Figures below are of the moment at which it was lost. A server has at most 64 streams: close pages that
            nobody looks at.
          </p>
        </Notice>
      )}
      <Tiles />
      <div class="charts">
        <Chart
          title="Traffic"
          about="a second"
          times={times}
          everyS={1}
          format={rate}
          fromZero
          lines={[
            line("recommendations", "series-1", (second) => second.recommendationsPerS),
            line("events", "series-2", (second) => second.eventsPerS),
            line("all requests", "series-3", (second) => second.requestsPerS),
          ]}
        />
        <Chart
          title="Answer time"
          about="of a recommendation, in the server"
          times={times}
          everyS={1}
          format={msUnit}
          log
          objective={{ value: objectives.answerMs, name: "objective, p99" }}
          lines={[line("p50", "series-2", (second) => positive(p50(second.recommend))), line("p99", "series-1", (second) => positive(p99(second.recommend)))]}
        />
        <Chart
          title="Freshness"
          about="from the receipt of an event, p99"
          times={times}
          everyS={1}
          format={msUnit}
          log
          objective={{ value: objectives.freshMs, name: "objective, p99" }}
          lines={[
            line("to feature", "series-1", (second) => positive(p99(second.eventToFeature))),
            ...(learned
              ? [
                  line("to parameter", "series-2", (second) => positive(p99(second.eventToParameter))),
                  line("to vector", "series-3", (second) => positive(p99(second.eventToVector))),
                ]
              : []),
          ]}
        />
        <Chart
          title="Longest stall of the serving loop"
          about="CPU time held in one go"
          times={times}
          everyS={1}
          format={msUnit}
          log
          objective={{ value: objectives.stallMs, name: "objective" }}
          lines={[line("longest", "series-1", (second) => positive(second.loopStallMaxMs))]}
        />
        <Chart
          title="Errors and fallbacks"
          about="a second"
          times={times}
          everyS={1}
          format={rate}
          fromZero
          lines={[line("errors", "series-4", (second) => second.errorsPerS), line("fallbacks", "series-3", (second) => second.fallbacksPerS)]}
        />
        <Chart
          title="Click rate"
          about="clicks of a second / items served in it"
          times={times}
          everyS={1}
          format={percent}
          fromZero
          lines={[line("click rate", "series-1", (second) => second.clickRate)]}
        />
      </div>
      <Memory />
    </>
  );
}

function Tiles() {
  const server = useStore(status);
  const last = useStore(seconds).at(-1);
  const learner = useStore(training);
  const answer = p99(last?.recommend) ?? undefined;
  const stages = [p99(last?.eventToFeature), p99(last?.eventToParameter), p99(last?.eventToVector)].filter((value) => value !== null);
  const fresh = stages.length === 0 ? undefined : Math.max(...stages);
  const stall = last?.loopStallMaxMs;
  const text = (value: number | undefined, format: (value: number) => string): string | undefined => (value === undefined ? undefined : format(value));
  const recent = learner === undefined || learner === "none" ? undefined : learner.recent;
  const under = (value: number | undefined, objective: number): boolean | undefined => (value === undefined ? undefined : value <= objective);
  return (
    <dl class="tiles">
      <Tile name="Answers" value={text(last?.recommendationsPerS, rate)} unit="/ s" more={`${text(last?.eventsPerS, rate) ?? "–"} events / s`} />
      <Tile name="Answer time, p99" value={text(answer, ms)} unit="ms" kept={under(answer, objectives.answerMs)} more={`${objectives.answerMs} ms`} />
      <Tile name="Freshness, p99" value={text(fresh, ms)} unit="ms" kept={under(fresh, objectives.freshMs)} more={`${objectives.freshMs} ms`} />
      <Tile name="Loop stall" value={text(stall, ms)} unit="ms" kept={under(stall, objectives.stallMs)} more={`${objectives.stallMs} ms`} />
      <Tile name="Errors" value={text(last?.errorsPerS, rate)} unit="/ s" more={server === undefined ? "" : `${whole(server.http.refused)} since the start`} />
      <Tile
        name="Fallbacks"
        value={text(last?.fallbacksPerS, rate)}
        unit="/ s"
        more={server === undefined ? "" : `${whole(server.fallbacks)} since the start`}
      />
      <Tile
        name="Model, AUC"
        value={text(recent?.auc, (value) => value.toFixed(3))}
        more={recent?.countingAuc === undefined ? (learner === "none" ? "no model" : "not enough samples") : `counting ${recent.countingAuc.toFixed(3)}`}
      />
      <Tile
        name="Model, log loss"
        value={text(recent?.logLoss, (value) => value.toFixed(3))}
        more={
          recent?.countingLogLoss === undefined ? (learner === "none" ? "no model" : "not enough samples") : `counting ${recent.countingLogLoss.toFixed(3)}`
        }
      />
    </dl>
  );
}

function Memory() {
  const server = useStore(status);
  const owners = Object.entries(server?.memoryBytes ?? {}).sort((a, b) => b[1] - a[1]);
  const sum = owners.reduce((total, [, size]) => total + size, 0);
  return (
    <div class="pair">
      <section class="panel" aria-labelledby="memory">
        <header>
          <h2 id="memory">Memory by owner</h2>
          <p class="muted">{owners.length === 0 ? "" : `${bytes(sum)} together`}</p>
        </header>
        <ul class="bars">
          {owners.map(([owner, size]) => (
            <li key={owner}>
              <span>{owner}</span>
              <span class="bar" aria-hidden="true">
                <i style={{ width: `${(100 * size) / Math.max(owners[0]![1], 1)}%` }} />
              </span>
              <b>{bytes(size)}</b>
            </li>
          ))}
        </ul>
      </section>
      <section class="panel" aria-labelledby="since">
        <header>
          <h2 id="since">Since the start</h2>
        </header>
        {server !== undefined && (
          <dl class="facts">
            {(
              [
                ["Items", server.items],
                ["Users", server.users],
                ["Events taken in", server.eventsAccepted],
                ["of them joined with an answer", server.eventsJoined],
                ["counted again from the log", server.eventsRebuilt],
                ["known before, by their id", server.eventsDuplicate],
                ["refused", server.eventsRejected],
                ["Recommendations", server.recommendations],
                ["of them degraded", server.degraded],
                ["Log offset", server.logOffset],
              ] as const
            ).map(([name, value]) => (
              <div key={name}>
                <dt>{name}</dt>
                <dd>{whole(value)}</dd>
              </div>
            ))}
          </dl>
        )}
      </section>
    </div>
  );
}
