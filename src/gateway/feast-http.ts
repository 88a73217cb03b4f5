// Feast's HTTP shapes over feature tables: /get-online-features, /push, /write-to-online-store, /health. A view is a table, a feature a column, the join key the table's `entity`.
// Why exactly theirs: a Feast SDK with `online_store: {type: remote}` and any client of a Feast feature server then works unchanged. What is theirs and what is ours: docs/tables.md.
// Invariants: 1. results are column-wise: one element for each of metadata.feature_names, join keys first  2. integers of 64 bits keep all digits
// 3. an entity without a row is NOT_FOUND, a null NULL_VALUE, an expired value OUTSIDE_MAX_AGE with the value, a table that is not loaded INVALID: never a zero
// 4. one answer is of one imported version of each view.
// Rows are looked at in slices, between which the loop goes on. Limits: tableLimits.readKeysMax rows.

import { MillraceError } from "#base/errors";
import { keyBytesOf, type CellValue, jsonOf } from "#features/tables/cell-values";
import { rowStatus } from "#features/tables/column-block";
import type { Cell, CellWrite, LookedRow, Table } from "#features/tables/table";
import type { Column } from "#features/tables/table-schema";
import type { Tables } from "#features/tables/tables";
import { KeyBatch } from "#kernel/key-batch";
import type { Clock } from "#platform/clock";
import type { FeastConfig } from "#wire/table-config";
import { tableLimits } from "#wire/table-limits";
import { exactJson, readExactJson } from "./http-body.ts";
import { type Call, type Route, TextAnswer } from "./http-routes.ts";

const json = "application/json";
/** Cells looked at between two turns of the loop. */
const sliceCells = 1_024;
const epoch = "1970-01-01T00:00:00Z";
/** Columns of a data frame that Feast sends beside join key and features. */
const timeColumn = "event_timestamp";
const createdColumn = "created";

/** An error in Feast's shape: thrown by what reads a request, answered by `guarded`. */
class FeastRefusal extends Error {
  readonly answer: TextAnswer;

  constructor(answer: TextAnswer) {
    super("refused");
    this.answer = answer;
  }
}

/** The routes; add them to the server's (`HttpServerOptions.routes`). */
export function feastRoutes(tables: Tables, clock: Clock, config: FeastConfig = {}): Route[] {
  const common = { tag: "feast", raw: true } as const;
  return [
    {
      ...common,
      method: "POST",
      url: "/get-online-features",
      summary: "Feast: features of entities, column by column",
      query: { status: "as the Go server has it; statuses and times are always sent" },
      handle: guarded((call) => getOnlineFeatures(tables, clock, config, call)),
    },
    {
      ...common,
      method: "POST",
      url: "/push",
      summary: "Feast: push rows of a push source",
      handle: guarded(async (call) => {
        const body = objectOf(call);
        const source = textField(body, "push_source_name");
        const to = body["to"] ?? "online";
        if (to !== "online" && to !== "offline" && to !== "online_and_offline") {
          throw plain(
            `${typeof to === "string" ? to : "that"} is not a supported push format. Please specify one of these ['online', 'offline', 'online_and_offline'].`,
          );
        }
        if (to !== "online") throw plain("this server has no offline store: push to online");
        const table = tables.get(config.pushSources?.[source] ?? source);
        if (table === undefined) throw feastError(422, "PushSourceNotFoundException", `Unable to find push source '${source}'.`);
        await writeFrame(table, clock, body);
        return new TextAnswer("", json);
      }),
    },
    {
      ...common,
      method: "POST",
      url: "/write-to-online-store",
      summary: "Feast: write rows of a feature view",
      handle: guarded(async (call) => {
        const body = objectOf(call);
        await writeFrame(viewOf(tables, textField(body, "feature_view_name")), clock, body);
        return new TextAnswer("null", json);
      }),
    },
    {
      tag: "feast",
      method: "GET",
      url: "/health",
      summary: "Feast: 200 when all tables are loaded, else 503",
      always: true,
      handle: () => new TextAnswer("", json, {}, tables.list.every(({ state }) => state.loaded) ? 200 : 503),
    },
  ];
}

// ---- reading ------------------------------------------------------------------------------------------------------------------------

interface Asked {
  readonly table: Table;
  readonly columns: Column[];
}

async function getOnlineFeatures(tables: Tables, clock: Clock, config: FeastConfig, call: Call): Promise<TextAnswer> {
  const body = objectOf(call);
  const { entities } = body;
  if (!isObject(entities))
    throw detail([
      ["body", "entities"],
      entities === undefined ? "missing" : "dict_type",
      entities === undefined ? "Field required" : "Input should be a valid dictionary",
    ]);
  const refs = featureRefs(body, config);
  const full = body["full_feature_names"] === true;
  // By view, in the order in which views are first named.
  const asked = new Map<string, Asked>();
  for (const ref of refs) {
    const colon = ref.indexOf(":");
    if (colon < 0) throw plain(`Invalid feature reference: ${ref}; use view:feature`);
    const view = ref.slice(0, colon);
    const table = viewOf(tables, view);
    const feature = ref.slice(colon + 1);
    const column = table.schema.column(feature);
    if (column === undefined) throw feastError(404, "FeatureNotFoundException", `Feature ${feature} does not exist in feature view ${view}`);
    const one = asked.get(view);
    if (one === undefined) asked.set(view, { table, columns: [column] });
    else if (!one.columns.includes(column)) one.columns.push(column);
  }
  const names = Object.keys(entities);
  let rows = -1;
  for (const name of names) {
    const values = entities[name];
    if (!Array.isArray(values)) throw detail([["body", "entities", name], "list_type", "Input should be a valid list"]);
    if (rows >= 0 && values.length !== rows) throw plain("All entity rows must have the same columns.");
    rows = values.length;
  }
  if (rows > tableLimits.readKeysMax) throw plain(`${rows} entity rows in one request, ${tableLimits.readKeysMax} are the most`);
  const featureNames = [...names];
  for (const [view, { columns }] of asked) {
    for (const { name } of columns) {
      const shown = full ? `${view}__${name}` : name;
      if (featureNames.includes(shown)) {
        throw feastError(
          500,
          "FeatureNameCollisionError",
          `Duplicate features named ${shown} found.\nTo resolve this collision, either use the full feature name by setting 'full_feature_names=True', or ensure that the features in question have different names.`,
        );
      }
      featureNames.push(shown);
    }
  }
  const count = Math.max(0, rows);
  const results: string[] = names.map((name) => {
    const values = entities[name] as readonly unknown[];
    return resultOf(
      values.map((value) => exactJson(value)),
      values.map(() => "PRESENT"),
      values.map(() => epoch),
    );
  });
  const versions: { name: string; version: number }[] = [];
  for (const [view, { table, columns }] of asked) {
    const { entity } = table.schema;
    const keys = entities[entity];
    if (!Array.isArray(keys)) throw plain(`Missing join key values for keys: ['${entity}']. No values provided for keys: ['${entity}'].`);
    versions.push({ name: view, version: table.schema.layout.revision });
    const looked = await lookAt(table, clock, keys, columns);
    columns.forEach((column, i) => {
      const values: string[] = [];
      const statuses: string[] = [];
      const times: string[] = [];
      for (let row = 0; row < count; row += 1) {
        const { status } = looked[row]!;
        const cell = looked[row]!.cells[i]!;
        const [value, name] = valueAndStatus(column, status, cell);
        values.push(value);
        statuses.push(name);
        times.push(cell.state === "absent" ? epoch : rfc3339(cell.timeMs));
      }
      results.push(resultOf(values, statuses, times));
    });
  }
  const metadata = exactJson({
    feature_names: featureNames,
    ...(body["include_feature_view_version_metadata"] === true ? { feature_view_metadata: versions } : {}),
  });
  return new TextAnswer(`{"results":[${results.join(",")}],"metadata":${metadata}}`, json);
}

function resultOf(values: readonly string[], statuses: readonly string[], times: readonly string[]): string {
  return `{"values":[${values.join(",")}],"statuses":${JSON.stringify(statuses)},"event_timestamps":${JSON.stringify(times)}}`;
}

/** Rows of keys, in slices and of one version; a null key has none. */
async function lookAt(table: Table, clock: Clock, keys: readonly unknown[], columns: readonly Column[]): Promise<LookedRow[]> {
  const rows: LookedRow[] = [];
  const slice = Math.max(1, Math.floor(sliceCells / columns.length));
  const none: LookedRow = {
    status: rowStatus.absent,
    cells: columns.map(() => ({ state: "absent", value: undefined, timeMs: 0, expiryMs: 0, from: undefined })),
  };
  const lease = table.pin();
  try {
    for (let from = 0; from < keys.length; from += slice) {
      if (from > 0) await clock.yield();
      const part = keys.slice(from, from + slice);
      const batch = new KeyBatch();
      for (const key of part) if (key !== null) table.addKey(batch, joinKey(table, key));
      const looked = await table.look(batch, columns, lease);
      let next = 0;
      for (const key of part) rows.push(key === null ? none : looked.rows[next++]!);
    }
  } finally {
    lease?.release();
  }
  return rows;
}

/** Feast's join keys have a type of their own: a number may name a row of a table with text keys. */
function joinKey(table: Table, key: unknown): Uint8Array {
  if (table.schema.key === "string" && (typeof key === "number" || typeof key === "bigint")) return keyBytesOf(table.schema, String(key));
  return keyBytesOf(table.schema, key);
}

function valueAndStatus(column: Column, status: number, cell: Cell): readonly [value: string, status: string] {
  if (status === rowStatus.notLoaded) return ["null", "INVALID"];
  switch (cell.state) {
    case "value":
      return [protoJson(column, cell.value!), "PRESENT"];
    case "expired":
      return [cell.value === undefined ? "null" : protoJson(column, cell.value), "OUTSIDE_MAX_AGE"];
    case "null":
      return ["null", "NULL_VALUE"];
    case "absent":
      return ["null", status === rowStatus.found ? "NULL_VALUE" : "NOT_FOUND"];
  }
}

/** As protobuf's JSON has it: an f32 with the digits of its double, numbers that are none as text. */
function protoJson(column: Column, value: CellValue): string {
  if (typeof value === "number") return numberJson(value);
  if (value instanceof Float32Array) return `[${Array.from(value, numberJson).join(",")}]`;
  if (value instanceof BigUint64Array) return `[${value.join(",")}]`;
  return exactJson(jsonOf(column, value));
}

function numberJson(value: number): string {
  if (Number.isNaN(value)) return '"NaN"';
  if (!Number.isFinite(value)) return value > 0 ? '"Infinity"' : '"-Infinity"';
  return JSON.stringify(value);
}

/** RFC 3339 in UTC with no fraction, or with milliseconds. */
function rfc3339(timeMs: number): string {
  if (timeMs <= 0) return epoch;
  const text = new Date(timeMs).toISOString();
  return text.endsWith(".000Z") ? `${text.slice(0, -5)}Z` : text;
}

function featureRefs(body: Readonly<Record<string, unknown>>, config: FeastConfig): readonly string[] {
  const service = body["feature_service"];
  if (typeof service === "string" && service !== "") {
    const refs = config.services?.[service];
    if (refs === undefined) throw feastError(404, "FeatureServiceNotFoundException", `Feature service ${service} does not exist`);
    return refs;
  }
  const { features } = body;
  if (!Array.isArray(features) || features.length === 0) throw detail([["body", "features"], "missing", "Field required"]);
  if (features.length > 1_000) throw plain(`${features.length} features in one request, 1000 are the most`);
  features.forEach((one, i) => {
    if (typeof one !== "string") throw detail([["body", "features", i], "string_type", "Input should be a valid string"]);
  });
  return features as string[];
}

// ---- writing ------------------------------------------------------------------------------------------------------------------------

/** Writes a data frame: name -> list of values, or one value for all rows. */
async function writeFrame(table: Table, clock: Clock, body: Readonly<Record<string, unknown>>): Promise<void> {
  const { df } = body;
  const { schema } = table;
  if (!isObject(df))
    throw detail([["body", "df"], df === undefined ? "missing" : "dict_type", df === undefined ? "Field required" : "Input should be a valid dictionary"]);
  let rows = -1;
  for (const values of Object.values(df)) {
    if (!Array.isArray(values)) continue;
    if (rows >= 0 && values.length !== rows) throw plain("All arrays must be of the same length");
    rows = values.length;
  }
  if (rows < 0) throw plain("If using all scalar values, you must pass an index");
  if (rows > tableLimits.writeRowsMax) throw plain(`${rows} rows in one request, ${tableLimits.writeRowsMax} are the most`);
  if (rows === 0) return;
  const at = (name: string, row: number): unknown => {
    const values = df[name];
    return Array.isArray(values) ? (values as readonly unknown[])[row] : values;
  };
  if (!Object.hasOwn(df, schema.entity)) throw plain(`The join key column ${schema.entity} of feature view ${schema.name} is missing`);
  const columns: Column[] = [];
  for (const name of Object.keys(df)) {
    if (name === schema.entity || name === timeColumn || name === createdColumn) continue;
    const column = schema.column(name);
    if (column === undefined) throw feastError(404, "FeatureNotFoundException", `Feature ${name} does not exist in feature view ${schema.name}`);
    columns.push(column);
  }
  const ticket = await table.write(
    Array.from({ length: rows }, (_, row) => {
      const timeMs = Object.hasOwn(df, timeColumn) ? timeOf(at(timeColumn, row)) : clock.nowMs();
      const cells = columns.map((column): CellWrite => ({ column, value: at(column.name, row) ?? null }));
      return { key: joinKey(table, at(schema.entity, row)), cells, timeMs };
    }),
  );
  await table.durable(ticket.ticket);
}

/** A time as pandas and Feast's SDK write it: ISO 8601 with T or a space; without a zone it is UTC. */
function timeOf(value: unknown): number {
  const parts =
    typeof value === "string" ? /^(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d)?)(?:\.(\d{1,9}))?\s*(Z|[+-]\d\d:?\d\d)?)?$/i.exec(value.trim()) : null;
  if (parts !== null) {
    const [, day, time = "00:00:00", fraction = "", zone = "Z"] = parts;
    const clockTime = time.length === 5 ? `${time}:00` : time;
    const offset = /^z$/i.test(zone) ? "Z" : zone.includes(":") ? zone : `${zone.slice(0, 3)}:${zone.slice(3)}`;
    const ms = Date.parse(`${day}T${clockTime}.${fraction.slice(0, 3).padEnd(3, "0")}${offset}`);
    if (Number.isFinite(ms)) return ms;
  }
  throw plain(`${timeColumn} is no time: send ISO 8601, for example 2026-05-13 10:59:42+00:00`);
}

// ---- shapes -------------------------------------------------------------------------------------------------------------------------

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function objectOf({ body }: Call): Record<string, unknown> {
  let value: unknown;
  try {
    value = readExactJson(body as Uint8Array);
  } catch {
    throw detail([["body", 0], "json_invalid", "JSON decode error"]);
  }
  if (!isObject(value)) throw detail([["body"], "model_attributes_type", "Input should be a valid dictionary or object to extract fields from"]);
  return value;
}

function textField(body: Readonly<Record<string, unknown>>, name: string): string {
  const value = body[name];
  if (typeof value === "string") return value;
  throw detail([["body", name], value === undefined ? "missing" : "string_type", value === undefined ? "Field required" : "Input should be a valid string"]);
}

function viewOf(tables: Tables, view: string): Table {
  const table = tables.get(view);
  if (table === undefined) throw feastError(404, "FeatureViewNotFoundException", `Feature view ${view} does not exist`);
  return table;
}

/** A body that is not as it should be: FastAPI's shape. */
function detail(...faults: (readonly [loc: readonly (string | number)[], type: string, msg: string])[]): FeastRefusal {
  const list = faults.map(([loc, type, msg]) => ({ type, loc, msg }));
  return new FeastRefusal(new TextAnswer(JSON.stringify({ detail: list }), json, {}, 422));
}

/** Feast's own errors: JSON text inside a JSON string. */
function feastError(status: number, name: string, message: string): FeastRefusal {
  const inner = `{"module": "feast.errors", "class": ${JSON.stringify(name)}, "message": ${JSON.stringify(message)}}`;
  return new FeastRefusal(new TextAnswer(JSON.stringify(inner), json, {}, status));
}

/** Any other exception: its text as a JSON string. */
function plain(message: string, status = 500): FeastRefusal {
  return new FeastRefusal(new TextAnswer(JSON.stringify(message), json, {}, status));
}

const statusOfCode: Readonly<Partial<Record<MillraceError["code"], number>>> = { overloaded: 429, timeout: 504, unavailable: 503 };

/** Answers in Feast's shape whatever is thrown; what an operator must see goes on to the server. */
function guarded(handle: (call: Call) => Promise<TextAnswer>): (call: Call) => Promise<TextAnswer> {
  return async (call) => {
    try {
      return await handle(call);
    } catch (thrown) {
      if (thrown instanceof FeastRefusal) return thrown.answer;
      if (thrown instanceof MillraceError && thrown.code !== "internal" && thrown.code !== "corrupt") {
        return plain(thrown.message, statusOfCode[thrown.code] ?? 500).answer;
      }
      throw thrown;
    }
  };
}
