// The columns of a table: what they are, who says what holds, and how they are doing by what was read of late.

import type { ColumnState, TableState } from "../live/feature-store.ts";
import { duration, percent } from "./figures.ts";
import { Mark, type MarkKind } from "./mark.tsx";
import { ScrollTable } from "./scroll-table.tsx";

const owners: Readonly<Record<ColumnState["owner"], string>> = { batch: "imports", stream: "live writes", newest: "the newer of both" };

export const typeOf = ({ type, elements }: ColumnState): string => (elements > 1 || type.endsWith("[]") ? `${type.replace("[]", "")}[${elements}]` : type);

/** Population stability index; the bounds are the customary ones. */
function driftMark(drift: number): [MarkKind, string] {
  return drift < 0.1 ? ["good", "steady"] : drift < 0.25 ? ["wait", "moves"] : ["bad", "moved"];
}

const figure = (value: number): string => String(Number(value.toPrecision(4)));

export function TableColumns({ table }: { table: TableState }) {
  const looked = table.columns.some(({ sampled }) => sampled > 0);
  return (
    <section class="panel" aria-labelledby="columns">
      <header>
        <h2 id="columns">Columns of {table.name}</h2>
        <p class="muted">
          {looked
            ? "Null rate, mean and drift: of the last rows read, at most 512 a column. Drift is against the version before."
            : "Null rate, mean and drift come from reads, and nothing was read yet."}
        </p>
      </header>
      <ScrollTable about="the columns" titles={["Column", "Type", "Written by", "Expires", "Null rate", "Mean", "Drift"]} tall>
        {table.columns.map((column) => {
          const mark = column.drift === undefined ? undefined : driftMark(column.drift);
          return (
            <tr key={column.name}>
              <th scope="row">{column.name}</th>
              <td>{typeOf(column)}</td>
              <td>{owners[column.owner]}</td>
              <td>{column.ttlMs === 0 ? "never" : `after ${duration(column.ttlMs)}`}</td>
              <td>{column.nullRate === undefined ? "–" : percent(column.nullRate)}</td>
              <td>{column.mean === undefined ? "–" : figure(column.mean)}</td>
              <td>
                {mark === undefined || column.drift === undefined ? (
                  "–"
                ) : (
                  <>
                    {column.drift.toFixed(2)} <Mark kind={mark[0]} text={mark[1]} />
                  </>
                )}
              </td>
            </tr>
          );
        })}
      </ScrollTable>
    </section>
  );
}
