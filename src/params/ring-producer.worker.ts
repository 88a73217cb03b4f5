// The producer of the ring's test with threads: offers records whose content follows from their number, and adds up what comes back.

import type { WorkerBody } from "#platform/workers";
import { UpdateProducer, type UpdateRingTicket, updateKinds } from "./update-ring.ts";

export interface RingTask {
  readonly ticket: UpdateRingTicket;
  readonly records: number;
}

export interface RingReport {
  /** Results taken, whether in order, and the sums of what they say. */
  readonly results: number;
  readonly inOrder: boolean;
  readonly refused: number;
  readonly errors: number;
  /** Offers that found the ring full. */
  readonly full: number;
}

/** Content of record `seq`, the same in both threads: word `i` of the keys, number `i`. */
export const ringContent = {
  count: (seq: number): number => (seq * 7) % 23,
  kind: (seq: number): (typeof updateKinds)[number] => updateKinds[seq % 3]!,
  dim: (seq: number): number => (seq % 3 === 2 ? 0 : 1 + (seq % 5)),
  key: (seq: number, i: number): number => Math.imul(seq, 0x9e3779b9 + 2 * i) >>> 0,
  number: (seq: number, i: number): number => Math.fround(((seq * 31 + i) % 1_000_003) / 8),
} as const;

const body: WorkerBody = async ({ port, data }) => {
  const { ticket, records } = data as RingTask;
  const producer = new UpdateProducer(ticket);
  let results = 0;
  let refused = 0;
  let errors = 0;
  let full = 0;
  let inOrder = true;
  const take = (): void => {
    producer.results((result) => {
      results++;
      inOrder &&= result.seq === results;
      refused += result.refused;
      if (result.errorCode === "overloaded") errors++;
    });
  };
  for (let seq = 1; seq <= records; seq++) {
    const count = ringContent.count(seq);
    const keys = Uint32Array.from({ length: 2 * count }, (_, i) => ringContent.key(seq, i));
    const numbers = Float32Array.from({ length: count * ringContent.dim(seq) }, (_, i) => ringContent.number(seq, i));
    for (;;) {
      const seen = producer.applied;
      if (producer.offer(seq % 65_536, ringContent.kind(seq), keys, count, numbers, seq) === seq) break;
      full++;
      take();
      if (producer.applied === seen) await producer.appliedPast(seen, 1_000);
    }
  }
  while (results < records) {
    const seen = producer.applied;
    take();
    if (results < records && producer.applied === seen) await producer.appliedPast(seen, 1_000);
  }
  port.send({ results, inOrder, refused, errors, full } satisfies RingReport);
};

export default body;
