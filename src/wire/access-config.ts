// The section `access` of the configuration: who may do what, on every port. Without it only this machine is served, and everybody on it may do everything.
// Passwords and tokens stand there as SHA-256 (64 hexadecimal digits) or, where the file itself is secret, as they are.

import { type Static, Type } from "typebox";
import { Value } from "typebox/value";
import { MillraceError } from "#base/errors";
import { accessScopes } from "./access.ts";

/** Limits of what the section may say. */
export const accessLimits = {
  usersMax: 1_000,
  /** Of one user. */
  secretsMax: 16,
  nameCharactersMax: 128,
  secretCharactersMax: 1_024,
  /** Shorter secrets are refused: a digest of one is guessed in seconds. */
  secretCharactersMin: 8,
  rulesCharactersMax: 16_384,
} as const;

const Digest = Type.String({ pattern: "^[0-9a-f]{64}$", description: "SHA-256, 64 lower-case hexadecimal digits: `printf %s SECRET | sha256sum`" });
const Secret = Type.String({ minLength: accessLimits.secretCharactersMin, maxLength: accessLimits.secretCharactersMax });
const Scopes = Type.Array(Type.Enum([...accessScopes]), { uniqueItems: true, maxItems: accessScopes.length });

export const AccessUserConfig = Type.Object(
  {
    enabled: Type.Optional(Type.Boolean({ description: "Default true. A user who is off is refused on every port." })),
    rules: Type.Optional(
      Type.String({
        maxLength: accessLimits.rulesCharactersMax,
        description: "Redis' ACL rules for commands and keys, as `~items:* +@read`; without them the user may run nothing over RESP.",
      }),
    ),
    passwords: Type.Optional(Type.Array(Secret, { maxItems: accessLimits.secretsMax })),
    passwordsSha256: Type.Optional(Type.Array(Digest, { maxItems: accessLimits.secretsMax })),
    tokens: Type.Optional(Type.Array(Secret, { maxItems: accessLimits.secretsMax, description: "Bearer tokens for HTTP." })),
    tokensSha256: Type.Optional(Type.Array(Digest, { maxItems: accessLimits.secretsMax })),
    scopes: Type.Optional(Scopes),
  },
  { additionalProperties: false },
);

export const AccessConfig = Type.Object(
  {
    users: Type.Record(Type.String({ pattern: `^[^\\s\\u0000]{1,${accessLimits.nameCharactersMax}}$` }), AccessUserConfig, {
      // Without it a user whose name does not fit would go unchecked.
      additionalProperties: false,
      description: "By name. `default` is who a RESP connection is before it authenticates; when it is not named here, it may do nothing.",
    }),
    anonymous: Type.Optional(Scopes),
  },
  { additionalProperties: false },
);

export type AccessUserConfig = Static<typeof AccessUserConfig>;
export type AccessConfig = Static<typeof AccessConfig>;

/** The section, checked. Throws `invalid` and names the place; never a value. */
export function checkAccessConfig(given: unknown): AccessConfig {
  if (!Value.Check(AccessConfig, given)) {
    throw new MillraceError("invalid", `the configuration's access${complaintOf(given)}`, { todo: "see docs/access.md for what may stand there" });
  }
  const names = Object.keys(given.users);
  if (names.length > accessLimits.usersMax) {
    throw new MillraceError("invalid", `the configuration's access names ${names.length} users`, { todo: `name at most ${accessLimits.usersMax}` });
  }
  return given;
}

/** The place, and what is wrong there. */
function complaintOf(given: unknown): string {
  const errors = Value.Errors(AccessConfig, given);
  // A name too many is reported twice, the second time with the name.
  const first = errors.find(({ keyword }) => keyword === "additionalProperties") ?? errors[0];
  if (first === undefined) return " is not as it should be";
  const place = first.instancePath.replaceAll("/", ".");
  const params = first.params as { additionalProperties?: readonly string[]; allowedValues?: readonly string[] };
  if (params.additionalProperties !== undefined) {
    const name = JSON.stringify(params.additionalProperties[0]?.slice(0, accessLimits.nameCharactersMax));
    return place === ".users"
      ? `.users: ${name} cannot be a name, it has 1 to ${accessLimits.nameCharactersMax} characters and no blanks`
      : `${place} has no field ${name}`;
  }
  return `${place} ${first.message}${params.allowedValues === undefined ? "" : `: ${params.allowedValues.join(", ")}`}`;
}
