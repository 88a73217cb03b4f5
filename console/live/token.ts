// The access token by which this page asks, where the server's configuration names who may. Kept for the session of the browser tab (sessionStorage), never
// longer and never in an address; where that is switched off, as long as the page.

import { store } from "./store.ts";

const place = "millrace.token";

function kept(): string {
  try {
    return sessionStorage.getItem(place) ?? "";
  } catch {
    return "";
  }
}

/** "": none. */
export const token = store<string>(kept());
/** Why the server wants a token, or another one, in its words. */
export const tokenWanted = store<string | undefined>(undefined);

token.watch(() => {
  try {
    if (token.get() === "") sessionStorage.removeItem(place);
    else sessionStorage.setItem(place, token.get());
  } catch {
    // It lasts as long as the page.
  }
});

/** What a request sends by it. */
export function tokenHeader(): Readonly<Record<string, string>> {
  return token.get() === "" ? {} : { authorization: `Bearer ${token.get()}` };
}

/** To be called with the status of every answer and the token it was asked with: 401 asks the user for one, unless there has been another since. */
export function noticeStatus(status: number, message: string, asked: string): void {
  if (status === 401 && asked === token.get()) tokenWanted.set(message);
}
