// The way of an act through the server, stage by stage, with both clocks; below it the ones before, each as one line.

import { type Stage, stages, type StageSeen, type Way } from "../page/user-session.ts";
import { ms } from "./figures.ts";

const says: Readonly<Record<Stage, string>> = {
  event: "The server has it in its log",
  feature: "Your counters and tastes hold it",
  parameter: "The model has taken a step on it",
  vector: "The item's vector has moved",
  answer: "The next feed is on this page",
};

const learned: readonly Stage[] = ["parameter", "vector"];

export function WayPanel({ way, learns }: { way: Way | undefined; learns: string | undefined }) {
  return (
    <ol class="way">
      {stages.map((stage) => {
        const seen = way?.seen[stage];
        const passed = way?.ended === true && seen === undefined;
        const without = learned.includes(stage) ? learns : undefined;
        const state = seen !== undefined ? "seen" : way === undefined || without !== undefined || passed ? "idle" : "awaited";
        const missed = without ?? (passed ? "did not come in time for this answer" : undefined);
        return (
          <li key={stage} data-stage={stage} data-state={state}>
            <span class="way-dot" aria-hidden="true" />
            <span class="way-name">{stage}</span>
            <span class="way-says">{seen?.detail ?? missed ?? says[stage]}</span>
            <Clocks seen={seen} />
          </li>
        );
      })}
    </ol>
  );
}

function Clocks({ seen }: { seen: StageSeen | undefined }) {
  return (
    <span class="way-clocks">
      <b>
        {seen === undefined ? "–" : ms(seen.browserMs)} <small>ms</small>
      </b>
      <span class="way-server">{seen?.serverMs === undefined ? "" : `server ${ms(seen.serverMs)} ms`}</span>
    </span>
  );
}

export function WayBefore({ way }: { way: Way }) {
  const last = way.seen.answer;
  return (
    <li>
      {way.type} <q>{way.title}</q>
      <b>{way.failed !== undefined ? "failed" : last === undefined ? "…" : `${ms(last.browserMs)} ms`}</b>
    </li>
  );
}
