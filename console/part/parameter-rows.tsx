// The rows of one parameter table: how many, how long ago they were written, where among the buckets writes fall.

import { useEffect, useState } from "preact/hooks";
import { touchedUpToS, type ParameterTableLook, type ParameterTableStatus } from "#wire/parameter-api";
import { type Refused, refusedOf } from "../live/ask.ts";
import { lookAt, lookEveryRounds } from "../live/parameter-server.ts";
import { bytes, duration, percent, whole } from "./figures.ts";
import { RefusedNotice } from "./notice.tsx";

const hot = ["the last minute", "10 minutes", "an hour", "6 hours", "a day", "a week"] as const;
const ageNames = [...hot, "longer ago"];

export function ParameterRows({ table, rounds, nowMs }: { table: ParameterTableStatus; rounds: number; nowMs: number }) {
  const { name, state, config } = table;
  const [look, setLook] = useState<{ readonly of: string; readonly look: ParameterTableLook } | undefined>(undefined);
  const [refused, setRefused] = useState<Refused | undefined>(undefined);
  const turn = Math.floor(rounds / lookEveryRounds);
  useEffect(() => {
    if (state !== "open") return;
    let left = false;
    lookAt(name).then(
      (found) => {
        if (left) return;
        setLook({ of: name, look: found });
        setRefused(undefined);
      },
      (thrown: unknown) => !left && setRefused(refusedOf(thrown)),
    );
    return () => {
      left = true;
    };
  }, [name, state, turn]);
  const ago = (atS: number): string => (atS === 0 ? "–" : `${duration(nowMs - atS * 1_000)} ago`);
  const facts: readonly (readonly [string, string])[] = [
    ["Rows", whole(table.rows)],
    ["Numbers a row", whole(table.dim)],
    ["Memory", `${bytes(table.usedBytes)} of ${bytes(table.bytes)}${table.shards > 1 ? `, ${table.shards} shards` : ""}`],
    ["Written last", ago(table.hottestS)],
    ["Coldest row, about", ago(table.coldestS)],
    ["Evicted", whole(table.evicted)],
    ["Expired", config.expireAfterS === undefined ? "never" : `${whole(table.expired)}, after ${duration(config.expireAfterS * 1_000)}`],
    ["Deletions on their way", whole(table.tombstones)],
    ["Held back by admission", config.admission === undefined ? "–" : `${whole(table.heldBack)}, until ${config.admission.sightings} sightings`],
    ["Found no room", whole(table.refused)],
    ["Not finite", whole(table.skipped)],
  ];
  const shown = look?.of === name ? look.look : undefined;
  return (
    <section class="panel" aria-labelledby="rows">
      <header>
        <h2 id="rows">Rows of {name}</h2>
      </header>
      <dl class="facts">
        {facts.map(([fact, value]) => (
          <div key={fact}>
            <dt>{fact}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
      {refused !== undefined && <RefusedNotice refused={refused} />}
      {shown !== undefined && shown.live > 0 && (
        <div class="pair store-parts">
          <Ages look={shown} />
          <Buckets look={shown} />
        </div>
      )}
      {shown?.live === 0 && (
        <p class="muted">
          It has no rows yet: push some, for example with <code>millrace params import {name} FOLDER</code>, or from a worker (<code>PADD {name} …</code>).
        </p>
      )}
    </section>
  );
}

/** Hot at the top, cold at the bottom. */
function Ages({ look: { touched, sampled, live } }: { look: ParameterTableLook }) {
  const most = Math.max(...touched, 1);
  return (
    <div>
      <h3>Hot and cold rows</h3>
      <p class="muted">By their last write; {sampled >= live ? `all ${whole(live)}` : `a sample of ${whole(sampled)} of ${whole(live)}`}.</p>
      <ul class="bars" data-testid="ages">
        {touched.map((rows, i) => (
          <li key={ageNames[i]} data-none={rows === 0 ? "" : undefined}>
            <span>{i < touchedUpToS.length ? `within ${hot[i]!}` : ageNames[i]}</span>
            <span class="bar" aria-hidden="true">
              <i style={{ width: `${(100 * rows) / most}%` }} />
            </span>
            <b>{sampled === 0 ? "–" : percent(rows / sampled)}</b>
          </li>
        ))}
      </ul>
    </div>
  );
}

/** A cell a stretch of buckets; the more writes, the stronger. */
function Buckets({ look: { buckets, writes, rows } }: { look: ParameterTableLook }) {
  const most = Math.max(...writes, 1);
  const least = Math.min(...writes);
  const all = writes.reduce((sum, one) => sum + one, 0);
  const each = whole(buckets / writes.length);
  return (
    <div>
      <h3>Versions by bucket</h3>
      <p class="muted">
        {whole(all)} writes since the table was made; a cell is {each} {each === "1" ? "bucket" : "buckets"}: {whole(least)} to {whole(most)} writes.
      </p>
      <div
        class="heat"
        role="img"
        data-testid="heat"
        aria-label={`Writes by stretch of buckets: least ${whole(least)}, most ${whole(most)}, mean ${whole(all / writes.length)}`}
      >
        {writes.map((count, i) => (
          <i key={i} title={`${whole(count)} writes, ${whole(rows[i] ?? 0)} rows`} style={{ "--heat": `${Math.round((100 * count) / most)}%` }} />
        ))}
      </div>
      <p class="muted">Even is right: buckets are random samples of the keys. A strong cell is a key that is written far more often than others.</p>
    </div>
  );
}
