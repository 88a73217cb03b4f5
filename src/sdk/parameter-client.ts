// Parameters of a server over its Redis port: rows of numbers by 64-bit keys, pulled and pushed in batches of any length.
// Invariants: 1. a push is counted once, also when it was sent again after a broken connection or a late answer (WORKER and SEQ; see docs/parameters.md for what a restart of the server means)
//             2. batches beyond the server's limits go as several commands, pipelined; answers stand in the order of the keys  3. every call ends by its deadline.
// Cost: 1,000 rows of 16 numbers some 100 us of this process. Concurrency: one event loop.
// Limits: parameterLimits a command, `inFlightMax` pushes at a time; keys and rows must not be changed until the call ends.

import { MillraceError } from "#base/errors";
import { randomId, type RandomSource, systemRandom } from "#platform/system-random";
import { type PullForm, type PullHead, readPullHead } from "#wire/parameter-api";
import { parameterLimits } from "#wire/parameter-limits";
import type { RespArgument } from "#wire/resp-client";
import type { RespValue } from "#wire/resp-decoder";
import { floatOfHalf } from "./half-floats.ts";
import { RespCalls, type RespCallsOptions } from "./resp-calls.ts";

export interface ParameterClientOptions extends RespCallsOptions {
  /** For whom the server counts (quotas). Default: nobody. */
  readonly model?: string;
  /** Name under which pushes are counted once; with it a process that was started anew must go on with higher numbers. Default: a random one. */
  readonly worker?: string;
  /** Pushes under way at most; the next one waits. Default 256. */
  readonly inFlightMax?: number;
  /** For tests and simulations. */
  readonly random?: RandomSource;
}

/** Keys: u64; plain numbers up to 2^53 - 1. Another one throws `invalid`. */
export type ParameterKeys = BigUint64Array | readonly (bigint | number)[];

export interface PullOptions {
  /** How numbers travel: exact (default), f16 (half the bytes) or int8 with a scale a row (a quarter). They arrive as f32. */
  readonly form?: PullForm;
  /** Ask which keys have rows. */
  readonly found?: boolean;
}

export interface PulledRows {
  readonly dim: number;
  /** `dim` numbers a key, in the order of the keys; missing keys have their initial values. */
  readonly rows: Float32Array;
  /** Keys without a row. */
  readonly missing: number;
  /** 1 where there is a row; only when it was asked for. */
  readonly found: Uint8Array | undefined;
}

const u64Max = 0xffff_ffff_ffff_ffffn;
const emptyHead: Pick<PullHead, "dim" | "missing"> = { dim: 0, missing: 0 };

function keyBytes(keys: ParameterKeys): Uint8Array {
  const whole = keys instanceof BigUint64Array ? keys : BigUint64Array.from(keys, u64Of);
  return new Uint8Array(whole.buffer, whole.byteOffset, whole.byteLength);
}

/** A key that was rounded or wrapped would be another one's. */
function u64Of(key: bigint | number): bigint {
  if (typeof key === "bigint" ? key >= 0n && key <= u64Max : Number.isSafeInteger(key) && key >= 0) return BigInt(key);
  throw new MillraceError("invalid", "a key that is no whole number from 0 to 2^64 - 1", { todo: "send keys beyond 2^53 - 1 as bigint" });
}

/** A table of parameters. */
export class ParameterTable {
  readonly name: string;
  readonly #client: ParameterClient;

  /** @private Made by the client. */
  constructor(client: ParameterClient, name: string) {
    this.#client = client;
    this.name = name;
  }

  /** Rows of the keys. Throws `not-found` for a table that is not there. */
  async pull(keys: ParameterKeys, options: PullOptions = {}): Promise<PulledRows> {
    return this.#client.pullRows(this.name, keyBytes(keys), options);
  }

  /** Adds to rows, `dim` numbers a key; a missing key begins at its initial values. Returns how many rows were written: not those that admission held back or that are not finite. */
  async add(keys: ParameterKeys, deltas: Float32Array): Promise<number> {
    return this.#client.push("PADD", this.name, keyBytes(keys), deltas);
  }

  /** Sets rows, `dim` numbers a key. Returns how many were written. */
  async assign(keys: ParameterKeys, values: Float32Array): Promise<number> {
    return this.#client.push("PASSIGN", this.name, keyBytes(keys), values);
  }

  /** Deletes rows; how many there were. */
  async delete(keys: ParameterKeys): Promise<number> {
    return this.#client.push("PDELETE", this.name, keyBytes(keys), undefined);
  }

  /** Writes a checkpoint; resolves when everything pushed before is on the server's disk. */
  async save(): Promise<void> {
    await this.#client.command(["PSAVE", this.name], undefined);
  }

  /** What the server knows of the table, at most a second old. */
  async info(): Promise<ReadonlyMap<string, RespValue>> {
    return (await this.#client.command(["PINFO", this.name], undefined)) as ReadonlyMap<string, RespValue>;
  }
}

/**
 * A client of the parameter server of one millrace server.
 *
 *     const parameters = await ParameterClient.connect({ port: 6390 });
 *     const users = parameters.table("user");
 *     await users.add([7n, 9n], new Float32Array(2 * 16).fill(0.01));
 *     const { rows } = await users.pull([7n, 9n, 11n]);
 *     parameters.close();
 */
export class ParameterClient {
  readonly #calls: RespCalls;
  readonly #inFlightMax: number;
  readonly #worker: string;
  readonly #model: readonly RespArgument[];
  /** Numbers of a row, by table: known from its first answer, for cutting batches. */
  readonly #dims = new Map<string, number>();
  #seq = 0;
  #inFlight = 0;
  #waiting: (() => void)[] = [];

  /** Connects; throws `unavailable`, `timeout`, `unauthorized`. */
  static async connect(options: ParameterClientOptions = {}): Promise<ParameterClient> {
    return new ParameterClient(await RespCalls.connect(options), options);
  }

  private constructor(calls: RespCalls, { inFlightMax = 256, worker, model, random = systemRandom }: ParameterClientOptions) {
    this.#calls = calls;
    this.#inFlightMax = inFlightMax;
    this.#worker = worker ?? randomId(random);
    this.#model = model === undefined ? [] : ["MODEL", model];
  }

  /** `name`: a table, or `model:NAME/ROLE` for the one that the model's live version names. */
  table(name: string): ParameterTable {
    return new ParameterTable(this, name);
  }

  /** Names of the tables. */
  async tables(): Promise<readonly string[]> {
    const names = (await this.command(["PTABLES"], undefined)) as Uint8Array[];
    const decoder = new TextDecoder();
    return names.map((name) => decoder.decode(name));
  }

  /** Ends the connection; what is under way is rejected. */
  close(): void {
    this.#calls.close();
  }

  /** @private One command, repeated after failures that may pass. `deadlineMs`: monotonic. */
  command(args: readonly RespArgument[], deadlineMs?: number): Promise<RespValue> {
    return this.#calls.command(args, deadlineMs);
  }

  /** @private */
  async pullRows(table: string, keys: Uint8Array, { form = "F32", found = false }: PullOptions): Promise<PulledRows> {
    const deadlineMs = this.#calls.deadlineMs();
    const count = keys.length / 8;
    const options = [form, ...(found ? ["FOUND"] : []), ...this.#model];
    const ask = async (first: number, size: number): Promise<{ head: PullHead; blob: Uint8Array }> => {
      const blob = (await this.command(["PPULL", table, keys.subarray(8 * first, 8 * (first + size)), ...options], deadlineMs)) as Uint8Array;
      const head = readPullHead(blob);
      if (head.rows !== size)
        throw new MillraceError("corrupt", `${head.rows} rows for ${size} keys`, { todo: "look whether host and port are those of a millrace server" });
      return { head, blob };
    };
    const known = this.#dims.get(table) ?? (await this.#dimOf(table, deadlineMs));
    const most = Math.max(1, Math.min(parameterLimits.keysMax, Math.floor(parameterLimits.numbersMax / known)));
    if (count <= most) {
      const { head, blob } = await ask(0, count);
      return { dim: head.dim, rows: numbersOf(head, blob), missing: head.missing, found: found ? foundOf(head, blob) : undefined };
    }
    const parts = await Promise.all(Array.from({ length: Math.ceil(count / most) }, (_, i) => ask(i * most, Math.min(most, count - i * most))));
    const { dim } = parts[0]?.head ?? emptyHead;
    const rows = new Float32Array(count * dim);
    const foundAll = found ? new Uint8Array(count) : undefined;
    let missing = 0;
    for (const [i, { head, blob }] of parts.entries()) {
      rows.set(numbersOf(head, blob), i * most * dim);
      foundAll?.set(foundOf(head, blob), i * most);
      missing += head.missing;
    }
    return { dim, rows, missing, found: foundAll };
  }

  async #dimOf(table: string, deadlineMs: number): Promise<number> {
    const { dim } = readPullHead((await this.command(["PPULL", table, new Uint8Array(0), ...this.#model], deadlineMs)) as Uint8Array);
    this.#dims.set(table, dim);
    return dim;
  }

  /** @private */
  async push(name: "PADD" | "PASSIGN" | "PDELETE", table: string, keys: Uint8Array, numbers: Float32Array | undefined): Promise<number> {
    const deadlineMs = this.#calls.deadlineMs();
    const count = keys.length / 8;
    const dim = numbers === undefined || count === 0 ? 1 : numbers.length / count;
    if (!Number.isInteger(dim)) {
      throw new MillraceError("invalid", `${numbers!.length} numbers for ${count} keys of table ${table}`, {
        todo: "give the same whole number of numbers to each key",
      });
    }
    const most = Math.max(1, Math.min(parameterLimits.keysMax, Math.floor(parameterLimits.numbersMax / Math.max(1, dim))));
    let written = 0;
    const parts: Promise<void>[] = [];
    for (let first = 0; first < count; first += most) {
      const size = Math.min(most, count - first);
      const rows = numbers === undefined ? [] : [new Uint8Array(numbers.buffer, numbers.byteOffset + 4 * first * dim, 4 * size * dim)];
      await this.#turn();
      // The number goes with these keys and rows, however often they are sent.
      const counted = ["WORKER", this.#worker, "SEQ", ++this.#seq, ...this.#model];
      parts.push(
        this.command([name, table, keys.subarray(8 * first, 8 * (first + size)), ...rows, ...counted], deadlineMs)
          .then((answer) => void (written += answer as number))
          .finally(() => this.#done()),
      );
    }
    for (const outcome of await Promise.allSettled(parts)) if (outcome.status === "rejected") throw outcome.reason;
    return written;
  }

  async #turn(): Promise<void> {
    if (this.#inFlight >= this.#inFlightMax) await new Promise<void>((resolve) => this.#waiting.push(resolve));
    else this.#inFlight++;
  }

  #done(): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#inFlight--;
    else next();
  }
}

/** The numbers of an answer as f32; a view where they are f32 already. */
function numbersOf({ form, rows, dim, scalesAt, numbersAt }: PullHead, blob: Uint8Array): Float32Array {
  const count = rows * dim;
  // Answers stand in memory of their own; were one not aligned, it is copied.
  const whole = blob.byteOffset % 4 === 0 ? blob : blob.slice();
  const at = whole.byteOffset + numbersAt;
  if (form === "F32") return new Float32Array(whole.buffer, at, count);
  const into = new Float32Array(count);
  if (form === "F16") {
    const halves = new Uint16Array(whole.buffer, at, count);
    const floats = floatOfHalf();
    for (let i = 0; i < count; i++) into[i] = floats[halves[i]!]!;
    return into;
  }
  const scales = new Float32Array(whole.buffer, whole.byteOffset + scalesAt, rows);
  const bytes = new Int8Array(whole.buffer, at, count);
  for (let row = 0, i = 0; row < rows; row++) {
    const scale = scales[row]!;
    for (let j = 0; j < dim; j++, i++) into[i] = bytes[i]! * scale;
  }
  return into;
}

function foundOf({ rows, foundAt }: PullHead, blob: Uint8Array): Uint8Array {
  const found = new Uint8Array(rows);
  for (let i = 0; i < rows; i++) found[i] = (blob[foundAt + (i >> 3)]! >> (i & 7)) & 1;
  return found;
}
