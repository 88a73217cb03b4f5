// Vector collections over HTTP, as JSON: list and status, make and drop, write, read and delete elements, search. Use: docs/vectors.md. Large batches go over the Redis port (VADDS, VSEARCH).
// Invariants: 1. nothing here searches: the vectors thread does  2. scores are those of the metric: the cosine itself, not (cosine + 1) / 2 as VSIM says  3. attributes are JSON objects here,
// and texts below.
// Limits: vectorHttpLimits, vectorLimits, and the server's limit of a body.

import { MillraceError } from "#base/errors";
import type { Clock } from "#platform/clock";
import Type, { type Static } from "typebox";
import type { ResultCacheCounts } from "#vectors/result-cache";
import type { ServedCollections } from "#vectors/served-collections";
import { type SearchAnswer, vectorLimits } from "#vectors/vector-service";
import type { Route } from "./http-routes.ts";
import { schemaCheck } from "./schema-check.ts";

export const vectorHttpLimits = { rowsMax: 1_000, queriesMax: 64, answersMax: 10_000 } as const;

const countDefault = 10;

const closed = { additionalProperties: false } as const;
const Element = Type.String({ minLength: 1, maxLength: vectorLimits.elementBytesMax });
const Elements = Type.Array(Element, { minItems: 1, maxItems: vectorHttpLimits.rowsMax });
const Vector = Type.Array(Type.Number(), { minItems: 1, maxItems: vectorLimits.dimsMax });
const ShapeBody = Type.Object(
  {
    dims: Type.Integer({ minimum: 1, maximum: vectorLimits.dimsMax }),
    metric: Type.Optional(Type.Union([Type.Literal("cosine"), Type.Literal("ip"), Type.Literal("l2")], { description: "default cosine" })),
  },
  closed,
);
const Attributes = Type.Object({}, { additionalProperties: true, description: "what filters read: numbers, texts, booleans, lists" });
const WriteBody = Type.Object(
  {
    rows: Type.Array(
      Type.Object(
        {
          element: Element,
          vector: Type.Optional(Vector),
          attributes: Type.Optional(Type.Union([Attributes, Type.Null()], { description: "left out: they stay as they are; null takes them away" })),
        },
        closed,
      ),
      { minItems: 1, maxItems: vectorHttpLimits.rowsMax, description: "without `vector`: attributes of an element that is there" },
    ),
  },
  closed,
);
const ElementsBody = Type.Object({ elements: Elements }, closed);
const SearchBody = Type.Object(
  {
    vector: Type.Optional(Vector),
    vectors: Type.Optional(Type.Array(Vector, { minItems: 1, maxItems: vectorHttpLimits.queriesMax })),
    element: Type.Optional(Type.String({ minLength: 1, maxLength: vectorLimits.elementBytesMax, description: "whose vector is the query" })),
    count: Type.Optional(Type.Integer({ minimum: 1, maximum: vectorHttpLimits.answersMax, description: `default ${countDefault}` })),
    filter: Type.Optional(
      Type.String({ minLength: 1, maxLength: vectorLimits.attributesBytesMax, description: 'for example .year >= 1980 and .genre == "action"' }),
    ),
    exact: Type.Optional(Type.Boolean({ description: "compare with every row" })),
    withAttributes: Type.Optional(Type.Boolean()),
    version: Type.Optional(Type.String({ minLength: 1, maxLength: 128, description: "a loaded one; default: the one that serves" })),
    probes: Type.Optional(Type.Integer({ minimum: 1, maximum: 1_000_000, description: "look into at most so many lists, for experiments" })),
    timeoutMs: Type.Optional(Type.Integer({ minimum: 1, maximum: 10_000 })),
  },
  closed,
);
const FoundElement = Type.Object({ element: Type.String(), score: Type.Number(), attributes: Type.Optional(Attributes) });
const SearchedAnswer = Type.Object({
  version: Type.String({ description: "that answered; empty before the first" }),
  metric: Type.String(),
  answers: Type.Optional(Type.Array(FoundElement, { description: "best first" })),
  batch: Type.Optional(Type.Array(Type.Array(FoundElement), { description: "of `vectors`: a list for each" })),
  searchMs: Type.Number(),
  rowsCompared: Type.Integer(),
});
const ReadAnswer = Type.Object({
  rows: Type.Array(
    Type.Object({
      element: Type.String(),
      found: Type.Boolean(),
      vector: Type.Optional(Vector),
      norm: Type.Optional(Type.Number()),
      attributes: Type.Optional(Attributes),
    }),
  ),
});
const StatusAnswer = Type.Unknown();

type Found = Static<typeof FoundElement>;

/** What the console and operators see of all collections. */
export interface VectorsAnswer {
  readonly nowMs: number;
  readonly cache: ResultCacheCounts;
}

export function vectorRoutes(vectors: ServedCollections, clock: Clock): Route[] {
  const tag = "vectors";
  const shapeBody = schemaCheck(ShapeBody).required;
  const writeBody = schemaCheck(WriteBody).required;
  const elementsBody = schemaCheck(ElementsBody).required;
  const searchBody = schemaCheck(SearchBody).required;

  const nameOf = (params: Readonly<Record<string, string>>): string => {
    const name = params["collection"] ?? "";
    const bytes = new TextEncoder().encode(name).length;
    if (bytes >= 1 && bytes <= vectorLimits.nameBytesMax) return name;
    throw new MillraceError("invalid", `a collection's name of ${bytes} bytes`, { todo: `use 1 to ${vectorLimits.nameBytesMax}` });
  };
  const missing = (name: string): MillraceError =>
    new MillraceError("not-found", `no collection ${JSON.stringify(name.slice(0, 64))}`, {
      todo: "make it with PUT /v1/collections/NAME, GET /v1/collections has those there are",
    });
  const shapeOf = (name: string): { dims: number; metric: string } => {
    const shape = vectors.shapeOf(name);
    if (shape === undefined) throw missing(name);
    return shape;
  };

  return [
    {
      method: "GET",
      url: "/v1/vectors",
      tag,
      summary: "All collections with their versions, the memory they take, the cache of results; figures are at most a second old",
      answer: StatusAnswer,
      always: true,
      handle: () => ({ nowMs: clock.nowMs(), ...vectors.status(), cache: vectors.cache.counts }) satisfies VectorsAnswer,
    },
    {
      method: "GET",
      url: "/v1/collections",
      tag,
      summary: "Names and shapes of the collections; `elements` is at most a second old",
      answer: StatusAnswer,
      always: true,
      handle: () => ({ collections: vectors.status().collections.map(({ name, dims, metric, elements }) => ({ name, dims, metric, elements })) }),
    },
    {
      method: "GET",
      url: "/v1/collections/:collection",
      tag,
      summary: "One collection: shape, elements, versions, settings, recall",
      answer: StatusAnswer,
      always: true,
      async handle({ params }) {
        const name = nameOf(params);
        const status = await vectors.statusOf(name);
        if (status === undefined) throw missing(name);
        return status;
      },
    },
    {
      method: "PUT",
      url: "/v1/collections/:collection",
      tag,
      summary: "Make a collection; nothing happens when the same is there",
      body: ShapeBody,
      answer: Type.Object({ name: Type.String(), made: Type.Boolean() }),
      async handle({ params, body }) {
        const name = nameOf(params);
        const { dims, metric = "cosine" } = shapeBody(body, "the body");
        return { name, made: await vectors.create(name, { dims, metric }) };
      },
    },
    {
      method: "DELETE",
      url: "/v1/collections/:collection",
      tag,
      summary: "Drop a collection with its versions and everything in it",
      answer: Type.Object({ name: Type.String(), dropped: Type.Boolean() }),
      async handle({ params }) {
        const name = nameOf(params);
        if (!(await vectors.drop(name))) throw missing(name);
        return { name, dropped: true };
      },
    },
    {
      method: "POST",
      url: "/v1/collections/:collection/write",
      tag,
      summary: "Add or overwrite elements, or set attributes of those that are there; a row that cannot be refuses all",
      body: WriteBody,
      answer: Type.Object({ added: Type.Integer(), updated: Type.Integer(), missing: Type.Integer() }),
      async handle({ params, body }) {
        const name = nameOf(params);
        const { dims } = shapeOf(name);
        const { rows } = writeBody(body, "the body");
        const whole = rows.filter(({ vector }) => vector !== undefined);
        const vectorsOf = new Float32Array(whole.length * dims);
        for (const [i, { vector, element }] of whole.entries()) {
          checkElement(element);
          if (vector!.length !== dims) throw wrongLength(`row ${rows.indexOf(whole[i]!)}`, vector!.length, dims);
          vectorsOf.set(vector!, i * dims);
        }
        checkFinite(vectorsOf);
        const textOf = (attributes: object | null | undefined): string | undefined =>
          attributes === undefined ? undefined : attributes === null ? "" : attributesText(attributes);
        const texts = rows.map(({ attributes }) => textOf(attributes));
        const partial = rows.flatMap(({ vector, element }, i) => (vector === undefined ? [{ element, text: texts[i] }] : []));
        const without = partial.find(({ text }) => text === undefined);
        if (without !== undefined) throw new MillraceError("invalid", "a row with neither vector nor attributes", { todo: "give it one of them" });
        const wholeTexts = texts.filter((_, i) => rows[i]!.vector !== undefined);
        const fresh =
          whole.length === 0
            ? new Uint8Array(0)
            : await vectors.upsert(name, {
                elements: whole.map(({ element }) => element),
                vectors: vectorsOf,
                ...(wholeTexts.every((text) => text === undefined) ? {} : { attributes: wholeTexts }),
              });
        const set =
          partial.length === 0
            ? new Uint8Array(0)
            : await vectors.setAttributes(
                name,
                partial.map(({ element }) => element),
                partial.map(({ text }) => text!),
              );
        if (fresh === undefined || set === undefined) throw missing(name);
        const added = sum(fresh);
        return { added, updated: fresh.length - added + sum(set), missing: set.length - sum(set) };
      },
    },
    {
      method: "POST",
      url: "/v1/collections/:collection/read",
      tag,
      summary: "Vectors and attributes of elements; of a cosine collection the vector has length 1 and `norm` says what it had",
      body: ElementsBody,
      answer: ReadAnswer,
      async handle({ params, body }) {
        const name = nameOf(params);
        const { dims } = shapeOf(name);
        const { elements } = elementsBody(body, "the body");
        const found = await vectors.get(name, elements);
        if (found === undefined) throw missing(name);
        return {
          rows: elements.map((element, i) => ({
            element,
            found: found.found[i] === 1,
            ...(found.found[i] === 1
              ? { vector: Array.from(found.vectors.subarray(i * dims, (i + 1) * dims)), norm: found.norms[i]!, ...attributesOf(found.attributes[i]) }
              : {}),
          })),
        };
      },
    },
    {
      method: "POST",
      url: "/v1/collections/:collection/delete",
      tag,
      summary: "Delete elements; says how many there were",
      body: ElementsBody,
      answer: Type.Object({ deleted: Type.Integer() }),
      async handle({ params, body }) {
        const name = nameOf(params);
        const removed = await vectors.remove(name, elementsBody(body, "the body").elements);
        if (removed === undefined) throw missing(name);
        return { deleted: sum(removed) };
      },
    },
    {
      method: "POST",
      url: "/v1/collections/:collection/search",
      tag,
      summary: "The nearest elements of a vector, of several, or of an element",
      body: SearchBody,
      answer: SearchedAnswer,
      async handle({ params, body }) {
        const name = nameOf(params);
        const { vector, vectors: several, element, count = countDefault, ...options } = searchBody(body, "the body");
        const { dims, metric } = shapeOf(name);
        if (Number(vector !== undefined) + Number(several !== undefined) + Number(element !== undefined) !== 1) {
          throw new MillraceError("invalid", "a search needs one of vector, vectors and element", { todo: "send exactly one of them" });
        }
        const asked = several ?? (vector === undefined ? [] : [vector]);
        if (asked.length * count > vectorHttpLimits.answersMax) {
          throw new MillraceError("invalid", `${asked.length} queries for ${count} answers each`, {
            todo: `ask for ${vectorHttpLimits.answersMax} in all, or use VSEARCH of the Redis port`,
          });
        }
        const queries = new Float32Array(asked.length * dims);
        for (const [i, one] of asked.entries()) {
          if (one.length !== dims) throw wrongLength(several === undefined ? "the vector" : `vector ${i}`, one.length, dims);
          queries.set(one, i * dims);
        }
        const found = await vectors.search({ collection: name, queries: element === undefined ? checkFinite(queries) : { element }, count, ...options });
        if (found === undefined) throw missing(name);
        const { version, searchMs, rowsCompared } = found;
        const lists = Array.from({ length: found.from.length - 1 }, (_, q) => listOf(found, q));
        return { version, metric, ...(several === undefined ? { answers: lists[0] ?? [] } : { batch: lists }), searchMs, rowsCompared };
      },
    },
  ];
}

function listOf({ from, elements, scores, attributes }: SearchAnswer, q: number): Found[] {
  const list: Found[] = [];
  for (let i = from[q]!; i < from[q + 1]!; i++) list.push({ element: elements[i]!, score: scores[i]!, ...attributesOf(attributes?.[i]) });
  return list;
}

/** What an import wrote may be no object: it is left out. */
function attributesOf(text: string | undefined): { attributes?: Record<string, unknown> } {
  if (text === undefined) return {};
  try {
    const value = JSON.parse(text) as unknown;
    return typeof value === "object" && value !== null && !Array.isArray(value) ? { attributes: value as Record<string, unknown> } : {};
  } catch {
    return {};
  }
}

function attributesText(attributes: object): string {
  const text = JSON.stringify(attributes);
  const bytes = text.length * 3 <= vectorLimits.attributesBytesMax ? 0 : new TextEncoder().encode(text).length;
  if (bytes <= vectorLimits.attributesBytesMax) return text;
  throw new MillraceError("invalid", `attributes of ${bytes} bytes`, { todo: `use at most ${vectorLimits.attributesBytesMax}` });
}

function checkElement(element: string): void {
  const bytes = element.length * 3 <= vectorLimits.elementBytesMax ? 0 : new TextEncoder().encode(element).length;
  if (bytes > vectorLimits.elementBytesMax) {
    throw new MillraceError("invalid", `an element of ${bytes} bytes`, { todo: `use at most ${vectorLimits.elementBytesMax}` });
  }
}

/** A number beyond f32 is not finite here. */
function checkFinite(numbers: Float32Array<ArrayBuffer>): Float32Array<ArrayBuffer> {
  if (numbers.every(Number.isFinite)) return numbers;
  throw new MillraceError("invalid", "a vector with a number that f32 cannot hold", { todo: "send numbers below 3.4e38" });
}

function wrongLength(what: string, got: number, dims: number): MillraceError {
  return new MillraceError("invalid", `${what} has ${got} numbers, the collection has ${dims}`, { todo: "send as many as the collection has" });
}

function sum(flags: Uint8Array): number {
  return flags.reduce((all, one) => all + one, 0);
}
