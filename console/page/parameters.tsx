// *Parameters*: does training reach serving? Tables with pulls and pushes over time, hot and cold rows, checkpoints, lag per replica, models and which version is live.

import { useEffect, useMemo, useState } from "preact/hooks";
import type { ParameterTableStatus } from "#wire/parameter-api";
import type { AuditEntry, ParametersAnswer } from "#wire/parameter-models-api";
import { type Refused, refusedOf } from "../live/ask.ts";
import { changesShown, latestChanges, type ParameterServer, type Rates, ratesOf, useParameterServer } from "../live/parameter-server.ts";
import { roundsEveryS } from "../live/rounds.ts";
import { AskFirst, type Question } from "../part/ask-first.tsx";
import { Chart, type Line } from "../part/chart.tsx";
import { bytes, duration, percent, rate, whole } from "../part/figures.ts";
import { Mark, type MarkKind } from "../part/mark.tsx";
import { Notice, RefusedNotice } from "../part/notice.tsx";
import { ParameterModels } from "../part/parameter-models.tsx";
import { ParameterRows } from "../part/parameter-rows.tsx";
import { Checkpoints, Synchronisation, syncState } from "../part/parameter-sync.tsx";
import { ScrollTable } from "../part/scroll-table.tsx";

const sample = `{ "parameters": {
    "tables": { "users": { "dim": 16, "memoryMb": 256, "initialScale": 0.05 } },
    "models": { "ctr": { "tables": ["users"], "quota": { "pushedRowsPerS": 50000 } } } } }`;

export function Parameters() {
  const server = useParameterServer();
  const { known, refused } = server;
  const isWithout = refused?.code === "not-found";
  return (
    <>
      <header class="page-head">
        <div>
          <h1>Parameters</h1>
          <p class="muted">Does training reach serving? Asked for every two seconds.</p>
        </div>
      </header>
      {isWithout ? (
        <Notice kind="empty" title="This server has no parameter tables.">
          <p>Declare one in the configuration and start the server with it, for example:</p>
          <pre>{sample}</pre>
          <p>
            <code>millrace start --config parameters.json</code>; then workers push with <code>PADD users …</code> and rankers pull with{" "}
            <code>PPULL users …</code> on the Redis port.
          </p>
        </Notice>
      ) : (
        refused !== undefined && <RefusedNotice refused={refused} />
      )}
      {known !== undefined && !isWithout && <Loaded known={known} server={server} />}
    </>
  );
}

function Loaded({ known, server }: { known: ParametersAnswer; server: ParameterServer }) {
  const { tables, models, quotas, nowMs, state, reason } = known;
  const [chosen, setChosen] = useState("");
  const [question, setQuestion] = useState<Question | undefined>(undefined);
  const [said, setSaid] = useState("");
  const [failed, setFailed] = useState<Refused | undefined>(undefined);
  const [changed, setChanged] = useState(0);
  const table = tables.find(({ name }) => name === chosen) ?? tables[0];
  const done = (text: string): void => {
    setSaid(text);
    setFailed(undefined);
    setChanged((times) => times + 1);
    server.refresh();
  };
  return (
    <>
      {state === "opening" && (
        <Notice kind="wait" title="The parameter tables are being opened.">
          <p>Their checkpoints are read. Pulls are answered as soon as a table is there; this page goes on by itself.</p>
        </Notice>
      )}
      {state === "failed" && (
        <Notice kind="bad" title="The parameters thread has ended: writes are refused.">
          <p>{reason ?? "No reason is known."}</p>
          <p>What to do: look at the server's log. A new thread is started by itself, and reads the checkpoints again.</p>
        </Notice>
      )}
      {state === "open" && tables.length === 0 && (
        <Notice kind="empty" title="There is no parameter table.">
          <p>
            Make one with any Redis client, <code>PCREATE users DIM 16 MEMORY 256</code>, or declare it in the configuration (<code>parameters.tables</code>).
          </p>
        </Notice>
      )}
      {table !== undefined && <TableList known={known} chosen={table.name} onChoose={setChosen} />}
      <p class="said" role="status">
        {said}
      </p>
      {failed !== undefined && <RefusedNotice refused={failed} />}
      {table !== undefined && (
        <>
          <RateCharts table={table} rounds={server.rounds} />
          <ParameterRows table={table} rounds={server.rounds} nowMs={nowMs} />
          <Synchronisation tables={tables} rounds={server.rounds} />
          <Checkpoints tables={tables} nowMs={nowMs} onDone={done} onRefused={(thrown) => setFailed(refusedOf(thrown))} />
        </>
      )}
      {state !== "opening" && <ParameterModels models={models} quotas={quotas} askFirst={setQuestion} onDone={done} />}
      <Changes again={changed} />
      {question !== undefined && <AskFirst question={question} onClose={() => setQuestion(undefined)} />}
    </>
  );
}

function stateOf({ state, sync }: ParameterTableStatus): readonly [MarkKind, string] {
  if (sync !== undefined && (!sync.ready || sync.leadFault !== undefined)) return syncState(sync);
  return state === "failed" ? ["bad", "not served"] : ["good", "ready"];
}

function TableList({
  known: { tables, memoryBytes, memoryBytesMax },
  chosen,
  onChoose,
}: {
  known: ParametersAnswer;
  chosen: string;
  onChoose: (name: string) => void;
}) {
  return (
    <section class="panel" aria-labelledby="tables">
      <header>
        <h2 id="tables">Tables</h2>
        <p class="muted">
          {bytes(memoryBytes)} of {bytes(memoryBytesMax)} given out.{tables.length > 1 && " Choose the one that is shown below."}
        </p>
      </header>
      <ScrollTable
        about="the parameter tables"
        titles={[
          "Table",
          "State",
          "Rows",
          "Numbers a row",
          "Memory taken",
          "Rows pulled",
          "missing",
          "Rows pushed",
          "Found no room",
          "Evicted",
          "Expired",
          "Written since the checkpoint",
        ]}
        tall
      >
        {tables.map((table) => {
          const [kind, word] = stateOf(table);
          return (
            <tr key={table.name} data-table={table.name}>
              <th scope="row">
                <button type="button" class="choose" aria-pressed={table.name === chosen} onClick={() => onChoose(table.name)}>
                  {table.name}
                </button>
              </th>
              <td>
                <Mark kind={kind} text={word} />
                {kind === "bad" && table.reason !== undefined && (
                  <p class="why-refused">{table.reason}. Its files are kept as they are: see the server's log.</p>
                )}
              </td>
              <td>{whole(table.rows)}</td>
              <td>{whole(table.dim)}</td>
              <td>{percent(table.usedBytes / Math.max(table.bytes, 1))}</td>
              <td>{whole(table.pulledRows)}</td>
              <td>{table.pulledRows === 0 ? "–" : percent(table.missedRows / table.pulledRows)}</td>
              <td>{whole(table.pushedRows)}</td>
              <td>{whole(table.refused)}</td>
              <td>{whole(table.evicted)}</td>
              <td>{whole(table.expired)}</td>
              <td>{whole(table.checkpoint.unsavedRows)}</td>
            </tr>
          );
        })}
      </ScrollTable>
    </section>
  );
}

function RateCharts({ table: { name }, rounds }: { table: ParameterTableStatus; rounds: number }) {
  const rates = useMemo(() => ratesOf(name), [name, rounds]);
  const times = useMemo(() => rates.map(({ atS }) => atS), [rates]);
  const line = (title: string, colour: string, of: Exclude<keyof Rates, "atS">): Line => ({ name: title, colour, values: rates.map((one) => one[of]) });
  const common = { times, everyS: roundsEveryS, format: rate, fromZero: true, about: "rows a second, since this page was opened" };
  return (
    <div class="charts">
      <Chart
        {...common}
        title={`Pulls of ${name}`}
        lines={[line("rows pulled", "series-1", "pulledRows"), line("of them missing", "series-3", "missedRows")]}
      />
      <Chart
        {...common}
        title={`Pushes to ${name}`}
        lines={[line("rows pushed", "series-2", "pushedRows"), line("without room", "series-4", "refused"), line("rows evicted", "series-3", "evicted")]}
      />
    </div>
  );
}

const actionWords: Readonly<Record<AuditEntry["action"], string>> = {
  register: "registered",
  live: "put live",
  rollback: "rolled back to",
  retire: "retired",
  removed: "removed, nobody used it any more:",
  "create-table": "made the table",
  "drop-table": "dropped the table",
};

function Changes({ again }: { again: number }) {
  const [changes, setChanges] = useState<readonly AuditEntry[]>([]);
  useEffect(() => {
    let left = false;
    // Without them the page says the rest all the same.
    latestChanges().then(
      (found) => !left && setChanges(found),
      () => undefined,
    );
    return () => {
      left = true;
    };
  }, [again]);
  if (changes.length === 0) return null;
  return (
    <details class="panel changes">
      <summary>The latest {changes.length < changesShown ? "" : `${changesShown} `}changes of models and tables</summary>
      <ul class="lines">
        {changes.map(({ seq, atMs, who, action, name, version, before }) => (
          <li key={seq}>
            <b>{who}</b>, {duration(Date.now() - atMs)} ago: {actionWords[action]} <b>{name}</b>
            {version !== undefined && (
              <>
                {" "}
                <code>{version}</code>
              </>
            )}
            {before !== undefined && (
              <>
                {" "}
                instead of <code>{before}</code>
              </>
            )}
          </li>
        ))}
      </ul>
    </details>
  );
}
