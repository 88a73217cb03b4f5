// The commands on vector collections: the Vector Set commands of Redis 8 (VADD, VSIM, VREM, VCARD, VDIM, VEMB, VINFO, VSETATTR, VGETATTR, VISMEMBER, VRANDMEMBER) with its replies in RESP2
// and RESP3 and its texts, and ours for many at once: VSEARCH and VADDS, one blob each way (src/wire/vector-api.ts), VCREATE, VLIST. Use: docs/vectors.md.
// Where they differ from Redis: docs/vectors.md#redis. Vectors are kept as f32, so NOQUANT, Q8, BIN, EF and M are read and have no effect; REDUCE is refused.
// Invariants: 1. the key of a command, for ACL patterns, is the collection's name  2. a write is answered when it is durable by the server's policy, and every search asked after that sees it
//             3. a write with a part of the wrong length changes nothing  4. a plain key of that name is WRONGTYPE.
// Cost: 6 us of the serving loop a VSIM of 64 numbers and 10 answers, and a VADD, beside the message; the search itself is the vectors thread's.
// Concurrency: the serving loop. Calls of one command on one connection are under way together, whatever else comes on it waits for them.
// Limits: vectorLimits, vectorCommandLimits.

import { MillraceError, toMillraceError } from "#base/errors";
import { checkRows } from "#vectors/row-check";
import {
  type CollectionShape,
  type SearchAnswer,
  type SearchRequest,
  vectorLimits,
  type VectorMetric,
  type VectorRows,
  type VectorService,
} from "#vectors/vector-service";
import type { Answer, Args, Call, CommandFlag, CommandSpec, Reply, SessionUser } from "#wire/resp-command";
import { RespArgs } from "#wire/resp-arguments";
import { errorLineOf } from "#wire/resp-server";
import { decodeTexts, encodeAnswer, vectorCommandLimits, vectorMetrics } from "#wire/vector-api";
import { CommandError, texts } from "./data-command.ts";

export interface VectorCommandParts {
  readonly vectors: VectorService;
  /** Whether there is a string or hash of this name. */
  readonly isPlainKey: (key: Uint8Array) => boolean;
}

/** Reads all arguments of the call before the first wait; resolves with what writes its reply. */
type Begin = (call: Pick<Call, "args" | "session">) => Promise<Answer>;

const errors = {
  specification: "ERR invalid vector specification",
  option: "ERR invalid option after element",
  noElement: "ERR element not found in set",
  noKey: "ERR key does not exist",
  reduce: "ERR REDUCE is not supported: reduce the vectors before they are sent",
  notUtf8: "ERR names, elements and attributes must be UTF-8",
  links: "ERR VLINKS is not supported: there is no graph of links",
} as const;

const countDefault = 10;
const fatalDecoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

export function vectorCommands({ vectors, isPlainKey }: VectorCommandParts): CommandSpec[] {
  /** The collection that argument 1 names. */
  function nameOf(args: Args): string {
    const name = textAt(args, 1, vectorLimits.nameBytesMax, "key");
    if (vectors.shapeOf(name) === undefined && isPlainKey(args.bytes(1))) throw new CommandError(texts.wrongType);
    return name;
  }

  /** Makes a collection of cosines that is not there, for rows that it will take: what is refused leaves nothing behind. Its shape. */
  async function shapeFor(name: string, dims: number, rows: VectorRows): Promise<CollectionShape> {
    const shape: CollectionShape = { dims, metric: "cosine" };
    checkRows(name, rows, shape);
    try {
      await vectors.create(name, shape);
    } catch (thrown) {
      const known = vectors.shapeOf(name);
      if (!(thrown instanceof MillraceError) || thrown.code !== "conflict" || known === undefined) throw thrown;
      return known;
    }
    return vectors.shapeOf(name) ?? shape;
  }

  function checkDims(got: number, { dims }: CollectionShape): void {
    if (got !== dims) throw new CommandError(`ERR Vector dimension mismatch - got ${got} but set has ${dims}`);
  }

  const vadd: Begin = async ({ args }) => {
    const name = nameOf(args);
    if (args.is(2, "REDUCE")) throw new CommandError(errors.reduce);
    const { vector, next } = vectorAt(args, 2);
    if (next >= args.count) throw new CommandError(texts.syntax);
    const element = elementAt(args, next);
    let attributes: string | undefined;
    for (let i = next + 1; i < args.count; i++) {
      if (args.is(i, "CAS") || args.is(i, "NOQUANT") || args.is(i, "Q8") || args.is(i, "BIN")) continue;
      const hasMore = i + 1 < args.count;
      if ((args.is(i, "EF") || args.is(i, "M")) && hasMore) positiveAt(args, ++i, args.is(i - 1, "M") ? "M" : "EF");
      else if (args.is(i, "SETATTR") && hasMore) attributes = attributesAt(args, ++i);
      else throw new CommandError(errors.option);
    }
    const known = vectors.shapeOf(name);
    const rows: VectorRows = { elements: [element], vectors: vector, ...(attributes === undefined ? {} : { attributes: [attributes] }) };
    if (known !== undefined) checkDims(vector.length, known);
    else checkDims(vector.length, await shapeFor(name, vector.length, rows));
    const fresh = await vectors.upsert(name, rows);
    if (fresh === undefined) throw new CommandError(errors.noKey);
    return (reply) => reply.bool(fresh[0] === 1);
  };

  const vadds: Begin = async ({ args }) => {
    const name = nameOf(args);
    const numbers = floatsAt(args, 2);
    const elements = decodeTexts(args.bytes(3), "elements", vectorLimits.rowsMax);
    let attributes: string[] | undefined;
    for (let i = 4; i < args.count; i += 2) {
      if (!args.is(i, "ATTRIBS") || i + 1 >= args.count || attributes !== undefined) throw new CommandError(texts.syntax);
      attributes = decodeTexts(args.bytes(i + 1), "attributes", vectorLimits.rowsMax);
      if (attributes.length !== elements.length) throw new CommandError(`ERR ${attributes.length} attributes for ${elements.length} elements`);
      for (const one of attributes) if (one !== "") checkAttributes(one);
    }
    for (const element of elements) checkElement(element, utf8Bytes(element));
    if (elements.length === 0) return (reply) => reply.integer(0);
    const dims = numbers.length / elements.length;
    if (!Number.isInteger(dims) || dims === 0) throw new CommandError(`ERR ${numbers.length} numbers for ${elements.length} elements`);
    const known = vectors.shapeOf(name);
    const rows: VectorRows = { elements, vectors: numbers, ...(attributes === undefined ? {} : { attributes }) };
    if (known !== undefined) checkDims(dims, known);
    else checkDims(dims, await shapeFor(name, dims, rows));
    const fresh = await vectors.upsert(name, rows);
    if (fresh === undefined) throw new CommandError(errors.noKey);
    const added = fresh.reduce((sum, one) => sum + one, 0);
    return (reply) => reply.integer(added);
  };

  const vsim: Begin = async ({ args, session }) => {
    const name = nameOf(args);
    const { queries, next } = queryAt(args);
    const { request, withScores, epsilon } = searchOptions(args, next);
    const shape = vectors.shapeOf(name);
    if (shape === undefined) return (reply) => reply.array(0);
    if (queries instanceof Float32Array) checkDims(queries.length, shape);
    if (epsilon !== undefined && shape.metric === "ip") throw new CommandError("ERR EPSILON needs a collection of metric cosine or l2");
    let found: SearchAnswer | undefined;
    try {
      found = await vectors.search({ ...request, collection: name, queries });
    } catch (thrown) {
      if (!(queries instanceof Float32Array) && request.version === undefined && thrown instanceof MillraceError && thrown.code === "not-found")
        throw new CommandError(errors.noElement);
      throw thrown;
    }
    if (found === undefined) return (reply) => reply.array(0);
    const { elements, attributes } = found;
    const scores = Array.from(found.scores.subarray(0, elements.length), shape.metric === "cosine" ? (score) => (1 + score) / 2 : (score) => score);
    const isNear = (score: number): boolean => epsilon === undefined || (shape.metric === "cosine" ? score >= 1 - epsilon : score <= epsilon);
    // Best first: the first that is too far ends the answer.
    const far = scores.findIndex((score) => !isNear(score));
    const count = far < 0 ? elements.length : far;
    const inMap = session.protocol === 3 && (withScores || attributes !== undefined);
    const perElement = 1 + Number(withScores) + Number(attributes !== undefined);
    return (reply) => {
      if (inMap) reply.map(count);
      else reply.array(count * perElement);
      for (let i = 0; i < count; i++) {
        reply.bulk(elements[i]!);
        if (inMap && perElement === 3) reply.array(2);
        if (withScores) reply.double(scores[i]!);
        if (attributes !== undefined) bulkOrNil(reply, attributes[i]);
      }
    };
  };

  const vsearch: Begin = async ({ args }) => {
    const name = nameOf(args);
    // Three bytes are no numbers.
    const element = args.is(2, "ELE") && args.count > 3 ? elementAt(args, 3) : undefined;
    const numbers = element === undefined ? floatsAt(args, 2) : new Float32Array(0);
    const { request, withScores, epsilon } = searchOptions(args, element === undefined ? 3 : 4);
    if (withScores || epsilon !== undefined) throw new CommandError(texts.syntax);
    const shape = vectors.shapeOf(name);
    if (shape === undefined) throw new CommandError(errors.noKey);
    const count = element === undefined ? numbers.length / shape.dims : 1;
    if (!Number.isInteger(count)) throw new CommandError(`ERR ${numbers.length} numbers are no whole queries of ${shape.dims}`);
    if (count > vectorLimits.queriesMax || count * request.count > vectorLimits.answersMax) {
      throw new CommandError(
        `ERR ${count} queries for ${request.count} answers each, at most ${vectorLimits.queriesMax} and ${vectorLimits.answersMax} in all`,
      );
    }
    const nothing = { version: "", from: Uint32Array.of(0), elements: [], scores: new Float32Array(0) };
    const found = count === 0 ? nothing : await vectors.search({ ...request, collection: name, queries: element === undefined ? numbers : { element } });
    if (found === undefined) throw new CommandError(errors.noKey);
    const bytes = encodeAnswer(shape.metric, found);
    return (reply) => reply.bulkGiven(bytes);
  };

  const vrem: Begin = async ({ args }) => {
    const removed = await vectors.remove(nameOf(args), [elementAt(args, 2)]);
    return (reply) => reply.bool(removed?.[0] === 1);
  };

  const vcard: Begin = async ({ args }) => {
    const count = (await vectors.count(nameOf(args))) ?? 0;
    return (reply) => reply.integer(count);
  };

  const vdim: Begin = async ({ args }) => {
    const shape = vectors.shapeOf(nameOf(args));
    if (shape === undefined) throw new CommandError(errors.noKey);
    return (reply) => reply.integer(shape.dims);
  };

  const vemb: Begin = async ({ args }) => {
    const name = nameOf(args);
    const raw = args.count === 4;
    if (args.count > 4 || (raw && !args.is(3, "RAW"))) throw new CommandError(texts.syntax);
    const found = await vectors.get(name, [elementAt(args, 2)]);
    if (found?.found[0] !== 1) return (reply) => reply.nilArray();
    const norm = found.norms[0]!;
    const { vectors: stored } = found;
    return (reply) => {
      if (raw) {
        reply.array(3);
        reply.simple("fp32");
        reply.bulk(new Uint8Array(stored.buffer, stored.byteOffset, stored.byteLength));
        reply.double(norm);
        return;
      }
      // As it was added, its length given back.
      reply.array(stored.length);
      for (const number of stored) reply.double(number * norm);
    };
  };

  const vinfo: Begin = async ({ args }) => {
    const name = nameOf(args);
    const status = await vectors.statusOf(name);
    if (status === undefined) return (reply) => reply.nilArray();
    const { settings, recall, versions } = status;
    const fields: readonly (readonly [string, string | number])[] = [
      ["quant-type", "f32"],
      ["vector-dim", status.dims],
      ["size", status.elements],
      ["max-level", 0],
      ["vset-uid", 0],
      ["hnsw-max-node-uid", 0],
      ["metric", status.metric],
      ["version", versions.find(({ state }) => state === "serving")?.version ?? ""],
      ["base-rows", status.baseRows],
      ["tail-rows", status.tailRows],
      ["deleted-rows", status.deletedRows],
      ["bytes", status.bytes],
      ["lists", settings.lists],
      ["probes", settings.probes],
      ["recall", recall === undefined ? "" : String(recall.value)],
      ["folds", status.folds],
    ];
    return (reply) => {
      reply.map(fields.length);
      for (const [field, value] of fields) {
        reply.bulk(field);
        if (typeof value === "number") reply.integer(value);
        else reply.bulk(value);
      }
    };
  };

  const vsetattr: Begin = async ({ args }) => {
    const done = await vectors.setAttributes(nameOf(args), [elementAt(args, 2)], [attributesAt(args, 3)]);
    return (reply) => reply.bool(done?.[0] === 1);
  };

  const vgetattr: Begin = async ({ args }) => {
    const found = await vectors.get(nameOf(args), [elementAt(args, 2)]);
    return (reply) => bulkOrNil(reply, found?.attributes[0]);
  };

  const vismember: Begin = async ({ args }) => {
    const found = await vectors.get(nameOf(args), [elementAt(args, 2)]);
    return (reply) => reply.bool(found?.found[0] === 1);
  };

  const vrandmember: Begin = async ({ args }) => {
    const name = nameOf(args);
    if (args.count > 3) throw new CommandError(texts.syntax);
    const isOne = args.count === 2;
    const asked = isOne ? 1 : args.integer(2);
    if (typeof asked !== "number") throw new CommandError(texts.notInteger);
    if (Math.abs(asked) > vectorLimits.countMax) throw new CommandError(`ERR at most ${vectorLimits.countMax} elements at once`);
    const found = (await vectors.random(name, asked)) ?? [];
    return (reply) => {
      if (isOne) return bulkOrNil(reply, found[0]);
      reply.array(found.length);
      for (const element of found) reply.bulk(element);
    };
  };

  const vcreate: Begin = async ({ args }) => {
    const name = nameOf(args);
    const dims = args.is(2, "DIM") ? args.integer(3) : undefined;
    if (typeof dims !== "number" || dims < 1 || dims > vectorLimits.dimsMax)
      throw new CommandError(`ERR VCREATE key DIM n, n from 1 to ${vectorLimits.dimsMax}`);
    let metric: VectorMetric = "cosine";
    if (args.count > 4) {
      const named =
        args.count === 6 && args.is(4, "METRIC") ? (Object.keys(vectorMetrics) as VectorMetric[]).find((one) => args.is(5, one.toUpperCase())) : undefined;
      if (named === undefined) throw new CommandError("ERR VCREATE key DIM n [METRIC cosine|ip|l2]");
      metric = named;
    }
    const made = await vectors.create(name, { dims, metric });
    return (reply) => reply.bool(made);
  };

  const command = (
    name: string,
    arity: number,
    flags: readonly CommandFlag[],
    summary: string,
    begin: Begin,
    more: Partial<CommandSpec> = {},
  ): CommandSpec => ({
    name,
    arity,
    flags: [...flags, "no_multi"],
    categories: ["keyspace"],
    keys: { first: 1, last: 1, step: 1 },
    group: "vector_set",
    since: "8.0.0",
    summary,
    // Of the calls of one command the vectors thread keeps the order.
    begin: (call) => begin(call).catch(refusal),
    async run(call) {
      (await begin(call).catch(refusal))(call.reply);
    },
    ...more,
  });
  const read: readonly CommandFlag[] = ["readonly"];
  const fastRead: readonly CommandFlag[] = ["readonly", "fast"];
  const write: readonly CommandFlag[] = ["write", "denyoom"];
  const written = { keyAccess: "W" } as const;
  const vcardSpec = command("vcard", 2, fastRead, "Return the number of elements in a vector set", vcard);
  const vaddSpec = command("vadd", -5, write, "Add one or more elements to a vector set, or update its vector if it already exists", vadd, written);
  /** Whether the user may ask something of it, or write to it. */
  const isReached = (user: SessionUser, name: string): boolean =>
    user.unrestricted ||
    user.refusal(vcardSpec, RespArgs.of(["VCARD", name])) === undefined ||
    user.refusal(vaddSpec, RespArgs.of(["VADD", name, "", "", ""])) === undefined;
  return [
    vaddSpec,
    command("vsim", -4, read, "Return elements by vector similarity", vsim),
    command("vrem", 3, ["write"], "Remove an element from a vector set", vrem, written),
    vcardSpec,
    command("vdim", 2, fastRead, "Return the dimension of vectors in the vector set", vdim),
    command("vemb", -3, fastRead, "Return the vector associated with an element", vemb),
    command("vinfo", 2, fastRead, "Return information about a vector set", vinfo),
    command("vsetattr", 4, ["write", "fast"], "Associate or remove the JSON attributes of elements", vsetattr, written),
    command("vgetattr", 3, fastRead, "Retrieve the JSON attributes of elements", vgetattr),
    command("vismember", 3, fastRead, "Check if an element exists in a vector set", vismember),
    command("vrandmember", -2, read, "Return one or multiple random members from a vector set", vrandmember),
    command("vlinks", -3, fastRead, "Refused: there is no graph of links", async () => {
      throw new CommandError(errors.links);
    }),
    command("vsearch", -3, read, "Answers of many queries as one blob", vsearch),
    command("vadds", -4, write, "Adds or updates many elements; says how many were new", vadds, written),
    command("vcreate", -4, write, "Makes a collection: VCREATE key DIM n [METRIC cosine|ip|l2]; whether it was not there", vcreate, written),
    {
      name: "vlist",
      arity: 1,
      flags: ["readonly", "no_multi"],
      categories: ["keyspace"],
      keys: undefined,
      group: "vector_set",
      since: "8.0.0",
      summary: "Names of the collections that the user's key patterns reach",
      run({ reply, session: { user } }) {
        const names = vectors
          .status()
          .collections.map(({ name }) => name)
          .filter((name) => isReached(user, name))
          .sort();
        reply.array(names.length);
        for (const name of names) reply.bulk(name);
      },
    },
  ];
}

function refusal(thrown: unknown): Answer {
  const line = thrown instanceof CommandError ? thrown.message : errorLineOf(toMillraceError(thrown));
  return (reply) => reply.error(line);
}

function bulkOrNil(reply: Reply, text: string | undefined): void {
  if (text === undefined) reply.nil();
  else reply.bulk(text);
}

/** An argument as text; one that is no UTF-8 would meet others that are none either. */
function textAt(args: Args, i: number, bytesMax: number, what: string): string {
  const bytes = args.bytes(i);
  if (bytes.length > bytesMax) throw new CommandError(`ERR ${what} of ${bytes.length} bytes, at most ${bytesMax}`);
  try {
    return fatalDecoder.decode(bytes);
  } catch {
    throw new CommandError(errors.notUtf8);
  }
}

function elementAt(args: Args, i: number): string {
  const element = textAt(args, i, vectorLimits.elementBytesMax, "element");
  checkElement(element, element.length);
  return element;
}

function utf8Bytes(text: string): number {
  return text.length * 3 <= vectorLimits.elementBytesMax ? text.length : new TextEncoder().encode(text).length;
}

function checkElement(element: string, bytes: number): void {
  if (element === "") throw new CommandError("ERR an element is never empty");
  if (bytes > vectorLimits.elementBytesMax) throw new CommandError(`ERR element of ${bytes} bytes, at most ${vectorLimits.elementBytesMax}`);
}

function attributesAt(args: Args, i: number): string {
  const text = textAt(args, i, vectorLimits.attributesBytesMax, "attributes");
  if (text !== "") checkAttributes(text);
  return text;
}

/** Throws for what no filter could read. */
function checkAttributes(text: string): void {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    value = undefined;
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw new CommandError("ERR attributes must be a JSON object, or empty");
}

function positiveAt(args: Args, i: number, what: string, most = Number.MAX_SAFE_INTEGER): number {
  const value = args.integer(i);
  if (typeof value !== "number" || value < 1) throw new CommandError(`ERR invalid ${what}`);
  if (value > most) throw new CommandError(`ERR ${what} of ${value}, at most ${most}`);
  return value;
}

/** Little-endian f32, copied. */
function floatsAt(args: Args, i: number): Float32Array<ArrayBuffer> {
  const bytes = args.bytes(i);
  if (bytes.length % 4 !== 0) throw new CommandError(errors.specification);
  if (bytes.length / 4 > vectorCommandLimits.numbersMax) throw new CommandError(`ERR ${bytes.length / 4} numbers, at most ${vectorCommandLimits.numbersMax}`);
  const numbers = new Float32Array(bytes.length / 4);
  new Uint8Array(numbers.buffer).set(bytes);
  return checkedFinite(numbers);
}

function checkedFinite(numbers: Float32Array<ArrayBuffer>): Float32Array<ArrayBuffer> {
  let sum = 0;
  // 0 x Infinity and 0 x NaN are NaN.
  for (let i = 0; i < numbers.length; i++) sum += numbers[i]! * 0;
  if (sum !== 0) throw new CommandError("ERR a vector with a number that is not finite");
  return numbers;
}

function checkVectorLength(numbers: number): void {
  if (numbers > vectorLimits.dimsMax) throw new CommandError(`ERR a vector of ${numbers} numbers, at most ${vectorLimits.dimsMax}`);
}

/** FP32 blob, or VALUES n and n numbers, from argument `i`; `next`: the argument behind. */
function vectorAt(args: Args, i: number): { vector: Float32Array<ArrayBuffer>; next: number } {
  if (i + 1 >= args.count) throw new CommandError(errors.specification);
  if (args.is(i, "FP32")) {
    const vector = floatsAt(args, i + 1);
    if (vector.length === 0) throw new CommandError(errors.specification);
    checkVectorLength(vector.length);
    return { vector, next: i + 2 };
  }
  const count = args.is(i, "VALUES") ? args.integer(i + 1) : undefined;
  if (typeof count !== "number" || count < 1) throw new CommandError(errors.specification);
  checkVectorLength(count);
  if (i + 2 + count > args.count) throw new CommandError(errors.specification);
  const vector = new Float32Array(count);
  for (let j = 0; j < count; j++) {
    const value = args.float(i + 2 + j);
    if (value === undefined) throw new CommandError(errors.specification);
    vector[j] = value;
  }
  return { vector: checkedFinite(vector), next: i + 2 + count };
}

/** What VSIM compares with. */
function queryAt(args: Args): { queries: Float32Array<ArrayBuffer> | { readonly element: string }; next: number } {
  if (args.is(2, "ELE")) return { queries: { element: elementAt(args, 3) }, next: 4 };
  const { vector, next } = vectorAt(args, 2);
  return { queries: vector, next };
}

interface SearchOptions {
  readonly request: Omit<SearchRequest, "collection" | "queries">;
  readonly withScores: boolean;
  readonly epsilon: number | undefined;
}

/** Options of VSIM and VSEARCH; VERSION, PROBES and TIMEOUT are ours. */
function searchOptions(args: Args, from: number): SearchOptions {
  let withScores = false;
  let epsilon: number | undefined;
  const request: { -readonly [name in keyof SearchOptions["request"]]: SearchOptions["request"][name] } = { count: countDefault };
  for (let i = from; i < args.count; i++) {
    if (args.is(i, "WITHSCORES")) withScores = true;
    else if (args.is(i, "WITHATTRIBS")) request.withAttributes = true;
    else if (args.is(i, "TRUTH")) request.exact = true;
    else if (args.is(i, "NOTHREAD")) continue;
    else if (i + 1 >= args.count) throw new CommandError(texts.syntax);
    else if (args.is(i, "COUNT")) request.count = positiveAt(args, ++i, "COUNT", vectorLimits.countMax);
    else if (args.is(i, "EPSILON")) {
      epsilon = args.float(++i);
      if (epsilon === undefined || !(epsilon >= 0)) throw new CommandError("ERR invalid EPSILON");
    } else if (args.is(i, "EF")) positiveAt(args, ++i, "EF");
    else if (args.is(i, "FILTER")) {
      const filter = textAt(args, ++i, vectorLimits.attributesBytesMax, "filter");
      if (filter !== "") request.filter = filter;
    } else if (args.is(i, "FILTER-EF")) {
      const most = args.integer(++i);
      if (typeof most !== "number" || most < 0) throw new CommandError("ERR invalid FILTER-EF");
    } else if (args.is(i, "VERSION")) request.version = textAt(args, ++i, vectorLimits.nameBytesMax, "version");
    else if (args.is(i, "PROBES")) request.probes = positiveAt(args, ++i, "PROBES");
    else if (args.is(i, "TIMEOUT")) request.timeoutMs = positiveAt(args, ++i, "TIMEOUT", 60_000);
    else throw new CommandError(texts.syntax);
  }
  return { request, withScores, epsilon };
}
