// Addresses of nodes as the configuration writes them.

import { MillraceError } from "#base/errors";
import type { Address } from "./sync-node.ts";

/** `host:port` as the configuration has it. Throws `invalid`. */
export function addressOf(text: string): Address {
  const at = text.lastIndexOf(":");
  const port = Number(text.slice(at + 1));
  if (!(port >= 1 && port <= 65_535)) throw new MillraceError("invalid", `parameters.sync.follow names ${text}`, { todo: "give host:port" });
  return { host: text.slice(0, at), port };
}
