// Guards that each route needs its scope, and that tokens are judged as docs/access.md says.

import assert from "node:assert/strict";
import { test } from "node:test";
import { systemClock } from "#platform/system-clock";
import { checkAccessConfig } from "#wire/access-config";
import { Access } from "#wire/access-users";
import { CommandTable } from "#wire/resp-command-table";
import { callerOf, missingRight, scopeOf } from "./http-access.ts";
import type { Route } from "./http-routes.ts";

const route = (method: Route["method"], url: string): Pick<Route, "method" | "url"> => ({ method, url });

test("each route has its scope", () => {
  const scopes = [
    [route("GET", "/"), undefined],
    [route("GET", "/health/ready"), undefined],
    [route("GET", "/v1/status"), "read"],
    [route("GET", "/metrics"), "read"],
    [route("POST", "/v1/events"), "events"],
    [route("POST", "/v1/recommend/:pipeline"), "recommend"],
    [route("POST", "/v1/items"), "write"],
    [route("POST", "/v1/tables/:table/read"), "read"],
    [route("POST", "/v1/tables/:table/write"), "write"],
    [route("POST", "/v1/collections/:collection/search"), "read"],
    [route("POST", "/v1/collections/:collection/read"), "read"],
    [route("POST", "/v1/collections/:collection/write"), "write"],
    [route("DELETE", "/v1/collections/:collection"), "write"],
    [route("POST", "/v1/training"), "admin"],
    [route("POST", "/v1/imports"), "import"],
    [route("DELETE", "/v1/imports/:job"), "import"],
    [route("GET", "/v1/imports/:job"), "read"],
    [route("GET", "/v1/snapshots"), "read"],
    [route("POST", "/v1/snapshots/:kind/:name/rollback"), "import"],
    [route("GET", "/v1/parameters"), "read"],
    [route("POST", "/v1/parameters/models/:model/rollback"), "import"],
  ] as const;
  for (const [one, scope] of scopes) assert.equal(scopeOf(one), scope, one.url);
});

test("promise: without a known token 401, without the scope 403, with it nothing stands against the request", () => {
  const users = {
    shop: { tokens: ["token of the shop"], scopes: ["events"] },
    old: { enabled: false, tokens: ["a former token"], scopes: ["admin"] },
    op: { tokens: ["operator token"], scopes: ["admin"] },
  };
  const config = checkAccessConfig(JSON.parse(JSON.stringify({ users }).replaceAll(" ", "-")));
  const access = new Access({ commands: new CommandTable([]), clock: systemClock, config });
  const status = (authorization: string | undefined, one: Pick<Route, "method" | "url">): number | undefined =>
    missingRight(access, authorization, one)?.status;
  const events = route("POST", "/v1/events");
  assert.equal(status(undefined, events), 401);
  assert.equal(status("Bearer wrong", events), 401);
  assert.equal(status("Basic x", events), 401);
  assert.equal(status("Bearer a-former-token", events), 401);
  assert.equal(status("Bearer token-of-the-shop", events), undefined);
  assert.equal(status("bearer token-of-the-shop", route("POST", "/v1/items")), 403);
  assert.equal(status("Bearer operator-token", route("POST", "/v1/training")), undefined);
  assert.equal(status(undefined, route("GET", "/health/live")), undefined);
  assert.deepEqual(
    ["Bearer operator-token", "Bearer wrong", undefined].map((one) => callerOf(access, one)),
    ["op", "anonymous", "anonymous"],
  );
  const open = new Access({ commands: new CommandTable([]), clock: systemClock, config: { users: {}, anonymous: ["read"] } });
  assert.equal(missingRight(open, undefined, route("GET", "/v1/status")), undefined);
  assert.equal(missingRight(open, undefined, events)?.status, 401);
  assert.throws(() => checkAccessConfig({ users: { x: { passwords: ["short"] } } }), /\[invalid\]/);
});
