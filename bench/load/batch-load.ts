// Closed-loop load: a few connections, each sends its next batch of events as soon as the last one is answered, until the time is over or the server dies.
// Invariants: 1. event ids are distinct and name their batch, so that any batch can be made again (`batchOf`)  2. a batch is acknowledged only by an answer
// that accepts all of it.

import { Prng } from "#base/prng";
import type { EventBody, EventsAnswer } from "#wire/api";
import { type Catalogue, zipf } from "./catalogue.ts";
import { childMain } from "./child.ts";
import { Lane } from "./lane.ts";

export interface BatchWork {
  readonly address: string;
  readonly catalogue: Catalogue;
  readonly seed: number;
  /** Numbers of the batches to send, in order; `to` may be larger than what the time allows. */
  readonly from: number;
  readonly to: number;
  readonly durationMs: number;
  readonly connections: number;
  readonly batchEvents: number;
}

export interface BatchResult {
  readonly wallMs: number;
  readonly latencyMs: number[];
  /** Batches that were answered, with what the answer said. */
  readonly acknowledged: { batch: number; accepted: number; duplicates: number }[];
  /** Batches that were sent and got no answer (the server died, or refused). */
  readonly unanswered: number[];
  readonly firstFailure: string | undefined;
}

/** A few users whose every event is counted apart, so that counters can be compared exactly: event 0 and 1 of each batch. */
export const auditUsers = 25;
export const auditItems = 20;

export function auditOf(catalogue: Catalogue, batch: number, index: number): { user: string; item: string } {
  const pair = (batch * 2 + index) % (auditUsers * auditItems);
  return { user: `audit-${pair % auditUsers}`, item: catalogue.items[Math.floor(pair / auditUsers)]! };
}

/** Thousands of events a second come from many people: with 2,000 users each would do ten things a second. The busiest one does 1 % of all. */
const usersOfLoad = 100_000;
const userExponent = 0.7;
const drawnEvents = 400_000;

/** Makes batches by number: the same number gives the same ids, users and items. */
export function batchMaker(work: Pick<BatchWork, "catalogue" | "seed" | "batchEvents">): (batch: number, nowMs: number) => EventBody[] {
  const { catalogue, seed, batchEvents } = work;
  const types = ["click", "click", "click", "watch", "like"];
  // Drawn once; a batch begins at a place of its own in the drawn list. Drawing for each event would cost the client more than sending it.
  const prng = new Prng(seed);
  const item = zipf(catalogue.items, prng.fork("items"));
  const user = zipf(
    Array.from({ length: usersOfLoad }, (_, number) => `user-${number}`),
    prng.fork("users"),
    userExponent,
  );
  const drawn = Array.from({ length: drawnEvents }, () => ({ user: user(), item: item() }));
  return (batch, nowMs) =>
    Array.from({ length: batchEvents }, (_, index) => {
      const { user, item } = index < 2 ? auditOf(catalogue, batch, index) : drawn[(batch * batchEvents + index) % drawnEvents]!;
      return { id: `b${seed}-${batch}-${index}`, type: types[(batch + index) % types.length]!, user, item, ts: nowMs - ((index * 37) & 1_023) };
    });
}

if (process.send !== undefined) {
  childMain(async (work: BatchWork): Promise<BatchResult> => {
    const make = batchMaker(work);
    const latencyMs: number[] = [];
    const acknowledged: { batch: number; accepted: number; duplicates: number }[] = [];
    const unanswered: number[] = [];
    let firstFailure: string | undefined;
    let next = work.from;
    const start = performance.now();
    await Promise.all(
      Array.from({ length: work.connections }, async () => {
        const lane = new Lane(work.address);
        while (next < work.to && performance.now() - start < work.durationMs) {
          const batch = next;
          next += 1;
          const body = JSON.stringify(make(batch, Date.now()));
          const sent = performance.now();
          try {
            const { status, body: answer } = await lane.request("POST", "/v1/events", body);
            if (status !== 200) throw new Error(`events answered ${status}: ${answer.slice(0, 200)}`);
            latencyMs.push(performance.now() - sent);
            const { accepted, duplicates, rejected } = JSON.parse(answer) as EventsAnswer;
            if (accepted + duplicates !== work.batchEvents) throw new Error(`a batch was not taken whole: ${JSON.stringify(rejected[0])}`);
            acknowledged.push({ batch, accepted, duplicates });
          } catch (thrown) {
            firstFailure ??= String(thrown);
            unanswered.push(batch);
            // The server is gone or refuses: what it acknowledged so far is what counts.
            break;
          }
        }
        lane.close();
      }),
    );
    return { wallMs: performance.now() - start, latencyMs, acknowledged, unanswered, firstFailure };
  });
}
