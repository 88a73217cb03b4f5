// Which names this server may listen on and be called by: those of this machine only, as long as no access is configured.
// Why the Host header is checked: a web page can make its own name resolve to 127.0.0.1 (DNS rebinding) and would then read answers as if they were its
// own; but its requests carry that name.

import { MillraceError } from "#base/errors";

const loopbackHosts = /^(?:(?:[a-z0-9-]+\.)*localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d{1,5})?$/i;

/** True when a Host header names this machine's loopback. */
export function isLoopbackHeader(host: string): boolean {
  return host.length <= 261 && loopbackHosts.test(host);
}

/** The address to bind for a configured host. `localhost` is 127.0.0.1. Throws `unsupported` for one that others can reach while anybody may do everything. */
export function hostAddress(host: string, hasAccess: boolean): string {
  if (host === "localhost") return "127.0.0.1";
  if (host === "::1" || host === "[::1]") return "::1";
  if (/^127(?:\.\d{1,3}){3}$/.test(host)) return host;
  if (hasAccess) return host.replace(/^\[(.*)\]$/, "$1");
  throw new MillraceError("unsupported", `cannot listen on host "${host}": others could reach it and nobody is named who may`, {
    todo: "name users in the section `access` of the configuration (docs/access.md), or use 127.0.0.1, ::1 or localhost",
  });
}
