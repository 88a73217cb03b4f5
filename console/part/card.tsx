// A card of the feed. The title is the button whose surface is the whole card; like and why? lie above it.

import type { RecommendedItem } from "#wire/api";
import { Art, hueOf } from "../art/art.tsx";
import type { Change } from "../page/user-session.ts";
import { short } from "./figures.ts";

const languages: Readonly<Record<string, string>> = { en: "English", es: "Español", zh: "中文", pt: "Português" };

interface CardProps {
  readonly item: RecommendedItem;
  readonly position: number;
  readonly change: Change | undefined;
  readonly did: string | undefined;
  readonly onAct: (type: "click" | "like", position: number) => void;
  readonly onWhy: (item: RecommendedItem, position: number) => void;
}

export function textOf(value: unknown): string | undefined {
  return typeof value === "string" && value !== "" ? value : undefined;
}

export function Card({ item, position, change, did, onAct, onWhy }: CardProps) {
  const title = item.title ?? item.id;
  const category = item.category ?? "";
  const streamer = textOf(item.attributes?.["streamer"]);
  const language = textOf(item.attributes?.["language"]);
  const viewers = item.attributes?.["viewers"];
  return (
    <article class="card" data-card={item.id} data-change={change?.kind}>
      <div class="card-art">
        <Art category={category} about={`${item.id} ${title}`} place="feed" />
        {typeof viewers === "number" && (
          <span class="badge badge-live">
            <i aria-hidden="true" /> {short(viewers)} <span class="unseen">viewers</span>
          </span>
        )}
        {language !== undefined && (
          <span class="badge badge-language">
            <span class="unseen">language: {languages[language] ?? language}</span>
            <span aria-hidden="true">{language}</span>
          </span>
        )}
        <Mark change={change} />
      </div>
      <div class="card-words">
        <span class="face" aria-hidden="true" style={{ "--hue": String(hueOf(streamer ?? item.id)) }}>
          {(streamer ?? title).charAt(0)}
        </span>
        <div class="card-names">
          <h2>
            <button type="button" class="card-open" lang={language} onClick={() => onAct("click", position)}>
              {title}
            </button>
          </h2>
          <p>{[streamer, category].filter(Boolean).join(" · ") || item.id}</p>
        </div>
      </div>
      <div class="card-acts">
        <button type="button" class="chip" aria-pressed={did === "like"} aria-label={`like ${title}`} onClick={() => onAct("like", position)}>
          <svg viewBox="0 0 16 16" width="14" height="14" aria-hidden="true">
            <path
              d="M8 14 2.4 8.3a3.5 3.5 0 0 1 5-5L8 4l.6-.7a3.5 3.5 0 0 1 5 5z"
              fill={did === "like" ? "currentColor" : "none"}
              stroke="currentColor"
              stroke-width="1.5"
            />
          </svg>
          {did === "like" ? "liked" : "like"}
        </button>
        <button type="button" class="chip" aria-label={`why ${title}?`} aria-haspopup="dialog" onClick={() => onWhy(item, position)}>
          why?
        </button>
        {did === "click" && <span class="did">clicked</span>}
      </div>
    </article>
  );
}

function Mark({ change }: { change: Change | undefined }) {
  if (change === undefined || change.kind === "same" || change.kind === "down") return null;
  return (
    <span class="badge badge-change">
      {change.kind === "new" ? (
        "new"
      ) : (
        <>
          ▲ {change.places}
          <span class="unseen"> places up</span>
        </>
      )}
    </span>
  );
}
