// Server-sent events: an answer that stays open and gets lines as things happen (HTML standard, section 9.2).
// Invariants: 1. a slow reader is cut off, not buffered: beyond `bufferedBytesMax` its connection is closed and the browser comes again by itself  2. a comment
// line every `quietMs` tells proxies and us that the other side is still there  3. an open stream takes no slot of `requestsMax`, it has its own limit.
// Concurrency: one event loop. Limits: `streamsMax` streams.

import { MillraceError } from "#base/errors";
import type { Clock, Timer } from "#platform/clock";

export const streamLimits = { streamsMax: 64, bufferedBytesMax: 256 * 1024, quietMs: 15_000 } as const;

/** The connection of one stream, as far as this file needs it. */
export interface StreamSocket {
  writeHead(status: number, headers: Readonly<Record<string, string>>): unknown;
  write(text: string): boolean;
  end(): unknown;
  destroy(): unknown;
  readonly writableLength: number;
  once(event: "close", listener: () => void): unknown;
}

export type SendEvent = (event: string, data: unknown) => void;

/** A handler's answer: `begin` starts to send and gives back what ends it. */
export class StreamAnswer {
  readonly begin: (send: SendEvent) => () => void;

  constructor(begin: (send: SendEvent) => () => void) {
    this.begin = begin;
  }
}

export class Streams {
  readonly #clock: Clock;
  readonly #open = new Set<StreamSocket>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get open(): number {
    return this.#open.size;
  }

  /** Throws `overloaded` before anything is written when there are too many. */
  serve(socket: StreamSocket, answer: StreamAnswer, headers: Readonly<Record<string, string>>): void {
    if (this.#open.size >= streamLimits.streamsMax) {
      throw new MillraceError("overloaded", `${streamLimits.streamsMax} streams are open, the most`, { todo: "close pages that nobody looks at" });
    }
    let quiet: Timer | undefined;
    let closed = false;
    const write = (text: string): void => {
      if (closed) return;
      if (socket.writableLength > streamLimits.bufferedBytesMax) socket.destroy();
      else socket.write(text);
    };
    const stillThere = (): void => {
      quiet = this.#clock.after(
        streamLimits.quietMs,
        () => {
          write(": still here\n\n");
          stillThere();
        },
        { background: true },
      );
    };
    // What begins may refuse (too many watchers): then nothing is written yet.
    let begun = false;
    const early: string[] = [];
    const stop = answer.begin((event, data) => {
      const text = `event: ${event}\ndata: ${JSON.stringify(data)}\n\n`;
      if (begun) write(text);
      else early.push(text);
    });
    this.#open.add(socket);
    socket.once("close", () => {
      closed = true;
      this.#open.delete(socket);
      quiet?.cancel();
      stop();
    });
    socket.writeHead(200, { ...headers, "content-type": "text/event-stream; charset=utf-8", "cache-control": "no-store", connection: "keep-alive" });
    begun = true;
    write(`retry: 1000\n\n${early.join("")}`);
    stillThere();
  }

  /** Ends all streams: browsers come again by themselves. */
  end(): void {
    for (const socket of this.#open) socket.end();
  }
}
