// Where the parameters of a factorisation machine lie: what the machine asks of them. `shard-rows.ts` keeps them in a shard of the parameter server, `table-rows.ts` in a
// table of its own.
// Why an interface: the machine cuts batches, the rows know kernels and layouts; one suite holds both kinds to the same bits.
// Addresses are byte offsets into the machine's memory; slots as in kernel-calls.ts. Concurrency: one thread learns, assigns, saves and loads; any thread reads.

/** Rows of slots in the lane. */
export interface SlotPlaces {
  readonly offsets: number;
  readonly linearEnds: number;
  readonly keys: number;
  readonly weights: number;
  readonly rows: number;
  /** `scratchBytes` bytes, 16-aligned. */
  readonly scratch: number;
}

export interface FactorRows {
  /** Other threads attach with it. */
  readonly at: number;
  readonly factors: number;
  /** Numbers of a row: factors v, then w. */
  readonly dims: number;
  /** Keys that have a row. */
  readonly rowCount: number;
  readonly capacityRows: number;
  /** How often a key found no room, modulo 2^32. */
  readonly refused: number;
  /** Steps that were not made because something was not finite. */
  readonly skipped: number;
  /** Working space for rows of at most `longest` slots. */
  scratchBytes(longest: number, learns: boolean): number;
  /** Row by row the logit, then one step. `touched`: u32 seconds since 1970 a row. */
  learn(slots: SlotPlaces, labels: number, importance: number, shifts: number, logits: number, touched: number): void;
  /** Each begun with the sums at `start`; 0: with none. */
  logits(slots: SlotPlaces, start: number, logits: number): void;
  /** factors + 8 numbers a row. */
  sums(slots: SlotPlaces, out: number): void;
  /** factors + 4 numbers a row. */
  vectors(slots: SlotPlaces, out: number): void;
  /** `dims` numbers a key; missing keys read as their initial values. Returns how many were missing. */
  pull(keys: Uint32Array, count: number, into: Float32Array): number;
  /** Sets rows, the optimizer's state stays. Returns how many keys were refused. */
  assign(keys: Uint32Array, count: number, values: Float32Array, touchedS?: number): number;
  /** Whether every number and accumulator is finite; reads everything. */
  finite(): boolean;
  /** Everything with the optimizer's state, copied. */
  save(): Uint8Array[];
  /** Becomes what `save` gave. Checks everything before it changes anything. */
  load(parts: readonly Uint8Array[]): void;
}
