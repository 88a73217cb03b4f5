// *Be a user*: does it work, and how fast? A feed to click in, and beside it what the click did to the server and to the next feed.

import { useCallback, useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";
import type { RecommendedItem } from "#wire/api";
import { gone, status, streaming, training } from "../live/server.ts";
import { useStore } from "../live/store.ts";
import { resetUser, user } from "../live/user.ts";
import { Card } from "../part/card.tsx";
import { ms, whole } from "../part/figures.ts";
import { Notice, RefusedNotice } from "../part/notice.tsx";
import { WayBefore, WayPanel } from "../part/way.tsx";
import { Why } from "../part/why.tsx";
import { act, busy, choosePipeline, done, type Feed, feed, forget, pipeline, recommend, refused, ways } from "./user-session.ts";

const putItems = `curl -X PUT ${location.origin}/v1/items -H 'content-type: application/json' \\
     -d '[{"id": "m-1", "title": "Noodle night", "category": "cooking"},
          {"id": "m-2", "title": "Late jazz", "category": "music"}]'`;

export function BeAUser() {
  const server = useStore(status);
  const failed = useStore(refused);
  const shown = useStore(feed);
  const asking = useStore(busy);
  const me = useStore(user);
  const acts = useStore(ways);
  const [why, setWhy] = useState<{ item: RecommendedItem; position: number; recommendationId: string } | undefined>(undefined);
  const ready = server?.ready === true && server.items > 0;

  // The first feed as soon as there is something to show; again when items come after an empty answer.
  const empty = shown !== undefined && shown.answer.items.length === 0;
  useEffect(() => {
    if (ready && (shown === undefined || empty) && failed === undefined) void recommend(true);
  }, [ready, empty, server?.items]);

  const onAct = useCallback((type: "click" | "like", position: number) => void act(type, position), []);
  const onWhy = useCallback((item: RecommendedItem, position: number) => {
    const recommendationId = feed.get()?.answer.recommendationId;
    if (recommendationId !== undefined) setWhy({ item, position, recommendationId });
  }, []);
  const [way, ...before] = acts;

  return (
    <div class="user-page">
      <section class="feed-side" aria-labelledby="feed-title">
        <header class="page-head">
          <div>
            <h1 id="feed-title">Be a user</h1>
            <p class="muted">Click or like a card, and see what it does to the next feed.</p>
          </div>
          <div class="tools">
            <PipelinePicker names={server?.pipelines ?? []} />
            <button type="button" disabled={asking || !ready} onClick={() => void recommend()}>
              Ask again
            </button>
            <button
              type="button"
              disabled={asking}
              onClick={() => {
                resetUser();
                forget();
              }}
            >
              Reset me
            </button>
          </div>
        </header>
        {failed !== undefined && <RefusedNotice refused={failed} again={() => void recommend(shown === undefined)} />}
        <FeedState failed={failed !== undefined} shown={shown} />
        {shown !== undefined && <Cards feed={shown} asking={asking} onAct={onAct} onWhy={onWhy} />}
        {/* Below the cards: above them it would push them away under the pointer. */}
        {shown !== undefined && shown.answer.degraded.length > 0 && (
          <p class="lesser">Left out of this answer, or replaced: {shown.answer.degraded.join("; ")}.</p>
        )}
      </section>

      <aside class="way-side" aria-labelledby="way-title">
        <header>
          <h2 id="way-title">The way of your click</h2>
          <p class="muted way-who">
            You are <b data-testid="me">{me}</b>
          </p>
        </header>
        <p class="way-act" data-empty={way === undefined ? "" : undefined}>
          {way === undefined ? (
            "Nothing clicked yet."
          ) : (
            <>
              {way.type === "like" ? "You liked" : "You clicked"} <q>{way.title}</q>
            </>
          )}
        </p>
        <WayPanel way={way} learns={useLearns()} />
        <p class="way-note muted">Large: from your click, by this browser. Small: since the server had it, by its own clock.</p>
        {before.length > 0 && (
          <div class="way-before">
            <h3>Before that</h3>
            <ul>
              {before.map((one) => (
                <WayBefore key={one.id} way={one} />
              ))}
            </ul>
          </div>
        )}
      </aside>
      <p class="unseen" role="status">
        {shown !== undefined && way?.ended === true ? summaryOf(shown, way.seen.answer?.browserMs) : ""}
      </p>
      {why !== undefined && <Why {...why} onClose={() => setWhy(undefined)} />}
    </div>
  );
}

/** Why nothing is learned from a click; undefined when it is. */
function useLearns(): string | undefined {
  const now = useStore(training);
  const open = useStore(streaming);
  if (now === "none") return "this server runs without a model";
  if (!open) return "the live stream is not connected";
  if (now === undefined || now.state === "learning") return undefined;
  return now.state === "off" ? "training is switched off: see Quality" : `the trainer is ${now.state}${now.reason === undefined ? "" : `: ${now.reason}`}`;
}

function summaryOf({ changes, answer }: Feed, tookMs: number | undefined): string {
  const count = (kind: string): number => [...changes.values()].filter((one) => one.kind === kind).length;
  return `The feed of ${answer.items.length} cards changed after ${ms(tookMs ?? 0)} milliseconds: ${count("new")} new, ${count("up")} further up.`;
}

function PipelinePicker({ names }: { names: readonly string[] }) {
  const chosen = useStore(pipeline);
  const asking = useStore(busy);
  useEffect(() => {
    if (names.length > 0 && !names.includes(chosen)) choosePipeline(names[0]!);
  }, [names, chosen]);
  return (
    <label>
      Pipeline
      <select value={chosen} disabled={asking || names.length === 0} onChange={(event) => choosePipeline(event.currentTarget.value)}>
        {(names.includes(chosen) ? names : [chosen, ...names]).map((name) => (
          <option key={name} value={name}>
            {name}
          </option>
        ))}
      </select>
    </label>
  );
}

/** Why there is no feed, and what to do. */
function FeedState({ failed, shown }: { failed: boolean; shown: Feed | undefined }) {
  const server = useStore(status);
  const lost = useStore(gone);
  if (lost !== undefined && server === undefined) return <RefusedNotice refused={lost} />;
  if (failed) return null;
  if (server === undefined) return <Notice kind="wait" title="Asking the server." />;
  if (!server.ready) {
    return (
      <Notice kind="wait" title="The server is not ready yet.">
        <p>It waits for: {server.waiting.join("; ") || "nothing it can name"}. This page goes on by itself.</p>
      </Notice>
    );
  }
  if (server.items === 0) {
    return (
      <Notice kind="empty" title="There are no items yet.">
        <p>
          <code>npm start</code> on an empty data folder fills it with a demo world within seconds. Or put some of your own, and this page goes on by itself:
        </p>
        <pre tabIndex={0}>
          <code>{putItems}</code>
        </pre>
      </Notice>
    );
  }
  if (shown !== undefined && shown.answer.items.length === 0) {
    return (
      <Notice kind="empty" title="The answer is empty.">
        <p>
          {whole(server.items)} items are known, but none is available and passes the filter of this pipeline. Choose another pipeline, or set an item's
          available to true.
        </p>
      </Notice>
    );
  }
  return null;
}

interface CardsProps {
  readonly feed: Feed;
  readonly asking: boolean;
  readonly onAct: (type: "click" | "like", position: number) => void;
  readonly onWhy: (item: RecommendedItem, position: number) => void;
}

/** The cards; those that stay move from where they were to where they are. */
function Cards({ feed: { answer, changes }, asking, onAct, onWhy }: CardsProps) {
  const list = useRef<HTMLUListElement>(null);
  const places = useRef(new Map<string, readonly [left: number, top: number]>());
  const focused = useRef<{ card: string; what: string } | undefined>(undefined);
  const acts = useStore(done);

  useLayoutEffect(() => {
    const now = new Map<string, readonly [number, number]>();
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    for (const place of list.current?.children ?? []) {
      const element = place as HTMLElement;
      const id = element.dataset["place"]!;
      now.set(id, [element.offsetLeft, element.offsetTop]);
      const was = places.current.get(id);
      if (still || places.current.size === 0) continue;
      if (was === undefined) element.animate([{ opacity: 0, transform: "scale(.94)" }, {}], { duration: 420, easing: "ease-out" });
      else if (was[0] !== element.offsetLeft || was[1] !== element.offsetTop) {
        const by = `translate(${was[0] - element.offsetLeft}px, ${was[1] - element.offsetTop}px)`;
        element.animate([{ transform: by }, { transform: "none" }], { duration: 420, easing: "cubic-bezier(.2, .7, .2, 1)" });
      }
    }
    places.current = now;
    // A card that is moved in the document loses the focus; the keyboard must not be thrown back to the top of the page.
    const { activeElement } = document;
    if (focused.current !== undefined && (activeElement === null || activeElement === document.body)) {
      const { card, what } = focused.current;
      const again =
        list.current?.querySelector<HTMLElement>(`[data-card="${CSS.escape(card)}"] ${what}`) ?? list.current?.querySelector<HTMLElement>(".card-open");
      again?.focus({ preventScroll: true });
    }
  }, [answer]);

  // The page is drawn again each second; the cards only when they change.
  const cards = useMemo(
    () =>
      answer.items.map((item, position) => (
        <li key={item.id} data-place={item.id}>
          <Card item={item} position={position} change={changes.get(item.id)} did={acts.get(item.id)} onAct={onAct} onWhy={onWhy} />
        </li>
      )),
    [answer, changes, acts, onAct, onWhy],
  );

  return (
    <ul
      ref={list}
      class="cards"
      aria-busy={asking}
      aria-label={`Recommended by ${answer.pipeline}`}
      onFocusIn={(event) => {
        const button = event.target as HTMLElement;
        const card = button.closest<HTMLElement>("[data-card]")?.dataset["card"];
        focused.current =
          card === undefined
            ? undefined
            : { card, what: button.matches(".card-open") ? ".card-open" : button.matches("[aria-pressed]") ? "[aria-pressed]" : "[aria-haspopup]" };
      }}
      onFocusOut={(event) => {
        // Leaving for another place of the page is the visitor's will; losing it to a move is not.
        if (event.relatedTarget !== null) focused.current = undefined;
      }}
    >
      {cards}
    </ul>
  );
}
