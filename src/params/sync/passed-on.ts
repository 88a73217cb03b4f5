// A connection that is passed on to another port of this machine, its greeting first, both ways, until either side ends it.
// Why: one port for all tables, though a node lives in the thread that writes its table. It costs a wake-up of this thread each way and a copy of the bytes.
// Invariants: 1. bytes keep their order  2. a side that takes nothing makes the other one wait: at most a chunk each way is held here, and what came while it was being connected.
// Concurrency: one thread. Limits: connectMs.

import type { Flow, FlowReceiver, Network } from "#platform/network";
import { flowOf } from "#platform/network-flow";
import { FrameWriter, type Hello } from "./sync-frames.ts";
import type { SyncLink } from "./sync-link.ts";
import type { Address } from "./sync-node.ts";

const connectMs = 1_000;

export class PassedOn {
  readonly #outer: Flow;
  #inner: Flow | undefined;
  readonly #hello: Hello;
  readonly #ended: () => void;
  /** Came before the inner side was there. */
  #early: Uint8Array[] = [];
  #over = false;

  /** Takes the link over, whose greeting was just read. `ended` is called once. */
  constructor(link: SyncLink, hello: Hello, ended: () => void) {
    this.#hello = hello;
    this.#ended = ended;
    this.#outer = link.release(this.#receiver(() => this.#inner));
    this.#outer.pause();
  }

  /** Connects the other side. */
  async to(network: Network, address: Address): Promise<void> {
    try {
      const connection = await network.connect(address, { timeoutMs: connectMs });
      if (this.#over) return connection.close();
      const inner = flowOf(
        connection,
        this.#receiver(() => this.#outer),
      );
      this.#inner = inner;
      const writer = new FrameWriter();
      const bytes = writer.hello(this.#hello);
      // The transport holds what it did not take at once, and the outer side stands still until it has.
      let taken = inner.send(writer.bytes, 0, bytes);
      for (const part of this.#early) taken = inner.send(part, 0, part.length) && taken;
      this.#early = [];
      if (taken) this.#outer.resume();
    } catch {
      // The node is not there any more; who wanted it connects again.
      this.end();
    }
  }

  end(): void {
    if (!this.#over) this.#close((flow) => flow.destroy());
  }

  #close(how: (flow: Flow) => void): void {
    this.#over = true;
    how(this.#outer);
    if (this.#inner !== undefined) how(this.#inner);
    this.#ended();
  }

  #receiver(other: () => Flow | undefined): FlowReceiver {
    const own = (): Flow | undefined => (other() === this.#outer ? this.#inner : this.#outer);
    return {
      data: (buffer, bytes) => {
        if (this.#over) return;
        const copy = buffer.slice(0, bytes);
        const to = other();
        if (to === undefined) this.#early.push(copy);
        else if (!to.send(copy, 0, bytes)) own()?.pause();
      },
      drained: () => other()?.resume(),
      // What the other side still has to be sent goes out first: a refusal says why.
      end: () => this.#over || this.#close((flow) => flow.close()),
    };
  }
}
