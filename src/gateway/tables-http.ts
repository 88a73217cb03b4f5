// Feature tables over HTTP, as JSON: list and status, read, write, delete, scan, look at one row. Use: docs/tables.md.
// Invariants: 1. integers of 64 bits keep all digits both ways  2. a key without a row and a table that is not loaded are told by row  3. an answer is of one version: rows are
// read at once and turned into text afterwards, in slices, since text of many rows takes longer than the serving loop has.
// Limits: tableLimits, and the server's limit of a body.

import type { Clock } from "#platform/clock";
import { MillraceError } from "#base/errors";
import { jsonOf, keyBytesOf, keyOfBytes, valueOf } from "#features/tables/cell-values";
import { ColumnBlock, rowStatus } from "#features/tables/column-block";
import type { RowWrite, Table, TableState } from "#features/tables/table";
import type { Tables } from "#features/tables/tables";
import type { TableSchema } from "#features/tables/table-schema";
import { writeOutcome } from "#features/tables/table";
import { KeyBatch } from "#kernel/key-batch";
import Type from "typebox";
import { tableLimits } from "#wire/table-limits";
import { exactJson, readExactJson } from "./http-body.ts";
import { type Call, type Route, TextAnswer } from "./http-routes.ts";
import { schemaCheck } from "./schema-check.ts";

/** Cells turned into text between two turns of the loop: about a millisecond. */
const sliceCells = 4_096;
const statusNames = { [rowStatus.found]: "found", [rowStatus.absent]: "absent", [rowStatus.notLoaded]: "not-loaded" } as Record<number, string>;
const outcomeNames = { [writeOutcome.written]: "written", [writeOutcome.conditionFailed]: "condition-failed", [writeOutcome.stale]: "stale" } as Record<
  number,
  string
>;

const closed = { additionalProperties: false } as const;
const Key = Type.Unknown({ description: "a text, or an integer of 64 bits, as the table's key is" });
const Keys = Type.Array(Key, { maxItems: tableLimits.readKeysMax });
const Columns = Type.Optional(Type.Array(Type.String(), { minItems: 1, maxItems: tableLimits.columnsMax, description: "all columns when left out" }));
const Values = Type.Record(Type.String({ pattern: "^[\\s\\S]{1,64}$" }), Type.Unknown(), { ...closed, maxProperties: tableLimits.columnsMax });
const ReadBody = Type.Object({ keys: Keys, columns: Columns }, closed);
const DeleteBody = Type.Object({ keys: Keys }, closed);
const WriteBody = Type.Object(
  {
    rows: Type.Array(
      Type.Object(
        {
          key: Key,
          values: Values,
          timeMs: Type.Optional(Type.Integer({ minimum: 1, description: "when the values were true; later ones stay. Left out: now" })),
          if: Type.Optional(Values),
        },
        closed,
      ),
      { minItems: 1, maxItems: tableLimits.writeRowsMax },
    ),
  },
  closed,
);
const ScanBody = Type.Object(
  {
    cursor: Type.Optional(Type.String({ maxLength: 10_000, description: "of the page before; left out at the beginning" })),
    limit: Type.Optional(Type.Integer({ minimum: 1, maximum: tableLimits.scanRowsMax })),
    prefix: Type.Optional(Type.String({ maxLength: 1_024, description: "keys that begin with it; tables with text keys" })),
    columns: Columns,
  },
  closed,
);
const Answer = Type.Unknown();

/** The routes; add them to the server's (`HttpServerOptions.routes`). */
export function tableRoutes(tables: Tables, clock: Clock): Route[] {
  const common = { tag: "tables" } as const;
  const readBody = schemaCheck(ReadBody).required;
  const deleteBody = schemaCheck(DeleteBody).required;
  const writeBody = schemaCheck(WriteBody).required;
  const scanBody = schemaCheck(ScanBody).required;
  const tableOf = ({ params }: Call): Table => tables.required(params["table"] ?? "");
  const bodyOf = ({ body }: Call): unknown => readExactJson(body as Uint8Array);
  return [
    {
      ...common,
      method: "GET",
      url: "/v1/tables",
      summary: "All tables and how they are",
      answer: Answer,
      always: true,
      handle: () => ({ tables: tables.list.map(({ state }) => statusOf(state)) }),
    },
    {
      ...common,
      method: "GET",
      url: "/v1/tables/:table",
      summary: "One table: version, columns with null rate and drift, counts",
      answer: Answer,
      always: true,
      handle: (call) => statusOf(tableOf(call).state),
    },
    {
      ...common,
      method: "POST",
      url: "/v1/tables/:table/read",
      summary: "Read columns of rows by key",
      body: ReadBody,
      raw: true,
      answer: Answer,
      async handle(call) {
        const table = tableOf(call);
        const { keys, columns } = readBody(bodyOf(call), "the body");
        const batch = batchOf(table, keys);
        // A copy: the next read of this table uses the same buffer.
        const block = new ColumnBlock((await table.read(batch, table.plan(columns))).slice());
        return rowsAnswer(table.schema, block, clock, {});
      },
    },
    {
      ...common,
      method: "POST",
      url: "/v1/tables/:table/write",
      summary: "Write rows: all of them or, when one cannot be, none",
      body: WriteBody,
      raw: true,
      answer: Answer,
      async handle(call) {
        const table = tableOf(call);
        const { schema } = table;
        const { rows } = writeBody(bodyOf(call), "the body");
        const cellsOf = (values: Readonly<Record<string, unknown>>): RowWrite["cells"] =>
          Object.entries(values).map(([name, value]) => ({ column: schema.required(name), value }));
        const { ticket, outcomes, written } = await table.write(
          rows.map(({ key, values, timeMs, if: conditions }) => ({
            key: keyBytesOf(schema, key),
            cells: cellsOf(values),
            ...(timeMs === undefined ? {} : { timeMs }),
            ...(conditions === undefined ? {} : { conditions: cellsOf(conditions) }),
          })),
        );
        await table.durable(ticket);
        return { written, outcomes: Array.from(outcomes, (one) => outcomeNames[one]), logOffset: table.parts.store.offset };
      },
    },
    {
      ...common,
      method: "POST",
      url: "/v1/tables/:table/delete",
      summary: "Delete rows by key",
      body: DeleteBody,
      raw: true,
      answer: Answer,
      async handle(call) {
        const table = tableOf(call);
        const { keys } = deleteBody(bodyOf(call), "the body");
        const { ticket, deleted } = await table.delete(batchOf(table, keys));
        await table.durable(ticket);
        return { deleted };
      },
    },
    {
      ...common,
      method: "POST",
      url: "/v1/tables/:table/scan",
      summary: "One page of rows in the order of keys",
      body: ScanBody,
      raw: true,
      answer: Answer,
      async handle(call) {
        const table = tableOf(call);
        const body = call.body as Uint8Array;
        const { cursor = "", limit = 100, prefix, columns } = scanBody(body.length === 0 ? {} : readExactJson(body), "the body");
        if (prefix !== undefined && table.schema.key === "u64") {
          throw new MillraceError("invalid", `a prefix for table ${table.schema.name}, whose keys are numbers`, { todo: "leave it out" });
        }
        const plan = table.plan(columns);
        const page = await tables.scans.page(table, { cursor, limit, ...(prefix === undefined ? {} : { prefix: new TextEncoder().encode(prefix) }) });
        const block = new ColumnBlock((await table.read(page.keys, plan, page.lease)).slice());
        const { bytes, offsets } = page.keys;
        const keys = Array.from({ length: page.keys.count }, (_, i) => keyOfBytes(table.schema, bytes.subarray(offsets[i]! + 2, offsets[i + 1])));
        return rowsAnswer(table.schema, block, clock, { cursor: page.cursor === "0" ? null : page.cursor, keys });
      },
    },
    {
      ...common,
      method: "GET",
      url: "/v1/tables/:table/rows/:key",
      summary: "One row with the age, the origin and the owner of each column",
      answer: Answer,
      async handle(call) {
        const table = tableOf(call);
        const { schema } = table;
        const key = call.params["key"] ?? "";
        const { version, logOffset, nowMs, rows } = await table.look(batchOf(table, [key]), schema.columns);
        const row = rows[0]!;
        const columns = schema.columns.map((column, i) => {
          const { state, value, timeMs, expiryMs, from } = row.cells[i]!;
          const stands = state !== "absent";
          return [
            column.name,
            {
              state,
              value: value === undefined ? null : jsonOf(column, value),
              owner: column.owner,
              ...(stands ? { from, timeMs, ageMs: Math.max(0, nowMs - timeMs) } : {}),
              ...(stands && expiryMs > 0 ? { expiryMs } : {}),
            },
          ] as const;
        });
        const keyShown = schema.key === "string" ? key : keyOfBytes(schema, keyBytesOf(schema, key));
        return jsonAnswer(exactJson({ key: keyShown, status: statusNames[row.status], version, logOffset, columns: Object.fromEntries(columns) }));
      },
    },
  ];
}

function jsonAnswer(text: string): TextAnswer {
  return new TextAnswer(text, "application/json; charset=utf-8");
}

function batchOf(table: Table, keys: readonly unknown[]): KeyBatch {
  const batch = new KeyBatch();
  for (const key of keys) table.addKey(batch, keyBytesOf(table.schema, key));
  return batch;
}

/** A status without what is not known: JSON has no undefined. */
function statusOf(state: TableState): object {
  return { ...state, columns: state.columns.map((column) => ({ ...column })) };
}

/** Rows of a block as text, in slices: `{...more, version, logOffset, columns, statuses, rows}`; a row is a list of values in the order of `columns`, null without one. */
async function rowsAnswer(schema: TableSchema, block: ColumnBlock, clock: Clock, more: object): Promise<TextAnswer> {
  const columns = block.columns.map((laid) => ({ laid, column: schema.required(laid.name) }));
  const parts: string[] = [];
  const rowsASlice = Math.max(1, Math.floor(sliceCells / columns.length));
  for (let row = 0; row < block.rows; row += 1) {
    if (row > 0 && row % rowsASlice === 0) await clock.yield();
    if (block.status(row) !== rowStatus.found) {
      parts.push("null");
      continue;
    }
    parts.push(exactJson(columns.map(({ laid, column }) => (block.isValid(row, laid) ? jsonOf(column, valueOf(column, block.bytesOf(row, laid))) : null))));
  }
  const head = exactJson({
    ...more,
    version: block.version,
    logOffset: block.logOffset,
    columns: columns.map(({ laid }) => laid.name),
    statuses: Array.from({ length: block.rows }, (_, row) => statusNames[block.status(row)]),
  });
  return jsonAnswer(`${head.slice(0, -1)},"rows":[${parts.join(",")}]}`);
}
