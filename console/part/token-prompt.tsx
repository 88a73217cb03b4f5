// Asks for an access token when the server wants one, and lets it be changed or forgotten.

import { useEffect, useRef, useState } from "preact/hooks";
import { useStore } from "../live/store.ts";
import { token, tokenWanted } from "../live/token.ts";

export function TokenPrompt() {
  const wanted = useStore(tokenWanted);
  return wanted === undefined ? null : <TokenDialog why={wanted} />;
}

function TokenDialog({ why }: { why: string }) {
  const dialog = useRef<HTMLDialogElement>(null);
  const [typed, setTyped] = useState("");
  useEffect(() => dialog.current?.showModal(), []);
  return (
    <dialog ref={dialog} class="ask-first" aria-labelledby="token-prompt" onClose={() => tokenWanted.set(undefined)}>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          token.set(typed.trim());
          dialog.current?.close();
        }}
      >
        <h2 id="token-prompt">Access token</h2>
        <p class="ask-first-text">{why}</p>
        <label class="field">
          <span>A token of the configuration's section access. It is kept until this tab is closed.</span>
          <input
            type="password"
            autoComplete="off"
            spellcheck={false}
            autoFocus
            required
            maxLength={1_024}
            value={typed}
            onInput={(event) => setTyped(event.currentTarget.value)}
          />
        </label>
        <div class="tools">
          <button type="button" onClick={() => dialog.current?.close()}>
            Not now
          </button>
          <button type="submit" class="strong">
            Use this token
          </button>
        </div>
      </form>
    </dialog>
  );
}

/** In the page's head, once there is a token or one is wanted: to change it. */
export function TokenButton() {
  const now = useStore(token);
  if (now === "") return null;
  return (
    <button type="button" class="quiet" onClick={() => tokenWanted.set("Another token takes the place of the one that is used now.")}>
      Token
    </button>
  );
}
