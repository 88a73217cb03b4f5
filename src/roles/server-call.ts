// Calls of a running server's HTTP API by a command, with what the operator's environment says: address and token.

import { MillraceError } from "#base/errors";
import { systemClock } from "#platform/system-clock";
import { systemRandom } from "#platform/system-random";
import { Transport } from "#sdk/transport";

/** Longer than the server takes to answer that something goes on. */
const timeoutMs = 30_000;

/** Throws what the server answers, `unavailable` when there is none. */
export type ServerCall = <Answer>(method: "GET" | "POST", path: string, body?: unknown) => Promise<Answer>;

export function serverCall(address: string, token: string | undefined): ServerCall {
  if (!URL.canParse(address)) {
    throw new MillraceError("invalid", `the address ${JSON.stringify(address.slice(0, 80))} is no URL`, { todo: "give it as http://127.0.0.1:8080" });
  }
  const transport = new Transport({
    baseUrl: new URL(address),
    timeoutMs,
    retries: 0,
    inFlightMax: 8,
    clock: systemClock,
    random: systemRandom,
    ...(token === undefined ? {} : { token }),
  });
  return (method, path, body) => transport.call({ method, path, repeatable: method === "GET", ...(body === undefined ? {} : { body }) });
}
