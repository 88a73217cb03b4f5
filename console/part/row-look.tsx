// One row of a table by its key: each column with its value, how old it is, who wrote it and when it expires. Asked again with each round, so one sees it change.

import type { ComponentChildren } from "preact";
import { useEffect, useState } from "preact/hooks";
import { ask, Digits, type Refused, refusedOf } from "../live/ask.ts";
import type { ColumnState, TableState } from "../live/feature-store.ts";
import { duration, whole } from "./figures.ts";
import { Mark } from "./mark.tsx";
import { Notice, RefusedNotice } from "./notice.tsx";
import { ScrollTable } from "./scroll-table.tsx";

interface CellAnswer {
  readonly state: "value" | "null" | "expired" | "absent";
  readonly value: unknown;
  readonly owner: ColumnState["owner"];
  readonly from?: "base" | "delta";
  readonly timeMs?: number;
  readonly ageMs?: number;
  readonly expiryMs?: number;
}

interface RowAnswer {
  readonly key: unknown;
  readonly status: "found" | "absent" | "not-loaded";
  readonly version: string;
  readonly logOffset: number;
  readonly columns: Readonly<Record<string, CellAnswer>>;
}

type Looked = { readonly row?: RowAnswer; readonly refused?: Refused };

const elementsShown = 8;

/** A value in a person's words. f32 is told to its seven digits, whole numbers to the last. */
function written(value: unknown, type: string): string {
  if (value instanceof Digits) return value.text;
  if (typeof value === "number") return type.startsWith("f32") ? String(Number(value.toPrecision(7))) : String(value);
  if (Array.isArray(value)) {
    const shown = value.slice(0, elementsShown).map((one) => written(one, type));
    return `[${shown.join(", ")}${value.length > elementsShown ? `, … ${whole(value.length)} in all` : ""}]`;
  }
  return typeof value === "string" ? value : JSON.stringify(value);
}

export function RowLook({ table, rounds }: { table: TableState; rounds: number }) {
  const [key, setKey] = useState("");
  const [{ row, refused }, setLooked] = useState<Looked>({});
  useEffect(() => {
    // Another table has other keys.
    setKey("");
    setLooked({});
  }, [table.name]);
  useEffect(() => {
    if (key === "") return;
    let left = false;
    ask<RowAnswer>("GET", `/v1/tables/${encodeURIComponent(table.name)}/rows/${encodeURIComponent(key)}`).then(
      (found) => !left && setLooked({ row: found }),
      (thrown: unknown) => !left && setLooked({ refused: refusedOf(thrown) }),
    );
    return () => {
      left = true;
    };
  }, [key, rounds, table.name]);
  return (
    <section class="panel" aria-labelledby="row">
      <header>
        <h2 id="row">Look at a row of {table.name}</h2>
      </header>
      <form
        class="row-form"
        role="search"
        aria-labelledby="row"
        onSubmit={(event) => {
          event.preventDefault();
          const given = new FormData(event.currentTarget).get("key");
          setLooked({});
          setKey(typeof given === "string" ? given : "");
        }}
      >
        <label>
          Key ({table.entity}, {table.key === "u64" ? "a whole number" : "a text"})
          <input key={table.name} name="key" type="text" required spellcheck={false} autocomplete="off" autocapitalize="none" />
        </label>
        <button type="submit">Look</button>
      </form>
      {key === "" && <p class="muted">Give a key to see each column with its value, its age, who wrote it and when it expires.</p>}
      {refused !== undefined && <RefusedNotice refused={refused} />}
      {key !== "" && row?.status === "absent" && (
        <Notice kind="empty" title={`There is no row ${key}.`}>
          <p>Readers are told that it is not there; they get no zeros for it.</p>
        </Notice>
      )}
      {row?.status === "not-loaded" && (
        <Notice kind="wait" title="The table is not loaded yet.">
          <p>Readers are told so for each key. Above, under its versions, stands how far the server is.</p>
        </Notice>
      )}
      {row?.status === "found" && <Cells table={table} row={row} />}
    </section>
  );
}

function Cells({ table, row }: { table: TableState; row: RowAnswer }) {
  return (
    <>
      <p class="muted" data-testid="row-of">
        Of {row.version === "" ? "no imported version" : <code>{row.version}</code>} and the live writes up to log offset {whole(row.logOffset)}.
      </p>
      <ScrollTable about="the row" titles={["Column", "Value", "Age", "Comes from", "Written by", "Expires"]} tall class="row-cells">
        {table.columns.map((column) => {
          const cell = row.columns[column.name];
          return (
            <tr key={column.name} data-column={column.name}>
              <th scope="row">{column.name}</th>
              <td class="value">{cell === undefined ? "–" : valueOf(cell, column)}</td>
              <td>{cell?.ageMs === undefined ? "–" : duration(cell.ageMs)}</td>
              <td>{cell?.from === undefined ? "–" : cell.from === "base" ? "the import" : "a live write"}</td>
              <td>{column.owner === "batch" ? "imports" : column.owner === "stream" ? "live writes" : "the newer of both"}</td>
              <td>{cell === undefined ? "–" : expiryOf(cell)}</td>
            </tr>
          );
        })}
      </ScrollTable>
    </>
  );
}

function valueOf(cell: CellAnswer, column: ColumnState): ComponentChildren {
  switch (cell.state) {
    case "absent":
      return <Mark kind="plain" text="no value" />;
    case "null":
      return <Mark kind="plain" text="null" />;
    case "expired":
      return (
        <>
          <Mark kind="wait" text="expired" /> {cell.value === null ? "" : written(cell.value, column.type)}
        </>
      );
    case "value":
      return cell.value === "" ? <Mark kind="plain" text="empty" /> : written(cell.value, column.type);
  }
}

function expiryOf({ expiryMs, timeMs, ageMs }: CellAnswer): string {
  if (expiryMs === undefined || timeMs === undefined || ageMs === undefined) return "never";
  // By the server's clock.
  const left = expiryMs - (timeMs + ageMs);
  return left > 0 ? `in ${duration(left)}` : `${duration(-left)} ago`;
}
