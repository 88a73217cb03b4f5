// A log over NATS JetStream, for the contract suite only: it shows that log.ts promises nothing that NATS cannot give.
// How: one append = one message that is one frame of our own format, with our offsets, checksum and epoch; NATS has no atomic batch of messages (2.9)
// and its sequence numbers count messages, not records. One stream a partition. A writer publishes with the expected last sequence, and begins with a
// mark: so the message of a writer that was replaced is refused by the server. Offsets are found by binary search over sequences. Trim purges whole
// messages and keeps the last one, since the next offset stands in it.

import { jetstream, jetstreamManager, type JetStreamClient, type JetStreamManager } from "@nats-io/jetstream";
import { connect, type NatsConnection } from "@nats-io/transport-node";
import { MillraceError, toMillraceError } from "#base/errors";
import {
  type AppendResult,
  checkAppend,
  checkPartitionName,
  type Log,
  type LogAge,
  type LogBounds,
  logLimits,
  type LogRecords,
  type LogWriter,
} from "#backbone/log";
import type { Lease, Lock, Registry } from "#backbone/registry";
import { decodeFrame, encodeFrame, frameBytesOf, frameRecords, type Frame } from "#backbone/segment-format";
import { Wake } from "#backbone/wake";
import type { Clock } from "#platform/clock";

/** What NATS 2.9 gives for an acknowledged message: its server syncs by itself, every two minutes unless configured. */
const durability = "interval";

interface Message extends Frame {
  readonly sequence: number;
  readonly records: Uint8Array[];
}

export async function openNatsLog(options: { port: number; clock: Clock; name: string; registry: Registry; leaseMs: number }): Promise<Log> {
  const connection = await connect({ servers: `127.0.0.1:${options.port}` });
  return new NatsLog(connection, jetstream(connection), await jetstreamManager(connection), options);
}

class NatsLog implements Log {
  readonly #connection: NatsConnection;
  readonly #client: JetStreamClient;
  readonly #manager: JetStreamManager;
  readonly #options: { clock: Clock; name: string; registry: Registry; leaseMs: number };
  readonly #writers = new Map<string, NatsLogWriter>();
  readonly #wake = new Wake();
  readonly #ending = new AbortController();

  constructor(
    connection: NatsConnection,
    client: JetStreamClient,
    manager: JetStreamManager,
    options: { clock: Clock; name: string; registry: Registry; leaseMs: number },
  ) {
    this.#connection = connection;
    this.#client = client;
    this.#manager = manager;
    this.#options = options;
  }

  async openWriter(partition: string): Promise<LogWriter> {
    const stream = await this.#streamOf(partition);
    const { registry, name, leaseMs } = this.#options;
    const lease = await registry.lease(leaseMs);
    const lock = await registry.tryLock(`${name}/${partition}`, lease);
    if (lock === undefined) {
      await lease.end();
      throw new MillraceError("conflict", `partition ${partition} has a writer already`, { todo: "wait until its lease ends" });
    }
    const { firstSequence, lastSequence } = await this.#range(stream);
    const [first, last] =
      lastSequence === 0 ? [undefined, undefined] : await Promise.all([this.#message(stream, firstSequence), this.#message(stream, lastSequence)]);
    const bounds = { first: first?.firstOffset ?? 0, next: last === undefined ? 0 : last.firstOffset + last.recordCount };
    const writer = new NatsLogWriter(this.#client, this.#manager, stream, partition, lease, lock, lastSequence, bounds, this.#wake, () => {
      if (this.#writers.get(partition) === writer) this.#writers.delete(partition);
    });
    // Refused when another writer came first; after it, whatever an older writer sends is refused.
    await writer.mark();
    this.#writers.set(partition, writer);
    return writer;
  }

  async read(partition: string, offset: number, bytesMax: number): Promise<LogRecords | undefined> {
    if (!Number.isSafeInteger(offset) || offset < 0) throw new MillraceError("invalid", `offset ${offset}`, { todo: "name a whole number from 0 on" });
    const stream = await this.#streamOf(partition);
    const { firstSequence, lastSequence } = await this.#range(stream);
    if (lastSequence === 0) return undefined;
    const first = (await this.#message(stream, firstSequence))!;
    if (offset < first.firstOffset)
      throw new MillraceError("not-found", `offset ${offset} of partition ${partition} was trimmed`, { todo: `read from ${first.firstOffset} on` });
    let low = firstSequence;
    let high = lastSequence;
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if ((await this.#message(stream, middle))!.firstOffset <= offset) low = middle;
      else high = middle - 1;
    }
    const visible = this.#writers.get(partition)?.bounds.next ?? Infinity;
    const records: Uint8Array[] = [];
    let bytes = 0;
    // Marks share their offset with the message after them, so the search may have ended behind the right one.
    for (let sequence = low; sequence <= lastSequence && bytes < bytesMax; sequence += 1) {
      const message = (await this.#message(stream, sequence))!;
      if (message.firstOffset >= visible) break;
      for (const record of message.records.slice(Math.max(0, offset - message.firstOffset))) {
        records.push(record);
        bytes += record.length + 4;
      }
    }
    return records.length === 0 ? undefined : { firstOffset: offset, records };
  }

  async *tail(partition: string, offset: number, outer: AbortSignal): AsyncGenerator<LogRecords, void, void> {
    const signal = AbortSignal.any([outer, this.#ending.signal]);
    let at = offset;
    while (!signal.aborted) {
      const { version } = this.#wake;
      const found = await this.read(partition, at, 256 * 1024);
      if (signal.aborted) return;
      if (found === undefined) {
        await this.#wake.changed(version, signal, { clock: this.#options.clock, delayMs: 10 });
        continue;
      }
      at += found.records.length;
      yield found;
    }
  }

  async bounds(partition: string): Promise<LogBounds> {
    const writer = this.#writers.get(partition);
    if (writer !== undefined) return writer.bounds;
    const stream = await this.#streamOf(partition);
    const { firstSequence, lastSequence } = await this.#range(stream);
    if (lastSequence === 0) return { first: 0, next: 0 };
    const [first, last] = await Promise.all([this.#message(stream, firstSequence), this.#message(stream, lastSequence)]);
    return { first: first!.firstOffset, next: last!.firstOffset + last!.recordCount };
  }

  async close(): Promise<void> {
    if (this.#ending.signal.aborted) return;
    this.#ending.abort();
    for (const writer of [...this.#writers.values()]) await writer.close();
    await this.#connection.close();
  }

  async #streamOf(partition: string): Promise<string> {
    checkPartitionName(partition);
    if (this.#ending.signal.aborted) throw new MillraceError("invalid", "the log is closed", { todo: "open it again" });
    const stream = `${this.#options.name}-${partition}`;
    await this.#manager.streams.add({ name: stream, subjects: [stream] });
    return stream;
  }

  async #range(stream: string): Promise<{ firstSequence: number; lastSequence: number }> {
    const { state } = await this.#manager.streams.info(stream);
    return { firstSequence: state.first_seq, lastSequence: state.messages === 0 ? 0 : state.last_seq };
  }

  async #message(stream: string, sequence: number): Promise<Message | undefined> {
    const stored = await this.#manager.streams.getMessage(stream, { seq: sequence });
    if (stored === null) return undefined;
    const bytes = new Uint8Array(stored.data);
    const view = new DataView(bytes.buffer);
    const epoch = view.getUint32(32, true);
    const frame = decodeFrame(bytes, view, 0, bytes.length, { epoch, salt: 0 });
    if (frame === "damaged" || "short" in frame) throw new MillraceError("corrupt", `message ${sequence} of stream ${stream}`, { todo: "restore the stream" });
    const records: Uint8Array[] = [];
    frameRecords(bytes, view, 0, frame, 0, records);
    return { ...frame, sequence, records };
  }
}

class NatsLogWriter implements LogWriter {
  readonly partition: string;
  readonly durability = durability;
  readonly #client: JetStreamClient;
  readonly #manager: JetStreamManager;
  readonly #stream: string;
  readonly #lease: Lease;
  readonly #lock: Lock;
  readonly #wake: Wake;
  readonly #onClosed: () => void;
  #bounds: LogBounds;
  #lastSequence: number;
  #pendingBytes = 0;
  #turn: Promise<unknown> = Promise.resolve();
  #failed: MillraceError | undefined;
  #closed = false;

  constructor(
    client: JetStreamClient,
    manager: JetStreamManager,
    stream: string,
    partition: string,
    lease: Lease,
    lock: Lock,
    lastSequence: number,
    bounds: LogBounds,
    wake: Wake,
    onClosed: () => void,
  ) {
    this.#client = client;
    this.#manager = manager;
    this.#stream = stream;
    this.partition = partition;
    this.#lease = lease;
    this.#lock = lock;
    this.#lastSequence = lastSequence;
    this.#bounds = bounds;
    this.#wake = wake;
    this.#onClosed = onClosed;
  }

  get failed(): MillraceError | undefined {
    return this.#failed;
  }

  get bounds(): LogBounds {
    return this.#bounds;
  }

  async mark(): Promise<void> {
    await this.#publish([], 0);
  }

  async append(records: readonly Uint8Array[]): Promise<AppendResult> {
    const recordBytes = checkAppend(this.partition, records);
    this.#checkUsable();
    const size = frameBytesOf(records.length, recordBytes);
    if (this.#pendingBytes + size > logLimits.pendingBytesMax) {
      throw new MillraceError("overloaded", `${this.#pendingBytes} bytes wait for partition ${this.partition}`, { todo: "wait a moment and try again" });
    }
    this.#pendingBytes += size;
    try {
      return await this.#inTurn(async () => {
        const firstOffset = this.#bounds.next;
        await this.#publish(records, recordBytes);
        const nextOffset = firstOffset + records.length;
        this.#bounds = { first: this.#bounds.first, next: nextOffset };
        // The acknowledgement first: it is a promise that was resolved before the waiters are woken.
        void Promise.resolve().then(() => this.#wake.notify());
        return { firstOffset, nextOffset, durability };
      });
    } finally {
      this.#pendingBytes -= size;
    }
  }

  trim(offset: number): Promise<void> {
    return this.#inTurn(async () => {
      if (!Number.isSafeInteger(offset) || offset < 0 || offset > this.#bounds.next) {
        throw new MillraceError("invalid", `cannot trim partition ${this.partition} to ${offset}`, { todo: `name an offset up to ${this.#bounds.next}` });
      }
      const { state } = await this.#manager.streams.info(this.#stream);
      let first = state.first_seq;
      for (; first < state.last_seq; first += 1) {
        const bytes = new Uint8Array((await this.#manager.streams.getMessage(this.#stream, { seq: first }))!.data);
        const view = new DataView(bytes.buffer);
        const frame = decodeFrame(bytes, view, 0, bytes.length, { epoch: view.getUint32(32, true), salt: 0 }) as Frame;
        if (frame.firstOffset + frame.recordCount > offset) break;
        this.#bounds = { first: frame.firstOffset + frame.recordCount, next: this.#bounds.next };
      }
      await this.#manager.streams.purge(this.#stream, { seq: first });
    });
  }

  async oldUpTo({ beforeMs = -Infinity, bytesMax = Infinity }: LogAge): Promise<number> {
    const { state } = await this.#manager.streams.info(this.#stream);
    let { bytes } = state;
    let upTo = this.#bounds.first;
    for (let sequence = state.first_seq; sequence < state.last_seq; sequence += 1) {
      const stored = (await this.#manager.streams.getMessage(this.#stream, { seq: sequence }))!;
      if (bytes <= bytesMax && !(stored.time.getTime() < beforeMs)) break;
      const message = new Uint8Array(stored.data);
      const view = new DataView(message.buffer);
      const frame = decodeFrame(message, view, 0, message.length, { epoch: view.getUint32(32, true), salt: 0 }) as Frame;
      bytes -= message.length;
      upTo = frame.firstOffset + frame.recordCount;
    }
    return upTo;
  }

  async sync(): Promise<void> {
    this.#checkUsable();
    await this.#turn;
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#turn.catch(() => undefined);
    this.#onClosed();
    await this.#lock.release();
    await this.#lease.end();
  }

  #checkUsable(): void {
    if (this.#failed !== undefined) throw this.#failed;
    if (this.#closed) throw new MillraceError("invalid", `the writer of partition ${this.partition} is closed`, { todo: "open it again" });
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.#turn.then(() => {
      if (this.#failed !== undefined) throw this.#failed;
      return work();
    });
    this.#turn = turn.catch(() => undefined);
    return turn;
  }

  /** One message; refused by the server when anybody has written since our last one. */
  async #publish(records: readonly Uint8Array[], recordBytes: number): Promise<void> {
    const bytes = new Uint8Array(frameBytesOf(records.length, recordBytes));
    encodeFrame(bytes, new DataView(bytes.buffer), 0, records, recordBytes, {
      firstOffset: this.#bounds.next,
      epoch: this.#lock.token,
      salt: 0,
      syncedBytes: 0,
    });
    try {
      const ack = await this.#client.publish(this.#stream, bytes, { expect: { lastSequence: this.#lastSequence }, timeout: 20_000 });
      this.#lastSequence = ack.seq;
      if (!(await this.#lock.held())) throw new Error("the lock is gone: wrong last sequence is next");
    } catch (thrown) {
      const isReplaced = /wrong last sequence/i.test((thrown as Error).message);
      this.#failed = isReplaced
        ? new MillraceError("conflict", `this process is no longer the writer of partition ${this.partition}`, { cause: thrown, todo: "open the writer again" })
        : new MillraceError("unavailable", `partition ${this.partition} takes no more records, ${toMillraceError(thrown).what}`, {
            cause: thrown,
            todo: "open the writer again",
          });
      throw this.#failed;
    }
  }
}
