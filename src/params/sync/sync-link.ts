// One connection of parameter synchronisation: frames out of and into a flow.
// Invariants: 1. bytes that the transport has not taken are not written over: it keeps one buffer, the next frame goes into the other
//             2. while it holds one, pushes wait (`writable`); what must go (answers, beats) waits here, bounded  3. after `end` nothing is handed on.
// Cost: 128 KiB a link, and up to a frame of what came in pieces. Concurrency: one thread. Limits: backlogBytesMax, then the link is ended as too slow.

import { MillraceError, toMillraceError } from "#base/errors";
import type { Connection, Flow, FlowReceiver } from "#platform/network";
import { flowOf } from "#platform/network-flow";
import { frameBytesMax, frameLengthAt, FrameReader, FrameWriter } from "./sync-frames.ts";

const backlogBytesMax = 1 << 20;

export interface LinkEvents {
  /** A whole frame of the type has come; its body is read from `reader`. May throw: then the link ends with that. */
  frame(type: number, reader: FrameReader): void;
  writable(): void;
  /** Once and last. */
  ended(why: MillraceError | undefined): void;
}

export class SyncLink {
  readonly remote: string;
  readonly #flow: Flow;
  #events: LinkEvents;
  #reader: FrameReader;
  #writer = new FrameWriter();
  #other = new FrameWriter();
  #held = false;
  #backlog: Uint8Array[] = [];
  #backlogBytes = 0;
  /** The beginning of a frame whose rest has not come. */
  #input = new Uint8Array(0);
  #inputBytes = 0;
  #over = false;
  #raw: FlowReceiver | undefined;
  bytesOut = 0;
  bytesIn = 0;

  constructor(connection: Connection, buckets: number, events: LinkEvents) {
    this.remote = connection.remote;
    this.#events = events;
    this.#reader = new FrameReader(buckets);
    this.#flow = flowOf(connection, {
      data: (buffer, bytes) => this.#data(buffer, bytes),
      drained: () => this.#drained(),
      end: (broke) => this.#end(broke),
    });
  }

  /** From the next frame on these are told; may be called in the middle of `frame`. */
  handTo(events: LinkEvents, buckets: number): void {
    this.#events = events;
    this.#reader = new FrameReader(buckets);
  }

  /**
   * From now on the bytes behind the frame that is being handed on go to `receiver` as they come, and so does the end; nothing more is sent here but through the flow that is returned. May be
   * called in the middle of `frame`, of a link that has sent nothing.
   */
  release(receiver: FlowReceiver): Flow {
    this.#raw = receiver;
    return this.#flow;
  }

  get over(): boolean {
    return this.#over;
  }

  /** Whether a push would be taken now. */
  get writable(): boolean {
    return !this.#held && !this.#over;
  }

  /** Writes one frame by `write`, which returns its bytes. */
  send(write: (writer: FrameWriter) => number): void {
    if (this.#over) return;
    const bytes = write(this.#writer);
    this.bytesOut += bytes;
    if (!this.#held) return this.#sendHeld(this.#writer.bytes, bytes);
    this.#backlog.push(this.#writer.bytes.slice(0, bytes));
    this.#backlogBytes += bytes;
    if (this.#backlogBytes > backlogBytesMax) {
      this.end(
        new MillraceError("overloaded", `${this.remote} takes nothing of parameter synchronisation`, { todo: "look at its load and at the network between" }),
      );
    }
  }

  /** Ends it at once. */
  end(why?: MillraceError): void {
    if (this.#over) return;
    this.#over = true;
    this.#flow.destroy();
    this.#events.ended(why);
  }

  /** Ends it after what was sent. */
  close(why?: MillraceError): void {
    if (this.#over) return;
    this.#over = true;
    this.#flow.close();
    this.#events.ended(why);
  }

  #sendHeld(bytes: Uint8Array, length: number): void {
    if (this.#flow.send(bytes, 0, length)) return;
    this.#held = true;
    [this.#writer, this.#other] = [this.#other, this.#writer];
  }

  #drained(): void {
    if (this.#over) return;
    if (this.#raw !== undefined) return this.#raw.drained();
    this.#held = false;
    if (this.#backlog.length > 0) {
      const joined = new Uint8Array(this.#backlogBytes);
      let at = 0;
      for (const part of this.#backlog) {
        joined.set(part, at);
        at += part.length;
      }
      this.#backlog = [];
      this.#backlogBytes = 0;
      if (!this.#flow.send(joined, 0, joined.length)) {
        this.#held = true;
        return;
      }
    }
    this.#events.writable();
  }

  #end(broke: MillraceError | undefined): void {
    if (this.#over) return;
    this.#over = true;
    if (this.#raw !== undefined) this.#raw.end(broke);
    else this.#events.ended(broke);
  }

  #data(buffer: Uint8Array, bytes: number): void {
    if (this.#over) return;
    this.bytesIn += bytes;
    if (this.#raw !== undefined) return this.#raw.data(buffer, bytes);
    try {
      if (this.#inputBytes === 0) {
        const taken = this.#frames(buffer, 0, bytes);
        if (taken === bytes) return;
        if (!this.#handRaw(buffer, taken, bytes)) this.#keep(buffer, taken, bytes);
        return;
      }
      this.#keep(buffer, 0, bytes);
      const taken = this.#frames(this.#input, 0, this.#inputBytes);
      if (this.#handRaw(this.#input, taken, this.#inputBytes)) return;
      this.#input.copyWithin(0, taken, this.#inputBytes);
      this.#inputBytes -= taken;
    } catch (thrown) {
      this.close(toMillraceError(thrown));
    }
  }

  /** True when the link was released: what is left behind its last frame is handed on as it is. */
  #handRaw(buffer: Uint8Array, from: number, to: number): boolean {
    if (this.#raw === undefined) return false;
    if (from < to) this.#raw.data(buffer.subarray(from, to), to - from);
    return true;
  }

  #keep(buffer: Uint8Array, from: number, to: number): void {
    const needed = this.#inputBytes + to - from;
    if (needed > this.#input.length) {
      const grown = new Uint8Array(Math.max(needed, 2 * frameBytesMax));
      grown.set(this.#input.subarray(0, this.#inputBytes));
      this.#input = grown;
    }
    this.#input.set(buffer.subarray(from, to), this.#inputBytes);
    this.#inputBytes = needed;
  }

  /** Hands on the whole frames of `bytes[from, to)`; returns where the rest begins. */
  #frames(bytes: Uint8Array, from: number, to: number): number {
    let at = from;
    while (!this.#over && this.#raw === undefined) {
      const length = frameLengthAt(bytes, at, to);
      if (length === 0 || at + length > to) break;
      const type = this.#reader.begin(bytes, at, at + length);
      this.#events.frame(type, this.#reader);
      at += length;
    }
    return at;
  }
}
