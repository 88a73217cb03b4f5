// *Vectors*: is what is searched near, whole and new? Collections with their tails and recall over time, a search to try, and the tasks that build their versions.

import { useMemo, useState } from "preact/hooks";
import type { CollectionStatus } from "#vectors/vector-service";
import { type CollectionPoint, type Known, pointsOf, useVectorEngine, type VectorEngine } from "../live/vector-engine.ts";
import { roundsEveryS } from "../live/rounds.ts";
import { AskFirst, type Question } from "../part/ask-first.tsx";
import { Chart, type Line } from "../part/chart.tsx";
import { bytes, duration, ms, percent, rate, whole } from "../part/figures.ts";
import { Mark, type MarkKind } from "../part/mark.tsx";
import { Notice, RefusedNotice } from "../part/notice.tsx";
import { ScrollTable } from "../part/scroll-table.tsx";
import { VectorSearch } from "../part/vector-search.tsx";
import { VectorTasks } from "../part/vector-tasks.tsx";

export function Vectors() {
  const engine = useVectorEngine();
  const { known, refused } = engine;
  return (
    <>
      <header class="page-head">
        <div>
          <h1>Vectors</h1>
          <p class="muted">Is what is searched near, whole and new? Asked for every two seconds.</p>
        </div>
      </header>
      {refused !== undefined && <RefusedNotice refused={refused} />}
      {known !== undefined && <Loaded known={known} engine={engine} />}
    </>
  );
}

function Loaded({ known: { vectors, tasks }, engine }: { known: Known; engine: VectorEngine }) {
  const [chosen, setChosen] = useState("");
  const [question, setQuestion] = useState<Question | undefined>(undefined);
  const [said, setSaid] = useState("");
  const { collections } = vectors;
  const collection = collections.find(({ name }) => name === chosen) ?? collections[0];
  const done = (text: string): void => {
    setSaid(text);
    engine.refresh();
  };
  return (
    <>
      {collections.length === 0 ? (
        <Notice kind="empty" title="There is no collection yet.">
          {tasks === undefined ? (
            <p>
              Add a section <code>"vectors": {"{}"}</code> to the configuration and start the server with it; then any Redis client makes one with its first
              vector.
            </p>
          ) : (
            <p>
              Write a vector with any Redis client, <code>VADD films VALUES 3 0.1 0.2 0.3 alien</code>, or make a task below that builds one from files.
            </p>
          )}
        </Notice>
      ) : (
        <Collections known={vectors} chosen={collection!.name} onChoose={setChosen} />
      )}
      <p class="said" role="status">
        {said}
      </p>
      {collection !== undefined && (
        <>
          <CollectionCharts collection={collection} rounds={engine.rounds} />
          <Versions collection={collection} />
          <VectorSearch key={collection.name} collection={collection} />
        </>
      )}
      {tasks !== undefined && <VectorTasks known={tasks} rounds={engine.rounds} askFirst={setQuestion} onDone={done} />}
      {question !== undefined && <AskFirst question={question} onClose={() => setQuestion(undefined)} />}
    </>
  );
}

function stateOf({ failure, folding, versions }: CollectionStatus): readonly [MarkKind, string] {
  if (failure !== undefined) return ["bad", "not served"];
  if (versions.some(({ state }) => state === "loading")) return ["wait", "loads a version"];
  return folding === undefined ? ["good", "ready"] : ["plain", `folds, ${percent(folding.share)}`];
}

function Collections({
  known: { collections, memoryBytes, memoryBytesMax, cache },
  chosen,
  onChoose,
}: {
  known: Known["vectors"];
  chosen: string;
  onChoose: (name: string) => void;
}) {
  const looked = cache.hits + cache.misses;
  return (
    <section class="panel" aria-labelledby="collections">
      <header>
        <h2 id="collections">Collections</h2>
        <p class="muted">
          {memoryBytesMax > 0 && `${bytes(memoryBytes)} of ${bytes(memoryBytesMax)} taken. `}
          {looked > 0 && `${percent(cache.hits / looked)} of the searches were answered from the cache. `}
          {collections.length > 1 && "Choose the one that is shown below."}
        </p>
      </header>
      <ScrollTable
        about="the collections"
        titles={[
          "Collection",
          "State",
          "Elements",
          "Numbers",
          "Compared by",
          "Written since the base",
          "Deleted",
          "Memory",
          "Lists",
          "looked into",
          "p50 ms",
          "p99 ms",
          "Recall",
        ]}
        tall
      >
        {collections.map((one) => {
          const [kind, word] = stateOf(one);
          return (
            <tr key={one.name} data-collection={one.name}>
              <th scope="row">
                <button type="button" class="choose" aria-pressed={one.name === chosen} onClick={() => onChoose(one.name)}>
                  {one.name}
                </button>
              </th>
              <td>
                <Mark kind={kind} text={word} />
                {one.failure !== undefined && <p class="why-refused">{one.failure}</p>}
              </td>
              <td>{whole(one.elements)}</td>
              <td>{whole(one.dims)}</td>
              <td>{one.metric}</td>
              <td>{whole(one.tailRows)}</td>
              <td>{whole(one.deletedRows)}</td>
              <td>{bytes(one.bytes)}</td>
              <td>{whole(one.settings.lists)}</td>
              <td>{one.settings.lists > one.settings.probes ? whole(one.settings.probes) : "all"}</td>
              <td>{one.searches === 0 ? "–" : ms(one.searchP50Ms)}</td>
              <td>{one.searches === 0 ? "–" : ms(one.searchP99Ms)}</td>
              <td>{one.recall === undefined ? "–" : `${one.recall.value.toFixed(4)} of ${one.recall.at}`}</td>
            </tr>
          );
        })}
      </ScrollTable>
    </section>
  );
}

function CollectionCharts({ collection: { name }, rounds }: { collection: CollectionStatus; rounds: number }) {
  const points = useMemo(() => pointsOf(name), [name, rounds]);
  const times = useMemo(() => points.map(({ atS }) => atS), [points]);
  const line = (title: string, colour: string, of: Exclude<keyof CollectionPoint, "atS">): Line => ({
    name: title,
    colour,
    values: points.map((one) => one[of]),
  });
  const common = { times, everyS: roundsEveryS };
  return (
    <div class="charts">
      <Chart
        {...common}
        title={`Searches and writes of ${name}`}
        about="a second, since this page was opened"
        format={rate}
        fromZero
        lines={[line("searches", "series-1", "searches"), line("upserts", "series-2", "upserts"), line("removes", "series-4", "removes")]}
      />
      <Chart
        {...common}
        title={`Time of a search of ${name}`}
        about="milliseconds in the thread of the vectors"
        format={ms}
        log
        lines={[line("p50", "series-1", "p50Ms"), line("p99", "series-3", "p99Ms")]}
      />
      <Chart
        {...common}
        title={`Recall of ${name}`}
        about="of sampled live searches, against exact search"
        format={(value) => value.toFixed(4)}
        lines={[line("recall", "series-2", "recall")]}
      />
      <Chart
        {...common}
        title={`Beside the base of ${name}`}
        about="rows; a fold takes them into a new base"
        format={whole}
        fromZero
        lines={[line("written since", "series-1", "tailRows"), line("deleted", "series-4", "deletedRows")]}
      />
    </div>
  );
}

const versionWords: Readonly<Record<CollectionStatus["versions"][number]["state"], readonly [MarkKind, string]>> = {
  serving: ["good", "serves"],
  spare: ["plain", "in memory"],
  loading: ["wait", "is loaded"],
  refused: ["bad", "refused"],
};

function Versions({ collection: { name, versions, folds, upserts, removes, searches, folding } }: { collection: CollectionStatus }) {
  return (
    <section class="panel" aria-labelledby="versions">
      <header>
        <h2 id="versions">Versions of {name} on this server</h2>
        <p class="muted">
          {whole(searches)} searches, {whole(upserts)} upserts, {whole(removes)} removes, {whole(folds)} folds since the start
          {folding !== undefined && `; a fold runs for ${duration(Date.now() - folding.sinceMs)}`}.
        </p>
      </header>
      {versions.length === 0 ? (
        <p class="muted">None: all its elements were written live and are compared one by one. A fold makes the first one when there are enough.</p>
      ) : (
        <ScrollTable about={`the versions of ${name}`} titles={["Version", "State", "Rows", "Memory"]}>
          {versions.map(({ version, state, rows, bytes: size, reason }) => (
            <tr key={version} data-version={version} data-state={state}>
              <th scope="row">
                <code>{version}</code>
              </th>
              <td>
                <Mark kind={versionWords[state][0]} text={versionWords[state][1]} />
                {reason !== undefined && <p class="why-refused">{reason}</p>}
              </td>
              <td>{whole(rows)}</td>
              <td>{bytes(size)}</td>
            </tr>
          ))}
        </ScrollTable>
      )}
    </section>
  );
}
