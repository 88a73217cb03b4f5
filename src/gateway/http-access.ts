// Bearer tokens on HTTP: which scope a route needs, and whether the caller's token has it.
// Open without a token are only health and the console's files (no data stands in them). A web page cannot send the header for its visitor, so a token also
// keeps foreign pages out.

import type { AccessScope, Authenticator } from "#wire/access";
import { HttpRefusal } from "./http-errors.ts";
import type { Route } from "./http-routes.ts";

/** Routes that change nothing although they are no GET. */
const readingPosts = /\/(?:read|scan|search|similar|score)$|^\/get-online-features$/;

/** The scope that a route needs; `undefined`: none. */
export function scopeOf(route: Pick<Route, "method" | "url">): AccessScope | undefined {
  const { method, url } = route;
  if (url === "/" || url.startsWith("/assets/") || url.startsWith("/health")) return undefined;
  if (url.startsWith("/v1/events")) return "events";
  if (url.startsWith("/v1/recommend") || url.startsWith("/v1/rank")) return "recommend";
  if (/^\/v1\/(?:imports|snapshots|parameters|vector-tasks)(?:\/|$)/.test(url)) return method === "GET" ? "read" : "import";
  if (method === "GET" || readingPosts.test(url)) return "read";
  if (url.startsWith("/v1/training")) return "admin";
  return "write";
}

function bearerOf(authorization: string | undefined): string | undefined {
  return authorization === undefined ? undefined : /^Bearer +(\S+) *$/i.exec(authorization)?.[1];
}

/** The name of who asks, for what keeps names: `anonymous` without a token. */
export function callerOf(access: Authenticator, authorization: string | undefined): string {
  const bearer = bearerOf(authorization);
  return (bearer === undefined ? undefined : access.token(bearer)?.name) ?? anonymous;
}

export const anonymous = "anonymous";

/** What stands against the request: no token (401), or one without the scope (403). */
export function missingRight(access: Authenticator, authorization: string | undefined, route: Pick<Route, "method" | "url">): HttpRefusal | undefined {
  const scope = scopeOf(route);
  if (scope === undefined) return undefined;
  const bearer = bearerOf(authorization);
  const user = bearer === undefined ? (authorization === undefined ? access.anonymous : undefined) : access.token(bearer);
  if (user?.scopes.has(scope) === true) return undefined;
  if (user !== undefined && user !== access.anonymous) {
    return new HttpRefusal("unauthorized", `the token may not do this, it lacks the scope ${scope}`, {
      status: 403,
      todo: "use a token with that scope, docs/access.md names the scopes of all routes",
    });
  }
  return new HttpRefusal("unauthorized", authorization === undefined ? "the request has no token" : "the token is not known", {
    todo: "send `authorization: Bearer TOKEN` with a token of the configuration's section `access`",
    headers: { "www-authenticate": 'Bearer realm="millrace"' },
  });
}
