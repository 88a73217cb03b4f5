// The frame around the pages: name, ways to the pages, state of the server, theme. Pages are chosen by the fragment of the address (#/quality), so that the
// server has one page to give out and every page can be linked.

import { useEffect, useRef, useState } from "preact/hooks";
import { gone, status } from "./live/server.ts";
import { useStore } from "./live/store.ts";
import { nextTheme, theme } from "./live/theme.ts";
import { token } from "./live/token.ts";
import { BeAUser } from "./page/be-a-user.tsx";
import { Features } from "./page/features.tsx";
import { Overview } from "./page/overview.tsx";
import { Parameters } from "./page/parameters.tsx";
import { Pipelines } from "./page/pipelines.tsx";
import { Quality } from "./page/quality.tsx";
import { Vectors } from "./page/vectors.tsx";
import { duration } from "./part/figures.ts";
import { TokenButton, TokenPrompt } from "./part/token-prompt.tsx";

const pages = [
  { path: "", name: "Be a user", Page: BeAUser },
  { path: "overview", name: "Overview", Page: Overview },
  { path: "quality", name: "Quality", Page: Quality },
  { path: "pipelines", name: "Pipelines", Page: Pipelines },
  { path: "features", name: "Features", Page: Features },
  { path: "parameters", name: "Parameters", Page: Parameters },
  { path: "vectors", name: "Vectors", Page: Vectors },
] as const;

const pathOf = (hash: string): string => hash.replace(/^#\/?/, "");

export function App() {
  const [path, setPath] = useState(pathOf(location.hash));
  const now = useStore(token);
  const main = useRef<HTMLElement>(null);
  const first = useRef(true);
  useEffect(() => {
    const moved = (): void => setPath(pathOf(location.hash));
    addEventListener("hashchange", moved);
    return () => removeEventListener("hashchange", moved);
  }, []);
  const page = pages.find((one) => one.path === path) ?? pages[0];
  useEffect(() => {
    document.title = `${page.name} · millrace`;
    if (first.current) first.current = false;
    else {
      // As after a load of a page: reading begins at its top.
      main.current?.focus({ preventScroll: true });
      scrollTo(0, 0);
    }
  }, [page]);

  return (
    <>
      <a
        class="skip"
        href="#main"
        onClick={(event) => {
          event.preventDefault();
          main.current?.focus();
        }}
      >
        Skip to the page
      </a>
      <header class="top">
        <div class="top-inside">
          <a class="brand" href="#/">
            <svg viewBox="0 0 16 16" width="22" height="22" aria-hidden="true">
              <g fill="none" stroke="currentColor" stroke-width="1.6" stroke-linecap="round">
                <circle cx="8" cy="8" r="5.4" />
                <path d="M8 2.6v10.8M2.6 8h10.8M4.2 4.2l7.6 7.6M11.8 4.2l-7.6 7.6" />
              </g>
            </svg>
            millrace
          </a>
          <nav aria-label="Pages">
            {pages.map((one) => (
              <a key={one.path} href={`#/${one.path}`} aria-current={one === page ? "page" : undefined}>
                {one.name}
              </a>
            ))}
          </nav>
          <ServerState />
          <TokenButton />
          <ThemeButton />
        </div>
      </header>
      <main id="main" ref={main} tabIndex={-1}>
        {/* A page that was refused begins anew with another token. */}
        <page.Page key={now} />
      </main>
      <Foot />
      <TokenPrompt />
    </>
  );
}

function ServerState() {
  const server = useStore(status);
  const lost = useStore(gone);
  const [state, text] =
    lost !== undefined
      ? (["bad", "no answer"] as const)
      : server === undefined
        ? (["wait", "asking"] as const)
        : server.ready
          ? (["good", "ready"] as const)
          : (["wait", "not ready"] as const);
  const why = lost?.todo ?? (server?.ready === false ? `waits for ${server.waiting.join("; ")}` : "");
  return (
    <p class="server-state" data-state={state} role="status" title={why}>
      <i aria-hidden="true" /> {text}
    </p>
  );
}

function ThemeButton() {
  const now = useStore(theme);
  return (
    <button type="button" class="quiet theme" onClick={nextTheme} title="Colours: as the system, light, dark">
      <svg viewBox="0 0 16 16" width="16" height="16" aria-hidden="true">
        <circle cx="8" cy="8" r="6" fill="none" stroke="currentColor" stroke-width="1.6" />
        <path d="M8 2a6 6 0 0 1 0 12z" fill="currentColor" />
      </svg>
      <span>
        <span class="unseen">Colours: </span>
        {now}
      </span>
    </button>
  );
}

function Foot() {
  const server = useStore(status);
  return (
    <footer class="foot">
      <p>{server === undefined ? "" : `millrace ${server.version}, up ${duration(server.nowMs - server.startedAtMs)}, acknowledged at ${server.durability}`}</p>
      <nav aria-label="Faces of this server for machines">
        <a href="/openapi.json">API</a>
        <a href="/v1/status">status</a>
        <a href="/metrics">metrics</a>
        <a href="/health/ready">readiness</a>
      </nav>
    </footer>
  );
}
