// How long the server's serving thread was held between two moments, from its metrics: exact when the maximum since the start has grown in between, else the upper edge
// of the highest bucket of `rec_loop_stall_seconds` that has grown (never less than the truth). Reading changes nothing in the server.

import type { Lane } from "./lane.ts";

export interface StallReading {
  readonly maxMs: number;
  /** Upper edge in milliseconds -> ticks up to it, ascending. */
  readonly upTo: readonly (readonly [number, number])[];
}

export async function readStalls(lane: Lane): Promise<StallReading> {
  const { status, body } = await lane.request("GET", "/metrics");
  if (status !== 200) throw new Error(`GET /metrics answered ${status}`);
  const upTo: [number, number][] = [];
  for (const [, edge, count] of body.matchAll(/^rec_loop_stall_seconds_bucket\{le="([^"]+)"\} (\d+)$/gm)) {
    upTo.push([edge === "+Inf" ? Infinity : Number(edge) * 1000, Number(count)]);
  }
  const max = /^rec_loop_stall_max_seconds ([\d.e-]+)$/m.exec(body);
  if (max === null || upTo.length === 0) throw new Error("GET /metrics tells no rec_loop_stall_seconds");
  return { maxMs: Number(max[1]) * 1000, upTo };
}

/** An upper bound of the longest stall between the two readings, milliseconds; exact when it is the longest since the start. */
export function stallBetween(before: StallReading, after: StallReading): number {
  if (after.maxMs > before.maxMs) return after.maxMs;
  let longest = 0;
  let below = 0;
  after.upTo.forEach(([edge, count], index) => {
    // Counts are cumulative: ticks of this bucket alone are the difference to the one below.
    const grown = count - before.upTo[index]![1];
    if (grown > below) longest = edge;
    below = grown;
  });
  return Math.min(longest, after.maxMs);
}
