// *Quality*: is the model good? Each sample is predicted before it is learned; the counting model predicts the same samples beside it.

import type { ComponentChildren } from "preact";
import { useEffect, useMemo, useState } from "preact/hooks";
import type { QualityAnswer, QualityPoint, TrainingStatus } from "#wire/live-api";
import { ask, type Refused, refusedOf } from "../live/ask.ts";
import { training } from "../live/server.ts";
import { useStore } from "../live/store.ts";
import { Chart, type Line } from "../part/chart.tsx";
import { duration, rate, whole } from "../part/figures.ts";
import { LastMinutes } from "../part/last-minutes.tsx";
import { Notice, RefusedNotice } from "../part/notice.tsx";
import { ScrollTable } from "../part/scroll-table.tsx";

const askEveryMs = 2_000;
const reportMsMax = 2_500;
const three = (value: number): string => value.toFixed(3);

type Known = { readonly quality?: QualityAnswer; readonly refused?: Refused };

function useQuality(minutes: number): Known {
  const [known, setKnown] = useState<Known>({});
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    let left = false;
    const again = async (): Promise<void> => {
      if (!document.hidden) {
        const next: Known = await ask<QualityAnswer>("GET", `/v1/quality?minutes=${minutes}`).then(
          (quality) => ({ quality }),
          (thrown: unknown) => ({ refused: refusedOf(thrown) }),
        );
        if (!left) setKnown(next);
      }
      if (!left) timer = setTimeout(() => void again(), askEveryMs);
    };
    void again();
    return () => {
      left = true;
      clearTimeout(timer);
    };
  }, [minutes]);
  return known;
}

export function Quality() {
  const [minutes, setMinutes] = useState(15);
  const { quality, refused } = useQuality(minutes);
  const learner = useStore(training);
  const without = learner === "none";
  return (
    <>
      <header class="page-head">
        <div>
          <h1>Quality</h1>
          <p class="muted">Is the model good? Every sample is predicted first and learned after; the counting model predicts the same ones.</p>
        </div>
        <div class="tools">
          <LastMinutes value={minutes} choices={[5, 15, 60]} onChoose={setMinutes} />
        </div>
      </header>
      {without ? (
        <Notice kind="empty" title="This server runs without a model.">
          <p>
            The weighted score ranks, from counts alone. To let a model learn from every event, give the configuration a section <code>model</code> and start
            again; the default configuration has one.
          </p>
        </Notice>
      ) : (
        <>
          {refused !== undefined && <RefusedNotice refused={refused} />}
          {learner !== undefined && <Training status={learner} />}
          {quality !== undefined && <Curves quality={quality} minutes={minutes} />}
        </>
      )}
    </>
  );
}

const stateWords: Readonly<Record<TrainingStatus["state"], string>> = {
  starting: "is starting",
  learning: "learns from every event",
  off: "stands still: training is off",
  stopped: "was stopped, to be safe",
  failed: "has failed",
  following: "is trained by another server",
};

function Training({ status }: { status: TrainingStatus }) {
  const [refused, setRefused] = useState<Refused | undefined>(undefined);
  const [asking, setAsking] = useState(false);
  // The trainer reports once a second: until then the switch shows what it was told.
  const [told, setTold] = useState<{ readonly on: boolean; readonly untilMs: number } | undefined>(undefined);
  const reported = status.state === "learning" || status.state === "starting";
  const on = told !== undefined && performance.now() < told.untilMs ? told.on : reported;
  const turn = async (): Promise<void> => {
    setAsking(true);
    try {
      training.set(await ask<TrainingStatus>("POST", "/v1/training", { on: !on }));
      setTold({ on: !on, untilMs: performance.now() + reportMsMax });
      setRefused(undefined);
    } catch (thrown) {
      setRefused(refusedOf(thrown));
    }
    setAsking(false);
  };
  const facts: readonly (readonly [string, ComponentChildren])[] = [
    ["Samples a second", rate(status.samplesPerS)],
    ["Samples", `${whole(status.samples)}, ${whole(status.positives)} clicks`],
    ["Behind the log", status.behind === 1 ? "1 record" : `${whole(status.behind)} records`],
    ["Answers waiting for their window", whole(status.openAnswers)],
    ["Parameters", `${whole(status.rows)} of ${whole(status.capacityRows)} rows`],
    ["Keys refused, table full", whole(status.refusedRows)],
    ["Actions after their window", whole(status.late)],
    ["Actions without an answer", whole(status.unjoined)],
    ["Last checkpoint", status.checkpointAtMs === undefined ? "none yet" : `${duration(Date.now() - status.checkpointAtMs)} ago`],
  ];
  return (
    <section class="panel training" aria-labelledby="training" data-state={status.state}>
      <header>
        <h2 id="training">
          The model <span data-testid="training-state">{stateWords[status.state]}</span>
        </h2>
        <button
          type="button"
          class="switch"
          role="switch"
          aria-checked={on}
          disabled={asking || status.state === "starting" || status.state === "following"}
          onClick={() => void turn()}
        >
          <span class="switch-track" aria-hidden="true">
            <i />
          </span>
          Real-time training
        </button>
      </header>
      {status.reason !== undefined && <p class="training-reason">{status.reason}</p>}
      {status.state === "off" && (
        <p class="training-reason muted">It goes on being judged: below, its figures drift as the world moves on, and the stretch is shaded.</p>
      )}
      {refused !== undefined && <RefusedNotice refused={refused} />}
      <dl class="facts">
        {facts.map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
    </section>
  );
}

/** From and to of the stretches without training, in seconds. */
function stillStretches(points: readonly QualityPoint[], everyMs: number): [number, number][] {
  const stretches: [number, number][] = [];
  for (const { atMs, training: on } of points) {
    if (on) continue;
    const last = stretches.at(-1);
    if (last !== undefined && atMs / 1_000 - last[1] < everyMs / 2_000) last[1] = (atMs + everyMs) / 1_000;
    else stretches.push([atMs / 1_000, (atMs + everyMs) / 1_000]);
  }
  return stretches;
}

type Figure = "logLoss" | "auc" | "calibration" | "countingLogLoss" | "countingAuc" | "countingCalibration";

/** Mean over the points, weighted by samples, the calibration (predicted over clicked) by clicks; undefined when no point has it. */
function meanOf(points: readonly QualityPoint[], figure: Figure): number | undefined {
  let sum = 0;
  let weight = 0;
  for (const point of points) {
    const value = point[figure];
    if (value === undefined) continue;
    const part = figure === "calibration" || figure === "countingCalibration" ? point.positives : point.samples;
    sum += value * part;
    weight += part;
  }
  return weight === 0 ? undefined : sum / weight;
}

/** Stretches joined to ones of `everyMs`: a second has too few clicks for a line that one can read. Figures are means by samples; for the AUC that is nearly right. */
function joined(points: readonly QualityPoint[], everyMs: number): QualityPoint[] {
  const groups = Map.groupBy(points, ({ atMs }) => Math.floor(atMs / everyMs));
  return [...groups].map(([group, parts]) => {
    const figures = Object.fromEntries(
      (["logLoss", "auc", "calibration", "countingLogLoss", "countingAuc", "countingCalibration"] as const).flatMap((figure) => {
        const mean = meanOf(parts, figure);
        return mean === undefined ? [] : [[figure, mean]];
      }),
    );
    const sum = (count: "samples" | "positives"): number => parts.reduce((total, part) => total + part[count], 0);
    return { atMs: group * everyMs, samples: sum("samples"), positives: sum("positives"), training: parts.every(({ training: on }) => on), ...figures };
  });
}

const pointsWanted = 90;

function Curves({ quality, minutes }: { quality: QualityAnswer; minutes: number }) {
  const everyMs = Math.max(quality.everyMs, (minutes * 60_000) / pointsWanted);
  const points = useMemo(() => joined(quality.points, everyMs), [quality, everyMs]);
  const times = useMemo(() => points.map(({ atMs }) => atMs / 1_000), [points]);
  const shades = useMemo(() => stillStretches(points, everyMs), [points, everyMs]);
  const lines = (model: Figure, counting: Figure): Line[] => [
    { name: "model", colour: "series-1", values: points.map((point) => point[model] ?? null) },
    { name: "counting", colour: "series-3", values: points.map((point) => point[counting] ?? null) },
  ];
  if (points.length === 0) {
    return (
      <Notice kind="empty" title="No sample has been judged yet.">
        <p>
          A sample is an item that was shown and then clicked, or not clicked within the window. The viewers of <code>npm start</code> bring some within
          seconds; your own come with <code>recommendationId</code> in the events.
        </p>
      </Notice>
    );
  }
  const shared = { times, everyS: everyMs / 1_000, shades, shadeName: "training off" };
  return (
    <>
      <Against points={points} />
      <div class="charts">
        <Chart {...shared} title="AUC" about="how well clicks are told from the rest; higher is better" format={three} lines={lines("auc", "countingAuc")} />
        <Chart
          {...shared}
          title="Log loss"
          about="how wrong the probabilities are; lower is better"
          format={three}
          lines={lines("logLoss", "countingLogLoss")}
        />
        <Chart
          {...shared}
          title="Calibration"
          about="clicks foretold / clicks; 1 is right"
          format={(value) => value.toFixed(2)}
          objective={{ value: 1, name: "right" }}
          lines={lines("calibration", "countingCalibration")}
        />
        <Chart
          {...shared}
          title="Samples"
          about={`in each ${duration(everyMs)}`}
          format={whole}
          fromZero
          lines={[
            { name: "all", colour: "series-2", values: points.map(({ samples }) => samples) },
            { name: "clicks", colour: "series-1", values: points.map(({ positives }) => positives) },
          ]}
        />
      </div>
    </>
  );
}

function Against({ points }: { points: readonly QualityPoint[] }) {
  const rows = (
    [
      ["AUC", "auc", "countingAuc", "higher is better"],
      ["Log loss", "logLoss", "countingLogLoss", "lower is better"],
      ["Calibration", "calibration", "countingCalibration", "1 is right"],
    ] as const
  ).map(([name, model, counting, hint]) => ({ name, hint, model: meanOf(points, model), counting: meanOf(points, counting) }));
  const write = (value: number | undefined): string => (value === undefined ? "–" : value.toFixed(3));
  return (
    <section class="panel" aria-labelledby="against">
      <header>
        <h2 id="against">Model against counting</h2>
        <p class="muted">Means over the time shown, {whole(points.reduce((sum, { samples }) => sum + samples, 0))} samples</p>
      </header>
      <ScrollTable about="the figures" titles={["Figure", "Model", "Counting", "Better"]}>
        {rows.map(({ name, hint, model, counting }) => (
          <tr key={name}>
            <th scope="row">
              {name} <small class="muted">{hint}</small>
            </th>
            <td>{write(model)}</td>
            <td>{write(counting)}</td>
            <td>{model === undefined || counting === undefined ? "–" : better(name, model, counting)}</td>
          </tr>
        ))}
      </ScrollTable>
    </section>
  );
}

function better(name: string, model: number, counting: number): string {
  const [a, b] = name === "AUC" ? [-model, -counting] : name === "Calibration" ? [Math.abs(Math.log(model)), Math.abs(Math.log(counting))] : [model, counting];
  return a === b ? "equal" : a < b ? "model" : "counting";
}
