// *Features*: what do models read, how old is it, and where does it come from? Tables with their versions and columns, imports, one row, the store below.

import { useMemo, useState } from "preact/hooks";
import { type FeatureStore, isServersTable, type Rates, ratesOf, type TableState, useFeatureStore } from "../live/feature-store.ts";
import { Chart, type Line } from "../part/chart.tsx";
import { AskFirst, type Question } from "../part/ask-first.tsx";
import { percent, rate, whole } from "../part/figures.ts";
import { ImportForm } from "../part/import-form.tsx";
import { Imports } from "../part/imports.tsx";
import { Mark } from "../part/mark.tsx";
import { Notice, RefusedNotice } from "../part/notice.tsx";
import { RowLook } from "../part/row-look.tsx";
import { ScrollTable } from "../part/scroll-table.tsx";
import { StoreState } from "../part/store-state.tsx";
import { TableColumns } from "../part/table-columns.tsx";
import { TableVersions } from "../part/table-versions.tsx";

export function Features() {
  const features = useFeatureStore();
  const { known, refused } = features;
  return (
    <>
      <header class="page-head">
        <div>
          <h1>Features</h1>
          <p class="muted">What do models read, how old is it, and where does it come from? Asked for every two seconds.</p>
        </div>
      </header>
      {refused?.code === "not-found" ? (
        <Notice kind="empty" title="This server has no feature store.">
          <p>
            It was started without one. <code>millrace start</code> brings it.
          </p>
        </Notice>
      ) : (
        refused !== undefined && <RefusedNotice refused={refused} />
      )}
      {known !== undefined && <Loaded known={known} features={features} />}
    </>
  );
}

const sample = `{ "tables": { "items": { "key": "string",
    "columns": { "ctr": { "type": "f32", "owner": "stream", "ttlHours": 24 },
                 "embedding": { "type": "f32", "length": 64, "owner": "batch" },
                 "title": { "type": "string" } } } } }`;

function Loaded({ known, features }: { known: NonNullable<FeatureStore["known"]>; features: FeatureStore }) {
  const { snapshots, imports, store } = known;
  const [chosen, setChosen] = useState("");
  const [question, setQuestion] = useState<Question | undefined>(undefined);
  const [said, setSaid] = useState("");
  const declared = known.tables.filter(({ name }) => !isServersTable(name));
  const servers = known.tables.filter(({ name }) => isServersTable(name));
  const table = known.tables.find(({ name }) => name === chosen) ?? declared[0] ?? servers[0];
  const own = declared.map(({ name }) => name);
  const done = (text: string): void => {
    setSaid(text);
    features.refresh();
  };
  return (
    <>
      {own.length === 0 && (
        <Notice kind="empty" title="No table is declared.">
          <p>Declare one in the configuration and start the server with it, for example:</p>
          <pre>{sample}</pre>
          <p>
            <code>millrace start --config tables.json</code>, then import files into it here, or write rows live (<code>TSET items i1 ctr 0.12</code> with any
            Redis client, or <code>POST /v1/tables/items/write</code>).
          </p>
        </Notice>
      )}
      {table !== undefined && (
        <>
          <TableList declared={declared} servers={servers} chosen={table.name} onChoose={setChosen} />
          <p class="said" role="status">
            {said}
          </p>
          <Reads table={table} rounds={features.rounds} />
          <TableVersions table={table} snapshot={snapshots.find(({ name }) => name === table.name)} askFirst={setQuestion} onDone={done} />
          <TableColumns table={table} />
          <RowLook table={table} rounds={features.rounds} />
          <div class="pair import-pair">
            <Imports imports={imports} askFirst={setQuestion} onDone={done} />
            {own.length > 0 && (
              <ImportForm tables={own} table={own.includes(table.name) ? table.name : own[0]!} onStarted={(name) => done(`The import of ${name} has begun.`)} />
            )}
          </div>
        </>
      )}
      <StoreState answer={store} />
      {question !== undefined && <AskFirst question={question} onClose={() => setQuestion(undefined)} />}
    </>
  );
}

interface TableListProps {
  readonly declared: readonly TableState[];
  readonly servers: readonly TableState[];
  readonly chosen: string;
  readonly onChoose: (name: string) => void;
}

function TableList({ declared, servers, chosen, onChoose }: TableListProps) {
  const heading = ({ name, loaded }: TableState) => (
    <>
      <th scope="row">
        <button type="button" class="choose" aria-pressed={name === chosen} onClick={() => onChoose(name)}>
          {name}
        </button>
      </th>
      <td>{loaded ? <Mark kind="good" text="loaded" /> : <Mark kind="wait" text="is being loaded" />}</td>
    </>
  );
  const read = ({ counts }: TableState) => (
    <>
      <td>{whole(counts.keysRead)}</td>
      <td>{counts.keysRead === 0 ? "–" : percent(counts.keysAbsent / counts.keysRead)}</td>
    </>
  );
  return (
    <section class="panel" aria-labelledby="tables">
      <header>
        <h2 id="tables">Tables</h2>
        <p class="muted">{declared.length + servers.length === 1 ? "" : "Choose the one that is shown below."}</p>
      </header>
      {declared.length > 0 && (
        <ScrollTable
          about="the tables"
          titles={["Table", "State", "Rows imported", "Version", "Versions loaded", "Columns", "Log offset", "Keys read", "absent", "Rows written", "deleted"]}
          tall
        >
          {declared.map((table) => (
            <tr key={table.name} data-table={table.name}>
              {heading(table)}
              <td>{table.version === "" ? "–" : whole(table.baseRows)}</td>
              <td>{table.version === "" ? <span class="muted">live writes alone</span> : <code>{table.version}</code>}</td>
              <td>{whole(table.versions.length)}</td>
              <td>{whole(table.columns.length)}</td>
              <td>{whole(table.logOffset)}</td>
              {read(table)}
              <td>{whole(table.counts.rowsWritten)}</td>
              <td>{whole(table.counts.rowsDeleted)}</td>
            </tr>
          ))}
        </ScrollTable>
      )}
      {servers.length > 0 && (
        <details class="server-tables" open={declared.length === 0}>
          <summary>{whole(servers.length)} more that the server counts from events, to read only</summary>
          <ScrollTable about="the tables that the server counts" titles={["Table", "State", "Columns", "Keys read", "absent"]} tall>
            {servers.map((table) => (
              <tr key={table.name} data-table={table.name}>
                {heading(table)}
                <td>{whole(table.columns.length)}</td>
                {read(table)}
              </tr>
            ))}
          </ScrollTable>
        </details>
      )}
    </section>
  );
}

/** Keys a second. */
function meanOf(rates: readonly Rates[]): string {
  const seconds = rates.reduce((sum, one) => sum + one.seconds, 0);
  return seconds === 0 ? "–" : rate(rates.reduce((sum, one) => sum + one.keysRead * one.seconds, 0) / seconds);
}

/** Stretches without an import that those with one are compared with: the last minute. */
const comparedMax = 30;

function Reads({ table, rounds }: { table: TableState; rounds: number }) {
  const rates = useMemo(() => ratesOf(table.name), [table.name, rounds]);
  const times = useMemo(() => rates.map(({ atS }) => atS), [rates]);
  const shades = useMemo(() => importStretches(rates), [rates]);
  const line = (name: string, colour: string, value: (rates: Rates) => number): Line => ({ name, colour, values: rates.map(value) });
  const during = rates.filter(({ importing }) => importing);
  return (
    <>
      <div class="charts reads">
        <Chart
          title={`Reads and writes of ${table.name}`}
          about="a second, since this page was opened"
          times={times}
          everyS={2}
          format={rate}
          fromZero
          shades={shades}
          shadeName="import runs"
          lines={[
            line("keys read", "series-1", ({ keysRead }) => keysRead),
            line("of them absent", "series-3", ({ keysAbsent }) => keysAbsent),
            line("rows written", "series-2", ({ rowsWritten }) => rowsWritten),
          ]}
        />
      </div>
      {during.length > 0 && (
        <p class="flow-sum" data-testid="reads-during">
          While an import runs: <b>{meanOf(during)}</b> keys a second; without one:{" "}
          <b>{meanOf(rates.filter(({ importing }) => !importing).slice(-comparedMax))}</b>.
        </p>
      )}
    </>
  );
}

/** From and to of the stretches with an import, in seconds. */
function importStretches(rates: readonly Rates[]): [number, number][] {
  const stretches: [number, number][] = [];
  rates.forEach(({ atS, importing }, i) => {
    if (!importing) return;
    const from = rates[i - 1]?.atS ?? atS;
    const last = stretches.at(-1);
    if (last?.[1] === from) last[1] = atS;
    else stretches.push([from, atS]);
  });
  return stretches;
}
