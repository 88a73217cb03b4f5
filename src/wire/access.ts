// Who may do what, on every port: users with passwords and Redis' ACL rules for RESP, bearer tokens with scopes for HTTP. This file is the contract.

import type { Args, CommandSpec, SessionUser } from "./resp-command.ts";

/** What a bearer token may do over HTTP. Each is named in docs/access.md with its routes. */
export const accessScopes = ["read", "events", "recommend", "write", "import", "admin"] as const;
export type AccessScope = (typeof accessScopes)[number];

export interface AccessUser extends SessionUser {
  readonly enabled: boolean;
  /** Over HTTP; `admin` includes all others. */
  readonly scopes: ReadonlySet<AccessScope>;
  /** As `refusal`, with what ACL LOG keeps. */
  denial(spec: CommandSpec, args: Args): AccessDenial | undefined;
}

export interface AccessDenial {
  /** "NOPERM ...". */
  readonly text: string;
  readonly reason: "command" | "key";
  /** The command or the key. */
  readonly object: string;
}

export interface Authenticator {
  /** Somebody wrote down who may do what. Without that, only loopback is served, and everybody there may do everything. */
  readonly configured: boolean;
  /** A RESP connection must authenticate: the default user has a password or is off. */
  readonly required: boolean;
  /** The user when name and password are right and the user is on. Takes the same time for a wrong password and an unknown user. */
  check(user: string, password: Uint8Array | string): AccessUser | undefined;
  /** The user of an HTTP bearer token. */
  token(bearer: string): AccessUser | undefined;
  /** Who calls HTTP without a token: everybody on loopback without configured access, else what `anonymous` of the configuration allows. */
  readonly anonymous: AccessUser | undefined;
  /** The user of a new RESP connection. */
  readonly defaultUser: AccessUser;
  /** Called with a user who was deleted or switched off: its connections are closed. Returns the way to stop. */
  onRevoked(run: (user: SessionUser) => void): () => void;
  /** For ACL LOG: something was refused. */
  refused(entry: AccessRefusal): void;
}

export interface AccessRefusal {
  readonly reason: "auth" | "command" | "key" | "channel";
  /** The user, the command or the key. */
  readonly object: string;
  readonly user: string;
  readonly context: "toplevel" | "multi";
  readonly client: string;
}
