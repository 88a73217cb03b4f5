// A box that says what is the matter and what to do about it.

import type { ComponentChildren } from "preact";
import type { Refused } from "../live/ask.ts";

export function Notice({ kind, title, children }: { kind: "wait" | "empty" | "bad"; title: string; children?: ComponentChildren }) {
  return (
    <div class="notice" data-kind={kind} role={kind === "bad" ? "alert" : "status"}>
      <strong>{title}</strong>
      {children}
    </div>
  );
}

export function RefusedNotice({ refused, again }: { refused: Refused; again?: () => void }) {
  return (
    <Notice kind="bad" title={refused.message}>
      {refused.todo !== undefined && <p>What to do: {refused.todo}</p>}
      {again !== undefined && (
        <button type="button" onClick={again}>
          Try again
        </button>
      )}
    </Notice>
  );
}
