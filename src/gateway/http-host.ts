// Which names this server may listen on and be called by: those of this machine only, because there is no authentication yet.
// Why the Host header is checked: a web page can make its own name resolve to 127.0.0.1 (DNS rebinding) and would then read answers as if they were its
// own; but its requests carry that name.

import { MillraceError } from "#base/errors";

const loopbackHosts = /^(?:(?:[a-z0-9-]+\.)*localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d{1,5})?$/i;

/** True when a Host header names this machine's loopback. */
export function isLoopbackHeader(host: string): boolean {
  return host.length <= 261 && loopbackHosts.test(host);
}

/** The address to bind for a configured host. `localhost` is 127.0.0.1. Throws `unsupported` for an address that others can reach. */
export function loopbackAddress(host: string): string {
  if (host === "localhost") return "127.0.0.1";
  if (host === "::1" || host === "[::1]") return "::1";
  if (/^127(?:\.\d{1,3}){3}$/.test(host)) return host;
  throw new MillraceError("unsupported", `cannot listen on host "${host}": others could reach it and there is no authentication yet`, {
    todo: "use 127.0.0.1, ::1 or localhost, and put a proxy that authenticates in front",
  });
}
