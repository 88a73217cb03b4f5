// Intake: from a caller's rows to acknowledged records of the activity log, counted.
// The way of a batch: check each row -> drop known ids -> append to the log -> acknowledged by the log's durability -> apply in offset order -> answer.
// Invariants: 1. a row that is acknowledged is in the log by the policy that the answer names  2. after the answer every request of this node counts
// the row (read your writes)  3. an event id is counted once: known ids are duplicates, ids on their way are waited for
// 4. records are applied in the order of their offsets, the same as a rebuild applies them  5. a bad row is in `rejected`, it fails nobody else.
// Cost: about 10 us an event, most of it validation and encoding; applying is cut into slices of `sliceMs`, between which other requests run.
// Limits: `pendingRowsMax` rows in flight; above it `overloaded`.

import { MillraceError, toMillraceError } from "#base/errors";
import type { LogWriter } from "#backbone/log";
import { type ActivityRecord, type EventRecord, RecordWriter, type ServedRecord } from "#features/activity-record";
import type { Declarations } from "#features/feature-set";
import type { Clock } from "#platform/clock";
import { apiLimits, EventBody, type EventsAnswer, ItemBody, ItemRow, type PutAnswer, type Rejection, UserBody, UserRow } from "#wire/api";
import type { ActivityState } from "./activity-state.ts";
import type { EventWays, Way } from "./event-ways.ts";
import type { GatewayMetrics } from "./metrics.ts";
import { type SchemaCheck, schemaCheck } from "./schema-check.ts";

export const intakeLimits = {
  /** One row as it stands in the log; the log itself takes records of 1 MiB. */
  rowBytesMax: 256 * 1024,
  /** Rows accepted by callers but not yet applied. */
  pendingRowsMax: 200_000,
  /** Longest stretch of applying records without letting other work run, ms. */
  sliceMs: 1,
} as const;

const eventCheck = schemaCheck(EventBody);
const itemRowCheck = schemaCheck(ItemRow);
const itemBodyCheck = schemaCheck(ItemBody);
const userRowCheck = schemaCheck(UserRow);
const userBodyCheck = schemaCheck(UserBody);

function rejection(index: number, code: MillraceError["code"], what: string, todo: string): Rejection {
  return { index, code, message: new MillraceError(code, what, { todo }).message };
}

export interface IntakeOptions<D extends Declarations> {
  readonly state: ActivityState<D>;
  readonly writer: LogWriter;
  readonly clock: Clock;
  readonly metrics: GatewayMetrics;
  /** Follows events of users that somebody watches. */
  readonly ways?: EventWays;
  /** Told whenever more of the log is applied. */
  readonly onAdvanced?: (offset: number) => void;
}

export interface IntakeCounts {
  readonly accepted: number;
  readonly duplicates: number;
  readonly rejected: number;
  readonly joined: number;
}

export class Intake<D extends Declarations> {
  readonly #state: ActivityState<D>;
  readonly #writer: LogWriter;
  readonly #clock: Clock;
  readonly #metrics: GatewayMetrics;
  readonly #types: string;
  readonly #ways: EventWays | undefined;
  readonly #onAdvanced: ((offset: number) => void) | undefined;
  #applied: Promise<unknown> = Promise.resolve();
  #appliedOffset: number;
  #pendingRows = 0;
  #waiting: { offset: number; resolve: () => void }[] = [];
  #accepted = 0;
  #duplicates = 0;
  #rejected = 0;
  #joined = 0;

  constructor(options: IntakeOptions<D>) {
    this.#state = options.state;
    this.#writer = options.writer;
    this.#clock = options.clock;
    this.#metrics = options.metrics;
    this.#types = options.state.features.eventTypes.join(", ");
    this.#ways = options.ways;
    this.#onAdvanced = options.onAdvanced;
    this.#appliedOffset = options.writer.bounds.next;
  }

  get counts(): IntakeCounts {
    return { accepted: this.#accepted, duplicates: this.#duplicates, rejected: this.#rejected, joined: this.#joined };
  }

  /** Why the log takes no more events, once it failed. */
  get failed(): MillraceError | undefined {
    return this.#writer.failed;
  }

  /** Offset up to which the log is counted. */
  get appliedOffset(): number {
    return this.#appliedOffset;
  }

  /** Resolves once everything before `offset` is counted; false after `timeoutMs`. */
  async waitFor(offset: number, timeoutMs: number): Promise<boolean> {
    if (offset <= this.#appliedOffset) return true;
    let wait: { offset: number; resolve: () => void } | undefined;
    const reached = new Promise<boolean>((resolve) => {
      wait = { offset, resolve: () => resolve(true) };
      this.#waiting.push(wait);
    });
    let timer: { cancel(): void } | undefined;
    const late = new Promise<boolean>((resolve) => {
      timer = this.#clock.after(timeoutMs, () => resolve(false));
    });
    const outcome = await Promise.race([reached, late]);
    timer?.cancel();
    this.#waiting = this.#waiting.filter((entry) => entry !== wait);
    return outcome;
  }

  async putEvents(events: readonly unknown[]): Promise<EventsAnswer> {
    const startMs = this.#clock.monotonicMs();
    const receivedMs = this.#clock.nowMs();
    this.#admit(events.length, apiLimits.eventsPerRequestMax, "events");
    const rejected: Rejection[] = [];
    const records: EventRecord[] = [];
    const ids: string[] = [];
    const idsHere = new Set<string>();
    const others: Promise<unknown>[] = [];
    let duplicates = 0;
    for (let index = 0; index < events.length; index += 1) {
      const event = events[index];
      if (!eventCheck.passes(event)) {
        rejected.push(rejection(index, "invalid", eventCheck.complaint(event, "event"), "see POST /v1/events in /openapi.json"));
        this.#metrics.events("other", "rejected");
        continue;
      }
      if (this.#state.features.typeIndex(event.type) === undefined) {
        rejected.push(rejection(index, "invalid", "event type is not declared", `send one of: ${this.#types}; or declare it in the configuration`));
        this.#metrics.events("other", "rejected");
        continue;
      }
      if (event.ts !== undefined && event.ts > receivedMs + apiLimits.futureMsMax) {
        const ahead = Math.round((event.ts - receivedMs) / 1000);
        rejected.push(rejection(index, "invalid", `event ts lies ${ahead} s in the future`, "check the sender's clock; ts is in milliseconds"));
        this.#metrics.events(event.type, "rejected");
        continue;
      }
      const id = event.id ?? "";
      if (id !== "") {
        if (this.#state.dedupe.has(id) || idsHere.has(id)) {
          duplicates += 1;
          this.#metrics.events(event.type, "duplicate");
          continue;
        }
        const pending = this.#state.dedupe.pending(id);
        if (pending !== undefined) {
          others.push(pending);
          duplicates += 1;
          this.#metrics.events(event.type, "duplicate");
          continue;
        }
        ids.push(id);
        idsHere.add(id);
      }
      records.push({
        kind: "event",
        atMs: event.ts ?? receivedMs,
        receivedMs,
        type: event.type,
        user: event.user,
        item: event.item,
        id,
        recommendationId: event.recommendationId ?? "",
        position: event.position ?? -1,
        value: event.value ?? Number.NaN,
        context: event.context === undefined ? "" : JSON.stringify(event.context),
      });
    }
    const encoder = new RecordWriter(Math.max(1_024, records.length * 160));
    const bytes = records.map((record) => encoder.encode(record));
    const ways = this.#waysOf(records, startMs);
    const { offset: ownOffset, durability } = await this.#commit(records, bytes, ids, () => {
      for (const way of ways) way.logged();
    });
    for (const way of ways) way.counted(ownOffset);
    // A duplicate of an event that is still on its way is acknowledged only with that event, and by an offset behind it.
    await Promise.all(others);
    const offset = others.length === 0 ? ownOffset : this.#appliedOffset;
    for (const record of records) this.#countAccepted(record);
    this.#duplicates += duplicates;
    this.#rejected += rejected.length;
    if (records.length > 0) this.#metrics.eventToFeature(this.#clock.monotonicMs() - startMs);
    return { accepted: records.length, duplicates, rejected, offset, durability };
  }

  async putItems(rows: readonly unknown[]): Promise<PutAnswer> {
    this.#admit(rows.length, apiLimits.itemsPerRequestMax, "items");
    const atMs = this.#clock.nowMs();
    return this.#putRows(rows, itemRowCheck, "item", ({ id, ...body }) => ({ kind: "itemPut", atMs, id, body }));
  }

  async putUsers(rows: readonly unknown[]): Promise<PutAnswer> {
    this.#admit(rows.length, apiLimits.usersPerRequestMax, "users");
    const atMs = this.#clock.nowMs();
    return this.#putRows(rows, userRowCheck, "user", ({ id, ...body }) => ({ kind: "userPut", atMs, id, body }));
  }

  /** Merges into the stored document when the record is applied, so that two patches at once both count. */
  async patchItem(id: string, body: unknown): Promise<PutAnswer> {
    if (!itemBodyCheck.passes(body)) {
      throw new MillraceError("invalid", itemBodyCheck.complaint(body, "item"), { todo: "see PATCH /v1/items/{id} in /openapi.json" });
    }
    const before = this.#state.catalog.getItem(id);
    if (before === undefined) throw new MillraceError("not-found", "no such item", { todo: "PUT it first" });
    const merged = { ...before, ...body, ...(body.attributes === undefined ? {} : { attributes: { ...before.attributes, ...body.attributes } }) };
    itemRowCheck.required(merged, "the item with this patch");
    return this.#commitOne({ kind: "itemPatch", atMs: this.#clock.nowMs(), id, body });
  }

  async patchUser(id: string, body: unknown): Promise<PutAnswer> {
    if (!userBodyCheck.passes(body)) {
      throw new MillraceError("invalid", userBodyCheck.complaint(body, "user"), { todo: "see PATCH /v1/users/{id} in /openapi.json" });
    }
    const before = this.#state.catalog.getUser(id);
    if (before === undefined) throw new MillraceError("not-found", "no such user", { todo: "PUT it first" });
    userRowCheck.required({ ...before, attributes: { ...before.attributes, ...body.attributes } }, "the user with this patch");
    return this.#commitOne({ kind: "userPatch", atMs: this.#clock.nowMs(), id, body });
  }

  async deleteItem(id: string): Promise<boolean> {
    if (this.#state.catalog.getItem(id) === undefined) return false;
    await this.#commitOne({ kind: "itemDelete", atMs: this.#clock.nowMs(), id });
    return true;
  }

  async deleteUser(id: string): Promise<boolean> {
    if (this.#state.catalog.getUser(id) === undefined) return false;
    await this.#commitOne({ kind: "userDelete", atMs: this.#clock.nowMs(), id });
    return true;
  }

  /** Writes the switch of training into the log, where the trainer finds it in its place among the events. */
  async switchTraining(on: boolean, reason: string): Promise<void> {
    await this.#commitOne({ kind: "training", atMs: this.#clock.nowMs(), on, reason });
  }

  /** Writes an answer that was given into the log; it is applied already. A failure is reported by the log's own metrics and the next append. */
  recordServed(record: ServedRecord): void {
    const bytes = new RecordWriter(1_024).encode(record);
    const appended = this.#writer.append([bytes]);
    const { ahead } = this.#state;
    ahead.add(record.recommendationId);
    this.#applied = Promise.all([this.#applied.catch(() => undefined), appended.catch(() => undefined)]).then(([, result]) => {
      ahead.delete(record.recommendationId);
      if (result === undefined) return;
      this.#state.position = result.nextOffset;
      this.#advance(result.nextOffset);
    });
  }

  /** Resolves when everything taken so far is applied. */
  async quiet(): Promise<void> {
    await this.#applied.catch(() => undefined);
  }

  #admit(rows: number, most: number, what: string): void {
    if (rows > most) throw new MillraceError("invalid", `${rows} ${what} in one request`, { todo: `send at most ${most} at a time` });
    if (this.#pendingRows + rows > intakeLimits.pendingRowsMax) {
      throw new MillraceError("overloaded", "too many rows wait for the log", { todo: "send again in a second, with fewer requests at a time" });
    }
  }

  /** Checks and encodes row by row, in slices; what is wrong or too large is refused by its place. */
  async #putRows<T extends { id: string }>(
    rows: readonly unknown[],
    check: SchemaCheck<T>,
    what: string,
    toRecord: (row: T) => ActivityRecord,
  ): Promise<PutAnswer> {
    const rejected: Rejection[] = [];
    const records: ActivityRecord[] = [];
    const encoder = new RecordWriter(Math.max(1_024, rows.length * 256));
    const bytes: Uint8Array[] = [];
    const slices = this.#slices();
    for (let index = 0; index < rows.length; index += 1) {
      const row = rows[index];
      if (check.passes(row)) {
        const record = toRecord(row);
        const encoded = encoder.encode(record);
        if (encoded.length <= intakeLimits.rowBytesMax) {
          records.push(record);
          bytes.push(encoded);
        } else {
          rejected.push(rejection(index, "invalid", `${what} takes ${encoded.length} bytes`, `keep it within ${intakeLimits.rowBytesMax} bytes`));
        }
      } else {
        rejected.push(rejection(index, "invalid", check.complaint(row, what), `see PUT /v1/${what}s in /openapi.json`));
      }
      if (slices.due()) await slices.next();
    }
    const { offset, durability } = await this.#commit(records, bytes, []);
    return { accepted: records.length, rejected, offset, durability };
  }

  /** Cuts a long stretch of work into slices between which other requests run. */
  #slices(): { due(): boolean; next(): Promise<void> } {
    let sliceEndMs = this.#clock.monotonicMs() + intakeLimits.sliceMs;
    return {
      due: () => this.#clock.monotonicMs() > sliceEndMs,
      next: async () => {
        await this.#clock.yield();
        sliceEndMs = this.#clock.monotonicMs() + intakeLimits.sliceMs;
      },
    };
  }

  #waysOf(records: readonly EventRecord[], receivedMs: number): Way[] {
    if (this.#ways === undefined) return [];
    const ways: Way[] = [];
    for (const record of records) {
      const way = this.#ways.begin(record, receivedMs);
      if (way !== undefined) ways.push(way);
    }
    return ways;
  }

  #countAccepted(record: EventRecord): void {
    this.#accepted += 1;
    this.#metrics.events(record.type, "accepted");
    if (record.recommendationId === "") return;
    const { result, pipeline } = this.#state.join(record.recommendationId, record.item);
    this.#metrics.joined(pipeline, record.type, result);
    if (result !== "joined") return;
    this.#joined += 1;
    if (this.#state.isClick(record.type)) this.#metrics.second.clicked += 1;
  }

  async #commitOne(record: ActivityRecord): Promise<PutAnswer> {
    const bytes = new RecordWriter(1_024).encode(record);
    if (bytes.length > intakeLimits.rowBytesMax) {
      throw new MillraceError("invalid", `the row takes ${bytes.length} bytes`, { todo: `keep it within ${intakeLimits.rowBytesMax} bytes` });
    }
    const { offset, durability } = await this.#commit([record], [bytes], []);
    return { accepted: 1, rejected: [], offset, durability };
  }

  /** Appends, waits for the log's acknowledgement, applies in offset order. */
  async #commit(
    records: readonly ActivityRecord[],
    bytes: readonly Uint8Array[],
    ids: readonly string[],
    onLogged?: () => void,
  ): Promise<{ offset: number; durability: EventsAnswer["durability"] }> {
    if (records.length === 0) return { offset: this.#appliedOffset, durability: this.#writer.durability };
    const startMs = this.#clock.monotonicMs();
    this.#pendingRows += records.length;
    const appended = this.#writer.append(bytes);
    const before = this.#applied;
    // Applying waits for the batch before, whatever became of it: offsets are given in the order of the append calls.
    const applied = (async () => {
      const [outcome] = await Promise.allSettled([appended, before]);
      // Also a refused append waits for the batch before: the next one must not overtake it.
      if (outcome.status === "rejected") throw outcome.reason;
      const result = outcome.value;
      this.#metrics.logAppend(this.#clock.monotonicMs() - startMs);
      onLogged?.();
      await this.#applySlices(records, result.firstOffset);
      this.#state.maintain();
      this.#advance(result.nextOffset);
      return result;
    })();
    this.#applied = applied;
    this.#state.dedupe.begin(ids, applied);
    try {
      const { nextOffset, durability } = await applied;
      return { offset: nextOffset, durability };
    } catch (thrown) {
      throw toMillraceError(thrown, "the log did not take the rows");
    } finally {
      this.#state.dedupe.end(ids);
      this.#pendingRows -= records.length;
    }
  }

  async #applySlices(records: readonly ActivityRecord[], firstOffset: number): Promise<void> {
    const slices = this.#slices();
    for (let index = 0; index < records.length; index += 1) {
      this.#state.apply(records[index]!);
      this.#state.position = firstOffset + index + 1;
      if ((index & 15) === 15 && slices.due()) await slices.next();
    }
  }

  #advance(offset: number): void {
    if (offset > this.#appliedOffset) {
      this.#appliedOffset = offset;
      this.#onAdvanced?.(offset);
    }
    if (this.#waiting.length === 0) return;
    for (const entry of this.#waiting) if (entry.offset <= this.#appliedOffset) entry.resolve();
  }
}
