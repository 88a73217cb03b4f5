// The store below the tables: what is still in memory alone, the runs by level, what a restart would replay, and who holds the memory.

import type { StoreAnswer } from "../live/feature-store.ts";
import { bytes, percent, rate, whole } from "./figures.ts";
import { Notice } from "./notice.tsx";
import { ScrollTable } from "./scroll-table.tsx";

type Run = StoreAnswer["state"]["runs"][number];

/** Runs of one level as one, the youngest level first. */
function levelsOf(runs: readonly Run[]): (Run & { readonly runs: number })[] {
  return [...Map.groupBy(runs, ({ level }) => level)]
    .toSorted(([a], [b]) => a - b)
    .map(([level, of]) => {
      const sum = (name: "files" | "bytes" | "entries" | "tombstones"): number => of.reduce((total, run) => total + run[name], 0);
      return { level, runs: of.length, files: sum("files"), bytes: sum("bytes"), entries: sum("entries"), tombstones: sum("tombstones") };
    });
}

export function StoreState({ answer }: { answer: StoreAnswer }) {
  const { state, memory, redis } = answer;
  const levels = levelsOf(state.runs);
  const owners = memory.owners.toSorted((a, b) => b.bytes - a.bytes);
  const facts: readonly (readonly [string, string])[] = [
    ["Memtable", `${whole(state.memtable.entries)} entries, ${bytes(state.memtable.bytes)}`],
    ["Waiting for their flush", state.frozen.count === 0 ? "none" : `${state.frozen.count}, ${bytes(state.frozen.bytes)}`],
    ["Log to replay at a restart", bytes(state.replayBytes)],
    ["Log offset, applied", whole(state.offset)],
    ["acknowledged", whole(state.loggedOffset)],
    ["in runs", whole(state.flushedOffset)],
    ["Memory of the store", `${bytes(state.memoryBytes)} of ${bytes(state.memoryBytesMax)}`],
    ["Works on", state.working ?? "nothing"],
    ["Flushes, compactions", `${whole(state.counts.flushes)}, ${whole(state.counts.compactions)}`],
    ["Written to runs / to the log", state.counts.loggedBytes === 0 ? "–" : (state.counts.runBytesWritten / state.counts.loggedBytes).toFixed(2)],
    ["Redis port", String(redis.port)],
    ["its connections", whole(redis.connections)],
    ["its commands a second", rate(redis.commandsPerSecond)],
  ];
  return (
    <section class="panel" aria-labelledby="store">
      <header>
        <h2 id="store">The store</h2>
        <p class="muted">Live writes of all tables and of the Redis port.</p>
      </header>
      {state.refused !== undefined && (
        <Notice kind="bad" title="Writes are refused; reads go on.">
          <p>{state.refused.message}</p>
        </Notice>
      )}
      {state.trouble !== undefined && (
        <Notice kind="wait" title="The last flush or compaction failed; it is tried again.">
          <p>{state.trouble}</p>
        </Notice>
      )}
      <dl class="facts">
        {facts.map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
      <div class="pair store-parts">
        <div>
          <h3>Runs by level</h3>
          {levels.length === 0 ? (
            <p class="muted">None yet: all live writes fit into the memtable.</p>
          ) : (
            <ScrollTable about="the runs" titles={["Level", "Runs", "Files", "Size", "Entries", "Deletions"]}>
              {levels.map((level) => (
                <tr key={level.level}>
                  <th scope="row">{level.level}</th>
                  <td>{whole(level.runs)}</td>
                  <td>{whole(level.files)}</td>
                  <td>{bytes(level.bytes)}</td>
                  <td>{whole(level.entries)}</td>
                  <td>{whole(level.tombstones)}</td>
                </tr>
              ))}
            </ScrollTable>
          )}
        </div>
        <div>
          <h3>Pooled memory</h3>
          <p class="muted">
            {bytes(memory.totalBytes)} of {bytes(memory.capBytes)} ({percent(memory.totalBytes / Math.max(memory.capBytes, 1))}), {bytes(memory.idleBytes)} idle
            {memory.refused > 0 && `; refused ${whole(memory.refused)} times`}
          </p>
          <ul class="bars">
            {owners.map(({ owner, bytes: held, readers }) => (
              <li key={owner} title={`${whole(readers)} readers now`}>
                <span>{owner}</span>
                <span class="bar" aria-hidden="true">
                  <i style={{ width: `${(100 * held) / Math.max(owners[0]!.bytes, 1)}%` }} />
                </span>
                <b>{bytes(held)}</b>
              </li>
            ))}
          </ul>
        </div>
      </div>
    </section>
  );
}
