// *why?* of a card: its reasons, where it was found, what its score is made of, and what the model thinks of it now against when it was served.

import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import type { RecommendedItem } from "#wire/api";
import type { ScoreAnswer, SimilarAnswer } from "#wire/live-api";
import { Art } from "../art/art.tsx";
import { ask, type Refused, refusedOf } from "../live/ask.ts";
import { percent, sigmoid, signed } from "./figures.ts";

interface WhyProps {
  readonly item: RecommendedItem;
  readonly position: number;
  readonly recommendationId: string;
  readonly onClose: () => void;
}

/** What the terms of the weighted score are called here; the others are columns that they were worked out from. */
const terms: readonly (readonly [key: string, name: string])[] = [
  ["own", "your own history"],
  ["score.together", "goes with what you took"],
  ["score.affinity", "your liking of its kind"],
  ["score.again", "you and this one"],
  ["score.rate", "taken when shown"],
  ["score.popular", "popular now"],
  ["score.fresh", "new, or hardly shown"],
];

const similarWanted = 5;

export function Why({ item, position, recommendationId, onClose }: WhyProps) {
  const dialog = useRef<HTMLDialogElement>(null);
  const title = item.title ?? item.id;
  useEffect(() => dialog.current?.showModal(), []);
  const parts = item.parts ?? {};
  const named = terms.flatMap(([key, name]) => (parts[key] === undefined ? [] : [{ name, value: parts[key] }]));
  const columns = Object.entries(parts).filter(([key]) => !terms.some(([term]) => term === key));
  const ranked = parts["model.logit"] !== undefined;
  return (
    <dialog
      ref={dialog}
      class="why"
      aria-labelledby="why-title"
      onClose={onClose}
      onClick={(event) => event.target === dialog.current && event.currentTarget.close()}
    >
      <div class="why-inside">
        <header>
          <div class="why-art">
            <Art category={item.category ?? ""} about={`${item.id} ${title}`} place="why" />
          </div>
          <div>
            <h2 id="why-title">Why {title}?</h2>
            <p>
              Place {position + 1}, score {item.score.toFixed(3)}, found by {item.sources.join(", ") || "nobody"}
            </p>
          </div>
          <button type="button" class="quiet" onClick={() => dialog.current?.close()}>
            Close
          </button>
        </header>

        <Part title="Reasons">
          <ul class="bars">
            {item.reasons.map(({ code, text, share }) => (
              <li key={code}>
                <span>{text}</span>
                <Bar share={share} />
                <b>{percent(share)}</b>
              </li>
            ))}
          </ul>
        </Part>

        <ModelOpinion recommendationId={recommendationId} item={item.id} counting={parts["counting.logit"]} />

        {named.length > 0 && (
          <Part title="What the weighted score is made of">
            {ranked && (
              <p class="muted why-note">The model ranked this answer. The weighted score is among what it is told, and stands in for it when it is late.</p>
            )}
            <ul class="bars">
              {named.map(({ name, value }) => (
                <li key={name} data-none={Math.abs(value) < 0.0005 ? "" : undefined}>
                  <span>{name}</span>
                  <Bar share={value / Math.max(...named.map((one) => Math.abs(one.value)), 1e-9)} />
                  <b>{Math.abs(value) < 0.0005 ? "0" : signed(value)}</b>
                </li>
              ))}
            </ul>
          </Part>
        )}

        <Similar item={item.id} />

        {columns.length > 0 && (
          <details>
            <summary>The columns behind it</summary>
            <dl class="columns">
              {columns.map(([key, value]) => (
                <div key={key}>
                  <dt>{key}</dt>
                  <dd>{Number(value.toPrecision(4))}</dd>
                </div>
              ))}
            </dl>
          </details>
        )}
      </div>
    </dialog>
  );
}

function Part({ title, children }: { title: string; children: ComponentChildren }) {
  return (
    <section>
      <h3>{title}</h3>
      {children}
    </section>
  );
}

/** From 0 to the right, from 0 to the left when negative. */
function Bar({ share }: { share: number }) {
  return (
    <span class="bar" aria-hidden="true" data-negative={share < 0 ? "" : undefined}>
      <i style={{ width: `${Math.min(100, Math.abs(share) * 100)}%` }} />
    </span>
  );
}

/** The answer of one request made when the part appears and whenever `asked` grows. */
function useAnswer<Answer>(path: string, body: object, asked: number): Answer | Refused | undefined {
  const [answer, setAnswer] = useState<Answer | Refused | undefined>(undefined);
  const text = JSON.stringify(body);
  useEffect(() => {
    let left = false;
    ask<Answer>("POST", path, JSON.parse(text)).then(
      (value) => !left && setAnswer(value),
      (thrown: unknown) => !left && setAnswer(refusedOf(thrown)),
    );
    return () => {
      left = true;
    };
  }, [path, text, asked]);
  return answer;
}

interface OpinionProps {
  readonly recommendationId: string;
  readonly item: string;
  /** The counting model's logit when the item was served. */
  readonly counting: number | undefined;
}

function ModelOpinion({ recommendationId, item, counting }: OpinionProps) {
  const [asked, setAsked] = useState(0);
  const answer = useAnswer<ScoreAnswer>("/v1/score", { recommendationId, item }, asked);
  return (
    <Part title="What the model thinks">
      {answer === undefined ? (
        <p class="muted">Asking the model.</p>
      ) : answer instanceof Error ? (
        <p class="muted">{answer.code === "not-found" || answer.code === "unsupported" ? `No opinion of a model: ${answer.message}` : answer.message}</p>
      ) : (
        <>
          <dl class="opinion">
            <div>
              <dt>when it was served</dt>
              <dd>{answer.servedScore === undefined ? "–" : percent(sigmoid(answer.servedScore))}</dd>
              <dd class="muted">{answer.servedScore === undefined ? "the weighted score ranked" : `logit ${signed(answer.servedScore)}`}</dd>
            </div>
            <div>
              <dt>now, same features</dt>
              <dd>{percent(sigmoid(answer.score))}</dd>
              <dd class="muted">logit {signed(answer.score)}</dd>
            </div>
            <div>
              <dt>at its place {answer.position + 1}</dt>
              <dd>{percent(answer.probability)}</dd>
              <dd class="muted">chance of a click</dd>
            </div>
            {counting !== undefined && (
              <div>
                <dt>counting, when served</dt>
                <dd>{percent(sigmoid(counting))}</dd>
                <dd class="muted">logit {signed(counting)}</dd>
              </div>
            )}
          </dl>
          <button type="button" class="quiet" onClick={() => setAsked(asked + 1)}>
            Ask it again
          </button>
        </>
      )}
    </Part>
  );
}

function Similar({ item }: { item: string }) {
  const answer = useAnswer<SimilarAnswer>("/v1/similar", { item, n: similarWanted }, 0);
  if (answer === undefined || answer instanceof Error || answer.items.length === 0) return null;
  return (
    <Part title="Nearest by live vectors">
      <ul class="bars">
        {answer.items.map(({ id, title, similarity }) => (
          <li key={id}>
            <span>{title ?? id}</span>
            <Bar share={similarity} />
            <b>{similarity.toFixed(2)}</b>
          </li>
        ))}
      </ul>
    </Part>
  );
}
