// Arrays of the caller that a read fills, and what is known of each row: made once for a choice of columns, used for any number of reads.
// Why the caller's arrays: a model's input is one matrix that lives as long as the model; a read puts the rows where they are needed.
// Invariants: 1. after a read every row of every array is written: values, or the column's default where there is none  2. `status` and `isValid` tell which it is.
// Cost: none a row here; the kernel copies a run of neighbouring columns at once. Limits: `rowsMax` rows a read, up to tableLimits.readKeysMax.

import { MillraceError } from "#base/errors";
import { ReadPlan } from "#features/tables/read-plan";
import { rowFormat } from "#features/tables/row-cells";
import { rowHeadBytes } from "#features/tables/row-layout";
import type { Column, TableSchema } from "#features/tables/table-schema";
import { FieldGather, type GatherField, type GatherTargets } from "#kernel/gather-fields";
import { tableLimits } from "#wire/table-limits";

export type TargetArray = Float32Array | Float64Array | BigInt64Array | BigUint64Array | Uint8Array;

/** Columns of one type, side by side in each row of `into`. A vector takes as many elements as it has. */
export interface TableTarget {
  readonly columns: string | readonly string[];
  readonly into: TargetArray;
}

/** Columns by name, an array each; or targets, for several columns in one matrix. */
export type TableTargets = Readonly<Record<string, TargetArray>> | readonly TableTarget[];

const arrayOf = {
  f32: "Float32Array",
  "f32[]": "Float32Array",
  f64: "Float64Array",
  i64: "BigInt64Array",
  "u64[]": "BigUint64Array",
  bool: "Uint8Array",
} as const;

/** Format, flags, revision: rows that are anything but plain are put together one by one. */
const headMask = 0xffff_ffff;

interface Field {
  readonly column: Column;
  readonly output: number;
  /** First byte within a row of the output. */
  readonly at: number;
}

export class TableRows {
  /** Rows of the last read. */
  count = 0;
  /** Of the last read: 0 found, 1 absent, 2 not loaded here. */
  readonly status: Uint8Array;
  /** The imported version that was read; "" without one. */
  version = "";
  /** Everything that was logged before it is in the rows. */
  offset = 0;
  readonly rowsMax: number;
  readonly #asked: readonly { readonly names: readonly string[]; readonly into: TargetArray }[];
  /** The rows' own validity bits, as many bytes a row as the columns reach over. */
  #valid = new Uint8Array(0);
  /** @private */
  readonly taken: Uint8Array;
  #made: MadeFor | undefined;

  /** @private Made by the table. Throws `invalid` for columns that there are not, or arrays of another type or too short. */
  constructor(schema: TableSchema, targets: TableTargets, rowsMax: number) {
    if (!Number.isInteger(rowsMax) || rowsMax < 1 || rowsMax > tableLimits.readKeysMax) {
      throw new MillraceError("invalid", `reads of ${rowsMax} rows`, { todo: `use 1 to ${tableLimits.readKeysMax}` });
    }
    const list = Array.isArray(targets)
      ? (targets as readonly TableTarget[])
      : Object.entries(targets as Readonly<Record<string, TargetArray>>).map(([columns, into]) => ({ columns, into }));
    this.#asked = list.map(({ columns, into }) => ({ names: typeof columns === "string" ? [columns] : columns, into }));
    this.rowsMax = rowsMax;
    this.status = new Uint8Array(rowsMax);
    this.taken = new Uint8Array(rowsMax);
    this.#made = this.#makeFor(schema);
  }

  /** Whether row `row` of the last read has a value in the column; where it has none the column's default stands. */
  isValid(column: string, row: number): boolean {
    const made = this.#made!;
    const field = made.fields.findIndex((one) => one.column.name === column);
    if (field < 0) throw new MillraceError("invalid", `column ${column} is not read into these rows`, { todo: "name one of the targets' columns" });
    const bit = made.validBits[field]!;
    return (this.#valid[row * made.plan.validBytes + (bit >> 3)]! & (1 << (bit & 7))) !== 0;
  }

  /** @private How rows of this schema come into the arrays. */
  madeFor(schema: TableSchema): MadeFor {
    if (this.#made?.schema !== schema) this.#made = this.#makeFor(schema);
    return this.#made;
  }

  /** @private Puts one value that was read another way. */
  put(made: MadeFor, field: number, row: number, bytes: Uint8Array, isValid: boolean): void {
    const { output, at } = made.fields[field]!;
    made.targets.outputs[output]!.set(bytes, row * made.rowBytes[output]! + at);
    const bit = made.validBits[field]!;
    const byte = row * made.plan.validBytes + (bit >> 3);
    if (isValid) this.#valid[byte]! |= 1 << (bit & 7);
    else this.#valid[byte]! &= ~(1 << (bit & 7));
  }

  #makeFor(schema: TableSchema): MadeFor {
    const fields: Field[] = [];
    const rowBytes: number[] = [];
    const outputs: Uint8Array[] = [];
    const names: string[] = [];
    for (const [output, { names: wanted, into }] of this.#asked.entries()) {
      let at = 0;
      for (const name of wanted) {
        const column = schema.required(name);
        const type = column.laid.variable ? undefined : arrayOf[column.type as keyof typeof arrayOf];
        if (type === undefined) {
          throw new MillraceError("invalid", `column ${name} of type ${column.type} into an array`, { todo: "read texts and bytes with `rows`" });
        }
        if (into.constructor.name !== type) {
          throw new MillraceError("invalid", `column ${name} of type ${column.type} into a ${into.constructor.name}`, { todo: `give a ${type}` });
        }
        fields.push({ column, output, at });
        names.push(name);
        at += column.laid.bytes;
      }
      if (into.byteLength < at * this.rowsMax) {
        throw new MillraceError("invalid", `${this.rowsMax} rows of ${wanted.join(", ").slice(0, 60)} into ${into.length} numbers`, {
          todo: `give an array of ${(at / into.BYTES_PER_ELEMENT) * this.rowsMax}`,
        });
      }
      rowBytes.push(at);
      outputs.push(new Uint8Array(into.buffer, into.byteOffset, into.byteLength));
    }
    const { layout } = schema;
    const gathered: GatherField[] = fields.map(({ column: { laid, defaultBytes }, output, at }) => ({
      offset: laid.offset,
      bytes: laid.bytes,
      validBit: rowHeadBytes * 8 + laid.at,
      output,
      at,
      defaults: defaultBytes,
    }));
    const match = (rowFormat | (layout.revision << 16)) >>> 0;
    const plan = new ReadPlan(schema, names);
    // One copy a row, where bits by column would be a write for each column.
    gathered.push({ offset: plan.validFrom, bytes: plan.validBytes, output: outputs.length, at: 0 });
    rowBytes.push(plan.validBytes);
    if (this.#valid.length < plan.validBytes * this.rowsMax) this.#valid = new Uint8Array(plan.validBytes * this.rowsMax);
    outputs.push(this.#valid);
    return {
      schema,
      plan,
      fields,
      validBits: plan.columns.map(({ validBit }) => validBit),
      rowBytes,
      gather: new FieldGather({ bytesMin: layout.fixedTo, mask: headMask, match }, gathered, rowBytes),
      targets: { outputs, valid: gathered.map(() => undefined), taken: this.taken },
    };
  }
}

/** What follows from a schema. */
export interface MadeFor {
  readonly schema: TableSchema;
  /** The same columns, for rows that are put together one by one. */
  readonly plan: ReadPlan;
  readonly fields: readonly Field[];
  /** By field: its bit in a row's validity bytes. */
  readonly validBits: readonly number[];
  readonly rowBytes: readonly number[];
  readonly gather: FieldGather;
  readonly targets: GatherTargets;
}
