// The probe viewer: how long until an event of mine is in an answer of mine?
// One probe: read the viewer's own count of an item (not timed); send an event on the item and, without waiting for its answer, ask again as soon as each
// answer comes, until an answer shows a higher count. The time runs from the send of the event to the receipt of that answer.
// The count read is `ownCount` or `ownDecayed` of `parts`: columns that the score reads; ages and scores do not count as a change.

import { setTimeout as sleep } from "node:timers/promises";
import type { EventsAnswer, RecommendAnswer } from "#wire/api";
import { childMain } from "./child.ts";
import { Lane } from "./lane.ts";

export interface ProbeWork {
  readonly address: string;
  readonly items: readonly string[];
  readonly name: string;
  readonly durationMs: number;
  readonly perS: number;
}

export interface ProbeResult {
  readonly latencyMs: number[];
  /** Answers asked for until the change, in all probes. */
  readonly asked: number;
  readonly failures: string[];
}

const waitMsMax = 5_000;
/** Relative change that counts as one: above the rounding of decay between two answers. */
const rise = 1e-9;

childMain(async ({ address, items, name, durationMs, perS }: ProbeWork): Promise<ProbeResult> => {
  const eventLane = new Lane(address);
  const askLane = new Lane(address);
  const latencyMs: number[] = [];
  const failures: string[] = [];
  let asked = 0;

  const counts = async (user: string, item: string): Promise<{ ownCount: number; ownDecayed: number }> => {
    const answer = await askLane.json<RecommendAnswer>("POST", "/v1/recommend/home", { user, n: 1, explain: true, record: false, filter: { id: [item] } });
    const parts = answer.items.find(({ id }) => id === item)?.parts;
    return { ownCount: parts?.["ownCount"] ?? 0, ownDecayed: parts?.["ownDecayed"] ?? 0 };
  };

  const start = performance.now();
  const total = Math.max(1, Math.round((durationMs * perS) / 1000));
  for (let index = 0; index < total; index += 1) {
    const due = start + (index * 1000) / perS;
    if (due > performance.now()) await sleep(due - performance.now());
    const item = items[index % items.length]!;
    const user = `${name}-${index % 7}`;
    try {
      const before = await counts(user, item);
      const sent = performance.now();
      const event = eventLane.json<EventsAnswer>("POST", "/v1/events", { id: `${name}-${index}`, type: "click", user, item, ts: Date.now() });
      // A refused event fails the probe below, not as a stray rejection.
      event.catch(() => undefined);
      for (;;) {
        const now = await counts(user, item);
        asked += 1;
        const received = performance.now();
        if (now.ownCount > before.ownCount * (1 + rise) || now.ownDecayed > before.ownDecayed * (1 + rise)) {
          latencyMs.push(received - sent);
          break;
        }
        if (received - sent > waitMsMax) throw new Error(`no answer showed the event within ${waitMsMax} ms`);
      }
      if ((await event).accepted !== 1) throw new Error("the event was not accepted");
    } catch (thrown) {
      failures.push(String(thrown));
    }
  }
  eventLane.close();
  askLane.close();
  return { latencyMs, asked, failures };
});
