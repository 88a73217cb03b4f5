// The commands on feature tables: TMREAD (many rows, one binary answer), TGET, TSET, TNULL, TDEL, TSCAN, TINFO. Use: docs/tables.md.
// Why one bulk: a fan-out read of 1,000 rows as a RESP array is 50,000 replies to write and to parse; a column block is one copy on both sides.
// Invariants: 1. the key of a command, for ACL patterns, is the table's name  2. a write is answered when it is as durable as the log's policy says.
// Concurrency: the serving loop. A read of a version on disk holds back its own connection alone.
// Limits: tableLimits; a key list is bounded by the protocol's own limits too.

import { MillraceError } from "#base/errors";
import { type CellValue, keyBytesOf, keyOfBytes, shortF32 } from "#features/tables/cell-values";
import { rowStatus } from "#features/tables/column-block";
import type { CellWrite, LookAnswer, Table } from "#features/tables/table";
import type { Column } from "#features/tables/table-schema";
import type { Tables } from "#features/tables/tables";
import { KeyBatch } from "#kernel/key-batch";
import type { Args, Call, CommandSpec, Reply } from "#wire/resp-command";
import { tableLimits } from "#wire/table-limits";

/** The commands over these tables. */
export function tableCommands(tables: Pick<Tables, "required" | "list" | "scans">): CommandSpec[] {
  const common = { categories: ["keyspace"], keys: { first: 1, last: 1, step: 1 }, group: "table", since: "7.0.0" } as const;
  const batches: KeyBatch[] = [];

  /** Runs `body` with an empty batch that is its own until it is done. */
  function withKeys(body: (keys: KeyBatch) => void | Promise<void>): void | Promise<void> {
    const keys = batches.pop() ?? new KeyBatch();
    keys.clear();
    const done = (): void => {
      batches.push(keys);
    };
    let waits: void | Promise<void>;
    try {
      waits = body(keys);
    } catch (thrown) {
      done();
      throw thrown;
    }
    if (waits !== undefined) return waits.finally(done);
    done();
  }

  return [
    {
      ...common,
      name: "tmread",
      arity: -5,
      flags: ["readonly", "no_multi"],
      summary: "Reads columns of many rows as one column block.",
      run: ({ args, reply }) =>
        withKeys((keys) => {
          const table = tables.required(args.text(1));
          const plan = table.plan(columnList(args.text(2)));
          readKeys(table, args, keys);
          return whenReady(table.read(keys, plan), (block) => reply.bulk(block));
        }),
    },
    {
      ...common,
      name: "tget",
      arity: -3,
      flags: ["readonly", "fast", "no_multi"],
      summary: "Reads one row: all columns by name, or the values of those that are named.",
      run: ({ args, reply }) =>
        withKeys((keys) => {
          const table = tables.required(args.text(1));
          addKey(table, args, 2, keys);
          const named = args.count > 3;
          const columns = named ? Array.from({ length: args.count - 3 }, (_, i) => table.schema.required(args.text(i + 3))) : table.schema.columns;
          return whenReady(table.look(keys, columns), (answer) => replyRow(reply, table, columns, named, answer));
        }),
    },
    {
      ...common,
      name: "tset",
      arity: -5,
      keyAccess: "W",
      flags: ["write", "denyoom", "no_multi"],
      summary: "Writes columns of a row, when all conditions hold.",
      run(call) {
        const { args } = call;
        const table = tables.required(args.text(1));
        const { cells, conditions, timeMs } = assignments(table, args, 3);
        if (cells.length === 0) throw new MillraceError("invalid", "TSET without a column", { todo: "send column and value" });
        return write(call, table, [
          { key: keyOf(table, args, 2), cells, text: true, ...(conditions.length === 0 ? {} : { conditions }), ...(timeMs === undefined ? {} : { timeMs }) },
        ]);
      },
    },
    {
      ...common,
      name: "tnull",
      arity: -4,
      keyAccess: "W",
      flags: ["write", "no_multi"],
      summary: "Sets columns of a row to null.",
      run(call) {
        const { args } = call;
        const table = tables.required(args.text(1));
        const cells = Array.from({ length: args.count - 3 }, (_, i) => ({ column: table.schema.required(args.text(i + 3)), value: null }));
        return write(call, table, [{ key: keyOf(table, args, 2), cells }]);
      },
    },
    {
      ...common,
      name: "tdel",
      arity: -3,
      keyAccess: "W",
      flags: ["write", "no_multi"],
      summary: "Deletes rows; says how many there were.",
      run: (call) =>
        withKeys((keys) => {
          const { args } = call;
          const table = tables.required(args.text(1));
          for (let i = 2; i < args.count; i += 1) addKey(table, args, i, keys);
          return whenReady(table.delete(keys), ({ ticket, deleted }) => {
            if (ticket !== undefined) call.hold(table.durable(ticket));
            call.reply.integer(deleted);
          });
        }),
    },
    {
      ...common,
      name: "tscan",
      arity: -3,
      flags: ["readonly", "no_multi"],
      summary: "One page of keys in order, with a column block of their rows when columns are named.",
      async run({ args, reply }) {
        const table = tables.required(args.text(1));
        const cursor = args.text(2);
        let limit = 100;
        let prefix: Uint8Array | undefined;
        let columns: string | undefined;
        for (let i = 3; i < args.count; i += 2) {
          if (i + 1 >= args.count) throw syntax("TSCAN");
          if (args.is(i, "COUNT")) limit = Number(args.integer(i + 1) ?? 0);
          else if (args.is(i, "PREFIX")) prefix = args.bytes(i + 1).slice();
          else if (args.is(i, "COLUMNS")) columns = args.text(i + 1);
          else throw syntax("TSCAN");
        }
        const plan = columns === undefined ? undefined : table.plan(columnList(columns));
        const page = await tables.scans.page(table, { cursor, limit, ...(prefix === undefined ? {} : { prefix }) });
        const block = plan === undefined ? undefined : await table.read(page.keys, plan, page.lease);
        reply.array(block === undefined ? 2 : 3);
        reply.bulk(page.cursor);
        reply.array(page.keys.count);
        const { bytes, offsets } = page.keys;
        for (let i = 0; i < page.keys.count; i += 1) {
          const key = bytes.subarray(offsets[i]! + 2, offsets[i + 1]);
          if (table.schema.key === "string") reply.bulk(key);
          else reply.bulk(String(keyOfBytes(table.schema, key)));
        }
        if (block !== undefined) reply.bulk(block);
      },
    },
    {
      ...common,
      name: "tinfo",
      arity: -1,
      flags: ["readonly", "no_multi"],
      keys: (args) => (args.count > 1 ? [1] : []),
      summary: "Names of the tables, or what is known of one.",
      run({ args, reply }) {
        if (args.count === 1) {
          const { list } = tables;
          reply.array(list.length);
          for (const { schema } of list) reply.bulk(schema.name);
          return;
        }
        if (args.count > 2) throw syntax("TINFO");
        replyValue(reply, tables.required(args.text(1)).state);
      },
    },
  ];
}

/** `*`, or names with commas between them. */
function columnList(text: string): string | undefined {
  return text === "*" ? undefined : text;
}

function syntax(command: string): MillraceError {
  return new MillraceError("invalid", `${command} with arguments that it does not know`, { todo: "see docs/tables.md" });
}

/** KEYS key ..., KEYSBLOB blob or IDSBLOB blob, from argument 3 on. */
function readKeys(table: Table, args: Args, keys: KeyBatch): void {
  if (args.is(3, "KEYS")) {
    const count = args.count - 4;
    if (count > tableLimits.readKeysMax) throw tooMany(count);
    for (let i = 4; i < args.count; i += 1) addKey(table, args, i, keys);
    return;
  }
  if (args.count !== 5) throw syntax("TMREAD");
  const { buffer } = args;
  const from = args.start(4);
  const bytes = args.end(4) - from;
  const view = new DataView(buffer.buffer, buffer.byteOffset + from, bytes);
  if (args.is(3, "IDSBLOB")) {
    if (table.schema.key !== "u64") {
      throw new MillraceError("invalid", `IDSBLOB for table ${table.schema.name}, whose keys are texts`, { todo: "use KEYS or KEYSBLOB" });
    }
    if (bytes % 8 !== 0) throw badBlob("a whole number of u64");
    const count = bytes / 8;
    if (count > tableLimits.readKeysMax) throw tooMany(count);
    const key = new Uint8Array(8);
    for (let i = 0; i < count; i += 1) {
      for (let k = 0; k < 8; k += 1) key[k] = buffer[from + i * 8 + 7 - k]!;
      table.addKey(keys, key);
    }
    return;
  }
  if (!args.is(3, "KEYSBLOB")) throw syntax("TMREAD");
  const count = bytes < 4 ? 0 : view.getUint32(0, true);
  if (count > tableLimits.readKeysMax) throw tooMany(count);
  const headBytes = 4 + 4 * (count + 1);
  if (bytes < headBytes) throw badBlob("a count (u32), count + 1 bounds (u32) and the bytes of the keys");
  const added = table.addKeys(keys, buffer, { count, boundsAt: from + 4, from: from + headBytes, to: from + bytes });
  if (added < count) throw badBlob("bounds that rise and end within it");
}

function tooMany(count: number): MillraceError {
  return new MillraceError("invalid", `${count} keys in one read`, { todo: `send at most ${tableLimits.readKeysMax}, in several reads` });
}

function badBlob(what: string): MillraceError {
  return new MillraceError("invalid", "the blob of keys is not whole", { todo: `send ${what}, little-endian` });
}

/** Argument `i` as a key: text as it is, u64 as a decimal number. */
function keyOf(table: Table, args: Args, i: number): Uint8Array {
  return table.schema.key === "string" ? args.bytes(i).slice() : keyBytesOf(table.schema, args.text(i));
}

function addKey(table: Table, args: Args, i: number, keys: KeyBatch): void {
  if (table.schema.key === "string") table.addKey(keys, args.buffer, args.start(i), args.end(i));
  else table.addKey(keys, keyBytesOf(table.schema, args.text(i)));
}

/** Pairs of column and value from argument `from` on, and the options among them: AT ms, IF column = value. A column of such a name comes first. */
function assignments(table: Table, args: Args, from: number): { cells: CellWrite[]; conditions: CellWrite[]; timeMs: number | undefined } {
  const { schema } = table;
  const cells: CellWrite[] = [];
  const conditions: CellWrite[] = [];
  let timeMs: number | undefined;
  for (let i = from; i < args.count;) {
    const name = args.text(i);
    const column = schema.column(name);
    if (column === undefined && args.is(i, "IF") && i + 2 < args.count) {
      const tested = schema.required(args.text(i + 1));
      if (args.is(i + 2, "NONE")) {
        conditions.push({ column: tested, value: null });
        i += 3;
        continue;
      }
      if (!args.is(i + 2, "=") || i + 3 >= args.count) throw syntax("TSET");
      conditions.push({ column: tested, value: args.bytes(i + 3).slice() });
      i += 4;
      continue;
    }
    if (i + 1 >= args.count) throw syntax("TSET");
    if (column === undefined && args.is(i, "AT")) {
      const at = args.integer(i + 1);
      if (typeof at !== "number") throw new MillraceError("invalid", "a time that is no number", { todo: "send milliseconds since 1970" });
      timeMs = at;
    } else cells.push({ column: column ?? schema.required(name), value: args.bytes(i + 1).slice() });
    i += 2;
  }
  return { cells, conditions, timeMs };
}

/** Answers 1 when the row was written, 0 when a condition did not hold or later values stand. */
function write(call: Call, table: Table, rows: Parameters<Table["write"]>[0]): void | Promise<void> {
  return whenReady(table.write(rows), ({ ticket, written }) => {
    if (ticket !== undefined) call.hold(table.durable(ticket));
    call.reply.integer(written);
  });
}

function whenReady<T>(value: T | Promise<T>, use: (value: T) => void): void | Promise<void> {
  if (value instanceof Promise) return value.then(use);
  use(value);
}

function replyRow(reply: Reply, table: Table, columns: readonly Column[], named: boolean, answer: LookAnswer): void {
  const row = answer.rows[0]!;
  if (row.status === rowStatus.notLoaded) {
    throw new MillraceError("unavailable", `table ${table.schema.name} is not loaded yet`, { todo: "send again in a moment" });
  }
  if (row.status !== rowStatus.found) {
    if (named) reply.nilArray();
    else reply.nil();
    return;
  }
  if (named) reply.array(columns.length);
  else reply.map(columns.length);
  columns.forEach((column, i) => {
    if (!named) reply.bulk(column.name);
    const { state, value } = row.cells[i]!;
    if (state === "value") replyCell(reply, column, value!);
    else reply.nil();
  });
}

function replyCell(reply: Reply, column: Column, value: CellValue): void {
  if (typeof value === "bigint") reply.integer(value);
  else if (typeof value === "number") {
    if (column.type === "i64") reply.integer(value);
    else reply.double(column.type === "f32" ? shortF32(value) : value);
  } else if (typeof value === "boolean") reply.bool(value);
  else if (typeof value === "string" || value instanceof Uint8Array) reply.bulk(value);
  else reply.bulk(new Uint8Array(value.buffer, value.byteOffset, value.byteLength));
}

/** Any of the plain values of a status. */
export function replyValue(reply: Reply, value: unknown): void {
  if (value === undefined || value === null) reply.nil();
  else if (typeof value === "number") {
    if (Number.isSafeInteger(value)) reply.integer(value);
    else reply.double(value);
  } else if (typeof value === "boolean") reply.bool(value);
  else if (Array.isArray(value)) {
    reply.array(value.length);
    for (const part of value as readonly unknown[]) replyValue(reply, part);
  } else if (typeof value === "object") {
    const entries = Object.entries(value);
    reply.map(entries.length);
    for (const [name, part] of entries) {
      reply.bulk(name);
      replyValue(reply, part);
    }
  } else reply.bulk(String(value));
}
