// Attribute predicates: the `filter` of a request or scene, compiled once and then asked for each candidate.
// Meaning: several fields must all hold. A scalar means equal, an array one of; for list values (tags) equal means contains. A field that the item does not
// have fails every condition but `ne`, `nin` and `exists: false`. Fields of the document come before attributes of the same name.
// Invariants: 1. compile checks everything (depth, terms, types) and throws `invalid` naming the place; evaluation never throws
// 2. evaluation reads documents, never prototypes: only own properties count.

import { MillraceError } from "#base/errors";
import type { Catalog } from "#features/catalog";
import { apiLimits, type ItemBody } from "#wire/api";

/** An item as a predicate sees it. */
interface Subject {
  readonly id: string;
  readonly createdAt: number;
  readonly body: ItemBody;
}

type Test = (subject: Subject) => boolean;

export interface Predicate {
  /** Does this item pass? */
  test(catalog: Catalog, item: number): boolean;
  /** The ids that alone can pass, when the predicate names them at its top; then they are candidates by themselves. */
  readonly ids: readonly string[] | undefined;
}

type Scalar = string | number | boolean;
type Value = Scalar | readonly string[] | undefined;

const bodyFields = new Set(["title", "category", "tags", "state"]);

function valueOf(subject: Subject, field: string): Value {
  if (field === "id") return subject.id;
  if (field === "createdAt") return subject.createdAt;
  if (field === "available") return subject.body.available !== false;
  if (bodyFields.has(field)) return (subject.body as Record<string, Value>)[field];
  const attributes = subject.body.attributes;
  return attributes !== undefined && Object.hasOwn(attributes, field) ? attributes[field] : undefined;
}

function equals(value: Value, wanted: Scalar): boolean {
  return Array.isArray(value) ? typeof wanted === "string" && value.includes(wanted) : value === wanted;
}

/** Compiles a predicate. Throws `invalid` for anything that is not one. */
export function compilePredicate(predicate: unknown): Predicate {
  const test = compileObject(predicate, "filter", 1, { terms: apiLimits.predicateTermsMax });
  return {
    test: (catalog, item) => test({ id: catalog.items.id(item), createdAt: catalog.createdAt.get(item), body: catalog.itemBody(item) }),
    ids: namedIds((predicate as Record<string, unknown>)["id"]),
  };
}

/** The ids of a condition on `id` that means "one of these". */
function namedIds(condition: unknown): readonly string[] | undefined {
  if (typeof condition === "string") return [condition];
  const list = Array.isArray(condition)
    ? condition
    : typeof condition === "object" && condition !== null
      ? (condition as { in?: unknown; eq?: unknown }).in
      : undefined;
  if (Array.isArray(list)) return list.filter((id): id is string => typeof id === "string");
  const single = typeof condition === "object" && condition !== null ? (condition as { eq?: unknown }).eq : undefined;
  return typeof single === "string" ? [single] : undefined;
}

function wrong(path: string, what: string, todo: string): MillraceError {
  return new MillraceError("invalid", `${path} ${what}`, { todo });
}

function compileObject(predicate: unknown, path: string, depth: number, budget: { terms: number }): Test {
  if (typeof predicate !== "object" || predicate === null || Array.isArray(predicate)) {
    throw wrong(path, "is not an object", 'send an object such as {"category": "music"}');
  }
  if (depth > apiLimits.predicateDepthMax) throw wrong(path, `is nested deeper than ${apiLimits.predicateDepthMax}`, "flatten the predicate");
  const tests: Test[] = [];
  for (const [field, condition] of Object.entries(predicate)) {
    budget.terms -= 1;
    if (budget.terms < 0) throw wrong(path, `has more than ${apiLimits.predicateTermsMax} terms`, "send fewer, or use an array of values");
    const here = `${path}.${field}`;
    if (field === "and" || field === "or") {
      if (!Array.isArray(condition) || condition.length === 0) throw wrong(here, "is not a list of predicates", `send {"${field}": [{...}, {...}]}`);
      const parts = condition.map((part, index) => compileObject(part, `${here}[${index}]`, depth + 1, budget));
      tests.push(field === "and" ? (subject) => parts.every((test) => test(subject)) : (subject) => parts.some((test) => test(subject)));
    } else if (field === "not") {
      const inner = compileObject(condition, here, depth + 1, budget);
      tests.push((subject) => !inner(subject));
    } else {
      tests.push(compileCondition(field, condition, here));
    }
  }
  if (tests.length === 1) return tests[0]!;
  return (subject) => {
    for (const test of tests) if (!test(subject)) return false;
    return true;
  };
}

function isScalar(value: unknown): value is Scalar {
  return typeof value === "string" || typeof value === "boolean" || (typeof value === "number" && Number.isFinite(value));
}

function oneOf(field: string, values: unknown, path: string): Test {
  if (!Array.isArray(values) || values.length > 1_000 || !values.every(isScalar)) {
    throw wrong(path, "is not a list of at most 1,000 strings, numbers or booleans", 'send for example {"category": ["music", "chat"]}');
  }
  const wanted = new Set<unknown>(values);
  return (subject) => {
    const value = valueOf(subject, field);
    return Array.isArray(value) ? value.some((entry) => wanted.has(entry)) : wanted.has(value);
  };
}

function compileCondition(field: string, condition: unknown, path: string): Test {
  if (isScalar(condition)) return (subject) => equals(valueOf(subject, field), condition);
  if (Array.isArray(condition)) return oneOf(field, condition, path);
  if (typeof condition !== "object" || condition === null) {
    throw wrong(path, "is no condition", "send a value, a list of values, or an object of eq, ne, in, nin, gt, gte, lt, lte, exists");
  }
  const tests: Test[] = [];
  for (const [operator, wanted] of Object.entries(condition)) {
    const here = `${path}.${operator}`;
    switch (operator) {
      case "eq":
      case "ne": {
        if (!isScalar(wanted)) throw wrong(here, "is not a string, number or boolean", "send one value");
        const expected = operator === "eq";
        tests.push((subject) => equals(valueOf(subject, field), wanted) === expected);
        break;
      }
      case "in":
        tests.push(oneOf(field, wanted, here));
        break;
      case "nin": {
        const among = oneOf(field, wanted, here);
        tests.push((subject) => !among(subject));
        break;
      }
      case "gt":
      case "gte":
      case "lt":
      case "lte": {
        if (typeof wanted !== "number" || !Number.isFinite(wanted)) throw wrong(here, "is not a number", "send a number");
        tests.push(compare(field, operator, wanted));
        break;
      }
      case "exists": {
        if (typeof wanted !== "boolean") throw wrong(here, "is not true or false", "send true or false");
        tests.push((subject) => (valueOf(subject, field) !== undefined) === wanted);
        break;
      }
      default:
        throw wrong(here, "is no operator", "use eq, ne, in, nin, gt, gte, lt, lte or exists");
    }
  }
  if (tests.length === 0) throw wrong(path, "is empty", "name an operator: eq, ne, in, nin, gt, gte, lt, lte or exists");
  return (subject) => tests.every((test) => test(subject));
}

function compare(field: string, operator: "gt" | "gte" | "lt" | "lte", wanted: number): Test {
  return (subject) => {
    const value = valueOf(subject, field);
    if (typeof value !== "number") return false;
    switch (operator) {
      case "gt":
        return value > wanted;
      case "gte":
        return value >= wanted;
      case "lt":
        return value < wanted;
      case "lte":
        return value <= wanted;
    }
  };
}
