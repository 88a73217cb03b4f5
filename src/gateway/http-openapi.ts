// The OpenAPI document of `/openapi.json`, from the same schemas that check the requests.

import type { FastifyDynamicSwaggerOptions } from "@fastify/swagger";
import Type from "typebox";
import { ErrorAnswer } from "#wire/api";
import type { Route } from "./http-routes.ts";

/** Options of @fastify/swagger. */
export function openApiOptions(version: string): FastifyDynamicSwaggerOptions {
  return {
    openapi: {
      openapi: "3.1.0",
      info: {
        title: "millrace",
        version,
        description: "Real-time recommendation infrastructure. Limits and examples: docs/http-api.md; errors: docs/errors.md.",
      },
      tags: ["events", "items", "users", "recommend", "learning", "tables", "feast", "store", "parameters", "vectors", "server"].map((name) => ({ name })),
    },
    refResolver: { buildLocalReference: (schema, _base, _fragment, at) => (typeof schema["$id"] === "string" ? schema["$id"] : `def-${at}`) },
  };
}

/** Schemas that several routes name. */
export const sharedSchemas = [{ $id: "Error", ...ErrorAnswer }];

const errors = { $ref: "Error#" };

/** What the document says of one route, in the form fastify wants it. */
export function openApiOf(route: Route): object {
  const params = Array.from(route.url.matchAll(/:([a-z]+)/g), (match) => match[1]!);
  const query = Object.entries(route.query ?? {});
  const texts = (of: [string, { description?: string }][], required: boolean): object =>
    Type.Object(Object.fromEntries(of.map(([name, more]) => [name, required ? Type.String(more) : Type.Optional(Type.String(more))])));
  return {
    summary: route.summary,
    tags: [route.tag],
    ...(params.length === 0
      ? {}
      : {
          params: texts(
            params.map((name) => [name, {}]),
            true,
          ),
        }),
    ...(query.length === 0
      ? {}
      : {
          querystring: texts(
            query.map(([name, description]) => [name, { description }]),
            false,
          ),
        }),
    ...(route.body === undefined ? {} : { body: route.body }),
    response: {
      200: route.answer ?? Type.String(),
      ...(route.tag === "server" ? {} : { "4xx": errors, "5xx": errors }),
    },
  };
}
