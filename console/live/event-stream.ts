// A stream of server-sent events over fetch. Why not EventSource: it cannot send a token.
// Invariants: 1. after `close` nothing is told any more  2. `ended` is told once, whatever ended it, unless it was closed.
// Limits: one event of at most `eventCharactersMax`; a longer one ends the stream.

import { noticeStatus, token, tokenHeader } from "./token.ts";

const eventCharactersMax = 1 << 20;

export interface StreamEars {
  opened(): void;
  event(name: string, data: string): void;
  /** It ended, or never began. */
  ended(): void;
}

export function openEventStream(path: string, ears: StreamEars): { close(): void } {
  const stop = new AbortController();
  const run = async (): Promise<void> => {
    const asked = token.get();
    const response = await fetch(path, { headers: { accept: "text/event-stream", ...tokenHeader() }, signal: stop.signal });
    if (!response.ok || response.body === null) {
      noticeStatus(response.status, "The live stream needs a token.", asked);
      return;
    }
    ears.opened();
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done || text.length + value.length > eventCharactersMax) return;
      text += value;
      for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n")) {
        tell(text.slice(0, end), ears);
        text = text.slice(end + 2);
      }
    }
  };
  void run()
    .catch(() => undefined)
    .then(() => {
      if (stop.signal.aborted) return;
      stop.abort();
      ears.ended();
    });
  return { close: () => stop.abort() };
}

/** One event: lines of `event:` and `data:`; comments, which keep the connection alive, are passed over. */
function tell(block: string, ears: StreamEars): void {
  let name = "message";
  const data: string[] = [];
  for (const line of block.split("\n")) {
    if (line.startsWith("event:")) name = line.slice(6).trim();
    else if (line.startsWith("data:")) data.push(line.slice(line.startsWith("data: ") ? 6 : 5));
  }
  if (data.length > 0) ears.event(name, data.join("\n"));
}
