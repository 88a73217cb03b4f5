// A schema as a check whose error a person can act on: the field, what is wrong with it, what it must be.
// Invariant: the message names fields and limits, never the value that was sent.
// Cost: a passing check is one compiled function; the message is made only for a failing one.

import { MillraceError } from "#base/errors";
import type { Static, TSchema } from "typebox";
import { Compile } from "typebox/compile";

/** A compiled schema. */
export interface SchemaCheck<T> {
  passes(value: unknown): value is T;
  /** What is wrong with a value that does not pass, a sentence that begins with `what`, e.g. `event` or `the body`. */
  complaint(value: unknown, what: string): string;
  /** The value as the schema's type; throws `invalid` with the complaint. `todo`: where the schema is described for whoever wrote the value; default: for a request. */
  required(value: unknown, what: string, todo?: string): T;
}

interface SchemaError {
  readonly keyword: string;
  readonly instancePath: string;
  readonly message: string;
  readonly params: object;
}

/** Compiles the schema once. */
export function schemaCheck<S extends TSchema>(schema: S): SchemaCheck<Static<S>> {
  const compiled = Compile(schema);
  const complaint = (value: unknown, what: string): string => sentenceOf(compiled.Errors(value), what);
  return {
    passes: (value): value is Static<S> => compiled.Check(value),
    complaint,
    required(value, what, todo = "correct that field, /openapi.json has the schema") {
      if (compiled.Check(value)) return value;
      throw new MillraceError("invalid", complaint(value, what), { todo });
    },
  };
}

function sentenceOf(errors: readonly SchemaError[], what: string): string {
  // An unknown field is reported twice, the second time with its name; of a union every branch is reported, the last one says so.
  const first = errors.find((error) => error.keyword === "additionalProperties") ?? errors.findLast((error) => error.keyword === "anyOf") ?? errors[0];
  if (first === undefined) return `${what} is not as the schema says`;
  const field = first.instancePath === "" ? what : `${what}: field ${first.instancePath.slice(1, 120).replaceAll("/", ".")}`;
  const params = first.params as { additionalProperties?: string[]; requiredProperties?: string[]; type?: string };
  switch (first.keyword) {
    case "additionalProperties":
      return `${field} has no field ${listed(params.additionalProperties)}`;
    case "required":
      return `${field} lacks ${listed(params.requiredProperties)}`;
    case "anyOf":
      return `${field} is of none of the allowed types`;
    default:
      return `${field} ${first.message}`;
  }
}

/** Names that a caller sent are cut: they are shown so that a typing mistake can be found, not stored. */
function listed(names: readonly string[] | undefined): string {
  return (names ?? [])
    .slice(0, 3)
    .map((name) => JSON.stringify(name.slice(0, 64)))
    .join(", ");
}
