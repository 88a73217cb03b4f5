// Imports that run or ran lately, of this server and of terminals on its data folder: how far they are, what they refused, and where it says why.

import { ask, plain } from "../live/ask.ts";
import { type ImportState, isRunning } from "../live/feature-store.ts";
import type { Question } from "./ask-first.tsx";
import { duration, percent, rate, whole } from "./figures.ts";
import { Mark, type MarkKind } from "./mark.tsx";

const words: Readonly<Record<ImportState["stage"], readonly [MarkKind, string]>> = {
  planning: ["wait", "is planned"],
  waiting: ["wait", "waits for its turn"],
  reading: ["wait", "reads"],
  building: ["wait", "builds"],
  publishing: ["wait", "publishes"],
  done: ["good", "done"],
  failed: ["bad", "failed"],
};

/** Share of the whole that reading takes, as the importer guesses it. */
const readingShare = 0.45;

/** How much of an import is done, 0 to 1, as well as one can say. */
export function shareOf({ stage, rowsTotal, rowsStaged, rowsRefused, inputs, inputsDone, runs, runsBuilt }: ImportState): number {
  const part = (done: number, all: number): number => (all === 0 ? 0 : Math.min(1, done / all));
  switch (stage) {
    case "done":
      return 1;
    case "publishing":
      return 0.99;
    case "building":
      return readingShare + (1 - readingShare) * 0.98 * part(runsBuilt, runs);
    default:
      return readingShare * (rowsTotal === undefined ? part(inputsDone, inputs) : part(rowsStaged + rowsRefused, rowsTotal));
  }
}

interface ImportsProps {
  readonly imports: readonly ImportState[];
  readonly askFirst: (question: Question) => void;
  readonly onDone: (said: string) => void;
}

export function Imports({ imports, askFirst, onDone }: ImportsProps) {
  const stop = ({ job, table }: ImportState): void =>
    askFirst({
      title: `Stop the import of ${table}?`,
      text: <p>Nothing of it goes live. What it has done is kept: the same import, begun again, goes on from there.</p>,
      does: "Stop the import",
      async act() {
        const { stopped } = await ask<{ stopped: boolean }>("DELETE", `/v1/imports/${encodeURIComponent(job)}`);
        onDone(stopped ? `The import of ${table} is stopped.` : "This server did not start it, or it has ended: stop it where it runs.");
      },
    });
  return (
    <section class="panel" aria-labelledby="imports">
      <header>
        <h2 id="imports">Imports</h2>
        <p class="muted">{imports.length === 0 ? "" : "Those that run, and the last twenty."}</p>
      </header>
      {imports.length === 0 && <p class="muted">None runs, and none ran lately. Begin one with the form, or with millrace import in a terminal.</p>}
      <ul class="imports">
        {imports.map((one) => {
          const [kind, text] = words[one.stage];
          const share = shareOf(one);
          const running = isRunning(one);
          return (
            <li key={one.job} data-job={one.job} data-stage={one.stage}>
              <div class="import-head">
                <h3>{one.table}</h3>
                <Mark kind={kind} text={text} />
                {one.resumed && <small class="muted">goes on behind an earlier attempt</small>}
                <small class="muted import-when">
                  {running
                    ? `since ${duration(Date.now() - one.startedAtMs)}`
                    : `${duration(Date.now() - one.atMs)} ago, took ${duration(one.atMs - one.startedAtMs)}`}
                </small>
                {running && (
                  <button type="button" onClick={() => stop(one)}>
                    Stop<span class="unseen"> the import of {one.table}</span>
                  </button>
                )}
              </div>
              {running && (
                <div
                  class="bar"
                  role="progressbar"
                  aria-label={`Import of ${one.table}`}
                  aria-valuemin={0}
                  aria-valuemax={100}
                  aria-valuenow={Math.round(100 * share)}
                >
                  <i style={{ width: `${100 * share}%` }} />
                </div>
              )}
              <dl class="import-facts">
                {running && <Fact name="Progress" value={percent(share)} />}
                <Fact
                  name="Rows"
                  value={one.rowsTotal === undefined || !running ? whole(one.rowsStaged) : `${whole(one.rowsStaged)} of ${whole(one.rowsTotal)}`}
                />
                {running && <Fact name="Rows a second" value={rate(one.rowsPerS)} />}
                {running && <Fact name="Left" value={one.etaMs === undefined ? "not known yet" : duration(one.etaMs)} />}
                <Fact name="Inputs" value={running ? `${one.inputsDone} of ${one.inputs}` : whole(one.inputs)} />
                {one.stage === "building" && <Fact name="Run files" value={`${one.runsBuilt} of ${one.runs}`} />}
                <Fact name="Refused rows" value={whole(one.rowsRefused)} />
                {one.version !== undefined && <Fact name="Version" value={one.version} />}
              </dl>
              {one.rowsRefused > 0 && (
                <div class="why-refused">
                  {one.refusedWhy !== undefined && one.refusedWhy.length > 0 && <p>Refused: {one.refusedWhy.join("; ")}.</p>}
                  {one.rejectFile !== undefined && (
                    <p>
                      Which rows and why, line by line, on the server: <code>{one.rejectFile}</code>
                    </p>
                  )}
                </div>
              )}
              {one.error !== undefined && <p class="why-refused">{plain(one.error)}</p>}
            </li>
          );
        })}
      </ul>
    </section>
  );
}

function Fact({ name, value }: { name: string; value: string }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{value}</dd>
    </div>
  );
}
