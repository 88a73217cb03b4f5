// A thread of a build: does the parts that it is sent, in their order, and answers each. What a part is: segment-work.ts.

import { KernelMemory } from "#kernel/kernel-memory";
import { type KernelVariant, kernels } from "#kernel/kernels";
import type { WasmMemory } from "#kernel/web-assembly";
import type { WorkerBody } from "#platform/workers";
import { SegmentWork, type WorkPlaces, type WorkTask } from "./segment-work.ts";

export interface WorkStart {
  readonly memory: WasmMemory;
  readonly variant: KernelVariant;
  readonly lane: number;
  readonly places: WorkPlaces;
}

/** What a part came to, by the number that was sent with it. */
export type WorkSent = readonly [part: number, task: WorkTask];
export type WorkDone = readonly [part: number, answer: number];

const body: WorkerBody = async ({ port, data }) => {
  const { memory, variant, lane, places } = data as WorkStart;
  const work = new SegmentWork(KernelMemory.attach(memory, lane, kernels(variant)), places);
  for (;;) {
    const sent = (await port.receive()) as WorkSent | undefined;
    if (sent === undefined) return;
    const [part, task] = sent;
    port.send([part, work.run(task)] satisfies WorkDone);
  }
};

export default body;
