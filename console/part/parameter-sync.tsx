// Checkpoints and synchronisation of all parameter tables: what a crash would lose, and how far each replica is behind.

import { useMemo } from "preact/hooks";
import { needOf, type ParameterSyncStatus, type ParameterTableStatus } from "#wire/parameter-api";
import { lagsSeen, replicaName, saveTable } from "../live/parameter-server.ts";
import { roundsEveryS } from "../live/rounds.ts";
import { Chart } from "./chart.tsx";
import { bytes, duration, ms, whole } from "./figures.ts";
import { Mark, type MarkKind } from "./mark.tsx";
import { ScrollTable } from "./scroll-table.tsx";

interface CheckpointsProps {
  readonly tables: readonly ParameterTableStatus[];
  readonly nowMs: number;
  /** What to tell of a save. */
  readonly onDone: (said: string) => void;
  readonly onRefused: (thrown: unknown) => void;
}

export function Checkpoints({ tables, nowMs, onDone, onRefused }: CheckpointsProps) {
  const save = (name: string): void => {
    saveTable(name).then(({ running }) => onDone(running === true ? `${name} is being saved.` : `${name} is saved.`), onRefused);
  };
  return (
    <section class="panel" aria-labelledby="checkpoints">
      <header>
        <h2 id="checkpoints">Checkpoints</h2>
        <p class="muted">Rows are saved from time to time, not logged: a crash loses what was written since.</p>
      </header>
      <ScrollTable
        about="the checkpoints"
        titles={["Table", "Age", "Rows written since", "Took", "Size of the last file", "Files", "What to do"]}
        unseen={["What to do"]}
        tall
      >
        {tables.map(({ name, state, checkpoint }) => (
          <tr key={name} data-checkpoint={name}>
            <th scope="row">{name}</th>
            <td>
              {checkpoint.atMs === 0 ? "none yet" : `${duration(nowMs - checkpoint.atMs)}`}
              {checkpoint.error !== undefined && <p class="why-refused">The last one failed: {checkpoint.error}. The next one comes in its time.</p>}
            </td>
            <td>{whole(checkpoint.unsavedRows)}</td>
            <td>{checkpoint.ms === 0 ? "–" : `${ms(checkpoint.ms)} ms`}</td>
            <td>{checkpoint.bytes === 0 ? "–" : bytes(checkpoint.bytes)}</td>
            <td>{whole(checkpoint.files)}</td>
            <td>
              <button type="button" disabled={state !== "open"} onClick={() => save(name)}>
                Save now<span class="unseen">: {name}</span>
              </button>
            </td>
          </tr>
        ))}
      </ScrollTable>
    </section>
  );
}

const seriesMax = 4;

/** Of a synchronised table: waiting ends "catches up", somebody must act for the others. */
export function syncState({ ready, sources, leadFault }: Pick<ParameterSyncStatus, "ready" | "sources" | "leadFault">): readonly [MarkKind, string] {
  if (leadFault !== undefined) return ["bad", "takes no writes"];
  if (ready) return ["good", "ready"];
  return needOf({ sources }) === undefined ? ["wait", "catches up"] : ["bad", "cannot catch up"];
}

export function Synchronisation({ tables, rounds }: { tables: readonly ParameterTableStatus[]; rounds: number }) {
  const { times, replicas } = useMemo(lagsSeen, [rounds]);
  const synced = tables.flatMap(({ name, sync }) => (sync === undefined ? [] : [{ name, sync }]));
  return (
    <section class="panel" aria-labelledby="sync">
      <header>
        <h2 id="sync">Synchronisation</h2>
        <p class="muted">Followers answer from their own memory; the lag is the age of the oldest write that one has not acknowledged.</p>
      </header>
      {synced.length === 0 ? (
        <p class="muted" data-testid="no-sync">
          This node has its tables for itself. To have followers, give it a section <code>parameters.sync</code> with <code>node</code> and <code>port</code>,
          and start another server that names it under <code>follow</code>.
        </p>
      ) : (
        <>
          {replicas.length > 0 && (
            <div class="charts reads">
              <Chart
                title="Sync lag"
                about="ms per replica, the table that lags most"
                times={times}
                everyS={roundsEveryS}
                format={(value) => `${ms(value)} ms`}
                fromZero
                objective={{ value: 6, name: "objective" }}
                // The ones that lag most now: a chart of twenty lines says nothing.
                lines={replicas
                  .toSorted((a, b) => (b.lags.at(-1) ?? 0) - (a.lags.at(-1) ?? 0))
                  .slice(0, seriesMax)
                  .map(({ name, lags }, i) => ({ name, colour: `series-${i + 1}`, values: lags }))}
              />
            </div>
          )}
          <ScrollTable
            about="the synchronisation"
            titles={["Table", "State", "Replicas", "Takes from", "Buckets led", "Mismatches", "Conflicts", "Lost writes"]}
            tall
          >
            {synced.map(({ name, sync, sync: { leads, followers, sources, digestMismatches, conflicts, lostWrites, leadFault } }) => (
              <tr key={name} data-sync={name}>
                <th scope="row">{name}</th>
                <td>
                  <Mark kind={syncState(sync)[0]} text={syncState(sync)[1]} />
                  {leadFault !== undefined && <p class="why-refused">{leadFault}</p>}
                </td>
                <td>
                  {followers.length === 0
                    ? "none"
                    : followers.map(({ node, lagMs, waitingBuckets }) => (
                        <div key={node}>
                          {replicaName(node)}: {ms(lagMs)} ms{waitingBuckets > 0 && `, ${whole(waitingBuckets)} buckets wait`}
                        </div>
                      ))}
                </td>
                <td>
                  {sources.length === 0
                    ? "nobody"
                    : sources.map(({ address, connected, ageMs, fault }) => (
                        <div key={address}>
                          {address}: {connected ? `heard ${duration(ageMs)} ago` : "not connected; it is tried again"}
                          {fault !== undefined && <p class="why-refused">{fault}</p>}
                        </div>
                      ))}
                </td>
                <td>{whole(leads)}</td>
                <td>{whole(digestMismatches)}</td>
                <td>{whole(conflicts)}</td>
                <td>{whole(lostWrites)}</td>
              </tr>
            ))}
          </ScrollTable>
        </>
      )}
    </section>
  );
}
