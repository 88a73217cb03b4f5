// One JSON request to the server that gave out this page. Errors come as `Refused`, whose texts may be shown as they are.
// Invariant: every request ends after `timeoutMs`, whatever the server does.

import type { ErrorAnswer } from "#wire/api";
import { noticeStatus, token, tokenHeader } from "./token.ts";

const timeoutMsDefault = 10_000;

export class Refused extends Error {
  /** A code of millrace's errors, or `no-answer`. */
  readonly code: string;
  readonly todo: string | undefined;

  constructor(code: string, message: string, todo?: string) {
    super(plain(message, todo));
    this.code = code;
    this.todo = todo;
  }
}

/** Messages of millrace are made for logs, `[code] what: what to do`; here code and advice have places of their own. */
export function plain(message: string, todo?: string): string {
  const said = message.replace(/^\[[a-z-]+\] /, "");
  const without = todo !== undefined && said.endsWith(`: ${todo}`) ? said.slice(0, -todo.length - 2) : said;
  return `${without.charAt(0).toUpperCase()}${without.slice(1)}${/[.!?]$/.test(without) ? "" : "."}`;
}

/** A whole number with more digits than a JavaScript number keeps, as the answer has it. */
export class Digits {
  readonly text: string;

  constructor(text: string) {
    this.text = text;
  }
}

/** Browsers that do not hand out the source text (before Firefox 135, Safari 18.4) round it. */
function keepDigits(_key: string, value: unknown, context?: { readonly source?: string }): unknown {
  const source = context?.source;
  return typeof value === "number" && source !== undefined && Number.isInteger(value) && !Number.isSafeInteger(value) && /^-?\d+$/.test(source)
    ? new Digits(source)
    : value;
}

/** Whole numbers beyond 2^53 come as `Digits`. */
export async function ask<Answer>(method: "GET" | "POST" | "DELETE", path: string, body?: unknown, timeoutMs = timeoutMsDefault): Promise<Answer> {
  const asked = token.get();
  let response: Response;
  try {
    response = await fetch(path, {
      method,
      signal: AbortSignal.timeout(timeoutMs),
      headers: { ...tokenHeader(), ...(body === undefined ? {} : { "content-type": "application/json" }) },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
  } catch {
    throw new Refused("no-answer", "The server does not answer.", "is it running? Start it with npm start; this page goes on by itself.");
  }
  const answer = await response
    .text()
    .then((text) => JSON.parse(text, keepDigits) as Answer | ErrorAnswer)
    .catch(() => undefined);
  if (response.ok && answer !== undefined) return answer as Answer;
  const error = (answer as ErrorAnswer | undefined)?.error;
  if (error === undefined) throw new Refused("internal", `The server answered with status ${response.status}.`, "See its log.");
  noticeStatus(response.status, plain(error.message, error.todo), asked);
  // A refused list says why in its rows.
  throw new Refused(error.code, error.rejected?.[0]?.message ?? error.message, error.todo);
}

/** What to show of anything thrown. */
export function refusedOf(thrown: unknown): Refused {
  return thrown instanceof Refused ? thrown : new Refused("internal", thrown instanceof Error ? thrown.message : String(thrown), "Load the page again.");
}
