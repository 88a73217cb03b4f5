// Who the visitor is: an id made here, kept in the browser until it is reset. Nothing else about the visitor is stored.

import { kept, keep } from "./keep.ts";
import { store } from "./store.ts";

const letters = "abcdefghjkmnpqrstuvwxyz23456789";

function newUser(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(4));
  return `you-${Array.from(bytes, (byte) => letters[byte % letters.length]).join("")}`;
}

function first(): string {
  const before = kept("user");
  if (before !== undefined && /^you-\w{4}$/.test(before)) return before;
  return keep("user", newUser());
}

export const user = store(first());

/** A new visitor: the server knows nothing of this one. */
export function resetUser(): void {
  user.set(keep("user", newUser()));
}
