// The commands on parameter tables: PPULL, PADD, PASSIGN, PDELETE, PINFO, PTABLES, PSAVE. Use: docs/parameters.md; bytes: src/wire/parameter-api.ts.
// Why blobs: 1,000 rows of 16 numbers are one argument of 8,000 bytes and one answer of 64,016, a copy on each side; as 1,000 values they are 1,000 arguments and replies to parse.
// Invariants: 1. the key of a command, for ACL patterns, is the table's name  2. a push is answered once every reader of this process sees it; it is not yet on disk (PSAVE)  3. a batch with a part of
//             the wrong length changes nothing.
// Cost: a pull of 1,000 rows of 16 some 120 us of the serving loop. Concurrency: the serving loop; a push holds back its own connection until it is applied, and pushes that follow one another go together.
// Limits: parameterLimits.

import { MillraceError, toMillraceError } from "#base/errors";
import type { ServedTable, ServedTables } from "#params/host/served-tables";
import type { UpdateKind } from "#params/update-ring";
import {
  needOf,
  numberBytes,
  type ParameterControl,
  type PullForm,
  pullFlags,
  pullForms,
  pullHeadBytes,
  pullMagic,
  pullPlaces,
  sourcesInWords,
} from "#wire/parameter-api";
import { parameterLimits } from "#wire/parameter-limits";
import type { Args, Call, CommandSpec } from "#wire/resp-command";
import { errorLineOf } from "#wire/resp-server";
import { PushWindows } from "./push-windows.ts";
import { replyValue } from "./tables.ts";

/** What the name of a table in a command means: the table, or by `model:NAME/ROLE` that of the model's live version, which is held until `release`. */
export interface ParameterUse {
  readonly table: string;
  readonly model: string | undefined;
  release(): void;
}

/** What a command is about to do for a model. */
export interface ParameterRequest {
  /** By MODEL, or by the table's name; undefined when the caller named none. */
  readonly model: string | undefined;
  readonly table: string;
  readonly kind: "pull" | "push" | "delete";
  readonly rows: number;
}

export interface ParameterCommandParts {
  readonly served: Pick<ServedTables, "find" | "list" | "write">;
  readonly control: Pick<ParameterControl, "status" | "save">;
  /** Default: names are tables. Throws `not-found`, `unavailable`. */
  readonly use?: (name: string) => ParameterUse;
  /** Asked before a pull or push; throws `overloaded` or `not-found` to refuse it. */
  readonly admit?: (request: ParameterRequest) => void;
}

const nothing = new Float32Array(0);

/** Buffers of the calls, grown as batches ask: what is between two turns of the loop needs no more than one of each. */
class Columns {
  keys = new Uint32Array(0);
  numbers = new Float32Array(0);
  found = new Uint8Array(0);
  scales = new Float32Array(0);

  reserve(rows: number, dim: number): void {
    if (this.keys.length < 2 * rows) {
      this.keys = new Uint32Array(2 * rows);
      this.found = new Uint8Array(rows);
      this.scales = new Float32Array(rows);
    }
    if (this.numbers.length < rows * dim) this.numbers = new Float32Array(rows * dim);
  }
}

/** The commands over these tables. */
export function parameterCommands({ served, control, use = tableItself, admit }: ParameterCommandParts): CommandSpec[] {
  const common = { categories: ["keyspace"], keys: { first: 1, last: 1, step: 1 }, group: "parameter", since: "7.0.0" } as const;
  const columns = new Columns();
  const windows = new PushWindows();

  function required(name: string): ServedTable {
    const table = served.find(name);
    if (table !== undefined) return table;
    const { state, reason, tables } = control.status();
    if (state === "opening") throw new MillraceError("unavailable", "the parameter tables are being opened", { todo: "send again in a moment" });
    const failed = tables.find((one) => one.name === name);
    if (failed?.sync !== undefined) {
      const from = sourcesInWords(failed.sync);
      const needs = needOf(failed.sync);
      const what =
        from === "" ? "it waits for what its followers hold and it did not save" : `it ${needs === undefined ? "is being" : "cannot be"} loaded from ${from}`;
      throw new MillraceError(needs?.code ?? "unavailable", `parameter table ${name} is not ready: ${what}`, {
        todo: needs?.todo ?? "send again in a moment, or ask another server",
      });
    }
    if (failed?.state === "failed")
      throw new MillraceError("corrupt", `parameter table ${name} is not served: ${failed.reason ?? "the log says why"}`, { todo: "see the server's log" });
    // Known to the status of a moment ago only.
    if (failed !== undefined)
      throw new MillraceError("unavailable", `parameter table ${name} is not served: ${reason ?? "it is being made or dropped"}`, {
        todo: "send again in a moment",
      });
    throw new MillraceError("not-found", `no parameter table ${shown(name)}`, { todo: "PTABLES names those there are" });
  }

  /** Copies the keys of argument `i` into the columns; how many there are. */
  function takeKeys(args: Args, i: number, dim: number): number {
    const from = args.start(i);
    const bytes = args.end(i) - from;
    if (bytes % 8 !== 0) throw new MillraceError("invalid", `keys of ${bytes} bytes`, { todo: "send 8 bytes a key, u64 little-endian" });
    const rows = bytes / 8;
    const { keysMax, numbersMax } = parameterLimits;
    const most = Math.min(keysMax, Math.floor(numbersMax / dim));
    if (rows > most) throw new MillraceError("invalid", `${rows} keys of rows of ${dim} numbers`, { todo: `send at most ${most} at once` });
    columns.reserve(rows, dim);
    new Uint8Array(columns.keys.buffer).set(args.buffer.subarray(from, from + bytes));
    return rows;
  }

  function pull(call: Call): void {
    const { table, model, release } = use(call.args.text(1));
    try {
      pullOf(call, required(table), model);
    } finally {
      release();
    }
  }

  function pullOf({ args, reply }: Call, table: ServedTable, ofModel: string | undefined): void {
    const { dim, reader, counts } = table;
    let named: PullForm | undefined;
    let withFound = false;
    let ofCaller: string | undefined;
    for (let i = 3; i < args.count; i++) {
      if (args.is(i, "FOUND") && !withFound) withFound = true;
      else if (args.is(i, "MODEL") && i + 1 < args.count && ofCaller === undefined) ofCaller = args.text(++i);
      else {
        const other = (Object.keys(pullForms) as PullForm[]).find((one) => args.is(i, one));
        if (other === undefined) throw syntax("PPULL", args.text(i));
        if (named !== undefined) throw new MillraceError("invalid", `PPULL in two forms, ${named} and ${other}`, { todo: "name one" });
        named = other;
      }
    }
    const form = named ?? "F32";
    const model = ofCaller ?? ofModel;
    const rows = takeKeys(args, 2, dim);
    admit?.({ model, table: table.name, kind: "pull", rows });
    const { keys, numbers, scales } = columns;
    const found = withFound ? columns.found : undefined;
    const missing =
      form === "F32"
        ? reader.pull(keys, rows, numbers, found)
        : form === "F16"
          ? reader.pullHalves(keys, rows, new Uint16Array(numbers.buffer), found)
          : reader.pullBytes(keys, rows, { bytes: new Int8Array(numbers.buffer), scales }, found);
    counts.pulls += 1;
    counts.pulledRows += rows;
    counts.missedRows += missing;
    const places = pullPlaces(form, withFound, rows, dim);
    const room = reply.bulkRoom(places.bytes);
    const head = new DataView(room.buffer, room.byteOffset, pullHeadBytes);
    head.setUint32(0, pullMagic, true);
    head.setUint8(4, pullForms[form]);
    head.setUint8(5, withFound ? pullFlags.found : 0);
    head.setUint16(6, dim, true);
    head.setUint32(8, rows, true);
    head.setUint32(12, missing, true);
    if (found !== undefined) putBits(found, rows, room, places.foundAt, places.scalesAt);
    if (form === "INT8") room.set(new Uint8Array(scales.buffer, 0, 4 * rows), places.scalesAt);
    room.set(new Uint8Array(numbers.buffer, 0, rows * dim * numberBytes[form]), places.numbersAt);
  }

  /** Hands a push over; resolves with the number that answers it. Everything that the call's arguments say is read before the first wait. */
  function push(call: Call, kind: UpdateKind): Promise<number> {
    const { table, model, release } = use(call.args.text(1));
    let sent: Promise<number>;
    try {
      sent = pushOf(call, kind, required(table), model);
    } catch (thrown) {
      release();
      throw thrown;
    }
    return model === undefined ? sent : sent.finally(release);
  }

  function pushOf({ args }: Call, kind: UpdateKind, table: ServedTable, ofModel: string | undefined): Promise<number> {
    const name = args.text(0).toUpperCase();
    const { dim } = table;
    let worker: string | undefined;
    let seq: number | undefined;
    let ofCaller: string | undefined;
    const from = kind === "delete" ? 3 : 4;
    for (let i = from; i < args.count; i += 2) {
      if (i + 1 >= args.count) throw syntax(name, args.text(i));
      if (args.is(i, "WORKER") && worker === undefined) {
        if (args.end(i + 1) - args.start(i + 1) > parameterLimits.workerBytesMax) {
          throw new MillraceError("invalid", "a worker's name that is too long", { todo: `use at most ${parameterLimits.workerBytesMax} bytes` });
        }
        worker = args.text(i + 1);
      } else if (args.is(i, "SEQ") && seq === undefined) {
        const given = args.integer(i + 1);
        if (typeof given !== "number" || given < 1)
          throw new MillraceError("invalid", "a SEQ that is no number from 1 on", { todo: "count the pushes of a worker from 1" });
        seq = given;
      } else if (args.is(i, "MODEL") && ofCaller === undefined) ofCaller = args.text(i + 1);
      else throw syntax(name, args.text(i));
    }
    const model = ofCaller ?? ofModel;
    if ((worker === undefined) !== (seq === undefined))
      throw new MillraceError("invalid", `${name} with one of WORKER and SEQ`, { todo: "send both, or none" });
    const rows = takeKeys(args, 2, kind === "delete" ? 1 : dim);
    let numbers = nothing;
    if (kind !== "delete") {
      const at = args.start(3);
      const bytes = args.end(3) - at;
      if (bytes !== 4 * rows * dim) {
        throw new MillraceError("invalid", `rows of ${bytes} bytes for ${rows} keys of table ${table.name}`, {
          todo: `send ${dim} x f32 a key, ${4 * rows * dim} bytes`,
        });
      }
      new Uint8Array(columns.numbers.buffer).set(args.buffer.subarray(at, at + bytes));
      numbers = columns.numbers.subarray(0, rows * dim);
    }
    admit?.({ model, table: table.name, kind: kind === "delete" ? "delete" : "push", rows });
    const send = async (): Promise<number> => {
      const { refused, removed } = await served.write(table, kind, columns.keys, rows, numbers);
      return kind === "delete" ? removed : rows - refused;
    };
    return worker === undefined ? send() : windows.once(table.id, worker, seq!, send);
  }

  const pushing = (kind: UpdateKind): Pick<CommandSpec, "run" | "runMany"> => ({
    run: async (call) => {
      call.reply.integer(await push(call, kind));
    },
    /** All are handed over before the first is waited for. */
    async runMany(calls) {
      const outcomes = await Promise.allSettled(
        calls.map((call) => {
          try {
            return push(call, kind);
          } catch (thrown) {
            return Promise.reject(toMillraceError(thrown));
          }
        }),
      );
      for (const [i, outcome] of outcomes.entries()) {
        const { reply } = calls[i]!;
        if (outcome.status === "fulfilled") reply.integer(outcome.value);
        else reply.error(errorLineOf(toMillraceError(outcome.reason)));
      }
    },
  });

  return [
    {
      ...common,
      name: "ppull",
      arity: -3,
      flags: ["readonly", "no_multi"],
      summary: "Rows of many keys of a parameter table as one blob; missing keys read as their initial values.",
      run: pull,
    },
    {
      ...common,
      name: "padd",
      arity: -4,
      keyAccess: "RW",
      flags: ["write", "no_multi"],
      summary: "Adds to rows of a parameter table; says how many it wrote.",
      ...pushing("add"),
    },
    {
      ...common,
      name: "passign",
      arity: -4,
      keyAccess: "W",
      flags: ["write", "no_multi"],
      summary: "Sets rows of a parameter table; says how many it wrote.",
      ...pushing("assign"),
    },
    {
      ...common,
      name: "pdelete",
      arity: -3,
      keyAccess: "W",
      flags: ["write", "no_multi"],
      summary: "Deletes rows of a parameter table; says how many there were.",
      ...pushing("delete"),
    },
    {
      ...common,
      name: "pinfo",
      arity: 2,
      flags: ["readonly", "no_multi"],
      summary: "What is known of a parameter table: rows, bounds, checkpoint, counts; at most a second old.",
      run({ args, reply }) {
        const { table: name, release } = use(args.text(1));
        release();
        const status = control.status().tables.find((one) => one.name === name);
        if (status === undefined) required(name);
        replyValue(reply, status ?? { name, state: "opening" });
      },
    },
    {
      ...common,
      name: "ptables",
      arity: 1,
      flags: ["readonly", "fast", "no_multi"],
      keys: undefined,
      summary: "Names of the parameter tables.",
      run({ reply }) {
        const names = [...new Set([...served.list.map(({ name }) => name), ...control.status().tables.map(({ name }) => name)])].sort();
        reply.array(names.length);
        for (const name of names) reply.bulk(name);
      },
    },
    {
      ...common,
      name: "psave",
      arity: 2,
      keyAccess: "",
      categories: ["admin", "dangerous"],
      flags: ["admin", "no_multi"],
      summary: "Writes a checkpoint of a parameter table; answers when it is on disk.",
      async run({ args, reply }) {
        const { table: name, release } = use(args.text(1));
        release();
        required(name);
        replyValue(reply, await control.save(name));
      },
    },
  ];
}

function tableItself(table: string): ParameterUse {
  return { table, model: undefined, release: () => undefined };
}

/** A name as a caller sent it, cut. */
function shown(name: string): string {
  return JSON.stringify(name.slice(0, 64));
}

function syntax(command: string, option: string): MillraceError {
  return new MillraceError("invalid", `${command} with ${JSON.stringify(option.slice(0, 32))}, which it does not know, or twice, or without its value`, {
    todo: `COMMAND DOCS ${command} and docs/parameters.md show how it is written`,
  });
}

/** Bit i of the blob says whether key i was found; what is left of the last four bytes is 0. */
function putBits(found: Uint8Array, count: number, into: Uint8Array, from: number, to: number): void {
  into.fill(0, from, to);
  for (let i = 0; i < count; i++) if (found[i] === 1) into[from + (i >> 3)]! |= 1 << (i & 7);
}
