// Try a search: the neighbours of an element, with a filter, by the index or compared with every row.

import type { TargetedSubmitEvent } from "preact";
import { useState } from "preact/hooks";
import type { CollectionStatus } from "#vectors/vector-service";
import { type Refused, refusedOf } from "../live/ask.ts";
import { search, type Searched } from "../live/vector-engine.ts";
import { ms, whole } from "./figures.ts";
import { RefusedNotice } from "./notice.tsx";
import { ScrollTable } from "./scroll-table.tsx";

const attributesShown = 200;

export function VectorSearch({ collection: { name, elements } }: { collection: CollectionStatus }) {
  const [found, setFound] = useState<Searched | undefined>(undefined);
  const [refused, setRefused] = useState<Refused | undefined>(undefined);
  const [asking, setAsking] = useState(false);
  const submit = async (event: TargetedSubmitEvent<HTMLFormElement>): Promise<void> => {
    event.preventDefault();
    const given = new FormData(event.currentTarget);
    const text = (field: string): string => {
      const value = given.get(field);
      return typeof value === "string" ? value.trim() : "";
    };
    setAsking(true);
    setRefused(undefined);
    try {
      const filter = text("filter");
      setFound(
        await search(name, {
          element: text("element"),
          count: Number(text("count")),
          ...(filter === "" ? {} : { filter }),
          ...(given.has("exact") ? { exact: true } : {}),
        }),
      );
    } catch (thrown) {
      setFound(undefined);
      setRefused(refusedOf(thrown));
    }
    setAsking(false);
  };
  return (
    <section class="panel" aria-labelledby="vector-search">
      <header>
        <h2 id="vector-search">Search {name}</h2>
        <p class="muted">The nearest of its {whole(elements)} elements.</p>
      </header>
      <form class="form" onSubmit={(event) => void submit(event)}>
        <label>
          Near which element
          <input name="element" required maxLength={1_024} spellcheck={false} autocomplete="off" />
        </label>
        <label>
          How many
          <input name="count" type="number" min={1} max={100} step={1} defaultValue="10" required />
        </label>
        <label>
          Only those for which
          <input name="filter" spellcheck={false} autocomplete="off" placeholder={'.year >= 1980 and .genre == "action"'} />
        </label>
        <label class="form-check">
          <input name="exact" type="checkbox" /> Compare with every row
        </label>
        <div>
          <button type="submit" disabled={asking}>
            Search
          </button>
        </div>
      </form>
      {refused !== undefined && <RefusedNotice refused={refused} />}
      {found !== undefined && (
        <div data-testid="neighbours" aria-live="polite">
          <p class="muted">
            {found.answers.length === 0 ? "No element passes." : `${whole(found.answers.length)} found in ${ms(found.searchMs)} ms`}
            {found.rowsCompared > 0 && `, ${whole(found.rowsCompared)} rows compared`}
            {found.version !== "" && (
              <>
                , version <code>{found.version}</code>
              </>
            )}
          </p>
          {found.answers.length > 0 && (
            <ScrollTable about="the neighbours" titles={["Element", found.metric === "l2" ? "Squared distance" : "Score", "Attributes"]} tall>
              {found.answers.map(({ element, score, attributes }) => (
                <tr key={element}>
                  <th scope="row">{element}</th>
                  <td>{score.toFixed(4)}</td>
                  <td>{attributes === undefined ? "–" : <code>{JSON.stringify(attributes).slice(0, attributesShown)}</code>}</td>
                </tr>
              ))}
            </ScrollTable>
          )}
        </div>
      )}
    </section>
  );
}
