// A RESP client that hides nothing: commands out as given, replies as trees that keep the type byte of every part.

import { connect, type Socket } from "node:net";
import { once } from "node:events";

/** A reply: type byte, then its text (latin1, so bytes survive) or its parts. */
export type Tree = readonly [type: string, content: string | readonly Tree[]];

export class RawClient {
  readonly #socket: Socket;
  #bytes: Buffer = Buffer.alloc(0);
  #wanted: { readonly count: number; readonly resolve: (replies: Tree[]) => void; readonly reject: (error: Error) => void } | undefined;
  #replies: Tree[] = [];
  #failure: Error | undefined;
  #received = 0;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.setNoDelay(true);
    socket.on("data", (chunk: Buffer) => {
      this.#bytes = this.#bytes.length === 0 ? chunk : Buffer.concat([this.#bytes, chunk]);
      this.#take();
    });
    const end = (error?: Error): void => {
      this.#failure = error ?? new Error("the server closed the connection");
      this.#wanted?.reject(this.#failure);
    };
    socket.on("error", end);
    socket.on("close", () => {
      end();
    });
  }

  static async open(port: number): Promise<RawClient> {
    const socket = connect(port, "127.0.0.1");
    await once(socket, "connect");
    return new RawClient(socket);
  }

  /** Whole replies so far, those of a `send` that failed included. */
  get received(): number {
    return this.#received;
  }

  /** Sends all commands in one write and waits for as many replies. Arguments are latin1 texts. */
  async send(commands: readonly (readonly string[])[]): Promise<Tree[]> {
    if (this.#failure !== undefined) throw this.#failure;
    const parts: string[] = [];
    for (const command of commands) {
      parts.push(`*${command.length}\r\n`);
      for (const argument of command) parts.push(`$${argument.length}\r\n${argument}\r\n`);
    }
    const replies = new Promise<Tree[]>((resolve, reject) => {
      this.#wanted = { count: commands.length, resolve, reject };
    });
    this.#socket.write(Buffer.from(parts.join(""), "latin1"));
    const timer = setTimeout(() => {
      this.#wanted?.reject(new Error(`no reply within 20 s; ${this.#replies.length} of ${commands.length} came`));
    }, 20_000);
    try {
      return await replies;
    } finally {
      clearTimeout(timer);
    }
  }

  close(): void {
    this.#socket.destroy();
  }

  #take(): void {
    let at = 0;
    for (;;) {
      const read = readTree(this.#bytes, at);
      if (read === undefined) break;
      at = read.end;
      this.#replies.push(read.tree);
      this.#received += 1;
    }
    this.#bytes = this.#bytes.subarray(at);
    if (this.#wanted !== undefined && this.#replies.length >= this.#wanted.count) {
      const { resolve } = this.#wanted;
      this.#wanted = undefined;
      const replies = this.#replies;
      this.#replies = [];
      resolve(replies);
    }
  }
}

function readTree(bytes: Buffer, from: number): { readonly tree: Tree; readonly end: number } | undefined {
  const line = bytes.indexOf("\r\n", from);
  if (line < 0) return undefined;
  const type = String.fromCharCode(bytes[from]!);
  const text = bytes.toString("latin1", from + 1, line);
  let end = line + 2;
  switch (type) {
    case "$":
    case "=": {
      const size = Number(text);
      if (size < 0) return { tree: [type, "nil"], end };
      if (bytes.length < end + size + 2) return undefined;
      return { tree: [type, `"${bytes.toString("latin1", end, end + size)}"`], end: end + size + 2 };
    }
    case "*":
    case "%":
    case "~": {
      const size = Number(text) * (type === "%" ? 2 : 1);
      if (size < 0) return { tree: [type, "nil"], end };
      const parts: Tree[] = [];
      for (let i = 0; i < size; i++) {
        const part = readTree(bytes, end);
        if (part === undefined) return undefined;
        parts.push(part.tree);
        end = part.end;
      }
      return { tree: [type, parts], end };
    }
    default:
      return { tree: [type, text], end };
  }
}
