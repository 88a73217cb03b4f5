// Keys of a table, gathered for a look-up: bytes, texts or ids, in one reused batch.
// Why a batch of its own: the engine's key begins with the table's namespace, and writing it here costs nothing, while adding it later would copy every key.
// Cost: about 30 ns a key of bytes, 150 a text of 60 characters; no allocation once it has grown. Limits: tableLimits.keyBytesMax a key, keyLimits.keysMax keys.

import { MillraceError } from "#base/errors";
import { KeyBatch } from "#kernel/key-batch";
import { tableLimits } from "#wire/table-limits";

const encoder = new TextEncoder();
const u64Max = 2n ** 64n - 1n;

export class TableKeys {
  /** @private The engine's keys. */
  readonly batch = new KeyBatch();
  readonly #table: string;
  readonly #namespace: number;
  readonly #kind: "string" | "u64";
  readonly #text = new Uint8Array(3 * tableLimits.keyBytesMax);
  readonly #id = new Uint8Array(8);
  readonly #idView = new DataView(this.#id.buffer);

  /** @private Made by the table. */
  constructor(table: string, namespace: number, kind: "string" | "u64") {
    this.#table = table;
    this.#namespace = namespace;
    this.#kind = kind;
  }

  get count(): number {
    return this.batch.count;
  }

  /** Empties the batch and keeps its room. */
  clear(): void {
    this.batch.clear();
  }

  /** Adds a key: a text, or the bytes `from` to `to`. Throws `invalid` for a key that the table cannot have. */
  add(key: string | Uint8Array, from = 0, to = key.length): void {
    if (typeof key === "string") {
      const { read, written } = encoder.encodeInto(key, this.#text);
      this.#check(read === key.length ? written : Infinity, "string");
      this.batch.addIn(this.#namespace, this.#text, 0, written);
    } else {
      this.#check(to - from, this.#kind);
      this.batch.addIn(this.#namespace, key, from, to);
    }
  }

  /** Adds an id of a table with u64 keys. */
  addId(id: number | bigint): void {
    if (typeof id === "bigint" ? id < 0n || id > u64Max : !Number.isSafeInteger(id) || id < 0) {
      throw new MillraceError("invalid", `an id that is no u64 for table ${this.#table}`, { todo: "use whole numbers from 0, a bigint above 2^53" });
    }
    if (typeof id === "bigint") this.#idView.setBigUint64(0, id);
    else {
      this.#idView.setUint32(0, Math.floor(id / 2 ** 32));
      this.#idView.setUint32(4, id >>> 0);
    }
    this.#check(8, "u64");
    this.batch.addIn(this.#namespace, this.#id, 0, 8);
  }

  #check(bytes: number, kind: "string" | "u64"): void {
    if (kind !== this.#kind) {
      throw new MillraceError("invalid", `a key of another kind than table ${this.#table} has`, { todo: `its keys are of kind ${this.#kind}` });
    }
    if (kind === "u64" ? bytes === 8 : bytes >= 1 && bytes <= tableLimits.keyBytesMax) return;
    throw new MillraceError("invalid", `a key of ${bytes === Infinity ? "too many" : bytes} bytes for table ${this.#table}`, {
      todo: kind === "u64" ? "keys of this table are 8 bytes, big-endian" : `use 1 to ${tableLimits.keyBytesMax} bytes`,
    });
  }
}
