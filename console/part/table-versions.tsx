// The versions of a table: which one is read, which ones can be read again at once, and who has them. Every change is asked for first.

import { ask } from "../live/ask.ts";
import { isServersTable, type Snapshot, type TableState, type VersionState } from "../live/feature-store.ts";
import type { Question } from "./ask-first.tsx";
import { bytes, duration, percent, whole } from "./figures.ts";
import { Mark, type MarkKind } from "./mark.tsx";
import { Notice } from "./notice.tsx";
import { ScrollTable } from "./scroll-table.tsx";

const words: Readonly<Record<VersionState["state"], readonly [MarkKind, string]>> = {
  live: ["good", "live"],
  backup: ["plain", "backup"],
  staged: ["plain", "not live"],
  refused: ["bad", "refused"],
  building: ["wait", "being built"],
};

interface TableVersionsProps {
  readonly table: TableState;
  readonly snapshot: Snapshot | undefined;
  readonly askFirst: (question: Question) => void;
  /** Something was changed: what to tell. */
  readonly onDone: (said: string) => void;
}

export function TableVersions({ table, snapshot, askFirst, onDone }: TableVersionsProps) {
  const step = (name: "live" | "rollback" | "retire", body: object): Promise<{ live: string | null; removed?: string[] }> =>
    ask("POST", `/v1/snapshots/table/${encodeURIComponent(table.name)}/${name}`, body);
  const stays = "Live writes stay. Reads go on meanwhile: they change over at once when the version is loaded.";
  const rollBack = (): void =>
    askFirst({
      title: `Roll ${table.name} back?`,
      text: (
        <p>
          Readers get the version before {snapshot?.live}, {snapshot?.servable.find((version) => version !== snapshot.live)}, again. {stays}
        </p>
      ),
      does: "Roll back",
      async act() {
        onDone(`${table.name} goes back to ${(await step("rollback", {})).live ?? "no version"}.`);
      },
    });
  const putLive = ({ version, state, reasons }: VersionState): void =>
    askFirst({
      title: `Put ${version} live?`,
      text: (
        <>
          {state === "refused" && <p>Its checks refused it: {reasons?.join("; ") ?? "no reason is kept"}.</p>}
          <p>
            Readers of {table.name} get it instead of {snapshot?.live ?? "live writes alone"}. {stays}
          </p>
        </>
      ),
      does: state === "refused" ? "Put live all the same" : "Put live",
      async act() {
        onDone(`${(await step("live", { version, ...(state === "refused" ? { refusedToo: true } : {}) })).live ?? version} of ${table.name} is to be live.`);
      },
    });
  const retire = (): void =>
    askFirst({
      title: `Remove old versions of ${table.name}?`,
      text: <p>Those that nobody uses and that are older than what a table keeps for a roll-back. They cannot be brought back but by a new import.</p>,
      does: "Remove",
      async act() {
        const { removed = [] } = await step("retire", {});
        onDone(removed.length === 0 ? "There was nothing to remove." : `Removed ${removed.join(", ")}.`);
      },
    });
  const versions = snapshot?.versions ?? [];
  return (
    <section class="panel" aria-labelledby="versions">
      <header>
        <h2 id="versions">Versions of {table.name}</h2>
        {snapshot !== undefined && (
          <div class="tools">
            <button type="button" disabled={snapshot.servable.length < 2} onClick={rollBack}>
              Roll back
            </button>
            <button type="button" class="quiet" disabled={versions.length < 2} onClick={retire}>
              Remove old ones
            </button>
          </div>
        )}
      </header>
      {snapshot?.fault !== undefined && (
        <Notice kind="bad" title="The versions cannot be read.">
          <p>{snapshot.fault}</p>
        </Notice>
      )}
      {isServersTable(table.name) ? (
        <p class="muted">It has none: the server counts it from events, and nothing is imported into it. Its rows are those of the last checkpoint.</p>
      ) : versions.length === 0 ? (
        <p class="muted">
          Nothing was imported yet: the table holds live writes alone. Begin an import below, or in a terminal: <code>millrace import {table.name} FILE</code>
        </p>
      ) : (
        <ScrollTable about="the versions" titles={["Version", "State", "Rows", "Size", "Published", "Loaded by", "What to do"]} unseen={["What to do"]} tall>
          {versions.map((one) => (
            <tr key={one.version} data-version={one.version} data-state={one.state}>
              <th scope="row">
                <code>{one.version}</code>
              </th>
              <td>
                <Mark kind={words[one.state][0]} text={words[one.state][1]} />
                {one.version === table.version && one.state !== "live" && <small class="muted"> still read</small>}
                {(one.reasons !== undefined || one.fault !== undefined) && <p class="why-refused">{one.fault ?? one.reasons?.join("; ")}</p>}
              </td>
              <td>{one.rows === undefined ? "–" : whole(one.rows)}</td>
              <td>{one.bytes === undefined ? "–" : bytes(one.bytes)}</td>
              <td>{one.publishedAtMs === undefined ? "–" : `${duration(Date.now() - one.publishedAtMs)} ago`}</td>
              <td>{one.usedBy.join(", ") || "nobody"}</td>
              <td>
                {one.state !== "live" && one.state !== "building" && one.fault === undefined && (
                  <button type="button" onClick={() => putLive(one)}>
                    Put live<span class="unseen">: {one.version}</span>
                  </button>
                )}
              </td>
            </tr>
          ))}
        </ScrollTable>
      )}
      <ul class="lines">
        {snapshot?.followers.map(({ node, serving, loading, refused }) => (
          <li key={node}>
            <b>{node}</b> reads {serving === undefined ? "no version" : <code>{serving}</code>}
            {loading !== undefined && (
              <>
                {", "}
                {loading.stage} <code>{loading.version}</code>
                {loading.bytesAll > 0 && `, ${percent(loading.bytesDone / loading.bytesAll)}`}
              </>
            )}
            {refused.map(({ version, reason }) => (
              <p key={version} class="why-refused">
                It refused <code>{version}</code>: {reason}
              </p>
            ))}
          </li>
        ))}
      </ul>
    </section>
  );
}
