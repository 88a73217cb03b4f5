// A question before something that others notice. The answer that changes nothing has the focus; what the server refuses is said in the dialog, which then stays.

import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { type Refused, refusedOf } from "../live/ask.ts";
import { RefusedNotice } from "./notice.tsx";

export interface Question {
  readonly title: string;
  readonly text: ComponentChildren;
  /** What the button says. */
  readonly does: string;
  readonly act: () => Promise<void>;
}

export function AskFirst({ question, onClose }: { question: Question; onClose: () => void }) {
  const dialog = useRef<HTMLDialogElement>(null);
  const [asking, setAsking] = useState(false);
  const [refused, setRefused] = useState<Refused | undefined>(undefined);
  useEffect(() => dialog.current?.showModal(), []);
  const act = async (): Promise<void> => {
    setAsking(true);
    try {
      await question.act();
      dialog.current?.close();
    } catch (thrown) {
      setRefused(refusedOf(thrown));
    }
    setAsking(false);
  };
  return (
    <dialog ref={dialog} class="ask-first" aria-labelledby="ask-first" onClose={onClose}>
      <h2 id="ask-first">{question.title}</h2>
      <div class="ask-first-text">{question.text}</div>
      {refused !== undefined && <RefusedNotice refused={refused} />}
      <div class="tools">
        <button type="button" autoFocus onClick={() => dialog.current?.close()}>
          Cancel
        </button>
        <button type="button" class="strong" disabled={asking} onClick={() => void act()}>
          {question.does}
        </button>
      </div>
    </dialog>
  );
}
