// Begins an import of files that lie on the server's machine: they are not sent from here.

import type { TargetedSubmitEvent } from "preact";
import { useState } from "preact/hooks";
import { ask, Refused, refusedOf } from "../live/ask.ts";
import { RefusedNotice } from "./notice.tsx";

interface ImportFormProps {
  readonly tables: readonly string[];
  /** The one that is looked at. */
  readonly table: string;
  readonly onStarted: (table: string) => void;
}

const linesOf = (text: string): string[] =>
  text
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "");

export function ImportForm({ tables, table, onStarted }: ImportFormProps) {
  const [refused, setRefused] = useState<Refused | undefined>(undefined);
  const [asking, setAsking] = useState(false);
  const submit = async (event: TargetedSubmitEvent<HTMLFormElement>): Promise<void> => {
    event.preventDefault();
    const given = new FormData(event.currentTarget);
    const text = (name: string): string => {
      const value = given.get(name);
      return typeof value === "string" ? value.trim() : "";
    };
    const [files, query, format, rejects] = [linesOf(text("files")), text("query"), text("format"), text("rejects")];
    if (files.length === 0 && query === "") {
      setRefused(new Refused("invalid", "There is nothing to import.", "name a file of the server, one a line, or give a query."));
      return;
    }
    setAsking(true);
    setRefused(undefined);
    try {
      await ask("POST", "/v1/imports", {
        table: text("table"),
        ...(files.length === 0 ? {} : { files }),
        ...(query === "" ? {} : { query }),
        ...(format === "" ? {} : { format }),
        ...(rejects === "" ? {} : { rejectsMax: Number(rejects) }),
        live: given.has("live"),
      });
      onStarted(text("table"));
    } catch (thrown) {
      setRefused(refusedOf(thrown));
    }
    setAsking(false);
  };
  return (
    <section class="panel" aria-labelledby="import-form">
      <header>
        <h2 id="import-form">Begin an import</h2>
      </header>
      <form class="form" onSubmit={(event) => void submit(event)}>
        <label>
          Into the table
          <select name="table" key={table}>
            {tables.map((name) => (
              <option key={name} value={name} selected={name === table}>
                {name}
              </option>
            ))}
          </select>
        </label>
        <label>
          Files on the server, one a line
          <textarea name="files" rows={3} spellcheck={false} placeholder="/data/items-*.parquet" aria-describedby="import-files" />
        </label>
        <p id="import-files" class="muted">
          Parquet, CSV, JSON lines, or id=keys.npy and column=values.npy. They must lie in the folders that <code>storage.importFolders</code> of the
          configuration names.
        </p>
        <details>
          <summary>More</summary>
          <label>
            A DuckDB query over such files, instead of or after them
            <textarea name="query" rows={2} spellcheck={false} />
          </label>
          <label>
            Format
            <select name="format">
              <option value="">by the file's name</option>
              <option value="parquet">Parquet</option>
              <option value="csv">CSV</option>
              <option value="json">JSON lines</option>
            </select>
          </label>
          <label>
            Refused rows at which it gives up (10,000 when empty)
            <input name="rejects" type="number" min={0} max={10_000_000} step={1} />
          </label>
        </details>
        <label class="form-check">
          <input name="live" type="checkbox" defaultChecked /> Go live when the checks pass
        </label>
        {refused !== undefined && <RefusedNotice refused={refused} />}
        <div>
          <button type="submit" class="strong" disabled={asking}>
            Begin the import
          </button>
        </div>
      </form>
    </section>
  );
}
