// Tests of shared memory that is written while others read: a thread that writes into a structure as fast as it can until it is told to stop.
// Use: a `.worker.ts` file whose body is `writingBody(...)`, and in the test `startWriting(moduleBeside(...), data)`.

import { systemWorkers } from "#platform/system-workers";
import type { WorkerBody } from "#platform/workers";
import { KernelMemory } from "./kernel-memory.ts";
import { kernels } from "./kernels.ts";
import type { WasmMemory } from "./web-assembly.ts";

export interface WritingThread {
  /** Resolves with the number of writes once the thread has ended; rejects when it failed. */
  stop(): Promise<number>;
}

/** A structure in a kernel memory with two lanes. */
export interface SharedPlace {
  readonly memory: WasmMemory;
  readonly at: number;
}

/** The writer's view of the memory. By the scalar kernels: what is tested is the order of its writes; readers run the fastest ones. */
export function joinMemory({ memory }: SharedPlace): KernelMemory {
  return KernelMemory.attach(memory, 1, kernels("scalar"));
}

/** A worker's body: calls what `open` returned for the data of `startWriting` with 0, 1, 2... */
export function writingBody<Data>(open: (data: Data) => (write: number) => void): WorkerBody {
  return async ({ port, data }) => {
    const task = data as { readonly told: Int32Array; readonly data: Data };
    const write = open(task.data);
    port.send("writing");
    let writes = 0;
    for (; Atomics.load(task.told, 0) === 0; writes++) write(writes);
    port.send(writes);
  };
}

/** Starts such a body; resolves once it writes. */
export async function startWriting<Data>(module: URL, data: Data): Promise<WritingThread> {
  const told = new Int32Array(new SharedArrayBuffer(4));
  const worker = systemWorkers.start(module, { told, data }, "writer");
  const next = async (): Promise<unknown> => {
    const message = await worker.receive();
    if (message === undefined) throw (await worker.failed) ?? new Error("the writing thread ended without a word");
    return message;
  };
  await next();
  return {
    async stop(): Promise<number> {
      Atomics.store(told, 0, 1);
      const writes = await next();
      await worker.stop();
      return writes as number;
    },
  };
}
